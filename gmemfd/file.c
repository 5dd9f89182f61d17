// SPDX-License-Identifier: GPL-2.0
/*
 * A gmem fd: one inode, one file; no page cache, our own table of blocks.
 */
#include <linux/anon_inodes.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/mm.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "gmemfd.h"

#define GMEMFD_MAGIC	0x676d656d	/* "gmem" */

static struct file_system_type gmem_fs;
static struct vfsmount *gmem_mnt;
static int gmem_mnt_count;

static struct vfsmount *gmem_away_mnt;
static struct inode *gmem_away_inode;

/* Locking */

/**
 * gmem_unmap - take pages out of all user page tables
 * @gi: the file
 * @block: the block
 * @lo: first page in it
 * @hi: first page behind
 */
void gmem_unmap(struct gmem_inode *gi, struct gmem_block *block,
		unsigned long lo, unsigned long hi)
{
	unmap_mapping_range(gi->inode->i_mapping,
			    (loff_t)gmem_pgoff(gi, block, lo) << PAGE_SHIFT,
			    (loff_t)(hi - lo) << PAGE_SHIFT, 0);
}

/**
 * gmem_unmap_settled - unmap, and wait for faults that have yet to map a page
 * @gi: the file
 * @block: locked exclusively, with memory
 * @lo: first page in it
 * @hi: first page behind
 *
 * Such a fault holds the lock of the page's folio.
 */
void gmem_unmap_settled(struct gmem_inode *gi, struct gmem_block *block,
			unsigned long lo, unsigned long hi)
{
	unsigned long next;
	struct folio *folio;

	gmem_unmap(gi, block, lo, hi);
	if (!block->memory->broken)
		return;
	for (; (folio = gmem_next_shared_folio(block, &lo, &next, hi)); lo = next) {
		folio_lock(folio);
		if (folio_mapped(folio))
			gmem_unmap(gi, block, lo, min(next, hi));
		folio_unlock(folio);
	}
}

/**
 * gmem_lock_blocks - lock the blocks of a range exclusively
 * @gi: the file
 * @first: first page
 * @last: first page behind
 *
 * Return: 0, or -EINTR if a fatal signal came.
 */
int gmem_lock_blocks(struct gmem_inode *gi, pgoff_t first, pgoff_t last)
{
	struct gmem_span span;

	lock_map_acquire(&gi->lock_map);
	for_each_span(span, gi, pos, first, last) {
		if (!down_write_killable(&span.block->lock))
			continue;
		gmem_unlock_blocks(gi, first, pos);
		return -EINTR;
	}
	return 0;
}

/**
 * gmem_unlock_blocks - undo gmem_lock_blocks()
 * @gi: the file
 * @first: first page
 * @last: first page behind
 */
void gmem_unlock_blocks(struct gmem_inode *gi, pgoff_t first, pgoff_t last)
{
	struct gmem_span span;

	for_each_span(span, gi, pos, first, last)
		up_write(&span.block->lock);
	lock_map_release(&gi->lock_map);
}

/**
 * gmem_lock_block - lock a block exclusively where there is no way back
 * @gi: the file
 * @block: the block
 */
void gmem_lock_block(struct gmem_inode *gi, struct gmem_block *block)
{
	lock_map_acquire(&gi->lock_map);
	down_write(&block->lock);
}

/**
 * gmem_unlock_block - undo gmem_lock_block()
 * @gi: the file
 * @block: the block
 */
void gmem_unlock_block(struct gmem_inode *gi, struct gmem_block *block)
{
	up_write(&block->lock);
	lock_map_release(&gi->lock_map);
}

/**
 * gmem_lock_block_shared - keep a block as it is
 * @gi: the file
 * @block: the block
 *
 * Return: 0, or -EINTR if a fatal signal came.
 */
int gmem_lock_block_shared(struct gmem_inode *gi, struct gmem_block *block)
{
	lock_map_acquire_read(&gi->lock_map);
	if (!down_read_killable(&block->lock))
		return 0;
	lock_map_release(&gi->lock_map);
	return -EINTR;
}

/**
 * gmem_unlock_block_shared - undo gmem_lock_block_shared()
 * @gi: the file
 * @block: the block
 */
void gmem_unlock_block_shared(struct gmem_inode *gi, struct gmem_block *block)
{
	up_read(&block->lock);
	lock_map_release(&gi->lock_map);
}

/* Mapping */

/**
 * gmem_touched - are pages of one region fit for use?
 * @block: locked shared at least
 * @lo: first page
 * @hi: first page behind
 *
 * Return: false if gmem_touch() has to come first.
 */
bool gmem_touched(const struct gmem_block *block, unsigned long lo,
		  unsigned long hi)
{
	return block->memory &&
	       test_bit(lo >> GMEM_REGION_ORDER, block->memory->ready) &&
	       (!block->punched || find_next_bit(block->punched, hi, lo) >= hi);
}

static void gmem_clear_punched(struct gmem_inode *gi, struct gmem_block *block,
			       unsigned long lo, unsigned long hi)
{
	if (!block->punched)
		return;
	bitmap_clear(block->punched, lo, hi - lo);
	if (!bitmap_empty(block->punched, gmem_block_pages(gi)))
		return;
	kvfree(block->punched);
	block->punched = NULL;
}

/**
 * gmem_touch - make pages fit for use
 * @gi: the file
 * @block: locked exclusively
 * @lo: first page
 * @hi: first page behind
 *
 * Return: 0, or what gmem_memory_take() or gmem_memory_make_ready() says.
 */
int gmem_touch(struct gmem_inode *gi, struct gmem_block *block,
	       unsigned long lo, unsigned long hi)
{
	int err = 0;

	if (!block->memory)
		err = gmem_memory_take(gi, block);
	if (!err)
		err = gmem_memory_make_ready(gi, block, lo, hi);
	if (!err)
		gmem_clear_punched(gi, block, lo, hi);
	return err;
}

/* A fault on page @i maps no more than its folio: which pages may that be? */
static void gmem_fault_range(const struct gmem_inode *gi,
			     const struct gmem_block *block, unsigned long i,
			     unsigned long *lo, unsigned long *hi)
{
	unsigned long nr = 1UL << gmem_folio_order(gi, block, i);

	*lo = round_down(i, nr);
	*hi = *lo + nr;
}

static vm_fault_t gmem_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct gmem_inode *gi = inode->i_private;
	vm_fault_t ret = VM_FAULT_LOCKED;
	struct gmem_block *block;
	unsigned long i, lo, hi;
	struct folio *folio;
	int err;

	if (vmf->pgoff >= i_size_read(inode) >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	block = &gi->blocks[vmf->pgoff >> gi->block_order];
	i = vmf->pgoff & (gmem_block_pages(gi) - 1);

	/* Who is killed may be told anything. */
	if (gmem_lock_block_shared(gi, block))
		return VM_FAULT_SIGBUS;
	for (;;) {
		if (gmem_state_private(&block->state, i)) {
			ret = VM_FAULT_SIGBUS;
			goto out;
		}
		gmem_fault_range(gi, block, i, &lo, &hi);
		if (gmem_touched(block, lo, hi) && !gmem_wants_split(gi, block, i))
			break;
		gmem_unlock_block_shared(gi, block);
		err = gmem_lock_blocks(gi, vmf->pgoff, vmf->pgoff + 1);
		if (err)
			return VM_FAULT_SIGBUS;
		if (!gmem_state_private(&block->state, i)) {
			gmem_fault_range(gi, block, i, &lo, &hi);
			err = gmem_touch(gi, block, lo, hi) ?:
			      gmem_split_poisoned(gi, block, i);
		}
		/* Not downgrade_write(): lockdep would not know the lock. */
		gmem_unlock_blocks(gi, vmf->pgoff, vmf->pgoff + 1);
		if (err)
			return vmf_error(err);
		if (gmem_lock_block_shared(gi, block))
			return VM_FAULT_SIGBUS;
	}
	/* Locked until it is mapped: see gmem_folio_freeze(). */
	vmf->page = block->memory->loan.page + i;
	folio = page_folio(vmf->page);
	folio_get(folio);
	folio_lock(folio);
	if (PageHWPoison(vmf->page)) {
		folio_unlock(folio);
		folio_put(folio);
		ret = VM_FAULT_HWPOISON;
	}
out:
	gmem_unlock_block_shared(gi, block);
	return ret;
}

#ifdef CONFIG_NUMA
static int gmem_set_policy(struct vm_area_struct *vma, struct mempolicy *policy)
{
	struct gmem_inode *gi = file_inode(vma->vm_file)->i_private;

	return mpol_set_shared_policy(&gi->policy, vma, policy);
}

static struct mempolicy *gmem_get_policy(struct vm_area_struct *vma,
					 unsigned long addr, pgoff_t *index)
{
	struct gmem_inode *gi = file_inode(vma->vm_file)->i_private;
	pgoff_t pgoff = linear_page_index(vma, addr);

	*index = pgoff >> gi->block_order;
	return mpol_shared_policy_lookup(&gi->policy, pgoff);
}
#endif

static const struct vm_operations_struct gmem_vm_ops = {
	.fault		= gmem_fault,
#ifdef CONFIG_NUMA
	.set_policy	= gmem_set_policy,
	.get_policy	= gmem_get_policy,
#endif
};

static int gmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	/* VM_SPECIAL: mlock, reclaim and compaction take no references. */
	vm_flags_set(vma, VM_DONTEXPAND);
	vma->vm_ops = &gmem_vm_ops;
	return 0;
}

/* fallocate */

/*
 * Zeroed step by step, with the block let go of in between; and only then made ready,
 * all at once, so that large entries of the direct map are changed as such.
 */
static int gmem_zero_ahead(struct gmem_inode *gi, const struct gmem_span *span,
			   pgoff_t pos, pgoff_t end)
{
	unsigned long lo = span->lo;
	bool more = span->hi - span->lo > GMEM_REGION_PAGES;
	int err;

	while (more) {
		if (fatal_signal_pending(current))
			return -EINTR;
		err = gmem_lock_blocks(gi, pos, end);
		if (err)
			return err;
		if (!span->block->memory)
			err = gmem_memory_take(gi, span->block);
		if (!err)
			more = gmem_memory_zero_next(span->block, &lo, span->hi);
		gmem_unlock_blocks(gi, pos, end);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

static int gmem_allocate(struct gmem_inode *gi, const struct gmem_span *span, pgoff_t pos)
{
	pgoff_t end = pos + (span->hi - span->lo);
	int err;

	err = gmem_zero_ahead(gi, span, pos, end);
	if (!err)
		err = gmem_lock_blocks(gi, pos, end);
	if (err)
		return err;
	err = gmem_touch(gi, span->block, span->lo, span->hi);
	gmem_unlock_blocks(gi, pos, end);
	return err;
}

/* Lock a range of a block, and take it from the guest. */
static int gmem_punch_begin(struct gmem_inode *gi, pgoff_t pos, pgoff_t end,
			    struct gmem_invalidation *inv)
{
	int err;

	for (;;) {
		if (fatal_signal_pending(current))
			return -EINTR;
		err = gmem_lock_blocks(gi, pos, end);
		if (err || !gmem_kvm_invalidate_begin(gi, pos, end, inv))
			return err;
		gmem_unlock_blocks(gi, pos, end);
		gmem_kvm_wait_gone(gi, inv);
	}
}

static void gmem_punch_end(struct gmem_inode *gi, pgoff_t pos, pgoff_t end,
			   struct gmem_invalidation *inv)
{
	gmem_unlock_blocks(gi, pos, end);
	/* May be the end of the VM, hence with nothing locked. */
	gmem_kvm_invalidate_end(inv);
	cond_resched();
}

/* The whole block goes.  Locked, and with nothing of it mapped in a guest. */
static void gmem_punch_block(struct gmem_inode *gi, struct gmem_block *block)
{
	gmem_memory_release(gi, block);
	kvfree(block->punched);
	block->punched = NULL;
}

/* Part of one region, locked, and not mapped in a guest. */
static int gmem_punch_pages(struct gmem_inode *gi, struct gmem_block *block,
			    unsigned long lo, unsigned long hi)
{
	unsigned long nr = gmem_block_pages(gi);
	int err;

	if (!block->memory)
		return 0;
	if (!block->punched)
		block->punched = kvcalloc(BITS_TO_LONGS(nr), sizeof(long), GMEM_GFP);
	if (!block->punched)
		return -ENOMEM;
	gmem_unmap_settled(gi, block, lo, hi);
	err = gmem_memory_zero(gi, block, lo, hi);
	if (err) {
		gmem_clear_punched(gi, block, 0, 0);
		return err;
	}
	bitmap_set(block->punched, lo, hi - lo);
	if (bitmap_full(block->punched, nr))
		gmem_punch_block(gi, block);
	return 0;
}

/* Private contents of a block that goes, as far as that can be done step by step. */
static int gmem_forget_ahead(struct gmem_inode *gi, struct gmem_block *block)
{
	unsigned long lo = 0, start, nr = gmem_block_pages(gi);
	struct gmem_invalidation inv;
	bool more = nr > GMEM_REGION_PAGES;
	pgoff_t pos = gmem_pgoff(gi, block, 0);
	int err;

	while (more) {
		start = pos + lo;
		err = gmem_punch_begin(gi, start, pos + nr, &inv);
		if (err)
			return err;
		more = block->memory && gmem_memory_forget_next(gi, block, &lo, nr);
		gmem_punch_end(gi, start, pos + nr, &inv);
	}
	return 0;
}

static int gmem_punch(struct gmem_inode *gi, const struct gmem_span *span, pgoff_t pos)
{
	bool whole = span->hi - span->lo == gmem_block_pages(gi);
	struct gmem_block *block = span->block;
	struct gmem_invalidation inv;
	unsigned long lo, hi;
	int err = 0;

	if (whole)
		err = gmem_forget_ahead(gi, block);
	for (lo = span->lo; !err && lo < span->hi; lo = hi) {
		pgoff_t start = pos + (lo - span->lo), end;

		hi = whole ? span->hi :
		     min(span->hi, round_down(lo, GMEM_REGION_PAGES) + GMEM_REGION_PAGES);
		end = start + (hi - lo);
		err = gmem_punch_begin(gi, start, end, &inv);
		if (err)
			break;
		if (!whole)
			err = gmem_punch_pages(gi, block, lo, hi);
		else if (block->memory)
			gmem_punch_block(gi, block);
		gmem_punch_end(gi, start, end, &inv);
	}
	return err;
}

static long gmem_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	int (*op)(struct gmem_inode *gi, const struct gmem_span *span, pgoff_t pos);
	struct inode *inode = file_inode(file);
	struct gmem_inode *gi = inode->i_private;
	loff_t size = i_size_read(inode);
	struct gmem_span span;
	pgoff_t first, last;
	int err;

	switch (mode) {
	case FALLOC_FL_KEEP_SIZE:
		op = gmem_allocate;
		break;
	case FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE:
		op = gmem_punch;
		break;
	default:
		return -EOPNOTSUPP;
	}
	/* There is nothing behind the end of the file, and that can be punched. */
	if (!gmem_range_ok(offset, len, op == gmem_punch ? LLONG_MAX : size))
		return -EINVAL;

	first = min(offset, size) >> PAGE_SHIFT;
	last = min(offset + len, size) >> PAGE_SHIFT;
	for_each_span(span, gi, pos, first, last) {
		/* For no other signal: io_uring calls this, too, and cannot restart it. */
		if (fatal_signal_pending(current))
			return -EINTR;
		err = op(gi, &span, pos);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

/* ioctls */

static int gmem_compare_ranges(const void *a, const void *b)
{
	const struct gmemfd_convert_range *ra = a, *rb = b;

	/* sort() sleeps nowhere itself, and 65,536 ranges take it milliseconds. */
	cond_resched();
	return cmp_int(ra->offset, rb->offset);
}

/* The call ended early; but for -EINTR it goes on unless a handler runs. */
static bool gmem_was_interrupted(int err)
{
	return err == -EINTR || err == -ERESTARTNOHAND || err == -ERESTARTNOINTR;
}

/*
 * What GMEMFD_CONVERT and GMEMFD_CONVERT_RANGES have in common; sorts @ranges
 * and sets *@error_offset and *@timeout where the ABI says so.
 */
static int gmem_convert_ranges(struct file *file, struct gmemfd_convert_range *ranges,
			       unsigned int nr, u64 flags, u64 *error_offset,
			       u64 *timeout)
{
	struct inode *inode = file_inode(file);
	pgoff_t busy = ULONG_MAX;
	ktime_t deadline;
	unsigned int i;
	int err;

	if (flags & ~GMEMFD_CONVERT_WAIT ||
	    (*timeout && !(flags & GMEMFD_CONVERT_WAIT)))
		return -EINVAL;
	/* As a rule they are in order, which a heap sort has no use for. */
	for (i = 1; i < nr && ranges[i - 1].offset <= ranges[i].offset;)
		i++;
	if (i < nr)
		sort(ranges, nr, sizeof(*ranges), gmem_compare_ranges, NULL);
	for (i = 0; i < nr; i++) {
		const struct gmemfd_convert_range *range = &ranges[i];

		if (!gmem_range_ok(range->offset, range->size, i_size_read(inode)) ||
		    range->attributes & ~GMEMFD_ATTRIBUTE_PRIVATE ||
		    (i && range->offset < range[-1].offset + range[-1].size))
			return -EINVAL;
	}

	deadline = ktime_add_safe(ktime_get(), min_t(u64, *timeout, KTIME_MAX));
	err = gmem_convert(inode->i_private, ranges, nr,
			   flags & GMEMFD_CONVERT_WAIT ? &deadline : NULL, &busy);
	/* Who is not told of a restart is not told what was in the way before it. */
	if (busy != ULONG_MAX && err != -ERESTARTNOINTR)
		*error_offset = (u64)busy << PAGE_SHIFT;
	if (gmem_was_interrupted(err) && *timeout < KTIME_MAX)
		*timeout = max(ktime_sub(deadline, ktime_get()), 0);
	return err;
}

/* Errors that tell more than their number does. */
static bool gmem_convert_tells(int err)
{
	return err == -EAGAIN || err == -ETIMEDOUT || gmem_was_interrupted(err);
}

/* What upstream's flags ask for: is it done anyway?  They are not ours. */
static int gmem_upstream_flags(u64 flags)
{
	switch (flags) {
	case 0:
	case GMEMFD_KVM_ATTRIBUTES2_PRESERVE:
		return 0;
	case GMEMFD_KVM_ATTRIBUTES2_ZERO:
		return -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
}

static int gmem_ioctl_convert(struct file *file, unsigned int cmd, void __user *argp)
{
	struct gmemfd_convert __user *user = argp;
	struct gmemfd_convert_range range;
	struct gmemfd_convert arg;
	int err;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (memchr_inv(arg.reserved, 0, sizeof(arg.reserved)))
		return -EINVAL;
	if (cmd == GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2) {
		err = gmem_upstream_flags(arg.flags);
		if (err)
			return err;
		arg.flags = 0;
	}
	range = (struct gmemfd_convert_range) { arg.offset, arg.size, arg.attributes };
	err = gmem_convert_ranges(file, &range, 1, arg.flags, &arg.error_offset,
				  &arg.timeout);
	if (gmem_convert_tells(err) &&
	    (put_user(arg.error_offset, &user->error_offset) ||
	     put_user(arg.timeout, &user->timeout)))
		return -EFAULT;
	return err;
}

static int gmem_ioctl_convert_ranges(struct file *file, void __user *argp)
{
	struct gmemfd_convert_ranges __user *user = argp;
	struct gmemfd_convert_range *ranges;
	struct gmemfd_convert_ranges arg;
	int err;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.reserved0 || memchr_inv(arg.reserved, 0, sizeof(arg.reserved)) ||
	    !arg.nr_ranges || arg.nr_ranges > GMEMFD_CONVERT_RANGES_MAX)
		return -EINVAL;
	ranges = vmemdup_array_user(u64_to_user_ptr(arg.ranges), arg.nr_ranges,
				    sizeof(*ranges));
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	err = gmem_convert_ranges(file, ranges, arg.nr_ranges, arg.flags,
				  &arg.error_offset, &arg.timeout);
	kvfree(ranges);
	if (gmem_convert_tells(err) &&
	    (put_user(arg.error_offset, &user->error_offset) ||
	     put_user(arg.timeout, &user->timeout)))
		return -EFAULT;
	return err;
}

/* The pages from @i on that are alike, at most up to @hi; @block locked. */
static unsigned long gmem_describe(struct gmem_inode *gi, struct gmem_block *block,
				   unsigned long i, unsigned long hi,
				   struct gmemfd_range *range)
{
	struct gmem_memory *memory = block->memory;
	unsigned long end = gmem_state_run(&block->state, i, hi), region;

	range->flags = 0;
	range->folio_order = 0;
	if (gmem_state_private(&block->state, i))
		range->flags |= GMEMFD_RANGE_PRIVATE;
	if (!memory)
		return end;

	region = i >> GMEM_REGION_ORDER;
	range->flags |= GMEMFD_RANGE_ALLOCATED;
	if (!memory->broken)
		range->folio_order = gi->block_order;
	else if (!test_bit(region, memory->split))
		range->folio_order = GMEM_REGION_ORDER;
	if (test_bit(region, memory->ready))
		range->flags |= GMEMFD_RANGE_ZEROED;
	/* A region at a time; the caller joins what is alike. */
	return min(end, (region + 1) << GMEM_REGION_ORDER);
}

/* Fill in @range with the like pages from *@posp on, and say where they end. */
static int gmem_next_range(struct gmem_inode *gi, pgoff_t *posp, pgoff_t last,
			   struct gmemfd_range *range)
{
	pgoff_t start = *posp, pos = start;
	struct gmemfd_range more;
	int err;

	while (pos < last) {
		struct gmem_span span = gmem_span(gi, pos, last);
		unsigned long end;

		err = gmem_lock_block_shared(gi, span.block);
		if (err)
			return err;
		end = gmem_describe(gi, span.block, span.lo, span.hi, &more);
		gmem_unlock_block_shared(gi, span.block);

		if (pos == start)
			*range = more;
		else if (range->flags != more.flags ||
			 range->folio_order != more.folio_order)
			break;
		pos += end - span.lo;
	}
	range->offset = (u64)start << PAGE_SHIFT;
	range->size = (u64)(pos - start) << PAGE_SHIFT;
	*posp = pos;
	return 0;
}

static int gmem_ioctl_get_ranges(struct file *file, void __user *argp)
{
	struct inode *inode = file_inode(file);
	struct gmemfd_range __user *ranges;
	struct gmemfd_get_ranges arg;
	pgoff_t pos, last;
	int err;
	u32 n;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (arg.flags || memchr_inv(arg.reserved, 0, sizeof(arg.reserved)) ||
	    !arg.nr_ranges || arg.offset >= arg.end ||
	    !gmem_range_ok(arg.offset, arg.end - arg.offset, i_size_read(inode)))
		return -EINVAL;

	ranges = u64_to_user_ptr(arg.ranges);
	pos = arg.offset >> PAGE_SHIFT;
	last = arg.end >> PAGE_SHIFT;
	for (n = 0; n < arg.nr_ranges && pos < last; n++) {
		struct gmemfd_range range;

		err = gmem_next_range(inode->i_private, &pos, last, &range);
		if (err)
			return err;
		if (copy_to_user(&ranges[n], &range, sizeof(range)))
			return -EFAULT;
	}
	arg.offset = (u64)pos << PAGE_SHIFT;
	arg.nr_ranges = n;
	return copy_to_user(argp, &arg, sizeof(arg)) ? -EFAULT : 0;
}

static long gmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case GMEMFD_CONVERT:
	case GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2:
		return gmem_ioctl_convert(file, cmd, argp);
	case GMEMFD_CONVERT_RANGES:
		return gmem_ioctl_convert_ranges(file, argp);
	case GMEMFD_GET_RANGES:
		return gmem_ioctl_get_ranges(file, argp);
	default:
		return -ENOTTY;
	}
}

/* The file */

static void gmem_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct gmem_inode *gi = file_inode(file)->i_private;
	unsigned long nr = gmem_block_pages(gi), private = 0, split = 0, i;

	for (i = 0; i < gi->nr_blocks; i++) {
		struct gmem_block *block = &gi->blocks[i];

		if (gmem_lock_block_shared(gi, block))
			return;
		private += gmem_state_nr_private(&block->state, nr);
		if (block->memory)
			split += bitmap_weight(block->memory->split,
					       gmem_block_regions(gi));
		gmem_unlock_block_shared(gi, block);
		cond_resched();
	}
	seq_printf(m, "gmem_size:\t%lld\n", i_size_read(gi->inode));
	seq_printf(m, "gmem_block_size:\t%lu\n", nr << PAGE_SHIFT);
	seq_printf(m, "gmem_flags:\t0x%llx\n", gi->flags);
	seq_printf(m, "gmem_allocated:\t%lld\n", inode_get_bytes(gi->inode));
	seq_printf(m, "gmem_private:\t%lu\n", private << PAGE_SHIFT);
	seq_printf(m, "gmem_shared:\t%lu\n",
		   (gi->nr_blocks * nr - private) << PAGE_SHIFT);
	seq_printf(m, "gmem_split:\t%lu\n",
		   split << (GMEM_REGION_ORDER + PAGE_SHIFT));
}

/**
 * gmem_put - drop a reference to a file
 * @gi: the file
 */
void gmem_put(struct gmem_inode *gi)
{
	unsigned long i;

	if (!refcount_dec_and_test(&gi->refs))
		return;
	for (i = 0; i < gi->nr_blocks; i++) {
		kvfree(gi->blocks[i].punched);
		gmem_state_free(&gi->blocks[i].state);
	}
	kvfree(gi);
}

/* The open file goes, and with it all that it has; the inode may stay for a while. */
static void gmem_close(struct gmem_inode *gi)
{
	unsigned long i;

	for (i = 0; i < gi->nr_blocks; i++) {
		struct gmem_block *block = &gi->blocks[i];

		if (!block->memory)
			continue;
		/* A memory error may be dealt with beside this. */
		gmem_lock_block(gi, block);
		gmem_memory_release(gi, block);
		gmem_unlock_block(gi, block);
		cond_resched();
	}
	mpol_free_shared_policy(&gi->policy);
	gmem_pool_release(&gi->pool);
	gmem_put(gi);
}

static int gmem_file_release(struct inode *inode, struct file *file)
{
	struct gmem_inode *gi = inode->i_private;

	gmem_kvm_release(gi);
	inode->i_private = NULL;
	gmem_close(gi);
	return 0;
}

const struct file_operations gmem_fops = {
	.owner			= THIS_MODULE,
	.release		= gmem_file_release,
	.llseek			= generic_file_llseek,
	.fsync			= noop_fsync,
	.mmap			= gmem_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
	.fallocate		= gmem_fallocate,
	.unlocked_ioctl		= gmem_ioctl,
	.compat_ioctl		= compat_ptr_ioctl,
	.show_fdinfo		= gmem_show_fdinfo,
};

/* Folios are not on an LRU: nobody gets as far as migrating one. */
static int gmem_migrate_folio(struct address_space *mapping, struct folio *dst,
			      struct folio *src, enum migrate_mode mode)
{
	return -EBUSY;
}

/* Nor may core mm drop a folio that it finds clean, or poisoned. */
static bool gmem_release_folio(struct folio *folio, gfp_t gfp)
{
	return false;
}

static int gmem_error_folio(struct address_space *mapping, struct folio *folio)
{
	return MF_DELAYED;
}

static const struct address_space_operations gmem_aops = {
	.dirty_folio		= noop_dirty_folio,
	.migrate_folio		= gmem_migrate_folio,
	.release_folio		= gmem_release_folio,
	.error_remove_folio	= gmem_error_folio,
};

static int gmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
			struct iattr *attr)
{
	return -EINVAL;
}

static const struct inode_operations gmem_iops = {
	.setattr	= gmem_setattr,
};

static struct inode *gmem_new_inode(struct super_block *sb)
{
	struct inode *inode;

	inode = anon_inode_make_secure_inode(sb, "[gmemfd]", NULL);
	if (IS_ERR(inode))
		return inode;
	inode->i_mode |= S_IFREG;
	inode->i_op = &gmem_iops;
	inode->i_mapping->a_ops = &gmem_aops;
	mapping_set_inaccessible(inode->i_mapping);
	mapping_set_release_always(inode->i_mapping);
	return inode;
}

static int gmem_reserve_pool(struct gmem_pool *pool, unsigned int order,
			     unsigned long nr)
{
	unsigned int pin;
	int err;

	/* What is added to the pool for us must not be in ZONE_MOVABLE. */
	pin = memalloc_pin_save();
	err = gmem_should_fail() ? -ENOMEM : gmem_pool_reserve(pool, order, nr);
	if (err == -ENOMEM) {
		/* What other files had may be on its way home. */
		gmem_home_flush();
		err = gmem_pool_reserve(pool, order, nr);
	}
	memalloc_pin_restore(pin);
	return err;
}

static struct gmem_inode *gmem_alloc(const struct gmemfd_create *args)
{
	unsigned int order = ilog2(args->block_size) - PAGE_SHIFT;
	unsigned long nr = args->size >> (order + PAGE_SHIFT), i;
	static struct lock_class_key lock_key;
	struct gmem_inode *gi;
	int err;

	gi = kvzalloc(struct_size(gi, blocks, nr), GMEM_GFP);
	if (!gi)
		return ERR_PTR(-ENOMEM);
	err = gmem_reserve_pool(&gi->pool, order, nr);
	if (err) {
		kvfree(gi);
		return ERR_PTR(err);
	}
	refcount_set(&gi->refs, 1);
	gi->block_order = order;
	gi->flags = args->flags;
	gi->node = args->flags & GMEMFD_CREATE_NODE ? args->node : NUMA_NO_NODE;
	mpol_shared_policy_init(&gi->policy, NULL);
	gi->nr_blocks = nr;
	mutex_init(&gi->bindings_lock);
	INIT_LIST_HEAD(&gi->bindings);
	init_waitqueue_head(&gi->vm_gone);
	lockdep_init_map(&gi->lock_map, "gmem_block", &lock_key, 0);
	for (i = 0; i < nr; i++) {
		init_rwsem(&gi->blocks[i].lock);
		lockdep_set_notrack_class(&gi->blocks[i].lock);
		gi->blocks[i].state.kind = args->flags & GMEMFD_CREATE_INIT_SHARED ?
					   GMEM_ALL_SHARED : GMEM_ALL_PRIVATE;
	}
	return gi;
}

static struct file *gmem_new_file(struct gmem_inode *gi, u64 size)
{
	struct inode *inode;
	struct file *file;

	inode = gmem_new_inode(gmem_mnt->mnt_sb);
	if (IS_ERR(inode))
		return ERR_CAST(inode);
	inode->i_size = size;
	inode->i_blkbits = gi->block_order + PAGE_SHIFT;
	inode->i_private = gi;
	gi->inode = inode;
	/* It has no name: who watches it is told when it goes, as of any file. */
	clear_nlink(inode);

	__module_get(THIS_MODULE);	/* dropped by fput() */
	file = alloc_file_pseudo(inode, gmem_mnt, "[gmemfd]",
				 O_RDWR | O_LARGEFILE, &gmem_fops);
	if (IS_ERR(file)) {
		module_put(THIS_MODULE);
		iput(inode);
	}
	return file;
}

/**
 * gmem_file_create - make a gmem file
 * @args: checked, except for what the pool says
 *
 * Return: an fd or a negative errno.
 */
int gmem_file_create(const struct gmemfd_create *args)
{
	struct gmem_inode *gi;
	struct file *file;
	int fd, err;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	err = simple_pin_fs(&gmem_fs, &gmem_mnt, &gmem_mnt_count);
	if (err)
		goto err_fd;
	gi = gmem_alloc(args);
	if (IS_ERR(gi)) {
		err = PTR_ERR(gi);
		goto err_fs;
	}
	file = gmem_new_file(gi, args->size);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		gmem_close(gi);
		goto err_fs;
	}
	/* Now it is the dentry that keeps the mount for the next file. */
	file->f_path.dentry->d_fsdata = gmem_mnt;
	fd_install(fd, file);
	return fd;

err_fs:
	simple_release_fs(&gmem_mnt, &gmem_mnt_count);
err_fd:
	put_unused_fd(fd);
	return err;
}

/* The file systems nobody mounts */

static void gmem_dentry_release(struct dentry *dentry)
{
	if (dentry->d_fsdata)
		simple_release_fs(&gmem_mnt, &gmem_mnt_count);
}

static char *gmem_dentry_name(struct dentry *dentry, char *buf, int len)
{
	static const char name[] = "/[gmemfd] (deleted)";

	if (len < sizeof(name))
		return ERR_PTR(-ENAMETOOLONG);
	return memcpy(buf + len - sizeof(name), name, sizeof(name));
}

static const struct dentry_operations gmem_dentry_ops = {
	.d_release	= gmem_dentry_release,
	.d_dname	= gmem_dentry_name,
};

static int gmem_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, GMEMFD_MAGIC);

	if (!ctx)
		return -ENOMEM;
	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	ctx->dops = &gmem_dentry_ops;
	return 0;
}

/*
 * Mounted while there are files.  What has one open, or an O_PATH fd, has its dentry
 * and a reference to the mount, which keeps the module; both go in that order, so
 * that nothing of the file system's is called once the mount is gone.  Files share
 * the mount as long as there is one: the dentries have it pinned.  An inode pins
 * nothing: a watch can have the last reference to it, for as long as the watch takes
 * to go, for which shutting a superblock down waits.
 */
static struct file_system_type gmem_fs = {
	.owner		 = THIS_MODULE,
	.name		 = "gmemfd",
	.init_fs_context = gmem_init_fs_context,
	.kill_sb	 = kill_anon_super,
};

/* For the inode of folios that are away; mounted while the module is there. */
static struct file_system_type gmem_away_fs = {
	.name		 = "gmemfd_away",
	.init_fs_context = gmem_init_fs_context,
	.kill_sb	 = kill_anon_super,
};

/**
 * gmem_file_init - prepare for files
 *
 * Return: 0 or a negative errno.
 */
int gmem_file_init(void)
{
	gmem_away_mnt = kern_mount(&gmem_away_fs);
	if (IS_ERR(gmem_away_mnt))
		return PTR_ERR(gmem_away_mnt);
	gmem_away_inode = gmem_new_inode(gmem_away_mnt->mnt_sb);
	if (IS_ERR(gmem_away_inode)) {
		kern_unmount(gmem_away_mnt);
		return PTR_ERR(gmem_away_inode);
	}
	gmem_away_mapping = gmem_away_inode->i_mapping;
	return 0;
}

/**
 * gmem_file_exit - no file is left
 */
void gmem_file_exit(void)
{
	iput(gmem_away_inode);
	kern_unmount(gmem_away_mnt);
}

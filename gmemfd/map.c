// SPDX-License-Identifier: GPL-2.0
/*
 * What a mapping of a file needs: mmap(), faults, and mbind().
 */
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "gmemfd.h"
#include "trace.h"

/* The pages of the folio of page @i: a fault maps no others.  [block shared] */
static void gmem_folio_range(const struct gmemfd_inode *fi,
			     const struct gmem_block *block, unsigned long i,
			     unsigned long *lo, unsigned long *hi)
{
	unsigned long nr = 1UL << gmem_wanted_folio_order(fi, block, i);

	*lo = round_down(i, nr);
	*hi = *lo + nr;
}

/* How many secret pages a fault maps where it cannot map a large entry. */
#define GMEM_FAULT_AROUND	16UL

/* Does an entry of an order for the page of a fault fit into the mapping? */
static bool gmem_entry_fits(const struct vm_fault *vmf, unsigned int order)
{
	unsigned long size = PAGE_SIZE << order, start = round_down(vmf->address, size);

	return start >= vmf->vma->vm_start && start + size <= vmf->vma->vm_end &&
	       !((vmf->pgoff ^ (vmf->address >> PAGE_SHIFT)) & (size / PAGE_SIZE - 1));
}

/*
 * Map a secret page by an entry of 4 KiB, and neighbours that are secret, too, in
 * [@lo, @hi).  [block shared, entries shared]
 */
static vm_fault_t gmem_insert_pages(struct vm_fault *vmf, const struct gmem_block *block,
				    unsigned long i, unsigned long lo, unsigned long hi)
{
	unsigned long pfn = page_to_pfn(block->memory->loan.page);
	struct vm_area_struct *vma = vmf->vma;
	unsigned long back, end, k;
	vm_fault_t ret;

	/* Another fault has put a large entry there, and this one goes on with it. */
	if (pmd_leaf(pmdp_get_lockless(vmf->pmd)))
		return VM_FAULT_NOPAGE;
	/* What happens to the page decides, and its neighbours are a courtesy. */
	ret = gmem_insert_special(vma, vmf->address, pfn + i);
	/*
	 * The table has gone again.  If there were no memory for one mm would have found out
	 * before it came here, and finds out when it comes again.
	 */
	if (ret == VM_FAULT_OOM)
		return VM_FAULT_NOPAGE;
	back = min(i - lo, (vmf->address - vma->vm_start) >> PAGE_SHIFT);
	end = min(hi - i, (vma->vm_end - vmf->address) >> PAGE_SHIFT);
	for (k = i - back; ret == VM_FAULT_NOPAGE && k < i + end; k++) {
		if (k != i && gmem_page_secret(block, k))
			gmem_insert_special(vma, vmf->address + (k - i) * PAGE_SIZE, pfn + k);
	}
	return ret;
}

/*
 * Map a secret page by an entry of @order, 0 or PMD_ORDER, if 2^@most pages around it can be
 * mapped at once and are all secret.  Such entries are special: nobody looks for a struct
 * page behind one.  [block shared, takes entries]
 */
static vm_fault_t gmem_insert_secret(struct vm_fault *vmf, struct gmemfd_inode *fi,
				     const struct gmem_block *block, unsigned long i,
				     unsigned int order, unsigned int most)
{
	unsigned long lo = round_down(i, 1UL << order), hi = lo + (1UL << order);
	unsigned long pfn = page_to_pfn(block->memory->loan.page) + lo;
	bool write = vmf->flags & FAULT_FLAG_WRITE;
	vm_fault_t ret;

	/* Either entry, and all neighbours, are in the page's region. */
	set_bit(i >> GMEM_REGION_ORDER, block->memory->mapped);
	if (!order) {
		if (most) {
			lo = round_down(i, GMEM_FAULT_AROUND);
			hi = lo + GMEM_FAULT_AROUND;
		}
		/* Who is killed meanwhile does not come back to the page. */
		if (down_read_killable(&fi->entries_lock))
			return VM_FAULT_NOPAGE;
		ret = gmem_insert_pages(vmf, block, i, lo, hi);
		up_read(&fi->entries_lock);
		return ret;
	}
	if (order > most || gmem_state_run(&block->secret, lo, hi) < hi)
		return VM_FAULT_FALLBACK;
	if (down_write_killable(&fi->entries_lock))
		return VM_FAULT_NOPAGE;
	ret = gmem_insert_special_pmd(vmf, pfn, write);
	up_write(&fi->entries_lock);
	return ret;
}

/* A fault has failed on a page that is in @state, see trace.h. */
static vm_fault_t gmem_fault_failed(const struct vm_fault *vmf, unsigned int state, int err)
{
	trace_gmem_fault(vmf, state, 0, err);
	return vmf_error(err);
}

/*
 * Map a secret page by an entry of @order; VM_FAULT_FALLBACK if that does not fit, or the
 * page is not secret.  [takes block]
 */
static vm_fault_t gmem_fault_secret(struct vm_fault *vmf, unsigned int order)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct gmemfd_inode *fi = inode->i_private;
	vm_fault_t ret = VM_FAULT_FALLBACK;
	struct gmem_block *block;
	unsigned long i;
	int most, err = 0;

	if (vmf->pgoff >= i_size_read(inode) >> PAGE_SHIFT || order > gmem_special_order ||
	    !gmem_entry_fits(vmf, order))
		return ret;
	block = gmem_block_at(fi, vmf->pgoff);
	i = gmem_page_in_block(fi, vmf->pgoff);

	for (;;) {
		err = gmem_lock_block_shared(fi, block);
		if (err)
			return gmem_fault_failed(vmf, GMEM_TRACE_UNKNOWN, err);
		if (!gmem_page_secret(block, i))
			break;
		most = gmem_order_at_once(fi, block, i);
		if (most >= 0)
			ret = gmem_insert_secret(vmf, fi, block, i, order, most);
		else if (most != -EAGAIN)
			err = most;
		if (most != -EAGAIN)
			break;
		gmem_unlock_block_shared(fi, block);

		err = gmem_zero_ahead(fi, block, i, i + 1) ?:
		      gmem_lock_block_killable(fi, block);
		if (err)
			return gmem_fault_failed(vmf, GMEMFD_ATTRIBUTE_SECRET, err);
		err = gmem_page_secret(block, i) ? gmem_populate_around(fi, block, i) : 0;
		gmem_unlock_block(fi, block);
		if (err)
			return gmem_fault_failed(vmf, GMEMFD_ATTRIBUTE_SECRET, err);
	}
	gmem_unlock_block_shared(fi, block);
	if (err)
		return gmem_fault_failed(vmf, GMEMFD_ATTRIBUTE_SECRET, err);
	/* Otherwise nothing has been mapped yet, and this is called again. */
	if (ret != VM_FAULT_FALLBACK)
		trace_gmem_fault(vmf, GMEMFD_ATTRIBUTE_SECRET, order,
				 vm_fault_to_errno(ret, 0));
	return ret;
}

static vm_fault_t gmem_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct gmemfd_inode *fi = inode->i_private;
	vm_fault_t ret = VM_FAULT_LOCKED;
	struct gmem_block *block;
	unsigned long i, lo, hi;
	struct folio *folio;
	int err;

	if (vmf->pgoff >= i_size_read(inode) >> PAGE_SHIFT)
		return gmem_fault_failed(vmf, GMEM_TRACE_UNKNOWN, -EINVAL);
	if (gmem_has_secret(fi)) {
		ret = gmem_fault_secret(vmf, 0);
		if (ret != VM_FAULT_FALLBACK)
			return ret;
		ret = VM_FAULT_LOCKED;
	}
	block = gmem_block_at(fi, vmf->pgoff);
	i = gmem_page_in_block(fi, vmf->pgoff);

	/* A task that is killed does not see what a fault returns. */
	err = gmem_lock_block_shared(fi, block);
	if (err)
		return gmem_fault_failed(vmf, GMEM_TRACE_UNKNOWN, err);
	for (;;) {
		if (gmem_state_private(&block->state, i)) {
			/* It may have become secret meanwhile: then the task tries again. */
			ret = gmem_page_secret(block, i) ? VM_FAULT_NOPAGE :
			      gmem_fault_failed(vmf, GMEMFD_ATTRIBUTE_PRIVATE, -EFAULT);
			goto out;
		}
		gmem_folio_range(fi, block, i, &lo, &hi);
		if (gmem_populated(block, lo, hi) && !gmem_folio_too_large(fi, block, i))
			break;
		gmem_unlock_block_shared(fi, block);
		err = gmem_zero_ahead(fi, block, i, i + 1) ?:
		      gmem_lock_block_killable(fi, block);
		if (err)
			return gmem_fault_failed(vmf, 0, err);
		if (!gmem_state_private(&block->state, i)) {
			gmem_folio_range(fi, block, i, &lo, &hi);
			err = gmem_populate(fi, block, lo, hi) ?:
			      gmem_split_poisoned(fi, block, i);
		}
		/* lockdep does not know the lock, so downgrade_write() would confuse it. */
		gmem_unlock_block(fi, block);
		err = err ?: gmem_lock_block_shared(fi, block);
		if (err)
			return gmem_fault_failed(vmf, 0, err);
	}
	/* The folio stays locked until it is mapped: see gmem_folio_freeze(). */
	vmf->page = block->memory->loan.page + i;
	folio = page_folio(vmf->page);
	folio_get(folio);
	folio_lock(folio);
	if (PageHWPoison(vmf->page)) {
		folio_unlock(folio);
		folio_put(folio);
		ret = gmem_fault_failed(vmf, 0, -EHWPOISON);
	} else if (trace_gmem_fault_enabled()) {
		trace_gmem_fault(vmf, 0, folio_order(folio), 0);
	}
out:
	gmem_unlock_block_shared(fi, block);
	return ret;
}

#ifdef CONFIG_NUMA
static int gmem_set_policy(struct vm_area_struct *vma, struct mempolicy *policy)
{
	struct gmemfd_inode *fi = file_inode(vma->vm_file)->i_private;

	return gmem_mpol_set(&fi->policy, vma, policy);
}

static struct mempolicy *gmem_get_policy(struct vm_area_struct *vma,
					 unsigned long addr, pgoff_t *index)
{
	struct gmemfd_inode *fi = file_inode(vma->vm_file)->i_private;
	pgoff_t pgoff = linear_page_index(vma, addr);

	*index = pgoff >> fi->block_order;
	return gmem_mpol_lookup(&fi->policy, pgoff);
}
#endif

static const struct vm_operations_struct gmem_vm_ops = {
	.fault		= gmem_fault,
#ifdef CONFIG_NUMA
	.set_policy	= gmem_set_policy,
	.get_policy	= gmem_get_policy,
#endif
};

static const struct vm_operations_struct gmem_secret_vm_ops = {
	.fault		= gmem_fault,
	.huge_fault	= gmem_fault_secret,
#ifdef CONFIG_NUMA
	.set_policy	= gmem_set_policy,
	.get_policy	= gmem_get_policy,
#endif
};

/* They do not set the file's memory policy, which is the VMM's. */
static const struct vm_operations_struct gmem_map_only_vm_ops = {
	.fault		= gmem_fault,
};

static const struct vm_operations_struct gmem_map_only_secret_vm_ops = {
	.fault		= gmem_fault,
	.huge_fault	= gmem_fault_secret,
};

static int gmem_map(struct file *file, struct vm_area_struct *vma,
		    const struct vm_operations_struct *plain,
		    const struct vm_operations_struct *secret)
{
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	/* This makes it VM_SPECIAL: mlock, reclaim and compaction take no references. */
	vm_flags_set(vma, VM_DONTEXPAND);
	vma->vm_ops = plain;
	if (gmem_has_secret(file_inode(file)->i_private)) {
		/*
		 * With VM_PFNMAP nobody could take references to shared pages, and KVM would
		 * look for secret ones in the direct map.
		 */
		vm_flags_set(vma, VM_MIXEDMAP | VM_HUGEPAGE);
		vma->vm_ops = secret;
	}
	return 0;
}

/**
 * gmem_mmap - the mmap() of a gmem file
 * @file: the file
 * @vma: the new mapping
 *
 * Return: 0, or -EINVAL for a private mapping.
 */
int gmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	return gmem_map(file, vma, &gmem_vm_ops, &gmem_secret_vm_ops);
}

/**
 * gmem_mmap_only - the same for somebody who can do nothing else
 * @file: an open file that has no other operation
 * @vma: the new mapping
 *
 * Return: as gmem_mmap().
 */
int gmem_mmap_only(struct file *file, struct vm_area_struct *vma)
{
	return gmem_map(file, vma, &gmem_map_only_vm_ops, &gmem_map_only_secret_vm_ops);
}

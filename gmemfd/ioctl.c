// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctls of a gmem file.
 */
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/sort.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "gmemfd.h"

static int gmem_compare_ranges(const void *a, const void *b)
{
	const struct gmemfd_convert_range *ra = a, *rb = b;

	/* sort() takes milliseconds for 65,536 ranges and does not reschedule. */
	cond_resched();
	return cmp_int(ra->offset, rb->offset);
}

static bool gmem_attributes_ok(const struct gmemfd_inode *fi, u64 attributes)
{
	return !attributes || attributes == GMEMFD_ATTRIBUTE_PRIVATE ||
	       (attributes == GMEMFD_ATTRIBUTE_SECRET && gmem_has_secret(fi));
}

/* Was the call interrupted?  All but -EINTR restart it unless a handler runs. */
static bool gmem_error_is_interruption(int err)
{
	return err == -EINTR || err == -ERESTARTNOHAND || err == -ERESTARTNOINTR;
}

/*
 * The part that GMEMFD_CONVERT and GMEMFD_CONVERT_RANGES have in common.  Sorts @ranges,
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
	/* Ranges are in order as a rule, and a heap sort does not profit from that. */
	for (i = 1; i < nr && ranges[i - 1].offset <= ranges[i].offset;)
		i++;
	if (i < nr)
		sort(ranges, nr, sizeof(*ranges), gmem_compare_ranges, NULL);
	for (i = 0; i < nr; i++) {
		const struct gmemfd_convert_range *range = &ranges[i];

		if (!gmem_range_ok(range->offset, range->size, i_size_read(inode)) ||
		    !gmem_attributes_ok(inode->i_private, range->attributes) ||
		    (i && range->offset < range[-1].offset + range[-1].size))
			return -EINVAL;
	}

	deadline = ktime_add_safe(ktime_get(), min_t(u64, *timeout, KTIME_MAX));
	err = gmem_convert(inode->i_private, ranges, nr,
			   flags & GMEMFD_CONVERT_WAIT ? &deadline : NULL, &busy);
	/* The caller does not see this restart: error_offset is left alone. */
	if (busy != ULONG_MAX && err != -ERESTARTNOINTR)
		*error_offset = (u64)busy << PAGE_SHIFT;
	if (gmem_error_is_interruption(err) && *timeout < KTIME_MAX)
		*timeout = max(ktime_sub(deadline, ktime_get()), 0);
	return err;
}

/* Does the ABI define what the error returns in @error_offset and @timeout? */
static bool gmem_error_has_details(int err)
{
	return err == -EAGAIN || err == -ETIMEDOUT || gmem_error_is_interruption(err);
}

/* Upstream's flags are not ours.  Does a conversion do what they ask for? */
static int gmem_check_upstream_flags(u64 flags)
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
		err = gmem_check_upstream_flags(arg.flags);
		if (err)
			return err;
		arg.flags = 0;
		/* Upstream knows two states: what is not private is not the kernel's either. */
		if (arg.attributes == GMEMFD_ATTRIBUTE_SECRET)
			return -EINVAL;
		if (!arg.attributes && gmem_has_secret(file_inode(file)->i_private))
			arg.attributes = GMEMFD_ATTRIBUTE_SECRET;
	}
	range = (struct gmemfd_convert_range) { arg.offset, arg.size, arg.attributes };
	err = gmem_convert_ranges(file, &range, 1, arg.flags, &arg.error_offset,
				  &arg.timeout);
	if (gmem_error_has_details(err) &&
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
	if (gmem_error_has_details(err) &&
	    (put_user(arg.error_offset, &user->error_offset) ||
	     put_user(arg.timeout, &user->timeout)))
		return -EFAULT;
	return err;
}

/* Describe the pages from @i on that are alike; returns where they end.  [block shared] */
static unsigned long gmem_describe_pages(struct gmemfd_inode *fi, struct gmem_block *block,
					 unsigned long i, unsigned long hi,
					 struct gmemfd_range *range)
{
	struct gmem_memory *memory = block->memory;
	unsigned long end = gmem_state_run(&block->state, i, hi), region;

	range->flags = 0;
	range->folio_order = 0;
	if (gmem_state_private(&block->state, i)) {
		end = gmem_state_run(&block->secret, i, end);
		range->flags |= gmem_page_secret(block, i) ? GMEMFD_RANGE_SECRET :
							      GMEMFD_RANGE_PRIVATE;
	}
	if (!memory)
		return end;

	region = i >> GMEM_REGION_ORDER;
	range->flags |= GMEMFD_RANGE_ALLOCATED;
	if (!memory->broken)
		range->folio_order = fi->block_order;
	else if (!test_bit(region, memory->split))
		range->folio_order = GMEM_REGION_ORDER;
	if (test_bit(region, memory->ready))
		range->flags |= GMEMFD_RANGE_ZEROED;
	/* The caller puts regions together that are alike. */
	return min(end, (region + 1) << GMEM_REGION_ORDER);
}

/* Describe the pages from *@posp on that are alike, and move *@posp behind them. */
static int gmem_next_range(struct gmemfd_inode *fi, pgoff_t *posp, pgoff_t last,
			   struct gmemfd_range *range)
{
	pgoff_t start = *posp, pos = start;
	struct gmemfd_range more;
	int err;

	while (pos < last) {
		struct gmem_block *block = gmem_block_at(fi, pos);
		unsigned long i = gmem_page_in_block(fi, pos), hi, end;

		hi = min(gmem_block_pages(fi), i + (last - pos));
		err = gmem_lock_block_shared(fi, block);
		if (err)
			return err;
		end = gmem_describe_pages(fi, block, i, hi, &more);
		gmem_unlock_block_shared(fi, block);

		if (pos == start)
			*range = more;
		else if (range->flags != more.flags ||
			 range->folio_order != more.folio_order)
			break;
		pos += end - i;
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

/**
 * gmem_ioctl - the ioctl() of a gmem file
 * @file: the file
 * @cmd: GMEMFD_*
 * @arg: the user's pointer
 *
 * Return: 0 or the errors in the description of the ABI.
 */
long gmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case GMEMFD_CONVERT:
	case GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2:
		return file->f_mode & FMODE_WRITE ? gmem_ioctl_convert(file, cmd, argp) : -EBADF;
	case GMEMFD_CONVERT_RANGES:
		return file->f_mode & FMODE_WRITE ? gmem_ioctl_convert_ranges(file, argp) : -EBADF;
	case GMEMFD_GET_RANGES:
		return gmem_ioctl_get_ranges(file, argp);
	default:
		return -ENOTTY;
	}
}

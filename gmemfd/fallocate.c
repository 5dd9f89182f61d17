// SPDX-License-Identifier: GPL-2.0
/*
 * fallocate(): memory is allocated ahead, or punched out of a file.
 */
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/sched/signal.h>

#include "gmemfd.h"

static int gmem_allocate(struct gmemfd_inode *fi, const struct gmem_walk *walk)
{
	int err;

	err = gmem_zero_ahead(fi, walk->block, walk->lo, walk->hi);
	if (!err)
		err = gmem_lock_block_killable(fi, walk->block);
	if (err)
		return err;
	err = gmem_populate(fi, walk->block, walk->lo, walk->hi);
	gmem_unlock_block(fi, walk->block);
	return err;
}

/* Lock a block, and unmap a range of it from guests.  [takes bindings] */
static int gmem_lock_and_invalidate(struct gmemfd_inode *fi, struct gmem_block *block,
				    unsigned long lo, unsigned long hi)
{
	int err;

	if (fatal_signal_pending(current))
		return -EINTR;
	err = gmem_lock_block_killable(fi, block);
	if (!err)
		gmem_kvm_invalidate(fi, gmem_pgoff(fi, block, lo), gmem_pgoff(fi, block, hi));
	return err;
}

/*
 * Scrub what can be scrubbed region by region, with the block's lock released in between,
 * of a block that is punched as a whole.  [takes block]
 */
static int gmem_scrub_ahead(struct gmemfd_inode *fi, struct gmem_block *block)
{
	unsigned long lo = 0, nr = gmem_block_pages(fi);
	bool more = nr > GMEM_REGION_PAGES;
	int err;

	while (more) {
		err = gmem_lock_and_invalidate(fi, block, lo, nr);
		if (err)
			return err;
		more = block->memory && gmem_memory_scrub_next(fi, block, &lo, nr);
		gmem_unlock_block(fi, block);
		cond_resched();
	}
	return 0;
}

static int gmem_punch(struct gmemfd_inode *fi, const struct gmem_walk *walk)
{
	bool whole = walk->hi - walk->lo == gmem_block_pages(fi);
	struct gmem_block *block = walk->block;
	unsigned long lo, hi;
	int err = 0;

	if (whole)
		err = gmem_scrub_ahead(fi, block);
	for (lo = walk->lo; !err && lo < walk->hi; lo = hi) {
		hi = whole ? walk->hi :
		     min(walk->hi, round_down(lo, GMEM_REGION_PAGES) + GMEM_REGION_PAGES);
		err = gmem_lock_and_invalidate(fi, block, lo, hi);
		if (err)
			break;
		if (!whole)
			err = gmem_punch_pages(fi, block, lo, hi);
		else if (block->memory)
			gmem_punch_block(fi, block);
		gmem_unlock_block(fi, block);
		cond_resched();
	}
	return err;
}

/**
 * gmem_fallocate - the fallocate() of a gmem file [takes block]
 * @file: the file
 * @mode: FALLOC_FL_KEEP_SIZE to allocate, and FALLOC_FL_PUNCH_HOLE to punch
 * @offset: first byte
 * @len: number of bytes
 *
 * Return: 0 or the errors in the description of the ABI.
 */
long gmem_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	int (*op)(struct gmemfd_inode *fi, const struct gmem_walk *walk);
	struct inode *inode = file_inode(file);
	struct gmemfd_inode *fi = inode->i_private;
	loff_t size = i_size_read(inode);
	struct gmemfd_convert_range range;
	struct gmem_walk walk;
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
	/* Behind the end of the file is nothing, and punching it is no error. */
	if (!gmem_range_ok(offset, len, op == gmem_punch ? LLONG_MAX : size))
		return -EINVAL;

	range = (struct gmemfd_convert_range) { .offset = min(offset, size) };
	range.size = min(offset + len, size) - range.offset;
	if (!range.size)
		return 0;
	for_each_span(walk, fi, &range, 1) {
		/* Other signals do not end it: io_uring, for one, could not restart it. */
		if (fatal_signal_pending(current))
			return -EINTR;
		err = op(fi, &walk);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

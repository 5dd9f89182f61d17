// SPDX-License-Identifier: GPL-2.0
/*
 * fallocate(): memory is allocated ahead, or punched out of the file.
 */
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/sched/signal.h>

#include "gmemfd.h"

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

/**
 * gmem_fallocate - the fallocate() of a gmem file
 * @file: the file
 * @mode: FALLOC_FL_KEEP_SIZE to allocate, and FALLOC_FL_PUNCH_HOLE to punch
 * @offset: first byte
 * @len: number of bytes
 *
 * Return: 0 or the errors in the description of the ABI.
 */
long gmem_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
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

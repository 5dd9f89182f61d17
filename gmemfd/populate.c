// SPDX-License-Identifier: GPL-2.0
/*
 * Populating pages, and punching them.  A populated page has memory, is in a region that
 * is ready, and has not been punched since it was populated.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>

#include "gmemfd.h"

/**
 * gmem_populated - are all pages of a range populated? [block shared]
 * @block: the block
 * @lo: first page
 * @hi: first page behind; all in one region
 *
 * Return: false if gmem_populate() has to come first.
 */
bool gmem_populated(const struct gmem_block *block, unsigned long lo,
		    unsigned long hi)
{
	return block->memory &&
	       test_bit(lo >> GMEM_REGION_ORDER, block->memory->ready) &&
	       (!block->punched || find_next_bit(block->punched, hi, lo) >= hi);
}

static void gmem_free_punched(struct gmem_block *block)
{
	kvfree(block->punched);
	block->punched = NULL;
}

/* Forget that pages were punched.  [block] */
static void gmem_clear_punched(struct gmemfd_inode *fi, struct gmem_block *block,
			       unsigned long lo, unsigned long hi)
{
	if (!block->punched)
		return;
	bitmap_clear(block->punched, lo, hi - lo);
	if (bitmap_empty(block->punched, gmem_block_pages(fi)))
		gmem_free_punched(block);
}

/* Have memory behind a block.  [takes block] */
static int gmem_fill_hole(struct gmemfd_inode *fi, struct gmem_block *block)
{
	int err;

	err = gmem_lock_block_killable(fi, block);
	if (err)
		return err;
	if (!block->memory)
		err = gmem_memory_take(fi, block);
	gmem_unlock_block(fi, block);
	return err;
}

/**
 * gmem_zero_ahead - do what takes long of gmem_populate() [takes block]
 * @fi: the file
 * @block: the block
 * @lo: first page
 * @hi: first page behind
 *
 * Zeroes regions one by one, with the block's lock held shared and released in between:
 * other tasks use the block meanwhile, and zero other regions of it.  gmem_populate() has to
 * come afterwards.  It makes all of them ready at once, so that large entries of the direct
 * map stay large.
 *
 * Return: 0, -EINTR for a fatal signal, or what gmem_memory_take() returns.
 */
int gmem_zero_ahead(struct gmemfd_inode *fi, struct gmem_block *block,
		    unsigned long lo, unsigned long hi)
{
	bool hole, more = true;
	int err = 0;

	while (more && !err) {
		if (fatal_signal_pending(current))
			return -EINTR;
		err = gmem_lock_block_shared(fi, block);
		if (err)
			return err;
		hole = !block->memory;
		if (!hole)
			more = gmem_memory_zero_next(block, &lo, hi);
		gmem_unlock_block_shared(fi, block);
		if (hole)
			err = gmem_fill_hole(fi, block);
		cond_resched();
	}
	return err;
}

/**
 * gmem_populate - populate pages [block, takes frames]
 * @fi: the file
 * @block: the block
 * @lo: first page
 * @hi: first page behind
 *
 * gmem_zero_ahead() should come first.  But what that has seen can have changed since.
 *
 * Return: 0, or what gmem_memory_take() or gmem_memory_make_ready() returns.
 */
int gmem_populate(struct gmemfd_inode *fi, struct gmem_block *block,
		  unsigned long lo, unsigned long hi)
{
	int err = 0;

	if (!block->memory)
		err = gmem_memory_take(fi, block);
	if (!err)
		err = gmem_memory_make_ready(fi, block, lo, hi);
	if (!err)
		gmem_clear_punched(fi, block, lo, hi);
	return err;
}

/**
 * gmem_order_at_once - how many pages around one are populated, and can be used? [block shared]
 * @fi: the file
 * @block: the block
 * @i: the page
 *
 * Return: the order of the aligned pages around @i that are, -EAGAIN if
 * gmem_populate_around() has to come first, or -EHWPOISON.
 */
int gmem_order_at_once(struct gmemfd_inode *fi, struct gmem_block *block, unsigned long i)
{
	unsigned long lo = round_down(i, GMEM_REGION_PAGES);
	unsigned long hi = lo + GMEM_REGION_PAGES, nr = gmem_block_pages(fi);
	struct gmem_memory *memory = block->memory;

	if (!gmem_populated(block, i, i + 1) || gmem_poison_unlocated(memory))
		return -EAGAIN;
	if (PageHWPoison(memory->loan.page + i))
		return -EHWPOISON;
	if (!block->punched && bitmap_full(memory->ready, gmem_block_regions(fi)) &&
	    !gmem_has_poison(block, 0, nr))
		return fi->block_order;
	if (gmem_populated(block, lo, hi) && !gmem_has_poison(block, lo, hi - lo))
		return GMEM_REGION_ORDER;
	return 0;
}

/**
 * gmem_populate_around - populate a page and its neighbours [block, takes frames]
 * @fi: the file
 * @block: the block
 * @i: the page
 *
 * Populates all of the page's region, or only the page if it was punched and others of the
 * region are in use.
 *
 * Return: 0, or what gmem_populate() or gmem_locate_poison() returns.
 */
int gmem_populate_around(struct gmemfd_inode *fi, struct gmem_block *block,
			 unsigned long i)
{
	unsigned long lo = round_down(i, GMEM_REGION_PAGES);
	unsigned long hi = lo + GMEM_REGION_PAGES;
	int err;

	if (block->memory && test_bit(i >> GMEM_REGION_ORDER, block->memory->ready) &&
	    block->punched && find_next_zero_bit(block->punched, hi, lo) < hi) {
		lo = i;
		hi = i + 1;
	}
	err = gmem_populate(fi, block, lo, hi);
	return err ?: gmem_locate_poison(block->memory);
}

/**
 * gmem_punch_block - punch a whole block and release its memory [block, takes frames]
 * @fi: the file
 * @block: a block with memory, of which no guest has a page mapped
 */
void gmem_punch_block(struct gmemfd_inode *fi, struct gmem_block *block)
{
	gmem_memory_release(fi, block);
	gmem_free_punched(block);
}

/**
 * gmem_punch_pages - punch pages of a block, which may be its last ones [block, takes frames]
 * @fi: the file
 * @block: the block, of which no guest has one of the pages mapped
 * @lo: first page
 * @hi: first page behind; all in one region
 *
 * The pages are zeroed and stay.  When all pages of the block are punched, its memory is
 * released.
 *
 * Return: 0, -ENOMEM, or what gmem_memory_zero() returns.  After an error the pages
 * are as before, but may be unmapped.
 */
int gmem_punch_pages(struct gmemfd_inode *fi, struct gmem_block *block,
		     unsigned long lo, unsigned long hi)
{
	unsigned long nr = gmem_block_pages(fi);
	int err;

	if (!block->memory)
		return 0;
	if (!block->punched)
		block->punched = kvcalloc(BITS_TO_LONGS(nr), sizeof(long), GMEM_GFP);
	if (!block->punched)
		return -ENOMEM;
	gmem_unmap_sync(fi, block, lo, hi);
	err = gmem_memory_zero(fi, block, lo, hi);
	if (err) {
		if (bitmap_empty(block->punched, nr))
			gmem_free_punched(block);
		return err;
	}
	bitmap_set(block->punched, lo, hi - lo);
	if (bitmap_full(block->punched, nr))
		gmem_punch_block(fi, block);
	return 0;
}

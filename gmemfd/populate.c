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

/**
 * gmem_populate - populate pages [block, takes frames]
 * @fi: the file
 * @block: the block
 * @lo: first page
 * @hi: first page behind
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

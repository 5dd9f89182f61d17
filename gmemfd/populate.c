// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that are fit for use, and pages that were punched.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>

#include "gmemfd.h"

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

/**
 * gmem_punch_block - release a block's memory, and forget what was punched of it
 * @gi: the file
 * @block: locked exclusively, with memory, of which nothing is mapped in a guest
 */
void gmem_punch_block(struct gmem_inode *gi, struct gmem_block *block)
{
	gmem_memory_release(gi, block);
	kvfree(block->punched);
	block->punched = NULL;
}

/**
 * gmem_punch_pages - zero part of a region, and remember that it was punched
 * @gi: the file
 * @block: locked exclusively
 * @lo: first page, which like the others is not mapped in a guest
 * @hi: first page behind
 *
 * Return: 0, -ENOMEM or what gmem_memory_zero() says, with nothing done.
 */
int gmem_punch_pages(struct gmem_inode *gi, struct gmem_block *block,
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

// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that are fit for use, and pages that were punched.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>

#include "gmemfd.h"

/**
 * gmem_populated - are pages of one region fit for use?
 * @block: locked shared at least
 * @lo: first page
 * @hi: first page behind
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

static void gmem_clear_punched(struct gmemfd_inode *fi, struct gmem_block *block,
			       unsigned long lo, unsigned long hi)
{
	if (!block->punched)
		return;
	bitmap_clear(block->punched, lo, hi - lo);
	if (!bitmap_empty(block->punched, gmem_block_pages(fi)))
		return;
	kvfree(block->punched);
	block->punched = NULL;
}

/**
 * gmem_populate - make pages fit for use
 * @fi: the file
 * @block: locked exclusively
 * @lo: first page
 * @hi: first page behind
 *
 * Return: 0, or what gmem_memory_take() or gmem_memory_make_ready() says.
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
 * gmem_punch_block - release a block's memory, and forget what was punched of it
 * @fi: the file
 * @block: locked exclusively, with memory, of which nothing is mapped in a guest
 */
void gmem_punch_block(struct gmemfd_inode *fi, struct gmem_block *block)
{
	gmem_memory_release(fi, block);
	kvfree(block->punched);
	block->punched = NULL;
}

/**
 * gmem_punch_pages - zero part of a region, and remember that it was punched
 * @fi: the file
 * @block: locked exclusively
 * @lo: first page, which like the others is not mapped in a guest
 * @hi: first page behind
 *
 * Return: 0, -ENOMEM or what gmem_memory_zero() says, with nothing done.
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
		gmem_clear_punched(fi, block, 0, 0);
		return err;
	}
	bitmap_set(block->punched, lo, hi - lo);
	if (bitmap_full(block->punched, nr))
		gmem_punch_block(fi, block);
	return 0;
}

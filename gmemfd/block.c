// SPDX-License-Identifier: GPL-2.0
/*
 * The blocks of a file: their locks, and user page tables that map them.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "gmemfd.h"

#ifdef CONFIG_FAULT_INJECTION
/* Only fail-nth makes use of this, and it prints nothing. */
struct fault_attr gmem_fail_attr = {
	.interval = 1,
	.times = ATOMIC_INIT(1),
};
#endif

/**
 * gmem_file_put - drop a reference to a file
 * @fi: the file
 */
void gmem_file_put(struct gmemfd_inode *fi)
{
	unsigned long i;

	if (!refcount_dec_and_test(&fi->refs))
		return;
	for (i = 0; i < fi->nr_blocks; i++) {
		kvfree(fi->blocks[i].punched);
		gmem_state_free(&fi->blocks[i].state);
		gmem_state_free(&fi->blocks[i].secret);
	}
	kvfree(fi->blocks);
	kfree(fi);
}

/* Ranges can share a block, which is unlocked once.  Block @last is the last one. */
static void gmem_unlock_up_to(struct gmemfd_inode *fi,
			      const struct gmemfd_convert_range *ranges,
			      unsigned int nr, const struct gmem_block *last)
{
	struct gmem_block *done = NULL;
	struct gmem_walk walk;

	for_each_span(walk, fi, ranges, nr) {
		if (walk.block > last)
			break;
		if (walk.block != done)
			up_write(&walk.block->lock);
		done = walk.block;
	}
	lock_map_release(&fi->lock_map);
}

/**
 * gmem_lock_ranges - lock the blocks of ranges exclusively
 * @fi: the file
 * @ranges: in ascending order, disjoint
 * @nr: how many
 *
 * Return: 0, or -EINTR with nothing locked if a fatal signal came.
 */
int gmem_lock_ranges(struct gmemfd_inode *fi, const struct gmemfd_convert_range *ranges,
		     unsigned int nr)
{
	struct gmem_block *done = NULL;
	struct gmem_walk walk;

	lock_map_acquire(&fi->lock_map);
	for_each_span(walk, fi, ranges, nr) {
		if (walk.block == done)
			continue;
		if (down_write_killable(&walk.block->lock)) {
			gmem_unlock_up_to(fi, ranges, nr, done);
			return -EINTR;
		}
		done = walk.block;
	}
	return 0;
}

/**
 * gmem_unlock_ranges - undo gmem_lock_ranges()
 * @fi: the file
 * @ranges: in ascending order, disjoint
 * @nr: how many
 */
void gmem_unlock_ranges(struct gmemfd_inode *fi, const struct gmemfd_convert_range *ranges,
			unsigned int nr)
{
	gmem_unlock_up_to(fi, ranges, nr, fi->blocks + fi->nr_blocks);
}

/**
 * gmem_lock_block - lock a block exclusively where the caller cannot fail
 * @fi: the file
 * @block: the block
 */
void gmem_lock_block(struct gmemfd_inode *fi, struct gmem_block *block)
{
	lock_map_acquire(&fi->lock_map);
	down_write(&block->lock);
}

/**
 * gmem_lock_block_killable - lock a block exclusively
 * @fi: the file
 * @block: the block
 *
 * Return: 0, or -EINTR if a fatal signal came.
 */
int gmem_lock_block_killable(struct gmemfd_inode *fi, struct gmem_block *block)
{
	lock_map_acquire(&fi->lock_map);
	if (!down_write_killable(&block->lock))
		return 0;
	lock_map_release(&fi->lock_map);
	return -EINTR;
}

/**
 * gmem_unlock_block - undo gmem_lock_block() or gmem_lock_block_killable()
 * @fi: the file
 * @block: the block
 */
void gmem_unlock_block(struct gmemfd_inode *fi, struct gmem_block *block)
{
	up_write(&block->lock);
	lock_map_release(&fi->lock_map);
}

/**
 * gmem_lock_block_shared - lock a block shared, so that it stays as it is
 * @fi: the file
 * @block: the block
 *
 * Return: 0, or -EINTR if a fatal signal came.
 */
int gmem_lock_block_shared(struct gmemfd_inode *fi, struct gmem_block *block)
{
	lock_map_acquire_read(&fi->lock_map);
	if (!down_read_killable(&block->lock))
		return 0;
	lock_map_release(&fi->lock_map);
	return -EINTR;
}

/**
 * gmem_unlock_block_shared - undo gmem_lock_block_shared()
 * @fi: the file
 * @block: the block
 */
void gmem_unlock_block_shared(struct gmemfd_inode *fi, struct gmem_block *block)
{
	up_read(&block->lock);
	lock_map_release(&fi->lock_map);
}

/**
 * gmem_unmap - take pages out of all user page tables [block]
 * @fi: the file
 * @block: the block
 * @lo: first page in it
 * @hi: first page behind
 */
void gmem_unmap(struct gmemfd_inode *fi, struct gmem_block *block,
		unsigned long lo, unsigned long hi)
{
	unmap_mapping_range(fi->inode->i_mapping,
			    (loff_t)gmem_pgoff(fi, block, lo) << PAGE_SHIFT,
			    (loff_t)(hi - lo) << PAGE_SHIFT, 0);
}

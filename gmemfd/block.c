// SPDX-License-Identifier: GPL-2.0
/*
 * The blocks of a file: their locks, and what user page tables have of them.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "gmemfd.h"

#ifdef CONFIG_FAULT_INJECTION
struct fault_attr gmem_fail_attr = {	/* by fail-nth, and silently */
	.interval = 1,
	.times = ATOMIC_INIT(1),
};
#endif

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

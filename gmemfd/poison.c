// SPDX-License-Identifier: GPL-2.0
/*
 * Memory errors.  A poisoned page is never handed out again and nobody gets to
 * it; the rest of its block goes on, in small folios around it, until the block
 * is released.  hugetlb then keeps the block as a whole.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/swap.h>

#include "gmemfd.h"

/* Page @index of the file, which is the block's if it still has @memory. */
static int gmem_poison_in_file(struct gmemfd_inode *fi, struct gmem_memory *memory,
			       pgoff_t index, struct page *page, int flags)
{
	struct gmem_block *block = gmem_block_at(fi, index);
	unsigned long i = gmem_page_in_block(fi, index);
	struct gmem_invalidation inv = {};
	int ret = -EAGAIN, err = 0;

	gmem_lock_block(fi, block);
	if (block->memory != memory || memory->loan.page + i != page)
		goto out;
	/* If it cannot be broken, hugetlb poisons it as a whole. */
	ret = gmem_memory_break(memory) ? -ENOENT : 0;
	if (ret)
		goto out;
	err = gmem_kvm_invalidate_begin(fi, index, index + 1, &inv);
	if (err) {
		ret = err;
		goto out;
	}

	if (flags & MF_COUNT_INCREASED)
		put_page(page);
	ret = gmem_page_poison(page, flags);
	if (!gmem_state_private(&block->state, i)) {
		gmem_unmap_sync(fi, block, i, i + 1);
		gmem_split_poisoned(fi, block, i);
	} else if (gmem_off_direct_map(fi) && gmem_populated(block, i, i + 1)) {
		/* An entry of its own, so that the others come back without memory. */
		gmem_direct_map_remove(page, 1);
	}
out:
	gmem_unlock_block(fi, block);
	gmem_kvm_invalidate_end(&inv);
	if (err)
		gmem_kvm_wait_gone(fi, &inv);
	return ret;
}

/* Page of memory that is in no file any more; under gmem_frames_lock. */
static int gmem_poison_outside_file(struct gmem_memory *memory, struct page *page,
				    int flags)
{
	int ret;

	if (!memory || !memory->broken)
		return -ENOENT;
	/* Nobody has it mapped: it only has to be remembered. */
	ret = gmem_page_poison(page, flags);
	if (flags & MF_COUNT_INCREASED)
		put_page(page);
	return ret;
}

/**
 * gmem_memory_error - a page has a memory error
 * @page: any page of the machine
 * @flags: as for memory_failure(), which calls this
 *
 * Return: -ENOENT if it is nothing to us, or what memory_failure() shall return.
 */
int gmem_memory_error(struct page *page, int flags)
{
	struct gmem_memory *memory;
	struct gmemfd_inode *fi;
	pgoff_t index;
	int ret;

	do {
		ret = -EAGAIN;
		mutex_lock(&gmem_frames_lock);
		memory = gmem_frames_find(page_to_pfn(page));
		if (memory && memory->mending) {
			gmem_frames_wait_mended();
			continue;
		}
		fi = memory ? memory->fi : NULL;
		if (fi) {
			/* The open file's is still there. */
			refcount_inc(&fi->refs);
			index = memory->index + (page - memory->loan.page);
		} else {
			ret = gmem_poison_outside_file(memory, page, flags);
		}
		mutex_unlock(&gmem_frames_lock);

		if (fi) {
			ret = gmem_poison_in_file(fi, memory, index, page, flags);
			gmem_file_put(fi);
		}
	} while (ret == -EAGAIN);
	return ret;
}

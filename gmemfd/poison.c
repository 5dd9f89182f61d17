// SPDX-License-Identifier: GPL-2.0
/*
 * Memory errors.  Nobody gets a poisoned page any more.  The rest of its block remains in
 * use, in small folios around the page, until the block is released.  Then hugetlb keeps
 * the whole block.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/swap.h>

#include "gmemfd.h"

/*
 * A page of a file has a memory error.  It is page @index if the block still has @memory.
 * [takes block]
 */
static int gmem_poison_in_file(struct gmemfd_inode *fi, struct gmem_memory *memory,
			       pgoff_t index, struct page *page, int flags)
{
	struct gmem_block *block = gmem_block_at(fi, index);
	unsigned long i = gmem_page_in_block(fi, index);
	int ret = -EAGAIN;

	gmem_lock_block(fi, block);
	if (block->memory != memory || memory->loan.page + i != page)
		goto out;
	/* If the block cannot be broken, hugetlb poisons all of it. */
	ret = gmem_memory_break(memory) ? -ENOENT : 0;
	if (ret)
		goto out;
	gmem_kvm_invalidate(fi, index, index + 1);
	if (flags & MF_COUNT_INCREASED)
		put_page(page);
	ret = gmem_page_poison(page, flags);
	if (!gmem_state_private(&block->state, i)) {
		gmem_unmap_sync(fi, block, i, i + 1);
		gmem_split_poisoned(fi, block, i);
	} else {
		if (gmem_page_secret(block, i))
			gmem_unmap(fi, block, i, i + 1);
		/* With an entry of its own, its neighbours can return without memory. */
		if (gmem_off_direct_map(fi) && gmem_populated(block, i, i + 1))
			gmem_direct_map_remove(page, 1);
	}
out:
	gmem_unlock_block(fi, block);
	return ret;
}

/* A page of memory that is in no file any more has a memory error.  [frames] */
static int gmem_poison_outside_file(struct gmem_memory *memory, struct page *page,
				    int flags)
{
	int ret;

	if (!memory || !memory->broken)
		return -ENOENT;
	/* Nobody has the page mapped, so marking it is enough. */
	ret = gmem_page_poison(page, flags);
	if (flags & MF_COUNT_INCREASED)
		put_page(page);
	return ret;
}

/**
 * gmem_memory_error - handle a memory error [takes block, frames]
 * @page: any page of the machine
 * @flags: those of memory_failure(), which calls this
 *
 * Return: -ENOENT if memory_failure() has to handle the page, or what it has to return.
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
			gmem_frames_unlock_and_wait_mended();
			continue;
		}
		fi = memory ? memory->fi : NULL;
		if (fi) {
			/* The open file still has its reference. */
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

// SPDX-License-Identifier: GPL-2.0
/*
 * The direct map of a block's pages.  Private pages are out of it unless the file keeps
 * them (GMEMFD_CREATE_KEEP_DIRECT_MAP).  Shared pages are in it, and so is all of a region
 * that is not ready.  Poisoned pages stay out.
 *
 * The lock: a task that changes the entries of a block's pages, or gmem_memory.tables,
 * holds the block's lock exclusively.  It needs no other block's lock, even though one
 * entry can cover the pages of several blocks.  Splitting and merging entries does not
 * change which pages are in the direct map, the shim has its own locks against others who
 * split and merge, and it merges no entry that is exposed or not present.
 *
 * Exposed pages are in the direct map for a while: as nothing is merged with them,
 * neither removing them again nor restoring them for good can fail.
 */
#include <linux/mm.h>

#include "gmemfd.h"

/**
 * gmem_next_run - find pages of one kind [block]
 * @block: a block with memory
 * @kind: which pages
 * @lo: in: where to start; out: first page of the run
 * @end: out: first page behind the run
 * @hi: where to stop
 *
 * Return: false if there is none.
 */
bool gmem_next_run(const struct gmem_block *block, enum gmem_run_kind kind,
		   unsigned long *lo, unsigned long *end, unsigned long hi)
{
	const unsigned long *map = block->memory->ready;
	unsigned long last = DIV_ROUND_UP(hi, GMEM_REGION_PAGES);
	bool ready = kind != GMEM_RUN_UNREADY_PRIVATE;
	bool private = kind != GMEM_RUN_SHARED;

	while (*lo < hi) {
		unsigned long region = *lo >> GMEM_REGION_ORDER, next;

		next = test_bit(region, map) ?
			find_next_zero_bit(map, last, region) :
			find_next_bit(map, last, region);
		next = min(next << GMEM_REGION_ORDER, hi);
		if (test_bit(region, map) != ready) {
			*lo = next;
			continue;
		}
		*end = gmem_state_run(&block->state, *lo, next);
		if (gmem_state_private(&block->state, *lo) == private)
			return true;
		*lo = *end;
	}
	return false;
}

/* Change all pages of one kind in a range, or fail and change none.  [block] */
static int gmem_direct_map_change(const struct gmem_block *block, enum gmem_run_kind kind,
				  unsigned long lo, unsigned long hi,
				  int (*change)(struct page *page, unsigned long nr))
{
	bool remove = change == gmem_direct_map_remove;
	struct gmem_memory *memory = block->memory;
	struct page *page = memory->loan.page;
	unsigned long i, end, failed;
	int err = 0;

	for (i = lo; gmem_next_run(block, kind, &i, &end, hi); i = end) {
		if (i % GMEM_REGION_PAGES)
			__set_bit(i >> GMEM_REGION_ORDER, memory->tables);
		if (end % GMEM_REGION_PAGES)
			__set_bit(end >> GMEM_REGION_ORDER, memory->tables);
		err = change(page + i, end - i);
		if (err)
			break;
	}
	if (!err)
		return 0;

	failed = i;
	for (i = lo; gmem_next_run(block, kind, &i, &end, failed); i = end)
		WARN_ON_ONCE(remove ? gmem_direct_map_restore(page + i, end - i) :
				      gmem_direct_map_remove(page + i, end - i));
	if (!remove && failed > lo)
		gmem_direct_map_flush(page + lo, failed - lo);
	return err;
}

/**
 * gmem_direct_map_remove_shared - take shared pages out of the direct map [block]
 * @block: a block with memory
 * @lo: first page of the range to look in
 * @hi: first page behind it
 *
 * Does not flush.  Regions that are not ready stay as they are.
 *
 * Return: 0, or -ENOMEM with nothing changed.
 */
int gmem_direct_map_remove_shared(const struct gmem_block *block, unsigned long lo,
				  unsigned long hi)
{
	return gmem_direct_map_change(block, GMEM_RUN_SHARED, lo, hi, gmem_direct_map_remove);
}

/**
 * gmem_direct_map_remove_private - take private pages out of the direct map [block]
 * @block: a block with memory
 * @lo: first page of the range to look in
 * @hi: first page behind it
 *
 * Does not flush.  Regions that are not ready stay as they are.  Cannot fail for pages
 * that were exposed.
 *
 * Return: 0, or -ENOMEM with nothing changed.
 */
int gmem_direct_map_remove_private(const struct gmem_block *block, unsigned long lo,
				   unsigned long hi)
{
	return gmem_direct_map_change(block, GMEM_RUN_PRIVATE, lo, hi,
				      gmem_direct_map_remove);
}

/**
 * gmem_direct_map_remove_unready - take private pages out where regions become ready [block]
 * @block: a block with memory
 * @lo: first page of the range to look in
 * @hi: first page behind it
 *
 * Does not flush.  Regions that are ready stay as they are.
 *
 * Return: 0, or -ENOMEM with nothing changed.
 */
int gmem_direct_map_remove_unready(const struct gmem_block *block, unsigned long lo,
				   unsigned long hi)
{
	return gmem_direct_map_change(block, GMEM_RUN_UNREADY_PRIVATE, lo, hi,
				      gmem_direct_map_remove);
}

/**
 * gmem_direct_map_expose_private - have private pages in the direct map for a while [block]
 * @block: a block with memory
 * @lo: first page of the range to look in
 * @hi: first page behind it
 *
 * Return: 0, or -ENOMEM with nothing changed.
 */
int gmem_direct_map_expose_private(const struct gmem_block *block, unsigned long lo,
				   unsigned long hi)
{
	return gmem_direct_map_change(block, GMEM_RUN_PRIVATE, lo, hi,
				      gmem_direct_map_expose);
}

/**
 * gmem_direct_map_restore_private - put private pages back into the direct map [block]
 * @block: a block with memory
 * @lo: first page of the range to look in
 * @hi: first page behind it
 *
 * They may be merged with their neighbours at once, and removing them again may then
 * fail.  Where something else may still fail, pages are exposed first.  Cannot fail for
 * pages that were exposed.
 *
 * Return: 0, or -ENOMEM with nothing changed.
 */
int gmem_direct_map_restore_private(const struct gmem_block *block, unsigned long lo,
				    unsigned long hi)
{
	return gmem_direct_map_change(block, GMEM_RUN_PRIVATE, lo, hi,
				      gmem_direct_map_restore);
}

/**
 * gmem_direct_map_restore_shared - undo gmem_direct_map_remove_shared() [block]
 * @block: a block with memory
 * @lo: first page of the range to look in
 * @hi: first page behind it
 *
 * Cannot fail for pages that were removed under the same lock, unless one is poisoned.
 *
 * Return: 0, or -ENOMEM with nothing changed.
 */
int gmem_direct_map_restore_shared(const struct gmem_block *block, unsigned long lo,
				   unsigned long hi)
{
	return gmem_direct_map_change(block, GMEM_RUN_SHARED, lo, hi, gmem_direct_map_restore);
}

/**
 * gmem_direct_map_merge - merge entries of regions without private pages [block]
 * @memory: the block's memory
 * @first: first region
 * @last: first region behind
 *
 * Merges to 2 MiB where there are tables, and to 1 GiB if all of that is in the direct
 * map.  The 1 GiB of a small block is its neighbours', too.
 */
void gmem_direct_map_merge(struct gmem_memory *memory, unsigned long first,
			   unsigned long last)
{
	unsigned long lo = first, hi;
	bool merged = false;

	for_each_set_bitrange_from(lo, hi, memory->tables, last) {
		bitmap_clear(memory->tables, lo, hi - lo);
		gmem_direct_map_collapse(memory->loan.page + (lo << GMEM_REGION_ORDER),
					 (hi - lo) << GMEM_REGION_ORDER);
		merged = true;
	}
	if (!merged)
		gmem_direct_map_collapse(memory->loan.page +
					 (first << GMEM_REGION_ORDER), 1);
}

/**
 * gmem_direct_map_merge_shared - merge entries of regions that are all shared [block]
 * @block: a block with memory
 * @lo: first page that has become shared
 * @hi: first page behind
 *
 * Merges to 2 MiB where there are tables, and to 1 GiB if all of the block is shared.
 */
void gmem_direct_map_merge_shared(struct gmem_block *block, unsigned long lo,
				  unsigned long hi)
{
	unsigned long last = DIV_ROUND_UP(hi, GMEM_REGION_PAGES);
	unsigned long first = lo >> GMEM_REGION_ORDER, i, end;
	struct gmem_memory *memory = block->memory;
	bool look = block->state.kind == GMEM_ALL_SHARED;

	for (i = first; (i = find_next_bit(memory->tables, last, i)) < last; i = end + 1) {
		for (end = i; end < last && test_bit(end, memory->tables) &&
		     gmem_state_folio_order(&block->state, end << GMEM_REGION_ORDER);)
			end++;
		if (end == i)
			continue;
		gmem_direct_map_merge(memory, i, end);
		look = false;
	}
	if (look)
		gmem_direct_map_merge(memory, first, first);
}

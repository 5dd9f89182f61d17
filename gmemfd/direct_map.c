// SPDX-License-Identifier: GPL-2.0
/*
 * The direct map of a block: runs of its pages leave it and come back.
 */
#include <linux/mm.h>

#include "gmemfd.h"

/**
 * gmem_next_run - find pages in one state
 * @block: with memory
 * @ready: look in regions that are ready, or in those that are not
 * @private: look for private pages, or for shared ones
 * @lo: in: where to start; out: first page of the run
 * @end: out: first page behind the run
 * @hi: where to stop
 *
 * Return: false if there is none.
 */
bool gmem_next_run(const struct gmem_block *block, bool ready, bool private,
		   unsigned long *lo, unsigned long *end, unsigned long hi)
{
	const unsigned long *map = block->memory->ready;
	unsigned long last = DIV_ROUND_UP(hi, GMEM_REGION_PAGES);

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

/**
 * gmem_direct_map_runs - take pages out of the direct map or put them back
 * @block: with memory
 * @ready: as in gmem_next_run()
 * @private: as in gmem_next_run()
 * @lo: first page of the range to look in
 * @hi: first page behind it
 * @change: gmem_direct_map_remove(), _expose() or _restore()
 *
 * All or nothing; but what is restored may be merged with its neighbours at once,
 * and then not be taken out again without memory.  Where something may still fail
 * pages are exposed first.  Does not flush.
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_direct_map_runs(const struct gmem_block *block, bool ready,
			 bool private, unsigned long lo, unsigned long hi,
			 gmem_direct_map_fn *change)
{
	bool remove = change == gmem_direct_map_remove;
	struct gmem_memory *memory = block->memory;
	struct page *page = memory->loan.page;
	unsigned long i, end, failed;
	int err = 0;

	for (i = lo; gmem_next_run(block, ready, private, &i, &end, hi); i = end) {
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
	for (i = lo; gmem_next_run(block, ready, private, &i, &end, failed); i = end)
		WARN_ON_ONCE(remove ? gmem_direct_map_restore(page + i, end - i) :
				      gmem_direct_map_remove(page + i, end - i));
	if (!remove && failed > lo)
		gmem_direct_map_flush(page + lo, failed - lo);
	return err;
}

/**
 * gmem_direct_map_heal - merge the direct map where pages have come back
 * @memory: of which no page of what is to be merged is private any more
 * @first: first region
 * @last: first region behind
 *
 * Merges to 2 MiB where there are tables, and to 1 GiB if all around is there; of
 * small blocks that may take its neighbours.
 */
void gmem_direct_map_heal(struct gmem_memory *memory, unsigned long first,
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

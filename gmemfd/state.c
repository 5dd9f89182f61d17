// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/find.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "state.h"

/**
 * gmem_state_reserve - get the memory that gmem_state_set() needs for part of a block
 * @state: the state of a block, whose lock the caller does not have to hold
 * @nr: pages in the block
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_state_reserve(struct gmem_state *state, unsigned long nr)
{
	unsigned long *map;

	if (READ_ONCE(state->map))
		return 0;
	map = kvmalloc_array(BITS_TO_LONGS(nr), sizeof(long), GMEM_GFP);
	if (!map)
		return -ENOMEM;
	if (cmpxchg(&state->map, NULL, map))	/* another was faster */
		kvfree(map);
	return 0;
}

/**
 * gmem_state_set - set the state of pages [block]
 * @state: the state of a block, after gmem_state_reserve() unless the range is the block
 * @nr: pages in the block
 * @lo: first page
 * @hi: first page behind the range
 * @private: whether the pages become private
 */
void gmem_state_set(struct gmem_state *state, unsigned long nr,
		    unsigned long lo, unsigned long hi, bool private)
{
	enum gmem_state_kind uniform = private ? GMEM_ALL_PRIVATE :
						 GMEM_ALL_SHARED;
	unsigned long changed = 0, i, end;

	if (state->kind == uniform)
		return;
	if (hi - lo == nr) {
		WRITE_ONCE(state->kind, uniform);
		state->map_valid = false;
		return;
	}

	if (state->kind != GMEM_MIXED) {
		state->nr_private = gmem_state_nr_private(state, nr);
		if (!state->map_valid) {
			if (state->nr_private)
				bitmap_fill(state->map, nr);
			else
				bitmap_zero(state->map, nr);
		}
		state->map_valid = true;
		/* gmem_state_peek() finds the map when it finds this. */
		smp_store_release(&state->kind, GMEM_MIXED);
	}
	/* The count tells whether the block is uniform without a look at all of it. */
	for (i = lo; i < hi; i = end) {
		end = gmem_state_run(state, i, hi);
		if (gmem_state_private(state, i) != private)
			changed += end - i;
	}
	if (private) {
		bitmap_set(state->map, lo, hi - lo);
		state->nr_private += changed;
	} else {
		bitmap_clear(state->map, lo, hi - lo);
		state->nr_private -= changed;
	}
	if (state->nr_private == (private ? nr : 0))
		WRITE_ONCE(state->kind, uniform);
}

/**
 * gmem_state_free - undo gmem_state_reserve()
 * @state: the state of a block that nobody can find any more
 */
void gmem_state_free(struct gmem_state *state)
{
	kvfree(state->map);
}

/**
 * gmem_state_private - is a page private? [block shared]
 * @state: the state of a block
 * @i: the page, counted in the block
 *
 * Return: true if private, false if shared.
 */
bool gmem_state_private(const struct gmem_state *state, unsigned long i)
{
	if (state->kind == GMEM_MIXED)
		return test_bit(i, state->map);
	return state->kind == GMEM_ALL_PRIVATE;
}

/**
 * gmem_state_peek - was a page private a moment ago?
 * @state: the state of a block, whose lock the caller does not have to hold
 * @i: the page, counted in the block
 *
 * Return: what gmem_state_private() returned at some moment since the call began.
 */
bool gmem_state_peek(const struct gmem_state *state, unsigned long i)
{
	/* Pairs with gmem_state_set(). */
	enum gmem_state_kind kind = smp_load_acquire(&state->kind);

	if (kind == GMEM_MIXED)
		/* The bit may be about to change, and either is right. */
		return data_race(test_bit(i, READ_ONCE(state->map)));
	return kind == GMEM_ALL_PRIVATE;
}

/**
 * gmem_state_run - find where the state changes [block shared]
 * @state: the state of a block
 * @lo: a page
 * @hi: where to stop looking
 *
 * Return: the first page after @lo in another state, @hi if there is none.
 */
unsigned long gmem_state_run(const struct gmem_state *state, unsigned long lo,
			     unsigned long hi)
{
	if (state->kind != GMEM_MIXED)
		return hi;
	if (test_bit(lo, state->map))
		return find_next_zero_bit(state->map, hi, lo);
	return find_next_bit(state->map, hi, lo);
}

/**
 * gmem_state_folio_order - how large may the folio of a page be? [block shared]
 * @state: the state of a broken block
 * @i: the page, counted in the block
 *
 * Return: GMEM_REGION_ORDER if the page's region is all private or all shared,
 * otherwise 0.
 */
unsigned int gmem_state_folio_order(const struct gmem_state *state,
				    unsigned long i)
{
	unsigned long lo = round_down(i, GMEM_REGION_PAGES);
	unsigned long hi = lo + GMEM_REGION_PAGES;

	return gmem_state_run(state, lo, hi) == hi ? GMEM_REGION_ORDER : 0;
}

/**
 * gmem_state_nr_private - count private pages [block shared]
 * @state: the state of a block
 * @nr: pages in the block
 *
 * Return: how many of them are private.
 */
unsigned long gmem_state_nr_private(const struct gmem_state *state,
				    unsigned long nr)
{
	if (state->kind == GMEM_MIXED)
		return state->nr_private;
	return state->kind == GMEM_ALL_PRIVATE ? nr : 0;
}

/**
 * gmem_range_ok - check a range of bytes from user space
 * @offset: its start
 * @size: its length
 * @file_size: the range must not end behind this
 *
 * Return: true if the range is not empty, consists of whole pages, and is in the file.
 */
bool gmem_range_ok(u64 offset, u64 size, u64 file_size)
{
	u64 end;

	return size && PAGE_ALIGNED(offset) && PAGE_ALIGNED(size) &&
	       !check_add_overflow(offset, size, &end) && end <= file_size;
}

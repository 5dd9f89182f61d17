/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The state of the pages of one block, private or shared, and arithmetic on ranges.
 * This file knows nothing of memory, so that KUnit can test it alone.
 */
#ifndef _GMEMFD_STATE_H
#define _GMEMFD_STATE_H

#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/types.h>

/*
 * For calls that may return ENOMEM: at a cgroup's limit they fail, and do not have a task
 * killed.
 */
#define GMEM_GFP	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/*
 * Memory is zeroed, split and mapped by regions.  A region is what one PMD maps.  A broken
 * block has one folio for a region, or 4 KiB folios where private and shared meet.
 */
#define GMEM_REGION_ORDER	PMD_ORDER
#define GMEM_REGION_PAGES	BIT(GMEM_REGION_ORDER)

enum gmem_state_kind {
	GMEM_ALL_PRIVATE,
	GMEM_ALL_SHARED,
	GMEM_MIXED,
};

/**
 * struct gmem_state - the state of a block's pages
 * @kind: which of them are private
 * @map_valid: @map agrees with @kind, as it always does for GMEM_MIXED
 * @nr_private: how many pages are private; meaningful only for GMEM_MIXED
 * @map: a bit for each page, set if it is private; NULL until gmem_state_reserve(), which
 *	takes no lock.  The bitmap stays, since a block that was mixed once will be again.
 *
 * The block's lock protects all but the pointer @map.  gmem_state_peek() reads without it: @map
 * agrees with @kind when @kind becomes GMEM_MIXED, and the bits of pages that keep their
 * state do not change while it is.
 */
struct gmem_state {
	enum gmem_state_kind kind;
	bool map_valid;
	unsigned int nr_private;
	unsigned long *map;
};

int gmem_state_reserve(struct gmem_state *state, unsigned long nr);
void gmem_state_set(struct gmem_state *state, unsigned long nr,
		    unsigned long lo, unsigned long hi, bool private);
void gmem_state_free(struct gmem_state *state);
bool gmem_state_private(const struct gmem_state *state, unsigned long i);
bool gmem_state_peek(const struct gmem_state *state, unsigned long i);
unsigned long gmem_state_run(const struct gmem_state *state, unsigned long lo,
			     unsigned long hi);
unsigned long gmem_state_nr_private(const struct gmem_state *state,
				    unsigned long nr);

unsigned int gmem_state_folio_order(const struct gmem_state *state,
				    unsigned long i);

bool gmem_range_ok(u64 offset, u64 size, u64 file_size);

#endif /* _GMEMFD_STATE_H */

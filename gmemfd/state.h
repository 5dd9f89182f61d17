/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The private or shared state of the pages of one block, and arithmetic on
 * ranges.  Knows nothing of memory; KUnit tests it by itself.
 */
#ifndef _GMEMFD_STATE_H
#define _GMEMFD_STATE_H

#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/types.h>

/* For calls that can say ENOMEM: at a cgroup's limit, too, and nobody is killed. */
#define GMEM_GFP	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/*
 * The unit in which memory is zeroed, split and mapped: what one PMD maps.
 * A broken block has a folio per region, or 4 KiB folios in regions where
 * private and shared meet.
 */
#define GMEM_REGION_ORDER	PMD_ORDER
#define GMEM_REGION_PAGES	BIT(GMEM_REGION_ORDER)

enum gmem_state_kind {
	GMEM_ALL_PRIVATE,
	GMEM_ALL_SHARED,
	GMEM_MIXED,
};

/**
 * struct gmem_state - state of a block's pages
 * @kind: which of them are private
 * @map_valid: @map agrees with @kind, as it always does for GMEM_MIXED
 * @nr_private: how many; meaningful only for GMEM_MIXED
 * @map: a bit per page, set for private; NULL until gmem_state_reserve(), which
 *	takes no lock.  It stays: a block that was mixed once will be again
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
unsigned long gmem_state_run(const struct gmem_state *state, unsigned long lo,
			     unsigned long hi);
unsigned long gmem_state_nr_private(const struct gmem_state *state,
				    unsigned long nr);

unsigned int gmem_state_folio_order(const struct gmem_state *state,
				    unsigned long i);

bool gmem_range_ok(u64 offset, u64 size, u64 file_size);

#endif /* _GMEMFD_STATE_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The private or shared state of the pages of one block, and arithmetic on
 * ranges.  Knows nothing of memory; KUnit tests it by itself.
 */
#ifndef _GMEMFD_STATE_H
#define _GMEMFD_STATE_H

#include <linux/types.h>

enum gmem_state_kind {
	GMEM_ALL_PRIVATE,
	GMEM_ALL_SHARED,
	GMEM_MIXED,
};

/**
 * struct gmem_state - state of a block's pages
 * @kind: which of them are private
 * @map: a bit per page, set for private; meaningful only for GMEM_MIXED,
 *	otherwise NULL or set aside by gmem_state_reserve()
 */
struct gmem_state {
	enum gmem_state_kind kind;
	unsigned long *map;
};

int gmem_state_reserve(struct gmem_state *state, unsigned long nr,
		       unsigned long lo, unsigned long hi, bool private);
void gmem_state_set(struct gmem_state *state, unsigned long nr,
		    unsigned long lo, unsigned long hi, bool private);
void gmem_state_trim(struct gmem_state *state);
bool gmem_state_private(const struct gmem_state *state, unsigned long i);
unsigned long gmem_state_run(const struct gmem_state *state, unsigned long lo,
			     unsigned long hi);
unsigned long gmem_state_nr_private(const struct gmem_state *state,
				    unsigned long nr);

/* Are the pages [lo, hi) all private or all shared? */
static inline bool gmem_state_uniform(const struct gmem_state *state,
				      unsigned long lo, unsigned long hi)
{
	return gmem_state_run(state, lo, hi) == hi;
}

bool gmem_range_ok(u64 offset, u64 size, u64 file_size);

#endif /* _GMEMFD_STATE_H */

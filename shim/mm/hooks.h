/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls from core mm into the shim, and functions of core mm that are not static any more
 * because the shim calls them.
 */
#ifndef __MM_GMEM_HOOKS_H
#define __MM_GMEM_HOOKS_H

#include <linux/gmem_shim.h>

struct hstate;

#ifdef CONFIG_GMEM_SHIM
void __gmem_folio_free(struct folio *folio);
int gmem_memory_failure(struct page *page, int flags);
void gmem_loans_reparent(struct hugetlb_cgroup *from);
#else
static inline int gmem_memory_failure(struct page *page, int flags)
{
	return -ENOENT;
}

static inline void gmem_loans_reparent(struct hugetlb_cgroup *from) { }
#endif

/* Does hugetlb or the shim free @folio?  An ordinary folio costs one comparison. */
static inline bool gmem_folio_owned(const struct folio *folio)
{
#ifdef CONFIG_GMEM_SHIM
	/* @folio has no reference left: nobody changes its type. */
	if (likely(data_race(folio->page.page_type) == UINT_MAX))
		return false;
	return folio_test_hugetlb(folio) || gmem_folio_marked(folio);
#else
	return folio_test_hugetlb(folio);
#endif
}

/* Returns true if @folio, whose refcount is 0, has gone to its owner. */
static inline bool gmem_folio_free(struct folio *folio)
{
#ifdef CONFIG_GMEM_SHIM
	if (unlikely(gmem_folio_marked(folio))) {
		__gmem_folio_free(folio);
		return true;
	}
#endif
	return false;
}

/* mempolicy.c */
nodemask_t *policy_nodemask(gfp_t gfp, struct mempolicy *pol, pgoff_t ilx, int *nid);

#endif /* __MM_GMEM_HOOKS_H */

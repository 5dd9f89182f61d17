/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is different in core mm from kernel series to kernel series.  No other file of
 * the shim's part of mm asks which kernel it is.
 */
#ifndef __MM_GMEM_COMPAT_H
#define __MM_GMEM_COMPAT_H

#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/version.h>

#include "../internal.h"
#include "hooks.h"

#define GMEM_SINCE_7_3	(LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0))
#define GMEM_UNTIL_6_12	(LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0))

#if GMEM_UNTIL_6_12 && defined(MODULE)
bool gmem_is_for_caller(unsigned long caller);
#else
/* The loader lets in whom the shim is for, and nobody else. */
static inline bool gmem_is_for_caller(unsigned long caller)
{
	return true;
}
#endif

#if !GMEM_SINCE_7_3 || defined(MODULE)
#define GMEM_SPECIAL_ORDER	0
#else
#define GMEM_SPECIAL_ORDER	PMD_ORDER
#endif

/* A reserved folio out of the pool, with one reference, or an error pointer. */
struct folio *gmem_alloc_folio(struct hstate *h, struct mempolicy *policy,
			       pgoff_t index, int nid);

#if GMEM_UNTIL_6_12

#include <linux/pagevec.h>	/* of folio batches */

#define GMEM_LAST_PAGE_TYPE	PGTY_unaccepted

static inline unsigned long *gmem_page_flags(struct page *page)
{
	return &page->flags;
}

static inline void gmem_clear_page_index(struct page *page)
{
	page->index = 0;
}

/* Page @i of the folio of @order at @head knows the way to the head. */
static inline void gmem_set_head(struct page *head, unsigned long i, unsigned int order)
{
	set_compound_head(head + i, head);
}

static inline void gmem_prep_tail(struct page *head, unsigned long i, unsigned int order)
{
	prep_compound_tail(head, i);
}

/* hugetlb's own is static. */
static inline void gmem_init_hugetlb(struct hstate *h, struct folio *folio)
{
	__folio_set_hugetlb(folio);
	INIT_LIST_HEAD(&folio->lru);
	hugetlb_set_folio_subpool(folio, NULL);
	set_hugetlb_cgroup(folio, NULL);
	set_hugetlb_cgroup_rsvd(folio, NULL);
}

/* KVM looks at the struct page of whatever it maps: it has to know which are ours. */
int gmem_loan_track(struct gmem_loan *loan);
void gmem_loan_untrack(struct gmem_loan *loan);

void gmem_reset_head_copies(struct page *head, unsigned int order);

static inline void gmem_reset_tail_copies(struct page *head, unsigned int order,
					  bool optimized) { }

#else /* 7.2 and later */

#include <linux/folio_batch.h>
#include "../hugetlb_internal.h"

#define GMEM_LAST_PAGE_TYPE	PGTY_large_kmalloc

static inline unsigned long *gmem_page_flags(struct page *page)
{
	return &page->flags.f;
}

static inline void gmem_clear_page_index(struct page *page)
{
	page->__folio_index = 0;
}

/* Page @i of the folio of @order at @head knows the way to the head. */
static inline void gmem_set_head(struct page *head, unsigned long i, unsigned int order)
{
	set_compound_head(head + i, head, order);
}

static inline void gmem_prep_tail(struct page *head, unsigned long i, unsigned int order)
{
	prep_compound_tail(head + i, head, order);
}

static inline void gmem_init_hugetlb(struct hstate *h, struct folio *folio)
{
	init_new_hugetlb_folio(folio);
}

static inline int gmem_loan_track(struct gmem_loan *loan)
{
	return 0;
}

static inline void gmem_loan_untrack(struct gmem_loan *loan) { }

static inline void gmem_reset_head_copies(struct page *head, unsigned int order) { }
void gmem_reset_tail_copies(struct page *head, unsigned int order, bool optimized);

#endif

#if GMEM_SINCE_7_3

static inline void gmem_subpool_hold(struct hugepage_subpool *spool) { }

static inline void gmem_subpool_drop(struct hugepage_subpool *spool)
{
	hugepage_put_subpool(spool);
}

static inline void gmem_free_hugetlb(struct folio *folio)
{
	folio_put(folio);
}

#else

/* A loan has a handle of its subpool. */
void gmem_subpool_hold(struct hugepage_subpool *spool);
void gmem_subpool_drop(struct hugepage_subpool *spool);
void gmem_free_hugetlb(struct folio *folio);

struct folio *alloc_surplus_hugetlb_folio(struct hstate *h, gfp_t gfp_mask, int nid,
					  nodemask_t *nmask);
#endif

#endif /* __MM_GMEM_COMPAT_H */

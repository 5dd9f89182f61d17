/* SPDX-License-Identifier: GPL-2.0 */
/* What the shim uses of mm/hugetlb_vmemmap.h, for a kernel that is built. */
#ifndef __GMEM_PRIVATE_HUGETLB_VMEMMAP_H
#define __GMEM_PRIVATE_HUGETLB_VMEMMAP_H

#include <linux/hugetlb.h>

/* HVO keeps one page of struct pages. */
#define HUGETLB_VMEMMAP_RESERVE_PAGES	(PAGE_SIZE / sizeof(struct page))

#ifdef CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP
int hugetlb_vmemmap_restore_folio(const struct hstate *h, struct folio *folio);
void hugetlb_vmemmap_optimize_folio(const struct hstate *h, struct folio *folio);
#else
static inline int hugetlb_vmemmap_restore_folio(const struct hstate *h,
						struct folio *folio)
{
	return 0;
}

static inline void hugetlb_vmemmap_optimize_folio(const struct hstate *h,
						  struct folio *folio) { }
#endif

#endif /* __GMEM_PRIVATE_HUGETLB_VMEMMAP_H */

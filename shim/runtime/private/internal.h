/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the shim uses of mm/internal.h, for a kernel that is built.  Prototypes are
 * compared with the kernel's BTF.
 */
#ifndef __GMEM_PRIVATE_INTERNAL_H
#define __GMEM_PRIVATE_INTERNAL_H

#include <linux/mm.h>

/* A folio of this order begins here.  Nobody has it mapped or pinned. */
static inline void prep_compound_head(struct page *page, unsigned int order)
{
	struct folio *folio = (struct folio *)page;

	/* The order is the low byte of a word of flags of which the rest are clear. */
	folio->_flags_1 = (folio->_flags_1 & ~0xffUL) | order;
#ifdef NR_PAGES_IN_LARGE_FOLIO
	folio->_nr_pages = 1U << order;
#else
	folio->_folio_nr_pages = 1U << order;
#endif
	atomic_set(&folio->_large_mapcount, -1);
	if (!IS_ENABLED(CONFIG_NO_PAGE_MAPCOUNT))
		atomic_set(&folio->_nr_pages_mapped, 0);
#ifdef CONFIG_MM_ID
	folio->_mm_ids = 0;
	folio->_mm_id_mapcount[0] = -1;
	folio->_mm_id_mapcount[1] = -1;
#endif
	atomic_set(&folio->_pincount, 0);
	atomic_set(&folio->_entire_mapcount, -1);
	if (order > 1)
		INIT_LIST_HEAD(&folio->_deferred_list);
}

#ifdef NR_PAGES_IN_LARGE_FOLIO
static inline void prep_compound_tail(struct page *tail, const struct page *head,
				      unsigned int order)
{
	tail->mapping = TAIL_MAPPING;
	set_compound_head(tail, head, order);
}
#else	/* Linux 6.12 */
static inline void prep_compound_tail(struct page *head, int i)
{
	head[i].mapping = TAIL_MAPPING;
	set_compound_head(head + i, head);
	set_page_private(head + i, 0);
}
#endif

#endif /* __GMEM_PRIVATE_INTERNAL_H */

// SPDX-License-Identifier: GPL-2.0
/*
 * Folio geometry: one folio becomes several, and several become one.
 */
#include <linux/sched.h>

#include "compat.h"
#include "geometry.h"

/**
 * gmem_reset_page - bring a page back to what prep_compound_page() expects
 * @page: part of whatever folio of whatever order
 *
 * Poison stays: it belongs to the page.
 */
void gmem_reset_page(struct page *page)
{
	*gmem_page_flags(page) &= ~PAGE_FLAGS_CHECK_AT_PREP;
	clear_compound_head(page);
	page->mapping = NULL;
	gmem_clear_page_index(page);
	set_page_private(page, 0);
#ifdef CONFIG_MEMCG
	page->memcg_data = 0;
#endif
	atomic_set(&page->_mapcount, -1);
	set_page_count(page, 0);
}

/**
 * gmem_nr_first_pages - how many pages of a folio have fields of its own?
 * @order: order of the folio
 *
 * The pages behind them know nothing but the way to the head.
 */
unsigned long gmem_nr_first_pages(unsigned int order)
{
	return min(1UL << order, sizeof(struct folio) / sizeof(struct page));
}

/**
 * gmem_reset_folio - gmem_reset_page() for all that a folio has of its own
 * @page: its first page
 * @order: its order
 */
void gmem_reset_folio(struct page *page, unsigned int order)
{
	unsigned long nr = gmem_nr_first_pages(order);

	while (nr--)
		gmem_reset_page(page + nr);
}

/**
 * gmem_cut - make frozen folios of a frozen folio
 * @page: its first page
 * @from: its order
 * @order: order of the pieces
 */
void gmem_cut(struct page *page, unsigned int from, unsigned int order)
{
	unsigned long i = 1UL << from, nr, tail;

	/* Backwards, because tails point at their old head until then. */
	if (!order) {
		while (i--) {
			clear_compound_head(page + i);
			page[i].mapping = NULL;
		}
		gmem_reset_folio(page, from);
		return;
	}
	/* prep_compound_page(), apart from what tails are already. */
	nr = order == from ? gmem_nr_first_pages(order) : 1UL << order;
	while (i) {
		i -= 1UL << order;
		gmem_reset_folio(page + i, order);
		__SetPageHead(page + i);
		for (tail = 1; tail < gmem_nr_first_pages(order); tail++)
			gmem_prep_tail(page + i, tail, order);
		for (; tail < nr; tail++)
			gmem_set_head(page + i, tail, order);
		VM_WARN_ON_ONCE_PAGE(page[i + (1UL << order) - 1].mapping != TAIL_MAPPING,
				     page + i);
		prep_compound_head(page + i, order);
		cond_resched();
	}
}

/**
 * gmem_folio_split - cut a folio into folios of a smaller order
 * @folio: frozen, not hugetlb, in no list and no page table
 * @order: order of the pieces, which are frozen too
 *
 * page_owner and allocation tags go on seeing one allocation: the pieces are
 * never given to the page allocator, only the whole is.
 */
void gmem_folio_split(struct folio *folio, unsigned int order)
{
	VM_WARN_ON_ONCE_FOLIO(folio_ref_count(folio) || folio_test_hugetlb(folio), folio);
	gmem_cut(&folio->page, folio_order(folio), order);
}
EXPORT_SYMBOL_GMEM(gmem_folio_split);

/**
 * gmem_folio_join - make one folio of a run of small folios
 * @page: first page, naturally aligned
 * @order: order of the new folio; everything in it must be frozen
 *
 * Return: the new folio, frozen.
 */
struct folio *gmem_folio_join(struct page *page, unsigned int order)
{
	unsigned long i;

	gmem_reset_page(page);
	__SetPageHead(page);
	for (i = 1; i < 1UL << order; i++) {
		/* A small folio that is frozen and not mapped has nothing else of its own. */
		*gmem_page_flags(page + i) &= ~PAGE_FLAGS_CHECK_AT_PREP;
		gmem_prep_tail(page, i, order);
	}
	prep_compound_head(page, order);
	return page_folio(page);
}
EXPORT_SYMBOL_GMEM(gmem_folio_join);

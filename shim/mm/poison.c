// SPDX-License-Identifier: GPL-2.0
/*
 * Memory errors in the module's pages.  This is part of ../memory-failure.c, whose
 * static functions find and tell the processes.
 */

/**
 * gmem_page_poison - mark a page, and tell the processes that have it mapped
 * @page: a page that is not hugetlb's at the moment and not freed meanwhile.  If it is
 *	mapped, the caller unmaps it afterwards
 * @flags: memory_failure()'s
 *
 * Return: what memory_failure() shall return.
 */
int gmem_page_poison(struct page *page, int flags)
{
	bool known = TestSetPageHWPoison(page);
	struct folio *folio = page_folio(page);
	unsigned long pfn = page_to_pfn(page);
	struct to_kill *tk;
	LIST_HEAD(tokill);

	if (folio_mapped(folio)) {
		folio_lock(folio);
		collect_procs(folio, page, &tokill, flags & MF_ACTION_REQUIRED);
		folio_unlock(folio);
		/* Only this page is lost, however large the mapping is. */
		list_for_each_entry(tk, &tokill, nd)
			tk->size_shift = PAGE_SHIFT;
		kill_procs(&tokill, true, pfn, flags);
	}
	if (known) {
		action_result(pfn, MF_MSG_ALREADY_POISONED, MF_FAILED);
		return -EHWPOISON;
	}
	return action_result(pfn, MF_MSG_HUGE, MF_RECOVERED);
}
EXPORT_SYMBOL_GMEM(gmem_page_poison);

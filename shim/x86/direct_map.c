// SPDX-License-Identifier: GPL-2.0
/*
 * Pages leave the direct map and come back, and its entries are as large afterwards as
 * before.  This is part of ../set_memory.c, whose static functions do the work.
 *
 * A change can be undone without keeping others out.  Only splitting a large entry can
 * fail, and every change does that first.  Nobody merges entries that are not present,
 * nor those marked GMEM_PAGE_EXPOSED.  So it takes no memory to take exposed pages out
 * again, or to put back what was taken out.  A table of 4 KiB entries is merged only by
 * gmem_direct_map_collapse() for its own pages, and the caller never runs that beside
 * another change of these pages.  2 MiB entries are merged to 1 GiB when this is called for
 * any of them.
 *
 * Poisoned pages stay out: the machine check handler has taken them out so that the
 * CPU does not speculate into them.
 */
#include <linux/cleanup.h>
#include <linux/gmem_shim.h>

#include "compat.h"

/* In the direct map for a while; set in no other entry of it. */
#define GMEM_PAGE_EXPOSED	_PAGE_SOFTW1

/* How much is looked at and merged while others are kept out of the direct map. */
#define GMEM_COLLAPSE_STEP	(16 * PMD_SIZE)

enum gmem_presence {
	GMEM_REMOVED,
	GMEM_EXPOSED,
	GMEM_RESTORED,
};

static pgprotval_t gmem_set_bits(enum gmem_presence presence)
{
	pgprotval_t set = _PAGE_PRESENT | _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED |
			  _PAGE_GLOBAL;

	if (presence == GMEM_REMOVED)
		return 0;
	if (presence == GMEM_EXPOSED)
		set |= GMEM_PAGE_EXPOSED;
	return set & __default_kernel_pte_mask;
}

static pgprotval_t gmem_clear_bits(enum gmem_presence presence)
{
	switch (presence) {
	case GMEM_REMOVED:
		return _PAGE_PRESENT | _PAGE_RW | _PAGE_DIRTY | _PAGE_GLOBAL |
		       GMEM_PAGE_EXPOSED;
	case GMEM_EXPOSED:
		return 0;
	default:
		return GMEM_PAGE_EXPOSED;
	}
}

static pgprotval_t gmem_new_bits(pgprotval_t old, enum gmem_presence presence)
{
	return (old & ~gmem_clear_bits(presence)) | gmem_set_bits(presence);
}

/* As CPA does, clear the bit that makes a leaf together with the one for present. */
static pgprot_t gmem_new_leaf(pgprotval_t old, enum gmem_presence presence)
{
	pgprotval_t prot = gmem_new_bits(old & ~_PAGE_PSE, presence);

	return __pgprot(prot & _PAGE_PRESENT ? prot | _PAGE_PSE : prot);
}

/* A table of 4 KiB entries stays until its pages are merged: no entry needs the mark. */
static void gmem_change_ptes(pte_t *pte, unsigned long nr, enum gmem_presence presence)
{
	if (presence == GMEM_EXPOSED)
		presence = GMEM_RESTORED;
	for (; nr; nr--, pte++)
		set_pte_atomic(pte, pfn_pte(pte_pfn(*pte),
					    __pgprot(gmem_new_bits(pte_flags(*pte),
								   presence))));
}

/*
 * Change one large entry, or the entries of one table of 4 KiB.  CPA would ask for each
 * whether it is kernel text or has aliases, which huge pages never are or have.  Tables
 * of the direct map come and go under cpa_lock.
 *
 * Return: the number of pages changed; 0 if the entry covers other pages, too, and has
 * to be split.
 */
static unsigned long gmem_change_entry(unsigned long addr, unsigned long nr,
				       enum gmem_presence presence)
{
	unsigned int level;
	unsigned long pfn;
	pgprotval_t old;
	pte_t *entry;

	guard(spinlock)(&cpa_lock);
	entry = lookup_address(addr, &level);
	if (!entry)
		return 0;
	if (level == PG_LEVEL_4K) {
		nr = min(nr, PTRS_PER_PTE - pte_index(addr));
		gmem_change_ptes(entry, nr, presence);
		return nr;
	}
	if (!IS_ALIGNED(addr, page_level_size(level)) ||
	    nr < page_level_size(level) / PAGE_SIZE)
		return 0;
	pfn = level == PG_LEVEL_2M ? pmd_pfn(*(pmd_t *)entry) : pud_pfn(*(pud_t *)entry);
	old = level == PG_LEVEL_2M ? pmd_flags(*(pmd_t *)entry) : pud_flags(*(pud_t *)entry);
	/* pfn_pmd() would keep fewer bits of the address of an entry that is no leaf. */
	set_pte_atomic(entry, pfn_pte(pfn, gmem_new_leaf(old, presence)));
	return page_level_size(level) / PAGE_SIZE;
}

/* The 2 MiB entry of @addr if it is not present, otherwise NULL.  Under cpa_lock. */
static pmd_t *gmem_absent_pmd(unsigned long addr)
{
	unsigned int level;
	pte_t *entry = lookup_address(addr, &level);

	if (!entry || level != PG_LEVEL_2M || pte_flags(*entry) & _PAGE_PRESENT)
		return NULL;
	return (pmd_t *)entry;
}

/*
 * Make a table of a 2 MiB entry that is not present.  CPA would have all CPUs flush, but
 * no TLB has such an entry.
 *
 * Return: 1, 0 if @addr has another kind of entry, or -ENOMEM.
 */
static int gmem_split_absent(unsigned long addr)
{
	pte_t *table, entry;
	pmd_t *pmd;

	scoped_guard(spinlock, &cpa_lock)
		pmd = gmem_absent_pmd(addr);
	if (!pmd)
		return 0;
	table = pte_alloc_one_kernel(&init_mm);
	if (!table)
		return -ENOMEM;

	scoped_guard(spinlock, &cpa_lock) {
		guard(spinlock)(&pgd_lock);
		pmd = gmem_absent_pmd(addr);
		if (pmd) {
			entry = pfn_pte(pmd_pfn(*pmd),
					pgprot_large_2_4k(pmd_pgprot(*pmd)));
			set_ptes(&init_mm, addr, table, entry, PTRS_PER_PTE);
			paravirt_alloc_pte(&init_mm, page_to_pfn(virt_to_page(table)));
			split_page_count(PG_LEVEL_2M);
			__set_pmd_pte((pte_t *)pmd, addr,
				      mk_pte(virt_to_page(table),
					     __pgprot(_KERNPG_TABLE)));
		}
	}
	if (!pmd)
		pte_free_kernel(&init_mm, table);
	return 1;
}

/* CPA splits an entry of which only a part changes. */
static int gmem_split_and_change(unsigned long addr, unsigned long nr,
				 enum gmem_presence presence)
{
	struct cpa_data cpa = {
		.vaddr = &addr,
		.numpages = nr,
		.mask_set = __pgprot(gmem_set_bits(presence)),
		.mask_clr = __pgprot(gmem_clear_bits(presence)),
		.flags = CPA_NO_CHECK_ALIAS,
	};

	return gmem_change_by_cpa(&cpa);
}

/*
 * Change part of one 2 MiB region, or whole regions of one 1 GiB.  All or nothing: only
 * the first step can need a split, and only a split can fail.
 */
static int gmem_change_part(unsigned long addr, unsigned long nr,
			    enum gmem_presence presence)
{
	unsigned long first = nr % PTRS_PER_PTE ? 1 : PTRS_PER_PTE;
	int ret;

	while (nr) {
		unsigned long done = gmem_change_entry(addr, nr, presence);

		if (!done) {
			ret = gmem_split_absent(addr);
			if (ret < 0)
				return ret;
			if (ret)
				continue;
			ret = gmem_split_and_change(addr, first, presence);
			if (ret)
				return ret;
			done = first;
		}
		addr += done * PAGE_SIZE;
		nr -= done;
	}
	return 0;
}

static int gmem_change_healthy(struct page *page, unsigned long nr,
			       enum gmem_presence presence);

/* Change pages of one 1 GiB, all or nothing. */
static int gmem_change_run(struct page *page, unsigned long nr,
			   enum gmem_presence presence)
{
	enum gmem_presence undo = presence == GMEM_REMOVED ? GMEM_RESTORED : GMEM_REMOVED;
	unsigned long addr = (unsigned long)page_address(page);
	unsigned long pfn = page_to_pfn(page), lo, hi;
	int err;

	/* Usually there is nothing to split. */
	if (pfn % PTRS_PER_PTE + nr <= PTRS_PER_PTE &&
	    gmem_change_entry(addr, nr, presence))
		return 0;

	/* The parts of regions at both ends, and what is between them. */
	lo = min(ALIGN(pfn, PTRS_PER_PTE) - pfn, nr);
	hi = max(ALIGN_DOWN(pfn + nr, PTRS_PER_PTE), pfn + lo) - pfn;
	err = gmem_change_part(addr, lo, presence);
	if (err)
		return err;
	err = gmem_change_part(addr + hi * PAGE_SIZE, nr - hi, presence);
	if (err)
		goto err_lo;
	err = gmem_change_part(addr + lo * PAGE_SIZE, hi - lo, presence);
	if (err)
		goto err_hi;
	return 0;

err_hi:
	gmem_change_healthy(page + hi, nr - hi, undo);
err_lo:
	gmem_change_healthy(page, lo, undo);
	return err;
}

/* The number of pages from @i on that are all poisoned, or all not. */
static unsigned long gmem_poison_run(struct page *page, unsigned long i,
				     unsigned long nr)
{
	unsigned long start = i;

	while (i < nr && PageHWPoison(page + i) == PageHWPoison(page + start))
		i++;
	return i - start;
}

/* Most machines have no poisoned page: nobody looks for one there. */
static bool gmem_any_poisoned(struct page *page, unsigned long nr)
{
	if (!gmem_any_page_poisoned())
		return false;
	return PageHWPoison(page) || gmem_poison_run(page, 0, nr) < nr;
}

/* Change all pages that are not poisoned.  If this fails some may have changed. */
static int gmem_change_healthy(struct page *page, unsigned long nr,
			       enum gmem_presence presence)
{
	unsigned long i, run;
	int err = 0;

	for (i = 0; !err && (run = gmem_poison_run(page, i, nr)); i += run) {
		if (!PageHWPoison(page + i))
			err = gmem_change_run(page + i, run, presence);
	}
	return err;
}

static int gmem_change_direct_map(struct page *page, unsigned long nr,
				  enum gmem_presence presence)
{
	int err;

	if (presence == GMEM_REMOVED)
		return gmem_change_run(page, nr, presence);
	if (!gmem_any_poisoned(page, nr)) {
		err = gmem_change_run(page, nr, presence);
	} else {
		/* There is more than one run, and a later one may fail. */
		err = gmem_change_healthy(page, nr, GMEM_EXPOSED);
		if (err)
			gmem_change_run(page, nr, GMEM_REMOVED);
		else if (presence == GMEM_RESTORED)
			gmem_change_healthy(page, nr, GMEM_RESTORED);
	}
	/* Some of the pages may have been present for a moment. */
	if (err)
		gmem_direct_map_flush(page, nr);
	return err;
}

/**
 * gmem_direct_map_remove - take pages out of the direct map
 * @page: first page
 * @nr: number of pages, which lie in one 1 GiB
 *
 * Whole aligned 2 MiB and 1 GiB ranges keep their large entry.  The caller
 * flushes.  This cannot fail for pages exposed just now.
 *
 * Return: 0, or -ENOMEM with nothing changed if a large mapping could not be split.
 */
int gmem_direct_map_remove(struct page *page, unsigned long nr)
{
	return gmem_change_direct_map(page, nr, GMEM_REMOVED);
}
EXPORT_SYMBOL_GMEM(gmem_direct_map_remove);

/**
 * gmem_direct_map_expose - put pages into the direct map for a while
 * @page: first page
 * @nr: number of pages, which lie in one 1 GiB
 *
 * The caller calls gmem_direct_map_restore() or gmem_direct_map_remove() for the same
 * range later.  Neither can fail then, because nobody merges these pages with others in
 * between.  (Pages that are not a whole 2 MiB have nobody to be merged with, and may
 * stay as they are.)
 *
 * Return: 0, or -ENOMEM with nothing changed if a large entry could not be split.
 */
int gmem_direct_map_expose(struct page *page, unsigned long nr)
{
	return gmem_change_direct_map(page, nr, GMEM_EXPOSED);
}
EXPORT_SYMBOL_GMEM(gmem_direct_map_expose);

/**
 * gmem_direct_map_restore - put pages back into the direct map
 * @page: first page
 * @nr: number of pages, which lie in one 1 GiB
 *
 * This needs no flush.  It sets the bits of an untouched direct map: an entry that is
 * not present has lost GLOBAL and DIRTY, and what differs from its neighbours is never
 * merged.  It cannot fail for pages removed just now if none of them is poisoned.
 *
 * Return: 0, or -ENOMEM with nothing changed if a large entry could not be split.
 */
int gmem_direct_map_restore(struct page *page, unsigned long nr)
{
	return gmem_change_direct_map(page, nr, GMEM_RESTORED);
}
EXPORT_SYMBOL_GMEM(gmem_direct_map_restore);

/**
 * gmem_direct_map_flush - forget translations of removed pages on all CPUs
 * @page: first page
 * @nr: number of pages
 */
void gmem_direct_map_flush(struct page *page, unsigned long nr)
{
	unsigned long addr = (unsigned long)page_address(page);

	flush_tlb_kernel_range(addr, addr + nr * PAGE_SIZE);
}
EXPORT_SYMBOL_GMEM(gmem_direct_map_flush);

/* A table can be freed unless the boot made it. */
static bool gmem_table_can_go(struct page *table)
{
	return !PageReserved(table);
}

/* Replace a table of 512 pages that follow each other by a 2 MiB entry. */
static void gmem_collapse_pmd(pmd_t *pmd, unsigned long addr,
			      struct list_head *pgtables)
{
	struct page *table = pmd_page(*pmd);
	pte_t *pte = pte_offset_kernel(pmd, addr & PMD_MASK);
	unsigned long pfn = pte_pfn(*pte);
	pteval_t flags = pte_flags(*pte);
	pgprot_t prot;
	int i;

	if (!(flags & _PAGE_PRESENT) || flags & (_PAGE_KERNEL_4K | GMEM_PAGE_EXPOSED) ||
	    !IS_ALIGNED(pfn, PTRS_PER_PTE) || !gmem_table_can_go(table))
		return;
	for (i = 1; i < PTRS_PER_PTE; i++) {
		if (pte_val(pte[i]) != pte_val(*pte) + i * PAGE_SIZE)
			return;
	}
	prot = pgprot_4k_2_large(__pgprot(flags));
	pgprot_val(prot) |= _PAGE_PSE;
	set_pmd(pmd, pfn_pmd(pfn, prot));
	list_add(&page_ptdesc(table)->pt_list, pgtables);
	gmem_count_merged(PG_LEVEL_2M);
}

static bool gmem_pmd_fits(pmd_t *table, pmd_t *pmd)
{
	return pmd_val(*pmd) == pmd_val(*table) + (pmd - table) * PMD_SIZE;
}

static void gmem_collapse_pud(pud_t *pud, unsigned long addr,
			      struct list_head *pgtables)
{
	static pmd_t *misfit;		/* under pgd_lock */
	struct page *page = pud_page(*pud);
	pmd_t *table = pmd_offset(pud, addr & PUD_MASK), *pmd;
	unsigned long pfn = pmd_pfn(*table);
	pmdval_t flags = pmd_flags(*table);

	if (!direct_gbpages || !(flags & _PAGE_PRESENT) || flags & GMEM_PAGE_EXPOSED ||
	    !pmd_leaf(*table) || !IS_ALIGNED(pfn, PTRS_PER_PMD * PTRS_PER_PTE) ||
	    !gmem_table_can_go(page))
		return;
	/* The entry that did not fit last time often does not fit this time. */
	if (misfit >= table && misfit < table + PTRS_PER_PMD &&
	    !gmem_pmd_fits(table, misfit))
		return;
	for (pmd = table + 1; pmd < table + PTRS_PER_PMD; pmd++) {
		if (!gmem_pmd_fits(table, pmd)) {
			misfit = pmd;
			return;
		}
	}
	set_pud(pud, pfn_pud(pfn, __pgprot(flags)));
	list_add(&page_ptdesc(page)->pt_list, pgtables);
	gmem_count_merged(PG_LEVEL_1G);
}

/* Merge the 2 MiB regions of [addr, end), and the 1 GiB region that they are in. */
static void gmem_collapse_range(unsigned long addr, unsigned long end,
				struct list_head *pgtables)
{
	pud_t *pud;
	pmd_t *pmd;

	guard(spinlock)(&pgd_lock);
	pud = pud_offset(p4d_offset(pgd_offset_k(addr), addr), addr);
	if (!pud_present(*pud) || pud_leaf(*pud))
		return;
	for (; addr < end; addr += PMD_SIZE) {
		pmd = pmd_offset(pud, addr);
		if (pmd_present(*pmd) && !pmd_leaf(*pmd))
			gmem_collapse_pmd(pmd, addr, pgtables);
	}
	gmem_collapse_pud(pud, end - 1, pgtables);
}

static void gmem_collapse_step(unsigned long addr, unsigned long end)
{
	struct ptdesc *table, *tmp;
	LIST_HEAD(pgtables);

	mmap_write_lock(&init_mm);	/* keeps ptdump and CPA out */
	scoped_guard(spinlock, &cpa_lock) {
		gmem_collapse_range(addr, end, &pgtables);
		if (!list_empty(&pgtables))
			flush_tlb_all();
	}
	mmap_write_unlock(&init_mm);
	list_for_each_entry_safe(table, tmp, &pgtables, pt_list) {
		list_del(&table->pt_list);
		gmem_free_table(table);
	}
}

/**
 * gmem_direct_map_collapse - merge restored pages into large mappings
 * @page: first page
 * @nr: number of pages
 *
 * This merges what can be merged in every 2 MiB and 1 GiB region that the range
 * touches.  Tables that the boot made stay.  Others who change the direct map are
 * kept out for 32 MiB at a time at most.  May sleep.
 */
void gmem_direct_map_collapse(struct page *page, unsigned long nr)
{
	unsigned long addr = (unsigned long)page_address(page) & PMD_MASK;
	unsigned long end = ALIGN((unsigned long)page_address(page) + nr * PAGE_SIZE,
				  PMD_SIZE), next;

	if (debug_pagealloc_enabled())	/* wants all of it in 4 KiB */
		return;

	for (; addr < end; addr = next) {
		next = min3(end, addr + GMEM_COLLAPSE_STEP, (addr & PUD_MASK) + PUD_SIZE);
		gmem_collapse_step(addr, next);
		cond_resched();
	}
}
EXPORT_SYMBOL_GMEM(gmem_direct_map_collapse);

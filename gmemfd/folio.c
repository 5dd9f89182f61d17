// SPDX-License-Identifier: GPL-2.0
/*
 * The folios of a block.  They are as large as the state of their pages allows: a region
 * that is all private or all shared has one folio, and one where both meet has 4 KiB
 * folios.  A folio is frozen before it becomes private, or is split or joined.  What the
 * state of a folio means is said at struct gmem_memory.
 */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/swap.h>

#include "gmemfd.h"
#include "trace.h"

/* How often to look whether a reference is transient before a split is given up. */
#define GMEM_SPLIT_TRIES	20

/**
 * gmem_memory_break - make ordinary folios of a block's hugetlb folio [block]
 * @memory: the block's memory
 *
 * There is one folio for each region, and all pages are private.  Does nothing if the
 * block is broken already.
 *
 * Return: 0, -ENOMEM, or -EHWPOISON if one of the pages is poisoned and hugetlb does not
 * know which.
 */
int gmem_memory_break(struct gmem_memory *memory)
{
	int err;

	if (memory->broken)
		return 0;
	if (gmem_should_fail())
		return -ENOMEM;
	err = gmem_loan_break(&memory->loan, GMEM_REGION_ORDER);
	if (err)
		return err;
	memory->broken = true;
	trace_gmem_block_break(memory);
	return 0;
}

/**
 * gmem_poison_unlocated - is an unknown page of a block poisoned? [block shared]
 * @memory: the block's memory
 *
 * hugetlb marks a whole folio as poisoned.  In a broken block the page itself is marked,
 * and nobody needs to use it.
 *
 * Return: true if gmem_locate_poison() has something to do.
 */
bool gmem_poison_unlocated(const struct gmem_memory *memory)
{
	return !memory->broken && PageHWPoison(memory->loan.page);
}

/**
 * gmem_locate_poison - break a poisoned block to see which of its pages are [block]
 * @memory: the block's memory
 *
 * Return: 0, -ENOMEM or -EHWPOISON.
 */
int gmem_locate_poison(struct gmem_memory *memory)
{
	return gmem_poison_unlocated(memory) ? gmem_memory_break(memory) : 0;
}

/**
 * gmem_has_poison - is one of some pages poisoned? [block shared]
 * @block: a block with memory
 * @lo: first page to look at
 * @nr: number of pages
 *
 * Return: true if one of the pages is poisoned.
 */
bool gmem_has_poison(const struct gmem_block *block, unsigned long lo,
		     unsigned long nr)
{
	/* Most machines have no poisoned page, and faults need not look for one. */
	if (!gmem_any_page_poisoned())
		return false;
	for (struct page *page = block->memory->loan.page + lo; nr; nr--, page++) {
		if (PageHWPoison(page))
			return true;
		if (!(nr % GMEM_REGION_PAGES))
			cond_resched();
	}
	return false;
}

/**
 * gmem_next_shared_folio - find the next shared folio in a range [block]
 * @block: a block with memory
 * @i: in: where to start; out: first page of the range in the folio
 * @next: out: first page behind the folio
 * @hi: end of the range
 *
 * Return: the folio, or NULL if there is none.
 */
struct folio *gmem_next_shared_folio(const struct gmem_block *block,
				     unsigned long *i, unsigned long *next,
				     unsigned long hi)
{
	struct folio *folio;

	if (*i < hi && gmem_state_private(&block->state, *i))
		*i = gmem_state_run(&block->state, *i, hi);
	if (*i >= hi)
		return NULL;
	folio = page_folio(block->memory->loan.page + *i);
	*next = round_down(*i, folio_nr_pages(folio)) + folio_nr_pages(folio);
	return folio;
}

/**
 * gmem_unmap_sync - unmap pages, also where a fault is about to map one [block]
 * @fi: the file
 * @block: a block with memory
 * @lo: first page in it
 * @hi: first page behind
 *
 * A fault that has yet to map a page holds the lock of its folio.
 */
void gmem_unmap_sync(struct gmemfd_inode *fi, struct gmem_block *block,
		     unsigned long lo, unsigned long hi)
{
	unsigned long next;
	struct folio *folio;

	gmem_unmap(fi, block, lo, hi);
	if (!block->memory->broken)
		return;
	for (; (folio = gmem_next_shared_folio(block, &lo, &next, hi)); lo = next) {
		folio_lock(folio);
		if (folio_mapped(folio))
			gmem_unmap(fi, block, lo, min(next, hi));
		folio_unlock(folio);
	}
}

/**
 * gmem_folio_freeze - unmap and freeze a shared folio unless somebody uses it [block]
 * @fi: the file
 * @block: the block
 * @folio: a shared folio of the block
 * @tries: how often to look again, every 50 us.  Transient references pass soon: a fast
 *	GUP backs off, a munmap() in progress drops its batch.
 *
 * A fault looks the folio up under the block's lock, and keeps the folio locked until it
 * is mapped and the mapping has the fault's reference.  So once this has the folio's lock,
 * or finds it free, no fault can map the folio any more.
 *
 * Return: true if the folio is unmapped and frozen now, false if somebody holds a
 * reference.
 */
bool gmem_folio_freeze(struct gmemfd_inode *fi, struct gmem_block *block,
		       struct folio *folio, int tries)
{
	unsigned long i = &folio->page - block->memory->loan.page;
	bool frozen;

	/* While the block is locked, only a holder of a reference can lock the folio. */
	if (!folio_test_locked(folio) && folio_ref_freeze(folio, 1))
		return true;
	folio_lock(folio);
	for (;;) {
		if (folio_mapped(folio))
			gmem_unmap(fi, block, i, i + folio_nr_pages(folio));
		frozen = folio_ref_freeze(folio, 1);
		if (frozen || !tries--)
			break;
		usleep_range(50, 100);
	}
	folio_unlock(folio);
	return frozen;
}

/**
 * gmem_wanted_folio_order - how large should the folio of a page be? [block shared]
 * @fi: the file
 * @block: a block with broken memory, or a hole
 * @i: the page
 *
 * Return: GMEM_REGION_ORDER or 0.
 */
unsigned int gmem_wanted_folio_order(const struct gmemfd_inode *fi,
				     const struct gmem_block *block, unsigned long i)
{
	if (gmem_small_shared(fi) && !gmem_state_private(&block->state, i))
		return 0;
	/* A conversion asks this 512 times a GiB: the cheapest question comes first. */
	if (gmem_any_page_poisoned() && block->memory &&
	    gmem_has_poison(block, round_down(i, GMEM_REGION_PAGES), GMEM_REGION_PAGES))
		return 0;
	return gmem_state_folio_order(&block->state, i);
}

/* A frozen folio without mapping becomes shared.  [block] */
static void gmem_share_folio(struct gmemfd_inode *fi, struct gmem_block *block,
			     struct folio *folio)
{
	folio->mapping = fi->inode->i_mapping;
	folio->index = gmem_pgoff(fi, block, &folio->page - block->memory->loan.page);
	folio_ref_unfreeze(folio, 1);
}

/*
 * A region has become all shared: join its folios unless somebody uses one.  Folios of
 * pages that were private until now have no mapping, and are frozen already.  [block]
 */
static bool gmem_try_join_shared(struct gmemfd_inode *fi, struct gmem_block *block,
				 unsigned long start)
{
	unsigned long end = start + GMEM_REGION_PAGES, i;
	struct page *page = block->memory->loan.page;
	struct folio *folio;

	gmem_unmap(fi, block, start, end);
	for (i = start; i < end; i++) {
		folio = page_folio(page + i);
		if (folio->mapping && !gmem_folio_freeze(fi, block, folio, 0))
			break;
	}
	if (i == end) {
		folio = gmem_folio_join(page + start, GMEM_REGION_ORDER);
		gmem_share_folio(fi, block, folio);
		return true;
	}
	while (i-- > start) {
		folio = page_folio(page + i);
		if (folio->mapping)
			folio_ref_unfreeze(folio, 1);
	}
	return false;
}

/* Give newly shared pages of a run, all of it shared, mapping and reference.  [block] */
static void gmem_share_pages(struct gmemfd_inode *fi, struct gmem_block *block,
			     unsigned long lo, unsigned long hi)
{
	struct page *page = block->memory->loan.page;

	for (; lo < hi; lo++) {
		struct folio *folio = page_folio(page + lo);

		if (!folio->mapping)
			gmem_share_folio(fi, block, folio);
	}
}

/* Make the 4 KiB folios of a region that was just split follow the state.  [block] */
static void gmem_reshape_new_pages(struct gmemfd_inode *fi, struct gmem_block *block,
				   unsigned long lo, unsigned long hi)
{
	unsigned long end;

	for (; lo < hi; lo = end) {
		end = gmem_state_run(&block->state, lo, hi);
		/* Private pages are as they must be: splitting has cleared all mappings. */
		if (!gmem_state_private(&block->state, lo))
			gmem_share_pages(fi, block, lo, end);
	}
}

/* Make 4 KiB folios follow the state.  [block] */
static void gmem_reshape_pages(struct gmemfd_inode *fi, struct gmem_block *block,
			       unsigned long lo, unsigned long hi)
{
	struct page *page = block->memory->loan.page;
	unsigned long i, end;

	for (; lo < hi; lo = end) {
		end = gmem_state_run(&block->state, lo, hi);
		if (gmem_state_private(&block->state, lo)) {
			for (i = lo; i < end; i++)
				page_folio(page + i)->mapping = NULL;
		} else {
			gmem_share_pages(fi, block, lo, end);
		}
	}
}

/* Make the folios of one region follow the state of pages [lo, hi) in it.  [block] */
static void gmem_reshape_region(struct gmemfd_inode *fi, struct gmem_block *block,
				unsigned long lo, unsigned long hi)
{
	unsigned long start = round_down(lo, GMEM_REGION_PAGES);
	unsigned long region = start >> GMEM_REGION_ORDER;
	struct gmem_memory *memory = block->memory;
	struct folio *folio = page_folio(memory->loan.page + start);
	bool large = gmem_wanted_folio_order(fi, block, start);
	bool private = gmem_state_private(&block->state, start);

	if (!test_bit(region, memory->split)) {
		/* A folio that is not frozen stays shared, and others may use it. */
		if (large || folio_ref_count(folio)) {
			if (private)
				folio->mapping = NULL;
			else if (!folio->mapping)
				gmem_share_folio(fi, block, folio);
			return;
		}
		gmem_folio_split(folio, 0);
		set_bit(region, memory->split);
		gmem_reshape_new_pages(fi, block, start, start + GMEM_REGION_PAGES);
		return;
	}
	if (large && private)
		gmem_folio_join(memory->loan.page + start, GMEM_REGION_ORDER);
	if (large && (private || gmem_try_join_shared(fi, block, start)))
		clear_bit(region, memory->split);
	else
		gmem_reshape_pages(fi, block, lo, hi);
}

/**
 * gmem_reshape - make folios follow the state of their pages [block]
 * @fi: the file
 * @block: a block with broken memory
 * @lo: first page whose state has changed
 * @hi: first page behind
 *
 * Folios with newly private pages must be frozen.  This cannot fail.  A region that is
 * all shared now stays split if somebody holds a reference to one of its pages.
 */
void gmem_reshape(struct gmemfd_inode *fi, struct gmem_block *block,
		  unsigned long lo, unsigned long hi)
{
	unsigned long next;

	for (; lo < hi; lo = next) {
		next = min(hi, round_down(lo, GMEM_REGION_PAGES) + GMEM_REGION_PAGES);
		gmem_reshape_region(fi, block, lo, next);
		cond_resched();
	}
}

/**
 * gmem_folio_too_large - is a poisoned page in the folio of another? [block shared]
 * @fi: the file
 * @block: the block
 * @i: a shared page of it
 *
 * A fault maps all of a large folio, and would map the poisoned page, too.
 *
 * Return: true if gmem_split_poisoned() has to come first.
 */
bool gmem_folio_too_large(const struct gmemfd_inode *fi, const struct gmem_block *block,
			  unsigned long i)
{
	return block->memory && block->memory->broken &&
	       !test_bit(i >> GMEM_REGION_ORDER, block->memory->split) &&
	       !gmem_wanted_folio_order(fi, block, i);
}

/**
 * gmem_split_poisoned - split the folio of a page if another of its pages is poisoned [block]
 * @fi: the file
 * @block: the block
 * @i: a shared page of it
 *
 * Return: 0, or -EHWPOISON if somebody holds a reference to the folio.
 */
int gmem_split_poisoned(struct gmemfd_inode *fi, struct gmem_block *block,
			unsigned long i)
{
	unsigned long lo = round_down(i, GMEM_REGION_PAGES);

	if (!gmem_folio_too_large(fi, block, i))
		return 0;
	if (!gmem_folio_freeze(fi, block, page_folio(block->memory->loan.page + lo),
			       GMEM_SPLIT_TRIES))
		return -EHWPOISON;
	gmem_reshape(fi, block, lo, lo + GMEM_REGION_PAGES);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * The folios of a block: as large as its state allows, frozen before they become
 * private, split and joined.
 */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/swap.h>

#include "gmemfd.h"

/* How long to wait for a reference to turn out to be transient. */
#define GMEM_SPLIT_TRIES	20

/**
 * gmem_memory_break - turn a block's hugetlb folio into ordinary ones
 * @memory: all private
 *
 * Return: 0, -ENOMEM or -EHWPOISON.
 */
int gmem_memory_break(struct gmem_memory *memory)
{
	int err;

	if (memory->broken)
		return 0;
	if (gmem_should_fail())
		return -ENOMEM;
	err = gmem_loan_break(&memory->loan, GMEM_REGION_ORDER);
	if (!err)
		memory->broken = true;
	return err;
}

/**
 * gmem_poison_unlocated - is a page poisoned, and unknown which?
 * @memory: to look at; it may be locked shared only
 *
 * hugetlb marks a whole folio poisoned; broken, the page itself is marked, and
 * can be kept away from.
 *
 * Return: true if gmem_locate_poison() has something to do.
 */
bool gmem_poison_unlocated(const struct gmem_memory *memory)
{
	return !memory->broken && PageHWPoison(memory->loan.page);
}

/**
 * gmem_locate_poison - break a poisoned block, to see which pages are
 * @memory: to look at
 *
 * Return: 0, -ENOMEM or -EHWPOISON.
 */
int gmem_locate_poison(struct gmem_memory *memory)
{
	return gmem_poison_unlocated(memory) ? gmem_memory_break(memory) : 0;
}

/**
 * gmem_has_poison - are there poisoned pages?
 * @block: with memory
 * @lo: first page to look at
 * @nr: number of pages
 *
 * Return: true if one of the pages is poisoned.
 */
bool gmem_has_poison(const struct gmem_block *block, unsigned long lo,
		     unsigned long nr)
{
	/* Not with every fault: most machines have none. */
	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE) ||
	    !atomic_long_read(&num_poisoned_pages))
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
 * gmem_next_shared_folio - go through the shared folios of a range
 * @block: with memory
 * @i: in: where to start; out: first page of the range in the folio
 * @next: out: first page behind the folio
 * @hi: end of the range
 *
 * Return: the folio, NULL if there are no more.
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
 * gmem_unmap_sync - unmap, and wait for faults that have yet to map a page
 * @fi: the file
 * @block: locked exclusively, with memory
 * @lo: first page in it
 * @hi: first page behind
 *
 * Such a fault holds the lock of the page's folio.
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
 * gmem_folio_freeze - take a shared folio away from everybody
 * @fi: the file
 * @block: the block
 * @folio: a shared folio of it
 * @tries: how often to look again, 50 us apart: transient references (a fast
 *	GUP that backs off, a batch of a munmap in progress) pass soon
 *
 * A fault that has returned the folio holds the folio lock until it is done with
 * it; the reference goes to the mapping before.  So that after the lock has been
 * had, or found free, nothing can map it any more.
 *
 * Return: true if it is unmapped and frozen now, false if somebody holds a
 * reference.
 */
bool gmem_folio_freeze(struct gmemfd_inode *fi, struct gmem_block *block,
		       struct folio *folio, int tries)
{
	unsigned long i = &folio->page - block->memory->loan.page;
	bool frozen;

	/* With the block locked nobody locks it any more who has no reference. */
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
 * gmem_wanted_folio_order - how large should the folio of a page be?
 * @fi: the file
 * @block: with broken memory, or none
 * @i: the page
 *
 * Return: GMEM_REGION_ORDER or 0.
 */
unsigned int gmem_wanted_folio_order(const struct gmemfd_inode *fi,
				     const struct gmem_block *block, unsigned long i)
{
	if (fi->flags & GMEMFD_CREATE_SMALL_SHARED &&
	    !gmem_state_private(&block->state, i))
		return 0;
	if (block->memory && gmem_has_poison(block, round_down(i, GMEM_REGION_PAGES),
					     GMEM_REGION_PAGES))
		return 0;
	return gmem_state_folio_order(&block->state, i);
}

static void gmem_share_folio(struct gmemfd_inode *fi, struct gmem_block *block,
			     struct folio *folio)
{
	folio->mapping = fi->inode->i_mapping;
	folio->index = gmem_pgoff(fi, block, &folio->page - block->memory->loan.page);
	folio_ref_unfreeze(folio, 1);
}

/*
 * The region has become all shared: join it if nobody holds a page of it.  Pages
 * that were private until now are frozen, and have no mapping yet.
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

/* Have small folios follow the state.  Just @cut, those of private pages do. */
static void gmem_reshape_pages(struct gmemfd_inode *fi, struct gmem_block *block,
			       unsigned long lo, unsigned long hi, bool cut)
{
	struct page *page = block->memory->loan.page;
	unsigned long i, end;

	for (; lo < hi; lo = end) {
		bool private = gmem_state_private(&block->state, lo);

		end = gmem_state_run(&block->state, lo, hi);
		if (private && cut)
			continue;
		for (i = lo; i < end; i++) {
			struct folio *folio = page_folio(page + i);

			if (private)
				folio->mapping = NULL;
			else if (!folio->mapping)
				gmem_share_folio(fi, block, folio);
		}
	}
}

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
		/* Not frozen: shared it is already, and others may hold it. */
		if (large || folio_ref_count(folio)) {
			if (private)
				folio->mapping = NULL;
			else if (!folio->mapping)
				gmem_share_folio(fi, block, folio);
			return;
		}
		gmem_folio_split(folio, 0);
		set_bit(region, memory->split);
		gmem_reshape_pages(fi, block, start, start + GMEM_REGION_PAGES, true);
		return;
	}
	if (large && private)
		gmem_folio_join(memory->loan.page + start, GMEM_REGION_ORDER);
	if (large && (private || gmem_try_join_shared(fi, block, start)))
		clear_bit(region, memory->split);
	else
		gmem_reshape_pages(fi, block, lo, hi, false);
}

/**
 * gmem_reshape - make folios follow the state
 * @fi: the file
 * @block: a block with broken memory
 * @lo: first page whose state has changed
 * @hi: first page behind
 *
 * Folios with newly private pages must be frozen.  Does not fail; a region
 * newly all shared stays split if somebody holds one of its pages.
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
 * gmem_folio_too_large - is a large shared folio in the way?
 * @fi: the file
 * @block: locked shared at least
 * @i: a shared page of it
 *
 * Mapping a page of a large folio maps all of it, a poisoned page too.
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
 * gmem_split_poisoned - have a page in a folio without poisoned neighbours
 * @fi: the file
 * @block: locked exclusively
 * @i: a shared page of it
 *
 * Return: 0, or -EHWPOISON if the large folio is referenced by somebody.
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

// SPDX-License-Identifier: GPL-2.0
/*
 * The memory behind a block: taken from hugetlb, zeroed as late as possible,
 * out of the direct map where private, and in folios as large as its state
 * allows.  All functions want the block locked exclusively.
 */
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "gmemfd.h"

/**
 * gmem_direct_map_heal - merge the direct map where pages have come back
 * @memory: of which no page of what is to be merged is private any more
 * @first: first region
 * @last: first region behind
 *
 * Merges to 2 MiB where there are tables, and to 1 GiB if all around is there; of
 * small blocks that may take its neighbours.
 */
void gmem_direct_map_heal(struct gmem_memory *memory, unsigned long first,
			  unsigned long last)
{
	unsigned long lo = first, hi;
	bool merged = false;

	for_each_set_bitrange_from(lo, hi, memory->tables, last) {
		bitmap_clear(memory->tables, lo, hi - lo);
		gmem_direct_map_collapse(memory->loan.page + (lo << GMEM_REGION_ORDER),
					 (hi - lo) << GMEM_REGION_ORDER);
		merged = true;
	}
	if (!merged)
		gmem_direct_map_collapse(memory->loan.page +
					 (first << GMEM_REGION_ORDER), 1);
}

/**
 * gmem_next_run - find pages in one state
 * @block: with memory
 * @ready: look in regions that are ready, or in those that are not
 * @private: look for private pages, or for shared ones
 * @lo: in: where to start; out: first page of the run
 * @end: out: first page behind the run
 * @hi: where to stop
 *
 * Return: false if there is none.
 */
bool gmem_next_run(const struct gmem_block *block, bool ready, bool private,
		   unsigned long *lo, unsigned long *end, unsigned long hi)
{
	const unsigned long *map = block->memory->ready;
	unsigned long last = DIV_ROUND_UP(hi, GMEM_REGION_PAGES);

	while (*lo < hi) {
		unsigned long region = *lo >> GMEM_REGION_ORDER, next;

		next = test_bit(region, map) ?
			find_next_zero_bit(map, last, region) :
			find_next_bit(map, last, region);
		next = min(next << GMEM_REGION_ORDER, hi);
		if (test_bit(region, map) != ready) {
			*lo = next;
			continue;
		}
		*end = gmem_state_run(&block->state, *lo, next);
		if (gmem_state_private(&block->state, *lo) == private)
			return true;
		*lo = *end;
	}
	return false;
}

/**
 * gmem_direct_map_runs - take pages out of the direct map or put them back
 * @block: with memory
 * @ready: as in gmem_next_run()
 * @private: as in gmem_next_run()
 * @lo: first page of the range to look in
 * @hi: first page behind it
 * @change: gmem_direct_map_remove(), _expose() or _restore()
 *
 * All or nothing; but what is restored may be merged with its neighbours at once,
 * and then not be taken out again without memory.  Where something may still fail
 * pages are exposed first.  Does not flush.
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_direct_map_runs(const struct gmem_block *block, bool ready,
			 bool private, unsigned long lo, unsigned long hi,
			 gmem_direct_map_fn *change)
{
	bool remove = change == gmem_direct_map_remove;
	struct gmem_memory *memory = block->memory;
	struct page *page = memory->loan.page;
	unsigned long i, end, failed;
	int err = 0;

	for (i = lo; gmem_next_run(block, ready, private, &i, &end, hi); i = end) {
		if (i % GMEM_REGION_PAGES)
			__set_bit(i >> GMEM_REGION_ORDER, memory->tables);
		if (end % GMEM_REGION_PAGES)
			__set_bit(end >> GMEM_REGION_ORDER, memory->tables);
		err = change(page + i, end - i);
		if (err)
			break;
	}
	if (!err)
		return 0;

	failed = i;
	for (i = lo; gmem_next_run(block, ready, private, &i, &end, failed); i = end)
		WARN_ON_ONCE(remove ? gmem_direct_map_restore(page + i, end - i) :
				      gmem_direct_map_remove(page + i, end - i));
	if (!remove && failed > lo)
		gmem_direct_map_flush(page + lo, failed - lo);
	return err;
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
 * gmem_folio_freeze - take a shared folio away from everybody
 * @gi: the file
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
bool gmem_folio_freeze(struct gmem_inode *gi, struct gmem_block *block,
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
			gmem_unmap(gi, block, i, i + folio_nr_pages(folio));
		frozen = folio_ref_freeze(folio, 1);
		if (frozen || !tries--)
			break;
		usleep_range(50, 100);
	}
	folio_unlock(folio);
	return frozen;
}

/**
 * gmem_folio_order - how large should the folio of a page be?
 * @gi: the file
 * @block: with broken memory, or none
 * @i: the page
 *
 * Return: GMEM_REGION_ORDER or 0.
 */
unsigned int gmem_folio_order(const struct gmem_inode *gi,
			      const struct gmem_block *block, unsigned long i)
{
	if (gi->flags & GMEMFD_CREATE_SMALL_SHARED &&
	    !gmem_state_private(&block->state, i))
		return 0;
	if (block->memory && gmem_poisoned(block, round_down(i, GMEM_REGION_PAGES),
					   GMEM_REGION_PAGES))
		return 0;
	return gmem_state_folio_order(&block->state, i);
}

static void gmem_share_folio(struct gmem_inode *gi, struct gmem_block *block,
			     struct folio *folio)
{
	folio->mapping = gi->inode->i_mapping;
	folio->index = gmem_pgoff(gi, block, &folio->page - block->memory->loan.page);
	folio_ref_unfreeze(folio, 1);
}

/*
 * The region has become all shared: join it if nobody holds a page of it.  Pages
 * that were private until now are frozen, and have no mapping yet.
 */
static bool gmem_join_shared(struct gmem_inode *gi, struct gmem_block *block,
			     unsigned long start)
{
	unsigned long end = start + GMEM_REGION_PAGES, i;
	struct page *page = block->memory->loan.page;
	struct folio *folio;

	gmem_unmap(gi, block, start, end);
	for (i = start; i < end; i++) {
		folio = page_folio(page + i);
		if (folio->mapping && !gmem_folio_freeze(gi, block, folio, 0))
			break;
	}
	if (i == end) {
		folio = gmem_folio_join(page + start, GMEM_REGION_ORDER);
		gmem_share_folio(gi, block, folio);
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
static void gmem_shape_pages(struct gmem_inode *gi, struct gmem_block *block,
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
				gmem_share_folio(gi, block, folio);
		}
	}
}

static void gmem_shape_region(struct gmem_inode *gi, struct gmem_block *block,
			      unsigned long lo, unsigned long hi)
{
	unsigned long start = round_down(lo, GMEM_REGION_PAGES);
	unsigned long region = start >> GMEM_REGION_ORDER;
	struct gmem_memory *memory = block->memory;
	struct folio *folio = page_folio(memory->loan.page + start);
	bool large = gmem_folio_order(gi, block, start);
	bool private = gmem_state_private(&block->state, start);

	if (!test_bit(region, memory->split)) {
		/* Not frozen: shared it is already, and others may hold it. */
		if (large || folio_ref_count(folio)) {
			if (private)
				folio->mapping = NULL;
			else if (!folio->mapping)
				gmem_share_folio(gi, block, folio);
			return;
		}
		gmem_folio_split(folio, 0);
		set_bit(region, memory->split);
		gmem_shape_pages(gi, block, start, start + GMEM_REGION_PAGES, true);
		return;
	}
	if (large && private)
		gmem_folio_join(memory->loan.page + start, GMEM_REGION_ORDER);
	if (large && (private || gmem_join_shared(gi, block, start)))
		clear_bit(region, memory->split);
	else
		gmem_shape_pages(gi, block, lo, hi, false);
}

/**
 * gmem_shape - make folios follow the state
 * @gi: the file
 * @block: a block with broken memory
 * @lo: first page whose state has changed
 * @hi: first page behind
 *
 * Folios with newly private pages must be frozen.  Does not fail; a region
 * newly all shared stays split if somebody holds one of its pages.
 */
void gmem_shape(struct gmem_inode *gi, struct gmem_block *block,
		unsigned long lo, unsigned long hi)
{
	unsigned long next;

	for (; lo < hi; lo = next) {
		next = min(hi, round_down(lo, GMEM_REGION_PAGES) + GMEM_REGION_PAGES);
		gmem_shape_region(gi, block, lo, next);
		cond_resched();
	}
}

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

static int gmem_take_loan(struct gmem_inode *gi, struct gmem_block *block,
			  struct gmem_loan *loan)
{
	pgoff_t index = gmem_pgoff(gi, block, 0);
	struct mempolicy *policy;
	int err;

	if (gmem_should_fail())
		return -ENOSPC;
	policy = mpol_shared_policy_lookup(&gi->policy, index);
	err = gmem_loan_take(loan, &gi->pool, policy, index >> gi->block_order,
			     gi->node);
	mpol_cond_put(policy);
	/* Where sysctl vm.movable_gigantic_pages says so hugetlb does this. */
	if (!err && is_zone_movable_page(loan->page)) {
		gmem_loan_return(loan);
		err = -ENOSPC;
	}
	return err;
}

/* Take a block that is known to memory offlining before it looks free. */
static int gmem_take_known(struct gmem_inode *gi, struct gmem_block *block,
			   struct gmem_memory *memory)
{
	int err;

	for (;;) {
		err = gmem_take_loan(gi, block, &memory->loan);
		if (err == -ENOSPC) {
			/* What was here before may be on its way home. */
			gmem_home_flush();
			err = gmem_take_loan(gi, block, &memory->loan);
		}
		if (err)
			return err;
		err = gmem_frames_add(gi, block, memory);
		if (!err)
			return 0;
		gmem_loan_return(&memory->loan);
		if (err != -EAGAIN)
			return err;
		/* hugetlb passes over 2 MiB that go offline, but not over 1 GiB. */
		schedule_timeout_killable(1);
		if (fatal_signal_pending(current))
			return -EINTR;
	}
}

/**
 * gmem_memory_take - put memory behind a hole
 * @gi: the file
 * @block: a hole
 *
 * Return: 0, -ENOMEM, -ENOSPC if a cgroup limit or a memory policy is in the way
 * or somebody still holds what was here before, or -EINTR for a fatal signal.
 */
int gmem_memory_take(struct gmem_inode *gi, struct gmem_block *block)
{
	unsigned long longs = BITS_TO_LONGS(gmem_block_regions(gi));
	struct gmem_memory *memory;
	int err;

	memory = kzalloc(struct_size(memory, ready, 4 * longs), GFP_KERNEL_ACCOUNT);
	if (!memory)
		return -ENOMEM;
	memory->zeroed = memory->ready + longs;
	memory->split = memory->zeroed + longs;
	memory->tables = memory->split + longs;
	err = gmem_take_known(gi, block, memory);
	if (err) {
		kfree(memory);
		return err;
	}
	if (block->state.kind != GMEM_ALL_PRIVATE) {
		err = gmem_memory_break(memory);
		if (err)
			goto err_return;
	}
	block->memory = memory;
	inode_add_bytes(gi->inode, PAGE_SIZE << gi->block_order);
	if (memory->broken)
		gmem_shape(gi, block, 0, gmem_block_pages(gi));
	return 0;

err_return:
	gmem_memory_free(memory);
	return err;
}

static void gmem_clear_pages(struct page *page, unsigned long nr)
{
	for (; nr; nr--, page++) {
		if (!PageHWPoison(page))
			clear_highpage(page);
		if (!(nr % GMEM_REGION_PAGES))
			cond_resched();
	}
}

static void gmem_zero_region(struct gmem_memory *memory, unsigned long region)
{
	gmem_clear_pages(memory->loan.page + (region << GMEM_REGION_ORDER),
			 GMEM_REGION_PAGES);
	set_bit(region, memory->zeroed);
}

/**
 * gmem_memory_zero_next - zero a region ahead of gmem_memory_make_ready()
 * @block: with memory
 * @lo: in: where to start; out: first page behind the region
 * @hi: where to stop
 *
 * So that all of a block need not be zeroed with it locked.
 *
 * Return: false if there is none left, or gmem_memory_make_ready() has to see to it.
 */
bool gmem_memory_zero_next(struct gmem_block *block, unsigned long *lo,
			   unsigned long hi)
{
	struct gmem_memory *memory = block->memory;
	unsigned long last = DIV_ROUND_UP(hi, GMEM_REGION_PAGES);
	unsigned long i = *lo >> GMEM_REGION_ORDER;

	while (i < last && (test_bit(i, memory->ready) || test_bit(i, memory->zeroed)))
		i++;
	if (i == last || gmem_poison_unlocated(memory))
		return false;
	gmem_zero_region(memory, i);
	*lo = (i + 1) << GMEM_REGION_ORDER;
	return true;
}

/**
 * gmem_memory_forget_next - have an all private region as if it was never touched
 * @gi: the file
 * @block: with memory, all of which is about to leave the file
 * @lo: in: where to start; out: first page behind the region
 * @hi: where to stop
 *
 * So that private contents are mapped for a short time, and a block need not be
 * scrubbed with it locked all the time.
 *
 * Return: false if there is none left, or gmem_memory_scrub() has to see to it.
 */
bool gmem_memory_forget_next(struct gmem_inode *gi, struct gmem_block *block,
			     unsigned long *lo, unsigned long hi)
{
	struct gmem_memory *memory = block->memory;
	unsigned long i, end;

	for (i = *lo; gmem_next_run(block, true, true, &i, &end, hi); i = end) {
		i = round_up(i, GMEM_REGION_PAGES);
		if (i + GMEM_REGION_PAGES > end)
			continue;
		if (gmem_poison_unlocated(memory) ||
		    (gmem_off_direct_map(gi) &&
		     gmem_direct_map_restore(memory->loan.page + i, GMEM_REGION_PAGES)))
			return false;
		gmem_zero_region(memory, i >> GMEM_REGION_ORDER);
		clear_bit(i >> GMEM_REGION_ORDER, memory->ready);
		*lo = i + GMEM_REGION_PAGES;
		return true;
	}
	return false;
}

static void gmem_clear_runs(const struct gmem_block *block, bool private,
			    unsigned long lo, unsigned long hi)
{
	unsigned long end;

	for (; gmem_next_run(block, true, private, &lo, &end, hi); lo = end)
		gmem_clear_pages(block->memory->loan.page + lo, end - lo);
}

static int gmem_try_scrub(struct gmem_inode *gi, struct gmem_block *block)
{
	unsigned long nr = gmem_block_pages(gi);
	int err;

	err = gmem_locate_poison(block->memory);
	if (err)
		return err;
	if (gmem_off_direct_map(gi)) {
		err = gmem_should_fail() ? -ENOMEM :
		      gmem_direct_map_runs(block, true, true, 0, nr,
					   gmem_direct_map_expose);
		if (err)
			return err;
	}
	gmem_clear_runs(block, true, 0, nr);
	if (gmem_off_direct_map(gi))
		WARN_ON_ONCE(gmem_direct_map_runs(block, true, true, 0, nr,
						  gmem_direct_map_restore));
	return 0;
}

/**
 * gmem_memory_scrub - overwrite private contents, and have all in the direct map
 * @gi: the file
 * @block: with memory, which leaves the file
 *
 * That can want a page for a table, around a poisoned page; there is no way back, and
 * so it waits for one.  Contents that a poisoned page, nobody knows which, is among
 * stay where they are: out of the direct map, and in a block that hugetlb keeps.
 */
void gmem_memory_scrub(struct gmem_inode *gi, struct gmem_block *block)
{
	unsigned long lo = 0;

	while (gmem_memory_forget_next(gi, block, &lo, gmem_block_pages(gi)))
		cond_resched();
	while (gmem_try_scrub(gi, block) == -ENOMEM)
		schedule_timeout_uninterruptible(1);
	if (gmem_off_direct_map(gi))
		gmem_direct_map_heal(block->memory, 0, gmem_block_regions(gi));
}

/**
 * gmem_memory_make_ready - zero regions that have not been touched yet
 * @gi: the file
 * @block: with memory
 * @lo: first page of interest
 * @hi: first page behind
 *
 * Return: 0, or -ENOMEM if the direct map could not be split.
 */
int gmem_memory_make_ready(struct gmem_inode *gi, struct gmem_block *block,
			   unsigned long lo, unsigned long hi)
{
	struct gmem_memory *memory = block->memory;
	unsigned long region, first, last;
	int err;

	lo = round_down(lo, GMEM_REGION_PAGES);
	hi = round_up(hi, GMEM_REGION_PAGES);
	first = lo >> GMEM_REGION_ORDER;
	last = hi >> GMEM_REGION_ORDER;
	if (find_next_zero_bit(memory->ready, last, first) == last)
		return 0;

	err = gmem_locate_poison(memory);
	if (err)
		return err;
	for_each_clear_bit_from(first, memory->ready, last) {
		if (!test_bit(first, memory->zeroed))
			gmem_zero_region(memory, first);
	}

	if (gmem_off_direct_map(gi) && block->state.kind != GMEM_ALL_SHARED) {
		err = gmem_should_fail() ? -ENOMEM :
		      gmem_direct_map_runs(block, false, true, lo, hi,
					   gmem_direct_map_remove);
		if (err)
			return err;
		gmem_direct_map_flush(memory->loan.page + lo, hi - lo);
	}
	for (region = lo >> GMEM_REGION_ORDER; region < last; region++)
		set_bit(region, memory->ready);
	return 0;
}

/**
 * gmem_memory_zero - zero part of a region again
 * @gi: the file
 * @block: with memory
 * @lo: first page
 * @hi: first page behind
 *
 * Return: 0, or -ENOMEM with nothing done if private pages could not be
 * reached, or why a poisoned page could not be spared.
 */
int gmem_memory_zero(struct gmem_inode *gi, struct gmem_block *block,
		     unsigned long lo, unsigned long hi)
{
	int err;

	err = gmem_locate_poison(block->memory);
	if (err)
		return err;
	if (gmem_off_direct_map(gi)) {
		err = gmem_direct_map_runs(block, true, true, lo, hi,
					   gmem_direct_map_expose);
		if (err)
			return err;
	}
	gmem_clear_runs(block, true, lo, hi);
	if (gmem_off_direct_map(gi)) {
		WARN_ON_ONCE(gmem_direct_map_runs(block, true, true, lo, hi,
						  gmem_direct_map_remove));
		gmem_direct_map_flush(block->memory->loan.page + lo, hi - lo);
	}
	gmem_clear_runs(block, false, lo, hi);
	return 0;
}

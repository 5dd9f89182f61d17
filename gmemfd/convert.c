// SPDX-License-Identifier: GPL-2.0
/*
 * Conversion: everything that can fail is done first, and undone in reverse
 * when it does; then the state is set and the folios follow it.
 */
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>

#include "gmemfd.h"

/* How long a conversion waits for a reference to turn out to be transient. */
#define GMEM_CONVERT_TRIES	20

/* How often one that waits for references looks at them, and tries meanwhile. */
#define GMEM_WAIT_MIN_NS	(50 * NSEC_PER_USEC)
#define GMEM_WAIT_MAX_NS	(10 * NSEC_PER_MSEC)
#define GMEM_WAIT_LOOKS		4

/* Nothing to do here. */
static bool gmem_span_is_converted(const struct gmem_walk *walk)
{
	const struct gmem_state *state = &walk->block->state;

	return gmem_state_private(state, walk->lo) == walk->private &&
	       gmem_state_run(state, walk->lo, walk->hi) == walk->hi;
}

/* The bitmaps, for which memory is better found with no block locked. */
static int gmem_reserve_maps(struct gmemfd_inode *fi,
			     const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;
	int err;

	for_each_span(walk, fi, ranges, nr) {
		if (walk.hi - walk.lo == gmem_block_pages(fi))
			continue;
		err = gmem_state_reserve(&walk.block->state, gmem_block_pages(fi));
		if (err)
			return err;
	}
	return 0;
}

/* All else that may fail, and needs no undoing. */
static int gmem_break_blocks(struct gmemfd_inode *fi,
			     const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;
	int err;

	for_each_span(walk, fi, ranges, nr) {
		if (walk.private || !walk.block->memory)
			continue;
		err = gmem_memory_break(walk.block->memory);
		if (err)
			return err;
	}
	return 0;
}

/*
 * The first page of the span that is not in a folio before page @done of the
 * file: one folio can be in several ranges.
 */
static unsigned long gmem_first_not_done(struct gmemfd_inode *fi, const struct gmem_walk *walk,
					 pgoff_t done)
{
	pgoff_t start = gmem_pgoff(fi, walk->block, 0);

	return done > start ? max(walk->lo, done - start) : walk->lo;
}

/* Unfreeze what gmem_freeze_ranges() froze, up to page @frozen of the file. */
static void gmem_unfreeze_ranges(struct gmemfd_inode *fi,
				 const struct gmemfd_convert_range *ranges,
			  unsigned int nr, pgoff_t frozen)
{
	struct gmem_walk walk;
	struct folio *folio;
	pgoff_t done = 0;

	for_each_span(walk, fi, ranges, nr) {
		unsigned long i = gmem_first_not_done(fi, &walk, done), next;

		if (walk.pos >= frozen)
			break;
		if (!walk.private || !walk.block->memory)
			continue;
		for (; (folio = gmem_next_shared_folio(walk.block, &i, &next, walk.hi));
		     i = next) {
			if (gmem_pgoff(fi, walk.block, i) >= frozen)
				return;
			folio_ref_unfreeze(folio, 1);
			done = gmem_pgoff(fi, walk.block, next);
		}
	}
}

/* Freeze all that becomes private; with -EAGAIN *@busy is the page to blame. */
static int gmem_freeze_ranges(struct gmemfd_inode *fi,
			      const struct gmemfd_convert_range *ranges, unsigned int nr,
		       pgoff_t *busy)
{
	struct gmem_walk walk;
	struct folio *folio;
	pgoff_t done = 0;

	for_each_span(walk, fi, ranges, nr) {
		unsigned long i = gmem_first_not_done(fi, &walk, done), next;

		if (!walk.private || !walk.block->memory || gmem_span_is_converted(&walk))
			continue;
		gmem_unmap(fi, walk.block, walk.lo, walk.hi);
		for (; (folio = gmem_next_shared_folio(walk.block, &i, &next, walk.hi));
		     i = next) {
			if (!gmem_folio_freeze(fi, walk.block, folio,
					       GMEM_CONVERT_TRIES)) {
				*busy = gmem_pgoff(fi, walk.block, i);
				gmem_unfreeze_ranges(fi, ranges, nr, *busy);
				return -EAGAIN;
			}
			done = gmem_pgoff(fi, walk.block, next);
		}
	}
	return 0;
}

/* One flush for all pages that left the direct map. */
static void gmem_flush_ranges(struct gmemfd_inode *fi,
			      const struct gmemfd_convert_range *ranges,
			      unsigned int nr)
{
	unsigned long lo = ULONG_MAX, hi = 0;
	struct gmem_walk walk;

	for_each_span(walk, fi, ranges, nr) {
		unsigned long pfn;

		if (!walk.private || !walk.block->memory || gmem_span_is_converted(&walk))
			continue;
		pfn = page_to_pfn(walk.block->memory->loan.page);
		lo = min(lo, pfn + walk.lo);
		hi = max(hi, pfn + walk.hi);
	}
	if (lo < hi)
		gmem_direct_map_flush(pfn_to_page(lo), hi - lo);
}

static void gmem_undo_direct_map(struct gmemfd_inode *fi,
				 const struct gmemfd_convert_range *ranges,
				 unsigned int nr, pgoff_t failed)
{
	struct gmem_walk walk;

	for_each_span(walk, fi, ranges, nr) {
		if (walk.pos == failed)
			break;
		if (!walk.block->memory)
			continue;
		if (walk.private) {
			WARN_ON_ONCE(gmem_direct_map_restore_shared(walk.block, walk.lo,
								    walk.hi));
		} else {
			WARN_ON_ONCE(gmem_direct_map_remove_private(walk.block, walk.lo,
								    walk.hi));
			gmem_direct_map_flush(walk.block->memory->loan.page +
					      walk.lo, walk.hi - walk.lo);
		}
	}
}

/* What was exposed is there to stay. */
static void gmem_restore_exposed(struct gmemfd_inode *fi,
				 const struct gmemfd_convert_range *ranges,
				    unsigned int nr)
{
	struct gmem_walk walk;

	for_each_span(walk, fi, ranges, nr) {
		/* Parts of a region are merged by nobody but this file. */
		if (walk.private || !walk.block->memory ||
		    walk.hi - walk.lo < GMEM_REGION_PAGES)
			continue;
		WARN_ON_ONCE(gmem_direct_map_restore_private(walk.block, walk.lo,
							     walk.hi));
	}
}

static bool gmem_in_one_region(const struct gmemfd_convert_range *range)
{
	return range->offset / PMD_SIZE == (range->offset + range->size - 1) / PMD_SIZE;
}

/* Out of the direct map with what becomes private, into it with the rest. */
static int gmem_change_direct_map(struct gmemfd_inode *fi,
				  const struct gmemfd_convert_range *ranges,
				  unsigned int nr)
{
	/* If it is one thing that happens, nothing fails after it. */
	bool expose = nr > 1 || !gmem_in_one_region(ranges);
	struct gmem_walk walk;
	int err = 0;

	if (!gmem_off_direct_map(fi))
		return 0;
	for_each_span(walk, fi, ranges, nr) {
		if (!walk.block->memory)
			continue;
		if (gmem_should_fail())
			err = -ENOMEM;
		else if (walk.private)
			err = gmem_direct_map_remove_shared(walk.block, walk.lo, walk.hi);
		else if (expose)
			err = gmem_direct_map_expose_private(walk.block, walk.lo, walk.hi);
		else
			err = gmem_direct_map_restore_private(walk.block, walk.lo, walk.hi);
		if (err) {
			gmem_undo_direct_map(fi, ranges, nr, walk.pos);
			return err;
		}
	}
	if (expose)
		gmem_restore_exposed(fi, ranges, nr);
	gmem_flush_ranges(fi, ranges, nr);
	return 0;
}

/* Publish the new states, and have the folios follow.  Cannot fail. */
static void gmem_publish(struct gmemfd_inode *fi,
			 const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;

	for_each_span(walk, fi, ranges, nr)
		gmem_state_set(&walk.block->state, gmem_block_pages(fi),
			       walk.lo, walk.hi, walk.private);
	for_each_span(walk, fi, ranges, nr) {
		struct gmem_memory *memory = walk.block->memory;

		if (!memory)
			continue;
		if (memory->broken)
			gmem_reshape(fi, walk.block, walk.lo, walk.hi);
		if (!walk.private && gmem_off_direct_map(fi))
			gmem_direct_map_merge_shared(walk.block, walk.lo, walk.hi);
	}
}

/* Set the states of all ranges, or fail and change nothing. */
static int gmem_try_convert(struct gmemfd_inode *fi,
			    const struct gmemfd_convert_range *ranges,
			    unsigned int nr, pgoff_t *busy)
{
	int err;

	err = gmem_lock_ranges(fi, ranges, nr);
	if (err)
		return err;

	err = gmem_break_blocks(fi, ranges, nr);
	if (err)
		goto out;
	err = gmem_freeze_ranges(fi, ranges, nr, busy);
	if (err)
		goto out;
	err = gmem_change_direct_map(fi, ranges, nr);
	if (err) {
		gmem_unfreeze_ranges(fi, ranges, nr, ULONG_MAX);
		goto out;
	}
	gmem_publish(fi, ranges, nr);
out:
	gmem_unlock_ranges(fi, ranges, nr);
	return err;
}

/* Does anybody but the file, and page tables, hold the folio of a page? */
static bool gmem_referenced(struct gmemfd_inode *fi, pgoff_t index)
{
	struct gmem_block *block = gmem_block_at(fi, index);
	unsigned long i = gmem_page_in_block(fi, index);
	struct gmem_memory *memory;
	bool referenced = false;

	if (gmem_lock_block_shared(fi, block))
		return true;	/* and about to be interrupted */
	memory = block->memory;
	if (memory && !gmem_state_private(&block->state, i)) {
		struct folio *folio = page_folio(memory->loan.page + i);

		referenced = folio_ref_count(folio) > 1 + folio_mapcount(folio);
	}
	gmem_unlock_block_shared(fi, block);
	return referenced;
}

/*
 * Has the caller to leave the kernel?  For a signal, a debugger, or a freezer: the
 * call goes on afterwards with the time that is left, unless a handler runs.  Or,
 * without noticing, for work of its own (io_uring's, which may be what drops a
 * reference).
 */
static int gmem_signal_error(void)
{
	if (!signal_pending(current))
		return 0;
	return task_sigpending(current) ? -ERESTARTNOHAND : -ERESTARTNOINTR;
}

/*
 * Sleep until nobody holds page @index, or until it is time to try all the same.
 * Whoever drops a reference that is not the last tells nobody, so this looks, less
 * and less often, and without unmapping anything from those who use the page.
 * Where short references follow each other no look may ever find none; a try can,
 * as it keeps new ones away.
 */
static int gmem_wait_unreferenced(struct gmemfd_inode *fi, pgoff_t index,
				  ktime_t deadline, ktime_t *delay)
{
	unsigned int looks = 0;
	int err;

	do {
		ktime_t now = ktime_get(), until = min(now + *delay, deadline);

		if (now >= deadline)
			return -ETIMEDOUT;
		set_current_state(TASK_INTERRUPTIBLE);
		if (!signal_pending(current))
			schedule_hrtimeout_range(&until, *delay / 4, HRTIMER_MODE_ABS);
		__set_current_state(TASK_RUNNING);
		err = gmem_signal_error();
		if (err)
			return err;
		*delay = min(2 * *delay, GMEM_WAIT_MAX_NS);
	} while (++looks < GMEM_WAIT_LOOKS && gmem_referenced(fi, index));
	return 0;
}

/**
 * gmem_convert - set the states of ranges of pages, of all or of none
 * @fi: the file
 * @ranges: checked, in ascending order, disjoint
 * @nr: how many
 * @deadline: how long to wait for references to go; NULL for not
 * @busy: out, if a conversion was refused: the first page somebody held a
 *	reference to
 *
 * Return: 0 or the errors in the description of struct gmemfd_convert, or, after
 * waiting, -ERESTARTNOHAND or -ERESTARTNOINTR.
 */
int gmem_convert(struct gmemfd_inode *fi, const struct gmemfd_convert_range *ranges,
		 unsigned int nr, const ktime_t *deadline, pgoff_t *busy)
{
	ktime_t delay = GMEM_WAIT_MIN_NS;
	int err;

	err = gmem_reserve_maps(fi, ranges, nr);
	if (err)
		return err;
	do {
		err = gmem_try_convert(fi, ranges, nr, busy);
		if (err != -EAGAIN || !deadline)
			return err;
		err = gmem_wait_unreferenced(fi, *busy, *deadline, &delay);
	} while (!err);
	return err;
}

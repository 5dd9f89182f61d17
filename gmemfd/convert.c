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

/**
 * struct gmem_walk - a way through all spans of all ranges of a conversion
 * @range: where it is
 * @end: behind the last range
 * @span: where in @range; no block before the start
 * @pos: first page of @span in the file
 * @private: what @range converts to
 */
struct gmem_walk {
	const struct gmemfd_convert_range *range, *end;
	struct gmem_span span;
	pgoff_t pos;
	bool private;
};

static bool gmem_walk_next(struct gmem_inode *gi, struct gmem_walk *walk)
{
	pgoff_t last;

	if (walk->span.block) {
		walk->pos += walk->span.hi - walk->span.lo;
		last = (walk->range->offset + walk->range->size) >> PAGE_SHIFT;
		if (walk->pos == last) {
			walk->range++;
			walk->span.block = NULL;
		}
	}
	if (walk->range == walk->end)
		return false;
	if (!walk->span.block)
		walk->pos = walk->range->offset >> PAGE_SHIFT;
	last = (walk->range->offset + walk->range->size) >> PAGE_SHIFT;
	walk->span = gmem_span(gi, walk->pos, last);
	walk->private = walk->range->attributes & GMEMFD_ATTRIBUTE_PRIVATE;
	return true;
}

#define for_each_converted(walk, gi, ranges, nr)			\
	for (walk = (struct gmem_walk) { .range = (ranges), .end = (ranges) + (nr) }; \
	     gmem_walk_next(gi, &walk);)

/* Nothing to do here. */
static bool gmem_is_so(const struct gmem_walk *walk)
{
	const struct gmem_state *state = &walk->span.block->state;

	return gmem_state_private(state, walk->span.lo) == walk->private &&
	       gmem_state_run(state, walk->span.lo, walk->span.hi) == walk->span.hi;
}

/* Ranges can share blocks: each is locked, and unlocked, once. */
static void gmem_unlock_ranges(struct gmem_inode *gi,
			       const struct gmemfd_convert_range *ranges,
			       unsigned int nr, const struct gmem_block *last)
{
	struct gmem_block *done = NULL;
	struct gmem_walk walk;

	for_each_converted(walk, gi, ranges, nr) {
		if (walk.span.block > last)
			break;
		if (walk.span.block != done)
			up_write(&walk.span.block->lock);
		done = walk.span.block;
	}
	lock_map_release(&gi->lock_map);
}

static int gmem_lock_ranges(struct gmem_inode *gi,
			    const struct gmemfd_convert_range *ranges,
			    unsigned int nr)
{
	struct gmem_block *done = NULL;
	struct gmem_walk walk;

	lock_map_acquire(&gi->lock_map);
	for_each_converted(walk, gi, ranges, nr) {
		if (walk.span.block == done)
			continue;
		if (down_write_killable(&walk.span.block->lock)) {
			gmem_unlock_ranges(gi, ranges, nr, done);
			return -EINTR;
		}
		done = walk.span.block;
	}
	return 0;
}

/* The bitmaps, for which memory is better found with no block locked. */
static int gmem_reserve_maps(struct gmem_inode *gi,
			     const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;
	int err;

	for_each_converted(walk, gi, ranges, nr) {
		if (walk.span.hi - walk.span.lo == gmem_block_pages(gi))
			continue;
		err = gmem_state_reserve(&walk.span.block->state, gmem_block_pages(gi));
		if (err)
			return err;
	}
	return 0;
}

/* All else that may fail, and needs no undoing. */
static int gmem_prepare(struct gmem_inode *gi,
			const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;
	int err;

	for_each_converted(walk, gi, ranges, nr) {
		if (walk.private || !walk.span.block->memory)
			continue;
		err = gmem_memory_break(walk.span.block->memory);
		if (err)
			return err;
	}
	return 0;
}

/*
 * The first page of the span that is not in a folio before page @done of the
 * file: one folio can be in several ranges.
 */
static unsigned long gmem_behind(struct gmem_inode *gi, const struct gmem_span *span,
				 pgoff_t done)
{
	pgoff_t start = gmem_pgoff(gi, span->block, 0);

	return done > start ? max(span->lo, done - start) : span->lo;
}

/* Unfreeze what gmem_freeze() froze, up to page @frozen of the file. */
static void gmem_unfreeze(struct gmem_inode *gi,
			  const struct gmemfd_convert_range *ranges,
			  unsigned int nr, pgoff_t frozen)
{
	struct gmem_walk walk;
	struct folio *folio;
	pgoff_t done = 0;

	for_each_converted(walk, gi, ranges, nr) {
		struct gmem_span *span = &walk.span;
		unsigned long i = gmem_behind(gi, span, done), next;

		if (walk.pos >= frozen)
			break;
		if (!walk.private || !span->block->memory)
			continue;
		for (; (folio = gmem_next_shared_folio(span->block, &i, &next, span->hi));
		     i = next) {
			if (gmem_pgoff(gi, span->block, i) >= frozen)
				return;
			folio_ref_unfreeze(folio, 1);
			done = gmem_pgoff(gi, span->block, next);
		}
	}
}

/* Freeze all that becomes private; with -EAGAIN *@busy is the page to blame. */
static int gmem_freeze(struct gmem_inode *gi,
		       const struct gmemfd_convert_range *ranges, unsigned int nr,
		       pgoff_t *busy)
{
	struct gmem_walk walk;
	struct folio *folio;
	pgoff_t done = 0;

	for_each_converted(walk, gi, ranges, nr) {
		struct gmem_span *span = &walk.span;
		unsigned long i = gmem_behind(gi, span, done), next;

		if (!walk.private || !span->block->memory || gmem_is_so(&walk))
			continue;
		gmem_unmap(gi, span->block, span->lo, span->hi);
		for (; (folio = gmem_next_shared_folio(span->block, &i, &next, span->hi));
		     i = next) {
			if (!gmem_folio_freeze(gi, span->block, folio,
					       GMEM_CONVERT_TRIES)) {
				*busy = gmem_pgoff(gi, span->block, i);
				gmem_unfreeze(gi, ranges, nr, *busy);
				return -EAGAIN;
			}
			done = gmem_pgoff(gi, span->block, next);
		}
	}
	return 0;
}

/* One flush for all pages that left the direct map. */
static void gmem_flush_ranges(struct gmem_inode *gi,
			      const struct gmemfd_convert_range *ranges,
			      unsigned int nr)
{
	unsigned long lo = ULONG_MAX, hi = 0;
	struct gmem_walk walk;

	for_each_converted(walk, gi, ranges, nr) {
		unsigned long pfn;

		if (!walk.private || !walk.span.block->memory || gmem_is_so(&walk))
			continue;
		pfn = page_to_pfn(walk.span.block->memory->loan.page);
		lo = min(lo, pfn + walk.span.lo);
		hi = max(hi, pfn + walk.span.hi);
	}
	if (lo < hi)
		gmem_direct_map_flush(pfn_to_page(lo), hi - lo);
}

static void gmem_undo_direct_map(struct gmem_inode *gi,
				 const struct gmemfd_convert_range *ranges,
				 unsigned int nr, pgoff_t failed)
{
	struct gmem_walk walk;

	for_each_converted(walk, gi, ranges, nr) {
		struct gmem_span *span = &walk.span;

		if (walk.pos == failed)
			break;
		if (!span->block->memory)
			continue;
		WARN_ON_ONCE(gmem_direct_map_runs(span->block, true, !walk.private,
						  span->lo, span->hi, walk.private ?
						  gmem_direct_map_restore :
						  gmem_direct_map_remove));
		if (!walk.private)
			gmem_direct_map_flush(span->block->memory->loan.page +
					      span->lo, span->hi - span->lo);
	}
}

/* What was exposed is there to stay. */
static void gmem_keep_in_direct_map(struct gmem_inode *gi,
				    const struct gmemfd_convert_range *ranges,
				    unsigned int nr)
{
	struct gmem_walk walk;

	for_each_converted(walk, gi, ranges, nr) {
		struct gmem_span *span = &walk.span;

		/* Parts of a region are merged by nobody but this file. */
		if (walk.private || !span->block->memory ||
		    span->hi - span->lo < GMEM_REGION_PAGES)
			continue;
		WARN_ON_ONCE(gmem_direct_map_runs(span->block, true, true, span->lo,
						  span->hi, gmem_direct_map_restore));
	}
}

static bool gmem_in_one_region(const struct gmemfd_convert_range *range)
{
	return range->offset / PMD_SIZE == (range->offset + range->size - 1) / PMD_SIZE;
}

/* Out of the direct map with what becomes private, into it with the rest. */
static int gmem_change_direct_map(struct gmem_inode *gi,
				  const struct gmemfd_convert_range *ranges,
				  unsigned int nr)
{
	/* If it is one thing that happens, nothing fails after it. */
	bool expose = nr > 1 || !gmem_in_one_region(ranges);
	struct gmem_walk walk;
	int err = 0;

	if (!gmem_off_direct_map(gi))
		return 0;
	for_each_converted(walk, gi, ranges, nr) {
		if (!walk.span.block->memory)
			continue;
		err = gmem_should_fail() ? -ENOMEM :
		      gmem_direct_map_runs(walk.span.block, true, !walk.private,
					   walk.span.lo, walk.span.hi,
					   walk.private ? gmem_direct_map_remove :
					   expose ? gmem_direct_map_expose :
						    gmem_direct_map_restore);
		if (err) {
			gmem_undo_direct_map(gi, ranges, nr, walk.pos);
			return err;
		}
	}
	if (expose)
		gmem_keep_in_direct_map(gi, ranges, nr);
	gmem_flush_ranges(gi, ranges, nr);
	return 0;
}

/*
 * Merge the direct map where it has tables and whole regions are shared now, and to
 * 1 GiB when all of the block is.
 */
static void gmem_heal_span(const struct gmem_span *span)
{
	unsigned long last = DIV_ROUND_UP(span->hi, GMEM_REGION_PAGES);
	unsigned long first = span->lo >> GMEM_REGION_ORDER, i, end;
	struct gmem_block *block = span->block;
	struct gmem_memory *memory = block->memory;
	bool look = block->state.kind == GMEM_ALL_SHARED;

	for (i = first; (i = find_next_bit(memory->tables, last, i)) < last; i = end + 1) {
		for (end = i; end < last && test_bit(end, memory->tables) &&
		     gmem_state_folio_order(&block->state, end << GMEM_REGION_ORDER);)
			end++;
		if (end == i)
			continue;
		gmem_direct_map_heal(memory, i, end);
		look = false;
	}
	if (look)
		gmem_direct_map_heal(memory, first, first);
}

/* Publish the new states, and have the folios follow.  Cannot fail. */
static void gmem_finish(struct gmem_inode *gi,
			const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;

	for_each_converted(walk, gi, ranges, nr)
		gmem_state_set(&walk.span.block->state, gmem_block_pages(gi),
			       walk.span.lo, walk.span.hi, walk.private);
	for_each_converted(walk, gi, ranges, nr) {
		struct gmem_memory *memory = walk.span.block->memory;

		if (!memory)
			continue;
		if (memory->broken)
			gmem_shape(gi, walk.span.block, walk.span.lo, walk.span.hi);
		if (!walk.private && gmem_off_direct_map(gi))
			gmem_heal_span(&walk.span);
	}
}

/* Set the states of all ranges, or fail and change nothing. */
static int gmem_try_convert(struct gmem_inode *gi,
			    const struct gmemfd_convert_range *ranges,
			    unsigned int nr, pgoff_t *busy)
{
	int err;

	err = gmem_lock_ranges(gi, ranges, nr);
	if (err)
		return err;

	err = gmem_prepare(gi, ranges, nr);
	if (err)
		goto out;
	err = gmem_freeze(gi, ranges, nr, busy);
	if (err)
		goto out;
	err = gmem_change_direct_map(gi, ranges, nr);
	if (err) {
		gmem_unfreeze(gi, ranges, nr, ULONG_MAX);
		goto out;
	}
	gmem_finish(gi, ranges, nr);
out:
	gmem_unlock_ranges(gi, ranges, nr, gi->blocks + gi->nr_blocks);
	return err;
}

/* Does anybody but the file, and page tables, hold the folio of a page? */
static bool gmem_referenced(struct gmem_inode *gi, pgoff_t index)
{
	struct gmem_span span = gmem_span(gi, index, index + 1);
	struct gmem_memory *memory;
	bool referenced = false;

	if (gmem_lock_block_shared(gi, span.block))
		return true;	/* and about to be interrupted */
	memory = span.block->memory;
	if (memory && !gmem_state_private(&span.block->state, span.lo)) {
		struct folio *folio = page_folio(memory->loan.page + span.lo);

		referenced = folio_ref_count(folio) > 1 + folio_mapcount(folio);
	}
	gmem_unlock_block_shared(gi, span.block);
	return referenced;
}

/*
 * Has the caller to leave the kernel?  For a signal, a debugger, or a freezer: the
 * call goes on afterwards with the time that is left, unless a handler runs.  Or,
 * without noticing, for work of its own (io_uring's, which may be what drops a
 * reference).
 */
static int gmem_interrupted(void)
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
static int gmem_wait_unreferenced(struct gmem_inode *gi, pgoff_t index,
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
		err = gmem_interrupted();
		if (err)
			return err;
		*delay = min(2 * *delay, GMEM_WAIT_MAX_NS);
	} while (++looks < GMEM_WAIT_LOOKS && gmem_referenced(gi, index));
	return 0;
}

/**
 * gmem_convert - set the states of ranges of pages, of all or of none
 * @gi: the file
 * @ranges: checked, in ascending order, disjoint
 * @nr: how many
 * @deadline: how long to wait for references to go; NULL for not
 * @busy: out, if a conversion was refused: the first page somebody held a
 *	reference to
 *
 * Return: 0 or the errors in the description of struct gmemfd_convert, or, after
 * waiting, -ERESTARTNOHAND or -ERESTARTNOINTR.
 */
int gmem_convert(struct gmem_inode *gi, const struct gmemfd_convert_range *ranges,
		 unsigned int nr, const ktime_t *deadline, pgoff_t *busy)
{
	ktime_t delay = GMEM_WAIT_MIN_NS;
	int err;

	err = gmem_reserve_maps(gi, ranges, nr);
	if (err)
		return err;
	do {
		err = gmem_try_convert(gi, ranges, nr, busy);
		if (err != -EAGAIN || !deadline)
			return err;
		err = gmem_wait_unreferenced(gi, *busy, *deadline, &delay);
	} while (!err);
	return err;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Conversion.  Everything that can fail is done first, and if it fails what was done is
 * undone in reverse order, apart from what does no harm: bitmaps, broken blocks, and pages
 * that are unmapped and can be touched again.  Then the state is set, and the folios
 * follow it.
 *
 *   reserve   bitmaps for the state, with no block locked
 *   lock      all blocks of the ranges
 *   break     blocks of which pages become shared
 *   unmap     secret pages that do not stay secret
 *   freeze    folios of which pages become private; fails if one is referenced
 *   drop      KVM's own mappings of pages that become private
 *   take      pages from guests that tell private from shared
 *   change    the direct map, and flush once; fails if there is no memory for a table
 *   publish   the states; from here on nothing fails
 *   give      these guests may look the pages up again
 *   reshape   the folios, and merge the direct map
 *   unlock
 */
#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>

#include "gmemfd.h"
#include "trace.h"

/* How often a folio is tried again, 50 to 100 us apart, before a conversion fails. */
#define GMEM_CONVERT_TRIES	20

/* A waiting conversion looks at the reference at these intervals, and tries after LOOKS. */
#define GMEM_WAIT_MIN_NS	(50 * NSEC_PER_USEC)
#define GMEM_WAIT_MAX_NS	(10 * NSEC_PER_MSEC)
#define GMEM_WAIT_LOOKS		4

/* Do all pages of the span have the state that they convert to?  [block] */
static bool gmem_span_is_converted(const struct gmem_walk *walk)
{
	const struct gmem_state *state = &walk->block->state;

	return gmem_state_private(state, walk->lo) == walk->private &&
	       gmem_state_run(state, walk->lo, walk->hi) == walk->hi;
}

/* Get the bitmaps for the states.  With no block locked, that holds nobody up. */
static int gmem_reserve_maps(struct gmemfd_inode *fi,
			     const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;
	int err;

	for_each_span(walk, fi, ranges, nr) {
		if (walk.hi - walk.lo == gmem_block_pages(fi))
			continue;
		err = gmem_state_reserve(&walk.block->state, gmem_block_pages(fi));
		if (!err && gmem_has_secret(fi))
			err = gmem_state_reserve(&walk.block->secret, gmem_block_pages(fi));
		if (err)
			return err;
	}
	return 0;
}

/* Break blocks of which pages become shared.  That need not be undone.  [block] */
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

/* Unmap secret pages, if anybody may have one of them mapped.  [block] */
static void gmem_unmap_mapped(struct gmemfd_inode *fi, struct gmem_block *block,
			      unsigned long lo, unsigned long hi)
{
	unsigned long *mapped = block->memory->mapped;
	unsigned long first = lo >> GMEM_REGION_ORDER;
	unsigned long last = DIV_ROUND_UP(hi, GMEM_REGION_PAGES);

	if (find_next_bit(mapped, last, first) >= last)
		return;
	gmem_unmap(fi, block, lo, hi);
	/* Of a region in part others may be mapped. */
	first = DIV_ROUND_UP(lo, GMEM_REGION_PAGES);
	last = hi >> GMEM_REGION_ORDER;
	if (first < last)
		bitmap_clear(mapped, first, last - first);
}

/*
 * Unmap secret pages that become private or shared.  A fault maps one with its block
 * locked: none does any more.  [block]
 */
static void gmem_unmap_secret(struct gmemfd_inode *fi,
			      const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;
	unsigned long i, end;

	for_each_span(walk, fi, ranges, nr) {
		if (walk.secret || !walk.block->memory)
			continue;
		for (i = walk.lo; i < walk.hi; i = end) {
			end = gmem_state_run(&walk.block->secret, i, walk.hi);
			if (gmem_page_secret(walk.block, i))
				gmem_unmap_mapped(fi, walk.block, i, end);
		}
	}
}

/*
 * The first page of the span that is not before page @done of the file.  Several ranges
 * can have a part of the same folio, which is frozen once.
 */
static unsigned long gmem_first_not_done(struct gmemfd_inode *fi, const struct gmem_walk *walk,
					 pgoff_t done)
{
	pgoff_t start = gmem_pgoff(fi, walk->block, 0);

	return done > start ? max(walk->lo, done - start) : walk->lo;
}

/* Undo gmem_freeze_ranges() for all folios before page @frozen of the file.  [block] */
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

/*
 * Freeze all folios with pages that become private.  Returns -EAGAIN if somebody holds a
 * reference to one, and *@busy is the first page of the range in it then.  [block]
 */
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

/* Flush once for all pages that have left the direct map.  [block] */
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

/* Undo the changes of the direct map up to page @failed of the file.  [block] */
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

/* The pages stay for good: exposed entries become restored ones.  [block] */
static void gmem_restore_exposed(struct gmemfd_inode *fi,
				 const struct gmemfd_convert_range *ranges,
				 unsigned int nr)
{
	struct gmem_walk walk;

	for_each_span(walk, fi, ranges, nr) {
		/* Less than a region is in 4 KiB entries, where exposing restores at once. */
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

/*
 * Take pages that become private out of the direct map, and put pages that become shared
 * into it; all of them, or none.  [block]
 */
static int gmem_change_direct_map(struct gmemfd_inode *fi,
				  const struct gmemfd_convert_range *ranges,
				  unsigned int nr)
{
	/* Nothing that can fail follows a single change: no need to expose first. */
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

/* Pages become private: KVM's own mappings of them go.  [block] */
static void gmem_drop_caches(struct gmemfd_inode *fi,
			     const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;

	if (list_empty(&fi->bindings))
		return;
	for_each_span(walk, fi, ranges, nr) {
		if (walk.private && !walk.secret && walk.block->memory)
			gmem_kvm_drop_caches(fi, walk.pos, walk.pos + walk.hi - walk.lo);
	}
}

/* What the pages of a range are, as GMEMFD_ATTRIBUTE_* or GMEM_TRACE_MIXED.  [block] */
static unsigned int gmem_range_state(struct gmemfd_inode *fi,
				     const struct gmemfd_convert_range *range)
{
	unsigned int state = GMEM_TRACE_UNKNOWN, now;
	struct gmem_walk walk;

	for_each_span(walk, fi, range, 1) {
		const struct gmem_block *block = walk.block;

		if (gmem_state_run(&block->state, walk.lo, walk.hi) < walk.hi ||
		    gmem_state_run(&block->secret, walk.lo, walk.hi) < walk.hi)
			return GMEM_TRACE_MIXED;
		now = gmem_page_secret(block, walk.lo) ? GMEMFD_ATTRIBUTE_SECRET :
		      gmem_state_private(&block->state, walk.lo) ?
		      GMEMFD_ATTRIBUTE_PRIVATE : 0;
		if (state != GMEM_TRACE_UNKNOWN && state != now)
			return GMEM_TRACE_MIXED;
		state = now;
	}
	return state;
}

/* Nothing can fail any more, and the states are what they were.  [block] */
static void gmem_trace_converted(struct gmemfd_inode *fi,
				 const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	if (!trace_gmem_convert_enabled())
		return;
	for (; nr; nr--, ranges++) {
		trace_gmem_convert(fi, ranges, gmem_range_state(fi, ranges), ULONG_MAX, 0);
		cond_resched();
	}
}

/* A conversion has failed, maybe before it had the locks that say what the pages are. */
static void gmem_trace_failed(struct gmemfd_inode *fi,
			      const struct gmemfd_convert_range *ranges, unsigned int nr,
			      pgoff_t busy, int err)
{
	if (!trace_gmem_convert_enabled())
		return;
	for (; nr; nr--, ranges++) {
		trace_gmem_convert(fi, ranges, GMEM_TRACE_UNKNOWN, busy, err);
		cond_resched();
	}
}

/* Are all pages of the span the guest's alone already, or none, as they are to be?  [block] */
static bool gmem_span_keeps_type(const struct gmem_walk *walk)
{
	return gmem_page_guests(walk->block, walk->lo) == (walk->private && !walk->secret) &&
	       gmem_guests_run(walk->block, walk->lo, walk->hi) == walk->hi;
}

/* Guests that tell private from shared lose what changes.  [block, bindings] */
static void gmem_take_from_guests(struct gmemfd_inode *fi,
				  const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;

	for_each_span(walk, fi, ranges, nr) {
		if (!gmem_span_keeps_type(&walk))
			gmem_kvm_convert(fi, walk.pos, walk.pos + walk.hi - walk.lo,
					 walk.private && !walk.secret);
	}
}

/* Set the new states.  gmem_kvm_is_private() relies on the order.  [block] */
static void gmem_set_states(struct gmemfd_inode *fi,
			    const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	unsigned long pages = gmem_block_pages(fi);
	struct gmem_walk walk;

	for_each_span(walk, fi, ranges, nr) {
		struct gmem_block *block = walk.block;

		if (!walk.private) {
			gmem_state_set(&block->state, pages, walk.lo, walk.hi, false);
			smp_wmb();	/* pairs with those of gmem_kvm_is_private() */
		}
		gmem_state_set(&block->secret, pages, walk.lo, walk.hi, walk.secret);
		if (walk.private) {
			smp_wmb();	/* the same */
			gmem_state_set(&block->state, pages, walk.lo, walk.hi, true);
		}
	}
}

/* Make the folios follow the states.  This cannot fail.  [block] */
static void gmem_follow_states(struct gmemfd_inode *fi,
			       const struct gmemfd_convert_range *ranges, unsigned int nr)
{
	struct gmem_walk walk;

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

/* Set the states of all ranges, or fail and change nothing.  [takes block] */
static int gmem_try_convert(struct gmemfd_inode *fi,
			    const struct gmemfd_convert_range *ranges,
			    unsigned int nr, pgoff_t *busy)
{
	bool typed;
	int err;

	err = gmem_lock_ranges(fi, ranges, nr);
	if (err)
		return err;

	err = gmem_break_blocks(fi, ranges, nr);
	if (err)
		goto out;
	if (gmem_has_secret(fi))
		gmem_unmap_secret(fi, ranges, nr);
	err = gmem_freeze_ranges(fi, ranges, nr, busy);
	if (err)
		goto out;
	gmem_drop_caches(fi, ranges, nr);
	typed = gmem_kvm_convert_begin(fi);
	if (typed)
		gmem_take_from_guests(fi, ranges, nr);
	err = gmem_change_direct_map(fi, ranges, nr);
	if (!err) {
		gmem_trace_converted(fi, ranges, nr);
		gmem_set_states(fi, ranges, nr);
	}
	if (typed)
		gmem_kvm_convert_end(fi);
	if (err)
		gmem_unfreeze_ranges(fi, ranges, nr, ULONG_MAX);
	else
		gmem_follow_states(fi, ranges, nr);
out:
	gmem_unlock_ranges(fi, ranges, nr);
	return err;
}

/* Does anybody but the file and page tables hold the folio of a page?  [takes block] */
static bool gmem_referenced(struct gmemfd_inode *fi, pgoff_t index)
{
	struct gmem_block *block = gmem_block_at(fi, index);
	unsigned long i = gmem_page_in_block(fi, index);
	struct gmem_memory *memory;
	bool referenced = false;

	if (gmem_lock_block_shared(fi, block))
		return true;	/* a signal is about to end the wait */
	memory = block->memory;
	if (memory && !gmem_state_private(&block->state, i)) {
		struct folio *folio = page_folio(memory->loan.page + i);

		referenced = folio_ref_count(folio) > 1 + folio_mapcount(folio);
	}
	gmem_unlock_block_shared(fi, block);
	return referenced;
}

/*
 * An error if the task has to leave the kernel now, otherwise 0.  After a signal, a
 * debugger or the freezer the call goes on with the time that is left, unless a handler
 * runs.  After work of the task's own the caller does not notice that it went on.  Such
 * work is io_uring's, for one, and may be what drops a reference.
 */
static int gmem_signal_error(void)
{
	if (!signal_pending(current))
		return 0;
	return task_sigpending(current) ? -ERESTARTNOHAND : -ERESTARTNOINTR;
}

/*
 * Sleep until nobody holds page @index, or until it is time to try anyway.  A reference
 * that is dropped and is not the last tells nobody, so this has to look.  It looks less
 * and less often, and does not unmap anything from those who use the page.  If short
 * references follow each other, looks may always find one.  A try keeps new ones away.
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
 * gmem_convert - set the states of ranges of pages, of all or of none [takes block]
 * @fi: the file
 * @ranges: valid ranges in ascending order that do not overlap
 * @nr: how many
 * @deadline: how long to wait until references are dropped; NULL for not at all
 * @busy: ULONG_MAX; out: if a conversion was refused, the first page that somebody held
 *
 * Return: 0 or the errors in the description of struct gmemfd_convert, or, after waiting,
 * -ERESTARTNOHAND or -ERESTARTNOINTR.
 */
int gmem_convert(struct gmemfd_inode *fi, const struct gmemfd_convert_range *ranges,
		 unsigned int nr, const ktime_t *deadline, pgoff_t *busy)
{
	ktime_t delay = GMEM_WAIT_MIN_NS;
	int err;

	err = gmem_reserve_maps(fi, ranges, nr);
	while (!err) {
		err = gmem_try_convert(fi, ranges, nr, busy);
		if (!err)
			return 0;
		if (err == -EAGAIN && deadline)
			err = gmem_wait_unreferenced(fi, *busy, *deadline, &delay);
	}
	gmem_trace_failed(fi, ranges, nr, *busy, err);
	return err;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Conversion: everything that can fail is done first, and undone in reverse
 * when it does; then the state is set and the folios follow it.
 */
#include <linux/fs.h>
#include <linux/mm.h>

#include "gmemfd.h"

/* How long a conversion waits for a reference to turn out to be transient. */
#define GMEM_CONVERT_TRIES	20

/* Unfreeze what gmem_freeze_span() froze before page @failed of the span. */
static void gmem_unfreeze_span(const struct gmem_span *span, unsigned long failed)
{
	unsigned long i, next;
	struct folio *folio;

	for (i = span->lo;
	     (folio = gmem_next_shared_folio(span->block, &i, &next, failed));
	     i = next)
		folio_ref_unfreeze(folio, 1);
}

/* Freeze the span's shared folios; on failure *@failed is the page to blame. */
static int gmem_freeze_span(struct gmem_inode *gi, const struct gmem_span *span,
			    unsigned long *failed)
{
	unsigned long i, next;
	struct folio *folio;

	gmem_unmap(gi, span->block, span->lo, span->hi);
	for (i = span->lo;
	     (folio = gmem_next_shared_folio(span->block, &i, &next, span->hi));
	     i = next) {
		if (!gmem_folio_freeze(gi, span->block, folio,
				       GMEM_CONVERT_TRIES)) {
			gmem_unfreeze_span(span, i);
			*failed = i;
			return -EAGAIN;
		}
	}
	return 0;
}

/* All that may fail, and needs no undoing, for a span. */
static int gmem_prepare_span(struct gmem_inode *gi, const struct gmem_span *span,
			     bool private)
{
	struct gmem_block *block = span->block;
	int err;

	err = gmem_state_reserve(&block->state, gmem_block_pages(gi),
				 span->lo, span->hi, private);
	if (!err && !private && block->memory)
		err = gmem_memory_break(block->memory);
	return err;
}

static void gmem_undo_span(struct gmem_inode *gi, const struct gmem_span *span,
			   bool private)
{
	if (!span->block->memory)
		return;
	if (gmem_off_direct_map(gi)) {
		WARN_ON_ONCE(gmem_direct_map_runs(span->block, true, !private,
						  span->lo, span->hi, !private));
		if (!private)
			gmem_direct_map_flush(span->block->memory->loan.page +
					      span->lo, span->hi - span->lo);
	}
	if (private)
		gmem_unfreeze_span(span, span->hi);
}

/* Freeze and take out of the direct map, or put back into it; or neither. */
static int gmem_do_span(struct gmem_inode *gi, const struct gmem_span *span,
			bool private, pgoff_t *busy)
{
	unsigned long failed;
	int err = 0;

	if (!span->block->memory)
		return 0;
	if (private) {
		err = gmem_freeze_span(gi, span, &failed);
		if (err) {
			*busy = gmem_pgoff(gi, span->block, failed);
			return err;
		}
	}
	if (gmem_off_direct_map(gi)) {
		err = gmem_direct_map_runs(span->block, true, !private,
					   span->lo, span->hi, private);
		if (err && private)
			gmem_unfreeze_span(span, span->hi);
	}
	return err;
}

/* The state is about to change: publish it.  Cannot fail. */
static void gmem_finish_span(struct gmem_inode *gi, const struct gmem_span *span,
			     bool private)
{
	struct gmem_block *block = span->block;

	gmem_state_set(&block->state, gmem_block_pages(gi), span->lo, span->hi,
		       private);
	if (!block->memory)
		return;
	if (block->memory->broken)
		gmem_shape(gi, block, span->lo, span->hi);
	if (!private && gmem_off_direct_map(gi)) {
		unsigned long lo = round_down(span->lo, GMEM_REGION_PAGES);
		unsigned long hi = round_up(span->hi, GMEM_REGION_PAGES);

		/* Worth a try where a whole region is shared now. */
		if (hi - lo > 2 * GMEM_REGION_PAGES ||
		    gmem_state_folio_order(&block->state, lo) ||
		    gmem_state_folio_order(&block->state, hi - 1))
			gmem_direct_map_heal(block->memory->loan.page + lo,
					     hi - lo);
	}
}

/* One flush for all pages that left the direct map. */
static void gmem_flush_range(struct gmem_inode *gi, pgoff_t first, pgoff_t last)
{
	unsigned long lo = ULONG_MAX, hi = 0;
	struct gmem_span span;

	for_each_span(span, gi, pos, first, last) {
		unsigned long pfn;

		if (!span.block->memory)
			continue;
		pfn = page_to_pfn(span.block->memory->loan.page);
		lo = min(lo, pfn + span.lo);
		hi = max(hi, pfn + span.hi);
	}
	if (lo < hi)
		gmem_direct_map_flush(pfn_to_page(lo), hi - lo);
}

/**
 * gmem_convert - set the state of a range of pages
 * @gi: the file
 * @first: first page
 * @last: first page behind the range
 * @private: to what
 * @busy: out, with -EAGAIN: the first page somebody holds a reference to
 *
 * Return: 0 or the errors in the description of struct gmemfd_convert.
 */
int gmem_convert(struct gmem_inode *gi, pgoff_t first, pgoff_t last,
		 bool private, pgoff_t *busy)
{
	struct gmem_span span;
	pgoff_t done;
	int err;

	err = gmem_lock_blocks(gi, first, last);
	if (err)
		return err;

	for_each_span(span, gi, pos, first, last) {
		err = gmem_prepare_span(gi, &span, private);
		if (err)
			goto out;
	}

	/* Undoing a conversion to private needs no splitting. */
	if (!private)
		gmem_direct_map_begin();
	for_each_span(span, gi, pos, first, last) {
		done = pos;
		err = gmem_do_span(gi, &span, private, busy);
		if (err)
			break;
	}
	if (err) {
		for_each_span(span, gi, pos, first, done)
			gmem_undo_span(gi, &span, private);
	}
	if (!private)
		gmem_direct_map_end();
	if (err)
		goto out;

	if (private && gmem_off_direct_map(gi))
		gmem_flush_range(gi, first, last);
	for_each_span(span, gi, pos, first, last)
		gmem_finish_span(gi, &span, private);
out:
	for_each_span(span, gi, pos, first, last)
		gmem_state_trim(&span.block->state);
	gmem_unlock_blocks(gi, first, last);
	return err;
}

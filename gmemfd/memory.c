// SPDX-License-Identifier: GPL-2.0
/*
 * The memory behind a block while it is in the file.  It is taken from hugetlb, zeroed as
 * late as possible, made ready, and scrubbed before it leaves.  All functions here need
 * the block's lock, held exclusively but for gmem_memory_zero_next().
 */
#include <linux/mempolicy.h>
#include <linux/slab.h>

#include "gmemfd.h"
#include "trace.h"

static int gmem_take_loan(struct gmemfd_inode *fi, struct gmem_block *block,
			  struct gmem_loan *loan)
{
	pgoff_t index = gmem_pgoff(fi, block, 0);
	struct mempolicy *policy;
	int err;

	if (gmem_should_fail())
		return -ENOSPC;
	policy = gmem_mpol_lookup(&fi->policy, index);
	err = gmem_loan_take(loan, &fi->pool, policy, index >> fi->block_order,
			     fi->node);
	gmem_mpol_put(policy);
	/* With sysctl vm.movable_gigantic_pages hugetlb gives such memory. */
	if (!err && is_zone_movable_page(loan->page)) {
		gmem_loan_return(loan);
		err = -ENOSPC;
	}
	return err;
}

/* Memory offlining has to know the memory before its folios look free.  [block] */
static int gmem_take_known(struct gmemfd_inode *fi, struct gmem_block *block,
			   struct gmem_memory *memory)
{
	int err;

	for (;;) {
		err = gmem_take_loan(fi, block, &memory->loan);
		if (err == -ENOSPC) {
			/* The memory that was here before may be on its way home. */
			gmem_home_flush();
			err = gmem_take_loan(fi, block, &memory->loan);
		}
		if (err)
			return err;
		err = gmem_frames_add(fi, block, memory);
		if (!err)
			return 0;
		gmem_loan_return(&memory->loan);
		if (err != -EAGAIN)
			return err;
		/* hugetlb skips 2 MiB pages that go offline, but not 1 GiB pages. */
		schedule_timeout_killable(1);
		if (fatal_signal_pending(current))
			return -EINTR;
	}
}

/**
 * gmem_memory_take - put memory behind a hole [block, takes frames]
 * @fi: the file
 * @block: a hole
 *
 * Return: 0, -ENOMEM, -ENOSPC if a cgroup limit or a memory policy is in the way or
 * somebody still uses the memory that was here before, or -EINTR for a fatal signal.
 */
int gmem_memory_take(struct gmemfd_inode *fi, struct gmem_block *block)
{
	unsigned long longs = BITS_TO_LONGS(gmem_block_regions(fi));
	struct gmem_memory *memory;
	int err;

	memory = kzalloc(struct_size(memory, ready, 5 * longs), GFP_KERNEL_ACCOUNT);
	if (!memory)
		return -ENOMEM;
	memory->zeroed_ahead = memory->ready + longs;
	memory->split = memory->zeroed_ahead + longs;
	memory->tables = memory->split + longs;
	memory->mapped = memory->tables + longs;
	err = gmem_take_known(fi, block, memory);
	if (err) {
		kfree(memory);
		return err;
	}
	trace_gmem_block_take(memory);
	if (block->state.kind != GMEM_ALL_PRIVATE) {
		err = gmem_memory_break(memory);
		if (err)
			goto err_return;
	}
	block->memory = memory;
	inode_add_bytes(fi->inode, PAGE_SIZE << fi->block_order);
	if (memory->broken)
		gmem_reshape(fi, block, 0, gmem_block_pages(fi));
	return 0;

err_return:
	gmem_memory_free(memory);
	return err;
}

/* Zero pages, but none that is poisoned. */
static void gmem_clear(struct page *page, unsigned long nr)
{
	bool look = gmem_any_page_poisoned();
	unsigned long n;

	for (; nr; nr -= n, page += n) {
		n = look ? 1 : min(nr, GMEM_REGION_PAGES);
		if (!look || !PageHWPoison(page))
			gmem_clear_pages(page, n);
		cond_resched();
	}
}

static void gmem_zero_region(struct gmem_memory *memory, unsigned long region)
{
	gmem_clear(memory->loan.page + (region << GMEM_REGION_ORDER), GMEM_REGION_PAGES);
}

/**
 * gmem_memory_zero_next - zero a region ahead of gmem_memory_make_ready() [block shared]
 * @block: a block with memory
 * @lo: in: where to start; out: first page behind the region
 * @hi: where to stop
 *
 * Several tasks can do so at the same time, each in a region of its own.  The caller can
 * release the block's lock between one region and the next.
 *
 * Return: false if no region is left, or if a poisoned page has to be located first, which
 * gmem_memory_make_ready() does.
 */
bool gmem_memory_zero_next(struct gmem_block *block, unsigned long *lo,
			   unsigned long hi)
{
	struct gmem_memory *memory = block->memory;
	unsigned long last = DIV_ROUND_UP(hi, GMEM_REGION_PAGES);
	unsigned long i = *lo >> GMEM_REGION_ORDER;

	if (gmem_poison_unlocated(memory))
		return false;
	while (i < last && (test_bit(i, memory->ready) ||
			    test_and_set_bit(i, memory->zeroed_ahead)))
		i++;
	if (i >= last)
		return false;
	gmem_zero_region(memory, i);
	*lo = (i + 1) << GMEM_REGION_ORDER;
	return true;
}

/**
 * gmem_memory_scrub_next - scrub an all private region ahead of its release [block]
 * @fi: the file
 * @block: a block with memory, all of which is about to leave the file
 * @lo: in: where to start; out: first page behind the region
 * @hi: where to stop
 *
 * The region is as if it had never been populated then: zeroed, and not ready.  Private
 * contents are in the direct map for a short time only, and the caller can release the
 * block's lock between one region and the next.
 *
 * Return: false if no region is left, or if gmem_memory_release() has to scrub it.
 */
bool gmem_memory_scrub_next(struct gmemfd_inode *fi, struct gmem_block *block,
			    unsigned long *lo, unsigned long hi)
{
	struct gmem_memory *memory = block->memory;
	unsigned long i, end;

	for (i = *lo; gmem_next_run(block, GMEM_RUN_PRIVATE, &i, &end, hi); i = end) {
		i = round_up(i, GMEM_REGION_PAGES);
		if (i + GMEM_REGION_PAGES > end)
			continue;
		if (gmem_poison_unlocated(memory) ||
		    (gmem_off_direct_map(fi) &&
		     gmem_direct_map_restore(memory->loan.page + i, GMEM_REGION_PAGES)))
			return false;
		gmem_zero_region(memory, i >> GMEM_REGION_ORDER);
		set_bit(i >> GMEM_REGION_ORDER, memory->zeroed_ahead);
		clear_bit(i >> GMEM_REGION_ORDER, memory->ready);
		*lo = i + GMEM_REGION_PAGES;
		return true;
	}
	return false;
}

static void gmem_clear_runs(const struct gmem_block *block, enum gmem_run_kind kind,
			    unsigned long lo, unsigned long hi)
{
	unsigned long end;

	for (; gmem_next_run(block, kind, &lo, &end, hi); lo = end)
		gmem_clear(block->memory->loan.page + lo, end - lo);
}

static int gmem_try_scrub(struct gmemfd_inode *fi, struct gmem_block *block)
{
	unsigned long nr = gmem_block_pages(fi);
	int err;

	err = gmem_locate_poison(block->memory);
	if (err)
		return err;
	if (gmem_off_direct_map(fi)) {
		err = gmem_should_fail() ? -ENOMEM :
		      gmem_direct_map_expose_private(block, 0, nr);
		if (err)
			return err;
	}
	gmem_clear_runs(block, GMEM_RUN_PRIVATE, 0, nr);
	if (gmem_off_direct_map(fi))
		WARN_ON_ONCE(gmem_direct_map_restore_private(block, 0, nr));
	return 0;
}

/*
 * Overwrite private contents of a block that leaves the file, and put all of it back into
 * the direct map.
 *
 * Around a poisoned page that can need a page for a table.  The block has to leave, and so
 * this waits until there is one.  If nobody knows which page is poisoned, the contents
 * stay where they are: out of the direct map, and in a block that hugetlb keeps.
 */
static void gmem_memory_scrub(struct gmemfd_inode *fi, struct gmem_block *block)
{
	unsigned long lo = 0;

	while (gmem_memory_scrub_next(fi, block, &lo, gmem_block_pages(fi)))
		cond_resched();
	while (gmem_try_scrub(fi, block) == -ENOMEM)
		schedule_timeout_uninterruptible(1);
	if (gmem_off_direct_map(fi))
		gmem_direct_map_merge(block->memory, 0, gmem_block_regions(fi));
}

/**
 * gmem_memory_make_ready - zero regions and take their private pages out [block]
 * @fi: the file
 * @block: a block with memory
 * @lo: first page that has to be in a ready region
 * @hi: first page behind
 *
 * Return: 0, -ENOMEM if an entry of the direct map could not be split, or what
 * gmem_locate_poison() returns.
 */
int gmem_memory_make_ready(struct gmemfd_inode *fi, struct gmem_block *block,
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
		if (!test_and_set_bit(first, memory->zeroed_ahead))
			gmem_zero_region(memory, first);
	}

	if (gmem_off_direct_map(fi) && block->state.kind != GMEM_ALL_SHARED) {
		err = gmem_should_fail() ? -ENOMEM :
		      gmem_direct_map_remove_unready(block, lo, hi);
		if (err)
			return err;
		gmem_direct_map_flush(memory->loan.page + lo, hi - lo);
	}
	for (region = lo >> GMEM_REGION_ORDER; region < last; region++)
		set_bit(region, memory->ready);
	return 0;
}

/**
 * gmem_memory_zero - zero pages of ready regions again [block]
 * @fi: the file
 * @block: a block with memory
 * @lo: first page
 * @hi: first page behind
 *
 * Return: 0, -ENOMEM if private pages could not be exposed, or what gmem_locate_poison()
 * returns.  Nothing has changed after an error.
 */
int gmem_memory_zero(struct gmemfd_inode *fi, struct gmem_block *block,
		     unsigned long lo, unsigned long hi)
{
	int err;

	err = gmem_locate_poison(block->memory);
	if (err)
		return err;
	if (gmem_off_direct_map(fi)) {
		err = gmem_should_fail() ? -ENOMEM :
		      gmem_direct_map_expose_private(block, lo, hi);
		if (err)
			return err;
	}
	gmem_clear_runs(block, GMEM_RUN_PRIVATE, lo, hi);
	if (gmem_off_direct_map(fi)) {
		WARN_ON_ONCE(gmem_direct_map_remove_private(block, lo, hi));
		gmem_direct_map_flush(block->memory->loan.page + lo, hi - lo);
	}
	gmem_clear_runs(block, GMEM_RUN_SHARED, lo, hi);
	return 0;
}

/**
 * gmem_memory_release - scrub a block's memory and take it out of the file [block, takes frames]
 * @fi: the file
 * @block: a block with memory, which is a hole afterwards
 *
 * The memory is back in its pool when this returns, or as soon as the last reference to
 * one of its folios is dropped.
 */
void gmem_memory_release(struct gmemfd_inode *fi, struct gmem_block *block)
{
	gmem_frames_leave_file(block->memory);
	gmem_unmap(fi, block, 0, gmem_block_pages(fi));
	gmem_memory_scrub(fi, block);
	gmem_memory_leave(fi, block);
}

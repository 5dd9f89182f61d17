// SPDX-License-Identifier: GPL-2.0
/*
 * Hugetlb folios on loan: reserved, taken, broken into ordinary folios, mended, and
 * given back.
 */
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/page_counter.h>
#include <linux/sched/mm.h>

#include "../hugetlb_vmemmap.h"
#include "compat.h"
#include "geometry.h"

/* Broken loans are not on hugetlb's own lists.  Under hugetlb_lock. */
static LIST_HEAD(gmem_broken_loans);

/**
 * gmem_pool_reserve - reserve blocks in a hugetlb pool
 * @pool: to fill in
 * @order: a huge page size of this machine
 * @nr_blocks: number of blocks
 *
 * The caller's hugetlb cgroup is charged for the reservation as long as it lasts.  As
 * with hugetlbfs the charge does not move to the parent when the cgroup goes.
 *
 * Return: 0, -EINVAL if there is no such size, or -ENOMEM if the pool cannot
 * reserve as much or the cgroup's limit forbids it.
 */
int gmem_pool_reserve(struct gmem_pool *pool, unsigned int order,
		      unsigned long nr_blocks)
{
	struct hstate *h = size_to_hstate(PAGE_SIZE << order);

	if (!h)
		return -EINVAL;
	*pool = (struct gmem_pool) { .order = order, .nr_blocks = nr_blocks };
	if (nr_blocks > ULONG_MAX >> order ||
	    hugetlb_cgroup_charge_cgroup_rsvd(hstate_index(h), nr_blocks << order,
					      &pool->cgroup))
		return -ENOMEM;
	pool->spool = hugepage_new_subpool(h, nr_blocks, nr_blocks);
	if (pool->spool)
		return 0;
	hugetlb_cgroup_uncharge_cgroup_rsvd(hstate_index(h), nr_blocks << order,
					    pool->cgroup);
	return -ENOMEM;
}
EXPORT_SYMBOL_GMEM(gmem_pool_reserve);

/**
 * gmem_pool_release - give up a reservation
 * @pool: from gmem_pool_reserve(); loans may outlive it
 */
void gmem_pool_release(struct gmem_pool *pool)
{
	int idx = hstate_index(pool->spool->hstate);

	gmem_subpool_drop(pool->spool);
	hugetlb_cgroup_uncharge_cgroup_rsvd(idx, pool->nr_blocks << pool->order,
					    pool->cgroup);
}
EXPORT_SYMBOL_GMEM(gmem_pool_release);

/*
 * The least and the most of our subpools are the same, so that all that is not in use is
 * reserved.
 */
static bool gmem_subpool_take(struct hugepage_subpool *spool)
{
	guard(spinlock_irqsave)(&spool->lock);
	if (spool->used_hpages == spool->max_hpages)
		return false;
	spool->used_hpages++;
	spool->rsv_hpages--;
	return true;
}

/* The caller has a handle of @spool, which does not go with this page. */
static void gmem_subpool_give_back(struct hugepage_subpool *spool)
{
	guard(spinlock_irqsave)(&spool->lock);
	spool->used_hpages--;
	spool->rsv_hpages++;
}

/**
 * gmem_loan_take - take a reserved block
 * @loan: to fill in
 * @pool: the reservation
 * @policy: where to take it from, or NULL
 * @index: for policies that depend on it
 * @nid: without @policy: preferred node, or NUMA_NO_NODE for the task's policy
 *
 * The block arrives as a hugetlb folio with one reference, which is the caller's.
 * Nobody else takes one: the folio is not mapped and not marked migratable.  (It is
 * not frozen, because hugetlb takes a folio of count 0 for one that is about to be
 * freed and waits for that.)  Its contents are what they were.
 *
 * Return: 0, -ENOSPC if a cgroup limit, a cpuset or the policy forbids it, or -ENOMEM.
 */
int gmem_loan_take(struct gmem_loan *loan, struct gmem_pool *pool,
		   struct mempolicy *policy, pgoff_t index, int nid)
{
	struct hstate *h = pool->spool->hstate;
	struct folio *folio;
	unsigned int flags;
	int err;

	if (!gmem_subpool_take(pool->spool))
		return -ENOSPC;

	/* Blocks get pinned for long, which ZONE_MOVABLE does not allow. */
	flags = memalloc_pin_save();
	folio = gmem_alloc_folio(h, policy, index, nid);
	memalloc_pin_restore(flags);
	if (IS_ERR(folio)) {
		gmem_subpool_give_back(pool->spool);
		return PTR_ERR(folio);
	}
	/* Without the restore_reserve flag the reservation goes back to the subpool. */
	hugetlb_set_folio_subpool(folio, pool->spool);
	gmem_subpool_hold(pool->spool);

	loan->page = &folio->page;
	loan->order = huge_page_order(h);
	INIT_LIST_HEAD(&loan->node);
	err = gmem_loan_track(loan);
	if (err)
		gmem_loan_return(loan);
	return err;
}
EXPORT_SYMBOL_GMEM(gmem_loan_take);

#ifdef CONFIG_CGROUP_HUGETLB
static struct hugetlb_cgroup *gmem_parent(struct hugetlb_cgroup *cgroup)
{
	return container_of(cgroup->css.parent, struct hugetlb_cgroup, css);
}

/* The charge of a broken loan moves to the parent.  Under hugetlb_lock. */
static void gmem_loan_reparent(struct gmem_loan *loan)
{
	int idx = hstate_index(size_to_hstate(PAGE_SIZE << loan->order));
	struct hugetlb_cgroup *from = loan->cgroup, *to = gmem_parent(from);
	int nid = page_to_nid(loan->page);
	long nr = 1L << loan->order;

	/* The counters are hierarchical: @to is charged already. */
	page_counter_cancel(&from->hugepage[idx], nr);
	from->nodeinfo[nid]->usage[idx] -= nr;
	to->nodeinfo[nid]->usage[idx] += nr;
	loan->cgroup = to;
}

/**
 * gmem_loans_reparent - a cgroup goes, and its broken loans are its parent's
 * @from: the cgroup
 *
 * Called with hugetlb_lock held.
 */
void gmem_loans_reparent(struct hugetlb_cgroup *from)
{
	struct gmem_loan *loan;

	lockdep_assert_held(&hugetlb_lock);
	list_for_each_entry(loan, &gmem_broken_loans, node) {
		if (loan->cgroup == from)
			gmem_loan_reparent(loan);
	}
}

/* A loan is broken while its cgroup goes, which may have reparented the others before. */
static void gmem_loan_leave_dying(struct gmem_loan *loan)
{
	while (loan->cgroup && css_is_dying(&loan->cgroup->css))
		gmem_loan_reparent(loan);
}
#else
static void gmem_loan_leave_dying(struct gmem_loan *loan) { }
#endif

/**
 * gmem_loan_break - turn a block into ordinary folios
 * @loan: a hugetlb folio as gmem_loan_take() gave it
 * @order: order of the folios, which are frozen
 *
 * hugetlb goes on counting the block as in use.
 *
 * Return: 0, -ENOMEM if its struct pages could not be restored,
 * -EHWPOISON if it is poisoned somewhere unknown.
 */
int gmem_loan_break(struct gmem_loan *loan, unsigned int order)
{
	struct folio *folio = page_folio(loan->page);
	struct hstate *h = folio_hstate(folio);
	bool optimized = folio_test_hugetlb_vmemmap_optimized(folio);
	int err;

	/* Whoever holds another reference (unpoisoning does) drops it at once. */
	while (!folio_ref_freeze(folio, 1))
		cond_resched();

	err = hugetlb_vmemmap_restore_folio(h, folio);
	if (err)
		goto err_unfreeze;
	gmem_reset_head_copies(loan->page, loan->order);

	spin_lock_irq(&hugetlb_lock);
	if (folio_test_hugetlb_raw_hwp_unreliable(folio)) {
		spin_unlock_irq(&hugetlb_lock);
		err = -EHWPOISON;
		goto err_unfreeze;
	}
	if (folio_test_hwpoison(folio))
		folio_clear_hugetlb_hwpoison(folio);	/* moves to the page */
	list_del_init(&folio->lru);
	loan->spool = hugetlb_folio_subpool(folio);
	loan->cgroup = hugetlb_cgroup_from_folio(folio);
	loan->hpg_flags = folio->private;
#ifdef CONFIG_MEMCG
	loan->memcg_data = folio->memcg_data;
#endif
	list_add(&loan->node, &gmem_broken_loans);
	gmem_loan_leave_dying(loan);
	__folio_clear_hugetlb(folio);
	spin_unlock_irq(&hugetlb_lock);

	gmem_reset_tail_copies(loan->page, loan->order, optimized);
	gmem_cut(loan->page, loan->order, order);
	return 0;

err_unfreeze:
	folio_ref_unfreeze(folio, 1);
	return err;
}
EXPORT_SYMBOL_GMEM(gmem_loan_break);

static bool gmem_loan_poisoned(const struct gmem_loan *loan)
{
	unsigned long i = gmem_any_page_poisoned() ? 1UL << loan->order : 0;

	while (i--) {
		if (PageHWPoison(loan->page + i))
			return true;
	}
	return false;
}

/**
 * gmem_loan_mend - put a broken block together again
 * @loan: broken; every folio of the block is frozen and unmarked
 *
 * Afterwards the block is as gmem_loan_take() gave it.  If one of its pages
 * is poisoned the whole is marked so, and hugetlb will not hand it out again.
 */
void gmem_loan_mend(struct gmem_loan *loan)
{
	struct hstate *h = size_to_hstate(PAGE_SIZE << loan->order);
	bool poisoned = gmem_loan_poisoned(loan);
	unsigned long i, next;
	struct folio *folio;

	for (i = 0; i < 1UL << loan->order; i = next) {
		unsigned int order = compound_order(loan->page + i);

		next = i + (1UL << order);
		gmem_reset_folio(loan->page + i, order);
	}
	folio = gmem_folio_join(loan->page, loan->order);
	gmem_init_hugetlb(h, folio);
	folio->private = loan->hpg_flags;
	if (poisoned) {
		folio_set_hwpoison(folio);
		folio_set_hugetlb_raw_hwp_unreliable(folio);
	} else {
		hugetlb_vmemmap_optimize_folio(h, folio);
	}

	spin_lock_irq(&hugetlb_lock);
	list_del_init(&loan->node);
	hugetlb_set_folio_subpool(folio, loan->spool);
	set_hugetlb_cgroup(folio, loan->cgroup);
#ifdef CONFIG_MEMCG
	folio->memcg_data = loan->memcg_data;
#endif
	list_add(&folio->lru, &h->hugepage_activelist);
	folio_ref_unfreeze(folio, 1);
	spin_unlock_irq(&hugetlb_lock);
}
EXPORT_SYMBOL_GMEM(gmem_loan_mend);

/**
 * gmem_loan_return - give a block back to hugetlb
 * @loan: not broken
 */
void gmem_loan_return(struct gmem_loan *loan)
{
	gmem_loan_untrack(loan);
	gmem_free_hugetlb(page_folio(loan->page));
	loan->page = NULL;
}
EXPORT_SYMBOL_GMEM(gmem_loan_return);

// SPDX-License-Identifier: GPL-2.0
/*
 * Functions that are different from kernel series to kernel series, see compat.h.
 */
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

#include "../hugetlb_vmemmap.h"
#include "compat.h"
#include "geometry.h"

/* Who is the user of the shim? */

#if GMEM_UNTIL_6_12 && defined(MODULE)
/**
 * gmem_is_for_caller - may this module use the shim?
 * @caller: an address in its code
 *
 * The loader lets in whoever imports the namespace "module:gmemfd": it does not know that
 * nobody can.
 *
 * Return: whether it is gmemfd.
 */
bool gmem_is_for_caller(unsigned long caller)
{
	const struct module *mod;

	guard(preempt)();
	mod = __module_address(caller);
	return mod && !strcmp(mod->name, "gmemfd");
}
#endif

/* A folio that a reservation is for */

#if GMEM_SINCE_7_3

struct folio *gmem_alloc_folio(struct hstate *h, struct mempolicy *policy,
			       pgoff_t index, int nid)
{
	struct mempolicy_interpreted mpoli = {
		.nid = nid == NUMA_NO_NODE ? numa_node_id() : nid,
		.mode = MPOL_DEFAULT,
	};
	struct folio *folio;

#ifdef CONFIG_NUMA
	if (!policy && nid == NUMA_NO_NODE)
		policy = get_task_policy(current);
	if (policy) {
		mpoli.mode = policy->mode;
		mpoli.nodemask = policy_nodemask(GFP_HIGHUSER, policy, index,
						 &mpoli.nid);
	}
#endif
	folio = hugetlb_alloc_folio(h, &mpoli, current->mm,
				    HUGETLB_ALLOC_USE_GLOBAL_RESERVATIONS);
	if (!IS_ERR(folio))
		folio_clear_hugetlb_restore_reserve(folio);
	return folio;
}

#else

/* hugetlb keeps its count of reserved pages right for a vma only; here we do. */
static struct folio *gmem_dequeue_folio(struct hstate *h, int nid,
					nodemask_t *nodemask, bool fallback)
{
	gfp_t gfp = htlb_alloc_mask(h);
	struct folio *folio;

	folio = alloc_hugetlb_folio_reserve(h, nid, nodemask, gfp);
	if (!folio && fallback)
		folio = alloc_hugetlb_folio_reserve(h, nid, NULL, gfp);
	if (folio)
		return folio;

	/* The reservation was made when the pool had less: this one is surplus. */
	if (fallback)
		folio = alloc_surplus_hugetlb_folio(h, gfp & ~__GFP_DIRECT_RECLAIM,
						    nid, nodemask);
	if (!folio)
		folio = alloc_surplus_hugetlb_folio(h, gfp, nid,
						    fallback ? NULL : nodemask);
	if (!folio)
		return NULL;

	spin_lock_irq(&hugetlb_lock);
	h->resv_huge_pages--;
	list_add(&folio->lru, &h->hugepage_activelist);
	folio_ref_unfreeze(folio, 1);
	spin_unlock_irq(&hugetlb_lock);
	return folio;
}

/* The same, charged to the task's hugetlb cgroup. */
static struct folio *gmem_dequeue_charged(struct hstate *h, int nid,
					  nodemask_t *nodemask, bool fallback)
{
	struct hugetlb_cgroup *cgroup = NULL;
	long nr = pages_per_huge_page(h);
	int idx = hstate_index(h);
	struct folio *folio;

	if (hugetlb_cgroup_charge_cgroup(idx, nr, &cgroup))
		return NULL;
	folio = gmem_dequeue_folio(h, nid, nodemask, fallback);
	if (!folio) {
		hugetlb_cgroup_uncharge_cgroup(idx, nr, cgroup);
		return NULL;
	}
	spin_lock_irq(&hugetlb_lock);
	hugetlb_cgroup_commit_charge(idx, nr, cgroup, folio);
	spin_unlock_irq(&hugetlb_lock);
	return folio;
}

#if GMEM_UNTIL_6_12
/* hugetlb charges the memory cgroup before it has a folio. */
static struct folio *gmem_dequeue_accounted(struct hstate *h, int nid,
					    nodemask_t *nodemask, bool fallback)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_current();
	long nr = pages_per_huge_page(h);
	struct folio *folio = NULL;
	int err;

	/* -EOPNOTSUPP: hugetlb is not accounted as memory here. */
	err = mem_cgroup_hugetlb_try_charge(memcg, htlb_alloc_mask(h) |
					    __GFP_RETRY_MAYFAIL, nr);
	if (err != -ENOMEM)
		folio = gmem_dequeue_charged(h, nid, nodemask, fallback);
	if (!err && folio)
		mem_cgroup_commit_charge(folio, memcg);
	else if (!err)
		mem_cgroup_cancel_charge(memcg, nr);
	mem_cgroup_put(memcg);
	return folio;
}
#else
/* hugetlb charges the memory cgroup for the folio, and counts it. */
static struct folio *gmem_dequeue_accounted(struct hstate *h, int nid,
					    nodemask_t *nodemask, bool fallback)
{
	struct folio *folio = gmem_dequeue_charged(h, nid, nodemask, fallback);
	int err;

	if (!folio)
		return NULL;
	err = mem_cgroup_charge_hugetlb(folio, htlb_alloc_mask(h) | __GFP_RETRY_MAYFAIL);
	/* Freeing takes it off again, whether it was charged or not. */
	lruvec_stat_mod_folio(folio, NR_HUGETLB, pages_per_huge_page(h));
	if (!err)
		return folio;

	/* The charges go with the folio, the reservation stays. */
	folio_set_hugetlb_restore_reserve(folio);
	folio_put(folio);
	return NULL;
}
#endif

struct folio *gmem_alloc_folio(struct hstate *h, struct mempolicy *policy,
			       pgoff_t index, int nid)
{
	int preferred = nid == NUMA_NO_NODE ? numa_node_id() : nid;
	nodemask_t *nodemask = NULL;
	bool fallback = false;

#ifdef CONFIG_NUMA
	if (!policy && nid == NUMA_NO_NODE)
		policy = get_task_policy(current);
	if (policy) {
		fallback = policy->mode == MPOL_PREFERRED_MANY;
		nodemask = policy_nodemask(GFP_HIGHUSER, policy, index, &preferred);
	}
#endif
	return gmem_dequeue_accounted(h, preferred, nodemask, fallback) ?: ERR_PTR(-ENOSPC);
}

/*
 * The last page and the last handle of a subpool can go on two CPUs at once, and each finds
 * outside of the subpool's lock that nothing is left: it is freed twice.  So that a page is
 * never the last, each loan has a handle, and one task at a time drops one.
 *
 * All files share the mutex.  It is held while a reservation is given up, which frees surplus
 * pages of the pool, and taken before the subpool's lock and hugetlb_lock.
 */
static DEFINE_MUTEX(gmem_subpool_mutex);

/**
 * gmem_subpool_hold - take a handle of a subpool
 * @spool: a subpool that the caller has a handle of
 */
void gmem_subpool_hold(struct hugepage_subpool *spool)
{
	guard(spinlock_irqsave)(&spool->lock);
	spool->count++;
}

/**
 * gmem_subpool_drop - drop it
 * @spool: the subpool
 */
void gmem_subpool_drop(struct hugepage_subpool *spool)
{
	guard(mutex)(&gmem_subpool_mutex);
	hugepage_put_subpool(spool);
}

/**
 * gmem_free_hugetlb - give a loan's folio, and then its handle of the subpool, back
 * @folio: a hugetlb folio with one reference
 */
void gmem_free_hugetlb(struct folio *folio)
{
	struct hugepage_subpool *spool = hugetlb_folio_subpool(folio);

	/* Whoever holds another reference drops it at once, and would free the folio later. */
	while (!folio_ref_freeze(folio, 1))
		cond_resched();
	free_huge_folio(folio);
	gmem_subpool_drop(spool);
}

#endif

/* Struct pages that HVO has brought back */

#if GMEM_UNTIL_6_12

/**
 * gmem_reset_head_copies - repair what looks like heads of hugetlb folios
 * @head: a block
 * @order: its order
 *
 * HVO keeps one page of struct pages for a folio, and brings the others back as copies
 * of it.  There each 64th page is hugetlb's head, poisoned if the folio is, and the page
 * behind it has the order in its flags, where 9 is PG_locked.  Demotion leaves them like
 * that.  The others are copies of tails, and tails are all alike.  Older point releases
 * copy some of these over the others.
 */
void gmem_reset_head_copies(struct page *head, unsigned int order)
{
	unsigned long i = HUGETLB_VMEMMAP_RESERVE_PAGES, n;

	if (head[i].mapping == TAIL_MAPPING && !test_bit(PG_head, &head[i].flags))
		return;
	for (; i < 1UL << order; i += HUGETLB_VMEMMAP_RESERVE_PAGES) {
		for (n = 0; n < gmem_nr_first_pages(order); n++) {
			gmem_reset_page(head + i + n);
			ClearPageHWPoison(head + i + n);
			gmem_prep_tail(head, i + n, order);
		}
	}
}

#else

/**
 * gmem_reset_tail_copies - repair tail pages that nobody has initialized
 * @head: a block that is not hugetlb's any more
 * @order: its order
 * @optimized: it was optimized until now
 *
 * HVO brings them back as copies of a tail page that all folios share.  If that page
 * came with the boot they have a reference each.
 */
void gmem_reset_tail_copies(struct page *head, unsigned int order, bool optimized)
{
	unsigned long i = 1UL << order;

	if (!optimized && !page_ref_count(head + i - 1))
		return;
	while (--i) {
		gmem_reset_page(head + i);
		gmem_prep_tail(head, i, order);
	}
}

#endif

/* Page frames on loan */

#if GMEM_UNTIL_6_12

/* All loans, by frame. */
static DEFINE_XARRAY(gmem_loans);

/**
 * gmem_loan_track - gmem_pfn_on_loan() knows a loan from now on
 * @loan: the loan
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_loan_track(struct gmem_loan *loan)
{
	unsigned long pfn = page_to_pfn(loan->page);

	return xa_err(xa_store_range(&gmem_loans, pfn, pfn + (1UL << loan->order) - 1,
				     loan, GFP_KERNEL));
}

/**
 * gmem_loan_untrack - undo gmem_loan_track()
 * @loan: the loan
 */
void gmem_loan_untrack(struct gmem_loan *loan)
{
	unsigned long pfn = page_to_pfn(loan->page);

	/* This is one entry for all frames, so that it takes no memory. */
	xa_store_range(&gmem_loans, pfn, pfn + (1UL << loan->order) - 1, NULL,
		       GFP_KERNEL);
}

/**
 * gmem_pfn_on_loan - does gmemfd have this memory?
 * @pfn: a page frame
 *
 * Exported to kvm, which looks at the struct page of whatever it maps, or did map, to
 * mark it accessed and dirty.  gmemfd rewrites struct pages while a guest has the memory
 * mapped, and nobody else may touch them then.
 *
 * Return: true from gmem_loan_take() to gmem_loan_return().
 */
bool gmem_pfn_on_loan(unsigned long pfn)
{
	return xa_load(&gmem_loans, pfn);
}
EXPORT_SYMBOL_GMEM_TO(gmem_pfn_on_loan, "kvm");

#endif

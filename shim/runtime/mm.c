// SPDX-License-Identifier: GPL-2.0
/*
 * What the shim's patches have core mm call, see shim/README.md.
 */
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/memory_hotplug.h>
#include <linux/mutex.h>

#include "../mm/compat.h"
#include "hook.h"
#include "mm_symbols.h"

static void gmem_run___folio_put(struct folio *folio)
{
	__gmem_folio_free(folio);
	gmem_leave();
}

GMEM_ENTER(__folio_put)
{
	/* There is no reference left: nobody changes the mark. */
	if (unlikely(gmem_folio_marked(GMEM_ARG(struct folio *, 0))))
		gmem_redirect(gmem_run___folio_put);
}

static bool gmem_batch_has_marked(const struct folio_batch *batch)
{
	unsigned int i;

	for (i = 0; i < batch->nr; i++) {
		if (unlikely(gmem_folio_marked(batch->folios[i])))
			return true;
	}
	return false;
}

static void gmem_run_free_unref_folios(struct folio_batch *batch)
{
	unsigned int i, nr = 0;

	for (i = 0; i < batch->nr; i++) {
		if (gmem_folio_marked(batch->folios[i]))
			__gmem_folio_free(batch->folios[i]);
		else
			batch->folios[nr++] = batch->folios[i];
	}
	batch->nr = nr;
	free_unref_folios(batch);
	gmem_leave();
}

/*
 * folios_put_refs() ends here with those that have no reference left.  The patches look
 * earlier, in the loop that drops the references.  What lies between finds nothing to do
 * for a folio of ours: it is not on an LRU, and not charged.  (Before that loop it would
 * be too early: a folio is marked while others have references.)
 */
GMEM_ENTER(free_unref_folios)
{
	if (unlikely(gmem_batch_has_marked(GMEM_ARG(struct folio_batch *, 0))))
		gmem_redirect(gmem_run_free_unref_folios);
}

#ifdef CONFIG_MEMORY_FAILURE
static int gmem_ask_provider(struct page *page, int flags)
{
	int ret;

	guard(mutex)(&mf_mutex);
	ret = gmem_memory_failure(page, flags);
	if (ret != -ENOENT && !(flags & MF_SW_SIMULATED))
		hw_memory_failure = true;
	return ret;
}

static int gmem_run_memory_failure(unsigned long pfn, int flags)
{
	/* Without recovery the kernel's function panics. */
	struct page *page = sysctl_memory_failure_recovery ? pfn_to_online_page(pfn) : NULL;
	int ret = page ? gmem_ask_provider(page, flags) : -ENOENT;

	if (ret == -ENOENT)
		ret = memory_failure(pfn, flags);
	gmem_leave();
	return ret;
}

GMEM_ENTER(memory_failure)
{
	if (!gmem_from_us(parent))
		gmem_redirect(gmem_run_memory_failure);
}
#endif

#ifdef CONFIG_CGROUP_HUGETLB
/*
 * The kernel's function moves what is on hugetlb's list until the cgroup has no usage.
 * Loans that are broken from here on move by themselves, since the cgroup is dying.
 */
static void gmem_run_hugetlb_cgroup_css_offline(struct cgroup_subsys_state *css)
{
	struct hugetlb_cgroup *from = container_of(css, struct hugetlb_cgroup, css);

	scoped_guard(spinlock_irq, &hugetlb_lock)
		gmem_loans_reparent(from);
	hugetlb_cgroup_css_offline(css);
	gmem_leave();
}

GMEM_ENTER(hugetlb_cgroup_css_offline)
{
	if (!gmem_from_us(parent))
		gmem_redirect(gmem_run_hugetlb_cgroup_css_offline);
}
#endif

static struct gmem_hook gmem_mm_hooks[] = {
	GMEM_HOOK(__folio_put),
	GMEM_HOOK(free_unref_folios),
#ifdef CONFIG_MEMORY_FAILURE
	GMEM_HOOK(memory_failure),
#endif
#ifdef CONFIG_CGROUP_HUGETLB
	GMEM_HOOK(hugetlb_cgroup_css_offline),
#endif
};

/**
 * gmem_mm_hook - hook core mm
 *
 * Return: 0 or a negative errno.
 */
int gmem_mm_hook(void)
{
	return gmem_hook_all(gmem_mm_hooks, ARRAY_SIZE(gmem_mm_hooks));
}

/**
 * gmem_mm_unhook - undo gmem_mm_hook()
 */
void gmem_mm_unhook(void)
{
	gmem_unhook_all(gmem_mm_hooks, ARRAY_SIZE(gmem_mm_hooks));
}

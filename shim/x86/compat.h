/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is different in set_memory.c, and in page tables, from kernel series to kernel
 * series.
 */
#ifndef __GMEM_DIRECT_MAP_COMPAT_H
#define __GMEM_DIRECT_MAP_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)

/* Nothing in the kernel's own tables has to stay in 4 KiB for good. */
#define _PAGE_KERNEL_4K		0

/*
 * This kernel merges nothing itself.  CPA looks entries up under cpa_lock, and again if
 * it dropped that lock to get memory.
 */
static int gmem_change_by_cpa(struct cpa_data *cpa)
{
	return __change_page_attr_set_clr(cpa, 1);
}

static void gmem_free_table(struct ptdesc *table)
{
	pagetable_free(table);
}

/* Under pgd_lock. */
static void gmem_count_merged(int level)
{
#ifdef CONFIG_PROC_FS
	direct_pages_count[level]++;
	direct_pages_count[level - 1] -= PTRS_PER_PTE;
#endif
}

#else /* 7.2 and later */

/* CPA merges what it finds, and is kept from that by init_mm's mmap_lock. */
static int gmem_change_by_cpa(struct cpa_data *cpa)
{
	cpa->init_mm_read_locked = true;
	guard(mmap_read_lock)(&init_mm);
	return __change_page_attr_set_clr(cpa, 1);
}

static void gmem_free_table(struct ptdesc *table)
{
	if (PageTable(ptdesc_page(table)))
		pagetable_dtor_free(table);
	else
		pagetable_free(table);
}

/* Under pgd_lock. */
static void gmem_count_merged(int level)
{
	collapse_page_count(level);
}

#endif

#endif /* __GMEM_DIRECT_MAP_COMPAT_H */

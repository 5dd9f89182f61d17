/* SPDX-License-Identifier: GPL-2.0 */
/* Functions and variables of core mm that no header of the kernel's package has. */
#ifndef __GMEM_RUNTIME_MM_SYMBOLS_H
#define __GMEM_RUNTIME_MM_SYMBOLS_H

#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/mm.h>
#include <linux/mutex.h>

#include "../mm/compat.h"

struct cpa_data;

void free_unref_folios(struct folio_batch *batch);
void hugetlb_cgroup_css_offline(struct cgroup_subsys_state *css);

/* mm/memory-failure.c */
extern struct mutex mf_mutex;
extern int sysctl_memory_failure_recovery;
extern bool hw_memory_failure;
#if GMEM_UNTIL_6_12
void collect_procs(struct folio *folio, struct page *page, struct list_head *tokill,
		   int force_early);
void kill_procs(struct list_head *to_kill, int forcekill, unsigned long pfn, int flags);
#else
void collect_procs(const struct folio *folio, const struct page *page,
		   struct list_head *tokill, int force_early);
void kill_procs(struct list_head *to_kill, bool forcekill, unsigned long pfn, int flags);
#endif
int action_result(unsigned long pfn, enum mf_action_page_type type,
		  enum mf_result result);

/* arch/x86/mm */
extern spinlock_t cpa_lock;
extern unsigned long direct_pages_count[PG_LEVEL_NUM];
int __change_page_attr_set_clr(struct cpa_data *cpa, int primary);
void flush_tlb_all(void);
void flush_tlb_kernel_range(unsigned long start, unsigned long end);

#endif /* __GMEM_RUNTIME_MM_SYMBOLS_H */

// SPDX-License-Identifier: GPL-2.0
/* shim/x86/direct_map.c, and around it what it uses of arch/x86/mm/pat/set_memory.c. */
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/vmstat.h>
#include <asm/pgalloc.h>
#include <asm/set_memory.h>
#include <asm/tlbflush.h>

#include "mm_symbols.h"
#include "cpa_data.h"

/* Nothing tells this constant.  set_direct_map_*() passes it, and nothing else. */
#define CPA_NO_CHECK_ALIAS	0x08

/* Under pgd_lock. */
static void split_page_count(int level)
{
	direct_pages_count[level]--;
	direct_pages_count[level - 1] += PTRS_PER_PTE;
	count_vm_event(level == PG_LEVEL_2M ? DIRECT_MAP_LEVEL2_SPLIT :
					      DIRECT_MAP_LEVEL3_SPLIT);
}

#ifdef _PAGE_KERNEL_4K	/* A kernel without this merges nothing, and counts nothing. */
/* Under pgd_lock. */
static void collapse_page_count(int level)
{
	direct_pages_count[level]++;
	direct_pages_count[level - 1] -= PTRS_PER_PTE;
	count_vm_event(level == PG_LEVEL_2M ? DIRECT_MAP_LEVEL2_COLLAPSE :
					      DIRECT_MAP_LEVEL3_COLLAPSE);
}
#endif

static void __set_pmd_pte(pte_t *entry, unsigned long address, pte_t pte)
{
	set_pte_atomic(entry, pte);
}

#include "../x86/direct_map.c"

// SPDX-License-Identifier: GPL-2.0
/*
 * All declarations of what the shim calls or hooks, and then those of the kernel's BTF.
 * Where they are different this does not compile.
 */
#include <linux/anon_inodes.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/module.h>
#include <linux/page_counter.h>
#include <asm/pgalloc.h>

#include "hugetlb_vmemmap.h"
#include "../mm/compat.h"
#include "mm_symbols.h"
#ifdef GMEM_RUNTIME_KVM
#include "kvm_symbols.h"
#endif

#include "prototypes_vmlinux.h"
#ifdef GMEM_RUNTIME_KVM
#include "prototypes_kvm.h"
#endif

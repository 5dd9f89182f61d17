/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is different in KVM from kernel series to kernel series.
 */
#ifndef __KVM_GMEM_COMPAT_H
#define __KVM_GMEM_COMPAT_H

#include <linux/kvm_host.h>
#include <linux/version.h>

/*
 * Does KVM hold its reference to a file that user space named until the slot is there, or only
 * until it has looked at the file?
 */
#define GMEM_HAS_COMMIT	(LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0) || \
			 (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 118) && \
			  LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)))

/*
 * Do KVM's caches of guest pages (virt/kvm/pfncache.c) ask the provider?  Otherwise they
 * find what user space could have a reference to.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0) || defined(GMEM_RUNTIME_KVM)
#define GMEM_HAS_CACHES	0
#else
#define GMEM_HAS_CACHES	1
#endif

/*
 * May VMs tell private from shared accesses?  KVM_X86_SW_PROTECTED_VM is the one type of these
 * that is not encrypted.  At run time kvm_mem_is_private() cannot be made to ask the file.
 */
#if defined(CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES) && !defined(GMEM_RUNTIME_KVM)
#define GMEM_HAS_TYPED	1
#else
#define GMEM_HAS_TYPED	0
#endif

/* A cache that is being filled looks the page up again. */
static inline void gmem_caches_retry(struct kvm *kvm)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
	guard(spinlock)(&kvm->mn_invalidate_lock);
	kvm->gpc_invalidate_seq++;
#else
	guard(write_lock)(&kvm->mmu_lock);
	kvm->mmu_invalidate_seq++;
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define kvm_mmu_invalidate_start	kvm_mmu_invalidate_begin
#endif

#endif /* __KVM_GMEM_COMPAT_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memslots on files that another module provides, for the rest of KVM.
 */
#ifndef __KVM_GMEM_PROVIDER_H
#define __KVM_GMEM_PROVIDER_H

#include <linux/kvm_host.h>

#include "compat.h"

/* Linux 6.12 calls it CONFIG_KVM_PRIVATE_MEM. */
#if defined(CONFIG_GMEM_SHIM) && \
	(defined(CONFIG_KVM_GUEST_MEMFD) || defined(CONFIG_KVM_PRIVATE_MEM))
int kvm_gmem_provider_prepare(struct kvm *kvm, struct kvm_memory_slot *slot,
			      struct file *file, u64 offset);
int kvm_gmem_prepare_region(struct kvm *kvm, const struct kvm_memory_slot *old,
			    struct kvm_memory_slot *new, enum kvm_mr_change change);
void kvm_gmem_commit_region(struct kvm_memory_slot *old);
void kvm_gmem_destroy_vm(struct kvm *kvm);
int kvm_gmem_check_attributes(struct kvm *kvm, gfn_t start, gfn_t end);

/* May VMs of this type have such slots? */
static inline bool kvm_gmem_provider_allowed(struct kvm *kvm)
{
	return kvm->arch.vm_type == KVM_X86_DEFAULT_VM ||
	       (GMEM_HAS_TYPED && kvm->arch.vm_type == KVM_X86_SW_PROTECTED_VM);
}
#else
static inline int kvm_gmem_provider_prepare(struct kvm *kvm,
					    struct kvm_memory_slot *slot,
					    struct file *file, u64 offset)
{
	return 0;
}

static inline int kvm_gmem_prepare_region(struct kvm *kvm,
					  const struct kvm_memory_slot *old,
					  struct kvm_memory_slot *new,
					  enum kvm_mr_change change)
{
	return kvm_arch_prepare_memory_region(kvm, old, new, change);
}

static inline void kvm_gmem_commit_region(struct kvm_memory_slot *old) { }

static inline void kvm_gmem_destroy_vm(struct kvm *kvm) { }

static inline int kvm_gmem_check_attributes(struct kvm *kvm, gfn_t start, gfn_t end)
{
	return 0;
}

static inline bool kvm_gmem_provider_allowed(struct kvm *kvm)
{
	return false;
}
#endif

/* For slots with kvm_slot_has_provider() only. */
int kvm_gmem_provider_get_pfn(struct kvm *kvm, struct file *file,
			      const struct kvm_memory_slot *slot, gfn_t gfn,
			      kvm_pfn_t *pfn, int *order);
kvm_pfn_t kvm_gmem_provider_host_pfn(const struct kvm_memory_slot *slot, gfn_t gfn);
void *kvm_gmem_provider_map(kvm_pfn_t pfn);
void kvm_gmem_unmap_slot(struct kvm *kvm, const struct kvm_memory_slot *slot);

#endif /* __KVM_GMEM_PROVIDER_H */

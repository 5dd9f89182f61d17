/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memslots on files that another module provides, for the rest of KVM.
 */
#ifndef __KVM_GMEM_PROVIDER_H
#define __KVM_GMEM_PROVIDER_H

#include <linux/kvm_host.h>

#ifdef CONFIG_GMEM_SHIM
void kvm_gmem_provider_init(struct module *module);
int kvm_gmem_provider_prepare(struct kvm *kvm, struct kvm_memory_slot *slot,
			      struct file *file, u64 offset);

/* May VMs of this type have such slots? */
static inline bool kvm_gmem_provider_allowed(struct kvm *kvm)
{
	return kvm->arch.vm_type == KVM_X86_DEFAULT_VM;
}
#else
static inline void kvm_gmem_provider_init(struct module *module) { }

static inline int kvm_gmem_provider_prepare(struct kvm *kvm,
					    struct kvm_memory_slot *slot,
					    struct file *file, u64 offset)
{
	return 0;
}

static inline bool kvm_gmem_provider_allowed(struct kvm *kvm)
{
	return false;
}
#endif

/* For slots with kvm_slot_has_provider() only. */
int kvm_gmem_provider_bind(struct kvm *kvm, struct kvm_memory_slot *slot);
void kvm_gmem_provider_bound(struct kvm_memory_slot *slot, int err);
void kvm_gmem_provider_unbind(struct kvm_memory_slot *slot);
int kvm_gmem_provider_get_pfn(struct kvm *kvm, struct file *file, pgoff_t index,
			      kvm_pfn_t *pfn, int *order);
kvm_pfn_t kvm_gmem_provider_host_pfn(const struct kvm_memory_slot *slot, gfn_t gfn);
void *kvm_gmem_provider_map(kvm_pfn_t pfn);

#endif /* __KVM_GMEM_PROVIDER_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the shim uses of virt/kvm/kvm_mm.h, and what its patches add to KVM's headers,
 * for a kernel that is built.
 */
#ifndef __GMEM_PRIVATE_KVM_MM_H
#define __GMEM_PRIVATE_KVM_MM_H

#include <linux/kvm_host.h>

#define KVM_MMU_LOCK(kvm)	write_lock(&(kvm)->mmu_lock)
#define KVM_MMU_UNLOCK(kvm)	write_unlock(&(kvm)->mmu_lock)

#define KVM_GMEM_PROVIDER	BIT(BITS_PER_LONG - 1)

static inline bool kvm_slot_has_provider(const struct kvm_memory_slot *slot)
{
	return slot && slot->gmem.pgoff & KVM_GMEM_PROVIDER;
}

#endif /* __GMEM_PRIVATE_KVM_MM_H */

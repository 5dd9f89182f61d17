/* SPDX-License-Identifier: GPL-2.0 */
/* Functions of KVM that no header of the kernel's package has. */
#ifndef __GMEM_RUNTIME_KVM_SYMBOLS_H
#define __GMEM_RUNTIME_KVM_SYMBOLS_H

#include <linux/fs.h>
#include <linux/kvm_host.h>

struct kvm_page_fault;

/* virt/kvm/guest_memfd.c */
extern const struct file_operations kvm_gmem_fops;
int kvm_gmem_prepare_memory_region(struct kvm *kvm, struct kvm_memory_slot *slot,
				   unsigned int fd, uoff_t offset);
int kvm_gmem_bind(struct kvm *kvm, struct kvm_memory_slot *slot, unsigned int fd,
		  uoff_t offset);
int kvm_gmem_commit_memory_region(struct kvm *kvm, struct kvm_memory_slot *slot);

/* arch/x86/kvm/mmu/mmu.c */
int kvm_mmu_faultin_pfn(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
			unsigned int access);
void kvm_mmu_hugepage_adjust(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
void kvm_mmu_recover_huge_pages(struct kvm *kvm, const struct kvm_memory_slot *slot);

#endif /* __GMEM_RUNTIME_KVM_SYMBOLS_H */

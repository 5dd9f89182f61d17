// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own test of KVM_EXIT_MEMORY_FAULT, on a gmem file.  The VM knows that a page is
 * private when its slot has gone.  A file does not say so of a page that nothing leads to: the
 * guest's access is one to no memory then.
 */
#include "one_pool.h"

static void memslot_deleted_(void);

/* The definition becomes memslot_deleted_void(), and the call is ours. */
#define test_private_access_memslot_deleted(args)	memslot_deleted_##args(args)
#include "x86/private_mem_kvm_exits_test.c"

static void memslot_deleted_(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	pthread_t thread;
	void *reason;

	(void)memslot_deleted_void;
	vm = vm_create_shape_with_one_vcpu(protected_vm_shape, &vcpu, guest_repeatedly_read);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, EXITS_TEST_GPA, EXITS_TEST_SLOT,
				    EXITS_TEST_NPAGES, KVM_MEM_GUEST_MEMFD);
	virt_map(vm, EXITS_TEST_GVA, EXITS_TEST_GPA, EXITS_TEST_NPAGES);
	vm_mem_set_private(vm, EXITS_TEST_GPA, EXITS_TEST_SIZE);
	kvm_pthread_create(&thread, NULL, (pthread_fn_t)run_vcpu_get_exit_reason, vcpu);
	vm_mem_region_delete(vm, EXITS_TEST_SLOT);
	kvm_pthread_join(thread, &reason);
	if ((uintptr_t)reason == KVM_EXIT_MMIO) {
		TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, EXITS_TEST_GPA);
	} else {
		TEST_ASSERT_EQ((u64)reason, KVM_EXIT_MEMORY_FAULT);
		TEST_ASSERT_EQ(vcpu->run->memory_fault.gpa, EXITS_TEST_GPA);
	}
	kvm_vm_free(vm);
}

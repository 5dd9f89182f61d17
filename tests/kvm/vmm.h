/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A small VMM: VMs whose memory is a gmem file, for guests that are a function
 * of guest.c or a Linux kernel.  Nothing but the kernel's ABI.
 */
#ifndef _TESTS_KVM_VMM_H
#define _TESTS_KVM_VMM_H

#include <linux/kvm.h>
#include <pthread.h>

#include "../lib.h"
#include "guest.h"

/* What newer kernels' headers have. */
#ifndef KVM_X86_SW_PROTECTED_VM
#define KVM_X86_SW_PROTECTED_VM	1
#endif
#ifndef KVM_MEM_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD	(1UL << 2)
#define KVM_EXIT_MEMORY_FAULT	39
#endif

/* struct kvm_userspace_memory_region2, whether the headers have it or not */
struct region2 {
	uint32_t slot;
	uint32_t flags;
	uint64_t guest_phys_addr;
	uint64_t memory_size;
	uint64_t userspace_addr;
	uint64_t guest_memfd_offset;
	uint32_t guest_memfd;
	uint32_t pad1;
	uint64_t pad2[14];
};

/* In struct kvm_run of KVM_EXIT_MEMORY_FAULT, where all exits have theirs */
struct memory_fault {
	uint64_t flags, gpa, size;
};

#ifndef KVM_MEMORY_EXIT_FLAG_PRIVATE
#define KVM_MEMORY_EXIT_FLAG_PRIVATE	(1UL << 3)
#endif

#define SET_REGION2	_IOW(KVMIO, 0x49, struct region2)

#define MAX_VCPUS	2

struct vm;

struct vcpu {
	struct vm *vm;
	int fd;
	int stats;		/* KVM's, which can be read while the CPU runs */
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
	uint64_t result;	/* of the guest's function */
	int error;		/* errno of KVM_RUN, 0 for none */
};

/**
 * struct vm - a virtual machine
 * @kvm: /dev/kvm
 * @fd: the VM
 * @gmem: a gmem file, guest-physical 0 being its offset 0; not the VM's to close
 * @host: where it is mapped, all of it
 * @size: in bytes
 * @vcpus: [0, @nr_vcpus)
 * @hypercall: what a guest's hypercall() does, unless it is one of the VMM's;
 *	the guest gets what it returns
 * @data: the test's
 * @io: other port I/O
 * @io_data: its data
 * @rest: GMEMFD_ATTRIBUTE_* of what the guest does not share
 * @typed: it tells private from shared accesses
 * @stopping: nobody shall enter the guest any more
 * @conversions: hypercalls done
 */
struct vm {
	int kvm, fd, gmem;
	char *host;
	size_t size;
	int nr_vcpus;
	struct vcpu vcpus[MAX_VCPUS];
	uint32_t (*hypercall)(struct vm *vm, unsigned int nr, uint64_t a,
			      uint64_t b, uint64_t c);
	void (*io)(struct vm *vm, bool out, unsigned int port, int size, void *data);
	void *data, *io_data;
	uint64_t rest;
	bool typed, stopping;
	long conversions;
};

int kvm_device(void);
/*
 * From here on VMs tell private from shared accesses: their type is KVM_X86_SW_PROTECTED_VM.
 * Skips the test where there are none, or the file cannot serve them.
 */
void vms_are_typed(void);
extern unsigned long vm_type;
bool kvm_has_typed(void);
bool kvm_reaches_secret(void);
int vm_set_slot(int vm_fd, unsigned int slot, unsigned int flags, uint64_t gpa,
		uint64_t size, void *host, int gmem, uint64_t offset);

/* The test before once more, in VMs that tell private from shared accesses. */
#define TEST_TYPED(name)	\
	TEST(typed_##name)	\
	{			\
		vms_are_typed(); \
		name();		\
	}

#define GPA_PDPT	0x2000	/* of the identity mapping, by 1 GiB */

/* A VM with @nr_vcpus for guest.c, which lies in the first 2 MiB, all private. */
void vm_create(struct vm *vm, int gmem, size_t size, int nr_vcpus);
void vm_create_empty(struct vm *vm, int gmem, size_t size);
/* One CPU, and 2 MiB that are no gmem file's; slots are for the test to add. */
void vm_create_apart(struct vm *vm, unsigned long type);
/* Where a function of guest.c is in a guest. */
uint64_t guest_address(const void *p);
/* guest.c and its page tables; @host is where the first 2 MiB are mapped. */
void vm_load_image(char *host);
void vcpu_create(struct vm *vm);
void vm_destroy(struct vm *vm);

/* Have a CPU of the guest call @fn; the result is in vcpu->result. */
void vcpu_prepare(struct vcpu *vcpu, guest_fn fn, uint64_t a, uint64_t b, uint64_t c);
bool vcpu_run(struct vcpu *vcpu);
void vcpu_print(struct vcpu *vcpu);	/* its registers */
uint64_t guest_call(struct vm *vm, guest_fn fn, uint64_t a, uint64_t b, uint64_t c);
void vcpu_start(struct vcpu *vcpu);	/* vcpu_run() in a thread */
void vcpu_join(struct vcpu *vcpu);

/* KVM's statistics, of a VM or of a CPU, by name; waits until that CPU leaves KVM_RUN. */
uint64_t kvm_stat(int fd, const char *name);
/* Nested page faults of all CPUs, waiting for none. */
uint64_t vm_faults(struct vm *vm);

/* Make all CPUs leave the guest for good. */
void vm_stop(struct vm *vm);

/* 64-bit code and data segments, paging with these tables. */
void vcpu_long_mode(struct kvm_sregs *sregs, uint64_t tables);

/*
 * linux.c: boots /bzImage in an all shared file, of which it makes private all
 * but the start, or in an all secret one; and returns when the guest resets.  @append
 * is more kernel command line.
 *
 * False if the guest was interrupted at the first instruction of an interrupt's entry, where
 * interrupts are off, and died of that: then the caller tries again.  QEMU does so.  It
 * delivers an interrupt that VMRUN injects (helper_vmrun(), in 7.2 and later), and leaves its
 * number in exception_index.  If the thread that runs the CPU is kicked before something else
 * resets that, it is delivered as an exception.  With thread=single (see scripts/lab) and
 * several CPUs in the machine, each interrupt of one CPU kicks the others, and so does a timer.
 * With one CPU a kick comes with an interrupt, which resets the number first.
 */
#define LINUX_SHARED	(192 * MB)
bool linux_boot(struct vm *vm, int nr_vcpus, const char *append, bool verbose);

#endif /* _TESTS_KVM_VMM_H */

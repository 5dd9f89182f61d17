// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that is a hypervisor.  KVM itself reads and writes the control block of its
 * guest, and maps that as the host sees it: by a reference, and in the direct map.
 */
#include "vmm.h"

#define MSR_VM_HSAVE_PA		0xc0010117
#define EFER_SVME		(1UL << 12)

#define GPA_HSAVE	0x30000		/* in what vm_create() leaves free */
#define GPA_NESTED_STACK 0x40000
#define GPA_VMCB	(3 * MB)

/* The parts of a control block that are used here, by their offsets. */
#define VMCB_INTERCEPTS	0x010		/* of SVM's own instructions */
#define VMCB_ASID	0x058
#define VMCB_EXIT_CODE	0x070
#define VMCB_SEGMENTS	0x400		/* es, cs, ss, ds */
#define VMCB_EFER	0x4d0
#define VMCB_CR4	0x548
#define VMCB_CR3	0x550
#define VMCB_CR0	0x558
#define VMCB_DR7	0x560
#define VMCB_DR6	0x568
#define VMCB_RFLAGS	0x570
#define VMCB_RIP	0x578
#define VMCB_RSP	0x5d8

#define EXIT_INVALID	(~0ULL)
#define EXIT_VMMCALL	0x81

/* A guest with its image where KVM can decode what it executes. */
static void vm_create_hypervisor(struct vm *vm, int gmem)
{
	FILE *nested = fopen("/sys/module/kvm_amd/parameters/nested", "r");
	char c = 0;

	if (!nested || fread(&c, 1, 1, nested) != 1 || (c != '1' && c != 'Y'))
		test_skip("no nested guests on this CPU");
	fclose(nested);
	vm_create(vm, gmem, 4 * MB, 1);
	EXPECT_EQ(gmem_convert_to(gmem, 0, 2 * MB, GMEMFD_ATTRIBUTE_SECRET), 0);
}

/* False if the guest, which has SVM switched on, does not come to its end. */
static bool run_nested(struct vm *vm, uint64_t gpa)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = {
		.head.nmsrs = 1,
		.entry = { .index = MSR_VM_HSAVE_PA, .data = GPA_HSAVE },
	};
	struct kvm_sregs sregs;

	vcpu_prepare(vcpu, guest_run_nested, gpa, 0, 0);
	EXPECT_EQ(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs), 0);
	sregs.efer |= EFER_SVME;
	EXPECT_EQ(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs), 0);
	EXPECT_EQ(ioctl(vcpu->fd, KVM_SET_MSRS, &msr), 1);
	return vcpu_run(vcpu);
}

/* No page, no guest: a fault that the hypervisor dies of, or KVM says that it cannot. */
static void expect_cannot_run(struct vm *vm)
{
	EXPECT(!run_nested(vm, GPA_VMCB));
	EXPECT_EQ(vm->vcpus[0].error, 0);
	EXPECT(vm->vcpus[0].run->exit_reason == KVM_EXIT_SHUTDOWN ||
	       vm->vcpus[0].run->exit_reason == KVM_EXIT_INTERNAL_ERROR);
}

static void nested_control_block(size_t size, size_t block)
{
	int gmem = gmem_create(size, block, GMEMFD_CREATE_SECRET);
	struct vm vm;
	char *vmcb;

	vm_create_hypervisor(&vm, gmem);
	vmcb = vm.host + GPA_VMCB;
	for (int i = 0; i < 3; i++) {
		memset(vmcb, 0, PAGE);
		expect_cannot_run(&vm);
		EXPECT(is_zero(vmcb, PAGE));

		EXPECT_EQ(gmem_convert_to(gmem, GPA_VMCB, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
		expect_cannot_run(&vm);

		/* A control block of zeros is not valid, and KVM writes that into it. */
		EXPECT_EQ(gmem_convert_to(gmem, GPA_VMCB, PAGE, 0), 0);
		EXPECT(is_zero(vmcb, PAGE));
		EXPECT(run_nested(&vm, GPA_VMCB));
		EXPECT_EQ(vm.vcpus[0].result, EXIT_INVALID);
		EXPECT_EQ(*(uint64_t *)(vmcb + VMCB_EXIT_CODE), EXIT_INVALID);
		/* It has let go of the page. */
		EXPECT_EQ(gmem_convert_to(gmem, GPA_VMCB, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
		EXPECT_EQ(*(uint64_t *)(vmcb + VMCB_EXIT_CODE), EXIT_INVALID);
	}
	vm_destroy(&vm);
	close(gmem);
}

/* A secret page is not in the direct map, and nobody takes a reference to it. */
TEST(kvm_nested_secret_control_block_2m)
{
	nested_control_block(4 * MB, 2 * MB);
}

TEST(kvm_nested_secret_control_block_1g)
{
	need_1g_blocks();
	nested_control_block(GB, GB);
}

static void set_word(char *vmcb, size_t at, uint64_t value)
{
	memcpy(vmcb + at, &value, sizeof(value));
}

/* What it takes to call guest_nested() with the hypervisor's own page tables. */
static void write_control_block(char *vmcb, uint64_t entry, const struct kvm_sregs *sregs)
{
	memset(vmcb, 0, PAGE);
	set_word(vmcb, VMCB_INTERCEPTS, 3);	/* VMRUN, which has to be, and VMMCALL */
	set_word(vmcb, VMCB_ASID, 1);
	for (int i = 0; i < 4; i++) {
		uint64_t attributes = i == 1 ? 0xa9b : 0xc93;	/* 64-bit code, data */

		set_word(vmcb, VMCB_SEGMENTS + i * 16,
			 (i == 1 ? 0x10 : 0x18) | attributes << 16 | 0xffffffffUL << 32);
	}
	set_word(vmcb, VMCB_EFER, sregs->efer | EFER_SVME);
	set_word(vmcb, VMCB_CR4, sregs->cr4);
	set_word(vmcb, VMCB_CR3, sregs->cr3);
	set_word(vmcb, VMCB_CR0, sregs->cr0);
	set_word(vmcb, VMCB_DR7, 0x400);
	set_word(vmcb, VMCB_DR6, 0xffff0ff0);
	set_word(vmcb, VMCB_RFLAGS, 2);
	set_word(vmcb, VMCB_RIP, entry);
	set_word(vmcb, VMCB_RSP, GPA_NESTED_STACK);
}

/* The nested guest asks the VMM, which changes what its control block is in. */
static uint32_t nested_asks(struct vm *vm, unsigned int nr, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t *attributes = vm->data;

	(void)nr, (void)a, (void)b, (void)c;
	EXPECT_EQ(gmem_convert_to(vm->gmem, GPA_VMCB, PAGE, *attributes), 0);
	return 0;
}

/*
 * The page goes from under a nested guest that runs: nothing is in the way, and when
 * the guest is to exit there is no place to write why.
 */
TEST(kvm_nested_control_block_becomes_secret)
{
	static const uint64_t attributes[] = {
		0, GMEMFD_ATTRIBUTE_SECRET, GMEMFD_ATTRIBUTE_PRIVATE, 0,
	};
	int gmem = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	struct kvm_sregs sregs = {};
	uint64_t now;
	struct vm vm;
	char *vmcb;

	vm_create_hypervisor(&vm, gmem);
	vmcb = vm.host + GPA_VMCB;
	vm.hypercall = nested_asks;
	vm.data = &now;
	vcpu_long_mode(&sregs, 0x1000);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(gmem_convert_to(gmem, GPA_VMCB, PAGE, 0), 0);
		write_control_block(vmcb, guest_address(guest_nested), &sregs);
		now = attributes[i];
		if (!now) {
			EXPECT(run_nested(&vm, GPA_VMCB));
			EXPECT_EQ(vm.vcpus[0].result, EXIT_VMMCALL);
			EXPECT_EQ(*(uint64_t *)(vmcb + VMCB_EXIT_CODE), EXIT_VMMCALL);
			continue;
		}
		expect_cannot_run(&vm);
		EXPECT_EQ(gmem_range(gmem, GPA_VMCB).flags & GMEMFD_RANGE_SECRET,
			  now == GMEMFD_ATTRIBUTE_SECRET ? GMEMFD_RANGE_SECRET : 0);
		EXPECT_EQ(gmem_convert_to(gmem, GPA_VMCB, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
		/* Nothing was written there. */
		EXPECT_EQ(*(uint64_t *)(vmcb + VMCB_EXIT_CODE), 0);
		EXPECT_EQ(*(uint64_t *)(vmcb + VMCB_RIP), guest_address(guest_nested));
	}
	vm_destroy(&vm);
	close(gmem);
}

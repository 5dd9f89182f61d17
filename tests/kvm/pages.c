// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of a guest that KVM itself writes: it has some mapped, and reaches others as the VMM
 * does.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>

#include "vmm.h"

/* Set an MSR as the VMM does on behalf of the guest; false: KVM refuses. */
static bool set_msr(struct vm *vm, uint32_t index, uint64_t data)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = {
		.head.nmsrs = 1,
		.entry = { .index = index, .data = data },
	};

	return ioctl(vm->vcpus[0].fd, KVM_SET_MSRS, &msr) == 1;
}

#define MSR_KVM_SYSTEM_TIME	0x4b564d01

struct clock_info {		/* pvclock_vcpu_time_info */
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
};

/* As the guest does that has its clock there. */
static void set_clock(struct vm *vm, uint64_t gpa)
{
	EXPECT(set_msr(vm, MSR_KVM_SYSTEM_TIME, gpa | 1));
}

/* KVM writes the guest's clock into its memory when this CPU runs next. */
static void kvm_writes_clock(struct vm *vm)
{
	struct kvm_clock_data clock = {};

	EXPECT_EQ(ioctl(vm->fd, KVM_GET_CLOCK, &clock), 0);
	clock.flags = 0;
	EXPECT_EQ(ioctl(vm->fd, KVM_SET_CLOCK, &clock), 0);
	guest_call(vm, guest_load, 2 * MB, 0, 0);
}

/* How many guest pages KVM has mapped for itself. */
static int mapped_by_kvm(void)
{
	FILE *f = fopen("/proc/vmallocinfo", "r");
	char line[512];
	int nr = 0;

	EXPECT(f);
	while (fgets(line, sizeof(line), f))
		nr += strstr(line, "kvm_gmem_provider_map") != NULL;
	fclose(f);
	return nr;
}

/*
 * KVM itself reaches secret and shared pages, and no private ones: as these come and go,
 * and so does the slot.
 */
static void clock_in_secret_page(size_t size, size_t block)
{
	int gmem = gmem_create(size, block, GMEMFD_CREATE_SECRET), other;
	const volatile struct clock_info *info;
	uint32_t version;
	char *anon;
	struct vm vm;

	if (!kvm_reaches_secret())
		test_skip("KVM's own caches cannot map secret pages here");
	vm_create(&vm, gmem, 4 * MB, 1);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, 4 * MB, 2 * MB, gmem_map(gmem, 4 * MB, 2 * MB), gmem,
			      4 * MB), 0);
	info = (void *)(gmem_map(gmem, 4 * MB, 2 * MB) + PAGE);
	set_clock(&vm, 4 * MB + PAGE);
	kvm_writes_clock(&vm);
	EXPECT(info->version && info->system_time);

	for (int i = 0; i < 20; i++) {
		version = info->version;
		kvm_writes_clock(&vm);
		EXPECT(info->version != version);
		EXPECT_EQ(mapped_by_kvm(), 1);
		/* Private: KVM does not write there, nor has it mapped. */
		version = info->version;
		EXPECT_EQ(gmem_convert(gmem, 4 * MB + PAGE, PAGE, true), 0);
		EXPECT_EQ(mapped_by_kvm(), 0);
		kvm_writes_clock(&vm);
		EXPECT_EQ(mapped_by_kvm(), 0);
		EXPECT_EQ(gmem_convert_to(gmem, 4 * MB + PAGE, PAGE,
					  i % 2 ? 0 : GMEMFD_ATTRIBUTE_SECRET), 0);
		EXPECT_EQ(info->version, version);
		kvm_writes_clock(&vm);
		EXPECT(info->version != version);
		EXPECT_EQ(gmem_convert_to(gmem, 4 * MB + PAGE, PAGE,
					  GMEMFD_ATTRIBUTE_SECRET), 0);
	}

	/* The page is punched, and another one is there. */
	EXPECT_EQ(gmem_punch(gmem, 4 * MB, 2 * MB), 0);
	EXPECT_EQ(mapped_by_kvm(), 0);
	kvm_writes_clock(&vm);
	EXPECT(info->version);
	EXPECT_EQ(mapped_by_kvm(), 1);

	/* Another file's page comes to be there, and memory of no file. */
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, 4 * MB, 0, NULL, gmem, 0), 0);
	EXPECT_EQ(mapped_by_kvm(), 0);
	version = info->version;
	kvm_writes_clock(&vm);
	EXPECT_EQ(info->version, version);
	other = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	anon = gmem_map(other, 0, 2 * MB);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, 4 * MB, 2 * MB, anon, other, 0), 0);
	kvm_writes_clock(&vm);
	EXPECT_EQ(info->version, version);
	EXPECT(((struct clock_info *)(anon + PAGE))->version);
	EXPECT_EQ(mapped_by_kvm(), 1);
	vm_destroy(&vm);
	EXPECT_EQ(mapped_by_kvm(), 0);
	close(other);
	close(gmem);
}

TEST(kvm_clock_in_secret_page_2m)
{
	clock_in_secret_page(8 * MB, 2 * MB);
}

TEST(kvm_clock_in_secret_page_1g)
{
	need_1g_blocks();
	clock_in_secret_page(GB, GB);
}

/* A slot of mapped memory becomes one of a file at the same address, with the same page. */
TEST(kvm_clock_when_slot_becomes_secret)
{
	int gmem = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	struct kvm_userspace_memory_region region = {
		.slot = 1, .guest_phys_addr = 4 * MB, .memory_size = 2 * MB,
	};
	struct clock_info *info;
	uint32_t version;
	struct vm vm;
	char *p;

	if (!kvm_reaches_secret())
		test_skip("KVM's own caches cannot map secret pages here");
	vm_create(&vm, gmem, 4 * MB, 1);
	p = gmem_map(gmem, 4 * MB, 2 * MB);
	EXPECT_EQ(gmem_convert_to(gmem, 4 * MB, 2 * MB, 0), 0);
	info = (void *)(p + PAGE);
	region.userspace_addr = (uintptr_t)p;
	EXPECT_EQ(ioctl(vm.fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	set_clock(&vm, 4 * MB + PAGE);
	kvm_writes_clock(&vm);
	EXPECT(info->version);

	region.memory_size = 0;
	EXPECT_EQ(ioctl(vm.fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, 4 * MB, 2 * MB, p, gmem, 4 * MB), 0);
	EXPECT(EVENTUALLY(!gmem_convert_to(gmem, 4 * MB, 2 * MB, GMEMFD_ATTRIBUTE_SECRET)));
	version = info->version;
	kvm_writes_clock(&vm);
	EXPECT(info->version != version);
	/* And back. */
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, 4 * MB, 0, NULL, gmem, 0), 0);
	EXPECT_EQ(gmem_convert_to(gmem, 4 * MB, 2 * MB, 0), 0);
	region.memory_size = 2 * MB;
	EXPECT_EQ(ioctl(vm.fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	EXPECT_EQ(mapped_by_kvm(), 0);
	version = info->version;
	kvm_writes_clock(&vm);
	EXPECT(info->version != version);
	vm_destroy(&vm);
	close(gmem);
}

/* Hyper-V's, from the Hypervisor Top-Level Functional Specification */
#define HV_X64_MSR_GUEST_OS_ID		0x40000000
#define HV_X64_MSR_HYPERCALL		0x40000001
#define HV_X64_MSR_REFERENCE_TSC	0x40000021
#define HV_X64_MSR_VP_ASSIST_PAGE	0x40000073
/* KVM's own */
#define MSR_KVM_WALL_CLOCK_NEW		0x4b564d00
#define MSR_KVM_STEAL_TIME		0x4b564d03

#define UNTOUCHED	0x5e

static bool is_untouched(const volatile char *p)
{
	for (int i = 0; i < 64; i++)
		if (p[i] != UNTOUCHED)
			return false;
	return true;
}

/*
 * KVM writes a page through the VMM's mapping, when the guest says where it is or when it
 * runs next, and does not if the page is private.
 */
static void page_of_msr(struct vm *vm, int gmem, uint32_t msr, bool enable)
{
	static const uint64_t states[] = {
		GMEMFD_ATTRIBUTE_SECRET, GMEMFD_ATTRIBUTE_PRIVATE, 0,
	};
	uint64_t gpa = 4 * MB + PAGE;
	char *p = vm->host + gpa;

	for (int i = 0; i < 3; i++) {
		bool private = states[i] == GMEMFD_ATTRIBUTE_PRIVATE;

		EXPECT_EQ(gmem_convert_to(gmem, gpa, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
		memset(p, UNTOUCHED, 64);
		EXPECT_EQ(gmem_convert_to(gmem, gpa, PAGE, states[i]), 0);
		if (!set_msr(vm, msr, gpa | enable) && !private)
			FAIL("MSR %x: refused", msr);
		guest_call(vm, guest_load, 2 * MB, 0, 0);
		EXPECT_EQ(gmem_convert_to(gmem, gpa, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
		if (is_untouched(p) != private)
			FAIL("MSR %x, %s page: %s", msr, private ? "private" :
			     states[i] ? "secret" : "shared", private ? "written" : "not written");
		EXPECT(set_msr(vm, msr, 0));
	}
}

static void pages_of_msrs(size_t size, size_t block)
{
	int gmem = gmem_create(size, block, GMEMFD_CREATE_SECRET);
	struct vm vm;

	vm_create(&vm, gmem, 8 * MB, 1);
	page_of_msr(&vm, gmem, MSR_KVM_WALL_CLOCK_NEW, false);
	if (set_msr(&vm, MSR_KVM_STEAL_TIME, 0))	/* not without scheduler statistics */
		page_of_msr(&vm, gmem, MSR_KVM_STEAL_TIME, true);
	if (set_msr(&vm, HV_X64_MSR_GUEST_OS_ID, 0x8100)) {	/* open source */
		page_of_msr(&vm, gmem, HV_X64_MSR_HYPERCALL, true);
		page_of_msr(&vm, gmem, HV_X64_MSR_REFERENCE_TSC, true);
		page_of_msr(&vm, gmem, HV_X64_MSR_VP_ASSIST_PAGE, true);
	}
	vm_destroy(&vm);
	close(gmem);
}

TEST(kvm_writes_pages_2m)
{
	pages_of_msrs(8 * MB, 2 * MB);
}

TEST(kvm_writes_pages_1g)
{
	need_1g_blocks();
	pages_of_msrs(GB, GB);
}

/* Xen's, from its public headers: shared_info's clock, and what a CPU has */
#define XEN_WALLCLOCK	0xc00	/* version, seconds, nanoseconds: 32 bits each */

struct xen_runstate {		/* vcpu_runstate_info */
	int32_t state;
	uint64_t entered, spent[4];
};

static void xen_cpu_page(struct vm *vm, uint16_t type, uint64_t gpa)
{
	struct kvm_xen_vcpu_attr attr = { .type = type, .u.gpa = gpa };

	EXPECT_EQ(ioctl(vm->vcpus[0].fd, KVM_XEN_VCPU_SET_ATTR, &attr), 0);
}

/* KVM has all of a Xen guest's pages mapped.  One is of two pages. */
static void xen_pages(size_t size, size_t block)
{
	enum { SHARED = 4 * MB, INFO = SHARED + PAGE, TIME = INFO + PAGE, RUN = TIME + 2 * PAGE - 16 };
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, .msr = 0x40000200,
	};
	struct kvm_xen_hvm_attr attr = { .type = KVM_XEN_ATTR_TYPE_LONG_MODE, .u.long_mode = 1 };
	int gmem = gmem_create(size, block, GMEMFD_CREATE_SECRET);
	volatile struct clock_info *info, *time;
	volatile struct xen_runstate *run;
	volatile uint32_t *wallclock;
	struct xen_runstate before;
	uint32_t versions[2];
	struct vm vm;

	if (!kvm_reaches_secret())
		test_skip("KVM's own caches cannot map secret pages here");
	vm_create(&vm, gmem, 8 * MB, 1);
	if (!(ioctl(vm.kvm, KVM_CHECK_EXTENSION, KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_RUNSTATE))
		test_skip("KVM without Xen; the debug kernel's has it");
	EXPECT_EQ(ioctl(vm.fd, KVM_XEN_HVM_CONFIG, &config), 0);
	EXPECT_EQ(ioctl(vm.fd, KVM_XEN_HVM_SET_ATTR, &attr), 0);

	wallclock = (void *)(vm.host + SHARED + XEN_WALLCLOCK);
	attr.type = KVM_XEN_ATTR_TYPE_SHARED_INFO;
	attr.u.shared_info.gfn = SHARED / PAGE;
	EXPECT_EQ(ioctl(vm.fd, KVM_XEN_HVM_SET_ATTR, &attr), 0);
	EXPECT(wallclock[0] && wallclock[1]);
	EXPECT_EQ(mapped_by_kvm(), 1);

	info = (void *)(vm.host + INFO + 32);	/* behind the CPU's event channels */
	time = (void *)(vm.host + TIME);
	run = (void *)(vm.host + RUN);
	xen_cpu_page(&vm, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, INFO);
	xen_cpu_page(&vm, KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO, TIME);
	xen_cpu_page(&vm, KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, RUN);
	kvm_writes_clock(&vm);
	EXPECT(info->version && time->version && run->entered);
	EXPECT_EQ(mapped_by_kvm(), 5);

	for (int i = 0; i < 20; i++) {
		before = *run;
		versions[0] = info->version;
		versions[1] = time->version;
		EXPECT_EQ(gmem_convert(gmem, SHARED, 5 * PAGE, true), 0);
		EXPECT_EQ(mapped_by_kvm(), 0);
		kvm_writes_clock(&vm);
		EXPECT_EQ(mapped_by_kvm(), 0);
		EXPECT_EQ(gmem_convert_to(gmem, SHARED, 5 * PAGE,
					  i % 2 ? 0 : GMEMFD_ATTRIBUTE_SECRET), 0);
		EXPECT_EQ(info->version, versions[0]);
		EXPECT_EQ(time->version, versions[1]);
		EXPECT_EQ(run->entered, before.entered);
		kvm_writes_clock(&vm);
		EXPECT(info->version != versions[0]);
		EXPECT(time->version != versions[1]);
		EXPECT(run->entered != before.entered);
		EXPECT_EQ(gmem_convert_to(gmem, SHARED, 5 * PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
	}
	vm_destroy(&vm);
	EXPECT_EQ(mapped_by_kvm(), 0);
	close(gmem);
}

TEST(kvm_xen_pages_2m)
{
	xen_pages(8 * MB, 2 * MB);
}

TEST(kvm_xen_pages_1g)
{
	need_1g_blocks();
	xen_pages(GB, GB);
}

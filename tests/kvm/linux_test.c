// SPDX-License-Identifier: GPL-2.0
/* A Linux guest in private memory. */
#define _GNU_SOURCE
#include <sys/uio.h>

#include "linux_guest.h"
#include "vmm.h"

struct guest_report {
	bool exchanged, done;
	uint64_t failures, cpus;
	const char *stat;		/* pages_1g or pages_2m */
	uint64_t mapped, small, faults;	/* when conversions begin */
	uint64_t mapped_after, small_after, faults_after;
};

/* Does this program reach the page, or if it is secret, can the kernel have it? */
static bool can_pin(struct vm *vm, uint64_t gpa)
{
	struct iovec iov = { vm->host + gpa, PAGE };
	int pipes[2];
	long ret;

	if (vm->rest == GMEMFD_ATTRIBUTE_PRIVATE)
		return can_read(vm->host + gpa) || can_write(vm->host + gpa);
	EXPECT_EQ(pipe(pipes), 0);
	ret = vmsplice(pipes[1], &iov, 1, 0);
	close(pipes[0]);
	close(pipes[1]);
	return ret > 0;
}

static uint32_t linux_hypercall(struct vm *vm, unsigned int nr, uint64_t a,
				uint64_t b, uint64_t c)
{
	struct guest_report *report = vm->data;

	(void)c;
	switch (nr) {
	case HC_LINUX_EXCHANGE:
		if (strcmp(vm->host + a, LINUX_QUESTION) ||
		    can_pin(vm, a - PAGE) || can_pin(vm, a + PAGE))
			return 0;
		strcpy(vm->host + a, LINUX_ANSWER);
		report->exchanged = true;
		return 1;
	case HC_LINUX_OUT_OF_REACH:
		return !can_pin(vm, a);
	case HC_LINUX_CONVERTING:
		report->mapped = kvm_stat(vm->fd, report->stat);
		report->small = kvm_stat(vm->fd, "pages_4k");
		report->faults = vm_faults(vm);
		return 0;
	case HC_LINUX_CONVERTED:
		report->mapped_after = kvm_stat(vm->fd, report->stat);
		report->small_after = kvm_stat(vm->fd, "pages_4k");
		report->faults_after = vm_faults(vm);
		return 0;
	case HC_LINUX_DONE:
		report->done = true;
		report->failures = a;
		report->cpus = b;
		return 0;
	}
	return -1;
}

/* False if it has to be done again: see linux_boot(). */
static bool try_linux_guest(size_t size, size_t block, int cpus, int conversions, bool secret)
{
	int gmem = gmem_create(size, block, secret ? GMEMFD_CREATE_SECRET :
						     GMEMFD_CREATE_INIT_SHARED);
	struct guest_report report = {
		.stat = block == GB ? "pages_1g" : "pages_2m",
	};
	char append[128];
	struct vm vm;

	EXPECT_EQ(gmem_allocate(gmem, 0, size), 0);
	vm_create_empty(&vm, gmem, size);
	vm.hypercall = linux_hypercall;
	vm.data = &report;
	if (secret)
		vm.rest = GMEMFD_ATTRIBUTE_SECRET;
	snprintf(append, sizeof(append), "loglevel=3 convert=%d %s", conversions / 2,
		 secret && kvm_reaches_secret() ? "wants=kvm-clock" : "no-kvmclock");
	if (!linux_boot(&vm, cpus, append, true)) {
		vm_destroy(&vm);
		close(gmem);
		return false;
	}

	EXPECT(report.exchanged);
	EXPECT(report.done);
	EXPECT_EQ(report.failures, 0);
	EXPECT_EQ(report.cpus, cpus);
	/* What was converted is what it was. */
	if (secret) {
		EXPECT_EQ(gmem_range(gmem, 0).size, size);
		EXPECT(gmem_range(gmem, 0).flags & GMEMFD_RANGE_SECRET);
	} else {
		EXPECT_EQ(gmem_range(gmem, LINUX_SHARED).size, size - LINUX_SHARED);
		EXPECT_EQ(gmem_state(gmem, LINUX_SHARED), 1);
	}
	printf("# %d conversions: %s %lu, then %lu; %lu faults\n", conversions,
	       report.stat, report.mapped, report.mapped_after,
	       report.faults_after - report.faults);
	EXPECT(report.mapped > 0);
	/* What a typed VM has mapped is of one state, and conversions take it away. */
	if (!vm.typed) {
		EXPECT(report.mapped_after >= report.mapped);
		EXPECT_EQ(report.small, 0);
		EXPECT_EQ(report.small_after, 0);
		if (block == GB)
			EXPECT_EQ(report.faults_after, report.faults);
	}
	vm_destroy(&vm);
	close(gmem);
	return true;
}

static void linux_guest(size_t size, size_t block, int cpus, int conversions, bool secret)
{
	int tries = shim_is_module() ? 4 : 1;

	while (tries-- && !try_linux_guest(size, block, cpus, conversions, secret))
		printf("# the emulator interrupted the guest twice\n");
	EXPECT(tries >= 0);
}

/*
 * Debian's kernel gets one CPU.  In a machine of two the emulator interrupts it twice now and
 * then, see linux_boot(); in a machine of one a guest with two has stood still once.
 */
static int guest_cpus(void)
{
	return shim_is_module() ? 1 : 2;
}

TEST(kvm_linux_guest_2m)
{
	linux_guest(384 * MB, 2 * MB, guest_cpus(), 100, false);
}

TEST_TYPED(kvm_linux_guest_2m)

TEST(kvm_linux_guest_1g)
{
	need_1g_blocks();
	linux_guest(GB, GB, guest_cpus(), debug_kernel() ? 500 : 2000, false);
}

/* All of its memory is secret, but for a page at a time that it shares. */
TEST(kvm_linux_guest_secret_2m)
{
	linux_guest(384 * MB, 2 * MB, guest_cpus(), 100, true);
}

TEST(kvm_linux_guest_secret_1g)
{
	need_1g_blocks();
	linux_guest(GB, GB, guest_cpus(), 100, true);
}

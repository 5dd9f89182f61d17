// SPDX-License-Identifier: GPL-2.0
/*
 * The cases of the kernel's own guest_memfd_test.c, given a gmem file instead
 * of a guest_memfd.  Built with the kernel's selftests, whose source this
 * includes; "page" is 2 MiB here, the smallest block of a gmem file.
 */
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "kvm_util.h"

static int gmem_create(size_t size, bool shared);

/* What the cases create for themselves is a gmem file, too. */
#define vm_create_guest_memfd(vm, size, flags)	\
	gmem_create(size, (flags) & GUEST_MEMFD_FLAG_INIT_SHARED)
#define main	guest_memfd_test_main
#include "guest_memfd_test.c"
#undef main
#undef vm_create_guest_memfd

#include "gmemfd.h"

static int gmem_create(size_t size, bool shared)
{
	struct gmemfd_create create = {
		.size = size,
		.block_size = SZ_2M,
		.flags = shared ? GMEMFD_CREATE_INIT_SHARED : 0,
	};
	int device = open("/dev/gmemfd", O_RDWR), fd;

	TEST_ASSERT(device >= 0, "no /dev/gmemfd");
	fd = ioctl(device, GMEMFD_CREATE, &create);
	TEST_ASSERT(fd >= 0, "GMEMFD_CREATE: %s", strerror(errno));
	close(device);
	return fd;
}

static void with_vm(int fd, size_t size)
{
	struct kvm_vm *vm = vm_create_barebones();

	test_invalid_binding(vm, fd, size);
	kvm_vm_free(vm);
}

static void collapse(int fd, size_t size)
{
	(void)size;
	test_collapse(fd, 0);
}

static void guest(int fd, size_t size)
{
	(void)fd, (void)size;
	test_guest_memfd_guest();
}

static const struct {
	const char *name;
	void (*fn)(int fd, size_t size);
	bool shared;
	const char *otherwise;
} cases[] = {
	{ "file_read_write", test_file_read_write, true },
	{ "mmap_supported", test_mmap_supported, true },
	{ "fault_overflow", test_fault_overflow, true },
	{ "fault_private", test_fault_private, false },
	{ "numa_allocation", test_numa_allocation, true },
	{ "collapse", collapse, true },
	{ "mmap_cow", test_mmap_cow, true },
	{ "mbind", test_mbind, true },
	{ "file_size", test_file_size, true },
	{ "fallocate", test_fallocate, true },
	{ "fallocate (private)", test_fallocate, false },
	{ "invalid_punch_hole", test_invalid_punch_hole, true },
	{ "invalid_binding", with_vm, false },
	{ "guest_memfd_guest", guest, true },
	{ "create_guest_memfd_invalid_sizes", NULL, false,
	  "files are made by GMEMFD_CREATE: create_bad_input" },
	{ "create_guest_memfd_multiple", NULL, false,
	  "files are made by GMEMFD_CREATE: create_two_files" },
	{ "guest_memfd_flags", NULL, false,
	  "GMEMFD_CREATE has flags of its own: create_bad_input" },
	{ "mmap_not_supported", NULL, false,
	  "every gmem file can be mapped; private pages are SIGBUS" },
};

int main(void)
{
	int failed = 0;

	page_size = SZ_2M;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status;

		if (!cases[i].fn) {
			printf("# guest_memfd_test: %s does not apply: %s\n",
			       cases[i].name, cases[i].otherwise);
			continue;
		}
		fflush(stdout);
		if (!fork()) {
			int fd = gmem_create(4 * page_size, cases[i].shared);

			cases[i].fn(fd, 4 * page_size);
			exit(0);
		}
		wait(&status);
		printf("%s guest_memfd_test: %s\n", status ? "not ok" : "ok",
		       cases[i].name);
		failed += status != 0;
	}
	return failed != 0;
}

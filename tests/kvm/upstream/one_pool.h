/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For the kernel's own tests of VMs that tell private from shared accesses: a gmem file takes
 * the place of both pools, the guest_memfd and the memory that is mapped at userspace_addr.
 * The tests' calls of ioctl() and fallocate() come here.  Options go before the test's own:
 *
 *   1g		blocks of 1 GiB
 *   small	GMEMFD_CREATE_SMALL_SHARED
 *   populated	memory is there before the guest touches it
 */
#include <linux/sizes.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kvm_util.h"
#include "gmemfd.h"

static size_t block_size = SZ_2M;
static u64 create_flags = GMEMFD_CREATE_INIT_SHARED;
static bool populated;

/* Slots on gmem files, and what the VM's attributes would say of pages without one. */
static struct kvm_userspace_memory_region2 slots[16];
static struct kvm_memory_attributes wanted[16];
static int nr_wanted;
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;

static long plain_ioctl(int fd, unsigned long cmd, void *arg)
{
	return syscall(SYS_ioctl, fd, cmd, arg);
}

static int create_pool(const struct kvm_create_guest_memfd *args)
{
	struct gmemfd_create create = {
		.size = align_up(args->size, block_size),
		.block_size = block_size,
		.flags = create_flags,
	};
	int device = open("/dev/gmemfd", O_RDWR | O_CLOEXEC), fd;

	TEST_ASSERT(device >= 0, "no /dev/gmemfd");
	fd = plain_ioctl(device, GMEMFD_CREATE, &create);
	TEST_ASSERT(fd >= 0, "GMEMFD_CREATE: %s", strerror(errno));
	close(device);
	if (populated)
		TEST_ASSERT(!syscall(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, 0, create.size),
			    "fallocate: %s", strerror(errno));
	return fd;
}

static int convert_in_slot(const struct kvm_userspace_memory_region2 *slot,
			   const struct kvm_memory_attributes *attr)
{
	u64 lo = max(slot->guest_phys_addr, attr->address);
	u64 hi = min(slot->guest_phys_addr + slot->memory_size, attr->address + attr->size);
	struct gmemfd_convert convert = {
		.offset = lo - slot->guest_phys_addr + slot->guest_memfd_offset,
		.size = hi - lo,
		.attributes = attr->attributes,
	};

	return lo < hi ? plain_ioctl(slot->guest_memfd, GMEMFD_CONVERT, &convert) : 0;
}

static int set_slot(int vm, struct kvm_userspace_memory_region2 *region)
{
	struct kvm_userspace_memory_region2 *slot = &slots[region->slot];
	int ret;

	if (region->slot >= ARRAY_SIZE(slots))
		return plain_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, region);
	if (region->memory_size && region->flags & KVM_MEM_GUEST_MEMFD)
		TEST_ASSERT(mmap((void *)region->userspace_addr, region->memory_size,
				 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				 region->guest_memfd, region->guest_memfd_offset) != MAP_FAILED,
			    "mmap: %s", strerror(errno));
	ret = plain_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, region);
	memset(slot, 0, sizeof(*slot));
	if (ret || !region->memory_size || !(region->flags & KVM_MEM_GUEST_MEMFD))
		return ret;
	*slot = *region;
	for (int i = 0; i < nr_wanted; i++)
		TEST_ASSERT(!convert_in_slot(slot, &wanted[i]), "convert: %s", strerror(errno));
	return 0;
}

static int set_attributes(int vm, struct kvm_memory_attributes *attr)
{
	bool found = false;

	for (int i = 0; i < ARRAY_SIZE(slots); i++) {
		const struct kvm_userspace_memory_region2 *slot = &slots[i];

		if (!slot->memory_size ||
		    attr->address >= slot->guest_phys_addr + slot->memory_size ||
		    slot->guest_phys_addr >= attr->address + attr->size)
			continue;
		found = true;
		if (convert_in_slot(slot, attr))
			return -1;
	}
	if (!found)
		return plain_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, attr);
	/* A test with few of them deletes its slot, and makes it again. */
	if (nr_wanted < ARRAY_SIZE(wanted))
		wanted[nr_wanted++] = *attr;
	return 0;
}

int ioctl(int fd, unsigned long cmd, ...)
{
	va_list ap;
	void *arg;
	int ret;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	pthread_mutex_lock(&pool_lock);
	switch (cmd) {
	case KVM_CREATE_GUEST_MEMFD:
		ret = create_pool(arg);
		break;
	case KVM_SET_USER_MEMORY_REGION2:
		ret = set_slot(fd, arg);
		break;
	case KVM_SET_MEMORY_ATTRIBUTES:
		ret = set_attributes(fd, arg);
		break;
	default:
		pthread_mutex_unlock(&pool_lock);
		return plain_ioctl(fd, cmd, arg);
	}
	pthread_mutex_unlock(&pool_lock);
	return ret;
}

/* The pool of private memory is what is private. */
int fallocate(int fd, int mode, off_t offset, off_t size)
{
	struct gmemfd_range range;
	struct gmemfd_get_ranges get = {
		.offset = offset, .end = offset + size, .ranges = (uintptr_t)&range,
	};

	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		return syscall(SYS_fallocate, fd, mode, offset, size);
	while (get.offset < get.end) {
		get.nr_ranges = 1;
		if (plain_ioctl(fd, GMEMFD_GET_RANGES, &get))
			return -1;
		if (range.flags & GMEMFD_RANGE_PRIVATE &&
		    syscall(SYS_fallocate, fd, mode, range.offset, range.size))
			return -1;
	}
	return 0;
}

int fallocate64(int fd, int mode, off_t offset, off_t size)
	__attribute__((alias("fallocate")));

/*
 * Of a private page the host sees nothing.  The test is given what it expects of the other
 * pool.
 */
static inline void *host_address(struct kvm_vm *vm, gpa_t gpa, u8 pattern)
{
	static __thread u8 page[4096];
	u8 *hva = (addr_gpa2hva)(vm, gpa);
	int pipes[2];

	TEST_ASSERT(!pipe(pipes), "pipe");
	if (write(pipes[1], hva, 1) == 1) {
		close(pipes[0]);
		close(pipes[1]);
		return hva;
	}
	TEST_ASSERT(errno == EFAULT, "a private page: %s", strerror(errno));
	close(pipes[0]);
	close(pipes[1]);
	memset(page, pattern, sizeof(page));
	return page;
}

static int test_main(int argc, char *argv[]);

int main(int argc, char *argv[])
{
	while (argc > 1 && argv[1][0] != '-') {
		if (!strcmp(argv[1], "1g"))
			block_size = SZ_1G;
		else if (!strcmp(argv[1], "small"))
			create_flags |= GMEMFD_CREATE_SMALL_SHARED;
		else if (!strcmp(argv[1], "populated"))
			populated = true;
		else
			return 2;
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	/* Those that fail do not come back. */
	test_main(argc, argv);
	return 0;
}

#define main	test_main

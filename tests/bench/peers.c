// SPDX-License-Identifier: GPL-2.0
/*
 * What gmem files are compared with, all of the same kernel.
 */
#define _GNU_SOURCE
#include <sys/syscall.h>

#include "bench.h"

/* What newer C libraries and kernels' headers have. */
#ifndef __NR_memfd_secret
#define __NR_memfd_secret	447
#endif
#ifndef MFD_HUGETLB
#define MFD_HUGETLB		4U
#endif
#define MFD_HUGE_SHIFT_		26

#define VM_SOFTWARE_PROTECTED	1
#define ATTRIBUTE_PRIVATE	8

struct create_guest_memfd {
	uint64_t size;
	uint64_t flags;
	uint64_t reserved[6];
};

struct attributes {
	uint64_t address;
	uint64_t size;
	uint64_t attributes;
	uint64_t flags;
};

#define CREATE_GUEST_MEMFD	_IOWR(KVMIO, 0xd4, struct create_guest_memfd)
#define SET_ATTRIBUTES		_IOW(KVMIO, 0xd2, struct attributes)

int secret_create(size_t size)
{
	int fd = syscall(__NR_memfd_secret, 0);

	EXPECT(fd >= 0);
	EXPECT_EQ(ftruncate(fd, size), 0);
	return fd;
}

int memfd(size_t size, size_t huge)
{
	unsigned int flags = MFD_CLOEXEC;
	int fd;

	if (huge)
		flags |= MFD_HUGETLB | (unsigned int)__builtin_ctzl(huge) << MFD_HUGE_SHIFT_;
	fd = memfd_create("bench", flags);
	EXPECT(fd >= 0);
	EXPECT_EQ(ftruncate(fd, size), 0);
	return fd;
}

void memfd_punch(int fd, uint64_t offset, uint64_t size)
{
	EXPECT_EQ(fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, size), 0);
}

void memfd_allocate(int fd, uint64_t offset, uint64_t size)
{
	EXPECT_EQ(fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, size), 0);
}

int guest_memfd(int vm_fd, size_t size, uint64_t flags)
{
	struct create_guest_memfd create = { .size = size, .flags = flags };
	int fd = ioctl(vm_fd, CREATE_GUEST_MEMFD, &create);

	EXPECT(fd >= 0);
	return fd;
}

void two_pool_open(struct two_pool *pool, size_t size, size_t huge)
{
	*pool = (struct two_pool) { .size = size };
	pool->kvm = kvm_device();
	pool->vm = ioctl(pool->kvm, KVM_CREATE_VM, VM_SOFTWARE_PROTECTED);
	EXPECT(pool->vm >= 0);
	pool->private = guest_memfd(pool->vm, size, 0);
	pool->shared = memfd(size, huge);
	pool->host = gmem_map(pool->shared, 0, size);
	EXPECT_EQ(vm_set_slot(pool->vm, 0, 0, 0, size, pool->host, pool->private, 0), 0);
}

void two_pool_close(struct two_pool *pool)
{
	munmap(pool->host, pool->size);
	close(pool->shared);
	close(pool->private);
	close(pool->vm);
	close(pool->kvm);
}

void two_pool_attribute(struct two_pool *pool, uint64_t offset, uint64_t size,
			bool private)
{
	struct attributes set = {
		.address = offset, .size = size,
		.attributes = private ? ATTRIBUTE_PRIVATE : 0,
	};

	EXPECT_EQ(ioctl(pool->vm, SET_ATTRIBUTES, &set), 0);
}

/*
 * The host cannot read the private side, so a guest that wants to keep contents
 * copies them to a bounce buffer and back.  Here that is one copy, by the host,
 * out of or into the shared side: less than it takes.
 */
void two_pool_convert(struct two_pool *pool, uint64_t offset, uint64_t size,
		      bool private, char *copy)
{
	if (private && copy)
		memcpy(copy, pool->host + offset, size);
	two_pool_attribute(pool, offset, size, private);
	memfd_punch(private ? pool->shared : pool->private, offset, size);
	if (private)
		memfd_allocate(pool->private, offset, size);
	else if (copy)
		memcpy(pool->host + offset, copy, size);
	else
		memfd_allocate(pool->shared, offset, size);
}

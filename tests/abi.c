// SPDX-License-Identifier: GPL-2.0
/* Every call, every errno that gmemfd.h promises; refused calls change nothing. */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib.h"

#define BAD_POINTER	((void *)8)

TEST(get_info)
{
	struct gmemfd_info info = { };
	int device = gmem_device();

	EXPECT_EQ(ioctl(device, GMEMFD_GET_INFO, &info), 0);
	EXPECT_EQ(info.abi, GMEMFD_ABI);
	EXPECT(info.shim_abi >= 1);
	EXPECT_EQ(info.create_flags, GMEMFD_CREATE_INIT_SHARED | GMEMFD_CREATE_NODE |
				     GMEMFD_CREATE_SMALL_SHARED |
				     GMEMFD_CREATE_KEEP_DIRECT_MAP | GMEMFD_CREATE_SECRET |
				     GMEMFD_CREATE_BIND_MAPPED);
	EXPECT_EQ(info.attributes, GMEMFD_ATTRIBUTE_PRIVATE | GMEMFD_ATTRIBUTE_SECRET);
	EXPECT(info.max_secret_entry == PAGE || info.max_secret_entry == 2 * MB);
	EXPECT_EQ(info.block_sizes, 2 * MB + (have_1g_blocks() ? GB : 0));
	info.reserved[2] = 1;
	EXPECT_ERR(ioctl(device, GMEMFD_GET_INFO, &info), EINVAL);
	EXPECT_ERR(ioctl(device, GMEMFD_GET_INFO, BAD_POINTER), EFAULT);
	EXPECT_ERR(ioctl(device, GMEMFD_CONVERT, &info), ENOTTY);
	EXPECT_ERR(ioctl(device, 0x1234, &info), ENOTTY);
}

TEST(device_mode)
{
	struct stat st;

	EXPECT_EQ(stat("/dev/gmemfd", &st), 0);
	EXPECT_EQ(st.st_mode, S_IFCHR | 0660);
}

static void create_refused(struct gmemfd_create create, int err)
{
	long resv2m = pool(2 * MB, "resv_hugepages"), resv1g = pool(GB, "resv_hugepages");
	int device = gmem_device();

	EXPECT_ERR(ioctl(device, GMEMFD_CREATE, &create), err);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), resv2m);
	EXPECT_EQ(pool(GB, "resv_hugepages"), resv1g);
	close(device);
}

TEST(create_bad_input)
{
	const struct gmemfd_create good = { .size = 4 * MB, .block_size = 2 * MB };
	struct gmemfd_create bad;

	for (int bit = 6; bit < 64; bit++) {
		bad = good;
		bad.flags = 1ULL << bit;
		create_refused(bad, EINVAL);
	}
	for (int i = 0; i < 4; i++) {
		bad = good;
		bad.reserved[i] = 1;
		create_refused(bad, EINVAL);
	}
	bad = good; bad.reserved0 = 1; create_refused(bad, EINVAL);
	bad = good; bad.node = 1; create_refused(bad, EINVAL);
	bad.flags = GMEMFD_CREATE_NODE; bad.node = 1000; create_refused(bad, EINVAL);
	bad.node = ~0; create_refused(bad, EINVAL);
	for (int bit = 0; bit < 64; bit++) {
		bad = good;
		bad.block_size = 1ULL << bit;
		if (bit != 21 && bit != 30)
			create_refused(bad, EINVAL);
	}
	bad = good; bad.block_size = 0; create_refused(bad, EINVAL);
	bad = good; bad.block_size = 3 * MB; create_refused(bad, EINVAL);
	bad = good; bad.block_size = 2 * MB + GB; create_refused(bad, EINVAL);
	bad = good; bad.size = 0; create_refused(bad, EINVAL);
	bad = good; bad.size = 2 * MB + PAGE; create_refused(bad, EINVAL);
	bad = good; bad.size = MB; create_refused(bad, EINVAL);
	bad = good; bad.size = -2 * MB; create_refused(bad, EINVAL);
	bad = good; bad.block_size = GB; bad.size = GB + 2 * MB;
	create_refused(bad, EINVAL);
	/* More than the pool has. */
	bad = good; bad.size = GB; create_refused(bad, ENOMEM);
	bad = good; bad.size = 1ULL << 62; create_refused(bad, ENOMEM);
	bad = good; bad.block_size = GB; bad.size = 3 * GB;
	create_refused(bad, have_1g_blocks() ? ENOMEM : EINVAL);
	bad.size = (1ULL << 63) - GB;
	create_refused(bad, have_1g_blocks() ? ENOMEM : EINVAL);
	EXPECT_ERR(ioctl(gmem_device(), GMEMFD_CREATE, BAD_POINTER), EFAULT);
}

TEST(create_without_fds)
{
	struct gmemfd_create create = { .size = 2 * MB, .block_size = 2 * MB };
	struct rlimit limit = { 3, 3 };
	int device = gmem_device();

	dup2(device, 0);
	EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	EXPECT_ERR(ioctl(0, GMEMFD_CREATE, &create), EMFILE);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), -1);	/* no fd for it either */
}

TEST(create_reserves)
{
	long resv = pool(2 * MB, "resv_hugepages"), available = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(256 * MB, 2 * MB, 0);

	EXPECT(fd >= 0);
	EXPECT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), resv + 128);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available);
	EXPECT_ERR(gmem_create(258 * MB, 2 * MB, 0), ENOMEM);
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), resv + 127);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available - 1);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), resv + 128);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available);
}

static void ranges_refused(int fd, int (*call)(int fd, uint64_t offset, uint64_t size))
{
	const uint64_t size = 4 * MB;

	EXPECT_ERR(call(fd, 1 + (1ULL << 62), PAGE), EINVAL);
	EXPECT_ERR(call(fd, size, PAGE - 1), EINVAL);

	EXPECT_ERR(call(fd, 0, 0), EINVAL);
	EXPECT_ERR(call(fd, 1, PAGE), EINVAL);
	EXPECT_ERR(call(fd, 0, PAGE - 1), EINVAL);
	EXPECT_ERR(call(fd, 512, 512), EINVAL);
	if (call == gmem_punch) {	/* nothing to punch there, which is done */
		EXPECT_EQ(call(fd, size, PAGE), 0);
		EXPECT_EQ(call(fd, 1ULL << 62, PAGE), 0);
		return;
	}
	EXPECT_ERR(call(fd, size, PAGE), EINVAL);
	EXPECT_ERR(call(fd, 0, size + PAGE), EINVAL);
	EXPECT_ERR(call(fd, PAGE, size), EINVAL);
	EXPECT_ERR(call(fd, 1ULL << 62, PAGE), EINVAL);
}

static int to_private(int fd, uint64_t offset, uint64_t size)
{
	return gmem_convert(fd, offset, size, true);
}

static int to_shared(int fd, uint64_t offset, uint64_t size)
{
	return gmem_convert(fd, offset, size, false);
}

/* The part of a hole that lies in the file is punched. */
TEST(punch_across_end)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);

	EXPECT_EQ(gmem_allocate(fd, 0, 4 * MB), 0);
	EXPECT_EQ(gmem_punch(fd, 2 * MB, 1ULL << 40), 0);
	EXPECT_EQ(gmem_range(fd, 0).size, 2 * MB);
	EXPECT(gmem_range(fd, 0).flags & GMEMFD_RANGE_ALLOCATED);
	EXPECT(!(gmem_range(fd, 2 * MB).flags & GMEMFD_RANGE_ALLOCATED));
	close(fd);
}

TEST(create_two_files)
{
	int a = gmem_create(2 * MB, 2 * MB, 0), b = gmem_create(4 * MB, 2 * MB, 0);
	struct stat sa, sb;

	EXPECT_EQ(fstat(a, &sa), 0);
	EXPECT_EQ(fstat(b, &sb), 0);
	EXPECT_EQ(sa.st_size, 2 * MB);
	EXPECT_EQ(sb.st_size, 4 * MB);
	EXPECT(sa.st_ino != sb.st_ino);
	close(a);
	close(b);
}

TEST(range_bad_input)
{
	int fd = gmem_create(4 * MB, 2 * MB, 0);
	struct gmemfd_range before, after;

	EXPECT_EQ(to_shared(fd, MB, PAGE), 0);
	before = gmem_range(fd, 0);
	ranges_refused(fd, to_private);
	ranges_refused(fd, to_shared);
	ranges_refused(fd, gmem_allocate);
	ranges_refused(fd, gmem_punch);
	/* Only an ioctl can say these; fallocate's arguments are signed. */
	EXPECT_ERR(to_private(fd, -PAGE, 2 * PAGE), EINVAL);
	EXPECT_ERR(to_private(fd, PAGE, -PAGE), EINVAL);
	EXPECT_ERR(to_shared(fd, -PAGE, PAGE), EINVAL);
	after = gmem_range(fd, 0);
	EXPECT(!memcmp(&before, &after, sizeof(before)));
	EXPECT_EQ(gmem_state(fd, MB), 0);
}

TEST(convert_bad_input)
{
	const struct gmemfd_convert good = {
		.size = PAGE, .attributes = GMEMFD_ATTRIBUTE_PRIVATE,
	};
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	struct gmemfd_convert bad;

	EXPECT_EQ(sizeof(bad), 128);
	for (int bit = 0; bit < 64; bit++) {
		bad = good;
		bad.flags = 1ULL << bit;
		if (bad.flags != GMEMFD_CONVERT_WAIT)
			EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT, &bad), EINVAL);
		bad = good;
		bad.attributes |= 1ULL << bit;
		if (bit != 3)
			EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT, &bad), EINVAL);
	}
	for (int i = 0; i < 10; i++) {
		bad = good;
		bad.reserved[i] = 1ULL << 63;
		EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT, &bad), EINVAL);
	}
	bad = good; bad.timeout = 1;
	EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT, &bad), EINVAL);
	EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT, BAD_POINTER), EFAULT);
	EXPECT_ERR(ioctl(fd, GMEMFD_CREATE, &bad), ENOTTY);
	EXPECT_ERR(ioctl(fd, GMEMFD_GET_INFO, &bad), ENOTTY);
	EXPECT_EQ(gmem_state(fd, 0), 0);
}

/* EAGAIN cannot tell where: the refusal is EFAULT, and still whole. */
TEST(convert_error_offset_unwritable)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	struct gmemfd_convert *convert;
	struct pin pin;

	convert = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	convert->size = 2 * MB;
	convert->attributes = GMEMFD_ATTRIBUTE_PRIVATE;
	EXPECT_EQ(mprotect(convert, PAGE, PROT_READ), 0);
	p[0] = 1;
	pin_pipe(&pin, p, PAGE);
	EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT, convert), EFAULT);
	EXPECT_EQ(gmem_state(fd, 0), 0);
	unpin(&pin);
}

TEST(convert_by_upstream_number)
{
	struct gmemfd_convert convert = {
		.offset = PAGE, .size = PAGE, .attributes = GMEMFD_ATTRIBUTE_PRIVATE,
	};
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);

	EXPECT_EQ(GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, 0xc080aed2);
	EXPECT_EQ(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), 0);
	EXPECT_EQ(gmem_state(fd, PAGE), 1);
	EXPECT_EQ(gmem_state(fd, 0), 0);
}

/* Its flags are upstream's: what is WAIT for us is ZERO there. */
TEST(convert_by_upstream_flags)
{
	const struct gmemfd_convert good = {
		.size = PAGE, .attributes = GMEMFD_ATTRIBUTE_PRIVATE,
		.flags = GMEMFD_KVM_ATTRIBUTES2_PRESERVE,
	};
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	struct gmemfd_convert convert;

	EXPECT_EQ(GMEMFD_KVM_ATTRIBUTES2_ZERO, 1);
	EXPECT_EQ(GMEMFD_KVM_ATTRIBUTES2_PRESERVE, 2);
	fill(p, 2 * MB, 1);
	for (uint64_t flags = 1; flags; flags <<= 1) {
		convert = good;
		convert.flags = flags;
		if (flags != GMEMFD_KVM_ATTRIBUTES2_PRESERVE)
			EXPECT_ERR(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert),
				   flags == GMEMFD_KVM_ATTRIBUTES2_ZERO ? EOPNOTSUPP : EINVAL);
		convert.flags |= GMEMFD_KVM_ATTRIBUTES2_PRESERVE |
				 GMEMFD_KVM_ATTRIBUTES2_ZERO;
		EXPECT_ERR(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), EINVAL);
	}
	convert = good; convert.timeout = 1;
	EXPECT_ERR(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), EINVAL);
	convert = good; convert.reserved[9] = 1;
	EXPECT_ERR(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), EINVAL);
	EXPECT_EQ(gmem_state(fd, 0), 0);
	EXPECT(holds(p, 2 * MB, 1));

	convert = good;
	EXPECT_EQ(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), 0);
	EXPECT_EQ(gmem_state(fd, 0), 1);
	convert.attributes = 0;
	EXPECT_EQ(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), 0);
	EXPECT(holds(p, 2 * MB, 1));
}

/* It does not wait, and says where, as upstream's does. */
TEST(convert_by_upstream_number_refused)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED |
					     GMEMFD_CREATE_SMALL_SHARED);
	struct gmemfd_convert convert = {
		.size = 4 * MB, .attributes = GMEMFD_ATTRIBUTE_PRIVATE,
		.flags = GMEMFD_KVM_ATTRIBUTES2_PRESERVE,
	};
	char *p = gmem_map(fd, 0, 4 * MB);
	struct pin pin;

	p[3 * MB] = 1;
	pin_io_uring(&pin, p + 3 * MB, PAGE);
	EXPECT_ERR(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), EAGAIN);
	EXPECT_EQ(convert.error_offset, 3 * MB);
	EXPECT_EQ(convert.timeout, 0);
	EXPECT_EQ(gmem_state(fd, 0), 0);
	unpin(&pin);
}

TEST(get_ranges)
{
	int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	struct gmemfd_range r[3];
	struct gmemfd_get_ranges get = {
		.end = 8 * MB, .ranges = (uintptr_t)r, .nr_ranges = 3,
	};

	EXPECT_EQ(to_private(fd, MB, 4 * MB), 0);
	EXPECT_EQ(gmem_allocate(fd, 6 * MB, 2 * MB), 0);
	EXPECT_EQ(ioctl(fd, GMEMFD_GET_RANGES, &get), 0);
	EXPECT_EQ(get.nr_ranges, 3);
	EXPECT_EQ(get.offset, 6 * MB);
	EXPECT_EQ(r[0].offset, 0);
	EXPECT_EQ(r[0].size, MB);
	EXPECT_EQ(r[0].flags, 0);
	EXPECT_EQ(r[1].size, 4 * MB);
	EXPECT_EQ(r[1].flags, GMEMFD_RANGE_PRIVATE);
	EXPECT_EQ(r[2].offset, 5 * MB);
	EXPECT_EQ(r[2].size, MB);
	EXPECT_EQ(ioctl(fd, GMEMFD_GET_RANGES, &get), 0);
	EXPECT_EQ(get.nr_ranges, 1);
	EXPECT_EQ(get.offset, 8 * MB);
	EXPECT_EQ(r[0].offset, 6 * MB);
	EXPECT_EQ(r[0].flags, GMEMFD_RANGE_ALLOCATED | GMEMFD_RANGE_ZEROED);
	EXPECT_EQ(r[0].folio_order, 9);
}

TEST(get_ranges_bad_input)
{
	int fd = gmem_create(4 * MB, 2 * MB, 0);
	struct gmemfd_range r[2];
	const struct gmemfd_get_ranges good = {
		.end = 4 * MB, .ranges = (uintptr_t)r, .nr_ranges = 2,
	};
	struct gmemfd_get_ranges bad;

	bad = good; bad.flags = 1; EXPECT_ERR(ioctl(fd, GMEMFD_GET_RANGES, &bad), EINVAL);
	bad = good; bad.reserved[0] = 1; EXPECT_ERR(ioctl(fd, GMEMFD_GET_RANGES, &bad), EINVAL);
	bad = good; bad.nr_ranges = 0; EXPECT_ERR(ioctl(fd, GMEMFD_GET_RANGES, &bad), EINVAL);
	bad = good; bad.offset = 1; EXPECT_ERR(ioctl(fd, GMEMFD_GET_RANGES, &bad), EINVAL);
	bad = good; bad.end = 1; EXPECT_ERR(ioctl(fd, GMEMFD_GET_RANGES, &bad), EINVAL);
	bad = good; bad.end = 8 * MB; EXPECT_ERR(ioctl(fd, GMEMFD_GET_RANGES, &bad), EINVAL);
	bad = good; bad.offset = 4 * MB; EXPECT_ERR(ioctl(fd, GMEMFD_GET_RANGES, &bad), EINVAL);
	bad = good; bad.ranges = 8; EXPECT_ERR(ioctl(fd, GMEMFD_GET_RANGES, &bad), EFAULT);
	EXPECT_ERR(ioctl(fd, GMEMFD_GET_RANGES, BAD_POINTER), EFAULT);
}

TEST(other_calls_refused)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED), pipes[2];
	char c = 0;
	struct stat st;

	EXPECT_ERR(read(fd, &c, 1), EINVAL);
	EXPECT_ERR(write(fd, &c, 1), EINVAL);
	EXPECT_ERR(pread(fd, &c, 1, 0), ESPIPE);
	EXPECT_ERR(pwrite(fd, &c, 1, 0), ESPIPE);
	EXPECT_ERR(ftruncate(fd, 0), EINVAL);
	EXPECT_ERR(ftruncate(fd, 4 * MB), EINVAL);
	EXPECT_ERR(fchmod(fd, 0777), EINVAL);
	EXPECT_EQ(pipe(pipes), 0);
	EXPECT_ERR(splice(fd, NULL, pipes[1], NULL, PAGE, 0), EINVAL);
	EXPECT_ERR(fallocate(fd, 0, 0, 2 * MB), EOPNOTSUPP);
	EXPECT_ERR(fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE,
			     0, 2 * MB), EOPNOTSUPP);
	EXPECT_ERR(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 2 * MB), EOPNOTSUPP);
	EXPECT_ERR(gmem_allocate(fd, 0, INT64_MAX & -PAGE), EINVAL);
	EXPECT_ERR(gmem_allocate(fd, PAGE, INT64_MAX & -PAGE), EFBIG);
	EXPECT_ERR(gmem_punch(fd, PAGE, INT64_MAX & -PAGE), EFBIG);
	EXPECT(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_ERR(open(fd_path(fd), O_RDWR | O_TRUNC), EINVAL);
	EXPECT_ERR(truncate(fd_path(fd), 0), EINVAL);
	EXPECT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_size, 2 * MB);
	EXPECT_EQ(st.st_blksize, 2 * MB);
	EXPECT_EQ(st.st_blocks, 0);
}

TEST(seeking_tells_the_size)
{
	int fd = gmem_create(4 * MB, 2 * MB, 0);
	char c = 0;

	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
	EXPECT_EQ(lseek(fd, 0, SEEK_END), 4 * MB);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 4 * MB);
	EXPECT_EQ(lseek(fd, -PAGE, SEEK_END), 4 * MB - PAGE);
	EXPECT_EQ(lseek(fd, PAGE, SEEK_SET), PAGE);
	EXPECT_EQ(lseek(fd, PAGE, SEEK_CUR), 2 * PAGE);
	EXPECT_EQ(lseek(fd, PAGE, SEEK_DATA), PAGE);
	EXPECT_EQ(lseek(fd, PAGE, SEEK_HOLE), 4 * MB);
	EXPECT_ERR(lseek(fd, 4 * MB, SEEK_DATA), ENXIO);
	EXPECT_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
	EXPECT_ERR(lseek(fd, 0, 77), EINVAL);
	/* There is nothing to read or write for all that. */
	EXPECT_EQ(lseek(fd, 0, SEEK_SET), 0);
	EXPECT_ERR(read(fd, &c, 1), EINVAL);
	EXPECT_ERR(write(fd, &c, 1), EINVAL);
	EXPECT_ERR(pread(fd, &c, 1, 0), ESPIPE);
	EXPECT_ERR(pwrite(fd, &c, 1, 0), ESPIPE);
}

TEST(syncing_is_no_error)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 4 * MB);

	p[0] = 1;
	EXPECT_EQ(gmem_convert(fd, 2 * MB, PAGE, true), 0);
	EXPECT_EQ(fsync(fd), 0);
	EXPECT_EQ(fdatasync(fd), 0);
	EXPECT_EQ(msync(p, 4 * MB, MS_SYNC), 0);
	EXPECT_EQ(msync(p, 4 * MB, MS_ASYNC), 0);
	EXPECT_EQ(p[0], 1);
	EXPECT_EQ(gmem_state(fd, 2 * MB), 1);
}

TEST(stat_and_fdinfo_tell)
{
	int fd = gmem_create(8 * MB, 2 * MB, 0);
	char path[64], text[1024] = "";
	struct stat st;
	int info;

	EXPECT_EQ(gmem_allocate(fd, 0, 4 * MB), 0);
	EXPECT_EQ(to_shared(fd, 0, PAGE), 0);
	EXPECT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_blocks * 512, 4 * MB);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY);
	EXPECT(read(info, text, sizeof(text) - 1) > 0);
	EXPECT(strstr(text, "gmem_size:\t8388608\n"));
	EXPECT(strstr(text, "gmem_block_size:\t2097152\n"));
	EXPECT(strstr(text, "gmem_allocated:\t4194304\n"));
	EXPECT(strstr(text, "gmem_private:\t8384512\n"));
	EXPECT(strstr(text, "gmem_shared:\t4096\n"));
	EXPECT(strstr(text, "gmem_split:\t2097152\n"));
}

TEST(mapping_does_not_grow)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB), *q;

	EXPECT(mremap(p, 2 * MB, 4 * MB, MREMAP_MAYMOVE) == MAP_FAILED);
	EXPECT_EQ(errno, EFAULT);
	p[PAGE] = 7;
	q = mmap(NULL, 4 * MB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	q = mremap(p, 2 * MB, 2 * MB, MREMAP_MAYMOVE | MREMAP_FIXED, q);
	EXPECT(q != MAP_FAILED);
	EXPECT_EQ(q[PAGE], 7);
	/* Beyond the end of the file. */
	p = gmem_map(fd, 2 * MB, 8 * MB);
	EXPECT(can_read(p));
	EXPECT(!can_read(p + 2 * MB));
}

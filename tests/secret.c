// SPDX-License-Identifier: GPL-2.0
/* Secret pages: user space maps them, and nobody references them. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "lib.h"

#define SEED	0x5ec2e7

static uint64_t max_entry(void)
{
	struct gmemfd_info info = {};

	EXPECT_EQ(ioctl(gmem_device(), GMEMFD_GET_INFO, &info), 0);
	return info.max_secret_entry;
}

/* p is mapped by an entry of this size, or the largest that there is. */
static void expect_entry(const void *p, uint64_t size)
{
	int shift = user_shift(p);

	if (size > max_entry())
		size = max_entry();
	if (shift)
		EXPECT_EQ(1UL << shift, size);
}

static bool in_direct_map(uint64_t pfn)
{
	static char buf[PAGE];

	return read_kcore(pfn * PAGE, buf, PAGE) == (long)PAGE &&
	       !is_zero(buf, PAGE);
}

TEST(secret_is_mapped_and_not_in_direct_map)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	char *p = gmem_map(fd, 0, 2 * MB);
	uint64_t pfn;

	EXPECT(is_zero(p, 2 * MB));
	fill(p, 2 * MB, SEED);
	EXPECT(holds(p, 2 * MB, SEED));
	pfn = pfn_of(p);
	EXPECT_EQ(gmem_range(fd, 0).flags, GMEMFD_RANGE_SECRET | GMEMFD_RANGE_ALLOCATED |
					   GMEMFD_RANGE_ZEROED);
	EXPECT_EQ(gmem_range(fd, 0).size, 2 * MB);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
	EXPECT(!in_direct_map(pfn));
	EXPECT(!in_direct_map(pfn + 511));

	/* Each state beside the others. */
	EXPECT_EQ(gmem_convert_to(fd, PAGE, PAGE, 0), 0);
	EXPECT_EQ(gmem_convert_to(fd, 3 * PAGE, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	EXPECT(!in_direct_map(pfn));
	EXPECT(in_direct_map(pfn + 1));
	EXPECT(!in_direct_map(pfn + 2));
	EXPECT(!in_direct_map(pfn + 3));
	EXPECT(can_write(p) && can_write(p + PAGE) && can_write(p + 2 * PAGE));
	EXPECT(!can_read(p + 3 * PAGE) && can_read(p + 4 * PAGE));
	EXPECT_EQ(gmem_convert_to(fd, 0, 2 * MB, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT(!in_direct_map(pfn + 1));
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
	munmap(p, 2 * MB);
	close(fd);
	EXPECT(!in_direct_map(pfn));	/* it is, and zeroed */
}

/* What is known of the user mappings of 2 MiB: it is of all its pages, not of one. */
static void unmapped_one_by_one(size_t size, size_t block)
{
	int fd = gmem_create(size, block, GMEMFD_CREATE_SECRET);
	char *p = gmem_map(fd, 0, 4 * MB);

	/* Beside a private page the others of 2 MiB have entries of their own. */
	EXPECT_EQ(gmem_convert_to(fd, 0, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	EXPECT_EQ(gmem_convert_to(fd, 4 * MB - PAGE, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	for (uint64_t at = PAGE; at < 4 * MB - PAGE; at += PAGE)
		p[at] = 1;
	for (uint64_t at = PAGE; at < 2 * MB; at += PAGE) {
		EXPECT_EQ(gmem_convert_to(fd, at, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
		EXPECT(!can_read(p + at));
	}
	/* A part of it at the end of a range, and then the rest. */
	EXPECT_EQ(gmem_convert_to(fd, MB, 2 * MB, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	EXPECT_EQ(gmem_convert_to(fd, 3 * MB, MB, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	for (uint64_t at = 0; at < 4 * MB; at += PAGE)
		EXPECT(!can_read(p + at));
	munmap(p, 4 * MB);
	close(fd);
}

TEST(secret_unmapped_one_by_one_2m)
{
	unmapped_one_by_one(4 * MB, 2 * MB);
}

TEST(secret_unmapped_one_by_one_1g)
{
	need_1g_blocks();
	unmapped_one_by_one(GB, GB);
}

TEST(secret_bad_input)
{
	struct gmemfd_convert convert = { .size = PAGE };
	struct gmemfd_create create = {
		.size = 2 * MB, .block_size = 2 * MB,
		.flags = GMEMFD_CREATE_SECRET | GMEMFD_CREATE_KEEP_DIRECT_MAP,
	};
	int fd;

	EXPECT_ERR(ioctl(gmem_device(), GMEMFD_CREATE, &create), EINVAL);

	/* Not in a file without secret pages, whatever it is like. */
	for (uint64_t flags = 0; flags < 8; flags++) {
		fd = gmem_create(2 * MB, 2 * MB, flags);
		EXPECT_ERR(gmem_convert_to(fd, 0, PAGE, GMEMFD_ATTRIBUTE_SECRET), EINVAL);
		close(fd);
	}

	fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	for (int bit = 0; bit < 64; bit++) {
		convert.attributes = 1ULL << bit;
		if (convert.attributes & (GMEMFD_ATTRIBUTE_PRIVATE | GMEMFD_ATTRIBUTE_SECRET))
			continue;
		EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT, &convert), EINVAL);
		convert.attributes |= GMEMFD_ATTRIBUTE_SECRET;
		EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT, &convert), EINVAL);
	}
	EXPECT_ERR(gmem_convert_to(fd, 0, PAGE,
				   GMEMFD_ATTRIBUTE_PRIVATE | GMEMFD_ATTRIBUTE_SECRET), EINVAL);
	EXPECT_ERR(gmem_convert_to(fd, 0, 4 * MB, GMEMFD_ATTRIBUTE_SECRET), EINVAL);
	EXPECT_ERR(gmem_convert_to(fd, 1, PAGE, GMEMFD_ATTRIBUTE_SECRET), EINVAL);
	EXPECT_EQ(gmem_range(fd, 0).flags, GMEMFD_RANGE_SECRET);
	EXPECT_EQ(gmem_range(fd, 0).size, 2 * MB);
	close(fd);
}

/* A VMM that was written for upstream knows private, and the rest. */
TEST(secret_by_upstream_number)
{
	struct gmemfd_convert convert = {
		.size = 2 * MB, .attributes = GMEMFD_ATTRIBUTE_PRIVATE,
	};
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET);

	EXPECT_EQ(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), 0);
	EXPECT_EQ(gmem_range(fd, 0).flags, GMEMFD_RANGE_PRIVATE);
	convert.attributes = 0;
	EXPECT_EQ(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), 0);
	EXPECT_EQ(gmem_range(fd, 0).flags, GMEMFD_RANGE_SECRET);
	convert.attributes = GMEMFD_ATTRIBUTE_SECRET;
	EXPECT_ERR(ioctl(fd, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2, &convert), EINVAL);
	close(fd);
}

static const uint64_t attributes[] = {
	0, GMEMFD_ATTRIBUTE_PRIVATE, GMEMFD_ATTRIBUTE_SECRET,
};

static const uint32_t state_flags[] = { 0, GMEMFD_RANGE_PRIVATE, GMEMFD_RANGE_SECRET };

static void expect_state(int fd, uint64_t offset, int state)
{
	EXPECT_EQ(gmem_range(fd, offset).flags & (GMEMFD_RANGE_PRIVATE | GMEMFD_RANGE_SECRET),
		  state_flags[state]);
}

/* From each state to each, in one call with all of them, by ranges of all lengths. */
static void convert_all_ways(size_t block)
{
	static const size_t lengths[] = { PAGE, 3 * PAGE, 2 * MB, 2 * MB + PAGE };
	const size_t size = block == GB ? GB : 40 * MB;
	int fd = gmem_create(size, block, GMEMFD_CREATE_SECRET);
	char *p = gmem_map(fd, 0, size);
	struct gmemfd_convert_range ranges[9];
	uint64_t unused;

	fill(p, 40 * MB, SEED);
	for (unsigned int l = 0; l < sizeof(lengths) / sizeof(*lengths); l++) {
		for (int step = 0; step < 2; step++) {
			for (int i = 0; i < 9; i++)
				ranges[i] = (struct gmemfd_convert_range) {
					.offset = i * 4 * MB + PAGE, .size = lengths[l],
					.attributes = attributes[step ? i % 3 : i / 3],
				};
			EXPECT_EQ(gmem_convert_ranges(fd, ranges, 9, &unused), 0);
			for (int i = 0; i < 9; i++) {
				char *at = p + ranges[i].offset;
				int state = step ? i % 3 : i / 3;

				expect_state(fd, ranges[i].offset, state);
				expect_state(fd, ranges[i].offset - PAGE, 2);
				expect_state(fd, ranges[i].offset + lengths[l] - PAGE, state);
				expect_state(fd, ranges[i].offset + lengths[l], 2);
				EXPECT_EQ(can_read(at), state != 1);
				EXPECT_EQ(can_write(at + lengths[l] - PAGE), state != 1);
				EXPECT(can_read(at - PAGE) && can_read(at + lengths[l]));
			}
		}
		EXPECT_EQ(gmem_convert_to(fd, 0, size, GMEMFD_ATTRIBUTE_SECRET), 0);
		EXPECT(holds(p, 40 * MB, SEED));
	}
	munmap(p, size);
	close(fd);
}

TEST(secret_converts_all_ways_2m)
{
	convert_all_ways(2 * MB);
}

TEST(secret_converts_all_ways_1g)
{
	need_1g_blocks();
	convert_all_ways(GB);
}

/* Between private and secret a block stays whole, and is mapped as before. */
TEST(secret_keeps_block_whole)
{
	int fd;
	char *p;

	need_1g_blocks();
	fd = gmem_create(GB, GB, GMEMFD_CREATE_SECRET);
	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	p = gmem_map(fd, 0, GB);
	p[0] = 1;
	expect_entry(p, 2 * MB);
	for (uint64_t at = 0; at < 200 * PAGE; at += 3 * PAGE) {
		EXPECT_EQ(gmem_convert_to(fd, at, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
		EXPECT(!can_read(p + at));
		EXPECT(can_write(p + at + PAGE));
		EXPECT_EQ(gmem_convert_to(fd, at, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
	}
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 18);
	munmap(p, GB);
	p = gmem_map(fd, 0, GB);
	EXPECT_EQ(p[0], 1);
	expect_entry(p, 2 * MB);
	munmap(p, GB);
	close(fd);
}

static bool refused(long ret)
{
	return ret == -1 && (errno == EFAULT || (max_entry() == PAGE && errno == EEXIST));
}

static void expect_refusals(char *at)
{
	static char buf[PAGE];
	struct io_uring_params params = {};
	int ring = syscall(__NR_io_uring_setup, 1, &params), pipes[2], file, status;
	int disk = open_loop_device(MB, &file), mem = open("/proc/self/mem", O_RDWR);
	struct iovec iov = { at, PAGE }, local = { buf, PAGE };
	pid_t pid;

	EXPECT(ring >= 0 && disk >= 0 && mem >= 0);
	EXPECT_EQ(pipe(pipes), 0);
#define EXPECT_REFUSED(call)	\
	do { errno = 0; if (!refused(call)) FAIL("%s: errno %d", #call, errno); } while (0)
	EXPECT_REFUSED(vmsplice(pipes[1], &iov, 1, 0));
	EXPECT_REFUSED(vmsplice(pipes[1], &iov, 1, SPLICE_F_GIFT));
	EXPECT_REFUSED(syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1));
	EXPECT_REFUSED(pwrite(disk, at, PAGE, 0));
	EXPECT_REFUSED(pread(disk, at, PAGE, 0));
	EXPECT_REFUSED(syscall(__NR_futex, at, FUTEX_WAKE, 1, NULL, NULL, 0));
#undef EXPECT_REFUSED
	EXPECT(process_vm_readv(getpid(), &local, 1, &iov, 1, 0) < 0);
	EXPECT(process_vm_writev(getpid(), &local, 1, &iov, 1, 0) < 0);
	EXPECT(pread(mem, buf, 8, (uintptr_t)at) < 0);
	EXPECT(pwrite(mem, buf, 8, (uintptr_t)at) < 0);
	pid = fork();
	if (!pid) {
		*(volatile char *)at;
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_ERR(ptrace(PTRACE_PEEKDATA, pid, at, 0), EIO);
	EXPECT_ERR(ptrace(PTRACE_POKEDATA, pid, at, 0), EIO);
	ptrace(PTRACE_CONT, pid, 0, 0);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	close(mem);
	close(disk);
	close(file);
	close(ring);
	close(pipes[0]);
	close(pipes[1]);
}

/* What copies, or does not care for the page, works. */
static void expect_copies(char *at)
{
	static char buf[PAGE];
	int file = open("/tmp", O_TMPFILE | O_RDWR), pipes[2];

	EXPECT(file >= 0);
	EXPECT_EQ(pipe(pipes), 0);
	fill(at, PAGE, SEED);
	EXPECT_EQ(write(pipes[1], at, PAGE), PAGE);
	memset(at, 0, PAGE);
	EXPECT_EQ(read(pipes[0], at, PAGE), PAGE);
	EXPECT(holds(at, PAGE, SEED));
	EXPECT_EQ(pwrite(file, at, PAGE, 0), PAGE);
	EXPECT_EQ(pread(file, buf, PAGE, 0), PAGE);
	EXPECT(holds(buf, PAGE, SEED));
	EXPECT_EQ(pread(file, at, PAGE, 0), PAGE);
	EXPECT_EQ(syscall(__NR_futex, at, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
	EXPECT_ERR(syscall(__NR_futex, at, FUTEX_WAIT_PRIVATE, ~*(uint32_t *)at, NULL, NULL, 0),
		   EAGAIN);
	EXPECT_EQ(mlock(at, PAGE), 0);
	EXPECT_EQ(munlock(at, PAGE), 0);
	EXPECT_EQ(madvise(at, PAGE, 23 /* MADV_POPULATE_WRITE */), 0);
	EXPECT_EQ(madvise(at, PAGE, 22 /* MADV_POPULATE_READ */), 0);
	for (int advice = 0; advice < 30; advice++)
		if (advice != MADV_REMOVE && advice != MADV_DONTFORK)
			madvise(at, PAGE, advice);
	EXPECT(holds(at, PAGE, SEED));
	close(file);
	close(pipes[0]);
	close(pipes[1]);
}

/* An entry of @entry bytes maps the page that others want. */
static void reach_for(size_t block, size_t length, uint64_t entry)
{
	int fd = gmem_create(block, block, GMEMFD_CREATE_SECRET);
	char *p;

	EXPECT_EQ(gmem_allocate(fd, 0, block), 0);
	p = gmem_map(fd, 0, length);
	p[PAGE] = 1;
	expect_entry(p + PAGE, entry);
	expect_refusals(p + PAGE);
	expect_copies(p + PAGE);
	expect_refusals(p + PAGE);
	EXPECT_EQ(read_long("/sys/class/misc/gmemfd/away_folios"), 0);
	/* Nothing of that holds a conversion up. */
	EXPECT_EQ(gmem_convert_to(fd, 0, block, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	EXPECT(!can_read(p + PAGE));
	munmap(p, length);
	close(fd);
}

TEST(secret_is_not_referenced_4k)
{
	reach_for(2 * MB, MB, PAGE);
}

TEST(secret_is_not_referenced_2m)
{
	reach_for(2 * MB, 2 * MB, 2 * MB);
}

TEST(secret_is_not_referenced_1g)
{
	need_1g_blocks();
	reach_for(GB, GB, 2 * MB);
}

/* Shared pages of the same mapping are as in any file. */
TEST(secret_beside_shared)
{
	uint64_t error_offset;
	struct gmemfd_convert convert = {
		.offset = 2 * MB + 7 * PAGE, .size = PAGE,
		.attributes = GMEMFD_ATTRIBUTE_SECRET,
	};
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	char *p = gmem_map(fd, 0, 4 * MB);
	struct pin pin;

	fill(p, 4 * MB, SEED);
	EXPECT_EQ(gmem_convert_to(fd, 2 * MB, 2 * MB, 0), 0);
	EXPECT(holds(p, 4 * MB, SEED));
	if (max_entry() > PAGE)
		expect_entry(p + 2 * MB, 2 * MB);
	/* Who holds a reference may use it at the kernel's address. */
	pin_io_uring(&pin, p + 2 * MB + 7 * PAGE, PAGE);
	EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT, &convert), EAGAIN);
	EXPECT_EQ(convert.error_offset, 2 * MB + 7 * PAGE);
	EXPECT_EQ(gmem_convert_at(fd, 0, 2 * MB, true, &error_offset), 0);
	unpin(&pin);
	EXPECT(EVENTUALLY(!ioctl(fd, GMEMFD_CONVERT, &convert)));
	EXPECT_EQ(gmem_convert_to(fd, 0, 4 * MB, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT(holds(p, 4 * MB, SEED));
	munmap(p, 4 * MB);
	close(fd);
}

/* Splitting what maps a shared folio of 2 MiB leaves no count of a mapping behind. */
TEST(secret_split_of_shared_mapping)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	char *p = gmem_map(fd, 0, 2 * MB);

	EXPECT_EQ(gmem_convert_to(fd, 0, 2 * MB, 0), 0);
	for (int i = 0; i < 3; i++) {
		p[0] = 1;
		if (i == 0)
			EXPECT_EQ(mprotect(p + MB, PAGE, PROT_READ), 0);
		else if (i == 1)
			EXPECT_EQ(munmap(p + MB, PAGE), 0);
		else
			EXPECT_EQ(madvise(p, MB, MADV_DONTNEED), 0);
		EXPECT(EVENTUALLY(!gmem_convert(fd, 0, 2 * MB, true)));
		EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
	}
	munmap(p, 2 * MB);
	close(fd);
}

TEST(secret_after_fork)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET), to[2], from[2], status;
	char *p = gmem_map(fd, 0, 2 * MB), c = 0;
	pid_t pid;

	strcpy(p, "before");
	EXPECT_EQ(pipe(to), 0);
	EXPECT_EQ(pipe(from), 0);
	pid = fork();
	if (!pid) {
		if (strcmp(p, "before"))
			_exit(1);
		strcpy(p, "child");
		if (write(from[1], &c, 1) != 1 || read(to[0], &c, 1) != 1)
			_exit(2);
		_exit(can_read(p) ? 3 : !can_read(p + PAGE) ? 4 : 0);
	}
	EXPECT_EQ(read(from[0], &c, 1), 1);
	EXPECT(!strcmp(p, "child"));
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	EXPECT_EQ(write(to[1], &c, 1), 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	munmap(p, 2 * MB);
	close(fd);
}

static bool core_has(uint64_t word)
{
	int core = open("/tmp/core", O_RDONLY);
	size_t size = lseek(core, 0, SEEK_END), i;
	uint64_t *image = mmap(NULL, size, PROT_READ, MAP_PRIVATE, core, 0);

	EXPECT(image != MAP_FAILED);
	for (i = 0; i < size / 8 && image[i] != word;)
		i++;
	munmap(image, size);
	close(core);
	return i < size / 8;
}

TEST(secret_is_not_dumped)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_SECRET), status;
	char *p = gmem_map(fd, 0, 4 * MB);
	/* Not in the program as they are. */
	volatile uint64_t secret = 0x11, shared = 0x22;
	pid_t pid;

	EXPECT_EQ(gmem_convert_to(fd, 2 * MB, 2 * MB, 0), 0);
	*(uint64_t *)p = secret * 0x9e3779b97f4a7c15ULL;
	*(uint64_t *)(p + 2 * MB) = shared * 0x9e3779b97f4a7c15ULL;
	EXPECT_EQ(chdir("/tmp"), 0);
	write_text("/proc/sys/kernel/core_pattern", "core");
	write_text("/proc/self/coredump_filter", "0x7f");
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &unlimited);
		*(volatile char *)p;
		*(volatile char *)(p + 2 * MB);
		abort();
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	if (!WCOREDUMP(status))
		test_skip("no core dumps in this kernel");
	EXPECT(core_has(shared * 0x9e3779b97f4a7c15ULL));
	EXPECT(!core_has(secret * 0x9e3779b97f4a7c15ULL));
	unlink("/tmp/core");
	munmap(p, 4 * MB);
	close(fd);
}

TEST(secret_punched_and_protected)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	char *p = gmem_map(fd, 0, 2 * MB);

	fill(p, 2 * MB, SEED);
	EXPECT_EQ(gmem_punch(fd, 4 * PAGE, PAGE), 0);
	EXPECT(is_zero(p + 4 * PAGE, PAGE));
	EXPECT(holds(p, 4 * PAGE, SEED));
	EXPECT_EQ(gmem_range(fd, 4 * PAGE).flags & GMEMFD_RANGE_SECRET, GMEMFD_RANGE_SECRET);
	EXPECT_EQ(mprotect(p, 2 * MB, PROT_READ), 0);
	EXPECT(holds(p, 4 * PAGE, SEED));
	EXPECT_EQ(mprotect(p + MB, MB, PROT_READ | PROT_WRITE), 0);
	EXPECT(can_write(p + MB));
	EXPECT_EQ(munmap(p + PAGE, PAGE), 0);
	EXPECT(holds(p, PAGE, SEED));
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	EXPECT(is_zero(p, PAGE));
	munmap(p, 2 * MB);
	close(fd);
}

/* The entries move along with the mapping, or are made again. */
TEST(secret_mapping_moves)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	char *p = gmem_map(fd, 0, 2 * MB);
	char *room = mmap(NULL, 12 * MB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *aligned = (char *)(((uintptr_t)room + 6 * MB) & -(2 * MB));

	EXPECT(room != MAP_FAILED);
	fill(p, 2 * MB, SEED);
	p = mremap(p, 2 * MB, 2 * MB, MREMAP_MAYMOVE | MREMAP_FIXED, room + PAGE);
	EXPECT(p == room + PAGE);
	EXPECT(holds(p, 2 * MB, SEED));
	expect_refusals(p + PAGE);
	fill(p, 2 * MB, SEED + 1);
	p = mremap(p, 2 * MB, 2 * MB, MREMAP_MAYMOVE | MREMAP_FIXED, aligned);
	EXPECT(p == aligned);
	EXPECT(holds(p, 2 * MB, SEED + 1));
	/* A part of it, away from an entry of 2 MiB. */
	EXPECT(mremap(p + MB, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room) == room);
	EXPECT(holds(p, MB, SEED + 1));
	EXPECT_EQ(gmem_convert(fd, MB, PAGE, true), 0);
	EXPECT(!can_read(room));
	EXPECT(can_write(p));
	munmap(room, 12 * MB);
	close(fd);
}

/* Nobody can hold them: no EAGAIN, whoever uses them meanwhile. */
TEST(secret_is_never_busy)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	char *p = gmem_map(fd, 0, 4 * MB);
	pid_t pid;

	p[0] = 1;
	pid = fork();
	if (!pid) {
		int zero = open("/dev/zero", O_RDONLY);

		for (unsigned long i = 0;; i++)
			if (read(zero, p + i % 1000 * PAGE, 3 * PAGE) > (ssize_t)(3 * PAGE))
				_exit(1);
	}
	for (unsigned long i = 0; i < 1000; i++) {
		uint64_t at = i * 37 % 1024 * PAGE;

		EXPECT_EQ(gmem_convert_to(fd, at, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
		EXPECT_EQ(gmem_convert_to(fd, at, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(p, 4 * MB);
	close(fd);
}

struct asker {
	char *page;
	bool stop;
	int errors[256];
};

/* Asks for a reference to a page that is secret all the time. */
static void *ask_for_reference(void *arg)
{
	struct asker *asker = arg;
	struct iovec iov = { asker->page, PAGE };
	int pipes[2];

	EXPECT_EQ(pipe(pipes), 0);
	while (!__atomic_load_n(&asker->stop, __ATOMIC_RELAXED)) {
		EXPECT_EQ(vmsplice(pipes[1], &iov, 1, 0), -1);
		asker->errors[errno & 255]++;
	}
	close(pipes[0]);
	close(pipes[1]);
	return NULL;
}

/*
 * A fault of 4 KiB may find that another one has put a large entry there meanwhile.  It is
 * not out of memory then, and tries again.
 */
TEST(secret_fault_beside_large_entry)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET), others = 0;
	char *p = gmem_map(fd, 0, 2 * MB);
	struct asker asker = { .page = p + 5 * PAGE };
	pthread_t thread;

	fill(p, 2 * MB, 1);
	EXPECT_EQ(pthread_create(&thread, NULL, ask_for_reference, &asker), 0);
	for (int i = 0; i < (debug_kernel() ? 2000 : 20000); i++) {
		EXPECT_EQ(gmem_convert_to(fd, 100 * PAGE, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
		EXPECT_EQ(madvise(p, 2 * MB, MADV_DONTNEED), 0);
		for (volatile int n = i % 64; n; n--)
			;
		EXPECT_EQ(gmem_convert_to(fd, 100 * PAGE, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
		*(volatile char *)(p + 200 * PAGE);
	}
	__atomic_store_n(&asker.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	for (int i = 0; i < 256; i++)
		if (i != EFAULT && i != EEXIST)
			others += asker.errors[i];
	printf("# EFAULT %d, EEXIST %d, ENOMEM %d\n", asker.errors[EFAULT],
	       asker.errors[EEXIST], asker.errors[ENOMEM]);
	EXPECT_EQ(others, 0);
	munmap(p, 2 * MB);
	close(fd);
}

/* Two that use pages in all ways, and one that converts in all directions. */
static void user(char *p, size_t used, uint64_t seed)
{
	static char buf[PAGE];
	int pipes[2];

	EXPECT_EQ(pipe(pipes), 0);
	for (;;) {
		char *at = p + (seed % used & -PAGE);
		struct iovec iov = { at, PAGE };
		uint64_t word, wanted = (uint64_t)(at - p) * 0x9e3779b97f4a7c15ULL;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		/* It may be gone in between: the kernel copies, or says that it cannot. */
		if (can_read(at) && write(pipes[1], at, 8) == 8) {
			EXPECT_EQ(read(pipes[0], &word, 8), 8);
			EXPECT_EQ(word, wanted);
		}
		if (seed % 7 == 0 && vmsplice(pipes[1], &iov, 1, 0) == (long)PAGE) {
			EXPECT_EQ(read(pipes[0], buf, PAGE), (long)PAGE);
			EXPECT_EQ(*(uint64_t *)buf, wanted);
		}
		if (seed % 97 == 0)
			mprotect(p, used, seed & 1024 ? PROT_READ : PROT_READ | PROT_WRITE);
		if (seed % 1009 == 0)
			madvise(p, used, MADV_DONTNEED);
	}
}

static void hammer(size_t block, int rounds)
{
	const size_t size = block == GB ? GB : 8 * MB, used = 8 * MB;
	uint64_t seed = 88172645463325252ULL;
	int fd = gmem_create(size, block, GMEMFD_CREATE_SECRET), status;
	char *p = gmem_map(fd, 0, size);
	pid_t pids[2];

	for (size_t i = 0; i < used; i += PAGE)
		*(uint64_t *)(p + i) = i * 0x9e3779b97f4a7c15ULL;
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		if (!pids[i])
			user(p, used, seed + i);
	}
	for (int i = 0; i < rounds; i++) {
		uint64_t at, len;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		at = seed % used & -PAGE;
		len = seed >> 40 & 3 ? PAGE : (seed >> 45 & 0x3ff) * PAGE + PAGE;
		if (at + len > used)
			len = used - at;
		if (gmem_convert_to(fd, at, len, attributes[(seed >> 20) % 3]))
			EXPECT_EQ(errno, EAGAIN);
	}
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(waitpid(pids[i], &status, WNOHANG), 0);
		kill(pids[i], SIGKILL);
		waitpid(pids[i], &status, 0);
	}
	EXPECT(EVENTUALLY(!gmem_convert_to(fd, 0, size, GMEMFD_ATTRIBUTE_SECRET)));
	for (size_t i = 0; i < used; i += PAGE)
		EXPECT_EQ(*(uint64_t *)(p + i), i * 0x9e3779b97f4a7c15ULL);
	munmap(p, size);
	close(fd);
}

TEST(stress_secret_2m)
{
	hammer(2 * MB, debug_kernel() ? 600 : 3000);
}

TEST(stress_secret_1g)
{
	need_1g_blocks();
	hammer(GB, debug_kernel() ? 600 : 3000);
}

static void dies_of_memory_error(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	_exit(info->si_code == BUS_MCEERR_AR ? 42 : 43);
}

static void poison_secret(size_t block)
{
	struct sigaction action = {
		.sa_sigaction = dies_of_memory_error, .sa_flags = SA_SIGINFO,
	};
	int fd = gmem_create(block, block, GMEMFD_CREATE_SECRET), status;
	char *p;
	pid_t pid;

	test_changes_direct_map();
	EXPECT_EQ(gmem_allocate(fd, 0, block), 0);
	p = gmem_map(fd, 0, block);
	fill(p, 2 * MB, SEED);
	poison(pfn_of(p + 10 * PAGE));
	pid = fork();
	if (!pid) {
		sigaction(SIGBUS, &action, NULL);
		*(volatile char *)(p + 10 * PAGE);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 42 << 8);
	EXPECT(holds(p, 10 * PAGE, SEED));
	EXPECT(can_write(p + 11 * PAGE) && can_write(p + 2 * MB - PAGE));
	munmap(p, block);
	close(fd);
}

TEST(poison_secret_page_2m)
{
	poison_secret(2 * MB);
}

TEST(poison_secret_page_1g)
{
	need_1g_blocks();
	poison_secret(GB);
}

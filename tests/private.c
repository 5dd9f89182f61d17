// SPDX-License-Identifier: GPL-2.0
/* A private page is out of reach, whichever way one comes. */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "lib.h"

#define SECRET	0x5ec3e75ec3e7ULL

static int fd;
static char *p;		/* page 0 is private, page 1 shared; the rest private */
static uint64_t pfn;

static void set_up(void)
{
	fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(fd, 0, 2 * MB);
	fill(p, 2 * MB, SECRET);
	pfn = pfn_of(p);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, false), 0);
}

/* Nobody wrote it either. */
static void tear_down(void)
{
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
	EXPECT(holds(p, PAGE, SECRET));
	EXPECT(holds(p + 2 * PAGE, 2 * MB - 2 * PAGE, SECRET + 1024));
}

TEST(private_by_load_and_store)
{
	set_up();
	EXPECT(!can_read(p));
	EXPECT(!can_write(p));
	EXPECT(can_write(p + PAGE));
	EXPECT(!can_read(p + 2 * PAGE));
	EXPECT(!can_read(p + 2 * MB - 1));
	tear_down();
}

TEST(private_by_user_pointer)
{
	char buf[64];
	int pipes[2], zero = open("/dev/zero", O_RDONLY);

	set_up();
	EXPECT_EQ(pipe(pipes), 0);
	EXPECT_ERR(write(pipes[1], p, 8), EFAULT);
	EXPECT_ERR(read(zero, p, 8), EFAULT);
	EXPECT_ERR(read(zero, p + 2 * PAGE, PAGE), EFAULT);
	EXPECT_ERR(syscall(__NR_openat, AT_FDCWD, p, O_RDONLY), EFAULT);
	EXPECT_EQ(write(pipes[1], p + PAGE, 8), 8);
	EXPECT_EQ(read(pipes[0], buf, 8), 8);
	tear_down();
}

TEST(private_by_proc_mem)
{
	int mem = open("/proc/self/mem", O_RDWR);
	char buf[8] = { };

	set_up();
	EXPECT_ERR(pread(mem, buf, 8, (uintptr_t)p), EIO);
	EXPECT_ERR(pwrite(mem, buf, 8, (uintptr_t)p), EIO);
	EXPECT_EQ(pread(mem, buf, 8, (uintptr_t)p + PAGE), 8);
	tear_down();
}

TEST(private_by_process_vm)
{
	char buf[PAGE] = { };
	struct iovec local = { buf, PAGE }, remote;

	set_up();
	remote = (struct iovec) { p, PAGE };
	EXPECT_ERR(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), EFAULT);
	EXPECT_ERR(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), EFAULT);
	remote.iov_base = p + PAGE;
	EXPECT_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), (long)PAGE);
	tear_down();
}

TEST(private_by_vmsplice)
{
	struct iovec iov;
	int pipes[2];

	set_up();
	EXPECT_EQ(pipe(pipes), 0);
	iov = (struct iovec) { p, PAGE };
	EXPECT_ERR(vmsplice(pipes[1], &iov, 1, 0), EFAULT);
	iov.iov_base = p + PAGE;
	EXPECT_EQ(vmsplice(pipes[1], &iov, 1, 0), (long)PAGE);
	close(pipes[0]);
	close(pipes[1]);
	tear_down();
}

TEST(private_by_io_uring)
{
	struct io_uring_params params = { };
	int ring = syscall(__NR_io_uring_setup, 1, &params);
	struct iovec iov;

	set_up();
	EXPECT(ring >= 0);
	iov = (struct iovec) { p, PAGE };
	EXPECT_ERR(syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS,
			   &iov, 1), EFAULT);
	/* One private page among shared ones spoils it. */
	iov = (struct iovec) { p + PAGE, 2 * PAGE };
	EXPECT_ERR(syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS,
			   &iov, 1), EFAULT);
	iov = (struct iovec) { p + PAGE, PAGE };
	EXPECT_EQ(syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS,
			  &iov, 1), 0);
	EXPECT_EQ(syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS,
			  NULL, 0), 0);
	tear_down();
}

TEST(private_by_o_direct)
{
	int file, disk = open_loop_device(MB, &file);
	static char buf[PAGE];

	set_up();
	EXPECT_ERR(pwrite(disk, p, PAGE, 0), EFAULT);
	EXPECT_ERR(pread(disk, p, PAGE, 0), EFAULT);
	EXPECT_ERR(pwrite(disk, p + 2 * PAGE, MB, 0), EFAULT);
	EXPECT_ERR(pread(disk, p + 2 * PAGE, MB, 0), EFAULT);
	/* Ends where private pages begin. */
	EXPECT_EQ(pwrite(disk, p + PAGE, 3 * PAGE, 0), (long)PAGE);
	EXPECT_EQ(pread(file, buf, PAGE, 0), (long)PAGE);
	EXPECT(holds(buf, PAGE, SECRET + 512));
	EXPECT_EQ(pread(file, buf, PAGE, PAGE), (long)PAGE);
	EXPECT(is_zero(buf, PAGE));
	EXPECT_EQ(pread(disk, p + PAGE, 3 * PAGE, 0), (long)PAGE);
	close(disk);
	close(file);
	tear_down();
}

TEST(private_by_ptrace)
{
	int status;
	pid_t pid;

	set_up();
	pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	errno = 0;
	EXPECT_ERR(ptrace(PTRACE_PEEKDATA, pid, p, 0), EIO);
	EXPECT_ERR(ptrace(PTRACE_POKEDATA, pid, p, 0), EIO);
	errno = 0;
	ptrace(PTRACE_PEEKDATA, pid, p + PAGE, 0);
	EXPECT_EQ(errno, 0);
	EXPECT_EQ(ptrace(PTRACE_CONT, pid, 0, 0), 0);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	tear_down();
}

TEST(private_in_fork_child)
{
	int status;
	pid_t pid;

	set_up();
	pid = fork();
	if (!pid) {
		if (can_read(p) || can_write(p) || !can_write(p + PAGE))
			_exit(1);
		/* The child may convert as well; it is the same memory. */
		if (gmem_convert(fd, 2 * PAGE, PAGE, false) ||
		    !can_read(p + 2 * PAGE) ||
		    gmem_convert(fd, 2 * PAGE, PAGE, true))
			_exit(2);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT(!can_read(p + 2 * PAGE));
	tear_down();
}

TEST(private_not_in_core_dump)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	int status, core;
	uint64_t *image;
	size_t i;
	pid_t pid;

	set_up();
	EXPECT_EQ(chdir("/tmp"), 0);
	write_text("/proc/sys/kernel/core_pattern", "core");
	write_text("/proc/self/coredump_filter", "0x7f");
	((uint64_t *)(p + PAGE))[0] = 0x5a5a1234;
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &unlimited);
		abort();
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WCOREDUMP(status));
	core = open("/tmp/core", O_RDONLY);
	if (core < 0)
		core = open("/tmp/core.0", O_RDONLY);
	EXPECT(core >= 0);
	size_t size = lseek(core, 0, SEEK_END);

	image = mmap(NULL, size, PROT_READ, MAP_PRIVATE, core, 0);
	EXPECT(image != MAP_FAILED);
	bool secret = false, shared = false;

	/* Byte 8 of page 2 as fill() put it there. */
	for (i = 0; i < size / 8; i++) {
		secret |= image[i] == (SECRET + 1025) * 0x9e3779b97f4a7c15ULL;
		shared |= image[i] == 0x5a5a1234;
	}
	EXPECT(shared);
	EXPECT(!secret);
	unlink("/tmp/core");
	((uint64_t *)(p + PAGE))[0] = 0;
	tear_down();
}

/* A page frame by way of the kernel's memory as a file; false if not there. */
static bool read_frame(uint64_t frame, char *buf)
{
	return read_kcore(frame * PAGE, buf, PAGE) == (long)PAGE;
}

TEST(private_by_kcore)
{
	char buf[PAGE] = { };

	set_up();
	EXPECT(read_frame(pfn + 1, buf));
	EXPECT(holds(buf, PAGE, SECRET + 512));
	memset(buf, 0, PAGE);
	EXPECT(!read_frame(pfn, buf) || is_zero(buf, PAGE));
	tear_down();
}

TEST(private_leaves_direct_map)
{
	char buf[PAGE];

	set_up();
	EXPECT_EQ(direct_map_shift(pfn), 0);
	EXPECT_EQ(direct_map_shift(pfn + 1), 12);
	EXPECT_EQ(direct_map_shift(pfn + 2), 0);
	EXPECT_EQ(direct_map_shift(pfn + 511), 0);
	tear_down();
	EXPECT(read_frame(pfn, buf));
	EXPECT(holds(buf, PAGE, SECRET));
}

TEST(keep_direct_map)
{
	char buf[PAGE];

	fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED |
					 GMEMFD_CREATE_KEEP_DIRECT_MAP);
	p = gmem_map(fd, 0, 2 * MB);
	fill(p, 2 * MB, SECRET);
	pfn = pfn_of(p);
	EXPECT_EQ(gmem_convert(fd, 0, MB, true), 0);
	EXPECT(!can_read(p));
	EXPECT(read_frame(pfn, buf));
	EXPECT(holds(buf, PAGE, SECRET));
	EXPECT_EQ(gmem_convert(fd, 0, MB, false), 0);
	EXPECT(holds(p, 2 * MB, SECRET));
}

static long direct_map[3];

static bool same_direct_map(void)
{
	long now[3] = {
		meminfo("DirectMap4k"), meminfo("DirectMap2M"), meminfo("DirectMap1G"),
	};

	return !memcmp(now, direct_map, sizeof(now));
}

static void remember_direct_map(void)
{
	direct_map[0] = meminfo("DirectMap4k");
	direct_map[1] = meminfo("DirectMap2M");
	direct_map[2] = meminfo("DirectMap1G");
}

/* A whole 1 GiB goes and comes as one entry: nothing is split. */
TEST(direct_map_keeps_large_entries)
{
	need_1g_blocks();
	remember_direct_map();
	fd = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(fd, 0, GB);
	p[0] = 1;
	EXPECT_EQ(gmem_punch(fd, 0, GB), 0);
	EXPECT_EQ(gmem_convert(fd, 0, GB, true), 0);
	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	EXPECT(same_direct_map());
	EXPECT_EQ(gmem_convert(fd, 512 * MB, PAGE, false), 0);
	EXPECT_EQ(gmem_convert(fd, 0, GB, false), 0);
	/* Healed at once, not only at the end. */
	EXPECT(same_direct_map());
}

/* Each piece as soon as it is whole again, while the file is there. */
TEST(direct_map_heals_in_pieces)
{
	const uint64_t cut = 512 * MB;

	need_1g_blocks();
	fd = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(fd, 0, GB);
	p[0] = 1;
	pfn = pfn_of(p);
	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	remember_direct_map();
	EXPECT_EQ(gmem_convert(fd, 0, GB, true), 0);
	EXPECT(same_direct_map());

	/* One page, then the rest of its region. */
	EXPECT_EQ(gmem_convert(fd, cut + 5 * PAGE, PAGE, false), 0);
	EXPECT_EQ(direct_map_shift(pfn + cut / PAGE + 5), 12);
	EXPECT_EQ(direct_map_shift(pfn + cut / PAGE + 4), 0);
	EXPECT_EQ(direct_map_shift(pfn + cut / PAGE + 6), 0);
	EXPECT_EQ(gmem_convert(fd, cut, 2 * MB, false), 0);
	EXPECT_EQ(direct_map_shift(pfn + cut / PAGE + 5), 21);

	/* A range that begins, and one that ends, in the middle of a region. */
	EXPECT_EQ(gmem_convert(fd, cut + 5 * MB, 3 * MB, false), 0);
	EXPECT_EQ(direct_map_shift(pfn + (cut + 5 * MB) / PAGE), 12);
	EXPECT_EQ(direct_map_shift(pfn + (cut + 6 * MB) / PAGE), 21);
	EXPECT_EQ(gmem_convert(fd, cut + 4 * MB, MB, false), 0);
	EXPECT_EQ(direct_map_shift(pfn + (cut + 5 * MB) / PAGE), 21);
	EXPECT_EQ(gmem_convert(fd, cut + 8 * MB, 3 * MB, false), 0);
	EXPECT_EQ(direct_map_shift(pfn + (cut + 10 * MB) / PAGE), 12);
	EXPECT_EQ(gmem_convert(fd, cut + 11 * MB, MB, false), 0);
	EXPECT_EQ(direct_map_shift(pfn + (cut + 10 * MB) / PAGE), 21);

	/* The first and the last half of one. */
	for (int half = 4; half < 6; half++) {
		EXPECT_EQ(gmem_convert(fd, cut + half * MB, MB, true), 0);
		EXPECT_EQ(direct_map_shift(pfn + (cut + (9 - half) * MB) / PAGE), 12);
		EXPECT_EQ(gmem_convert(fd, cut + half * MB, MB, false), 0);
		EXPECT_EQ(direct_map_shift(pfn + (cut + (9 - half) * MB) / PAGE), 21);
	}

	/* The last of the block, whole regions. */
	EXPECT_EQ(gmem_convert(fd, 0, cut, false), 0);
	EXPECT_EQ(gmem_convert(fd, cut + 2 * MB, 2 * MB, false), 0);
	/* What is not whole yet is an entry of 1 GiB, where the CPU has such. */
	EXPECT_EQ(same_direct_map(), direct_map[2] <= 0);
	EXPECT_EQ(gmem_convert(fd, cut + 12 * MB, GB - cut - 12 * MB, false), 0);
	EXPECT(same_direct_map());

	/* One page of all. */
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	EXPECT(!same_direct_map());
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, false), 0);
	EXPECT(same_direct_map());
	munmap(p, GB);
	close(fd);

	/* A small block heals what its neighbours are in. */
	fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	remember_direct_map();
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
	EXPECT(same_direct_map());
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, true), 0);
	EXPECT(!same_direct_map());
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, false), 0);
	EXPECT(same_direct_map());
}

/* What was private is overwritten before the memory is anybody else's. */
TEST(private_is_scrubbed)
{
	char buf[PAGE];

	set_up();
	munmap(p, 2 * MB);
	close(fd);
	EXPECT(read_frame(pfn, buf));
	EXPECT(is_zero(buf, PAGE));
	EXPECT(read_frame(pfn + 511, buf));
	EXPECT(is_zero(buf, PAGE));
}

TEST(memory_is_zeroed_before_use)
{
	int n = pool(2 * MB, "nr_hugepages");

	for (int round = 0; round < 2; round++) {
		fd = gmem_create(n * 2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
		p = gmem_map(fd, 0, n * 2 * MB);
		for (int i = 0; i < n; i++) {
			EXPECT(is_zero(p + i * 2 * MB, 2 * MB));
			fill(p + i * 2 * MB, 2 * MB, SECRET);
		}
		munmap(p, n * 2 * MB);
		close(fd);
	}
}

/* One page of a fresh 1 GiB block costs a region, not the block. */
static void *allocate_region(void *arg)
{
	int *job = arg;

	run_on_cpu(1);
	EXPECT_EQ(gmem_allocate(job[0], job[1] * 2 * MB, 2 * MB), 0);
	return NULL;
}

/* While memory of a block is zeroed, pages of it that are ready can be touched. */
TEST(fault_beside_zeroing)
{
	enum delay state = GONE_ON;
	int job[2], dev;
	pthread_t thread;
	char *p;

	need_1g_blocks();
	dev = open_put_test();
	job[0] = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(job[0], 0, GB);
	p[0] = 1;
	run_on_cpu(0);
	for (job[1] = 1; job[1] < 6 && state != INSIDE; job[1]++) {
		EXPECT_EQ(madvise(p, 2 * MB, MADV_DONTNEED), 0);
		delay_in_kernel(dev, "gmem_memory_zero_next");
		EXPECT_EQ(pthread_create(&thread, NULL, allocate_region, job), 0);
		EXPECT(EVENTUALLY(delayed(dev) != NOT_YET));
		EXPECT_EQ(p[0], 1);
		state = delayed(dev);
		EXPECT_EQ(pthread_join(thread, NULL), 0);
	}
	EXPECT_EQ(state, INSIDE);
	close(dev);
}

TEST(zeroing_is_lazy)
{
	need_1g_blocks();
	fd = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(fd, 0, GB);
	p[512 * MB] = 1;
	EXPECT_EQ(gmem_range(fd, 512 * MB).flags,
		  GMEMFD_RANGE_ALLOCATED | GMEMFD_RANGE_ZEROED);
	EXPECT_EQ(gmem_range(fd, 512 * MB).size, 2 * MB);
	EXPECT_EQ(gmem_range(fd, 0).flags, GMEMFD_RANGE_ALLOCATED);
	EXPECT_EQ(gmem_range(fd, 0).size, 512 * MB);
}

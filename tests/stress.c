// SPDX-License-Identifier: GPL-2.0
/*
 * All at once on the same blocks from all CPUs, while the module is loaded and
 * unloaded whenever nobody uses it.  What must hold at the end holds, and the
 * kernel has nothing to say.
 */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "lib.h"

#define SIZE	(8 * MB)

/* KCSAN has every access take its time. */
static bool kcsan_kernel(void)
{
	return !access("/sys/kernel/debug/kcsan", F_OK);
}

struct stress {
	int fd;
	char *p;
	unsigned int seed;
	int cpu;
	long operations;
	bool failed;
	pthread_t thread;
};

/* Pages that are private now are EFAULT: nothing is held then. */
static void hold_in_pipe(struct stress *s, char *p, size_t size)
{
	struct iovec iov = { p, size };
	int pipes[2];

	if (pipe(pipes))
		return;
	vmsplice(pipes[1], &iov, 1, SPLICE_F_NONBLOCK);
	if (rand_r(&s->seed) % 2)
		gmem_punch(s->fd, (p - s->p) & ~(2 * MB - 1), 2 * MB);
	close(pipes[0]);
	close(pipes[1]);
}

static void hold_in_ring(struct stress *s, char *p, size_t size)
{
	struct io_uring_params params = { };
	struct iovec iov = { p, size };
	int ring = syscall(__NR_io_uring_setup, 1, &params);

	if (ring < 0)
		return;
	if (!syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1) &&
	    rand_r(&s->seed) % 2)
		gmem_punch(s->fd, (p - s->p) & ~(2 * MB - 1), 2 * MB);
	close(ring);
}

static bool expected(int ret)
{
	return !ret || errno == EAGAIN || errno == ETIMEDOUT || errno == ENOSPC;
}

static bool one_operation(struct stress *s)
{
	size_t at = rand_r(&s->seed) % (SIZE / PAGE) * PAGE;
	size_t size = (1 + rand_r(&s->seed) % (rand_r(&s->seed) % 8 ? 16 : 1024)) * PAGE;
	bool private = rand_r(&s->seed) % 2;
	uint64_t timeout = 1000000, error_offset;
	struct gmemfd_convert_range ranges[2];

	if (at + size > SIZE)
		size = SIZE - at;
	switch (rand_r(&s->seed) % 16) {
	case 0:
		return expected(gmem_convert_wait(s->fd, at, size, &timeout, &error_offset));
	case 1:
		ranges[0] = (struct gmemfd_convert_range) {
			at, size, private ? GMEMFD_ATTRIBUTE_PRIVATE : 0,
		};
		ranges[1] = (struct gmemfd_convert_range) {
			(at + size) % SIZE, PAGE, private ? 0 : GMEMFD_ATTRIBUTE_PRIVATE,
		};
		return expected(gmem_convert_ranges(s->fd, ranges, at + size < SIZE ? 2 : 1,
						    &error_offset));
	case 2:
		return expected(gmem_punch(s->fd, at, size));
	case 3:
		return expected(gmem_allocate(s->fd, at, size));
	case 4:
		hold_in_pipe(s, s->p + at, size);
		return true;
	case 5:
		hold_in_ring(s, s->p + at, size);
		return true;
	case 6:
		madvise(s->p + at, size, MADV_DONTNEED);
		return true;
	case 7:
		gmem_range(s->fd, at);
		return true;
	case 8 ... 11:
		/* A store, or EFAULT: no signals here. */
		syscall(__NR_getrandom, s->p + at, 8, 1);
		return true;
	default:
		return expected(gmem_convert(s->fd, at, size, private));
	}
}

static void *stress_one(void *arg)
{
	struct stress *s = arg;

	run_on_cpu(s->cpu);
	for (long i = 0; i < s->operations && !s->failed; i++)
		s->failed = !one_operation(s);
	return NULL;
}

static void stress_round(unsigned int seed, size_t block, uint64_t flags, long operations)
{
	struct gmemfd_create create = {
		.size = block == GB ? GB : SIZE, .block_size = block, .flags = flags,
	};
	int nr = 2 * sysconf(_SC_NPROCESSORS_ONLN), device, fd;
	struct stress threads[nr];
	char *p;

	do {	/* the module may not be there for a moment */
		device = open("/dev/gmemfd", O_RDWR | O_CLOEXEC);
	} while (device < 0);
	fd = ioctl(device, GMEMFD_CREATE, &create);
	EXPECT(fd >= 0);
	close(device);
	p = gmem_map(fd, 0, SIZE);
	for (int i = 0; i < nr; i++) {
		threads[i] = (struct stress) {
			.fd = fd, .p = p, .seed = seed * 100 + i, .cpu = i / 2,
			.operations = operations,
		};
		EXPECT_EQ(pthread_create(&threads[i].thread, NULL, stress_one, &threads[i]), 0);
	}
	for (int i = 0; i < nr; i++) {
		EXPECT_EQ(pthread_join(threads[i].thread, NULL), 0);
		EXPECT(!threads[i].failed);
	}
	/* Rings let go of their pages some time after their close. */
	EXPECT(EVENTUALLY(!gmem_convert(fd, 0, SIZE, true)));
	EXPECT(!can_read(p + SIZE / 2));
	EXPECT_EQ(gmem_convert(fd, 0, SIZE, false), 0);
	for (size_t at = 0; at < SIZE; at += 16 * PAGE) {
		EXPECT_EQ(gmem_state(fd, at), 0);
		/* Where a block was punched, once its last holder is gone. */
		EXPECT(EVENTUALLY(can_write(p + at)));
	}
	munmap(p, SIZE);
	close(fd);
}

/*
 * Every call beside every other on the one block, for a moment each: KCSAN sees
 * only what two CPUs do within the same few hundred microseconds.
 */
struct caller {
	void (*call)(struct caller *c);
	int fd, queries;
	char *p;
	unsigned int seed;
	volatile bool *stop;
	pthread_t thread;
};

static void call_convert_page(struct caller *c)
{
	gmem_convert(c->fd, rand_r(&c->seed) % 4 * PAGE, PAGE, rand_r(&c->seed) % 2);
}

static void call_convert_block(struct caller *c)
{
	gmem_convert(c->fd, 0, 2 * MB, rand_r(&c->seed) % 2);
}

static void call_convert_ranges(struct caller *c)
{
	struct gmemfd_convert_range ranges[] = {
		{ PAGE, PAGE, GMEMFD_ATTRIBUTE_PRIVATE }, { 5 * PAGE, 2 * PAGE, 0 },
	};
	uint64_t at;

	gmem_convert_ranges(c->fd, ranges, 2, &at);
}

static void call_convert_wait(struct caller *c)
{
	uint64_t timeout = 100000, at;

	gmem_convert_wait(c->fd, 2 * PAGE, PAGE, &timeout, &at);
}

static void call_punch_page(struct caller *c)
{
	gmem_punch(c->fd, PAGE, PAGE);
}

static void call_punch_block(struct caller *c)
{
	gmem_punch(c->fd, 0, 2 * MB);
}

static void call_allocate(struct caller *c)
{
	gmem_allocate(c->fd, 0, 2 * MB);
}

static void call_touch(struct caller *c)
{
	syscall(__NR_getrandom, c->p + rand_r(&c->seed) % 4 * PAGE, 8, 1);
	madvise(c->p, 2 * MB, MADV_DONTNEED);
}

static void call_hold(struct caller *c)
{
	struct iovec iov = { c->p + PAGE, PAGE };
	int pipes[2];

	EXPECT_EQ(pipe(pipes), 0);
	vmsplice(pipes[1], &iov, 1, SPLICE_F_NONBLOCK);
	close(pipes[0]);
	close(pipes[1]);
}

static void call_query(struct caller *c)
{
	struct stat st;
	char buf[512];

	gmem_range(c->fd, PAGE);
	EXPECT_EQ(fstat(c->fd, &st), 0);
	EXPECT(pread(c->queries, buf, sizeof(buf), 0) > 0);
	read_long("/sys/class/misc/gmemfd/away_folios");
}

static void *keep_calling(void *arg)
{
	struct caller *c = arg;

	while (!*c->stop)
		c->call(c);
	return NULL;
}

static void stress_pair(void (*one)(struct caller *), void (*other)(struct caller *), int usec)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB), path[64];
	volatile bool stop = false;
	struct caller callers[2];
	int queries;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	queries = open(path, O_RDONLY);
	EXPECT(queries >= 0);
	for (int i = 0; i < 2; i++) {
		callers[i] = (struct caller) {
			i ? other : one, fd, queries, p, i, &stop, 0,
		};
		EXPECT_EQ(pthread_create(&callers[i].thread, NULL, keep_calling,
					 &callers[i]), 0);
	}
	usleep(usec);
	stop = true;
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(pthread_join(callers[i].thread, NULL), 0);
	EXPECT(EVENTUALLY(!gmem_convert(fd, 0, 2 * MB, true)));
	close(queries);
	munmap(p, 2 * MB);
	close(fd);
}

TEST(stress_pairs)
{
	void (*const calls[])(struct caller *) = {
		call_convert_page, call_convert_block, call_convert_ranges,
		call_convert_wait, call_punch_page, call_punch_block, call_allocate,
		call_touch, call_hold, call_query,
	};
	int usec = kcsan_kernel() ? 1500000 : 50000;
	unsigned int nr = sizeof(calls) / sizeof(calls[0]);

	for (unsigned int i = 0; i < nr; i++)
		for (unsigned int j = i; j < nr; j++)
			stress_pair(calls[i], calls[j], usec);
}

static void load_and_unload(void)
{
	long unloaded = 0;

	for (;;) {
		if (!module_unload("gmemfd")) {
			unloaded++;
			if (module_load("gmemfd", ""))
				_exit(1);
		}
		if (getppid() == 1)
			_exit(0);
		usleep(500);
	}
}

TEST(stress_same_blocks)
{
	const uint64_t flags[] = {
		0, GMEMFD_CREATE_INIT_SHARED, GMEMFD_CREATE_SMALL_SHARED,
		GMEMFD_CREATE_INIT_SHARED | GMEMFD_CREATE_KEEP_DIRECT_MAP,
	};
	int rounds = debug_kernel() || kcsan_kernel() ? 4 : 8, status;
	pid_t loader;

	test_changes_direct_map();
	loader = fork();
	if (!loader)
		load_and_unload();
	for (int i = 0; i < rounds; i++)
		stress_round(i, i % 4 == 3 && have_1g_blocks() ? GB : 2 * MB, flags[i % 4],
			     kcsan_kernel() ? 100 : 400);
	kill(loader, SIGTERM);
	EXPECT_EQ(waitpid(loader, &status, 0), loader);
	EXPECT(WIFSIGNALED(status));
	/* It may have been between the two. */
	if (access("/dev/gmemfd", F_OK))
		EXPECT_EQ(module_load("gmemfd", ""), 0);
}

// SPDX-License-Identifier: GPL-2.0
/* Row l: secret memory. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>

#include "bench.h"

#define NR_PAGES	256

static void convert_to(int fd, uint64_t offset, uint64_t size, uint64_t state)
{
	EXPECT_EQ(gmem_convert_to(fd, offset, size, state), 0);
}

static int create_secret(size_t size)
{
	int fd = gmem_create(size, GB, GMEMFD_CREATE_SECRET);

	EXPECT(fd >= 0);
	return fd;
}

/* One page of a block that is all private becomes secret, and so on. */
static void pages(void)
{
	int fd = create_secret(GB);
	uint64_t there[NR_PAGES], back[NR_PAGES];
	char *p = gmem_map(fd, 0, GB);

	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	convert_to(fd, 0, GB, GMEMFD_ATTRIBUTE_PRIVATE);
	tell("gmemfd", "to secret, first in block", PAGE,
	     TIME(convert_to(fd, 9 * PAGE, PAGE, GMEMFD_ATTRIBUTE_SECRET)));
	for (unsigned int i = 0; i < NR_PAGES; i++) {
		uint64_t at = 2 * MB * (i + 1);

		there[i] = TIME(convert_to(fd, at, PAGE, GMEMFD_ATTRIBUTE_SECRET));
		p[at] = 1;
		back[i] = TIME(convert_to(fd, at, PAGE, GMEMFD_ATTRIBUTE_PRIVATE));
	}
	tell_spread("gmemfd", "to secret", PAGE, there, NR_PAGES);
	tell_spread("gmemfd", "to private", PAGE, back, NR_PAGES);
	tell("gmemfd", "to secret", GB, TIME(convert_to(fd, 0, GB, GMEMFD_ATTRIBUTE_SECRET)));
	touch(p, GB);
	tell("gmemfd", "to private", GB, TIME(convert_to(fd, 0, GB, GMEMFD_ATTRIBUTE_PRIVATE)));
	munmap(p, GB);
	close(fd);
}

/* What a page of memfd_secret takes. */
static void pages_of_peer(void)
{
	int fd = secret_create(NR_PAGES * PAGE);
	char *p = gmem_map(fd, 0, NR_PAGES * PAGE);
	uint64_t times[NR_PAGES];

	for (unsigned int i = 0; i < NR_PAGES; i++)
		times[i] = TIME(touch(p + i * PAGE, PAGE));
	tell_spread("memfd_secret", "fault", PAGE, times, NR_PAGES);
	tell("memfd_secret", "free", PAGE,
	     TIME(munmap(p, NR_PAGES * PAGE); close(fd)) / NR_PAGES);
}

/* memfd_secret has no fallocate(): there, mapping includes zeroing. */
static void populate_and_map(const char *who, int fd, bool populate)
{
	char *p = gmem_map(fd, 0, GB);

	if (populate)
		tell(who, "populate", GB, TIME(memfd_allocate(fd, 0, GB)));
	tell(who, "map", GB, TIME(touch(p, GB)));
	tell(who, "unmap", GB, TIME(munmap(p, GB)));
	close(fd);
}

/* Two CPUs, each in a process of its own */

/* Work on half number @half of what there is. */
typedef void (*work_fn)(int fd, char *p, int half);

static void allocate(int fd, char *p, int half)
{
	(void)p;
	EXPECT_EQ(gmem_allocate(fd, half * GB / 2, GB / 2), 0);
}

static void fault_in(int fd, char *p, int half)
{
	(void)fd;
	touch(p + half * GB / 2, GB / 2);
}

static void exchange(int fd, char *p, int half)
{
	(void)p;
	for (int i = 0; i < 20000; i++) {
		uint64_t at = half * GB + i % 512 * 2 * MB;

		convert_to(fd, at, PAGE, GMEMFD_ATTRIBUTE_PRIVATE);
		convert_to(fd, at, PAGE, GMEMFD_ATTRIBUTE_SECRET);
	}
}

/**
 * struct pair - two processes, each on a CPU of its own
 * @barrier: where they wait for each other
 * @two: both work, on a half each; or else the first one does all, and the other one
 *	computes: a CPU that sleeps is slow to hear of a flush
 * @done: there is nothing to wait for any more
 * @spent: how long each worked
 */
struct pair {
	pthread_barrier_t barrier;
	bool two;
	volatile bool done;
	uint64_t spent[2];
};

static void work_of(struct pair *pair, int cpu, work_fn work, int fd, char *p)
{
	uint64_t start;

	run_on_cpu(cpu);
	pthread_barrier_wait(&pair->barrier);
	start = now();
	if (pair->two) {
		work(fd, p, cpu);
	} else if (!cpu) {
		work(fd, p, 0);
		work(fd, p, 1);
	} else {
		while (!pair->done)
			;
	}
	pair->spent[cpu] = now() - start;
	pair->done = true;
}

/* How long both halves take. */
static uint64_t both_halves(work_fn work, int fd, size_t size, bool two)
{
	struct pair *pair = mmap(NULL, sizeof(*pair), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *p = gmem_map(fd, 0, size);
	pthread_barrierattr_t attr;
	uint64_t spent;
	pid_t pid;

	EXPECT(pair != MAP_FAILED);
	pair->two = two;
	EXPECT_EQ(pthread_barrierattr_init(&attr), 0);
	EXPECT_EQ(pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED), 0);
	EXPECT_EQ(pthread_barrier_init(&pair->barrier, &attr, 2), 0);
	pid = fork();
	EXPECT(pid >= 0);
	work_of(pair, pid ? 0 : 1, work, fd, p);
	if (!pid)
		_exit(0);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	spent = pair->spent[0] > pair->spent[1] ? pair->spent[0] : pair->spent[1];
	munmap(p, size);
	munmap(pair, sizeof(*pair));
	return spent;
}

static void at_once(const char *what, work_fn work, size_t size, bool populated)
{
	static const char *const who[] = { "gmemfd, one CPU", "gmemfd, two CPUs" };

	for (int two = 0; two < 2; two++) {
		int fd = create_secret(size);

		if (populated)
			EXPECT_EQ(gmem_allocate(fd, 0, size), 0);
		tell(who[two], what, size, both_halves(work, fd, size, two));
		close(fd);
	}
}

void row_secret(void)
{
	pages();
	populate_and_map("gmemfd", create_secret(GB), true);
	if (!clock_counts_instructions()) {
		at_once("fill a block by fallocate", allocate, GB, false);
		at_once("fill a block by faults", fault_in, GB, false);
		at_once("private and back, in two blocks", exchange, 2 * GB, true);
	}
	if (!bench_peers)
		return;
	pages_of_peer();
	populate_and_map("hugetlbfs", memfd(GB, GB), true);
	if (round_for_slow())
		populate_and_map("memfd_secret", secret_create(GB), false);
}

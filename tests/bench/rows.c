// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <sys/wait.h>
#include <time.h>

#include "bench.h"

#define REGION		(2 * MB)

static const size_t sizes[] = { 4 * KB, 64 * KB, 2 * MB, 64 * MB, GB };
#define NR_SIZES	(sizeof(sizes) / sizeof(sizes[0]))

static int create(size_t size, size_t block, uint64_t flags)
{
	int fd = gmem_create(size, block, flags);

	if (fd < 0)
		FAIL("no gmem file of %lu MiB: errno %d", size / MB, errno);
	return fd;
}

static void convert(int fd, uint64_t offset, uint64_t size, bool private)
{
	EXPECT_EQ(gmem_convert(fd, offset, size, private), 0);
}

static char *buffer(size_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

/* Row a: out of the direct map and back */

static void out_and_back_gmem(void)
{
	int fd = create(GB, GB, GMEMFD_CREATE_INIT_SHARED);

	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	tell("gmemfd", "out and back, first time", GB,
	     TIME(convert(fd, 0, GB, true); convert(fd, 0, GB, false)));
	for (unsigned int i = 0; i < NR_SIZES; i++)
		tell("gmemfd", "out and back", sizes[i],
		     TIME(convert(fd, 0, sizes[i], true); convert(fd, 0, sizes[i], false)));
	close(fd);

	/* Takes memory, zeroes it, and scrubs it, as the peer does. */
	tell("gmemfd", "with zeroing twice", GB,
	     TIME(fd = create(GB, GB, 0); EXPECT_EQ(gmem_allocate(fd, 0, GB), 0); close(fd)));
}

static void out_and_back_secret(size_t size)
{
	int fd = secret_create(size);
	char *p = gmem_map(fd, 0, size);

	tell("memfd_secret", "out and back", size,
	     TIME(touch(p, size); munmap(p, size); close(fd)));
}

/* What of the above is faults and zeroing: the same with a tmpfs memfd. */
static void fault_and_free(size_t size)
{
	int fd = memfd(size, 0);
	char *p = gmem_map(fd, 0, size);

	tell("tmpfs", "fault and free", size,
	     TIME(touch(p, size); munmap(p, size); close(fd)));
}

void row_out_and_back(void)
{
	out_and_back_gmem();
	for (unsigned int i = 0; i < NR_SIZES; i++) {
		if (sizes[i] == GB && !round_for_slow())
			continue;
		out_and_back_secret(sizes[i]);
		fault_and_free(sizes[i]);
	}
}

/* Row b: conversion of a range that is populated, and mapped where shared */

static void convert_and_back(int fd, char *p, const char *who, const char *when,
			     size_t size)
{
	char what[64];

	snprintf(what, sizeof(what), "to shared%s", when);
	tell(who, what, size, TIME(convert(fd, 0, size, false)));
	touch(p, size);
	snprintf(what, sizeof(what), "to private%s", when);
	tell(who, what, size, TIME(convert(fd, 0, size, true)));
}

static void convert_gmem(size_t block)
{
	size_t size = block == GB ? GB : 64 * MB;
	int fd = create(size, block, 0);
	char *p = gmem_map(fd, 0, size), who[32];

	snprintf(who, sizeof(who), "gmemfd, %s blocks", block == GB ? "1 GiB" : "2 MiB");
	EXPECT_EQ(gmem_allocate(fd, 0, size), 0);
	convert_and_back(fd, p, who, ", first time", size);
	for (unsigned int i = 0; i < NR_SIZES && sizes[i] <= size; i++) {
		/* The direct map and the folios may still be as for another size. */
		convert(fd, 0, sizes[i], false);
		convert(fd, 0, sizes[i], true);
		convert_and_back(fd, p, who, "", sizes[i]);
	}
	convert(fd, PAGE, PAGE, false);
	convert(fd, PAGE, PAGE, true);
	convert_and_back(fd, p, who, ", after a page of it", REGION);
	munmap(p, size);
	close(fd);
}

static void convert_two_pool(const char *who, size_t size, size_t huge)
{
	struct two_pool pool;
	char *copy;

	two_pool_open(&pool, size, huge);
	memfd_allocate(pool.private, 0, size);
	two_pool_attribute(&pool, 0, size, true);
	tell(who, "to shared", size, TIME(two_pool_convert(&pool, 0, size, false, NULL)));
	touch(pool.host, size);
	tell(who, "to private", size, TIME(two_pool_convert(&pool, 0, size, true, NULL)));

	copy = buffer(size);
	tell(who, "to shared, contents kept", size,
	     TIME(two_pool_convert(&pool, 0, size, false, copy)));
	touch(pool.host, size);
	tell(who, "to private, contents kept", size,
	     TIME(two_pool_convert(&pool, 0, size, true, copy)));
	munmap(copy, size);
	two_pool_close(&pool);
}

/*
 * Row o: the same for a VM that tells private from shared accesses.  It has the range mapped, and
 * loses it.
 */
static void convert_typed(size_t size)
{
	int fd = create(GB, GB, 0);
	char *p = gmem_map(fd, 0, GB);
	struct vm vm;

	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	vm_create_apart(&vm, KVM_X86_SW_PROTECTED_VM);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, 4 * GB, GB, p, fd, 0), 0);
	convert(fd, 0, size, false);
	touch(p, size);
	convert(fd, 0, size, true);
	guest_call(&vm, guest_load, 4 * GB, 0, 0);
	tell("gmemfd", "to shared", size, TIME(convert(fd, 0, size, false)));
	touch(p, size);
	guest_call(&vm, guest_load, 4 * GB, 0, 0);
	tell("gmemfd", "to private", size, TIME(convert(fd, 0, size, true)));
	vm_destroy(&vm);
	munmap(p, GB);
	close(fd);
}

void row_typed(void)
{
	if (!kvm_has_typed())
		return;
	convert_typed(REGION);
	convert_typed(GB);
	convert_two_pool("two pools", REGION, 0);
	if (round_for_slow())
		convert_two_pool("two pools", GB, 0);
}

void row_convert(void)
{
	convert_gmem(GB);
	convert_gmem(2 * MB);
	for (unsigned int i = 0; i < NR_SIZES && bench_peers; i++) {
		if (sizes[i] == GB && !round_for_slow())
			continue;
		convert_two_pool("two pools", sizes[i], 0);
		/* More would not fit into the pool of 2 MiB pages. */
		if (sizes[i] >= 2 * MB)
			convert_two_pool("two pools, hugetlb", sizes[i],
					 sizes[i] == GB ? GB : 2 * MB);
	}
}

/* Row c: conversion of one page */

#define NR_PAGES	256U

struct page_times {
	uint64_t to_shared[NR_PAGES], to_private[NR_PAGES];
};

static void tell_pages(const char *who, const char *what, size_t size,
		       struct page_times *times)
{
	char text[64];

	snprintf(text, sizeof(text), "to shared, %s", what);
	tell_spread(who, text, size, times->to_shared, NR_PAGES);
	snprintf(text, sizeof(text), "to private, %s", what);
	tell_spread(who, text, size, times->to_private, NR_PAGES);
}

/* One page becomes shared, is written, and becomes private again. */
static void convert_one(int fd, char *p, uint64_t at, struct page_times *times,
			unsigned int i)
{
	times->to_shared[i] = TIME(convert(fd, at, PAGE, false));
	touch(p + at, PAGE);
	times->to_private[i] = TIME(convert(fd, at, PAGE, true));
}

/* Each in a region of its own; the last one is left alone. */
static void convert_pages_apart(int fd, char *p, size_t size, struct page_times *times)
{
	for (unsigned int i = 0; i < NR_PAGES; i++)
		convert_one(fd, p, i * REGION % (size - REGION) + (7 + i) * PAGE, times, i);
}

/* In one region, in which others are shared, too. */
static void convert_pages_together(int fd, char *p, uint64_t start, struct page_times *times)
{
	convert(fd, start, PAGE, false);
	for (unsigned int i = 0; i < NR_PAGES; i++)
		convert_one(fd, p, start + (1 + i) * PAGE, times, i);
}

static void convert_page_gmem(size_t block)
{
	size_t size = block == GB ? GB : NR_PAGES * REGION / 2;
	int fd = create(size, block, 0);
	char *p = gmem_map(fd, 0, size);
	struct page_times times;

	EXPECT_EQ(gmem_allocate(fd, 0, size), 0);
	tell("gmemfd", "to shared, first in block", block,
	     TIME(convert(fd, 5 * PAGE, PAGE, false)));
	touch(p + 5 * PAGE, PAGE);
	tell("gmemfd", "to private, first in block", block,
	     TIME(convert(fd, 5 * PAGE, PAGE, true)));

	/* Later figures are of blocks that are broken, as a block's second one is. */
	for (uint64_t at = 0; at < size; at += block) {
		convert(fd, at, PAGE, false);
		convert(fd, at, PAGE, true);
	}
	if (block == GB) {
		convert_pages_apart(fd, p, size, &times);
		tell_pages("gmemfd", "alone in block", block, &times);
		convert(fd, size - PAGE, PAGE, false);
	}
	convert_pages_apart(fd, p, size, &times);
	tell_pages("gmemfd", "alone in 2 MiB", block, &times);
	convert_pages_together(fd, p, 0, &times);
	tell_pages("gmemfd", "beside others", block, &times);
	/* What a call is without what it does. */
	convert(fd, 0, PAGE, true);
	tell("gmemfd", "is so already", block, TIME(convert(fd, 0, PAGE, true)));
	munmap(p, size);
	close(fd);
}

static void convert_page_two_pool(void)
{
	struct page_times times;
	struct two_pool pool;

	two_pool_open(&pool, 64 * MB, 0);
	memfd_allocate(pool.private, 0, pool.size);
	two_pool_attribute(&pool, 0, pool.size, true);
	for (unsigned int i = 0; i < NR_PAGES; i++) {
		uint64_t at = i * 17 * PAGE;

		times.to_shared[i] = TIME(two_pool_convert(&pool, at, PAGE, false, NULL));
		touch(pool.host + at, PAGE);
		times.to_private[i] = TIME(two_pool_convert(&pool, at, PAGE, true, NULL));
	}
	tell_pages("two pools", "any page", 4 * KB, &times);
	two_pool_close(&pool);
}

static void convert_page_secret(void)
{
	size_t size = NR_PAGES * PAGE;
	int fd = secret_create(size);
	char *p = gmem_map(fd, 0, size);
	uint64_t times[NR_PAGES], free;

	for (unsigned int i = 0; i < NR_PAGES; i++)
		times[i] = TIME(touch(p + i * PAGE, PAGE));
	tell_spread("memfd_secret", "fault", PAGE, times, NR_PAGES);
	free = TIME(munmap(p, size); close(fd));
	tell("memfd_secret", "free", PAGE, free / NR_PAGES);
}

void row_convert_page(void)
{
	convert_page_gmem(GB);
	convert_page_gmem(2 * MB);
	if (!bench_peers)
		return;
	convert_page_secret();
	convert_page_two_pool();
}

/* The same in the last block of files of several sizes, sparse but for that. */
void row_convert_page_files(void)
{
	static const size_t file_sizes[] = { GB, 16 * GB, 64 * GB };

	for (unsigned int i = 0; i < 3; i++) {
		size_t size = file_sizes[i], start = size - GB;
		struct page_times times;
		int fd = create(size, GB, 0);
		char *p = gmem_map(fd, 0, size);

		EXPECT_EQ(gmem_allocate(fd, start, GB), 0);
		convert(fd, start, PAGE, false);
		convert(fd, start, PAGE, true);
		convert(fd, size - PAGE, PAGE, false);
		for (unsigned int j = 0; j < NR_PAGES; j++)
			convert_one(fd, p, start + j * REGION, &times, j);
		tell_pages("gmemfd", "alone in 2 MiB", size, &times);
		munmap(p, size);
		close(fd);
	}
}

/* What hugetlb takes for as much: a 1 GiB page of its pool is made into 2 MiB ones. */
void row_demote(void)
{
	int fd = open("/sys/kernel/mm/hugepages/hugepages-1048576kB/demote", O_WRONLY);

	EXPECT(fd >= 0);
	tell("hugetlb", "demotes a page", GB, TIME(EXPECT_EQ(write(fd, "1", 1), 1)));
	close(fd);
}

/*
 * Row d: what converts while a guest of 16 GiB boots.  As published for SEV-SNP:
 * pages become shared in 622 regions of 2 MiB, and 30 of these later private as
 * a whole.  Here each has one to four pages, at places that do not vary.
 */

#define BOOT_SIZE	(16 * GB)
#define BOOT_SPLITS	622
#define BOOT_JOINS	30

struct boot_pages {
	uint64_t at[4 * BOOT_SPLITS];
	unsigned int nr;
	unsigned int start_of_region[BOOT_SPLITS + 1];
};

static void boot_pages_choose(struct boot_pages *pages)
{
	uint64_t n = 1;

	pages->nr = 0;
	for (unsigned int i = 0; i < BOOT_SPLITS; i++) {
		/* 622 of 8192 regions, 13 apart */
		uint64_t region = i * 13 * REGION;

		pages->start_of_region[i] = pages->nr;
		n = n * 6364136223846793005ULL + 1442695040888963407ULL;
		for (unsigned int j = 0; j <= n >> 62; j++)
			pages->at[pages->nr++] = region + ((n >> 40) % 100 + j * 127) * PAGE;
	}
	pages->start_of_region[BOOT_SPLITS] = pages->nr;
}

static void boot_gmem(const struct boot_pages *pages)
{
	int fd = create(BOOT_SIZE, GB, 0), held = 0;
	struct gmemfd_range *ranges = calloc(16384, sizeof(*ranges));
	uint64_t time = 0, small = 0;
	unsigned int nr;

	for (unsigned int i = 0; i < BOOT_SPLITS; i++)
		EXPECT_EQ(gmem_allocate(fd, pages->at[pages->start_of_region[i]] & -REGION,
					REGION), 0);
	for (unsigned int i = 0; i < pages->nr; i++)
		time += TIME(convert(fd, pages->at[i], PAGE, false));
	tell("gmemfd", "shares", pages->nr, time);
	for (unsigned int i = 0; i < BOOT_JOINS; i++) {
		unsigned int first = pages->start_of_region[i * 20];

		time += TIME(convert(fd, pages->at[first] & -REGION, REGION, true));
	}
	tell("gmemfd", "shares and joins", pages->nr, time);

	nr = gmem_ranges(fd, BOOT_SIZE, ranges, 16384);
	for (unsigned int i = 0; i < nr; i++) {
		if (ranges[i].flags & GMEMFD_RANGE_ALLOCATED && !ranges[i].folio_order)
			small += ranges[i].size;
		held += !(ranges[i].flags & GMEMFD_RANGE_PRIVATE);
	}
	EXPECT(held > 0);
	tell("gmemfd", "KiB left in 4 KiB folios", pages->nr, small / KB);
	free(ranges);
	close(fd);
}

static void boot_two_pool(const struct boot_pages *pages)
{
	struct two_pool pool;
	uint64_t time = 0;

	two_pool_open(&pool, BOOT_SIZE, 0);
	two_pool_attribute(&pool, 0, BOOT_SIZE, true);
	for (unsigned int i = 0; i < BOOT_SPLITS; i++)
		memfd_allocate(pool.private,
			       pages->at[pages->start_of_region[i]] & -REGION, REGION);
	for (unsigned int i = 0; i < pages->nr; i++)
		time += TIME(two_pool_convert(&pool, pages->at[i], PAGE, false, NULL));
	tell("two pools", "shares", pages->nr, time);
	for (unsigned int i = 0; i < BOOT_JOINS; i++) {
		unsigned int first = pages->start_of_region[i * 20];

		time += TIME(two_pool_convert(&pool, pages->at[first] & -REGION, REGION,
					      true, NULL));
	}
	tell("two pools", "shares and joins", pages->nr, time);
	two_pool_close(&pool);
}

void row_boot_pattern(void)
{
	struct boot_pages *pages = malloc(sizeof(*pages));

	boot_pages_choose(pages);
	boot_gmem(pages);
	boot_two_pool(pages);
	free(pages);
}

/* Row e: scattered pages, in one call and in as many calls */

static uint64_t scattered(unsigned int i, unsigned int nr)
{
	return i * (GB / nr) + 3 * PAGE;
}

static void many_ranges_gmem(int fd, unsigned int nr)
{
	struct gmemfd_convert_range *ranges = calloc(nr, sizeof(*ranges));
	uint64_t unused = 0;

	for (int private = 0; private < 2; private++) {
		for (unsigned int i = 0; i < nr; i++)
			ranges[i] = (struct gmemfd_convert_range) {
				.offset = scattered(i, nr), .size = PAGE,
				.attributes = private ? GMEMFD_ATTRIBUTE_PRIVATE : 0,
			};
		tell("gmemfd, one call", private ? "to private" : "to shared", nr,
		     TIME(EXPECT_EQ(gmem_convert_ranges(fd, ranges, nr, &unused), 0)));
	}
	for (int private = 0; private < 2; private++)
		tell("gmemfd, a call each", private ? "to private" : "to shared", nr,
		     TIME(for (unsigned int i = 0; i < nr; i++)
				convert(fd, scattered(i, nr), PAGE, private)));
	free(ranges);
}

static void many_ranges_two_pool(struct two_pool *pool, unsigned int nr)
{
	for (int private = 0; private < 2; private++)
		tell("two pools", private ? "to private" : "to shared", nr,
		     TIME(for (unsigned int i = 0; i < nr; i++)
				two_pool_convert(pool, scattered(i, nr), PAGE, private, NULL)));
}

void row_many_ranges(void)
{
	static const unsigned int counts[] = { 1, 16, 256, 4096, 65536 };
	int fd = create(GB, GB, 0);
	struct two_pool pool;

	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	/* Break the block and the direct map, which stay so. */
	for (uint64_t at = 0; at < GB; at += REGION) {
		convert(fd, at, PAGE, false);
		convert(fd, at, PAGE, true);
	}
	for (unsigned int i = 0; i < 5; i++) {
		if (counts[i] <= 4096 || round_for_slow())
			many_ranges_gmem(fd, counts[i]);
	}
	close(fd);
	if (!bench_peers)
		return;

	two_pool_open(&pool, GB, 0);
	two_pool_attribute(&pool, 0, GB, true);
	for (unsigned int i = 0; i < 5; i++) {
		if (counts[i] > 4096 && !round_for_slow())
			continue;
		for (unsigned int j = 0; j < counts[i]; j++)
			memfd_allocate(pool.private, scattered(j, counts[i]), PAGE);
		many_ranges_two_pool(&pool, counts[i]);
	}
	two_pool_close(&pool);
}

/* Row f: two at once */

enum task {
	COMPUTE, CONVERT, CONVERT_64, CONVERT_2M, CONVERT_OTHER, CONVERT_OTHER_2M,
	CONVERT_KEPT, FAULT, SECRET, SCRUB, SCRUB_KEPT,
};

static const char *const task_names[] = {
	"computing", "converting", "converting 64 pages a call", "converting 2 MiB",
	"converting another file", "converting 2 MiB of another file",
	"converting without flush", "faulting", "memfd_secret",
	"scrubbing", "scrubbing without flush",
};

/* @done and @spent are shared with the process that works. */
struct worker {
	enum task task;
	int fd;
	char *memory;
	uint64_t at, nr_regions;
	uint64_t done, spent;
};

/* Pairs take turns that are short, so that what else the machine does is in all. */
#define TURN_NS		100000000UL
#define NR_TURNS	10

/* Each other page, so that they are as many ranges. */
static void convert_64(int fd, uint64_t at, bool private)
{
	struct gmemfd_convert_range ranges[64];
	uint64_t unused = 0;

	for (int i = 0; i < 64; i++)
		ranges[i] = (struct gmemfd_convert_range) {
			.offset = at + 2 * i * PAGE, .size = PAGE,
			.attributes = private ? GMEMFD_ATTRIBUTE_PRIVATE : 0,
		};
	EXPECT_EQ(gmem_convert_ranges(fd, ranges, 64, &unused), 0);
}

static void work_step(struct worker *worker)
{
	uint64_t at = worker->at + worker->done++ % worker->nr_regions * REGION;

	switch (worker->task) {
	case COMPUTE:
		touch(worker->memory, 64 * PAGE);
		break;
	case CONVERT:
	case CONVERT_OTHER:
	case CONVERT_KEPT:
		convert(worker->fd, at + 9 * PAGE, PAGE, false);
		convert(worker->fd, at + 9 * PAGE, PAGE, true);
		break;
	case CONVERT_64:
		convert_64(worker->fd, at, false);
		convert_64(worker->fd, at, true);
		break;
	case CONVERT_2M:
	case CONVERT_OTHER_2M:
		convert(worker->fd, at, REGION, false);
		convert(worker->fd, at, REGION, true);
		break;
	case FAULT:
		touch(worker->memory + at, PAGE);
		EXPECT_EQ(madvise(worker->memory + at, PAGE, MADV_DONTNEED), 0);
		break;
	case SCRUB:
	case SCRUB_KEPT:
		/* Private memory, which stays: of no block all pages are punched. */
		EXPECT_EQ(gmem_punch(worker->fd, at + PAGE, REGION - PAGE), 0);
		break;
	case SECRET:
		/* A file keeps its pages until it goes. */
		worker->fd = secret_create(64 * PAGE);
		worker->memory = gmem_map(worker->fd, 0, 64 * PAGE);
		touch(worker->memory, 64 * PAGE);
		munmap(worker->memory, 64 * PAGE);
		close(worker->fd);
		worker->done += 63;
		break;
	}
}

static void work(struct worker *worker, int cpu, pthread_barrier_t *barrier)
{
	uint64_t start, end;

	run_on_cpu(cpu);
	pthread_barrier_wait(barrier);
	start = now();
	do {
		work_step(worker);
		end = now();
	} while (end - start < TURN_NS);
	worker->spent += end - start;
}

/* In two processes: threads would flush each other's TLB when they unmap. */
static void work_at_once(struct worker *workers, pthread_barrier_t *barrier)
{
	pid_t pid = fork();

	EXPECT(pid >= 0);
	work(&workers[pid ? 0 : 1], pid ? 0 : 1, barrier);
	if (!pid)
		_exit(0);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

/*
 * Nobody is alone: a flush waits for a CPU that sleeps until it is awake, and for
 * one at work it does not.
 */
void row_two_at_once(void)
{
	static const enum task pairs[][2] = {
		{ CONVERT, COMPUTE }, { CONVERT, CONVERT },
		{ CONVERT_64, COMPUTE }, { CONVERT_64, CONVERT_64 },
		{ CONVERT_2M, COMPUTE }, { CONVERT_2M, CONVERT_2M },
		{ CONVERT_KEPT, COMPUTE }, { CONVERT_KEPT, CONVERT_KEPT },
		{ FAULT, COMPUTE }, { FAULT, CONVERT }, { FAULT, CONVERT_OTHER },
		{ FAULT, CONVERT_KEPT },
		{ FAULT, SECRET }, { SECRET, COMPUTE }, { SECRET, SECRET },
		{ CONVERT_OTHER, COMPUTE }, { CONVERT_OTHER, SCRUB },
		{ CONVERT_OTHER, SCRUB_KEPT },
		{ CONVERT_OTHER_2M, COMPUTE }, { CONVERT_OTHER_2M, SCRUB },
		{ CONVERT_OTHER_2M, SCRUB_KEPT },
		{ COMPUTE, COMPUTE },
	};
	enum { NR_PAIRS = sizeof(pairs) / sizeof(pairs[0]) };
	int fd = create(3 * GB, GB, 0), other = create(256 * MB, 2 * MB, 0);
	int kept = create(256 * MB, 2 * MB, GMEMFD_CREATE_KEEP_DIRECT_MAP);
	char what[80], *host, *memory = buffer(64 * PAGE);
	struct {
		pthread_barrier_t barrier;
		struct worker workers[NR_PAIRS][2];
	} *shared;
	pthread_barrierattr_t attr;

	if (clock_counts_instructions())
		FAIL("CPUs take turns with --icount: there is nothing to see");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(shared != MAP_FAILED);
	EXPECT_EQ(pthread_barrierattr_init(&attr), 0);
	EXPECT_EQ(pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED), 0);
	EXPECT_EQ(pthread_barrier_init(&shared->barrier, &attr, 2), 0);

	/* The first block is for faults, of the next each converter has one. */
	host = gmem_map(fd, 0, GB);
	EXPECT_EQ(gmem_allocate(fd, 0, 3 * GB), 0);
	EXPECT_EQ(gmem_allocate(other, 0, 256 * MB), 0);
	EXPECT_EQ(gmem_allocate(kept, 0, 256 * MB), 0);
	convert(fd, 0, GB, false);

	for (int i = 0; i < NR_PAIRS; i++) {
		for (int j = 0; j < 2; j++) {
			struct worker *worker = &shared->workers[i][j];

			worker->task = pairs[i][j];
			worker->fd = fd;
			worker->memory = worker->task == COMPUTE ? memory : host;
			worker->nr_regions = 256;
			switch (worker->task) {
			case CONVERT:
			case CONVERT_64:
				worker->at = (1 + j) * GB;
				break;
			case CONVERT_2M:
				/* Where the direct map is not in 4 KiB. */
				worker->at = (1 + j) * GB + 512 * MB;
				break;
			case SCRUB:
				worker->at = GB + 512 * MB;
				worker->nr_regions = 64;
				break;
			case CONVERT_OTHER:
			case CONVERT_OTHER_2M:
			case CONVERT_KEPT:
			case SCRUB_KEPT:
				worker->fd = worker->task == CONVERT_KEPT ||
					     worker->task == SCRUB_KEPT ? kept : other;
				worker->nr_regions = 64;
				worker->at = j * 128 * MB;
				break;
			default:
				break;
			}
		}
	}
	for (int turn = 0; turn < NR_TURNS; turn++) {
		for (int i = 0; i < NR_PAIRS; i++)
			work_at_once(shared->workers[i], &shared->barrier);
	}
	for (int i = 0; i < NR_PAIRS; i++) {
		for (int j = 0; j < 2; j++) {
			struct worker *worker = &shared->workers[i][j];

			EXPECT(worker->done);
			snprintf(what, sizeof(what), "%s beside %s", task_names[pairs[i][j]],
				 task_names[pairs[i][!j]]);
			tell("gmemfd", what, PAGE, worker->spent / worker->done);
		}
	}
	munmap(host, GB);
	munmap(memory, 64 * PAGE);
	munmap(shared, sizeof(*shared));
	close(kept);
	close(other);
	close(fd);
}

/* Row g: first touch of a fresh block; all of a file comes and goes */

static void first_touch(const char *who, int fd, size_t size, size_t whole)
{
	char *p = gmem_map(fd, 0, whole);

	tell(who, "first touch", size, TIME(touch(p, PAGE)));
	memfd_punch(fd, 0, whole);
	tell(who, "allocate", size, TIME(memfd_allocate(fd, 0, whole)));
	tell(who, "touch all", size, TIME(touch(p, whole)));
	tell(who, "punch", size, TIME(memfd_punch(fd, 0, whole)));
	munmap(p, whole);
	close(fd);
}

void row_first_touch(void)
{
	first_touch("gmemfd, shared", create(GB, GB, GMEMFD_CREATE_INIT_SHARED), GB, GB);
	first_touch("hugetlbfs", memfd(GB, GB), GB, GB);
	if (round_for_slow())
		first_touch("tmpfs", memfd(GB, 0), GB, GB);
	first_touch("gmemfd, shared", create(256 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED),
		    2 * MB, 256 * MB);
	first_touch("hugetlbfs", memfd(256 * MB, 2 * MB), 2 * MB, 256 * MB);

	for (size_t block = 2 * MB; block <= GB; block *= 512) {
		size_t size = block == GB ? GB : 256 * MB;
		int fd = create(size, block, 0);

		tell("gmemfd, private", "allocate", block,
		     TIME(memfd_allocate(fd, 0, size)));
		/* Overwrites what was there. */
		tell("gmemfd, private", "punch", block, TIME(memfd_punch(fd, 0, size)));
		close(fd);
	}
}

/* Row h: a guest at work */

#define GUEST_SIZE	(256 * MB)
#define GUEST_LOADS	100000

static void guest_work(const char *who, struct vm *vm)
{
	const uint64_t start = 2 * MB, size = GUEST_SIZE - start;
	uint64_t faults = vm_faults(vm);

	tell(who, "each page for the first time", GUEST_SIZE,
	     TIME(guest_call(vm, guest_write_pages, start, size, 1)));
	tell(who, "nested page faults of that", GUEST_SIZE, vm_faults(vm) - faults);
	tell(who, "each page again", GUEST_SIZE,
	     TIME(guest_call(vm, guest_write_pages, start, size, 2)));
	tell(who, "random pages", GUEST_SIZE,
	     TIME(guest_call(vm, guest_chase, start, size, GUEST_LOADS)));
	EXPECT_EQ(guest_call(vm, guest_check_pages, start, size, 2), 0);
}

static void guest_gmem(const char *who, size_t block)
{
	size_t size = block == GB ? GB : GUEST_SIZE;
	int fd = create(size, block, 0);
	struct vm vm;

	EXPECT_EQ(gmem_allocate(fd, 0, size), 0);
	vm_create(&vm, fd, size, 1);
	guest_work(who, &vm);
	vm_destroy(&vm);
	close(fd);
}

/* With a guest_memfd, or by the host's mapping of a memfd. */
static void guest_peer(const char *who, size_t huge, bool own)
{
	size_t size = huge == GB ? GB : GUEST_SIZE;
	struct vm vm = { .gmem = -1, .size = size };
	struct kvm_userspace_memory_region region = { .memory_size = size };
	int fd;

	vm.kvm = kvm_device();
	vm.fd = ioctl(vm.kvm, KVM_CREATE_VM, 0);
	EXPECT(vm.fd >= 0);
	fd = own ? guest_memfd(vm.fd, size, GUEST_MEMFD_MMAP | GUEST_MEMFD_SHARED) :
		   memfd(size, huge);
	memfd_allocate(fd, 0, size);
	vm.host = gmem_map(fd, 0, size);
	if (own) {
		EXPECT_EQ(vm_set_slot(vm.fd, 0, 0, 0, size, vm.host, fd, 0), 0);
	} else {
		touch(vm.host, size);
		region.userspace_addr = (uintptr_t)vm.host;
		EXPECT_EQ(ioctl(vm.fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	}
	vm_load_image(vm.host);
	vcpu_create(&vm);
	guest_work(who, &vm);
	vm_destroy(&vm);
	close(fd);
}

void row_guest(void)
{
	guest_gmem("gmemfd, 1 GiB", GB);
	guest_gmem("gmemfd, 2 MiB", 2 * MB);
	guest_peer("guest_memfd", 0, true);
	guest_peer("hugetlbfs, 1 GiB", GB, false);
	guest_peer("hugetlbfs, 2 MiB", 2 * MB, false);
}

/* Row i: memory, in bytes.  Huge pages of the pool are not free pages. */

static uint64_t free_memory(void)
{
	char line[256], junk[64];
	uint64_t pages = 0;
	FILE *f;

	write_text("/proc/sys/vm/stat_refresh", "1");
	f = fopen("/proc/zoneinfo", "r");
	EXPECT(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long n;

		if (sscanf(line, " pages free %lu", &n) == 1 ||
		    sscanf(line, " count: %lu%1s", &n, junk) == 1)
			pages += n;
	}
	fclose(f);
	EXPECT(pages);
	return pages * PAGE;
}

static void memory_peak_gmem(void)
{
	int fd = create(GB, GB, 0);
	uint64_t before, least, free;

	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	before = least = free_memory();
	for (uint64_t at = 0; at < GB; at += REGION) {
		convert(fd, at, REGION, false);
		free = free_memory();
		least = free < least ? free : least;
	}
	tell("gmemfd", "more than the file, while 1 GiB converts by 2 MiB", GB, before - least);
	close(fd);
}

static void memory_peak_two_pool(size_t step)
{
	struct two_pool pool;
	uint64_t before, least, free;

	two_pool_open(&pool, GB, 0);
	memfd_allocate(pool.private, 0, GB);
	two_pool_attribute(&pool, 0, GB, true);
	before = least = free_memory();
	for (uint64_t at = 0; at < GB; at += step) {
		/* Contents are copied, so both are there for a while. */
		two_pool_attribute(&pool, at, step, false);
		memfd_allocate(pool.shared, at, step);
		free = free_memory();
		least = free < least ? free : least;
		memfd_punch(pool.private, at, step);
	}
	tell("two pools", step == GB ? "more than the file, while 1 GiB converts at once" :
	     "more than the file, while 1 GiB converts by 2 MiB", GB, before - least);
	two_pool_close(&pool);
}

static void memory_of_states(void)
{
	struct gmemfd_convert_range *ranges = calloc(65536, sizeof(*ranges));
	uint64_t before, unused = 0;
	int fd;

	touch((char *)ranges, 65536 * sizeof(*ranges));
	before = free_memory();
	fd = create(GB, GB, 0);
	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	tell("gmemfd", "metadata, all private", GB, before - free_memory());
	convert(fd, 8 * PAGE, PAGE, false);
	tell("gmemfd", "metadata, one page shared", GB, before - free_memory());
	for (unsigned int part = 0; part < 2; part++) {
		for (unsigned int i = 0; i < 65536; i++)
			ranges[i] = (struct gmemfd_convert_range) {
				.offset = (part * 65536UL + i) * 2 * PAGE, .size = PAGE,
			};
		EXPECT_EQ(gmem_convert_ranges(fd, ranges, 65536, &unused), 0);
	}
	tell("gmemfd", "metadata, every other page shared", GB, before - free_memory());
	convert(fd, 0, GB, false);
	tell("gmemfd", "metadata, all shared", GB, before - free_memory());
	free(ranges);
	close(fd);
}

/* The pool of 2 MiB pages is made anew, with HVO. */
static void memory_saved_by_hvo(void)
{
	const char *pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
	const char *hvo = "/proc/sys/vm/hugetlb_optimize_vmemmap";
	uint64_t before;
	char text[32];
	long nr = pool(2 * MB, "nr_hugepages");
	int fd;

	EXPECT(nr >= 128);
	write_text(pages, "0");
	write_text(hvo, "1");
	write_text(pages, "128");
	EXPECT_EQ(pool(2 * MB, "nr_hugepages"), 128);
	fd = create(256 * MB, 2 * MB, 0);
	EXPECT_EQ(gmem_allocate(fd, 0, 256 * MB), 0);
	before = free_memory();
	convert(fd, 0, 256 * MB, false);
	tell("gmemfd", "saved by HVO while private", 256 * MB, before - free_memory());
	close(fd);
	write_text(pages, "0");
	write_text(hvo, "0");
	snprintf(text, sizeof(text), "%ld", nr);
	write_text(pages, text);
	EXPECT_EQ(pool(2 * MB, "nr_hugepages"), nr);
}

void row_memory(void)
{
	memory_peak_gmem();
	if (round_for_slow()) {
		memory_peak_two_pool(REGION);
		memory_peak_two_pool(GB);
	}
	memory_of_states();
	memory_saved_by_hvo();
}

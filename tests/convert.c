// SPDX-License-Identifier: GPL-2.0
/* Conversion: in place, whole or not at all, in folios as large as can be. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mount.h>

#include "lib.h"

static void convert_keeps_contents(size_t block)
{
	int fd = gmem_create(block, block, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, block);
	size_t at = block - 3 * PAGE;
	uint64_t pfn;

	EXPECT(fd >= 0);
	fill(p + at - PAGE, 3 * PAGE, 42);
	pfn = pfn_of(p + at);
	EXPECT_EQ(gmem_convert(fd, at, PAGE, true), 0);
	EXPECT_EQ(gmem_state(fd, at), 1);
	EXPECT_EQ(gmem_state(fd, at - PAGE), 0);
	EXPECT_EQ(gmem_state(fd, at + PAGE), 0);
	EXPECT(!can_read(p + at));
	EXPECT(!can_write(p + at));
	EXPECT(can_write(p + at - PAGE));
	EXPECT(can_write(p + at + PAGE));

	EXPECT_EQ(gmem_convert(fd, at, PAGE, false), 0);
	EXPECT(holds(p + at - PAGE, 3 * PAGE, 42));
	EXPECT_EQ(pfn_of(p + at), pfn);
}

TEST(convert_2m_keeps_contents)
{
	convert_keeps_contents(2 * MB);
}

TEST(convert_1g_keeps_contents)
{
	need_1g_blocks();
	convert_keeps_contents(GB);
}

TEST(convert_splits_only_where_needed)
{
	char *p;
	int fd;

	need_1g_blocks();
	fd = gmem_create(GB, GB, 0);
	p = gmem_map(fd, 0, GB);
	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 18);
	EXPECT_EQ(gmem_convert(fd, 4 * MB, PAGE, false), 0);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
	EXPECT_EQ(gmem_range(fd, 0).size, 4 * MB);
	EXPECT_EQ(gmem_range(fd, 4 * MB).folio_order, 0);
	EXPECT_EQ(gmem_range(fd, 4 * MB).size, PAGE);
	EXPECT_EQ(gmem_range(fd, 4 * MB + PAGE).folio_order, 0);
	EXPECT_EQ(gmem_range(fd, 4 * MB + PAGE).size, 2 * MB - PAGE);
	EXPECT_EQ(gmem_range(fd, 6 * MB).folio_order, 9);
	EXPECT(is_zero(p + 4 * MB, PAGE));
	fill(p + 4 * MB, PAGE, 1);

	/* Uniform again, either way: one folio again. */
	EXPECT_EQ(gmem_convert(fd, 4 * MB, PAGE, true), 0);
	EXPECT_EQ(gmem_range(fd, 4 * MB).folio_order, 9);
	EXPECT_EQ(gmem_range(fd, 0).size, GB);
	EXPECT_EQ(gmem_convert(fd, 4 * MB, MB, false), 0);
	EXPECT_EQ(gmem_range(fd, 4 * MB).folio_order, 0);
	EXPECT(holds(p + 4 * MB, PAGE, 1));
	EXPECT_EQ(gmem_convert(fd, 5 * MB, MB, false), 0);
	EXPECT_EQ(gmem_range(fd, 4 * MB).folio_order, 9);
	EXPECT(holds(p + 4 * MB, PAGE, 1));
}

TEST(shared_folio_is_mapped_by_pmd)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);

	p[5 * PAGE] = 1;
	EXPECT(smaps(p, "FilePmdMapped"));
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	EXPECT_EQ(p[5 * PAGE], 1);
	EXPECT(!smaps(p, "FilePmdMapped"));
}

/* To shared succeeds though a neighbour is pinned; the folios join later. */
TEST(convert_to_shared_ignores_references)
{
	int fd = gmem_create(2 * MB, 2 * MB, 0);
	char *p = gmem_map(fd, 0, 2 * MB);
	struct pin pin;

	EXPECT_EQ(gmem_convert(fd, 0, PAGE, false), 0);
	p[0] = 1;
	pin_io_uring(&pin, p, PAGE);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
	EXPECT_EQ(gmem_state(fd, MB), 0);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 0);
	EXPECT(can_write(p + MB));
	unpin(&pin);
	EXPECT(EVENTUALLY(!gmem_convert(fd, 0, 2 * MB, false) &&
			  gmem_range(fd, 0).folio_order == 9));
	EXPECT_EQ(p[0], 1);
}

TEST(convert_over_many_blocks)
{
	int fd = gmem_create(64 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 64 * MB);

	/* Every other block is a hole. */
	for (size_t at = 0; at < 64 * MB; at += 4 * MB)
		fill(p + at, 2 * MB, at);
	EXPECT_EQ(gmem_convert(fd, MB, 62 * MB, true), 0);
	EXPECT_EQ(gmem_state(fd, MB - PAGE), 0);
	EXPECT_EQ(gmem_state(fd, MB), 1);
	EXPECT_EQ(gmem_state(fd, 63 * MB - PAGE), 1);
	EXPECT_EQ(gmem_state(fd, 63 * MB), 0);
	EXPECT(can_read(p + MB - PAGE));
	EXPECT(!can_read(p + MB));
	EXPECT_EQ(gmem_convert(fd, 0, 64 * MB, false), 0);
	for (size_t at = 0; at < 64 * MB; at += 4 * MB) {
		EXPECT(holds(p + at, 2 * MB, at));
		EXPECT(is_zero(p + at + 2 * MB, 2 * MB));
	}
}

TEST(convert_before_allocation)
{
	char *p;
	int fd;

	need_1g_blocks();
	fd = gmem_create(GB, GB, 0);
	p = gmem_map(fd, 0, GB);
	EXPECT_EQ(gmem_convert(fd, 10 * PAGE, PAGE, false), 0);
	EXPECT_EQ(gmem_convert(fd, 512 * MB, 256 * MB, false), 0);
	EXPECT(!(gmem_range(fd, 0).flags & GMEMFD_RANGE_ALLOCATED));
	EXPECT(!can_read(p));
	EXPECT(is_zero(p + 10 * PAGE, PAGE));
	EXPECT(!can_read(p + 11 * PAGE));
	EXPECT(is_zero(p + 600 * MB, 2 * MB));
	EXPECT_EQ(gmem_range(fd, 600 * MB).folio_order, 9);
	EXPECT(!can_read(p + 768 * MB));
}

struct racer {
	int fd;
	char *p;
	volatile bool stop;
	unsigned long done, refused;
};

static void *toucher(void *arg)
{
	struct racer *r = arg;
	unsigned int i = 0;

	while (!r->stop)
		(void)*(volatile char *)(r->p + (i++ * 37 % 512) * PAGE);
	return NULL;
}

/* Faults, and nothing else, going on while pages convert: no false EAGAIN. */
TEST(convert_beside_faults)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	struct racer r = { .fd = fd, .p = gmem_map(fd, 0, 4 * MB) };
	pthread_t thread;

	EXPECT_EQ(pthread_create(&thread, NULL, toucher, &r), 0);
	for (int i = 0; i < 300; i++) {
		/* Unmaps the first block's pages again and again. */
		EXPECT_EQ(gmem_convert(fd, 2 * MB, 2 * MB, true), 0);
		EXPECT_EQ(madvise(r.p, 2 * MB, MADV_DONTNEED), 0);
		EXPECT_EQ(gmem_convert(fd, 2 * MB, PAGE, false), 0);
		EXPECT_EQ(gmem_convert(fd, 2 * MB, 2 * MB, false), 0);
	}
	r.stop = true;
	pthread_join(thread, NULL);
}

static void *converter(void *arg)
{
	struct racer *r = arg;

	for (unsigned int i = 0; i < 400; i++) {
		size_t at = (i * 7919 % 1024) * PAGE;
		size_t size = (1 + i % 60) * PAGE;

		if (at + size > 4 * MB)
			size = 4 * MB - at;
		if (gmem_convert(r->fd, at, size, i & 1)) {
			if (errno != EAGAIN)
				FAIL("convert: errno %d", errno);
			r->refused++;
		}
		r->done++;
	}
	return NULL;
}

TEST(convert_from_two_threads)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	struct racer r = { .fd = fd, .p = gmem_map(fd, 0, 4 * MB) };
	pthread_t threads[2];

	fill(r.p, 4 * MB, 5);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(pthread_create(&threads[i], NULL, converter, &r), 0);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(pthread_join(threads[i], NULL), 0);
	EXPECT_EQ(r.refused, 0);
	EXPECT_EQ(gmem_convert(fd, 0, 4 * MB, false), 0);
	EXPECT(holds(r.p, 4 * MB, 5));
}

#define TRACING	"/sys/kernel/tracing"
#define CALLS	TRACING "/events/csd/csd_function_entry/enable"

/*
 * Count what other CPUs have the second one do, by what it is if the kernel can tell.
 * Otherwise by interrupts, and some of them have other reasons.
 */
static void watch_other_cpu(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		test_skip("one CPU");
	if (mount("tracefs", TRACING, "tracefs", 0, NULL) && errno != EBUSY)
		return;
	if (access(CALLS, F_OK)) {
		umount(TRACING);
		return;
	}
	test_changes_direct_map();	/* what is on becomes a jump in the kernel's text */
	write_text(TRACING "/tracing_cpumask", "2");
	close(open(TRACING "/trace", O_WRONLY | O_TRUNC));
	write_text(CALLS, "1");
}

static void unwatch_other_cpu(void)
{
	if (access(CALLS, F_OK))
		return;
	write_text(CALLS, "0");
	write_text(TRACING "/tracing_cpumask", "3");
	umount(TRACING);
}

/* How often the second CPU has flushed for the first one. */
static long calls_to_other_cpu(void)
{
	bool traced = !access(CALLS, F_OK);
	FILE *f = fopen(traced ? TRACING "/trace" : "/proc/interrupts", "r");
	long first, nr = 0;
	char line[256];

	EXPECT(f);
	while (fgets(line, sizeof(line), f)) {
		if (traced)
			nr += strstr(line, "csd_function_entry:") && strstr(line, "flush");
		else if (sscanf(line, " CAL: %ld %ld", &first, &nr) == 2)
			break;
	}
	fclose(f);
	return nr;
}

static int compare_longs(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

static void *spin(void *arg)
{
	volatile bool *stop = arg;

	run_on_cpu(1);
	while (!*stop)
		;
	return NULL;
}

/*
 * A call that takes pages out of the direct map has all CPUs flush once, however
 * many pages there are; one that puts them back does not, nor one that changes
 * nothing.
 */
TEST(convert_flushes_once)
{
	static const struct {
		uint64_t size, step;
		int nr;
		long to_shared, to_private;
	} cases[] = {
		/* All of it, in entries of 2 MiB. */
		{ 4 * MB, 4 * MB, 1, 0, 1 },
		/* Some, of tables that are made when the first is shared. */
		{ PAGE, 2 * PAGE, 1, 0, 1 },
		{ PAGE, 2 * PAGE, 64, 0, 1 },
		{ 3 * PAGE, MB, 4, 0, 1 },
	};
	enum { NR_ROUNDS = 11 };
	struct gmemfd_convert_range ranges[64];
	uint64_t unused = 0;
	bool stop = false;
	pthread_t thread;
	int fd;

	watch_other_cpu();
	run_on_cpu(0);
	/* A CPU that idles may see to what it is asked without an interrupt. */
	EXPECT_EQ(pthread_create(&thread, NULL, spin, &stop), 0);
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		long calls[3][NR_ROUNDS];

		for (int round = 0; round < NR_ROUNDS; round++) {
			fd = gmem_create(4 * MB, 2 * MB, 0);
			EXPECT_EQ(gmem_allocate(fd, 0, 4 * MB), 0);
			/* Breaking a block is another matter: HVO flushes then. */
			EXPECT_EQ(gmem_convert(fd, 0, 4 * MB, false), 0);
			EXPECT_EQ(gmem_convert(fd, 0, 4 * MB, true), 0);
			for (int step = 0; step < 3; step++) {
				long before = calls_to_other_cpu();

				for (int j = 0; j < cases[i].nr; j++)
					ranges[j] = (struct gmemfd_convert_range) {
						.offset = j * cases[i].step,
						.size = cases[i].size,
						.attributes = step ?
							GMEMFD_ATTRIBUTE_PRIVATE : 0,
					};
				EXPECT_EQ(gmem_convert_ranges(fd, ranges, cases[i].nr,
							      &unused), 0);
				calls[step][round] = calls_to_other_cpu() - before;
			}
			close(fd);
		}
		/*
		 * Others interrupt it as well, so that the least must not be too many;
		 * or have just done so, so that half may be too few.
		 */
		for (int step = 0; step < 3; step++) {
			long wanted = step == 2 ? 0 : step ? cases[i].to_private :
							     cases[i].to_shared;

			qsort(calls[step], NR_ROUNDS, sizeof(long), compare_longs);
			if (calls[step][0] > wanted || calls[step][NR_ROUNDS / 2] < wanted)
				FAIL("case %u, step %d: %ld to %ld flushes, not %ld", i, step,
				     calls[step][0], calls[step][NR_ROUNDS / 2], wanted);
		}
	}
	stop = true;
	pthread_join(thread, NULL);
	unwatch_other_cpu();
}

/*
 * Secret memory: one flush for a block that is allocated, or for 2 MiB that are touched,
 * and none between private and secret.  (Nobody has the pages mapped that become private.)
 */
TEST(secret_flushes_once)
{
	enum { ALLOCATE, TOUCH, TO_PRIVATE, TO_SECRET, NR_STEPS, NR_ROUNDS = 11 };
	static const long wanted[NR_STEPS] = { [ALLOCATE] = 1, [TOUCH] = 1 };
	long calls[NR_STEPS][NR_ROUNDS], before;
	bool stop = false;
	pthread_t thread;

	watch_other_cpu();
	run_on_cpu(0);
	EXPECT_EQ(pthread_create(&thread, NULL, spin, &stop), 0);
	for (int round = 0; round < NR_ROUNDS; round++) {
		int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
		char *p = gmem_map(fd, 0, 4 * MB);

		for (int step = 0; step < NR_STEPS; step++) {
			before = calls_to_other_cpu();
			if (step == ALLOCATE)
				EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
			else if (step == TOUCH)
				p[3 * MB] = 1;
			for (uint64_t at = 0; step >= TO_PRIVATE && at < MB; at += 3 * PAGE)
				EXPECT_EQ(gmem_convert_to(fd, at, PAGE, step == TO_PRIVATE ?
							  GMEMFD_ATTRIBUTE_PRIVATE :
							  GMEMFD_ATTRIBUTE_SECRET), 0);
			calls[step][round] = calls_to_other_cpu() - before;
		}
		munmap(p, 4 * MB);
		close(fd);
	}
	/* As in convert_flushes_once. */
	for (int step = 0; step < NR_STEPS; step++) {
		qsort(calls[step], NR_ROUNDS, sizeof(long), compare_longs);
		if (calls[step][0] > wanted[step] || calls[step][NR_ROUNDS / 2] < wanted[step])
			FAIL("step %d: %ld to %ld flushes, not %ld", step, calls[step][0],
			     calls[step][NR_ROUNDS / 2], wanted[step]);
	}
	stop = true;
	pthread_join(thread, NULL);
	unwatch_other_cpu();
}

struct exchange {
	int fd;
	uint64_t at;
	volatile bool stop;
};

/* Secret pages of 2 MiB become private and secret again. */
static void exchange(struct exchange *e, int times)
{
	for (int i = 0; i < times; i++) {
		uint64_t at = e->at + i % 512 * PAGE;

		EXPECT_EQ(gmem_convert_to(e->fd, at, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
		EXPECT_EQ(gmem_convert_to(e->fd, at, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
	}
}

static void *exchange_until_stopped(void *arg)
{
	struct exchange *e = arg;

	run_on_cpu(1);
	while (!e->stop)
		exchange(e, 64);
	return NULL;
}

/*
 * Two that unmap from one mm at the same time flush, whether there was something to unmap or
 * not.  So what nobody has touched is not unmapped.
 */
TEST(secret_untouched_converts_without_flush)
{
	struct exchange here = { .fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_SECRET) };
	struct exchange there = { .fd = here.fd, .at = 2 * MB };
	char *p = gmem_map(here.fd, 0, 4 * MB);
	enum { NR_ROUNDS = 11 };
	long calls[NR_ROUNDS];
	pthread_t thread;

	EXPECT_EQ(gmem_allocate(here.fd, 0, 4 * MB), 0);
	watch_other_cpu();
	run_on_cpu(0);
	EXPECT_EQ(pthread_create(&thread, NULL, exchange_until_stopped, &there), 0);
	for (int round = 0; round < NR_ROUNDS; round++) {
		long before = calls_to_other_cpu();

		exchange(&here, 1000);
		calls[round] = calls_to_other_cpu() - before;
	}
	there.stop = true;
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	unwatch_other_cpu();
	/* Others may have it flush, too; and for a while one of the two may not get to run. */
	qsort(calls, NR_ROUNDS, sizeof(long), compare_longs);
	EXPECT_EQ(calls[NR_ROUNDS / 2], 0);
	munmap(p, 4 * MB);
	close(here.fd);
}

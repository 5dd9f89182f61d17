// SPDX-License-Identifier: GPL-2.0
/*
 * Failure at every allocation: each call is made with its first, second, ...
 * allocation failing until it gets through, and leaves everything as it was
 * each time it fails.  Needs the debug kernel.
 */
#define _GNU_SOURCE
#include <sys/syscall.h>

#include "lib.h"

#define MAX_RANGES	64

static int fail_nth_fd = -1;

void faults_set_up(void)
{
	fail_nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	if (fail_nth_fd < 0)
		test_skip("no fault injection in this kernel");
	write_text("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	write_text("/sys/kernel/debug/failslab/verbose", "0");
	write_text("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	write_text("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	write_text("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	write_text("/sys/kernel/debug/fail_usercopy/verbose", "0");
}

void faults_arm(int nth)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", nth);
	if (pwrite(fail_nth_fd, text, strlen(text), 0) < 0)
		FAIL("fail-nth: errno %d", errno);
}

bool faults_fired(void)
{
	char text[16] = "";
	/* What is left may hit this very read: then it had not hit before. */
	bool yes = pread(fail_nth_fd, text, sizeof(text) - 1, 0) > 0 &&
		   atoi(text) == 0;

	while (pwrite(fail_nth_fd, "0", 1, 0) < 0)
		;
	return yes;
}

struct snapshot {
	struct gmemfd_range ranges[MAX_RANGES];
	unsigned int nr;
	long available, resv;
};

static void look(int fd, uint64_t size, struct snapshot *s)
{
	struct gmemfd_get_ranges get = {
		.end = size, .ranges = (uintptr_t)s->ranges, .nr_ranges = MAX_RANGES,
	};

	memset(s, 0, sizeof(*s));
	EXPECT_EQ(ioctl(fd, GMEMFD_GET_RANGES, &get), 0);
	EXPECT_EQ(get.offset, size);
	s->nr = get.nr_ranges;
	s->available = pool(2 * MB, "free_hugepages");
	s->resv = pool(2 * MB, "resv_hugepages");
}

/*
 * States and counters must not change with a failure.  Folios may be smaller
 * than before, and regions may be zeroed: neither can be told from inside.
 */
static void expect_same(const struct snapshot *a, const struct snapshot *b,
			uint64_t size, int nth)
{
	unsigned int i = 0, j = 0;

	for (uint64_t at = 0; at < size; at += PAGE) {
		while (at >= a->ranges[i].offset + a->ranges[i].size)
			i++;
		while (at >= b->ranges[j].offset + b->ranges[j].size)
			j++;
		if ((a->ranges[i].flags ^ b->ranges[j].flags) & GMEMFD_RANGE_PRIVATE)
			FAIL("failure %d changed the state at %#llx", nth,
			     (unsigned long long)at);
	}
}

/* Let the nth allocation of one call fail, for all n; returns how many. */
#define WALK(fd, size, call)						\
	({								\
		struct snapshot before, after;				\
		int nth, failures = 0;					\
		for (nth = 1; nth < 500; nth++) {			\
			long ret;					\
			int err;					\
			bool hit;					\
			look(fd, size, &before);			\
			faults_arm(nth);					\
			ret = (call);					\
			err = errno;					\
			hit = faults_fired();					\
			if (!ret && !hit)				\
				break;					\
			if (!ret)	/* coped without it */		\
				break;					\
			failures++;					\
			if (err != ENOMEM && err != ENOSPC && err != EFAULT) \
				FAIL("failure %d: errno %d", nth, err);	\
			look(fd, size, &after);				\
			expect_same(&before, &after, size, nth);	\
		}							\
		EXPECT(nth < 500);					\
		failures;						\
	})

TEST(faults_create)
{
	struct gmemfd_create create = {
		.size = 8 * MB, .block_size = 2 * MB, .flags = GMEMFD_CREATE_INIT_SHARED,
	};
	long resv = pool(2 * MB, "resv_hugepages");
	int device = gmem_device(), nth, fd = -1, failures = 0;

	faults_set_up();
	for (nth = 1; nth < 100; nth++) {
		bool hit;
		int err;

		faults_arm(nth);
		fd = ioctl(device, GMEMFD_CREATE, &create);
		err = errno;
		hit = faults_fired();
		if (fd >= 0 && !hit)
			break;
		if (fd >= 0) {		/* coped without that allocation */
			close(fd);
			continue;
		}
		EXPECT(hit);
		EXPECT(err == ENOMEM || err == ENFILE || err == EFAULT);
		EXPECT_EQ(pool(2 * MB, "resv_hugepages"), resv);
		failures++;
	}
	EXPECT(fd >= 0);
	EXPECT(failures >= 3);
	printf("# %d failures survived\n", failures);
}

static void walk_conversions(size_t block)
{
	int fd, n = 0;
	char *p;

	faults_set_up();
	fd = gmem_create(block, block, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(fd, 0, block);
	n += WALK(fd, block, gmem_allocate(fd, 0, 2 * MB));
	fill(p, 2 * MB, 3);
	/* Bitmap, direct map split, then the way back and all over. */
	n += WALK(fd, block, gmem_convert(fd, PAGE, PAGE, true));
	n += WALK(fd, block, gmem_convert(fd, 8 * PAGE, MB, true));
	n += WALK(fd, block, gmem_punch(fd, 16 * PAGE, PAGE));
	n += WALK(fd, block, gmem_convert(fd, 16 * PAGE, 2 * PAGE, false));
	n += WALK(fd, block, gmem_convert(fd, 0, block, true));
	n += WALK(fd, block, gmem_convert(fd, 3 * PAGE, PAGE, false));
	n += WALK(fd, block, gmem_convert(fd, 0, block, false));
	EXPECT(holds(p, 16 * PAGE, 3));
	EXPECT(is_zero(p + 16 * PAGE, PAGE));
	EXPECT(holds(p + 17 * PAGE, 2 * MB - 17 * PAGE, 3 + 17 * 512));
	printf("# %d failures survived\n", n);
	EXPECT(n >= 4);
}

TEST(faults_convert_2m)
{
	walk_conversions(2 * MB);
}

TEST(faults_convert_1g)
{
	walk_conversions(GB);
}

/* From a private block that hugetlb's folio still is. */
TEST(faults_break_block)
{
	int fd, n;

	faults_set_up();
	fd = gmem_create(4 * MB, 2 * MB, 0);
	n = WALK(fd, 4 * MB, gmem_allocate(fd, 0, 4 * MB));
	n += WALK(fd, 4 * MB, gmem_convert(fd, MB, 2 * MB, false));
	n += WALK(fd, 4 * MB, gmem_convert(fd, 0, 4 * MB, true));
	printf("# %d failures survived\n", n);
	EXPECT(n >= 3);
}

/* A fault that cannot get memory for bookkeeping is retried, not fatal. */
TEST(faults_touch)
{
	int fd, nth;
	char *p;

	faults_set_up();
	for (nth = 1; nth < 40; nth++) {
		fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
		p = gmem_map(fd, 0, 2 * MB);
		faults_arm(nth);
		/* A system call's fault is an error, not an OOM kill. */
		long ret = syscall(__NR_getrandom, p, 8, 1);

		faults_fired();
		EXPECT(ret == 8 || ret == -1);
		EXPECT_EQ(gmem_state(fd, 0), 0);
		EXPECT(can_write(p));
		munmap(p, 2 * MB);
		close(fd);
	}
}

static int ask_info(void)
{
	struct gmemfd_info info = { };
	int device = open("/dev/gmemfd", O_RDWR), ret, err;

	if (device < 0)
		return -1;
	ret = ioctl(device, GMEMFD_GET_INFO, &info);
	err = errno;
	close(device);
	errno = err;
	return ret;
}

static int ask_ranges(int fd)
{
	struct gmemfd_range ranges[8];
	struct gmemfd_get_ranges get = {
		.end = 4 * MB, .ranges = (uintptr_t)ranges, .nr_ranges = 8,
	};

	return ioctl(fd, GMEMFD_GET_RANGES, &get);
}

TEST(faults_queries)
{
	int fd, n;

	faults_set_up();
	fd = gmem_create(4 * MB, 2 * MB, 0);
	EXPECT_EQ(gmem_convert(fd, MB, 2 * MB, false), 0);
	n = WALK(fd, 4 * MB, ask_info());
	n += WALK(fd, 4 * MB, ask_ranges(fd));
	printf("# %d failures survived\n", n);
	EXPECT(n >= 5);
}

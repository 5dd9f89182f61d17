// SPDX-License-Identifier: GPL-2.0
/*
 * Failure at every allocation: each call is made with its first, second, ...
 * allocation failing until it gets through, and leaves everything as it was
 * each time it fails.  Needs the debug kernel.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

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
	memset(s, 0, sizeof(*s));
	s->nr = gmem_ranges(fd, size, s->ranges, MAX_RANGES);
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
	/* What a block takes comes out of the file's reservation. */
	if (a->available - a->resv != b->available - b->resv)
		FAIL("failure %d: %ld free and %ld reserved pages, were %ld and %ld",
		     nth, b->available, b->resv, a->available, a->resv);
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

/* A file with a name: it is made, gets its size, and gives an fd for mmap() alone. */
TEST(faults_named_file)
{
	struct gmemfd_open_map arg = {};
	int fd = -1, map = -1, failures = 0, nth;
	struct statfs before, after;
	long resv;

	faults_set_up();
	mkdir("/tmp/gmem", 0755);
	EXPECT_EQ(mount("none", "/tmp/gmem", "gmemfd", 0, "size=8M,nr_inodes=4"), 0);
	EXPECT_EQ(statfs("/tmp/gmem", &before), 0);
	resv = pool(2 * MB, "resv_hugepages");
	for (nth = 1; nth < 200; nth++) {
		bool hit;

		faults_arm(nth);
		fd = open("/tmp/gmem/vm", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd >= 0 && !ftruncate(fd, 4 * MB))
			map = ioctl(fd, GMEMFD_OPEN_MAP, &arg);
		hit = faults_fired();
		if (map >= 0 && !hit)
			break;
		failures += map < 0;
		close(map);
		close(fd);
		unlink("/tmp/gmem/vm");
		map = -1;
		EXPECT_EQ(statfs("/tmp/gmem", &after), 0);
		EXPECT_EQ(after.f_bfree, before.f_bfree);
		EXPECT_EQ(after.f_ffree, before.f_ffree);
		EXPECT_EQ(pool(2 * MB, "resv_hugepages"), resv);
	}
	EXPECT(map >= 0);
	EXPECT(failures >= 5);
	printf("# %d failures survived\n", failures);
	close(map);
	close(fd);
	EXPECT_EQ(umount("/tmp/gmem"), 0);

	/* And the mount itself. */
	for (nth = 1; nth < 200; nth++) {
		bool done, hit;

		faults_arm(nth);
		done = !mount("none", "/tmp/gmem", "gmemfd", 0, "state=secret,size=8M");
		hit = faults_fired();
		if (done)
			EXPECT_EQ(umount("/tmp/gmem"), 0);
		if (done && !hit)
			break;
	}
	EXPECT(nth > 5 && nth < 200);
}

static void walk_conversions(size_t block, uint64_t flags)
{
	int fd, n = 0;
	char *p;

	faults_set_up();
	fd = gmem_create(block, block, GMEMFD_CREATE_INIT_SHARED | flags);
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
	walk_conversions(2 * MB, 0);
}

TEST(faults_convert_1g)
{
	need_1g_blocks();
	walk_conversions(GB, 0);
}

TEST(faults_convert_small_shared)
{
	walk_conversions(2 * MB, GMEMFD_CREATE_SMALL_SHARED);
}

/* What /proc/kcore reads by the direct map are other pages' zeros where it has none. */
static bool in_direct_map(uint64_t frame)
{
	char buf[PAGE];

	return read_kcore(frame * PAGE, buf, PAGE) == (long)PAGE && !is_zero(buf, PAGE);
}

/*
 * Both directions at once, over a hole, an unbroken block, a mixed one and
 * whole ones, and with contents looked at after each failure.
 */
TEST(faults_convert_ranges)
{
	enum { HOLE = 0, UNBROKEN = 1, MIXED = 2, SHARED = 3, PRIVATE = 4, NR };
	const uint64_t b = 2 * MB, private = GMEMFD_ATTRIBUTE_PRIVATE;
	const struct gmemfd_convert_range ranges[] = {
		{ HOLE * b + PAGE, PAGE, 0 },
		{ HOLE * b + MB, PAGE, 0 },
		{ UNBROKEN * b + 3 * PAGE, 2 * PAGE, 0 },
		{ MIXED * b, PAGE, private },
		{ MIXED * b + MB, PAGE, 0 },
		{ SHARED * b + 5 * PAGE, PAGE, private },
		{ SHARED * b + 9 * PAGE, PAGE, private },
		{ PRIVATE * b, b, 0 },
	};
	const int nr = sizeof(ranges) / sizeof(*ranges);
	struct snapshot before, after;
	uint64_t at = 1, frames[NR];
	int fd, nth, failures = 0;
	bool hit;
	char *p;

	faults_set_up();
	for (nth = 1; nth < 300; nth++) {
		fd = gmem_create(NR * b, b, 0);
		p = gmem_map(fd, 0, NR * b);
		EXPECT_EQ(gmem_allocate(fd, UNBROKEN * b, b), 0);
		EXPECT_EQ(gmem_convert(fd, MIXED * b, 3 * b, false), 0);
		fill(p + MIXED * b, 3 * b, 7);
		for (int i = MIXED; i <= PRIVATE; i++)
			frames[i] = pfn_of(p + i * b);
		EXPECT_EQ(gmem_convert(fd, MIXED * b + MB, MB, true), 0);
		EXPECT_EQ(gmem_convert(fd, PRIVATE * b, b, true), 0);

		look(fd, NR * b, &before);
		faults_arm(nth);
		int ret = gmem_convert_ranges(fd, ranges, nr, &at);

		hit = faults_fired();
		look(fd, NR * b, &after);
		if (ret) {
			EXPECT(hit);
			expect_same(&before, &after, NR * b, nth);
			EXPECT(holds(p + MIXED * b, MB, 7));
			EXPECT(holds(p + SHARED * b, b, 7 + b / 8));
			EXPECT(!can_read(p + PRIVATE * b));
			EXPECT(!can_read(p + UNBROKEN * b + 3 * PAGE));
			EXPECT(in_direct_map(frames[MIXED]));
			EXPECT(!in_direct_map(frames[MIXED] + MB / PAGE));
			EXPECT(in_direct_map(frames[SHARED] + 5));
			EXPECT(in_direct_map(frames[SHARED] + 9));
			EXPECT(!in_direct_map(frames[PRIVATE]));
			EXPECT_EQ(gmem_convert_ranges(fd, ranges, nr, &at), 0);
			failures++;
		}
		EXPECT(!can_read(p + SHARED * b + 9 * PAGE));
		EXPECT_EQ(gmem_convert(fd, 0, NR * b, false), 0);
		EXPECT(is_zero(p, MIXED * b));
		EXPECT(holds(p + MIXED * b, 3 * b, 7));
		munmap(p, NR * b);
		close(fd);
		if (!hit)
			break;
	}
	EXPECT(nth < 300);
	printf("# %d failures survived\n", failures);
	EXPECT(failures >= 8);
}

static struct pin waited_for;

static void *unpin_soon(void *arg)
{
	(void)arg;
	usleep(20000);
	unpin(&waited_for);
	return NULL;
}

TEST(faults_convert_wait)
{
	int fd, nth, failures = 0;
	bool hit = true;
	char *p;

	faults_set_up();
	for (nth = 1; hit && nth < 100; nth++) {
		uint64_t at = 0, timeout = ~0ULL;
		pthread_t thread;

		fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
		p = gmem_map(fd, 0, 2 * MB);
		fill(p, 2 * MB, 7);
		pin_io_uring(&waited_for, p + MB, PAGE);
		EXPECT_EQ(pthread_create(&thread, NULL, unpin_soon, NULL), 0);
		faults_arm(nth);
		int ret = gmem_convert_wait(fd, PAGE, PAGE, &timeout, &at);

		hit = faults_fired();
		EXPECT_EQ(gmem_state(fd, PAGE), !ret);
		if (ret) {
			EXPECT(hit);
			EXPECT(holds(p, 2 * MB, 7));
			failures++;
		}
		EXPECT_EQ(pthread_join(thread, NULL), 0);
		munmap(p, 2 * MB);
		close(fd);
	}
	EXPECT(!hit);
	printf("# %d failures survived\n", failures);
	EXPECT(failures >= 2);
}

/* Punching, a part and all of a block, and pages that are held meanwhile. */
TEST(faults_punch)
{
	const uint64_t size = 4 * MB;
	int fd, nth, failures = 0;
	struct snapshot before, after;
	bool hit = true;
	char *p;

	faults_set_up();
	for (nth = 1; hit && nth < 200; nth++) {
		long available = pool(2 * MB, "free_hugepages");
		struct pin pin;

		fd = gmem_create(size, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
		p = gmem_map(fd, 0, size);
		fill(p, size, 7);
		EXPECT_EQ(gmem_convert(fd, MB, 2 * MB, true), 0);
		pin_io_uring(&pin, p + 3 * MB + 8 * PAGE, PAGE);
		look(fd, size, &before);
		faults_arm(nth);
		int ret = gmem_punch(fd, 16 * PAGE, size - 16 * PAGE);

		hit = faults_fired();
		look(fd, size, &after);
		EXPECT(holds(p, 16 * PAGE, 7));
		if (ret) {
			EXPECT(hit);
			EXPECT_EQ(errno, ENOMEM);
			expect_same(&before, &after, size, nth);
			failures++;
			EXPECT_EQ(gmem_punch(fd, 16 * PAGE, size - 16 * PAGE), 0);
		}
		EXPECT(!(gmem_range(fd, 2 * MB).flags & GMEMFD_RANGE_ALLOCATED));
		unpin(&pin);
		EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == available - 1));
		EXPECT_EQ(gmem_convert(fd, 0, size, false), 0);
		EXPECT(holds(p, 16 * PAGE, 7));
		EXPECT(is_zero(p + 16 * PAGE, size - 16 * PAGE));
		munmap(p, size);
		close(fd);
	}
	EXPECT(!hit);
	printf("# %d failures survived\n", failures);
	EXPECT(failures >= 1);
}

/* The last close cannot fail: whatever it cannot get it does without. */
static void walk_close(size_t block)
{
	bool hit = true;
	int nth;

	faults_set_up();
	for (nth = 1; hit && nth < 200; nth++) {
		long available = pool(block, "free_hugepages");
		int fd = gmem_create(block, block, GMEMFD_CREATE_INIT_SHARED);
		char *p = gmem_map(fd, 0, block);
		struct pin pin;

		fill(p, 2 * MB, 7);
		EXPECT_EQ(gmem_convert(fd, PAGE, MB, true), 0);
		EXPECT_EQ(gmem_punch(fd, 8 * PAGE, PAGE), 0);
		pin_io_uring(&pin, p, PAGE);
		munmap(p, block);
		faults_arm(nth);
		close(fd);
		hit = faults_fired();
		unpin(&pin);
		EXPECT(EVENTUALLY(pool(block, "free_hugepages") == available));
	}
	EXPECT(!hit);
	printf("# %d failures survived\n", nth - 2);
}

TEST(faults_close_2m)
{
	walk_close(2 * MB);
}

TEST(faults_close_1g)
{
	need_1g_blocks();
	walk_close(GB);
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
static void touch_in_file(uint64_t create_flags, uint32_t state)
{
	int fd, nth;
	char *p;

	faults_set_up();
	for (nth = 1; nth < 40; nth++) {
		fd = gmem_create(2 * MB, 2 * MB, create_flags);
		p = gmem_map(fd, 0, 2 * MB);
		faults_arm(nth);
		/* A system call's fault is an error, not an OOM kill. */
		long ret = syscall(__NR_getrandom, p, 8, 1);

		faults_fired();
		EXPECT(ret == 8 || ret == -1);
		EXPECT_EQ(gmem_range(fd, 0).flags & (GMEMFD_RANGE_PRIVATE | GMEMFD_RANGE_SECRET),
			  state);
		EXPECT(can_write(p));
		munmap(p, 2 * MB);
		close(fd);
	}
}

TEST(faults_touch)
{
	touch_in_file(GMEMFD_CREATE_INIT_SHARED, 0);
}

TEST(faults_touch_secret)
{
	touch_in_file(GMEMFD_CREATE_SECRET, GMEMFD_RANGE_SECRET);
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

/* All three states into each other in one call: all of it, or nothing. */
TEST(faults_convert_secret)
{
	enum { HOLE = 0, UNBROKEN = 1, MIXED = 2, SHARED = 3, NR };
	const uint64_t b = 2 * MB, private = GMEMFD_ATTRIBUTE_PRIVATE;
	const uint64_t secret = GMEMFD_ATTRIBUTE_SECRET;
	const struct gmemfd_convert_range ranges[] = {
		{ HOLE * b + PAGE, PAGE, private },
		{ HOLE * b + MB, PAGE, 0 },
		{ UNBROKEN * b + 3 * PAGE, 2 * PAGE, private },
		{ MIXED * b, PAGE, private },
		{ MIXED * b + 3 * PAGE, PAGE, 0 },
		{ MIXED * b + MB, PAGE, secret },
		{ SHARED * b + 5 * PAGE, PAGE, secret },
		{ SHARED * b + 9 * PAGE, PAGE, private },
	};
	const int nr = sizeof(ranges) / sizeof(*ranges);
	struct snapshot before, after;
	int fd, nth, failures = 0;
	uint64_t at = 1;
	bool hit;
	char *p;

	faults_set_up();
	for (nth = 1; nth < 300; nth++) {
		fd = gmem_create(NR * b, b, GMEMFD_CREATE_SECRET);
		p = gmem_map(fd, 0, NR * b);
		EXPECT_EQ(gmem_allocate(fd, UNBROKEN * b, b), 0);
		fill(p + MIXED * b, 2 * b, 7);
		EXPECT_EQ(gmem_convert(fd, SHARED * b, b, false), 0);
		EXPECT_EQ(gmem_convert(fd, MIXED * b + MB, PAGE, false), 0);

		look(fd, NR * b, &before);
		faults_arm(nth);
		int ret = gmem_convert_ranges(fd, ranges, nr, &at);

		hit = faults_fired();
		look(fd, NR * b, &after);
		if (ret) {
			EXPECT(hit);
			expect_same(&before, &after, NR * b, nth);
			EXPECT(holds(p + MIXED * b, 2 * b, 7));
			EXPECT_EQ(gmem_convert_ranges(fd, ranges, nr, &at), 0);
			failures++;
		}
		EXPECT(!can_read(p + MIXED * b) && can_write(p + MIXED * b + PAGE));
		EXPECT(!can_read(p + SHARED * b + 9 * PAGE) && can_read(p + SHARED * b + 5 * PAGE));
		EXPECT_EQ(gmem_convert_to(fd, 0, NR * b, secret), 0);
		munmap(p, NR * b);
		close(fd);
		if (!hit)
			break;
	}
	EXPECT(nth < 300);
	printf("# %d failures survived\n", failures);
	EXPECT(failures >= 5);
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

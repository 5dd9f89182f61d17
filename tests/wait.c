// SPDX-License-Identifier: GPL-2.0
/* Waiting for references, many ranges in one call, small shared folios. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "lib.h"

#define FOREVER	(~0ULL)
#define MSEC	1000000ULL

static volatile bool unpinned;

static void *unpin_soon(void *arg)
{
	usleep(200000);
	unpinned = true;
	unpin(arg);
	return NULL;
}

static void wait_until_unpinned(void (*pin_fn)(struct pin *, void *, size_t),
				uint64_t flags, uint64_t timeout)
{
	int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED | flags);
	char *p = gmem_map(fd, 0, 8 * MB);
	pthread_t thread;
	struct pin pin;
	uint64_t at = 1;

	fill(p, 8 * MB, 9);
	pin_fn(&pin, p + 3 * MB, 2 * PAGE);
	EXPECT_EQ(pthread_create(&thread, NULL, unpin_soon, &pin), 0);
	EXPECT_EQ(gmem_convert_wait(fd, MB, 6 * MB, &timeout, &at), 0);
	EXPECT(unpinned);
	EXPECT_EQ(at, 1);
	EXPECT_EQ(gmem_state(fd, 3 * MB), 1);
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(gmem_convert(fd, 0, 8 * MB, false), 0);
	EXPECT(holds(p, 8 * MB, 9));
}

TEST(convert_wait_io_uring)
{
	wait_until_unpinned(pin_io_uring, 0, FOREVER);
}

TEST(convert_wait_pipe)
{
	wait_until_unpinned(pin_pipe, 0, 1ULL << 62);
}

TEST(convert_wait_small_shared)
{
	wait_until_unpinned(pin_io_uring, GMEMFD_CREATE_SMALL_SHARED, 500000 * MSEC);
}

TEST(convert_wait_needs_no_waiting)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	uint64_t at = 1, timeout = 0;

	EXPECT_EQ(gmem_convert_wait(fd, 0, 2 * MB, &timeout, &at), 0);
	EXPECT_EQ(gmem_state(fd, 0), 1);
	EXPECT_EQ(at, 1);
}

TEST(convert_wait_times_out)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 4 * MB);
	const uint64_t timeouts[] = { 0, 1, 30 * MSEC };
	struct pin pin;

	fill(p, 4 * MB, 4);
	pin_io_uring(&pin, p + 3 * MB, PAGE);
	for (int i = 0; i < 3; i++) {
		uint64_t at = 1, timeout = timeouts[i];

		EXPECT_ERR(gmem_convert_wait(fd, PAGE, 4 * MB - PAGE, &timeout, &at),
			   ETIMEDOUT);
		EXPECT_EQ(at, 2 * MB);
		EXPECT_EQ(timeout, timeouts[i]);
		EXPECT_EQ(gmem_state(fd, PAGE), 0);
		EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
	}
	unpin(&pin);
	EXPECT(holds(p, 4 * MB, 4));
}

static void on_alarm(int signal)
{
	(void)signal;
}

TEST(convert_wait_ended_by_signal)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	/* SA_RESTART or not makes no difference. */
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval soon = { .it_value.tv_usec = 100000 };
	char *p = gmem_map(fd, 0, 4 * MB);
	uint64_t at = 1, timeout = FOREVER;
	struct pin pin;

	p[0] = 1;
	pin_pipe(&pin, p, PAGE);
	EXPECT_EQ(sigaction(SIGALRM, &sa, NULL), 0);
	EXPECT_EQ(setitimer(ITIMER_REAL, &soon, NULL), 0);
	EXPECT_ERR(gmem_convert_wait(fd, 0, 4 * MB, &timeout, &at), EINTR);
	EXPECT_EQ(at, 0);
	EXPECT(timeout == FOREVER);
	EXPECT_EQ(gmem_state(fd, 2 * MB), 0);

	at = 1;
	timeout = 3600000 * MSEC;
	EXPECT_EQ(setitimer(ITIMER_REAL, &soon, NULL), 0);
	EXPECT_ERR(gmem_convert_wait(fd, 0, 4 * MB, &timeout, &at), EINTR);
	EXPECT_EQ(at, 0);
	EXPECT(timeout < 3600000 * MSEC);
	EXPECT(timeout > 1800000 * MSEC);
	unpin(&pin);
}

struct waiter {
	int fd;
	int ret, err;
	uint64_t at, timeout;
	pthread_t thread;
};

static void *waiter(void *arg)
{
	struct waiter *w = arg;

	w->ret = gmem_convert_wait(w->fd, 0, 4 * MB, &w->timeout, &w->at);
	w->err = errno;
	return NULL;
}

/* While one waits all goes on: memory is used, and other ranges convert. */
TEST(convert_wait_holds_nobody_up)
{
	int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	struct waiter w = { .fd = fd, .timeout = FOREVER };
	char *p = gmem_map(fd, 0, 8 * MB);
	struct pin pin;

	fill(p, 8 * MB, 1);
	pin_io_uring(&pin, p, PAGE);
	EXPECT_EQ(pthread_create(&w.thread, NULL, waiter, &w), 0);
	usleep(100000);
	for (int i = 0; i < 20; i++) {
		/* In the range and out of it. */
		EXPECT_EQ(gmem_convert(fd, 4 * MB, 4 * MB, true), 0);
		EXPECT_EQ(gmem_convert(fd, 4 * MB, 4 * MB, false), 0);
		EXPECT_EQ(gmem_convert(fd, 2 * MB, MB, true), 0);
		EXPECT_EQ(gmem_state(fd, MB), 0);
		EXPECT_EQ(gmem_convert(fd, 2 * MB, MB, false), 0);
		/* By PMD as before; a try may have unmapped it just now. */
		EXPECT(EVENTUALLY(can_write(p + MB) && smaps(p, "FilePmdMapped") > 0));
		usleep(1000);
	}
	EXPECT(holds(p, 8 * MB, 1));
	unpin(&pin);
	EXPECT_EQ(pthread_join(w.thread, NULL), 0);
	EXPECT_EQ(w.ret, 0);
	EXPECT_EQ(gmem_state(fd, 0), 1);
	EXPECT_EQ(gmem_state(fd, 4 * MB), 0);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 * MSEC + ts.tv_nsec;
}

/*
 * The one who waits tries now and then, each time taking the memory from its users
 * for a moment: a fault for each try, one in 40 ms.
 */
TEST(convert_wait_tries_now_and_then)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	struct waiter w = { .fd = fd, .timeout = FOREVER };
	char *p = gmem_map(fd, 0, 4 * MB);
	struct rusage before, after;
	struct pin pin;
	uint64_t start;
	long faults;

	p[0] = 1;
	pin_io_uring(&pin, p, PAGE);
	EXPECT_EQ(pthread_create(&w.thread, NULL, waiter, &w), 0);
	start = now();
	EXPECT_EQ(getrusage(RUSAGE_THREAD, &before), 0);
	while (now() - start < 1000 * MSEC) {
		((volatile char *)p)[MB]++;
		usleep(200);
	}
	EXPECT_EQ(getrusage(RUSAGE_THREAD, &after), 0);
	faults = after.ru_minflt - before.ru_minflt;
	EXPECT(faults >= 3);
	EXPECT(faults <= 5 + (long)((now() - start) / (20 * MSEC)));
	unpin(&pin);
	EXPECT_EQ(pthread_join(w.thread, NULL), 0);
	EXPECT_EQ(w.ret, 0);
}

/* Short references */

static char *crowded;
static volatile bool crowd_goes;

static void *read_again_and_again(void *arg)
{
	char buf[4 * PAGE];
	struct iovec local = { buf, sizeof(buf) };
	struct iovec remote = { crowded + 100 * PAGE, sizeof(buf) };

	(void)arg;
	while (!crowd_goes)
		process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	return NULL;
}

/* There is always one who holds the folio for a short time, and never nobody. */
TEST(convert_wait_beside_short_references)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	pthread_t crowd[4], thread;
	struct pin pin;

	crowded = gmem_map(fd, 0, 2 * MB);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(pthread_create(&crowd[i], NULL, read_again_and_again, NULL), 0);
	for (int round = 0; round < 6; round++) {
		uint64_t timeout = 20000 * MSEC, at = 0;

		crowded[0] = 1;
		pin_pipe(&pin, crowded, PAGE);
		EXPECT_EQ(pthread_create(&thread, NULL, unpin_soon, &pin), 0);
		EXPECT_EQ(gmem_convert_wait(fd, 0, 2 * MB, &timeout, &at), 0);
		EXPECT_EQ(pthread_join(thread, NULL), 0);
		EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
	}
	crowd_goes = true;
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(pthread_join(crowd[i], NULL), 0);
}

/* What is waited for goes away with its memory. */
TEST(convert_wait_ended_by_punch)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	struct waiter w = { .fd = fd, .timeout = FOREVER };
	char *p = gmem_map(fd, 0, 4 * MB);
	struct pin pin;

	fill(p, 4 * MB, 1);
	pin_io_uring(&pin, p, PAGE);
	EXPECT_EQ(pthread_create(&w.thread, NULL, waiter, &w), 0);
	usleep(50000);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	EXPECT_EQ(pthread_join(w.thread, NULL), 0);
	EXPECT_EQ(w.ret, 0);
	EXPECT_EQ(gmem_state(fd, 0), 1);
	unpin(&pin);
}

TEST(convert_wait_ended_by_kill)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED), status;
	struct waiter w = { .fd = fd, .timeout = FOREVER };
	char *p = gmem_map(fd, 0, 4 * MB);
	struct pin pin;
	pid_t child;

	p[0] = 1;
	pin_io_uring(&pin, p, PAGE);
	child = fork();
	if (!child) {
		waiter(&w);
		_exit(0);
	}
	usleep(50000);
	EXPECT_EQ(kill(child, SIGKILL), 0);
	EXPECT_EQ(waitpid(child, &status, 0), child);
	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(gmem_state(fd, 0), 0);
	unpin(&pin);
}

/* Many ranges */

#define PRIVATE	GMEMFD_ATTRIBUTE_PRIVATE

TEST(convert_ranges_mixed)
{
	int fd = gmem_create(16 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	const struct gmemfd_convert_range ranges[] = {
		{ 9 * MB, 4 * MB, PRIVATE },		/* in no order */
		{ 0, PAGE, PRIVATE },			/* twice in one folio */
		{ 5 * PAGE, 20 * PAGE, PRIVATE },
		{ MB, PAGE, 0 },			/* is so already */
		{ 4 * MB + 7 * PAGE, 3 * PAGE, 0 },	/* in a private region */
		{ 4 * MB + 20 * PAGE, PAGE, 0 },
		{ 7 * MB, 2 * MB, PRIVATE },		/* over a hole */
	};
	char *p = gmem_map(fd, 0, 16 * MB);
	char expected[16 * MB / PAGE] = {};
	uint64_t at = 1;

	fill(p, 6 * MB, 1);
	fill(p + 8 * MB, 8 * MB, 1 + MB);
	EXPECT_EQ(gmem_convert(fd, 4 * MB, 2 * MB, true), 0);
	memset(expected + 4 * MB / PAGE, 1, 2 * MB / PAGE);
	EXPECT_EQ(gmem_convert_ranges(fd, ranges, 7, &at), 0);
	EXPECT_EQ(at, 1);
	for (int i = 0; i < 7; i++)
		memset(expected + ranges[i].offset / PAGE, !!ranges[i].attributes,
		       ranges[i].size / PAGE);
	for (unsigned int i = 0; i < sizeof(expected); i++) {
		/* Around each change, and now and then. */
		if (i % 64 && i >= 2 && expected[i] == expected[i - 2])
			continue;
		EXPECT_EQ(gmem_state(fd, i * PAGE), expected[i]);
		EXPECT_EQ(can_read(p + i * PAGE), !expected[i]);
	}
	EXPECT_EQ(gmem_range(fd, 10 * MB).folio_order, 9);
	EXPECT_EQ(gmem_convert(fd, 0, 16 * MB, false), 0);
	EXPECT(holds(p, 6 * MB, 1));
	EXPECT(is_zero(p + 6 * MB, 2 * MB));
	EXPECT(holds(p + 8 * MB, 8 * MB, 1 + MB));
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
}

/* One refused range refuses all, those to shared and those before it too. */
TEST(convert_ranges_all_or_none)
{
	int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	const struct gmemfd_convert_range ranges[] = {
		{ 0, MB, 0 }, { MB, PAGE, PRIVATE }, { MB + 2 * PAGE, PAGE, PRIVATE },
		{ 2 * MB, 2 * MB, PRIVATE },
		{ 4 * MB + 3 * PAGE, PAGE, PRIVATE }, { 5 * MB, PAGE, PRIVATE },
		{ 6 * MB, 2 * MB, 0 },
	};
	char *p = gmem_map(fd, 0, 8 * MB);
	struct pin pin;
	uint64_t at = 1;

	fill(p, 8 * MB, 1);
	EXPECT_EQ(gmem_convert(fd, 0, MB, true), 0);
	EXPECT_EQ(gmem_convert(fd, 6 * MB, 2 * MB, true), 0);
	pin_io_uring(&pin, p + 5 * MB + 100 * PAGE, PAGE);
	EXPECT_ERR(gmem_convert_ranges(fd, ranges, 7, &at), EAGAIN);
	EXPECT_EQ(at, 4 * MB + 3 * PAGE);
	EXPECT_EQ(gmem_state(fd, 0), 1);
	for (uint64_t i = 0; i < 8 * MB; i += 4 * PAGE)
		EXPECT_EQ(gmem_state(fd, i), i < MB || i >= 6 * MB);
	EXPECT(!can_read(p));
	EXPECT(holds(p + MB, 5 * MB, 1 + MB / 8));
	unpin(&pin);
	EXPECT_EQ(gmem_convert_ranges(fd, ranges, 7, &at), 0);
	EXPECT_EQ(gmem_convert(fd, 0, 8 * MB, false), 0);
	EXPECT(holds(p, 8 * MB, 1));
}

TEST(convert_ranges_every_other_page)
{
	unsigned int nr = GB / PAGE / 8, i;
	struct gmemfd_convert_range *ranges = calloc(nr, sizeof(*ranges));
	uint64_t at = 0;
	char *p;
	int fd;

	need_1g_blocks();
	fd = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(fd, 0, GB);
	fill(p, 2 * MB, 1);
	for (i = 0; i < nr; i++)
		ranges[i] = (struct gmemfd_convert_range) {
			(nr - 1 - i) * 8 * PAGE, PAGE, PRIVATE,
		};
	EXPECT_EQ(gmem_convert_ranges(fd, ranges, nr, &at), 0);
	for (i = 0; i < 512; i++)
		EXPECT_EQ(gmem_state(fd, i * PAGE), i % 8 == 0);
	EXPECT_EQ(gmem_state(fd, GB - 8 * PAGE), 1);
	/* In order now but for the last one. */
	for (i = 0; i < nr; i++)
		ranges[i] = (struct gmemfd_convert_range) {
			(i + 1) % nr * 8 * PAGE, PAGE, 0,
		};
	EXPECT_EQ(gmem_convert_ranges(fd, ranges, nr, &at), 0);
	EXPECT_EQ(gmem_range(fd, 0).size, 2 * MB);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
	EXPECT(holds(p, 2 * MB, 1));
}

TEST(convert_ranges_wait)
{
	int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	const struct gmemfd_convert_range ranges[] = {
		{ 4 * MB, MB, PRIVATE }, { 0, PAGE, PRIVATE },
	};
	struct gmemfd_convert_ranges arg = {
		.ranges = (uintptr_t)ranges, .nr_ranges = 2,
		.flags = GMEMFD_CONVERT_WAIT, .timeout = 10 * MSEC,
	};
	char *p = gmem_map(fd, 0, 8 * MB);
	pthread_t thread;
	struct pin pin;

	fill(p, 8 * MB, 1);
	pin_io_uring(&pin, p + 5 * MB, PAGE);
	EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT_RANGES, &arg), ETIMEDOUT);
	EXPECT_EQ(arg.error_offset, 4 * MB);
	EXPECT_EQ(gmem_state(fd, 0), 0);
	EXPECT_EQ(pthread_create(&thread, NULL, unpin_soon, &pin), 0);
	arg.timeout = FOREVER;
	EXPECT_EQ(ioctl(fd, GMEMFD_CONVERT_RANGES, &arg), 0);
	EXPECT(unpinned);
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(gmem_state(fd, 0), 1);
	EXPECT_EQ(gmem_state(fd, 4 * MB), 1);
}

static void ranges_refused(int fd, const struct gmemfd_convert_range *ranges,
			   unsigned int nr, int err)
{
	uint64_t at = 1;

	EXPECT_ERR(gmem_convert_ranges(fd, ranges, nr, &at), err);
	EXPECT_EQ(at, 1);
	EXPECT_EQ(gmem_range(fd, 0).size, 4 * MB);
}

TEST(convert_ranges_bad_input)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	const struct gmemfd_convert_range good[] = {
		{ 0, PAGE, PRIVATE }, { MB, PAGE, PRIVATE },
	};
	const struct gmemfd_convert_ranges arg = {
		.ranges = (uintptr_t)good, .nr_ranges = 2,
	};
	const struct gmemfd_convert_range bad_ranges[] = {
		{ 0, 2 * PAGE, PRIVATE },		/* overlaps */
		{ 0, PAGE, 0 },
		{ MB - PAGE, 4 * PAGE, 0 },
		{ 2 * MB, 0, PRIVATE },
		{ 2 * MB + 1, PAGE, PRIVATE },
		{ 2 * MB, PAGE + 1, PRIVATE },
		{ 4 * MB, PAGE, PRIVATE },
		{ 3 * MB, 2 * MB, PRIVATE },
		{ -PAGE, PAGE, PRIVATE },
		{ -PAGE, 2 * PAGE, PRIVATE },
		{ PAGE, -PAGE, PRIVATE },
		{ 2 * MB, PAGE, PRIVATE | 1 },
		{ 2 * MB, PAGE, 1ULL << 63 },
	};
	struct gmemfd_convert_range three[3] = { good[0], good[1] };
	struct gmemfd_convert_ranges bad;

	for (unsigned int i = 0; i < sizeof(bad_ranges) / sizeof(*bad_ranges); i++) {
		three[2] = bad_ranges[i];
		ranges_refused(fd, three, 3, EINVAL);
	}
	ranges_refused(fd, good, 0, EINVAL);
	ranges_refused(fd, good, GMEMFD_CONVERT_RANGES_MAX + 1, EINVAL);
	ranges_refused(fd, good, ~0U, EINVAL);
	ranges_refused(fd, (void *)8, 2, EFAULT);
	for (int bit = 1; bit < 64; bit++) {
		bad = arg;
		bad.flags = 1ULL << bit;
		EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT_RANGES, &bad), EINVAL);
	}
	for (int i = 0; i < 3; i++) {
		bad = arg;
		bad.reserved[i] = 1ULL << 63;
		EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT_RANGES, &bad), EINVAL);
	}
	bad = arg; bad.reserved0 = 1;
	EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT_RANGES, &bad), EINVAL);
	bad = arg; bad.timeout = 1;
	EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT_RANGES, &bad), EINVAL);
	EXPECT_ERR(ioctl(fd, GMEMFD_CONVERT_RANGES, (void *)8), EFAULT);
	EXPECT_ERR(ioctl(gmem_device(), GMEMFD_CONVERT_RANGES, &bad), ENOTTY);
	EXPECT_EQ(gmem_range(fd, 0).size, 4 * MB);
}

/* Small shared folios */

TEST(small_shared_folios)
{
	char *p;
	int fd;

	need_1g_blocks();
	fd = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED | GMEMFD_CREATE_SMALL_SHARED);
	p = gmem_map(fd, 0, GB);
	fill(p, 4 * MB, 1);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 0);
	EXPECT(!smaps(p, "FilePmdMapped"));
	/* Private memory is as large as ever. */
	EXPECT_EQ(gmem_convert(fd, 2 * MB, 2 * MB, true), 0);
	EXPECT_EQ(gmem_range(fd, 2 * MB).folio_order, 9);
	EXPECT_EQ(gmem_convert(fd, MB, 2 * MB, false), 0);
	EXPECT_EQ(gmem_range(fd, 2 * MB).folio_order, 0);
	EXPECT_EQ(gmem_convert(fd, 0, 4 * MB, false), 0);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 0);
	EXPECT_EQ(gmem_range(fd, 0).size, 4 * MB);
	EXPECT(holds(p, 4 * MB, 1));
	EXPECT_EQ(gmem_punch(fd, 0, GB), 0);
	EXPECT(is_zero(p, 4 * MB));
}

/* A reference holds back its page and no other. */
TEST(small_shared_pin_blocks_one_page)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED |
					     GMEMFD_CREATE_SMALL_SHARED);
	char *p = gmem_map(fd, 0, 4 * MB);
	struct pin pin;
	uint64_t at = 0;

	fill(p, 4 * MB, 1);
	pin_io_uring(&pin, p + MB, PAGE);
	EXPECT_ERR(gmem_convert_at(fd, 0, 4 * MB, true, &at), EAGAIN);
	EXPECT_EQ(at, MB);
	EXPECT_EQ(gmem_convert(fd, 0, MB, true), 0);
	EXPECT_EQ(gmem_convert(fd, MB + PAGE, 3 * MB - PAGE, true), 0);
	EXPECT_EQ(gmem_punch(fd, 0, 4 * MB), 0);
	unpin(&pin);
}

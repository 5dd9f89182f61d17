// SPDX-License-Identifier: GPL-2.0
/*
 * Memory errors: a block with a poisoned page is never handed out again.  What
 * is poisoned stays poisoned, so these tests have a boot of their own, with the
 * module hwpoison-inject.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>

#include "lib.h"

void poison(uint64_t pfn)
{
	char text[32];

	test_changes_direct_map();
	snprintf(text, sizeof(text), "%llu", (unsigned long long)pfn);
	/* Core mm cannot handle the page and says so; it is marked all the same. */
	int fd = open("/sys/kernel/debug/hwpoison/corrupt-pfn", O_WRONLY);

	EXPECT(fd >= 0);
	if (write(fd, text, strlen(text)) < 0)
		printf("# corrupt-pfn: errno %d\n", errno);
	close(fd);
}

/* Take all that the pool gives: none of it may be the poisoned block. */
static bool pool_is_short(uint64_t pfn)
{
	long nr = pool(2 * MB, "free_hugepages") - pool(2 * MB, "resv_hugepages");
	int fd = gmem_create(nr * 2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, nr * 2 * MB);
	long got = 0;

	for (long i = 0; i < nr; i++) {
		if (gmem_allocate(fd, i * 2 * MB, 2 * MB)) {
			EXPECT_EQ(errno, ENOSPC);
			continue;
		}
		got++;
		p[i * 2 * MB] = 1;
		EXPECT(pfn_of(p + i * 2 * MB) != (pfn & ~511UL));
	}
	EXPECT(got > 0);
	munmap(p, nr * 2 * MB);
	close(fd);
	return got < nr;
}

static void expect_parked(uint64_t pfn)
{
	EXPECT(pool_is_short(pfn));
}

static void poison_one(bool convert, bool split)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	uint64_t pfn;

	fill(p, 2 * MB, 3);
	pfn = pfn_of(p + 10 * PAGE);
	if (convert)
		EXPECT_EQ(gmem_convert(fd, 0, split ? MB : 2 * MB, true), 0);
	poison(pfn);
	for (int i = 0; i < 2; i++) {
		EXPECT(!can_read(p + 10 * PAGE));
		/* The healthy rest goes on. */
		EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
		EXPECT(!can_read(p + 10 * PAGE));
		EXPECT(holds(p, 10 * PAGE, 3));
		EXPECT(holds(p + 11 * PAGE, 2 * MB - 11 * PAGE, 3 + 11 * 512));
		EXPECT_EQ(gmem_range(fd, 0).folio_order, 0);
		EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
	}
	munmap(p, 2 * MB);
	close(fd);
	expect_parked(pfn);
}

TEST(poison_shared_page)
{
	poison_one(false, false);
}

TEST(poison_private_page)
{
	poison_one(true, false);
}

TEST(poison_page_of_mixed_region)
{
	poison_one(true, true);
}

static sigjmp_buf after_error;
static siginfo_t told;

static void on_error(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	told = *info;
	siglongjmp(after_error, 1);
}

static void catch_errors(void)
{
	struct sigaction sa = {
		.sa_sigaction = on_error, .sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	EXPECT_EQ(sigaction(SIGBUS, &sa, NULL), 0);
}

static void expect_told(const char *p)
{
	if (told.si_code != BUS_MCEERR_AR || told.si_addr != p ||
	    told.si_addr_lsb != 12)
		FAIL("code %d, address %p, not %p, lsb %d", told.si_code,
		     told.si_addr, p, told.si_addr_lsb);
	memset(&told, 0, sizeof(told));
}

static void touch_poisoned(const volatile char *p)
{
	if (!sigsetjmp(after_error, 1)) {
		catch_errors();
		(void)*p;
		FAIL("read a poisoned page");
	}
	expect_told((const char *)p);
}

static void inject_error(char *p)
{
	test_changes_direct_map();
	if (!sigsetjmp(after_error, 1)) {
		catch_errors();
		EXPECT_EQ(madvise(p, PAGE, MADV_HWPOISON), 0);
		FAIL("not told");
	}
	expect_told(p);
}

/* The error hits who has the page mapped; who touches it later is told too. */
static void process_is_told(size_t block, uint64_t flags)
{
	int fd = gmem_create(block, block, GMEMFD_CREATE_INIT_SHARED | flags);
	char *p = gmem_map(fd, 0, block), *bad = p + 300 * PAGE;
	uint64_t pfn;

	fill(p, 4 * MB < block ? 4 * MB : block, 3);
	pfn = pfn_of(bad);
	inject_error(bad);
	for (int i = 0; i < 2; i++) {
		touch_poisoned(bad);
		EXPECT_ERR(syscall(__NR_getrandom, bad, 8, 1), EFAULT);
		EXPECT(holds(p, 300 * PAGE, 3));
		EXPECT(holds(bad + PAGE, 2 * MB - 301 * PAGE, 3 + 301 * 512));
		EXPECT_EQ(gmem_convert(fd, 300 * PAGE, PAGE, true), 0);
		EXPECT_EQ(gmem_convert(fd, 300 * PAGE, PAGE, false), 0);
		EXPECT_EQ(gmem_range(fd, 0).folio_order, 0);
	}
	/* Punching does not make it healthy, nor does anything else. */
	EXPECT_EQ(gmem_punch(fd, 299 * PAGE, 3 * PAGE), 0);
	EXPECT(is_zero(p + 299 * PAGE, PAGE));
	EXPECT(is_zero(p + 301 * PAGE, PAGE));
	EXPECT(!can_read(bad));
	munmap(p, block);
	close(fd);
	if (block == 2 * MB)
		expect_parked(pfn);
}

TEST(poison_tells_process_2m)
{
	process_is_told(2 * MB, 0);
}

TEST(poison_tells_process_1g)
{
	need_1g_blocks();
	process_is_told(GB, 0);
}

TEST(poison_tells_process_small_shared)
{
	process_is_told(2 * MB, GMEMFD_CREATE_SMALL_SHARED);
}

/* While somebody holds the large folio it cannot be split around the page. */
TEST(poison_in_pinned_folio)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	struct pin pin;
	uint64_t pfn;

	fill(p, 2 * MB, 3);
	pfn = pfn_of(p + 7 * PAGE);
	pin_io_uring(&pin, p + MB, PAGE);
	poison(pfn);
	EXPECT(!can_read(p + 7 * PAGE));
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
	unpin(&pin);
	EXPECT(EVENTUALLY(can_read(p)));
	EXPECT(!can_read(p + 7 * PAGE));
	EXPECT(holds(p + 8 * PAGE, 2 * MB - 8 * PAGE, 3 + 8 * 512));
	munmap(p, 2 * MB);
	close(fd);
	expect_parked(pfn);
}

/* It has left the file already, and somebody holds it. */
TEST(poison_page_away)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	struct pin pin;
	uint64_t pfn;

	fill(p, 2 * MB, 3);
	pfn = pfn_of(p + 7 * PAGE);
	pin_pipe(&pin, p, PAGE);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	poison(pfn);
	unpin(&pin);
	munmap(p, 2 * MB);
	close(fd);
	expect_parked(pfn);
}

/* Never shared: a hugetlb folio still. */
TEST(poison_unbroken_block)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	uint64_t pfn;

	/* The next file gets the block that was last given back. */
	p[0] = 1;
	pfn = pfn_of(p);
	munmap(p, 2 * MB);
	close(fd);
	fd = gmem_create(2 * MB, 2 * MB, 0);
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
	poison(pfn + 9);
	p = gmem_map(fd, 0, 2 * MB);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
	EXPECT(!can_read(p + 9 * PAGE));
	EXPECT(is_zero(p, 9 * PAGE));
	EXPECT(is_zero(p + 10 * PAGE, 2 * MB - 10 * PAGE));
	munmap(p, 2 * MB);
	close(fd);
	expect_parked(pfn);
}

static void refill_pool(long nr)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", nr);
	write_text("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", text);
}

/* In the pool, nobody's: hugetlb itself takes the page out. */
TEST(poison_free_block)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	long nr = pool(2 * MB, "nr_hugepages");
	char *p = gmem_map(fd, 0, 2 * MB);
	uint64_t pfn;

	p[0] = 1;
	pfn = pfn_of(p);
	munmap(p, 2 * MB);
	close(fd);
	poison(pfn + 9);

	pool_is_short(pfn);
	refill_pool(nr);
}

static volatile bool stop_poisoning;

static void *convert_on(void *arg)
{
	int fd = *(int *)arg;

	while (!stop_poisoning) {
		for (size_t at = 0; at < 8 * MB; at += MB) {
			if (gmem_convert(fd, at, MB, true))
				EXPECT_EQ(errno, EAGAIN);
			EXPECT_EQ(gmem_convert(fd, at, MB, false), 0);
		}
		EXPECT_EQ(gmem_punch(fd, 6 * MB, 2 * MB), 0);
		if (gmem_allocate(fd, 6 * MB, 2 * MB))
			EXPECT_EQ(errno, ENOSPC);
	}
	return NULL;
}

/*
 * Errors, conversions, faults and punching at once.  The block that is punched may be
 * in the pool when an error comes; hugetlb takes it out then, and what is left of it
 * is anybody's.
 */
TEST(poison_beside_conversions)
{
	int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	long nr = pool(2 * MB, "nr_hugepages");
	char *p = gmem_map(fd, 0, 8 * MB);
	uint64_t frames[4];
	pthread_t thread;

	for (int i = 0; i < 4; i++) {
		p[i * 2 * MB] = 1;
		frames[i] = pfn_of(p + i * 2 * MB);
	}
	EXPECT_EQ(pthread_create(&thread, NULL, convert_on, &fd), 0);
	for (int i = 0; i < 40; i++) {
		if (i % 4 != 3 || pool(2 * MB, "nr_hugepages") == nr)
			poison(frames[i % 4] + i * 11);
		for (int j = 0; j < 4; j++)
			can_write(p + j * 2 * MB + i * 12 * PAGE);
	}
	stop_poisoning = true;
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	for (int i = 0; i < 40; i += 4)
		EXPECT(!can_read(p + i * 11 * PAGE));
	munmap(p, 8 * MB);
	close(fd);
	expect_parked(frames[0]);
	EXPECT(pool(2 * MB, "nr_hugepages") >= nr - 1);
	refill_pool(nr);
}

/* The direct map */

#define LEVEL_4K	1
#define PRESENT		16

static int entry(int dev, uint64_t pfn)
{
	return ask_put_test(dev, "entry %llx", (unsigned long long)pfn);
}

/* The handler of a machine check takes the page out; it does not come back. */
static void stays_out(size_t block, uint64_t flags)
{
	int fd = gmem_create(block, block, flags | GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, block);
	int dev = open_put_test();
	uint64_t pfn;

	fill(p, 2 * MB, 3);
	pfn = pfn_of(p + 7 * PAGE);
	EXPECT(entry(dev, pfn) & PRESENT);
	poison(pfn);
	tell_put_test(dev, "nospec %llx", (unsigned long long)pfn);
	EXPECT_EQ(entry(dev, pfn), LEVEL_4K);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
		EXPECT(!(entry(dev, pfn) & PRESENT));
		EXPECT_EQ(gmem_punch(fd, 6 * PAGE, 3 * PAGE), 0);
		EXPECT(!(entry(dev, pfn) & PRESENT));
		EXPECT_EQ(gmem_convert(fd, 0, block, false), 0);
		EXPECT_EQ(entry(dev, pfn), LEVEL_4K);
		/* Its neighbours do come back. */
		EXPECT(entry(dev, pfn - 1) & PRESENT);
		EXPECT(entry(dev, pfn + 1) & PRESENT);
		EXPECT(holds(p + 9 * PAGE, 2 * MB - 9 * PAGE, 3 + 9 * 512));
	}
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
	munmap(p, block);
	close(fd);
	EXPECT_EQ(entry(dev, pfn), LEVEL_4K);
	EXPECT(entry(dev, pfn + 1) & PRESENT);
	EXPECT(entry(dev, pfn - 7 + 511) & PRESENT);
	if (block == 2 * MB)
		expect_parked(pfn);
}

TEST(poison_stays_out_of_direct_map_2m)
{
	stays_out(2 * MB, 0);
}

TEST(poison_stays_out_of_direct_map_1g)
{
	need_1g_blocks();
	stays_out(GB, 0);
}

TEST(poison_stays_out_of_direct_map_small_shared)
{
	stays_out(2 * MB, GMEMFD_CREATE_SMALL_SHARED);
}

/* Private at the time, and out of the direct map as part of a large entry. */
TEST(poison_private_page_stays_out)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	int dev = open_put_test();
	uint64_t pfn;

	fill(p, 2 * MB, 3);
	pfn = pfn_of(p + 7 * PAGE);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
	poison(pfn);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
	EXPECT_EQ(entry(dev, pfn), LEVEL_4K);
	EXPECT(entry(dev, pfn + 1) & PRESENT);
	munmap(p, 2 * MB);
	close(fd);
	EXPECT_EQ(entry(dev, pfn), LEVEL_4K);
	expect_parked(pfn);
}

static void *close_it(void *arg)
{
	run_on_cpu(1);
	close(*(int *)arg);
	return NULL;
}

/*
 * The error comes while the block is put together, which is no time to look for it.  On a
 * busy host this CPU may find that the other one has gone on: another try.
 */
TEST(poison_beside_mending)
{
	long nr = pool(2 * MB, "nr_hugepages");
	int dev = open_put_test(), fd;
	enum delay state = GONE_ON;
	pthread_t thread;
	uint64_t pfn = 0;
	char *p;

	run_on_cpu(0);
	for (int i = 0; i < 10 && state != INSIDE; i++) {
		if (i)
			EXPECT_EQ(pthread_join(thread, NULL), 0);
		fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
		p = gmem_map(fd, 0, 2 * MB);
		fill(p, 2 * MB, 3);
		pfn = pfn_of(p + 7 * PAGE);
		munmap(p, 2 * MB);
		delay_in_kernel(dev, "init_new_hugetlb_folio");
		EXPECT_EQ(pthread_create(&thread, NULL, close_it, &fd), 0);
		EXPECT(EVENTUALLY((state = delayed(dev)) != NOT_YET));
	}
	EXPECT_EQ(state, INSIDE);
	poison(pfn);
	EXPECT_EQ(delayed(dev), GONE_ON);
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	/* hugetlb has been told: it keeps the block, or takes the page out of it. */
	if (pool(2 * MB, "nr_hugepages") == nr)
		expect_parked(pfn);
	else
		pool_is_short(pfn);
	refill_pool(nr);
}

// SPDX-License-Identifier: GPL-2.0
/* Holes, and the way home of memory that somebody still holds. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "lib.h"

TEST(punch_whole_block)
{
	long available = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 4 * MB);

	fill(p, 4 * MB, 3);
	EXPECT_EQ(gmem_convert(fd, 0, MB, true), 0);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available - 2);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available - 1);
	EXPECT(!(gmem_range(fd, 0).flags & GMEMFD_RANGE_ALLOCATED));
	/* The state stays, the contents do not, the neighbour is untouched. */
	EXPECT_EQ(gmem_state(fd, 0), 1);
	EXPECT_EQ(gmem_state(fd, MB), 0);
	EXPECT(is_zero(p + MB, MB));
	EXPECT(holds(p + 2 * MB, 2 * MB, 3 + 2 * MB / 8));
	EXPECT_EQ(gmem_convert(fd, 0, MB, false), 0);
	EXPECT(is_zero(p, MB));
}

TEST(punch_part_of_block)
{
	long available = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);

	fill(p, 2 * MB, 3);
	EXPECT_EQ(gmem_convert(fd, MB, MB, true), 0);
	/* Half in shared, half in private memory. */
	EXPECT_EQ(gmem_punch(fd, MB - PAGE, 2 * PAGE), 0);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available - 1);
	EXPECT_EQ(gmem_state(fd, MB - PAGE), 0);
	EXPECT_EQ(gmem_state(fd, MB), 1);
	EXPECT_EQ(gmem_convert(fd, MB, MB, false), 0);
	EXPECT(holds(p, MB - PAGE, 3));
	EXPECT(is_zero(p + MB - PAGE, 2 * PAGE));
	EXPECT(holds(p + MB + PAGE, MB - PAGE, 3 + (MB + PAGE) / 8));

	/* Page by page: with the last one the block goes. */
	for (size_t at = 0; at < 2 * MB; at += PAGE) {
		EXPECT_EQ(pool(2 * MB, "free_hugepages"), available - 1);
		EXPECT_EQ(gmem_punch(fd, at, PAGE), 0);
	}
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available);
}

/* What was touched again after its punch is not lost with the last page. */
TEST(punch_spares_what_was_touched)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);

	fill(p, 2 * MB, 3);
	EXPECT_EQ(gmem_punch(fd, 0, MB), 0);
	p[17] = 99;
	EXPECT_EQ(gmem_punch(fd, MB, MB), 0);
	EXPECT_EQ(p[17], 99);
	EXPECT(gmem_range(fd, 0).flags & GMEMFD_RANGE_ALLOCATED);
}

TEST(punch_hole_is_nothing)
{
	int fd = gmem_create(4 * MB, 2 * MB, 0);

	EXPECT_EQ(gmem_punch(fd, 0, 4 * MB), 0);
	EXPECT_EQ(gmem_punch(fd, PAGE, PAGE), 0);
}

TEST(madvise_remove_punches)
{
	long available = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);

	p[0] = 1;
	EXPECT_EQ(madvise(p, 2 * MB, MADV_REMOVE), 0);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available);
	EXPECT_EQ(p[0], 0);
}

/* 512 folios of a block come home one by one. */
TEST(many_folios_come_home)
{
	long available = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	struct iovec iov = { p + PAGE, 500 * PAGE };
	static char buf[PAGE];
	int pipes[2];

	fill(p, 2 * MB, 3);
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	EXPECT_EQ(pipe(pipes), 0);
	EXPECT(fcntl(pipes[1], F_SETPIPE_SZ, MB * 4) > 0);
	EXPECT_EQ(vmsplice(pipes[1], &iov, 1, 0), 500 * (long)PAGE);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	for (int i = 1; i < 500; i++)
		EXPECT_EQ(read(pipes[0], buf, PAGE), (long)PAGE);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available - 1);
	close(pipes[0]);
	close(pipes[1]);
	EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == available));
}

/* A page given away by its holder is not taken for an ownerless one. */
TEST(gifted_page_after_close)
{
	long available = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	int pipes[2], file = open("/tmp/gift", O_RDWR | O_CREAT, 0600);
	char *p = gmem_map(fd, 0, 2 * MB);
	struct iovec iov = { p, PAGE };

	fill(p, 2 * MB, 3);
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, true), 0);
	EXPECT_EQ(pipe(pipes), 0);
	EXPECT_EQ(vmsplice(pipes[1], &iov, 1, SPLICE_F_GIFT), (long)PAGE);
	munmap(p, 2 * MB);
	close(fd);
	EXPECT_EQ(splice(pipes[0], NULL, file, NULL, PAGE, SPLICE_F_MOVE), (long)PAGE);
	EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == available));
	close(file);
	unlink("/tmp/gift");
}

TEST(killed_owner_leaves_nothing)
{
	long available = pool(2 * MB, "free_hugepages");

	for (int round = 0; round < 20; round++) {
		int ready[2], status;
		char c;
		pid_t pid;

		EXPECT_EQ(pipe(ready), 0);
		pid = fork();
		if (!pid) {
			int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
			char *p = gmem_map(fd, 0, 8 * MB);

			if (write(ready[1], "", 1) != 1)
				_exit(1);
			for (unsigned int i = 0;; i++) {
				can_write(p + i % 2048 * PAGE);
				gmem_convert(fd, i * 31 % 2040 * PAGE, 8 * PAGE, i & 1);
				if (i % 50 == 0)
					gmem_punch(fd, i % 4 * 2 * MB, 2 * MB);
			}
		}
		EXPECT_EQ(read(ready[0], &c, 1), 1);
		usleep(round * 3000);
		kill(pid, SIGKILL);
		EXPECT_EQ(waitpid(pid, &status, 0), pid);
		EXPECT_EQ(pool(2 * MB, "free_hugepages"), available);
		close(ready[0]);
		close(ready[1]);
	}
}

static long away_folios(void)
{
	return read_long("/sys/class/misc/gmemfd/away_folios");
}

static long home_backlog(void)
{
	return read_long("/sys/class/misc/gmemfd/home_backlog");
}

/* Memory whose last reference is gone is there for the next file at once. */
TEST(create_waits_for_what_comes_home)
{
	long nr = pool(GB, "free_hugepages");

	if (nr <= 0)
		test_skip("no 1 GiB huge pages here");
	for (int round = 0; round < 10; round++) {
		int fd = gmem_create(nr * GB, GB, GMEMFD_CREATE_INIT_SHARED);
		char *p = gmem_map(fd, 0, nr * GB);
		struct pin pin;

		p[0] = 1;
		EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, true), 0);
		pin_io_uring(&pin, p, PAGE);
		munmap(p, nr * GB);
		close(fd);
		EXPECT_EQ(pool(GB, "free_hugepages"), nr - 1);
		unpin(&pin);
		fd = gmem_create(nr * GB, GB, 0);
		EXPECT(fd >= 0);
		close(fd);
	}
}

/* What is away, and what is home but not put away, can be seen. */
TEST(away_folios_are_counted)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 4 * MB);
	struct pin large, small;

	fill(p, 4 * MB, 3);
	EXPECT_EQ(gmem_convert(fd, 2 * MB, PAGE, true), 0);
	pin_io_uring(&large, p, MB);
	pin_io_uring(&small, p + 3 * MB, 16 * PAGE);
	EXPECT_EQ(away_folios(), 0);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	EXPECT_EQ(away_folios(), 1);
	munmap(p, 4 * MB);
	close(fd);
	EXPECT_EQ(away_folios(), 17);
	EXPECT_EQ(home_backlog(), 0);
	unpin(&large);
	EXPECT(EVENTUALLY(away_folios() == 16));
	unpin(&small);
	EXPECT(EVENTUALLY(!away_folios() && !home_backlog()));
}

static void set_pool_1g(long nr)
{
	char text[16];

	snprintf(text, sizeof(text), "%ld", nr);
	write_text("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", text);
}

/* A million folios at once, in a boot with more memory. */
TEST(million_folios_come_home)
{
	const int nr = 4;
	long pool_size = pool(GB, "nr_hugepages");
	struct pin pins[nr];
	char *p;
	int fd;

	need_1g_blocks();
	set_pool_1g(nr);
	if (pool(GB, "free_hugepages") < nr) {
		set_pool_1g(pool_size);
		test_skip("not enough memory");
	}
	fd = gmem_create(nr * GB, GB, GMEMFD_CREATE_INIT_SHARED |
				      GMEMFD_CREATE_SMALL_SHARED);
	p = gmem_map(fd, 0, nr * GB);
	EXPECT_EQ(gmem_allocate(fd, 0, nr * GB), 0);
	for (int i = 0; i < nr; i++)
		pin_io_uring(&pins[i], p + i * GB, GB);
	munmap(p, nr * GB);
	close(fd);
	EXPECT_EQ(away_folios(), nr * GB / PAGE);
	EXPECT_EQ(pool(GB, "free_hugepages"), 0);
	for (int i = 0; i < nr; i++)
		unpin(&pins[i]);
	for (int i = 0; i < 60 && away_folios(); i++)
		sleep(1);
	EXPECT(EVENTUALLY(!away_folios() && !home_backlog()));
	EXPECT(EVENTUALLY(pool(GB, "free_hugepages") == nr));
	set_pool_1g(pool_size);
}

/*
 * Another process is exiting: what it had mapped goes in batches, and leaves the
 * file meanwhile, so that such a batch may drop the last reference.
 */
TEST(punch_beside_exit)
{
	long available = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED |
					     GMEMFD_CREATE_SMALL_SHARED);
	int rounds = debug_kernel() ? 30 : 100, status, pipes[2];
	char c;

	for (int i = 0; i < rounds; i++) {
		pid_t child;

		EXPECT_EQ(pipe(pipes), 0);
		child = fork();
		if (!child) {
			char *p = gmem_map(fd, 0, 8 * MB);

			for (size_t at = 0; at < 8 * MB; at += PAGE)
				p[at] = 1;
			if (write(pipes[1], "", 1) != 1)
				_exit(1);
			_exit(0);
		}
		EXPECT_EQ(read(pipes[0], &c, 1), 1);
		usleep(i * 37 % 2000);
		EXPECT_EQ(gmem_punch(fd, 0, 8 * MB), 0);
		EXPECT_EQ(waitpid(child, &status, 0), child);
		EXPECT_EQ(status, 0);
		EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == available));
		close(pipes[0]);
		close(pipes[1]);
	}
	close(fd);
}

/* The last put in every kind of context: see tests/kernel/put_test.c. */

static void put_in(const char *context)
{
	long available = pool(2 * MB, "free_hugepages");
	int dev = open_put_test();

	/* A 2 MiB folio, a 4 KiB one, and with the file closed before the put. */
	for (int round = 0; round < 3; round++) {
		int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
		char *p = gmem_map(fd, 0, 2 * MB);

		fill(p, 2 * MB, 3);
		if (round)
			EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
		tell_put_test(dev, "hold %lx", (unsigned long)p + 7 * PAGE);
		EXPECT_ERR(gmem_convert(fd, 0, 2 * MB, true), EAGAIN);
		if (round < 2)
			EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
		munmap(p, 2 * MB);
		close(fd);
		EXPECT_EQ(pool(2 * MB, "free_hugepages"), available - 1);
		tell_put_test(dev, "put %s", context);
		EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == available));
	}
	close(dev);
}

#define PUT_IN(context)							\
	TEST(last_put_in_##context)					\
	{								\
		put_in(#context);					\
	}

PUT_IN(hardirq)
PUT_IN(softirq)
PUT_IN(tasklet)
PUT_IN(ipi)
PUT_IN(rcu)
PUT_IN(workqueue)
PUT_IN(raw_spinlock)
PUT_IN(irqs_off)
PUT_IN(bh_off)

/*
 * A batch that starts with an ordinary folio, whose release takes the lruvec
 * lock and keeps it: ours are put under it.
 */
TEST(last_put_under_lruvec_lock)
{
	long available = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED), dev = open_put_test();
	char *p = gmem_map(fd, 0, 4 * MB);
	size_t size = 4 * MB;
	char *ordinary = mmap(NULL, size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* Far more than one CPU keeps back before they get onto the LRU. */
	memset(ordinary, 1, size);
	fill(p, 4 * MB, 3);
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	tell_put_test(dev, "hold %lx", (unsigned long)ordinary);
	for (int i = 1; i < 10; i++)
		tell_put_test(dev, "hold %lx", (unsigned long)p + i * PAGE);
	tell_put_test(dev, "hold %lx", (unsigned long)p + 3 * MB);
	munmap(ordinary, size);
	munmap(p, 4 * MB);
	close(fd);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available - 2);
	tell_put_test(dev, "put batch");
	EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == available));
	close(dev);
}

static void *punch_page(void *arg)
{
	run_on_cpu(1);
	EXPECT_EQ(gmem_punch(*(int *)arg, PAGE, PAGE), 0);
	return NULL;
}

/* Nothing that two files share is held while one of them is scrubbed. */
TEST(punch_holds_no_other_file_up)
{
	int one = gmem_create(2 * MB, 2 * MB, 0), other = gmem_create(4 * MB, 2 * MB, 0);
	int dev = open_put_test(), i;
	enum delay state = GONE_ON;
	pthread_t thread;

	/* The second block of the other is there to keep the direct map from merging. */
	EXPECT_EQ(gmem_allocate(one, 0, 2 * MB), 0);
	EXPECT_EQ(gmem_allocate(other, 0, 4 * MB), 0);
	run_on_cpu(0);
	for (i = 0; i < 5 && state != INSIDE; i++) {
		delay_in_kernel(dev, "gmem_direct_map_flush");
		EXPECT_EQ(pthread_create(&thread, NULL, punch_page, &one), 0);
		EXPECT(EVENTUALLY(delayed(dev) != NOT_YET));
		EXPECT_EQ(gmem_convert(other, 0, 2 * MB, false), 0);
		state = delayed(dev);
		EXPECT_EQ(pthread_join(thread, NULL), 0);
		EXPECT_EQ(gmem_convert(other, 0, 2 * MB, true), 0);
	}
	EXPECT_EQ(state, INSIDE);
}

/* Pages punched elsewhere in a block do not keep a fault from ending. */
TEST(fault_beside_punched_pages)
{
	int fd = gmem_create(2 * MB, 2 * MB, 0), big;
	char *p = gmem_map(fd, 0, 2 * MB);

	EXPECT_EQ(gmem_convert(fd, 0, MB, false), 0);
	fill(p, MB, 3);
	EXPECT_EQ(gmem_punch(fd, MB + PAGE, PAGE), 0);	/* private */
	EXPECT_EQ(gmem_punch(fd, 10 * PAGE, 2 * PAGE), 0);
	EXPECT_EQ(madvise(p, 2 * MB, MADV_DONTNEED), 0);
	EXPECT(holds(p, 10 * PAGE, 3));
	EXPECT(is_zero(p + 11 * PAGE, PAGE));
	EXPECT(holds(p + 12 * PAGE, MB - 12 * PAGE, 3 + 12 * 512));

	if (!have_1g_blocks())
		return;
	big = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(big, 0, GB);
	p[0] = 1;
	EXPECT_EQ(gmem_punch(big, 0, PAGE), 0);
	p[2 * MB] = 2;
	EXPECT_EQ(p[0], 0);
	EXPECT_EQ(p[2 * MB], 2);
}

/* The hole can be filled again although somebody holds what was there. */
TEST(touch_hole_while_old_memory_is_away)
{
	long nr = pool(2 * MB, "nr_hugepages");
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	struct pin pin;

	p[0] = 1;
	pin_pipe(&pin, p, PAGE);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	/* The file's one block is out there: refused, as gmemfd.h says... */
	EXPECT_ERR(gmem_allocate(fd, 0, 2 * MB), ENOSPC);
	unpin(&pin);
	/* ... until it is back, with no waiting in between. */
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_EQ(p[0], 0);
	EXPECT_EQ(pool(2 * MB, "nr_hugepages"), nr);
}

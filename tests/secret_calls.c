// SPDX-License-Identifier: GPL-2.0
/*
 * Calls, and parts of the kernel that go through memory by themselves, which want
 * pages or their entries: secret pages stay as they are, whoever comes.  Each way is
 * seen to work on other memory, where it does work.
 */
#define _GNU_SOURCE
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "lib.h"

#define SIZE	(6 * MB)
#define BROKEN	(2 * MB)	/* a block that was shared once: no hugetlb folio any more */
#define MIXED	(4 * MB)	/* a block in 4 KiB folios: it has a page of each kind */
#define SHARED	(MIXED + 5 * PAGE)
#define PRIVATE	(MIXED + 9 * PAGE)
#define SEED	0x5ec2e7ca11UL

#define NR(array)		(sizeof(array) / sizeof((array)[0]))
#define for_each(i, array)	for (unsigned int i = 0; i < NR(array); i++)

static int fd;
static char *p;

/* Secret pages that are looked at, and the frames they are in. */
static const size_t places[] = {
	0, MB + PAGE, BROKEN, BROKEN + MB + PAGE, MIXED, SHARED + PAGE, PRIVATE - PAGE, SIZE - PAGE,
};

static uint64_t frames[NR(places)];

/* By an entry of 2 MiB, where the kernel has such entries. */
static void expect_large_entry(const char *at)
{
	struct gmemfd_info info = {};
	int shift = user_shift(at), device = gmem_device();

	EXPECT_EQ(ioctl(device, GMEMFD_GET_INFO, &info), 0);
	close(device);
	if (shift)
		EXPECT_EQ(1UL << shift, info.max_secret_entry);
}

static void set_up(void)
{
	fd = gmem_create(SIZE, 2 * MB, GMEMFD_CREATE_SECRET);
	EXPECT(fd >= 0);
	p = gmem_map(fd, 0, SIZE);
	fill(p, SIZE, SEED);
	EXPECT_EQ(gmem_convert_to(fd, BROKEN, 2 * MB, 0), 0);
	EXPECT_EQ(gmem_convert_to(fd, BROKEN, 2 * MB, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT_EQ(gmem_convert_to(fd, SHARED, PAGE, 0), 0);
	EXPECT_EQ(gmem_convert_to(fd, PRIVATE, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	EXPECT(holds(p, PRIVATE, SEED));
	for_each(i, places) {
		EXPECT(can_write(p + places[i]));
		frames[i] = pfn_of(p + places[i]);
		EXPECT(frames[i]);
	}
	expect_large_entry(p);
	expect_large_entry(p + BROKEN);
}

static void tear_down(void)
{
	munmap(p, SIZE);
	close(fd);
}

static bool in_direct_map(uint64_t pfn)
{
	static char buf[PAGE];

	return read_kcore(pfn * PAGE, buf, PAGE) == (long)PAGE && !is_zero(buf, PAGE);
}

static bool all_there(void)
{
	const size_t rest = PRIVATE + PAGE;

	return holds(p, PRIVATE, SEED) && !can_read(p + PRIVATE) &&
	       holds(p + rest, SIZE - rest, SEED + rest / 8);
}

/* Contents, frames, states, entries and the direct map are as they were. */
static void expect_untouched(void)
{
	EXPECT(all_there());
	for_each(i, places) {
		EXPECT(can_write(p + places[i]));
		EXPECT_EQ(pfn_of(p + places[i]), frames[i]);
		EXPECT(!in_direct_map(frames[i]));
		EXPECT(gmem_range(fd, places[i]).flags & GMEMFD_RANGE_SECRET);
	}
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
	/* No page is counted but the shared one: the others' entries are still special. */
	EXPECT_EQ(smaps(p, "Rss"), PAGE);
	EXPECT_EQ(read_long("/sys/class/misc/gmemfd/away_folios"), 0);
}

/* And nobody has a reference: all of it becomes each kind at once. */
static void expect_free(void)
{
	expect_untouched();
	EXPECT_EQ(gmem_convert_to(fd, 0, SIZE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	EXPECT(!can_read(p) && !can_read(p + BROKEN) && !can_read(p + SHARED));
	EXPECT_EQ(gmem_convert_to(fd, 0, SIZE, 0), 0);
	EXPECT(holds(p, SIZE, SEED));
	EXPECT_EQ(gmem_convert_to(fd, 0, SIZE, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT(holds(p, SIZE, SEED));
}

static char *map_anon(size_t size)
{
	char *q = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(q != MAP_FAILED);
	return q;
}

static long vmstat(const char *key)
{
	FILE *f = fopen("/proc/vmstat", "r");
	size_t len = strlen(key);
	char line[128];
	long value = -1;

	EXPECT(f);
	while (value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && line[len] == ' ')
			value = atol(line + len);
	fclose(f);
	return value;
}

/* userfaultfd */

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif
#ifndef UFFDIO_MOVE
#define UFFD_FEATURE_MOVE	(1 << 16)

struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};

#define UFFDIO_MOVE		_IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFD_FEATURE_RWP
#define UFFD_FEATURE_RWP	(1 << 17)
#define UFFD_FEATURE_RWP_ASYNC	(1 << 18)
#endif

static int open_uffd(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	EXPECT(uffd >= 0);
	if (ioctl(uffd, UFFDIO_API, &api)) {
		EXPECT(features);	/* not in this kernel */
		close(uffd);
		return -1;
	}
	return uffd;
}

static int uffd_register(int uffd, void *at, size_t size, uint64_t mode)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)at, size }, .mode = mode,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg);
}

static void expect_not_registered(uint64_t features)
{
	int uffd = open_uffd(features);
	char *q;

	if (uffd < 0)
		return;
	for (uint64_t mode = 0; mode < 32; mode++) {
		EXPECT_ERR(uffd_register(uffd, p, SIZE, mode), EINVAL);
		/* Nor pages of one kind, nor along with what can be. */
		EXPECT_ERR(uffd_register(uffd, p, PAGE, mode), EINVAL);
		EXPECT_ERR(uffd_register(uffd, p + MIXED, PAGE, mode), EINVAL);
	}
	q = map_anon(PAGE);
	EXPECT_EQ(uffd_register(uffd, q, PAGE, UFFDIO_REGISTER_MODE_MISSING), 0);
	munmap(q, PAGE);
	close(uffd);
}

/* Neither into secret pages nor, by other means than reading them, out of them. */
static void expect_not_filled(int uffd)
{
	struct uffdio_writeprotect wp = { .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	struct uffdio_range range = { .len = PAGE };
	struct uffdio_zeropage zero = { };
	struct uffdio_continue cont = { };
	char *q = map_anon(2 * PAGE);
	struct uffdio_copy copy = { .src = (uintptr_t)q, .len = PAGE };

	memset(q, 1, PAGE);
	EXPECT_EQ(uffd_register(uffd, q + PAGE, PAGE, UFFDIO_REGISTER_MODE_MISSING), 0);
	for_each(i, places) {
		range.start = (uintptr_t)p + places[i];
		copy.dst = range.start;
		zero.range = range;
		cont.range = range;
		wp.range = range;
		EXPECT_ERR(ioctl(uffd, UFFDIO_COPY, &copy), ENOENT);
		EXPECT_ERR(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), ENOENT);
		EXPECT_ERR(ioctl(uffd, UFFDIO_CONTINUE, &cont), ENOENT);
		EXPECT_ERR(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), ENOENT);
		expect_untouched();
		/* This reads, as the process may. */
		copy = (struct uffdio_copy) {
			.dst = (uintptr_t)q + PAGE, .src = (uintptr_t)p + places[i], .len = PAGE,
		};
		EXPECT_EQ(ioctl(uffd, UFFDIO_COPY, &copy), 0);
		EXPECT(holds(q + PAGE, PAGE, SEED + places[i] / 8));
		EXPECT_EQ(madvise(q + PAGE, PAGE, MADV_DONTNEED), 0);
		copy.src = (uintptr_t)q;
	}
	munmap(q, 2 * PAGE);
}

static void expect_not_moved(void)
{
	int uffd = open_uffd(UFFD_FEATURE_MOVE);
	struct uffdio_move move = { .len = PAGE };
	char *q = map_anon(2 * PAGE);

	if (uffd < 0)
		return;
	memset(q, 1, PAGE);
	EXPECT_EQ(uffd_register(uffd, q + PAGE, PAGE, UFFDIO_REGISTER_MODE_MISSING), 0);
	for_each(i, places) {
		move.dst = (uintptr_t)q + PAGE;
		move.src = (uintptr_t)p + places[i];
		EXPECT_ERR(ioctl(uffd, UFFDIO_MOVE, &move), EINVAL);
		move.dst = (uintptr_t)p + places[i];
		move.src = (uintptr_t)q;
		EXPECT(ioctl(uffd, UFFDIO_MOVE, &move) == -1 &&
		       (errno == EINVAL || errno == ENOENT));
		EXPECT_EQ(q[0], 1);
	}
	expect_untouched();
	move = (struct uffdio_move) {
		.dst = (uintptr_t)q + PAGE, .src = (uintptr_t)q, .len = PAGE,
	};
	EXPECT_EQ(ioctl(uffd, UFFDIO_MOVE, &move), 0);
	EXPECT_EQ(q[PAGE], 1);
	munmap(q, 2 * PAGE);
	close(uffd);
}

TEST(secret_refuses_userfaultfd)
{
	static const uint64_t features[] = {
		0, UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_RWP,
		UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC,
	};
	int uffd;

	set_up();
	for_each(i, features)
		expect_not_registered(features[i]);
	expect_untouched();
	uffd = open_uffd(0);
	expect_not_filled(uffd);
	close(uffd);
	expect_not_moved();
	expect_free();
	tear_down();
}

/* Migration */

static int node_of(void *at)
{
	int node = -1;

	EXPECT_EQ(syscall(SYS_get_mempolicy, &node, NULL, 0, at, MPOL_F_NODE | MPOL_F_ADDR), 0);
	return node;
}

/* To the call there is no page behind a special entry. */
static void expect_moves_fail(const char *control, int from, int to, unsigned int flags)
{
	int nodes[NR(places) + 1], status[NR(places) + 1];
	const void *pages[NR(places) + 1];

	pages[NR(places)] = control;
	for_each(i, places)
		pages[i] = p + places[i];
	for (unsigned int i = 0; i <= NR(places); i++) {
		nodes[i] = to;
		status[i] = -1000;
	}
	EXPECT_EQ(syscall(SYS_move_pages, 0, NR(places) + 1, pages, NULL, status, 0), 0);
	for_each(i, places)
		EXPECT(status[i] == -ENOENT || status[i] == -EFAULT);
	EXPECT_EQ(status[NR(places)], from);
	EXPECT(syscall(SYS_move_pages, 0, NR(places) + 1, pages, nodes, status, flags) >= 0);
	for_each(i, places)
		EXPECT(status[i] == -ENOENT || status[i] == -EFAULT);
	EXPECT_EQ(status[NR(places)], to);
	expect_untouched();
}

/* To where it all is not; on a machine with one node there is no such place. */
static void expect_policies_fail(int to)
{
	static const unsigned int flags[] = {
		0, MPOL_MF_STRICT, MPOL_MF_MOVE, MPOL_MF_MOVE | MPOL_MF_STRICT,
		MPOL_MF_MOVE_ALL, MPOL_MF_MOVE_ALL | MPOL_MF_STRICT,
	};
	unsigned long mask = 1UL << to;

	for_each(i, flags) {
		/* The shared page is counted where that matters, and is not moved. */
		if (syscall(SYS_mbind, p, SIZE, MPOL_BIND, &mask, 8, flags[i]))
			EXPECT_EQ(errno, EIO);
		expect_untouched();
		EXPECT_EQ(syscall(SYS_mbind, p, SIZE, MPOL_DEFAULT, NULL, 0, 0), 0);
	}
}

TEST(secret_is_not_migrated)
{
	bool two = !access("/sys/devices/system/node/node1", F_OK);
	char *control = map_anon(PAGE);
	unsigned long from, to;
	int here, there;
	uint64_t frame;
	long scanned;

	set_up();
	control[0] = 1;
	here = node_of(control);
	there = two ? !here : here;
	/* There are kernels without these calls. */
	if (syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0) == 0) {
		frame = pfn_of(control);
		expect_moves_fail(control, here, there, MPOL_MF_MOVE);
		EXPECT_EQ(pfn_of(control) != frame, two);
		expect_moves_fail(control, there, here, MPOL_MF_MOVE_ALL);
		from = 1UL << here;
		to = 1UL << there;
		EXPECT(syscall(SYS_migrate_pages, 0, 8, &from, &to) >= 0);
		EXPECT_EQ(node_of(control), there);
		expect_untouched();
		EXPECT(syscall(SYS_migrate_pages, 0, 8, &to, &from) >= 0);
		EXPECT_EQ(node_of(control), here);
		expect_untouched();
	} else {
		EXPECT_EQ(errno, ENOSYS);
	}
	for (int node = 0; node <= two; node++)
		expect_policies_fail(node);

	scanned = vmstat("compact_migrate_scanned");
	EXPECT(scanned >= 0);
	for (int round = 0; round < 3; round++) {
		write_text("/proc/sys/vm/compact_memory", "1");
		expect_untouched();
	}
	EXPECT(vmstat("compact_migrate_scanned") > scanned);
	munmap(control, PAGE);
	expect_free();
	tear_down();
}

/* KSM */

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE	67
#endif
#define KSM	"/sys/kernel/mm/ksm/"

static void wait_for_ksm(void)
{
	long before = read_long(KSM "full_scans");

	EXPECT(EVENTUALLY(read_long(KSM "full_scans") >= before + 3));
}

/* Pages of equal contents, here, in another file, and in ordinary memory. */
TEST(secret_is_not_merged)
{
	int other_fd;
	char *other, *control;

	if (access(KSM "run", F_OK))
		test_skip("no KSM in this kernel");
	set_up();
	other_fd = gmem_create(SIZE, 2 * MB, GMEMFD_CREATE_SECRET);
	other = gmem_map(other_fd, 0, SIZE);
	fill(other, SIZE, SEED);
	control = map_anon(4 * MB);
	fill(control, 2 * MB, SEED);
	fill(control + 2 * MB, 2 * MB, SEED);
	/* Taken, and ignored: such a mapping is VM_SPECIAL. */
	EXPECT_EQ(madvise(p, SIZE, MADV_MERGEABLE), 0);
	EXPECT_EQ(madvise(other, SIZE, MADV_MERGEABLE), 0);
	EXPECT_EQ(madvise(control, 4 * MB, MADV_MERGEABLE), 0);
	write_text(KSM "sleep_millisecs", "1");
	write_text(KSM "pages_to_scan", "10000");
	for (int round = 0; round < 2; round++) {
		write_text(KSM "run", "1");
		wait_for_ksm();
		expect_untouched();
		EXPECT_EQ(smaps(p, "KSM"), 0);
		EXPECT_EQ(smaps(other, "KSM"), 0);
		EXPECT_EQ(smaps(other, "Rss"), 0);
		EXPECT_EQ(smaps(control, "KSM"), 4 * MB);
		EXPECT(holds(other, SIZE, SEED));
		EXPECT(pfn_of(other) != frames[0]);
		/* The second time for all that the process has. */
		write_text(KSM "run", "2");
		if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
			break;
	}
	prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
	write_text(KSM "run", "0");
	/* What is written to one is not in the other. */
	other[0] ^= 1;
	expect_untouched();
	munmap(control, 4 * MB);
	munmap(other, SIZE);
	close(other_fd);
	expect_free();
	tear_down();
}

/* Hints for NUMA balancing: entries that fault, to see who uses the page */

#define BALANCING	"/proc/sys/kernel/numa_balancing"

static long faults_reading(const char *from, size_t size)
{
	struct rusage before, after;

	EXPECT_EQ(getrusage(RUSAGE_THREAD, &before), 0);
	for (size_t at = 0; at < size; at += PAGE)
		if (from != p || at != PRIVATE)
			(void)*(const volatile char *)(from + at);
	EXPECT_EQ(getrusage(RUSAGE_THREAD, &after), 0);
	return after.ru_minflt - before.ru_minflt;
}

static void *sleep_on(void *unused)
{
	for (;;)
		pause();
	return unused;
}

TEST(secret_gets_no_numa_hints)
{
	long was = access(BALANCING, F_OK) ? -1 : read_long(BALANCING);
	long hints = 0, faults = 0;
	pthread_t thread;
	char *control;

	if (was < 0)
		test_skip("no NUMA balancing in this kernel");
	set_up();
	control = map_anon(4 * MB);
	madvise(control, 4 * MB, MADV_NOHUGEPAGE);
	fill(control, 4 * MB, SEED);
	/* Of a process with one thread pages are passed over that are near to it. */
	EXPECT_EQ(pthread_create(&thread, NULL, sleep_on, NULL), 0);
	write_text(BALANCING, "1");
	EXPECT(all_there());
	/* They come by the time that the process runs: some, a second after the others. */
	for (time_t end = time(NULL) + 30; time(NULL) < end && hints < 3000;) {
		hints += faults_reading(control, 4 * MB);
		faults += faults_reading(p, SIZE);
	}
	write_text(BALANCING, was ? "1" : "0");
	printf("# %ld faults of ordinary memory, %ld of secret\n", hints, faults);
	if (!hints)
		test_skip("the kernel gave no hints to other memory either");
	/* The stack and variables get hints, too: some faults each time, and not a thousand. */
	EXPECT(faults < 100);
	munmap(control, 4 * MB);
	expect_free();
	tear_down();
}

/* Advice */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#endif

/* What would take a page away, or put another one in its place, and what it says. */
static const struct advice {
	int advice;
	const char *name;
	int error;
} advices[] = {
	{ MADV_COLD, "COLD", 0 },
	{ MADV_PAGEOUT, "PAGEOUT", 0 },
	{ MADV_DONTNEED, "DONTNEED", 0 },
	{ 24, "DONTNEED_LOCKED", 0 },
	{ MADV_WILLNEED, "WILLNEED", 0 },
	{ MADV_HUGEPAGE, "HUGEPAGE", 0 },
	{ MADV_FREE, "FREE", EINVAL },			/* anonymous only */
	{ MADV_WIPEONFORK, "WIPEONFORK", EINVAL },	/* anonymous only */
	{ MADV_COLLAPSE, "COLLAPSE", EINVAL },		/* VM_SPECIAL */
	{ MADV_GUARD_INSTALL, "GUARD_INSTALL", EINVAL },	/* VM_SPECIAL */
};

/* Ranges that begin and end in the middle of an entry of 2 MiB, too. */
static const struct {
	size_t at, size;
} ranges[] = {
	{ 0, PAGE }, { 0, 2 * MB }, { MB, MB }, { BROKEN, 2 * MB }, { BROKEN + PAGE, 3 * PAGE },
	{ BROKEN + MB, 2 * MB }, { MIXED, 5 * PAGE }, { 0, PRIVATE },
};

static void expect_advice(int pidfd, const struct advice *a, bool remote)
{
	for_each(i, ranges) {
		struct iovec iov = { p + ranges[i].at, ranges[i].size };
		long ret, want = a->error ? -1 : (long)iov.iov_len;

		errno = 0;
		if (pidfd < 0) {
			ret = madvise(iov.iov_base, iov.iov_len, a->advice);
			want = a->error ? -1 : 0;
		} else {
			ret = syscall(SYS_process_madvise, pidfd, &iov, 1, a->advice, 0);
		}
		if (pidfd >= 0 && !remote) {
			EXPECT(ret == -1 && errno == EINVAL);
		} else {
			EXPECT_EQ(ret, want);
			EXPECT_EQ(errno, a->error);
		}
	}
	expect_untouched();
}

/* Advice by whoever has a mapping, and by another process for one that has. */
TEST(secret_stays_on_advice)
{
	int pidfd, alive[2];
	pid_t pid;
	char c;

	set_up();
	EXPECT_EQ(pipe(alive), 0);
	pid = fork();
	if (!pid) {
		/* As long as the test is there. */
		close(alive[1]);
		_exit(read(alive[0], &c, 1));
	}
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	EXPECT(pidfd >= 0);
	for_each(i, advices) {
		const struct advice *a = &advices[i];
		bool remote = a->advice == MADV_COLD || a->advice == MADV_PAGEOUT ||
			      a->advice == MADV_WILLNEED || a->advice == MADV_COLLAPSE;

		test_case(a->name);
		expect_advice(-1, a, false);
		expect_advice(pidfd, a, remote);
	}
	close(alive[1]);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	close(alive[0]);
	close(pidfd);
	expect_free();
	tear_down();
}

#define SOFT_OFFLINE	"/sys/devices/system/memory/soft_offline_page"

/* By where it is in memory, which only root knows. */
static void soft_offline(uint64_t pfn)
{
	int file = open(SOFT_OFFLINE, O_WRONLY);
	char text[32];
	int len = snprintf(text, sizeof(text), "0x%llx", (unsigned long long)(pfn * PAGE));

	EXPECT(file >= 0);
	EXPECT_EQ(write(file, text, len), -1);
	EXPECT(errno == EIO || errno == EBUSY);
	close(file);
}

/*
 * A page that is about to go bad is given up for another one, by address or by frame.
 * A secret page keeps its frame.
 */
TEST(secret_is_not_soft_offlined)
{
	long corrupted;

	if (access(SOFT_OFFLINE, F_OK))
		test_skip("no memory failure handling in this kernel");
	corrupted = meminfo("HardwareCorrupted");
	set_up();
	for_each(i, places) {
		/* Where entries are of 4 KiB only the kernel says EEXIST, see the shim. */
		EXPECT_EQ(madvise(p + places[i], PAGE, MADV_SOFT_OFFLINE), -1);
		EXPECT(errno == EFAULT || errno == EEXIST);
		soft_offline(frames[i]);
		expect_untouched();
	}
	EXPECT_EQ(meminfo("HardwareCorrupted"), corrupted);
	expect_free();
	tear_down();
}

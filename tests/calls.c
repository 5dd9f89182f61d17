// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that have to do with memory, on shared memory and on memory some of
 * which is private.  None leaves a reference behind, loses contents, or gets
 * at what is private; each says what is written here.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/mempolicy.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "lib.h"

#define SIZE	(4 * MB)	/* one 2 MiB folio, and 4 KiB folios */
#define SPLIT	(2 * MB)	/* where these begin */
#define PRIVATE	(3 * MB)	/* two pages of them are private */
#define SEED	0xabcdefULL

static int fd;
static char *p;

static void set_up(void)
{
	fd = gmem_create(SIZE, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(fd, 0, SIZE);
	fill(p, SIZE, SEED);
	EXPECT_EQ(gmem_convert(fd, PRIVATE, 2 * PAGE, true), 0);
	EXPECT(holds(p, PRIVATE, SEED));
}

static void map_anew(void)
{
	munmap(p, SIZE);
	p = gmem_map(fd, 0, SIZE);
	EXPECT(holds(p, PRIVATE, SEED));
}

/* All of it converts, at once, to private and back, and is what it was. */
static void expect_free(void)
{
	EXPECT(!can_read(p + PRIVATE) && !can_read(p + PRIVATE + PAGE));
	EXPECT_EQ(gmem_convert(fd, 0, SIZE, true), 0);
	for (size_t at = 0; at < SIZE; at += MB)
		EXPECT(!can_read(p + at));
	EXPECT_EQ(gmem_convert(fd, 0, SIZE, false), 0);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
	EXPECT_EQ(gmem_range(fd, 0).size, SIZE);
	EXPECT(holds(p, SIZE, SEED));
	EXPECT_EQ(gmem_convert(fd, PRIVATE, 2 * PAGE, true), 0);
	EXPECT(holds(p, PRIVATE, SEED));
}

/* 0 or the errno of a call. */
#define ERRNO(call)	((call) == -1 ? errno : 0)

static int to_child[2], to_parent[2];

static void say(int fd)
{
	EXPECT_EQ(write(fd, "", 1), 1);
}

static void hear(int fd)
{
	char c;

	EXPECT_EQ(read(fd, &c, 1), 1);
}

/* Does not outlive a test that fails. */
static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void expect_exits(pid_t pid)
{
	int status;

	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
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
#define MADV_GUARD_REMOVE	103
#endif

/* What madvise() says to shared memory, and to memory with private pages. */
static const struct advice {
	int advice;
	const char *name;
	int shared, mixed;
} advices[] = {
	{ MADV_NORMAL, "NORMAL", 0, 0 },
	{ MADV_RANDOM, "RANDOM", 0, 0 },
	{ MADV_SEQUENTIAL, "SEQUENTIAL", 0, 0 },
	{ MADV_WILLNEED, "WILLNEED", 0, 0 },
	{ MADV_DONTNEED, "DONTNEED", 0, 0 },
	{ MADV_FREE, "FREE", EINVAL, EINVAL },		/* anonymous only */
	{ MADV_DONTFORK, "DONTFORK", 0, 0 },
	{ MADV_DOFORK, "DOFORK", EINVAL, EINVAL },	/* VM_SPECIAL */
	{ MADV_MERGEABLE, "MERGEABLE", 0, 0 },		/* and ignored */
	{ MADV_UNMERGEABLE, "UNMERGEABLE", 0, 0 },
	{ MADV_HUGEPAGE, "HUGEPAGE", 0, 0 },
	{ MADV_NOHUGEPAGE, "NOHUGEPAGE", 0, 0 },
	{ MADV_DONTDUMP, "DONTDUMP", 0, 0 },
	{ MADV_DODUMP, "DODUMP", EINVAL, EINVAL },	/* VM_SPECIAL */
	{ MADV_WIPEONFORK, "WIPEONFORK", EINVAL, EINVAL },	/* anonymous only */
	{ MADV_KEEPONFORK, "KEEPONFORK", 0, 0 },
	{ MADV_COLD, "COLD", 0, 0 },
	{ MADV_PAGEOUT, "PAGEOUT", 0, 0 },
	{ MADV_POPULATE_READ, "POPULATE_READ", 0, EFAULT },
	{ MADV_POPULATE_WRITE, "POPULATE_WRITE", 0, EFAULT },
	{ MADV_DONTNEED_LOCKED, "DONTNEED_LOCKED", 0, 0 },
	{ MADV_COLLAPSE, "COLLAPSE", EINVAL, EINVAL },	/* VM_SPECIAL */
	{ MADV_GUARD_INSTALL, "GUARD_INSTALL", EINVAL, EINVAL },	/* VM_SPECIAL */
	{ MADV_GUARD_REMOVE, "GUARD_REMOVE", EINVAL, EINVAL },	/* VM_SPECIAL */
};

#define for_each_advice(a)						\
	for (const struct advice *a = advices;				\
	     a < advices + sizeof(advices) / sizeof(advices[0]); a++)

/* Not those: REMOVE punches, the others make memory errors. */
static bool has_test(int advice)
{
	for_each_advice(a) {
		if (a->advice == advice)
			return true;
	}
	return advice == MADV_REMOVE || advice == MADV_HWPOISON ||
	       advice == MADV_SOFT_OFFLINE;
}

TEST(no_reference_after_madvise)
{
	set_up();
	for_each_advice(a) {
		/* On Linux 6.12 refused for VM_IO only. */
		bool old = a->advice == MADV_DOFORK && kernel_before(6, 13);
		int shared = old ? 0 : a->shared, mixed = old ? 0 : a->mixed;

		test_case(a->name);
		map_anew();
		EXPECT_EQ(ERRNO(madvise(p, SPLIT, a->advice)), shared);
		EXPECT_EQ(ERRNO(madvise(p + SPLIT, SPLIT, a->advice)), mixed);
		EXPECT_EQ(ERRNO(madvise(p + PRIVATE, PAGE, a->advice)), mixed);
		expect_free();
		/* Across both, and with nothing mapped. */
		EXPECT_EQ(madvise(p, SIZE, MADV_DONTNEED), 0);
		EXPECT_EQ(ERRNO(madvise(p, SIZE, a->advice)), mixed);
		expect_free();
	}
	for (int advice = -1; advice < 128; advice++)
		if (!has_test(advice))
			EXPECT_ERR(madvise(p, SIZE, advice), EINVAL);
	expect_free();
}

/* Advice to another process that has the file mapped, and to oneself. */
TEST(no_reference_after_process_madvise)
{
	struct iovec iov;
	int pidfd, self;
	pid_t pid;

	set_up();
	pid = fork_child();
	if (!pid) {
		for (;;)
			pause();
	}
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	self = syscall(SYS_pidfd_open, getpid(), 0);
	EXPECT(pidfd >= 0 && self >= 0);
	for_each_advice(a) {
		bool remote = a->advice == MADV_COLD ||
			      a->advice == MADV_PAGEOUT ||
			      a->advice == MADV_WILLNEED ||
			      a->advice == MADV_COLLAPSE;

		test_case(a->name);
		map_anew();
		iov = (struct iovec) { p, SIZE };
		EXPECT_EQ(ERRNO(syscall(SYS_process_madvise, pidfd, &iov, 1, a->advice, 0)),
			  remote ? a->shared : EINVAL);
		/* To oneself all of it, since Linux 6.13. */
		EXPECT_EQ(ERRNO(syscall(SYS_process_madvise, self, &iov, 1, a->advice, 0)),
			  remote || !kernel_before(6, 13) ? a->mixed : EINVAL);
		expect_free();
	}
	kill(pid, SIGKILL);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

/* Locking */

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT	1
#endif

TEST(no_reference_after_mlock)
{
	char *q;

	set_up();
	EXPECT_EQ(mlock(p, SPLIT), 0);
	EXPECT_EQ(smaps(p, "Locked"), 0);	/* VM_SPECIAL: not counted */
	expect_free();
	/* The private pages cannot be had; the rest is as if they could. */
	EXPECT_ERR(mlock(p, SIZE), ENOMEM);
	expect_free();
	EXPECT_EQ(munlock(p, SIZE), 0);
	expect_free();
	EXPECT_EQ(mlock2(p, SPLIT, MLOCK_ONFAULT), 0);
	EXPECT_ERR(mlock2(p, SIZE, MLOCK_ONFAULT), ENOMEM);
	expect_free();
	EXPECT_EQ(munlock(p, SPLIT), 0);
	expect_free();

	EXPECT_EQ(mlockall(MCL_CURRENT), 0);
	expect_free();
	EXPECT_EQ(mlockall(MCL_CURRENT | MCL_FUTURE), 0);
	map_anew();
	expect_free();
	/* Populated at once, as far as can be. */
	q = gmem_map(fd, 0, SIZE);
	EXPECT(pfn_of(q) && pfn_of(q + PRIVATE - PAGE));
	expect_free();
	munmap(q, SIZE);
	EXPECT_EQ(mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT), 0);
	map_anew();
	expect_free();
	EXPECT_EQ(munlockall(), 0);
	expect_free();

	q = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_POPULATE | MAP_LOCKED, fd, 0);
	EXPECT(q != MAP_FAILED);
	EXPECT(pfn_of(q) && pfn_of(q + PRIVATE - PAGE));
	expect_free();
}

/* Other processes */

/* The child has what it inherited, and a mapping of its own. */
TEST(no_reference_after_fork)
{
	pid_t pid;

	set_up();
	EXPECT_EQ(pipe(to_child), 0);
	EXPECT_EQ(pipe(to_parent), 0);
	pid = fork_child();
	if (!pid) {
		char *q = gmem_map(fd, 0, SIZE);

		for (int round = 0; round < 3; round++) {
			EXPECT(holds(p, PRIVATE, SEED) && holds(q, PRIVATE, SEED));
			EXPECT(!can_read(p + PRIVATE) && !can_read(q + PRIVATE));
			say(to_parent[1]);
			hear(to_child[0]);
			for (size_t at = 0; at < SIZE; at += MB)
				EXPECT(!can_read(p + at) && !can_write(q + at));
			say(to_parent[1]);
			hear(to_child[0]);
		}
		_exit(0);
	}
	for (int round = 0; round < 3; round++) {
		hear(to_parent[0]);
		EXPECT_EQ(gmem_convert(fd, 0, SIZE, true), 0);
		say(to_child[1]);
		hear(to_parent[0]);
		EXPECT_EQ(gmem_convert(fd, 0, PRIVATE, false), 0);
		EXPECT_EQ(gmem_convert(fd, PRIVATE + 2 * PAGE, MB - 2 * PAGE, false), 0);
		say(to_child[1]);
	}
	expect_exits(pid);
	expect_free();
}

TEST(no_reference_after_ptrace)
{
	static const size_t at[] = { 0, MB, SPLIT, PRIVATE - 8, PRIVATE + 2 * PAGE };
	pid_t pid;

	set_up();
	pid = fork_child();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, NULL, WUNTRACED), pid);
	for (unsigned int i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		long was = *(long *)(p + at[i]);

		errno = 0;
		EXPECT_EQ(ptrace(PTRACE_PEEKDATA, pid, p + at[i], 0), was);
		EXPECT_EQ(errno, 0);
		EXPECT_EQ(ptrace(PTRACE_POKEDATA, pid, p + at[i], 7), 0);
		EXPECT_EQ(*(long *)(p + at[i]), 7);
		EXPECT_EQ(ptrace(PTRACE_POKEDATA, pid, p + at[i], was), 0);
		expect_free();
	}
	/* A word at a time that begins in a shared page, and ends in a private. */
	EXPECT_ERR(ptrace(PTRACE_PEEKDATA, pid, p + PRIVATE - 4, 0), EIO);
	EXPECT_ERR(ptrace(PTRACE_PEEKDATA, pid, p + PRIVATE, 0), EIO);
	expect_free();
	EXPECT_EQ(ptrace(PTRACE_CONT, pid, 0, 0), 0);
	expect_exits(pid);
}

TEST(no_reference_after_process_vm)
{
	static char buf[4 * PAGE];
	struct iovec local = { buf, sizeof(buf) }, remote[3];
	pid_t pid;

	set_up();
	pid = fork_child();
	if (!pid) {
		for (;;)
			pause();
	}
	/* As far as the first private page. */
	remote[0] = (struct iovec) { p + PRIVATE - 2 * PAGE, 4 * PAGE };
	EXPECT_EQ(process_vm_readv(pid, &local, 1, remote, 1, 0), 2 * PAGE);
	EXPECT(holds(buf, 2 * PAGE, SEED + PRIVATE / 8 - 1024));
	EXPECT_EQ(process_vm_writev(pid, &local, 1, remote, 1, 0), 2 * PAGE);
	expect_free();
	remote[0] = (struct iovec) { p, PAGE };
	remote[1] = (struct iovec) { p + PRIVATE, PAGE };
	remote[2] = (struct iovec) { p + PAGE, PAGE };
	EXPECT_EQ(process_vm_readv(pid, &local, 1, remote, 3, 0), PAGE);
	EXPECT_EQ(process_vm_writev(pid, &local, 1, remote, 3, 0), PAGE);
	expect_free();
	EXPECT_ERR(process_vm_readv(pid, &local, 1, remote + 1, 2, 0), EFAULT);
	/* The other way round: what is local has private pages. */
	remote[0] = (struct iovec) { buf, sizeof(buf) };
	local = (struct iovec) { p + PRIVATE - PAGE, 3 * PAGE };
	fill(buf, PAGE, SEED + PRIVATE / 8 - 512);
	EXPECT_EQ(process_vm_readv(getpid(), &local, 1, remote, 1, 0), PAGE);
	EXPECT_EQ(process_vm_writev(getpid(), &local, 1, remote, 1, 0), PAGE);
	expect_free();
	kill(pid, SIGKILL);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

/* Moving the mapping */

TEST(no_reference_after_mremap)
{
	char *q;

	set_up();
	EXPECT(mremap(p, SIZE, SIZE + PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	EXPECT_EQ(errno, EFAULT);
	EXPECT(mremap(p, 0, SIZE, MREMAP_MAYMOVE) == MAP_FAILED);
	EXPECT_EQ(errno, EFAULT);
	EXPECT(mremap(p, SIZE, SIZE, MREMAP_MAYMOVE | 4 /* DONTUNMAP */) == MAP_FAILED);
	EXPECT_EQ(errno, EINVAL);
	expect_free();

	/* To a fitting address, and to one where no large page fits. */
	for (size_t shift = 0; shift < 2 * PAGE; shift += PAGE) {
		q = mmap(NULL, SIZE + 4 * MB, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		q = (char *)(((uintptr_t)q + 2 * MB) & -(2 * MB)) + shift;
		q = mremap(p, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, q);
		EXPECT(q != MAP_FAILED);
		p = q;
		EXPECT(holds(p, PRIVATE, SEED));
		expect_free();
	}
	/* Cut in the middle of the large folio, and in the private pages. */
	q = mremap(p + MB, PRIVATE + PAGE - MB, MB, MREMAP_MAYMOVE);
	EXPECT_EQ(q - p, MB);
	EXPECT(holds(p, SPLIT, SEED));
	EXPECT(!can_read(p + PRIVATE + PAGE));
	EXPECT(holds(p + PRIVATE + 2 * PAGE, MB - 2 * PAGE,
		     SEED + PRIVATE / 8 + 1024));
	EXPECT_EQ(gmem_convert(fd, 0, SIZE, true), 0);
	EXPECT(!can_read(p) && !can_read(p + MB));
}

/* Futexes */

static long futex(char *at, int op, uint32_t value)
{
	return syscall(SYS_futex, at, op, value, NULL, NULL, 0);
}

/* A process asleep on a word, which it has mapped elsewhere. */
static pid_t sleep_on(size_t at)
{
	pid_t pid = fork_child();

	if (!pid) {
		char *q = gmem_map(fd, 0, SIZE) + at;

		munmap(p, SIZE);
		EXPECT_EQ(futex(q, FUTEX_WAIT, *(uint32_t *)q), 0);
		_exit(0);
	}
	EXPECT(EVENTUALLY(state_of(pid) == 'S'));
	return pid;
}

TEST(no_reference_after_futex)
{
	static const size_t at[] = { 0, 5 * PAGE + 8, MB, SPLIT + PAGE, SIZE - 4 };
	pid_t pid;

	set_up();
	for (unsigned int i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		char *q = p + at[i];

		EXPECT_EQ(futex(q, FUTEX_WAKE, 1), 0);
		expect_free();
		pid = sleep_on(at[i]);
		EXPECT_EQ(gmem_convert(fd, 0, SIZE, true), 0);
		EXPECT_ERR(futex(q, FUTEX_WAKE, 1), EFAULT);
		EXPECT_ERR(futex(q, FUTEX_WAIT, 0), EFAULT);
		EXPECT_EQ(waitpid(pid, NULL, WNOHANG), 0);
		/* The folio is another than it was: split, and joined below. */
		EXPECT_EQ(gmem_convert(fd, at[i] & -PAGE, PAGE, false), 0);
		EXPECT_EQ(futex(p + (at[i] ^ 4), FUTEX_WAKE, 1), 0);
		EXPECT_EQ(futex(q, FUTEX_WAKE, 1), 1);
		expect_exits(pid);

		pid = sleep_on(at[i]);
		EXPECT_EQ(gmem_convert(fd, 0, SIZE, false), 0);
		EXPECT_EQ(gmem_range(fd, at[i] & -PAGE).folio_order, 9);
		EXPECT_EQ(futex(q, FUTEX_WAKE, 1), 1);
		expect_exits(pid);
		EXPECT_EQ(gmem_convert(fd, PRIVATE, 2 * PAGE, true), 0);
		EXPECT(holds(p, PRIVATE, SEED));
	}
}

/* What /proc tells */

static void read_all(const char *path)
{
	static char buf[64 * KB];
	int f = open(path, O_RDONLY);
	ssize_t n;

	EXPECT(f >= 0);
	while ((n = read(f, buf, sizeof(buf))) > 0)
		;
	EXPECT_EQ(n, 0);
	close(f);
}

static bool in_pagemap(const char *at)
{
	int f = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	EXPECT_EQ(pread(f, &entry, 8, (uintptr_t)at / PAGE * 8), 8);
	close(f);
	return entry >> 63;
}

TEST(no_reference_after_proc_files)
{
	static const char * const files[] = {
		"/proc/self/maps", "/proc/self/smaps", "/proc/self/smaps_rollup",
		"/proc/self/numa_maps", "/proc/self/status", "/proc/self/statm",
	};
	char text[2];

	set_up();
	for (unsigned int i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		read_all(files[i]);
		expect_free();
	}
	EXPECT_EQ(smaps(p, "Rss"), PRIVATE);
	EXPECT_EQ(smaps(p, "FilePmdMapped"), SPLIT);
	EXPECT(in_pagemap(p) && in_pagemap(p + PRIVATE - PAGE));
	EXPECT(!in_pagemap(p + PRIVATE));
	for (char c = '1'; c <= '5'; c++) {
		snprintf(text, sizeof(text), "%c", c);
		write_text("/proc/self/clear_refs", text);
		expect_free();
	}
	EXPECT_EQ(smaps(p, "Swap"), 0);
}

/* Of Linux 6.7 */
struct scan_region {
	uint64_t start, end, categories;
};

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, wanted;
};

#define SCAN		_IOWR('f', 16, struct scan_arg)
#define SCAN_PRESENT	(1 << 3)
#define SCAN_FILE	(1 << 2)
#define SCAN_HUGE	(1 << 6)
#define SCAN_WP_MATCHING	(1 << 0)
#define SCAN_CHECK_WPASYNC	(1 << 1)

TEST(no_reference_after_pagemap_scan)
{
	struct scan_region r[8];
	struct scan_arg scan = {
		.size = sizeof(scan), .vec = (uintptr_t)r, .vec_len = 8,
		.mask = SCAN_PRESENT, .wanted = SCAN_PRESENT | SCAN_FILE | SCAN_HUGE,
	};
	int f = open("/proc/self/pagemap", O_RDONLY);

	set_up();
	EXPECT(holds(p + PRIVATE + 2 * PAGE, PAGE, SEED + PRIVATE / 8 + 1024));
	scan.start = (uintptr_t)p;
	scan.end = (uintptr_t)p + SIZE;
	EXPECT_EQ(ioctl(f, SCAN, &scan), 3);
	EXPECT_EQ(r[0].start, (uintptr_t)p);
	EXPECT_EQ(r[0].end, (uintptr_t)p + SPLIT);
	EXPECT_EQ(r[0].categories, SCAN_PRESENT | SCAN_FILE | SCAN_HUGE);
	EXPECT_EQ(r[1].end, (uintptr_t)p + PRIVATE);
	EXPECT_EQ(r[1].categories, SCAN_PRESENT | SCAN_FILE);
	EXPECT_EQ(r[2].start, (uintptr_t)p + PRIVATE + 2 * PAGE);
	expect_free();
	scan.flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC;
	EXPECT_ERR(ioctl(f, SCAN, &scan), EPERM);
	expect_free();
}

/* NUMA: looked at, asked to move, and not moved (numa=fake=2 has where to) */

TEST(no_reference_after_memory_policy)
{
	bool two = !access("/sys/devices/system/node/node1", F_OK);
	int node, other, status[4] = { }, to[4];
	unsigned long mask, other_mask;
	void *pages[4];
	uint64_t pfn;

	set_up();
	pages[0] = p;
	pages[1] = p + MB;
	pages[2] = p + SPLIT;
	pages[3] = p + PRIVATE;
	pfn = pfn_of(p);
	EXPECT_EQ(syscall(SYS_get_mempolicy, &node, NULL, 0, p,
			  MPOL_F_NODE | MPOL_F_ADDR), 0);
	EXPECT_ERR(syscall(SYS_get_mempolicy, &other, NULL, 0, p + PRIVATE,
			   MPOL_F_NODE | MPOL_F_ADDR), EFAULT);
	expect_free();
	other = two ? !node : node;
	mask = 1UL << node;
	other_mask = 1UL << other;

	/* Of kernels with CONFIG_NUMA_MIGRATION */
	if (syscall(SYS_move_pages, 0, 4, pages, NULL, status, 0) == 0) {
		EXPECT(status[0] == node && status[1] == node);
		EXPECT_EQ(status[3], -ENOENT);
		for (int i = 0; i < 4; i++)
			to[i] = other;
		EXPECT(syscall(SYS_move_pages, 0, 4, pages, to, status, MPOL_MF_MOVE) >= 0);
		EXPECT_EQ(status[0], two ? -EBUSY : node);
		expect_free();
		EXPECT(syscall(SYS_move_pages, 0, 4, pages, to, status, MPOL_MF_MOVE_ALL) >= 0);
		EXPECT_EQ(status[0], two ? -EBUSY : node);
		expect_free();
		EXPECT(syscall(SYS_migrate_pages, 0, 8, &mask, &other_mask) >= 0);
		expect_free();
	} else {
		EXPECT_EQ(errno, ENOSYS);
	}

	EXPECT_EQ(syscall(SYS_mbind, p, SIZE, MPOL_BIND, &other_mask, 8, 0), 0);
	expect_free();
	EXPECT_EQ(ERRNO(syscall(SYS_mbind, p, SIZE, MPOL_BIND, &other_mask, 8,
				MPOL_MF_MOVE)), 0);
	expect_free();
	/* Not moved, which this tells. */
	EXPECT_EQ(ERRNO(syscall(SYS_mbind, p, SIZE, MPOL_BIND, &other_mask, 8,
				MPOL_MF_MOVE_ALL | MPOL_MF_STRICT)), two ? EIO : 0);
	expect_free();
	EXPECT_EQ(pfn_of(p), pfn);
}

/* Calls on a mapping, or on the file, that mean page cache */

TEST(no_reference_after_page_cache_calls)
{
	unsigned char vec[SIZE / PAGE];

	set_up();
	EXPECT_EQ(msync(p, SIZE, MS_SYNC), 0);
	EXPECT_EQ(msync(p, SIZE, MS_ASYNC), 0);
	EXPECT_EQ(msync(p, SIZE, MS_INVALIDATE), 0);
	EXPECT_EQ(fsync(fd), 0);
	EXPECT_EQ(fdatasync(fd), 0);
	expect_free();
	EXPECT_EQ(mincore(p, SIZE, vec), 0);
	EXPECT(vec[0] && vec[PRIVATE / PAGE - 1] && !vec[PRIVATE / PAGE]);
	expect_free();
	for (int advice = POSIX_FADV_NORMAL; advice <= POSIX_FADV_NOREUSE; advice++)
		EXPECT_EQ(posix_fadvise(fd, 0, SIZE, advice), 0);
	/* There is nothing to read, and Linux 6.12 does not mind. */
	EXPECT_EQ(ERRNO(readahead(fd, 0, SIZE)), kernel_before(6, 13) ? 0 : EINVAL);
	EXPECT_EQ(sync_file_range(fd, 0, SIZE, SYNC_FILE_RANGE_WRITE), 0);
	expect_free();

	/* One page of the mapping shows another one of the file. */
	EXPECT_EQ(remap_file_pages(p + PAGE, PAGE, 0, 7, 0), 0);
	EXPECT(holds(p + PAGE, PAGE, SEED + 7 * 512));
	EXPECT_EQ(remap_file_pages(p + PAGE, PAGE, 0, PRIVATE / PAGE, 0), 0);
	EXPECT(!can_read(p + PAGE));
	EXPECT_EQ(remap_file_pages(p + PAGE, PAGE, 0, 1, 0), 0);
	expect_free();
}

TEST(no_reference_after_file_calls)
{
	int pipes[2], file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	loff_t in = 0, out = 0;
	struct iovec iov;

	set_up();
	EXPECT_EQ(pipe(pipes), 0);
	EXPECT_EQ(ftruncate(file, MB), 0);
	EXPECT_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), EINVAL);
	EXPECT_ERR(fcntl(fd, F_GET_SEALS), EINVAL);
	EXPECT_ERR(sendfile(pipes[1], fd, NULL, PAGE), EINVAL);
	EXPECT_ERR(sendfile(fd, file, NULL, PAGE), EINVAL);
	EXPECT_ERR(copy_file_range(fd, &in, file, &out, PAGE, 0), EXDEV);
	EXPECT_ERR(copy_file_range(file, &in, fd, &out, PAGE, 0), EXDEV);
	out = SPLIT;
	EXPECT_ERR(copy_file_range(fd, &in, fd, &out, PAGE, 0), EINVAL);
	EXPECT_ERR(splice(fd, NULL, pipes[1], NULL, PAGE, 0), EINVAL);
	EXPECT_EQ(write(pipes[1], p, 8), 8);
	EXPECT_ERR(splice(pipes[0], NULL, fd, NULL, 8, 0), EINVAL);
	EXPECT_ERR(tee(pipes[0], fd, 8, 0), EINVAL);
	EXPECT_ERR(tee(fd, pipes[1], 8, 0), EINVAL);
	/* Out of a pipe it copies. */
	iov = (struct iovec) { p + PRIVATE, 8 };
	EXPECT_ERR(vmsplice(pipes[0], &iov, 1, 0), EFAULT);
	iov.iov_base = p;
	EXPECT_EQ(vmsplice(pipes[0], &iov, 1, 0), 8);
	expect_free();
	/* A file's own pages in a pipe are not ours, whatever they are copied of. */
	EXPECT_EQ(pwrite(file, p, PAGE, 0), PAGE);
	EXPECT_EQ(splice(file, &in, pipes[1], NULL, PAGE, 0), PAGE);
	EXPECT_EQ(read(pipes[0], p, PAGE), PAGE);
	expect_free();
}

/* Data of shared pages is on its way, and no reference. */
TEST(no_reference_after_sending)
{
	struct sockaddr_ll lo = {
		.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_halen = 6,
	};
	struct ifreq ifr = { .ifr_name = "lo" };
	int pipes[2], pair[2], tx, rx, one = 1;
	static char buf[2 * PAGE];
	struct msghdr msg = { };
	struct iovec iov[2];

	set_up();
	EXPECT_EQ(pipe(pipes), 0);
	EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	EXPECT_EQ(write(pipes[1], p, 2 * PAGE), 2 * PAGE);
	EXPECT_EQ(send(pair[0], p + SPLIT, 2 * PAGE, 0), 2 * PAGE);
	EXPECT_ERR(setsockopt(pair[0], SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)),
		   EOPNOTSUPP);
	expect_free();
	EXPECT_EQ(read(pipes[0], buf, 2 * PAGE), 2 * PAGE);
	EXPECT(holds(buf, 2 * PAGE, SEED));
	EXPECT_EQ(recv(pair[1], buf, 2 * PAGE, MSG_WAITALL), 2 * PAGE);
	EXPECT(holds(buf, 2 * PAGE, SEED + SPLIT / 8));
	/* Nothing, or what comes before the private page. */
	EXPECT_ERR(send(pair[0], p + PRIVATE, PAGE, 0), EFAULT);
	EXPECT_EQ(write(pipes[1], p + PRIVATE - PAGE, 2 * PAGE), PAGE);
	EXPECT_ERR(send(pair[0], p + PRIVATE - PAGE, 2 * PAGE, 0), EFAULT);
	expect_free();

	tx = socket(AF_PACKET, SOCK_DGRAM, 0);
	rx = socket(AF_PACKET, SOCK_DGRAM, htons(0x88b5));
	EXPECT(tx >= 0 && rx >= 0);
	EXPECT_EQ(ioctl(tx, SIOCGIFINDEX, &ifr), 0);
	lo.sll_ifindex = ifr.ifr_ifindex;
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	EXPECT_EQ(ioctl(tx, SIOCSIFFLAGS, &ifr), 0);
	iov[0] = (struct iovec) { p, PAGE };
	iov[1] = (struct iovec) { p + SPLIT, PAGE };
	msg = (struct msghdr) {
		.msg_name = &lo, .msg_namelen = sizeof(lo),
		.msg_iov = iov, .msg_iovlen = 2,
	};
	EXPECT_EQ(sendmsg(tx, &msg, 0), 2 * PAGE);
	expect_free();
	EXPECT_EQ(recv(rx, buf, sizeof(buf), 0), 2 * PAGE);
	EXPECT(holds(buf, PAGE, SEED) && holds(buf + PAGE, PAGE, SEED + SPLIT / 8));
	iov[1].iov_base = p + PRIVATE;
	EXPECT_ERR(sendmsg(tx, &msg, 0), EFAULT);
	expect_free();
}

/* Those who go through memory by themselves */

static void wait_for_scans(const char *path)
{
	long before = read_long(path);

	EXPECT(before >= 0);
	EXPECT(EVENTUALLY(read_long(path) >= before + 3));
}

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE	67
#endif
#define KSM	"/sys/kernel/mm/ksm/"
#define THP	"/sys/kernel/mm/transparent_hugepage/"

TEST(no_reference_after_ksm_and_khugepaged)
{
	char *q = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	set_up();
	/* Something for them to come for. */
	EXPECT_EQ(madvise(q, SIZE, MADV_HUGEPAGE), 0);
	memset(q, 1, SIZE);
	EXPECT_EQ(madvise(p, SIZE, MADV_MERGEABLE), 0);
	EXPECT_EQ(prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0), 0);
	EXPECT_EQ(madvise(p, SIZE, MADV_HUGEPAGE), 0);
	write_text(KSM "sleep_millisecs", "1");
	write_text(KSM "pages_to_scan", "10000");
	write_text(KSM "run", "1");
	write_text(THP "enabled", "always");
	write_text(THP "khugepaged/pages_to_scan", "10000");
	write_text(THP "khugepaged/scan_sleep_millisecs", "1");
	for (int round = 0; round < 3; round++) {
		wait_for_scans(KSM "full_scans");
		wait_for_scans(THP "khugepaged/full_scans");
		expect_free();
	}
	write_text(THP "enabled", "madvise");
	write_text(THP "khugepaged/scan_sleep_millisecs", "10000");
	write_text(KSM "run", "2");
	write_text(KSM "run", "0");
}

/* userfaultfd */

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif

TEST(no_reference_after_userfaultfd)
{
	static const uint64_t features[] = { UFFD_FEATURE_WP_ASYNC, 0 };
	struct uffdio_zeropage zero = { };
	struct uffdio_continue cont = { };
	struct uffdio_writeprotect wp = { };
	struct uffdio_copy copy = { };
	struct uffdio_register reg;
	char *q;
	int uffd;

	set_up();
	for (unsigned int i = 0; i < 2; i++) {
		struct uffdio_api api = { .api = UFFD_API, .features = features[i] };

		uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
		if (ioctl(uffd, UFFDIO_API, &api)) {
			EXPECT(features[i]);	/* not in this kernel */
			continue;
		}
		for (int mode = 0; mode < 32; mode++) {
			reg = (struct uffdio_register) {
				.range = { (uintptr_t)p, SIZE }, .mode = mode,
			};
			EXPECT_ERR(ioctl(uffd, UFFDIO_REGISTER, &reg), EINVAL);
		}
	}
	expect_free();

	/* Nothing can be put there, ... */
	zero.range = cont.range = wp.range = reg.range;
	wp.mode = UFFDIO_WRITEPROTECT_MODE_WP;
	copy = (struct uffdio_copy) {
		.dst = (uintptr_t)p, .src = (uintptr_t)p + SPLIT, .len = PAGE,
	};
	EXPECT_ERR(ioctl(uffd, UFFDIO_COPY, &copy), ENOENT);
	EXPECT_ERR(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), ENOENT);
	EXPECT_ERR(ioctl(uffd, UFFDIO_CONTINUE, &cont), ENOENT);
	EXPECT_ERR(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), ENOENT);
	expect_free();

	/* ... and copied from there only what is shared. */
	q = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg = (struct uffdio_register) {
		.range = { (uintptr_t)q, 2 * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	EXPECT_EQ(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	copy.dst = (uintptr_t)q;
	copy.src = (uintptr_t)p + PRIVATE;
	EXPECT_ERR(ioctl(uffd, UFFDIO_COPY, &copy), EFAULT);
	copy.src = (uintptr_t)p + PRIVATE - PAGE;
	copy.len = 2 * PAGE;
	EXPECT_ERR(ioctl(uffd, UFFDIO_COPY, &copy), EAGAIN);
	EXPECT_EQ(copy.copy, PAGE);
	EXPECT(holds(q, PAGE, SEED + PRIVATE / 8 - 512));
	expect_free();
}

/* Core dumps */

#define CORE_SOCKET	"/tmp/core.socket"

/*
 * A core dump goes to a socket, and nobody reads it: it stops, and holds the
 * page that it is about to write.  Then all of it is read.
 */
TEST(core_dump_holds_a_page)
{
	static char buf[64 * KB] __attribute__((aligned(8)));
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = CORE_SOCKET };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), core, queued;
	uint64_t secret, known, at = 0;
	bool known_seen = false;
	size_t total = 0;
	ssize_t n;
	pid_t pid;

	if (kernel_before(6, 16))
		test_skip("no core dumps to sockets before Linux 6.16");
	set_up();
	secret = (SEED + PRIVATE / 8) * 0x9e3779b97f4a7c15ULL;
	known = *(uint64_t *)(p + PRIVATE - PAGE);
	EXPECT_EQ(bind(listener, (void *)&addr, sizeof(addr)), 0);
	EXPECT_EQ(listen(listener, 1), 0);
	write_text("/proc/sys/kernel/core_pattern", "@" CORE_SOCKET);
	pid = fork_child();
	if (!pid) {
		struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

		setrlimit(RLIMIT_CORE, &unlimited);
		write_text("/proc/self/coredump_filter", "0x2");	/* shared, without a name */
		abort();
	}
	core = accept(listener, NULL, NULL);
	EXPECT(core >= 0);

	/* The large folio is the first to come; not all of it fits. */
	EXPECT(EVENTUALLY(!ioctl(core, SIOCINQ, &queued) && queued > 64 * 1024 &&
			  state_of(pid) == 'S'));
	EXPECT_ERR(gmem_convert_at(fd, MB, MB, true, &at), EAGAIN);
	EXPECT_EQ(at, MB);
	EXPECT_EQ(gmem_convert(fd, SPLIT, SPLIT, true), 0);
	EXPECT_EQ(gmem_convert(fd, SPLIT, PRIVATE - SPLIT, false), 0);
	EXPECT_EQ(gmem_convert(fd, PRIVATE + 2 * PAGE, MB - 2 * PAGE, false), 0);
	EXPECT_ERR(gmem_convert(fd, 0, SIZE, true), EAGAIN);

	for (; (n = recv(core, buf, sizeof(buf), MSG_WAITALL)) > 0; total += n) {
		for (ssize_t i = 0; i < n / 8; i++) {
			EXPECT(((uint64_t *)buf)[i] != secret);
			known_seen |= ((uint64_t *)buf)[i] == known;
		}
	}
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT(total > SIZE);
	EXPECT(known_seen);
	unlink(CORE_SOCKET);
	expect_free();
}

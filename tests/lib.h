/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Test harness and helpers.  A test runs in a child process; afterwards all
 * of the machine's counters must be as they were before.
 */
#ifndef _TESTS_LIB_H
#define _TESTS_LIB_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "../gmemfd/uapi/gmemfd.h"

#define KB	1024UL
#define MB	(1024 * KB)
#define GB	(1024 * MB)
#define PAGE	4096UL

struct test {
	const char *name;
	void (*fn)(void);
	struct test *next;
};

void test_register(struct test *test);

#define TEST(test_name)							\
	static void test_name(void);					\
	static struct test test_##test_name = { #test_name, test_name, NULL }; \
	__attribute__((constructor)) static void register_##test_name(void) \
	{ test_register(&test_##test_name); }				\
	static void test_name(void)

_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *why);
/* For tests that go through a table: what a failure is in. */
void test_case(const char *name);
/* The direct map does not stay as it is (poison, module text): do not compare it. */
void test_changes_direct_map(void);

/*
 * Run a part of the test in a child that may end up asleep for good, not even
 * killable: the test fails then, and the test program goes on.
 */
void test_bounded(void (*part)(void));

#define FAIL(...)	test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define EXPECT(cond)							\
	do {								\
		if (!(cond))						\
			FAIL("%s (errno %d)", #cond, errno);		\
	} while (0)
#define EXPECT_EQ(a, b)							\
	do {								\
		long long _a = (a), _b = (b);				\
		if (_a != _b)						\
			FAIL("%s is %lld, not %s = %lld (errno %d)",	\
			     #a, _a, #b, _b, errno);			\
	} while (0)
/* The call fails with -1 and this errno. */
#define EXPECT_ERR(call, err)						\
	do {								\
		long long _r;						\
		errno = 0;						\
		_r = (call);						\
		if (_r != -1 || errno != (err))				\
			FAIL("%s: %lld, errno %d, not %s",		\
			     #call, _r, errno, #err);			\
	} while (0)

/* The device and its files */
int gmem_device(void);
int gmem_create(size_t size, size_t block, uint64_t flags);
int gmem_convert(int fd, uint64_t offset, uint64_t size, bool private);
int gmem_convert_to(int fd, uint64_t offset, uint64_t size, uint64_t attributes);
int gmem_convert_at(int fd, uint64_t offset, uint64_t size, bool private,
		    uint64_t *error_offset);
/* To private; the timeout is in nanoseconds, see struct gmemfd_convert. */
int gmem_convert_wait(int fd, uint64_t offset, uint64_t size, uint64_t *timeout,
		      uint64_t *error_offset);
int gmem_convert_ranges(int fd, const struct gmemfd_convert_range *ranges,
			unsigned int nr, uint64_t *error_offset);
int gmem_punch(int fd, uint64_t offset, uint64_t size);
int gmem_allocate(int fd, uint64_t offset, uint64_t size);
/* "/proc/self/fd/N", until this thread's next call. */
const char *fd_path(int fd);
char *gmem_map(int fd, uint64_t offset, size_t size);
/* The range that offset lies in; its offset and size are of what is asked on. */
struct gmemfd_range gmem_range(int fd, uint64_t offset);
/* All ranges up to size; returns how many. */
unsigned int gmem_ranges(int fd, uint64_t size, struct gmemfd_range *ranges,
			 unsigned int nr);
int gmem_state(int fd, uint64_t offset);	/* 1 private, 0 shared */

/* Memory */
bool can_read(const volatile char *p);		/* false: SIGBUS */
bool can_write(volatile char *p);
void fill(char *p, size_t size, uint64_t seed);
bool holds(const char *p, size_t size, uint64_t seed);
bool is_zero(const char *p, size_t size);
uint64_t pfn_of(const void *p);
/* A figure of the mapping that p is in, in bytes: "Rss", "FilePmdMapped", ... */
long smaps(const void *p, const char *key);

/* Where the kernel's direct map has a page frame; KASLR is off in the lab. */
unsigned long direct_map_address(uint64_t pfn);

/*
 * How the kernel maps a page frame: log2 of the mapping's size, 0 for not at
 * all.  The dump that this reads passes over large entries that are not
 * present, and has their neighbours' go on there: 21 and 30 say nothing about
 * presence, which reading /proc/kcore does.
 */
int direct_map_shift(uint64_t pfn);
/* log2 of the size of the entry that maps p in this process; 0 if nobody tells. */
int user_shift(const void *p);

/* Physical memory as the kernel reads it; returns what pread() did, or -1. */
long read_kcore(uint64_t address, void *buf, size_t size);

/* The calling thread, from here on. */
void run_on_cpu(int cpu);

/* Holding references */
struct pin {
	int ring;
	int pipe[2];
};
void pin_io_uring(struct pin *pin, void *p, size_t size);
void pin_pipe(struct pin *pin, void *p, size_t size);
void unpin(struct pin *pin);

/*
 * A block device over a file in memory, opened with O_DIRECT: unlike the
 * file's own O_DIRECT, which copies, its I/O is done in the caller's pages.
 */
int open_loop_device(size_t size, int *file);

/* Failing allocations (faults.c): skips the test where the kernel cannot. */
void faults_set_up(void);
void faults_arm(int nth);	/* the nth from here on fails */
bool faults_fired(void);	/* disarm; true if one was made to fail */

/* A memory error in a page frame (poison.c). */
void poison(uint64_t pfn);

/*
 * The module gmemfd_put_test (see tests/kernel/put_test.c); skips the test where it
 * is not loaded.  What is told is written; what is asked is what write() returns.
 */
int open_put_test(void);
void tell_put_test(int dev, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int ask_put_test(int dev, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Whoever calls a function of the kernel next stays there for a second. */
enum delay { NOT_YET = 1, INSIDE, GONE_ON };
void delay_in_kernel(int dev, const char *function);
enum delay delayed(int dev);

/* Modules, which lie in /lib */
int module_load(const char *name, const char *args);
int module_unload(const char *name);

/* Files of the kernel */
long read_long(const char *path);
void write_text(const char *path, const char *text);
long meminfo(const char *key);
long pool(size_t block, const char *key);	/* e.g. pool(2 * MB, "free_hugepages") */
char state_of(pid_t pid);	/* a letter, see proc_pid_stat(5) */
/* 1 GiB huge pages, which not all CPUs have; a test that needs them is skipped. */
bool have_1g_blocks(void);
void need_1g_blocks(void);
bool debug_kernel(void);
bool shim_is_module(void);
bool shim_hooks_kvm(void);
bool kernel_before(unsigned int major, unsigned int minor);

/* Wait up to some seconds for a condition. */
#define EVENTUALLY(cond)						\
	({								\
		int _i;							\
		for (_i = 0; _i < 1000 && !(cond); _i++)		\
			usleep(10000);					\
		_i < 1000;						\
	})

#endif /* _TESTS_LIB_H */

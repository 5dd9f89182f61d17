// SPDX-License-Identifier: GPL-2.0
/* Calls whose task is stopped, traced, frozen, or signalled while they run. */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "lib.h"

#define SEC	1000000000ULL
#define SIZE	(16 * MB)
#define CGROUP	"/sys/fs/cgroup/frozen"

/* Ways to take a process out of a call for a while, with no handler in it */

static void by_stop(pid_t pid)
{
	EXPECT_EQ(kill(pid, SIGSTOP), 0);
	EXPECT(EVENTUALLY(state_of(pid) == 'T'));
	EXPECT_EQ(kill(pid, SIGCONT), 0);
}

static void by_debugger(pid_t pid)
{
	int status;

	EXPECT_EQ(ptrace(PTRACE_SEIZE, pid, 0, 0), 0);
	EXPECT_EQ(ptrace(PTRACE_INTERRUPT, pid, 0, 0), 0);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSTOPPED(status));
	EXPECT_EQ(ptrace(PTRACE_DETACH, pid, 0, 0), 0);
}

static bool is_frozen(void)
{
	char text[64] = "";
	int fd = open(CGROUP "/cgroup.events", O_RDONLY);

	EXPECT(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return strstr(text, "frozen 1");
}

static void by_freezer(pid_t pid)
{
	char text[32];

	EXPECT(!mkdir(CGROUP, 0755) || errno == EEXIST);
	snprintf(text, sizeof(text), "%d", pid);
	write_text(CGROUP "/cgroup.procs", text);
	write_text(CGROUP "/cgroup.freeze", "1");
	EXPECT(EVENTUALLY(is_frozen()));
	write_text(CGROUP "/cgroup.freeze", "0");
}

/* What a child tells, and is told */
static struct {
	volatile bool calls, stop;
	volatile int err;
	uint64_t timeout;
} *child;

static pid_t fork_child(void)
{
	pid_t pid;

	child = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(child != MAP_FAILED);
	pid = fork();
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void end_child(pid_t pid)
{
	int status;

	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	rmdir(CGROUP);
}

/* Waiting for references */

static pid_t fork_waiter(int fd, uint64_t timeout)
{
	pid_t pid = fork_child();
	uint64_t at = 0;

	if (pid)
		return pid;
	child->timeout = timeout;
	child->calls = true;
	if (gmem_convert_wait(fd, 0, 2 * MB, &child->timeout, &at))
		child->err = errno;
	_exit(0);
}

static void wait_goes_on(void (*way)(pid_t pid))
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	struct pin pin;
	pid_t pid;

	p[0] = 1;
	pin_io_uring(&pin, p, PAGE);
	pid = fork_waiter(fd, 3600 * SEC);
	for (int i = 0; i < 3; i++) {
		EXPECT(EVENTUALLY(child->calls && state_of(pid) == 'S'));
		way(pid);
	}
	EXPECT(EVENTUALLY(state_of(pid) == 'S'));
	EXPECT_EQ(gmem_state(fd, 0), 0);
	unpin(&pin);
	end_child(pid);
	EXPECT_EQ(child->err, 0);
	EXPECT_EQ(gmem_state(fd, 0), 1);
	/* It was interrupted, and went on with what was left. */
	EXPECT(child->timeout < 3600 * SEC && child->timeout > 1800 * SEC);
}

TEST(convert_wait_stopped)
{
	wait_goes_on(by_stop);
}

TEST(convert_wait_traced)
{
	wait_goes_on(by_debugger);
}

TEST(convert_wait_frozen)
{
	wait_goes_on(by_freezer);
}

/* Whoever is stopped again and again does not wait for ever. */
TEST(convert_wait_stopped_times_out)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED), i;
	char *p = gmem_map(fd, 0, 2 * MB);
	siginfo_t info = {};
	struct pin pin;
	pid_t pid;

	p[0] = 1;
	pin_io_uring(&pin, p, PAGE);
	pid = fork_waiter(fd, SEC);
	for (i = 0; i < 1000 && !info.si_pid; i++) {
		EXPECT_EQ(kill(pid, SIGSTOP), 0);
		EXPECT(EVENTUALLY(strchr("TZ", state_of(pid))));
		EXPECT_EQ(kill(pid, SIGCONT), 0);
		usleep(10000);
		EXPECT_EQ(waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	}
	EXPECT(i < 1000);
	end_child(pid);
	EXPECT_EQ(child->err, ETIMEDOUT);
	unpin(&pin);
}

/* fallocate */

static void fallocate_goes_on(void (*way)(pid_t pid))
{
	int fd = gmem_create(SIZE, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	pid_t pid = fork_child();

	if (!pid) {
		while (!child->stop) {
			child->calls = true;
			if (gmem_allocate(fd, 0, SIZE) || gmem_punch(fd, 0, SIZE))
				child->err = errno;
		}
		_exit(0);
	}
	EXPECT(EVENTUALLY(child->calls));
	for (int i = 0; i < 20; i++) {
		usleep(i * 1000);
		way(pid);
		EXPECT_EQ(child->err, 0);
	}
	child->stop = true;
	end_child(pid);
	EXPECT_EQ(child->err, 0);
}

TEST(fallocate_stopped)
{
	fallocate_goes_on(by_stop);
}

TEST(fallocate_traced)
{
	fallocate_goes_on(by_debugger);
}

TEST(fallocate_frozen)
{
	fallocate_goes_on(by_freezer);
}

static volatile unsigned int ticks;

static void on_tick(int sig)
{
	(void)sig;
	ticks++;
}

/* One call does all of it, however many handlers are to run after it. */
TEST(fallocate_under_timer)
{
	const struct itimerval each_ms = { { 0, 1000 }, { 0, 1000 } }, never = {};
	int fd = gmem_create(SIZE, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	struct sigaction sa = { .sa_handler = on_tick };
	unsigned int seen = 0;

	EXPECT_EQ(sigaction(SIGALRM, &sa, NULL), 0);
	EXPECT_EQ(setitimer(ITIMER_REAL, &each_ms, NULL), 0);
	for (int i = 0; i < 100 && seen < 5; i++) {
		ticks = 0;
		EXPECT_EQ(gmem_allocate(fd, 0, SIZE), 0);
		EXPECT_EQ(gmem_range(fd, 0).size, SIZE);
		EXPECT_EQ(gmem_punch(fd, 0, SIZE), 0);
		seen += ticks > 0;
	}
	EXPECT_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
	EXPECT_EQ(seen, 5);
}

/* By io_uring, whose workers are told of a cancellation as others of a signal */

static int ring;
static struct io_uring_params params;
static struct io_uring_sqe *entries;
static char *rings;

static void ring_open(void)
{
	params = (struct io_uring_params) {};
	ring = syscall(__NR_io_uring_setup, 1, &params);
	EXPECT(ring >= 0);
	rings = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	entries = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	EXPECT(rings != MAP_FAILED && entries != MAP_FAILED);
}

static void ring_submit(const struct io_uring_sqe *entry)
{
	uint32_t *tail = (uint32_t *)(rings + params.sq_off.tail);

	entries[0] = *entry;		/* the only one */
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	EXPECT_EQ(syscall(__NR_io_uring_enter, ring, 1, 0, 0, NULL, 0), 1);
}

/* The result of the entry whose user_data is @which, when all @nr are done. */
static int ring_result(unsigned int nr, uint64_t which)
{
	struct io_uring_cqe *done = (void *)(rings + params.cq_off.cqes);
	uint32_t *tail = (uint32_t *)(rings + params.cq_off.tail);

	while (__atomic_load_n(tail, __ATOMIC_ACQUIRE) < nr)
		syscall(__NR_io_uring_enter, ring, 0, nr, IORING_ENTER_GETEVENTS, NULL, 0);
	while (done->user_data != which)
		done++;
	return done->res;
}

static void ring_close(void)
{
	munmap(rings, PAGE);
	munmap(entries, PAGE);
	close(ring);
}

TEST(fallocate_by_io_uring_cancelled)
{
	int fd = gmem_create(SIZE, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	const struct io_uring_sqe allocate = {
		.opcode = IORING_OP_FALLOCATE, .fd = fd, .addr = SIZE,
		.len = FALLOC_FL_KEEP_SIZE, .user_data = 1,
	};
	const struct io_uring_sqe cancel = {
		.opcode = IORING_OP_ASYNC_CANCEL, .fd = -1, .addr = 1, .user_data = 2,
	};

	for (int i = 0; i < 40; i++) {
		int ret;

		ring_open();
		ring_submit(&allocate);
		usleep(i * 500);
		ring_submit(&cancel);
		ret = ring_result(2, 1);
		if (ret && ret != -ECANCELED)
			FAIL("round %d: %d", i, ret);
		ring_close();
		EXPECT_EQ(gmem_punch(fd, 0, SIZE), 0);
	}
}

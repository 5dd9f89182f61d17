// SPDX-License-Identifier: GPL-2.0
/* What the machine must not do while there is memory behind a gmem file. */
#include <signal.h>
#include <sys/wait.h>

#include "lib.h"

static int write_state(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), ret, err;

	if (fd < 0)
		test_skip("not in this kernel");
	ret = write(fd, text, strlen(text));
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

/* Hibernation would write private pages to a disk, and they are not mapped. */
TEST(hibernation_refused)
{
	int fd = gmem_create(2 * MB, 2 * MB, 0);

	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_ERR(write_state("/sys/power/state", "disk"), EBUSY);
	EXPECT_EQ(gmem_range(fd, 0).size, 2 * MB);
	close(fd);
}

/* A child that wants memory, which does not keep hibernation going itself. */
static pid_t fork_to_allocate(int fd, int snapshot)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	close(snapshot);
	_exit(gmem_allocate(fd, 0, 2 * MB) != 0);
}

/* What was let go ahead because there was no memory finds none later either. */
TEST(hibernation_keeps_memory_out)
{
	int fd = gmem_create(2 * MB, 2 * MB, 0), snapshot, status;
	pid_t pid;

	snapshot = open("/dev/snapshot", O_RDONLY | O_CLOEXEC);
	EXPECT(snapshot >= 0);
	pid = fork_to_allocate(fd, snapshot);
	usleep(300000);
	EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0);
	close(snapshot);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_ERR(open("/dev/snapshot", O_RDONLY | O_CLOEXEC), EBUSY);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);

	/* Who waits may be killed. */
	snapshot = open("/dev/snapshot", O_RDONLY | O_CLOEXEC);
	EXPECT(snapshot >= 0);
	pid = fork_to_allocate(fd, snapshot);
	usleep(300000);
	kill(pid, SIGKILL);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSIGNALED(status));
	EXPECT(!(gmem_range(fd, 0).flags & GMEMFD_RANGE_ALLOCATED));
	close(snapshot);
	close(fd);
}

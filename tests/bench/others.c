// SPDX-License-Identifier: GPL-2.0
/*
 * Row j: what those do all day who have nothing to do with gmem files.  For a
 * comparison of kernels with and without the shim; says nothing about gmemfd.
 */
#define _GNU_SOURCE
#include <sys/uio.h>
#include <sys/wait.h>

#include "bench.h"

#define AREA	(16 * MB)

static char *area(int fd)
{
	char *p = mmap(NULL, AREA, PROT_READ | PROT_WRITE,
		       fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

static void faults_and_munmap(void)
{
	char *p = area(-1);

	tell("kernel", "page faults, anonymous", AREA, TIME(touch(p, AREA)));
	tell("kernel", "munmap, anonymous", AREA, TIME(munmap(p, AREA)));
}

static void file_faults_and_truncate(void)
{
	int fd = memfd(AREA, 0);
	char *p = area(fd);

	tell("kernel", "page faults, tmpfs", AREA, TIME(touch(p, AREA)));
	tell("kernel", "munmap, tmpfs", AREA, TIME(munmap(p, AREA)));
	tell("kernel", "truncate, tmpfs", AREA, TIME(EXPECT_EQ(ftruncate(fd, 0), 0)));
	close(fd);
}

static void pipe_traffic(void)
{
	static char buf[PAGE];
	int fds[2];

	EXPECT_EQ(pipe(fds), 0);
	tell("kernel", "pipe, 4 KiB each way", 5000,
	     TIME(for (int i = 0; i < 5000; i++) {
			EXPECT_EQ(write(fds[1], buf, PAGE), (long)PAGE);
			EXPECT_EQ(read(fds[0], buf, PAGE), (long)PAGE);
		  }));
	close(fds[0]);
	close(fds[1]);
}

/* Pages that are in no page table any more: the pipe has their last reference. */
static void last_puts(void)
{
	uint64_t time = 0;
	char *p = area(-1);
	static char buf[16 * PAGE];
	int fds[2];

	EXPECT_EQ(pipe(fds), 0);
	for (uint64_t at = 0; at < AREA; at += 16 * PAGE) {
		struct iovec iov = { p + at, 16 * PAGE };

		touch(p + at, 16 * PAGE);
		EXPECT_EQ(vmsplice(fds[1], &iov, 1, 0), (long)iov.iov_len);
		EXPECT_EQ(madvise(p + at, 16 * PAGE, MADV_DONTNEED), 0);
		time += TIME(EXPECT_EQ(read(fds[0], buf, sizeof(buf)), (long)sizeof(buf)));
	}
	tell("kernel", "last puts, one by one", AREA, time);
	munmap(p, AREA);
	close(fds[0]);
	close(fds[1]);
}

static void fork_and_exit(void)
{
	char *p = area(-1);

	touch(p, AREA);
	tell("kernel", "fork, write 1 MiB, exit", AREA,
	     TIME(for (int i = 0; i < 4; i++) {
			pid_t pid = fork();
			int status;

			if (!pid) {
				touch(p, MB);
				_exit(0);
			}
			EXPECT(waitpid(pid, &status, 0) == pid && !status);
		  }));
	munmap(p, AREA);
}

void row_others(void)
{
	faults_and_munmap();
	file_faults_and_truncate();
	pipe_traffic();
	last_puts();
	fork_and_exit();
}

/* The same while there is a gmem file, part private and part shared. */
void row_others_in_use(void)
{
	int fd = gmem_create(64 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);

	EXPECT_EQ(gmem_allocate(fd, 0, 64 * MB), 0);
	for (uint64_t at = 0; at < 64 * MB; at += 2 * MB)
		EXPECT_EQ(gmem_convert(fd, at, MB, true), 0);
	row_others();
	close(fd);
}

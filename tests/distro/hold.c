// SPDX-License-Identifier: GPL-2.0
/*
 * Uses a gmem file until told to stop (SIGTERM): one page is private all the
 * while, and has to have its contents afterwards.  Exit status 0 if it has.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../gmemfd/uapi/gmemfd.h"

#define SIZE	(2UL << 20)
#define PAGE	4096

int main(void)
{
	struct gmemfd_create create = { .size = SIZE, .block_size = SIZE,
					.flags = GMEMFD_CREATE_INIT_SHARED };
	struct gmemfd_convert convert = { .offset = PAGE, .size = PAGE,
					  .attributes = GMEMFD_ATTRIBUTE_PRIVATE };
	sigset_t stop;
	int fd, sig;
	char *p;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	fd = ioctl(open("/dev/gmemfd", O_RDWR | O_CLOEXEC), GMEMFD_CREATE, &create);
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	memset(p, 'g', SIZE);
	if (ioctl(fd, GMEMFD_CONVERT, &convert))
		return perror("to private"), 1;
	puts("holding");
	fflush(stdout);
	sigwait(&stop, &sig);
	convert.attributes = 0;
	if (ioctl(fd, GMEMFD_CONVERT, &convert))
		return perror("to shared"), 1;
	for (size_t i = 0; i < SIZE; i++) {
		if (p[i] != 'g')
			return fprintf(stderr, "wrong contents at %zu\n", i), 1;
	}
	return 0;
}

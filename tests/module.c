// SPDX-License-Identifier: GPL-2.0
/* Loading and unloading. */
#define _GNU_SOURCE
#include <sys/klog.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "lib.h"

TEST(unload_refused_while_in_use)
{
	int device, fd;
	char *p;

	device = gmem_device();
	EXPECT_ERR(module_unload("gmemfd"), EAGAIN);
	close(device);
	fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT_ERR(module_unload("gmemfd"), EAGAIN);
	p = gmem_map(fd, 0, 2 * MB);
	p[0] = 1;
	close(fd);
	EXPECT_ERR(module_unload("gmemfd"), EAGAIN);
	munmap(p, 2 * MB);
}

/* An O_PATH fd keeps the inode, and has none of our file operations. */
TEST(unload_refused_while_path_is_open)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED), path_fd;
	char *p = gmem_map(fd, 0, 2 * MB);
	struct stat st;

	p[0] = 1;
	munmap(p, 2 * MB);
	path_fd = open(fd_path(fd), O_PATH);
	EXPECT(path_fd >= 0);
	close(fd);
	EXPECT_ERR(module_unload("gmemfd"), EAGAIN);
	EXPECT_EQ(fstat(path_fd, &st), 0);
	EXPECT_EQ(st.st_size, 2 * MB);
	close(path_fd);
}

TEST(unload_and_load_again)
{
	test_changes_direct_map();
	for (int i = 0; i < 5; i++) {
		int fd = gmem_create(2 * MB, 2 * MB, 0);

		EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
		EXPECT_EQ(gmem_convert(fd, 0, PAGE, false), 0);
		close(fd);
		EXPECT_EQ(module_unload("gmemfd"), 0);
		EXPECT(access("/dev/gmemfd", F_OK));
		EXPECT_EQ(module_load("gmemfd", ""), 0);
	}
}

/*
 * The same module under another name: the shim's symbols are not for it.  The
 * name is patched in the image, at the same length.
 */
TEST(other_module_refused)
{
	int fd = open("/lib/gmemfd.ko", O_RDONLY);
	size_t size = lseek(fd, 0, SEEK_END), at = 0;
	char *image = malloc(size), *log;
	int copies = 0;

	EXPECT_EQ(pread(fd, image, size, 0), (long long)size);
	for (at = 0; at + 7 <= size; at++) {
		/* .modinfo's name= and the name in struct module */
		if (memcmp(image + at, "gmemfd", 7))
			continue;
		memcpy(image + at, "gmemfe", 6);
		copies++;
	}
	EXPECT(copies >= 2);
	test_changes_direct_map();
	EXPECT_ERR(syscall(__NR_init_module, image, size, ""), EINVAL);
	free(image);

	/* And for that reason. */
	log = malloc(1 << 20);
	size = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, (1 << 20) - 1);
	log[size] = '\0';
	EXPECT(strstr(log, "gmemfe: module uses symbol (gmem_loan_take) from namespace module:gmemfd"));
	free(log);
}

// SPDX-License-Identifier: GPL-2.0
/* Loading and unloading. */
#define _GNU_SOURCE
#include <sys/klog.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "lib.h"

static int unload(const char *name)
{
	return syscall(__NR_delete_module, name, O_NONBLOCK);
}

static int load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret, err;

	EXPECT(fd >= 0);
	ret = syscall(__NR_finit_module, fd, "", 0);
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

TEST(unload_refused_while_in_use)
{
	int device, fd;
	char *p;

	device = gmem_device();
	EXPECT_ERR(unload("gmemfd"), EAGAIN);
	close(device);
	fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT_ERR(unload("gmemfd"), EAGAIN);
	p = gmem_map(fd, 0, 2 * MB);
	p[0] = 1;
	close(fd);
	EXPECT_ERR(unload("gmemfd"), EAGAIN);
	munmap(p, 2 * MB);
}

/* An O_PATH fd keeps the inode, and has none of our file operations. */
TEST(unload_refused_while_path_is_open)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED), path_fd;
	char *p = gmem_map(fd, 0, 2 * MB), path[64];
	struct stat st;

	p[0] = 1;
	munmap(p, 2 * MB);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	path_fd = open(path, O_PATH);
	EXPECT(path_fd >= 0);
	close(fd);
	EXPECT_ERR(unload("gmemfd"), EAGAIN);
	EXPECT_EQ(fstat(path_fd, &st), 0);
	EXPECT_EQ(st.st_size, 2 * MB);
	close(path_fd);
}

TEST(unload_and_load_again)
{
	test_loads_modules();
	for (int i = 0; i < 5; i++) {
		int fd = gmem_create(2 * MB, 2 * MB, 0);

		EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
		EXPECT_EQ(gmem_convert(fd, 0, PAGE, false), 0);
		close(fd);
		EXPECT_EQ(unload("gmemfd"), 0);
		EXPECT(access("/dev/gmemfd", F_OK));
		EXPECT_EQ(load("/lib/gmemfd.ko"), 0);
	}
}

/* The code of a kernel function as it is now; returns its length. */
static size_t kernel_code(const char *name, unsigned char *code, size_t max)
{
	unsigned long addr, next, at = 0, end = 0;
	FILE *f = fopen("/proc/kallsyms", "r");
	char type, symbol[256];
	size_t len;

	EXPECT(f);
	while (fscanf(f, "%lx %c %255s%*[^\n]", &addr, &type, symbol) == 3) {
		if (!at && !strcmp(symbol, name))
			at = addr;
	}
	EXPECT(at);
	rewind(f);
	while (fscanf(f, "%lx %c %255s%*[^\n]", &next, &type, symbol) == 3) {
		if (next > at && (!end || next < end))
			end = next;
	}
	fclose(f);
	len = end - at;
	EXPECT(len > 16 && len <= max);
	EXPECT_EQ(read_kcore(KCORE_VIRTUAL, at, code, len), (long long)len);
	return len;
}

/*
 * Without the module the last put runs through a no-op where the jump to the
 * callback is with it, and nothing else is different.
 */
static void expect_one_jump(const char *name)
{
	static unsigned char with[8192], without[8192];
	size_t len = kernel_code(name, with, sizeof(with)), lo, hi;

	EXPECT_EQ(unload("gmemfd"), 0);
	EXPECT_EQ(kernel_code(name, without, sizeof(without)), (long long)len);
	EXPECT_EQ(load("/lib/gmemfd.ko"), 0);

	for (lo = 0; lo < len && with[lo] == without[lo]; lo++)
		;
	for (hi = len; hi > lo && with[hi - 1] == without[hi - 1]; hi--)
		;
	EXPECT(hi > lo && hi - lo <= 5);
	if (with[lo] == 0xe9)
		EXPECT(!memcmp(without + lo, "\x0f\x1f\x44\x00\x00", 5));
	else if (with[lo] == 0xeb)
		EXPECT(!memcmp(without + lo, "\x66\x90", 2));
	else
		FAIL("%s: byte %#x where a jump should be", name, with[lo]);
}

TEST(shim_is_a_noop_without_the_module)
{
	test_loads_modules();
	expect_one_jump("__folio_put");
	expect_one_jump("folios_put_refs");
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
	test_loads_modules();
	EXPECT_ERR(syscall(__NR_init_module, image, size, ""), EINVAL);
	free(image);

	/* And for that reason. */
	log = malloc(1 << 20);
	size = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, (1 << 20) - 1);
	log[size] = '\0';
	EXPECT(strstr(log, "gmemfe: module uses symbol (gmem_loan_take) from namespace module:gmemfd"));
	free(log);
}

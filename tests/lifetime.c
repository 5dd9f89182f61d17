// SPDX-License-Identifier: GPL-2.0
/*
 * What a file's memory and the module live by: fds and mappings, and nothing
 * else that user space can have of an inode (O_PATH fds, watches).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "lib.h"

#define SIZE	(8 * MB)
#define BLOCKS	(SIZE / (2 * MB))
#define USER	1000

static int open_path(int fd)
{
	int path_fd = open(fd_path(fd), O_PATH | O_CLOEXEC);

	EXPECT(path_fd >= 0);
	return path_fd;
}

static int watch(int inotify, int fd)
{
	return inotify_add_watch(inotify, fd_path(fd), IN_ALL_EVENTS);
}

static int new_inotify(void)
{
	int inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	if (inotify < 0 && errno == ENOSYS)
		test_skip("no inotify in this kernel");
	EXPECT(inotify >= 0);
	return inotify;
}

/* The masks of all events so far; returns how many. */
static int events(int inotify, uint32_t *masks, int max)
{
	char buf[4096] __attribute__((aligned(8)));
	struct inotify_event *event;
	ssize_t size, at;
	int n = 0;

	while ((size = read(inotify, buf, sizeof(buf))) > 0) {
		for (at = 0; at < size; at += sizeof(*event) + event->len) {
			event = (struct inotify_event *)(buf + at);
			EXPECT(n < max);
			masks[n++] = event->mask;
		}
	}
	EXPECT_EQ(errno, EAGAIN);
	return n;
}

/* Where a user gets files from, who may not open the device. */
static int user_device = -1;

static void become_user(void)
{
	user_device = gmem_device();
	EXPECT_EQ(setgid(USER), 0);
	EXPECT_EQ(setuid(USER), 0);
}

/* A file, mostly private, which this process has one fd of. */
static int new_file(void)
{
	struct gmemfd_create create = { .size = SIZE, .block_size = 2 * MB };
	int fd = user_device < 0 ? gmem_create(SIZE, 2 * MB, 0) :
				   ioctl(user_device, GMEMFD_CREATE, &create);

	EXPECT(fd >= 0);
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, false), 0);
	return fd;
}

/* The file system of files is gone with the last one, and not waited for. */
static void remove_watch_after_close(void)
{
	int inotify = new_inotify(), fd = new_file(), wd = watch(inotify, fd);

	EXPECT(wd >= 0);
	close(fd);
	/* The watch went with the file, as it does with a memfd. */
	EXPECT_ERR(inotify_rm_watch(inotify, wd), EINVAL);
	close(inotify);
	sync();
}

TEST(watch_removed_after_close)
{
	test_bounded(remove_watch_after_close);
	test_bounded(sync);
}

static void user_removes_watch_after_close(void)
{
	become_user();
	remove_watch_after_close();
}

TEST(watch_removed_after_close_by_user)
{
	test_bounded(user_removes_watch_after_close);
	test_bounded(sync);
}

static void close_inotify_after_close(void)
{
	int inotify = new_inotify(), fd = new_file();

	EXPECT(watch(inotify, fd) >= 0);
	close(fd);
	close(inotify);
	sync();
}

TEST(watch_closed_after_close)
{
	test_bounded(close_inotify_after_close);
	test_bounded(sync);
}

static void watch_goes_first(void)
{
	int inotify = new_inotify(), fd = new_file(), wd = watch(inotify, fd);

	EXPECT(wd >= 0);
	EXPECT_EQ(inotify_rm_watch(inotify, wd), 0);
	close(fd);
	fd = new_file();
	EXPECT(watch(inotify, fd) >= 0);
	close(inotify);
	close(fd);
	sync();
}

TEST(watch_removed_before_close)
{
	test_bounded(watch_goes_first);
}

/* What a watcher is told while a file is used and goes; closes fd. */
static int told(int fd, bool by_path, uint32_t *masks, int max)
{
	int inotify = new_inotify(), path_fd = -1, n;
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);

	EXPECT(watch(inotify, fd) >= 0);
	EXPECT(p != MAP_FAILED);
	p[0] = 1;
	munmap(p, PAGE);
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	if (by_path)
		path_fd = open_path(fd);
	close(fd);
	n = events(inotify, masks, max);
	if (by_path) {
		close(path_fd);
		n += events(inotify, masks + n, max - n);
	}
	close(inotify);
	return n;
}

static void watch_as_memfd(bool by_path)
{
	int memfd = memfd_create("peer", MFD_CLOEXEC), n;
	uint32_t want[16], got[16];

	EXPECT_EQ(ftruncate(memfd, SIZE), 0);
	n = told(memfd, by_path, want, 16);
	EXPECT(n >= 2 && want[n - 2] == IN_DELETE_SELF && want[n - 1] == IN_IGNORED);
	EXPECT_EQ(told(new_file(), by_path, got, 16), n);
	for (int i = 0; i < n; i++)
		EXPECT_EQ(got[i], want[i]);
}

static void compare_with_memfd(void)
{
	test_case("fd");
	watch_as_memfd(false);
	test_case("O_PATH fd");
	watch_as_memfd(true);
}

TEST(watch_is_told_as_of_a_memfd)
{
	test_bounded(compare_with_memfd);
	test_bounded(sync);
}

/* Watches come and go beside the last close of the file that they are of. */

#define ROUNDS	60

struct watcher {
	pthread_t thread;
	int inotify;
	long seen;
};

static volatile int watched_fd;
static volatile bool watch_on;

static void *add_and_remove(void *arg)
{
	struct watcher *w = arg;
	int fd, wd;

	while (watch_on) {
		fd = watched_fd;
		wd = fd < 0 ? -1 : watch(w->inotify, fd);
		if (wd < 0)
			continue;
		w->seen++;
		/* The file may be gone already. */
		if (w->seen % 2)
			inotify_rm_watch(w->inotify, wd);
	}
	return NULL;
}

static void add_and_remove_beside_close(void)
{
	struct watcher watchers[2] = { };
	int fd;

	watched_fd = -1;
	watch_on = true;
	for (int i = 0; i < 2; i++) {
		watchers[i].inotify = new_inotify();
		EXPECT_EQ(pthread_create(&watchers[i].thread, NULL, add_and_remove,
					 &watchers[i]), 0);
	}
	for (int round = 0; round < ROUNDS; round++) {
		fd = new_file();
		watched_fd = fd;
		usleep(round % 4 * 300);
		if (round % 2)
			watched_fd = -1;
		close(fd);
		watched_fd = -1;
	}
	watch_on = false;
	for (int i = 0; i < 2; i++)
		pthread_join(watchers[i].thread, NULL);
	EXPECT(watchers[0].seen && watchers[1].seen);
	close(watchers[0].inotify);
	close(watchers[1].inotify);
	sync();
}

TEST(watch_beside_close)
{
	test_bounded(add_and_remove_beside_close);
	test_bounded(sync);
}

/* What is left of a file of which neither an fd nor a mapping is open. */
struct rest {
	const char *name;
	bool by_path, watched, second_fd;
};

static const struct rest rests[] = {
	{ .name = "nothing" },
	{ .name = "O_PATH fd", .by_path = true },
	{ .name = "watch", .watched = true },
	{ .name = "O_PATH fd and watch", .by_path = true, .watched = true },
	{ .name = "O_PATH fd, after a second fd", .by_path = true, .second_fd = true },
};

static const struct rest *rest;
static size_t rest_block;

static void expect_reserved(long free, long reserved)
{
	EXPECT_EQ(pool(rest_block, "free_hugepages"), free);
	EXPECT_EQ(pool(rest_block, "resv_hugepages"), reserved);
}

static bool frame_is_zero(uint64_t pfn)
{
	char buf[PAGE];

	EXPECT_EQ(read_kcore(pfn * PAGE, buf, PAGE), (long)PAGE);
	return is_zero(buf, PAGE);
}

/* Of two blocks the first gets memory: with private and shared pages. */
static void memory_goes_with_last_fd(void)
{
	long free = pool(rest_block, "free_hugepages");
	long reserved = pool(rest_block, "resv_hugepages");
	int inotify = new_inotify(), path_fd = -1, second = -1, fd;
	struct stat st;
	uint64_t pfn;
	char *p;

	fd = gmem_create(2 * rest_block, rest_block, GMEMFD_CREATE_INIT_SHARED);
	EXPECT(fd >= 0);
	p = gmem_map(fd, 0, 2 * MB);
	fill(p, 2 * MB, 1);
	pfn = pfn_of(p);
	EXPECT_EQ(gmem_convert(fd, 0, MB, true), 0);
	munmap(p, 2 * MB);
	expect_reserved(free - 1, reserved + 1);

	if (rest->by_path)
		path_fd = open_path(fd);
	if (rest->watched)
		EXPECT(watch(inotify, fd) >= 0);
	if (rest->second_fd) {
		second = dup(fd);
		close(fd);
		expect_reserved(free - 1, reserved + 1);
		EXPECT_EQ(gmem_state(second, 0), 1);
		EXPECT_EQ(close(second), 0);
	} else {
		EXPECT_EQ(close(fd), 0);
	}
	expect_reserved(free, reserved);
	EXPECT(frame_is_zero(pfn));
	EXPECT(frame_is_zero(pfn + MB / PAGE - 1));

	if (rest->by_path) {
		EXPECT_EQ(fstat(path_fd, &st), 0);
		EXPECT_EQ(st.st_size, 2 * rest_block);
		EXPECT_EQ(st.st_blocks, 0);
		EXPECT_ERR(open(fd_path(path_fd), O_RDWR), ENXIO);
		close(path_fd);
		expect_reserved(free, reserved);
	}
	close(inotify);
}

static void memory_goes(size_t block)
{
	rest_block = block;
	for (unsigned int i = 0; i < sizeof(rests) / sizeof(rests[0]); i++) {
		rest = &rests[i];
		test_case(rest->name);
		test_bounded(memory_goes_with_last_fd);
	}
}

TEST(memory_goes_with_last_fd_2m)
{
	memory_goes(2 * MB);
}

TEST(memory_goes_with_last_fd_1g)
{
	need_1g_blocks();
	memory_goes(GB);
}

/* A mapping is as good as an fd, and the last one takes the memory with it. */
TEST(mapping_outlives_fd)
{
	long free = pool(2 * MB, "free_hugepages"), reserved = pool(2 * MB, "resv_hugepages");
	int fd = gmem_create(SIZE, 2 * MB, GMEMFD_CREATE_INIT_SHARED), path_fd;
	char *p = gmem_map(fd, 0, SIZE);

	rest_block = 2 * MB;
	fill(p, 2 * MB, 1);
	path_fd = open_path(fd);
	close(fd);
	expect_reserved(free - 1, reserved + BLOCKS - 1);
	EXPECT(holds(p, 2 * MB, 1));
	/* Memory that was not there when the fd was closed comes as before. */
	fill(p + 2 * MB, 2 * MB, 2);
	expect_reserved(free - 2, reserved + BLOCKS - 2);
	munmap(p + 2 * MB, SIZE - 2 * MB);
	EXPECT(holds(p, 2 * MB, 1));
	expect_reserved(free - 2, reserved + BLOCKS - 2);
	munmap(p, 2 * MB);
	expect_reserved(free, reserved);
	close(path_fd);
}

/* The module: in use as long as there is an inode, and no longer. */

TEST(unload_after_path_is_closed)
{
	int fd = new_file(), path_fd = open_path(fd);

	test_changes_direct_map();
	close(fd);
	EXPECT_ERR(module_unload("gmemfd"), EAGAIN);
	close(path_fd);
	EXPECT_EQ(module_unload("gmemfd"), 0);
	EXPECT_EQ(module_load("gmemfd", ""), 0);
}

static void unload_beside_inotify(void)
{
	int inotify = new_inotify(), fd = new_file(), path_fd, wd = watch(inotify, fd);

	EXPECT(wd >= 0);
	close(fd);
	EXPECT_EQ(module_unload("gmemfd"), 0);
	EXPECT_ERR(inotify_rm_watch(inotify, wd), EINVAL);
	EXPECT_EQ(module_load("gmemfd", ""), 0);

	fd = new_file();
	path_fd = open_path(fd);
	EXPECT(watch(inotify, fd) >= 0);
	close(fd);
	EXPECT_ERR(module_unload("gmemfd"), EAGAIN);
	close(path_fd);
	EXPECT_EQ(module_unload("gmemfd"), 0);
	close(inotify);
	EXPECT_EQ(module_load("gmemfd", ""), 0);
	sync();
}

TEST(unload_after_watched_file_is_closed)
{
	test_changes_direct_map();
	test_bounded(unload_beside_inotify);
}

// SPDX-License-Identifier: GPL-2.0
/* Files that have names: the file system. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "kvm/vmm.h"
#include "lib.h"

#define AT	"/tmp/gmem"

static void mount_gmem(const char *options)
{
	mkdir(AT, 0755);
	EXPECT_EQ(mount("none", AT, "gmemfd", 0, options), 0);
}

static void expect_no_mount(const char *options, int err)
{
	mkdir(AT, 0755);
	EXPECT_ERR(mount("none", AT, "gmemfd", 0, options), err);
}

static int remount(const char *options)
{
	return mount("none", AT, "gmemfd", MS_REMOUNT, options);
}

/* A file with a name, of a size. */
static int create_named(const char *path, size_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	EXPECT(fd >= 0);
	EXPECT_EQ(ftruncate(fd, size), 0);
	return fd;
}

static struct statfs df(void)
{
	struct statfs fs;

	EXPECT_EQ(statfs(AT, &fs), 0);
	return fs;
}

/* Memory lives as long as a name or an open file. */
TEST(mount_file_lives)
{
	long nr = pool(2 * MB, "free_hugepages");
	struct stat st;
	char *p;
	int fd;

	mount_gmem("block=2M");
	fd = create_named(AT "/vm", 4 * MB);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 2);
	p = gmem_map(fd, 0, 4 * MB);
	fill(p, 4 * MB, 7);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), nr - 2);
	munmap(p, 4 * MB);
	close(fd);

	EXPECT_EQ(stat(AT "/vm", &st), 0);
	EXPECT_EQ(st.st_size, 4 * MB);
	EXPECT_EQ(st.st_blocks, 4 * MB / 512);
	EXPECT_EQ(st.st_blksize, 2 * MB);
	EXPECT_EQ(st.st_mode, S_IFREG | 0600);
	fd = open(AT "/vm", O_RDWR | O_CLOEXEC);
	EXPECT(fd >= 0);
	EXPECT_EQ(lseek(fd, 0, SEEK_END), 4 * MB);
	p = gmem_map(fd, 0, 4 * MB);
	EXPECT(holds(p, 4 * MB, 7));

	EXPECT_EQ(unlink(AT "/vm"), 0);
	EXPECT_ERR(open(AT "/vm", O_RDWR), ENOENT);
	EXPECT(holds(p, 4 * MB, 7));
	close(fd);
	EXPECT(holds(p, 4 * MB, 7));
	munmap(p, 4 * MB);
	EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == nr));
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 0);
	EXPECT_EQ(umount(AT), 0);
}

/*
 * An O_PATH fd, for which one needs no permission for the file, keeps an inode and no memory: not
 * that of a closed file which loses its name, nor of one whose name another one takes, nor
 * if it came by a name that was gone before.
 */
TEST(mount_path_keeps_no_memory)
{
	long nr = pool(2 * MB, "free_hugepages");
	struct stat st;
	int fd, path;

	mount_gmem("block=2M");
	for (int way = 0; way < 3; way++) {
		fd = create_named(AT "/vm", 4 * MB);
		EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
		close(fd);
		path = open(AT "/vm", O_PATH | O_CLOEXEC);
		EXPECT(path >= 0);
		if (way == 2) {
			EXPECT_EQ(link(AT "/vm", AT "/other"), 0);
			EXPECT_EQ(unlink(AT "/vm"), 0);
			EXPECT_EQ(rename(AT "/other", AT "/vm"), 0);
		}
		EXPECT_EQ(pool(2 * MB, "free_hugepages"), nr - 1);
		if (way == 1) {
			close(open(AT "/new", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
			EXPECT_EQ(rename(AT "/new", AT "/vm"), 0);
			EXPECT_EQ(stat(AT "/vm", &st), 0);
			EXPECT_EQ(st.st_size, 0);
		}
		EXPECT_EQ(unlink(AT "/vm"), 0);
		EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == nr &&
				  !pool(2 * MB, "resv_hugepages")));
		EXPECT_EQ(fstat(path, &st), 0);
		EXPECT_EQ(st.st_size, 4 * MB);
		EXPECT_EQ(st.st_blocks, 0);
		/* The mount is busy as long as the fd is open. */
		EXPECT_ERR(umount(AT), EBUSY);
		close(path);
	}
	EXPECT_EQ(umount(AT), 0);
}

/* What nobody has removed goes with the mount. */
TEST(mount_goes_with_its_files)
{
	long nr = pool(2 * MB, "free_hugepages");
	int fd;

	mount_gmem("state=private");
	EXPECT_EQ(mkdir(AT "/dir", 0700), 0);
	fd = create_named(AT "/dir/vm", 4 * MB);
	EXPECT_EQ(gmem_allocate(fd, 0, 4 * MB), 0);
	EXPECT_ERR(umount(AT), EBUSY);
	close(fd);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), nr - 2);
	EXPECT_EQ(umount(AT), 0);
	EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == nr));
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 0);
}

/* A lazy unmount leaves open files alone, and they keep the module. */
TEST(mount_open_file_stays)
{
	char *p;
	int fd;

	mount_gmem(NULL);
	fd = create_named(AT "/vm", 2 * MB);
	p = gmem_map(fd, 0, 2 * MB);
	p[5] = 1;
	close(fd);
	EXPECT_EQ(umount2(AT, MNT_DETACH), 0);
	EXPECT(module_unload("gmemfd") < 0);
	EXPECT_EQ(p[5], 1);
	munmap(p, 2 * MB);
}

/* A file gets its size once, in whole blocks. */
TEST(mount_truncate)
{
	int fd;

	mount_gmem("block=2M");
	fd = open(AT "/vm", O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0);
	EXPECT_EQ(ftruncate(fd, 0), 0);
	EXPECT_ERR(gmem_convert(fd, 0, PAGE, true), EINVAL);
	EXPECT_ERR(gmem_allocate(fd, 0, PAGE), EINVAL);
	EXPECT_ERR(ftruncate(fd, PAGE), EINVAL);
	EXPECT_ERR(ftruncate(fd, 2 * MB + 1), EINVAL);
	EXPECT_ERR(ftruncate(fd, 1UL << 60), ENOMEM);
	EXPECT(!can_read(gmem_map(fd, 0, 2 * MB)));
	EXPECT_EQ(ftruncate(fd, 4 * MB), 0);
	EXPECT_EQ(ftruncate(fd, 4 * MB), 0);
	EXPECT_ERR(ftruncate(fd, 2 * MB), EPERM);
	EXPECT_ERR(ftruncate(fd, 6 * MB), EPERM);
	EXPECT_ERR(ftruncate(fd, 0), EPERM);
	EXPECT_ERR(open(AT "/vm", O_RDWR | O_TRUNC), EPERM);
	EXPECT(can_write(gmem_map(fd, 0, 4 * MB)));
	EXPECT(!can_read(gmem_map(fd, 0, 6 * MB) + 4 * MB));
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 1);
	close(fd);
	umount2(AT, MNT_DETACH);
}

/* A file that is closed for good has no size to get, by whatever path. */
TEST(mount_truncate_by_path)
{
	int fd, path;

	mount_gmem(NULL);
	fd = open(AT "/vm", O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0);
	path = open(AT "/vm", O_PATH | O_CLOEXEC);
	EXPECT(path >= 0);
	EXPECT_EQ(unlink(AT "/vm"), 0);
	EXPECT_EQ(truncate(fd_path(path), 2 * MB), 0);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 1);
	close(fd);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 0);
	EXPECT_ERR(truncate(fd_path(path), 2 * MB), ENXIO);
	close(path);

	fd = open(AT, O_TMPFILE | O_RDWR, 0600);
	EXPECT(fd >= 0);
	path = open(fd_path(fd), O_PATH | O_CLOEXEC);
	EXPECT(path >= 0);
	close(fd);
	EXPECT_ERR(truncate(fd_path(path), 2 * MB), ENXIO);
	EXPECT_ERR(open(fd_path(path), O_RDWR), ENXIO);
	/* A name does not bring the memory back. */
	if (!linkat(AT_FDCWD, fd_path(path), AT_FDCWD, AT "/late", AT_SYMLINK_FOLLOW)) {
		EXPECT_ERR(open(AT "/late", O_RDWR), ENXIO);
		EXPECT_ERR(truncate(AT "/late", 2 * MB), ENXIO);
		EXPECT_EQ(unlink(AT "/late"), 0);
	}
	close(path);
	EXPECT_EQ(umount(AT), 0);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 0);
}

TEST(mount_names)
{
	char path[64];
	struct stat st;
	int fd;

	mount_gmem(NULL);
	fd = create_named(AT "/a", 2 * MB);
	EXPECT_EQ(link(AT "/a", AT "/b"), 0);
	EXPECT_EQ(rename(AT "/a", AT "/c"), 0);
	EXPECT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_nlink, 2);
	EXPECT_EQ(mkdir(AT "/dir", 0750), 0);
	EXPECT_EQ(rename(AT "/b", AT "/dir/b"), 0);
	EXPECT_ERR(rmdir(AT "/dir"), ENOTEMPTY);
	EXPECT_EQ(unlink(AT "/c"), 0);
	EXPECT_EQ(unlink(AT "/dir/b"), 0);
	EXPECT_EQ(rmdir(AT "/dir"), 0);
	EXPECT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_nlink, 0);
	/* It still opens by way of /proc, and can do all that it could. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	EXPECT(open(path, O_RDWR) >= 0);
	close(fd);

	fd = open(AT, O_TMPFILE | O_RDWR, 0600);
	EXPECT(fd >= 0);
	EXPECT_EQ(ftruncate(fd, 2 * MB), 0);
	EXPECT(can_write(gmem_map(fd, 0, 2 * MB)));
	close(fd);
	EXPECT_ERR(mknod(AT "/null", S_IFCHR | 0600, 0x103), EPERM);
	umount2(AT, MNT_DETACH);
}

static void expect_state(const char *state, uint64_t flags, bool reads)
{
	char options[64];
	int fd;

	snprintf(options, sizeof(options), "state=%s", state);
	mount_gmem(options);
	fd = create_named(AT "/vm", 2 * MB);
	EXPECT_EQ(gmem_range(fd, 0).flags & (GMEMFD_RANGE_PRIVATE | GMEMFD_RANGE_SECRET), flags);
	EXPECT_EQ(can_read(gmem_map(fd, 0, 2 * MB)), reads);
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, true), 0);
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, false), 0);
	EXPECT(can_write(gmem_map(fd, 0, 2 * MB) + PAGE));
	close(fd);
	umount2(AT, MNT_DETACH);
}

TEST(mount_states)
{
	expect_state("private", GMEMFD_RANGE_PRIVATE, false);
	expect_state("shared", 0, true);
	expect_state("secret", GMEMFD_RANGE_SECRET, true);
}

/* Who has a file open for reading reads it, and does no more. */
TEST(mount_read_only_fd)
{
	int fd, reader;
	char *p;

	mount_gmem(NULL);
	fd = create_named(AT "/vm", 2 * MB);
	gmem_map(fd, 0, 2 * MB)[3] = 4;
	reader = open(AT "/vm", O_RDONLY);
	EXPECT(reader >= 0);
	EXPECT_ERR(gmem_convert(reader, 0, PAGE, true), EBADF);
	EXPECT_ERR(gmem_allocate(reader, 0, PAGE), EBADF);
	EXPECT_ERR(gmem_punch(reader, 0, PAGE), EBADF);
	EXPECT_ERR(ftruncate(reader, 2 * MB), EINVAL);
	EXPECT_EQ(gmem_range(reader, 0).flags & GMEMFD_RANGE_PRIVATE, 0);
	EXPECT_ERR((intptr_t)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0),
		   EACCES);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0);
	EXPECT(p != MAP_FAILED);
	EXPECT_EQ(p[3], 4);
	EXPECT_ERR(mprotect(p, PAGE, PROT_READ | PROT_WRITE), EACCES);
	umount2(AT, MNT_DETACH);
}

/* What /proc/mounts has behind the mount point and the type. */
static void expect_options(const char *options)
{
	char line[512], *found = NULL;
	FILE *f = fopen("/proc/mounts", "r");

	EXPECT(f);
	while (!found && fgets(line, sizeof(line), f)) {
		if (strstr(line, " " AT " gmemfd "))
			found = strstr(line, ",block=");
	}
	fclose(f);
	EXPECT(found);
	if (strncmp(found + 1, options, strlen(options)) || found[1 + strlen(options)] != ' ')
		FAIL("options are %s", found + 1);
}

TEST(mount_options)
{
	struct stat st;

	expect_no_mount("block=4K", EINVAL);
	expect_no_mount("block=3M", EINVAL);
	expect_no_mount("block=2MB", EINVAL);
	expect_no_mount("state=public", EINVAL);
	expect_no_mount("size=3M,block=2M", EINVAL);
	expect_no_mount("size=lots", EINVAL);
	expect_no_mount("nr_inodes=few", EINVAL);
	expect_no_mount("mode=12345670", EINVAL);
	expect_no_mount("uid=root", EINVAL);
	expect_no_mount("huge=always", EINVAL);

	mount_gmem(NULL);
	expect_options("block=2M,state=shared");
	EXPECT_EQ(umount(AT), 0);
	mount_gmem("size=8M,state=secret,nr_inodes=2k,mode=0770,uid=3,gid=12,block=2M");
	expect_options("block=2M,state=secret,size=8M,nr_inodes=2048,mode=770,uid=3,gid=12");
	EXPECT_EQ(stat(AT, &st), 0);
	EXPECT_EQ(st.st_mode, S_IFDIR | 0770);
	EXPECT_EQ(st.st_uid, 3);
	EXPECT_EQ(st.st_gid, 12);
	EXPECT_ERR(remount("state=shared"), EINVAL);
	EXPECT_ERR(remount("size=3M"), EINVAL);
	EXPECT_ERR(remount("mode=0700"), EINVAL);
	EXPECT_EQ(remount("size=12M,state=secret,block=2M,mode=0770"), 0);
	expect_options("block=2M,state=secret,size=12M,nr_inodes=2048,mode=770,uid=3,gid=12");
	EXPECT_EQ(remount("size=0"), 0);
	expect_options("block=2M,state=secret,nr_inodes=2048,mode=770,uid=3,gid=12");
	EXPECT_EQ(umount(AT), 0);
	if (!have_1g_blocks())
		return;
	mount_gmem("block=1G");
	expect_options("block=1024M,state=shared");
	EXPECT_EQ(umount(AT), 0);
}

TEST(mount_quota)
{
	long nr = pool(2 * MB, "free_hugepages");
	int fd, other;

	mount_gmem("size=8M,nr_inodes=3");
	EXPECT_EQ(df().f_blocks, 4);
	EXPECT_EQ(df().f_bfree, 4);
	EXPECT_EQ(df().f_files, 3);
	EXPECT_EQ(df().f_ffree, 2);
	fd = create_named(AT "/one", 6 * MB);
	EXPECT_EQ(df().f_bavail, 1);
	other = open(AT "/two", O_RDWR | O_CREAT, 0600);
	EXPECT(other >= 0);
	EXPECT_ERR(ftruncate(other, 4 * MB), ENOSPC);
	EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 3);
	EXPECT_EQ(ftruncate(other, 2 * MB), 0);
	EXPECT_EQ(df().f_bfree, 0);
	EXPECT_ERR(open(AT "/three", O_RDWR | O_CREAT, 0600), ENOSPC);
	EXPECT_ERR(mkdir(AT "/dir", 0700), ENOSPC);
	EXPECT_ERR(remount("size=6M"), EINVAL);
	EXPECT_ERR(remount("nr_inodes=2"), EINVAL);
	EXPECT_EQ(remount("size=10M,nr_inodes=4"), 0);
	EXPECT_EQ(df().f_bfree, 1);

	close(other);
	EXPECT_EQ(unlink(AT "/two"), 0);
	EXPECT_EQ(df().f_bfree, 2);
	EXPECT_EQ(df().f_ffree, 2);
	/* The pool has less than the mount allows. */
	EXPECT_EQ(remount("size=0"), 0);
	other = open(AT "/two", O_RDWR | O_CREAT, 0600);
	EXPECT_ERR(ftruncate(other, (nr + 1) * 2 * MB), ENOMEM);
	EXPECT_EQ(remount("size=6M"), 0);
	close(other);
	close(fd);
	EXPECT_EQ(umount(AT), 0);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), nr);
}

#define LIMITED	"/sys/fs/cgroup/limited"

/*
 * How much one user may have of a mount that several use is a limit of the user's cgroup, as
 * for other huge pages.  It is on what is reserved, and so holds before memory is used.
 */
TEST(mount_quota_of_user)
{
	int status;
	pid_t pid;

	mount_gmem("mode=0777,size=16M");
	EXPECT_EQ(mkdir(LIMITED, 0755), 0);
	write_text(LIMITED "/hugetlb.2MB.rsvd.max", "4194304");
	pid = fork();
	if (!pid) {
		int fd;

		write_text(LIMITED "/cgroup.procs", "0");
		EXPECT_EQ(setgid(100), 0);
		EXPECT_EQ(setuid(1000), 0);
		close(create_named(AT "/one", 4 * MB));
		fd = open(AT "/two", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		EXPECT(fd >= 0);
		EXPECT_ERR(ftruncate(fd, 2 * MB), ENOMEM);
		/* What failed took nothing of the mount. */
		EXPECT_EQ(df().f_bfree, 6);
		EXPECT_EQ(unlink(AT "/one"), 0);
		EXPECT_EQ(ftruncate(fd, 2 * MB), 0);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	/* Another user has the rest. */
	close(create_named(AT "/three", 14 * MB));
	EXPECT_EQ(umount(AT), 0);
	EXPECT(EVENTUALLY(!rmdir(LIMITED)));
}

/* Permissions are those of any file. */
TEST(mount_permissions)
{
	int status;
	pid_t pid;

	mount_gmem("mode=0770,gid=100");
	close(create_named(AT "/vm", 2 * MB));
	EXPECT_EQ(chown(AT "/vm", 0, 100), 0);
	EXPECT_EQ(chmod(AT "/vm", 0660), 0);
	pid = fork();
	if (!pid) {
		EXPECT_EQ(setgid(100), 0);
		EXPECT_EQ(setuid(1000), 0);
		EXPECT(open(AT "/vm", O_RDWR) >= 0);
		close(create_named(AT "/mine", 2 * MB));
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	pid = fork();
	if (!pid) {
		EXPECT_EQ(setgid(101), 0);
		EXPECT_EQ(setuid(1001), 0);
		EXPECT_ERR(open(AT "/vm", O_RDWR), EACCES);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(umount(AT), 0);
}

/* The pool is the machine's: who is root in a user namespace only does not mount it. */
TEST(mount_not_in_user_namespace)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			_exit(errno == EINVAL ? 77 : 1);
		mkdir(AT, 0755);
		EXPECT_ERR(mount("none", AT, "gmemfd", 0, NULL), EPERM);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	if (WEXITSTATUS(status) == 77)
		test_skip("no user namespaces in this kernel");
	EXPECT_EQ(status, 0);
}

TEST(mount_inotify)
{
	struct { struct inotify_event event; char name[16]; } got;
	int watch = inotify_init1(IN_NONBLOCK);

	if (watch < 0)
		test_skip("no inotify in this kernel");
	mount_gmem(NULL);
	EXPECT(inotify_add_watch(watch, AT, IN_CREATE | IN_DELETE | IN_UNMOUNT) >= 0);
	close(create_named(AT "/vm", 2 * MB));
	EXPECT_EQ(read(watch, &got, sizeof(got)), sizeof(got));
	EXPECT_EQ(got.event.mask, IN_CREATE);
	EXPECT(!strcmp(got.name, "vm"));
	EXPECT_EQ(unlink(AT "/vm"), 0);
	EXPECT_EQ(read(watch, &got, sizeof(got)), sizeof(got));
	EXPECT_EQ(got.event.mask, IN_DELETE);
	EXPECT_EQ(umount(AT), 0);
	EXPECT_EQ(read(watch, &got, sizeof(got)), sizeof(got.event) * 2);
	EXPECT_EQ(got.event.mask, IN_UNMOUNT | IN_ISDIR);
	close(watch);
}

/* A file of /dev/gmemfd is as one that was unlinked: it opens by way of /proc. */
TEST(fd_opens_again)
{
	long nr = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED), again, path;
	char *p = gmem_map(fd, 0, 2 * MB);

	p[1] = 2;
	munmap(p, 2 * MB);
	again = open(fd_path(fd), O_RDWR | O_CLOEXEC);
	EXPECT(again >= 0);
	close(fd);
	p = gmem_map(again, 0, 2 * MB);
	EXPECT_EQ(p[1], 2);
	munmap(p, 2 * MB);
	EXPECT_EQ(gmem_convert(again, 0, PAGE, true), 0);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), nr - 1);

	/* A path alone keeps no memory, and leads to none. */
	path = open(fd_path(again), O_PATH | O_CLOEXEC);
	EXPECT(path >= 0);
	close(again);
	EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == nr));
	EXPECT_ERR(open(fd_path(path), O_RDWR), ENXIO);
	close(path);
}

static int open_map(int fd, uint32_t flags)
{
	struct gmemfd_open_map arg = { .flags = flags };

	return ioctl(fd, GMEMFD_OPEN_MAP, &arg);
}

/* All that an fd for mmap() alone must not do. */
static void expect_map_only(int map, const char *p, bool writes)
{
	EXPECT_ERR(gmem_convert(map, 0, PAGE, true), ENOTTY);
	EXPECT_ERR(ioctl(map, GMEMFD_GET_RANGES, NULL), ENOTTY);
	EXPECT_ERR(open_map(map, 0), ENOTTY);
	EXPECT_ERR(gmem_allocate(map, 0, PAGE), writes ? ENODEV : EBADF);
	EXPECT_ERR(gmem_punch(map, 0, PAGE), writes ? ENODEV : EBADF);
	EXPECT_ERR(ftruncate(map, 0), EINVAL);
	EXPECT_ERR(open(fd_path(map), O_RDWR), ENXIO);
	EXPECT_ERR(madvise((void *)p, 2 * MB, MADV_REMOVE), writes ? EOPNOTSUPP : EACCES);
}

TEST(fd_for_mmap_alone)
{
	long nr = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET), map, reader;
	struct gmemfd_open_map bad = { .reserved = { [2] = 1 } };
	const char *q;
	char *p;

	EXPECT_ERR(open_map(fd, 2), EINVAL);
	EXPECT_ERR(ioctl(fd, GMEMFD_OPEN_MAP, &bad), EINVAL);
	EXPECT_ERR(ioctl(fd, GMEMFD_OPEN_MAP, NULL), EFAULT);
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	map = open_map(fd, 0);
	reader = open_map(fd, GMEMFD_OPEN_MAP_READ_ONLY);
	EXPECT(map >= 0 && reader >= 0);
	EXPECT_EQ(fcntl(map, F_GETFD), FD_CLOEXEC);
	p = gmem_map(map, 0, 2 * MB);
	EXPECT(!can_read(p));
	EXPECT(can_write(p + PAGE));
	p[PAGE] = 8;
	EXPECT_ERR((intptr_t)mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, reader, 0), EACCES);
	EXPECT_ERR((intptr_t)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, map, 0), EINVAL);
	q = mmap(NULL, 2 * MB, PROT_READ, MAP_SHARED, reader, 0);
	EXPECT(q != MAP_FAILED);
	EXPECT_EQ(q[PAGE], 8);
	expect_map_only(map, p, true);
	expect_map_only(reader, q, false);

	/* What the VMM does with the file goes for this mapping, too. */
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, true), 0);
	EXPECT(!can_read(p + PAGE));
	EXPECT(!can_read(q + PAGE));
	EXPECT_EQ(gmem_convert_to(fd, PAGE, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT_EQ(p[PAGE], 8);

	/* The mapping keeps the memory, as any mapping does. */
	close(fd);
	close(map);
	close(reader);
	EXPECT_EQ(p[PAGE], 8);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), nr - 1);
	munmap(p, 2 * MB);
	munmap((void *)q, 2 * MB);
	EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == nr));
}

/* A file that is open for reading gives no fd that writes. */
TEST(fd_for_mmap_of_reader)
{
	int fd, map;

	mount_gmem(NULL);
	fd = create_named(AT "/vm", 2 * MB);
	close(fd);
	fd = open(AT "/vm", O_RDONLY);
	EXPECT(fd >= 0);
	EXPECT_ERR(open_map(fd, 0), EBADF);
	map = open_map(fd, GMEMFD_OPEN_MAP_READ_ONLY);
	EXPECT(map >= 0);
	EXPECT_ERR((intptr_t)mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, map, 0), EACCES);
	EXPECT_ERR(umount(AT), EBUSY);
	close(fd);
	EXPECT_ERR(umount(AT), EBUSY);
	close(map);
	EXPECT_EQ(umount(AT), 0);
}

/* No VM runs from such an fd. */
TEST(kvm_map_only_fd_is_refused)
{
	int fd = gmem_create(2 * MB, 2 * MB, 0), map = open_map(fd, 0);
	struct vm vm;

	EXPECT(map >= 0);
	vm_create_empty(&vm, fd, 2 * MB);
	EXPECT_ERR(vm_set_slot(vm.fd, 1, 0, 64 * MB, 2 * MB, vm.host, map, 0), EINVAL);
	vm_destroy(&vm);
	close(map);
	close(fd);
}

/* A guest runs from a file that others have open, too. */
TEST(kvm_mount_file)
{
	struct vm vm;
	int fd, other;

	mount_gmem("block=2M,state=private");
	fd = create_named(AT "/vm", 16 * MB);
	other = open(AT "/vm", O_RDWR);
	EXPECT(other >= 0);
	vm_create(&vm, fd, 16 * MB, 1);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 4 * MB, 3), 0);
	/* Another opener's close does not concern the guest. */
	close(other);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 4 * MB, 3), 0);
	vm_destroy(&vm);
	close(fd);

	/* The next VM finds what was there. */
	fd = open(AT "/vm", O_RDWR);
	EXPECT(fd >= 0);
	vm_create(&vm, fd, 16 * MB, 1);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 4 * MB, 3), 0);
	vm_destroy(&vm);

	/* A guest writes: so whoever binds has the file open for that. */
	other = open(AT "/vm", O_RDONLY);
	vm_create_empty(&vm, fd, 16 * MB);
	EXPECT_ERR(vm_set_slot(vm.fd, 1, 0, 64 * MB, 16 * MB, vm.host, other, 0), EACCES);
	vm_destroy(&vm);
	close(other);
	close(fd);
	EXPECT_EQ(umount(AT), 0);
}

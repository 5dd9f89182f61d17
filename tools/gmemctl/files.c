// SPDX-License-Identifier: GPL-2.0
/*
 * The gmem files of this machine: who has them open or mapped, and what is in them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pwd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "gmemctl.h"

/* What readlink() in /proc/PID/fd says of a file without a name starts with this. */
#define GMEM_NAME	"/[gmemfd]"

/* Is the fd of a gmem file?  Asks the file only if it is. */
static bool fdinfo_is_gmem(pid_t pid, int fd)
{
	char *text = read_text("/proc/%d/fdinfo/%d", pid, fd);
	bool yes = text && strstr(text, "\ngmem_size:");

	free(text);
	return yes;
}

/**
 * is_gmem_link - is this a gmem file?
 * @pid: a process
 * @fd: its fd
 * @link: what the fd is
 * @size: room in @link
 */
bool is_gmem_link(pid_t pid, int fd, char *link, size_t size)
{
	char path[64];
	struct statfs fs;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	n = readlink(path, link, size - 1);
	link[n < 0 ? 0 : n] = '\0';
	/* statfs() of a dead network file system takes its time, so the others do not get it. */
	return (!strncmp(link, GMEM_NAME, strlen(GMEM_NAME)) ||
		(*link == '/' && fdinfo_is_gmem(pid, fd))) &&
	       !statfs(path, &fs) && fs.f_type == GMEMFD_MAGIC;
}

/**
 * borrow_gmem_fd - an fd of our own for another process's gmem file
 * @pid: the process
 * @fd: its fd
 *
 * Return: the fd or a negative errno, -ENOTTY if it is something else.
 */
int borrow_gmem_fd(pid_t pid, int fd)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0), own;
	struct statfs fs;

	if (pidfd < 0)
		return -errno;
	own = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (own < 0) {
		own = -errno;
	} else if (fstatfs(own, &fs) || fs.f_type != GMEMFD_MAGIC) {
		close(own);
		own = -ENOTTY;
	}
	close(pidfd);
	return own;
}

/**
 * for_each_range - go through a file's ranges
 * @fd: the file
 * @from: first byte
 * @to: first byte behind
 * @each: called with each range and @arg
 * @arg: what @each is called with
 *
 * Return: 0 or a negative errno.
 */
int for_each_range(int fd, uint64_t from, uint64_t to,
		   void (*each)(const struct gmemfd_range *range, void *arg), void *arg)
{
	static struct gmemfd_range ranges[1024];

	while (from < to) {
		struct gmemfd_get_ranges get = {
			.offset = from,
			.end = to,
			.ranges = (uintptr_t)ranges,
			.nr_ranges = sizeof(ranges) / sizeof(*ranges),
		};

		if (ioctl(fd, GMEMFD_GET_RANGES, &get))
			return -errno;
		for (uint32_t i = 0; i < get.nr_ranges; i++)
			each(&ranges[i], arg);
		from = get.offset;
	}
	return 0;
}

static void count_folios(const struct gmemfd_range *range, void *arg)
{
	struct gmem_file *file = arg;

	if (range->flags & GMEMFD_RANGE_ALLOCATED && range->folio_order < NR_ORDERS)
		file->folios[range->folio_order] += range->size;
}

/* The value of @key in what /proc/PID/fdinfo/FD says. */
static bool fdinfo_value(const char *text, const char *key, uint64_t *value)
{
	const char *at = strstr(text, key);

	return at && sscanf(at + strlen(key), ": %" SCNi64, (int64_t *)value) == 1;
}

static void read_fdinfo(struct gmem_file *file, pid_t pid, int fd)
{
	char *text = read_text("/proc/%d/fdinfo/%d", pid, fd);

	/* An O_PATH fd has none of these. */
	file->has_state = text && fdinfo_value(text, "gmem_size", &file->size) &&
			  fdinfo_value(text, "gmem_block_size", &file->block_size) &&
			  fdinfo_value(text, "gmem_flags", &file->flags) &&
			  fdinfo_value(text, "gmem_allocated", &file->allocated) &&
			  fdinfo_value(text, "gmem_private", &file->private) &&
			  fdinfo_value(text, "gmem_shared", &file->shared);
	/* A module that does not tell has no secret pages. */
	if (!file->has_state || !fdinfo_value(text, "gmem_secret", &file->secret))
		file->secret = 0;
	file->has_size |= file->has_state;
	free(text);
}

/* Takes over @own. */
static void read_folios(struct gmem_file *file, int own)
{
	if (own < 0)
		return;
	memset(file->folios, 0, sizeof(file->folios));
	file->has_ranges = !for_each_range(own, 0, file->size, count_folios, file);
	close(own);
}

static struct gmem_file *find_file(struct scan *scan, dev_t dev, ino_t ino)
{
	struct gmem_file *file;

	for (size_t i = 0; i < scan->nr_files; i++) {
		if (scan->files[i].dev == dev && scan->files[i].ino == ino)
			return &scan->files[i];
	}
	scan->files = realloc(scan->files, (scan->nr_files + 1) * sizeof(*file));
	if (!scan->files)
		abort();
	file = &scan->files[scan->nr_files++];
	*file = (struct gmem_file) { .dev = dev, .ino = ino };
	return file;
}

static void add_holder(struct holder **holders, size_t *nr, const struct holder *process, int fd)
{
	*holders = realloc(*holders, (*nr + 1) * sizeof(**holders));
	if (!*holders)
		abort();
	(*holders)[*nr] = *process;
	(*holders)[(*nr)++].fd = fd;
}

/* From stat(), which any way to the file is good for. */
static void read_stat(struct gmem_file *file, const struct stat *st)
{
	file->size = st->st_size;
	file->block_size = st->st_blksize;
	file->allocated = st->st_blocks * 512ULL;
	file->has_size = true;
}

static void scan_fd(struct scan *scan, const struct holder *process, int fd)
{
	struct gmem_file *file;
	char path[64], link[256];
	struct stat st;

	if (!is_gmem_link(process->pid, fd, link, sizeof(link))) {
		if (!strcmp(link, DEVICE))
			add_holder(&scan->openers, &scan->nr_openers, process, fd);
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", process->pid, fd);
	if (stat(path, &st))
		return;
	file = find_file(scan, st.st_dev, st.st_ino);
	add_holder(&file->holders, &file->nr_holders, process, fd);
	if (!file->has_size)
		read_stat(file, &st);
	if (!file->has_state)
		read_fdinfo(file, process->pid, fd);
	if (!file->has_ranges && file->has_state)
		read_folios(file, borrow_gmem_fd(process->pid, fd));
}

static bool holds_by_fd(const struct gmem_file *file, pid_t pid)
{
	for (size_t i = 0; i < file->nr_holders; i++) {
		if (file->holders[i].pid == pid)
			return true;
	}
	return false;
}

static bool is_mounted(const struct scan *scan, dev_t dev)
{
	for (size_t i = 0; i < scan->nr_mounts; i++) {
		if (scan->mounts[i] == dev)
			return true;
	}
	return false;
}

/* A mapping keeps a file whose fd is closed. */
static void scan_mappings(struct scan *scan, const struct holder *process)
{
	char *maps = read_text("/proc/%d/maps", process->pid), *rest = maps, *line, *path;
	unsigned long start, end;
	unsigned int major, minor;
	struct gmem_file *file;
	unsigned long ino;
	struct stat st;

	while ((line = strsep(&rest, "\n"))) {
		if (sscanf(line, "%lx-%lx %*s %*s %x:%x %lu", &start, &end, &major,
			   &minor, &ino) != 5 ||
		    (!strstr(line, " " GMEM_NAME) &&
		     !is_mounted(scan, makedev(major, minor))))
			continue;
		path = format("/proc/%d/map_files/%lx-%lx", process->pid, start, end);
		if (!stat(path, &st) && (st.st_ino != ino ||
					 st.st_dev != makedev(major, minor))) {
			free(path);
			continue;	/* gone, and another is here */
		}
		file = find_file(scan, makedev(major, minor), ino);
		if (!file->has_size && !stat(path, &st))
			read_stat(file, &st);
		if (!holds_by_fd(file, process->pid))
			add_holder(&file->holders, &file->nr_holders, process, -1);
		free(path);
	}
	free(maps);
}

static void scan_process(struct scan *scan, pid_t pid)
{
	struct holder process = { .pid = pid };
	char path[32], *comm, *status, *line;
	struct dirent *entry;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	fds = opendir(path);
	if (!fds) {
		scan->hidden += errno == EACCES || errno == EPERM;
		return;
	}
	/* /proc/PID belongs to root once the process has changed its user. */
	status = read_text("/proc/%d/status", pid);
	line = status ? strstr(status, "\nUid:") : NULL;
	if (line)
		sscanf(line, "\nUid: %*u %u", &process.uid);
	free(status);
	comm = read_text("/proc/%d/comm", pid);
	snprintf(process.comm, sizeof(process.comm), "%s", comm ?: "");
	make_printable(process.comm);
	free(comm);
	while ((entry = readdir(fds))) {
		if (*entry->d_name != '.')
			scan_fd(scan, &process, atoi(entry->d_name));
	}
	closedir(fds);
	scan_mappings(scan, &process);
}

/* What nftw() has no argument for. */
static struct scan *named_scan;

static int scan_named(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	struct gmem_file *file;
	int fd;

	(void)ftw;
	if (type != FTW_F)
		return 0;
	file = find_file(named_scan, st->st_dev, st->st_ino);
	if (file->path)
		return 0;
	file->path = format("%s", path);
	make_printable(file->path);
	read_stat(file, st);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return 0;
	read_fdinfo(file, getpid(), fd);
	read_folios(file, fd);
	return 0;
}

/* mountinfo has spaces and the like in octal. */
static void decode(char *text)
{
	char *to = text;

	for (; *text; text++) {
		unsigned int c;

		if (*text == '\\' && sscanf(text + 1, "%3o", &c) == 1) {
			*to++ = c;
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

/* A file with a name has memory even if nobody has it open. */
static void scan_mounts(struct scan *scan)
{
	char *mounts = read_text("/proc/self/mountinfo"), *rest = mounts, *line;
	unsigned int major, minor;
	char at[4096];

	named_scan = scan;
	while ((line = strsep(&rest, "\n"))) {
		if (!strstr(line, " - gmemfd ") ||
		    sscanf(line, "%*u %*u %u:%u %*s %4095s", &major, &minor, at) != 3)
			continue;
		scan->mounts = realloc(scan->mounts, (scan->nr_mounts + 1) * sizeof(dev_t));
		if (!scan->mounts)
			abort();
		scan->mounts[scan->nr_mounts++] = makedev(major, minor);
		decode(at);
		nftw(at, scan_named, 16, FTW_PHYS | FTW_MOUNT);
	}
	free(mounts);
}

/**
 * scan_machine - look for gmem files in all processes
 * @scan: filled in; scan_free() it
 */
void scan_machine(struct scan *scan)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t pid;

	*scan = (struct scan) {};
	scan_mounts(scan);
	while (proc && (entry = readdir(proc))) {
		pid = atoi(entry->d_name);
		if (pid > 0 && pid != getpid())
			scan_process(scan, pid);
	}
	if (proc)
		closedir(proc);
}

/**
 * scan_free - undo scan_machine()
 * @scan: the scan
 */
void scan_free(struct scan *scan)
{
	for (size_t i = 0; i < scan->nr_files; i++) {
		free(scan->files[i].holders);
		free(scan->files[i].path);
	}
	free(scan->files);
	free(scan->mounts);
	free(scan->openers);
}

static const char *user_name(uid_t uid)
{
	static char number[16];
	struct passwd *user = getpwuid(uid);

	snprintf(number, sizeof(number), "%u", uid);
	return user ? user->pw_name : number;
}

/**
 * holder_json - a process that holds something
 * @holder: the process, and what it holds it by
 */
struct json_object *holder_json(const struct holder *holder)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "pid", json_object_new_int(holder->pid));
	put_string(object, "comm", holder->comm);
	json_object_object_add(object, "uid", json_object_new_int64(holder->uid));
	put_string(object, "user", user_name(holder->uid));
	json_object_object_add(object, "fd",
			       holder->fd < 0 ? NULL : json_object_new_int(holder->fd));
	return object;
}

static struct json_object *size_or_null(bool known, uint64_t size)
{
	return known ? json_object_new_uint64(size) : NULL;
}

static struct json_object *file_json(const struct gmem_file *file)
{
	struct json_object *object = json_object_new_object();
	struct json_object *holders = json_object_new_array();
	struct json_object *folios = json_object_new_array();

	put_size(object, "inode", file->ino);
	put_string(object, "path", file->path);
	json_object_object_add(object, "size", size_or_null(file->has_size, file->size));
	json_object_object_add(object, "block_size",
			       size_or_null(file->has_size, file->block_size));
	json_object_object_add(object, "flags", size_or_null(file->has_state, file->flags));
	json_object_object_add(object, "private", size_or_null(file->has_state, file->private));
	json_object_object_add(object, "secret", size_or_null(file->has_state, file->secret));
	json_object_object_add(object, "shared", size_or_null(file->has_state, file->shared));
	json_object_object_add(object, "hole",
			       size_or_null(file->has_size, file->size - file->allocated));
	for (int order = 0; file->has_ranges && order < NR_ORDERS; order++) {
		struct json_object *folio;

		if (!file->folios[order])
			continue;
		folio = json_object_new_object();
		json_object_object_add(folio, "order", json_object_new_int(order));
		put_size(folio, "size", PAGE << order);
		put_size(folio, "bytes", file->folios[order]);
		json_object_array_add(folios, folio);
	}
	if (!file->has_ranges) {
		json_object_put(folios);
		folios = NULL;
	}
	json_object_object_add(object, "folios", folios);
	for (size_t i = 0; i < file->nr_holders; i++)
		json_object_array_add(holders, holder_json(&file->holders[i]));
	json_object_object_add(object, "holders", holders);
	return object;
}

static void print_as_json(const struct scan *scan, long long away)
{
	struct json_object *object = json_object_new_object();
	struct json_object *files = json_object_new_array();
	struct json_object *openers = json_object_new_array();

	put_bool(object, "ok", true);
	for (size_t i = 0; i < scan->nr_files; i++)
		json_object_array_add(files, file_json(&scan->files[i]));
	for (size_t i = 0; i < scan->nr_openers; i++)
		json_object_array_add(openers, holder_json(&scan->openers[i]));
	json_object_object_add(object, "files", files);
	json_object_object_add(object, "device_openers", openers);
	json_object_object_add(object, "away_folios",
			       away < 0 ? NULL : json_object_new_int64(away));
	json_object_object_add(object, "hidden_processes", json_object_new_int64(scan->hidden));
	print_json(object);
}

static void print_file(const struct gmem_file *file)
{
	const char *sep = "";

	printf("%-11s %-8s %-11s %-11s %-11s %-11s ",
	       file->has_size ? size_text(file->size) : "?",
	       file->has_size ? size_text(file->block_size) : "?",
	       file->has_state ? size_text(file->private) : "?",
	       file->has_state ? size_text(file->secret) : "?",
	       file->has_state ? size_text(file->shared) : "?",
	       file->has_size ? size_text(file->size - file->allocated) : "?");
	for (size_t i = 0; i < file->nr_holders; i++) {
		const struct holder *holder = &file->holders[i];

		printf("%s%s %s (%d) ", i ? ", " : "", user_name(holder->uid),
		       holder->comm, holder->pid);
		if (holder->fd < 0)
			printf("mapping");
		else
			printf("fd %d", holder->fd);
	}
	if (!file->nr_holders)
		printf("nobody");
	if (file->path)
		printf("\n  %s", file->path);
	if (file->has_ranges && file->allocated)
		printf("\n  in folios of ");
	for (int order = NR_ORDERS - 1; file->has_ranges && order >= 0; order--) {
		if (!file->folios[order])
			continue;
		printf("%s%s: %s", sep, size_text(PAGE << order), size_text(file->folios[order]));
		sep = ", ";
	}
	putchar('\n');
}

/**
 * cmd_ls - gmemctl ls
 */
int cmd_ls(void)
{
	long long away = read_number("/sys/class/misc/gmemfd/away_folios");
	struct scan scan;

	scan_machine(&scan);
	if (as_json) {
		print_as_json(&scan, away);
		scan_free(&scan);
		return EXIT_SUCCESS;
	}
	if (scan.nr_files)
		printf("%-11s %-8s %-11s %-11s %-11s %-11s %s\n", "SIZE", "BLOCK", "PRIVATE",
		       "SECRET", "SHARED", "HOLE", "HELD BY");
	else
		puts("no gmem files");
	for (size_t i = 0; i < scan.nr_files; i++)
		print_file(&scan.files[i]);
	if (away > 0)
		printf("%lld folios have left their files and are still referenced by somebody\n",
		       away);
	if (scan.hidden)
		fprintf(stderr, "gmemctl ls: %u processes may not be looked into; root sees all\n",
			scan.hidden);
	scan_free(&scan);
	return EXIT_SUCCESS;
}

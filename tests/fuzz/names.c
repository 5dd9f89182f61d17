// SPDX-License-Identifier: GPL-2.0
/*
 * What knows a file without having it open: O_PATH fds, and watches.  They keep no memory.
 * An O_PATH fd leads to the file by way of /proc until it is closed for good.
 */
#define _GNU_SOURCE
#include <sys/inotify.h>
#include <sys/stat.h>

#include "fuzz.h"

#define LINK_SIZE	64

/* The way to a file by an fd of this thread, which has its own table of them. */
static const char *link_of(int fd, char *link)
{
	snprintf(link, LINK_SIZE, "/proc/thread-self/fd/%d", fd);
	return link;
}

/* An fd by which a file can be named, or -1. */
static int pick_name(struct thread *t, struct path *name)
{
	struct path *p = &t->paths[below(&t->rng, MAX_PATHS)];
	struct file *f = pick_file(t);

	if (p->fd && one_in(&t->rng, 3)) {
		*name = *p;
		return p->fd;
	}
	if (!f)
		return -1;
	*name = (struct path) { .file_id = f->id, .file = f, .size = f->size,
				.of_mount = f->of_mount };
	return f->fd;
}

/* Has the file an inode still, which watches are on? */
static bool inode_there(struct thread *t, unsigned int id)
{
	for (struct file *f = t->files; f < t->files + MAX_FILES; f++)
		if (f->used && !f->gone && f->id == id)
			return true;
	for (struct path *p = t->paths; p < t->paths + MAX_PATHS; p++)
		if (p->fd && p->file_id == id)
			return true;
	return false;
}

/* Watches end with the inode. */
static void end_watches(struct thread *t)
{
	for (struct notify *n = t->notifies; n < t->notifies + MAX_NOTIFIES; n++)
		for (struct watch *w = n->watches; w < n->watches + MAX_WATCHES; w++)
			if (w->wd && !inode_there(t, w->file_id))
				w->ended = true;
}

/* O_PATH */

static void open_path(struct thread *t, struct path *p)
{
	char link[LINK_SIZE];
	int fd = pick_name(t, p);

	if (fd < 0)
		return;
	TRACE(t, "file %ld: O_PATH fd %ld", p->file ? p->file - t->files : -1L,
	      p - t->paths);
	p->fd = open(link_of(fd, link), O_PATH | O_CLOEXEC);
	AGREE(t, p->fd > 0, "O_PATH: errno %d", errno);
}

static void close_path(struct thread *t, struct path *p)
{
	TRACE(t, "close O_PATH fd %ld", p - t->paths);
	EXPECT_EQ(close(p->fd), 0);
	p->fd = 0;
	end_watches(t);
}

static void stat_path(struct thread *t, struct path *p)
{
	struct file *f = p->file;
	unsigned long blocks = f ? f->allocated * f->block_size / 512 : 0;
	struct stat st;

	TRACE(t, "fstat O_PATH fd %ld", p - t->paths);
	AGREE(t, !fstat(p->fd, &st), "fstat: errno %d", errno);
	AGREE(t, st.st_size == (off_t)p->size && st.st_blocks == (blkcnt_t)blocks,
	      "O_PATH fd of a file that is %s: size %ld, %ld blocks, not %lu and %lu",
	      f ? "open" : "closed", st.st_size, st.st_blocks, p->size, blocks);
}

/* A name leads to the file, by way of /proc, until that is closed for good. */
static void open_by_path(struct thread *t, struct path *p)
{
	bool writes = one_in(&t->rng, 2);
	struct gmemfd_range range;
	struct gmemfd_get_ranges get = {
		.end = p->size, .ranges = (uintptr_t)&range, .nr_ranges = 1,
	};
	char link[LINK_SIZE];
	int fd;

	TRACE(t, "O_PATH fd %ld: open for %s", p - t->paths, writes ? "writing" : "reading");
	fd = open(link_of(p->fd, link), (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (!p->file) {
		AGREE(t, fd < 0 && errno == ENXIO, "O_PATH fd of a closed file opens: %d, errno %d",
		      fd, errno);
		return;
	}
	AGREE(t, fd >= 0, "O_PATH fd does not open: errno %d", errno);
	AGREE(t, !ioctl(fd, GMEMFD_GET_RANGES, &get), "ranges of it: errno %d", errno);
	if (!writes)
		AGREE(t, gmem_allocate(fd, 0, PAGE) < 0 && errno == EBADF &&
		      gmem_convert(fd, 0, PAGE, true) < 0 && errno == EBADF,
		      "an fd for reading changes the file: errno %d", errno);
	EXPECT_EQ(close(fd), 0);
}

/* By itself it does nothing. */
static void refused_by_path(struct thread *t, struct path *p)
{
	struct gmemfd_range range;
	struct gmemfd_get_ranges get = {
		.end = p->size, .ranges = (uintptr_t)&range, .nr_ranges = 1,
	};
	unsigned int kind = below(&t->rng, 4);
	char link[LINK_SIZE];
	long ret = 0, want = EBADF;

	TRACE(t, "O_PATH fd %ld: bad call %ld", p - t->paths, kind);
	link_of(p->fd, link);
	errno = 0;
	switch (kind) {
	case 0: ret = ioctl(p->fd, GMEMFD_GET_RANGES, &get); break;
	case 1: ret = gmem_allocate(p->fd, 0, PAGE); break;
	case 2: ret = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, p->fd, 0) == MAP_FAILED ? -1 : 0;
		break;
	case 3: ret = truncate(link, 0);
		want = !p->of_mount ? EINVAL : p->file ? EPERM : ENXIO; break;
	}
	AGREE(t, ret == -1 && errno == want, "O_PATH fd: bad call %u: %ld, errno %d, not %ld",
	      kind, ret, errno, want);
}

void op_path(struct thread *t)
{
	struct path *p = &t->paths[below(&t->rng, MAX_PATHS)];

	if (!p->fd) {
		open_path(t, p);
		return;
	}
	switch (below(&t->rng, 6)) {
	case 0:
		refused_by_path(t, p);
		break;
	case 1:
		open_by_path(t, p);
		break;
	case 2:
		close_path(t, p);
		break;
	default:
		stat_path(t, p);
	}
}

/* Watches */

static struct watch *find_watch(struct notify *n, int wd)
{
	for (struct watch *w = n->watches; w < n->watches + MAX_WATCHES; w++)
		if (w->wd == wd)
			return w;
	return NULL;
}

static void check_event(struct thread *t, struct notify *n,
			const struct inotify_event *event)
{
	struct watch *w = find_watch(n, event->wd);

	AGREE(t, w, "an event %#x for watch %d, which there is not", event->mask, event->wd);
	AGREE(t, !(event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_UNMOUNT)) || w->ended,
	      "an event %#x for watch %d, which is there", event->mask, event->wd);
	if (event->mask & IN_IGNORED)
		w->wd = 0;
}

/* Read what there is to read; each watch that has ended says so once. */
static void drain(struct thread *t, struct notify *n)
{
	char buf[4096] __attribute__((aligned(8)));
	ssize_t size;

	TRACE(t, "read events of inotify fd %ld", n - t->notifies);
	while ((size = read(n->fd, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + size;) {
			const struct inotify_event *event = (void *)p;

			check_event(t, n, event);
			p += sizeof(*event) + event->len;
		}
	AGREE(t, errno == EAGAIN, "reading events: errno %d", errno);
	for (struct watch *w = n->watches; w < n->watches + MAX_WATCHES; w++)
		AGREE(t, !w->wd || !w->ended, "watch %d has ended, and there is no event", w->wd);
}

static void add_watch(struct thread *t, struct notify *n)
{
	struct watch *w, *same = NULL;
	struct path name;
	char link[LINK_SIZE];
	int fd = pick_name(t, &name), wd;

	if (fd < 0)
		return;
	for (w = n->watches; w < n->watches + MAX_WATCHES; w++)
		if (w->wd && !w->ended && w->file_id == name.file_id)
			same = w;
	w = same ?: find_watch(n, 0);
	if (!w) {
		drain(t, n);
		return;
	}
	TRACE(t, "file %ld: watched by inotify fd %ld", name.file ? name.file - t->files : -1L,
	      n - t->notifies);
	wd = inotify_add_watch(n->fd, link_of(fd, link), IN_ALL_EVENTS);
	AGREE(t, wd > 0 && (same ? wd == same->wd : !find_watch(n, wd)),
	      "adding a watch: %d, errno %d; it %s", wd, errno,
	      same ? "is there already" : "is new");
	*w = (struct watch) { .wd = wd, .file_id = name.file_id };
}

static void remove_watch(struct thread *t, struct notify *n)
{
	struct watch *w = &n->watches[below(&t->rng, MAX_WATCHES)];
	int err;

	if (!w->wd)
		return;
	TRACE(t, "inotify fd %ld: remove watch %ld, ended %ld", n - t->notifies, w->wd,
	      w->ended);
	err = inotify_rm_watch(n->fd, w->wd) ? errno : 0;
	AGREE(t, err == (w->ended ? EINVAL : 0), "removing watch %d: errno %d", w->wd, err);
	w->ended = true;
}

static void close_notify(struct thread *t, struct notify *n)
{
	TRACE(t, "close inotify fd %ld", n - t->notifies);
	EXPECT_EQ(close(n->fd), 0);
	*n = (struct notify) { };
}

void op_watch(struct thread *t)
{
	struct notify *n = &t->notifies[below(&t->rng, MAX_NOTIFIES)];

	if (!n->fd) {
		n->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		EXPECT(n->fd > 0);
	}
	switch (below(&t->rng, 16)) {
	case 0:
		close_notify(t, n);
		break;
	case 1:
	case 2:
	case 3:
	case 4:
		remove_watch(t, n);
		break;
	case 5:
	case 6:
		drain(t, n);
		break;
	default:
		add_watch(t, n);
	}
}

/* Nothing that knows the file is to be left. */
void names_drop(struct thread *t, struct file *f)
{
	for (struct notify *n = t->notifies; n < t->notifies + MAX_NOTIFIES; n++)
		for (struct watch *w = n->watches; w < n->watches + MAX_WATCHES; w++) {
			if (!w->wd || w->ended || w->file_id != f->id)
				continue;
			EXPECT_EQ(inotify_rm_watch(n->fd, w->wd), 0);
			w->ended = true;
		}
	for (struct path *p = t->paths; p < t->paths + MAX_PATHS; p++)
		if (p->fd && p->file == f)
			close_path(t, p);
}

/* If a file has an O_PATH fd and loses its name while it is closed a worker takes its memory. */
void names_wait(struct thread *t, struct file *f)
{
	struct stat st;

	for (struct path *p = t->paths; p < t->paths + MAX_PATHS; p++)
		if (p->fd && p->file == f)
			AGREE(t, EVENTUALLY(!fstat(p->fd, &st) && !st.st_blocks),
			      "a file without a name has %ld blocks", (long)st.st_blocks);
}

/* The file has been closed for good, and the model knows. */
void names_file_gone(struct thread *t, struct file *f)
{
	for (struct path *p = t->paths; p < t->paths + MAX_PATHS; p++)
		if (p->fd && p->file == f)
			p->file = NULL;
	end_watches(t);
}

void names_end(struct thread *t)
{
	for (struct path *p = t->paths; p < t->paths + MAX_PATHS; p++)
		if (p->fd) {
			stat_path(t, p);
			close_path(t, p);
		}
	for (struct notify *n = t->notifies; n < t->notifies + MAX_NOTIFIES; n++)
		if (n->fd) {
			drain(t, n);
			close_notify(t, n);
		}
}

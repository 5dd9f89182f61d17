// SPDX-License-Identifier: GPL-2.0
/*
 * A picture of a gmem file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "gmemctl.h"

#define CELLS		64		/* in a row */
#define MAX_ROWS	32

/* What the pages of a cell are.  MIXED stands for more than one state. */
enum { PRIVATE = 1, SHARED = 2, MIXED = 3, SECRET = 4, THERE = 8, HOLE = 16 };

struct picture {
	uint64_t from, to, cell;
	unsigned char kinds[CELLS * MAX_ROWS];
	unsigned int orders[MAX_ROWS];
	bool colour, blocks;
};

#define GREY	"\033[90m"
#define NORMAL	"\033[0m"

/* By state: private, shared, mixed, secret. */
static const char * const colours[] = {
	"", "\033[31m", "\033[32m", "\033[33m", "\033[35m",
};

/* By state, and whether all, some or nothing of the cell has memory. */
static const char letters[][3] = { "", "#p:", "=s.", "%m;", "+c," };
static const char * const blocks[] = { "█", "▒", "·" };

static int state_of(int kinds)
{
	int states = kinds & (PRIVATE | SHARED | SECRET);

	return states & (states - 1) ? MIXED : states;
}

static int share(int kinds)
{
	return !(kinds & HOLE) ? 0 : kinds & THERE ? 1 : 2;
}

static void draw_cell(const struct picture *picture, int kinds)
{
	int state = state_of(kinds);

	if (!picture->colour)
		putchar(letters[state][share(kinds)]);
	else if (picture->blocks)
		printf("%s%s%s", colours[state], blocks[share(kinds)], NORMAL);
	else
		printf("%s%c%s", colours[state], letters[state][share(kinds)], NORMAL);
}

static void draw_legend(const struct picture *picture)
{
	static const struct {
		const char *text;
		int kinds;
	} legend[] = {
		{ "private", PRIVATE | THERE }, { "secret", SECRET | THERE },
		{ "shared", SHARED | THERE }, { "mixed", MIXED | THERE },
		{ "private, partly hole", PRIVATE | THERE | HOLE },
		{ "hole: private", PRIVATE | HOLE }, { "secret", SECRET | HOLE },
		{ "shared", SHARED | HOLE },
	};

	printf("%s a cell:", size_text(picture->cell));
	for (size_t i = 0; i < sizeof(legend) / sizeof(*legend); i++) {
		printf("  ");
		draw_cell(picture, legend[i].kinds);
		printf(" %s", legend[i].text);
	}
	putchar('\n');
}

static void draw(const struct picture *picture)
{
	uint64_t row = picture->cell * CELLS;

	for (uint64_t at = picture->from / row * row; at < picture->to; at += row) {
		size_t nr = (at - picture->from / row * row) / row;
		unsigned int orders = picture->orders[nr];
		const char *sep = "";

		printf("%11s |", size_text(at));
		for (size_t i = 0; i < CELLS; i++) {
			int kinds = picture->kinds[nr * CELLS + i];

			if (kinds)
				draw_cell(picture, kinds);
			else
				putchar(' ');
		}
		printf("| ");
		if (!orders)
			printf("hole");
		for (int order = NR_ORDERS - 1; order >= 0; order--) {
			if (!(orders & 1U << order))
				continue;
			printf("%s%s", sep, size_text(PAGE << order));
			sep = ", ";
		}
		putchar('\n');
	}
}

static int range_state(const struct gmemfd_range *range)
{
	return range->flags & GMEMFD_RANGE_PRIVATE ? PRIVATE :
	       range->flags & GMEMFD_RANGE_SECRET ? SECRET : SHARED;
}

static void add_to_picture(const struct gmemfd_range *range, void *arg)
{
	struct picture *picture = arg;
	uint64_t row = picture->cell * CELLS, start = picture->from / row * row;
	uint64_t first = (range->offset - start) / picture->cell;
	uint64_t last = (range->offset + range->size - 1 - start) / picture->cell;
	int kinds = range_state(range);

	kinds |= range->flags & GMEMFD_RANGE_ALLOCATED ? THERE : HOLE;
	for (uint64_t i = first; i <= last; i++) {
		picture->kinds[i] |= kinds;
		if (kinds & THERE)
			picture->orders[i / CELLS] |= 1U << range->folio_order;
	}
}

static void add_to_json(const struct gmemfd_range *range, void *arg)
{
	static const char * const names[] = {
		[PRIVATE] = "private", [SHARED] = "shared", [SECRET] = "secret",
	};
	struct json_object *object = json_object_new_object();

	put_size(object, "offset", range->offset);
	put_size(object, "size", range->size);
	put_string(object, "state", names[range_state(range)]);
	put_bool(object, "hole", !(range->flags & GMEMFD_RANGE_ALLOCATED));
	put_bool(object, "zeroed", range->flags & GMEMFD_RANGE_ZEROED);
	json_object_object_add(object, "folio_order",
			       range->flags & GMEMFD_RANGE_ALLOCATED ?
			       json_object_new_int(range->folio_order) : NULL);
	json_object_array_add(arg, object);
}

/* Cells as small as the rows allow, and a power of two of pages. */
static void choose_cell(struct picture *picture)
{
	uint64_t row;

	picture->cell = PAGE;
	for (;;) {
		row = picture->cell * CELLS;
		if ((picture->to + row - 1) / row - picture->from / row <= MAX_ROWS)
			return;
		picture->cell *= 2;
	}
}

static void why_no_fd(pid_t pid, int fd, int err, const char *link, struct reason *reason)
{
	struct stat st;
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/%d", pid);
	if (stat(proc, &st)) {
		reason->why = format("there is no process %d", pid);
		reason->advice = format("gmemctl ls");
	} else if (err == EPERM || err == EACCES) {
		reason->why = format("no permission to look into process %d", pid);
		reason->advice = format("do it as root, or as the user whose process it is");
	} else if (err == EBADF || err == ENOENT) {
		reason->why = format("process %d has no fd %d", pid, fd);
		reason->advice = format("gmemctl ls");
	} else if (*link) {
		reason->why = format("fd %d of process %d is not a gmem file but %s", fd, pid,
				     link);
		reason->advice = format("gmemctl ls");
	} else {
		reason->why = format("%s", strerror(err));
	}
}

/* An fd for a gmem file that has a name. */
static int open_named(const char *path, struct reason *reason)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct statfs fs;
	struct stat st;

	if (fd < 0) {
		reason->why = format("%s: %s", path, strerror(errno));
	} else if (fstat(fd, &st) || !S_ISREG(st.st_mode) || fstatfs(fd, &fs) ||
		   fs.f_type != GMEMFD_MAGIC) {
		reason->why = format("%s is not a gmem file", path);
		close(fd);
		fd = -1;
	}
	return fd;
}

/**
 * cmd_map - gmemctl map
 * @pid: a process
 * @fd: its fd
 * @path: a file with a name, in place of the two, or NULL
 * @offset: where to start
 * @size: how much of it, at most
 */
int cmd_map(pid_t pid, int fd, const char *path, uint64_t offset, uint64_t size)
{
	struct json_object *object, *ranges;
	struct picture picture = {
		.from = offset,
		.colour = use_colour(),
		.blocks = !strcmp(nl_langinfo(CODESET), "UTF-8"),
	};
	struct reason reason = {};
	char link[256] = "";
	int own = -ENOTTY, err;
	struct stat st;

	if (path) {
		own = open_named(path, &reason);
		pid = getpid();
		fd = own;
		if (own < 0)
			goto failed;
	/* Others' fds of other kinds are not ours to take. */
	} else if (is_gmem_link(pid, fd, link, sizeof(link)) || !*link) {
		own = borrow_gmem_fd(pid, fd);
	}
	if (own < 0 || fstat(own, &st)) {
		make_printable(link);
		why_no_fd(pid, fd, own < 0 ? -own : errno, link, &reason);
		goto failed;
	}
	if (offset >= (uint64_t)st.st_size) {
		reason.why = format("the file has only %s", size_text(st.st_size));
		goto failed;
	}
	picture.to = size < st.st_size - offset ? offset + size : (uint64_t)st.st_size;
	choose_cell(&picture);
	ranges = as_json ? json_object_new_array() : NULL;
	err = for_each_range(own, picture.from, picture.to,
			     as_json ? add_to_json : add_to_picture,
			     as_json ? (void *)ranges : (void *)&picture);
	if (err) {
		json_object_put(ranges);
		reason.why = format("GMEMFD_GET_RANGES: %s", strerror(-err));
		goto failed;
	}
	close(own);
	if (!as_json) {
		draw_legend(&picture);
		draw(&picture);
		return EXIT_SUCCESS;
	}
	object = json_object_new_object();
	put_bool(object, "ok", true);
	put_string(object, "path", path);
	json_object_object_add(object, "pid", path ? NULL : json_object_new_int(pid));
	json_object_object_add(object, "fd", path ? NULL : json_object_new_int(fd));
	put_size(object, "size", st.st_size);
	put_size(object, "block_size", st.st_blksize);
	json_object_object_add(object, "ranges", ranges);
	print_json(object);
	return EXIT_SUCCESS;

failed:
	if (own >= 0)
		close(own);
	return fail("map", &reason, NULL);
}

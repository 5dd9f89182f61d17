// SPDX-License-Identifier: GPL-2.0
/*
 * Files that have names: a mount for each block size and state.  A name keeps a file and its
 * memory while nobody has it open.  In the model a file is opened by its name only when nobody
 * else has it open, so that bindings, which go with the open file, all go at once.
 */
#define _GNU_SOURCE
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "fuzz.h"

#define AT		"/tmp/fuzz"
#define PATH_SIZE	64

static struct place {
	const char *state;
	uint64_t flags;
	size_t block_size;
	bool mounted;
} places[] = {
	{ "private", 0, 2 * MB, false },
	{ "shared", GMEMFD_CREATE_INIT_SHARED, 2 * MB, false },
	{ "secret", GMEMFD_CREATE_SECRET, 2 * MB, false },
	{ "private", 0, GB, false },
	{ "shared", GMEMFD_CREATE_INIT_SHARED, GB, false },
	{ "secret", GMEMFD_CREATE_SECRET, GB, false },
};

#define PLACES	((int)(sizeof(places) / sizeof(places[0])))

static const char *dir_of(int place, char *path)
{
	snprintf(path, PATH_SIZE, AT ".%d", place);
	return path;
}

static const char *path_of(const struct thread *t, int place, unsigned int name, char *path)
{
	snprintf(path, PATH_SIZE, AT ".%d/%d.%u", place, t->id, name);
	return path;
}

void mounts_set_up(void)
{
	char path[PATH_SIZE], options[64];

	for (int i = 0; i < PLACES; i++) {
		struct place *place = &places[i];

		if (place->flags & GMEMFD_CREATE_SECRET && !max_secret_entry)
			continue;
		if (!pool_size[place->block_size == GB])
			continue;
		mkdir(dir_of(i, path), 0755);
		snprintf(options, sizeof(options), "block=%luM,state=%s,size=64G,nr_inodes=1000",
			 place->block_size / MB, place->state);
		EXPECT_EQ(mount("none", path, "gmemfd", 0, options), 0);
		place->mounted = true;
	}
}

/* Nothing of a round is to be left: no file, and no inode that something else keeps. */
bool mounts_empty(void)
{
	char path[PATH_SIZE];
	struct statfs fs;

	for (int i = 0; i < PLACES; i++) {
		if (!places[i].mounted)
			continue;
		EXPECT_EQ(statfs(dir_of(i, path), &fs), 0);
		if (fs.f_blocks != fs.f_bfree || fs.f_files - fs.f_ffree != 1)
			return false;
	}
	return true;
}

void mounts_finish(void)
{
	char path[PATH_SIZE];

	for (int i = 0; i < PLACES; i++)
		if (places[i].mounted)
			EXPECT(EVENTUALLY(!umount(dir_of(i, path))));
}

/* A mount of that block size, or -1. */
static int pick_place(struct rng *rng, size_t block_size)
{
	unsigned int start = below(rng, PLACES);

	for (int i = 0; i < PLACES; i++) {
		int place = (start + i) % PLACES;

		if (places[place].mounted && places[place].block_size == block_size)
			return place;
	}
	return -1;
}

static int make_sized(const char *path, size_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	EXPECT(fd >= 0);
	EXPECT_EQ(ftruncate(fd, size), 0);
	return fd;
}

/* A file that has lost its name already.  The flags are the mount's; -1 if there is none. */
int create_unlinked(struct rng *rng, size_t size, size_t block_size, uint64_t *flags)
{
	int place = pick_place(rng, block_size), fd;
	char path[PATH_SIZE];

	if (place < 0)
		return -1;
	snprintf(path, sizeof(path), AT ".%d/unlinked", place);
	fd = make_sized(path, size);
	EXPECT_EQ(unlink(path), 0);
	*flags = places[place].flags | GMEMFD_CREATE_BIND_MAPPED;
	return fd;
}

/* False if there is no mount for it. */
bool create_named(struct thread *t, size_t size, size_t block_size)
{
	int place = pick_place(&t->rng, block_size);
	char path[PATH_SIZE];
	struct file *f;

	if (place < 0)
		return false;
	TRACE(t, "create %ld MiB of %ld MiB blocks in mount %ld, name %ld", size / MB,
	      block_size / MB, place, t->nr_names + 1);
	path_of(t, place, t->nr_names + 1, path);
	f = model_create(t, make_sized(path, size), size, block_size,
			 places[place].flags | GMEMFD_CREATE_BIND_MAPPED);
	f->of_mount = true;
	f->place = place;
	f->name = ++t->nr_names;
	return true;
}

/* Its name has gone. */
static void lose_name(struct thread *t, struct file *f)
{
	f->name = 0;
	if (!file_users(t, f))
		names_wait(t, f);
	file_put(t, f);
}

void remove_name(struct thread *t, struct file *f)
{
	char path[PATH_SIZE];

	TRACE(t, "file %ld: unlink, %ld users", f - t->files, file_users(t, f));
	if (!file_users(t, f) && without("late"))
		names_drop(t, f);
	EXPECT_EQ(unlink(path_of(t, f->place, f->name, path)), 0);
	lose_name(t, f);
}

/* Another one that has a name in the same mount, or none. */
static struct file *pick_beside(struct thread *t, struct file *f)
{
	unsigned int start = below(&t->rng, MAX_FILES);

	for (unsigned int i = 0; i < MAX_FILES; i++) {
		struct file *other = &t->files[(start + i) % MAX_FILES];

		if (other != f && other->used && !other->gone && other->name &&
		    other->place == f->place)
			return other;
	}
	return NULL;
}

/* To a name that is free, or to that of another file, which loses it. */
static void rename_file(struct thread *t, struct file *f)
{
	struct file *other = one_in(&t->rng, 2) ? pick_beside(t, f) : NULL;
	unsigned int name = other ? other->name : ++t->nr_names;
	char from[PATH_SIZE], to[PATH_SIZE];

	TRACE(t, "file %ld: rename %ld to %ld, that of file %ld", f - t->files, f->name, name,
	      other ? other - t->files : -1L);
	if (other && !file_users(t, other) && without("late"))
		names_drop(t, other);
	EXPECT_EQ(rename(path_of(t, f->place, f->name, from), path_of(t, f->place, name, to)), 0);
	f->name = name;
	if (other)
		lose_name(t, other);
}

/* A second open file, for moments; nothing that the first one has goes with it. */
static void open_again(struct thread *t, struct file *f)
{
	char path[PATH_SIZE];
	unsigned int page = pick_page(t, f, 0, f->nr_pages);
	struct gmemfd_convert_range range = {
		page * PAGE, PAGE, other_attributes(t, f, page),
	};
	uint64_t at = 1;
	int fd, ret, err;

	TRACE(t, "file %ld: open again, convert page %ld, attributes %#lx", f - t->files, page,
	      range.attributes);
	fd = open(path_of(t, f->place, f->name, path), O_RDWR | O_CLOEXEC);
	AGREE(t, fd >= 0, "open by name: errno %d", errno);
	ret = convert_range(fd, &range, NULL, &at);
	err = errno;
	expect_conversion(t, f, &range, 1, ret, err, at, EAGAIN);
	EXPECT_EQ(close(fd), 0);
}

static void bad_open(struct thread *t, struct file *f)
{
	char path[PATH_SIZE];
	int want, fd;

	TRACE(t, "file %ld: bad open", f - t->files);
	path_of(t, f->place, f->name, path);
	if (one_in(&t->rng, 2)) {
		fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
		want = EEXIST;
	} else {
		fd = open(path, O_RDWR | O_TRUNC);
		want = EPERM;
	}
	AGREE(t, fd < 0 && errno == want, "bad open: %d, errno %d, not %d", fd, errno, want);
}

void op_name(struct thread *t)
{
	struct file *f = &t->files[below(&t->rng, MAX_FILES)];
	char path[PATH_SIZE];

	if (!f->used || f->gone || !f->name)
		return;
	switch (below(&t->rng, 8)) {
	case 0:
		remove_name(t, f);
		return;
	case 1:
	case 2:
		rename_file(t, f);
		return;
	case 3:
		bad_open(t, f);
		return;
	case 4:
		open_again(t, f);
		return;
	default:
		if (file_users(t, f))
			return;
		TRACE(t, "file %ld: open", f - t->files);
		f->fd = open(path_of(t, f->place, f->name, path), O_RDWR | O_CLOEXEC);
		AGREE(t, f->fd >= 0, "open by name: errno %d", errno);
		AGREE(t, !ftruncate(f->fd, f->size), "truncate to the size it has: errno %d",
		      errno);
	}
}

// SPDX-License-Identifier: GPL-2.0
/* Operations on files that belong to one thread: every result is known. */
#define _GNU_SOURCE
#include <sys/uio.h>

#include "fuzz.h"

#define BUDGET	(40 * 2 * MB)	/* of 2 MiB pages, for a thread */

/* Choices */

struct file *pick_file(struct thread *t)
{
	unsigned int start = below(&t->rng, MAX_FILES);

	for (unsigned int i = 0; i < MAX_FILES; i++) {
		struct file *f = &t->files[(start + i) % MAX_FILES];

		if (f->used && !f->gone && f->fd >= 0)
			return f;
	}
	return NULL;
}

struct file *pick_mapped(struct thread *t)
{
	unsigned int start = below(&t->rng, MAX_FILES);

	for (unsigned int i = 0; i < MAX_FILES; i++) {
		struct file *f = &t->files[(start + i) % MAX_FILES];

		if (f->used && !f->gone && f->nr_maps)
			return f;
	}
	return NULL;
}

/* Of a file of 1 GiB only some regions are used. */
unsigned int pick_page(struct thread *t, struct file *f, unsigned int first,
		       unsigned int nr)
{
	static const unsigned int regions[] = { 0, 1, 2, 3, 257, 511 };
	unsigned int page;

	if (f->nr_pages <= 16 * REGION_PAGES)
		return first + below(&t->rng, nr);
	page = regions[below(&t->rng, 6)] * REGION_PAGES + below(&t->rng, REGION_PAGES);
	if (page >= first && page - first < nr)
		return page;
	return first + below(&t->rng, nr < REGION_PAGES ? nr : REGION_PAGES);
}

void pick_range(struct thread *t, struct file *f, unsigned int *first, unsigned int *nr)
{
	unsigned int page = pick_page(t, f, 0, f->nr_pages), r = page / REGION_PAGES;
	unsigned int big = f->block_size == GB ? 400 : 100;

	*first = page;
	*nr = 1;
	if (one_in(&t->rng, big)) {			/* the file */
		*first = 0;
		*nr = f->nr_pages;
	} else if (one_in(&t->rng, big / 5)) {		/* a block */
		*first = page / f->block_pages * f->block_pages;
		*nr = f->block_pages;
	} else if (one_in(&t->rng, 6)) {		/* a region, or nearly */
		*first = r * REGION_PAGES;
		*nr = REGION_PAGES;
		if (one_in(&t->rng, 3))
			*nr -= 1 + below(&t->rng, 3);
		if (one_in(&t->rng, 3)) {
			unsigned int n = 1 + below(&t->rng, 3);

			*first += n;
			*nr -= n;
		}
		if (one_in(&t->rng, 8))
			*nr += below(&t->rng, 4 * REGION_PAGES);
	} else if (one_in(&t->rng, 6)) {
		*nr = 1 + below(&t->rng, 1200);
	} else if (one_in(&t->rng, 2)) {
		*nr = 1 + below(&t->rng, 16);
	}
	if (*first + *nr > f->nr_pages)
		*nr = f->nr_pages - *first;
}

/* Files and mappings */

static void create(struct thread *t)
{
	uint64_t flags = pick_flags(&t->rng);
	size_t used = 0, block = 2 * MB, size;
	bool have_1g = false;
	int fd, free = 0;

	for (struct file *f = t->files; f < t->files + MAX_FILES; f++) {
		if (!f->used)
			free++;
		else if (f->block_size == GB)
			have_1g = true;
		else
			used += f->size;
	}
	size = (1 + below(&t->rng, 4)) * 2 * MB;
	if (t->may_have_1g && !have_1g && one_in(&t->rng, 3))
		size = block = GB;
	if (!free || (block == 2 * MB && used + size > BUDGET))
		return;
	if (one_in(&t->rng, 3) && create_named(t, size, block))
		return;
	TRACE(t, "create %ld MiB of %ld MiB blocks, flags %#lx", size / MB, block / MB, flags);
	fd = gmem_create(size, block, flags);
	AGREE(t, fd >= 0, "create: errno %d", errno);
	model_create(t, fd, size, block, flags);
}

/* A name is none of them. */
int file_users(struct thread *t, struct file *f)
{
	return (f->fd >= 0) + (f->fd2 >= 0) + f->nr_maps + (t->child.file == f);
}

/* One of its users is about to leave. */
void file_going(struct thread *t, struct file *f)
{
	if (file_users(t, f) == 1 && !f->name && without("late"))
		names_drop(t, f);
}

/* One of its users less. */
void file_put(struct thread *t, struct file *f)
{
	if (file_users(t, f))
		return;
	vm_file_gone(t, f);
	if (f->name)
		return;
	model_release_file(t, f);
	names_file_gone(t, f);
}

static void op_close(struct thread *t)
{
	struct file *f = pick_file(t);
	int fd;

	if (!f)
		return;
	if (f->fd2 < 0 && one_in(&t->rng, 2)) {
		TRACE(t, "file %ld: dup", f - t->files);
		f->fd2 = dup(f->fd);
		EXPECT(f->fd2 >= 0);
		return;
	}
	TRACE(t, "file %ld: close", f - t->files);
	file_going(t, f);
	fd = f->fd;
	f->fd = f->fd2;
	f->fd2 = -1;
	EXPECT_EQ(close(fd), 0);
	file_put(t, f);
}

static void unmap(struct thread *t, struct file *f, struct map *m)
{
	TRACE(t, "file %ld: munmap pages %ld+%ld", f - t->files, m->first, m->nr);
	file_going(t, f);
	EXPECT_EQ(munmap(m->addr, m->nr * PAGE), 0);
	*m = f->maps[--f->nr_maps];
	file_put(t, f);
}

void map_file(struct thread *t, struct file *f)
{
	struct map *m = &f->maps[f->nr_maps];

	m->first = 0;
	m->nr = f->nr_pages;
	m->nr_cuts = 0;
	if (one_in(&t->rng, 2)) {
		m->first = pick_page(t, f, 0, f->nr_pages);
		m->nr = 1 + below(&t->rng, f->nr_pages - m->first);
	}
	TRACE(t, "file %ld: mmap pages %ld+%ld", f - t->files, m->first, m->nr);
	pthread_rwlock_rdlock(&fork_lock);
	m->addr = gmem_map(f->fd, m->first * PAGE, m->nr * PAGE);
	EXPECT_EQ(madvise(m->addr, m->nr * PAGE, MADV_DONTFORK), 0);
	pthread_rwlock_unlock(&fork_lock);
	f->nr_maps++;
}

static void op_map(struct thread *t)
{
	struct file *f = pick_file(t);

	if (f && f->nr_maps < MAX_MAPS)
		map_file(t, f);
}

/* Like an access to each page in turn. */
static void populate(struct thread *t, struct file *f, struct map *m,
		     unsigned int first, unsigned int nr)
{
	int advice = one_in(&t->rng, 2) ? MADV_POPULATE_READ : MADV_POPULATE_WRITE, err;
	bool ok = true;

	if (nr > 64)
		nr = 1 + below(&t->rng, 64);
	TRACE(t, "file %ld: populate pages %ld+%ld, advice %ld", f - t->files,
	      m->first + first, nr, advice);
	for (unsigned int i = 0; ok && i < nr; i++)
		ok = model_touch(f, m->first + first + i);
	err = madvise(m->addr + first * PAGE, nr * PAGE, advice) ? errno : 0;
	AGREE(t, err == (ok ? 0 : EFAULT), "populate: errno %d, not %d", err, !ok);
}

static void op_change_mapping(struct thread *t)
{
	struct file *f = pick_mapped(t);
	unsigned int first, nr;
	struct map *m;
	char *p;

	if (!f)
		return;
	m = &f->maps[below(&t->rng, f->nr_maps)];
	first = pick_page(t, f, m->first, m->nr) - m->first;
	nr = 1 + below(&t->rng, m->nr - first);
	if (nr > 4 * REGION_PAGES)
		nr = 4 * REGION_PAGES;
	p = m->addr + first * PAGE;
	switch (below(&t->rng, 10)) {
	case 0:
		unmap(t, f, m);
		return;
	case 1:		/* an end of it */
		nr = 1 + below(&t->rng, m->nr);
		if (nr == m->nr)
			return;
		TRACE(t, "file %ld: munmap the first %ld of pages %ld+%ld", f - t->files,
		      nr, m->first, m->nr);
		EXPECT_EQ(munmap(m->addr, nr * PAGE), 0);
		m->addr += nr * PAGE;
		m->first += nr;
		m->nr -= nr;
		return;
	case 2:
		TRACE(t, "file %ld: munmap the last %ld of pages %ld+%ld", f - t->files,
		      m->nr - first, m->first, m->nr);
		if (!first)
			return;
		EXPECT_EQ(munmap(p, (m->nr - first) * PAGE), 0);
		m->nr = first;
		return;
	case 3:
	case 4:
		populate(t, f, m, first, nr);
		return;
	case 5:		/* as little as this may split a large mapping, and its VMA for good */
		if (m->nr_cuts + 2 > MAX_CUTS)
			return;
		m->cuts[m->nr_cuts++] = m->first + first;
		m->cuts[m->nr_cuts++] = m->first + first + nr;
		TRACE(t, "file %ld: mprotect pages %ld+%ld", f - t->files, m->first + first, nr);
		EXPECT_EQ(mprotect(p, nr * PAGE, PROT_READ), 0);
		EXPECT_EQ(mprotect(m->addr, m->nr * PAGE, PROT_READ | PROT_WRITE), 0);
		return;
	case 6:
		TRACE(t, "file %ld: MADV_COLD, PAGEOUT pages %ld+%ld", f - t->files,
		      m->first + first, nr);
		madvise(p, nr * PAGE, MADV_COLD);
		madvise(p, nr * PAGE, MADV_PAGEOUT);
		return;
	default:
		TRACE(t, "file %ld: MADV_DONTNEED pages %ld+%ld", f - t->files,
		      m->first + first, nr);
		EXPECT_EQ(madvise(p, nr * PAGE, MADV_DONTNEED), 0);
	}
}

/* Accesses */

/* Look where a page that has just been touched is. */
static void see_frame(struct thread *t, struct file *f, const char *p, unsigned int page)
{
	struct block *block = block_of(f, page);
	uint64_t entry = 0, frame;

	EXPECT_EQ(pread(t->pagemap, &entry, 8, (uintptr_t)p / PAGE * 8), 8);
	AGREE(t, entry >> 63, "page %u is not mapped", page);
	frame = (entry & ((1ULL << 55) - 1)) - page % f->block_pages;
	AGREE(t, !block->frame || block->frame == frame, "page %u has moved by %ld", page,
	      (long)(frame - block->frame));
	block->frame = frame;
}

static void access_page(struct thread *t, struct file *f, char *p, unsigned int page)
{
	struct iovec here = { t->buf, PAGE }, there = { p, PAGE };
	bool want = model_touch(f, page), reference = want && !f->private[page], ok;
	unsigned int kind = below(&t->rng, 100);
	uint64_t tag = new_tag(t);
	long ret;

	if (kind < 45) {
		TRACE(t, "file %ld: read page %ld: %ld", f - t->files, page, want);
		ok = load_page(p, t->buf);
		AGREE(t, ok == want, "page %u readable %d", page, ok);
		if (ok) {
			check_page(t, t->buf, f->tag[page], "read", page);
			if (!block_of(f, page)->frame)
				see_frame(t, f, p, page);
		}
		return;
	}
	if (kind < 80) {
		TRACE(t, "file %ld: write page %ld: %ld", f - t->files, page, want);
		ok = store_page(p, tag);
		AGREE(t, ok == want, "page %u writable %d", page, ok);
	} else if (kind < 86) {
		TRACE(t, "file %ld: write() from page %ld: %ld", f - t->files, page, want);
		ret = write(t->pipe[1], p, PAGE);
		ok = ret == (long)PAGE;
		AGREE(t, ok == want && (ok || errno == EFAULT),
		      "write() from page %u: %ld, errno %d", page, ret, errno);
		if (ok) {
			EXPECT_EQ(read(t->pipe[0], t->buf, PAGE), (long)PAGE);
			check_page(t, t->buf, f->tag[page], "write()", page);
		}
		return;
	} else if (kind < 92) {
		TRACE(t, "file %ld: read() into page %ld: %ld", f - t->files, page, want);
		page_fill(t->buf, tag);
		EXPECT_EQ(write(t->pipe[1], t->buf, PAGE), (long)PAGE);
		ret = read(t->pipe[0], p, PAGE);
		ok = ret == (long)PAGE;
		AGREE(t, ok == want && (ok || errno == EFAULT),
		      "read() into page %u: %ld, errno %d", page, ret, errno);
		if (!ok)
			EXPECT_EQ(read(t->pipe[0], t->buf, PAGE), (long)PAGE);
	} else if (kind < 96) {
		TRACE(t, "file %ld: process_vm_readv page %ld: %ld", f - t->files, page,
		      reference);
		ret = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
		ok = ret == (long)PAGE;
		AGREE(t, ok == reference && (ok || errno == EFAULT),
		      "process_vm_readv of page %u: %ld, errno %d", page, ret, errno);
		if (ok)
			check_page(t, t->buf, f->tag[page], "process_vm_readv", page);
		return;
	} else {
		TRACE(t, "file %ld: process_vm_writev page %ld: %ld", f - t->files, page,
		      reference);
		page_fill(t->buf, tag);
		ret = process_vm_writev(getpid(), &here, 1, &there, 1, 0);
		ok = ret == (long)PAGE;
		AGREE(t, ok == reference && (ok || errno == EFAULT),
		      "process_vm_writev of page %u: %ld, errno %d", page, ret, errno);
	}
	if (ok)
		f->tag[page] = tag;
}

static void op_access(struct thread *t)
{
	struct file *f = pick_mapped(t);
	unsigned int first, nr;
	struct map *m;

	if (!f)
		return;
	m = &f->maps[below(&t->rng, f->nr_maps)];
	first = pick_page(t, f, m->first, m->nr);
	/* Most go where something is. */
	for (int i = 0; i < 2 && out_of_reach(f, first); i++)
		first = pick_page(t, f, m->first, m->nr);
	nr = one_in(&t->rng, 2) ? 1 : 1 + below(&t->rng, 4);
	for (unsigned int i = first; i < first + nr && i < m->first + m->nr; i++)
		access_page(t, f, m->addr + (i - m->first) * PAGE, i);
}

/* A page of the file that the guest has accessed lately, or -1. */
static long page_of_guest(struct thread *t, struct file *f)
{
	unsigned int start = below(&t->rng, 16);

	for (unsigned int i = start; i < start + 16; i++) {
		unsigned int page = t->seen_by_guest[i % 16].page;

		if (t->seen_by_guest[i % 16].file == f && page < f->nr_pages)
			return page;
	}
	return -1;
}

/* Frames stay; private and secret ones are out of the kernel's sight. */
static void op_frame(struct thread *t)
{
	struct file *f = pick_mapped(t);
	struct block *block;
	struct map *m;
	uint64_t frame;
	long page;

	if (!f)
		return;
	m = &f->maps[below(&t->rng, f->nr_maps)];
	page = one_in(&t->rng, 2) ? page_of_guest(t, f) : -1;
	if (page < 0 || !f->private[page])
		page = pick_page(t, f, m->first, m->nr);
	for (int i = 0; i < 8 && !(f->private[page] && f->tag[page]); i++)
		page = pick_page(t, f, m->first, m->nr);
	block = block_of(f, page);
	TRACE(t, "file %ld: frame of page %ld, attributes %#lx", f - t->files, page,
	      attributes_of(f, page));
	/* The guest's need not be in this mapping. */
	if (!out_of_reach(f, page) && page >= m->first && page < m->first + m->nr) {
		char *p = m->addr + (page - m->first) * PAGE;

		if (!model_touch(f, page))
			return;
		AGREE(t, load_page(p, t->buf), "page %ld is out of reach", page);
		see_frame(t, f, p, page);
	}
	if (!block->frame || !f->ready[page / REGION_PAGES])
		return;
	frame = block->frame + page % f->block_pages;
	if (read_kcore(frame * PAGE, t->buf, PAGE) != (long)PAGE)
		memset(t->buf, 0, PAGE);
	check_page(t, t->buf, f->private[page] && !(f->flags & GMEMFD_CREATE_KEEP_DIRECT_MAP) ?
		   0 : f->tag[page], "kcore", page);
}

/* Conversions */

/* What it answers to ranges in ascending order, and what comes of it. */
void expect_conversion(struct thread *t, struct file *f,
		       const struct gmemfd_convert_range *ranges, unsigned int nr,
		       int ret, int err, uint64_t at, int busy_err)
{
	long busy = model_busy(f, ranges, nr);

	if (busy >= 0) {
		AGREE(t, ret == -1 && err == busy_err && at == busy * PAGE,
		      "convert: %d, errno %d at page %lu; page %ld is held",
		      ret, err, at / PAGE, busy);
		model_break(f, ranges, nr);
		return;
	}
	AGREE(t, !ret && at == 1, "convert: %d, errno %d, error_offset %#lx; nobody holds a page",
	      ret, err, at);
	model_convert(f, ranges, nr);
}

static void op_convert(struct thread *t)
{
	struct gmemfd_convert arg = { .error_offset = 1 };
	struct file *f = pick_file(t);
	struct gmemfd_convert_range range;
	unsigned int first, nr, usec = 0;
	bool upstream = one_in(&t->rng, 8);
	uint64_t attributes;
	int ret, err;

	if (!f)
		return;
	pick_range(t, f, &first, &nr);
	attributes = one_in(&t->rng, 4) ? any_attributes(&t->rng, f->flags) :
					  other_attributes(t, f, first);
	/* By upstream's number, what is not private is secret where it can be. */
	if (upstream && !attributes && f->flags & GMEMFD_CREATE_SECRET)
		attributes = GMEMFD_ATTRIBUTE_SECRET;
	range = (struct gmemfd_convert_range) { first * PAGE, nr * PAGE, attributes };
	if (one_in(&t->rng, 50))
		usec = 1 + below(&t->rng, 300);
	TRACE(t, "file %ld: convert pages %ld+%ld, attributes %#lx, upstream %ld, signal after %ld us",
	      f - t->files, first, nr, attributes, upstream, usec);
	if (upstream && attributes == GMEMFD_ATTRIBUTE_SECRET)
		attributes = 0;
	arg.offset = range.offset;
	arg.size = range.size;
	arg.attributes = attributes;
	if (usec)
		signals_start(t, usec, true);
	ret = ioctl(f->fd, upstream ? GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2 : GMEMFD_CONVERT, &arg);
	err = errno;
	if (usec)
		signals_stop(t);
	expect_conversion(t, f, &range, 1, ret, err, arg.error_offset, EAGAIN);
}

static int by_offset(const void *a, const void *b)
{
	const struct gmemfd_convert_range *ra = a, *rb = b;

	return ra->offset < rb->offset ? -1 : ra->offset > rb->offset;
}

static unsigned int pick_ranges(struct thread *t, struct file *f,
				struct gmemfd_convert_range *ranges)
{
	unsigned int want = one_in(&t->rng, 4) ? MAX_RANGES : 1 + below(&t->rng, 6);
	unsigned int n = 0, first = pick_page(t, f, 0, f->nr_pages), nr;
	unsigned int gap = 1 + below(&t->rng, one_in(&t->rng, 3) ? 300 : 8);
	unsigned int most = 1 + below(&t->rng, one_in(&t->rng, 3) ? 700 : 8);
	unsigned int mixed = below(&t->rng, 4);

	if (want == MAX_RANGES && one_in(&t->rng, 2))
		first = first / REGION_PAGES * REGION_PAGES;
	for (; n < want && first < f->nr_pages; n++) {
		nr = 1 + below(&t->rng, most);
		if (first + nr > f->nr_pages)
			nr = f->nr_pages - first;
		ranges[n] = (struct gmemfd_convert_range) {
			first * PAGE, nr * PAGE,
			mixed ? other_attributes(t, f, first) : any_attributes(&t->rng, f->flags)
		};
		first += nr + below(&t->rng, gap);
	}
	return n;
}

static void shuffle(struct thread *t, struct gmemfd_convert_range *ranges,
		    unsigned int n)
{
	for (; n > 1; n--) {
		unsigned int i = below(&t->rng, n);
		struct gmemfd_convert_range last = ranges[n - 1];

		ranges[n - 1] = ranges[i];
		ranges[i] = last;
	}
}

static void op_convert_ranges(struct thread *t)
{
	struct gmemfd_convert_range ranges[MAX_RANGES];
	struct file *f = pick_file(t);
	uint64_t at = 1;
	unsigned int nr;
	int ret, err;

	if (!f)
		return;
	nr = pick_ranges(t, f, ranges);
	TRACE(t, "file %ld: convert %ld ranges, pages %ld to %ld", f - t->files, nr,
	      ranges[0].offset / PAGE,
	      (ranges[nr - 1].offset + ranges[nr - 1].size) / PAGE);
	shuffle(t, ranges, nr);
	ret = gmem_convert_ranges(f->fd, ranges, nr, &at);
	err = errno;
	qsort(ranges, nr, sizeof(ranges[0]), by_offset);
	expect_conversion(t, f, ranges, nr, ret, err, at, EAGAIN);
}

static void op_convert_wait(struct thread *t)
{
	struct gmemfd_convert_range ranges[MAX_RANGES];
	struct gmemfd_convert_ranges arg = {
		.ranges = (uintptr_t)ranges, .error_offset = 1,
		.flags = GMEMFD_CONVERT_WAIT,
	};
	struct file *f = pick_file(t);
	int ret, err, busy_err = ETIMEDOUT;
	uint64_t timeout;
	unsigned int nr;

	if (!f)
		return;
	nr = pick_ranges(t, f, ranges);
	timeout = one_in(&t->rng, 3) ? 0 : below(&t->rng, 400000);
	if (one_in(&t->rng, 3)) {
		busy_err = EINTR;
		timeout = one_in(&t->rng, 2) ? ~0ULL : 3600000000000ULL;
		signals_start(t, 1 + below(&t->rng, 3000), true);
	}
	TRACE(t, "file %ld: convert %ld ranges, pages %ld to %ld, waiting %ld ns: %ld",
	      f - t->files, nr, ranges[0].offset / PAGE,
	      (ranges[nr - 1].offset + ranges[nr - 1].size) / PAGE, timeout, busy_err);
	arg.nr_ranges = nr;
	arg.timeout = timeout;
	ret = ioctl(f->fd, GMEMFD_CONVERT_RANGES, &arg);
	err = errno;
	if (busy_err == EINTR) {
		signals_stop(t);
		AGREE(t, timeout == ~0ULL ? arg.timeout == timeout : arg.timeout <= timeout,
		      "convert: timeout %llu", arg.timeout);
	} else {
		AGREE(t, arg.timeout == timeout, "convert: timeout %llu", arg.timeout);
	}
	expect_conversion(t, f, ranges, nr, ret, err, arg.error_offset, busy_err);
}

/* Holes */

static void punch_range(struct thread *t, struct file *f, unsigned int first,
			unsigned int nr)
{
	bool beyond = first + nr == f->nr_pages && one_in(&t->rng, 3);
	bool signals = !without("signals") && one_in(&t->rng, 50);
	int err;

	TRACE(t, "file %ld: punch pages %ld+%ld, signals %ld", f - t->files, first, nr, signals);
	if (signals)
		signals_start(t, 1 + below(&t->rng, 500), one_in(&t->rng, 2));
	err = gmem_punch(f->fd, first * PAGE, (nr + (beyond ? 77 : 0)) * PAGE) ? errno : 0;
	if (signals)
		signals_stop(t);
	AGREE(t, !err, "punch: errno %d", err);
	model_punch(t, f, first, first + nr);
	check_allocated(t, f);
}

static bool touch_by_guest(struct thread *t, struct file *f, unsigned int page,
			   unsigned int first)
{
	for (struct slot *s = t->slots; s < t->slots + MAX_SLOTS; s++) {
		if (!s->used || s->file != f || page < s->first || page >= s->first + s->nr)
			continue;
		if (first >= s->first && first < s->first + s->nr)
			guest_access(t, s, first);
		guest_access(t, s, page);
		return true;
	}
	return false;
}

/*
 * Somebody touches a page: perhaps another one of its region first, with which
 * it must not have been mapped.
 */
static void touch(struct thread *t, struct file *f, unsigned int page)
{
	/* One fault maps as much as a region, or 16 secret pages. */
	unsigned int around = one_in(&t->rng, 2) ? REGION_PAGES : 16;
	unsigned int near = page / around * around + below(&t->rng, around);
	bool both = one_in(&t->rng, 2);
	unsigned int n = below(&t->rng, 3);

	if (n == 0 && touch_by_guest(t, f, page, both ? near : ~0U))
		return;
	if (n == 1 && t->child.pid && t->child.file == f && page >= t->child.map.first) {
		if (both && near >= t->child.map.first)
			child_access(t, near);
		child_access(t, page);
		return;
	}
	for (struct map *m = f->maps; m < f->maps + f->nr_maps; m++) {
		if (page < m->first || page >= m->first + m->nr)
			continue;
		if (both && near >= m->first && near < m->first + m->nr)
			access_page(t, f, m->addr + (near - m->first) * PAGE, near);
		access_page(t, f, m->addr + (page - m->first) * PAGE, page);
		return;
	}
}

/* Where the guest has been, which then comes back. */
static bool punch_under_guest(struct thread *t, struct file *f)
{
	long page = page_of_guest(t, f);
	unsigned int first = page, nr = 1;

	if (page < 0)
		return false;
	if (f->block_size != GB && one_in(&t->rng, 3)) {
		first = page / f->block_pages * f->block_pages;
		nr = f->block_pages;
	}
	punch_range(t, f, first, nr);
	touch_by_guest(t, f, page, ~0U);
	return true;
}

static void op_punch(struct thread *t)
{
	struct file *f = pick_file(t);
	unsigned int first, nr;

	if (!f || (one_in(&t->rng, 3) && punch_under_guest(t, f)))
		return;
	pick_range(t, f, &first, &nr);
	if (nr > 16 && !one_in(&t->rng, 8))
		nr = 1 + below(&t->rng, 16);
	punch_range(t, f, first, nr);
	if (one_in(&t->rng, 3))
		touch(t, f, first + below(&t->rng, nr));
}

/* A block in pieces, so that it goes with the last one, or does not. */
static void op_punch_in_pieces(struct thread *t)
{
	struct file *f = pick_file(t);
	unsigned int cut[5], first, n = 1 + below(&t->rng, 4), start;

	if (!f || f->block_size == GB)
		return;
	first = below(&t->rng, f->nr_blocks) * f->block_pages;
	cut[0] = 0;
	cut[n] = f->block_pages;
	for (unsigned int i = 1; i < n; i++)
		cut[i] = cut[i - 1] + below(&t->rng, f->block_pages - cut[i - 1]);
	start = below(&t->rng, n);
	for (unsigned int j = 0; j < n; j++) {
		unsigned int i = (start + j) % n, nr = cut[i + 1] - cut[i];

		if (!nr)
			continue;
		punch_range(t, f, first + cut[i], nr);
		if (one_in(&t->rng, 3))
			touch(t, f, first + cut[i] + below(&t->rng, nr));
		if (one_in(&t->rng, 6))
			touch(t, f, first + below(&t->rng, f->block_pages));
	}
	for (unsigned int i = below(&t->rng, 4); i; i--)
		touch(t, f, first + below(&t->rng, f->block_pages));
}

/* The first page behind @page that is in another VMA, or @last. */
static unsigned int end_of_vma(const struct map *m, unsigned int page, unsigned int last)
{
	for (unsigned int i = 0; i < m->nr_cuts; i++)
		if (m->cuts[i] > page && m->cuts[i] < last)
			last = m->cuts[i];
	return last;
}

/* It punches VMA by VMA: a block that is in two of them is punched in pieces. */
static void op_madvise_remove(struct thread *t)
{
	struct file *f = pick_mapped(t);
	unsigned int first, nr, next;
	struct map *m;

	if (!f || f->fd < 0)
		return;
	m = &f->maps[below(&t->rng, f->nr_maps)];
	first = pick_page(t, f, m->first, m->nr) - m->first;
	nr = 1 + below(&t->rng, m->nr - first < 600 ? m->nr - first : 600);
	TRACE(t, "file %ld: MADV_REMOVE pages %ld+%ld", f - t->files, m->first + first, nr);
	AGREE(t, !madvise(m->addr + first * PAGE, nr * PAGE, MADV_REMOVE),
	      "MADV_REMOVE: errno %d", errno);
	first += m->first;
	for (unsigned int last = first + nr; first < last; first = next) {
		next = end_of_vma(m, first, last);
		model_punch(t, f, first, next);
	}
	check_allocated(t, f);
}

static void op_allocate(struct thread *t)
{
	struct file *f = pick_file(t);
	bool signals = !without("signals") && one_in(&t->rng, 20), want;
	unsigned int first, nr;
	int err;

	if (!f)
		return;
	pick_range(t, f, &first, &nr);
	/* Costs much, and does the same each time. */
	if (nr > REGION_PAGES && !one_in(&t->rng, 8))
		nr = REGION_PAGES;
	if (nr > 4 * REGION_PAGES)
		nr = 4 * REGION_PAGES;
	want = model_allocate(f, first, first + nr);
	TRACE(t, "file %ld: allocate pages %ld+%ld: %ld, signals %ld", f - t->files, first, nr,
	      want, signals);
	if (signals)
		signals_start(t, 1 + below(&t->rng, 500), true);
	err = gmem_allocate(f->fd, first * PAGE, nr * PAGE) ? errno : 0;
	if (signals)
		signals_stop(t);
	AGREE(t, err == (want ? 0 : ENOSPC), "allocate: errno %d, not %d", err,
	      want ? 0 : ENOSPC);
}

/* Queries */

static void op_ranges(struct thread *t)
{
	struct file *f = pick_file(t);
	unsigned int first, nr, room;

	if (!f)
		return;
	pick_range(t, f, &first, &nr);
	if (one_in(&t->rng, 2) && f->nr_pages - first > REGION_PAGES)
		nr = REGION_PAGES;
	room = 1 + below(&t->rng, 64);
	TRACE(t, "file %ld: ranges of pages %ld+%ld, room for %ld", f - t->files, first, nr,
	      room);
	check_ranges(t, f, first, first + nr, room);
}

static void op_totals(struct thread *t)
{
	struct file *f = pick_file(t);

	if (!f)
		return;
	TRACE(t, "file %ld: fstat, fdinfo", f - t->files);
	check_totals(t, f);
}

#define LOOK_AT	700U	/* pages */

/* All states, and the contents of many pages that are there and can be reached. */
static void op_check_all(struct thread *t)
{
	struct file *f = pick_file(t);
	unsigned int left = LOOK_AT, first, i;
	char *p;

	if (!f)
		return;
	first = pick_page(t, f, 0, f->nr_pages);
	TRACE(t, "file %ld: check all", f - t->files);
	check_totals(t, f);
	check_ranges(t, f, 0, f->nr_pages, 64);
	pthread_rwlock_rdlock(&fork_lock);
	p = gmem_map(f->fd, 0, f->size);
	EXPECT_EQ(madvise(p, f->size, MADV_DONTFORK), 0);
	pthread_rwlock_unlock(&fork_lock);
	for (unsigned int n = 0; n < f->nr_pages && left; n++) {
		i = (first + n) % f->nr_pages;
		if (!f->ready[i / REGION_PAGES]) {
			n += REGION_PAGES - 1 - i % REGION_PAGES;
			continue;
		}
		if (out_of_reach(f, i))
			continue;
		model_touch(f, i);
		AGREE(t, load_page(p + i * PAGE, t->buf), "page %u is out of reach", i);
		check_page(t, t->buf, f->tag[i], "check", i);
		left--;
	}
	EXPECT_EQ(munmap(p, f->size), 0);
	check_ranges(t, f, 0, f->nr_pages, 64);
}

/* What is refused, and changes nothing */

static void beyond_the_end(struct thread *t, struct file *f)
{
	char *p;

	TRACE(t, "file %ld: beyond the end", f - t->files);
	pthread_rwlock_rdlock(&fork_lock);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd,
		 f->size - PAGE);
	EXPECT(p != MAP_FAILED);
	AGREE(t, !load_page(p + PAGE, t->buf) && !store_page(p + PAGE, 2),
	      "pages beyond the end can be reached");
	EXPECT_EQ(munmap(p, 2 * PAGE), 0);
	pthread_rwlock_unlock(&fork_lock);
}

static void bad_convert(struct thread *t, struct file *f)
{
	struct gmemfd_convert arg = {
		.offset = below(&t->rng, f->nr_pages) * PAGE, .size = PAGE,
		.attributes = any_attributes(&t->rng, f->flags), .error_offset = 1,
	};
	unsigned long request = GMEMFD_CONVERT;
	unsigned int kind = below(&t->rng, 12);
	void *argp = &arg;
	int want = EINVAL, err;

	switch (kind) {
	case 0: arg.offset += 1 + below(&t->rng, PAGE - 1); break;
	case 1: arg.size += 1 + below(&t->rng, PAGE - 1); break;
	case 2: arg.size = 0; break;
	case 3: arg.size = f->size - arg.offset + PAGE; break;
	case 4: arg.size = -arg.offset; break;
	case 5: arg.attributes |= 1ULL << (5 + below(&t->rng, 59)); break;
	case 6: arg.attributes |= 1 << below(&t->rng, 3); break;
	case 7: arg.flags |= 2ULL << below(&t->rng, 63); break;
	case 8: arg.reserved[below(&t->rng, 10)] = 1; break;
	case 9: arg.timeout = 1; break;
	case 10: argp = NULL; want = EFAULT; break;
	case 11:	/* to secret where that is not known, or to more than that */
		arg.attributes = GMEMFD_ATTRIBUTE_SECRET;
		if (one_in(&t->rng, 2))
			request = GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2;
		else if (f->flags & GMEMFD_CREATE_SECRET || one_in(&t->rng, 2))
			arg.attributes |= GMEMFD_ATTRIBUTE_PRIVATE;
		break;
	}
	TRACE(t, "file %ld: bad conversion %ld, attributes %#lx", f - t->files, kind,
	      arg.attributes);
	err = ioctl(f->fd, request, argp) ? errno : 0;
	AGREE(t, err == want && arg.error_offset == 1, "bad conversion %u: errno %d, not %d",
	      kind, err, want);
}

static void bad_ranges(struct thread *t, struct file *f)
{
	struct gmemfd_convert_range ranges[MAX_RANGES + 1], *range;
	unsigned int kind = below(&t->rng, 12), nr = pick_ranges(t, f, ranges);
	struct gmemfd_convert_ranges arg = {
		.ranges = (uintptr_t)ranges, .nr_ranges = nr, .error_offset = 1,
	};
	int want = EINVAL, err;

	range = &ranges[below(&t->rng, nr)];
	switch (kind) {
	case 0: arg.nr_ranges = 0; break;
	case 1: arg.nr_ranges = GMEMFD_CONVERT_RANGES_MAX + 1; break;
	case 2: arg.reserved0 = 1; break;
	case 3: arg.reserved[below(&t->rng, 3)] = 1; break;
	case 4: arg.flags = 4; break;
	case 5: arg.ranges = 0; want = EFAULT; break;
	case 6: range->size = 0; break;
	case 7: range->offset++; break;
	case 8:
		range->attributes |= GMEMFD_ATTRIBUTE_SECRET;
		if (f->flags & GMEMFD_CREATE_SECRET)
			range->attributes |= one_in(&t->rng, 2) ? GMEMFD_ATTRIBUTE_PRIVATE : 32;
		break;
	case 9: range->size = f->size - range->offset + PAGE; break;
	case 10: arg.timeout = 5; break;
	case 11:	/* a page of it once more */
		ranges[nr] = (struct gmemfd_convert_range) {
			range->offset + range->size - PAGE, PAGE, range->attributes
		};
		arg.nr_ranges++;
		break;
	}
	TRACE(t, "file %ld: %ld bad ranges %ld", f - t->files, arg.nr_ranges, kind);
	shuffle(t, ranges, kind == 1 ? nr : arg.nr_ranges);
	err = ioctl(f->fd, GMEMFD_CONVERT_RANGES, &arg) ? errno : 0;
	AGREE(t, err == want && arg.error_offset == 1, "bad ranges %u: errno %d, not %d",
	      kind, err, want);
}

static void bad_calls(struct thread *t, struct file *f)
{
	struct gmemfd_range range;
	struct gmemfd_get_ranges get = {
		.end = f->size, .ranges = (uintptr_t)&range, .nr_ranges = 1,
	};
	unsigned int kind = below(&t->rng, 21);
	uint64_t at = below(&t->rng, f->nr_pages) * PAGE;
	long ret = 0, want = EINVAL, size = PAGE;
	char c = 0;

	TRACE(t, "file %ld: bad call %ld", f - t->files, kind);
	errno = 0;
	switch (kind) {
	case 0: ret = gmem_punch(f->fd, at + 1, PAGE); break;
	case 1: ret = gmem_punch(f->fd, at, PAGE + 512); break;
	case 2: ret = gmem_punch(f->fd, at, 0); break;
	case 3: ret = gmem_allocate(f->fd, at, f->size - at + PAGE); break;
	case 4: ret = gmem_allocate(f->fd, at + 8, PAGE); break;
	case 5: ret = fallocate(f->fd, 0, at, PAGE); want = EOPNOTSUPP; break;
	case 6: ret = fallocate(f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, at, PAGE);
		want = EOPNOTSUPP; break;
	case 7: ret = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, f->fd, at) == MAP_FAILED ? -1 : 0;
		break;
	case 8: ret = read(f->fd, &c, 1); break;
	case 9: ret = write(f->fd, &c, 1); break;
	case 10: ret = pread(f->fd, &c, 1, at); want = f->of_mount ? EINVAL : ESPIPE; break;
	case 11: ret = lseek(f->fd, -1, SEEK_SET); break;
	case 12: ret = ftruncate(f->fd, at); want = f->of_mount ? EPERM : EINVAL; break;
	case 13: ret = ioctl(f->fd, GMEMFD_CREATE, &get); want = ENOTTY; break;
	case 14: get.offset = f->size; ret = ioctl(f->fd, GMEMFD_GET_RANGES, &get); break;
	case 15: get.end += PAGE; ret = ioctl(f->fd, GMEMFD_GET_RANGES, &get); break;
	case 16: get.nr_ranges = 0; ret = ioctl(f->fd, GMEMFD_GET_RANGES, &get); break;
	case 17: get.flags = 1; ret = ioctl(f->fd, GMEMFD_GET_RANGES, &get); break;
	case 18: get.ranges = 0; want = EFAULT; ret = ioctl(f->fd, GMEMFD_GET_RANGES, &get); break;
	case 19: size = gmem_create(one_in(&t->rng, 2) ? 3 * MB : 0, 2 * MB, 0);
		ret = size < 0 ? -1 : 0; break;
	case 20: size = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_SECRET |
				    GMEMFD_CREATE_KEEP_DIRECT_MAP);
		ret = size < 0 ? -1 : 0; break;
	}
	AGREE(t, ret == -1 && errno == want, "bad call %u: %ld, errno %d, not %ld", kind, ret,
	      errno, want);
}

static void op_bad(struct thread *t)
{
	struct file *f = pick_file(t);

	if (!f)
		return;
	switch (below(&t->rng, 8)) {
	case 0:
		beyond_the_end(t, f);
		return;
	case 1:
	case 2:
		bad_convert(t, f);
		return;
	case 3:
	case 4:
		bad_ranges(t, f);
		return;
	default:
		bad_calls(t, f);
	}
}

/* All together */

static void op_create(struct thread *t)
{
	create(t);
}

static const struct {
	void (*fn)(struct thread *t);
	unsigned int weight;	/* in 2000 */
} ops[] = {
	{ op_access,			746 },
	{ op_convert,			260 },
	{ op_convert_ranges,		 70 },
	{ op_convert_wait,		  6 },
	{ op_unpin_while_waiting,	  4 },
	{ op_punch,			 80 },
	{ op_punch_in_pieces,		 24 },
	{ op_madvise_remove,		 12 },
	{ op_allocate,			  8 },
	{ op_pin,			 50 },
	{ op_unpin,			 60 },
	{ op_look_at_held,		 60 },
	{ op_map,			 12 },
	{ op_change_mapping,		 50 },
	{ op_frame,			 30 },
	{ op_ranges,			224 },
	{ op_totals,			 16 },
	{ op_check_all,			  1 },
	{ op_bad,			 50 },
	{ op_create,			  5 },
	{ op_close,			  7 },
	{ op_name,			 16 },
	{ op_fork,			  2 },
	{ op_child,			 80 },
	{ op_vm,			  1 },
	{ op_slot,			 24 },
	{ op_guest,			 70 },
	{ op_path,			 12 },
	{ op_watch,			 12 },
	{ op_stop_child,		  6 },
	{ op_convert_beside,		  2 },
};

void own_op(struct thread *t)
{
	unsigned int n;

	if (!pick_file(t))
		create(t);
	n = below(&t->rng, 2000);
	for (unsigned int i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (n < ops[i].weight) {
			ops[i].fn(t);
			return;
		}
		n -= ops[i].weight;
	}
}

/* The end of a round: everything is shared once more, checked, and goes. */
void own_finish(struct thread *t)
{
	uint64_t at = 1;

	child_end(t);
	for (int i = 0; i < MAX_PINS; i++)
		drop(t, &t->pins[i], true);
	for (struct file *f = t->files; f < t->files + MAX_FILES; f++) {
		struct gmemfd_convert_range range = { 0, f->size, 0 };

		if (!f->used || f->gone || f->fd < 0)
			continue;
		TRACE(t, "file %ld: the end", f - t->files);
		if (one_in(&t->rng, 2)) {
			AGREE(t, !gmem_convert_at(f->fd, 0, f->size, false, &at),
			      "convert: errno %d", errno);
			model_convert(f, &range, 1);
		}
	}
	op_check_all(t);
	op_check_all(t);
	if (one_in(&t->rng, 2))
		vm_end(t);
	if (one_in(&t->rng, 3))
		names_end(t);
	for (struct file *f = t->files; f < t->files + MAX_FILES; f++) {
		if (f->used && !f->gone && f->name && one_in(&t->rng, 2))
			remove_name(t, f);
		while (f->used && !f->gone && f->fd >= 0) {
			file_going(t, f);
			close(f->fd);
			f->fd = f->fd2;
			f->fd2 = -1;
			file_put(t, f);
		}
		while (f->used && !f->gone && f->nr_maps)
			unmap(t, f, &f->maps[0]);
		if (f->used && !f->gone && f->name)
			remove_name(t, f);
		AGREE(t, !f->used, "a file is left");
	}
	vm_end(t);
	/* The others are left to exit, which closes in the order of opening. */
	if (one_in(&t->rng, 2))
		names_end(t);
}

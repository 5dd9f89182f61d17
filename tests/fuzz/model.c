// SPDX-License-Identifier: GPL-2.0
/* What a gmem file should be, after gmemfd/uapi/gmemfd.h and the design. */
#include <sys/stat.h>

#include "fuzz.h"

struct block *block_of(struct file *f, unsigned int page)
{
	return &f->blocks[page / f->block_pages];
}

/* All that there are, apart from the node. */
uint64_t pick_flags(struct rng *rng)
{
	uint64_t flags = below(rng, 8);

	if (max_secret_entry && one_in(rng, 2))
		flags = (flags & ~GMEMFD_CREATE_KEEP_DIRECT_MAP) | GMEMFD_CREATE_SECRET;
	return flags | (one_in(rng, 2) ? GMEMFD_CREATE_BIND_MAPPED : 0);
}

/* Some kernels cannot map a large folio beside secret pages. */
bool small_shared(uint64_t flags)
{
	return flags & GMEMFD_CREATE_SMALL_SHARED ||
	       (flags & GMEMFD_CREATE_SECRET && max_secret_entry == PAGE);
}

/* Is this what answers to who wants a reference that cannot be had? */
bool is_refusal(int err)
{
	return err == EFAULT || (err == EEXIST && max_secret_entry == PAGE);
}

/* Attributes that pages of a file can have */

uint64_t any_attributes(struct rng *rng, uint64_t flags)
{
	return one_in(rng, 2 + !!(flags & GMEMFD_CREATE_SECRET)) ? 0 : not_shared(rng, flags);
}

uint64_t not_shared(struct rng *rng, uint64_t flags)
{
	return flags & GMEMFD_CREATE_SECRET && one_in(rng, 2) ? GMEMFD_ATTRIBUTE_SECRET :
								GMEMFD_ATTRIBUTE_PRIVATE;
}

uint64_t attributes_of(const struct file *f, unsigned int page)
{
	if (f->secret[page])
		return GMEMFD_ATTRIBUTE_SECRET;
	return f->private[page] ? GMEMFD_ATTRIBUTE_PRIVATE : 0;
}

/* Others than the page has. */
uint64_t other_attributes(struct thread *t, const struct file *f, unsigned int page)
{
	uint64_t attributes;

	do {
		attributes = any_attributes(&t->rng, f->flags);
	} while (attributes == attributes_of(f, page));
	return attributes;
}

/* Can user space not access it? */
bool out_of_reach(const struct file *f, unsigned int page)
{
	return f->private[page] && !f->secret[page];
}

/* Waits if there is a timeout. */
int convert_range(int fd, const struct gmemfd_convert_range *range, uint64_t *timeout,
		  uint64_t *at)
{
	struct gmemfd_convert arg = {
		.offset = range->offset, .size = range->size,
		.attributes = range->attributes, .error_offset = *at,
		.flags = timeout ? GMEMFD_CONVERT_WAIT : 0, .timeout = timeout ? *timeout : 0,
	};
	int ret = ioctl(fd, GMEMFD_CONVERT, &arg);

	if (timeout)
		*timeout = arg.timeout;
	*at = arg.error_offset;
	return ret;
}

/* Should a region's folios be as large as the region? */
static bool region_large(const struct file *f, unsigned int r)
{
	if (f->region_private[r] == REGION_PAGES)
		return true;
	return !f->region_private[r] && !small_shared(f->flags);
}

struct file *model_create(struct thread *t, int fd, size_t size, size_t block_size,
			  uint64_t flags)
{
	bool private = !(flags & GMEMFD_CREATE_INIT_SHARED);
	bool secret = private && flags & GMEMFD_CREATE_SECRET;
	unsigned int nr = size / PAGE, regions = nr / REGION_PAGES;
	struct file *f = t->files;
	char *store;

	while (f->used)
		f++;
	*f = (struct file) {
		.id = ++t->nr_files, .used = true, .fd = fd, .fd2 = -1, .flags = flags,
		.size = size, .block_size = block_size,
		.nr_pages = nr, .nr_blocks = size / block_size,
		.block_pages = block_size / PAGE,
	};
	/* Shared memory: fork need not write-protect it, and it starts out zero. */
	f->store_size = nr * 12UL + regions * 8UL + f->nr_blocks * sizeof(struct block);
	store = mmap(NULL, f->store_size, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(store != MAP_FAILED);
	f->store = store;
	f->tag = (void *)store;
	store += nr * 8UL;
	f->blocks = (void *)store;
	store += f->nr_blocks * sizeof(struct block);
	f->region_private = (void *)store;
	store += regions * 2UL;
	f->region_secret = (void *)store;
	store += regions * 2UL;
	f->region_pins = (void *)store;
	store += regions * 2UL;
	f->ready = (void *)store;
	f->split = f->ready + regions;
	f->private = f->split + regions;
	f->secret = f->private + nr;
	f->punched = f->secret + nr;
	f->pins = f->punched + nr;

	memset(f->private, private, nr);
	memset(f->secret, secret, nr);
	for (unsigned int r = 0; r < regions; r++) {
		f->region_private[r] = private ? REGION_PAGES : 0;
		f->region_secret[r] = secret ? REGION_PAGES : 0;
	}
	for (unsigned int b = 0; b < f->nr_blocks; b++)
		f->blocks[b].private = private ? f->block_pages : 0;
	return f;
}

/* Of pages in one block. */
static void set_punched(struct file *f, unsigned int first, unsigned int last,
			enum punched how)
{
	unsigned int *n = block_of(f, first)->punched;

	if (how == KEPT && n[KEPT] == f->block_pages)
		return;
	for (unsigned int p = first; p < last; p++)
		n[f->punched[p]]--;
	n[how] += last - first;
	memset(f->punched + first, how, last - first);
}

/* Pages of one region get or lose a mark; returns how many more of them have it now. */
static int set_marks(uint8_t *marks, uint16_t *of_region, unsigned int first,
		     unsigned int last, bool mark)
{
	unsigned int r = first / REGION_PAGES, nr = last - first, old = 0;
	int more;

	if (nr == REGION_PAGES)
		old = of_region[r];
	else
		for (unsigned int p = first; p < last; p++)
			old += marks[p];
	more = (mark ? nr : 0) - old;
	memset(marks + first, mark, nr);
	of_region[r] += more;
	return more;
}

static void set_attributes(struct file *f, unsigned int first, unsigned int last,
			   uint64_t attributes)
{
	unsigned int next;

	for (; first < last; first = next) {
		next = (first / REGION_PAGES + 1) * REGION_PAGES;
		if (next > last)
			next = last;
		block_of(f, first)->private +=
			set_marks(f->private, f->region_private, first, next, attributes);
		set_marks(f->secret, f->region_secret, first, next,
			  attributes == GMEMFD_ATTRIBUTE_SECRET);
	}
}

/* Memory for a hole: false if what was punched is still held by somebody. */
static bool take(struct file *f, unsigned int page)
{
	struct block *block = block_of(f, page);
	unsigned int first = page / f->block_pages * f->block_pages;

	if (block->allocated)
		return true;
	if (f->allocated + f->away >= f->nr_blocks)
		return false;
	*block = (struct block) {
		.allocated = true,
		.private = block->private,
		.broken = block->private != f->block_pages,
		.punched[KEPT] = f->block_pages,
	};
	f->allocated++;
	for (unsigned int p = first; p < first + f->block_pages; p += REGION_PAGES) {
		unsigned int r = p / REGION_PAGES;

		f->ready[r] = false;
		f->split[r] = block->broken && !region_large(f, r);
	}
	return true;
}

static void perhaps_touched(struct file *f, unsigned int first, unsigned int last)
{
	if (!block_of(f, first)->punched[PUNCHED])
		return;
	for (unsigned int p = first; p < last; p++)
		if (f->punched[p] == PUNCHED)
			set_punched(f, p, p + 1, PERHAPS);
}

/*
 * User space, or the kernel on its behalf, touches a page: false if it cannot.
 * Where the region could be one folio a fault is for all of it; but whether
 * there is a fault depends on what is mapped still.  Secret pages have no folio
 * that matters, and are as a guest's.
 */
bool model_touch(struct file *f, unsigned int page)
{
	unsigned int r = page / REGION_PAGES, lo = page, hi = page + 1;

	if (f->secret[page])
		return model_touch_guest(f, page);
	if (f->private[page])
		return false;
	if (region_large(f, r)) {
		lo = r * REGION_PAGES;
		hi = lo + REGION_PAGES;
	}
	if (!take(f, page))
		return false;
	if (!f->ready[r] || f->punched[page] == PUNCHED) {
		f->ready[r] = true;
		set_punched(f, lo, hi, KEPT);
		return true;
	}
	perhaps_touched(f, lo, hi);
	set_punched(f, page, page + 1, KEPT);
	return true;
}

/*
 * A guest does.  What is mapped for it was touched, so that it faults for what
 * was not: for a region where nothing was touched, for a page elsewhere.
 */
bool model_touch_guest(struct file *f, unsigned int page)
{
	unsigned int r = page / REGION_PAGES, n[3] = { }, lo = r * REGION_PAGES;

	if (!take(f, page))
		return false;
	if (!f->ready[r]) {
		f->ready[r] = true;
		set_punched(f, lo, lo + REGION_PAGES, KEPT);
		return true;
	}
	if (f->punched[page] == KEPT)
		return true;
	for (unsigned int p = lo; p < lo + REGION_PAGES; p++)
		n[f->punched[p]]++;
	if (n[PUNCHED] == REGION_PAGES)
		set_punched(f, lo, lo + REGION_PAGES, KEPT);
	else if (!n[KEPT])
		perhaps_touched(f, lo, lo + REGION_PAGES);
	set_punched(f, page, page + 1, KEPT);
	return true;
}

/* Somebody wants a reference to a page, and touches it even if he does not get one. */
bool model_reference(struct file *f, unsigned int page)
{
	return model_touch(f, page) && !f->private[page];
}

/* fallocate() of a range; false where memory is missing. */
bool model_allocate(struct file *f, unsigned int first, unsigned int last)
{
	for (unsigned int next; first < last; first = next) {
		unsigned int end = (first / f->block_pages + 1) * f->block_pages;

		next = end < last ? end : last;
		if (!take(f, first))
			return false;
		for (unsigned int p = first; p < next; p += REGION_PAGES)
			f->ready[p / REGION_PAGES] = true;
		f->ready[(next - 1) / REGION_PAGES] = true;
		set_punched(f, first, next, KEPT);
	}
	return true;
}

/* The frame of a private page must not hold what the page held. */
static void check_scrubbed(struct thread *t, struct file *f, unsigned int page)
{
	uint64_t frame = block_of(f, page)->frame + page % f->block_pages;

	if (read_kcore(frame * PAGE, t->buf, PAGE) == (long)PAGE)
		AGREE(t, !page_is(t->buf, f->tag[page]),
		      "private page %u was not scrubbed", page);
}

/* The block's memory leaves the file, and goes home if nobody holds it. */
static void release(struct thread *t, struct file *f, unsigned int b)
{
	unsigned int first = b * f->block_pages, last = first + f->block_pages;
	struct block *block = &f->blocks[b];
	struct away *away = t->aways;

	if (block->frame && block->private && one_in(&t->rng, 4)) {
		unsigned int p = first + below(&t->rng, f->block_pages);

		for (int i = 0; i < 16 && !(f->private[p] && f->tag[p]); i++)
			p = first + below(&t->rng, f->block_pages);
		if (f->private[p] && f->tag[p])
			check_scrubbed(t, f, p);
	}

	if (f->pinned) {
		while (away->file)
			away++;
		away->left = 0;
		for (int i = 0; i < MAX_PINS; i++) {
			struct holder *h = &t->pins[i];

			for (unsigned int j = 0; h->kind != UNUSED && j < h->nr; j++) {
				struct held *held = &h->held[j];

				if (held->file != f || held->page < first ||
				    held->page >= last)
					continue;
				held->tag = f->tag[held->page];
				f->pinned--;
				held->file = NULL;
				held->away = away;
				away->left++;
			}
		}
		if (away->left) {
			away->file = f;
			f->away++;
		}
	}
	for (unsigned int p = first; p < last; p += REGION_PAGES) {
		unsigned int r = p / REGION_PAGES;

		if (f->ready[r])
			memset(f->tag + p, 0, REGION_PAGES * 8);
		f->ready[r] = f->split[r] = f->region_pins[r] = 0;
	}
	memset(f->punched + first, KEPT, f->block_pages);
	memset(f->pins + first, 0, f->block_pages);
	*block = (struct block) { .private = block->private };
	f->allocated--;
}

struct gmemfd_range range_at(struct thread *t, struct file *f, unsigned int first,
			     unsigned int last)
{
	struct gmemfd_range range;
	struct gmemfd_get_ranges get = {
		.offset = first * PAGE, .end = last * PAGE,
		.ranges = (uintptr_t)&range, .nr_ranges = 1,
	};

	AGREE(t, !ioctl(f->fd, GMEMFD_GET_RANGES, &get) && get.nr_ranges == 1,
	      "ranges from page %u: errno %d", first, errno);
	return range;
}

/* fallocate() has punched a range. */
void model_punch(struct thread *t, struct file *f, unsigned int first,
		 unsigned int last)
{
	for (unsigned int next; first < last; first = next) {
		unsigned int b = first / f->block_pages, end = (b + 1) * f->block_pages;
		struct block *block = &f->blocks[b];

		next = end < last ? end : last;
		if (!block->allocated)
			continue;
		if (next - first < f->block_pages) {
			memset(f->tag + first, 0, (next - first) * 8UL);
			set_punched(f, first, next, PUNCHED);
			if (block->punched[KEPT])
				continue;
			if (block->punched[PERHAPS] &&
			    range_at(t, f, first, first + 1).flags & GMEMFD_RANGE_ALLOCATED)
				continue;
		}
		release(t, f, b);
	}
}

/* The page that keeps ranges in ascending order from being converted, or -1. */
long model_busy(struct file *f, const struct gmemfd_convert_range *ranges,
		unsigned int nr)
{
	if (!f->pinned)
		return -1;
	for (unsigned int i = 0; i < nr; i++) {
		unsigned int p = ranges[i].offset / PAGE;
		unsigned int last = p + ranges[i].size / PAGE;

		if (!ranges[i].attributes)
			continue;
		while (p < last) {
			unsigned int r = p / REGION_PAGES;

			if (!block_of(f, p)->allocated || !f->region_pins[r]) {
				p = (r + 1) * REGION_PAGES;
				continue;
			}
			if (!f->private[p] && (!f->split[r] || f->pins[p]))
				return p;
			p++;
		}
	}
	return -1;
}

/* What becomes shared is broken into folios first, even if the rest fails. */
void model_break(struct file *f, const struct gmemfd_convert_range *ranges,
		 unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		unsigned int first = ranges[i].offset / PAGE;
		unsigned int last = first + ranges[i].size / PAGE;

		for (unsigned int b = first / f->block_pages;
		     !ranges[i].attributes && b * f->block_pages < last; b++)
			if (f->blocks[b].allocated)
				f->blocks[b].broken = true;
	}
}

static void shape(struct file *f, unsigned int r)
{
	if (!region_large(f, r))
		f->split[r] = true;
	else if (f->region_private[r] || !f->region_pins[r])
		f->split[r] = false;
}

void model_convert(struct file *f, const struct gmemfd_convert_range *ranges,
		   unsigned int nr)
{
	model_break(f, ranges, nr);
	for (unsigned int i = 0; i < nr; i++) {
		unsigned int first = ranges[i].offset / PAGE;

		set_attributes(f, first, first + ranges[i].size / PAGE, ranges[i].attributes);
	}
	for (unsigned int i = 0; i < nr; i++) {
		unsigned int r = ranges[i].offset / PAGE / REGION_PAGES;

		for (; r * REGION_PAGES * PAGE < ranges[i].offset + ranges[i].size; r++)
			if (block_of(f, r * REGION_PAGES)->broken)
				shape(f, r);
	}
}

void model_pin(struct file *f, struct held *held, unsigned int page)
{
	*held = (struct held) { .file = f, .page = page };
	f->pins[page]++;
	f->region_pins[page / REGION_PAGES]++;
	f->pinned++;
}

static void forget(struct file *f)
{
	if (f->gone && !f->away)
		f->used = false;
}

void model_unpin(struct thread *t, struct held *held)
{
	struct away *away = held->away;
	struct file *f = held->file;

	(void)t;
	if (f) {
		f->pins[held->page]--;
		f->region_pins[held->page / REGION_PAGES]--;
		f->pinned--;
	} else if (!--away->left) {
		away->file->away--;
		forget(away->file);
		away->file = NULL;
	}
}

uint64_t held_tag(const struct held *held)
{
	return held->file ? held->file->tag[held->page] : held->tag;
}

/* The last of its users is gone. */
void model_release_file(struct thread *t, struct file *f)
{
	for (unsigned int b = 0; b < f->nr_blocks; b++)
		if (f->blocks[b].allocated)
			release(t, f, b);
	munmap(f->store, f->store_size);
	f->gone = true;
	forget(f);
}

void model_count(struct thread *t)
{
	struct progress *p = t->progress;

	memset(p->used, 0, sizeof(p->used));
	memset(p->reserved, 0, sizeof(p->reserved));
	for (struct file *f = t->files; f < t->files + MAX_FILES; f++) {
		int which = f->block_size == GB;

		if (!f->used)
			continue;
		p->used[which] += f->allocated + f->away;
		p->reserved[which] += f->nr_blocks - f->allocated - f->away;
	}
}

static void describe(const struct file *f, unsigned int page,
		     struct gmemfd_range *range)
{
	const struct block *block = &f->blocks[page / f->block_pages];
	unsigned int r = page / REGION_PAGES;

	range->flags = f->secret[page] ? GMEMFD_RANGE_SECRET :
		       f->private[page] ? GMEMFD_RANGE_PRIVATE : 0;
	range->folio_order = 0;
	if (!block->allocated)
		return;
	range->flags |= GMEMFD_RANGE_ALLOCATED;
	if (f->ready[r])
		range->flags |= GMEMFD_RANGE_ZEROED;
	if (!block->broken)
		range->folio_order = f->block_size == GB ? 18 : 9;
	else if (!f->split[r])
		range->folio_order = 9;
}

/* Are a region's pages all private or all shared, and if private, all or none secret? */
static bool region_uniform(const struct file *f, unsigned int r)
{
	return (!f->region_private[r] || f->region_private[r] == REGION_PAGES) &&
	       (!f->region_secret[r] || f->region_secret[r] == REGION_PAGES);
}

static unsigned int next_range(const struct file *f, unsigned int first,
			       unsigned int last, struct gmemfd_range *range)
{
	unsigned int p = first;

	describe(f, first, range);
	while (p < last) {
		unsigned int r = p / REGION_PAGES;
		unsigned int end = (r + 1) * REGION_PAGES;
		struct gmemfd_range more;

		describe(f, p, &more);
		if (more.flags != range->flags || more.folio_order != range->folio_order)
			break;
		if (end > last)
			end = last;
		if (!region_uniform(f, r)) {
			uint64_t attributes = attributes_of(f, p);

			while (++p < end && attributes_of(f, p) == attributes)
				;
		} else {
			p = end;
		}
	}
	range->offset = first * PAGE;
	range->size = (p - first) * PAGE;
	return p;
}

void check_ranges(struct thread *t, struct file *f, unsigned int first,
		  unsigned int last, unsigned int room)
{
	struct gmemfd_range got[64], want;
	struct gmemfd_get_ranges get = {
		.offset = first * PAGE, .end = last * PAGE,
		.ranges = (uintptr_t)got,
	};

	while (get.offset < last * PAGE) {
		get.nr_ranges = room;
		AGREE(t, !ioctl(f->fd, GMEMFD_GET_RANGES, &get), "ranges: errno %d", errno);
		AGREE(t, get.nr_ranges && get.nr_ranges <= room,
		      "%u ranges in room for %u", get.nr_ranges, room);
		for (unsigned int i = 0; i < get.nr_ranges; i++) {
			first = next_range(f, first, last, &want);
			AGREE(t, !memcmp(&got[i], &want, sizeof(want)),
			      "range of pages %llu+%llu flags %#x order %u, not %llu+%llu flags %#x order %u",
			      got[i].offset / PAGE, got[i].size / PAGE, got[i].flags,
			      got[i].folio_order, want.offset / PAGE, want.size / PAGE,
			      want.flags, want.folio_order);
		}
		AGREE(t, get.offset == first * PAGE && (first == last || get.nr_ranges == room),
		      "ranges go on at page %llu, not %u", get.offset / PAGE, first);
	}
}

/* A conversion that nobody knows the end of has happened to all of it or to none. */
void check_one_or_other(struct thread *t, struct file *f,
			const struct gmemfd_convert_range *range)
{
	unsigned int p = range->offset / PAGE, last = p + range->size / PAGE;
	int converted = -1;

	while (p < last) {
		struct gmemfd_range got = range_at(t, f, p, last);
		uint64_t now = got.flags & GMEMFD_RANGE_SECRET ? GMEMFD_ATTRIBUTE_SECRET :
			       got.flags & GMEMFD_RANGE_PRIVATE ? GMEMFD_ATTRIBUTE_PRIVATE : 0;
		bool done = now == range->attributes;

		for (unsigned int end = p + got.size / PAGE; p < end; p++) {
			AGREE(t, done || now == attributes_of(f, p),
			      "page %u has attributes %#lx, neither %#lx nor %#lx", p, now,
			      attributes_of(f, p), (uint64_t)range->attributes);
			if (attributes_of(f, p) == range->attributes)
				continue;
			AGREE(t, converted < 0 || converted == done,
			      "page %u has been converted %d, pages before it %d", p, done,
			      converted);
			converted = done;
		}
	}
}

static unsigned long long fdinfo_number(const char *text, const char *key, int base)
{
	const char *p = strstr(text, key);

	return p ? strtoull(p + strlen(key), NULL, base) : ~0ULL;
}

void check_allocated(struct thread *t, struct file *f)
{
	struct stat st;

	AGREE(t, !fstat(f->fd, &st), "fstat: errno %d", errno);
	AGREE(t, st.st_size == (off_t)f->size && st.st_blksize == (blksize_t)f->block_size &&
	      st.st_blocks == (blkcnt_t)(f->allocated * f->block_size / 512),
	      "fstat: size %ld, %ld blocks, not %lu and %lu", st.st_size, st.st_blocks,
	      f->size, f->allocated * f->block_size / 512);
}

/* fstat() and fdinfo. */
void check_totals(struct thread *t, struct file *f)
{
	unsigned long private = 0, secret = 0, split = 0;
	char path[64], text[1024];
	int fd, n;

	for (unsigned int b = 0; b < f->nr_blocks; b++)
		private += f->blocks[b].private;
	for (unsigned int r = 0; r < f->nr_pages / REGION_PAGES; r++) {
		secret += f->region_secret[r];
		split += f->split[r];
	}
	check_allocated(t, f);
	snprintf(path, sizeof(path), "/proc/thread-self/fdinfo/%d", f->fd);
	fd = open(path, O_RDONLY);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	AGREE(t, n > 0, "fdinfo: errno %d", errno);
	text[n] = '\0';
	AGREE(t, fdinfo_number(text, "gmem_size:", 10) == f->size &&
	      fdinfo_number(text, "gmem_block_size:", 10) == f->block_size &&
	      fdinfo_number(text, "gmem_flags:", 16) == f->flags &&
	      fdinfo_number(text, "gmem_allocated:", 10) == f->allocated * f->block_size &&
	      fdinfo_number(text, "gmem_private:", 10) == (private - secret) * PAGE &&
	      fdinfo_number(text, "gmem_secret:", 10) == secret * PAGE &&
	      fdinfo_number(text, "gmem_shared:", 10) == f->size - private * PAGE &&
	      fdinfo_number(text, "gmem_split:", 10) == split * 2 * MB,
	      "fdinfo, not allocated %lu private %lu secret %lu split %lu:\n%s",
	      f->allocated * f->block_size, (private - secret) * PAGE, secret * PAGE,
	      split * 2 * MB, text);
}

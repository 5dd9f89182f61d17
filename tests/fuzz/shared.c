// SPDX-License-Identifier: GPL-2.0
/*
 * A file that all threads use at once.  Pages belong to threads in stripes, so
 * that the state and the contents of a thread's own pages are known exactly,
 * while folios, regions and blocks are everybody's.
 *
 * EAGAIN is right when this thread holds the page that it names, or when that
 * page may have been in a large folio of which another thread held a page at
 * some time during the call.  What the others do in passing (a fault, a lookup
 * of pages, an unmap) holds a page for a moment: a refusal while they were at
 * it in that region is tried again, and is wrong if it happens over and over.
 * Where nobody else can hold a page for long, waiting for it succeeds.
 */
#define _GNU_SOURCE
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "fuzz.h"

#define STRIPE		8U		/* pages */
#define STRIPES		4U		/* converted at once, at most */
#define PASSING		20		/* refusals in a row */
#define REGIONS		8U

static struct {
	int fd, nr_threads;
	uint64_t flags;
	size_t size, block_size;
	unsigned int nr_pages, nr_used;		/* regions in use, from the start */
	uint64_t attributes;			/* of most pages */
	char *map;
	/* By region: holders there are, and changes of that */
	unsigned int holders[REGIONS], changes[REGIONS];
	/* By region: operations that hold references in passing, and have begun to */
	unsigned int passing[REGIONS], passed[REGIONS];
} shared;

/* To be closed after the file at exit, which goes by number. */
static int behind(int fd)
{
	int to = fcntl(fd, F_DUPFD_CLOEXEC, shared.fd + 1);

	EXPECT(to > shared.fd);
	close(fd);
	return to;
}

/* Perhaps what keeps the last file of all from being forgotten. */
static void keep_names(struct rng *rng)
{
	char link[64];
	int inotify;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", shared.fd);
	inotify = behind(inotify_init());
	EXPECT(inotify_add_watch(inotify, link, IN_ALL_EVENTS) > 0);
	if (one_in(rng, 2))
		behind(open(link, O_PATH));
}

static uint64_t initial_attributes(void)
{
	if (shared.flags & GMEMFD_CREATE_INIT_SHARED)
		return 0;
	return shared.flags & GMEMFD_CREATE_SECRET ? GMEMFD_ATTRIBUTE_SECRET :
						     GMEMFD_ATTRIBUTE_PRIVATE;
}

void shared_create(uint64_t seed, int nr_threads, bool may_have_1g)
{
	struct rng rng = { .state = mix(seed ^ 0x5a5a) };

	memset(&shared, 0, sizeof(shared));
	shared.nr_threads = nr_threads;
	shared.flags = pick_flags(&rng);
	if (may_have_1g) {
		shared.size = shared.block_size = GB;
		shared.nr_used = 3;
	} else {
		shared.nr_used = 1 + below(&rng, 4);
		shared.size = shared.nr_used * 2 * MB;
		shared.block_size = 2 * MB;
	}
	shared.nr_pages = shared.size / PAGE;
	shared.fd = one_in(&rng, 3) ? create_unlinked(&rng, shared.size, shared.block_size,
						     &shared.flags) : -1;
	if (shared.fd < 0)
		shared.fd = gmem_create(shared.size, shared.block_size, shared.flags);
	EXPECT(shared.fd >= 0);
	shared.attributes = initial_attributes();
	if (one_in(&rng, 3))
		shared.attributes = any_attributes(&rng, shared.flags);
	shared.map = gmem_map(shared.fd, 0, shared.size);
	EXPECT_EQ(madvise(shared.map, shared.size, MADV_DONTFORK), 0);
	if (!without("late") && one_in(&rng, 2))
		keep_names(&rng);
}

static void set_attributes(struct thread *t, unsigned int first, unsigned int nr,
			   uint64_t attributes)
{
	memset(t->shared_private + first, !!attributes, nr);
	memset(t->shared_secret + first, attributes == GMEMFD_ATTRIBUTE_SECRET, nr);
}

static uint64_t attributes_at(struct thread *t, unsigned int page)
{
	if (t->shared_secret[page])
		return GMEMFD_ATTRIBUTE_SECRET;
	return t->shared_private[page] ? GMEMFD_ATTRIBUTE_PRIVATE : 0;
}

static bool can_reach(struct thread *t, unsigned int page)
{
	return attributes_at(t, page) != GMEMFD_ATTRIBUTE_PRIVATE;
}

void shared_set_up(struct thread *t)
{
	unsigned int nr = shared.nr_used * REGION_PAGES;

	t->shared_tag = calloc(nr, 8);
	t->shared_private = malloc(nr);
	t->shared_secret = malloc(nr);
	set_attributes(t, 0, nr, initial_attributes());
	t->shared_pins = calloc(nr, 1);
	t->shared_touched = calloc(nr, 1);
}

/* A page of ours, and how many of its stripe follow it. */
static unsigned int own_page(struct thread *t, unsigned int *room)
{
	unsigned int stripes = shared.nr_used * REGION_PAGES / STRIPE;
	unsigned int s = below(&t->rng, stripes), i = below(&t->rng, STRIPE);

	s = s / shared.nr_threads * shared.nr_threads + t->id;
	if (s >= stripes)
		s = t->id;
	*room = STRIPE - i;
	return s * STRIPE + i;
}

static void begin_passing(unsigned int page)
{
	__atomic_add_fetch(&shared.passing[page / REGION_PAGES], 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&shared.passed[page / REGION_PAGES], 1, __ATOMIC_SEQ_CST);
}

static void end_passing(unsigned int page)
{
	__atomic_sub_fetch(&shared.passing[page / REGION_PAGES], 1, __ATOMIC_SEQ_CST);
}

static void region_holders(unsigned int page, int n)
{
	__atomic_add_fetch(&shared.holders[page / REGION_PAGES], n, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&shared.changes[page / REGION_PAGES], 1, __ATOMIC_SEQ_CST);
}

static void shared_access(struct thread *t)
{
	unsigned int room, page = own_page(t, &room), kind = below(&t->rng, 10);
	char *p = shared.map + page * PAGE;
	bool want = kind < 9 ? can_reach(t, page) : !t->shared_private[page], ok;
	struct iovec here = { t->buf, PAGE }, there = { p, PAGE };
	uint64_t tag = new_tag(t);

	TRACE(t, "shared: access page %ld, kind %ld: %ld", page, kind, want);
	begin_passing(page);
	if (kind < 5) {
		ok = load_page(p, t->buf);
	} else if (kind < 9) {
		ok = store_page(p, tag);
	} else {
		ok = process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (long)PAGE;
		AGREE(t, ok || errno == EFAULT, "shared: process_vm_readv: errno %d", errno);
	}
	end_passing(page);
	AGREE(t, ok == want, "shared: page %u reachable %d", page, ok);
	if (!ok)
		return;
	t->shared_touched[page] = true;
	if (kind < 5 || kind == 9)
		check_page(t, t->buf, t->shared_tag[page], "shared: read", page);
	else
		t->shared_tag[page] = tag;
}

/* Is a page of ours private, so that the region cannot be one folio? */
static bool region_mixed(struct thread *t, unsigned int r)
{
	unsigned int stripe = REGION_PAGES / STRIPE * r, end = REGION_PAGES / STRIPE * (r + 1);

	if (small_shared(shared.flags))
		return true;
	for (; stripe < end; stripe++)
		if (stripe % shared.nr_threads == (unsigned int)t->id &&
		    memchr(t->shared_private + stripe * STRIPE, 1, STRIPE))
			return true;
	return false;
}

struct seen {
	unsigned int holders, changes, passing, passed;
};

/*
 * Page @busy is said to be held: true if so.  Regions are looked at before the
 * call, @before, and now.
 */
static bool explained(struct thread *t, const struct gmemfd_convert_range *ranges,
		      unsigned int nr, unsigned int busy, const struct seen *before)
{
	unsigned int r = busy / REGION_PAGES;
	bool asked = false, first = true;

	for (unsigned int i = 0; i < nr; i++) {
		unsigned int p = ranges[i].offset / PAGE;
		unsigned int last = p + ranges[i].size / PAGE;

		for (; ranges[i].attributes && p < last; p++) {
			if (p == busy)
				asked = true;
			if (p >= busy || t->shared_private[p])
				continue;
			AGREE(t, !t->shared_pins[p],
			      "shared: page %u is said to be held, before it %u is", busy, p);
			if (p / REGION_PAGES == r)
				first = false;
		}
	}
	AGREE(t, asked && !t->shared_private[busy],
	      "shared: page %u is said to be held, and was not to be converted", busy);
	if (t->shared_pins[busy])
		return true;
	if (region_mixed(t, r))
		return false;
	/* In a large folio, the first page is named. */
	return first && (before[r].holders ||
			 before[r].changes != __atomic_load_n(&shared.changes[r],
							      __ATOMIC_SEQ_CST));
}

static void look_at_regions(struct seen *seen)
{
	for (unsigned int r = 0; r < shared.nr_used; r++) {
		/* In this order: a holder that comes in between is a change. */
		seen[r].changes = __atomic_load_n(&shared.changes[r], __ATOMIC_SEQ_CST);
		seen[r].holders = __atomic_load_n(&shared.holders[r], __ATOMIC_SEQ_CST);
		/* In this order, too. */
		seen[r].passed = __atomic_load_n(&shared.passed[r], __ATOMIC_SEQ_CST);
		seen[r].passing = __atomic_load_n(&shared.passing[r], __ATOMIC_SEQ_CST);
	}
}

/* May only references in passing be in the way? */
static bool nobody_stays(struct thread *t, const struct gmemfd_convert_range *ranges,
			 unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (ranges[i].attributes &&
		    !region_mixed(t, ranges[i].offset / PAGE / REGION_PAGES))
			return false;
	return true;
}

static int call_convert(struct gmemfd_convert_range *ranges, unsigned int nr, bool by_ranges,
			const uint64_t *timeout, uint64_t *at)
{
	struct gmemfd_convert_ranges arg = {
		.ranges = (uintptr_t)ranges, .nr_ranges = nr, .error_offset = *at,
		.flags = GMEMFD_CONVERT_WAIT, .timeout = timeout ? *timeout : 0,
	};
	int ret;

	if (!timeout)
		return by_ranges ? gmem_convert_ranges(shared.fd, ranges, nr, at) :
				   convert_range(shared.fd, ranges, NULL, at);
	ret = ioctl(shared.fd, GMEMFD_CONVERT_RANGES, &arg);
	*at = arg.error_offset;
	return ret;
}

static void convert(struct thread *t, struct gmemfd_convert_range *ranges, unsigned int nr,
		    bool by_ranges, bool wait)
{
	bool held = false, sure;
	uint64_t timeout;

	for (unsigned int i = 0; i < nr; i++)
		for (unsigned int p = ranges[i].offset / PAGE;
		     p < (ranges[i].offset + ranges[i].size) / PAGE; p++)
			held |= ranges[i].attributes && t->shared_pins[p];
	sure = !held && nobody_stays(t, ranges, nr);
	timeout = sure ? ~0ULL : below(&t->rng, 2000000);

	for (int try = 0;; try++) {
		struct seen before[REGIONS], *r;
		uint64_t at = 1;
		int ret;

		look_at_regions(before);
		ret = call_convert(ranges, nr, by_ranges, wait ? &timeout : NULL, &at);
		if (!ret) {
			AGREE(t, !held && at == 1, "shared: converted what is held");
			break;
		}
		AGREE(t, errno == (wait ? ETIMEDOUT : EAGAIN) && at % PAGE == 0 && !(wait && sure),
		      "shared: convert: errno %d, at %#lx", errno, at);
		if (explained(t, ranges, nr, at / PAGE, before))
			return;
		r = &before[at / PAGE / REGION_PAGES];
		r->passed = __atomic_load_n(&shared.passed[r - before], __ATOMIC_SEQ_CST) -
			    r->passed;
		AGREE(t, r->passing + r->passed && try < PASSING,
		      "shared: page %lu is said to be held, in a region of %u holders; %d times",
		      at / PAGE, r->holders, try);
		t->progress->passing++;
	}
	for (unsigned int i = 0; i < nr; i++)
		set_attributes(t, ranges[i].offset / PAGE, ranges[i].size / PAGE,
			       ranges[i].attributes);
}

/* Has a page of a stripe of ours other attributes than most? */
static bool stripe_differs(struct thread *t, unsigned int first)
{
	for (unsigned int p = first; p < first + STRIPE; p++)
		if (attributes_at(t, p) != shared.attributes)
			return true;
	return false;
}

/* Most pages go back to what the file is mostly, so that regions are joined. */
static void shared_convert(struct thread *t)
{
	struct gmemfd_convert_range ranges[STRIPES];
	unsigned int n = one_in(&t->rng, 3) ? 1 + below(&t->rng, STRIPES) : 1, nr = 0;
	bool back = below(&t->rng, 5), wait = one_in(&t->rng, 6), by_ranges;
	unsigned int stripes = shared.nr_used * REGION_PAGES / STRIPE, s;

	for (unsigned int i = 0; i < n; i++) {
		struct gmemfd_convert_range *range = &ranges[nr];
		unsigned int room, page = own_page(t, &room);
		uint64_t attributes = shared.attributes;

		if (back) {
			/* The next of our stripes with such pages */
			for (s = 0; s < stripes; s += shared.nr_threads) {
				page = (page / STRIPE + s) % stripes;
				if (page % shared.nr_threads != (unsigned int)t->id)
					page = t->id;
				page *= STRIPE;
				if (stripe_differs(t, page))
					break;
			}
			room = STRIPE;
		} else {
			while (attributes == shared.attributes && !one_in(&t->rng, 4))
				attributes = any_attributes(&t->rng, shared.flags);
			room = 1 + below(&t->rng, room);
		}
		*range = (struct gmemfd_convert_range) {
			page * PAGE, room * PAGE, attributes,
		};
		for (unsigned int j = 0; j < nr; j++)
			if (ranges[j].offset / PAGE / STRIPE == page / STRIPE)
				room = 0;
		nr += room > 0;
	}
	by_ranges = nr > 1 || one_in(&t->rng, 4);
	TRACE(t, "shared: convert %ld ranges, the first is pages %ld+%ld, attributes %#lx, waiting %ld",
	      nr, ranges[0].offset / PAGE, ranges[0].size / PAGE, ranges[0].attributes, wait);
	convert(t, ranges, nr, by_ranges, wait);
}

static void shared_punch(struct thread *t)
{
	unsigned int room, page = own_page(t, &room), nr = 1 + below(&t->rng, room);

	for (unsigned int i = 0; i < nr; i++)
		if (t->shared_pins[page + i])
			return;
	TRACE(t, "shared: punch pages %ld+%ld", page, nr);
	begin_passing(page);
	AGREE(t, !gmem_punch(shared.fd, page * PAGE, nr * PAGE), "shared: punch: errno %d",
	      errno);
	end_passing(page);
	memset(t->shared_tag + page, 0, nr * 8);
	memset(t->shared_touched + page, 0, nr);
}

static void shared_allocate(struct thread *t)
{
	unsigned int room, page = own_page(t, &room), nr = 1 + below(&t->rng, room);

	TRACE(t, "shared: allocate pages %ld+%ld", page, nr);
	AGREE(t, !gmem_allocate(shared.fd, page * PAGE, nr * PAGE),
	      "shared: allocate: errno %d", errno);
	memset(t->shared_touched + page, 1, nr);
}

static void shared_hold(struct thread *t)
{
	unsigned int room, page = own_page(t, &room), i = below(&t->rng, 4), n;
	struct holder *h = &t->shared_holds[i].holder;
	unsigned int ok = 0;

	if (h->kind == UNUSED) {
		n = 1 + below(&t->rng, room < 3 ? room : 3);
		while (ok < n && !t->shared_private[page + ok])
			ok++;
		/* Some are to be refused. */
		if (ok < n && !one_in(&t->rng, 4))
			return;
		TRACE(t, "shared: hold pages %ld+%ld, %ld of them go", page, n, ok);
		region_holders(page, 1);
		begin_passing(page);
		h->nr = pipe_hold(t, h, shared.map + page * PAGE, n);
		end_passing(page);
		AGREE(t, h->nr == ok, "shared: vmsplice takes %u pages, not %u", h->nr, ok);
		if (!ok) {
			region_holders(page, -1);
			return;
		}
		h->kind = PIPE;
		t->shared_holds[i].first = page;
		for (unsigned int p = page; p < page + ok; p++) {
			t->shared_pins[p]++;
			t->shared_touched[p] = true;
		}
		return;
	}
	page = t->shared_holds[i].first;
	TRACE(t, "shared: drop pages %ld+%ld", page, h->nr);
	if (one_in(&t->rng, 2))
		for (unsigned int p = page; p < page + h->nr; p++) {
			EXPECT_EQ(read(h->pipe[0], t->buf, PAGE), (long)PAGE);
			check_page(t, t->buf, t->shared_tag[p], "shared: held page", p);
		}
	close(h->pipe[0]);
	close(h->pipe[1]);
	for (unsigned int p = page; p < page + h->nr; p++)
		t->shared_pins[p]--;
	h->kind = UNUSED;
	region_holders(page, -1);
}

/* Pages of anybody's, time and again for a moment. */
static void shared_hold_shortly(struct thread *t)
{
	unsigned int page = below(&t->rng, shared.nr_used * REGION_PAGES);
	unsigned int room = REGION_PAGES - page % REGION_PAGES;
	struct touched pages = {
		.addr = shared.map + page * PAGE, .first = page,
		.nr = 1 + below(&t->rng, room < PIN_PAGES ? room : PIN_PAGES),
	};
	unsigned int times = 1 + below(&t->rng, 24);

	TRACE(t, "shared: hold pages %ld+%ld shortly, %ld times", page, pages.nr, times);
	begin_passing(page);
	hold_often(&t->rng, t->pipe, &pages, t->buf, times);
	end_passing(page);
}

static void shared_ranges(struct thread *t)
{
	unsigned int room, page = own_page(t, &room), r = page / REGION_PAGES;
	struct gmemfd_range ranges[STRIPE];
	struct gmemfd_get_ranges get = {
		.offset = page * PAGE, .end = (page + room) * PAGE,
		.ranges = (uintptr_t)ranges, .nr_ranges = STRIPE,
	};
	bool mixed = region_mixed(t, r) && !small_shared(shared.flags);
	unsigned int p = page;

	TRACE(t, "shared: ranges of pages %ld+%ld", page, room);
	AGREE(t, !ioctl(shared.fd, GMEMFD_GET_RANGES, &get), "shared: ranges: errno %d", errno);
	for (unsigned int i = 0; i < get.nr_ranges; i++) {
		AGREE(t, ranges[i].offset == p * PAGE && ranges[i].size % PAGE == 0,
		      "shared: range at %#llx, not page %u", ranges[i].offset, p);
		AGREE(t, ranges[i].folio_order == 0 || ranges[i].folio_order == 9 ||
		      (ranges[i].folio_order == 18 && shared.block_size == GB),
		      "shared: folio order %u", ranges[i].folio_order);
		for (unsigned int end = p + ranges[i].size / PAGE; p < end; p++) {
			bool secret = ranges[i].flags & GMEMFD_RANGE_SECRET;
			bool private = secret || ranges[i].flags & GMEMFD_RANGE_PRIVATE;
			bool there = ranges[i].flags & GMEMFD_RANGE_ALLOCATED &&
				     ranges[i].flags & GMEMFD_RANGE_ZEROED;

			AGREE(t, p < page + room && private == t->shared_private[p] &&
			      secret == t->shared_secret[p] &&
			      !(secret && ranges[i].flags & GMEMFD_RANGE_PRIVATE),
			      "shared: page %u flags %#x", p, ranges[i].flags);
			AGREE(t, there || !t->shared_touched[p],
			      "shared: page %u is in use and a hole", p);
			AGREE(t, private || !ranges[i].folio_order || !mixed,
			      "shared: page %u is in a large folio with private pages", p);
		}
	}
	AGREE(t, p == page + room && get.offset == p * PAGE, "shared: ranges end at page %u", p);
}

static void shared_mapping(struct thread *t)
{
	unsigned int r = below(&t->rng, shared.nr_used), room, page = own_page(t, &room);
	char *p;

	TRACE(t, "shared: mappings of region %ld", r);
	if (one_in(&t->rng, 2)) {
		begin_passing(r * REGION_PAGES);
		EXPECT_EQ(madvise(shared.map + r * 2 * MB, 2 * MB, MADV_DONTNEED), 0);
		end_passing(r * REGION_PAGES);
	} else {
		begin_passing(page);
		pthread_rwlock_rdlock(&fork_lock);
		p = gmem_map(shared.fd, 0, shared.nr_used * 2 * MB);
		EXPECT_EQ(madvise(p, shared.nr_used * 2 * MB, MADV_DONTFORK), 0);
		pthread_rwlock_unlock(&fork_lock);
		AGREE(t, load_page(p + page * PAGE, t->buf) == can_reach(t, page),
		      "shared: page %u reachable %d", page, !can_reach(t, page));
		if (can_reach(t, page)) {
			t->shared_touched[page] = true;
			check_page(t, t->buf, t->shared_tag[page], "shared: map", page);
		}
		EXPECT_EQ(munmap(p, shared.nr_used * 2 * MB), 0);
		end_passing(page);
	}
}

static void shared_guest(struct thread *t)
{
	unsigned int room, page = own_page(t, &room);
	struct vcpu *vcpu = &t->vm.vcpus[0];
	bool write = one_in(&t->rng, 2);
	uint64_t gpa = 64 * GB, tag = write ? new_tag(t) : t->shared_tag[page];
	size_t size = shared.nr_used * 2 * MB;

	/* One VM at a time: one thread's. */
	if (t->id || !t->has_vm)
		return;
	if (t->vm.data != &shared) {
		TRACE(t, "shared: bind");
		AGREE(t, !vm_set_slot(t->vm.fd, 20, 0, gpa, size, NULL, shared.fd, 0),
		      "shared: bind: errno %d", errno);
		t->vm.data = &shared;
	} else if (one_in(&t->rng, 50)) {
		TRACE(t, "shared: unbind");
		AGREE(t, !vm_set_slot(t->vm.fd, 20, 0, gpa, 0, NULL, -1, 0),
		      "shared: unbind: errno %d", errno);
		t->vm.data = NULL;
		return;
	}
	TRACE(t, "shared: the guest accesses page %ld, write %ld", page, write);
	vcpu_prepare(vcpu, write ? guest_fill_page : guest_check_page, gpa + page * PAGE, tag, 0);
	AGREE(t, vcpu_run(vcpu), "shared: guest: exit %d, errno %d", vcpu->run->exit_reason,
	      vcpu->error);
	AGREE(t, !vcpu->result, "shared: guest: page %u differs in %lu words", page,
	      vcpu->result);
	t->shared_touched[page] = true;
	if (write)
		t->shared_tag[page] = tag;
}

void shared_op(struct thread *t)
{
	unsigned int n = below(&t->rng, 100);

	if (n < 35)
		shared_access(t);
	else if (n < 62)
		shared_convert(t);
	else if (n < 70)
		shared_punch(t);
	else if (n < 72)
		shared_allocate(t);
	else if (n < 79)
		shared_hold(t);
	else if (n < 82)
		shared_hold_shortly(t);
	else if (n < 89)
		shared_ranges(t);
	else if (n < 92)
		shared_mapping(t);
	else
		shared_guest(t);
}

/* All pages of ours. */
void shared_check(struct thread *t)
{
	unsigned int stripes = shared.nr_used * REGION_PAGES / STRIPE;

	TRACE(t, "shared: check all");
	for (unsigned int s = t->id; s < stripes; s += shared.nr_threads) {
		for (unsigned int p = s * STRIPE; p < (s + 1) * STRIPE; p++) {
			bool ok = load_page(shared.map + p * PAGE, t->buf);

			AGREE(t, ok == can_reach(t, p), "shared: page %u reachable %d",
			      p, ok);
			if (!ok)
				continue;
			t->shared_touched[p] = true;
			check_page(t, t->buf, t->shared_tag[p], "shared: check", p);
		}
	}
}

void shared_finish(struct thread *t)
{
	unsigned int stripes = shared.nr_used * REGION_PAGES / STRIPE;

	for (int i = 0; i < 4; i++)
		while (t->shared_holds[i].holder.kind != UNUSED) {
			struct holder *h = &t->shared_holds[i].holder;

			close(h->pipe[0]);
			close(h->pipe[1]);
			h->kind = UNUSED;
		}
	for (unsigned int s = t->id; s < stripes; s += shared.nr_threads) {
		AGREE(t, !gmem_convert(shared.fd, s * STRIPE * PAGE, STRIPE * PAGE, false),
		      "shared: convert: errno %d", errno);
		set_attributes(t, s * STRIPE, STRIPE, 0);
	}
	shared_check(t);
}

void shared_count(long used[2], long reserved[2])
{
	int which = shared.block_size == GB;
	struct stat st;
	long blocks;

	EXPECT_EQ(fstat(shared.fd, &st), 0);
	blocks = st.st_blocks * 512 / shared.block_size;
	used[which] += blocks;
	reserved[which] += shared.size / shared.block_size - blocks;
}

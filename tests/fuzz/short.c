// SPDX-License-Identifier: GPL-2.0
/*
 * References that last for moments, one after the other, while pages are
 * converted.  Such a reference may refuse a conversion, but only a page that it
 * may have been to; and one that waits succeeds in the end, however many follow.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "fuzz.h"

#define HELPERS	2

/**
 * hold_shortly - hold pages for a moment
 * @kind: by which call
 * @pipe: an empty pipe
 * @pages: which
 * @buf: room for their contents
 *
 * Return: of how many the contents were read through the references.
 */
unsigned int hold_shortly(enum short_kind kind, const int *pipe,
			  const struct touched *pages, char *buf)
{
	struct iovec there = { pages->addr, pages->nr * PAGE };
	struct iovec here = { buf, pages->nr * PAGE };
	long ret = 0;

	switch (kind) {
	case VM_READ:
		ret = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
		break;
	case SPLICE:
		ret = vmsplice(pipe[1], &there, 1, 0);
		if (ret > 0)
			ret = read(pipe[0], buf, ret);
		break;
	default:	/* looks up the page, and wakes nobody */
		syscall(SYS_futex, pages->addr, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	return ret > 0 ? ret / PAGE : 0;
}

/**
 * hold_often - hold some of the pages, time and again
 * @rng: what to choose by
 * @pipe: an empty pipe
 * @pages: which; some may be out of reach
 * @buf: room for their contents
 * @times: how often
 *
 * Return: false if contents were not as they should be.
 */
bool hold_often(struct rng *rng, const int *pipe, const struct touched *pages, char *buf,
		unsigned int times)
{
	while (times--) {
		unsigned int i = below(rng, pages->nr), n;
		const struct touched some = {
			.addr = pages->addr + i * PAGE,
			.nr = 1 + below(rng, pages->nr - i),
		};

		n = hold_shortly(below(rng, SHORT_KINDS), pipe, &some, buf);
		while (pages->tag && n--)
			if (!page_is(buf + n * PAGE, pages->tag[i + n]))
				return false;
	}
	return true;
}

struct helper {
	struct thread *t;
	pthread_t id;
	struct rng rng;
	int pipe[2];
	const struct touched *pages;
	char *buf;
	unsigned int pause;	/* between references, in us */
	bool running, stop;
};

static void *helper_main(void *arg)
{
	struct helper *h = arg;

	while (!__atomic_load_n(&h->stop, __ATOMIC_ACQUIRE)) {
		AGREE(h->t, hold_often(&h->rng, h->pipe, h->pages, h->buf, 4),
		      "a page held for a moment has other contents");
		__atomic_store_n(&h->running, true, __ATOMIC_RELEASE);
		if (h->pause)
			usleep(h->pause);
	}
	return NULL;
}

static void helper_start(struct thread *t, struct helper *h, const struct touched *pages)
{
	*h = (struct helper) {
		.t = t, .rng.state = rnd(&t->rng), .pages = pages,
		.pause = one_in(&t->rng, 2) ? 0 : below(&t->rng, 100),
	};
	h->buf = malloc(PIN_PAGES * PAGE);
	EXPECT(h->buf);
	EXPECT_EQ(pipe(h->pipe), 0);
	EXPECT_EQ(pthread_create(&h->id, NULL, helper_main, h), 0);
}

static void helper_stop(struct helper *h)
{
	__atomic_store_n(&h->stop, true, __ATOMIC_RELEASE);
	EXPECT_EQ(pthread_join(h->id, NULL), 0);
	close(h->pipe[0]);
	close(h->pipe[1]);
	free(h->buf);
}

/* Could a helper be why page @p of the request, which starts at @first, is held? */
static bool may_be_held(struct file *f, const struct touched *pages, unsigned int p,
			unsigned int first)
{
	unsigned int r = p / REGION_PAGES, start = r * REGION_PAGES;

	if (f->private[p] || !block_of(f, p)->allocated)
		return false;
	if (f->split[r])
		return p >= pages->first && p < pages->first + pages->nr;
	return p == (first > start ? first : start) && pages->first < start + REGION_PAGES &&
	       start < pages->first + pages->nr;
}

/* Whether a region was joined depends on who was there at that moment: look. */
static void see_joined(struct thread *t, struct file *f, unsigned int r, bool was_split)
{
	unsigned int first = r * REGION_PAGES;

	if (was_split && !f->split[r] && !f->region_private[r] && block_of(f, first)->allocated)
		f->split[r] = !range_at(t, f, first, first + 1).folio_order;
}

static void convert_beside(struct thread *t, struct file *f, const struct touched *pages,
			   unsigned int first, unsigned int nr)
{
	unsigned int lo = pages->first / REGION_PAGES;
	unsigned int hi = (pages->first + pages->nr - 1) / REGION_PAGES;
	struct gmemfd_convert_range range = {
		first * PAGE, nr * PAGE,
		other_attributes(t, f, pages->first + below(&t->rng, pages->nr)),
	};
	bool was_split[2] = { f->split[lo], f->split[hi] };
	long busy = model_busy(f, &range, 1);
	bool wait = range.attributes && busy < 0 && one_in(&t->rng, 3);
	uint64_t at, timeout = ~0ULL;
	int ret, err;

	TRACE(t, "file %ld: convert pages %ld+%ld, attributes and waiting %#lx, beside short references to %ld+%ld",
	      f - t->files, first, nr, range.attributes | wait, pages->first, pages->nr);
	for (;; wait = true) {
		at = 1;
		ret = convert_range(f->fd, &range, wait ? &timeout : NULL, &at);
		err = errno;
		if (!ret || err != EAGAIN || wait || (busy >= 0 && at >= busy * PAGE))
			break;
		AGREE(t, range.attributes && at % PAGE == 0 && at >= range.offset &&
		      at < range.offset + range.size &&
		      may_be_held(f, pages, at / PAGE, first),
		      "convert: page %lu is said to be held, and cannot be", at / PAGE);
		t->progress->passing++;
		if (busy >= 0)
			return;
		/* Let what comes of it not depend on who was there. */
	}
	expect_conversion(t, f, &range, 1, ret, err, at, EAGAIN);
	see_joined(t, f, lo, was_split[0]);
	if (hi != lo)
		see_joined(t, f, hi, was_split[1]);
}

/* Nobody is in the way any more. */
static void join(struct thread *t, struct file *f, unsigned int r)
{
	struct gmemfd_convert_range range = { r * REGION_PAGES * PAGE, PAGE, 0 };
	uint64_t at = 1;
	int ret;

	if (f->region_private[r])
		return;
	ret = convert_range(f->fd, &range, NULL, &at);
	expect_conversion(t, f, &range, 1, ret, errno, at, EAGAIN);
}

/* The model is to know of all that the helpers may have touched. */
static bool touch_all(struct thread *t, struct file *f, const struct touched *pages)
{
	for (unsigned int i = 0; i < pages->nr; i++) {
		unsigned int page = pages->first + i;
		bool want = model_touch(f, page), ok = load_page(pages->addr + i * PAGE, t->buf);

		AGREE(t, ok == want, "page %u readable %d", page, ok);
		if (ok)
			check_page(t, t->buf, f->tag[page], "read", page);
		else if (!out_of_reach(f, page))
			return false;
	}
	return true;
}

static void pick_beside(struct thread *t, struct file *f, const struct touched *pages,
			unsigned int *first, unsigned int *nr)
{
	unsigned int n = below(&t->rng, 12), start = pages->first / REGION_PAGES * REGION_PAGES;

	*first = pages->first;
	*nr = pages->nr;
	switch (below(&t->rng, 4)) {
	case 0:
		*first = start;
		*nr = REGION_PAGES;
		break;
	case 1:		/* of the same folio, or not */
		*first = start + below(&t->rng, REGION_PAGES);
		*nr = 1;
		break;
	case 2:
		*first = pages->first > n ? pages->first - n : 0;
		*nr = 1 + n + below(&t->rng, 12);
	}
	if (*first + *nr > f->nr_pages)
		*nr = f->nr_pages - *first;
}

/* Has the child these pages, too, and is it to hold them? */
static bool child_holds(struct thread *t, struct file *f, const struct touched *pages)
{
	const struct child *c = &t->child;
	struct request rq = {
		.command = HOLD_OFTEN, .first = pages->first, .nr = pages->nr,
	};

	if (!c->pid || c->file != f || pages->first < c->map.first || one_in(&t->rng, 2))
		return false;
	rq.arg = rnd(&t->rng);
	rq.addr = c->map.addr + (pages->first - c->map.first) * PAGE;
	child_ask(t, &rq);
	return true;
}

static bool pick_touched(struct thread *t, struct file *f, struct touched *pages)
{
	struct map *m = &f->maps[below(&t->rng, f->nr_maps)];
	unsigned int nr;

	pages->first = pick_page(t, f, m->first, m->nr);
	for (int i = 0; i < 4 && out_of_reach(f, pages->first); i++)
		pages->first = pick_page(t, f, m->first, m->nr);
	nr = m->first + m->nr - pages->first;
	pages->nr = 1 + below(&t->rng, nr < PIN_PAGES ? nr : PIN_PAGES);
	pages->addr = m->addr + (pages->first - m->first) * PAGE;
	pages->tag = f->tag + pages->first;
	return touch_all(t, f, pages);
}

void op_convert_beside(struct thread *t)
{
	struct file *f = pick_mapped(t);
	struct helper helpers[HELPERS];
	unsigned int nr_helpers, first, nr;
	struct touched pages;
	struct answer answer;
	bool child;

	if (!f || f->fd < 0 || !pick_touched(t, f, &pages))
		return;
	child = child_holds(t, f, &pages);
	nr_helpers = child ? below(&t->rng, HELPERS + 1) : 1 + below(&t->rng, HELPERS);
	for (unsigned int i = 0; i < nr_helpers; i++)
		helper_start(t, &helpers[i], &pages);
	for (unsigned int i = 0; i < nr_helpers; i++)
		while (!__atomic_load_n(&helpers[i].running, __ATOMIC_ACQUIRE))
			sched_yield();

	for (unsigned int n = 1 + below(&t->rng, 5); n; n--) {
		pick_beside(t, f, &pages, &first, &nr);
		convert_beside(t, f, &pages, first, nr);
		touch_all(t, f, &pages);
	}
	for (unsigned int i = 0; i < nr_helpers; i++)
		helper_stop(&helpers[i]);
	if (child) {
		child_answer(t, &answer);
		AGREE(t, answer.ret, "child: a page held for a moment has other contents");
	}
	join(t, f, pages.first / REGION_PAGES);
	join(t, f, (pages.first + pages.nr - 1) / REGION_PAGES);
}

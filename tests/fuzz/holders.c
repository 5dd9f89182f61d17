// SPDX-License-Identifier: GPL-2.0
/* References to pages: in pipes and in io_uring's registered buffers. */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "fuzz.h"

#define RING_SLOTS	MAX_PINS

static int ring_register(struct thread *t, unsigned int op, void *arg, unsigned int n)
{
	return syscall(__NR_io_uring_register, t->ring.fd, op, arg, n);
}

void ring_set_up(struct thread *t)
{
	struct io_uring_rsrc_register sparse = {
		.nr = RING_SLOTS, .flags = IORING_RSRC_REGISTER_SPARSE,
	};
	struct io_uring_params p = { };
	struct ring *r = &t->ring;
	char *rings;
	size_t size;

	r->fd = syscall(__NR_io_uring_setup, 4, &p);
	EXPECT(r->fd >= 0);
	size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		     r->fd, IORING_OFF_SQ_RING);
	EXPECT(rings != MAP_FAILED);
	madvise(rings, size, MADV_DONTFORK);
	r->sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe),
		       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
		       IORING_OFF_SQES);
	EXPECT(r->sqes != MAP_FAILED);
	madvise(r->sqes, p.sq_entries * sizeof(struct io_uring_sqe), MADV_DONTFORK);
	r->sq_tail = (void *)(rings + p.sq_off.tail);
	r->sq_mask = (void *)(rings + p.sq_off.ring_mask);
	r->sq_array = (void *)(rings + p.sq_off.array);
	r->cq_head = (void *)(rings + p.cq_off.head);
	r->cq_tail = (void *)(rings + p.cq_off.tail);
	r->cq_mask = (void *)(rings + p.cq_off.ring_mask);
	r->cqes = (void *)(rings + p.cq_off.cqes);
	EXPECT_EQ(ring_register(t, IORING_REGISTER_BUFFERS2, &sparse, sizeof(sparse)), 0);
}

static int ring_update(struct thread *t, int slot, struct iovec *iov)
{
	struct io_uring_rsrc_update2 update = {
		.offset = slot, .data = (uintptr_t)iov, .nr = 1,
	};

	return ring_register(t, IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof(update));
}

/* Register a buffer, or be refused. */
void ring_set(struct thread *t, int slot, void *addr, size_t size, bool want)
{
	struct iovec iov = { addr, size };
	int ret = ring_update(t, slot, &iov);

	AGREE(t, want ? ret == 1 : ret < 0 && is_refusal(errno),
	      "registering a buffer: %d, errno %d; it can be had: %d", ret, errno, want);
}

void ring_clear(struct thread *t, int slot)
{
	struct iovec iov = { NULL, 0 };
	int ret = ring_update(t, slot, &iov);

	AGREE(t, ret == 1, "unregistering a buffer: %d, errno %d", ret, errno);
}

static void ring_io(struct thread *t, int op, int slot, int fd, char *addr)
{
	struct ring *r = &t->ring;
	unsigned int i = *r->sq_tail & *r->sq_mask, head = *r->cq_head;
	int ret;

	r->sqes[i] = (struct io_uring_sqe) {
		.opcode = op, .fd = fd, .addr = (uintptr_t)addr, .len = PAGE,
		.buf_index = slot,
	};
	r->sq_array[i] = i;
	__atomic_store_n(r->sq_tail, *r->sq_tail + 1, __ATOMIC_RELEASE);
	ret = syscall(__NR_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	while (__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) == head)
		syscall(__NR_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	ret = r->cqes[head & *r->cq_mask].res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	AGREE(t, ret == (int)PAGE, "I/O with a registered buffer: %d", ret);
}

/* Through the references, whatever has become of the file and its mappings. */
void ring_read(struct thread *t, int slot, char *addr, char *buf)
{
	ring_io(t, IORING_OP_WRITE_FIXED, slot, t->pipe[1], addr);
	EXPECT_EQ(read(t->pipe[0], buf, PAGE), (long)PAGE);
}

void ring_write(struct thread *t, int slot, char *addr, char *buf)
{
	EXPECT_EQ(write(t->pipe[1], buf, PAGE), (long)PAGE);
	ring_io(t, IORING_OP_READ_FIXED, slot, t->pipe[0], addr);
}

/* Put pages into a pipe; returns how many went in. */
unsigned int pipe_hold(struct thread *t, struct holder *h, char *addr,
		       unsigned int nr)
{
	struct iovec iov = { addr, nr * PAGE };
	long ret;

	EXPECT_EQ(pipe(h->pipe), 0);
	ret = vmsplice(h->pipe[1], &iov, 1, 0);
	AGREE(t, ret > 0 ? ret % PAGE == 0 : is_refusal(errno),
	      "vmsplice: %ld, errno %d", ret, errno);
	if (ret > 0)
		return ret / PAGE;
	close(h->pipe[0]);
	close(h->pipe[1]);
	return 0;
}

static struct holder *pick(struct thread *t, bool used)
{
	unsigned int start = below(&t->rng, MAX_PINS);

	for (unsigned int i = 0; i < MAX_PINS; i++) {
		struct holder *h = &t->pins[(start + i) % MAX_PINS];

		if ((h->kind != UNUSED) == used)
			return h;
	}
	return NULL;
}

/* Pages of a file that is mapped, if they can be had. */
void pin_some(struct thread *t, struct file *f)
{
	struct holder *h = pick(t, false);
	unsigned int first, nr, ok = 0, room;
	struct map *m;

	if (!h)
		return;
	m = &f->maps[below(&t->rng, f->nr_maps)];
	first = pick_page(t, f, m->first, m->nr) - m->first;
	room = m->nr - first < PIN_PAGES ? m->nr - first : PIN_PAGES;
	nr = one_in(&t->rng, 3) ? 1 + below(&t->rng, room) : 1;
	h->addr = m->addr + first * PAGE;
	first += m->first;
	if (f->private[first] && !one_in(&t->rng, 10))
		return;

	while (ok < nr && model_reference(f, first + ok))
		ok++;
	if (one_in(&t->rng, 2)) {
		TRACE(t, "file %ld: vmsplice pages %ld+%ld, %ld of them go", f - t->files,
		      first, nr, ok);
		nr = pipe_hold(t, h, h->addr, nr);
		AGREE(t, nr == ok, "vmsplice takes %u pages, not %u", nr, ok);
		if (!ok)
			return;
		h->kind = PIPE;
	} else {
		h->slot = h - t->pins;
		TRACE(t, "file %ld: register pages %ld+%ld as buffer %ld, %ld of them go",
		      f - t->files, first, nr, h->slot, ok);
		ring_set(t, h->slot, h->addr, nr * PAGE, ok == nr);
		if (ok < nr)
			return;
		h->kind = RING;
	}
	h->nr = nr;
	for (unsigned int i = 0; i < nr; i++)
		model_pin(f, &h->held[i], first + i);
}

void op_pin(struct thread *t)
{
	struct file *f = pick_mapped(t);

	if (f)
		pin_some(t, f);
}

/* In a pipe only the first page can be looked at, and is gone then. */
static void look(struct thread *t, struct holder *h, unsigned int i)
{
	switch (h->kind) {
	case RING:
		ring_read(t, h->slot, h->addr + i * PAGE, t->buf);
		break;
	case PIPE:
		i = 0;
		EXPECT_EQ(read(h->pipe[0], t->buf, PAGE), (long)PAGE);
		break;
	case CHILD:
		i = 0;
		if (!child_read_held(t, h->slot, t->buf))
			differ(t, "the child cannot read what it holds");
		break;
	default:
		return;
	}
	check_page(t, t->buf, held_tag(&h->held[i]), h->held[i].file ? "held page" :
		   "held page that has left", h->held[i].page);
	if (h->kind == RING)
		return;
	model_unpin(t, &h->held[0]);
	memmove(h->held, h->held + 1, --h->nr * sizeof(h->held[0]));
	if (h->nr)
		return;
	if (h->kind == PIPE) {
		close(h->pipe[0]);
		close(h->pipe[1]);
	}
	h->kind = UNUSED;
}

/* Of what the model knows nothing. */
void let_go(struct thread *t, struct holder *h)
{
	if (h->kind == RING) {
		ring_clear(t, h->slot);
	} else {
		close(h->pipe[0]);
		close(h->pipe[1]);
	}
}

void drop(struct thread *t, struct holder *h, bool check)
{
	while (check && h->kind == PIPE && h->nr > 1)
		look(t, h, 0);
	if (check && h->kind != UNUSED)
		look(t, h, h->nr - 1);
	if (h->kind != PIPE && h->kind != RING)
		return;
	let_go(t, h);
	while (h->nr)
		model_unpin(t, &h->held[--h->nr]);
	h->kind = UNUSED;
}

void op_unpin(struct thread *t)
{
	struct holder *h = pick(t, true);
	bool check;

	if (!h)
		return;
	check = one_in(&t->rng, 2);
	TRACE(t, "drop holder %ld of kind %ld, check %ld", h - t->pins, h->kind, check);
	drop(t, h, check);
}

void op_look_at_held(struct thread *t)
{
	struct holder *h = pick(t, true);
	unsigned int i;

	if (!h)
		return;
	i = below(&t->rng, h->nr);
	TRACE(t, "look at page %ld of holder %ld of kind %ld", i, h - t->pins, h->kind);
	if (h->kind == RING && one_in(&t->rng, 3)) {
		struct held *held = &h->held[i];
		uint64_t tag = new_tag(t);

		page_fill(t->buf, tag);
		ring_write(t, h->slot, h->addr + i * PAGE, t->buf);
		if (held->file)
			held->file->tag[held->page] = tag;
		/* The same page may be held twice. */
		for (int j = 0; !held->file && j < MAX_PINS; j++)
			for (unsigned int k = 0; k < t->pins[j].nr; k++) {
				struct held *other = &t->pins[j].held[k];

				if (t->pins[j].kind != UNUSED && !other->file &&
				    other->away == held->away && other->page == held->page)
					other->tag = tag;
			}
		return;
	}
	look(t, h, i);
}

struct later {
	struct thread *t;
	struct holder *holder;
	unsigned int usec;
};

static void *drop_later(void *arg)
{
	struct later *later = arg;

	usleep(later->usec);
	let_go(later->t, later->holder);
	return NULL;
}

/* A conversion that waits for the only holder in its way. */
void op_unpin_while_waiting(struct thread *t)
{
	struct later later = {
		.t = t, .holder = pick(t, true),
		/* Mostly while it still thinks that this will pass. */
		.usec = below(&t->rng, one_in(&t->rng, 3) ? 80000 : 3000),
	};
	struct gmemfd_convert_range range;
	uint64_t at = 1, timeout = ~0ULL;
	struct holder *h = later.holder;
	struct file *f;
	unsigned int kind, page, n, nr;
	int ret;

	if (!h || h->kind == CHILD || !h->held[0].file || h->held[0].file->fd < 0)
		return;
	f = h->held[0].file;
	page = h->held[0].page;
	n = below(&t->rng, 20);
	range.attributes = not_shared(&t->rng, f->flags);
	range.offset = (page > n ? page - n : 0) * PAGE;
	range.size = (1 + n + below(&t->rng, 20)) * PAGE;
	if (range.offset + range.size > f->size)
		range.size = f->size - range.offset;

	TRACE(t, "file %ld: convert pages %ld+%ld, attributes %#lx, holder %ld goes after %ld us",
	      f - t->files, range.offset / PAGE, range.size / PAGE, range.attributes,
	      h - t->pins, later.usec);
	kind = h->kind;
	nr = h->nr;
	for (unsigned int i = 0; i < nr; i++)
		model_unpin(t, &h->held[i]);
	if (model_busy(f, &range, 1) >= 0) {
		drop_later(&later);
		h->kind = UNUSED;
		h->nr = 0;
		return;
	}
	EXPECT_EQ(pthread_create(&t->helper, NULL, drop_later, &later), 0);
	ret = convert_range(f->fd, &range, &timeout, &at);
	AGREE(t, !ret && at == 1 && timeout == ~0ULL,
	      "waiting for holder %ld of kind %u: %d, errno %d at page %lu",
	      h - t->pins, kind, ret, errno, at / PAGE);
	EXPECT_EQ(pthread_join(t->helper, NULL), 0);
	h->kind = UNUSED;
	h->nr = 0;
	model_convert(f, &range, 1);
}

/* The child has let go of what it held. */
void pins_of_child_gone(struct thread *t)
{
	for (struct holder *h = t->pins; h < t->pins + MAX_PINS; h++) {
		if (h->kind != CHILD)
			continue;
		while (h->nr)
			model_unpin(t, &h->held[--h->nr]);
		h->kind = UNUSED;
	}
}

// SPDX-License-Identifier: GPL-2.0
/*
 * A child that is stopped and continued, frozen and thawed, or killed, while it is
 * in a call.  What comes of the call is as without; who dies in one leaves what can
 * be had by doing it once more.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fuzz.h"

#define STOPPED	1U
#define FROZEN	2U

static const char *cgroup_file(int id, const char *name)
{
	static __thread char path[64];

	snprintf(path, sizeof(path), "/sys/fs/cgroup/fuzz%d%s", id, name);
	return path;
}

/* The children of each thread have a cgroup, once it matters. */
void stop_set_up(int nr)
{
	for (int i = 0; i < nr; i++)
		EXPECT(!mkdir(cgroup_file(i, ""), 0755) || errno == EEXIST);
}

void stop_finish(int nr)
{
	for (int i = 0; i < nr; i++)
		EXPECT(EVENTUALLY(!rmdir(cgroup_file(i, ""))));
}

static void moment(struct thread *t)
{
	usleep(below(&t->rng, one_in(&t->rng, 3) ? 2000 : 150));
}

static bool is_frozen(struct thread *t)
{
	char text[128] = "";
	int fd = open(cgroup_file(t->id, "/cgroup.events"), O_RDONLY);
	bool frozen = read(fd, text, sizeof(text) - 1) > 0 && strstr(text, "frozen 1");

	close(fd);
	return frozen;
}

static void interrupt(struct thread *t, unsigned int how)
{
	struct child *c = &t->child;
	char pid[16];

	if (how & FROZEN && !c->in_cgroup) {
		snprintf(pid, sizeof(pid), "%d", c->pid);
		write_text(cgroup_file(t->id, "/cgroup.procs"), pid);
		c->in_cgroup = true;
	}
	if (how & STOPPED)
		EXPECT_EQ(kill(c->pid, SIGSTOP), 0);
	if (how & FROZEN)
		write_text(cgroup_file(t->id, "/cgroup.freeze"), "1");
}

/* However long the call may still take, it lets its task rest; else the round hangs. */
static void wait_for_rest(struct thread *t, unsigned int how)
{
	int status;

	if (how == STOPPED)
		AGREE(t, waitpid(t->child.pid, &status, WUNTRACED) == t->child.pid &&
		      WIFSTOPPED(status), "the child does not stop");
	/* Who is frozen takes no notice of being stopped, too. */
	while (how & FROZEN && !is_frozen(t))
		usleep(200);
}

static void resume(struct thread *t, unsigned int how)
{
	if (how & FROZEN)
		write_text(cgroup_file(t->id, "/cgroup.freeze"), "0");
	if (how & STOPPED)
		kill(t->child.pid, SIGCONT);
}

static long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000L + ts.tv_nsec;
}

/*
 * The child has been asked to do something, and is perhaps doing it.  Returns for
 * how long it has surely been at rest, in ns.
 */
long disturb(struct thread *t)
{
	long rested = 0;

	for (unsigned int n = 1 + below(&t->rng, 3); n; n--) {
		unsigned int how = 1 + below(&t->rng, 3);
		bool wait = one_in(&t->rng, 2);

		moment(t);
		interrupt(t, how);
		if (wait) {
			wait_for_rest(t, how);
			rested -= now_ns();
		}
		moment(t);
		if (wait)
			rested += now_ns();
		resume(t, how);
	}
	return rested;
}

/* It dies at some moment, resting or not. */
static void kill_child(struct thread *t)
{
	unsigned int how = below(&t->rng, 4);

	TRACE(t, "the child is killed, after %ld", how);
	moment(t);
	if (how) {
		interrupt(t, how);
		moment(t);
	}
	EXPECT_EQ(kill(t->child.pid, SIGKILL), 0);
	child_end(t);
	if (how & FROZEN)
		write_text(cgroup_file(t->id, "/cgroup.freeze"), "0");
}

struct call {
	struct request rq;
	struct file *f;
	unsigned int first, nr;
	struct gmemfd_convert_range range;
	struct holder *holder;	/* what a conversion waits for; or NULL */
	long busy;		/* page that was held when it began to wait */
	long start, rested;	/* ns */
};

/* A holder of ours, of a page of the child's file. */
static struct holder *pick_holder_of(struct thread *t, const struct file *f)
{
	unsigned int start = below(&t->rng, MAX_PINS);

	for (unsigned int i = 0; i < MAX_PINS; i++) {
		struct holder *h = &t->pins[(start + i) % MAX_PINS];

		if (h->kind != UNUSED && h->kind != CHILD && h->held[0].file == f)
			return h;
	}
	return NULL;
}

/* For a page that is held, and some around it. */
static void choose_wait(struct thread *t, struct call *call)
{
	unsigned int n = below(&t->rng, 20), page;
	struct holder *h;

	if (!call->f->nr_maps)
		map_file(t, call->f);
	for (int i = 0; i < 8 && !pick_holder_of(t, call->f); i++)
		pin_some(t, call->f);
	h = pick_holder_of(t, call->f);
	call->holder = h;
	if (!h)
		return;
	page = h->held[0].page;
	call->first = page > n ? page - n : 0;
	call->nr = 1 + n + below(&t->rng, 20);
	if (call->first + call->nr > call->f->nr_pages)
		call->nr = call->f->nr_pages - call->first;
}

static void choose_conversion(struct thread *t, struct call *call)
{
	struct gmemfd_convert *arg = &call->rq.convert;
	struct file *f = call->f;
	uint64_t attributes;

	call->rq.command = CONVERT;
	if (!one_in(&t->rng, 4))
		choose_wait(t, call);
	attributes = call->holder ? not_shared(&t->rng, f->flags) :
		     one_in(&t->rng, 4) ? any_attributes(&t->rng, f->flags) :
					  other_attributes(t, f, call->first);
	call->range = (struct gmemfd_convert_range) {
		call->first * PAGE, call->nr * PAGE, attributes,
	};
	call->busy = model_busy(f, &call->range, 1);
	if (call->holder || one_in(&t->rng, 2)) {
		arg->flags = GMEMFD_CONVERT_WAIT;
		arg->timeout = below(&t->rng, 3000000);
	}
	if (call->holder && one_in(&t->rng, 2)) {	/* who stays */
		arg->timeout = 5000000 + below(&t->rng, 40000000);
		call->holder = NULL;
	} else if (call->holder) {
		struct holder *h = call->holder;

		arg->timeout = one_in(&t->rng, 2) ? ~0ULL : 3600000000000ULL;
		for (unsigned int i = 0; i < h->nr; i++)
			model_unpin(t, &h->held[i]);
		/* Others hold such pages, too. */
		if (model_busy(f, &call->range, 1) >= 0)
			arg->timeout = below(&t->rng, 3000000);
	}
	arg->offset = call->range.offset;
	arg->size = call->range.size;
	arg->attributes = call->range.attributes;
	arg->error_offset = 1;
}

static void choose(struct thread *t, struct call *call)
{
	call->f = t->child.file;
	pick_range(t, call->f, &call->first, &call->nr);
	switch (below(&t->rng, 6)) {
	case 0:
		call->rq.command = ALLOCATE;
		break;
	case 1:
		call->rq.command = PUNCH;
		break;
	default:
		choose_conversion(t, call);
		return;
	}
	if (call->nr > 4 * REGION_PAGES)
		call->nr = 4 * REGION_PAGES;
	call->rq.convert.offset = call->first * PAGE;
	call->rq.convert.size = call->nr * PAGE;
}

static void check_waited(struct thread *t, struct call *call, const struct answer *a)
{
	const struct gmemfd_convert *arg = &call->rq.convert;

	AGREE(t, arg->timeout == ~0ULL ? a->timeout == ~0ULL : a->timeout <= arg->timeout,
	      "child: timeout %lu", a->timeout);
	if (a->err == ETIMEDOUT)
		AGREE(t, now_ns() - call->start - call->rested >= (long)arg->timeout,
		      "child: its time was up too early");
}

static void check_conversion(struct thread *t, struct call *call, struct answer *a)
{
	bool waits = call->rq.convert.flags & GMEMFD_CONVERT_WAIT;

	if (waits)
		check_waited(t, call, a);
	else
		AGREE(t, !a->timeout, "child: timeout %lu", a->timeout);
	/*
	 * A wait that goes on after an interruption has written what it knew, and
	 * one may have been over before the holder went, or in the midst of that.
	 */
	if (waits && call->busy >= 0 && a->error_offset % PAGE == 0 &&
	    a->error_offset >= call->busy * PAGE &&
	    a->error_offset < call->range.offset + call->range.size) {
		long busy = model_busy(call->f, &call->range, 1);

		if (!a->ret)
			a->error_offset = 1;
		else if (busy >= 0 && a->error_offset < busy * PAGE)
			a->error_offset = busy * PAGE;
	}
	expect_conversion(t, call->f, &call->range, 1, a->ret, a->err, a->error_offset,
			  waits ? ETIMEDOUT : EAGAIN);
}

static void check_call(struct thread *t, struct call *call, struct answer *a)
{
	int want = 0;

	switch (call->rq.command) {
	case CONVERT:
		check_conversion(t, call, a);
		return;
	case ALLOCATE:
		if (!model_allocate(call->f, call->first, call->first + call->nr))
			want = ENOSPC;
		break;
	default:
		model_punch(t, call->f, call->first, call->first + call->nr);
	}
	AGREE(t, a->err == want, "child: fallocate: errno %d, not %d", a->err, want);
	check_allocated(t, call->f);
}

/* What the child had begun, or had not. */
static void do_again(struct thread *t, struct call *call)
{
	uint64_t offset = call->first * PAGE, size = call->nr * PAGE;
	struct answer a = { .error_offset = 1 };
	int fd = call->f->fd;

	call->rq.convert.flags = 0;
	switch (call->rq.command) {
	case CONVERT:
		check_one_or_other(t, call->f, &call->range);
		a.ret = convert_range(fd, &call->range, NULL, &a.error_offset);
		break;
	case ALLOCATE:
		a.ret = gmem_allocate(fd, offset, size);
		break;
	default:
		a.ret = gmem_punch(fd, offset, size);
	}
	a.err = a.ret ? errno : 0;
	check_call(t, call, &a);
}

static void holder_goes(struct thread *t, struct call *call)
{
	struct holder *h = call->holder;

	if (!h)
		return;
	let_go(t, h);
	h->kind = UNUSED;
	h->nr = 0;
	call->holder = NULL;
}

void op_stop_child(struct thread *t)
{
	bool dies = one_in(&t->rng, 6);
	struct call call = { };
	struct answer answer;

	if (without("stop"))
		return;
	if (!t->child.pid)
		op_fork(t);
	if (!t->child.pid || t->child.file->fd < 0)
		return;
	if (one_in(&t->rng, 4)) {	/* in an access */
		t->child.disturbed = true;
		op_child(t);
		t->child.disturbed = false;
		return;
	}
	choose(t, &call);
	TRACE(t, "file %ld: the child does %ld with pages %ld+%ld, attributes %#lx, waiting %ld ns",
	      call.f - t->files, call.rq.command, call.first, call.nr,
	      call.range.attributes, call.rq.convert.timeout);
	call.start = now_ns();
	child_ask(t, &call.rq);
	if (dies && !one_in(&t->rng, 4)) {
		kill_child(t);
		holder_goes(t, &call);
		do_again(t, &call);
		return;
	}
	call.rested = disturb(t);
	holder_goes(t, &call);
	if (one_in(&t->rng, 4))
		call.rested += disturb(t);
	if (dies) {
		kill_child(t);
		do_again(t, &call);
		return;
	}
	child_answer(t, &answer);
	check_call(t, &call, &answer);
}

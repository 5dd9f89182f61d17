// SPDX-License-Identifier: GPL-2.0
/* Others who use a thread's files: a forked child, and a guest. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "fuzz.h"

/* A child that has inherited a file and a mapping, and does what it is told. */

#define CHILD_PIPES	2

/* The fds of a child */
enum { FROM_PARENT = 3, TO_PARENT, GMEM_FILE, FIRST_UNUSED };

static bool child_hold_often(struct thread *t, const struct request *rq, const int *pipe)
{
	static char buf[PIN_PAGES * PAGE];
	const struct touched pages = {
		.addr = rq->addr, .nr = rq->nr, .tag = t->child.file->tag + rq->first,
	};
	struct rng rng = { .state = rq->arg };

	return hold_often(&rng, pipe, &pages, buf, 20 + below(&rng, 100));
}

/* The last of the pipes is for what does not stay. */
static int child_do(struct thread *t, struct request *rq, int pipes[][2])
{
	const struct gmemfd_convert *arg = &rq->convert;
	struct iovec iov = { rq->addr, PAGE };

	switch (rq->command) {
	case LOAD:
		return load_page(rq->addr, t->progress->page);
	case STORE:
		return store_page(rq->addr, rq->arg);
	case HOLD:
		return vmsplice(pipes[rq->arg][1], &iov, 1, 0) == (long)PAGE;
	case READ_HELD:
		return read(pipes[rq->arg][0], t->progress->page, PAGE) == (long)PAGE;
	case HOLD_OFTEN:
		return child_hold_often(t, rq, pipes[CHILD_PIPES]);
	case CONVERT:
		return ioctl(GMEM_FILE, GMEMFD_CONVERT, arg);
	case ALLOCATE:
		return gmem_allocate(GMEM_FILE, arg->offset, arg->size);
	case PUNCH:
		return gmem_punch(GMEM_FILE, arg->offset, arg->size);
	}
	_exit(2);
}

static _Noreturn void child_main(struct thread *t)
{
	int pipes[CHILD_PIPES + 1][2];
	struct request rq;

	for (int i = 0; i < CHILD_PIPES + 1; i++)
		if (pipe(pipes[i]))
			_exit(2);
	while (read(FROM_PARENT, &rq, sizeof(rq)) == sizeof(rq)) {
		struct answer answer = { .ret = child_do(t, &rq, pipes) };

		answer.err = answer.ret < 0 ? errno : 0;
		answer.error_offset = rq.convert.error_offset;
		answer.timeout = rq.convert.timeout;
		if (write(TO_PARENT, &answer, sizeof(answer)) != sizeof(answer))
			break;
	}
	_exit(0);
}

void child_ask(struct thread *t, const struct request *rq)
{
	EXPECT_EQ(write(t->child.to, rq, sizeof(*rq)), (long)sizeof(*rq));
}

void child_answer(struct thread *t, struct answer *answer)
{
	AGREE(t, read(t->child.from, answer, sizeof(*answer)) == sizeof(*answer),
	      "the child has died");
}

static bool ask(struct thread *t, enum command command, char *addr, uint64_t arg)
{
	const struct request rq = { .command = command, .addr = addr, .arg = arg };
	struct answer answer;

	child_ask(t, &rq);
	if (t->child.disturbed)
		disturb(t);
	child_answer(t, &answer);
	return answer.ret;
}

bool child_read_held(struct thread *t, int slot, char *buf)
{
	bool ok = ask(t, READ_HELD, NULL, slot);

	memcpy(buf, t->progress->page, PAGE);
	return ok;
}

void child_end(struct thread *t)
{
	struct child *c = &t->child;
	struct file *f = c->file;
	int status;

	if (!c->pid)
		return;
	TRACE(t, "file %ld: the child ends", f - t->files);
	file_going(t, f);
	if (one_in(&t->rng, 2))
		kill(c->pid, SIGKILL);
	close(c->to);
	EXPECT_EQ(waitpid(c->pid, &status, 0), c->pid);
	close(c->from);
	c->pid = 0;
	pins_of_child_gone(t);
	c->file = NULL;
	file_put(t, f);
}

void op_fork(struct thread *t)
{
	struct child *c = &t->child;
	struct answer answer = { };
	int to[2], from[2];
	struct file *f;

	if (c->pid) {
		child_end(t);
		return;
	}
	f = pick_file(t);
	if (!f)
		return;
	TRACE(t, "file %ld: fork", f - t->files);
	EXPECT_EQ(pipe(to), 0);
	EXPECT_EQ(pipe(from), 0);
	c->file = f;
	c->in_cgroup = false;
	c->map.first = one_in(&t->rng, 2) ? 0 : below(&t->rng, f->nr_pages);
	c->map.nr = f->nr_pages - c->map.first;

	/* Ordinary mappings do not come along: see fork_lock. */
	pthread_rwlock_wrlock(&fork_lock);
	c->map.addr = gmem_map(f->fd, c->map.first * PAGE, c->map.nr * PAGE);
	c->pid = fork();
	if (!c->pid) {
		int fds[] = { to[0], from[1], f->fd };

		/* What else we have open is the parent's to close. */
		for (int i = 0; i < 3; i++)
			fds[i] = fcntl(fds[i], F_DUPFD, FIRST_UNUSED);
		for (int i = 0; i < 3; i++)
			dup2(fds[i], FROM_PARENT + i);
		syscall(__NR_close_range, FIRST_UNUSED, ~0U, 0);
		if (write(TO_PARENT, &answer, sizeof(answer)) == sizeof(answer))
			child_main(t);
		_exit(1);
	}
	EXPECT_EQ(munmap(c->map.addr, c->map.nr * PAGE), 0);
	EXPECT(c->pid > 0);
	close(to[0]);
	close(from[1]);
	c->to = to[1];
	c->from = from[0];
	child_answer(t, &answer);
	pthread_rwlock_unlock(&fork_lock);
}

void child_access(struct thread *t, unsigned int page)
{
	struct child *c = &t->child;
	struct file *f = c->file;
	char *addr = c->map.addr + (page - c->map.first) * PAGE;
	bool ok = model_touch(f, page), reference = ok && !f->private[page];
	uint64_t tag;

	switch (below(&t->rng, 8)) {
	case 0: {
		bool used[CHILD_PIPES] = { };
		struct holder *h = NULL;
		int slot = 0;

		for (int i = 0; i < MAX_PINS; i++) {
			if (t->pins[i].kind == CHILD)
				used[t->pins[i].slot] = true;
			else if (t->pins[i].kind == UNUSED)
				h = &t->pins[i];
		}
		while (slot < CHILD_PIPES && used[slot])
			slot++;
		if (h && slot < CHILD_PIPES) {
			TRACE(t, "file %ld: the child holds page %ld: %ld", f - t->files,
			      page, reference);
			AGREE(t, ask(t, HOLD, addr, slot) == reference,
			      "child: vmsplice of page %u, not %d", page, reference);
			if (!reference)
				return;
			*h = (struct holder) { .kind = CHILD, .slot = slot, .nr = 1 };
			model_pin(f, &h->held[0], page);
			return;
		}
	}
		/* fallthrough */
	case 1:
	case 2:
	case 3:
		tag = new_tag(t);
		TRACE(t, "file %ld: the child writes page %ld: %ld", f - t->files, page, ok);
		AGREE(t, ask(t, STORE, addr, tag) == ok, "child: page %u writable, not %d",
		      page, ok);
		if (ok)
			f->tag[page] = tag;
		return;
	default:
		TRACE(t, "file %ld: the child reads page %ld: %ld", f - t->files, page, ok);
		AGREE(t, ask(t, LOAD, addr, 0) == ok, "child: page %u readable, not %d",
		      page, ok);
		if (ok)
			check_page(t, t->progress->page, f->tag[page], "child", page);
	}
}

void op_child(struct thread *t)
{
	struct child *c = &t->child;

	if (c->pid)
		child_access(t, pick_page(t, c->file, c->map.first, c->map.nr));
}

/* A guest, whose own memory is no gmem file */

void vm_end(struct thread *t)
{
	if (!t->has_vm)
		return;
	vm_destroy(&t->vm);
	close(t->bare_vm);
	memset(t->slots, 0, sizeof(t->slots));
	t->has_vm = false;
}

void op_vm(struct thread *t)
{
	bool typed;
	int kvm;

	if (t->has_vm) {
		if (!one_in(&t->rng, 3))
			return;
		TRACE(t, "the VM ends");
		vm_end(t);
		return;
	}
	typed = has_typed && one_in(&t->rng, 2);
	TRACE(t, "VM, typed %ld", typed);
	pthread_rwlock_rdlock(&fork_lock);
	/* It tells private from shared accesses, and sees the same as another one. */
	vm_create_apart(&t->vm, typed ? KVM_X86_SW_PROTECTED_VM : 0);
	madvise(t->vm.host, t->vm.size, MADV_DONTFORK);
	madvise(t->vm.vcpus[0].run, t->vm.vcpus[0].run_size, MADV_DONTFORK);
	kvm = kvm_device();
	t->bare_vm = ioctl(kvm, KVM_CREATE_VM, 0);
	EXPECT(t->bare_vm >= 0);
	close(kvm);
	pthread_rwlock_unlock(&fork_lock);
	t->has_vm = true;
}

void vm_file_gone(struct thread *t, struct file *f)
{
	for (struct slot *s = t->slots; s < t->slots + MAX_SLOTS; s++)
		if (s->used && s->file == f)
			s->file = NULL;
}

/* What answers to a binding: 0 or an errno. */
static int binding_error(struct thread *t, struct file *f, unsigned int first,
			 unsigned int nr, bool other_vm)
{
	for (struct slot *s = t->slots; s < t->slots + MAX_SLOTS; s++) {
		if (!s->used || s->file != f || s->mapped)
			continue;
		if (other_vm)
			return EBUSY;
		if (first < s->first + s->nr && s->first < first + nr)
			return EEXIST;
	}
	return first + nr > f->nr_pages ? EINVAL : 0;
}

static int set_mapped_slot(struct thread *t, unsigned int i, const struct slot *s)
{
	struct kvm_userspace_memory_region region = {
		.slot = i + 1,
		.flags = s->logs_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = s->gpa,
		.memory_size = s->nr * PAGE,
		.userspace_addr = (uintptr_t)s->mapped,
	};

	return ioctl(t->vm.fd, KVM_SET_USER_MEMORY_REGION, &region) ? errno : 0;
}

/* A slot that names no file: any part of a mapping, whoever else has it. */
static void slot_by_address(struct thread *t, struct file *f, unsigned int i)
{
	const struct map *m = &f->maps[below(&t->rng, f->nr_maps)];
	unsigned int at = below(&t->rng, m->nr);
	struct slot *s = &t->slots[i];
	int err;

	*s = (struct slot) {
		.file = f, .first = m->first + at, .nr = 1 + below(&t->rng, m->nr - at),
		.gpa = (2 * i + 1) * 4 * GB + (m->first + at) % (GB / PAGE) * PAGE,
		.mapped = m->addr + at * PAGE,
	};
	if (one_in(&t->rng, 4))
		s->gpa += PAGE;
	TRACE(t, "file %ld: slot %ld is mapped, pages %ld+%ld, at %#lx", f - t->files, i,
	      s->first, s->nr, s->gpa);
	err = set_mapped_slot(t, i, s);
	AGREE(t, !err, "binding mapped pages %u+%u: errno %d", s->first, s->nr, err);
	s->used = true;
}

/* Such a slot moves, or its log of what the guest writes begins or ends. */
static void change_slot(struct thread *t, unsigned int i)
{
	struct slot *s = &t->slots[i], new = *s;
	int want = 0, err;

	if (one_in(&t->rng, 2))
		new.gpa ^= 2 * GB;
	else
		new.logs_dirty = !s->logs_dirty;
	for (unsigned int n = 0; s->file && new.logs_dirty && !want && n < s->nr; n++)
		want = out_of_reach(s->file, s->first + n) ? EOPNOTSUPP : 0;
	TRACE(t, "slot %ld goes to %#lx, logs %ld: %ld", i, new.gpa, new.logs_dirty, want);
	err = set_mapped_slot(t, i, &new);
	AGREE(t, err == want, "changing slot %u: errno %d, not %d", i, err, want);
	if (!err)
		*s = new;
}

void op_slot(struct thread *t)
{
	unsigned int i = below(&t->rng, MAX_SLOTS), first, nr;
	struct file *f = &t->files[below(&t->rng, MAX_FILES)];
	struct slot *s = &t->slots[i];
	int err, want;
	uint64_t gpa;

	if (!t->has_vm)
		return;
	if (s->used && s->mapped && one_in(&t->rng, 2)) {
		change_slot(t, i);
		return;
	}
	if (s->used && s->file && !one_in(&t->rng, 4))
		return;
	if (s->used) {
		TRACE(t, "delete slot %ld", i);
		AGREE(t, !vm_set_slot(t->vm.fd, i + 1, 0, s->gpa, 0, NULL, -1, 0),
		      "deleting slot %u: errno %d", i, errno);
		s->used = false;
		return;
	}
	if (!f->used || f->gone)
		return;
	if (f->flags & GMEMFD_CREATE_BIND_MAPPED && f->nr_maps && one_in(&t->rng, 2)) {
		slot_by_address(t, f, i);
		return;
	}
	if (f->fd < 0)
		return;
	/* Often next to another one of the file. */
	for (s = t->slots; s < t->slots + MAX_SLOTS && !(s->used && s->file); s++)
		;
	if (s < t->slots + MAX_SLOTS && one_in(&t->rng, 2) && s->file->fd >= 0 &&
	    s->first + s->nr < s->file->nr_pages) {
		f = s->file;
		first = s->first + s->nr;
		nr = 1 + below(&t->rng, f->nr_pages - first);
	} else {
		first = below(&t->rng, f->nr_pages);
		nr = 1 + below(&t->rng, f->nr_pages - first + one_in(&t->rng, 20));
		if (one_in(&t->rng, 2)) {
			first = first / REGION_PAGES * REGION_PAGES;
			nr = (nr + REGION_PAGES - 1) / REGION_PAGES * REGION_PAGES;
		}
	}
	s = &t->slots[i];
	gpa = (2 * i + 1) * 4 * GB + first % (GB / PAGE) * PAGE;
	if (one_in(&t->rng, 4))
		gpa += PAGE;
	if (one_in(&t->rng, 20)) {
		want = binding_error(t, f, first, nr, true);
		if (first + nr > f->nr_pages)
			want = EINVAL;
		TRACE(t, "file %ld: bind pages %ld+%ld to another VM: %ld", f - t->files,
		      first, nr, want);
		err = vm_set_slot(t->bare_vm, 1, 0, gpa, nr * PAGE, NULL, f->fd,
				  first * PAGE) ? errno : 0;
		AGREE(t, err == want, "binding to another VM: errno %d, not %d", err, want);
		if (!err)
			AGREE(t, !vm_set_slot(t->bare_vm, 1, 0, gpa, 0, NULL, -1, 0),
			      "deleting the other VM's slot: errno %d", errno);
		return;
	}
	want = first + nr > f->nr_pages ? EINVAL : binding_error(t, f, first, nr, false);
	TRACE(t, "file %ld: slot %ld is pages %ld+%ld at %#lx: %ld", f - t->files, i, first,
	      nr, gpa, want);
	err = vm_set_slot(t->vm.fd, i + 1, 0, gpa, nr * PAGE, NULL, f->fd,
			  first * PAGE) ? errno : 0;
	AGREE(t, err == want, "binding pages %u+%u: errno %d, not %d", first, nr, err, want);
	if (!err)
		*s = (struct slot) {
			.used = true, .file = f, .first = first, .nr = nr, .gpa = gpa,
		};
}

/* An access that KVM makes an exit of: finish the instruction, for the next. */
static void finish_mmio(struct vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	ioctl(vcpu->fd, KVM_RUN, 0);
	vcpu->run->immediate_exit = 0;
}

void guest_access(struct thread *t, struct slot *s, unsigned int page)
{
	struct vcpu *vcpu = &t->vm.vcpus[0];
	bool write = one_in(&t->rng, 2), ok;
	struct file *f = s->used ? s->file : NULL;
	uint64_t tag, gpa;
	unsigned int want;

	gpa = s->used ? s->gpa + (page - s->first) * PAGE :
			(2 * (s - t->slots) + 1) * 4 * GB;
	want = !s->used ? KVM_EXIT_MMIO : !f ? EFAULT :
	       model_touch_guest(f, page) ? 0 : ENOSPC;
	tag = write ? new_tag(t) : f ? f->tag[page] : 0;
	TRACE(t, "file %ld: the guest accesses page %ld by slot %ld, write %ld: %ld",
	      f ? f - t->files : -1L, page, s - t->slots, write, want);
	vcpu_prepare(vcpu, write ? guest_fill_page : guest_check_page, gpa, tag, 0);
	ok = vcpu_run(vcpu);
	if (!ok && !want)
		vcpu_print(vcpu);
	if (!want) {
		AGREE(t, ok, "guest: page %u: exit %d, errno %d", page,
		      vcpu->run->exit_reason, vcpu->error);
		AGREE(t, !vcpu->result, "guest: page %u differs in %lu words", page,
		      vcpu->result);
		if (write)
			f->tag[page] = tag;
		t->seen_by_guest[t->step % 16].file = f;
		t->seen_by_guest[t->step % 16].page = page;
		return;
	}
	AGREE(t, !ok, "guest: page %u can be reached, not %u", page, want);
	if (!s->used) {
		AGREE(t, !vcpu->error && vcpu->run->exit_reason == KVM_EXIT_MMIO,
		      "guest: no slot: exit %d, errno %d", vcpu->run->exit_reason,
		      vcpu->error);
		finish_mmio(vcpu);
		return;
	}
	AGREE(t, vcpu->error == (int)want && vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT,
	      "guest: page %u: exit %d, errno %d, not %d", page, vcpu->run->exit_reason,
	      vcpu->error, want);
}

void op_guest(struct thread *t)
{
	struct slot *s = &t->slots[below(&t->rng, MAX_SLOTS)];

	if (!t->has_vm || (!s->used && !one_in(&t->rng, 50)))
		return;
	guest_access(t, s, s->used && s->file ? pick_page(t, s->file, s->first, s->nr) :
					       s->first);
}

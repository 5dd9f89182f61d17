// SPDX-License-Identifier: GPL-2.0
/*
 * Whoever holds pages, and however: what becomes of conversion, of punching,
 * of closing the file, and of the holder.
 */
#define _GNU_SOURCE
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "lib.h"

#ifndef IORING_SETUP_NO_MMAP
#define IORING_SETUP_NO_MMAP	(1U << 14)
#endif

#define AREA	(8 * MB)		/* what is looked at of a file */
#define REGION	(4 * MB)		/* where in it the region with held pages is */
#define AT	(REGION + 20 * PAGE)	/* the held pages */
#define HELD	(2 * PAGE)
#define SEED	0x1234567ULL		/* what fill() writes in an area */
#define HELD_SEED (SEED + AT / 8)
#define NEW	0x7654321ULL		/* what a holder writes, if it does */

/*
 * A kind of reference.  All calls are made from one process, unless the kind
 * outlives_process: then take() may be called from a child, which exits.
 */
struct reference {
	void (*open)(void);	/* first of all */
	void (*take)(int fd, char *p);	/* HELD bytes at p, offset AT of the file */
	/* Keep nothing else of the file.  NULL: there is nothing else. */
	void (*leave)(void);
	/* What the holder sees.  NULL: it cannot look before the end. */
	void (*see)(char *buf);
	/* With what the holder saw in buf it returns true. */
	bool (*drop)(char *buf);
	bool outlives_process;
	bool writes;		/* drop() puts NEW in the memory */
};

/* vmsplice() into a pipe */

static int pipes[2];

static void open_pipe(void)
{
	EXPECT_EQ(pipe(pipes), 0);
}

static void close_pipe(void)
{
	close(pipes[0]);
	close(pipes[1]);
}

static void take_in_pipe(int fd, char *p)
{
	struct iovec iov = { p, HELD };

	(void)fd;
	EXPECT_EQ(vmsplice(pipes[1], &iov, 1, 0), HELD);
}

/* Look at what is in a pipe, and leave it there. */
static void peek_pipe(int from, char *buf)
{
	int other[2];

	EXPECT_EQ(pipe(other), 0);
	EXPECT_EQ(tee(from, other[1], HELD, 0), HELD);
	EXPECT_EQ(read(other[0], buf, HELD), HELD);
	close(other[0]);
	close(other[1]);
}

static void see_in_pipe(char *buf)
{
	peek_pipe(pipes[0], buf);
}

static bool drop_pipe(char *buf)
{
	(void)buf;
	close_pipe();
	return false;
}

static const struct reference by_pipe = {
	.open = open_pipe, .take = take_in_pipe, .see = see_in_pipe,
	.drop = drop_pipe, .outlives_process = true,
};

/* The same, and the pipe is on its way through a socket: no process has it. */

static int sockets[2];

static void open_sockets(void)
{
	EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
}

static bool drop_sockets(char *buf)
{
	(void)buf;
	close(sockets[0]);
	close(sockets[1]);
	return false;
}

static void send_fd(int sock, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { };
	struct iovec iov = { "", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	EXPECT_EQ(sendmsg(sock, &msg, 0), 1);
}

static int receive_fd(int sock, int flags)
{
	char control[CMSG_SPACE(sizeof(int))] = { }, c;
	struct iovec iov = { &c, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd;

	EXPECT_EQ(recvmsg(sock, &msg, flags), 1);
	EXPECT(CMSG_FIRSTHDR(&msg));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static void take_in_message(int fd, char *p)
{
	open_pipe();
	take_in_pipe(fd, p);
	send_fd(sockets[0], pipes[0]);
	close_pipe();
}

static void see_in_message(char *buf)
{
	int fd = receive_fd(sockets[1], MSG_PEEK);

	peek_pipe(fd, buf);
	close(fd);
}

static const struct reference by_sent_pipe = {
	.open = open_sockets, .take = take_in_message, .see = see_in_message,
	.drop = drop_sockets, .outlives_process = true,
};

/* splice() from a pipe to a socket: the pages themselves are queued there. */

static void take_in_socket(int fd, char *p)
{
	open_pipe();
	take_in_pipe(fd, p);
	EXPECT_EQ(splice(pipes[0], NULL, sockets[0], NULL, HELD, 0), HELD);
	close_pipe();
}

static void see_in_socket(char *buf)
{
	EXPECT_EQ(recv(sockets[1], buf, HELD, MSG_PEEK), HELD);
}

static const struct reference by_socket = {
	.open = open_sockets, .take = take_in_socket, .see = see_in_socket,
	.drop = drop_sockets, .outlives_process = true,
};

/* A buffer registered with io_uring */

static int ring;
static struct io_uring_params ring_params;
static struct io_uring_sqe *sqes;
static char *rings;
static char **buffer;		/* shared with who takes the reference */

static void open_ring(void)
{
	memset(&ring_params, 0, sizeof(ring_params));
	ring = syscall(__NR_io_uring_setup, 1, &ring_params);
	EXPECT(ring >= 0);
	rings = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		     IORING_OFF_SQ_RING);
	sqes = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		    IORING_OFF_SQES);
	buffer = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(rings != MAP_FAILED && sqes != MAP_FAILED && buffer != MAP_FAILED);
}

static void take_as_buffer(int fd, char *p)
{
	struct iovec iov = { p, HELD };

	(void)fd;
	*buffer = p;
	EXPECT_EQ(syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS,
			  &iov, 1), 0);
}

/* The ring writes its buffer to a pipe. */
static void see_buffer(char *buf)
{
	uint32_t *tail = (uint32_t *)(rings + ring_params.sq_off.tail);
	uint32_t *head = (uint32_t *)(rings + ring_params.cq_off.head);
	struct io_uring_cqe *cqe = (void *)(rings + ring_params.cq_off.cqes);

	open_pipe();
	sqes[0] = (struct io_uring_sqe) {
		.opcode = IORING_OP_WRITE_FIXED, .fd = pipes[1],
		.addr = (uintptr_t)*buffer, .len = HELD,
	};
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	EXPECT_EQ(syscall(__NR_io_uring_enter, ring, 1, 1,
			  IORING_ENTER_GETEVENTS, NULL, 0), 1);
	EXPECT_EQ(cqe[*head & (ring_params.cq_entries - 1)].res, HELD);
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	EXPECT_EQ(read(pipes[0], buf, HELD), HELD);
	close_pipe();
}

static bool drop_ring(char *buf)
{
	(void)buf;
	syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
	munmap(rings, PAGE);
	munmap(sqes, PAGE);
	munmap(buffer, PAGE);
	close(ring);
	return false;
}

static const struct reference by_io_uring_buffer = {
	.open = open_ring, .take = take_as_buffer, .see = see_buffer,
	.drop = drop_ring, .outlives_process = true,
};

/* The memory of a ring itself: its entries, 64 bytes each */

static void take_as_ring(int fd, char *p)
{
	struct io_uring_params params = { .flags = IORING_SETUP_NO_MMAP };

	(void)fd;
	rings = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	params.sq_off.resv2 = (uintptr_t)p;		/* user_addr, of late */
	params.cq_off.resv2 = (uintptr_t)rings;
	ring = syscall(__NR_io_uring_setup, HELD / 64, &params);
	EXPECT(ring >= 0);
}

/* The pages go when a worker of the kernel has taken the ring down. */
static bool drop_ring_memory(char *buf)
{
	(void)buf;
	munmap(rings, 4 * PAGE);
	close(ring);
	return false;
}

static const struct reference by_io_uring_entries = {
	.take = take_as_ring, .drop = drop_ring_memory,
};

/*
 * A gate: who accesses its pages sleeps, in the kernel or not, with what it has
 * locked and pinned, until the gate opens.
 */

static int gate_fd;
static char *gate;
static pthread_t at_gate;

static void shut_gate(void *(*knock)(void *), void *arg)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range.len = HELD, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffd_msg msg;

	gate_fd = syscall(__NR_userfaultfd, O_CLOEXEC);
	EXPECT(gate_fd >= 0);
	EXPECT_EQ(ioctl(gate_fd, UFFDIO_API, &api), 0);
	gate = mmap(NULL, HELD, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uintptr_t)gate;
	EXPECT_EQ(ioctl(gate_fd, UFFDIO_REGISTER, &reg), 0);
	EXPECT_EQ(pthread_create(&at_gate, NULL, knock, arg), 0);
	EXPECT_EQ(read(gate_fd, &msg, sizeof(msg)), sizeof(msg));
	EXPECT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
}

/* What the one at the gate finds is NEW. */
static void open_gate(void)
{
	static char new[HELD] __attribute__((aligned(PAGE)));
	struct uffdio_copy copy = {
		.dst = (uintptr_t)gate, .src = (uintptr_t)new, .len = HELD,
	};
	void *done;

	fill(new, HELD, NEW);
	EXPECT_EQ(ioctl(gate_fd, UFFDIO_COPY, &copy), 0);
	EXPECT_EQ(pthread_join(at_gate, &done), 0);
	EXPECT_EQ((long)done, HELD);
}

static void remove_gate(void)
{
	munmap(gate, HELD);
	close(gate_fd);
}

/* process_vm_readv() and _writev(), which pin the pages they copy */

static void *copy_from(void *p)
{
	struct iovec local = { gate, HELD }, remote = { p, HELD };

	return (void *)process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

static void take_copying_from(int fd, char *p)
{
	(void)fd;
	shut_gate(copy_from, p);
}

static bool drop_copying_from(char *buf)
{
	open_gate();
	memcpy(buf, gate, HELD);
	remove_gate();
	return true;
}

static const struct reference by_process_vm_readv = {
	.take = take_copying_from, .drop = drop_copying_from,
};

static void *copy_to(void *p)
{
	struct iovec local = { gate, HELD }, remote = { p, HELD };

	return (void *)process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
}

static void take_copying_to(int fd, char *p)
{
	(void)fd;
	shut_gate(copy_to, p);
}

static bool drop_copying_to(char *buf)
{
	(void)buf;
	open_gate();
	remove_gate();
	return false;
}

static const struct reference by_process_vm_writev = {
	.take = take_copying_to, .drop = drop_copying_to, .writes = true,
};

/*
 * O_DIRECT I/O in flight.  A loop device does one thing after the other, and
 * the first is a write that waits for the lock of the device's file, which a
 * write() at the gate holds.
 */

#define IO_AT	(256 * KB)	/* in the file; what comes first is elsewhere */

static aio_context_t aio;
static int disk, disk_file;
static char first_write[PAGE] __attribute__((aligned(PAGE)));

static void *lock_file(void *unused)
{
	(void)unused;
	return (void *)pwrite(disk_file, gate, HELD, 0);
}

static void submit(int op, void *buf, size_t size, uint64_t offset)
{
	struct iocb io = {
		.aio_lio_opcode = op, .aio_fildes = disk,
		.aio_buf = (uintptr_t)buf, .aio_nbytes = size,
		.aio_offset = offset,
	};
	struct iocb *list = &io;

	EXPECT_EQ(syscall(__NR_io_submit, aio, 1, &list), 1);
}

static void open_disk(void)
{
	char new[HELD];

	disk = open_loop_device(MB, &disk_file);
	fill(new, HELD, NEW);
	EXPECT_EQ(pwrite(disk_file, new, HELD, IO_AT), HELD);
	aio = 0;
	EXPECT_EQ(syscall(__NR_io_setup, 2, &aio), 0);
	shut_gate(lock_file, NULL);
	submit(IOCB_CMD_PWRITE, first_write, PAGE, 128 * KB);
}

static void take_by_write(int fd, char *p)
{
	(void)fd;
	submit(IOCB_CMD_PWRITE, p, HELD, IO_AT);
}

static void take_by_read(int fd, char *p)
{
	(void)fd;
	submit(IOCB_CMD_PREAD, p, HELD, IO_AT);
}

static void end_io(void)
{
	struct io_event events[2];

	open_gate();
	EXPECT_EQ(syscall(__NR_io_getevents, aio, 2, 2, events, NULL), 2);
	EXPECT_EQ(events[0].res + events[1].res, PAGE + HELD);
	EXPECT_EQ(syscall(__NR_io_destroy, aio), 0);
	remove_gate();
}

static bool drop_write(char *buf)
{
	end_io();
	EXPECT_EQ(pread(disk_file, buf, HELD, IO_AT), HELD);
	close(disk);
	close(disk_file);
	return true;
}

static bool drop_read(char *buf)
{
	(void)buf;
	end_io();
	close(disk);
	close(disk_file);
	return false;
}

static const struct reference by_o_direct_write = {
	.open = open_disk, .take = take_by_write, .drop = drop_write,
};

static const struct reference by_o_direct_read = {
	.open = open_disk, .take = take_by_read, .drop = drop_read, .writes = true,
};

/* Another process, which was sent the file and has a mapping of its own */

static pid_t other;

static void be_other(int sock)
{
	int fd = receive_fd(sock, 0);
	char *p = gmem_map(fd, 0, AREA), buf[HELD], c;

	EXPECT(holds(p, REGION, SEED));
	open_pipe();
	take_in_pipe(fd, p + AT);
	for (c = 'd'; c; ) {
		EXPECT_EQ(write(sock, &c, 1), 1);
		if (read(sock, &c, 1) != 1)
			c = 0;
		switch (c) {
		case 'l':
			munmap(p, AREA);
			close(fd);
			break;
		case 's':
			peek_pipe(pipes[0], buf);
			EXPECT_EQ(write(sock, buf, HELD), HELD);
			break;
		}
	}
}

static void tell_other(char what)
{
	char c;

	EXPECT_EQ(write(sockets[0], &what, 1), 1);
	EXPECT_EQ(read(sockets[0], &c, 1), 1);
	EXPECT_EQ(c, what);
}

static void open_other(void)
{
	open_sockets();
	other = fork();
	if (!other) {
		close(sockets[0]);
		be_other(sockets[1]);
		_exit(0);
	}
	close(sockets[1]);
}

static void take_by_other(int fd, char *p)
{
	char c;

	(void)p;
	send_fd(sockets[0], fd);
	EXPECT_EQ(read(sockets[0], &c, 1), 1);
}

static void other_leaves(void)
{
	tell_other('l');
}

static void see_by_other(char *buf)
{
	char c = 's';

	EXPECT_EQ(write(sockets[0], &c, 1), 1);
	EXPECT_EQ(recv(sockets[0], buf, HELD, MSG_WAITALL), HELD);
	EXPECT_EQ(read(sockets[0], &c, 1), 1);
}

static bool drop_other(char *buf)
{
	int status;

	(void)buf;
	close(sockets[0]);
	EXPECT_EQ(waitpid(other, &status, 0), other);
	EXPECT_EQ(status, 0);
	return false;
}

static const struct reference by_other_process = {
	.open = open_other, .take = take_by_other, .leave = other_leaves,
	.see = see_by_other, .drop = drop_other, .outlives_process = true,
};

/* What is held */

struct place {
	const char *name;
	size_t size, block;
	bool split;		/* in 4 KiB folios, as its first page is private */
};

static const struct place places[] = {
	{ "2 MiB folio, 2 MiB blocks", AREA, 2 * MB, false },
	{ "4 KiB folio, 2 MiB blocks", AREA, 2 * MB, true },
	{ "2 MiB folio, 1 GiB block", GB, GB, false },
	{ "4 KiB folio, 1 GiB block", GB, GB, true },
};

static uint64_t touch_pfn(const char *p)
{
	EXPECT(can_read(p));
	return pfn_of(p);
}

struct held {
	const struct reference *ref;
	const struct place *place;
	long available;			/* in the pool, before */
	uint64_t pfn;
	int fd;
	char *p;
};

static void hold(struct held *h)
{
	h->fd = gmem_create(h->place->size, h->place->block, GMEMFD_CREATE_INIT_SHARED);
	EXPECT(h->fd >= 0);
	h->p = gmem_map(h->fd, 0, AREA);
	fill(h->p, AREA, SEED);
	if (h->place->split)
		EXPECT_EQ(gmem_convert(h->fd, REGION, PAGE, true), 0);
	h->pfn = touch_pfn(h->p + AT);
	h->ref->take(h->fd, h->p + AT);
}

static bool pool_lacks(const struct held *h, long blocks)
{
	return pool(h->place->block, "free_hugepages") == h->available - blocks;
}

/* A holder that cannot look by itself: the page frame is what it will see. */
static void expect_holder_sees(const struct held *h, uint64_t seed)
{
	char buf[HELD];

	if (h->ref->see)
		h->ref->see(buf);
	else
		EXPECT_EQ(read_kcore(h->pfn * PAGE, buf, HELD), HELD);
	EXPECT(seed ? holds(buf, HELD, seed) : is_zero(buf, HELD));
}

static void drop(const struct held *h, uint64_t seed)
{
	char buf[HELD];

	if (h->ref->drop(buf))
		EXPECT(seed ? holds(buf, HELD, seed) : is_zero(buf, HELD));
}

static bool intact(const struct held *h, uint64_t from, uint64_t to)
{
	return holds(h->p + from, to - from, SEED + from / 8);
}

static void expect_intact_but_held(const struct held *h, uint64_t seed)
{
	uint64_t first = h->place->split ? REGION + PAGE : 0;

	EXPECT(intact(h, 0, REGION));
	EXPECT(intact(h, first ?: REGION, AT));
	EXPECT(seed ? holds(h->p + AT, HELD, seed) : is_zero(h->p + AT, HELD));
	EXPECT(intact(h, AT + HELD, AREA));
}

/* Refused, because of the page at culprit, and nothing has changed. */
static void expect_refused(const struct held *h, uint64_t from, uint64_t to,
			   uint64_t culprit)
{
	struct gmemfd_range before[16] = { }, after[16] = { };
	uint64_t at = 0;

	gmem_ranges(h->fd, h->place->size, before, 16);
	EXPECT_ERR(gmem_convert_at(h->fd, from, to - from, true, &at), EAGAIN);
	EXPECT_EQ(at, culprit);
	gmem_ranges(h->fd, h->place->size, after, 16);
	EXPECT(!memcmp(before, after, sizeof(before)));
	EXPECT(can_write(h->p + from));
	EXPECT_EQ(touch_pfn(h->p + AT), h->pfn);
}

static void convert(const struct held *h, uint64_t from, uint64_t to, bool private)
{
	EXPECT_EQ(gmem_convert(h->fd, from, to - from, private), 0);
	EXPECT_EQ(can_read(h->p + from), !private);
	EXPECT_EQ(can_read(h->p + to - PAGE), !private);
}

static void convert_held(struct held *h)
{
	bool split = h->place->split;
	uint64_t first = split ? AT : REGION;

	hold(h);
	expect_refused(h, 0, AREA, first);
	expect_refused(h, REGION - PAGE, AT + PAGE, first);
	expect_refused(h, AT, AT + PAGE, AT);
	expect_refused(h, AT + PAGE, AREA, AT + PAGE);
	expect_refused(h, AT - PAGE, AT + 5 * PAGE, split ? AT : AT - PAGE);
	expect_intact_but_held(h, HELD_SEED);
	EXPECT_EQ(smaps(h->p, "FilePmdMapped"), split ? AREA - 2 * MB : AREA);

	/* A page that nobody holds, in a folio that somebody does or does not. */
	if (split) {
		convert(h, AT + HELD, AT + 5 * PAGE, true);
		expect_refused(h, 0, AREA, AT);
		convert(h, AT + HELD, AT + 5 * PAGE, false);
	} else {
		expect_refused(h, REGION + MB, REGION + MB + PAGE, REGION + MB);
	}

	/* Others convert, to private and back. */
	convert(h, 0, REGION, true);
	convert(h, REGION + 2 * MB, AREA, true);
	convert(h, 0, REGION, false);
	convert(h, REGION + 3 * MB, AREA, false);
	convert(h, REGION + 2 * MB, REGION + 3 * MB, false);

	/* To shared beside what is held: its folios just cannot join yet. */
	if (split) {
		convert(h, REGION, REGION + PAGE, false);
		EXPECT_EQ(gmem_range(h->fd, REGION).folio_order, 0);
		expect_refused(h, 0, AREA, AT);
	}
	EXPECT_EQ(gmem_convert(h->fd, 0, AREA, false), 0);
	EXPECT(intact(h, 0, AREA));
	expect_holder_sees(h, HELD_SEED);

	drop(h, HELD_SEED);
	EXPECT(EVENTUALLY(!gmem_convert(h->fd, 0, AREA, true)));
	EXPECT(!can_read(h->p + AT));
	convert(h, 0, AREA, false);
	EXPECT_EQ(gmem_range(h->fd, 0).folio_order, 9);
	EXPECT_EQ(gmem_range(h->fd, 0).size, AREA < h->place->size ? AREA : h->place->size);
	expect_intact_but_held(h, h->ref->writes ? NEW : HELD_SEED);
	EXPECT_EQ(touch_pfn(h->p + AT), h->pfn);
}

/* The block of the held pages goes; they stay until they are let go. */
static void punch_held(struct held *h)
{
	size_t block = h->place->block, start = AT / block * block;
	bool alone = block == h->place->size;
	long blocks = h->place->size / block;

	hold(h);
	EXPECT(pool_lacks(h, blocks));
	EXPECT_EQ(gmem_punch(h->fd, start, block), 0);
	EXPECT(pool_lacks(h, blocks));
	EXPECT(!(gmem_range(h->fd, start).flags & GMEMFD_RANGE_ALLOCATED));
	EXPECT_EQ(gmem_state(h->fd, REGION), h->place->split);
	EXPECT_EQ(gmem_state(h->fd, AT), 0);
	/* Nobody holds a page of the hole, and nothing is there to be had. */
	EXPECT_EQ(gmem_convert(h->fd, start, block, true), 0);
	EXPECT_EQ(gmem_convert(h->fd, start, block, false), 0);
	EXPECT_ERR(gmem_allocate(h->fd, start, block), ENOSPC);
	EXPECT(!can_read(h->p + AT));
	if (!alone) {
		EXPECT(intact(h, 0, start));
		EXPECT(intact(h, start + block, AREA));
		EXPECT_EQ(gmem_punch(h->fd, 0, start), 0);
		blocks -= start / block;
	}
	EXPECT(pool_lacks(h, blocks));
	expect_holder_sees(h, HELD_SEED);

	drop(h, HELD_SEED);
	EXPECT(EVENTUALLY(pool_lacks(h, blocks - 1)));
	EXPECT(can_read(h->p + AT));
	EXPECT(is_zero(h->p + REGION, 2 * MB));
	EXPECT(pool_lacks(h, blocks));
}

/* Less than the block: the memory stays, zeroed, and the holder sees that. */
static void punch_page_held(struct held *h)
{
	hold(h);
	EXPECT_EQ(gmem_punch(h->fd, AT, HELD), 0);
	expect_holder_sees(h, 0);
	expect_intact_but_held(h, 0);
	EXPECT_EQ(touch_pfn(h->p + AT), h->pfn);
	expect_refused(h, 0, AREA, h->place->split ? AT : REGION);
	drop(h, 0);
	expect_intact_but_held(h, h->ref->writes ? NEW : 0);
	EXPECT(EVENTUALLY(!gmem_convert(h->fd, AT, HELD, true)));
	EXPECT_EQ(gmem_convert(h->fd, AT, HELD, false), 0);
	expect_intact_but_held(h, h->ref->writes ? NEW : 0);
}

static void close_held(struct held *h)
{
	hold(h);
	if (h->ref->leave)
		h->ref->leave();
	munmap(h->p, AREA);
	close(h->fd);
	h->p = NULL;
	EXPECT(EVENTUALLY(pool_lacks(h, 1)));
	expect_holder_sees(h, HELD_SEED);
	drop(h, HELD_SEED);
	EXPECT(EVENTUALLY(pool_lacks(h, 0)));
}

/* Who made the file is gone, and only the reference is left of it. */
static void exit_held(struct held *h)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		hold(h);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	if (h->ref->leave)
		h->ref->leave();
	EXPECT(EVENTUALLY(pool_lacks(h, 1)));
	/* The module has to stay, too. */
	EXPECT_ERR(module_unload("gmemfd"), EAGAIN);
	expect_holder_sees(h, HELD_SEED);
	drop(h, HELD_SEED);
	EXPECT(EVENTUALLY(pool_lacks(h, 0)));
}

static void in_all_places(const struct reference *ref, void (*fn)(struct held *))
{
	for (unsigned int i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct held h = { .ref = ref, .place = &places[i] };
		long resv = pool(places[i].block, "resv_hugepages");

		if (places[i].block == GB && !have_1g_blocks())
			continue;
		test_case(places[i].name);
		h.available = pool(places[i].block, "free_hugepages");
		if (ref->open)
			ref->open();
		fn(&h);
		if (h.p) {
			munmap(h.p, AREA);
			close(h.fd);
		}
		EXPECT(EVENTUALLY(pool_lacks(&h, 0)));
		EXPECT(EVENTUALLY(pool(places[i].block, "resv_hugepages") == resv));
	}
}

#define HELD_BY(kind)							\
	TEST(convert_held_by_##kind)					\
	{ in_all_places(&by_##kind, convert_held); }			\
	TEST(punch_held_by_##kind)					\
	{ in_all_places(&by_##kind, punch_held); }			\
	TEST(punch_page_held_by_##kind)					\
	{ in_all_places(&by_##kind, punch_page_held); }			\
	TEST(close_held_by_##kind)					\
	{ in_all_places(&by_##kind, close_held); }

#define HELD_BY_WHAT_OUTLIVES_PROCESS(kind)				\
	HELD_BY(kind)							\
	TEST(exit_held_by_##kind)					\
	{ in_all_places(&by_##kind, exit_held); }

HELD_BY_WHAT_OUTLIVES_PROCESS(pipe)
HELD_BY_WHAT_OUTLIVES_PROCESS(sent_pipe)
HELD_BY_WHAT_OUTLIVES_PROCESS(socket)
HELD_BY_WHAT_OUTLIVES_PROCESS(io_uring_buffer)
HELD_BY_WHAT_OUTLIVES_PROCESS(other_process)
HELD_BY(io_uring_entries)
HELD_BY(process_vm_readv)
HELD_BY(process_vm_writev)
HELD_BY(o_direct_write)
HELD_BY(o_direct_read)

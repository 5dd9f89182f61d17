/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model-based fuzzer: random operations on gmem files, and a model in user
 * space that says what each of them does.  Any difference is a failure.
 *
 *   main.c     rounds, threads, and the report of a difference
 *   model.c    what a file should be
 *   ops.c      operations on files that belong to one thread
 *   holders.c  references to pages: pipes, registered buffers
 *   short.c    references to pages that come and go while they are converted
 *   names.c    O_PATH fds and watches, which outlive their files
 *   mounts.c   files that have names in mounts, which outlive being open
 *   others.c   forked children and guests
 *   stop.c     children that are stopped, frozen and killed during calls
 *   shared.c   operations on a file that all threads use
 */
#ifndef _TESTS_FUZZ_H
#define _TESTS_FUZZ_H

#include <pthread.h>
#include <time.h>

#include "../lib.h"
#include "../kvm/vmm.h"

#define REGION_PAGES	512U
#define MAX_THREADS	8
#define MAX_FILES	12	/* of a thread, gone ones whose memory is held included */
#define MAX_MAPS	4	/* of a file */
#define MAX_CUTS	8	/* of a mapping */
#define MAX_PINS	12	/* of a thread */
#define MAX_SLOTS	6	/* of a VM, the guest's own apart */
#define MAX_PATHS	6	/* of a thread */
#define MAX_NOTIFIES	3	/* of a thread */
#define MAX_WATCHES	4	/* of one inotify fd */
#define PIN_PAGES	8
#define MAX_RANGES	48

/* splitmix64 */
struct rng {
	uint64_t state;
};

static inline uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static inline uint64_t rnd(struct rng *rng)
{
	return mix(rng->state += 0x9e3779b97f4a7c15ULL);
}

static inline unsigned int below(struct rng *rng, unsigned int n)
{
	return (rnd(rng) >> 33) % n;
}

static inline bool one_in(struct rng *rng, unsigned int n)
{
	return !below(rng, n);
}

/* Was a page punched, and not touched since?  A neighbour's fault may touch it. */
enum punched { KEPT, PUNCHED, PERHAPS };

struct block {
	bool allocated, broken;
	unsigned int private;		/* pages */
	unsigned int punched[3];	/* pages, by enum punched */
	uint64_t frame;			/* of its first page; 0 while unknown */
};

struct map {
	char *addr;
	unsigned int first, nr;
	unsigned int cuts[MAX_CUTS], nr_cuts;	/* pages with which a VMA begins */
};

/**
 * struct file - what a gmem file should be
 * @id: its number; slots are used again
 * @used: the slot is taken
 * @gone: closed for good, but held blocks are not home yet
 * @fd: and @fd2, a dup of it: -1 once closed
 * @of_mount: it has, or had, a name
 * @place: the mount it is in, if it has a name
 * @name: a number; 0: none
 * @away: blocks that have left while held
 * @pinned: pages of ours held, each time counted
 * @tag: contents of each page, see tagged_word()
 * @private: pages that are not shared
 * @secret: those of them that can be mapped
 * @pins: references to each page
 */
struct file {
	unsigned int id;
	bool used, gone;
	int fd, fd2, place;
	unsigned int name;
	bool of_mount;
	size_t size, block_size;
	uint64_t flags;
	unsigned int nr_pages, nr_blocks, block_pages;
	unsigned int allocated, away, pinned;
	int nr_maps;
	struct map maps[MAX_MAPS];

	struct block *blocks;
	uint64_t *tag;
	uint8_t *private, *secret, *punched, *pins;
	uint8_t *ready, *split;			/* by region */
	uint16_t *region_private, *region_secret, *region_pins;
	void *store;
	size_t store_size;
};

/* A block that has left its file while pages of it were held. */
struct away {
	struct file *file;	/* NULL: unused */
	unsigned int left;	/* references */
};

struct held {
	struct file *file;	/* NULL once its block is away */
	unsigned int page;
	struct away *away;
	uint64_t tag;		/* contents when it left */
};

enum pin_kind { UNUSED, PIPE, RING, CHILD };

struct holder {
	enum pin_kind kind;
	int pipe[2];
	int slot;		/* of the ring, or of the child's pipes */
	char *addr;
	unsigned int nr;
	struct held held[PIN_PAGES];
};

struct ring {
	int fd;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

struct child {
	pid_t pid;		/* 0: none */
	int to, from;
	bool in_cgroup, disturbed;
	struct file *file;
	struct map map;
};

/* An O_PATH fd. */
struct path {
	int fd;			/* 0: none */
	unsigned int file_id;
	struct file *file;	/* NULL: gone */
	size_t size;
	bool of_mount;
};

struct watch {
	int wd;			/* 0: none */
	unsigned int file_id;
	bool ended;		/* IN_IGNORED is to be read */
};

struct notify {
	int fd;			/* 0: none */
	struct watch watches[MAX_WATCHES];
};

/* Pages of a mapping that are held for moments. */
struct touched {
	char *addr;		/* of the first */
	unsigned int first, nr;
	const uint64_t *tag;	/* of the first; NULL: not known */
};

enum short_kind { VM_READ, SPLICE, FUTEX, SHORT_KINDS };

struct slot {
	bool used;
	struct file *file;	/* NULL: gone */
	unsigned int first, nr;
	uint64_t gpa;
	char *mapped;		/* it names no file, which was mapped here */
	bool logs_dirty;
};

#define TRACES	48

struct trace {
	uint64_t step;
	const char *fmt;
	long arg[6];
};

/* In memory that parent and children see. */
struct progress {
	uint64_t ops;		/* operations: calls and accesses with known results */
	unsigned int next;
	struct trace traces[TRACES];
	char *page;		/* a child's answer */
	/* For the comparison with the pools' counters, 2 MiB and 1 GiB. */
	long used[2], reserved[2];
	long passing;		/* refusals by references that were nobody's for long */
};

struct thread {
	int id;
	struct rng rng;
	uint64_t seed, step, tags;
	bool may_have_1g;
	struct progress *progress;
	struct file files[MAX_FILES];
	struct holder pins[MAX_PINS];
	struct away aways[MAX_PINS * PIN_PAGES];
	struct ring ring;
	unsigned int nr_files, nr_names;
	struct path paths[MAX_PATHS];
	struct notify notifies[MAX_NOTIFIES];
	struct child child;
	struct vm vm;
	bool has_vm;
	int bare_vm;
	struct slot slots[MAX_SLOTS];
	struct { struct file *file; unsigned int page; } seen_by_guest[16];
	int pipe[2], pagemap;
	timer_t timer;
	char *buf;
	pthread_t helper;
	/* shared.c */
	int shared_fd, shared_slot;
	char *shared_map;
	uint64_t *shared_tag;
	uint8_t *shared_private, *shared_secret, *shared_pins, *shared_touched;
	struct { struct holder holder; unsigned int first; } shared_holds[4];
};

/* main.c */
extern long pool_size[2];	/* huge pages of 2 MiB and of 1 GiB */
extern uint64_t max_secret_entry;	/* see struct gmemfd_info */
extern bool has_typed;		/* see kvm_has_typed() */
extern pthread_rwlock_t fork_lock;
bool without(const char *what);
_Noreturn void differ(struct thread *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void trace(struct thread *t, const char *fmt, long a, long b, long c, long d,
	   long e, long f);
#define TRACE_(t, fmt, a, b, c, d, e, f, ...)	\
	trace(t, fmt, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define TRACE(t, ...)	TRACE_(t, __VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define AGREE(t, cond, ...)						\
	do {								\
		if (!(cond))						\
			differ(t, __VA_ARGS__);				\
	} while (0)
void signals_start(struct thread *t, unsigned int usec, bool again);
void signals_stop(struct thread *t);

/* Memory that may be out of reach: false for SIGBUS. */
bool load_page(const char *p, char *buf);
bool store_page(char *p, uint64_t tag);
void page_fill(char *p, uint64_t tag);
bool page_is(const char *p, uint64_t tag);
uint64_t new_tag(struct thread *t);
unsigned int pick_page(struct thread *t, struct file *f, unsigned int first,
		       unsigned int nr);
void check_page(struct thread *t, const char *buf, uint64_t tag, const char *how,
		long page);

/* model.c */
uint64_t pick_flags(struct rng *rng);
bool small_shared(uint64_t flags);
bool is_refusal(int err);
uint64_t any_attributes(struct rng *rng, uint64_t flags);
uint64_t not_shared(struct rng *rng, uint64_t flags);
uint64_t attributes_of(const struct file *f, unsigned int page);
uint64_t other_attributes(struct thread *t, const struct file *f, unsigned int page);
bool out_of_reach(const struct file *f, unsigned int page);
int convert_range(int fd, const struct gmemfd_convert_range *range, uint64_t *timeout,
		  uint64_t *at);
struct gmemfd_range range_at(struct thread *t, struct file *f, unsigned int first,
			     unsigned int last);
void check_one_or_other(struct thread *t, struct file *f,
			const struct gmemfd_convert_range *range);
struct file *model_create(struct thread *t, int fd, size_t size, size_t block_size,
			  uint64_t flags);
struct block *block_of(struct file *f, unsigned int page);
bool model_touch(struct file *f, unsigned int page);
bool model_touch_guest(struct file *f, unsigned int page);
bool model_reference(struct file *f, unsigned int page);
bool model_allocate(struct file *f, unsigned int first, unsigned int last);
void model_punch(struct thread *t, struct file *f, unsigned int first,
		 unsigned int last);
long model_busy(struct file *f, const struct gmemfd_convert_range *ranges,
		unsigned int nr);
void model_break(struct file *f, const struct gmemfd_convert_range *ranges,
		 unsigned int nr);
void model_convert(struct file *f, const struct gmemfd_convert_range *ranges,
		   unsigned int nr);
void model_pin(struct file *f, struct held *held, unsigned int page);
void model_unpin(struct thread *t, struct held *held);
uint64_t held_tag(const struct held *held);
void model_release_file(struct thread *t, struct file *f);
void model_count(struct thread *t);
void check_ranges(struct thread *t, struct file *f, unsigned int first,
		  unsigned int last, unsigned int room);
void check_allocated(struct thread *t, struct file *f);
void check_totals(struct thread *t, struct file *f);

/* ops.c */
void own_op(struct thread *t);
void own_finish(struct thread *t);
struct file *pick_file(struct thread *t);
struct file *pick_mapped(struct thread *t);
void map_file(struct thread *t, struct file *f);
void pick_range(struct thread *t, struct file *f, unsigned int *first, unsigned int *nr);
void expect_conversion(struct thread *t, struct file *f,
		       const struct gmemfd_convert_range *ranges, unsigned int nr,
		       int ret, int err, uint64_t at, int busy_err);
void file_going(struct thread *t, struct file *f);
void file_put(struct thread *t, struct file *f);
int file_users(struct thread *t, struct file *f);

/* holders.c */
void ring_set_up(struct thread *t);
void ring_set(struct thread *t, int slot, void *addr, size_t size, bool want);
void ring_clear(struct thread *t, int slot);
void ring_read(struct thread *t, int slot, char *addr, char *buf);
void ring_write(struct thread *t, int slot, char *addr, char *buf);
unsigned int pipe_hold(struct thread *t, struct holder *h, char *addr,
		       unsigned int nr);
void let_go(struct thread *t, struct holder *h);
void pin_some(struct thread *t, struct file *f);
void op_pin(struct thread *t);
void op_unpin(struct thread *t);
void op_look_at_held(struct thread *t);
void op_unpin_while_waiting(struct thread *t);
void drop(struct thread *t, struct holder *h, bool check);
void pins_of_child_gone(struct thread *t);

/* short.c */
unsigned int hold_shortly(enum short_kind kind, const int *pipe,
			  const struct touched *pages, char *buf);
bool hold_often(struct rng *rng, const int *pipe, const struct touched *pages, char *buf,
		unsigned int times);
void op_convert_beside(struct thread *t);

/* names.c */
void op_path(struct thread *t);
void op_watch(struct thread *t);
void names_drop(struct thread *t, struct file *f);
void names_wait(struct thread *t, struct file *f);
void names_file_gone(struct thread *t, struct file *f);
void names_end(struct thread *t);

/* mounts.c */
void mounts_set_up(void);
bool mounts_empty(void);
void mounts_finish(void);
int create_unlinked(struct rng *rng, size_t size, size_t block_size, uint64_t *flags);
bool create_named(struct thread *t, size_t size, size_t block_size);
void remove_name(struct thread *t, struct file *f);
void op_name(struct thread *t);

/* others.c */
enum command { LOAD, STORE, HOLD, READ_HELD, HOLD_OFTEN, CONVERT, ALLOCATE, PUNCH };

struct request {
	enum command command;
	char *addr;
	uint64_t arg;
	unsigned int first, nr;	/* pages */
	struct gmemfd_convert convert;
};

struct answer {
	int ret, err;
	uint64_t error_offset, timeout;
};

void child_ask(struct thread *t, const struct request *rq);
void child_answer(struct thread *t, struct answer *answer);
void op_fork(struct thread *t);
void op_child(struct thread *t);
void child_access(struct thread *t, unsigned int page);
void child_end(struct thread *t);
void op_vm(struct thread *t);
void op_slot(struct thread *t);
void op_guest(struct thread *t);
void guest_access(struct thread *t, struct slot *s, unsigned int page);
void vm_end(struct thread *t);
void vm_file_gone(struct thread *t, struct file *f);
bool child_read_held(struct thread *t, int slot, char *buf);

/* stop.c */
long disturb(struct thread *t);
void op_stop_child(struct thread *t);
void stop_set_up(int nr);
void stop_finish(int nr);

/* shared.c */
void shared_create(uint64_t seed, int nr_threads, bool may_have_1g);
void shared_set_up(struct thread *t);
void shared_op(struct thread *t);
void shared_check(struct thread *t);
void shared_finish(struct thread *t);
void shared_count(long used[2], long reserved[2]);

#endif /* _TESTS_FUZZ_H */

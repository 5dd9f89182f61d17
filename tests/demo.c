// SPDX-License-Identifier: GPL-2.0
/*
 * A guided tour: a gmem file of 1 GiB blocks, step by step, with figures from
 * the running kernel and a map of the file; a Linux guest in one; and Debian's QEMU, which
 * is given a path.  Every line with a check mark has been verified; the first fact that
 * does not hold ends the tour, status 1.
 *
 *   demo [--plain]     no colours: also with NO_COLOR, or not on a terminal
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <sys/uio.h>
#include <time.h>

#include "kvm/linux_guest.h"
#include "kvm/vmm.h"
#include "vmm/run.h"

#define CELLS		64
#define MAX_RANGES	64
#define NOWHERE		UINT64_MAX
#define ROUNDS		64

/* One page, in the middle of a region, for steps 4 and 5. */
#define PAGE_AT		(100 * MB + 800 * KB)
/* A wide range with one page of it pinned, for steps 6 and 7. */
#define WIDE_AT		(512 * MB)
#define WIDE_SIZE	(16 * MB)
#define PIN_AT		(WIDE_AT + 9 * MB + 300 * KB)
#define PIN_FOLIO_AT	(WIDE_AT + 8 * MB)

#define RED	"\033[31m"
#define GREEN	"\033[32m"
#define BLUE	"\033[34m"
#define BOLD	"\033[1m"
#define NORMAL	"\033[0m"

static bool plain;
static int nr_facts;
static int gmem = -1;
/* Two, or one where the pool has no more. */
static int nr_blocks;
static uint64_t file_size;
static uint64_t pinned_at = NOWHERE;

/* Telling */

static const char *ink(const char *code)
{
	return plain ? "" : code;
}

static void step(int nr, const char *what)
{
	printf("\n%s▸ %d  %s%s\n", ink(BOLD), nr, what, ink(NORMAL));
}

#define note(fmt, ...)	printf("      " fmt "\n", ##__VA_ARGS__)

__attribute__((format(printf, 2, 3)))
static void fact(bool ok, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	nr_facts++;
	printf("    %s%s%s %s\n", ink(ok ? GREEN : RED), ok ? "✔" : "✘", ink(NORMAL), text);
	if (ok)
		return;
	printf("demo: fact %d does not hold: %s\n", nr_facts, text);
	exit(1);
}

/* The machine's counters */

struct counters {
	long free, resv;
	long direct[3];
};

static struct counters count(void)
{
	return (struct counters) {
		.free = pool(GB, "free_hugepages"),
		.resv = pool(GB, "resv_hugepages"),
		.direct = {
			meminfo("DirectMap4k"), meminfo("DirectMap2M"), meminfo("DirectMap1G"),
		},
	};
}

static bool same_direct_map(struct counters a, struct counters b)
{
	return !memcmp(a.direct, b.direct, sizeof(a.direct));
}

/* For direct_map_shift(), which may take a while: once for each is enough. */
static const char * const map_size[] = {
	[0] = "none", [12] = "4 KiB", [21] = "2 MiB", [30] = "1 GiB",
};

/*
 * What the kernel itself reads there: zeros where it maps nothing.  The dump
 * of its page tables passes over large entries that are not present.
 */
static const char *kernel_reads(uint64_t pfn, size_t size)
{
	static char buf[WIDE_SIZE];

	EXPECT_EQ(read_kcore(pfn * PAGE, buf, size), size);
	return buf;
}

/* The file's map */

enum { PRIVATE = 1, SHARED = 2, HOLE = 4, SECRET = 8 };

static int read_ranges(struct gmemfd_range *ranges)
{
	struct gmemfd_get_ranges get = {
		.end = file_size,
		.ranges = (uintptr_t)ranges,
		.nr_ranges = MAX_RANGES,
	};

	EXPECT_EQ(ioctl(gmem, GMEMFD_GET_RANGES, &get), 0);
	EXPECT_EQ(get.offset, file_size);
	return get.nr_ranges;
}

static const struct {
	const char *colour, *cell, *plain, *name;
} looks[] = {
	[PRIVATE]	   = { RED, "█", "#", "private" },
	[SHARED]	   = { GREEN, "█", "=", "shared" },
	[PRIVATE | SHARED] = { "\033[33m", "▓", "%", "both" },
	[HOLE]		   = { "\033[90m", "·", ".", "hole" },
	[SECRET]	   = { BLUE, "█", "s", "secret" },
	[SECRET | SHARED]  = { "\033[33m", "▓", "%", "both" },
};

static void draw_cell(int kinds, bool pinned)
{
	EXPECT(looks[kinds].name);	/* holes are whole blocks */
	printf("%s%s%s%s", ink(looks[kinds].colour), pinned ? ink("\033[7m") : "",
	       pinned ? "P" : plain ? looks[kinds].plain : looks[kinds].cell, ink(NORMAL));
}

static void draw_row(const struct gmemfd_range *ranges, int nr, uint64_t at,
		     uint64_t size)
{
	uint64_t cell = size / CELLS;
	unsigned int orders = 0;

	printf(at % GB ? "  %4lu MiB |" : "  %4lu GiB |", at / (at % GB ? MB : GB));
	for (uint64_t pos = at; pos < at + size; pos += cell) {
		int kinds = 0;

		for (const struct gmemfd_range *r = ranges; r < ranges + nr; r++) {
			if (r->offset >= pos + cell || pos >= r->offset + r->size)
				continue;
			if (!(r->flags & GMEMFD_RANGE_ALLOCATED)) {
				kinds |= HOLE;
				continue;
			}
			kinds |= r->flags & GMEMFD_RANGE_PRIVATE ? PRIVATE :
				 r->flags & GMEMFD_RANGE_SECRET ? SECRET : SHARED;
			orders |= 1U << r->folio_order;
		}
		draw_cell(kinds, pinned_at - pos < cell);
	}
	printf("| %s", !orders ? "hole" : orders & (orders - 1) ? "orders " : "order ");
	for (int order = 31; order >= 0; order--) {
		if (orders & 1U << order)
			printf("%d%s", order, orders & ((1U << order) - 1) ? "," : "");
	}
	printf("\n");
}

/* A row for each block, and one for each 2 MiB that are in 4 KiB folios. */
static void draw_map(void)
{
	struct gmemfd_range ranges[MAX_RANGES];
	int nr = read_ranges(ranges);
	uint64_t drawn = NOWHERE;

	for (uint64_t at = 0; at < file_size; at += GB)
		draw_row(ranges, nr, at, GB);
	for (const struct gmemfd_range *r = ranges; r < ranges + nr; r++) {
		uint64_t at = r->offset / (2 * MB) * (2 * MB);

		if (!(r->flags & GMEMFD_RANGE_ALLOCATED) || r->folio_order)
			continue;
		for (; at < r->offset + r->size; at += 2 * MB) {
			if (at != drawn)
				draw_row(ranges, nr, at, 2 * MB);
			drawn = at;
		}
	}
}

static void draw_legend(void)
{
	printf("%sgmemfd: guest memory that converts in place%s\n\n", ink(BOLD), ink(NORMAL));
	printf("the map: a block a row, 16 MiB a cell:  ");
	for (int kinds = PRIVATE; kinds <= SECRET; kinds++) {
		if (!looks[kinds].name)
			continue;
		draw_cell(kinds, false);
		printf(" %s  ", looks[kinds].name);
	}
	draw_cell(SHARED, true);
	printf(" pinned\n         below, a row for 2 MiB in 4 KiB folios, 32 KiB a cell\n");
}

/* The tour */

static struct counters tell_machine(void)
{
	struct counters c = count();

	note("pool of 1 GiB pages: %ld free, %ld reserved", c.free, c.resv);
	note("kernel's direct map: %ld kB by 4 KiB, %ld kB by 2 MiB, %ld kB by 1 GiB",
	     c.direct[0], c.direct[1], c.direct[2]);
	return c;
}

static void create(struct counters start)
{
	struct counters c;

	step(2, "A file on 1 GiB blocks, shared from the start");
	gmem = gmem_create(file_size, GB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT(gmem >= 0);
	c = count();
	fact(c.resv == start.resv + nr_blocks, "reserved in the pool: %ld", c.resv);
	fact(c.free == start.free, "not taken yet: %ld free", c.free);
	draw_map();
}

/* Returns the page frame of the file's start. */
static uint64_t touch(char *p, struct counters start)
{
	static const uint64_t places[] = { 0, PAGE_AT, 777 * MB, GB - PAGE };
	struct gmemfd_range ranges[MAX_RANGES];
	bool in_place = true, order_9 = true, read = true;
	struct counters c;
	size_t zeroed = 0;
	uint64_t pfn;
	int shift;

	step(3, "The first block is touched in a few places");
	fill(p, PAGE, 0);
	pfn = pfn_of(p);
	for (int i = 0; i < 4; i++) {
		fill(p + places[i], PAGE, i);
		in_place &= pfn_of(p + places[i]) == pfn + places[i] / PAGE;
		order_9 &= gmem_range(gmem, places[i]).folio_order == 9;
		read &= holds(kernel_reads(pfn + places[i] / PAGE, PAGE), PAGE, i);
	}
	for (int i = 0, nr = read_ranges(ranges); i < nr; i++)
		zeroed += ranges[i].flags & GMEMFD_RANGE_ZEROED ? ranges[i].size : 0;
	c = count();
	fact(c.free == start.free - 1 && c.resv == start.resv + nr_blocks - 1,
	     "one page has come from the pool: %ld free, %ld reserved", c.free, c.resv);
	fact(in_place && !(pfn % (GB / PAGE)),
	     "one piece of 1 GiB: offset 0 is page frame 0x%lx, the others follow", pfn);
	fact(zeroed == 8 * MB, "only what was touched has been zeroed: %lu MiB", zeroed / MB);
	fact(order_9 && smaps(p, "FilePmdMapped"), "folios of order 9, mapped by PMD");
	shift = direct_map_shift(pfn);
	fact(read && shift == 30, "the kernel maps the block by %s and can read it",
	     map_size[shift]);
	draw_map();
	return pfn;
}

static const char * const ways[] = {
	"pread() of /proc/self/mem", "process_vm_readv()", "write() to a pipe", "vmsplice()",
};

/* Have the kernel get at a page's contents. */
static ssize_t reach(int way, char *page)
{
	int mem = open("/proc/self/mem", O_RDONLY), fds[2];
	char buf[PAGE];
	struct iovec to = { buf, PAGE }, from = { page, PAGE };
	ssize_t ret = way == 0 ? pread(mem, buf, PAGE, (uintptr_t)page) :
		      way == 1 ? process_vm_readv(getpid(), &to, 1, &from, 1, 0) : 0;

	if (way >= 2) {
		EXPECT_EQ(pipe(fds), 0);
		ret = way == 2 ? write(fds[1], page, PAGE) : vmsplice(fds[1], &from, 1, 0);
		close(fds[0]);
		close(fds[1]);
	}
	close(mem);
	return ret;
}

static void make_page_private(char *p, uint64_t block_pfn)
{
	uint64_t pfn = block_pfn + PAGE_AT / PAGE;
	char *page = p + PAGE_AT;
	int own, before, behind, next;

	step(4, "One page becomes private");
	fill(page + PAGE, PAGE, 4);
	EXPECT_EQ(gmem_convert(gmem, PAGE_AT, PAGE, true), 0);
	fact(gmem_state(gmem, PAGE_AT) && !gmem_state(gmem, PAGE_AT - PAGE) &&
	     !gmem_state(gmem, PAGE_AT + PAGE),
	     "4 KiB at offset %lu KiB, and not the pages beside it", PAGE_AT / KB);
	fact(!can_read(page) && !can_write(page), "SIGBUS on read, SIGBUS on write");
	for (int way = 0; way < 4; way++) {
		ssize_t beside = reach(way, page + PAGE), ret = reach(way, page);
		int err = ret < 0 ? errno : 0;

		fact(beside == (ssize_t)PAGE && (err == EFAULT || err == EIO),
		     "%s: %s; of the page beside it: %zd bytes", ways[way],
		     ret < 0 ? strerrorname_np(err) : "no error", beside);
	}
	fact(is_zero(kernel_reads(pfn, PAGE), PAGE) &&
	     holds(kernel_reads(pfn + 1, PAGE), PAGE, 4),
	     "/proc/kcore: zeros; of the page beside it: the contents");
	fact(can_write(page - PAGE) && can_write(page + PAGE),
	     "the pages beside it can be read and written");
	own = direct_map_shift(pfn);
	before = direct_map_shift(pfn - 1);
	behind = direct_map_shift(pfn + 1);
	next = direct_map_shift(pfn + 512);
	fact(!own, "kernel mapping of page frame 0x%lx: %s", pfn, map_size[own]);
	fact(before == 12 && behind == 12 && next == 21,
	     "of the frames beside it: by %s, by %s; in the next region: by %s",
	     map_size[before], map_size[behind], map_size[next]);
	draw_map();
}

static void make_page_shared(char *p, uint64_t block_pfn, struct counters start)
{
	uint64_t pfn = block_pfn + PAGE_AT / PAGE;
	int shift;

	step(5, "And shared again");
	EXPECT_EQ(gmem_convert(gmem, PAGE_AT, PAGE, false), 0);
	fact(holds(p + PAGE_AT, PAGE, 1), "contents unchanged");
	fact(pfn_of(p + PAGE_AT) == pfn, "the same physical page: frame 0x%lx",
	     pfn_of(p + PAGE_AT));
	fact(gmem_range(gmem, PAGE_AT).folio_order == 9, "one folio of order 9 again");
	shift = direct_map_shift(pfn);
	fact(shift == 30 && holds(kernel_reads(pfn, PAGE), PAGE, 1),
	     "the kernel maps the block by %s again and can read the page", map_size[shift]);
	fact(same_direct_map(start, count()), "DirectMap4k, 2M, 1G as at the start");
	draw_map();
}

static void refuse_pinned(char *p, uint64_t block_pfn, struct pin *pin)
{
	struct gmemfd_range before[MAX_RANGES], after[MAX_RANGES];
	uint64_t at = 0;
	bool same;
	int nr, err;

	step(6, "A page in use is not taken away");
	fill(p + WIDE_AT, WIDE_SIZE, 6);
	pin_io_uring(pin, p + PIN_AT, PAGE);
	pinned_at = PIN_AT;
	note("an io_uring buffer pins 4 KiB at offset %lu KiB", PIN_AT / KB);

	nr = read_ranges(before);
	err = gmem_convert_at(gmem, WIDE_AT, WIDE_SIZE, true, &at) ? errno : 0;
	fact(err == EAGAIN, "%lu MiB from %lu MiB on, to private: %s", WIDE_SIZE / MB,
	     WIDE_AT / MB, err ? strerrorname_np(err) : "no error");
	fact(at == PIN_FOLIO_AT, "to blame: offset %lu MiB, the folio of the pinned page",
	     at / MB);
	fact(read_ranges(after) == nr && !memcmp(before, after, nr * sizeof(after[0])),
	     "states and folios are what they were: %d ranges", nr);
	/* Read first: the attempt has unmapped the range. */
	same = holds(p + WIDE_AT, WIDE_SIZE, 6);
	fact(same && pfn_of(p + WIDE_AT) == block_pfn + WIDE_AT / PAGE,
	     "so are the contents, and their place: frame 0x%lx", pfn_of(p + WIDE_AT));
	fact(holds(kernel_reads(block_pfn + WIDE_AT / PAGE, WIDE_SIZE), WIDE_SIZE, 6),
	     "the kernel can read all %lu MiB", WIDE_SIZE / MB);
	draw_map();
}

static void punch_pinned(struct pin *pin, struct counters start)
{
	struct gmemfd_range all;
	struct counters c;

	step(7, "The block leaves the file while the page is pinned");
	EXPECT_EQ(gmem_punch(gmem, 0, GB), 0);
	pinned_at = NOWHERE;
	all = gmem_range(gmem, 0);
	fact(all.size == file_size && !(all.flags & GMEMFD_RANGE_ALLOCATED), "punched, a hole");
	usleep(300000);		/* were it on its way home, it would have come */
	c = count();
	fact(c.free == start.free - 1, "not back in the pool: %ld free", c.free);
	draw_map();

	unpin(pin);
	(void)EVENTUALLY(pool(GB, "free_hugepages") == start.free);
	c = count();
	fact(c.free == start.free, "pin dropped, the page is home: %ld free", c.free);
	fact(c.resv == start.resv + nr_blocks, "reserved for the file again: %ld", c.resv);
	fact(same_direct_map(start, c), "DirectMap4k, 2M, 1G as at the start");
}

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

static void make_block_private(char *p)
{
	uint64_t at = (nr_blocks - 1) * GB, pfn;
	int same = 0, sigbus = 0, before = 0, after = 0;
	char *block = p + at;
	struct counters c;
	double ms;

	step(8, "A whole block becomes private");
	ms = now_ms();
	EXPECT_EQ(gmem_allocate(gmem, at, GB), 0);
	note("allocated and zeroed in %.0f ms", now_ms() - ms);
	fill(block, PAGE, 0);
	pfn = pfn_of(block);
	for (uint64_t i = 0; i < GB; i += 2 * MB) {
		fill(block + i, PAGE, i);
		before += holds(kernel_reads(pfn + i / PAGE, PAGE), PAGE, i);
	}
	draw_map();

	c = count();
	ms = now_ms();
	/* There and back, as the clock may tick but every 4 ms. */
	for (int i = 0; i < ROUNDS; i++) {
		EXPECT_EQ(gmem_convert(gmem, at, GB, true), 0);
		EXPECT_EQ(gmem_convert(gmem, at, GB, false), 0);
	}
	note("%lu pages convert in %.1f ms on average", GB / PAGE, (now_ms() - ms) / (2 * ROUNDS));
	for (uint64_t i = 0; i < GB; i += 2 * MB)
		same += holds(block + i, PAGE, i) && pfn_of(block + i) == pfn + i / PAGE;
	fact(same == 512, "%d times there and back: contents unchanged, in place", ROUNDS);

	EXPECT_EQ(gmem_convert(gmem, at, GB, true), 0);
	fact(gmem_state(gmem, at) && gmem_range(gmem, at).size == GB, "all of it private");
	for (uint64_t i = 0; i < GB; i += 2 * MB) {
		sigbus += !can_read(block + i);
		after += holds(kernel_reads(pfn + i / PAGE, PAGE), PAGE, i);
	}
	fact(sigbus == 512, "of its 512 regions give SIGBUS: %d", sigbus);
	fact(before == 512 && !after, "the kernel can read: %d, could before: %d", after, before);
	fact(same_direct_map(c, count()), "no mapping was split for it: 1 GiB went as one");
	draw_map();
}

/* Nothing is left of the file. */
static void all_is_home(struct counters start)
{
	struct counters c;

	(void)EVENTUALLY((c = count(), !memcmp(&start, &c, sizeof(c))));
	c = tell_machine();
	fact(c.free == start.free && c.resv == start.resv, "the pool as at the start");
	fact(same_direct_map(start, c), "DirectMap4k, 2M, 1G as at the start");
}

static void end(char *p, struct counters start)
{
	step(9, "The file is closed");
	munmap(p, file_size);
	close(gmem);
	all_is_home(start);
}

/* Second act */

#define CONVERSIONS	2000

/* The guest has shared a page with the host: read it, and answer. */
static uint32_t exchange(struct vm *vm, uint64_t at)
{
	char *page = vm->host + at;

	step(11, "The guest shares one page");
	fact(!strcmp(page, LINUX_QUESTION), "the host reads in it: \"%s\"", page);
	fact(!can_read(page - PAGE) && !can_read(page + PAGE),
	     "the pages beside it, of the same process: SIGBUS");
	strcpy(page, LINUX_ANSWER);
	note("the host writes into it: \"%s\"", LINUX_ANSWER);
	draw_map();
	return 1;
}

/* The guest has taken it back, contents and all. */
static uint32_t out_of_reach(struct vm *vm, uint64_t at)
{
	fact(!can_read(vm->host + at) && !can_write(vm->host + at),
	     "and back: SIGBUS for the host, while the guest reads the answer");
	for (int way = 0; way < 4; way++) {
		ssize_t ret = reach(way, vm->host + at);
		int err = ret < 0 ? errno : 0;

		fact(err == EFAULT || err == EIO, "%s: %s", ways[way],
		     ret < 0 ? strerrorname_np(err) : "no error");
	}
	return 1;
}

static uint32_t guest_asks(struct vm *vm, unsigned int nr, uint64_t a, uint64_t b,
			   uint64_t c)
{
	static uint64_t pages, faults;
	static long before;
	bool *done = vm->data;

	(void)b, (void)c;
	switch (nr) {
	case HC_LINUX_EXCHANGE:
		return exchange(vm, a);
	case HC_LINUX_OUT_OF_REACH:
		return out_of_reach(vm, a);
	case HC_LINUX_CONVERTING:
		step(12, "It converts pages of its memory, one by one");
		pages = kvm_stat(vm->fd, "pages_1g");
		faults = vm_faults(vm);
		before = vm->conversions;
		fact(pages == 1 && !kvm_stat(vm->fd, "pages_4k"),
		     "KVM maps it by %lu page of 1 GiB", pages);
		return 0;
	case HC_LINUX_CONVERTED:
		fact(vm->conversions - before == CONVERSIONS, "conversions: %ld",
		     vm->conversions - before);
		fact(kvm_stat(vm->fd, "pages_1g") == pages && !kvm_stat(vm->fd, "pages_4k"),
		     "the guest is still mapped by %lu page of 1 GiB", pages);
		fact(vm_faults(vm) == faults, "nested page faults meanwhile: %lu",
		     vm_faults(vm) - faults);
		return 0;
	case HC_LINUX_DONE:
		fact(!a, "the guest's own checks that failed: %lu", a);
		*done = true;
		return 0;
	}
	return -1;
}

/* See linux_boot(). */
static void guest_interrupted_twice(struct vm *vm)
{
	note("the emulator interrupted the guest twice: once more, from the act's beginning");
	vm_destroy(vm);
	close(gmem);
}

static void run_guest(struct counters start)
{
	bool done = false;
	struct vm vm;
	char append[64];

	printf("\n%sSecond act: a Linux guest runs from it%s\n", ink(BOLD), ink(NORMAL));
	step(10, "A file of one block, bound to a KVM memslot; Linux boots from it");
	file_size = GB;
	gmem = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT_EQ(gmem_allocate(gmem, 0, GB), 0);
	vm_create_empty(&vm, gmem, GB);
	vm.hypercall = guest_asks;
	vm.data = &done;
	note("its kernel is in %lu MiB that it shares, its processes are in private memory",
	     LINUX_SHARED / MB);
	snprintf(append, sizeof(append), "loglevel=3 convert=%d", CONVERSIONS / 2);
	if (!linux_boot(&vm, 1, append, true)) {
		guest_interrupted_twice(&vm);
		return run_guest(start);
	}
	fact(done, "the guest has powered off");
	draw_map();

	step(13, "VM and file are closed");
	vm_destroy(&vm);
	close(gmem);
	all_is_home(start);
}

/* Third act: one argument of a QEMU is changed */

#define WIDTH		96

static int differences(const struct qemu_args *a, const struct qemu_args *b)
{
	int nr = abs(a->n - b->n);

	for (int i = 0; i < a->n && i < b->n; i++)
		nr += !!strcmp(a->v[i], b->v[i]);
	return nr;
}

/* What is not in the other string, in the middle of this one. */
static void underline(const char *text, const char *other, int column)
{
	int start = 0, end = strlen(text), end_of_other = strlen(other);

	while (start < end && text[start] == other[start])
		start++;
	while (end > start && end_of_other > start && text[end - 1] == other[end_of_other - 1])
		end--, end_of_other--;
	printf("%*s%s", column + start, "", ink(GREEN));
	for (int i = start; i < end; i++)
		putchar('^');
	printf("%s\n", ink(NORMAL));
}

/* A command line; what another one has otherwise is underlined. */
static void print_command(const struct qemu_args *args, const struct qemu_args *other)
{
	int column = 0, nr;

	for (int i = 0; i < args->n; i += nr) {
		const char *value = i + 1 < args->n && args->v[i + 1][0] != '-' ?
				    args->v[i + 1] : NULL;
		char text[512];

		nr = value ? 2 : 1;
		snprintf(text, sizeof(text), !value ? "%s" : strchr(value, ' ') ? "%s '%s'" : "%s %s",
			 args->v[i], value);
		if (value && strcmp(value, other->v[i + 1])) {
			printf("%s\t%s\n", column ? "\n" : "", text);
			underline(value, other->v[i + 1], 8 + strlen(args->v[i]) + 1);
			column = 0;
			continue;
		}
		if (column + strlen(text) > WIDTH) {
			printf("\n");
			column = 0;
		}
		column += column ? printf(" %s", text) : 8 + printf(i ? "\t%s" : "      %s", text);
	}
	printf("\n");
}

static struct qemu *boot_qemu(const struct qemu_args *args)
{
	struct qemu *vm = qemu_start_guest(0, args, "quiet", 150);
	bool well = said(vm, "guest: all is well", 120);

	if (!well)
		show_console(vm);
	for (char *line = vm->said; (line = strstr(line, "guest: ")); ) {
		line += strlen("guest: ");
		note("| %.*s", (int)strcspn(line, "\r\n"), line);
	}
	fact(well, "the guest has booted, and finds its memory right");
	return vm;
}

/* Where QEMU has the guest's memory mapped. */
static uint64_t memory_of(struct qemu *vm, const char *path)
{
	char maps[32], line[512];
	unsigned long at = 0;
	FILE *f;

	snprintf(maps, sizeof(maps), "/proc/%d/maps", vm->pid);
	f = fopen(maps, "r");
	EXPECT(f);
	while (!at && fgets(line, sizeof(line), f)) {
		if (strstr(line, path))
			EXPECT_EQ(sscanf(line, "%lx", &at), 1);
	}
	fclose(f);
	EXPECT(at);
	return at;
}

static uint64_t pfn_in(struct qemu *vm, uint64_t at)
{
	uint64_t entry;
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", vm->pid);
	fd = open(path, O_RDONLY);
	EXPECT_EQ(pread(fd, &entry, 8, at / PAGE * 8), 8);
	close(fd);
	EXPECT(entry >> 63);
	return entry & ((1ULL << 55) - 1);
}

/* How many of the block's regions the kernel itself can read something in. */
static int regions_kernel_reads(uint64_t pfn)
{
	int nr = 0;

	for (uint64_t region = 0; region < 512; region++)
		nr += !is_zero(kernel_reads(pfn + region * 512, 512 * PAGE), 512 * PAGE);
	return nr;
}

/* Root's ways to a page of another process: bytes, or errno. */
static const char *reach_from_outside(pid_t pid, int way, uint64_t at)
{
	static char said[32], page[PAGE];
	struct iovec to = { page, PAGE }, from = { (void *)at, PAGE };
	ssize_t ret;
	int mem;

	if (way) {
		ret = process_vm_readv(pid, &to, 1, &from, 1, 0);
	} else {
		snprintf(said, sizeof(said), "/proc/%d/mem", pid);
		mem = open(said, O_RDONLY);
		ret = pread(mem, page, PAGE, at);
		close(mem);
	}
	if (ret < 0)
		return strerrorname_np(errno);
	snprintf(said, sizeof(said), "%zd bytes", ret);
	return said;
}

static void look_from_outside(struct qemu *vm, const char *path, bool secret)
{
	uint64_t at = memory_of(vm, path), pfn = pfn_in(vm, at);
	int regions = regions_kernel_reads(pfn & -(GB / PAGE)), times;
	unsigned long mib;

	times = times_in_kcore(vm, &mib);
	fact(secret ? !times : times > 1000,
	     "root reads /proc/kcore, %lu MiB: what only the guest has written is there %d times",
	     mib, times);
	fact(secret ? !regions : regions > 0,
	     "of the guest's 512 regions the kernel reads something in: %d", regions);
	for (int way = 0; way < 2; way++) {
		const char *said = reach_from_outside(vm->pid, way, at + 16 * MB);

		fact(strcmp(said, "4096 bytes") ? secret : !secret, "root, by %s of QEMU: %s",
		     way ? "process_vm_readv()" : "/proc/PID/mem", said);
	}
}

/* QEMU reads what its guest has as it always did. */
static void save_page(struct qemu *vm)
{
	static char page[PAGE];
	int fd;

	qmp_ok(vm, "{ \"execute\": \"pmemsave\", \"arguments\": "
		   "{ \"val\": 16777216, \"size\": 4096, \"filename\": \"/tmp/page\" } }");
	fd = open("/vmm/tmp/page", O_RDONLY);
	fact(read(fd, page, PAGE) == (ssize_t)PAGE && !is_zero(page, PAGE),
	     "QEMU itself reads it: a page is saved by its monitor");
	close(fd);
	unlink("/vmm/tmp/page");
}

static void end_qemu(struct qemu *vm, const char *path)
{
	tell_guest(vm, "check");
	fact(said(vm, "guest: ok memory is the same", 60), "the guest has its memory as it was");
	qmp_ok(vm, "{ \"execute\": \"quit\" }");
	qemu_end(vm, 0);
	/* QEMU leaves a file that it was given by name. */
	EXPECT_EQ(unlink(path), 0);
}

static void run_qemu(struct counters start)
{
	struct qemu_args args[2], command[2];
	struct qemu *vm;
	struct counters c;

	file_size = GB;
	printf("\n%sThird act: one argument of a QEMU is changed%s\n", ink(BOLD), ink(NORMAL));
	step(14, "Debian 13's QEMU, its guest's memory on hugetlbfs");
	for (int i = 0; i < 2; i++) {
		args[i] = qemu_machine(MICROVM, "1");
		qemu_memory(&args[i], "1G", i ? "/gmem/vm0" : "/huge/vm0");
		command[i] = qemu_command(0, &args[i], "quiet");
	}
	mount_hugetlbfs("huge", "1G");
	note("mount -t hugetlbfs -o pagesize=1G none /huge");
	print_command(&command[0], &command[1]);
	vm = boot_qemu(&args[0]);
	look_from_outside(vm, "huge/vm0", false);
	end_qemu(vm, "/vmm/huge/vm0");
	umount_memory("huge");

	step(15, "The same command, and the path is one of gmemfd's, secret from the start");
	mount_memory("gmem", "block=1G,state=secret");
	note("mount -t gmemfd -o block=1G,state=secret none /gmem");
	print_command(&command[1], &command[0]);
	fact(differences(&command[0], &command[1]) == 1, "arguments that are not as before: %d",
	     differences(&command[0], &command[1]));
	vm = boot_qemu(&args[1]);
	gmem = open("/vmm/gmem/vm0", O_RDWR);
	EXPECT(gmem >= 0);
	draw_map();
	close(gmem);
	c = count();
	fact(c.direct[2] == start.direct[2] - (long)(GB / KB) && c.direct[0] == start.direct[0],
	     "DirectMap1G is %ld kB, less by exactly the guest's block", c.direct[2]);
	look_from_outside(vm, "gmem/vm0", true);
	save_page(vm);
	end_qemu(vm, "/vmm/gmem/vm0");

	step(16, "QEMU has ended, and the file is removed");
	umount_memory("gmem");
	all_is_home(start);
}

int main(int argc, char **argv)
{
	const char *no_color = getenv("NO_COLOR");
	struct counters start;
	struct pin pin;
	uint64_t pfn;
	char *p;

	plain = (no_color && *no_color) || !isatty(1) ||
		(argc > 1 && !strcmp(argv[1], "--plain"));
	setvbuf(stdout, NULL, _IOLBF, 0);

	draw_legend();
	step(1, "The machine before");
	start = tell_machine();
	nr_blocks = start.free - start.resv < 2 ? 1 : 2;
	file_size = nr_blocks * GB;
	fact(start.free - start.resv >= nr_blocks, "enough for a file of %d GiB", nr_blocks);
	create(start);
	p = gmem_map(gmem, 0, file_size);
	pfn = touch(p, start);
	make_page_private(p, pfn);
	make_page_shared(p, pfn, start);
	refuse_pinned(p, pfn, &pin);
	punch_pinned(&pin, start);
	make_block_private(p);
	end(p, start);
	run_guest(start);
	run_qemu(start);
	printf("\n%sdemo: all %d facts hold%s\n", ink(BOLD), nr_facts, ink(NORMAL));
	return 0;
}

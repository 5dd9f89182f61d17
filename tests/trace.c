// SPDX-License-Identifier: GPL-2.0
/* The tracepoints: each has the right fields, and says nothing while it is off. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kvm/vmm.h"

#define TRACING	"/sys/kernel/tracing"
#define EVENTS	TRACING "/events/gmemfd/"

/* What was said when tracing stopped last. */
static char lines[2000][512];
static int nr_lines;

static void trace_clear(void)
{
	int fd = open(TRACING "/trace", O_WRONLY | O_TRUNC);

	EXPECT(fd >= 0);
	close(fd);
}

/* Trace one event, or all: "". */
static void trace_start(const char *event)
{
	char path[128];

	if (mount("tracefs", TRACING, "tracefs", 0, NULL) && errno != EBUSY)
		test_skip("no tracefs in this kernel");
	if (access(EVENTS, F_OK))
		test_skip("no trace events in this kernel");
	/* What is on becomes a jump, written into the module's text. */
	test_changes_direct_map();
	write_text(EVENTS "enable", "0");	/* if a test has failed before */
	trace_clear();
	snprintf(path, sizeof(path), EVENTS "%s%senable", event, *event ? "/" : "");
	write_text(path, "1");
}

/* Of each event its name and its fields are kept. */
static void trace_stop(void)
{
	char line[512];
	FILE *trace;

	write_text(EVENTS "enable", "0");
	trace = fopen(TRACING "/trace", "r");
	EXPECT(trace);
	nr_lines = 0;
	while (fgets(line, sizeof(line), trace)) {
		char *event = strstr(line, ": gmem_");

		if (*line == '#' || !event)
			continue;
		EXPECT(nr_lines < 2000);
		event[strcspn(event, "\n")] = 0;
		strcpy(lines[nr_lines++], event + 2);
	}
	fclose(trace);
}

static void trace_end(void)
{
	trace_clear();
	umount(TRACING);
}

/* The first event that begins with these words, and the number of those that do. */
static const char *find(const char *words, int *nr)
{
	const char *first = NULL;

	*nr = 0;
	for (int i = 0; i < nr_lines; i++) {
		if (strncmp(lines[i], words, strlen(words)))
			continue;
		first = first ?: lines[i];
		++*nr;
	}
	return first;
}

/* There was this very event, once. */
__attribute__((format(printf, 1, 2)))
static void expect_event(const char *fmt, ...)
{
	const char *hint;
	int nr = 0, like;
	char event[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(event, sizeof(event), fmt, args);
	va_end(args);
	for (int i = 0; i < nr_lines; i++)
		nr += !strcmp(lines[i], event);
	if (nr == 1)
		return;
	event[strcspn(event, ":") + 1] = 0;
	hint = find(event, &like);
	va_start(args, fmt);
	vsnprintf(event, sizeof(event), fmt, args);
	va_end(args);
	FAIL("%d times \"%s\"; %d of that name, first \"%s\"", nr, event, like, hint ?: "");
}

static unsigned long file_number(int fd)
{
	struct stat st;

	EXPECT_EQ(fstat(fd, &st), 0);
	return st.st_ino;
}

TEST(trace_faults_and_conversions)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 4 * MB);
	unsigned long file = file_number(fd), pfn;
	struct gmemfd_convert_range ranges[] = {
		{ 2 * MB, PAGE, GMEMFD_ATTRIBUTE_PRIVATE }, { 0, PAGE, 0 },
	};
	uint64_t offset, timeout = 20000000;
	struct pin pin;

	trace_start("");
	p[PAGE] = 1;
	pfn = pfn_of(p);
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	EXPECT(!can_read(p));
	p[5 * PAGE] = 1;
	pin_io_uring(&pin, p + 2 * PAGE, PAGE);
	EXPECT_ERR(gmem_convert_at(fd, PAGE, 2 * PAGE, true, &offset), EAGAIN);
	EXPECT_ERR(gmem_convert_wait(fd, PAGE, 3 * PAGE, &timeout, &offset), ETIMEDOUT);
	unpin(&pin);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * PAGE, true), 0);
	EXPECT_EQ(gmem_convert_ranges(fd, ranges, 2, &offset), 0);
	EXPECT_EQ(gmem_convert(fd, 0, 4 * MB, true), 0);
	trace_stop();

	expect_event("gmem_block_take: file %lu block 0 pfn 0x%lx order 9", file, pfn);
	expect_event("gmem_block_break: file %lu block 0 pfn 0x%lx order 9", file, pfn);
	expect_event("gmem_fault: file %lu offset 0x1000 state shared order 9 result 0", file);
	expect_event("gmem_convert: file %lu offset 0x0 size 0x1000 from shared to private "
		     "result 0 busy -1", file);
	expect_event("gmem_fault: file %lu offset 0x0 state private order 0 result -14", file);
	expect_event("gmem_fault: file %lu offset 0x5000 state shared order 0 result 0", file);
	expect_event("gmem_convert: file %lu offset 0x1000 size 0x2000 from unknown to private "
		     "result -11 busy 0x2000", file);
	expect_event("gmem_convert: file %lu offset 0x1000 size 0x3000 from unknown to private "
		     "result -110 busy 0x2000", file);
	expect_event("gmem_convert: file %lu offset 0x0 size 0x2000 from mixed to private "
		     "result 0 busy -1", file);
	expect_event("gmem_convert: file %lu offset 0x0 size 0x1000 from private to shared "
		     "result 0 busy -1", file);
	expect_event("gmem_convert: file %lu offset 0x200000 size 0x1000 from shared to private "
		     "result 0 busy -1", file);
	expect_event("gmem_convert: file %lu offset 0x0 size 0x400000 from mixed to private "
		     "result 0 busy -1", file);
	trace_end();
	munmap(p, 4 * MB);
	close(fd);
}

TEST(trace_secret_faults)
{
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_SECRET), device = gmem_device();
	char *p = gmem_map(fd, 0, 4 * MB);
	unsigned long file = file_number(fd);
	struct gmemfd_info info = {};

	EXPECT_EQ(ioctl(device, GMEMFD_GET_INFO, &info), 0);
	close(device);
	trace_start("");
	p[3 * PAGE] = 1;
	EXPECT_EQ(gmem_convert(fd, 2 * MB, PAGE, false), 0);
	EXPECT_EQ(gmem_convert_to(fd, 2 * MB, 2 * PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	p[PAGE] = 1;
	trace_stop();

	expect_event("gmem_fault: file %lu offset 0x3000 state secret order %d result 0", file,
		     info.max_secret_entry == 2 * MB ? 9 : 0);
	expect_event("gmem_convert: file %lu offset 0x200000 size 0x1000 from secret to shared "
		     "result 0 busy -1", file);
	expect_event("gmem_convert: file %lu offset 0x200000 size 0x2000 from mixed to secret "
		     "result 0 busy -1", file);
	expect_event("gmem_convert: file %lu offset 0x0 size 0x1000 from secret to private "
		     "result 0 busy -1", file);
	if (info.max_secret_entry == 2 * MB)
		expect_event("gmem_fault: file %lu offset 0x1000 state secret order 0 result 0",
			     file);
	trace_end();
	munmap(p, 4 * MB);
	close(fd);
}

/* The last put comes when the file, its inode and its mapping are gone. */
TEST(trace_way_home)
{
	long available = pool(2 * MB, "free_hugepages");
	int fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 4 * MB);
	unsigned long file = file_number(fd), pfn;
	struct pin small, large;
	int nr;

	memset(p, 1, 4 * MB);
	EXPECT_EQ(gmem_convert(fd, 2 * MB, PAGE, true), 0);
	p[2 * MB + 7 * PAGE] = 1;
	pfn = pfn_of(p + 2 * MB + 7 * PAGE) - 7;
	pin_io_uring(&small, p + 2 * MB + 7 * PAGE, PAGE);
	pin_io_uring(&large, p + 3 * PAGE, PAGE);

	trace_start("");
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	munmap(p, 4 * MB);
	close(fd);
	trace_stop();
	expect_event("gmem_folio_away: file %lu offset 0x207000 pfn 0x%lx order 0", file, pfn + 7);
	find("gmem_folio_away: ", &nr);
	EXPECT_EQ(nr, 2);
	find("gmem_folio_home: ", &nr);
	EXPECT_EQ(nr, 0);
	find("gmem_block_mend: ", &nr);
	EXPECT_EQ(nr, 0);

	trace_start("");
	unpin(&small);
	unpin(&large);
	EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == available));
	trace_stop();
	expect_event("gmem_folio_home: file %lu offset 0x207000 pfn 0x%lx order 0", file, pfn + 7);
	expect_event("gmem_block_mend: file %lu block 1 pfn 0x%lx order 9", file, pfn);
	expect_event("gmem_block_return: file %lu block 1 pfn 0x%lx order 9", file, pfn);
	for (int i = 0; i < nr_lines; i++) {
		unsigned long number, block, at;

		if (sscanf(lines[i], "gmem_folio_home: file %lu offset 0x0 pfn 0x%lx order 9",
			   &number, &at) == 2)
			EXPECT_EQ(number, file);
		else if (sscanf(lines[i], "gmem_block_return: file %lu block %lu",
				&number, &block) == 2)
			EXPECT(number == file && block < 2);
	}
	find("gmem_folio_home: ", &nr);
	EXPECT_EQ(nr, 2);
	find("gmem_block_return: ", &nr);
	EXPECT_EQ(nr, 2);
	trace_end();
}

/* Nothing was broken: there is nothing to mend. */
TEST(trace_block_that_stays_whole)
{
	int fd = gmem_create(2 * MB, 2 * MB, 0), nr;
	unsigned long file = file_number(fd), from, to;
	const char *take, *back;

	trace_start("");
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	trace_stop();
	EXPECT_EQ(nr_lines, 2);
	take = find("gmem_block_take: ", &nr);
	back = find("gmem_block_return: ", &nr);
	EXPECT(take && back);
	EXPECT_EQ(sscanf(take, "gmem_block_take: file %*u block 0 pfn 0x%lx order 9", &from), 1);
	EXPECT_EQ(sscanf(back, "gmem_block_return: file %*u block 0 pfn 0x%lx order 9", &to), 1);
	EXPECT_EQ(from, to);
	expect_event("gmem_block_take: file %lu block 0 pfn 0x%lx order 9", file, from);
	trace_end();
	close(fd);
}

/* As last_put_in_*, while the event of the last put is on. */
TEST(trace_last_put_anywhere)
{
	static const char *const contexts[] = {
		"hardirq", "softirq", "tasklet", "ipi", "rcu", "workqueue", "raw_spinlock",
		"irqs_off", "bh_off",
	};
	long available = pool(2 * MB, "free_hugepages");
	int dev = open_put_test();

	for (unsigned int i = 0; i < sizeof(contexts) / sizeof(*contexts); i++) {
		int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
		char *p = gmem_map(fd, 0, 2 * MB);
		unsigned long file = file_number(fd), pfn;

		test_case(contexts[i]);
		memset(p, 1, 2 * MB);
		EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
		p[7 * PAGE] = 1;
		pfn = pfn_of(p + 7 * PAGE);
		trace_start("gmem_folio_home");
		tell_put_test(dev, "hold %lx", (unsigned long)p + 7 * PAGE);
		munmap(p, 2 * MB);
		close(fd);
		tell_put_test(dev, "put %s", contexts[i]);
		EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == available));
		trace_stop();
		EXPECT_EQ(nr_lines, 1);
		expect_event("gmem_folio_home: file %lu offset 0x7000 pfn 0x%lx order 0", file,
			     pfn);
	}
	trace_end();
	close(dev);
}

TEST(trace_is_off)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED), nr;
	char *p = gmem_map(fd, 0, 2 * MB);

	/* One is on, and only that one speaks. */
	trace_start("gmem_convert");
	p[0] = 1;
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	EXPECT(!can_read(p));
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	trace_stop();
	EXPECT_EQ(nr_lines, 1);
	find("gmem_convert: ", &nr);
	EXPECT_EQ(nr, 1);

	/* None is. */
	trace_clear();
	p[PAGE] = 1;
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, false), 0);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
	EXPECT(!can_read(p));
	EXPECT_EQ(gmem_punch(fd, 0, 2 * MB), 0);
	munmap(p, 2 * MB);
	close(fd);
	trace_stop();
	EXPECT_EQ(nr_lines, 0);
	trace_end();
}

/* The module goes while its events are on, and comes again with events that are off. */
TEST(trace_beside_unloading)
{
	int fd;

	trace_start("");
	EXPECT_EQ(module_unload("gmemfd_put_test"), 0);
	EXPECT_EQ(module_unload("gmemfd"), 0);
	EXPECT(access(EVENTS, F_OK));
	EXPECT_EQ(module_load("gmemfd", ""), 0);
	EXPECT_EQ(module_load("gmemfd_put_test", ""), 0);
	EXPECT_EQ(read_long(EVENTS "enable"), 0);
	trace_start("");
	fd = gmem_create(2 * MB, 2 * MB, 0);
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, false), 0);
	trace_stop();
	expect_event("gmem_convert: file %lu offset 0x0 size 0x1000 from private to shared "
		     "result 0 busy -1", file_number(fd));
	close(fd);
	trace_end();
}

/* A slot's event, without what it is called: the addresses of VM and slot. */
static void slot_event(const char *name, unsigned long file, unsigned long offset,
		       unsigned long size, char *vm_and_slot)
{
	char tail[64], *at;
	int nr = 0;

	snprintf(tail, sizeof(tail), " offset 0x%lx size 0x%lx", offset, size);
	for (int i = 0; i < nr_lines; i++) {
		char head[64];

		snprintf(head, sizeof(head), "%s: file %lu kvm ", name, file);
		at = strstr(lines[i], tail);
		if (strncmp(lines[i], head, strlen(head)) || !at || strcmp(at, tail))
			continue;
		nr++;
		memcpy(vm_and_slot, lines[i] + strlen(head), at - lines[i] - strlen(head));
		vm_and_slot[at - lines[i] - strlen(head)] = 0;
	}
	if (nr != 1)
		FAIL("%d of %s, file %lu,%s", nr, name, file, tail);
}

TEST(kvm_trace_slots_and_faults)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} clock = {
		.head.nmsrs = 1,
		.entry = { .index = 0x4b564d01 /* MSR_KVM_SYSTEM_TIME */,
			   .data = (4 * MB + PAGE) | 1 },
	};
	char bound[3][128], unbound[3][128];
	unsigned long file, pfn;
	int kvm = kvm_device(), gmem;
	const char *take;
	struct vm vm;
	int nr;

	gmem = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	file = file_number(gmem);
	trace_start("");
	vm_create(&vm, gmem, 6 * MB, 1);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, GB, MB, NULL, gmem, 6 * MB), 0);
	EXPECT_EQ(guest_call(&vm, guest_load, 2 * MB + 3 * PAGE, 0, 0), 0);
	/* KVM looks the page up as soon as it has the address. */
	EXPECT_EQ(ioctl(vm.vcpus[0].fd, KVM_SET_MSRS, &clock), 1);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, 0, 0, NULL, gmem, 0), 0);
	/* The last close unbinds, and so does the end of a VM. */
	EXPECT_EQ(vm_set_slot(vm.fd, 2, 0, GB, 2 * MB, NULL, gmem, 6 * MB), 0);
	vm_destroy(&vm);
	close(gmem);
	trace_stop();

	slot_event("gmem_slot_bind", file, 0, 6 * MB, bound[0]);
	slot_event("gmem_slot_bind", file, 6 * MB, MB, bound[1]);
	slot_event("gmem_slot_bind", file, 6 * MB, 2 * MB, bound[2]);
	slot_event("gmem_slot_unbind", file, 0, 6 * MB, unbound[0]);
	slot_event("gmem_slot_unbind", file, 6 * MB, MB, unbound[1]);
	slot_event("gmem_slot_unbind", file, 6 * MB, 2 * MB, unbound[2]);
	for (int i = 0; i < 3; i++)
		EXPECT(!strcmp(bound[i], unbound[i]));

	take = NULL;
	for (int i = 0; i < nr_lines; i++) {
		if (sscanf(lines[i], "gmem_block_take: file %*u block 1 pfn 0x%lx", &pfn) == 1)
			take = lines[i];
	}
	EXPECT(take);
	expect_event("gmem_guest_fault: file %lu offset 0x203000 by guest pfn 0x%lx order 9 result 0",
		     file, pfn + 3);
	find("gmem_guest_fault: ", &nr);
	EXPECT(nr >= 1);
	if (kvm_reaches_secret()) {
		take = NULL;
		for (int i = 0; i < nr_lines; i++) {
			if (sscanf(lines[i], "gmem_block_take: file %*u block 2 pfn 0x%lx",
				   &pfn) == 1)
				take = lines[i];
		}
		EXPECT(take);
		expect_event("gmem_guest_fault: file %lu offset 0x401000 by kvm pfn 0x%lx order 9 result 0",
			     file, pfn + 1);
	}
	trace_end();
	close(kvm);
}

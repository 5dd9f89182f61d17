// SPDX-License-Identifier: GPL-2.0
/*
 * The host around it: cgroups and their limits, a pool that shrinks and grows,
 * surplus pages, ZONE_MOVABLE, memory that goes offline.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib.h"

/* Blocks that are out: what the host does must do for all of these. */

enum way { UNBROKEN, BROKEN, AWAY, NR_WAYS };

struct out {
	enum way way;
	size_t size;
	int fd;
	char *p;
	struct pin pin;
};

static void send_away(struct out *out)
{
	out->way = AWAY;
	pin_pipe(&out->pin, out->p, PAGE);
	EXPECT_EQ(gmem_punch(out->fd, 0, out->size), 0);
}

/* A file of one block, and that in use. */
static struct out take_out(size_t size, enum way way)
{
	struct out out = { .way = way, .size = size };

	out.fd = gmem_create(size, size, way == UNBROKEN ? 0 : GMEMFD_CREATE_INIT_SHARED);
	EXPECT(out.fd >= 0);
	out.p = gmem_map(out.fd, 0, size);
	if (way == UNBROKEN) {
		EXPECT_EQ(gmem_allocate(out.fd, 0, 2 * MB), 0);
		EXPECT_EQ(gmem_range(out.fd, 0).folio_order, size == GB ? 18 : 9);
		return out;
	}
	fill(out.p, MB, 3);
	EXPECT_EQ(gmem_convert(out.fd, MB, PAGE, true), 0);
	if (way == AWAY)
		send_away(&out);
	return out;
}

/* There is nothing in a block's way: it converts, and nothing is lost. */
static void expect_fine(struct out *out)
{
	if (out->way == AWAY) {
		EXPECT_EQ(gmem_range(out->fd, 0).flags, 0);
		return;
	}
	if (out->way == UNBROKEN) {
		EXPECT_EQ(gmem_range(out->fd, 0).folio_order, out->size == GB ? 18 : 9);
		return;
	}
	EXPECT(holds(out->p, MB, 3));
	EXPECT_EQ(gmem_convert(out->fd, 0, 2 * MB, true), 0);
	EXPECT(!can_read(out->p));
	EXPECT_EQ(gmem_range(out->fd, 0).folio_order, 9);
	EXPECT_EQ(gmem_convert(out->fd, 0, MB, false), 0);
	EXPECT(holds(out->p, MB, 3));
	EXPECT_EQ(gmem_range(out->fd, 0).folio_order, 0);
}

/* Of a broken block: that of its first page. */
static uint64_t block_pfn(const struct out *out)
{
	EXPECT(can_read(out->p));
	return pfn_of(out->p);
}

static void bring_home(struct out *out)
{
	char buf[PAGE];

	if (out->way == AWAY) {
		EXPECT_EQ(read(out->pin.pipe[0], buf, PAGE), (long)PAGE);
		EXPECT(holds(buf, PAGE, 3));
		unpin(&out->pin);
	}
	munmap(out->p, out->size);
	close(out->fd);
}

/* cgroups */

#define PARENT	"/sys/fs/cgroup/gmem"
#define CGROUP	PARENT "/vm"

static void make_cgroups(void)
{
	EXPECT(!mkdir(PARENT, 0755) || errno == EEXIST);
	write_text(PARENT "/cgroup.subtree_control", "+memory +hugetlb");
	EXPECT(!mkdir(CGROUP, 0755) || errno == EEXIST);
}

static void enter_cgroup(void)
{
	make_cgroups();
	write_text(CGROUP "/cgroup.procs", "0");
}

static void leave_cgroup(void)
{
	write_text("/sys/fs/cgroup/cgroup.procs", "0");
}

static void remove_cgroups(void)
{
	leave_cgroup();
	EXPECT(!rmdir(CGROUP) || errno == ENOENT);
	EXPECT_EQ(rmdir(PARENT), 0);
}

/* The number behind @key, or the file's first if there is none. */
static long cgroup_value(const char *cgroup, const char *name, const char *key)
{
	size_t len = key ? strlen(key) : 0;
	char path[128], word[64];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", cgroup, name);
	if (!key)
		return read_long(path);
	f = fopen(path, "r");
	EXPECT(f);
	while (value < 0 && fscanf(f, "%63s", word) == 1) {
		if (!strcmp(word, key))
			EXPECT_EQ(fscanf(f, "%ld", &value), 1);
		else if (!strncmp(word, key, len) && word[len] == '=')
			value = atol(word + len + 1);
	}
	fclose(f);
	return value;
}

static const char *hugetlb(size_t size, const char *what)
{
	static char name[64];

	snprintf(name, sizeof(name), "hugetlb.%s.%s", size == GB ? "1GB" : "2MB", what);
	return name;
}

static void set_limit(const char *name, long limit)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), CGROUP "/%s", name);
	snprintf(text, sizeof(text), "%ld", limit);
	write_text(path, limit < 0 ? "max" : text);
}

/* Before Linux 7.3 hugetlb forgets the nodes of its pages when a cgroup is removed. */
static bool nodes_forgotten;

static void expect_reserved(const char *cgroup, size_t size, long blocks)
{
	EXPECT_EQ(cgroup_value(cgroup, hugetlb(size, "rsvd.current"), NULL), blocks * size);
}

static void expect_charged(const char *cgroup, size_t size, long blocks)
{
	EXPECT_EQ(cgroup_value(cgroup, hugetlb(size, "current"), NULL), blocks * size);
	if (nodes_forgotten)
		return;
	EXPECT_EQ(cgroup_value(cgroup, hugetlb(size, "numa_stat"), "total"), blocks * size);
	/* The lab's machine has one node. */
	EXPECT_EQ(cgroup_value(cgroup, hugetlb(size, "numa_stat"), "N0"), blocks * size);
}

/* Cgroups that are removed, but that somebody still has a reference to. */
static long dying_cgroups(const char *controller)
{
	char key[64];

	snprintf(key, sizeof(key), "nr_dying_subsys_%s", controller);
	return cgroup_value("/sys/fs/cgroup", "cgroup.stat", key);
}

struct dying {
	long memory, hugetlb;
};

static struct dying dying(void)
{
	return (struct dying) { dying_cgroups("memory"), dying_cgroups("hugetlb") };
}

/*
 * Each CPU sets charges and new pages aside, and those hold their cgroup until
 * others take their place; in Linux 6.12 even a stock that is used up.
 */
static void displace_stocks(void)
{
	const size_t size = 64 * PAGE;
	int status;
	pid_t pid = fork();

	if (!pid) {
		EXPECT(!mkdir("/sys/fs/cgroup/other", 0755) || errno == EEXIST);
		write_text("/sys/fs/cgroup/other/cgroup.procs", "0");
		for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++) {
			run_on_cpu(cpu);
			EXPECT(mmap(NULL, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
				    -1, 0) != MAP_FAILED);
		}
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static void expect_none_dying(const struct dying *before)
{
	displace_stocks();
	EXPECT(EVENTUALLY(dying_cgroups("memory") <= before->memory));
	EXPECT(EVENTUALLY(dying_cgroups("hugetlb") <= before->hugetlb));
}

/* Removals are done one by one: none is stuck if one more gets through. */
static void expect_removals_go_on(void)
{
	struct dying before;

	EXPECT_EQ(mkdir("/sys/fs/cgroup/empty", 0755), 0);
	before = dying();
	EXPECT_EQ(rmdir("/sys/fs/cgroup/empty"), 0);
	expect_none_dying(&before);
}

static void for_each_way(void (*test)(size_t size, enum way way))
{
	for (enum way way = 0; way < NR_WAYS; way++) {
		test(2 * MB, way);
		if (have_1g_blocks())
			test(GB, way);
	}
}

static void charge(size_t size, enum way way)
{
	struct out out;

	enter_cgroup();
	expect_charged(CGROUP, size, 0);
	out = take_out(size, way);
	for (int i = 0; i < 2; i++) {
		expect_charged(CGROUP, size, 1);
		expect_charged(PARENT, size, 1);
		expect_reserved(CGROUP, size, 1);
		expect_fine(&out);
	}
	/* Converts to shared for the first time, and is broken for that. */
	if (way == UNBROKEN) {
		EXPECT_EQ(gmem_convert(out.fd, 0, PAGE, false), 0);
		expect_charged(CGROUP, size, 1);
	}
	bring_home(&out);
	EXPECT(EVENTUALLY(!cgroup_value(CGROUP, hugetlb(size, "current"), NULL)));
	expect_charged(CGROUP, size, 0);
	expect_charged(PARENT, size, 0);
	expect_reserved(PARENT, size, 0);
	remove_cgroups();
}

TEST(cgroup_is_charged)
{
	for_each_way(charge);
}

static void limit(size_t size, enum way way)
{
	struct out out;
	long events;
	int fd;
	char *p;

	enter_cgroup();
	set_limit(hugetlb(size, "max"), size);
	out = take_out(size, way);
	events = cgroup_value(CGROUP, hugetlb(size, "events"), "max");
	fd = gmem_create(size, size, GMEMFD_CREATE_INIT_SHARED);
	EXPECT(fd >= 0);
	p = gmem_map(fd, 0, size);

	EXPECT_ERR(gmem_allocate(fd, 0, size), ENOSPC);
	EXPECT(cgroup_value(CGROUP, hugetlb(size, "events"), "max") > events);
	EXPECT(!can_read(p));
	EXPECT(!can_write(p + MB));
	EXPECT(!(gmem_range(fd, 0).flags & GMEMFD_RANGE_ALLOCATED));
	expect_charged(CGROUP, size, 1);
	/* What is there is not the limit's business. */
	expect_fine(&out);

	set_limit(hugetlb(size, "max"), -1);
	EXPECT(can_read(p));
	fill(p, MB, 4);
	expect_charged(CGROUP, size, 2);
	expect_fine(&out);
	set_limit(hugetlb(size, "max"), 2 * size);
	EXPECT_EQ(gmem_punch(fd, 0, size), 0);
	expect_charged(CGROUP, size, 1);
	EXPECT(is_zero(p, MB));
	munmap(p, size);
	close(fd);
	bring_home(&out);
	EXPECT(EVENTUALLY(!cgroup_value(CGROUP, hugetlb(size, "current"), NULL)));
	expect_charged(CGROUP, size, 0);
	set_limit(hugetlb(size, "max"), -1);
	remove_cgroups();
}

TEST(cgroup_limit_is_enospc)
{
	for_each_way(limit);
}

/* The whole file is charged to who makes it, when it is made, and to nobody later. */
static void reservation(size_t size)
{
	long available = pool(size, "free_hugepages") - pool(size, "resv_hugepages");
	struct gmemfd_create create = {
		.size = available * size, .block_size = size,
	};
	int fd;
	char *p;

	enter_cgroup();
	set_limit(hugetlb(size, "rsvd.max"), size);
	EXPECT_ERR(ioctl(gmem_device(), GMEMFD_CREATE, &create), ENOMEM);
	expect_reserved(CGROUP, size, 0);
	EXPECT_EQ(pool(size, "free_hugepages") - pool(size, "resv_hugepages"), available);

	fd = gmem_create(size, size, GMEMFD_CREATE_INIT_SHARED);
	expect_reserved(CGROUP, size, 1);
	expect_charged(CGROUP, size, 0);
	create.size = size;
	EXPECT_ERR(ioctl(gmem_device(), GMEMFD_CREATE, &create), ENOMEM);
	/* Who touches it needs no reservation of their own. */
	leave_cgroup();
	p = gmem_map(fd, 0, size);
	p[0] = 1;
	expect_reserved(CGROUP, size, 1);
	expect_charged(CGROUP, size, 0);
	EXPECT_EQ(gmem_punch(fd, 0, size), 0);
	expect_reserved(CGROUP, size, 1);
	munmap(p, size);
	close(fd);
	expect_reserved(CGROUP, size, 0);
	expect_reserved(PARENT, size, 0);
	remove_cgroups();
}

TEST(cgroup_limits_reservation)
{
	reservation(2 * MB);
	if (have_1g_blocks())
		reservation(GB);
}

/* The charge goes to the parent, and comes off it when the block is home. */
static void removed(size_t size, enum way way)
{
	struct dying before = dying();
	struct out out;

	enter_cgroup();
	out = take_out(size, way);
	leave_cgroup();
	EXPECT_EQ(rmdir(CGROUP), 0);
	nodes_forgotten = way == UNBROKEN && kernel_before(7, 3);
	expect_removals_go_on();
	expect_charged(PARENT, size, 1);
	expect_fine(&out);
	expect_charged(PARENT, size, 1);
	bring_home(&out);
	EXPECT(EVENTUALLY(!cgroup_value(PARENT, hugetlb(size, "current"), NULL)));
	expect_charged(PARENT, size, 0);
	nodes_forgotten = false;
	remove_cgroups();
	expect_none_dying(&before);
}

TEST(cgroup_removed_meanwhile)
{
	for_each_way(removed);
}

/* The parent goes as well, up to the root, which counts nothing. */
static void all_removed(size_t size, enum way way)
{
	struct dying before = dying();
	struct out out;

	enter_cgroup();
	out = take_out(size, way);
	remove_cgroups();
	expect_removals_go_on();
	expect_fine(&out);
	bring_home(&out);
	expect_none_dying(&before);
}

TEST(cgroup_and_parent_removed_meanwhile)
{
	for_each_way(all_removed);
}

/* memcg counts huge pages where the mount says so; back to what it was. */
static void account_hugetlb(bool on)
{
	EXPECT_EQ(mount(NULL, "/sys/fs/cgroup", "cgroup2", MS_REMOUNT,
			on ? "memory_hugetlb_accounting" : NULL), 0);
}

/* -1 before Linux 6.13. */
static long huge(const char *cgroup)
{
	return cgroup_value(cgroup, "memory.stat", "hugetlb");
}

static bool has_huge(const char *cgroup, size_t size)
{
	return huge(cgroup) > 0 || cgroup_value(cgroup, hugetlb(size, "current"), NULL);
}

/*
 * @blocks of them are charged.  memory.current counts what else there is, and
 * per-CPU stocks: up to @slack.
 */
static void expect_memory(const char *cgroup, size_t size, long blocks, long others)
{
	const long slack = MB - 1;
	long now = cgroup_value(cgroup, "memory.current", NULL) - others;

	if (!kernel_before(6, 13))
		EXPECT_EQ(huge(cgroup), blocks * size);
	if (now < blocks * (long)size - slack || now > blocks * (long)size + slack)
		FAIL("%s: memory.current is %ld KiB more than before, for %ld blocks",
		     cgroup, now / 1024, blocks);
}

static void memory_charge(size_t size, enum way way)
{
	struct out out;
	long others;

	account_hugetlb(true);
	enter_cgroup();
	others = cgroup_value(CGROUP, "memory.current", NULL);
	out = take_out(size, way);
	for (int i = 0; i < 3; i++) {
		expect_memory(CGROUP, size, 1, others);
		expect_memory(PARENT, size, 1, others);
		expect_fine(&out);
	}
	leave_cgroup();		/* the charge stays where it was made */
	expect_memory(CGROUP, size, 1, others);
	if (way != AWAY) {
		EXPECT_EQ(gmem_convert(out.fd, 0, size, false), 0);
		expect_memory(CGROUP, size, 1, others);
		EXPECT_EQ(gmem_punch(out.fd, PAGE, PAGE), 0);
		expect_memory(CGROUP, size, 1, others);
		EXPECT_EQ(gmem_punch(out.fd, 0, size), 0);
		expect_memory(CGROUP, size, 0, others);
		/* Whoever touches it has it charged; nobody here. */
		EXPECT(can_write(out.p));
		expect_memory(CGROUP, size, 0, others);
	}
	bring_home(&out);
	EXPECT(EVENTUALLY(!has_huge(CGROUP, size)));
	expect_memory(CGROUP, size, 0, others);
	expect_memory(PARENT, size, 0, others);
	remove_cgroups();
	account_hugetlb(false);
}

TEST(memcg_is_charged)
{
	for_each_way(memory_charge);
}

static void memory_limit(size_t size, enum way way)
{
	const size_t more = size == GB ? GB : 32 * MB, last = more - 2 * MB;
	struct out out;
	long failed;
	int fd;
	char *p;

	account_hugetlb(true);
	enter_cgroup();
	set_limit("memory.max", size + 18 * MB);
	out = take_out(size, way);
	fd = gmem_create(more, size, GMEMFD_CREATE_INIT_SHARED);
	EXPECT(fd >= 0);
	p = gmem_map(fd, 0, more);
	failed = cgroup_value(CGROUP, "memory.events", "max");
	EXPECT_ERR(gmem_allocate(fd, 0, more), ENOSPC);
	EXPECT(cgroup_value(CGROUP, "memory.events", "max") > failed);
	EXPECT(!(gmem_range(fd, last).flags & GMEMFD_RANGE_ALLOCATED));
	EXPECT(!can_read(p + last));
	EXPECT_EQ(cgroup_value(CGROUP, "memory.events", "oom_kill"), 0);
	expect_fine(&out);
	set_limit("memory.max", -1);
	EXPECT(can_read(p + last));
	munmap(p, more);
	close(fd);
	bring_home(&out);
	EXPECT(EVENTUALLY(!has_huge(CGROUP, size)));
	remove_cgroups();
	account_hugetlb(false);
}

TEST(memcg_limit_is_enospc)
{
	for_each_way(memory_limit);
}

/* Like its cgroup's other memory it belongs to the parent then. */
static void memory_removed(size_t size, enum way way)
{
	struct dying before;
	struct out out;
	long others;

	account_hugetlb(true);
	before = dying();
	enter_cgroup();
	others = cgroup_value(PARENT, "memory.current", NULL);
	out = take_out(size, way);
	leave_cgroup();
	EXPECT_EQ(rmdir(CGROUP), 0);
	for (int i = 0; i < 3; i++) {
		expect_memory(PARENT, size, 1, others);
		expect_fine(&out);
	}
	bring_home(&out);
	EXPECT(EVENTUALLY(!has_huge(PARENT, size)));
	expect_memory(PARENT, size, 0, others);
	remove_cgroups();
	expect_none_dying(&before);
	account_hugetlb(false);
}

TEST(memcg_removed_meanwhile)
{
	for_each_way(memory_removed);
}

/* The bookkeeping is the cgroup's kernel memory. */

/* Does nothing in the cgroup, with much memory: whom the OOM killer takes. */
static pid_t start_bystander(void)
{
	volatile bool *ready = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		mmap(NULL, 8 * MB, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		mlockall(MCL_CURRENT);
		write_text(CGROUP "/cgroup.procs", "0");
		*ready = true;
		for (;;)
			pause();
	}
	while (!*ready) {
		EXPECT_EQ(waitpid(pid, NULL, WNOHANG), 0);
		usleep(10000);
	}
	return pid;
}

enum call { CONVERT, PUNCH };

/* The call's errno from a process in the cgroup, or minus the signal. */
static int call_in_cgroup(enum call call, int fd)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		mlockall(MCL_CURRENT | MCL_FUTURE);
		write_text(CGROUP "/cgroup.procs", "0");
		errno = 0;
		if (call == CONVERT)
			gmem_convert(fd, PAGE, PAGE, true);
		else
			gmem_punch(fd, PAGE, PAGE);
		_exit(errno);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void no_bookkeeping(size_t size, enum call call)
{
	int fd = gmem_create(size, size, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, size);
	pid_t bystander;
	int status;

	fill(p, MB, 3);
	munmap(p, size);
	make_cgroups();
	set_limit("memory.max", 0);
	bystander = start_bystander();
	EXPECT_EQ(cgroup_value(CGROUP, "memory.events", "oom_kill"), 0);
	EXPECT_EQ(call_in_cgroup(call, fd), ENOMEM);
	EXPECT_EQ(waitpid(bystander, &status, WNOHANG), 0);
	EXPECT_EQ(cgroup_value(CGROUP, "memory.events", "oom_kill"), 0);
	EXPECT_EQ(gmem_range(fd, 0).size, 2 * MB);
	EXPECT_EQ(gmem_range(fd, 0).folio_order, 9);
	set_limit("memory.max", -1);
	EXPECT_EQ(call_in_cgroup(call, fd), 0);
	p = gmem_map(fd, 0, size);
	EXPECT(holds(p + 2 * PAGE, MB - 2 * PAGE, 3 + 2 * PAGE / 8));
	kill(bystander, SIGKILL);
	EXPECT_EQ(waitpid(bystander, &status, 0), bystander);
	munmap(p, size);
	close(fd);
	remove_cgroups();
}

TEST(memcg_limit_on_bookkeeping)
{
	no_bookkeeping(2 * MB, CONVERT);
	no_bookkeeping(2 * MB, PUNCH);
	if (!have_1g_blocks())
		return;
	no_bookkeeping(GB, CONVERT);
	no_bookkeeping(GB, PUNCH);
}

/* The hugetlb pools */

static void set_pool(size_t block, const char *key, long value)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/%s",
		 block / KB, key);
	snprintf(text, sizeof(text), "%ld", value);
	write_text(path, text);
}

/* Before Linux 7.3 a block is back a moment before its reservation is given up. */
#define expect_pool(block, nr, free, resv, surplus)			\
	do {								\
		size_t _b = (block);					\
		EVENTUALLY(pool(_b, "resv_hugepages") == (resv));	\
		EXPECT_EQ(pool(_b, "nr_hugepages"), (nr));		\
		EXPECT_EQ(pool(_b, "free_hugepages"), (free));		\
		EXPECT_EQ(pool(_b, "resv_hugepages"), (resv));		\
		EXPECT_EQ(pool(_b, "surplus_hugepages"), (surplus));	\
	} while (0)

static void restore_pool(size_t block, long nr)
{
	EXPECT(EVENTUALLY((set_pool(block, "nr_hugepages", nr),
			   pool(block, "nr_hugepages") == nr)));
}

/*
 * Linux 7.3 with HVO: the shared struct page of 1 GiB pages' tails has a
 * reference count of 1, and so have all struct pages that are made from it.
 * Such memory looks in use once it has left the pool, and never makes a 1 GiB
 * page again.  No gmemfd is needed for that.
 */
static bool gb_pages_can_go(void)
{
	/* And the debug kernel's allocations are soon all over the memory. */
	return !debug_kernel() && read_long("/proc/sys/vm/hugetlb_optimize_vmemmap") != 1;
}

/* Memory goes offline */

static bool set_online(uint64_t memory_block, bool online)
{
	char path[64];
	int fd, ret, err;

	snprintf(path, sizeof(path), "/sys/devices/system/memory/memory%llu/state",
		 (unsigned long long)memory_block);
	fd = open(path, O_WRONLY);
	EXPECT(fd >= 0);
	ret = online ? write(fd, "online", 6) : write(fd, "offline", 7);
	err = errno;
	close(fd);
	errno = err;
	return ret > 0;
}

/* Page frames in a memory block. */
static uint64_t memory_block_pages(void)
{
	FILE *f = fopen("/sys/devices/system/memory/block_size_bytes", "r");
	unsigned long long size = 0;

	EXPECT(f && fscanf(f, "%llx", &size) == 1);
	fclose(f);
	return size / PAGE;
}

/*
 * Have all of the 2 MiB pool for a moment, to find two memory blocks that
 * consist of it alone.  The last page in the first of them goes back last, and
 * what came home last is taken first.
 */
static uint64_t find_memory_blocks(uint64_t memory_block[2])
{
	const uint64_t pages = memory_block_pages();
	const long nr = pool(2 * MB, "nr_hugepages");
	uint64_t pfn[nr], last;
	struct out all[nr];
	int found = 0;

	for (long i = 0; i < nr; i++) {
		all[i] = take_out(2 * MB, BROKEN);
		pfn[i] = block_pfn(&all[i]);
	}
	for (long i = 0; i < nr && found < 2; i++) {
		uint64_t n = 0;

		memory_block[found] = pfn[i] / pages;
		for (long j = 0; j < nr; j++)
			n += pfn[j] / pages == memory_block[found];
		found += n == pages / 512 && (!found || memory_block[0] != memory_block[1]);
	}
	if (found < 2)
		test_skip("the pool is too scattered");
	last = (memory_block[0] + 1) * pages - 512;
	for (int round = 0; round < 2; round++)
		for (long i = 0; i < nr; i++)
			if ((pfn[i] == last) == round)
				bring_home(&all[i]);
	return last;
}

TEST(offline_is_refused)
{
	long nr = pool(2 * MB, "nr_hugepages"), full = memory_block_pages() / 512;
	uint64_t memory_block[2], pfn = find_memory_blocks(memory_block);

	for (enum way way = 0; way < NR_WAYS; way++) {
		struct out out = take_out(2 * MB, way == UNBROKEN ? UNBROKEN : BROKEN);

		if (way != UNBROKEN)
			EXPECT_EQ(block_pfn(&out), pfn);
		if (way == AWAY)
			send_away(&out);
		EXPECT(!set_online(memory_block[0], false));
		EXPECT_EQ(errno, EBUSY);
		/* And no free page of the pool is lost for the attempt. */
		expect_pool(2 * MB, nr, nr - 1, 0, 0);
		expect_fine(&out);
		if (way == AWAY) {	/* others can go */
			EXPECT(set_online(memory_block[1], false));
			expect_pool(2 * MB, nr - full, nr - full - 1, 0, 0);
			EXPECT(set_online(memory_block[1], true));
		}
		bring_home(&out);
		EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") ==
				  pool(2 * MB, "nr_hugepages")));
	}
	EXPECT(set_online(memory_block[0], false));
	expect_pool(2 * MB, nr - 2 * full, nr - 2 * full, 0, 0);
	EXPECT(set_online(memory_block[0], true));
	restore_pool(2 * MB, nr);
}

/*
 * Memory goes offline that has just been taken and is not known for ours yet: who
 * takes memory waits for hibernation to be over, here between the two.  Returns false if
 * the offliner was gone on before this CPU saw it, which happens on a busy host.
 */
static bool take_beside_offliner(int dev, const uint64_t *memory_block)
{
	long nr = pool(2 * MB, "nr_hugepages");
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED), snapshot, status, i;
	pid_t taker, offliner;
	bool inside;

	snapshot = open("/dev/snapshot", O_RDONLY | O_CLOEXEC);
	if (snapshot < 0)
		test_skip("no hibernation in this kernel");
	taker = fork();
	if (!taker) {
		run_on_cpu(0);
		close(snapshot);
		_exit(gmem_allocate(fd, 0, 2 * MB) != 0);
	}
	EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == nr - 1));
	run_on_cpu(0);
	delay_in_kernel(dev, "dissolve_free_hugetlb_folios");
	offliner = fork();
	if (!offliner) {
		run_on_cpu(1);
		close(snapshot);
		_exit(!set_online(memory_block[0], false));
	}
	EXPECT(EVENTUALLY(delayed(dev) != NOT_YET));
	inside = delayed(dev) == INSIDE;
	close(snapshot);

	/* It takes another one, and lets what goes offline go. */
	EXPECT_EQ(waitpid(taker, &status, 0), taker);
	EXPECT_EQ(status, 0);
	for (i = 0; i < 6 && !EVENTUALLY(waitpid(offliner, &status, WNOHANG) == offliner);)
		i++;
	if (i == 6) {
		kill(offliner, SIGKILL);
		FAIL("offlining stands still");
	}
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), pool(2 * MB, "nr_hugepages") - 1);
	close(fd);
	if (!status)
		EXPECT(set_online(memory_block[0], true));
	restore_pool(2 * MB, nr);
	return inside;
}

TEST(offline_beside_taking)
{
	int dev = open_put_test(), i;
	uint64_t memory_block[2];

	find_memory_blocks(memory_block);
	for (i = 0; i < 10 && !take_beside_offliner(dev, memory_block); i++)
		;
	EXPECT(i < 10);
}

/* All the memory blocks that a 1 GiB block is in. */
static void offline_1g(enum way way)
{
	struct out out = take_out(GB, BROKEN);
	uint64_t first = block_pfn(&out) / memory_block_pages();
	int nr = GB / PAGE / memory_block_pages();

	if (way == UNBROKEN) {
		bring_home(&out);
		out = take_out(GB, UNBROKEN);
	} else if (way == AWAY) {
		send_away(&out);
	}
	for (int i = 0; i < nr; i++) {
		EXPECT(!set_online(first + i, false));
		EXPECT_EQ(errno, EBUSY);
	}
	expect_pool(GB, 2, 1, 0, 0);
	expect_fine(&out);
	bring_home(&out);
	EXPECT(EVENTUALLY(pool(GB, "free_hugepages") == 2));
	if (!gb_pages_can_go())
		return;
	EXPECT(set_online(first + nr - 1, false));
	expect_pool(GB, 1, 1, 0, 0);
	EXPECT(set_online(first + nr - 1, true));
	restore_pool(GB, 2);
}

TEST(offline_is_refused_1g)
{
	need_1g_blocks();
	for (enum way way = 0; way < NR_WAYS; way++)
		offline_1g(way);
}

/* The pool changes while blocks are out */

static void for_each_pool(void (*test)(size_t size, enum way way))
{
	for (enum way way = 0; way < NR_WAYS; way++) {
		test(2 * MB, way);
		if (have_1g_blocks() && gb_pages_can_go())
			test(GB, way);
	}
}

static void shrink_and_grow(size_t size, enum way way)
{
	long nr = pool(size, "nr_hugepages");
	struct out out = take_out(size, way), other;

	expect_pool(size, nr, nr - 1, 0, 0);
	set_pool(size, "nr_hugepages", 0);
	expect_pool(size, 1, 0, 0, 1);
	expect_fine(&out);
	EXPECT_ERR(gmem_create(size, size, 0), ENOMEM);
	set_pool(size, "nr_hugepages", 1);
	expect_pool(size, 1, 0, 0, 0);
	restore_pool(size, nr);
	expect_pool(size, nr, nr - 1, 0, 0);
	expect_fine(&out);

	/* This time it comes home to a pool that has no place for it. */
	other = take_out(size, UNBROKEN);
	set_pool(size, "nr_hugepages", 0);
	expect_pool(size, 2, 0, 0, 2);
	bring_home(&out);
	EXPECT(EVENTUALLY(pool(size, "nr_hugepages") == 1));
	expect_pool(size, 1, 0, 0, 1);
	restore_pool(size, nr);
	expect_pool(size, nr, nr - 1, 0, 0);
	bring_home(&other);
	expect_pool(size, nr, nr, 0, 0);
}

TEST(pool_shrinks_and_grows)
{
	for_each_pool(shrink_and_grow);
}

/* A reservation is kept when the pool shrinks. */
TEST(pool_shrinks_to_reservations)
{
	long nr = pool(2 * MB, "nr_hugepages");
	int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 8 * MB);

	p[0] = 1;
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, true), 0);
	set_pool(2 * MB, "nr_hugepages", 0);
	expect_pool(2 * MB, 4, 3, 3, 4);
	for (int i = 0; i < 4; i++)
		p[i * 2 * MB] = 1;
	expect_pool(2 * MB, 4, 0, 0, 4);
	restore_pool(2 * MB, nr);
	expect_pool(2 * MB, nr, nr - 4, 0, 0);
	munmap(p, 8 * MB);
	close(fd);
}

/* Surplus pages */

/* Not of 1 GiB on Linux 6.12. */
static bool can_be_surplus(size_t size)
{
	char path[96];
	bool can;
	int f;

	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/hugepages/hugepages-%lukB/nr_overcommit_hugepages", size / KB);
	f = open(path, O_WRONLY);
	EXPECT(f >= 0);
	can = write(f, "0", 1) == 1;
	close(f);
	return can;
}

/* A file needs more than there is in the pool: the rest is surplus. */
static void surplus(size_t size, enum way way)
{
	long nr = pool(size, "nr_hugepages"), unused;
	struct out other, out;

	if (!can_be_surplus(size))
		return;
	other = take_out(size, UNBROKEN);
	set_pool(size, "nr_hugepages", 1);
	expect_pool(size, 1, 0, 0, 0);
	EXPECT_ERR(gmem_create(size, size, 0), ENOMEM);
	set_pool(size, "nr_overcommit_hugepages", 1);
	EXPECT_ERR(gmem_create(2 * size, size, 0), ENOMEM);
	expect_pool(size, 1, 0, 0, 0);
	out = take_out(size, way);
	expect_pool(size, 2, 0, 0, 1);
	expect_fine(&out);
	set_pool(size, "nr_overcommit_hugepages", 0);
	expect_fine(&out);
	unused = meminfo("MemFree");
	bring_home(&out);
	EXPECT(EVENTUALLY(pool(size, "nr_hugepages") == 1));
	expect_pool(size, 1, 0, 0, 0);
	if (size == GB)
		EXPECT(EVENTUALLY(meminfo("MemFree") - unused > 1000 * 1024));
	restore_pool(size, nr);
	bring_home(&other);
}

TEST(surplus_goes_back_to_buddy)
{
	for_each_pool(surplus);
}

/* A 1 GiB page is made into 2 MiB ones: one beside @out, then @out itself. */
static void demote(enum way way)
{
	long nr = pool(2 * MB, "nr_hugepages");
	struct out out = take_out(GB, way), small[NR_WAYS];

	EXPECT_EQ(pool(GB, "nr_hugepages"), 2);
	for (int round = 0; round < 2; round++) {
		set_pool(GB, "demote", 1);
		EXPECT_EQ(pool(GB, "nr_hugepages"), 1);
		expect_pool(2 * MB, nr + 512, nr + 512, 0, 0);
		/* None but the one that is out is left. */
		if (!round) {
			expect_fine(&out);
			set_pool(GB, "demote", 1);
			expect_pool(GB, 1, 0, 0, 0);
		}
		for (enum way i = 0; i < NR_WAYS; i++)
			small[i] = take_out(2 * MB, i);
		expect_pool(2 * MB, nr + 512, nr + 509, 0, 0);
		for (enum way i = 0; i < NR_WAYS; i++) {
			expect_fine(&small[i]);
			bring_home(&small[i]);
		}
		EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == nr + 512));
		set_pool(2 * MB, "nr_hugepages", 0);
		restore_pool(GB, 2);
		restore_pool(2 * MB, nr);
		if (!round) {
			expect_fine(&out);
			bring_home(&out);
			EXPECT(EVENTUALLY(pool(GB, "free_hugepages") == 2));
		}
	}
}

TEST(pool_is_demoted)
{
	need_1g_blocks();
	if (!gb_pages_can_go())
		test_skip("1 GiB pages would not come back");
	for (enum way way = 0; way < NR_WAYS; way++)
		demote(way);
}

/*
 * ZONE_MOVABLE is for what can be moved, and blocks cannot: they are pinned for
 * long, and private pages not even seen.  Needs a boot with 6G and
 * movablecore=3G, which puts all huge pages there.
 */

struct zone {
	uint64_t start, end;
};

static struct zone movable_zone(void)
{
	FILE *f = fopen("/proc/zoneinfo", "r");
	unsigned long long spanned = 0, start = 0;
	char line[256], name[16] = "";

	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "Node %*d, zone %15s", name);
		if (strcmp(name, "Movable"))
			continue;
		sscanf(line, " spanned %llu", &spanned);
		sscanf(line, " start_pfn: %llu", &start);
	}
	fclose(f);
	if (!spanned)
		test_skip("no ZONE_MOVABLE, boot with movablecore=");
	return (struct zone) { start, start + spanned };
}

/* Allocate what can be had of a file: none of it may be in the zone. */
static long allocate_outside(const struct zone *zone, int fd, size_t size, long blocks)
{
	long got = 0;

	for (long i = 0; i < blocks; i++) {
		char *p = gmem_map(fd, i * size, 2 * MB);
		uint64_t pfn;

		if (can_write(p)) {
			pfn = pfn_of(p);
			EXPECT(pfn < zone->start || pfn >= zone->end);
			got++;
		} else {
			EXPECT_ERR(gmem_allocate(fd, i * size, 2 * MB), ENOSPC);
		}
		munmap(p, 2 * MB);
	}
	return got;
}

static void movable_pool(size_t size)
{
	struct zone zone = movable_zone();
	int fd = gmem_create(2 * size, size, GMEMFD_CREATE_INIT_SHARED);
	long nr = pool(size, "nr_hugepages");
	struct pin pin;
	char *p;

	EXPECT(fd >= 0);
	EXPECT_EQ(allocate_outside(&zone, fd, size, 2), 0);
	expect_pool(size, nr, nr, 2, 0);
	if (!can_be_surplus(size)) {
		close(fd);
		return;
	}
	/* What may be had beyond the pool comes from elsewhere. */
	set_pool(size, "nr_overcommit_hugepages", 1);
	EXPECT_EQ(allocate_outside(&zone, fd, size, 2), 1);
	expect_pool(size, nr + 1, nr, 1, 1);
	p = gmem_map(fd, 0, 2 * MB);
	pin_io_uring(&pin, p, 2 * MB);
	EXPECT_ERR(gmem_convert(fd, 0, PAGE, true), EAGAIN);
	unpin(&pin);
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, true), 0);
	munmap(p, 2 * MB);
	close(fd);
	set_pool(size, "nr_overcommit_hugepages", 0);
	expect_pool(size, nr, nr, 0, 0);
}

TEST(movable_pool_is_not_used)
{
	movable_pool(2 * MB);
	if (have_1g_blocks())
		movable_pool(GB);
}

/* A pool with some pages in the zone and some not. */
TEST(movable_part_of_pool_is_not_used)
{
	struct zone zone = movable_zone();
	long nr = pool(2 * MB, "nr_hugepages"), got;
	int fd;

	/* Fills the zone first. */
	restore_pool(2 * MB, 600);
	fd = gmem_create(600 * 2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT(fd >= 0);
	got = allocate_outside(&zone, fd, 2 * MB, 600);
	EXPECT(got > 0 && got < 600);
	expect_pool(2 * MB, 600, 600 - got, 600 - got, 0);
	close(fd);
	set_pool(2 * MB, "nr_hugepages", 0);
	restore_pool(2 * MB, nr);
}

/* A page that a file's creation adds to the pool is one that it can use. */
TEST(movable_surplus_is_not_used)
{
	struct zone zone = movable_zone();
	long nr = pool(2 * MB, "nr_hugepages");
	int fd;

	set_pool(2 * MB, "nr_hugepages", 0);
	set_pool(2 * MB, "nr_overcommit_hugepages", 2);
	fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT(fd >= 0);
	EXPECT_EQ(allocate_outside(&zone, fd, 2 * MB, 2), 2);
	expect_pool(2 * MB, 2, 0, 0, 2);
	close(fd);
	expect_pool(2 * MB, 0, 0, 0, 0);
	set_pool(2 * MB, "nr_overcommit_hugepages", 0);
	restore_pool(2 * MB, nr);
}

/* There is a switch to have 1 GiB pages allocated in the zone. */
TEST(movable_gigantic_pages_are_not_used)
{
	struct zone zone = movable_zone();
	int fd;

	need_1g_blocks();
	if (!gb_pages_can_go())
		test_skip("1 GiB pages would not come back");
	if (access("/proc/sys/vm/movable_gigantic_pages", F_OK))
		test_skip("no such switch");
	write_text("/proc/sys/vm/movable_gigantic_pages", "1");
	set_pool(GB, "nr_hugepages", 1);
	set_pool(GB, "nr_overcommit_hugepages", 1);
	fd = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT(fd >= 0);
	EXPECT_EQ(allocate_outside(&zone, fd, GB, 1), 0);
	close(fd);
	expect_pool(GB, 1, 1, 0, 0);
	set_pool(GB, "nr_overcommit_hugepages", 0);
	restore_pool(GB, 2);
	write_text("/proc/sys/vm/movable_gigantic_pages", "0");
}

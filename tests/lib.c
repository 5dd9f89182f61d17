// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <ctype.h>
#include <elf.h>
#include <linux/io_uring.h>
#include <linux/loop.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

#include "lib.h"

#define SKIPPED	77

static struct test *tests, **tests_end = &tests;
static const char *current_test = "", *current_case;

void test_register(struct test *test)
{
	*tests_end = test;
	tests_end = &test->next;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	printf("# %s: %s:%d: ", current_test, file, line);
	if (current_case)
		printf("%s: ", current_case);
	errno = err;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

void test_case(const char *name)
{
	current_case = name;
}

void test_skip(const char *why)
{
	printf("# %s: %s\n", current_test, why);
	fflush(stdout);
	_exit(SKIPPED);
}

void test_bounded(void (*part)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		part();
		fflush(stdout);
		_exit(0);
	}
	/* Three times ten seconds: the debug kernel on a busy host is slow. */
	for (int i = 0; i < 3; i++) {
		if (!EVENTUALLY(waitpid(pid, &status, WNOHANG) == pid))
			continue;
		if (WIFEXITED(status) && WEXITSTATUS(status))
			_exit(WEXITSTATUS(status));	/* has said why */
		EXPECT_EQ(status, 0);
		return;
	}
	kill(pid, SIGKILL);
	FAIL("hangs");
}

/* Set by a test whose own doings change the direct map for good. */
static bool *direct_map_moves;

void test_changes_direct_map(void)
{
	*direct_map_moves = true;
}

/* The machine's counters */

static const char * const pool_keys[] = {
	"nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages",
};
static const char * const meminfo_keys[] = {
	"DirectMap4k", "DirectMap2M", "DirectMap1G",
};

struct counters {
	long pool[2][4];
	long meminfo[3];
};

static void read_counters(struct counters *c)
{
	for (int i = 0; i < 4; i++) {
		c->pool[0][i] = pool(2 * MB, pool_keys[i]);
		c->pool[1][i] = pool(GB, pool_keys[i]);
	}
	for (int i = 0; i < 3; i++)
		c->meminfo[i] = *direct_map_moves ? 0 : meminfo(meminfo_keys[i]);
}

static bool counters_differ(const struct counters *before, bool tell)
{
	struct counters now;

	read_counters(&now);
	if (*direct_map_moves ? !memcmp(before->pool, now.pool, sizeof(now.pool)) :
				!memcmp(before, &now, sizeof(now)))
		return false;
	for (int i = 0; tell && i < 8; i++)
		if (before->pool[i / 4][i % 4] != now.pool[i / 4][i % 4])
			printf("# %s: %s %s was %ld, is %ld\n", current_test,
			       i / 4 ? "1G" : "2M", pool_keys[i % 4],
			       before->pool[i / 4][i % 4], now.pool[i / 4][i % 4]);
	for (int i = 0; tell && i < 3; i++)
		if (before->meminfo[i] != now.meminfo[i])
			printf("# %s: %s was %ld, is %ld\n", current_test,
			       meminfo_keys[i], before->meminfo[i], now.meminfo[i]);
	return true;
}

/* A module's text is given back, and splits the direct map, a while after it is gone. */
static void let_direct_map_settle(void)
{
	struct counters counters;
	int same = 0;

	*direct_map_moves = false;
	read_counters(&counters);
	for (int i = 0; i < 20 && same < 3; i++) {
		usleep(200000);
		same = counters_differ(&counters, false) ? 0 : same + 1;
		read_counters(&counters);
	}
}

static int run_test(struct test *test)
{
	struct counters before;
	int status;
	pid_t pid;

	current_test = test->name;
	*direct_map_moves = false;
	read_counters(&before);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		alarm(debug_kernel() ? 900 : 300);	/* "killed by signal 14" */
		test->fn();
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return 1;
	if (WIFSIGNALED(status)) {
		printf("# %s: killed by signal %d\n", test->name, WTERMSIG(status));
		status = 1;
	} else {
		status = WEXITSTATUS(status);
	}
	if (!EVENTUALLY(!counters_differ(&before, false))) {
		counters_differ(&before, true);
		status = 1;
	}
	if (*direct_map_moves)
		let_direct_map_settle();
	return status;
}

/* The demo links with the helpers here and has a main() of its own. */
static bool own_boot(const char *name)
{
	static const char *const prefixes[] = { "poison_", "movable_", "numa_", "million_" };

	for (int i = 0; i < 4; i++) {
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	}
	return false;
}

__attribute__((weak)) int main(int argc, char **argv)
{
	int passed = 0, failed = 0, skipped = 0;
	struct timespec a, b;

	setvbuf(stdout, NULL, _IOLBF, 0);
	direct_map_moves = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (struct test *t = tests; t; t = t->next) {
		/* Those that want a boot of their own: only when asked for by name. */
		bool wanted = argc == 1 && !own_boot(t->name);
		int status;

		for (int i = 1; i < argc; i++)
			wanted |= !strcmp(argv[i], t->name);
		if (argc == 2 && !strcmp(argv[1], "--list")) {
			puts(t->name);
			continue;
		}
		if (!wanted)
			continue;
		clock_gettime(CLOCK_MONOTONIC, &a);
		status = run_test(t);
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%s %s (%ld ms)\n", !status ? "ok" :
		       status == SKIPPED ? "skip" : "not ok", t->name,
		       (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
		passed += !status;
		skipped += status == SKIPPED;
		failed += status && status != SKIPPED;
	}
	if (argc == 2 && !strcmp(argv[1], "--list"))
		return 0;
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed || !(passed + skipped);
}

/* The device and its files */

int gmem_device(void)
{
	int fd = open("/dev/gmemfd", O_RDWR | O_CLOEXEC);

	EXPECT(fd >= 0);
	return fd;
}

int gmem_create(size_t size, size_t block, uint64_t flags)
{
	struct gmemfd_create create = {
		.size = size, .block_size = block, .flags = flags,
	};
	int device = gmem_device(), fd = ioctl(device, GMEMFD_CREATE, &create);
	int err = errno;

	close(device);
	errno = err;
	return fd;
}

int gmem_convert_at(int fd, uint64_t offset, uint64_t size, bool private,
		    uint64_t *error_offset)
{
	struct gmemfd_convert convert = {
		.offset = offset, .size = size,
		.attributes = private ? GMEMFD_ATTRIBUTE_PRIVATE : 0,
		.error_offset = *error_offset,
	};
	int ret = ioctl(fd, GMEMFD_CONVERT, &convert);

	*error_offset = convert.error_offset;
	return ret;
}

int gmem_convert(int fd, uint64_t offset, uint64_t size, bool private)
{
	uint64_t unused = 0;

	return gmem_convert_at(fd, offset, size, private, &unused);
}

int gmem_convert_to(int fd, uint64_t offset, uint64_t size, uint64_t attributes)
{
	struct gmemfd_convert convert = {
		.offset = offset, .size = size, .attributes = attributes,
	};

	return ioctl(fd, GMEMFD_CONVERT, &convert);
}

int gmem_convert_wait(int fd, uint64_t offset, uint64_t size, uint64_t *timeout,
		      uint64_t *error_offset)
{
	struct gmemfd_convert convert = {
		.offset = offset, .size = size, .timeout = *timeout,
		.attributes = GMEMFD_ATTRIBUTE_PRIVATE, .flags = GMEMFD_CONVERT_WAIT,
		.error_offset = *error_offset,
	};
	int ret = ioctl(fd, GMEMFD_CONVERT, &convert);

	*timeout = convert.timeout;
	*error_offset = convert.error_offset;
	return ret;
}

int gmem_convert_ranges(int fd, const struct gmemfd_convert_range *ranges,
			unsigned int nr, uint64_t *error_offset)
{
	struct gmemfd_convert_ranges convert = {
		.ranges = (uintptr_t)ranges, .nr_ranges = nr,
		.error_offset = *error_offset,
	};
	int ret = ioctl(fd, GMEMFD_CONVERT_RANGES, &convert);

	*error_offset = convert.error_offset;
	return ret;
}

int gmem_punch(int fd, uint64_t offset, uint64_t size)
{
	return fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, size);
}

int gmem_allocate(int fd, uint64_t offset, uint64_t size)
{
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, size);
}

char *gmem_map(int fd, uint64_t offset, size_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	EXPECT(p != MAP_FAILED);
	return p;
}

const char *fd_path(int fd)
{
	static __thread char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

struct gmemfd_range gmem_range(int fd, uint64_t offset)
{
	struct gmemfd_range range;
	struct gmemfd_get_ranges get = {
		.offset = offset,
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};
	struct stat st;

	EXPECT_EQ(fstat(fd, &st), 0);
	get.end = st.st_size;
	EXPECT_EQ(ioctl(fd, GMEMFD_GET_RANGES, &get), 0);
	EXPECT_EQ(get.nr_ranges, 1);
	return range;
}

unsigned int gmem_ranges(int fd, uint64_t size, struct gmemfd_range *ranges,
			 unsigned int nr)
{
	struct gmemfd_get_ranges get = {
		.end = size, .ranges = (uintptr_t)ranges, .nr_ranges = nr,
	};

	EXPECT_EQ(ioctl(fd, GMEMFD_GET_RANGES, &get), 0);
	EXPECT_EQ(get.offset, size);
	return get.nr_ranges;
}

int gmem_state(int fd, uint64_t offset)
{
	return !!(gmem_range(fd, offset).flags & GMEMFD_RANGE_PRIVATE);
}

/* Memory */

/* Where this thread expects a SIGBUS. */
static __thread sigjmp_buf *volatile on_sigbus;

static void catch_sigbus(int sig)
{
	if (on_sigbus)
		siglongjmp(*on_sigbus, 1);
	signal(sig, SIG_DFL);		/* not expected: again, and for good */
}

static bool access_ok(volatile char *p, bool write)
{
	struct sigaction sa = { .sa_handler = catch_sigbus };
	sigjmp_buf here;
	bool ok = false;

	sigaction(SIGBUS, &sa, NULL);
	if (!sigsetjmp(here, 1)) {
		char c;

		on_sigbus = &here;
		c = *p;
		if (write)
			*p = c;
		ok = true;
	}
	on_sigbus = NULL;
	return ok;
}

bool can_read(const volatile char *p)
{
	return access_ok((volatile char *)p, false);
}

bool can_write(volatile char *p)
{
	return access_ok(p, true);
}

static uint64_t pattern(uint64_t seed, size_t i)
{
	return (seed + i) * 0x9e3779b97f4a7c15ULL;
}

void fill(char *p, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size / 8; i++)
		((uint64_t *)p)[i] = pattern(seed, i);
}

bool holds(const char *p, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size / 8; i++)
		if (((const uint64_t *)p)[i] != pattern(seed, i))
			return false;
	return true;
}

bool is_zero(const char *p, size_t size)
{
	for (size_t i = 0; i < size / 8; i++)
		if (((const uint64_t *)p)[i])
			return false;
	return true;
}

uint64_t pfn_of(const void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	EXPECT_EQ(pread(fd, &entry, 8, (uintptr_t)p / PAGE * 8), 8);
	close(fd);
	EXPECT(entry >> 63);
	return entry & ((1ULL << 55) - 1);
}

long read_kcore(uint64_t address, void *buf, size_t size)
{
	int kcore = open("/proc/kcore", O_RDONLY);
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	long n = -1;

	EXPECT(kcore >= 0);
	EXPECT_EQ(pread(kcore, &eh, sizeof(eh), 0), (long)sizeof(eh));
	for (int i = 0; i < eh.e_phnum; i++) {
		EXPECT_EQ(pread(kcore, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph)),
			  (long)sizeof(ph));
		if (ph.p_type == PT_LOAD && address >= ph.p_paddr &&
		    address < ph.p_paddr + ph.p_memsz)
			n = pread(kcore, buf, size, ph.p_offset + address - ph.p_paddr);
	}
	close(kcore);
	return n;
}

long smaps(const void *p, const char *key)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	size_t len = strlen(key);
	bool inside = false;
	char line[256];
	long kb = -1;

	while (kb < 0 && fgets(line, sizeof(line), f)) {
		if (isxdigit(line[0]) && sscanf(line, "%lx-%lx", &start, &end) == 2)
			inside = (uintptr_t)p >= start && (uintptr_t)p < end;
		if (inside && !strncmp(line, key, len) && line[len] == ':')
			kb = atol(line + len + 1);
	}
	fclose(f);
	EXPECT(kb >= 0);
	return kb * KB;
}

static bool five_level_paging(void)
{
	FILE *f = fopen("/proc/cpuinfo", "r");
	char line[4096];
	bool found = false;

	while (fgets(line, sizeof(line), f))
		found |= !strncmp(line, "flags", 5) && strstr(line, " la57");
	fclose(f);
	return found;
}

void run_on_cpu(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	EXPECT_EQ(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
}

unsigned long direct_map_address(uint64_t pfn)
{
	unsigned long base = five_level_paging() ? 0xff11000000000000UL :
						   0xffff888000000000UL;

	return base + pfn * PAGE;
}

/* The same from gmemfd_put_test, where the kernel does not show its page tables. */
static int direct_map_shift_by_module(uint64_t pfn)
{
	int dev = open_put_test();
	int entry = ask_put_test(dev, "entry %llx", (unsigned long long)pfn);

	close(dev);
	return entry & 16 ? 3 + 9 * (entry & 15) : 0;
}

/* From a dump of page tables: log2 of the size of an entry that has @flag; -1 without one. */
static int entry_shift(const char *dump, unsigned long want, const char *flag)
{
	unsigned long start, end;
	FILE *f = fopen(dump, "r");
	char line[256];
	int shift = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx", &start, &end) != 2 ||
		    want < start || want >= end || !strstr(line, flag))
			continue;
		shift = strstr(line, " pud") ? 30 : strstr(line, " pmd") ? 21 :
			strstr(line, " pte") ? 12 : 0;
		break;
	}
	fclose(f);
	return shift;
}

/* From the kernel's page tables: the size of a page's entry, 0 if it is not present. */
int direct_map_shift(uint64_t pfn)
{
	int shift = entry_shift("/sys/kernel/debug/page_tables/kernel",
				direct_map_address(pfn), " RW ");

	return shift < 0 ? direct_map_shift_by_module(pfn) : shift;
}

int user_shift(const void *p)
{
	int shift = entry_shift("/sys/kernel/debug/page_tables/current_kernel",
				(unsigned long)p, "USR");

	return shift < 0 ? 0 : shift;
}

/* Holding references */

void pin_io_uring(struct pin *pin, void *p, size_t size)
{
	struct io_uring_params params = { };
	struct iovec iov = { p, size };

	*pin = (struct pin) { -1, { -1, -1 } };
	pin->ring = syscall(__NR_io_uring_setup, 1, &params);
	EXPECT(pin->ring >= 0);
	EXPECT_EQ(syscall(__NR_io_uring_register, pin->ring,
			  IORING_REGISTER_BUFFERS, &iov, 1), 0);
}

void pin_pipe(struct pin *pin, void *p, size_t size)
{
	struct iovec iov = { p, size };

	*pin = (struct pin) { -1, { -1, -1 } };
	EXPECT_EQ(pipe(pin->pipe), 0);
	EXPECT_EQ(vmsplice(pin->pipe[1], &iov, 1, 0), (long long)size);
}

void unpin(struct pin *pin)
{
	if (pin->ring >= 0) {
		/* Closing the ring would drop the pages some time later. */
		syscall(__NR_io_uring_register, pin->ring,
			IORING_UNREGISTER_BUFFERS, NULL, 0);
		close(pin->ring);
	}
	if (pin->pipe[0] >= 0) {
		close(pin->pipe[0]);
		close(pin->pipe[1]);
	}
}

int open_loop_device(size_t size, int *file)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), nr, fd, direct;
	char path[32];

	*file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	EXPECT_EQ(ftruncate(*file, size), 0);
	config.fd = *file;
	nr = ioctl(control, LOOP_CTL_GET_FREE);
	EXPECT(nr >= 0);
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	fd = open(path, O_RDWR | O_CLOEXEC);
	EXPECT_EQ(ioctl(fd, LOOP_CONFIGURE, &config), 0);
	direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	EXPECT(direct >= 0);
	close(fd);
	close(control);
	return direct;
}

/* Files of the kernel */

long read_long(const char *path)
{
	FILE *f = fopen(path, "r");
	long value = -1;

	if (f) {
		if (fscanf(f, "%ld", &value) != 1)
			value = -1;
		fclose(f);
	}
	return value;
}

void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	EXPECT(fd >= 0);
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		FAIL("write %s to %s: errno %d", text, path, errno);
	close(fd);
}

long meminfo(const char *key)
{
	FILE *f = fopen("/proc/meminfo", "r");
	size_t len = strlen(key);
	char line[128];
	long value = -1;

	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && line[len] == ':')
			value = atol(line + len + 1);
	fclose(f);
	return value;
}

long pool(size_t block, const char *key)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/%s",
		 block / KB, key);
	return read_long(path);
}

char state_of(pid_t pid)
{
	char path[32], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	EXPECT(f);
	EXPECT_EQ(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
	fclose(f);
	return state;
}

bool have_1g_blocks(void)
{
	return pool(GB, "nr_hugepages") >= 0;
}

void need_1g_blocks(void)
{
	if (!have_1g_blocks())
		test_skip("no 1 GiB huge pages here");
}

bool kernel_before(unsigned int major, unsigned int minor)
{
	unsigned int a, b;
	struct utsname name;

	EXPECT_EQ(uname(&name), 0);
	EXPECT_EQ(sscanf(name.release, "%u.%u", &a, &b), 2);
	return a < major || (a == major && b < minor);
}

bool debug_kernel(void)
{
	return !access("/sys/kernel/debug/kmemleak", F_OK);
}

/* The module of the tests */

/* Debian's own kernel has the shim as a module. */
bool shim_is_module(void)
{
	return !access("/sys/module/gmemfd_shim", F_OK);
}

/* As a module it links to kvm if it has a part for it. */
bool shim_hooks_kvm(void)
{
	return !access("/sys/module/kvm/holders/gmemfd_shim", F_OK);
}

int open_put_test(void)
{
	int dev = open("/dev/gmemfd_put", O_WRONLY | O_CLOEXEC);

	if (dev < 0)
		test_skip("gmemfd_put_test is not loaded");
	return dev;
}

static int put_test(int dev, const char *fmt, va_list args, int *len)
{
	char text[64];

	*len = vsnprintf(text, sizeof(text), fmt, args);
	EXPECT(*len < (int)sizeof(text));
	return write(dev, text, *len);
}

void tell_put_test(int dev, const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	EXPECT(put_test(dev, fmt, args, &len) == len);
	va_end(args);
}

int ask_put_test(int dev, const char *fmt, ...)
{
	va_list args;
	int len, ret;

	va_start(args, fmt);
	ret = put_test(dev, fmt, args, &len);
	va_end(args);
	EXPECT(ret > 0);
	return ret;
}

void delay_in_kernel(int dev, const char *function)
{
	tell_put_test(dev, "delay %s", function);
}

enum delay delayed(int dev)
{
	return ask_put_test(dev, "delayed");
}

int module_load(const char *name, const char *args)
{
	char path[64];
	int fd, ret, err;

	snprintf(path, sizeof(path), "/lib/%s.ko", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	EXPECT(fd >= 0);
	ret = syscall(__NR_finit_module, fd, args, 0);
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

int module_unload(const char *name)
{
	return syscall(__NR_delete_module, name, O_NONBLOCK);
}

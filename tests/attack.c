// SPDX-License-Identifier: GPL-2.0
/*
 * What a user of any distribution, and root, have to attack private pages and
 * the module with.  Each way is first seen to work on other memory.
 */
#define _GNU_SOURCE
#include <linux/bpf.h>
#include <linux/fanotify.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "lib.h"

#define SECRET	0x5ec3e75ec3e7ULL
#define USER	1000

static int fd;
static char *p;
static uint64_t pfn;
static uint64_t words[4];	/* the first of each page */

/* Pages of known contents; 1 is private, 2 and 3 are so at times. */
static void set_up_file(int file)
{
	fd = file;
	EXPECT(fd >= 0);
	p = gmem_map(fd, 0, 2 * MB);
	fill(p, 2 * MB, SECRET);
	pfn = pfn_of(p);
	for (int i = 0; i < 4; i++)
		words[i] = *(uint64_t *)(p + i * PAGE);
	EXPECT_EQ(gmem_convert(fd, PAGE, PAGE, true), 0);
}

static void set_up(uint64_t flags)
{
	set_up_file(gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED | flags));
}

static void tear_down(void)
{
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, false), 0);
	EXPECT(holds(p, 2 * MB, SECRET));
	munmap(p, 2 * MB);
	close(fd);
}

/* BPF: a program that reads the kernel's memory */

static int bpf(int cmd, union bpf_attr *attr)
{
	return syscall(__NR_bpf, cmd, attr, sizeof(*attr));
}

/* r0 = bpf_probe_read_kernel(stack, 8, ctx[0]) ?: ctx[1] ? high : low half of it */
static const struct bpf_insn reader[] = {
	{ BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_1, 0, 0 },
	{ BPF_LDX | BPF_DW | BPF_MEM, BPF_REG_3, BPF_REG_6, 0, 0 },
	{ BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, 8 },
	{ BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_10, 0, 0 },
	{ BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_1, 0, 0, -8 },
	{ BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_probe_read_kernel },
	{ BPF_JMP | BPF_JNE | BPF_K, BPF_REG_0, 0, 4, 0 },
	{ BPF_LDX | BPF_W | BPF_MEM, BPF_REG_0, BPF_REG_10, -8, 0 },
	{ BPF_LDX | BPF_DW | BPF_MEM, BPF_REG_1, BPF_REG_6, 8, 0 },
	{ BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 1, 0 },
	{ BPF_LDX | BPF_W | BPF_MEM, BPF_REG_0, BPF_REG_10, -4, 0 },
	{ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 },
};

static int load_reader(void)
{
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT,
		.insns = (uintptr_t)reader,
		.insn_cnt = sizeof(reader) / sizeof(reader[0]),
		.license = (uintptr_t)"GPL",
	};
	int prog = bpf(BPF_PROG_LOAD, &attr);

	if (prog < 0 && errno == ENOSYS)
		test_skip("no BPF in this kernel");
	EXPECT(prog >= 0);
	return prog;
}

static uint32_t run_reader(int prog, unsigned long address, bool high)
{
	uint64_t ctx[2] = { address, high };
	union bpf_attr attr = {
		.test.prog_fd = prog,
		.test.ctx_in = (uintptr_t)ctx,
		.test.ctx_size_in = sizeof(ctx),
	};

	EXPECT_EQ(bpf(BPF_PROG_TEST_RUN, &attr), 0);
	return attr.test.retval;
}

static bool bpf_reads(int prog, int page)
{
	unsigned long address = direct_map_address(pfn + page);

	return run_reader(prog, address, false) == (uint32_t)words[page] &&
	       run_reader(prog, address, true) == words[page] >> 32;
}

static bool bpf_faults(int prog, int page, size_t at)
{
	return run_reader(prog, direct_map_address(pfn + page) + at, false) ==
	       (uint32_t)-EFAULT;
}

TEST(attack_bpf)
{
	int prog;

	test_changes_direct_map();	/* so does making the program read-only */
	prog = load_reader();
	set_up(0);
	EXPECT(bpf_reads(prog, 2));
	EXPECT(bpf_faults(prog, 1, 0));
	EXPECT_EQ(gmem_convert(fd, 2 * PAGE, PAGE, true), 0);
	EXPECT(bpf_faults(prog, 2, 0));
	EXPECT(bpf_faults(prog, 2, PAGE - 8));
	EXPECT(bpf_faults(prog, 2, PAGE - 4));	/* and the shared one behind it */
	EXPECT(bpf_reads(prog, 3));
	/* An unbroken block, by whatever entry it was mapped. */
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
	for (int i = 0; i < 4; i++)
		EXPECT(bpf_faults(prog, i, 0));
	EXPECT(bpf_faults(prog, 511, PAGE - 8));
	tear_down();

	/* Secret: user space has it mapped, and it is not at the kernel's address either. */
	set_up(GMEMFD_CREATE_SECRET);
	EXPECT(bpf_reads(prog, 2));
	EXPECT_EQ(gmem_convert_to(fd, 2 * PAGE, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT_EQ(*(volatile uint64_t *)(p + 2 * PAGE), words[2]);
	EXPECT(bpf_faults(prog, 2, 0));
	EXPECT(bpf_faults(prog, 2, PAGE - 4));
	EXPECT(bpf_reads(prog, 3));
	EXPECT_EQ(gmem_convert_to(fd, 0, 2 * MB, GMEMFD_ATTRIBUTE_SECRET), 0);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(*(volatile uint64_t *)(p + i * PAGE), words[i]);
		EXPECT(bpf_faults(prog, i, 0));
	}
	EXPECT(bpf_faults(prog, 511, PAGE - 8));
	tear_down();

	set_up(GMEMFD_CREATE_KEEP_DIRECT_MAP);
	EXPECT(bpf_reads(prog, 1));
	tear_down();
	close(prog);
}

/* Kprobes: one in a page, and one that shows a page each time it is hit */

#define TRACING		"/sys/kernel/tracing"
#define PROBED		"do_sys_openat2"

static int append(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_APPEND), ret, err;

	EXPECT(file >= 0);
	ret = write(file, text, strlen(text));
	err = errno;
	close(file);
	errno = err;
	return ret < 0 ? -1 : 0;
}

static int nr_probes(void)
{
	FILE *list = fopen("/sys/kernel/debug/kprobes/list", "r");
	char line[256];
	int n = 0;

	EXPECT(list);
	while (fgets(line, sizeof(line), list))
		n++;
	fclose(list);
	return n;
}

/*
 * Where there is no kernel text there is no probe, whoever's page it is.  What is
 * taken is an event, for a module that might come to be there.
 */
static void probe_nowhere(int page, size_t at)
{
	int probes = nr_probes();
	char text[64];

	snprintf(text, sizeof(text), "p:gmem_at 0x%lx", direct_map_address(pfn + page) + at);
	if (append(TRACING "/kprobe_events", text)) {
		EXPECT_EQ(errno, EINVAL);
		return;
	}
	write_text(TRACING "/events/kprobes/gmem_at/enable", "1");
	EXPECT_EQ(nr_probes(), probes);
	write_text(TRACING "/events/kprobes/gmem_at/enable", "0");
	EXPECT_EQ(append(TRACING "/kprobe_events", "-:gmem_at"), 0);
}

/* The first word of a page, as a probe has it; false if it says "(fault)". */
static bool probe_shows(int page, uint64_t *word)
{
	char text[256], line[512];
	unsigned long address = direct_map_address(pfn + page);
	bool hit = false, shown = false;
	FILE *trace;

	snprintf(text, sizeof(text), "p:gmem_show " PROBED " v=@0x%lx:x64 s=@0x%lx:string",
		 address, address);
	EXPECT_EQ(append(TRACING "/kprobe_events", text), 0);
	write_text(TRACING "/trace", "\n");
	write_text(TRACING "/events/kprobes/gmem_show/enable", "1");
	close(open("/dev/null", O_RDONLY));
	write_text(TRACING "/events/kprobes/gmem_show/enable", "0");
	trace = fopen(TRACING "/trace", "r");
	EXPECT(trace);
	while (!hit && fgets(line, sizeof(line), trace)) {
		char *v = strstr(line, " v=0x");

		if (!v || !strstr(line, "gmem_show"))
			continue;
		hit = true;
		*word = strtoull(v + 3, NULL, 16);
		shown = !strstr(v, "(fault)");
	}
	fclose(trace);
	EXPECT(hit);
	/* That is how it is seen that the others are not there. */
	EXPECT_EQ(nr_probes(), 1);
	EXPECT_EQ(append(TRACING "/kprobe_events", "-:gmem_show"), 0);
	return shown;
}

TEST(attack_kprobe)
{
	uint64_t word;

	if (mount("tracefs", TRACING, "tracefs", 0, NULL) && errno != EBUSY)
		test_skip("no tracefs in this kernel");
	if (access(TRACING "/kprobe_events", F_OK)) {
		umount(TRACING);
		test_skip("no kprobe events in this kernel");
	}
	test_changes_direct_map();	/* probes have instructions of their own */
	set_up(GMEMFD_CREATE_SECRET);
	for (int page = 0; page < 2; page++) {
		probe_nowhere(page, 0);
		probe_nowhere(page, 0x123);
	}
	EXPECT(probe_shows(2, &word));
	EXPECT_EQ(word, words[2]);
	/* What it shows instead is the ring buffer's own. */
	EXPECT(!probe_shows(1, &word));
	EXPECT(word != words[1]);
	/* The third word has not been in the ring buffer yet. */
	EXPECT_EQ(gmem_convert_to(fd, 0, 2 * MB, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT_EQ(*(volatile uint64_t *)(p + 3 * PAGE), words[3]);
	EXPECT(!probe_shows(3, &word));
	EXPECT(word != words[3]);
	probe_nowhere(3, 0);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
	EXPECT(!probe_shows(3, &word));
	EXPECT(word != words[3]);
	probe_nowhere(1, 0);
	tear_down();
	umount(TRACING);
}

/*
 * A 32-bit process: by its system calls, and by pointers that it could have.  The
 * structures have no padding, and are the same there.
 */

static long call_32bit(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r12 asm("r12") = f;
	long ret;

	/* Gcc may be using rbp, and the stack below rsp; kernels may clear r8 to r11. */
	asm volatile("xchg %%r12, %%rbp\n\t"
		     "int $0x80\n\t"
		     "xchg %%r12, %%rbp"
		     : "=a" (ret), "+r" (r12)
		     : "a" (nr), "b" (a), "c" (b), "d" (c), "S" (d), "D" (e)
		     : "memory", "cc", "r8", "r9", "r10", "r11");
	ret = (int)ret;
	/* Addresses are above 2 GiB, too. */
	if (ret < 0 && ret > -4096) {
		errno = -ret;
		return -1;
	}
	return (uint32_t)ret;
}

#define NR_32BIT_IOCTL		54
#define NR_32BIT_MMAP2		192
#define NR_32BIT_FALLOCATE	324

/* One way to make the calls, and what they said and left behind. */
struct calls {
	bool narrow;
	int results[64];
	unsigned int nr;
	char data[32][256];
	unsigned int nr_data;
};

static char *low;	/* memory that both ways can point to */

static void note(struct calls *c, int ret)
{
	EXPECT(c->nr < 64);
	c->results[c->nr++] = ret < 0 ? -errno : 0;
}

static int call_ioctl(struct calls *c, int on, unsigned int cmd, unsigned long arg)
{
	return c->narrow ? call_32bit(NR_32BIT_IOCTL, on, cmd, arg, 0, 0, 0) :
			   ioctl(on, cmd, arg);
}

/* With a structure, of which a copy is made; what comes back is noted. */
static int call_with(struct calls *c, int on, unsigned int cmd, const void *arg)
{
	size_t size = _IOC_SIZE(cmd);
	int ret;

	memcpy(low, arg, size);
	ret = call_ioctl(c, on, cmd, (uintptr_t)low);
	note(c, ret);
	EXPECT(c->nr_data < 32 && size <= 256);
	memcpy(c->data[c->nr_data++], low, size);
	return ret;
}

static void call_badly(struct calls *c, int on, unsigned int cmd)
{
	note(c, call_ioctl(c, on, cmd, 0));
	note(c, call_ioctl(c, on, cmd, 8));
	note(c, call_ioctl(c, on, cmd, 0xfffff000));
}

static int call_fallocate(struct calls *c, int on, int mode, uint64_t at, uint64_t size)
{
	return c->narrow ? call_32bit(NR_32BIT_FALLOCATE, on, mode, (uint32_t)at, at >> 32,
				      (uint32_t)size, size >> 32) :
			   fallocate(on, mode, at, size);
}

static char *call_mmap(struct calls *c, int on, uint64_t at, size_t size)
{
	long ret;

	if (!c->narrow)
		return gmem_map(on, at, size);
	ret = call_32bit(NR_32BIT_MMAP2, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, on,
			 at / PAGE);
	EXPECT(ret != -1);
	EXPECT(!(ret >> 32));
	return (char *)ret;
}

#define FILE_SIZE	(4 * MB)

static void call_convert(struct calls *c, int file, unsigned int cmd)
{
	struct gmemfd_convert convert = { .offset = 2 * MB, .size = PAGE };

	call_badly(c, file, cmd);
	call_with(c, file, cmd, &convert);
	EXPECT_EQ(gmem_state(file, 2 * MB), 0);
	convert.attributes = GMEMFD_ATTRIBUTE_PRIVATE;
	call_with(c, file, cmd, &convert);
	EXPECT_EQ(gmem_state(file, 2 * MB), 1);
	/* What takes more than 32 bits is not cut off. */
	convert.offset += 1ULL << 32;
	call_with(c, file, cmd, &convert);
	convert = (struct gmemfd_convert) { .size = (1ULL << 32) + PAGE };
	call_with(c, file, cmd, &convert);
	convert = (struct gmemfd_convert) { .size = PAGE, .attributes = 1ULL << 35 };
	call_with(c, file, cmd, &convert);
}

static void call_convert_ranges(struct calls *c, int file)
{
	struct gmemfd_convert_range *ranges = (void *)(low + PAGE);
	struct gmemfd_convert_ranges convert = {
		.ranges = (uintptr_t)ranges, .nr_ranges = 2,
	};

	ranges[0] = (struct gmemfd_convert_range) { PAGE, PAGE, 0 };
	ranges[1] = (struct gmemfd_convert_range) { 3 * PAGE, PAGE, 0 };
	call_badly(c, file, GMEMFD_CONVERT_RANGES);
	call_with(c, file, GMEMFD_CONVERT_RANGES, &convert);
	EXPECT_EQ(gmem_state(file, PAGE), 0);
	EXPECT_EQ(gmem_state(file, 2 * PAGE), 1);
	EXPECT_EQ(gmem_state(file, 3 * PAGE), 0);
	convert.ranges = 8;
	call_with(c, file, GMEMFD_CONVERT_RANGES, &convert);
	convert.ranges = direct_map_address(0);
	call_with(c, file, GMEMFD_CONVERT_RANGES, &convert);
	convert.ranges = (uintptr_t)ranges | 1ULL << 63;
	call_with(c, file, GMEMFD_CONVERT_RANGES, &convert);
}

static void call_get_ranges(struct calls *c, int file)
{
	struct gmemfd_get_ranges get = {
		.end = FILE_SIZE, .ranges = (uintptr_t)low + PAGE, .nr_ranges = 8,
	};

	call_badly(c, file, GMEMFD_GET_RANGES);
	memset(low + PAGE, 0, 8 * sizeof(struct gmemfd_range));
	call_with(c, file, GMEMFD_GET_RANGES, &get);
	memcpy(c->data[c->nr_data++], low + PAGE, 8 * sizeof(struct gmemfd_range));
	get.ranges = 8;
	call_with(c, file, GMEMFD_GET_RANGES, &get);
	get.ranges = direct_map_address(0);
	call_with(c, file, GMEMFD_GET_RANGES, &get);
}

static void call_memory(struct calls *c, int file)
{
	struct gmemfd_convert convert = {
		.size = PAGE, .attributes = GMEMFD_ATTRIBUTE_PRIVATE,
	};
	char *m = call_mmap(c, file, 2 * MB, 2 * MB);
	struct pin pin;

	note(c, call_fallocate(c, file, FALLOC_FL_KEEP_SIZE, 0, FILE_SIZE));
	note(c, call_fallocate(c, file, FALLOC_FL_KEEP_SIZE, 1ULL << 32, PAGE));
	note(c, call_fallocate(c, file, FALLOC_FL_KEEP_SIZE, 0, (1ULL << 32) + PAGE));
	note(c, call_fallocate(c, file, 0, 0, PAGE));
	EXPECT(!can_read(m));
	EXPECT_EQ(gmem_convert(file, 2 * MB, 2 * MB, false), 0);
	EXPECT(can_write(m));
	/* An error that tells where. */
	pin_pipe(&pin, m, PAGE);
	convert.offset = 2 * MB;
	call_with(c, file, GMEMFD_CONVERT, &convert);
	unpin(&pin);
	note(c, call_fallocate(c, file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
			       2 * MB, 2 * MB));
	EXPECT_EQ(gmem_range(file, 2 * MB).flags, 0);
	munmap(m, 2 * MB);
}

static void call_all(struct calls *c)
{
	struct gmemfd_create create = { .size = FILE_SIZE, .block_size = 2 * MB };
	struct gmemfd_info info = { };
	int device = gmem_device(), file;

	call_badly(c, device, GMEMFD_GET_INFO);
	call_with(c, device, GMEMFD_GET_INFO, &info);
	info.reserved[2] = 1;
	call_with(c, device, GMEMFD_GET_INFO, &info);
	call_badly(c, device, GMEMFD_CREATE);
	create.flags = 1ULL << 32;
	call_with(c, device, GMEMFD_CREATE, &create);
	create = (struct gmemfd_create) { .size = FILE_SIZE, .block_size = 2 * MB };
	file = call_with(c, device, GMEMFD_CREATE, &create);
	EXPECT(file >= 0);
	call_badly(c, device, 0x1234);
	close(device);

	call_convert(c, file, GMEMFD_CONVERT);
	call_convert(c, file, GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2);
	call_convert_ranges(c, file);
	call_get_ranges(c, file);
	call_memory(c, file);
	call_badly(c, file, GMEMFD_CREATE);
	close(file);
}

TEST(attack_32bit)
{
	static struct calls wide, narrow = { .narrow = true };

	/* Kernels have ways to refuse it. */
	if (call_32bit(20 /* getpid */, 0, 0, 0, 0, 0, 0) != getpid())
		test_skip("no 32-bit system calls in this kernel");
	low = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	EXPECT(low != MAP_FAILED);
	call_all(&wide);
	call_all(&narrow);
	EXPECT_EQ(narrow.nr, wide.nr);
	for (unsigned int i = 0; i < wide.nr; i++)
		EXPECT_EQ(narrow.results[i], wide.results[i]);
	EXPECT_EQ(narrow.nr_data, wide.nr_data);
	EXPECT(!memcmp(narrow.data, wide.data, sizeof(wide.data)));
	/* And not because all of them fail. */
	EXPECT_EQ(wide.results[0], -EFAULT);
	EXPECT_EQ(wide.results[3], 0);
}

/* A user who is root in a user namespace of his own */

static void enter_user_namespace(void)
{
	char text[32];

	EXPECT_EQ(setgid(USER), 0);
	EXPECT_EQ(setuid(USER), 0);
	EXPECT_EQ(prctl(PR_SET_DUMPABLE, 1), 0);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) {
		EXPECT_EQ(errno, EINVAL);
		test_skip("no user namespaces in this kernel");
	}
	write_text("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "0 %d 1", USER);
	write_text("/proc/self/uid_map", text);
	write_text("/proc/self/gid_map", text);
	EXPECT_EQ(getuid(), 0);
	EXPECT_EQ(geteuid(), 0);
}

/* The contents of the creator's mapping, and another fd of his. */
static void reach_creator(pid_t creator)
{
	struct iovec local = { words, 8 }, remote = { p, 8 };
	char path[64];
	int pidfd;

	EXPECT_ERR(process_vm_readv(creator, &local, 1, &remote, 1, 0), EPERM);
	snprintf(path, sizeof(path), "/proc/%d/mem", creator);
	EXPECT_ERR(open(path, O_RDONLY), EACCES);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", creator, fd);
	EXPECT_ERR(open(path, O_RDWR), EACCES);
	snprintf(path, sizeof(path), "/proc/%d/map_files/%lx-%lx", creator,
		 (unsigned long)p, (unsigned long)p + 2 * MB);
	EXPECT(open(path, O_RDWR) == -1 && (errno == EACCES || errno == EPERM));
	pidfd = syscall(__NR_pidfd_open, creator, 0);
	EXPECT(pidfd >= 0);
	EXPECT_ERR(syscall(__NR_pidfd_getfd, pidfd, fd, 0), EPERM);
}

/* An fd that he was given, by all ways to make another file of it. */
static void reopen(int memfd)
{
	const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
	char buf[8] = { }, path[64];
	int path_fd, i;

	/* He owns the file: it is as with a memfd, and can do no more than the fd that he has. */
	for (i = 0; i < 3; i++) {
		EXPECT(open(fd_path(fd), modes[i]) >= 0);
		EXPECT(open(fd_path(memfd), modes[i]) >= 0);
	}
	EXPECT_ERR(open(fd_path(fd), O_RDWR | O_TRUNC), EINVAL);
	path_fd = open(fd_path(fd), O_PATH);
	EXPECT(path_fd >= 0);
	EXPECT_ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, path_fd, 0) == MAP_FAILED ? -1 : 0,
		   EBADF);
	EXPECT_ERR(ioctl(path_fd, GMEMFD_CONVERT, words), EBADF);
	EXPECT_ERR(pread(path_fd, buf, 8, 0), EBADF);
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p,
		 (unsigned long)p + 2 * MB);
	EXPECT(open(path, O_RDWR) == -1 && (errno == ENXIO || errno == EPERM));
	EXPECT_ERR(syscall(__NR_execveat, fd, "", (char *[]) { "x", NULL }, NULL,
			   AT_EMPTY_PATH), EACCES);
	close(path_fd);
}

static void own_mapping(void)
{
	int mem = open("/proc/self/mem", O_RDWR);
	char buf[8] = { };

	EXPECT(mem >= 0);
	EXPECT_EQ(pread(mem, buf, 8, (uintptr_t)p), 8);
	EXPECT_ERR(pread(mem, buf, 8, (uintptr_t)p + PAGE), EIO);
	EXPECT_ERR(pwrite(mem, buf, 8, (uintptr_t)p + PAGE), EIO);
	EXPECT(!can_read(p + PAGE));
	close(mem);
}

static void attack_from_namespace(void)
{
	int memfd = memfd_create("peer", MFD_CLOEXEC);
	pid_t creator = getppid();
	struct stat st;

	EXPECT_EQ(ftruncate(memfd, 2 * MB), 0);
	EXPECT_EQ(fchmod(memfd, 0666), 0);
	enter_user_namespace();
	EXPECT_ERR(open("/dev/gmemfd", O_RDWR), EACCES);
	EXPECT_ERR(open("/dev/gmemfd", O_RDONLY), EACCES);
	/* There is a mount namespace, in which he may mount what is for users. */
	EXPECT_EQ(mount("tmpfs", "/tmp", "tmpfs", 0, NULL), 0);
	EXPECT_EQ(mkdir("/tmp/gmem", 0755), 0);
	EXPECT(mount("gmemfd", "/tmp/gmem", "gmemfd", 0, NULL) == -1 &&
	       (errno == ENODEV || errno == EPERM));
	EXPECT(mount("gmemfd", "/tmp/gmem", "gmemfd_away", 0, NULL) == -1 &&
	       (errno == ENODEV || errno == EPERM));
	EXPECT_EQ(stat("/dev/gmemfd", &st), 0);
	EXPECT_ERR(mknod("/tmp/dev", S_IFCHR | 0666, st.st_rdev), EPERM);
	reach_creator(creator);
	own_mapping();
	reopen(memfd);
}

TEST(attack_user_namespace)
{
	struct gmemfd_create create = {
		.size = 2 * MB, .block_size = 2 * MB, .flags = GMEMFD_CREATE_INIT_SHARED,
	};
	int status, device = gmem_device(), file;
	pid_t pid;

	/* His own file, so that it is not for its mode that he is refused. */
	setfsuid(USER);
	file = ioctl(device, GMEMFD_CREATE, &create);
	setfsuid(0);
	close(device);
	set_up_file(file);
	/* Somebody else has the fd, and makes no other one of it. */
	pid = fork();
	if (!pid) {
		EXPECT_EQ(setuid(USER + 1), 0);
		for (int mode = O_RDONLY; mode <= O_RDWR; mode++)
			EXPECT_ERR(open(fd_path(fd), mode), EACCES);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	pid = fork();
	if (!pid) {
		attack_from_namespace();
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		_exit(WEXITSTATUS(status));
	EXPECT_EQ(status, 0);
	tear_down();
}

/* Fanotify: marks of each kind, and listeners who are to be given fds */

#ifndef FAN_PRE_ACCESS
#define FAN_PRE_ACCESS	0x00100000
#endif

static const struct fan_kind {
	const char *name;
	unsigned int class, mark;
	uint64_t mask;
} fan_kinds[] = {
	{ "events of an inode", FAN_CLASS_NOTIF, FAN_MARK_INODE,
	  FAN_OPEN | FAN_ACCESS | FAN_MODIFY | FAN_CLOSE },
	{ "events of a mount", FAN_CLASS_NOTIF, FAN_MARK_MOUNT, FAN_OPEN | FAN_CLOSE },
	{ "events of a file system", FAN_CLASS_NOTIF, FAN_MARK_FILESYSTEM,
	  FAN_OPEN | FAN_CLOSE },
	{ "permission to open and access", FAN_CLASS_CONTENT, FAN_MARK_INODE,
	  FAN_OPEN_PERM | FAN_ACCESS_PERM },
	{ "permission on a mount", FAN_CLASS_CONTENT, FAN_MARK_MOUNT, FAN_OPEN_PERM },
	{ "permission on a file system", FAN_CLASS_CONTENT, FAN_MARK_FILESYSTEM,
	  FAN_ACCESS_PERM },
	{ "permission before content", FAN_CLASS_PRE_CONTENT, FAN_MARK_INODE,
	  FAN_OPEN_PERM | FAN_ACCESS_PERM },
	{ "access before content", FAN_CLASS_PRE_CONTENT, FAN_MARK_INODE,
	  FAN_PRE_ACCESS },
};

static const struct fan_kind *fan;
static int group;

static void new_group(void)
{
	group = syscall(__NR_fanotify_init, fan->class | FAN_CLOEXEC | FAN_NONBLOCK,
			O_RDWR | O_LARGEFILE);
	EXPECT(group >= 0);
}

static int mark(unsigned int how, int of)
{
	int ret = syscall(__NR_fanotify_mark, group, how | fan->mark, fan->mask, AT_FDCWD,
			  fd_path(of));

	return ret < 0 ? -errno : 0;
}

/* Answers what there is; returns how many fds of file came with it. */
static int answer(int file)
{
	char buf[4096] __attribute__((aligned(8)));
	struct fanotify_event_metadata *event = (void *)buf;
	struct fanotify_response response = { .response = FAN_ALLOW };
	struct stat want, got;
	ssize_t size = read(group, buf, sizeof(buf));
	int fds = 0;

	EXPECT_EQ(fstat(file, &want), 0);
	for (; size > 0 && FAN_EVENT_OK(event, size); event = FAN_EVENT_NEXT(event, size)) {
		if (event->fd < 0)
			continue;
		EXPECT_EQ(fstat(event->fd, &got), 0);
		fds += got.st_dev == want.st_dev && got.st_ino == want.st_ino;
		response.fd = event->fd;
		if (event->mask & (FAN_OPEN_PERM | FAN_ACCESS_PERM | FAN_PRE_ACCESS))
			EXPECT_EQ(write(group, &response, sizeof(response)),
				  (long)sizeof(response));
		close(event->fd);
	}
	return fds;
}

/* What a process does that is being listened to: all of it as ever. */
static void use_file(int file)
{
	char *m = mmap(NULL, 2 * MB, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	int reopened = open(fd_path(file), O_RDWR);
	char buf[8];

	EXPECT(m != MAP_FAILED);
	m[2 * MB - 1]++;
	EXPECT_EQ(gmem_allocate(file, 0, 2 * MB), 0);
	EXPECT(reopened >= 0);
	if (file != fd) {
		EXPECT_EQ(pread(reopened, buf, 8, 0), 8);
		return;
	}
	EXPECT_EQ(gmem_convert(reopened, 0, PAGE, true), 0);
	EXPECT_EQ(gmem_convert(reopened, 0, PAGE, false), 0);
	EXPECT_EQ(gmem_convert(file, 2 * PAGE, 2 * PAGE, true), 0);
	EXPECT(!can_read(m + 3 * PAGE));
	EXPECT_EQ(gmem_convert(file, 2 * PAGE, 2 * PAGE, false), 0);
	EXPECT(can_read(m + 3 * PAGE));
	m[2 * MB - 1] -= 1;
	EXPECT_ERR(pread(file, buf, 8, 0), ESPIPE);
	EXPECT_ERR(read(file, buf, 8), EINVAL);
}

/* Returns how many fds of the file its listener was given. */
static int listen_to(int file)
{
	pid_t pid = fork();
	int fds = 0, status;

	if (!pid) {
		use_file(file);
		_exit(0);
	}
	EXPECT(EVENTUALLY((fds += answer(file), waitpid(pid, &status, WNOHANG) == pid)));
	if (WIFEXITED(status) && WEXITSTATUS(status))
		_exit(WEXITSTATUS(status));
	EXPECT_EQ(status, 0);
	return fds;
}

/* Which goes first: the mark, the group, or the file. */
static void fan_end(int order)
{
	int file = gmem_create(2 * MB, 2 * MB, 0);

	new_group();
	EXPECT_EQ(mark(FAN_MARK_ADD, file), 0);
	if (order == 0)
		EXPECT_EQ(mark(FAN_MARK_REMOVE, file), 0);
	if (order == 1)
		close(group);
	close(file);
	if (order == 2)
		EXPECT_EQ(syscall(__NR_fanotify_mark, group, FAN_MARK_FLUSH, 0, -1, NULL), 0);
	if (order != 1)
		close(group);
	sync();
}

static void attack_by_fanotify(void)
{
	int memfd = memfd_create("peer", MFD_CLOEXEC), as_memfd;

	EXPECT_EQ(ftruncate(memfd, 2 * MB), 0);
	set_up(0);
	new_group();
	as_memfd = mark(FAN_MARK_ADD, memfd);
	EXPECT_EQ(mark(FAN_MARK_ADD, fd), as_memfd);
	if (!as_memfd) {
		EXPECT(listen_to(memfd) > 0);
		EXPECT(listen_to(fd) > 0);
	}
	close(group);
	close(memfd);
	tear_down();
	for (int order = 0; order < 3 && !as_memfd; order++)
		fan_end(order);
}

TEST(attack_fanotify)
{
	int ret = syscall(__NR_fanotify_init, FAN_CLASS_NOTIF, O_RDWR);

	if (ret < 0 && errno == ENOSYS)
		test_skip("no fanotify in this kernel");
	close(ret);
	for (unsigned int i = 0; i < sizeof(fan_kinds) / sizeof(fan_kinds[0]); i++) {
		fan = &fan_kinds[i];
		test_case(fan->name);
		test_bounded(attack_by_fanotify);
	}
	test_bounded(sync);
}

/* A handle of the file, of which another file would be opened. */
TEST(attack_file_handle)
{
	struct {
		struct file_handle head;
		char bytes[128];
	} handle = { .head.handle_bytes = 128 };
	int id, ret;

	set_up(0);
	for (int flags = AT_EMPTY_PATH; flags <= (AT_EMPTY_PATH | 0x200 /* AT_HANDLE_FID */);
	     flags += 0x200) {
		ret = name_to_handle_at(fd, "", &handle.head, &id, flags);
		EXPECT(!ret || errno == EOPNOTSUPP);
		if (!ret)
			EXPECT(open_by_handle_at(fd, &handle.head, O_RDWR) == -1);
	}
	tear_down();
}

/* Idle page tracking: takes references to pages of all frames, but not of ours */

#define IDLE_BITMAP	"/sys/kernel/mm/page_idle/bitmap"

/* All frames that there are; returns how many words of the bitmap. */
static long mark_all_idle(int bitmap)
{
	static uint64_t ones[512], out[512];
	long at = 0, n;

	memset(ones, 0xff, sizeof(ones));
	while ((n = pwrite(bitmap, ones, sizeof(ones), at)) > 0) {
		EXPECT(pread(bitmap, out, n, at) >= 0);
		at += n;
	}
	return at / 8;
}

static bool is_idle(int bitmap, uint64_t frame)
{
	uint64_t word;

	EXPECT_EQ(pread(bitmap, &word, 8, frame / 64 * 8), 8);
	return word >> frame % 64 & 1;
}

static volatile bool idle_on;
static volatile long idle_rounds;

static void *mark_idle_again(void *arg)
{
	int bitmap = *(int *)arg;

	while (idle_on && mark_all_idle(bitmap) > 0)
		idle_rounds++;
	return NULL;
}

#define IDLE_BLOCKS	4

static void idle_control(int bitmap)
{
	char *peer = mmap(NULL, 2 * MB, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t frame;

	/* More than a CPU keeps to itself before it puts them on the LRU. */
	fill(peer, 2 * MB, 1);
	frame = pfn_of(peer);
	EXPECT(mark_all_idle(bitmap) > 1000);
	EXPECT(is_idle(bitmap, frame));
	/* With no TLB knowing it the CPU says so when it uses a page. */
	EXPECT_EQ(mprotect(peer, 2 * MB, PROT_READ), 0);
	EXPECT_EQ(mprotect(peer, 2 * MB, PROT_READ | PROT_WRITE), 0);
	fill(peer, PAGE, 2);
	EXPECT(!is_idle(bitmap, frame));
	munmap(peer, 2 * MB);
}

TEST(attack_page_idle)
{
	const size_t size = IDLE_BLOCKS * 2 * MB;
	int bitmap = open(IDLE_BITMAP, O_RDWR | O_CLOEXEC);
	pthread_t thread;
	char *m;

	if (bitmap < 0)
		test_skip("no idle page tracking in this kernel");
	idle_control(bitmap);

	/* Blocks: all private, both, shared and broken, never broken. */
	fd = gmem_create(size, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	m = gmem_map(fd, 0, size);
	fill(m, 3 * 2 * MB, SECRET);
	EXPECT_EQ(gmem_convert(fd, 0, 2 * MB, true), 0);
	EXPECT_EQ(gmem_convert(fd, 2 * MB, MB, true), 0);
	EXPECT_EQ(gmem_convert(fd, 4 * MB, PAGE, true), 0);
	EXPECT_EQ(gmem_convert(fd, 4 * MB, PAGE, false), 0);
	EXPECT_EQ(gmem_convert(fd, 6 * MB, 2 * MB, true), 0);
	EXPECT_EQ(gmem_allocate(fd, 6 * MB, 2 * MB), 0);
	EXPECT(mark_all_idle(bitmap) > 1000);
	EXPECT_EQ(gmem_convert(fd, 0, size, true), 0);
	EXPECT_EQ(gmem_convert(fd, 0, size, false), 0);

	idle_on = true;
	EXPECT_EQ(pthread_create(&thread, NULL, mark_idle_again, &bitmap), 0);
	for (int i = 0; i < 300 || !idle_rounds; i++) {
		size_t at = i % (size / PAGE) * PAGE;

		EXPECT_EQ(gmem_convert(fd, at, PAGE, true), 0);
		EXPECT_EQ(gmem_convert(fd, at, PAGE, false), 0);
		EXPECT(can_read(m + at));
	}
	idle_on = false;
	pthread_join(thread, NULL);
	EXPECT(holds(m, 3 * 2 * MB, SECRET));
	munmap(m, size);
	close(fd);
	close(bitmap);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Init of the Linux guest, which is this same program: tests its memory, shares
 * some of it with the host, and says how that went.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "linux_guest.h"
#include "vmm.h"

static int failures;

#define CHECK(cond)							\
	do {								\
		if (!(cond)) {						\
			printf("guest: line %d: %s\n", __LINE__, #cond);\
			failures++;					\
		}							\
	} while (0)

static uint64_t gpa_of(const void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	CHECK(pread(fd, &entry, 8, (uintptr_t)p / PAGE * 8) == 8);
	close(fd);
	return (entry & ((1ULL << 55) - 1)) * PAGE;
}

static uint64_t *get_memory(size_t size)
{
	uint64_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	CHECK(p != MAP_FAILED);
	CHECK(!mlock(p, size));
	return p;
}

/* In @nr processes at a time, which have a CPU each as far as there are. */
static void at_once(int nr, void (*fn)(int i, size_t arg), size_t arg)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);

	for (int i = 0; i < nr; i++) {
		if (!fork()) {
			run_on_cpu(i % cpus);
			failures = 0;
			fn(i, arg);
			_exit(failures != 0);
		}
	}
	for (int i = 0; i < nr; i++) {
		int status = -1;

		CHECK(wait(&status) > 0 && status == 0);
	}
}

static void write_and_read(int i, size_t size)
{
	uint64_t *p = get_memory(size);
	int bad = 0;

	for (size_t n = 0; n < size / 8; n += 64)
		p[n] = page_word(n, i + 1);
	for (size_t n = 0; n < size / 8; n += 64)
		bad += p[n] != page_word(n, i + 1);
	CHECK(!bad);
}

/* Half of what is free, written and read. */
static void test_memory(void)
{
	size_t size = sysconf(_SC_AVPHYS_PAGES) * PAGE / 4 & -MB;

	at_once(2, write_and_read, size);
	printf("2 x %zu MiB tested\n", size / MB);
}

/* Some of what a process gets lies beside the kernel, in what is always shared. */
static char *private_page(void)
{
	char *p = (char *)get_memory(16 * MB);

	for (size_t n = 0; n < 16 * MB; n += PAGE)
		if (gpa_of(p + n) > LINUX_SHARED)
			return p + n;
	CHECK(!"there is private memory");
	return p;
}

/* A page is shared, the host reads it and answers in it, it is private again. */
static void exchange(void)
{
	char *p = private_page();
	uint64_t gpa = gpa_of(p);

	strcpy(p, LINUX_QUESTION);
	CHECK(hypercall(HC_CONVERT, gpa, PAGE, 0) == 0);
	CHECK(hypercall(HC_LINUX_EXCHANGE, gpa, 0, 0) == 1);
	CHECK(!strcmp(p, LINUX_ANSWER));
	printf("the host says: %s\n", p);
	CHECK(hypercall(HC_CONVERT, gpa, PAGE, 1) == 0);
	CHECK(!strcmp(p, LINUX_ANSWER));
	CHECK(hypercall(HC_LINUX_OUT_OF_REACH, gpa, 0, 0) == 1);
}

/* Many single pages, here and there, back and forth. */
static void convert_many(int cpu, size_t times)
{
	size_t nr = 1024;
	uint64_t *p = get_memory(nr * PAGE);

	for (size_t i = 0; i < nr; i++)
		p[i * 512] = page_word(i, cpu + 7);
	for (size_t i = 0; i < times; i++) {
		uint64_t gpa = gpa_of(p + i * 37 % nr * 512);

		CHECK(hypercall(HC_CONVERT, gpa, PAGE, 0) == 0);
		CHECK(hypercall(HC_CONVERT, gpa, PAGE, 1) == 0);
	}
	for (size_t i = 0; i < nr; i++)
		CHECK(p[i * 512] == page_word(i, cpu + 7));
}

/* The I/O APIC and not the 8259 has them, and each CPU has its own timer. */
static void check_interrupts(int cpus)
{
	char text[8192] = "", *line;
	int fd = open("/proc/interrupts", O_RDONLY);

	for (size_t n = 0, got = 1; got > 0 && n < sizeof(text) - 1; n += got)
		got = read(fd, text + n, sizeof(text) - 1 - n);
	close(fd);
	CHECK(strstr(text, "IO-APIC"));
	line = strstr(text, "LOC:");
	CHECK(line);
	for (int i = 0; line && i < cpus; i++)
		CHECK(strtol(i ? line : line + 4, &line, 10) > 0);
}

/* The clock that the host writes into this guest's memory is there, and goes. */
static void check_clock(void)
{
	char clocks[256] = "";
	struct timespec a, b;
	int fd;

	mkdir("/sys", 0755);
	CHECK(!mount("sysfs", "/sys", "sysfs", 0, NULL));
	fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_WRONLY);
	CHECK(write(fd, "kvm-clock", 9) == 9);
	close(fd);
	fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY);
	CHECK(read(fd, clocks, sizeof(clocks) - 1) > 0);
	close(fd);
	CHECK(strstr(clocks, "kvm-clock"));
	clock_gettime(CLOCK_MONOTONIC_RAW, &a);
	usleep(100000);
	clock_gettime(CLOCK_MONOTONIC_RAW, &b);
	CHECK((b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec >= 100000000L);
	printf("kvm-clock goes\n");
}

static long number(const char *text, const char *key, long otherwise)
{
	const char *at = strstr(text, key);

	return at ? atol(at + strlen(key)) : otherwise;
}

static void linux_init(void)
{
	char cmdline[1024] = "", name[128] = "";
	int fd, cpus = sysconf(_SC_NPROCESSORS_ONLN);
	long times;

	mkdir("/proc", 0755);
	CHECK(!mount("proc", "/proc", "proc", 0, NULL));
	fd = open("/proc/cmdline", O_RDONLY);
	CHECK(read(fd, cmdline, sizeof(cmdline) - 1) > 0);
	close(fd);
	fd = open("/proc/version", O_RDONLY);
	CHECK(read(fd, name, sizeof(name) - 1) > 0);
	name[strcspn(name, "(")] = '\0';
	close(fd);
	CHECK(!ioperm(HYPERCALL_PORT, 4, 1));

	printf("%s with %d CPUs and %ld MiB\n", name, cpus,
	       sysconf(_SC_PHYS_PAGES) * PAGE / MB);
	test_memory();
	exchange();
	if (strstr(cmdline, "wants=kvm-clock"))
		check_clock();
	times = number(cmdline, "convert=", 100);
	hypercall(HC_LINUX_CONVERTING, 0, 0, 0);
	at_once(cpus, convert_many, times / cpus);
	hypercall(HC_LINUX_CONVERTED, 0, 0, 0);
	printf("%ld conversions\n", 2 * times);
	check_interrupts(cpus);
	printf(failures ? "FAILED\n" : "all is well\n");
	hypercall(HC_LINUX_DONE, failures, cpus, 0);
	reboot(RB_AUTOBOOT);
}

/* Before main(), whichever that is. */
__attribute__((constructor)) static void run_as_init(void)
{
	if (getpid() != 1)
		return;
	setvbuf(stdout, NULL, _IOLBF, 0);
	linux_init();
}

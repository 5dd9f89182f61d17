// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the kernel's own mm selftests, which lie in / of the machine, and KUnit
 * suites as its list says, and prints one line per case without anything that
 * differs from one run to the next.  With "used", after gmemfd was used hard.
 *
 *   mm LIST [used] [WORD]		WORD: only lines of LIST that contain it
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <time.h>

#include "../lib.h"

#define TIMEOUT		300		/* seconds, of one program */
#define POOLS		"/sys/kernel/mm/hugepages"
#define OUTPUT		"/tmp/output"

static struct {
	char program[64], text[128];
} exceptions[64];
static int nr_exceptions;
static bool broken;		/* nothing to compare with */

/* Results */

static void result(const char *program, const char *status, const char *name)
{
	size_t len = strcspn(program, " ");

	for (int i = 0; i < nr_exceptions; i++)
		if (strlen(exceptions[i].program) == len &&
		    !strncmp(program, exceptions[i].program, len) &&
		    strstr(name, exceptions[i].text))
			return;
	printf("%s: %s%s%s\n", program, status, *name ? " " : "", name);
}

/* Addresses. */
static void normalise(char *line)
{
	char *from = line, *to = line;

	while (*from) {
		if (from[0] == '0' && from[1] == 'x' && isxdigit(from[2])) {
			from += 2 + strspn(from + 2, "0123456789abcdefABCDEF");
			*to++ = '#';
			continue;
		}
		*to++ = *from++;
	}
	*to = '\0';
}

/* "ok 1 name # SKIP why" and the like, of TAP and KUnit; not the plan. */
static void tap_line(const char *program, char *line)
{
	const char *status = "ok";

	line += strspn(line, " ");
	line[strcspn(line, "\n")] = '\0';
	if (!strncmp(line, "not ok ", 7)) {
		status = "not ok";
		line += 4;
	} else if (strncmp(line, "ok ", 3)) {
		return;
	}
	line += 3;
	line += strspn(line, "0123456789");
	line += strspn(line, " -");
	if (strcasestr(line, "# skip"))
		status = "skip";
	normalise(line);
	result(program, status, line);
}

/* "Summary: TEST passed: 1 failed: 0 xfailed: 0 repeat: ..." of test_vmalloc */
static void summary_line(const char *program, char *line)
{
	char *end = strstr(line, " repeat:");

	if (end)
		*end = '\0';
	result(program, "summary", line + strlen("Summary: "));
}

/* Programs */

static void run_program(const char *line)
{
	char *argv[16], *words = strdup(line), status[32], *buf = NULL;
	int argc = 0, wstatus;
	time_t start = time(NULL);
	bool late = false;
	size_t size = 0;
	pid_t pid;
	FILE *f;

	for (char *w = strtok(words, " "); w && argc < 15; w = strtok(NULL, " "))
		argv[argc++] = w;
	argv[argc] = NULL;
	pid = fork();
	if (!pid) {
		char path[128];
		int fd = open(OUTPUT, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600);

		setsid();
		dup2(fd, 1);
		dup2(fd, 2);
		close(fd);
		snprintf(path, sizeof(path), "/%s", argv[0]);
		execv(path, argv);
		_exit(127);
	}
	while (!waitpid(pid, &wstatus, WNOHANG) && !late) {
		usleep(10000);
		late = time(NULL) - start > TIMEOUT;
	}
	kill(-pid, SIGKILL);
	if (late) {
		waitpid(pid, &wstatus, 0);
		sprintf(status, "timeout");
		broken = true;
	} else if (WIFSIGNALED(wstatus)) {
		sprintf(status, "signal %d", WTERMSIG(wstatus));
	} else {
		sprintf(status, "exit %d", WEXITSTATUS(wstatus));
		broken |= WEXITSTATUS(wstatus) == 127;
	}
	f = fopen(OUTPUT, "r");
	while (f && getline(&buf, &size, f) > 0)
		tap_line(line, buf);
	if (f)
		fclose(f);
	result(line, status, "");
	free(buf);
	free(words);
}

/* Modules: what they say is in the kernel log. */

static void run_module(const char *line)
{
	char name[64], text[8192], args[128] = "";
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	ssize_t n;

	EXPECT(kmsg >= 0);
	lseek(kmsg, 0, SEEK_END);
	EXPECT(sscanf(line, "%63s %127[^\n]", name, args) >= 1);
	if (!module_load(name, args))
		EXPECT(EVENTUALLY(!module_unload(name)));
	else	/* a test that never stays loaded */
		EXPECT_EQ(errno, EAGAIN);
	while ((n = read(kmsg, text, sizeof(text) - 1)) > 0 || errno == EPIPE) {
		char *said = n > 0 ? memchr(text, ';', n) : NULL, *summary;

		if (!said)
			continue;
		text[n] = '\0';
		said[strcspn(said, "\n")] = '\0';
		summary = strstr(said, "Summary: ");
		if (summary)
			summary_line(name, summary);
		else
			tap_line(name, said + 1);
	}
	close(kmsg);
}

/* The machine */

/* A program of the list, once, wants a shell: for "echo VALUE > FILE". */
static int shell(const char *command)
{
	char value[64], path[128];

	if (sscanf(command, "echo %63s > %127s", value, path) != 2)
		return 127;
	write_text(path, value);
	return 0;
}

/* Swap space on a RAM disk. */
static void add_swap(void)
{
	uint32_t header[PAGE / 4] = { [256] = 1, [257] = 128 * MB / PAGE - 1 };
	int fd;

	memcpy((char *)header + PAGE - 10, "SWAPSPACE2", 10);
	EXPECT_EQ(module_load("brd", "rd_nr=1 rd_size=131072"), 0);
	fd = open("/dev/ram0", O_WRONLY);
	EXPECT_EQ(write(fd, header, sizeof(header)), sizeof(header));
	close(fd);
	EXPECT_EQ(swapon("/dev/ram0", 0), 0);
}

static void remove_swap(void)
{
	EXPECT_EQ(swapoff("/dev/ram0"), 0);
	EXPECT(EVENTUALLY(!module_unload("brd")));
}

/*
 * Programs run their cases on every size of huge page there is; with 1 GiB that
 * would be minutes of clearing memory.
 */
static void hide_1g_pages(void)
{
	mkdir("/tmp/2m", 0755);
	EXPECT_EQ(mount(POOLS "/hugepages-2048kB", "/tmp/2m", NULL, MS_BIND, NULL), 0);
	EXPECT_EQ(mount("tmpfs", POOLS, "tmpfs", 0, NULL), 0);
	mkdir(POOLS "/hugepages-2048kB", 0755);
	EXPECT_EQ(mount("/tmp/2m", POOLS "/hugepages-2048kB", NULL, MS_BIND, NULL), 0);
}

/* What one program leaves behind is nothing to the next. */
static void tidy(void)
{
	write_text("/proc/sys/vm/enable_soft_offline", "1");
	if (pool(2 * MB, "nr_hugepages") != 256)
		write_text(POOLS "/hugepages-2048kB/nr_hugepages", "256");
}

/* gmemfd, used hard */

static void use_2m(void)
{
	const size_t size = 48 * MB;
	int fd = gmem_create(size, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, size);
	struct pin ring, pipe;

	fill(p, size, 1);
	for (int round = 0; round < 4; round++) {
		for (size_t at = round * PAGE; at < size; at += 13 * PAGE)
			EXPECT_EQ(gmem_convert(fd, at, PAGE, true), 0);
		EXPECT(!can_read(p + round * PAGE));
		EXPECT_EQ(gmem_convert(fd, 0, size / 2, round & 1), 0);
		for (size_t at = 0; at < size; at += 4 * MB)
			EXPECT_EQ(gmem_convert(fd, at, 2 * MB, true), 0);
		EXPECT_EQ(gmem_convert(fd, 0, size, false), 0);
		EXPECT(holds(p, size, 1));
	}
	pin_io_uring(&ring, p + 4 * MB, 2 * MB);
	pin_pipe(&pipe, p + 8 * MB + 5 * PAGE, PAGE);
	EXPECT_ERR(gmem_convert(fd, 0, size, true), EAGAIN);
	EXPECT_EQ(gmem_convert(fd, 10 * MB, PAGE, true), 0);
	EXPECT_EQ(gmem_punch(fd, 0, 10 * MB), 0);
	close(fd);
	munmap(p, size);
	unpin(&ring);
	unpin(&pipe);
}

static void use_1g(void)
{
	int fd = gmem_create(GB, GB, 0);
	char *p = gmem_map(fd, 0, GB);
	struct pin pin;

	EXPECT_EQ(gmem_allocate(fd, 0, GB), 0);
	for (size_t at = 3 * PAGE; at < GB; at += 32 * MB) {
		EXPECT_EQ(gmem_convert(fd, at, PAGE, false), 0);
		fill(p + at, PAGE, at);
	}
	EXPECT_EQ(gmem_convert(fd, 0, GB, false), 0);
	for (size_t at = 0; at < GB; at += 64 * MB)
		EXPECT_EQ(gmem_convert(fd, at, 2 * MB, true), 0);
	EXPECT_EQ(gmem_convert(fd, 0, GB, false), 0);
	EXPECT(holds(p + 3 * PAGE, PAGE, 3 * PAGE));
	pin_io_uring(&pin, p + 6 * MB, 4 * MB);
	EXPECT_EQ(gmem_punch(fd, 0, 512 * MB), 0);
	close(fd);
	munmap(p, GB);
	unpin(&pin);
}

static void use_gmemfd(void)
{
	static void (* const uses[])(void) = { use_2m, use_2m, use_1g };
	long free_2m = pool(2 * MB, "free_hugepages"), free_1g = pool(GB, "free_hugepages");

	for (int round = 0; round < 2; round++) {
		int status, failed = 0;

		fflush(stdout);
		for (int i = 0; i < 3; i++) {
			if (fork())
				continue;
			uses[i]();
			_exit(0);
		}
		while (wait(&status) > 0)
			failed |= status;
		EXPECT(!failed);
		EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == free_2m &&
				  pool(GB, "free_hugepages") == free_1g));
		EXPECT(EVENTUALLY(!module_unload("gmemfd")));
		EXPECT_EQ(module_load("gmemfd", ""), 0);
	}
	printf("# gmemfd was used\n");
}

int main(int argc, char **argv)
{
	const char *word = argc > 2 ? argv[argc - 1] : "";
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	FILE *list;

	if (argc == 3 && !strcmp(argv[0], "sh"))
		return shell(argv[2]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	list = fopen(argv[1], "r");
	EXPECT(list);
	mkdir("/bin", 0755);
	EXPECT_EQ(symlink("/prog", "/bin/sh"), 0);
	add_swap();
	if (argc > 2 && !strcmp(argv[2], "used")) {
		use_gmemfd();
		word = argc > 3 ? argv[3] : "";
	}
	hide_1g_pages();
	while ((len = getline(&line, &size, list)) > 0) {
		struct timespec a, b;

		line[len - 1] = '\0';
		if (!*line || *line == '#')
			continue;
		if (!strncmp(line, "except ", 7)) {
			EXPECT(nr_exceptions < 64);
			EXPECT_EQ(sscanf(line + 7, "%63s %127[^\n]",
					 exceptions[nr_exceptions].program,
					 exceptions[nr_exceptions].text), 2);
			nr_exceptions++;
			continue;
		}
		if (!strstr(line, word))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &a);
		if (!strncmp(line, "load ", 5))
			EXPECT_EQ(module_load(line + 5, ""), 0);
		else if (!strncmp(line, "unload ", 7))
			EXPECT(EVENTUALLY(!module_unload(line + 7)));
		else if (!strncmp(line, "module ", 7))
			run_module(line + 7);
		else
			run_program(line);
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("# %s: %ld ms\n", line, (b.tv_sec - a.tv_sec) * 1000 +
		       (b.tv_nsec - a.tv_nsec) / 1000000);
		tidy();
	}
	remove_swap();
	return broken;
}

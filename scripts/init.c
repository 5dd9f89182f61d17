// SPDX-License-Identifier: GPL-2.0
/*
 * Init of the lab machine: loads the modules named by lab.modules=, runs
 * /prog with the arguments in /args, unloads, and writes the program's exit
 * status to the third serial port.  Program output goes to the first port,
 * the kernel log to the second.  A line "lab: ..." in the log means failure.
 *
 * Run on the host with --tsc-khz it says how fast the time stamp counter is,
 * which the emulated machine shares and cannot find out.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define KMEMLEAK "/sys/kernel/debug/kmemleak"

static void log_failure(const char *fmt, ...)
{
	char line[256] = "<3>lab: ";
	va_list ap;
	int fd;

	va_start(ap, fmt);
	vsnprintf(line + strlen(line), sizeof(line) - strlen(line), fmt, ap);
	va_end(ap);
	fd = open("/dev/kmsg", O_WRONLY);
	if (write(fd, line, strlen(line)) < 0)
		perror("/dev/kmsg");
	close(fd);
}

static void mount_at(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL) && errno != EBUSY)
		log_failure("mount %s: %s", dir, strerror(errno));
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		log_failure("write %s: %s", path, strerror(errno));
	close(fd);
}

static char **module_list(char *cmdline)
{
	static char *names[16];
	char *list = strstr(cmdline, "lab.modules="), *name;
	int n = 0;

	if (!list)
		return names;
	list += strlen("lab.modules=");
	list[strcspn(list, " \n")] = '\0';
	for (name = strtok(list, ","); name && n < 15; name = strtok(NULL, ","))
		names[n++] = name;
	return names;
}

static void load(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/lib/%s.ko", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		log_failure("load %s: %s", name, strerror(errno));
	close(fd);
}

/* What the program left behind (a ring being torn down) may take a moment. */
static void unload(char *name)
{
	int i;

	for (i = 0; name[i]; i++)	/* hwpoison-inject.ko is hwpoison_inject */
		if (name[i] == '-')
			name[i] = '_';
	for (i = 0; i < 30; i++) {
		if (!syscall(SYS_delete_module, name, O_NONBLOCK))
			return;
		usleep(100000);
	}
	log_failure("unload %s: %s", name, strerror(errno));
}

/* Leaks are reported once they have been seen unreferenced twice. */
static void report_leaks(void)
{
	char buf[4096];
	ssize_t n;
	int fd;

	if (access(KMEMLEAK, F_OK))
		return;
	write_file(KMEMLEAK, "scan");
	sleep(6);		/* objects younger than 5 s are spared */
	write_file(KMEMLEAK, "scan");
	fd = open(KMEMLEAK, O_RDONLY);
	while ((n = read(fd, buf, sizeof(buf) - 1)) > 0) {
		buf[n] = '\0';
		log_failure("%s", buf);
	}
	close(fd);
}

static char *read_all(const char *path, size_t *len)
{
	char *buf = calloc(1, 65536);
	int fd = open(path, O_RDONLY);
	ssize_t n;

	*len = 0;
	while ((n = read(fd, buf + *len, 65535 - *len)) > 0)
		*len += n;
	close(fd);
	return buf;
}

static int run_program(void)
{
	char *argv[256], *args;
	int argc = 0, status;
	size_t len, i;
	pid_t pid;

	args = read_all("/args", &len);
	for (i = 0; i < len && argc < 255; i += strlen(args + i) + 1)
		argv[argc++] = args + i;
	argv[argc] = NULL;

	pid = fork();
	if (!pid) {
		setsid();
		execv("/prog", argv);
		perror("/prog");
		_exit(127);
	}
	while (wait(&status) != pid)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int print_tsc_khz(void)
{
	struct timespec a, b;
	unsigned long long tsc;

	clock_gettime(CLOCK_MONOTONIC, &a);
	tsc = __rdtsc();
	usleep(50000);
	clock_gettime(CLOCK_MONOTONIC, &b);
	tsc = __rdtsc() - tsc;
	printf("%.0f\n", tsc / ((b.tv_sec - a.tv_sec) * 1e3 +
				(b.tv_nsec - a.tv_nsec) / 1e6));
	return 0;
}

int main(int argc, char **argv)
{
	char *cmdline, **modules, text[16];
	struct termios tio;
	int out, status, i;
	bool no_leak_scan;
	size_t len;

	if (argc > 1 && !strcmp(argv[1], "--tsc-khz"))
		return print_tsc_khz();

	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");
	mount_at("tmpfs", "/tmp");
	mount_at("debugfs", "/sys/kernel/debug");
	mount_at("cgroup2", "/sys/fs/cgroup");
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory +hugetlb");

	out = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
	if (out < 0)
		out = open("/dev/console", O_RDWR);
	if (!tcgetattr(out, &tio)) {
		cfmakeraw(&tio);
		tcsetattr(out, TCSANOW, &tio);
	}
	dup2(out, 0);
	dup2(out, 1);
	dup2(out, 2);
	setenv("PATH", "/", 1);
	setenv("HOME", "/tmp", 1);

	cmdline = read_all("/proc/cmdline", &len);
	no_leak_scan = strstr(cmdline, "lab.noleakscan");
	modules = module_list(cmdline);
	for (i = 0; modules[i]; i++)
		load(modules[i]);
	write_file(KMEMLEAK, "clear");

	status = run_program();

	while (i--)
		unload(modules[i]);
	if (!no_leak_scan)
		report_leaks();

	tcdrain(1);
	i = open("/dev/ttyS2", O_WRONLY | O_NOCTTY);
	len = snprintf(text, sizeof(text), "%d", status);
	if (write(i, text, len) != (ssize_t)len)
		log_failure("status: %s", strerror(errno));
	tcdrain(i);
	reboot(LINUX_REBOOT_CMD_RESTART);
	return 1;
}

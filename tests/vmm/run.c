// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "run.h"

#define USER	1000
#define KVM	108		/* the group */

static struct qemu vms[2];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

void give_to_qemu(const char *device)
{
	EXPECT_EQ(chown(device, 0, KVM), 0);
	EXPECT_EQ(chmod(device, 0660), 0);
}

static void prepare(void)
{
	static const char *const fs[][2] = {
		{ "devtmpfs", "/vmm/dev" }, { "proc", "/vmm/proc" },
		{ "debugfs", "/sys/kernel/debug" },
	};

	for (int i = 0; i < 3; i++) {
		if (mount(fs[i][0], fs[i][1], fs[i][0], 0, NULL) && errno != EBUSY)
			FAIL("mount %s: errno %d", fs[i][1], errno);
	}
	mkdir("/vmm/tmp", 0777);
	chmod("/vmm/tmp", 01777);
	give_to_qemu("/dev/kvm");
	signal(SIGPIPE, SIG_IGN);
}

static void mount_at(const char *name, const char *type, const char *options)
{
	char path[64], all[256];

	prepare();
	snprintf(path, sizeof(path), "/vmm/%s", name);
	snprintf(all, sizeof(all), "mode=0770,gid=%d,%s", KVM, options);
	mkdir(path, 0755);
	EXPECT_EQ(mount("none", path, type, 0, all), 0);
}

void mount_memory(const char *name, const char *options)
{
	mount_at(name, "gmemfd", options);
}

void mount_hugetlbfs(const char *name, const char *block)
{
	char options[64];

	snprintf(options, sizeof(options), "pagesize=%s", block);
	mount_at(name, "hugetlbfs", options);
}

void umount_memory(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/vmm/%s", name);
	EXPECT(EVENTUALLY(!umount(path)));
}

__attribute__((noreturn))
static void become_qemu(struct qemu *qemu, int in, int out, char **argv)
{
	const gid_t group = KVM;

	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	for (int fd = 3; fd < 256; fd++)
		close(fd);
	if (chroot("/vmm") || chdir("/") || setgroups(1, &group) || setgid(USER) || setuid(USER))
		_exit(126);
	execv(argv[0], argv);
	printf("%s: errno %d\n", qemu->name, errno);
	_exit(127);
}

void qemu_add(struct qemu_args *args, ...)
{
	const char *arg;
	va_list list;

	va_start(list, args);
	while ((arg = va_arg(list, const char *))) {
		EXPECT(args->n < QEMU_MAX_ARGS - 1);
		args->v[args->n++] = arg;
	}
	va_end(list);
	args->v[args->n] = NULL;
}

/* What a command line is made of stays for as long as the program runs. */
__attribute__((format(printf, 1, 2)))
static const char *text(const char *fmt, ...)
{
	va_list list;
	char *made;

	va_start(list, fmt);
	EXPECT(vasprintf(&made, fmt, list) >= 0);
	va_end(list);
	return made;
}

/*
 * Where the shim is a module kvmclock stands still in secret memory: see docs/vmm.md.  A guest
 * without it measures how fast its time stamp counter is, and what it measures under emulation
 * is of no use.  So it is told, as scripts/lab has told this machine.
 */
static const char *clock_of_guest(void)
{
	char line[4096];
	const char *khz;
	FILE *f;

	if (!shim_is_module())
		return "";
	f = fopen("/proc/cmdline", "r");
	EXPECT(f && fgets(line, sizeof(line), f));
	fclose(f);
	khz = strstr(line, "tsc_early_khz=");
	EXPECT(khz);
	return text(" tsc=reliable %.*s", (int)strcspn(khz, " \n"), khz);
}

struct qemu_args qemu_machine(enum qemu_machine kind, const char *cpus)
{
	const char *cpu = shim_is_module() ? "kvm64,kvmclock=off" : "kvm64";
	struct qemu_args args = { };

	prepare();
	if (kind == MICROVM)
		qemu_add(&args, "/usr/bin/qemu-system-x86_64-microvm", "-M", "microvm,rtc=on",
			 NULL);
	else
		qemu_add(&args, "/usr/bin/qemu-system-x86_64", "-M", "q35,smm=on",
			 "-vga", "none", NULL);
	qemu_add(&args, "-accel", "kvm", "-cpu", cpu, "-smp", cpus, "-nodefaults",
		 "-no-user-config", "-display", "none", "-chardev",
		 "stdio,id=console,signal=off", "-serial", "chardev:console", NULL);
	return args;
}

#define LEGACY	"disable-modern=on,disable-legacy=off"

void qemu_devices(struct qemu_args *args, enum qemu_machine kind)
{
	qemu_add(args, "-drive", "if=none,id=disk,format=raw,file=/guest/disk,snapshot=on",
		 "-netdev", "hubport,hubid=0,id=n0", "-netdev", "hubport,hubid=0,id=n1", NULL);
	if (kind == MICROVM)
		qemu_add(args, "-device", "virtio-blk-device,drive=disk",
			 "-device", "virtio-net-device,netdev=n0",
			 "-device", "virtio-net-device,netdev=n1", NULL);
	else
		/*
		 * Modern cards are notified by MMIO.  The emulated CPU that KVM runs on can keep
		 * what an exception in the guest has left in EXITINTINFO, apart from its valid
		 * bit, and KVM takes the next such access for one in the course of a delivery.
		 */
		qemu_add(args, "-device", "virtio-blk-pci,drive=disk",
			 "-device", "virtio-net-pci,netdev=n0,romfile=," LEGACY,
			 "-device", "virtio-net-pci,netdev=n1,romfile=," LEGACY, NULL);
}

void qemu_memory(struct qemu_args *args, const char *size, const char *path)
{
	qemu_add(args, "-m", size, "-object",
		 text("memory-backend-file,id=ram,size=%s,mem-path=%s,share=on,align=1G,prealloc=on",
		      size, path),
		 "-machine", "memory-backend=ram", NULL);
}

struct qemu_args qemu_command(int nr, const struct qemu_args *args, const char *append)
{
	struct qemu_args all = *args;

	qemu_add(&all, "-qmp", text("unix:/tmp/vm%d.qmp,server=on,wait=off", nr),
		 "-kernel", "/guest/vmlinuz", "-initrd", "/guest/initrd", "-append",
		 text("console=ttyS0 panic=-1 reboot=t%s %s", clock_of_guest(), append), NULL);
	return all;
}

struct qemu *qemu_start(int nr, const struct qemu_args *args, const char *append)
{
	struct qemu_args all = qemu_command(nr, args, append);
	struct qemu *qemu = &vms[nr];
	int in[2], out[2];

	*qemu = (struct qemu) { .qmp = -1, .started = now() };
	snprintf(qemu->name, sizeof(qemu->name), "vm%d", nr);
	EXPECT_EQ(pipe2(in, O_CLOEXEC), 0);
	EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
	qemu->pid = fork();
	EXPECT(qemu->pid >= 0);
	if (!qemu->pid)
		become_qemu(qemu, in[0], out[1], (char **)all.v);
	close(in[0]);
	close(out[1]);
	qemu->in = in[1];
	qemu->out = out[0];
	return qemu;
}

void show_console(struct qemu *qemu)
{
	char *line = qemu->said;

	/* The end of it. */
	if (qemu->len > 6000)
		line += qemu->len - 6000;
	for (char *end; *line; line = end + 1) {
		end = strchrnul(line, '\n');
		printf("# %s: %.*s\n", qemu->name, (int)strcspn(line, "\r\n"), line);
		if (!*end)
			break;
	}
}

bool said(struct qemu *qemu, const char *what, int seconds)
{
	double end = now() + seconds;

	for (;;) {
		struct pollfd fd = { .fd = qemu->out, .events = POLLIN };
		char *found = strstr(qemu->said + qemu->seen, what);
		ssize_t n;

		if (found) {
			qemu->seen = found + strlen(what) - qemu->said;
			return true;
		}
		EXPECT(qemu->len < sizeof(qemu->said) - 1);
		if (poll(&fd, 1, 1000) > 0) {
			n = read(qemu->out, qemu->said + qemu->len,
				 sizeof(qemu->said) - 1 - qemu->len);
			if (n > 0) {
				qemu->len += n;
				continue;
			}
		}
		if (now() >= end || fd.revents & POLLHUP)
			return false;
	}
}

void expect_said(struct qemu *qemu, const char *what, int seconds)
{
	if (said(qemu, what, seconds))
		return;
	show_console(qemu);
	FAIL("%s: no \"%s\" in %d s", qemu->name, what, seconds);
}

void tell_guest(struct qemu *qemu, const char *order)
{
	EXPECT_EQ(write(qemu->in, order, strlen(order)), (ssize_t)strlen(order));
	EXPECT_EQ(write(qemu->in, "\n", 1), 1);
}

void expect_well(struct qemu *qemu)
{
	expect_said(qemu, "guest: all is well", 120);
	if (strstr(qemu->said, "guest: not ok")) {
		show_console(qemu);
		FAIL("the guest is not well");
	}
	for (char *line = qemu->said; (line = strstr(line, "guest: ")); line++)
		printf("# %s: %.*s\n", qemu->name, (int)strcspn(line, "\r\n"), line);
}

static void qmp_connect(struct qemu *qemu)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "/vmm/tmp/%s.qmp", qemu->name);
	qemu->qmp = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT(qemu->qmp >= 0);
	for (int i = 0; connect(qemu->qmp, (void *)&address, sizeof(address)); i++) {
		if (i == 300) {
			show_console(qemu);
			FAIL("%s: no monitor, errno %d", qemu->name, errno);
		}
		usleep(100000);
	}
}

/* One line of the monitor's. */
static void qmp_line(struct qemu *qemu, char *line, size_t size)
{
	size_t n = 0;

	while (n < size - 1 && read(qemu->qmp, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = 0;
	EXPECT(n > 0);
}

const char *qmp(struct qemu *qemu, const char *command)
{
	static char line[1 << 14];

	if (qemu->qmp < 0) {
		qmp_connect(qemu);
		qmp(qemu, "{ \"execute\": \"qmp_capabilities\" }");
	}
	EXPECT_EQ(write(qemu->qmp, command, strlen(command)), (ssize_t)strlen(command));
	do {
		qmp_line(qemu, line, sizeof(line));
	} while (strstr(line, "\"event\"") || strstr(line, "\"QMP\""));
	return line;
}

void qmp_ok(struct qemu *qemu, const char *command)
{
	const char *said = qmp(qemu, command);

	if (!strstr(said, "\"return\""))
		FAIL("%s: %s: %s", qemu->name, command, said);
}

void qemu_end(struct qemu *qemu, int signal)
{
	int status;

	if (signal)
		kill(qemu->pid, signal);
	EXPECT_EQ(waitpid(qemu->pid, &status, 0), qemu->pid);
	if (!signal && status) {
		show_console(qemu);
		FAIL("%s: ended with %#x", qemu->name, status);
	}
	close(qemu->in);
	close(qemu->out);
	if (qemu->qmp >= 0)
		close(qemu->qmp);
}

/*
 * The emulated CPU under KVM can lose a guest's interrupt, or tell KVM of one that is not there,
 * on ordinary memory as well: then the guest is started again.
 */
struct qemu *qemu_start_guest(int nr, const struct qemu_args *args, const char *append,
			      int seconds)
{
	for (int i = 0;; i++) {
		struct qemu *qemu = qemu_start(nr, args, append);

		if (said(qemu, "guest: Linux", seconds))
			return qemu;
		show_console(qemu);
		if (i == 2)
			FAIL("%s: the guest does not boot", qemu->name);
		printf("# %s: started again\n", qemu->name);
		qemu_end(qemu, SIGKILL);
	}
}

struct qemu *qemu_boot(int nr, const struct qemu_args *args, const char *append)
{
	struct qemu *qemu = qemu_start_guest(nr, args, append, 150);

	expect_well(qemu);
	return qemu;
}

static const char *wait_for_migration(struct qemu *from, int seconds)
{
	double end = now() + seconds;
	const char *said;

	do {
		usleep(500000);
		said = qmp(from, "{ \"execute\": \"query-migrate\" }");
		if (strstr(said, "\"failed\"") || now() > end)
			FAIL("migration: %s", said);
	} while (!strstr(said, "\"completed\""));
	return said;
}

const char *migrate(struct qemu *from, const char *uri, int seconds)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "{ \"execute\": \"migrate\", \"arguments\": { \"uri\": \"%s\" } }", uri);
	qmp_ok(from, "{ \"execute\": \"migrate-set-parameters\", \"arguments\": "
		     "{ \"downtime-limit\": 3000, \"max-bandwidth\": 10000000000 } }");
	qmp_ok(from, command);
	return wait_for_migration(from, seconds);
}

long stat_of_kvm(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%s", name);
	return read_long(path);
}

#define DIGITS	16		/* of the guest's pattern */

int times_in_kcore(struct qemu *qemu, unsigned long *mib)
{
	static const char first[] = "guest: pattern ", second[] = "-of-the-guest-2";
	static unsigned char buf[1 << 20];
	/* With all bits inverted: this process must not have what it looks for. */
	unsigned char wanted[DIGITS + sizeof(second) - 1];
	const char *said = strstr(qemu->said, first);
	unsigned long frames = 0;
	int times = 0;
	char line[128];
	FILE *f;

	EXPECT(said);
	said += strlen(first);
	for (size_t i = 0; i < sizeof(wanted); i++)
		wanted[i] = ~(i < DIGITS ? "0123456789abcdef"[(said[i] - 'g') & 15] :
			      second[i - DIGITS]);
	f = fopen("/proc/iomem", "r");
	EXPECT(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx : System RAM", &from, &to) != 2 ||
		    !strstr(line, "System RAM"))
			continue;
		for (unsigned long at = from & -PAGE; at < to; at += sizeof(buf)) {
			size_t size = to + 1 - at < sizeof(buf) ? to + 1 - at : sizeof(buf);
			long n = read_kcore(at, buf, size);

			frames += n > 0 ? n / PAGE : 0;
			for (long i = 0; i + (long)sizeof(wanted) <= n; i++) {
				unsigned char *p = memchr(buf + i, (unsigned char)~wanted[0],
							  n - i - sizeof(wanted) + 1);
				size_t k = 0;

				if (!p)
					break;
				while (k < sizeof(wanted) && p[k] == (unsigned char)~wanted[k])
					k++;
				times += k == sizeof(wanted);
				i = p - buf;
			}
		}
	}
	fclose(f);
	memset(buf, 0, sizeof(buf));
	*mib = frames / 256;
	return times;
}


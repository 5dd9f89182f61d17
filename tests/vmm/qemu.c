// SPDX-License-Identifier: GPL-2.0
/*
 * Debian's QEMU, as it is: all that it is told is a path for its guest's memory.  It runs as
 * an ordinary user of group kvm, in /vmm, which scripts/lab has filled; its guest is
 * guest-init under Debian's kernel.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "../lib.h"

#define USER	1000
#define KVM	108		/* the group */
#define PATTERN	"b1ff0a5c"

/**
 * struct qemu - one QEMU
 * @pid: the process
 * @in: to the guest's console
 * @out: from there
 * @qmp: to QEMU's monitor; -1 until it is needed
 * @name: of its socket
 * @said: what the guest has said
 * @len: number of bytes
 * @seen: number of bytes that were waited for
 */
struct qemu {
	pid_t pid;
	int in, out, qmp;
	char name[16];
	char said[1 << 17];
	size_t len, seen;
};

static struct qemu vms[2];

/* --- QEMU ---------------------------------------------------------------------- */

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
	EXPECT_EQ(chown("/dev/kvm", 0, KVM), 0);
	EXPECT_EQ(chmod("/dev/kvm", 0660), 0);
	signal(SIGPIPE, SIG_IGN);
}

/* Memory for guests, at /vmm/@name. */
static void mount_memory(const char *name, const char *options)
{
	char path[64], all[256];

	prepare();
	snprintf(path, sizeof(path), "/vmm/%s", name);
	snprintf(all, sizeof(all), "mode=0770,gid=%d,%s", KVM, options);
	mkdir(path, 0755);
	EXPECT_EQ(mount("none", path, "gmemfd", 0, all), 0);
}

static void umount_memory(const char *name)
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

#define MAX_ARGS	80

/* The command line of a QEMU. */
struct args {
	const char *v[MAX_ARGS];
	int n;
};

/* Up to NULL. */
static void add(struct args *args, ...)
{
	const char *arg;
	va_list list;

	va_start(list, args);
	while ((arg = va_arg(list, const char *))) {
		EXPECT(args->n < MAX_ARGS - 1);
		args->v[args->n++] = arg;
	}
	va_end(list);
	args->v[args->n] = NULL;
}

enum machine { MICROVM, Q35 };

/* What all have. */
static struct args machine(enum machine kind, const char *cpus)
{
	struct args args = { };

	if (kind == MICROVM)
		add(&args, "/usr/bin/qemu-system-x86_64-microvm", "-M", "microvm,rtc=on", NULL);
	else
		add(&args, "/usr/bin/qemu-system-x86_64", "-M", "q35,smm=on", "-vga", "none", NULL);
	add(&args, "-accel", "kvm", "-cpu", "kvm64", "-smp", cpus, "-nodefaults",
	    "-no-user-config", "-display", "none", "-chardev", "stdio,id=console,signal=off",
	    "-serial", "chardev:console", NULL);
	return args;
}

#define LEGACY	"disable-modern=on,disable-legacy=off"

static void devices(struct args *args, enum machine kind)
{
	add(args, "-drive", "if=none,id=disk,format=raw,file=/guest/disk,snapshot=on",
	    "-netdev", "hubport,hubid=0,id=n0", "-netdev", "hubport,hubid=0,id=n1", NULL);
	if (kind == MICROVM)
		add(args, "-device", "virtio-blk-device,drive=disk",
		    "-device", "virtio-net-device,netdev=n0",
		    "-device", "virtio-net-device,netdev=n1", NULL);
	else
		/*
		 * Modern cards are notified by MMIO.  The emulated CPU that KVM runs on can keep
		 * what an exception in the guest has left in EXITINTINFO, apart from its valid
		 * bit, and KVM takes the next such access for one in the course of a delivery.
		 */
		add(args, "-device", "virtio-blk-pci,drive=disk",
		    "-device", "virtio-net-pci,netdev=n0,romfile=," LEGACY,
		    "-device", "virtio-net-pci,netdev=n1,romfile=," LEGACY, NULL);
}

/* All of the guest's memory is a file, by its path.  @object must stay. */
static void memory(struct args *args, char (*object)[256], const char *size, const char *path)
{
	snprintf(*object, sizeof(*object),
		 "memory-backend-file,id=ram,size=%s,mem-path=%s,share=on,align=1G,prealloc=on",
		 size, path);
	add(args, "-m", size, "-object", *object, "-machine", "memory-backend=ram", NULL);
}

/* Start a QEMU; @append is more kernel command line. */
static struct qemu *qemu_start(int nr, const struct args *args, const char *append)
{
	struct qemu *qemu = &vms[nr];
	struct args all = *args;
	char line[512], qmp[64];
	int in[2], out[2];

	*qemu = (struct qemu) { .qmp = -1 };
	snprintf(qemu->name, sizeof(qemu->name), "vm%d", nr);
	snprintf(qmp, sizeof(qmp), "unix:/tmp/%s.qmp,server=on,wait=off", qemu->name);
	snprintf(line, sizeof(line), "console=ttyS0 panic=-1 reboot=t pattern=" PATTERN " %s",
		 append);
	add(&all, "-qmp", qmp, "-kernel", "/guest/vmlinuz", "-initrd", "/guest/initrd",
	    "-append", line, NULL);

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

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void show_console(struct qemu *qemu)
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

/* Wait until the guest, or QEMU, says something behind what was waited for before. */
static bool said(struct qemu *qemu, const char *what, int seconds)
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

static void expect_said(struct qemu *qemu, const char *what, int seconds)
{
	if (said(qemu, what, seconds))
		return;
	show_console(qemu);
	FAIL("%s: no \"%s\" in %d s", qemu->name, what, seconds);
}

static void tell_guest(struct qemu *qemu, const char *order)
{
	EXPECT_EQ(write(qemu->in, order, strlen(order)), (ssize_t)strlen(order));
	EXPECT_EQ(write(qemu->in, "\n", 1), 1);
}

/* The guest has booted: does all that it tries work? */
static void expect_well(struct qemu *qemu)
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

/* What the monitor answers, without events. */
static const char *qmp(struct qemu *qemu, const char *command)
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

static void qmp_ok(struct qemu *qemu, const char *command)
{
	const char *said = qmp(qemu, command);

	if (!strstr(said, "\"return\""))
		FAIL("%s: %s: %s", qemu->name, command, said);
}

/* The state of the memory is of interest after this. */
static void qemu_end(struct qemu *qemu, int signal)
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
 * Start a QEMU whose guest boots, and is well.  The emulated CPU under KVM can lose a
 * guest's interrupt, or tell KVM of one that is not there, on ordinary memory as well: then the
 * guest is started again.
 */
static struct qemu *qemu_boot(int nr, const struct args *args, const char *append)
{
	struct qemu *qemu;

	for (int i = 0;; i++) {
		qemu = qemu_start(nr, args, append);
		if (said(qemu, "guest: Linux", 150))
			break;
		show_console(qemu);
		if (i == 2)
			FAIL("%s: the guest does not boot", qemu->name);
		printf("# %s: started again\n", qemu->name);
		qemu_end(qemu, SIGKILL);
	}
	expect_well(qemu);
	return qemu;
}

/* --- the host --------------------------------------------------------------------- */

/* Over all VMs. */
static long stat_of_kvm(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%s", name);
	return read_long(path);
}

/*
 * How often does the host's kernel find what only the guest has written?  This process has
 * what it looks for in pieces, or with all bits inverted.
 */
static int times_in_kcore(void)
{
	static const char first[] = PATTERN, second[] = "-of-the-guest-2";
	static unsigned char buf[1 << 20], wanted[sizeof(first) + sizeof(second) - 2];
	int times = 0;
	unsigned long frames = 0;
	char line[128];
	FILE *f;

	for (size_t i = 0; i < sizeof(wanted); i++)
		wanted[i] = ~(i < sizeof(first) - 1 ? first[i] : second[i + 1 - sizeof(first)]);
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
	printf("# %lu MiB of the kernel's direct map: %d times\n", frames / 256, times);
	return times;
}

/* --- tests -------------------------------------------------------------------------- */

/* The host's end of a socket to the guest: it sends back what it gets. */
static void *echo(void *arg)
{
	static char buf[4096];
	ssize_t n;
	int fd;

	while ((fd = accept(*(int *)arg, NULL, NULL)) >= 0) {
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			EXPECT_EQ(write(fd, buf, n), n);
		close(fd);
	}
	return NULL;
}

/* For vhost, which runs in the kernel. */
static int listen_to_guest(unsigned int port)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = port,
	};
	static int fd;
	pthread_t thread;

	fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT(fd >= 0);
	EXPECT_EQ(bind(fd, (void *)&address, sizeof(address)), 0);
	EXPECT_EQ(listen(fd, 1), 0);
	EXPECT_EQ(pthread_create(&thread, NULL, echo, &fd), 0);
	EXPECT_EQ(chown("/dev/vhost-vsock", 0, KVM), 0);
	EXPECT_EQ(chmod("/dev/vhost-vsock", 0660), 0);
	return fd;
}

/*
 * All RAM is secret: the guest does not know, and the kernel does not see.  Its devices and its
 * clock work.
 */
TEST(vmm_microvm_secret)
{
	struct args args = machine(MICROVM, "2");
	long large = meminfo("DirectMap1G"), small = meminfo("DirectMap4k");
	long blocks = pool(GB, "free_hugepages");
	char object[256];
	struct qemu *vm;
	struct stat st;

	mount_memory("gmem", "block=1G,state=secret");
	memory(&args, &object, "1G", "/gmem/vm0");
	devices(&args, MICROVM);
	vm = qemu_boot(0, &args, "");
	EXPECT(strstr(vm->said, "kB, kvm-clock"));
	EXPECT(strstr(vm->said, "ok virtio-net"));
	EXPECT_EQ(stat("/vmm/gmem/vm0", &st), 0);
	EXPECT_EQ(st.st_size, GB);
	/* The kernel has mapped all but exactly this. */
	EXPECT_EQ(meminfo("DirectMap1G"), large - GB / 1024);
	EXPECT_EQ(meminfo("DirectMap4k"), small);
	EXPECT_EQ(pool(GB, "free_hugepages"), blocks - 1);
	/* Not 1 GiB: there are holes for the firmware. */
	EXPECT(stat_of_kvm("pages_2m") > 100);
	EXPECT_EQ(times_in_kcore(), 0);
	tell_guest(vm, "check");
	expect_said(vm, "guest: ok memory is the same", 60);
	qmp_ok(vm, "{ \"execute\": \"quit\" }");
	qemu_end(vm, 0);
	/* QEMU leaves a file that it was given a path of. */
	EXPECT_EQ(unlink("/vmm/gmem/vm0"), 0);
	EXPECT_EQ(meminfo("DirectMap1G"), large);
	EXPECT_EQ(pool(GB, "free_hugepages"), blocks);
	umount_memory("gmem");
}

/*
 * A PC with SeaBIOS: slots for reading only, a second address space for SMM, a reset.  And
 * vhost, which is the kernel's, and copies.
 */
TEST(vmm_q35_secret)
{
	int listening = listen_to_guest(1234);
	struct args args = machine(Q35, "1");
	char object[256];
	struct qemu *vm;

	mount_memory("gmem", "block=2M,state=secret");
	memory(&args, &object, "256M", "/gmem/vm0");
	devices(&args, Q35);
	add(&args, "-device", "vhost-vsock-pci,guest-cid=3", NULL);
	vm = qemu_boot(0, &args, "vsock=1234");
	EXPECT(strstr(vm->said, "ok vhost-vsock"));
	EXPECT(stat_of_kvm("pages_2m") > 60);
	tell_guest(vm, "reset");
	/* See qemu_boot(). */
	for (int i = 0; !said(vm, "guest: Linux", 150); i++) {
		EXPECT(i < 2);
		qmp_ok(vm, "{ \"execute\": \"system_reset\" }");
	}
	expect_well(vm);
	qmp_ok(vm, "{ \"execute\": \"quit\" }");
	qemu_end(vm, 0);
	EXPECT_EQ(unlink("/vmm/gmem/vm0"), 0);
	umount_memory("gmem");
	close(listening);
}

/* Secret memory, and some that is shared. */
TEST(vmm_q35_mixed)
{
	struct args args = machine(Q35, "2");
	struct qemu *vm;

	mount_memory("secret", "block=2M,state=secret");
	mount_memory("shared", "block=2M,state=shared");
	add(&args, "-m", "256M", "-object",
	    "memory-backend-file,id=m0,size=192M,mem-path=/secret/vm0,share=on,prealloc=on",
	    "-object", "memory-backend-file,id=m1,size=64M,mem-path=/shared/vm0,share=on",
	    "-numa", "node,memdev=m0,cpus=0", "-numa", "node,memdev=m1,cpus=1", NULL);
	devices(&args, Q35);
	vm = qemu_boot(0, &args, "");
	qmp_ok(vm, "{ \"execute\": \"quit\" }");
	qemu_end(vm, 0);
	EXPECT_EQ(unlink("/vmm/secret/vm0"), 0);
	EXPECT_EQ(unlink("/vmm/shared/vm0"), 0);
	umount_memory("secret");
	umount_memory("shared");
}

static void wait_for_migration(struct qemu *from, int seconds)
{
	double end = now() + seconds;
	const char *said;

	do {
		usleep(500000);
		said = qmp(from, "{ \"execute\": \"query-migrate\" }");
		if (strstr(said, "\"failed\"") || now() > end)
			FAIL("migration: %s", said);
	} while (!strstr(said, "\"completed\""));
	printf("# %.*s\n", (int)strcspn(said, "\r\n"), said);
}

static void migrate(struct qemu *from, const char *uri, int seconds)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "{ \"execute\": \"migrate\", \"arguments\": { \"uri\": \"%s\" } }", uri);
	qmp_ok(from, "{ \"execute\": \"migrate-set-parameters\", \"arguments\": "
		     "{ \"downtime-limit\": 3000, \"max-bandwidth\": 10000000000 } }");
	qmp_ok(from, command);
	wait_for_migration(from, seconds);
}

/* To another QEMU, with memory of its own, while the guest writes. */
TEST(vmm_migrates)
{
	struct args from = machine(MICROVM, "1"), to = machine(MICROVM, "1");
	char object[2][256];
	struct qemu *a, *b;

	mount_memory("gmem", "block=2M,state=secret");
	memory(&from, &object[0], "192M", "/gmem/vm0");
	a = qemu_boot(0, &from, "");
	tell_guest(a, "write");
	expect_said(a, "guest: ok writing", 30);

	memory(&to, &object[1], "192M", "/gmem/vm1");
	add(&to, "-incoming", "unix:/tmp/migration", NULL);
	b = qemu_start(1, &to, "");
	qmp(b, "{ \"execute\": \"query-status\" }");
	migrate(a, "unix:/tmp/migration", 200);
	qmp_ok(a, "{ \"execute\": \"quit\" }");
	qemu_end(a, 0);
	EXPECT_EQ(unlink("/vmm/gmem/vm0"), 0);

	tell_guest(b, "stop");
	expect_said(b, "guest: ok stopped", 60);
	tell_guest(b, "check");
	expect_said(b, "guest: ok memory is the same", 60);
	qmp_ok(b, "{ \"execute\": \"quit\" }");
	qemu_end(b, 0);
	EXPECT_EQ(unlink("/vmm/gmem/vm1"), 0);
	umount_memory("gmem");
}

/* To a file, and back from it. */
TEST(vmm_snapshot)
{
	struct args from = machine(MICROVM, "1"), to = machine(MICROVM, "1");
	char object[2][256];
	struct qemu *a, *b;

	mount_memory("gmem", "block=2M,state=secret");
	memory(&from, &object[0], "192M", "/gmem/vm0");
	a = qemu_boot(0, &from, "");
	migrate(a, "file:/tmp/snapshot", 200);
	qemu_end(a, SIGKILL);
	EXPECT_EQ(unlink("/vmm/gmem/vm0"), 0);

	memory(&to, &object[1], "192M", "/gmem/vm1");
	add(&to, "-incoming", "file:/tmp/snapshot", NULL);
	b = qemu_start(1, &to, "");
	for (int i = 0; !strstr(qmp(b, "{ \"execute\": \"query-status\" }"), "\"running\": true");
	     i++) {
		EXPECT(i < 600);
		usleep(100000);
	}
	tell_guest(b, "check");
	expect_said(b, "guest: ok memory is the same", 90);
	qemu_end(b, SIGKILL);
	EXPECT_EQ(unlink("/vmm/tmp/snapshot"), 0);
	EXPECT_EQ(unlink("/vmm/gmem/vm1"), 0);
	umount_memory("gmem");
}

/*
 * QEMU is replaced by another one on the same memory, which is not copied.  It is shared: what
 * only the guest has written, the kernel can find.
 */
TEST(vmm_replaced)
{
	static const char ignore[] = "{ \"execute\": \"migrate-set-capabilities\", "
		"\"arguments\": { \"capabilities\": [ "
		"{ \"capability\": \"x-ignore-shared\", \"state\": true } ] } }";
	struct args from = machine(MICROVM, "1"), to = machine(MICROVM, "1");
	char object[2][256];
	struct qemu *a, *b;

	mount_memory("gmem", "block=2M,state=shared");
	memory(&from, &object[0], "192M", "/gmem/vm0");
	a = qemu_boot(0, &from, "");
	EXPECT(times_in_kcore() > 0);

	memory(&to, &object[1], "192M", "/gmem/vm0");
	add(&to, "-incoming", "defer", NULL);
	b = qemu_start(1, &to, "");
	qmp_ok(b, ignore);
	qmp_ok(b, "{ \"execute\": \"migrate-incoming\", \"arguments\": "
		  "{ \"uri\": \"unix:/tmp/migration\" } }");
	qmp_ok(a, ignore);
	migrate(a, "unix:/tmp/migration", 100);
	qmp_ok(a, "{ \"execute\": \"quit\" }");
	qemu_end(a, 0);
	tell_guest(b, "check");
	expect_said(b, "guest: ok memory is the same", 60);
	qmp_ok(b, "{ \"execute\": \"quit\" }");
	qemu_end(b, 0);
	EXPECT_EQ(unlink("/vmm/gmem/vm0"), 0);
	umount_memory("gmem");
}

/* QEMU dies at any moment, with its guest: all is as it was. */
static void killed(int times)
{
	long large = meminfo("DirectMap1G"), blocks = pool(2 * MB, "free_hugepages");

	mount_memory("gmem", "block=2M,state=secret");
	srandom(time(NULL));
	for (int i = 0; i < times; i++) {
		struct args args = machine(i & 1 ? Q35 : MICROVM, "1");
		int ms = random() % 8000;
		char object[256];
		struct qemu *vm;

		memory(&args, &object, "192M", "/gmem/vm0");
		vm = qemu_start(0, &args, "");
		usleep(ms * 1000);
		qemu_end(vm, SIGKILL);
		EXPECT_EQ(unlink("/vmm/gmem/vm0"), 0);
		EXPECT_EQ(pool(2 * MB, "free_hugepages"), blocks);
		EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 0);
		EXPECT_EQ(meminfo("DirectMap1G"), large);
	}
	umount_memory("gmem");
}

/* Beyond the firmware's holes, the guest has it by 1 GiB. */
TEST(vmm_large)
{
	struct args args = machine(Q35, "1");
	char object[256];
	struct qemu *vm;

	if (pool(GB, "free_hugepages") < 5)
		test_skip("not enough pages of 1 GiB");
	mount_memory("gmem", "block=1G,state=secret");
	memory(&args, &object, "5G", "/gmem/vm0");
	devices(&args, Q35);
	vm = qemu_boot(0, &args, "");
	EXPECT(stat_of_kvm("pages_1g") > 0);
	qmp_ok(vm, "{ \"execute\": \"quit\" }");
	qemu_end(vm, 0);
	EXPECT_EQ(unlink("/vmm/gmem/vm0"), 0);
	umount_memory("gmem");
}

TEST(vmm_killed_a_few_times)
{
	killed(4);
}

TEST(vmm_killed_often)
{
	killed(50);
}

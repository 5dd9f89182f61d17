// SPDX-License-Identifier: GPL-2.0
/* Tests with Debian's QEMU, see run.h. */
#define _GNU_SOURCE
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "run.h"

static int found_in_kcore(struct qemu *qemu)
{
	unsigned long mib;
	int times = times_in_kcore(qemu, &mib);

	printf("# %lu MiB of the kernel's direct map: %d times\n", mib, times);
	return times;
}

static void migrate_and_tell(struct qemu *from, const char *uri, int seconds)
{
	const char *said = migrate(from, uri, seconds);

	printf("# %.*s\n", (int)strcspn(said, "\r\n"), said);
}

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
	give_to_qemu("/dev/vhost-vsock");
	return fd;
}

/*
 * All RAM is secret: the guest does not know, and the kernel does not see.  Its devices and its
 * clock work.
 */
TEST(vmm_microvm_secret)
{
	struct qemu_args args = qemu_machine(MICROVM, "2");
	long large = meminfo("DirectMap1G"), small = meminfo("DirectMap4k");
	long blocks = pool(GB, "free_hugepages");
	struct qemu *vm;
	struct stat st;

	mount_memory("gmem", "block=1G,state=secret");
	qemu_memory(&args, "1G", "/gmem/vm0");
	qemu_devices(&args, MICROVM);
	vm = qemu_boot(0, &args, "");
	/* As a module the shim has no kvmclock in such memory: see run.c. */
	EXPECT(shim_is_module() || strstr(vm->said, "kB, kvm-clock"));
	EXPECT(strstr(vm->said, "ok virtio-net"));
	EXPECT_EQ(stat("/vmm/gmem/vm0", &st), 0);
	EXPECT_EQ(st.st_size, GB);
	/* The kernel has mapped all but exactly this. */
	EXPECT_EQ(meminfo("DirectMap1G"), large - GB / 1024);
	EXPECT_EQ(meminfo("DirectMap4k"), small);
	EXPECT_EQ(pool(GB, "free_hugepages"), blocks - 1);
	/* Not 1 GiB: there are holes for the firmware. */
	EXPECT(stat_of_kvm("pages_2m") > 100);
	EXPECT_EQ(found_in_kcore(vm), 0);
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
	struct qemu_args args = qemu_machine(Q35, "1");
	struct qemu *vm;

	mount_memory("gmem", "block=2M,state=secret");
	qemu_memory(&args, "256M", "/gmem/vm0");
	qemu_devices(&args, Q35);
	qemu_add(&args, "-device", "vhost-vsock-pci,guest-cid=3", NULL);
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
	struct qemu_args args = qemu_machine(Q35, "2");
	struct qemu *vm;

	mount_memory("secret", "block=2M,state=secret");
	mount_memory("shared", "block=2M,state=shared");
	qemu_add(&args, "-m", "256M", "-object",
	    "memory-backend-file,id=m0,size=192M,mem-path=/secret/vm0,share=on,prealloc=on",
	    "-object", "memory-backend-file,id=m1,size=64M,mem-path=/shared/vm0,share=on",
	    "-numa", "node,memdev=m0,cpus=0", "-numa", "node,memdev=m1,cpus=1", NULL);
	qemu_devices(&args, Q35);
	vm = qemu_boot(0, &args, "");
	qmp_ok(vm, "{ \"execute\": \"quit\" }");
	qemu_end(vm, 0);
	EXPECT_EQ(unlink("/vmm/secret/vm0"), 0);
	EXPECT_EQ(unlink("/vmm/shared/vm0"), 0);
	umount_memory("secret");
	umount_memory("shared");
}

/* To another QEMU, with memory of its own, while the guest writes. */
TEST(vmm_migrates)
{
	struct qemu_args from = qemu_machine(MICROVM, "1"), to = qemu_machine(MICROVM, "1");
	struct qemu *a, *b;

	mount_memory("gmem", "block=2M,state=secret");
	qemu_memory(&from, "192M", "/gmem/vm0");
	a = qemu_boot(0, &from, "");
	tell_guest(a, "write");
	expect_said(a, "guest: ok writing", 30);

	qemu_memory(&to, "192M", "/gmem/vm1");
	qemu_add(&to, "-incoming", "unix:/tmp/migration", NULL);
	b = qemu_start(1, &to, "");
	qmp(b, "{ \"execute\": \"query-status\" }");
	migrate_and_tell(a, "unix:/tmp/migration", 200);
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
	struct qemu_args from = qemu_machine(MICROVM, "1"), to = qemu_machine(MICROVM, "1");
	struct qemu *a, *b;

	mount_memory("gmem", "block=2M,state=secret");
	qemu_memory(&from, "192M", "/gmem/vm0");
	a = qemu_boot(0, &from, "");
	migrate_and_tell(a, "file:/tmp/snapshot", 200);
	qemu_end(a, SIGKILL);
	EXPECT_EQ(unlink("/vmm/gmem/vm0"), 0);

	qemu_memory(&to, "192M", "/gmem/vm1");
	qemu_add(&to, "-incoming", "file:/tmp/snapshot", NULL);
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
	struct qemu_args from = qemu_machine(MICROVM, "1"), to = qemu_machine(MICROVM, "1");
	struct qemu *a, *b;

	mount_memory("gmem", "block=2M,state=shared");
	qemu_memory(&from, "192M", "/gmem/vm0");
	a = qemu_boot(0, &from, "");
	EXPECT(found_in_kcore(a) > 0);

	qemu_memory(&to, "192M", "/gmem/vm0");
	qemu_add(&to, "-incoming", "defer", NULL);
	b = qemu_start(1, &to, "");
	qmp_ok(b, ignore);
	qmp_ok(b, "{ \"execute\": \"migrate-incoming\", \"arguments\": "
		  "{ \"uri\": \"unix:/tmp/migration\" } }");
	qmp_ok(a, ignore);
	migrate_and_tell(a, "unix:/tmp/migration", 100);
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
		struct qemu_args args = qemu_machine(i & 1 ? Q35 : MICROVM, "1");
		int ms = random() % 8000;
		struct qemu *vm;

		qemu_memory(&args, "192M", "/gmem/vm0");
		vm = qemu_start(0, &args, "");
		usleep(ms * 1000);
		qemu_end(vm, SIGKILL);
		/* It may have died before it made the file. */
		EXPECT(!unlink("/vmm/gmem/vm0") || errno == ENOENT);
		EXPECT_EQ(pool(2 * MB, "free_hugepages"), blocks);
		EXPECT_EQ(pool(2 * MB, "resv_hugepages"), 0);
		EXPECT_EQ(meminfo("DirectMap1G"), large);
	}
	umount_memory("gmem");
}

/* Beyond the firmware's holes, the guest has it by 1 GiB. */
TEST(vmm_large)
{
	struct qemu_args args = qemu_machine(Q35, "1");
	struct qemu *vm;

	if (pool(GB, "free_hugepages") < 5)
		test_skip("not enough pages of 1 GiB");
	mount_memory("gmem", "block=1G,state=secret");
	qemu_memory(&args, "5G", "/gmem/vm0");
	qemu_devices(&args, Q35);
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

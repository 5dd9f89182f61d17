// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU with memory-backend-gmemfd, which scripts/qemu has built: guests that know nothing of
 * it, and one that makes some of its memory private.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../tests/vmm/run.h"

#define PATCHED	"/usr/bin/qemu-gmemfd"
#define CONVERTED	(2 * MB)	/* what the guest's module has */

/* The guest's RAM; @properties are those of the backend. */
static struct qemu_args patched(enum qemu_machine kind, const char *cpus, const char *size,
				char (*object)[256], const char *properties)
{
	struct qemu_args args = qemu_machine(kind, cpus);

	give_to_qemu("/dev/gmemfd");
	args.v[0] = PATCHED;
	snprintf(*object, sizeof(*object), "memory-backend-gmemfd,id=ram,size=%s,%s", size,
		 properties);
	qemu_add(&args, "-m", size, "-object", *object, "-machine", "memory-backend=ram", NULL);
	return args;
}

/* QEMU's gmem file: a path to it; its value of @key, in bytes; or where it is mapped. */
static long gmem_of(struct qemu *vm, char (*path)[64], const char *key)
{
	for (int fd = 3; fd < 64; fd++) {
		char name[64], line[128];
		long value, found = -1;
		FILE *f;

		snprintf(name, sizeof(name), "/proc/%d/fdinfo/%d", vm->pid, fd);
		f = fopen(name, "r");
		while (f && fgets(line, sizeof(line), f)) {
			if (sscanf(line, "gmem_%*[^:]:\t%li", &value) == 1 &&
			    !strncmp(line + 5, key, strlen(key)))
				found = value;
		}
		if (f)
			fclose(f);
		if (found < 0)
			continue;
		if (path)
			snprintf(*path, sizeof(*path), "/proc/%d/fd/%d", vm->pid, fd);
		return found;
	}
	FAIL("QEMU has no gmem file");
}

static long private_of(struct qemu *vm)
{
	return gmem_of(vm, NULL, "private");
}

/* The guest runs a command, which ends like this. */
static void guest_says(struct qemu *vm, const char *command, const char *end)
{
	char order[256];

	snprintf(order, sizeof(order), "run %s", command);
	tell_guest(vm, order);
	expect_said(vm, end, 60);
}

static void guest_runs(struct qemu *vm, const char *command)
{
	guest_says(vm, command, "guest: status 0");
}

#define PARAMETER	"/sys/module/gmem_guest/parameters/"

/* The guest gets its module; returns where the module's memory is. */
static unsigned long enlighten(struct qemu *vm)
{
	unsigned long address;
	const char *found;
	size_t from;

	guest_runs(vm, "insmod /lib/gmem_guest.ko");
	guest_runs(vm, "echo -n only-the-guest > " PARAMETER "text");
	from = vm->seen;
	guest_runs(vm, "echo at $(cat " PARAMETER "address)");
	found = strstr(vm->said + from, "at 0x");
	EXPECT(found && sscanf(found, "at %lx", &address) == 1);
	return address;
}

static void guest_converts(struct qemu *vm, bool to_private)
{
	guest_runs(vm, to_private ? "echo 1 > " PARAMETER "private" :
				    "echo 0 > " PARAMETER "private");
}

/* QEMU reads a page of the guest's, by way of a file; what it begins with. */
static const char *pmemsave(struct qemu *vm, unsigned long address)
{
	static char page[PAGE];
	char command[256];
	int fd;

	snprintf(command, sizeof(command), "{ \"execute\": \"pmemsave\", \"arguments\": "
		 "{ \"val\": %lu, \"size\": 4096, \"filename\": \"/tmp/page\" } }", address);
	qmp_ok(vm, command);
	fd = open("/vmm/tmp/page", O_RDONLY);
	EXPECT_EQ(read(fd, page, PAGE), PAGE);
	close(fd);
	EXPECT_EQ(unlink("/vmm/tmp/page"), 0);
	page[PAGE - 1] = 0;
	return page;
}

static void expect_refused(struct qemu *vm, const char *command, const char *why)
{
	const char *answer = qmp(vm, command);

	printf("# %.*s\n", (int)strcspn(answer, "\r\n"), answer);
	if (!strstr(answer, "\"error\"") || !strstr(answer, why))
		FAIL("%s: %s", command, answer);
}

static const char migrate_to_file[] = "{ \"execute\": \"migrate\", \"arguments\": "
				      "{ \"uri\": \"file:/tmp/snapshot\" } }";
static const char dump[] = "{ \"execute\": \"dump-guest-memory\", \"arguments\": "
			   "{ \"paging\": false, \"protocol\": \"file:/tmp/dump\" } }";

static void quit(struct qemu *vm)
{
	qmp_ok(vm, "{ \"execute\": \"quit\" }");
	qemu_end(vm, 0);
}

/* A guest that knows nothing of it has secret memory, disk and network. */
TEST(backend_secret_1g)
{
	long large = meminfo("DirectMap1G"), blocks = pool(GB, "free_hugepages");
	char object[256], path[64], line[256];
	struct qemu_args args = patched(MICROVM, "1", "1G", &object,
				   "block-size=1G,state=secret,prealloc=on");
	unsigned long from = 0, mib;
	struct qemu *vm;
	FILE *maps;

	qemu_devices(&args, MICROVM);
	vm = qemu_boot(0, &args, "");
	EXPECT(strstr(vm->said, "ok virtio-net"));
	EXPECT_EQ(gmem_of(vm, &path, "secret"), GB);
	EXPECT_EQ(meminfo("DirectMap1G"), large - GB / 1024);
	EXPECT_EQ(pool(GB, "free_hugepages"), blocks - 1);
	EXPECT(stat_of_kvm("pages_2m") > 100);
	EXPECT_EQ(times_in_kcore(vm, &mib), 0);
	printf("# %lu MiB of the kernel's direct map were searched\n", mib);
	/* QEMU's mapping can be large, too. */
	snprintf(path, sizeof(path), "/proc/%d/maps", vm->pid);
	maps = fopen(path, "r");
	while (fgets(line, sizeof(line), maps)) {
		if (strstr(line, "gmem"))
			sscanf(line, "%lx", &from);
	}
	fclose(maps);
	printf("# mapped at %#lx\n", from);
	EXPECT(from && from % GB == 0);
	quit(vm);
	EXPECT_EQ(meminfo("DirectMap1G"), large);
	EXPECT_EQ(pool(GB, "free_hugepages"), blocks);
}

/*
 * An enlightened guest: what it makes private, it goes on using.  QEMU does not reach it, and
 * does not migrate.  All is well when it is not private any more.
 */
static void guest_that_converts(const char *state)
{
	char object[256], properties[64];
	unsigned long address;
	struct qemu_args args;
	struct qemu *vm;

	snprintf(properties, sizeof(properties), "state=%s,prealloc=on", state);
	args = patched(MICROVM, "1", "192M", &object, properties);
	qemu_devices(&args, MICROVM);
	vm = qemu_boot(0, &args, "");
	address = enlighten(vm);
	printf("# the guest has memory at %#lx\n", address);
	EXPECT(!strcmp(pmemsave(vm, address), "only-the-guest"));
	EXPECT_EQ(private_of(vm), 0);

	guest_converts(vm, true);
	EXPECT_EQ(private_of(vm), CONVERTED);
	guest_runs(vm, "grep only-the-guest " PARAMETER "text");
	guest_runs(vm, "echo -n written-since > " PARAMETER "text");
	/* write() gets no further than the private page. */
	expect_refused(vm, dump, "Bad address");
	expect_refused(vm, migrate_to_file, "has private pages");

	guest_converts(vm, false);
	EXPECT_EQ(private_of(vm), 0);
	EXPECT_EQ(gmem_of(vm, NULL, state), 192 * MB);
	EXPECT(!strcmp(pmemsave(vm, address), "written-since"));
	tell_guest(vm, "check");
	expect_said(vm, "guest: ok memory is the same", 60);
	migrate(vm, "file:/tmp/snapshot", 200);
	EXPECT_EQ(unlink("/vmm/tmp/snapshot"), 0);
	unlink("/vmm/tmp/dump");
	quit(vm);
}

TEST(backend_converts_secret)
{
	guest_that_converts("secret");
}

TEST(backend_converts_shared)
{
	guest_that_converts("shared");
}

static void expect_not_blocked(struct qemu *vm)
{
	EXPECT(!strstr(qmp(vm, "{ \"execute\": \"query-migrate\" }"), "blocked-reasons"));
}

/* What the guest is told. */
TEST(backend_hypercall_errors)
{
	static const struct {
		const char *call, *error;
	} calls[] = {
		{ "0x100000000 0x1 0x10", "Invalid argument" },	/* no memory */
		{ "0xbfff000 0x2 0x10", "Invalid argument" },	/* past its end */
		{ "0x1001 0x1 0x10", "Invalid argument" },
		{ "0x1000 0x0 0x10", "Invalid argument" },
		{ "0x1000 0x10000000000001 0x10", "Invalid argument" },
		{ "0xfee00000 0x1 0x10", "Invalid argument" },	/* a device */
		{ "0x1000 0x1 0x0", "status 0" },		/* is so already */
	};
	static const char make_private[] = "echo 1 > " PARAMETER "private";
	char object[256], path[64], command[128];
	struct qemu_args args = patched(MICROVM, "1", "192M", &object, "state=shared");
	unsigned long address;
	struct qemu *vm;
	struct pin pin;
	int fd;

	vm = qemu_boot(0, &args, "");
	address = enlighten(vm);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		snprintf(command, sizeof(command), "echo %s > " PARAMETER "call", calls[i].call);
		guest_says(vm, command, calls[i].error);
		EXPECT_EQ(private_of(vm), 0);
	}
	expect_not_blocked(vm);

	/* Somebody holds a page. */
	gmem_of(vm, &path, "private");
	fd = open(path, O_RDWR | O_CLOEXEC);
	EXPECT(fd >= 0);
	pin_pipe(&pin, gmem_map(fd, address, CONVERTED), PAGE);
	guest_says(vm, make_private, "Resource temporarily unavailable");
	EXPECT_EQ(private_of(vm), 0);
	expect_not_blocked(vm);
	unpin(&pin);
	guest_converts(vm, true);
	guest_converts(vm, false);
	expect_not_blocked(vm);

	/* A migration is under way. */
	qmp_ok(vm, "{ \"execute\": \"migrate-set-parameters\", \"arguments\": "
		   "{ \"max-bandwidth\": 10000 } }");
	qmp_ok(vm, migrate_to_file);
	EXPECT(EVENTUALLY(strstr(qmp(vm, "{ \"execute\": \"query-migrate\" }"), "\"active\"")));
	guest_says(vm, make_private, "Device or resource busy");
	EXPECT_EQ(private_of(vm), 0);
	qmp_ok(vm, "{ \"execute\": \"migrate_cancel\" }");
	EXPECT(EVENTUALLY(strstr(qmp(vm, "{ \"execute\": \"query-migrate\" }"), "\"cancelled\"")));
	guest_converts(vm, true);
	EXPECT_EQ(private_of(vm), CONVERTED);
	unlink("/vmm/tmp/snapshot");
	close(fd);
	quit(vm);
}

static void boots_again(struct qemu *vm)
{
	/* See qemu_boot(). */
	for (int i = 0; !said(vm, "guest: Linux", 150); i++) {
		EXPECT(i < 2);
		qmp_ok(vm, "{ \"execute\": \"system_reset\" }");
	}
	expect_well(vm);
}

/*
 * A PC is reset, by its guest and by QEMU: firmware and kernel are loaded where there were
 * private pages, and what was in those is gone.  In the end QEMU reads private memory, which
 * is the end of it.
 */
TEST(backend_reset)
{
	char object[256];
	struct qemu_args args = patched(Q35, "1", "192M", &object, "state=secret");
	unsigned long address;
	struct qemu *vm;
	int status;

	qemu_devices(&args, Q35);
	vm = qemu_boot(0, &args, "");
	enlighten(vm);
	guest_converts(vm, true);
	EXPECT_EQ(private_of(vm), CONVERTED);
	tell_guest(vm, "reset");
	boots_again(vm);
	EXPECT_EQ(private_of(vm), 0);

	address = enlighten(vm);
	guest_converts(vm, true);
	EXPECT_EQ(private_of(vm), CONVERTED);
	qmp_ok(vm, "{ \"execute\": \"stop\" }");
	qmp_ok(vm, "{ \"execute\": \"system_reset\" }");
	EXPECT(EVENTUALLY(!private_of(vm)));
	EXPECT(is_zero(pmemsave(vm, address), PAGE));
	expect_not_blocked(vm);
	qmp_ok(vm, "{ \"execute\": \"cont\" }");
	boots_again(vm);

	address = enlighten(vm);
	guest_converts(vm, true);
	dprintf(vm->qmp, "{ \"execute\": \"pmemsave\", \"arguments\": { \"val\": %lu, "
		"\"size\": 4096, \"filename\": \"/tmp/page\" } }", address);
	EXPECT_EQ(waitpid(vm->pid, &status, 0), vm->pid);
	printf("# QEMU ended with %#x\n", status);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	unlink("/vmm/tmp/page");
}

/* Private from the start: for memory beside the machine's RAM. */
TEST(backend_private_dimm)
{
	struct qemu_args args = qemu_machine(Q35, "1");
	char object[256];
	struct qemu *vm;

	patched(Q35, "1", "64M", &object, "state=private");
	args.v[0] = PATCHED;
	qemu_add(&args, "-m", "64M,slots=1,maxmem=1G", "-object", object,
	    "-device", "pc-dimm,memdev=ram", "-S", NULL);
	vm = qemu_start(0, &args, "");
	qmp_ok(vm, "{ \"execute\": \"query-status\" }");
	EXPECT_EQ(private_of(vm), 64 * MB);
	expect_refused(vm, migrate_to_file, "has private pages");
	qmp_ok(vm, "{ \"execute\": \"system_reset\" }");
	qmp_ok(vm, "{ \"execute\": \"query-status\" }");
	EXPECT_EQ(private_of(vm), 64 * MB);
	quit(vm);
}

/* What cannot be, QEMU says so. */
TEST(backend_bad_options)
{
	static const struct {
		const char *size, *properties, *error;
	} options[] = {
		{ "191M", "block-size=2M", "multiple of block-size (2 MiB)" },
		{ "64M", "block-size=1G", "multiple of block-size (1 GiB)" },
		{ "64M", "block-size=4M", "takes 2M or 1G" },
		{ "64M", "share=off", "does not have share=off" },
		{ "64M", "state=open", "does not accept value" },
		{ "64M", "state=private", "is not for the machine's own RAM" },
		{ "64M", "state=private,prealloc=on", "cannot touch it with state=private" },
		{ "512G", "block-size=1G", "cannot get 512 huge pages of 1 GiB: Cannot allocate" },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		char object[256];
		struct qemu_args args = patched(MICROVM, "1", options[i].size, &object,
					   options[i].properties);
		struct qemu *vm = qemu_start(0, &args, "");

		test_case(options[i].properties);
		expect_said(vm, options[i].error, 20);
		qemu_end(vm, SIGKILL);
	}
}

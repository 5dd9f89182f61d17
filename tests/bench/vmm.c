// SPDX-License-Identifier: GPL-2.0
/* Rows m and n: Debian's QEMU, whose guest's memory is on gmemfd and on hugetlbfs. */
#define _GNU_SOURCE
#include <signal.h>
#include <time.h>

#include "../vmm/run.h"
#include "bench.h"

static const struct memory {
	const char *who, *name, *options;
} memories[] = {
	{ "gmemfd, secret", "secret", "block=1G,state=secret" },
	{ "gmemfd, shared", "shared", "block=1G,state=shared" },
	{ "hugetlbfs", "huge", NULL },
};
#define NR_MEMORIES	(sizeof(memories) / sizeof(memories[0]))

static void mount_for(const struct memory *memory)
{
	if (memory->options)
		mount_memory(memory->name, memory->options);
	else
		mount_hugetlbfs(memory->name, "1G");
}

/* A microvm without devices; its memory is file number @nr of the mount. */
static struct qemu_args command(const struct memory *memory, int nr)
{
	struct qemu_args args = qemu_machine(MICROVM, "1");
	char path[64];

	snprintf(path, sizeof(path), "/%s/vm%d", memory->name, nr);
	qemu_memory(&args, "1G", path);
	return args;
}

/* A second of instructions is several of time: do not wait long for a guest that stands still. */
static struct qemu *start_guest(const struct qemu_args *args)
{
	return qemu_start_guest(0, args, "quiet", clock_counts_instructions() ? 12 : 150);
}

static void end(struct qemu *vm, const struct memory *memory, int nr)
{
	char path[64];

	qemu_end(vm, SIGKILL);
	snprintf(path, sizeof(path), "/vmm/%s/vm%d", memory->name, nr);
	EXPECT_EQ(unlink(path), 0);
}

/* Of QEMU, its guest, and the kernel for both; not of who waits for them. */
static uint64_t cpu_time(struct qemu *vm)
{
	struct timespec t;
	clockid_t clock;

	EXPECT_EQ(clock_getcpuclockid(vm->pid, &clock), 0);
	EXPECT_EQ(clock_gettime(clock, &t), 0);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

/* Since QEMU was started.  Time that nobody works in has no instructions. */
static uint64_t taken(struct qemu *vm)
{
	struct timespec t;

	if (clock_counts_instructions())
		return cpu_time(vm);
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec - vm->started) * 1e9 + t.tv_nsec;
}

/* From QEMU's start to the first process of the guest's. */
void row_qemu_boots(void)
{
	for (unsigned int i = 0; i < NR_MEMORIES; i++) {
		const struct memory *memory = &memories[i];
		struct qemu_args args = command(memory, 0);
		struct qemu *vm;

		mount_for(memory);
		vm = start_guest(&args);
		tell(memory->who, "boots", GB, taken(vm));
		end(vm, memory, 0);
		umount_memory(memory->name);
	}
}

/* What the monitor says of a migration, in milliseconds. */
static uint64_t told(const char *said, const char *what)
{
	char key[32];
	const char *at;

	snprintf(key, sizeof(key), "\"%s\": ", what);
	at = strstr(said, key);
	EXPECT(at);
	return atol(at + strlen(key)) * 1000000UL;
}

/* An idle guest, to a QEMU beside it, by a socket. */
void row_qemu_migrates(void)
{
	if (!round_for_slow())
		return;
	for (unsigned int i = 0; i < NR_MEMORIES; i++) {
		const struct memory *memory = &memories[i];
		struct qemu_args from = command(memory, 0), to = command(memory, 1);
		struct qemu *a, *b;
		const char *said;
		uint64_t before;

		mount_for(memory);
		a = start_guest(&from);
		expect_well(a);
		qemu_add(&to, "-incoming", "unix:/tmp/migration", NULL);
		b = qemu_start(1, &to, "quiet");
		qmp_ok(b, "{ \"execute\": \"query-status\" }");
		before = cpu_time(a) + cpu_time(b);
		said = migrate(a, "unix:/tmp/migration", 600);
		if (clock_counts_instructions()) {
			tell(memory->who, "migrates", GB, cpu_time(a) + cpu_time(b) - before);
		} else {
			tell(memory->who, "migrates", GB, told(said, "total-time"));
			tell(memory->who, "stands still for it", GB, told(said, "downtime"));
		}
		end(a, memory, 0);
		end(b, memory, 1);
		umount_memory(memory->name);
	}
}

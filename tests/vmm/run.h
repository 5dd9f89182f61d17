/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Runs Debian's QEMU, as it is: all that it is told is a path for its guest's memory.  It runs
 * as an ordinary user of group kvm, in /vmm, which scripts/lab has filled; its guest is
 * guest-init under Debian's kernel.
 */
#ifndef _TESTS_VMM_RUN_H
#define _TESTS_VMM_RUN_H

#include "../lib.h"

/**
 * struct qemu - one QEMU
 * @pid: the process
 * @started: when, of CLOCK_MONOTONIC, in seconds
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
	double started;
	int in, out, qmp;
	char name[16];
	char said[1 << 17];
	size_t len, seen;
};

/* The command line of a QEMU. */
#define QEMU_MAX_ARGS	80
struct qemu_args {
	const char *v[QEMU_MAX_ARGS];
	int n;
};

enum qemu_machine { MICROVM, Q35 };

/* Memory for guests, at /vmm/@name: a mount of gmemfd, or of huge pages of size @block. */
void mount_memory(const char *name, const char *options);
void mount_hugetlbfs(const char *name, const char *block);
void umount_memory(const char *name);
/* Who runs QEMU may open this. */
void give_to_qemu(const char *device);

/* What all have. */
struct qemu_args qemu_machine(enum qemu_machine kind, const char *cpus);
/* Up to NULL. */
void qemu_add(struct qemu_args *args, ...);
/* A disk, and two network cards on one hub. */
void qemu_devices(struct qemu_args *args, enum qemu_machine kind);
/* All of the guest's memory is a file, by its path in /vmm. */
void qemu_memory(struct qemu_args *args, const char *size, const char *path);
/* All that number @nr of two is run with; @append is more kernel command line. */
struct qemu_args qemu_command(int nr, const struct qemu_args *args, const char *append);

/* Start it. */
struct qemu *qemu_start(int nr, const struct qemu_args *args, const char *append);
/* Start it, and again if it takes longer, until its guest is in user space... */
struct qemu *qemu_start_guest(int nr, const struct qemu_args *args, const char *append,
			      int seconds);
/* ...and all is well. */
struct qemu *qemu_boot(int nr, const struct qemu_args *args, const char *append);
/* With a signal, or 0 if it ends by itself.  The state of the memory is of interest after this. */
void qemu_end(struct qemu *qemu, int signal);

/* Wait until the guest, or QEMU, says something behind what was waited for before. */
bool said(struct qemu *qemu, const char *what, int seconds);
void expect_said(struct qemu *qemu, const char *what, int seconds);
/* The guest has booted: does all that it tries work? */
void expect_well(struct qemu *qemu);
void tell_guest(struct qemu *qemu, const char *order);
void show_console(struct qemu *qemu);

/* What the monitor answers, without events. */
const char *qmp(struct qemu *qemu, const char *command);
void qmp_ok(struct qemu *qemu, const char *command);
/* Returns what the monitor says when it has ended well. */
const char *migrate(struct qemu *from, const char *uri, int seconds);

/* KVM's statistics, over all VMs. */
long stat_of_kvm(const char *name);
/*
 * How often does the host's kernel find what only this guest has written, in how many MiB of its
 * direct map?
 */
int times_in_kcore(struct qemu *qemu, unsigned long *mib);

#endif /* _TESTS_VMM_RUN_H */

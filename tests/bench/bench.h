/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Benchmarks.  A row of the table is a function that does the same thing with a
 * gmem file and with each peer, one after the other, and is called once a round.
 * What it tells goes to standard output, a line each, separated by tabs:
 *
 *	row, round, who, what, size, value
 */
#ifndef _TESTS_BENCH_H
#define _TESTS_BENCH_H

#include <linux/kvm.h>

#include "../kvm/vmm.h"

extern int bench_round;
/* Rows of which gmemfd's figures alone may be wanted ask for this one... */
extern bool bench_peers;
/* ...and where a peer takes seconds, for this one. */
bool round_for_slow(void);

/* Nanoseconds; where the machine's clock counts instructions, instructions. */
uint64_t now(void);
bool clock_counts_instructions(void);

/* How long a statement takes. */
#define TIME(statement)							\
	({								\
		uint64_t _start = now();				\
		statement;						\
		now() - _start;						\
	})

void tell(const char *who, const char *what, uint64_t size, uint64_t value);
/* Sorts @values; tells p50, p99, max and the mean. */
void tell_spread(const char *who, const char *what, uint64_t size, uint64_t *values,
		 unsigned int nr);

/* A page of each 4 KiB: has to be mapped, and is written. */
void touch(char *p, size_t size);

/* memfd_secret */
int secret_create(size_t size);

/* A memfd, of huge pages of size @huge if that is not 0. */
int memfd(size_t size, size_t huge);
void memfd_punch(int fd, uint64_t offset, uint64_t size);
void memfd_allocate(int fd, uint64_t offset, uint64_t size);

/* KVM's own guest_memfd of a VM. */
#define GUEST_MEMFD_MMAP	0x1
#define GUEST_MEMFD_SHARED	0x2
int guest_memfd(int vm_fd, size_t size, uint64_t flags);

/**
 * struct two_pool - a VM as of today: private memory in a guest_memfd, shared
 *	memory in a memfd, and which of the two a page is in is an attribute
 * @kvm: /dev/kvm
 * @vm: the VM, software-protected, with one slot from 0 on
 * @private: the guest_memfd
 * @shared: the memfd
 * @host: where it is mapped
 * @size: in bytes
 */
struct two_pool {
	int kvm, vm, private, shared;
	char *host;
	size_t size;
};

void two_pool_open(struct two_pool *pool, size_t size, size_t huge);
void two_pool_close(struct two_pool *pool);
void two_pool_attribute(struct two_pool *pool, uint64_t offset, uint64_t size,
			bool private);
/* The steps of a conversion; with @copy contents move by way of that buffer. */
void two_pool_convert(struct two_pool *pool, uint64_t offset, uint64_t size,
		      bool private, char *copy);

/* Rows */
void row_out_and_back(void);
void row_convert(void);
void row_convert_page(void);
void row_convert_page_files(void);
void row_demote(void);
void row_boot_pattern(void);
void row_many_ranges(void);
void row_two_at_once(void);
void row_first_touch(void);
void row_guest(void);
void row_memory(void);
void row_others(void);
void row_others_in_use(void);
void row_secret(void);
void row_qemu_boots(void);
void row_qemu_migrates(void);
void row_typed(void);

#endif /* _TESTS_BENCH_H */

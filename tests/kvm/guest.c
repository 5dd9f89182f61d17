// SPDX-License-Identifier: GPL-2.0
/*
 * Functions that run in a guest: 64-bit, identity-mapped, no interrupts, no
 * library.  The section is copied into guest memory as it is.
 */
#pragma GCC optimize("O2", "no-jump-tables", "no-tree-loop-distribute-patterns", \
		     "no-stack-protector")
#pragma GCC target("general-regs-only")

#include "guest.h"

#define PAGE	4096UL
#define GUEST	__attribute__((section("guest"), noinline, noclone, used))

asm(".pushsection guest, \"ax\"\n"
    ".globl guest_entry\n"
    "guest_entry:\n"
    "	call *%rax\n"
    "	mov %rax, %rsi\n"
    "	xor %edi, %edi\n"		/* HC_RETURN */
    "	mov $0x500, %edx\n"		/* HYPERCALL_PORT */
    "	inl %dx, %eax\n"
    "	hlt\n"
    ".popsection\n");

/* A word at the start and one at the end of each page. */
GUEST uint64_t guest_write_pages(uint64_t gpa, uint64_t size, uint64_t seed)
{
	for (uint64_t end = gpa + size; gpa < end; gpa += PAGE) {
		*(volatile uint64_t *)gpa = page_word(gpa, seed);
		*(volatile uint64_t *)(gpa + PAGE - 8) = page_word(gpa + 1, seed);
	}
	return 0;
}

/* The number of pages that do not hold that; with seed 0, that are not zero. */
GUEST uint64_t guest_check_pages(uint64_t gpa, uint64_t size, uint64_t seed)
{
	uint64_t bad = 0;

	for (uint64_t end = gpa + size; gpa < end; gpa += PAGE) {
		uint64_t first = seed ? page_word(gpa, seed) : 0;
		uint64_t last = seed ? page_word(gpa + 1, seed) : 0;

		bad += *(volatile uint64_t *)gpa != first ||
		       *(volatile uint64_t *)(gpa + PAGE - 8) != last;
	}
	return bad;
}

/* Until the machine is killed. */
GUEST uint64_t guest_touch_forever(uint64_t gpa, uint64_t size, uint64_t seed)
{
	for (uint64_t at = 0, n = seed;; n++) {
		n = n * 6364136223846793005ULL + 1442695040888963407ULL;
		at = (n >> 20) % size & ~7UL;
		*(volatile uint64_t *)(gpa + at) += n;
		if (!(n >> 60))
			hypercall(HC_CONVERT, gpa + (at & -PAGE), PAGE, n >> 59 & 1);
	}
	return 0;
}

/* One page after the other becomes shared and private again; errors counted. */
GUEST uint64_t guest_convert_pages(uint64_t gpa, uint64_t size, uint64_t times)
{
	uint64_t at = 0, errors = 0;

	while (times--) {
		errors += hypercall(HC_CONVERT, gpa + at, PAGE, 0) != 0;
		errors += hypercall(HC_CONVERT, gpa + at, PAGE, 1) != 0;
		at = (at + 17 * PAGE) % size;
	}
	return errors;
}

/*
 * A memory test that converts what it tests: writes, converts at random, and
 * reads back.  The second word of each page is the host's.
 */
GUEST uint64_t guest_hammer(uint64_t gpa, uint64_t size, uint64_t times)
{
	uint64_t bad = 0, n = gpa + times;

	while (times--) {
		for (uint64_t at = 0; at < size; at += PAGE)
			*(volatile uint64_t *)(gpa + at) = page_word(gpa + at, times + 1);
		for (int i = 0; i < 8; i++) {
			n = n * 6364136223846793005ULL + 1442695040888963407ULL;
			hypercall(HC_CONVERT, gpa + ((n >> 20) % size & -PAGE), PAGE,
				  n >> 59 & 1);
		}
		for (uint64_t at = 0; at < size; at += PAGE)
			bad += *(volatile uint64_t *)(gpa + at) !=
			       page_word(gpa + at, times + 1);
	}
	return bad;
}

GUEST uint64_t guest_load(uint64_t gpa, uint64_t unused, uint64_t unused2)
{
	(void)unused, (void)unused2;
	return *(volatile uint64_t *)gpa;
}

GUEST uint64_t guest_store(uint64_t gpa, uint64_t value, uint64_t unused)
{
	(void)unused;
	*(volatile uint64_t *)gpa = value;
	return 0;
}

GUEST uint64_t guest_fill_page(uint64_t gpa, uint64_t tag, uint64_t unused)
{
	(void)unused;
	for (unsigned int i = 0; i < PAGE / 8; i++)
		((volatile uint64_t *)gpa)[i] = tagged_word(tag, i);
	return 0;
}

/* The number of words that differ. */
GUEST uint64_t guest_check_page(uint64_t gpa, uint64_t tag, uint64_t unused)
{
	uint64_t bad = 0;

	(void)unused;
	for (unsigned int i = 0; i < PAGE / 8; i++)
		bad += ((volatile uint64_t *)gpa)[i] != tagged_word(tag, i);
	return bad;
}

/* Loads from pages at random, each of which says where the next one is from. */
GUEST uint64_t guest_chase(uint64_t gpa, uint64_t size, uint64_t times)
{
	uint64_t n = gpa;

	while (times--) {
		n = n * 6364136223846793005ULL + 1442695040888963407ULL;
		n += *(volatile uint64_t *)(gpa + (n >> 20) % size / PAGE * PAGE);
	}
	return n;
}

/* Asks the test something. */
GUEST uint64_t guest_ping(uint64_t a, uint64_t b, uint64_t c)
{
	return hypercall(HC_TEST, a, b, c);
}

/* Runs a guest by the control block at @gpa; why it has come back. */
GUEST uint64_t guest_run_nested(uint64_t gpa, uint64_t unused, uint64_t unused2)
{
	uint64_t rax = gpa;

	(void)unused, (void)unused2;
	/* The other guest has the same registers, apart from rax and rsp. */
	asm volatile("vmrun\n\tstgi"
		     : "+a"(rax)
		     :
		     : "memory", "cc", "rbx", "rcx", "rdx", "rsi", "rdi",
		       "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15");
	return *(volatile uint64_t *)(gpa + 0x70);
}

/* Such a guest: asks the test something, and goes back. */
GUEST uint64_t guest_nested(uint64_t a, uint64_t b, uint64_t c)
{
	hypercall(HC_TEST, a, b, c);
	for (;;)
		asm volatile("vmmcall");
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest code, and how it talks to the VMM: by reading a port, with arguments
 * in registers.  Works from a Linux guest's user space just as well.
 */
#ifndef _TESTS_KVM_GUEST_H
#define _TESTS_KVM_GUEST_H

#include <stdint.h>

#define HYPERCALL_PORT	0x500

enum hypercall {
	HC_RETURN,	/* the function has returned a */
	HC_CONVERT,	/* pages at [a, a + b) become private (c) or shared; errno */
	HC_TEST,	/* from here on the test's own */
};

static inline __attribute__((always_inline))
uint32_t hypercall(uint64_t nr, uint64_t a, uint64_t b, uint64_t c)
{
	register uint64_t r8 asm("r8") = c;
	uint32_t ret;

	asm volatile("inl %%dx, %%eax"
		     : "=a"(ret)
		     : "d"(HYPERCALL_PORT), "D"(nr), "S"(a), "c"(b), "r"(r8)
		     : "memory");
	return ret;
}

/* What a page holds that write_pages() has written with this seed. */
static inline __attribute__((always_inline))
uint64_t page_word(uint64_t gpa, uint64_t seed)
{
	return (gpa ^ seed) * 0x9e3779b97f4a7c15ULL;
}

/*
 * Word @i of a page full of @tag: zeros for 0; a few words in zeros for even
 * tags, all of them for odd ones.
 */
static inline __attribute__((always_inline))
uint64_t tagged_word(uint64_t tag, unsigned int i)
{
	if (!tag || (!(tag & 1) && i != 0 && i != 255 && i != 511))
		return 0;
	return (tag + i) * 0x9e3779b97f4a7c15ULL;
}

typedef uint64_t (*guest_fn)(uint64_t a, uint64_t b, uint64_t c);

/* In the section that is copied into the guest; no calls to outside of it. */
extern char __start_guest[], __stop_guest[], guest_entry[];

uint64_t guest_write_pages(uint64_t gpa, uint64_t size, uint64_t seed);
uint64_t guest_check_pages(uint64_t gpa, uint64_t size, uint64_t seed);
uint64_t guest_touch_forever(uint64_t gpa, uint64_t size, uint64_t seed);
uint64_t guest_convert_pages(uint64_t gpa, uint64_t size, uint64_t times);
uint64_t guest_hammer(uint64_t gpa, uint64_t size, uint64_t times);
uint64_t guest_load(uint64_t gpa, uint64_t unused, uint64_t unused2);
uint64_t guest_store(uint64_t gpa, uint64_t value, uint64_t unused);
uint64_t guest_fill_page(uint64_t gpa, uint64_t tag, uint64_t unused);
uint64_t guest_check_page(uint64_t gpa, uint64_t tag, uint64_t unused);
uint64_t guest_chase(uint64_t gpa, uint64_t size, uint64_t times);
uint64_t guest_ping(uint64_t a, uint64_t b, uint64_t c);
uint64_t guest_run_nested(uint64_t gpa, uint64_t unused, uint64_t unused2);
uint64_t guest_nested(uint64_t a, uint64_t b, uint64_t c);

#endif /* _TESTS_KVM_GUEST_H */

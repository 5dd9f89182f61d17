/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The little of libcap that the kernel's mm selftests use, to drop all
 * capabilities: so that they build without it.
 */
#ifndef _TESTS_UPSTREAM_SYS_CAPABILITY_H
#define _TESTS_UPSTREAM_SYS_CAPABILITY_H

#include <linux/capability.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct __user_cap_data_struct *cap_t;

static inline cap_t cap_init(void)
{
	return calloc(_LINUX_CAPABILITY_U32S_3, sizeof(struct __user_cap_data_struct));
}

static inline int cap_set_proc(cap_t cap)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capset, &header, cap);
}

#endif /* _TESTS_UPSTREAM_SYS_CAPABILITY_H */

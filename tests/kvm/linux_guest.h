/* SPDX-License-Identifier: GPL-2.0 */
/* What the Linux guest's init and its host have agreed on. */
#ifndef _TESTS_KVM_LINUX_GUEST_H
#define _TESTS_KVM_LINUX_GUEST_H

#include "guest.h"

#define LINUX_QUESTION	"a page of private memory, shared"
#define LINUX_ANSWER	"read and written by the host"

enum linux_hypercall {
	HC_LINUX_EXCHANGE = HC_TEST,	/* page a holds the question: answer; 1 if so */
	HC_LINUX_OUT_OF_REACH,		/* 1 if the host cannot touch page a */
	HC_LINUX_CONVERTING,		/* many conversions follow, */
	HC_LINUX_CONVERTED,		/* and nothing else since */
	HC_LINUX_DONE,			/* a checks have failed, b CPUs are there */
};

#endif /* _TESTS_KVM_LINUX_GUEST_H */

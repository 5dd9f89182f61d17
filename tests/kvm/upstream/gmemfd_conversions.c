// SPDX-License-Identifier: GPL-2.0
/* The kernel's own test of conversions, on a gmem file. */
#include "one_pool.h"

#define addr_gpa2hva(vm, gpa)	host_address(vm, gpa, uc.args[3])
#include "x86/private_mem_conversions_test.c"

// SPDX-License-Identifier: GPL-2.0
/* The kernel's own test of KVM_PRE_FAULT_MEMORY, on a gmem file. */
#include "one_pool.h"
#include "pre_fault_memory_test.c"

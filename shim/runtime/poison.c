// SPDX-License-Identifier: GPL-2.0
/* shim/mm/poison.c, and around it what it uses of mm/memory-failure.c. */
#include <linux/gmem_shim.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>

#include "mm_symbols.h"
#include "to_kill.h"
#include "../mm/poison.c"

/* SPDX-License-Identifier: GPL-2.0 */
/* Is this the kernel that the shim was built for? */
#ifndef __GMEM_RUNTIME_CHECKS_H
#define __GMEM_RUNTIME_CHECKS_H

#include <linux/types.h>

struct module;

int gmem_check_kernel(void);
bool gmem_module_fits(const struct module *mod, const u8 *built_for);
const u8 *gmem_ftrace_place(const void *function);
bool gmem_entry_fits(const void *function);
bool gmem_entry_is_call(const void *function);
bool gmem_tracing_is_on(void);

#endif /* __GMEM_RUNTIME_CHECKS_H */

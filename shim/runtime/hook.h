/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions of the kernel that are entered through the shim.
 *
 * ftrace calls an enter function at the beginning of the kernel's, as it does for a
 * livepatch, and refuses a second one who wants to redirect calls of the same function.
 * The enter function looks at the arguments.  Where they do not concern the shim, which
 * is nearly always, it does nothing and the kernel's function runs.  Otherwise it sends
 * the caller to a function of ours, which may call the kernel's: a call from this module
 * is not sent anywhere.
 *
 * An enter function runs in any context, and must not call what can be traced.
 */
#ifndef __GMEM_RUNTIME_HOOK_H
#define __GMEM_RUNTIME_HOOK_H

#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/percpu.h>

struct gmem_hook {
	struct ftrace_ops ops;
	const char *name;
	void *function;
};

#define GMEM_HOOK(fn) {							\
	.name = #fn, .function = fn,					\
	.ops = {							\
		.func = gmem_enter_##fn,				\
		.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT, \
	},								\
}

#define GMEM_ENTER(fn)							\
	static void notrace gmem_enter_##fn(unsigned long ip, unsigned long parent, \
					    struct ftrace_ops *ops,	\
					    struct ftrace_regs *fregs)

#define GMEM_ARG(type, n)	((type)ftrace_regs_get_argument(fregs, n))

/* Entered minus left, over all CPUs. */
DECLARE_PER_CPU(long, gmem_nr_inside);

/* Send the caller to @ours, which has the same arguments and calls gmem_leave(). */
#define gmem_redirect(ours) do {					\
	this_cpu_inc(gmem_nr_inside);					\
	ftrace_regs_set_instruction_pointer(fregs, (unsigned long)(ours)); \
} while (0)

/*
 * All that is left to do here is to return.  This also stands behind each call of the
 * kernel's function, which so is no tail call: gmem_from_us() sees that it comes from here.
 */
static __always_inline void gmem_leave(void)
{
	this_cpu_dec(gmem_nr_inside);
}

/* One of our functions calls the kernel's. */
#define gmem_from_us(parent)	within_module(parent, THIS_MODULE)

int gmem_hook_all(struct gmem_hook *hooks, unsigned int nr);
void gmem_unhook_all(struct gmem_hook *hooks, unsigned int nr);

/* The hooks of each part, and its own checks */
int gmem_mm_hook(void);
void gmem_mm_unhook(void);
#ifdef GMEM_RUNTIME_KVM
int gmem_kvm_hook(void);
void gmem_kvm_unhook(void);
#else
static inline int gmem_kvm_hook(void)
{
	return 0;
}

static inline void gmem_kvm_unhook(void) { }
#endif

#endif /* __GMEM_RUNTIME_HOOK_H */

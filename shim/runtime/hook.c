// SPDX-License-Identifier: GPL-2.0
/*
 * How calls of the kernel's functions come to the shim, and the module that it is.
 */
#define pr_fmt(fmt) "gmemfd_shim: " fmt

#include <linux/delay.h>
#include <linux/gmem_shim.h>
#include <linux/rcupdate.h>

#include "checks.h"
#include "hook.h"

DEFINE_PER_CPU(long, gmem_nr_inside);

/**
 * gmem_unhook_all - the kernel's functions are entered directly again
 * @hooks: hooks that are in place
 * @nr: number of them
 *
 * When this returns nobody is in one of our functions any more.
 */
void gmem_unhook_all(struct gmem_hook *hooks, unsigned int nr)
{
	long inside;
	int cpu;

	while (nr--)
		unregister_ftrace_function(&hooks[nr].ops);
	/* Whoever was on the way into one of our functions is in it, or out again. */
	synchronize_rcu_tasks();
	for (;;) {
		inside = 0;
		for_each_possible_cpu(cpu)
			inside += per_cpu(gmem_nr_inside, cpu);
		if (!inside)
			break;
		msleep(20);
	}
	/* From gmem_leave() to the return. */
	synchronize_rcu_tasks();
}

static int gmem_hook_one(struct gmem_hook *hook)
{
	int err;

	if (!gmem_entry_fits(hook->function)) {
		pr_err("refused: %s() begins with %9ph, which is not what the compiler made\n",
		       hook->name, hook->function);
		return -ENOEXEC;
	}
	/*
	 * Not the function's address: for that ftrace takes any of its places up to the next
	 * symbol, and there can be one of a function that has no symbol.
	 */
	err = ftrace_set_filter_ip(&hook->ops,
				   (unsigned long)gmem_ftrace_place(hook->function), 0, 0);
	if (!err)
		err = register_ftrace_function(&hook->ops);
	if (!err && !gmem_entry_is_call(hook->function)) {
		unregister_ftrace_function(&hook->ops);
		err = -EIO;
	}
	if (err == -EBUSY && gmem_tracing_is_on())
		pr_err("refused: somebody else redirects %s(), for example a livepatch\n",
		       hook->name);
	else if (err == -EBUSY || err == -ENODEV)
		pr_err("refused: function tracing is off (kernel.ftrace_enabled)\n");
	else if (err)
		pr_err("refused: %s() cannot be hooked (error %d)\n", hook->name, err);
	return err;
}

/**
 * gmem_hook_all - have the kernel's functions entered through ours
 * @hooks: the functions
 * @nr: number of them
 *
 * Return: 0 or a negative errno, and then none is hooked and the log says why.
 */
int gmem_hook_all(struct gmem_hook *hooks, unsigned int nr)
{
	unsigned int i;
	int err;

	for (i = 0; i < nr; i++) {
		err = gmem_hook_one(&hooks[i]);
		if (err) {
			gmem_unhook_all(hooks, i);
			return err;
		}
	}
	return 0;
}

static int __init gmem_runtime_init(void)
{
	int err = gmem_check_kernel();

	if (err)
		return err;
	err = gmem_mm_hook();
	if (err)
		return err;
	err = gmem_kvm_hook();
	if (err) {
		gmem_mm_unhook();
		return err;
	}
	pr_info("ready, version %d\n", GMEM_SHIM_ABI);
	return 0;
}
module_init(gmem_runtime_init);

static void __exit gmem_runtime_exit(void)
{
	gmem_kvm_unhook();
	gmem_mm_unhook();
}
module_exit(gmem_runtime_exit);

/* For the relocations that only such modules have.  There is no klp_patch. */
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("What gmemfd needs of a kernel that was built without it");
MODULE_AUTHOR("The gmemfd authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(GMEMFD_VERSION);
MODULE_INFO(gmem_shim_abi, __stringify(GMEM_SHIM_ABI));

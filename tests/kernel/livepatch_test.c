// SPDX-License-Identifier: GPL-2.0
/*
 * A module for the tests: a livepatch of a function that the shim as a module hooks, as a
 * vendor might have it.
 */
#include <linux/livepatch.h>
#include <linux/module.h>

static int livepatch_memory_failure(unsigned long pfn, int flags)
{
	return -EOPNOTSUPP;
}

static struct klp_func funcs[] = {
	{ .old_name = "memory_failure", .new_func = livepatch_memory_failure },
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init livepatch_test_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(livepatch_test_init);

static void __exit livepatch_test_exit(void)
{
}
module_exit(livepatch_test_exit);

MODULE_DESCRIPTION("A livepatch beside the gmemfd shim");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

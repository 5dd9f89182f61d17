// SPDX-License-Identifier: GPL-2.0
/*
 * An enlightened guest, for the tests: it has 2 MiB that it makes private, and not private
 * any more, by the hypercall for that.  In /sys/module/gmem_guest/parameters:
 *
 *   address  where the memory is, for the host
 *   private  1 and 0 convert it
 *   text     what it begins with
 *   call     "ADDRESS PAGES ATTRIBUTES" is a hypercall as it is
 *
 * The write fails as the hypercall does.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kvm_para.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/string.h>
#include <asm/cpuid/api.h>

#define ORDER	9
#define TEXT	64

static struct page *memory;
static bool is_private;

static long map_gpa_range(u64 address, u64 pages, u64 attributes)
{
	return kvm_hypercall3(KVM_HC_MAP_GPA_RANGE, address, pages, attributes);
}

static int convert(bool to_private)
{
	long ret = map_gpa_range(page_to_phys(memory), 1 << ORDER, to_private ?
				 KVM_MAP_GPA_RANGE_ENCRYPTED : KVM_MAP_GPA_RANGE_DECRYPTED);

	if (!ret)
		is_private = to_private;
	return ret;
}

static int get_address(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%#llx\n", (u64)page_to_phys(memory));
}

static int get_private(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%d\n", is_private);
}

static int set_private(const char *value, const struct kernel_param *param)
{
	bool to_private;

	return kstrtobool(value, &to_private) ?: convert(to_private);
}

static int get_text(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%s\n", (char *)page_address(memory));
}

static int set_text(const char *value, const struct kernel_param *param)
{
	return strscpy(page_address(memory), value, TEXT) < 0 ? -E2BIG : 0;
}

static int set_call(const char *value, const struct kernel_param *param)
{
	u64 address, pages, attributes;

	if (sscanf(value, "%llx %llx %llx", &address, &pages, &attributes) != 3)
		return -EDOM;
	return map_gpa_range(address, pages, attributes);
}

static const struct kernel_param_ops address_ops = { .get = get_address };
static const struct kernel_param_ops private_ops = { .get = get_private, .set = set_private };
static const struct kernel_param_ops text_ops = { .get = get_text, .set = set_text };
static const struct kernel_param_ops call_ops = { .set = set_call };

module_param_cb(address, &address_ops, NULL, 0400);
module_param_cb(private, &private_ops, NULL, 0600);
module_param_cb(text, &text_ops, NULL, 0600);
module_param_cb(call, &call_ops, NULL, 0200);

static int __init gmem_guest_init(void)
{
	if (!kvm_para_available() || !(cpuid_eax(KVM_CPUID_SIGNATURE | KVM_CPUID_FEATURES) &
				       BIT(KVM_FEATURE_HC_MAP_GPA_RANGE)))
		return -ENODEV;
	memory = alloc_pages(GFP_KERNEL | __GFP_ZERO, ORDER);
	return memory ? 0 : -ENOMEM;
}

static void __exit gmem_guest_exit(void)
{
	/* Others cannot use private memory: it is lost if it does not come back. */
	if (!is_private || !convert(false))
		__free_pages(memory, ORDER);
}

module_init(gmem_guest_init);
module_exit(gmem_guest_exit);

MODULE_DESCRIPTION("A guest that makes memory private");
MODULE_LICENSE("GPL");

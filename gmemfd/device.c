// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/gmemfd, which tells what the module can do and makes files; and loading and
 * unloading of the module.
 */
#include <linux/device.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/stringify.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>

#include "gmemfd.h"

#define GMEMFD_CREATE_FLAGS	(GMEMFD_CREATE_INIT_SHARED |	\
				 GMEMFD_CREATE_KEEP_DIRECT_MAP |	\
				 GMEMFD_CREATE_SMALL_SHARED |	\
				 GMEMFD_CREATE_NODE |		\
				 GMEMFD_CREATE_SECRET |		\
				 GMEMFD_CREATE_BIND_MAPPED)

static int gmem_ioctl_get_info(void __user *argp)
{
	struct gmemfd_info info;

	if (copy_from_user(&info, argp, sizeof(info)))
		return -EFAULT;
	if (memchr_inv(info.reserved, 0, sizeof(info.reserved)))
		return -EINVAL;
	info = (struct gmemfd_info) {
		.abi = GMEMFD_ABI,
		.shim_abi = GMEM_SHIM_ABI,
		.create_flags = GMEMFD_CREATE_FLAGS,
		.attributes = GMEMFD_ATTRIBUTE_PRIVATE | GMEMFD_ATTRIBUTE_SECRET,
		.block_sizes = gmem_block_sizes,
		.max_secret_entry = PAGE_SIZE << gmem_special_order,
	};
	return copy_to_user(argp, &info, sizeof(info)) ? -EFAULT : 0;
}

static int gmem_ioctl_create(void __user *argp)
{
	struct gmemfd_create args;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;
	if (args.flags & ~GMEMFD_CREATE_FLAGS || args.reserved0 ||
	    memchr_inv(args.reserved, 0, sizeof(args.reserved)))
		return -EINVAL;
	if (args.flags & GMEMFD_CREATE_SECRET && args.flags & GMEMFD_CREATE_KEEP_DIRECT_MAP)
		return -EINVAL;
	if (args.flags & GMEMFD_CREATE_NODE) {
		if (args.node >= MAX_NUMNODES || !node_state(args.node, N_MEMORY))
			return -EINVAL;
	} else if (args.node) {
		return -EINVAL;
	}
	if (!gmem_block_size_ok(args.block_size) || !args.size ||
	    args.size & (args.block_size - 1) || args.size > MAX_LFS_FILESIZE)
		return -EINVAL;
	return gmem_file_create(&args);
}

static long gmem_device_ioctl(struct file *file, unsigned int cmd,
			      unsigned long arg)
{
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case GMEMFD_GET_INFO:
		return gmem_ioctl_get_info(argp);
	case GMEMFD_CREATE:
		return gmem_ioctl_create(argp);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations gmem_device_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= gmem_device_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= noop_llseek,
};

/* /sys/class/misc/gmemfd/ */

static ssize_t away_folios_show(struct device *dev, struct device_attribute *attr,
				char *buf)
{
	long away, backlog;

	gmem_home_counts(&away, &backlog);
	return sysfs_emit(buf, "%ld\n", away);
}
static DEVICE_ATTR_RO(away_folios);

static ssize_t home_backlog_show(struct device *dev, struct device_attribute *attr,
				 char *buf)
{
	long away, backlog;

	gmem_home_counts(&away, &backlog);
	return sysfs_emit(buf, "%ld\n", backlog);
}
static DEVICE_ATTR_RO(home_backlog);

static struct attribute *gmem_device_attrs[] = {
	&dev_attr_away_folios.attr,
	&dev_attr_home_backlog.attr,
	NULL
};
ATTRIBUTE_GROUPS(gmem_device);

static struct miscdevice gmem_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "gmemfd",
	.fops	= &gmem_device_fops,
	.mode	= 0660,
	.groups	= gmem_device_groups,
};

static const struct gmem_provider gmem_provider = {
	.folio_free	= gmem_folio_came_home,
	.fops		= &gmem_fops,
	.by_address	= gmem_kvm_by_address,
	.bind		= gmem_kvm_bind,
	.unbind		= gmem_kvm_unbind,
	.get_pfn	= gmem_kvm_get_pfn,
	.is_private	= gmem_kvm_is_private,
	.get_host_pfn	= gmem_kvm_get_host_pfn,
	.memory_failure	= gmem_memory_error,
};

/* This tells user space, before it loads the module, which shim the module needs. */
MODULE_INFO(gmem_shim_abi, __stringify(GMEM_SHIM_ABI));

static int __init gmem_init(void)
{
	struct address_space *away_mapping;
	int err;

	err = gmem_frames_init();
	if (err)
		return err;
	err = gmem_file_init(&away_mapping);
	if (err)
		goto err_frames;
	err = gmem_home_init(away_mapping);
	if (err)
		goto err_file;
	err = gmem_shim_register(GMEM_SHIM_ABI, &gmem_provider);
	if (err)
		goto err_home;
	err = gmem_fs_init();
	if (err)
		goto err_shim;
	err = misc_register(&gmem_device);
	if (err)
		goto err_fs;
	return 0;

err_fs:
	gmem_fs_exit();
err_shim:
	gmem_shim_unregister();
err_home:
	gmem_home_exit();
err_file:
	gmem_file_exit();
err_frames:
	gmem_frames_exit();
	return err;
}
module_init(gmem_init);

static void __exit gmem_exit(void)
{
	misc_deregister(&gmem_device);
	gmem_fs_exit();
	gmem_shim_unregister();
	gmem_home_exit();
	gmem_file_exit();
	gmem_frames_exit();
}
module_exit(gmem_exit);

MODULE_DESCRIPTION("Guest memory that converts between private and shared in place");
MODULE_AUTHOR("The gmemfd authors");
MODULE_LICENSE("GPL");
GMEMFD_IMPORT_SHIM;
MODULE_VERSION(GMEMFD_VERSION);

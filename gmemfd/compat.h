/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Names that differ between kernels.  No other file asks for the kernel's version: what
 * differs in more than names is in the shim, whose header is the same for all kernels.
 */
#ifndef _GMEMFD_COMPAT_H
#define _GMEMFD_COMPAT_H

#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
static inline void hrtimer_setup(struct hrtimer *timer,
				 enum hrtimer_restart (*function)(struct hrtimer *),
				 clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#endif

/*
 * The loader does not know by itself whom the namespace "module:gmemfd" is for.  The shim
 * looks who registers.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define GMEMFD_IMPORT_SHIM	MODULE_INFO(import_ns, "module:gmemfd")
#else
#define GMEMFD_IMPORT_SHIM	static_assert(true)
#endif

/* Special entries: they have no struct page, as far as anybody can tell. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0)
#include <linux/pfn_t.h>
#define gmem_special_pfn(pfn)	pfn_to_pfn_t(pfn)
#else
#define gmem_special_pfn(pfn)	(pfn)
#endif

static inline vm_fault_t gmem_insert_special(struct vm_area_struct *vma,
					     unsigned long address, unsigned long pfn)
{
	return vmf_insert_mixed(vma, address, gmem_special_pfn(pfn));
}

static inline vm_fault_t gmem_insert_special_pmd(struct vm_fault *vmf, unsigned long pfn,
						 bool write)
{
	return vmf_insert_pfn_pmd(vmf, gmem_special_pfn(pfn), write);
}

/* Zero pages that follow each other. */
static inline void gmem_clear_pages(struct page *page, unsigned int nr)
{
#ifdef clear_pages
	clear_pages(page_address(page), nr);
#else
	for (; nr; nr--, page++)
		clear_page(page_address(page));
#endif
}

#ifndef cmp_int
#define cmp_int(a, b)	(((a) > (b)) - ((a) < (b)))
#endif

#ifndef kmalloc_obj
#define kmalloc_obj(obj, gfp)	kmalloc(sizeof(obj), gfp)
#define kzalloc_obj(obj, gfp)	kzalloc(sizeof(obj), gfp)
#endif

/* A dentry that stays until it is unlinked was one with a reference that nobody has. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
static inline void d_make_persistent(struct dentry *dentry, struct inode *inode)
{
	d_instantiate(dentry, inode);
	dget(dentry);
}

#define gmem_kill_super		kill_litter_super
#define inode_just_drop		generic_delete_inode
#define gmem_mkdir_type		int
#define gmem_mkdir_return(err)	(err)
#else
#define gmem_kill_super		kill_anon_super
#define gmem_mkdir_type		struct dentry *
#define gmem_mkdir_return(err)	ERR_PTR(err)
#endif

/* create() was told whether it has to be exclusive, which the VFS sees to. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
#define GMEM_CREATE_PARAMETERS	struct mnt_idmap *idmap, struct inode *dir, \
				struct dentry *dentry, umode_t mode, bool excl
#else
#define GMEM_CREATE_PARAMETERS	struct mnt_idmap *idmap, struct inode *dir, \
				struct dentry *dentry, umode_t mode
#endif

/* Folio batches were called pagevecs. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0)
#include <linux/pagevec.h>
#define FOLIO_BATCH_SIZE	PAGEVEC_SIZE
#else
#include <linux/folio_batch.h>
#endif

#endif /* _GMEMFD_COMPAT_H */

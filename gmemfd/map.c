// SPDX-License-Identifier: GPL-2.0
/*
 * What a mapping of a file needs: mmap(), faults, and mbind().
 */
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "gmemfd.h"

/* The pages of the folio of page @i: a fault maps no others.  [block shared] */
static void gmem_folio_range(const struct gmemfd_inode *fi,
			     const struct gmem_block *block, unsigned long i,
			     unsigned long *lo, unsigned long *hi)
{
	unsigned long nr = 1UL << gmem_wanted_folio_order(fi, block, i);

	*lo = round_down(i, nr);
	*hi = *lo + nr;
}

static vm_fault_t gmem_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct gmemfd_inode *fi = inode->i_private;
	vm_fault_t ret = VM_FAULT_LOCKED;
	struct gmem_block *block;
	unsigned long i, lo, hi;
	struct folio *folio;
	int err;

	if (vmf->pgoff >= i_size_read(inode) >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	block = gmem_block_at(fi, vmf->pgoff);
	i = gmem_page_in_block(fi, vmf->pgoff);

	/* A task that is killed does not see what a fault returns. */
	if (gmem_lock_block_shared(fi, block))
		return VM_FAULT_SIGBUS;
	for (;;) {
		if (gmem_state_private(&block->state, i)) {
			ret = VM_FAULT_SIGBUS;
			goto out;
		}
		gmem_folio_range(fi, block, i, &lo, &hi);
		if (gmem_populated(block, lo, hi) && !gmem_folio_too_large(fi, block, i))
			break;
		gmem_unlock_block_shared(fi, block);
		err = gmem_lock_block_killable(fi, block);
		if (err)
			return VM_FAULT_SIGBUS;
		if (!gmem_state_private(&block->state, i)) {
			gmem_folio_range(fi, block, i, &lo, &hi);
			err = gmem_populate(fi, block, lo, hi) ?:
			      gmem_split_poisoned(fi, block, i);
		}
		/* lockdep does not know the lock, so downgrade_write() would confuse it. */
		gmem_unlock_block(fi, block);
		if (err)
			return vmf_error(err);
		if (gmem_lock_block_shared(fi, block))
			return VM_FAULT_SIGBUS;
	}
	/* The folio stays locked until it is mapped: see gmem_folio_freeze(). */
	vmf->page = block->memory->loan.page + i;
	folio = page_folio(vmf->page);
	folio_get(folio);
	folio_lock(folio);
	if (PageHWPoison(vmf->page)) {
		folio_unlock(folio);
		folio_put(folio);
		ret = VM_FAULT_HWPOISON;
	}
out:
	gmem_unlock_block_shared(fi, block);
	return ret;
}

#ifdef CONFIG_NUMA
static int gmem_set_policy(struct vm_area_struct *vma, struct mempolicy *policy)
{
	struct gmemfd_inode *fi = file_inode(vma->vm_file)->i_private;

	return gmem_mpol_set(&fi->policy, vma, policy);
}

static struct mempolicy *gmem_get_policy(struct vm_area_struct *vma,
					 unsigned long addr, pgoff_t *index)
{
	struct gmemfd_inode *fi = file_inode(vma->vm_file)->i_private;
	pgoff_t pgoff = linear_page_index(vma, addr);

	*index = pgoff >> fi->block_order;
	return gmem_mpol_lookup(&fi->policy, pgoff);
}
#endif

static const struct vm_operations_struct gmem_vm_ops = {
	.fault		= gmem_fault,
#ifdef CONFIG_NUMA
	.set_policy	= gmem_set_policy,
	.get_policy	= gmem_get_policy,
#endif
};

/**
 * gmem_mmap - the mmap() of a gmem file
 * @file: the file
 * @vma: the new mapping
 *
 * Return: 0, or -EINVAL for a private mapping.
 */
int gmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	/* This makes it VM_SPECIAL: mlock, reclaim and compaction take no references. */
	vm_flags_set(vma, VM_DONTEXPAND);
	vma->vm_ops = &gmem_vm_ops;
	return 0;
}

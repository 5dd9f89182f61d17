// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings in user space: mmap(), faults, mbind().
 */
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "gmemfd.h"

/* A fault on page @i maps no more than its folio: which pages may that be? */
static void gmem_fault_range(const struct gmem_inode *gi,
			     const struct gmem_block *block, unsigned long i,
			     unsigned long *lo, unsigned long *hi)
{
	unsigned long nr = 1UL << gmem_folio_order(gi, block, i);

	*lo = round_down(i, nr);
	*hi = *lo + nr;
}

static vm_fault_t gmem_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct gmem_inode *gi = inode->i_private;
	vm_fault_t ret = VM_FAULT_LOCKED;
	struct gmem_block *block;
	unsigned long i, lo, hi;
	struct folio *folio;
	int err;

	if (vmf->pgoff >= i_size_read(inode) >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	block = gmem_block_at(gi, vmf->pgoff);
	i = gmem_page_in_block(gi, vmf->pgoff);

	/* Who is killed may be told anything. */
	if (gmem_lock_block_shared(gi, block))
		return VM_FAULT_SIGBUS;
	for (;;) {
		if (gmem_state_private(&block->state, i)) {
			ret = VM_FAULT_SIGBUS;
			goto out;
		}
		gmem_fault_range(gi, block, i, &lo, &hi);
		if (gmem_touched(block, lo, hi) && !gmem_wants_split(gi, block, i))
			break;
		gmem_unlock_block_shared(gi, block);
		err = gmem_lock_block_killable(gi, block);
		if (err)
			return VM_FAULT_SIGBUS;
		if (!gmem_state_private(&block->state, i)) {
			gmem_fault_range(gi, block, i, &lo, &hi);
			err = gmem_touch(gi, block, lo, hi) ?:
			      gmem_split_poisoned(gi, block, i);
		}
		/* Not downgrade_write(): lockdep would not know the lock. */
		gmem_unlock_block(gi, block);
		if (err)
			return vmf_error(err);
		if (gmem_lock_block_shared(gi, block))
			return VM_FAULT_SIGBUS;
	}
	/* Locked until it is mapped: see gmem_folio_freeze(). */
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
	gmem_unlock_block_shared(gi, block);
	return ret;
}

#ifdef CONFIG_NUMA
static int gmem_set_policy(struct vm_area_struct *vma, struct mempolicy *policy)
{
	struct gmem_inode *gi = file_inode(vma->vm_file)->i_private;

	return mpol_set_shared_policy(&gi->policy, vma, policy);
}

static struct mempolicy *gmem_get_policy(struct vm_area_struct *vma,
					 unsigned long addr, pgoff_t *index)
{
	struct gmem_inode *gi = file_inode(vma->vm_file)->i_private;
	pgoff_t pgoff = linear_page_index(vma, addr);

	*index = pgoff >> gi->block_order;
	return mpol_shared_policy_lookup(&gi->policy, pgoff);
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
	/* VM_SPECIAL: mlock, reclaim and compaction take no references. */
	vm_flags_set(vma, VM_DONTEXPAND);
	vma->vm_ops = &gmem_vm_ops;
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Functions of the kernel that the module needs and that modules cannot call.
 */
#include <linux/anon_inodes.h>
#include <linux/mempolicy.h>

#include "compat.h"

/**
 * gmem_anon_inode - make an inode that security modules label
 * @sb: its superblock
 * @name: the name that they see
 *
 * Return: the inode or an error pointer.
 */
struct inode *gmem_anon_inode(struct super_block *sb, const char *name)
{
	return anon_inode_make_secure_inode(sb, name, NULL);
}
EXPORT_SYMBOL_GMEM(gmem_anon_inode);

#ifdef CONFIG_MEMORY_FAILURE
/* The number of poisoned pages of this machine.  A conversion asks for it 512 times a GiB. */
const atomic_long_t *const gmem_poisoned_pages = &num_poisoned_pages;
EXPORT_SYMBOL_GMEM(gmem_poisoned_pages);
#endif

#ifdef CONFIG_NUMA
/**
 * gmem_mpol_init - prepare the memory policy of a file
 * @policy: the policy
 */
void gmem_mpol_init(struct shared_policy *policy)
{
	mpol_shared_policy_init(policy, NULL);
}
EXPORT_SYMBOL_GMEM(gmem_mpol_init);

/**
 * gmem_mpol_free - free what the memory policy of a file consists of
 * @policy: from gmem_mpol_init()
 */
void gmem_mpol_free(struct shared_policy *policy)
{
	mpol_free_shared_policy(policy);
}
EXPORT_SYMBOL_GMEM(gmem_mpol_free);

/**
 * gmem_mpol_set - mbind() was called for a mapping
 * @policy: the policy of the file
 * @vma: the mapping
 * @new: the policy of its pages
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_mpol_set(struct shared_policy *policy, struct vm_area_struct *vma,
		  struct mempolicy *new)
{
	return mpol_set_shared_policy(policy, vma, new);
}
EXPORT_SYMBOL_GMEM(gmem_mpol_set);

/**
 * gmem_mpol_lookup - the memory policy of a page
 * @policy: the policy of the file
 * @index: the page
 *
 * Return: the policy, for gmem_mpol_put(), or NULL if mbind() was not called for it.
 */
struct mempolicy *gmem_mpol_lookup(struct shared_policy *policy, pgoff_t index)
{
	return mpol_shared_policy_lookup(policy, index);
}
EXPORT_SYMBOL_GMEM(gmem_mpol_lookup);

/**
 * gmem_mpol_put - drop the reference that gmem_mpol_lookup() took
 * @policy: the policy, or NULL
 */
void gmem_mpol_put(struct mempolicy *policy)
{
	mpol_cond_put(policy);
}
EXPORT_SYMBOL_GMEM(gmem_mpol_put);
#endif

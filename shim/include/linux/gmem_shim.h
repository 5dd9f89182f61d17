/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The contract between the kernel and the module gmemfd: hugetlb folios on loan, folio
 * geometry, the direct map, a callback on the last put of a folio, memory errors, and
 * KVM memslots on files that are not KVM's own.
 *
 * Each function is documented where it is defined.  All are exported to the module
 * "gmemfd" alone unless the text says otherwise.
 */
#ifndef _LINUX_GMEM_SHIM_H
#define _LINUX_GMEM_SHIM_H

#include <linux/export.h>
#include <linux/mm.h>

/* Changes whenever a function or structure below does. */
#define GMEM_SHIM_ABI	8

struct hugepage_subpool;
struct hugetlb_cgroup;
struct kvm;
struct kvm_memory_slot;
struct mempolicy;
struct shared_policy;

/**
 * struct gmem_pool - blocks reserved in a hugetlb pool
 * @spool: hugetlb's reservation
 * @cgroup: the hugetlb cgroup that is charged for it; NULL without cgroups
 * @order: order of the blocks
 * @nr_blocks: number of reserved blocks
 *
 * The caller provides the memory.  The fields belong to the shim.
 */
struct gmem_pool {
	struct hugepage_subpool *spool;
	struct hugetlb_cgroup *cgroup;
	unsigned int order;
	unsigned long nr_blocks;
};

/**
 * struct gmem_loan - one hugetlb folio out of its pool
 * @page: first page of the block
 * @order: order of the block
 * @node: entry in the list of broken loans, under hugetlb_lock
 * @spool: saved while the loan is broken, as are the next three: hugetlb keeps them in
 *	struct folio
 * @cgroup: the hugetlb cgroup that is charged for the block
 * @hpg_flags: hugetlb's flags
 * @memcg_data: the memory cgroup
 *
 * The caller provides the memory and reads @page and @order.  The other fields belong
 * to the shim.
 */
struct gmem_loan {
	struct page *page;
	unsigned int order;

	struct list_head node;
	struct hugepage_subpool *spool;
	struct hugetlb_cgroup *cgroup;
	void *hpg_flags;
	unsigned long memcg_data;
};

/**
 * struct gmem_kvm_ops - KVM, as a provider sees it
 * @invalidate: unmap the pages [start, end) of the file, which must lie in the slot, from
 *	the guest.  Who has looked one of them up looks again, and the provider's @get_pfn does
 *	not return before they are as they will be.  Does what @drop_caches does, too
 * @drop_caches: KVM's own mappings of these pages go, and KVM asks @get_host_pfn again
 * @convert_begin: the pages are about to become private, or not private, for a slot that is
 *	typed.  Unmaps them where they are mapped as what they were.  Who has looked one up, or
 *	looks it up before @convert_end, looks again
 * @convert_end: @is_private tells what they are now.  Follows each @convert_begin
 *
 * The provider calls them for slots that are bound, under a lock that its @bind and @unbind
 * take.  It holds that lock from @convert_begin to @convert_end.
 */
struct gmem_kvm_ops {
	void (*invalidate)(struct kvm *kvm, struct kvm_memory_slot *slot,
			   pgoff_t start, pgoff_t end);
	void (*drop_caches)(struct kvm *kvm, struct kvm_memory_slot *slot,
			    pgoff_t start, pgoff_t end);
	void (*convert_begin)(struct kvm *kvm, struct kvm_memory_slot *slot,
			      pgoff_t start, pgoff_t end, bool private);
	void (*convert_end)(struct kvm *kvm);
};

/**
 * struct gmem_slot - a memslot on a provider's file
 * @kvm: the VM
 * @slot: the slot
 * @file: where the slot has the file; NULL in it says that the file has gone
 * @first: the slot's first page of the file
 * @nr: number of pages
 * @space: the number of KVM's address space where the slot is, if user space named the
 *	file; -1 if the file was found where the slot's userspace_addr is mapped
 * @logs_dirty: KVM logs which pages the guest writes to
 * @typed: each access of the guest is private or shared, and the page has to be the same
 * @ops: how to talk to KVM
 */
struct gmem_slot {
	struct kvm *kvm;
	struct kvm_memory_slot *slot;
	struct file **file;
	pgoff_t first;
	unsigned long nr;
	int space;
	bool logs_dirty;
	bool typed;
	const struct gmem_kvm_ops *ops;
};

/**
 * struct gmem_provider - the user of the shim
 * @folio_free: called instead of freeing a folio that gmem_folio_mark() has marked, in
 *	whatever context the last reference is dropped
 * @fops: KVM memslots may be bound to files with these operations
 * @by_address: are slots bound to the file that user space does not name, but has mapped?
 *	Does not sleep
 * @bind: a slot gets a part of its file, to which there is a reference
 * @unbind: the slot goes, and none of its pages is mapped any more.  It has no file
 *	afterwards.  The file may be closed at the same time
 * @get_pfn: tell what a guest finds at page @index of the file.  The aligned 2^*@order
 *	pages around it can be mapped at once; with @typed they are all private, or none is.
 *	No reference comes with them: the provider invalidates before the memory goes
 * @is_private: is a page private?  Does not sleep.  The answer may be out of date at once,
 *	but never was wrong
 * @get_host_pfn: tell what KVM itself finds there, which may be out of the direct map; or
 *	fail if the page is the guest's alone.  The provider calls @drop_caches of
 *	gmem_kvm_ops before the page goes, or becomes the guest's alone
 * @memory_failure: a page has a memory error.  Returns -ENOENT if hugetlb or nobody has
 *	the page, otherwise what memory_failure() returns.  In the latter case the provider
 *	drops a reference if MF_COUNT_INCREASED is in @flags, and ensures that nobody gets
 *	the page any more, apart from the processes that gmem_page_poison() tells
 *
 * File and slot know each other, and neither keeps the other.  When a file is released
 * the provider invalidates its slots and takes the file from them.
 */
struct gmem_provider {
	void (*folio_free)(struct folio *folio);
	const struct file_operations *fops;
	bool (*by_address)(struct file *file);
	int (*bind)(const struct gmem_slot *slot);
	void (*unbind)(struct kvm_memory_slot *slot, struct file **file);
	int (*get_pfn)(struct file *file, pgoff_t index, bool typed, u64 *pfn, int *order);
	bool (*is_private)(struct file *file, pgoff_t index);
	int (*get_host_pfn)(struct file *file, pgoff_t index, u64 *pfn);
	int (*memory_failure)(struct page *page, int flags);
};

/* Who uses the shim */
int gmem_shim_register(unsigned int abi, const struct gmem_provider *provider);
void gmem_shim_unregister(void);

/* Hugetlb folios on loan */
int gmem_pool_reserve(struct gmem_pool *pool, unsigned int order,
		      unsigned long nr_blocks);
void gmem_pool_release(struct gmem_pool *pool);
int gmem_loan_take(struct gmem_loan *loan, struct gmem_pool *pool,
		   struct mempolicy *policy, pgoff_t index, int nid);
int gmem_loan_break(struct gmem_loan *loan, unsigned int order);
void gmem_loan_mend(struct gmem_loan *loan);
void gmem_loan_return(struct gmem_loan *loan);

/* Folio geometry */
void gmem_folio_split(struct folio *folio, unsigned int order);
struct folio *gmem_folio_join(struct page *page, unsigned int order);

/* The direct map */
int gmem_direct_map_remove(struct page *page, unsigned long nr);
int gmem_direct_map_expose(struct page *page, unsigned long nr);
int gmem_direct_map_restore(struct page *page, unsigned long nr);
void gmem_direct_map_flush(struct page *page, unsigned long nr);
void gmem_direct_map_collapse(struct page *page, unsigned long nr);

/*
 * The largest special entry of user page tables that all of the kernel takes for one, as an
 * order.  Where it is 0, folios must not be mapped by PMD in VM_MIXEDMAP either.  It is never
 * more than PMD_ORDER: splitting a VMA and mremap() take a PUD that maps memory for a table.
 */
extern const unsigned int gmem_special_order;

/* Memory errors */
int gmem_page_poison(struct page *page, int flags);
extern const atomic_long_t *const gmem_poisoned_pages;

/* Does anybody have to look for PageHWPoison?  Not on most machines. */
static inline bool gmem_any_page_poisoned(void)
{
	return IS_ENABLED(CONFIG_MEMORY_FAILURE) && atomic_long_read(gmem_poisoned_pages);
}

/* Functions of the kernel that modules cannot call */
struct inode *gmem_anon_inode(struct super_block *sb, const char *name);
#ifdef CONFIG_NUMA
void gmem_mpol_init(struct shared_policy *policy);
void gmem_mpol_free(struct shared_policy *policy);
int gmem_mpol_set(struct shared_policy *policy, struct vm_area_struct *vma,
		  struct mempolicy *new);
struct mempolicy *gmem_mpol_lookup(struct shared_policy *policy, pgoff_t index);
void gmem_mpol_put(struct mempolicy *policy);
#else
static inline void gmem_mpol_init(struct shared_policy *policy) { }
static inline void gmem_mpol_free(struct shared_policy *policy) { }
static inline struct mempolicy *gmem_mpol_lookup(struct shared_policy *policy,
						 pgoff_t index)
{
	return NULL;
}

static inline void gmem_mpol_put(struct mempolicy *policy) { }
#endif

/* For kvm */
const struct gmem_provider *gmem_provider_of(struct file *file);
void gmem_provider_unbind(struct kvm_memory_slot *slot, struct file **file);
#ifdef CONFIG_GMEM_SHIM
bool gmem_pfn_on_loan(unsigned long pfn);	/* Linux 6.12 */
#else
static inline bool gmem_pfn_on_loan(unsigned long pfn)
{
	return false;
}
#endif

/*
 * A page type of our own marks the folios whose last put is ours.  mm hands page types
 * out from 0xf0 upwards, and keeps 0xff for itself.
 */
#define GMEM_PAGE_TYPE	0xfe

static inline bool gmem_folio_marked(const struct folio *folio)
{
	/* Only the owner changes the type, and only while nobody drops the last reference. */
	return data_race(folio->page.page_type >> 24) == GMEM_PAGE_TYPE;
}

/* From here on the last put of @folio, which must be unmapped, is ours. */
static inline void gmem_folio_mark(struct folio *folio)
{
	VM_WARN_ON_ONCE_FOLIO(folio->page.page_type != UINT_MAX, folio);
	folio->page.page_type = (unsigned int)GMEM_PAGE_TYPE << 24;
}

static inline void gmem_folio_unmark(struct folio *folio)
{
	VM_WARN_ON_ONCE_FOLIO(!gmem_folio_marked(folio), folio);
	folio->page.page_type = UINT_MAX;
}

/* How the shim exports its functions. */
#ifdef EXPORT_SYMBOL_FOR_MODULES
#define EXPORT_SYMBOL_GMEM_TO(sym, modules)	EXPORT_SYMBOL_FOR_MODULES(sym, modules)
#else
#define EXPORT_SYMBOL_GMEM_TO(sym, modules)	EXPORT_SYMBOL_GPL_FOR_MODULES(sym, modules)
#endif
#define EXPORT_SYMBOL_GMEM(sym)			EXPORT_SYMBOL_GMEM_TO(sym, "gmemfd")

#endif /* _LINUX_GMEM_SHIM_H */

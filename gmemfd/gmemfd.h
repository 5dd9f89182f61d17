/* SPDX-License-Identifier: GPL-2.0 */
/*
 * gmemfd: inside the module.
 *
 *   device.c   /dev/gmemfd
 *   file.c     a gmem fd: inode, mmap, fallocate, ioctls
 *   convert.c  private <-> shared
 *   memory.c   the memory behind a block: taking, zeroing, folio geometry
 *   home.c     memory on its way back to hugetlb
 *   kvm.c      guests that run from a file
 *   poison.c   memory errors
 *   state.c    which pages of a block are private
 */
#ifndef _GMEMFD_H
#define _GMEMFD_H

#include <linux/fs.h>
#include <linux/gmem_shim.h>
#include <linux/fault-inject.h>
#include <linux/lockdep.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "state.h"
#include "uapi/gmemfd.h"

/**
 * struct gmem_memory - memory behind a block
 * @loan: what hugetlb lent
 * @gi: the file, and
 * @index: the page of it where this is; NULL once it has left the file; under
 *	gmem_memories_lock
 * @node: on the list of all, for memory offlining and memory errors
 * @away: folios that left the file while referenced and are not home yet,
 *	plus one while the block is being taken apart
 * @broken: no longer a hugetlb folio but a folio per region or page
 * @ready: a bit per region: zeroed, and its private pages out of the direct
 *	map.  A region that is not ready has never been seen by anybody.
 * @split: a bit per region: in 4 KiB folios
 * @tables: a bit per region: the direct map may have it in 4 KiB
 *
 * Private pages are frozen, their folio has no mapping.  Shared pages have
 * one reference of the block's, and the file's mapping.  An unbroken block is
 * all private.
 */
struct gmem_memory {
	struct gmem_loan loan;
	struct gmem_inode *gi;
	pgoff_t index;
	struct list_head node;
	atomic_t away;
	bool broken;
	unsigned long *split;
	unsigned long *tables;
	unsigned long ready[];
};

/**
 * struct gmem_block - a piece of a gmem file, as large as a huge page
 * @lock: shared for faults, exclusive for all that changes the fields below
 * @state: which pages are private
 * @memory: what is behind it, NULL for a hole
 * @punched: a bit per page punched and not touched since; NULL for none
 *
 * Lock order:
 *
 *   mm->mmap_lock or vma lock
 *     gmem_block.lock, several in ascending order
 *       folio lock of a shared folio
 *         mapping->i_mmap_rwsem, page table locks
 *       gmem_memories_lock
 *       gmem_direct_map_lock, with no folio locked
 *         init_mm.mmap_lock
 *       gmem_inode.bindings_lock
 *         kvm->mmu_lock
 *
 *   kvm->slots_lock
 *     gmem_bind_lock
 *       gmem_inode.bindings_lock
 *
 * A guest's fault takes a block's lock and nothing else of ours.
 *
 * A conversion holds the locks of all its blocks.  Lockdep has no room for
 * that many: it does not track them one by one but as gmem_inode.lock_map.
 */
struct gmem_block {
	struct rw_semaphore lock;
	struct gmem_state state;
	struct gmem_memory *memory;
	unsigned long *punched;
};

/**
 * struct gmem_inode - a gmem file
 * @inode: its inode; i_size does not change
 * @pool: the reservation of all its blocks
 * @block_order: log2 of the pages in a block
 * @flags: GMEMFD_CREATE_*
 * @node: where memory comes from unless @policy says otherwise
 * @policy: mbind()
 * @nr_allocated: blocks with memory
 * @lock_map: stands for the blocks' locks in lockdep
 * @bindings_lock: for the next three
 * @bindings: memslots
 * @kvm: the VM they belong to; NULL if there are none
 * @kvm_ops: how to talk to it
 * @blocks: the file
 */
struct gmem_inode {
	struct inode *inode;
	struct hugepage_subpool *pool;
	unsigned int block_order;
	u64 flags;
	int node;
	struct shared_policy policy;
	atomic_long_t nr_allocated;
	struct lockdep_map lock_map;
	struct mutex bindings_lock;	/* see struct gmem_block for the order */
	struct list_head bindings;
	struct kvm *kvm;
	const struct gmem_kvm_ops *kvm_ops;
	unsigned long nr_blocks;
	struct gmem_block blocks[] __counted_by(nr_blocks);
};

static inline unsigned long gmem_block_pages(const struct gmem_inode *gi)
{
	return 1UL << gi->block_order;
}

static inline unsigned long gmem_block_regions(const struct gmem_inode *gi)
{
	return 1UL << (gi->block_order - GMEM_REGION_ORDER);
}

/* File offset, in pages, of page @i of @block. */
static inline pgoff_t gmem_pgoff(const struct gmem_inode *gi,
				 const struct gmem_block *block, unsigned long i)
{
	return ((pgoff_t)(block - gi->blocks) << gi->block_order) + i;
}

/**
 * struct gmem_span - the part of a range that lies in one block
 * @block: the block
 * @lo: first page, counted in the block
 * @hi: first page behind
 */
struct gmem_span {
	struct gmem_block *block;
	unsigned long lo, hi;
};

static inline struct gmem_span gmem_span(struct gmem_inode *gi, pgoff_t first,
					 pgoff_t last)
{
	unsigned long nr = gmem_block_pages(gi);
	unsigned long lo = first & (nr - 1);

	return (struct gmem_span) {
		.block = &gi->blocks[first >> gi->block_order],
		.lo = lo,
		.hi = min(nr, lo + (last - first)),
	};
}

/* Go through the pages [first, last) block by block. */
#define for_each_span(span, gi, pos, first, last)			\
	for (pgoff_t pos = (first);					\
	     pos < (last) && (span = gmem_span(gi, pos, last), true);	\
	     pos += span.hi - span.lo)

/* Tests let calls of the shim fail, each that may. */
#ifdef CONFIG_FAULT_INJECTION
extern struct fault_attr gmem_fail_attr;

static inline bool gmem_should_fail(void)
{
	return should_fail(&gmem_fail_attr, 1);
}
#else
static inline bool gmem_should_fail(void)
{
	return false;
}
#endif

static inline bool gmem_off_direct_map(const struct gmem_inode *gi)
{
	return !(gi->flags & GMEMFD_CREATE_KEEP_DIRECT_MAP);
}

/**
 * struct gmem_invalidation - pages taken from a guest for a while
 * @kvm: the VM, with a reference to it and to @ops->owner; NULL for none
 * @ops: how to talk to it
 * @nr: slots begun
 */
struct gmem_invalidation {
	struct kvm *kvm;
	const struct gmem_kvm_ops *ops;
	unsigned int nr;
};

/* file.c */
extern const struct file_operations gmem_fops;
int gmem_file_create(const struct gmemfd_create *args);
void gmem_unmap(struct gmem_inode *gi, struct gmem_block *block,
		unsigned long lo, unsigned long hi);
void gmem_unmap_settled(struct gmem_inode *gi, struct gmem_block *block,
			unsigned long lo, unsigned long hi);
int gmem_lock_blocks(struct gmem_inode *gi, pgoff_t first, pgoff_t last);
void gmem_unlock_blocks(struct gmem_inode *gi, pgoff_t first, pgoff_t last);
void gmem_lock_block_shared(struct gmem_inode *gi, struct gmem_block *block);
void gmem_unlock_block_shared(struct gmem_inode *gi, struct gmem_block *block);
bool gmem_touched(const struct gmem_block *block, unsigned long lo,
		  unsigned long hi);
int gmem_touch(struct gmem_inode *gi, struct gmem_block *block,
	       unsigned long lo, unsigned long hi);
int gmem_file_init(void);
void gmem_file_exit(void);

/* convert.c */
int gmem_convert(struct gmem_inode *gi, const struct gmemfd_convert_range *ranges,
		 unsigned int nr, const ktime_t *deadline, pgoff_t *busy);

/* memory.c */
int gmem_memory_take(struct gmem_inode *gi, struct gmem_block *block);
int gmem_memory_make_ready(struct gmem_inode *gi, struct gmem_block *block,
			   unsigned long lo, unsigned long hi);
int gmem_memory_zero(struct gmem_inode *gi, struct gmem_block *block,
		     unsigned long lo, unsigned long hi);
int gmem_memory_scrub(const struct gmem_block *block, unsigned long lo,
		      unsigned long hi);
int gmem_memory_break(struct gmem_memory *memory);
bool gmem_next_run(const struct gmem_block *block, bool ready, bool private,
		   unsigned long *lo, unsigned long *end, unsigned long hi);
int gmem_direct_map_runs(const struct gmem_block *block, bool ready,
			 bool private, unsigned long lo, unsigned long hi,
			 bool remove);
struct folio *gmem_next_shared_folio(const struct gmem_block *block,
				     unsigned long *i, unsigned long *next,
				     unsigned long hi);
bool gmem_folio_freeze(struct gmem_inode *gi, struct gmem_block *block,
		       struct folio *folio, int tries);
void gmem_direct_map_begin(void);
void gmem_direct_map_end(void);
void gmem_direct_map_heal(struct page *page, unsigned long nr);
unsigned int gmem_folio_order(const struct gmem_inode *gi,
			      const struct gmem_block *block, unsigned long i);
void gmem_shape(struct gmem_inode *gi, struct gmem_block *block,
		unsigned long lo, unsigned long hi);

/* home.c */
extern struct address_space *gmem_away_mapping;
extern struct mutex gmem_memories_lock;
struct gmem_memory *gmem_memory_at(unsigned long pfn);
int gmem_memory_add(struct gmem_inode *gi, struct gmem_block *block,
		    struct gmem_memory *memory);
void gmem_memory_free(struct gmem_memory *memory);
void gmem_home_flush(void);
void gmem_home_counts(long *away, long *backlog);
void gmem_memory_release(struct gmem_inode *gi, struct gmem_block *block);
void gmem_folio_came_home(struct folio *folio);
int gmem_home_init(void);
void gmem_home_exit(void);

/* kvm.c */
int gmem_kvm_bind(struct file *file, struct kvm *kvm, struct kvm_memory_slot *slot,
		  pgoff_t first, unsigned long nr, const struct gmem_kvm_ops *ops);
void gmem_kvm_unbind(struct file *file, struct kvm_memory_slot *slot);
int gmem_kvm_get_pfn(struct file *file, pgoff_t index, u64 *pfn, int *order);
void gmem_kvm_invalidate_begin(struct gmem_inode *gi, pgoff_t first, pgoff_t last,
			       struct gmem_invalidation *inv);
void gmem_kvm_invalidate_end(struct gmem_invalidation *inv);
void gmem_kvm_release(struct gmem_inode *gi);

/* poison.c */
bool gmem_poison_unlocated(const struct gmem_memory *memory);
int gmem_locate_poison(struct gmem_memory *memory);
bool gmem_poisoned(const struct gmem_block *block, unsigned long lo,
		   unsigned long nr);
bool gmem_wants_split(const struct gmem_inode *gi, const struct gmem_block *block,
		      unsigned long i);
int gmem_split_poisoned(struct gmem_inode *gi, struct gmem_block *block,
			unsigned long i);
int gmem_memory_error(struct page *page, int flags);

#endif /* _GMEMFD_H */

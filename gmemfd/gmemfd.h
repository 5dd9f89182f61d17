/* SPDX-License-Identifier: GPL-2.0 */
/*
 * gmemfd: inside the module.  Each file calls only those below it; scripts/callgraph
 * looks after that.
 *
 *                          device.c       /dev/gmemfd
 *                             |
 *                           file.c        inode, file operations, file systems
 *                             |
 *         +--------+----------+---------+-----------+
 *         |        |          |         |           |
 *       map.c  ioctl.c  fallocate.c  poison.c       |    calls of user space; errors
 *         |        |          |         |           |
 *         |    convert.c      +----+----+           |    private <-> shared
 *         |        |               |                |
 *         |        |             kvm.c              |    guests that run from a file
 *         |        |               |                |
 *         +--------|-- populate.c -+                |    fit for use, or punched
 *                  |       |                        |
 *                  |    memory.c -------------------+    taken, zeroed, scrubbed
 *                  |       |
 *                  |     home.c           memory on its way back to hugetlb
 *                  |       |
 *                  +-------+
 *                          |
 *       direct_map.c    folio.c    frames.c
 *               |          |          |
 *               +----------+----------+
 *                          |
 *                       block.c           blocks, their locks
 *                          |
 *                       state.c           which pages of a block are private
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
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

#include "compat.h"
#include "state.h"
#include "uapi/gmemfd.h"

/**
 * struct gmem_memory - memory behind a block
 * @loan: what hugetlb lent
 * @fi: the file, and
 * @index: the page of it where this is; NULL once it has left the file; under
 *	gmem_frames_lock
 * @mending: being put together again, so that memory errors have to wait; under
 *	gmem_frames_lock
 * @away: folios that left the file while referenced and are not home yet,
 *	plus one while the block is being taken apart
 * @broken: no longer a hugetlb folio but a folio per region or page
 * @ready: a bit per region: zeroed, and its private pages out of the direct
 *	map.  What is in a region that is not ready nobody has seen yet.
 * @zeroed: a bit per region, for those that are not ready
 * @split: a bit per region: in 4 KiB folios
 * @tables: a bit per region: the direct map may have it in 4 KiB
 *
 * Private pages are frozen, their folio has no mapping.  Shared pages have
 * one reference of the block's, and the file's mapping.  An unbroken block is
 * all private.
 */
struct gmem_memory {
	struct gmem_loan loan;
	struct gmemfd_inode *fi;
	pgoff_t index;
	bool mending;
	atomic_t away;
	bool broken;
	unsigned long *zeroed;
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
 *       gmem_frames_lock
 *       init_mm.mmap_lock, with no folio locked
 *       gmemfd_inode.bindings_lock
 *         kvm->mmu_lock
 *
 *   kvm->slots_lock
 *     gmemfd_inode.bindings_lock
 *
 * A guest's fault takes a block's lock and nothing else of ours.
 *
 * Two files meet on gmem_frames_lock, which is held for a look-up, and on the locks
 * of the kernel's page tables, which the shim holds while it changes entries of 1 GiB
 * at most, or merges 32 MiB of them.  Memory is zeroed, scrubbed and unmapped under
 * locks of its own file only.  Of these a block's is held for 2 MiB at a time where
 * memory is zeroed, and for the whole block where it is broken or given back; for a
 * conversion as long as that takes.  Whoever waits for one can be killed.
 *
 * A conversion holds the locks of all its blocks.  Lockdep has no room for
 * that many: it does not track them one by one but as gmemfd_inode.lock_map.
 */
struct gmem_block {
	struct rw_semaphore lock;
	struct gmem_state state;
	struct gmem_memory *memory;
	unsigned long *punched;
};

/**
 * struct gmemfd_inode - a gmem file
 * @inode: its inode, which stays while a block has memory; i_size does not change
 * @refs: one of the open file, one of each binding, and of whoever looks at memory
 * @pool: the reservation of all its blocks
 * @block_order: log2 of the pages in a block
 * @flags: GMEMFD_CREATE_*
 * @node: where memory comes from unless @policy says otherwise
 * @policy: mbind()
 * @lock_map: stands for the blocks' locks in lockdep
 * @bindings_lock: for the next four
 * @bindings: memslots
 * @kvm: the VM they belong to; NULL if there are none
 * @kvm_ops: how to talk to it
 * @vms_gone: how many have left no bindings
 * @vm_gone: where to wait for that
 * @blocks: the file
 *
 * The inode may outlive it: an O_PATH fd has no use for memory.
 */
struct gmemfd_inode {
	struct inode *inode;
	refcount_t refs;
	struct gmem_pool pool;
	unsigned int block_order;
	u64 flags;
	int node;
	struct shared_policy policy;
	struct lockdep_map lock_map;
	struct mutex bindings_lock;	/* see struct gmem_block for the order */
	struct list_head bindings;
	struct kvm *kvm;
	const struct gmem_kvm_ops *kvm_ops;
	unsigned long vms_gone;
	wait_queue_head_t vm_gone;
	unsigned long nr_blocks;
	struct gmem_block blocks[] __counted_by(nr_blocks);
};

static inline unsigned long gmem_block_pages(const struct gmemfd_inode *fi)
{
	return 1UL << fi->block_order;
}

static inline unsigned long gmem_block_regions(const struct gmemfd_inode *fi)
{
	return 1UL << (fi->block_order - GMEM_REGION_ORDER);
}

/* The block that has page @index of the file. */
static inline struct gmem_block *gmem_block_at(struct gmemfd_inode *fi, pgoff_t index)
{
	return &fi->blocks[index >> fi->block_order];
}

/* Page @index of the file, counted in its block. */
static inline unsigned long gmem_page_in_block(const struct gmemfd_inode *fi, pgoff_t index)
{
	return index & (gmem_block_pages(fi) - 1);
}

/* Page @i of @block, counted in the file. */
static inline pgoff_t gmem_pgoff(const struct gmemfd_inode *fi,
				 const struct gmem_block *block, unsigned long i)
{
	return ((pgoff_t)(block - fi->blocks) << fi->block_order) + i;
}

/**
 * struct gmem_walk - a way through ranges of a file, block by block
 * @range: the range it is in
 * @end: behind the last range
 * @block: the block it is in
 * @lo: first page of @range in @block, counted in the block
 * @hi: first page behind
 * @pos: page @lo of the block, counted in the file
 * @last: first page behind @range, counted in the file
 * @private: what @range converts to
 *
 * The part of one range that is in one block is a span.
 */
struct gmem_walk {
	const struct gmemfd_convert_range *range, *end;
	struct gmem_block *block;
	unsigned long lo, hi;
	pgoff_t pos, last;
	bool private;
};

/* To the first span of @walk->range, if there is such a range. */
static inline bool gmem_walk_range(struct gmem_walk *walk)
{
	if (walk->range == walk->end)
		return false;
	walk->pos = walk->range->offset >> PAGE_SHIFT;
	walk->last = (walk->range->offset + walk->range->size) >> PAGE_SHIFT;
	walk->private = walk->range->attributes & GMEMFD_ATTRIBUTE_PRIVATE;
	return true;
}

static inline void gmem_walk_span(struct gmemfd_inode *fi, struct gmem_walk *walk)
{
	walk->block = gmem_block_at(fi, walk->pos);
	walk->lo = gmem_page_in_block(fi, walk->pos);
	walk->hi = min(gmem_block_pages(fi), walk->lo + (walk->last - walk->pos));
}

static inline bool gmem_walk_start(struct gmemfd_inode *fi, struct gmem_walk *walk,
				   const struct gmemfd_convert_range *ranges,
				   unsigned int nr)
{
	walk->range = ranges;
	walk->end = ranges + nr;
	if (!gmem_walk_range(walk))
		return false;
	gmem_walk_span(fi, walk);
	return true;
}

static inline bool gmem_walk_next(struct gmemfd_inode *fi, struct gmem_walk *walk)
{
	walk->pos += walk->hi - walk->lo;
	if (walk->pos == walk->last) {
		walk->range++;
		if (!gmem_walk_range(walk))
			return false;
	}
	gmem_walk_span(fi, walk);
	return true;
}

/* Go through all spans of @nr ranges, of which none is empty. */
#define for_each_span(walk, fi, ranges, nr)				\
	for (bool __more = gmem_walk_start(fi, &(walk), ranges, nr); __more;	\
	     __more = gmem_walk_next(fi, &(walk)))

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

static inline bool gmem_off_direct_map(const struct gmemfd_inode *fi)
{
	return !(fi->flags & GMEMFD_CREATE_KEEP_DIRECT_MAP);
}

/**
 * struct gmem_invalidation - pages taken from a guest for a while
 * @kvm: the VM, with a reference to it and to @ops->owner; NULL for none
 * @ops: how to talk to it
 * @nr: slots begun
 * @vms_gone: what gmemfd_inode.vms_gone was
 */
struct gmem_invalidation {
	struct kvm *kvm;
	const struct gmem_kvm_ops *ops;
	unsigned int nr;
	unsigned long vms_gone;
};

/* block.c */
void gmem_file_put(struct gmemfd_inode *fi);
int gmem_lock_ranges(struct gmemfd_inode *fi, const struct gmemfd_convert_range *ranges,
		     unsigned int nr);
void gmem_unlock_ranges(struct gmemfd_inode *fi, const struct gmemfd_convert_range *ranges,
			unsigned int nr);
void gmem_lock_block(struct gmemfd_inode *fi, struct gmem_block *block);
int gmem_lock_block_killable(struct gmemfd_inode *fi, struct gmem_block *block);
void gmem_unlock_block(struct gmemfd_inode *fi, struct gmem_block *block);
int gmem_lock_block_shared(struct gmemfd_inode *fi, struct gmem_block *block);
void gmem_unlock_block_shared(struct gmemfd_inode *fi, struct gmem_block *block);
void gmem_unmap(struct gmemfd_inode *fi, struct gmem_block *block,
		unsigned long lo, unsigned long hi);

/* frames.c */
extern struct mutex gmem_frames_lock;
struct gmem_memory *gmem_frames_find(unsigned long pfn);
int gmem_frames_add(struct gmemfd_inode *fi, struct gmem_block *block,
		    struct gmem_memory *memory);
void gmem_frames_leave_file(struct gmem_memory *memory);
void gmem_frames_start_mending(struct gmem_memory *memory);
void gmem_frames_wait_mended(void);
void gmem_frames_remove(struct gmem_memory *memory);
int gmem_frames_init(void);
void gmem_frames_exit(void);

/* direct_map.c */
/**
 * enum gmem_run_kind - what pages a run is made of
 * @GMEM_RUN_PRIVATE: private pages of regions that are ready
 * @GMEM_RUN_SHARED: shared pages of regions that are ready
 * @GMEM_RUN_UNREADY_PRIVATE: private pages of regions that are not ready
 */
enum gmem_run_kind {
	GMEM_RUN_PRIVATE,
	GMEM_RUN_SHARED,
	GMEM_RUN_UNREADY_PRIVATE,
};

bool gmem_next_run(const struct gmem_block *block, enum gmem_run_kind kind,
		   unsigned long *lo, unsigned long *end, unsigned long hi);
int gmem_direct_map_remove_shared(const struct gmem_block *block, unsigned long lo,
				  unsigned long hi);
int gmem_direct_map_remove_private(const struct gmem_block *block, unsigned long lo,
				   unsigned long hi);
int gmem_direct_map_remove_unready(const struct gmem_block *block, unsigned long lo,
				   unsigned long hi);
int gmem_direct_map_expose_private(const struct gmem_block *block, unsigned long lo,
				   unsigned long hi);
int gmem_direct_map_restore_private(const struct gmem_block *block, unsigned long lo,
				    unsigned long hi);
int gmem_direct_map_restore_shared(const struct gmem_block *block, unsigned long lo,
				   unsigned long hi);
void gmem_direct_map_merge(struct gmem_memory *memory, unsigned long first,
			   unsigned long last);
void gmem_direct_map_merge_shared(struct gmem_block *block, unsigned long lo,
				  unsigned long hi);

/* folio.c */
int gmem_memory_break(struct gmem_memory *memory);
bool gmem_poison_unlocated(const struct gmem_memory *memory);
int gmem_locate_poison(struct gmem_memory *memory);
bool gmem_has_poison(const struct gmem_block *block, unsigned long lo,
		     unsigned long nr);
struct folio *gmem_next_shared_folio(const struct gmem_block *block,
				     unsigned long *i, unsigned long *next,
				     unsigned long hi);
void gmem_unmap_sync(struct gmemfd_inode *fi, struct gmem_block *block,
		     unsigned long lo, unsigned long hi);
bool gmem_folio_freeze(struct gmemfd_inode *fi, struct gmem_block *block,
		       struct folio *folio, int tries);
unsigned int gmem_wanted_folio_order(const struct gmemfd_inode *fi,
				     const struct gmem_block *block, unsigned long i);
void gmem_reshape(struct gmemfd_inode *fi, struct gmem_block *block,
		  unsigned long lo, unsigned long hi);
bool gmem_folio_too_large(const struct gmemfd_inode *fi, const struct gmem_block *block,
			  unsigned long i);
int gmem_split_poisoned(struct gmemfd_inode *fi, struct gmem_block *block,
			unsigned long i);

/* home.c */
void gmem_memory_free(struct gmem_memory *memory);
void gmem_memory_leave(struct gmemfd_inode *fi, struct gmem_block *block);
void gmem_folio_came_home(struct folio *folio);
void gmem_home_flush(void);
void gmem_home_counts(long *away, long *backlog);
int gmem_home_init(struct address_space *away_mapping);
void gmem_home_exit(void);

/* memory.c */
int gmem_memory_take(struct gmemfd_inode *fi, struct gmem_block *block);
bool gmem_memory_zero_next(struct gmem_block *block, unsigned long *lo,
			   unsigned long hi);
int gmem_memory_make_ready(struct gmemfd_inode *fi, struct gmem_block *block,
			   unsigned long lo, unsigned long hi);
int gmem_memory_zero(struct gmemfd_inode *fi, struct gmem_block *block,
		     unsigned long lo, unsigned long hi);
bool gmem_memory_scrub_next(struct gmemfd_inode *fi, struct gmem_block *block,
			    unsigned long *lo, unsigned long hi);
void gmem_memory_release(struct gmemfd_inode *fi, struct gmem_block *block);

/* populate.c */
bool gmem_populated(const struct gmem_block *block, unsigned long lo,
		    unsigned long hi);
int gmem_populate(struct gmemfd_inode *fi, struct gmem_block *block,
		  unsigned long lo, unsigned long hi);
int gmem_punch_pages(struct gmemfd_inode *fi, struct gmem_block *block,
		     unsigned long lo, unsigned long hi);
void gmem_punch_block(struct gmemfd_inode *fi, struct gmem_block *block);

/* kvm.c */
int gmem_kvm_bind(struct file *file, struct kvm *kvm, struct kvm_memory_slot *slot,
		  pgoff_t first, unsigned long nr, const struct gmem_kvm_ops *ops);
void gmem_kvm_unbind(struct file *file, struct kvm_memory_slot *slot);
int gmem_kvm_get_pfn(struct file *file, pgoff_t index, u64 *pfn, int *order);
int gmem_kvm_invalidate_begin(struct gmemfd_inode *fi, pgoff_t first, pgoff_t last,
			      struct gmem_invalidation *inv);
void gmem_kvm_invalidate_end(struct gmem_invalidation *inv);
void gmem_kvm_wait_gone(struct gmemfd_inode *fi, const struct gmem_invalidation *inv);
void gmem_kvm_release(struct gmemfd_inode *fi);

/* poison.c */
int gmem_memory_error(struct page *page, int flags);

/* convert.c */
int gmem_convert(struct gmemfd_inode *fi, const struct gmemfd_convert_range *ranges,
		 unsigned int nr, const ktime_t *deadline, pgoff_t *busy);

/* map.c */
int gmem_mmap(struct file *file, struct vm_area_struct *vma);

/* fallocate.c */
long gmem_fallocate(struct file *file, int mode, loff_t offset, loff_t len);

/* ioctl.c */
long gmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* file.c */
extern const struct file_operations gmem_fops;
int gmem_file_create(const struct gmemfd_create *args);
int gmem_file_init(struct address_space **away_mapping);
void gmem_file_exit(void);

#endif /* _GMEMFD_H */

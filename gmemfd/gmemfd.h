/* SPDX-License-Identifier: GPL-2.0 */
/*
 * gmemfd: inside the module.
 *
 * The files stand on floors.  Each file calls only files on floors below its own;
 * scripts/callgraph checks that no circle arises.
 *
 *   device.c                            /dev/gmemfd; loading and unloading
 *   fs.c                                files that have names
 *   file.c                              a file from its creation to its close
 *   map.c  fallocate.c  ioctl.c         what user space does with a file
 *   convert.c  poison.c                 private, secret, shared; memory errors
 *   kvm.c                               guests that run from a file
 *   populate.c                          pages that are fit for use, or punched
 *   memory.c                            a block's memory: taken, zeroed, scrubbed
 *   home.c                              memory on its way back to hugetlb
 *   folio.c  direct_map.c  frames.c     a block's folios; its pages in the direct map;
 *                                       all memory by page frame
 *   block.c                             the blocks of a file, and their locks
 *   state.c                             which pages of a block are private, or secret
 *   trace.c                             the tracepoints of all files, see trace.h
 *
 * home.c is below memory.c: to take memory, memory.c waits for memory on its way home.  It
 * knows a block's folios and nothing of its contents: memory.c scrubs these first.
 * frames.c calls no other file.  It is apart because memory errors and hotplug look
 * memory up, too.
 *
 * Words:
 *
 *   file              a gmem file, struct gmemfd_inode; a variable of it is called fi
 *   block             what a file consists of: one huge page of hugetlb's, or a hole
 *   region            2 MiB of a block: what one PMD maps
 *   private           not shared.  A private page has no references, and is out of the
 *                     direct map unless the file keeps private pages there.
 *   secret            of a private page: user space may map it.  What is said of private
 *                     pages goes for secret ones, too.
 *   span              the part of one range that lies in one block
 *   run               successive pages of one kind
 *   ready             of a region: it is zeroed, and its private pages have left the
 *                     direct map
 *   populate          give pages memory that is ready, and forget that they were punched
 *   break, mend       make ordinary folios of a block's hugetlb folio; make that again
 *   split, join       make 4 KiB folios of the folio of a region; make that again
 *   remove            take pages out of the direct map
 *   expose, restore   put them back, for a while or for good
 *   merge             make large entries of the direct map of small ones
 *   freeze            bring a folio's reference count to 0, so that nobody can take a
 *                     reference
 *   away, home        a folio that is referenced when it leaves its file is away; it is
 *                     home when the last reference has been dropped
 *
 * Locks: brackets behind what a function does say what its caller holds.  "[block]" is
 * the block's lock, held exclusively; "[block shared]" is the same lock, held shared at
 * least; "[frames]" is gmem_frames_lock, and "[bindings]" is gmemfd_inode.bindings_lock.
 * "[takes block]" and the like say that the function takes that lock and releases it; of
 * several locks that are taken within each other the outermost is named.
 * Functions that return with a lock held, or release one, have "lock" or "unlock" in
 * their names.
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
 * struct gmem_memory - the memory behind a block
 * @loan: what hugetlb lent
 * @fi: the file that the memory is in; NULL once it has left the file
 * @index: the first page of the memory, counted in the file
 * @ino: the file's inode number: tracepoints name the file when it may be gone
 * @mending: the block is being mended, and memory errors have to wait
 * @away: the number of folios that are away, or home and not seen by the worker yet; plus
 *	one while the block leaves its file
 * @broken: the block is not a hugetlb folio any more but has a folio for each region or
 *	page
 * @zeroed_ahead: a bit for each region: it was zeroed before it was ready, or a task that
 *	holds the block's lock, shared, does that.  Whoever holds it exclusively finds the
 *	region zeroed.  The bits of regions that are ready mean nothing.
 * @split: a bit for each region: its folios are of 4 KiB
 * @tables: a bit for each region: the direct map may have a table of 4 KiB entries for it
 * @mapped: a bit for each region: user page tables may have entries for its secret pages.
 *	Where none has, conversions do not unmap: two that unmap from one mm at the same time
 *	flush, even if there is nothing to unmap.
 * @ready: a bit for each region: it is ready.  Nobody has seen what is in the others.
 *
 * @fi and @mending change under gmem_frames_lock, @away and the bits of @zeroed_ahead are
 * atomic, bits of @mapped are set under the block's lock, held shared, and the rest changes
 * under that lock, held exclusively.  A memory error reads @broken of memory that has left
 * its file under gmem_frames_lock alone.
 *
 * What the state of a folio means:
 *
 *   folio                count     mapping     references
 *   of an unbroken block 1         none        the loan's.  All pages are private.
 *   private              0         none        none: it is frozen
 *   shared               1 and up  the file's  the block has one, each page table entry
 *                                              and each user (GUP, pipe, I/O) another
 *   away                 1 and up  the "away"  users only, the block's has been dropped.
 *                                  inode's     The folio is marked: its last put ends in
 *                                              gmem_folio_came_home().
 *   home                 0         the same    none, until the worker has unmarked it
 *
 * "Frozen" says nothing but that the count is 0: freezing takes the block's reference
 * away.  Two more states of a folio exist while a conversion holds the block's lock.  The
 * mapping tells them apart: it is set if the folio was shared before.
 *
 *   becomes private      0         the file's  frozen; gmem_reshape() clears the mapping,
 *                                              or the conversion unfreezes the folio
 *   becomes shared       0         none        frozen as before; gmem_reshape() sets the
 *                                              mapping and gives the block its reference
 *
 * So of a page whose state says shared, a folio without mapping is newly shared, and one
 * with a mapping has been shared before.
 *
 * Freezing, unfreezing, the mapping of folios in the file, and their size change under
 * the block's lock, held exclusively.  Others may take references to a shared folio at
 * any time.  A fault may map it while it holds the block's lock, shared, or the folio's
 * after that: see gmem_folio_freeze().  A folio becomes away under its own lock, too, and
 * belongs to home.c from then on.
 */
struct gmem_memory {
	struct gmem_loan loan;
	struct gmemfd_inode *fi;
	pgoff_t index;
	u64 ino;
	bool mending;
	atomic_t away;
	bool broken;
	unsigned long *zeroed_ahead;
	unsigned long *split;
	unsigned long *tables;
	unsigned long *mapped;
	unsigned long ready[];
};

/**
 * struct gmem_block - a piece of a file, as large as a huge page
 * @lock: faults hold it shared, and whoever changes the fields below exclusively
 * @state: which pages are private
 * @secret: which of them are secret; the bits of shared pages are clear
 * @memory: the memory behind the block; NULL for a hole
 * @punched: a bit for each page that was punched and not populated since; NULL if there
 *	is no such page
 *
 * Lock order:
 *
 *   mm->mmap_lock or vma lock
 *     gmem_block.lock, several in ascending order
 *       folio lock of a shared folio
 *         mapping->i_mmap_rwsem, page table locks
 *       gmemfd_inode.entries_lock
 *         page table locks
 *       gmem_frames_lock
 *       init_mm.mmap_lock, with no folio locked
 *       gmemfd_inode.bindings_lock
 *         kvm->mmu_lock
 *         init_mm.mmap_lock, in a conversion that concerns a typed slot
 *
 *   kvm->slots_lock, kvm->slots_arch_lock
 *     mm->mmap_lock
 *     gmem_block.lock
 *     gmemfd_inode.bindings_lock
 *
 * A guest's fault takes a block's lock and no other lock of ours.  KVM's look-up for itself
 * does the same, under the refresh_lock of the cache that it fills.  Who drops caches has a
 * block locked, and only tries to take that one.
 *
 * Two files share gmem_frames_lock, which is held for a look-up, and the locks of the
 * kernel's page tables.  The shim holds the latter while it changes entries of 1 GiB at
 * most, or merges 32 MiB of them.  Memory is zeroed, scrubbed and unmapped under locks
 * of its own file only.  A block's lock is held for 2 MiB at a time where memory is
 * zeroed (shared, so that others zero, too, and fault), for the whole block where it is
 * broken or given back, for a conversion as long as that takes, and where memory is taken
 * until hibernation is over.  Whoever waits for one can be killed, apart from the last close
 * and memory errors.
 *
 * A conversion holds the locks of all its blocks.  Lockdep has no room for that many, so
 * it does not track them one by one but as gmemfd_inode.lock_map.
 */
struct gmem_block {
	struct rw_semaphore lock;
	struct gmem_state state;
	struct gmem_state secret;
	struct gmem_memory *memory;
	unsigned long *punched;
};

/**
 * struct gmemfd_inode - a gmem file
 * @inode: the VFS's inode.  It stays while a block has memory.  i_size is set once, when
 *	the fields from @pool on and @blocks are as they stay.
 * @refs: the inode has a reference while the file has its memory, each binding has one,
 *	and a memory error has one while it looks at the file
 * @opens: the number of open files, and of truncations by a path, under inode->i_lock
 * @end: gives the memory up where whoever finds that nothing leads there cannot wait
 * @pool: the reservation for all blocks
 * @block_order: log2 of the pages in a block
 * @flags: GMEMFD_CREATE_*
 * @node: where memory comes from unless @policy says otherwise
 * @policy: what mbind() has set
 * @lock_map: stands for the blocks' locks in lockdep
 * @entries_lock: keeps entries for secret pages of two sizes apart.  mm wants no entry of 2 MiB
 *	where one of 4 KiB is about to be put, and does not look.  Who puts one of 4 KiB holds it
 *	shared and looks, and who puts one of 2 MiB exclusively
 * @bindings_lock: protects @bindings
 * @bindings: the memslots on this file
 * @nr_typed: how many of them are typed, see struct gmem_slot; written under @bindings_lock
 * @nr_blocks: the number of blocks
 * @blocks: the blocks; NULL for a file that has no size yet
 *
 * A file loses its memory when nobody has it open and it has no name.  Then inode->i_private
 * does not lead here any more.  The inode can stay: an O_PATH fd keeps it, for one.  This
 * structure goes with the last reference.
 */
struct gmemfd_inode {
	struct inode *inode;
	refcount_t refs;
	unsigned int opens;
	struct work_struct end;
	struct gmem_pool pool;
	unsigned int block_order;
	u64 flags;
	int node;
	struct shared_policy policy;
	struct lockdep_map lock_map;
	struct rw_semaphore entries_lock;
	struct mutex bindings_lock;	/* see struct gmem_block for the order */
	struct list_head bindings;
	unsigned int nr_typed;
	unsigned long nr_blocks;
	struct gmem_block *blocks;
};

static inline unsigned long gmem_block_pages(const struct gmemfd_inode *fi)
{
	return 1UL << fi->block_order;
}

static inline unsigned long gmem_block_regions(const struct gmemfd_inode *fi)
{
	return 1UL << (fi->block_order - GMEM_REGION_ORDER);
}

/* Do private pages leave the direct map? */
static inline bool gmem_off_direct_map(const struct gmemfd_inode *fi)
{
	return !(fi->flags & GMEMFD_CREATE_KEEP_DIRECT_MAP);
}

/* Can pages be secret? */
static inline bool gmem_has_secret(const struct gmemfd_inode *fi)
{
	return fi->flags & GMEMFD_CREATE_SECRET;
}

/*
 * Are shared pages folios of 4 KiB only?  Some kernels cannot map a large one beside secret
 * pages.
 */
static inline bool gmem_small_shared(const struct gmemfd_inode *fi)
{
	return fi->flags & GMEMFD_CREATE_SMALL_SHARED ||
	       (gmem_has_secret(fi) && !gmem_special_order);
}

/* Is a page secret?  [block shared] */
static inline bool gmem_page_secret(const struct gmem_block *block, unsigned long i)
{
	return gmem_state_private(&block->secret, i);
}

/* Is a page the guest's alone?  [block shared] */
static inline bool gmem_page_guests(const struct gmem_block *block, unsigned long i)
{
	return gmem_state_private(&block->state, i) && !gmem_page_secret(block, i);
}

/* The first page after @lo that is the guest's alone if @lo is not, or the reverse; or @hi. */
static inline unsigned long gmem_guests_run(const struct gmem_block *block, unsigned long lo,
					    unsigned long hi)
{
	bool guests = gmem_page_guests(block, lo);

	while (lo < hi && gmem_page_guests(block, lo) == guests)
		lo = min(gmem_state_run(&block->state, lo, hi),
			 gmem_state_run(&block->secret, lo, hi));
	return lo;
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
 * struct gmem_walk - a way through ranges of a file, span by span
 * @range: the range that the walk is in
 * @end: behind the last range
 * @block: the block that the walk is in
 * @lo: first page of the span, counted in the block
 * @hi: first page behind the span
 * @pos: first page of the span, counted in the file
 * @last: first page behind @range, counted in the file
 * @private: what @range converts to
 * @secret: whether that is secret
 */
struct gmem_walk {
	const struct gmemfd_convert_range *range, *end;
	struct gmem_block *block;
	unsigned long lo, hi;
	pgoff_t pos, last;
	bool private, secret;
};

/* All of the walk is inline: a conversion walks through its ranges ten times. */
static inline bool gmem_walk_range(struct gmem_walk *walk)
{
	if (walk->range == walk->end)
		return false;
	walk->pos = walk->range->offset >> PAGE_SHIFT;
	walk->last = (walk->range->offset + walk->range->size) >> PAGE_SHIFT;
	walk->private = walk->range->attributes;
	walk->secret = walk->range->attributes == GMEMFD_ATTRIBUTE_SECRET;
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

/*
 * Visit all spans of @nr ranges, of which none is empty.  A single range is an array of
 * one.
 */
#define for_each_span(walk, fi, ranges, nr)				\
	for (bool __more = gmem_walk_start(fi, &(walk), ranges, nr); __more;	\
	     __more = gmem_walk_next(fi, &(walk)))

/* Tests make calls of the shim fail, one at a time; only those that can fail ask this. */
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

/* Functions and variables that other files use, from the lowest floor up. */

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
void gmem_frames_unlock_and_wait_mended(void);
void gmem_frames_remove(struct gmem_memory *memory);
int gmem_frames_init(void);
void gmem_frames_exit(void);

/* direct_map.c */
/**
 * enum gmem_run_kind - what pages a run consists of
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
int gmem_zero_ahead(struct gmemfd_inode *fi, struct gmem_block *block,
		    unsigned long lo, unsigned long hi);
int gmem_populate(struct gmemfd_inode *fi, struct gmem_block *block,
		  unsigned long lo, unsigned long hi);
int gmem_punch_pages(struct gmemfd_inode *fi, struct gmem_block *block,
		     unsigned long lo, unsigned long hi);
void gmem_punch_block(struct gmemfd_inode *fi, struct gmem_block *block);
int gmem_order_at_once(struct gmemfd_inode *fi, struct gmem_block *block, unsigned long i);
int gmem_populate_around(struct gmemfd_inode *fi, struct gmem_block *block,
			 unsigned long i);

/* kvm.c */
bool gmem_kvm_by_address(struct file *file);
int gmem_kvm_bind(const struct gmem_slot *slot);
void gmem_kvm_unbind(struct kvm_memory_slot *slot, struct file **file);
int gmem_kvm_get_pfn(struct file *file, pgoff_t index, bool typed, u64 *pfn, int *order);
bool gmem_kvm_is_private(struct file *file, pgoff_t index);
int gmem_kvm_get_host_pfn(struct file *file, pgoff_t index, u64 *pfn);
void gmem_kvm_invalidate(struct gmemfd_inode *fi, pgoff_t first, pgoff_t last);
void gmem_kvm_drop_caches(struct gmemfd_inode *fi, pgoff_t first, pgoff_t last);
bool gmem_kvm_convert_begin(struct gmemfd_inode *fi);
void gmem_kvm_convert(struct gmemfd_inode *fi, pgoff_t first, pgoff_t last, bool private);
void gmem_kvm_convert_end(struct gmemfd_inode *fi);
void gmem_kvm_release(struct gmemfd_inode *fi, struct file *file);

/* poison.c */
int gmem_memory_error(struct page *page, int flags);

/* convert.c */
int gmem_convert(struct gmemfd_inode *fi, const struct gmemfd_convert_range *ranges,
		 unsigned int nr, const ktime_t *deadline, pgoff_t *busy);

/* map.c */
int gmem_mmap(struct file *file, struct vm_area_struct *vma);
int gmem_mmap_only(struct file *file, struct vm_area_struct *vma);

/* fallocate.c */
long gmem_fallocate(struct file *file, int mode, loff_t offset, loff_t len);

/* ioctl.c */
long gmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* file.c */
#define GMEMFD_MAGIC	0x676d656d	/* "gmem", as statfs() tells it */
extern const struct file_operations gmem_fops;
extern u64 gmem_block_sizes;
bool gmem_block_size_ok(u64 size);
int gmem_inode_init(struct inode *inode, const struct gmemfd_create *args);
int gmem_inode_set_size(struct inode *inode, loff_t size);
void gmem_file_end(struct gmemfd_inode *fi);
int gmem_inode_open(struct inode *inode);
struct gmemfd_inode *gmem_inode_detach(struct inode *inode);
void gmem_inode_close(struct inode *inode);
int gmem_file_create(const struct gmemfd_create *args);
int gmem_file_init(struct address_space **away_mapping);
void gmem_file_exit(void);

/* fs.c */
int gmem_fs_init(void);
void gmem_fs_exit(void);

#endif /* _GMEMFD_H */

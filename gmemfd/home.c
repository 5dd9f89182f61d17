// SPDX-License-Identifier: GPL-2.0
/*
 * Memory on its way back to hugetlb.  A block leaves its file as a whole, even if
 * somebody holds references to some of its shared folios.  Such folios are away: they are
 * marked, and so their last put ends here, in whatever context it is.  When all folios of
 * the block are home, the block is mended and returned.
 */
#include <linux/irq_work.h>
#include <linux/llist.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "gmemfd.h"
#include "trace.h"

/* How often to look whether a reference is transient before a folio is sent away. */
#define GMEM_RELEASE_TRIES	2

/* The mapping of folios that are away. */
static struct address_space *gmem_away_mapping;

static struct workqueue_struct *gmem_home_wq;
static LLIST_HEAD(gmem_home_folios);

/* Folios that are away, and folios that are home but not seen by the worker yet. */
static atomic_long_t gmem_nr_away, gmem_nr_home;

/**
 * gmem_memory_free - give memory back to hugetlb [takes frames]
 * @memory: memory that is in no block, and of which all folios are frozen
 */
void gmem_memory_free(struct gmem_memory *memory)
{
	if (memory->broken) {
		gmem_frames_start_mending(memory);
		gmem_loan_mend(&memory->loan);
		trace_gmem_block_mend(memory);
	}
	gmem_frames_remove(memory);
	trace_gmem_block_return(memory);
	gmem_loan_return(&memory->loan);
	kfree(memory);
}

/* The list uses the word with which the folio's other lists begin. */
static struct llist_node *gmem_home_node(struct folio *folio)
{
	return (struct llist_node *)&folio->lru.next;
}

static struct folio *gmem_home_folio(struct llist_node *node)
{
	return container_of((struct list_head **)node, struct folio, lru.next);
}

/*
 * Drop one of the references that keep a block which has left its file.  The last one
 * gives the block back, and makes this return true.
 */
static bool gmem_memory_put(struct gmem_memory *memory)
{
	if (!atomic_dec_and_test(&memory->away))
		return false;
	gmem_memory_free(memory);
	return true;
}

static void gmem_home_work(struct work_struct *work)
{
	struct llist_node *node, *next;

	llist_for_each_safe(node, next, llist_del_all(&gmem_home_folios)) {
		struct folio *folio = gmem_home_folio(node);
		struct gmem_memory *memory = folio->private;

		folio->private = NULL;
		folio->mapping = NULL;
		gmem_folio_unmark(folio);
		atomic_long_dec(&gmem_nr_home);
		if (gmem_memory_put(memory))
			module_put(THIS_MODULE);
		cond_resched();
	}
}

static DECLARE_WORK(gmem_home, gmem_home_work);

static void gmem_home_irq_work(struct irq_work *work)
{
	queue_work(gmem_home_wq, &gmem_home);
}

static DEFINE_IRQ_WORK(gmem_home_irq, gmem_home_irq_work);

/**
 * gmem_folio_came_home - the last reference to a marked folio has been dropped
 * @folio: the folio
 *
 * The caller may be in any context and hold any locks.  So this only pushes the folio on
 * a lock-free list and raises an irq_work, which takes no lock either and can queue work.
 * The list runs through the folios themselves and needs no memory, however many come.
 *
 * A tracepoint works in any context, too: mm's own on a page that is freed are hit where
 * this is called.  It comes first: once the folio is on the list, the worker may have it.
 */
void gmem_folio_came_home(struct folio *folio)
{
	trace_gmem_folio_home(folio);
	atomic_long_inc(&gmem_nr_home);
	atomic_long_dec(&gmem_nr_away);
	if (llist_add(gmem_home_node(folio), &gmem_home_folios))
		irq_work_queue(&gmem_home_irq);
}

/**
 * gmem_home_flush - wait until the worker has seen all folios that are home
 */
void gmem_home_flush(void)
{
	irq_work_sync(&gmem_home_irq);
	flush_work(&gmem_home);
}

/**
 * gmem_home_counts - count folios on their way
 * @away: out: folios that are away
 * @backlog: out: folios that are home but not seen by the worker yet
 */
void gmem_home_counts(long *away, long *backlog)
{
	*away = atomic_long_read(&gmem_nr_away);
	*backlog = atomic_long_read(&gmem_nr_home);
}

/*
 * Drop the block's reference to a shared folio.  Returns true if somebody else still uses
 * the folio, which is away then, and otherwise leaves it frozen.  [block]
 */
static bool gmem_folio_send_away(struct gmemfd_inode *fi, struct gmem_block *block,
				 struct gmem_memory *memory, struct folio *folio,
				 unsigned long i, int tries)
{
	if (gmem_folio_freeze(fi, block, folio, tries)) {
		folio->mapping = NULL;
		return false;
	}
	folio_lock(folio);
	/* Another task may have cleared its page table entry but not the rmap yet. */
	while (folio_mapped(folio)) {
		gmem_unmap(fi, block, i, i + folio_nr_pages(folio));
		cond_resched();
	}
	/* TCP's zerocopy receive maps pages without a mapping, which look like its own. */
	folio->mapping = gmem_away_mapping;
	folio->private = memory;
	gmem_folio_mark(folio);
	atomic_inc(&memory->away);
	atomic_long_inc(&gmem_nr_away);
	trace_gmem_folio_away(folio);
	folio_unlock(folio);
	folio_put(folio);
	return true;
}

/*
 * Drop the block's references to all its shared folios.  Returns true if some of them are
 * away.  [block]
 */
static bool gmem_memory_send_away(struct gmemfd_inode *fi, struct gmem_block *block)
{
	struct gmem_memory *memory = block->memory;
	unsigned long i = 0, next;
	struct folio *folio;
	bool away = false;

	if (!memory->broken)
		return false;
	for (; (folio = gmem_next_shared_folio(block, &i, &next, gmem_block_pages(fi)));
	     i = next) {
		/* Only the first one is waited for. */
		if (!gmem_folio_send_away(fi, block, memory, folio, i,
					  away ? 0 : GMEM_RELEASE_TRIES))
			continue;
		/* The module stays until the last of them is home. */
		if (!away)
			__module_get(THIS_MODULE);
		away = true;
	}
	return away;
}

/**
 * gmem_memory_leave - take a block's memory, which is scrubbed, out of the file [block]
 * @fi: the file
 * @block: the block, which is a hole afterwards
 *
 * The memory is back in its pool when this returns, or as soon as the last reference to
 * one of its folios is dropped.
 */
void gmem_memory_leave(struct gmemfd_inode *fi, struct gmem_block *block)
{
	struct gmem_memory *memory = block->memory;
	bool away;

	atomic_set(&memory->away, 1);
	away = gmem_memory_send_away(fi, block);
	block->memory = NULL;
	inode_sub_bytes(fi->inode, PAGE_SIZE << fi->block_order);
	if (gmem_memory_put(memory) && away)
		module_put(THIS_MODULE);
}

/**
 * gmem_home_init - get ready for folios that come home
 * @away_mapping: the mapping of folios that are away
 *
 * Return: 0 or a negative errno.
 */
int gmem_home_init(struct address_space *away_mapping)
{
	gmem_away_mapping = away_mapping;
	gmem_home_wq = alloc_workqueue("gmemfd", WQ_UNBOUND, 0);
	return gmem_home_wq ? 0 : -ENOMEM;
}

/**
 * gmem_home_exit - undo gmem_home_init() when all memory is home
 */
void gmem_home_exit(void)
{
	irq_work_sync(&gmem_home_irq);
	destroy_workqueue(gmem_home_wq);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Memory on its way back to hugetlb.  A block leaves the file whole, but
 * somebody may still hold references to shared folios of it: those are marked
 * so that their last put comes here, from whatever context, and when all of a
 * block is home it is put together and returned.
 */
#include <linux/irq_work.h>
#include <linux/llist.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "gmemfd.h"

/* How long a release waits for a reference to turn out to be transient. */
#define GMEM_RELEASE_TRIES	2

/* What folios away from their file have for a mapping. */
static struct address_space *gmem_away_mapping;

static struct workqueue_struct *gmem_home_wq;
static LLIST_HEAD(gmem_home_folios);

/* Out of their file and held by somebody; come home and not put away yet. */
static atomic_long_t gmem_nr_away, gmem_nr_home;

/**
 * gmem_memory_free - give memory back to hugetlb
 * @memory: all frozen
 */
void gmem_memory_free(struct gmem_memory *memory)
{
	if (memory->broken) {
		gmem_frames_start_mending(memory);
		gmem_loan_mend(&memory->loan);
	}
	gmem_frames_remove(memory);
	gmem_loan_return(&memory->loan);
	kfree(memory);
}

/* The list goes through the word that other lists of the folio begin with. */
static struct llist_node *gmem_home_node(struct folio *folio)
{
	return (struct llist_node *)&folio->lru.next;
}

static struct folio *gmem_home_folio(struct llist_node *node)
{
	return container_of((struct list_head **)node, struct folio, lru.next);
}

/* One less of what keeps a block that has left its file; true if it was the last. */
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
 * gmem_folio_came_home - the last put of a marked folio
 * @folio: it
 *
 * Any context, any locks held: a lock-free list, and irq_work, which takes no
 * lock either, to get to where work can be queued.  The list is made of the
 * struct pages that are on it: however many come, they take no memory.
 */
void gmem_folio_came_home(struct folio *folio)
{
	atomic_long_inc(&gmem_nr_home);
	atomic_long_dec(&gmem_nr_away);
	if (llist_add(gmem_home_node(folio), &gmem_home_folios))
		irq_work_queue(&gmem_home_irq);
}

/**
 * gmem_home_flush - have all that is home put away
 */
void gmem_home_flush(void)
{
	irq_work_sync(&gmem_home_irq);
	flush_work(&gmem_home);
}

/**
 * gmem_home_counts - what is on its way
 * @away: out: folios that have left their file, but somebody holds them
 * @backlog: out: folios that have come home and are not put away yet
 */
void gmem_home_counts(long *away, long *backlog)
{
	*away = atomic_long_read(&gmem_nr_away);
	*backlog = atomic_long_read(&gmem_nr_home);
}

/* Let go of a shared folio.  True if somebody else still holds it. */
static bool gmem_folio_send_away(struct gmemfd_inode *fi, struct gmem_block *block,
				 struct gmem_memory *memory, struct folio *folio,
				 unsigned long i, int tries)
{
	if (gmem_folio_freeze(fi, block, folio, tries)) {
		folio->mapping = NULL;
		return false;
	}
	folio_lock(folio);
	/* Another task may be between clearing its entry and the rmap. */
	while (folio_mapped(folio)) {
		gmem_unmap(fi, block, i, i + folio_nr_pages(folio));
		cond_resched();
	}
	/* Not NULL: a page without mapping and count 1 looks ownerless. */
	folio->mapping = gmem_away_mapping;
	folio->private = memory;
	gmem_folio_mark(folio);
	atomic_inc(&memory->away);
	atomic_long_inc(&gmem_nr_away);
	folio_unlock(folio);
	folio_put(folio);
	return true;
}

/* Let go of all shared folios.  True if some are still held, and come home later. */
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
		/* The time that one gets is enough for all. */
		if (!gmem_folio_send_away(fi, block, memory, folio, i,
					  away ? 0 : GMEM_RELEASE_TRIES))
			continue;
		/* Until the last of them is home. */
		if (!away)
			__module_get(THIS_MODULE);
		away = true;
	}
	return away;
}

/**
 * gmem_memory_leave - let go of a block's memory
 * @fi: the file
 * @block: locked exclusively, with memory that has been scrubbed
 *
 * The memory is back in its pool when this returns, or as soon as the last reference
 * to a folio of it is gone.
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
 * gmem_home_init - be ready for folios to come home
 * @away_mapping: what folios away from their file have for a mapping
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
 * gmem_home_exit - all memory is home, or this would not be called
 */
void gmem_home_exit(void)
{
	irq_work_sync(&gmem_home_irq);
	destroy_workqueue(gmem_home_wq);
}

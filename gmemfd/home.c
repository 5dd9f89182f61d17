// SPDX-License-Identifier: GPL-2.0
/*
 * Memory on its way back to hugetlb.  A block leaves the file whole, but
 * somebody may still hold references to shared folios of it: those are marked
 * so that their last put comes here, from whatever context, and when all of a
 * block is home it is put together and returned.
 */
#include <linux/irq_work.h>
#include <linux/llist.h>
#include <linux/memory.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/suspend.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "gmemfd.h"

/* How long a release waits for a reference to turn out to be transient. */
#define GMEM_RELEASE_TRIES	2

/* What folios away from their file have for a mapping. */
struct address_space *gmem_away_mapping;

/*
 * All memory by its first frame, in units of 2 MiB, and from when hibernation was let
 * go ahead until it is over, none.  The lock is for that, and for the way from memory
 * to its file; it is held for a look-up.
 */
DEFINE_MUTEX(gmem_memories_lock);
static DEFINE_XARRAY(gmem_memories);
static unsigned long gmem_nr_memories, gmem_nr_mended;
static bool gmem_hibernating;

/* Frames that are about to go offline; there is one attempt at a time. */
static unsigned long gmem_offlining, gmem_offlining_end;

/* Hibernation or offlining is over, or memory is put together. */
static DECLARE_WAIT_QUEUE_HEAD(gmem_memories_wait);

static struct workqueue_struct *gmem_home_wq;
static LLIST_HEAD(gmem_home_folios);

/* Out of their file and held by somebody; come home and not put away yet. */
static atomic_long_t gmem_nr_away, gmem_nr_home;

static unsigned long gmem_memory_key(unsigned long pfn, unsigned int order)
{
	return round_down(pfn, 1UL << order) >> GMEM_REGION_ORDER;
}

/**
 * gmem_memory_at - whose is a page frame?
 * @pfn: its number
 *
 * Under gmem_memories_lock.
 *
 * Return: NULL if it is no memory of ours.
 */
struct gmem_memory *gmem_memory_at(unsigned long pfn)
{
	static const unsigned int orders[] = { PMD_ORDER, PUD_ORDER };
	struct gmem_memory *memory;

	lockdep_assert_held(&gmem_memories_lock);
	for (int i = 0; i < ARRAY_SIZE(orders); i++) {
		memory = xa_load(&gmem_memories, gmem_memory_key(pfn, orders[i]));
		if (memory && memory->loan.order >= orders[i])
			return memory;
	}
	return NULL;
}

/* Under gmem_memories_lock. */
static bool gmem_memory_overlaps(const struct gmem_memory *memory,
				 unsigned long first, unsigned long end)
{
	unsigned long pfn = page_to_pfn(memory->loan.page);

	return pfn < end && pfn + (1UL << memory->loan.order) > first;
}

/**
 * gmem_memory_add - remember memory
 * @gi: the file
 * @block: where in it
 * @memory: just taken
 *
 * Waits for hibernation to be over, which cannot freeze who waits here and so
 * gives up.
 *
 * Return: 0, -EAGAIN if it is better taken elsewhere, since it goes offline, -ENOMEM,
 * or -EINTR for a fatal signal.
 */
int gmem_memory_add(struct gmem_inode *gi, struct gmem_block *block,
		    struct gmem_memory *memory)
{
	unsigned long key = page_to_pfn(memory->loan.page) >> GMEM_REGION_ORDER;
	int err;

	memory->gi = gi;
	memory->index = gmem_pgoff(gi, block, 0);
	err = xa_reserve(&gmem_memories, key, GFP_KERNEL);
	if (err)
		return err;
	for (;;) {
		mutex_lock(&gmem_memories_lock);
		if (!gmem_hibernating)
			break;
		mutex_unlock(&gmem_memories_lock);
		err = wait_event_killable(gmem_memories_wait,
					  !READ_ONCE(gmem_hibernating));
		if (err)
			goto err_release;
	}
	err = gmem_memory_overlaps(memory, gmem_offlining, gmem_offlining_end) ?
	      -EAGAIN : 0;
	if (!err) {
		/* Reserved, so that it needs no memory. */
		xa_store(&gmem_memories, key, memory, 0);
		gmem_nr_memories++;
	}
	mutex_unlock(&gmem_memories_lock);
	if (!err)
		return 0;

err_release:
	xa_release(&gmem_memories, key);
	return err;
}

/**
 * gmem_memory_wait_mended - wait until some block is put together and hugetlb's again
 *
 * Drops gmem_memories_lock, under which there was one that is not.
 */
void gmem_memory_wait_mended(void)
{
	unsigned long mended = gmem_nr_mended;

	mutex_unlock(&gmem_memories_lock);
	wait_event(gmem_memories_wait, READ_ONCE(gmem_nr_mended) != mended);
}

/**
 * gmem_memory_free - give memory back to hugetlb
 * @memory: all frozen
 */
void gmem_memory_free(struct gmem_memory *memory)
{
	unsigned long key = page_to_pfn(memory->loan.page) >> GMEM_REGION_ORDER;

	if (memory->broken) {
		/* A page that is poisoned from here on is hugetlb's to deal with. */
		scoped_guard(mutex, &gmem_memories_lock)
			memory->mending = true;
		gmem_loan_mend(&memory->loan);
	}
	scoped_guard(mutex, &gmem_memories_lock) {
		xa_erase(&gmem_memories, key);
		gmem_nr_memories--;
		if (memory->mending)
			WRITE_ONCE(gmem_nr_mended, gmem_nr_mended + 1);
	}
	if (memory->mending)
		wake_up_all(&gmem_memories_wait);
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
static bool gmem_memory_put_away(struct gmem_memory *memory)
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
		if (gmem_memory_put_away(memory))
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
static bool gmem_folio_send_away(struct gmem_inode *gi, struct gmem_block *block,
				 struct gmem_memory *memory, struct folio *folio,
				 unsigned long i, int tries)
{
	if (gmem_folio_freeze(gi, block, folio, tries)) {
		folio->mapping = NULL;
		return false;
	}
	folio_lock(folio);
	/* Another task may be between clearing its entry and the rmap. */
	while (folio_mapped(folio)) {
		gmem_unmap(gi, block, i, i + folio_nr_pages(folio));
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
static bool gmem_memory_send_away(struct gmem_inode *gi, struct gmem_block *block)
{
	struct gmem_memory *memory = block->memory;
	unsigned long i = 0, next;
	struct folio *folio;
	bool away = false;

	if (!memory->broken)
		return false;
	for (; (folio = gmem_next_shared_folio(block, &i, &next, gmem_block_pages(gi)));
	     i = next) {
		/* The time that one gets is enough for all. */
		if (!gmem_folio_send_away(gi, block, memory, folio, i,
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
 * gmem_memory_release - take a block's memory out of the file
 * @gi: the file
 * @block: locked exclusively, with memory
 *
 * Private contents are scrubbed.  The memory is back in its pool when this
 * returns, or as soon as the last reference to a folio of it is gone.
 */
void gmem_memory_release(struct gmem_inode *gi, struct gmem_block *block)
{
	struct gmem_memory *memory = block->memory;
	bool away;

	scoped_guard(mutex, &gmem_memories_lock)
		memory->gi = NULL;

	gmem_unmap(gi, block, 0, gmem_block_pages(gi));
	gmem_memory_scrub(gi, block);
	atomic_set(&memory->away, 1);
	away = gmem_memory_send_away(gi, block);
	block->memory = NULL;
	inode_sub_bytes(gi->inode, PAGE_SIZE << gi->block_order);
	if (gmem_memory_put_away(memory) && away)
		module_put(THIS_MODULE);
}

/*
 * Frozen folios look free to memory offlining, which would spin on them.  Memory that
 * is not known here yet finds out that it must not be used (gmem_memory_add()).
 */
static int gmem_memory_notify(struct notifier_block *nb, unsigned long action,
			      void *data)
{
	struct memory_notify *range = data;
	unsigned long first = range->start_pfn, end = first + range->nr_pages, key;
	struct gmem_memory *memory;

	switch (action) {
	case MEM_GOING_OFFLINE:
		scoped_guard(mutex, &gmem_memories_lock) {
			key = gmem_memory_key(first, PUD_ORDER);
			xa_for_each_range(&gmem_memories, key, memory, key,
					  gmem_memory_key(end - 1, PMD_ORDER)) {
				if (gmem_memory_overlaps(memory, first, end))
					return notifier_from_errno(-EBUSY);
			}
			gmem_offlining = first;
			gmem_offlining_end = end;
		}
		return NOTIFY_OK;
	case MEM_CANCEL_OFFLINE:
	case MEM_OFFLINE:
		scoped_guard(mutex, &gmem_memories_lock)
			gmem_offlining_end = 0;
		return NOTIFY_OK;
	}
	return NOTIFY_DONE;
}

static struct notifier_block gmem_memory_nb = {
	.notifier_call = gmem_memory_notify,
};

/* Private pages must not get onto a disk, and saving them would map them. */
static int gmem_pm_notify(struct notifier_block *nb, unsigned long action,
			  void *data)
{
	int err = 0;

	switch (action) {
	case PM_HIBERNATION_PREPARE:
		mutex_lock(&gmem_memories_lock);
		if (!gmem_nr_memories)
			WRITE_ONCE(gmem_hibernating, true);
		else
			err = -EBUSY;
		mutex_unlock(&gmem_memories_lock);
		return notifier_from_errno(err);
	case PM_POST_HIBERNATION:
		mutex_lock(&gmem_memories_lock);
		WRITE_ONCE(gmem_hibernating, false);
		mutex_unlock(&gmem_memories_lock);
		wake_up_all(&gmem_memories_wait);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block gmem_pm_nb = {
	.notifier_call = gmem_pm_notify,
};

/**
 * gmem_home_init - be ready for folios to come home
 *
 * Return: 0 or a negative errno.
 */
int gmem_home_init(void)
{
	int err;

	gmem_home_wq = alloc_workqueue("gmemfd", WQ_UNBOUND, 0);
	if (!gmem_home_wq)
		return -ENOMEM;
	err = register_memory_notifier(&gmem_memory_nb);
	if (err)
		goto err_wq;
	err = register_pm_notifier(&gmem_pm_nb);
	if (err)
		goto err_memory;
	return 0;

err_memory:
	unregister_memory_notifier(&gmem_memory_nb);
err_wq:
	destroy_workqueue(gmem_home_wq);
	return err;
}

/**
 * gmem_home_exit - all memory is home, or this would not be called
 */
void gmem_home_exit(void)
{
	unregister_pm_notifier(&gmem_pm_nb);
	unregister_memory_notifier(&gmem_memory_nb);
	irq_work_sync(&gmem_home_irq);
	destroy_workqueue(gmem_home_wq);
}

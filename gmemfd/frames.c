// SPDX-License-Identifier: GPL-2.0
/*
 * All memory of the module by page frame: for memory errors, which come by frame,
 * and to keep memory offlining and hibernation away from pages that they must not
 * touch.
 */
#include <linux/lockdep.h>
#include <linux/memory.h>
#include <linux/suspend.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "gmemfd.h"

/*
 * All memory by its first frame, in units of 2 MiB, and from when hibernation was let
 * go ahead until it is over, none.  The lock is for that, and for the way from memory
 * to its file; it is held for a look-up.
 */
DEFINE_MUTEX(gmem_frames_lock);
static DEFINE_XARRAY(gmem_frames);
static unsigned long gmem_frames_nr, gmem_nr_mended;
static bool gmem_hibernating;

/* Frames that are about to go offline; there is one attempt at a time. */
static unsigned long gmem_offlining, gmem_offlining_end;

/* Hibernation or offlining is over, or memory is put together. */
static DECLARE_WAIT_QUEUE_HEAD(gmem_frames_wait);

static unsigned long gmem_frames_key(unsigned long pfn, unsigned int order)
{
	return round_down(pfn, 1UL << order) >> GMEM_REGION_ORDER;
}

/**
 * gmem_frames_find - whose is a page frame?
 * @pfn: its number
 *
 * Under gmem_frames_lock.
 *
 * Return: NULL if it is no memory of ours.
 */
struct gmem_memory *gmem_frames_find(unsigned long pfn)
{
	static const unsigned int orders[] = { PMD_ORDER, PUD_ORDER };
	struct gmem_memory *memory;

	lockdep_assert_held(&gmem_frames_lock);
	for (int i = 0; i < ARRAY_SIZE(orders); i++) {
		memory = xa_load(&gmem_frames, gmem_frames_key(pfn, orders[i]));
		if (memory && memory->loan.order >= orders[i])
			return memory;
	}
	return NULL;
}

/* Under gmem_frames_lock. */
static bool gmem_frames_overlap(const struct gmem_memory *memory,
				unsigned long first, unsigned long end)
{
	unsigned long pfn = page_to_pfn(memory->loan.page);

	return pfn < end && pfn + (1UL << memory->loan.order) > first;
}

/**
 * gmem_frames_add - remember memory
 * @fi: the file
 * @block: where in it
 * @memory: just taken
 *
 * Waits for hibernation to be over, which cannot freeze who waits here and so
 * gives up.
 *
 * Return: 0, -EAGAIN if it is better taken elsewhere, since it goes offline, -ENOMEM,
 * or -EINTR for a fatal signal.
 */
int gmem_frames_add(struct gmemfd_inode *fi, struct gmem_block *block,
		    struct gmem_memory *memory)
{
	unsigned long key = page_to_pfn(memory->loan.page) >> GMEM_REGION_ORDER;
	int err;

	memory->fi = fi;
	memory->index = gmem_pgoff(fi, block, 0);
	err = xa_reserve(&gmem_frames, key, GFP_KERNEL);
	if (err)
		return err;
	for (;;) {
		mutex_lock(&gmem_frames_lock);
		if (!gmem_hibernating)
			break;
		mutex_unlock(&gmem_frames_lock);
		err = wait_event_killable(gmem_frames_wait,
					  !READ_ONCE(gmem_hibernating));
		if (err)
			goto err_release;
	}
	err = gmem_frames_overlap(memory, gmem_offlining, gmem_offlining_end) ?
	      -EAGAIN : 0;
	if (!err) {
		/* Reserved, so that it needs no memory. */
		xa_store(&gmem_frames, key, memory, 0);
		gmem_frames_nr++;
	}
	mutex_unlock(&gmem_frames_lock);
	if (!err)
		return 0;

err_release:
	xa_release(&gmem_frames, key);
	return err;
}

/**
 * gmem_frames_leave_file - forget the file of memory
 * @memory: known
 */
void gmem_frames_leave_file(struct gmem_memory *memory)
{
	scoped_guard(mutex, &gmem_frames_lock)
		memory->fi = NULL;
}

/**
 * gmem_frames_start_mending - keep memory errors out of broken memory
 * @memory: broken, and in no file any more
 *
 * A page that is poisoned from here on is hugetlb's to deal with.
 */
void gmem_frames_start_mending(struct gmem_memory *memory)
{
	scoped_guard(mutex, &gmem_frames_lock)
		memory->mending = true;
}

/**
 * gmem_frames_wait_mended - wait until some block is put together and hugetlb's again
 *
 * Drops gmem_frames_lock, under which there was one that is not.
 */
void gmem_frames_wait_mended(void)
{
	unsigned long mended = gmem_nr_mended;

	mutex_unlock(&gmem_frames_lock);
	wait_event(gmem_frames_wait, READ_ONCE(gmem_nr_mended) != mended);
}

/**
 * gmem_frames_remove - forget memory
 * @memory: a hugetlb folio, about to be returned
 */
void gmem_frames_remove(struct gmem_memory *memory)
{
	unsigned long key = page_to_pfn(memory->loan.page) >> GMEM_REGION_ORDER;

	scoped_guard(mutex, &gmem_frames_lock) {
		xa_erase(&gmem_frames, key);
		gmem_frames_nr--;
		if (memory->mending)
			WRITE_ONCE(gmem_nr_mended, gmem_nr_mended + 1);
	}
	if (memory->mending)
		wake_up_all(&gmem_frames_wait);
}

/*
 * Frozen folios look free to memory offlining, which would spin on them.  Memory that
 * is not known here yet finds out that it must not be used (gmem_frames_add()).
 */
static int gmem_offline_notify(struct notifier_block *nb, unsigned long action,
			       void *data)
{
	struct memory_notify *range = data;
	unsigned long first = range->start_pfn, end = first + range->nr_pages, key;
	struct gmem_memory *memory;

	switch (action) {
	case MEM_GOING_OFFLINE:
		scoped_guard(mutex, &gmem_frames_lock) {
			key = gmem_frames_key(first, PUD_ORDER);
			xa_for_each_range(&gmem_frames, key, memory, key,
					  gmem_frames_key(end - 1, PMD_ORDER)) {
				if (gmem_frames_overlap(memory, first, end))
					return notifier_from_errno(-EBUSY);
			}
			gmem_offlining = first;
			gmem_offlining_end = end;
		}
		return NOTIFY_OK;
	case MEM_CANCEL_OFFLINE:
	case MEM_OFFLINE:
		scoped_guard(mutex, &gmem_frames_lock)
			gmem_offlining_end = 0;
		return NOTIFY_OK;
	}
	return NOTIFY_DONE;
}

static struct notifier_block gmem_offline_nb = {
	.notifier_call = gmem_offline_notify,
};

/* Private pages must not get onto a disk, and saving them would map them. */
static int gmem_hibernation_notify(struct notifier_block *nb, unsigned long action,
				   void *data)
{
	int err = 0;

	switch (action) {
	case PM_HIBERNATION_PREPARE:
		mutex_lock(&gmem_frames_lock);
		if (!gmem_frames_nr)
			WRITE_ONCE(gmem_hibernating, true);
		else
			err = -EBUSY;
		mutex_unlock(&gmem_frames_lock);
		return notifier_from_errno(err);
	case PM_POST_HIBERNATION:
		mutex_lock(&gmem_frames_lock);
		WRITE_ONCE(gmem_hibernating, false);
		mutex_unlock(&gmem_frames_lock);
		wake_up_all(&gmem_frames_wait);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block gmem_hibernation_nb = {
	.notifier_call = gmem_hibernation_notify,
};

/**
 * gmem_frames_init - be asked before memory goes offline, or the machine hibernates
 *
 * Return: 0 or a negative errno.
 */
int gmem_frames_init(void)
{
	int err;

	err = register_memory_notifier(&gmem_offline_nb);
	if (err)
		return err;
	err = register_pm_notifier(&gmem_hibernation_nb);
	if (err)
		unregister_memory_notifier(&gmem_offline_nb);
	return err;
}

/**
 * gmem_frames_exit - undo gmem_frames_init()
 */
void gmem_frames_exit(void)
{
	unregister_pm_notifier(&gmem_hibernation_nb);
	unregister_memory_notifier(&gmem_offline_nb);
}

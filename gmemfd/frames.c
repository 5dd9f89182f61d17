// SPDX-License-Identifier: GPL-2.0
/*
 * All memory of the module by page frame.  A memory error names a page frame, and memory
 * offlining and hibernation must keep away from frames that are ours.
 */
#include <linux/lockdep.h>
#include <linux/memory.h>
#include <linux/suspend.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "gmemfd.h"

/*
 * All memory by its first frame, in units of 2 MiB.  While gmem_hibernating is set there
 * is none.  The lock protects both, and the way from memory to its file.  It is held for
 * a look-up, and all files share it.
 */
DEFINE_MUTEX(gmem_frames_lock);
static DEFINE_XARRAY(gmem_frames);
static unsigned long gmem_frames_nr, gmem_nr_mended;
static bool gmem_hibernating;

/* Frames that are about to go offline; there is one attempt at a time. */
static unsigned long gmem_offlining, gmem_offlining_end;

/* Hibernation is over, or a block has been mended. */
static DECLARE_WAIT_QUEUE_HEAD(gmem_frames_wait);

static unsigned long gmem_frames_key(unsigned long pfn, unsigned int order)
{
	return round_down(pfn, 1UL << order) >> GMEM_REGION_ORDER;
}

/**
 * gmem_frames_find - find the memory that has a page frame [frames]
 * @pfn: the number of the frame
 *
 * Return: the memory, or NULL if the frame is not ours.
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

/* Does memory have frames of a range?  [frames] */
static bool gmem_frames_overlap(const struct gmem_memory *memory,
				unsigned long first, unsigned long end)
{
	unsigned long pfn = page_to_pfn(memory->loan.page);

	return pfn < end && pfn + (1UL << memory->loan.order) > first;
}

/**
 * gmem_frames_add - add memory that was just taken [block, takes frames]
 * @fi: the file
 * @block: the block that the memory is for
 * @memory: the memory
 *
 * Waits while the machine hibernates.  Hibernation cannot freeze a task that waits here,
 * and gives up.
 *
 * Return: 0, -EAGAIN if the memory goes offline and has to be taken elsewhere, -ENOMEM,
 * or -EINTR for a fatal signal.
 */
int gmem_frames_add(struct gmemfd_inode *fi, struct gmem_block *block,
		    struct gmem_memory *memory)
{
	unsigned long key = page_to_pfn(memory->loan.page) >> GMEM_REGION_ORDER;
	int err;

	memory->fi = fi;
	memory->index = gmem_pgoff(fi, block, 0);
	memory->ino = fi->inode->i_ino;
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
		/* This needs no memory, since the entry is reserved. */
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
 * gmem_frames_leave_file - forget the file that memory is in [takes frames]
 * @memory: the memory
 */
void gmem_frames_leave_file(struct gmem_memory *memory)
{
	scoped_guard(mutex, &gmem_frames_lock)
		memory->fi = NULL;
}

/**
 * gmem_frames_start_mending - make memory errors wait until memory is mended [takes frames]
 * @memory: broken memory that is in no file any more
 *
 * If a page is poisoned from now on, hugetlb deals with it afterwards.
 */
void gmem_frames_start_mending(struct gmem_memory *memory)
{
	scoped_guard(mutex, &gmem_frames_lock)
		memory->mending = true;
}

/**
 * gmem_frames_unlock_and_wait_mended - wait until a block is mended and hugetlb's again
 *
 * Releases gmem_frames_lock, under which the caller has found a block that is being
 * mended.
 */
void gmem_frames_unlock_and_wait_mended(void)
{
	unsigned long mended = gmem_nr_mended;

	mutex_unlock(&gmem_frames_lock);
	wait_event(gmem_frames_wait, READ_ONCE(gmem_nr_mended) != mended);
}

/**
 * gmem_frames_remove - remove memory that is about to be returned [takes frames]
 * @memory: the memory, which is a hugetlb folio
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
 * To memory offlining a frozen folio looks free, and it would spin on the folio.  So it is
 * refused.  Memory that is being taken meanwhile is refused by gmem_frames_add().
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

/* Private pages must not be written to a disk, and saving them would map them. */
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
 * gmem_frames_init - have a say before memory goes offline or the machine hibernates
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

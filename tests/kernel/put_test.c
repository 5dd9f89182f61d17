// SPDX-License-Identifier: GPL-2.0
/*
 * A module for the tests: takes references to user pages and drops them in the
 * context asked for.  Writing to /dev/gmemfd_put:
 *
 *   hold ADDRESS    take a reference to the page at this address
 *   put CONTEXT     drop them: hardirq, softirq, tasklet, ipi, rcu, workqueue,
 *                   raw_spinlock, irqs_off, bh_off; batch for one batch, which
 *                   must start with a folio that is on an LRU: the others are
 *                   then put under the lruvec lock
 *   delay SYMBOL    who calls this function of the kernel next stays there for a
 *                   second, so that others can get in between
 *   delayed         has that happened: write() returns 1 for not yet, 2 for being
 *                   there, 3 for gone on
 *   nospec PFN      take a page frame out of the direct map, as the machine check
 *                   handler does
 *   entry PFN       its entry in the direct map: write() returns its level, 1 for
 *                   4 KiB, and 16 more if it is present
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <linux/rcupdate.h>
#include <linux/set_memory.h>
#include <linux/smp.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "compat.h"

static DEFINE_MUTEX(put_lock);	/* for the next two */
static struct page *held[FOLIO_BATCH_SIZE];
static unsigned int nr_held;
static struct completion done;

static void put_all(void)
{
	for (unsigned int i = 0; i < nr_held; i++)
		put_page(held[i]);
}

static void put_and_tell(void)
{
	put_all();
	complete(&done);
}

static enum hrtimer_restart put_in_hardirq(struct hrtimer *timer)
{
	put_and_tell();
	return HRTIMER_NORESTART;
}

static void put_in_softirq(struct timer_list *timer)
{
	put_and_tell();
}

static void put_in_tasklet(struct tasklet_struct *tasklet)
{
	put_and_tell();
}

static void put_in_rcu(struct rcu_head *head)
{
	put_and_tell();
}

static void put_in_work(struct work_struct *work)
{
	put_and_tell();
}

static void put_in_ipi(void *unused)
{
	put_all();
}

static struct hrtimer hard_timer;
static struct timer_list soft_timer;
static struct rcu_head rcu_head;
static DECLARE_TASKLET(put_tasklet, put_in_tasklet);
static DECLARE_WORK(put_work, put_in_work);

static int put_batch(void)
{
	struct folio_batch batch;

	if (!nr_held || !folio_test_lru(page_folio(held[0])) ||
	    folio_ref_count(page_folio(held[0])) != 1)
		return -EBUSY;
	folio_batch_init(&batch);
	for (unsigned int i = 0; i < nr_held; i++)
		folio_batch_add(&batch, page_folio(held[i]));
	folios_put(&batch);
	return 0;
}

static int put_in(const char *context)
{
	static DEFINE_RAW_SPINLOCK(raw_lock);
	unsigned long flags;
	int err = 0;

	init_completion(&done);
	if (!strcmp(context, "hardirq")) {
		hrtimer_start(&hard_timer, ms_to_ktime(1), HRTIMER_MODE_REL_HARD);
		wait_for_completion(&done);
	} else if (!strcmp(context, "softirq")) {
		mod_timer(&soft_timer, jiffies + 1);
		wait_for_completion(&done);
	} else if (!strcmp(context, "tasklet")) {
		tasklet_schedule(&put_tasklet);
		wait_for_completion(&done);
	} else if (!strcmp(context, "ipi")) {
		int other = cpumask_any_but(cpu_online_mask, get_cpu());

		err = smp_call_function_single(other, put_in_ipi, NULL, true);
		put_cpu();
	} else if (!strcmp(context, "rcu")) {
		call_rcu(&rcu_head, put_in_rcu);
		wait_for_completion(&done);
	} else if (!strcmp(context, "workqueue")) {
		schedule_work(&put_work);
		wait_for_completion(&done);
	} else if (!strcmp(context, "raw_spinlock")) {
		raw_spin_lock_irqsave(&raw_lock, flags);
		put_all();
		raw_spin_unlock_irqrestore(&raw_lock, flags);
	} else if (!strcmp(context, "irqs_off")) {
		local_irq_save(flags);
		put_all();
		local_irq_restore(flags);
	} else if (!strcmp(context, "bh_off")) {
		local_bh_disable();
		put_all();
		local_bh_enable();
	} else if (!strcmp(context, "batch")) {
		err = put_batch();
	} else {
		err = -EINVAL;
	}
	if (!err)
		nr_held = 0;
	return err;
}

static int hold(unsigned long address)
{
	if (nr_held == ARRAY_SIZE(held))
		return -ENOSPC;
	if (get_user_pages_fast(address, 1, FOLL_WRITE, &held[nr_held]) != 1)
		return -EFAULT;
	nr_held++;
	return 0;
}

/* Races made wide */

static atomic_t delay_state = ATOMIC_INIT(3);
static char delay_symbol[64];

static int delay_here(struct kprobe *probe, struct pt_regs *regs)
{
	if (atomic_cmpxchg(&delay_state, 1, 2) == 1) {
		mdelay(1000);
		atomic_set(&delay_state, 3);
	}
	return 0;
}

static struct kprobe delay_probe;

static void delay_remove(void)
{
	if (delay_probe.symbol_name)
		unregister_kprobe(&delay_probe);
	delay_probe = (struct kprobe) {};
}

static int delay(const char *symbol)
{
	int err;

	delay_remove();
	strscpy(delay_symbol, symbol, sizeof(delay_symbol));
	delay_probe.symbol_name = delay_symbol;
	delay_probe.pre_handler = delay_here;
	atomic_set(&delay_state, 1);
	err = register_kprobe(&delay_probe);
	if (err)
		delay_probe = (struct kprobe) {};
	return err;
}

/* The direct map */

/*
 * set_mce_nospec(), which only newer kernels export; but a probe is told where it is.
 * That is also the first probe of all, and the page it needs splits the direct map for
 * good on some kernels: so none of the tests does.
 */
static int (*set_nospec)(unsigned long pfn);

static int find_nospec(void)
{
	struct kprobe probe = { .symbol_name = "set_mce_nospec" };
	int err = register_kprobe(&probe);

	if (err)
		return err;
	unregister_kprobe(&probe);
	set_nospec = (void *)probe.addr;
	return 0;
}

static int entry(unsigned long pfn)
{
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)pfn_to_kaddr(pfn), &level);

	if (!pte)
		return -ENOENT;
	return level | (pte_val(*pte) & _PAGE_PRESENT ? 16 : 0);
}

static ssize_t put_write(struct file *file, const char __user *buf, size_t len,
			 loff_t *pos)
{
	unsigned long address;
	char text[64];
	int err = -EINVAL;

	if (len >= sizeof(text) || copy_from_user(text, buf, len))
		return -EINVAL;
	text[len] = '\0';

	mutex_lock(&put_lock);
	if (sscanf(text, "hold %lx", &address) == 1)
		err = hold(address);
	else if (!strncmp(text, "put ", 4) && nr_held)
		err = put_in(text + 4);
	else if (!strncmp(text, "delay ", 6))
		err = delay(text + 6);
	else if (!strcmp(text, "delayed"))
		err = atomic_read(&delay_state);
	else if (sscanf(text, "nospec %lx", &address) == 1)
		err = set_nospec(address);
	else if (sscanf(text, "entry %lx", &address) == 1)
		err = entry(address);
	mutex_unlock(&put_lock);
	return err ?: len;
}

static const struct file_operations put_fops = {
	.owner	= THIS_MODULE,
	.write	= put_write,
};

static struct miscdevice put_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "gmemfd_put",
	.fops	= &put_fops,
};

static int __init put_init(void)
{
	int err = find_nospec();

	if (err)
		return err;
	hrtimer_setup(&hard_timer, put_in_hardirq, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_HARD);
	timer_setup(&soft_timer, put_in_softirq, 0);
	return misc_register(&put_misc);
}
module_init(put_init);

static void __exit put_exit(void)
{
	misc_deregister(&put_misc);
	delay_remove();
	rcu_barrier();
	put_all();
}
module_exit(put_exit);

MODULE_DESCRIPTION("Drops references to pages in awkward contexts, for tests of gmemfd");
MODULE_AUTHOR("The gmemfd authors");
MODULE_LICENSE("GPL");

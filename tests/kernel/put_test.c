// SPDX-License-Identifier: GPL-2.0
/*
 * A module for the tests: takes a reference to a user page and drops it in the
 * context asked for.  Writing to /dev/gmemfd_put:
 *
 *   hold ADDRESS    take a reference to the page at this address
 *   put CONTEXT     drop it: hardirq, softirq, rcu, raw_spinlock, irqs_off, batch
 */
#include <linux/completion.h>
#include <linux/folio_batch.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/timer.h>
#include <linux/uaccess.h>

static DEFINE_MUTEX(put_lock);
static struct page *held;
static struct completion done;

static enum hrtimer_restart put_in_hardirq(struct hrtimer *timer)
{
	put_page(held);
	complete(&done);
	return HRTIMER_NORESTART;
}

static void put_in_softirq(struct timer_list *timer)
{
	put_page(held);
	complete(&done);
}

static void put_in_rcu(struct rcu_head *head)
{
	put_page(held);
	complete(&done);
}

static struct hrtimer hard_timer;
static struct timer_list soft_timer;
static struct rcu_head rcu_head;

static int put_in(const char *context)
{
	static DEFINE_RAW_SPINLOCK(raw_lock);
	unsigned long flags;

	init_completion(&done);
	if (!strcmp(context, "hardirq")) {
		hrtimer_start(&hard_timer, ms_to_ktime(1), HRTIMER_MODE_REL_HARD);
		wait_for_completion(&done);
	} else if (!strcmp(context, "softirq")) {
		mod_timer(&soft_timer, jiffies + 1);
		wait_for_completion(&done);
	} else if (!strcmp(context, "rcu")) {
		call_rcu(&rcu_head, put_in_rcu);
		wait_for_completion(&done);
	} else if (!strcmp(context, "raw_spinlock")) {
		raw_spin_lock_irqsave(&raw_lock, flags);
		put_page(held);
		raw_spin_unlock_irqrestore(&raw_lock, flags);
	} else if (!strcmp(context, "irqs_off")) {
		local_irq_save(flags);
		put_page(held);
		local_irq_restore(flags);
	} else if (!strcmp(context, "batch")) {
		struct folio_batch batch;

		folio_batch_init(&batch);
		folio_batch_add(&batch, page_folio(held));
		folios_put(&batch);
	} else {
		return -EINVAL;
	}
	held = NULL;
	return 0;
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
	if (sscanf(text, "hold %lx", &address) == 1 && !held)
		err = get_user_pages_fast(address, 1, FOLL_WRITE, &held) == 1 ? 0 : -EFAULT;
	else if (!strncmp(text, "put ", 4) && held)
		err = put_in(text + 4);
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
	hrtimer_setup(&hard_timer, put_in_hardirq, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_HARD);
	timer_setup(&soft_timer, put_in_softirq, 0);
	return misc_register(&put_misc);
}
module_init(put_init);

static void __exit put_exit(void)
{
	misc_deregister(&put_misc);
	rcu_barrier();
	if (held)
		put_page(held);
}
module_exit(put_exit);

MODULE_DESCRIPTION("Drops page references in awkward contexts, for gmemfd's tests");
MODULE_LICENSE("GPL");

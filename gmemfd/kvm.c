// SPDX-License-Identifier: GPL-2.0
/*
 * Guests that run from a gmem file: KVM memslots bound to it, and what a guest
 * finds in it.
 *
 * A guest may access private and shared pages alike, and no page ever moves:
 * conversions do not concern it.  Only pages that leave the file do.
 */
#include <linux/module.h>
#include <linux/slab.h>

#include "gmemfd.h"

/**
 * struct gmem_binding - a memslot on a file
 * @node: on gmem_inode.bindings
 * @slot: KVM's
 * @first: first page of the file in it
 * @last: first page behind
 */
struct gmem_binding {
	struct list_head node;
	struct kvm_memory_slot *slot;
	pgoff_t first, last;
};

/**
 * gmem_kvm_bind - let a VM use a range of a file
 * @file: a gmem file
 * @kvm: the VM
 * @slot: one of its memslots
 * @first: first page
 * @nr: number of pages
 * @ops: KVM's
 *
 * Return: 0, -EBUSY if another VM uses the file, -EEXIST if another slot has a
 * part of the range, -ENOMEM.
 */
int gmem_kvm_bind(struct file *file, struct kvm *kvm, struct kvm_memory_slot *slot,
		  pgoff_t first, unsigned long nr, const struct gmem_kvm_ops *ops)
{
	struct gmem_inode *gi = file_inode(file)->i_private;
	struct gmem_binding *other;
	struct gmem_binding *binding __free(kfree) =
		kmalloc_obj(*binding, GMEM_GFP);

	if (!binding)
		return -ENOMEM;
	*binding = (struct gmem_binding) {
		.slot = slot,
		.first = first,
		.last = first + nr,
	};

	guard(mutex)(&gi->bindings_lock);
	if (gi->kvm && gi->kvm != kvm)
		return -EBUSY;
	list_for_each_entry(other, &gi->bindings, node) {
		if (other->first < binding->last && binding->first < other->last)
			return -EEXIST;
	}
	gi->kvm = kvm;
	gi->kvm_ops = ops;
	refcount_inc(&gi->refs);
	list_add(&no_free_ptr(binding)->node, &gi->bindings);
	return 0;
}

/* Under bindings_lock; the binding's reference to the file is the caller's now. */
static void gmem_binding_free(struct gmem_inode *gi, struct gmem_binding *binding)
{
	list_del(&binding->node);
	kfree(binding);
	if (!list_empty(&gi->bindings))
		return;
	gi->kvm = NULL;
	WRITE_ONCE(gi->vms_gone, gi->vms_gone + 1);
	wake_up_all(&gi->vm_gone);
}

/**
 * gmem_kvm_unbind - a slot goes
 * @file: the file it is bound to, which may be about to be released
 * @slot: the slot, of which nothing is mapped any more
 */
void gmem_kvm_unbind(struct file *file, struct kvm_memory_slot *slot)
{
	struct gmem_inode *gi = file_inode(file)->i_private;
	struct gmem_binding *binding;
	bool found = false;

	mutex_lock(&gi->bindings_lock);
	list_for_each_entry(binding, &gi->bindings, node) {
		found = binding->slot == slot;
		if (found) {
			gmem_binding_free(gi, binding);
			break;
		}
	}
	mutex_unlock(&gi->bindings_lock);
	/* The file may have gone: it waits for its bindings, and not for this. */
	if (found)
		gmem_put(gi);
}

/**
 * gmem_kvm_invalidate_begin - unmap pages from the guest and keep them so
 * @gi: the file
 * @first: first page
 * @last: first page behind
 * @inv: for gmem_kvm_invalidate_end(), or gmem_kvm_wait_gone()
 *
 * The pages' blocks are locked exclusively, or nobody can look pages up any
 * more: a guest that gets bound from here on must not find what is going.
 *
 * Return: 0, or -EAGAIN if the VM is being destroyed.  Nothing of its guest runs any
 * more, but pages are still mapped until gmem_kvm_wait_gone(), which is called with
 * no block locked: the VM may wait for who waits for that.
 */
int gmem_kvm_invalidate_begin(struct gmem_inode *gi, pgoff_t first, pgoff_t last,
			      struct gmem_invalidation *inv)
{
	struct gmem_binding *binding;

	*inv = (struct gmem_invalidation) {};
	guard(mutex)(&gi->bindings_lock);
	if (!gi->kvm)
		return 0;
	inv->vms_gone = gi->vms_gone;
	if (!try_module_get(gi->kvm_ops->owner))
		return -EAGAIN;
	if (!gi->kvm_ops->get(gi->kvm)) {
		module_put(gi->kvm_ops->owner);
		return -EAGAIN;
	}
	inv->kvm = gi->kvm;
	inv->ops = gi->kvm_ops;
	list_for_each_entry(binding, &gi->bindings, node) {
		if (binding->first >= last || binding->last <= first)
			continue;
		inv->ops->invalidate_begin(inv->kvm, binding->slot,
					   max(first, binding->first),
					   min(last, binding->last));
		inv->nr++;
	}
	return 0;
}

/**
 * gmem_kvm_invalidate_end - the guest may look pages up again
 * @inv: from gmem_kvm_invalidate_begin()
 *
 * With nothing locked: this may be the end of the VM.
 */
void gmem_kvm_invalidate_end(struct gmem_invalidation *inv)
{
	if (!inv->kvm)
		return;
	while (inv->nr--)
		inv->ops->invalidate_end(inv->kvm);
	inv->ops->put(inv->kvm);
	module_put(inv->ops->owner);
}

/**
 * gmem_kvm_wait_gone - wait until a VM that is being destroyed has unmapped all
 * @gi: the file
 * @inv: from gmem_kvm_invalidate_begin(), which said -EAGAIN
 */
void gmem_kvm_wait_gone(struct gmem_inode *gi, const struct gmem_invalidation *inv)
{
	wait_event(gi->vm_gone, READ_ONCE(gi->vms_gone) != inv->vms_gone);
}

/**
 * gmem_kvm_release - the file goes: so does all that a guest has mapped of it
 * @gi: the file, which nobody can look pages up in any more
 */
void gmem_kvm_release(struct gmem_inode *gi)
{
	struct gmem_binding *binding, *next;
	struct gmem_invalidation inv;

	while (gmem_kvm_invalidate_begin(gi, 0, gi->nr_blocks << gi->block_order, &inv))
		gmem_kvm_wait_gone(gi, &inv);
	if (!inv.kvm)
		return;
	inv.ops->lock(inv.kvm);
	scoped_guard(mutex, &gi->bindings_lock) {
		list_for_each_entry_safe(binding, next, &gi->bindings, node) {
			inv.ops->forget(binding->slot);
			gmem_binding_free(gi, binding);
			gmem_put(gi);	/* never the last: the file has one */
		}
	}
	inv.ops->unlock(inv.kvm);
	gmem_kvm_invalidate_end(&inv);
}

/*
 * How much around page @i a guest can be given at once, as an order; negative
 * if something has to be done to the page first.
 */
static int gmem_guest_order(struct gmem_inode *gi, struct gmem_block *block,
			    unsigned long i)
{
	unsigned long lo = round_down(i, GMEM_REGION_PAGES);
	unsigned long hi = lo + GMEM_REGION_PAGES, nr = gmem_block_pages(gi);
	struct gmem_memory *memory = block->memory;

	if (!gmem_touched(block, i, i + 1) || gmem_poison_unlocated(memory))
		return -EAGAIN;
	if (PageHWPoison(memory->loan.page + i))
		return -EHWPOISON;
	if (!block->punched && bitmap_full(memory->ready, gmem_block_regions(gi)) &&
	    !gmem_poisoned(block, 0, nr))
		return gi->block_order;
	if (gmem_touched(block, lo, hi) && !gmem_poisoned(block, lo, hi - lo))
		return GMEM_REGION_ORDER;
	return 0;
}

/*
 * Make page @i fit for use: with all of its region where none of that has been
 * touched, alone where its neighbours are in use and it has been punched.
 */
static int gmem_guest_touch(struct gmem_inode *gi, struct gmem_block *block,
			    unsigned long i)
{
	unsigned long lo = round_down(i, GMEM_REGION_PAGES);
	unsigned long hi = lo + GMEM_REGION_PAGES;
	int err;

	if (block->memory && test_bit(i >> GMEM_REGION_ORDER, block->memory->ready) &&
	    block->punched && find_next_zero_bit(block->punched, hi, lo) < hi) {
		lo = i;
		hi = i + 1;
	}
	err = gmem_touch(gi, block, lo, hi);
	return err ?: gmem_locate_poison(block->memory);
}

/**
 * gmem_kvm_get_pfn - what a guest finds at a page
 * @file: a gmem file
 * @index: the page
 * @pfn: out: its frame
 * @order: out: so much around it, aligned, can be mapped at once
 *
 * Return: 0, -EHWPOISON, or why there is no memory as in gmem_memory_take().
 */
int gmem_kvm_get_pfn(struct file *file, pgoff_t index, u64 *pfn, int *order)
{
	struct gmem_inode *gi = file_inode(file)->i_private;
	struct gmem_block *block = gmem_block_at(gi, index);
	unsigned long i = gmem_page_in_block(gi, index);
	int ret, err;

	err = gmem_lock_block_shared(gi, block);
	if (err)
		return err;
	while ((ret = gmem_guest_order(gi, block, i)) == -EAGAIN) {
		gmem_unlock_block_shared(gi, block);
		err = gmem_lock_block_killable(gi, block);
		if (err)
			return err;
		err = gmem_guest_touch(gi, block, i);
		gmem_unlock_block(gi, block);
		if (!err)
			err = gmem_lock_block_shared(gi, block);
		if (err)
			return err;
	}
	if (ret >= 0) {
		*order = ret;
		*pfn = page_to_pfn(block->memory->loan.page + i);
		ret = 0;
	}
	gmem_unlock_block_shared(gi, block);
	return ret;
}

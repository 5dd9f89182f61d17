// SPDX-License-Identifier: GPL-2.0
/*
 * Guests that run from a gmem file: KVM's memslots are bound to the file, and KVM asks for
 * the page frames behind it.
 *
 * A guest may access private and shared pages alike, and no page ever moves.  So
 * conversions do not concern the guest, and only pages that leave the file do.
 */
#include <linux/module.h>
#include <linux/slab.h>

#include "gmemfd.h"
#include "trace.h"

/**
 * struct gmem_binding - a memslot on a file
 * @node: entry of gmemfd_inode.bindings
 * @file: the open file that it was bound by
 * @slot: KVM's memslot
 * @first: first page of the file that is in the slot
 * @last: first page behind
 *
 * Each binding has a reference to the file's structure, and goes with the open file.
 */
struct gmem_binding {
	struct list_head node;
	struct file *file;
	struct kvm_memory_slot *slot;
	pgoff_t first, last;
};

/**
 * gmem_kvm_bind - let a VM use a range of a file [takes bindings]
 * @file: a gmem file
 * @kvm: the VM
 * @slot: one of its memslots
 * @first: first page
 * @nr: number of pages
 * @ops: how to talk to KVM
 *
 * Return: 0, -EACCES if the file is not open for reading and writing, -EBUSY if another VM
 * uses it, -EEXIST if another slot has a part of the range, or -ENOMEM.
 */
int gmem_kvm_bind(struct file *file, struct kvm *kvm, struct kvm_memory_slot *slot,
		  pgoff_t first, unsigned long nr, const struct gmem_kvm_ops *ops)
{
	struct gmemfd_inode *fi = file_inode(file)->i_private;
	struct gmem_binding *other;
	struct gmem_binding *binding __free(kfree) =
		kmalloc_obj(*binding, GMEM_GFP);

	if (!binding)
		return -ENOMEM;
	if (~file->f_mode & (FMODE_READ | FMODE_WRITE))
		return -EACCES;
	*binding = (struct gmem_binding) {
		.file = file,
		.slot = slot,
		.first = first,
		.last = first + nr,
	};

	guard(mutex)(&fi->bindings_lock);
	if (fi->kvm && fi->kvm != kvm)
		return -EBUSY;
	list_for_each_entry(other, &fi->bindings, node) {
		if (other->first < binding->last && binding->first < other->last)
			return -EEXIST;
	}
	fi->kvm = kvm;
	fi->kvm_ops = ops;
	refcount_inc(&fi->refs);
	trace_gmem_slot_bind(fi, slot, binding->first, binding->last);
	list_add(&no_free_ptr(binding)->node, &fi->bindings);
	return 0;
}

/* The caller takes over the binding's reference to the file.  [bindings] */
static void gmem_binding_free(struct gmemfd_inode *fi, struct gmem_binding *binding)
{
	trace_gmem_slot_unbind(fi, binding->slot, binding->first, binding->last);
	list_del(&binding->node);
	kfree(binding);
	if (!list_empty(&fi->bindings))
		return;
	fi->kvm = NULL;
	WRITE_ONCE(fi->vms_gone, fi->vms_gone + 1);
	wake_up_all(&fi->vm_gone);
}

/**
 * gmem_kvm_unbind - undo gmem_kvm_bind() [takes bindings]
 * @file: the file that the slot is bound to, which may be about to be released
 * @slot: the slot, of which the guest has no page mapped any more
 */
void gmem_kvm_unbind(struct file *file, struct kvm_memory_slot *slot)
{
	struct gmemfd_inode *fi = file_inode(file)->i_private;
	struct gmem_binding *binding;
	bool found = false;

	mutex_lock(&fi->bindings_lock);
	list_for_each_entry(binding, &fi->bindings, node) {
		found = binding->slot == slot;
		if (found) {
			fi->kvm_ops->drop_caches(fi->kvm, slot, binding->first, binding->last);
			gmem_binding_free(fi, binding);
			break;
		}
	}
	mutex_unlock(&fi->bindings_lock);
	/* With the binding gone the file may be released: this reference keeps @fi. */
	if (found)
		gmem_file_put(fi);
}

/* As gmem_kvm_invalidate_begin(), in slots that were bound by @file, or in all of them. */
static int gmem_kvm_invalidate_slots(struct gmemfd_inode *fi, const struct file *file,
				     pgoff_t first, pgoff_t last,
				     struct gmem_invalidation *inv)
{
	struct gmem_binding *binding;

	*inv = (struct gmem_invalidation) {};
	guard(mutex)(&fi->bindings_lock);
	if (!fi->kvm)
		return 0;
	inv->vms_gone = fi->vms_gone;
	if (!try_module_get(fi->kvm_ops->owner))
		return -EAGAIN;
	if (!fi->kvm_ops->get(fi->kvm)) {
		module_put(fi->kvm_ops->owner);
		return -EAGAIN;
	}
	inv->kvm = fi->kvm;
	inv->ops = fi->kvm_ops;
	list_for_each_entry(binding, &fi->bindings, node) {
		if (binding->first >= last || binding->last <= first ||
		    (file && binding->file != file))
			continue;
		inv->ops->invalidate_begin(inv->kvm, binding->slot,
					   max(first, binding->first),
					   min(last, binding->last));
		inv->nr++;
	}
	return 0;
}

/**
 * gmem_kvm_invalidate_begin - unmap pages from the guest for a while [block, takes bindings]
 * @fi: the file
 * @first: first page
 * @last: first page behind
 * @inv: out: for gmem_kvm_invalidate_end(), or gmem_kvm_wait_gone()
 *
 * The caller holds the locks of the pages' blocks.  So a slot that is bound from now on
 * cannot look these pages up.
 *
 * Return: 0, or -EAGAIN if the VM is being destroyed.  None of its CPUs runs any more, but
 * pages stay mapped until gmem_kvm_wait_gone() returns.
 */
int gmem_kvm_invalidate_begin(struct gmemfd_inode *fi, pgoff_t first, pgoff_t last,
			      struct gmem_invalidation *inv)
{
	return gmem_kvm_invalidate_slots(fi, NULL, first, last, inv);
}

/**
 * gmem_kvm_drop_caches - KVM itself does not access some pages any more [block, takes bindings]
 * @fi: the file
 * @first: first page
 * @last: first page behind
 *
 * Where they are private by then, KVM does not look them up again.
 */
void gmem_kvm_drop_caches(struct gmemfd_inode *fi, pgoff_t first, pgoff_t last)
{
	struct gmem_binding *binding;

	/* A VM that is being destroyed stays until it has lost its bindings. */
	guard(mutex)(&fi->bindings_lock);
	list_for_each_entry(binding, &fi->bindings, node) {
		if (binding->first < last && binding->last > first)
			fi->kvm_ops->drop_caches(fi->kvm, binding->slot,
						 max(first, binding->first),
						 min(last, binding->last));
	}
}

/**
 * gmem_kvm_invalidate_end - let the guest look pages up again
 * @inv: what gmem_kvm_invalidate_begin() has begun
 *
 * The caller holds no lock of ours: this may drop the last reference to the VM.
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
 * gmem_kvm_wait_gone - wait until a VM that is being destroyed has unmapped all pages
 * @fi: the file
 * @inv: what gmem_kvm_invalidate_begin() has set, which returned -EAGAIN
 *
 * The caller holds no lock of ours: the VM may wait for a task that waits for a block.
 */
void gmem_kvm_wait_gone(struct gmemfd_inode *fi, const struct gmem_invalidation *inv)
{
	wait_event(fi->vm_gone, READ_ONCE(fi->vms_gone) != inv->vms_gone);
}

/**
 * gmem_kvm_release - undo what was bound by an open file, which is closed [takes bindings]
 * @fi: the file
 * @file: the open file, by which nobody can look pages up any more
 */
void gmem_kvm_release(struct gmemfd_inode *fi, struct file *file)
{
	struct gmem_binding *binding, *next;
	struct gmem_invalidation inv;

	while (gmem_kvm_invalidate_slots(fi, file, 0, ULONG_MAX, &inv))
		gmem_kvm_wait_gone(fi, &inv);
	if (!inv.nr) {
		gmem_kvm_invalidate_end(&inv);
		return;
	}
	inv.ops->lock(inv.kvm);
	scoped_guard(mutex, &fi->bindings_lock) {
		list_for_each_entry_safe(binding, next, &fi->bindings, node) {
			if (binding->file != file)
				continue;
			inv.ops->forget(binding->slot);
			gmem_binding_free(fi, binding);
			gmem_file_put(fi);	/* not the last: the caller has one */
		}
	}
	inv.ops->unlock(inv.kvm);
	gmem_kvm_invalidate_end(&inv);
}

/*
 * Populate page @i and find its frame.  With @guest it may be private.  Sets *@order as
 * gmem_order_at_once() does.  [takes block]
 */
static int gmem_find_pfn(struct gmemfd_inode *fi, pgoff_t index, bool guest, u64 *pfn,
			 int *order)
{
	struct gmem_block *block = gmem_block_at(fi, index);
	unsigned long i = gmem_page_in_block(fi, index);
	int ret, err;

	for (;;) {
		err = gmem_lock_block_shared(fi, block);
		if (err)
			return err;
		ret = -EFAULT;
		if (!guest && gmem_state_private(&block->state, i) &&
		    !gmem_page_secret(block, i))
			break;
		ret = gmem_order_at_once(fi, block, i);
		if (ret != -EAGAIN)
			break;
		gmem_unlock_block_shared(fi, block);
		err = gmem_zero_ahead(fi, block, i, i + 1);
		if (!err)
			err = gmem_lock_block_killable(fi, block);
		if (err)
			return err;
		err = gmem_populate_around(fi, block, i);
		gmem_unlock_block(fi, block);
		if (err)
			return err;
	}
	if (ret >= 0) {
		*order = ret;
		*pfn = page_to_pfn(block->memory->loan.page + i);
		ret = 0;
	}
	gmem_unlock_block_shared(fi, block);
	return ret;
}

static int gmem_get_pfn(struct gmemfd_inode *fi, pgoff_t index, bool guest, u64 *pfn,
			int *order)
{
	int err = gmem_find_pfn(fi, index, guest, pfn, order);

	trace_gmem_guest_fault(fi, index, guest, err ? 0 : *pfn, err ? 0 : *order, err);
	return err;
}

/**
 * gmem_kvm_get_pfn - get the page frame that a guest finds at a page [takes block]
 * @file: a gmem file
 * @index: the page
 * @pfn: out: the number of its frame
 * @order: out: the aligned 2^*@order pages around it can be mapped at once
 *
 * Return: 0, -EHWPOISON, or what gmem_populate() returns.
 */
int gmem_kvm_get_pfn(struct file *file, pgoff_t index, u64 *pfn, int *order)
{
	return gmem_get_pfn(file_inode(file)->i_private, index, true, pfn, order);
}

/**
 * gmem_kvm_get_host_pfn - get the page frame that KVM itself finds at a page [takes block]
 * @file: a gmem file
 * @index: the page
 * @pfn: out: the number of its frame
 *
 * Return: 0, -EFAULT for a private page, or what gmem_kvm_get_pfn() returns.
 */
int gmem_kvm_get_host_pfn(struct file *file, pgoff_t index, u64 *pfn)
{
	int order;

	return gmem_get_pfn(file_inode(file)->i_private, index, false, pfn, &order);
}

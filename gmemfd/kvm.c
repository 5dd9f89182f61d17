// SPDX-License-Identifier: GPL-2.0
/*
 * Guests that run from a gmem file: KVM's memslots are bound to the file, and KVM asks for
 * the page frames behind it.
 *
 * A guest may access private and shared pages alike, and no page ever moves.  So
 * conversions do not concern the guest, and only pages that leave the file do.
 *
 * For some types of VMs an access is private or shared, and so must be the page.  There a
 * conversion concerns the guest, which loses the page until it accesses it as what it
 * is.  Secret pages are shared for such a guest, as they are with its VMM.
 */
#include <linux/slab.h>

#include "gmemfd.h"
#include "trace.h"

/**
 * struct gmem_binding - a memslot on a file
 * @node: entry of gmemfd_inode.bindings
 * @file: the open file that it was bound by
 * @slot: the slot, and how to talk to KVM
 * @converting: how often convert_begin() of its operations was called without convert_end()
 *
 * Each binding has a reference to the file's structure, and goes with the open file.  A VM
 * stays, with all that is of use here, until it has lost its bindings.
 */
struct gmem_binding {
	struct list_head node;
	struct file *file;
	struct gmem_slot slot;
	unsigned int converting;
};

/*
 * Protects what gmem_slot.file of bindings points to: a slot loses its file when the slot goes
 * or when the file is closed, and the two do not wait for each other.
 */
static DEFINE_SPINLOCK(gmem_slot_files_lock);

static pgoff_t gmem_slot_last(const struct gmem_slot *slot)
{
	return slot->first + slot->nr;
}

/* For for_each_span(). */
static struct gmemfd_convert_range gmem_slot_range(const struct gmem_slot *slot)
{
	return (struct gmemfd_convert_range) {
		.offset = (u64)slot->first << PAGE_SHIFT,
		.size = (u64)slot->nr << PAGE_SHIFT,
	};
}

/* Who names a file wants it for one VM, and each page once in each address space. */
static int gmem_binding_conflict(struct gmemfd_inode *fi, const struct gmem_slot *slot)
{
	struct gmem_binding *binding;

	if (slot->space < 0)
		return 0;
	list_for_each_entry(binding, &fi->bindings, node) {
		const struct gmem_slot *other = &binding->slot;

		if (other->space < 0)
			continue;
		if (other->kvm != slot->kvm)
			return -EBUSY;
		if (other->space == slot->space && other->first < gmem_slot_last(slot) &&
		    slot->first < gmem_slot_last(other))
			return -EEXIST;
	}
	return 0;
}

/* A VMM that copies what the guest has written cannot copy private pages.  [takes block] */
static int gmem_check_none_private(struct gmemfd_inode *fi, const struct gmem_slot *slot)
{
	struct gmemfd_convert_range range = gmem_slot_range(slot);
	struct gmem_walk walk;
	int err;

	for_each_span(walk, fi, &range, 1) {
		struct gmem_block *block = walk.block;
		bool private;

		err = gmem_lock_block_shared(fi, block);
		if (err)
			return err;
		private = gmem_page_guests(block, walk.lo) ||
			  gmem_guests_run(block, walk.lo, walk.hi) < walk.hi;
		gmem_unlock_block_shared(fi, block);
		if (private)
			return -EOPNOTSUPP;
		cond_resched();
	}
	return 0;
}

/*
 * Conversions that began before a typed slot was bound do not tell it.  Let them end, before
 * the slot is there for guests.  [takes block]
 */
static int gmem_wait_for_conversions(struct gmemfd_inode *fi, const struct gmem_slot *slot)
{
	struct gmemfd_convert_range range = gmem_slot_range(slot);
	struct gmem_walk walk;
	int err;

	for_each_span(walk, fi, &range, 1) {
		err = gmem_lock_block_shared(fi, walk.block);
		if (err)
			return err;
		gmem_unlock_block_shared(fi, walk.block);
		cond_resched();
	}
	return 0;
}

/**
 * gmem_kvm_by_address - do memslots on a mapping of a file look pages up in the file?
 * @file: a gmem file
 *
 * Return: true if they do, although user space has not named the file.
 */
bool gmem_kvm_by_address(struct file *file)
{
	struct gmemfd_inode *fi = file_inode(file)->i_private;

	return fi->flags & GMEMFD_CREATE_BIND_MAPPED;
}

/* [bindings] */
static void gmem_binding_add(struct gmemfd_inode *fi, struct gmem_binding *binding)
{
	trace_gmem_slot_bind(fi, &binding->slot);
	list_add(&binding->node, &fi->bindings);
	if (binding->slot.typed)
		WRITE_ONCE(fi->nr_typed, fi->nr_typed + 1);
}

/* The caller takes over the binding's reference to the file.  [bindings] */
static void gmem_binding_remove(struct gmemfd_inode *fi, struct gmem_binding *binding)
{
	trace_gmem_slot_unbind(fi, &binding->slot);
	list_del(&binding->node);
	if (binding->slot.typed)
		WRITE_ONCE(fi->nr_typed, fi->nr_typed - 1);
	kfree(binding);
}

/* The same, and the slot loses its file.  [bindings] */
static void gmem_binding_free(struct gmemfd_inode *fi, struct gmem_binding *binding)
{
	scoped_guard(spinlock, &gmem_slot_files_lock)
		WRITE_ONCE(*binding->slot.file, NULL);
	gmem_binding_remove(fi, binding);
}

/**
 * gmem_kvm_bind - let a VM use a range of a file [takes block, bindings]
 * @slot: one of its memslots
 *
 * A typed slot is told of all conversions that end after this.
 *
 * Return: 0; of a slot for which user space has named the file -EACCES if that is not open
 * for reading and writing, -EBUSY if another VM uses it, -EEXIST if another slot has a
 * part of the range; -EOPNOTSUPP if writes of the guest are to be logged, and there are
 * private pages; -EINTR, or -ENOMEM.
 */
int gmem_kvm_bind(const struct gmem_slot *slot)
{
	struct file *file = *slot->file;
	struct gmemfd_inode *fi = file_inode(file)->i_private;
	struct gmem_binding *binding;
	int err;

	if (slot->space >= 0 && ~file->f_mode & (FMODE_READ | FMODE_WRITE))
		return -EACCES;
	if (slot->logs_dirty) {
		err = gmem_check_none_private(fi, slot);
		if (err)
			return err;
	}
	binding = kmalloc_obj(*binding, GMEM_GFP);
	if (!binding)
		return -ENOMEM;
	binding->file = file;
	binding->slot = *slot;
	binding->converting = 0;

	mutex_lock(&fi->bindings_lock);
	err = gmem_binding_conflict(fi, slot);
	if (err) {
		kfree(binding);
	} else {
		refcount_inc(&fi->refs);
		gmem_binding_add(fi, binding);
	}
	mutex_unlock(&fi->bindings_lock);
	if (err || !slot->typed)
		return err;

	err = gmem_wait_for_conversions(fi, slot);
	if (err) {
		guard(mutex)(&fi->bindings_lock);
		gmem_binding_remove(fi, binding);
		gmem_file_put(fi);	/* not the last: there is an open file */
	}
	return err;
}

/**
 * gmem_kvm_unbind - undo gmem_kvm_bind() [takes bindings]
 * @slot: the slot, of which the guest has no page mapped any more
 * @file: where the slot has its file, which may be about to be released
 */
void gmem_kvm_unbind(struct kvm_memory_slot *slot, struct file **file)
{
	struct gmemfd_inode *fi = NULL;
	struct gmem_binding *binding;

	scoped_guard(spinlock, &gmem_slot_files_lock) {
		/* As long as the slot has the file its release has not gone further. */
		if (*file) {
			fi = file_inode(*file)->i_private;
			refcount_inc(&fi->refs);
		}
	}
	if (!fi)
		return;
	mutex_lock(&fi->bindings_lock);
	list_for_each_entry(binding, &fi->bindings, node) {
		if (binding->slot.slot != slot)
			continue;
		binding->slot.ops->drop_caches(binding->slot.kvm, slot, binding->slot.first,
					       gmem_slot_last(&binding->slot));
		gmem_binding_free(fi, binding);
		gmem_file_put(fi);	/* not the last: there is ours */
		break;
	}
	mutex_unlock(&fi->bindings_lock);
	gmem_file_put(fi);
}

/* Tell KVM of pages in all slots that have some of them.  [takes bindings] */
static void gmem_kvm_tell(struct gmemfd_inode *fi, pgoff_t first, pgoff_t last, bool unmap)
{
	struct gmem_binding *binding;

	guard(mutex)(&fi->bindings_lock);
	list_for_each_entry(binding, &fi->bindings, node) {
		const struct gmem_slot *slot = &binding->slot;
		pgoff_t lo = max(first, slot->first);
		pgoff_t hi = min(last, gmem_slot_last(slot));

		if (lo < hi && unmap)
			slot->ops->invalidate(slot->kvm, slot->slot, lo, hi);
		else if (lo < hi)
			slot->ops->drop_caches(slot->kvm, slot->slot, lo, hi);
		/* Many VMs may have many slots on the same pages. */
		cond_resched();
	}
}

/**
 * gmem_kvm_invalidate - unmap pages from the guests [block, takes bindings]
 * @fi: the file
 * @first: first page
 * @last: first page behind
 *
 * The caller holds the locks of the pages' blocks exclusively.  So guests that look the
 * pages up again wait, and a slot that is bound from now on does so, too.
 */
void gmem_kvm_invalidate(struct gmemfd_inode *fi, pgoff_t first, pgoff_t last)
{
	gmem_kvm_tell(fi, first, last, true);
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
	gmem_kvm_tell(fi, first, last, false);
}

/**
 * gmem_kvm_convert_begin - are there guests that conversions concern? [block, takes bindings]
 * @fi: the file
 *
 * Return: true if so.  Then nobody binds or unbinds slots until gmem_kvm_convert_end().
 */
bool gmem_kvm_convert_begin(struct gmemfd_inode *fi)
{
	/* A slot that is bound from now on waits for the blocks, see gmem_kvm_bind(). */
	if (!READ_ONCE(fi->nr_typed))
		return false;
	mutex_lock(&fi->bindings_lock);
	return true;
}

/**
 * gmem_kvm_convert - take pages that become private, or not private, from such guests
 *	[block, bindings]
 * @fi: the file
 * @first: first page
 * @last: first page behind
 * @private: what they become
 *
 * Guests get them back after gmem_kvm_convert_end().  Until then the states can change.
 */
void gmem_kvm_convert(struct gmemfd_inode *fi, pgoff_t first, pgoff_t last, bool private)
{
	struct gmem_binding *binding;

	list_for_each_entry(binding, &fi->bindings, node) {
		const struct gmem_slot *slot = &binding->slot;
		pgoff_t lo = max(first, slot->first);
		pgoff_t hi = min(last, gmem_slot_last(slot));

		if (!slot->typed || lo >= hi)
			continue;
		trace_gmem_guest_convert(fi, lo, hi, private);
		slot->ops->convert_begin(slot->kvm, slot->slot, lo, hi, private);
		binding->converting++;
		cond_resched();
	}
}

/**
 * gmem_kvm_convert_end - the states are what they are [block, releases bindings]
 * @fi: the file, for which gmem_kvm_convert_begin() returned true
 */
void gmem_kvm_convert_end(struct gmemfd_inode *fi)
{
	struct gmem_binding *binding;

	list_for_each_entry(binding, &fi->bindings, node) {
		for (; binding->converting; binding->converting--)
			binding->slot.ops->convert_end(binding->slot.kvm);
	}
	mutex_unlock(&fi->bindings_lock);
}

/**
 * gmem_kvm_release - undo what was bound by an open file, which is closed [takes bindings]
 * @fi: the file
 * @file: the open file, by which nobody can look pages up any more
 */
void gmem_kvm_release(struct gmemfd_inode *fi, struct file *file)
{
	struct gmem_binding *binding, *next;

	guard(mutex)(&fi->bindings_lock);
	list_for_each_entry_safe(binding, next, &fi->bindings, node) {
		const struct gmem_slot *slot = &binding->slot;

		if (binding->file != file)
			continue;
		slot->ops->invalidate(slot->kvm, slot->slot, slot->first,
				      gmem_slot_last(slot));
		gmem_binding_free(fi, binding);
		gmem_file_put(fi);	/* not the last: the caller has one */
		cond_resched();
	}
}

/* Who looks a page up */
enum gmem_looker {
	GMEM_HOST,	/* KVM itself: it must not be private */
	GMEM_GUEST,
	GMEM_GUEST_TYPED,
};

/* How many pages around one can be mapped together, if the guest tells private from shared? */
static int gmem_order_of_type(const struct gmem_block *block, unsigned long i, int order)
{
	while (order) {
		unsigned long lo = round_down(i, BIT(order)), hi = lo + BIT(order);

		if (gmem_guests_run(block, lo, hi) == hi)
			break;
		order = order > GMEM_REGION_ORDER ? GMEM_REGION_ORDER : 0;
	}
	return order;
}

/*
 * Populate page @i and find its frame.  Sets *@order as gmem_order_at_once() does, and for
 * GMEM_GUEST_TYPED so that the pages are of one type.  [takes block]
 */
static int gmem_find_pfn(struct gmemfd_inode *fi, pgoff_t index, enum gmem_looker looker,
			 u64 *pfn, int *order)
{
	struct gmem_block *block = gmem_block_at(fi, index);
	unsigned long i = gmem_page_in_block(fi, index);
	int ret, err;

	for (;;) {
		err = gmem_lock_block_shared(fi, block);
		if (err)
			return err;
		ret = -EFAULT;
		if (looker == GMEM_HOST && gmem_page_guests(block, i))
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
		*order = looker == GMEM_GUEST_TYPED ? gmem_order_of_type(block, i, ret) : ret;
		*pfn = page_to_pfn(block->memory->loan.page + i);
		ret = 0;
	}
	gmem_unlock_block_shared(fi, block);
	return ret;
}

static int gmem_get_pfn(struct gmemfd_inode *fi, pgoff_t index, enum gmem_looker looker,
			u64 *pfn, int *order)
{
	int err = gmem_find_pfn(fi, index, looker, pfn, order);

	trace_gmem_guest_fault(fi, index, looker != GMEM_HOST, err ? 0 : *pfn,
			       err ? 0 : *order, err);
	return err;
}

/**
 * gmem_kvm_get_pfn - get the page frame that a guest finds at a page [takes block]
 * @file: a gmem file
 * @index: the page
 * @typed: the guest tells private from shared pages
 * @pfn: out: the number of its frame
 * @order: out: the aligned 2^*@order pages around it can be mapped at once
 *
 * Return: 0, -EHWPOISON, or what gmem_populate() returns.
 */
int gmem_kvm_get_pfn(struct file *file, pgoff_t index, bool typed, u64 *pfn, int *order)
{
	return gmem_get_pfn(file_inode(file)->i_private, index,
			    typed ? GMEM_GUEST_TYPED : GMEM_GUEST, pfn, order);
}

/**
 * gmem_kvm_is_private - is a page private for a guest that tells private from shared?
 * @file: a gmem file
 * @index: the page
 *
 * Takes no lock, since callers hold KVM's.
 *
 * Return: what the page was at some moment since the call began.
 */
bool gmem_kvm_is_private(struct file *file, pgoff_t index)
{
	struct gmemfd_inode *fi = file_inode(file)->i_private;
	struct gmem_block *block = gmem_block_at(fi, index);
	unsigned long i = gmem_page_in_block(fi, index);
	bool secret = gmem_state_peek(&block->secret, i);
	bool private;

	/*
	 * A page that becomes secret is in @secret before it is in @state, and one that
	 * becomes shared leaves @state first, see gmem_set_states().  So one that was secret all
	 * the time between two others is seen in @secret before or after.
	 */
	smp_rmb();	/* pairs with those of gmem_set_states() */
	private = gmem_state_peek(&block->state, i);
	smp_rmb();	/* the same */
	return private && !secret && !gmem_state_peek(&block->secret, i);
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

	return gmem_get_pfn(file_inode(file)->i_private, index, GMEM_HOST, pfn, &order);
}

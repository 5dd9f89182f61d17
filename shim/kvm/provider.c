// SPDX-License-Identifier: GPL-2.0
/*
 * Memslots on files that another module provides, see <linux/gmem_shim.h>.
 *
 * The file answers guest faults of all kinds.  What the host maps at the slot's
 * userspace_addr comes and goes with the state of the pages and means nothing for the
 * guest's mapping, so MMU notifiers pass over such slots.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gmem_shim.h>
#include <linux/kvm_host.h>
#include <linux/pagemap.h>
#include <linux/vmalloc.h>

#include "../kvm_mm.h"
#include "compat.h"
#include "provider.h"

#ifdef CONFIG_KVM_AMD_SEV
#include "svm/svm.h"
#endif

static pgoff_t kvm_gmem_provider_pgoff(const struct kvm_memory_slot *slot)
{
	return slot->gmem.pgoff & ~KVM_GMEM_PROVIDER;
}

/* --- KVM's own access to pages ---------------------------------------------- */

#if GMEM_HAS_CACHES

/**
 * kvm_gmem_provider_host_pfn - what may KVM itself access?
 * @slot: a slot on a provider's file
 * @gfn: a page of it
 *
 * Return: the page frame, without a reference, or KVM_PFN_ERR_FAULT.
 */
kvm_pfn_t kvm_gmem_provider_host_pfn(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	/* The last reference may be gone, and the file on its way to release. */
	struct file *file = get_file_active((struct file **)&slot->gmem.file);
	int err = -EFAULT;
	u64 pfn;

	if (file) {
		err = gmem_provider_of(file)->get_host_pfn(file, gfn - slot->base_gfn +
							   kvm_gmem_provider_pgoff(slot),
							   &pfn);
		fput(file);
	}
	return err ? KVM_PFN_ERR_FAULT : pfn;
}

/**
 * kvm_gmem_provider_map - map a page that may be out of the direct map
 * @pfn: from kvm_gmem_provider_host_pfn()
 *
 * Return: an address for vunmap(), or NULL.
 */
void *kvm_gmem_provider_map(kvm_pfn_t pfn)
{
	struct page *page = pfn_to_page(pfn);

	return vmap(&page, 1, VM_MAP, PAGE_KERNEL);
}

/*
 * Take the mapping from a cache that is not valid any more.  One that is being filled at
 * the moment keeps its mapping until it has found out that the page is gone.
 */
static void *kvm_gmem_take_mapping(struct kvm *kvm, unsigned long start, unsigned long end)
{
	struct gfn_to_pfn_cache *gpc;
	void *khva = NULL;

	guard(spinlock)(&kvm->gpc_lock);
	list_for_each_entry(gpc, &kvm->gpc_list, list) {
		if (!is_vmalloc_addr(gpc->khva) || !mutex_trylock(&gpc->refresh_lock))
			continue;
		scoped_guard(write_lock_irq, &gpc->lock) {
			if (!gpc->valid && gpc->uhva >= start && gpc->uhva < end &&
			    is_vmalloc_addr(gpc->khva) && pfn_valid(gpc->pfn)) {
				khva = (void *)PAGE_ALIGN_DOWN((unsigned long)gpc->khva);
				gpc->khva = NULL;
				gpc->pfn = KVM_PFN_ERR_FAULT;
			}
		}
		mutex_unlock(&gpc->refresh_lock);
		if (khva)
			break;
	}
	return khva;
}

static void kvm_gmem_provider_drop_caches(struct kvm *kvm, struct kvm_memory_slot *slot,
					  pgoff_t start, pgoff_t end)
{
	unsigned long address = slot->userspace_addr -
				(kvm_gmem_provider_pgoff(slot) << PAGE_SHIFT);
	void *khva;

	/* A cache that is added from now on looks for the page when it is gone. */
	if (list_empty(&kvm->gpc_list))
		return;
	start = address + (start << PAGE_SHIFT);
	end = address + (end << PAGE_SHIFT);
	gmem_caches_retry(kvm);
	gfn_to_pfn_cache_invalidate_start(kvm, start, end);
	while ((khva = kvm_gmem_take_mapping(kvm, start, end)))
		vunmap(khva);
}

#else

static void kvm_gmem_provider_drop_caches(struct kvm *kvm, struct kvm_memory_slot *slot,
					  pgoff_t start, pgoff_t end)
{
}

#endif

/* --- KVM, as the provider sees it -------------------------------------------- */

/*
 * Who looked a page up before, or does so from now on, finds out that it has to do so again.
 * [mmu_lock]
 */
static void kvm_gmem_unmap_begin(struct kvm *kvm, const struct kvm_memory_slot *slot,
				 gfn_t start, gfn_t end, enum kvm_gfn_range_filter filter)
{
	const gfn_t huge = KVM_PAGES_PER_HPAGE(KVM_MAX_HUGEPAGE_LEVEL);
	struct kvm_gfn_range range = {
		.start = start,
		.end = end,
		.slot = (struct kvm_memory_slot *)slot,
		.may_block = true,
		.attr_filter = filter,
	};

	kvm_mmu_invalidate_start(kvm);
	/* A fault beside the range may be about to map all of a huge page. */
	kvm_mmu_invalidate_range_add(kvm, round_down(start, huge), round_up(end, huge));
	if (kvm_mmu_unmap_gfn_range(kvm, &range))
		kvm_flush_remote_tlbs(kvm);
}

static void kvm_gmem_unmap(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t start,
			   gfn_t end)
{
	KVM_MMU_LOCK(kvm);
	kvm_gmem_unmap_begin(kvm, slot, start, end, KVM_FILTER_SHARED | KVM_FILTER_PRIVATE);
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);
}

/* Who looks a page up from now on waits for the provider, who has it locked. */
static void kvm_gmem_provider_invalidate(struct kvm *kvm, struct kvm_memory_slot *slot,
					 pgoff_t start, pgoff_t end)
{
	gfn_t first = slot->base_gfn - kvm_gmem_provider_pgoff(slot);

	kvm_gmem_unmap(kvm, slot, first + start, first + end);
	kvm_arch_guest_memory_reclaimed(kvm);
	kvm_gmem_provider_drop_caches(kvm, slot, start, end);
}

/* What stays as it is for the guest is not unmapped: encrypted memory would be lost. */
static void kvm_gmem_provider_convert_begin(struct kvm *kvm, struct kvm_memory_slot *slot,
					    pgoff_t start, pgoff_t end, bool private)
{
	gfn_t first = slot->base_gfn - kvm_gmem_provider_pgoff(slot);

	KVM_MMU_LOCK(kvm);
	kvm_gmem_unmap_begin(kvm, slot, first + start, first + end,
			     private ? KVM_FILTER_SHARED : KVM_FILTER_PRIVATE);
	KVM_MMU_UNLOCK(kvm);
}

static void kvm_gmem_provider_convert_end(struct kvm *kvm)
{
	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);
}

static const struct gmem_kvm_ops kvm_gmem_provider_ops = {
	.invalidate	= kvm_gmem_provider_invalidate,
	.drop_caches	= kvm_gmem_provider_drop_caches,
	.convert_begin	= kvm_gmem_provider_convert_begin,
	.convert_end	= kvm_gmem_provider_convert_end,
};

/* --- private and shared accesses ---------------------------------------------- */

#if GMEM_HAS_TYPED

/**
 * kvm_gmem_provider_private - is a page private to a guest that tells private from shared?
 * @slot: a slot on a provider's file
 * @gfn: a page of it
 *
 * The file knows, and the VM's attributes mean nothing there.  Callers hold mmu_lock at times.
 *
 * Return: true if it is.
 */
bool kvm_gmem_provider_private(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	struct file *file = get_file_active((struct file **)&slot->gmem.file);
	bool private;

	/* Without a file nothing is found anyway. */
	if (!file)
		return false;
	private = gmem_provider_of(file)->is_private(file, gfn - slot->base_gfn +
						     kvm_gmem_provider_pgoff(slot));
	fput(file);
	return private;
}
EXPORT_SYMBOL_GMEM_TO(kvm_gmem_provider_private, "kvm-amd,kvm-intel");

/**
 * kvm_gmem_check_attributes - may user space set the VM's attributes of pages?
 * @kvm: the VM, whose slots_lock is held
 * @start: the first of them
 * @end: the first behind
 *
 * Return: 0, or -EINVAL if a provider's file knows what they are.
 */
int kvm_gmem_check_attributes(struct kvm *kvm, gfn_t start, gfn_t end)
{
	struct kvm_memslot_iter iter;

	kvm_for_each_memslot_in_gfn_range(&iter, __kvm_memslots(kvm, 0), start, end)
		if (kvm_slot_has_provider(iter.slot))
			return -EINVAL;
	return 0;
}

/* The other way round: was nothing said of a new slot's pages that the file is to say? */
static bool kvm_gmem_attributes_unset(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	return !kvm_arch_has_private_mem(kvm) ||
	       kvm_range_has_memory_attributes(kvm, slot->base_gfn,
					       slot->base_gfn + slot->npages, ~0UL, 0);
}

#else

static bool kvm_gmem_attributes_unset(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	return true;
}

#endif

/* --- slots get a file, and lose it ------------------------------------------- */

/* Where the CPU has SVM every VM is kvm-amd's. */
static bool kvm_gmem_provider_encrypted(struct kvm *kvm)
{
#ifdef CONFIG_KVM_AMD_SEV
	return boot_cpu_has(X86_FEATURE_SVM) && READ_ONCE(to_kvm_svm(kvm)->sev_info.active);
#else
	return false;
#endif
}

/*
 * VMs of other types are encrypted.
 * KVM_SEV_INIT leaves the type as it is, and may come when there are slots.
 */
static bool kvm_gmem_provider_takes(struct kvm *kvm)
{
	return kvm_gmem_provider_allowed(kvm) && !kvm_gmem_provider_encrypted(kvm);
}

static bool kvm_gmem_in_file(const struct kvm_memory_slot *slot, struct file *file, u64 offset)
{
	return offset + ((u64)slot->npages << PAGE_SHIFT) <= i_size_read(file_inode(file));
}

/* The slot is not bound to the file yet, of which it has a reference. */
static void kvm_gmem_set_file(struct kvm_memory_slot *slot, struct file *file, pgoff_t pgoff)
{
	slot->gmem.pgoff = pgoff | KVM_GMEM_PROVIDER;
	WRITE_ONCE(slot->gmem.file, file);
}

/**
 * kvm_gmem_provider_prepare - a new slot is to have a file that user space names
 * @kvm: the VM
 * @slot: the slot, which guests cannot see yet
 * @file: the file, with a reference
 * @offset: where in it the slot begins
 *
 * Return: 0 if the file is not a provider's; 1 if it is, and the slot has the reference; or a
 * negative errno.
 */
int kvm_gmem_provider_prepare(struct kvm *kvm, struct kvm_memory_slot *slot,
			      struct file *file, u64 offset)
{
	if (!gmem_provider_of(file))
		return 0;
	if (!kvm_gmem_provider_takes(kvm))
		return -EOPNOTSUPP;
	if (!kvm_gmem_in_file(slot, file, offset))
		return -EINVAL;
	kvm_gmem_set_file(slot, file, offset >> PAGE_SHIFT);
	return 1;
}

/* The file that is mapped at @vma, if it is one whose slots need not name it. */
static struct file *kvm_gmem_mapped(struct vm_area_struct *vma, vm_flags_t flags)
{
	const struct gmem_provider *provider;

	if (!vma->vm_file || ~vma->vm_flags & flags)
		return NULL;
	provider = gmem_provider_of(vma->vm_file);
	return provider && provider->by_address(vma->vm_file) ? vma->vm_file : NULL;
}

/*
 * Is all of a new slot's userspace_addr a mapping of one file of the provider?  Then the slot
 * gets the file, and a reference to it, as if user space had named it.  mprotect() and
 * the like make several VMAs of a mapping.  [mmap_lock]
 */
static void kvm_gmem_find_mapped(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	unsigned long pos = slot->userspace_addr;
	unsigned long end = pos + (slot->npages << PAGE_SHIFT);
	vm_flags_t flags = VM_SHARED | VM_READ;
	struct vm_area_struct *vma;
	struct file *file = NULL;
	pgoff_t first = 0;

	VMA_ITERATOR(vmi, kvm->mm, pos);

	if (!(slot->flags & KVM_MEM_READONLY))
		flags |= VM_WRITE;
	for_each_vma_range(vmi, vma, end) {
		struct file *mapped = kvm_gmem_mapped(vma, flags);
		pgoff_t pgoff;

		if (!mapped || vma->vm_start > pos)
			return;
		pgoff = linear_page_index(vma, pos);
		if (!file) {
			file = mapped;
			first = pgoff;
		} else if (mapped != file || pgoff - first !=
			   (pos - slot->userspace_addr) >> PAGE_SHIFT) {
			return;
		}
		pos = vma->vm_end;
	}
	if (file && pos >= end && kvm_gmem_in_file(slot, file, (u64)first << PAGE_SHIFT))
		kvm_gmem_set_file(slot, get_file(file), first);
}

static void kvm_gmem_find_file(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	if (slot->id >= KVM_USER_MEM_SLOTS || !kvm_gmem_provider_takes(kvm))
		return;
	mmap_read_lock(kvm->mm);
	kvm_gmem_find_mapped(kvm, slot);
	mmap_read_unlock(kvm->mm);
}

/* The same memory elsewhere, or with other flags.  @old stays bound until it goes. */
static void kvm_gmem_inherit_file(struct kvm_memory_slot *slot, struct kvm_memory_slot *old)
{
	/* If the file has gone the new slot has none, either. */
	if (kvm_slot_has_provider(old))
		kvm_gmem_set_file(slot, get_file_active((struct file **)&old->gmem.file),
				  kvm_gmem_provider_pgoff(old));
}

static int kvm_gmem_bind_file(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	bool by_address = !(slot->flags & KVM_MEM_GUEST_MEMFD);
	struct gmem_slot args = {
		.kvm = kvm,
		.slot = slot,
		.file = (struct file **)&slot->gmem.file,
		.first = kvm_gmem_provider_pgoff(slot),
		.nr = slot->npages,
		.space = by_address ? -1 : slot->as_id,
		.logs_dirty = slot->flags & KVM_MEM_LOG_DIRTY_PAGES,
		.typed = kvm_arch_has_private_mem(kvm),
		.ops = &kvm_gmem_provider_ops,
	};

	return slot->gmem.file ? gmem_provider_of(*args.file)->bind(&args) : 0;
}

/**
 * kvm_gmem_prepare_region - do kvm_arch_prepare_memory_region(), and bind the slot to its file
 * @kvm: the VM
 * @old: the slot as it was, or NULL
 * @new: the slot as it will be, which nobody sees yet; or NULL
 * @change: what happens to the slot
 *
 * A slot is bound when it has everything that invalidations look at.
 *
 * Return: 0 or a negative errno.
 */
int kvm_gmem_prepare_region(struct kvm *kvm, const struct kvm_memory_slot *old,
			    struct kvm_memory_slot *new, enum kvm_mr_change change)
{
	unsigned long address;
	struct file *file;
	int ret;

	if (change == KVM_MR_MOVE || change == KVM_MR_FLAGS_ONLY)
		kvm_gmem_inherit_file(new, (struct kvm_memory_slot *)old);
	else if (change == KVM_MR_CREATE && !(new->flags & KVM_MEM_GUEST_MEMFD))
		kvm_gmem_find_file(kvm, new);
	if (!kvm_slot_has_provider(new))
		return kvm_arch_prepare_memory_region(kvm, old, new, change);

	/*
	 * Whether large pages fit is asked of the file's offset.  KVM asks the host's
	 * address, which is another one for the moment.
	 */
	file = new->gmem.file;
	address = new->userspace_addr;
	new->userspace_addr = kvm_gmem_provider_pgoff(new) << PAGE_SHIFT;
	ret = kvm_gmem_attributes_unset(kvm, new) ?
	      kvm_arch_prepare_memory_region(kvm, old, new, change) : -EINVAL;
	new->userspace_addr = address;
	if (!ret) {
		ret = kvm_gmem_bind_file(kvm, new);
		if (ret && change != KVM_MR_FLAGS_ONLY)
			kvm_arch_free_memslot(kvm, new);
	}
	/* From here on the file may go.  KVM drops a reference to a file that was named. */
	if (GMEM_HAS_COMMIT && new->flags & KVM_MEM_GUEST_MEMFD)
		return ret;
	if (ret)
		WRITE_ONCE(new->gmem.file, NULL);
	if (file)
		fput(file);
	return ret;
}

static void kvm_gmem_unbind_file(struct kvm_memory_slot *slot)
{
	gmem_provider_unbind(slot, (struct file **)&slot->gmem.file);
}

/**
 * kvm_gmem_commit_region - a slot has changed, or has gone
 * @old: the slot as it was, of which nothing is mapped any more unless there is one in its
 *	place; or NULL
 */
void kvm_gmem_commit_region(struct kvm_memory_slot *old)
{
	if (kvm_slot_has_provider(old))
		kvm_gmem_unbind_file(old);
}

/**
 * kvm_gmem_destroy_vm - a VM goes
 * @kvm: nobody has a reference to it, and nothing of it was destroyed yet
 *
 * From here on the provider does not invalidate anything of this VM.
 */
void kvm_gmem_destroy_vm(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	int i, bkt;

	for (i = 0; i < kvm_arch_nr_memslot_as_ids(kvm); i++) {
		kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, i)) {
			pgoff_t first = kvm_gmem_provider_pgoff(slot);

			if (!kvm_slot_has_provider(slot))
				continue;
			kvm_gmem_provider_invalidate(kvm, slot, first, first + slot->npages);
			kvm_gmem_unbind_file(slot);
		}
	}
}

/**
 * kvm_gmem_unmap_slot - take a slot from the guest, which looks its pages up again
 * @kvm: the VM
 * @slot: a slot on a provider's file
 *
 * When dirty logging ends small mappings become large ones.  How large they can be is not
 * asked of the file under mmu_lock, but by faults.
 */
void kvm_gmem_unmap_slot(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	kvm_gmem_unmap(kvm, slot, slot->base_gfn, slot->base_gfn + slot->npages);
}

/**
 * kvm_gmem_provider_get_pfn - what does a guest find?
 * @kvm: the VM
 * @file: the file of the slot
 * @slot: the slot
 * @gfn: a page of it
 * @pfn: out: the page frame, without a reference
 * @order: out: the aligned 2^*@order pages around it can be mapped at once
 *
 * Return: 0 or a negative errno.
 */
int kvm_gmem_provider_get_pfn(struct kvm *kvm, struct file *file,
			      const struct kvm_memory_slot *slot, gfn_t gfn,
			      kvm_pfn_t *pfn, int *order)
{
	if (!kvm_gmem_provider_takes(kvm))
		return -EOPNOTSUPP;
	return gmem_provider_of(file)->get_pfn(file, gfn - slot->base_gfn +
					       kvm_gmem_provider_pgoff(slot),
					       kvm_arch_has_private_mem(kvm), pfn, order);
}

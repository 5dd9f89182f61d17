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
#include <linux/vmalloc.h>

#include "../kvm_mm.h"
#include "compat.h"
#include "provider.h"

#ifdef CONFIG_KVM_AMD_SEV
#include "svm/svm.h"
#endif

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
							   slot->gmem.pgoff, &pfn);
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
	unsigned long address = slot->userspace_addr - (slot->gmem.pgoff << PAGE_SHIFT);
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

static void kvm_gmem_provider_invalidate_begin(struct kvm *kvm,
					       struct kvm_memory_slot *slot,
					       pgoff_t start, pgoff_t end)
{
	const gfn_t huge = KVM_PAGES_PER_HPAGE(KVM_MAX_HUGEPAGE_LEVEL);
	struct kvm_gfn_range range = {
		.start = slot->base_gfn + start - slot->gmem.pgoff,
		.end = slot->base_gfn + end - slot->gmem.pgoff,
		.slot = slot,
		.may_block = true,
		.attr_filter = KVM_FILTER_SHARED | KVM_FILTER_PRIVATE,
	};

	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_start(kvm);
	/* A fault beside the range may be about to map all of a huge page. */
	kvm_mmu_invalidate_range_add(kvm, round_down(range.start, huge),
				     round_up(range.end, huge));
	if (kvm_mmu_unmap_gfn_range(kvm, &range))
		kvm_flush_remote_tlbs(kvm);
	KVM_MMU_UNLOCK(kvm);
	kvm_arch_guest_memory_reclaimed(kvm);
	kvm_gmem_provider_drop_caches(kvm, slot, start, end);
}

static void kvm_gmem_provider_invalidate_end(struct kvm *kvm)
{
	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);
}

static void kvm_gmem_provider_lock(struct kvm *kvm)
{
	mutex_lock(&kvm->slots_lock);
}

static void kvm_gmem_provider_unlock(struct kvm *kvm)
{
	mutex_unlock(&kvm->slots_lock);
}

static void kvm_gmem_provider_forget(struct kvm_memory_slot *slot)
{
	WRITE_ONCE(slot->gmem.file, NULL);
}

static struct gmem_kvm_ops kvm_gmem_provider_ops = {
	.get			= kvm_get_kvm_safe,
	.put			= kvm_put_kvm,
	.invalidate_begin	= kvm_gmem_provider_invalidate_begin,
	.invalidate_end		= kvm_gmem_provider_invalidate_end,
	.drop_caches		= kvm_gmem_provider_drop_caches,
	.lock			= kvm_gmem_provider_lock,
	.unlock			= kvm_gmem_provider_unlock,
	.forget			= kvm_gmem_provider_forget,
};

/**
 * kvm_gmem_provider_init - prepare for slots on a provider's files
 * @module: kvm-amd or kvm-intel, which must stay while KVM's functions run
 */
void kvm_gmem_provider_init(struct module *module)
{
	kvm_gmem_provider_ops.owner = module;
}

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
 * VMs of other types are encrypted, or have their own idea of what is private.
 * KVM_SEV_INIT leaves the type as it is, and may come when there are slots.
 */
static bool kvm_gmem_provider_takes(struct kvm *kvm)
{
	return kvm_gmem_provider_allowed(kvm) && !kvm_gmem_provider_encrypted(kvm);
}

/**
 * kvm_gmem_provider_prepare - a new slot is to have a file
 * @kvm: the VM
 * @slot: the slot, which guests cannot see yet
 * @file: the file, with a reference
 * @offset: where in it the slot begins
 *
 * Return: 0 if the file is not a provider's; 1 if it is, and the reference will be
 * dropped when the slot is bound; or a negative errno.
 */
int kvm_gmem_provider_prepare(struct kvm *kvm, struct kvm_memory_slot *slot,
			      struct file *file, u64 offset)
{
	u64 size = (u64)slot->npages << PAGE_SHIFT;

	if (!gmem_provider_of(file))
		return 0;
	if (!kvm_gmem_provider_takes(kvm))
		return -EOPNOTSUPP;
	if (offset + size > i_size_read(file_inode(file)))
		return -EINVAL;

	slot->flags |= KVM_MEMSLOT_GMEM_ONLY | KVM_MEMSLOT_GMEM_PROVIDER;
	slot->gmem.pgoff = offset >> PAGE_SHIFT;
	WRITE_ONCE(slot->gmem.file, file);
	return 1;
}

/**
 * kvm_gmem_provider_bind - bind a slot to its file
 * @kvm: the VM
 * @slot: has everything that invalidations look at, and guests cannot see it yet
 *
 * Return: 0 or a negative errno.
 */
int kvm_gmem_provider_bind(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	struct file *file = slot->gmem.file;

	return gmem_provider_of(file)->bind(file, kvm, slot, slot->gmem.pgoff,
					    slot->npages, &kvm_gmem_provider_ops);
}

#if !GMEM_HAS_COMMIT
/**
 * kvm_gmem_provider_bound - drop the reference to the file
 * @slot: installed, so that the file may go from here on
 * @err: or why it was not, and then it is not bound
 */
void kvm_gmem_provider_bound(struct kvm_memory_slot *slot, int err)
{
	struct file *file = slot->gmem.file;

	if (err)
		WRITE_ONCE(slot->gmem.file, NULL);
	fput(file);
}
#endif

/**
 * kvm_gmem_provider_unbind - the slot goes
 * @slot: not mapped any more
 *
 * The file's release waits for slots_lock, or for this call if the VM is being
 * destroyed.
 */
void kvm_gmem_provider_unbind(struct kvm_memory_slot *slot)
{
	struct file *file = slot->gmem.file;

	if (file)
		gmem_provider_of(file)->unbind(file, slot);
	WRITE_ONCE(slot->gmem.file, NULL);
}

/**
 * kvm_gmem_provider_get_pfn - what does a guest find?
 * @kvm: the VM
 * @file: the file of the slot
 * @index: page of the file
 * @pfn: out: the page frame, without a reference
 * @order: out: the aligned 2^*@order pages around it can be mapped at once
 *
 * Return: 0 or a negative errno.
 */
int kvm_gmem_provider_get_pfn(struct kvm *kvm, struct file *file, pgoff_t index,
			      kvm_pfn_t *pfn, int *order)
{
	if (!kvm_gmem_provider_takes(kvm))
		return -EOPNOTSUPP;
	return gmem_provider_of(file)->get_pfn(file, index, pfn, order);
}

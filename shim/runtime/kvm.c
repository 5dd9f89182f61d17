// SPDX-License-Identifier: GPL-2.0
/*
 * What the shim's patches have KVM call, see shim/README.md.
 */
#include <linux/file.h>
#include <linux/kvm_host.h>

#include "../kvm/compat.h"
#include "../kvm/provider.h"
#include "checks.h"
#include "hook.h"
#include "kvm_mm.h"
#include "kvm_symbols.h"
#include "kvm_page_fault.h"
#ifdef CONFIG_KVM_AMD_SEV
#include "kvm_amd.h"
#endif

/* --- slots on a provider's files --------------------------------------------- */

/* kvm-amd's own structure is looked at, see kvm_gmem_provider_encrypted(). */
static bool gmem_vendor_fits(const struct module *vendor)
{
#ifdef CONFIG_KVM_AMD_SEV
	static const u8 built_for[] = { GMEM_KVM_AMD_BUILD_ID };

	return !boot_cpu_has(X86_FEATURE_SVM) || gmem_module_fits(vendor, built_for);
#else
	return true;
#endif
}

/*
 * Return: 1 if the file is a provider's, whose reference the slot has now; 0 if not; or a
 * negative errno.
 */
static int gmem_prepare(struct kvm *kvm, struct kvm_memory_slot *slot, unsigned int fd,
			uoff_t offset)
{
	struct file *file = fget(fd);
	int ret = 0;

	if (!file)
		return 0;
	/* There is a VM, so that kvm-amd or kvm-intel is there and stays. */
	kvm_gmem_provider_init(kvm_gmem_fops.owner);
	if (gmem_vendor_fits(kvm_gmem_fops.owner))
		ret = kvm_gmem_provider_prepare(kvm, slot, file, offset);
	if (ret <= 0)
		fput(file);
	return ret;
}

/* Each slot keeps this module. */
static int gmem_bind(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	int ret;

	__module_get(THIS_MODULE);
	ret = kvm_gmem_provider_bind(kvm, slot);
	if (ret)
		module_put(THIS_MODULE);
	return ret;
}

#if GMEM_HAS_COMMIT

static int gmem_run_kvm_gmem_prepare_memory_region(struct kvm *kvm,
						   struct kvm_memory_slot *slot,
						   unsigned int fd, uoff_t offset)
{
	int ret = gmem_prepare(kvm, slot, fd, offset);

	if (!ret)
		ret = kvm_gmem_prepare_memory_region(kvm, slot, fd, offset);
	gmem_leave();
	return min(ret, 0);
}

GMEM_ENTER(kvm_gmem_prepare_memory_region)
{
	if (!gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_gmem_prepare_memory_region);
}

static int gmem_run_kvm_gmem_commit_memory_region(struct kvm *kvm,
						  struct kvm_memory_slot *slot)
{
	int ret = gmem_bind(kvm, slot);

	gmem_leave();
	return ret;
}

GMEM_ENTER(kvm_gmem_commit_memory_region)
{
	if (kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 1)))
		gmem_redirect(gmem_run_kvm_gmem_commit_memory_region);
}

static int gmem_bind_prepared(struct kvm *kvm, struct kvm_memory_slot *slot, int err)
{
	return err;
}

#else

static int gmem_run_kvm_gmem_bind(struct kvm *kvm, struct kvm_memory_slot *slot,
				  unsigned int fd, uoff_t offset)
{
	int ret = gmem_prepare(kvm, slot, fd, offset);

	if (!ret)
		ret = kvm_gmem_bind(kvm, slot, fd, offset);
	gmem_leave();
	return min(ret, 0);
}

GMEM_ENTER(kvm_gmem_bind)
{
	if (!gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_gmem_bind);
}

/*
 * The architecture has prepared a slot, which is bound now, or failed with @err.  In that
 * case nothing of ours may stay: KVM unbinds it.
 */
static int gmem_bind_prepared(struct kvm *kvm, struct kvm_memory_slot *slot, int err)
{
	if (!err) {
		err = gmem_bind(kvm, slot);
		if (err)
			kvm_arch_free_memslot(kvm, slot);
	}
	if (err) {
		kvm_gmem_provider_bound(slot, err);
		slot->flags &= ~KVM_MEMSLOT_GMEM_PROVIDER;
	}
	return err;
}

static void gmem_run_kvm_arch_commit_memory_region(struct kvm *kvm,
						   struct kvm_memory_slot *old,
						   const struct kvm_memory_slot *new,
						   enum kvm_mr_change change)
{
	kvm_gmem_provider_bound((struct kvm_memory_slot *)new, 0);
	kvm_arch_commit_memory_region(kvm, old, new, change);
	gmem_leave();
}

/* The slot is installed. */
GMEM_ENTER(kvm_arch_commit_memory_region)
{
	if (GMEM_ARG(enum kvm_mr_change, 3) == KVM_MR_CREATE &&
	    kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 2)) &&
	    !gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_arch_commit_memory_region);
}

#endif

static void gmem_run_kvm_gmem_unbind(struct kvm_memory_slot *slot)
{
	kvm_gmem_provider_unbind(slot);
	module_put(THIS_MODULE);
	gmem_leave();
}

GMEM_ENTER(kvm_gmem_unbind)
{
	if (kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 0)))
		gmem_redirect(gmem_run_kvm_gmem_unbind);
}

/* --- what a guest finds ------------------------------------------------------- */

static int gmem_run_kvm_gmem_get_pfn(struct kvm *kvm, struct kvm_memory_slot *slot,
				     gfn_t gfn, kvm_pfn_t *pfn, struct page **page,
				     int *max_order)
{
	/* The last reference may be gone, and the file on its way to release. */
	struct file *file = get_file_active(&slot->gmem.file);
	int ret = -EFAULT, order;

	if (file) {
		*page = NULL;
		ret = kvm_gmem_provider_get_pfn(kvm, file,
						gfn - slot->base_gfn + slot->gmem.pgoff,
						pfn, max_order ?: &order);
		fput(file);
	}
	gmem_leave();
	return ret;
}

GMEM_ENTER(kvm_gmem_get_pfn)
{
	if (kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 1)))
		gmem_redirect(gmem_run_kvm_gmem_get_pfn);
}

/* The smaller of what the fault allows and what the file says is mapped. */
static int gmem_run_kvm_mmu_faultin_pfn(struct kvm_vcpu *vcpu,
					struct kvm_page_fault *fault, unsigned int access)
{
	u8 max_level = fault->max_level;
	int ret = kvm_mmu_faultin_pfn(vcpu, fault, access);

	fault->max_level = min(fault->max_level, max_level);
	gmem_leave();
	return ret;
}

GMEM_ENTER(kvm_mmu_faultin_pfn)
{
	struct kvm_page_fault *fault = GMEM_ARG(struct kvm_page_fault *, 1);

	if (kvm_slot_has_provider(fault->slot) && !gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_mmu_faultin_pfn);
}

/* --- what the host has mapped means nothing to such a slot ---------------------- */

static bool gmem_run_kvm_unmap_gfn_range(struct kvm *kvm, struct kvm_gfn_range *range)
{
	gmem_leave();
	return false;
}

/*
 * MMU notifiers ask for shared memory only.  The provider, and who deletes a slot, ask for
 * all.
 */
GMEM_ENTER(kvm_unmap_gfn_range)
{
	struct kvm_gfn_range *range = GMEM_ARG(struct kvm_gfn_range *, 1);

	if (kvm_slot_has_provider(range->slot) &&
	    !(range->attr_filter & KVM_FILTER_PRIVATE))
		gmem_redirect(gmem_run_kvm_unmap_gfn_range);
}

static int gmem_run_kvm_prefetch_pages(struct kvm_memory_slot *slot, gfn_t gfn,
				       struct page **pages, int nr_pages)
{
	gmem_leave();
	return 0;
}

GMEM_ENTER(kvm_prefetch_pages)
{
	if (kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 0)))
		gmem_redirect(gmem_run_kvm_prefetch_pages);
}

/*
 * Whether large pages fit is asked of the file's offset.  KVM asks the host's address,
 * which is another one for the moment: nobody sees @new yet.
 */
static int gmem_run_kvm_arch_prepare_memory_region(struct kvm *kvm,
						   const struct kvm_memory_slot *old,
						   struct kvm_memory_slot *new,
						   enum kvm_mr_change change)
{
	unsigned long address = new->userspace_addr;
	int ret;

	new->userspace_addr = new->gmem.pgoff << PAGE_SHIFT;
	ret = kvm_arch_prepare_memory_region(kvm, old, new, change);
	new->userspace_addr = address;
	ret = gmem_bind_prepared(kvm, new, ret);
	gmem_leave();
	return ret;
}

GMEM_ENTER(kvm_arch_prepare_memory_region)
{
	if (GMEM_ARG(enum kvm_mr_change, 3) == KVM_MR_CREATE &&
	    kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 2)) &&
	    !gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_arch_prepare_memory_region);
}

/* The last one is what makes slots that concern the others. */
static struct gmem_hook gmem_kvm_hooks[] = {
#if GMEM_HAS_COMMIT
	GMEM_HOOK(kvm_gmem_commit_memory_region),
#else
	GMEM_HOOK(kvm_arch_commit_memory_region),
#endif
	GMEM_HOOK(kvm_gmem_unbind),
	GMEM_HOOK(kvm_gmem_get_pfn),
	GMEM_HOOK(kvm_mmu_faultin_pfn),
	GMEM_HOOK(kvm_unmap_gfn_range),
	GMEM_HOOK(kvm_prefetch_pages),
	GMEM_HOOK(kvm_arch_prepare_memory_region),
#if GMEM_HAS_COMMIT
	GMEM_HOOK(kvm_gmem_prepare_memory_region),
#else
	GMEM_HOOK(kvm_gmem_bind),
#endif
};

/**
 * gmem_kvm_hook - hook KVM
 *
 * Return: 0 or a negative errno.
 */
int gmem_kvm_hook(void)
{
	return gmem_hook_all(gmem_kvm_hooks, ARRAY_SIZE(gmem_kvm_hooks));
}

/**
 * gmem_kvm_unhook - undo gmem_kvm_hook()
 */
void gmem_kvm_unhook(void)
{
	gmem_unhook_all(gmem_kvm_hooks, ARRAY_SIZE(gmem_kvm_hooks));
}

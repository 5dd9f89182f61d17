// SPDX-License-Identifier: GPL-2.0
/*
 * What the shim's patches have KVM call, see shim/README.md.
 */
#include <linux/file.h>
#include <linux/kvm_host.h>
#include <linux/sched/signal.h>

#include "../kvm/compat.h"
#include "../kvm/provider.h"
#include "checks.h"
#include "hook.h"
#include "kvm_mm.h"
#include "kvm_symbols.h"
#include "kvm_page_fault.h"
#include "kvm_fault_results.h"
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
	if (gmem_vendor_fits(kvm_gmem_fops.owner))
		ret = kvm_gmem_provider_prepare(kvm, slot, file, offset);
	if (ret <= 0)
		fput(file);
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

/* Such a slot was bound when it was prepared. */
static int gmem_run_kvm_gmem_commit_memory_region(struct kvm *kvm,
						  struct kvm_memory_slot *slot)
{
	gmem_leave();
	return 0;
}

GMEM_ENTER(kvm_gmem_commit_memory_region)
{
	if (kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 1)))
		gmem_redirect(gmem_run_kvm_gmem_commit_memory_region);
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

#endif

/* Each new slot may be found to lie in a mapping of a provider's file. */
static int gmem_run_kvm_arch_prepare_memory_region(struct kvm *kvm,
						   const struct kvm_memory_slot *old,
						   struct kvm_memory_slot *new,
						   enum kvm_mr_change change)
{
	int ret;

	if (change != KVM_MR_CREATE || kvm_slot_has_provider(new) ||
	    gmem_vendor_fits(kvm_gmem_fops.owner))
		ret = kvm_gmem_prepare_region(kvm, old, new, change);
	else
		ret = kvm_arch_prepare_memory_region(kvm, old, new, change);
	gmem_leave();
	return ret;
}

GMEM_ENTER(kvm_arch_prepare_memory_region)
{
	enum kvm_mr_change change = GMEM_ARG(enum kvm_mr_change, 3);

	if ((change == KVM_MR_CREATE ||
	     (change != KVM_MR_DELETE &&
	      kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 1)))) &&
	    !gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_arch_prepare_memory_region);
}

static void gmem_run_kvm_arch_commit_memory_region(struct kvm *kvm,
						   struct kvm_memory_slot *old,
						   const struct kvm_memory_slot *new,
						   enum kvm_mr_change change)
{
	kvm_arch_commit_memory_region(kvm, old, new, change);
	kvm_gmem_commit_region(old);
	gmem_leave();
}

GMEM_ENTER(kvm_arch_commit_memory_region)
{
	if (kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 1)) &&
	    !gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_arch_commit_memory_region);
}

static void gmem_run_kvm_arch_pre_destroy_vm(struct kvm *kvm)
{
	kvm_arch_pre_destroy_vm(kvm);
	kvm_gmem_destroy_vm(kvm);
	gmem_leave();
}

GMEM_ENTER(kvm_arch_pre_destroy_vm)
{
	if (!gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_arch_pre_destroy_vm);
}

/* --- what a guest finds ------------------------------------------------------- */

/* gmem_run_kvm_mmu_faultin_pfn() calls, and has a reference to the file, if it is still there. */
static int gmem_run_kvm_gmem_get_pfn(struct kvm *kvm, struct kvm_memory_slot *slot,
				     gfn_t gfn, kvm_pfn_t *pfn, struct page **page,
				     int *max_order)
{
	struct file *file = slot->gmem.file;
	int ret = -EFAULT;

	*page = NULL;
	if (file)
		ret = kvm_gmem_provider_get_pfn(kvm, file, slot, gfn, pfn, max_order);
	gmem_leave();
	return ret;
}

GMEM_ENTER(kvm_gmem_get_pfn)
{
	if (kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 1)))
		gmem_redirect(gmem_run_kvm_gmem_get_pfn);
}

/*
 * A slot as KVM wants to see it, so that it asks the file and not the host's page tables, and
 * only while one of its functions runs.  To the slot itself KVM compares what user space says.
 */
static struct kvm_memory_slot *gmem_look_at(struct kvm_memory_slot *view,
					    const struct kvm_memory_slot *slot)
{
	*view = *slot;
	view->flags |= KVM_MEM_GUEST_MEMFD | KVM_MEMSLOT_GMEM_ONLY;
	return view;
}

/* As the patch: the guest of a VMM that knows of no gmem has what other memory has. */
static int gmem_fault_failed(struct kvm_memory_slot *slot, gfn_t gfn, int err)
{
	if (err != -EHWPOISON || slot->flags & KVM_MEM_GUEST_MEMFD)
		return err;
	send_sig_mceerr(BUS_MCEERR_AR, (void __user *)__gfn_to_hva_memslot(slot, gfn),
			PAGE_SHIFT, current);
	return RET_PF_RETRY;
}

/* The smaller of what the fault allows and what the file says is mapped. */
static int gmem_run_kvm_mmu_faultin_pfn(struct kvm_vcpu *vcpu,
					struct kvm_page_fault *fault, unsigned int access)
{
	struct kvm_memory_slot *slot = fault->slot, view;
	u8 max_level = fault->max_level;
	int ret;

	if (fault->write && slot->flags & KVM_MEM_READONLY) {
		ret = RET_PF_EMULATE;
		goto out;
	}
	fault->slot = gmem_look_at(&view, slot);
	/* The last reference may be gone, and the file on its way to release. */
	view.gmem.file = get_file_active(&slot->gmem.file);
	ret = kvm_mmu_faultin_pfn(vcpu, fault, access);
	if (view.gmem.file)
		fput(view.gmem.file);
	fault->slot = slot;
	fault->max_level = min(fault->max_level, max_level);
	if (ret < 0)
		ret = gmem_fault_failed(slot, fault->gfn, ret);
out:
	gmem_leave();
	return ret;
}

GMEM_ENTER(kvm_mmu_faultin_pfn)
{
	struct kvm_page_fault *fault = GMEM_ARG(struct kvm_page_fault *, 1);

	if (kvm_slot_has_provider(fault->slot) &&
	    !(fault->slot->flags & KVM_MEMSLOT_INVALID) && !gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_mmu_faultin_pfn);
}

static void gmem_run_kvm_mmu_hugepage_adjust(struct kvm_vcpu *vcpu,
					     struct kvm_page_fault *fault)
{
	struct kvm_memory_slot *slot = fault->slot, view;

	fault->slot = gmem_look_at(&view, slot);
	kvm_mmu_hugepage_adjust(vcpu, fault);
	fault->slot = slot;
	gmem_leave();
}

GMEM_ENTER(kvm_mmu_hugepage_adjust)
{
	struct kvm_page_fault *fault = GMEM_ARG(struct kvm_page_fault *, 1);

	if (kvm_slot_has_provider(fault->slot) && !gmem_from_us(parent))
		gmem_redirect(gmem_run_kvm_mmu_hugepage_adjust);
}

static void gmem_run_kvm_mmu_recover_huge_pages(struct kvm *kvm,
						const struct kvm_memory_slot *slot)
{
	kvm_gmem_unmap_slot(kvm, slot);
	gmem_leave();
}

GMEM_ENTER(kvm_mmu_recover_huge_pages)
{
	if (kvm_slot_has_provider(GMEM_ARG(struct kvm_memory_slot *, 1)))
		gmem_redirect(gmem_run_kvm_mmu_recover_huge_pages);
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

/* The last two are what makes slots that concern the others. */
static struct gmem_hook gmem_kvm_hooks[] = {
#if GMEM_HAS_COMMIT
	GMEM_HOOK(kvm_gmem_commit_memory_region),
#endif
	GMEM_HOOK(kvm_gmem_get_pfn),
	GMEM_HOOK(kvm_mmu_faultin_pfn),
	GMEM_HOOK(kvm_mmu_hugepage_adjust),
	GMEM_HOOK(kvm_mmu_recover_huge_pages),
	GMEM_HOOK(kvm_unmap_gfn_range),
	GMEM_HOOK(kvm_prefetch_pages),
	GMEM_HOOK(kvm_arch_pre_destroy_vm),
	GMEM_HOOK(kvm_arch_commit_memory_region),
	GMEM_HOOK(kvm_arch_prepare_memory_region),
#if GMEM_HAS_COMMIT
	GMEM_HOOK(kvm_gmem_prepare_memory_region),
#else
	GMEM_HOOK(kvm_gmem_bind),
#endif
};

/* What kvm exports is linked to, which keeps it. */
static void (*const gmem_kvm_stays)(struct kvm *kvm) __used = kvm_get_kvm;

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

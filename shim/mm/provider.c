// SPDX-License-Identifier: GPL-2.0
/*
 * The user of the shim, and the calls from core mm that go to it.
 */
#include <linux/fs.h>
#include <linux/rcupdate.h>
#include <linux/rwsem.h>

#include "compat.h"

static const struct gmem_provider __rcu *gmem_provider;
static DECLARE_RWSEM(gmem_provider_sem);	/* for callbacks that sleep */

static_assert(GMEM_PAGE_TYPE > GMEM_LAST_PAGE_TYPE &&
	      GMEM_PAGE_TYPE < PGTY_mapcount_underflow);

/* See mm/gup.c and mm/huge_memory.c, which a module cannot change. */
const unsigned int gmem_special_order = GMEM_SPECIAL_ORDER;
EXPORT_SYMBOL_GMEM(gmem_special_order);

/**
 * gmem_shim_register - announce the user of the shim
 * @abi: GMEM_SHIM_ABI of the header that the caller was built with
 * @provider: must stay until gmem_shim_unregister()
 *
 * Return: 0, -EBUSY if somebody is registered, -EINVAL for another ABI, -EPERM if the
 * caller is another module than the shim is for.
 */
int gmem_shim_register(unsigned int abi, const struct gmem_provider *provider)
{
	if (!gmem_is_for_caller(_RET_IP_))
		return -EPERM;
	if (abi != GMEM_SHIM_ABI)
		return -EINVAL;
	if (unrcu_pointer(cmpxchg(&gmem_provider, NULL, RCU_INITIALIZER(provider))))
		return -EBUSY;
	return 0;
}
EXPORT_SYMBOL_GMEM(gmem_shim_register);

/**
 * gmem_shim_unregister - the user of the shim goes
 *
 * By now the last marked folio is home and the last file is gone.  When this returns
 * no callback is running any more.
 */
void gmem_shim_unregister(void)
{
	scoped_guard(rwsem_write, &gmem_provider_sem)
		RCU_INIT_POINTER(gmem_provider, NULL);
	synchronize_rcu();
}
EXPORT_SYMBOL_GMEM(gmem_shim_unregister);

/**
 * __gmem_folio_free - give a marked folio to its owner
 * @folio: its refcount is 0 and nobody else can find it
 *
 * Works in any context.
 */
void __gmem_folio_free(struct folio *folio)
{
	const struct gmem_provider *provider;

	rcu_read_lock();
	provider = rcu_dereference(gmem_provider);
	if (!WARN_ON_ONCE(!provider))	/* a leak is better than freeing a piece */
		provider->folio_free(folio);
	rcu_read_unlock();
}

/**
 * gmem_memory_failure - does a page with a memory error belong to the provider?
 * @page: the page
 * @flags: memory_failure()'s, which calls this with mf_mutex held
 *
 * Return: -ENOENT if not, otherwise what memory_failure() returns.
 */
int gmem_memory_failure(struct page *page, int flags)
{
	const struct gmem_provider *provider;

	guard(rwsem_read)(&gmem_provider_sem);
	provider = rcu_access_pointer(gmem_provider);
	return provider ? provider->memory_failure(page, flags) : -ENOENT;
}

/**
 * gmem_provider_of - may memslots be bound to this file?
 * @file: a file that is not freed meanwhile
 *
 * Exported to kvm.
 *
 * Return: the file's provider, which stays as long as the file does, or NULL.
 */
const struct gmem_provider *gmem_provider_of(struct file *file)
{
	const struct gmem_provider *provider;

	rcu_read_lock();
	provider = rcu_dereference(gmem_provider);
	if (provider && file->f_op != provider->fops)
		provider = NULL;
	rcu_read_unlock();
	return provider;
}
EXPORT_SYMBOL_GMEM_TO(gmem_provider_of, "kvm");

/**
 * gmem_provider_unbind - a memslot loses its file
 * @slot: a slot that was bound to a provider's file
 * @file: the slot's, which may be closed at the same time
 *
 * Exported to kvm.  When this returns *@file is NULL, and nobody knows the slot any more.
 */
void gmem_provider_unbind(struct kvm_memory_slot *slot, struct file **file)
{
	const struct gmem_provider *provider;

	/* Who has closed the last file may be unloaded. */
	guard(rwsem_read)(&gmem_provider_sem);
	provider = rcu_access_pointer(gmem_provider);
	if (provider)
		provider->unbind(slot, file);
}
EXPORT_SYMBOL_GMEM_TO(gmem_provider_unbind, "kvm");

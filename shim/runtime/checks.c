// SPDX-License-Identifier: GPL-2.0
/*
 * Is this the kernel that the shim was built for?  The loader compares the release, which
 * a rebuilt kernel may have as well.
 */
#define pr_fmt(fmt) "gmemfd_shim: " fmt

#include <linux/buildid.h>
#include <linux/elf.h>
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "checks.h"
#include "build_ids.h"
#ifdef GMEM_RUNTIME_KVM
#include <linux/kvm_host.h>
#include "module_notes_attrs.h"
#include "kvm_symbols.h"
#endif

extern unsigned char vmlinux_build_id[];

static bool gmem_build_id_fits(const char *what, const u8 *built_for, const u8 *found)
{
	/* The tests change this constant, too. */
	OPTIMIZER_HIDE_VAR(built_for);
	if (!memcmp(found, built_for, BUILD_ID_SIZE_MAX))
		return true;
	pr_err("refused: built for another build of %s (%20phN, this is %20phN)\n", what,
	       built_for, found);
	return false;
}

#ifdef GMEM_RUNTIME_KVM
/* The build id of a module, as /sys/module/MODULE/notes shows it, or NULL. */
static const u8 *gmem_module_build_id(const struct module *mod)
{
	const struct bin_attribute *const *note;

	if (!mod || !mod->notes_attrs)
		return NULL;
	for (note = mod->notes_attrs->grp.bin_attrs; *note; note++) {
		if (!strcmp((*note)->attr.name, ".note.gnu.build-id") &&
		    (*note)->size >= sizeof(struct elf_note) + 4 + BUILD_ID_SIZE_MAX)
			return (*note)->private + sizeof(struct elf_note) + 4;
	}
	return NULL;
}

/**
 * gmem_module_fits - is this the module that the shim was built for?
 * @mod: a module that does not go meanwhile
 * @built_for: its build id
 *
 * Return: whether it is.  If not the log says so.
 */
bool gmem_module_fits(const struct module *mod, const u8 *built_for)
{
	const u8 *found = gmem_module_build_id(mod);

	if (found)
		return gmem_build_id_fits(mod->name, built_for, found);
	pr_err("refused: a module of KVM does not tell its build id\n");
	return false;
}

static bool gmem_kvm_fits(void)
{
	static const u8 built_for[] = { GMEM_KVM_BUILD_ID };

	/* We link to kvm, so that it does not go meanwhile. */
	guard(rcu)();
	return gmem_module_fits(__module_address((unsigned long)kvm_gmem_get_pfn), built_for);
}
#else
static bool gmem_kvm_fits(void)
{
	return true;
}
#endif

/**
 * gmem_check_kernel - is this the kernel that the shim was built for?
 *
 * Return: 0 or -ENOEXEC, and then the log says why.
 */
int gmem_check_kernel(void)
{
	static const u8 built_for[] = { GMEM_VMLINUX_BUILD_ID };

	if (!gmem_build_id_fits("the kernel", built_for, vmlinux_build_id) ||
	    !gmem_kvm_fits())
		return -ENOEXEC;
	return 0;
}

/*
 * A function begins, perhaps, with ENDBR64, or with what the kernel writes over those that
 * it does not need.  Then comes the place that belongs to ftrace: its nop, or a call if the
 * function is hooked or traced.
 */
static const u8 gmem_entries[] = {
	0xf3, 0x0f, 0x1e, 0xfa,			/* ENDBR64 */
	0x0f, 0x1f, 0x40, 0xd6,			/* what is written over it */
	0x66, 0x0f, 0x1f, 0x00,			/* what Linux 6.12 writes */
	0x0f, 0x1f, 0x44, 0x00, 0x00,		/* ftrace's nop */
};

/* The tests change these constants in the module's file: they must not become code. */
static const u8 *gmem_entry_bytes(void)
{
	const u8 *bytes = gmem_entries;

	OPTIMIZER_HIDE_VAR(bytes);
	return bytes;
}

/**
 * gmem_ftrace_place - where does ftrace see who enters a function?
 * @function: the function
 *
 * Return: the place that belongs to ftrace.
 */
const u8 *gmem_ftrace_place(const void *function)
{
	const u8 *bytes = gmem_entry_bytes();
	unsigned int i;

	for (i = 0; i < 3; i++) {
		if (!memcmp(function, bytes + 4 * i, 4))
			return function + 4;
	}
	return function;
}

/**
 * gmem_entry_is_call - does ftrace see who enters a function?
 * @function: the function
 *
 * Return: whether it does, for us or for others.
 */
bool gmem_entry_is_call(const void *function)
{
	return READ_ONCE(*gmem_ftrace_place(function)) == 0xe8;
}

/**
 * gmem_entry_fits - does a function begin as the compiler made it?
 * @function: the function
 *
 * Return: whether it does.
 */
bool gmem_entry_fits(const void *function)
{
	return gmem_entry_is_call(function) ||
	       !memcmp(gmem_ftrace_place(function), gmem_entry_bytes() + 12, 5);
}

/**
 * gmem_tracing_is_on - is ftrace in use?
 *
 * Return: what the sysctl kernel.ftrace_enabled says.
 */
bool gmem_tracing_is_on(void)
{
	return READ_ONCE(ftrace_enabled);
}

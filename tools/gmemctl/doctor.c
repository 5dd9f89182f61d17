// SPDX-License-Identifier: GPL-2.0
/*
 * Can this kernel run gmemfd, what is missing, and what to do about it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gmemctl.h"

/* FAIL: gmemfd does not work; NOTE: it does, but something is as it need not be. */
enum verdict { OK, NOTE, FAIL };

static struct json_object *checks;
static unsigned int nr_failed;
static char *failed_names;

__attribute__((format(printf, 4, 5)))
static struct json_object *check(const char *name, enum verdict verdict, const char *advice,
				 const char *fmt, ...)
{
	static const char * const names[] = { "ok", "note", "fail" };
	static const char * const colours[] = { "\033[32m", "\033[33m", "\033[31m" };
	struct json_object *object = json_object_new_object();
	bool colour = use_colour();
	char *found, *before;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&found, fmt, ap) < 0)
		abort();
	va_end(ap);
	put_string(object, "check", name);
	put_string(object, "status", names[verdict]);
	put_string(object, "found", found);
	put_string(object, "advice", advice);
	json_object_array_add(checks, object);
	if (verdict == FAIL) {
		nr_failed++;
		before = failed_names;
		failed_names = before ? format("%s, %s", before, name) : format("%s", name);
		free(before);
	}
	if (!as_json) {
		printf("%s%-4s%s  %-10s  %s\n", colour ? colours[verdict] : "", names[verdict],
		       colour ? "\033[0m" : "", name, found);
		if (advice)
			printf("                  -> %s\n", advice);
	}
	free(found);
	return object;
}

/* Says whether the shim can be there, be it built in or a module. */
static enum answer check_shim(const struct module *module, enum answer built_in, int abi,
			      const char *source)
{
	char *refusal = built_in == YES || shim_is_loaded(module) ? NULL : shim_refusal(module);
	char *others = NULL, *advice = NULL;
	struct json_object *object;
	enum answer shim = YES;

	if (built_in == YES && abi >= 0) {
		object = check("shim", OK, NULL, "this kernel has the shim, version %d, says %s",
			       abi, source);
	} else if (built_in == YES) {
		object = check("shim", OK, NULL,
			       "this kernel has the shim; its version shows when gmemfd is loaded, or by the kernel's headers");
	} else if (refusal) {
		object = check("shim", FAIL, refusal_advice(refusal), "%s: %s", module->shim ?
			       SHIM_MODULE " was refused by this kernel" :
			       SHIM_MODULE " was not built for this kernel", refusal);
		shim = NO;
	} else if (module->shim) {
		object = check("shim", OK, NULL, "this kernel's shim is a module, %s, %sloaded",
			       kmod_module_get_path(module->shim),
			       shim_is_loaded(module) ? "" : "not ");
	} else if (built_in == UNKNOWN) {
		object = check("shim", NOTE, NULL,
			       "this kernel does not tell whether it has the shim: /proc/kallsyms is empty and its configuration is not in /boot");
		shim = UNKNOWN;
	} else {
		others = other_kernels();
		advice = others ? format("boot a kernel that has it; installed: %s", others) :
				  how_to_build();
		object = check("shim", FAIL, advice,
			       "this kernel does not have the shim (CONFIG_GMEM_SHIM), and there is no module of it (" SHIM_MODULE ")");
		shim = NO;
	}
	free(advice);
	free(others);
	json_object_object_add(object, "shim_abi", abi < 0 ? NULL : json_object_new_int(abi));
	put_string(object, "delivery", built_in == YES ? "kernel" : module->shim ? "module" : NULL);
	put_string(object, "refusal", refusal);
	free(refusal);
	return shim;
}

/* Of what is loaded there, not of the file. */
static bool is_outdated(const struct module *module)
{
	char *srcversion = read_text("/sys/module/" MODULE "/srcversion");
	bool outdated = srcversion && module->srcversion &&
			strcmp(srcversion, module->srcversion);

	free(srcversion);
	return outdated;
}

static void check_module(const struct module *module)
{
	struct reason reason = {};
	struct json_object *object;

	if (!module->mod) {
		why_no_module(&reason);
		object = check("module", module->loaded ? NOTE : FAIL, reason.advice, "%s%s",
			       module->loaded ? "gmemfd is loaded, but after a reboot " : "",
			       reason.why);
		free(reason.why);
		free(reason.advice);
	} else if (module_is_foreign(module)) {
		reason.advice = how_to_build();
		object = check("module", FAIL, reason.advice,
			       "%s is built for Linux %.*s, this is %s", module->path,
			       (int)strcspn(module->vermagic, " "), module->vermagic,
			       kernel_release());
		free(reason.advice);
	} else if (module->loaded && is_outdated(module)) {
		object = check("module", NOTE, "gmemctl unload && gmemctl load",
			       "another build than %s is loaded", module->path);
	} else if (!module->loaded && kmod_module_get_install_commands(module->mod)) {
		object = check("module", NOTE, "see modprobe.d(5)",
			       "modprobe.d has a command in place of loading it: %s",
			       kmod_module_get_install_commands(module->mod));
	} else {
		object = check("module", OK, module->loaded ? NULL : "gmemctl load", "%s%s%s%s",
			       module->path, module->version ? ", version " : "",
			       module->version ?: "", module->loaded ? ", loaded" : ", not loaded");
	}
	put_string(object, "path", module->path);
	put_string(object, "version", module->version);
	put_bool(object, "loaded", module->loaded);
}

static void check_symbols(const struct module *module, enum answer shim, int abi)
{
	struct json_object *missing = json_object_new_array(), *object;
	static const char rebuild[] =
		"build the module again, for this kernel: dkms build --force, dkms install --force";
	size_t nr, nr_missing = 0, nr_unknown = 0;
	struct symbol *symbols;
	char *list = NULL;

	symbols = module_needs(module->mod, &nr);
	find_symbols(symbols, nr);
	if (module->shim)
		find_in_module(module->shim, symbols, nr);
	for (size_t i = 0; i < nr; i++) {
		char *before = list;

		nr_unknown += symbols[i].found == UNKNOWN;
		if (symbols[i].found != NO)
			continue;
		json_object_array_add(missing, json_object_new_string(symbols[i].name));
		if (nr_missing++ < 4) {
			list = before ? format("%s, %s", before, symbols[i].name) :
			       format("%s", symbols[i].name);
			free(before);
		}
	}
	if (!symbols)
		object = check("symbols", NOTE, NULL, "%s cannot be read", module->path);
	else if (nr_missing)
		object = check("symbols", FAIL,
			       shim == NO ? "see shim" : rebuild,
			       "of the %zu symbols that the module needs this kernel lacks %zu, or has them in another version: %s%s",
			       nr, nr_missing, list, nr_missing > 4 ? ", ..." : "");
	else if (module->shim_abi >= 0 && abi >= 0 && module->shim_abi != abi)
		object = check("symbols", FAIL, rebuild,
			       "the module wants version %d of the shim, this kernel has version %d",
			       module->shim_abi, abi);
	else if (nr_unknown)
		object = check("symbols", OK, NULL,
			       "the kernel has all the functions that the module needs; of %zu variables only its headers would tell",
			       nr_unknown);
	else
		object = check("symbols", OK, NULL, "the kernel has all %zu symbols that the module needs",
			       nr);
	json_object_object_add(object, "missing", missing);
	json_object_object_add(object, "module_shim_abi", module->shim_abi < 0 ? NULL :
			       json_object_new_int(module->shim_abi));
	free(list);
}

/* Is a key of this name in the kernel's keyrings, as far as /proc/keys shows? */
static enum answer key_is_known(const char *signer)
{
	char *keys = read_text("/proc/keys"), *rest = keys, *line;
	enum answer answer = UNKNOWN;

	while (answer != YES && (line = strsep(&rest, "\n"))) {
		if (!strstr(line, " asymmetri "))
			continue;
		answer = strstr(line, signer) ? YES : NO;
	}
	free(keys);
	return answer;
}

static void check_signature(const struct module *module)
{
	static const char enrol[] =
		"enrol the key of DKMS: mokutil --import /var/lib/dkms/mok.pub, and reboot";
	const char *signer = module->signer, *how = NULL;
	bool enforced = signatures_enforced(&how);
	struct json_object *object;

	if (!enforced)
		object = check("signature", OK, NULL,
			       "the kernel takes modules with and without a signature; this one has %s%s",
			       signer ? "one by " : "none", signer ?: "");
	else if (!signer)
		object = check("signature", module->loaded ? NOTE : FAIL, enrol,
			       "the kernel takes signed modules only (%s), and this one is not signed",
			       how);
	else if (key_is_known(signer) == NO)
		object = check("signature", module->loaded ? NOTE : FAIL, enrol,
			       "the kernel takes signed modules only (%s), and does not know the key of %s",
			       how, signer);
	else
		object = check("signature", OK, NULL,
			       "the kernel takes signed modules only (%s); this one is signed by %s",
			       how, signer);
	put_bool(object, "enforced", enforced);
	put_string(object, "signer", signer);
	if (!module->loaded && read_number("/proc/sys/kernel/modules_disabled") > 0)
		check("modules", FAIL, "reboot",
		      "this kernel takes no modules any more (kernel.modules_disabled is 1)");
}

static void check_device(const struct module *module)
{
	struct passwd *user = getpwuid(geteuid());
	char *name, *advice = NULL, *secret = NULL;
	struct json_object *object;
	struct gmemfd_info info;
	struct group *group;
	bool told = false;
	struct stat st;

	if (!module->loaded) {
		check("device", OK, NULL, DEVICE " is there once gmemfd is loaded");
		return;
	}
	if (stat(DEVICE, &st)) {
		check("device", FAIL, "is udev or devtmpfs there?  In containers: pass the device in",
		      DEVICE ": %s", strerror(errno));
		return;
	}
	group = getgrgid(st.st_gid);
	name = group ? format("%s", group->gr_name) : format("%u", st.st_gid);
	if (!eaccess(DEVICE, R_OK | W_OK)) {
		told = device_info(&info);
		if (told && info.max_secret_entry)
			secret = format("; secret pages are mapped by up to %s",
					size_text(info.max_secret_entry));
		object = check("device", OK, NULL,
			       DEVICE " can be opened (mode %04o, group %s)%s",
			       st.st_mode & 07777, name, secret ?: "");
	} else {
		if (st.st_gid && (st.st_mode & 060) == 060)
			advice = format("usermod -aG %s %s, and log in again", name,
					user ? user->pw_name : "USER");
		else
			advice = format("a udev rule: KERNEL==\"gmemfd\", GROUP=\"kvm\", MODE=\"0660\"; the package gmemfd-dkms has it");
		object = check("device", FAIL, advice, DEVICE
			       " cannot be opened by this user (mode %04o, group %s)",
			       st.st_mode & 07777, name);
	}
	json_object_object_add(object, "mode", json_object_new_int(st.st_mode & 07777));
	put_string(object, "group", name);
	json_object_object_add(object, "max_secret_entry",
			       told ? json_object_new_uint64(info.max_secret_entry) : NULL);
	free(secret);
	free(advice);
	free(name);
}

struct pool {
	long long nr, free, reserved, overcommit;
};

static struct pool read_pool(const char *dir, int kib)
{
	return (struct pool) {
		.nr = read_number("%s/hugepages-%dkB/nr_hugepages", dir, kib),
		.free = read_number("%s/hugepages-%dkB/free_hugepages", dir, kib),
		.reserved = read_number("%s/hugepages-%dkB/resv_hugepages", dir, kib),
		.overcommit = read_number("%s/hugepages-%dkB/nr_overcommit_hugepages", dir, kib),
	};
}

/* The pool of each node: for people as text, for JSON in @array. */
static char *read_nodes(int kib, struct json_object *array)
{
	char *text = NULL;
	glob_t found;

	if (glob("/sys/devices/system/node/node[0-9]*", 0, NULL, &found))
		return NULL;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char *dir = format("%s/hugepages", found.gl_pathv[i]), *before = text;
		int node = atoi(strrchr(found.gl_pathv[i], '/') + strlen("/node"));
		struct pool pool = read_pool(dir, kib);
		struct json_object *object;

		free(dir);
		if (pool.nr < 0)
			continue;
		object = json_object_new_object();
		json_object_object_add(object, "node", json_object_new_int(node));
		put_size(object, "pages", pool.nr);
		put_size(object, "free", pool.free);
		json_object_array_add(array, object);
		text = format("%s%snode %d: %lld of %lld", before ?: "", before ? ", " : "",
			      node, pool.free, pool.nr);
		free(before);
	}
	if (found.gl_pathc < 2) {
		free(text);
		text = NULL;
	}
	globfree(&found);
	return text;
}

static void check_pool(const char *name, int kib, bool *usable)
{
	struct pool pool = read_pool("/sys/kernel/mm/hugepages", kib);
	struct json_object *object, *nodes = json_object_new_array();
	char *by_node = read_nodes(kib, nodes), *advice = NULL;
	long long available = pool.free - pool.reserved;
	bool gib = kib > 1024 * 1024 - 1;

	if (pool.nr < 0) {
		object = check(name, NOTE, NULL, "this machine has no pages of this size");
		pool = (struct pool) {};
		available = 0;
	} else if (available > 0 || pool.overcommit > 0) {
		*usable = true;
		object = check(name, OK, NULL, "%lld pages, %lld free, %lld of these reserved%s%s%s",
			       pool.nr, pool.free, pool.reserved, by_node ? " (free on " : "",
			       by_node ?: "", by_node ? ")" : "");
	} else {
		advice = gib ? format("boot with hugepagesz=1G hugepages=N, or early: echo N > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages") :
			       format("sysctl vm.nr_hugepages=N, and in /etc/sysctl.d to keep it");
		object = check(name, NOTE, advice, pool.nr ?
			       "all %lld pages are in use or reserved" : "no pages", pool.nr);
	}
	put_size(object, "pages", pool.nr);
	put_size(object, "free", pool.free);
	put_size(object, "reserved", pool.reserved);
	put_size(object, "overcommit", pool.overcommit < 0 ? 0 : pool.overcommit);
	json_object_object_add(object, "nodes", nodes);
	free(by_node);
	free(advice);
}

static void check_pools(void)
{
	bool usable = false;

	check_pool("2M pool", 2048, &usable);
	check_pool("1G pool", 1024 * 1024, &usable);
	if (!usable)
		check("pools", FAIL, "see 2M pool and 1G pool",
		      "there is no huge page to make a gmem file of");
}

static void check_direct_map(enum answer shim)
{
	char *meminfo = read_text("/proc/meminfo");
	enum answer has = shim;
	const char *at;
	unsigned long long kib[3] = {};
	static const char * const keys[] = {
		"DirectMap4k:", "DirectMap2M:", "DirectMap1G:",
	};
	struct json_object *object;

	for (int i = 0; meminfo && i < 3; i++) {
		at = strstr(meminfo, keys[i]);
		kib[i] = at ? strtoull(at + strlen(keys[i]), NULL, 10) : 0;
	}
	free(meminfo);
	if (has == NO)
		object = check("direct map", FAIL, "see shim",
			       "the kernel cannot take private pages out of its direct map");
	else if (!kib[1] && !kib[2])
		object = check("direct map", NOTE, "is debug_pagealloc on?",
			       "the kernel's direct map is all in 4 KiB pages: private pages leave it, but slowly");
	else
		object = check("direct map", OK, NULL,
			       "private pages leave it; now by 4 KiB: %s, 2 MiB: %s, 1 GiB: %s",
			       size_text(kib[0] << 10), size_text(kib[1] << 10),
			       size_text(kib[2] << 10));
	for (int i = 0; i < 3; i++)
		put_size(object, i == 0 ? "bytes_4k" : i == 1 ? "bytes_2m" : "bytes_1g",
			 kib[i] << 10);
}

/* Does KVM ask for other files than its own?  Its module then wants the shim. */
static enum answer kvm_has_hooks(struct kmod_ctx *ctx)
{
	struct kmod_list *list = NULL;
	enum answer answer = UNKNOWN;
	struct kmod_module *mod;
	struct symbol *symbols;
	size_t nr;

	if (kmod_module_new_from_lookup(ctx, "kvm", &list) || !list) {
		answer = kernel_function("kvm_gmem_destroy_vm");
		return kernel_function("kvm_vcpu_init") == YES || answer == YES ? answer : UNKNOWN;
	}
	mod = kmod_module_get_module(list);
	kmod_module_unref_list(list);
	if (kmod_module_get_path(mod)) {
		symbols = module_needs(mod, &nr);
		answer = symbols ? NO : UNKNOWN;
		for (size_t i = 0; i < nr; i++) {
			if (!strcmp(symbols[i].name, "gmem_provider_of"))
				answer = YES;
		}
	} else {
		answer = kernel_function("kvm_gmem_destroy_vm");
	}
	kmod_module_unref(mod);
	return answer;
}

/* The shim as a module hooks KVM if it links to it. */
static enum answer shim_hooks_kvm(struct kmod_module *shim)
{
	struct kmod_list *list = kmod_module_get_dependencies(shim), *item;
	enum answer answer = NO;

	kmod_list_foreach(item, list) {
		struct kmod_module *mod = kmod_module_get_module(item);

		if (!strcmp(kmod_module_get_name(mod), "kvm"))
			answer = YES;
		kmod_module_unref(mod);
	}
	kmod_module_unref_list(list);
	return answer;
}

static void check_kvm(const struct module *module, enum answer shim)
{
	struct json_object *object;
	enum answer hooks;

	hooks = kernel_has_shim() != YES && module->shim ? shim_hooks_kvm(module->shim) :
		kvm_has_hooks(module->ctx);
	if (shim == NO)
		object = check("KVM", FAIL, "see shim", "its memslots cannot be on gmem files");
	else if (hooks == NO)
		object = check("KVM", NOTE, "boot a kernel whose shim has it",
			       "this kernel's KVM does not take gmem files: no guests from them");
	else if (hooks == UNKNOWN)
		object = check("KVM", NOTE, NULL, "there is no KVM in this kernel: no guests");
	else if (access("/dev/kvm", F_OK))
		object = check("KVM", NOTE, "modprobe kvm_amd or kvm_intel; is virtualization on in the firmware?",
			       "takes gmem files, but there is no /dev/kvm");
	else if (eaccess("/dev/kvm", R_OK | W_OK))
		object = check("KVM", NOTE, "usermod -aG kvm USER, and log in again",
			       "takes gmem files, but this user cannot open /dev/kvm");
	else
		object = check("KVM", OK, NULL, "takes gmem files for memslots, /dev/kvm can be opened");
	json_object_object_add(object, "hooks", hooks == UNKNOWN ? NULL :
			       json_object_new_boolean(hooks == YES));
}

/**
 * cmd_doctor - gmemctl doctor
 */
int cmd_doctor(void)
{
	const char *source = "";
	struct json_object *all;
	struct module module;
	enum answer shim;
	int abi;

	checks = json_object_new_array();
	if (!as_json)
		printf("gmemctl " GMEMCTL_VERSION ", Linux %s\n\n", kernel_release());
	module_find(&module);
	shim = kernel_has_shim();
	abi = kernel_shim_abi(&source);

	shim = check_shim(&module, shim, abi, source);
	check_module(&module);
	if (module.mod && !module_is_foreign(&module)) {
		if (!module.loaded)
			check_symbols(&module, shim, abi);
		check_signature(&module);
	}
	check_device(&module);
	check_pools();
	check_direct_map(shim);
	check_kvm(&module, shim);
	module_drop(&module);

	if (as_json) {
		all = json_object_new_object();
		put_bool(all, "ok", !nr_failed);
		put_string(all, "version", GMEMCTL_VERSION);
		put_string(all, "kernel", kernel_release());
		json_object_object_add(all, "checks", checks);
		print_json(all);
	} else {
		printf(nr_failed ? "\nnot well: %s\n" : "\nall is well: this kernel can run gmemfd\n",
		       failed_names);
		json_object_put(checks);
	}
	free(failed_names);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

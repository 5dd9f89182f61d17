// SPDX-License-Identifier: GPL-2.0
/*
 * The module gmemfd, through libkmod: find it, load it, unload it, and say why not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <linux/capability.h>
#include <unistd.h>

#include "gmemctl.h"

static void no_log(void *data, int priority, const char *file, int line,
		   const char *fn, const char *format, va_list args)
{
	(void)data, (void)priority, (void)file, (void)line;
	(void)fn, (void)format, (void)args;
}

/* For the modules of @release. */
static struct kmod_ctx *new_ctx(const char *release)
{
	char *dir = format("/lib/modules/%s", release);
	struct kmod_ctx *ctx = kmod_new(dir, NULL);

	free(dir);
	if (!ctx)
		abort();
	/* What it finds wrong we say ourselves. */
	kmod_set_log_fn(ctx, no_log, NULL);
	return ctx;
}

/* NULL if there is no such module, for which the index is asked. */
static struct kmod_module *lookup(struct kmod_ctx *ctx, const char *name)
{
	struct kmod_list *list = NULL;
	struct kmod_module *mod = NULL;

	if (!kmod_module_new_from_lookup(ctx, name, &list) && list)
		mod = kmod_module_get_module(list);
	kmod_module_unref_list(list);
	return mod;
}

static bool is_loaded(struct kmod_ctx *ctx, const char *name)
{
	struct kmod_module *mod;
	int state;

	if (kmod_module_new_from_name(ctx, name, &mod))
		return false;
	state = kmod_module_get_initstate(mod);
	kmod_module_unref(mod);
	return state == KMOD_MODULE_LIVE;
}

static char *info_value(struct kmod_list *info, const char *key)
{
	struct kmod_list *item;

	kmod_list_foreach(item, info) {
		if (!strcmp(kmod_module_info_get_key(item), key))
			return format("%s", kmod_module_info_get_value(item));
	}
	return NULL;
}

/**
 * module_find - look for the module that the running kernel would load
 * @module: filled in; module_drop() it
 */
void module_find(struct module *module)
{
	struct kmod_list *info = NULL;
	char *abi;

	*module = (struct module) { .ctx = new_ctx(kernel_release()), .shim_abi = -1 };
	module->loaded = is_loaded(module->ctx, MODULE);
	module->mod = lookup(module->ctx, MODULE);
	module->shim = lookup(module->ctx, SHIM_MODULE);
	module->path = module->mod ? kmod_module_get_path(module->mod) : NULL;
	if (!module->path || kmod_module_get_info(module->mod, &info) < 0)
		return;
	module->version = info_value(info, "version");
	module->vermagic = info_value(info, "vermagic");
	module->srcversion = info_value(info, "srcversion");
	module->signer = info_value(info, "signer");
	abi = info_value(info, "gmem_shim_abi");
	if (abi)
		module->shim_abi = atoi(abi);
	free(abi);
	kmod_module_info_free_list(info);
}

/**
 * module_drop - undo module_find()
 * @module: the module
 */
void module_drop(struct module *module)
{
	free(module->version);
	free(module->vermagic);
	free(module->srcversion);
	free(module->signer);
	kmod_module_unref(module->mod);
	kmod_module_unref(module->shim);
	kmod_unref(module->ctx);
}

/**
 * module_is_foreign - has it been built for another kernel?
 * @module: a module that was found
 */
bool module_is_foreign(const struct module *module)
{
	size_t len = strlen(kernel_release());

	return module->vermagic && (strncmp(module->vermagic, kernel_release(), len) ||
				    module->vermagic[len] != ' ');
}

/**
 * module_needs - the symbols that a module's file wants from the kernel
 * @mod: the module
 * @nr: how many there are
 *
 * Return: they, which live as long as the program; NULL if that cannot be read.
 */
struct symbol *module_needs(struct kmod_module *mod, size_t *nr)
{
	struct kmod_list *list = NULL, *item;
	struct symbol *symbols = NULL;

	*nr = 0;
	if (kmod_module_get_dependency_symbols(mod, &list) < 0)
		return NULL;
	kmod_list_foreach(item, list) {
		symbols = realloc(symbols, (*nr + 1) * sizeof(*symbols));
		if (!symbols)
			abort();
		symbols[(*nr)++] = (struct symbol) {
			.name = format("%s", kmod_module_dependency_symbol_get_symbol(item)),
			.version = kmod_module_dependency_symbol_get_crc(item),
		};
	}
	kmod_module_dependency_symbols_free_list(list);
	return symbols;
}

/**
 * find_in_module - which of these does a module export?
 * @mod: the module, loaded or not
 * @symbols: found is set for those that it does
 * @nr: how many there are
 */
void find_in_module(struct kmod_module *mod, struct symbol *symbols, size_t nr)
{
	struct kmod_list *list = NULL, *item;

	if (kmod_module_get_symbols(mod, &list) < 0)
		return;
	kmod_list_foreach(item, list) {
		const char *name = kmod_module_symbol_get_symbol(item);
		uint64_t version = kmod_module_symbol_get_crc(item);

		for (size_t i = 0; i < nr; i++) {
			if (!strcmp(symbols[i].name, name))
				symbols[i].found = version && symbols[i].version &&
					version != symbols[i].version ? NO : YES;
		}
	}
	kmod_module_symbols_free_list(list);
}

/**
 * shim_is_loaded - is the shim there as a module?
 * @module: from module_find()
 */
bool shim_is_loaded(const struct module *module)
{
	return is_loaded(module->ctx, SHIM_MODULE);
}

/* What stands behind the last REFUSED in a text, up to the end of the line; or NULL. */
static char *last_refusal(const char *text)
{
	static const char refused[] = SHIM_MODULE ": refused: ";
	const char *found = NULL, *at = text;
	char *line;

	while (at && (at = strstr(at, refused)))
		found = at += strlen(refused);
	if (!found)
		return NULL;
	line = format("%.*s", (int)strcspn(found, "\n"), found);
	make_printable(line);
	return line;
}

/* Said when it was loaded, since the machine was started. */
static char *refused_by_kernel(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[8192], *last = NULL, *refusal;
	ssize_t n;

	while (fd >= 0 && ((n = read(fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE)) {
		if (n <= 0)
			continue;
		record[n] = '\0';
		/* Of the kernel itself, not what somebody wrote there. */
		if (atoi(record) >> 3)
			continue;
		refusal = last_refusal(record);
		if (refusal || strstr(record, SHIM_MODULE ": ready")) {
			free(last);
			last = refusal;
		}
	}
	if (fd >= 0)
		close(fd);
	return last;
}

/* Said when DKMS built it for this kernel, or tried to. */
static char *refused_by_build(void)
{
	char *pattern = format("/var/lib/dkms/" MODULE "/*/build/make.log"), *refusal = NULL;
	glob_t found;

	if (!glob(pattern, 0, NULL, &found)) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			char *text = read_text("%s", found.gl_pathv[i]);

			if (text && strstr(text, kernel_release())) {
				free(refusal);
				refusal = last_refusal(text);
			}
			free(text);
		}
		globfree(&found);
	}
	free(pattern);
	return refusal;
}

/**
 * shim_refusal - why the shim was not built for this kernel, or not loaded
 * @module: from module_find()
 *
 * Return: a sentence that the caller frees, or NULL.
 */
char *shim_refusal(const struct module *module)
{
	return module->shim ? refused_by_kernel() : refused_by_build();
}

/**
 * refusal_advice - what to do about a refusal
 * @refusal: from shim_refusal()
 */
const char *refusal_advice(const char *refusal)
{
	static const struct {
		const char *part, *advice;
	} known[] = {
		{ "built for another build",
		  "build it again, for this kernel: dkms build --force, dkms install --force" },
		{ "tracing is off", "sysctl kernel.ftrace_enabled=1" },
		{ "redirects",
		  "/sys/kernel/livepatch and /sys/kernel/tracing/enabled_functions tell who; with such a livepatch gmemfd needs a kernel with the shim built in" },
		{ "begins with", "something has changed the code of the running kernel: reboot" },
		{ "is not in /lib/modules", "install the kernel's modules" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (strstr(refusal, known[i].part))
			return known[i].advice;
	}
	return "this kernel is another one than gmemfd was made for: see whether there is a newer gmemfd, or build a kernel with the shim";
}

static char *stray_file;

static int look_for_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	if (type != FTW_F || strncmp(path + ftw->base, MODULE ".ko", strlen(MODULE ".ko")))
		return 0;
	stray_file = format("%s", path);
	return 1;
}

/* Other kernels that there is a gmemfd for, or NULL. */
static char *built_for(void)
{
	char *list = NULL;
	glob_t found;

	if (glob("/lib/modules/*", 0, NULL, &found))
		return NULL;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *release = found.gl_pathv[i] + strlen("/lib/modules/");
		struct kmod_ctx *ctx = new_ctx(release);
		struct kmod_module *mod = lookup(ctx, MODULE);
		char *before = list;

		if (mod && strcmp(release, kernel_release())) {
			list = before ? format("%s, %s", before, release) :
			       format("%s", release);
			free(before);
		}
		kmod_module_unref(mod);
		kmod_unref(ctx);
	}
	globfree(&found);
	return list;
}

/**
 * how_to_build - how to get a module for this kernel
 *
 * Return: what the caller may free().
 */
char *how_to_build(void)
{
	if (!access("/var/lib/dkms/" MODULE, F_OK))
		return format("apt install linux-headers-%s && dkms autoinstall -k %s",
			      kernel_release(), kernel_release());
	return format("install the package gmemfd-dkms; or in gmemfd's source: make module && make modules_install && depmod");
}

/**
 * why_no_module - why there is no module for this kernel
 * @reason: filled in
 */
void why_no_module(struct reason *reason)
{
	char *dir = format("/lib/modules/%s", kernel_release());
	char *others, *refusal = kernel_has_shim() == NO ? refused_by_build() : NULL;

	if (refusal) {
		reason->why = format("there is no shim for Linux %s: %s", kernel_release(),
				     refusal);
		reason->advice = format("%s", refusal_advice(refusal));
		free(refusal);
	} else if (nftw(dir, look_for_file, 16, FTW_PHYS) == 1) {
		reason->why = format("%s is there, but not in the list of modules", stray_file);
		reason->advice = format("depmod");
	} else {
		others = built_for();
		reason->why = others ?
			format("there is no module gmemfd for Linux %s, only for %s",
			       kernel_release(), others) :
			format("there is no module gmemfd for Linux %s", kernel_release());
		reason->advice = how_to_build();
		free(others);
	}
	free(dir);
}

/* Kernel messages from here on, if they may be read. */
static int open_kmsg(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* The first of them that are about modules, or NULL. */
static char *read_kmsg(int fd)
{
	static const char * const words[] = { MODULE, "odule", "PKCS", "ockdown" };
	char record[8192], *said = NULL;
	int lines = 0;
	ssize_t n;

	while (fd >= 0 && ((n = read(fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE)) {
		char *text, *before = said;
		bool ours = false;

		if (n <= 0)
			continue;
		record[n] = '\0';
		text = strchr(record, ';');
		/* Of the kernel itself, not what somebody wrote there. */
		if (!text || atoi(record) >> 3 || strstr(text, "taints kernel"))
			continue;
		*text++ = '\0';
		text[strcspn(text, "\n")] = '\0';
		for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
			ours |= !!strstr(text, words[i]);
		if (!ours || ++lines > 3)
			continue;
		make_printable(text);
		said = before ? format("%s; %s", before, text) : format("%s", text);
		free(before);
	}
	if (fd >= 0)
		close(fd);
	return said;
}

static void why_not_permitted(struct reason *reason)
{
	const char *how;

	if (!have_capability(CAP_SYS_MODULE)) {
		reason->why = format("no permission to load and unload modules");
		reason->advice = format("do it as root");
	} else if (read_number("/proc/sys/kernel/modules_disabled") > 0) {
		reason->why = format("this kernel takes no modules any more (kernel.modules_disabled is 1)");
		reason->advice = format("reboot");
	} else if (signatures_enforced(&how)) {
		reason->why = format("the kernel takes only modules signed by a key that it knows (%s)",
				     how);
		reason->advice = format("enrol the key of DKMS: mokutil --import /var/lib/dkms/mok.pub, and reboot");
	} else {
		reason->why = format("the kernel does not permit it");
	}
}

static void why_not_loaded(const struct module *module, int err, struct reason *reason)
{
	const char *source = "";
	const char *how = NULL;
	int abi;

	switch (err) {
	case EPERM:
		why_not_permitted(reason);
		break;
	case EKEYREJECTED:
	case ENOKEY:
	case EBADMSG:
	case ENOPKG:
		signatures_enforced(&how);
		reason->why = format("the kernel does not accept the module's signature (%s%s%s)",
				     module->signer ? "by " : "it has none",
				     module->signer ?: "", how ? "; enforced" : "");
		reason->advice = format("enrol the key of DKMS: mokutil --import /var/lib/dkms/mok.pub, and reboot%s",
					module->signer ? "; if it is known, install the module again, which has changed since it was signed" : "");
		break;
	case ENOENT:
		reason->why = format("the module wants symbols that this kernel does not have");
		reason->advice = format("build it again, for this kernel: dkms build --force, dkms install --force");
		break;
	case ENOEXEC:
		reason->why = module_is_foreign(module) ?
			format("the module is built for Linux %.*s, this is %s",
			       (int)strcspn(module->vermagic, " "), module->vermagic,
			       kernel_release()) :
			format("the module does not fit this kernel, or is damaged");
		reason->advice = how_to_build();
		break;
	case EINVAL:
		abi = kernel_shim_abi(&source);
		if (module->shim_abi >= 0 && abi >= 0 && abi != module->shim_abi)
			reason->why = format("the module wants version %d of the shim, this kernel has version %d",
					     module->shim_abi, abi);
		else
			reason->why = format("the module and this kernel's shim do not fit together");
		reason->advice = how_to_build();
		break;
	case EBUSY:
		reason->why = format("another module is using the shim");
		break;
	default:
		reason->why = format("%s", strerror(err));
	}
}

static void why_refused(const char *said, struct reason *reason)
{
	reason->why = format("the shim does not go into this kernel");
	reason->advice = format("%s", refusal_advice(said));
}

/* The module is there by itself: it was built for a kernel that has the shim. */
static void why_no_shim(struct reason *reason)
{
	reason->why = format("Linux %s has no gmemfd shim, which the module needs, and there is no gmemfd_shim.ko",
			     kernel_release());
	reason->advice = how_to_build();
}

static int loaded(struct module *module, bool before)
{
	if (as_json) {
		struct json_object *object = json_object_new_object();

		put_bool(object, "ok", true);
		put_bool(object, "loaded", true);
		put_bool(object, "was_loaded", before);
		put_string(object, "path", before ? NULL : module->path);
		print_json(object);
	} else {
		printf(before ? "gmemfd is loaded already\n" : "gmemfd is loaded, from %s\n",
		       module->path);
	}
	module_drop(module);
	return EXIT_SUCCESS;
}

/**
 * cmd_load - gmemctl load
 */
int cmd_load(void)
{
	struct reason reason = {};
	const char *command;
	struct module module;
	char *said = NULL;
	int kmsg, err;

	module_find(&module);
	if (module.loaded)
		return loaded(&module, true);
	if (!module.mod) {
		why_no_module(&reason);
		goto failed;
	}
	kmsg = open_kmsg();
	err = kmod_module_probe_insert_module(module.mod, 0, NULL, NULL, NULL, NULL);
	said = read_kmsg(kmsg);
	if (!err) {
		free(said);
		return loaded(&module, false);
	}
	command = kmod_module_get_install_commands(module.mod);
	if (command)
		reason.why = format("modprobe.d has a command in place of loading, which failed: %s",
				    command);
	else if (said && strstr(said, SHIM_MODULE ": refused: "))
		why_refused(said, &reason);
	else if (err == -ENOENT && !module.shim && kernel_has_shim() == NO)
		why_no_shim(&reason);
	else
		why_not_loaded(&module, -err, &reason);
	if (said) {
		char *before = reason.why;

		reason.why = format("%s\n  the kernel said: %s", before, said);
		free(before);
	}
failed:
	free(said);
	module_drop(&module);
	return fail("load", &reason, NULL);
}

/* "vmm (123), vmm (124)" of all in @users, each once; or NULL. */
static char *name_users(struct json_object *users)
{
	size_t nr = json_object_array_length(users);
	char *list = NULL;

	for (size_t i = 0; i < nr; i++) {
		struct json_object *user = json_object_array_get_idx(users, i);
		int pid = json_object_get_int(json_object_object_get(user, "pid"));
		char *before = list;
		size_t j;

		for (j = 0; j < i; j++) {
			struct json_object *other = json_object_array_get_idx(users, j);

			if (json_object_get_int(json_object_object_get(other, "pid")) == pid)
				break;
		}
		if (j < i)
			continue;
		list = format("%s%s%s (%d)", before ?: "", before ? ", " : "",
			      json_object_get_string(json_object_object_get(user, "comm")),
			      pid);
		free(before);
	}
	return list;
}

static void add_users(struct json_object *users, const struct holder *holders, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		json_object_array_add(users, holder_json(&holders[i]));
}

static void why_in_use(struct kmod_module *mod, struct reason *reason,
		       struct json_object *more)
{
	long long away = read_number("/sys/class/misc/gmemfd/away_folios");
	struct json_object *users = json_object_new_array();
	int references = kmod_module_get_refcnt(mod);
	struct scan scan;
	char *names;

	scan_machine(&scan);
	for (size_t i = 0; i < scan.nr_files; i++)
		add_users(users, scan.files[i].holders, scan.files[i].nr_holders);
	add_users(users, scan.openers, scan.nr_openers);
	names = name_users(users);
	json_object_object_add(more, "users", users);
	json_object_object_add(more, "references", json_object_new_int(references));
	json_object_object_add(more, "away_folios",
			       away < 0 ? NULL : json_object_new_int64(away));
	if (names) {
		reason->why = format("in use by %s", names);
		reason->advice = format("end these first; gmemctl ls says what they have");
	} else if (away > 0) {
		reason->why = format("folios that have left their files are still referenced (pipes, io_uring, I/O): %lld",
				     away);
		reason->advice = format("they come home by themselves when whoever holds them lets go");
	} else {
		reason->why = scan.hidden ?
			format("in use, by one of %u processes that may not be looked into",
			       scan.hidden) :
			format("in use: %d references", references);
		reason->advice = scan.hidden ? format("ask again as root") : NULL;
	}
	free(names);
	scan_free(&scan);
}

/**
 * cmd_unload - gmemctl unload
 */
int cmd_unload(void)
{
	struct json_object *more = json_object_new_object();
	struct reason reason = {};
	struct kmod_module *mod;
	struct module module;
	int err = 0, i;

	module_find(&module);
	if (kmod_module_new_from_name(module.ctx, MODULE, &mod))
		abort();
	/* What is being torn down may take a moment. */
	for (i = 0; module.loaded && i < 10; i++) {
		err = kmod_module_remove_module(mod, KMOD_REMOVE_NOWAIT);
		if (err != -EAGAIN && err != -EWOULDBLOCK)
			break;
		usleep(100000);
	}
	/* Nobody else links to the shim. */
	if (!err && shim_is_loaded(&module) && module.shim)
		kmod_module_remove_module(module.shim, KMOD_REMOVE_NOWAIT);
	switch (-err) {
	case 0:
		break;
	case EPERM:
		why_not_permitted(&reason);
		break;
	case EAGAIN:
		why_in_use(mod, &reason, more);
		break;
	default:
		reason.why = format("%s", strerror(-err));
	}
	kmod_module_unref(mod);
	if (!err && as_json) {
		put_bool(more, "ok", true);
		put_bool(more, "loaded", false);
		put_bool(more, "was_loaded", module.loaded);
		print_json(more);
	} else if (!err) {
		puts(module.loaded ? "gmemfd is unloaded" : "gmemfd is not loaded");
		json_object_put(more);
	}
	module_drop(&module);
	return err ? fail("unload", &reason, more) : EXIT_SUCCESS;
}

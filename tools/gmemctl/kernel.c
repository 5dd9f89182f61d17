// SPDX-License-Identifier: GPL-2.0
/*
 * What the running kernel has, as far as it lets user space know.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "gmemctl.h"

static int compare_symbols(const void *a, const void *b)
{
	const struct symbol *sa = a, *sb = b;

	return strcmp(sa->name, sb->name);
}

static struct symbol *lookup(struct symbol *symbols, size_t nr, char *name)
{
	struct symbol key = { .name = name };

	return bsearch(&key, symbols, nr, sizeof(key), compare_symbols);
}

/* /proc/kallsyms, which the kernel takes its time for: read once.  Or NULL. */
static const char *kallsyms(void)
{
	static char *text;

	if (!text)
		text = read_text("/proc/kallsyms");
	return text && *text ? text : NULL;
}

/*
 * The functions of the kernel and of loaded modules, and with
 * CONFIG_KALLSYMS_ALL its variables: *@all.  False if there is no such list.
 */
static bool read_kallsyms(struct symbol *symbols, size_t nr, bool *all)
{
	const char *line = kallsyms(), *next;
	char name[512];

	*all = false;
	if (!line)
		return false;
	/* Address, type, name, and for those of modules "\t[module]". */
	for (; line; line = next) {
		const char *at = strchr(line, ' ');
		struct symbol *symbol;
		size_t len;

		next = strchr(line, '\n');
		next = next ? next + 1 : NULL;
		if (!at || !at[1] || at[2] != ' ')
			continue;
		len = strcspn(at + 3, "\t\n");
		if (len >= sizeof(name))
			continue;
		memcpy(name, at + 3, len);
		name[len] = '\0';
		symbol = lookup(symbols, nr, name);
		/* Upper case is global; static ones are not to be linked with. */
		if (symbol && at[1] >= 'A' && at[1] <= 'Z')
			symbol->found = YES;
		if (!strcmp(name, "jiffies_64"))
			*all = true;
	}
	return true;
}

/* Is @module among those of "module:kvm,gmemfd"?  Other namespaces do not say. */
static bool exported_to(const char *space, const char *module)
{
	size_t len = strlen(module);

	if (strncmp(space, "module:", 7))
		return true;
	for (const char *p = space + 7; *p; p += strcspn(p, ",") + (p[strcspn(p, ",")] == ',')) {
		if (strcspn(p, ",\n") == len && !strncmp(p, module, len))
			return true;
	}
	return false;
}

/*
 * What modules can be linked with, from the headers of this kernel: name, version
 * (CONFIG_MODVERSIONS) and for whom.  False if they are not there.
 */
static bool read_symvers(struct symbol *symbols, size_t nr, bool *exported)
{
	char *path = format("/lib/modules/%s/build/Module.symvers", kernel_release());
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;

	free(path);
	if (!file)
		return false;
	while (getline(&line, &room, file) > 0) {
		char *rest = line, *crc, *name, *space;
		struct symbol *symbol;
		uint64_t version;

		line[strcspn(line, "\n")] = '\0';
		crc = strsep(&rest, "\t");
		name = strsep(&rest, "\t");
		strsep(&rest, "\t");	/* of which module */
		strsep(&rest, "\t");	/* EXPORT_SYMBOL or EXPORT_SYMBOL_GPL */
		space = rest ?: "";
		symbol = name ? lookup(symbols, nr, name) : NULL;
		if (!symbol)
			continue;
		version = strtoull(crc, NULL, 16);
		exported[symbol - symbols] = exported_to(space, MODULE) &&
			(!version || !symbol->version || version == symbol->version);
	}
	free(line);
	fclose(file);
	return true;
}

/**
 * find_symbols - can a module be linked with these?
 * @symbols: sorted by this; found is set
 * @nr: how many there are
 */
void find_symbols(struct symbol *symbols, size_t nr)
{
	bool *exported = calloc(nr + 1, sizeof(*exported)), listed, headers, all;

	if (!exported)
		abort();
	qsort(symbols, nr, sizeof(*symbols), compare_symbols);
	for (size_t i = 0; i < nr; i++)
		symbols[i].found = NO;
	listed = read_kallsyms(symbols, nr, &all);
	headers = read_symvers(symbols, nr, exported);
	for (size_t i = 0; i < nr; i++) {
		struct symbol *symbol = &symbols[i];

		/* The kernel runs and knows best; but it need not list variables. */
		if (symbol->found == YES)
			symbol->found = headers && !exported[i] ? NO : YES;
		else if (headers && (!listed || !all))
			symbol->found = exported[i] ? YES : NO;
		else if (!listed || !all)
			symbol->found = UNKNOWN;
	}
	free(exported);
}

/* From a kernel's configuration; NULL @path is a file that is not there. */
static enum answer config_has_shim(const char *path)
{
	char *config = read_text("%s", path);
	enum answer answer = UNKNOWN;

	if (config)
		answer = strstr(config, "\nCONFIG_GMEM_SHIM=y") ? YES : NO;
	free(config);
	return answer;
}

/**
 * kernel_has_shim - is the shim in the running kernel?
 *
 * The module's is followed by the module's name.
 */
enum answer kernel_has_shim(void)
{
	enum answer answer;
	char *path;

	if (kallsyms())
		return strstr(kallsyms(), " T " SHIM_SYMBOL "\n") ? YES : NO;
	path = format("/boot/config-%s", kernel_release());
	answer = config_has_shim(path);
	free(path);
	return answer;
}

/**
 * kernel_function - is there a function of this name, static or not?
 * @name: its name
 */
enum answer kernel_function(const char *name)
{
	const char *list = kallsyms(), *at = list;
	size_t len = strlen(name);

	while (at && (at = strstr(at, name))) {
		if (at[-1] == ' ' && strchr("\n\t", at[len]))
			return YES;
		at += len;
	}
	return list ? NO : UNKNOWN;
}

/**
 * device_info - what the loaded module says of itself
 * @info: filled in
 *
 * Return: false if there is no module, or this user cannot open the device.
 */
bool device_info(struct gmemfd_info *info)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	bool told;

	if (fd < 0)
		return false;
	*info = (struct gmemfd_info) {};
	told = !ioctl(fd, GMEMFD_GET_INFO, info);
	close(fd);
	return told;
}

/**
 * kernel_shim_abi - GMEM_SHIM_ABI of the running kernel
 * @source: who says so
 *
 * Return: the ABI, or -1 if nobody knows.
 */
int kernel_shim_abi(const char **source)
{
	static const char * const trees[] = { "build", "source" };
	struct gmemfd_info info;
	int abi = -1;

	if (device_info(&info)) {
		*source = "the module";
		abi = info.shim_abi;
	}
	for (int i = 0; abi < 0 && i < 2; i++) {
		char *text = read_text("/lib/modules/%s/%s/include/linux/gmem_shim.h",
				       kernel_release(), trees[i]);
		char *line = text ? strstr(text, "#define GMEM_SHIM_ABI") : NULL;

		*source = "the kernel's headers";
		if (!line || sscanf(line, "#define GMEM_SHIM_ABI %d", &abi) != 1)
			abi = -1;
		free(text);
	}
	return abi;
}

/**
 * other_kernels - kernels on this machine that have the shim
 *
 * Return: their releases but the running one's, what the caller may free(), or
 * NULL if there are none.
 */
char *other_kernels(void)
{
	char *list = NULL;
	glob_t found;

	if (glob("/boot/config-*", 0, NULL, &found))
		return NULL;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *release = found.gl_pathv[i] + strlen("/boot/config-");
		char *before = list;

		if (!strcmp(release, kernel_release()) ||
		    config_has_shim(found.gl_pathv[i]) != YES)
			continue;
		list = before ? format("%s, %s", before, release) : format("%s", release);
		free(before);
	}
	globfree(&found);
	return list;
}

/**
 * signatures_enforced - does the kernel refuse modules that are not signed?
 * @how: by what, if it does
 */
bool signatures_enforced(const char **how)
{
	char *parameter = read_text("/sys/module/module/parameters/sig_enforce");
	char *lockdown = read_text("/sys/kernel/security/lockdown");
	bool enforced = true;

	if (parameter && *parameter == 'Y')
		*how = "module.sig_enforce";
	else if (lockdown && (strstr(lockdown, "[integrity]") ||
			      strstr(lockdown, "[confidentiality]")))
		*how = "lockdown, as with Secure Boot";
	else
		enforced = false;
	free(parameter);
	free(lockdown);
	return enforced;
}

/**
 * have_capability - may this process do that?
 * @cap: a CAP_* of <linux/capability.h>
 */
bool have_capability(int cap)
{
	char *status = read_text("/proc/self/status");
	char *line = status ? strstr(status, "\nCapEff:") : NULL;
	unsigned long long caps = line ? strtoull(line + strlen("\nCapEff:"), NULL, 16) : 0;

	free(status);
	return caps >> cap & 1;
}

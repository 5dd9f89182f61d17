// SPDX-License-Identifier: GPL-2.0
/*
 * The shim as a module, in Debian's own kernel: what it refuses when it is loaded, and
 * others who want the same functions.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib.h"

#define LIVEPATCH	"/sys/kernel/livepatch/livepatch_test"

static void need_shim_module(void)
{
	if (!shim_is_module())
		test_skip("the shim is built in");
}

static void unload_all(void)
{
	need_shim_module();
	test_changes_direct_map();
	module_unload("gmemfd_put_test");
	EXPECT_EQ(module_unload("gmemfd"), 0);
	EXPECT_EQ(module_unload("gmemfd_shim"), 0);
}

static void load_all(void)
{
	int fd;

	EXPECT_EQ(module_load("gmemfd_shim", ""), 0);
	EXPECT_EQ(module_load("gmemfd", ""), 0);
	EXPECT_EQ(module_load("gmemfd_put_test", ""), 0);
	fd = gmem_create(2 * MB, 2 * MB, 0);
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	close(fd);
}

/* What the kernel has said from here on. */
static int kernel_log(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	EXPECT(fd >= 0);
	lseek(fd, 0, SEEK_END);
	return fd;
}

static bool said(int log, const char *text)
{
	char record[8192];
	bool found = false;
	ssize_t n;

	while ((n = read(log, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		record[n > 0 ? n : 0] = '\0';
		found |= strstr(record, text) != NULL;
	}
	close(log);
	return found;
}

static void refuses(const char *module, int err, const char *sentence)
{
	int log;

	unload_all();
	log = kernel_log();
	EXPECT_ERR(module_load(module, ""), err);
	EXPECT(said(log, sentence));
	EXPECT(!shim_is_module());
	load_all();
}

TEST(shim_refuses_another_build_of_the_kernel)
{
	refuses("other_kernel", ENOEXEC, "refused: built for another build of the kernel");
}

TEST(shim_refuses_another_build_of_kvm)
{
	need_shim_module();
	if (!shim_hooks_kvm())
		test_skip("it does not look at this kernel's KVM");
	refuses("other_kvm", ENOEXEC, "refused: built for another build of kvm");
}

TEST(shim_refuses_changed_code)
{
	refuses("other_entry", ENOEXEC, "which is not what the compiler made");
}

/* The hooks are where they were: nothing of ours is, when it is unloaded. */
static bool is_hooked(const char *function)
{
	FILE *file = fopen("/sys/kernel/tracing/enabled_functions", "r");
	char line[512];
	bool found = false;

	if (!file)
		file = fopen("/sys/kernel/debug/tracing/enabled_functions", "r");
	EXPECT(file);
	while (fgets(line, sizeof(line), file))
		found |= !strncmp(line, function, strlen(function)) &&
			 line[strlen(function)] == ' ';
	fclose(file);
	return found;
}

TEST(shim_unhooks)
{
	static const char * const functions[] = {
		"__folio_put", "free_unref_folios", "memory_failure", "kvm_gmem_get_pfn",
	};
	size_t nr = sizeof(functions) / sizeof(*functions);

	need_shim_module();
	if (!shim_hooks_kvm())
		nr--;
	for (size_t i = 0; i < nr; i++)
		EXPECT(is_hooked(functions[i]));
	for (int round = 0; round < 10; round++) {
		unload_all();
		for (size_t i = 0; i < nr; i++)
			EXPECT(!is_hooked(functions[i]));
		load_all();
	}
}

static void disable_livepatch(void)
{
	int fd = open(LIVEPATCH "/enabled", O_WRONLY);

	EXPECT(fd >= 0);
	EXPECT_EQ(write(fd, "0", 1), 1);
	close(fd);
	EXPECT(EVENTUALLY(access(LIVEPATCH, F_OK)));
	EXPECT(EVENTUALLY(!module_unload("livepatch_test")));
}

/* One only redirects a function; the second one is told. */
TEST(shim_beside_livepatch)
{
	int log;

	need_shim_module();
	EXPECT_ERR(module_load("livepatch_test", ""), EBUSY);

	unload_all();
	EXPECT_EQ(module_load("livepatch_test", ""), 0);
	log = kernel_log();
	EXPECT_ERR(module_load("gmemfd_shim", ""), EBUSY);
	EXPECT(said(log, "refused: somebody else redirects memory_failure()"));
	EXPECT(!is_hooked("__folio_put"));
	disable_livepatch();
	load_all();
}

static void write_to(const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/tracing/%s", name);
	fd = open(path, O_WRONLY | O_TRUNC);
	if (fd < 0) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/tracing/%s", name);
		fd = open(path, O_WRONLY | O_TRUNC);
	}
	EXPECT(fd >= 0);
	EXPECT_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* Give a page away and close the file: it comes home by the hook. */
static void last_put_by_hook(void)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	int pipes[2];

	p[0] = 1;
	EXPECT_EQ(pipe(pipes), 0);
	EXPECT_EQ(vmsplice(pipes[1], &(struct iovec){ p, PAGE }, 1, 0), PAGE);
	munmap(p, 2 * MB);
	close(fd);
	EXPECT(read_long("/sys/class/misc/gmemfd/away_folios") > 0);
	close(pipes[0]);
	close(pipes[1]);
	EXPECT(EVENTUALLY(read_long("/sys/class/misc/gmemfd/away_folios") == 0));
}

/* Tracers come and go on the functions that are hooked. */
TEST(shim_beside_tracers)
{
	need_shim_module();
	test_changes_direct_map();
	write_to("set_ftrace_filter", "__folio_put");
	write_to("current_tracer", "function");
	last_put_by_hook();
	write_to("current_tracer", "function_graph");
	last_put_by_hook();
	write_to("current_tracer", "nop");
	write_to("set_ftrace_filter", "");
	write_to("kprobe_events", "p:gmem_test __folio_put");
	write_to("events/kprobes/gmem_test/enable", "1");
	last_put_by_hook();
	write_to("events/kprobes/gmem_test/enable", "0");
	write_to("kprobe_events", "");
	last_put_by_hook();
}

/* The loader says so, or on Linux 6.12 the shim when somebody registers. */
TEST(shim_is_for_gmemfd_alone)
{
	int log;

	unload_all();
	EXPECT_EQ(module_load("gmemfd_shim", ""), 0);
	log = kernel_log();
	EXPECT(module_load("gmemfe", "") < 0);
	if (kernel_before(6, 13))
		EXPECT(errno == EPERM);
	else
		EXPECT(said(log, "from namespace module:gmemfd, but does not import it"));
	EXPECT_EQ(module_unload("gmemfd_shim"), 0);
	load_all();
}

static bool is_locked_down(void)
{
	char text[64] = "";
	int fd;

	mount("securityfs", "/sys/kernel/security", "securityfs", 0, NULL);
	fd = open("/sys/kernel/security/lockdown", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return strstr(text, "[integrity]");
}

/* Secure Boot: modules that are signed with the machine's key load, and others do not. */
TEST(shim_in_locked_down_kernel)
{
	const long unsigned_module = 1 << 13;

	need_shim_module();
	if (!is_locked_down())
		test_skip("without Secure Boot");
	EXPECT(!(read_long("/proc/sys/kernel/tainted") & unsigned_module));
	EXPECT(module_load("livepatch_test", "") < 0);
	unload_all();
	load_all();
	last_put_by_hook();
	EXPECT(!(read_long("/proc/sys/kernel/tainted") & unsigned_module));
}

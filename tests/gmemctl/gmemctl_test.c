// SPDX-License-Identifier: GPL-2.0
/*
 * gmemctl, in the booted lab: the program as it is built for distributions, with
 * its libraries in /, on modules that depmod has indexed.
 *
 * JSON goes out for a parser: a line "json TEST FILTER", then what gmemctl printed,
 * then "end".  The filter is jq's, and must be true.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "../lib.h"

/* GMEM_SHIM_ABI, and one that it is not. */
#define SHIM_ABI	"8"
#define OTHER_ABI	"7"

#define USER	1000

static char output[1 << 20];
static char release[65];

/* Files */

static void copy_file(const char *from, const char *to, const char *replace, const char *by)
{
	int in = open(from, O_RDONLY), out = open(to, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	size_t size = lseek(in, 0, SEEK_END);
	char *image = malloc(size), *at;

	EXPECT_EQ(pread(in, image, size, 0), (long long)size);
	at = replace ? memmem(image, size, replace, strlen(replace)) : NULL;
	EXPECT(!replace || at);
	if (at)
		memcpy(at, by, strlen(by));
	EXPECT_EQ(write(out, image, size), (long long)size);
	free(image);
	close(in);
	close(out);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	EXPECT(file);
	fputs(text, file);
	fclose(file);
}

/* Programs */

/* Programs believe that they write to a terminal. */
static bool on_terminal;

static int run_as(uid_t uid, char *const argv[])
{
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	EXPECT_EQ(pipe(fds), 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		close(fds[0]);
		close(fds[1]);
		setenv("LD_LIBRARY_PATH", "/", 1);
		if (on_terminal)
			setenv("LD_PRELOAD", "/terminal.so", 1);
		if (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
			    setresuid(uid, uid, uid)))
			_exit(126);
		execv(argv[0][0] == 'd' ? "/kmod" : "/gmemctl", argv);
		_exit(127);
	}
	close(fds[1]);
	while ((n = read(fds[0], output + len, sizeof(output) - 1 - len)) > 0)
		len += n;
	close(fds[0]);
	output[len] = '\0';
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define gmemctl_as(uid, ...)	run_as(uid, (char *[]){ "gmemctl", __VA_ARGS__, NULL })
#define gmemctl(...)		gmemctl_as(0, __VA_ARGS__)

#define EXPECT_SAYS(text)						\
	do {								\
		if (!strstr(output, text))				\
			FAIL("it does not say \"%s\" but:\n%s", text, output); \
	} while (0)
#define EXPECT_EXIT(call, status)					\
	do {								\
		int _s = (call);					\
		if (_s != (status))					\
			FAIL("%s: exit status %d, and:\n%s", #call, _s, output); \
	} while (0)

/* What --json printed last, for the parser outside. */
__attribute__((format(printf, 2, 3)))
static void expect_json(const char *test, const char *filter, ...)
{
	va_list ap;

	printf("json %s ", test);
	va_start(ap, filter);
	vprintf(filter, ap);
	va_end(ap);
	printf("\n%s\nend\n", output);
}

#define JSON(...)	expect_json(__func__, __VA_ARGS__)

/* Modules */

static void depmod(const char *for_release)
{
	EXPECT_EXIT(run_as(0, (char *[]){ "depmod", (char *)for_release, NULL }), 0);
}

/* The state that each test starts from: no module, neither loaded nor installed. */
static void prepare(void)
{
	static char path[256];
	struct utsname uts;

	test_changes_direct_map();
	uname(&uts);
	strcpy(release, uts.release);
	mkdir("/lib64", 0755);
	(void)!symlink("/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2");
	mkdir("/etc", 0755);
	write_file("/etc/passwd", "root:x:0:0::/:/bin/sh\nvmm:x:1000:1000::/:/bin/sh\n");
	write_file("/etc/group", "root:x:0:\nkvm:x:104:\n");
	module_unload("gmemfd");
	unlink("/etc/modprobe.d/test.conf");
	mkdir("/lib/modules", 0755);
	snprintf(path, sizeof(path), "/lib/modules/%s", release);
	mkdir(path, 0755);
	chdir(path);
	mkdir("build", 0755);
	mkdir("updates", 0755);
	mkdir("kernel", 0755);
	unlink("build/Module.symvers");
	unlink("build/include/linux/gmem_shim.h");
	unlink("updates/gmemfd.ko");
	unlink("updates/gmemfd_shim.ko");
	unlink("kernel/kvm.ko");
	write_file("modules.order", "");
	write_file("modules.builtin", "");
	write_file("modules.builtin.modinfo", "");
	depmod(release);
}

static void install(void)
{
	prepare();
	copy_file(access("/gmemfd.ko", F_OK) ? "/lib/gmemfd.ko" : "/gmemfd.ko",
		  "updates/gmemfd.ko", NULL, NULL);
	depmod(release);
}

static void install_and_load(void)
{
	install();
	EXPECT_EXIT(gmemctl("load"), 0);
}

/* Processes with gmem files */

static void has_it_open(int fd)
{
	(void)fd;
}

static void is_of_user(int fd)
{
	(void)fd;
	/* Otherwise its user may not look into it, who has not started it. */
	prctl(PR_SET_DUMPABLE, 1);
}

static pid_t spawn(void (*run)(int fd), int fd, uid_t uid, int ready[2])
{
	pid_t pid;
	char c;

	fflush(stdout);
	pid = fork();
	if (pid) {
		EXPECT_EQ(read(ready[0], &c, 1), 1);
		return pid;
	}
	if (uid)
		EXPECT(!setresgid(uid, uid, uid) && !setresuid(uid, uid, uid));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run(fd);
	EXPECT_EQ(write(ready[1], "", 1), 1);
	pause();
	_exit(0);
}

static void end(pid_t pid)
{
	kill(pid, 9);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

static void has_it_mapped(int fd)
{
	gmem_map(fd, 0, 2 * MB);
	close(fd);
}

static void has_a_strange_name(int fd)
{
	(void)fd;
	EXPECT_EQ(prctl(PR_SET_NAME, "a\033[1m\"\\\xff"), 0);
}

static void opens_path(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	EXPECT(open(path, O_PATH) >= 0);
	close(fd);
}

/* doctor */

TEST(doctor_all_is_well)
{
	install_and_load();
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("all is well");
	EXPECT_SAYS("has the shim, version " SHIM_ABI ", says the module");
	EXPECT_SAYS("/updates/gmemfd.ko");
	EXPECT_SAYS("loaded");
	EXPECT_SAYS("/dev/gmemfd can be opened (mode 0660, group root); secret pages are mapped by up to 2 MiB\n");
	EXPECT_SAYS("2 pages, 2 free, 0 of these reserved");
	EXPECT_SAYS("256 pages, 256 free, 0 of these reserved");
	EXPECT_EXIT(gmemctl("--json", "doctor"), 0);
	JSON(".ok and .kernel == \"%s\" and all(.checks[]; .status != \"fail\") and (.checks[] | select(.check == \"shim\").shim_abi == " SHIM_ABI ") and (.checks[] | select(.check == \"module\").loaded) and (.checks[] | select(.check == \"device\").max_secret_entry == 2097152)",
	     release);
}

TEST(doctor_not_loaded)
{
	install();
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("updates/gmemfd.ko");
	EXPECT_SAYS("not loaded\n                  -> gmemctl load");
	EXPECT_SAYS("has the shim; its version shows");
	EXPECT_SAYS("the kernel has all the functions that the module needs");
	EXPECT_SAYS("/dev/gmemfd is there once gmemfd is loaded");
	EXPECT_EXIT(gmemctl("--json", "doctor"), 0);
	JSON(".ok and (.checks[] | select(.check == \"symbols\") | .module_shim_abi == " SHIM_ABI " and .missing == [])");
}

/* The kernel's headers tell which symbols there are, and for which modules. */
TEST(doctor_reads_headers)
{
	install();
	copy_file("/Module.symvers", "build/Module.symvers", NULL, NULL);
	mkdir("build/include", 0755);
	mkdir("build/include/linux", 0755);
	write_file("build/include/linux/gmem_shim.h", "#define GMEM_SHIM_ABI	" SHIM_ABI "\n");
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("version " SHIM_ABI ", says the kernel's headers");
	EXPECT_SAYS("symbols that the module needs\n");

	/* Another shim; the same, but for another module; one symbol less. */
	write_file("build/include/linux/gmem_shim.h", "#define GMEM_SHIM_ABI	" OTHER_ABI "\n");
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("the module wants version " SHIM_ABI " of the shim, this kernel has version " OTHER_ABI);
	unlink("build/include/linux/gmem_shim.h");
	copy_file("/Module.symvers", "build/Module.symvers",
		  "gmem_loan_take\tvmlinux\tEXPORT_SYMBOL_GPL\tmodule:gmemfd",
		  "gmem_loan_take\tvmlinux\tEXPORT_SYMBOL_GPL\tmodule:gmemfe");
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("lacks 1, or has them in another version: gmem_loan_take");
	copy_file("/Module.symvers", "build/Module.symvers", "\tgmem_page_poison\t",
		  "\tgmem_page_poisom\t");
	EXPECT_EXIT(gmemctl("--json", "doctor"), 1);
	JSON("(.ok | not) and (.checks[] | select(.check == \"symbols\") | .status == \"fail\" and .missing == [\"gmem_page_poison\"])");
}

TEST(doctor_no_module)
{
	prepare();
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("fail  module      there is no module gmemfd for Linux");
	EXPECT_SAYS("gmemfd-dkms");
	EXPECT_SAYS("not well: module\n");
	mkdir("/var", 0755);
	mkdir("/var/lib", 0755);
	mkdir("/var/lib/dkms", 0755);
	mkdir("/var/lib/dkms/gmemfd", 0755);
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("dkms autoinstall -k");
	rmdir("/var/lib/dkms/gmemfd");
	EXPECT_EXIT(gmemctl("--json", "doctor"), 1);
	JSON("(.ok | not) and ([.checks[] | select(.status == \"fail\").check] == [\"module\"])");
}

/* Loaded from somewhere: fine until the next boot. */
TEST(doctor_module_file_is_gone)
{
	prepare();
	EXPECT_EQ(module_load("gmemfd", ""), 0);
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("note  module      gmemfd is loaded, but after a reboot there is no module");
}

/* As after an upgrade: what runs is not what the next boot will have. */
TEST(doctor_another_build_is_loaded)
{
	char version[128], other[160];
	FILE *file;

	install_and_load();
	file = fopen("/sys/module/gmemfd/srcversion", "r");
	if (!file)
		test_skip("the module has no srcversion");
	EXPECT(fgets(version, sizeof(version), file));
	fclose(file);
	version[strcspn(version, "\n")] = '\0';
	snprintf(other, sizeof(other), "srcversion=%s", version);
	copy_file("/lib/gmemfd.ko", "updates/gmemfd.ko", other, "srcversion=X");
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("note  module      another build than /lib/modules/");
	EXPECT_SAYS("-> gmemctl unload && gmemctl load");
}

TEST(doctor_not_indexed)
{
	install();
	unlink("updates/gmemfd.ko");
	unlink("updates/gmemfd_shim.ko");
	depmod(release);
	copy_file("/lib/gmemfd.ko", "updates/gmemfd.ko", NULL, NULL);
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("is there, but not in the list of modules");
	EXPECT_SAYS("-> depmod\n");
}

TEST(doctor_other_kernels_module)
{
	install();
	copy_file("/lib/gmemfd.ko", "updates/gmemfd.ko", "vermagic=7.", "vermagic=8.");
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("updates/gmemfd.ko is built for Linux 8.");
	EXPECT_SAYS("-> install the package gmemfd-dkms; or in");
	EXPECT_SAYS("not well: module\n");
	EXPECT_EXIT(gmemctl("--json", "doctor"), 1);
	JSON("[.checks[] | select(.status == \"fail\").check] == [\"module\"]");
}

TEST(doctor_built_for_others_only)
{
	prepare();
	mkdir("/lib/modules/8.0-other", 0755);
	copy_file("/lib/gmemfd.ko", "/lib/modules/8.0-other/gmemfd.ko", NULL, NULL);
	write_file("/lib/modules/8.0-other/modules.order", "");
	write_file("/lib/modules/8.0-other/modules.builtin", "");
	depmod("8.0-other");
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("only for 8.0-other");
	EXPECT_EXIT(gmemctl("load"), 1);
	EXPECT_SAYS("only for 8.0-other");
	unlink("/lib/modules/8.0-other/gmemfd.ko");
	depmod("8.0-other");
}

TEST(doctor_pools_are_empty)
{
	long nr = pool(2 * MB, "nr_hugepages");
	int fd;

	install_and_load();
	write_text("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0");
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("note  2M pool     no pages\n                  -> sysctl");
	fd = gmem_create(2 * GB, GB, 0);
	EXPECT(fd >= 0);
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("note  1G pool     all 2 pages are in use or reserved");
	EXPECT_SAYS("not well: pools\n");
	EXPECT_EXIT(gmemctl("--json", "doctor"), 1);
	JSON("(.checks[] | select(.check == \"1G pool\") | .pages == 2 and .reserved == 2 and .nodes == [{\"node\": 0, \"pages\": 2, \"free\": 2}]) and (.checks[] | select(.check == \"2M pool\") | .pages == 0)");
	close(fd);
	/* Pages that come when they are wanted are as good. */
	write_text("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "8");
	fd = gmem_create(2 * GB, GB, 0);
	EXPECT_EXIT(gmemctl("doctor"), 0);
	write_text("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "0");
	close(fd);
	char text[32];

	snprintf(text, sizeof(text), "%ld", nr);
	write_text("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", text);
}

TEST(doctor_not_root)
{
	install_and_load();
	EXPECT_EXIT(gmemctl_as(USER, "doctor"), 1);
	EXPECT_SAYS("/dev/gmemfd cannot be opened by this user (mode 0660, group root)");
	EXPECT_SAYS("a udev rule:");
	EXPECT_EQ(chown("/dev/gmemfd", 0, 104), 0);
	EXPECT_EXIT(gmemctl_as(USER, "doctor"), 1);
	EXPECT_SAYS("(mode 0660, group kvm)");
	EXPECT_SAYS("-> usermod -aG kvm vmm");
	EXPECT_SAYS("not well: device\n");
	EXPECT_EXIT(gmemctl_as(USER, "--json", "doctor"), 1);
	JSON(".checks[] | select(.check == \"device\") | .status == \"fail\" and .group == \"kvm\" and .mode == 432 and has(\"max_secret_entry\") and .max_secret_entry == null");
	EXPECT_EQ(chown("/dev/gmemfd", USER, 0), 0);
	EXPECT_EXIT(gmemctl_as(USER, "doctor"), 0);
}

TEST(doctor_kvm)
{
	install();
	EXPECT_EXIT(gmemctl("--json", "doctor"), 0);
	JSON(".checks[] | select(.check == \"KVM\") | .status == \"ok\" and .hooks");
	copy_file("/lib/kvm.ko", "kernel/kvm.ko", NULL, NULL);
	copy_file("/lib/irqbypass.ko", "kernel/irqbypass.ko", NULL, NULL);
	depmod(release);
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("ok    KVM         takes gmem files for memslots, /dev/kvm can be opened");
	/* KVM without the shim's patch */
	copy_file("/lib/kvm.ko", "kernel/kvm.ko", "gmem_provider_of", "gmem_pr0vider_of");
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("note  KVM         this kernel's KVM does not take gmem files");
	unlink("kernel/irqbypass.ko");
}

/* load, unload */

TEST(load_and_unload)
{
	install();
	EXPECT_EXIT(gmemctl("--json", "load"), 0);
	JSON(".ok and .loaded and (.was_loaded | not) and (.path | endswith(\"/updates/gmemfd.ko\"))");
	EXPECT(!access("/dev/gmemfd", F_OK));
	EXPECT_EXIT(gmemctl("load"), 0);
	EXPECT_SAYS("loaded already");
	EXPECT_EXIT(gmemctl("--json", "load"), 0);
	JSON(".ok and .was_loaded");
	EXPECT_EXIT(gmemctl("--json", "unload"), 0);
	JSON(".ok and .was_loaded and (.loaded | not)");
	EXPECT(access("/dev/gmemfd", F_OK));
	EXPECT_EXIT(gmemctl("unload"), 0);
	EXPECT_SAYS("gmemfd is not loaded");
	EXPECT_EXIT(gmemctl("load"), 0);
	EXPECT_SAYS("gmemfd is loaded, from /lib/modules/");
	EXPECT_EXIT(gmemctl("unload"), 0);
	EXPECT_SAYS("gmemfd is unloaded");
}

TEST(load_not_root)
{
	install();
	EXPECT_EXIT(gmemctl_as(USER, "load"), 1);
	EXPECT_SAYS("no permission to load and unload modules\n  -> do it as root");
	EXPECT_EXIT(gmemctl_as(USER, "--json", "load"), 1);
	JSON("(.ok | not) and (.reason | startswith(\"no permission\"))");
	EXPECT_EXIT(gmemctl("load"), 0);
	EXPECT_EXIT(gmemctl_as(USER, "unload"), 1);
	EXPECT_SAYS("no permission to load and unload modules");
}

TEST(load_no_module)
{
	prepare();
	EXPECT_EXIT(gmemctl("load"), 1);
	EXPECT_SAYS("there is no module gmemfd for Linux");
	EXPECT_SAYS("gmemfd-dkms");
}

TEST(load_other_kernels_module)
{
	install();
	copy_file("/lib/gmemfd.ko", "updates/gmemfd.ko", "vermagic=7.", "vermagic=8.");
	EXPECT_EXIT(gmemctl("load"), 1);
	EXPECT_SAYS("the module is built for Linux 8.");
	EXPECT_SAYS("the kernel said: gmemfd: version magic '8.");
}

TEST(load_missing_symbol)
{
	install();
	copy_file("/lib/gmemfd.ko", "updates/gmemfd.ko", "gmem_loan_take", "gmem_lown_take");
	EXPECT_EXIT(gmemctl("doctor"), 0);	/* may be a variable */
	EXPECT_SAYS("of ");
	EXPECT_EXIT(gmemctl("load"), 1);
	EXPECT_SAYS("the module wants symbols that this kernel does not have");
	EXPECT_SAYS("Unknown symbol gmem_lown_take");
}

TEST(load_is_forbidden_by_configuration)
{
	install();
	mkdir("/etc/modprobe.d", 0755);
	write_file("/etc/modprobe.d/test.conf", "install gmemfd /bin/false\n");
	EXPECT_EXIT(gmemctl("load"), 1);
	EXPECT_SAYS("modprobe.d has a command in place of loading, which failed: /bin/false");
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("note  module      modprobe.d has a command in place of loading it: /bin/false");
}

TEST(unload_while_in_use)
{
	int ready[2], device, fd;
	pid_t pid;

	install_and_load();
	EXPECT_EQ(pipe(ready), 0);
	device = gmem_device();
	fd = gmem_create(2 * MB, 2 * MB, 0);
	pid = spawn(has_it_open, fd, 0, ready);
	close(fd);
	EXPECT_EXIT(gmemctl("--json", "unload"), 1);
	JSON("(.ok | not) and .references >= 2 and ([.users[].pid] | sort) == ([%d, %d, %d] | sort)",
	     pid, pid, getpid());
	close(device);
	end(pid);
	EXPECT_EXIT(gmemctl("unload"), 0);

	EXPECT_EXIT(gmemctl("load"), 0);
	fd = gmem_create(2 * MB, 2 * MB, 0);
	pid = spawn(has_it_mapped, fd, 0, ready);
	close(fd);
	EXPECT_EXIT(gmemctl("unload"), 1);
	EXPECT_SAYS("in use by prog (");
	end(pid);
}

TEST(unload_while_folios_are_away)
{
	struct pin pin;
	char *p;
	int fd;

	install_and_load();
	fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(fd, 0, 2 * MB);
	pin_pipe(&pin, p, PAGE);
	munmap(p, 2 * MB);
	close(fd);
	EXPECT_EXIT(gmemctl("unload"), 1);
	EXPECT_SAYS("folios that have left their files are still referenced (pipes, io_uring, I/O): 1");
	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("no gmem files");
	EXPECT_SAYS("1 folios have left");
	unpin(&pin);
	EXPECT_EXIT(gmemctl("unload"), 0);
}

/* ls */

TEST(ls_nothing)
{
	install();
	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("no gmem files");
	EXPECT_EXIT(gmemctl("--json", "ls"), 0);
	JSON(".ok and .files == [] and .away_folios == null");
}

TEST(ls_files_of_several_processes)
{
	int ready[2], large, small;
	pid_t root, user, mapper;

	install_and_load();
	EXPECT_EQ(pipe(ready), 0);
	large = gmem_create(GB, GB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT_EQ(gmem_allocate(large, 0, PAGE), 0);
	EXPECT_EQ(gmem_convert(large, 100 * MB, PAGE, true), 0);
	small = gmem_create(8 * MB, 2 * MB, 0);
	EXPECT_EQ(gmem_allocate(small, 2 * MB, 4 * MB), 0);
	EXPECT_EQ(gmem_convert(small, 0, 4 * MB, false), 0);
	root = spawn(has_it_open, large, 0, ready);
	user = spawn(has_it_open, small, USER, ready);
	mapper = spawn(has_it_mapped, small, 0, ready);

	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("SIZE        BLOCK    PRIVATE     SECRET      SHARED      HOLE        HELD BY\n");
	EXPECT_SAYS("1 GiB       1 GiB    4 KiB       0           1048572 KiB 0 ");
	EXPECT_SAYS("in folios of 2 MiB: 1022 MiB, 4 KiB: 2 MiB");
	EXPECT_SAYS("8 MiB       2 MiB    4 MiB       0           4 MiB       4 MiB ");
	EXPECT_SAYS("in folios of 2 MiB: 4 MiB\n");
	EXPECT_SAYS("vmm prog (");
	EXPECT_EXIT(gmemctl("--json", "ls"), 0);
	/* The test's own process has both files open, and so have its children. */
	JSON("(.files | length) == 2 and (.files[] | select(.size == 1073741824) | .block_size == 1073741824 and .private == 4096 and .secret == 0 and .hole == 0 and .flags == 1 and .folios == [{\"order\": 0, \"size\": 4096, \"bytes\": 2097152}, {\"order\": 9, \"size\": 2097152, \"bytes\": 1071644672}]) and (.files[] | select(.size == 8388608) | .private == 4194304 and .shared == 4194304 and .hole == 4194304 and .folios == [{\"order\": 9, \"size\": 2097152, \"bytes\": 4194304}] and any(.holders[]; .pid == %d and .uid == %d and .user == \"vmm\" and .fd == %d) and any(.holders[]; .pid == %d and .fd == %d) and any(.holders[]; .pid == %d and .fd == null)) and .hidden_processes == 0",
	     user, USER, small, getpid(), small, mapper);
	end(root);
	end(user);
	end(mapper);
}

/* Each state has a column, and the three are all of the file. */
static int file_of_all_states(void)
{
	int fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_SECRET);

	EXPECT_EQ(gmem_convert(fd, 2 * MB, 2 * MB, true), 0);
	EXPECT_EQ(gmem_convert(fd, 0, PAGE, false), 0);
	return fd;
}

TEST(ls_secret)
{
	int fd;

	install_and_load();
	fd = file_of_all_states();
	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("8 MiB       2 MiB    2 MiB       6140 KiB    4 KiB       8 MiB ");
	EXPECT_EXIT(gmemctl("--json", "ls"), 0);
	JSON(".files[0] | .flags == 16 and .private == 2097152 and .secret == 6287360 and .shared == 4096 and .private + .secret + .shared == .size");
	close(fd);
}

/* Whoever has it open or not, and the name is in its way to the list. */
TEST(ls_and_map_named)
{
	static char path[] = "/tmp/mnt/a dir/vm\\1";
	int fd;

	install_and_load();
	mkdir("/tmp/mnt", 0755);
	EXPECT_EQ(mount("none", "/tmp/mnt", "gmemfd", 0, "state=secret"), 0);
	mkdir("/tmp/mnt/a dir", 0755);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0);
	EXPECT_EQ(ftruncate(fd, 8 * MB), 0);
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("8 MiB       2 MiB    0           8 MiB       0           6 MiB       root ");
	EXPECT_SAYS("\n  /tmp/mnt/a dir/vm");
	close(fd);
	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("8 MiB       2 MiB    0           8 MiB       0           6 MiB       nobody\n");
	EXPECT_EXIT(gmemctl("--json", "ls"), 0);
	JSON("(.files | length) == 1 and (.files[0] | (.path | startswith(\"/tmp/mnt/a dir/vm\")) and .holders == [] and .secret == 8388608 and .hole == 6291456)");

	EXPECT_EXIT(gmemctl("map", path), 0);
	EXPECT_SAYS("+");
	EXPECT_EXIT(gmemctl("--json", "map", path), 0);
	JSON("(.path | startswith(\"/tmp/mnt\")) and .pid == null and .size == 8388608");
	EXPECT_EXIT(gmemctl("map", "/tmp/mnt/none"), 1);
	EXPECT_SAYS("/tmp/mnt/none: No such file");
	EXPECT_EXIT(gmemctl("map", "/dev/null"), 1);
	EXPECT_SAYS("/dev/null is not a gmem file");
	EXPECT_EQ(umount("/tmp/mnt"), 0);
}

/* A module from before secret pages does not tell how much is secret. */
TEST(ls_module_without_secret)
{
	int fd;

	install();
	copy_file("/lib/gmemfd.ko", "updates/gmemfd.ko", "gmem_secret:", "gmem_secreT:");
	EXPECT_EXIT(gmemctl("load"), 0);
	fd = file_of_all_states();
	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("8 MiB       2 MiB    2 MiB       0           4 KiB       8 MiB ");
	EXPECT_EXIT(gmemctl("--json", "ls"), 0);
	JSON(".files[0] | .private == 2097152 and .secret == 0 and .shared == 4096");
	close(fd);
}

/* Files that are held by what is not an fd of theirs. */
TEST(ls_without_fd)
{
	int ready[2], fd;
	pid_t pid;

	install_and_load();
	EXPECT_EQ(pipe(ready), 0);
	fd = gmem_create(2 * MB, 2 * MB, 0);
	pid = spawn(has_it_mapped, fd, 0, ready);
	close(fd);
	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("2 MiB       2 MiB    ?           ?           ?           2 MiB ");
	EXPECT_SAYS(") mapping\n");
	end(pid);

	fd = gmem_create(2 * MB, 2 * MB, 0);
	pid = spawn(opens_path, fd, 0, ready);
	close(fd);
	EXPECT_EXIT(gmemctl("--json", "ls"), 0);
	JSON(".files | length == 1 and (.[0] | .size == 2097152 and .private == null and .secret == null and .folios == null and .holders[0].pid == %d)",
	     pid);
	end(pid);
}

TEST(ls_not_root)
{
	int ready[2], fd;
	pid_t other, own;

	install_and_load();
	EXPECT_EQ(pipe(ready), 0);
	fd = gmem_create(2 * MB, 2 * MB, 0);
	other = spawn(has_it_open, fd, 0, ready);
	EXPECT_EXIT(gmemctl_as(USER, "ls"), 0);
	EXPECT_SAYS("no gmem files");
	EXPECT_SAYS("processes may not be looked into");
	close(fd);
	fd = gmem_create(4 * MB, 2 * MB, 0);
	own = spawn(is_of_user, fd, USER, ready);
	EXPECT_EXIT(gmemctl_as(USER, "ls"), 0);
	EXPECT_SAYS("4 MiB       2 MiB ");
	close(fd);
	end(other);
	end(own);
}

/* What a process calls itself can do no harm on a terminal, or to a parser. */
TEST(ls_strange_names)
{
	int ready[2], fd;
	pid_t pid;

	install_and_load();
	EXPECT_EQ(pipe(ready), 0);
	fd = gmem_create(2 * MB, 2 * MB, 0);
	pid = spawn(has_a_strange_name, fd, 0, ready);
	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("a?[1m\"\\? (");
	EXPECT_EXIT(gmemctl("--json", "ls"), 0);
	JSON("any(.files[0].holders[]; .comm == \"a?[1m\\\"\\\\?\")");
	end(pid);
}

/* map */

static int mixed_file(void)
{
	int fd = gmem_create(16 * MB, 2 * MB,
			     GMEMFD_CREATE_INIT_SHARED | GMEMFD_CREATE_SECRET);

	/* shared; private; mixed; hole private; hole shared; the rest is secret */
	EXPECT_EQ(gmem_allocate(fd, 0, 6 * MB), 0);
	EXPECT_EQ(gmem_convert(fd, 2 * MB, 2 * MB, true), 0);
	for (uint64_t at = 4 * MB; at < 4 * MB + 512 * KB; at += 2 * PAGE)
		EXPECT_EQ(gmem_convert(fd, at, PAGE, true), 0);
	EXPECT_EQ(gmem_convert(fd, 6 * MB, 2 * MB, true), 0);
	/* secret; secret and private; hole secret; hole secret and shared */
	EXPECT_EQ(gmem_allocate(fd, 10 * MB, 4 * MB), 0);
	EXPECT_EQ(gmem_convert_to(fd, 10 * MB, 6 * MB, GMEMFD_ATTRIBUTE_SECRET), 0);
	for (uint64_t at = 0; at < 512 * KB; at += 2 * PAGE) {
		EXPECT_EQ(gmem_convert(fd, 12 * MB + at, PAGE, true), 0);
		EXPECT_EQ(gmem_convert(fd, 15 * MB + at, PAGE, false), 0);
	}
	return fd;
}

TEST(map_picture)
{
	char pid[16], fd_text[16];
	int fd;

	install_and_load();
	fd = mixed_file();
	snprintf(pid, sizeof(pid), "%d", getpid());
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	EXPECT_EXIT(gmemctl("map", pid, fd_text), 0);
	EXPECT(!strchr(output, '\033'));
	EXPECT_SAYS("8 KiB a cell:  # private  + secret  = shared  % mixed  p private, partly hole  : hole: private  , secret  . shared\n");
	EXPECT_SAYS("          0 |================================================================| 2 MiB\n");
	EXPECT_SAYS("      2 MiB |################################################################| 2 MiB\n");
	EXPECT_SAYS("      4 MiB |%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%| 4 KiB\n");
	EXPECT_SAYS("   4608 KiB |================================================================| 4 KiB\n");
	EXPECT_SAYS("      5 MiB |================================================================| 4 KiB\n");
	EXPECT_SAYS("      6 MiB |::::::::::::::::::::::::::::::::::::::::::::::::::::::::::::::::| hole\n");
	EXPECT_SAYS("      8 MiB |................................................................| hole\n");
	EXPECT_SAYS("     10 MiB |++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++| 2 MiB\n");
	EXPECT_SAYS("     12 MiB |%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%| 2 MiB\n");
	EXPECT_SAYS("  12800 KiB |++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++| 2 MiB\n");
	EXPECT_SAYS("     14 MiB |,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,| hole\n");
	EXPECT_SAYS("     15 MiB |;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;| hole\n");
	/* Closer, and no more than asked for. */
	EXPECT_EXIT(gmemctl("map", "--offset", "4M", "--size", "64K", pid, fd_text), 0);
	EXPECT_SAYS("4 KiB a cell:");
	EXPECT_SAYS("      4 MiB |#=#=#=#=#=#=#=#=                                                | 4 KiB\n");
	EXPECT_EXIT(gmemctl("map", "--offset", "12M", "--size", "64K", pid, fd_text), 0);
	EXPECT_SAYS("     12 MiB |#+#+#+#+#+#+#+#+                                                | 2 MiB\n");
	EXPECT_EXIT(gmemctl("map", "--offset", "15M", "--size", "64K", pid, fd_text), 0);
	EXPECT_SAYS("     15 MiB |.,.,.,.,.,.,.,.,                                                | hole\n");
	close(fd);

	/* Cells over memory and hole */
	fd = gmem_create(2 * GB, GB, GMEMFD_CREATE_INIT_SHARED);
	EXPECT(fd >= 0);
	EXPECT_EQ(gmem_convert(fd, GB + MB, 2 * MB, true), 0);
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	EXPECT_EXIT(gmemctl("map", pid, fd_text), 0);
	EXPECT_SAYS("1 MiB a cell:");
	EXPECT_SAYS("      1 GiB |.::.............................................................| hole\n");
	close(fd);
}

/* Each state has a colour of its own. */
TEST(map_colours)
{
	char pid[16], fd_text[16];
	int fd;

	install_and_load();
	fd = mixed_file();
	snprintf(pid, sizeof(pid), "%d", getpid());
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	on_terminal = true;
	EXPECT_EXIT(gmemctl("map", pid, fd_text), 0);
	EXPECT_SAYS("  \033[35m+\033[0m secret  \033[32m=\033[0m shared");
	EXPECT_SAYS("          0 |\033[32m=\033[0m");
	EXPECT_SAYS("      2 MiB |\033[31m#\033[0m");
	EXPECT_SAYS("      4 MiB |\033[33m%\033[0m");
	EXPECT_SAYS("     10 MiB |\033[35m+\033[0m");
	EXPECT_SAYS("     12 MiB |\033[33m%\033[0m");
	EXPECT_SAYS("     14 MiB |\033[35m,\033[0m");
	EXPECT_SAYS("     15 MiB |\033[33m;\033[0m");
	on_terminal = false;
	close(fd);
}

TEST(map_against_get_ranges)
{
	struct gmemfd_range ranges[512];
	char pid[16], fd_text[16];
	unsigned int nr;
	int fd;

	install_and_load();
	fd = mixed_file();
	snprintf(pid, sizeof(pid), "%d", getpid());
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	EXPECT_EXIT(gmemctl("--json", "map", pid, fd_text), 0);
	nr = gmem_ranges(fd, 16 * MB, ranges, 512);
	EXPECT(nr > 360);
	printf("json %s .size == 16777216 and .block_size == 2097152 and .ranges == [", __func__);
	for (unsigned int i = 0; i < nr; i++) {
		bool hole = !(ranges[i].flags & GMEMFD_RANGE_ALLOCATED);
		char order[16] = "null";

		if (!hole)
			snprintf(order, sizeof(order), "%u", ranges[i].folio_order);
		printf("%s{\"offset\": %llu, \"size\": %llu, \"state\": \"%s\", \"hole\": %s, \"zeroed\": %s, \"folio_order\": %s}",
		       i ? ", " : "", ranges[i].offset, ranges[i].size,
		       ranges[i].flags & GMEMFD_RANGE_PRIVATE ? "private" :
		       ranges[i].flags & GMEMFD_RANGE_SECRET ? "secret" : "shared",
		       hole ? "true" : "false",
		       ranges[i].flags & GMEMFD_RANGE_ZEROED ? "true" : "false", order);
	}
	printf("]\n%s\nend\n", output);
	close(fd);
}

/* More than one GMEMFD_GET_RANGES has room for. */
TEST(map_of_many_ranges)
{
	char pid[16], fd_text[16];
	unsigned int nr = 0;
	int fd;

	install_and_load();
	fd = gmem_create(8 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	for (uint64_t at = 0; at < 8 * MB; at += 2 * PAGE)
		EXPECT_EQ(gmem_convert(fd, at, PAGE, true), 0);
	snprintf(pid, sizeof(pid), "%d", getpid());
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	EXPECT_EXIT(gmemctl("--json", "map", pid, fd_text), 0);
	for (char *at = output; (at = strstr(at, "\"state\"")); at++)
		nr++;
	EXPECT_EQ(nr, 2048);
	EXPECT_EXIT(gmemctl("map", pid, fd_text), 0);
	EXPECT_SAYS("   7936 KiB |:.:.:.:.:.");
	close(fd);
}

TEST(map_refused)
{
	char pid[16], fd_text[16];
	int fd;

	install_and_load();
	fd = gmem_create(2 * MB, 2 * MB, 0);
	snprintf(pid, sizeof(pid), "%d", getpid());
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	EXPECT_EXIT(gmemctl("map", pid, "0"), 1);
	EXPECT_SAYS("is not a gmem file but /dev/");
	EXPECT_EXIT(gmemctl("map", pid, "999"), 1);
	EXPECT_SAYS("has no fd 999");
	EXPECT_EXIT(gmemctl("map", "99999", "0"), 1);
	EXPECT_SAYS("there is no process 99999");
	EXPECT_EXIT(gmemctl("map", "--offset", "2M", pid, fd_text), 1);
	EXPECT_SAYS("the file has only 2 MiB");
	EXPECT_EXIT(gmemctl_as(USER, "map", pid, fd_text), 1);
	EXPECT_SAYS("no permission to look into process");
	EXPECT_EXIT(gmemctl("--json", "map", pid, "999"), 1);
	JSON("(.ok | not) and (.reason | endswith(\"no fd 999\"))");
	close(fd);
}

TEST(usage_errors)
{
	prepare();
	EXPECT_EXIT(gmemctl("--help"), 0);
	EXPECT_SAYS("Usage: gmemctl");
	EXPECT_EXIT(gmemctl("--version"), 0);
	EXPECT_EXIT(gmemctl("frobnicate"), 2);
	EXPECT_EXIT(gmemctl("map", "1"), 2);
	EXPECT_EXIT(gmemctl("map", "x", "1"), 2);
	EXPECT_EXIT(gmemctl("map", "--offset", "100", "1", "1"), 2);
	EXPECT_EXIT(gmemctl("ls", "1"), 2);
	EXPECT_EXIT(gmemctl("--frobnicate"), 2);
}

/* Debian's own kernel, on a boot of its own: its shim is a module. */

static void install_shim(void)
{
	module_unload("gmemfd");
	module_unload("gmemfd_shim");
	install();
	copy_file("/lib/gmemfd_shim.ko", "updates/gmemfd_shim.ko", NULL, NULL);
	copy_file("/lib/kvm.ko", "kernel/kvm.ko", NULL, NULL);
	copy_file("/lib/irqbypass.ko", "kernel/irqbypass.ko", NULL, NULL);
	depmod(release);
}

TEST(stock_load_and_unload)
{
	install_shim();
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("this kernel's shim is a module, ");
	EXPECT_SAYS("updates/gmemfd_shim.ko, not loaded");
	EXPECT_SAYS("symbols that the module needs\n");
	EXPECT_EXIT(gmemctl("load"), 0);
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_SAYS("updates/gmemfd_shim.ko, loaded");
	EXPECT_SAYS("private pages leave it");
	EXPECT_SAYS("; secret pages are mapped by up to 4 KiB\n");
	EXPECT_EXIT(gmemctl("--json", "doctor"), 0);
	JSON(".ok and (.checks[] | select(.check == \"device\").max_secret_entry == 4096) and (.checks[] | select(.check == \"shim\") | .delivery == \"module\" and .shim_abi == " SHIM_ABI ") and (.checks[] | select(.check == \"KVM\").hooks)");
	EXPECT_EXIT(gmemctl("unload"), 0);
	EXPECT(access("/sys/module/gmemfd", F_OK));
	EXPECT(access("/sys/module/gmemfd_shim", F_OK));
}

TEST(stock_ls_and_map_secret)
{
	char pid[16], fd_text[16];
	int fd;

	install_shim();
	EXPECT_EXIT(gmemctl("load"), 0);
	fd = file_of_all_states();
	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_EXIT(gmemctl("ls"), 0);
	EXPECT_SAYS("8 MiB       2 MiB    2 MiB       6140 KiB    4 KiB       6 MiB ");
	snprintf(pid, sizeof(pid), "%d", getpid());
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	EXPECT_EXIT(gmemctl("map", pid, fd_text), 0);
	EXPECT_SAYS("          0 |=+++");
	EXPECT_SAYS("      2 MiB |::::");
	EXPECT_SAYS("      4 MiB |,,,,");
	close(fd);
	EXPECT_EXIT(gmemctl("unload"), 0);
}

TEST(stock_no_shim)
{
	install_shim();
	unlink("updates/gmemfd_shim.ko");
	depmod(release);
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("fail  shim        this kernel does not have the shim (CONFIG_GMEM_SHIM), and there is no module of it (gmemfd_shim)");
	EXPECT_EXIT(gmemctl("load"), 1);
	EXPECT_SAYS("has no gmemfd shim, which the module needs");
}

TEST(stock_refused_by_build)
{
	char log[512];

	install_shim();
	unlink("updates/gmemfd.ko");
	unlink("updates/gmemfd_shim.ko");
	depmod(release);
	for (char *dir = strcpy(log, "/var/lib/dkms/gmemfd/0.1.0/build/"), *at = dir + 1;
	     (at = strchr(at, '/')); *at++ = '/') {
		*at = '\0';
		mkdir(dir, 0755);
	}
	snprintf(log, sizeof(log), "DKMS make.log for gmemfd/0.1.0 for kernel %s (x86_64)\n"
		 "gmemfd_shim: refused: kvm_vm_ioctl() does not call kvm_gmem_get_pfn(): it may have it inlined\n"
		 "make: *** [Makefile:48: module] Error 1\n", release);
	write_file("/var/lib/dkms/gmemfd/0.1.0/build/make.log", log);
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("fail  shim        gmemfd_shim was not built for this kernel: kvm_vm_ioctl() does not call kvm_gmem_get_pfn(): it may have it inlined\n");
	EXPECT_SAYS("-> this kernel is another one than gmemfd was made for");
	EXPECT_EXIT(gmemctl("load"), 1);
	EXPECT_SAYS("there is no shim for Linux");
	EXPECT_EXIT(gmemctl("--json", "doctor"), 1);
	JSON("(.checks[] | select(.check == \"shim\") | .status == \"fail\" and (.refusal | contains(\"inlined\")))");
	unlink("/var/lib/dkms/gmemfd/0.1.0/build/make.log");
}

TEST(stock_refused_by_kernel)
{
	install_shim();
	copy_file("/lib/other_kernel.ko", "updates/gmemfd_shim.ko", NULL, NULL);
	EXPECT_EXIT(gmemctl("load"), 1);
	EXPECT_SAYS("the shim does not go into this kernel");
	EXPECT_SAYS("gmemfd_shim: refused: built for another build of the kernel");
	EXPECT_SAYS("-> build it again, for this kernel: dkms build --force");
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("fail  shim        gmemfd_shim was refused by this kernel: built for another build of the kernel");

	/* What was refused once does not matter when another one is taken. */
	install_shim();
	EXPECT_EXIT(gmemctl("load"), 0);
	EXPECT_EXIT(gmemctl("doctor"), 0);
	EXPECT_EXIT(gmemctl("unload"), 0);
	EXPECT_EXIT(gmemctl("doctor"), 0);
}

/* A kernel without the shim, on a boot of its own. */

TEST(noshim_doctor)
{
	prepare();
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("fail  shim        this kernel does not have the shim (CONFIG_GMEM_SHIM)");
	mkdir("/boot", 0755);
	write_file("/boot/config-8.0-with", "#\nCONFIG_GMEM_SHIM=y\n");
	write_file("/boot/config-8.0-without", "#\n# CONFIG_GMEM_SHIM is not set\n");
	EXPECT_EXIT(gmemctl("doctor"), 1);
	EXPECT_SAYS("-> boot a kernel that has it; installed: 8.0-with\n");
	install();
	EXPECT_EXIT(gmemctl("--json", "doctor"), 1);
	JSON("(.ok | not) and ([.checks[] | select(.status == \"fail\").check] | contains([\"shim\"]))");
}

TEST(noshim_load)
{
	install();
	EXPECT_EXIT(gmemctl("load"), 1);
	EXPECT_SAYS("has no gmemfd shim, which the module needs");
	EXPECT_SAYS("gmemfd: Unknown symbol ");
}

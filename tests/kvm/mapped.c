// SPDX-License-Identifier: GPL-2.0
/*
 * Memslots that name no file, and whose addresses are a mapping of one: what a VMM has that
 * knows of hugetlbfs only.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "vmm.h"

#define SMM	(1U << 16)	/* the slots of the other address space */

static int set_slot(int vm, unsigned int slot, unsigned int flags, uint64_t gpa,
		    uint64_t size, const void *host)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static int mapped_create(size_t size, size_t block, uint64_t flags)
{
	return gmem_create(size, block, flags | GMEMFD_CREATE_BIND_MAPPED);
}

/* Guest code in the first 2 MiB, which are shared; slot 0 is all of the file. */
static void vm_create_on(struct vm *vm, int gmem, char *host, size_t size)
{
	*vm = (struct vm) { .gmem = gmem, .size = size, .host = host,
			    .rest = GMEMFD_ATTRIBUTE_PRIVATE };
	vm->kvm = kvm_device();
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	EXPECT(vm->fd >= 0);
	EXPECT_EQ(gmem_convert(gmem, 0, 2 * MB, false), 0);
	vm_load_image(host);
	EXPECT_EQ(set_slot(vm->fd, 0, 0, 0, size, host), 0);
	vcpu_create(vm);
}

static void vm_create_mapped(struct vm *vm, int gmem, size_t size)
{
	vm_create_on(vm, gmem, gmem_map(gmem, 0, size), size);
}

/* What the guest gets at @gpa; false if it cannot go on. */
static bool guest_loads(struct vm *vm, uint64_t gpa)
{
	struct vcpu *vcpu = &vm->vcpus[0];

	vcpu_prepare(vcpu, guest_load, gpa, 0, 0);
	return vcpu_run(vcpu);
}

/* The guest has private pages too, by large mappings, and conversions do not disturb it. */
static void mapped_guest(size_t size, size_t block, uint64_t flags, const char *pages)
{
	int gmem = mapped_create(size, block, flags);
	uint64_t faults;
	struct vm vm;

	EXPECT_EQ(gmem_allocate(gmem, 0, size), 0);
	vm_create_mapped(&vm, gmem, size);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, size - 2 * MB, 5), 0);
	EXPECT_EQ(kvm_stat(vm.fd, pages), (long long)(size / block));
	faults = vm_faults(&vm);
	EXPECT_EQ(gmem_convert(gmem, 4 * MB, 2 * MB, false), 0);
	EXPECT_EQ(*(uint64_t *)(vm.host + 4 * MB), page_word(4 * MB, 5));
	*(uint64_t *)(vm.host + 4 * MB) = page_word(4 * MB, 5);
	EXPECT_EQ(gmem_convert(gmem, 4 * MB, 2 * MB, true), 0);
	EXPECT(!can_read(vm.host + 4 * MB));
	if (flags & GMEMFD_CREATE_SECRET) {
		EXPECT_EQ(gmem_convert_to(gmem, 6 * MB, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
		EXPECT_EQ(*(uint64_t *)(vm.host + 6 * MB), page_word(6 * MB, 5));
	}
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, size - 2 * MB, 5), 0);
	EXPECT_EQ(vm_faults(&vm), faults);
	EXPECT_EQ(kvm_stat(vm.fd, pages), (long long)(size / block));

	/* Punching takes a page from it, as from other slots. */
	EXPECT_EQ(gmem_punch(gmem, 4 * MB, PAGE), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 4 * MB, PAGE, 0), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 4 * MB + PAGE, 2 * MB, 5), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST(kvm_mapped_2m)
{
	mapped_guest(16 * MB, 2 * MB, 0, "pages_2m");
}

TEST(kvm_mapped_1g)
{
	need_1g_blocks();
	mapped_guest(GB, GB, 0, "pages_1g");
}

TEST(kvm_mapped_secret)
{
	mapped_guest(16 * MB, 2 * MB, GMEMFD_CREATE_SECRET, "pages_2m");
}

/* Without the flag it is memory like any other: what user space has, page by page. */
TEST(kvm_mapped_not_bound)
{
	int gmem = gmem_create(4 * MB, 2 * MB, 0);
	struct vm vm;

	vm_create_mapped(&vm, gmem, 4 * MB);
	EXPECT_EQ(gmem_convert(gmem, 2 * MB, PAGE, false), 0);
	EXPECT(guest_loads(&vm, 2 * MB));
	EXPECT(!guest_loads(&vm, 2 * MB + PAGE));
	EXPECT_EQ(vm.vcpus[0].error, EFAULT);
	vm_destroy(&vm);
	close(gmem);
}

/* Each of these is no mapping of one file that the slot could be bound to. */
TEST(kvm_mapped_by_what)
{
	int gmem = mapped_create(8 * MB, 2 * MB, 0), other = mapped_create(8 * MB, 2 * MB, 0);
	struct gmemfd_open_map only = { };
	int map_only = ioctl(gmem, GMEMFD_OPEN_MAP, &only);
	const char *names[] = { "two files", "a hole", "out of order", "for reading only",
				"an fd for mmap()", "one file" };
	struct vm vm;

	EXPECT(map_only >= 0);
	for (int i = 0; i < 6; i++) {
		char *host = mmap(NULL, 8 * MB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED;

		test_case(names[i]);
		EXPECT(host != MAP_FAILED);
		EXPECT(mmap(host, 8 * MB, prot, flags, i == 4 ? map_only : gmem, 0) == host);
		if (i == 0)
			mmap(host + 6 * MB, MB, prot, flags, other, 6 * MB);
		if (i == 1)
			munmap(host + 6 * MB, PAGE);
		if (i == 2)
			mmap(host + 6 * MB, 2 * MB, prot, flags, gmem, 4 * MB);
		EXPECT_EQ(gmem_convert(gmem, 2 * MB, PAGE, true), 0);
		vm_create_on(&vm, gmem, host, 8 * MB);
		if (i == 3) {
			EXPECT_EQ(set_slot(vm.fd, 0, 0, 0, 0, host), 0);
			EXPECT_EQ(mprotect(host + 6 * MB, PAGE, PROT_READ), 0);
			EXPECT_EQ(set_slot(vm.fd, 0, 0, 0, 8 * MB, host), 0);
		}
		/* One that is bound has the private page. */
		EXPECT_EQ(guest_loads(&vm, 2 * MB), i == 5);
		if (i != 5)
			EXPECT_EQ(vm.vcpus[0].error, EFAULT);
		vm_destroy(&vm);
	}
	close(map_only);
	close(other);
	close(gmem);
}

/* Several VMAs of one mapping are one. */
TEST(kvm_mapped_in_pieces)
{
	int gmem = mapped_create(16 * MB, 2 * MB, 0);
	char *host = gmem_map(gmem, 0, 16 * MB);
	struct vm vm;

	EXPECT_EQ(madvise(host + 4 * MB, 2 * MB, MADV_DONTFORK), 0);
	EXPECT_EQ(madvise(host + 8 * MB, PAGE, MADV_DONTDUMP), 0);
	vm_create_on(&vm, gmem, host, 12 * MB);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 10 * MB, 5), 0);
	/* In the middle of a mapping, at an odd offset: by small pages. */
	EXPECT_EQ(set_slot(vm.fd, 1, 0, GB, 2 * MB, host + 5 * MB), 0);
	EXPECT_EQ(guest_call(&vm, guest_load, GB, 0, 0), page_word(5 * MB, 5));
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 6);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_4k"), 1);
	vm.size = 16 * MB;
	vm_destroy(&vm);
	close(gmem);
}

/* A binding is a snapshot: what happens to the mapping afterwards does not concern the guest. */
TEST(kvm_mapped_is_snapshot)
{
	int gmem = mapped_create(8 * MB, 2 * MB, 0);
	char *host = gmem_map(gmem, 0, 8 * MB);
	struct vm vm;

	vm_create_on(&vm, gmem, host, 8 * MB);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 6 * MB, 5), 0);
	munmap(host + 2 * MB, 2 * MB);
	EXPECT(mmap(host + 4 * MB, 2 * MB, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0) != MAP_FAILED);
	EXPECT_EQ(mprotect(host + 6 * MB, 2 * MB, PROT_NONE), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 6 * MB, 5), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 6 * MB, 6), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 4);
	/* As long as there is a mapping or an fd. */
	munmap(host, 8 * MB);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 6 * MB, 6), 0);
	close(gmem);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 0);
	EXPECT(!guest_loads(&vm, 2 * MB));
	EXPECT_EQ(vm.vcpus[0].error, EFAULT);
	vm_destroy(&vm);
}

/* The fd may go before the mapping does. */
TEST(kvm_mapped_keeps_file)
{
	long before = pool(2 * MB, "free_hugepages");
	int gmem = mapped_create(4 * MB, 2 * MB, 0);
	struct vm vm;

	EXPECT_EQ(gmem_allocate(gmem, 0, 4 * MB), 0);
	vm_create_mapped(&vm, gmem, 4 * MB);
	close(gmem);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, 5), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 2);
	munmap(vm.host, vm.size);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), before);
	EXPECT(!guest_loads(&vm, 2 * MB));
	vm_destroy(&vm);
}

/* A BIOS in RAM: the guest reads and runs it, and what it writes there is the VMM's. */
TEST(kvm_mapped_read_only)
{
	int gmem = mapped_create(4 * MB, 2 * MB, 0);
	struct vcpu *vcpu;
	struct vm vm;
	char *rom;

	vm_create_mapped(&vm, gmem, 4 * MB);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, 5), 0);
	rom = mmap(NULL, 2 * MB, PROT_READ, MAP_SHARED, gmem, 2 * MB);
	EXPECT(rom != MAP_FAILED);
	EXPECT_EQ(set_slot(vm.fd, 1, KVM_MEM_READONLY, GB, 2 * MB, rom), 0);
	EXPECT_EQ(guest_call(&vm, guest_load, GB, 0, 0), page_word(2 * MB, 5));
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 3);

	vcpu = &vm.vcpus[0];
	vcpu_prepare(vcpu, guest_store, GB + PAGE, 99, 0);
	EXPECT(!vcpu_run(vcpu));
	EXPECT_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	EXPECT_EQ(vcpu->run->mmio.phys_addr, GB + PAGE);
	EXPECT_EQ(vcpu->run->mmio.is_write, 1);
	EXPECT_EQ(*(uint64_t *)vcpu->run->mmio.data, 99);
	EXPECT(vcpu_run(vcpu));
	EXPECT_EQ(guest_call(&vm, guest_load, GB + PAGE, 0, 0), page_word(2 * MB + PAGE, 5));
	munmap(rom, 2 * MB);
	vm_destroy(&vm);
	close(gmem);
}

/* The same range in several slots, and in both address spaces. */
TEST(kvm_mapped_twice)
{
	int gmem = mapped_create(4 * MB, 2 * MB, 0);
	struct vm vm;

	vm_create_mapped(&vm, gmem, 4 * MB);
	EXPECT_EQ(set_slot(vm.fd, 1, 0, GB, 2 * MB, vm.host + 2 * MB), 0);
	EXPECT_EQ(set_slot(vm.fd, SMM | 0, 0, 0, 4 * MB, vm.host), 0);
	EXPECT_EQ(guest_call(&vm, guest_store, GB + 8, 99, 0), 0);
	EXPECT_EQ(guest_call(&vm, guest_load, 2 * MB + 8, 0, 0), 99);
	/* Punching takes the page from all of them. */
	EXPECT_EQ(gmem_punch(gmem, 2 * MB, PAGE), 0);
	EXPECT_EQ(guest_call(&vm, guest_load, 2 * MB + 8, 0, 0), 0);
	EXPECT_EQ(guest_call(&vm, guest_load, GB + 8, 0, 0), 0);
	EXPECT_EQ(set_slot(vm.fd, 1, 0, 0, 0, NULL), 0);
	EXPECT_EQ(guest_call(&vm, guest_store, 2 * MB + 8, 7, 0), 0);
	vm_destroy(&vm);
	close(gmem);
}

/* Who names the file does so once for each address space, and for one VM. */
TEST(kvm_mapped_and_named)
{
	int gmem = mapped_create(4 * MB, 2 * MB, 0);
	struct vm a, b;

	vm_create_mapped(&a, gmem, 4 * MB);
	vm_create_mapped(&b, gmem, 4 * MB);
	EXPECT_EQ(vm_set_slot(a.fd, 1, 0, GB, 2 * MB, NULL, gmem, 2 * MB), 0);
	EXPECT_ERR(vm_set_slot(a.fd, 2, 0, 2 * GB, 2 * MB, NULL, gmem, 2 * MB), EEXIST);
	EXPECT_EQ(vm_set_slot(a.fd, SMM | 2, 0, 2 * GB, 2 * MB, NULL, gmem, 2 * MB), 0);
	EXPECT_ERR(vm_set_slot(b.fd, 1, 0, GB, 2 * MB, NULL, gmem, 0), EBUSY);
	EXPECT_EQ(set_slot(b.fd, 1, 0, GB, 2 * MB, b.host), 0);
	vm_destroy(&a);
	vm_destroy(&b);
	close(gmem);
}

/* A VMM is replaced by another one, which takes over the memory. */
TEST(kvm_mapped_two_vms)
{
	int gmem = mapped_create(8 * MB, 2 * MB, 0);
	struct vm a, b;

	EXPECT_EQ(gmem_allocate(gmem, 0, 8 * MB), 0);
	vm_create_mapped(&a, gmem, 8 * MB);
	EXPECT_EQ(guest_call(&a, guest_write_pages, 2 * MB, 6 * MB, 5), 0);
	vm_create_mapped(&b, gmem, 8 * MB);
	EXPECT_EQ(guest_call(&b, guest_check_pages, 2 * MB, 6 * MB, 5), 0);
	EXPECT_EQ(kvm_stat(a.fd, "pages_2m"), 4);
	EXPECT_EQ(kvm_stat(b.fd, "pages_2m"), 4);
	/* Both lose what is punched. */
	EXPECT_EQ(gmem_punch(gmem, 4 * MB, 2 * MB), 0);
	EXPECT_EQ(kvm_stat(a.fd, "pages_2m"), 3);
	EXPECT_EQ(kvm_stat(b.fd, "pages_2m"), 3);
	EXPECT_EQ(guest_call(&a, guest_check_pages, 4 * MB, 2 * MB, 0), 0);
	EXPECT_EQ(guest_call(&b, guest_write_pages, 4 * MB, 2 * MB, 6), 0);
	EXPECT_EQ(guest_call(&a, guest_check_pages, 4 * MB, 2 * MB, 6), 0);
	vm_destroy(&a);
	EXPECT_EQ(guest_call(&b, guest_check_pages, 4 * MB, 2 * MB, 6), 0);
	EXPECT_EQ(gmem_punch(gmem, 4 * MB, 2 * MB), 0);
	EXPECT_EQ(guest_call(&b, guest_check_pages, 4 * MB, 2 * MB, 0), 0);
	vm_destroy(&b);
	close(gmem);
}

/* The slot moves: its pages are found at their new place, and not at the old one. */
TEST(kvm_mapped_slot_moves)
{
	int gmem = mapped_create(8 * MB, 2 * MB, 0);
	struct vm vm;

	vm_create_on(&vm, gmem, gmem_map(gmem, 0, 8 * MB), 4 * MB);
	EXPECT_EQ(set_slot(vm.fd, 1, 0, GB, 4 * MB, vm.host + 4 * MB), 0);
	EXPECT_EQ(guest_call(&vm, guest_store, GB, 77, 0), 0);
	for (uint64_t gpa = 2 * GB; gpa < 4 * GB; gpa += GB / 2) {
		EXPECT_EQ(set_slot(vm.fd, 1, 0, gpa, 4 * MB, vm.host + 4 * MB), 0);
		EXPECT_EQ(guest_call(&vm, guest_load, gpa, 0, 0), 77);
	}
	EXPECT(!guest_loads(&vm, GB));
	EXPECT_EQ(vm.vcpus[0].run->exit_reason, KVM_EXIT_MMIO);
	EXPECT(vcpu_run(&vm.vcpus[0]));
	EXPECT_EQ(gmem_punch(gmem, 4 * MB, PAGE), 0);
	EXPECT_EQ(guest_call(&vm, guest_load, 3 * GB + GB / 2, 0, 0), 0);
	vm.size = 8 * MB;
	vm_destroy(&vm);
	close(gmem);
}

static long dirty_pages(int vm, unsigned int slot, size_t size)
{
	size_t bytes = size / PAGE / 8;
	uint64_t *bits = calloc(1, bytes);
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bits };
	long nr = 0;

	EXPECT_EQ(ioctl(vm, KVM_GET_DIRTY_LOG, &log), 0);
	for (size_t i = 0; i < bytes / 8; i++)
		nr += __builtin_popcountll(bits[i]);
	free(bits);
	return nr;
}

/* Live migration: what the guest writes is logged page by page, and large pages return. */
static void mapped_migration(size_t size, size_t block, uint64_t flags, const char *pages)
{
	int gmem = mapped_create(size, block, flags);
	struct vm vm;

	EXPECT_EQ(gmem_allocate(gmem, 0, size), 0);
	if (!(flags & GMEMFD_CREATE_SECRET))
		EXPECT_EQ(gmem_convert(gmem, 0, size, false), 0);
	vm_create_mapped(&vm, gmem, size);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 4 * MB, 5), 0);
	for (int i = 0; i < 2; i++) {
		EXPECT(kvm_stat(vm.fd, pages) > 0);
		EXPECT_EQ(set_slot(vm.fd, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, size, vm.host), 0);
		/* Again, to the same: nothing happens. */
		EXPECT_EQ(set_slot(vm.fd, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, size, vm.host), 0);
		dirty_pages(vm.fd, 0, size);
		EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 20 * PAGE, 6), 0);
		/* The guest's stack and page tables are written to, too. */
		long dirty = dirty_pages(vm.fd, 0, size);

		EXPECT(dirty >= 20 && dirty < 30);
		EXPECT_EQ(*(uint64_t *)(vm.host + 2 * MB), page_word(2 * MB, 6));
		EXPECT_EQ(kvm_stat(vm.fd, pages), 0);
		EXPECT_EQ(set_slot(vm.fd, 0, 0, 0, size, vm.host), 0);
		EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 20 * PAGE, 6), 0);
		EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB + 20 * PAGE, MB, 5), 0);
		EXPECT(kvm_stat(vm.fd, pages) > 0);
	}
	EXPECT_EQ(gmem_punch(gmem, 2 * MB, 2 * MB), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 2 * MB, 0), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST(kvm_mapped_dirty_log)
{
	mapped_migration(16 * MB, 2 * MB, 0, "pages_2m");
}

TEST(kvm_mapped_dirty_log_secret_1g)
{
	need_1g_blocks();
	mapped_migration(GB, GB, GMEMFD_CREATE_SECRET, "pages_1g");
}

/* The VMM could not read private pages, and is told before it has begun. */
TEST(kvm_mapped_dirty_log_private)
{
	int gmem = mapped_create(8 * MB, 2 * MB, GMEMFD_CREATE_SECRET);
	struct vm vm;

	vm_create_mapped(&vm, gmem, 8 * MB);
	EXPECT_EQ(gmem_convert_to(gmem, 6 * MB, PAGE, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	EXPECT_EQ(guest_call(&vm, guest_store, 6 * MB, 8, 0), 0);
	EXPECT_ERR(set_slot(vm.fd, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, 8 * MB, vm.host), EOPNOTSUPP);
	EXPECT_ERR(set_slot(vm.fd, 1, KVM_MEM_LOG_DIRTY_PAGES, GB, 2 * MB, vm.host + 6 * MB),
		   EOPNOTSUPP);
	/* Nothing has changed. */
	EXPECT_EQ(guest_call(&vm, guest_load, 6 * MB, 0, 0), 8);
	EXPECT_EQ(set_slot(vm.fd, 1, KVM_MEM_LOG_DIRTY_PAGES, GB, 2 * MB, vm.host + 4 * MB), 0);
	EXPECT_EQ(gmem_convert_to(gmem, 6 * MB, PAGE, 0), 0);
	EXPECT_EQ(set_slot(vm.fd, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, 8 * MB, vm.host), 0);
	EXPECT_EQ(guest_call(&vm, guest_load, 6 * MB, 0, 0), 8);
	vm_destroy(&vm);
	close(gmem);
}

/* Flags change, and slots come and go, while the guest runs and pages are punched. */
static void *punch_and_change(void *arg)
{
	struct vm *vm = arg;

	for (int i = 0; i < 200; i++) {
		unsigned int flags = i & 1 ? 0 : KVM_MEM_LOG_DIRTY_PAGES;

		EXPECT_EQ(set_slot(vm->fd, 0, flags, 0, vm->size, vm->host), 0);
		EXPECT_EQ(gmem_punch(vm->gmem, (4 + i % 8) * MB, MB), 0);
		EXPECT_EQ(set_slot(vm->fd, 1, 0, 4 * GB, 2 * MB, vm->host + 2 * MB), 0);
		EXPECT_EQ(set_slot(vm->fd, 1, 0, 8 * GB, 2 * MB, vm->host + 2 * MB), 0);
		EXPECT_EQ(set_slot(vm->fd, 1, 0, 0, 0, NULL), 0);
	}
	vm_stop(vm);
	return NULL;
}

TEST(kvm_mapped_changes_under_guest)
{
	int gmem = mapped_create(16 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	pthread_t thread;
	struct vm vm;

	vm_create_mapped(&vm, gmem, 16 * MB);
	vm.rest = 0;		/* dirty logging wants no private pages */
	vcpu_prepare(&vm.vcpus[0], guest_touch_forever, 2 * MB, 14 * MB, 1);
	vcpu_start(&vm.vcpus[0]);
	EXPECT_EQ(pthread_create(&thread, NULL, punch_and_change, &vm), 0);
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	vcpu_join(&vm.vcpus[0]);
	vm_destroy(&vm);
	close(gmem);
}

/* A VM, a mapping and an fd go at the same time, in any order. */
static void *close_fd(void *arg)
{
	close(*(int *)arg);
	return NULL;
}

TEST(kvm_mapped_all_go_at_once)
{
	long before = pool(2 * MB, "free_hugepages");
	pthread_t threads[2];

	for (int i = 0; i < 100; i++) {
		int gmem = mapped_create(8 * MB, 2 * MB, 0);
		struct vm a, b;

		EXPECT_EQ(gmem_allocate(gmem, 0, 8 * MB), 0);
		vm_create_mapped(&a, gmem, 8 * MB);
		vm_create_mapped(&b, gmem, 8 * MB);
		EXPECT_EQ(guest_call(&a, guest_write_pages, 2 * MB, 6 * MB, 5), 0);
		EXPECT_EQ(guest_call(&b, guest_check_pages, 2 * MB, 6 * MB, 5), 0);
		for (struct vm *vm = &a; vm; vm = vm == &a ? &b : NULL) {
			munmap(vm->host, vm->size);
			munmap(vm->vcpus[0].run, vm->vcpus[0].run_size);
			close(vm->vcpus[0].stats);
			close(vm->vcpus[0].fd);
			close(vm->kvm);
		}
		EXPECT_EQ(pthread_create(&threads[0], NULL, close_fd, &gmem), 0);
		EXPECT_EQ(pthread_create(&threads[1], NULL, close_fd, &b.fd), 0);
		if (i & 1)
			EXPECT_EQ(set_slot(a.fd, 0, 0, 0, 0, NULL), 0);
		close(a.fd);
		pthread_join(threads[0], NULL);
		pthread_join(threads[1], NULL);
	}
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), before);
}

/* Any allocation fails once: an error, and the slot is as it was. */
TEST(kvm_faults_mapped)
{
	int gmem = mapped_create(8 * MB, 2 * MB, 0), failed = 0;
	bool fired = true;
	struct vm vm;

	faults_set_up();
	EXPECT_EQ(gmem_convert(gmem, 0, 8 * MB, false), 0);
	vm_create_mapped(&vm, gmem, 8 * MB);
	for (int n = 1; fired; n++) {
		int ret, err;

		faults_arm(n);
		ret = set_slot(vm.fd, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, 8 * MB, vm.host) ?:
		      set_slot(vm.fd, 0, 0, 0, 8 * MB, vm.host) ?:
		      set_slot(vm.fd, 1, 0, GB, 2 * MB, vm.host + 2 * MB) ?:
		      set_slot(vm.fd, 1, 0, 2 * GB, 2 * MB, vm.host + 2 * MB) ?:
		      set_slot(vm.fd, 1, 0, 0, 0, NULL);
		err = errno;
		fired = faults_fired();
		if (ret) {
			failed++;
			EXPECT(fired && (err == ENOMEM || err == EFAULT));
			set_slot(vm.fd, 1, 0, 0, 0, NULL);
			EXPECT_EQ(set_slot(vm.fd, 0, 0, 0, 8 * MB, vm.host), 0);
		}
		EXPECT_EQ(guest_call(&vm, guest_store, 4 * MB, n, 0), 0);
		EXPECT_EQ(gmem_punch(gmem, 4 * MB, PAGE), 0);
		EXPECT_EQ(guest_call(&vm, guest_load, 4 * MB, 0, 0), 0);
	}
	EXPECT(failed > 8);
	vm_destroy(&vm);
	close(gmem);
}

/* Files of a mount: nothing but a path. */
TEST(kvm_mapped_named_file)
{
	long before = pool(2 * MB, "free_hugepages");
	struct vm vm;
	int gmem;

	mkdir("/tmp/vm", 0755);
	EXPECT_EQ(mount("none", "/tmp/vm", "gmemfd", 0, "block=2M,state=secret"), 0);
	gmem = open("/tmp/vm/ram", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	EXPECT(gmem >= 0);
	EXPECT_EQ(ftruncate(gmem, 8 * MB), 0);
	vm_create_mapped(&vm, gmem, 8 * MB);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 6 * MB, 5), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 4);
	EXPECT_EQ(*(uint64_t *)(vm.host + 4 * MB), page_word(4 * MB, 5));
	vm_destroy(&vm);
	close(gmem);

	/* Another VMM finds it by its name. */
	gmem = open("/tmp/vm/ram", O_RDWR | O_CLOEXEC);
	EXPECT(gmem >= 0);
	vm_create_mapped(&vm, gmem, 8 * MB);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 6 * MB, 5), 0);
	EXPECT_EQ(unlink("/tmp/vm/ram"), 0);
	EXPECT_ERR(umount("/tmp/vm"), EBUSY);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 6 * MB, 5), 0);
	vm_destroy(&vm);
	close(gmem);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), before);
	EXPECT_EQ(umount("/tmp/vm"), 0);
}

static void ignore(int signal)
{
	(void)signal;
}

/* A VMM that does not know of gmem gets a signal for it.  By name only, as in poison.c. */
TEST(poison_mapped_guest_page)
{
	int gmem = mapped_create(4 * MB, 2 * MB, 0);
	struct sigaction action = { .sa_handler = ignore };
	struct vcpu *vcpu;
	uint64_t frame;
	struct vm vm;

	vm_create_mapped(&vm, gmem, 4 * MB);
	EXPECT_EQ(gmem_convert(gmem, 2 * MB, 2 * MB, false), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, 5), 0);
	frame = pfn_of((can_read(vm.host + 3 * MB), vm.host + 3 * MB));
	sigaction(SIGBUS, &action, NULL);
	poison(frame);
	vcpu = &vm.vcpus[0];
	vcpu_prepare(vcpu, guest_load, 3 * MB, 0, 0);
	EXPECT_EQ(ioctl(vcpu->fd, KVM_RUN, 0), -1);
	EXPECT_EQ(errno, EINTR);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, MB, 5), 0);
	vm_destroy(&vm);
	close(gmem);
	test_changes_direct_map();		/* the pool has lost a page */
}

// SPDX-License-Identifier: GPL-2.0
/*
 * VMs that tell private from shared accesses, of type KVM_X86_SW_PROTECTED_VM: the file says
 * what a page is, so the guest keeps what does not change and loses what does.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "vmm.h"

#define AT	(4 * GB)	/* where the guest has the file; its code is elsewhere */
#define SEED	0x79bed

struct attributes {
	uint64_t address, size, attributes, flags;
};

#define SET_ATTRIBUTES	_IOW(KVMIO, 0xd2, struct attributes)
#define PRIVATE		(1UL << 3)

struct pre_fault {
	uint64_t gpa, size, flags, padding[5];
};

#define PRE_FAULT	_IOWR(KVMIO, 0xd5, struct pre_fault)

/* A VM with a file, whose memory is there. */
static int create(struct vm *vm, size_t size, size_t block, uint64_t flags)
{
	int gmem = gmem_create(size, block, flags);

	EXPECT(gmem >= 0);
	EXPECT_EQ(gmem_allocate(gmem, 0, size), 0);
	vms_are_typed();
	vm_create_apart(vm, KVM_X86_SW_PROTECTED_VM);
	EXPECT_EQ(vm_set_slot(vm->fd, 1, 0, AT, size, NULL, gmem, 0), 0);
	return gmem;
}

static void end(struct vm *vm, int gmem)
{
	vm_destroy(vm);
	close(gmem);
}

static uint64_t touch(struct vm *vm, uint64_t offset)
{
	uint64_t faults = vm_faults(vm);

	guest_call(vm, guest_load, AT + offset, 0, 0);
	return vm_faults(vm) - faults;
}

static void expect_mapped(struct vm *vm, long of_1g, long of_2m, long of_4k)
{
	EXPECT_EQ(kvm_stat(vm->fd, "pages_1g"), of_1g);
	EXPECT_EQ(kvm_stat(vm->fd, "pages_2m"), of_2m);
	EXPECT_EQ(kvm_stat(vm->fd, "pages_4k"), of_4k);
}

/*
 * A mapping is of pages of one state, and as large as they are.  Conversion takes what
 * changes, and with it what is mapped by the same entry.  The guest's code is in one page.
 */
TEST(typed_mappings_2m)
{
	struct vm vm;
	int gmem = create(&vm, 8 * MB, 2 * MB, 0);
	long code;

	guest_call(&vm, guest_load, 0, 0, 0);
	code = kvm_stat(vm.fd, "pages_4k");
	EXPECT_EQ(guest_call(&vm, guest_write_pages, AT, 8 * MB, SEED), 0);
	expect_mapped(&vm, 0, 4, code);

	EXPECT_EQ(gmem_convert(gmem, 2 * MB + 5 * PAGE, PAGE, false), 0);
	expect_mapped(&vm, 0, 3, code);
	EXPECT_EQ(touch(&vm, 2 * MB + 4 * PAGE), 1);
	EXPECT_EQ(touch(&vm, 2 * MB + 5 * PAGE), 1);
	EXPECT_EQ(touch(&vm, 2 * MB + 6 * PAGE), 1);
	expect_mapped(&vm, 0, 3, code + 3);
	EXPECT_EQ(touch(&vm, 4 * MB), 0);

	/* Exactly the page. */
	EXPECT_EQ(gmem_convert(gmem, 2 * MB + 5 * PAGE, PAGE, true), 0);
	expect_mapped(&vm, 0, 3, code + 2);
	EXPECT_EQ(touch(&vm, 2 * MB + 4 * PAGE), 0);
	EXPECT_EQ(touch(&vm, 2 * MB + 6 * PAGE), 0);
	/* All of one state again, and mapped at once. */
	EXPECT_EQ(touch(&vm, 2 * MB + 5 * PAGE), 1);
	expect_mapped(&vm, 0, 4, code);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, AT, 8 * MB, SEED), 0);
	end(&vm, gmem);
}

TEST(typed_mappings_1g)
{
	struct vm vm;
	long code;
	int gmem;

	need_1g_blocks();
	gmem = create(&vm, GB, GB, 0);
	guest_call(&vm, guest_load, 0, 0, 0);
	code = kvm_stat(vm.fd, "pages_4k");
	EXPECT_EQ(guest_call(&vm, guest_write_pages, AT, GB, SEED), 0);
	expect_mapped(&vm, 1, 0, code);

	EXPECT_EQ(gmem_convert(gmem, 512 * MB, 2 * MB, false), 0);
	expect_mapped(&vm, 0, 0, code);
	EXPECT_EQ(touch(&vm, 0), 1);
	EXPECT_EQ(touch(&vm, 512 * MB), 1);
	expect_mapped(&vm, 0, 2, code);
	EXPECT_EQ(gmem_convert(gmem, 512 * MB + PAGE, PAGE, true), 0);
	expect_mapped(&vm, 0, 1, code);
	EXPECT_EQ(touch(&vm, 512 * MB), 1);
	EXPECT_EQ(touch(&vm, 512 * MB + PAGE), 1);
	expect_mapped(&vm, 0, 1, code + 2);
	EXPECT_EQ(gmem_convert(gmem, 512 * MB, 2 * MB, true), 0);
	EXPECT_EQ(touch(&vm, 512 * MB), 1);
	expect_mapped(&vm, 1, 0, code);
	EXPECT_EQ(touch(&vm, GB - PAGE), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, AT, GB, SEED), 0);
	end(&vm, gmem);
}

/* Secret pages are shared for the guest: what is secret or shared stays mapped. */
TEST(typed_secret_is_shared)
{
	struct vm vm;
	char *p;
	int gmem;

	gmem = create(&vm, 4 * MB, 2 * MB, GMEMFD_CREATE_SECRET | GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(gmem, 0, 4 * MB);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, AT, 4 * MB, SEED), 0);
	EXPECT_EQ(gmem_convert_to(gmem, 0, MB, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT_EQ(touch(&vm, 0), 0);
	EXPECT_EQ(touch(&vm, MB), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 2);
	/* To private the guest loses both. */
	EXPECT_EQ(gmem_convert_to(gmem, 0, 2 * MB, GMEMFD_ATTRIBUTE_PRIVATE), 0);
	EXPECT(!can_read(p));
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 1);
	EXPECT_EQ(touch(&vm, 0), 1);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 2);
	EXPECT_EQ(gmem_convert_to(gmem, MB, PAGE, GMEMFD_ATTRIBUTE_SECRET), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 1);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, AT, 4 * MB, SEED), 0);
	munmap(p, 4 * MB);
	end(&vm, gmem);
}

/* In one call each range is taken by itself, and not what lies between. */
TEST(typed_ranges_one_by_one)
{
	struct gmemfd_convert_range ranges[] = {
		{ PAGE, PAGE, 0 },
		{ 9 * PAGE, 2 * PAGE, 0 },
		{ 20 * PAGE, PAGE, GMEMFD_ATTRIBUTE_PRIVATE },	/* as it is */
		{ 2 * MB + PAGE, PAGE, 0 },
	};
	struct vm vm;
	int gmem = create(&vm, 4 * MB, 2 * MB, 0);
	uint64_t at;

	/* By 4 KiB, since another page of each region is shared. */
	EXPECT_EQ(gmem_convert(gmem, 300 * PAGE, PAGE, false), 0);
	EXPECT_EQ(gmem_convert(gmem, 2 * MB + 300 * PAGE, PAGE, false), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, AT, 4 * MB, SEED), 0);
	EXPECT_EQ(gmem_convert_ranges(gmem, ranges, 4, &at), 0);
	for (unsigned int i = 0; i < 40; i++)
		EXPECT_EQ(touch(&vm, i * PAGE), i == 1 || i == 9 || i == 10);
	for (unsigned int i = 0; i < 4; i++)
		EXPECT_EQ(touch(&vm, 2 * MB + i * PAGE), i == 1);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, AT, 4 * MB, SEED), 0);
	end(&vm, gmem);
}

/* One that is refused takes nothing from the guest. */
TEST(typed_refused_conversion)
{
	struct vm vm;
	int gmem = create(&vm, 4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(gmem, 0, 4 * MB);
	struct pin pin = { };
	uint64_t at;

	EXPECT_EQ(guest_call(&vm, guest_write_pages, AT, 4 * MB, SEED), 0);
	pin_pipe(&pin, p + 2 * MB, PAGE);
	EXPECT_ERR(gmem_convert_at(gmem, 0, 4 * MB, true, &at), EAGAIN);
	EXPECT_EQ(at, 2 * MB);
	EXPECT_EQ(touch(&vm, 0), 0);
	EXPECT_EQ(touch(&vm, 2 * MB), 0);
	unpin(&pin);
	munmap(p, 4 * MB);
	end(&vm, gmem);
}

/* The file knows what its pages are.  The VM's own attributes are for other slots. */
TEST(typed_attributes_are_the_files)
{
	struct attributes args = { AT + 2 * MB, PAGE, PRIVATE, 0 };
	struct vm vm;
	int gmem = create(&vm, 4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);

	EXPECT_ERR(ioctl(vm.fd, SET_ATTRIBUTES, &args), EINVAL);
	args = (struct attributes) { AT - 2 * MB, 4 * MB, 0, 0 };
	EXPECT_ERR(ioctl(vm.fd, SET_ATTRIBUTES, &args), EINVAL);
	args = (struct attributes) { AT + 4 * MB, 2 * MB, PRIVATE, 0 };
	EXPECT_EQ(ioctl(vm.fd, SET_ATTRIBUTES, &args), 0);

	/* Nor may they have been set before there is a slot. */
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, AT, 0, NULL, -1, 0), 0);
	EXPECT_ERR(vm_set_slot(vm.fd, 1, 0, AT + 2 * MB, 4 * MB, NULL, gmem, 0), EINVAL);
	args.attributes = 0;
	EXPECT_EQ(ioctl(vm.fd, SET_ATTRIBUTES, &args), 0);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, AT + 2 * MB, 4 * MB, NULL, gmem, 0), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, AT + 2 * MB, 4 * MB, SEED), 0);
	end(&vm, gmem);
}

/* Pages of both states are mapped before the guest touches them. */
TEST(typed_pre_fault)
{
	struct pre_fault args = { .gpa = AT, .size = 4 * MB };
	struct vm vm;
	int gmem = create(&vm, 4 * MB, 2 * MB, 0);

	EXPECT_EQ(gmem_convert(gmem, 2 * MB, MB, false), 0);
	guest_call(&vm, guest_load, 0, 0, 0);
	if (ioctl(vm.vcpus[0].fd, PRE_FAULT, &args) && errno == EOPNOTSUPP)
		test_skip("this KVM does not fault pages in for such VMs");
	EXPECT_EQ(args.size, 0);
	EXPECT_EQ(touch(&vm, 0), 0);
	EXPECT_EQ(touch(&vm, 3 * MB), 0);
	EXPECT_EQ(touch(&vm, 2 * MB), 0);
	end(&vm, gmem);
}

/* A default VM that has the same pages mapped keeps them. */
TEST(typed_and_default_vm)
{
	struct kvm_userspace_memory_region region = {
		.slot = 1, .guest_phys_addr = AT, .memory_size = 4 * MB,
	};
	struct vm vm, other;
	int gmem = create(&vm, 4 * MB, 2 * MB,
			  GMEMFD_CREATE_BIND_MAPPED | GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(gmem, 0, 4 * MB);

	vm_create_apart(&other, 0);
	region.userspace_addr = (uintptr_t)p;
	EXPECT_EQ(ioctl(other.fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, AT, 4 * MB, SEED), 0);
	EXPECT_EQ(guest_call(&other, guest_check_pages, AT, 4 * MB, SEED), 0);
	EXPECT_EQ(gmem_convert(gmem, 0, 3 * MB, true), 0);
	EXPECT_EQ(touch(&other, 0), 0);
	EXPECT_EQ(touch(&other, 2 * MB), 0);
	EXPECT_EQ(touch(&vm, 0), 1);
	EXPECT_EQ(touch(&vm, 2 * MB), 1);
	EXPECT_EQ(guest_call(&other, guest_check_pages, AT, 4 * MB, SEED), 0);
	munmap(p, 4 * MB);
	vm_destroy(&other);
	end(&vm, gmem);
}

struct convert_beside {
	int gmem;
	bool stop;
	long conversions;
};

static void *convert_beside(void *arg)
{
	struct convert_beside *c = arg;
	uint64_t n = 1;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		uint64_t first, nr;

		n = n * 6364136223846793005ULL + 1442695040888963407ULL;
		first = (n >> 33) % 1024;
		nr = 1 + (n >> 20) % (n >> 60 ? 8 : 1024);
		if (first + nr > 1024)
			nr = 1024 - first;
		EXPECT_EQ(gmem_convert(c->gmem, first * PAGE, nr * PAGE, n >> 59 & 1), 0);
		c->conversions++;
		/* The guest comes to its pages in between. */
		usleep(500);
	}
	return NULL;
}

/* Slots come and go, and are used at once, while the file's pages are converted. */
TEST(typed_bind_beside_conversion)
{
	struct convert_beside c = { };
	struct vm vm;
	pthread_t thread;

	c.gmem = create(&vm, 4 * MB, 2 * MB, 0);
	EXPECT_EQ(pthread_create(&thread, NULL, convert_beside, &c), 0);
	for (unsigned int i = 0; i < (debug_kernel() ? 10 : 40); i++) {
		EXPECT_EQ(guest_call(&vm, guest_write_pages, AT + MB, 2 * MB, SEED + i), 0);
		EXPECT_EQ(guest_call(&vm, guest_check_pages, AT + MB, 2 * MB, SEED + i), 0);
		EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, AT, 0, NULL, -1, 0), 0);
		EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, AT, 4 * MB, NULL, c.gmem, 0), 0);
	}
	__atomic_store_n(&c.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("# %ld conversions\n", c.conversions);
	end(&vm, c.gmem);
}

/* Each allocation of a conversion fails once: the guest has what it had. */
TEST(typed_faults_convert)
{
	int gmem, failed = 0;
	struct vm vm;

	faults_set_up();
	gmem = create(&vm, 4 * MB, 2 * MB, 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, AT, 4 * MB, SEED), 0);
	for (int to_private = 0; to_private < 2; to_private++) {
		bool fired = true;

		for (int nth = 1; fired; nth++) {
			int ret, err;

			faults_arm(nth);
			ret = gmem_convert(gmem, MB, 2 * MB, to_private);
			err = errno;
			fired = faults_fired();
			if (ret)
				EXPECT(fired && (err == ENOMEM || err == EFAULT));
			failed += !!ret;
			EXPECT_EQ(guest_call(&vm, guest_check_pages, AT, 4 * MB, SEED), 0);
		}
	}
	printf("# %d failed\n", failed);
	EXPECT(failed);
	end(&vm, gmem);
}

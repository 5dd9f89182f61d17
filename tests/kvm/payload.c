// SPDX-License-Identifier: GPL-2.0
/* Guests that are a function of guest.c, in private memory. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>

#include "vmm.h"

#define SEED	0x5eed

static bool page_holds(const char *p, uint64_t gpa, uint64_t seed)
{
	return *(uint64_t *)p == page_word(gpa, seed) &&
	       *(uint64_t *)(p + PAGE - 8) == page_word(gpa + 1, seed);
}

static bool all_out_of_reach(struct vm *vm)
{
	for (uint64_t at = 0; at < vm->size; at += MB)
		if (can_read(vm->host + at) || can_write(vm->host + at + PAGE))
			return false;
	return true;
}

/* The guest reads and writes every page, of which the host sees none. */
static void private_memory(size_t size, size_t block)
{
	int gmem = gmem_create(size, block, 0);
	struct vm vm;

	vm_create(&vm, gmem, size, 1);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, size - 2 * MB, 0), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, size - 2 * MB, SEED), 0);
	EXPECT(all_out_of_reach(&vm));
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, size - 2 * MB, SEED), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST(kvm_private_memory_2m)
{
	private_memory(64 * MB, 2 * MB);
}

TEST_TYPED(kvm_private_memory_2m)

TEST(kvm_private_memory_1g)
{
	need_1g_blocks();
	private_memory(GB, GB);
}

TEST_TYPED(kvm_private_memory_1g)

struct exchange {
	bool asked;
	char *page;
	uint64_t gpa;
};

static uint32_t exchange_asked(struct vm *vm, unsigned int nr, uint64_t a,
			       uint64_t b, uint64_t c)
{
	struct exchange *x = vm->data;

	(void)nr, (void)b, (void)c;
	x->asked = true;
	return a == x->gpa && page_holds(x->page, x->gpa, SEED);
}

/* Data crosses through a page that the guest shares, both ways, in place. */
static void exchange(size_t size, size_t block)
{
	int gmem = gmem_create(size, block, 0);
	struct exchange x = { .gpa = 3 * MB };
	uint64_t frame;
	struct vm vm;

	vm_create(&vm, gmem, size, 1);
	vm.hypercall = exchange_asked;
	vm.data = &x;
	x.page = vm.host + x.gpa;

	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, SEED), 0);
	EXPECT_EQ(gmem_convert(gmem, x.gpa, PAGE, false), 0);
	EXPECT(page_holds(x.page, x.gpa, SEED));
	EXPECT(!can_read(x.page - PAGE));
	EXPECT(!can_read(x.page + PAGE));
	EXPECT_EQ(guest_call(&vm, guest_ping, x.gpa, 0, 0), 1);
	EXPECT(x.asked);
	frame = pfn_of(x.page);

	*(volatile uint64_t *)x.page = 0x1234;
	EXPECT_EQ(guest_call(&vm, guest_load, x.gpa, 0, 0), 0x1234);
	EXPECT_EQ(guest_call(&vm, guest_store, x.gpa, 0x5678, 0), 0);
	EXPECT_EQ(*(volatile uint64_t *)x.page, 0x5678);

	EXPECT_EQ(gmem_convert(gmem, x.gpa, PAGE, true), 0);
	EXPECT(!can_read(x.page));
	EXPECT_EQ(guest_call(&vm, guest_load, x.gpa, 0, 0), 0x5678);
	EXPECT_EQ(guest_call(&vm, guest_store, x.gpa, 0x9abc, 0), 0);
	EXPECT_EQ(gmem_convert(gmem, x.gpa, PAGE, false), 0);
	EXPECT_EQ(*(volatile uint64_t *)x.page, 0x9abc);
	EXPECT_EQ(pfn_of(x.page), frame);
	/* Its neighbours have noticed nothing. */
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, MB, SEED), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST(kvm_exchange_2m)
{
	exchange(8 * MB, 2 * MB);
}

TEST_TYPED(kvm_exchange_2m)

TEST(kvm_exchange_1g)
{
	need_1g_blocks();
	exchange(GB, GB);
}

TEST_TYPED(kvm_exchange_1g)

/*
 * Thousands of conversions of single pages: the guest's large mappings are the
 * same ones afterwards, and it has not faulted once.
 */
static void mappings_stay(size_t size, size_t block, const char *stat)
{
	long times = debug_kernel() ? 500 : 5000;
	int gmem = gmem_create(size, block, 0);
	uint64_t mapped, faults, exits;
	struct vm vm;
	int vcpu;

	EXPECT_EQ(gmem_allocate(gmem, 0, size), 0);
	vm_create(&vm, gmem, size, 1);
	vcpu = vm.vcpus[0].fd;
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, size - 2 * MB, SEED), 0);

	mapped = kvm_stat(vm.fd, stat);
	faults = kvm_stat(vcpu, "pf_taken");
	exits = kvm_stat(vcpu, "exits");
	EXPECT_EQ(mapped, size / block);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_4k"), 0);

	EXPECT_EQ(guest_call(&vm, guest_convert_pages, 2 * MB, size - 2 * MB, times), 0);
	EXPECT_EQ(vm.conversions, 2 * times);
	exits = kvm_stat(vcpu, "exits") - exits;
	printf("# %ld conversions, %lu exits, %lu faults, %s %lu\n", vm.conversions,
	       exits, kvm_stat(vcpu, "pf_taken") - faults, stat,
	       kvm_stat(vm.fd, stat));
	EXPECT_EQ(kvm_stat(vm.fd, stat), mapped);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_4k"), 0);
	EXPECT_EQ(kvm_stat(vcpu, "pf_taken"), faults);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, size - 2 * MB, SEED), 0);
	EXPECT_EQ(kvm_stat(vcpu, "pf_taken"), faults);
	vm_destroy(&vm);
	close(gmem);
}

TEST(kvm_mappings_stay_2m)
{
	mappings_stay(16 * MB, 2 * MB, "pages_2m");
}

TEST(kvm_mappings_stay_1g)
{
	need_1g_blocks();
	mappings_stay(GB, GB, "pages_1g");
}

/* With the pages in the host's page tables, too: nothing comes from there. */
TEST(kvm_host_mapping_does_not_matter)
{
	int gmem = gmem_create(4 * MB, 2 * MB, 0);
	struct vm vm;

	EXPECT_EQ(gmem_allocate(gmem, 0, 4 * MB), 0);
	vm_create(&vm, gmem, 4 * MB, 1);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, SEED), 0);
	for (int i = 0; i < 50; i++) {
		char *p = vm.host + 2 * MB + i * PAGE;
		uint64_t faults = kvm_stat(vm.vcpus[0].fd, "pf_taken");

		EXPECT_EQ(gmem_convert(gmem, 2 * MB, MB, false), 0);
		EXPECT(page_holds(p, 2 * MB + i * PAGE, SEED));
		EXPECT_EQ(madvise(vm.host + 2 * MB, MB, MADV_DONTNEED), 0);
		EXPECT(can_read(p));
		EXPECT_EQ(gmem_convert(gmem, 2 * MB, MB, true), 0);
		EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 2 * MB, SEED), 0);
		EXPECT_EQ(kvm_stat(vm.vcpus[0].fd, "pf_taken"), faults);
	}
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 2);
	vm_destroy(&vm);
	close(gmem);
}

/* Touched on demand: 2 MiB at a time, and 1 GiB once all of it is there. */
TEST(kvm_large_mapping_when_all_is_zeroed)
{
	struct vm vm;
	int gmem;

	need_1g_blocks();
	gmem = gmem_create(GB, GB, 0);
	vm_create(&vm, gmem, GB, 1);
	EXPECT_EQ(guest_call(&vm, guest_load, 4 * MB, 0, 0), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_1g"), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 2);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 4 * MB, GB - 4 * MB, 0), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_1g"), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 511);
	EXPECT_EQ(guest_call(&vm, guest_load, 2 * MB, 0, 0), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_1g"), 1);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST_TYPED(kvm_large_mapping_when_all_is_zeroed)

/* Punching takes exactly the range from the guest, which then finds zeros. */
TEST(kvm_punch_invalidates)
{
	int gmem = gmem_create(16 * MB, 2 * MB, 0);
	struct vm vm;

	EXPECT_EQ(gmem_allocate(gmem, 0, 16 * MB), 0);
	vm_create(&vm, gmem, 16 * MB, 1);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 14 * MB, SEED), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 8);

	/* Whole blocks: the memory goes. */
	EXPECT_EQ(gmem_punch(gmem, 4 * MB, 4 * MB), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 6);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 2 * MB, SEED), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 8 * MB, 8 * MB, SEED), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 6);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 4 * MB, 4 * MB, 0), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 8);

	/* Parts of one: zeroed, and the rest is as it was. */
	EXPECT_EQ(gmem_punch(gmem, 10 * MB, 3 * PAGE), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 7);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 10 * MB, PAGE, 0), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_4k"), 1);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 10 * MB, 3 * PAGE, 0), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 10 * MB + 3 * PAGE,
			     2 * MB - 3 * PAGE, SEED), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 12 * MB, 4 * MB, SEED), 0);

	/* What the guest has touched is in use again: the block stays. */
	EXPECT_EQ(guest_call(&vm, guest_store, 10 * MB, 77, 0), 0);
	EXPECT_EQ(gmem_punch(gmem, 10 * MB + PAGE, 2 * MB - PAGE), 0);
	EXPECT_EQ(guest_call(&vm, guest_load, 10 * MB, 0, 0), 77);
	EXPECT_EQ(gmem_range(gmem, 10 * MB).flags & GMEMFD_RANGE_ALLOCATED,
		  GMEMFD_RANGE_ALLOCATED);
	/* And it goes when all of it has been punched. */
	EXPECT_EQ(gmem_punch(gmem, 10 * MB, PAGE), 0);
	EXPECT_EQ(gmem_range(gmem, 10 * MB).flags & GMEMFD_RANGE_ALLOCATED, 0);
	EXPECT_EQ(guest_call(&vm, guest_load, 10 * MB, 0, 0), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST_TYPED(kvm_punch_invalidates)

/* Reads and writes shared memory while its state changes, and never elsewhere. */
static void *host_hammer(void *arg)
{
	struct vm *vm = arg;
	unsigned int seed = 1;

	while (!__atomic_load_n((bool *)vm->data, __ATOMIC_RELAXED)) {
		uint64_t at = 2 * MB + rand_r(&seed) % 512 * PAGE;

		if (rand_r(&seed) % 4)
			can_write(vm->host + at + 8);	/* the host's word */
		else
			gmem_convert(vm->gmem, at, PAGE, rand_r(&seed) % 2);
	}
	return NULL;
}

/* Host and guest convert the same pages while two CPUs test the memory. */
TEST(kvm_hammer_conversions)
{
	int gmem = gmem_create(8 * MB, 2 * MB, 0);
	long times = debug_kernel() ? 20 : 200;
	pthread_t host[2];
	bool stop = false;
	struct vm vm;

	EXPECT_EQ(gmem_allocate(gmem, 0, 8 * MB), 0);
	vm_create(&vm, gmem, 8 * MB, 2);
	vm.data = &stop;
	vcpu_prepare(&vm.vcpus[0], guest_hammer, 2 * MB, MB, times);
	vcpu_prepare(&vm.vcpus[1], guest_hammer, 3 * MB, MB, times);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(pthread_create(&host[i], NULL, host_hammer, &vm), 0);
		vcpu_start(&vm.vcpus[i]);
	}
	for (int i = 0; i < 2; i++) {
		vcpu_join(&vm.vcpus[i]);
		EXPECT_EQ(vm.vcpus[i].result, 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(host[i], NULL);
	if (!vm.typed)
		EXPECT_EQ(kvm_stat(vm.fd, "pages_4k"), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST_TYPED(kvm_hammer_conversions)

/* A VM whose two CPUs touch all of its memory, and do not stop. */
static void vm_touching(struct vm *vm, int gmem, size_t size)
{
	vm_create(vm, gmem, size, 2);
	for (int i = 0; i < 2; i++) {
		vcpu_prepare(&vm->vcpus[i], guest_touch_forever, 2 * MB,
			     size - 2 * MB, i + 1);
		vcpu_start(&vm->vcpus[i]);
	}
}

/* Punching from under running CPUs: old contents or zeros, and no crash. */
TEST(kvm_punch_while_running)
{
	int gmem = gmem_create(8 * MB, 2 * MB, 0);
	struct vm vm;

	vm_touching(&vm, gmem, 8 * MB);
	for (int i = 0; i < (debug_kernel() ? 100 : 500); i++) {
		EXPECT_EQ(gmem_punch(gmem, 2 * MB + i % 3 * 2 * MB, 2 * MB), 0);
		EXPECT_EQ(gmem_punch(gmem, 2 * MB + i % 1536 * PAGE, PAGE), 0);
		if (i % 10 == 0)
			EXPECT_EQ(gmem_allocate(gmem, 2 * MB, 6 * MB), 0);
	}
	/* The process ends with the guest running. */
}

TEST_TYPED(kvm_punch_while_running)

/*
 * A VMM is killed at any moment; everything comes home.  The harness compares
 * the counters, and here each time.
 */
static void vmm_killed(uint64_t flags)
{
	int rounds = 200;
	unsigned int seed = 42;
	long before = pool(2 * MB, "free_hugepages");

	close(kvm_device());
	for (int i = 0; i < rounds; i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			int gmem = gmem_create(16 * MB, 2 * MB, flags);
			struct vm vm;

			vm_touching(&vm, gmem, 16 * MB);
			for (unsigned int n = 0;; n++) {
				uint64_t at = 2 * MB + n % 7 * 2 * MB;

				gmem_punch(gmem, at, 2 * MB);
				if (!(flags & GMEMFD_CREATE_SECRET))
					continue;
				can_write(vm.host + at);
				gmem_convert(gmem, at + MB, PAGE, true);
				gmem_convert_to(gmem, at + MB, PAGE, GMEMFD_ATTRIBUTE_SECRET);
			}
		}
		usleep(rand_r(&seed) % (debug_kernel() ? 150000 : 40000));
		EXPECT_EQ(kill(pid, SIGKILL), 0);
		EXPECT_EQ(waitpid(pid, &status, 0), pid);
		EXPECT(WIFSIGNALED(status));
		EXPECT(EVENTUALLY(pool(2 * MB, "free_hugepages") == before &&
				  !pool(2 * MB, "resv_hugepages")));
	}
	printf("# killed %d times\n", rounds);
}

TEST(kvm_vmm_killed)
{
	vmm_killed(0);
}

TEST(kvm_secret_vmm_killed)
{
	vmm_killed(GMEMFD_CREATE_SECRET);
}

struct race {
	struct vm vm;
	pthread_barrier_t start;
	int gmem;
};

static void *close_file(void *arg)
{
	struct race *race = arg;

	pthread_barrier_wait(&race->start);
	munmap(race->vm.host, race->vm.size);
	close(race->gmem);
	return NULL;
}

static void *close_vm(void *arg)
{
	struct race *race = arg;

	pthread_barrier_wait(&race->start);
	close(race->vm.vcpus[0].stats);
	close(race->vm.vcpus[0].fd);
	munmap(race->vm.vcpus[0].run, race->vm.vcpus[0].run_size);
	close(race->vm.fd);
	return NULL;
}

static void *punch_file(void *arg)
{
	struct race *race = arg;
	int fd = dup(race->gmem);

	pthread_barrier_wait(&race->start);
	for (int i = 0; i < 20; i++)
		gmem_punch(fd, 0, 4 * MB);
	close(fd);
	return NULL;
}

static void *delete_slot(void *arg)
{
	struct race *race = arg;
	int fd = dup(race->vm.fd);

	pthread_barrier_wait(&race->start);
	vm_set_slot(fd, 0, 0, 0, 0, NULL, -1, 0);
	close(fd);
	return NULL;
}

/*
 * The file, the VM and its slot go at the same time, while holes are punched:
 * whoever is last, none of them is used after it has gone.
 */
TEST(kvm_all_go_at_once)
{
	static void *(* const threads[])(void *) = {
		close_file, close_vm, punch_file, delete_slot,
	};

	for (int i = 0; i < (debug_kernel() ? 60 : 100); i++) {
		struct race race = { .gmem = gmem_create(4 * MB, 2 * MB, 0) };
		/* In turn without one of the last two, whose fd delays others. */
		int nr = i % 3 == 0 ? 2 : i % 3 == 1 ? 3 : 4;
		pthread_t thread[4];

		vm_create(&race.vm, race.gmem, 4 * MB, 1);
		EXPECT_EQ(guest_call(&race.vm, guest_write_pages, 2 * MB, 2 * MB, 1), 0);
		pthread_barrier_init(&race.start, NULL, nr);
		for (int n = 0; n < nr; n++)
			EXPECT_EQ(pthread_create(&thread[n], NULL, threads[n], &race), 0);
		for (int n = 0; n < nr; n++)
			pthread_join(thread[n], NULL);
		close(race.vm.kvm);
	}
}

TEST_TYPED(kvm_all_go_at_once)

static void *destroy_vm(void *arg)
{
	run_on_cpu(1);
	vm_destroy(arg);
	return NULL;
}

/* Returns whether the VM was still being destroyed when its memory had gone. */
static bool memory_goes_beside_one_vm(bool punch, const char *where)
{
	long available = pool(2 * MB, "free_hugepages");
	int gmem = gmem_create(4 * MB, 2 * MB, 0), dev = open_put_test();
	pthread_t thread;
	struct vm vm;
	bool inside;

	vm_create(&vm, gmem, 4 * MB, 1);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, 1), 0);
	munmap(vm.host, vm.size);
	delay_in_kernel(dev, where);
	EXPECT_EQ(pthread_create(&thread, NULL, destroy_vm, &vm), 0);
	EXPECT(EVENTUALLY(delayed(dev) != NOT_YET));
	if (punch)
		EXPECT_EQ(gmem_punch(gmem, 0, 4 * MB), 0);
	else
		close(gmem);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), available);
	inside = delayed(dev) == INSIDE;
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	if (punch)
		close(gmem);
	close(dev);
	return inside;
}

/*
 * A VM that is being destroyed has pages mapped still, or has lost its slots already: nobody
 * waits for it.
 */
static void memory_goes_beside_vm(bool punch)
{
	static const char *const where[] = { "kvm_mmu_pre_destroy_vm", "kvm_coalesced_mmio_free" };
	bool seen;

	run_on_cpu(0);
	for (int n = 0; n < 2; n++) {
		test_case(where[n]);
		seen = false;
		/* This CPU can miss all of it: the other one takes no interrupts meanwhile. */
		for (int i = 0; i < 10 && !seen; i++)
			seen = memory_goes_beside_one_vm(punch, where[n]);
		EXPECT(seen);
	}
}

TEST(kvm_file_closed_beside_vm)
{
	memory_goes_beside_vm(false);
}

TEST_TYPED(kvm_file_closed_beside_vm)

TEST(kvm_file_punched_beside_vm)
{
	memory_goes_beside_vm(true);
}

TEST_TYPED(kvm_file_punched_beside_vm)

/* The file is closed while the guest runs from it: KVM_RUN says EFAULT. */
TEST(kvm_file_closed_while_running)
{
	for (int i = 0; i < 20; i++) {
		int gmem = gmem_create(8 * MB, 2 * MB, 0);
		struct vm vm;

		vm_touching(&vm, gmem, 8 * MB);
		usleep(i * 1000);
		vm.stopping = true;	/* that the guest stops is no failure now */
		vm.gmem = -1;
		munmap(vm.host, vm.size);
		close(gmem);
		for (int n = 0; n < 2; n++) {
			vcpu_join(&vm.vcpus[n]);
			EXPECT(vm.vcpus[n].error == EFAULT || !vm.vcpus[n].error);
		}
		vm.host = mmap(NULL, vm.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		vm_destroy(&vm);
	}
}

TEST_TYPED(kvm_file_closed_while_running)

static void *punch_once(void *arg)
{
	struct race *race = arg;

	pthread_barrier_wait(&race->start);
	gmem_punch(race->gmem, 4 * MB, 2 * MB);
	return NULL;
}

/* A slot is bound while its memory goes: the guest maps what is in the file. */
TEST(kvm_bind_while_punching)
{
	struct race race = { .gmem = gmem_create(8 * MB, 2 * MB, 0) };

	vm_create(&race.vm, race.gmem, 2 * MB, 1);
	pthread_barrier_init(&race.start, NULL, 2);
	for (int i = 0; i < (debug_kernel() ? 60 : 200); i++) {
		pthread_t thread;
		bool allocated;

		EXPECT_EQ(gmem_allocate(race.gmem, 4 * MB, 2 * MB), 0);
		EXPECT_EQ(pthread_create(&thread, NULL, punch_once, &race), 0);
		pthread_barrier_wait(&race.start);
		EXPECT_EQ(vm_set_slot(race.vm.fd, 1, 0, GB, 2 * MB, NULL, race.gmem,
				      4 * MB), 0);
		EXPECT_EQ(guest_call(&race.vm, guest_store, GB, i, 0), 0);
		pthread_join(thread, NULL);
		allocated = gmem_range(race.gmem, 4 * MB).flags & GMEMFD_RANGE_ALLOCATED;
		EXPECT_EQ(kvm_stat(race.vm.fd, "pages_2m"), 1 + allocated);
		EXPECT_EQ(vm_set_slot(race.vm.fd, 1, 0, 0, 0, NULL, -1, 0), 0);
	}
	vm_destroy(&race.vm);
	close(race.gmem);
}

TEST_TYPED(kvm_bind_while_punching)

/* Another CPU maps the huge page around a page that is being punched. */
TEST(kvm_punch_beside_faults)
{
	int gmem = gmem_create(8 * MB, 2 * MB, 0);
	struct vm vm;

	vm_create(&vm, gmem, 8 * MB, 2);
	vcpu_prepare(&vm.vcpus[1], guest_touch_forever, 2 * MB, MB, 1);
	vcpu_start(&vm.vcpus[1]);
	for (int i = 0; i < (debug_kernel() ? 30 : 100); i++) {
		uint64_t gpa = 3 * MB + i % 255 * PAGE;

		EXPECT_EQ(gmem_punch(gmem, 2 * MB, 2 * MB), 0);
		EXPECT_EQ(gmem_allocate(gmem, 2 * MB, 2 * MB), 0);
		EXPECT_EQ(guest_call(&vm, guest_store, gpa, 77, 0), 0);
		EXPECT_EQ(gmem_punch(gmem, gpa, PAGE), 0);
		EXPECT_EQ(guest_call(&vm, guest_load, gpa, 0, 0), 0);
		EXPECT_EQ(guest_call(&vm, guest_store, gpa, 88, 0), 0);
		/* In use again, and that is known: the rest is not all there is. */
		EXPECT_EQ(gmem_punch(gmem, 2 * MB, gpa - 2 * MB), 0);
		EXPECT_EQ(gmem_punch(gmem, gpa + PAGE, 4 * MB - gpa - PAGE), 0);
		EXPECT_EQ(guest_call(&vm, guest_load, gpa, 0, 0), 88);
	}
	/* The process ends with the guest running. */
}

TEST_TYPED(kvm_punch_beside_faults)

// SPDX-License-Identifier: GPL-2.0
/* Memslots and files: what may be bound to what, and who may go first. */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "vmm.h"

static int create_vm(int kvm, unsigned long type)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, type ?: vm_type);

	EXPECT(vm >= 0);
	return vm;
}

TEST(kvm_bind_bad_input)
{
	int kvm = kvm_device(), vm = create_vm(kvm, 0);
	int gmem = gmem_create(4 * MB, 2 * MB, 0), other;

	EXPECT_ERR(vm_set_slot(vm, 0, 0, 0, 4 * MB + PAGE, NULL, gmem, 0), EINVAL);
	EXPECT_ERR(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, gmem, 2 * MB + PAGE), EINVAL);
	EXPECT_ERR(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, gmem, 4 * MB), EINVAL);
	EXPECT_ERR(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, gmem, -2 * MB), EINVAL);
	EXPECT_ERR(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, gmem, 1), EINVAL);
	EXPECT_ERR(vm_set_slot(vm, 0, 0, 0, 100, NULL, gmem, 0), EINVAL);
	EXPECT_ERR(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, -1, 0), EBADF);
	other = gmem_device();		/* not a gmem file */
	EXPECT_ERR(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, other, 0), EINVAL);
	close(other);
	/* As with KVM's own: neither dirty logging nor read-only slots. */
	EXPECT_ERR(vm_set_slot(vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, 2 * MB, NULL,
			       gmem, 0), EINVAL);
	EXPECT_ERR(vm_set_slot(vm, 0, KVM_MEM_READONLY, 0, 2 * MB, NULL, gmem, 0),
		   EINVAL);
	/* Nothing of this has left anything behind. */
	EXPECT_EQ(vm_set_slot(vm, 0, 0, 0, 4 * MB, NULL, gmem, 0), 0);
	EXPECT_ERR(vm_set_slot(vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * MB, NULL,
			       gmem, 0), EINVAL);
	EXPECT_ERR(vm_set_slot(vm, 0, 0, 16 * MB, 4 * MB, NULL, gmem, 0), EINVAL);
	close(vm);
	close(kvm);
	close(gmem);
}

/* At run time the file cannot tell KVM which pages are private. */
TEST(kvm_bind_protected_vm)
{
	int kvm = kvm_device(), gmem = gmem_create(2 * MB, 2 * MB, 0), vm;

	vm = ioctl(kvm, KVM_CREATE_VM, 1 /* KVM_X86_SW_PROTECTED_VM */);
	if (vm < 0 && errno == EINVAL)
		test_skip("no protected VMs in this kernel");
	EXPECT(vm >= 0);
	if (shim_is_module())
		EXPECT_ERR(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, gmem, 0), EOPNOTSUPP);
	else
		EXPECT_EQ(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, gmem, 0), 0);
	close(vm);
	vm = create_vm(kvm, 0);
	EXPECT_EQ(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, gmem, 0), 0);
	close(vm);
	close(kvm);
	close(gmem);
}

struct guest_memfd {
	uint64_t size, flags, reserved[6];
};

#define CREATE_GUEST_MEMFD	_IOWR(KVMIO, 0xd4, struct guest_memfd)
#define CAP_GUEST_MEMFD		234

/* KVM's own files go where KVM says that they do, and nowhere else. */
TEST(kvm_bind_guest_memfd)
{
	int kvm = kvm_device(), vm = create_vm(kvm, 0), fd, ret;
	struct guest_memfd args = { .size = 2 * MB };

	fd = ioctl(vm, CREATE_GUEST_MEMFD, &args);
	EXPECT(fd >= 0);
	ret = vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, fd, 0);
	if (ioctl(vm, KVM_CHECK_EXTENSION, CAP_GUEST_MEMFD) > 0) {
		EXPECT_EQ(ret, 0);
	} else {
		EXPECT_EQ(ret, -1);
		EXPECT_EQ(errno, EINVAL);
	}
	close(fd);
	close(vm);
	close(kvm);
}

TEST(kvm_bind_range_once)
{
	int kvm = kvm_device(), vm = create_vm(kvm, 0);
	int gmem = gmem_create(8 * MB, 2 * MB, 0);

	EXPECT_EQ(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, gmem, 2 * MB), 0);
	EXPECT_ERR(vm_set_slot(vm, 1, 0, GB, 2 * MB, NULL, gmem, 2 * MB), EEXIST);
	EXPECT_ERR(vm_set_slot(vm, 1, 0, GB, 2 * MB, NULL, gmem, MB), EEXIST);
	EXPECT_ERR(vm_set_slot(vm, 1, 0, GB, 8 * MB, NULL, gmem, 0), EEXIST);
	EXPECT_ERR(vm_set_slot(vm, 1, 0, GB, PAGE, NULL, gmem, 4 * MB - PAGE), EEXIST);
	EXPECT_EQ(vm_set_slot(vm, 1, 0, GB, 2 * MB, NULL, gmem, 4 * MB), 0);
	EXPECT_EQ(vm_set_slot(vm, 2, 0, 2 * GB, 2 * MB, NULL, gmem, 0), 0);
	/* Free again when its slot is gone. */
	EXPECT_EQ(vm_set_slot(vm, 0, 0, 0, 0, NULL, gmem, 0), 0);
	EXPECT_EQ(vm_set_slot(vm, 3, 0, 3 * GB, 2 * MB, NULL, gmem, 2 * MB), 0);
	close(vm);
	close(kvm);
	close(gmem);
}

TEST_TYPED(kvm_bind_range_once)

TEST(kvm_bind_one_vm)
{
	int kvm = kvm_device(), a = create_vm(kvm, 0), b = create_vm(kvm, 0);
	int gmem = gmem_create(4 * MB, 2 * MB, 0);

	EXPECT_EQ(vm_set_slot(a, 0, 0, 0, 2 * MB, NULL, gmem, 0), 0);
	EXPECT_ERR(vm_set_slot(b, 0, 0, 0, 2 * MB, NULL, gmem, 2 * MB), EBUSY);
	/* When its slots are gone, */
	EXPECT_EQ(vm_set_slot(a, 0, 0, 0, 0, NULL, gmem, 0), 0);
	EXPECT_EQ(vm_set_slot(b, 0, 0, 0, 2 * MB, NULL, gmem, 2 * MB), 0);
	EXPECT_ERR(vm_set_slot(a, 0, 0, 0, 2 * MB, NULL, gmem, 0), EBUSY);
	/* or the VM is. */
	close(b);
	EXPECT_EQ(vm_set_slot(a, 0, 0, 0, 2 * MB, NULL, gmem, 0), 0);
	close(a);
	close(kvm);
	close(gmem);
}

/* Memory survives its VM, and another VM finds it as the first has left it. */
TEST(kvm_vm_gone_before_file)
{
	int gmem = gmem_create(4 * MB, 2 * MB, 0);
	struct vm vm;

	vm_create(&vm, gmem, 4 * MB, 1);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, 5), 0);
	vm_destroy(&vm);
	vm_create(&vm, gmem, 4 * MB, 1);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, 2 * MB, 5), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST_TYPED(kvm_vm_gone_before_file)

/* Nothing but a memslot is left of the file: memory is home, the guest stops. */
TEST(kvm_file_gone_before_vm)
{
	long before = pool(2 * MB, "free_hugepages");
	int gmem = gmem_create(4 * MB, 2 * MB, 0), again;
	struct vcpu *vcpu;
	struct vm vm;

	EXPECT_EQ(gmem_allocate(gmem, 0, 4 * MB), 0);
	vm_create(&vm, gmem, 4 * MB, 1);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, 5), 0);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), before - 2);
	munmap(vm.host, vm.size);
	close(gmem);
	EXPECT_EQ(pool(2 * MB, "free_hugepages"), before);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 0);

	vcpu = &vm.vcpus[0];
	vcpu_prepare(vcpu, guest_load, 2 * MB, 0, 0);
	EXPECT(!vcpu_run(vcpu));
	EXPECT_EQ(vcpu->error, EFAULT);
	EXPECT_EQ(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);

	/* The slot goes like any other, and its place can be taken. */
	again = gmem_create(4 * MB, 2 * MB, 0);
	EXPECT_EQ(vm_set_slot(vm.fd, 0, 0, 0, 0, NULL, again, 0), 0);
	EXPECT_EQ(vm_set_slot(vm.fd, 0, 0, 0, 4 * MB, NULL, again, 0), 0);
	vm.host = gmem_map(again, 0, vm.size);
	vm_destroy(&vm);
	close(again);
}

TEST_TYPED(kvm_file_gone_before_vm)

/* A slot deleted under a running guest; the file, and other slots, stay. */
TEST(kvm_slot_deleted)
{
	int gmem = gmem_create(8 * MB, 2 * MB, 0);
	struct vcpu *vcpu;
	struct vm vm;

	vm_create(&vm, gmem, 4 * MB, 1);
	/* Two more, with a hole between them, in another order than the file. */
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, GB, 2 * MB, NULL, gmem, 6 * MB), 0);
	EXPECT_EQ(vm_set_slot(vm.fd, 2, 0, GB + 4 * MB, 2 * MB, NULL, gmem, 4 * MB), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, GB, 2 * MB, 1), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, GB + 4 * MB, 2 * MB, 2), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 3);

	EXPECT_EQ(gmem_convert(gmem, 6 * MB, PAGE, false), 0);
	EXPECT_EQ(guest_call(&vm, guest_store, GB, 99, 0), 0);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, 0, 0, NULL, gmem, 0), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, GB + 4 * MB, 2 * MB, 2), 0);
	/* What was in it is in the file still. */
	munmap(vm.host, vm.size);
	vm.host = gmem_map(gmem, 0, vm.size = 8 * MB);
	EXPECT_EQ(*(uint64_t *)(vm.host + 6 * MB), 99);

	/* No slot: the access is MMIO, which this guest cannot do. */
	vcpu = &vm.vcpus[0];
	vcpu_prepare(vcpu, guest_load, GB, 0, 0);
	EXPECT(!vcpu_run(vcpu));
	EXPECT_EQ(gmem_punch(gmem, 6 * MB, 2 * MB), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST_TYPED(kvm_slot_deleted)

/* Offsets that large pages do not fit: it works, by small ones. */
TEST(kvm_misaligned_slot)
{
	int gmem = gmem_create(8 * MB, 2 * MB, 0);
	struct vm vm;

	vm_create(&vm, gmem, 4 * MB, 1);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, GB, 2 * MB, NULL, gmem, 4 * MB + PAGE), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, GB, 2 * MB, 1), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, GB, 2 * MB, 1), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_4k"), 512);
	EXPECT_EQ(gmem_convert(gmem, 4 * MB, 4 * MB, false), 0);
	munmap(vm.host, vm.size);
	vm.host = gmem_map(gmem, 0, vm.size = 8 * MB);
	EXPECT_EQ(*(uint64_t *)(vm.host + 4 * MB + PAGE), page_word(GB, 1));
	EXPECT_EQ(gmem_punch(gmem, 4 * MB, 4 * MB), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_4k"), 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST_TYPED(kvm_misaligned_slot)

/* Where the host maps the file, or whether, is no concern of the guest's. */
TEST(kvm_host_address_is_free)
{
	int kvm = kvm_device(), gmem = gmem_create(4 * MB, 2 * MB, 0);
	char *odd = (char *)0x700000001000;
	struct vm vm;

	vm_create(&vm, gmem, 2 * MB, 1);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, GB, 2 * MB, odd, gmem, 2 * MB), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, GB, 2 * MB, 1), 0);
	EXPECT_EQ(kvm_stat(vm.fd, "pages_2m"), 2);
	vm_destroy(&vm);
	close(gmem);
	close(kvm);
}

TEST_TYPED(kvm_host_address_is_free)

/* Out of memory in the cgroup is the VMM's to solve, and not the end. */
TEST(kvm_no_memory_for_guest)
{
	int gmem = gmem_create(4 * MB, 2 * MB, 0);
	struct memory_fault *fault;
	struct vcpu *vcpu;
	struct vm vm;
	char text[32];

	vm_create(&vm, gmem, 4 * MB, 1);
	EXPECT_EQ(mkdir("/sys/fs/cgroup/kvm_no_memory", 0755), 0);
	write_text("/sys/fs/cgroup/kvm_no_memory/hugetlb.2MB.max", "0");
	snprintf(text, sizeof(text), "%d", getpid());
	write_text("/sys/fs/cgroup/kvm_no_memory/cgroup.procs", text);

	vcpu = &vm.vcpus[0];
	vcpu_prepare(vcpu, guest_load, 2 * MB, 0, 0);
	EXPECT(!vcpu_run(vcpu));
	EXPECT_EQ(vcpu->error, ENOSPC);
	EXPECT_EQ(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	/* A typed VM is told what the access was. */
	fault = (void *)&vcpu->run->mmio;
	EXPECT_EQ(fault->flags, vm.typed ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0);
	EXPECT_EQ(gmem_convert(gmem, 2 * MB, PAGE, false), 0);
	EXPECT(!vcpu_run(vcpu));
	EXPECT_EQ(vcpu->error, ENOSPC);
	EXPECT_EQ(fault->flags, 0);
	write_text("/sys/fs/cgroup/kvm_no_memory/hugetlb.2MB.max", "max");
	EXPECT(vcpu_run(vcpu));
	EXPECT_EQ(vcpu->result, 0);

	write_text("/sys/fs/cgroup/cgroup.procs", text);
	vm_destroy(&vm);
	close(gmem);
	EXPECT_EQ(rmdir("/sys/fs/cgroup/kvm_no_memory"), 0);
}

TEST_TYPED(kvm_no_memory_for_guest)

TEST(kvm_unload_refused_while_bound)
{
	int kvm = kvm_device(), vm = create_vm(kvm, 0);
	int gmem = gmem_create(2 * MB, 2 * MB, 0);

	EXPECT_EQ(vm_set_slot(vm, 0, 0, 0, 2 * MB, NULL, gmem, 0), 0);
	close(kvm);
	EXPECT_ERR(module_unload("gmemfd"), EAGAIN);
	EXPECT_ERR(module_unload("kvm_amd"), EAGAIN);
	EXPECT_ERR(module_unload("kvm"), EWOULDBLOCK);
	close(gmem);
	EXPECT_ERR(module_unload("kvm_amd"), EAGAIN);
	close(vm);
}

static void one_guest(void)
{
	int gmem = gmem_create(4 * MB, 2 * MB, 0);
	struct vm vm;

	vm_create(&vm, gmem, 4 * MB, 1);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, 5), 0);
	vm_destroy(&vm);
	close(gmem);
}

/* Neither module needs the other, and they come and go in any order. */
TEST(kvm_load_in_any_order)
{
	close(kvm_device());
	if (shim_is_module())
		test_skip("the shim is a module, which keeps kvm: kvm_shim_keeps_kvm");
	test_changes_direct_map();
	one_guest();
	EXPECT_EQ(module_unload("gmemfd"), 0);		/* gmemfd anew, under KVM */
	EXPECT_EQ(module_load("gmemfd", ""), 0);
	one_guest();
	EXPECT_EQ(module_unload("kvm_amd"), 0);	/* KVM anew, under gmemfd */
	EXPECT_EQ(module_unload("kvm"), 0);
	EXPECT_EQ(module_load("kvm", ""), 0);
	EXPECT_EQ(module_load("kvm-amd", ""), 0);
	one_guest();
	EXPECT_EQ(module_unload("kvm_amd"), 0);	/* gmemfd without KVM */
	EXPECT_EQ(module_unload("kvm"), 0);
	EXPECT_EQ(module_unload("gmemfd"), 0);
	EXPECT_EQ(module_load("gmemfd", ""), 0);
	EXPECT_EQ(module_load("kvm", ""), 0);
	EXPECT_EQ(module_load("kvm-amd", ""), 0);
	one_guest();
}

/* The shim as a module reaches into kvm, which stays as long as that does. */
TEST(kvm_shim_keeps_kvm)
{
	close(kvm_device());
	if (!shim_is_module())
		test_skip("the shim is built in");
	test_changes_direct_map();
	one_guest();
	EXPECT_ERR(module_unload("gmemfd_shim"), EAGAIN);
	EXPECT_EQ(module_unload("kvm_amd"), 0);
	EXPECT_ERR(module_unload("kvm"), EAGAIN);
	EXPECT_EQ(module_load("kvm-amd", ""), 0);
	one_guest();
	EXPECT_EQ(module_unload("gmemfd_put_test"), 0);
	EXPECT_EQ(module_unload("gmemfd"), 0);
	EXPECT_ERR(module_unload("kvm"), EAGAIN);
	EXPECT_EQ(module_unload("gmemfd_shim"), 0);
	EXPECT_EQ(module_unload("kvm_amd"), 0);
	EXPECT_EQ(module_unload("kvm"), 0);
	EXPECT_EQ(module_load("kvm", ""), 0);
	EXPECT_EQ(module_load("kvm-amd", ""), 0);
	EXPECT_EQ(module_load("gmemfd_shim", ""), 0);
	EXPECT_EQ(module_load("gmemfd", ""), 0);
	EXPECT_EQ(module_load("gmemfd_put_test", ""), 0);
	one_guest();
}

/*
 * KVM without nested paging: it maps what the guest's page tables say, page by
 * page, however large the file's memory is.  (It reads these tables, so that
 * the guest shares them.)  Slot 1 has host memory at its userspace_addr that is
 * not the file's, and must not be found by the guest.
 */
TEST(kvm_shadow_paging)
{
	int gmem = gmem_create(6 * MB, 2 * MB, 0);
	uint64_t *pdpt, *pd, *pt;
	struct vm vm;
	char *other;

	close(kvm_device());
	test_changes_direct_map();
	EXPECT_EQ(module_unload("kvm_amd"), 0);
	EXPECT_EQ(module_load("kvm-amd", "npt=0"), 0);
	other = mmap(NULL, 4 * MB, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	EXPECT(other != MAP_FAILED);
	memset(other, 0xee, 4 * MB);

	EXPECT_EQ(gmem_allocate(gmem, 0, 6 * MB), 0);
	vm_create(&vm, gmem, 2 * MB, 1);
	EXPECT_EQ(vm_set_slot(vm.fd, 1, 0, GB, 4 * MB, other, gmem, 2 * MB), 0);
	EXPECT_EQ(gmem_convert(gmem, 0, 2 * MB, false), 0);
	pdpt = (uint64_t *)(vm.host + GPA_PDPT);
	pd = (uint64_t *)(vm.host + 0x3000);
	pt = (uint64_t *)(vm.host + 0x4000);
	pdpt[1] = 0x3000 | 3;
	pd[0] = 0x4000 | 3;			/* 2 MiB by 4 KiB, */
	pd[1] = (GB + 2 * MB) | 0x83;		/* and 2 MiB at once */
	for (uint64_t i = 0; i < 512; i++)
		pt[i] = (GB + i * PAGE) | 3;

	EXPECT_EQ(guest_call(&vm, guest_check_pages, GB, 4 * MB, 0), 0);
	EXPECT_EQ(guest_call(&vm, guest_write_pages, GB, 4 * MB, 5), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, GB, 4 * MB, 5), 0);
	EXPECT(kvm_stat(vm.fd, "pages_4k") >= 512);
	EXPECT_EQ(gmem_punch(gmem, 2 * MB, 4 * MB), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, GB, 4 * MB, 0), 0);
	vm_destroy(&vm);
	close(gmem);
	munmap(other, 4 * MB);
	EXPECT_EQ(module_unload("kvm_amd"), 0);
	EXPECT_EQ(module_load("kvm-amd", ""), 0);
}

/* Any allocation of binding fails once: an error, and nothing has happened. */
TEST(kvm_faults_bind)
{
	int kvm = kvm_device(), vm = create_vm(kvm, 0), n, failed = 0;
	int gmem = gmem_create(4 * MB, 2 * MB, 0);
	bool fired = true;

	faults_set_up();
	for (n = 1; fired; n++) {
		int ret, err;

		faults_arm(n);
		ret = vm_set_slot(vm, 0, 0, 0, 4 * MB, NULL, gmem, 0);
		err = errno;
		fired = faults_fired();
		if (ret) {
			failed++;
			EXPECT(fired && (err == ENOMEM || err == EFAULT));
			/* Not bound: the range is free. */
			EXPECT_EQ(vm_set_slot(vm, 1, 0, GB, 4 * MB, NULL, gmem, 0), 0);
			EXPECT_EQ(vm_set_slot(vm, 1, 0, 0, 0, NULL, gmem, 0), 0);
		} else {
			EXPECT_EQ(vm_set_slot(vm, 0, 0, 0, 0, NULL, gmem, 0), 0);
		}
	}
	printf("# %d allocations, %d of them needed\n", n - 2, failed);
	EXPECT(failed > 3);
	close(vm);
	close(kvm);
	close(gmem);
}

TEST_TYPED(kvm_faults_bind)

/* And of what a guest's access needs: it can go on afterwards. */
TEST(kvm_faults_get_pfn)
{
	int gmem = gmem_create(4 * MB, 2 * MB, 0), failed = 0;
	bool fired = true;
	struct vm vm;

	faults_set_up();
	vm_create(&vm, gmem, 4 * MB, 1);
	for (int n = 1; fired; n++) {
		struct vcpu *vcpu = &vm.vcpus[0];
		struct kvm_regs regs;
		int ret;

		EXPECT_EQ(gmem_punch(gmem, 2 * MB, 2 * MB), 0);
		vcpu_prepare(vcpu, guest_load, 2 * MB, 0, 0);
		faults_arm(n);
		ret = ioctl(vcpu->fd, KVM_RUN, 0);
		fired = faults_fired();
		if (ret) {
			failed++;
			EXPECT(fired);
			EXPECT(vcpu_run(vcpu));
			EXPECT_EQ(vcpu->result, 0);
			continue;
		}
		EXPECT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
		EXPECT_EQ(ioctl(vcpu->fd, KVM_GET_REGS, &regs), 0);
		EXPECT_EQ(regs.rdi, HC_RETURN);
		EXPECT_EQ(regs.rsi, 0);
	}
	EXPECT(failed > 0);
	vm_destroy(&vm);
	close(gmem);
}

TEST_TYPED(kvm_faults_get_pfn)

/* A memory error under a guest: by name only, as in poison.c. */
TEST(poison_guest_page)
{
	int gmem = gmem_create(4 * MB, 2 * MB, 0);
	struct vcpu *vcpu;
	uint64_t frame;
	struct vm vm;

	vm_create(&vm, gmem, 4 * MB, 1);
	vcpu = &vm.vcpus[0];
	EXPECT_EQ(guest_call(&vm, guest_write_pages, 2 * MB, 2 * MB, 5), 0);
	EXPECT_EQ(gmem_convert(gmem, 3 * MB, PAGE, false), 0);
	frame = pfn_of((can_read(vm.host + 3 * MB), vm.host + 3 * MB));
	EXPECT_EQ(gmem_convert(gmem, 3 * MB, PAGE, true), 0);
	/* The guest has it mapped, with its neighbours. */
	poison(frame);

	vcpu_prepare(vcpu, guest_load, 3 * MB, 0, 0);
	EXPECT(!vcpu_run(vcpu));
	EXPECT_EQ(vcpu->error, EHWPOISON);
	EXPECT_EQ(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	/* The pages around it can be used. */
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 2 * MB, MB, 5), 0);
	EXPECT_EQ(guest_call(&vm, guest_check_pages, 3 * MB + PAGE, MB - PAGE, 5), 0);
	/* And have not brought it along. */
	vcpu_prepare(vcpu, guest_load, 3 * MB, 0, 0);
	EXPECT(!vcpu_run(vcpu));
	EXPECT_EQ(vcpu->error, EHWPOISON);
	vm_destroy(&vm);
	close(gmem);
	test_changes_direct_map();		/* the pool has lost a page */
}

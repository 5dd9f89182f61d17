// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <signal.h>

#include "vmm.h"

/* Guest-physical addresses of what vm_create() puts into the first 2 MiB. */
#define GPA_PML4	0x1000
#define GPA_STACKS	0x20000		/* grow down, one page each */
#define GPA_CODE	0x100000

unsigned long vm_type;

int kvm_device(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		test_skip("no KVM");
	if (shim_is_module() && !shim_hooks_kvm())
		test_skip("the shim as a module does not reach into this kernel's KVM");
	return fd;
}

/* Can a gmem file serve VMs that tell private from shared accesses? */
bool kvm_has_typed(void)
{
	int kvm = kvm_device();
	int types = ioctl(kvm, KVM_CHECK_EXTENSION, 235 /* KVM_CAP_VM_TYPES */);

	close(kvm);
	return types > 0 && types & 1 << KVM_X86_SW_PROTECTED_VM && !shim_is_module();
}

void vms_are_typed(void)
{
	if (!kvm_has_typed())
		test_skip("no VMs of type KVM_X86_SW_PROTECTED_VM, or the shim is a module");
	vm_type = KVM_X86_SW_PROTECTED_VM;
}

/* Do KVM's own caches of guest pages ask the file?  See shim/kvm/compat.h. */
bool kvm_reaches_secret(void)
{
	return !shim_is_module() && !kernel_before(6, 13);
}

int vm_set_slot(int vm_fd, unsigned int slot, unsigned int flags, uint64_t gpa,
		uint64_t size, void *host, int gmem, uint64_t offset)
{
	struct region2 region = {
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD | flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
		.guest_memfd = gmem,
		.guest_memfd_offset = offset,
	};

	return ioctl(vm_fd, SET_REGION2, &region);
}

void vm_create_empty(struct vm *vm, int gmem, size_t size)
{
	*vm = (struct vm) {
		.gmem = gmem, .size = size, .rest = GMEMFD_ATTRIBUTE_PRIVATE, .typed = vm_type,
	};
	vm->kvm = kvm_device();
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, vm_type);
	EXPECT(vm->fd >= 0);
	vm->host = gmem_map(gmem, 0, size);
	EXPECT_EQ(vm_set_slot(vm->fd, 0, 0, 0, size, vm->host, gmem, 0), 0);
}

void vcpu_create(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[vm->nr_vcpus];
	struct kvm_cpuid2 *cpuid;

	vcpu->vm = vm;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, vm->nr_vcpus);
	EXPECT(vcpu->fd >= 0);
	vcpu->stats = ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL);
	EXPECT(vcpu->stats >= 0);
	vcpu->run_size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			 vcpu->fd, 0);
	EXPECT(vcpu->run != MAP_FAILED);

	cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	cpuid->nent = 256;
	EXPECT_EQ(ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid), 0);
	for (unsigned int i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		/* Nothing that wants memory that the host reaches, where there is none. */
		if (e->function == 0x40000001 &&
		    !(vm->rest == GMEMFD_ATTRIBUTE_SECRET && kvm_reaches_secret()))
			e->eax = 0;
		if (e->function == 1) {
			e->ebx = (e->ebx & 0xffffff) | vm->nr_vcpus << 24;
			e->ecx &= ~(3U << 26);		/* XSAVE: leaf 0xd is empty */
			e->ecx |= 1U << 31;		/* a guest: 6.12's KVM may not say */
		}
		if (e->function == 7 && !e->index)
			e->ecx &= ~(1U << 16);		/* LA57 */
		if (e->function == 0xb)
			e->edx = vm->nr_vcpus;
		if (e->function == 0x80000007)
			e->edx |= 1U << 8;	/* one TSC for all: no CPU measures its own */
		if (e->function == 0x8000001e)
			e->eax = vm->nr_vcpus;
	}
	EXPECT_EQ(ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid), 0);
	free(cpuid);
	vm->nr_vcpus++;
}

void vm_load_image(char *host)
{
	uint64_t *pdpt = (uint64_t *)(host + GPA_PDPT);

	*(uint64_t *)(host + GPA_PML4) = GPA_PDPT | 3;
	for (uint64_t i = 0; i < 512; i++)
		pdpt[i] = i * GB | 0x83;	/* present, writable, 1 GiB */
	memcpy(host + GPA_CODE, __start_guest, __stop_guest - __start_guest);
}

/* Accessed and dirty bits are the CPU's. */
static bool image_is_whole(const struct vm *vm)
{
	const uint64_t *pdpt = (const uint64_t *)(vm->host + GPA_PDPT);

	for (uint64_t i = 0; i < 512; i++)
		if ((pdpt[i] & ~0x60UL) != (i * GB | 0x83))
			return false;
	return (*(uint64_t *)(vm->host + GPA_PML4) & ~0x60UL) == (GPA_PDPT | 3) &&
	       !memcmp(vm->host + GPA_CODE, __start_guest, __stop_guest - __start_guest);
}

void vm_create_apart(struct vm *vm, unsigned long type)
{
	struct kvm_userspace_memory_region region = { .memory_size = 2 * MB };

	*vm = (struct vm) { .gmem = -1, .size = 2 * MB, .typed = type };
	vm->kvm = kvm_device();
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, type);
	EXPECT(vm->fd >= 0);
	vm->host = mmap(NULL, vm->size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(vm->host != MAP_FAILED);
	vm_load_image(vm->host);
	region.userspace_addr = (uintptr_t)vm->host;
	EXPECT_EQ(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	vcpu_create(vm);
}

void vm_create(struct vm *vm, int gmem, size_t size, int nr_vcpus)
{
	vm_create_empty(vm, gmem, size);

	/* The image is put where the host can reach it, which it then cannot. */
	EXPECT_EQ(gmem_convert(gmem, 0, 2 * MB, false), 0);
	vm_load_image(vm->host);
	EXPECT_EQ(gmem_convert(gmem, 0, 2 * MB, true), 0);

	while (vm->nr_vcpus < nr_vcpus)
		vcpu_create(vm);
}

void vm_destroy(struct vm *vm)
{
	for (int i = 0; i < vm->nr_vcpus; i++) {
		munmap(vm->vcpus[i].run, vm->vcpus[i].run_size);
		close(vm->vcpus[i].stats);
		close(vm->vcpus[i].fd);
	}
	munmap(vm->host, vm->size);
	close(vm->fd);
	close(vm->kvm);
}

uint64_t guest_address(const void *p)
{
	return GPA_CODE + ((const char *)p - __start_guest);
}

void vcpu_long_mode(struct kvm_sregs *sregs, uint64_t tables)
{
	struct kvm_segment code = {
		.limit = ~0U, .selector = 0x10, .type = 11, .present = 1,
		.s = 1, .l = 1, .g = 1,
	};
	struct kvm_segment data = {
		.limit = ~0U, .selector = 0x18, .type = 3, .present = 1,
		.s = 1, .db = 1, .g = 1,
	};

	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->cr0 = 0x80000011;	/* PG, ET, PE */
	sregs->cr3 = tables;
	sregs->cr4 = 0x20;		/* PAE */
	sregs->efer = 0x500;		/* LMA, LME */
}

void vcpu_prepare(struct vcpu *vcpu, guest_fn fn, uint64_t a, uint64_t b, uint64_t c)
{
	struct kvm_regs regs = {
		.rip = guest_address(guest_entry),
		.rax = guest_address(fn),
		.rdi = a,
		.rsi = b,
		.rdx = c,
		.rsp = GPA_STACKS + (vcpu - vcpu->vm->vcpus + 1) * PAGE,
		.rflags = 2,
	};
	struct kvm_sregs sregs;

	EXPECT_EQ(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs), 0);
	vcpu_long_mode(&sregs, GPA_PML4);
	EXPECT_EQ(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs), 0);
	EXPECT_EQ(ioctl(vcpu->fd, KVM_SET_REGS, &regs), 0);
	vcpu->error = 0;
}

/* False if the guest's function has returned. */
static bool vcpu_hypercall(struct vcpu *vcpu, uint32_t *ret)
{
	struct vm *vm = vcpu->vm;
	struct kvm_regs regs;

	EXPECT_EQ(ioctl(vcpu->fd, KVM_GET_REGS, &regs), 0);
	switch (regs.rdi) {
	case HC_RETURN:
		vcpu->result = regs.rsi;
		return false;
	case HC_CONVERT:
		*ret = gmem_convert_to(vm->gmem, regs.rsi, regs.rcx,
				       regs.r8 ? vm->rest : 0) ? errno : 0;
		__atomic_add_fetch(&vm->conversions, 1, __ATOMIC_RELAXED);
		return true;
	default:
		EXPECT(vm->hypercall);
		*ret = vm->hypercall(vm, regs.rdi, regs.rsi, regs.rcx, regs.r8);
		return true;
	}
}

/*
 * Has a page been converted while a typed VM's access was under way?  Then the access is
 * another one when it is made again.  One that cannot be made at all fails each time.
 */
static bool made_again(struct vcpu *vcpu, int *times)
{
	return vcpu->vm->typed && vcpu->error == EFAULT &&
	       vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT && ++*times < 100;
}

/*
 * Run until the guest's function returns.  False if the guest cannot go on;
 * vcpu->error and vcpu->run->exit_reason say why.
 */
bool vcpu_run(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	int mismatches = 0;

	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0)) {
			vcpu->error = errno;
			/* EAGAIN: a CPU has been woken by another one */
			if ((errno == EINTR || errno == EAGAIN) &&
			    !vcpu->vm->stopping)
				continue;
			if (made_again(vcpu, &mismatches))
				continue;
			return false;
		}
		mismatches = 0;
		if (run->exit_reason == KVM_EXIT_IO) {
			void *data = (char *)run + run->io.data_offset;

			if (run->io.port == HYPERCALL_PORT) {
				if (!vcpu_hypercall(vcpu, data))
					return true;
			} else if (vcpu->vm->io) {
				vcpu->vm->io(vcpu->vm,
					     run->io.direction == KVM_EXIT_IO_OUT,
					     run->io.port, run->io.size, data);
			}
			if (vcpu->vm->stopping)
				return false;
			continue;
		}
		vcpu->error = 0;
		return false;
	}
}

void vcpu_print(struct vcpu *vcpu)
{
	struct kvm_vcpu_events events = { };
	bool apart = vcpu->vm->gmem < 0;
	struct kvm_sregs sregs = { };
	struct kvm_regs regs = { };

	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
	ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events);
	printf("# rip %#llx rsp %#llx cr0 %#llx cr2 %#llx cr3 %#llx cr4 %#llx efer %#llx\n",
	       regs.rip, regs.rsp, sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4,
	       sregs.efer);
	printf("# rflags %#llx, exception %u, injected %u, pending %u, interrupt %u, NMI %u%s\n",
	       regs.rflags, events.exception.nr, events.exception.injected,
	       events.exception.pending, events.interrupt.injected, events.nmi.injected,
	       !apart ? "" : image_is_whole(vcpu->vm) ? ", image as it was" : ", image changed");
}

static void vcpu_fail(struct vcpu *vcpu)
{
	vcpu_print(vcpu);
	FAIL("guest: exit %d, errno %d", vcpu->run->exit_reason, vcpu->error);
}

uint64_t guest_call(struct vm *vm, guest_fn fn, uint64_t a, uint64_t b, uint64_t c)
{
	struct vcpu *vcpu = &vm->vcpus[0];

	vcpu_prepare(vcpu, fn, a, b, c);
	if (!vcpu_run(vcpu))
		vcpu_fail(vcpu);
	return vcpu->result;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;

	if (!vcpu_run(vcpu) && !vcpu->vm->stopping)
		vcpu_fail(vcpu);
	return NULL;
}

static void nothing(int signal)
{
	(void)signal;
}

void vm_stop(struct vm *vm)
{
	__atomic_store_n(&vm->stopping, true, __ATOMIC_SEQ_CST);
	for (int i = 0; i < vm->nr_vcpus; i++) {
		vm->vcpus[i].run->immediate_exit = 1;
		if (!pthread_equal(vm->vcpus[i].thread, pthread_self()))
			pthread_kill(vm->vcpus[i].thread, SIGUSR1);
	}
}

void vcpu_start(struct vcpu *vcpu)
{
	struct sigaction action = { .sa_handler = nothing };

	sigaction(SIGUSR1, &action, NULL);
	EXPECT_EQ(pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu), 0);
}

void vcpu_join(struct vcpu *vcpu)
{
	EXPECT_EQ(pthread_join(vcpu->thread, NULL), 0);
}

static uint64_t read_stat(int stats, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	char buf[sizeof(*desc) + 256];
	uint64_t value = 0;
	bool found = false;

	EXPECT_EQ(pread(stats, &header, sizeof(header), 0), sizeof(header));
	EXPECT(header.name_size <= 256);
	for (unsigned int i = 0; i < header.num_desc && !found; i++) {
		size_t size = sizeof(*desc) + header.name_size;

		EXPECT_EQ(pread(stats, buf, size, header.desc_offset + i * size),
			  (long long)size);
		desc = (void *)buf;
		if (strcmp(desc->name, name))
			continue;
		EXPECT_EQ(pread(stats, &value, 8, header.data_offset + desc->offset), 8);
		found = true;
	}
	if (!found)
		FAIL("no KVM statistic %s", name);
	return value;
}

uint64_t kvm_stat(int fd, const char *name)
{
	int stats = ioctl(fd, KVM_GET_STATS_FD, NULL);
	uint64_t value;

	EXPECT(stats >= 0);
	value = read_stat(stats, name);
	close(stats);
	return value;
}

uint64_t vm_faults(struct vm *vm)
{
	uint64_t sum = 0;

	for (int i = 0; i < vm->nr_vcpus; i++)
		sum += read_stat(vm->vcpus[i].stats, "pf_taken");
	return sum;
}

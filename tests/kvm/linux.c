// SPDX-License-Identifier: GPL-2.0
/*
 * A Linux guest: /bzImage by the 64-bit boot protocol, with this program as its
 * init.
 *
 * KVM's instruction emulator reads guest memory as the host sees it: not where
 * it is private.  So there is no memory-mapped I/O but the I/O APIC's, which
 * "noapic" does without: x2APIC from the start, PIT, a serial port, and nothing
 * paravirtual.  That is all a guest needs on a CPU that tells the hypervisor
 * what it has intercepted (NRIPS and decode assists on AMD; every Intel CPU).
 * The lab's emulated one does not, and KVM decodes each CPUID, HLT, and access
 * to an MSR or CR4 by itself, walking the guest's page tables to it.  Therefore
 * the guest shares what its kernel is made of, and kernelcore= keeps the kernel
 * in there: the memory of its processes is private, but for the text of its
 * init.
 */
#define _GNU_SOURCE
#include <asm/bootparam.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "vmm.h"

#define GPA_GDT		0x6000
#define GPA_BOOT_PARAMS	0x7000
#define GPA_TABLES	0x8000
#define GPA_CMDLINE	0x20000
#define GPA_EBDA	0x9fc00
#define GPA_MP_TABLE	0xf0000
#define GPA_ACPI	0xf1000
#define GPA_KERNEL	0x1000000
#define GPA_INITRD	0x6000000

#define COM1		0x3f8
#define COM1_IRQ	4

struct uart {
	uint8_t ier, lcr, mcr, scr, divisor[2];
	bool thri;		/* "transmitter empty" has not been seen yet */
};

struct machine {
	struct uart uart;
	char line[256];
	size_t len;
	bool verbose;
	bool interrupted_twice;
};

static void set_irq(struct vm *vm, int irq, bool level)
{
	struct kvm_irq_level line = { .irq = irq, .level = level };

	EXPECT_EQ(ioctl(vm->fd, KVM_IRQ_LINE, &line), 0);
}

static void print_char(struct machine *machine, char c)
{
	if (c == '\r')
		return;
	if (c != '\n' && machine->len < sizeof(machine->line) - 1) {
		machine->line[machine->len++] = c;
		return;
	}
	machine->line[machine->len] = '\0';
	machine->len = 0;
	if (machine->verbose)
		printf("      | %s\n", machine->line);
	if (strstr(machine->line, "RIP: 0010:asm_sysvec_apic_timer_interrupt+0x0/"))
		machine->interrupted_twice = true;
}

/* A 16550 that is always done with what it was given, and gets no input. */
static void uart_io(struct vm *vm, struct machine *machine, bool out,
		    unsigned int reg, uint8_t *data)
{
	struct uart *uart = &machine->uart;
	bool dlab = uart->lcr & 0x80;

	if (out) {
		switch (reg) {
		case 0:
			if (dlab) {
				uart->divisor[0] = *data;
				break;
			}
			if (!(uart->mcr & 0x10))	/* not loopback */
				print_char(machine, *data);
			uart->thri = true;
			break;
		case 1:
			if (dlab) {
				uart->divisor[1] = *data;
				break;
			}
			uart->thri |= *data & ~uart->ier & 2;
			uart->ier = *data & 15;
			break;
		case 3:	uart->lcr = *data; break;
		case 4:	uart->mcr = *data; break;
		case 7:	uart->scr = *data; break;
		}
	} else {
		switch (reg) {
		case 0:	*data = dlab ? uart->divisor[0] : 0; break;
		case 1:	*data = dlab ? uart->divisor[1] : uart->ier; break;
		case 2:
			*data = uart->thri && uart->ier & 2 ? 2 : 1;
			if (*data == 2)
				uart->thri = false;
			break;
		case 3:	*data = uart->lcr; break;
		case 4:	*data = uart->mcr; break;
		case 5:	*data = 0x60; break;	/* all sent */
		case 6:	*data = uart->mcr & 0x10 ? (uart->mcr & 15) << 4 : 0xb0; break;
		case 7:	*data = uart->scr; break;
		}
	}
	set_irq(vm, COM1_IRQ, uart->thri && uart->ier & 2);
}

static void linux_io(struct vm *vm, bool out, unsigned int port, int size, void *data)
{
	struct machine *machine = vm->io_data;

	if (port >= COM1 && port < COM1 + 8 && size == 1) {
		uart_io(vm, machine, out, port - COM1, data);
	} else if (!out) {
		/* No such device, but for those that are waited for. */
		memset(data, port == 0x64 || port == 0x71 ? 0 : 0xff, size);
	} else if (port == 0x64 && *(uint8_t *)data == 0xfe) {
		vm_stop(vm);		/* reset */
	}
}

/* One file after the other in cpio's "newc" format. */
static char *cpio_add(char *at, const char *name, unsigned int mode, unsigned int rdev,
		      const void *data, size_t size)
{
	size_t len = strlen(name) + 1;
	static unsigned int ino;

	at += sprintf(at, "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X",
		      ++ino, mode, 0, 0, 1, 0, size, 0, 0, rdev >> 8, rdev & 255, len, 0);
	memcpy(at, name, len);
	at += len;
	while ((uintptr_t)at & 3)
		*at++ = '\0';
	memcpy(at, data, size);
	at += size;
	while ((uintptr_t)at & 3)
		*at++ = '\0';
	return at;
}

static void *read_file(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	char *data;

	if (fd < 0)
		return NULL;
	EXPECT_EQ(fstat(fd, &st), 0);
	data = malloc(st.st_size);
	*size = 0;
	while (*size < (size_t)st.st_size) {
		ssize_t n = read(fd, data + *size, st.st_size - *size);

		EXPECT(n > 0);
		*size += n;
	}
	close(fd);
	return data;
}

/* Returns its size. */
static size_t load_initrd(struct vm *vm)
{
	char *start = vm->host + GPA_INITRD, *end = start, *exe;
	size_t len;

	exe = read_file("/proc/self/exe", &len);
	end = cpio_add(end, "dev", 040755, 0, NULL, 0);
	end = cpio_add(end, "dev/console", 020600, 5 << 8 | 1, NULL, 0);
	end = cpio_add(end, "init", 0100755, 0, exe, len);
	end = cpio_add(end, "TRAILER!!!", 0, 0, NULL, 0);
	free(exe);
	return end - start;
}

static void load_kernel(struct vm *vm, const char *cmdline)
{
	struct boot_params *bp = (void *)(vm->host + GPA_BOOT_PARAMS);
	struct setup_header *hdr;
	char *image;
	size_t size, setup;

	image = read_file("/bzImage", &size);
	if (!image)
		test_skip("no /bzImage: scripts/lab run --guest");
	hdr = (void *)(image + 0x1f1);
	EXPECT_EQ(hdr->header, 0x53726448);	/* "HdrS" */
	EXPECT(hdr->xloadflags & XLF_KERNEL_64);
	setup = ((hdr->setup_sects ?: 4) + 1) * 512;
	memcpy(vm->host + GPA_KERNEL, image + setup, size - setup);

	memset(bp, 0, sizeof(*bp));
	memcpy(&bp->hdr, hdr, sizeof(bp->hdr));
	bp->hdr.type_of_loader = 0xff;
	bp->hdr.loadflags |= LOADED_HIGH;
	bp->hdr.cmd_line_ptr = GPA_CMDLINE;
	bp->hdr.ramdisk_image = GPA_INITRD;
	bp->hdr.ramdisk_size = load_initrd(vm);
	strcpy(vm->host + GPA_CMDLINE, cmdline);
	bp->e820_table[0] = (struct boot_e820_entry) { 0, GPA_EBDA, 1 };
	bp->e820_table[1] = (struct boot_e820_entry) { GPA_EBDA, MB - GPA_EBDA, 2 };
	bp->e820_table[2] = (struct boot_e820_entry) { MB, vm->size - MB, 1 };
	bp->e820_entries = 3;
	free(image);
}

static uint8_t checksum(const void *data, size_t size)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum += ((const uint8_t *)data)[i];
	return -sum;
}

/*
 * MultiProcessor Specification 1.4: CPUs, an ISA bus, and an I/O APIC.  KVM wires
 * interrupt n of the bus to its pin n, the timer's as well.
 */
static void load_mp_table(struct vm *vm, int nr_cpus)
{
	uint8_t *start = (uint8_t *)vm->host + GPA_MP_TABLE, *table = start + 16, *at;
	int entries = 0;

	memset(start, 0, 512);
	at = table + 44;
	for (int i = 0; i < nr_cpus; i++, at += 20, entries++) {
		at[0] = 0;			/* processor */
		at[1] = i;			/* APIC ID */
		at[2] = 0x14;			/* APIC version */
		at[3] = 1 | (i ? 0 : 2);	/* enabled, boot CPU */
	}
	memcpy(at, "\1\0ISA   ", 8);
	at += 8;
	at[0] = 2;				/* I/O APIC */
	at[1] = nr_cpus;			/* APIC ID */
	at[2] = 0x11;				/* APIC version */
	at[3] = 1;				/* enabled */
	*(uint32_t *)(at + 4) = 0xfec00000;
	at += 8;
	entries += 2;
	for (int i = 0; i < 16; i++) {
		if (i == 2)			/* the second 8259 */
			continue;
		at[0] = 3;			/* interrupt, edge as on ISA, */
		at[5] = i;			/* of that bus */
		at[6] = nr_cpus;		/* goes to that I/O APIC's */
		at[7] = i;			/* pin */
		at += 8;
		entries++;
	}
	memcpy(at, "\4\3\0\0\0\0\xff\0", 8);	/* ExtINT is at LINT0 */
	at += 8;
	memcpy(at, "\4\1\0\0\0\0\xff\1", 8);	/* NMI at LINT1 */
	at += 8;
	entries += 2;

	memcpy(table, "PCMP", 4);
	*(uint16_t *)(table + 4) = at - table;
	table[6] = 4;
	memcpy(table + 8, "GMEMFD  TEST VMM    ", 20);
	*(uint16_t *)(table + 34) = entries;
	*(uint32_t *)(table + 36) = 0xfee00000;
	table[7] = checksum(table, at - table);

	memcpy(start, "_MP_", 4);
	*(uint32_t *)(start + 4) = GPA_MP_TABLE + 16;
	start[8] = 1;
	start[9] = 4;
	start[10] = checksum(start, 16);
}

/* A table of ACPI, for what is in @size bytes behind its header. */
static void end_acpi_table(uint8_t *table, const char *signature, uint32_t size)
{
	memcpy(table, signature, 4);
	size += 36;
	memcpy(table + 4, &size, 4);
	table[8] = 1;
	memcpy(table + 10, "GMEMFD" "TEST VMM", 14);
	table[9] = 0;
	table[9] = checksum(table, size);
}

/*
 * The same for kernels that know ACPI and no MultiProcessor tables, as Debian's: a root
 * pointer, the list of tables, and the one that has CPUs and the I/O APIC.  There is no
 * other, so that Linux gives ACPI up after that.
 */
static void load_acpi(struct vm *vm, int nr_cpus)
{
	struct boot_params *bp = (void *)(vm->host + GPA_BOOT_PARAMS);
	uint8_t *rsdp = (uint8_t *)vm->host + GPA_ACPI, *xsdt = rsdp + 64, *madt = rsdp + 128;
	uint8_t *at = madt + 36;

	memset(rsdp, 0, 512);
	*(uint32_t *)at = 0xfee00000;
	at[4] = 1;				/* there are 8259s as well */
	at += 8;
	for (int i = 0; i < nr_cpus; i++, at += 8)
		memcpy(at, (uint8_t[]){ 0, 8, i, i, 1 }, 5);
	memcpy(at, (uint8_t[]){ 1, 12, nr_cpus }, 3);	/* I/O APIC, from interrupt 0 on */
	*(uint32_t *)(at + 4) = 0xfec00000;
	at += 12;
	memcpy(at, (uint8_t[]){ 4, 6, 0xff, 0, 0, 1 }, 6);	/* NMI at LINT1 */
	at += 6;
	end_acpi_table(madt, "APIC", at - madt - 36);

	*(uint64_t *)(xsdt + 36) = GPA_ACPI + 128;
	end_acpi_table(xsdt, "XSDT", 8);

	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "GMEMFD", 6);
	rsdp[15] = 2;
	*(uint32_t *)(rsdp + 20) = 36;
	*(uint64_t *)(rsdp + 24) = GPA_ACPI + 64;
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, 36);
	bp->acpi_rsdp_addr = GPA_ACPI;
}

static void set_up_boot_cpu(struct vm *vm)
{
	struct kvm_regs regs = {
		.rip = GPA_KERNEL + 0x200,
		.rsi = GPA_BOOT_PARAMS,
		.rsp = GPA_GDT,
		.rflags = 2,
	};
	uint64_t *gdt = (uint64_t *)(vm->host + GPA_GDT);
	uint64_t *pml4 = (uint64_t *)(vm->host + GPA_TABLES), *pdpt = pml4 + 512;
	uint64_t *pd = pdpt + 512;
	struct kvm_sregs sregs;

	gdt[2] = 0x00af9a000000ffff;
	gdt[3] = 0x00cf92000000ffff;
	/* By 2 MiB: KVM's walks refuse entries of 1 GiB where the CPU has none. */
	pml4[0] = (GPA_TABLES + PAGE) | 3;
	for (uint64_t i = 0; i < 4; i++)
		pdpt[i] = (GPA_TABLES + (2 + i) * PAGE) | 3;
	for (uint64_t i = 0; i < 4 * 512; i++)
		pd[i] = i * 2 * MB | 0x83;

	EXPECT_EQ(ioctl(vm->vcpus[0].fd, KVM_GET_SREGS, &sregs), 0);
	vcpu_long_mode(&sregs, GPA_TABLES);
	sregs.gdt.base = GPA_GDT;
	sregs.gdt.limit = 31;
	EXPECT_EQ(ioctl(vm->vcpus[0].fd, KVM_SET_SREGS, &sregs), 0);
	EXPECT_EQ(ioctl(vm->vcpus[0].fd, KVM_SET_REGS, &regs), 0);
}

/* A guest that stands still is to say where, before the test's time is up. */
static void wait_for_reset(struct vm *vm)
{
	time_t end = time(NULL) + (debug_kernel() ? 800 : 240);
	bool reset = false;

	while (!reset && time(NULL) < end) {
		usleep(10000);
		reset = __atomic_load_n(&vm->stopping, __ATOMIC_SEQ_CST);
	}
	if (!reset)
		vm_stop(vm);
	for (int i = 0; i < vm->nr_vcpus; i++) {
		vcpu_join(&vm->vcpus[i]);
		if (!reset)
			vcpu_print(&vm->vcpus[i]);
	}
	if (!reset)
		FAIL("the guest does not come to its end");
}

/* noxsave: QEMU 7.2 does not know of a nested guest that it has AVX on. */
bool linux_boot(struct vm *vm, int nr_vcpus, const char *append, bool verbose)
{
	static const char base[] = "console=ttyS0 panic=-1 reboot=k nokaslr "
				   "io_delay=none noxsave "
				   "rootfstype=ramfs kernelcore=160M tsc=reliable ";
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct machine machine = { .verbose = verbose };
	char cmdline[512];

	snprintf(cmdline, sizeof(cmdline), "%stsc_early_khz=%d %s", base,
		 ioctl(vm->fd, KVM_GET_TSC_KHZ, 0), append);
	vm->io = linux_io;
	vm->io_data = &machine;

	/* While all of it is shared. */
	load_kernel(vm, cmdline);
	load_mp_table(vm, nr_vcpus);
	load_acpi(vm, nr_vcpus);
	EXPECT_EQ(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), 0);
	EXPECT_EQ(ioctl(vm->fd, KVM_CREATE_PIT2, &pit), 0);
	while (vm->nr_vcpus < nr_vcpus) {
		struct kvm_sregs sregs;

		vcpu_create(vm);
		EXPECT_EQ(ioctl(vm->vcpus[vm->nr_vcpus - 1].fd, KVM_GET_SREGS, &sregs), 0);
		sregs.apic_base |= 0xc00;	/* enabled, x2APIC */
		EXPECT_EQ(ioctl(vm->vcpus[vm->nr_vcpus - 1].fd, KVM_SET_SREGS, &sregs), 0);
	}
	set_up_boot_cpu(vm);
	EXPECT_EQ(gmem_convert_to(vm->gmem, LINUX_SHARED, vm->size - LINUX_SHARED, vm->rest), 0);

	for (int i = 0; i < nr_vcpus; i++)
		vcpu_start(&vm->vcpus[i]);
	wait_for_reset(vm);
	return !machine.interrupted_twice;
}

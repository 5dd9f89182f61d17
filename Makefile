# SPDX-License-Identifier: GPL-2.0
#
#   make demo     the main job, on Debian's own kernel, booted in QEMU; BUILTIN=1 on one
#                 that has the shim built in
#   make check    all tests; TEST=name for one, DEBUG=1 for the debug kernel,
#                 SERIES=7.2 or 6.12 for that kernel series
#   make fuzz     random operations for SECONDS, or OPERATIONS of them, from SEED; see
#                 tests/README.md
#   make bench    measured against peers, takes long; see bench/README.md
#   make check-vmm  Debian's QEMU, its guests on gmemfd: what takes long, too
#   make contrib-qemu   QEMU with a backend for gmemfd, built and tested; see contrib/qemu
#   make kcsan    all that runs side by side, watched for data races
#   make check-distro   packages in a booted Debian 13; make check-distro-full
#   make module   the module for KDIR, by default the running kernel
#   make gmemctl  the tool; gmemctl_install puts it and the manual pages under
#                 DESTDIR and PREFIX
#   make kernel-deb     Debian packages of a kernel with the shim: SERIES, FLAVOUR
#                       (cloud, full or lab), REVISION; see scripts/kernel-deb
#   make deb      the Debian packages gmemfd-dkms and gmemctl
#   make dkms-install   the same without a package; make dkms-remove

KDIR ?= /lib/modules/$(shell uname -r)/build
# Where the module's objects go.
BUILD ?= $(CURDIR)/build

PREFIX ?= /usr/local
CFLAGS ?= -O2 -g -Wall -Wextra

GMEMFD_VERSION := $(shell cat VERSION)
SOURCES = VERSION Kbuild Makefile $(wildcard gmemfd/*.[ch] gmemfd/uapi/*.h \
	shim/include/linux/*.h shim/mm/*.[ch] shim/x86/*.[ch] shim/kvm/*.[ch] \
	shim/runtime/*.[ch] shim/runtime/symbols shim/runtime/callers/* \
	shim/runtime/private/*.h shim/runtime/private/*/*.h)
TOOLS = shim/runtime/inspect shim/runtime/relocate shim/runtime/pre-build

.PHONY: inspect module modules_install gmemctl gmemctl_install demo check check-vmm contrib-qemu fuzz bench kcsan clean
.PHONY: check-distro check-distro-full kernel-deb deb install-source dkms-install dkms-remove

# The sources are linked into where the objects go: Kbuild does not take the two
# apart before 6.13.  Where the kernel has no shim, shim/runtime builds it from IMAGE and
# what is in MODULES, which need not be the running kernel's.
RELEASE = $(shell cat $(KDIR)/include/config/kernel.release)
MODULES ?= /lib/modules/$(RELEASE)
IMAGE ?= $(firstword $(wildcard $(MODULES)/vmlinuz /boot/vmlinuz-$(RELEASE)))
BUILTIN := $(shell grep -sx CONFIG_GMEM_SHIM=y $(KDIR)/include/config/auto.conf)

FROM_KERNEL = $(BUILD)/shim/runtime/private/generated
EXTRA_SYMBOLS = $(if $(BUILTIN),,KBUILD_EXTRA_SYMBOLS=$(abspath $(FROM_KERNEL))/symvers)

module: inspect
	@cp -rs --remove-destination $(addprefix $(CURDIR)/,Kbuild VERSION gmemfd shim) $(BUILD)/
	@$(if $(GMEMFD_TESTS),mkdir -p $(BUILD)/tests && \
		cp -rs --remove-destination $(CURDIR)/tests/kernel $(BUILD)/tests/)
	$(MAKE) -C $(KDIR) M=$(abspath $(BUILD)) $(EXTRA_SYMBOLS) modules
	$(if $(BUILTIN),,strip -g $(BUILD)/gmemfd_shim.ko && \
		shim/runtime/relocate $(FROM_KERNEL)/symvers $(BUILD)/gmemfd_shim.ko)

# Is this a kernel that the shim as a module is for?
inspect:
	@mkdir -p $(BUILD)
	$(if $(BUILTIN),,shim/runtime/inspect --headers $(KDIR) --image "$(IMAGE)" \
		--modules $(MODULES) $(FROM_KERNEL))

modules_install: module
	$(MAKE) -C $(KDIR) M=$(abspath $(BUILD)) modules_install

gmemctl: $(BUILD)/gmemctl
$(BUILD)/gmemctl: $(wildcard tools/gmemctl/*.[ch]) gmemfd/uapi/gmemfd.h VERSION
	@mkdir -p $(BUILD)
	$(CC) $(CPPFLAGS) $(CFLAGS) -DGMEMCTL_VERSION='"$(shell cat VERSION)"' \
		$(LDFLAGS) -o $@ $(filter %.c,$^) -lkmod -ljson-c

gmemctl_install: gmemctl
	install -D -m 755 $(BUILD)/gmemctl $(DESTDIR)$(PREFIX)/sbin/gmemctl
	install -D -m 644 tools/gmemctl/gmemctl.8 $(DESTDIR)$(PREFIX)/share/man/man8/gmemctl.8
	install -D -m 644 docs/gmemfd.4 $(DESTDIR)$(PREFIX)/share/man/man4/gmemfd.4
	install -D -m 644 tools/gmemctl/gmemctl.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/gmemctl

check-distro:
	@scripts/check-distro

check-distro-full:
	@scripts/check-distro --full

kernel-deb:
	@scripts/kernel-deb $(if $(SERIES),--series $(SERIES)) \
		$(if $(FLAVOUR),--flavour $(FLAVOUR)) $(if $(REVISION),--revision $(REVISION))

deb:
	@scripts/deb

# What DKMS builds from, and who may use the device.
install-source:
	for f in $(SOURCES) $(TOOLS); do \
		install -D -m 644 $$f $(DESTDIR)/usr/src/gmemfd-$(GMEMFD_VERSION)/$$f || exit; \
	done
	chmod 755 $(addprefix $(DESTDIR)/usr/src/gmemfd-$(GMEMFD_VERSION)/,$(TOOLS))
	sed 's/#MODULE_VERSION#/$(GMEMFD_VERSION)/' dkms.conf > $(DESTDIR)/usr/src/gmemfd-$(GMEMFD_VERSION)/dkms.conf
	install -D -m 644 dist/60-gmemfd.rules $(DESTDIR)/usr/lib/udev/rules.d/60-gmemfd.rules
	install -D -m 644 dist/gmemfd.conf $(DESTDIR)/usr/lib/sysusers.d/gmemfd.conf

dkms-install: dkms-remove
	$(MAKE) install-source
	systemd-sysusers gmemfd.conf
	udevadm control --reload || :
	dkms add gmemfd/$(GMEMFD_VERSION)
	for k in $(wildcard /lib/modules/*/build/include); do \
		k=$${k#/lib/modules/}; \
		dkms install gmemfd/$(GMEMFD_VERSION) -k $${k%%/*} || [ $$? = 77 ] || exit 1; \
	done

# Of whatever version.
dkms-remove:
	@! dpkg -s gmemfd-dkms > /dev/null 2>&1 || \
		{ echo "The package gmemfd-dkms is installed: apt remove gmemfd-dkms" >&2; exit 1; }
	for v in $$(dkms status gmemfd | sed 's/[,:].*//' | sort -u); do \
		dkms remove $$v --all || exit; \
	done
	rm -rf /usr/src/gmemfd-[0-9]*
	rm -f /usr/lib/udev/rules.d/60-gmemfd.rules /usr/lib/sysusers.d/gmemfd.conf

demo:
	@scripts/demo

check:
	@scripts/check $(if $(SERIES),$(if $(TEST),--kernel,--older) $(SERIES)) \
		$(if $(DEBUG),--debug) $(TEST)

fuzz: fuzz_seconds = $(if $(OPERATIONS),36000,$(if $(ROUNDS),3600,60))
fuzz:
	@scripts/fuzz $(if $(TYPED),--typed) $(if $(DEBUG),--debug) $(or $(SECONDS),$(fuzz_seconds)) \
		$(if $(OPERATIONS),--operations $(OPERATIONS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(THREADS),--threads $(THREADS)) $(if $(THREAD),--thread $(THREAD)) \
		$(if $(WITHOUT),--without $(WITHOUT))

bench:
	@scripts/bench --out bench
	@python3 tests/bench/report.py --readme README.md bench

kcsan:
	@scripts/check --kcsan

check-vmm:
	@scripts/check --vmm

contrib-qemu:
	@scripts/qemu $(TEST)

clean:
	rm -rf $(BUILD)

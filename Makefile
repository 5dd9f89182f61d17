# SPDX-License-Identifier: GPL-2.0
#
#   make demo     the main job, booted in QEMU
#   make check    all tests; TEST=name for one, DEBUG=1 for the debug kernel
#   make fuzz     random operations for SECONDS, from SEED; see tests/README.md
#   make kcsan    all that runs side by side, watched for data races
#   make module   the module for KDIR, by default the running kernel
#   make gmemctl  the tool; gmemctl_install puts it under DESTDIR and PREFIX

KDIR ?= /lib/modules/$(shell uname -r)/build
# Where the module's objects go.
BUILD ?= $(CURDIR)/build

PREFIX ?= /usr/local
CFLAGS ?= -O2 -g -Wall -Wextra

.PHONY: module modules_install gmemctl gmemctl_install demo check fuzz kcsan clean
# The sources are linked into where the objects go: Kbuild does not take the two
# apart before 6.13.
module:
	@mkdir -p $(BUILD)
	@cp -rs --remove-destination $(addprefix $(CURDIR)/,Kbuild VERSION gmemfd) $(BUILD)/
	@$(if $(GMEMFD_TESTS),mkdir -p $(BUILD)/tests && \
		cp -rs --remove-destination $(CURDIR)/tests/kernel $(BUILD)/tests/)
	$(MAKE) -C $(KDIR) M=$(abspath $(BUILD)) modules

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
	install -D -m 644 tools/gmemctl/gmemctl.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/gmemctl

demo:
	@scripts/demo

check:
	@scripts/check $(if $(DEBUG),--debug) $(TEST)

fuzz:
	@scripts/fuzz $(if $(DEBUG),--debug) $(or $(SECONDS),$(if $(ROUNDS),3600,60)) \
		$(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(THREADS),--threads $(THREADS)) $(if $(THREAD),--thread $(THREAD))

kcsan:
	@scripts/check --kcsan

clean:
	rm -rf $(BUILD)

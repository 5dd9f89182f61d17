# SPDX-License-Identifier: GPL-2.0
#
#   make demo     the main job, booted in QEMU
#   make check    all tests; TEST=name for one, DEBUG=1 for the debug kernel
#   make fuzz     random operations for SECONDS, from SEED; see tests/README.md
#   make kcsan    all that runs side by side, watched for data races
#   make module   the module for KDIR, by default the running kernel

KDIR ?= /lib/modules/$(shell uname -r)/build
# Where the module's objects go.
BUILD ?= $(CURDIR)/build

.PHONY: module modules_install demo check fuzz kcsan clean
module:
	@mkdir -p $(BUILD)
	$(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(BUILD) modules

modules_install: module
	$(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(BUILD) modules_install

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

# SPDX-License-Identifier: GPL-2.0
KDIR ?= /lib/modules/$(shell uname -r)/build
# Where the module's objects go.
BUILD ?= $(CURDIR)/build

.PHONY: module
module:
	@mkdir -p $(BUILD)
	$(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(BUILD) modules

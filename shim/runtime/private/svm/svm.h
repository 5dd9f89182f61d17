/* SPDX-License-Identifier: GPL-2.0 */
/* What the shim uses of arch/x86/kvm/svm/svm.h, for a kernel that is built. */
#ifndef __GMEM_PRIVATE_SVM_H
#define __GMEM_PRIVATE_SVM_H

#include <linux/kvm_host.h>

#include "kvm_amd.h"

struct kvm_svm {
	char others[GMEM_SEV_ACTIVE];
	struct {
		bool active;
	} sev_info;
};

static inline struct kvm_svm *to_kvm_svm(struct kvm *kvm)
{
	return (struct kvm_svm *)kvm;
}

#endif /* __GMEM_PRIVATE_SVM_H */

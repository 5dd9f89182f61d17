/* SPDX-License-Identifier: GPL-2.0 */
/* What the shim uses of mm/hugetlb_internal.h, for a kernel that is built. */
#ifndef __GMEM_PRIVATE_HUGETLB_INTERNAL_H
#define __GMEM_PRIVATE_HUGETLB_INTERNAL_H

#include <linux/hugetlb.h>

void init_new_hugetlb_folio(struct folio *folio);

#endif /* __GMEM_PRIVATE_HUGETLB_INTERNAL_H */

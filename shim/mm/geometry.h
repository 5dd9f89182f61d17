/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Folio geometry, inside the shim.
 */
#ifndef __MM_GMEM_GEOMETRY_H
#define __MM_GMEM_GEOMETRY_H

#include <linux/mm.h>

unsigned long gmem_nr_first_pages(unsigned int order);
void gmem_reset_page(struct page *page);
void gmem_reset_folio(struct page *page, unsigned int order);
void gmem_cut(struct page *page, unsigned int from, unsigned int order);

#endif /* __MM_GMEM_GEOMETRY_H */

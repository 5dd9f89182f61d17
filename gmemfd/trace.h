/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints, which docs/interface.md describes.  In all of them:
 *
 *   file             the number of the file's inode, as fstat() tells it
 *   offset, size     bytes, counted in the file
 *   result           0 or a negative errno
 *
 * An event that is off costs a nop.  So callers pass what they have at hand, and what has
 * to be looked up is looked up in TP_fast_assign(), which runs if the event is on.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM gmemfd

#if !defined(_GMEMFD_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _GMEMFD_TRACE_H

#include <linux/tracepoint.h>

#include "gmemfd.h"

#ifndef GMEM_TRACE_MIXED
/* What pages are, beside GMEMFD_ATTRIBUTE_*, and 0 for shared. */
#define GMEM_TRACE_MIXED	0x1	/* of several kinds */
#define GMEM_TRACE_UNKNOWN	0x2	/* nobody has looked */
#endif

#define gmem_trace_show_state(state)					\
	__print_symbolic(state, { 0x0, "shared" }, { 0x1, "mixed" },	\
			 { 0x2, "unknown" }, { 0x8, "private" },	\
			 { 0x10, "secret" })

/*
 * A range is converted, or a conversion has failed: of a call with several ranges each has
 * an event.  @busy is the page that somebody held, ULONG_MAX if nobody did.
 */
TRACE_EVENT(gmem_convert,
	TP_PROTO(const struct gmemfd_inode *fi, const struct gmemfd_convert_range *range,
		 unsigned int from, pgoff_t busy, int result),
	TP_ARGS(fi, range, from, busy, result),

	TP_STRUCT__entry(
		__field(u64,		file)
		__field(u64,		offset)
		__field(u64,		size)
		__field(unsigned int,	from)
		__field(unsigned int,	to)
		__field(int,		result)
		__field(s64,		busy)
	),

	TP_fast_assign(
		__entry->file	= fi->inode->i_ino;
		__entry->offset	= range->offset;
		__entry->size	= range->size;
		__entry->from	= from;
		__entry->to	= range->attributes;
		__entry->result	= result;
		__entry->busy	= busy == ULONG_MAX ? -1 : (s64)busy << PAGE_SHIFT;
	),

	TP_printk("file %llu offset 0x%llx size 0x%llx from %s to %s result %d busy %s%llx",
		  __entry->file, __entry->offset, __entry->size,
		  gmem_trace_show_state(__entry->from), gmem_trace_show_state(__entry->to),
		  __entry->result, __entry->busy < 0 ? "-" : "0x",
		  __entry->busy < 0 ? 1 : __entry->busy)
);

/* Somebody has touched a page that he had not mapped.  @order is that of what is mapped now. */
TRACE_EVENT(gmem_fault,
	TP_PROTO(const struct vm_fault *vmf, unsigned int state, unsigned int order, int result),
	TP_ARGS(vmf, state, order, result),

	TP_STRUCT__entry(
		__field(u64,		file)
		__field(u64,		offset)
		__field(unsigned int,	state)
		__field(unsigned int,	order)
		__field(int,		result)
	),

	TP_fast_assign(
		__entry->file	= file_inode(vmf->vma->vm_file)->i_ino;
		__entry->offset	= (u64)vmf->pgoff << PAGE_SHIFT;
		__entry->state	= state;
		__entry->order	= order;
		__entry->result	= result;
	),

	TP_printk("file %llu offset 0x%llx state %s order %u result %d",
		  __entry->file, __entry->offset, gmem_trace_show_state(__entry->state),
		  __entry->order, __entry->result)
);

/* KVM has looked a page up: for its guest, or because KVM itself accesses the page. */
TRACE_EVENT(gmem_guest_fault,
	TP_PROTO(const struct gmemfd_inode *fi, pgoff_t index, bool guest, u64 pfn,
		 unsigned int order, int result),
	TP_ARGS(fi, index, guest, pfn, order, result),

	TP_STRUCT__entry(
		__field(u64,		file)
		__field(u64,		offset)
		__field(bool,		guest)
		__field(u64,		pfn)
		__field(unsigned int,	order)
		__field(int,		result)
	),

	TP_fast_assign(
		__entry->file	= fi->inode->i_ino;
		__entry->offset	= (u64)index << PAGE_SHIFT;
		__entry->guest	= guest;
		__entry->pfn	= pfn;
		__entry->order	= order;
		__entry->result	= result;
	),

	TP_printk("file %llu offset 0x%llx by %s pfn 0x%llx order %u result %d",
		  __entry->file, __entry->offset, __entry->guest ? "guest" : "kvm",
		  __entry->pfn, __entry->order, __entry->result)
);

/* A guest that tells private from shared pages loses some, until the conversion is done. */
TRACE_EVENT(gmem_guest_convert,
	TP_PROTO(const struct gmemfd_inode *fi, pgoff_t first, pgoff_t last, bool private),
	TP_ARGS(fi, first, last, private),

	TP_STRUCT__entry(
		__field(u64,		file)
		__field(u64,		offset)
		__field(u64,		size)
		__field(bool,		private)
	),

	TP_fast_assign(
		__entry->file	= fi->inode->i_ino;
		__entry->offset	= (u64)first << PAGE_SHIFT;
		__entry->size	= (u64)(last - first) << PAGE_SHIFT;
		__entry->private = private;
	),

	TP_printk("file %llu offset 0x%llx size 0x%llx to %s", __entry->file,
		  __entry->offset, __entry->size, __entry->private ? "private" : "shared")
);

/* The life of a block's memory.  It may have left its file, so nothing here looks at that. */
DECLARE_EVENT_CLASS(gmem_block,
	TP_PROTO(const struct gmem_memory *memory),
	TP_ARGS(memory),

	TP_STRUCT__entry(
		__field(u64,		file)
		__field(u64,		block)
		__field(u64,		pfn)
		__field(unsigned int,	order)
	),

	TP_fast_assign(
		__entry->file	= memory->ino;
		__entry->block	= memory->index >> memory->loan.order;
		__entry->pfn	= page_to_pfn(memory->loan.page);
		__entry->order	= memory->loan.order;
	),

	TP_printk("file %llu block %llu pfn 0x%llx order %u",
		  __entry->file, __entry->block, __entry->pfn, __entry->order)
);

DEFINE_EVENT(gmem_block, gmem_block_take,
	TP_PROTO(const struct gmem_memory *memory),
	TP_ARGS(memory)
);

DEFINE_EVENT(gmem_block, gmem_block_break,
	TP_PROTO(const struct gmem_memory *memory),
	TP_ARGS(memory)
);

DEFINE_EVENT(gmem_block, gmem_block_mend,
	TP_PROTO(const struct gmem_memory *memory),
	TP_ARGS(memory)
);

DEFINE_EVENT(gmem_block, gmem_block_return,
	TP_PROTO(const struct gmem_memory *memory),
	TP_ARGS(memory)
);

/*
 * A folio leaves its file and somebody holds it, or the last such reference has been
 * dropped.  The latter happens in any context.  All that is read here belongs to home.c
 * until its worker has the folio, and does not change meanwhile.
 */
DECLARE_EVENT_CLASS(gmem_folio,
	TP_PROTO(struct folio *folio),
	TP_ARGS(folio),

	TP_STRUCT__entry(
		__field(u64,		file)
		__field(u64,		offset)
		__field(u64,		pfn)
		__field(unsigned int,	order)
	),

	TP_fast_assign(
		const struct gmem_memory *memory = folio->private;

		__entry->file	= memory->ino;
		__entry->pfn	= folio_pfn(folio);
		__entry->offset	= (memory->index + __entry->pfn -
				   page_to_pfn(memory->loan.page)) << PAGE_SHIFT;
		__entry->order	= folio_order(folio);
	),

	TP_printk("file %llu offset 0x%llx pfn 0x%llx order %u",
		  __entry->file, __entry->offset, __entry->pfn, __entry->order)
);

DEFINE_EVENT(gmem_folio, gmem_folio_away,
	TP_PROTO(struct folio *folio),
	TP_ARGS(folio)
);

DEFINE_EVENT(gmem_folio, gmem_folio_home,
	TP_PROTO(struct folio *folio),
	TP_ARGS(folio)
);

/* A memslot on a file.  What is in KVM's structures is KVM's: a slot is known by its address. */
DECLARE_EVENT_CLASS(gmem_slot,
	TP_PROTO(const struct gmemfd_inode *fi, const struct gmem_slot *slot),
	TP_ARGS(fi, slot),

	TP_STRUCT__entry(
		__field(u64,		file)
		__field(const void *,	kvm)
		__field(const void *,	slot)
		__field(u64,		offset)
		__field(u64,		size)
	),

	TP_fast_assign(
		__entry->file	= fi->inode->i_ino;
		__entry->kvm	= slot->kvm;
		__entry->slot	= slot->slot;
		__entry->offset	= (u64)slot->first << PAGE_SHIFT;
		__entry->size	= (u64)slot->nr << PAGE_SHIFT;
	),

	TP_printk("file %llu kvm %p slot %p offset 0x%llx size 0x%llx",
		  __entry->file, __entry->kvm, __entry->slot, __entry->offset, __entry->size)
);

DEFINE_EVENT(gmem_slot, gmem_slot_bind,
	TP_PROTO(const struct gmemfd_inode *fi, const struct gmem_slot *slot),
	TP_ARGS(fi, slot)
);

DEFINE_EVENT(gmem_slot, gmem_slot_unbind,
	TP_PROTO(const struct gmemfd_inode *fi, const struct gmem_slot *slot),
	TP_ARGS(fi, slot)
);

#endif /* _GMEMFD_TRACE_H */

/* Kbuild has the compiler look into gmemfd/ for what is not in the kernel's tree. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>

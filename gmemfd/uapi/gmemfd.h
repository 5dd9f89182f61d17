/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * gmemfd: guest memory whose pages convert between private, secret and shared.
 *
 * open("/dev/gmemfd") gives a device fd; GMEMFD_CREATE on it gives a gmem fd,
 * which is the memory.  On a gmem fd:
 *
 *   mmap       takes MAP_SHARED; MAP_PRIVATE is EINVAL.  Touching a private page
 *              is SIGBUS; secret and shared pages can be touched.  Touching a page
 *              with a memory error is SIGBUS with BUS_MCEERR_AR.  mbind() sets
 *              the policy of the file, not of the mapping.
 *   fallocate  FALLOC_FL_KEEP_SIZE allocates the memory behind a range, zeroed.
 *              With FALLOC_FL_PUNCH_HOLE, whole blocks in the range are given
 *              back.  A part of a block is zeroed; the block is given back
 *              once every page of it has been punched and not touched since.
 *              The state of pages stays.  Both take offsets and
 *              lengths in bytes, multiples of 4096.  There is nothing to punch
 *              past the end of the file, and that is no error.
 *              Only fatal signals end the call early; what was done before
 *              stays.
 *                EINVAL      the range is unaligned or empty, or allocation
 *                            goes past the end
 *                EFBIG       offset + length is beyond 2^63 - 1
 *                EOPNOTSUPP  the mode is another one, or lacks
 *                            FALLOC_FL_KEEP_SIZE
 *                ENOSPC      a cgroup limit or a memory policy is in the way,
 *                            or somebody still references pages of the block
 *                            that were punched here
 *                EHWPOISON   a memory error makes the block unusable
 *                ENOMEM      there is no memory for bookkeeping; what was done
 *                            before stays, and where it happened no contents
 *                            or states have changed
 *   lseek      SEEK_END tells the size.  SEEK_DATA and SEEK_HOLE take all of the
 *              file for data; GMEMFD_GET_RANGES knows better.
 *   fsync      and msync succeed: there is nothing to write back.
 *   ioctl      takes the GMEMFD_* calls below that are marked "gmem fd".
 *   KVM        KVM_SET_USER_MEMORY_REGION2 with KVM_MEM_GUEST_MEMFD takes a
 *              gmem fd for guest_memfd, for VMs of the default type.  The guest
 *              may access private, secret and shared pages alike, and conversions
 *              do not concern it.  Punching and the last close take pages from
 *              it.  KVM itself reaches guest memory by userspace_addr, where
 *              the file should be mapped: it reaches no private pages.
 *                EINVAL      the range is beyond the file, or it is what KVM
 *                            refuses for its own guest_memfd: dirty logging,
 *                            read-only slots, changes of a slot
 *                EEXIST      part of the range is in another memslot
 *                EBUSY       another VM has memslots on the file
 *                EACCES      the file is not open for reading and writing
 *                EOPNOTSUPP  the VM is of another type
 *              A slot that names no file, by either KVM_SET_USER_MEMORY_REGION,
 *              is bound, too, if the file has GMEMFD_CREATE_BIND_MAPPED, and all of
 *              the slot lies in one mapping of it, which can be written to unless
 *              the slot is for reading only.  Otherwise KVM takes it as
 *              memory like any other, and the guest has what user space has.  What is
 *              mapped at the time counts: unmapping it afterwards, or mapping
 *              something else there, does not change what the guest finds, as long as
 *              the mapping, or an fd by which it was made, is left.  Such a slot can
 *              be for reading only, move, and log what the guest writes.
 *              Several slots and VMs can have the same range.
 *                EOPNOTSUPP  the slot logs what the guest writes, and has private
 *                            pages
 *              A guest's access that cannot be served ends KVM_RUN with
 *              KVM_EXIT_MEMORY_FAULT and
 *                ENOSPC      as for fallocate
 *                EHWPOISON   a memory error has hit the page
 *                EFAULT      the file is closed
 *                ENOMEM      there is no memory for bookkeeping; the guest can
 *                            go on
 *
 *   open       of /proc/PID/fd/N gives one more fd.  ENXIO if only an O_PATH fd is left:
 *              the memory has gone.
 *
 * Everything else is refused: read, write, splice, truncate and fchmod with
 * EINVAL, pread and pwrite with ESPIPE.
 * All calls: ENOTTY for an ioctl the fd does not know, EFAULT for a bad
 * pointer, EINVAL for an unknown flag or a reserved field that is not zero.
 * Calls that change something: EBADF if the fd is not open for writing.
 *
 * Files can have names, too, in a file system of type gmemfd; see gmemfd(4).
 * Their pages start in the state that the mount names.  What is said above
 * goes for them, but for
 *   ftruncate  gives a new file its size, once, and reserves its memory
 *                EINVAL      the size is no multiple of the block size
 *                EPERM       the file has another size already
 *                ENOSPC      the mount's size, or a cgroup's limit, is exceeded
 *                ENOMEM      the pool does not have as much
 *   chmod, chown, link, rename and unlink, which are as on tmpfs.  The memory
 *              goes when the last name and the last open file are gone.
 */
#ifndef _UAPI_GMEMFD_H
#define _UAPI_GMEMFD_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define GMEMFD_IOC		0xb9

/* The page is the guest's alone.  The value is the same as upstream KVM's. */
#define GMEMFD_ATTRIBUTE_PRIVATE	0x8ULL
/*
 * The page is the guest's and that of who maps the file, but not the kernel's: it is
 * out of the direct map, and nobody can hold a reference to it.  Loads, stores and system
 * calls that copy reach it.  Calls that need a reference do not (O_DIRECT, vmsplice,
 * fixed io_uring buffers, VFIO): they fail with EFAULT, or with EEXIST where
 * gmemfd_info.max_secret_entry is 4096.  To ptrace and process_vm_readv it is memory that
 * is not there.  Only in files that were made with GMEMFD_CREATE_SECRET.
 */
#define GMEMFD_ATTRIBUTE_SECRET		0x10ULL

/**
 * struct gmemfd_info - GMEMFD_GET_INFO (device fd)
 * @abi: out: version of this interface, GMEMFD_ABI
 * @shim_abi: out: version of the kernel's side, GMEM_SHIM_ABI
 * @create_flags: out: the flags GMEMFD_CREATE takes
 * @attributes: out: the attributes GMEMFD_CONVERT takes
 * @block_sizes: out: sum of the block sizes this machine has, in bytes
 * @max_secret_entry: out: how much of secret pages one entry of user page tables maps at
 *	most, in bytes; 0 on a kernel without secret pages
 * @reserved: zero
 */
struct gmemfd_info {
	__u32 abi;
	__u32 shim_abi;
	__u64 create_flags;
	__u64 attributes;
	__u64 block_sizes;
	__u64 max_secret_entry;
	__u64 reserved[3];
};

#define GMEMFD_ABI		2
#define GMEMFD_GET_INFO		_IOWR(GMEMFD_IOC, 0x00, struct gmemfd_info)

/* All pages start shared.  Without this flag they start private. */
#define GMEMFD_CREATE_INIT_SHARED	0x1ULL
/* Private pages stay in the kernel's direct map, which is cheaper and less private. */
#define GMEMFD_CREATE_KEEP_DIRECT_MAP	0x2ULL
/*
 * Shared pages are folios of 4 KiB, never of 2 MiB.  A reference to one of them
 * holds back no other page, and the host's page tables are larger.
 */
#define GMEMFD_CREATE_SMALL_SHARED	0x4ULL
/* Memory comes from gmemfd_create.node as long as that node has any. */
#define GMEMFD_CREATE_NODE		0x8ULL
/*
 * Pages can be secret, and start secret unless GMEMFD_CREATE_INIT_SHARED says otherwise.
 * Not with GMEMFD_CREATE_KEEP_DIRECT_MAP.
 */
#define GMEMFD_CREATE_SECRET		0x10ULL
/*
 * KVM memslots whose userspace_addr is a mapping of the file are bound to it, as if they
 * named it: see "KVM" above.  Files that have names always have this flag.
 */
#define GMEMFD_CREATE_BIND_MAPPED	0x20ULL

/**
 * struct gmemfd_create - GMEMFD_CREATE (device fd): make a gmem fd
 * @size: in: bytes, a multiple of @block_size, not 0
 * @block_size: in: bytes, 2 MiB or 1 GiB, from gmemfd_info.block_sizes
 * @flags: in: GMEMFD_CREATE_*
 * @node: in: with GMEMFD_CREATE_NODE, a NUMA node that has memory; otherwise zero
 * @reserved0: zero
 * @reserved: zero
 *
 * Returns the fd, which has close-on-exec set.  The whole size is reserved in
 * the hugetlb pool of @block_size, so that no later fault finds it empty.
 *
 * A block gets its memory when it is first touched.  A policy that was set with
 * mbind() on a mapping of the offset says where from.  Without one, @node does.
 * Without both, the policy of the task that touches the block does.
 *
 * EINVAL  size, block_size or node is not as said above
 * ENOMEM  the pool cannot reserve that much; or the limit of the caller's hugetlb
 *	cgroup forbids it (the cgroup is charged for the reservation until the
 *	last close); or there is no memory for bookkeeping
 * EMFILE, ENFILE  no fd is left
 */
struct gmemfd_create {
	__u64 size;
	__u64 block_size;
	__u64 flags;
	__u32 node;
	__u32 reserved0;
	__u64 reserved[4];
};

#define GMEMFD_CREATE		_IOW(GMEMFD_IOC, 0x01, struct gmemfd_create)

/*
 * To private: the call sleeps until nobody holds references, and does not fail
 * with EAGAIN.  Nothing changes while it sleeps, and others can use and convert
 * everything.  Now and then it holds off new references for a millisecond or two.
 */
#define GMEMFD_CONVERT_WAIT	0x1ULL

/**
 * struct gmemfd_convert - GMEMFD_CONVERT (gmem fd): set the state of a range
 * @offset: in: bytes, a multiple of 4096
 * @size: in: bytes, a multiple of 4096, not 0
 * @attributes: in: GMEMFD_ATTRIBUTE_PRIVATE for private, GMEMFD_ATTRIBUTE_SECRET for
 *	secret, 0 for shared
 * @flags: in: 0 or GMEMFD_CONVERT_WAIT
 * @error_offset: out, with EAGAIN, and with ETIMEDOUT and EINTR after waiting:
 *	the first offset in the range whose folio is referenced by somebody
 *	(pinned, in a pipe, under I/O)
 * @timeout: in: with GMEMFD_CONVERT_WAIT: nanoseconds to wait at most, 2^63
 *	or more for as long as it takes; otherwise zero.  out, with EINTR after
 *	waiting: what is left of it.  A task may be stopped, looked at by a
 *	debugger, or frozen while it waits.  The call goes on afterwards, and
 *	both @timeout and @error_offset have been written then, whatever the
 *	result is
 * @reserved: zero
 *
 * Contents stay, in the same physical pages.  The call converts the whole range,
 * or it changes nothing.  A conversion to shared never fails because of
 * references.  The layout is that of struct kvm_memory_attributes2 of the proposed
 * in-place conversion for KVM's guest_memfd (series v8, June 2026); see
 * GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2.
 *
 * EINVAL  the range is unaligned, empty, overflowing or past the end, or the
 *	attribute is unknown, or is secret in a file without secret pages, or there
 *	are two
 * EAGAIN  from shared to private or secret, and a page is referenced: see @error_offset
 * ETIMEDOUT  with GMEMFD_CONVERT_WAIT, a page was still referenced when time was up
 * EINTR   with GMEMFD_CONVERT_WAIT, a signal handler ran, with SA_RESTART or without
 * ENOMEM  there is no memory for bookkeeping
 * EHWPOISON  to shared, and a memory error makes a block unusable
 */
struct gmemfd_convert {
	__u64 offset;
	__u64 size;
	__u64 attributes;
	__u64 flags;
	__u64 error_offset;
	__u64 timeout;
	__u64 reserved[10];
};

#define GMEMFD_CONVERT		_IOWR(GMEMFD_IOC, 0x02, struct gmemfd_convert)

/*
 * GMEMFD_CONVERT by upstream's ioctl number, for VMMs that were written for the
 * proposed in-place conversion.  It takes the flags of upstream's postings of spring
 * 2026.  It takes none of gmemfd's own flags, which have the same bits: it does not
 * wait, and @timeout is zero.  Contents are always preserved, whether or not the flag
 * asks for it.
 *
 * Upstream, a reference holds back its 4 KiB page and no other.  Here this is so if
 * the file was made with GMEMFD_CREATE_SMALL_SHARED; otherwise a reference holds back
 * its folio, which may be 2 MiB.
 *
 * Upstream knows two states.  In a file that was made with GMEMFD_CREATE_SECRET, pages
 * that shall not be private become secret.
 *
 * EOPNOTSUPP  the flag is GMEMFD_KVM_ATTRIBUTES2_ZERO
 * EINVAL      both flags are set, or another one is
 */
#define GMEMFD_KVM_SET_MEMORY_ATTRIBUTES2 \
				_IOWR(0xAE, 0xd2, struct gmemfd_convert)
#define GMEMFD_KVM_ATTRIBUTES2_ZERO	0x1ULL
#define GMEMFD_KVM_ATTRIBUTES2_PRESERVE	0x2ULL

/**
 * struct gmemfd_convert_range - one range of GMEMFD_CONVERT_RANGES
 * @offset: bytes, a multiple of 4096
 * @size: bytes, a multiple of 4096, not 0
 * @attributes: as in struct gmemfd_convert
 */
struct gmemfd_convert_range {
	__u64 offset;
	__u64 size;
	__u64 attributes;
};

#define GMEMFD_CONVERT_RANGES_MAX	65536

/**
 * struct gmemfd_convert_ranges - GMEMFD_CONVERT_RANGES (gmem fd): set the
 *	states of many ranges, all or none
 * @ranges: in: pointer to @nr_ranges of struct gmemfd_convert_range.  They do not
 *	overlap, may be in any order, and may mix private, secret and shared
 * @nr_ranges: in: 1 to GMEMFD_CONVERT_RANGES_MAX
 * @reserved0: zero
 * @flags: as in struct gmemfd_convert
 * @error_offset: as in struct gmemfd_convert: the lowest one in all ranges
 * @timeout: as in struct gmemfd_convert
 * @reserved: zero
 *
 * The call flushes TLBs once.  Errors are those of GMEMFD_CONVERT, and
 * EINVAL  ranges overlap, or there are none or too many
 */
struct gmemfd_convert_ranges {
	__u64 ranges;
	__u32 nr_ranges;
	__u32 reserved0;
	__u64 flags;
	__u64 error_offset;
	__u64 timeout;
	__u64 reserved[3];
};

#define GMEMFD_CONVERT_RANGES	_IOWR(GMEMFD_IOC, 0x04, struct gmemfd_convert_ranges)

/**
 * struct gmemfd_range - pages of one kind
 * @offset: bytes
 * @size: bytes
 * @flags: GMEMFD_RANGE_*
 * @folio_order: log2 of the folios' size in 4 KiB pages; 0 for a hole
 */
struct gmemfd_range {
	__u64 offset;
	__u64 size;
	__u32 flags;
	__u32 folio_order;
};

#define GMEMFD_RANGE_PRIVATE	0x1
#define GMEMFD_RANGE_ALLOCATED	0x2	/* without it: a hole */
#define GMEMFD_RANGE_ZEROED	0x4	/* without it: zeroed before first use */
#define GMEMFD_RANGE_SECRET	0x8	/* without both: shared */

/**
 * struct gmemfd_get_ranges - GMEMFD_GET_RANGES (gmem fd): what is where
 * @offset: in: where to start, bytes, a multiple of 4096; out: where to go on, or
 *	@end if all ranges have been told
 * @end: in: where to stop, bytes, a multiple of 4096, at most the file's size
 * @ranges: in: pointer to room for @nr_ranges of struct gmemfd_range
 * @nr_ranges: in: how many there is room for, not 0; out: how many were filled in
 * @flags: zero
 * @reserved: zero
 *
 * Each range is as it was at one moment.  Conversions may come between ranges.
 *
 * EINVAL  @offset or @end is unaligned, @offset >= @end, @end is past the end, or
 *	there is no room
 */
struct gmemfd_get_ranges {
	__u64 offset;
	__u64 end;
	__u64 ranges;
	__u32 nr_ranges;
	__u32 flags;
	__u64 reserved[4];
};

#define GMEMFD_GET_RANGES	_IOWR(GMEMFD_IOC, 0x03, struct gmemfd_get_ranges)

#define GMEMFD_OPEN_MAP_READ_ONLY	0x1U

/**
 * struct gmemfd_open_map - GMEMFD_OPEN_MAP (gmem fd): an fd for mmap() alone
 * @flags: GMEMFD_OPEN_MAP_*: mappings are for reading only
 * @reserved: zero
 *
 * Returns an fd that maps what is not private and can do nothing else: it converts,
 * allocates and punches nothing, no memslot takes it, and /proc does not open it again.
 * It is for a process that works for the VMM, as a vhost-user backend.  Offsets are those
 * of the file.  The fd and its mappings keep the file's memory, as other open files do.
 *
 * EBADF   the fd is not open for writing, and GMEMFD_OPEN_MAP_READ_ONLY is not set
 * EMFILE, ENFILE, ENOMEM
 */
struct gmemfd_open_map {
	__u32 flags;
	__u32 reserved[3];
};

#define GMEMFD_OPEN_MAP		_IOW(GMEMFD_IOC, 0x05, struct gmemfd_open_map)

#endif /* _UAPI_GMEMFD_H */

// SPDX-License-Identifier: GPL-2.0
/*
 * A file from its creation to its end.  It has an inode, no page cache, and its own table of
 * blocks.  Files of /dev/gmemfd are here; fs.c has those that have names.
 */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/mm.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "gmemfd.h"

static struct file_system_type gmem_fs;
static struct vfsmount *gmem_mnt;
static int gmem_mnt_count;

static struct vfsmount *gmem_away_mnt;
static struct inode *gmem_away_inode;

/* Sizes of huge pages that this machine has, and that fit our geometry. */
u64 gmem_block_sizes __ro_after_init;

/**
 * gmem_block_size_ok - can a file have blocks of a size?
 * @size: in bytes
 *
 * Return: true if it can.
 */
bool gmem_block_size_ok(u64 size)
{
	return is_power_of_2(size) && size & gmem_block_sizes;
}

static void __init gmem_find_block_sizes(void)
{
	static const unsigned int candidates[] __initconst = { SZ_2M, SZ_1G };
	struct gmem_pool pool;
	int i;

	for (i = 0; i < ARRAY_SIZE(candidates); i++) {
		if (gmem_pool_reserve(&pool, get_order(candidates[i]), 0))
			continue;
		gmem_pool_release(&pool);
		gmem_block_sizes |= candidates[i];
	}
}

static void gmem_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct gmemfd_inode *fi = file_inode(file)->i_private;
	unsigned long nr = gmem_block_pages(fi), private = 0, secret = 0, split = 0, i;
	loff_t size = i_size_read(fi->inode);

	for (i = 0; i < size >> (fi->block_order + PAGE_SHIFT); i++) {
		struct gmem_block *block = &fi->blocks[i];

		if (gmem_lock_block_shared(fi, block))
			return;
		private += gmem_state_nr_private(&block->state, nr);
		secret += gmem_state_nr_private(&block->secret, nr);
		if (block->memory)
			split += bitmap_weight(block->memory->split,
					       gmem_block_regions(fi));
		gmem_unlock_block_shared(fi, block);
		cond_resched();
	}
	seq_printf(m, "gmem_size:\t%lld\n", size);
	seq_printf(m, "gmem_block_size:\t%lu\n", nr << PAGE_SHIFT);
	seq_printf(m, "gmem_flags:\t0x%llx\n", fi->flags);
	seq_printf(m, "gmem_allocated:\t%lld\n", inode_get_bytes(fi->inode));
	seq_printf(m, "gmem_private:\t%lu\n", (private - secret) << PAGE_SHIFT);
	seq_printf(m, "gmem_secret:\t%lu\n", secret << PAGE_SHIFT);
	seq_printf(m, "gmem_shared:\t%llu\n",
		   size - (private << PAGE_SHIFT));
	seq_printf(m, "gmem_split:\t%lu\n",
		   split << (GMEM_REGION_ORDER + PAGE_SHIFT));
}

/**
 * gmem_file_end - give up a file's memory, and all else that it has [takes block]
 * @fi: a file that nobody has open and that has no name; the inode, which may stay, does not
 *	lead to it any more
 */
void gmem_file_end(struct gmemfd_inode *fi)
{
	unsigned long i;

	for (i = 0; i < fi->nr_blocks; i++) {
		struct gmem_block *block = &fi->blocks[i];

		if (!block->memory)
			continue;
		/* A memory error may use the block at the same time. */
		gmem_lock_block(fi, block);
		gmem_memory_release(fi, block);
		gmem_unlock_block(fi, block);
		cond_resched();
	}
	gmem_mpol_free(&fi->policy);
	if (fi->nr_blocks)
		gmem_pool_release(&fi->pool);
	gmem_file_put(fi);
}

/**
 * gmem_inode_open - keep a file's memory, as an open file does [takes inode->i_lock]
 * @inode: the inode of a gmem file
 *
 * Return: 0, or -ENXIO if nobody has the file open and it has no name: its memory has gone.
 */
int gmem_inode_open(struct inode *inode)
{
	struct gmemfd_inode *fi;

	guard(spinlock)(&inode->i_lock);
	fi = inode->i_private;
	if (!fi)
		return -ENXIO;
	fi->opens++;
	return 0;
}

/**
 * gmem_inode_detach - part an inode from its memory if nothing is to lead there any more
 * @inode: the inode of a gmem file [takes inode->i_lock]
 *
 * Return: the file, for gmem_file_end(), or NULL if it is open, has a name, or was detached
 * before.
 */
struct gmemfd_inode *gmem_inode_detach(struct inode *inode)
{
	struct gmemfd_inode *fi;

	guard(spinlock)(&inode->i_lock);
	fi = inode->i_private;
	if (!fi || fi->opens || inode->i_nlink)
		return NULL;
	inode->i_private = NULL;
	return fi;
}

/**
 * gmem_inode_close - undo gmem_inode_open() [takes block]
 * @inode: the inode
 */
void gmem_inode_close(struct inode *inode)
{
	struct gmemfd_inode *fi = inode->i_private;

	scoped_guard(spinlock, &inode->i_lock)
		fi->opens--;
	/* With a name it may be opened again.  Once it has none fs.c finds it closed. */
	fi = gmem_inode_detach(inode);
	if (fi)
		gmem_file_end(fi);
}

/* A file without a name is opened again by way of /proc. */
static int gmem_file_open(struct inode *inode, struct file *file)
{
	return gmem_inode_open(inode);
}

static int gmem_file_release(struct inode *inode, struct file *file)
{
	gmem_kvm_release(inode->i_private, file);
	gmem_inode_close(inode);
	return 0;
}

/* An fd for mmap() alone */

/*
 * It consists of two open files.  What mappings have is one of the file, without any other
 * operation: MADV_REMOVE punches through whatever file a mapping has.  What the fd has is
 * not of the file, so that /proc does not open the file by it.
 */

static const struct file_operations gmem_map_only_fops = {
	.owner			= THIS_MODULE,
	.release		= gmem_file_release,
	.mmap			= gmem_mmap_only,
};

static int gmem_map_fd_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma_set_file(vma, file->private_data);
	return gmem_mmap_only(vma->vm_file, vma);
}

static int gmem_map_fd_release(struct inode *inode, struct file *file)
{
	fput(file->private_data);
	return 0;
}

static const struct file_operations gmem_map_fd_fops = {
	.owner			= THIS_MODULE,
	.release		= gmem_map_fd_release,
	.mmap			= gmem_map_fd_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
};

static int gmem_ioctl_open_map(struct file *file, void __user *argp)
{
	struct gmemfd_open_map arg;
	struct file *real, *map;
	int mode = O_RDWR, fd;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (arg.flags & ~GMEMFD_OPEN_MAP_READ_ONLY ||
	    memchr_inv(arg.reserved, 0, sizeof(arg.reserved)))
		return -EINVAL;
	if (arg.flags & GMEMFD_OPEN_MAP_READ_ONLY)
		mode = O_RDONLY;
	else if (!(file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (!(file->f_mode & FMODE_READ))
		return -EBADF;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	real = dentry_open(&file->f_path, mode | O_LARGEFILE, current_cred());
	if (IS_ERR(real)) {
		put_unused_fd(fd);
		return PTR_ERR(real);
	}
	replace_fops(real, fops_get(&gmem_map_only_fops));
	map = anon_inode_getfile("[gmemfd-map]", &gmem_map_fd_fops, real, mode);
	if (IS_ERR(map)) {
		fput(real);
		put_unused_fd(fd);
		return PTR_ERR(map);
	}
	fd_install(fd, map);
	return fd;
}

/* This one makes a file, for which ioctl.c is too low. */
static long gmem_file_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (cmd == GMEMFD_OPEN_MAP)
		return gmem_ioctl_open_map(file, (void __user *)arg);
	return gmem_ioctl(file, cmd, arg);
}

const struct file_operations gmem_fops = {
	.owner			= THIS_MODULE,
	.open			= gmem_file_open,
	.release		= gmem_file_release,
	.llseek			= generic_file_llseek,
	.fsync			= noop_fsync,
	.mmap			= gmem_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
	.fallocate		= gmem_fallocate,
	.unlocked_ioctl		= gmem_file_ioctl,
	.compat_ioctl		= compat_ptr_ioctl,
	.show_fdinfo		= gmem_show_fdinfo,
};

/* Folios are on no LRU, and nobody gets as far as migrating one. */
static int gmem_migrate_folio(struct address_space *mapping, struct folio *dst,
			      struct folio *src, enum migrate_mode mode)
{
	return -EBUSY;
}

/* Core mm must not drop a folio either, whether it is clean or poisoned. */
static bool gmem_release_folio(struct folio *folio, gfp_t gfp)
{
	return false;
}

static int gmem_error_folio(struct address_space *mapping, struct folio *folio)
{
	return MF_DELAYED;
}

static const struct address_space_operations gmem_aops = {
	.dirty_folio		= noop_dirty_folio,
	.migrate_folio		= gmem_migrate_folio,
	.release_folio		= gmem_release_folio,
	.error_remove_folio	= gmem_error_folio,
};

static int gmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
			struct iattr *attr)
{
	return -EINVAL;
}

static const struct inode_operations gmem_iops = {
	.setattr	= gmem_setattr,
};

/* An inode of which pages can be mapped, and nothing else done. */
static void gmem_inode_prepare(struct inode *inode)
{
	inode->i_mapping->a_ops = &gmem_aops;
	mapping_set_inaccessible(inode->i_mapping);
	mapping_set_release_always(inode->i_mapping);
}

static struct inode *gmem_new_inode(struct super_block *sb)
{
	struct inode *inode;

	inode = gmem_anon_inode(sb, "[gmemfd]");
	if (IS_ERR(inode))
		return inode;
	inode->i_mode |= S_IFREG;
	inode->i_op = &gmem_iops;
	gmem_inode_prepare(inode);
	return inode;
}

static int gmem_reserve_pool(struct gmem_pool *pool, unsigned int order,
			     unsigned long nr)
{
	unsigned int pin;
	int err;

	/* Pages that are added to the pool for us must not be in ZONE_MOVABLE. */
	pin = memalloc_pin_save();
	err = gmem_should_fail() ? -ENOMEM : gmem_pool_reserve(pool, order, nr);
	if (err == -ENOMEM) {
		/* Memory of other files may be on its way home. */
		gmem_home_flush();
		err = gmem_pool_reserve(pool, order, nr);
	}
	memalloc_pin_restore(pin);
	return err;
}

/**
 * gmem_inode_init - make a file of an inode
 * @inode: a new inode of a regular file
 * @args: arguments that are valid, apart from the size: that is 0 afterwards
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_inode_init(struct inode *inode, const struct gmemfd_create *args)
{
	static struct lock_class_key lock_key;
	struct gmemfd_inode *fi;

	fi = kzalloc_obj(*fi, GMEM_GFP);
	if (!fi)
		return -ENOMEM;
	refcount_set(&fi->refs, 1);
	fi->inode = inode;
	fi->block_order = ilog2(args->block_size) - PAGE_SHIFT;
	fi->flags = args->flags;
	fi->node = args->flags & GMEMFD_CREATE_NODE ? args->node : NUMA_NO_NODE;
	gmem_mpol_init(&fi->policy);
	init_rwsem(&fi->entries_lock);
	mutex_init(&fi->bindings_lock);
	INIT_LIST_HEAD(&fi->bindings);
	lockdep_init_map(&fi->lock_map, "gmem_block", &lock_key, 0);

	gmem_inode_prepare(inode);
	inode->i_fop = &gmem_fops;
	inode->i_blkbits = fi->block_order + PAGE_SHIFT;
	inode->i_private = fi;
	return 0;
}

/**
 * gmem_inode_set_size - give a file its size, and reserve memory for it
 * @inode: the inode of a file whose size is 0; nobody else does the same
 * @size: a multiple of the block size, and not 0
 *
 * Return: 0, -ENOMEM if the pool does not have as much, or what else gmem_pool_reserve()
 * returns.
 */
int gmem_inode_set_size(struct inode *inode, loff_t size)
{
	struct gmemfd_inode *fi = inode->i_private;
	unsigned long nr = size >> (fi->block_order + PAGE_SHIFT), i;
	bool shared = fi->flags & GMEMFD_CREATE_INIT_SHARED;
	struct gmem_block *blocks;
	int err;

	blocks = kvcalloc(nr, sizeof(*blocks), GMEM_GFP);
	if (!blocks)
		return -ENOMEM;
	err = gmem_reserve_pool(&fi->pool, fi->block_order, nr);
	if (err) {
		kvfree(blocks);
		return err;
	}
	for (i = 0; i < nr; i++) {
		init_rwsem(&blocks[i].lock);
		lockdep_set_notrack_class(&blocks[i].lock);
		blocks[i].state.kind = shared ? GMEM_ALL_SHARED : GMEM_ALL_PRIVATE;
		blocks[i].secret.kind = gmem_has_secret(fi) && !shared ?
					GMEM_ALL_PRIVATE : GMEM_ALL_SHARED;
	}
	fi->nr_blocks = nr;
	fi->blocks = blocks;
	/* Whoever sees the size sees the blocks. */
	i_size_write(inode, size);
	return 0;
}

static struct file *gmem_new_file(const struct gmemfd_create *args)
{
	struct inode *inode;
	struct file *file;
	int err;

	inode = gmem_new_inode(gmem_mnt->mnt_sb);
	if (IS_ERR(inode))
		return ERR_CAST(inode);
	err = gmem_inode_init(inode, args);
	if (err)
		goto err_inode;
	err = gmem_inode_set_size(inode, args->size);
	if (err)
		goto err_file;
	/* As of an unlinked file, inotify reports the deletion on the last close. */
	clear_nlink(inode);

	__module_get(THIS_MODULE);	/* dropped by fput() */
	file = alloc_file_pseudo(inode, gmem_mnt, "[gmemfd]",
				 O_RDWR | O_LARGEFILE, &gmem_fops);
	if (IS_ERR(file)) {
		module_put(THIS_MODULE);
		err = PTR_ERR(file);
		goto err_file;
	}
	gmem_file_open(inode, file);
	return file;

err_file:
	gmem_file_end(inode->i_private);
err_inode:
	iput(inode);
	return ERR_PTR(err);
}

/**
 * gmem_file_create - make a gmem file
 * @args: arguments that are valid; whether the pool has as much is found out here
 *
 * Return: an fd or a negative errno.
 */
int gmem_file_create(const struct gmemfd_create *args)
{
	struct file *file;
	int fd, err;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	err = simple_pin_fs(&gmem_fs, &gmem_mnt, &gmem_mnt_count);
	if (err)
		goto err_fd;
	file = gmem_new_file(args);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto err_fs;
	}
	/* From now on the dentry keeps the mount, which the next file uses, too. */
	file->f_path.dentry->d_fsdata = gmem_mnt;
	fd_install(fd, file);
	return fd;

err_fs:
	simple_release_fs(&gmem_mnt, &gmem_mnt_count);
err_fd:
	put_unused_fd(fd);
	return err;
}

/* The file systems, which user space cannot mount */

static void gmem_dentry_release(struct dentry *dentry)
{
	if (dentry->d_fsdata)
		simple_release_fs(&gmem_mnt, &gmem_mnt_count);
}

static char *gmem_dentry_name(struct dentry *dentry, char *buf, int len)
{
	static const char name[] = "/[gmemfd] (deleted)";

	if (len < sizeof(name))
		return ERR_PTR(-ENAMETOOLONG);
	return memcpy(buf + len - sizeof(name), name, sizeof(name));
}

static const struct dentry_operations gmem_dentry_ops = {
	.d_release	= gmem_dentry_release,
	.d_dname	= gmem_dentry_name,
};

static int gmem_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, GMEMFD_MAGIC);

	if (!ctx)
		return -ENOMEM;
	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	ctx->dops = &gmem_dentry_ops;
	return 0;
}

/*
 * This one is mounted while there are files.  An open file or an O_PATH fd has a reference
 * to the dentry and one to the mount, which keeps the module.  It drops them in that
 * order, so that no function of the file system is called once the mount is gone.  All
 * files share the mount: their dentries pin it.  An inode pins nothing.  A watch may hold
 * the last reference to an inode until the watch is gone, and shutting a superblock down
 * waits for that.
 */
static struct file_system_type gmem_fs = {
	.owner		 = THIS_MODULE,
	.name		 = "gmemfd",
	.init_fs_context = gmem_init_fs_context,
	.kill_sb	 = kill_anon_super,
};

/* This one has the inode of folios that are away, and is mounted while the module is loaded. */
static struct file_system_type gmem_away_fs = {
	.name		 = "gmemfd_away",
	.init_fs_context = gmem_init_fs_context,
	.kill_sb	 = kill_anon_super,
};

/**
 * gmem_file_init - prepare for files
 * @away_mapping: out: the mapping for folios that are away
 *
 * Return: 0 or a negative errno.
 */
int __init gmem_file_init(struct address_space **away_mapping)
{
	gmem_find_block_sizes();
	gmem_away_mnt = kern_mount(&gmem_away_fs);
	if (IS_ERR(gmem_away_mnt))
		return PTR_ERR(gmem_away_mnt);
	gmem_away_inode = gmem_new_inode(gmem_away_mnt->mnt_sb);
	if (IS_ERR(gmem_away_inode)) {
		kern_unmount(gmem_away_mnt);
		return PTR_ERR(gmem_away_inode);
	}
	*away_mapping = gmem_away_inode->i_mapping;
	return 0;
}

/**
 * gmem_file_exit - undo gmem_file_init() when no file is left
 */
void gmem_file_exit(void)
{
	iput(gmem_away_inode);
	kern_unmount(gmem_away_mnt);
}

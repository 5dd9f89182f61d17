// SPDX-License-Identifier: GPL-2.0
/*
 * A file from its creation to its close.  It has one inode and one open file, no page
 * cache, and its own table of blocks.
 */
#include <linux/fs.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/mm.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "gmemfd.h"

#define GMEMFD_MAGIC	0x676d656d	/* "gmem" */

static struct file_system_type gmem_fs;
static struct vfsmount *gmem_mnt;
static int gmem_mnt_count;

static struct vfsmount *gmem_away_mnt;
static struct inode *gmem_away_inode;

static void gmem_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct gmemfd_inode *fi = file_inode(file)->i_private;
	unsigned long nr = gmem_block_pages(fi), private = 0, secret = 0, split = 0, i;

	for (i = 0; i < fi->nr_blocks; i++) {
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
	seq_printf(m, "gmem_size:\t%lld\n", i_size_read(fi->inode));
	seq_printf(m, "gmem_block_size:\t%lu\n", nr << PAGE_SHIFT);
	seq_printf(m, "gmem_flags:\t0x%llx\n", fi->flags);
	seq_printf(m, "gmem_allocated:\t%lld\n", inode_get_bytes(fi->inode));
	seq_printf(m, "gmem_private:\t%lu\n", (private - secret) << PAGE_SHIFT);
	seq_printf(m, "gmem_secret:\t%lu\n", secret << PAGE_SHIFT);
	seq_printf(m, "gmem_shared:\t%lu\n",
		   (fi->nr_blocks * nr - private) << PAGE_SHIFT);
	seq_printf(m, "gmem_split:\t%lu\n",
		   split << (GMEM_REGION_ORDER + PAGE_SHIFT));
}

/* Release all that an open file has; the VFS's inode may stay for a while.  [takes block] */
static void gmem_close(struct gmemfd_inode *fi)
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
	gmem_pool_release(&fi->pool);
	gmem_file_put(fi);
}

static int gmem_file_release(struct inode *inode, struct file *file)
{
	struct gmemfd_inode *fi = inode->i_private;

	gmem_kvm_release(fi);
	inode->i_private = NULL;
	gmem_close(fi);
	return 0;
}

const struct file_operations gmem_fops = {
	.owner			= THIS_MODULE,
	.release		= gmem_file_release,
	.llseek			= generic_file_llseek,
	.fsync			= noop_fsync,
	.mmap			= gmem_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
	.fallocate		= gmem_fallocate,
	.unlocked_ioctl		= gmem_ioctl,
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

static struct inode *gmem_new_inode(struct super_block *sb)
{
	struct inode *inode;

	inode = gmem_anon_inode(sb, "[gmemfd]");
	if (IS_ERR(inode))
		return inode;
	inode->i_mode |= S_IFREG;
	inode->i_op = &gmem_iops;
	inode->i_mapping->a_ops = &gmem_aops;
	mapping_set_inaccessible(inode->i_mapping);
	mapping_set_release_always(inode->i_mapping);
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

static struct gmemfd_inode *gmem_file_alloc(const struct gmemfd_create *args)
{
	unsigned int order = ilog2(args->block_size) - PAGE_SHIFT;
	unsigned long nr = args->size >> (order + PAGE_SHIFT), i;
	bool shared = args->flags & GMEMFD_CREATE_INIT_SHARED;
	static struct lock_class_key lock_key;
	struct gmemfd_inode *fi;
	int err;

	fi = kvzalloc(struct_size(fi, blocks, nr), GMEM_GFP);
	if (!fi)
		return ERR_PTR(-ENOMEM);
	err = gmem_reserve_pool(&fi->pool, order, nr);
	if (err) {
		kvfree(fi);
		return ERR_PTR(err);
	}
	refcount_set(&fi->refs, 1);
	fi->block_order = order;
	fi->flags = args->flags;
	fi->node = args->flags & GMEMFD_CREATE_NODE ? args->node : NUMA_NO_NODE;
	gmem_mpol_init(&fi->policy);
	fi->nr_blocks = nr;
	mutex_init(&fi->bindings_lock);
	INIT_LIST_HEAD(&fi->bindings);
	init_waitqueue_head(&fi->vm_gone);
	lockdep_init_map(&fi->lock_map, "gmem_block", &lock_key, 0);
	for (i = 0; i < nr; i++) {
		init_rwsem(&fi->blocks[i].lock);
		lockdep_set_notrack_class(&fi->blocks[i].lock);
		fi->blocks[i].state.kind = shared ? GMEM_ALL_SHARED : GMEM_ALL_PRIVATE;
		fi->blocks[i].secret.kind = gmem_has_secret(fi) && !shared ?
					    GMEM_ALL_PRIVATE : GMEM_ALL_SHARED;
	}
	return fi;
}

static struct file *gmem_new_file(struct gmemfd_inode *fi, u64 size)
{
	struct inode *inode;
	struct file *file;

	inode = gmem_new_inode(gmem_mnt->mnt_sb);
	if (IS_ERR(inode))
		return ERR_CAST(inode);
	inode->i_size = size;
	inode->i_blkbits = fi->block_order + PAGE_SHIFT;
	inode->i_private = fi;
	fi->inode = inode;
	/* As of an unlinked file, inotify reports the deletion on the last close. */
	clear_nlink(inode);

	__module_get(THIS_MODULE);	/* dropped by fput() */
	file = alloc_file_pseudo(inode, gmem_mnt, "[gmemfd]",
				 O_RDWR | O_LARGEFILE, &gmem_fops);
	if (IS_ERR(file)) {
		module_put(THIS_MODULE);
		iput(inode);
	}
	return file;
}

/**
 * gmem_file_create - make a gmem file
 * @args: arguments that are valid; whether the pool has as much is found out here
 *
 * Return: an fd or a negative errno.
 */
int gmem_file_create(const struct gmemfd_create *args)
{
	struct gmemfd_inode *fi;
	struct file *file;
	int fd, err;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	err = simple_pin_fs(&gmem_fs, &gmem_mnt, &gmem_mnt_count);
	if (err)
		goto err_fd;
	fi = gmem_file_alloc(args);
	if (IS_ERR(fi)) {
		err = PTR_ERR(fi);
		goto err_fs;
	}
	file = gmem_new_file(fi, args->size);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		gmem_close(fi);
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
int gmem_file_init(struct address_space **away_mapping)
{
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

// SPDX-License-Identifier: GPL-2.0
/*
 * Files that have names: mount -t gmemfd -o block=1G,state=secret none /dev/gmem.
 *
 * They are files as those of /dev/gmemfd.  But they are opened by a path, and get their
 * size, and a reservation of memory, when they are truncated to it.  An open file keeps the
 * mount, and the mount keeps the module.
 */
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "gmemfd.h"

/**
 * struct gmem_mount - a mounted file system, or one that is about to be
 * @args: how files are made; the size means nothing
 * @max_size: how large they may be all together, in bytes; 0 if nothing limits that
 * @max_inodes: how many inodes there may be; 0 if nothing limits that
 * @size: how large files are all together
 * @inodes: how many inodes there are
 * @lock: protects the four fields above
 * @uid: the owner of the root directory
 * @gid: its group
 * @mode: its mode
 * @given: a bit for each option that was given, by its number
 */
struct gmem_mount {
	struct gmemfd_create args;
	u64 max_size, max_inodes;
	u64 size, inodes;
	spinlock_t lock;	/* of the four above */
	kuid_t uid;
	kgid_t gid;
	umode_t mode;
	unsigned int given;
};

static struct workqueue_struct *gmem_end_wq;

static bool gmem_charge(struct gmem_mount *mount, u64 size, u64 inodes)
{
	guard(spinlock)(&mount->lock);
	if (mount->max_size && size > mount->max_size - min(mount->size, mount->max_size))
		return false;
	if (mount->max_inodes && mount->inodes + inodes > mount->max_inodes)
		return false;
	mount->size += size;
	mount->inodes += inodes;
	return true;
}

static void gmem_uncharge(struct gmem_mount *mount, u64 size, u64 inodes)
{
	guard(spinlock)(&mount->lock);
	mount->size -= size;
	mount->inodes -= inodes;
}

/* Files */

/* The VFS holds the inode's lock: a file gets its size once. */
static int gmem_truncate(struct inode *inode, loff_t size)
{
	struct gmem_mount *mount = inode->i_sb->s_fs_info;
	int err;

	if (size == i_size_read(inode))
		return 0;
	/* As if the size were sealed. */
	if (i_size_read(inode))
		return -EPERM;
	if (size & (mount->args.block_size - 1))
		return -EINVAL;
	if (!gmem_charge(mount, size, 0))
		return -ENOSPC;
	err = gmem_inode_set_size(inode, size);
	if (err)
		gmem_uncharge(mount, size, 0);
	return err;
}

/* By an O_PATH fd a file can be truncated that somebody else closes for good. */
static int gmem_truncate_open(struct inode *inode, loff_t size)
{
	int err;

	err = gmem_inode_open(inode);
	if (err)
		return err;
	err = gmem_truncate(inode, size);
	gmem_inode_close(inode);
	return err;
}

static int gmem_named_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
			      struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	int err;

	err = setattr_prepare(idmap, dentry, attr);
	if (!err && attr->ia_valid & ATTR_SIZE)
		err = gmem_truncate_open(inode, attr->ia_size);
	if (err)
		return err;
	setattr_copy(idmap, inode, attr);
	return 0;
}

static const struct inode_operations gmem_named_iops = {
	.setattr	= gmem_named_setattr,
};

/* Directories */

static const struct inode_operations gmem_dir_iops;

static struct inode *gmem_new_named(struct super_block *sb, const struct inode *dir, umode_t mode)
{
	struct gmem_mount *mount = sb->s_fs_info;
	struct inode *inode;
	int err = -ENOSPC;

	if (!gmem_charge(mount, 0, 1))
		return ERR_PTR(err);
	inode = new_inode(sb);
	if (!inode)
		goto err_charge;
	inode->i_ino = get_next_ino();
	inode_init_owner(&nop_mnt_idmap, inode, dir, mode);
	simple_inode_init_ts(inode);
	if (S_ISDIR(mode)) {
		inode->i_op = &gmem_dir_iops;
		inode->i_fop = &simple_dir_operations;
		inc_nlink(inode);
		return inode;
	}
	inode->i_op = &gmem_named_iops;
	err = gmem_inode_init(inode, &mount->args);
	if (!err)
		return inode;
	/* This uncharges it, too. */
	iput(inode);
	return ERR_PTR(err);

err_charge:
	gmem_uncharge(mount, 0, 1);
	return ERR_PTR(err);
}

/* An inode that is not in a directory yet. */
static struct inode *gmem_new_child(struct inode *dir, struct dentry *dentry, umode_t mode)
{
	struct inode *inode = gmem_new_named(dir->i_sb, dir, mode);
	int err;

	if (IS_ERR(inode))
		return inode;
	err = security_inode_init_security(inode, dir, &dentry->d_name, NULL, NULL);
	if (err && err != -EOPNOTSUPP) {
		iput(inode);
		return ERR_PTR(err);
	}
	inode_set_mtime_to_ts(dir, inode_set_ctime_current(dir));
	return inode;
}

static int gmem_add(struct inode *dir, struct dentry *dentry, umode_t mode)
{
	struct inode *inode = gmem_new_child(dir, dentry, mode);

	if (IS_ERR(inode))
		return PTR_ERR(inode);
	d_make_persistent(dentry, inode);
	return 0;
}

static int gmem_create(GMEM_CREATE_PARAMETERS)
{
	return gmem_add(dir, dentry, mode | S_IFREG);
}

static gmem_mkdir_type gmem_mkdir(struct mnt_idmap *idmap, struct inode *dir,
				  struct dentry *dentry, umode_t mode)
{
	int err = gmem_add(dir, dentry, mode | S_IFDIR);

	if (!err)
		inc_nlink(dir);
	return gmem_mkdir_return(err);
}

static int gmem_tmpfile(struct mnt_idmap *idmap, struct inode *dir, struct file *file,
			umode_t mode)
{
	struct inode *inode = gmem_new_child(dir, file->f_path.dentry, mode | S_IFREG);

	if (IS_ERR(inode))
		return PTR_ERR(inode);
	d_tmpfile(file, inode);
	return finish_open_simple(file, 0);
}

/* The end of a file whose inode stays. */
static void gmem_end_work(struct work_struct *work)
{
	struct gmemfd_inode *fi = container_of(work, struct gmemfd_inode, end);
	struct inode *inode = fi->inode;
	struct super_block *sb = inode->i_sb;

	gmem_file_end(fi);
	iput(inode);
	deactivate_super(sb);
}

/*
 * A name has gone.  If it was the last one of a closed file, memory goes with the inode, when
 * the caller has dropped the directory's lock.  But who has an O_PATH fd keeps the inode, and
 * is not to keep memory.  That takes a while, for which the directory must not stay locked.
 */
static void gmem_name_gone(struct dentry *dentry, struct inode *inode)
{
	struct gmemfd_inode *fi;
	bool stays;

	/* Nobody finds it from now on, so that whoever has it shows. */
	d_drop(dentry);
	scoped_guard(spinlock, &inode->i_lock)
		stays = d_count(dentry) > 1 ||
			!hlist_is_singular_node(inode->i_dentry.first, &inode->i_dentry);
	fi = stays ? gmem_inode_detach(inode) : NULL;
	if (!fi)
		return;
	ihold(inode);
	atomic_inc(&inode->i_sb->s_active);
	INIT_WORK(&fi->end, gmem_end_work);
	queue_work(gmem_end_wq, &fi->end);
}

static int gmem_unlink(struct inode *dir, struct dentry *dentry)
{
	int err = simple_unlink(dir, dentry);

	if (!err)
		gmem_name_gone(dentry, d_inode(dentry));
	return err;
}

static int gmem_rename(struct mnt_idmap *idmap, struct inode *old_dir, struct dentry *old,
		       struct inode *new_dir, struct dentry *new, unsigned int flags)
{
	struct inode *replaced = flags & RENAME_EXCHANGE ? NULL : d_inode(new);
	int err = simple_rename(idmap, old_dir, old, new_dir, new, flags);

	if (!err && replaced && S_ISREG(replaced->i_mode))
		gmem_name_gone(new, replaced);
	return err;
}

static const struct inode_operations gmem_dir_iops = {
	.create		= gmem_create,
	.lookup		= simple_lookup,
	.link		= simple_link,
	.unlink		= gmem_unlink,
	.mkdir		= gmem_mkdir,
	.rmdir		= simple_rmdir,
	.rename		= gmem_rename,
	.tmpfile	= gmem_tmpfile,
};

/* The file system */

/* The last name and the last open file have gone, and nobody has the inode. */
static void gmem_evict_inode(struct inode *inode)
{
	struct gmem_mount *mount = inode->i_sb->s_fs_info;
	struct gmemfd_inode *fi = inode->i_private;

	inode->i_private = NULL;
	if (fi)
		gmem_file_end(fi);
	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	gmem_uncharge(mount, S_ISREG(inode->i_mode) ? i_size_read(inode) : 0, 1);
}

/* Without a limit there is nothing to tell, as with hugetlbfs. */
static int gmem_statfs(struct dentry *dentry, struct kstatfs *buf)
{
	struct gmem_mount *mount = dentry->d_sb->s_fs_info;
	u64 block = mount->args.block_size;

	simple_statfs(dentry, buf);
	buf->f_bsize = block;
	guard(spinlock)(&mount->lock);
	if (mount->max_size) {
		buf->f_blocks = mount->max_size / block;
		buf->f_bfree = buf->f_blocks - min(mount->size / block, buf->f_blocks);
		buf->f_bavail = buf->f_bfree;
	}
	if (mount->max_inodes) {
		buf->f_files = mount->max_inodes;
		buf->f_ffree = buf->f_files - min(mount->inodes, buf->f_files);
	}
	return 0;
}

/* VMMs that know of hugetlbfs only have memslots that do not name the file. */
static const struct constant_table gmem_states[] = {
	{ "private",	GMEMFD_CREATE_BIND_MAPPED },
	{ "shared",	GMEMFD_CREATE_BIND_MAPPED | GMEMFD_CREATE_INIT_SHARED },
	{ "secret",	GMEMFD_CREATE_BIND_MAPPED | GMEMFD_CREATE_SECRET },
	{}
};

static int gmem_show_options(struct seq_file *m, struct dentry *root)
{
	struct gmem_mount *mount = root->d_sb->s_fs_info;
	const struct constant_table *state = gmem_states;

	while (state->value != mount->args.flags)
		state++;
	seq_printf(m, ",block=%lluM,state=%s", mount->args.block_size >> 20, state->name);
	guard(spinlock)(&mount->lock);
	if (mount->max_size)
		seq_printf(m, ",size=%lluM", mount->max_size >> 20);
	if (mount->max_inodes)
		seq_printf(m, ",nr_inodes=%llu", mount->max_inodes);
	if (mount->mode != 0755)
		seq_printf(m, ",mode=%03o", mount->mode);
	if (!uid_eq(mount->uid, GLOBAL_ROOT_UID))
		seq_printf(m, ",uid=%u", from_kuid_munged(&init_user_ns, mount->uid));
	if (!gid_eq(mount->gid, GLOBAL_ROOT_GID))
		seq_printf(m, ",gid=%u", from_kgid_munged(&init_user_ns, mount->gid));
	return 0;
}

static const struct super_operations gmem_super_ops = {
	.statfs		= gmem_statfs,
	.drop_inode	= inode_just_drop,
	.evict_inode	= gmem_evict_inode,
	.show_options	= gmem_show_options,
};

static int gmem_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct gmem_mount *mount = sb->s_fs_info;
	struct inode *inode;

	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_blocksize = PAGE_SIZE;
	sb->s_blocksize_bits = PAGE_SHIFT;
	sb->s_magic = GMEMFD_MAGIC;
	sb->s_op = &gmem_super_ops;
	sb->s_time_gran = 1;
	sb->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	inode = gmem_new_named(sb, NULL, S_IFDIR | mount->mode);
	if (IS_ERR(inode))
		return PTR_ERR(inode);
	inode->i_uid = mount->uid;
	inode->i_gid = mount->gid;
	sb->s_root = d_make_root(inode);
	return sb->s_root ? 0 : -ENOMEM;
}

enum { OPT_BLOCK, OPT_STATE, OPT_MODE, OPT_UID, OPT_GID, OPT_SIZE, OPT_INODES };

static const struct fs_parameter_spec gmem_parameters[] = {
	fsparam_string("block", OPT_BLOCK),
	fsparam_enum("state", OPT_STATE, gmem_states),
	fsparam_u32oct("mode", OPT_MODE),
	fsparam_uid("uid", OPT_UID),
	fsparam_gid("gid", OPT_GID),
	fsparam_string("size", OPT_SIZE),
	fsparam_string("nr_inodes", OPT_INODES),
	{}
};

static int gmem_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct gmem_mount *mount = fc->s_fs_info;
	struct fs_parse_result result;
	char *end = "";
	int opt;

	opt = fs_parse(fc, gmem_parameters, param, &result);
	if (opt < 0)
		return opt;
	mount->given |= BIT(opt);
	switch (opt) {
	case OPT_BLOCK:
		mount->args.block_size = memparse(param->string, &end);
		if (*end || !gmem_block_size_ok(mount->args.block_size))
			return invalfc(fc, "block is no size of huge pages here");
		break;
	case OPT_STATE:
		mount->args.flags = result.uint_32;
		break;
	case OPT_MODE:
		if (result.uint_32 & ~07777)
			return invalfc(fc, "mode has more bits than a mode has");
		mount->mode = result.uint_32;
		break;
	case OPT_UID:
		mount->uid = result.uid;
		break;
	case OPT_GID:
		mount->gid = result.gid;
		break;
	case OPT_SIZE:
		mount->max_size = memparse(param->string, &end);
		if (*end)
			return invalfc(fc, "size is no number of bytes");
		break;
	case OPT_INODES:
		mount->max_inodes = memparse(param->string, &end);
		if (*end)
			return invalfc(fc, "nr_inodes is no number");
		break;
	}
	return 0;
}

static int gmem_get_tree(struct fs_context *fc)
{
	struct gmem_mount *mount = fc->s_fs_info;

	if (mount->max_size & (mount->args.block_size - 1))
		return invalfc(fc, "size is no multiple of block");
	return get_tree_nodev(fc, gmem_fill_super);
}

static int gmem_reconfigure(struct fs_context *fc)
{
	struct gmem_mount *mount = fc->root->d_sb->s_fs_info, *new = fc->s_fs_info;

	/* mount(8) repeats the options that /proc/mounts has. */
	if ((new->given & BIT(OPT_BLOCK) && new->args.block_size != mount->args.block_size) ||
	    (new->given & BIT(OPT_STATE) && new->args.flags != mount->args.flags) ||
	    (new->given & BIT(OPT_MODE) && new->mode != mount->mode) ||
	    (new->given & BIT(OPT_UID) && !uid_eq(new->uid, mount->uid)) ||
	    (new->given & BIT(OPT_GID) && !gid_eq(new->gid, mount->gid)))
		return invalfc(fc, "only size and nr_inodes can be changed");
	if (new->max_size & (mount->args.block_size - 1))
		return invalfc(fc, "size is no multiple of block");

	guard(spinlock)(&mount->lock);
	if (new->max_size && new->max_size < mount->size)
		return invalfc(fc, "files are larger than size already");
	if (new->max_inodes && new->max_inodes < mount->inodes)
		return invalfc(fc, "there are more than nr_inodes already");
	if (new->given & BIT(OPT_SIZE))
		mount->max_size = new->max_size;
	if (new->given & BIT(OPT_INODES))
		mount->max_inodes = new->max_inodes;
	return 0;
}

static void gmem_free_context(struct fs_context *fc)
{
	kfree(fc->s_fs_info);
}

static const struct fs_context_operations gmem_context_ops = {
	.free		= gmem_free_context,
	.parse_param	= gmem_parse_param,
	.get_tree	= gmem_get_tree,
	.reconfigure	= gmem_reconfigure,
};

static int gmem_init_named_context(struct fs_context *fc)
{
	struct gmem_mount *mount = kzalloc_obj(*mount, GFP_KERNEL);

	if (!mount)
		return -ENOMEM;
	/* What a VMM can use that knows nothing of gmemfd. */
	mount->args.flags = GMEMFD_CREATE_BIND_MAPPED | GMEMFD_CREATE_INIT_SHARED;
	mount->args.block_size = PMD_SIZE;
	spin_lock_init(&mount->lock);
	mount->uid = current_fsuid();
	mount->gid = current_fsgid();
	mount->mode = 0755;
	fc->s_fs_info = mount;
	fc->ops = &gmem_context_ops;
	return 0;
}

static void gmem_named_kill_super(struct super_block *sb)
{
	struct gmem_mount *mount = sb->s_fs_info;

	gmem_kill_super(sb);
	kfree(mount);
}

/* No FS_USERNS_MOUNT: the pool of huge pages is the machine's. */
static struct file_system_type gmem_named_fs = {
	.owner			= THIS_MODULE,
	.name			= "gmemfd",
	.init_fs_context	= gmem_init_named_context,
	.parameters		= gmem_parameters,
	.kill_sb		= gmem_named_kill_super,
};
MODULE_ALIAS_FS("gmemfd");

/**
 * gmem_fs_init - let the file system be mounted
 *
 * Return: 0 or a negative errno.
 */
int gmem_fs_init(void)
{
	int err;

	gmem_end_wq = alloc_workqueue("gmemfd_end", WQ_UNBOUND, 0);
	if (!gmem_end_wq)
		return -ENOMEM;
	err = register_filesystem(&gmem_named_fs);
	if (err)
		destroy_workqueue(gmem_end_wq);
	return err;
}

/**
 * gmem_fs_exit - undo gmem_fs_init() when nothing is mounted
 */
void gmem_fs_exit(void)
{
	unregister_filesystem(&gmem_named_fs);
	/* A work that has put the last superblock may be about to return. */
	destroy_workqueue(gmem_end_wq);
}

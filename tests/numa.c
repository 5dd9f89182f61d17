// SPDX-License-Identifier: GPL-2.0
/*
 * Where blocks come from on a machine with two nodes, which these tests have a
 * boot of their own for (numa=fake=2).
 */
#include <linux/mempolicy.h>
#include <sys/syscall.h>

#include "lib.h"

#define NODE(n)	(1UL << (n))

static void two_nodes(void)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		test_skip("one node");
}

static long policy(void *p, size_t size, int mode, unsigned long nodes)
{
	return syscall(__NR_mbind, p, size, mode, nodes ? &nodes : NULL, 64, 0);
}

static long free_on(int node, size_t block)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/hugepages/"
		 "hugepages-%lukB/free_hugepages", node, block / KB);
	return read_long(path);
}

/* How many blocks of @block come from node 1 when [0, size) is touched? */
static long from_node1(int fd, size_t size, size_t block)
{
	long before[2] = { free_on(0, block), free_on(1, block) };

	EXPECT_EQ(gmem_allocate(fd, 0, size), 0);
	EXPECT_EQ(before[0] - free_on(0, block) + before[1] - free_on(1, block),
		  (long)(size / block));
	return before[1] - free_on(1, block);
}

static int create_on(size_t size, size_t block, uint64_t flags, int node)
{
	struct gmemfd_create create = {
		.size = size, .block_size = block, .node = node,
		.flags = flags | GMEMFD_CREATE_NODE,
	};
	int device = gmem_device(), fd = ioctl(device, GMEMFD_CREATE, &create);

	EXPECT(fd >= 0);
	close(device);
	return fd;
}

TEST(numa_node_at_creation)
{
	two_nodes();
	for (int node = 0; node < 2; node++) {
		int fd = create_on(16 * MB, 2 * MB, 0, node);

		EXPECT_EQ(from_node1(fd, 16 * MB, 2 * MB), node ? 8 : 0);
		close(fd);
		fd = create_on(16 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED, node);
		EXPECT_EQ(from_node1(fd, 16 * MB, 2 * MB), node ? 8 : 0);
		close(fd);
		if (free_on(node, GB) <= 0)
			continue;
		fd = create_on(GB, GB, 0, node);
		EXPECT_EQ(from_node1(fd, GB, GB), node);
		close(fd);
	}
}

/* What is reserved is had, from the other node if need be. */
TEST(numa_node_is_preferred)
{
	long nr;
	int fd;

	two_nodes();
	nr = free_on(1, 2 * MB);
	fd = create_on((nr + 4) * 2 * MB, 2 * MB, 0, 1);
	EXPECT_EQ(from_node1(fd, (nr + 4) * 2 * MB, 2 * MB), nr);
	close(fd);
}

TEST(numa_task_policy)
{
	unsigned long nodes = NODE(1);
	int fd;

	two_nodes();
	fd = gmem_create(16 * MB, 2 * MB, 0);
	EXPECT_EQ(syscall(__NR_set_mempolicy, MPOL_BIND, &nodes, 64), 0);
	EXPECT_EQ(from_node1(fd, 16 * MB, 2 * MB), 8);
	close(fd);
	nodes = NODE(0);
	fd = gmem_create(16 * MB, 2 * MB, 0);
	EXPECT_EQ(syscall(__NR_set_mempolicy, MPOL_PREFERRED, &nodes, 64), 0);
	EXPECT_EQ(from_node1(fd, 16 * MB, 2 * MB), 0);
	close(fd);
	nodes = NODE(0) | NODE(1);
	fd = gmem_create(16 * MB, 2 * MB, 0);
	EXPECT_EQ(syscall(__NR_set_mempolicy, MPOL_INTERLEAVE, &nodes, 64), 0);
	EXPECT_EQ(from_node1(fd, 16 * MB, 2 * MB), 4);
	close(fd);
	/* The file's own node comes first. */
	nodes = NODE(0);
	EXPECT_EQ(syscall(__NR_set_mempolicy, MPOL_BIND, &nodes, 64), 0);
	fd = create_on(16 * MB, 2 * MB, 0, 1);
	EXPECT_EQ(from_node1(fd, 16 * MB, 2 * MB), 8);
	close(fd);
}

TEST(numa_mbind)
{
	int fd, mode = -1;
	unsigned long nodes = 0;
	char *p;

	two_nodes();
	fd = create_on(32 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED, 0);
	p = gmem_map(fd, 0, 32 * MB);
	EXPECT_EQ(policy(p, 16 * MB, MPOL_BIND, NODE(1)), 0);
	EXPECT_EQ(policy(p + 16 * MB, 8 * MB, MPOL_INTERLEAVE, NODE(0) | NODE(1)), 0);
	EXPECT_EQ(policy(p + 24 * MB, 2 * MB, MPOL_PREFERRED_MANY, NODE(1)), 0);
	EXPECT_EQ(syscall(__NR_get_mempolicy, &mode, &nodes, 64, p + 4 * MB,
			  MPOL_F_ADDR), 0);
	EXPECT_EQ(mode, MPOL_BIND);
	EXPECT_EQ(nodes, NODE(1));
	/* The policy is the file's: it holds without a mapping, for anybody. */
	munmap(p, 32 * MB);
	EXPECT_EQ(from_node1(fd, 32 * MB, 2 * MB), 8 + 2 + 1);
	p = gmem_map(fd, 0, 32 * MB);
	EXPECT_EQ(syscall(__NR_get_mempolicy, &mode, NULL, 0, p + 5 * MB,
			  MPOL_F_NODE | MPOL_F_ADDR), 0);
	EXPECT_EQ(mode, 1);

	/* Memory that is there stays; what is punched comes from elsewhere. */
	EXPECT_EQ(policy(p, 32 * MB, MPOL_BIND, NODE(0)), 0);
	EXPECT_EQ(gmem_punch(fd, 0, 8 * MB), 0);
	EXPECT_EQ(from_node1(fd, 8 * MB, 2 * MB), 0);
	munmap(p, 32 * MB);
	close(fd);
}

/* Strict is strict: no memory there is no memory, and nothing has changed. */
TEST(numa_bind_is_strict)
{
	int fd, hog;
	long nr;
	char *p;

	two_nodes();
	nr = free_on(1, 2 * MB);
	hog = create_on(nr * 2 * MB, 2 * MB, 0, 1);
	EXPECT_EQ(from_node1(hog, nr * 2 * MB, 2 * MB), nr);
	fd = gmem_create(4 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	p = gmem_map(fd, 0, 4 * MB);
	EXPECT_EQ(policy(p, 4 * MB, MPOL_BIND, NODE(1)), 0);
	EXPECT_ERR(gmem_allocate(fd, 0, 2 * MB), ENOSPC);
	EXPECT(!can_read(p));
	EXPECT(!(gmem_range(fd, 0).flags & GMEMFD_RANGE_ALLOCATED));
	close(hog);
	EXPECT_EQ(from_node1(fd, 4 * MB, 2 * MB), 2);
	EXPECT(can_read(p));
	munmap(p, 4 * MB);
	close(fd);
}

TEST(numa_bad_input)
{
	struct gmemfd_create create = {
		.size = 2 * MB, .block_size = 2 * MB, .flags = GMEMFD_CREATE_NODE,
	};
	const uint32_t bad[] = { 2, 63, 64, 1023, 1024, 1U << 31, ~0U };
	int device = gmem_device();

	two_nodes();
	for (int i = 0; i < 7; i++) {
		create.node = bad[i];
		EXPECT_ERR(ioctl(device, GMEMFD_CREATE, &create), EINVAL);
	}
	create.flags = 0;
	create.node = 1;
	EXPECT_ERR(ioctl(device, GMEMFD_CREATE, &create), EINVAL);
}

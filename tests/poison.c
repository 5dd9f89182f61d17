// SPDX-License-Identifier: GPL-2.0
/*
 * Memory errors: a block with a poisoned page is never handed out again.  What
 * is poisoned stays poisoned, so these tests have a boot of their own, with the
 * module hwpoison-inject.
 */
#include "lib.h"

void poison(uint64_t pfn)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)pfn);
	/* Core mm cannot handle the page and says so; it is marked all the same. */
	int fd = open("/sys/kernel/debug/hwpoison/corrupt-pfn", O_WRONLY);

	EXPECT(fd >= 0);
	if (write(fd, text, strlen(text)) < 0)
		printf("# corrupt-pfn: errno %d\n", errno);
	close(fd);
}

/* Take all that the pool gives: none of it may be the poisoned block. */
static void expect_parked(uint64_t pfn)
{
	long nr = pool(2 * MB, "free_hugepages") - pool(2 * MB, "resv_hugepages");
	int fd = gmem_create(nr * 2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, nr * 2 * MB);
	long got = 0;

	for (long i = 0; i < nr; i++) {
		if (gmem_allocate(fd, i * 2 * MB, 2 * MB)) {
			EXPECT_EQ(errno, ENOSPC);
			continue;
		}
		got++;
		p[i * 2 * MB] = 1;
		EXPECT(pfn_of(p + i * 2 * MB) != (pfn & ~511UL));
	}
	EXPECT(got < nr);
	EXPECT(got > 0);
	munmap(p, nr * 2 * MB);
	close(fd);
}

static void poison_one(bool convert, bool split)
{
	int fd = gmem_create(2 * MB, 2 * MB, GMEMFD_CREATE_INIT_SHARED);
	char *p = gmem_map(fd, 0, 2 * MB);
	uint64_t pfn;

	fill(p, 2 * MB, 3);
	pfn = pfn_of(p + 10 * PAGE);
	if (convert)
		EXPECT_EQ(gmem_convert(fd, 0, split ? MB : 2 * MB, true), 0);
	munmap(p, 2 * MB);
	poison(pfn);
	p = gmem_map(fd, 0, 2 * MB);
	EXPECT(!can_read(p + 10 * PAGE));
	if (split)		/* the healthy rest goes on */
		EXPECT(holds(p + MB, MB, 3 + MB / 8));
	munmap(p, 2 * MB);
	close(fd);
	expect_parked(pfn);
}

TEST(poison_shared_page)
{
	poison_one(false, false);
}

TEST(poison_private_page)
{
	poison_one(true, false);
}

TEST(poison_page_of_mixed_region)
{
	poison_one(true, true);
}

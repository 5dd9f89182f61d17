// SPDX-License-Identifier: GPL-2.0
/* What the machine must not do while there is memory behind a gmem file. */
#include "lib.h"

static int write_state(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), ret, err;

	if (fd < 0)
		test_skip("not in this kernel");
	ret = write(fd, text, strlen(text));
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

/* Hibernation would write private pages to a disk, and they are not mapped. */
TEST(hibernation_refused)
{
	int fd = gmem_create(2 * MB, 2 * MB, 0);

	EXPECT_EQ(gmem_allocate(fd, 0, 2 * MB), 0);
	EXPECT_ERR(write_state("/sys/power/state", "disk"), EBUSY);
	EXPECT_EQ(gmem_range(fd, 0).size, 2 * MB);
	close(fd);
}

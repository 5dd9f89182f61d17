// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the pure logic: states of a block's pages and ranges.
 */
#include <kunit/test.h>

#include "state.c"

#define NR	1024UL

static int set(struct gmem_state *state, unsigned long lo, unsigned long hi,
	       bool private)
{
	int err = hi - lo == NR ? 0 : gmem_state_reserve(state, NR);

	if (!err)
		gmem_state_set(state, NR, lo, hi, private);
	return err;
}

static void state_whole_block_needs_no_bitmap(struct kunit *test)
{
	struct gmem_state state = { .kind = GMEM_ALL_PRIVATE };

	KUNIT_ASSERT_EQ(test, set(&state, 0, NR, false), 0);
	KUNIT_EXPECT_EQ(test, state.kind, GMEM_ALL_SHARED);
	KUNIT_EXPECT_NULL(test, state.map);
}

static void state_reserve_changes_nothing(struct kunit *test)
{
	struct gmem_state state = { .kind = GMEM_ALL_SHARED };
	unsigned long *map;

	KUNIT_ASSERT_EQ(test, gmem_state_reserve(&state, NR), 0);
	map = state.map;
	KUNIT_EXPECT_NOT_NULL(test, map);
	KUNIT_EXPECT_EQ(test, state.kind, GMEM_ALL_SHARED);
	KUNIT_EXPECT_EQ(test, gmem_state_nr_private(&state, NR), 0);
	KUNIT_ASSERT_EQ(test, gmem_state_reserve(&state, NR), 0);
	KUNIT_EXPECT_PTR_EQ(test, state.map, map);
	gmem_state_free(&state);
}

static void state_becomes_mixed_and_uniform_again(struct kunit *test)
{
	struct gmem_state state = { .kind = GMEM_ALL_PRIVATE };

	KUNIT_ASSERT_EQ(test, set(&state, 512, 513, false), 0);
	KUNIT_EXPECT_EQ(test, state.kind, GMEM_MIXED);
	KUNIT_EXPECT_EQ(test, gmem_state_nr_private(&state, NR), NR - 1);
	KUNIT_EXPECT_TRUE(test, gmem_state_private(&state, 511));
	KUNIT_EXPECT_FALSE(test, gmem_state_private(&state, 512));
	KUNIT_EXPECT_TRUE(test, gmem_state_private(&state, 513));

	KUNIT_ASSERT_EQ(test, set(&state, 512, 513, true), 0);
	KUNIT_EXPECT_EQ(test, state.kind, GMEM_ALL_PRIVATE);
	gmem_state_free(&state);
}

/* Converting a whole block leaves the bitmap as it was, so it must not be used. */
static void state_of_whole_block_counts(struct kunit *test)
{
	struct gmem_state state = { .kind = GMEM_ALL_PRIVATE };

	KUNIT_ASSERT_EQ(test, set(&state, 512, 513, false), 0);
	KUNIT_ASSERT_EQ(test, set(&state, 0, NR, false), 0);
	KUNIT_ASSERT_EQ(test, set(&state, 0, 1, true), 0);
	KUNIT_EXPECT_EQ(test, gmem_state_nr_private(&state, NR), 1);
	KUNIT_EXPECT_TRUE(test, gmem_state_private(&state, 0));
	KUNIT_EXPECT_EQ(test, gmem_state_run(&state, 1, NR), NR);
	/* After converting in pieces until the block is uniform, the bitmap is right. */
	KUNIT_ASSERT_EQ(test, set(&state, 1, NR, true), 0);
	KUNIT_EXPECT_EQ(test, state.kind, GMEM_ALL_PRIVATE);
	KUNIT_ASSERT_EQ(test, set(&state, 7, 9, false), 0);
	KUNIT_EXPECT_EQ(test, gmem_state_nr_private(&state, NR), NR - 2);
	KUNIT_EXPECT_EQ(test, gmem_state_run(&state, 0, NR), 7);
	KUNIT_EXPECT_EQ(test, gmem_state_run(&state, 9, NR), NR);
	gmem_state_free(&state);
}

static void state_runs(struct kunit *test)
{
	struct gmem_state state = { .kind = GMEM_ALL_SHARED };

	KUNIT_EXPECT_EQ(test, gmem_state_run(&state, 5, 700), 700);
	KUNIT_ASSERT_EQ(test, set(&state, 100, 200, true), 0);
	KUNIT_EXPECT_EQ(test, gmem_state_run(&state, 0, NR), 100);
	KUNIT_EXPECT_EQ(test, gmem_state_run(&state, 100, NR), 200);
	KUNIT_EXPECT_EQ(test, gmem_state_run(&state, 150, 160), 160);
	KUNIT_EXPECT_EQ(test, gmem_state_run(&state, 200, NR), NR);
	gmem_state_free(&state);
}

static void folio_order_follows_state(struct kunit *test)
{
	struct gmem_state state = { .kind = GMEM_ALL_PRIVATE };

	KUNIT_EXPECT_EQ(test, gmem_state_folio_order(&state, 700), GMEM_REGION_ORDER);
	/* One page, at either end of a region. */
	KUNIT_ASSERT_EQ(test, set(&state, 511, 512, false), 0);
	KUNIT_EXPECT_EQ(test, gmem_state_folio_order(&state, 0), 0);
	KUNIT_EXPECT_EQ(test, gmem_state_folio_order(&state, 511), 0);
	KUNIT_EXPECT_EQ(test, gmem_state_folio_order(&state, 512), GMEM_REGION_ORDER);
	KUNIT_ASSERT_EQ(test, set(&state, 512, 513, false), 0);
	KUNIT_EXPECT_EQ(test, gmem_state_folio_order(&state, 1023), 0);
	/* Two regions, each uniform, that differ. */
	KUNIT_ASSERT_EQ(test, set(&state, 0, 512, false), 0);
	KUNIT_ASSERT_EQ(test, set(&state, 512, 1024, true), 0);
	KUNIT_EXPECT_EQ(test, state.kind, GMEM_MIXED);
	KUNIT_EXPECT_EQ(test, gmem_state_folio_order(&state, 511), GMEM_REGION_ORDER);
	KUNIT_EXPECT_EQ(test, gmem_state_folio_order(&state, 512), GMEM_REGION_ORDER);
	gmem_state_free(&state);
}

/* Every pair of ranges, against a plain array. */
static void state_matches_array(struct kunit *test)
{
	static const unsigned long at[] = { 0, 1, 63, 64, 65, 511, 512, 1023, NR };
	struct gmem_state state = { .kind = GMEM_ALL_PRIVATE };
	bool *model = kunit_kzalloc(test, NR, GFP_KERNEL);
	unsigned long i, j, k, private;

	KUNIT_ASSERT_NOT_NULL(test, model);
	memset(model, true, NR);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		for (j = i + 1; j < ARRAY_SIZE(at); j++) {
			bool to = (i + j) & 1;

			KUNIT_ASSERT_EQ(test, set(&state, at[i], at[j], to), 0);
			memset(model + at[i], to, at[j] - at[i]);
			private = 0;
			for (k = 0; k < NR; k++) {
				private += model[k];
				if (gmem_state_private(&state, k) != model[k] ||
				    gmem_state_peek(&state, k) != model[k])
					KUNIT_FAIL(test, "page %lu after [%lu, %lu)",
						   k, at[i], at[j]);
			}
			KUNIT_EXPECT_EQ(test, gmem_state_nr_private(&state, NR), private);
			KUNIT_EXPECT_EQ(test, state.kind == GMEM_MIXED,
					private && private < NR);
		}
	}
	gmem_state_free(&state);
}

static void range_checks(struct kunit *test)
{
	const u64 size = 1ULL << 30;

	KUNIT_EXPECT_TRUE(test, gmem_range_ok(0, size, size));
	KUNIT_EXPECT_TRUE(test, gmem_range_ok(size - 4096, 4096, size));
	KUNIT_EXPECT_FALSE(test, gmem_range_ok(0, 0, size));
	KUNIT_EXPECT_FALSE(test, gmem_range_ok(1, 4096, size));
	KUNIT_EXPECT_FALSE(test, gmem_range_ok(0, 4095, size));
	KUNIT_EXPECT_FALSE(test, gmem_range_ok(size, 4096, size));
	KUNIT_EXPECT_FALSE(test, gmem_range_ok(4096, size, size));
	KUNIT_EXPECT_FALSE(test, gmem_range_ok(-4096ULL, 8192, size));
	KUNIT_EXPECT_FALSE(test, gmem_range_ok(4096, -4096ULL, size));
	KUNIT_EXPECT_FALSE(test, gmem_range_ok(-4096ULL, 4096, size));
}

static struct kunit_case gmem_state_cases[] = {
	KUNIT_CASE(state_whole_block_needs_no_bitmap),
	KUNIT_CASE(state_reserve_changes_nothing),
	KUNIT_CASE(state_becomes_mixed_and_uniform_again),
	KUNIT_CASE(state_of_whole_block_counts),
	KUNIT_CASE(state_runs),
	KUNIT_CASE(folio_order_follows_state),
	KUNIT_CASE(state_matches_array),
	{ }
};

static struct kunit_suite gmem_state_suite = {
	.name = "gmemfd-state",
	.test_cases = gmem_state_cases,
};

static struct kunit_case gmem_range_cases[] = {
	KUNIT_CASE(range_checks),
	{ }
};

static struct kunit_suite gmem_range_suite = {
	.name = "gmemfd-range",
	.test_cases = gmem_range_cases,
};

kunit_test_suites(&gmem_state_suite, &gmem_range_suite);

MODULE_DESCRIPTION("KUnit tests of gmemfd");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 *	bench ROUNDS SLOW-ROUNDS ROW...
 *
 * Peers that take seconds take part in SLOW-ROUNDS rounds; with -1 there are none at all.
 */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <time.h>

#include "bench.h"

static const struct row {
	const char *name;
	void (*run)(void);
} rows[] = {
	{ "a", row_out_and_back },
	{ "b", row_convert },
	{ "c", row_convert_page },
	{ "c-files", row_convert_page_files },
	{ "c-demote", row_demote },
	{ "d", row_boot_pattern },
	{ "e", row_many_ranges },
	{ "f", row_two_at_once },
	{ "g", row_first_touch },
	{ "h", row_guest },
	{ "i", row_memory },
	{ "j", row_others },
	{ "j-used", row_others_in_use },
	{ "l", row_secret },
	{ "m", row_qemu_boots },
	{ "n", row_qemu_migrates },
	{ "o", row_typed },
};

int bench_round;
bool bench_peers;
static int slow_rounds;
static const char *row_name;

bool round_for_slow(void)
{
	return bench_round < slow_rounds;
}

uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

/* scripts/lab --icount sets it to exactly that. */
bool clock_counts_instructions(void)
{
	static int known = -1;
	char line[4096];
	FILE *f;

	if (known >= 0)
		return known;
	f = fopen("/proc/cmdline", "r");
	EXPECT(f && fgets(line, sizeof(line), f));
	fclose(f);
	known = !!strstr(line, "tsc_early_khz=1000000 ");
	return known;
}

void tell(const char *who, const char *what, uint64_t size, uint64_t value)
{
	printf("%s\t%d\t%s\t%s\t%lu\t%lu\n", row_name, bench_round, who, what, size, value);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void tell_spread(const char *who, const char *what, uint64_t size, uint64_t *values,
		 unsigned int nr)
{
	char text[128];
	uint64_t sum = 0;
	const struct {
		const char *name;
		unsigned int at;
	} points[] = {
		{ "p50", nr / 2 }, { "p99", nr * 99 / 100 }, { "max", nr - 1 },
	};

	qsort(values, nr, sizeof(*values), compare);
	for (unsigned int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), "%s, %s", what, points[i].name);
		tell(who, text, size, values[points[i].at]);
	}
	for (unsigned int i = 0; i < nr; i++)
		sum += values[i];
	snprintf(text, sizeof(text), "%s, mean", what);
	tell(who, text, size, sum / nr);
}

void touch(char *p, size_t size)
{
	for (size_t i = 0; i < size; i += PAGE)
		*(volatile char *)(p + i) = 1;
}

static const struct row *find_row(const char *name)
{
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	}
	FAIL("no row %s", name);
}

/* For profile.py: where the modules are. */
static void print_modules(void)
{
	FILE *f = fopen("/proc/modules", "r");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		printf("# %s", line);
	if (f)
		fclose(f);
}

int main(int argc, char **argv)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	int rounds;

	if (argc < 4) {
		fprintf(stderr, "bench ROUNDS SLOW-ROUNDS ROW...\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	EXPECT_EQ(setrlimit(RLIMIT_MEMLOCK, &unlimited), 0);	/* memfd_secret's */
	print_modules();
	rounds = atoi(argv[1]);
	slow_rounds = atoi(argv[2]);
	bench_peers = slow_rounds >= 0;
	for (bench_round = 0; bench_round < rounds; bench_round++) {
		for (int i = 3; i < argc; i++) {
			const struct row *row = find_row(argv[i]);

			row_name = row->name;
			test_case(row_name);
			row->run();
		}
	}
	printf("done\n");
	return 0;
}

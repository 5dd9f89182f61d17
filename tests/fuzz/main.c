// SPDX-License-Identifier: GPL-2.0
/*
 * Rounds of random operations.  A round is a process that begins with nothing
 * and ends with nothing; all that it does follows from its own seed, so that a
 * difference is had again by its round alone.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fuzz.h"

#define QUIET	250U		/* steps between looks at the pools' counters */

static int nr_threads = 4, only_thread = -1;
static unsigned int steps_per_round = 10000;
static const char *left_out = "";
static uint64_t round_seed;
static struct thread threads[MAX_THREADS];
static struct progress *progress;	/* of all threads */
static bool *stop;
static pthread_barrier_t barrier;
static bool leave;

long pool_size[2];
uint64_t max_secret_entry;
bool has_typed;
static long free_before[2], reserved_before[2];

/* Against a child that inherits what another thread is about to exempt. */
pthread_rwlock_t fork_lock = PTHREAD_RWLOCK_INITIALIZER;

/* Where a thread expects a SIGBUS. */
static __thread sigjmp_buf sigbus_to;
static __thread volatile bool sigbus_expected;

static void on_sigbus(int sig)
{
	if (sigbus_expected)
		siglongjmp(sigbus_to, 1);
	signal(sig, SIG_DFL);
}

/* Without the system calls that saving the signal mask would be. */
bool load_page(const char *p, char *buf)
{
	if (sigsetjmp(sigbus_to, 0)) {
		sigbus_expected = false;
		return false;
	}
	sigbus_expected = true;
	memcpy(buf, p, PAGE);
	sigbus_expected = false;
	return true;
}

bool store_page(char *p, uint64_t tag)
{
	if (sigsetjmp(sigbus_to, 0)) {
		sigbus_expected = false;
		return false;
	}
	sigbus_expected = true;
	page_fill(p, tag);
	sigbus_expected = false;
	return true;
}

static void on_sigusr1(int sig)
{
	(void)sig;
}

void signals_start(struct thread *t, unsigned int usec, bool again)
{
	struct itimerspec when = { .it_value.tv_nsec = usec * 1000L };

	if (again)
		when.it_interval.tv_nsec = 2000000;
	EXPECT_EQ(timer_settime(t->timer, 0, &when, NULL), 0);
}

void signals_stop(struct thread *t)
{
	struct itimerspec never = { };

	EXPECT_EQ(timer_settime(t->timer, 0, &never, NULL), 0);
}

/* What is not to be done, see --without in main(). */
bool without(const char *what)
{
	return strstr(left_out, what);
}

/* Traces and reports */

void trace(struct thread *t, const char *fmt, long a, long b, long c, long d,
	   long e, long f)
{
	struct progress *p = t->progress;

	p->ops++;
	p->traces[p->next++ % TRACES] = (struct trace) {
		t->step, fmt, { a, b, c, d, e, f }
	};
}

static void print_traces(int id, unsigned int n)
{
	struct progress *p = &progress[id];

	for (unsigned int i = n < p->next ? p->next - n : 0; i < p->next; i++) {
		const struct trace *tr = &p->traces[i % TRACES];
		const long *a = tr->arg;

		printf("# %d:%lu ", id, tr->step);
		printf(tr->fmt, a[0], a[1], a[2], a[3], a[4], a[5]);
		printf("\n");
	}
}

void differ(struct thread *t, const char *fmt, ...)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	va_list ap;

	pthread_mutex_lock(&once);	/* for good: the first is told */
	print_traces(t->id, TRACES);
	printf("# thread %d, step %lu: ", t->id, t->step);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

/* Pages */

void page_fill(char *p, uint64_t tag)
{
	uint64_t *words = (uint64_t *)p;

	if (tag & 1) {
		for (unsigned int i = 0; i < PAGE / 8; i++)
			words[i] = tagged_word(tag, i);
		return;
	}
	memset(p, 0, PAGE);
	words[0] = tagged_word(tag, 0);
	words[255] = tagged_word(tag, 255);
	words[511] = tagged_word(tag, 511);
}

/* The first word that differs, or PAGE / 8. */
static unsigned int page_differs(const char *p, uint64_t tag)
{
	const uint64_t *words = (const uint64_t *)p;
	static const char zeros[PAGE];
	unsigned int i;

	/* What is quick for nearly all pages. */
	if (!(tag & 1) && words[0] == tagged_word(tag, 0) &&
	    words[255] == tagged_word(tag, 255) && words[511] == tagged_word(tag, 511) &&
	    !memcmp(words + 1, zeros, 254 * 8) && !memcmp(words + 256, zeros, 255 * 8))
		return PAGE / 8;
	for (i = 0; i < PAGE / 8 && words[i] == tagged_word(tag, i); i++)
		;
	return i;
}

bool page_is(const char *p, uint64_t tag)
{
	return page_differs(p, tag) == PAGE / 8;
}

void check_page(struct thread *t, const char *buf, uint64_t tag, const char *how,
		long page)
{
	unsigned int i = page_differs(buf, tag);

	AGREE(t, i == PAGE / 8, "%s: page %ld: word %u is %#lx, not %#lx of %#lx", how, page,
	      i, ((uint64_t *)buf)[i], tagged_word(tag, i), tag);
}

/* Never 0, nor the same twice in a thread; one in eight fills the page. */
uint64_t new_tag(struct thread *t)
{
	uint64_t n = mix(t->seed) + (++t->tags << 20 | t->id << 16);

	n = (n & ~1ULL) | (t->tags % 8 == 0);
	return n ?: 2;
}

/* A round */

static void check_pools(struct thread *t)
{
	static const size_t size[2] = { 2 * MB, GB };
	long used[2] = { }, reserved[2] = { };

	for (int i = 0; i < nr_threads; i++)
		for (int w = 0; w < 2; w++) {
			used[w] += progress[i].used[w];
			reserved[w] += progress[i].reserved[w];
		}
	shared_count(used, reserved);
	for (int w = 0; w < 2; w++)
		AGREE(t, EVENTUALLY(pool(size[w], "free_hugepages") == free_before[w] - used[w] &&
				    pool(size[w], "resv_hugepages") ==
				    reserved_before[w] + reserved[w]),
		      "pool of %lu MiB pages: %ld free and %ld reserved, not %ld and %ld",
		      size[w] / MB, pool(size[w], "free_hugepages"),
		      pool(size[w], "resv_hugepages"), free_before[w] - used[w],
		      reserved_before[w] + reserved[w]);
}

/* All threads come to rest, and one looks.  False if it is time to go. */
static bool quiet(struct thread *t)
{
	model_count(t);
	pthread_barrier_wait(&barrier);
	if (t == threads || t->id == only_thread) {
		check_pools(t);
		leave = *stop;
	}
	pthread_barrier_wait(&barrier);
	return !leave;
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1,
	};

	/* Others' children shall not inherit what we have open. */
	EXPECT_EQ(unshare(CLONE_FILES), 0);
	event._sigev_un._tid = syscall(SYS_gettid);
	EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &event, &t->timer), 0);
	EXPECT_EQ(pipe(t->pipe), 0);
	t->pagemap = open("/proc/self/pagemap", O_RDONLY);
	EXPECT(t->pagemap >= 0);
	t->buf = aligned_alloc(PAGE, PIN_PAGES * PAGE);
	pthread_rwlock_rdlock(&fork_lock);
	ring_set_up(t);
	pthread_rwlock_unlock(&fork_lock);
	shared_set_up(t);

	while (t->step < steps_per_round) {
		bool own;

		t->rng.state = mix(t->seed + ++t->step);
		own = below(&t->rng, 100) < 80;
		if (own)
			own_op(t);
		else
			shared_op(t);
		if (t->step % QUIET == 0 && !quiet(t))
			break;
	}
	t->rng.state = mix(t->seed);
	/* The VM, which may be bound to it, goes with the rest. */
	shared_finish(t);
	own_finish(t);
	quiet(t);
	return NULL;
}

static _Noreturn void run_round(uint64_t seed)
{
	struct sigaction bus = { .sa_handler = on_sigbus, .sa_flags = SA_NODEFER };
	struct sigaction usr1 = { .sa_handler = on_sigusr1, .sa_flags = SA_RESTART };
	struct rng rng = { .state = mix(seed) };
	pthread_t ids[MAX_THREADS];
	int owner[2];

	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGUSR1, &usr1, NULL);
	/* Who may use the pages of 1 GiB: threads, or the file of all. */
	for (int i = 0; i < 2; i++)
		owner[i] = i < pool_size[1] ? (int)below(&rng, nr_threads + 1) : -1;
	shared_create(seed, nr_threads, owner[0] == nr_threads || owner[1] == nr_threads);

	pthread_barrier_init(&barrier, NULL, only_thread < 0 ? nr_threads : 1);
	for (int i = 0; i < nr_threads; i++) {
		struct thread *t = &threads[i];

		*t = (struct thread) {
			.id = i, .seed = mix(seed + i), .progress = &progress[i],
			.may_have_1g = i == owner[0] || i == owner[1],
		};
	}
	for (int i = 0; i < nr_threads; i++)
		if (only_thread < 0 || only_thread == i)
			EXPECT_EQ(pthread_create(&ids[i], NULL, thread_main, &threads[i]), 0);
	for (int i = 0; i < nr_threads; i++)
		if (only_thread < 0 || only_thread == i)
			EXPECT_EQ(pthread_join(ids[i], NULL), 0);
	_exit(0);
}

static uint64_t operations(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < nr_threads; i++)
		sum += progress[i].ops;
	return sum;
}

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Wait for a round; false if it has failed or hangs. */
static bool wait_for_round(pid_t pid, time_t end)
{
	time_t moved = now(), limit = debug_kernel() ? 600 : 180;
	uint64_t last = 0;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		usleep(20000);
		if (now() >= end)
			*stop = true;
		if (operations() != last) {
			last = operations();
			moved = now();
		} else if (now() - moved > limit) {
			printf("# no operation has ended in %ld s\n", (long)limit);
			kill(pid, SIGKILL);	/* which may well hang, too */
			status = 1 << 8;
			break;
		}
	}
	if (!status)
		return true;
	if (WIFSIGNALED(status))
		printf("# killed by signal %d\n", WTERMSIG(status));
	for (int i = 0; i < nr_threads; i++)
		print_traces(i, 6);
	return false;
}

static bool counters_as_before(const long *map_before)
{
	static const char * const maps[] = { "DirectMap4k", "DirectMap2M", "DirectMap1G" };

	for (int w = 0; w < 2; w++)
		if (pool(w ? GB : 2 * MB, "free_hugepages") != free_before[w] ||
		    pool(w ? GB : 2 * MB, "resv_hugepages") != reserved_before[w])
			return false;
	for (int i = 0; i < 3; i++)
		if (meminfo(maps[i]) != map_before[i])
			return false;
	return mounts_empty();
}

/* The last one of that name counts. */
static const char *text_option(int argc, char **argv, const char *name)
{
	const char *text = NULL;

	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], name))
			text = argv[i + 1];
	return text;
}

static long option(int argc, char **argv, const char *name, long value)
{
	const char *text = text_option(argc, argv, name);

	return text ? (long)strtoul(text, NULL, 0) : value;
}

int main(int argc, char **argv)
{
	uint64_t seed = option(argc, argv, "--seed", mix(time(NULL)) >> 20);
	time_t start = now(), end, said = start;
	struct gmemfd_info info = { };
	uint64_t total = 0, rounds, wanted;
	long passing = 0, map_before[3];
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	end = start + option(argc, argv, "--seconds", 60);
	rounds = option(argc, argv, "--rounds", 1UL << 40);
	wanted = option(argc, argv, "--operations", 1UL << 40);
	nr_threads = option(argc, argv, "--threads", nr_threads);
	only_thread = option(argc, argv, "--thread", -1);
	steps_per_round = option(argc, argv, "--steps", debug_kernel() ? 5000 : steps_per_round);
	if (nr_threads < 1 || nr_threads > MAX_THREADS)
		return 2;
	/*
	 * late     names kept when the file is closed
	 * signals  signals during fallocate()
	 * stop     children stopped, frozen and killed
	 */
	left_out = text_option(argc, argv, "--without") ?: left_out;

	progress = mmap(NULL, MAX_THREADS * (sizeof(*progress) + PAGE) + PAGE,
			PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stop = (bool *)progress + MAX_THREADS * (sizeof(*progress) + PAGE);
	for (int i = 0; i < MAX_THREADS; i++)
		progress[i].page = (char *)progress + MAX_THREADS * sizeof(*progress) + i * PAGE;
	pool_size[0] = pool(2 * MB, "nr_hugepages");
	pool_size[1] = pool(GB, "nr_hugepages");
	EXPECT_EQ(ioctl(gmem_device(), GMEMFD_GET_INFO, &info), 0);
	max_secret_entry = info.max_secret_entry;
	has_typed = kvm_has_typed();

	mounts_set_up();
	if (!without("stop"))
		stop_set_up(nr_threads);
	printf("fuzz: seed %lu, %d threads%s\n", seed, nr_threads, has_typed ? ", typed VMs" : "");
	round_seed = seed;
	for (uint64_t n = 0; n < rounds && total < wanted && now() < end; n++) {
		for (int w = 0; w < 2; w++) {
			free_before[w] = pool(w ? GB : 2 * MB, "free_hugepages");
			reserved_before[w] = pool(w ? GB : 2 * MB, "resv_hugepages");
		}
		map_before[0] = meminfo("DirectMap4k");
		map_before[1] = meminfo("DirectMap2M");
		map_before[2] = meminfo("DirectMap1G");
		for (int i = 0; i < MAX_THREADS; i++)
			progress[i].ops = progress[i].next = progress[i].passing = 0;
		fflush(stdout);
		pid = fork();
		if (!pid)
			run_round(round_seed);
		if (!wait_for_round(pid, end) ||
		    !EVENTUALLY(counters_as_before(map_before))) {
			printf("# counters are%s as before the round\n",
			       counters_as_before(map_before) ? "" : " not");
			printf("fuzz: %lu operations, seed %lu, 1 difference: again with SEED=%lu ROUNDS=1\n",
			       total + operations(), seed, round_seed);
			return 1;
		}
		total += operations();
		for (int i = 0; i < nr_threads; i++)
			passing += progress[i].passing;
		if (now() - said >= 60) {
			said = now();
			printf("fuzz: %lu operations, round %lu was seed %lu, %ld s\n", total, n,
			       round_seed, (long)(said - start));
		}
		round_seed = mix(mix(seed) + n + 1) >> 20;
	}
	if (!without("stop"))
		stop_finish(nr_threads);
	mounts_finish();
	printf("fuzz: %lu operations, seed %lu, 0 differences (%ld s, %ld refusals in passing)\n",
	       total, seed, (long)(now() - start), passing);
	return 0;
}

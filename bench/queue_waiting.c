/* What a full queue costs: queue_waiting [waiting [threads [messages [rounds [dir]]]]]
 *
 * Two queues in one process, one of them empty, the other with WAITING deferred messages of one recipient each, to
 * 1,000 destinations.  In turn each takes MESSAGES more from THREADS threads: accept, lease, settle as delivered, all
 * of it synced.  Then the full one is closed, its files are dropped from the page cache, and it is opened again.
 *
 * `queue_waiting seed WAITING DIR` makes a full queue and leaves it; `queue_waiting load MESSAGES DIR` opens it and
 * takes MESSAGES in one thread, in load(), for callgrind's --toggle-collect=load. */
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "queue/queue.h"

enum { DESTINATIONS = 1000, SEEDERS = 64, BODY = 1024 };

static const struct queue_conf conf = { .shards = 4,
					.inline_max = 128 * 1024,
					.retry_first = 3600 * USEC_SEC,
					.retry_max = 4 * 3600 * USEC_SEC,
					.lifetime = 5 * 86400 * USEC_SEC,
					.retry_factor_percent = 200,
					.jitter_percent = 10 };
static char body[BODY];

static void die(const char *what, const struct err_info *info)
{
	fprintf(stderr, "queue_waiting: %s: %s\n", what, info ? info->text : "failed");
	exit(1);
}

/* WAIT: as queue_conf.open_wait. */
static struct queue *open_queue(const char *dir, usec wait)
{
	struct queue_conf c = conf;
	struct err_info info = { 0 };
	struct queue *q;
	c.dir = dir;
	c.open_wait = wait;
	if (queue_open(&c, &q, &info) < 0)
		die("queue_open", &info);
	return q;
}

static void accept_one(struct queue *q, unsigned i)
{
	char address[64], route[64];
	snprintf(address, sizeof(address), "somebody.%u@destination-%u.example", i,
		 i % DESTINATIONS);
	snprintf(route, sizeof(route), "smtp:destination-%u.example", i % DESTINATIONS);
	struct queue_rcpt_in r = { .address = span_str(address), .route = span_str(route) };
	struct queue_message_in m = { .id = id_new(),
				      .sender = SPAN("newsletter@sender.example"),
				      .body = span_of(body, BODY),
				      .size = BODY,
				      .rcpts = &r,
				      .n_rcpts = 1 };
	if (queue_accept(q, &m) < 0)
		die("queue_accept", NULL);
}

/* Leases what is next and settles it; false if nothing is due. */
static bool settle_one(struct queue *q, enum rcpt_outcome outcome)
{
	_cleanup_(arena_donep) struct arena mem;
	struct queue_lease l;
	usec next;
	arena_init(&mem);
	int r = queue_lease(q, &mem, &l, &next);
	if (r < 0)
		die("queue_lease", NULL);
	if (r == 0)
		return false;
	struct queue_result res = { .row = l.rcpts[0].row,
				    .outcome = outcome,
				    .reply = SPAN("450 4.2.0 the mailbox is busy, try again later"),
				    .status = "4.2.0",
				    .remote = SPAN("mx.destination.example[192.0.2.1]") };
	if (queue_settle(q, &l, &res, 1, NULL, &mem) < 0)
		die("queue_settle", NULL);
	return true;
}

struct work {
	struct queue *q;
	unsigned n;
	atomic_uint next;
	enum rcpt_outcome outcome;
};

static void *work(void *arg)
{
	struct work *w = arg;
	for (unsigned i; (i = atomic_fetch_add(&w->next, 1)) < w->n;) {
		accept_one(w->q, i);
		settle_one(w->q, w->outcome);
	}
	while (settle_one(w->q, w->outcome))
		;
	return NULL;
}

/* N messages through Q; microseconds of wall and CPU time each. */
static void load(struct queue *q, unsigned n, unsigned threads, enum rcpt_outcome outcome,
		 double *ret_wall, double *ret_cpu) __attribute__((noinline));
static void load(struct queue *q, unsigned n, unsigned threads, enum rcpt_outcome outcome,
		 double *ret_wall, double *ret_cpu)
{
	struct work w = { .q = q, .n = n, .outcome = outcome };
	pthread_t t[256];
	usec wall = clock_mono(), cpu = clock_cpu_process();
	for (unsigned i = 1; i < threads; i++)
		pthread_create(&t[i], NULL, work, &w);
	work(&w);
	for (unsigned i = 1; i < threads; i++)
		pthread_join(t[i], NULL);
	*ret_wall = (double)(clock_mono() - wall) / n;
	*ret_cpu = (double)(clock_cpu_process() - cpu) / n;
}

static long resident(void)
{
	char line[128];
	long kb = 0;
	malloc_trim(0);
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Pss: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb * 1024;
}

static void drop_from_cache(const char *dir)
{
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		int fd = openat(dirfd(d), e->d_name, O_RDONLY);
		if (fd < 0)
			continue;
		fdatasync(fd);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	if (d)
		closedir(d);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

/* The full queue's memory, and how soon it delivers after a restart at which all of it is due. */
static void restart(struct queue *full, const char *dir, unsigned waiting)
{
	_cleanup_(arena_donep) struct arena mem;
	struct queue_lease l;
	usec next;
	arena_init(&mem);
	queue_close(full);
	drop_from_cache(dir);
	long before = resident();
	clock_set_offset(86400 * USEC_SEC);
	usec start = clock_mono();
	full = open_queue(dir, USEC_SEC);
	if (queue_lease(full, &mem, &l, &next) != 1)
		die("nothing is due after the restart", NULL);
	usec leased = clock_mono();
	uint64_t messages, rcpts = 0, n_leased;
	while (rcpts < waiting) {
		usleep(10000);
		queue_stats(full, &messages, &rcpts, &n_leased);
	}
	usec read = clock_mono();
	printf("restart: first lease after %.2f s, all in memory after %.2f s; %.0f bytes resident "
	       "per waiting recipient\n",
	       (double)(leased - start) / 1e6, (double)(read - start) / 1e6,
	       (double)(resident() - before) / waiting);
	queue_close(full);
}

static void compare(unsigned waiting, unsigned threads, unsigned messages, unsigned rounds,
		    const char *dir)
{
	char empty_dir[300], full_dir[300];
	double wall, cpu, walls[2][100], cpus[2][100];
	snprintf(empty_dir, sizeof(empty_dir), "%s/empty", dir);
	snprintf(full_dir, sizeof(full_dir), "%s/full", dir);
	struct queue *q[2] = { open_queue(empty_dir, 0), open_queue(full_dir, 0) };
	long before = resident();
	load(q[1], waiting, SEEDERS, OUTCOME_DEFERRED, &wall, &cpu);
	printf("%u deferred in %.0f s; %.0f bytes resident each\n", waiting, wall * waiting / 1e6,
	       (double)(resident() - before) / waiting);
	for (unsigned r = 0; r < rounds; r++)
		for (int i = 0; i < 2; i++)
			load(q[i], messages, threads, OUTCOME_DELIVERED, &walls[i][r], &cpus[i][r]);
	for (int i = 0; i < 2; i++)
		printf("%7u waiting: %.0f messages/s, %.1f us CPU each (median of %u x %u, %u "
		       "threads)\n",
		       i ? waiting : 0, 1e6 / median(walls[i], rounds), median(cpus[i], rounds),
		       rounds, messages, threads);
	printf("full / empty: time %.2f, CPU %.2f\n",
	       median(walls[1], rounds) / median(walls[0], rounds),
	       median(cpus[1], rounds) / median(cpus[0], rounds));
	queue_close(q[0]);
	restart(q[1], full_dir, waiting);
}

static unsigned arg_or(int argc, char **argv, int i, unsigned def)
{
	return argc > i ? (unsigned)strtoul(argv[i], NULL, 10) : def;
}

int main(int argc, char **argv)
{
	double wall, cpu;
	char dir[256], cmd[300];
	failpoint_setup();
	memset(body, 'x', sizeof(body));
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && (!strcmp(argv[1], "seed") || !strcmp(argv[1], "load"))) {
		struct queue *q = open_queue(argv[3], 0);
		bool seed = argv[1][0] == 's';
		load(q, arg_or(argc, argv, 2, 0), seed ? SEEDERS : 1,
		     seed ? OUTCOME_DEFERRED : OUTCOME_DELIVERED, &wall, &cpu);
		queue_close(q);
		return 0;
	}
	snprintf(dir, sizeof(dir), "%s/queue_waiting.XXXXXX", argc > 5 ? argv[5] : "/tmp");
	if (!mkdtemp(dir))
		die("mkdtemp", NULL);
	compare(arg_or(argc, argv, 1, 1000000), MIN(arg_or(argc, argv, 2, 16), 256u),
		arg_or(argc, argv, 3, 10000), MIN(MAX(arg_or(argc, argv, 4, 5), 1u), 100u), dir);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd) == 0 ? 0 : 1;
}

/* Appends per second and CPU per append: store_append [accounts [threads [appends per thread [bytes
 * [dir]]]]] Every append is synced before it counts. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "store/store.h"

static struct store *store;
static unsigned n_accounts, n_threads, per_thread;
static struct buf body;

static void die(const char *what, const struct err_info *info)
{
	fprintf(stderr, "%s: %s\n", what, info ? info->text : "failed");
	exit(1);
}

static void account_id(unsigned i, char ret[17])
{
	/* spread over the folders like real ids */
	snprintf(ret, 17, "%016llx", (unsigned long long)(i + 1) * 0x9e3779b97f4a7c15ull);
}

static void *run(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg * 7919 + 1;
	struct store_message m = { .bytes = buf_span(&body), .spool_fd = -1 };
	for (unsigned i = 0; i < per_thread; i++) {
		char id[17];
		struct account *a = NULL;
		struct err_info info = { 0 };
		account_id((unsigned)rand_r(&seed) % n_accounts, id);
		if (account_get(store, span_str(id), &a, &info) != 0)
			die("account_get", &info);
		if (store_append(a, SPAN("INBOX"), false, &m, NULL, NULL) != 0)
			die("store_append", NULL);
		account_put(a);
	}
	return NULL;
}

static atomic_bool ended;

/* As the server does: checkpoints while mail flows. */
static void *maintain(void *arg)
{
	while (!atomic_load(&ended)) {
		store_maintain(store);
		usleep(100000);
	}
	return NULL;
}

static unsigned arg_or(int argc, char **argv, int i, unsigned def)
{
	return argc > i ? (unsigned)strtoul(argv[i], NULL, 10) : def;
}

int main(int argc, char **argv)
{
	n_accounts = arg_or(argc, argv, 1, 10);
	n_threads = arg_or(argc, argv, 2, 20);
	per_thread = arg_or(argc, argv, 3, 500);
	unsigned size = arg_or(argc, argv, 4, 4096);
	char dir[256];
	snprintf(dir, sizeof(dir), "%s/store_append.XXXXXX", argc > 5 ? argv[5] : "/tmp");
	if (!mkdtemp(dir))
		die("mkdtemp", NULL);
	failpoint_setup();
	buf_init(&body, 1u << 30);
	buf_put_str(&body,
		    "From: Ada <ada@example.org>\r\nTo: bob@example.net\r\nSubject: measured\r\n"
		    "Message-ID: <1@example.org>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\n");
	while (body.n < size)
		buf_put_str(&body,
			    "A line of text that makes the message as long as it shall be.\r\n");
	struct store_conf conf = { .dir = dir, .max_open = n_accounts, .inline_max = 128 * 1024 };
	struct err_info info = { 0 };
	if (store_open(&conf, &store, &info) != 0)
		die("store_open", &info);
	for (unsigned i = 0; i < n_accounts; i++) {
		char id[17];
		account_id(i, id);
		if (account_create(store, span_str(id), &info) != 0)
			die("account_create", &info);
	}
	pthread_t *t = xcalloc(n_threads, sizeof(*t));
	pthread_t maintainer;
	pthread_create(&maintainer, NULL, maintain, NULL);
	usec wall = clock_mono(), cpu = clock_cpu_process();
	for (unsigned i = 0; i < n_threads; i++)
		pthread_create(&t[i], NULL, run, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < n_threads; i++)
		pthread_join(t[i], NULL);
	wall = clock_mono() - wall;
	cpu = clock_cpu_process() - cpu;
	unsigned n = n_threads * per_thread;
	printf("store_append accounts=%u threads=%u bytes=%u: %.0f appends/s, %.1f us CPU each\n",
	       n_accounts, n_threads, (unsigned)body.n, n / ((double)wall / 1e6), (double)cpu / n);
	atomic_store(&ended, true);
	pthread_join(maintainer, NULL);
	store_close(store);
	free(t);
	buf_done(&body);
	char cmd[300];
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd) == 0 ? 0 : 1;
}

/* queue: the process dies at every failpoint of queue.h's table; what was answered must be there.
 */
#include "fixture.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "base/failpoint.h"

#ifdef POSTRIDER_FAILPOINTS

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	fixture_init(f, 1);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	int r = fixture_done(*state);
	free(*state);
	return r;
}

/* Runs STEPS in a child that dies at POINT.  Returns how far it reported to have come. */
static int die_at(struct fixture *f, const char *point,
		  void (*steps)(struct fixture *f, int report))
{
	int p[2], status;
	char how_far = 0, c;
	assert_null(f->q);
	assert_int_equal(pipe(p), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setenv("POSTRIDER_FAILPOINT", point, 1);
		failpoint_setup();
		struct err_info info;
		if (queue_open(&f->conf, &f->q, &info) < 0)
			_exit(1);
		steps(f, p[1]);
		_exit(2);
	}
	close(p[1]);
	while (read(p[0], &c, 1) == 1)
		how_far = c;
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("%s was not passed: status %x", point, status);
	reopen(f);
	return how_far;
}

static void tell(int fd, char c)
{
	if (write(fd, &c, 1) != 1)
		_exit(3);
}

static void must(int r)
{
	if (r < 0)
		_exit(4);
}

static char big_body[20000];

static void steps_accept(struct fixture *f, int report)
{
	struct queue_rcpt_in r = to("a@here.test", "local");
	must(accept_body(f, span_of(big_body, sizeof(big_body)), &r, 1, NULL));
	tell(report, 1);
	must(accept_body(f, SPAN("small"), &r, 1, NULL));
	tell(report, 2);
}

/* One local and one remote recipient; the remote one fails and a DSN comes back. */
static void steps_settle(struct fixture *f, int report)
{
	struct queue_rcpt_in r[] = { to("a@here.test", "local"), to("b@x.test", "smtp:x.test") };
	struct queue_rcpt_in back = to("from@example.org", "smtp:dsn");
	struct queue_lease l;
	must(accept_body(f, span_of(big_body, sizeof(big_body)), r, 2, NULL));
	tell(report, 1);
	while (lease(f, &l)) {
		bool local = span_eq_str(l.route, "local");
		struct queue_result res = { .row = l.rcpts[0].row,
					    .outcome = local ? OUTCOME_DELIVERED : OUTCOME_FAILED };
		struct queue_message_in dsn = { .id = id_new(),
						.body = SPAN("sorry"),
						.size = 5,
						.is_dsn = true,
						.rcpts = &back,
						.n_rcpts = 1 };
		back.not_before = clock_wall() + HOUR;
		must(queue_settle(f->q, &l, &res, 1, local ? NULL : &dsn, &f->mem));
		tell(report, local ? 2 : 3);
	}
	struct queue_key *k;
	size_t n;
	must(queue_keys_take(f->q, 10, &f->mem, &k, &n));
	must(queue_key_done(f->q, k, n));
	tell(report, 4);
}

static size_t n_entries(struct fixture *f)
{
	return list(f, (struct queue_filter){ .any = true }, NULL);
}

static size_t n_keys(struct fixture *f)
{
	struct queue_key *k;
	size_t n;
	assert_int_equal(queue_keys_take(f->q, 10, &f->mem, &k, &n), 0);
	return n;
}

/* Makes all blobs two days old, then sweeps. */
static void sweep_later(struct fixture *f)
{
	char cmd[160];
	snprintf(cmd, sizeof(cmd), "touch -d '2 days ago' %s/blobs/* 2>/dev/null || true", f->dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(queue_sweep(f->q), 0);
}

static void large_body_before_link(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(die_at(f, "queue.blob.before_link", steps_accept), 0);
	assert_int_equal(n_entries(f), 0);
	assert_int_equal(count_blobs(f), 0);
}

static void large_body_after_link(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(die_at(f, "queue.blob.after_link", steps_accept), 0);
	assert_int_equal(n_entries(f), 0);
	assert_int_equal(count_blobs(f), 1);
	assert_int_equal(queue_sweep(f->q), 0);
	assert_int_equal(count_blobs(f),
			 1); /* younger than a day: may belong to an accept under way */
	sweep_later(f);
	assert_int_equal(count_blobs(f), 0);
}

static void accept_around_the_commit(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(die_at(f, "queue.accept.before_commit:2", steps_accept), 1);
	assert_int_equal(n_entries(f), 1);
	sweep_later(f);
	assert_int_equal(count_blobs(f), 1); /* has a row: the sweep leaves it */
	struct queue_lease l;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(sizeof(big_body));
	assert_true(lease(f, &l));
	assert_int_equal(queue_body_read(f->q, &l, 0, UINT64_MAX, &b), 0);
	assert_int_equal(b.n, sizeof(big_body));
	queue_close(f->q);
	f->q = NULL;
	assert_int_equal(die_at(f, "queue.accept.after_commit:2", steps_accept), 1);
	assert_int_equal(n_entries(f), 3); /* stored though not answered: allowed */
}

static void settle_around_the_commit(void **state)
{
	struct fixture *f = *state;
	struct queue_entry *e;
	assert_int_equal(die_at(f, "queue.settle.before_commit", steps_settle), 1);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, &e), 1);
	assert_int_equal(e[0].n_rcpts, 2); /* leased is waiting again (Q2) */
	assert_false(e[0].rcpts[0].leased);
}

static void settle_after_the_last_commit(void **state)
{
	struct fixture *f = *state;
	struct queue_entry *e;
	assert_int_equal(die_at(f, "queue.settle.after_commit:2", steps_settle), 2);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, &e),
			 1); /* Q6: the DSN, once */
	assert_int_equal(e[0].sender.n, 0);
	assert_int_equal(n_keys(f), 1);
	sweep_later(f);
	assert_int_equal(count_blobs(f), 0);
}

static void message_gone_blob_left(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(die_at(f, "queue.remove.before_unlink", steps_settle), 2);
	assert_int_equal(n_entries(f), 1);
	assert_int_equal(count_blobs(f), 1);
	sweep_later(f);
	assert_int_equal(count_blobs(f), 0);
}

static void keys_dropped(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(die_at(f, "queue.key.after_commit", steps_settle), 3);
	assert_int_equal(n_keys(f), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(large_body_before_link),
		T(large_body_after_link),
		T(accept_around_the_commit),
		T(settle_around_the_commit),
		T(settle_after_the_last_commit),
		T(message_gone_blob_left),
		T(keys_dropped),
	};
	memset(big_body, 'x', sizeof(big_body));
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	puts("1..0 # SKIP built without failpoints");
	return 77;
}

#endif

/* queue: opening one that is too long to be read at once.  What was read is delivered meanwhile, once. */
#include "fixture.h"

enum { MANY = 3000 };

static int setup(void **state)
{
	static struct fixture f;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	fixture_init(&f, 3);
	reopen(&f);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(accept_body(&f, SPAN("m"), &r, 1, NULL), 0);
	f.conf.open_wait = 1; /* no more than a look */
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	return fixture_done(*state);
}

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct id));
}

static void each_is_delivered_once(void **state)
{
	struct fixture *f = *state;
	static struct id seen[MANY + 10];
	struct queue_rcpt_in r = to("b@x.test", "smtp:x.test");
	size_t n = 0;
	reopen(f);
	for (int i = 0; i < 10; i++) /* comes while the shards are read */
		assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	while (n < MANY + 10) {
		struct queue_lease l;
		if (!lease(f, &l)) {
			usleep(1000);
			continue;
		}
		seen[n++] = l.id;
		assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
		arena_reset(&f->mem);
	}
	qsort(seen, n, sizeof(seen[0]), by_id);
	for (size_t i = 1; i < n; i++)
		assert_false(id_eq(&seen[i - 1], &seen[i]));
	f->conf.open_wait = 0;
	reopen(f);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 0);
}

/* A change by hand means all that waits, read or not. */
static void changes_mean_all(void **state)
{
	struct fixture *f = *state;
	struct queue_filter any = { .any = true };
	size_t n;
	reopen(f);
	assert_int_equal(queue_hold(f->q, &any, &n), 0);
	assert_int_equal(n, MANY);
	assert_int_equal(queue_unhold(f->q, &any, &n), 0);
	assert_int_equal(n, MANY);
}

/* It may be closed at any time. */
static void closed_while_read(void **state)
{
	struct fixture *f = *state;
	uint64_t messages, rcpts, leased;
	for (int i = 0; i < 20; i++)
		reopen(f);
	f->conf.open_wait = 0;
	reopen(f);
	queue_stats(f->q, &messages, &rcpts, &leased);
	assert_int_equal(rcpts, MANY);
}

/* Who waits to be told hears of what is read late. */
static void told(void *arg)
{
	atomic_store((atomic_bool *)arg, true);
}

static void the_hook_is_called(void **state)
{
	struct fixture *f = *state;
	struct queue_lease l;
	atomic_bool called = false;
	size_t n = 0;
	reopen(f);
	queue_on_due(f->q, told, &called);
	while (n < MANY) {
		if (lease(f, &l)) {
			n++;
			arena_reset(&f->mem);
			continue;
		}
		while (n < MANY && !atomic_load(&called))
			usleep(1000); /* for ever, if nobody calls */
		atomic_store(&called, false);
	}
	queue_on_due(f->q, NULL, NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(each_is_delivered_once), T(changes_mean_all),
					    T(closed_while_read), T(the_hook_is_called) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}

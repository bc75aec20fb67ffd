/* queue: who comes first among those that are due. */
#include "fixture.h"

static int setup(void **state)
{
	static struct fixture f;
	fixture_init(&f, 3);
	reopen(&f);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	return fixture_done(*state);
}

static void accept_at(struct fixture *f, int priority, const char *address, const char *route,
		      usec not_before)
{
	struct queue_rcpt_in r = to(address, route);
	struct queue_message_in m = { .id = id_new(),
				      .sender = SPAN("from@example.org"),
				      .body = SPAN("m"),
				      .size = 1,
				      .terms = { .priority = (int8_t)priority },
				      .rcpts = &r,
				      .n_rcpts = 1 };
	r.not_before = not_before;
	assert_int_equal(queue_accept(f->q, &m), 0);
	pass_time(USEC_SEC);
}

/* All that is due, in its order: the first letters of the addresses. */
static void order_is(struct fixture *f, const char *route, const char *want)
{
	char got[64] = "";
	struct queue_lease l[64];
	size_t n = 0;
	usec next;
	while ((route ? queue_lease_route(f->q, span_str(route), &f->mem, &l[n])
		      : queue_lease(f->q, &f->mem, &l[n], &next)) == 1) {
		got[n] = l[n].rcpts[0].address.p[0];
		n++;
	}
	assert_string_equal(got, want);
	while (n > 0)
		queue_release(f->q, &l[--n]);
}

/* Higher first; the oldest first among equals; over a restart and of one route too. */
static void higher_first(void **state)
{
	struct fixture *f = *state;
	accept_at(f, 0, "a@x.test", "smtp:x.test", 0);
	accept_at(f, -9, "b@y.test", "smtp:y.test", 0);
	accept_at(f, 9, "c@x.test", "smtp:x.test", 0);
	accept_at(f, 0, "d@x.test", "smtp:x.test", 0);
	accept_at(f, 9, "e@y.test", "smtp:y.test", 0);
	accept_at(f, 1, "f@x.test", "smtp:x.test", 0);
	for (int i = 0; i < 2; i++) {
		order_is(f, NULL, "cefadb");
		order_is(f, "smtp:x.test", "cfad");
		order_is(f, "smtp:y.test", "eb");
		reopen(f);
	}
}

/* Urgency does not make due. */
static void not_before_its_time(void **state)
{
	struct fixture *f = *state;
	usec then = clock_wall() + HOUR;
	accept_at(f, 9, "a@x.test", "smtp:x.test", then);
	accept_at(f, -9, "b@x.test", "smtp:x.test", 0);
	order_is(f, NULL, "b");
	order_is(f, "smtp:x.test", "b");
	pass_time(HOUR);
	order_is(f, "smtp:x.test", "ab");
}

/* A retry is as urgent as its message. */
static void retries_too(void **state)
{
	struct fixture *f = *state;
	struct queue_lease l;
	accept_at(f, -1, "a@x.test", "smtp:x.test", 0);
	accept_at(f, 1, "b@x.test", "smtp:x.test", 0);
	while (lease(f, &l))
		assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED, 0), 0);
	pass_time(20 * MINUTE);
	accept_at(f, 0, "c@x.test", "smtp:x.test", 0);
	order_is(f, NULL, "bca");
}

/* A stream of urgent messages that takes all there is: the least urgent one gets through. */
static void nothing_starves(void **state)
{
	struct fixture *f = *state;
	struct queue_lease l;
	usec start = clock_wall();
	bool seen = false;
	accept_at(f, -9, "a@x.test", "smtp:x.test", 0);
	for (int i = 0; i < 2; i++)
		accept_at(f, 9, "b@x.test", "smtp:x.test", 0);
	while (!seen) {
		accept_at(f, 9, "b@x.test", "smtp:x.test", 0); /* as many as go */
		assert_true(lease(f, &l));
		seen = l.rcpts[0].address.p[0] == 'a';
		assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
		pass_time(10 * MINUTE);
	}
	assert_in_range(clock_wall() - start, 8 * HOUR, 10 * HOUR);
}

/* Many that become due at once are all there, in order, also behind a route that is held. */
static void many_at_once(void **state)
{
	struct fixture *f = *state;
	enum { MANY = 1200 };
	usec then = clock_wall() + 10 * HOUR, next;
	struct queue_lease l;
	for (int i = 0; i < MANY; i++) {
		struct queue_rcpt_in r = to("a@x.test", "smtp:held.test");
		r.not_before = then;
		assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	}
	accept_at(f, 0, "b@y.test", "smtp:y.test", then + 1);
	queue_hold_route(f->q, SPAN("smtp:held.test"));
	pass_time(11 * HOUR);
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 1);
	assert_int_equal(l.rcpts[0].address.p[0], 'b');
	assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 0);
	assert_int_equal(next, 0);
	queue_resume_route(f->q, SPAN("smtp:held.test"));
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 1);
		assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
		arena_reset(&f->mem);
	}
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 0);
}

/* After a jump of the clock the schedule's own times change, those that somebody asked for do not:
 * what stood first and now is late keeps nothing back that was behind it. */
static void order_after_a_jump(void **state)
{
	struct fixture *f = *state;
	enum { MANY = 200 };
	struct queue_lease l;
	usec next;
	size_t n = 0;
	for (int i = 0; i < MANY; i++) {
		accept_at(f, 0, "b@x.test", "smtp:x.test", 0);
		assert_true(lease(f, &l));
		assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED, 0), 0);
		accept_at(f, 0, "a@x.test", "smtp:x.test",
			  clock_wall() + 10 * MINUTE + i * 37 % 600 * USEC_SEC);
	}
	pass_time(-100 * HOUR);
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 0);
	pass_time(5 * HOUR);
	for (; lease(f, &l); n++)
		assert_int_equal(l.rcpts[0].address.p[0], 'b');
	assert_int_equal(n, MANY);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(higher_first), T(not_before_its_time),
					    T(retries_too),  T(nothing_starves),
					    T(many_at_once), T(order_after_a_jump) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}

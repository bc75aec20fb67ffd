/* queue: what is done by hand: hold, release, reroute, leases by filter, and what filters mean. */
#include "fixture.h"

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	fixture_init(f, 3);
	reopen(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	int r = fixture_done(*state);
	free(*state);
	return r;
}

static const struct queue_filter all = { .any = true };

static struct queue_filter by_to(const char *address)
{
	return (struct queue_filter){ .to = span_str(address) };
}

static size_t in_state(struct fixture *f, enum queue_state s)
{
	return list(f, (struct queue_filter){ .state = s }, NULL);
}

static void held_is_not_leased(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@x.test", "smtp:x.test") };
	struct queue_filter a = by_to("a@x.test");
	struct queue_lease l;
	struct queue_entry *e;
	size_t n;
	uint64_t messages, rcpts, leased;
	assert_int_equal(accept_body(f, SPAN("m"), r, 2, NULL), 0);
	assert_int_equal(queue_hold(f->q, &a, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(queue_hold(f->q, &a, &n), 0);
	assert_int_equal(n, 0);
	for (int i = 0; i < 2; i++) { /* the other one goes its way; then after a restart */
		assert_true(lease(f, &l));
		assert_int_equal(l.n_rcpts, 1);
		assert_true(span_eq_str(l.rcpts[0].address, "b@x.test"));
		assert_false(lease(f, &l));
		assert_int_equal(queue_lease_route(f->q, SPAN("smtp:x.test"), &f->mem, &l), 0);
		reopen(f);
	}
	assert_int_equal(list(f, all, &e), 1);
	assert_true(e->rcpts[0].held && !e->rcpts[1].held);
	assert_int_equal(queue_retry(f->q, &a, &n), 0);
	assert_int_equal(n, 0);

	/* Held for longer than its life: it waits, and may be tried once it is released. */
	pass_time(200 * HOUR);
	queue_clock_changed(f->q);
	assert_true(lease(f, &l));
	assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	assert_false(lease(f, &l));
	queue_stats(f->q, &messages, &rcpts, &leased);
	assert_int_equal(messages, 1);
	assert_int_equal(rcpts, 1);
	assert_int_equal(leased, 0);
	assert_int_equal(in_state(f, QUEUE_HELD), 1);
	assert_int_equal(in_state(f, QUEUE_WAITING), 0);
	assert_int_equal(queue_unhold(f->q, &all, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(queue_unhold(f->q, &all, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(in_state(f, QUEUE_WAITING), 1);
	assert_true(lease(f, &l));
	assert_true(span_eq_str(l.rcpts[0].address, "a@x.test"));
	assert_int_equal(in_state(f, QUEUE_DELIVERING), 1);
	assert_int_equal(queue_hold(f->q, &all, &n), 0);
	assert_int_equal(n, 0); /* in delivery: left alone */
	assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	assert_int_equal(list(f, all, NULL), 0);
}

static void held_can_be_dropped(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@x.test", "smtp:x.test") };
	size_t n;
	uint64_t messages, rcpts, leased;
	assert_int_equal(accept_body(f, SPAN("m"), r, 2, NULL), 0);
	assert_int_equal(queue_hold(f->q, &all, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(queue_drop(f->q, &all, &n), 0);
	assert_int_equal(n, 2);
	queue_stats(f->q, &messages, &rcpts, &leased);
	assert_int_equal(messages + rcpts + leased, 0);
}

/* What an alias sent on keeps the reverse-path that it was given. */
static void reroute_keeps_the_reverse_path(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "srs+smtp:x.test") };
	struct queue_lease l;
	size_t n;
	assert_int_equal(accept_body(f, SPAN("m"), r, 1, NULL), 0);
	assert_int_equal(queue_reroute(f->q, &all, SPAN("via:smart"), &n), 0);
	for (int i = 0; i < 2; i++) {
		assert_true(lease(f, &l));
		assert_true(span_eq_str(l.route, "srs+via:smart"));
		reopen(f);
	}
}

static void reroute_is_durable(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@y.test", "smtp:y.test"),
				     to("c@here.test", "local"), to("d@here.test", "local:junk") };
	struct queue_lease l;
	size_t n;
	assert_int_equal(accept_body(f, SPAN("m"), r, 4, NULL), 0);
	assert_int_equal(queue_reroute(f->q, &all, SPAN("smtp:[relay.test]:2525"), &n), 0);
	assert_int_equal(n, 2); /* what is for here stays here */
	for (int i = 0; i < 2; i++) {
		size_t away = 0;
		while (lease(f, &l)) {
			char who = l.rcpts[0].address.p[0];
			assert_true(span_eq_str(l.route, who == 'c'   ? "local"
							 : who == 'd' ? "local:junk"
								      : "smtp:[relay.test]:2525"));
			away += l.n_rcpts;
		}
		assert_int_equal(away, 4);
		reopen(f);
	}
}

static int fail_all(void *arg, const struct queue_lease *l)
{
	struct fixture *f = arg;
	return settle_all(f, l, OUTCOME_FAILED, 0);
}

static int release_all(void *arg, const struct queue_lease *l)
{
	struct fixture *f = arg;
	queue_release(f->q, l);
	return 0;
}

static int stop(void *arg, const struct queue_lease *l)
{
	struct fixture *f = arg;
	queue_release(f->q, l);
	return ERR_IO;
}

static void leases_by_filter(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@x.test", "smtp:x.test") };
	struct queue_filter a = by_to("a@x.test"), none = { 0 };
	struct queue_lease l;
	uint64_t messages, rcpts, leased;
	size_t n;
	for (int i = 0; i < 5; i++)
		assert_int_equal(accept_body(f, SPAN("m"), r, 2, NULL), 0);
	assert_int_equal(queue_hold(f->q, &a, &n), 0);
	assert_int_equal(queue_lease_matching(f->q, &none, fail_all, f), 0);
	assert_int_equal(queue_lease_matching(f->q, &a, stop, f), ERR_IO);
	assert_int_equal(queue_lease_matching(f->q, &a, release_all, f), 0);
	queue_stats(f->q, &messages, &rcpts, &leased);
	assert_int_equal(rcpts, 10);
	assert_int_equal(leased, 0);
	assert_int_equal(in_state(f, QUEUE_HELD), 5); /* still */
	assert_true(lease(f, &l));
	assert_int_equal(queue_lease_matching(f->q, &all, fail_all, f), 0);
	assert_int_equal(list(f, all, NULL), 1); /* the one in delivery */
	queue_stats(f->q, &messages, &rcpts, &leased);
	assert_int_equal(rcpts, 1);
	assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	reopen(f);
	assert_int_equal(list(f, all, NULL), 0);
}

static void filters(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@y.test", "smtp:y.test") };
	struct queue_entry *e;
	struct queue_lease l;
	size_t n;
	assert_int_equal(accept_body(f, SPAN("old"), r, 2, NULL), 0);
	usec between = clock_wall() + MINUTE;
	pass_time(HOUR);
	assert_int_equal(accept_body(f, SPAN("new"), r, 2, NULL), 0);
	assert_int_equal(list(f, (struct queue_filter){ .accepted_before = between }, NULL), 1);
	assert_int_equal(list(f, (struct queue_filter){ .reply = SPAN("REPLY t") }, NULL), 0);
	assert_true(lease(f, &l));
	assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED, 0), 0);
	assert_int_equal(list(f, (struct queue_filter){ .reply = SPAN("REPLY t") }, &e), 1);
	assert_int_equal(e->n_rcpts, 2);
	assert_int_equal(e->rcpts[0].fits + e->rcpts[1].fits, 1);
	/* Each one alone fits something, both together nothing. */
	assert_int_equal(list(f,
			      (struct queue_filter){ .domain = SPAN("y.test"),
						     .reply = SPAN("reply"),
						     .accepted_before = between },
			      NULL),
			 span_eq_str(l.route, "smtp:y.test"));
	struct queue_filter delivering = { .state = QUEUE_DELIVERING },
			    held = { .state = QUEUE_HELD };
	assert_true(lease(f, &l));
	assert_int_equal(queue_drop(f->q, &delivering, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(queue_hold(f->q, &held, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(queue_drop(f->q, &(struct queue_filter){ 0 }, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(queue_drop(f->q, &(struct queue_filter){ .remote = true }, &n), 0);
	assert_int_equal(n, 0);
}

/* An alias's targets wait under the id of the rest: no page may end between them unseen. */
static void pages_of_one_id(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_message_in m = { .sender = SPAN("from@example.org"),
				      .body = SPAN("m"),
				      .size = 1,
				      .rcpts = &r,
				      .n_rcpts = 1 };
	for (int i = 0; i < 4; i++) {
		m.id = id_new();
		for (int j = 0; j < 5; j++) {
			char once[8];
			snprintf(once, sizeof(once), "%d.%d", i, j); /* spreads them over shards */
			m.once = j < 3 ? span_str(once) : SPAN_NULL;
			assert_int_equal(queue_accept(f->q, &m), 0);
		}
	}
	for (size_t max = 1; max < 8; max++) {
		struct queue_cursor at = { 0 };
		size_t seen = 0, n;
		do {
			struct queue_entry *e;
			assert_int_equal(queue_list(f->q, &all, &at, max, &f->mem, &e, &n), 0);
			assert_true(n <= max);
			seen += n;
		} while (at.more);
		assert_int_equal(seen, 20);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(held_is_not_leased), T(held_can_be_dropped),
		T(reroute_is_durable), T(reroute_keeps_the_reverse_path),
		T(leases_by_filter),   T(filters),
		T(pages_of_one_id)
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

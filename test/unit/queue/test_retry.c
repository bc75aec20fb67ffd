/* queue: every rule of retrying under a virtual clock: when each attempt comes, and which is the
 * last. */
#include "fixture.h"

/* As the configuration's defaults, and one rule of each other kind. */
static const struct queue_rule rules[] = {
	{ .match = SPAN("greylist"),
	  .first = 2 * MINUTE,
	  .factor_percent = 150,
	  .max = 30 * MINUTE },
	{ .match = SPAN("mailbox_full"), .first = 30 * MINUTE, .max = 12 * HOUR },
	{ .match = SPAN("421"), .first = 1 * MINUTE, .max = 2 * MINUTE },
	{ .match = SPAN("4.7.1"), .factor_percent = 100, .lifetime = 24 * HOUR },
	{ .match = SPAN("connect"), .lifetime = 48 * HOUR },
	{ .match = SPAN("dns"), .first = 10 * MINUTE, .factor_percent = 300 },
	{ .match = SPAN("tls"), .first = HOUR, .max = HOUR },
	{ .match = SPAN("any"),
	  .min_priority = 4,
	  .first = MINUTE,
	  .factor_percent = 150,
	  .max = 30 * MINUTE },
};

static int setup(void **state)
{
	static struct fixture f;
	fixture_init(&f, 2);
	f.conf.rules = rules;
	f.conf.n_rules = ARRAY_LEN(rules);
	reopen(&f);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	return fixture_done(*state);
}

static void accept_with(struct fixture *f, struct queue_terms terms)
{
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_message_in m = { .id = id_new(),
				      .sender = SPAN("from@example.org"),
				      .body = SPAN("m"),
				      .size = 1,
				      .terms = terms,
				      .rcpts = &r,
				      .n_rcpts = 1 };
	assert_int_equal(queue_accept(f->q, &m), 0);
}

/* Lets time pass until the next lease. */
static void await(struct fixture *f, struct queue_lease *l)
{
	usec next;
	while (queue_lease(f->q, &f->mem, l, &next) == 0) {
		assert_true(next > clock_wall());
		pass_time(next - clock_wall());
	}
}

struct scenario {
	const char *reply, *status;
	int priority;
	usec first, max;
	unsigned factor_percent;
	usec lifetime;
};

static void defer(struct fixture *f, const struct queue_lease *l, const struct queue_result *like)
{
	struct queue_result r = *like;
	r.row = l->rcpts[0].row;
	assert_int_equal(queue_settle(f->q, l, &r, 1, NULL, &f->mem), 0);
}

/* Follows one message that meets the same answer at each attempt to its end. */
static void follow(struct fixture *f, const struct scenario *s)
{
	struct queue_result r = { .outcome = OUTCOME_DEFERRED, .reply = span_str(s->reply) };
	struct queue_lease l;
	usec start = clock_wall(), last = start, want = s->first;
	snprintf(r.status, sizeof(r.status), "%s", s->status);
	accept_with(f, (struct queue_terms){ .priority = (int8_t)s->priority });
	for (unsigned attempt = 1;; attempt++) {
		await(f, &l);
		usec now = clock_wall();
		if (attempt > 1) {
			assert_in_range(now - last, want / 100 * 89, want / 100 * 111);
			want = MIN(want / 100 * s->factor_percent, s->max);
		}
		last = now;
		if (queue_expired(f->q, &l, &r, now))
			break;
		assert_true(now - start <= s->lifetime);
		defer(f, &l, &r);
		if (attempt % 7 == 0)
			reopen(f); /* the rules hold over a restart */
	}
	assert_in_range(last - start, s->lifetime, s->lifetime + s->max / 100 * 112);
	assert_int_equal(settle_all(f, &l, OUTCOME_FAILED, 0), 0);
}

static void each_rule(void **state)
{
	struct fixture *f = *state;
	const usec first = f->conf.retry_first, max = f->conf.retry_max, life = f->conf.lifetime;
	const struct scenario all[] = {
		{ "451 4.3.0 no rule", "4.3.0", 0, first, max, 200, life },
		{ "450 4.2.0 Greylisted", "4.2.0", 0, 2 * MINUTE, 30 * MINUTE, 150, life },
		{ "452 4.2.2 over quota", "4.2.2", 0, 30 * MINUTE, 12 * HOUR, 200, life },
		{ "421 4.3.2 shutting down", "4.3.2", 0, MINUTE, 2 * MINUTE, 200, life },
		{ "451 4.7.1 not now", "4.7.1", 0, first, max, 100, 24 * HOUR },
		{ "connection refused", "4.4.1", 0, first, max, 200, 48 * HOUR },
		{ "no answer to DATA: closed", "4.4.2", 0, first, max, 200, 48 * HOUR },
		{ "MX look-up: time-out", "4.4.3", 0, 10 * MINUTE, max, 300, life },
		{ "the certificate does not fit", "4.7.5", 0, HOUR, HOUR, 200, life },
		{ "451 4.3.0 no rule", "4.3.0", 4, MINUTE, 30 * MINUTE, 150, life },
		{ "451 4.3.0 no rule", "4.3.0", 3, first, max, 200, life },
		{ "450 4.2.0 Greylisted", "4.2.0", 9, 2 * MINUTE, 30 * MINUTE, 150, life },
	};
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		follow(f, &all[i]);
}

/* The kind may change from attempt to attempt; a reload changes the rules of what waits. */
static void rules_change(void **state)
{
	struct fixture *f = *state;
	struct queue_result grey = { .outcome = OUTCOME_DEFERRED,
				     .reply = SPAN("450 Greylisted"),
				     .status = "4.2.0" };
	struct queue_result full = { .outcome = OUTCOME_DEFERRED, .status = "4.2.2" };
	struct queue_lease l;
	struct queue_conf c = f->conf;
	accept_with(f, (struct queue_terms){ 0 });
	await(f, &l);
	usec at = clock_wall();
	defer(f, &l, &grey);
	await(f, &l);
	assert_in_range(clock_wall() - at, 107 * USEC_SEC, 133 * USEC_SEC);
	at = clock_wall();
	defer(f, &l, &full); /* the second attempt: 30 minutes, doubled */
	await(f, &l);
	assert_in_range(clock_wall() - at, 53 * MINUTE, 67 * MINUTE);
	c.n_rules = 0;
	queue_set_conf(f->q, &c);
	at = clock_wall();
	defer(f, &l, &grey); /* the third: 15 minutes, doubled twice */
	await(f, &l);
	assert_in_range(clock_wall() - at, 53 * MINUTE, 67 * MINUTE);
}

/* By-mode R: due again when the time is over, and then nobody may try it. */
static void returned_in_time(void **state)
{
	struct fixture *f = *state;
	struct queue_lease l;
	usec by = clock_wall() + 20 * MINUTE;
	accept_with(f, (struct queue_terms){ .deliver_by = by, .by_return = true });
	await(f, &l);
	assert_false(queue_overdue(&l, clock_wall()));
	assert_false(queue_expired(f->q, &l, &deferral, clock_wall()));
	assert_true(queue_retry_until(f->q, &l, &deferral) == by);
	defer(f, &l, &deferral);
	await(f, &l); /* after 15 minutes */
	assert_true(clock_wall() < by);
	defer(f, &l, &deferral);
	reopen(f);
	await(f, &l); /* not after 30 more */
	assert_in_range(clock_wall(), by, by + USEC_SEC);
	assert_true(queue_overdue(&l, clock_wall()));
	assert_true(queue_expired(f->q, &l, &deferral, clock_wall()));
}

/* By-mode N: an attempt when the time is over, whose delay is told; then as ever. */
static void told_in_time(void **state)
{
	struct fixture *f = *state;
	struct queue_result told = { .outcome = OUTCOME_DEFERRED, .warn = true };
	struct queue_lease l;
	usec by = clock_wall() + 20 * MINUTE;
	accept_with(f, (struct queue_terms){ .deliver_by = by });
	await(f, &l);
	assert_true(l.warn_at == by);
	defer(f, &l, &deferral);
	await(f, &l);
	defer(f, &l, &deferral);
	await(f, &l);
	assert_in_range(clock_wall(), by, by + USEC_SEC);
	assert_false(queue_overdue(&l, clock_wall()));
	defer(f, &l, &told);
	await(f, &l);
	assert_true(l.rcpts[0].warned);
	assert_true(clock_wall() > by + 40 * MINUTE);
}

/* Jumps of the wall clock: what waits by a rule is due within the longest delay after a jump back. */
static void jumps(void **state)
{
	struct fixture *f = *state;
	struct queue_result full = { .outcome = OUTCOME_DEFERRED, .status = "4.2.2" };
	struct queue_lease l;
	accept_with(f, (struct queue_terms){ 0 });
	for (int i = 0; i < 6; i++) {
		await(f, &l);
		defer(f, &l, &full); /* at last 12 hours */
	}
	pass_time(-1000 * HOUR);
	queue_clock_changed(f->q);
	usec back = clock_wall();
	await(f, &l);
	assert_in_range(clock_wall() - back, HOUR, 14 * HOUR);
	defer(f, &l, &full);
	pass_time(2000 * HOUR);
	queue_clock_changed(f->q);
	assert_true(lease(f, &l));
	assert_true(queue_expired(f->q, &l, &full, clock_wall())); /* it was tried often enough */
	assert_int_equal(settle_all(f, &l, OUTCOME_FAILED, 0), 0);
	accept_with(f, (struct queue_terms){ 0 });
	pass_time(2000 * HOUR);
	queue_clock_changed(f->q);
	assert_true(lease(f, &l));
	assert_false(queue_expired(f->q, &l, &full, clock_wall())); /* never tried */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(each_rule), T(rules_change), T(returned_in_time),
					    T(told_in_time), T(jumps) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}

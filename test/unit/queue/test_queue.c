/* queue: grouping, schedule under a virtual clock, bodies, keys, listings, hooks. */
#include "fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "queue/queue_int.h"
#include "sys/file.h"

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

static void groups_by_route(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@y.test", "smtp:y.test"),
				     to("c@x.test", "smtp:x.test"), to("d@here.test", "local") };
	struct queue_lease l;
	struct id id;
	size_t seen = 0;
	uint64_t messages, rcpts, leased;
	assert_int_equal(accept_body(f, SPAN("hello"), r, 4, &id), 0);
	for (int i = 0; i < 3; i++) {
		assert_true(lease(f, &l));
		assert_true(id_eq(&l.id, &id));
		assert_true(span_eq_str(l.sender, "from@example.org"));
		assert_int_equal(l.n_rcpts, span_eq_str(l.route, "smtp:x.test") ? 2 : 1);
		assert_int_equal(l.rcpts[0].notify, 0); /* as it was said (RFC 3461 5.2.1) */
		assert_int_equal(l.size, 5);
		seen += l.n_rcpts;
	}
	assert_int_equal(seen, 4);
	assert_false(lease(f, &l));
	queue_stats(f->q, &messages, &rcpts, &leased);
	assert_int_equal(messages, 1);
	assert_int_equal(rcpts, 4);
	assert_int_equal(leased, 4);
}

static void lease_by_route(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_lease l;
	for (int i = 0; i < 3; i++)
		assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	assert_int_equal(queue_lease_route(f->q, SPAN("smtp:y.test"), &f->mem, &l), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(queue_lease_route(f->q, SPAN("smtp:x.test"), &f->mem, &l), 1);
		assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	}
	assert_int_equal(queue_lease_route(f->q, SPAN("smtp:x.test"), &f->mem, &l), 0);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 0);
}

static void a_held_route(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in full = to("a@x.test", "smtp:x.test"),
			     other = to("b@y.test", "smtp:y.test");
	struct queue_lease l, m;
	for (int i = 0; i < 3; i++)
		assert_int_equal(accept_body(f, SPAN("m"), &full, 1, NULL), 0);
	assert_int_equal(accept_body(f, SPAN("m"), &other, 1, NULL), 0);
	queue_hold_route(f->q, SPAN("smtp:none.test"));
	assert_true(lease(f, &l));
	assert_true(span_eq_str(l.route, "smtp:x.test"));
	queue_hold_route(f->q, SPAN("smtp:x.test"));
	queue_release(f->q, &l);
	/* the other route is not kept waiting by the older messages of the held one */
	assert_true(lease(f, &l));
	assert_true(span_eq_str(l.route, "smtp:y.test"));
	assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	assert_int_equal(accept_body(f, SPAN("m"), &full, 1, NULL), 0);
	assert_false(lease(f, &l));
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 4);
	/* who serves the route takes from it, and may give back, retry and drop as ever */
	assert_int_equal(queue_lease_route(f->q, SPAN("smtp:x.test"), &f->mem, &l), 1);
	assert_int_equal(queue_lease_route(f->q, SPAN("smtp:x.test"), &f->mem, &m), 1);
	assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	assert_int_equal(settle_all(f, &m, OUTCOME_DEFERRED, 0), 0);
	queue_clock_changed(f->q);
	queue_resume_route(f->q, SPAN("smtp:x.test"));
	for (int i = 0; i < 2; i++) {
		assert_true(lease(f, &l));
		assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	}
	assert_false(lease(f, &l));
	pass_time(20 * MINUTE);
	assert_true(lease(f, &l));
	assert_int_equal(l.rcpts[0].attempts, 1);
}

static void oldest_due_first(void **state)
{
	struct fixture *f = *state;
	usec now = clock_wall();
	usec at[] = { now - 3 * MINUTE, now - 9 * MINUTE, now - MINUTE,
		      now - 7 * MINUTE, now + HOUR,	  now - 5 * MINUTE };
	struct queue_lease l;
	usec next, last = 0;
	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
		char text[32];
		snprintf(text, sizeof(text), "%lld", (long long)at[i]);
		r.not_before = at[i];
		r.original = span_str(text);
		assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	}
	for (int i = 0; i < 5; i++) {
		uint64_t due;
		assert_true(lease(f, &l));
		assert_true(span_u64(l.rcpts[0].original, INT64_MAX, &due));
		assert_true((usec)due > last);
		last = (usec)due;
	}
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 0);
	assert_true(next == now + HOUR);
}

static void backoff_stays_in_bounds(void **state)
{
	struct fixture *f = *state;
	usec want = f->conf.retry_first;
	for (unsigned attempts = 1; attempts < 40; attempts++) {
		usec low = want - want / 100 * 10, high = want + want / 100 * 10;
		usec least = INT64_MAX, most = 0;
		for (uint64_t i = 0; i < 1000; i++) {
			usec d = queue_backoff(&f->conf, NULL, attempts, i * 0x9e3779b97f4a7c15);
			assert_in_range(d, low, high);
			least = MIN(least, d);
			most = MAX(most, d);
		}
		assert_true(most - least > want / 10); /* it does spread */
		want = MIN(want * 2, f->conf.retry_max);
	}
	struct queue_conf wild = { .retry_first = INT64_MAX / 2,
				   .retry_max = INT64_MAX / 2,
				   .retry_factor_percent = 4000000000 };
	assert_true(queue_backoff(&wild, NULL, UINT32_MAX, 7) > 0);
}

static void retries_until_the_lifetime_ends(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_lease l;
	unsigned attempts = 0;
	usec start = clock_wall(), next;
	assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	for (;;) {
		while (queue_lease(f->q, &f->mem, &l, &next) == 0) {
			assert_true(next > clock_wall());
			pass_time(next - clock_wall());
		}
		assert_int_equal(l.rcpts[0].attempts, attempts);
		attempts++;
		if (queue_expired(f->q, &l, &deferral, clock_wall()))
			break;
		if (attempts % 5 == 0) { /* the times survive a restart (Q5) */
			assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED, 0), 0);
			reopen(f);
			continue;
		}
		assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED, 0), 0);
		assert_true(span_eq_str(l.rcpts[0].last_reply, attempts == 1 ? "" : "reply text"));
	}
	assert_true(clock_wall() - start > f->conf.lifetime);
	assert_true(clock_wall() - start < f->conf.lifetime + f->conf.retry_max * 11 / 10 + MINUTE);
	assert_in_range(attempts, 28, 40);
	assert_int_equal(settle_all(f, &l, OUTCOME_FAILED, 0), 0);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 0);
}

static void a_jump_ahead_bounces_nothing_untried(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_lease l;
	assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	pass_time(10000 * HOUR);
	assert_true(lease(f, &l));
	assert_false(queue_expired(f->q, &l, &deferral, clock_wall()));
	assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED, 0), 0);
	pass_time(5 * HOUR);
	assert_true(lease(f, &l));
	assert_true(queue_expired(f->q, &l, &deferral, clock_wall()));
}

static void a_jump_back_repeats_and_strands_nothing(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@y.test", "smtp:y.test") };
	struct queue_lease l;
	usec next;
	usec held = clock_wall() + 3000 * HOUR;
	assert_int_equal(accept_body(f, SPAN("m"), r, 2, NULL), 0);
	while (lease(f, &l))
		assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED,
					    span_eq_str(l.route, "smtp:y.test") ? held : 0),
				 0);
	pass_time(-1000 * HOUR);
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 0); /* not tried again at once */
	assert_true(next > clock_wall());
	assert_true(next <= clock_wall() + f->conf.retry_max * 11 / 10); /* nor in six weeks */
	reopen(f);
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 0);
	assert_true(next <= clock_wall() + f->conf.retry_max * 11 / 10);
	pass_time(5 * HOUR);
	assert_true(lease(f, &l));
	assert_true(span_eq_str(l.route, "smtp:x.test"));
	assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 0);
	assert_true(next == held); /* what somebody asked for stays */
}

static void mixed_outcomes(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in in[] = { to("a@x.test", "smtp:x.test"), to("b@x.test", "smtp:x.test"),
				      to("c@x.test", "smtp:x.test"),
				      to("d@x.test", "smtp:x.test") };
	struct queue_lease l;
	struct queue_entry *e;
	assert_int_equal(accept_body(f, SPAN("m"), in, 4, NULL), 0);
	assert_true(lease(f, &l));
	assert_int_equal(l.n_rcpts, 4);
	struct queue_result r[] = { { .row = l.rcpts[2].row,
				      .outcome = OUTCOME_DEFERRED,
				      .reply = SPAN("450 later"),
				      .status = "4.2.0" },
				    { .row = l.rcpts[0].row, .outcome = OUTCOME_DELIVERED },
				    { .row = l.rcpts[1].row, .outcome = OUTCOME_FAILED } };
	struct queue_result stray = { .row = 999, .outcome = OUTCOME_DELIVERED };
	assert_int_equal(queue_settle(f->q, &l, &stray, 1, NULL, &f->mem), ERR_INVAL);
	assert_int_equal(queue_settle(f->q, &l, r, 3, NULL, &f->mem),
			 0); /* the fourth is released */
	assert_int_equal(queue_settle(f->q, &l, r, 3, NULL, &f->mem), ERR_NOENT);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, &e), 1);
	assert_int_equal(e[0].n_rcpts, 2);
	assert_true(span_eq_str(e[0].rcpts[0].address, "c@x.test"));
	assert_true(span_eq_str(e[0].rcpts[0].last_reply, "450 later"));
	assert_true(span_eq_str(e[0].rcpts[0].status, "4.2.0"));
	assert_int_equal(e[0].rcpts[0].attempts, 1);
	assert_int_equal(e[0].rcpts[1].attempts, 0);
	assert_true(lease(f, &l)); /* the released one, at once */
	assert_int_equal(l.n_rcpts, 1);
	assert_true(span_eq_str(l.rcpts[0].address, "d@x.test"));
	queue_release(f->q, &l);
	assert_true(lease(f, &l));
	assert_int_equal(settle_all(f, &l, OUTCOME_RELEASED, clock_wall() + HOUR), 0);
	assert_false(lease(f, &l));
	pass_time(2 * HOUR);
	assert_true(lease(f, &l));
}

static void bodies(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_lease l;
	_cleanup_(buf_donep) struct buf big = BUF_INIT(1 << 20), got = BUF_INIT(1 << 20);
	for (int i = 0; big.n < 100000; i++)
		buf_printf(&big, "line %d\r\n", i);
	/* three sources: memory, a spool beside the blobs, a spool elsewhere; and a small spool,
	 * kept inline */
	struct {
		const char *dir;
		size_t n;
		bool blob;
	} c[] = { { NULL, big.n, true },   { f->base, big.n, true }, { "/tmp", big.n, true },
		  { f->base, 100, false }, { NULL, 100, false },     { NULL, 0, false } };
	for (size_t i = 0; i < ARRAY_LEN(c); i++) {
		span body = span_sub(buf_span(&big), 0, c[i].n);
		struct queue_message_in m = { .id = id_new(),
					      .body = body,
					      .size = body.n,
					      .rcpts = &r,
					      .n_rcpts = 1,
					      .spool_fd = -1 };
		_cleanup_(close_fdp) int fd = -1;
		if (c[i].dir) {
			fd = m.spool_fd = file_spool_open(c[i].dir);
			assert_true(fd >= 0);
			assert_int_equal(file_write_all(fd, body), 0);
			m.body = SPAN_NULL;
		}
		assert_int_equal(queue_accept(f->q, &m), 0);
		assert_int_equal(count_blobs(f), c[i].blob);
		assert_true(lease(f, &l));
		assert_int_equal(l.size, c[i].n);
		buf_reset(&got);
		assert_int_equal(queue_body_read(f->q, &l, 0, UINT64_MAX, &got), 0);
		assert_true(span_eq(buf_span(&got), body));
		buf_reset(&got);
		assert_int_equal(queue_body_read(f->q, &l, 50, 20, &got), 0);
		assert_true(span_eq(buf_span(&got), span_sub(body, 50, 20)));
		int body_fd = queue_body_fd(f->q, &l);
		assert_true(c[i].blob ? body_fd >= 0 : body_fd == ERR_NOENT);
		close_fdp(&body_fd);
		assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
		assert_int_equal(count_blobs(f), 0);
	}
}

static void keys_stay_listed_until_done(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@here.test", "local"), to("b@x.test", "smtp:x.test") };
	struct queue_lease l;
	struct queue_key *k;
	size_t n;
	uint8_t key[16] = { 0 };
	assert_int_equal(accept_body(f, SPAN("m"), r, 2, NULL), 0);
	while (lease(f, &l)) {
		if (span_eq_str(l.route, "local")) {
			memcpy(key, l.rcpts[0].key, 16);
			assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
		} else {
			assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED, 0), 0);
		}
	}
	assert_int_equal(queue_keys_take(f->q, 10, &f->mem, &k, &n), 0);
	assert_int_equal(n, 0); /* the message is still here */
	pass_time(HOUR);
	assert_true(lease(f, &l));
	assert_int_equal(settle_all(f, &l, OUTCOME_FAILED, 0), 0);
	reopen(f);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(queue_keys_take(f->q, 10, &f->mem, &k, &n), 0);
		assert_int_equal(n, 1);
		assert_memory_equal(k[0].key, key, 16);
		assert_true(span_eq_str(k[0].address, "a@here.test"));
	}
	assert_int_equal(queue_key_done(f->q, k, n), 0);
	assert_int_equal(queue_keys_take(f->q, 10, &f->mem, &k, &n), 0);
	assert_int_equal(n, 0);
}

/* Keys that cannot be dropped now do not stand before the others again and again. */
static void keys_in_turn(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@here.test", "local");
	struct queue_lease l;
	struct queue_key *k;
	size_t n, seen = 0;
	int64_t last = 0;
	for (int i = 0; i < 5; i++)
		assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	while (lease(f, &l))
		assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	do {
		assert_int_equal(queue_keys_take(f->q, 2, &f->mem, &k, &n), 0);
		for (size_t i = 0; i < n; i++) {
			int64_t name = k[i].row * 64 + k[i].shard;
			assert_int_not_equal(name, last);
			last = name;
		}
		seen += n;
	} while (n == 2);
	assert_int_equal(seen, 5);
	assert_int_equal(queue_keys_take(f->q, 10, &f->mem, &k, &n), 0); /* and once more */
	assert_int_equal(n, 5);
	assert_int_equal(queue_key_done(f->q, k, n), 0);
}

static void dsn_in_the_same_commit(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test"),
			     back = to("from@example.org", "local");
	struct queue_lease l;
	struct id id;
	assert_int_equal(accept_body(f, SPAN("m"), &r, 1, &id), 0);
	assert_true(lease(f, &l));
	struct queue_result res = { .row = l.rcpts[0].row, .outcome = OUTCOME_FAILED };
	struct queue_message_in dsn = { .id = id_new(),
					.body = SPAN("sorry"),
					.size = 5,
					.is_dsn = true,
					.rcpts = &back,
					.n_rcpts = 1 };
	assert_int_equal(queue_settle(f->q, &l, &res, 1, &dsn, &f->mem), 0);
	assert_true(lease(f, &l));
	assert_true(id_eq(&l.id, &dsn.id));
	assert_true(l.is_dsn);
	assert_int_equal(l.sender.n, 0);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 1);
}

static void once_means_once(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_message_in m = { .body = SPAN("m"),
				      .size = 1,
				      .rcpts = &r,
				      .n_rcpts = 1,
				      .once = SPAN("0123456789abcdef/7") };
	struct queue_lease l;
	for (int i = 0; i < 2; i++) {
		m.id = id_new();
		assert_int_equal(queue_accept(f->q, &m), 0);
	}
	assert_true(lease(f, &l));
	assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	assert_int_equal(queue_accept(f->q, &m), 0); /* also after it has left */
	assert_false(lease(f, &l));
	pass_time(31 * 24 * HOUR);
	assert_int_equal(queue_sweep(f->q), 0);
	assert_int_equal(queue_accept(f->q, &m), 0);
	assert_true(lease(f, &l));
}

static void filters_retry_drop(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@y.test", "smtp:y.test"),
				     to("c@here.test", "local") };
	struct queue_lease l, held;
	struct queue_entry *e;
	struct id ids[20];
	char text[ID_TEXT];
	size_t n;
	for (int i = 0; i < 20; i++)
		assert_int_equal(accept_body(f, SPAN("m"), r, i % 2 ? 3 : 2, &ids[i]), 0);
	assert_int_equal(list(f, (struct queue_filter){ 0 }, NULL), 0);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, &e), 20);
	for (int i = 1; i < 20; i++)
		assert_true(memcmp(e[i - 1].id.b, e[i].id.b, 16) < 0);
	struct queue_cursor after = { .id = e[4].id, .shard = 99 };
	struct id fifth = e[4].id;
	struct queue_filter any = { .any = true };
	assert_int_equal(queue_list(f->q, &any, &after, 3, &f->mem, &e, &n), 0);
	assert_int_equal(n, 3);
	assert_true(after.more);
	assert_true(memcmp(e[0].id.b, fifth.b, 16) > 0);
	id_format(&ids[3], text);
	assert_int_equal(list(f, (struct queue_filter){ .id = span_str(text) }, &e), 1);
	assert_int_equal(e[0].n_rcpts, 3);
	assert_int_equal(list(f, (struct queue_filter){ .id = SPAN("nonsense") }, NULL), 0);
	assert_int_equal(list(f, (struct queue_filter){ .from = SPAN("FROM@example.org") }, NULL),
			 20);
	assert_int_equal(list(f, (struct queue_filter){ .from = SPAN("other@example.org") }, NULL),
			 0);
	assert_int_equal(list(f, (struct queue_filter){ .to = SPAN("C@here.test") }, NULL), 10);
	assert_int_equal(list(f, (struct queue_filter){ .domain = SPAN("X.test") }, NULL), 20);
	assert_int_equal(list(f, (struct queue_filter){ .domain = SPAN("test") }, NULL), 0);
	assert_int_equal(list(f, (struct queue_filter){ .domain = SPAN("%") }, NULL), 0);

	while (lease(f, &l))
		assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED, 0), 0);
	struct queue_filter y = { .domain = SPAN("y.test") }, x = { .domain = SPAN("x.test") };
	assert_int_equal(queue_retry(f->q, &y, &n), 0);
	assert_int_equal(n, 20);
	assert_true(lease(f, &held));
	assert_true(span_eq_str(held.route, "smtp:y.test"));
	assert_int_equal(queue_drop(f->q, &y, &n), 0);
	assert_int_equal(n, 19); /* not the one in delivery */
	assert_int_equal(queue_drop(f->q, &x, &n), 0);
	assert_int_equal(n, 20);
	assert_int_equal(settle_all(f, &held, OUTCOME_DEFERRED, 0), 0);
	reopen(f);
	n = list(f, any, &e);
	size_t rcpts = 0;
	for (size_t i = 0; i < n; i++)
		rcpts += e[i].n_rcpts;
	assert_int_equal(rcpts, 11); /* ten local ones, and the one that was in delivery */
	assert_int_equal(queue_drop(f->q, &any, &n), 0);
	assert_int_equal(n, 11);
	uint64_t messages, waiting, leased;
	queue_stats(f->q, &messages, &waiting, &leased);
	assert_int_equal(messages + waiting + leased, 0);
}

static void shards_are_the_disks(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	for (int i = 0; i < 12; i++)
		assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	f->conf.shards = 1;
	reopen(f);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 12);
}

static void count_call(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

static void hook_tells_of_earlier_work(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_lease l;
	atomic_int calls = 0;
	queue_on_due(f->q, count_call, &calls);
	assert_false(lease(f, &l));
	assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	assert_int_equal(calls, 1);
	assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	assert_int_equal(calls, 1); /* was told already */
	while (lease(f, &l))
		assert_int_equal(settle_all(f, &l, OUTCOME_DEFERRED, 0), 0);
	r.not_before = clock_wall() + 1000 * HOUR;
	assert_int_equal(accept_body(f, SPAN("m"), &r, 1, NULL), 0);
	assert_int_equal(calls, 1); /* later than what was told */
	queue_clock_changed(f->q);
	assert_int_equal(calls, 2);
}

/* No file may grow: the stand-in for a disk that fails. */
static void disk_fails(bool fails)
{
	struct rlimit l;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
	l.rlim_cur = fails ? 1 : l.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static void a_failed_commit_is_repeated_not_the_delivery(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@x.test", "smtp:x.test") };
	struct queue_rcpt_in back = to("from@example.org", "local");
	struct queue_lease l;
	usec next;
	struct id id;
	assert_int_equal(accept_body(f, SPAN("m"), r, 2, &id), 0);
	assert_true(lease(f, &l));
	disk_fails(true);
	struct queue_result res[] = { { .row = l.rcpts[0].row, .outcome = OUTCOME_DELIVERED },
				      { .row = l.rcpts[1].row, .outcome = OUTCOME_FAILED } };
	struct queue_message_in dsn = { .id = id_new(),
					.body = SPAN("sorry"),
					.size = 5,
					.is_dsn = true,
					.rcpts = &back,
					.n_rcpts = 1 };
	assert_true(queue_settle(f->q, &l, res, 2, &dsn, &f->mem) < 0);
	queue_release(f->q, &l); /* what callers do then: must not make it due */
	memset(&back, 0, sizeof(back));
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 0);
	assert_true(next > clock_wall() && next <= clock_wall() + MINUTE);
	pass_time(2 * MINUTE);
	assert_int_equal(queue_lease(f->q, &f->mem, &l, &next), 0); /* still sick */
	assert_true(next > clock_wall());
	disk_fails(false);
	pass_time(2 * MINUTE);
	assert_true(lease(f, &l)); /* the DSN; nobody is delivered to again */
	assert_true(id_eq(&l.id, &dsn.id));
	assert_true(span_eq_str(l.rcpts[0].address, "from@example.org"));
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 1);
	reopen(f);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 1);
}

static void accept_after_a_failure(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	size_t good = 0;
	disk_fails(true);
	for (int i = 0; i < 6; i++)
		assert_true(accept_body(f, SPAN("m"), &r, 1, NULL) < 0);
	disk_fails(false);
	pass_time(2 * MINUTE);
	for (int i = 0; i < 12; i++)
		good += accept_body(f, SPAN("m"), &r, 1, NULL) == 0;
	assert_int_equal(good, 12);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 12);
}

/* What was asked for at accept is there when it is due, and the warning is remembered. */
static void requests_are_kept(void **state)
{
	struct fixture *f = *state;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_message_in m = { .id = id_new(),
				      .sender = SPAN("from@example.org"),
				      .body = SPAN("m"),
				      .size = 1,
				      .ret_hdrs = true,
				      .envid = SPAN("an id"),
				      .rcpts = &r,
				      .n_rcpts = 1 };
	struct queue_lease l;
	r.notify = RCPT_NOTIFY_SUCCESS | RCPT_NOTIFY_DELAY;
	r.original = SPAN("rfc822;b@y.test");
	assert_int_equal(queue_accept(f->q, &m), 0);
	reopen(f);
	assert_true(lease(f, &l));
	assert_true(l.ret_hdrs && !l.ret_full && span_eq_str(l.envid, "an id"));
	assert_int_equal(l.rcpts[0].notify, r.notify);
	assert_true(span_eq(l.rcpts[0].original, r.original));
	assert_true(l.warn_at == l.accepted_at + f->conf.warn_after);
	assert_false(l.rcpts[0].warned);
	for (int i = 0; i < 2; i++) { /* the second result says nothing of it */
		struct queue_result d = { .row = l.rcpts[0].row,
					  .outcome = OUTCOME_DEFERRED,
					  .warn = i == 0 };
		assert_int_equal(queue_settle(f->q, &l, &d, 1, NULL, &f->mem), 0);
		reopen(f);
		pass_time(5 * HOUR);
		assert_true(lease(f, &l));
		assert_true(l.rcpts[0].warned);
	}
	queue_release(f->q, &l);
	f->conf.warn_after = 0;
	queue_set_conf(f->q, &f->conf);
	assert_true(lease(f, &l));
	assert_int_equal(l.warn_at, 0);
}

/* What was asked of the way survives; the lifetime of what is held begins with its release. */
static void terms_are_kept(void **state)
{
	struct fixture *f = *state;
	usec now = clock_wall(), until = now + 10 * 24 * HOUR;
	struct queue_rcpt_in r = to("a@x.test", "smtp:x.test");
	struct queue_message_in m = { .id = id_new(),
				      .sender = SPAN("from@example.org"),
				      .body = SPAN("m"),
				      .size = 1,
				      .terms = { .deliver_by = until + HOUR,
						 .by_return = true,
						 .by_trace = true,
						 .priority = -9,
						 .require_tls = true },
				      .held_until = until,
				      .rcpts = &r,
				      .n_rcpts = 1 };
	struct queue_entry *e;
	struct queue_lease l;
	r.not_before = until;
	assert_int_equal(queue_accept(f->q, &m), 0);
	pass_time(9 * 24 * HOUR);
	reopen(f);
	assert_false(lease(f, &l));
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, &e), 1);
	assert_true(e[0].held_until == until && e[0].rcpts[0].next_attempt == until);
	assert_true(e[0].terms.require_tls);
	assert_int_equal(e[0].terms.priority, -9);
	pass_time(2 * 24 * HOUR);
	assert_true(lease(f, &l));
	assert_true(l.terms.deliver_by == until + HOUR);
	assert_int_equal(l.terms.priority, -9);
	assert_true(l.terms.by_return && l.terms.by_trace && l.terms.require_tls);
	assert_true(l.held_until == until);
	assert_true(queue_retry_until(f->q, &l, &deferral) == until + HOUR);
	assert_true(l.warn_at == until + f->conf.warn_after);
}

static int insert_old(struct db_tx *tx, void *arg)
{
	int r = db_run(
		tx,
		"INSERT INTO message(row, id, sender, account, envid, size, flags,"
		" accepted_at, blob) VALUES(1, zeroblob(16), 'a@b.test', '', '', 1, 0, ?, NULL)",
		"i", clock_wall());
	if (r >= 0)
		r = db_run(tx, "INSERT INTO body(message, data) VALUES(1, 'm')", "");
	if (r >= 0)
		r = db_run(tx,
			   "INSERT INTO recipient(row, message, address, route, original, notify,"
			   " key, state, attempts, next_at, fixed) VALUES(1, 1, 'c@x.test',"
			   " 'smtp:x.test', '', 12, zeroblob(16), 0, 1, 0, 0)",
			   "");
	return r;
}

/* A queue that an older release left: what waits in it goes on waiting, unwarned. */
static void older_schema(void **state)
{
	struct fixture *f = *state;
	struct db_schema old = queue_schema;
	struct err_info info = { 0 };
	struct queue_lease l;
	struct db *db;
	char path[128];
	old.n_steps = 1;
	snprintf(path, sizeof(path), "%s/old", f->base);
	assert_int_equal(file_mkdirs(path), 0);
	f->conf.dir = path;
	f->conf.shards = 1;
	char shard[160];
	snprintf(shard, sizeof(shard), "%s/0.db", path);
	assert_int_equal(db_open(shard, &old, DB_CREATE, &db, &info), 0);
	assert_int_equal(db_write(db, insert_old, NULL), 0);
	db_close(db);
	reopen(f);
	assert_true(lease(f, &l));
	assert_int_equal(l.rcpts[0].notify, RCPT_NOTIFY_FAILURE | RCPT_NOTIFY_DELAY);
	assert_int_equal(l.rcpts[0].attempts, 1);
	assert_false(l.rcpts[0].warned);
	assert_true(!l.terms.deliver_by && !l.terms.priority && !l.terms.require_tls);
	assert_true(queue_retry_until(f->q, &l, &deferral) == l.accepted_at + f->conf.lifetime);
	assert_int_equal(settle_all(f, &l, OUTCOME_DELIVERED, 0), 0);
	assert_int_equal(list(f, (struct queue_filter){ .any = true }, NULL), 0);
}

/* Many threads accept while others deliver: every recipient is delivered once; TSan judges the
 * rest. */
enum { THREADS = 4, EACH = 60 };
struct traffic {
	struct fixture *f;
	atomic_int delivered, accepted;
};

static void *accept_some(void *arg)
{
	struct traffic *t = arg;
	struct queue_rcpt_in r[] = { to("a@x.test", "smtp:x.test"), to("b@here.test", "local") };
	for (int i = 0; i < EACH; i++) {
		assert_int_equal(accept_body(t->f, SPAN("m"), r, 2, NULL), 0);
		atomic_fetch_add(&t->accepted, 2);
	}
	return NULL;
}

static void *deliver_some(void *arg)
{
	struct traffic *t = arg;
	struct arena mem = { 0 };
	struct queue_lease l;
	usec next;
	while (atomic_load(&t->delivered) < THREADS * EACH * 2) {
		if (queue_lease(t->f->q, &mem, &l, &next) != 1) {
			usleep(500);
			continue;
		}
		struct queue_result r = { .row = l.rcpts[0].row, .outcome = OUTCOME_DELIVERED };
		assert_int_equal(l.n_rcpts, 1);
		assert_int_equal(queue_settle(t->f->q, &l, &r, 1, NULL, &mem), 0);
		atomic_fetch_add(&t->delivered, 1);
		arena_reset(&mem);
	}
	arena_done(&mem);
	return NULL;
}

static void traffic_of_many_threads(void **state)
{
	struct traffic t = { .f = *state };
	pthread_t in[THREADS], out[2];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&in[i], NULL, accept_some, &t), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&out[i], NULL, deliver_some, &t), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(in[i], NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(out[i], NULL);
	assert_int_equal(t.delivered, THREADS * EACH * 2);
	assert_int_equal(list(t.f, (struct queue_filter){ .any = true }, NULL), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(groups_by_route),
		T(requests_are_kept),
		T(terms_are_kept),
		T(older_schema),
		T(lease_by_route),
		T(a_held_route),
		T(oldest_due_first),
		T(backoff_stays_in_bounds),
		T(retries_until_the_lifetime_ends),
		T(a_jump_ahead_bounces_nothing_untried),
		T(a_jump_back_repeats_and_strands_nothing),
		T(mixed_outcomes),
		T(bodies),
		T(keys_stay_listed_until_done),
		T(dsn_in_the_same_commit),
		T(keys_in_turn),
		T(once_means_once),
		T(filters_retry_drop),
		T(shards_are_the_disks),
		T(hook_tells_of_earlier_work),
		T(a_failed_commit_is_repeated_not_the_delivery),
		T(accept_after_a_failure),
		T(traffic_of_many_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

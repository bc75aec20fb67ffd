#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "sys/session.h"

/* A toy protocol: each item is echoed; a few words do more.  The test thread plays front. */
struct toy {
	int running; /* not atomic: only one job at a time may touch it */
	unsigned wakes, waits;
};

static struct {
	struct loop *loop;
	struct channel *core;
	pthread_t thread;
	int front; /* the other end, used blockingly */
	struct pool *pool;
	struct sess_table *table;
	atomic_int opened, closed, holding, gate;
	struct sess *_Atomic kept; /* its answer is withheld */
} env;

static void toy_open(struct sess *s)
{
	atomic_fetch_add(&env.opened, 1);
}

static enum lane toy_lane(struct sess *s, const struct sess_in *in)
{
	struct cursor c = cursor_of(in->data);
	uint8_t flags;
	span word;
	if (in->kind == SESS_IN_BODY)
		return LANE_SPOOL;
	if (in->kind == SESS_IN_INPUT && !in->again && sess_item_next(&c, &flags, &word) &&
	    span_starts(word, SPAN("here")))
		return SESS_HERE;
	return LANE_INTERACTIVE;
}

static void obey(struct sess *s, span word, struct wire_park *p)
{
	if (span_eq_str(word, "big")) {
		static const char block[100000];
		for (int i = 0; i < 5; i++)
			sess_write(s, span_of(block, sizeof(block)));
		p->flags = SESS_PARK_WANT_DRAIN;
	} else if (span_eq_str(word, "hold")) {
		atomic_fetch_add(&env.holding, 1);
		while (!atomic_load(&env.gate))
			usleep(100);
	} else if (span_eq_str(word, "tls?")) {
		sess_write(s, s->tls.active ? s->tls.cipher : SPAN("clear"));
	} else if (span_eq_str(word, "unsent")) {
		buf_put_u64(sess_out(s), sess_unsent(s));
	} else if (span_starts(word, SPAN("here"))) {
		sess_write(s, pthread_equal(pthread_self(), env.thread) ? SPAN("here")
									: SPAN("there"));
	} else {
		sess_write(s, word);
	}
}

static void toy_job(struct sess *s, const struct sess_in *in)
{
	struct toy *t = s->state;
	struct wire_park p = { .mode = SESS_MODE_LINES };
	assert_int_equal(t->running++, 0);
	arena_alloc(s->mem, 100);
	if (in->kind == SESS_IN_WAKE) {
		t->wakes++;
		sess_write(s, SPAN("woken"));
	} else if (in->kind == SESS_IN_BODY) {
		p.n = in->data.n + in->body_flags;
	} else if (in->kind == SESS_IN_INPUT) {
		struct cursor c = cursor_of(in->data);
		uint8_t flags;
		span word = SPAN_NULL;
		while (sess_item_next(&c, &flags, &word))
			obey(s, word, &p);
		if (span_eq_str(word, "wait") && ++t->waits < 3) {
			assert_int_equal(in->again, t->waits > 1);
			t->running--;
			sess_wait(s);
			return;
		}
		if (span_eq_str(word, "here, no") && s->here) { /* it would have to block */
			t->running--;
			sess_wait(s);
			sess_wake(s->table, s->id);
			return;
		}
		if (span_eq_str(word, "keep") || span_eq_str(word, "keep not"))
			sess_withhold(s);
		if (span_eq_str(word, "keep"))
			atomic_store(&env.kept, s);
		if (span_eq_str(word, "keep not"))
			sess_release(s, true);
		if (span_eq_str(word, "starttls")) {
			t->running--;
			sess_starttls(s, SPAN("go"));
			return;
		}
		if (span_eq_str(word, "quit")) {
			t->running--;
			sess_close(s);
			return;
		}
	}
	t->running--;
	sess_park(s, &p);
}

static void toy_close(struct sess *s)
{
	atomic_fetch_add(&env.closed, 1);
}

static void toy_busy(struct sess *s, struct buf *reply)
{
	buf_put_str(reply, "421");
}

static const struct sess_ops toy = {
	.proto = SESS_PROTO_SMTP,
	.name = "toy",
	.size = sizeof(struct toy),
	.open = toy_open,
	.lane = toy_lane,
	.job = toy_job,
	.close = toy_close,
	.busy = toy_busy,
};

static void on_message(void *arg, struct channel *c, struct channel_msg *m)
{
	sess_table_message(env.table, c, m);
}

static void on_front_gone(void *arg, struct channel *c)
{
	sess_table_front_gone(env.table, c);
}

static void *run_loop(void *arg)
{
	loop_run(env.loop);
	return NULL;
}

/* Records of the current datagram that were not looked at yet. */
static char heard[CHANNEL_MAX + 16];
static struct cursor records;

static void start(size_t max_queued)
{
	struct pool_conf conf = { .threads = { 2 }, .per_key = 1, .max_queued = max_queued };
	int fds[2];
	assert_int_equal(channel_pair(fds), 0);
	atomic_store(&env.opened, 0);
	atomic_store(&env.closed, 0);
	atomic_store(&env.gate, 0);
	atomic_store(&env.holding, 0);
	records = cursor_of(SPAN_NULL);
	env.front = fds[0];
	env.pool = pool_new(&conf);
	env.table = sess_table_new(env.pool, NULL);
	sess_table_add_proto(env.table, &toy);
	env.loop = loop_new();
	env.core = channel_open(env.loop, fds[1], on_message, on_front_gone, NULL);
	pthread_create(&env.thread, NULL, run_loop, NULL);
}

static void finish(int sessions)
{
	close_fdp(&env.front);
	while (sess_table_count(env.table) > 0)
		usleep(100);
	loop_stop(env.loop);
	pthread_join(env.thread, NULL);
	pool_free(env.pool);
	sess_table_free(env.table);
	channel_close(env.core);
	loop_free(env.loop);
	assert_int_equal(atomic_load(&env.opened), sessions);
	assert_int_equal(atomic_load(&env.closed), sessions);
}

static void say(uint16_t type, uint64_t id, span payload)
{
	assert_int_equal(channel_send_fd(env.front, type, id, payload, -1), 0);
}

static void say_open(uint64_t id)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1000);
	struct sockaddr_any peer;
	assert_int_equal(sock_parse(SPAN("[2001:db8::7]:4711"), &peer), 0);
	sess_open_put(&b, SESS_PROTO_SMTP, false, &peer, &peer);
	say(SESS_OPEN, id, buf_span(&b));
}

static void say_input(uint64_t id, uint32_t epoch, const char *word)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1000);
	buf_put_le32(&b, epoch);
	wire_item_put(&b, 0, span_str(word));
	say(SESS_INPUT, id, buf_span(&b));
}

static uint16_t hear(uint64_t *ret_id, span *ret)
{
	if (cursor_at_end(&records) || !records.s.p) {
		ssize_t n = recv(env.front, heard, sizeof(heard), 0);
		assert_true(n > 0);
		records = cursor_of(span_of(heard, (size_t)n));
	}
	uint32_t n = cursor_le32(&records);
	uint16_t type = cursor_le16(&records);
	cursor_le16(&records);
	*ret_id = cursor_le64(&records);
	*ret = cursor_bytes(&records, n);
	assert_false(records.bad);
	return type;
}

static void hold(uint64_t id, int count)
{
	say_input(id, 0, "hold");
	while (atomic_load(&env.holding) < count)
		usleep(100);
}

static void expect(uint16_t type, uint64_t id, const char *text)
{
	uint64_t from;
	span payload;
	assert_int_equal(hear(&from, &payload), type);
	assert_int_equal(from, id);
	if (text)
		assert_true(span_eq_str(payload, text));
}

static struct wire_park expect_park(uint64_t id)
{
	uint64_t from;
	span payload;
	struct wire_park p = { 0 };
	assert_int_equal(hear(&from, &payload), SESS_PARK);
	assert_int_equal(from, id);
	assert_true(sess_park_get(payload, &p));
	assert_int_equal(p.flags & SESS_PARK_UNASKED, 0);
	return p;
}

static void test_dialogue(void **state)
{
	start(100);
	for (uint64_t id = 1; id <= 3; id++)
		say_open(id);
	say_open(1); /* a broken front: the first one stays */
	for (uint64_t id = 1; id <= 3; id++) {
		say_input(id, 0, "hello");
		expect(SESS_OUTPUT, id, "hello");
		assert_int_equal(expect_park(id).mode, SESS_MODE_LINES);
	}
	_cleanup_(buf_donep) struct buf b = BUF_INIT(100);
	sess_body_put(&b, 0, SESS_BODY_LAST, SPAN("piece"));
	say(SESS_BODY, 2, buf_span(&b));
	assert_int_equal(expect_park(2).n, 6);
	say_input(2, 0, "quit");
	expect(SESS_OUTPUT, 2, "quit");
	expect(SESS_CLOSE, 2, "");
	say_input(2, 0, "after the end"); /* and unknown or malformed frames: ignored */
	say_input(99, 0, "who");
	say(SESS_INPUT, 1, SPAN("x"));
	say(SESS_CLOSED, 3, SPAN("\0"));
	say_input(1, 0, "still there");
	expect(SESS_OUTPUT, 1, "still there");
	expect_park(1);
	finish(4);
}

static void test_serial_and_wake(void **state)
{
	start(100);
	say_open(5);
	hold(5, 1);
	for (int i = 0; i < 50; i++)
		sess_wake(env.table, 5); /* coalesced */
	sess_wake(env.table, 6);
	say_input(5, 0, "next"); /* more than front may do; it waits */
	atomic_store(&env.gate, 1);
	int parks = 0, woken = 0, served = 0;
	while (parks < 2 || woken < 1) {
		uint64_t id;
		span payload;
		if (hear(&id, &payload) == SESS_PARK)
			parks++;
		woken += span_eq_str(payload, "woken");
		served += span_eq_str(payload, "next");
	}
	assert_int_equal(served, 1);
	say_input(5, 0, "more"); /* the wake-up sent no PARK: nobody had asked */
	expect(SESS_OUTPUT, 5, "more");
	expect_park(5);
	finish(1);
}

/* A job that waits keeps its question open: no PARK, no thread, and only a wake-up goes on with it. */
static void test_wait(void **state)
{
	start(100);
	say_open(5);
	say_open(6);
	say_input(5, 0, "wait");
	expect(SESS_OUTPUT, 5, "wait");
	say_input(5, 0, "later"); /* more than front may do; it waits */
	say_input(6, 0, "other");
	expect(SESS_OUTPUT, 6, "other");
	expect_park(6);
	for (int i = 0; i < 2; i++) { /* the first wake-up was for something else: it waits again */
		sess_wake(env.table, 5);
		expect(SESS_OUTPUT, 5, "wait");
	}
	expect_park(5);
	expect(SESS_OUTPUT, 5, "later");
	expect_park(5);
	say_input(6, 0, "wait"); /* a session may end while it waits */
	expect(SESS_OUTPUT, 6, "wait");
	say(SESS_CLOSED, 6, SPAN("\0"));
	finish(2);
}

static struct sess *wait_kept(void)
{
	struct sess *s;
	while (!(s = atomic_exchange(&env.kept, NULL)))
		usleep(100);
	return s;
}

static void test_withhold(void **state)
{
	start(100);
	say_open(5);
	say_open(6);
	say_input(5, 0, "keep");
	struct sess *s = wait_kept();
	say_input(6, 0, "other");
	expect(SESS_OUTPUT, 6, "other"); /* nothing was heard of 5 */
	expect_park(6);
	sess_release(s, true);
	expect(SESS_OUTPUT, 5, "keep");
	expect_park(5);
	say_input(5, 0, "keep not"); /* the release comes before the job returns */
	expect(SESS_OUTPUT, 5, "keep not");
	expect_park(5);
	say_input(5, 0, "keep"); /* what it wrote must not be said */
	sess_release(wait_kept(), false);
	expect(SESS_OUTPUT, 5, "421");
	expect(SESS_CLOSE, 5, "");
	say_input(6, 0, "keep"); /* the session ends meanwhile */
	s = wait_kept();
	say(SESS_CLOSED, 6, SPAN("\0"));
	while (sess_table_count(env.table) > 0)
		usleep(100);
	sess_release(s, true);
	finish(2);
}

static void test_here(void **state)
{
	start(100);
	say_open(5);
	say_input(5, 0, "here");
	expect(SESS_OUTPUT, 5, "here");
	expect_park(5);
	say_input(5, 0, "here, no");
	expect(SESS_OUTPUT, 5, "here");
	expect(SESS_OUTPUT, 5, "there");
	expect_park(5);
	finish(1);
}

static void test_drain(void **state)
{
	start(100);
	say_open(5);
	say_input(5, 0, "big");
	size_t n = 0;
	while (n < 500000) {
		uint64_t id;
		span payload;
		assert_int_equal(hear(&id, &payload), SESS_OUTPUT);
		assert_true(payload.n <= 64 * 1024);
		n += payload.n;
	}
	assert_true(expect_park(5).flags & SESS_PARK_WANT_DRAIN);
	say_input(5, 0, "unsent");
	expect(SESS_OUTPUT, 5, "500000");
	expect_park(5);
	say(SESS_DRAINED, 5, SPAN("\0\0\0\0"));
	expect_park(5);
	say_input(5, 0, "unsent");
	expect(SESS_OUTPUT, 5, "0");
	expect_park(5);
	finish(1);
}

static void test_starttls(void **state)
{
	start(100);
	say_open(5);
	say_input(5, 0, "starttls");
	expect(SESS_OUTPUT, 5, "starttls");
	expect(SESS_STARTTLS, 5, "go");
	say_input(5, 0, "injected in clear"); /* an old epoch: void */
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1000);
	struct sess_tls t = {
		.active = true, .version = 0x0304, .cipher = SPAN("TLS_X"), .sni = SPAN("mx")
	};
	buf_put_le32(&b, 1);
	sess_tls_put(&b, &t);
	say(SESS_TLS, 5, SPAN("\1\0\0\0junk"));
	say(SESS_TLS, 5, buf_span(&b));
	say_input(5, 1, "tls?");
	expect(SESS_OUTPUT, 5, "TLS_X");
	expect_park(5);
	finish(1);
}

static void test_busy(void **state)
{
	start(1);
	for (uint64_t id = 1; id <= 5; id++)
		say_open(id);
	hold(1, 1);
	hold(2, 2);
	say_input(3, 0, "waits");
	say_input(4, 0, "too many");
	expect(SESS_OUTPUT, 4, "421");
	expect(SESS_CLOSE, 4, "");
	sess_wake(env.table, 5); /* finds the lane full, is not lost */
	atomic_store(&env.gate, 1);
	bool woken = false, served = false;
	for (int parks = 0; !woken || !served || parks < 3;) {
		uint64_t id;
		span payload;
		parks += hear(&id, &payload) == SESS_PARK;
		woken |= span_eq_str(payload, "woken") && id == 5;
		served |= span_eq_str(payload, "waits") && id == 3;
	}
	finish(5);
}

static void test_queue_limit(void **state)
{
	start(100);
	sess_table_set_queue_limit(env.table, -1);
	say_open(1);
	say_input(1, 0, "late");
	expect(SESS_OUTPUT, 1, "421");
	expect(SESS_CLOSE, 1, "");
	finish(1);
}

static void test_front_dies(void **state)
{
	start(100);
	for (uint64_t id = 1; id <= 50; id++)
		say_open(id);
	hold(7, 1);
	for (int i = 0; i < 20; i++)
		say_input(8, 0, "x"); /* a flood costs the session at most */
	usleep(2000);
	close_fdp(&env.front);
	env.front = -1;
	while (sess_table_count(env.table) > 0)
		usleep(100);
	atomic_store(&env.gate, 1);
	finish(50);
}

/* A front that was started again counts from 1 as the old one did, and may be heard before the end
 * of the old one's channel is: what the old one left must not answer for the new peer. */
/* A channel belongs to the loop's thread, from its opening on. */
struct opening {
	int fd;
	struct channel *_Atomic channel;
};

static void open_on_loop(void *arg)
{
	struct opening *o = arg;
	atomic_store(&o->channel, channel_open(env.loop, o->fd, on_message, on_front_gone, NULL));
}

static void test_front_again(void **state)
{
	int fds[2];
	start(100);
	say_open(1);
	hold(1, 1); /* and a job of the old session is under way */
	say_open(2);
	say_input(2, 0, "x");
	expect(SESS_OUTPUT, 2, "x");
	expect_park(2);

	assert_int_equal(channel_pair(fds), 0);
	int old = env.front;
	struct opening again = { .fd = fds[1] };
	loop_post(env.loop, open_on_loop, &again);
	while (!atomic_load(&again.channel))
		usleep(100);
	env.front = fds[0];
	records = cursor_of(SPAN_NULL);
	say_open(1);
	say_open(2);
	for (uint64_t id = 1; id <= 2; id++) {
		say_input(id, 0, "new");
		expect(SESS_OUTPUT, id, "new");
		expect_park(id);
	}
	/* Nor does the old channel reach the new sessions. */
	assert_int_equal(channel_send_fd(old, SESS_CLOSED, 2, SPAN("x"), -1), 0);
	close(old);
	usleep(2000);
	say_input(2, 0, "still");
	expect(SESS_OUTPUT, 2, "still");
	expect_park(2);
	assert_int_equal(sess_table_count(env.table), 2);
	atomic_store(&env.gate, 1);
	finish(4);
	channel_unref(atomic_load(&again.channel));
}

static void test_payloads(void **state)
{
	struct buf b = BUF_INIT(1000);
	struct sess_tls t = { .active = true,
			      .has_exporter = true,
			      .endpoint_len = 32,
			      .alpn = SPAN("imap") },
			u;
	memset(t.exporter, 7, sizeof(t.exporter));
	memset(t.endpoint, 8, 32);
	sess_tls_put(&b, &t);
	for (size_t cut = 0; cut <= b.n; cut++) {
		struct cursor c = cursor_of(span_sub(buf_span(&b), 0, cut));
		assert_int_equal(sess_tls_get(&c, &u), cut == b.n);
	}
	assert_true(u.has_exporter && u.endpoint_len == 32 && span_eq_str(u.alpn, "imap"));
	assert_memory_equal(u.exporter, t.exporter, 32);
	struct wire_park p = { 0 };
	assert_false(sess_park_get(SPAN("\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), &p));
	assert_false(sess_park_get(SPAN("\0"), &p));
	enum sess_proto proto;
	bool tls;
	struct sockaddr_any a;
	assert_false(sess_open_get(SPAN("\0\0\0\0\0\0\0\0\0\0"), &proto, &tls, &a, &a));
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogue),    cmocka_unit_test(test_serial_and_wake),
		cmocka_unit_test(test_wait),	    cmocka_unit_test(test_withhold),
		cmocka_unit_test(test_here),	    cmocka_unit_test(test_drain),
		cmocka_unit_test(test_starttls),    cmocka_unit_test(test_busy),
		cmocka_unit_test(test_queue_limit), cmocka_unit_test(test_front_dies),
		cmocka_unit_test(test_front_again), cmocka_unit_test(test_payloads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

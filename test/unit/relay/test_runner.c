/* The runner with a queue and a mail room of its own (a list of leases, a list of results) and this
 * test in the place of `out`: what it asks for, and what it makes of the answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "dns/dns.h"
#include "relay/relay.h"
#include "relay/wire.h"

#define MAX_LEASES 80

/* --- the queue and mail --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	const char *route;
	size_t n_rcpts;
	bool leased, smtputf8, held;
	enum rcpt_outcome outcome;
	char status[12];
	size_t settled, delivered;
} leases[MAX_LEASES];
static size_t n_leases, n_settled, n_local, n_holds;
static void (*on_due)(void *arg);
static void *on_due_arg;
static struct loop *loop;
static size_t stop_after, n_dead;

static int take(size_t i, struct arena *mem, struct queue_lease *ret)
{
	leases[i].leased = true;
	*ret = (struct queue_lease){ .lease_id = i + 1,
				     .sender = SPAN("a@us.test"),
				     .route = span_str(leases[i].route),
				     .size = 5,
				     .smtputf8 = leases[i].smtputf8,
				     .n_rcpts = leases[i].n_rcpts };
	ret->rcpts = arena_array(mem, struct queue_rcpt, ret->n_rcpts);
	for (size_t k = 0; k < ret->n_rcpts; k++)
		ret->rcpts[k] = (struct queue_rcpt){ .row = (int64_t)k + 1,
						     .address = SPAN("b@mx.test") };
	return 1;
}

int queue_lease(struct queue *q, struct arena *mem, struct queue_lease *ret, usec *ret_next)
{
	int got = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_leases && !got; i++)
		if (!leases[i].leased && !leases[i].held)
			got = take(i, mem, ret);
	pthread_mutex_unlock(&lock);
	*ret_next = 0;
	return got;
}

int queue_lease_route(struct queue *q, span route, struct arena *mem, struct queue_lease *ret)
{
	int got = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_leases && !got; i++)
		if (!leases[i].leased && span_eq_str(route, leases[i].route))
			got = take(i, mem, ret);
	pthread_mutex_unlock(&lock);
	return got;
}

void queue_on_due(struct queue *q, void (*fn)(void *arg), void *arg)
{
	on_due = fn;
	on_due_arg = arg;
}

void queue_release(struct queue *q, const struct queue_lease *l)
{
	pthread_mutex_lock(&lock);
	leases[l->lease_id - 1].leased = false;
	pthread_mutex_unlock(&lock);
}

/* True if that changed anything. */
static bool set_held(span route, bool hold)
{
	bool changed = false;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_leases; i++)
		if (span_eq_str(route, leases[i].route) && leases[i].held != hold) {
			leases[i].held = hold;
			changed = true;
		}
	pthread_mutex_unlock(&lock);
	return changed;
}

void queue_hold_route(struct queue *q, span route)
{
	n_holds += set_held(route, true);
}

void queue_resume_route(struct queue *q, span route)
{
	if (set_held(route, false) && on_due)
		on_due(on_due_arg);
}

int queue_body_fd(struct queue *q, const struct queue_lease *l)
{
	return ERR_NOENT;
}

static const char *body = "hello";

int queue_body_read(struct queue *q, const struct queue_lease *l, uint64_t from, uint64_t n,
		    struct buf *b)
{
	return buf_put_str(b, body);
}

static void count_settled(void)
{
	if (++n_settled == stop_after)
		loop_stop(loop);
}

int mail_settle(struct core_env *env, const struct queue_lease *l, struct queue_result *r, size_t n,
		struct event_list *events)
{
	size_t i = l->lease_id - 1;

	pthread_mutex_lock(&lock);
	assert_int_equal(n, l->n_rcpts);
	leases[i].outcome = r[0].outcome;
	memcpy(leases[i].status, r[0].status, sizeof leases[i].status);
	leases[i].settled++;
	for (size_t k = 0; k < n; k++)
		leases[i].delivered += r[k].outcome == OUTCOME_DELIVERED;
	count_settled();
	pthread_mutex_unlock(&lock);
	return 0;
}

bool mail_return_overdue(struct core_env *env, const struct queue_lease *l)
{
	return false;
}

void mail_deliver_local(struct core_env *env, const struct queue_lease *l)
{
	pthread_mutex_lock(&lock);
	n_local++;
	leases[l->lease_id - 1].settled++;
	count_settled();
	pthread_mutex_unlock(&lock);
}

bool mail_bring_home(struct core_env *env, const struct queue_lease *l)
{
	return false;
}

static struct conf conf = { .refs = 1,
			    .hostname = SPAN("us.test"),
			    .relay_port = 25,
			    .relay_per_destination = 2,
			    .relay_connections = 100 };

static struct conf *the_conf(struct core_env *env)
{
	return conf_ref(&conf);
}

/* --- `out` --- */

struct fake_out {
	struct channel *channel;
	const char *mx; /* "" is a null MX; NULL: no MX */
	enum dns_status mx_status, a_status;
	enum relay_fail open_fail;
	unsigned extensions, rcpt_code;
	unsigned opens, in_clear, sends, closes, most_open, open;
	bool silent; /* answers no RELAY_SEND */
	bool dead;   /* 127.0.0.100 and above answer nothing */
	unsigned dead_opens;
	bool forgets; /* answers the second RELAY_SEND as for a lost connection */
	struct relay *relay;
};

static void answer_dns(struct fake_out *f, const struct channel_msg *m)
{
	struct dns_record mx = { .preference = 10, .name = span_str(f->mx) }, a = { 0 };
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);
	struct dns_answer answers[DNS_ASK_MAX] = { 0 };
	struct arena mem _cleanup_(arena_donep);
	struct dns_question *q;
	size_t n;

	arena_init(&mem);
	assert_int_equal(sock_parse_ip(SPAN("127.0.0.9"), 0, &a.addr), 0);
	assert_int_equal(dns_ask_get(m->payload, &mem, &q, &n), 0);
	for (size_t i = 0; i < n; i++) {
		bool is_mx = q[i].type == DNS_MX;

		answers[i] = (struct dns_answer){ .name = q[i].name,
						  .type = q[i].type,
						  .status = is_mx ? f->mx_status : f->a_status };
		if (is_mx && !f->mx && f->mx_status == DNS_OK)
			answers[i].status = DNS_NODATA;
		if (answers[i].status == DNS_OK) {
			answers[i].records = is_mx ? &mx : &a;
			answers[i].n = 1;
		}
	}
	assert_int_equal(dns_answers_put(&b, answers, n), 0);
	channel_send(f->channel, DNS_ANSWER, m->id, buf_span(&b), -1);
}

static void answer_open(struct fake_out *f, const struct channel_msg *m)
{
	struct relay_opened opened = { .fail = f->open_fail,
				       .why = SPAN("because"),
				       .extensions = f->extensions };
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);
	struct relay_open o;

	assert_int_equal(relay_open_get(m->payload, &o), 0);
	assert_true(span_eq_str(o.helo, "us.test"));
	if (f->dead && (ntohl(o.to.in.sin_addr.s_addr) & 0xff) >= 100) {
		f->dead_opens++;
		return;
	}
	f->opens++;
	f->in_clear += o.tls == RELAY_TLS_NONE;
	if (f->open_fail == RELAY_FAIL_TLS && o.tls == RELAY_TLS_NONE)
		opened.fail = RELAY_FAIL_NONE;
	if (opened.fail == RELAY_FAIL_NONE) {
		f->open++;
		f->most_open = MAX(f->most_open, f->open);
	}
	relay_opened_put(&b, &opened);
	channel_send(f->channel, RELAY_OPENED, m->id, buf_span(&b), -1);
}

static void answer_send(struct fake_out *f, const struct channel_msg *m)
{
	struct smtp_reply rcpts[RELAY_RCPTS_MAX];
	struct relay_sent sent = { .mail = { .code = 250 },
				   .rcpts = rcpts,
				   .data = { .code = 354 },
				   .final = { .code = 250, .enhanced = "2.6.0" } };
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);
	struct arena mem _cleanup_(arena_donep);
	struct relay_send s;

	arena_init(&mem);
	assert_int_equal(relay_send_get(m->payload, &mem, &s), 0);
	assert_true(span_eq_str(s.body, "hello"));
	f->sends++;
	if (f->silent) {
		loop_stop(loop);
		return;
	}
	sent.n_rcpts = s.n_rcpts;
	for (size_t i = 0; i < s.n_rcpts; i++)
		rcpts[i] = (struct smtp_reply){ .code = f->rcpt_code };
	if (f->forgets && f->sends == 2) {
		sent.fail = RELAY_FAIL_CLOSED;
		sent.mail.code = sent.data.code = sent.final.code = 0;
		f->open--;
	}
	relay_sent_put(&b, &sent);
	channel_send(f->channel, RELAY_SENT, m->id, buf_span(&b), -1);
}

static void on_order(void *arg, struct channel *c, struct channel_msg *m)
{
	struct fake_out *f = arg;

	f->channel = c;
	if (m->type == DNS_ASK)
		answer_dns(f, m);
	else if (m->type == RELAY_OPEN)
		answer_open(f, m);
	else if (m->type == RELAY_SEND)
		answer_send(f, m);
	else if (m->type == RELAY_CLOSE) {
		f->closes++;
		f->open--;
	}
}

static void on_answer(void *arg, struct channel *c, struct channel_msg *m)
{
	struct fake_out *f = arg;

	relay_message(f->relay, m);
}

static void ignore(void *arg, struct channel *c)
{
}

/* --- the frame --- */

static void add(const char *route, size_t n_rcpts)
{
	leases[n_leases].route = route;
	leases[n_leases].n_rcpts = n_rcpts;
	n_leases++;
}

static void too_late(void *arg)
{
	fail_msg("not everything was settled");
}

/* Runs until all leases that were added are settled (or, with a silent peer, were sent). */
static void run(struct fake_out *f, bool then_die)
{
	struct pool_conf pc = { .max_queued = 1000 };
	struct core_env env = { .pool = pool_new(&pc), .conf = the_conf };
	struct channel *core, *out;
	struct loop_timer guard;
	int fds[2];

	loop = loop_new();
	stop_after = f->dead ? n_leases - n_dead : n_leases;
	assert_int_equal(channel_pair(fds), 0);
	core = channel_open(loop, fds[0], on_answer, ignore, f);
	out = channel_open(loop, fds[1], on_order, ignore, f);
	f->channel = out;
	f->relay = relay_new(&env, loop);
	loop_timer_init(&guard, loop, too_late, NULL);
	loop_timer_arm(&guard, 20 * USEC_SEC);
	relay_set_out(f->relay, core);
	loop_run(loop);
	if (then_die) {
		relay_out_gone(f->relay);
		loop_run(loop);
	}
	loop_timer_stop(&guard);
	relay_stop(f->relay);
	pool_free(env.pool);
	relay_free(f->relay);
	channel_close(core);
	channel_close(out);
	loop_free(loop);
}

static int reset(void **state)
{
	memset(leases, 0, sizeof leases);
	n_leases = n_settled = n_local = n_holds = 0;
	return 0;
}

static void test_delivered(void **state)
{
	struct fake_out f = { .mx = "mx.test", .rcpt_code = 250 };

	add("smtp:mx.test", 1);
	add("local", 1);
	add("smtp:[127.0.0.1]:2525", 2);
	run(&f, false);
	assert_int_equal(leases[0].outcome, OUTCOME_DELIVERED);
	assert_string_equal(leases[0].status, "2.6.0");
	assert_int_equal(leases[2].delivered, 2);
	assert_int_equal(n_local, 1);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(leases[i].settled, 1);
}

static void test_connection_is_shared(void **state)
{
	struct fake_out f = { .mx = "mx.test", .rcpt_code = 250 };

	for (size_t i = 0; i < 40; i++)
		add("smtp:mx.test", 1);
	run(&f, false);
	assert_true(f.most_open <= 2);
	assert_true(f.opens <= 2);
	assert_true(n_holds > 0);
	for (size_t i = 0; i < 40; i++) {
		assert_int_equal(leases[i].settled, 1);
		assert_int_equal(leases[i].outcome, OUTCOME_DELIVERED);
	}
}

/* One destination that is full keeps no other waiting, and what it could not take at once is not
 * forgotten when its connections fail. */
static void test_full_destination_fails(void **state)
{
	struct fake_out f = { .mx = "mx.test", .open_fail = RELAY_FAIL_CONNECT, .rcpt_code = 250 };

	for (size_t i = 0; i < 40; i++)
		add("smtp:mx.test", 1);
	add("local", 1);
	run(&f, false);
	assert_int_equal(n_local, 1);
	for (size_t i = 0; i < 40; i++) {
		assert_int_equal(leases[i].settled, 1);
		assert_int_equal(leases[i].outcome, OUTCOME_DEFERRED);
	}
}

static void test_many_recipients(void **state)
{
	struct fake_out f = { .mx = "mx.test", .rcpt_code = 250 };

	add("smtp:mx.test", 2 * RELAY_RCPTS_MAX + 1);
	run(&f, false);
	assert_int_equal(f.sends, 3);
	assert_int_equal(f.opens, 1);
	assert_int_equal(leases[0].delivered, 2 * RELAY_RCPTS_MAX + 1);
}

static void test_refused_and_deferred(void **state)
{
	struct fake_out f = { .mx = "mx.test", .rcpt_code = 550 };

	add("smtp:mx.test", 1);
	run(&f, false);
	assert_int_equal(leases[0].outcome, OUTCOME_FAILED);
	assert_string_equal(leases[0].status, "5.0.0");
	reset(state);
	f = (struct fake_out){ .mx = "mx.test", .open_fail = RELAY_FAIL_CONNECT };
	add("smtp:mx.test", 1);
	run(&f, false);
	assert_int_equal(leases[0].outcome, OUTCOME_DEFERRED);
	assert_string_equal(leases[0].status, "4.4.1");
}

static void test_tls_trouble_is_retried_in_clear(void **state)
{
	struct fake_out f = { .mx = "mx.test", .open_fail = RELAY_FAIL_TLS, .rcpt_code = 250 };

	add("smtp:mx.test", 1);
	run(&f, false);
	assert_int_equal(f.opens, 2);
	assert_int_equal(f.in_clear, 1);
	assert_int_equal(leases[0].outcome, OUTCOME_DELIVERED);
}

static void test_names(void **state)
{
	static const struct {
		const char *mx;
		enum dns_status mx_status, a_status;
		enum rcpt_outcome outcome;
		const char *status;
	} rows[] = {
		{ "", DNS_OK, DNS_OK, OUTCOME_FAILED, "5.1.10" },
		{ "x", DNS_NXDOMAIN, DNS_OK, OUTCOME_FAILED, "5.1.2" },
		{ "x", DNS_SERVFAIL, DNS_OK, OUTCOME_DEFERRED, "4.4.3" },
		{ "x", DNS_BOGUS, DNS_OK, OUTCOME_DEFERRED, "4.4.3" },
		{ "us.test", DNS_OK, DNS_OK, OUTCOME_FAILED, "5.4.6" },
		{ "x", DNS_OK, DNS_NXDOMAIN, OUTCOME_FAILED, "5.4.4" },
		{ "x", DNS_OK, DNS_TIMEOUT, OUTCOME_DEFERRED, "4.4.3" },
		{ NULL, DNS_OK, DNS_NXDOMAIN, OUTCOME_FAILED, "5.1.2" },
		{ NULL, DNS_OK, DNS_NODATA, OUTCOME_FAILED, "5.4.4" },
		{ NULL, DNS_OK, DNS_OK, OUTCOME_DELIVERED, "2.6.0" }, /* the implicit MX */
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fake_out f = { .mx = rows[i].mx,
				      .mx_status = rows[i].mx_status,
				      .a_status = rows[i].a_status,
				      .rcpt_code = 250 };

		reset(state);
		add("smtp:example.test", 1);
		run(&f, false);
		assert_int_equal(leases[0].outcome, rows[i].outcome);
		assert_string_equal(leases[0].status, rows[i].status);
	}
}

static void test_smtputf8_is_needed(void **state)
{
	struct fake_out f = { .mx = "mx.test", .rcpt_code = 250 };

	add("smtp:mx.test", 1);
	leases[0].smtputf8 = true;
	body = "Subject: \xc3\xa4\r\n\r\n";
	run(&f, false);
	body = "hello";
	assert_int_equal(leases[0].outcome, OUTCOME_FAILED);
	assert_string_equal(leases[0].status, "5.6.7");
	assert_int_equal(f.sends, 0);
	reset(state); /* it was asked for, but nothing needs it */
	add("smtp:mx.test", 1);
	leases[0].smtputf8 = true;
	run(&f, false);
	assert_int_equal(leases[0].outcome, OUTCOME_DELIVERED);
}

static void test_stale_connection(void **state)
{
	struct fake_out f = { .mx = "mx.test", .rcpt_code = 250, .forgets = true };

	conf.relay_per_destination = 1;
	add("smtp:mx.test", 1);
	add("smtp:mx.test", 1);
	run(&f, false);
	conf.relay_per_destination = 2;
	assert_int_equal(f.opens, 2);
	assert_int_equal(leases[0].outcome, OUTCOME_DELIVERED);
	assert_int_equal(leases[1].outcome, OUTCOME_DELIVERED);
}

/* Ten domains with one mail server: they share its connections, and each has its turn. */
static void test_one_provider(void **state)
{
	static char routes[10][32];
	struct fake_out f = { .mx = "mx.test", .rcpt_code = 250 };

	for (size_t i = 0; i < 10; i++) {
		snprintf(routes[i], sizeof routes[i], "smtp:d%zu.test", i);
		for (size_t k = 0; k < 5; k++)
			add(routes[i], 1);
	}
	run(&f, false);
	assert_true(f.most_open <= 2);
	for (size_t i = 0; i < n_leases; i++) {
		assert_int_equal(leases[i].settled, 1);
		assert_int_equal(leases[i].outcome, OUTCOME_DELIVERED);
	}
}

/* Three dead destinations take what destinations without a name may have of a small pool, but for
 * one connection: all others get their mail by it. */
static void test_dead_and_living(void **state)
{
	static char routes[15][32];
	struct fake_out f = { .dead = true, .rcpt_code = 250 };

	conf.relay_connections = 10;
	for (size_t i = 0; i < 15; i++) {
		snprintf(routes[i], sizeof routes[i], "smtp:[127.0.0.%zu]", i < 3 ? 100 + i : i);
		for (size_t k = 0; k < 4; k++)
			add(routes[i], 1);
	}
	n_dead = (size_t)3 * 4;
	run(&f, false);
	n_dead = 0;
	conf.relay_connections = 100;
	assert_int_equal(f.dead_opens, 6);
	for (size_t i = 0; i < n_leases; i++)
		assert_int_equal(leases[i].delivered, i < (size_t)3 * 4 ? 0 : 1);
}

static void test_out_dies(void **state)
{
	struct fake_out f = { .mx = "mx.test", .rcpt_code = 250, .silent = true };

	add("smtp:mx.test", 1);
	run(&f, true);
	assert_int_equal(leases[0].settled, 1);
	assert_int_equal(leases[0].outcome, OUTCOME_DEFERRED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_delivered, reset),
		cmocka_unit_test_setup(test_connection_is_shared, reset),
		cmocka_unit_test_setup(test_full_destination_fails, reset),
		cmocka_unit_test_setup(test_many_recipients, reset),
		cmocka_unit_test_setup(test_refused_and_deferred, reset),
		cmocka_unit_test_setup(test_tls_trouble_is_retried_in_clear, reset),
		cmocka_unit_test_setup(test_names, reset),
		cmocka_unit_test_setup(test_smtputf8_is_needed, reset),
		cmocka_unit_test_setup(test_stale_connection, reset),
		cmocka_unit_test_setup(test_one_provider, reset),
		cmocka_unit_test_setup(test_dead_and_living, reset),
		cmocka_unit_test_setup(test_out_dies, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

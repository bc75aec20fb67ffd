/* What is asked of the outside before a message is judged, with `out` played by the test. */
#include "world.h"

#include <string.h>
#include <unistd.h>

#include "dns/dns.h"
#include "filter/filter.h"
#include "sys/ask.h"

static struct {
	struct loop *loop;
	struct channel *core, *out;
	enum dns_status dns; /* of each answer */
	bool renames;	     /* answers have another name than their questions */
	/* Called for each FILTER_ASK; may be NULL. */
	void (*filter)(struct channel *c, struct channel_msg *m, const struct filter_ask *a);
	unsigned asked, closed;
} env;

static void on_core(void *arg, struct channel *c, struct channel_msg *m)
{
	ask_table_message(w.env.asks, m);
}

static void on_dns(struct channel *c, struct channel_msg *m)
{
	struct dns_answer a[DNS_ASK_MAX] = { 0 };
	struct buf b = BUF_INIT(CHANNEL_MAX);
	struct dns_question *q;
	size_t n;

	assert_int_equal(dns_ask_get(m->payload, &w.mem, &q, &n), 0);
	for (size_t i = 0; i < n; i++)
		a[i] = (struct dns_answer){ .name = env.renames ? SPAN("x.test") : q[i].name,
					    .type = q[i].type,
					    .status = env.dns };
	assert_int_equal(dns_answers_put(&b, a, n), 0);
	channel_send(c, DNS_ANSWER, m->id, buf_span(&b), -1);
	buf_done(&b);
}

static void on_out(void *arg, struct channel *c, struct channel_msg *m)
{
	struct filter_ask a;

	if (m->type == DNS_ASK) {
		on_dns(c, m);
		return;
	}
	assert_int_equal(filter_ask_get(m->payload, &w.mem, &a), 0);
	env.closed += (a.flags & FILTER_CLOSE) != 0;
	env.asked += !(a.flags & FILTER_CLOSE);
	if (env.filter)
		env.filter(c, m, &a);
}

static void on_closed(void *arg, struct channel *c)
{
}

static void wake(void *arg, uint64_t id)
{
	loop_stop(env.loop);
}

static void inspect(struct mail_transaction *t)
{
	t->wake = wake;
	while (!mail_inspect(&w.env, t))
		loop_run(env.loop);
}

static int setup(void **state)
{
	int fds[2];

	world_setup(state);
	memset(&env, 0, sizeof env);
	env.dns = DNS_NXDOMAIN;
	env.loop = loop_new();
	assert_int_equal(channel_pair(fds), 0);
	env.core = channel_open(env.loop, fds[0], on_core, on_closed, NULL);
	env.out = channel_open(env.loop, fds[1], on_out, on_closed, NULL);
	w.env.asks = ask_table_new(env.loop);
	ask_table_set_out(w.env.asks, env.core);
	w.conf.max_message = 1 << 20;
	w.conf.trust_check = CONF_CHECK_REMOTE;
	w.conf.trust_dmarc = CONF_DMARC_ENFORCE;
	w.inspect = inspect;
	return 0;
}

static int teardown(void **state)
{
	ask_table_free(w.env.asks);
	channel_close(env.core);
	channel_close(env.out);
	loop_free(env.loop);
	return world_teardown(state);
}

#define SIGNED                                                               \
	"DKIM-Signature: v=1; a=rsa-sha256; d=signer.test; s=k; h=from;\r\n" \
	" bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=aaaa\r\n"
#define FORGED "Authentication-Results: mx.here.test; dmarc=pass header.from=bank.test\r\n"

/* The verdicts speak of the message as it came, though it was changed since. */
static void test_results_outlive_changes(void **state)
{
	span m;

	assert_verdict(send_one("x@else.test", "alice@here.test",
				SIGNED FORGED "no field\r\n" FORGED
					      "From: x@else.test\r\n\r\nhi\r\n"),
		       "250 ");
	m = inbox_get("alice@here.test", 1);
	assert_has(m, "header.d=signer.test");
	assert_has(m, "header.s=k");
	assert_false(has(m, "bank.test"));
}

/* Nobody can vouch for such mail, and programs differ in whom they show. */
static void test_no_single_author(void **state)
{
	static const char *const bad[] = {
		"From: a@x.test\r\nFrom: b@y.test\r\n\r\nhi\r\n",
		"From: a@x.test\r\nno field\r\nFrom: b@y.test\r\n\r\nhi\r\n",
		"From: a@x.test, b@y.test\r\n\r\nhi\r\n",
		"Subject: nobody\r\n\r\nhi\r\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_verdict(send_one("x@else.test", "alice@here.test", bad[i]), "250 ");
	assert_int_equal(inbox_count("alice@here.test"), 0);
	w.conf.trust_dmarc = CONF_DMARC_REPORT;
	assert_verdict(send_one("x@else.test", "alice@here.test", bad[0]), "250 ");
	assert_int_equal(inbox_count("alice@here.test"), 1);
}

/* What a core died of is not looked into, nor trusted. */
static void test_poisoned(void **state)
{
	static const char text[] = "From: a@x.test\r\n\r\nhi\r\n";
	struct poison *p;
	static char page[POISON_PAGE] __attribute__((aligned(16)));
	int slot;

	memset(page, 0, sizeof page);
	p = poison_open(page);
	assert_false(poison_enter(p, POISON_TRUST, span_str(text), &slot));
	poison_close(p);
	poison_close(w.env.poison);
	w.env.poison = poison_open(page);
	assert_verdict(send_one("x@else.test", "alice@here.test", text), "250 ");
	assert_int_equal(inbox_count("alice@here.test"), 0);
	assert_int_equal(steps(&w.last, "trust.skipped"), 1);
}

/* A question never stays open, whatever `out` answers. */
static void test_other_names(void **state)
{
	env.renames = true;
	assert_verdict(
		send_one("x@else.test", "alice@here.test", "From: x@else.test\r\n\r\nhi\r\n"),
		"250 ");
	env.dns = DNS_SERVFAIL;
	assert_verdict(
		send_one("x@else.test", "alice@here.test", "From: x@else.test\r\n\r\nhi\r\n"),
		"451 4.7.1");
}

/* Who hands over by LMTP is not whom SPF is about. */
static void test_lmtp(void **state)
{
	const struct send s = {
		.from = "x@else.test", .rcpt = { "alice@here.test" }, .lmtp = true, .each = true
	};

	env.dns = DNS_SERVFAIL;
	assert_verdict(mail_send(&s, SPAN("From: x@else.test\r\n\r\nhi\r\n")), "250 ");
	assert_false(has(inbox_get("alice@here.test", 1), "Authentication-Results"));
}

/* ------------------------------------------------------------------ filters */

static struct conf_filter two[] = {
	{ .name = SPAN("one"), .kind = CONF_FILTER_MILTER, .address = SPAN("127.0.0.1:1") },
	{ .name = SPAN("two"), .kind = CONF_FILTER_MILTER, .address = SPAN("127.0.0.1:2") },
};

static void use_filters(void)
{
	for (size_t i = 0; i < ARRAY_LEN(two); i++) {
		two[i].applies = CONF_FILTER_FOR_ALL;
		two[i].stages = CONF_FILTER_ALL;
		two[i].on_error = CONF_FILTER_ACCEPT;
		two[i].timeout = two[i].timeout_message = USEC_SEC / 10;
		two[i].max_size = 1 << 20;
	}
	w.conf.filters = two;
	w.conf.n_filters = ARRAY_LEN(two);
	w.conf.trust_check = CONF_CHECK_NONE;
}

static void reply(struct channel *c, uint64_t id, const struct filter_result *r)
{
	struct buf b = BUF_INIT(CHANNEL_MAX);

	assert_int_equal(filter_result_put(&b, r), 0);
	channel_send(c, FILTER_ANSWER, id, buf_span(&b), -1);
	buf_done(&b);
}

/* The first says nothing in time: nobody may go on with it. */
static void first_is_silent(struct channel *c, struct channel_msg *m, const struct filter_ask *a)
{
	if (sock_port(&a->to) == 1 && !(a->flags & FILTER_CLOSE))
		return;
	reply(c, m->id, &(struct filter_result){ .action = FILTER_CONTINUE });
}

static void test_late_filter(void **state)
{
	use_filters();
	env.filter = first_is_silent;
	assert_verdict(
		send_one("x@else.test", "alice@here.test", "From: x@else.test\r\n\r\nhi\r\n"),
		"250 ");
	assert_int_equal(env.asked, 2);
	assert_int_equal(env.closed, 1);
}

/* Both change the header; the second gives it a new body. */
static void change(struct channel *c, struct channel_msg *m, const struct filter_ask *a)
{
	struct filter_edit e = { .kind = FILTER_INSERT_HEADER,
				 .name = sock_port(&a->to) == 1 ? SPAN("X-One") : SPAN("X-Two"),
				 .value = SPAN(" yes") };
	struct filter_result r = { .action = FILTER_CONTINUE, .edits = &e, .n_edits = 1 };

	if (sock_port(&a->to) == 2) {
		r.new_body = true;
		r.new_body_size = 5;
		assert_int_equal(pwrite(m->fd, "new\r\n", 5, (off_t)a->size), 5);
	}
	reply(c, m->id, &r);
}

static void test_changes(void **state)
{
	span m;

	use_filters();
	w.conf.trust_check = CONF_CHECK_ALL;
	env.filter = change;
	assert_verdict(send_one("x@else.test", "alice@here.test",
				SIGNED "From: x@else.test\r\n\r\nold\r\n"),
		       "250 ");
	m = inbox_get("alice@here.test", 1);
	assert_has(m, "header.d=signer.test");
	assert_has(m, "\r\nX-Two: yes\r\nX-One: yes\r\n");
	assert_has(m, "\r\n\r\nnew\r\n");
	assert_false(has(m, "old"));
}

/* The client goes while a filter is asked: the filter is told, and a late answer hits nothing. */
static void only_close(struct channel *c, struct channel_msg *m, const struct filter_ask *a)
{
	if (a->flags & FILTER_CLOSE)
		reply(c, m->id, &(struct filter_result){ .action = FILTER_CONTINUE });
	if (env.closed)
		loop_stop(env.loop);
}

static void test_client_goes(void **state)
{
	struct mail_transaction *t = mail_transaction_new();

	use_filters();
	env.filter = only_close;
	t->wake = wake;
	assert_int_equal(sock_parse_ip(SPAN("192.0.2.7"), 4711, &t->peer), 0);
	assert_int_equal(mail_body_add(&w.env, t, SPAN("From: x@else.test\r\n\r\nhi\r\n"), 1000),
			 0);
	assert_false(mail_inspect(&w.env, t));
	assert_false(mail_inspect(&w.env, t)); /* a false alarm */
	mail_transaction_free(t);
	while (ask_table_open(w.env.asks))
		loop_run(env.loop);
	assert_int_equal(env.asked, 1);
	assert_int_equal(env.closed, 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_results_outlive_changes),
		TEST(test_no_single_author),
		TEST(test_poisoned),
		TEST(test_other_names),
		TEST(test_lmtp),
		TEST(test_client_goes),
		TEST(test_late_filter),
		TEST(test_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

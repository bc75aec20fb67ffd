/* The pure decisions: routes, the order of hosts, and what a set of replies means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/relay_int.h"

static struct arena mem;

static int setup(void **state)
{
	arena_init(&mem);
	return 0;
}

static int teardown(void **state)
{
	arena_done(&mem);
	return 0;
}

static void test_routes(void **state)
{
	static const char *const wrong[] = { "local",
					     "expanded",
					     "smtp:",
					     "smtp:[1.2.3.4",
					     "smtp:[1.2.3.4]:0",
					     "smtp:[1.2.3.4]:99999",
					     "smtp:[1.2.3.4]x",
					     "lmtp:example.org",
					     "lmtp:[]",
					     "via:",
					     "via:a b",
					     "via:a:b",
					     "http:[1.2.3.4]",
					     "" };
	struct conf_nexthop hop;

	assert_int_equal(conf_nexthop_parse(SPAN("smtp:Example.org"), &mem, &hop), 0);
	assert_true(span_eq_str(hop.name, "example.org") && hop.kind == NEXTHOP_DOMAIN &&
		    hop.port == 0);
	assert_int_equal(conf_nexthop_parse(SPAN("smtp:b\xc3\xbc"
						 "cher.example"),
					    &mem, &hop),
			 0);
	assert_true(span_eq_str(hop.name, "xn--bcher-kva.example"));
	assert_int_equal(conf_nexthop_parse(SPAN("smtp:[192.0.2.7]:2525"), &mem, &hop), 0);
	assert_true(hop.has_address && hop.port == 2525 && hop.kind == NEXTHOP_HOST);
	assert_int_equal(conf_nexthop_parse(SPAN("smtp:[IPv6:2001:db8::1]"), &mem, &hop), 0);
	assert_true(hop.has_address && hop.address.sa.sa_family == AF_INET6);
	assert_int_equal(conf_nexthop_parse(SPAN("lmtp:[store.example]:2424"), &mem, &hop), 0);
	assert_true(hop.lmtp && !hop.has_address && hop.port == 2424);
	assert_int_equal(conf_nexthop_parse(SPAN("via:smart-1"), &mem, &hop), 0);
	assert_true(hop.kind == NEXTHOP_VIA && span_eq_str(hop.name, "smart-1"));
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		if (conf_nexthop_parse(span_str(wrong[i]), &mem, &hop) == 0 ||
		    conf_way_ok(&(struct conf){ 0 }, span_str(wrong[i]), false))
			fail_msg("\"%s\" was taken for a way", wrong[i]);
}

/* What the configuration says of a route. */
static void test_ways(void **state)
{
	static const char text[] =
		"server: {hostname: mx.us.test}\n"
		"relay:\n  port: 2525\n  hosts:\n"
		"    - {name: smart, host: smart.test, port: 465, tls: implicit}\n"
		"    - {name: box, host: 127.0.0.1, port: 24, tls: none, lmtp: yes}\n";
	struct err_info info;
	struct relay_reason reason;
	struct relay_way w;
	struct conf *c = NULL;

	assert_int_equal(conf_parse(span_str(text), "f", &c, &info), 0);
	assert_true(relay_way_find(c, SPAN("smtp:a.test"), &mem, &w, &reason));
	assert_true(w.port == 2525 && w.tls == RELAY_TLS_MAY && !w.lmtp && !w.implicit_tls);
	assert_true(relay_way_find(c, SPAN("lmtp:[a.test]"), &mem, &w, &reason));
	assert_true(w.port == 24 && w.tls == RELAY_TLS_MAY && w.lmtp);
	assert_true(relay_way_find(c, SPAN("via:smart"), &mem, &w, &reason));
	assert_true(w.port == 465 && w.tls == RELAY_TLS_VERIFY && w.implicit_tls && !w.lmtp);
	assert_true(span_eq_str(w.name, "smart.test") && !w.has_address);
	assert_true(relay_way_find(c, SPAN("via:box"), &mem, &w, &reason));
	assert_true(w.tls == RELAY_TLS_NONE && w.lmtp && w.has_address);
	assert_int_equal(sock_port(&relay_target_of(&w, &mem)->to), 24);
	assert_false(relay_way_find(c, SPAN("via:other"), &mem, &w, &reason));
	assert_string_equal(reason.status, "4.3.5");
	assert_false(relay_way_find(c, SPAN("local"), &mem, &w, &reason));
	assert_string_equal(reason.status, "5.1.2");
	conf_unref(c);
}

static void test_order_of_hosts(void **state)
{
	struct dns_record records[] = { { .preference = 20, .name = SPAN("c") },
					{ .preference = 10, .name = SPAN("a") },
					{ .preference = 10, .name = SPAN("b") },
					{ .preference = 30, .name = SPAN("d") } };
	struct dns_answer mx = { .name = SPAN("x"), .type = DNS_MX, .records = records, .n = 4 };
	struct relay_reason reason;
	struct relay_host *h;
	unsigned a_first = 0;
	size_t n;

	for (uint64_t random = 0; random < 100; random++) {
		assert_int_equal(
			relay_hosts_choose(&mx, SPAN("us"), random * 7919, &mem, &h, &n, &reason),
			1);
		assert_int_equal(n, 4);
		assert_int_equal(h[0].preference, 10);
		assert_int_equal(h[1].preference, 10);
		assert_true(span_eq_str(h[2].name, "c") && span_eq_str(h[3].name, "d"));
		a_first += span_eq_str(h[0].name, "a");
	}
	assert_in_range(a_first, 20, 80);
	/* We are "c": only better hosts may be tried, or the message comes back. */
	assert_int_equal(relay_hosts_choose(&mx, SPAN("C"), 1, &mem, &h, &n, &reason), 1);
	assert_int_equal(n, 2);
	assert_true(relay_hosts_choose(&mx, SPAN("a"), 1, &mem, &h, &n, &reason) < 0);
	assert_string_equal(reason.status, "5.4.6");
}

static void test_too_many_hosts(void **state)
{
	struct dns_record records[100];
	struct dns_answer mx = { .name = SPAN("x"), .type = DNS_MX, .records = records, .n = 100 };
	struct relay_reason reason;
	struct relay_host *h;
	size_t n;

	for (size_t i = 0; i < 100; i++)
		records[i] = (struct dns_record){ .preference = (uint16_t)(100 - i),
						  .name = SPAN("h") };
	assert_int_equal(relay_hosts_choose(&mx, SPAN("us"), 1, &mem, &h, &n, &reason), 1);
	assert_int_equal(n, RELAY_HOSTS_MAX);
	assert_int_equal(h[0].preference, 1);
}

static struct smtp_reply reply(unsigned code, const char *enhanced, const char *text)
{
	struct smtp_reply r = { .code = code, .text = span_str(text) };

	memcpy(r.enhanced, enhanced, strlen(enhanced) + 1);
	return r;
}

static void test_verdicts(void **state)
{
	static const struct {
		unsigned mail, rcpt, data, final;
		const char *enhanced; /* of the final reply */
		enum rcpt_outcome outcome;
		const char *status;
	} rows[] = {
		{ 250, 250, 354, 250, "2.0.0", OUTCOME_DELIVERED, "2.0.0" },
		{ 250, 251, 354, 250, "", OUTCOME_DELIVERED, "2.0.0" },
		{ 250, 250, 354, 550, "5.7.1", OUTCOME_FAILED, "5.7.1" },
		{ 250, 250, 354, 550, "4.7.1", OUTCOME_FAILED, "5.0.0" }, /* contradicts itself */
		{ 250, 250, 354, 0, "", OUTCOME_DEFERRED, "4.4.2" },
		{ 250, 250, 354, 354, "", OUTCOME_DEFERRED, "4.0.0" },
		{ 250, 550, 354, 250, "", OUTCOME_FAILED, "5.0.0" },
		{ 250, 450, 354, 250, "", OUTCOME_DEFERRED, "4.0.0" },
		{ 250, 250, 554, 0, "", OUTCOME_FAILED, "5.0.0" },
		{ 451, 503, 503, 0, "", OUTCOME_DEFERRED, "4.0.0" },
		{ 550, 0, 0, 0, "", OUTCOME_FAILED, "5.0.0" },
		{ 0, 0, 0, 0, "", OUTCOME_DEFERRED, "4.4.2" },
		{ 250, 250, 250, 0, "", OUTCOME_DEFERRED,
		  "4.4.2" }, /* "250" to DATA delivers nothing */
		{ 250, 250, 354, 552, "5.5.3", OUTCOME_DEFERRED, "4.0.0" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_reply rcpt = reply(rows[i].rcpt, "", "rcpt");
		struct relay_sent s = { .fail = RELAY_FAIL_CLOSED,
					.mail = reply(rows[i].mail, "", "mail"),
					.rcpts = &rcpt,
					.n_rcpts = 1,
					.data = reply(rows[i].data, "", "data"),
					.final = reply(rows[i].final, rows[i].enhanced, "a\nb") };
		struct queue_result r = { 0 };

		relay_verdict(&s, 0, &mem, &r);
		assert_int_equal(r.outcome, rows[i].outcome);
		assert_string_equal(r.status, rows[i].status);
		assert_true(span_find(r.reply, '\n') == SPAN_NPOS);
	}
}

static struct relay_target target(const char *host, const char *ip)
{
	struct relay_target t = { .host = span_str(host) };

	assert_int_equal(sock_parse_ip(span_str(ip), 25, &t.to), 0);
	return t;
}

static void test_group_keys(void **state)
{
	const struct relay_host hosts[] = { { SPAN("b.test"), 10 },
					    { SPAN("A.test"), 10 },
					    { SPAN("c.test"), 20 } };
	const struct relay_target one[] = { target("b.test", "192.0.2.2"),
					    target("a.test", "192.0.2.1"),
					    target("c.test", "192.0.2.3") },
				  two[] = { target("a.test", "192.0.2.1"),
					    target("a.test", "192.0.2.2"),
					    target("b.test", "192.0.2.2") };
	span k1[RELAY_GROUP_KEYS], k2[RELAY_GROUP_KEYS];

	assert_int_equal(relay_group_keys(hosts, 3, one, 3, &mem, k1), RELAY_GROUP_KEYS);
	/* The order says nothing, nor do hosts that are worse. */
	assert_true(span_eq_str(k1[0], "hosts a.test:25 b.test:25"));
	assert_true(span_eq_str(k1[1], "addresses [192.0.2.1]:25 [192.0.2.2]:25"));
	relay_group_keys(hosts, 2, two, 3, &mem, k2);
	assert_true(span_eq(k1[0], k2[0]) && span_eq(k1[1], k2[1]));
	/* The best have no address: the others count. */
	relay_group_keys(hosts, 3, one + 2, 1, &mem, k1);
	assert_true(span_eq_str(k1[0], "hosts c.test:25"));
	relay_group_keys(NULL, 0, one + 2, 1, &mem, k2);
	assert_true(span_eq(k1[0], k2[0]));
}

static void test_sent_away(void **state)
{
	struct smtp_reply rcpts[] = { reply(250, "", ""), reply(421, "4.3.2", "") };
	struct relay_sent s = { .mail = reply(250, "", ""),
				.rcpts = rcpts,
				.n_rcpts = 1,
				.final = reply(451, "", "") };

	assert_false(relay_sent_away(&s));
	s.n_rcpts = 2;
	assert_true(relay_sent_away(&s));
	s.n_rcpts = 1;
	s.final.code = 421;
	assert_true(relay_sent_away(&s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_routes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order_of_hosts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_hosts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_verdicts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_group_keys, setup, teardown),
		cmocka_unit_test(test_sent_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

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
	struct relay_route r;

	assert_int_equal(relay_route_parse(SPAN("smtp:Example.org"), &mem, &r), 0);
	assert_true(span_eq_str(r.name, "example.org") && !r.literal_host && r.port == 0);
	assert_int_equal(relay_route_parse(SPAN("smtp:b\xc3\xbc"
						"cher.example"),
					   &mem, &r),
			 0);
	assert_true(span_eq_str(r.name, "xn--bcher-kva.example"));
	assert_int_equal(relay_route_parse(SPAN("smtp:[192.0.2.7]:2525"), &mem, &r), 0);
	assert_true(r.has_address && r.port == 2525);
	assert_int_equal(relay_route_parse(SPAN("smtp:[IPv6:2001:db8::1]"), &mem, &r), 0);
	assert_true(r.has_address && r.address.sa.sa_family == AF_INET6);
	assert_int_equal(relay_route_parse(SPAN("smtp:[smart.example]:587"), &mem, &r), 0);
	assert_true(r.literal_host && !r.has_address && r.port == 587);
	assert_true(relay_route_parse(SPAN("local"), &mem, &r) < 0);
	assert_true(relay_route_parse(SPAN("smtp:"), &mem, &r) < 0);
	assert_true(relay_route_parse(SPAN("smtp:[1.2.3.4"), &mem, &r) < 0);
	assert_true(relay_route_parse(SPAN("smtp:[1.2.3.4]:0"), &mem, &r) < 0);
	assert_true(relay_route_parse(SPAN("smtp:[1.2.3.4]:99999"), &mem, &r) < 0);
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

static void test_suits(void **state)
{
	struct relay_opened peer = { .extensions = RELAY_EXT_SIZE, .max_size = 1000 };
	struct queue_lease l = { .size = 1000 };
	struct relay_reason reason;

	assert_true(relay_suits(&peer, &l, &reason));
	l.size = 1001;
	assert_false(relay_suits(&peer, &l, &reason));
	assert_string_equal(reason.status, "5.3.4");
	peer.max_size = 0;
	l.body_8bit = true;
	assert_true(relay_suits(&peer, &l, &reason));
	l.smtputf8 = true;
	assert_false(relay_suits(&peer, &l, &reason));
	assert_string_equal(reason.status, "5.6.7");
}

/* A recipient outside ASCII needs it too, whatever the message is. */
static void test_smtputf8(void **state)
{
	struct relay_opened peer = { 0 };
	struct queue_rcpt rcpts[] = { { .address = SPAN("a@x.test") },
				      { .address = SPAN("j\xc3\xb6rg@x.test") } };
	struct queue_lease l = { .rcpts = rcpts, .n_rcpts = 1 };
	struct relay_reason reason;

	assert_false(relay_needs_smtputf8(&l));
	l.n_rcpts = 2;
	assert_true(relay_needs_smtputf8(&l));
	assert_false(relay_suits(&peer, &l, &reason));
	peer.extensions = RELAY_EXT_SMTPUTF8;
	assert_true(relay_suits(&peer, &l, &reason));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_routes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order_of_hosts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_hosts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_verdicts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_suits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_smtputf8, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

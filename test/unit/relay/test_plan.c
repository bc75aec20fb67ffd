/* Which recipients go together, to which peers, and with what parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "relay/relay_int.h"

#define NOW (1000 * USEC_SEC)

static struct queue_rcpt rcpts[] = { { .address = SPAN("j\xc3\xb6rg@x.test"), .row = 1 },
				     { .address = SPAN("a@x.test"), .row = 2 },
				     { .address = SPAN("b@y.test"), .row = 3 },
				     { .address = SPAN("m\xc3\xbcller@y.test"), .row = 4 },
				     { .address = SPAN("c@X.test"), .row = 5 } };

static struct queue_lease lease(size_t n)
{
	return (struct queue_lease){
		.sender = SPAN("s@us.test"), .size = 1000, .rcpts = rcpts, .n_rcpts = n
	};
}

/* NULL: it suits; else the status of why not, with "+" if another host may do. */
static const char *fault(const struct relay_opened *peer, const struct queue_lease *l, size_t from)
{
	static char text[16];
	struct relay_part p = relay_part_of(peer, l, from, NOW);
	struct relay_reason reason;
	bool other;

	if (relay_suits(&p, &reason, &other))
		return NULL;
	assert_true(reason.text.n > 0);
	snprintf(text, sizeof text, "%s%s", reason.status, other ? "+" : "");
	return text;
}

static void test_size(void **state)
{
	struct relay_opened peer = { .extensions = RELAY_EXT_SIZE | RELAY_EXT_SMTPUTF8,
				     .max_size = 1000 };
	struct queue_lease l = lease(1);

	assert_null(fault(&peer, &l, 0));
	l.size = 1001;
	assert_string_equal(fault(&peer, &l, 0), "5.3.4");
	peer.max_size = 0;
	assert_null(fault(&peer, &l, 0));
}

/* An address outside ASCII costs nobody but itself its delivery. */
static void test_smtputf8(void **state)
{
	struct relay_opened peer = { 0 };
	struct queue_lease l = lease(ARRAY_LEN(rcpts));
	struct relay_part p;
	struct relay_send s;
	struct arena mem;

	arena_init(&mem);
	relay_sort_rcpts(&l, &mem);
	for (size_t i = 0; i < l.n_rcpts; i++)
		assert_int_equal(l.rcpts[i].row, ((const int[]){ 2, 3, 5, 1, 4 })[i]);
	p = relay_part_of(&peer, &l, 0, NOW);
	assert_int_equal(p.n, 3);
	relay_fill_send(&p, &s);
	assert_false(s.smtputf8);
	assert_null(fault(&peer, &l, 0));
	p = relay_part_of(&peer, &l, 3, NOW);
	assert_int_equal(p.n, 2);
	relay_fill_send(&p, &s);
	assert_true(s.smtputf8);
	assert_string_equal(fault(&peer, &l, 3), "5.6.7");
	peer.extensions = RELAY_EXT_SMTPUTF8;
	assert_null(fault(&peer, &l, 3));
	/* What the message itself holds is looked at only when a peer lacks it. */
	l.smtputf8 = true;
	p = relay_part_of(&peer, &l, 0, NOW);
	relay_fill_send(&p, &s);
	assert_true(s.smtputf8);
	peer.extensions = 0;
	assert_null(fault(&peer, &l, 0));
	l.sender = SPAN("\xc3\xb6@us.test");
	assert_string_equal(fault(&peer, &l, 0), "5.6.7");
	arena_done(&mem);
}

static void test_limits(void **state)
{
	static struct queue_rcpt many[RELAY_RCPTS_MAX + 20];
	struct queue_lease l = { .rcpts = many, .n_rcpts = ARRAY_LEN(many) };
	struct relay_opened peer = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i].address = i < 20   ? SPAN("a@x.test")
				  : i < 40 ? SPAN("a@y.test")
					   : SPAN("a@X.TEST");
	assert_int_equal(relay_part_of(&peer, &l, 0, NOW).n, RELAY_RCPTS_MAX);
	assert_int_equal(relay_part_of(&peer, &l, RELAY_RCPTS_MAX, NOW).n, 20);
	peer.rcpt_max = 7;
	assert_int_equal(relay_part_of(&peer, &l, 0, NOW).n, 7);
	peer.rcpt_max = 1000;
	assert_int_equal(relay_part_of(&peer, &l, 0, NOW).n, RELAY_RCPTS_MAX);
	peer.domain_max = 1;
	assert_int_equal(relay_part_of(&peer, &l, 0, NOW).n, 20);
	assert_int_equal(relay_part_of(&peer, &l, 20, NOW).n, 20);
	peer.domain_max = 2;
	assert_int_equal(relay_part_of(&peer, &l, 0, NOW).n, RELAY_RCPTS_MAX);
}

static void test_require_tls(void **state)
{
	struct relay_opened peer = { .extensions = RELAY_EXT_REQUIRETLS | RELAY_EXT_SMTPUTF8 };
	struct queue_lease l = lease(1);
	struct relay_part p = { &peer, &l, 0, 1, NOW };
	struct relay_send s;

	l.terms.require_tls = true;
	assert_true(relay_must_protect(&l));
	assert_string_equal(fault(&peer, &l, 0), "5.7.10+");
	peer.tls = peer.tls_verified = true;
	assert_null(fault(&peer, &l, 0));
	relay_fill_send(&p, &s);
	assert_true(s.require_tls);
	peer.extensions = RELAY_EXT_SMTPUTF8;
	assert_string_equal(fault(&peer, &l, 0), "5.7.30+");
	/* A report is better sent than lost, but over what cannot keep the promise it does not make it. */
	l.sender = SPAN_NULL;
	peer.tls_verified = false;
	assert_null(fault(&peer, &l, 0));
	relay_fill_send(&p, &s);
	assert_false(s.require_tls);
}

static void test_deliver_by(void **state)
{
	struct relay_opened peer = { .extensions = RELAY_EXT_SMTPUTF8 },
			    by = { .extensions = RELAY_EXT_SMTPUTF8 | RELAY_EXT_DELIVERBY,
				   .by_min = 60 };
	struct queue_lease l = lease(1);
	struct relay_part p = { &by, &l, 0, 1, NOW };
	struct relay_send s;

	l.terms.deliver_by = NOW + 100 * USEC_SEC;
	assert_null(fault(&peer, &l, 0)); /* N: it goes on */
	l.terms.by_return = true;
	assert_string_equal(fault(&peer, &l, 0), "5.3.3");
	assert_null(fault(&by, &l, 0));
	relay_fill_send(&p, &s);
	assert_true(s.by && s.by_return && !s.by_trace);
	assert_int_equal(s.by_seconds, 100);
	l.terms.deliver_by = NOW + 30 * USEC_SEC;
	assert_string_equal(fault(&by, &l, 0), "5.4.7");
	l.terms.deliver_by = NOW;
	assert_string_equal(fault(&by, &l, 0), "5.4.7");
	l.terms.by_return = false;
	l.terms.deliver_by = NOW - 5 * USEC_SEC;
	assert_null(fault(&by, &l, 0));
	relay_fill_send(&p, &s);
	assert_int_equal(s.by_seconds, -5);
}

static void test_verp(void **state)
{
	static const struct {
		const char *sender, *rcpt, *path;
	} rows[] = {
		{ "news@us.test", "amy@x.test", "news+amy=x.test@us.test" },
		{ "news@us.test", "amy+tag@x.test", "news+amy+tag=x.test@us.test" },
		{ "a.b@us.test", "c@x.test", "a.b+c=x.test@us.test" },
		{ "news@us.test", "\"a b\"@x.test", "news@us.test" },
		{ "\"n\"@us.test", "amy@x.test", "\"n\"@us.test" },
		{ "news@us.test", "amy@[192.0.2.1]", "news@us.test" },
		{ "news@us.test", "j\xc3\xb6rg@x.test", "news@us.test" },
		{ "news@us.test", "a1234567890123456789012345678901234567890123456789012@x.test",
		  "news@us.test" }, /* 65 octets */
		{ "news@us.test", "1234567890123456789012345678901234567890123456789012@x.test",
		  "news+1234567890123456789012345678901234567890123456789012=x.test@us.test" },
		{ "", "amy@x.test", "" },
	};
	struct arena mem;

	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		span path = mail_verp_path(span_str(rows[i].sender), span_str(rows[i].rcpt), &mem);

		if (!span_eq_str(path, rows[i].path))
			fail_msg("\"%.*s\" instead of \"%s\"", SPAN_FMT(path), rows[i].path);
	}
	arena_done(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size),	   cmocka_unit_test(test_smtputf8),
		cmocka_unit_test(test_limits),	   cmocka_unit_test(test_require_tls),
		cmocka_unit_test(test_deliver_by), cmocka_unit_test(test_verp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The client engine against scripted peers.  Each script is played twice: whole, and a byte at a
 * time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "relay/client.h"

static size_t step; /* bytes of one feed; 0: all at once */

static void say(struct relay_client *c, const char *words)
{
	span s = span_str(words);

	while (s.n > 0) {
		size_t n = step ? MIN(step, s.n) : s.n;

		relay_client_feed(c, span_sub(s, 0, n));
		s = span_from(s, n);
	}
}

static void expect(struct relay_client *c, const char *words)
{
	struct buf *out = relay_client_out(c);

	assert_string_equal(out->n ? buf_cstr(out) : "", words);
	buf_reset(out);
}

static struct relay_client *start(enum relay_tls tls, bool lmtp)
{
	struct relay_open o = {
		.helo = SPAN("us.test"), .host = SPAN("mx.test"), .tls = tls, .lmtp = lmtp
	};

	return relay_client_new(&o);
}

static struct relay_client *open_with(const char *ehlo)
{
	struct relay_client *c = start(RELAY_TLS_NONE, false);

	say(c, "220 mx.test ESMTP\r\n");
	expect(c, "EHLO us.test\r\n");
	say(c, ehlo);
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_int_equal(relay_client_opened(c)->fail, RELAY_FAIL_NONE);
	expect(c, "");
	return c;
}

static void send_to(struct relay_client *c, const char *one, const char *two)
{
	struct relay_rcpt rcpts[] = { { .address = span_str(one) }, { .address = span_str(two) } };
	struct relay_send s = {
		.sender = SPAN("a@us.test"), .size = 5, .rcpts = rcpts, .n_rcpts = two ? 2 : 1
	};

	relay_client_send(c, &s);
}

static void test_plain(void **state)
{
	struct relay_client *c = open_with("250 mx.test\r\n");
	const struct relay_sent *sent;

	send_to(c, "b@mx.test", "c@mx.test");
	expect(c, "MAIL FROM:<a@us.test>\r\n");
	say(c, "250 2.1.0 ok\r\n");
	expect(c, "RCPT TO:<b@mx.test>\r\n");
	say(c, "250 ok\r\n");
	expect(c, "RCPT TO:<c@mx.test>\r\n");
	say(c, "550-5.1.1 nobody\r\n550 5.1.1 here\r\n");
	expect(c, "DATA\r\n");
	say(c, "354 go\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_BODY);
	relay_client_body(c, SPAN("hello"));
	relay_client_body_end(c);
	expect(c, "hello\r\n.\r\n");
	say(c, "250 2.0.0 queued as 7\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	sent = relay_client_sent(c);
	assert_int_equal(sent->fail, RELAY_FAIL_NONE);
	assert_int_equal(sent->mail.code, 250);
	assert_int_equal(sent->rcpts[0].code, 250);
	assert_int_equal(sent->rcpts[1].code, 550);
	assert_string_equal(sent->rcpts[1].enhanced, "5.1.1");
	assert_true(span_eq_str(sent->rcpts[1].text, "nobody\nhere"));
	assert_int_equal(sent->data.code, 354);
	assert_true(span_eq_str(sent->final.text, "queued as 7"));
	relay_client_quit(c);
	expect(c, "QUIT\r\n");
	say(c, "221 bye\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_DEAD);
	relay_client_free(c);
}

static void test_pipelined(void **state)
{
	struct relay_client *c = open_with("250-mx.test hello\r\n250-PIPELINING\r\n250-SIZE "
					   "1000\r\n250-8bitmime\r\n250-DSN\r\n250 SMTPUTF8\r\n");
	struct relay_rcpt rcpts[] = { { SPAN("b@mx.test"), SPAN("rfc822;b+c@mx.test"),
					RELAY_NOTIFY_FAILURE | RELAY_NOTIFY_DELAY },
				      { SPAN("c@mx.test"), SPAN("d@mx.test"),
					RELAY_NOTIFY_NEVER } };
	struct relay_send s = { .sender = SPAN(""),
				.size = 2,
				.body_8bit = true,
				.envid = SPAN("x=1"),
				.rcpts = rcpts,
				.n_rcpts = 2 };

	assert_int_equal(relay_client_opened(c)->max_size, 1000);
	assert_true(span_eq_str(relay_client_opened(c)->banner_host, "mx.test"));
	relay_client_send(c, &s);
	expect(c, "MAIL FROM:<> SIZE=2 BODY=8BITMIME ENVID=x+3D1\r\n"
		  "RCPT TO:<b@mx.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b+2Bc@mx.test\r\n"
		  "RCPT TO:<c@mx.test> NOTIFY=NEVER ORCPT=rfc822;d@mx.test\r\n"
		  "DATA\r\n");
	say(c, "250 ok\r\n250 ok\r\n450 later\r\n354 go\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_BODY);
	relay_client_body_end(c);
	expect(c, ".\r\n");
	say(c, "250 ok\r\n");
	assert_int_equal(relay_client_sent(c)->rcpts[1].code, 450);
	assert_int_equal(relay_client_sent(c)->final.code, 250);
	relay_client_free(c);
}

/* What was asked for is passed on, and nothing else (RFC 3461 5.2.1, 5.2.2). */
static void test_dsn(void **state)
{
	struct relay_rcpt rcpts[] = {
		{ SPAN("b@mx.test"), SPAN("utf-8;\xc3\xa4+@mx.test"), RELAY_NOTIFY_SUCCESS },
		{ SPAN("c@mx.test"), SPAN_NULL, 0 },
	};
	static const struct {
		const char *offer, *mail, *rcpt1, *rcpt2;
		bool full, hdrs, utf8;
	} rows[] = {
		{ "DSN", " RET=FULL ENVID=e", " NOTIFY=SUCCESS ORCPT=utf-8;\\x{E4}\\x{2B}@mx.test",
		  "", .full = true },
		{ "DSN", " RET=HDRS ENVID=e", " NOTIFY=SUCCESS ORCPT=utf-8;\\x{E4}\\x{2B}@mx.test",
		  "", .hdrs = true },
		{ "DSN\r\n250-SMTPUTF8", " SMTPUTF8 ENVID=e",
		  " NOTIFY=SUCCESS ORCPT=utf-8;\xc3\xa4\\x{2B}@mx.test", "", .utf8 = true },
		{ "HELP", "", "", "", .full = true },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[400];
		snprintf(text, sizeof text, "250-mx.test\r\n250-%s\r\n250 PIPELINING\r\n",
			 rows[i].offer);
		struct relay_client *c = open_with(text);
		struct relay_send s = { .sender = SPAN("a@us.test"),
					.envid = SPAN("e"),
					.ret_full = rows[i].full,
					.ret_hdrs = rows[i].hdrs,
					.smtputf8 = rows[i].utf8,
					.rcpts = rcpts,
					.n_rcpts = 2 };

		relay_client_send(c, &s);
		snprintf(text, sizeof text,
			 "MAIL FROM:<a@us.test>%s\r\nRCPT TO:<b@mx.test>%s\r\n"
			 "RCPT TO:<c@mx.test>%s\r\nDATA\r\n",
			 rows[i].mail, rows[i].rcpt1, rows[i].rcpt2);
		expect(c, text);
		relay_client_free(c);
	}
}

/* All recipients refused and DATA taken: a lone dot ends it, and RSET comes before the next. */
static void test_nobody_but_354(void **state)
{
	struct relay_client *c = open_with("250-mx.test\r\n250 PIPELINING\r\n");

	send_to(c, "b@mx.test", NULL);
	expect(c, "MAIL FROM:<a@us.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n");
	say(c, "250 ok\r\n550 no\r\n354 go\r\n");
	expect(c, ".\r\n");
	say(c, "554 no valid recipients\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_int_equal(relay_client_sent(c)->rcpts[0].code, 550);
	assert_int_equal(relay_client_sent(c)->final.code, 0);
	send_to(c, "c@mx.test", NULL);
	expect(c, "RSET\r\nMAIL FROM:<a@us.test>\r\nRCPT TO:<c@mx.test>\r\nDATA\r\n");
	say(c, "250 reset\r\n451 later\r\n503 bad\r\n503 bad\r\n");
	assert_int_equal(relay_client_sent(c)->mail.code, 451);
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	relay_client_free(c);
}

static void test_body_forms(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "", ".\r\n" },
		{ ".", "..\r\n.\r\n" },
		{ "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n" },
		{ "a\n.\nb\n", "a\r\n..\r\nb\r\n.\r\n" }, /* bare LF */
		{ "a\r.\rb", "a\r\n..\r\nb\r\n.\r\n" },	  /* bare CR */
		{ "a\r\r\n.", "a\r\n\r\n..\r\n.\r\n" },
		{ "a\r", "a\r\n.\r\n" },
		{ "a\n\r\n.\r\n", "a\r\n\r\n..\r\n.\r\n" },
		{ "x.y\r\n", "x.y\r\n.\r\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct relay_client *c = open_with("250 mx.test\r\n");
		span body = span_str(rows[i].in);

		send_to(c, "b@mx.test", NULL);
		say(c, "250 ok\r\n250 ok\r\n354 go\r\n");
		buf_reset(relay_client_out(c));
		while (body.n > 0) {
			size_t n = step ? MIN(step, body.n) : body.n;

			relay_client_body(c, span_sub(body, 0, n));
			body = span_from(body, n);
		}
		relay_client_body_end(c);
		expect(c, rows[i].out);
		relay_client_free(c);
	}
}

static void test_starttls(void **state)
{
	struct relay_client *c = start(RELAY_TLS_MAY, false);

	say(c, "220 mx\r\n");
	expect(c, "EHLO us.test\r\n");
	say(c, "250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n");
	expect(c, "STARTTLS\r\n");
	/* Response injection: what follows the 220 in clear never counts. */
	say(c, "220 go\r\n250-evil\r\n250 PIPELINING\r\n250 SIZE 1\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_STARTTLS);
	relay_client_tls(c, false, SPAN("TLSv1.3 X"));
	expect(c, "EHLO us.test\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_TALKS);
	say(c, "250 mx\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_int_equal(relay_client_opened(c)->extensions, 0); /* the clear list is forgotten */
	assert_true(relay_client_opened(c)->tls);
	relay_client_free(c);
}

static void test_tls_policy(void **state)
{
	struct relay_client *c = start(RELAY_TLS_MUST, false);

	say(c, "220 mx\r\n250 mx\r\n");
	assert_int_equal(relay_client_opened(c)->fail, RELAY_FAIL_NO_TLS);
	relay_client_free(c);
	c = start(RELAY_TLS_MUST, false);
	say(c, "220 mx\r\n250-mx\r\n250 STARTTLS\r\n454 4.7.0 not now\r\n");
	assert_int_equal(relay_client_opened(c)->fail, RELAY_FAIL_TLS);
	assert_int_equal(relay_client_opened(c)->reply.code, 454);
	relay_client_free(c);
	c = start(RELAY_TLS_MAY, false);
	say(c, "220 mx\r\n250-mx\r\n250 STARTTLS\r\n454 4.7.0 not now\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_false(relay_client_opened(c)->tls);
	relay_client_free(c);
}

static void test_openings(void **state)
{
	static const struct {
		const char *words;
		enum relay_fail fail;
	} rows[] = {
		{ "554 5.7.1 go away\r\n", RELAY_FAIL_GREETING },
		{ "421 busy\r\n", RELAY_FAIL_GREETING },
		{ "250 what\r\n", RELAY_FAIL_GREETING },
		{ "220 mx\r\n421 busy\r\n", RELAY_FAIL_EHLO },
		{ "220 mx\r\n502 no\r\n550 no\r\n", RELAY_FAIL_EHLO },
		{ "220 mx\r\n502 no\r\n250 mx\r\n", RELAY_FAIL_NONE }, /* HELO */
		{ "hello\r\n", RELAY_FAIL_PROTOCOL },
		{ "220-a\r\n250 b\r\n", RELAY_FAIL_PROTOCOL }, /* the code changes */
		{ "\r\n", RELAY_FAIL_PROTOCOL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct relay_client *c = start(RELAY_TLS_NONE, false);

		say(c, rows[i].words);
		assert_int_equal(relay_client_opened(c)->fail, rows[i].fail);
		assert_int_equal(relay_client_state(c),
				 rows[i].fail ? RELAY_CLIENT_DEAD : RELAY_CLIENT_PARKED);
		relay_client_free(c);
	}
}

static void test_endless(void **state)
{
	struct relay_client *c = start(RELAY_TLS_NONE, false);
	char *big = malloc(1 << 20);

	memset(big, 'x', 1 << 20);
	memcpy(big, "220 ", 4);
	for (int i = 0; i < 64; i++) /* a line without end */
		relay_client_feed(c, span_of(big, 1 << 20));
	assert_int_equal(relay_client_opened(c)->fail, RELAY_FAIL_PROTOCOL);
	relay_client_free(c);
	free(big);
	c = start(RELAY_TLS_NONE, false);
	for (int i = 0; i < 100000; i++) /* lines without end */
		relay_client_feed(c, SPAN("220-x\r\n"));
	assert_int_equal(relay_client_opened(c)->fail, RELAY_FAIL_PROTOCOL);
	relay_client_free(c);
}

static void test_odd_replies(void **state)
{
	struct relay_client *c = open_with("250 mx\r\n");
	const char nul[] = "250 a\0b\r\n";

	send_to(c, "b@mx.test", NULL);
	relay_client_feed(c, span_of(nul, sizeof nul - 1));
	assert_true(span_eq_str(relay_client_sent(c)->mail.text, "a?b"));
	say(c, "450 4.7.2\r\n"); /* an enhanced code without text */
	assert_int_equal(relay_client_sent(c)->rcpts[0].code, 450);
	assert_string_equal(relay_client_sent(c)->rcpts[0].enhanced, "4.7.2");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	say(c, "250 unasked\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_DEAD);
	relay_client_free(c);
}

static void test_lost_in_body(void **state)
{
	struct relay_client *c = open_with("250 mx\r\n");

	send_to(c, "b@mx.test", NULL);
	say(c, "250 ok\r\n250 ok\r\n354 go\r\n");
	relay_client_body(c, SPAN("part"));
	say(c, "552 5.3.4 too large\r\n"); /* said early: the rest is not worth sending */
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_DEAD);
	assert_int_equal(relay_client_sent(c)->final.code, 552);
	assert_int_equal(relay_client_sent(c)->fail, RELAY_FAIL_CLOSED);
	relay_client_free(c);
}

static void test_421_ends(void **state)
{
	struct relay_client *c = open_with("250-mx\r\n250 PIPELINING\r\n");

	send_to(c, "b@mx.test", "c@mx.test");
	say(c, "250 ok\r\n421 4.3.2 shutting down\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_DEAD);
	assert_int_equal(relay_client_sent(c)->rcpts[0].code, 421);
	assert_int_equal(relay_client_sent(c)->rcpts[1].code, 0);
	assert_int_equal(relay_client_sent(c)->fail, RELAY_FAIL_CLOSED);
	relay_client_free(c);
}

static void test_unsendable(void **state)
{
	struct relay_client *c = open_with("250-mx\r\n250 PIPELINING\r\n");
	struct relay_rcpt rcpt = { .address = SPAN("b@mx.test") };
	struct relay_send s = { .sender = SPAN("a\r\nRCPT TO:<x"), .rcpts = &rcpt, .n_rcpts = 1 };

	send_to(c, "b>\r\nDATA", "c@mx.test");
	expect(c, "MAIL FROM:<a@us.test>\r\nRCPT TO:<c@mx.test>\r\nDATA\r\n");
	say(c, "250 ok\r\n550 no\r\n503 no\r\n");
	assert_int_equal(relay_client_sent(c)->rcpts[0].code, 553);
	assert_int_equal(relay_client_sent(c)->rcpts[1].code, 550);
	relay_client_send(c, &s);
	expect(c, "");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_int_equal(relay_client_sent(c)->mail.code, 553);
	relay_client_free(c);
}

static void test_lmtp(void **state)
{
	struct relay_client *c = start(RELAY_TLS_NONE, true);

	say(c, "220 mx\r\n");
	expect(c, "LHLO us.test\r\n");
	say(c, "250-mx\r\n250 PIPELINING\r\n");
	expect(c, "");
	send_to(c, "b@mx.test", "c@mx.test");
	say(c, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
	buf_reset(relay_client_out(c));
	relay_client_body_end(c);
	expect(c, ".\r\n");
	say(c, "250 one\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_TALKS);
	say(c, "452 4.2.2 full\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_int_equal(relay_client_sent(c)->rcpt_final[0].code, 250);
	assert_int_equal(relay_client_sent(c)->rcpt_final[1].code, 452);
	relay_client_free(c);
}

static int whole(void **state)
{
	step = 0;
	return 0;
}

static int bytes(void **state)
{
	step = 1;
	return 0;
}

#define BOTH(fn)                                         \
	{ #fn " (whole)", fn, whole, NULL, NULL },       \
	{                                                \
#fn " (by bytes)", fn, bytes, NULL, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_plain),
		BOTH(test_pipelined),
		BOTH(test_dsn),
		BOTH(test_nobody_but_354),
		BOTH(test_body_forms),
		BOTH(test_starttls),
		BOTH(test_tls_policy),
		BOTH(test_openings),
		cmocka_unit_test_setup(test_endless, whole),
		BOTH(test_odd_replies),
		BOTH(test_lost_in_body),
		BOTH(test_421_ends),
		BOTH(test_unsendable),
		BOTH(test_lmtp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The command table, lines, and the grammars of the arguments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "smtp/body.h"
#include "smtp/lex.h"
#include "smtp/parse.h"

/* Everything is offered here. */
static const struct smtp_phase phase = {
	.tls = true, .submission = true, .authenticated = true, .hold = true
};

static const struct smtp_answer *parse(const char *line, struct arena *mem,
				       struct smtp_command *ret)
{
	span args;
	const struct smtp_rule *r = smtp_rule_find(span_str(line), &args);

	assert_non_null(r);
	return smtp_args_parse(r, args, &phase, mem, ret);
}

static void test_table(void **state)
{
	for (int v = 0; v < SMTP_VERB_COUNT; v++) {
		span args;
		const struct smtp_rule *r = &smtp_rules[v];

		assert_int_equal(r->verb, v);
		assert_ptr_equal(smtp_rule_find(span_str(r->name), &args), r);
		assert_true(r->max_line >= 512);
		/* What needs a sender needs a greeting; what ends a group is core's. */
		if (r->flags & SMTP_NEEDS_MAIL)
			assert_true(r->flags & SMTP_NEEDS_HELO);
		if (r->flags & SMTP_ENDS_GROUP)
			assert_true(r->flags & SMTP_TO_CORE);
	}
	span args;
	assert_ptr_equal(smtp_rule_find(SPAN("rCpT   to:<x>  "), &args), &smtp_rules[SMTP_RCPT]);
	assert_true(span_eq_str(args, "to:<x>"));
	assert_null(smtp_rule_find(SPAN(" MAIL FROM:<>"), &args));
	assert_null(smtp_rule_find(SPAN("MAILFROM:<>"), &args));
	assert_null(smtp_rule_find(SPAN("MAI"), &args));
}

static void test_rules(void **state)
{
	static const struct {
		enum smtp_verb verb;
		struct smtp_phase phase;
		unsigned code; /* 0: allowed */
		const char *enhanced;
	} cases[] = {
		{ SMTP_MAIL, { 0 }, 503, "5.5.1" },
		{ SMTP_MAIL, { .helo = true }, 0, NULL },
		{ SMTP_MAIL, { .helo = true, .mail = true }, 503, "5.5.1" },
		{ SMTP_MAIL, { .helo = true, .submission = true }, 530, "5.7.0" },
		{ SMTP_MAIL, { .helo = true, .submission = true, .authenticated = true }, 0, NULL },
		{ SMTP_RCPT, { .helo = true, .mail = true }, 0, NULL },
		{ SMTP_RCPT, { .helo = true, .mail = true, .bdat = true }, 503, "5.5.1" },
		{ SMTP_DATA, { .helo = true }, 503, "5.5.1" },
		{ SMTP_BDAT, { .helo = true, .mail = true, .bdat = true }, 0, NULL },
		{ SMTP_AUTH, { .helo = true, .esmtp = true, .tls = true }, 502, "5.5.1" },
		{ SMTP_AUTH, { .helo = true, .submission = true, .tls = true }, 503, "5.5.1" },
		{ SMTP_AUTH, { .helo = true, .esmtp = true, .submission = true }, 0, NULL },
		{ SMTP_AUTH,
		  { .helo = true, .esmtp = true, .submission = true, .authenticated = true },
		  503,
		  "5.5.1" },
		{ SMTP_STARTTLS, { .tls_available = true }, 0, NULL },
		{ SMTP_STARTTLS, { .tls = true, .tls_available = true }, 503, "5.5.1" },
		{ SMTP_STARTTLS, { 0 }, 502, "5.5.1" },
		{ SMTP_NOOP, { 0 }, 0, NULL },
		{ SMTP_QUIT, { 0 }, 0, NULL },
		{ SMTP_RSET, { .bdat = true }, 0, NULL },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct smtp_answer *a = smtp_rule_check(&smtp_rules[cases[i].verb],
							      &cases[i].phase);

		assert_int_equal(a ? a->code : 0, cases[i].code);
		if (a)
			assert_string_equal(a->enhanced, cases[i].enhanced);
	}
}

static void test_mail(void **state)
{
	_cleanup_(arena_donep) struct arena mem;
	struct smtp_command c;

	arena_init(&mem);
	assert_null(parse("MAIL FROM:<a@B.test> size=12 body=8bitmime smtputf8 AUTH=a+40b RET=HDRS "
			  "ENVID=QQ+3D1",
			  &mem, &c));
	assert_true(span_eq_str(c.path.local, "a") && span_eq_str(c.path.domain, "b.test"));
	assert_true(c.has_size && c.size == 12 && c.body_8bit && c.smtputf8 && !c.ret_full &&
		    c.ret_hdrs);
	assert_true(span_eq_str(c.envid, "QQ=1"));
	assert_null(parse("MAIL FROM:<>", &mem, &c));
	assert_true(address_is_null(&c.path) && !c.has_size && !c.envid.n && !c.ret_hdrs);
	assert_null(parse("MAIL FROM:<\"a b\"@c.test>\tSIZE=0", &mem, &c));
	assert_true(span_eq_str(c.path.local, "a b") && c.has_size);
	static const char *const bad[] = { "MAIL FROM:<a@b.test> ENVID=+0A",
					   "MAIL FROM:<a@b.test> ENVID=",
					   "MAIL FROM:<a@b.test> RET=ALL",
					   "MAIL FROM:<a@b.test> AUTH=",
					   "MAIL FROM:<a@b.test> SIZE=1=2",
					   "MAIL FROM:<a@b.test> -X=1",
					   "MAIL FROM:<a@b.test> SIZE=-1",
					   "MAIL FROM:<a@b.test> SIZE=18446744073709551616",
					   "MAIL FROM:<a@b.test> ORCPT=rfc822;a",
					   "MAIL FROM:<a@b.test>x" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (!parse(bad[i], &mem, &c))
			fail_msg("%s", bad[i]);
}

/* What was asked of the message's way. */
static void test_terms(void **state)
{
	_cleanup_(arena_donep) struct arena mem;
	struct smtp_command c;

	arena_init(&mem);
	assert_null(parse("MAIL FROM:<a@b.test> BY=120;rT MT-PRIORITY=-9 REQUIRETLS PRDR HOLDFOR=5 "
			  "BODY=binarymime",
			  &mem, &c));
	assert_true(c.has_by && c.by_return && c.by_trace && c.by_seconds == 120);
	assert_true(c.priority == -9 && c.require_tls && c.prdr && c.body_binary && !c.body_8bit);
	assert_true(c.hold_for == 5 * USEC_SEC && !c.hold_until);
	assert_null(parse("MAIL FROM:<a@b.test> by=-5;N mt-priority=9 "
			  "HOLDUNTIL=2026-11-22T12:00:00.5+01:30",
			  &mem, &c));
	assert_true(c.has_by && !c.by_return && !c.by_trace && c.by_seconds == -5);
	assert_true(c.priority == 9 && c.hold_until == 1795343400 * USEC_SEC);
	assert_null(parse("MAIL FROM:<a@b.test> BY=+0;n HOLDUNTIL=1970-01-01t00:00:01z", &mem, &c));
	assert_true(c.has_by && !c.by_seconds && c.hold_until == USEC_SEC);
	static const char *const bad[] = { "BY=1",
					   "BY=1;",
					   "BY=;R",
					   "BY=0;R",
					   "BY=-60;R",
					   "BY=1;X",
					   "BY=1;RX",
					   "BY=1;NTT",
					   "BY=x;N",
					   "BY=1234567890;N",
					   "BY",
					   "MT-PRIORITY=10",
					   "MT-PRIORITY=-10",
					   "MT-PRIORITY=+1",
					   "MT-PRIORITY=-0",
					   "MT-PRIORITY=",
					   "MT-PRIORITY",
					   "MT-PRIORITY=1 MT-PRIORITY=1",
					   "REQUIRETLS=1",
					   "PRDR=1",
					   "HOLDFOR=0",
					   "HOLDFOR=-1",
					   "HOLDFOR=1234567890",
					   "HOLDFOR",
					   "HOLDFOR=1 HOLDUNTIL=2026-11-22T12:00:00Z",
					   "HOLDUNTIL=2026-11-22T12:00:00Z HOLDFOR=1",
					   "HOLDUNTIL=2026-11-22T12:00:00",
					   "HOLDUNTIL=2026-11-31T12:00:00Z",
					   "HOLDUNTIL=2026-11-22",
					   "HOLDUNTIL=2026-11-22T24:00:00Z",
					   "HOLDUNTIL=2026-11-22T12:00:00ZZ",
					   "HOLDUNTIL=2026-11-22T12:00:00+1:00",
					   "HOLDUNTIL" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		_cleanup_(buf_donep) struct buf line = BUF_INIT(1000);

		buf_printf(&line, "MAIL FROM:<a@b.test> %s", bad[i]);
		if (!parse(buf_cstr(&line), &mem, &c))
			fail_msg("%s", bad[i]);
	}
}

static void test_rcpt(void **state)
{
	_cleanup_(arena_donep) struct arena mem;
	struct smtp_command c;

	arena_init(&mem);
	assert_null(parse("RCPT TO:<a@b.test> NOTIFY=success,Delay ORCPT=rfc822;x+40y", &mem, &c));
	assert_int_equal(c.notify, SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY);
	assert_true(span_eq_str(c.original, "rfc822;x@y"));
	assert_null(parse("RCPT TO:<a@b.test> ORCPT=utf-8;\\x{E4}@b.test", &mem, &c));
	assert_true(span_eq_str(c.original, "utf-8;\xc3\xa4@b.test"));
	assert_null(parse("RCPT TO:<postmaster>", &mem, &c));
	assert_int_equal(c.path.domain.n, 0);
	static const char *const bad[] = { "RCPT TO:<>",
					   "RCPT TO:<a@b.test> NOTIFY=NEVER,DELAY",
					   "RCPT TO:<a@b.test> NOTIFY=,",
					   "RCPT TO:<a@b.test> NOTIFY=",
					   "RCPT TO:<a@b.test> ORCPT=x",
					   "RCPT TO:<a@b.test> ORCPT=;a",
					   "RCPT TO:<a@b.test> ORCPT=rfc822;",
					   "RCPT TO:<a@b.test> ORCPT=rfc+20822;a",
					   "RCPT TO:<a@b.test> ORCPT=rfc822;\xc3\xa4",
					   "RCPT TO:<a@b.test> ORCPT=utf-8;\\x{0D}",
					   "RCPT TO:<a@b.test> ORCPT=utf-8;+C3",
					   "RCPT TO:<a@b.test> ORCPT=rfc822;+0D",
					   "RCPT FROM:<a@b.test>",
					   "RCPT TO:<a@b.test><c@d.test>",
					   "RCPT TO:<root>" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (!parse(bad[i], &mem, &c))
			fail_msg("%s", bad[i]);
}

static void test_utf8(void **state)
{
	_cleanup_(arena_donep) struct arena mem;
	struct smtp_command c;

	arena_init(&mem);
	assert_null(parse("RCPT TO:<\xc3\xa4@b.test>", &mem, &c));
	assert_null(smtp_utf8_check(&c, true));
	assert_int_equal(smtp_utf8_check(&c, false)->code, 553);
	assert_null(parse("MAIL FROM:<a@\xc3\xa4.test>", &mem, &c));
	assert_int_equal(smtp_utf8_check(&c, false)->code, 550);
	assert_non_null(parse("RCPT TO:<\xc3@b.test>", &mem, &c));
	assert_null(parse("RCPT TO:<a@b.test>", &mem, &c));
	assert_null(smtp_utf8_check(&c, false));
}

static void test_bdat_and_auth(void **state)
{
	struct smtp_command c;

	assert_null(parse("BDAT 0", NULL, &c));
	assert_true(c.chunk == 0 && !c.last);
	assert_null(parse("bdat  77  last", NULL, &c));
	assert_true(c.chunk == 77 && c.last);
	assert_null(parse("BDAT 18446744073709551615 LAST", NULL, &c));
	static const char *const bad[] = { "BDAT",	    "BDAT LAST", "BDAT 1 2",
					   "BDAT 1 LAST x", "BDAT +1",	 "BDAT 0x10",
					   "BDAT 1LAST",    "AUTH",	 "AUTH PLAIN a b" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_non_null(parse(bad[i], NULL, &c));
	assert_null(parse("AUTH PLAIN", NULL, &c));
	assert_null(c.initial.p);
	assert_null(parse("AUTH plain =", NULL, &c));
	assert_true(span_eq_str(c.mechanism, "plain") && span_eq_str(c.initial, "="));
}

static void test_lines(void **state)
{
	size_t scanned = 0, used = 0;
	span line, in = SPAN("NOOP\r\nQUIT\r\n");

	for (size_t n = 0; n < 6; n++)
		assert_int_equal(smtp_line_take(span_sub(in, 0, n), 100, &scanned, &line, &used),
				 SMTP_LINE_NONE);
	assert_int_equal(smtp_line_take(in, 100, &scanned, &line, &used), SMTP_LINE_GOOD);
	assert_true(span_eq_str(line, "NOOP") && used == 6 && scanned == 0);
	assert_int_equal(smtp_line_take(SPAN("a\nb\r\n"), 100, &scanned, &line, &used),
			 SMTP_LINE_BAD);
	assert_int_equal(used, 5);
	assert_int_equal(smtp_line_take(SPAN("abcd\r\n"), 6, &scanned, &line, &used),
			 SMTP_LINE_GOOD);
	assert_int_equal(smtp_line_take(SPAN("abcde\r\n"), 6, &scanned, &line, &used),
			 SMTP_LINE_LONG);
	bool end;
	assert_int_equal(smtp_line_skip(SPAN("xyz\r"), &end), 3);
	assert_false(end);
	assert_int_equal(smtp_line_skip(SPAN("\r\nNOOP"), &end), 2);
	assert_true(end);
}

/* A room of one byte gives the same as a large one. */
static void test_body_room(void **state)
{
	span in = SPAN("..a\r\n.b\r\n\r\n..\r\nlong enough to run\r\n.\r\nNOOP");
	struct buf whole = BUF_INIT(1000), small = BUF_INIT(1000);
	struct smtp_body b;
	bool end = false;
	size_t used, at = 0;

	smtp_body_init(&b);
	used = smtp_body_data(&b, in, &whole, 1000, &end);
	assert_true(end);
	assert_true(span_eq_str(span_from(in, used), "NOOP"));
	smtp_body_init(&b);
	for (end = false; !end;)
		at += smtp_body_data(&b, span_sub(in, at, 2), &small, small.n + 1, &end);
	assert_int_equal(at, used);
	assert_true(span_eq(buf_span(&whole), buf_span(&small)));
	assert_true(span_eq_str(buf_span(&whole), ".a\r\nb\r\n\r\n.\r\nlong enough to run\r\n"));
	buf_done(&whole);
	buf_done(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),	  cmocka_unit_test(test_rules),
		cmocka_unit_test(test_mail),	  cmocka_unit_test(test_rcpt),
		cmocka_unit_test(test_terms),	  cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_lines),	  cmocka_unit_test(test_bdat_and_auth),
		cmocka_unit_test(test_body_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Front's half of SMTP: the answers, the groups, and that the cut of the input never matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/codec.h"
#include "format/check.h"
#include "harness.h"

#define HELLO "EHLO a.test\r\n"
#define START HELLO "MAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\n"

static const struct wire_ops *const MX = &smtp_wire_ops, *const SUB = &submission_wire_ops;

static bool has(const struct buf *t, const char *what)
{
	return span_find_span(buf_span(t), span_str(what)) != SPAN_NPOS;
}

static size_t count(const struct buf *t, const char *what)
{
	span rest = buf_span(t);
	size_t n = 0, at;

	while ((at = span_find_span(rest, span_str(what))) != SPAN_NPOS) {
		rest = span_from(rest, at + strlen(what));
		n++;
	}
	return n;
}

#define assert_has(t, what)                                                 \
	do {                                                                \
		if (!has((t), (what)))                                      \
			fail_msg("no \"%s\" in:\n%s", (what), buf_cstr(t)); \
	} while (0)
#define assert_lacks(t, what)                                            \
	do {                                                             \
		if (has((t), (what)))                                    \
			fail_msg("\"%s\" in:\n%s", (what), buf_cstr(t)); \
	} while (0)

/* The whole transcript without greeting and EHLO's answer would be noise: a test names the lines it
 * is about. */
static struct buf talk_span(const struct wire_ops *ops, bool tls, span input)
{
	struct buf whole, other;

	harness_run(ops, NULL, tls, input, 0, 0, &whole);
	static const size_t steps[] = { 1, 3, 17, 300 };
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		harness_run(ops, NULL, tls, input, steps[i], (uint32_t)(i * 77 + input.n), &other);
		if (!span_eq(buf_span(&whole), buf_span(&other)))
			fail_msg("cut into pieces of %zu:\n%s\nwhole:\n%s", steps[i],
				 buf_cstr(&other), buf_cstr(&whole));
		buf_done(&other);
	}
	return whole;
}
#define talk(ops, tls, lit) talk_span((ops), (tls), SPAN(lit))

/* ------------------------------------------------------------------ what is said */

static void test_greeting_and_ehlo(void **state)
{
	_cleanup_(buf_donep) struct buf t = talk(MX, false, "EHLO [192.0.2.9]\r\nhelo x_y\r\n");

	assert_has(&t, "S: 220 mx.example.test ESMTP Postrider\\r\n");
	assert_has(&t, "S: 250-mx.example.test\\r\nS: 250-PIPELINING\\r\nS: 250-SIZE "
		       "1048576\\r\nS: 250-8BITMIME\\r\nS: 250-BINARYMIME\\r\n"
		       "S: 250-SMTPUTF8\\r\nS: 250-ENHANCEDSTATUSCODES\\r\nS: 250-CHUNKING\\r\nS: "
		       "250-DSN\\r\nS: 250-DELIVERBY 60\\r\nS: 250-MT-PRIORITY\\r\nS: 250-LIMITS "
		       "RCPTMAX=1000\\r\nS: 250-PRDR\\r\nS: 250 STARTTLS\\r\n");
	assert_has(&t, "S: 250 mx.example.test\\r\n");
	assert_lacks(&t, "AUTH");
}

static void test_offers(void **state)
{
	struct buf t = talk(MX, true, HELLO);
	assert_lacks(&t, "STARTTLS");
	assert_has(&t, "S: 250 REQUIRETLS\\r\n");
	assert_lacks(&t, "FUTURERELEASE");
	buf_done(&t);
	t = talk(SUB, false, HELLO);
	assert_has(&t, "STARTTLS");
	assert_lacks(&t, "AUTH");
	buf_done(&t);
	t = talk(SUB, true, HELLO);
	assert_has(&t, "S: 250-FUTURERELEASE 86400 1970-01-02T00:00:00Z\\r\n");
	assert_has(&t, "S: 250 AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\\r\n");
	buf_done(&t);
}

/* command, the answer; each after EHLO on a fresh MX session */
static const struct {
	const char *line, *answer;
} answers[] = {
	{ "NOOP", "S: 250 2.0.0" },
	{ "NOOP with words", "S: 250 2.0.0" },
	{ "RSET", "S: 250 2.0.0" },
	{ "RSET now", "S: 501 5.5.4" },
	{ "HELP", "S: 214 2.0.0" },
	{ "VRFY root", "S: 252 2.0.0" },
	{ "VRFY", "S: 501 5.5.4" },
	{ "EXPN list", "S: 502 5.5.1" },
	{ "QUIT", "S: 221 2.0.0" },
	{ "QUIT ", "S: 221 2.0.0" },
	{ "EHLO", "S: 501 5.5.4" },
	{ "XYZZY", "S: 500 5.5.1" },
	{ "", "S: 500 5.5.1" },
	{ "DATA", "S: 503 5.5.1" },
	{ "RCPT TO:<a@b.test>", "S: 503 5.5.1" },
	{ "AUTH PLAIN AGEAYg==", "S: 502 5.5.1" },
	{ "STARTTLS please", "S: 501 5.5.4" },
	{ "MAIL FROM:<>", "S: 250 2.1.0" },
	{ "mail from:<a@b.test>", "S: 250 2.1.0" },
	{ "MAIL FROM: <a@b.test>", "S: 250 2.1.0" },
	{ "MAIL FROM:<@x.test,@y.test:a@b.test>", "S: 250 2.1.0" },
	{ "MAIL FROM:<a@b.test> SIZE=1000 BODY=8BITMIME", "S: 250 2.1.0" },
	{ "MAIL FROM:<a@b.test> SIZE=1048577", "S: 552 5.3.4" },
	{ "MAIL FROM:<a@b.test> SIZE=99999999999999999999", "S: 501 5.5.4" },
	{ "MAIL FROM:<a@b.test> SIZE=", "S: 501 5.5.4" },
	{ "MAIL FROM:<a@b.test> SIZE", "S: 501 5.5.4" },
	{ "MAIL FROM:<a@b.test> SIZE=1 SIZE=1", "S: 501 5.5.4" },
	{ "MAIL FROM:<a@b.test> BODY=BINARYMIME", "S: 250 2.1.0" },
	{ "MAIL FROM:<a@b.test> BODY=BINARYMIME\r\nDATA",
	  "S: 250 2.1.0 Sender ok\\r\nS: 503 5.5.1" },
	{ "MAIL FROM:<a@b.test> BODY=BINARY", "S: 501 5.5.4" },
	{ "MAIL FROM:<a@b.test> REQUIRETLS", "S: 555 5.5.4" }, /* not in clear */
	{ "MAIL FROM:<a@b.test> HOLDFOR=60", "S: 555 5.5.4" }, /* not for strangers */
	{ "MAIL FROM:<a@b.test> MT-PRIORITY=-3", "S: 250 2.1.0" },
	{ "MAIL FROM:<a@b.test> MT-PRIORITY=3", "S: 250 2.3.6 0 is the priority" },
	{ "MAIL FROM:<a@b.test> BY=60;R", "S: 250 2.1.0" },
	{ "MAIL FROM:<a@b.test> BY=59;R", "S: 555 5.5.4" },
	{ "MAIL FROM:<a@b.test> PRDR", "S: 250 2.1.0" },
	{ "MAIL FROM:<a@b.test> PRDR PRDR", "S: 501 5.5.4" },
	{ "MAIL FROM:<a@b.test> SMTPUTF8", "S: 250 2.1.0" },
	{ "MAIL FROM:<a@b.test> SMTPUTF8=1", "S: 501 5.5.4" },
	{ "MAIL FROM:<a@b.test> FUTURE=1", "S: 555 5.5.4" },
	{ "MAIL FROM:<a@b.test> NOTIFY=NEVER", "S: 555 5.5.4" },
	{ "MAIL FROM:<a@b.test>SIZE=1", "S: 501 5.1.7" },
	{ "MAIL FROM:<\xc3\xa4@b.test>", "S: 550 5.6.7" },
	{ "MAIL FROM:<\xc3\xa4@b.test> SMTPUTF8", "S: 250 2.1.0" },
	{ "MAIL FROM:<a@b.test", "S: 501 5.1.7" },
	{ "MAIL FROM:a@b.test", "S: 501 5.1.7" },
	{ "MAIL FROM:<a>", "S: 553 5.1.7" },
	{ "MAIL a@b.test", "S: 501 5.5.4" },
	{ "MAIL", "S: 501 5.5.4" },
};

static void test_answers(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		_cleanup_(buf_donep) struct buf in = BUF_INIT(4096);
		_cleanup_(buf_donep) struct buf t = BUF_INIT(1);
		char *last;

		buf_printf(&in, HELLO "%s\r\n", answers[i].line);
		t = talk_span(MX, false, buf_span(&in));
		last = strstr(buf_cstr(&t), "STARTTLS\\r\n");
		assert_non_null(last);
		last += strlen("STARTTLS\\r\n");
		if (strncmp(last, answers[i].answer, strlen(answers[i].answer)) != 0)
			fail_msg("%s: %s", answers[i].line, last);
	}
}

static void test_sequence(void **state)
{
	struct buf t = talk(MX, false, "MAIL FROM:<a@b.test>\r\n");
	assert_has(&t, "S: 503 5.5.1");
	buf_done(&t);
	t = talk(MX, false,
		 HELLO "MAIL FROM:<a@b.test>\r\nMAIL FROM:<c@d.test>\r\nDATA\r\nSTARTTLS\r\n");
	assert_int_equal(count(&t, "S: 503 5.5.1"), 3);
	buf_done(&t);
	/* HELO offers nothing, so nothing of it may be used. */
	t = talk(SUB, true, "HELO a\r\nAUTH PLAIN AGEAYg==\r\n");
	assert_has(&t, "S: 503 5.5.1");
	buf_done(&t);
}

static void test_submission(void **state)
{
	struct buf t = talk(SUB, false,
			    HELLO "MAIL FROM:<a@b.test>\r\nAUTH PLAIN AGEAYg==\r\nAUTH NTLM\r\n");
	assert_has(&t, "S: 530 5.7.0 Say STARTTLS");
	assert_has(&t, "S: 538 5.7.11");
	assert_has(&t, "S: 504 5.5.4");
	buf_done(&t);
	t = talk(SUB, true,
		 HELLO
		 "MAIL FROM:<a@b.test>\r\nAUTH LOGIN\r\n*anything at all\r\nAUTH PLAIN AGEAYg==\r\n"
		 "MAIL FROM:<a@b.test> AUTH=<>\r\nRCPT TO:<c@d.test>\r\n");
	assert_has(&t, "S: 530 5.7.0 Authentication");
	assert_has(&t,
		   "i: EHLO a.test\nI: AUTH LOGIN\nS: 334 \\r\nI: *anything at all\nS: 235 2.7.0");
	assert_has(&t, "S: 503 5.5.1 Already");
	assert_has(&t, "i: MAIL FROM:<a@b.test> AUTH=<>\nI: RCPT TO:<c@d.test>\n");
	buf_done(&t);
}

/* ------------------------------------------------------------------ groups */

static unsigned groups_of(span input, unsigned *ret_bodies)
{
	struct harness h = { 0 };

	harness_open(&h, MX, NULL, false);
	harness_send(&h, SPAN(HELLO));
	harness_send(&h, input);
	*ret_bodies = h.bodies;
	unsigned groups = h.groups;
	harness_done(&h);
	return groups;
}

static void test_two_trips(void **state)
{
	unsigned bodies,
		groups = groups_of(
			SPAN("MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test>\r\n"
			     "RCPT TO:<3@b.test>\r\nDATA\r\nSubject: "
			     "x\r\n\r\nhello\r\n.\r\nQUIT\r\n"),
			&bodies);
	assert_int_equal(groups, 1);
	assert_int_equal(bodies, 1);
	assert_int_equal(
		groups_of(SPAN("MAIL FROM:<s@a.test>\r\nRSET\r\nNOOP\r\nQUIT\r\n"), &bodies), 0);
	assert_int_equal(
		groups_of(
			SPAN("MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test>\r\n"
			     "BDAT 3\r\nabcBDAT 0\r\nBDAT 4 LAST\r\ndef\n"),
			&bodies),
		1);
	assert_int_equal(bodies, 1);
}

static void test_order_of_replies(void **state)
{
	_cleanup_(buf_donep) struct buf t = talk(
		MX, false,
		START "RCPT TO:<bad@b.test>\r\nRCPT TO:<x@>\r\nNOOP\r\nRCPT TO:<r2@b.test>\r\n"
		      "DATA\r\nhi\r\n.\r\nNOOP\r\n");

	assert_has(&t, "S: 250 2.1.0 Sender ok\\r\n"
		       "i: EHLO a.test\ni: MAIL FROM:<s@a.test>\nI: RCPT TO:<r@b.test>\nS: 250 "
		       "2.1.5 core\\r\n"
		       "I: RCPT TO:<bad@b.test>\nS: 550 5.1.1 core\\r\nS: 501 5.1.3 Recipient "
		       "address not valid\\r\n"
		       "S: 250 2.0.0 Ok\\r\nI: RCPT TO:<r2@b.test>\nS: 250 2.1.5 core\\r\n"
		       "S: 354 End with <CRLF>.<CRLF>\\r\nhi\\r\\n\nEND 0x1\nS: 250 2.0.0 "
		       "core\\r\nS: 250 2.0.0 Ok\\r\n");
}

static void test_rset_reaches_core(void **state)
{
	_cleanup_(buf_donep) struct buf t = talk(
		MX, false, START "RSET\r\nMAIL FROM:<t@a.test>\r\nRCPT TO:<u@b.test>\r\n");

	assert_has(&t, "i: RSET\ni: MAIL FROM:<t@a.test>\nI: RCPT TO:<u@b.test>\n");
}

static void test_no_valid_recipients(void **state)
{
	struct buf t = talk(
		MX, false,
		HELLO
		"MAIL FROM:<>\r\nRCPT TO:<bad@b.test>\r\nDATA\r\nBDAT 4 LAST\r\nNOOPQUIT\r\n");

	assert_int_equal(count(&t, "S: 554 5.5.1"), 2);
	assert_has(&t, "S: 221 2.0.0");
	assert_lacks(&t, "S: 354");
	buf_done(&t);
}

static void test_big_group(void **state)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(1024 * 1024);
	struct harness h = { 0 };

	buf_put_str(&in, HELLO "MAIL FROM:<s@a.test>\r\n");
	for (int i = 0; i < 3000; i++)
		buf_printf(&in, "RCPT TO:<user%d@a-long-domain-name.example.test>\r\n", i);
	harness_open(&h, MX, NULL, false);
	for (size_t at = 0; at < in.n; at += 30000)
		harness_send(&h, span_sub(buf_span(&in), at, 30000));
	assert_int_equal(count(&h.transcript, "S: 250 2.1.5"), 3000);
	assert_in_range(h.groups, 5, 20);
	harness_done(&h);
}

/* ------------------------------------------------------------------ STARTTLS */

static void test_starttls_forgets(void **state)
{
	struct harness h = { 0 };

	harness_open(&h, SUB, NULL, false);
	harness_send(&h, SPAN(HELLO "STARTTLS\r\nMAIL FROM:<injected@a.test>\r\nNOOP\r\n"));
	harness_send(&h, SPAN("MAIL FROM:<a@b.test>\r\n" HELLO "STARTTLS\r\n"));
	assert_lacks(&h.transcript, "injected");
	assert_has(&h.transcript, "TLS\nS: 503 5.5.1 Say EHLO first");
	assert_has(&h.transcript, "S: 250 AUTH SCRAM");
	assert_has(&h.transcript, "S: 503 5.5.1 TLS is active");
	harness_done(&h);
}

/* ------------------------------------------------------------------ lines and limits */

static void test_bad_lines(void **state)
{
	struct buf t = talk(MX, false,
			    HELLO "NOOP\nNOOP\r\nNOOP\rNOOP\r\nNO\0OP\r\nNOOP\r\r\nNOOP\r\n");

	assert_int_equal(count(&t, "S: 500 5.5.2"), 4);
	assert_int_equal(count(&t, "S: 250 2.0.0"), 1);
	buf_done(&t);
}

static struct buf long_line(const char *start, size_t total, const char *then)
{
	struct buf in = BUF_INIT(8 * 1024 * 1024);

	buf_put_str(&in, HELLO);
	size_t from = in.n;
	buf_put_str(&in, start);
	while (in.n - from < total - 2)
		buf_put_char(&in, 'x');
	buf_put_str(&in, "\r\n");
	buf_put_str(&in, then);
	return in;
}

static void test_line_limits(void **state)
{
	static const struct {
		const char *start;
		size_t total;
		const char *answer;
	} cases[] = {
		{ "NOOP ", 2048, "S: 250 2.0.0" },	  { "NOOP ", 2049, "S: 500 5.5.6" },
		{ "NOOP ", 5000, "S: 500 5.5.6" },	  { "AUTH PLAIN ", 12288, "S: 502 5.5.1" },
		{ "AUTH PLAIN ", 12289, "S: 500 5.5.6" },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(buf_donep) struct buf in = long_line(cases[i].start, cases[i].total,
							       "VRFY x\r\n");
		_cleanup_(buf_donep) struct buf t = talk_span(MX, false, buf_span(&in));

		assert_has(&t, cases[i].answer);
		assert_has(&t, "S: 252");
	}
}

static void test_endless_line(void **state)
{
	_cleanup_(buf_donep) struct buf in = long_line("NOOP ", 3 * 1024 * 1024, "");
	struct buf t;

	harness_run(MX, NULL, false, buf_span(&in), 5000, 7, &t);
	assert_has(&t, "S: 421 4.7.0");
	assert_has(&t, "CLOSED");
	buf_done(&t);
}

static void test_long_auth_line(void **state)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(64 * 1024);
	struct buf t;

	buf_put_str(&in, HELLO "AUTH LOGIN\r\n");
	for (int i = 0; i < 20000; i++)
		buf_put_char(&in, 'A');
	buf_put_str(&in, "\r\nNOOP\r\n");
	t = talk_span(SUB, true, buf_span(&in));
	assert_has(&t, "S: 334 \\r\nS: 500 5.5.6 Line too long\\r\ni: *\nS: 250 2.0.0");
	buf_done(&t);
}

static void test_junk(void **state)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(4096);
	struct buf t;

	for (int i = 0; i < 30; i++)
		buf_put_str(&in, "WHAT\r\n");
	t = talk_span(MX, false, buf_span(&in));
	assert_int_equal(count(&t, "S: 500 5.5.1"), 20);
	assert_has(&t, "S: 421 4.7.0 Too many errors\\r\nCLOSED");
	buf_done(&t);
}

static void test_other_protocols(void **state)
{
	static const char *const firsts[] = { "GET / HTTP/1.1",	       "POST /x HTTP/1.0",
					      "CONNECT a:25 HTTP/1.1", "put / HTTP/1.1",
					      "Host: mx.example.test", "PRI * HTTP/2.0" };
	for (size_t i = 0; i < ARRAY_LEN(firsts); i++) {
		_cleanup_(buf_donep) struct buf in = BUF_INIT(4096);
		_cleanup_(buf_donep) struct buf t = BUF_INIT(1);

		buf_printf(&in, "%s\r\n" HELLO, firsts[i]);
		t = talk_span(MX, false, buf_span(&in));
		assert_has(&t, "CLOSED");
		assert_lacks(&t, "S: 250");
	}
}

static void test_farewells(void **state)
{
	struct harness h = { 0 };
	struct buf b = BUF_INIT(1024);

	harness_open(&h, MX, NULL, false);
	MX->farewell(h.wire, SESS_WHY_TIMEOUT, &b);
	assert_true(span_starts(buf_span(&b), SPAN("421 4.4.2 mx.example.test")));
	buf_reset(&b);
	MX->farewell(h.wire, SESS_WHY_CORE, &b);
	assert_true(span_starts(buf_span(&b), SPAN("421 4.3.2")));
	buf_reset(&b);
	MX->farewell(h.wire, SESS_WHY_EOF, &b);
	assert_int_equal(b.n, 0);
	buf_done(&b);
	harness_done(&h);
}

/* ------------------------------------------------------------------ DATA */

static void test_dots(void **state)
{
	_cleanup_(buf_donep) struct buf t = talk(
		MX, false, START "DATA\r\n..a\r\n.b\r\n...\r\nc.\r\n. \r\n.\r\nNOOP\r\n");

	assert_has(&t, "\n.a\\r\\nb\\r\\n..\\r\\nc.\\r\\n \\r\\n\nEND 0x1\nS: 250 2.0.0 "
		       "core\\r\nS: 250 2.0.0 Ok");
}

static void test_empty_data(void **state)
{
	_cleanup_(buf_donep) struct buf t = talk(MX, false, START "DATA\r\n.\r\nNOOP\r\n");

	assert_has(&t, "S: 354 End with <CRLF>.<CRLF>\\r\n\nEND 0x1\nS: 250 2.0.0 core");
}

/* CR, LF or NUL beside the pairs CRLF? */
static bool bare(span s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n')
			i++;
		else if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0')
			return true;
	}
	return false;
}

/* Between LEFT "." RIGHT only CRLF "." CRLF ends the message; everything else makes it one that is
 * refused.  Either way the commands behind it are not a second message. */
static void test_smuggling(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} ends[] = { { "\n", 1 },     { "\r", 1 },     { "\r\n", 2 }, { "\r\r\n", 3 },
		     { "\0\r\n", 3 }, { "\r\0\n", 3 }, { "\n\r", 2 }, { "\n\n", 2 },
		     { "\r\r", 2 },   { "\r\n\0", 3 }, { "\0", 1 },   { "\r\n\r", 3 },
		     { "\v\r\n", 3 }, { "\x85", 1 } };
	int ended = 0;

	for (size_t l = 0; l < ARRAY_LEN(ends); l++) {
		for (size_t r = 0; r < ARRAY_LEN(ends); r++) {
			_cleanup_(buf_donep) struct buf in = BUF_INIT(4096), t = BUF_INIT(1);
			span left = span_of(ends[l].bytes, ends[l].n),
			     right = span_of(ends[r].bytes, ends[r].n);
			/* The true end, by the book: the left side ends in CRLF and the right side
			 * starts with it. */
			bool end = span_iends(left, SPAN("\r\n")) &&
				   span_starts(right, SPAN("\r\n"));

			buf_put_str(&in, START "DATA\r\nSubject: one\r\n\r\none");
			buf_put_span(&in, left);
			buf_put_char(&in, '.');
			buf_put_span(&in, right);
			buf_put_str(&in, "MAIL FROM:<smuggled@a.test>\r\nRCPT "
					 "TO:<victim@b.test>\r\nDATA\r\ntwo\r\n.\r\n");
			t = talk_span(MX, false, buf_span(&in));
			ended += end;
			if (end) {
				assert_has(&t, bare(left) ? "S: 550 5.6.0 core"
							  : "END 0x1\nS: 250 2.0.0 core");
				continue;
			}
			assert_int_equal(count(&t, "END"), 1);
			assert_lacks(&t, "I: RCPT TO:<victim");
			assert_has(&t, bare(left) || bare(right) ? "S: 550 5.6.0 core"
								 : "END 0x1\nS: 250 2.0.0 core");
		}
	}
	assert_int_equal(ended, 4 * 3);
}

static void test_defects_are_named(void **state)
{
	static const struct {
		span body;
		unsigned defects;
	} cases[] = {
		{ { "a\nb\r\n.\r\n", 8 }, MESSAGE_BARE_LF },
		{ { "a\rb\r\n.\r\n", 8 }, MESSAGE_BARE_CR },
		{ { "a\0b\r\n.\r\n", 8 }, MESSAGE_NUL },
		{ { ".\rb\r\n.\r\n", 8 }, MESSAGE_BARE_CR },
		{ { "a\r\r\n.\r\n", 7 }, MESSAGE_BARE_CR },
		{ { ".\nb\r\n.\r\n", 8 }, MESSAGE_BARE_LF },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(buf_donep) struct buf in = BUF_INIT(4096), t = BUF_INIT(1);
		char end[32];

		buf_put_str(&in, START "DATA\r\n");
		buf_put_span(&in, cases[i].body);
		t = talk_span(MX, false, buf_span(&in));
		snprintf(end, sizeof(end), "END %#x\n",
			 3 | cases[i].defects << SMTP_BODY_DEFECTS_SHIFT);
		assert_has(&t, end);
	}
}

static void test_big_body_comes_in_pieces(void **state)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(4 * 1024 * 1024), t = BUF_INIT(1);
	struct harness h = { 0 };

	buf_put_str(&in, START "DATA\r\n");
	size_t from = in.n;
	for (int i = 0; i < 5000; i++)
		buf_printf(&in, "line %d of a message that is not small at all\r\n", i);
	size_t size = in.n - from;
	buf_put_str(&in, ".\r\n");
	harness_open(&h, MX, NULL, false);
	for (size_t at = 0; at < in.n; at += 16000)
		harness_send(&h, span_sub(buf_span(&in), at, 16000));
	assert_in_range(h.bodies, size / 65536, size / 16000 + 2);
	assert_has(&h.transcript, "S: 250 2.0.0 core");
	harness_done(&h);
	t = talk_span(MX, false, buf_span(&in));
	assert_int_equal(count(&t, "of a message that is not small at all\\r\\n"), 5000);
}

static void test_hopeless_body(void **state)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(8 * 1024 * 1024);
	struct buf t;

	buf_put_str(&in, START "DATA\r\n");
	while (in.n < 5 * 1024 * 1024)
		buf_put_str(&in, "a line of text\r\n");
	harness_run(MX, NULL, false, buf_span(&in), 50000, 1, &t);
	assert_has(&t, "S: 552 5.3.4");
	assert_has(&t, "CLOSED");
	buf_done(&t);
}

/* ------------------------------------------------------------------ BDAT */

static const struct {
	const char *input;
	const char *wanted[5];
} bdat[] = {
	{ START "BDAT 5 LAST\r\na\r\nb\r\n", { "a\\r\\nb\\r\nEND", NULL } },
	{ START "BDAT 6 LAST\r\n.\r\nab\nNOOP\r\n", { "END 0x403", "S: 250 2.0.0 Ok" } },
	{ START "BDAT 4\r\nabcdBDAT 4\r\nefghBDAT 2 LAST\r\n\r\nNOOP\r\n",
	  { "S: 250 2.0.0 4 octets received\\r\nS: 250 2.0.0 4 octets "
	    "received\\r\nabcdefgh\\r\\n\nEND 0x1\nS: 250 2.0.0 core",
	    "S: 250 2.0.0 Ok" } },
	{ START "BDAT 4\r\nab\r\nBDAT 0 LAST\r\nNOOP\r\n",
	  { "ab\\r\\n\nEND 0x1\n", "S: 250 2.0.0 Ok" } },
	{ START "BDAT 0 LAST\r\nBDAT 3 LAST\r\nabcNOOP\r\n",
	  { "\nEND 0x1\nS: 250 2.0.0 core\\r\nS: 503 5.5.1", "S: 250 2.0.0 Ok" } },
	{ HELLO "BDAT 10 LAST\r\nQUIT\r\nQUITNOOP\r\n", { "S: 503 5.5.1", "S: 250 2.0.0 Ok" } },
	{ HELLO "MAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
	  { "S: 503 5.5.1 Name a recipient", "S: 250 2.0.0 Ok" } },
	{ HELLO "MAIL FROM:<>\r\nRCPT TO:<bad@b.test>\r\nBDAT 6\r\nQUIT\r\nBDAT 6 "
		"LAST\r\nQUIT\r\nNOOP\r\n",
	  { "S: 554 5.5.1 No valid recipients\\r\nS: 554 5.5.1", "S: 250 2.0.0 Ok" } },
	{ START "BDAT 3\r\nabcDATA\r\nRCPT TO:<x@b.test>\r\nMAIL FROM:<>\r\nRSET\r\nDATA\r\n",
	  { "S: 503 5.5.1 The message has begun", "S: 503 5.5.1 Not inside a mail",
	    "S: 250 2.0.0 Ok", "S: 503 5.5.1 Name the sender" } },
	{ START "BDAT 2\r\n\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<y@b.test>\r\nBDAT 3 LAST\r\nnew",
	  { "i: RSET\ni: MAIL FROM:<>\nI: RCPT TO:<y@b.test>\n", "\nnew\nEND 0x1" } },
	{ START "BDAT 1\r\n\rBDAT 1\r\n\nBDAT 0 LAST\r\n", { "\\r\\n\nEND 0x1\n" } },
	{ START "BDAT 1 LAST\r\n\r", { "END 0x203" } },
	{ START "BDAT x\r\nQUIT\r\n", { "S: 501 5.5.4 Syntax: BDAT", "CLOSED" } },
	{ START "BDAT 5 FIRST\r\n", { "S: 501 5.5.4", "CLOSED" } },
	{ START "BDAT -1 LAST\r\n", { "S: 501 5.5.4", "CLOSED" } },
	{ START "BDAT 18446744073709551616 LAST\r\n", { "S: 501 5.5.4", "CLOSED" } },
	{ START "BDAT 18446744073709551615 LAST\r\n", { "S: 552 5.3.4", "CLOSED" } },
	{ HELLO "BDAT 4000000000\r\n", { "S: 552 5.3.4", "CLOSED" } },
	{ START "DATA\r\nx\r\n.\r\nBDAT 3 LAST\r\nabcNOOP\r\n",
	  { "S: 250 2.0.0 core\\r\nS: 503 5.5.1", "S: 250 2.0.0 Ok" } },
};

static void test_bdat(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(bdat); i++) {
		struct buf t = talk_span(MX, false, span_str(bdat[i].input));

		for (size_t k = 0; k < ARRAY_LEN(bdat[i].wanted) && bdat[i].wanted[k]; k++)
			assert_has(&t, bdat[i].wanted[k]);
		buf_done(&t);
	}
}

/* A chunk that is larger than what may wait is passed on while it comes. */
static void test_big_chunk(void **state)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(2 * 1024 * 1024), t = BUF_INIT(1);

	buf_put_str(&in, START "BDAT 500000\r\n");
	for (int i = 0; i < 50000; i++)
		buf_put_str(&in, "12345678\r\n");
	buf_put_str(&in, "BDAT 0 LAST\r\nNOOP\r\n");
	t = talk_span(MX, false, buf_span(&in));
	assert_int_equal(count(&t, "12345678\\r\\n"), 50000);
	assert_has(&t, "S: 250 2.0.0 500000 octets received");
	assert_has(&t, "S: 250 2.0.0 core\\r\nS: 250 2.0.0 Ok");
}

/* Whatever a lying core says in its parks, the framing of a body does not slip. */
static void lying_body(struct harness *h, uint32_t flags, span piece, struct buf *reply)
{
	h->park = (struct wire_park){ .mode = SESS_MODE_LINES };
	if (flags & SESS_BODY_LAST)
		buf_put_str(reply, "451 4.3.0 core\r\n");
}

static void easy_rcpt(struct harness *h, uint8_t flags, span line, struct buf *reply)
{
	h->park.flags = SMTP_PARK_HAS_SENDER | SMTP_PARK_HAS_RCPT;
	if (!flags)
		buf_put_str(reply, "250 2.1.5 core\r\n");
}

static void test_framing_is_ours(void **state)
{
	static const struct harness_core liar = { .item = easy_rcpt, .body = lying_body };
	_cleanup_(buf_donep) struct buf in = BUF_INIT(1024 * 1024);
	struct buf t;

	buf_put_str(&in, START "DATA\r\n");
	for (int i = 0; i < 9000; i++)
		buf_put_str(&in, "RCPT TO:<x@b.test>\r\n");
	buf_put_str(&in, ".\r\n");
	harness_run(MX, &liar, false, buf_span(&in), 1000, 3, &t);
	assert_int_equal(count(&t, "I: RCPT"), 1);
	assert_int_equal(count(&t, "S: 451"), 1);
	buf_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greeting_and_ehlo),
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_sequence),
		cmocka_unit_test(test_submission),
		cmocka_unit_test(test_two_trips),
		cmocka_unit_test(test_order_of_replies),
		cmocka_unit_test(test_rset_reaches_core),
		cmocka_unit_test(test_no_valid_recipients),
		cmocka_unit_test(test_big_group),
		cmocka_unit_test(test_starttls_forgets),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_line_limits),
		cmocka_unit_test(test_endless_line),
		cmocka_unit_test(test_long_auth_line),
		cmocka_unit_test(test_junk),
		cmocka_unit_test(test_other_protocols),
		cmocka_unit_test(test_farewells),
		cmocka_unit_test(test_dots),
		cmocka_unit_test(test_empty_data),
		cmocka_unit_test(test_smuggling),
		cmocka_unit_test(test_defects_are_named),
		cmocka_unit_test(test_big_body_comes_in_pieces),
		cmocka_unit_test(test_hopeless_body),
		cmocka_unit_test(test_bdat),
		cmocka_unit_test(test_big_chunk),
		cmocka_unit_test(test_framing_is_ours),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

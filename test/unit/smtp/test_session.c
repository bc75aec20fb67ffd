/* Both halves of SMTP together, over a made-up mail system. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/log.h"
#include "fakes.h"
#include "format/check.h"
#include "smtp/smtp.h"

#define HELLO "EHLO a.test\r\n"
#define FROM  "MAIL FROM:<s@a.test>\r\n"
#define LOGIN "AUTH PLAIN AG1lQG91cnMudGVzdABzZWNyZXQ=\r\n" /* me@ours.test, secret */

static struct harness h;

static void begin(bool submission, bool tls)
{
	fake_session_open(submission ? &submission_sess_ops : &smtp_sess_ops, tls);
	harness_open(&h, submission ? &submission_wire_ops : &smtp_wire_ops, &fake_core, tls);
}

static void end(void)
{
	harness_done(&h);
	fake_session_close();
	assert_int_equal(fake.transactions, 0);
}

static void say(const char *text)
{
	harness_send(&h, span_str(text));
}

/* In the order given, each once. */
static void wants(const char *const *lines, size_t n)
{
	span rest = buf_span(&h.transcript);

	for (size_t i = 0; i < n; i++) {
		size_t at = span_find_span(rest, span_str(lines[i]));

		if (at == SPAN_NPOS)
			fail_msg("no \"%s\" (%zu) in:\n%s", lines[i], i, buf_cstr(&h.transcript));
		rest = span_from(rest, at + strlen(lines[i]));
	}
}
#define WANTS(...)                                  \
	wants((const char *const[]){ __VA_ARGS__ }, \
	      ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })))

static void test_a_message(void **state)
{
	begin(false, true);
	say(HELLO "MAIL FROM:<s@a.test> SIZE=100 BODY=8BITMIME RET=FULL ENVID=x+2By\r\n"
		  "RCPT TO:<user@ours.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;u+40x\r\nRCPT "
		  "TO:<info@ours.test> NOTIFY=NEVER\r\n"
		  "DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n");
	WANTS("250 2.1.0", "250 2.1.5", "250 2.1.5", "354", "250 2.0.0 Accepted as ", "221");
	assert_int_equal(fake.received, 1);
	assert_string_equal(buf_cstr(&fake.from), "s@a.test");
	assert_string_equal(buf_cstr(&fake.to), "user@ours.test info@ours.test ");
	assert_string_equal(buf_cstr(&fake.body), "Subject: x\r\n\r\n.dot\r\n");
	assert_true(fake.body_8bit && fake.ret_full && fake.tls && !fake.smtputf8 &&
		    !fake.authenticated);
	assert_int_equal(fake.notify, RCPT_NOTIFY_NEVER);
	assert_int_equal(h.groups, 1);
	assert_int_equal(h.bodies, 1);
	assert_int_equal(fake.last_lane, LANE_DELIVERY);
	assert_int_equal(fake.journal, 0); /* mail_receive's business */
	end();
}

/* While others are asked about the message the answer is owed, and given once. */
static void test_inspection(void **state)
{
	begin(false, true);
	fake.false_alarms = 3;
	say(HELLO FROM "RCPT TO:<user@ours.test>\r\nDATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nNOOP\r\n");
	WANTS("354", "250 2.0.0 Accepted as ", "250 2.0.0");
	assert_int_equal(fake.false_alarms, 0);
	assert_int_equal(fake.received, 1);
	assert_string_equal(buf_cstr(&fake.body), "Subject: x\r\n\r\nhi\r\n");
	end();
}

/* A recipient that waits for the filters is counted and judged once. */
static void test_waiting_recipient(void **state)
{
	begin(false, true);
	fake.false_alarms = 5;
	say(HELLO FROM
	    "RCPT TO:<user@ours.test>\r\nRCPT TO:<nobody@ours.test>\r\nRSET\r\nNOOP\r\n");
	WANTS("250 2.1.5", "550 5.1.1", "250 2.0.0", "250 2.0.0");
	assert_int_equal(fake.false_alarms, 0);
	assert_int_equal(fake.routed, 2);
	end();
}

static void test_recipients(void **state)
{
	begin(false, false);
	say(HELLO FROM
	    "RCPT TO:<nobody@ours.test>\r\nRCPT TO:<x@elsewhere.test>\r\nRCPT "
	    "TO:<slow@ours.test>\r\n"
	    "RCPT TO:<user@ours.test>\r\nRCPT TO:<USER@OURS.TEST>\r\nRCPT "
	    "TO:<user@ours.test>\r\nRCPT TO:<Postmaster>\r\n"
	    "RCPT TO:<x>\r\nRCPT TO:<>\r\nRCPT TO:<\xc3\xa4@ours.test>\r\nDATA\r\n.\r\n");
	WANTS("550 5.1.1 no such user", "550 5.7.1 relaying denied", "451 4.3.0", "250 2.1.5",
	      "250 2.1.5", "250 2.1.5", "250 2.1.5", "553 5.1.3", "501 5.1.3", "553 5.6.7", "354",
	      "250 2.0.0");
	assert_string_equal(buf_cstr(&fake.to), "user@ours.test USER@ours.test Postmaster ");
	assert_int_equal(fake.counts[COUNT_SMTP_REJECTED], 3);
	end();
}

static void test_no_relay(void **state)
{
	static const char *const tricks[] = {
		"x%elsewhere.test@ours.test",		"elsewhere.test!x@ours.test",
		"\"x@elsewhere.test\"@ours.test",	"@ours.test:x@elsewhere.test",
		"a%b%elsewhere.test@ours.test",		"x@elsewhere.test",
		"x%elsewhere.test%ours.test@ours.test", "elsewhere.test!x%ours.test@ours.test",
		"ours.test!elsewhere.test!x@ours.test",
	};

	begin(false, false);
	say(HELLO FROM);
	for (size_t i = 0; i < ARRAY_LEN(tricks); i++) {
		buf_reset(&h.transcript);
		say("RCPT TO:<");
		say(tricks[i]);
		say(">\r\n");
		WANTS("550 5.7.1 relaying denied");
	}
	buf_reset(&h.transcript);
	say("RCPT TO:<50%off@ours.test>\r\nRCPT TO:<x%ours.test@ours.test>\r\nRCPT "
	    "TO:<@elsewhere.test:user@ours.test>\r\n");
	WANTS("250 2.1.5", "550 5.1.1", "250 2.1.5");
	end();
}

static void test_too_many_recipients(void **state)
{
	begin(false, false);
	say(HELLO FROM
	    "RCPT TO:<user@ours.test>\r\nRCPT TO:<info@ours.test>\r\nRCPT "
	    "TO:<50%off@ours.test>\r\nRCPT TO:<postmaster>\r\n"
	    "RCPT TO:<postmaster@ours.test>\r\nRCPT TO:<User@ours.test>\r\nDATA\r\n.\r\n");
	WANTS("452 4.5.3", "354", "250 2.0.0");
	end();
}

static void test_harvest(void **state)
{
	begin(false, false);
	say(HELLO FROM);
	for (int i = 0; i < 250; i++)
		say("RCPT TO:<guess@ours.test>\r\n");
	WANTS("550 5.1.1", "421 4.7.0");
	assert_true(h.closed);
	assert_int_equal(fake.counts[COUNT_SMTP_REJECTED], 200);
	end();
}

static void test_all_refused(void **state)
{
	begin(false, false);
	say(HELLO FROM "RCPT TO:<nobody@ours.test>\r\nDATA\r\nRSET\r\n" FROM
		       "RCPT TO:<user@ours.test>\r\nDATA\r\nx\r\n.\r\n");
	WANTS("550 5.1.1", "554 5.5.1", "250 2.0.0 Ok", "250 2.1.0", "250 2.1.5", "354",
	      "250 2.0.0 Accepted");
	assert_int_equal(fake.received, 1);
	assert_int_equal(fake.journal, 1); /* the refused one */
	end();
}

static void test_two_messages(void **state)
{
	begin(false, false);
	say(HELLO FROM "RCPT TO:<user@ours.test>\r\nDATA\r\none\r\n.\r\n" FROM
		       "RCPT TO:<info@ours.test>\r\nBDAT 3\r\ntwoBDAT 2 LAST\r\n\r\n"
		       "DATA\r\n");
	WANTS("Accepted", "250 2.1.0", "250 2.1.5", "250 2.0.0 3 octets", "Accepted", "503 5.5.1");
	assert_int_equal(fake.received, 2);
	assert_string_equal(buf_cstr(&fake.body), "two\r\n");
	assert_string_equal(buf_cstr(&fake.to), "info@ours.test ");
	end();
}

static void test_defects(void **state)
{
	begin(false, false);
	harness_send(&h,
		     SPAN(HELLO FROM "RCPT TO:<user@ours.test>\r\nDATA\r\na\nb\rc\0d\r\n.\r\n" FROM
				     "RCPT TO:<user@ours.test>\r\nBDAT 3 LAST\r\na\nb"));
	WANTS("550 5.6.0 the message contains NUL bare CR bare LF", "250 2.1.0",
	      "550 5.6.0 the message contains bare LF");
	assert_int_equal(fake.received, 0);
	assert_int_equal(fake.journal, 2);
	end();
}

static void test_failures_of_the_body(void **state)
{
	static const struct {
		int error;
		const char *answer;
	} cases[] = { { ERR_TOOBIG, "552 5.3.4" },
		      { ERR_FULL, "452 4.3.1" },
		      { ERR_IO, "451 4.3.0" } };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		begin(false, false);
		fake.body_error = cases[i].error;
		say(HELLO FROM "RCPT TO:<user@ours.test>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n");
		WANTS(cases[i].answer, "250 2.0.0 Ok");
		fake.body_error = 0;
		say(FROM "RCPT TO:<user@ours.test>\r\nDATA\r\nx\r\n.\r\n");
		WANTS(cases[i].answer, "250 2.0.0 Ok", "Accepted");
		assert_int_equal(fake.received, 1);
		end();
	}
	begin(false, false);
	fake.verdict = (struct mail_verdict){ 554, "5.4.6", SPAN("too many hops") };
	say(HELLO FROM "RCPT TO:<user@ours.test>\r\nDATA\r\nx\r\n.\r\n");
	WANTS("554 5.4.6 too many hops");
	end();
}

static void test_too_big(void **state)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(4 * 1024 * 1024);

	begin(false, false);
	say(HELLO FROM "RCPT TO:<user@ours.test>\r\nDATA\r\n");
	while (in.n < 1500000)
		buf_put_str(&in, "a line of text\r\n");
	buf_put_str(&in, ".\r\nNOOP\r\n");
	for (size_t at = 0; at < in.n; at += 50000)
		harness_send(&h, span_sub(buf_span(&in), at, 50000));
	WANTS("552 5.3.4", "250 2.0.0 Ok");
	assert_int_equal(fake.received, 0);
	end();
}

/* ------------------------------------------------------------------ extensions */

/* NUL and bare line ends are for those who said so, and only over BDAT. */
static void test_binary(void **state)
{
	begin(false, false);
	say(HELLO "MAIL FROM:<s@a.test> BODY=BINARYMIME\r\nRCPT TO:<user@ours.test>\r\nDATA\r\n");
	harness_send(&h, SPAN("BDAT 4 LAST\r\na\0\r\n"));
	say(FROM "RCPT TO:<user@ours.test>\r\n");
	harness_send(&h, SPAN("BDAT 4 LAST\r\na\0\r\n"));
	WANTS("250 2.1.5", "503 5.5.1 Binary", "250 2.0.0 Accepted", "550 5.6.0");
	assert_int_equal(fake.received, 1);
	assert_memory_equal(fake.body.p, "a\0\r\n", 4);
	end();
}

static void test_terms(void **state)
{
	usec now = clock_wall();

	begin(true, true);
	say(HELLO LOGIN "MAIL FROM:<me@ours.test> BY=100;N MT-PRIORITY=5 REQUIRETLS HOLDFOR=60\r\n"
			"RCPT TO:<user@ours.test>\r\nDATA\r\n.\r\n");
	WANTS("235", "250 2.1.0", "250 2.1.5", "354", "250");
	assert_true(fake.terms.deliver_by >= now + 100 * USEC_SEC);
	assert_true(fake.held_until >= now + 60 * USEC_SEC &&
		    fake.held_until <= fake.terms.deliver_by);
	assert_true(!fake.terms.by_return && fake.terms.require_tls && fake.terms.priority == 5);
	say("MAIL FROM:<me@ours.test> HOLDFOR=9999999\r\nRCPT TO:<user@ours.test>\r\n");
	WANTS("354", "501 5.5.4 Held for longer");
	say("RSET\r\nMAIL FROM:<me@ours.test> BY=60;R HOLDFOR=61\r\nRCPT TO:<user@ours.test>\r\n");
	WANTS("Held for longer", "501 5.5.4 To be delivered before");
	say("RSET\r\nMAIL FROM:<me@ours.test> HOLDUNTIL=1999-01-01T00:00:00Z\r\n"
	    "RCPT TO:<user@ours.test>\r\nDATA\r\n.\r\n");
	assert_int_equal(fake.held_until, 0);
	assert_int_equal(fake.received, 2);
	end();
}

/* Strangers may not raise the priority, only lower it. */
static void test_priority(void **state)
{
	begin(false, false);
	say(HELLO
	    "MAIL FROM:<s@a.test> MT-PRIORITY=9\r\nRCPT TO:<user@ours.test>\r\nDATA\r\n.\r\n");
	WANTS("250 2.3.6 0 ");
	assert_int_equal(fake.terms.priority, 0);
	say("MAIL FROM:<s@a.test> MT-PRIORITY=-2\r\nRCPT TO:<user@ours.test>\r\nDATA\r\n.\r\n");
	assert_int_equal(fake.terms.priority, -2);
	end();
}

static void test_prdr(void **state)
{
	begin(false, false);
	say(HELLO "MAIL FROM:<s@a.test> PRDR\r\nRCPT TO:<user@ours.test>\r\n"
		  "RCPT TO:<nobody@ours.test>\r\nRCPT TO:<info@ours.test>\r\nDATA\r\n.\r\n");
	WANTS("354", "353 One answer", "250 2.0.0 taken", "452 4.2.2 full", "250 2.0.0 Accepted");
	say("MAIL FROM:<s@a.test> PRDR\r\nRCPT TO:<user@ours.test>\r\nDATA\r\n.\r\nNOOP\r\n");
	WANTS("353", "Accepted", "354", "250 2.0.0 Accepted", "250 2.0.0 Ok");
	fake.verdict = (struct mail_verdict){ 554, "5.7.1", SPAN("no") };
	say("MAIL FROM:<s@a.test> PRDR\r\nRCPT TO:<user@ours.test>\r\n"
	    "RCPT TO:<info@ours.test>\r\nDATA\r\n.\r\nNOOP\r\n");
	WANTS("Ok", "354", "554 5.7.1 no", "250 2.0.0 Ok");
	assert_null(strstr(strstr(buf_cstr(&h.transcript), "2.0.0 Ok"), "353"));
	end();
}

/* RFC 2033 4.2: an answer for each recipient that was taken, whatever became of the message. */
static void test_lmtp(void **state)
{
	harness_trusted = true;
	fake_session_open(&lmtp_sess_ops, false);
	harness_open(&h, &lmtp_wire_ops, &fake_core, false);
	say("EHLO a.test\r\nHELO a.test\r\nLHLO a.test\r\n");
	WANTS("220 mx.example.test LMTP", "500 5.5.1", "500 5.5.1", "250-PIPELINING");
	assert_null(strstr(buf_cstr(&h.transcript), "XCLIENT"));
	assert_null(strstr(buf_cstr(&h.transcript), "PRDR"));
	say("MAIL FROM:<s@a.test> MT-PRIORITY=3\r\nRCPT TO:<user@ours.test>\r\n"
	    "RCPT TO:<nobody@ours.test>\r\nRCPT TO:<info@ours.test>\r\n"
	    "RCPT TO:<x@elsewhere.test>\r\nDATA\r\nhi\r\n.\r\nNOOP\r\n");
	WANTS("250 2.1.0", "250 2.1.5", "550 5.1.1", "250 2.1.5", "550 5.7.1", "354",
	      "250 2.0.0 taken", "452 4.2.2 full", "250 2.0.0 Ok");
	assert_true(fake.lmtp && fake.terms.priority == 3);
	fake.body_error = ERR_FULL;
	say("MAIL FROM:<s@a.test>\r\nRCPT TO:<user@ours.test>\r\nRCPT TO:<info@ours.test>\r\n"
	    "DATA\r\nhi\r\n.\r\nNOOP\r\n");
	WANTS("250 2.0.0 Ok", "354", "452 4.3.1", "452 4.3.1", "250 2.0.0 Ok");
	say("MAIL FROM:<s@a.test>\r\nRCPT TO:<nobody@ours.test>\r\nDATA\r\n");
	WANTS("452 4.3.1", "250 2.0.0 Ok", "550 5.1.1", "554 5.5.1");
	end();
	harness_trusted = false;
	fake_session_open(&lmtp_sess_ops, false);
	harness_open(&h, &lmtp_wire_ops, &fake_core, false);
	say("LHLO a.test\r\nMAIL FROM:<s@a.test>\r\n");
	WANTS("550 5.7.1", "503 5.5.1");
	end();
}

static void test_xclient(void **state)
{
	harness_trusted = true;
	begin(false, false);
	say(HELLO FROM "XCLIENT ADDR=192.0.2.9\r\nRSET\r\n"
		       "XCLIENT NAME=a+2Bb.test ADDR=192.0.2.9 PORT=77 PROTO=ESMTP HELO=x "
		       "LOGIN=me@ours.test\r\n"
		       "MAIL FROM:<s@a.test>\r\n" HELLO FROM
		       "RCPT TO:<user@ours.test>\r\nDATA\r\n.\r\n");
	WANTS("250 XCLIENT NAME", "503 5.5.1", "220 mx.example.test", "503 5.5.1 Say EHLO",
	      "250 2.1.0", "354", "Accepted");
	assert_string_equal(fake.peer, "192.0.2.9");
	assert_string_equal(fake.peer_name, "a+b.test");
	assert_false(fake.authenticated); /* not on this port */
	/* it is still the proxy that speaks */
	say("XCLIENT ADDR=IPV6:2001:db8::1 NAME=[UNAVAILABLE]\r\n" HELLO FROM
	    "RCPT TO:<user@ours.test>\r\nDATA\r\n.\r\n");
	WANTS("Accepted", "220 ", "354");
	assert_string_equal(fake.peer, "2001:db8::1");
	assert_string_equal(fake.peer_name, "");
	static const char *const bad[] = { "XCLIENT",
					   "XCLIENT ADDR",
					   "XCLIENT ADDR=",
					   "XCLIENT ADDR=x",
					   "XCLIENT NAME=a+0D",
					   "XCLIENT ADDR=1.2.3.4 ADDR=1.2.3.4",
					   "XCLIENT PORT=70000",
					   "XCLIENT FOO=1",
					   "XCLIENT NAME=a+" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		size_t n = h.transcript.n;

		harness_send(&h, span_str(bad[i]));
		say("\r\n");
		if (!strstr(buf_cstr(&h.transcript) + n, "S: 501 5.5.4"))
			fail_msg("%s: %s", bad[i], buf_cstr(&h.transcript) + n);
	}
	end();
	begin(true, true);
	say(HELLO "XCLIENT LOGIN=me@ours.test\r\n" HELLO
		  "MAIL FROM:<me@ours.test>\r\nRCPT TO:<x@elsewhere.test>\r\nDATA\r\n.\r\n");
	WANTS("220 ", "220 ", "250 2.1.0", "354");
	assert_true(fake.authenticated);
	end();
	begin(false, false);
	/* who comes by the proxy is not the one who may start the queue */
	say(HELLO "XCLIENT ADDR=192.0.2.9\r\n" HELLO "ETRN waits.test\r\n");
	WANTS("220 ", "220 ", "550 5.7.1");
	end();
	harness_trusted = false;
	begin(false, false);
	say(HELLO "XCLIENT ADDR=192.0.2.9\r\nETRN waits.test\r\n");
	WANTS("250 STARTTLS", "550 5.7.1", "550 5.7.1");
	assert_null(strstr(buf_cstr(&h.transcript), "XCLIENT NAME"));
	/* front is not believed */
	_cleanup_(buf_donep) struct buf group = BUF_INIT(1000), out = BUF_INIT(1000);
	wire_item_put(&group, 0, SPAN("XCLIENT ADDR=192.0.2.9"));
	wire_item_put(&group, 0, SPAN("ETRN waits.test"));
	struct sess_in in = { .kind = SESS_IN_INPUT, .data = buf_span(&group) };
	fake_job(&in, &out);
	assert_true(span_starts(buf_span(&out), SPAN("550 5.7.1")));
	assert_true(span_find_span(buf_span(&out), SPAN("\n550 5.7.1")) != SPAN_NPOS);
	end();
}

static void test_etrn(void **state)
{
	harness_trusted = true;
	begin(false, false);
	say(HELLO "ETRN waits.test\r\nETRN Empty.TEST\r\nETRN sick.test\r\nETRN\r\nETRN @a.test\r\n"
		  "ETRN #q\r\nETRN a b\r\n" FROM "ETRN waits.test\r\n");
	WANTS("250-ETRN", "253 2.0.0 Ok, 3 pending", "251 2.0.0", "458 4.3.0", "501 5.5.4",
	      "501 5.5.4", "501 5.5.4", "501 5.5.4", "250 2.1.0", "503 5.5.1");
	end();
	harness_trusted = false;
}

/* ------------------------------------------------------------------ submission */

/* Whether MAIL was answered in front or not: one refusal, and the end. */
static void test_login_has_ended(void **state)
{
	begin(true, true);
	say(HELLO LOGIN);
	fake.account_changed = true;
	say("MAIL FROM:<me@ours.test>\r\nRCPT TO:<x@elsewhere.test>\r\nDATA\r\n");
	WANTS("235 2.7.0", "250 2.1.0", "530 5.7.0");
	assert_true(h.closed);
	assert_int_equal(fake.transactions, 0);
	fake.account_changed = false;
	end();
}

static void test_submission(void **state)
{
	begin(true, true);
	say(HELLO FROM LOGIN
	    "MAIL FROM:<me@ours.test>\r\nRCPT TO:<x@elsewhere.test>\r\nDATA\r\nx\r\n.\r\n" LOGIN);
	WANTS("530 5.7.0", "235 2.7.0", "250 2.1.0", "250 2.1.5", "354", "Accepted",
	      "503 5.5.1 Already");
	assert_true(fake.authenticated);
	assert_int_equal(fake.counts[COUNT_AUTH_OK], 1);
	end();
}

static void test_sender_not_owned(void **state)
{
	begin(true, true);
	say(HELLO LOGIN "MAIL FROM:<boss@ours.test>\r\nRCPT TO:<x@elsewhere.test>\r\nRCPT "
			"TO:<y@elsewhere.test>\r\nDATA\r\nRSET\r\n"
			"MAIL FROM:<me@ours.test>\r\nRCPT TO:<x@elsewhere.test>\r\n");
	WANTS("250 2.1.0", "550 5.7.1 the sender", "550 5.7.1 the sender", "554 5.5.1",
	      "250 2.0.0 Ok", "250 2.1.0", "250 2.1.5");
	end();
}

static void test_auth_exchange(void **state)
{
	begin(true, true);
	say(HELLO "AUTH PLAIN\r\nAG1lQG91cnMudGVzdABzZWNyZXQ=\r\n");
	WANTS("334 \\r", "235 2.7.0");
	assert_int_equal(fake.last_lane, LANE_AUTH);
	end();
	begin(true, true);
	say(HELLO "AUTH LOGIN\r\n*\r\nAUTH LOGIN\r\n!!\r\nAUTH LOGIN bWU=\r\nc2VjcmV0\r\n");
	WANTS("334 VXNlcm5hbWU6", "501 5.7.0", "334 VXNlcm5hbWU6", "501 5.5.2", "334 UGFzc3dvcmQ6",
	      "235 2.7.0");
	end();
	/* Bare LF or NUL in the exchange ends the exchange, not the session. */
	begin(true, true);
	harness_send(&h, SPAN(HELLO "AUTH LOGIN\r\nb\0W\r\nNOOP\r\n"));
	WANTS("501 5.5.2", "250 2.0.0");
	end();
}

static void test_auth_failures(void **state)
{
	begin(true, true);
	say(HELLO);
	for (int i = 0; i < 7; i++)
		say("AUTH PLAIN AG1lAHdyb25n\r\n");
	WANTS("535 5.7.8", "535 5.7.8", "535 5.7.8", "535 5.7.8", "535 5.7.8", "421 4.7.0");
	assert_true(h.closed);
	assert_int_equal(fake.counts[COUNT_AUTH_FAILED], 5);
	end();
}

static void test_starttls(void **state)
{
	begin(true, false);
	say(HELLO "STARTTLS\r\nMAIL FROM:<me@ours.test>\r\n");
	say(LOGIN HELLO LOGIN
	    "MAIL FROM:<me@ours.test>\r\nRCPT TO:<user@ours.test>\r\nDATA\r\nx\r\n.\r\n");
	WANTS("220 2.0.0", "TLS", "503 5.5.1", "AUTH PLAIN", "235 2.7.0", "Accepted");
	assert_true(fake.tls);
	end();
}

static void test_utf8(void **state)
{
	begin(false, false);
	say(HELLO "MAIL FROM:<\xc3\xa4@a.test> SMTPUTF8\r\nRCPT "
		  "TO:<user@ours.test>\r\nDATA\r\nx\r\n.\r\n");
	WANTS("250 2.1.0", "250 2.1.5", "Accepted");
	assert_true(fake.smtputf8);
	assert_string_equal(buf_cstr(&fake.from), "\xc3\xa4@a.test");
	end();
}

/* ------------------------------------------------------------------ a front that lies */

static struct buf job(enum sess_kind kind, span data, uint32_t body_flags)
{
	struct buf out = BUF_INIT(65536);
	struct sess_in in = { .kind = kind, .data = data, .body_flags = body_flags };

	fake_job(&in, &out);
	return out;
}

static struct buf job_line(uint8_t flags, span line)
{
	_cleanup_(buf_donep) struct buf items = BUF_INIT(65536);

	wire_item_put(&items, flags, line);
	return job(SESS_IN_INPUT, buf_span(&items), 0);
}

#define JOB_WANTS(call, text)                                                \
	do {                                                                 \
		struct buf _b = (call);                                      \
		if (span_find_span(buf_span(&_b), SPAN(text)) == SPAN_NPOS)  \
			fail_msg("no \"%s\" in: %s", (text), buf_cstr(&_b)); \
		buf_done(&_b);                                               \
	} while (0)

static void test_front_is_not_trusted(void **state)
{
	begin(true, true);
	JOB_WANTS(job(SESS_IN_BODY, SPAN("hello"), SESS_BODY_LAST), "503 5.5.1");
	JOB_WANTS(job_line(0, SPAN("RCPT TO:<user@ours.test>")), "503 5.5.1");
	JOB_WANTS(job_line(0, SPAN("WHAT")), "500 5.5.1");
	JOB_WANTS(job_line(0, SPAN("DATA")), "500 5.5.1");
	JOB_WANTS(job_line(0, SPAN("EHLO a.test")), "250 ");
	JOB_WANTS(job_line(0, SPAN("AUTH CRAM-MD5")), "504 5.5.4");
	JOB_WANTS(job_line(0, SPAN("MAIL FROM:<a@b.test>")), "530 5.7.0");
	/* "I have answered it" does not make it allowed. */
	struct buf none = job_line(SESS_ITEM_ANSWERED, SPAN("MAIL FROM:<a@b.test>"));
	assert_int_equal(none.n, 0);
	buf_done(&none);
	JOB_WANTS(job_line(0, SPAN("RCPT TO:<x@elsewhere.test>")), "530 5.7.0");
	JOB_WANTS(job(SESS_IN_BODY, SPAN("hello"), SESS_BODY_LAST), "503 5.5.1");
	struct buf junk = job(SESS_IN_INPUT, SPAN("\1\xff\xff\xff\xffx"), 0); /* not even items */
	assert_int_equal(junk.n, 0);
	buf_done(&junk);
	assert_int_equal(fake.received, 0);
	end();
}

static void test_poison(void **state)
{
	begin(false, false);
	fake.poisoned = true;
	say(HELLO FROM "RCPT TO:<user@ours.test>\r\n");
	WANTS("421 4.3.0");
	assert_true(h.closed);
	end();
}

static void test_closed_in_the_middle(void **state)
{
	begin(false, false);
	say(HELLO FROM "RCPT TO:<user@ours.test>\r\nDATA\r\nhalf a mess");
	end();
	begin(true, true);
	say(HELLO "AUTH LOGIN\r\n");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_message),
		cmocka_unit_test(test_inspection),
		cmocka_unit_test(test_waiting_recipient),
		cmocka_unit_test(test_recipients),
		cmocka_unit_test(test_no_relay),
		cmocka_unit_test(test_too_many_recipients),
		cmocka_unit_test(test_harvest),
		cmocka_unit_test(test_all_refused),
		cmocka_unit_test(test_two_messages),
		cmocka_unit_test(test_defects),
		cmocka_unit_test(test_failures_of_the_body),
		cmocka_unit_test(test_too_big),
		cmocka_unit_test(test_binary),
		cmocka_unit_test(test_terms),
		cmocka_unit_test(test_priority),
		cmocka_unit_test(test_prdr),
		cmocka_unit_test(test_lmtp),
		cmocka_unit_test(test_xclient),
		cmocka_unit_test(test_etrn),
		cmocka_unit_test(test_submission),
		cmocka_unit_test(test_login_has_ended),
		cmocka_unit_test(test_login_has_ended),
		cmocka_unit_test(test_sender_not_owned),
		cmocka_unit_test(test_auth_exchange),
		cmocka_unit_test(test_auth_failures),
		cmocka_unit_test(test_starttls),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_front_is_not_trusted),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_closed_in_the_middle),
	};
	log_setup("test", LOG_ALARM, LOG_LOGFMT, 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

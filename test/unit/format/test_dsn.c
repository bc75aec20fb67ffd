#include "support.h"

#include "format/check.h"
#include "format/dsn.h"
#include "format/header.h"
#include "format/mime.h"

#define ORIGINAL                                                                  \
	"From: ann@example.org\r\nSubject: =?utf-8?Q?caf=C3=A9?=\r\nMessage-ID: " \
	"<1@example.org>\r\n\r\nHello\r\n"

static struct dsn_report report_of(const struct dsn_rcpt *rcpt)
{
	return (struct dsn_report){
		.reporting_mta = SPAN("mx.example.net"),
		.from = SPAN("MAILER-DAEMON@mx.example.net"),
		.to = SPAN("ann@example.org"),
		.envelope_id = SPAN("ENV-1"),
		.message_id = SPAN("<dsn.1@mx.example.net>"),
		.arrival = 1000 * USEC_SEC,
		.now = 2000 * USEC_SEC,
		.rcpts = rcpt,
		.n_rcpts = 1,
		.original = SPAN(ORIGINAL),
		.full = true,
	};
}

static const struct dsn_rcpt failed = {
	.original = SPAN("rfc822;bob@example.com"),
	.final = SPAN("bob@mail.example.com"),
	.action = DSN_FAILED,
	.status = "5.1.1",
	.remote_mta = SPAN("mail.example.com"),
	.diagnostic = SPAN("550 5.1.1 No such user\n550 5.1.1 Try another"),
	.explanation = SPAN("There is no mailbox of that name."),
	.last_attempt = 1999 * USEC_SEC,
};

/* Composes and checks what must hold for every report; the parts go to PARTS. */
static struct mime_part *compose(struct buf *b, const struct dsn_report *r, struct arena *mem,
				 struct mime_part *parts[3])
{
	struct message_facts f;
	assert_int_equal(dsn_compose(b, r), 0);
	message_check(buf_span(b), &f);
	assert_int_equal(
		f.defects & ~(unsigned)(MESSAGE_8BIT_BODY | (r->utf8 ? MESSAGE_8BIT_HEADER : 0)),
		0);
	assert_int_equal(f.from, 1);
	assert_int_equal(f.to_cc_bcc, 1);
	assert_int_equal(f.date, 1);
	assert_int_equal(f.message_id, 1);
	assert_span(f.auto_submitted, "auto-replied");
	struct mime_part *root = mime_parse(buf_span(b), mem);
	assert_span(root->subtype, "report");
	parts[0] = root->child;
	assert_non_null(parts[0]);
	parts[1] = parts[0]->next;
	assert_non_null(parts[1]);
	parts[2] = parts[1]->next;
	assert_non_null(parts[2]);
	assert_null(parts[2]->next);
	return root;
}

static span body_of(const struct buf *b, const struct mime_part *p)
{
	return span_sub(buf_span(b), p->body, p->end - p->body);
}

static void test_failed(void **state)
{
	struct arena mem;
	arena_init(&mem);
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);
	struct dsn_report r = report_of(&failed);
	struct mime_part *parts[3];
	struct mime_part *root = compose(&b, &r, &mem, parts);
	assert_span(mime_param(root->params, "report-type"), "delivery-status");
	assert_span(parts[1]->subtype, "delivery-status");
	assert_span(body_of(&b, parts[1]),
		    "Original-Envelope-Id: ENV-1\r\nReporting-MTA: dns; mx.example.net\r\n"
		    "Arrival-Date: Thu, 01 Jan 1970 00:16:40 +0000\r\n\r\n"
		    "Original-Recipient: rfc822;bob@example.com\r\nFinal-Recipient: rfc822; "
		    "bob@mail.example.com\r\n"
		    "Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mail.example.com\r\n"
		    "Diagnostic-Code: smtp; 550 5.1.1 No such user 550 5.1.1 Try another\r\n"
		    "Last-Attempt-Date: Thu, 01 Jan 1970 00:33:19 +0000\r\n");
	assert_span(parts[2]->subtype, "rfc822");
	assert_span(body_of(&b, parts[2]), ORIGINAL);
	struct header_field f;
	assert_true(header_find(buf_span(&b), "Subject", 0, &f));
	assert_span(header_decode_words(f.value, 200, &mem), "Not delivered: caf\xc3\xa9");
	assert_true(header_find(buf_span(&b), "References", 0, &f));
	assert_span(f.value, " <1@example.org>");
	span text = body_of(&b, parts[0]);
	assert_true(contains(text, "<bob@mail.example.com> was not delivered (5.1.1)"));
	assert_true(contains(text, "There is no mailbox of that name."));
	while (text.p)
		assert_true(span_cut(&text, '\n').n <= 78);
	arena_done(&mem);
}

static void test_header_only(void **state)
{
	struct arena mem;
	arena_init(&mem);
	struct dsn_report r = report_of(&failed);
	struct mime_part *parts[3];
	r.full = false;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);
	compose(&b, &r, &mem, parts);
	assert_span(parts[2]->subtype, "rfc822-headers");
	assert_false(contains(body_of(&b, parts[2]), "Hello"));
	assert_true(contains(body_of(&b, parts[2]), "Subject: "));

	/* what cannot stand in a message is left out, also when all was asked for */
	static const char *const wrong[] = { "A: b\r\n\r\nx\ny\r\n", "A: b\rc\r\n\r\n",
					     "A: b\nC: d\n\nx" };
	r.full = true;
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		buf_reset(&b);
		r.original = span_str(wrong[i]);
		compose(&b, &r, &mem, parts);
		assert_span(parts[2]->subtype, "rfc822-headers");
	}
	buf_reset(&b);
	char longline[3000];
	memset(longline, 'a', sizeof(longline));
	memcpy(longline, "A: ", 3);
	longline[100] = 0;
	r.original = span_of(longline, sizeof(longline));
	compose(&b, &r, &mem, parts);
	arena_done(&mem);
}

/* Nothing a peer says may start a line of ours. */
static void test_injection(void **state)
{
	struct arena mem;
	arena_init(&mem);
	char huge[5000];
	memset(huge, 'y', sizeof(huge));
	const span evil[] = { SPAN("a\r\nInjected: yes\r\n\r\nb"), SPAN("a\nInjected: yes\0\r"),
			      SPAN("\xff\xfe\x80 \xc3\xa9"), span_of(huge, sizeof(huge)) };
	for (size_t i = 0; i < ARRAY_LEN(evil); i++) {
		struct dsn_rcpt rcpt = failed;
		rcpt.original = rcpt.final = rcpt.remote_mta = rcpt.diagnostic = rcpt.explanation =
			evil[i];
		_cleanup_(buf_donep) struct buf original = BUF_INIT(10000);
		buf_put_str(&original, "rfc822;");
		buf_put_span(&original, evil[i]);
		rcpt.original = buf_span(&original);
		for (int utf8 = 0; utf8 < 2; utf8++) {
			struct dsn_report r = report_of(&rcpt);
			r.envelope_id = r.reporting_mta = evil[i];
			r.utf8 = utf8;
			struct mime_part *parts[3];
			_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);
			compose(&b, &r, &mem, parts);
			assert_int_equal(header_count(buf_span(&b), "Injected"), 0);
			assert_false(contains(buf_span(&b), "\nInjected"));
		}
	}
	arena_done(&mem);
}

static void test_delayed(void **state)
{
	struct arena mem;
	arena_init(&mem);
	struct dsn_rcpt rcpt = { .final = SPAN("j\xc3\xbcrgen@example.com"),
				 .action = DSN_DELAYED,
				 .status = "4.4.1",
				 .explanation = SPAN("The other server does not answer."),
				 .will_retry_until = 3000 * USEC_SEC };
	struct dsn_report r = report_of(&rcpt);
	struct mime_part *parts[3];
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);
	compose(&b, &r, &mem, parts);
	assert_true(contains(
		body_of(&b, parts[1]),
		"Final-Recipient: utf-8; j\\x{00FC}rgen@example.com\r\nAction: delayed\r\n"));
	assert_true(contains(body_of(&b, parts[1]),
			     "Will-Retry-Until: Thu, 01 Jan 1970 00:50:00 +0000"));
	buf_reset(&b);
	r.utf8 = true;
	struct mime_part *root = compose(&b, &r, &mem, parts);
	assert_span(mime_param(root->params, "report-type"), "global-delivery-status");
	assert_span(parts[2]->subtype, "global");
	assert_true(contains(body_of(&b, parts[1]),
			     "Final-Recipient: utf-8; j\xc3\xbcrgen@example.com"));

	/* the limit of the buffer is kept */
	_cleanup_(buf_donep) struct buf tiny = BUF_INIT(100);
	assert_int_equal(dsn_compose(&tiny, &r), ERR_TOOBIG);
	assert_true(tiny.n <= 100);
	arena_done(&mem);
}

static void test_orcpt(void **state)
{
	static const struct {
		const char *value, *plain; /* NULL: refused */
		const char *ascii, *utf8;  /* encoded again; NULL: the value */
	} rows[] = {
		{ "rfc822;Bob+2Bx@example.org", "rfc822;Bob+x@example.org", NULL, NULL },
		{ "X-other;a+20b", "X-other;a b", NULL, NULL },
		{ "rfc822;a\\x{E4}", "rfc822;a\\x{E4}", NULL,
		  NULL }, /* of another type it is text */
		{ "utf-8;j\\x{F6}rg\\x{1F600}@example.org",
		  "utf-8;j\xc3\xb6rg\xf0\x9f\x98\x80@example.org", NULL,
		  "utf-8;j\xc3\xb6rg\xf0\x9f\x98\x80@example.org" },
		{ "utf-8;\xc3\xb6+40b", "utf-8;\xc3\xb6@b", "utf-8;\\x{F6}@b", "utf-8;\xc3\xb6@b" },
		{ "utf-8;a\\x{2B}\\x{5C}b", "utf-8;a+\\b", NULL, NULL },
		{ "", NULL },
		{ ";a", NULL },
		{ "rfc822", NULL },
		{ "rfc822;", NULL },
		{ "rfc 822;a", NULL },
		{ "rfc822;a=b", NULL },
		{ "rfc822;+0A", NULL },
		{ "rfc822;+C3+B6", NULL },
		{ "rfc822;\xc3\xb6", NULL },
		{ "utf-8;+C3", NULL },
		{ "utf-8;\\x{0A}", NULL },
		{ "utf-8;\xff", NULL },
		{ "utf-8;a b", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(buf_donep) struct buf plain = BUF_INIT(500), back = BUF_INIT(500);
		const char *ascii = rows[i].ascii ? rows[i].ascii : rows[i].value;
		const char *utf8 = rows[i].utf8 ? rows[i].utf8 : rows[i].value;

		if (!rows[i].plain) {
			assert_int_equal(orcpt_decode(&plain, span_str(rows[i].value)), ERR_SYNTAX);
			continue;
		}
		assert_int_equal(orcpt_decode(&plain, span_str(rows[i].value)), 0);
		assert_string_equal(buf_cstr(&plain), rows[i].plain);
		assert_int_equal(orcpt_encode(&back, buf_span(&plain), false), 0);
		assert_string_equal(buf_cstr(&back), ascii);
		buf_reset(&back);
		assert_int_equal(orcpt_encode(&back, buf_span(&plain), true), 0);
		assert_string_equal(buf_cstr(&back), utf8);
	}
	_cleanup_(buf_donep) struct buf bare = BUF_INIT(100);
	assert_int_equal(orcpt_encode(&bare, SPAN("a=b@example.org"), false), 0);
	assert_string_equal(buf_cstr(&bare), "rfc822;a+3Db@example.org");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failed),	  cmocka_unit_test(test_header_only),
		cmocka_unit_test(test_injection), cmocka_unit_test(test_delayed),
		cmocka_unit_test(test_orcpt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Delivery reports: whatever peers said and users sent, the report is a well-formed message of
 * three parts.  Also enhanced codes and xtext. */
#include <assert.h>

#include "format/check.h"
#include "format/dsn.h"
#include "format/header.h"
#include "format/mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* What was read is written so that the same is read again. */
static void check_orcpt(span s)
{
	for (unsigned utf8 = 0; utf8 < 2; utf8++) {
		_cleanup_(buf_donep) struct buf plain = BUF_INIT(1 << 12), e = BUF_INIT(1 << 14),
						again = BUF_INIT(1 << 12);

		if (orcpt_decode(&plain, s) < 0)
			return;
		assert(orcpt_encode(&e, buf_span(&plain), utf8) == 0);
		assert(orcpt_decode(&again, buf_span(&e)) == 0);
		assert(span_eq(buf_span(&plain), buf_span(&again)));
	}
}

static void check_xtext(span s)
{
	struct buf e = BUF_INIT(3 * s.n), d = BUF_INIT(s.n);
	assert(xtext_encode(&e, s) == 0 && xtext_decode(&d, buf_span(&e)) == 0);
	assert(span_eq(buf_span(&d), s));
	buf_reset(&d);
	xtext_decode(&d, s);
	buf_done(&e);
	buf_done(&d);
}

/* The input is the fields, separated by bytes 0xff. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	span in = span_of(p, n);
	check_xtext(span_sub(in, 0, 200));
	check_orcpt(span_sub(in, 0, 200));
	struct dsn_rcpt rcpt = { .action = n % 5, .last_attempt = 1, .will_retry_until = 2 };
	enhanced_code_parse(in, rcpt.status);
	rcpt.original = span_cut(&in, (char)0xff);
	rcpt.final = span_cut(&in, (char)0xff);
	rcpt.remote_mta = span_cut(&in, (char)0xff);
	rcpt.diagnostic = span_cut(&in, (char)0xff);
	rcpt.explanation = span_cut(&in, (char)0xff);
	struct dsn_report r = { .reporting_mta = SPAN("mx.example.org"),
				.from = SPAN("postmaster@mx.example.org"),
				.to = SPAN("ann@example.org"),
				.envelope_id = span_cut(&in, (char)0xff),
				.message_id = SPAN("<1@mx>"),
				.now = 1,
				.rcpts = &rcpt,
				.n_rcpts = 1,
				.original = in,
				.full = n & 1,
				.utf8 = n & 2 };
	struct buf b = BUF_INIT(4 << 20);
	assert(dsn_compose(&b, &r) == 0);
	struct message_facts f;
	message_check(buf_span(&b), &f);
	assert(!(f.defects & ~(unsigned)(MESSAGE_8BIT_BODY | MESSAGE_8BIT_HEADER)));
	assert(f.from == 1 && f.to_cc_bcc == 1 && f.message_id == 1 && f.subject_value.n);
	struct arena mem;
	arena_init(&mem);
	struct mime_part *root = mime_parse(buf_span(&b), &mem);
	size_t parts = 0;
	for (struct mime_part *c = root->child; c; c = c->next)
		parts++;
	assert(parts == 3);
	arena_done(&mem);
	buf_done(&b);
	return 0;
}

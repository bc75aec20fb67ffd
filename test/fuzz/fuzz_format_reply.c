/* Replies: the same result however many bytes follow, "more" for every proper prefix, and what is
 * written from the text reads as the same. */
#include <assert.h>

#include "base/err.h"
#include "format/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { LINES = 16, BYTES = 2048 };

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	span in = span_of(p, MIN(n, 4096));
	struct buf b = BUF_INIT(8192), again = BUF_INIT(8192), out = BUF_INIT(1 << 20);
	struct smtp_reply r = { 0 }, second = { 0 };
	size_t used = 0, unused;
	int e = smtp_reply_parse(in, LINES, BYTES, &b, &r, &used);
	if (e == 1) {
		assert(used <= in.n && r.code >= 200 && r.code < 600 && r.lines <= LINES);
		assert(smtp_reply_parse(span_sub(in, 0, used), LINES, BYTES, &again, &second,
					&unused) == 1);
		assert(unused == used && span_eq(r.text, second.text));
		for (size_t i = 0; i < used; i++)
			assert(smtp_reply_parse(span_sub(in, 0, i), LINES, BYTES, &again, &second,
						&unused) == 0);
		smtp_reply_put(&out, r.code, r.enhanced, r.text, true);
		buf_reset(&again);
		assert(smtp_reply_parse(buf_span(&out), LINES, 16 * BYTES, &again, &second,
					&unused) == 1);
		assert(unused == out.n && second.code == r.code);
	} else {
		assert(used == 0 && b.n == 0 && !r.code);
	}
	/* any text makes lines that can be sent */
	buf_reset(&out);
	smtp_reply_put(&out, 550, "5.0.0", in, n & 1);
	for (span rest = buf_span(&out); rest.n;) {
		span line = span_cut(&rest, '\n');
		assert(line.n <= 501 && line.p[line.n - 1] == '\r');
		assert(!memchr(line.p, '\r', line.n - 1) && !memchr(line.p, 0, line.n));
	}
	buf_done(&b);
	buf_done(&again);
	buf_done(&out);
	return 0;
}

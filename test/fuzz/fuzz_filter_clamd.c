/* What clamd says, cut anywhere: the result is the same, and harmless to print. */
#include <assert.h>
#include <stdint.h>

#include "filter/clamd.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void play(span words, size_t step, bool ended, struct buf *result)
{
	struct clamd *c = clamd_new();

	clamd_body(c, SPAN("some"));
	if (ended)
		clamd_body(c, SPAN_NULL);
	for (; words.n; words = span_from(words, step))
		clamd_feed(c, span_sub(words, 0, step));
	clamd_fail(c, SPAN("end"));
	assert(clamd_over(c));
	for (size_t i = 0; i < clamd_result(c)->text.n; i++)
		assert(clamd_result(c)->text.p[i] >= ' ' && clamd_result(c)->text.p[i] <= '~');
	filter_result_put(result, clamd_result(c));
	clamd_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf a = BUF_INIT(4096), b = BUF_INIT(4096);

	if (n < 1)
		return 0;
	play(span_of(p + 1, n - 1), 1 + (p[0] >> 1), p[0] & 1, &a);
	play(span_of(p + 1, n - 1), n, p[0] & 1, &b);
	assert(span_eq(buf_span(&a), buf_span(&b)));
	buf_done(&a);
	buf_done(&b);
	return 0;
}

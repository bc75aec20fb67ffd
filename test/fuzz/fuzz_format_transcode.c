/* Conversion to 8 and to 7 bits: the same however the message is cut, and what came out fits: done
 * again it changes nothing. */
#include "../unit/format/transcode_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check(span in, enum transcode_goal goal, size_t step)
{
	_cleanup_(buf_donep) struct buf whole = BUF_INIT(64u << 20), cut = BUF_INIT(64u << 20),
					again = BUF_INIT(64u << 20);
	enum transcode_verdict v = transcode_all(in, goal, SIZE_MAX, &whole);

	assert(transcode_all(in, goal, step, &cut) == v);
	assert(span_eq(buf_span(&whole), buf_span(&cut)));
	if (v == TRANSCODE_IMPOSSIBLE)
		return;
	assert(transcode_all(buf_span(&whole), goal, SIZE_MAX, &again) == TRANSCODE_AS_IS);
	assert(span_eq(buf_span(&whole), buf_span(&again)));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 1)
		return 0;
	check(span_of(p + 1, n - 1), TRANSCODE_8BIT, 1 + p[0] % 64u);
	check(span_of(p + 1, n - 1), TRANSCODE_7BIT, 1 + p[0] % 64u);
	return 0;
}

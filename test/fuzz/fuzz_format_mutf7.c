/* Mailbox names and domains: one name has exactly one form on the wire. */
#include <assert.h>

#include "format/idn.h"
#include "format/imapfmt.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	span in = span_of(p, n);
	struct buf b = BUF_INIT(16 * n + 16), c = BUF_INIT(16 * n + 16);
	if (mutf7_decode(&b, in) == 0) {
		assert(utf8_valid(buf_span(&b)));
		assert(mutf7_encode(&c, buf_span(&b)) == 0 && span_eq(buf_span(&c), in));
	} else {
		assert(b.n == 0);
	}
	buf_reset(&b);
	buf_reset(&c);
	if (mutf7_encode(&b, in) == 0)
		assert(mutf7_decode(&c, buf_span(&b)) == 0 && span_eq(buf_span(&c), in));
	buf_reset(&b);
	buf_reset(&c);
	if (idn_to_ascii(&b, in) == 0)
		assert(idn_to_ascii(&c, buf_span(&b)) == 0 && span_eq(buf_span(&b), buf_span(&c)));
	buf_done(&b);
	buf_done(&c);
	return 0;
}

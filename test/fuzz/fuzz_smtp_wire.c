/* The wire must do the same however its input is cut: a whole run against one in pieces.
 * First byte: bit 0 submission, bit 1 TLS; second byte: the cut. */
#include <stdint.h>
#include <stdlib.h>

#include "harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const struct wire_ops *ops;
	struct buf whole, pieces;
	span input;

	if (n < 2 || n > 256 * 1024)
		return 0;
	ops = p[0] & 1 ? &submission_wire_ops : &smtp_wire_ops;
	input = span_of(p + 2, n - 2);
	harness_run(ops, NULL, p[0] & 2, input, 0, 0, &whole);
	harness_run(ops, NULL, p[0] & 2, input, 1u + p[1] % 64u, p[1], &pieces);
	if (!span_eq(buf_span(&whole), buf_span(&pieces)))
		abort();
	buf_done(&whole);
	buf_done(&pieces);
	return 0;
}

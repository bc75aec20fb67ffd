/* What holds for any message: it is read the same however it is cut, what comes out fits, needs
 * nothing more, and has the same parts with the same content.  Shared with the fuzz target. */
#pragma once

#include <assert.h>

#include "base/err.h"
#include "format/check.h"
#include "format/mime.h"
#include "format/transcode.h"

/* One conversion, cut into pieces of STEP. */
static inline enum transcode_verdict transcode_all(span in, enum transcode_goal goal, size_t step,
						   struct buf *out)
{
	struct transcode *t = transcode_new(goal);
	enum transcode_verdict v;

	for (size_t i = 0; i < in.n; i += step)
		transcode_scan(t, span_sub(in, i, step));
	v = transcode_scanned(t);
	for (size_t i = 0; i < in.n; i += step) {
		span piece = span_sub(in, i, step);
		size_t before = out->n;

		assert(transcode_put(t, piece, out) == 0);
		assert(out->n - before <= 4 * piece.n + TRANSCODE_HELD);
	}
	assert(transcode_end(t, out) == 0);
	transcode_free(t);
	return v;
}

static inline void same_parts(span a, const struct mime_part *x, span b, const struct mime_part *y)
{
	for (; x && y; x = x->next, y = y->next) {
		_cleanup_(buf_donep) struct buf m = BUF_INIT(a.n + b.n), n = BUF_INIT(a.n + b.n);

		assert(span_ieq(x->type, y->type) && span_ieq(x->subtype, y->subtype));
		if (x->child || y->child) {
			same_parts(a, x->child, b, y->child);
			continue;
		}
		mime_decode_body(a, x, &m);
		mime_decode_body(b, y, &n);
		assert(span_starts(buf_span(&n), buf_span(&m)));
		assert(n.n <= m.n + 2); /* a last line gets its end */
	}
	assert(!x && !y);
}

/* IMAP framing: any bytes, split anywhere, give the same steps; nothing beyond the input limit is
 * held. */
#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"
#include "imap/wire.h"

/* The first byte chooses the phase and the size of pieces. */
static void run(span in, size_t piece, bool authenticated, struct buf *log)
{
	struct wire_env env = { .hostname = SPAN("mail.test"), .tls = true, .max_size = 1 << 20 };
	struct wire_park p = { .flags = authenticated ? IMAP_PARK_AUTHENTICATED : 0 };
	void *w = xcalloc(1, imap_wire_ops.size);
	imap_wire_ops.open(w, &env, log);
	imap_wire_ops.park(w, &p);
	size_t shown = 0, used_all = 0;
	bool closed = false;
	while (!closed) {
		struct buf reply = BUF_INIT(1 << 20), group = BUF_INIT(CHANNEL_MAX),
			   body = BUF_INIT(CHANNEL_MAX);
		struct wire_out out = { .reply = &reply, .group = &group, .body = &body };
		size_t used = 0;
		enum wire_step s = imap_wire_ops.feed(w, span_sub(in, used_all, shown - used_all),
						      &used, &out);
		assert(used <= shown - used_all && !group.failed && !body.failed);
		used_all += used;
		buf_put_span(log, buf_span(&reply));
		buf_put_span(log, buf_span(&group));
		buf_put_span(log, buf_span(&body));
		if (s == WIRE_FORWARD || s == WIRE_BODY) {
			p.mode = group.n && group.p[0] == SESS_ITEM_BODY_FOLLOWS && group.n % 2
					 ? SESS_MODE_LITERAL
					 : SESS_MODE_LINES;
			imap_wire_ops.park(w, &p);
		}
		closed = s == WIRE_CLOSE;
		bool idle = s == WIRE_MORE && !used;
		buf_done(&reply);
		buf_done(&group);
		buf_done(&body);
		if (!idle)
			continue;
		assert(shown - used_all < imap_wire_ops.input_limit);
		if (shown == in.n)
			break;
		shown += MIN(piece, in.n - shown);
	}
	imap_wire_ops.done(w);
	free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 1 || n > 1 << 18)
		return 0;
	span in = span_of(p + 1, n - 1);
	struct buf a = BUF_INIT(64 << 20), b = BUF_INIT(64 << 20);
	run(in, 4096, p[0] & 1, &a);
	run(in, 1 + (p[0] >> 1) % 7, p[0] & 1, &b);
	assert(span_eq(buf_span(&a), buf_span(&b)));
	buf_done(&a);
	buf_done(&b);
	return 0;
}

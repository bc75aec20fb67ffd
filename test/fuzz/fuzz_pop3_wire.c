/* POP3 framing and parsing: any bytes, split anywhere, give the same steps. */
#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"
#include "pop3/commands.h"
#include "pop3/wire.h"

static void run(span in, size_t piece, bool authenticated, struct buf *log)
{
	struct wire_env env = { .hostname = SPAN("mail.test"), .tls = true };
	struct wire_park p = { .flags = authenticated ? POP3_PARK_AUTHENTICATED : 0 };
	void *w = xcalloc(1, pop3_wire_ops.size);
	pop3_wire_ops.open(w, &env, log);
	pop3_wire_ops.park(w, &p);
	size_t shown = 0, used_all = 0;
	bool closed = false;
	while (!closed) {
		struct buf reply = BUF_INIT(1 << 20), group = BUF_INIT(CHANNEL_MAX);
		struct wire_out out = { .reply = &reply, .group = &group };
		size_t used = 0;
		enum wire_step s = pop3_wire_ops.feed(w, span_sub(in, used_all, shown - used_all),
						      &used, &out);
		used_all += used;
		assert(used_all <= shown);
		buf_put_span(log, buf_span(&reply));
		buf_put_span(log, buf_span(&group));
		struct cursor c = cursor_of(buf_span(&group));
		uint8_t flags;
		span line;
		struct pop3_args a;
		const char *why;
		while (s == WIRE_FORWARD && sess_item_next(&c, &flags, &line)) {
			p.mode = pop3_parse(line, &a, &why) && a.cmd->id == POP3_AUTH
					 ? SESS_MODE_RAW
					 : SESS_MODE_LINES;
			pop3_wire_ops.park(w, &p);
		}
		closed = s == WIRE_CLOSE;
		bool idle = s == WIRE_MORE && !used;
		buf_done(&reply);
		buf_done(&group);
		if (!idle)
			continue;
		assert(shown - used_all < pop3_wire_ops.input_limit);
		if (shown == in.n)
			break;
		shown += MIN(piece, in.n - shown);
	}
	pop3_wire_ops.done(w);
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

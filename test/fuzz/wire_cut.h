/* A wire fed in pieces, as front does it: whatever the bytes are and however they are cut, it takes
 * the same steps and holds no more than it said. */
#pragma once

#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"
#include "sys/session.h"

/* What core would answer to a group or a body: the mode to go on in. */
typedef enum sess_mode wire_cut_mode(enum wire_step step, span group);

/* Appends the steps' bytes to LOG. */
static void wire_cut_run(const struct wire_ops *ops, const struct wire_env *env, struct wire_park p,
			 wire_cut_mode *mode, span in, size_t piece, struct buf *log)
{
	size_t shown = 0, used_all = 0;
	bool closed = false;
	void *w = xcalloc(1, ops->size);

	ops->open(w, env, log);
	ops->park(w, &p);
	while (!closed) {
		struct buf reply = BUF_INIT(1 << 20), group = BUF_INIT(CHANNEL_MAX),
			   body = BUF_INIT(CHANNEL_MAX);
		struct wire_out out = { .reply = &reply, .group = &group, .body = &body };
		size_t used = 0;
		enum wire_step s =
			ops->feed(w, span_sub(in, used_all, shown - used_all), &used, &out);
		bool idle = s == WIRE_MORE && !used;

		assert(used <= shown - used_all && !group.failed && !body.failed);
		used_all += used;
		buf_put_span(log, buf_span(&reply));
		buf_put_span(log, buf_span(&group));
		buf_put_span(log, buf_span(&body));
		if (s == WIRE_FORWARD || s == WIRE_BODY) {
			p.mode = mode(s, buf_span(&group));
			ops->park(w, &p);
		}
		closed = s == WIRE_CLOSE;
		buf_done(&reply);
		buf_done(&group);
		buf_done(&body);
		if (!idle)
			continue;
		assert(shown - used_all < ops->input_limit);
		if (shown == in.n)
			break;
		shown += MIN(piece, in.n - shown);
	}
	ops->done(w);
	free(w);
}

/* The first byte of the fuzzer's input chooses the phase (lowest bit) and the size of pieces. */
static int wire_cut_compare(span input, void (*run)(span in, size_t piece, bool phase, struct buf *log))
{
	struct buf a = BUF_INIT(64 << 20), b = BUF_INIT(64 << 20);
	unsigned how = input.n ? (uint8_t)input.p[0] : 0;

	if (input.n < 1 || input.n > 1 << 18)
		return 0;
	run(span_from(input, 1), 4096, how & 1, &a);
	run(span_from(input, 1), 1 + (how >> 1) % 7, how & 1, &b);
	assert(span_eq(buf_span(&a), buf_span(&b)));
	buf_done(&a);
	buf_done(&b);
	return 0;
}

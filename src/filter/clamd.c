#include "filter/clamd.h"

#include <stdlib.h>

enum { REPLY_MAX = 1000 };

struct clamd {
	struct arena mem;
	struct buf in, out;
	bool ended, over; /* the whole message was told; the result is known */
	struct filter_result result;
};

struct clamd *clamd_new(void)
{
	struct clamd *c = xcalloc(1, sizeof *c);

	arena_init(&c->mem);
	buf_init(&c->in, REPLY_MAX);
	buf_init(&c->out, 2 * CLAMD_CHUNK);
	buf_put_span(&c->out, SPAN("zINSTREAM\0"));
	return c;
}

void clamd_free(struct clamd *c)
{
	if (!c)
		return;
	buf_done(&c->in);
	buf_done(&c->out);
	arena_done(&c->mem);
	free(c);
}

bool clamd_wants_body(const struct clamd *c)
{
	return !c->ended && !c->over && c->out.n < CLAMD_CHUNK;
}

bool clamd_over(const struct clamd *c)
{
	return c->over;
}

const struct filter_result *clamd_result(const struct clamd *c)
{
	return &c->result;
}

void clamd_body(struct clamd *c, span piece)
{
	char n[4] = { (char)(piece.n >> 24), (char)(piece.n >> 16), (char)(piece.n >> 8),
		      (char)piece.n };

	c->ended = piece.n == 0;
	buf_put(&c->out, n, sizeof n);
	buf_put_span(&c->out, piece);
}

struct buf *clamd_out(struct clamd *c)
{
	return &c->out;
}

static void conclude(struct clamd *c, enum filter_action action, span text)
{
	c->result = (struct filter_result){ .action = action, .text = filter_line(text, &c->mem) };
	c->over = true;
}

static void on_reply(struct clamd *c, span reply)
{
	static const char prefix[] = "stream: ";

	reply = span_trim(reply);
	if (span_starts(reply, span_str(prefix)))
		reply = span_from(reply, sizeof prefix - 1);
	if (span_iends(reply, SPAN(" FOUND")))
		conclude(c, FILTER_REJECT, span_sub(reply, 0, reply.n - 6));
	else if (c->ended && span_eq_str(reply, "OK"))
		conclude(c, FILTER_CONTINUE, SPAN_NULL);
	else
		conclude(c, FILTER_FAILED, reply.n ? reply : SPAN("it says nothing"));
}

/* The reply ends with the NUL that our "z" asked for; older ones end with a line. */
void clamd_feed(struct clamd *c, span bytes)
{
	if (c->over)
		return;
	for (size_t i = 0; i < bytes.n; i++) {
		if (bytes.p[i] == 0 || bytes.p[i] == '\n') {
			on_reply(c, buf_span(&c->in));
			return;
		}
		if (buf_put_char(&c->in, bytes.p[i]) < 0) {
			conclude(c, FILTER_FAILED, SPAN("its reply is too long"));
			return;
		}
	}
}

void clamd_fail(struct clamd *c, span why)
{
	if (!c->over)
		conclude(c, FILTER_FAILED, why);
}

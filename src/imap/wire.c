#include "imap/wire.h"

#include "imap/parse.h"
#include "sasl/offer.h"

enum {
	PREAUTH_LINE = 8 * 1024,
	LINE = 64 * 1024,
	PREAUTH_LITERALS = 4 * 1024,
	LITERALS = 16 * 1024,
	PREAUTH_LITERAL_COUNT = 8,
	LITERAL_COUNT = 1024,
	RAW_LINE = 12288,  /* a SASL response, RFC 4954 4 */
	PIECE = 64 * 1024, /* of an APPEND's body */
	MAX_BAD = 10,	   /* commands without sense before authentication */
	INPUT_LIMIT = LINE + LITERALS + 8 * 1024,
};

/* Where in the input the wire is. */
enum phase {
	LINES,	      /* a command: its lines and small literals */
	RAW,	      /* one line for core */
	WAIT_LITERAL, /* core decides about a large literal */
	BODY,	      /* the pieces of one it took */
	TAIL,	      /* the rest of the line behind it */
	SKIP,	      /* the bytes of a refused one that come anyway */
	SKIP_LINE,    /* up to and including the next CRLF */
};

struct imap_wire {
	struct wire_env env;
	bool authenticated;
	enum phase phase;
	/* the command under way; offsets into what feed() is shown */
	size_t scan;	     /* looked at so far */
	size_t line;	     /* start of its current line */
	size_t literal_left; /* of a small literal, not scanned yet */
	size_t literal_bytes;
	unsigned literals;
	bool binary;	 /* the literal may hold NUL */
	const char *bad; /* why it will be refused at its end */
	/* a large literal */
	uint64_t left;
	bool nonsync, go_ahead;
	unsigned bads;
};

static void fresh_command(struct imap_wire *w)
{
	w->scan = w->line = w->literal_left = w->literal_bytes = 0;
	w->literals = 0;
	w->bad = NULL;
}

static enum wire_step close_with(struct wire_out *out, enum sess_why why, const char *text)
{
	if (text)
		buf_printf(out->reply, "* BYE %s\r\n", text);
	out->why = why;
	return WIRE_CLOSE;
}

/* Tag of what the peer sent so far, "*" where it has none.  Tags are made of harmless characters.
 */
static span tag_of(span command)
{
	struct imap_lex l;
	struct imap_args a;
	imap_lex_init(&l, command, NULL);
	imap_parse_head(&l, &a);
	return a.tag;
}

static enum wire_step refuse(struct imap_wire *w, span command, size_t *ret_used,
			     struct wire_out *out, const char *why)
{
	span tag = tag_of(command);
	buf_printf(out->reply, "%.*s BAD %s\r\n", SPAN_FMT(tag), why);
	*ret_used = w->scan;
	fresh_command(w);
	out->errors += !w->authenticated;
	if (!w->authenticated && ++w->bads >= MAX_BAD)
		return close_with(out, SESS_WHY_ABUSE, "Too many bad commands");
	return WIRE_REPLY;
}

/* Browsers and other protocols that were led here (cross-protocol attacks) get no answer at all. */
static bool foreign(span line)
{
	static const char *const verbs[] = { "GET ",	 "POST ",    "HEAD ",  "PUT ",	 "DELETE ",
					     "OPTIONS ", "CONNECT ", "PATCH ", "TRACE ", "PRI " };
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (span_istarts(line, span_str(verbs[i])))
			return span_ifind_span(line, SPAN(" HTTP/")) != SPAN_NPOS;
	return span_istarts(line, SPAN("Host:")) || span_starts(line, SPAN("\x16\x03"));
}

/* --- complete commands --- */

static enum wire_step forward(struct imap_wire *w, uint8_t flags, span bytes, size_t *ret_used,
			      struct wire_out *out)
{
	wire_item_put(out->group, flags, bytes);
	*ret_used = bytes.n;
	fresh_command(w);
	return WIRE_FORWARD;
}

static enum wire_step answer(struct imap_wire *w, const struct imap_args *a, size_t *ret_used,
			     struct wire_out *out)
{
	if (a->cmd->id == IMAP_CAPABILITY) {
		struct sasl_channel channel = sasl_wire_channel(&w->env);

		buf_put_str(out->reply, "* CAPABILITY ");
		imap_capability_put(out->reply, false, &channel, w->env.tls_available);
		buf_put_str(out->reply, "\r\n");
	} else if (a->cmd->id == IMAP_LOGOUT) {
		buf_put_str(out->reply, "* BYE Logging out\r\n");
	}
	buf_printf(out->reply, "%.*s OK %s completed\r\n", SPAN_FMT(a->tag), a->cmd->name);
	*ret_used = w->scan;
	fresh_command(w);
	out->why = SESS_WHY_EOF;
	return a->cmd->id == IMAP_LOGOUT ? WIRE_CLOSE : WIRE_REPLY;
}

static enum wire_step before_authentication(struct imap_wire *w, span command, size_t *ret_used,
					    struct wire_out *out)
{
	if (foreign(command))
		return close_with(out, SESS_WHY_ABUSE, NULL);
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	struct imap_args a;
	const char *why;
	if (!imap_parse(command, &mem, &a, &why))
		return refuse(w, command, ret_used, out, why);
	if (!(a.cmd->states & IMAP_IN_NONAUTH))
		return refuse(w, command, ret_used, out, "Log in first");
	if (a.cmd->flags & IMAP_FRONT)
		return answer(w, &a, ret_used, out);
	return forward(w, 0, command, ret_used, out);
}

static enum wire_step complete(struct imap_wire *w, span command, size_t *ret_used,
			       struct wire_out *out)
{
	if (w->bad)
		return refuse(w, command, ret_used, out, w->bad);
	if (!w->authenticated)
		return before_authentication(w, command, ret_used, out);
	return forward(w, 0, command, ret_used, out);
}

/* --- literals --- */

static bool is_append(span command)
{
	struct imap_lex l;
	struct imap_args a;
	imap_lex_init(&l, command, NULL);
	return imap_parse_head(&l, &a) && a.cmd->id == IMAP_APPEND;
}

/* One that does not fit: refused while nothing of it has come, or for core to decide. */
static enum wire_step large_literal(struct imap_wire *w, span command,
				    const struct imap_literal *lit, size_t *ret_used,
				    struct wire_out *out)
{
	if (w->authenticated && !w->bad && !lit->overflow && !lit->binary && is_append(command)) {
		w->phase = WAIT_LITERAL;
		w->left = lit->n;
		w->nonsync = lit->nonsync;
		return forward(w, SESS_ITEM_BODY_FOLLOWS, command, ret_used, out);
	}
	if (lit->nonsync)
		return close_with(out, SESS_WHY_ABUSE, "[TOOBIG] Literal is too large");
	return refuse(w, command, ret_used, out, "[TOOBIG] Literal is too large");
}

static enum wire_step announced(struct imap_wire *w, span command, const struct imap_literal *lit,
				size_t *ret_used, struct wire_out *out)
{
	size_t most = w->authenticated ? LITERALS : PREAUTH_LITERALS;
	unsigned count = w->authenticated ? LITERAL_COUNT : PREAUTH_LITERAL_COUNT;
	if (lit->n > most - w->literal_bytes || w->literals == count)
		return large_literal(w, command, lit, ret_used, out);
	if (!lit->nonsync) {
		struct imap_lex l;
		struct imap_args a;
		imap_lex_init(&l, command, NULL);
		if (w->bad || !imap_parse_head(&l, &a)) /* not worth asking for more */
			return refuse(w, command, ret_used, out, w->bad ? w->bad : l.why);
	}
	w->literals++;
	w->literal_bytes += (size_t)lit->n;
	w->literal_left = (size_t)lit->n;
	w->binary = lit->binary;
	w->line = w->scan + (size_t)lit->n;
	if (lit->nonsync)
		return WIRE_MORE; /* go on scanning */
	buf_put_str(out->reply, "+ OK\r\n");
	*ret_used = 0;
	return WIRE_REPLY;
}

/* --- scanning --- */

/* Passes over the bytes of a small literal; false when more must come. */
static bool scan_literal(struct imap_wire *w, span in)
{
	size_t n = MIN(w->literal_left, in.n - w->scan);
	if (!w->binary && memchr(in.p + w->scan, 0, n))
		w->bad = "NUL in a literal";
	w->scan += n;
	w->literal_left -= n;
	return w->literal_left == 0;
}

enum line { LINE_MORE, LINE_END, LINE_BARE_LF, LINE_LONG };

/* Scans to the end of the current line; only CRLF ends it. */
static enum line scan_line(struct imap_wire *w, span in, size_t limit)
{
	while (w->scan < in.n) {
		char c = in.p[w->scan];
		bool after_cr = w->scan > w->line && in.p[w->scan - 1] == '\r';
		if (w->scan - w->literal_bytes >= limit)
			return LINE_LONG;
		w->scan++;
		if (c == '\n')
			return after_cr ? LINE_END : LINE_BARE_LF;
		if (after_cr)
			w->bad = "CR without LF";
		if (c == '\0')
			w->bad = "NUL in a command";
	}
	return LINE_MORE;
}

static enum wire_step bare_lf(struct imap_wire *w, span command, size_t *ret_used,
			      struct wire_out *out)
{
	/* What follows up to a real line end belongs to the refused line: it must not become a
	 * command. */
	w->phase = SKIP_LINE;
	return refuse(w, command, ret_used, out, "Lines end with CRLF");
}

static enum wire_step feed_lines(struct imap_wire *w, span in, size_t *ret_used,
				 struct wire_out *out)
{
	for (;;) {
		if (w->literal_left && !scan_literal(w, in))
			return WIRE_MORE;
		enum line end = scan_line(w, in, w->authenticated ? LINE : PREAUTH_LINE);
		span command = span_sub(in, 0, w->scan);
		if (end == LINE_MORE)
			return WIRE_MORE;
		if (end == LINE_LONG)
			return close_with(out, SESS_WHY_ABUSE, "Line is too long");
		if (end == LINE_BARE_LF)
			return bare_lf(w, command, ret_used, out);
		struct imap_literal lit;
		if (!imap_literal_at_end(span_sub(in, w->line, w->scan - w->line - 2), &lit))
			return complete(w, command, ret_used, out);
		enum wire_step step = announced(w, command, &lit, ret_used, out);
		if (step != WIRE_MORE)
			return step;
	}
}

/* One line, whatever it says: core waits for it. */
static enum wire_step feed_raw(struct imap_wire *w, span in, size_t *ret_used, struct wire_out *out)
{
	enum line end = scan_line(w, in, w->authenticated ? LINE : RAW_LINE);
	if (end == LINE_MORE)
		return WIRE_MORE;
	if (end == LINE_LONG)
		return close_with(out, SESS_WHY_ABUSE, "Line is too long");
	if (end == LINE_BARE_LF)
		return close_with(out, SESS_WHY_ABUSE, "Lines end with CRLF");
	return forward(w, 0, span_sub(in, 0, w->scan), ret_used, out);
}

static enum wire_step feed_tail(struct imap_wire *w, span in, size_t *ret_used,
				struct wire_out *out)
{
	enum wire_step step = feed_raw(w, in, ret_used, out);
	struct imap_literal lit;
	if (step != WIRE_FORWARD)
		return step;
	w->phase = LINES;
	span line = span_sub(in, 0, *ret_used - 2);
	if (imap_literal_at_end(line, &lit) &&
	    lit.nonsync) /* its bytes would be read as commands */
		return close_with(out, SESS_WHY_ABUSE, "Only one literal can be appended");
	return step;
}

/* Pieces of one size, so that the way the bytes arrive makes no difference. */
static enum wire_step feed_body(struct imap_wire *w, span in, size_t *ret_used,
				struct wire_out *out)
{
	if (w->go_ahead) {
		w->go_ahead = false;
		buf_put_str(out->reply, "+ OK\r\n");
		return WIRE_REPLY;
	}
	size_t n = (size_t)MIN(w->left, (uint64_t)PIECE);
	if (in.n < n)
		return WIRE_MORE;
	buf_put(out->body, in.p, n);
	w->left -= n;
	out->body_flags = (w->left ? 0 : SESS_BODY_LAST) | (memchr(in.p, 0, n) ? SESS_BODY_BAD : 0);
	if (!w->left)
		w->phase = TAIL;
	*ret_used = n;
	return WIRE_BODY;
}

/* Consumes without an answer; WIRE_MORE with bytes used. */
static enum wire_step feed_skip(struct imap_wire *w, span in, size_t *ret_used)
{
	size_t n = 0;
	if (w->phase == SKIP) {
		n = (size_t)MIN(w->left, (uint64_t)in.n);
		w->left -= n;
		if (!w->left)
			w->phase = SKIP_LINE;
	}
	if (w->phase == SKIP_LINE) {
		span rest = span_from(in, n);
		size_t end = span_find_span(rest, SPAN("\r\n"));
		if (end != SPAN_NPOS) {
			n += end + 2;
			w->phase = LINES;
		} else if (rest.n) { /* a CR at the end may be half of it */
			n += rest.n - (rest.p[rest.n - 1] == '\r');
		}
	}
	*ret_used = n;
	return WIRE_MORE;
}

static enum wire_step imap_feed(void *state, span in, size_t *ret_used, struct wire_out *out)
{
	struct imap_wire *w = state;
	*ret_used = 0;
	size_t skipped = 0;
	if (w->phase == SKIP || w->phase == SKIP_LINE) {
		feed_skip(w, in, &skipped);
		*ret_used = skipped;
		if (w->phase != LINES || skipped == in.n)
			return WIRE_MORE;
		in = span_from(in, skipped);
	}
	size_t used = 0;
	enum wire_step step = WIRE_MORE;
	switch (w->phase) {
	case RAW:
		step = feed_raw(w, in, &used, out);
		break;
	case TAIL:
		step = feed_tail(w, in, &used, out);
		break;
	case BODY:
		step = feed_body(w, in, &used, out);
		break;
	case LINES:
		step = feed_lines(w, in, &used, out);
		break;
	default: /* core has the word */
		break;
	}
	*ret_used = skipped + used;
	return step;
}

/* --- the rest of the contract --- */

static void imap_park(void *state, const struct wire_park *p)
{
	struct imap_wire *w = state;
	w->authenticated = p->flags & IMAP_PARK_AUTHENTICATED;
	switch (w->phase) {
	case WAIT_LITERAL:
		if (p->mode == SESS_MODE_LITERAL) {
			w->phase = BODY;
			w->go_ahead = !w->nonsync;
		} else {
			w->phase = w->nonsync ? SKIP : LINES;
		}
		break;
	case LINES:
	case RAW:
		w->phase = p->mode == SESS_MODE_RAW ? RAW : LINES;
		break;
	default: /* in a literal: its end is known here */
		break;
	}
}

static void imap_open(void *state, const struct wire_env *env, struct buf *reply)
{
	struct imap_wire *w = state;
	struct sasl_channel channel = sasl_wire_channel(env);
	w->env = *env;
	buf_put_str(reply, "* OK [CAPABILITY ");
	imap_capability_put(reply, false, &channel, env->tls_available);
	buf_printf(reply, "] %.*s Postrider ready\r\n", SPAN_FMT(env->hostname));
}

static void imap_tls(void *state, const struct wire_env *env)
{
	struct imap_wire *w = state;
	*w = (struct imap_wire){ .env = *env, .bads = w->bads };
}

static void imap_farewell(void *state, enum sess_why why, struct buf *reply)
{
	static const char *const words[SESS_WHY_COUNT] = {
		[SESS_WHY_TIMEOUT] = "Idle for too long",
		[SESS_WHY_CORE] = "[UNAVAILABLE] Server failure, try again",
		[SESS_WHY_SHUTDOWN] = "Server is shutting down",
		[SESS_WHY_LOAD] = "[UNAVAILABLE] Too busy now, try again later",
		[SESS_WHY_RATE] = "[UNAVAILABLE] Too many connections from your network",
		[SESS_WHY_BANNED] = "[UNAVAILABLE] Your network is banned for now",
		[SESS_WHY_PROXY] = "No PROXY header is expected from you",
	};
	if (words[why])
		buf_printf(reply, "* BYE %s\r\n", words[why]);
}

static void imap_done(void *state)
{
}

const struct wire_ops imap_wire_ops = {
	.proto = SESS_PROTO_IMAP,
	.name = "imap",
	.size = sizeof(struct imap_wire),
	.input_limit = INPUT_LIMIT,
	.idle_seconds = 30 * 60,
	.preauth_seconds = 60,
	.open = imap_open,
	.feed = imap_feed,
	.park = imap_park,
	.tls = imap_tls,
	.farewell = imap_farewell,
	.done = imap_done,
};

#include "pop3/wire.h"

#include "pop3/commands.h"
#include "sasl/offer.h"

enum {
	LINE = 512 /* RFC 2449 4: 255; passwords are longer */,
	RAW_LINE = 12288 /* RFC 5034 4 */,
	MAX_BAD = 10
};

struct pop3_wire {
	struct wire_env env;
	bool authenticated, raw;
	bool skip; /* up to the next CRLF: the rest of a refused line */
	unsigned bads;
};

static enum wire_step close_with(struct wire_out *out, enum sess_why why, const char *text)
{
	if (text)
		buf_printf(out->reply, "-ERR %s\r\n", text);
	out->why = why;
	return WIRE_CLOSE;
}

static enum wire_step refuse(struct pop3_wire *w, struct wire_out *out, const char *why)
{
	buf_printf(out->reply, "-ERR %s\r\n", why);
	out->errors += !w->authenticated;
	if (!w->authenticated && ++w->bads >= MAX_BAD)
		return close_with(out, SESS_WHY_ABUSE, NULL);
	return WIRE_REPLY;
}

static bool foreign(span line)
{
	return span_ifind_span(line, SPAN(" HTTP/")) != SPAN_NPOS ||
	       span_istarts(line, SPAN("Host:")) || span_starts(line, SPAN("\x16\x03"));
}

static enum wire_step before_authentication(struct pop3_wire *w, span line, struct wire_out *out)
{
	struct pop3_args a;
	const char *why;
	if (foreign(line))
		return close_with(out, SESS_WHY_ABUSE, NULL);
	if (!pop3_parse(line, &a, &why))
		return refuse(w, out, why);
	if (!(a.cmd->states & POP3_IN_AUTHORIZATION))
		return refuse(w, out, "Log in first");
	if (!(a.cmd->flags & POP3_FRONT)) {
		wire_item_put(out->group, 0, line);
		return WIRE_FORWARD;
	}
	if (a.cmd->id == POP3_QUIT) {
		buf_put_str(out->reply, "+OK Bye\r\n");
		return close_with(out, SESS_WHY_EOF, NULL);
	}
	struct sasl_channel channel = sasl_wire_channel(&w->env);
	buf_put_str(out->reply, "+OK Capabilities follow\r\n");
	pop3_capa_put(out->reply, &channel, w->env.tls_available, false);
	buf_put_str(out->reply, ".\r\n");
	return WIRE_REPLY;
}

/* Passes over the rest of a refused line; how much of IN is used. */
static size_t skip_line(struct pop3_wire *w, span in)
{
	size_t end = span_find_span(in, SPAN("\r\n"));
	if (end == SPAN_NPOS)
		return in.n && in.p[in.n - 1] == '\r' ? in.n - 1 : in.n;
	w->skip = false;
	return end + 2;
}

static enum wire_step one_line(struct pop3_wire *w, span in, size_t *ret_used, struct wire_out *out)
{
	size_t limit = w->raw ? RAW_LINE : LINE, lf = span_find(span_sub(in, 0, limit), '\n');
	if (lf == SPAN_NPOS)
		return in.n >= limit ? close_with(out, SESS_WHY_ABUSE, "Line is too long")
				     : WIRE_MORE;
	span line = span_sub(in, 0, lf + 1);
	*ret_used = line.n;
	if (lf == 0 ||
	    in.p[lf - 1] !=
		    '\r') { /* what follows up to a real line end must not become a command */
		w->skip = true;
		return w->raw ? close_with(out, SESS_WHY_ABUSE, "Lines end with CRLF")
			      : refuse(w, out, "Lines end with CRLF");
	}
	if (!w->raw && !w->authenticated)
		return before_authentication(w, line, out);
	wire_item_put(out->group, 0, line);
	return WIRE_FORWARD;
}

static enum wire_step pop3_feed(void *state, span in, size_t *ret_used, struct wire_out *out)
{
	struct pop3_wire *w = state;
	size_t skipped = w->skip ? skip_line(w, in) : 0, used = 0;
	enum wire_step step = w->skip ? WIRE_MORE : one_line(w, span_from(in, skipped), &used, out);
	*ret_used = skipped + used;
	return step;
}

static void pop3_park(void *state, const struct wire_park *p)
{
	struct pop3_wire *w = state;
	w->authenticated = p->flags & POP3_PARK_AUTHENTICATED;
	w->raw = p->mode == SESS_MODE_RAW;
}

static void pop3_open(void *state, const struct wire_env *env, struct buf *reply)
{
	struct pop3_wire *w = state;
	w->env = *env;
	buf_printf(reply, "+OK %.*s Postrider ready\r\n", SPAN_FMT(env->hostname));
}

static void pop3_tls(void *state, const struct wire_env *env)
{
	struct pop3_wire *w = state;
	*w = (struct pop3_wire){ .env = *env, .bads = w->bads };
}

static void pop3_farewell(void *state, enum sess_why why, struct buf *reply)
{
	static const char *const words[SESS_WHY_COUNT] = {
		[SESS_WHY_TIMEOUT] = "Idle for too long",
		[SESS_WHY_CORE] = "[SYS/TEMP] Server failure, try again",
		[SESS_WHY_SHUTDOWN] = "[SYS/TEMP] Server is shutting down",
		[SESS_WHY_LOAD] = "[SYS/TEMP] Too busy now, try again later",
		[SESS_WHY_RATE] = "[SYS/TEMP] Too many connections from your network",
		[SESS_WHY_BANNED] = "[SYS/TEMP] Your network is banned for now",
		[SESS_WHY_PROXY] = "No PROXY header is expected from you",
	};
	if (words[why])
		buf_printf(reply, "-ERR %s\r\n", words[why]);
}

static void pop3_done(void *state)
{
}

const struct wire_ops pop3_wire_ops = {
	.proto = SESS_PROTO_POP3,
	.name = "pop3",
	.size = sizeof(struct pop3_wire),
	.input_limit = RAW_LINE + 4096,
	.idle_seconds = 10 * 60, /* RFC 1939 3: at least */
	.preauth_seconds = 60,
	.open = pop3_open,
	.feed = pop3_feed,
	.park = pop3_park,
	.tls = pop3_tls,
	.farewell = pop3_farewell,
	.done = pop3_done,
};

/* What front knows of an SMTP session, and how it answers.  A command that core must see waits in
 * out->group until no further command can join it; whatever front answers itself flushes the group
 * first, so that replies keep the order of the commands (RFC 2920 section 3.2). */
#include "smtp/wire.h"

#include <inttypes.h>
#include <stdio.h>

#include "format/check.h"
#include "format/reply.h"
#include "sasl/offer.h"
#include "smtp/body.h"
#include "smtp/extensions.h"
#include "smtp/lex.h"
#include "smtp/parse.h"

#define GROUP_MAX (32u * 1024)
#define PIECE_MIN (16u * 1024) /* so much of a body waits here */
#define PIECE_MAX (64u * 1024)
#define JUNK_MAX  20		 /* bad commands of a session */
#define SKIP_MAX  (1024u * 1024) /* of an overlong line */

enum wire_mode {
	M_LINES,
	M_LONG, /* dropping the rest of an overlong line */
	M_DATA,
	M_CHUNK,
	M_SKIP,	  /* dropping the octets of a BDAT that was refused */
	M_RAW,	  /* AUTH's exchange */
	M_CANCEL, /* it got an overlong line: core must forget it */
};

struct smtp_wire {
	struct wire_env env;
	enum wire_mode mode, after_long;
	size_t scanned; /* of an incomplete line */
	unsigned junk;
	uint64_t skipped;
	/* what the peer said */
	bool helo, esmtp;
	bool mail; /* a sender was named: held here, or core has it */
	bool smtputf8, binary;
	bool bdat; /* chunks have begun */
	/* what core has, and does not know yet */
	bool core_mail, has_rcpt, authenticated;
	bool tell_helo, tell_rset;
	struct buf helo_line, mail_line; /* mail_line.n: a MAIL that travels with the first RCPT */
	/* the body */
	struct smtp_body body;
	struct buf piece;
	uint64_t total; /* octets of the message as sent */
	uint64_t left, chunk;
	bool last;
	const struct smtp_answer *skip_answer;
};

/* The mode has changed: the bytes that follow are read in another way.  Never leaves smtp_feed. */
#define STEP_AGAIN ((enum wire_step) - 1)

/* What to do after one command. */
enum done {
	DONE_FLUSH, /* nothing: the group has to go first */
	DONE_REPLY,
	DONE_JUNK,    /* a reply to something wrong */
	DONE_QUEUED,  /* joined the group */
	DONE_FORWARD, /* joined the group and ends it */
	DONE_MODE,    /* the next bytes are no command */
	DONE_CLOSE,
};

/* ------------------------------------------------------------------ small things */

static void say(struct wire_out *out, unsigned code, const char *enhanced, const char *text)
{
	smtp_reply_put(out->reply, code, enhanced, span_str(text), false);
}

static enum done refuse(struct wire_out *out, const struct smtp_answer *a)
{
	say(out, a->code, a->enhanced, a->text);
	out->errors++;
	return DONE_JUNK;
}

static enum wire_step close_with(struct wire_out *out, const struct smtp_answer *a)
{
	say(out, a->code, a->enhanced, a->text);
	out->why = SESS_WHY_ABUSE;
	return WIRE_CLOSE;
}

static struct smtp_phase phase_of(const struct smtp_wire *w)
{
	return (struct smtp_phase){
		.helo = w->helo,
		.esmtp = w->esmtp,
		.submission = w->env.proto == SESS_PROTO_SUBMISSION ||
			      w->env.proto == SESS_PROTO_LOCAL,
		.lmtp = w->env.proto == SESS_PROTO_LMTP,
		.trusted = w->env.trusted,
		.etrn = w->env.etrn,
		.tls = w->env.tls,
		.tls_available = w->env.tls_available,
		.authenticated = w->authenticated,
		.hold = w->env.hold_max > 0,
		.mail = w->mail,
		.bdat = w->bdat,
		.binary = w->binary,
	};
}

/* More than that is not even worth reading to its end. */
static uint64_t hopeless(const struct smtp_wire *w)
{
	return w->env.max_size > UINT64_MAX / 4 ? UINT64_MAX : 2 * w->env.max_size + 1024 * 1024;
}

static void body_reset(struct smtp_wire *w)
{
	buf_done(&w->piece);
	buf_init(&w->piece, PIECE_MAX + 1);
	smtp_body_init(&w->body);
	w->total = 0;
	w->bdat = false;
}

/* The transaction is over for the peer; core hears of it with the next group. */
static void forget_mail(struct smtp_wire *w)
{
	w->tell_rset |= w->core_mail;
	w->mail = w->core_mail = w->has_rcpt = w->smtputf8 = w->binary = false;
	buf_done(&w->mail_line);
	buf_init(&w->mail_line, SMTP_LINE_MAX);
	body_reset(w);
}

/* A group begins: first what core has missed. */
static void group_begin(struct smtp_wire *w, struct wire_out *out)
{
	if (w->tell_helo)
		wire_item_put(out->group, SESS_ITEM_ANSWERED, buf_span(&w->helo_line));
	else if (w->tell_rset)
		wire_item_put(out->group, SESS_ITEM_ANSWERED, SPAN("RSET"));
	w->tell_helo = w->tell_rset = false;
	buf_done(&w->helo_line);
	buf_init(&w->helo_line, SMTP_LINE_MAX);
	if (w->mail_line.n) {
		wire_item_put(out->group, SESS_ITEM_ANSWERED, buf_span(&w->mail_line));
		buf_done(&w->mail_line);
		buf_init(&w->mail_line, SMTP_LINE_MAX);
		w->core_mail = true;
	}
}

/* ------------------------------------------------------------------ commands answered here */

static void put_ehlo(const struct smtp_wire *w, struct wire_out *out)
{
	_cleanup_(buf_donep) struct buf t = BUF_INIT(4096), mechanisms = BUF_INIT(256);
	const struct smtp_phase phase = phase_of(w);
	struct sasl_channel channel = sasl_wire_channel(&w->env);

	if (!phase.authenticated && phase.submission)
		sasl_offer(&mechanisms, &channel, "", " ");
	const struct smtp_offer offer = { .max_size = w->env.max_size,
					  .max_rcpts = w->env.max_rcpts,
					  .hold_max = w->env.hold_max,
					  .now = w->env.opened,
					  .mechanisms = buf_span(&mechanisms) };
	buf_put_span(&t, w->env.hostname);
	smtp_ext_put(&t, &phase, &offer);
	/* No enhanced code here: RFC 2034 section 4. */
	smtp_reply_put(out->reply, 250, "", buf_span(&t), false);
}

static enum done do_helo(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	forget_mail(w);
	w->helo = true;
	w->esmtp = c->rule->verb != SMTP_HELO;
	buf_reset(&w->helo_line);
	buf_put_span(&w->helo_line, line);
	w->tell_helo = true;
	if (w->esmtp)
		put_ehlo(w, out);
	else
		smtp_reply_put(out->reply, 250, "", w->env.hostname, false);
	return DONE_REPLY;
}

static enum done do_mail(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	if (c->has_size && c->size > w->env.max_size)
		return refuse(out, &smtp_answer_too_big);
	const struct smtp_phase phase = phase_of(w);
	int priority = smtp_priority(c->priority, &phase);
	char text[64];

	w->mail = true;
	w->smtputf8 = c->smtputf8;
	w->binary = c->body_binary;
	buf_put_span(&w->mail_line, line);
	snprintf(text, sizeof(text), "%d is the priority of this message here", priority);
	if (priority == c->priority)
		say(out, 250, "2.1.0", "Sender ok");
	else
		say(out, 250, "2.3.6", text);
	return DONE_REPLY;
}

/* The reason why no message may follow now, or NULL. */
static const struct smtp_answer *no_recipient(const struct smtp_wire *w)
{
	if (w->has_rcpt)
		return NULL;
	return w->core_mail ? &smtp_answer_no_rcpt : &smtp_answer_need_rcpt;
}

static enum done do_data(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	const struct smtp_answer *a = no_recipient(w);

	if (a) {
		say(out, a->code, a->enhanced, a->text);
		return DONE_REPLY; /* a pipelining client cannot know better (RFC 2920 3.1) */
	}
	body_reset(w);
	w->mode = M_DATA;
	say(out, 354, "", "End with <CRLF>.<CRLF>");
	return DONE_REPLY;
}

static enum done do_rset(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	forget_mail(w);
	say(out, 250, "2.0.0", "Ok");
	return DONE_REPLY;
}

static enum done do_noop(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	say(out, 250, "2.0.0", "Ok");
	return DONE_REPLY;
}

static enum done do_quit(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	say(out, 221, "2.0.0", "Bye");
	out->why = SESS_WHY_EOF;
	return DONE_CLOSE;
}

/* RFC 5321 7.3: says nothing about who is here. */
static enum done do_vrfy(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	say(out, 252, "2.0.0", "Cannot verify; send mail and see");
	return DONE_REPLY;
}

static enum done do_expn(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	say(out, 502, "5.5.1", "Not implemented");
	return DONE_JUNK;
}

static enum done do_help(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	say(out, 214, "2.0.0", "See RFC 5321");
	return DONE_REPLY;
}

static enum done do_auth(struct smtp_wire *w, const struct smtp_command *c, span line,
			 struct wire_out *out)
{
	static const struct smtp_answer encrypt = { 538, "5.7.11",
						    "Encryption required: say STARTTLS first" },
					unknown = { 504, "5.5.4", "Mechanism not supported" };

	struct sasl_channel channel = sasl_wire_channel(&w->env);

	switch (sasl_usable(c->mechanism, &channel)) {
	case SASL_NEEDS_TLS:
		return refuse(out, &encrypt);
	case SASL_UNKNOWN:
		return refuse(out, &unknown);
	case SASL_USABLE:
		break;
	}
	return DONE_FORWARD;
}

static enum done do_forward(struct smtp_wire *w, const struct smtp_command *c, span line,
			    struct wire_out *out)
{
	return c->rule->flags & SMTP_ENDS_GROUP ? DONE_FORWARD : DONE_QUEUED;
}

typedef enum done command_fn(struct smtp_wire *w, const struct smtp_command *c, span line,
			     struct wire_out *out);
static command_fn *const handlers[SMTP_VERB_COUNT] = {
	[SMTP_HELO] = do_helo,	     [SMTP_EHLO] = do_helo, [SMTP_MAIL] = do_mail,
	[SMTP_RCPT] = do_forward,    [SMTP_DATA] = do_data, [SMTP_RSET] = do_rset,
	[SMTP_NOOP] = do_noop,	     [SMTP_QUIT] = do_quit, [SMTP_VRFY] = do_vrfy,
	[SMTP_EXPN] = do_expn,	     [SMTP_HELP] = do_help, [SMTP_STARTTLS] = do_forward,
	[SMTP_AUTH] = do_auth,	     [SMTP_LHLO] = do_helo, [SMTP_ETRN] = do_forward,
	[SMTP_XCLIENT] = do_forward,
};

/* ------------------------------------------------------------------ BDAT */

/* The octets follow whatever we think of the command: they are read in any case. */
static enum done do_bdat(struct smtp_wire *w, span args, struct wire_out *out)
{
	const struct smtp_rule *rule = &smtp_rules[SMTP_BDAT];
	struct smtp_phase phase = phase_of(w);
	struct smtp_command c;
	const struct smtp_answer *a = smtp_args_parse(rule, args, &phase, NULL, &c);

	if (a) { /* where the next command starts is unknown */
		say(out, a->code, a->enhanced, a->text);
		out->why = SESS_WHY_ABUSE;
		return DONE_CLOSE;
	}
	if (c.chunk > hopeless(w) - MIN(w->total, hopeless(w))) {
		say(out, 552, "5.3.4", smtp_answer_too_big.text);
		out->why = SESS_WHY_ABUSE;
		return DONE_CLOSE;
	}
	a = smtp_rule_check(rule, &phase);
	w->skip_answer = a ? a : no_recipient(w);
	w->left = w->chunk = c.chunk;
	w->last = c.last;
	w->mode = w->skip_answer ? M_SKIP : M_CHUNK;
	if (!w->skip_answer && !w->bdat) {
		body_reset(w);
		w->bdat = true;
	}
	return DONE_MODE;
}

/* ------------------------------------------------------------------ lines */

static enum done run_command(struct smtp_wire *w, span line, struct wire_out *out)
{
	_cleanup_(arena_donep) struct arena mem;
	struct smtp_phase phase = phase_of(w);
	const struct smtp_rule *rule;
	const struct smtp_answer *a;
	struct smtp_command c;
	enum done done;
	span args;
	bool waiting = out->group->n > 0;

	arena_init(&mem);
	rule = smtp_rule_find(line, &args);
	if (waiting && (!rule || !(rule->flags & SMTP_TO_CORE)))
		return DONE_FLUSH;
	if (!rule)
		return refuse(out, &smtp_answer_unknown);
	if (rule->verb == SMTP_BDAT)
		return do_bdat(w, args, out);
	a = smtp_rule_check(rule, &phase);
	if (!a)
		a = smtp_args_parse(rule, args, &phase, &mem, &c);
	if (!a && (rule->args == SMTP_ARGS_MAIL || rule->args == SMTP_ARGS_RCPT))
		a = smtp_utf8_check(&c, rule->verb == SMTP_MAIL ? c.smtputf8 : w->smtputf8);
	if (a)
		return waiting ? DONE_FLUSH : refuse(out, a);
	done = handlers[rule->verb](w, &c, line, out);
	if (done == DONE_QUEUED || done == DONE_FORWARD) {
		if (!waiting)
			group_begin(w, out);
		wire_item_put(out->group, 0, line);
	}
	return done;
}

/* A complete line that is not too long. */
static enum done run_line(struct smtp_wire *w, enum smtp_line kind, span line, struct wire_out *out)
{
	if (kind == SMTP_LINE_BAD)
		return out->group->n ? DONE_FLUSH : refuse(out, &smtp_answer_bad_line);
	if (smtp_is_foreign(line)) {
		if (out->group->n)
			return DONE_FLUSH;
		say(out, 421, "4.7.0", "This is not a web server");
		out->why = SESS_WHY_ABUSE;
		return DONE_CLOSE;
	}
	return run_command(w, line, out);
}

static bool too_much_junk(struct smtp_wire *w)
{
	return ++w->junk >= JUNK_MAX;
}

static enum wire_step feed_lines(struct smtp_wire *w, span in, size_t *ret_used,
				 struct wire_out *out)
{
	for (;;) {
		span rest = span_from(in, *ret_used), line;
		size_t used = 0;
		enum smtp_line kind = smtp_line_take(rest, smtp_line_limit(rest), &w->scanned,
						     &line, &used);
		enum done done;

		if (kind == SMTP_LINE_NONE || (kind == SMTP_LINE_LONG && out->group->n) ||
		    out->group->n > GROUP_MAX) {
			if (kind != SMTP_LINE_NONE)
				w->scanned = 0;
			return out->group->n ? WIRE_FORWARD : WIRE_MORE;
		}
		if (kind == SMTP_LINE_LONG) {
			w->mode = M_LONG;
			w->after_long = M_LINES;
			w->scanned = 0;
			w->skipped = 0;
			return STEP_AGAIN;
		}
		done = run_line(w, kind, line, out);
		if (done == DONE_FLUSH)
			return WIRE_FORWARD;
		*ret_used += used;
		if (done == DONE_QUEUED)
			continue;
		if (done == DONE_JUNK && too_much_junk(w))
			return close_with(out, &smtp_answer_abuse);
		switch (done) {
		case DONE_FORWARD:
			return WIRE_FORWARD;
		case DONE_CLOSE:
			return WIRE_CLOSE;
		case DONE_MODE:
			return STEP_AGAIN;
		default:
			return WIRE_REPLY;
		}
	}
}

static enum wire_step feed_long(struct smtp_wire *w, span in, size_t *ret_used,
				struct wire_out *out)
{
	bool end;
	size_t n = smtp_line_skip(in, &end);

	*ret_used += n;
	w->skipped += n;
	if (w->skipped > SKIP_MAX)
		return close_with(out, &smtp_answer_abuse);
	if (!end)
		return WIRE_MORE;
	w->mode = w->after_long;
	say(out, smtp_answer_long_line.code, smtp_answer_long_line.enhanced,
	    smtp_answer_long_line.text);
	if (too_much_junk(w))
		return close_with(out, &smtp_answer_abuse);
	return WIRE_REPLY;
}

/* A line of AUTH's exchange: no command, no group. */
static enum wire_step feed_raw(struct smtp_wire *w, span in, size_t *ret_used, struct wire_out *out)
{
	size_t used = 0;
	span line;

	switch (smtp_line_take(in, SMTP_AUTH_LINE_MAX, &w->scanned, &line, &used)) {
	case SMTP_LINE_NONE:
		return WIRE_MORE;
	case SMTP_LINE_LONG:
		w->mode = M_LONG;
		w->after_long = M_CANCEL;
		w->scanned = 0;
		w->skipped = 0;
		return STEP_AGAIN;
	case SMTP_LINE_GOOD:
	case SMTP_LINE_BAD: /* not base64: core says so */
		break;
	}
	*ret_used += used;
	wire_item_put(out->group, 0, line);
	return WIRE_FORWARD;
}

/* ------------------------------------------------------------------ bodies */

/* Gives what waits to core. */
static enum wire_step emit(struct smtp_wire *w, bool last, struct wire_out *out)
{
	buf_put_span(out->body, buf_span(&w->piece));
	out->body_flags = last ? SESS_BODY_LAST : 0;
	if (w->body.defects)
		out->body_flags |= SESS_BODY_BAD | (uint32_t)w->body.defects
							   << SMTP_BODY_DEFECTS_SHIFT;
	/* A slow sender must not keep the memory of its largest piece. */
	buf_done(&w->piece);
	buf_init(&w->piece, PIECE_MAX + 1);
	if (last) {
		body_reset(w);
		w->mail = w->core_mail = w->has_rcpt = w->smtputf8 = w->binary = false;
		w->mode = M_LINES;
	}
	return WIRE_BODY;
}

static enum wire_step feed_data(struct smtp_wire *w, span in, size_t *ret_used,
				struct wire_out *out)
{
	bool end;
	size_t n = smtp_body_data(&w->body, in, &w->piece, PIECE_MAX, &end);

	*ret_used += n;
	w->total += n;
	if (w->total > hopeless(w))
		return close_with(out, &smtp_answer_too_big);
	if (end)
		return emit(w, true, out);
	return w->piece.n >= PIECE_MIN ? emit(w, false, out) : WIRE_MORE;
}

static enum wire_step feed_chunk(struct smtp_wire *w, span in, size_t *ret_used,
				 struct wire_out *out)
{
	span part = span_sub(in, 0, MIN(w->left, (uint64_t)(PIECE_MAX - w->piece.n)));
	char text[64];

	smtp_body_octets(&w->body, part);
	buf_put_span(&w->piece, part);
	*ret_used += part.n;
	w->total += part.n;
	w->left -= part.n;
	if (!w->left && w->last) {
		smtp_body_end(&w->body);
		return emit(w, true, out);
	}
	if (w->piece.n >= PIECE_MIN)
		return emit(w, false, out);
	if (w->left)
		return WIRE_MORE;
	/* What core has to say about the message it says after the last chunk. */
	snprintf(text, sizeof(text), "%" PRIu64 " octets received", w->chunk);
	say(out, 250, "2.0.0", text);
	w->mode = M_LINES;
	return WIRE_REPLY;
}

static enum wire_step feed_skip(struct smtp_wire *w, span in, size_t *ret_used,
				struct wire_out *out)
{
	span part = span_sub(in, 0, MIN(w->left, (uint64_t)in.n));

	*ret_used += part.n;
	w->left -= part.n;
	if (w->left)
		return WIRE_MORE;
	w->mode = M_LINES;
	say(out, w->skip_answer->code, w->skip_answer->enhanced, w->skip_answer->text);
	if (w->skip_answer != &smtp_answer_no_rcpt && too_much_junk(w))
		return close_with(out, &smtp_answer_abuse);
	return WIRE_REPLY;
}

/* ------------------------------------------------------------------ the contract */

static enum wire_step feed_cancel(struct smtp_wire *w, span in, size_t *ret_used,
				  struct wire_out *out)
{
	/* The peer has its answer; core would wait for ever for the exchange's next line. */
	wire_item_put(out->group, SESS_ITEM_ANSWERED, SPAN("*"));
	return WIRE_FORWARD;
}

typedef enum wire_step feed_fn(struct smtp_wire *w, span in, size_t *ret_used,
			       struct wire_out *out);

/* OUT's group and body come in empty. */
static enum wire_step smtp_feed(void *state, span in, size_t *ret_used, struct wire_out *out)
{
	static feed_fn *const feeders[] = {
		[M_LINES] = feed_lines,	  [M_LONG] = feed_long, [M_DATA] = feed_data,
		[M_CHUNK] = feed_chunk,	  [M_SKIP] = feed_skip, [M_RAW] = feed_raw,
		[M_CANCEL] = feed_cancel,
	};
	struct smtp_wire *w = state;
	enum wire_step step;
	size_t total = 0;

	do {
		size_t used = 0;

		step = feeders[w->mode](w, span_from(in, total), &used, out);
		total += used;
	} while (step == STEP_AGAIN);
	*ret_used = total;
	return step;
}

/* How the message goes on is front's business alone, whatever core says: framing must never slip.
 */
static void smtp_park(void *state, const struct wire_park *p)
{
	struct smtp_wire *w = state;

	w->core_mail = p->flags & SMTP_PARK_HAS_SENDER;
	w->has_rcpt = p->flags & SMTP_PARK_HAS_RCPT;
	w->authenticated = p->flags & SMTP_PARK_AUTHENTICATED;
	w->mail = w->core_mail || w->mail_line.n;
	if (p->flags & SMTP_PARK_GREETED) /* XCLIENT: it is as if the client had come just now */
		w->helo = w->esmtp = false;
	if (p->mode == SESS_MODE_RAW)
		w->mode = M_RAW;
	else if (w->mode == M_RAW || w->mode == M_CANCEL)
		w->mode = M_LINES;
}

static void start(struct smtp_wire *w, const struct wire_env *env)
{
	*w = (struct smtp_wire){ .env = *env, .authenticated = env->proto == SESS_PROTO_LOCAL };
	buf_init(&w->helo_line, SMTP_LINE_MAX);
	buf_init(&w->mail_line, SMTP_LINE_MAX);
	body_reset(w);
}

static void smtp_done(void *state)
{
	struct smtp_wire *w = state;

	buf_done(&w->helo_line);
	buf_done(&w->mail_line);
	buf_done(&w->piece);
}

static void smtp_open(void *state, const struct wire_env *env, struct buf *reply)
{
	start(state, env);
	/* "ESMTP" in the greeting is what some clients look for; no enhanced code (RFC 2034 section
	 * 4). */
	buf_printf(reply, "220 %.*s %s Postrider\r\n", SPAN_FMT(env->hostname),
		   env->proto == SESS_PROTO_LMTP ? "LMTP" : "ESMTP");
}

static void smtp_tls(void *state, const struct wire_env *env)
{
	smtp_done(state);
	start(state, env);
}

static void smtp_farewell(void *state, enum sess_why why, struct buf *reply)
{
	static const struct {
		unsigned code;
		const char *enhanced, *text;
	} words[SESS_WHY_COUNT] = {
		[SESS_WHY_TIMEOUT] = { 421, "4.4.2", "Idle for too long" },
		[SESS_WHY_CORE] = { 421, "4.3.2", "Service not available now" },
		[SESS_WHY_SHUTDOWN] = { 421, "4.3.2", "Service is shutting down" },
		[SESS_WHY_ABUSE] = { 421, "4.7.0", "Too many errors" },
		[SESS_WHY_LOAD] = { 421, "4.3.2", "Too busy now, try again later" },
		[SESS_WHY_RATE] = { 421, "4.7.0", "Too many connections from your network" },
		[SESS_WHY_BANNED] = { 421, "4.7.0", "Your network is banned for now" },
		[SESS_WHY_EARLY] = { 554, "5.5.1", "You spoke before the greeting" },
		[SESS_WHY_PROXY] = { 554, "5.5.1", "No PROXY header is expected from you" },
	};
	const struct smtp_wire *w = state;

	if (words[why].code)
		buf_printf(reply, "%u %s %.*s %s\r\n", words[why].code, words[why].enhanced,
			   SPAN_FMT(w->env.hostname), words[why].text);
}

/* A body moves or it ends (RFC 5321 4.5.3.2.4 and .5, seen from the other side). */
static unsigned smtp_phase_seconds(const void *state)
{
	enum { DATA_INITIATION = 120, DATA_BLOCK = 180 };
	const struct smtp_wire *w = state;

	if (w->mode != M_DATA && w->mode != M_CHUNK)
		return 0;
	return w->total ? DATA_BLOCK : DATA_INITIATION;
}

static size_t smtp_held(const void *state)
{
	const struct smtp_wire *w = state;

	return w->piece.cap;
}

#define WIRE_OPS(protocol, word)                                                                   \
	{                                                                                          \
		.proto = (protocol), .name = (word), .size = sizeof(struct smtp_wire),             \
		.input_limit = PIECE_MAX, .idle_seconds = 300, .preauth_seconds = 60,              \
		.open = smtp_open, .feed = smtp_feed, .park = smtp_park, .tls = smtp_tls,          \
		.farewell = smtp_farewell, .done = smtp_done, .phase_seconds = smtp_phase_seconds, \
		.held = smtp_held,                                                                 \
	}

const struct wire_ops smtp_wire_ops = WIRE_OPS(SESS_PROTO_SMTP, "smtp");
const struct wire_ops submission_wire_ops = WIRE_OPS(SESS_PROTO_SUBMISSION, "submission");
const struct wire_ops lmtp_wire_ops = WIRE_OPS(SESS_PROTO_LMTP, "lmtp");
const struct wire_ops local_wire_ops = WIRE_OPS(SESS_PROTO_LOCAL, "local");

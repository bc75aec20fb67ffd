#include "relay/client_int.h"

#include <assert.h>
#include <stdlib.h>

enum {
	REPLY_LINES_MAX = 100,
	REPLY_BYTES_MAX = 16 * 1024,
	OUT_MAX = 1024 * 1024,
	CHUNK = 256 * 1024,
	CHUNK_MAX = CHUNK +
		    2 * 64 * 1024, /* and the piece that filled it, if each octet was a bare LF */
	ADDRESS_MAX = 1000,	   /* longer paths cannot be said in one command line */
};

struct relay_client *relay_client_new(const struct relay_open *o)
{
	struct relay_client *c = xcalloc(1, sizeof *c);

	arena_init(&c->mem);
	arena_init(&c->tx);
	c->helo = arena_span(&c->mem, o->helo);
	c->tls = o->tls;
	c->lmtp = o->lmtp;
	c->auth.user = arena_span(&c->mem, o->user);
	c->auth.password = arena_span(&c->mem, o->password);
	c->auth.clear_ok = sock_is_loopback(&o->to);
	buf_init(&c->chunk, CHUNK_MAX);
	buf_init(&c->in, REPLY_BYTES_MAX);
	buf_init(&c->out, OUT_MAX);
	c->phase = o->implicit_tls ? PHASE_HANDSHAKE : PHASE_GREETING;
	return c;
}

void relay_client_free(struct relay_client *c)
{
	if (!c)
		return;
	client_auth_done(&c->auth);
	buf_done(&c->in);
	buf_done(&c->out);
	buf_done(&c->chunk);
	arena_done(&c->tx);
	arena_done(&c->mem);
	free(c);
}

/* --- ends --- */

void client_die(struct relay_client *c, enum relay_fail fail, span why)
{
	if (c->phase == PHASE_DEAD)
		return;
	if (!c->open_done) {
		c->open_done = true;
		c->opened.fail = fail;
		c->opened.why = arena_span(&c->mem, why);
	} else {
		c->sent.fail = fail;
		c->sent.why = arena_span(&c->tx, why);
	}
	c->phase = PHASE_DEAD;
	c->progress++;
	buf_done(&c->in);
	buf_done(&c->out);
}

void client_park(struct relay_client *c)
{
	c->phase = PHASE_PARKED;
	c->open_done = true;
}

/* --- opening --- */

/* EHLO was answered: is a handshake needed before the connection is open? */
static void after_ehlo(struct relay_client *c)
{
	bool offered = c->opened.extensions & RELAY_EXT_STARTTLS;

	if (c->opened.tls || c->tls == RELAY_TLS_NONE || (!offered && c->tls == RELAY_TLS_MAY)) {
		client_auth_start(c);
	} else if (!offered) {
		client_die(c, RELAY_FAIL_NO_TLS, SPAN("the peer does not offer STARTTLS"));
	} else {
		buf_put_str(&c->out, "STARTTLS\r\n");
		c->phase = PHASE_STARTTLS;
	}
}

static struct smtp_reply keep_reply(struct arena *mem, const struct smtp_reply *r)
{
	struct smtp_reply kept = *r;

	kept.text = arena_span(mem, span_sub(r->text, 0, RELAY_REPLY_TEXT_MAX));
	return kept;
}

void client_refuse_open(struct relay_client *c, enum relay_fail fail, const char *why,
			const struct smtp_reply *reply)
{
	c->opened.reply = keep_reply(&c->mem, reply);
	client_die(c, fail, span_str(why));
}

static void open_reply(struct relay_client *c, const struct smtp_reply *r)
{
	switch (c->phase) {
	case PHASE_GREETING:
		if (r->code != 220) {
			client_refuse_open(c, RELAY_FAIL_GREETING,
					   "the peer does not greet with 220", r);
			return;
		}
		client_put_hello(c, c->lmtp ? "LHLO" : "EHLO");
		c->phase = PHASE_EHLO;
		return;
	case PHASE_EHLO:
		if (r->code / 100 == 2) {
			client_ehlo_parse(c, r->text);
			after_ehlo(c);
		} else if (r->code / 100 == 5 && !c->lmtp) {
			client_put_hello(
				c, "HELO"); /* RFC 5321 3.2: a peer that is older than ESMTP */
			c->phase = PHASE_HELO;
		} else {
			client_refuse_open(c, RELAY_FAIL_EHLO, "the peer refuses our name", r);
		}
		return;
	case PHASE_HELO:
		if (r->code / 100 != 2) {
			client_refuse_open(c, RELAY_FAIL_EHLO, "the peer refuses our name", r);
			return;
		}
		c->opened.extensions = 0;
		after_ehlo(c);
		return;
	case PHASE_AUTH:
		client_auth_reply(c, r);
		return;
	default: /* PHASE_STARTTLS */
		if (r->code == 220) {
			/* What follows in clear could be anybody's (response injection). */
			buf_reset(&c->in);
			c->phase = PHASE_HANDSHAKE;
		} else if (c->tls == RELAY_TLS_MAY) {
			client_auth_start(c);
		} else {
			client_refuse_open(c, RELAY_FAIL_TLS, "the peer refuses STARTTLS", r);
		}
	}
}

void relay_client_tls(struct relay_client *c, bool verified, span tls_text)
{
	bool fresh = c->opened.extensions == 0; /* implicit TLS: the greeting is still to come */

	if (c->phase != PHASE_HANDSHAKE)
		return;
	c->opened.tls = true;
	c->opened.tls_verified = verified;
	c->opened.tls_text = arena_span(&c->mem, tls_text);
	c->opened.extensions = 0;
	c->progress++;
	buf_reset(&c->in);
	if (fresh) {
		c->phase = PHASE_GREETING;
		return;
	}
	client_put_hello(c, c->lmtp ? "LHLO" : "EHLO");
	c->phase = PHASE_EHLO;
}

/* --- a transaction --- */

/* Can TEXT stand between "<" and ">" of a command?  It was checked when it was accepted; this is
 * the last place that keeps a stray CR or LF from becoming a command. */
static bool sendable(span text)
{
	if (text.n > ADDRESS_MAX)
		return false;
	for (size_t i = 0; i < text.n; i++)
		if ((unsigned char)text.p[i] < ' ' || text.p[i] == 0x7f)
			return false;
	return true;
}

static struct smtp_reply own_reply(const char *enhanced, span text)
{
	struct smtp_reply r = { .code = 553, .text = text, .lines = 1 };

	memcpy(r.enhanced, enhanced, MIN(strlen(enhanced), sizeof r.enhanced - 1));
	return r;
}

/* The first recipient from I on that the peer is told of. */
static size_t next_rcpt(const struct relay_client *c, size_t i)
{
	while (i < c->send.n_rcpts && !sendable(c->send.rcpts[i].address))
		i++;
	return i;
}

static bool rcpt_accepted(const struct relay_client *c, size_t i)
{
	return c->sent.rcpts[i].code / 100 == 2;
}

size_t client_next_accepted(const struct relay_client *c, size_t i)
{
	while (i < c->send.n_rcpts && !rcpt_accepted(c, i))
		i++;
	return i;
}

/* To PHASE, whose command is said now unless it has been. */
static void enter(struct relay_client *c, enum phase phase)
{
	c->phase = phase;
	if (c->pipelined)
		return;
	if (phase == PHASE_MAIL)
		client_put_mail(c);
	else if (phase == PHASE_RCPT)
		client_put_rcpt(c, c->rcpt);
	else if (phase == PHASE_DATA)
		buf_put_str(&c->out, "DATA\r\n");
}

static void say_group(struct relay_client *c)
{
	client_put_mail(c);
	for (size_t i = next_rcpt(c, 0); i < c->send.n_rcpts; i = next_rcpt(c, i + 1))
		client_put_rcpt(c, i);
	if (!c->chunked)
		buf_put_str(&c->out, "DATA\r\n");
}

static void copy_send(struct relay_client *c, const struct relay_send *s)
{
	size_t n = MIN(s->n_rcpts, RELAY_RCPTS_MAX);

	arena_reset(&c->tx);
	c->send = *s;
	c->send.body = SPAN_NULL;
	c->send.sender = arena_span(&c->tx, s->sender);
	c->send.envid = arena_span(&c->tx, s->envid);
	c->send.n_rcpts = n;
	c->send.rcpts = arena_array(&c->tx, struct relay_rcpt, n);
	c->sent = (struct relay_sent){ .n_rcpts = n,
				       .rcpts = arena_array(&c->tx, struct smtp_reply, n) };
	if (c->lmtp)
		c->sent.rcpt_final = arena_array(&c->tx, struct smtp_reply, n);
	for (size_t i = 0; i < n; i++) {
		c->send.rcpts[i] = s->rcpts[i];
		c->send.rcpts[i].address = arena_span(&c->tx, s->rcpts[i].address);
		c->send.rcpts[i].original = arena_span(&c->tx, s->rcpts[i].original);
		if (!sendable(s->rcpts[i].address))
			c->sent.rcpts[i] = own_reply("5.1.3",
						     SPAN("this address cannot be said in SMTP"));
	}
}

void relay_client_send(struct relay_client *c, const struct relay_send *s)
{
	assert(c->phase == PHASE_PARKED);
	copy_send(c, s);
	c->progress++;
	c->accepted = 0;
	c->body_at = LINE_START;
	c->rcpt = next_rcpt(c, 0);
	c->pipelined = c->opened.extensions & RELAY_EXT_PIPELINING;
	c->chunked = s->chunking && (c->opened.extensions & RELAY_EXT_CHUNKING);
	buf_reset(&c->chunk);
	if (!sendable(s->sender))
		c->sent.mail = own_reply("5.1.7", SPAN("this sender cannot be said in SMTP"));
	if (!sendable(s->sender) || c->rcpt == c->send.n_rcpts)
		return; /* decided without a word: still parked */
	if (c->need_rset)
		buf_put_str(&c->out, "RSET\r\n");
	if (c->pipelined)
		say_group(c);
	if (c->need_rset)
		c->phase = PHASE_RSET;
	else
		enter(c, PHASE_MAIL);
}

static void after_rcpts(struct relay_client *c)
{
	bool somebody = c->accepted > 0 && c->sent.mail.code / 100 == 2;

	if (somebody && c->chunked) {
		c->sent.data = (struct smtp_reply){ .code = 354, .lines = 1 };
		c->phase = PHASE_BODY;
	} else if (somebody || (c->pipelined && !c->chunked)) { /* else DATA is out already */
		enter(c, PHASE_DATA);
	} else {
		c->need_rset = true;
		client_park(c);
	}
}

static void data_reply(struct relay_client *c, const struct smtp_reply *r)
{
	c->sent.data = keep_reply(&c->tx, r);
	if (r->code == 354 && c->accepted > 0 && c->sent.mail.code / 100 == 2) {
		c->phase = PHASE_BODY;
	} else if (r->code == 354 && c->lmtp) {
		client_die(c, RELAY_FAIL_PROTOCOL,
			   SPAN("the peer wants a message although it took no recipient"));
	} else if (r->code == 354) {
		buf_put_str(&c->out, ".\r\n"); /* RFC 2920 3.1 */
		c->phase = PHASE_VOID;
	} else if (r->code < 400) {
		client_die(c, RELAY_FAIL_PROTOCOL,
			   SPAN("DATA was answered with neither 354 nor a refusal"));
	} else {
		c->need_rset = true;
		client_park(c);
	}
}

/* Every recipient that was accepted and has no answer yet gets R (LMTP), or the message does. */
static void answer_all(struct relay_client *c, const struct smtp_reply *r)
{
	struct smtp_reply kept = keep_reply(&c->tx, r);

	if (!c->lmtp)
		c->sent.final = kept;
	for (size_t i = client_next_accepted(c, 0); c->lmtp && i < c->send.n_rcpts;
	     i = client_next_accepted(c, i + 1))
		if (c->sent.rcpt_final[i].code == 0)
			c->sent.rcpt_final[i] = kept;
}

/* The peer speaks while the message, or its end, is still with us.  A refusal counts; what it
 * cannot have taken yet it cannot accept. */
static void early_reply(struct relay_client *c, const struct smtp_reply *r)
{
	if (r->code < 400) {
		client_die(c, RELAY_FAIL_PROTOCOL,
			   SPAN("the peer answers before it has the whole message"));
		return;
	}
	answer_all(c, r);
	client_die(c, RELAY_FAIL_CLOSED, SPAN("the peer refuses the message before its end"));
}

static void chunk_reply(struct relay_client *c, const struct smtp_reply *r)
{
	if (r->code / 100 == 2) {
		c->phase = PHASE_BODY;
		return;
	}
	answer_all(c, r);
	c->need_rset = true;
	client_park(c);
}

static void final_reply(struct relay_client *c, const struct smtp_reply *r)
{
	if (!c->lmtp) {
		c->sent.final = keep_reply(&c->tx, r);
		c->need_rset = c->chunked && r->code / 100 != 2; /* RFC 3030 section 2 */
		client_park(c);
		return;
	}
	c->sent.rcpt_final[c->rcpt] = keep_reply(&c->tx,
						 r); /* RFC 2033 4.2: one for each it took */
	c->rcpt = client_next_accepted(c, c->rcpt + 1);
	if (c->rcpt == c->send.n_rcpts)
		client_park(c);
}

static void send_reply(struct relay_client *c, const struct smtp_reply *r)
{
	switch (c->phase) {
	case PHASE_RSET:
		if (r->code / 100 != 2) {
			client_die(c, RELAY_FAIL_PROTOCOL, SPAN("RSET was refused"));
			return;
		}
		c->need_rset = false;
		enter(c, PHASE_MAIL);
		return;
	case PHASE_MAIL:
		c->sent.mail = keep_reply(&c->tx, r);
		if (r->code / 100 != 2 && !c->pipelined)
			client_park(c);
		else
			enter(c, PHASE_RCPT);
		return;
	case PHASE_RCPT:
		c->sent.rcpts[c->rcpt] = keep_reply(&c->tx, r);
		c->accepted += r->code / 100 == 2;
		c->rcpt = next_rcpt(c, c->rcpt + 1);
		if (c->rcpt == c->send.n_rcpts)
			after_rcpts(c);
		else
			enter(c, PHASE_RCPT);
		return;
	case PHASE_DATA:
		data_reply(c, r);
		return;
	case PHASE_BODY:
		early_reply(c, r);
		return;
	case PHASE_CHUNK:
	case PHASE_FINAL:
		if (c->out.n > 0)
			early_reply(c, r);
		else if (c->phase == PHASE_CHUNK)
			chunk_reply(c, r);
		else
			final_reply(c, r);
		return;
	default: /* PHASE_VOID */
		c->need_rset = true;
		client_park(c);
	}
}

/* --- body --- */

/* Adds PIECE to B with line ends as CRLF; with DOTS, leading dots are doubled. */
static void put_lines(struct relay_client *c, struct buf *b, span piece, bool dots)
{
	while (piece.n > 0) {
		size_t plain = 0;
		char ch = piece.p[0];

		if (c->body_at == AFTER_CR) { /* the CR was held back */
			buf_put_str(b, "\r\n");
			c->body_at = LINE_START;
			if (ch == '\n') {
				piece = span_from(piece, 1);
				continue;
			}
		}
		if (ch == '\r') {
			c->body_at = AFTER_CR;
			piece = span_from(piece, 1);
			continue;
		}
		if (ch == '\n') {
			buf_put_str(b, "\r\n");
			c->body_at = LINE_START;
			piece = span_from(piece, 1);
			continue;
		}
		if (dots && ch == '.' && c->body_at == LINE_START)
			buf_put_char(b, '.');
		while (plain < piece.n && piece.p[plain] != '\r' && piece.p[plain] != '\n')
			plain++;
		buf_put(b, piece.p, plain);
		c->body_at = IN_LINE;
		piece = span_from(piece, plain);
	}
}

/* Says what was gathered as one chunk (RFC 3030 section 2). */
static void say_chunk(struct relay_client *c, bool last)
{
	buf_printf(&c->out, "BDAT %zu%s\r\n", c->chunk.n, last ? " LAST" : "");
	buf_put_span(&c->out, buf_span(&c->chunk));
	buf_reset(&c->chunk);
	c->phase = last ? PHASE_FINAL : PHASE_CHUNK;
}

void relay_client_body(struct relay_client *c, span piece)
{
	if (c->phase != PHASE_BODY)
		return;
	c->progress++;
	put_lines(c, c->chunked ? &c->chunk : &c->out, piece, !c->chunked);
	if (c->chunk.n >= CHUNK)
		say_chunk(c, false);
}

void relay_client_body_end(struct relay_client *c)
{
	struct buf *b = c->chunked ? &c->chunk : &c->out;

	if (c->phase != PHASE_BODY)
		return;
	if (c->body_at != LINE_START)
		buf_put_str(b, "\r\n");
	c->progress++;
	c->rcpt = client_next_accepted(c, 0);
	if (c->chunked) {
		say_chunk(c, true);
		return;
	}
	buf_put_str(b, ".\r\n");
	c->phase = PHASE_FINAL;
}

/* --- input --- */

static void take_reply(struct relay_client *c, const struct smtp_reply *r)
{
	c->progress++;
	if (c->phase == PHASE_QUIT) {
		client_die(c, RELAY_FAIL_CLOSED, SPAN("the peer said good-bye"));
		return;
	}
	if (!c->open_done)
		open_reply(c, r);
	else
		send_reply(c, r);
	if (r->code == 421) /* RFC 5321 3.8: it closes, whatever else was asked */
		client_die(c, RELAY_FAIL_CLOSED, SPAN("the peer closes the connection (421)"));
}

static bool awaits_reply(const struct relay_client *c)
{
	return c->phase != PHASE_HANDSHAKE && c->phase != PHASE_PARKED && c->phase != PHASE_DEAD;
}

/* One reply from the front of IN: 1, 0 (needs more), or an error. */
static int cut_reply(struct relay_client *c, struct buf *text, struct smtp_reply *r)
{
	size_t used;
	int got = smtp_reply_parse(buf_span(&c->in), REPLY_LINES_MAX, REPLY_BYTES_MAX, text, r,
				   &used);

	if (got > 0)
		buf_consume(&c->in, used);
	return got;
}

static void read_replies(struct relay_client *c)
{
	while (awaits_reply(c) && c->in.n > 0) {
		struct buf text _cleanup_(buf_donep) = BUF_INIT(REPLY_BYTES_MAX);
		struct smtp_reply r;
		int got = cut_reply(c, &text, &r);

		if (got < 0)
			client_die(c, RELAY_FAIL_PROTOCOL,
				   got == ERR_TOOBIG ? SPAN("a reply of the peer is endless")
						     : SPAN("a reply of the peer cannot be read"));
		if (got <= 0)
			return;
		take_reply(c, &r);
	}
	if (c->phase == PHASE_PARKED && c->in.n > 0)
		client_die(c, RELAY_FAIL_CLOSED, SPAN("the peer speaks unasked"));
}

void relay_client_feed(struct relay_client *c, span in)
{
	while (in.n > 0 && c->phase != PHASE_DEAD) {
		size_t room = REPLY_BYTES_MAX - c->in.n, n = MIN(in.n, room);

		if (c->phase == PHASE_HANDSHAKE)
			return; /* clear bytes behind the 220 */
		if (n == 0) {
			client_die(c, RELAY_FAIL_PROTOCOL,
				   SPAN("the peer speaks too much out of turn"));
			return;
		}
		buf_put(&c->in, in.p, n);
		/* Without a line end nothing new can be read, and a reply that comes byte by
		 * byte must not cost a parse per byte. */
		if (memchr(in.p, '\n', n) || c->in.n == REPLY_BYTES_MAX || c->phase == PHASE_PARKED)
			read_replies(c);
		in = span_from(in, n);
	}
}

void relay_client_fail(struct relay_client *c, enum relay_fail fail, span why)
{
	client_die(c, fail, why);
}

/* --- what the caller asks --- */

void relay_client_quit(struct relay_client *c)
{
	if (c->phase != PHASE_PARKED) {
		client_die(c, RELAY_FAIL_CLOSED, SPAN("closed by us"));
		return;
	}
	buf_put_str(&c->out, "QUIT\r\n");
	c->progress++;
	c->phase = PHASE_QUIT;
}

enum relay_client_state relay_client_state(const struct relay_client *c)
{
	switch (c->phase) {
	case PHASE_HANDSHAKE:
		return RELAY_CLIENT_STARTTLS;
	case PHASE_PARKED:
		return RELAY_CLIENT_PARKED;
	case PHASE_BODY:
		return RELAY_CLIENT_BODY;
	case PHASE_DEAD:
		return RELAY_CLIENT_DEAD;
	default:
		return RELAY_CLIENT_TALKS;
	}
}

unsigned relay_client_patience(const struct relay_client *c)
{
	switch (c->phase) {
	case PHASE_GREETING:
	case PHASE_EHLO:
	case PHASE_HELO:
	case PHASE_STARTTLS:
		return 60;
	case PHASE_HANDSHAKE:
		return 30;
	case PHASE_DATA:
		return 120;
	case PHASE_BODY:
		return 180;
	case PHASE_CHUNK:
	case PHASE_FINAL:
	case PHASE_VOID:
		return 600;
	case PHASE_QUIT:
		return 5;
	default:
		return 300;
	}
}

uint64_t relay_client_progress(const struct relay_client *c)
{
	return c->progress;
}

struct buf *relay_client_out(struct relay_client *c)
{
	return &c->out;
}

const struct relay_opened *relay_client_opened(const struct relay_client *c)
{
	return &c->opened;
}

const struct relay_sent *relay_client_sent(const struct relay_client *c)
{
	return &c->sent;
}

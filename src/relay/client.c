#include "relay/client.h"

#include <assert.h>
#include <stdlib.h>

#include "format/dsn.h"

enum {
	REPLY_LINES_MAX = 100,
	REPLY_BYTES_MAX = 16 * 1024,
	OUT_MAX = 1024 * 1024,
	ADDRESS_MAX = 1000, /* longer paths cannot be said in one command line */
	ENVID_MAX = 100,    /* RFC 3461 4.4, before xtext */
	ORCPT_MAX = 500,    /* RFC 3461 4.2 */
};

enum phase {
	PHASE_GREETING,
	PHASE_EHLO,
	PHASE_HELO,
	PHASE_STARTTLS,
	PHASE_HANDSHAKE,
	PHASE_PARKED,
	PHASE_RSET,
	PHASE_MAIL,
	PHASE_RCPT,
	PHASE_DATA,
	PHASE_BODY,
	PHASE_FINAL,
	PHASE_VOID, /* the answer to a lone dot: 354 was said although nobody was accepted */
	PHASE_QUIT,
	PHASE_DEAD,
};

struct relay_client {
	struct arena mem; /* the connection's */
	struct arena tx;  /* the transaction's */
	span helo;
	enum relay_tls tls;
	bool lmtp;
	enum phase phase;
	bool open_done;
	struct buf in, out;
	uint64_t progress;
	struct relay_opened opened;
	/* the transaction */
	struct relay_send send;
	struct relay_sent sent;
	bool pipelined, need_rset;
	size_t rcpt; /* whose reply is awaited */
	size_t accepted;
	enum { LINE_START, IN_LINE, AFTER_CR } body_at;
};

struct relay_client *relay_client_new(const struct relay_open *o)
{
	struct relay_client *c = xcalloc(1, sizeof *c);

	arena_init(&c->mem);
	arena_init(&c->tx);
	c->helo = arena_span(&c->mem, o->helo);
	c->tls = o->tls;
	c->lmtp = o->lmtp;
	buf_init(&c->in, REPLY_BYTES_MAX);
	buf_init(&c->out, OUT_MAX);
	c->phase = o->implicit_tls ? PHASE_HANDSHAKE : PHASE_GREETING;
	return c;
}

void relay_client_free(struct relay_client *c)
{
	if (!c)
		return;
	buf_done(&c->in);
	buf_done(&c->out);
	arena_done(&c->tx);
	arena_done(&c->mem);
	free(c);
}

/* --- commands --- */

static void put_orcpt(struct relay_client *c, span original)
{
	bool utf8 = c->send.smtputf8 && (c->opened.extensions & RELAY_EXT_SMTPUTF8);

	if (original.n == 0 || original.n > ORCPT_MAX)
		return;
	buf_put_str(&c->out, " ORCPT=");
	orcpt_encode(&c->out, original, utf8);
}

static void put_notify(struct buf *b, unsigned notify)
{
	static const struct {
		unsigned bit;
		const char *text;
	} names[] = {
		{ RELAY_NOTIFY_SUCCESS, "SUCCESS" },
		{ RELAY_NOTIFY_FAILURE, "FAILURE" },
		{ RELAY_NOTIFY_DELAY, "DELAY" },
	};
	const char *before = " NOTIFY=";

	if (notify & RELAY_NOTIFY_NEVER) {
		buf_put_str(b, " NOTIFY=NEVER");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!(notify & names[i].bit))
			continue;
		buf_put_str(b, before);
		buf_put_str(b, names[i].text);
		before = ",";
	}
}

static void put_mail(struct relay_client *c)
{
	unsigned ext = c->opened.extensions;
	struct buf *b = &c->out;

	buf_put_str(b, "MAIL FROM:<");
	buf_put_span(b, c->send.sender);
	buf_put_char(b, '>');
	if (ext & RELAY_EXT_SIZE)
		buf_printf(b, " SIZE=%llu", (unsigned long long)c->send.size);
	if ((ext & RELAY_EXT_8BITMIME) && c->send.body_8bit)
		buf_put_str(b, " BODY=8BITMIME");
	if ((ext & RELAY_EXT_SMTPUTF8) && c->send.smtputf8)
		buf_put_str(b, " SMTPUTF8");
	if (ext & RELAY_EXT_DSN) {
		if (c->send.ret_full || c->send.ret_hdrs)
			buf_put_str(b, c->send.ret_full ? " RET=FULL" : " RET=HDRS");
		if (c->send.envid.n > 0 && c->send.envid.n <= ENVID_MAX) {
			buf_put_str(b, " ENVID=");
			xtext_encode(b, c->send.envid);
		}
	}
	buf_put_str(b, "\r\n");
}

static void put_rcpt(struct relay_client *c, size_t i)
{
	const struct relay_rcpt *r = &c->send.rcpts[i];
	struct buf *b = &c->out;

	buf_put_str(b, "RCPT TO:<");
	buf_put_span(b, r->address);
	buf_put_char(b, '>');
	if (c->opened.extensions & RELAY_EXT_DSN) {
		put_notify(b, r->notify);
		put_orcpt(c, r->original);
	}
	buf_put_str(b, "\r\n");
}

static void put_hello(struct relay_client *c, const char *verb)
{
	buf_put_str(&c->out, verb);
	buf_put_char(&c->out, ' ');
	buf_put_span(&c->out, c->helo);
	buf_put_str(&c->out, "\r\n");
}

/* --- ends --- */

static void die(struct relay_client *c, enum relay_fail fail, span why)
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

static void park(struct relay_client *c)
{
	c->phase = PHASE_PARKED;
	c->open_done = true;
}

/* --- opening --- */

static void ehlo_keyword(struct relay_client *c, span line)
{
	static const struct {
		const char *name;
		unsigned bit;
	} known[] = {
		{ "PIPELINING", RELAY_EXT_PIPELINING },
		{ "SIZE", RELAY_EXT_SIZE },
		{ "8BITMIME", RELAY_EXT_8BITMIME },
		{ "SMTPUTF8", RELAY_EXT_SMTPUTF8 },
		{ "CHUNKING", RELAY_EXT_CHUNKING },
		{ "DSN", RELAY_EXT_DSN },
		{ "STARTTLS", RELAY_EXT_STARTTLS },
		{ "ENHANCEDSTATUSCODES", RELAY_EXT_ENHANCED },
	};
	span keyword = span_cut(&line, ' ');

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (span_ieq_str(keyword, known[i].name))
			c->opened.extensions |= known[i].bit;
	if (span_ieq_str(keyword, "SIZE"))
		span_u64(span_trim(line), UINT64_MAX, &c->opened.max_size);
}

static void ehlo_parse(struct relay_client *c, span text)
{
	span first = span_cut(&text, '\n');

	c->opened.extensions = 0;
	c->opened.max_size = 0;
	c->opened.banner_host = arena_span(&c->mem, span_sub(span_cut(&first, ' '), 0, 255));
	while (text.p)
		ehlo_keyword(c, span_trim(span_cut(&text, '\n')));
}

/* EHLO was answered: is a handshake needed before the connection is open? */
static void after_ehlo(struct relay_client *c)
{
	bool offered = c->opened.extensions & RELAY_EXT_STARTTLS;

	if (c->opened.tls || c->tls == RELAY_TLS_NONE || (!offered && c->tls == RELAY_TLS_MAY)) {
		park(c);
	} else if (!offered) {
		die(c, RELAY_FAIL_NO_TLS, SPAN("the peer does not offer STARTTLS"));
	} else {
		buf_put_str(&c->out, "STARTTLS\r\n");
		c->phase = PHASE_STARTTLS;
	}
}

static void refuse_open(struct relay_client *c, enum relay_fail fail, const char *why,
			const struct smtp_reply *r)
{
	c->opened.reply = *r;
	die(c, fail, span_str(why));
}

static struct smtp_reply keep_reply(struct arena *mem, const struct smtp_reply *r)
{
	struct smtp_reply kept = *r;

	kept.text = arena_span(mem, span_sub(r->text, 0, RELAY_REPLY_TEXT_MAX));
	return kept;
}

static void open_reply(struct relay_client *c, const struct smtp_reply *r)
{
	struct smtp_reply kept = keep_reply(&c->mem, r);

	switch (c->phase) {
	case PHASE_GREETING:
		if (r->code != 220) {
			refuse_open(c, RELAY_FAIL_GREETING, "the peer does not greet with 220",
				    &kept);
			return;
		}
		put_hello(c, c->lmtp ? "LHLO" : "EHLO");
		c->phase = PHASE_EHLO;
		return;
	case PHASE_EHLO:
		if (r->code / 100 == 2) {
			ehlo_parse(c, r->text);
			after_ehlo(c);
		} else if (r->code / 100 == 5 && !c->lmtp) {
			put_hello(c, "HELO"); /* RFC 5321 3.2: a peer that is older than ESMTP */
			c->phase = PHASE_HELO;
		} else {
			refuse_open(c, RELAY_FAIL_EHLO, "the peer refuses our name", &kept);
		}
		return;
	case PHASE_HELO:
		if (r->code / 100 != 2) {
			refuse_open(c, RELAY_FAIL_EHLO, "the peer refuses our name", &kept);
			return;
		}
		c->opened.extensions = 0;
		after_ehlo(c);
		return;
	default: /* PHASE_STARTTLS */
		if (r->code == 220) {
			/* What follows in clear could be anybody's (response injection). */
			buf_reset(&c->in);
			c->phase = PHASE_HANDSHAKE;
		} else if (c->tls == RELAY_TLS_MAY) {
			park(c);
		} else {
			refuse_open(c, RELAY_FAIL_TLS, "the peer refuses STARTTLS", &kept);
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
	put_hello(c, c->lmtp ? "LHLO" : "EHLO");
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

static size_t next_accepted(const struct relay_client *c, size_t i)
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
		put_mail(c);
	else if (phase == PHASE_RCPT)
		put_rcpt(c, c->rcpt);
	else if (phase == PHASE_DATA)
		buf_put_str(&c->out, "DATA\r\n");
}

static void say_group(struct relay_client *c)
{
	put_mail(c);
	for (size_t i = next_rcpt(c, 0); i < c->send.n_rcpts; i = next_rcpt(c, i + 1))
		put_rcpt(c, i);
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
	if (c->accepted == 0 && !c->pipelined) {
		c->need_rset = true;
		park(c);
	} else {
		enter(c, PHASE_DATA);
	}
}

static void data_reply(struct relay_client *c, const struct smtp_reply *r)
{
	c->sent.data = keep_reply(&c->tx, r);
	if (r->code == 354 && c->accepted > 0 && c->sent.mail.code / 100 == 2) {
		c->phase = PHASE_BODY;
	} else if (r->code == 354 && c->lmtp) {
		die(c, RELAY_FAIL_PROTOCOL,
		    SPAN("the peer wants a message although it took no recipient"));
	} else if (r->code == 354) {
		buf_put_str(&c->out, ".\r\n"); /* RFC 2920 3.1 */
		c->phase = PHASE_VOID;
	} else if (r->code < 400) {
		die(c, RELAY_FAIL_PROTOCOL,
		    SPAN("DATA was answered with neither 354 nor a refusal"));
	} else {
		c->need_rset = true;
		park(c);
	}
}

static void final_reply(struct relay_client *c, const struct smtp_reply *r)
{
	if (!c->lmtp) {
		c->sent.final = keep_reply(&c->tx, r);
		park(c);
		return;
	}
	c->sent.rcpt_final[c->rcpt] = keep_reply(&c->tx,
						 r); /* RFC 2033 4.2: one for each it took */
	c->rcpt = next_accepted(c, c->rcpt + 1);
	if (c->rcpt == c->send.n_rcpts)
		park(c);
}

static void send_reply(struct relay_client *c, const struct smtp_reply *r)
{
	switch (c->phase) {
	case PHASE_RSET:
		if (r->code / 100 != 2) {
			die(c, RELAY_FAIL_PROTOCOL, SPAN("RSET was refused"));
			return;
		}
		c->need_rset = false;
		enter(c, PHASE_MAIL);
		return;
	case PHASE_MAIL:
		c->sent.mail = keep_reply(&c->tx, r);
		if (r->code / 100 != 2 && !c->pipelined)
			park(c);
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
	case PHASE_FINAL:
		final_reply(c, r);
		return;
	default: /* PHASE_VOID */
		c->need_rset = true;
		park(c);
	}
}

/* --- body --- */

void relay_client_body(struct relay_client *c, span piece)
{
	if (c->phase != PHASE_BODY)
		return;
	c->progress++;
	while (piece.n > 0) {
		size_t plain = 0;
		char ch = piece.p[0];

		if (c->body_at == AFTER_CR) { /* the CR was held back */
			buf_put_str(&c->out, "\r\n");
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
			buf_put_str(&c->out, "\r\n");
			c->body_at = LINE_START;
			piece = span_from(piece, 1);
			continue;
		}
		if (ch == '.' && c->body_at == LINE_START)
			buf_put_char(&c->out, '.');
		while (plain < piece.n && piece.p[plain] != '\r' && piece.p[plain] != '\n')
			plain++;
		buf_put(&c->out, piece.p, plain);
		c->body_at = IN_LINE;
		piece = span_from(piece, plain);
	}
}

static void read_replies(struct relay_client *c);

void relay_client_body_end(struct relay_client *c)
{
	if (c->phase != PHASE_BODY)
		return;
	if (c->body_at != LINE_START)
		buf_put_str(&c->out, "\r\n");
	buf_put_str(&c->out, ".\r\n");
	c->progress++;
	c->phase = PHASE_FINAL;
	c->rcpt = next_accepted(c, 0);
	read_replies(c); /* it may have spoken early */
}

/* --- input --- */

static void take_reply(struct relay_client *c, const struct smtp_reply *r)
{
	c->progress++;
	if (c->phase == PHASE_QUIT) {
		die(c, RELAY_FAIL_CLOSED, SPAN("the peer said good-bye"));
		return;
	}
	if (!c->open_done)
		open_reply(c, r);
	else
		send_reply(c, r);
	if (r->code == 421) /* RFC 5321 3.8: it closes, whatever else was asked */
		die(c, RELAY_FAIL_CLOSED, SPAN("the peer closes the connection (421)"));
}

static bool awaits_reply(const struct relay_client *c)
{
	return c->phase != PHASE_HANDSHAKE && c->phase != PHASE_PARKED && c->phase != PHASE_BODY &&
	       c->phase != PHASE_DEAD;
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
			die(c, RELAY_FAIL_PROTOCOL,
			    got == ERR_TOOBIG ? SPAN("a reply of the peer is endless")
					      : SPAN("a reply of the peer cannot be read"));
		if (got <= 0)
			return;
		take_reply(c, &r);
	}
	if (c->phase == PHASE_PARKED && c->in.n > 0)
		die(c, RELAY_FAIL_CLOSED, SPAN("the peer speaks unasked"));
}

void relay_client_feed(struct relay_client *c, span in)
{
	while (in.n > 0 && c->phase != PHASE_DEAD) {
		size_t room = REPLY_BYTES_MAX - c->in.n, n = MIN(in.n, room);

		if (c->phase == PHASE_HANDSHAKE)
			return; /* clear bytes behind the 220 */
		if (n == 0) {
			die(c, RELAY_FAIL_PROTOCOL, SPAN("the peer speaks too much out of turn"));
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
	struct buf text _cleanup_(buf_donep) = BUF_INIT(REPLY_BYTES_MAX);
	struct smtp_reply r;

	/* A peer that gave up during the body may have said why before it closed. */
	if (c->phase == PHASE_BODY && cut_reply(c, &text, &r) > 0 && r.code >= 400)
		c->sent.final = keep_reply(&c->tx, &r);
	die(c, fail, why);
}

/* --- what the caller asks --- */

void relay_client_quit(struct relay_client *c)
{
	if (c->phase != PHASE_PARKED) {
		die(c, RELAY_FAIL_CLOSED, SPAN("closed by us"));
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

/* What a connection and core say to each other (sys/session.h). */
#include <sys/socket.h>

#include "base/log.h"
#include "role/front_int.h"
#include "role/wires.h"

/* Reads that empty a socket of clear-text bytes. */
#define DROP_ROUNDS 16

/* ------------------------------------------------------------------ to core */

static void put_tls(struct conn *c, struct buf *b)
{
	struct sess_tls facts;
	tls_conn_facts(c->tls, &facts);
	buf_put_le32(b, c->epoch);
	sess_tls_put(b, &facts);
}

void conn_tell_tls(struct conn *c)
{
	struct buf *b = &c->loop->payload;
	buf_reset(b);
	put_tls(c, b);
	front_send(c, SESS_TLS, buf_span(b));
}

/* The session begins for core with its first question. */
static void open_session(struct conn *c)
{
	struct buf *b = &c->loop->payload;
	c->opened = true;
	buf_reset(b);
	sess_open_put(b, c->ops->proto, c->implicit_tls, &c->peer, &c->local);
	front_send(c, SESS_OPEN, buf_span(b));
	if (c->tls)
		conn_tell_tls(c);
}

void conn_ask(struct conn *c, enum sess_type type, const struct wire_out *out)
{
	struct front_loop *l = c->loop;
	if (!l->core) {
		conn_farewell(c, SESS_WHY_CORE);
		return;
	}
	c->state = CONN_AT_CORE;
	bool first = !c->opened;
	if (first) { /* OPEN, TLS and the question travel together */
		channel_cork(l->core);
		open_session(c);
	}
	buf_reset(&l->payload);
	if (type == SESS_BODY) {
		sess_body_put(&l->payload, c->epoch, out->body_flags, buf_span(out->body));
	} else {
		buf_put_le32(&l->payload, c->epoch);
		if (type == SESS_INPUT)
			buf_put_span(&l->payload, buf_span(out->group));
	}
	front_send(c, type, buf_span(&l->payload));
	if (first)
		channel_uncork(l->core);
}

/* Core hears it once, as the last message of the session. */
void conn_tell_closed(struct conn *c, enum sess_why why)
{
	const char byte = (char)why;
	if (c->opened)
		front_send(c, SESS_CLOSED, span_of(&byte, 1));
	c->opened = false;
}

/* ------------------------------------------------------------------ from core */

static void on_park(struct conn *c, span payload)
{
	struct wire_park p;
	if (!sess_park_get(payload, &p)) {
		conn_farewell(c, SESS_WHY_CORE);
		return;
	}
	bool unasked = p.flags & SESS_PARK_UNASKED;
	bool drain = p.flags & SESS_PARK_WANT_DRAIN;
	if (unasked ? c->state != CONN_PARKED || !drain : c->state != CONN_AT_CORE)
		return;
	if (!unasked) {
		p.flags &= ~(SESS_PARK_WANT_DRAIN | SESS_PARK_UNASKED);
		c->idle_seconds = p.idle_seconds;
		c->established = c->established || front_established(c->ops->proto, p.flags);
		c->ops->park(c->wire, &p);
	}
	c->progress = PROGRESS;
	c->state = drain ? CONN_DRAINING : CONN_PARKED;
	conn_pump(c);
}

/* Whatever the peer said in clear before our "go ahead" was not said to us (CVE-2011-0411): both
 * what was read and what waits in the socket. */
static size_t drop_clear_input(struct conn *c)
{
	size_t n = conn_waiting(c);
	ssize_t got;
	buf_done(&c->in);
	c->in_at = 0;
	for (int i = 0;
	     i < DROP_ROUNDS && (got = recv(c->fd, c->loop->piece, READ_PIECE, MSG_DONTWAIT)) > 0;
	     i++)
		n += (size_t)got;
	return n;
}

static void on_starttls(struct conn *c, span reply)
{
	if (c->state != CONN_AT_CORE)
		return;
	if (c->tls) { /* core knows better; a second layer does not exist */
		conn_farewell(c, SESS_WHY_CORE);
		return;
	}
	size_t dropped = drop_clear_input(c);
	if (dropped > 0)
		log_event(LOG_NOTICE, "front.clear_dropped", F_STR("proto", c->ops->name),
			  F_SPAN("peer", c->env.peer_ip), F_U64("bytes", dropped));
	conn_write(c, reply);
	if (c->state != CONN_AT_CORE)
		return;
	c->state = CONN_STARTTLS;
	conn_settle(c);
}

static void on_hold(struct conn *c, span payload)
{
	struct cursor p = cursor_of(payload);
	conn_hold(c, cursor_le32(&p) * USEC_MSEC);
}

void front_word(struct front *f, struct channel_msg *m)
{
	struct cursor p = cursor_of(m->payload);
	struct sess_ban ban;
	if (m->type == SESS_LOAD)
		front_limits_busy(&f->limits, cursor_le32(&p) * USEC_MSEC);
	else if (m->type == SESS_BAN && sess_ban_get(m->payload, &ban))
		front_limits_ban(&f->limits, &ban);
}

void conn_core_message(struct conn *c, struct channel_msg *m)
{
	switch (m->type) {
	case SESS_OUTPUT:
		if (c->state != CONN_HANDSHAKE && c->state != CONN_STARTTLS)
			conn_write(c, m->payload);
		conn_settle(c);
		break;
	case SESS_PARK:
		on_park(c, m->payload);
		break;
	case SESS_STARTTLS:
		on_starttls(c, m->payload);
		break;
	case SESS_CLOSE:
		conn_close(c, SESS_WHY_EOF);
		break;
	case SESS_HOLD:
		on_hold(c, m->payload);
		break;
	}
}

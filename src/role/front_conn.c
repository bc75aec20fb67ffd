/* The life of one connection: reading, driving the wire, talking to core, ending.
 *
 *     accept --> PROXY --> GREET --> HANDSHAKE --> PARKED <--> AT_CORE <--> DRAINING
 *                                        ^                        |
 *                                        +------- STARTTLS <------+
 *     any --> CLOSING --> LINGER --> DEAD
 *
 * No function here frees a connection: conn_kill() leaves it DEAD, and it is freed in a later
 * round, so callers up the stack may still look at its state. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "role/front_int.h"
#include "sasl/offer.h"

/* Reads of one connection in one round. */
#define READ_ROUNDS 4
#define IDLE_AFTER  (100 * USEC_MSEC)
/* Commands that front answers itself, of one connection in one round: who sends nothing but NOOP
 * must not make everybody else wait for the end of it. */
#define STEPS_PER_TURN 100

/* ------------------------------------------------------------------ death */

/* Keeps the sums over all connections; most events change nothing. */
static void count_memory(struct conn *c)
{
	size_t held = c->in.cap + c->out.n;
	if (c->wire_open && c->ops->held)
		held += c->ops->held(c->wire);
	if (held != c->held)
		front_memory_count(c, held);
	if (c->in.cap == c->counted)
		return;
	atomic_fetch_add(&c->loop->front->ahead, c->in.cap - c->counted); /* wraps: subtracts */
	c->counted = (uint32_t)c->in.cap;
}

void conn_release_memory(struct conn *c)
{
	if (c->wire_open)
		c->ops->done(c->wire);
	c->wire_open = false;
	buf_done(&c->in);
	rope_done(&c->out);
	count_memory(c);
}

static void conn_free(struct conn *c)
{
	tls_conn_free(c->tls);
	conn_release_memory(c);
	close_fdp(&c->fd);
	if (c->limited)
		front_limits_peer_gone(&c->loop->front->limits, &c->peer);
	front_limits_leave(&c->loop->front->limits);
	front_settings_unref(c->settings);
	free(c);
}

void conn_bury(struct front_loop *l)
{
	while (l->dead) {
		struct conn *c = l->dead;
		l->dead = c->next;
		conn_free(c);
	}
}

static void bury_posted(void *arg)
{
	conn_bury(arg);
}

static void to_dead(struct conn *c)
{
	struct front_loop *l = c->loop;
	c->next = l->dead;
	l->dead = c;
	if (!c->next)
		loop_post(l->loop, bury_posted, l);
}

void conn_kill(struct conn *c, enum sess_why why)
{
	if (c->state == CONN_DEAD)
		return;
	conn_tell_closed(c, why);
	c->state = CONN_DEAD;
	if (c->waits_turn)
		TAILQ_REMOVE(&c->loop->turns, c, next_turn);
	c->waits_turn = false;
	loop_timer_stop(&c->timer);
	loop_io_del(c->io);
	c->io = NULL;
	idmap_del(c->loop->conns, c->id);
	if (!c->in_pool)
		to_dead(c);
}

static void discard(struct conn *c)
{
	for (int i = 0; i < READ_ROUNDS; i++) {
		ssize_t n = recv(c->fd, c->loop->piece, READ_PIECE, MSG_DONTWAIT);
		if (n > 0)
			continue;
		if (n == 0 || errno != EAGAIN)
			conn_kill(c, SESS_WHY_EOF);
		return;
	}
}

/* Everything has left: our end closes, and the peer gets a moment to read. */
static void linger(struct conn *c)
{
	if (c->tls)
		tls_shutdown(c->tls);
	if (c->eof || shutdown(c->fd, SHUT_WR) < 0) {
		conn_kill(c, SESS_WHY_EOF);
		return;
	}
	/* Last words get lost only where bytes of the peer are left unread; who said nothing more
	 * has them, and must not hold up the end of the server. */
	if (c->loop->drain_until) {
		discard(c);
		conn_kill(c, SESS_WHY_SHUTDOWN);
		return;
	}
	c->state = CONN_LINGER;
	c->timed = TIMED_LINGER;
	loop_timer_arm(&c->timer, LINGER_TIMEOUT);
	loop_io_set(c->io, LOOP_READ | LOOP_HUP);
}

void conn_close(struct conn *c, enum sess_why why)
{
	if (c->state >= CONN_CLOSING)
		return;
	if (c->in_pool || c->state <= CONN_HANDSHAKE) {
		conn_kill(c, why); /* nothing can be said before the greeting or in a handshake */
		return;
	}
	conn_tell_closed(c, why);
	c->state = CONN_CLOSING;
	buf_done(&c->in);
	c->in_at = 0;
	conn_settle(c);
}

void conn_farewell(struct conn *c, enum sess_why why)
{
	struct buf *reply = &c->loop->reply;
	if (c->state < CONN_CLOSING && c->state > CONN_HANDSHAKE && c->wire_open) {
		buf_reset(reply);
		c->ops->farewell(c->wire, why, reply);
		conn_write(c, buf_span(reply));
	}
	conn_close(c, why);
}

/* ------------------------------------------------------------------ the tarpit */

void conn_hold(struct conn *c, usec d)
{
	if (d <= 0 || c->state <= CONN_HANDSHAKE || c->state >= CONN_LINGER)
		return;
	c->on_hold = true;
	c->timed = TIMED_HOLD;
	loop_timer_arm(&c->timer, d);
}

void conn_unhold(struct conn *c)
{
	if (!c->on_hold)
		return;
	c->on_hold = false;
	c->progress = PROGRESS; /* the timer starts anew */
	conn_flush(c);
	conn_pump(c);
}

/* Front has refused commands itself; what it says about the last one waits. */
static void count_errors(struct conn *c, unsigned n)
{
	c->errors += n;
	if (n && c->limited && !sock_is_local(&c->peer))
		conn_hold(c, sess_tarpit(c->errors, c->settings->conf->tarpit_max));
}

/* ------------------------------------------------------------------ input */

static bool may_feed(const struct conn *c)
{
	/* A peer that sends commands and reads no answers is not answered for ever. */
	return c->state == CONN_PARKED && c->out.n <= OUT_LOW && !c->on_hold;
}

static void take_turns(void *arg)
{
	struct front_loop *l = arg;
	struct turns now = TAILQ_HEAD_INITIALIZER(now);
	TAILQ_CONCAT(&now, &l->turns, next_turn);
	/* Pumping one cannot kill another, so that all in NOW stay alive until their turn. */
	for (struct conn *c; (c = TAILQ_FIRST(&now));) {
		TAILQ_REMOVE(&now, c, next_turn);
		c->waits_turn = false;
		conn_pump(c);
	}
}

/* The rest of C's input is taken in the next round. */
static void wait_turn(struct conn *c)
{
	struct front_loop *l = c->loop;
	if (c->waits_turn)
		return;
	if (TAILQ_EMPTY(&l->turns))
		loop_post(l->loop, take_turns, l);
	c->waits_turn = true;
	TAILQ_INSERT_TAIL(&l->turns, c, next_turn);
}

/* Runs the wire over IN while it only replies and LEFT steps are left; the replies gather, up to a
 * limit. */
static enum wire_step feed_steps(struct conn *c, span in, size_t *at, struct wire_out *out,
				 unsigned *left)
{
	enum wire_step step = WIRE_REPLY;
	out->errors = 0;
	while (step == WIRE_REPLY && out->reply->n <= OUT_LOW && *left > 0 && !out->errors) {
		--*left;
		size_t used = 0;
		buf_reset(out->group);
		buf_reset(out->body);
		out->body_flags = 0;
		step = c->ops->feed(c->wire, span_from(in, *at), &used, out);
		*at += used;
		if (step != WIRE_MORE)
			c->progress = PROGRESS; /* a step proves life */
	}
	return step;
}

/* Shows IN to the wire until it waits; returns the bytes taken. */
static size_t feed(struct conn *c, span in)
{
	struct front_loop *l = c->loop;
	struct wire_out out = { .reply = &l->reply, .group = &l->group, .body = &l->body };
	size_t at = 0;
	unsigned left = STEPS_PER_TURN;
	enum wire_step step;
	do {
		buf_reset(&l->reply);
		step = feed_steps(c, in, &at, &out, &left);
		count_errors(c, out.errors);
		conn_write(c, buf_span(&l->reply));
	} while (step == WIRE_REPLY && left > 0 && may_feed(c));
	if (c->state != CONN_PARKED)
		return at;
	if (step == WIRE_REPLY) {
		if (left == 0)
			wait_turn(c);
		return at;
	}
	if (l->group.failed || l->body.failed) /* the wire's own limits are smaller */
		conn_farewell(c, SESS_WHY_ABUSE);
	else if (step == WIRE_FORWARD)
		conn_ask(c, SESS_INPUT, &out);
	else if (step == WIRE_BODY)
		conn_ask(c, SESS_BODY, &out);
	else if (step == WIRE_CLOSE)
		conn_close(c, out.why);
	return at;
}

/* Input is what was kept, then FRESH (which may be empty). */
static void take_input(struct conn *c, span fresh)
{
	bool direct = c->in.n == c->in_at;
	if (!direct && buf_put_span(&c->in, fresh) < 0) {
		conn_kill(c, SESS_WHY_ABUSE);
		return;
	}
	span in = direct ? fresh : span_from(buf_span(&c->in), c->in_at);
	if (!c->has_spoken && !conn_first_bytes(c, in))
		return;
	size_t used = may_feed(c) && c->has_spoken ? feed(c, in) : 0;
	if (c->state >= CONN_CLOSING)
		return;
	if (direct) {
		buf_put_span(&c->in, span_from(in, used));
	} else {
		c->in_at += used;
		/* Moving the rest only when it is the smaller half keeps the cost linear. */
		if (c->in_at > c->in.n / 2) {
			buf_consume(&c->in, c->in_at);
			c->in_at = 0;
		}
	}
	if (c->in.n == c->in_at) {
		buf_done(&c->in);
		c->in_at = 0;
	}
}

/* Reading while core works spares a round trip, but it is a favour: what all sessions together have
 * read ahead is bounded, or a slow disk would fill our memory with bodies. */
static bool wants_input(const struct conn *c)
{
	return !c->eof && !c->waits_turn && !c->on_hold && c->state <= CONN_DRAINING &&
	       c->state > CONN_HANDSHAKE && c->out.n <= OUT_LOW &&
	       conn_waiting(c) < c->ops->input_limit &&
	       (c->state == CONN_PARKED || atomic_load(&c->loop->front->ahead) < AHEAD_MAX);
}

/* One read.  False when nothing came: the socket is empty, at its end, or broken. */
static bool read_piece(struct conn *c, span *ret)
{
	char *p = c->loop->piece;
	size_t n = 0;
	enum tls_result r;
	if (c->tls) {
		r = tls_read(c->tls, p, READ_PIECE, &n);
	} else {
		ssize_t got;
		do
			got = recv(c->fd, p, READ_PIECE, MSG_DONTWAIT);
		while (got < 0 && errno == EINTR);
		r = got > 0	      ? TLS_OK
		    : got == 0	      ? TLS_EOF
		    : errno == EAGAIN ? TLS_WANT_READ
				      : TLS_FAILED;
		n = got > 0 ? (size_t)got : 0;
	}
	c->read_wants_write = r == TLS_WANT_WRITE;
	if (r == TLS_EOF)
		c->eof = true;
	if (r == TLS_FAILED)
		conn_kill(c, SESS_WHY_ERROR);
	if (r != TLS_OK)
		return false;
	c->last_read = clock_mono();
	c->progress = (uint32_t)MIN(c->progress + n, (size_t)PROGRESS);
	*ret = span_of(p, n);
	return true;
}

static void conn_read(struct conn *c)
{
	span fresh;
	for (int i = 0; i < READ_ROUNDS && wants_input(c); i++) {
		if (!read_piece(c, &fresh))
			break;
		take_input(c, fresh);
		if (fresh.n < READ_PIECE && !c->tls)
			break; /* there was no more; epoll tells when there is */
	}
	/* What TLS has decrypted already, epoll does not see. */
	while (c->tls && wants_input(c) && tls_pending(c->tls) && read_piece(c, &fresh))
		take_input(c, fresh);
}

/* ------------------------------------------------------------------ what comes next */

void conn_pump(struct conn *c)
{
	if (may_feed(c))
		take_input(c, SPAN_NULL);
	if (c->tls && wants_input(c) && tls_pending(c->tls))
		conn_read(c);
	conn_settle(c);
}

/* Who has not logged in has a time for each command, and one for all of them together. */
static usec preauth_timeout(const struct conn *c)
{
	usec left = c->born + c->settings->conf->preauth_timeout - clock_mono();
	return MAX(MIN(left, c->ops->preauth_seconds * USEC_SEC), USEC_MSEC);
}

/* Core's word for this moment, else the configured time, else the protocol's own; a phase of its own
 * (a body) may have less. */
static usec input_timeout(const struct conn *c)
{
	const struct conf *conf = c->settings->conf;
	usec configured = c->ops->proto == SESS_PROTO_IMAP   ? conf->imap_timeout
			  : c->ops->proto == SESS_PROTO_POP3 ? conf->pop3_timeout
							     : conf->smtp_timeout;
	unsigned phase = c->ops->phase_seconds ? c->ops->phase_seconds(c->wire) : 0;
	if (c->idle_seconds)
		return c->idle_seconds * USEC_SEC;
	if (!c->established)
		return preauth_timeout(c);
	if (configured <= 0)
		configured = c->ops->idle_seconds * USEC_SEC;
	return phase ? MIN(phase * USEC_SEC, configured) : configured;
}

/* One timer serves all phases; it starts again with the phase and with progress. */
static void arm(struct conn *c)
{
	/* While core works it has its own deadlines. */
	enum conn_timed timed = c->out.n > 0		  ? TIMED_WRITE
				: c->state == CONN_PARKED ? TIMED_INPUT
							  : TIMED_NOTHING;
	if (timed == c->timed && c->progress < PROGRESS)
		return;
	c->timed = timed;
	c->progress = 0;
	if (timed == TIMED_NOTHING) {
		loop_timer_stop(&c->timer);
	} else if (timed == TIMED_WRITE) {
		loop_timer_arm(&c->timer, WRITE_TIMEOUT);
	} else {
		loop_timer_arm(&c->timer, input_timeout(c));
	}
}

/* What the state itself brings on, without a new event. */
static void conn_advance(struct conn *c)
{
	if (c->state == CONN_DRAINING && c->out.n <= OUT_LOW)
		conn_ask(c, SESS_DRAINED, NULL);
	if (!may_feed(c) || c->waits_turn)
		return;
	if (conn_waiting(c) >= c->ops->input_limit) /* and the wire still wants more */
		conn_farewell(c, SESS_WHY_ABUSE);
	else if (c->eof)
		conn_close(c, SESS_WHY_EOF);
}

/* Called at the end of every event: makes interest and timer follow the state. */
void conn_settle(struct conn *c)
{
	if (!c->on_hold)
		conn_advance(c);
	count_memory(c);
	if (c->in_pool || c->state <= CONN_HANDSHAKE || c->state >= CONN_LINGER)
		return;
	if (c->on_hold) {
		loop_io_set(c->io, 0);
		return;
	}
	if (c->out.n == 0 && c->state == CONN_CLOSING) {
		linger(c);
		return;
	}
	if (c->out.n == 0 && c->state == CONN_STARTTLS) {
		conn_start_tls(c);
		return;
	}
	unsigned events = wants_input(c) ? LOOP_READ | LOOP_HUP : 0;
	if (c->out.n > 0 || c->read_wants_write)
		events |= LOOP_WRITE;
	loop_io_set(c->io, events);
	arm(c);
}

/* Nothing under way, and the peer has been silent for a moment (the round trip between two
 * commands). */
bool conn_is_idle(const struct conn *c)
{
	return c->state == CONN_PARKED && conn_waiting(c) == 0 && c->out.n == 0 &&
	       clock_mono() - c->last_read > IDLE_AFTER;
}

/* ------------------------------------------------------------------ events */

void conn_io(void *arg, unsigned events)
{
	struct conn *c = arg;
	if (c->state < CONN_HANDSHAKE) {
		conn_arrival_ready(c);
		return;
	}
	if (c->state == CONN_HANDSHAKE) {
		conn_handshake_step(c);
		return;
	}
	if (c->state == CONN_LINGER) {
		discard(c);
		return;
	}
	if (events & LOOP_WRITE) {
		bool was_long = c->out.n > OUT_LOW;
		conn_flush(c);
		if (was_long && may_feed(c))
			take_input(c, SPAN_NULL);
	}
	if (events & (LOOP_READ | LOOP_HUP) || c->read_wants_write)
		conn_read(c);
	conn_settle(c);
}

void conn_timeout(void *arg)
{
	struct conn *c = arg;
	if (c->on_hold)
		conn_unhold(c);
	else if (c->state < CONN_HANDSHAKE)
		conn_arrival_timeout(c);
	else if (c->state == CONN_PARKED && c->out.n == 0)
		conn_farewell(c, SESS_WHY_TIMEOUT);
	else if (c->state == CONN_HANDSHAKE)
		conn_kill(c, SESS_WHY_TLS);
	else
		conn_kill(c, SESS_WHY_TIMEOUT);
}

void conn_handshake_done(struct conn *c)
{
	if (c->state == CONN_DEAD) { /* was killed meanwhile; the pool had it */
		to_dead(c);
		return;
	}
	switch ((enum tls_result)c->tls_result) {
	case TLS_OK:
		break;
	case TLS_WANT_READ:
		loop_io_set(c->io, LOOP_READ | LOOP_HUP);
		return;
	case TLS_WANT_WRITE:
		loop_io_set(c->io, LOOP_WRITE | LOOP_HUP);
		return;
	default:
		log_event(LOG_INFO, "front.tls_failed", F_STR("proto", c->ops->name),
			  F_SPAN("peer", c->env.peer_ip), F_STR("why", tls_conn_error(c->tls)));
		conn_kill(c, SESS_WHY_TLS);
		return;
	}
	loop_timer_stop(&c->timer);
	c->timed = TIMED_NOTHING;
	c->epoch++;
	struct sess_tls facts;
	tls_conn_facts(c->tls, &facts);
	c->env.tls = true;
	c->env.tls_available = false;
	c->env.client_cert = facts.client_emails.n > 0;
	c->env.binding = sasl_binds(&facts);
	if (c->wire_open) {
		c->state = CONN_PARKED;
		c->established = false;
		c->idle_seconds = 0;
		c->ops->tls(c->wire, &c->env);
		if (c->opened)
			conn_tell_tls(c);
	} else {
		conn_greet(c);
	}
	conn_read(c);
	conn_settle(c);
}

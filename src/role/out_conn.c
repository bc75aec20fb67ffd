/* One connection of out: a socket, perhaps TLS, and the protocol engine of relay/client.h.
 *
 * Each event runs pump(): write what the engine says, feed it what came, as long as either makes
 * progress; then finish() tells core what it is owed.  An event reads at most READ_BUDGET bytes, so
 * that one busy peer does not hold the loop. */
#include "role/out_int.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

enum { PIECE = 32 * 1024, OUT_LOW = 128 * 1024, READ_BUDGET = 128 * 1024 };
#define CONNECT_TIMEOUT (30 * USEC_SEC)
/* The whole of one transaction: patience with each step adds up. */
#define TRANSACTION_TIMEOUT (3600 * USEC_SEC)

struct out_conn {
	struct out *out;
	uint64_t id;
	int fd;
	struct loop_io *io;
	struct loop_timer timer;
	struct tls_conn *tls;
	struct relay_client *client;
	char *host;
	enum relay_tls policy;
	bool connecting, encrypted, write_failed, closing;
	bool owes_opened, owes_sent;
	uint64_t progress; /* the engine's, when the timer was armed */
	usec deadline;	   /* monotonic, of the transaction; 0: none */
	struct buf body;   /* inline, or BODY_FD */
	int body_fd;
	uint64_t body_at, body_left;
};

static void finish(struct out_conn *c);

static void conn_free(struct out_conn *c)
{
	idmap_del(c->out->conns, c->id);
	if (c->io)
		loop_io_del(c->io);
	loop_timer_stop(&c->timer);
	tls_conn_free(c->tls);
	relay_client_free(c->client);
	close_fdp(&c->fd);
	close_fdp(&c->body_fd);
	buf_done(&c->body);
	free(c->host);
	free(c);
}

void out_conn_drop_all(struct out *o)
{
	size_t it = 0;
	uint64_t id;
	void *v;

	while (idmap_next(o->conns, &it, &id, &v)) /* removal of the current one is allowed */
		conn_free(v);
}

/* --- to core --- */

static void tell(struct out *o, uint16_t type, uint64_t id, const struct buf *b)
{
	int err = o->core ? channel_send(o->core, type, id, buf_span(b), -1) : 0;

	if (err < 0 && err != ERR_CLOSED)
		log_event(LOG_ERROR, "out.answer_lost", F_U64("type", type), F_ERR(err));
}

static void tell_opened(struct out *o, uint64_t id, const struct relay_opened *opened)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);

	relay_opened_put(&b, opened);
	tell(o, RELAY_OPENED, id, &b);
}

static void tell_sent(struct out *o, uint64_t id, const struct relay_sent *sent)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);

	relay_sent_put(&b, sent);
	tell(o, RELAY_SENT, id, &b);
}

static void refuse_send(struct out *o, uint64_t id, enum relay_fail fail, span why, size_t n_rcpts,
			struct arena *mem)
{
	struct relay_sent sent = { .fail = fail,
				   .why = why,
				   .n_rcpts = n_rcpts,
				   .rcpts = arena_array(mem, struct smtp_reply, n_rcpts) };

	tell_sent(o, id, &sent);
}

/* --- bytes --- */

enum io { IO_DONE, IO_READ, IO_WRITE, IO_EOF };

static enum io io_of(enum tls_result r)
{
	switch (r) {
	case TLS_OK:
		return IO_DONE;
	case TLS_WANT_READ:
		return IO_READ;
	case TLS_WANT_WRITE:
		return IO_WRITE;
	default:
		return IO_EOF;
	}
}

static enum io conn_read(struct out_conn *c, char *p, size_t n, size_t *ret_n)
{
	ssize_t got;

	if (c->encrypted)
		return io_of(tls_read(c->tls, p, n, ret_n));
	do
		got = read(c->fd, p, n);
	while (got < 0 && errno == EINTR);
	if (got > 0) {
		*ret_n = (size_t)got;
		return IO_DONE;
	}
	return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? IO_READ : IO_EOF;
}

static enum io conn_write(struct out_conn *c, span s, size_t *ret_n)
{
	ssize_t put;

	if (c->encrypted)
		return io_of(tls_write(c->tls, s.p, s.n, ret_n));
	do
		put = send(c->fd, s.p, s.n, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	if (put >= 0) {
		*ret_n = (size_t)put;
		return IO_DONE;
	}
	return errno == EAGAIN || errno == EWOULDBLOCK ? IO_WRITE : IO_EOF;
}

/* --- TLS --- */

static void tls_done(struct out_conn *c)
{
	struct buf text _cleanup_(buf_donep) = BUF_INIT(256);
	struct sess_tls facts = { 0 };
	const char *why = NULL;

	tls_conn_facts(c->tls, &facts);
	buf_printf(&text, "TLSv1.%u ", facts.version >= 0x0301 ? facts.version - 0x0301u : 0);
	buf_put_span(&text, facts.cipher);
	c->encrypted = true;
	relay_client_tls(c->client, tls_conn_verified(c->tls, &why), buf_span(&text));
}

/* One step of the handshake; false: it waits, for *WANT. */
static bool handshake(struct out_conn *c, unsigned *want)
{
	struct sockaddr_any ip;
	span host = span_str(c->host);
	const char *why = NULL;

	if (!c->tls) {
		if (sock_parse_ip(host, 0, &ip) == 0)
			host = SPAN_NULL; /* RFC 6066 3: no address in SNI */
		c->tls = tls_connect_new(c->out->tls, c->fd, host, c->policy == RELAY_TLS_VERIFY);
		if (!c->tls) {
			relay_client_fail(c->client, RELAY_FAIL_TLS,
					  SPAN("TLS could not be started"));
			return true;
		}
	}
	switch (tls_handshake(c->tls)) {
	case TLS_OK:
		tls_done(c);
		return true;
	case TLS_WANT_READ:
		*want = LOOP_READ;
		return false;
	case TLS_WANT_WRITE:
		*want = LOOP_WRITE;
		return false;
	default:
		tls_conn_verified(c->tls, &why);
		relay_client_fail(c->client, RELAY_FAIL_TLS,
				  c->policy == RELAY_TLS_VERIFY && why
					  ? span_str(why)
					  : SPAN("the TLS handshake failed"));
		return true;
	}
}

/* --- the pump --- */

/* Gives the engine the next piece of the body. */
static void feed_body(struct out_conn *c)
{
	size_t n = (size_t)MIN(c->body_left, (uint64_t)PIECE);
	char piece[PIECE];
	ssize_t got;

	if (n == 0) {
		relay_client_body_end(c->client);
		return;
	}
	if (c->body_fd < 0) {
		relay_client_body(c->client, span_sub(buf_span(&c->body), (size_t)c->body_at, n));
		got = (ssize_t)n;
	} else {
		got = pread(c->body_fd, piece, n, (off_t)c->body_at);
		if (got <= 0) {
			/* The end-of-data dot must not be said over half a message. */
			relay_client_fail(c->client, RELAY_FAIL_CLOSED,
					  SPAN("the message could not be read to its end"));
			return;
		}
		relay_client_body(c->client, span_of(piece, (size_t)got));
	}
	c->body_at += (uint64_t)got;
	c->body_left -= (uint64_t)got;
}

/* Writes what there is; true if anything moved.  Adds to *WANT what it waits for. */
static bool pump_out(struct out_conn *c, unsigned *want)
{
	struct buf *out = relay_client_out(c->client);
	bool moved = false;
	size_t n = 0;

	if (relay_client_state(c->client) == RELAY_CLIENT_BODY && out->n < OUT_LOW) {
		feed_body(c);
		moved = true;
	}
	if (out->n == 0 || c->write_failed)
		return moved;
	switch (conn_write(c, buf_span(out), &n)) {
	case IO_DONE:
		buf_consume(out, n);
		return true;
	case IO_WRITE:
		*want |= LOOP_WRITE;
		break;
	case IO_READ:
		break;
	case IO_EOF:
		c->write_failed = true; /* the peer may have said why: read on */
		break;
	}
	return moved;
}

static bool pump_in(struct out_conn *c, size_t *budget, unsigned *want)
{
	char piece[16 * 1024];
	size_t n = 0;

	if (*budget == 0)
		return false;
	switch (conn_read(c, piece, sizeof piece, &n)) {
	case IO_DONE:
		*budget -= MIN(*budget, n);
		relay_client_feed(c->client, span_of(piece, n));
		return true;
	case IO_WRITE:
		*want |= LOOP_WRITE;
		break;
	case IO_READ:
		if (c->write_failed)
			relay_client_fail(c->client, RELAY_FAIL_CLOSED,
					  SPAN("the peer does not take our words any more"));
		break;
	case IO_EOF:
		relay_client_fail(c->client, RELAY_FAIL_CLOSED,
				  SPAN("the peer closed the connection"));
		break;
	}
	return false;
}

static void pump(struct out_conn *c)
{
	unsigned want = LOOP_READ;
	size_t budget = READ_BUDGET;
	bool moved = true;

	while (moved && relay_client_state(c->client) != RELAY_CLIENT_DEAD) {
		want = LOOP_READ;
		if (relay_client_state(c->client) == RELAY_CLIENT_STARTTLS &&
		    relay_client_out(c->client)->n == 0) {
			moved = handshake(c, &want);
			continue;
		}
		moved = pump_out(c, &want);
		/* After the 220 every byte belongs to the handshake. */
		if (relay_client_state(c->client) != RELAY_CLIENT_STARTTLS)
			moved |= pump_in(c, &budget, &want);
	}
	if (relay_client_state(c->client) != RELAY_CLIENT_DEAD)
		/* TLS may hold decoded bytes that epoll does not see; a writable socket wakes us.
		 */
		loop_io_set(c->io, budget == 0 ? want | LOOP_WRITE : want);
	finish(c);
}

/* --- time --- */

static void arm(struct out_conn *c)
{
	usec in = relay_client_patience(c->client) * USEC_SEC;

	c->progress = relay_client_progress(c->client);
	if (c->deadline)
		in = MAX(MIN(in, c->deadline - clock_mono()), 1);
	loop_timer_arm(&c->timer, in);
}

static void late(void *arg)
{
	struct out_conn *c = arg;

	if (c->connecting)
		relay_client_fail(c->client, RELAY_FAIL_CONNECT, SPAN("connection timed out"));
	else
		relay_client_fail(c->client, RELAY_FAIL_TIMEOUT,
				  SPAN("the peer did not answer in time"));
	finish(c);
}

/* --- what core is owed --- */

static void finish(struct out_conn *c)
{
	enum relay_client_state state = relay_client_state(c->client);
	struct out *o = c->out;
	bool told = c->closing;

	if (state != RELAY_CLIENT_PARKED && state != RELAY_CLIENT_DEAD) {
		if (relay_client_progress(c->client) != c->progress)
			arm(c);
		return;
	}
	if (c->owes_opened) {
		const struct relay_opened *opened = relay_client_opened(c->client);

		c->owes_opened = false;
		told |= opened->fail != RELAY_FAIL_NONE;
		tell_opened(o, c->id, opened);
	}
	if (c->owes_sent) {
		const struct relay_sent *sent = relay_client_sent(c->client);

		c->owes_sent = false;
		c->deadline = 0;
		told |= sent->fail != RELAY_FAIL_NONE;
		tell_sent(o, c->id, sent);
	}
	if (state == RELAY_CLIENT_PARKED) {
		arm(c);
		return;
	}
	if (!told && o->core)
		channel_send(o->core, RELAY_LOST, c->id, SPAN_NULL, -1);
	conn_free(c);
	out_conn_gone(o);
}

/* --- events --- */

static void connected(struct out_conn *c)
{
	socklen_t len = sizeof(int);
	int e = 0;

	/* The kernel's own word ("Connection refused") tells people more than an enum err. */
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &len) != 0)
		e = errno;
	c->connecting = false;
	if (e != 0)
		relay_client_fail(c->client, RELAY_FAIL_CONNECT, span_str(strerrordesc_np(e)));
	else
		arm(c);
}

static void on_io(void *arg, unsigned events)
{
	struct out_conn *c = arg;

	if (c->connecting)
		connected(c);
	pump(c);
}

static struct out_conn *conn_new(struct out *o, uint64_t id, const struct relay_open *open)
{
	struct out_conn *c = xcalloc(1, sizeof *c);

	c->out = o;
	c->id = id;
	c->fd = c->body_fd = -1;
	c->client = relay_client_new(open);
	c->host = span_dup(open->host);
	c->policy = open->tls;
	c->owes_opened = true;
	buf_init(&c->body, CHANNEL_MAX);
	loop_timer_init(&c->timer, o->loop, late, c);
	idmap_put(o->conns, id, c);
	return c;
}

void out_conn_open(struct out *o, uint64_t id, span payload)
{
	struct relay_open open;
	struct out_conn *c = idmap_get(o->conns, id);

	if (c)
		conn_free(c); /* core gave the number to a new one */
	if (relay_open_get(payload, &open) < 0 || o->draining) {
		tell_opened(o, id,
			    &(struct relay_opened){ .fail = RELAY_FAIL_CONNECT,
						    .why = SPAN("no connections are made now") });
		return;
	}
	c = conn_new(o, id, &open);
	c->fd = sock_connect_start(&open.to,
				   open.source.sa.sa_family == AF_UNSPEC ? NULL : &open.source);
	if (c->fd < 0) {
		relay_client_fail(c->client, RELAY_FAIL_CONNECT, span_str(strerrordesc_np(errno)));
		finish(c);
		return;
	}
	c->connecting = true;
	c->io = loop_io_add(o->loop, c->fd, LOOP_WRITE, on_io, c);
	loop_timer_arm(&c->timer, CONNECT_TIMEOUT);
}

void out_conn_send(struct out *o, struct channel_msg *m)
{
	struct out_conn *c = idmap_get(o->conns, m->id);
	struct arena mem _cleanup_(arena_donep);
	struct relay_send s;

	arena_init(&mem);
	if (relay_send_get(m->payload, &mem, &s) < 0 || (m->fd < 0 && s.body.n != s.size)) {
		refuse_send(o, m->id, RELAY_FAIL_PROTOCOL,
			    SPAN("the order to send could not be read"), 0, &mem);
		return;
	}
	if (!c || c->owes_opened || c->owes_sent ||
	    relay_client_state(c->client) != RELAY_CLIENT_PARKED) {
		refuse_send(o, m->id, RELAY_FAIL_CLOSED, SPAN("the connection is gone"), s.n_rcpts,
			    &mem);
		return;
	}
	close_fdp(&c->body_fd);
	c->body_fd = m->fd;
	m->fd = -1;
	buf_reset(&c->body);
	buf_put_span(&c->body, s.body);
	c->body_at = c->body_fd < 0 ? 0 : s.body_from;
	c->body_left = s.size;
	c->owes_sent = true;
	c->deadline = clock_mono() + TRANSACTION_TIMEOUT;
	relay_client_send(c->client, &s);
	pump(c);
}

void out_conn_close(struct out *o, uint64_t id)
{
	struct out_conn *c = idmap_get(o->conns, id);

	if (!c)
		return;
	c->closing = true;
	relay_client_quit(c->client);
	pump(c);
}

/* From accept() to the greeting: whose connection it is (PROXY), whether that one may come, and
 * whether it waits to be greeted. */
#include <errno.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/log.h"
#include "format/proxy.h"
#include "role/front_int.h"
#include "role/wires.h"
#include "sasl/offer.h"
#include "sys/net.h"

/* ------------------------------------------------------------------ refusals */

void conn_refuse(int fd, const struct wire_ops *ops, const struct front_settings *s,
		 bool implicit_tls, enum sess_why why)
{
	if (!implicit_tls) {
		_cleanup_(buf_donep) struct buf reply = BUF_INIT(4096);
		_cleanup_(freep) void *wire = xcalloc(1, ops->size);
		const struct wire_env env = { .hostname = s->conf->hostname, .proto = ops->proto };
		ops->open(wire, &env, &reply);
		buf_reset(&reply); /* not the greeting */
		ops->farewell(wire, why, &reply);
		ops->done(wire);
		send(fd, reply.p, reply.n, MSG_NOSIGNAL | MSG_DONTWAIT);
		shutdown(fd, SHUT_WR);
	}
	close_fdp(&fd);
}

static void open_wire(struct conn *c)
{
	struct buf *reply = &c->loop->reply;
	buf_reset(reply);
	c->wire_open = true;
	c->state = CONN_PARKED;
	loop_timer_stop(&c->timer);
	c->timed = TIMED_NOTHING;
	c->ops->open(c->wire, &c->env, reply);
}

/* Instead of the greeting. */
static void send_away(struct conn *c, enum sess_why why)
{
	front_note_refusal(c->loop->front, c->ops->name, &c->peer, why);
	if (c->implicit_tls) {
		conn_kill(c, why);
		return;
	}
	open_wire(c);
	conn_farewell(c, why);
	conn_settle(c);
}

/* ------------------------------------------------------------------ the greeting */

void conn_greet(struct conn *c)
{
	open_wire(c);
	conn_write(c, buf_span(&c->loop->reply));
}

static bool has_peer(const struct conf_networks *l, const struct conn *c)
{
	return !sock_is_local(&c->peer) && net_list_has(l->nets, l->n, &c->peer);
}

/* Who is there is known, and may come. */
static void begin(struct conn *c)
{
	const struct conf *conf = c->settings->conf;
	bool lmtp = c->ops->proto == SESS_PROTO_LMTP;
	c->env.trusted = has_peer(lmtp ? &conf->lmtp_from : &conf->xclient_from, c);
	c->env.etrn = has_peer(&conf->etrn_from, c);
	usec delay = conf->greet_delay;
	if (c->implicit_tls) {
		conn_start_tls(c);
	} else if (c->ops->proto == SESS_PROTO_SMTP && delay > 0 && c->limited) {
		c->state = CONN_GREET;
		c->timed = TIMED_ARRIVAL;
		loop_timer_arm(&c->timer, delay);
		loop_io_set(c->io, LOOP_READ | LOOP_HUP);
	} else {
		conn_greet(c);
		conn_settle(c);
	}
}

/* RFC 5321 4.3.1: a client waits for the greeting; what sends mail in bulk from stolen machines
 * often does not. */
static void spoke_too_early(struct conn *c)
{
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n > 0)
		send_away(c, SESS_WHY_EARLY);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		conn_kill(c, SESS_WHY_EOF);
}

/* ------------------------------------------------------------------ PROXY */

static void set_address(struct sockaddr_any *a, bool ipv6, const uint8_t *ip, uint16_t port)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	*a = (struct sockaddr_any){ .sa.sa_family = ipv6 ? AF_INET6 : AF_INET };
	if (ipv6 && memcmp(ip, mapped, sizeof(mapped)) != 0) {
		memcpy(&a->in6.sin6_addr, ip, 16);
		a->in6.sin6_port = htons(port);
		return;
	}
	a->sa.sa_family = AF_INET;
	memcpy(&a->in.sin_addr, ipv6 ? ip + 12 : ip, 4);
	a->in.sin_port = htons(port);
}

static void proxy_done(struct conn *c, const struct proxy_header *h)
{
	buf_done(&c->in);
	c->has_spoken = true; /* a second header is for the wire to refuse */
	if (h->known) {
		set_address(&c->peer, h->ipv6, h->source, h->source_port);
		set_address(&c->local, h->ipv6, h->target, h->target_port);
		char *text = (char *)c->wire + c->ops->size; /* conn_alloc() left room */
		sock_ip_text(&c->peer, text);
		c->env.peer_ip = span_str(text);
	}
	enum sess_why why = front_limits_peer(&c->loop->front->limits, c->settings->conf,
					      c->ops->proto, &c->peer, &c->limited);
	if (why == FRONT_WELCOME)
		begin(c);
	else
		send_away(c, why);
}

/* Takes what belongs to the header and not one byte more: what follows may be TLS's. */
static void proxy_read(struct conn *c)
{
	char *piece = c->loop->piece;
	struct proxy_header h;
	size_t had = c->in.n, used;
	ssize_t n = recv(c->fd, piece, PROXY_MAX - had, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_kill(c, SESS_WHY_EOF);
		return;
	}
	buf_put(&c->in, piece, (size_t)n);
	enum proxy_step step = proxy_parse(buf_span(&c->in), &used, &h);
	/* While the header is incomplete, all that came is part of it. */
	size_t take = step == PROXY_DONE ? used - had : (size_t)n;
	if (step == PROXY_BAD || recv(c->fd, piece, take, MSG_DONTWAIT) != (ssize_t)take) {
		front_note_refusal(c->loop->front, c->ops->name, &c->peer, SESS_WHY_PROXY);
		conn_kill(c, SESS_WHY_PROXY);
	} else if (step == PROXY_DONE) {
		proxy_done(c, &h);
	}
}

bool conn_first_bytes(struct conn *c, span in)
{
	enum proxy_step step = c->tls ? PROXY_BAD : proxy_begins(in);
	if (step == PROXY_DONE) {
		front_note_refusal(c->loop->front, c->ops->name, &c->peer, SESS_WHY_PROXY);
		conn_farewell(c, SESS_WHY_PROXY);
		return false;
	}
	c->has_spoken = step == PROXY_BAD && in.n > 0;
	return true;
}

/* ------------------------------------------------------------------ events */

void conn_arrival_ready(struct conn *c)
{
	if (c->state == CONN_PROXY)
		proxy_read(c);
	else
		spoke_too_early(c);
}

void conn_arrival_timeout(struct conn *c)
{
	if (c->state == CONN_PROXY) {
		front_note_refusal(c->loop->front, c->ops->name, &c->peer, SESS_WHY_PROXY);
		conn_kill(c, SESS_WHY_TIMEOUT);
		return;
	}
	conn_greet(c);
	conn_settle(c);
}

/* ------------------------------------------------------------------ birth */

/* One block: the connection, the wire's state, the peer's address as text. */
static struct conn *conn_alloc(const struct wire_ops *ops, const struct arrival *a)
{
	char ip[SOCK_TEXT];
	sock_ip_text(&a->peer, ip);
	size_t align = _Alignof(max_align_t), text_size = a->proxied ? SOCK_TEXT : strlen(ip) + 1;
	size_t wire_at = (sizeof(struct conn) + align - 1) & ~(align - 1);
	struct conn *c = xcalloc(1, wire_at + ops->size + text_size);
	c->wire = (char *)c + wire_at;
	char *text = (char *)c->wire + ops->size;
	strcpy(text, ip);
	c->env.peer_ip = span_str(text);
	c->ops = ops;
	return c;
}

void conn_new(struct front_loop *l, const struct arrival *a)
{
	struct conn *c = conn_alloc(front_wires[a->proto], a);
	c->loop = l;
	/* Unique in this process: the loop in the high bits. */
	c->id = (uint64_t)(l->number + 1) << 48 | ++l->last_id;
	c->fd = a->fd;
	c->settings = a->settings;
	c->implicit_tls = a->implicit_tls;
	c->limited = a->limited;
	c->peer = a->peer;
	c->local = a->local;
	c->born = clock_mono();
	/* Up to as much again as waits may have been taken but not yet moved away (take_input). */
	c->in = BUF_INIT(2 * c->ops->input_limit + READ_PIECE);
	c->env.hostname = c->settings->conf->hostname;
	c->env.proto = a->proto;
	c->env.tls = a->implicit_tls;
	c->env.tls_available = !a->implicit_tls && c->settings->tls && a->proto != SESS_PROTO_LOCAL;
	c->env.max_size = c->settings->conf->max_message;
	c->env.max_rcpts = c->settings->conf->max_rcpts;
	c->env.hold_max = c->settings->conf->submission_hold;
	c->env.opened = clock_wall();
	c->env.auth = sasl_allowed(c->settings->conf);
	idmap_put(l->conns, c->id, c);
	loop_timer_init(&c->timer, l->loop, conn_timeout, c);
	c->io = loop_io_add(l->loop, a->fd, LOOP_READ | LOOP_HUP, conn_io, c);
	if (!a->proxied) {
		begin(c);
		return;
	}
	c->state = CONN_PROXY;
	c->timed = TIMED_ARRIVAL;
	loop_timer_arm(&c->timer, PROXY_TIMEOUT);
}

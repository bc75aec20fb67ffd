/* Destinations (one for each route) and their connections. */
#include "relay/relay_int.h"

#include <stdlib.h>

struct destination *destination_get(struct relay *r, span route)
{
	struct destination *dest = map_get(r->destinations, route);
	char *copy;

	if (dest)
		return dest;
	dest = xcalloc(1, sizeof *dest);
	copy = span_dup(route);
	dest->route = span_of(copy, route.n);
	dest->waiting_tail = &dest->waiting;
	map_put(r->destinations, route, dest);
	return dest;
}

void destination_free_if_unused(struct relay *r, struct destination *dest)
{
	if (dest->open > 0 || dest->waiting)
		return;
	map_del(r->destinations, dest->route);
	free((char *)dest->route.p);
	free(dest);
}

void destination_wait(struct destination *dest, struct delivery *d)
{
	d->queue_next = NULL;
	*dest->waiting_tail = d;
	dest->waiting_tail = &d->queue_next;
	dest->n_waiting++;
}

static struct delivery *next_waiting(struct destination *dest)
{
	struct delivery *d = dest->waiting;

	if (!d)
		return NULL;
	dest->waiting = d->queue_next;
	if (!dest->waiting)
		dest->waiting_tail = &dest->waiting;
	dest->n_waiting--;
	d->queue_next = NULL;
	return d;
}

static void unlink_idle(struct conn *c)
{
	for (struct conn **p = &c->dest->idle; *p; p = &(*p)->next_idle)
		if (*p == c) {
			*p = c->next_idle;
			return;
		}
}

struct conn *destination_take_idle(struct destination *dest)
{
	struct conn *c = dest->idle;

	if (!c)
		return NULL;
	dest->idle = c->next_idle;
	loop_timer_stop(&c->idle_timer);
	return c;
}

static void idle_over(void *arg)
{
	conn_drop(arg);
}

struct conn *relay_conn_new(struct relay *r, struct destination *dest, struct delivery *d)
{
	struct conn *c = xcalloc(1, sizeof *c);

	c->relay = r;
	c->id = RELAY_ID_BASE | ++r->last_id;
	c->dest = dest;
	c->delivery = d;
	c->state = CONN_RESOLVING;
	loop_timer_init(&c->idle_timer, r->loop, idle_over, c);
	dest->open++;
	d->conn = c;
	idmap_put(r->conns, c->id, c);
	return c;
}

unsigned conn_serves(const struct conn *c)
{
	return c->peer.mail_max ? MIN(c->peer.mail_max, RELAY_SERVED_MAX) : RELAY_SERVED_MAX;
}

void conn_opened(struct conn *c, const struct relay_opened *o)
{
	free((char *)c->tls.p);
	c->open = true;
	c->tls = o->tls ? span_of(span_dup(o->tls_text), o->tls_text.n) : SPAN_NULL;
	c->peer = *o;
	c->peer.reply.text = c->peer.why = c->peer.tls_text = SPAN_NULL;
	c->peer.banner_host = c->peer.auth = SPAN_NULL;
}

void conn_hang_up(struct conn *c)
{
	if (c->open)
		conn_send(c, RELAY_CLOSE, SPAN_NULL, -1);
	c->open = false;
	c->served = 0;
}

int conn_send(struct conn *c, uint16_t type, span payload, int fd)
{
	return c->relay->out ? channel_send(c->relay->out, type, c->id, payload, fd) : ERR_CLOSED;
}

void conn_drop(struct conn *c)
{
	struct relay *r = c->relay;
	struct destination *dest = c->dest;
	struct delivery *next;

	if (c->state == CONN_IDLE)
		unlink_idle(c);
	conn_hang_up(c);
	loop_timer_stop(&c->idle_timer);
	idmap_del(r->conns, c->id);
	free((char *)c->remote.p);
	free((char *)c->tls.p);
	free(c);
	dest->open--;
	if (!r->out || r->stopping) { /* nobody else would wake them */
		while ((next = next_waiting(dest)))
			delivery_start_remote(next);
	} else if ((next = next_waiting(dest))) {
		delivery_start_remote(next); /* may free DEST, but not while another one waits */
		return;
	}
	destination_free_if_unused(r, dest);
}

void conn_free_next(struct conn *c)
{
	struct delivery *next;

	c->delivery = NULL;
	if (!c->open || c->served >= conn_serves(c) || c->relay->stopping) {
		c->state = CONN_RESOLVING; /* in no list */
		conn_drop(c);
		return;
	}
	next = next_waiting(c->dest);
	if (next) {
		c->delivery = next;
		next->conn = c;
		delivery_begin_send(next);
		return;
	}
	c->state = CONN_IDLE;
	c->next_idle = c->dest->idle;
	c->dest->idle = c;
	loop_timer_arm(&c->idle_timer, RELAY_IDLE);
}

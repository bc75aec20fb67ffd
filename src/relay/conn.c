/* Destinations (one for each route) and their connections. */
#include <stdlib.h>

#include "relay/flow_int.h"

/* --- destinations --- */

/* It has nothing to do now, but where it leads is worth knowing. */
static void rest(struct destination *dest, struct relay *r)
{
	struct flow *f = &r->flow;

	dest->unused_at = clock_mono();
	TAILQ_INSERT_TAIL(&f->unused, dest, unused);
	f->n_unused++;
	while ((dest = TAILQ_FIRST(&f->unused)) &&
	       (f->n_unused > RELAY_REMEMBERED_MAX ||
		dest->unused_at < clock_mono() - RELAY_REMEMBERED)) {
		map_del(r->destinations, dest->route);
		destination_free(dest);
	}
}

static bool unused(const struct destination *dest)
{
	return dest->open == 0 && !dest->held;
}

static void use(struct destination *dest)
{
	struct flow *f = &dest->relay->flow;

	if (!unused(dest))
		return;
	TAILQ_REMOVE(&f->unused, dest, unused);
	f->n_unused--;
}

struct destination *destination_get(struct relay *r, span route)
{
	struct destination *dest = map_get(r->destinations, route);
	char *copy;

	if (dest)
		return dest;
	dest = xcalloc(1, sizeof *dest);
	copy = span_dup(route);
	dest->relay = r;
	dest->route = span_of(copy, route.n);
	map_put(r->destinations, route, dest);
	rest(dest, r);
	return dest;
}

void destination_free(struct destination *dest)
{
	use(dest);
	if (dest->group)
		flow_forget(dest);
	free((char *)dest->route.p);
	free(dest);
}

void destination_hold(struct destination *dest)
{
	queue_hold_route(dest->relay->env->queue, dest->route);
	if (dest->held)
		return;
	use(dest);
	dest->held = true;
	flow_stand(dest);
}

void destination_resume(struct destination *dest)
{
	if (!dest->held)
		return;
	flow_step_out(dest);
	dest->held = false;
	queue_resume_route(dest->relay->env->queue, dest->route);
	if (unused(dest))
		rest(dest, dest->relay);
}

struct conn *destination_take_idle(struct destination *dest)
{
	struct conn *c;

	if (!dest->group)
		return NULL;
	TAILQ_FOREACH(c, &dest->group->idle, of_group)
	if (c->dest == dest)
		break;
	return c;
}

/* --- connections --- */

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
	use(dest);
	dest->open++;
	d->conn = c;
	idmap_put(r->conns, c->id, c);
	return c;
}

void conn_enter(struct conn *c, enum conn_state s)
{
	struct flow *f = &c->relay->flow;

	if (c->state == CONN_IDLE) {
		TAILQ_REMOVE(&f->idle, c, of_flow);
		TAILQ_REMOVE(&c->slot->idle, c, of_group);
		loop_timer_stop(&c->idle_timer);
	} else if (c->state == CONN_OPENING) {
		TAILQ_REMOVE(&f->opening, c, of_flow);
	}
	c->state = s;
	if (s == CONN_IDLE) {
		TAILQ_INSERT_TAIL(&f->idle, c, of_flow);
		TAILQ_INSERT_HEAD(&c->slot->idle, c, of_group);
		loop_timer_arm(&c->idle_timer, RELAY_IDLE);
	} else if (s == CONN_OPENING) {
		c->begun = clock_mono();
		TAILQ_INSERT_TAIL(&f->opening, c, of_flow);
	}
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

	conn_enter(c, CONN_RESOLVING); /* in no list */
	conn_hang_up(c);
	flow_leave(c);
	idmap_del(r->conns, c->id);
	free((char *)c->remote.p);
	free((char *)c->tls.p);
	free(c);
	dest->open--;
	if (dest->held && !dest->group && dest->open == 0)
		destination_resume(dest); /* it stands in no ring: nobody else would */
	else if (unused(dest))
		rest(dest, r);
}

void conn_free_next(struct conn *c)
{
	c->delivery = NULL;
	if (!c->open || c->served >= conn_serves(c) || c->relay->stopping || flow_wanted(c))
		conn_drop(c);
	else
		conn_enter(c, CONN_IDLE);
}

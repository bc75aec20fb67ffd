#include "relay/flow_int.h"

#include <stdlib.h>

#include "base/log.h"

/* Percent of the pool that groups of a kind may have together. */
static const unsigned share[GROUP_KINDS] = {
	[GROUP_PROVEN] = 100, [GROUP_UNKNOWN] = 75, [GROUP_SUSPECT] = 50
};

static void look(void *arg);
static void group_free(struct group *g);

/* --- room --- */

static unsigned pool_size(struct relay *r)
{
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(r);

	return MAX(conf->relay_connections, 1);
}

static bool pool_has_room(struct relay *r, enum group_kind kind)
{
	unsigned size = pool_size(r);

	return r->flow.open < size &&
	       r->flow.of_kind[kind] < MAX(size * (uint64_t)share[kind] / 100, 1);
}

static bool group_has_room(const struct group *g)
{
	return g->open < pace_allowed(&g->pace, g->cap);
}

static enum group_kind kind_of(const struct pace *p)
{
	if (p->failures > 0 || p->circuit != PACE_CLOSED)
		return GROUP_SUSPECT;
	return p->proven ? GROUP_PROVEN : GROUP_UNKNOWN;
}

/* Something about G changed: its kind, and whether it stands in the ring for the pool. */
static void update(struct group *g)
{
	struct flow *f = &g->relay->flow;
	enum group_kind kind = kind_of(&g->pace);
	bool wants = !TAILQ_EMPTY(&g->held) && group_has_room(g);

	if (g->wanting && (!wants || kind != g->kind)) {
		TAILQ_REMOVE(&f->wanting[g->kind], g, ring);
		g->wanting = false;
	}
	if (kind != g->kind)
		flow_wake(g->relay); /* the other kind's share has more room now */
	f->of_kind[g->kind] -= g->open;
	g->kind = kind;
	f->of_kind[kind] += g->open;
	if (!wants)
		return;
	if (!g->wanting)
		TAILQ_INSERT_TAIL(&f->wanting[kind], g, ring);
	g->wanting = true;
	flow_wake(g->relay);
}

/* --- slots --- */

/* Who waits comes before who may come. */
static void make_room_in(struct group *g)
{
	struct conn *idle = TAILQ_LAST(&g->idle, conn_list);

	if (idle && !group_has_room(g) && g->pace.circuit != PACE_OPEN)
		conn_drop(idle);
}

bool flow_take(struct conn *c, struct group *g)
{
	struct flow *f = &g->relay->flow;
	struct conn *idle;

	make_room_in(g);
	if (f->open >= pool_size(g->relay) && (idle = TAILQ_FIRST(&f->idle)))
		conn_drop(idle);
	if (!group_has_room(g) || !pool_has_room(g->relay, g->kind))
		return false;
	c->slot = g;
	f->open++;
	f->of_kind[g->kind]++;
	f->n_busy += g->open++ == 0;
	return true;
}

void flow_leave(struct conn *c)
{
	struct group *g = c->slot;

	if (!g)
		return;
	c->slot = NULL;
	c->relay->flow.open--;
	c->relay->flow.of_kind[g->kind]--;
	c->relay->flow.n_busy -= --g->open == 0;
	update(g);
	flow_wake(c->relay); /* others may wait for the pool */
	if (g->n_destinations == 0 && g->open == 0)
		group_free(g);
}

/* Does another destination of G wait than DEST? */
static bool others_wait(const struct group *g, const struct destination *dest)
{
	const struct destination *first = TAILQ_FIRST(&g->held);

	return first && (first != dest || TAILQ_NEXT(first, ring));
}

bool flow_may_begin(const struct destination *dest)
{
	if (!dest->group)
		return dest->open == 0; /* one finds out where it leads */
	return !others_wait(dest->group, dest);
}

static bool any_wants(const struct flow *f)
{
	for (unsigned kind = 0; kind < GROUP_KINDS; kind++)
		if (!TAILQ_EMPTY(&f->wanting[kind]))
			return true;
	return false;
}

bool flow_wanted(const struct conn *c)
{
	const struct group *g = c->slot;
	const struct flow *f = &c->relay->flow;

	if (!g || g->open > pace_allowed(&g->pace, g->cap))
		return true;
	if (!group_has_room(g) && others_wait(g, c->dest))
		return true;
	return f->open >= pool_size(c->relay) && any_wants(f);
}

bool flow_should_yield(const struct conn *c)
{
	const struct group *g = c->slot;
	unsigned fair;

	if (!flow_wanted(c))
		return false;
	if (!g || g->open > pace_allowed(&g->pace, g->cap) || c->served >= RELAY_TURN)
		return true;
	fair = pool_size(c->relay) / MAX(c->relay->flow.n_busy, 1);
	return c->relay->flow.open >= pool_size(c->relay) && g->open > MAX(fair, 1);
}

/* --- who is next --- */

void flow_wake(struct relay *r)
{
	loop_timer_arm(&r->flow.wake, 0);
}

/* Makes room in a full pool; false: not now. */
static bool make_room(struct relay *r)
{
	struct conn *c = TAILQ_FIRST(&r->flow.idle);
	usec left;

	if (c) {
		conn_drop(c);
		return true;
	}
	c = TAILQ_FIRST(&r->flow.opening);
	if (!c)
		return false;
	left = c->begun + RELAY_SILENCE - clock_mono();
	if (left > 0) {
		loop_timer_arm(&r->flow.wake, left);
		return false;
	}
	delivery_too_silent(c->delivery);
	return false; /* its settlement frees the slot */
}

/* Gives G's next destination a slot. */
static void grant(struct group *g)
{
	struct destination *dest = TAILQ_FIRST(&g->held);
	struct conn *c = relay_conn_new(g->relay, dest, delivery_new(g->relay));

	TAILQ_REMOVE(&g->held, dest, ring);
	TAILQ_INSERT_TAIL(&g->held, dest, ring);
	/* To the end of its ring, if it stays in one. */
	TAILQ_REMOVE(&g->relay->flow.wanting[g->kind], g, ring);
	g->wanting = false;
	if (flow_take(c, g)) {
		delivery_fetch(c);
	} else { /* the configuration allows less than it did */
		delivery_free(c->delivery);
		conn_drop(c);
	}
	update(g);
}

/* The first of a ring that may have a slot; the rings take turns. */
static struct group *next_group(struct relay *r)
{
	struct flow *f = &r->flow;

	for (unsigned i = 0; i < GROUP_KINDS; i++) {
		unsigned kind = (f->turn + i) % GROUP_KINDS;

		if (TAILQ_EMPTY(&f->wanting[kind]) || !pool_has_room(r, (enum group_kind)kind))
			continue;
		f->turn = kind + 1;
		return TAILQ_FIRST(&f->wanting[kind]);
	}
	return NULL;
}

static void look(void *arg)
{
	struct relay *r = arg;
	struct flow *f = &r->flow;
	struct group *g;

	if (!r->out || r->stopping)
		return;
	while (any_wants(f) && f->open >= pool_size(r) && make_room(r))
		;
	while (relay_may_lease(r) && (g = next_group(r)))
		grant(g);
}

/* --- groups --- */

static void tell_change(struct group *g, struct destination *dest, struct delivery *d)
{
	static const char *const words[] = {
		[PACE_CLOSED] = "closed", [PACE_OPEN] = "open", [PACE_PROBING] = "probing"
	};
	const char *state = words[g->pace.circuit];
	struct event *e;
	usec in = MAX(g->pace.until - clock_mono(), 0) / USEC_SEC;

	log_event(g->pace.circuit == PACE_OPEN ? LOG_WARNING : LOG_NOTICE, "relay.circuit",
		  F_STR("state", state), F_SPAN("route", dest ? dest->route : SPAN_NULL),
		  F_SPAN("group", g->keys[0]), F_U64("seconds", (uint64_t)in),
		  F_SPAN("why", g->why));
	if (!d)
		return;
	e = event_note(&d->events, "relay.circuit");
	event_str(e, "state", state, &d->mem);
	event_span(e, "group", g->keys[0], &d->mem);
}

static void cooled(void *arg)
{
	struct group *g = arg;

	if (pace_probe(&g->pace, clock_mono()))
		tell_change(g, TAILQ_FIRST(&g->held), NULL);
	else
		loop_timer_arm(&g->cool, MAX(g->pace.until - clock_mono(), USEC_MSEC));
	update(g);
}

void flow_probe_all(struct relay *r)
{
	size_t it = 0;
	span key;
	void *v;

	while (map_next(r->flow.groups, &it, &key, &v)) {
		struct group *g = v;

		if (g->pace.circuit != PACE_OPEN)
			continue;
		g->pace.until = clock_mono();
		loop_timer_stop(&g->cool);
		cooled(g);
	}
}

static struct group *group_new(struct relay *r, const span *keys, size_t n_keys)
{
	struct group *g = xcalloc(1, sizeof *g);

	g->relay = r;
	g->kind = GROUP_UNKNOWN;
	pace_init(&g->pace);
	TAILQ_INIT(&g->idle);
	TAILQ_INIT(&g->held);
	loop_timer_init(&g->cool, r->loop, cooled, g);
	for (size_t i = 0; i < n_keys; i++) {
		if (map_get(r->flow.groups, keys[i]))
			continue;
		g->keys[g->n_keys++] = span_of(span_dup(keys[i]), keys[i].n);
		map_put(r->flow.groups, keys[i], g);
	}
	return g;
}

static void group_free(struct group *g)
{
	loop_timer_stop(&g->cool);
	for (size_t i = 0; i < g->n_keys; i++) {
		map_del(g->relay->flow.groups, g->keys[i]);
		free((char *)g->keys[i].p);
	}
	free((char *)g->why.p);
	free(g);
}

struct group *flow_join(struct destination *dest, const span *keys, size_t n_keys)
{
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(dest->relay);
	struct group *g = NULL;

	for (size_t i = 0; i < n_keys && !g; i++)
		g = map_get(dest->relay->flow.groups, keys[i]);
	if (!g)
		g = group_new(dest->relay, keys, n_keys);
	g->cap = conf->relay_per_destination;
	if (g == dest->group)
		return g;
	g->n_destinations++;
	if (dest->held && dest->group)
		flow_step_out(dest);
	if (dest->group)
		flow_forget(dest);
	dest->group = g;
	if (dest->held)
		flow_stand(dest);
	return g;
}

void flow_forget(struct destination *dest)
{
	struct group *g = dest->group;

	dest->group = NULL;
	if (--g->n_destinations == 0 && g->open == 0)
		group_free(g);
}

void flow_stand(struct destination *dest)
{
	if (!dest->group)
		return;
	TAILQ_INSERT_TAIL(&dest->group->held, dest, ring);
	make_room_in(dest->group);
	update(dest->group);
}

void flow_step_out(struct destination *dest)
{
	if (!dest->group)
		return;
	TAILQ_REMOVE(&dest->group->held, dest, ring);
	update(dest->group);
}

/* --- feedback --- */

void flow_succeeded(struct delivery *d)
{
	struct conn *c = d->conn;

	if (!c->slot)
		return;
	if (pace_success(&c->slot->pace, c->slot->cap)) {
		loop_timer_stop(&c->slot->cool);
		tell_change(c->slot, c->dest, d);
	}
	update(c->slot);
}

void flow_failed(struct delivery *d, span why)
{
	struct conn *c = d->conn;
	struct group *g = c->slot;
	usec now = clock_mono();

	if (!g)
		return;
	free((char *)g->why.p);
	g->why = span_of(span_dup(why), why.n);
	if (pace_failure(&g->pace, c->begun, now, random_u64())) {
		loop_timer_arm(&g->cool, g->pace.until - now);
		tell_change(g, c->dest, d);
	}
	d->sweep = g->pace.circuit == PACE_OPEN;
	update(g);
}

/* --- life --- */

void flow_init(struct relay *r)
{
	struct flow *f = &r->flow;

	f->groups = map_new();
	for (unsigned kind = 0; kind < GROUP_KINDS; kind++)
		TAILQ_INIT(&f->wanting[kind]);
	TAILQ_INIT(&f->idle);
	TAILQ_INIT(&f->opening);
	TAILQ_INIT(&f->unused);
	loop_timer_init(&f->wake, r->loop, look, r);
}

void flow_done(struct relay *r)
{
	size_t it = 0;
	span key;
	void *v;

	loop_timer_stop(&r->flow.wake);
	while (map_next(r->destinations, &it, &key, &v)) {
		struct destination *dest = v;

		if (dest->held)
			flow_step_out(dest);
		if (dest->group)
			flow_forget(dest);
		free((char *)dest->route.p);
		free(dest);
	}
	loop_timer_stop(&r->flow.wake);
	map_free(r->flow.groups);
}

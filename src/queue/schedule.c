#include "queue/queue_int.h"

#include <assert.h>
#include <stdlib.h>

/* Waiting groups are in one heap until they are due, by time; then, as ready, in two: all, and
 * those of their route, both by rank.  So nothing that is done with what is due looks at what is
 * not, however much that is. */

/* What one step of priority counts for: as much as to wait for so long.  It lets an urgent message
 * pass all others that are due, and keeps the least urgent from waiting behind a stream of more
 * urgent ones for more than 18 times that (RFC 6710 section 5.1). */
#define STEP_OF_PRIORITY (30 * 60 * USEC_SEC)
/* Groups made ready at once, so that no call takes long. */
enum { READY_AT_ONCE = 500 };

/* ------------------------------------------------------------------ a binary heap */

static void place(struct heap *h, uint32_t i, struct group *g)
{
	h->v[i] = g;
	g->at[h->which] = i;
}

/* The message's id starts with the time of its acceptance. */
static int by_age(const struct group *a, const struct group *b)
{
	return memcmp(a->m->id.b, b->m->id.b, sizeof(a->m->id.b));
}

static bool due_before(const struct group *a, const struct group *b)
{
	return a->due != b->due ? a->due < b->due : by_age(a, b) < 0;
}

static usec rank(const struct group *g)
{
	return g->due - g->priority * STEP_OF_PRIORITY;
}

static bool ranks_before(const struct group *a, const struct group *b)
{
	usec x = rank(a), y = rank(b);
	return x != y ? x < y : by_age(a, b) < 0;
}

static void rise(struct heap *h, uint32_t i)
{
	struct group *g = h->v[i];
	while (i > 0 && h->before(g, h->v[(i - 1) / 2])) {
		place(h, i, h->v[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(h, i, g);
}

static void sink(struct heap *h, uint32_t i)
{
	struct group *g = h->v[i];
	for (;;) {
		uint32_t child = 2 * i + 1;
		if (child + 1 < h->n && h->before(h->v[child + 1], h->v[child]))
			child++;
		if (child >= h->n || !h->before(h->v[child], g))
			break;
		place(h, i, h->v[child]);
		i = child;
	}
	place(h, i, g);
}

static void heap_add(struct heap *h, struct group *g)
{
	if (h->n == h->cap) {
		h->cap = h->cap ? h->cap * 2 : 4;
		h->v = xrealloc(h->v, h->cap * sizeof(struct group *));
	}
	place(h, h->n++, g);
	rise(h, h->n - 1);
}

static void heap_del(struct heap *h, struct group *g)
{
	uint32_t i = g->at[h->which];
	assert(i < h->n && h->v[i] == g);
	struct group *last = h->v[--h->n];
	if (last != g) {
		place(h, i, last);
		rise(h, i);
		sink(h, last->at[h->which]);
	}
}

/* ------------------------------------------------------------------ groups */

static struct route *route_get(struct queue *q, span text)
{
	struct route *r = map_get(q->routes, text);
	if (!r) {
		r = xcalloc(1, sizeof(*r));
		r->text = span_of(span_dup(text), text.n);
		r->ready = (struct heap){ .which = HEAP_ROUTE, .before = ranks_before };
		map_put(q->routes, text, r);
	}
	r->refs++;
	return r;
}

static void route_put(struct queue *q, struct route *r)
{
	if (--r->refs > 0)
		return;
	map_del(q->routes, r->text);
	free((void *)r->text.p);
	free(r->ready.v);
	free(r);
}

static void make_ready(struct queue *q, struct group *g)
{
	g->ready = true;
	if (g->route->held)
		g->at[HEAP_ALL] = SET_ASIDE;
	else
		heap_add(&q->ready, g);
	heap_add(&g->route->ready, g);
}

static void wait_in_heaps(struct queue *q, struct group *g)
{
	g->ready = false;
	if (g->held)
		return;
	if (g->due <= clock_wall())
		make_ready(q, g);
	else
		heap_add(&q->later, g);
}

static void leave_heaps(struct queue *q, struct group *g)
{
	if (g->held)
		return;
	if (!g->ready) {
		heap_del(&q->later, g);
		return;
	}
	if (g->at[HEAP_ALL] != SET_ASIDE)
		heap_del(&q->ready, g);
	heap_del(&g->route->ready, g);
}

void schedule_init(struct queue *q)
{
	q->later = (struct heap){ .which = HEAP_ALL, .before = due_before };
	q->ready = (struct heap){ .which = HEAP_ALL, .before = ranks_before };
	q->messages = idmap_new();
	q->leases = idmap_new();
	q->routes = map_new();
}

struct group *schedule_add(struct queue *q, const struct waiting *w)
{
	uint64_t name = message_name(w->shard, w->message);
	struct message *m = idmap_get(q->messages, name);
	if (!m) {
		m = xcalloc(1, sizeof(*m));
		*m = (struct message){ .id = *w->id, .row = w->message, .shard = w->shard };
		idmap_put(q->messages, name, m);
	}
	struct group *g = xmalloc(sizeof(*g) + w->n * sizeof(g->rows[0]));
	*g = (struct group){ .m = m,
			     .route = route_get(q, w->route),
			     .next = m->groups,
			     .due = w->due,
			     .n = (uint32_t)w->n,
			     .priority = w->priority,
			     .fixed = w->fixed,
			     .held = w->held };
	memcpy(g->rows, w->rows, w->n * sizeof(g->rows[0]));
	m->groups = g;
	q->n_rcpts += w->n;
	wait_in_heaps(q, g);
	return g;
}

/* False: nothing more has become due. */
static bool take_due(struct queue *q, usec now)
{
	unsigned n = 0;
	for (; n < READY_AT_ONCE && q->later.n && q->later.v[0]->due <= now; n++) {
		struct group *g = q->later.v[0];
		heap_del(&q->later, g);
		make_ready(q, g);
	}
	return n > 0;
}

static struct group *first_ready(struct queue *q)
{
	while (q->ready.n && q->ready.v[0]->route->held) {
		struct group *g = q->ready.v[0];
		heap_del(&q->ready, g);
		g->at[HEAP_ALL] = SET_ASIDE;
	}
	return q->ready.n ? q->ready.v[0] : NULL;
}

struct group *schedule_first(struct queue *q, usec now, usec *ret_next)
{
	struct group *g;
	bool more;
	do {
		more = take_due(q, now);
		g = first_ready(q);
	} while (!g && more);
	if (!g)
		*ret_next = q->later.n ? q->later.v[0]->due : 0;
	return g;
}

struct group *schedule_first_of(struct queue *q, span route, usec now)
{
	take_due(q, now);
	const struct route *r = map_get(q->routes, route);
	return r && r->ready.n ? r->ready.v[0] : NULL;
}

void schedule_resume(struct queue *q, struct route *r)
{
	r->held = false;
	for (uint32_t i = 0; i < r->ready.n; i++)
		if (r->ready.v[i]->at[HEAP_ALL] == SET_ASIDE)
			heap_add(&q->ready, r->ready.v[i]);
}

void schedule_lease(struct queue *q, struct group *g)
{
	leave_heaps(q, g);
	g->lease = ++q->last_lease;
	idmap_put(q->leases, g->lease, g);
	q->n_leased += g->n;
}

void schedule_unlease(struct queue *q, struct group *g, usec due)
{
	idmap_del(q->leases, g->lease);
	g->lease = 0;
	g->due = due;
	q->n_leased -= g->n;
	wait_in_heaps(q, g);
}

void schedule_remove(struct queue *q, struct group *g)
{
	struct message *m = g->m;
	if (g->lease) {
		idmap_del(q->leases, g->lease);
		q->n_leased -= g->n;
	} else {
		leave_heaps(q, g);
	}
	struct group **p = &m->groups;
	while (*p != g)
		p = &(*p)->next;
	*p = g->next;
	q->n_rcpts -= g->n;
	route_put(q, g->route);
	free(g);
	if (!m->groups) {
		idmap_del(q->messages, message_name(m->shard, m->row));
		free(m);
	}
}

void schedule_take_row(struct queue *q, struct group *g, int64_t row)
{
	for (uint32_t i = 0; i < g->n; i++) {
		if (g->rows[i] != row)
			continue;
		if (g->n == 1) {
			schedule_remove(q, g);
			return;
		}
		g->rows[i] = g->rows[--g->n];
		q->n_rcpts--;
		return;
	}
}

struct group *schedule_find(struct queue *q, unsigned shard, int64_t message, int64_t row)
{
	const struct message *m = idmap_get(q->messages, message_name(shard, message));
	for (struct group *g = m ? m->groups : NULL; g; g = g->next)
		for (uint32_t i = 0; i < g->n; i++)
			if (g->rows[i] == row)
				return g;
	return NULL;
}

usec schedule_latest(const struct queue *q, usec now)
{
	return now + retry_longest(&q->conf);
}

/* From the bottom up, and each only down: what is above is in no order yet. */
static void order(struct heap *h)
{
	for (uint32_t i = h->n / 2; i-- > 0;)
		sink(h, i);
}

/* After the wall clock jumped back, what the schedule put a few hours ahead would wait for the
 * whole jump.  Nothing but a time the caller asked for may lie further ahead than the longest
 * delay, and what was due is due. */
void schedule_clamp(struct queue *q, usec now)
{
	usec latest = schedule_latest(q, now);
	void *v;
	for (uint32_t i = 0; i < q->later.n; i++)
		if (!q->later.v[i]->fixed)
			q->later.v[i]->due = MIN(q->later.v[i]->due, latest);
	order(&q->later);
	for (size_t it = 0; map_next(q->routes, &it, NULL, &v);) {
		struct heap *h = &((struct route *)v)->ready;
		for (uint32_t i = 0; i < h->n; i++)
			h->v[i]->due = MIN(h->v[i]->due, now);
		order(h);
	}
	order(&q->ready);
}

void schedule_free(struct queue *q)
{
	uint64_t name;
	void *v;
	for (size_t it = 0; idmap_next(q->messages, &it, &name, &v);) {
		struct message *m = v;
		for (struct group *g = m->groups, *next; g; g = next) {
			next = g->next;
			free(g);
		}
		free(m);
	}
	for (size_t it = 0; map_next(q->routes, &it, NULL, &v);) {
		struct route *r = v;
		free((void *)r->text.p);
		free(r->ready.v);
		free(r);
	}
	free(q->later.v);
	free(q->ready.v);
	idmap_free(q->messages);
	idmap_free(q->leases);
	map_free(q->routes);
}

void schedule_unlock(struct queue *q)
{
	bool call = q->armed && q->on_due &&
		    (q->ready.n || (q->later.n && (q->told == 0 || q->later.v[0]->due < q->told)));
	if (call)
		q->armed = false;
	void (*fn)(void *) = q->on_due;
	void *arg = q->on_due_arg;
	pthread_mutex_unlock(&q->lock);
	if (call)
		fn(arg);
}

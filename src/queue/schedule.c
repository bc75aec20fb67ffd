#include "queue/queue_int.h"

#include <assert.h>
#include <stdlib.h>

/* ------------------------------------------------------------------ a binary heap by due time */

static void place(struct heap *h, uint32_t i, struct group *g)
{
	h->v[i] = g;
	g->at[h->which] = i;
}

/* Groups due at once go in the order of their acceptance: the message's id starts with the time. */
static bool before(const struct group *a, const struct group *b)
{
	return a->due != b->due ? a->due < b->due
				: memcmp(a->m->id.b, b->m->id.b, sizeof(a->m->id.b)) < 0;
}

static void sift(struct heap *h, uint32_t i)
{
	struct group *g = h->v[i];
	while (i > 0 && before(g, h->v[(i - 1) / 2])) {
		place(h, i, h->v[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		uint32_t child = 2 * i + 1;
		if (child + 1 < h->n && before(h->v[child + 1], h->v[child]))
			child++;
		if (child >= h->n || !before(h->v[child], g))
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
	sift(h, h->n - 1);
}

static void heap_del(struct heap *h, struct group *g)
{
	uint32_t i = g->at[h->which];
	assert(i < h->n && h->v[i] == g);
	struct group *last = h->v[--h->n];
	if (last != g) {
		place(h, i, last);
		sift(h, i);
	}
}

/* ------------------------------------------------------------------ groups */

static struct route *route_get(struct queue *q, span text)
{
	struct route *r = map_get(q->routes, text);
	if (!r) {
		r = xcalloc(1, sizeof(*r));
		r->text = span_of(span_dup(text), text.n);
		r->heap.which = HEAP_ROUTE;
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
	free(r->heap.v);
	free(r);
}

static void wait_in_heaps(struct queue *q, struct group *g)
{
	if (g->held)
		return;
	if (g->route->held)
		g->at[HEAP_ALL] = SET_ASIDE;
	else
		heap_add(&q->due, g);
	heap_add(&g->route->heap, g);
}

static void leave_heaps(struct queue *q, struct group *g)
{
	if (g->held)
		return;
	if (g->at[HEAP_ALL] != SET_ASIDE)
		heap_del(&q->due, g);
	heap_del(&g->route->heap, g);
}

struct group *schedule_add(struct queue *q, unsigned shard, int64_t message, const struct id *id,
			   span route, usec due, bool fixed, bool held, const int64_t *rows,
			   size_t n)
{
	struct message *m = idmap_get(q->messages, message_name(shard, message));
	if (!m) {
		m = xcalloc(1, sizeof(*m));
		*m = (struct message){ .id = *id, .row = message, .shard = shard };
		idmap_put(q->messages, message_name(shard, message), m);
	}
	struct group *g = xmalloc(sizeof(*g) + n * sizeof(g->rows[0]));
	*g = (struct group){ .m = m,
			     .route = route_get(q, route),
			     .next = m->groups,
			     .due = due,
			     .n = (uint32_t)n,
			     .fixed = fixed,
			     .held = held };
	memcpy(g->rows, rows, n * sizeof(g->rows[0]));
	m->groups = g;
	q->n_rcpts += n;
	wait_in_heaps(q, g);
	return g;
}

struct group *schedule_first(struct queue *q)
{
	while (q->due.n && q->due.v[0]->route->held) {
		struct group *g = q->due.v[0];
		heap_del(&q->due, g);
		g->at[HEAP_ALL] = SET_ASIDE;
	}
	return q->due.n ? q->due.v[0] : NULL;
}

void schedule_resume(struct queue *q, struct route *r)
{
	r->held = false;
	for (uint32_t i = 0; i < r->heap.n; i++)
		if (r->heap.v[i]->at[HEAP_ALL] == SET_ASIDE)
			heap_add(&q->due, r->heap.v[i]);
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

/* After the wall clock jumped back, what the schedule put a few hours ahead would wait for the
 * whole jump.  Nothing but a time the caller asked for may lie further ahead than the longest
 * delay. */
void schedule_clamp(struct queue *q, usec now)
{
	usec latest = schedule_latest(q, now);
	void *v;
	/* Cutting all that is above a bound down to it keeps the order of a heap, but for ties. */
	for (size_t it = 0; map_next(q->routes, &it, NULL, &v);) {
		struct heap *h = &((struct route *)v)->heap;
		for (uint32_t i = 0; i < h->n; i++)
			if (!h->v[i]->fixed && h->v[i]->due > latest)
				h->v[i]->due = latest;
		for (uint32_t i = h->n / 2; i-- > 0;)
			sift(h, i);
	}
	for (uint32_t i = q->due.n / 2; i-- > 0;)
		sift(&q->due, i);
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
		free(r->heap.v);
		free(r);
	}
	free(q->due.v);
	idmap_free(q->messages);
	idmap_free(q->leases);
	map_free(q->routes);
}

void schedule_unlock(struct queue *q)
{
	bool call = q->armed && q->on_due && q->due.n &&
		    (q->told == 0 || q->due.v[0]->due < q->told);
	if (call)
		q->armed = false;
	void (*fn)(void *) = q->on_due;
	void *arg = q->on_due_arg;
	pthread_mutex_unlock(&q->lock);
	if (call)
		fn(arg);
}

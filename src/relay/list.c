/* What the runner knows about its destinations, for threads that are not the loop's. */
#include <stdlib.h>

#include "relay/flow_int.h"

#define PATIENCE_S 5

/* Asked for by one thread, filled by the loop; the last of both frees it. */
struct listing {
	struct relay *relay;
	pthread_mutex_t lock;
	pthread_cond_t filled;
	bool done, left; /* the loop has filled it; who asked has gone */
	struct arena mem;
	struct relay_destination *rows;
	size_t n;
};

static void listing_free(struct listing *l)
{
	pthread_cond_destroy(&l->filled);
	pthread_mutex_destroy(&l->lock);
	arena_done(&l->mem);
	free(l);
}

static void copy(const struct destination *dest, struct arena *mem, struct relay_destination *ret)
{
	static const char *const words[] = {
		[PACE_CLOSED] = "ok", [PACE_OPEN] = "cooled down", [PACE_PROBING] = "probing"
	};
	const struct group *g = dest->group;

	*ret = (struct relay_destination){ .route = arena_span(mem, dest->route),
					   .state = g ? words[g->pace.circuit] : "resolving",
					   .open = dest->open,
					   .waits = dest->held };
	if (!g)
		return;
	ret->group = arena_span(mem, g->keys[0]);
	ret->group_open = g->open;
	ret->limit = pace_allowed(&g->pace, g->cap);
	if (g->pace.circuit != PACE_CLOSED || g->pace.failures > 0)
		ret->why = arena_span(mem, g->why);
	if (g->pace.circuit == PACE_OPEN)
		ret->cooled_for = MAX(g->pace.until - clock_mono(), 0);
}

static bool notable(const struct destination *dest)
{
	return dest->open > 0 || dest->held ||
	       (dest->group &&
		(dest->group->pace.circuit != PACE_CLOSED || dest->group->pace.failures > 0));
}

static void fill(void *arg)
{
	struct listing *l = arg;
	size_t it = 0;
	span key;
	void *v;
	bool left;

	l->rows = arena_array(&l->mem, struct relay_destination,
			      map_count(l->relay->destinations) + 1);
	while (map_next(l->relay->destinations, &it, &key, &v))
		if (notable(v))
			copy(v, &l->mem, &l->rows[l->n++]);
	pthread_mutex_lock(&l->lock);
	l->done = true;
	left = l->left;
	pthread_cond_signal(&l->filled);
	pthread_mutex_unlock(&l->lock);
	if (left)
		listing_free(l);
}

int relay_destinations(struct relay *r, void (*fn)(void *arg, const struct relay_destination *d),
		       void *arg)
{
	struct listing *l = xcalloc(1, sizeof *l);
	struct timespec until;
	int e = 0;

	l->relay = r;
	arena_init(&l->mem);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->filled, NULL);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	loop_post(r->loop, fill, l);
	pthread_mutex_lock(&l->lock);
	while (!l->done && e == 0)
		e = pthread_cond_timedwait(&l->filled, &l->lock, &until);
	l->left = !l->done;
	pthread_mutex_unlock(&l->lock);
	if (l->left)
		return ERR_TIMEOUT; /* the loop frees it */
	for (size_t i = 0; i < l->n; i++)
		fn(arg, &l->rows[i]);
	listing_free(l);
	return 0;
}

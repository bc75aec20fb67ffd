/* What all sessions together hold for their peers: input not taken yet, half a body, output not
 * sent.  Each loop has an equal share of limits.memory and looks after it alone; the peers are
 * spread evenly.  Past three quarters of it somebody new is refused, past all of it nobody needs to
 * come: both times the loop closes those of its sessions that hold most, until half of the share is
 * free; so that nobody can keep others out by holding much for long. */
#include "role/front_int.h"

/* Sessions are sorted by the power of two of what they hold. */
#define CLASSES 40

size_t front_memory_share(const struct front *f)
{
	return atomic_load_explicit(&f->memory, memory_order_relaxed) / f->n_loops;
}

static unsigned class_of(size_t n)
{
	unsigned c = 0;
	while (n > 1 && c < CLASSES - 1) {
		n /= 2;
		c++;
	}
	return c;
}

/* The least class from which on all must go, so that N bytes come free. */
static unsigned least_class(const struct front_loop *l, size_t n)
{
	size_t sum[CLASSES] = { 0 }, it = 0, got = 0;
	unsigned class = CLASSES;
	void *v;
	while (idmap_next(l->conns, &it, NULL, &v)) {
		const struct conn *c = v;
		sum[class_of(c->held)] += c->held;
	}
	while (class > 1 && got < n)
		got += sum[--class];
	return class;
}

/* Two passes over the sessions, however many have to go. */
static void reclaim(void *arg)
{
	struct front_loop *l = arg;
	size_t goal = front_memory_share(l->front) / 2, it = 0;
	void *v;
	atomic_store(&l->reclaiming, false);
	if (l->held <= goal)
		return;
	unsigned least = least_class(l, l->held - goal);
	while (l->held > goal && idmap_next(l->conns, &it, NULL, &v)) {
		struct conn *c = v;
		if (class_of(c->held) < least)
			continue;
		front_note_refusal(l->front, c->ops->name, &c->peer, SESS_WHY_MEMORY);
		conn_kill(c, SESS_WHY_MEMORY);
		conn_release_memory(c);
	}
}

static void ask_reclaim(struct front_loop *l)
{
	if (!atomic_exchange(&l->reclaiming, true))
		loop_post(l->loop, reclaim, l);
}

bool front_memory_short(struct front *f)
{
	size_t share = front_memory_share(f);
	bool is_short = false;
	for (size_t i = 0; i < f->n_loops; i++) {
		struct front_loop *l = f->loops[i];
		if (atomic_load_explicit(&l->held, memory_order_relaxed) <= share - share / 4)
			continue;
		ask_reclaim(l);
		is_short = true;
	}
	return is_short;
}

void front_memory_count(struct conn *c, size_t held)
{
	struct front_loop *l = c->loop;
	size_t now = atomic_load_explicit(&l->held, memory_order_relaxed) + held - c->held;
	atomic_store_explicit(&l->held, now, memory_order_relaxed); /* only this loop writes */
	c->held = (uint32_t)held;
	if (now > front_memory_share(l->front))
		ask_reclaim(l);
}

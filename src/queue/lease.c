#include "queue/queue_int.h"

/* Less than this between the wall and the monotonic clock is slewing, not a jump. */
static const usec jump = 60 * USEC_SEC;

struct queue_terms terms_read(struct db_stmt *s, int64_t flags, int deliver_by, int priority)
{
	return (struct queue_terms){ .deliver_by = db_col_i64(s, deliver_by),
				     .priority = (int8_t)db_col_i64(s, priority),
				     .require_tls = flags & FLAG_REQUIRE_TLS,
				     .by_return = flags & FLAG_BY_RETURN,
				     .by_trace = flags & FLAG_BY_TRACE };
}

static int read_message(struct db_tx *tx, const struct message *m, struct arena *mem,
			struct queue_lease *l)
{
	struct db_stmt *s = db_sql(
		tx,
		"SELECT sender, envid, size, flags, accepted_at, deliver_by, priority, held_until"
		" FROM message WHERE row = ?");
	db_bind(s, "i", m->row);
	int r = db_step(s);
	if (r <= 0)
		return r;
	int64_t flags = db_col_i64(s, 3);
	l->sender = arena_span(mem, db_col_span(s, 0));
	l->envid = arena_span(mem, db_col_span(s, 1));
	l->size = (uint64_t)db_col_i64(s, 2);
	l->smtputf8 = flags & FLAG_SMTPUTF8;
	l->body_8bit = flags & FLAG_8BIT;
	l->is_dsn = flags & FLAG_DSN;
	l->ret_full = flags & FLAG_RET_FULL;
	l->ret_hdrs = flags & FLAG_RET_HDRS;
	l->accepted_at = db_col_i64(s, 4);
	l->terms = terms_read(s, flags, 5, 6);
	l->held_until = db_col_i64(s, 7);
	db_reset(s);
	return 1;
}

static int read_rcpt(struct db_tx *tx, int64_t row, struct arena *mem, struct queue_rcpt *ret)
{
	struct db_stmt *s = db_sql(
		tx, "SELECT address, original, key, attempts, notify, reply, warned FROM recipient"
		    " WHERE row = ? AND state = 0");
	db_bind(s, "i", row);
	int r = db_step(s);
	if (r <= 0)
		return r;
	span key = db_col_span(s, 2);
	*ret = (struct queue_rcpt){ .row = row,
				    .address = arena_span(mem, db_col_span(s, 0)),
				    .original = arena_span(mem, db_col_span(s, 1)),
				    .attempts = (unsigned)db_col_i64(s, 3),
				    .notify = (unsigned)db_col_i64(s, 4),
				    .last_reply = arena_span(mem, db_col_span(s, 5)),
				    .warned = db_col_i64(s, 6) != 0 };
	memcpy(ret->key, key.p, MIN(key.n, sizeof(ret->key)));
	db_reset(s);
	return 1;
}

/* Reads what the leased group G stands for; nobody else touches G meanwhile.  0: its rows are gone.
 */
static int read_group(struct queue *q, const struct group *g, struct arena *mem,
		      struct queue_lease *ret)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	struct queue_lease l = { .lease_id = g->lease,
				 .id = g->m->id,
				 .shard = g->m->shard,
				 .message_row = g->m->row,
				 .route = arena_span(mem, g->route->text) };
	/* Without a healthy database the results could not be kept either. */
	int r = shard_healthy(&q->shard[l.shard]);
	if (r >= 0)
		r = db_read_begin(q->shard[l.shard].db, &tx);
	if (r >= 0)
		r = read_message(tx, g->m, mem, &l);
	if (r <= 0)
		return r;
	l.rcpts = arena_array(mem, struct queue_rcpt, g->n);
	for (uint32_t i = 0; i < g->n; i++) {
		r = read_rcpt(tx, g->rows[i], mem, &l.rcpts[l.n_rcpts]);
		if (r < 0)
			return r;
		l.n_rcpts += (size_t)r;
	}
	if (l.n_rcpts == 0)
		return 0;
	*ret = l;
	return 1;
}

int lease_read(struct queue *q, struct group *g, struct arena *mem, struct queue_lease *ret)
{
	usec warn_after = q->conf.warn_after;
	pthread_mutex_unlock(&q->lock);
	int r = read_group(q, g, mem, ret);
	if (r > 0) {
		ret->leased_at = clock_wall();
		usec by = ret->terms.by_return ? 0 : ret->terms.deliver_by;
		ret->warn_at = warn_after ? MAX(ret->accepted_at, ret->held_until) + warn_after : 0;
		if (by && (!ret->warn_at || by < ret->warn_at))
			ret->warn_at = by;
	}
	pthread_mutex_lock(&q->lock);
	if (r == 0)
		schedule_remove(q, g);
	else if (r < 0)
		schedule_unlease(q, g, clock_wall() + SICK_DELAY);
	return r;
}

static int take(struct queue *q, struct group *g, struct arena *mem, struct queue_lease *ret)
{
	schedule_lease(q, g);
	return lease_read(q, g, mem, ret);
}

static void notice_jump(struct queue *q, usec now)
{
	usec diff = now - clock_mono(), moved = diff - q->wall_minus_mono;
	if (moved > jump || moved < -jump) {
		q->wall_minus_mono = diff;
		q->settle_at = MIN(q->settle_at, now + SICK_DELAY);
		schedule_clamp(q, now);
	}
}

int queue_lease(struct queue *q, struct arena *mem, struct queue_lease *ret, usec *ret_next)
{
	int r = 0;
	usec next = 0;
	settle_again(q);
	pthread_mutex_lock(&q->lock);
	while (r == 0) {
		usec now = clock_wall();
		notice_jump(q, now);
		struct group *first = schedule_first(q, now, &next);
		if (!first) {
			if (q->unsettled && (next == 0 || q->settle_at < next))
				next = q->settle_at;
			q->told = next;
			q->armed = true;
			break;
		}
		r = take(q, first, mem, ret);
	}
	pthread_mutex_unlock(&q->lock);
	if (r == 0)
		*ret_next = next;
	return r;
}

int queue_lease_route(struct queue *q, span route, struct arena *mem, struct queue_lease *ret)
{
	int r = 0;
	pthread_mutex_lock(&q->lock);
	while (r == 0) {
		struct group *first = schedule_first_of(q, route, clock_wall());
		if (!first)
			break;
		r = take(q, first, mem, ret);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

void queue_hold_route(struct queue *q, span route)
{
	pthread_mutex_lock(&q->lock);
	struct route *at = map_get(q->routes, route);
	if (at)
		at->held = true;
	pthread_mutex_unlock(&q->lock);
}

void queue_resume_route(struct queue *q, span route)
{
	pthread_mutex_lock(&q->lock);
	struct route *at = map_get(q->routes, route);
	if (at && at->held)
		schedule_resume(q, at);
	schedule_unlock(q);
}

void queue_release(struct queue *q, const struct queue_lease *l)
{
	pthread_mutex_lock(&q->lock);
	struct group *g = idmap_get(q->leases, l->lease_id);
	if (g && !g->kept)
		schedule_unlease(q, g, g->due);
	schedule_unlock(q);
}

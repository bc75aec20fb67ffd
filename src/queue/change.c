/* Changes by hand, a page of matching recipients at a time. */
#include "queue/queue_int.h"

#include <stdlib.h>

enum { PAGE = 1000 };

struct page {
	struct queue *q;
	struct shard *s;
	enum queue_change change;
	span route; /* QUEUE_REROUTE */
	usec now;
	size_t n;
	struct match {
		int64_t row, message;
		struct group *g; /* NULL: leased by a delivery, gone meanwhile, or seen to */
	} v[PAGE];
	/* of a drop's commit */
	char blobs[PAGE][BLOB_NAME];
	size_t n_blobs;
	int64_t keys;
};

bool queue_filter_for(struct queue_filter *f, enum queue_change c)
{
	enum queue_state want = c == QUEUE_RELEASE ? QUEUE_HELD : QUEUE_WAITING;
	f->remote = f->remote || c == QUEUE_REROUTE;
	if (c == QUEUE_RETRY || c == QUEUE_HOLD || c == QUEUE_RELEASE) {
		if (f->state != QUEUE_ANY_STATE && f->state != want)
			return false;
		f->state = want;
	}
	return f->state != QUEUE_DELIVERING;
}

static int next_page(struct page *p, const struct filter *f, int64_t *last, int64_t end)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	p->n = 0;
	int r = shard_healthy(p->s);
	if (r >= 0)
		r = db_read_begin(p->s->db, &tx);
	if (r < 0)
		return r;
	struct db_stmt *s = db_sql(
		tx, "SELECT r.row, r.message FROM recipient r JOIN message m ON m.row = r.message"
		    " WHERE r.row > ?9 AND r.row <= ?10 AND r.state = 0 AND " MATCH_MESSAGE
		    " AND " MATCH_RCPT " ORDER BY r.row LIMIT 1000");
	db_bind(s, FILTER_TYPES "ii", FILTER_VALUES(f), *last, end);
	while ((r = db_step(s)) > 0 && p->n < PAGE) {
		p->v[p->n++] = (struct match){ .row = db_col_i64(s, 0),
					       .message = db_col_i64(s, 1) };
		*last = db_col_i64(s, 0);
	}
	return r;
}

/* Runs ACT on every page of what F means for P's change. */
static int each_page(struct page *p, const struct queue_filter *f,
		     int (*act)(struct page *p, void *arg), void *arg)
{
	struct queue_filter narrow = *f;
	struct filter filter;
	int r = 0;
	if ((!f->any && !queue_filter_set(f)) || !queue_filter_for(&narrow, p->change) ||
	    !filter_prepare(&narrow, &filter))
		return 0;
	load_await(p->q, 0);
	for (unsigned i = 0; r >= 0 && i < p->q->n_shards; i++) {
		int64_t last = 0;
		p->s = &p->q->shard[i];
		/* Not what comes meanwhile, such as the reports of what ACT gives back. */
		int64_t end = atomic_load(&p->s->last_rcpt);
		while ((r = next_page(p, &filter, &last, end)) >= 0 && p->n > 0) {
			r = act(p, arg);
			if (r < 0)
				break;
		}
	}
	return r < 0 ? r : 0;
}

/* ------------------------------------------------------------------ rows */

static int write_drop(struct db_tx *tx, struct page *p)
{
	int r = 0;
	p->n_blobs = 0;
	p->keys = 0;
	for (size_t i = 0; r >= 0 && i < p->n; i++)
		if (p->v[i].g)
			r = db_run(tx, "UPDATE recipient SET state = 2 WHERE row = ?", "i",
				   p->v[i].row);
	int64_t seen = 0;
	for (size_t i = 0; r >= 0 && i < p->n; i++) {
		/* Recipients of one message have neighbouring rows; asking twice would do no harm.
		 */
		int64_t keys = 0;
		if (!p->v[i].g || p->v[i].message == seen)
			continue;
		seen = p->v[i].message;
		r = message_leave(tx, seen, p->blobs[p->n_blobs], &keys);
		if (r > 0) {
			p->n_blobs += p->blobs[p->n_blobs][0] != '\0';
			p->keys += keys;
		}
	}
	return r < 0 ? r : 0;
}

/* P's route for what waits by OLD: a word before it, such as "srs+", is about the reverse-path and stays. */
static span rerouted(const struct page *p, span old, struct buf *b)
{
	span scheme = span_cut(&old, ':');
	size_t plus = span_find(scheme, '+');
	if (plus == SPAN_NPOS)
		return p->route;
	buf_put_span(b, span_sub(scheme, 0, plus + 1));
	buf_put_span(b, p->route);
	return buf_span(b);
}

static int write_one(struct db_tx *tx, const struct page *p, int64_t row, span old)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);
	switch (p->change) {
	case QUEUE_RETRY:
		return db_run(tx, "UPDATE recipient SET next_at = ?, fixed = 0 WHERE row = ?", "ii",
			      p->now, row);
	case QUEUE_HOLD:
		return db_run(tx, "UPDATE recipient SET held = 1 WHERE row = ?", "i", row);
	case QUEUE_RELEASE:
		return db_run(tx, "UPDATE recipient SET held = 0 WHERE row = ?", "i", row);
	case QUEUE_REROUTE:
		return db_run(tx, "UPDATE recipient SET route = ? WHERE row = ?", "si",
			      rerouted(p, old, &b), row);
	case QUEUE_DROP:
	case QUEUE_BOUNCE:
		break;
	}
	return ERR_INVAL;
}

static int write_page(struct db_tx *tx, void *arg)
{
	struct page *p = arg;
	int r = 0;
	if (p->change == QUEUE_DROP)
		return write_drop(tx, p);
	for (size_t i = 0; r >= 0 && i < p->n; i++)
		if (p->v[i].g)
			r = write_one(tx, p, p->v[i].row, p->v[i].g->route->text);
	return r;
}

/* ------------------------------------------------------------------ memory; the lock is held */

/* The page's rows of the group of V[I] get a group of their own, as the change wants it; the rest
 * of the group stays as it is. */
static struct group *regroup(struct page *p, size_t i)
{
	struct group *g = p->v[i].g;
	struct waiting w = { .shard = g->m->shard,
			     .message = g->m->row,
			     .id = &g->m->id,
			     .route = g->route->text,
			     .due = g->due,
			     .priority = g->priority,
			     .fixed = g->fixed,
			     .held = g->held };
	_cleanup_(freep) int64_t *rows = xcalloc(p->n, sizeof(*rows));
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);
	for (size_t j = i; j < p->n; j++) {
		if (p->v[j].g != g)
			continue;
		rows[w.n++] = p->v[j].row;
		p->v[j].g = NULL;
	}
	if (p->change == QUEUE_RETRY) {
		w.due = MIN(w.due, p->now);
		w.fixed = false;
	} else if (p->change == QUEUE_HOLD) {
		w.held = true;
	} else if (p->change == QUEUE_RELEASE) {
		w.held = false;
		/* The clock may have jumped back while it was held. */
		w.due = w.fixed ? w.due : MIN(w.due, schedule_latest(p->q, p->now));
	} else if (p->change == QUEUE_REROUTE) {
		w.route = rerouted(p, w.route, &b);
	}
	w.rows = rows;
	struct group *made = schedule_add(p->q, &w);
	for (size_t j = 0; j < w.n; j++) /* the last row of a group frees it */
		schedule_take_row(p->q, g, rows[j]);
	return made;
}

/* A change leases what it touches, so that no delivery can take it before the commit. */
static size_t lease_page(struct page *p)
{
	struct queue *q = p->q;
	size_t n = 0;
	uint64_t mine = q->last_lease;
	for (size_t i = 0; i < p->n; i++) {
		struct group *g = schedule_find(q, p->s->no, p->v[i].message, p->v[i].row);
		p->v[i].g = NULL;
		if (!g || (g->lease && g->lease <= mine))
			continue;
		if (!g->lease)
			schedule_lease(q, g);
		p->v[i].g = g;
		n++;
	}
	return n;
}

static void unlease_page(struct page *p, bool changed)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].g && p->v[i].g->lease)
			schedule_unlease(p->q, p->v[i].g, p->v[i].g->due);
	for (size_t i = 0; changed && i < p->n; i++) {
		if (!p->v[i].g)
			continue;
		if (p->change == QUEUE_DROP) /* the last row of a group is its last mention */
			schedule_take_row(p->q, p->v[i].g, p->v[i].row);
		else
			regroup(p, i);
	}
}

/* ------------------------------------------------------------------ the changes */

static int change_page(struct page *p, void *arg)
{
	struct queue *q = p->q;
	size_t *count = arg;
	p->now = clock_wall();
	pthread_mutex_lock(&q->lock);
	size_t n = lease_page(p);
	pthread_mutex_unlock(&q->lock);
	int r = n ? db_write(p->s->db, write_page, p) : 0;
	pthread_mutex_lock(&q->lock);
	unlease_page(p, n && r >= 0);
	schedule_unlock(q);
	if (n == 0 || r < 0)
		return r;
	*count += n;
	if (p->change != QUEUE_DROP)
		return 0;
	atomic_fetch_add(&p->s->n_keys, p->keys);
	for (size_t i = 0; i < p->n_blobs; i++)
		blob_remove(q, p->blobs[i]);
	return 0;
}

static int change(struct queue *q, const struct queue_filter *f, enum queue_change c, span route,
		  size_t *ret_count)
{
	_cleanup_(freep) struct page *p = xcalloc(1, sizeof(*p));
	p->q = q;
	p->change = c;
	p->route = route;
	*ret_count = 0;
	return each_page(p, f, change_page, ret_count);
}

int queue_retry(struct queue *q, const struct queue_filter *f, size_t *ret_count)
{
	return change(q, f, QUEUE_RETRY, SPAN_NULL, ret_count);
}

int queue_hold(struct queue *q, const struct queue_filter *f, size_t *ret_count)
{
	return change(q, f, QUEUE_HOLD, SPAN_NULL, ret_count);
}

int queue_unhold(struct queue *q, const struct queue_filter *f, size_t *ret_count)
{
	return change(q, f, QUEUE_RELEASE, SPAN_NULL, ret_count);
}

int queue_reroute(struct queue *q, const struct queue_filter *f, span route, size_t *ret_count)
{
	return change(q, f, QUEUE_REROUTE, route, ret_count);
}

int queue_drop(struct queue *q, const struct queue_filter *f, size_t *ret_count)
{
	return change(q, f, QUEUE_DROP, SPAN_NULL, ret_count);
}

/* ------------------------------------------------------------------ leases by filter */

struct taker {
	int (*fn)(void *arg, const struct queue_lease *l);
	void *arg;
};

/* Hands out the lease that ID names. */
static int hand_out(struct queue *q, uint64_t id, const struct taker *t)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct queue_lease l;
	pthread_mutex_lock(&q->lock);
	int r = lease_read(q, idmap_get(q->leases, id), &mem, &l);
	pthread_mutex_unlock(&q->lock);
	return r > 0 ? t->fn(t->arg, &l) : r;
}

static int take_page(struct page *p, void *arg)
{
	struct queue *q = p->q;
	_cleanup_(freep) uint64_t *ids = xcalloc(p->n, sizeof(*ids));
	size_t n = 0;
	int r = 0;
	pthread_mutex_lock(&q->lock);
	for (size_t i = 0; i < p->n; i++) {
		struct group *g = schedule_find(q, p->s->no, p->v[i].message, p->v[i].row);
		p->v[i].g = g && !g->lease ? g : NULL;
	}
	for (size_t i = 0; i < p->n; i++) {
		if (!p->v[i].g)
			continue;
		struct group *g = regroup(p, i);
		schedule_lease(q, g);
		ids[n++] = g->lease;
	}
	pthread_mutex_unlock(&q->lock);
	for (size_t i = 0; i < n; i++) {
		if (r >= 0)
			r = hand_out(q, ids[i], arg);
		else
			queue_release(q, &(struct queue_lease){ .lease_id = ids[i] });
	}
	return r;
}

int queue_lease_matching(struct queue *q, const struct queue_filter *f,
			 int (*fn)(void *arg, const struct queue_lease *l), void *arg)
{
	_cleanup_(freep) struct page *p = xcalloc(1, sizeof(*p));
	struct taker t = { .fn = fn, .arg = arg };
	p->q = q;
	p->change = QUEUE_BOUNCE;
	return each_page(p, f, take_page, &t);
}

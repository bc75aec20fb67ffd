/* Opening.  The shards are read beside each other, each by a thread of its own, in the order of their rows; what is
 * already read is delivered meanwhile. */
#include "queue/queue_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"

/* Recipients that are read before the schedule takes them: one lock for many. */
enum { BATCH = 1024 };

struct loaded {
	int64_t row, message;
	struct id id;
	span route;
	usec due;
	int8_t priority;
	bool fixed, held;
};
struct loading {
	struct queue *q;
	struct shard *s;
	pthread_t thread;
	bool started;
	int64_t end;	  /* the last row when the shard was opened: what came later is in memory */
	int64_t after;	  /* rows up to this one were seen to */
	struct arena mem; /* of the routes */
	struct loaded *v;
	size_t n, cap;
	int64_t *rows;
};

static int load_counters(struct shard *s, struct db_tx *tx)
{
	int64_t message = 0, rcpt = 0, key = 0, n_keys = 0;
	int r = db_get_i64(tx, &message, "SELECT ifnull(max(row), 0) FROM message", "");
	if (r >= 0)
		r = db_get_i64(tx, &rcpt, "SELECT ifnull(max(row), 0) FROM recipient", "");
	if (r >= 0)
		r = db_get_i64(tx, &key, "SELECT ifnull(max(row), 0) FROM gone_key", "");
	if (r >= 0)
		r = db_get_i64(tx, &n_keys, "SELECT count(*) FROM gone_key", "");
	if (r < 0)
		return r;
	s->last_message = message;
	s->last_rcpt = MAX(rcpt, key); /* gone_key keeps the recipient's number */
	s->n_keys = n_keys;
	return 0;
}

static int by_group(const void *a, const void *b)
{
	const struct loaded *x = a, *y = b;
	int c = (x->message > y->message) - (x->message < y->message);
	if (c == 0)
		c = span_cmp(x->route, y->route);
	if (c == 0)
		c = (x->due > y->due) - (x->due < y->due);
	if (c == 0)
		c = x->fixed - y->fixed;
	return c ? c : x->held - y->held;
}

static void schedule_batch(struct loading *l)
{
	if (l->n == 0)
		return;
	qsort(l->v, l->n, sizeof(*l->v), by_group);
	pthread_mutex_lock(&l->q->lock);
	usec latest = schedule_latest(l->q, clock_wall()); /* the clock may have jumped back */
	for (size_t from = 0, to; from < l->n; from = to) {
		const struct loaded *first = &l->v[from];
		for (to = from; to < l->n && by_group(first, &l->v[to]) == 0; to++) {
			l->rows[to - from] = l->v[to].row;
			l->after = MAX(l->after, l->v[to].row);
		}
		schedule_add(l->q, &(struct waiting){ .shard = l->s->no,
						      .message = first->message,
						      .id = &first->id,
						      .route = first->route,
						      .due = first->fixed ? first->due
									  : MIN(first->due, latest),
						      .priority = first->priority,
						      .fixed = first->fixed,
						      .held = first->held,
						      .rows = l->rows,
						      .n = to - from });
	}
	schedule_unlock(l->q);
	l->n = 0;
	arena_reset(&l->mem);
}

static void load_row(struct loading *l, struct db_stmt *st)
{
	int64_t message = db_col_i64(st, 0);
	/* A message's recipients were numbered together: none is left behind. */
	if (l->n >= BATCH && message != l->v[l->n - 1].message)
		schedule_batch(l);
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 2 * BATCH;
		l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
		l->rows = xrealloc(l->rows, l->cap * sizeof(*l->rows));
	}
	span id = db_col_span(st, 1);
	struct loaded *to = &l->v[l->n++];
	*to = (struct loaded){ .row = db_col_i64(st, 3),
			       .message = message,
			       .route = arena_span(&l->mem, db_col_span(st, 4)),
			       .due = db_col_i64(st, 5),
			       .priority = (int8_t)db_col_i64(st, 2),
			       .fixed = db_col_i64(st, 6) != 0,
			       .held = db_col_i64(st, 7) != 0 };
	memcpy(to->id.b, id.p, MIN(id.n, sizeof(to->id.b)));
}

static int read_on(struct loading *l)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = shard_healthy(l->s);
	if (r >= 0)
		r = db_read_begin(l->s->db, &tx);
	if (r < 0)
		return r;
	struct db_stmt *st = db_sql(
		tx, "SELECT m.row, m.id, m.priority, r.row, r.route, r.next_at, r.fixed, r.held"
		    " FROM recipient r CROSS JOIN message m ON m.row = r.message"
		    " WHERE r.row > ? AND r.row <= ? AND r.state = 0 ORDER BY r.row");
	db_bind(st, "ii", l->after, l->end);
	while ((r = db_step(st)) > 0 && !atomic_load(&l->q->closing))
		load_row(l, st);
	if (r >= 0)
		schedule_batch(l);
	l->n = 0;
	return r;
}

/* What cannot be read now is tried again, for it waits on disk and nobody else knows of it. */
static void *load_thread(void *arg)
{
	struct loading *l = arg;
	bool told = false;
	for (int r; (r = read_on(l)) < 0 && !atomic_load(&l->q->closing); told = true) {
		if (!told)
			log_event(LOG_ALARM, "queue.shard_unreadable", F_U64("shard", l->s->no),
				  F_ERR(r));
		nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
	}
	arena_done(&l->mem);
	free(l->v);
	free(l->rows);
	pthread_mutex_lock(&l->q->lock);
	l->q->unread--;
	pthread_cond_broadcast(&l->q->read);
	pthread_mutex_unlock(&l->q->lock);
	return NULL;
}

static int open_shard(struct queue *q, unsigned no, struct err_info *info)
{
	struct shard *s = &q->shard[no];
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	char name[16];
	_cleanup_(buf_donep) struct buf path = BUF_INIT(4096);
	snprintf(name, sizeof(name), "/%u.db", no);
	buf_put_str(&path, q->dir);
	buf_put_str(&path, name);
	s->no = no;
	int r = db_open(buf_cstr(&path), &queue_schema, DB_CREATE, &s->db, info);
	if (r < 0)
		return r;
	r = db_read_begin(s->db, &tx);
	if (r >= 0)
		r = load_counters(s, tx);
	return r < 0 ? err_set(info, r, "queue shard %u cannot be read: %s", no, err_text(r)) : 0;
}

int load_begin(struct queue *q, struct err_info *info)
{
	int r = 0;
	for (unsigned i = 0; r >= 0 && i < q->n_shards; i++)
		r = open_shard(q, i, info);
	if (r < 0)
		return r;
	q->loading = xcalloc(q->n_shards, sizeof(*q->loading));
	q->unread = q->n_shards;
	for (unsigned i = 0; i < q->n_shards; i++) {
		struct loading *l = &q->loading[i];
		*l = (struct loading){ .q = q, .s = &q->shard[i], .end = q->shard[i].last_rcpt };
		arena_init(&l->mem);
		l->started = pthread_create(&l->thread, NULL, load_thread, l) == 0;
		if (!l->started)
			load_thread(l);
	}
	return 0;
}

void load_await(struct queue *q, usec limit)
{
	struct timespec until;
	int r = 0;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += limit / USEC_SEC;
	pthread_mutex_lock(&q->lock);
	while (q->unread && r != ETIMEDOUT)
		r = limit ? pthread_cond_clockwait(&q->read, &q->lock, CLOCK_MONOTONIC, &until)
			  : pthread_cond_wait(&q->read, &q->lock);
	pthread_mutex_unlock(&q->lock);
}

void load_end(struct queue *q)
{
	atomic_store(&q->closing, true);
	for (unsigned i = 0; q->loading && i < q->n_shards; i++)
		if (q->loading[i].started)
			pthread_join(q->loading[i].thread, NULL);
	free(q->loading);
}

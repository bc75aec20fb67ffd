/* Opening: the shards are read beside each other, each by a thread of its own, in the order of their rows. */
#include "queue/queue_int.h"

#include <stdio.h>
#include <stdlib.h>

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
	int result;
	struct err_info info;
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
	qsort(l->v, l->n, sizeof(*l->v), by_group);
	pthread_mutex_lock(&l->q->lock);
	for (size_t from = 0, to; from < l->n; from = to) {
		const struct loaded *first = &l->v[from];
		for (to = from; to < l->n && by_group(first, &l->v[to]) == 0; to++)
			l->rows[to - from] = l->v[to].row;
		schedule_add(l->q, &(struct waiting){ .shard = l->s->no,
						      .message = first->message,
						      .id = &first->id,
						      .route = first->route,
						      .due = first->due,
						      .priority = first->priority,
						      .fixed = first->fixed,
						      .held = first->held,
						      .rows = l->rows,
						      .n = to - from });
	}
	pthread_mutex_unlock(&l->q->lock);
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

static int load_schedule(struct loading *l, struct db_tx *tx)
{
	struct db_stmt *st = db_sql(
		tx, "SELECT m.row, m.id, m.priority, r.row, r.route, r.next_at, r.fixed, r.held"
		    " FROM recipient r CROSS JOIN message m ON m.row = r.message WHERE r.state = 0"
		    " ORDER BY r.row");
	int r;
	arena_init(&l->mem);
	while ((r = db_step(st)) > 0)
		load_row(l, st);
	schedule_batch(l);
	arena_done(&l->mem);
	free(l->v);
	free(l->rows);
	return r;
}

static int open_shard(struct loading *l)
{
	struct shard *s = l->s;
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	char name[16];
	_cleanup_(buf_donep) struct buf path = BUF_INIT(4096);
	snprintf(name, sizeof(name), "/%u.db", s->no);
	buf_put_str(&path, l->q->dir);
	buf_put_str(&path, name);
	int r = db_open(buf_cstr(&path), &queue_schema, DB_CREATE, &s->db, &l->info);
	if (r < 0)
		return r;
	r = db_read_begin(s->db, &tx);
	if (r >= 0)
		r = load_counters(s, tx);
	if (r >= 0)
		r = load_schedule(l, tx);
	return r < 0 ? err_set(&l->info, r, "queue shard %u cannot be read: %s", s->no, err_text(r))
		     : 0;
}

static void *open_thread(void *arg)
{
	struct loading *l = arg;
	l->result = open_shard(l);
	return NULL;
}

int queue_open_shards(struct queue *q, struct err_info *info)
{
	_cleanup_(freep) struct loading *all = xcalloc(q->n_shards, sizeof(*all));
	int r = 0;
	for (unsigned i = 0; i < q->n_shards; i++) {
		struct loading *l = &all[i];
		*l = (struct loading){ .q = q, .s = &q->shard[i] };
		l->s->no = i;
		l->started = i + 1 < q->n_shards &&
			     pthread_create(&l->thread, NULL, open_thread, l) == 0;
		if (!l->started)
			open_thread(l);
	}
	for (unsigned i = 0; i < q->n_shards; i++) {
		if (all[i].started)
			pthread_join(all[i].thread, NULL);
		if (r >= 0 && all[i].result < 0) {
			r = all[i].result;
			if (info)
				*info = all[i].info;
		}
	}
	return r;
}

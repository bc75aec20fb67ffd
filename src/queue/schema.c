#include "queue/queue_int.h"

#include <stdio.h>
#include <stdlib.h>

/* A lease is memory only: on disk its recipients are WAITING.  The body has its own table so that
 * listings do not read past it.  `once` are the keys of transfers that may be repeated. */
static const struct db_migration steps[] = {
	{ .version = 1,
	  .oldest_writer = 1,
	  .sql = "CREATE TABLE message(row INTEGER PRIMARY KEY, id BLOB NOT NULL, sender TEXT NOT "
		 "NULL,"
		 " account TEXT NOT NULL, envid TEXT NOT NULL, size INTEGER NOT NULL, flags "
		 "INTEGER NOT NULL,"
		 " accepted_at INTEGER NOT NULL, blob TEXT);"
		 "CREATE INDEX message_id ON message(id);"
		 "CREATE INDEX message_blob ON message(blob) WHERE blob IS NOT NULL;"
		 "CREATE TABLE body(message INTEGER PRIMARY KEY, data BLOB NOT NULL);"
		 "CREATE TABLE recipient(row INTEGER PRIMARY KEY, message INTEGER NOT NULL, "
		 "address TEXT NOT NULL,"
		 " route TEXT NOT NULL, original TEXT NOT NULL, notify INTEGER NOT NULL, key BLOB "
		 "NOT NULL,"
		 " state INTEGER NOT NULL, attempts INTEGER NOT NULL, next_at INTEGER NOT NULL,"
		 " fixed INTEGER NOT NULL, reply TEXT NOT NULL DEFAULT '', status TEXT NOT NULL "
		 "DEFAULT '',"
		 " remote TEXT NOT NULL DEFAULT '');"
		 "CREATE INDEX recipient_message ON recipient(message);"
		 "CREATE TABLE gone_key(row INTEGER PRIMARY KEY, key BLOB NOT NULL, address TEXT "
		 "NOT NULL);"
		 "CREATE TABLE once(key BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;" },
	{ .version = 2,
	  .oldest_writer = 1, /* which leaves the column alone: at worst a delay is told twice */
	  .sql = "ALTER TABLE recipient ADD COLUMN warned INTEGER NOT NULL DEFAULT 0;" },
	{ .version = 3,
	  .oldest_writer = 3, /* an older one would deliver what is held */
	  .sql = "ALTER TABLE recipient ADD COLUMN held INTEGER NOT NULL DEFAULT 0;" },
	{ .version = 4,
	  .oldest_writer = 4, /* an older one would send in clear what requires TLS */
	  .sql = "ALTER TABLE message ADD COLUMN deliver_by INTEGER NOT NULL DEFAULT 0;"
		 "ALTER TABLE message ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;"
		 "ALTER TABLE message ADD COLUMN held_until INTEGER NOT NULL DEFAULT 0;" },
};

const struct db_schema queue_schema = { .name = "queue",
					.steps = steps,
					.n_steps = ARRAY_LEN(steps) };

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

/* The waiting recipients of one message, as they are read. */
struct loaded {
	int64_t row;
	span route;
	usec due;
	bool fixed, held;
};
struct loading {
	struct queue *q;
	struct waiting w;
	struct id id;
	struct arena mem; /* of the routes */
	struct loaded *v;
	size_t n, cap;
	int64_t *rows;
};

static int by_group(const void *a, const void *b)
{
	const struct loaded *x = a, *y = b;
	int c = span_cmp(x->route, y->route);
	if (c == 0)
		c = (x->due > y->due) - (x->due < y->due);
	if (c == 0)
		c = x->fixed - y->fixed;
	return c ? c : x->held - y->held;
}

static void schedule_message(struct loading *l)
{
	if (l->n > 1)
		qsort(l->v, l->n, sizeof(*l->v), by_group);
	for (size_t from = 0, to; from < l->n; from = to) {
		const struct loaded *first = &l->v[from];
		for (to = from; to < l->n && by_group(first, &l->v[to]) == 0; to++)
			l->rows[to - from] = l->v[to].row;
		l->w.route = first->route;
		l->w.due = first->due;
		l->w.fixed = first->fixed;
		l->w.held = first->held;
		l->w.rows = l->rows;
		l->w.n = to - from;
		schedule_add(l->q, &l->w);
	}
	l->n = 0;
	arena_reset(&l->mem);
}

static void load_row(struct loading *l, struct db_stmt *st)
{
	int64_t message = db_col_i64(st, 0);
	if (message != l->w.message) {
		span id = db_col_span(st, 1);
		schedule_message(l);
		memcpy(l->id.b, id.p, MIN(id.n, sizeof(l->id.b)));
		l->w.message = message;
		l->w.id = &l->id;
		l->w.priority = (int8_t)db_col_i64(st, 2);
	}
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 16;
		l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
		l->rows = xrealloc(l->rows, l->cap * sizeof(*l->rows));
	}
	l->v[l->n++] = (struct loaded){ .row = db_col_i64(st, 3),
					.route = arena_span(&l->mem, db_col_span(st, 4)),
					.due = db_col_i64(st, 5),
					.fixed = db_col_i64(st, 6) != 0,
					.held = db_col_i64(st, 7) != 0 };
}

/* In the order of the rows, which costs no sorting: a message's recipients were numbered together. */
static int load_schedule(struct queue *q, struct shard *s, struct db_tx *tx)
{
	struct loading l = { .q = q, .w.shard = s->no };
	struct db_stmt *st = db_sql(
		tx, "SELECT m.row, m.id, m.priority, r.row, r.route, r.next_at, r.fixed, r.held"
		    " FROM recipient r CROSS JOIN message m ON m.row = r.message WHERE r.state = 0"
		    " ORDER BY r.row");
	int r;
	arena_init(&l.mem);
	while ((r = db_step(st)) > 0)
		load_row(&l, st);
	schedule_message(&l);
	arena_done(&l.mem);
	free(l.v);
	free(l.rows);
	return r;
}

int queue_open_shard(struct queue *q, unsigned no, struct err_info *info)
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
	if (r >= 0)
		r = load_schedule(q, s, tx);
	return r < 0 ? err_set(info, r, "queue shard %u cannot be read: %s", no, err_text(r)) : 0;
}

/* The rows of a batch that was not acknowledged may be there afterwards or not; memory need not
 * know: a lease reads what is still waiting, and a message that was refused is at worst found by
 * the next start. */
int shard_healthy(struct shard *s)
{
	if (!db_poisoned(s->db))
		return 0;
	usec now = clock_wall(), at = atomic_load(&s->heal_at);
	if ((now < at && at - now <= SICK_DELAY) ||
	    !atomic_compare_exchange_strong(&s->heal_at, &at, now + SICK_DELAY))
		return ERR_SYNC;
	return db_reopen_copy(s->db) < 0 ? ERR_SYNC : 0;
}

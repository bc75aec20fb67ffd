#include "queue/queue_int.h"

#include <stdlib.h>

bool filter_prepare(const struct queue_filter *f, struct filter *ret)
{
	*ret = (struct filter){ .from = f->from,
				.to = f->to,
				.domain = f->domain,
				.reply = f->reply,
				.before = f->accepted_before,
				.held = f->state == QUEUE_HELD	    ? 1
					: f->state == QUEUE_WAITING ? 0
								    : -1,
				.remote = f->remote };
	if (!f->id.n)
		return f->any || queue_filter_set(f);
	if (!id_parse(f->id, &ret->id_bytes))
		return false;
	ret->id = span_of(ret->id_bytes.b, sizeof(ret->id_bytes.b));
	return true;
}

bool queue_filter_set(const struct queue_filter *f)
{
	return f->id.n || f->from.n || f->to.n || f->domain.n || f->reply.n || f->accepted_before ||
	       f->state != QUEUE_ANY_STATE;
}

struct listed {
	unsigned shard;
	int64_t row;
	struct queue_entry e;
};

struct listing {
	struct listed *v;
	size_t n, cap;
};

/* Two messages can have one id (what went on to an alias's targets), in one shard or in two: a page
 * ends at (id, shard, row). */
static int64_t after_row(const struct queue_cursor *at, unsigned shard)
{
	if (shard == at->shard)
		return at->row;
	return shard < at->shard ? INT64_MAX : 0;
}

static int list_messages(unsigned shard, struct db_tx *tx, const struct filter *f,
			 const struct queue_cursor *at, size_t max, struct arena *mem,
			 struct listing *l)
{
	struct db_stmt *s = db_sql(
		tx,
		"SELECT m.row, m.id, m.sender, m.account, m.size, m.accepted_at, m.flags,"
		" m.deliver_by, m.priority, m.held_until FROM message m"
		" WHERE " MATCH_MESSAGE " AND (m.id, m.row) > (?9, ?10) AND EXISTS("
		"SELECT 1 FROM recipient r WHERE r.message = m.row AND r.state = 0 AND " MATCH_RCPT
		") ORDER BY m.id, m.row LIMIT ?11");
	db_bind(s, FILTER_TYPES "bii", FILTER_VALUES(f), span_of(at->id.b, sizeof(at->id.b)),
		after_row(at, shard), (int64_t)max);
	int r;
	while ((r = db_step(s)) > 0) {
		if (l->n == l->cap) {
			l->cap = l->cap ? l->cap * 2 : 64;
			l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
		}
		span id = db_col_span(s, 1);
		struct listed *e = &l->v[l->n++];
		*e = (struct listed){ .shard = shard,
				      .row = db_col_i64(s, 0),
				      .e = { .sender = arena_span(mem, db_col_span(s, 2)),
					     .account_id = arena_span(mem, db_col_span(s, 3)),
					     .size = (uint64_t)db_col_i64(s, 4),
					     .accepted_at = db_col_i64(s, 5),
					     .terms = terms_read(s, db_col_i64(s, 6), 7, 8),
					     .held_until = db_col_i64(s, 9) } };
		memcpy(e->e.id.b, id.p, MIN(id.n, sizeof(e->e.id.b)));
	}
	return r;
}

/* What memory knows better than the row: a lease, the times of untried releases, and the rules. */
static void overlay(struct queue *q, const struct listed *e, int64_t row, struct arena *mem,
		    struct queue_entry_rcpt *r)
{
	pthread_mutex_lock(&q->lock);
	const struct group *g = schedule_find(q, e->shard, e->row, row);
	if (g) {
		r->next_attempt = g->due;
		r->leased = g->lease != 0;
		r->fixed = g->fixed && g->due > clock_wall();
	}
	const struct queue_rule *rule = queue_rule_find(&q->conf, r->last_reply, r->status,
							e->e.terms.priority);
	if (rule && r->attempts)
		r->rule = arena_span(mem, rule->match);
	r->until = retry_ends(&q->conf, MAX(e->e.accepted_at, e->e.held_until), &e->e.terms,
			      r->last_reply, r->status);
	pthread_mutex_unlock(&q->lock);
}

static bool state_fits(const struct queue_entry_rcpt *r, enum queue_state want)
{
	return want == QUEUE_ANY_STATE || want == (r->leased ? QUEUE_DELIVERING
						   : r->held ? QUEUE_HELD
							     : QUEUE_WAITING);
}

/* *RET_FITS: how many of them F means. */
static int list_rcpts(struct queue *q, const struct filter *f, enum queue_state state,
		      struct listed *e, struct arena *mem, size_t *ret_fits)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int64_t n;
	*ret_fits = 0;
	int r = db_read_begin(q->shard[e->shard].db, &tx);
	if (r >= 0)
		r = db_get_i64(tx, &n,
			       "SELECT count(*) FROM recipient WHERE message = ? AND state = 0",
			       "i", e->row);
	if (r <= 0)
		return r;
	e->e.rcpts = arena_array(mem, struct queue_entry_rcpt, (size_t)n);
	struct db_stmt *s = db_sql(
		tx, "SELECT r.row, r.address, r.route, r.reply, r.status, r.attempts, r.next_at,"
		    " r.held, " MATCH_MESSAGE " AND " MATCH_RCPT
		    " FROM recipient r JOIN message m ON m.row = r.message"
		    " WHERE r.message = ?9 AND r.state = 0 ORDER BY r.row");
	db_bind(s, FILTER_TYPES "i", FILTER_VALUES(f), e->row);
	while ((r = db_step(s)) > 0 && e->e.n_rcpts < (size_t)n) {
		struct queue_entry_rcpt *one = &e->e.rcpts[e->e.n_rcpts++];
		*one = (struct queue_entry_rcpt){ .address = arena_span(mem, db_col_span(s, 1)),
						  .route = arena_span(mem, db_col_span(s, 2)),
						  .last_reply = arena_span(mem, db_col_span(s, 3)),
						  .status = arena_span(mem, db_col_span(s, 4)),
						  .attempts = (unsigned)db_col_i64(s, 5),
						  .next_attempt = db_col_i64(s, 6),
						  .held = db_col_i64(s, 7) != 0 };
		overlay(q, e, db_col_i64(s, 0), mem, one);
		one->fits = db_col_i64(s, 8) && state_fits(one, state);
		*ret_fits += one->fits;
	}
	return r;
}

static int by_key(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;
	int c = memcmp(x->e.id.b, y->e.id.b, sizeof(x->e.id.b));
	if (c || x->shard != y->shard)
		return c ? c : (x->shard > y->shard) - (x->shard < y->shard);
	return (x->row > y->row) - (x->row < y->row);
}

/* The messages of a page, which may prove to have no recipient in the state that is asked for. */
static int list_page(struct queue *q, const struct filter *f, struct queue_cursor *at, size_t max,
		     struct arena *mem, struct listing *l)
{
	int r = 0;
	for (unsigned i = 0; r >= 0 && i < q->n_shards; i++) {
		_cleanup_(db_read_endp) struct db_tx *tx = NULL;
		/* A shard that no mail came by since its disk failed is mended for whoever looks. */
		r = shard_healthy(&q->shard[i]);
		if (r >= 0)
			r = db_read_begin(q->shard[i].db, &tx);
		if (r >= 0)
			r = list_messages(i, tx, f, at, max, mem, l);
	}
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), by_key);
	at->more = l->n >= max;
	l->n = MIN(l->n, max);
	if (l->n) {
		const struct listed *last = &l->v[l->n - 1];
		at->id = last->e.id;
		at->shard = last->shard;
		at->row = last->row;
	}
	return r;
}

int queue_list(struct queue *q, const struct queue_filter *f, struct queue_cursor *at, size_t max,
	       struct arena *mem, struct queue_entry **ret, size_t *n)
{
	struct filter filter;
	struct listing l = { 0 };
	struct queue_cursor start = { 0 };
	int r = 0;
	if (!at)
		at = &start;
	at->more = false;
	if (filter_prepare(f, &filter))
		r = list_page(q, &filter, at, max, mem, &l);
	struct queue_entry *v = arena_array(mem, struct queue_entry, l.n);
	size_t k = 0, fits;
	for (size_t i = 0; r >= 0 && i < l.n; i++) {
		r = list_rcpts(q, &filter, f->state, &l.v[i], mem, &fits);
		if (r >= 0 && fits)
			v[k++] = l.v[i].e;
	}
	free(l.v);
	if (r < 0)
		return r;
	*ret = v;
	*n = k;
	return 0;
}

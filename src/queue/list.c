#include "queue/queue_int.h"

#include <stdlib.h>

/* A filter as the parameters 1..4 of each statement here. */
#define MATCH_MESSAGE "(?1 = x'' OR m.id = ?1) AND (?2 = '' OR m.sender = ?2 COLLATE NOCASE)"
#define MATCH_RCPT                                       \
	"(?3 = '' OR r.address = ?3 COLLATE NOCASE) AND" \
	" (?4 = '' OR substr(r.address, -1 - length(?4)) = '@' || ?4 COLLATE NOCASE)"

enum { PAGE = 1000 };

struct filter {
	span id, from, to, domain;
	struct id id_bytes;
};

/* False: F can match nothing. */
static bool filter_of(const struct queue_filter *f, struct filter *ret)
{
	*ret = (struct filter){ .from = f->from, .to = f->to, .domain = f->domain };
	if (!f->id.n)
		return f->any || f->from.n || f->to.n || f->domain.n;
	if (!id_parse(f->id, &ret->id_bytes))
		return false;
	ret->id = span_of(ret->id_bytes.b, sizeof(ret->id_bytes.b));
	return true;
}

/* ------------------------------------------------------------------ list */

struct listed {
	unsigned shard;
	int64_t row;
	struct queue_entry e;
};

struct listing {
	struct listed *v;
	size_t n, cap;
};

static int list_messages(struct queue *q, unsigned shard, struct db_tx *tx, const struct filter *f,
			 span after, size_t max, struct arena *mem, struct listing *l)
{
	struct db_stmt *s = db_sql(
		tx,
		"SELECT m.row, m.id, m.sender, m.account, m.size, m.accepted_at FROM message m"
		" WHERE " MATCH_MESSAGE " AND m.id > ?5 AND ((?3 = '' AND ?4 = '') OR EXISTS("
		"SELECT 1 FROM recipient r WHERE r.message = m.row AND r.state = 0 AND " MATCH_RCPT
		")) ORDER BY m.id LIMIT ?6");
	db_bind(s, "bsssbi", f->id, f->from, f->to, f->domain, after, (int64_t)max);
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
					     .accepted_at = db_col_i64(s, 5) } };
		memcpy(e->e.id.b, id.p, MIN(id.n, sizeof(e->e.id.b)));
	}
	return r;
}

/* What memory knows better than the row: a lease, and the times of untried releases. */
static void overlay(struct queue *q, const struct listed *e, int64_t row,
		    struct queue_entry_rcpt *r)
{
	pthread_mutex_lock(&q->lock);
	const struct group *g = schedule_find(q, e->shard, e->row, row);
	if (g) {
		r->next_attempt = g->due;
		r->leased = g->lease != 0;
		r->held = g->fixed && g->due > clock_wall();
	}
	pthread_mutex_unlock(&q->lock);
}

static int list_rcpts(struct queue *q, struct listed *e, struct arena *mem)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int64_t n;
	int r = db_read_begin(q->shard[e->shard].db, &tx);
	if (r >= 0)
		r = db_get_i64(tx, &n,
			       "SELECT count(*) FROM recipient WHERE message = ? AND state = 0",
			       "i", e->row);
	if (r <= 0)
		return r;
	e->e.rcpts = arena_array(mem, struct queue_entry_rcpt, (size_t)n);
	struct db_stmt *s = db_sql(
		tx, "SELECT row, address, route, reply, status, attempts, next_at FROM recipient"
		    " WHERE message = ? AND state = 0 ORDER BY row");
	db_bind(s, "i", e->row);
	while ((r = db_step(s)) > 0 && e->e.n_rcpts < (size_t)n) {
		struct queue_entry_rcpt *one = &e->e.rcpts[e->e.n_rcpts++];
		*one = (struct queue_entry_rcpt){ .address = arena_span(mem, db_col_span(s, 1)),
						  .route = arena_span(mem, db_col_span(s, 2)),
						  .last_reply = arena_span(mem, db_col_span(s, 3)),
						  .status = arena_span(mem, db_col_span(s, 4)),
						  .attempts = (unsigned)db_col_i64(s, 5),
						  .next_attempt = db_col_i64(s, 6) };
		overlay(q, e, db_col_i64(s, 0), one);
	}
	return r;
}

static int by_id(const void *a, const void *b)
{
	return memcmp(((const struct listed *)a)->e.id.b, ((const struct listed *)b)->e.id.b,
		      sizeof(struct id));
}

int queue_list(struct queue *q, const struct queue_filter *f, const struct id *after, size_t max,
	       struct arena *mem, struct queue_entry **ret, size_t *n)
{
	struct filter filter;
	struct listing l = { 0 };
	int r = 0;
	bool some = filter_of(f, &filter);
	for (unsigned i = 0; some && r >= 0 && i < q->n_shards; i++) {
		_cleanup_(db_read_endp) struct db_tx *tx = NULL;
		r = db_read_begin(q->shard[i].db, &tx);
		if (r >= 0)
			r = list_messages(q, i, tx, &filter,
					  after ? span_of(after->b, sizeof(after->b)) : SPAN_NULL,
					  max, mem, &l);
	}
	if (r >= 0 && l.n) {
		qsort(l.v, l.n, sizeof(*l.v), by_id);
		l.n = MIN(l.n, max);
	}
	for (size_t i = 0; r >= 0 && i < l.n; i++)
		r = list_rcpts(q, &l.v[i], mem);
	if (r >= 0) {
		*ret = arena_array(mem, struct queue_entry, l.n);
		for (size_t i = 0; i < l.n; i++)
			(*ret)[i] = l.v[i].e;
		*n = l.n;
	}
	free(l.v);
	return r < 0 ? r : 0;
}

/* ------------------------------------------------------------------ retry and drop, a page at a
 * time */

struct page {
	struct queue *q;
	struct shard *s;
	size_t n;
	struct match {
		int64_t row, message;
		struct group *g; /* NULL: leased by a delivery, or gone meanwhile */
	} v[PAGE];
	/* of a drop's commit */
	char (*blobs)[BLOB_NAME];
	size_t n_blobs;
	int64_t keys;
	usec now;
};

static int next_page(struct page *p, const struct filter *f, int64_t *last)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	p->n = 0;
	int r = db_read_begin(p->s->db, &tx);
	if (r < 0)
		return r;
	struct db_stmt *s = db_sql(
		tx, "SELECT r.row, r.message FROM recipient r JOIN message m ON m.row = r.message"
		    " WHERE r.row > ?5 AND r.state = 0 AND " MATCH_MESSAGE " AND " MATCH_RCPT
		    " ORDER BY r.row LIMIT 1000");
	db_bind(s, "bsssi", f->id, f->from, f->to, f->domain, *last);
	while ((r = db_step(s)) > 0 && p->n < PAGE) {
		p->v[p->n++] = (struct match){ .row = db_col_i64(s, 0),
					       .message = db_col_i64(s, 1) };
		*last = db_col_i64(s, 0);
	}
	return r;
}

/* Runs ACT on every page of matching recipients; *RET_COUNT is what it did. */
static int each_page(struct queue *q, const struct queue_filter *f,
		     int (*act)(struct page *p, size_t *count), size_t *ret_count)
{
	struct filter filter;
	size_t count = 0;
	int r = 0;
	_cleanup_(freep) struct page *p = xcalloc(1, sizeof(*p));
	p->q = q;
	bool some = filter_of(f, &filter);
	for (unsigned i = 0; some && r >= 0 && i < q->n_shards; i++) {
		int64_t last = 0;
		p->s = &q->shard[i];
		while ((r = next_page(p, &filter, &last)) >= 0 && p->n > 0) {
			r = act(p, &count);
			if (r < 0)
				break;
		}
	}
	*ret_count = count;
	return r < 0 ? r : 0;
}

static int write_retry(struct db_tx *tx, void *arg)
{
	const struct page *p = arg;
	int r = 0;
	for (size_t i = 0; r >= 0 && i < p->n; i++)
		if (p->v[i].g)
			r = db_run(tx,
				   "UPDATE recipient SET next_at = ?, fixed = 0 WHERE row = ? AND "
				   "state = 0",
				   "ii", p->now, p->v[i].row);
	return r;
}

/* The rows first: a recipient that a delivery takes meanwhile is told its time anew by its
 * settling. */
static int retry_page(struct page *p, size_t *count)
{
	struct queue *q = p->q;
	p->now = clock_wall();
	pthread_mutex_lock(&q->lock);
	for (size_t i = 0; i < p->n; i++) {
		struct group *g = schedule_find(q, p->s->no, p->v[i].message, p->v[i].row);
		p->v[i].g = g && !g->lease ? g : NULL;
		if (!p->v[i].g)
			continue;
		if (g->due > p->now)
			schedule_move(q, g, p->now);
		++*count;
	}
	schedule_unlock(q);
	return db_write(p->s->db, write_retry, p);
}

int queue_retry(struct queue *q, const struct queue_filter *f, size_t *ret_count)
{
	return each_page(q, f, retry_page, ret_count);
}

static int write_drop(struct db_tx *tx, void *arg)
{
	struct page *p = arg;
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

/* A drop leases what it removes, so that no delivery can take it before the commit. */
static size_t drop_lease(struct page *p)
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

static void drop_unlease(struct page *p, bool dropped)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].g && p->v[i].g->lease)
			schedule_unlease(p->q, p->v[i].g, p->v[i].g->due);
	for (size_t i = 0; dropped && i < p->n; i++)
		if (p->v[i].g) /* the last row of a group frees it, and is its last mention */
			schedule_take_row(p->q, p->v[i].g, p->v[i].row);
}

static int drop_page(struct page *p, size_t *count)
{
	struct queue *q = p->q;
	_cleanup_(freep) char(*blobs)[BLOB_NAME] = xcalloc(p->n, sizeof(*blobs));
	p->blobs = blobs;
	pthread_mutex_lock(&q->lock);
	size_t n = drop_lease(p);
	pthread_mutex_unlock(&q->lock);
	int r = n ? db_write(p->s->db, write_drop, p) : 0;
	pthread_mutex_lock(&q->lock);
	drop_unlease(p, n && r >= 0);
	schedule_unlock(q);
	if (n == 0 || r < 0)
		return r;
	*count += n;
	atomic_fetch_add(&p->s->n_keys, p->keys);
	for (size_t i = 0; i < p->n_blobs; i++)
		blob_remove(q, p->blobs[i]);
	return 0;
}

int queue_drop(struct queue *q, const struct queue_filter *f, size_t *ret_count)
{
	return each_page(q, f, drop_page, ret_count);
}

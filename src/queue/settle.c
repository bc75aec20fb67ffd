#include "queue/queue_int.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/failpoint.h"

/* What becomes of one recipient, decided before the commit so that the commit may be repeated. */
struct plan {
	int64_t row;
	const struct queue_result *r; /* NULL: not named, released */
	bool waits, fixed;
	usec next;
};

struct settle {
	const struct queue_lease *l;
	struct plan *plans;
	size_t n;
	const struct insert *dsn; /* NULL: none */
	/* results of the commit */
	bool left;
	char blob[BLOB_NAME];
	int64_t keys;
};

/* ------------------------------------------------------------------ plan */

static const struct queue_result *result_of(const struct queue_result *r, size_t n, size_t guess,
					    int64_t row)
{
	if (guess < n && r[guess].row == row)
		return &r[guess];
	for (size_t i = 0; i < n; i++)
		if (r[i].row == row)
			return &r[i];
	return NULL;
}

static struct plan plan_one(const struct queue_conf *conf, const struct queue_terms *terms,
			    const struct queue_rcpt *rcpt, const struct queue_result *r,
			    const struct group *g, usec now, uint64_t random)
{
	struct plan p = {
		.row = rcpt->row, .r = r, .waits = true, .fixed = g->fixed, .next = g->due
	};
	switch (r ? r->outcome : OUTCOME_RELEASED) {
	case OUTCOME_DELIVERED:
	case OUTCOME_FAILED:
		p.waits = false;
		break;
	case OUTCOME_DEFERRED:
		p.fixed = r->not_before != 0;
		p.next = retry_at(conf, terms, rcpt, r, now, random);
		break;
	case OUTCOME_RELEASED:
		if (r && r->not_before) {
			p.fixed = true;
			p.next = r->not_before;
		}
		break;
	}
	return p;
}

/* All of the lease's recipients get a plan, and every result must belong to one. */
static int make_plans(struct queue *q, const struct queue_lease *l, const struct queue_result *r,
		      size_t n, struct arena *mem, struct plan **ret)
{
	struct plan *plans = arena_array(mem, struct plan, l->n_rcpts);
	usec now = clock_wall();
	uint64_t random = random_u64(); /* one for all: those with as many attempts stay together */
	size_t used = 0;
	pthread_mutex_lock(&q->lock);
	const struct group *g = idmap_get(q->leases, l->lease_id);
	for (size_t i = 0; g && i < l->n_rcpts; i++) {
		const struct queue_result *one = result_of(r, n, i, l->rcpts[i].row);
		used += one != NULL;
		plans[i] = plan_one(&q->conf, &l->terms, &l->rcpts[i], one, g, now, random);
	}
	pthread_mutex_unlock(&q->lock);
	if (!g)
		return ERR_NOENT;
	if (used != n)
		return ERR_INVAL;
	*ret = plans;
	return 0;
}

/* ------------------------------------------------------------------ commit */

int message_leave(struct db_tx *tx, int64_t message, char *ret_blob, int64_t *ret_keys)
{
	int64_t waits;
	int r = db_get_i64(tx, &waits,
			   "SELECT 1 FROM recipient WHERE message = ? AND state = 0 LIMIT 1", "i",
			   message);
	if (r != 0)
		return r < 0 ? r : 0;
	struct db_stmt *s = db_sql(tx, "SELECT blob FROM message WHERE row = ?");
	db_bind(s, "i", message);
	r = db_step(s);
	if (r <= 0)
		return r;
	span blob = db_col_span(s, 0);
	memcpy(ret_blob, blob.p ? blob.p : "", MIN(blob.n, (size_t)BLOB_NAME - 1));
	ret_blob[MIN(blob.n, (size_t)BLOB_NAME - 1)] = '\0';
	db_reset(s);
	r = db_run(tx,
		   "INSERT INTO gone_key(row, key, address) SELECT row, key, address FROM recipient"
		   " WHERE message = ? AND (route = 'local' OR substr(route, 1, 6) = 'local:')",
		   "i", message);
	*ret_keys = db_changes(tx);
	if (r >= 0)
		r = db_run(tx, "DELETE FROM recipient WHERE message = ?", "i", message);
	if (r >= 0)
		r = db_run(tx, "DELETE FROM body WHERE message = ?", "i", message);
	if (r >= 0)
		r = db_run(tx, "DELETE FROM message WHERE row = ?", "i", message);
	return r < 0 ? r : 1;
}

static int write_plan(struct db_tx *tx, const struct plan *p)
{
	const struct queue_result *r = p->r;
	if (!r || r->outcome == OUTCOME_RELEASED)
		return 0; /* was not tried: nothing to remember */
	int64_t state = r->outcome == OUTCOME_DELIVERED ? STATE_DONE
			: r->outcome == OUTCOME_FAILED	? STATE_FAILED
							: STATE_WAITING;
	int e = db_run(
		tx,
		"UPDATE recipient SET state = ?, attempts = attempts + 1, next_at = ?, fixed "
		"= ?, reply = ?,"
		" status = ?, remote = ?, warned = warned OR ? WHERE row = ? AND state = 0",
		"iiisssii", state, p->next, (int64_t)p->fixed, r->reply,
		span_of(r->status, strnlen(r->status, sizeof(r->status))), r->remote,
		(int64_t)r->warn, p->row);
	/* Rows of a lease are its own: without the row this was settled before, DSN and all. */
	return e >= 0 && db_changes(tx) == 0 ? ERR_NOENT : e;
}

static int write_settle(struct db_tx *tx, void *arg)
{
	struct settle *s = arg;
	int r = 0;
	s->left = false;
	for (size_t i = 0; r >= 0 && i < s->n; i++)
		r = write_plan(tx, &s->plans[i]);
	if (r >= 0 && s->dsn)
		r = insert_write(tx, s->dsn);
	if (r >= 0)
		r = message_leave(tx, s->l->message_row, s->blob, &s->keys);
	if (r > 0)
		s->left = true;
	return r < 0 ? r : 0;
}

static bool durable(const struct settle *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->plans[i].r && s->plans[i].r->outcome != OUTCOME_RELEASED)
			return true;
	return s->dsn != NULL;
}

/* ------------------------------------------------------------------ memory */

static int by_next(const void *a, const void *b)
{
	const struct plan *x = a, *y = b;
	if (x->waits != y->waits)
		return x->waits ? -1 : 1;
	if (x->next != y->next)
		return x->next < y->next ? -1 : 1;
	return (int)x->fixed - (int)y->fixed;
}

/* What still waits goes back as new groups, then the leased one goes; the lock is held. */
static void reschedule(struct queue *q, struct settle *s)
{
	struct group *g = idmap_get(q->leases, s->l->lease_id);
	if (!g)
		return;
	_cleanup_(freep) int64_t *rows = xcalloc(s->n, sizeof(*rows));
	qsort(s->plans, s->n, sizeof(*s->plans), by_next);
	for (size_t from = 0, to; from < s->n && s->plans[from].waits; from = to) {
		const struct plan *first = &s->plans[from];
		for (to = from; to < s->n && by_next(&s->plans[to], first) == 0; to++)
			rows[to - from] = s->plans[to].row;
		schedule_add(q, &(struct waiting){ .shard = g->m->shard,
						   .message = g->m->row,
						   .id = &g->m->id,
						   .route = g->route->text,
						   .due = first->next,
						   .priority = g->priority,
						   .fixed = first->fixed,
						   .held = g->held,
						   .rows = rows,
						   .n = to - from });
	}
	schedule_remove(q, g);
}

static int settle(struct queue *q, const struct queue_lease *l, const struct queue_result *r,
		  size_t n, const struct queue_message_in *dsn, struct arena *mem)
{
	struct settle s = { .l = l, .n = l->n_rcpts };
	struct insert in;
	int e = make_plans(q, l, r, n, mem, &s.plans);
	if (e >= 0 && dsn) {
		e = insert_prepare(q, &q->shard[l->shard], dsn, mem, &in);
		s.dsn = &in;
	}
	if (e < 0)
		return e;
	if (durable(&s)) {
		FAILPOINT("queue.settle.before_commit");
		e = shard_healthy(&q->shard[l->shard]);
		if (e >= 0)
			e = db_write(q->shard[l->shard].db, write_settle, &s);
		if (e < 0) {
			if (s.dsn)
				insert_abandon(q, s.dsn, e);
			return e;
		}
		FAILPOINT("queue.settle.after_commit");
	}
	if (s.left) {
		atomic_fetch_add(&q->shard[l->shard].n_keys, s.keys);
		if (s.blob[0]) {
			FAILPOINT("queue.remove.before_unlink");
			blob_remove(q, s.blob);
		}
	}
	pthread_mutex_lock(&q->lock);
	reschedule(q, &s);
	if (s.dsn)
		insert_schedule(q, s.dsn);
	schedule_unlock(q);
	return 0;
}

/* ------------------------------------------------------------------ results whose commit failed */

void unsettled_free(struct unsettled *u)
{
	if (u->has_dsn && !u->dsn.body.p && u->dsn.size)
		close(u->dsn.spool_fd);
	arena_done(&u->mem);
	free(u);
}

static void copy_dsn(struct unsettled *u, const struct queue_message_in *dsn)
{
	struct arena *mem = &u->mem;
	struct queue_message_in d = *dsn;
	struct queue_rcpt_in *rcpts = arena_array(mem, struct queue_rcpt_in, d.n_rcpts);
	d.sender = arena_span(mem, d.sender);
	d.envid = arena_span(mem, d.envid);
	d.account_id = arena_span(mem, d.account_id);
	d.once = arena_span(mem, d.once);
	if (d.body.p)
		d.body = arena_span(mem, d.body);
	else if (d.size)
		d.spool_fd = fcntl(d.spool_fd, F_DUPFD_CLOEXEC, 0);
	for (size_t i = 0; i < d.n_rcpts; i++) {
		rcpts[i] = d.rcpts[i];
		rcpts[i].address = arena_span(mem, d.rcpts[i].address);
		rcpts[i].route = arena_span(mem, d.rcpts[i].route);
		rcpts[i].original = arena_span(mem, d.rcpts[i].original);
	}
	d.rcpts = rcpts;
	u->dsn = d;
	u->has_dsn = true;
}

static struct unsettled *unsettled_new(const struct queue_lease *l, const struct queue_result *r,
				       size_t n, const struct queue_message_in *dsn)
{
	struct unsettled *u = xcalloc(1, sizeof(*u));
	arena_init(&u->mem);
	u->l = *l; /* settling needs its numbers and its recipients' only */
	u->l.sender = u->l.route = u->l.envid = SPAN_NULL;
	u->l.rcpts = arena_array(&u->mem, struct queue_rcpt, l->n_rcpts);
	for (size_t i = 0; i < l->n_rcpts; i++)
		u->l.rcpts[i] = (struct queue_rcpt){ .row = l->rcpts[i].row,
						     .attempts = l->rcpts[i].attempts,
						     .warned = l->rcpts[i].warned };
	u->r = arena_array(&u->mem, struct queue_result, n);
	for (size_t i = 0; i < n; i++) {
		u->r[i] = r[i];
		u->r[i].reply = arena_span(&u->mem, r[i].reply);
		u->r[i].remote = arena_span(&u->mem, r[i].remote);
	}
	u->n = n;
	if (dsn)
		copy_dsn(u, dsn);
	return u;
}

/* U goes to the end, so that one that can never be committed does not keep back the others. */
static void keep(struct queue *q, struct unsettled *u)
{
	pthread_mutex_lock(&q->lock);
	struct group *g = idmap_get(q->leases, u->l.lease_id);
	if (g)
		g->kept = true;
	struct unsettled **tail = &q->unsettled;
	while (*tail)
		tail = &(*tail)->next;
	*tail = u;
	u->next = NULL;
	q->settle_at = clock_wall() + SICK_DELAY;
	pthread_mutex_unlock(&q->lock);
}

static void forget_lease(struct queue *q, const struct queue_lease *l)
{
	pthread_mutex_lock(&q->lock);
	struct group *g = idmap_get(q->leases, l->lease_id);
	if (g)
		schedule_remove(q, g);
	pthread_mutex_unlock(&q->lock);
}

void settle_again(struct queue *q)
{
	for (;;) {
		pthread_mutex_lock(&q->lock);
		struct unsettled *u = q->unsettled;
		if (u && clock_wall() < q->settle_at)
			u = NULL;
		if (u)
			q->unsettled = u->next;
		pthread_mutex_unlock(&q->lock);
		if (!u)
			return;
		int r = shard_healthy(&q->shard[u->l.shard]);
		if (r >= 0) {
			_cleanup_(arena_donep) struct arena mem = { 0 };
			r = settle(q, &u->l, u->r, u->n, u->has_dsn ? &u->dsn : NULL, &mem);
		}
		if (r < 0 && r != ERR_NOENT) {
			keep(q, u);
			return;
		}
		if (r == ERR_NOENT)
			forget_lease(q, &u->l);
		unsettled_free(u);
	}
}

int queue_settle(struct queue *q, const struct queue_lease *l, const struct queue_result *r,
		 size_t n, const struct queue_message_in *dsn, struct arena *mem)
{
	int e = settle(q, l, r, n, dsn, mem);
	if (e < 0 && e != ERR_NOENT && e != ERR_INVAL)
		keep(q, unsettled_new(l, r, n, dsn));
	return e;
}

/* ------------------------------------------------------------------ keys of rows that are gone
 * (Q4) */

/* Up to MAX of S behind AFTER. */
static int read_keys(struct shard *s, int64_t after, size_t max, struct arena *mem,
		     struct queue_key *v, size_t *n)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = shard_healthy(s);
	if (r >= 0)
		r = db_read_begin(s->db, &tx);
	if (r < 0)
		return r;
	struct db_stmt *st = db_sql(
		tx, "SELECT row, key, address FROM gone_key WHERE row > ? ORDER BY row LIMIT ?");
	db_bind(st, "ii", after, (int64_t)(max - *n));
	while ((r = db_step(st)) > 0) {
		struct queue_key *k = &v[(*n)++];
		span key = db_col_span(st, 1);
		*k = (struct queue_key){ .shard = s->no,
					 .row = db_col_i64(st, 0),
					 .address = arena_span(mem, db_col_span(st, 2)) };
		memcpy(k->key, key.p, MIN(key.n, sizeof(k->key)));
	}
	return r;
}

int queue_keys_take(struct queue *q, size_t max, struct arena *mem, struct queue_key **ret,
		    size_t *n)
{
	struct queue_key *v = NULL;
	size_t got = 0;
	pthread_mutex_lock(&q->lock);
	struct key_place at = q->keys_at;
	pthread_mutex_unlock(&q->lock);
	for (; at.shard < q->n_shards && got < max; at = (struct key_place){ at.shard + 1, 0 }) {
		struct shard *s = &q->shard[at.shard];
		if (atomic_load(&s->n_keys) <= 0)
			continue; /* the usual case costs no database */
		if (!v)
			v = arena_array(mem, struct queue_key, max);
		int r = read_keys(s, at.row, max, mem, v, &got);
		if (r < 0)
			return r;
	}
	/* What could not be dropped must not stand before the rest again. */
	pthread_mutex_lock(&q->lock);
	q->keys_at = got == max ? (struct key_place){ v[got - 1].shard, v[got - 1].row }
				: (struct key_place){ 0 };
	pthread_mutex_unlock(&q->lock);
	*ret = v;
	*n = got;
	return 0;
}

struct drop_keys {
	unsigned shard;
	const struct queue_key *k;
	size_t n;
	int64_t dropped;
};

static int write_drop_keys(struct db_tx *tx, void *arg)
{
	struct drop_keys *d = arg;
	int r = 0;
	d->dropped = 0;
	for (size_t i = 0; r >= 0 && i < d->n; i++) {
		if (d->k[i].shard != d->shard)
			continue;
		r = db_run(tx, "DELETE FROM gone_key WHERE row = ?", "i", d->k[i].row);
		d->dropped += r >= 0 ? db_changes(tx) : 0;
	}
	return r;
}

int queue_key_done(struct queue *q, const struct queue_key *k, size_t n)
{
	for (unsigned i = 0; i < q->n_shards; i++) {
		struct drop_keys d = { .shard = i, .k = k, .n = n };
		bool any = false;
		for (size_t j = 0; j < n && !any; j++)
			any = k[j].shard == i;
		if (!any)
			continue;
		int r = db_write(q->shard[i].db, write_drop_keys, &d);
		if (r < 0)
			return r;
		atomic_fetch_sub(&q->shard[i].n_keys, d.dropped);
		FAILPOINT("queue.key.after_commit");
	}
	return 0;
}

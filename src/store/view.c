/* Views (S7): one immutable array per state of a mailbox, made from the previous one where there is
 * one: what changed since its modseq is found by index, what arrived by UID, the rest is copied. */
#include <assert.h>
#include <stdlib.h>

#include "store/store_int.h"

#define CACHED_VIEWS 64 /* per account; beyond, a new one displaces any other */

struct view_box {
	_Atomic unsigned refs;
	struct store_view v; /* last: ends in the rows */
};

static struct view_box *box_of(const struct store_view *v)
{
	return CONTAINER_OF(v, struct view_box, v);
}

const struct store_view *store_view_ref(const struct store_view *v)
{
	atomic_fetch_add(&box_of(v)->refs, 1);
	return v;
}

void store_view_put(const struct store_view *v)
{
	if (v && atomic_fetch_sub(&box_of(v)->refs, 1) == 1)
		free(box_of(v));
}

static struct view_box *box_new(const struct mbox *m, size_t rows)
{
	struct view_box *b = xcalloc(1, sizeof(*b) + rows * sizeof(struct store_row));
	atomic_init(&b->refs, 1);
	b->v.mailbox = m->id;
	b->v.uidvalidity = m->uidvalidity;
	b->v.uidnext = m->uidnext;
	b->v.modseq = m->modseq;
	return b;
}

/* --- reading rows --- */

struct rows {
	struct store_row *p;
	size_t n, cap;
};

static struct store_row *rows_add(struct rows *r)
{
	if (r->n == r->cap) {
		r->cap = r->cap ? r->cap * 2 : 64;
		r->p = xrealloc(r->p, r->cap * sizeof(*r->p));
	}
	return &r->p[r->n++];
}

static void read_row(struct db_stmt *q, struct store_row *r)
{
	*r = (struct store_row){ .uid = (uint32_t)db_col_i64(q, 0),
				 .flags = (uint32_t)db_col_i64(q, 1),
				 .keywords = (uint64_t)db_col_i64(q, 2),
				 .modseq = (uint64_t)db_col_i64(q, 3) };
}

static int build(struct db_tx *tx, const struct mbox *m, struct view_box **ret)
{
	struct view_box *b = box_new(m, (size_t)m->messages);
	struct db_stmt *q = db_sql(
		tx, "SELECT uid, flags, keywords, modseq FROM message WHERE mbox = ? ORDER BY uid");
	db_bind(q, "i", m->id);
	int r;
	while ((r = db_step(q)) > 0) {
		if (b->v.n == m->messages) { /* the row's count is wrong */
			db_reset(q);
			r = ERR_CORRUPT;
			break;
		}
		read_row(q, &b->v.rows[b->v.n++]);
	}
	if (r < 0) {
		free(b);
		return r;
	}
	*ret = b;
	return 0;
}

static int cmp_row(const void *a, const void *b)
{
	uint32_t x = ((const struct store_row *)a)->uid, y = ((const struct store_row *)b)->uid;
	return x < y ? -1 : x > y;
}

/* Rows changed or new, and rows gone, since OLD; each by rising UID. */
static int read_changes(struct db_tx *tx, const struct store_view *old, struct rows *changed,
			struct rows *gone)
{
	int r;
	struct db_stmt *q = db_sql(
		tx, "SELECT uid, flags, keywords, modseq FROM message INDEXED BY message_changed"
		    " WHERE changed = 1 AND mbox = ? AND modseq > ? AND uid < ?");
	db_bind(q, "iui", old->mailbox, old->modseq, (int64_t)old->uidnext);
	while ((r = db_step(q)) > 0)
		read_row(q, rows_add(changed));
	if (r < 0)
		return r;
	q = db_sql(tx,
		   "SELECT uid, flags, keywords, modseq FROM message WHERE mbox = ? AND uid >= ?");
	db_bind(q, "ii", old->mailbox, (int64_t)old->uidnext);
	while ((r = db_step(q)) > 0)
		read_row(q, rows_add(changed));
	if (r < 0)
		return r;
	q = db_sql(tx, "SELECT uid FROM expunged WHERE mbox = ? AND modseq > ?");
	db_bind(q, "iu", old->mailbox, old->modseq);
	while ((r = db_step(q)) > 0)
		*rows_add(gone) = (struct store_row){ .uid = (uint32_t)db_col_i64(q, 0) };
	if (r < 0)
		return r;
	if (changed->n)
		qsort(changed->p, changed->n, sizeof(*changed->p), cmp_row);
	if (gone->n)
		qsort(gone->p, gone->n, sizeof(*gone->p), cmp_row);
	return 0;
}

static struct view_box *merge(const struct store_view *old, const struct mbox *m,
			      const struct rows *changed, const struct rows *gone)
{
	struct view_box *b = box_new(m, old->n + changed->n);
	size_t c = 0, g = 0, n = 0;
	for (uint32_t i = 0; i < old->n; i++) {
		const struct store_row *r = &old->rows[i];
		while (g < gone->n && gone->p[g].uid < r->uid)
			g++; /* came and went between the two views */
		if (g < gone->n && gone->p[g].uid == r->uid)
			continue;
		if (c < changed->n && changed->p[c].uid == r->uid)
			r = &changed->p[c++];
		b->v.rows[n++] = *r;
	}
	while (c < changed->n)
		b->v.rows[n++] = changed->p[c++];
	b->v.n = (uint32_t)n;
	return b;
}

static int patch(struct db_tx *tx, const struct store_view *old, const struct mbox *m,
		 struct view_box **ret)
{
	struct rows changed = { 0 }, gone = { 0 };
	int r = read_changes(tx, old, &changed, &gone);
	if (!r)
		*ret = merge(old, m, &changed, &gone);
	free(changed.p);
	free(gone.p);
	return r;
}

/* --- the cache --- */

static const struct store_view *cached(struct account *a, int64_t mailbox)
{
	pthread_mutex_lock(&a->mu);
	struct view_box *b = idmap_get(a->views, (uint64_t)mailbox);
	const struct store_view *v = b ? store_view_ref(&b->v) : NULL;
	pthread_mutex_unlock(&a->mu);
	return v;
}

static void cache_put(struct account *a, const struct store_view *v)
{
	const struct store_view *drop = NULL;
	pthread_mutex_lock(&a->mu);
	struct view_box *old = idmap_get(a->views, (uint64_t)v->mailbox);
	if (!old || old->v.modseq < v->modseq) {
		idmap_put(a->views, (uint64_t)v->mailbox, box_of(store_view_ref(v)));
		drop = old ? &old->v : NULL;
	}
	if (idmap_count(a->views) > CACHED_VIEWS) {
		size_t it = 0;
		uint64_t key;
		void *value;
		while (idmap_next(a->views, &it, &key, &value)) {
			if ((int64_t)key == v->mailbox)
				continue;
			idmap_del(a->views, key);
			drop = &((struct view_box *)value)->v;
			break;
		}
	}
	pthread_mutex_unlock(&a->mu);
	store_view_put(drop);
}

void view_forget(struct account *a, int64_t mailbox)
{
	pthread_mutex_lock(&a->mu);
	struct view_box *b = idmap_del(a->views, (uint64_t)mailbox);
	pthread_mutex_unlock(&a->mu);
	if (b)
		store_view_put(&b->v);
}

void views_free(struct account *a)
{
	size_t it = 0;
	uint64_t key;
	void *value;
	while (idmap_next(a->views, &it, &key, &value))
		store_view_put(&((struct view_box *)value)->v);
	idmap_free(a->views);
}

static int make(struct db_tx *tx, const struct store_view *old, int64_t mailbox,
		const struct store_view **ret)
{
	struct mbox m;
	int r = mbox_load(tx, mailbox, &m);
	if (r)
		return r;
	if (!m.selectable)
		return ERR_NOENT;
	bool same = old && old->uidvalidity == m.uidvalidity;
	if (same && old->modseq == m.modseq) {
		*ret = store_view_ref(old);
		return 0;
	}
	struct view_box *b = NULL;
	r = same && old->modseq < m.modseq ? patch(tx, old, &m, &b) : build(tx, &m, &b);
	if (!r)
		*ret = &b->v;
	return r;
}

int store_view_get(struct account *a, int64_t mailbox, const struct store_view **ret)
{
	const struct store_view *old = cached(a, mailbox), *v = NULL;
	struct db_tx *tx = NULL;
	int r = db_read_begin(a->db, &tx);
	if (!r) {
		r = make(tx, old, mailbox, &v);
		db_read_end(tx);
	}
	if (r == ERR_NOENT)
		view_forget(a, mailbox);
	if (!r && v != old)
		cache_put(a, v);
	store_view_put(old);
	if (!r)
		*ret = v;
	return r;
}

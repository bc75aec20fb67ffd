/* Which DKIM keys a domain has, and which of them sign. */
#include "directory/directory_int.h"

#include <stdlib.h>

/* ------------------------------------------------------------------ memory */

void directory_dom_dkim_done(struct dom *dom)
{
	for (size_t i = 0; i < dom->n_dkim; i++)
		free((void *)dom->dkim[i].selector.p);
	free(dom->dkim);
}

static struct dom_dkim *find(const struct dom *dom, span selector)
{
	for (size_t i = 0; i < dom->n_dkim; i++)
		if (span_eq(dom->dkim[i].selector, selector))
			return &dom->dkim[i];
	return NULL;
}

static int by_selector(const void *a, const void *b)
{
	return span_cmp(((const struct dom_dkim *)a)->selector,
			((const struct dom_dkim *)b)->selector);
}

static void insert(struct dom *dom, const struct dom_dkim *k)
{
	dom->dkim = xrealloc(dom->dkim, (dom->n_dkim + 1) * sizeof(*dom->dkim));
	dom->dkim[dom->n_dkim] = *k;
	dom->dkim[dom->n_dkim++].selector = span_of(span_dup(k->selector), k->selector.n);
	qsort(dom->dkim, dom->n_dkim, sizeof(*dom->dkim), by_selector);
}

int directory_dkim_load(struct directory *d, struct err_info *info)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(d->db, &tx);
	if (r >= 0) {
		struct db_stmt *s = db_sql(
			tx, "SELECT domain, selector, type, state, changed FROM dkim_key");
		while ((r = db_step(s)) > 0) {
			struct dom *dom = map_get(d->domains, db_col_span(s, 0));
			struct dom_dkim k = { .selector = db_col_span(s, 1),
					      .type = (enum sign_type)db_col_i64(s, 2),
					      .state = (enum dkim_state)db_col_i64(s, 3),
					      .changed = db_col_i64(s, 4) };
			if (!dom) /* an older release, which did not know of keys, removed it */
				continue;
			insert(dom, &k);
			d->n_signing += k.state == DKIM_ACTIVE;
		}
	}
	return r < 0 ? err_set(info, r, "the list of DKIM keys cannot be read: %s", err_text(r))
		     : 0;
}

/* ------------------------------------------------------------------ changes */

struct row {
	span domain, selector;
	int64_t type, now;
};

static int write_new(struct db_tx *tx, void *arg)
{
	const struct row *w = arg;
	return db_run(tx,
		      "INSERT OR REPLACE INTO dkim_key(domain, selector, type, state, changed)"
		      " VALUES(?, ?, ?, 0, ?)",
		      "ssii", w->domain, w->selector, w->type, w->now);
}

static int write_use(struct db_tx *tx, void *arg)
{
	const struct row *w = arg;
	int r = db_run(tx,
		       "UPDATE dkim_key SET state = 2, changed = ? WHERE domain = ? AND type = ?"
		       " AND state = 1 AND selector <> ?",
		       "isis", w->now, w->domain, w->type, w->selector);
	return r < 0 ? r
		     : db_run(tx,
			      "UPDATE dkim_key SET state = 1, changed = ? WHERE domain = ?"
			      " AND selector = ?",
			      "iss", w->now, w->domain, w->selector);
}

static int write_remove(struct db_tx *tx, void *arg)
{
	const struct row *w = arg;
	return db_run(tx, "DELETE FROM dkim_key WHERE domain = ? AND selector = ?", "ss", w->domain,
		      w->selector);
}

static int no_key(struct err_info *info)
{
	return err_set(info, ERR_NOENT, "the domain has no DKIM key with this selector");
}

int directory_dkim_add(struct directory *d, span domain, span selector, enum sign_type type,
		       struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct dom *dom = directory_known_domain(d, domain, &mem, info);
	if (!dom)
		return ERR_NOENT;
	if (find(dom, selector))
		return err_set(info, ERR_EXIST, "the domain has a DKIM key with this selector");
	if (dom->n_dkim >= DIRECTORY_DKIM_MAX)
		return err_set(info, ERR_TOOBIG, "the domain has %d DKIM keys: drop old ones",
			       DIRECTORY_DKIM_MAX);
	struct dom_dkim k = { .selector = selector, .type = type, .changed = clock_wall() };
	struct row row = { dom->name, selector, type, k.changed };
	int r = directory_commit(d, write_new, &row, info);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->lock);
	insert(dom, &k);
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

int directory_dkim_use(struct directory *d, span domain, span selector, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct dom *dom = directory_known_domain(d, domain, &mem, info);
	if (!dom)
		return ERR_NOENT;
	struct dom_dkim *k = find(dom, selector);
	if (!k)
		return no_key(info);
	struct row row = { dom->name, k->selector, k->type, clock_wall() };
	int r = directory_commit(d, write_use, &row, info);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->lock);
	for (size_t i = 0; i < dom->n_dkim; i++) {
		struct dom_dkim *other = &dom->dkim[i];
		if (other == k || other->type != k->type || other->state != DKIM_ACTIVE)
			continue;
		other->state = DKIM_RETIRED;
		other->changed = row.now;
		d->n_signing--;
	}
	d->n_signing += k->state != DKIM_ACTIVE;
	k->state = DKIM_ACTIVE;
	k->changed = row.now;
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

int directory_dkim_remove(struct directory *d, span domain, span selector, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct dom *dom = directory_known_domain(d, domain, &mem, info);
	if (!dom)
		return ERR_NOENT;
	struct dom_dkim *k = find(dom, selector);
	if (!k)
		return no_key(info);
	struct row row = { .domain = dom->name, .selector = k->selector };
	int r = directory_commit(d, write_remove, &row, info);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->lock);
	d->n_signing -= k->state == DKIM_ACTIVE;
	free((void *)k->selector.p);
	*k = dom->dkim[--dom->n_dkim];
	qsort(dom->dkim, dom->n_dkim, sizeof(*dom->dkim), by_selector);
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

/* ------------------------------------------------------------------ reads */

static void copy(const struct dom *dom, const struct dom_dkim *k, struct arena *mem,
		 struct directory_dkim *ret)
{
	*ret = (struct directory_dkim){ .domain = arena_span(mem, dom->name),
					.selector = arena_span(mem, k->selector),
					.type = k->type,
					.state = k->state,
					.changed = k->changed };
}

static int by_domain(const void *pa, const void *pb)
{
	const struct directory_dkim *a = pa, *b = pb;
	int r = span_cmp(a->domain, b->domain);
	return r ? r : span_cmp(a->selector, b->selector);
}

int directory_dkim_list(struct directory *d, span domain, struct arena *mem,
			struct directory_dkim **ret, size_t *ret_n)
{
	struct directory_domain known = { 0 };
	if (domain.n && directory_domain_get(d, domain, mem, &known) < 0)
		return ERR_NOENT;
	pthread_rwlock_rdlock(&d->lock);
	size_t n = 0, cap = 0;
	void *p;
	for (size_t it = 0; map_next(d->domains, &it, NULL, &p);)
		cap += ((struct dom *)p)->n_dkim;
	struct directory_dkim *v = arena_array(mem, struct directory_dkim, cap + 1);
	for (size_t it = 0; map_next(d->domains, &it, NULL, &p);) {
		const struct dom *dom = p;
		if (!domain.n || span_eq(dom->name, known.name))
			for (size_t i = 0; i < dom->n_dkim; i++)
				copy(dom, &dom->dkim[i], mem, &v[n++]);
	}
	pthread_rwlock_unlock(&d->lock);
	if (n)
		qsort(v, n, sizeof(*v), by_domain);
	*ret = v;
	*ret_n = n;
	return 0;
}

int directory_dkim_get(struct directory *d, span domain, span selector, struct arena *mem,
		       struct directory_dkim *ret)
{
	struct directory_dkim *v;
	size_t n;
	int r = directory_dkim_list(d, domain, mem, &v, &n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (!span_eq(v[i].selector, selector))
			continue;
		*ret = v[i];
		return 0;
	}
	return ERR_NOENT;
}

size_t directory_dkim_active(struct directory *d, span domain, struct arena *mem,
			     struct directory_dkim **ret)
{
	span name;
	size_t n = 0;
	if (directory_domain_parse(domain, mem, &name) < 0)
		return 0;
	pthread_rwlock_rdlock(&d->lock);
	const struct dom *dom = map_get(d->domains, name);
	struct directory_dkim *v = dom ? arena_array(mem, struct directory_dkim, dom->n_dkim + 1)
				       : NULL;
	for (size_t i = 0; dom && i < dom->n_dkim; i++)
		if (dom->dkim[i].state == DKIM_ACTIVE)
			copy(dom, &dom->dkim[i], mem, &v[n++]);
	pthread_rwlock_unlock(&d->lock);
	*ret = v;
	return n;
}

bool directory_dkim_any(const struct directory *d)
{
	return d->n_signing > 0;
}

#include "directory/directory_int.h"

#include <stdlib.h>

/* ------------------------------------------------------------------ load */

static int load_domains(struct directory *d, struct db_tx *tx, struct arena *mem)
{
	struct db_stmt *s = db_sql(
		tx, "SELECT name, catch_all, from_policy, subaddress, alias_of, unknown_to,"
		    " known_only, scram FROM domain");
	int r;
	while ((r = db_step(s)) > 0) {
		struct dom *dom = directory_dom_new(db_col_span(s, 0));
		struct name_key k = { 0 };
		span catch_all = db_col_span(s, 1);
		struct directory_domain v = { .from = (enum from_policy)db_col_i64(s, 2),
					      .subaddress = db_col_i64(s, 3) != 0,
					      .alias_of = db_col_span(s, 4),
					      .unknown_to = db_col_span(s, 5),
					      .known_only = db_col_i64(s, 6) != 0,
					      .scram = db_col_i64(s, 7) != 0 };
		if (catch_all.n && directory_name_parse(catch_all, mem, &k) < 0)
			k = (struct name_key){ 0 };
		dom->v = directory_dom_values(&v, &k);
		map_put(d->domains, dom->name, dom);
	}
	return r;
}

/* The entry for a row's address; NULL if the row cannot be (its domain is gone, it does not parse).
 */
static struct name *load_name(struct directory *d, span address, struct arena *mem)
{
	struct name_key k;
	if (directory_name_parse(address, mem, &k) < 0)
		return NULL;
	struct dom *dom = map_get(d->domains, span_from(k.key, k.at + 1));
	return dom ? directory_name_new(&k, dom) : NULL;
}

static int load_accounts(struct directory *d, struct db_tx *tx, struct arena *mem)
{
	struct db_stmt *s = db_sql(
		tx, "SELECT address, id, generation, quota_bytes, suspended, from_policy,"
		    " app_only FROM account");
	int r;
	while ((r = db_step(s)) > 0) {
		struct name *n = load_name(d, db_col_span(s, 0), mem);
		span id = db_col_span(s, 1);
		if (!n || id.n != ACCOUNT_ID_LEN) {
			directory_name_free(n);
			db_reset(s);
			return ERR_CORRUPT;
		}
		memcpy(n->account.id, id.p, ACCOUNT_ID_LEN);
		n->account.generation = (uint64_t)db_col_i64(s, 2);
		n->account.quota_bytes = (uint64_t)db_col_i64(s, 3);
		n->account.suspended = db_col_i64(s, 4) != 0;
		n->account.from = (enum from_policy)db_col_i64(s, 5);
		n->account.app_only = db_col_i64(s, 6) != 0;
		directory_name_link(d, n);
		arena_reset(mem);
	}
	return r;
}

/* Adds a target to the alias, which the first of them makes. */
static int load_target(struct directory *d, struct db_stmt *s, struct arena *mem)
{
	struct name_key k, target;
	if (directory_name_parse(db_col_span(s, 0), mem, &k) < 0 ||
	    directory_name_parse(db_col_span(s, 1), mem, &target) < 0)
		return ERR_CORRUPT;
	struct name *n = map_get(d->names, k.key);
	if (!n) {
		struct dom *dom = map_get(d->domains, span_from(k.key, k.at + 1));
		struct directory_alias v = { .priority = (int)db_col_i64(s, 2),
					     .senders = (enum alias_senders)db_col_i64(s, 3) };
		if (!dom)
			return ERR_CORRUPT;
		n = directory_alias_new(&k, dom, &v, NULL);
		directory_name_link(d, n);
	}
	/* Doubling at powers of two: the count alone tells the capacity. */
	if ((n->n_targets & (n->n_targets - 1)) == 0)
		n->targets = xrealloc(n->targets,
				      (n->n_targets ? n->n_targets * 2 : 1) * sizeof(*n->targets));
	n->targets[n->n_targets++] = directory_key_dup(&target);
	return 0;
}

static int load_aliases(struct directory *d, struct db_tx *tx, struct arena *mem)
{
	struct db_stmt *s = db_sql(
		tx, "SELECT t.address, t.target, n.priority, n.senders FROM alias_target t"
		    " JOIN name n ON n.address = t.address ORDER BY t.address, t.position");
	int r;
	while ((r = db_step(s)) > 0) {
		arena_reset(mem);
		r = load_target(d, s, mem);
		if (r < 0) {
			db_reset(s);
			return r;
		}
	}
	return r;
}

int directory_load(struct directory *d, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(d->db, &tx);
	if (r >= 0)
		r = load_domains(d, tx, &mem);
	if (r >= 0)
		r = load_accounts(d, tx, &mem);
	if (r >= 0)
		r = load_aliases(d, tx, &mem);
	return r < 0 ? err_set(info, r, "the directory cannot be read: %s", err_text(r)) : 0;
}

/* ------------------------------------------------------------------ reads */

void directory_account_copy(const struct name *n, struct arena *mem, struct directory_account *ret)
{
	*ret = n->account;
	ret->address = arena_span(mem, n->k.text);
}

void directory_alias_copy(const struct name *n, struct arena *mem, struct directory_alias *ret)
{
	ret->address = arena_span(mem, n->k.text);
	ret->n_targets = n->n_targets;
	ret->targets = arena_array(mem, span, n->n_targets);
	for (size_t i = 0; i < n->n_targets; i++)
		ret->targets[i] = arena_span(mem, n->targets[i].text);
	ret->senders = n->senders;
	ret->priority = n->priority;
}

static void domain_copy(const struct dom *dom, struct arena *mem, struct directory_domain *ret)
{
	*ret = (struct directory_domain){ .name = arena_span(mem, dom->name),
					  .catch_all = arena_span(mem, dom->v.catch_all.text),
					  .from = dom->v.from,
					  .subaddress = dom->v.subaddress,
					  .scram = dom->v.scram,
					  .alias_of = arena_span(mem, dom->v.alias_of),
					  .unknown_to = arena_span(mem, dom->v.unknown_to),
					  .known_only = dom->v.known_only };
}

int directory_domain_get(struct directory *d, span domain, struct arena *mem,
			 struct directory_domain *ret)
{
	span name;
	if (directory_domain_parse(domain, mem, &name) < 0)
		return ERR_NOENT;
	pthread_rwlock_rdlock(&d->lock);
	const struct dom *dom = map_get(d->domains, name);
	if (dom)
		domain_copy(dom, mem, ret);
	pthread_rwlock_unlock(&d->lock);
	return dom ? 0 : ERR_NOENT;
}

/* The account or alias ADDRESS; the lock is held. */
static const struct name *name_of(struct directory *d, span address, bool alias, struct arena *mem)
{
	struct name_key k;
	const struct name *n = NULL;
	if (directory_name_parse(address, mem, &k) == 0)
		n = map_get(d->names, k.key);
	return n && n->is_alias == alias ? n : NULL;
}

int directory_account_get(struct directory *d, span address, struct arena *mem,
			  struct directory_account *ret)
{
	pthread_rwlock_rdlock(&d->lock);
	const struct name *n = name_of(d, address, false, mem);
	if (n)
		directory_account_copy(n, mem, ret);
	pthread_rwlock_unlock(&d->lock);
	return n ? 0 : ERR_NOENT;
}

int directory_alias_get(struct directory *d, span address, struct arena *mem,
			struct directory_alias *ret)
{
	pthread_rwlock_rdlock(&d->lock);
	const struct name *n = name_of(d, address, true, mem);
	if (n)
		directory_alias_copy(n, mem, ret);
	pthread_rwlock_unlock(&d->lock);
	return n ? 0 : ERR_NOENT;
}

int directory_account_by_id(struct directory *d, span id, struct arena *mem,
			    struct directory_account *ret)
{
	pthread_rwlock_rdlock(&d->lock);
	const struct name *n = map_get(d->ids, id);
	if (n)
		directory_account_copy(n, mem, ret);
	pthread_rwlock_unlock(&d->lock);
	return n ? 0 : ERR_NOENT;
}

static int by_domain_name(const void *a, const void *b)
{
	return span_cmp(((const struct directory_domain *)a)->name,
			((const struct directory_domain *)b)->name);
}

int directory_domains(struct directory *d, struct arena *mem, struct directory_domain **ret,
		      size_t *n)
{
	pthread_rwlock_rdlock(&d->lock);
	struct directory_domain *v = arena_array(mem, struct directory_domain,
						 map_count(d->domains));
	size_t i = 0;
	void *dom;
	for (size_t it = 0; map_next(d->domains, &it, NULL, &dom);)
		domain_copy(dom, mem, &v[i++]);
	pthread_rwlock_unlock(&d->lock);
	if (i)
		qsort(v, i, sizeof(*v), by_domain_name);
	*ret = v;
	*n = i;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return span_cmp((*(struct name *const *)a)->k.text, (*(struct name *const *)b)->k.text);
}

/* The accounts or aliases of DOMAIN (empty: all; ERR_NOENT if it is not ours), sorted, each copied by COPY
 * into one of an array of SIZE'd rows. */
static int list_names(struct directory *d, span domain, bool alias, struct arena *mem, size_t size,
		      void (*copy)(const struct name *n, struct arena *mem, void *row), void *ret,
		      size_t *ret_n)
{
	struct directory_domain known = { 0 };
	if (domain.n && directory_domain_get(d, domain, mem, &known) < 0)
		return ERR_NOENT;
	pthread_rwlock_rdlock(&d->lock);
	_cleanup_(freep) struct name **v = xcalloc(map_count(d->names) + 1, sizeof(*v));
	size_t n = 0;
	void *p;
	for (size_t it = 0; map_next(d->names, &it, NULL, &p);) {
		struct name *entry = p;
		if (entry->is_alias == alias &&
		    (!domain.n || span_eq(entry->dom->name, known.name)))
			v[n++] = entry;
	}
	if (n)
		qsort(v, n, sizeof(struct name *), by_name);
	char *rows = arena_alloc(mem, size * (n + 1));
	for (size_t i = 0; i < n; i++)
		copy(v[i], mem, rows + i * size);
	pthread_rwlock_unlock(&d->lock);
	*(void **)ret = rows;
	*ret_n = n;
	return 0;
}

static void account_row(const struct name *n, struct arena *mem, void *row)
{
	directory_account_copy(n, mem, row);
}

static void alias_row(const struct name *n, struct arena *mem, void *row)
{
	directory_alias_copy(n, mem, row);
}

int directory_accounts(struct directory *d, span domain_or_empty, struct arena *mem,
		       struct directory_account **ret, size_t *n)
{
	return list_names(d, domain_or_empty, false, mem, sizeof(**ret), account_row, ret, n);
}

int directory_aliases(struct directory *d, span domain_or_empty, struct arena *mem,
		      struct directory_alias **ret, size_t *n)
{
	return list_names(d, domain_or_empty, true, mem, sizeof(**ret), alias_row, ret, n);
}

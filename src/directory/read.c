#include "directory/directory_int.h"

#include <stdlib.h>

#include "format/idn.h"

/* ------------------------------------------------------------------ names */

int directory_domain_parse(span text, struct arena *mem, span *ret)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(255);
	if (!domain_valid(text, true) || idn_to_ascii(&b, text) < 0 ||
	    !domain_valid(buf_span(&b), false))
		return ERR_INVAL;
	*ret = arena_span(mem, buf_span(&b));
	return 0;
}

static void lower(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] >= 'A' && p[i] <= 'Z')
			p[i] += 'a' - 'A';
}

int directory_name_parse(span text, struct arena *mem, struct name_key *ret)
{
	struct address a;
	span domain;
	if (address_parse(text, ADDRESS_ALLOW_UTF8, mem, &a) != ADDRESS_OK)
		return ERR_INVAL;
	int r = directory_domain_parse(a.domain, mem, &domain);
	if (r < 0)
		return r;
	size_t n = a.local.n + 1 + domain.n;
	if (a.local.n == 0 || n > ADDRESS_MAX)
		return ERR_INVAL;
	char *key = arena_alloc(mem, n + 1);
	memcpy(key, a.local.p, a.local.n);
	lower(key, a.local.n);
	key[a.local.n] = '@';
	memcpy(key + a.local.n + 1, domain.p, domain.n);
	struct address normal = { .local = { key, a.local.n }, .domain = domain, .utf8 = a.utf8 };
	*ret = (struct name_key){ .key = { key, n },
				  .at = a.local.n,
				  .text = address_text(&normal, mem) };
	return 0;
}

struct name_key directory_key_dup(const struct name_key *k)
{
	return (struct name_key){ .key = { span_dup(k->key), k->key.n },
				  .at = k->at,
				  .text = { span_dup(k->text), k->text.n } };
}

void directory_key_done(struct name_key *k)
{
	free((void *)k->key.p);
	free((void *)k->text.p);
	*k = (struct name_key){ 0 };
}

struct name *directory_name_new(const struct name_key *k, struct dom *dom)
{
	struct name *n = xcalloc(1, sizeof(*n));
	n->k = directory_key_dup(k);
	n->dom = dom;
	n->account.address = n->k.text;
	return n;
}

void directory_name_free(struct name *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->n_targets; i++)
		directory_key_done(&n->targets[i]);
	free(n->targets);
	directory_key_done(&n->k);
	free(n);
}

struct dom *directory_dom_new(span name)
{
	struct dom *dom = xcalloc(1, sizeof(*dom));
	dom->name = span_of(span_dup(name), name.n);
	dom->subaddress = true;
	return dom;
}

void directory_dom_free(struct dom *dom)
{
	if (!dom)
		return;
	free((void *)dom->name.p);
	directory_key_done(&dom->catch_all);
	free(dom);
}

void directory_name_link(struct directory *d, struct name *n)
{
	map_put(d->names, n->k.key, n);
	if (!n->is_alias)
		map_put(d->ids, span_str(n->account.id), n);
	n->dom->n_names++;
}

void directory_name_unlink(struct directory *d, struct name *n)
{
	map_del(d->names, n->k.key);
	if (!n->is_alias)
		map_del(d->ids, span_str(n->account.id));
	n->dom->n_names--;
}

/* ------------------------------------------------------------------ load */

static int load_domains(struct directory *d, struct db_tx *tx, struct arena *mem)
{
	struct db_stmt *s = db_sql(tx,
				   "SELECT name, catch_all, from_policy, subaddress FROM domain");
	int r;
	while ((r = db_step(s)) > 0) {
		struct dom *dom = directory_dom_new(db_col_span(s, 0));
		map_put(d->domains, dom->name, dom);
		struct name_key k;
		span catch_all = db_col_span(s, 1);
		if (catch_all.n && directory_name_parse(catch_all, mem, &k) == 0)
			dom->catch_all = directory_key_dup(&k);
		dom->from = (enum from_policy)db_col_i64(s, 2);
		dom->subaddress = db_col_i64(s, 3) != 0;
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
		tx, "SELECT address, id, generation, quota_bytes, suspended, from_policy"
		    " FROM account");
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
		directory_name_link(d, n);
		arena_reset(mem);
	}
	return r;
}

static int load_aliases(struct directory *d, struct db_tx *tx, struct arena *mem)
{
	struct db_stmt *s = db_sql(
		tx, "SELECT address, target FROM alias_target ORDER BY address, position");
	int r;
	while ((r = db_step(s)) > 0) {
		struct name_key k, target;
		arena_reset(mem);
		if (directory_name_parse(db_col_span(s, 0), mem, &k) < 0 ||
		    directory_name_parse(db_col_span(s, 1), mem, &target) < 0) {
			db_reset(s);
			return ERR_CORRUPT;
		}
		struct name *n = map_get(d->names, k.key);
		if (!n) {
			n = load_name(d, db_col_span(s, 0), mem);
			if (!n) {
				db_reset(s);
				return ERR_CORRUPT;
			}
			n->is_alias = true;
			directory_name_link(d, n);
		}
		/* Doubling at powers of two: the count alone tells the capacity. */
		if ((n->n_targets & (n->n_targets - 1)) == 0)
			n->targets = xrealloc(n->targets, (n->n_targets ? n->n_targets * 2 : 1) *
								  sizeof(*n->targets));
		n->targets[n->n_targets++] = directory_key_dup(&target);
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
}

static void domain_copy(const struct dom *dom, struct arena *mem, struct directory_domain *ret)
{
	*ret = (struct directory_domain){ .name = arena_span(mem, dom->name),
					  .catch_all = arena_span(mem, dom->catch_all.text),
					  .from = dom->from,
					  .subaddress = dom->subaddress };
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

int directory_account_get(struct directory *d, span address, struct arena *mem,
			  struct directory_account *ret)
{
	struct name_key k;
	if (directory_name_parse(address, mem, &k) < 0)
		return ERR_NOENT;
	pthread_rwlock_rdlock(&d->lock);
	const struct name *n = map_get(d->names, k.key);
	if (n && n->is_alias)
		n = NULL;
	if (n)
		directory_account_copy(n, mem, ret);
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

/* The accounts or aliases of DOMAIN (empty: all), sorted; the lock is held.  The caller frees. */
static struct name **names_of(struct directory *d, span domain, bool alias, size_t *ret_n)
{
	struct name **v = xcalloc(map_count(d->names) + 1, sizeof(*v));
	size_t i = 0;
	void *p;
	for (size_t it = 0; map_next(d->names, &it, NULL, &p);) {
		struct name *n = p;
		if (n->is_alias == alias && (!domain.n || span_eq(n->dom->name, domain)))
			v[i++] = n;
	}
	if (i)
		qsort(v, i, sizeof(struct name *), by_name);
	*ret_n = i;
	return v;
}

/* The filter of a listing, checked: ERR_NOENT for a domain that is not ours. */
static int filter_domain(struct directory *d, span text, struct arena *mem, span *ret)
{
	struct directory_domain known = { 0 };
	int r = text.n ? directory_domain_get(d, text, mem, &known) : 0;
	if (r == 0)
		*ret = known.name;
	return r;
}

int directory_accounts(struct directory *d, span domain_or_empty, struct arena *mem,
		       struct directory_account **ret, size_t *n)
{
	span domain;
	int r = filter_domain(d, domain_or_empty, mem, &domain);
	if (r < 0)
		return r;
	size_t count;
	pthread_rwlock_rdlock(&d->lock);
	_cleanup_(freep) struct name **v = names_of(d, domain, false, &count);
	*ret = arena_array(mem, struct directory_account, count);
	for (size_t i = 0; i < count; i++)
		directory_account_copy(v[i], mem, &(*ret)[i]);
	pthread_rwlock_unlock(&d->lock);
	*n = count;
	return 0;
}

int directory_aliases(struct directory *d, span domain_or_empty, struct arena *mem,
		      struct directory_alias **ret, size_t *n)
{
	span domain;
	int r = filter_domain(d, domain_or_empty, mem, &domain);
	if (r < 0)
		return r;
	size_t count;
	pthread_rwlock_rdlock(&d->lock);
	_cleanup_(freep) struct name **v = names_of(d, domain, true, &count);
	*ret = arena_array(mem, struct directory_alias, count);
	for (size_t i = 0; i < count; i++)
		directory_alias_copy(v[i], mem, &(*ret)[i]);
	pthread_rwlock_unlock(&d->lock);
	*n = count;
	return 0;
}

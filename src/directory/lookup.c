#include "directory/directory_int.h"

#include "format/idn.h"

struct found {
	const struct dom *dom;	 /* NULL: not ours */
	const struct name *name; /* NULL: nobody, or the domain's catch-all */
	size_t detail;		 /* where the detail starts in the local part; 0: there is none */
};

/* The lock is held.  KEY's '@' is at AT. */
static struct found find(const struct directory *d, span key, size_t at)
{
	struct found f = { .dom = map_get(d->domains, span_from(key, at + 1)) };
	if (!f.dom)
		return f;
	f.name = map_get(d->names, key);
	if (f.name || !f.dom->subaddress)
		return f;
	size_t plus = span_find(span_sub(key, 0, at), '+');
	if (plus == SPAN_NPOS || plus == 0 || key.n > ADDRESS_MAX)
		return f;
	char base[ADDRESS_MAX];
	size_t n = plus + (key.n - at);
	memcpy(base, key.p, plus);
	memcpy(base + plus, key.p + at, key.n - at);
	f.name = map_get(d->names, span_of(base, n));
	if (f.name)
		f.detail = plus + 1;
	return f;
}

/* A's key; empty if A cannot be ours. */
static span key_of(const struct address *a, struct arena *mem, size_t *ret_at)
{
	_cleanup_(buf_donep) struct buf ascii = BUF_INIT(255);
	span domain = a->domain;
	bool plain = true;
	for (size_t i = 0; i < domain.n; i++)
		plain &= domain.p[i] > 0 && !(domain.p[i] >= 'A' && domain.p[i] <= 'Z');
	if (!plain) {
		if (domain.n > 255 || idn_to_ascii(&ascii, domain) < 0)
			return SPAN_NULL;
		domain = buf_span(&ascii);
	}
	if (!a->local.n || !domain.n || a->local.n + 1 + domain.n > ADDRESS_MAX)
		return SPAN_NULL;
	char *key = arena_alloc(mem, a->local.n + 1 + domain.n);
	for (size_t i = 0; i < a->local.n; i++) {
		char c = a->local.p[i];
		key[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
	}
	key[a->local.n] = '@';
	memcpy(key + a->local.n + 1, domain.p, domain.n);
	*ret_at = a->local.n;
	return span_of(key, a->local.n + 1 + domain.n);
}

/* The lock is held. */
static void match_of(const struct found *f, const struct address *a, struct arena *mem,
		     struct directory_match *m)
{
	if (!f->dom)
		return;
	m->kind = DIRECTORY_NO_USER;
	if (f->name) {
		m->detail = f->detail ? arena_span(mem, span_from(a->local, f->detail)) : SPAN_NULL;
		m->kind = f->name->is_alias	       ? DIRECTORY_ALIAS
			  : f->name->account.suspended ? DIRECTORY_SUSPENDED
						       : DIRECTORY_ACCOUNT;
		if (f->name->is_alias)
			directory_alias_copy(f->name, mem, &m->alias);
		else
			directory_account_copy(f->name, mem, &m->account);
	} else if (f->dom->catch_all.key.n) {
		m->kind = DIRECTORY_ALIAS;
		m->catch_all = true;
		m->alias = (struct directory_alias){ .address = address_text(a, mem),
						     .targets = arena_new(mem, span),
						     .n_targets = 1 };
		m->alias.targets[0] = arena_span(mem, f->dom->catch_all.text);
	}
}

int directory_lookup(struct directory *d, const struct address *a, struct arena *mem,
		     struct directory_match *ret)
{
	struct directory_match m = { .kind = DIRECTORY_NOT_LOCAL };
	size_t at;
	span key = key_of(a, mem, &at);
	if (key.n) {
		pthread_rwlock_rdlock(&d->lock);
		struct found f = find(d, key, at);
		match_of(&f, a, mem, &m);
		pthread_rwlock_unlock(&d->lock);
	}
	*ret = m;
	return 0;
}

/* Does KEY lead to ACCOUNT_ID?  Aliases may form loops and large groups: DEPTH and *BUDGET bound
 * the walk. */
static bool leads_to(const struct directory *d, span key, size_t at, span account_id, int depth,
		     int *budget)
{
	if (depth == 0 || --*budget < 0)
		return false;
	struct found f = find(d, key, at);
	if (!f.dom)
		return false;
	if (!f.name)
		return f.dom->catch_all.key.n &&
		       leads_to(d, f.dom->catch_all.key, f.dom->catch_all.at, account_id, depth - 1,
				budget);
	if (!f.name->is_alias)
		return span_eq(span_str(f.name->account.id), account_id);
	for (size_t i = 0; i < f.name->n_targets; i++)
		if (leads_to(d, f.name->targets[i].key, f.name->targets[i].at, account_id,
			     depth - 1, budget))
			return true;
	return false;
}

bool directory_owns(struct directory *d, span account_id, const struct address *a)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	size_t at;
	span key = key_of(a, &mem, &at);
	if (!key.n)
		return false;
	int budget = 4 * ALIAS_TARGETS_MAX;
	pthread_rwlock_rdlock(&d->lock);
	bool owns = leads_to(d, key, at, account_id, 8, &budget);
	pthread_rwlock_unlock(&d->lock);
	return owns;
}

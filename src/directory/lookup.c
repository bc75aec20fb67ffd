#include "directory/directory_int.h"

#include "format/idn.h"

struct found {
	const struct dom *dom;	 /* NULL: not ours */
	const struct name *name; /* NULL: nobody, or the domain's catch-all */
	size_t detail;		 /* where the detail starts in the local part; 0: there is none */
	bool aliased;		 /* by an alias domain */
	unsigned probes;
};

static const struct name *probe(const struct directory *d, struct found *f, span local)
{
	char key[ADDRESS_MAX];
	if (local.n + 1 + f->dom->name.n > sizeof(key))
		return NULL;
	memcpy(key, local.p, local.n);
	key[local.n] = '@';
	memcpy(key + local.n + 1, f->dom->name.p, f->dom->name.n);
	f->probes++;
	return map_get(d->names, span_of(key, local.n + 1 + f->dom->name.n));
}

static bool fits(const struct name *pattern, span local)
{
	span before = span_sub(pattern->k.key, 0, pattern->star);
	span after = span_sub(pattern->k.key, pattern->star + 1, pattern->k.at - pattern->star - 1);
	return local.n >= before.n + after.n && span_starts(local, before) &&
	       span_eq(span_from(local, local.n - after.n), after);
}

/* The lock is held.  KEY's '@' is at AT. */
static struct found find(const struct directory *d, span key, size_t at)
{
	span local = span_sub(key, 0, at);
	struct found f = { .dom = map_get(d->domains, span_from(key, at + 1)), .probes = 1 };
	if (f.dom && f.dom->v.alias_of.n) {
		f.dom = map_get(d->domains, f.dom->v.alias_of);
		f.aliased = true;
		f.probes++;
	}
	if (!f.dom)
		return f;
	f.name = probe(d, &f, local);
	if (f.name)
		return f;
	size_t plus = f.dom->v.subaddress ? span_find(local, '+') : SPAN_NPOS;
	if (plus != SPAN_NPOS && plus > 0) {
		f.name = probe(d, &f, span_sub(local, 0, plus));
		f.detail = f.name ? plus + 1 : 0;
	}
	for (size_t i = 0; !f.name && i < f.dom->n_patterns; i++) {
		f.probes++;
		if (fits(f.dom->patterns[i], local))
			f.name = f.dom->patterns[i];
	}
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

/* An alias to itself only says that the address is known where its domain's mail goes. */
static bool is_listing(const struct name *n)
{
	return n->dom->v.unknown_to.n && n->is_alias && n->star == SPAN_NPOS && n->n_targets == 1 &&
	       span_eq(n->targets[0].key, n->k.key);
}

static void match_name(const struct found *f, const struct address *a, struct arena *mem,
		       struct directory_match *m)
{
	m->detail = f->detail ? arena_span(mem, span_from(a->local, f->detail)) : SPAN_NULL;
	m->kind = f->name->is_alias	       ? DIRECTORY_ALIAS
		  : f->name->account.suspended ? DIRECTORY_SUSPENDED
					       : DIRECTORY_ACCOUNT;
	if (f->name->is_alias)
		directory_alias_copy(f->name, mem, &m->alias);
	else
		directory_account_copy(f->name, mem, &m->account);
}

/* The lock is held. */
static void match_of(const struct found *f, const struct address *a, struct arena *mem,
		     struct directory_match *m)
{
	m->probes = f->probes;
	if (!f->dom)
		return;
	const struct dom_values *v = &f->dom->v;
	m->kind = DIRECTORY_NO_USER;
	m->domain = f->aliased ? arena_span(mem, f->dom->name) : SPAN_NULL;
	if (f->name && !is_listing(f->name)) {
		match_name(f, a, mem, m);
	} else if (v->unknown_to.n && (f->name || !v->known_only)) {
		m->kind = DIRECTORY_ELSEWHERE;
		m->elsewhere = arena_span(mem, v->unknown_to);
	} else if (v->catch_all.key.n) {
		m->kind = DIRECTORY_ALIAS;
		m->catch_all = true;
		m->alias = (struct directory_alias){ .address = address_text(a, mem),
						     .targets = arena_new(mem, span),
						     .n_targets = 1 };
		m->alias.targets[0] = arena_span(mem, v->catch_all.text);
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
		return f.dom->v.catch_all.key.n &&
		       leads_to(d, f.dom->v.catch_all.key, f.dom->v.catch_all.at, account_id,
				depth - 1, budget);
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

struct membership {
	const struct directory *d;
	span key;		  /* whom we look for */
	const struct name *entry; /* the account or alias that this is, without detail; or NULL */
};

static bool has_member(const struct membership *m, const struct name *alias, int depth, int *budget)
{
	for (size_t i = 0; i < alias->n_targets; i++) {
		const struct name_key *t = &alias->targets[i];
		if (--*budget < 0)
			return false;
		if (span_eq(t->key, m->key))
			return true;
		struct found f = find(m->d, t->key, t->at);
		if (!f.name)
			continue;
		if (f.name == m->entry ||
		    (f.name->is_alias && depth > 0 && has_member(m, f.name, depth - 1, budget)))
			return true;
	}
	return false;
}

bool directory_is_member(struct directory *d, span alias, const struct address *a)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct name_key k;
	size_t at;
	span key = key_of(a, &mem, &at);
	if (!key.n || directory_name_parse(alias, &mem, &k) < 0)
		return false;
	int budget = 4 * ALIAS_TARGETS_MAX;
	pthread_rwlock_rdlock(&d->lock);
	const struct name *n = map_get(d->names, k.key);
	struct membership m = { d, key, find(d, key, at).name };
	bool is = n && n->is_alias && has_member(&m, n, 8, &budget);
	pthread_rwlock_unlock(&d->lock);
	return is;
}

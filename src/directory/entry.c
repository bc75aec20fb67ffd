/* Names and the entries of the tables in memory. */
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
	n->star = SPAN_NPOS;
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

struct name *directory_alias_new(const struct name_key *k, struct dom *dom,
				 const struct directory_alias *v, const struct name_key *targets)
{
	struct name *n = directory_name_new(k, dom);
	n->is_alias = true;
	n->senders = v->senders;
	n->priority = v->priority;
	(void)directory_pattern(span_sub(k->key, 0, k->at), &n->star);
	n->n_targets = v->n_targets;
	n->targets = xcalloc(v->n_targets + 1, sizeof(*n->targets));
	for (size_t i = 0; i < v->n_targets; i++)
		n->targets[i] = directory_key_dup(&targets[i]);
	return n;
}

int directory_pattern(span local, size_t *ret_star)
{
	size_t star = span_find(local, '*');
	if (star != SPAN_NPOS && span_find(span_from(local, star + 1), '*') != SPAN_NPOS)
		return ERR_INVAL;
	*ret_star = star;
	return 0;
}

static span owned(span s)
{
	return s.n ? span_of(span_dup(s), s.n) : SPAN_NULL;
}

struct dom_values directory_dom_values(const struct directory_domain *v,
				       const struct name_key *catch_all)
{
	struct dom_values own = { .from = v->from,
				  .subaddress = v->subaddress,
				  .known_only = v->known_only,
				  .scram = v->scram,
				  .alias_of = owned(v->alias_of),
				  .unknown_to = owned(v->unknown_to) };
	if (catch_all->key.n)
		own.catch_all = directory_key_dup(catch_all);
	return own;
}

void directory_dom_values_done(struct dom_values *v)
{
	directory_key_done(&v->catch_all);
	free((void *)v->alias_of.p);
	free((void *)v->unknown_to.p);
}

struct dom *directory_dom_new(span name)
{
	struct dom *dom = xcalloc(1, sizeof(*dom));
	dom->name = span_of(span_dup(name), name.n);
	return dom;
}

void directory_dom_free(struct dom *dom)
{
	if (!dom)
		return;
	free((void *)dom->name.p);
	free(dom->patterns);
	directory_dom_dkim_done(dom);
	directory_dom_values_done(&dom->v);
	free(dom);
}

/* The order in which patterns are tried: "*" last, then by priority, by length, by name. */
static int by_turn(const void *pa, const void *pb)
{
	const struct name *a = *(struct name *const *)pa, *b = *(struct name *const *)pb;
	if ((a->k.at == 1) != (b->k.at == 1))
		return a->k.at == 1 ? 1 : -1;
	if (a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	if (a->k.at != b->k.at)
		return a->k.at > b->k.at ? -1 : 1;
	return span_cmp(a->k.key, b->k.key);
}

static void link_pattern(struct dom *dom, struct name *n)
{
	dom->patterns = xrealloc(dom->patterns, (dom->n_patterns + 1) * sizeof(*dom->patterns));
	dom->patterns[dom->n_patterns++] = n;
	qsort(dom->patterns, dom->n_patterns, sizeof(*dom->patterns), by_turn);
}

static void unlink_pattern(struct dom *dom, const struct name *n)
{
	size_t keep = 0;
	for (size_t i = 0; i < dom->n_patterns; i++)
		if (dom->patterns[i] != n)
			dom->patterns[keep++] = dom->patterns[i];
	dom->n_patterns = keep;
}

void directory_name_link(struct directory *d, struct name *n)
{
	map_put(d->names, n->k.key, n);
	if (!n->is_alias)
		map_put(d->ids, span_str(n->account.id), n);
	if (n->star != SPAN_NPOS)
		link_pattern(n->dom, n);
	n->dom->n_names++;
}

void directory_name_unlink(struct directory *d, struct name *n)
{
	map_del(d->names, n->k.key);
	if (!n->is_alias)
		map_del(d->ids, span_str(n->account.id));
	if (n->star != SPAN_NPOS)
		unlink_pattern(n->dom, n);
	n->dom->n_names--;
}

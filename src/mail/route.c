/* Routing: from an envelope recipient to final addresses (RFC 5321 3.6, 7.1, 7.7). */
#include "mail/mail_int.h"

#include "base/map.h"

#define MAX_STEPS 20000 /* addresses looked at for one recipient */

/* Aliases are walked one after the other, each once: circles and aliases that meet again cost
 * nothing, and no order of them needs much stack. */
struct expansion {
	struct core_env *env;
	struct arena *mem;
	struct map *seen;
	struct mail_route *list;
	size_t n, cap;
	struct address *next; /* still to be looked at */
	size_t n_next, cap_next, steps;
};

bool mail_route_same(const struct mail_route *a, const struct mail_route *b)
{
	/* A local part's case is its own host's business (RFC 5321 2.4): here it is of none. */
	return a->kind == b->kind && span_ieq(a->address.domain, b->address.domain) &&
	       (a->kind == MAIL_ROUTE_REMOTE ? span_eq(a->address.local, b->address.local)
					     : span_ieq(a->address.local, b->address.local));
}

static struct mail_route *add(struct expansion *x, enum mail_route_kind kind,
			      const struct address *a)
{
	struct mail_route fresh = { .kind = kind, .address = *a };

	/* The same final address reached twice is one delivery. */
	for (size_t i = 0; i < x->n; i++)
		if (mail_route_same(&x->list[i], &fresh))
			return &x->list[i];
	if (x->n == x->cap) {
		size_t cap = x->cap ? x->cap * 2 : 4;
		struct mail_route *grown = arena_array(x->mem, struct mail_route, cap);

		if (x->n)
			memcpy(grown, x->list, x->n * sizeof *grown);
		x->list = grown;
		x->cap = cap;
	}
	x->list[x->n] = fresh;
	return &x->list[x->n++];
}

static void refuse(struct expansion *x, const struct address *a, unsigned code,
		   const char *enhanced, const char *text)
{
	add(x, MAIL_ROUTE_REFUSED, a)->refusal = (struct mail_verdict){ code, enhanced,
									span_str(text) };
}

static void push(struct expansion *x, const struct address *a)
{
	if (x->n_next == x->cap_next) {
		size_t cap = x->cap_next ? x->cap_next * 2 : 16;
		struct address *grown = arena_array(x->mem, struct address, cap);

		if (x->n_next)
			memcpy(grown, x->next, x->n_next * sizeof *grown);
		x->next = grown;
		x->cap_next = cap;
	}
	x->next[x->n_next++] = *a;
}

static void expand_alias(struct expansion *x, const struct directory_alias *alias)
{
	if (map_get(x->seen, alias->address))
		return;
	map_put(x->seen, alias->address, x);
	for (size_t i = alias->n_targets; i-- > 0;) {
		struct address target;

		if (address_parse(alias->targets[i], ADDRESS_ALLOW_UTF8, x->mem, &target) ==
		    ADDRESS_OK)
			push(x, &target);
	}
}

static void expand(struct expansion *x, const struct address *a, bool may_relay)
{
	struct directory_match m = { 0 };
	struct mail_route *r;
	int e = directory_lookup(x->env->directory, a, x->mem, &m);

	if (e < 0) {
		refuse(x, a, 451, "4.3.0", "the directory cannot be read now");
		return;
	}
	switch (m.kind) {
	case DIRECTORY_NOT_LOCAL:
		if (!may_relay) {
			refuse(x, a, 550, "5.7.1", "relaying denied");
			return;
		}
		r = add(x, MAIL_ROUTE_REMOTE, a);
		r->route = span_str(arena_printf(x->mem, "smtp:%.*s", SPAN_FMT(a->domain)));
		return;
	case DIRECTORY_NO_USER:
		refuse(x, a, 550, "5.1.1", "no such user here");
		return;
	case DIRECTORY_SUSPENDED:
		refuse(x, a, 550, "5.2.1", "this mailbox is disabled");
		return;
	case DIRECTORY_ACCOUNT:
		r = add(x, MAIL_ROUTE_LOCAL, a);
		r->route = SPAN("local");
		r->quota_bytes = m.account.quota_bytes;
		memcpy(r->account_id, m.account.id, sizeof r->account_id);
		return;
	case DIRECTORY_ALIAS:
		expand_alias(x, &m.alias);
		return;
	}
}

/* All targets of A; those of an alias may be anywhere. */
static void walk(struct expansion *x, const struct address *a, bool authenticated)
{
	expand(x, a, authenticated);
	while (x->n_next) {
		struct address next = x->next[--x->n_next];

		if (++x->steps > MAX_STEPS) {
			/* Some of them would be worse than none: nobody would hear of the rest. */
			x->n = 0;
			refuse(x, a, 550, "5.2.4", "the alias has too many targets");
			return;
		}
		expand(x, &next, true);
	}
	if (!x->n)
		refuse(x, a, 550, "5.4.6", "this alias leads nowhere");
}

/* Refusals inside an alias do not refuse the good targets beside them; what cannot be told now
 * refuses all, or a target would be left out in silence.  Returns what is left. */
static size_t sort_out(struct expansion *x)
{
	size_t good = 0;

	for (size_t i = 0; i < x->n; i++)
		if (x->list[i].kind == MAIL_ROUTE_REFUSED && x->list[i].refusal.code < 500) {
			x->list[0] = x->list[i];
			return 1;
		}
	for (size_t i = 0; i < x->n; i++)
		if (x->list[i].kind != MAIL_ROUTE_REFUSED)
			x->list[good++] = x->list[i];
	return good ? good : 1;
}

/* <postmaster> without a domain is the postmaster of our first domain (RFC 5321 4.5.1). */
static bool complete_postmaster(struct core_env *env, struct address *a, struct arena *mem)
{
	struct directory_domain *d;
	size_t n;

	if (a->domain.n)
		return true;
	if (!span_ieq_str(a->local, "postmaster") ||
	    directory_domains(env->directory, mem, &d, &n) < 0 || !n)
		return false;
	a->domain = d[0].name;
	return true;
}

int mail_route(struct core_env *env, const struct address *rcpt, bool authenticated,
	       struct arena *mem, struct mail_route **ret, size_t *ret_n)
{
	_cleanup_(map_freep) struct map *seen = map_new();
	struct expansion x = { .env = env, .mem = mem, .seen = seen };
	struct address a = *rcpt;

	if (complete_postmaster(env, &a, mem))
		walk(&x, &a, authenticated);
	else
		refuse(&x, &a, 550, "5.1.3", "a domain is needed");
	*ret_n = sort_out(&x);
	*ret = x.list;
	return 0;
}

span mail_mailbox_of(span route)
{
	return span_eq_str(route, MAIL_ROUTE_JUNK) ? SPAN("Junk") : SPAN("INBOX");
}

bool mail_route_is_local(span route)
{
	return span_eq_str(route, "local") || span_eq_str(route, MAIL_ROUTE_JUNK) ||
	       span_eq_str(route, "expanded");
}

bool mail_route_full(struct core_env *env, const struct mail_route *routes, size_t n,
		     struct mail_verdict *ret)
{
	_cleanup_(account_putp) struct account *a = NULL;
	uint64_t bytes, messages;

	if (n != 1 || routes->kind != MAIL_ROUTE_LOCAL || !routes->quota_bytes ||
	    account_get(env->store, span_str(routes->account_id), &a, NULL) < 0 ||
	    account_usage(a, &bytes, &messages) < 0 || bytes < routes->quota_bytes)
		return false;
	*ret = verdict_of_error(ERR_QUOTA);
	return true;
}

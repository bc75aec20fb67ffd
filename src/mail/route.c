/* Routing: from an envelope recipient to final addresses (RFC 5321 3.6, 7.1, 7.7). */
#include "mail/mail_int.h"

#define MAX_DEPTH   10 /* aliases of aliases */
#define MAX_TARGETS 5000

struct expansion {
	struct core_env *env;
	struct arena *mem;
	bool authenticated;
	struct mail_route *list;
	size_t n, cap;
};

static struct mail_route *add(struct expansion *x, enum mail_route_kind kind,
			      const struct address *a)
{
	struct mail_route *r;

	/* The same final address reached twice is one delivery. */
	for (size_t i = 0; i < x->n; i++)
		if (x->list[i].kind == kind && span_ieq(x->list[i].address.local, a->local) &&
		    span_ieq(x->list[i].address.domain, a->domain))
			return &x->list[i];
	if (x->n == x->cap) {
		size_t cap = x->cap ? x->cap * 2 : 4;
		struct mail_route *grown = arena_array(x->mem, struct mail_route, cap);

		if (x->n)
			memcpy(grown, x->list, x->n * sizeof *grown);
		x->list = grown;
		x->cap = cap;
	}
	r = &x->list[x->n++];
	*r = (struct mail_route){ .kind = kind, .address = *a };
	return r;
}

static void refuse(struct expansion *x, const struct address *a, unsigned code,
		   const char *enhanced, const char *text)
{
	add(x, MAIL_ROUTE_REFUSED, a)->refusal = (struct mail_verdict){ code, enhanced,
									span_str(text) };
}

static void expand(struct expansion *x, const struct address *a, bool may_relay, unsigned depth);

static void expand_alias(struct expansion *x, const struct directory_alias *alias,
			 const struct address *a, unsigned depth)
{
	if (depth >= MAX_DEPTH) {
		refuse(x, a, 550, "5.4.6", "the alias leads in a circle");
		return;
	}
	for (size_t i = 0; i < alias->n_targets && x->n < MAX_TARGETS; i++) {
		struct address target;

		if (address_parse(alias->targets[i], ADDRESS_ALLOW_UTF8, x->mem, &target) !=
		    ADDRESS_OK)
			continue;
		/* An alias that names itself means its own account, or nothing. */
		if (span_ieq(target.local, a->local) && span_ieq(target.domain, a->domain))
			continue;
		expand(x, &target, true, depth + 1);
	}
}

static void expand(struct expansion *x, const struct address *a, bool may_relay, unsigned depth)
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
		memcpy(r->account_id, m.account.id, sizeof r->account_id);
		return;
	case DIRECTORY_ALIAS:
		expand_alias(x, &m.alias, a, depth);
		return;
	}
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
	struct expansion x = { .env = env, .mem = mem, .authenticated = authenticated };
	struct address a = *rcpt;
	size_t good = 0;

	if (!complete_postmaster(env, &a, mem))
		refuse(&x, &a, 550, "5.1.3", "a domain is needed");
	else
		expand(&x, &a, authenticated, 0);
	if (!x.n)
		refuse(&x, &a, 550, "5.1.1", "this alias leads nowhere");
	/* Refusals inside an alias do not refuse the good targets beside them. */
	for (size_t i = 0; i < x.n; i++)
		if (x.list[i].kind != MAIL_ROUTE_REFUSED)
			x.list[good++] = x.list[i];
	*ret = x.list;
	*ret_n = good ? good : 1;
	return 0;
}

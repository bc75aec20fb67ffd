/* Routing: from an envelope recipient to final addresses (RFC 5321 3.6, 7.1, 7.7). */
#include "mail/mail_int.h"

#include "base/log.h"
#include "base/map.h"

#define MAX_STEPS    20000 /* addresses looked at for one recipient */
#define TOLD_TARGETS 8	   /* of an alias, in an explanation */

/* Aliases are walked one after the other, each once: circles and aliases that meet again cost
 * nothing, and no order of them needs much stack. */
struct expansion {
	struct core_env *env;
	const struct mail_route_from *from;
	struct conf *conf;
	struct arena *mem;
	struct map *seen;
	struct mail_route *list;
	size_t n, cap;
	struct address *next; /* still to be looked at */
	size_t n_next, cap_next, steps;
	enum { NOT_ASKED, OURS, FOREIGN } sender;
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

/* A step of the decision, for whoever asked for an explanation. */
static _printf_(4, 5) void tell(struct expansion *x, const char *step, const struct address *a,
				const char *fmt, ...)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(TOLD_TARGETS * 400 + 1000);
	struct event *e;
	va_list ap;

	if (!x->from->explain)
		return;
	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	e = event_note(x->from->notes, step);
	event_span(e, "address", address_text(a, x->mem), x->mem);
	event_span(e, "text", buf_span(&b), x->mem);
}

static void refuse_as(struct expansion *x, const struct address *a, const struct mail_verdict *v)
{
	tell(x, "refused", a, "%u %s %.*s", v->code, v->enhanced, SPAN_FMT(v->text));
	add(x, MAIL_ROUTE_REFUSED, a)->refusal = *v;
}

static void refuse(struct expansion *x, const struct address *a, unsigned code,
		   const char *enhanced, const char *text)
{
	refuse_as(x, a, &(struct mail_verdict){ code, enhanced, span_str(text) });
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

/* ------------------------------------------------------------------ aliases */

/* What of A matched the alias. */
static const char *matched_by(const struct address *a, const struct directory_match *m)
{
	if (m->catch_all)
		return "the domain's catch-all";
	if (span_find(m->alias.address, '*') != SPAN_NPOS)
		return "a pattern";
	return m->detail.n ? "the name without its detail" : "the exact name";
}

static void tell_alias(struct expansion *x, const struct address *a,
		       const struct directory_match *m)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(TOLD_TARGETS * 400);
	size_t n = MIN(m->alias.n_targets, (size_t)TOLD_TARGETS);

	if (!x->from->explain)
		return;
	for (size_t i = 0; i < n; i++)
		buf_printf(&b, "%s%.*s", i ? ", " : "", SPAN_FMT(m->alias.targets[i]));
	tell(x, "alias", a, "by %s %.*s it is an alias of %zu: %.*s%s", matched_by(a, m),
	     SPAN_FMT(m->alias.address), m->alias.n_targets, SPAN_FMT(buf_span(&b)),
	     n < m->alias.n_targets ? ", ..." : "");
}

/* Who is not one of ours without a password is who he says only to himself: a local sender counts
 * as a member only if he has logged in. */
static bool may_send(struct expansion *x, const struct directory_alias *alias)
{
	const struct address *sender = x->from->sender;
	struct directory_match m = { 0 };

	if (alias->senders == SENDERS_ANYONE)
		return true;
	if (alias->senders == SENDERS_AUTHENTICATED || !sender || address_is_null(sender))
		return x->from->authenticated && alias->senders == SENDERS_AUTHENTICATED;
	if (!x->from->authenticated &&
	    (directory_lookup(x->env->directory, sender, x->mem, &m) < 0 ||
	     m.kind != DIRECTORY_NOT_LOCAL))
		return false;
	return directory_is_member(x->env->directory, alias->address, sender);
}

static void expand_alias(struct expansion *x, const struct address *a,
			 const struct directory_match *m)
{
	const struct directory_alias *alias = &m->alias;

	if (map_get(x->seen, alias->address)) {
		tell(x, "circle", a, "it was expanded before and is not again");
		return;
	}
	tell_alias(x, a, m);
	if (!may_send(x, alias)) {
		refuse(x, a, 550, "5.7.2",
		       alias->senders == SENDERS_MEMBERS
			       ? "only members may send to this list"
			       : "only users who have logged in may send to this list");
		return;
	}
	map_put(x->seen, alias->address, x);
	for (size_t i = alias->n_targets; i-- > 0;) {
		struct address target;

		if (address_parse(alias->targets[i], ADDRESS_ALLOW_UTF8, x->mem, &target) ==
		    ADDRESS_OK)
			push(x, &target);
	}
}

/* ------------------------------------------------------------------ the way out */

/* Where mail for A's domain goes by the configuration; false: nowhere, and that was said. */
static bool find_way(struct expansion *x, const struct address *a, span *ret)
{
	const struct conf_route *rule = mail_transport(x->conf, a, x->from->sender);
	span to = rule ? rule->to : SPAN("mx");

	if (rule)
		tell(x, "route", a, "entry %zu of relay.routes fits: %.*s",
		     (size_t)(rule - x->conf->routes) + 1, SPAN_FMT(to));
	if (span_starts(to, SPAN(CONF_REFUSE))) {
		to = span_trim(span_from(to, sizeof CONF_REFUSE - 1));
		refuse_as(x, a, &(struct mail_verdict){ 550, "5.7.1", arena_span(x->mem, to) });
		return false;
	}
	if (span_eq_str(to, "mx")) {
		tell(x, "way", a, "to the MX hosts of %.*s, which were not asked now",
		     SPAN_FMT(a->domain));
		*ret = span_str(arena_printf(x->mem, "smtp:%.*s", SPAN_FMT(a->domain)));
	} else {
		tell(x, "way", a, "by %.*s", SPAN_FMT(to));
		*ret = arena_span(x->mem, to);
	}
	return true;
}

/* The next host may not take a foreign sender's mail from us (SPF, RFC 7208). */
static bool needs_srs(struct expansion *x, const struct address *a)
{
	const struct address *sender = x->from->sender;
	struct directory_match m = { 0 };

	if (!x->conf->srs || !sender || address_is_null(sender))
		return false;
	if (x->sender == NOT_ASKED)
		x->sender = directory_lookup(x->env->directory, sender, x->mem, &m) == 0 &&
					    m.kind == DIRECTORY_NOT_LOCAL &&
					    !mail_is_rewritten(x->env, sender)
				    ? FOREIGN
				    : OURS;
	if (x->sender == FOREIGN && x->from->explain)
		tell(x, "srs", a, "the sender is foreign: the next host sees <%.*s>",
		     SPAN_FMT(mail_reverse_path(x->env, address_text(sender, x->mem),
						SPAN(MAIL_ROUTE_SRS), x->mem)));
	return x->sender == FOREIGN;
}

static void send_by(struct expansion *x, const struct address *a, span way, bool forwarded)
{
	struct mail_route *r = add(x, MAIL_ROUTE_REMOTE, a);

	if (r->route.n) /* it is there already */
		return;
	r->route = way;
	if (forwarded && needs_srs(x, a))
		r->route = span_str(arena_printf(x->mem, MAIL_ROUTE_SRS "%.*s", SPAN_FMT(way)));
}

static void send_out(struct expansion *x, const struct address *a, bool forwarded)
{
	span way;

	if (find_way(x, a, &way))
		send_by(x, a, way, forwarded);
}

/* ------------------------------------------------------------------ one address */

/* A bounce on its way back to the first sender. */
static void lead_back(struct expansion *x, const struct address *a)
{
	struct address first;
	struct mail_verdict why;

	if (!mail_rewritten_back(x->env, a, x->mem, &first, &why)) {
		refuse_as(x, a, &why);
		return;
	}
	tell(x, "srs", a, "a reverse-path that this server wrote for <%.*s>",
	     SPAN_FMT(address_text(&first, x->mem)));
	push(x, &first);
}

static void to_account(struct expansion *x, const struct address *a,
		       const struct directory_match *m)
{
	struct mail_route *r = add(x, MAIL_ROUTE_LOCAL, a);

	tell(x, "account", a, "the account %.*s, mailbox INBOX", SPAN_FMT(m->account.address));
	r->route = SPAN("local");
	r->quota_bytes = m->account.quota_bytes;
	memcpy(r->account_id, m->account.id, sizeof r->account_id);
}

static void to_elsewhere(struct expansion *x, const struct address *a, span to)
{
	if (span_eq_str(to, "mx")) {
		tell(x, "domain", a, "this server is a backup MX of %.*s", SPAN_FMT(a->domain));
		send_out(x, a, false);
		return;
	}
	tell(x, "domain", a, "nobody has it here; such mail of %.*s goes by %.*s",
	     SPAN_FMT(a->domain), SPAN_FMT(to));
	send_by(x, a, to, false);
}

/* FORWARDED: by one of our aliases, which may lead anywhere. */
static void expand(struct expansion *x, const struct address *given, bool forwarded)
{
	struct directory_match m = { 0 };
	struct address a = *given;
	int e;

	if (mail_is_rewritten(x->env, &a)) {
		lead_back(x, &a);
		return;
	}
	e = directory_lookup(x->env->directory, &a, x->mem, &m);
	if (e < 0) {
		refuse(x, &a, 451, "4.3.0", "the directory cannot be read now");
		return;
	}
	if (m.domain.n) {
		tell(x, "domain", &a, "its domain is an alias of %.*s", SPAN_FMT(m.domain));
		a.domain = m.domain;
	}
	switch (m.kind) {
	case DIRECTORY_NOT_LOCAL:
		if (forwarded || x->from->authenticated)
			send_out(x, &a, forwarded);
		else
			refuse(x, &a, 550, "5.7.1", "relaying denied");
		return;
	case DIRECTORY_NO_USER:
		refuse(x, &a, 550, "5.1.1", "no such user here");
		return;
	case DIRECTORY_SUSPENDED:
		refuse(x, &a, 550, "5.2.1", "this mailbox is disabled");
		return;
	case DIRECTORY_ACCOUNT:
		to_account(x, &a, &m);
		return;
	case DIRECTORY_ALIAS:
		expand_alias(x, &a, &m);
		return;
	case DIRECTORY_ELSEWHERE:
		to_elsewhere(x, &a, m.elsewhere);
		return;
	}
}

/* All targets of A; those of an alias may be anywhere. */
static void walk(struct expansion *x, const struct address *a)
{
	expand(x, a, false);
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

/* ------------------------------------------------------------------ all together */

/* A good target goes on without the bad one beside it, whose owner would never hear of it. */
static void report_broken(struct expansion *x, const struct address *rcpt,
			  const struct mail_route *r)
{
	span alias = address_text(rcpt, x->mem), target = address_text(&r->address, x->mem);
	struct event *e;

	if (!x->from->notes)
		return;
	e = event_note(x->from->notes, "mail.alias_broken");
	event_span(e, "address", alias, x->mem);
	event_span(e, "target", target, x->mem);
	event_str(e, "status", r->refusal.enhanced, x->mem);
	event_span(e, "text", r->refusal.text, x->mem);
	if (!x->from->explain)
		log_event(LOG_WARNING, "mail.alias_broken", F_SPAN("address", alias),
			  F_SPAN("target", target), F_STR("status", r->refusal.enhanced),
			  F_SPAN("text", r->refusal.text));
}

/* Refusals inside an alias do not refuse the good targets beside them; what cannot be told now
 * refuses all, or a target would be left out in silence.  Returns what is left. */
static size_t sort_out(struct expansion *x, const struct address *rcpt)
{
	size_t good = 0;

	for (size_t i = 0; i < x->n; i++)
		if (x->list[i].kind == MAIL_ROUTE_REFUSED && x->list[i].refusal.code < 500) {
			x->list[0] = x->list[i];
			return 1;
		}
	for (size_t i = 0; i < x->n; i++)
		good += x->list[i].kind != MAIL_ROUTE_REFUSED;
	if (!good)
		return 1;
	good = 0;
	for (size_t i = 0; i < x->n; i++)
		if (x->list[i].kind != MAIL_ROUTE_REFUSED)
			x->list[good++] = x->list[i];
		else
			report_broken(x, rcpt, &x->list[i]);
	return good;
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

int mail_route(struct core_env *env, const struct address *rcpt, const struct mail_route_from *from,
	       struct arena *mem, struct mail_route **ret, size_t *ret_n)
{
	_cleanup_(map_freep) struct map *seen = map_new();
	_cleanup_(conf_unrefp) struct conf *conf = env->conf(env);
	struct expansion x = { .env = env, .from = from, .conf = conf, .mem = mem, .seen = seen };
	struct address a = *rcpt;

	if (complete_postmaster(env, &a, mem))
		walk(&x, &a);
	else
		refuse(&x, &a, 550, "5.1.3", "a domain is needed");
	*ret_n = sort_out(&x, &a);
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

bool mail_route_has_quota(const struct mail_route *routes, size_t n)
{
	return n == 1 && routes->kind == MAIL_ROUTE_LOCAL && routes->quota_bytes;
}

bool mail_route_full(struct core_env *env, const struct mail_route *routes, size_t n,
		     struct mail_verdict *ret)
{
	_cleanup_(account_putp) struct account *a = NULL;
	uint64_t bytes, messages;

	if (!mail_route_has_quota(routes, n) ||
	    account_get(env->store, span_str(routes->account_id), &a, NULL) < 0 ||
	    account_usage(a, &bytes, &messages) < 0 || bytes < routes->quota_bytes)
		return false;
	*ret = verdict_of_error(ERR_QUOTA);
	return true;
}

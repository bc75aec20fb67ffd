/* RCPT (RFC 5321 4.1.1.3): one recipient, routed at once so that nobody hears of an unknown one
 * later. */
#include "smtp/session_int.h"

#include "base/log.h"

#define REJECTED_MAX 200 /* of a session: whoever tries so many names is looking for some */

static bool same(const struct address *a, const struct address *b)
{
	return span_eq(a->local, b->local) && span_ieq(a->domain, b->domain);
}

static bool have_already(const struct mail_transaction *t, const struct address *a)
{
	for (const struct mail_rcpt *r = t->rcpts; r; r = r->next)
		if (same(&r->address, a))
			return true;
	return false;
}

static bool is_ours(struct smtp_job *j, span domain, struct arena *mem)
{
	const struct address there = { .local = SPAN("postmaster"), .domain = domain };
	struct directory_match m = { 0 };

	return directory_lookup(j->env->directory, &there, mem, &m) == 0 &&
	       m.kind != DIRECTORY_NOT_LOCAL;
}

/* Does LOCAL name a foreign host as a stop on the way: "user%host", "user@host" (quoted),
 * "host!user", or some of them together?  Each counts, not only the next one: what we pass on to a
 * host behind us, that one may take further. */
static bool names_foreign_host(struct smtp_job *j, span local, struct arena *mem)
{
	bool after = false; /* a '%' or '@' */

	for (size_t from = 0, i = 0; i <= local.n; i++) {
		char c = i < local.n ? local.p[i] : '\0';
		span part = span_sub(local, from, i - from);

		if (i < local.n && c != '%' && c != '@' && c != '!')
			continue;
		if ((after || c == '!') && part.n && !is_ours(j, part, mem))
			return true;
		after = c == '%' || c == '@';
		from = i + 1;
	}
	return false;
}

/* Does A ask us to send on to somebody else's host?  It is mail for here only if somebody has
 * exactly that name (RFC 5321 3.6.1 lets us refuse it). */
static bool asks_for_relay(struct smtp_job *j, const struct address *a, struct arena *mem)
{
	struct directory_match m = { 0 };

	if (mail_is_rewritten(j->env, a) || !names_foreign_host(j, a->local, mem))
		return false;
	return directory_lookup(j->env->directory, a, mem, &m) < 0 || m.catch_all || m.detail.n ||
	       (m.kind != DIRECTORY_ACCOUNT && m.kind != DIRECTORY_ALIAS);
}

/* 2xx: *RET_ROUTES lead somewhere.  Code 0: to know more the disk must be asked. */
static struct mail_verdict judge(struct smtp_job *j, const struct address *a,
				 struct mail_route **ret_routes, size_t *ret_n)
{
	struct mail_transaction *t = j->st->mail;
	const struct mail_route_from from = { .sender = &t->sender,
					      .authenticated = t->authenticated,
					      .notes = &t->events };
	struct mail_route *routes = NULL;
	struct mail_verdict full;
	size_t n = 0, refused = 0;

	if (j->st->refused.code)
		return j->st->refused;
	if (!t->authenticated && asks_for_relay(j, a, &t->mem))
		return (struct mail_verdict){ 550, "5.7.1", SPAN("relaying denied") };
	if (mail_route(j->env, a, &from, &t->mem, &routes, &n) < 0)
		return (struct mail_verdict){
			451, "4.3.0", SPAN("the address cannot be looked up now, try again later")
		};
	for (size_t i = 0; i < n; i++)
		refused += routes[i].kind == MAIL_ROUTE_REFUSED;
	if (n == 0)
		return (struct mail_verdict){ 550, "5.1.1", SPAN("the address leads nowhere") };
	if (refused == n)
		return routes[0].refusal;
	if (j->s->here && mail_route_has_quota(routes, n))
		return (struct mail_verdict){ 0 };
	if (mail_route_full(j->env, routes, n, &full))
		return full;
	*ret_routes = routes;
	*ret_n = n;
	return (struct mail_verdict){ 250, "2.1.5", SPAN("Recipient ok") };
}

/* False: their answer is awaited, and the command will run again. */
static bool filters_agree(struct smtp_job *j, const struct address *a, struct mail_verdict *v)
{
	struct mail_verdict refusal;

	if (mail_filter_rcpt(j->env, j->st->mail, a, &refusal) == ERR_AGAIN) {
		j->end = SMTP_END_WAIT;
		return false;
	}
	if (refusal.code)
		*v = refusal;
	return true;
}

static void note(struct smtp_job *j, const struct address *a, const struct mail_verdict *v)
{
	struct mail_transaction *t = j->st->mail;
	struct event *e = event_note(&t->events, "smtp.rcpt");
	span text = address_text(a, &t->mem);

	event_span(e, "to", text, &t->mem);
	event_u64(e, "code", v->code, &t->mem);
	event_str(e, "status", v->enhanced, &t->mem);
	if (v->code < 300)
		return;
	event_span(e, "text", v->text, &t->mem);
	j->st->rejected++;
	count_add(COUNT_SMTP_REJECTED, 1);
	smtp_log_rejected(t, text, v);
}

/* Whoever looks for names hears slower answers, and then none. */
static void refused(struct smtp_job *j, const struct mail_verdict *v)
{
	bool unknown = v->code == 550 && strcmp(v->enhanced, "5.1.1") == 0;

	guard_error(j->env->guard, j->conf, j->s);
	if (++j->st->rejected_total < REJECTED_MAX &&
	    (!unknown || guard_take(j->env->guard, j->conf, GUARD_UNKNOWN, &j->s->peer)))
		return;
	smtp_say(j, 421, "4.7.0", SPAN("Too many recipients were refused"));
	j->end = SMTP_END_CLOSE;
}

/* Neither of the first two takes memory of the transaction: no limit stops them. */
static bool may_come(struct smtp_job *j, const struct address *a)
{
	const struct mail_transaction *t = j->st->mail;

	if (have_already(t, a)) /* said twice is delivered once */
		smtp_say(j, 250, "2.1.5", SPAN("Recipient ok"));
	else if (t->n_rcpts >= j->conf->max_rcpts)
		smtp_say(j, 452, "4.5.3", SPAN("Too many recipients for one message"));
	else if (!guard_take(j->env->guard, j->conf, GUARD_RECIPIENTS, &j->s->peer))
		smtp_say(j, 450, "4.7.1", SPAN("Too many recipients from your network, try later"));
	else
		return true;
	return false;
}

/* Judged once, however often the command runs: what the filters say is about this one.  NULL: there
 * is nothing more to say now. */
static struct smtp_rcpt *rcpt_of(struct smtp_job *j, const struct address *a)
{
	struct mail_transaction *t = j->st->mail;
	struct smtp_rcpt *x = j->st->rcpt;

	if (!x && !may_come(j, a))
		return NULL;
	if (!x) {
		x = j->st->rcpt = arena_new(&t->mem, struct smtp_rcpt);
		x->address = smtp_address_copy(a, &t->mem);
	}
	if (!x->verdict.code)
		x->verdict = judge(j, &x->address, &x->routes, &x->n_routes);
	if (x->verdict.code)
		return x;
	j->end = SMTP_END_WAIT;
	sess_wake(j->s->table, j->s->id);
	return NULL;
}

void smtp_cmd_rcpt(struct smtp_job *j, const struct smtp_command *c, span line)
{
	struct mail_transaction *t = j->st->mail;
	struct smtp_rcpt *x = rcpt_of(j, &c->path);
	struct mail_verdict v;
	struct mail_rcpt *r;

	if (!x)
		return;
	v = x->verdict;
	if (v.code < 300 && !filters_agree(j, &x->address, &v))
		return;
	j->st->rcpt = NULL;
	note(j, &x->address, &v);
	smtp_say(j, v.code, v.enhanced, v.text);
	if (v.code >= 300) {
		refused(j, &v);
		return;
	}
	r = arena_new(&t->mem, struct mail_rcpt);
	*r = (struct mail_rcpt){ .address = x->address,
				 .original = arena_span(&t->mem, c->original),
				 .notify = c->notify,
				 .routes = x->routes,
				 .n_routes = x->n_routes };
	*t->rcpts_tail = r;
	t->rcpts_tail = &r->next;
	t->n_rcpts++;
}

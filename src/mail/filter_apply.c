/* What filters want changed: header, body, envelope.  Each change is told to the timeline. */
#include "mail/filters.h"

#include <unistd.h>

#include "filter/headers.h"

#define NOTED_MAX 40 /* changes of one filter that are told one by one */

static const char *const edit_names[FILTER_EDIT_KINDS] = {
	[FILTER_ADD_HEADER] = "add header",	  [FILTER_INSERT_HEADER] = "insert header",
	[FILTER_CHANGE_HEADER] = "change header", [FILTER_CHANGE_FROM] = "change sender",
	[FILTER_ADD_RCPT] = "add recipient",	  [FILTER_DELETE_RCPT] = "delete recipient",
};

static void note_edits(struct mail_transaction *t, const struct filter_state *st,
		       const struct filter_result *r)
{
	for (size_t i = 0; i < MIN(r->n_edits, (size_t)NOTED_MAX); i++) {
		const struct filter_edit *e = &r->edits[i];
		struct event *ev = event_note(&t->events, "filter.change");

		event_span(ev, "filter", st->conf->name, &t->mem);
		event_str(ev, "what", edit_names[e->kind], &t->mem);
		event_span(ev, "name", e->name.n ? e->name : e->value, &t->mem);
	}
	if (r->n_edits > NOTED_MAX) {
		struct event *ev = event_note(&t->events, "filter.change");

		event_span(ev, "filter", st->conf->name, &t->mem);
		event_u64(ev, "more", r->n_edits - NOTED_MAX, &t->mem);
	}
}

/* ------------------------------------------------------------------ the message */

static int change_body(struct core_env *env, struct mail_transaction *t,
		       const struct filter_state *st, const struct filter_result *r)
{
	struct mail_filters *f = t->filters;
	struct event *e = event_note(&t->events, "filter.change");

	event_span(e, "filter", st->conf->name, &t->mem);
	event_str(e, "what", "new body", &t->mem);
	event_u64(e, "size", r->new_body_size, &t->mem);
	return mail_body_replace(env, t, f->header_size, f->whole, f->whole_size, r->new_body_size,
				 f->conf->max_message);
}

static int change_header(struct mail_transaction *t, const struct filter_result *r)
{
	struct mail_filters *f = t->filters;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(f->header_size + 2 * FILTER_EDIT_BYTES_MAX);
	int e = filter_header_edit(span_sub(buf_span(&t->body), 0, f->header_size), r->edits,
				   r->n_edits, &b);

	if (e == 0)
		e = mail_body_set_header(t, buf_span(&b), f->header_size);
	if (e == 0)
		f->header_size = b.n;
	return e;
}

static bool edits_header(const struct filter_result *r)
{
	for (size_t i = 0; i < r->n_edits; i++)
		if (r->edits[i].kind <= FILTER_CHANGE_HEADER)
			return true;
	return false;
}

/* ------------------------------------------------------------------ the envelope */

/* "<a@b>", "a@b", "<>". */
static bool read_address(span text, unsigned flags, struct arena *mem, struct address *ret)
{
	size_t used = 0;

	text = span_trim(text);
	flags |= ADDRESS_ALLOW_UTF8;
	if (text.n && text.p[0] == '<')
		return address_parse_path(text, flags, mem, ret, &used) == ADDRESS_OK &&
		       used == text.n;
	return address_parse(text, flags, mem, ret) == ADDRESS_OK;
}

static bool same(const struct address *a, const struct address *b)
{
	return span_eq(a->local, b->local) && span_ieq(a->domain, b->domain);
}

static void add_rcpt(struct core_env *env, struct mail_transaction *t, const struct address *a)
{
	/* The administrator's filter may send on to others, as a user may. */
	struct mail_route_from from = { .authenticated = true, .sender = &t->sender };
	struct mail_route *routes = NULL;
	struct mail_rcpt *m;
	size_t n = 0;

	for (m = t->rcpts; m; m = m->next)
		if (same(&m->address, a) && m->n_routes)
			return;
	if (mail_route(env, a, &from, &t->mem, &routes, &n) < 0 || !n ||
	    routes[0].kind == MAIL_ROUTE_REFUSED) {
		mail_step(&t->events, "filter.no_route", "to", address_text(a, &t->mem));
		return;
	}
	m = arena_new(&t->mem, struct mail_rcpt);
	*m = (struct mail_rcpt){ .address = *a, .added = true, .routes = routes, .n_routes = n };
	*t->rcpts_tail = m;
	t->rcpts_tail = &m->next;
	t->n_rcpts++;
}

/* It stays in the list, leading nowhere: the client may be owed an answer for it. */
static void delete_rcpt(struct mail_transaction *t, const struct address *a)
{
	for (struct mail_rcpt *m = t->rcpts; m; m = m->next)
		if (same(&m->address, a))
			m->n_routes = 0;
}

static bool leads_somewhere(const struct mail_transaction *t)
{
	for (const struct mail_rcpt *m = t->rcpts; m; m = m->next)
		if (m->n_routes)
			return true;
	return false;
}

static void change_envelope(struct core_env *env, struct mail_transaction *t,
			    const struct filter_edit *e)
{
	bool sender = e->kind == FILTER_CHANGE_FROM;
	struct address a;

	if (!read_address(e->value, sender ? ADDRESS_ALLOW_NULL : 0, &t->mem, &a)) {
		mail_step(&t->events, "filter.bad_address", "text", e->value);
		return;
	}
	if (sender)
		t->sender = a;
	else if (e->kind == FILTER_ADD_RCPT)
		add_rcpt(env, t, &a);
	else
		delete_rcpt(t, &a);
}

int filter_apply(struct core_env *env, struct mail_transaction *t, const struct filter_state *st,
		 const struct filter_result *r)
{
	struct mail_filters *f = t->filters;
	int e = 0;

	note_edits(t, st, r);
	f->quarantine |= r->quarantine;
	if (r->new_body)
		e = change_body(env, t, st, r);
	if (e == 0 && edits_header(r))
		e = change_header(t, r);
	if (r->new_body || edits_header(r)) {
		close_fdp(&f->whole);
		f->whole = -1;
	}
	for (size_t i = 0; i < r->n_edits; i++)
		if (r->edits[i].kind > FILTER_CHANGE_HEADER)
			change_envelope(env, t, &r->edits[i]);
	f->discard |= !leads_somewhere(t);
	return e;
}

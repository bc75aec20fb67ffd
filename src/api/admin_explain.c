/* explain rcpt: what would become of mail for an address, by the code that decides it. */
#include "api/admin_int.h"

#include "mail/mail.h"

static bool address_arg(struct admin_request *r, const char *key, unsigned flags,
			struct address *ret)
{
	span text = json_str(r->args, key);

	if (!text.n || address_parse(text, ADDRESS_ALLOW_UTF8 | flags, r->mem, ret) == ADDRESS_OK)
		return true;
	admin_fail(r, ERR_INVAL, "%s: this is not a valid address", key);
	return false;
}

static void steps(struct admin_request *r, const struct event_list *notes)
{
	for (const struct event *e = notes->first; e; e = e->next) {
		json_t *row = json_object();

		json_object_set_new(row, "step", json_string(e->name));
		for (const struct event_field *f = e->fields; f; f = f->next)
			json_object_set_new(row, f->key, json_span(f->value));
		admin_row(r, row);
	}
}

static void result(struct admin_request *r, const struct mail_route *route, span sender)
{
	static const char *const kind[] = { [MAIL_ROUTE_LOCAL] = "local",
					    [MAIL_ROUTE_REMOTE] = "remote",
					    [MAIL_ROUTE_REFUSED] = "refused" };
	json_t *row = json_pack("{s:s,s:s,s:o}", "step", "result", "kind", kind[route->kind],
				"address", json_span(address_text(&route->address, r->mem)));

	switch (route->kind) {
	case MAIL_ROUTE_LOCAL:
		json_object_set_new(row, "account", json_string(route->account_id));
		break;
	case MAIL_ROUTE_REMOTE:
		json_object_set_new(row, "route", json_span(mail_route_way(route->route)));
		json_object_set_new(
			row, "reverse_path",
			json_span(mail_reverse_path(r->env, sender, route->route, r->mem)));
		break;
	case MAIL_ROUTE_REFUSED:
		json_object_set_new(row, "code", json_integer(route->refusal.code));
		json_object_set_new(row, "status", json_string(route->refusal.enhanced));
		json_object_set_new(row, "text", json_span(route->refusal.text));
		break;
	case MAIL_ROUTE_EXPANDED: /* not of mail_route() */
		break;
	}
	admin_row(r, row);
}

static int explain_rcpt(struct admin_request *r)
{
	struct address rcpt = { 0 }, sender = { 0 };
	struct directory_account account;
	struct event_list notes;
	span given, as = json_str(r->args, "as"), text;
	struct mail_route_from from = { .sender = &sender, .notes = &notes, .explain = true };
	struct mail_route *routes;
	size_t n;
	int e;

	if (!admin_need(r, "address", &given) ||
	    !address_arg(r, "address", ADDRESS_ALLOW_BARE_POSTMASTER, &rcpt) ||
	    !address_arg(r, "from", 0, &sender))
		return ERR_INVAL;
	if (as.n && directory_account_get(r->env->directory, as, r->mem, &account) < 0)
		return admin_fail(r, ERR_NOENT, "as: there is no such account");
	if (as.n && !sender.local.n)
		(void)address_parse(account.address, ADDRESS_ALLOW_UTF8, r->mem, &sender);
	from.authenticated = as.n > 0;
	event_list_init(&notes, r->mem);
	e = mail_route(r->env, &rcpt, &from, r->mem, &routes, &n);
	if (e < 0)
		return e;
	steps(r, &notes);
	text = address_is_null(&sender) ? SPAN_NULL : address_text(&sender, r->mem);
	for (size_t i = 0; i < n && !r->broken; i++)
		result(r, &routes[i], text);
	return 0;
}

const struct admin_command admin_explain_commands[] = {
	{ "explain rcpt", explain_rcpt },
	{ NULL, NULL },
};

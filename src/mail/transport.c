/* Which way mail for other hosts goes: relay.routes of the configuration. */
#include "mail/mail_int.h"

static bool domain_fits(span rule, span domain)
{
	if (span_eq_str(rule, "*"))
		return true;
	if (!span_starts(rule, SPAN(".")))
		return span_ieq(rule, domain);
	return span_ieq(span_from(rule, 1), domain) ||
	       (domain.n > rule.n && span_ieq(rule, span_from(domain, domain.n - rule.n)));
}

/* RULE is "@domain" or "user@domain". */
static bool sender_fits(span rule, const struct address *sender)
{
	span local;

	if (!rule.n)
		return true;
	if (!sender || address_is_null(sender))
		return false;
	local = span_cut(&rule, '@');
	return span_ieq(rule, sender->domain) && (!local.n || span_ieq(local, sender->local));
}

const struct conf_route *mail_transport(const struct conf *c, const struct address *rcpt,
					const struct address *sender)
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (domain_fits(c->routes[i].domain, rcpt->domain) &&
		    sender_fits(c->routes[i].sender, sender))
			return &c->routes[i];
	return NULL;
}

bool mail_wants_verp(const struct conf *c, span sender)
{
	_cleanup_(arena_donep) struct arena mem;
	struct address a;
	bool wants = false;

	arena_init(&mem);
	if (c->n_verp && sender.n &&
	    address_parse(sender, ADDRESS_ALLOW_UTF8, &mem, &a) == ADDRESS_OK)
		for (size_t i = 0; i < c->n_verp && !wants; i++)
			wants = sender_fits(c->verp[i].sender, &a);
	return wants;
}

span mail_route_way(span route)
{
	return span_starts(route, SPAN(MAIL_ROUTE_SRS))
		       ? span_from(route, sizeof MAIL_ROUTE_SRS - 1)
		       : route;
}

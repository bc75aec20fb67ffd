/* What the text of a queue route means. */
#include "conf/conf.h"

#include "format/idn.h"

static int port_parse(span rest, uint16_t *ret)
{
	uint64_t port;

	if (rest.n == 0)
		return 0;
	if (rest.p[0] != ':' || !span_u64(span_from(rest, 1), UINT16_MAX, &port) || port == 0)
		return ERR_SYNTAX;
	*ret = (uint16_t)port;
	return 0;
}

static int name_parse(span name, struct arena *mem, span *ret)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(512);

	if (name.n == 0 || idn_to_ascii(&b, name) < 0)
		return ERR_SYNTAX;
	*ret = arena_span(mem, buf_span(&b));
	return 0;
}

/* "[HOST]" or "[HOST]:PORT" */
static int host_parse(span text, struct arena *mem, struct conf_nexthop *ret)
{
	size_t close = span_find(text, ']');
	span host;

	if (close == SPAN_NPOS || port_parse(span_from(text, close + 1), &ret->port) < 0)
		return ERR_SYNTAX;
	host = span_sub(text, 1, close - 1);
	ret->kind = NEXTHOP_HOST;
	if (span_istarts(host, SPAN("IPv6:"))) /* RFC 5321 4.1.3 */
		host = span_from(host, 5);
	if (sock_parse_ip(host, 0, &ret->address) < 0)
		return name_parse(host, mem, &ret->name);
	ret->has_address = true;
	ret->name = arena_span(mem, host);
	return 0;
}

int conf_nexthop_parse(span route, struct arena *mem, struct conf_nexthop *ret)
{
	struct conf_nexthop hop = { 0 };
	span scheme = span_cut(&route, ':');
	int e = ERR_SYNTAX;

	if (span_eq_str(scheme, "via") && conf_relay_name_ok(route)) {
		hop.kind = NEXTHOP_VIA;
		hop.name = arena_span(mem, route);
		e = 0;
	} else if (span_eq_str(scheme, "smtp") || span_eq_str(scheme, "lmtp")) {
		hop.lmtp = span_eq_str(scheme, "lmtp");
		if (span_starts(route, SPAN("[")))
			e = host_parse(route, mem, &hop);
		else if (!hop.lmtp) /* LMTP leaves no queue by MX (RFC 2033 section 5) */
			e = name_parse(route, mem, &hop.name);
	}
	if (e == 0)
		*ret = hop;
	return e;
}

bool conf_way_ok(const struct conf *c, span to, bool refuse)
{
	_cleanup_(arena_donep) struct arena mem;
	struct conf_nexthop hop;

	arena_init(&mem);
	if (refuse && span_starts(to, SPAN(CONF_REFUSE)))
		return span_trim(span_from(to, sizeof CONF_REFUSE - 1)).n > 0;
	if (span_eq_str(to, "mx"))
		return true;
	return conf_nexthop_parse(to, &mem, &hop) == 0 &&
	       (hop.kind != NEXTHOP_VIA || conf_relay_host(c, hop.name));
}

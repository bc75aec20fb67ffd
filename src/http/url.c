/* URLs of requests.  Narrower than RFC 3986 on purpose: what is accepted here has one reading only,
 * the library's included, because the host decides whom we talk to. */
#include "base/err.h"
#include "http/http.h"

static bool is_host_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "1", "0x7f": other readers take a host that ends so for an IPv4 address in an odd form. */
static bool ends_in_number(span host)
{
	size_t dot = span_rfind(host, '.');
	span last = dot == SPAN_NPOS ? host : span_from(host, dot + 1);

	return !last.n || is_digit(last.p[0]);
}

static bool name_ok(span host)
{
	size_t label = 0;

	if (!host.n || host.n > 253 || ends_in_number(host))
		return false;
	for (size_t i = 0; i < host.n; i++) {
		if (!is_host_char(host.p[i]))
			return false;
		label = host.p[i] == '.' ? 0 : label + 1;
		if (label > 63 || (host.p[i] == '.' && (i == 0 || host.p[i - 1] == '.')))
			return false;
	}
	return true;
}

static bool port_parse(span text, uint16_t *ret)
{
	uint64_t v;

	if (!span_u64(text, 65535, &v) || v == 0 || text.n > 5)
		return false;
	*ret = (uint16_t)v;
	return true;
}

/* "host", "host:port", "[v6]", "[v6]:port" */
static bool authority_parse(span text, struct http_url *u)
{
	span port = SPAN_NULL;
	bool bracket = text.n && text.p[0] == '[';
	size_t end = bracket ? span_find(text, ']') : span_find(text, ':');

	if (bracket) {
		if (end == SPAN_NPOS)
			return false;
		u->host = span_sub(text, 1, end - 1);
		port = span_from(text, end + 1);
		if (port.n && port.p[0] != ':')
			return false;
	} else {
		u->host = span_sub(text, 0, end);
		if (end != SPAN_NPOS)
			port = span_from(text, end);
	}
	if (port.n && !port_parse(span_from(port, 1), &u->port))
		return false;
	u->numeric = sock_parse_ip(u->host, u->port, &u->address) == 0;
	if (bracket)
		return u->numeric && span_find(u->host, ':') != SPAN_NPOS;
	return u->numeric || name_ok(u->host);
}

int http_url_parse(span text, struct http_url *ret)
{
	struct http_url u = { 0 };
	size_t end = 0;

	if (text.n > HTTP_URL_MAX)
		return ERR_TOOBIG;
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] <= ' ' || text.p[i] > '~' || strchr("\\#\"<>^`{|}", text.p[i]))
			return ERR_SYNTAX;
	if (span_istarts(text, SPAN("https://")))
		u.tls = true;
	else if (!span_istarts(text, SPAN("http://")))
		return ERR_SYNTAX;
	u.port = u.tls ? 443 : 80;
	text = span_from(text, u.tls ? 8 : 7);
	while (end < text.n && text.p[end] != '/' && text.p[end] != '?')
		end++;
	if (!authority_parse(span_sub(text, 0, end), &u))
		return ERR_SYNTAX;
	u.path = span_from(text, end);
	*ret = u;
	return 0;
}

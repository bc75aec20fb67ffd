#include "smtp/xclient.h"

#include <stdio.h>

#include "format/dsn.h"
#include "smtp/lex.h"

#define VALUE_MAX 512

typedef bool attribute_fn(span value, bool available, struct smtp_xclient *x);

static bool name_set(span v, bool available, struct smtp_xclient *x)
{
	x->has_name = true;
	x->name = v;
	return true;
}

/* "192.0.2.1" or "IPV6:2001:db8::1". */
static bool addr_set(span v, bool available, struct smtp_xclient *x)
{
	struct sockaddr_any a;

	if (!available)
		return true;
	if (span_istarts(v, SPAN("IPV6:")))
		v = span_from(v, 5);
	if (v.n >= sizeof(x->ip) || sock_parse_ip(v, 0, &a) < 0)
		return false;
	snprintf(x->ip, sizeof(x->ip), "%.*s", SPAN_FMT(v));
	return true;
}

static bool port_set(span v, bool available, struct smtp_xclient *x)
{
	uint64_t n = 0;

	if (available && !span_u64(v, UINT16_MAX, &n))
		return false;
	x->port = (uint16_t)n;
	return true;
}

static bool login_set(span v, bool available, struct smtp_xclient *x)
{
	x->login = v;
	return true;
}

/* Of no use here: the client's EHLO follows, and where it was connected to is the proxy's business. */
static bool ignore(span v, bool available, struct smtp_xclient *x)
{
	return true;
}

static const struct attribute {
	const char *name;
	attribute_fn *set;
} attributes[] = {
	{ "NAME", name_set },	{ "ADDR", addr_set },	{ "PORT", port_set },
	{ "PROTO", ignore },	{ "HELO", ignore },	{ "LOGIN", login_set },
	{ "DESTADDR", ignore }, { "DESTPORT", ignore },
};

/* Nothing that could end a line or a string comes out. */
static bool decode(span v, struct arena *mem, span *ret)
{
	_cleanup_(buf_donep) struct buf plain = BUF_INIT(VALUE_MAX);

	if (xtext_decode(&plain, v) < 0)
		return false;
	for (size_t i = 0; i < plain.n; i++)
		if ((uint8_t)plain.p[i] < 32 || plain.p[i] == 127)
			return false;
	*ret = arena_span(mem, buf_span(&plain));
	return true;
}

bool smtp_xclient_parse(span args, struct arena *mem, struct smtp_xclient *ret)
{
	struct smtp_xclient x = { 0 };
	span word, key, value;
	unsigned seen = 0;

	while (smtp_word(&args, &word)) {
		size_t i = 0;

		if (!smtp_param(word, &key, &value) || !value.n)
			return false;
		while (i < ARRAY_LEN(attributes) && !span_ieq_str(key, attributes[i].name))
			i++;
		if (i == ARRAY_LEN(attributes) || seen & 1u << i || !decode(value, mem, &value))
			return false;
		seen |= 1u << i;
		bool available = !span_ieq_str(value, "[UNAVAILABLE]") &&
				 !span_ieq_str(value, "[TEMPUNAVAIL]");
		if (!attributes[i].set(available ? value : SPAN_NULL, available, &x))
			return false;
	}
	*ret = x;
	return seen != 0;
}

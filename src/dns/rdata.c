/* Decoders for RDATA as libunbound hands it out: names are never compressed.  Pure; whatever does
 * not fit exactly is ERR_SYNTAX, since a peer wrote it. */
#include "dns/dns.h"

#define NAME_MAX_TEXT 254 /* RFC 1035 3.1: 255 octets on the wire */

/* A label's byte as text.  Only what a host or service name may hold is let through: a dot or a
 * control byte inside a label would change its meaning once it is text. */
static bool label_char(uint8_t c, char *ret)
{
	if (c >= 'A' && c <= 'Z')
		c += 'a' - 'A';
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
		*ret = (char)c;
		return true;
	}
	return false;
}

/* An uncompressed name (RFC 1035 3.1); *C moves behind it. */
static int name_parse(struct cursor *c, struct arena *mem, span *ret)
{
	char text[NAME_MAX_TEXT];
	size_t n = 0;

	for (;;) {
		size_t len = cursor_u8(c);

		if (c->bad || len > 63) /* a pointer (0xc0) has no meaning here */
			return ERR_SYNTAX;
		if (len == 0)
			break;
		span label = cursor_bytes(c, len);
		if (c->bad || n + len + (n > 0) > sizeof text)
			return ERR_SYNTAX;
		if (n > 0)
			text[n++] = '.';
		for (size_t i = 0; i < len; i++)
			if (!label_char((uint8_t)label.p[i], &text[n++]))
				return ERR_SYNTAX;
	}
	*ret = arena_span(mem, span_of(text, n));
	return 0;
}

static uint16_t be16(struct cursor *c)
{
	uint16_t high = cursor_u8(c);

	return (uint16_t)(high << 8 | cursor_u8(c));
}

/* Character-strings joined without a separator (RFC 7208 3.3, RFC 6376 3.6.2.2). */
static int txt_parse(struct cursor *c, size_t size, struct arena *mem, span *ret)
{
	char *text = arena_alloc(mem, size + 1);
	size_t n = 0;

	if (size == 0)
		return ERR_SYNTAX; /* RFC 1035 3.3.14: one or more */
	while (!cursor_at_end(c)) {
		span s = cursor_bytes(c, cursor_u8(c));

		if (c->bad)
			return ERR_SYNTAX;
		if (s.n > 0)
			memcpy(text + n, s.p, s.n);
		n += s.n;
	}
	*ret = span_of(text, n);
	return 0;
}

static int address_record(span rdata, int family, struct dns_record *r)
{
	if (family == AF_INET) {
		if (rdata.n != 4)
			return ERR_SYNTAX;
		r->addr.in.sin_family = AF_INET;
		memcpy(&r->addr.in.sin_addr, rdata.p, 4);
	} else {
		if (rdata.n != 16)
			return ERR_SYNTAX;
		r->addr.in6.sin6_family = AF_INET6;
		memcpy(&r->addr.in6.sin6_addr, rdata.p, 16);
	}
	return 0;
}

int dns_record_parse(enum dns_type type, span rdata, struct arena *mem, struct dns_record *ret)
{
	struct cursor c = cursor_of(rdata);
	struct dns_record r = { 0 };
	int err = 0;

	switch (type) {
	case DNS_A:
		err = address_record(rdata, AF_INET, &r);
		cursor_bytes(&c, rdata.n);
		break;
	case DNS_AAAA:
		err = address_record(rdata, AF_INET6, &r);
		cursor_bytes(&c, rdata.n);
		break;
	case DNS_MX:
		r.preference = be16(&c);
		err = name_parse(&c, mem, &r.name);
		break;
	case DNS_NS:
	case DNS_CNAME:
	case DNS_PTR:
		err = name_parse(&c, mem, &r.name);
		break;
	case DNS_TXT:
		err = txt_parse(&c, rdata.n, mem, &r.text);
		break;
	case DNS_TLSA: /* RFC 6698 2.1 */
		r.preference = be16(&c);
		r.weight = cursor_u8(&c);
		r.text = arena_span(mem, cursor_rest(&c));
		if (r.text.n == 0)
			err = ERR_SYNTAX;
		break;
	default:
		return ERR_UNSUPPORTED;
	}
	if (err < 0)
		return err;
	if (!cursor_at_end(&c))
		return ERR_SYNTAX;
	*ret = r;
	return 0;
}

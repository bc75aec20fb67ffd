#include "format/address.h"

#include <arpa/inet.h>

#include "base/err.h"
#include "format/mime.h"
#include "format/text_int.h"

/* RFC 5321 4.5.3.1.1 to 4.5.3.1.3 */
#define LOCAL_MAX	64
#define DOMAIN_MAX	255
#define PATH_MAX_OCTETS 254 /* 256 with the angle brackets */
/* A route is dropped, but it must be read; commands are shorter than this anyway. */
#define ROUTE_MAX 1024

static bool label_char(char c, bool allow_utf8)
{
	return text_is(c, CH_LDH) || (allow_utf8 && (c & 0x80));
}

bool domain_valid(span domain, bool allow_utf8)
{
	if (domain.n == 0 || domain.n > DOMAIN_MAX || !utf8_valid(domain))
		return false;
	for (span rest = domain; rest.p;) {
		span label = span_cut(&rest, '.');
		if (label.n == 0 || label.n > 63 || label.p[0] == '-' ||
		    label.p[label.n - 1] == '-')
			return false;
		for (size_t i = 0; i < label.n; i++)
			if (!label_char(label.p[i], allow_utf8))
				return false;
	}
	return true;
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 4.1.3).  No other tag was ever registered. */
static bool literal_valid(span literal)
{
	span inner = span_sub(literal, 1, literal.n - 2);
	bool v6 = span_istarts(inner, SPAN("IPv6:"));
	if (v6)
		inner = span_from(inner, 5);
	char text[INET6_ADDRSTRLEN];
	if (inner.n >= sizeof(text) || memchr(inner.p, 0, inner.n))
		return false;
	memcpy(text, inner.p, inner.n);
	text[inner.n] = 0;
	uint8_t addr[16];
	return inet_pton(v6 ? AF_INET6 : AF_INET, text, addr) == 1;
}

/* The position of a path parser; RAW_UTF8 notes that non-ASCII was seen. */
struct path {
	span in;
	size_t at;
	unsigned flags;
	bool utf8;
};

static char peek(const struct path *p)
{
	return p->at < p->in.n ? p->in.p[p->at] : 0;
}

/* *( "@" domain "," ) ":" of appendix C. */
static enum address_error skip_route(struct path *p)
{
	size_t colon = span_find(span_sub(p->in, p->at, ROUTE_MAX), ':');
	if (colon == SPAN_NPOS)
		return ADDRESS_SYNTAX;
	span route = span_sub(p->in, p->at, colon);
	while (route.p) {
		span hop = span_trim(span_cut(&route, ','));
		if (hop.n < 2 || hop.p[0] != '@' || !domain_valid(span_from(hop, 1), true))
			return ADDRESS_SYNTAX;
	}
	p->at += colon + 1;
	return ADDRESS_OK;
}

/* QcontentSMTP until the closing quote. */
static enum address_error read_quoted(struct path *p, struct buf *local)
{
	for (p->at++; p->at < p->in.n; p->at++) {
		char c = p->in.p[p->at];
		if (c == '"') {
			p->at++;
			return ADDRESS_OK;
		}
		if (c == '\\') {
			p->at++;
			c = peek(p);
			if (c & 0x80)
				return ADDRESS_SYNTAX; /* quoted-pairSMTP is ASCII, also in RFC 6531
							*/
		}
		if (text_is_ctl(c))
			return ADDRESS_SYNTAX;
		p->utf8 |= (c & 0x80) != 0;
		buf_put_char(local, c);
	}
	return ADDRESS_SYNTAX;
}

static enum address_error read_dot_string(struct path *p, struct buf *local)
{
	size_t start = p->at;
	for (; p->at < p->in.n; p->at++) {
		char c = p->in.p[p->at];
		if (c == '.') {
			if (p->at == start || p->in.p[p->at - 1] == '.')
				return ADDRESS_SYNTAX;
		} else if (c & 0x80) {
			p->utf8 = true;
		} else if (!text_is(c, CH_ATEXT)) {
			break;
		}
	}
	if (p->at == start || p->in.p[p->at - 1] == '.')
		return ADDRESS_SYNTAX;
	buf_put(local, p->in.p + start, p->at - start);
	return ADDRESS_OK;
}

static enum address_error read_literal(struct path *p, struct buf *domain)
{
	size_t end = span_find(span_sub(p->in, p->at, 64), ']');
	if (end == SPAN_NPOS)
		return ADDRESS_LITERAL;
	span literal = span_sub(p->in, p->at, end + 1);
	if (!literal_valid(literal))
		return ADDRESS_LITERAL;
	p->at += literal.n;
	size_t tag = span_istarts(literal, SPAN("[IPv6:")) ? 6 : 0;
	buf_put(domain, "[IPv6:", tag);
	for (size_t i = tag; i < literal.n; i++)
		buf_put_char(domain, text_lower(literal.p[i]));
	return ADDRESS_OK;
}

static enum address_error read_domain(struct path *p, struct buf *domain)
{
	if (peek(p) == '[')
		return read_literal(p, domain);
	size_t start = p->at;
	while (p->at < p->in.n && (p->in.p[p->at] == '.' || label_char(p->in.p[p->at], true)))
		p->at++;
	span raw = span_sub(p->in, start, p->at - start);
	if (raw.n > DOMAIN_MAX)
		return ADDRESS_TOO_LONG;
	if (!domain_valid(raw, true))
		return ADDRESS_SYNTAX;
	p->utf8 |= text_has_8bit(raw);
	utf8_put_lower(domain, raw);
	return domain->failed ? ADDRESS_TOO_LONG : ADDRESS_OK;
}

/* Mailbox of RFC 5321 4.1.2 at P->at. */
static enum address_error read_mailbox(struct path *p, struct buf *local, struct buf *domain)
{
	size_t start = p->at;
	enum address_error e = peek(p) == '"' ? read_quoted(p, local) : read_dot_string(p, local);
	if (e != ADDRESS_OK)
		return e;
	if (local->failed || p->at - start > LOCAL_MAX) /* as written, with its quotes */
		return ADDRESS_TOO_LONG;
	if (!utf8_valid(buf_span(local)))
		return ADDRESS_SYNTAX;
	if (peek(p) == '@') {
		p->at++;
		e = read_domain(p, domain);
		if (e != ADDRESS_OK)
			return e;
	} else if (!(p->flags & ADDRESS_ALLOW_BARE_POSTMASTER) ||
		   !span_ieq_str(buf_span(local), "postmaster")) {
		return p->at == p->in.n || peek(p) == '>' ? ADDRESS_NO_DOMAIN : ADDRESS_SYNTAX;
	}
	if (p->at - start > PATH_MAX_OCTETS)
		return ADDRESS_TOO_LONG;
	return p->utf8 && !(p->flags & ADDRESS_ALLOW_UTF8) ? ADDRESS_UTF8 : ADDRESS_OK;
}

static enum address_error parse_mailbox(struct path *p, struct arena *mem, struct address *ret,
					bool brackets)
{
	_cleanup_(buf_donep) struct buf local = BUF_INIT(LOCAL_MAX), domain = BUF_INIT(DOMAIN_MAX);
	enum address_error e = read_mailbox(p, &local, &domain);
	if (e != ADDRESS_OK)
		return e;
	if (brackets ? peek(p) != '>' : p->at != p->in.n)
		return ADDRESS_SYNTAX;
	p->at += brackets;
	*ret = (struct address){
		.local = arena_span(mem, buf_span(&local)),
		.domain = arena_span(mem, buf_span(&domain)),
		.utf8 = p->utf8,
	};
	return ADDRESS_OK;
}

enum address_error address_parse_path(span in, unsigned flags, struct arena *mem,
				      struct address *ret, size_t *ret_used)
{
	struct path p = { .in = in, .flags = flags };
	if (peek(&p) != '<')
		return ADDRESS_SYNTAX;
	p.at++;
	if (peek(&p) == '>' && (flags & ADDRESS_ALLOW_NULL)) {
		*ret = (struct address){ 0 };
		*ret_used = 2;
		return ADDRESS_OK;
	}
	enum address_error e = peek(&p) == '@' ? skip_route(&p) : ADDRESS_OK;
	if (e == ADDRESS_OK)
		e = parse_mailbox(&p, mem, ret, true);
	if (e == ADDRESS_OK)
		*ret_used = p.at;
	return e;
}

enum address_error address_parse(span in, unsigned flags, struct arena *mem, struct address *ret)
{
	struct path p = { .in = in, .flags = flags };
	if (in.n == 0 && (flags & ADDRESS_ALLOW_NULL)) {
		*ret = (struct address){ 0 };
		return ADDRESS_OK;
	}
	return parse_mailbox(&p, mem, ret, false);
}

static bool is_dot_string(span local)
{
	if (local.n == 0)
		return false;
	for (size_t i = 0; i < local.n; i++) {
		char c = local.p[i];
		if (c == '.' ? i == 0 || i + 1 == local.n || local.p[i - 1] == '.'
			     : !(c & 0x80) && !text_is(c, CH_ATEXT))
			return false;
	}
	return true;
}

int address_put(struct buf *b, const struct address *a)
{
	if (address_is_null(a))
		return 0;
	if (is_dot_string(a->local)) {
		buf_put_span(b, a->local);
	} else {
		buf_put_char(b, '"');
		for (size_t i = 0; i < a->local.n; i++) {
			if (a->local.p[i] == '"' || a->local.p[i] == '\\')
				buf_put_char(b, '\\');
			buf_put_char(b, a->local.p[i]);
		}
		buf_put_char(b, '"');
	}
	if (a->domain.n) {
		buf_put_char(b, '@');
		buf_put_span(b, a->domain);
	}
	return b->failed ? ERR_TOOBIG : 0;
}

span address_text(const struct address *a, struct arena *mem)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(2 * a->local.n + a->domain.n + 3);
	address_put(&b, a);
	return arena_span(mem, buf_span(&b));
}

bool address_is_null(const struct address *a)
{
	return a->local.n == 0 && a->domain.n == 0;
}

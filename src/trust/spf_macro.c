/* Macro strings (RFC 7208 7). */
#include "trust/ascii.h"
#include "trust/spf_parse.h"

#define DELIMITERS "+-.,/_="

struct macro {
	char letter; /* lower case */
	bool escape; /* the letter was upper case: URL-escaped */
	bool reverse;
	unsigned keep;	 /* right-hand parts; 0: all */
	span delimiters; /* empty: "." */
};

/* Reads what stands between "%{" and "}"; the bytes used with the brace, or 0. */
static size_t macro_parse(span s, bool exp, struct macro *ret)
{
	struct macro m = { 0 };
	size_t i = 0;

	if (!s.n || !ascii_alpha(s.p[0]))
		return 0;
	m.letter = (char)(s.p[i] | 0x20);
	m.escape = s.p[i++] < 'a';
	if (!memchr("slodiphvcrt", m.letter, 11) || (!exp && memchr("crt", m.letter, 3)))
		return 0;
	size_t digits = i;
	while (i < s.n && ascii_digit(s.p[i])) {
		m.keep = MIN(m.keep * 10 + (unsigned)(s.p[i] - '0'), 1000u); /* "all" is meant */
		i++;
	}
	if (i > digits && m.keep == 0)
		return 0;
	if (i < s.n && (s.p[i] | 0x20) == 'r') {
		m.reverse = true;
		i++;
	}
	digits = i;
	while (i < s.n && s.p[i] && strchr(DELIMITERS, s.p[i]))
		i++;
	m.delimiters = span_sub(s, digits, i - digits);
	if (i >= s.n || s.p[i] != '}')
		return 0;
	*ret = m;
	return i + 1;
}

bool spf_macros_valid(span s, bool exp)
{
	struct macro m;

	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i];
		if (c != '%') {
			if (c < (exp ? 0x20 : 0x21) || c > 0x7e)
				return false;
			i++;
			continue;
		}
		if (i + 1 >= s.n)
			return false;
		if (memchr("%_-", s.p[i + 1], 3)) {
			i += 2;
			continue;
		}
		size_t used = s.p[i + 1] == '{' ? macro_parse(span_from(s, i + 2), exp, &m) : 0;
		if (!used)
			return false;
		i += 2 + used;
	}
	return true;
}

bool spf_macros_use(span s, char letter)
{
	for (size_t i = 0; i + 2 < s.n; i++) {
		if (s.p[i] == '%' && s.p[i + 1] == '%')
			i++;
		else if (s.p[i] == '%' && s.p[i + 1] == '{' && (s.p[i + 2] | 0x20) == letter)
			return true;
	}
	return false;
}

static span macro_value(const struct spf_macros *m, char letter)
{
	switch (letter) {
	case 's':
		return m->sender;
	case 'l':
		return m->local;
	case 'o':
		return m->sender_domain;
	case 'd':
		return m->domain;
	case 'i':
		return m->ip;
	case 'p':
		return m->validated;
	case 'v':
		return m->in_addr;
	case 'h':
		return m->helo;
	case 'c':
		return m->readable_ip;
	case 'r':
		return m->receiver;
	default:
		return m->time;
	}
}

static bool is_delimiter(const struct macro *x, char c)
{
	return x->delimiters.n ? span_find(x->delimiters, c) != SPAN_NPOS : c == '.';
}

/* Unreserved characters of RFC 3986 2.3 stay. */
static void put_escaped(struct buf *b, span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (ascii_alpha(c) || ascii_digit(c) || (c && strchr("-._~", c)))
			buf_put_char(b, c);
		else
			buf_printf(b, "%%%02X", (unsigned)(unsigned char)c);
	}
}

static void put_part(struct buf *b, const struct macro *x, span part, bool first)
{
	if (!first)
		buf_put_char(b, '.');
	if (x->escape)
		put_escaped(b, part);
	else
		buf_put_span(b, part);
}

/* The part of S that ends at END. */
static span part_before(const struct macro *x, span s, size_t end)
{
	size_t from = end;

	while (from > 0 && !is_delimiter(x, s.p[from - 1]))
		from--;
	return span_sub(s, from, end - from);
}

static void put_macro(struct buf *b, const struct macro *x, span s)
{
	size_t parts = 1, skip, at = 0;

	for (size_t i = 0; i < s.n; i++)
		parts += is_delimiter(x, s.p[i]);
	size_t keep = x->keep && x->keep < parts ? x->keep : parts;
	if (x->reverse) {
		/* Reversed first, then the right-hand parts: those are the left ones of S. */
		size_t end = s.n;
		skip = parts - keep;
		for (size_t n = 0; n < parts; n++) {
			span part = part_before(x, s, end);
			if (n >= skip)
				put_part(b, x, part, n == skip);
			end -= MIN(part.n + 1, end);
		}
		return;
	}
	skip = parts - keep;
	for (size_t n = 0; n < parts; n++) {
		size_t end = at;
		while (end < s.n && !is_delimiter(x, s.p[end]))
			end++;
		if (n >= skip)
			put_part(b, x, span_sub(s, at, end - at), n == skip);
		at = end + 1;
	}
}

int spf_macros_expand(span s, const struct spf_macros *m, struct buf *b)
{
	struct macro x = { 0 };

	for (size_t i = 0; i < s.n && !b->failed;) {
		if (s.p[i] != '%' || i + 1 >= s.n) {
			buf_put_char(b, s.p[i++]);
			continue;
		}
		char c = s.p[i + 1];
		i += 2;
		if (c == '%')
			buf_put_char(b, '%');
		else if (c == '_')
			buf_put_char(b, ' ');
		else if (c == '-')
			buf_put_str(b, "%20");
		else {
			i += macro_parse(span_from(s, i), true, &x);
			put_macro(b, &x, macro_value(m, x.letter));
		}
	}
	return b->failed ? ERR_TOOBIG : 0;
}

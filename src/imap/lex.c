#include "imap/lex.h"

void imap_lex_init(struct imap_lex *l, span command, struct arena *mem)
{
	*l = (struct imap_lex){ .s = command, .mem = mem };
}

bool imap_lex_fail(struct imap_lex *l, const char *why)
{
	if (!l->why)
		l->why = why;
	return false;
}

bool imap_atom_char(unsigned char c)
{
	return c > 0x20 && c < 0x7f && !strchr("(){%*\"\\]", c);
}

static bool astring_char(unsigned char c)
{
	return imap_atom_char(c) || c == ']';
}

static bool pattern_char(unsigned char c)
{
	return astring_char(c) || c == '%' || c == '*';
}

/* A tag is an astring without '+'. */
static bool tag_char(unsigned char c)
{
	return astring_char(c) && c != '+';
}

int imap_lex_peek(const struct imap_lex *l)
{
	if (l->at >= l->s.n || l->s.p[l->at] == '\r')
		return -1;
	return (unsigned char)l->s.p[l->at];
}

bool imap_lex_char(struct imap_lex *l, char c)
{
	if (l->at >= l->s.n || l->s.p[l->at] != c)
		return false;
	l->at++;
	return true;
}

bool imap_lex_sp(struct imap_lex *l)
{
	return imap_lex_char(l, ' ') || imap_lex_fail(l, "Expected a space");
}

bool imap_lex_end(struct imap_lex *l)
{
	if (l->at + 2 == l->s.n && l->s.p[l->at] == '\r' && l->s.p[l->at + 1] == '\n') {
		l->at += 2;
		return true;
	}
	return imap_lex_fail(l, "Unexpected text behind the arguments");
}

static bool run(struct imap_lex *l, bool (*in)(unsigned char c), const char *why, span *ret)
{
	size_t from = l->at;
	while (l->at < l->s.n && in((unsigned char)l->s.p[l->at]))
		l->at++;
	if (l->at == from)
		return imap_lex_fail(l, why);
	*ret = span_sub(l->s, from, l->at - from);
	return true;
}

bool imap_lex_tag(struct imap_lex *l, span *ret)
{
	return run(l, tag_char, "Expected a tag", ret);
}

bool imap_lex_atom(struct imap_lex *l, span *ret)
{
	return run(l, imap_atom_char, "Expected an atom", ret);
}

bool imap_lex_word(struct imap_lex *l, const char *word)
{
	size_t at = l->at;
	while (at < l->s.n && imap_atom_char((unsigned char)l->s.p[at]))
		at++;
	if (!span_ieq_str(span_sub(l->s, l->at, at - l->at), word))
		return false;
	l->at = at;
	return true;
}

/* quoted: 7-bit in RFC 3501; 8-bit is taken as well, since clients send UTF-8 passwords and search
 * keys. */
static bool quoted(struct imap_lex *l, span *ret)
{
	size_t from = ++l->at, escapes = 0;
	for (; l->at < l->s.n; l->at++) {
		char c = l->s.p[l->at];
		if (c == '"')
			break;
		if (c == '\r' || c == '\n' || c == '\0')
			return imap_lex_fail(l, "Line break or NUL in a quoted string");
		if (c != '\\')
			continue;
		l->at++;
		escapes++;
		if (l->at >= l->s.n || (l->s.p[l->at] != '"' && l->s.p[l->at] != '\\'))
			return imap_lex_fail(l, "Bad escape in a quoted string");
	}
	if (l->at >= l->s.n)
		return imap_lex_fail(l, "Quoted string has no end");
	span raw = span_sub(l->s, from, l->at++ - from);
	if (!escapes) {
		*ret = raw;
		return true;
	}
	char *p = arena_alloc(l->mem, raw.n), *w = p;
	for (size_t i = 0; i < raw.n; i++) {
		i += raw.p[i] == '\\';
		*w++ = raw.p[i];
	}
	*ret = span_of(p, (size_t)(w - p));
	return true;
}

static bool literal(struct imap_lex *l, span *ret)
{
	size_t close = span_find(span_from(l->s, l->at), '}');
	struct imap_literal lit;
	if (close == SPAN_NPOS || !imap_literal_at_end(span_sub(l->s, l->at, close + 1), &lit))
		return imap_lex_fail(l, "Bad literal");
	size_t from = l->at + close + 1;
	if (l->s.n - from < 2 || l->s.p[from] != '\r' || l->s.p[from + 1] != '\n')
		return imap_lex_fail(l, "Bad literal");
	from += 2;
	if (lit.n > l->s.n - from)
		return imap_lex_fail(l, "Literal is not complete");
	*ret = span_sub(l->s, from, (size_t)lit.n);
	l->at = from + (size_t)lit.n;
	return memchr(ret->p, 0, ret->n) == NULL || imap_lex_fail(l, "NUL in a literal");
}

bool imap_lex_string(struct imap_lex *l, span *ret)
{
	int c = imap_lex_peek(l);
	if (c == '"')
		return quoted(l, ret);
	if (c == '{')
		return literal(l, ret);
	return imap_lex_fail(l, "Expected a string");
}

bool imap_lex_astring(struct imap_lex *l, span *ret)
{
	int c = imap_lex_peek(l);
	if (c == '"' || c == '{')
		return imap_lex_string(l, ret);
	return run(l, astring_char, "Expected a string", ret);
}

bool imap_lex_nstring(struct imap_lex *l, span *ret)
{
	if (imap_lex_word(l, "NIL")) {
		*ret = SPAN_NULL;
		return true;
	}
	return imap_lex_string(l, ret);
}

bool imap_lex_pattern(struct imap_lex *l, span *ret)
{
	int c = imap_lex_peek(l);
	if (c == '"' || c == '{')
		return imap_lex_string(l, ret);
	return run(l, pattern_char, "Expected a mailbox pattern", ret);
}

static bool digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

bool imap_lex_number64(struct imap_lex *l, uint64_t *ret)
{
	span s;
	return run(l, digit, "Expected a number", &s) &&
	       (span_u64(s, INT64_MAX, ret) || imap_lex_fail(l, "Number is too large"));
}

bool imap_lex_number(struct imap_lex *l, uint32_t *ret)
{
	uint64_t v;
	if (!imap_lex_number64(l, &v))
		return false;
	if (v > UINT32_MAX)
		return imap_lex_fail(l, "Number is too large");
	*ret = (uint32_t)v;
	return true;
}

bool imap_literal_at_end(span line, struct imap_literal *ret)
{
	struct imap_literal lit = { 0 };
	if (line.n < 3 || line.p[line.n - 1] != '}')
		return false;
	size_t end = line.n - 1;
	if (line.p[end - 1] == '+') {
		lit.nonsync = true;
		end--;
	}
	size_t from = end;
	while (from > 0 && digit((unsigned char)line.p[from - 1]))
		from--;
	if (from == end || from == 0 || line.p[from - 1] != '{')
		return false;
	lit.binary = from >= 2 && line.p[from - 2] == '~';
	if (!span_u64(span_sub(line, from, end - from), INT64_MAX, &lit.n)) {
		lit.n = UINT64_MAX;
		lit.overflow = true;
	}
	*ret = lit;
	return true;
}

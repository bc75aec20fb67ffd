#include "base/span.h"

#include "base/arena.h"

/* Not tolower(): the locale must never decide what equals what on the wire. */
static inline unsigned char lower(char c)
{
	unsigned char u = (unsigned char)c;
	return u >= 'A' && u <= 'Z' ? (unsigned char)(u | 0x20) : u;
}

static bool ieq_bytes(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (lower(a[i]) != lower(b[i]))
			return false;
	}
	return true;
}

bool span_eq(span a, span b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool span_eq_str(span a, const char *z)
{
	return span_eq(a, span_str(z));
}

bool span_ieq(span a, span b)
{
	return a.n == b.n && ieq_bytes(a.p, b.p, a.n);
}

bool span_ieq_str(span a, const char *z)
{
	return span_ieq(a, span_str(z));
}

bool span_starts(span s, span prefix)
{
	return s.n >= prefix.n && span_eq(span_sub(s, 0, prefix.n), prefix);
}

bool span_istarts(span s, span prefix)
{
	return s.n >= prefix.n && span_ieq(span_sub(s, 0, prefix.n), prefix);
}

bool span_iends(span s, span suffix)
{
	return s.n >= suffix.n && span_ieq(span_from(s, s.n - suffix.n), suffix);
}

int span_cmp(span a, span b)
{
	size_t n = MIN(a.n, b.n);
	int r = n ? memcmp(a.p, b.p, n) : 0;
	if (r)
		return r;
	return (a.n > b.n) - (a.n < b.n);
}

size_t span_find(span s, char c)
{
	const char *at = s.n ? memchr(s.p, c, s.n) : NULL;
	return at ? (size_t)(at - s.p) : SPAN_NPOS;
}

size_t span_rfind(span s, char c)
{
	const char *at = s.n ? memrchr(s.p, c, s.n) : NULL;
	return at ? (size_t)(at - s.p) : SPAN_NPOS;
}

size_t span_find_span(span s, span what)
{
	if (what.n == 0)
		return 0;
	const char *at = s.n >= what.n ? memmem(s.p, s.n, what.p, what.n) : NULL;
	return at ? (size_t)(at - s.p) : SPAN_NPOS;
}

size_t span_ifind_span(span s, span what)
{
	if (what.n == 0)
		return 0;
	for (size_t i = 0; s.n >= what.n && i <= s.n - what.n; i++) {
		if (lower(s.p[i]) == lower(what.p[0]) && ieq_bytes(s.p + i, what.p, what.n))
			return i;
	}
	return SPAN_NPOS;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

span span_trim_left(span s)
{
	while (s.n && is_space(s.p[0])) {
		s.p++;
		s.n--;
	}
	return s;
}

span span_trim(span s)
{
	s = span_trim_left(s);
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

span span_cut(span *s, char sep)
{
	size_t at = span_find(*s, sep);
	span piece = span_sub(*s, 0, at);
	*s = at == SPAN_NPOS ? SPAN_NULL : span_from(*s, at + 1);
	return piece;
}

bool span_u64(span s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;
	if (s.n == 0)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		uint64_t digit = (uint64_t)(s.p[i] - '0');
		if (v > (UINT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	if (v > max)
		return false;
	*ret = v;
	return true;
}

char *span_dup(span s)
{
	char *z = xmalloc(s.n + 1);
	if (s.n)
		memcpy(z, s.p, s.n);
	z[s.n] = '\0';
	return z;
}

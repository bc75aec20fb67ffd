/* span: a read-only view of bytes that somebody else owns.  May contain NUL, is not terminated. */
#pragma once

#include <string.h>

#include "base/util.h"

typedef struct span {
	const char *p;
	size_t n;
} span;

#define SPAN_NULL ((span){ NULL, 0 })
#define SPAN(lit) ((span){ "" lit, sizeof(lit) - 1 }) /* string literal */
/* For printf("%.*s", SPAN_FMT(s)): only for bytes known to be harmless. */
#define SPAN_FMT(s) (int)(s).n, (s).p

static inline span span_of(const void *p, size_t n)
{
	return (span){ p, n };
}
static inline span span_str(const char *z) /* NULL gives the empty span */
{
	return (span){ z, z ? strlen(z) : 0 };
}
static inline span span_sub(span s, size_t from, size_t n) /* clamped to S */
{
	if (from > s.n)
		from = s.n;
	if (n > s.n - from)
		n = s.n - from;
	return (span){ s.p ? s.p + from : NULL, n };
}
static inline span span_from(span s, size_t from)
{
	return span_sub(s, from, SIZE_MAX);
}

bool span_eq(span a, span b);
bool span_eq_str(span a, const char *z);
bool span_ieq(span a, span b); /* ASCII case-insensitive; bytes >= 0x80 compare as they are */
bool span_ieq_str(span a, const char *z);
bool span_starts(span s, span prefix);
bool span_istarts(span s, span prefix);
bool span_iends(span s, span suffix);
int span_cmp(span a, span b); /* memcmp order, shorter first */

#define SPAN_NPOS SIZE_MAX
size_t span_find(span s, char c);        /* index or SPAN_NPOS */
size_t span_rfind(span s, char c);
size_t span_find_span(span s, span what); /* memmem */
size_t span_ifind_span(span s, span what);

span span_trim(span s);       /* without leading and trailing SP, HTAB, CR, LF */
span span_trim_left(span s);
/* Cuts the piece before the first SEP off *S and returns it; *S is then what follows (p NULL when
 * there was no SEP: the whole rest was returned). */
span span_cut(span *s, char sep);

/* Decimal digits only, no sign, the whole span; false on anything else or overflow of MAX. */
bool span_u64(span s, uint64_t max, uint64_t *ret);

/* malloc'd NUL-terminated copy (the bytes may contain NUL); the caller frees. */
char *span_dup(span s);

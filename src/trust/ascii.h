/* Small things about ASCII that every file here needs.  Pure. */
#pragma once

#include "base/arena.h"

/* A copy in lower case; bytes >= 0x80 stay as they are. */
static inline span ascii_lower(span s, struct arena *mem)
{
	char *p = arena_alloc(mem, s.n + 1);

	for (size_t i = 0; i < s.n; i++)
		p[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 0x20) : s.p[i];
	return span_of(p, s.n);
}
static inline bool ascii_alpha(char c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}
static inline bool ascii_digit(char c)
{
	return c >= '0' && c <= '9';
}
/* Without the final dot, if there is one. */
static inline span name_undot(span name)
{
	if (name.n && name.p[name.n - 1] == '.')
		name.n--;
	return name;
}
/* Is NAME the same as DOMAIN, or below it?  Case-insensitive. */
static inline bool name_within(span name, span domain)
{
	if (name.n <= domain.n)
		return span_ieq(name, domain);
	return name.p[name.n - domain.n - 1] == '.' && span_iends(name, domain);
}

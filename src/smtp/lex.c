#include "smtp/lex.h"

/* Index of the LF of the first CRLF at or after FROM, or SPAN_NPOS. */
static size_t find_crlf(span in, size_t from)
{
	while (from < in.n) {
		const char *lf = memchr(in.p + from, '\n', in.n - from);

		if (!lf)
			return SPAN_NPOS;
		size_t at = (size_t)(lf - in.p);
		if (at > 0 && in.p[at - 1] == '\r')
			return at;
		from = at + 1;
	}
	return SPAN_NPOS;
}

enum smtp_line smtp_line_take(span in, size_t limit, size_t *scanned, span *ret_line,
			      size_t *ret_used)
{
	span within = span_sub(in, 0, limit);
	size_t lf = find_crlf(within, *scanned);

	if (lf == SPAN_NPOS) {
		*scanned = within.n;
		return in.n >= limit ? SMTP_LINE_LONG : SMTP_LINE_NONE;
	}
	*scanned = 0;
	*ret_line = span_sub(in, 0, lf - 1);
	*ret_used = lf + 1;
	if (span_find(*ret_line, '\r') != SPAN_NPOS || span_find(*ret_line, '\n') != SPAN_NPOS ||
	    span_find(*ret_line, '\0') != SPAN_NPOS)
		return SMTP_LINE_BAD;
	return SMTP_LINE_GOOD;
}

size_t smtp_line_skip(span in, bool *ret_end)
{
	size_t lf = find_crlf(in, 0);

	*ret_end = lf != SPAN_NPOS;
	if (*ret_end)
		return lf + 1;
	/* A CR may be the first half of the end. */
	return in.n && in.p[in.n - 1] == '\r' ? in.n - 1 : in.n;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

bool smtp_word(span *s, span *ret)
{
	size_t from = 0, to;

	while (from < s->n && is_blank(s->p[from]))
		from++;
	for (to = from; to < s->n && !is_blank(s->p[to]);)
		to++;
	if (from == to)
		return false;
	*ret = span_sub(*s, from, to - from);
	*s = span_from(*s, to);
	return true;
}

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool smtp_param(span word, span *ret_key, span *ret_value)
{
	span value = word, key = span_cut(&value, '=');

	if (!key.n || !is_alnum(key.p[0]))
		return false;
	for (size_t i = 1; i < key.n; i++)
		if (!is_alnum(key.p[i]) && key.p[i] != '-')
			return false;
	if (value.p && !value.n)
		return false;
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] < 33 || value.p[i] > 126 || value.p[i] == '=')
			return false;
	*ret_key = key;
	*ret_value = value;
	return true;
}

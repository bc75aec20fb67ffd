/* Tag lists (RFC 6376 3.2). */
#include "trust/tags.h"

#include "base/codec.h"
#include "trust/ascii.h"

static bool is_fws(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_name(span s)
{
	if (!s.n)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!ascii_alpha(c) && (i == 0 || !(ascii_digit(c) || c == '_')))
			return false;
	}
	return true;
}

/* Values are printable ASCII and folding white space; UTF-8 is let through (RFC 8616 3). */
static bool is_value(span s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if ((c < 0x20 && !is_fws((char)c)) || c == 0x7f)
			return false;
	}
	return true;
}

int tags_parse(span list, struct tags *ret)
{
	ret->n = 0;
	while (list.p) {
		span raw = span_cut(&list, ';');
		size_t eq = span_find(raw, '=');

		if (eq == SPAN_NPOS) {
			/* Nothing may follow the last ";". */
			if (span_trim(raw).n || list.p || !ret->n)
				return ERR_SYNTAX;
			break;
		}
		struct tag t = { .name = span_trim(span_sub(raw, 0, eq)),
				 .raw = span_from(raw, eq + 1) };
		t.value = span_trim(t.raw);
		if (!is_name(t.name) || !is_value(t.value))
			return ERR_SYNTAX;
		for (size_t i = 0; i < ret->n; i++) {
			if (span_eq(ret->tag[i].name, t.name))
				return ERR_SYNTAX;
		}
		if (ret->n == TAGS_MAX)
			return ERR_TOOBIG;
		ret->tag[ret->n++] = t;
	}
	return 0;
}

const struct tag *tags_find(const struct tags *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++) {
		if (span_eq_str(t->tag[i].name, name))
			return &t->tag[i];
	}
	return NULL;
}

span tags_value(const struct tags *t, const char *name)
{
	const struct tag *tag = tags_find(t, name);

	return tag ? tag->value : SPAN_NULL;
}

span tags_compact(span s, struct arena *mem)
{
	char *p = arena_alloc(mem, s.n + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (!is_fws(s.p[i]))
			p[n++] = s.p[i];
	}
	return span_of(p, n);
}

bool tags_list_has(span list, const char *word)
{
	while (list.p) {
		if (span_ieq_str(span_trim(span_cut(&list, ':')), word))
			return true;
	}
	return false;
}

int tags_base64(span value, size_t max, struct arena *mem, span *ret)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(max);
	span compact = tags_compact(value, mem);

	if (compact.n > max / 3 * 4 + 8)
		return ERR_TOOBIG;
	int e = base64_decode(&b, compact);
	if (e < 0)
		return e;
	*ret = arena_span(mem, buf_span(&b));
	return 0;
}

#include "filter/headers.h"

span filter_header_value(span value, bool spaced, struct arena *mem)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(4 * value.n + 8);

	while (value.n && strchr("\r\n", value.p[value.n - 1]))
		value.n--;
	if (spaced)
		buf_put_char(&b, ' ');
	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];

		if (c == '\r' || c == 0)
			continue;
		if (c != '\n') {
			buf_put_char(&b, c);
			continue;
		}
		buf_put_str(&b, "\r\n");
		if (i + 1 < value.n && value.p[i + 1] != ' ' && value.p[i + 1] != '\t')
			buf_put_char(&b, '\t');
	}
	return arena_span(mem, buf_span(&b));
}

/* ------------------------------------------------------------------ edits */

/* A field of the header under way: as it was (RAW), or made from NAME and VALUE. */
struct line {
	span raw, name, value;
	bool deleted;
	struct line *next;
};

static struct line *lines_of(span header, struct arena *mem)
{
	struct line *first = NULL, **tail = &first;
	struct header_field f;
	size_t at = 0, from = 0;

	while (header_next_field(header, &at, &f)) {
		struct line *l = arena_new(mem, struct line);

		/* With the lines before it that are no fields. */
		l->raw = span_sub(header, from, at - from);
		l->name = f.name;
		from = at;
		*tail = l;
		tail = &l->next;
	}
	return first;
}

static struct line *line_new(const struct filter_edit *e, struct arena *mem)
{
	struct line *l = arena_new(mem, struct line);

	l->name = e->name;
	l->value = e->value;
	return l;
}

static void insert(struct line **at, const struct filter_edit *e, struct arena *mem)
{
	struct line *l = line_new(e, mem);
	uint32_t above = e->kind == FILTER_INSERT_HEADER ? MAX(e->index, 1u) - 1 : UINT32_MAX;

	for (; *at && above; above--)
		at = &(*at)->next;
	l->next = *at;
	*at = l;
}

static void change(struct line **first, const struct filter_edit *e, struct arena *mem)
{
	uint32_t left = MAX(e->index, 1u);
	struct line *l = *first;

	for (; l; l = l->next)
		if (span_ieq(l->name, e->name) && --left == 0)
			break;
	if (!l) {
		if (e->value.n)
			insert(first, e, mem);
		return;
	}
	l->deleted = !e->value.n;
	l->raw = SPAN_NULL;
	l->value = e->value;
}

static void put_line(struct buf *b, const struct line *l)
{
	if (l->deleted)
		return;
	if (l->raw.n) {
		buf_put_span(b, l->raw);
		return;
	}
	buf_put_span(b, l->name);
	buf_put_char(b, ':');
	buf_put_span(b, l->value);
	buf_put_str(b, "\r\n");
}

int filter_header_edit(span header, const struct filter_edit *e, size_t n, struct buf *b)
{
	struct arena mem _cleanup_(arena_donep);
	struct line *first;

	arena_init(&mem);
	first = lines_of(header, &mem);
	for (size_t i = 0; i < n; i++) {
		if (e[i].kind == FILTER_ADD_HEADER || e[i].kind == FILTER_INSERT_HEADER)
			insert(&first, &e[i], &mem);
		else if (e[i].kind == FILTER_CHANGE_HEADER)
			change(&first, &e[i], &mem);
	}
	for (const struct line *l = first; l; l = l->next)
		put_line(b, l);
	return buf_put_str(b, "\r\n");
}

/* Canonicalisation (RFC 6376 3.4): lines are rewritten piece by piece into a small block that feeds
 * the hash or becomes text. */
#include "trust/canon.h"

#define BLOCK 4096

struct sink {
	struct canon_to to;
	uint64_t left;	 /* bytes that may still be put out */
	uint64_t length; /* bytes that came */
	size_t n;
	char block[BLOCK];
};

static void sink_flush(struct sink *k)
{
	size_t n = k->n < k->left ? k->n : (size_t)k->left;

	if (k->to.hash)
		sha256_add(k->to.hash, span_of(k->block, n));
	else
		buf_put(k->to.text, k->block, n);
	k->left -= n;
	k->length += k->n;
	k->n = 0;
}

static void sink_put(struct sink *k, span s)
{
	while (s.n) {
		size_t n = MIN(s.n, BLOCK - k->n);

		memcpy(k->block + k->n, s.p, n);
		k->n += n;
		s = span_from(s, n);
		if (k->n == BLOCK)
			sink_flush(k);
	}
}

static bool is_wsp(char c)
{
	return c == ' ' || c == '\t';
}

static void sink_char(struct sink *k, char c)
{
	k->block[k->n++] = c;
	if (k->n == BLOCK)
		sink_flush(k);
}

/* Runs of white space become one space; none is left at the end. */
static void put_relaxed(struct sink *k, span s)
{
	bool space = false;

	for (size_t i = 0; i < s.n; i++) {
		if (is_wsp(s.p[i])) {
			space = true;
			continue;
		}
		if (space)
			sink_char(k, ' ');
		space = false;
		sink_char(k, s.p[i]);
	}
}

static span trim_right(span s)
{
	while (s.n && is_wsp(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* The line at *AT without CRLF.  A bare LF or CR is text (RFC 6376 2.8 knows no other line end). */
static span next_line(span body, size_t *at)
{
	size_t from = *at, end = from;
	const char *nl;

	while ((nl = memchr(body.p + end, '\n', body.n - end))) {
		end = (size_t)(nl - body.p);
		if (end > from && nl[-1] == '\r') {
			*at = end + 1;
			return span_sub(body, from, end - 1 - from);
		}
		end++;
	}
	*at = body.n;
	return span_from(body, from);
}

void canon_body(span body, enum canon how, uint64_t limit, uint8_t ret[32], uint64_t *ret_length)
{
	struct sink k = { .to = CANON_HASH(sha256_begin()), .left = limit };
	size_t empty = 0; /* lines held back: they vanish if nothing follows */

	for (size_t at = 0; at < body.n;) {
		span line = next_line(body, &at);

		if (how == CANON_RELAXED)
			line = trim_right(line);
		if (!line.n) {
			empty++;
			continue;
		}
		for (; empty; empty--)
			sink_put(&k, SPAN("\r\n"));
		if (how == CANON_RELAXED)
			put_relaxed(&k, line);
		else
			sink_put(&k, line);
		sink_put(&k, SPAN("\r\n"));
	}
	if (how == CANON_SIMPLE && k.n + k.length == 0)
		sink_put(&k, SPAN("\r\n")); /* 3.4.3: an empty body is one CRLF */
	sink_flush(&k);
	sha256_end(k.to.hash, ret);
	*ret_length = k.length;
}

/* ------------------------------------------------------------------ header */

static void put_lower(struct sink *k, span name)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		sink_char(k, c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c);
	}
}

/* A value in two pieces, since b= is cut out of the middle. */
struct relaxing {
	bool begun; /* something of the value was written */
	bool space; /* white space waits for what follows */
};

/* Unfolding removes CRLF; the white space behind it separates. */
static void put_value(struct sink *k, struct relaxing *x, span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (is_wsp(c)) {
			x->space = true;
			continue;
		}
		if (c == '\r' || c == '\n')
			continue;
		if (x->space && x->begun)
			sink_char(k, ' ');
		x->space = false;
		x->begun = true;
		sink_char(k, c);
	}
}

void canon_field(struct canon_to to, span raw, enum canon how, span cut, bool last)
{
	struct sink k = { .to = to, .left = UINT64_MAX };
	span head = raw, tail = SPAN_NULL;

	if (cut.p) {
		head = span_of(raw.p, (size_t)(cut.p - raw.p));
		tail = span_from(raw, head.n + cut.n);
	}
	if (how == CANON_SIMPLE) {
		sink_put(&k, head);
		sink_put(&k, tail);
	} else {
		struct relaxing x = { 0 };
		size_t colon = span_find(head, ':');

		put_lower(&k, trim_right(span_sub(head, 0, colon)));
		sink_put(&k, SPAN(":"));
		put_value(&k, &x, span_from(head, colon + 1));
		put_value(&k, &x, tail);
	}
	if (!last)
		sink_put(&k, SPAN("\r\n"));
	sink_flush(&k);
}

int canon_header(struct canon_to to, const struct message *m, span names, enum canon how,
		 struct arena *mem)
{
	uint32_t *next = arena_array(mem, uint32_t, m->n_ids + 1);

	for (uint32_t i = 0; i < m->n_ids; i++)
		next[i] = m->lowest[i];
	while (names.p) {
		uint32_t id = message_id(m, span_trim(span_cut(&names, ':')));

		if (id == MESSAGE_NO_FIELD || next[id] == MESSAGE_NO_FIELD)
			continue;
		canon_field(to, m->field[next[id]].raw, how, SPAN_NULL, false);
		next[id] = m->field[next[id]].above;
	}
	return 0;
}

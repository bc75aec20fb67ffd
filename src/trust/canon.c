/* Canonicalisation (RFC 6376 3.4): lines are rewritten piece by piece into a small block that feeds
 * the hash. */
#include "trust/canon.h"

#define BLOCK 4096

struct sink {
	struct sha256_stream *hash;
	uint64_t left;	 /* bytes that may still be hashed */
	uint64_t length; /* bytes that came */
	size_t n;
	char block[BLOCK];
};

static void sink_flush(struct sink *k)
{
	size_t n = k->n < k->left ? k->n : (size_t)k->left;

	sha256_add(k->hash, span_of(k->block, n));
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

/* Runs of white space become one space, none is left at the end; LEAD: none at the start either. */
static void put_relaxed(struct sink *k, span s, bool lead)
{
	size_t i = 0;

	while (i < s.n) {
		size_t from = i;
		while (i < s.n && is_wsp(s.p[i]))
			i++;
		if (i == s.n)
			break;
		if (i > from && !(lead && from == 0))
			sink_put(k, SPAN(" "));
		from = i;
		while (i < s.n && !is_wsp(s.p[i]))
			i++;
		sink_put(k, span_sub(s, from, i - from));
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
	span rest = span_from(body, *at);
	size_t crlf = span_find_span(rest, SPAN("\r\n"));

	if (crlf == SPAN_NPOS) {
		*at = body.n;
		return rest;
	}
	*at += crlf + 2;
	return span_sub(rest, 0, crlf);
}

void canon_body(span body, enum canon how, uint64_t limit, uint8_t ret[32], uint64_t *ret_length)
{
	struct sink k = { .hash = sha256_begin(), .left = limit };
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
			put_relaxed(&k, line, false);
		else
			sink_put(&k, line);
		sink_put(&k, SPAN("\r\n"));
	}
	if (how == CANON_SIMPLE && k.n + k.length == 0)
		sink_put(&k, SPAN("\r\n")); /* 3.4.3: an empty body is one CRLF */
	sink_flush(&k);
	sha256_end(k.hash, ret);
	*ret_length = k.length;
}

/* ------------------------------------------------------------------ header */

/* RAW without CUT goes to PUT in at most two pieces; what is unfolded leaves no CR or LF. */
static void put_lower(struct sink *k, span name)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		c = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
		sink_put(k, span_of(&c, 1));
	}
}

struct relaxing {
	bool begun;   /* something of the value was written */
	bool pending; /* white space waits for what follows */
};

static void put_value(struct sink *k, struct relaxing *x, span s)
{
	for (size_t i = 0; i < s.n;) {
		size_t from = i;

		while (i < s.n && (is_wsp(s.p[i]) || s.p[i] == '\r' || s.p[i] == '\n'))
			i++;
		/* Unfolding removes CRLF only; the white space behind it is what separates. */
		for (size_t j = from; j < i; j++)
			x->pending = x->pending || is_wsp(s.p[j]);
		from = i;
		while (i < s.n && !is_wsp(s.p[i]) && s.p[i] != '\r' && s.p[i] != '\n')
			i++;
		if (i == from)
			break;
		if (x->pending && x->begun)
			sink_put(k, SPAN(" "));
		x->pending = false;
		x->begun = true;
		sink_put(k, span_sub(s, from, i - from));
	}
}

void canon_field(struct sha256_stream *s, span raw, enum canon how, span cut, bool last)
{
	struct sink k = { .hash = s, .left = UINT64_MAX };
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

int canon_header(struct sha256_stream *s, const struct message *m, span names, enum canon how,
		 struct arena *mem)
{
	uint32_t *next = arena_array(mem, uint32_t, m->n_ids + 1);

	for (uint32_t i = 0; i < m->n_ids; i++)
		next[i] = m->lowest[i];
	while (names.p) {
		uint32_t id = message_id(m, span_trim(span_cut(&names, ':')));

		if (id == MESSAGE_NO_FIELD || next[id] == MESSAGE_NO_FIELD)
			continue;
		canon_field(s, m->field[next[id]].raw, how, SPAN_NULL, false);
		next[id] = m->field[next[id]].above;
	}
	return 0;
}

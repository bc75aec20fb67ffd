#include "imap_grammar.h"

#include <stdlib.h>

/* Every function takes NULL and hands it on, so that a sequence needs no checks. */
struct reader {
	const char *p, *end;
};

static void fail(struct reader *r)
{
	r->p = NULL;
}

static bool at(const struct reader *r, char c)
{
	return r->p && r->p < r->end && *r->p == c;
}

static void expect(struct reader *r, char c)
{
	if (at(r, c))
		r->p++;
	else
		fail(r);
}

static void number(struct reader *r)
{
	if (!r->p || r->p == r->end || *r->p < '0' || *r->p > '9') {
		fail(r);
		return;
	}
	while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
		r->p++;
}

static void literal(struct reader *r)
{
	size_t n = strtoul(++r->p, NULL, 10);
	number(r);
	expect(r, '}');
	expect(r, '\r');
	expect(r, '\n');
	if (!r->p || (size_t)(r->end - r->p) < n || memchr(r->p, 0, n))
		fail(r);
	else
		r->p += n;
}

static void string(struct reader *r)
{
	if (at(r, '{')) {
		literal(r);
		return;
	}
	expect(r, '"');
	while (r->p && r->p < r->end && *r->p != '"') {
		if (*r->p == '\\' && (++r->p == r->end || (*r->p != '"' && *r->p != '\\'))) {
			fail(r);
			return;
		}
		if (*r->p == '\r' || *r->p == '\n' || *r->p == 0 || (*r->p & 0x80)) {
			fail(r);
			return;
		}
		r->p++;
	}
	expect(r, '"');
}

static bool nil(struct reader *r)
{
	if (!r->p || r->end - r->p < 3 || memcmp(r->p, "NIL", 3) != 0)
		return false;
	r->p += 3;
	return true;
}

static void nstring(struct reader *r)
{
	if (!nil(r))
		string(r);
}

static void addresses(struct reader *r)
{
	if (nil(r))
		return;
	expect(r, '(');
	do {
		expect(r, '(');
		for (int i = 0; i < 4; i++) {
			if (i)
				expect(r, ' ');
			nstring(r);
		}
		expect(r, ')');
	} while (at(r, '('));
	expect(r, ')');
}

static void envelope(struct reader *r)
{
	expect(r, '(');
	for (int i = 0; i < 10; i++) {
		if (i)
			expect(r, ' ');
		if (i >= 2 && i <= 7)
			addresses(r);
		else
			nstring(r);
	}
	expect(r, ')');
}

static void params(struct reader *r)
{
	if (nil(r))
		return;
	expect(r, '(');
	for (bool more = true; more && r->p;) {
		string(r);
		expect(r, ' ');
		string(r);
		more = at(r, ' ');
		if (more)
			expect(r, ' ');
	}
	expect(r, ')');
}

static void extension(struct reader *r)
{
	expect(r, ' ');
	if (!nil(r)) {
		expect(r, '(');
		string(r);
		expect(r, ' ');
		params(r);
		expect(r, ')');
	}
	expect(r, ' ');
	if (at(r, '(')) {
		do {
			r->p++;
			string(r);
		} while (at(r, ' '));
		expect(r, ')');
	} else {
		nstring(r);
	}
	expect(r, ' ');
	nstring(r);
}

static bool quoted_is(span s, const char *word)
{
	return s.n == strlen(word) + 2 && span_ieq_str(span_sub(s, 1, s.n - 2), word);
}

static void body(struct reader *r, bool extensible);

static void single(struct reader *r, bool extensible)
{
	const char *start = r->p;
	string(r);
	span type = span_of(start, r->p ? (size_t)(r->p - start) : 0);
	expect(r, ' ');
	start = r->p;
	string(r);
	span subtype = span_of(start, r->p ? (size_t)(r->p - start) : 0);
	expect(r, ' ');
	params(r);
	expect(r, ' ');
	nstring(r);
	expect(r, ' ');
	nstring(r);
	expect(r, ' ');
	string(r);
	expect(r, ' ');
	number(r);
	bool message = quoted_is(type, "message") && quoted_is(subtype, "rfc822");
	if (message) {
		expect(r, ' ');
		envelope(r);
		expect(r, ' ');
		body(r, extensible);
	}
	if (message || quoted_is(type, "text")) {
		expect(r, ' ');
		number(r);
	}
	if (extensible) {
		expect(r, ' ');
		nstring(r);
		extension(r);
	}
}

static void body(struct reader *r, bool extensible)
{
	expect(r, '(');
	if (at(r, '(')) {
		while (at(r, '('))
			body(r, extensible);
		expect(r, ' ');
		string(r);
		if (extensible) {
			expect(r, ' ');
			params(r);
			extension(r);
		}
	} else {
		single(r, extensible);
	}
	expect(r, ')');
}

const char *imap_grammar_envelope(const char *p, const char *end)
{
	struct reader r = { p, end };
	envelope(&r);
	return r.p;
}

const char *imap_grammar_body(const char *p, const char *end, bool extensible)
{
	struct reader r = { p, end };
	body(&r, extensible);
	return r.p;
}

/* MIME: parts lie within their parents and in order, limits hold, bodies decode within their
 * maximum, and IMAP's forms of them have no byte that breaks the protocol. */
#include <assert.h>

#include "format/imapfmt.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static size_t check_part(span m, const struct mime_part *p, size_t from, size_t to)
{
	size_t n = 1;
	assert(p->depth <= MIME_MAX_DEPTH);
	assert(from <= p->start && p->start <= p->body && p->body <= p->end &&
	       p->end <= MAX(to, p->body));
	size_t lines = 0;
	for (size_t i = p->body; i < p->end; i++)
		lines += m.p[i] == '\n';
	assert(lines == p->lines);
	for (const struct mime_part *c = p->child; c; c = c->next) {
		assert(c->parent == p);
		n += check_part(m, c, p->body, p->end);
	}
	return n;
}

/* Outside of literals: no 8-bit, no NUL, no line end; parentheses balance. */
static void check_output(span s)
{
	int depth = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		assert(c >= 0x20 && c < 0x7f);
		if (c == '"') {
			for (i++; s.p[i] != '"'; i++) {
				assert(s.p[i] && !(s.p[i] & 0x80) && s.p[i] != '\r' &&
				       s.p[i] != '\n');
				i += s.p[i] == '\\';
			}
		} else if (c == '{') {
			size_t n = 0;
			for (i++; s.p[i] != '}'; i++)
				n = 10 * n + (size_t)(s.p[i] - '0');
			assert(s.p[i + 1] == '\r' && s.p[i + 2] == '\n');
			assert(n <= s.n - i - 3 && !memchr(s.p + i + 3, 0, n));
			i += 2 + n;
		} else {
			depth += (c == '(') - (c == ')');
			assert(depth > 0 || i == s.n - 1);
		}
	}
	assert(depth == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct arena mem;
	arena_init(&mem);
	span m = n ? span_of(p, n) : SPAN("");
	struct mime_part *root = mime_parse(m, &mem);
	assert(check_part(m, root, 0, n) <= MIME_MAX_PARTS);
	struct buf b = BUF_INIT(64 << 20);
	for (int extensible = 0; extensible < 2; extensible++) {
		buf_reset(&b);
		assert(imapfmt_bodystructure(&b, m, root, extensible) == 0);
		check_output(buf_span(&b));
	}
	buf_reset(&b);
	assert(imapfmt_envelope(&b, m, &mem) == 0);
	check_output(buf_span(&b));
	struct buf body = BUF_INIT(n + 3), text = BUF_INIT(10000);
	for (const struct mime_part *c = root; c; c = c->child) {
		buf_reset(&body);
		mime_decode_body(m, c, &body);
		buf_reset(&text);
		if (charset_to_utf8(mime_param(c->params, "charset"), buf_span(&body), &text) == 0)
			assert(utf8_valid(buf_span(&text)));
		buf_reset(&text);
		text_fold(buf_span(&body), &text);
	}
	buf_done(&body);
	buf_done(&text);
	buf_done(&b);
	arena_done(&mem);
	return 0;
}

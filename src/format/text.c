#include "format/text_int.h"

#include "base/err.h"
#include "format/mime.h"

#define ALPHA (CH_ATEXT | CH_FTEXT | CH_LDH | CH_ATOM | CH_QSAFE)
#define DIGIT (ALPHA | CH_DIGIT)

const uint8_t text_class[256] = {
	['A' ... 'Z'] = ALPHA,
	['a' ... 'z'] = ALPHA,
	['0' ... '9'] = DIGIT,
	['!'] = CH_ATEXT | CH_FTEXT | CH_ATOM | CH_QSAFE,
	['"'] = CH_FTEXT,
	['#'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['$'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['%'] = CH_ATEXT | CH_FTEXT,
	['&'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['\''] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['('] = CH_FTEXT,
	[')'] = CH_FTEXT,
	['*'] = CH_ATEXT | CH_FTEXT | CH_QSAFE,
	['+'] = CH_ATEXT | CH_FTEXT | CH_ATOM | CH_QSAFE,
	[','] = CH_FTEXT | CH_ATOM,
	['-'] = CH_ATEXT | CH_FTEXT | CH_LDH | CH_ATOM | CH_QSAFE,
	['.'] = CH_FTEXT | CH_ATOM,
	['/'] = CH_ATEXT | CH_FTEXT | CH_ATOM | CH_QSAFE,
	[':'] = CH_ATOM,
	[';'] = CH_FTEXT | CH_ATOM,
	['<'] = CH_FTEXT | CH_ATOM,
	['='] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['>'] = CH_FTEXT | CH_ATOM,
	['?'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['@'] = CH_FTEXT | CH_ATOM,
	['['] = CH_FTEXT | CH_ATOM,
	['\\'] = CH_FTEXT,
	[']'] = CH_FTEXT | CH_ATOM,
	['^'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['_'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['`'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['{'] = CH_ATEXT | CH_FTEXT,
	['|'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['}'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
	['~'] = CH_ATEXT | CH_FTEXT | CH_ATOM,
};

int text_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = text_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Index of the first byte with the high bit, or S.n. */
static size_t ascii_run(span s)
{
	size_t i = 0;
	for (; i + 8 <= s.n; i += 8) {
		uint64_t w;
		memcpy(&w, s.p + i, 8);
		if (w & 0x8080808080808080u)
			break;
	}
	while (i < s.n && !(s.p[i] & 0x80))
		i++;
	return i;
}

bool text_has_8bit(span s)
{
	return ascii_run(s) < s.n;
}

/* Behind the comment that starts at S[AT] == '('. */
static size_t skip_comment(span s, size_t at)
{
	size_t depth = 0;
	for (; at < s.n; at++) {
		char c = s.p[at];
		if (c == '\\')
			at++;
		else if (c == '(')
			depth++;
		else if (c == ')' && --depth == 0)
			return at + 1;
	}
	return s.n; /* also when the text ends in a backslash */
}

bool text_skip_cfws(span s, size_t *at, span *ret_comment)
{
	size_t i = *at;
	while (i < s.n) {
		if (text_is_space(s.p[i])) {
			i++;
		} else if (s.p[i] == '(') {
			size_t end = skip_comment(s, i);
			bool closed = end - i >= 2 && s.p[end - 1] == ')';
			if (ret_comment)
				*ret_comment = span_sub(s, i + 1, end - i - 1 - closed);
			i = end;
		} else {
			break;
		}
	}
	bool skipped = i != *at;
	*at = i;
	return skipped;
}

bool text_quoted(span s, size_t *at, struct buf *b)
{
	size_t i = *at + 1, from = i;
	for (; i < s.n; i++) {
		char c = s.p[i];
		if (c != '"' && c != '\\' && c != '\r' && c != '\n')
			continue;
		buf_put(b, s.p + from, i - from);
		from = i + 1;
		if (c == '"') {
			*at = i + 1;
			return true;
		}
		if (c == '\\' && i + 1 < s.n) {
			i++; /* the escaped byte is the first of the next run, unless it breaks the
				line */
			from = s.p[i] == '\r' || s.p[i] == '\n' ? i + 1 : i;
		}
	}
	if (from < s.n)
		buf_put(b, s.p + from, s.n - from);
	*at = s.n;
	return false;
}

size_t utf8_sequence(span s, uint32_t *ret_codepoint)
{
	if (!s.n)
		return 0;
	const uint8_t *p = (const uint8_t *)s.p;
	uint32_t c = p[0];
	size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
	if (!n || n > s.n)
		return 0;
	static const uint32_t lead[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 },
			      least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	c &= lead[n];
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	if (ret_codepoint)
		*ret_codepoint = c;
	return n;
}

bool utf8_valid(span s)
{
	for (;;) {
		s = span_from(s, ascii_run(s));
		if (!s.n)
			return true;
		size_t n = utf8_sequence(s, NULL);
		if (!n)
			return false;
		s = span_from(s, n);
	}
}

int utf8_put(struct buf *b, uint32_t c)
{
	char t[4];
	size_t n;
	if (c < 0x80) {
		t[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		t[0] = (char)(0xc0 | c >> 6);
		n = 2;
	} else if (c < 0x10000) {
		t[0] = (char)(0xe0 | c >> 12);
		n = 3;
	} else {
		t[0] = (char)(0xf0 | c >> 18);
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		t[i] = (char)(0x80 | ((c >> 6 * (n - 1 - i)) & 0x3f));
	return buf_put(b, t, n);
}

int utf8_put_clean(struct buf *b, span s)
{
	while (s.n) {
		size_t n = ascii_run(s);
		while (n < s.n) {
			size_t k = utf8_sequence(span_from(s, n), NULL);
			if (!k)
				break;
			n += k;
		}
		buf_put(b, s.p, n);
		s = span_from(s, n);
		if (s.n) {
			buf_put(b, "\xef\xbf\xbd", 3);
			s = span_from(s, 1);
		}
	}
	return b->failed ? ERR_TOOBIG : 0;
}

span utf8_cut(span s, size_t n)
{
	if (n >= s.n)
		return s;
	while (n && ((uint8_t)s.p[n] & 0xc0) == 0x80)
		n--;
	return span_sub(s, 0, n);
}

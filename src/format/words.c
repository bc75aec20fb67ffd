/* Encoded-words (RFC 2047). */
#include "base/codec.h"
#include "base/err.h"
#include "format/header.h"
#include "format/text_int.h"

/* RFC 2047 section 2 */
#define WORD_MAX 75
#define LINE_MAX 76

struct word {
	span charset; /* without the language tag of RFC 2231 section 5 */
	bool base64;
	span text;
	size_t n; /* bytes of the whole word */
};

/* The encoded-word at the start of S.  Spaces inside the text are against the rules but common. */
static bool parse_word(span s, struct word *w)
{
	if (!span_starts(s, SPAN("=?")))
		return false;
	size_t q = span_find(span_sub(s, 2, 64), '?');
	if (q == SPAN_NPOS || q == 0 || s.n < q + 6 || s.p[q + 4] != '?')
		return false;
	w->charset = span_sub(s, 2, q);
	char encoding = text_lower(s.p[q + 3]);
	if ((encoding != 'b' && encoding != 'q') || span_find(w->charset, ' ') != SPAN_NPOS)
		return false;
	w->base64 = encoding == 'b';
	span rest = span_from(s, q + 5);
	size_t end = span_find(rest, '?');
	if (end == SPAN_NPOS || end + 1 >= rest.n || rest.p[end + 1] != '=')
		return false;
	w->text = span_sub(rest, 0, end);
	w->n = q + 5 + end + 2;
	size_t star = span_find(w->charset, '*');
	if (star != SPAN_NPOS)
		w->charset.n = star;
	return true;
}

static void put_q(struct buf *b, span text)
{
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		if (c == '=' && i + 2 < text.n && text_hex_digit(text.p[i + 1]) >= 0 &&
		    text_hex_digit(text.p[i + 2]) >= 0) {
			c = (char)(text_hex_digit(text.p[i + 1]) << 4 |
				   text_hex_digit(text.p[i + 2]));
			i += 2;
		} else if (c == '_') {
			c = ' ';
		}
		buf_put_char(b, c);
	}
}

/* RAW in CHARSET to the result; what no table knows is shown as U+FFFD per byte. */
static void put_converted(struct buf *out, span charset, span raw)
{
	if (charset_convert(charset, raw, out) != ERR_UNSUPPORTED)
		return;
	for (size_t i = 0; i < raw.n; i++)
		if (raw.p[i] & 0x80)
			buf_put(out, "\xef\xbf\xbd", 3);
		else
			buf_put_char(out, raw.p[i]);
}

/* Appends what fits: the text is cut at a character, not refused, and the result is then full. */
static void put_limited(struct buf *out, span s)
{
	span fits = utf8_cut(s, out->max - out->n);
	buf_put_span(out, fits);
	if (fits.n < s.n)
		out->max = out->n;
}

/* Reads the run of encoded-words at the start of S that share a charset and are separated by white
 * space only: their bytes are joined before conversion, since senders split characters. */
static size_t decode_run(span s, struct buf *raw, struct buf *text, struct buf *out)
{
	struct word w, first = { 0 };
	size_t used = 0, at = 0;
	buf_reset(raw);
	buf_reset(text);
	while (parse_word(span_from(s, at), &w) && (!used || span_ieq(w.charset, first.charset))) {
		if (!used)
			first = w;
		if (w.base64)
			base64_decode_lenient(raw, w.text);
		else
			put_q(raw, w.text);
		used = at += w.n;
		while (at < s.n && text_is_wsp(s.p[at]))
			at++;
	}
	if (!used)
		return 0;
	put_converted(text, first.charset, buf_span(raw));
	put_limited(out, buf_span(text));
	/* white space between encoded-words of different charsets vanishes as well */
	return parse_word(span_from(s, at), &w) ? at : used;
}

span header_decode_words(span value, size_t max, struct arena *mem)
{
	value = header_unfold(value, mem);
	_cleanup_(buf_donep) struct buf out = BUF_INIT(max), raw = BUF_INIT(value.n);
	_cleanup_(buf_donep) struct buf text = BUF_INIT(12 * value.n + 64),
					plain = BUF_INIT(3 * value.n);
	while (value.n && out.n < out.max) {
		size_t used = decode_run(value, &raw, &text, &out);
		if (used) {
			value = span_from(value, used);
			continue;
		}
		size_t next = span_find_span(span_from(value, 1), SPAN("=?"));
		size_t n = next == SPAN_NPOS ? value.n : next + 1;
		buf_reset(&plain);
		utf8_put_clean(&plain, span_sub(value, 0, n));
		put_limited(&out, buf_span(&plain));
		value = span_from(value, n);
	}
	return arena_span(mem, buf_span(&out));
}

static bool needs_encoding(span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((s.p[i] & 0x80) || text_is_ctl(s.p[i]))
			return true;
	return span_find_span(s, SPAN("=?")) != SPAN_NPOS;
}

/* ASCII words, a new line where the next one would pass the limit. */
static void put_folded(struct buf *b, span s, size_t column)
{
	while (s.n) {
		size_t space = span_find(span_from(s, 1), ' ');
		span word = span_sub(
			s, 0, space == SPAN_NPOS ? s.n : space + 1); /* with its leading space */
		if (column + word.n > LINE_MAX && word.p[0] == ' ' && word.n > 1) {
			buf_put_str(b, "\r\n");
			column = 0;
		}
		buf_put_span(b, word);
		column += word.n;
		s = span_from(s, word.n);
	}
}

int header_encode_text(struct buf *b, span utf8)
{
	/* the field's name stands on this line already; 20 columns are the longest common one */
	enum { NAME_COLUMNS = 20 };
	if (!needs_encoding(utf8)) {
		put_folded(b, utf8, NAME_COLUMNS);
		return b->failed ? ERR_TOOBIG : 0;
	}
	_cleanup_(buf_donep) struct buf clean = BUF_INIT(3 * utf8.n);
	utf8_put_clean(&clean, utf8);
	span s = buf_span(&clean);
	size_t room = WORD_MAX - NAME_COLUMNS, used = 0;
	buf_put_str(b, "=?UTF-8?Q?");
	while (s.n) {
		size_t n = utf8_sequence(s, NULL);
		bool safe = text_is(s.p[0], CH_QSAFE) || s.p[0] == ' ';
		size_t need = safe ? 1 : 3 * n;
		if (used + need > room - 12) { /* 12: the frame of a word */
			buf_put_str(b, "?=\r\n =?UTF-8?Q?");
			room = WORD_MAX;
			used = 0;
		}
		for (size_t i = 0; i < n; i++) {
			if (safe)
				buf_put_char(b, s.p[i] == ' ' ? '_' : s.p[i]);
			else
				buf_printf(b, "=%02X", (uint8_t)s.p[i]);
		}
		used += need;
		s = span_from(s, n);
	}
	buf_put_str(b, "?=");
	return b->failed ? ERR_TOOBIG : 0;
}

#include "format/reply.h"

#include "base/err.h"
#include "format/dsn.h"
#include "format/text_int.h"

/* RFC 5321 4.5.3.1.5 allows 512 with CRLF. */
#define REPLY_LINE_MAX 500

/* The code of a reply line, 0 if it does not start with one (2yz..5yz, then SP, "-" or the end). */
static unsigned line_code(span line)
{
	if (line.n < 3 || line.p[0] < '2' || line.p[0] > '5' || line.p[1] < '0' ||
	    line.p[1] > '9' || line.p[2] < '0' || line.p[2] > '9')
		return 0;
	if (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')
		return 0;
	return (unsigned)(100 * (line.p[0] - '0') + 10 * (line.p[1] - '0') + (line.p[2] - '0'));
}

/* Cuts the next complete line off IN at *AT, without its line end. */
static bool next_line(span in, size_t *at, span *ret)
{
	span rest = span_from(in, *at);
	size_t nl = span_find(rest, '\n');
	if (nl == SPAN_NPOS)
		return false;
	*at += nl + 1;
	*ret = span_sub(rest, 0, nl && rest.p[nl - 1] == '\r' ? nl - 1 : nl);
	return true;
}

/* Where the reply ends: 1 with the code and the end, 0, or an error. */
static int find_end(span in, size_t max_lines, size_t max_bytes, struct smtp_reply *r,
		    size_t *ret_end)
{
	span seen = span_sub(in, 0, max_bytes), line;
	size_t at = 0;
	while (next_line(seen, &at, &line)) {
		unsigned code = line_code(line);
		if (!code || (r->code && code != r->code))
			return ERR_SYNTAX;
		r->code = code;
		if (++r->lines > max_lines)
			return ERR_TOOBIG;
		if (line.n == 3 || line.p[3] == ' ') {
			*ret_end = at;
			return 1;
		}
	}
	return in.n >= max_bytes ? ERR_TOOBIG : 0;
}

/* The text of a line, control bytes made visible as "?" so that joined lines stay apart. */
static void put_text(struct buf *b, span text)
{
	for (size_t i = 0; i < text.n; i++)
		buf_put_char(b, text_is_ctl(text.p[i]) && text.p[i] != '\t' ? '?' : text.p[i]);
}

int smtp_reply_parse(span in, size_t max_lines, size_t max_bytes, struct buf *b,
		     struct smtp_reply *ret, size_t *ret_used)
{
	struct smtp_reply r = { 0 };
	size_t end;
	int e = find_end(in, max_lines, max_bytes, &r, &end);
	if (e <= 0)
		return e;

	size_t start = b->n, at = 0;
	span line;
	for (size_t i = 0; next_line(span_sub(in, 0, end), &at, &line); i++) {
		span text = span_from(line, 4);
		char enhanced[12];
		/* the class must agree, else it is text that looks like a code (RFC 2034 section 4)
		 */
		if (enhanced_code_parse(text, enhanced) && enhanced[0] == line.p[0]) {
			if (!r.enhanced[0])
				memcpy(r.enhanced, enhanced, sizeof(enhanced));
			text = span_trim_left(span_from(text, strlen(enhanced)));
		}
		if (i)
			buf_put_char(b, '\n');
		put_text(b, text);
	}
	if (b->failed) {
		buf_truncate(b, start);
		return ERR_TOOBIG;
	}
	r.text = span_sub(buf_span(b), start, b->n - start);
	*ret = r;
	*ret_used = end;
	return 1;
}

static void put_harmless(struct buf *b, span text, bool utf8)
{
	while (text.n) {
		size_t n = utf8_sequence(text, NULL);
		bool plain = n == 1 ? !text_is_ctl(text.p[0]) : n > 1 && utf8;
		if (plain)
			buf_put(b, text.p, n);
		else
			buf_put_char(b, '?');
		text = span_from(text, plain ? n : 1);
	}
}

int smtp_reply_put(struct buf *b, unsigned code, const char *enhanced, span text, bool utf8)
{
	if (text.n && text.p[text.n - 1] == '\n')
		text.n--; /* ends the last line, starts no empty one */
	do {
		size_t start = b->n;
		span line = span_cut(&text, '\n');
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		buf_printf(b, "%03u%c", code, text.p ? '-' : ' ');
		if (enhanced && *enhanced)
			buf_printf(b, "%s ", enhanced);
		size_t used = b->n - start;
		put_harmless(b, utf8_cut(line, REPLY_LINE_MAX - MIN(used, REPLY_LINE_MAX)), utf8);
		buf_put_str(b, "\r\n");
	} while (text.p);
	return b->failed ? ERR_TOOBIG : 0;
}

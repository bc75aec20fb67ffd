#include "format/xml.h"

#include <expat.h>
#include <string.h>

#include "base/util.h"
#include "format/mime.h"

struct reader {
	XML_Parser parser;
	const struct xml_handler *handler;
	void *arg;
	struct buf path, text;
	size_t names[XML_MAX_DEPTH]; /* lengths of PATH before each element */
	unsigned depth;
	int error;
};

static void fail(struct reader *r, int error)
{
	r->error = error;
	XML_StopParser(r->parser, XML_FALSE);
}

static void XMLCALL on_open(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct reader *r = arg;
	const char *colon = strrchr(name, ':');

	if (r->depth == XML_MAX_DEPTH) {
		fail(r, ERR_TOOBIG);
		return;
	}
	r->names[r->depth++] = r->path.n;
	if (r->path.n)
		buf_put_char(&r->path, '/');
	if (buf_put_str(&r->path, colon ? colon + 1 : name) < 0) {
		fail(r, ERR_TOOBIG);
		return;
	}
	buf_reset(&r->text);
	if (r->handler->open)
		r->handler->open(r->arg, buf_span(&r->path));
}

static void XMLCALL on_close(void *arg, const XML_Char *name)
{
	struct reader *r = arg;

	r->handler->close(r->arg, buf_span(&r->path), span_trim(buf_span(&r->text)));
	buf_truncate(&r->path, r->names[--r->depth]);
	buf_reset(&r->text);
}

static void XMLCALL on_text(void *arg, const XML_Char *s, int n)
{
	struct reader *r = arg;

	buf_put_span(&r->text, span_sub(span_of(s, (size_t)n), 0, XML_MAX_TEXT - r->text.n));
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid,
			       const XML_Char *pubid, int internal)
{
	fail(arg, ERR_SYNTAX);
}

int xml_read(span in, const struct xml_handler *h, void *arg, size_t *ret_line)
{
	struct reader r = { .parser = XML_ParserCreate(NULL),
			    .handler = h,
			    .arg = arg,
			    .path = BUF_INIT(XML_MAX_DEPTH * 256),
			    .text = BUF_INIT(XML_MAX_TEXT) };

	if (!r.parser || in.n > INT32_MAX) {
		XML_ParserFree(r.parser);
		return ERR_TOOBIG;
	}
	XML_SetUserData(r.parser, &r);
	XML_SetElementHandler(r.parser, on_open, on_close);
	XML_SetCharacterDataHandler(r.parser, on_text);
	XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
	if (XML_Parse(r.parser, in.p, (int)in.n, XML_TRUE) != XML_STATUS_OK && !r.error)
		r.error = ERR_SYNTAX;
	if (r.error && ret_line)
		*ret_line = XML_GetCurrentLineNumber(r.parser);
	XML_ParserFree(r.parser);
	buf_done(&r.path);
	buf_done(&r.text);
	return r.error;
}

/* ------------------------------------------------------------------ mending */

static bool is_name_byte(char c, bool first)
{
	bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

	return letter || (!first && ((c >= '0' && c <= '9') || c == '-' || c == '.' || c == ':'));
}

/* The length of the tag, comment or declaration at the start of S, or 0. */
static size_t markup_length(span s)
{
	size_t at = 1, end;

	if (span_starts(s, SPAN("<!--"))) {
		end = span_find_span(s, SPAN("-->"));
		return end == SPAN_NPOS ? 0 : end + 3;
	}
	if (span_starts(s, SPAN("<?"))) {
		end = span_find_span(s, SPAN("?>"));
		return end == SPAN_NPOS ? 0 : end + 2;
	}
	if (at < s.n && s.p[at] == '/')
		at++;
	if (at >= s.n || !is_name_byte(s.p[at], true))
		return 0;
	while (at < s.n && is_name_byte(s.p[at], false))
		at++;
	if (at >= s.n || !strchr(" \t\r\n/>", s.p[at]))
		return 0;
	while (at < s.n && s.p[at] != '<' && s.p[at] != '>')
		at++;
	return at < s.n && s.p[at] == '>' ? at + 1 : 0;
}

static bool is_reference(span s)
{
	static const char *const names[] = { "&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (span_starts(s, span_str(names[i])))
			return true;
	return false;
}

/* Bytes of the UTF-8 character at the start of S that XML allows, or 0. */
static size_t character_length(span s)
{
	unsigned char c = (unsigned char)s.p[0];
	size_t n = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

	if (c < 0x20)
		return c == '\t' || c == '\r' || c == '\n';
	return n <= s.n && utf8_valid(span_sub(s, 0, n)) ? n : 0;
}

int xml_mend(span in, struct buf *b)
{
	while (in.n && !b->failed) {
		size_t n = in.p[0] == '<' ? markup_length(in) : character_length(in);

		if (n && in.p[0] == '&' && !is_reference(in))
			buf_put_str(b, "&amp;");
		else if (n)
			buf_put_span(b, span_sub(in, 0, n));
		else
			buf_put_str(b, in.p[0] == '<' ? "&lt;" : "?");
		in = span_from(in, MAX(n, (size_t)1));
	}
	return b->failed ? ERR_TOOBIG : 0;
}

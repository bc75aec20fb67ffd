#include "format/imapfmt.h"

#include "base/err.h"
#include "format/address.h"
#include "format/header_int.h"
#include "format/text_int.h"

#define QUOTED_MAX 1024
/* Of one address field; what is behind them no client shows. */
#define ADDRESSES_MAX 2048
#define LANGUAGES_MAX 64

/* --- strings --- */
static bool quotable(span s)
{
	if (s.n > QUOTED_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if ((s.p[i] & 0x80) || s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == 0)
			return false;
	return true;
}

static int put_literal(struct buf *b, span s)
{
	buf_printf(b, "{%zu}\r\n", s.n);
	while (s.n) { /* CHAR8 has no NUL, not even in a literal */
		size_t nul = span_find(s, 0);
		size_t n = nul == SPAN_NPOS ? s.n : nul;
		buf_put(b, s.p, n);
		if (n < s.n)
			buf_put_char(b, '?');
		s = span_from(s, n + 1);
	}
	return b->failed ? ERR_TOOBIG : 0;
}

int imapfmt_string(struct buf *b, span s)
{
	if (!quotable(s))
		return put_literal(b, s);
	buf_put_char(b, '"');
	size_t from = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != '"' && s.p[i] != '\\')
			continue;
		buf_put(b, s.p + from, i - from);
		buf_put_char(b, '\\');
		from = i;
	}
	if (from < s.n)
		buf_put(b, s.p + from, s.n - from);
	return buf_put_char(b, '"');
}

int imapfmt_nstring(struct buf *b, span s)
{
	return s.p ? imapfmt_string(b, s) : buf_put_str(b, "NIL");
}

int imapfmt_astring(struct buf *b, span s)
{
	bool atom = s.n > 0 && s.n <= QUOTED_MAX && !span_ieq_str(s, "NIL");
	for (size_t i = 0; i < s.n && atom; i++)
		atom = text_is(s.p[i], CH_ATOM);
	return atom ? buf_put_span(b, s) : imapfmt_string(b, s);
}

/* nstring of a header's raw value. */
static void put_value(struct buf *b, span raw, struct arena *mem)
{
	imapfmt_nstring(b, raw.p ? header_unfold(raw, mem) : raw);
}

/* Empty means absent. */
static void put_optional(struct buf *b, span s)
{
	imapfmt_nstring(b, s.n ? s : SPAN_NULL);
}

/* --- ENVELOPE --- */
enum { DATE, SUBJECT, FROM, SENDER, REPLY_TO, TO, CC, BCC, IN_REPLY_TO, MESSAGE_ID, FIELDS };

static int envelope_field(span name)
{
	static const char *const names[FIELDS] = { "date",	  "subject",   "from", "sender",
						   "reply-to",	  "to",	       "cc",   "bcc",
						   "in-reply-to", "message-id" };
	if (name.n < 2 || name.n > 11)
		return -1;
	for (int i = 0; i < FIELDS; i++)
		if (span_ieq_str(name, names[i]))
			return i;
	return -1;
}

/* A field that occurs again (which it must not) is shown too, if it lists addresses. */
static void note_field(span values[FIELDS], const struct header_field *f, struct buf joined[FIELDS])
{
	int i = envelope_field(f->name);
	if (i < 0)
		return;
	if (!values[i].p) {
		values[i] = f->value;
	} else if (i >= FROM && i <= BCC) {
		struct buf *j = &joined[i];
		if (!j->n)
			buf_put_span(j, values[i]);
		buf_put_char(j, ',');
		buf_put_span(j, f->value);
		values[i] = buf_span(j);
	}
}

/* No more entries than this can be in VALUE. */
static size_t count_separators(span value)
{
	size_t n = 2;
	for (size_t i = 0; i < value.n && n < ADDRESSES_MAX; i++)
		n += value.p[i] == ',' || value.p[i] == ':' || value.p[i] == ';';
	return n;
}

static void put_address(struct buf *b, const struct mailbox_address *a)
{
	buf_put_char(b, '(');
	if (a->kind == MAILBOX_ADDR) {
		put_optional(b, a->display);
		buf_put_char(b, ' ');
		put_optional(b, a->route);
		buf_put_char(b, ' ');
		imapfmt_string(b, a->local);
		buf_put_char(b, ' ');
		imapfmt_string(b, a->domain); /* NIL would make it a group */
	} else {
		buf_put_str(b, "NIL NIL ");
		if (a->kind == MAILBOX_GROUP_START)
			imapfmt_string(b, a->display);
		else
			buf_put_str(b, "NIL");
		buf_put_str(b, " NIL");
	}
	buf_put_char(b, ')');
}

/* False, and nothing written, if the list is empty. */
static bool put_addresses(struct buf *b, span value, struct arena *mem)
{
	if (!value.n)
		return false;
	size_t max = count_separators(value);
	struct mailbox_address *list = arena_array(mem, struct mailbox_address, max);
	size_t n = address_list_parse(value, mem, list, max, NULL);
	if (!n)
		return false;
	buf_put_char(b, '(');
	for (size_t i = 0; i < n; i++)
		put_address(b, &list[i]);
	buf_put_char(b, ')');
	return true;
}

int imapfmt_envelope(struct buf *b, span header, struct arena *mem)
{
	span values[FIELDS] = { 0 };
	struct buf joined[FIELDS];
	for (int i = 0; i < FIELDS; i++)
		buf_init(&joined[i], header.n + 1);
	struct header_field f;
	enum header_step step;
	for (size_t at = 0; (step = header_step(header, &at, &f)) != HEADER_END;)
		if (step == HEADER_FIELD)
			note_field(values, &f, joined);

	buf_put_char(b, '(');
	put_value(b, values[DATE], mem);
	buf_put_char(b, ' ');
	put_value(b, values[SUBJECT], mem);
	for (int i = FROM; i <= BCC; i++) {
		buf_put_char(b, ' ');
		if (put_addresses(b, values[i], mem))
			continue;
		/* Sender and Reply-To default to From, also when they are empty */
		if ((i != SENDER && i != REPLY_TO) || !put_addresses(b, values[FROM], mem))
			buf_put_str(b, "NIL");
	}
	for (int i = IN_REPLY_TO; i <= MESSAGE_ID; i++) {
		buf_put_char(b, ' ');
		put_value(b, values[i], mem);
	}
	buf_put_char(b, ')');
	for (int i = 0; i < FIELDS; i++)
		buf_done(&joined[i]);
	return b->failed ? ERR_TOOBIG : 0;
}

/* --- BODYSTRUCTURE --- */
struct writer {
	struct buf *b;
	span message;
	bool extensible;
	struct arena *mem;
};

static void put_params(struct buf *b, const struct mime_param *list, bool default_charset)
{
	default_charset = default_charset && !mime_param(list, "charset").p &&
			  !mime_param(list, "charset*").p;
	if (!list && !default_charset) {
		buf_put_str(b, "NIL");
		return;
	}
	buf_put_char(b, '(');
	for (const struct mime_param *p = list; p; p = p->next) {
		imapfmt_string(b, p->name);
		buf_put_char(b, ' ');
		imapfmt_string(b, p->value);
		if (p->next || default_charset)
			buf_put_char(b, ' ');
	}
	if (default_charset)
		buf_put_str(b, "\"CHARSET\" \"US-ASCII\"");
	buf_put_char(b, ')');
}

/* body-fld-lang: one string, or a list (RFC 3282 separates them by commas). */
static void put_language(struct buf *b, span value)
{
	if (span_find(value, ',') == SPAN_NPOS) {
		put_optional(b, value);
		return;
	}
	size_t start = b->n, count = 0;
	while (value.p && count < LANGUAGES_MAX) {
		span one = span_trim(span_cut(&value, ','));
		if (!one.n)
			continue;
		buf_put_char(b, count++ ? ' ' : '(');
		imapfmt_string(b, one);
	}
	buf_put_str(b, b->n == start ? "NIL" : ")");
}

/* dsp, lang, loc: the same for all parts */
static void put_extension(const struct writer *w, const struct mime_part *p)
{
	if (p->disposition.n) {
		buf_put_str(w->b, " (");
		imapfmt_string(w->b, p->disposition);
		buf_put_char(w->b, ' ');
		put_params(w->b, p->raw_disposition_params, false);
		buf_put_char(w->b, ')');
	} else {
		buf_put_str(w->b, " NIL");
	}
	buf_put_char(w->b, ' ');
	put_language(w->b, p->language.n ? header_unfold(p->language, w->mem) : p->language);
	buf_put_char(w->b, ' ');
	put_value(w->b, p->location, w->mem);
}

static void put_part(const struct writer *w, const struct mime_part *p);

static void put_multipart(const struct writer *w, const struct mime_part *p)
{
	for (const struct mime_part *c = p->child; c; c = c->next)
		put_part(w, c);
	if (!p->child) /* the grammar wants one; clients show an empty text */
		buf_put_str(w->b,
			    w->extensible
				    ? "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL "
				      "\"7BIT\" 0 0 NIL NIL NIL NIL)"
				    : "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL "
				      "\"7BIT\" 0 0)");
	buf_put_char(w->b, ' ');
	imapfmt_string(w->b, p->subtype);
	if (w->extensible) {
		buf_put_char(w->b, ' ');
		put_params(w->b, p->raw_params, false);
		put_extension(w, p);
	}
}

static void put_single(const struct writer *w, const struct mime_part *p)
{
	struct buf *b = w->b;
	bool text = span_ieq_str(p->type, "text");
	/* the grammar of IMAP4rev1 knows no other message: message/global is shown as a plain
	 * attachment */
	bool message = p->child && span_ieq_str(p->subtype, "rfc822");
	imapfmt_string(b, p->type);
	buf_put_char(b, ' ');
	imapfmt_string(b, p->subtype);
	buf_put_char(b, ' ');
	put_params(b, p->raw_params, text);
	buf_put_char(b, ' ');
	put_value(b, p->id, w->mem);
	buf_put_char(b, ' ');
	put_value(b, p->description, w->mem);
	buf_put_char(b, ' ');
	imapfmt_string(b, p->encoding);
	buf_printf(b, " %zu", p->end - p->body);
	if (message) {
		buf_put_char(b, ' ');
		imapfmt_envelope(
			b, span_sub(w->message, p->child->start, p->child->body - p->child->start),
			w->mem);
		buf_put_char(b, ' ');
		put_part(w, p->child);
	}
	if (message || text)
		buf_printf(b, " %zu", p->lines);
	if (w->extensible) {
		buf_put_char(b, ' ');
		put_value(b, p->md5, w->mem);
		put_extension(w, p);
	}
}

/* Recursion is as deep as mime_parse() lets parts nest. */
static void put_part(const struct writer *w, const struct mime_part *p)
{
	buf_put_char(w->b, '(');
	if (span_ieq_str(p->type, "multipart"))
		put_multipart(w, p);
	else
		put_single(w, p);
	buf_put_char(w->b, ')');
}

int imapfmt_bodystructure(struct buf *b, span message, const struct mime_part *root,
			  bool extensible)
{
	struct arena mem;
	arena_init(&mem);
	struct writer w = { .b = b, .message = message, .extensible = extensible, .mem = &mem };
	put_part(&w, root);
	arena_done(&mem);
	return b->failed ? ERR_TOOBIG : 0;
}

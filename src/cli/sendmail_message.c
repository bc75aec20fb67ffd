/* From what a program types into sendmail(1) to a message. */
#include "cli/sendmail_int.h"

#include "format/address.h"
#include "format/header.h"

#define ADDRESSES_MAX 2000 /* of one field */

enum field_kind { OTHER, FROM, DROPPED, RCPT, RESENT_RCPT };

static const struct field {
	const char *name;
	enum field_kind kind;
	bool drop;
} fields[] = {
	{ "From", FROM, false },
	{ "To", RCPT, false },
	{ "Cc", RCPT, false },
	{ "Bcc", RCPT, true },
	{ "Resent-To", RESENT_RCPT, false },
	{ "Resent-Cc", RESENT_RCPT, false },
	{ "Resent-Bcc", RESENT_RCPT, true },
	{ "Return-Path", DROPPED, true }, /* the envelope says it */
};

static const struct field *field_of(span name)
{
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (span_ieq_str(name, fields[i].name))
			return &fields[i];
	return NULL;
}

/* All line ends as CRLF; the end at a lone dot. */
static int put_lines(struct buf *b, span text, bool dot_is_text)
{
	while (text.n) {
		span line = span_cut(&text, '\n');

		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		if (!dot_is_text && span_eq_str(line, "."))
			break;
		buf_put_span(b, line);
		buf_put_str(b, "\r\n");
	}
	return b->failed ? ERR_TOOBIG : 0;
}

static int add_rcpts(struct sendmail *m, span value, span *ret_why)
{
	struct mailbox_address *list = arena_array(&m->mem, struct mailbox_address, ADDRESSES_MAX);
	size_t bad = 0, n = address_list_parse(value, &m->mem, list, ADDRESSES_MAX, &bad);

	for (size_t i = 0; i < n; i++) {
		struct address a = { .local = list[i].local, .domain = list[i].domain };
		span text = list[i].domain.n ? address_text(&a, &m->mem) : list[i].local;

		if (list[i].kind != MAILBOX_ADDR)
			continue;
		if (sendmail_rcpt_add(m, text) < 0) {
			*ret_why = text;
			return ERR_SYNTAX;
		}
	}
	if (bad)
		*ret_why = header_unfold(value, &m->mem);
	return bad ? ERR_SYNTAX : 0;
}

/* The header of TEXT without what must not travel; *RET_BODY is where it ends. */
static void put_header(span text, struct buf *b, bool *ret_from, size_t *ret_body)
{
	struct header_field f;
	bool bad = false;
	size_t at = 0, kept = 0;

	*ret_from = false;
	while (header_next(text, &at, &f, &bad)) {
		const struct field *known = field_of(f.name);

		*ret_from |= known && known->kind == FROM;
		if (!known || !known->drop)
			buf_put_span(b, f.raw);
		kept = (size_t)(f.raw.p - text.p) + f.raw.n;
	}
	*ret_body = bad ? kept : at; /* a line that is no field belongs to the body */
}

static int collect_rcpts(struct sendmail *m, span text, enum field_kind kind, span *ret_why)
{
	struct header_field f;
	bool bad = false;
	size_t at = 0;
	int e = 0;

	while (e == 0 && header_next(text, &at, &f, &bad)) {
		const struct field *known = field_of(f.name);

		if (known && known->kind == kind)
			e = add_rcpts(m, f.value, ret_why);
	}
	return e;
}

static void put_from(struct buf *b, span from, span name)
{
	buf_put_str(b, "From: ");
	if (name.n) {
		header_encode_text(b, name);
		buf_put_char(b, ' ');
	}
	buf_put_char(b, '<');
	buf_put_span(b, from);
	buf_put_str(b, ">\r\n");
}

int sendmail_message(struct sendmail *m, span text, span from, span name, struct buf *b,
		     span *ret_why)
{
	_cleanup_(buf_donep) struct buf lines = BUF_INIT(2 * text.n + 2);
	struct header_field f;
	size_t body;
	bool has_from;
	span all;
	int e;

	if (span_starts(text, SPAN("From "))) /* an mbox line */
		span_cut(&text, '\n');
	e = put_lines(&lines, text, m->dot_is_text);
	if (e < 0)
		return e;
	all = buf_span(&lines);
	if (m->read_rcpts) {
		bool resent = header_find(all, "Resent-To", 0, &f) ||
			      header_find(all, "Resent-Cc", 0, &f) ||
			      header_find(all, "Resent-Bcc", 0, &f);

		e = collect_rcpts(m, all, resent ? RESENT_RCPT : RCPT, ret_why);
		if (e < 0)
			return e;
	}
	put_header(all, b, &has_from, &body);
	if (!has_from)
		put_from(b, from, name);
	buf_put_str(b, "\r\n");
	return buf_put_span(b, span_from(all, body)) < 0 ? ERR_TOOBIG : 0;
}

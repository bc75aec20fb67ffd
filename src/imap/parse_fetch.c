#include "format/header.h"
#include "format/imapfmt.h"
#include "imap/parse_int.h"

/* FETCH's items (RFC 3501 6.4.5). */

enum { MAX_FIELDS = 256, MAX_FIELD_NAME = 256 };

struct fetch {
	struct imap_lex *l;
	struct imap_fetch_args *out;
};

static struct imap_fetch_item *add(struct fetch *f, enum imap_fetch_kind kind)
{
	if (f->out->n == IMAP_MAX_ITEMS) {
		imap_lex_fail(f->l, "Too many FETCH items");
		return NULL;
	}
	struct imap_fetch_item *it = &f->out->items[f->out->n++];
	it->kind = kind;
	return it;
}

static bool add_section(struct fetch *f, enum imap_section_what what, const char *label, bool peek)
{
	struct imap_fetch_item *it = add(f, IMAP_FETCH_SECTION);
	if (!it)
		return false;
	it->what = what;
	it->label = span_str(label);
	it->peek = peek;
	f->out->sets_seen |= !peek;
	return true;
}

static bool field_names(struct imap_lex *l, struct imap_fetch_item *it)
{
	if (!imap_lex_sp(l) || !imap_lex_char(l, '('))
		return imap_lex_fail(l, "Expected a list of header fields");
	it->fields = arena_array(l->mem, span, MAX_FIELDS);
	do {
		span name;
		if (it->n_fields == MAX_FIELDS)
			return imap_lex_fail(l, "Too many header fields");
		if (!imap_lex_astring(l, &name))
			return false;
		if (name.n > MAX_FIELD_NAME || !header_name_valid(name))
			return imap_lex_fail(l, "Bad header field name");
		it->fields[it->n_fields++] = name;
	} while (imap_lex_char(l, ' '));
	return imap_lex_char(l, ')') || imap_lex_fail(l, "Expected )");
}

static bool section_text(struct imap_lex *l, struct imap_fetch_item *it)
{
	if (imap_lex_word(l, "HEADER")) {
		it->what = IMAP_SECTION_HEADER;
		return true;
	}
	if (imap_lex_word(l, "TEXT")) {
		it->what = IMAP_SECTION_TEXT;
		return true;
	}
	if (it->n_path && imap_lex_word(l, "MIME")) {
		it->what = IMAP_SECTION_MIME;
		return true;
	}
	if (imap_lex_word(l, "HEADER.FIELDS"))
		it->what = IMAP_SECTION_FIELDS;
	else if (imap_lex_word(l, "HEADER.FIELDS.NOT"))
		it->what = IMAP_SECTION_FIELDS_NOT;
	else
		return imap_lex_fail(l, "Unknown section");
	return field_names(l, it);
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

/* Behind "[": part numbers, then a name. */
static bool section(struct imap_lex *l, struct imap_fetch_item *it)
{
	it->what = IMAP_SECTION_ALL;
	if (is_digit(imap_lex_peek(l)))
		it->path = arena_array(l->mem, unsigned, IMAP_MAX_PATH);
	while (is_digit(imap_lex_peek(l))) {
		uint32_t n;
		if (it->n_path == IMAP_MAX_PATH)
			return imap_lex_fail(l, "Part number is too deep");
		if (!imap_lex_number(l, &n) || n == 0)
			return imap_lex_fail(l, "Bad part number");
		it->path[it->n_path++] = n;
		if (imap_lex_char(l, ']'))
			return true;
		if (!imap_lex_char(l, '.'))
			return imap_lex_fail(l, "Expected . or ]");
	}
	if (!it->n_path && imap_lex_char(l, ']'))
		return true;
	return section_text(l, it) && (imap_lex_char(l, ']') || imap_lex_fail(l, "Expected ]"));
}

/* "<offset.count>"; the answer names the offset only. */
static bool partial(struct imap_lex *l, struct imap_fetch_item *it)
{
	if (!imap_lex_char(l, '<'))
		return true;
	it->partial = true;
	if (!imap_lex_number(l, &it->from) || !imap_lex_char(l, '.') ||
	    !imap_lex_number(l, &it->count) || !imap_lex_char(l, '>'))
		return imap_lex_fail(l, "Bad partial range");
	return it->count > 0 || imap_lex_fail(l, "Empty partial range");
}

/* The name of the answer, rebuilt: the request may hold literals. */
static span label_of(struct imap_lex *l, const struct imap_fetch_item *it)
{
	static const char *const names[] = { [IMAP_SECTION_ALL] = "",
					     [IMAP_SECTION_HEADER] = "HEADER",
					     [IMAP_SECTION_TEXT] = "TEXT",
					     [IMAP_SECTION_MIME] = "MIME",
					     [IMAP_SECTION_FIELDS] = "HEADER.FIELDS",
					     [IMAP_SECTION_FIELDS_NOT] = "HEADER.FIELDS.NOT" };
	_cleanup_(buf_donep) struct buf b = BUF_INIT(256 * 1024);
	buf_put_str(&b, "BODY[");
	for (size_t i = 0; i < it->n_path; i++)
		buf_printf(&b, i ? ".%u" : "%u", it->path[i]);
	if (it->n_path && it->what != IMAP_SECTION_ALL)
		buf_put_char(&b, '.');
	buf_put_str(&b, names[it->what]);
	for (size_t i = 0; i < it->n_fields; i++) {
		buf_put_str(&b, i ? " " : " (");
		imapfmt_astring(&b, it->fields[i]);
	}
	buf_put_str(&b, it->n_fields ? ")]" : "]");
	if (it->partial)
		buf_printf(&b, "<%u>", it->from);
	return arena_span(l->mem, buf_span(&b));
}

static bool body_section(struct fetch *f, bool peek)
{
	struct imap_fetch_item *it = add(f, IMAP_FETCH_SECTION);
	if (!it || !section(f->l, it) || !partial(f->l, it))
		return false;
	it->peek = peek;
	it->label = label_of(f->l, it);
	f->out->sets_seen |= !peek;
	return true;
}

/* The name of an item ends before '['; imap_lex_word would read on. */
static span item_name(struct imap_lex *l)
{
	size_t from = l->at;
	while (l->at < l->s.n && l->s.p[l->at] != '[' &&
	       imap_atom_char((unsigned char)l->s.p[l->at]))
		l->at++;
	return span_sub(l->s, from, l->at - from);
}

static bool item(struct fetch *f)
{
	static const struct {
		const char *name;
		enum imap_fetch_kind kind;
	} plain[] = {
		{ "UID", IMAP_FETCH_UID },	     { "FLAGS", IMAP_FETCH_FLAGS },
		{ "RFC822.SIZE", IMAP_FETCH_SIZE },  { "INTERNALDATE", IMAP_FETCH_INTERNALDATE },
		{ "ENVELOPE", IMAP_FETCH_ENVELOPE }, { "BODYSTRUCTURE", IMAP_FETCH_BODYSTRUCTURE },
		{ "BODY", IMAP_FETCH_BODY },
	};
	span name = item_name(f->l);
	if (imap_lex_char(f->l, '[')) {
		if (span_ieq_str(name, "BODY"))
			return body_section(f, false);
		if (span_ieq_str(name, "BODY.PEEK"))
			return body_section(f, true);
		return imap_lex_fail(f->l, "Unknown FETCH item");
	}
	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		if (span_ieq_str(name, plain[i].name))
			return add(f, plain[i].kind) != NULL;
	if (span_ieq_str(name, "RFC822"))
		return add_section(f, IMAP_SECTION_ALL, "RFC822", false);
	if (span_ieq_str(name, "RFC822.HEADER"))
		return add_section(f, IMAP_SECTION_HEADER, "RFC822.HEADER", true);
	if (span_ieq_str(name, "RFC822.TEXT"))
		return add_section(f, IMAP_SECTION_TEXT, "RFC822.TEXT", false);
	return imap_lex_fail(f->l, "Unknown FETCH item");
}

static bool macro(struct fetch *f)
{
	static const enum imap_fetch_kind full[] = { IMAP_FETCH_FLAGS, IMAP_FETCH_INTERNALDATE,
						     IMAP_FETCH_SIZE, IMAP_FETCH_ENVELOPE,
						     IMAP_FETCH_BODY };
	size_t n = imap_lex_word(f->l, "FAST")	 ? 3
		   : imap_lex_word(f->l, "ALL")	 ? 4
		   : imap_lex_word(f->l, "FULL") ? 5
						 : 0;
	for (size_t i = 0; i < n; i++)
		add(f, full[i]);
	return n > 0;
}

bool imap_parse_fetch(struct imap_lex *l, struct imap_fetch_args *ret)
{
	struct fetch f = { l, ret };
	ret->items = arena_array(l->mem, struct imap_fetch_item, IMAP_MAX_ITEMS);
	if (!imap_lex_char(l, '('))
		return macro(&f) || item(&f);
	do {
		if (!item(&f))
			return false;
	} while (imap_lex_char(l, ' '));
	return imap_lex_char(l, ')') || imap_lex_fail(l, "Expected )");
}

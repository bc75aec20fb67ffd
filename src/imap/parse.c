#include "imap/parse.h"

#include "format/header.h"
#include "format/imapfmt.h"
#include "imap/parse_int.h"

const char *const imap_special_uses[] = { NULL,	     "\\Drafts",  "\\Sent", "\\Junk",
					  "\\Trash", "\\Archive", "\\All",  "\\Flagged" };
const size_t imap_n_special_uses = ARRAY_LEN(imap_special_uses);
const char *const imap_system_flags[5] = { "\\Seen", "\\Answered", "\\Flagged", "\\Deleted",
					   "\\Draft" };

enum { MAX_KEYWORD = 64, MAX_KEYWORDS = 64, MAX_ID_PAIRS = 30, MAX_NAME = 1000, MAX_TAG = 64 };

/* --- pieces --- */

/* A backslash and an atom, as one span. */
static bool backslash_atom(struct imap_lex *l, span *ret)
{
	size_t from = l->at;
	span rest;
	if (!imap_lex_char(l, '\\') || !imap_lex_atom(l, &rest))
		return imap_lex_fail(l, "Expected a flag");
	*ret = span_sub(l->s, from, l->at - from);
	return true;
}

static bool system_flag(struct imap_lex *l, struct imap_flags *f)
{
	span name;
	if (!backslash_atom(l, &name))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(imap_system_flags); i++)
		if (span_ieq_str(name, imap_system_flags[i])) {
			f->system |= 1u << i;
			return true;
		}
	return imap_lex_fail(l, "Not a flag that can be set");
}

static bool keyword(struct imap_lex *l, struct imap_flags *f)
{
	span name;
	if (!imap_lex_atom(l, &name))
		return false;
	if (name.n > MAX_KEYWORD || f->n_keywords == MAX_KEYWORDS)
		return imap_lex_fail(l, "Too many keywords, or one that is too long");
	f->keywords[f->n_keywords++] = name;
	return true;
}

bool imap_parse_flags(struct imap_lex *l, bool bare, struct imap_flags *ret)
{
	struct imap_flags f = { .keywords = arena_array(l->mem, span, MAX_KEYWORDS) };
	bool parens = imap_lex_char(l, '(');
	if (!parens && !bare)
		return imap_lex_fail(l, "Expected a list of flags");
	if (!parens || imap_lex_peek(l) != ')') {
		do {
			if (!(imap_lex_peek(l) == '\\' ? system_flag(l, &f) : keyword(l, &f)))
				return false;
		} while (imap_lex_char(l, ' '));
	}
	if (parens && !imap_lex_char(l, ')'))
		return imap_lex_fail(l, "Expected )");
	*ret = f;
	return true;
}

static bool mailbox(struct imap_lex *l, struct imap_args *a)
{
	span wire;
	if (!imap_lex_astring(l, &wire))
		return false;
	_cleanup_(buf_donep) struct buf utf8 = BUF_INIT(2 * MAX_NAME);
	if (wire.n > 2 * MAX_NAME || mutf7_decode(&utf8, wire) < 0)
		a->bad_name = true;
	else
		a->mailbox[a->n_mailboxes] = arena_span(l->mem, buf_span(&utf8));
	a->n_mailboxes++;
	return true;
}

static bool text(struct imap_lex *l, struct imap_args *a)
{
	return imap_lex_astring(l, &a->text[a->n_texts]) && ++a->n_texts;
}

/* SASL-IR (RFC 4959): base64 or "=", all of it atom characters. */
static bool initial_response(struct imap_lex *l, struct imap_args *a)
{
	if (imap_lex_peek(l) < 0)
		return true;
	a->has_initial = true;
	return imap_lex_sp(l) && imap_lex_atom(l, &a->text[a->n_texts]) && ++a->n_texts;
}

/* --- LIST (RFC 3501 6.3.8; of RFC 5258 what RFC 6154 needs) --- */

static unsigned list_option(struct imap_lex *l)
{
	return imap_lex_word(l, "SPECIAL-USE")	? IMAP_LIST_SPECIAL_USE
	       : imap_lex_word(l, "SUBSCRIBED") ? IMAP_LIST_SUBSCRIBED
	       : imap_lex_word(l, "CHILDREN")	? IMAP_LIST_CHILDREN
						: 0;
}

static bool list_options(struct imap_lex *l, unsigned allowed, unsigned *ret)
{
	if (!imap_lex_char(l, '('))
		return imap_lex_fail(l, "Expected (");
	if (imap_lex_char(l, ')'))
		return true;
	do {
		unsigned o = list_option(l);
		if (!(o & allowed))
			return imap_lex_fail(l, "Unknown LIST option");
		*ret |= o;
	} while (imap_lex_char(l, ' '));
	return imap_lex_char(l, ')') || imap_lex_fail(l, "Expected )");
}

static bool list_patterns(struct imap_lex *l, struct imap_list_args *a)
{
	if (!imap_lex_char(l, '(')) {
		a->patterns = arena_new(l->mem, span);
		a->n = 1;
		return imap_lex_pattern(l, a->patterns);
	}
	a->patterns = arena_array(l->mem, span, IMAP_MAX_PATTERNS);
	do {
		if (a->n == IMAP_MAX_PATTERNS)
			return imap_lex_fail(l, "Too many patterns");
		if (!imap_lex_pattern(l, &a->patterns[a->n++]))
			return false;
	} while (imap_lex_char(l, ' '));
	return imap_lex_char(l, ')') || imap_lex_fail(l, "Expected )");
}

static bool list(struct imap_lex *l, struct imap_args *args)
{
	struct imap_list_args *a = &args->list;
	bool extended = args->cmd->id == IMAP_LIST;
	if (extended && imap_lex_peek(l) == '(' &&
	    (!list_options(l, IMAP_LIST_SPECIAL_USE | IMAP_LIST_SUBSCRIBED, &a->select) ||
	     !imap_lex_sp(l)))
		return false;
	if (!imap_lex_astring(l, &a->reference) || !imap_lex_sp(l))
		return false;
	if (!extended && imap_lex_peek(l) == '(')
		return imap_lex_fail(l, "Expected a mailbox pattern");
	if (!list_patterns(l, a))
		return false;
	if (!extended || imap_lex_peek(l) < 0)
		return true;
	a->ret_given = true;
	return imap_lex_sp(l) &&
	       (imap_lex_word(l, "RETURN") || imap_lex_fail(l, "Expected RETURN")) &&
	       imap_lex_sp(l) &&
	       list_options(l, IMAP_LIST_SPECIAL_USE | IMAP_LIST_SUBSCRIBED | IMAP_LIST_CHILDREN,
			    &a->ret);
}

/* --- others --- */

static bool status(struct imap_lex *l, struct imap_args *a)
{
	static const char *const names[] = { "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY",
					     "UNSEEN" };
	if (!imap_lex_char(l, '('))
		return imap_lex_fail(l, "Expected (");
	do {
		size_t i = 0;
		while (i < ARRAY_LEN(names) && !imap_lex_word(l, names[i]))
			i++;
		if (i == ARRAY_LEN(names))
			return imap_lex_fail(l, "Unknown STATUS item");
		a->status |= 1u << i;
	} while (imap_lex_char(l, ' '));
	return imap_lex_char(l, ')') || imap_lex_fail(l, "Expected )");
}

static bool store_operation(struct imap_lex *l, struct imap_args *a)
{
	a->op = imap_lex_char(l, '+')	? IMAP_STORE_ADD
		: imap_lex_char(l, '-') ? IMAP_STORE_REMOVE
					: IMAP_STORE_SET;
	a->silent = imap_lex_word(l, "FLAGS.SILENT");
	if (!a->silent && !imap_lex_word(l, "FLAGS"))
		return imap_lex_fail(l, "Expected FLAGS or FLAGS.SILENT");
	return imap_lex_sp(l) && imap_parse_flags(l, true, &a->flags);
}

static bool id_parameters(struct imap_lex *l)
{
	if (imap_lex_word(l, "NIL"))
		return true;
	if (!imap_lex_char(l, '('))
		return imap_lex_fail(l, "Expected NIL or a list");
	for (unsigned n = 0; !imap_lex_char(l, ')'); n++) {
		span name, value;
		if (n == MAX_ID_PAIRS)
			return imap_lex_fail(l, "Too many ID fields");
		if (n && !imap_lex_sp(l))
			return false;
		if (!imap_lex_string(l, &name) || !imap_lex_sp(l) || !imap_lex_nstring(l, &value))
			return false;
	}
	return true;
}

static bool enable(struct imap_lex *l)
{
	span name;
	do {
		if (!imap_lex_atom(l, &name))
			return false;
	} while (imap_lex_char(l, ' '));
	return true;
}

/* CREATE name (USE (\Archive)), RFC 6154 5.2.  One use for a mailbox. */
static bool create_use(struct imap_lex *l, struct imap_args *a)
{
	if (imap_lex_peek(l) < 0)
		return true;
	span use;
	if (!imap_lex_sp(l) || !imap_lex_char(l, '(') || !imap_lex_word(l, "USE") ||
	    !imap_lex_sp(l) || !imap_lex_char(l, '('))
		return imap_lex_fail(l, "Expected (USE (...))");
	if (!backslash_atom(l, &use))
		return false;
	for (size_t i = 1; i < imap_n_special_uses; i++)
		if (span_ieq_str(use, imap_special_uses[i]))
			a->special = (int)i;
	a->bad_use = !a->special;
	while (imap_lex_char(
		l, ' ')) { /* several uses cannot be kept: [USEATTR], not a syntax error */
		a->bad_use = true;
		if (!backslash_atom(l, &use))
			return false;
	}
	return (imap_lex_char(l, ')') && imap_lex_char(l, ')')) || imap_lex_fail(l, "Expected ))");
}

/* [SP flag-list] [SP date-time] SP literal */
static bool append(struct imap_lex *l, struct imap_args *a)
{
	if (imap_lex_peek(l) == '(' && (!imap_parse_flags(l, false, &a->flags) || !imap_lex_sp(l)))
		return false;
	if (imap_lex_peek(l) == '"') {
		span s;
		int zone;
		if (!imap_lex_string(l, &s))
			return false;
		if (date_imap_parse(s, &a->date, &zone) < 0)
			return imap_lex_fail(l, "Bad date-time");
		a->has_date = true;
		if (!imap_lex_sp(l))
			return false;
	}
	if (imap_lex_peek(l) == '~')
		return imap_lex_fail(l, "Binary literals are not supported");
	if (imap_lex_peek(l) != '{')
		return imap_lex_fail(l, "Expected a literal");
	span rest = span_from(l->s, l->at);
	if (rest.n > 2 && imap_literal_at_end(span_sub(rest, 0, rest.n - 2), &a->literal) &&
	    span_find(rest, '\n') == rest.n - 1) {
		a->pending = a->literal.n > 0; /* "{0}" is complete only with the line behind it */
		l->at = l->s.n - 2;
		return a->pending || imap_lex_fail(l, "Empty message");
	}
	return imap_lex_string(l, &a->message);
}

/* --- the whole command --- */

static bool argument(struct imap_lex *l, char g, struct imap_args *a)
{
	switch (g) {
	case 'm':
		return mailbox(l, a);
	case 'a':
		return text(l, a);
	case 'p':
		return list(l, a);
	case 's':
	case 'S':
		a->has_set = true;
		return imap_set_lex(l, &a->set);
	case 'f':
		return imap_parse_fetch(l, &a->fetch);
	case 'o':
		return store_operation(l, a);
	case 'k':
		return imap_parse_search(l, a);
	case 't':
		return status(l, a);
	case 'i':
		return id_parameters(l);
	case 'e':
		return enable(l);
	default:
		return append(l, a);
	}
}

static bool arguments(struct imap_lex *l, struct imap_args *a)
{
	for (const char *g = a->cmd->grammar; *g; g++) {
		bool ok = *g == 'S' && !a->uid ? true /* only UID EXPUNGE has a set */
			  : *g == 'r'	       ? initial_response(l, a)
			  : *g == 'u'	       ? create_use(l, a)
					       : imap_lex_sp(l) && argument(l, *g, a);
		if (!ok)
			return false;
	}
	return imap_lex_end(l);
}

bool imap_parse_head(struct imap_lex *l, struct imap_args *ret)
{
	span name;
	*ret = (struct imap_args){ .tag = SPAN("*") };
	span tag;
	if (!imap_lex_tag(l, &tag))
		return false;
	if (tag.n > MAX_TAG)
		return imap_lex_fail(l, "Tag is too long");
	ret->tag = tag;
	if (!imap_lex_sp(l) || !imap_lex_atom(l, &name))
		return imap_lex_fail(l, "Expected a command");
	if (span_ieq_str(name, "UID")) {
		ret->uid = true;
		if (!imap_lex_sp(l) || !imap_lex_atom(l, &name))
			return imap_lex_fail(l, "Expected a command behind UID");
	}
	ret->cmd = imap_command_find(name);
	if (!ret->cmd || (ret->uid && !(ret->cmd->flags & IMAP_HAS_UID)))
		return imap_lex_fail(l, "Unknown command");
	return true;
}

bool imap_parse(span command, struct arena *mem, struct imap_args *ret, const char **ret_why)
{
	struct imap_lex l;
	imap_lex_init(&l, command, mem);
	if (imap_parse_head(&l, ret) && arguments(&l, ret))
		return true;
	*ret_why = l.why ? l.why : "Syntax error";
	return false;
}

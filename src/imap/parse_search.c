#include "format/header.h"
#include "imap/parse_int.h"

/* SEARCH's program (RFC 3501 6.4.4). */

enum {
	SEEN = 1,
	ANSWERED = 2,
	FLAGGED = 4,
	DELETED = 8,
	DRAFT = 16
}; /* the store's bits, as in imap_system_flags */

struct search {
	struct imap_lex *l;
	unsigned keys;
};

static struct imap_search *node(struct search *s, enum imap_key key)
{
	if (++s->keys > IMAP_MAX_KEYS) {
		imap_lex_fail(s->l, "Too many search keys");
		return NULL;
	}
	struct imap_search *k = arena_new(s->l->mem, struct imap_search);
	k->key = key;
	return k;
}

static struct imap_search *inverted(struct search *s, struct imap_search *of)
{
	struct imap_search *k = of ? node(s, IMAP_KEY_NOT) : NULL;
	if (k)
		k->child = of;
	return k;
}

static struct imap_search *flag_key(struct search *s, uint32_t flag, bool want)
{
	struct imap_search *k = node(s, IMAP_KEY_FLAG);
	if (k)
		k->flag = flag;
	return want ? k : inverted(s, k);
}

/* Keys without argument. */
static bool simple_key(struct search *s, span name, struct imap_search **ret)
{
	static const struct {
		const char *name;
		uint32_t flag;
	} flags[] = { { "SEEN", SEEN },
		      { "ANSWERED", ANSWERED },
		      { "FLAGGED", FLAGGED },
		      { "DELETED", DELETED },
		      { "DRAFT", DRAFT } };
	bool un = span_istarts(name, SPAN("UN"));
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (span_ieq_str(un ? span_from(name, 2) : name, flags[i].name)) {
			*ret = flag_key(s, flags[i].flag, !un);
			return true;
		}
	if (span_ieq_str(name, "ALL"))
		*ret = node(s, IMAP_KEY_ALL);
	else if (span_ieq_str(name, "RECENT"))
		*ret = node(s, IMAP_KEY_RECENT);
	else if (span_ieq_str(name, "OLD"))
		*ret = inverted(s, node(s, IMAP_KEY_RECENT));
	else if (span_ieq_str(name, "NEW")) {
		struct imap_search *k = node(s, IMAP_KEY_AND);
		if (k && (k->child = node(s, IMAP_KEY_RECENT)))
			k->child->next = flag_key(s, SEEN, false);
		*ret = k;
	} else
		return false;
	return true;
}

static bool string_argument(struct search *s, span *ret)
{
	return imap_lex_sp(s->l) && imap_lex_astring(s->l, ret);
}

static bool day_argument(struct search *s, usec *ret)
{
	span text;
	if (!string_argument(s, &text))
		return false;
	return date_imap_day(text, ret) == 0 || imap_lex_fail(s->l, "Bad date");
}

enum argument { ARG_TEXT, ARG_FIELD, ARG_NAMED, ARG_KEYWORD, ARG_SIZE, ARG_DAY };
struct key_row {
	const char *name;
	enum imap_key key;
	enum argument arg;
};

static bool key_argument(struct search *s, const struct key_row *row, struct imap_search *k)
{
	switch (row->arg) {
	case ARG_TEXT:
		return string_argument(s, &k->text);
	case ARG_FIELD:
		k->name = span_str(row->name);
		return string_argument(s, &k->text);
	case ARG_NAMED:
		return string_argument(s, &k->name) && string_argument(s, &k->text);
	case ARG_KEYWORD:
		return imap_lex_sp(s->l) && imap_lex_atom(s->l, &k->text);
	case ARG_SIZE:
		return imap_lex_sp(s->l) && imap_lex_number64(s->l, &k->n);
	default:
		return day_argument(s, &k->day);
	}
}

/* Keys with arguments of their own. */
static bool argument_key(struct search *s, span name, struct imap_search **ret)
{
	static const struct key_row rows[] = {
		{ "BCC", IMAP_KEY_HEADER, ARG_FIELD },
		{ "CC", IMAP_KEY_HEADER, ARG_FIELD },
		{ "FROM", IMAP_KEY_HEADER, ARG_FIELD },
		{ "SUBJECT", IMAP_KEY_HEADER, ARG_FIELD },
		{ "TO", IMAP_KEY_HEADER, ARG_FIELD },
		{ "HEADER", IMAP_KEY_HEADER, ARG_NAMED },
		{ "BODY", IMAP_KEY_BODY, ARG_TEXT },
		{ "TEXT", IMAP_KEY_TEXT, ARG_TEXT },
		{ "KEYWORD", IMAP_KEY_KEYWORD, ARG_KEYWORD },
		{ "UNKEYWORD", IMAP_KEY_KEYWORD, ARG_KEYWORD },
		{ "SMALLER", IMAP_KEY_SMALLER, ARG_SIZE },
		{ "LARGER", IMAP_KEY_LARGER, ARG_SIZE },
		{ "BEFORE", IMAP_KEY_BEFORE, ARG_DAY },
		{ "ON", IMAP_KEY_ON, ARG_DAY },
		{ "SINCE", IMAP_KEY_SINCE, ARG_DAY },
		{ "SENTBEFORE", IMAP_KEY_SENTBEFORE, ARG_DAY },
		{ "SENTON", IMAP_KEY_SENTON, ARG_DAY },
		{ "SENTSINCE", IMAP_KEY_SENTSINCE, ARG_DAY },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!span_ieq_str(name, rows[i].name))
			continue;
		struct imap_search *k = node(s, rows[i].key);
		if (k && !key_argument(s, &rows[i], k))
			k = NULL;
		*ret = span_istarts(name, SPAN("UN")) ? inverted(s, k) : k;
		return true;
	}
	return false;
}

static struct imap_search *set_key(struct search *s, enum imap_key key)
{
	struct imap_search *k = node(s, key);
	return k && imap_set_lex(s->l, &k->set) ? k : NULL;
}

static struct imap_search *one_key(struct search *s, unsigned depth);

/* Keys up to the end of the line or the closing parenthesis. */
static struct imap_search *key_list(struct search *s, unsigned depth)
{
	struct imap_search *all = node(s, IMAP_KEY_AND), **tail = all ? &all->child : NULL;
	if (!all)
		return NULL;
	do {
		*tail = one_key(s, depth);
		if (!*tail)
			return NULL;
		tail = &(*tail)->next;
	} while (imap_lex_char(s->l, ' '));
	return all;
}

static struct imap_search *or_key(struct search *s, unsigned depth)
{
	struct imap_search *k = node(s, IMAP_KEY_OR);
	if (!k || !imap_lex_sp(s->l) || !(k->child = one_key(s, depth + 1)) || !imap_lex_sp(s->l) ||
	    !(k->child->next = one_key(s, depth + 1)))
		return NULL;
	return k;
}

static struct imap_search *one_key(struct search *s, unsigned depth)
{
	struct imap_lex *l = s->l;
	struct imap_search *k = NULL;
	if (depth > IMAP_MAX_DEPTH) {
		imap_lex_fail(l, "Search keys nest too deep");
		return NULL;
	}
	if (imap_lex_char(l, '(')) {
		k = key_list(s, depth + 1);
		if (k && !imap_lex_char(l, ')')) {
			imap_lex_fail(l, "Expected )");
			return NULL;
		}
		return k;
	}
	int c = imap_lex_peek(l);
	if (c == '*' || (c >= '0' && c <= '9'))
		return set_key(s, IMAP_KEY_SEQ);
	span name;
	if (!imap_lex_atom(l, &name))
		return NULL;
	if (span_ieq_str(name, "NOT"))
		return imap_lex_sp(l) ? inverted(s, one_key(s, depth + 1)) : NULL;
	if (span_ieq_str(name, "OR"))
		return or_key(s, depth);
	if (span_ieq_str(name, "UID"))
		return imap_lex_sp(l) ? set_key(s, IMAP_KEY_UID) : NULL;
	if (!simple_key(s, name, &k) && !argument_key(s, name, &k))
		imap_lex_fail(l, "Unknown search key");
	return k;
}

bool imap_parse_search(struct imap_lex *l, struct imap_args *ret)
{
	struct search s = { .l = l };
	if (imap_lex_word(l, "CHARSET")) {
		span charset;
		if (!imap_lex_sp(l) || !imap_lex_astring(l, &charset) || !imap_lex_sp(l))
			return false;
		ret->bad_charset = !span_ieq_str(charset, "UTF-8") &&
				   !span_ieq_str(charset, "US-ASCII");
	}
	ret->search = key_list(&s, 0);
	return ret->search != NULL;
}

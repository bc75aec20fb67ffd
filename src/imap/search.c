#include "format/address.h"
#include "format/header.h"
#include "format/mime.h"
#include "imap/session_int.h"

/* SEARCH (RFC 3501 6.4.4).  One pass over the told view; each message is loaded only as far as the
 * keys that are still undecided need it: row, then item, then header, then body. */

static const uint64_t TEXT_MAX = 16 * 1024 *
				 1024; /* decoded text of one part or header that is looked at */

enum { ADDRESSES_MAX = 256 };

struct search {
	struct imap_job *j;
	struct account *acc;
	bool uid;
	struct arena keys, msg;
	/* the message looked at */
	const struct store_row *row;
	uint32_t seq;
	bool has_item, has_header, gone;
	struct store_item item;
	span header;
	int err;
};

/* --- preparing --- */

static span fold(span s, struct arena *mem)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(TEXT_MAX);
	text_fold(s, &b);
	return arena_span(mem, buf_span(&b));
}

/* Resolves sets and keywords, folds texts; ERR_INVAL: a bad message number. */
static int prepare(struct search *s, struct imap_search *k)
{
	const struct store_view *v = s->j->st->view;
	for (; k; k = k->next) {
		if (k->key == IMAP_KEY_SEQ && imap_set_check(&k->set, v->n) < 0)
			return ERR_INVAL;
		if (k->key == IMAP_KEY_SEQ)
			k->set = imap_set_resolve(&k->set, v->n, &s->keys);
		if (k->key == IMAP_KEY_UID)
			k->set = imap_set_resolve(&k->set, v->n ? v->rows[v->n - 1].uid : 0,
						  &s->keys);
		if (k->key == IMAP_KEY_HEADER || k->key == IMAP_KEY_BODY || k->key == IMAP_KEY_TEXT)
			k->text = fold(k->text, &s->keys);
		if (k->key == IMAP_KEY_KEYWORD) {
			unsigned bit;
			k->n = store_keyword_bit(s->acc, k->text, false, &bit) == 0
				       ? (uint64_t)1 << bit
				       : 0;
		}
		int r = prepare(s, k->child);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- loading --- */

static bool load_item(struct search *s)
{
	if (s->has_item || s->gone)
		return s->has_item;
	struct imap_uid uid = { s->row->uid };
	int r = store_item_get(s->acc, s->j->st->mailbox, uid, 0, &s->msg, &s->item);
	s->has_item = r == 0;
	s->gone = r < 0;
	if (r < 0 && r != ERR_NOENT)
		s->err = r;
	return s->has_item;
}

static bool load_header(struct search *s)
{
	if (s->has_header || !load_item(s))
		return s->has_header;
	int r = store_text_get(s->acc, s->item.body_id, &s->msg, &s->header);
	s->has_header = r == 0;
	if (r < 0 && r != ERR_NOENT)
		s->err = r;
	return s->has_header;
}

/* --- text --- */

/* memmem is linear in glibc. */
static bool contains(span text, span folded_key)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(TEXT_MAX);
	text_fold(text, &b);
	return folded_key.n == 0 || span_find_span(buf_span(&b), folded_key) != SPAN_NPOS;
}

/* FROM, TO, CC and BCC look at the envelope (6.4.4): addresses without comments and odd white
 * space. */
static bool in_addresses(struct search *s, span value, span folded_key)
{
	struct mailbox_address *a = arena_array(&s->msg, struct mailbox_address, ADDRESSES_MAX);
	size_t n = address_list_parse(value, &s->msg, a, ADDRESSES_MAX, NULL);
	for (size_t i = 0; i < n; i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(TEXT_MAX);
		buf_put_span(&b, header_decode_words(a[i].display, TEXT_MAX, &s->msg));
		buf_put_str(&b, " <");
		buf_put_span(&b, a[i].local);
		buf_put_char(&b, '@');
		buf_put_span(&b, a[i].domain);
		buf_put_char(&b, '>');
		if (a[i].kind == MAILBOX_ADDR && contains(buf_span(&b), folded_key))
			return true;
	}
	return false;
}

static bool is_address_field(span name)
{
	return span_ieq_str(name, "From") || span_ieq_str(name, "To") || span_ieq_str(name, "Cc") ||
	       span_ieq_str(name, "Bcc");
}

static bool in_field(struct search *s, const struct imap_search *k)
{
	struct header_field h;
	size_t at = 0;
	bool bad = false;
	while (header_next(s->header, &at, &h, &bad)) {
		if (!span_ieq(h.name, k->name))
			continue;
		span value = header_decode_words(header_unfold(h.value, &s->msg), TEXT_MAX,
						 &s->msg);
		if (contains(value, k->text) ||
		    (is_address_field(k->name) && in_addresses(s, h.value, k->text)))
			return true;
	}
	return false;
}

static bool in_header(struct search *s, span header, const struct imap_search *k)
{
	struct header_field h;
	size_t at = 0;
	bool bad = false;
	while (header_next(header, &at, &h, &bad)) {
		_cleanup_(buf_donep) struct buf line = BUF_INIT(TEXT_MAX);
		buf_put_span(&line, h.name);
		buf_put_str(&line, ": ");
		buf_put_span(&line, header_decode_words(header_unfold(h.value, &s->msg), TEXT_MAX,
							&s->msg));
		if (contains(buf_span(&line), k->text))
			return true;
	}
	return false;
}

static span charset_of(const struct mime_part *p)
{
	for (const struct mime_param *m = p->params; m; m = m->next)
		if (span_ieq_str(m->name, "charset"))
			return m->value;
	return SPAN("us-ascii");
}

static bool in_leaf(span message, const struct mime_part *p, const struct imap_search *k)
{
	_cleanup_(buf_donep) struct buf raw = BUF_INIT(TEXT_MAX), utf8 = BUF_INIT(TEXT_MAX);
	mime_decode_body(message, p, &raw);
	charset_to_utf8(charset_of(p), buf_span(&raw), &utf8);
	return contains(buf_span(&utf8), k->text);
}

/* Text parts at any depth; the header of an embedded message counts as body text. */
static bool in_parts(struct search *s, span message, const struct mime_part *p,
		     const struct imap_search *k)
{
	for (; p; p = p->next) {
		bool embedded = p->child && span_ieq_str(p->type, "MESSAGE");
		if (!p->child && span_ieq_str(p->type, "TEXT") && in_leaf(message, p, k))
			return true;
		if (embedded &&
		    in_header(s,
			      span_sub(message, p->child->start, p->child->body - p->child->start),
			      k))
			return true;
		if (in_parts(s, message, p->child,
			     k)) /* as deep as mime_parse allows: MIME_MAX_DEPTH */
			return true;
	}
	return false;
}

static bool in_body(struct search *s, const struct imap_search *k)
{
	struct imap_message m;
	int r = imap_message_open(s->j, s->acc, &s->item, &s->msg, &m);
	if (r < 0) {
		if (r != ERR_NOENT && r != ERR_TOOBIG)
			s->err = r;
		return false;
	}
	bool hit = m.root && in_parts(s, buf_span(&m.bytes), m.root, k);
	imap_message_done(s->j, &m);
	return hit;
}

/* --- dates --- */

/* -1, 0, 1: the time lies before, on, after the day.  Days as UTC, like INTERNALDATE is shown. */
static int against_day(usec t, usec day)
{
	return t < day ? -1 : t >= day + 24 * 3600 * USEC_SEC;
}

/* The Date field's day disregarding its zone (6.4.4): the local date as written. */
static bool sent_day(struct search *s, usec *ret)
{
	struct header_field h;
	int zone;
	usec t;
	if (!load_header(s) || !header_find(s->header, "Date", 0, &h) ||
	    date_parse(h.value, &t, &zone) < 0)
		return false;
	*ret = t + zone * 60 * USEC_SEC;
	return true;
}

static bool date_matches(enum imap_key key, int cmp)
{
	switch (key) {
	case IMAP_KEY_BEFORE:
	case IMAP_KEY_SENTBEFORE:
		return cmp < 0;
	case IMAP_KEY_ON:
	case IMAP_KEY_SENTON:
		return cmp == 0;
	default:
		return cmp >= 0;
	}
}

/* --- the tree --- */

static bool match(struct search *s, const struct imap_search *k);

static bool match_children(struct search *s, const struct imap_search *k)
{
	for (const struct imap_search *c = k->child; c; c = c->next)
		if (match(s, c) != (k->key == IMAP_KEY_AND))
			return k->key != IMAP_KEY_AND;
	return k->key == IMAP_KEY_AND;
}

static bool match(struct search *s, const struct imap_search *k)
{
	usec t;
	switch (k->key) {
	case IMAP_KEY_ALL:
		return true;
	case IMAP_KEY_AND:
	case IMAP_KEY_OR:
		return match_children(s, k);
	case IMAP_KEY_NOT:
		return !match(s, k->child);
	case IMAP_KEY_SEQ:
		return imap_set_has(&k->set, s->seq);
	case IMAP_KEY_UID:
		return imap_set_has(&k->set, s->row->uid);
	case IMAP_KEY_FLAG:
		return s->row->flags & k->flag;
	case IMAP_KEY_KEYWORD:
		return s->row->keywords & k->n;
	case IMAP_KEY_RECENT:
		return imap_is_recent(s->j->st, s->row->uid);
	case IMAP_KEY_SMALLER:
		return load_item(s) && s->item.size < k->n;
	case IMAP_KEY_LARGER:
		return load_item(s) && s->item.size > k->n;
	case IMAP_KEY_BEFORE:
	case IMAP_KEY_ON:
	case IMAP_KEY_SINCE:
		return load_item(s) &&
		       date_matches(k->key, against_day(s->item.internal_date, k->day));
	case IMAP_KEY_SENTBEFORE:
	case IMAP_KEY_SENTON:
	case IMAP_KEY_SENTSINCE:
		return sent_day(s, &t) && date_matches(k->key, against_day(t, k->day));
	case IMAP_KEY_HEADER:
		return load_header(s) && in_field(s, k);
	case IMAP_KEY_BODY:
		return load_item(s) && in_body(s, k);
	case IMAP_KEY_TEXT:
		return load_header(s) && (in_header(s, s->header, k) || in_body(s, k));
	}
	return false;
}

/* Cheap keys first: sorts the operands of each AND by what they must load. */
static int cost(const struct imap_search *k)
{
	int c = k->key >= IMAP_KEY_BODY		? 3
		: k->key >= IMAP_KEY_SENTBEFORE ? 2
						: k->key >= IMAP_KEY_SMALLER;
	for (const struct imap_search *i = k->child; i; i = i->next)
		c = MAX(c, cost(i));
	return c;
}

static void cheap_first(struct imap_search *k)
{
	struct imap_search *sorted[4] = { NULL },
			   **tail[4] = { &sorted[0], &sorted[1], &sorted[2], &sorted[3] };
	for (struct imap_search *c = k->child, *next; c; c = next) {
		next = c->next;
		c->next = NULL;
		int n = cost(c);
		*tail[n] = c;
		tail[n] = &c->next;
		cheap_first(c);
	}
	for (int n = 3; n > 0; n--)
		*tail[n - 1] = sorted[n];
	/* an empty class passes the following one on */
	k->child = sorted[0];
}

static void run(struct search *s, const struct imap_search *top)
{
	const struct store_view *v = s->j->st->view;
	buf_put_str(sess_out(s->j->s), "* SEARCH");
	for (uint32_t i = 0; i < v->n && !s->err && !sess_is_gone(s->j->s); i++) {
		s->row = &v->rows[i];
		s->seq = i + 1;
		s->has_item = s->has_header = s->gone = false;
		bool hit = match(s, top);
		if (hit && !s->gone) {
			struct buf *b = sess_out(s->j->s);
			buf_put_char(b, ' ');
			buf_put_u64(b, s->uid ? s->row->uid : s->seq);
		}
		arena_reset(&s->msg);
	}
	buf_put_str(sess_out(s->j->s), "\r\n");
}

struct imap_answer imap_cmd_search(struct imap_job *j, struct imap_args *a)
{
	struct search s = { .j = j, .uid = a->uid };
	if (a->bad_charset)
		return imap_no("[BADCHARSET (US-ASCII UTF-8)] Unknown charset");
	int r = imap_account(j, &s.acc);
	if (r < 0)
		return imap_error(r);
	arena_init(&s.keys);
	arena_init(&s.msg);
	r = prepare(&s, a->search);
	if (r == 0) {
		cheap_first(a->search);
		run(&s, a->search);
		r = s.err;
	} else {
		r = ERR_SYNTAX;
	}
	arena_done(&s.keys);
	arena_done(&s.msg);
	if (r == ERR_SYNTAX)
		return imap_bad("No such message number");
	return r < 0 ? imap_error(r == ERR_NOENT ? ERR_IO : r) : imap_ok("SEARCH completed");
}

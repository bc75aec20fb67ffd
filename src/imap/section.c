#include "base/log.h"
#include "format/header.h"
#include "format/mime.h"
#include "imap/session_int.h"

/* From FETCH's sections to ranges of stored bytes (RFC 3501 6.4.5).  Whole message, header and text
 * come from stored offsets; only part numbers need the message parsed. */

static const uint64_t PARSE_MAX = 128 * 1024 * 1024;
enum { FIELDS_MAX = 4 * 1024 * 1024 };

/* --- a message to parse --- */

int imap_message_open(struct imap_job *j, struct account *acc, const struct store_item *it,
		      struct arena *mem, struct imap_message *ret)
{
	struct imap_message m = { .bytes = BUF_INIT(PARSE_MAX), .slot = -1 };
	if (it->size > PARSE_MAX)
		return ERR_TOOBIG;
	int r = store_body_read(acc, it->body_id, 0, it->size, &m.bytes);
	if (r < 0) {
		buf_done(&m.bytes);
		return r;
	}
	if (j->env->poison &&
	    poison_enter(j->env->poison, POISON_IMAP, buf_span(&m.bytes), &m.slot)) {
		count_add(COUNT_POISON, 1);
		log_event(LOG_ALARM, "imap.poison", F_STR("account", j->st->account_id),
			  F_ID("id", &it->trace));
		m.slot = -1;
	} else {
		m.root = mime_parse(buf_span(&m.bytes), mem);
	}
	*ret = m;
	return 0;
}

void imap_message_done(struct imap_job *j, struct imap_message *m)
{
	if (m->slot >= 0)
		poison_leave(j->env->poison, m->slot);
	buf_done(&m->bytes);
	*m = (struct imap_message){ .slot = -1 };
}

/* --- header fields --- */

static bool listed(const struct imap_fetch_item *f, span name)
{
	for (size_t i = 0; i < f->n_fields; i++)
		if (span_ieq(f->fields[i], name))
			return true;
	return false;
}

/* HEADER.FIELDS(.NOT): the chosen fields as they stand, and the empty line. */
static span filter_fields(const struct imap_fetch_item *f, span header, struct arena *mem)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(FIELDS_MAX);
	struct header_field h;
	size_t at = 0;
	bool bad = false, not = f->what == IMAP_SECTION_FIELDS_NOT;
	while (header_next(header, &at, &h, &bad)) {
		if (listed(f, h.name) == not )
			continue;
		if (buf_put_span(&b, h.raw) < 0)
			break;
		if (!span_iends(h.raw, SPAN("\n")))
			buf_put_str(&b, "\r\n");
	}
	b.failed = false;
	buf_put_str(&b, "\r\n");
	return arena_span(mem, buf_span(&b));
}

/* --- sections --- */

static struct imap_bytes stored(uint64_t from, uint64_t end)
{
	return (struct imap_bytes){ .stored = true,
				    .from = from,
				    .n = end > from ? end - from : 0 };
}

static struct imap_bytes text(span s)
{
	return (struct imap_bytes){ .text = s, .n = s.n };
}

static int of_message(struct account *acc, const struct store_item *it,
		      const struct imap_fetch_item *f, struct arena *mem, struct imap_bytes *ret)
{
	span header;
	int r;
	switch (f->what) {
	case IMAP_SECTION_HEADER:
		*ret = stored(0, it->header_size);
		return 0;
	case IMAP_SECTION_TEXT:
		*ret = stored(it->header_size, it->size);
		return 0;
	case IMAP_SECTION_FIELDS:
	case IMAP_SECTION_FIELDS_NOT:
		r = store_text_get(acc, it->body_id, mem, &header);
		if (r == 0)
			*ret = text(filter_fields(f, header, mem));
		return r;
	default:
		*ret = stored(0, it->size);
		return 0;
	}
}

static bool is_message(const struct mime_part *p)
{
	return p->child && span_ieq_str(p->type, "MESSAGE");
}

static struct imap_bytes of_part(const struct imap_message *m, const struct imap_fetch_item *f,
				 struct arena *mem)
{
	const struct mime_part *p = mime_part_by_path(m->root, f->path, f->n_path);
	const struct imap_bytes nothing = { .nil = true };
	if (!p)
		return nothing;
	if (f->what == IMAP_SECTION_ALL)
		return stored(p->body, p->end);
	if (f->what == IMAP_SECTION_MIME)
		return stored(p->start, p->body);
	if (!is_message(p)) /* HEADER and TEXT are those of an embedded message */
		return nothing;
	if (f->what == IMAP_SECTION_HEADER)
		return stored(p->child->start, p->child->body);
	if (f->what == IMAP_SECTION_TEXT)
		return stored(p->child->body, p->end);
	span header = span_sub(buf_span(&m->bytes), p->child->start,
			       p->child->body - p->child->start);
	return text(filter_fields(f, header, mem));
}

/* A message that must not be parsed is one opaque part: 1 is its text. */
static struct imap_bytes of_opaque(const struct store_item *it, const struct imap_fetch_item *f)
{
	if (f->n_path == 1 && f->path[0] == 1 && f->what == IMAP_SECTION_ALL)
		return stored(it->header_size, it->size);
	return (struct imap_bytes){ .nil = true };
}

static void cut_partial(const struct imap_fetch_item *f, struct imap_bytes *b)
{
	if (!f->partial || b->nil)
		return;
	uint64_t from = MIN((uint64_t)f->from, b->n), n = MIN((uint64_t)f->count, b->n - from);
	b->from += from;
	b->n = n;
	if (!b->stored)
		b->text = span_sub(b->text, from, n);
}

int imap_sections(struct imap_job *j, struct account *acc, const struct store_item *it,
		  const struct imap_fetch_args *a, struct arena *mem, struct imap_bytes *ret)
{
	struct imap_message m = { .slot = -1 };
	bool opened = false, opaque = false;
	int r = 0;
	for (size_t i = 0; i < a->n && r == 0; i++) {
		const struct imap_fetch_item *f = &a->items[i];
		if (f->kind != IMAP_FETCH_SECTION)
			continue;
		if (f->n_path && !opened && !opaque) {
			r = imap_message_open(j, acc, it, mem, &m);
			opened = r == 0;
			opaque = r == ERR_TOOBIG || (opened && !m.root);
			if (r == ERR_TOOBIG)
				r = 0;
			if (r < 0)
				break;
		}
		if (!f->n_path)
			r = of_message(acc, it, f, mem, &ret[i]);
		else
			ret[i] = opaque ? of_opaque(it, f) : of_part(&m, f, mem);
		cut_partial(f, &ret[i]);
	}
	if (opened)
		imap_message_done(j, &m);
	return r;
}

#include "base/log.h"
#include "format/header.h"
#include "imap/session_int.h"

#include <stdlib.h>

/* FETCH (RFC 3501 6.4.5, 7.4.2), resumable: when enough output waits in front, the cursor stays in
 * the session and the job ends; SESS_IN_DRAINED goes on.  Between two pieces nothing of the store
 * is held. */

enum { PIECE = 256 * 1024 };

struct imap_fetch {
	struct arena mem; /* of the command */
	struct imap_args args;
	bool kept; /* ARGS points into MEM */
	const char *tag;
	struct imap_rows rows;
	size_t range; /* cursor: the row to open next */
	uint32_t row;
	const struct store_view *flags; /* the view after \Seen was set; NULL: the told one */
	bool lost;			/* a message was expunged by somebody else */
	/* the message that is open */
	bool open, needs_item;
	struct arena msg;
	struct store_item item;
	struct imap_bytes *bytes; /* by item */
	size_t next;		  /* item to write */
	uint64_t at;		  /* bytes of its section that are written */
	bool announced;		  /* its literal's size is written */
	const char *sep;
	bool tell_flags; /* \Seen was set by this command and FLAGS is not among the items */
};

void imap_fetch_free(struct imap_fetch *f)
{
	if (!f)
		return;
	store_view_put(f->flags);
	arena_done(&f->msg);
	arena_done(&f->mem);
	free(f);
}

/* --- starting --- */

/* One commit for the whole set, before the first answer. */
static int set_seen(struct imap_job *j, struct imap_fetch *f)
{
	struct imap_session *st = j->st;
	struct account *acc;
	size_t n = 0;
	int r = imap_account(j, &acc);
	if (r < 0)
		return r;
	struct imap_uid *uids;
	size_t all = imap_rows_uids(st->view, &f->rows, j->s->mem, &uids);
	for (size_t i = 0; i < all; i++) {
		bool found;
		uint32_t at = imap_view_find(st->view, uids[i].v, &found);
		if (!(st->view->rows[at].flags & FLAG_SEEN))
			uids[n++] = uids[i];
	}
	if (!n)
		return 0;
	struct store_flags seen = { .system = FLAG_SEEN };
	uint64_t modseq = 0;
	r = store_flags(acc, st->mailbox, uids, n, STORE_FLAGS_ADD, &seen, 0, &modseq, NULL, NULL);
	if (r == 0)
		r = store_view_get(acc, st->mailbox, &f->flags);
	if (r == 0)
		st->quiet_modseq = modseq;
	return r;
}

static bool item_needed(const struct imap_fetch_args *a)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->items[i].kind != IMAP_FETCH_UID && a->items[i].kind != IMAP_FETCH_FLAGS)
			return true;
	return false;
}

static bool has_item(const struct imap_fetch_args *a, enum imap_fetch_kind kind)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->items[i].kind == kind)
			return true;
	return false;
}

/* UID FETCH tells UIDs always (6.4.8). */
static void add_uid(struct imap_fetch *f)
{
	struct imap_fetch_args *a = &f->args.fetch;
	if (!f->args.uid || has_item(a, IMAP_FETCH_UID))
		return;
	struct imap_fetch_item *items = arena_array(&f->mem, struct imap_fetch_item, a->n + 1);
	items[0].kind = IMAP_FETCH_UID;
	memcpy(items + 1, a->items, a->n * sizeof(*items));
	a->items = items;
	a->n++;
}

struct imap_answer imap_cmd_fetch(struct imap_job *j, struct imap_args *a)
{
	struct imap_fetch *f = xcalloc(1, sizeof(*f));
	arena_init(&f->mem);
	arena_init(&f->msg);
	f->args = *a;
	if (imap_rows_of(j->st->view, &a->set, a->uid, &f->mem, &f->rows) < 0) {
		imap_fetch_free(f);
		return imap_bad("No such message number");
	}
	if (a->fetch.sets_seen && !j->st->readonly) {
		int r = set_seen(j, f);
		if (r < 0) {
			imap_fetch_free(f);
			return imap_error(r == ERR_NOENT ? ERR_IO : r);
		}
	}
	f->tag = arena_cstr(&f->mem, a->tag);
	f->row = f->rows.n ? f->rows.r[0].from : 0;
	f->needs_item = item_needed(&a->fetch);
	add_uid(f);
	j->st->fetch = f;
	imap_fetch_run(j);
	return imap_later();
}

/* The arguments point into the job's arena; a FETCH that waits needs them in its own. */
static void keep_arguments(struct imap_fetch *f)
{
	struct imap_fetch_args *a = &f->args.fetch;
	if (f->kept)
		return;
	f->kept = true;
	struct imap_fetch_item *items = arena_array(&f->mem, struct imap_fetch_item, a->n);
	for (size_t i = 0; i < a->n; i++) {
		items[i] = a->items[i];
		struct imap_fetch_item *it = &items[i];
		it->label = arena_span(&f->mem, it->label);
		it->path = arena_array(&f->mem, unsigned, it->n_path);
		if (it->n_path)
			memcpy(it->path, a->items[i].path, it->n_path * sizeof(*it->path));
		it->fields = arena_array(&f->mem, span, it->n_fields);
		for (size_t k = 0; k < it->n_fields; k++)
			it->fields[k] = arena_span(&f->mem, a->items[i].fields[k]);
	}
	a->items = items;
}

/* --- one message --- */

/* The row with the flags as they are now for us. */
static const struct store_row *current_row(const struct imap_session *st,
					   const struct imap_fetch *f)
{
	const struct store_row *told = &st->view->rows[f->row];
	bool found = false;
	uint32_t at = f->flags ? imap_view_find(f->flags, told->uid, &found) : 0;
	return found ? &f->flags->rows[at] : told;
}

/* 1: open; 0: gone, skipped; negative: failed. */
static int open_message(struct imap_job *j, struct imap_fetch *f)
{
	struct imap_session *st = j->st;
	const struct imap_fetch_args *a = &f->args.fetch;
	const struct store_row *told = &st->view->rows[f->row];
	arena_reset(&f->msg);
	if (f->needs_item) {
		struct account *acc;
		unsigned want = (has_item(a, IMAP_FETCH_ENVELOPE) ? STORE_WANT_ENVELOPE : 0) |
				(has_item(a, IMAP_FETCH_BODY) ||
						 has_item(a, IMAP_FETCH_BODYSTRUCTURE)
					 ? STORE_WANT_STRUCTURE
					 : 0);
		int r = imap_account(j, &acc);
		if (r == 0)
			r = store_item_get(acc, st->mailbox, (struct imap_uid){ told->uid }, want,
					   &f->msg, &f->item);
		f->bytes = arena_array(&f->msg, struct imap_bytes, a->n);
		if (r == 0)
			r = imap_sections(j, acc, &f->item, a, &f->msg, f->bytes);
		if (r < 0)
			return r == ERR_NOENT ? 0 : r;
	}
	f->tell_flags = f->flags && !(told->flags & FLAG_SEEN) && !has_item(a, IMAP_FETCH_FLAGS);
	f->open = true;
	f->next = 0;
	f->at = 0;
	f->announced = false;
	f->sep = "";
	buf_printf(sess_out(j->s), "* %u FETCH (", f->row + 1);
	return 1;
}

static void put_flags(struct imap_job *j, struct imap_fetch *f)
{
	const struct store_row *r = current_row(j->st, f);
	struct imap_keywords k = { .n = 0 };
	if (r->keywords)
		imap_keywords_load(j, &k);
	struct buf *b = sess_out(j->s);
	buf_put_str(b, "FLAGS ");
	imap_flags_put(b, r, &k, imap_is_recent(j->st, r->uid));
}

static void put_plain(struct imap_job *j, struct imap_fetch *f, const struct imap_fetch_item *it)
{
	struct buf *b = sess_out(j->s);
	switch (it->kind) {
	case IMAP_FETCH_UID:
		buf_printf(b, "UID %u", j->st->view->rows[f->row].uid);
		break;
	case IMAP_FETCH_FLAGS:
		put_flags(j, f);
		break;
	case IMAP_FETCH_INTERNALDATE:
		buf_put_str(b, "INTERNALDATE \"");
		date_imap_put(b, f->item.internal_date, 0);
		buf_put_char(b, '"');
		break;
	case IMAP_FETCH_SIZE:
		buf_put_str(b, "RFC822.SIZE ");
		buf_put_u64(b, f->item.size);
		break;
	case IMAP_FETCH_ENVELOPE:
		buf_put_str(b, "ENVELOPE ");
		buf_put_span(b, f->item.envelope);
		break;
	case IMAP_FETCH_BODY:
		buf_put_str(b, "BODY ");
		buf_put_span(b, f->item.body);
		break;
	default:
		buf_put_str(b, "BODYSTRUCTURE ");
		buf_put_span(b, f->item.bodystructure);
		break;
	}
}

static void announce(struct imap_job *j, struct imap_fetch *f, const struct imap_fetch_item *it,
		     uint64_t n)
{
	struct buf *b = sess_out(j->s);
	buf_put_span(b, it->label);
	buf_put_str(b, " {");
	buf_put_u64(b, n);
	buf_put_str(b, "}\r\n");
	f->announced = true;
}

/* One piece of a stored section; negative: it cannot be read. */
static int put_piece(struct imap_job *j, struct imap_fetch *f, const struct imap_fetch_item *it,
		     const struct imap_bytes *s)
{
	_cleanup_(buf_donep) struct buf piece = BUF_INIT(PIECE);
	uint64_t n = MIN(s->n - f->at, (uint64_t)PIECE);
	struct account *acc;
	int r = imap_account(j, &acc);
	if (r == 0 && n)
		r = store_body_read(acc, f->item.body_id, s->from + f->at, n, &piece);
	if (r == 0 && piece.n != n)
		r = ERR_CORRUPT;
	if (r < 0)
		return r;
	if (!f->announced)
		announce(j, f, it, s->n);
	sess_write(j->s, buf_span(&piece));
	f->at += n;
	return 0;
}

/* 1: the section is complete; 0: more to come. */
static int put_section(struct imap_job *j, struct imap_fetch *f, const struct imap_fetch_item *it)
{
	const struct imap_bytes *s = &f->bytes[f->next];
	if (s->nil) {
		struct buf *b = sess_out(j->s);
		buf_put_span(b, it->label);
		buf_put_str(b, " NIL");
		return 1;
	}
	if (!s->stored) {
		announce(j, f, it, s->n);
		sess_write(j->s, s->text);
		return 1;
	}
	int r = put_piece(j, f, it, s);
	return r < 0 ? r : f->at == s->n;
}

static bool must_drain(struct imap_job *j)
{
	return sess_unsent(j->s) >= SESS_OUT_HIGH;
}

/* 1: the message is written; 0: output must drain first. */
static int write_message(struct imap_job *j, struct imap_fetch *f)
{
	const struct imap_fetch_args *a = &f->args.fetch;
	while (f->next < a->n) {
		const struct imap_fetch_item *it = &a->items[f->next];
		if (!f->announced)
			buf_put_str(sess_out(j->s), f->sep);
		f->sep = " ";
		int r = 1;
		if (it->kind == IMAP_FETCH_SECTION)
			r = put_section(j, f, it);
		else
			put_plain(j, f, it);
		if (r < 0)
			return r;
		if (r == 1) {
			f->next++;
			f->at = 0;
			f->announced = false;
		}
		if (must_drain(j) && (f->next < a->n || f->announced))
			return 0;
	}
	if (f->tell_flags) {
		buf_put_str(sess_out(j->s), f->sep);
		put_flags(j, f);
	}
	buf_put_str(sess_out(j->s), ")\r\n");
	f->open = false;
	return 1;
}

/* --- all of them --- */

static bool next_row(struct imap_fetch *f)
{
	if (++f->row < f->rows.r[f->range].to)
		return true;
	if (++f->range == f->rows.n)
		return false;
	f->row = f->rows.r[f->range].from;
	return true;
}

static void finish(struct imap_job *j, struct imap_answer answer)
{
	struct imap_fetch *f = j->st->fetch;
	bool hold = !f->args.uid;
	const char *tag = arena_cstr(j->s->mem, span_str(f->tag));
	j->st->fetch = NULL;
	imap_fetch_free(f);
	imap_finish(j, tag, &answer, hold);
}

static void fail(struct imap_job *j, int r)
{
	struct imap_fetch *f = j->st->fetch;
	bool open = f->open;
	log_event(LOG_ERROR, "imap.fetch", F_STR("account", j->st->account_id),
		  F_U64("uid", j->st->view->rows[f->row].uid), F_ERR(r));
	if (!open) {
		finish(j, imap_no("[UNAVAILABLE] Message cannot be read now"));
		return;
	}
	/* Inside a response: only the end of the connection is unambiguous. */
	imap_fetch_free(f);
	j->st->fetch = NULL;
	j->st->closing = true;
}

void imap_fetch_run(struct imap_job *j)
{
	struct imap_fetch *f = j->st->fetch;
	bool more = f->range < f->rows.n;
	while (more && !sess_is_gone(j->s)) {
		int r = f->open ? 1 : open_message(j, f);
		f->lost |= r == 0;
		if (r == 1) {
			r = write_message(j, f);
			if (r == 0)
				break;
		}
		if (r < 0) {
			fail(j, r);
			return;
		}
		more = next_row(f);
		if (more && must_drain(j))
			break;
	}
	if (more) {
		keep_arguments(f);
		return;
	}
	if (f->lost && !f->args.uid)
		finish(j, imap_no("[EXPUNGEISSUED] Some of the messages are expunged"));
	else
		finish(j, imap_ok("FETCH completed"));
}

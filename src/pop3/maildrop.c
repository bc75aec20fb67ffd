#include "pop3/session_int.h"

#include <stdlib.h>

#include "base/log.h"

/* The maildrop: INBOX as it was at the login (RFC 1939 5, 7). */

enum { PIECE = 256 * 1024 };

int pop3_maildrop_open(struct pop3_job *j)
{
	struct pop3_session *st = j->st;
	struct account *a;
	struct mailbox_info m;
	const struct store_view *v;
	int r = pop3_account(j, &a);
	if (r < 0 || (r = store_mailbox_find(a, SPAN("INBOX"), j->s->mem, &m)) < 0 ||
	    (r = store_view_get(a, m.id, &v)) < 0)
		return r;
	st->mailbox = m.id;
	st->uidvalidity = v->uidvalidity;
	free(st->messages);
	st->messages = xcalloc(MAX(v->n, 1u), sizeof(*st->messages));
	st->n = 0;
	for (uint32_t i = 0; i < v->n && r >= 0; i++) {
		struct store_item it;
		r = store_item_get(a, m.id, (struct imap_uid){ v->rows[i].uid }, 0, j->s->mem, &it);
		if (r == 0)
			st->messages[st->n++] = (struct pop3_message){ .uid = v->rows[i].uid,
								       .size = it.size };
		else if (r == ERR_NOENT) /* expunged since the view was taken */
			r = 0;
	}
	store_view_put(v);
	return r;
}

/* The message A names, or NULL after an -ERR. */
static struct pop3_message *message(struct pop3_job *j, const struct pop3_args *a)
{
	struct pop3_session *st = j->st;
	if (a->number <= st->n && !st->messages[a->number - 1].deleted)
		return &st->messages[a->number - 1];
	pop3_err(j, "No such message");
	return NULL;
}

static void totals(const struct pop3_session *st, size_t *ret_n, uint64_t *ret_bytes)
{
	size_t n = 0;
	uint64_t bytes = 0;
	for (size_t i = 0; i < st->n; i++)
		if (!st->messages[i].deleted) {
			n++;
			bytes += st->messages[i].size;
		}
	*ret_n = n;
	*ret_bytes = bytes;
}

void pop3_cmd_stat(struct pop3_job *j, const struct pop3_args *a)
{
	size_t n;
	uint64_t bytes;
	totals(j->st, &n, &bytes);
	buf_printf(sess_out(j->s), "+OK %zu %llu\r\n", n, (unsigned long long)bytes);
}

/* One line of LIST or UIDL.  The id is UIDVALIDITY and UID, so it never names another message. */
static void put_line(struct pop3_job *j, bool uidl, size_t i, const char *before)
{
	const struct pop3_message *m = &j->st->messages[i];
	struct buf *b = sess_out(j->s);
	if (uidl)
		buf_printf(b, "%s%zu %u-%u\r\n", before, i + 1, j->st->uidvalidity, m->uid);
	else
		buf_printf(b, "%s%zu %llu\r\n", before, i + 1, (unsigned long long)m->size);
}

void pop3_cmd_list(struct pop3_job *j, const struct pop3_args *a)
{
	struct pop3_session *st = j->st;
	bool uidl = a->cmd->id == POP3_UIDL;
	if (a->number) {
		if (message(j, a))
			put_line(j, uidl, a->number - 1, "+OK ");
		return;
	}
	size_t n;
	uint64_t bytes;
	totals(st, &n, &bytes);
	buf_printf(sess_out(j->s), "+OK %zu messages\r\n", n);
	st->output = uidl ? POP3_OUT_UIDL : POP3_OUT_LIST;
	st->at_message = 0;
	pop3_output_run(j);
}

void pop3_cmd_dele(struct pop3_job *j, const struct pop3_args *a)
{
	struct pop3_message *m = message(j, a);
	if (!m)
		return;
	m->deleted = true;
	pop3_ok(j, "Marked to be deleted");
}

void pop3_cmd_rset(struct pop3_job *j, const struct pop3_args *a)
{
	for (size_t i = 0; i < j->st->n; i++)
		j->st->messages[i].deleted = false;
	pop3_ok(j, "Nothing is marked");
}

/* The UPDATE state: the only place where messages are removed. */
static int update(struct pop3_job *j)
{
	struct pop3_session *st = j->st;
	struct imap_uid *uids = arena_array(j->s->mem, struct imap_uid, st->n);
	struct account *a;
	size_t n = 0, removed;
	for (size_t i = 0; i < st->n; i++)
		if (st->messages[i].deleted)
			uids[n++].v = st->messages[i].uid;
	if (!n)
		return 0;
	int r = pop3_account(j, &a);
	return r < 0 ? r : store_expunge(a, st->mailbox, uids, n, false, &removed);
}

void pop3_cmd_quit(struct pop3_job *j, const struct pop3_args *a)
{
	j->st->closing = true;
	if (j->st->state == POP3_IN_TRANSACTION && update(j) < 0)
		pop3_err(j, "[SYS/TEMP] Some deleted messages were not removed");
	else
		pop3_ok(j, "Bye");
}

/* --- RETR and TOP --- */

void pop3_cmd_retr(struct pop3_job *j, const struct pop3_args *a)
{
	struct pop3_session *st = j->st;
	struct pop3_message *m = message(j, a);
	struct account *acc;
	struct store_item it;
	if (!m)
		return;
	int r = pop3_account(j, &acc);
	if (r == 0)
		r = store_item_get(acc, st->mailbox, (struct imap_uid){ m->uid }, 0, j->s->mem,
				   &it);
	if (r < 0) {
		pop3_err(j, r == ERR_NOENT ? "Message is gone"
					   : "[SYS/TEMP] Message cannot be read now");
		return;
	}
	st->output = POP3_OUT_MESSAGE;
	st->body_id = it.body_id;
	st->from = 0;
	st->end = it.size;
	st->header_end = it.header_size;
	st->limited = a->cmd->id == POP3_TOP;
	st->lines_left = a->lines;
	st->line_start = true;
	st->last = 0;
	buf_printf(sess_out(j->s), "+OK %llu octets\r\n", (unsigned long long)it.size);
	pop3_output_run(j);
}

/* How many bytes of PIECE, which starts at st->from, TOP still shows. */
static size_t within_top(struct pop3_session *st, span piece)
{
	size_t i = st->from < st->header_end
			   ? (size_t)MIN(st->header_end - st->from, (uint64_t)piece.n)
			   : 0;
	while (i < piece.n && st->lines_left) {
		const char *lf = memchr(piece.p + i, '\n', piece.n - i);
		if (!lf)
			return piece.n;
		i = (size_t)(lf - piece.p) + 1;
		st->lines_left--;
	}
	return i;
}

/* A dot at the start of a line is doubled (RFC 1939 3), also behind a bare LF: readers that take it
 * for a line end would otherwise see the end of the message there. */
static void put_stuffed(struct pop3_job *j, span s)
{
	struct pop3_session *st = j->st;
	while (s.n) {
		size_t lf = span_find(s, '\n');
		span line = lf == SPAN_NPOS ? s : span_sub(s, 0, lf + 1);
		if (st->line_start && line.p[0] == '.')
			sess_write(j->s, SPAN("."));
		sess_write(j->s, line);
		st->line_start = lf != SPAN_NPOS;
		st->ends_crlf = line.p[line.n - 1] == '\n' &&
				(line.n > 1 ? line.p[line.n - 2] : st->last) == '\r';
		st->last = line.p[line.n - 1];
		s = span_from(s, line.n);
	}
}

static void end_message(struct pop3_job *j)
{
	struct pop3_session *st = j->st;
	bool complete = st->ends_crlf ||
			st->last == 0; /* nothing was written: no empty line either */
	sess_write(j->s, complete ? SPAN(".\r\n") : SPAN("\r\n.\r\n"));
	st->output = POP3_OUT_NONE;
}

static void message_piece(struct pop3_job *j)
{
	struct pop3_session *st = j->st;
	_cleanup_(buf_donep) struct buf piece = BUF_INIT(PIECE);
	uint64_t n = MIN(st->end - st->from, (uint64_t)PIECE);
	struct account *a;
	int r = pop3_account(j, &a);
	if (r == 0 && n)
		r = store_body_read(a, st->body_id, st->from, n, &piece);
	if (r < 0 ||
	    piece.n != n) { /* within an answer only the end of the connection is unambiguous */
		log_event(LOG_ERROR, "pop3.retr", F_STR("account", st->account_id),
			  F_ERR(r < 0 ? r : ERR_CORRUPT));
		st->output = POP3_OUT_NONE;
		st->closing = true;
		return;
	}
	size_t shown = st->limited ? within_top(st, buf_span(&piece)) : piece.n;
	put_stuffed(j, span_sub(buf_span(&piece), 0, shown));
	st->from += n;
	if (st->from == st->end || shown < piece.n)
		end_message(j);
}

static void list_piece(struct pop3_job *j)
{
	struct pop3_session *st = j->st;
	size_t stop = MIN(st->n, st->at_message + 1024);
	for (; st->at_message < stop; st->at_message++)
		if (!st->messages[st->at_message].deleted)
			put_line(j, st->output == POP3_OUT_UIDL, st->at_message, "");
	if (st->at_message < st->n)
		return;
	sess_write(j->s, SPAN(".\r\n"));
	st->output = POP3_OUT_NONE;
}

void pop3_output_run(struct pop3_job *j)
{
	while (j->st->output != POP3_OUT_NONE && !sess_is_gone(j->s) &&
	       sess_unsent(j->s) < SESS_OUT_HIGH) {
		if (j->st->output == POP3_OUT_MESSAGE)
			message_piece(j);
		else
			list_piece(j);
	}
}

#include "imap/session_int.h"

/* STORE, COPY, MOVE, EXPUNGE (RFC 3501 6.4.3, 6.4.6, 6.4.7; RFC 4315; RFC 6851). */

static int resolve(struct imap_job *j, const struct imap_args *a, struct imap_rows *rows,
		   struct imap_uid **ret_uids, size_t *ret_n)
{
	int r = imap_rows_of(j->st->view, &a->set, a->uid, j->s->mem, rows);
	if (r == 0)
		*ret_n = imap_rows_uids(j->st->view, rows, j->s->mem, ret_uids);
	return r;
}

/* The new flags of each message of the set, whether they changed or not (6.4.6). */
static void tell_result(struct imap_job *j, const struct imap_args *a, const struct imap_rows *rows)
{
	struct imap_session *st = j->st;
	struct account *acc;
	const struct store_view *now;
	struct imap_keywords k;
	if (imap_account(j, &acc) < 0 || store_view_get(acc, st->mailbox, &now) < 0)
		return;
	if (imap_keywords_load(j, &k) == 0 && k.n > st->keywords_told)
		imap_flags_announce(j, &k);
	for (size_t i = 0; i < rows->n; i++)
		for (uint32_t n = rows->r[i].from; n < rows->r[i].to; n++) {
			bool found;
			uint32_t at = imap_view_find(now, st->view->rows[n].uid, &found);
			if (!found)
				continue;
			struct buf *b = sess_out(j->s);
			buf_printf(b, "* %u FETCH (", n + 1);
			if (a->uid)
				buf_printf(b, "UID %u ", now->rows[at].uid);
			buf_put_str(b, "FLAGS ");
			imap_flags_put(b, &now->rows[at], &k,
				       imap_is_recent(st, now->rows[at].uid));
			buf_put_str(b, ")\r\n");
		}
	store_view_put(now);
}

struct imap_answer imap_cmd_store(struct imap_job *j, struct imap_args *a)
{
	static const enum store_flag_op ops[] = { [IMAP_STORE_SET] = STORE_FLAGS_SET,
						  [IMAP_STORE_ADD] = STORE_FLAGS_ADD,
						  [IMAP_STORE_REMOVE] = STORE_FLAGS_REMOVE };
	struct account *acc;
	struct imap_rows rows;
	struct imap_uid *uids;
	struct store_flags flags;
	uint64_t modseq = 0;
	size_t n;
	if (resolve(j, a, &rows, &uids, &n) < 0)
		return imap_bad("No such message number");
	int r = imap_account(j, &acc);
	if (r == 0)
		r = imap_flags_resolve(acc, &a->flags, a->op != IMAP_STORE_REMOVE, &flags);
	if (r == 0 && n > 0) {
		r = store_flags(acc, j->st->mailbox, uids, n, ops[a->op], &flags, 0, &modseq, NULL,
				NULL);
		if (r == 0)
			j->st->quiet_modseq = modseq;
	}
	if (r < 0)
		return r == ERR_TOOBIG ? imap_no("[LIMIT] Too many keywords in this account")
				       : imap_error(r);
	if (!a->silent)
		tell_result(j, a, &rows);
	return imap_ok("STORE completed");
}

/* "[COPYUID validity from to]" for what was copied. */
static char *copyuid(struct imap_job *j, uint32_t uidvalidity, const struct imap_uid *old,
		     const struct imap_uid *new, size_t n)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(SIZE_MAX);
	uint32_t *v = arena_array(j->s->mem, uint32_t, n);
	buf_printf(&b, "[COPYUID %u ", uidvalidity);
	for (size_t i = 0; i < n; i++)
		v[i] = old[i].v;
	imap_set_put(&b, v, n);
	buf_put_char(&b, ' ');
	for (size_t i = 0; i < n; i++)
		v[i] = new[i].v;
	imap_set_put(&b, v, n);
	buf_put_char(&b, ']');
	return arena_cstr(j->s->mem, buf_span(&b));
}

static int copy(struct imap_job *j, const struct imap_args *a, struct imap_uid *uids, size_t n,
		char **ret_code)
{
	struct account *acc;
	struct mailbox_info to;
	uint32_t uidvalidity = 0;
	size_t copied = 0;
	int r = imap_account(j, &acc);
	if (r < 0 || (r = store_mailbox_find(acc, a->mailbox[0], j->s->mem, &to)) < 0)
		return r;
	if (!to.selectable)
		return ERR_NOENT;
	if (n == 0)
		return 0;
	struct imap_uid *old = arena_array(j->s->mem, struct imap_uid, n),
			*new = arena_array(j->s->mem, struct imap_uid, n);
	r = store_copy(acc, j->st->mailbox, uids, n, to.id, a->cmd->id == IMAP_MOVE, old, new,
		       &copied, &uidvalidity);
	if (r == 0 && copied)
		*ret_code = copyuid(j, uidvalidity, old, new, copied);
	return r;
}

struct imap_answer imap_cmd_copy(struct imap_job *j, struct imap_args *a)
{
	bool move = a->cmd->id == IMAP_MOVE;
	struct imap_rows rows;
	struct imap_uid *uids;
	size_t n;
	char *code = NULL;
	if (resolve(j, a, &rows, &uids, &n) < 0)
		return imap_bad("No such message number");
	int r = copy(j, a, uids, n, &code);
	if (r == ERR_NOENT)
		return imap_no("[TRYCREATE] No such mailbox");
	if (r < 0)
		return imap_error(r);
	if (move) { /* before the EXPUNGEs, which come with the end of the command (RFC 6851 4.3) */
		if (code)
			buf_printf(sess_out(j->s), "* OK %s Moved\r\n", code);
		return imap_ok("MOVE completed");
	}
	return imap_ok(code ? arena_printf(j->s->mem, "%s COPY completed", code)
			    : "COPY completed, no message found");
}

struct imap_answer imap_cmd_expunge(struct imap_job *j, struct imap_args *a)
{
	struct account *acc;
	struct imap_rows rows;
	struct imap_uid *uids = NULL;
	size_t n = 0, count;
	if (a->uid && (resolve(j, a, &rows, &uids, &n) < 0 || n == 0))
		return imap_ok("EXPUNGE completed");
	int r = imap_account(j, &acc);
	if (r == 0)
		r = store_expunge(acc, j->st->mailbox, uids, n, true, &count);
	return r < 0 ? imap_error(r) : imap_ok("EXPUNGE completed");
}

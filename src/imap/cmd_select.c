#include "imap/session_int.h"

/* SELECT, EXAMINE, CLOSE, UNSELECT, CHECK (RFC 3501 6.3.1, 6.3.2, 6.4.1, 6.4.2; RFC 3691). */

static void describe(struct imap_job *j)
{
	struct imap_session *st = j->st;
	const struct store_view *v = st->view;
	struct imap_keywords k = { .n = 0 };
	imap_keywords_load(j, &k);
	imap_flags_announce(j, &k);
	uint32_t unseen = 0, recent = 0;
	for (uint32_t i = 0; i < v->n; i++) {
		if (!unseen && !(v->rows[i].flags & FLAG_SEEN))
			unseen = i + 1;
		recent += imap_is_recent(st, v->rows[i].uid);
	}
	struct buf *b = sess_out(j->s);
	buf_printf(b, "* %u EXISTS\r\n* %u RECENT\r\n", v->n, recent);
	if (unseen)
		buf_printf(b, "* OK [UNSEEN %u] First unseen message\r\n", unseen);
	buf_printf(b, "* OK [UIDVALIDITY %u] UIDs are valid\r\n* OK [UIDNEXT %u] Next UID\r\n",
		   v->uidvalidity, v->uidnext);
}

static int open_mailbox(struct imap_job *j, span name, bool readonly)
{
	struct imap_session *st = j->st;
	struct account *a;
	struct mailbox_info m;
	int r = imap_account(j, &a);
	if (r < 0 || (r = store_mailbox_find(a, name, j->s->mem, &m)) < 0)
		return r;
	if (!m.selectable)
		return ERR_NOENT;
	r = store_view_get(a, m.id, &st->view);
	if (r < 0)
		return r;
	st->mailbox = m.id;
	st->readonly = readonly;
	st->recent_from = st->view->uidnext; /* recent is what arrives while we look */
	st->state = IMAP_IN_SELECTED;
	return 0;
}

struct imap_answer imap_cmd_select(struct imap_job *j, struct imap_args *a)
{
	bool readonly = a->cmd->id == IMAP_EXAMINE;
	imap_deselect(j->st); /* also when the new one cannot be opened */
	int r = open_mailbox(j, a->mailbox[0], readonly);
	if (r < 0)
		return imap_error(r);
	describe(j);
	return imap_ok(readonly ? "[READ-ONLY] EXAMINE completed"
				: "[READ-WRITE] SELECT completed");
}

struct imap_answer imap_cmd_close(struct imap_job *j, struct imap_args *a)
{
	struct imap_session *st = j->st;
	int r = 0;
	if (!st->readonly) {
		struct account *acc;
		size_t count;
		r = imap_account(j, &acc);
		if (r == 0)
			r = store_expunge(acc, st->mailbox, NULL, 0, true, &count);
	}
	if (r < 0 && r != ERR_NOENT)
		return imap_error(r);
	imap_deselect(st);
	return imap_ok("CLOSE completed");
}

struct imap_answer imap_cmd_unselect(struct imap_job *j, struct imap_args *a)
{
	imap_deselect(j->st);
	return imap_ok("UNSELECT completed");
}

/* Everything answered is on disk already: there is no checkpoint to ask for. */
struct imap_answer imap_cmd_check(struct imap_job *j, struct imap_args *a)
{
	return imap_ok("CHECK completed");
}

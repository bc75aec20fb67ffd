#include "format/imapfmt.h"
#include "imap/session_int.h"

/* CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS, NAMESPACE (RFC 3501 6.3.3-6.3.10, RFC
 * 2342). */

/* "a/b/" announces that names will be made below it: the separator goes (6.3.3). */
static span without_separator(span name)
{
	return name.n > 1 && name.p[name.n - 1] == '/' ? span_sub(name, 0, name.n - 1) : name;
}

struct imap_answer imap_cmd_create(struct imap_job *j, struct imap_args *a)
{
	struct account *acc;
	int64_t id;
	if (a->bad_use)
		return imap_no("[USEATTR] Special use is not supported");
	int r = imap_account(j, &acc);
	if (r == 0)
		r = store_mailbox_create(acc, without_separator(a->mailbox[0]), a->special, &id);
	return r < 0 ? imap_error(r) : imap_ok("CREATE completed");
}

/* The session's own mailbox may be deleted too: then none is selected. */
struct imap_answer imap_cmd_delete(struct imap_job *j, struct imap_args *a)
{
	struct account *acc;
	struct mailbox_info m;
	int r = imap_account(j, &acc);
	if (r == 0)
		r = store_mailbox_find(acc, a->mailbox[0], j->s->mem, &m);
	if (r == 0)
		r = store_mailbox_delete(acc, a->mailbox[0]);
	if (r < 0)
		return imap_error(r);
	if (m.id == j->st->mailbox)
		imap_deselect(j->st);
	return imap_ok("DELETE completed");
}

struct imap_answer imap_cmd_rename(struct imap_job *j, struct imap_args *a)
{
	struct account *acc;
	int r = imap_account(j, &acc);
	if (r == 0)
		r = store_mailbox_rename(acc, a->mailbox[0], without_separator(a->mailbox[1]));
	return r < 0 ? imap_error(r) : imap_ok("RENAME completed");
}

struct imap_answer imap_cmd_subscribe(struct imap_job *j, struct imap_args *a)
{
	bool on = a->cmd->id == IMAP_SUBSCRIBE;
	struct account *acc;
	int r = imap_account(j, &acc);
	if (r == 0)
		r = store_mailbox_subscribe(acc, a->mailbox[0], on);
	if (r == ERR_NOENT && !on)
		return imap_no("[NONEXISTENT] Not subscribed");
	return r < 0 ? imap_error(r)
		     : imap_ok(on ? "SUBSCRIBE completed" : "UNSUBSCRIBE completed");
}

struct imap_answer imap_cmd_status(struct imap_job *j, struct imap_args *a)
{
	struct account *acc;
	struct mailbox_info m;
	int r = imap_account(j, &acc);
	if (r == 0)
		r = store_mailbox_find(acc, a->mailbox[0], j->s->mem, &m);
	if (r == 0 && !m.selectable)
		r = ERR_NOENT;
	if (r < 0)
		return imap_error(r);
	/* \Recent belongs to sessions that have the mailbox open: see cmd_select.c. */
	const struct {
		const char *name;
		uint32_t value;
	} items[] = { { "MESSAGES", m.messages },
		      { "RECENT", 0 },
		      { "UIDNEXT", m.uidnext },
		      { "UIDVALIDITY", m.uidvalidity },
		      { "UNSEEN", m.unseen } };
	_cleanup_(buf_donep) struct buf name = BUF_INIT(8192);
	mutf7_encode(&name, a->mailbox[0]);
	struct buf *b = sess_out(j->s);
	buf_put_str(b, "* STATUS ");
	imapfmt_astring(b, buf_span(&name));
	const char *sep = " (";
	for (size_t i = 0; i < ARRAY_LEN(items); i++)
		if (a->status & 1u << i) {
			buf_printf(b, "%s%s %u", sep, items[i].name, items[i].value);
			sep = " ";
		}
	buf_put_str(b, ")\r\n");
	return imap_ok("STATUS completed");
}

struct imap_answer imap_cmd_namespace(struct imap_job *j, struct imap_args *a)
{
	buf_put_str(sess_out(j->s), "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
	return imap_ok("NAMESPACE completed");
}

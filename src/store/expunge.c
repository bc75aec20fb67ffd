/* Message rows: load, insert, delete; EXPUNGE. */
#include <stdlib.h>

#include "store/store_int.h"

int message_load(struct db_tx *tx, int64_t mbox, uint32_t uid, struct message_row *ret)
{
	struct db_stmt *q = db_sql(tx,
				   "SELECT flags, keywords, modseq, size, idate, body FROM message"
				   " WHERE mbox = ? AND uid = ?");
	db_bind(q, "ii", mbox, (int64_t)uid);
	int r = db_step(q);
	if (r <= 0)
		return r;
	*ret = (struct message_row){ .uid = uid,
				     .flags = (uint32_t)db_col_i64(q, 0),
				     .keywords = (uint64_t)db_col_i64(q, 1),
				     .modseq = (uint64_t)db_col_i64(q, 2),
				     .size = (uint64_t)db_col_i64(q, 3),
				     .internal_date = db_col_i64(q, 4),
				     .body = db_col_i64(q, 5) };
	db_reset(q);
	return 1;
}

int message_insert(struct db_tx *tx, struct mbox *m, struct message_row *r)
{
	if (m->uidnext == UINT32_MAX)
		return ERR_TOOBIG;
	r->uid = m->uidnext++;
	r->modseq = m->modseq;
	m->messages++;
	m->unseen += !(r->flags & FLAG_SEEN);
	m->bytes += (int64_t)r->size;
	return db_run(tx,
		      "INSERT INTO message(mbox, uid, flags, keywords, modseq, idate, size, body, "
		      "changed)"
		      " VALUES(?, ?, ?, ?, ?, ?, ?, ?, 0)",
		      "iiiuuiui", m->id, (int64_t)r->uid, (int64_t)r->flags, r->keywords, r->modseq,
		      r->internal_date, r->size, r->body);
}

int message_delete(struct db_tx *tx, struct mbox *m, const struct message_row *r)
{
	m->messages--;
	m->unseen -= !(r->flags & FLAG_SEEN);
	m->bytes -= (int64_t)r->size;
	int e = db_run(tx, "DELETE FROM message WHERE mbox = ? AND uid = ?", "ii", m->id,
		       (int64_t)r->uid);
	return e ? e
		 : db_run(tx, "INSERT INTO expunged(mbox, modseq, uid) VALUES(?, ?, ?)", "iui",
			  m->id, m->modseq, (int64_t)r->uid);
}

/* 1: it was there and is gone. */
static int expunge_one(struct db_tx *tx, struct mbox *m, uint32_t uid, bool deleted_only,
		       struct blob_list *gone)
{
	struct message_row row;
	int r = message_load(tx, m->id, uid, &row);
	if (r <= 0)
		return r;
	if (deleted_only && !(row.flags & FLAG_DELETED))
		return 0;
	r = message_delete(tx, m, &row);
	if (!r)
		r = body_unref(tx, row.body, gone);
	return r ? r : 1;
}

int message_delete_all(struct db_tx *tx, struct mbox *m, bool deleted_only, struct blob_list *gone,
		       size_t *ret_n)
{
	/* The UIDs first: rows are not deleted under a running SELECT. */
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	uint32_t *uids = arena_array(&mem, uint32_t, (size_t)m->messages + 1);
	size_t n = 0, done = 0;
	struct db_stmt *q = db_sql(
		tx, "SELECT uid FROM message WHERE mbox = ?1 AND flags & ?2 = ?2 LIMIT ?3");
	db_bind(q, "iii", m->id, (int64_t)(deleted_only ? FLAG_DELETED : 0), m->messages);
	int r;
	while ((r = db_step(q)) > 0)
		uids[n++] = (uint32_t)db_col_i64(q, 0);
	for (size_t i = 0; i < n && r >= 0; i++) {
		r = expunge_one(tx, m, uids[i], false, gone);
		done += r > 0;
	}
	if (r < 0)
		return r;
	if (ret_n)
		*ret_n = done;
	return 0;
}

struct expunge {
	int64_t mailbox;
	const struct imap_uid *uids;
	size_t n, count;
	bool deleted_only;
	struct blob_list gone;
};

static int expunge_tx(struct db_tx *tx, void *arg)
{
	struct expunge *c = arg;
	struct mbox m;
	c->gone.n = c->count = 0;
	int r = mbox_load(tx, c->mailbox, &m);
	if (r)
		return r;
	m.modseq++;
	if (!c->uids)
		r = message_delete_all(tx, &m, c->deleted_only, &c->gone, &c->count);
	for (size_t i = 0; c->uids && i < c->n && r >= 0; i++) {
		r = expunge_one(tx, &m, c->uids[i].v, c->deleted_only, &c->gone);
		c->count += r > 0;
	}
	if (r < 0 || c->count == 0)
		return r;
	return mbox_save(tx, &m);
}

int store_expunge(struct account *a, int64_t mailbox, const struct imap_uid *uids, size_t n,
		  bool deleted_only, size_t *ret_count)
{
	struct expunge c = {
		.mailbox = mailbox, .uids = uids, .n = n, .deleted_only = deleted_only
	};
	FAILPOINT("store.expunge.before_commit");
	int r = db_write(a->db, expunge_tx, &c);
	if (!r) {
		FAILPOINT("store.expunge.before_unlink");
		blob_list_unlink(a, &c.gone);
		if (c.count)
			watch_notify(a, mailbox);
		if (ret_count)
			*ret_count = c.count;
	}
	blob_list_done(&c.gone);
	return r;
}

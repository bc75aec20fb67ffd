/* RENAME (RFC 3501 6.3.5): a mailbox with all below it; INBOX gives away its messages instead. */
#include <stdlib.h>

#include "store/store_int.h"

struct rename {
	span from, to;
	int64_t changed[2]; /* mailboxes to notify; 0: none */
};

/* S2: a name that once had a higher UIDVALIDITY than the mailbox that comes to it gets a new one.
 */
static int settle_uidvalidity(struct db_tx *tx, int64_t id, span name, uint32_t current)
{
	int64_t last = 0;
	int r = db_get_i64(tx, &last, "SELECT uidvalidity FROM retired WHERE name = ?", "s", name);
	if (r <= 0 || last <= current)
		return MIN(r, 0);
	uint32_t v;
	r = mbox_next_uidvalidity(tx, &v);
	return r ? r
		 : db_run(tx, "UPDATE mailbox SET uidvalidity = ? WHERE id = ?", "ii", (int64_t)v,
			  id);
}

static int move_name(struct db_tx *tx, int64_t id, span from, span to)
{
	struct mbox m;
	int r = mbox_load(tx, id, &m);
	if (!r)
		r = db_run(tx, "INSERT OR REPLACE INTO retired(name, uidvalidity) VALUES(?, ?)",
			   "si", from, (int64_t)m.uidvalidity);
	if (!r)
		r = db_run(tx, "UPDATE mailbox SET name = ? WHERE id = ?", "si", to, id);
	return r ? r : settle_uidvalidity(tx, id, to, m.uidvalidity);
}

/* What is below FROM: read first, then renamed. */
static int move_children(struct db_tx *tx, span from, span to, struct arena *mem)
{
	struct child {
		int64_t id;
		span name;
		struct child *next;
	} *list = NULL;
	struct db_stmt *q = db_sql(
		tx, "SELECT id, name FROM mailbox WHERE name >= ?1 || '/' AND name < ?1 || '0'");
	db_bind(q, "s", from);
	int r;
	while ((r = db_step(q)) > 0) {
		struct child *c = arena_new(mem, struct child);
		*c = (struct child){ db_col_i64(q, 0), arena_span(mem, db_col_span(q, 1)), list };
		list = c;
	}
	for (struct child *c = list; c && !r; c = c->next) {
		span rest = span_from(c->name, from.n);
		if (to.n + rest.n > NAME_MAX_BYTES)
			return ERR_INVAL;
		char *name = arena_alloc(mem, to.n + rest.n);
		memcpy(name, to.p, to.n);
		memcpy(name + to.n, rest.p, rest.n);
		r = move_name(tx, c->id, c->name, span_of(name, to.n + rest.n));
	}
	return r;
}

/* All messages of INBOX go to the new mailbox TO, in order, with new UIDs. */
static int move_inbox(struct db_tx *tx, struct mbox *inbox, span to, int64_t *ret_id)
{
	struct mbox m;
	int r = mbox_make(tx, to, SPECIAL_NONE, ret_id);
	if (!r)
		r = mbox_load(tx, *ret_id, &m);
	if (r)
		return r;
	inbox->modseq++;
	m.modseq++;
	r = db_run(tx,
		   "INSERT INTO expunged(mbox, modseq, uid) SELECT mbox, ?, uid FROM message WHERE "
		   "mbox = ?",
		   "ui", inbox->modseq, inbox->id);
	if (!r)
		r = db_run(tx,
			   "INSERT INTO message SELECT ?, row_number() OVER (ORDER BY uid), flags, "
			   "keywords, ?, idate,"
			   " size, body, 0 FROM message WHERE mbox = ?",
			   "iui", m.id, m.modseq, inbox->id);
	if (!r)
		r = db_run(tx, "DELETE FROM message WHERE mbox = ?", "i", inbox->id);
	m.uidnext += (uint32_t)inbox->messages;
	m.messages = inbox->messages;
	m.unseen = inbox->unseen;
	m.bytes = inbox->bytes;
	inbox->messages = inbox->unseen = inbox->bytes = 0;
	if (!r)
		r = mbox_save(tx, &m);
	return r ? r : mbox_save(tx, inbox);
}

static int rename_tx(struct db_tx *tx, void *arg)
{
	struct rename *c = arg;
	struct mbox m, other;
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	c->changed[1] = 0;
	int r = mbox_load_name(tx, c->from, &m);
	if (r)
		return r;
	c->changed[0] = m.id;
	r = mbox_load_name(tx, c->to, &other);
	if (r != ERR_NOENT)
		return r ? r : ERR_EXIST;
	if (span_eq_str(c->from, "INBOX"))
		return move_inbox(tx, &m, c->to, &c->changed[1]);
	r = mbox_make_parents(tx, c->to);
	if (r)
		return r;
	r = move_name(tx, m.id, c->from, c->to);
	return r ? r : move_children(tx, c->from, c->to, &mem);
}

int store_mailbox_rename(struct account *a, span from, span to)
{
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	struct rename c = { 0 };
	int r = name_canonical(from, &mem, &c.from);
	if (!r)
		r = name_canonical(to, &mem, &c.to);
	if (r)
		return r;
	if (c.to.n > c.from.n && span_starts(c.to, c.from) && c.to.p[c.from.n] == '/' &&
	    !span_eq_str(c.from, "INBOX"))
		return ERR_INVAL; /* below itself */
	r = db_write(a->db, rename_tx, &c);
	if (r)
		return r;
	FAILPOINT("store.mailbox.after_commit");
	for (size_t i = 0; i < ARRAY_LEN(c.changed); i++)
		if (c.changed[i])
			watch_notify(a, c.changed[i]);
	return 0;
}

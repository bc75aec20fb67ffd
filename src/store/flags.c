/* Flags and keywords; CONDSTORE (RFC 7162 3.1.3). */
#include "store/store_int.h"

#define KEYWORD_MAX_BYTES 128

struct flag_change {
	int64_t mailbox;
	const struct imap_uid *uids;
	size_t n;
	enum store_flag_op op;
	struct store_flags f;
	uint64_t unchanged_since, modseq;
	struct imap_uid *failed;
	size_t n_failed, n_changed;
};

static void apply(const struct flag_change *c, struct message_row *row)
{
	switch (c->op) {
	case STORE_FLAGS_SET:
		row->flags = c->f.system;
		row->keywords = c->f.keywords;
		break;
	case STORE_FLAGS_ADD:
		row->flags |= c->f.system;
		row->keywords |= c->f.keywords;
		break;
	case STORE_FLAGS_REMOVE:
		row->flags &= ~c->f.system;
		row->keywords &= ~c->f.keywords;
		break;
	}
}

static int change_one(struct db_tx *tx, struct flag_change *c, struct mbox *m, struct imap_uid uid)
{
	struct message_row old, row;
	int r = message_load(tx, m->id, uid.v, &old);
	if (r <= 0)
		return r;
	if (c->unchanged_since && old.modseq > c->unchanged_since) {
		if (c->failed)
			c->failed[c->n_failed] = uid;
		c->n_failed++;
		return 0;
	}
	row = old;
	apply(c, &row);
	if (row.flags == old.flags && row.keywords == old.keywords)
		return 0;
	m->modseq += c->n_changed++ == 0;
	m->unseen += !(row.flags & FLAG_SEEN) - !(old.flags & FLAG_SEEN);
	return db_run(tx,
		      "UPDATE message SET flags = ?, keywords = ?, modseq = ?, changed = 1 WHERE "
		      "mbox = ? "
		      "AND uid = ?",
		      "iuuii", (int64_t)row.flags, row.keywords, m->modseq, m->id, (int64_t)uid.v);
}

static int flags_tx(struct db_tx *tx, void *arg)
{
	struct flag_change *c = arg;
	struct mbox m;
	c->n_failed = c->n_changed = 0;
	int r = mbox_load(tx, c->mailbox, &m);
	for (size_t i = 0; i < c->n && !r; i++)
		r = change_one(tx, c, &m, c->uids[i]);
	if (r)
		return r;
	c->modseq = m.modseq;
	return c->n_changed ? mbox_save(tx, &m) : 0;
}

int store_flags(struct account *a, int64_t mailbox, const struct imap_uid *uids, size_t n,
		enum store_flag_op op, const struct store_flags *f, uint64_t unchanged_since,
		uint64_t *ret_modseq, struct imap_uid *failed, size_t *ret_failed)
{
	struct flag_change c = { .mailbox = mailbox,
				 .uids = uids,
				 .n = n,
				 .op = op,
				 .f = *f,
				 .unchanged_since = unchanged_since,
				 .failed = failed };
	int r = db_write(a->db, flags_tx, &c);
	if (r)
		return r;
	FAILPOINT("store.flags.after_commit");
	if (c.n_changed)
		watch_notify(a, mailbox);
	if (ret_modseq)
		*ret_modseq = c.modseq;
	if (ret_failed)
		*ret_failed = c.n_failed;
	return 0;
}

/* --- keywords --- */

struct keyword {
	span name;
	int64_t bit;
};

static int find_keyword(struct db_tx *tx, span name, int64_t *ret)
{
	int r = db_get_i64(tx, ret, "SELECT bit FROM keyword WHERE name = ?", "s", name);
	return r < 0 ? r : r ? 0 : ERR_NOENT;
}

static int create_keyword_tx(struct db_tx *tx, void *arg)
{
	struct keyword *k = arg;
	int64_t n = 0;
	int r = find_keyword(tx, k->name, &k->bit);
	if (r != ERR_NOENT)
		return r;
	r = db_get_i64(tx, &n, "SELECT count(*) FROM keyword", "");
	if (r < 0)
		return r;
	if (n >= KEYWORD_MAX)
		return ERR_TOOBIG;
	k->bit = n;
	return db_run(tx, "INSERT INTO keyword(bit, name) VALUES(?, ?)", "is", n, k->name);
}

int store_keyword_bit(struct account *a, span keyword, bool create, unsigned *ret_bit)
{
	struct keyword k = { .name = keyword };
	struct db_tx *tx = NULL;
	if (keyword.n == 0 || keyword.n > KEYWORD_MAX_BYTES)
		return ERR_INVAL;
	int r = db_read_begin(a->db, &tx);
	if (r)
		return r;
	r = find_keyword(tx, keyword, &k.bit);
	db_read_end(tx);
	if (r == ERR_NOENT && create)
		r = db_write(a->db, create_keyword_tx, &k);
	if (!r)
		*ret_bit = (unsigned)k.bit;
	return r;
}

int store_keyword_names(struct account *a, struct arena *mem, span *ret64, size_t *ret_n)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(a->db, &tx);
	if (r)
		return r;
	size_t n = 0;
	struct db_stmt *q = db_sql(tx, "SELECT name FROM keyword ORDER BY bit LIMIT 64");
	while ((r = db_step(q)) > 0)
		ret64[n++] = arena_span(mem, db_col_span(q, 0));
	if (!r)
		*ret_n = n;
	return r;
}

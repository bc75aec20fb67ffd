/* Mailboxes: names, rows, create, delete, subscribe, list. */
#include <stdlib.h>

#include "format/mime.h"
#include "store/store_int.h"

#define COLUMNS "id, selectable, uidvalidity, uidnext, modseq, messages, unseen, bytes"

/* --- names --- */

static bool level_ok(span level)
{
	return level.n > 0 && !span_eq_str(level, ".") && !span_eq_str(level, "..");
}

static bool name_ok(span name)
{
	if (name.n == 0 || name.n > NAME_MAX_BYTES || !utf8_valid(name))
		return false;
	for (size_t i = 0; i < name.n; i++)
		if ((unsigned char)name.p[i] < 0x20 || name.p[i] == 0x7f)
			return false;
	unsigned levels = 0;
	for (span rest = name; rest.p && levels <= NAME_MAX_LEVELS; levels++)
		if (!level_ok(span_cut(&rest, '/')))
			return false;
	return levels <= NAME_MAX_LEVELS;
}

int name_canonical(span name, struct arena *mem, span *ret)
{
	if (!name_ok(name))
		return ERR_INVAL;
	char *p = arena_cstr(mem, name);
	span first = span_sub(name, 0, MIN(span_find(name, '/'), name.n));
	if (span_ieq_str(first, "INBOX"))
		memcpy(p, "INBOX", first.n);
	*ret = span_of(p, name.n);
	return 0;
}

/* --- rows --- */

static int read_mbox(struct db_stmt *q, struct mbox *ret)
{
	int r = db_step(q);
	if (r <= 0)
		return r ? r : ERR_NOENT;
	*ret = (struct mbox){ .id = db_col_i64(q, 0),
			      .selectable = db_col_i64(q, 1) != 0,
			      .uidvalidity = (uint32_t)db_col_i64(q, 2),
			      .uidnext = (uint32_t)db_col_i64(q, 3),
			      .modseq = (uint64_t)db_col_i64(q, 4),
			      .messages = db_col_i64(q, 5),
			      .unseen = db_col_i64(q, 6),
			      .bytes = db_col_i64(q, 7) };
	db_reset(q);
	return 0;
}

int mbox_load(struct db_tx *tx, int64_t id, struct mbox *ret)
{
	struct db_stmt *q = db_sql(tx, "SELECT " COLUMNS " FROM mailbox WHERE id = ?");
	db_bind(q, "i", id);
	return read_mbox(q, ret);
}

int mbox_load_name(struct db_tx *tx, span name, struct mbox *ret)
{
	struct db_stmt *q = db_sql(tx, "SELECT " COLUMNS " FROM mailbox WHERE name = ?");
	db_bind(q, "s", name);
	return read_mbox(q, ret);
}

int mbox_save(struct db_tx *tx, const struct mbox *m)
{
	return db_run(tx,
		      "UPDATE mailbox SET uidnext = ?, modseq = ?, messages = ?, unseen = ?, bytes "
		      "= ? WHERE id = ?",
		      "iuiiii", (int64_t)m->uidnext, m->modseq, m->messages, m->unseen, m->bytes,
		      m->id);
}

/* Above all that any name of the account ever had: S2 holds whatever is renamed to whatever. */
int mbox_next_uidvalidity(struct db_tx *tx, uint32_t *ret)
{
	int64_t last = 0, now = clock_wall() / USEC_SEC;
	int r = db_get_i64(tx, &last,
			   "SELECT max(ifnull((SELECT max(uidvalidity) FROM mailbox), 0),"
			   " ifnull((SELECT max(uidvalidity) FROM retired), 0))",
			   "");
	if (r < 0)
		return r;
	int64_t v = MAX(now, last + 1);
	if (v > UINT32_MAX)
		return ERR_TOOBIG;
	*ret = (uint32_t)v;
	return 0;
}

static int make_one(struct db_tx *tx, span name, int special, bool selectable, int64_t *ret_id)
{
	uint32_t validity;
	int r = mbox_next_uidvalidity(tx, &validity);
	if (!r)
		r = db_run(tx,
			   "INSERT INTO mailbox(name, special, selectable, uidvalidity, uidnext, "
			   "recent_from,"
			   " modseq, messages, unseen, bytes) VALUES(?, ?, ?, ?, 1, 1, 1, 0, 0, 0)",
			   "siii", name, (int64_t)special, (int64_t)selectable, (int64_t)validity);
	if (!r)
		*ret_id = db_last_id(tx);
	return r;
}

/* A \Noselect name becomes a mailbox: a new row, so that no session knows its id. */
static int make_selectable(struct db_tx *tx, const struct mbox *old, span name, int special,
			   int64_t *ret_id)
{
	int r = db_run(tx, "DELETE FROM mailbox WHERE id = ?", "i", old->id);
	return r ? r : make_one(tx, name, special, true, ret_id);
}

int mbox_make_parents(struct db_tx *tx, span name)
{
	int r = 0;
	for (size_t i = 0; i < name.n && !r; i++) {
		if (name.p[i] != '/')
			continue;
		struct mbox m;
		int64_t ignored;
		span above = span_sub(name, 0, i);
		r = mbox_load_name(tx, above, &m);
		if (r == ERR_NOENT)
			r = make_one(tx, above, SPECIAL_NONE, true, &ignored);
	}
	return r;
}

int mbox_make(struct db_tx *tx, span name, int special, int64_t *ret_id)
{
	struct mbox m;
	int r = mbox_load_name(tx, name, &m);
	if (r == 0)
		return m.selectable ? ERR_EXIST : make_selectable(tx, &m, name, special, ret_id);
	if (r == ERR_NOENT)
		r = mbox_make_parents(tx, name);
	return r ? r : make_one(tx, name, special, true, ret_id);
}

/* --- create and delete --- */

struct change {
	span name;
	int special;
	int64_t id;
	int64_t deleted; /* 0: none */
	struct blob_list gone;
};

static int create_tx(struct db_tx *tx, void *arg)
{
	struct change *c = arg;
	return mbox_make(tx, c->name, c->special, &c->id);
}

int store_mailbox_create(struct account *a, span name, int special, int64_t *ret_id)
{
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	struct change c = { .special = special };
	int r = name_canonical(name, &mem, &c.name);
	if (!r)
		r = db_write(a->db, create_tx, &c);
	if (r)
		return r;
	FAILPOINT("store.mailbox.after_commit");
	watch_notify(a, c.id);
	if (ret_id)
		*ret_id = c.id;
	return 0;
}

static int has_children(struct db_tx *tx, span name)
{
	int64_t one;
	return db_get_i64(
		tx, &one,
		"SELECT 1 FROM mailbox WHERE name >= ?1 || '/' AND name < ?1 || '0' LIMIT 1", "s",
		name);
}

static int delete_tx(struct db_tx *tx, void *arg)
{
	struct change *c = arg;
	struct mbox m;
	c->gone.n = 0;
	int r = mbox_load_name(tx, c->name, &m);
	if (r)
		return r;
	int children = has_children(tx, c->name);
	if (children < 0 || (children && !m.selectable))
		return children < 0 ? children : ERR_PERM;
	m.modseq++;
	r = message_delete_all(tx, &m, false, &c->gone, NULL);
	if (!r)
		r = db_run(tx, "DELETE FROM expunged WHERE mbox = ?", "i", m.id);
	if (!r)
		r = db_run(tx, "DELETE FROM mailbox WHERE id = ?", "i", m.id);
	if (!r)
		r = db_run(tx, "INSERT OR REPLACE INTO retired(name, uidvalidity) VALUES(?, ?)",
			   "si", c->name, (int64_t)m.uidvalidity);
	if (!r && children) /* RFC 3501 6.3.4: the name stays, \Noselect */
		r = make_one(tx, c->name, SPECIAL_NONE, false, &c->id);
	c->deleted = m.id;
	return r;
}

int store_mailbox_delete(struct account *a, span name)
{
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	struct change c = { 0 };
	int r = name_canonical(name, &mem, &c.name);
	if (!r && span_eq_str(c.name, "INBOX"))
		r = ERR_PERM;
	if (!r)
		r = db_write(a->db, delete_tx, &c);
	if (!r) {
		FAILPOINT("store.mailbox.after_commit");
		blob_list_unlink(a, &c.gone);
		view_forget(a, c.deleted);
		watch_notify(a, c.deleted);
	}
	blob_list_done(&c.gone);
	return r;
}

static int subscribe_tx(struct db_tx *tx, void *arg)
{
	struct change *c = arg;
	return db_run(tx, "INSERT OR IGNORE INTO subscription(name) VALUES(?)", "s", c->name);
}

static int unsubscribe_tx(struct db_tx *tx, void *arg)
{
	struct change *c = arg;
	return db_run(tx, "DELETE FROM subscription WHERE name = ?", "s", c->name);
}

int store_mailbox_subscribe(struct account *a, span name, bool on)
{
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	struct change c = { 0 };
	int r = name_canonical(name, &mem, &c.name);
	if (!r)
		r = db_write(a->db, on ? subscribe_tx : unsubscribe_tx, &c);
	if (!r)
		FAILPOINT("store.mailbox.after_commit");
	return r;
}

/* --- reading --- */

#define INFO_COLUMNS                                                                              \
	"m.id, m.name, m.special, m.selectable, m.uidvalidity, m.uidnext, m.modseq, m.messages, " \
	"m.unseen,"                                                                               \
	" m.recent_from, m.bytes, s.name IS NOT NULL"
#define INFO_TABLES " FROM mailbox m LEFT JOIN subscription s ON s.name = m.name"

static void read_info(struct db_stmt *q, struct arena *mem, struct mailbox_info *ret)
{
	*ret = (struct mailbox_info){ .id = db_col_i64(q, 0),
				      .name = arena_span(mem, db_col_span(q, 1)),
				      .special = (int)db_col_i64(q, 2),
				      .selectable = db_col_i64(q, 3) != 0,
				      .uidvalidity = (uint32_t)db_col_i64(q, 4),
				      .uidnext = (uint32_t)db_col_i64(q, 5),
				      .modseq = (uint64_t)db_col_i64(q, 6),
				      .messages = (uint32_t)db_col_i64(q, 7),
				      .unseen = (uint32_t)db_col_i64(q, 8),
				      .recent_from = (uint32_t)db_col_i64(q, 9),
				      .bytes = (uint64_t)db_col_i64(q, 10),
				      .subscribed = db_col_i64(q, 11) != 0 };
}

static int info_one(struct db_tx *tx, struct db_stmt *q, struct arena *mem,
		    struct mailbox_info *ret)
{
	struct mailbox_info i;
	int r = db_step(q);
	if (r <= 0)
		return r ? r : ERR_NOENT;
	read_info(q, mem, &i);
	db_reset(q);
	r = has_children(tx, i.name);
	if (r < 0)
		return r;
	i.has_children = r > 0;
	*ret = i;
	return 0;
}

int store_mailbox_find(struct account *a, span name, struct arena *mem, struct mailbox_info *ret)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	span canonical;
	int r = name_canonical(name, mem, &canonical);
	if (!r)
		r = db_read_begin(a->db, &tx);
	if (r)
		return r;
	struct db_stmt *q = db_sql(tx, "SELECT " INFO_COLUMNS INFO_TABLES " WHERE m.name = ?");
	db_bind(q, "s", canonical);
	return info_one(tx, q, mem, ret);
}

int store_mailbox_by_id(struct account *a, int64_t id, struct arena *mem, struct mailbox_info *ret)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(a->db, &tx);
	if (r)
		return r;
	struct db_stmt *q = db_sql(tx, "SELECT " INFO_COLUMNS INFO_TABLES " WHERE m.id = ?");
	db_bind(q, "i", id);
	return info_one(tx, q, mem, ret);
}

/* Sorted by bytes, all names below X/ follow each other, though not always right behind X. */
static void note_children(struct mailbox_info *all, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t lo = i + 1, hi = n; /* first name >= "X/" */
		while (lo < hi) {
			size_t mid = lo + (hi - lo) / 2;
			span head = span_sub(all[mid].name, 0, all[i].name.n);
			int c = span_cmp(head, all[i].name);
			if (c < 0 || (c == 0 &&
				      (all[mid].name.n == head.n || all[mid].name.p[head.n] < '/')))
				lo = mid + 1;
			else
				hi = mid;
		}
		all[i].has_children = lo < n && span_starts(all[lo].name, all[i].name) &&
				      all[lo].name.n > all[i].name.n &&
				      all[lo].name.p[all[i].name.n] == '/';
	}
}

static int list_tx(struct db_tx *tx, struct arena *mem, struct mailbox_info **ret, size_t *ret_n)
{
	int64_t rows;
	/* A name that is subscribed to but does not exist comes with NULLs: id 0, not selectable.
	 */
	int r = db_get_i64(
		tx, &rows,
		"SELECT (SELECT count(*) FROM mailbox) + (SELECT count(*) FROM subscription)", "");
	if (r < 0)
		return r;
	struct mailbox_info *all = arena_array(mem, struct mailbox_info, (size_t)rows + 1);
	size_t n = 0;
	struct db_stmt *q = db_sql(
		tx, "SELECT " INFO_COLUMNS INFO_TABLES
		    " UNION ALL SELECT 0, s.name, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 FROM subscription s"
		    " WHERE s.name NOT IN (SELECT name FROM mailbox) ORDER BY 2");
	while ((r = db_step(q)) > 0)
		read_info(q, mem, &all[n++]);
	if (r < 0)
		return r;
	note_children(all, n);
	*ret = all;
	*ret_n = n;
	return 0;
}

int store_mailbox_list(struct account *a, bool subscribed_only, struct arena *mem,
		       struct mailbox_info **ret, size_t *ret_n)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	struct mailbox_info *all;
	size_t n, kept = 0;
	int r = db_read_begin(a->db, &tx);
	if (!r)
		r = list_tx(tx, mem, &all, &n);
	if (r)
		return r;
	for (size_t i = 0; i < n; i++)
		if (subscribed_only ? all[i].subscribed : all[i].id != 0)
			all[kept++] = all[i];
	*ret = all;
	*ret_n = kept;
	return 0;
}

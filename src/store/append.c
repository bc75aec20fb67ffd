/* Append: everything is prepared (parsed, blob in place) before the commit begins; the commit
 * itself costs the same whatever the mailbox holds. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "format/imapfmt.h"
#include "format/mime.h"
#include "store/store_int.h"
#include "sys/file.h"

#define TEXT_MAX \
	(4u << 20) /* of an envelope or structure; beyond, the message is stored as opaque */

struct prepared {
	const struct store_message *m;
	struct message_row row; /* uid is set by the commit */
	size_t header_size;
	struct buf envelope, body, bodystructure;
	void *map;	/* of the spool file */
	bool linked;	/* a blob is in place */
	bool duplicate; /* of an earlier delivery (S4) */
};

struct append {
	struct account *a;
	span mailbox;
	bool create;
	struct prepared *p;
	size_t n, n_new;
	int64_t mbox;
	uint32_t uidvalidity;
};

/* --- prepare --- */

static int parse(struct prepared *p, span bytes)
{
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	struct mime_part *root = mime_parse(bytes, &mem);
	p->header_size = root->body;
	int r = imapfmt_envelope(&p->envelope, span_sub(bytes, 0, root->body), &mem);
	if (!r)
		r = imapfmt_bodystructure(&p->body, bytes, root, false);
	if (!r)
		r = imapfmt_bodystructure(&p->bodystructure, bytes, root, true);
	return r;
}

/* What is said of a message that was not looked into: no header, one part. */
static void describe_opaque(struct prepared *p)
{
	p->header_size = 0;
	buf_reset(&p->envelope);
	buf_reset(&p->body);
	buf_reset(&p->bodystructure);
	buf_put_str(&p->envelope, "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
	buf_printf(&p->body, "(\"APPLICATION\" \"OCTET-STREAM\" NIL NIL NIL \"8BIT\" %llu)",
		   (unsigned long long)p->row.size);
	buf_put(&p->bodystructure, p->body.p, p->body.n - 1);
	buf_put_str(&p->bodystructure, " NIL NIL NIL NIL)");
}

/* The spool file is ours and sealed: nobody truncates it under the mapping. */
static int map_spool(struct prepared *p, span *ret)
{
	*ret = p->m->bytes;
	if (p->m->spool_fd < 0 || p->m->size == 0)
		return 0;
	void *map = mmap(NULL, p->m->size, PROT_READ, MAP_PRIVATE, p->m->spool_fd, 0);
	if (map == MAP_FAILED)
		return ERR_NOMEM;
	p->map = map;
	*ret = span_of(map, p->m->size);
	return 0;
}

static int write_spool(struct account *a, span bytes)
{
	_cleanup_(freep) char *dir = NULL;
	if (asprintf(&dir, "%s/blobs", a->dir) < 0)
		abort();
	int fd = file_spool_open(dir);
	if (fd < 0)
		return fd;
	int r = file_write_all(fd, bytes);
	if (r)
		close_fdp(&fd);
	return r ? r : fd;
}

/* The spool file gets its name; where that cannot be (no spool file, another file system), a copy
 * does. */
static int place_blob(struct account *a, struct prepared *p, span bytes)
{
	_cleanup_(freep) char *path = body_blob_path(a, p->row.body);
	FAILPOINT("store.blob.before_link");
	int r = p->m->spool_fd >= 0 ? file_spool_link(p->m->spool_fd, path) : ERR_UNSUPPORTED;
	if (r && r != ERR_FULL && r != ERR_SYNC && r != ERR_EXIST) {
		_cleanup_(close_fdp) int fd = write_spool(a, bytes);
		r = fd < 0 ? fd : file_spool_link(fd, path);
	}
	if (r)
		return r;
	p->linked = true;
	FAILPOINT("store.blob.after_link");
	return 0;
}

static int prepare(struct account *a, struct prepared *p, const struct store_message *m)
{
	span bytes;
	p->m = m;
	p->envelope = p->body = p->bodystructure = BUF_INIT(TEXT_MAX);
	int r = map_spool(p, &bytes);
	if (r)
		return r;
	p->row = (struct message_row){ .flags = m->flags.system,
				       .keywords = m->flags.keywords,
				       .size = bytes.n,
				       .internal_date = m->internal_date ? m->internal_date
									 : clock_wall(),
				       .body = body_new_id(a) };
	if (m->opaque || parse(p, bytes) < 0)
		describe_opaque(p);
	return bytes.n > a->s->inline_max ? place_blob(a, p, bytes) : 0;
}

static void unprepare(struct account *a, struct prepared *p, int result)
{
	/* After a failed sync the row may be there when the account is next opened: a delivery that
	 * is repeated finds its key and relies on the blob.  The sweep decides. */
	if (p->linked && (result ? result != ERR_SYNC : p->duplicate)) {
		_cleanup_(freep) char *path = body_blob_path(a, p->row.body);
		file_remove(path);
	}
	if (p->map)
		munmap(p->map, p->m->size);
	buf_done(&p->envelope);
	buf_done(&p->body);
	buf_done(&p->bodystructure);
}

/* --- commit --- */

static bool has_key(const struct store_message *m)
{
	static const uint8_t none[16];
	return memcmp(m->delivery_key, none, sizeof(none)) != 0;
}

/* S4: 1 if the key is known; then P has the first one's UID. */
static int find_delivered(struct db_tx *tx, struct append *c, struct prepared *p)
{
	struct db_stmt *q = db_sql(tx, "SELECT uid, uidvalidity FROM delivered WHERE key = ?");
	db_bind(q, "b", span_of(p->m->delivery_key, sizeof(p->m->delivery_key)));
	int r = db_step(q);
	if (r <= 0)
		return r;
	p->duplicate = true;
	p->row.uid = (uint32_t)db_col_i64(q, 0);
	c->uidvalidity = (uint32_t)db_col_i64(q, 1);
	db_reset(q);
	return 1;
}

static int insert_one(struct db_tx *tx, struct append *c, struct mbox *m, struct prepared *p)
{
	span data = p->map ? span_of(p->map, p->m->size) : p->m->bytes;
	int r = db_run(tx,
		       "INSERT INTO body(id, format, is_blob, size, header_size, trace, envelope, "
		       "body, bodystructure, data)"
		       " VALUES(?, 0, ?, ?, ?, ?, ?, ?, ?, ?)",
		       p->linked ? "iiuubsssn" : "iiuubsssb", p->row.body, (int64_t)p->linked,
		       p->row.size, (uint64_t)p->header_size,
		       span_of(p->m->trace.b, sizeof(p->m->trace.b)), buf_span(&p->envelope),
		       buf_span(&p->body), buf_span(&p->bodystructure), data);
	if (!r)
		r = message_insert(tx, m, &p->row);
	if (!r && has_key(p->m))
		r = db_run(tx, "INSERT INTO delivered(key, uid, uidvalidity) VALUES(?, ?, ?)",
			   "bii", span_of(p->m->delivery_key, sizeof(p->m->delivery_key)),
			   (int64_t)p->row.uid, (int64_t)m->uidvalidity);
	return r;
}

static int check_quota(struct db_tx *tx, const struct store_message *m)
{
	int64_t held = 0;
	if (!m->quota)
		return 0;
	int r = db_get_i64(tx, &held, "SELECT ifnull(sum(bytes), 0) FROM mailbox", "");
	return r < 0 ? r : (uint64_t)held >= m->quota ? ERR_QUOTA : 0;
}

static int insert_outbox(struct db_tx *tx, const struct store_message *m)
{
	int r = 0;
	for (size_t i = 0; i < m->n_outbox && !r; i++)
		r = db_run(tx, "INSERT INTO outbox(kind, data) VALUES(?, ?)", "ib",
			   (int64_t)m->outbox[i].kind, m->outbox[i].data);
	return r;
}

static int find_mailbox(struct db_tx *tx, struct append *c, struct mbox *m)
{
	int r = mbox_load_name(tx, c->mailbox, m);
	if (r == 0 && !m->selectable)
		r = ERR_NOENT;
	if (r != ERR_NOENT || !c->create)
		return r;
	int64_t id;
	r = mbox_make(tx, c->mailbox, SPECIAL_NONE, &id);
	return r ? r : mbox_load(tx, id, m);
}

static int append_tx(struct db_tx *tx, void *arg)
{
	struct append *c = arg;
	struct mbox m;
	c->n_new = 0;
	for (size_t i = 0; i < c->n; i++) {
		struct prepared *p = &c->p[i];
		p->duplicate = false;
		int known = has_key(p->m) ? find_delivered(tx, c, p) : 0;
		if (known < 0)
			return known;
		if (known)
			continue;
		int r = c->n_new == 0 ? find_mailbox(tx, c, &m) : 0;
		if (!r)
			r = check_quota(tx, p->m);
		if (r)
			return r;
		m.modseq += c->n_new++ == 0; /* S3: one for all that a commit appends */
		r = insert_one(tx, c, &m, p);
		if (!r)
			r = insert_outbox(tx, p->m);
		if (r)
			return r;
	}
	if (c->n_new == 0)
		return 0;
	c->mbox = m.id;
	c->uidvalidity = m.uidvalidity;
	return mbox_save(tx, &m);
}

static int append(struct account *a, span mailbox, bool create, const struct store_message *m,
		  size_t n, struct imap_uid *ret_uids, uint32_t *ret_uidvalidity)
{
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	struct append c = { .a = a, .create = create };
	int r = name_canonical(mailbox, &mem, &c.mailbox);
	if (r)
		return r;
	c.p = arena_array(&mem, struct prepared, n);
	for (; c.n < n && !r; c.n++)
		r = prepare(a, &c.p[c.n], &m[c.n]);
	if (!r) {
		FAILPOINT("store.append.before_commit");
		r = db_write(a->db, append_tx, &c);
	}
	if (!r) {
		FAILPOINT("store.append.after_commit");
		if (c.n_new)
			watch_notify(a, c.mbox);
	}
	for (size_t i = 0; i < c.n; i++) {
		if (!r && ret_uids)
			ret_uids[i].v = c.p[i].row.uid;
		unprepare(a, &c.p[i], r);
	}
	if (!r && ret_uidvalidity)
		*ret_uidvalidity = c.uidvalidity;
	return r;
}

int store_append(struct account *a, span mailbox, bool create, const struct store_message *m,
		 struct imap_uid *ret_uid, uint32_t *ret_uidvalidity)
{
	return append(a, mailbox, create, m, 1, ret_uid, ret_uidvalidity);
}

int store_append_many(struct account *a, span mailbox, const struct store_message *m, size_t n,
		      struct imap_uid *ret_uids, uint32_t *ret_uidvalidity)
{
	return append(a, mailbox, false, m, n, ret_uids, ret_uidvalidity);
}

static int key_drop_tx(struct db_tx *tx, void *arg)
{
	return db_run(tx, "DELETE FROM delivered WHERE key = ?", "b", span_of(arg, 16));
}

int store_key_drop(struct account *a, const uint8_t key[16])
{
	uint8_t copy[16];
	memcpy(copy, key, sizeof(copy));
	int r = db_write(a->db, key_drop_tx, copy);
	if (!r)
		FAILPOINT("store.key.after_commit");
	return r;
}

/* Bodies: references, blobs, reading. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_int.h"
#include "sys/file.h"

#define SWEEP_AGE_SEC (24 * 3600)

void blob_list_add(struct blob_list *l, int64_t body)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 16;
		l->ids = xrealloc(l->ids, l->cap * sizeof(*l->ids));
	}
	l->ids[l->n++] = body;
}

void blob_list_done(struct blob_list *l)
{
	free(l->ids);
	*l = (struct blob_list){ 0 };
}

void blob_list_unlink(struct account *a, struct blob_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		_cleanup_(freep) char *path = body_blob_path(a, l->ids[i]);
		file_remove(path); /* what fails is left to the sweep */
	}
}

/* Ids come from the time, so that one is not used again after its body went, and without a counter
 * that each append would have to write. */
int64_t body_new_id(struct account *a)
{
	int64_t now = clock_wall(), last = atomic_load(&a->last_body), id;
	do
		id = MAX(now, last + 1);
	while (!atomic_compare_exchange_weak(&a->last_body, &last, id));
	return id;
}

char *body_blob_path(const struct account *a, int64_t body)
{
	char *p = NULL;
	if (asprintf(&p, "%s/blobs/%016" PRIx64, a->dir, (uint64_t)body) < 0)
		abort();
	return p;
}

int body_ref(struct db_tx *tx, int64_t body)
{
	return db_run(tx,
		      "INSERT INTO shared(body, refs) VALUES(?, 2) ON CONFLICT(body) DO UPDATE SET "
		      "refs = refs + 1",
		      "i", body);
}

int body_unref(struct db_tx *tx, int64_t body, struct blob_list *gone)
{
	int64_t refs, is_blob;
	int r = db_get_i64(tx, &refs, "SELECT refs FROM shared WHERE body = ?", "i", body);
	if (r < 0)
		return r;
	if (r && refs > 2)
		return db_run(tx, "UPDATE shared SET refs = refs - 1 WHERE body = ?", "i", body);
	if (r)
		return db_run(tx, "DELETE FROM shared WHERE body = ?", "i", body);
	r = db_get_i64(tx, &is_blob, "SELECT is_blob FROM body WHERE id = ?", "i", body);
	if (r > 0 && is_blob)
		blob_list_add(gone, body);
	return r < 0 ? r : db_run(tx, "DELETE FROM body WHERE id = ?", "i", body);
}

/* --- reading --- */

struct body_head {
	bool is_blob;
	uint64_t size, header_size;
};

static int load_head(struct db_tx *tx, int64_t body_id, struct body_head *ret)
{
	struct db_stmt *q = db_sql(
		tx, "SELECT format, is_blob, size, header_size FROM body WHERE id = ?");
	db_bind(q, "i", body_id);
	int r = db_step(q);
	if (r <= 0)
		return r ? r : ERR_NOENT;
	int64_t format = db_col_i64(q, 0);
	*ret = (struct body_head){ .is_blob = db_col_i64(q, 1) != 0,
				   .size = (uint64_t)db_col_i64(q, 2),
				   .header_size = (uint64_t)db_col_i64(q, 3) };
	db_reset(q);
	return format == 0 ? 0 : ERR_VERSION;
}

static int read_blob(struct account *a, int64_t body_id, uint64_t from, char *p, size_t n)
{
	_cleanup_(freep) char *path = body_blob_path(a, body_id);
	_cleanup_(close_fdp) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_from_errno(errno);
	return file_pread_all(fd, p, n, from);
}

/* The range must lie within the body. */
static int read_range(struct account *a, struct db_tx *tx, int64_t body_id, bool is_blob,
		      uint64_t from, char *p, size_t n)
{
	if (n == 0)
		return 0;
	return is_blob ? read_blob(a, body_id, from, p, n)
		       : db_blob_read(tx, "body", "data", body_id, from, p, n);
}

int store_body_read(struct account *a, int64_t body_id, uint64_t from, uint64_t n, struct buf *b)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	struct body_head h;
	int r = db_read_begin(a->db, &tx);
	if (!r)
		r = load_head(tx, body_id, &h);
	if (r)
		return r;
	from = MIN(from, h.size);
	n = MIN(n, h.size - from);
	char *p = buf_reserve(b, n);
	if (!p && n)
		return ERR_TOOBIG;
	r = read_range(a, tx, body_id, h.is_blob, from, p, n);
	if (!r)
		buf_added(b, n);
	return r;
}

int store_text_get(struct account *a, int64_t body_id, struct arena *mem, span *ret_header)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	struct body_head h;
	int r = db_read_begin(a->db, &tx);
	if (!r)
		r = load_head(tx, body_id, &h);
	if (r)
		return r;
	char *p = arena_alloc(mem, h.header_size + 1);
	r = read_range(a, tx, body_id, h.is_blob, 0, p, h.header_size);
	if (!r)
		*ret_header = span_of(p, h.header_size);
	return r;
}

static int load_item(struct db_tx *tx, const struct message_row *m, unsigned want,
		     struct arena *mem, struct store_item *ret)
{
	struct db_stmt *q = db_sql(
		tx,
		"SELECT header_size, trace, envelope, body, bodystructure FROM body WHERE id = ?");
	db_bind(q, "i", m->body);
	int r = db_step(q);
	if (r <= 0)
		return r ? r : ERR_CORRUPT;
	*ret = (struct store_item){ .uid = { m->uid },
				    .internal_date = m->internal_date,
				    .size = m->size,
				    .header_size = (uint32_t)db_col_i64(q, 0),
				    .body_id = m->body };
	span trace = db_col_span(q, 1);
	memcpy(ret->trace.b, trace.p, MIN(trace.n, sizeof(ret->trace.b)));
	if (want & STORE_WANT_ENVELOPE)
		ret->envelope = arena_span(mem, db_col_span(q, 2));
	if (want & STORE_WANT_STRUCTURE) {
		ret->body = arena_span(mem, db_col_span(q, 3));
		ret->bodystructure = arena_span(mem, db_col_span(q, 4));
	}
	db_reset(q);
	return 0;
}

int store_item_get(struct account *a, int64_t mailbox, struct imap_uid uid, unsigned want,
		   struct arena *mem, struct store_item *ret)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	struct message_row m;
	int r = db_read_begin(a->db, &tx);
	if (r)
		return r;
	r = message_load(tx, mailbox, uid.v, &m);
	if (r <= 0)
		return r ? r : ERR_NOENT;
	return load_item(tx, &m, want, mem, ret);
}

/* --- the sweep --- */

static int sweep_one(struct account *a, const char *name, int dir_fd, time_t now)
{
	struct stat st;
	char *end;
	int64_t id = (int64_t)strtoull(name, &end, 16), one;
	/* The time of the link counts, not that of the last write. */
	if (*end || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    now - st.st_ctime < SWEEP_AGE_SEC)
		return 0;
	struct db_tx *tx = NULL;
	int r = db_read_begin(a->db, &tx);
	if (r)
		return r;
	r = db_get_i64(tx, &one, "SELECT 1 FROM body WHERE id = ? AND is_blob", "i", id);
	db_read_end(tx);
	if (r == 0 && unlinkat(dir_fd, name, 0) != 0)
		r = err_from_errno(errno);
	return MIN(r, 0);
}

int body_sweep(struct account *a)
{
	_cleanup_(freep) char *path = NULL;
	if (asprintf(&path, "%s/blobs", a->dir) < 0)
		abort();
	DIR *dir = opendir(path);
	if (!dir)
		return err_from_errno(errno);
	time_t now = (time_t)((clock_wall() - clock_offset()) /
			      USEC_SEC); /* as the kernel dates files */
	struct dirent *e;
	int r = 0;
	while (!r && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			r = sweep_one(a, e->d_name, dirfd(dir), now);
	closedir(dir);
	return r;
}

#include "queue/queue_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/file.h"

static const usec day = 86400 * USEC_SEC;

char *blob_path(const struct queue *q, const char *name)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4096);
	buf_put_str(&b, q->blobs);
	buf_put_char(&b, '/');
	buf_put_str(&b, name);
	return xstrdup(buf_cstr(&b));
}

void blob_remove(struct queue *q, const char *name)
{
	_cleanup_(freep) char *path = blob_path(q, name);
	file_remove(path); /* left over at worst, and then swept */
}

/* 1: *RET is the blob's path (the caller frees); 0: the body is inline. */
static int body_blob(struct queue *q, struct db_tx *tx, int64_t message, char **ret)
{
	struct db_stmt *s = db_sql(tx, "SELECT blob FROM message WHERE row = ?");
	db_bind(s, "i", message);
	int r = db_step(s);
	if (r <= 0)
		return r < 0 ? r : ERR_NOENT;
	span name = db_col_span(s, 0);
	r = name.n > 0 && name.n < BLOB_NAME;
	if (r) {
		char z[BLOB_NAME] = { 0 };
		memcpy(z, name.p, name.n);
		*ret = blob_path(q, z);
	}
	db_reset(s);
	return r;
}

static int open_blob(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) /* the row says it is there: its absence is damage, not "inline" */
		return errno == ENOENT ? ERR_CORRUPT : err_from_errno(errno);
	return fd;
}

int queue_body_read(struct queue *q, const struct queue_lease *l, uint64_t from, uint64_t n,
		    struct buf *b)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	_cleanup_(freep) char *path = NULL;
	from = MIN(from, l->size);
	n = MIN(n, l->size - from);
	if (n == 0)
		return 0;
	char *p = buf_reserve(b, n);
	if (!p)
		return ERR_TOOBIG;
	int r = db_read_begin(q->shard[l->shard].db, &tx);
	if (r >= 0)
		r = body_blob(q, tx, l->message_row, &path);
	if (r > 0) {
		_cleanup_(close_fdp) int fd = open_blob(path);
		r = fd < 0 ? fd : file_pread_all(fd, p, n, from);
	} else if (r == 0) {
		r = db_blob_read(tx, "body", "data", l->message_row, from, p, n);
	}
	if (r < 0)
		return r;
	buf_added(b, n);
	return 0;
}

int queue_body_fd(struct queue *q, const struct queue_lease *l)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	_cleanup_(freep) char *path = NULL;
	int r = db_read_begin(q->shard[l->shard].db, &tx);
	if (r >= 0)
		r = body_blob(q, tx, l->message_row, &path);
	if (r <= 0)
		return r < 0 ? r : ERR_NOENT;
	return open_blob(path);
}

/* ------------------------------------------------------------------ sweep */

static int blob_known(struct queue *q, const char *name)
{
	for (unsigned i = 0; i < q->n_shards; i++) {
		_cleanup_(db_read_endp) struct db_tx *tx = NULL;
		int64_t one;
		int r = db_read_begin(q->shard[i].db, &tx);
		if (r >= 0)
			r = db_get_i64(tx, &one, "SELECT 1 FROM message WHERE blob = ?", "z", name);
		if (r != 0)
			return r;
	}
	return 0;
}

static int sweep_blobs(struct queue *q)
{
	DIR *dir = opendir(q->blobs);
	if (!dir)
		return err_from_errno(errno);
	int r = 0;
	/* A file's times come from the kernel: no lab offset. */
	usec before = clock_wall() - clock_offset() - day;
	for (struct dirent *e; r >= 0 && (e = readdir(dir));) {
		struct stat st;
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode) || (usec)st.st_mtime * USEC_SEC > before)
			continue;
		r = blob_known(q, e->d_name);
		if (r == 0)
			blob_remove(q, e->d_name);
	}
	closedir(dir);
	return r < 0 ? r : 0;
}

static int write_forget_once(struct db_tx *tx, void *arg)
{
	return db_run(tx, "DELETE FROM once WHERE at < ?", "i", *(usec *)arg);
}

int queue_sweep(struct queue *q)
{
	usec before = clock_wall() - 30 * day;
	int r = sweep_blobs(q);
	for (unsigned i = 0; r >= 0 && i < q->n_shards; i++)
		r = db_write(q->shard[i].db, write_forget_once, &before);
	return r;
}

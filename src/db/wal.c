/* A VFS for writers: SQLite's own, but for the WAL.  What a commit appends to the WAL (for SQLite, a
 * header of 24 bytes and a page at a time) is gathered, goes out in few large writes, and is synced
 * by way of the commit log (commit_log.h).
 *
 * Nothing is promised, and no other connection is shown a frame, before the WAL is synced (a commit
 * syncs it first, with `synchronous = FULL`): so it is enough that the bytes are written, in their
 * order, before anybody on this handle syncs, reads or asks for the size.  Bytes that are still
 * held when the file is closed belong to no commit. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "db/db_int.h"
#include "db/commit_log.h"

struct piece {
	sqlite3_int64 at;
	size_t from, n; /* in the held bytes */
};

struct wal_file {
	sqlite3_file f; /* first: SQLite sees this */
	int fd;
	struct clog_file log;
	struct buf held;  /* written since the last sync */
	size_t in_kernel; /* those before are in the file */
	struct piece pieces[CLOG_PIECES];
	size_t n_pieces;
	clog_seq last; /* of the last sync */
	bool too_long; /* more was written since then than is held */
};

static sqlite3_vfs *below;

static struct wal_file *wal_of(sqlite3_file *f)
{
	return CONTAINER_OF(f, struct wal_file, f);
}

/* errno says more (sqlite3_system_errno). */
static int write_at(int fd, const char *p, size_t n, sqlite3_int64 at)
{
	while (n) {
		ssize_t w = pwrite(fd, p, n, at);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return errno == ENOSPC || errno == EDQUOT ? SQLITE_FULL
								  : SQLITE_IOERR_WRITE;
		p += w;
		n -= (size_t)w;
		at += w;
	}
	return SQLITE_OK;
}

static void forget(struct wal_file *w)
{
	buf_done(&w->held);
	w->in_kernel = w->n_pieces = 0;
}

/* Brings what is held into the file.  What could not be written is forgotten: the commit fails. */
static int flush(struct wal_file *w)
{
	for (size_t i = 0; i < w->n_pieces; i++) {
		const struct piece *p = &w->pieces[i];
		if (p->from + p->n <= w->in_kernel)
			continue;
		size_t skip = w->in_kernel - p->from;
		int rc = write_at(w->fd, w->held.p + p->from + skip, p->n - skip,
				  p->at + (sqlite3_int64)skip);
		if (rc != SQLITE_OK) {
			forget(w);
			w->too_long = true;
			return rc;
		}
		w->in_kernel = p->from + p->n;
	}
	return SQLITE_OK;
}

/* Holds N bytes for AT; false: there is no room. */
static bool hold(struct wal_file *w, const void *bytes, size_t n, sqlite3_int64 at)
{
	struct piece *p = w->n_pieces ? &w->pieces[w->n_pieces - 1] : NULL;
	if (w->held.n + n > CLOG_BYTES)
		return false;
	if (!p || at != p->at + (sqlite3_int64)p->n) {
		if (w->n_pieces == CLOG_PIECES)
			return false;
		p = &w->pieces[w->n_pieces++];
		*p = (struct piece){ .at = at, .from = w->held.n };
	}
	buf_put(&w->held, bytes, n);
	p->n += n;
	return true;
}

static int wal_write(sqlite3_file *f, const void *bytes, int n, sqlite3_int64 at)
{
	struct wal_file *w = wal_of(f);
	if (hold(w, bytes, (size_t)n, at))
		return SQLITE_OK;
	int rc = flush(w);
	forget(w);
	w->too_long = true;
	if (rc == SQLITE_OK)
		hold(w, bytes, (size_t)n, at);
	return rc;
}

_Thread_local struct db_wal_commit db_wal_commit;

/* SQLite syncs the WAL for three reasons.  A commit: who waits for it may do so later.  A new header,
 * before frames are written over old ones, and a checkpoint, before the file's pages change: those
 * must be durable when this returns. */
static int sync_through_log(struct wal_file *w)
{
	struct clog_piece pieces[CLOG_PIECES];
	bool header = false;
	for (size_t i = 0; i < w->n_pieces; i++) {
		pieces[i] = (struct clog_piece){
			.at = (uint64_t)w->pieces[i].at,
			.bytes = span_sub(buf_span(&w->held), w->pieces[i].from, w->pieces[i].n)
		};
		header |= !w->pieces[i].at;
	}
	int r = clog_sync(&w->log, &w->held, pieces, w->n_pieces, &w->last);
	if (r || (db_wal_commit.may_wait && !header)) {
		db_wal_commit.seq = w->last;
		return r;
	}
	return clog_wait(w->last);
}

static int wal_sync(sqlite3_file *f, int flags)
{
	struct wal_file *w = wal_of(f);
	int rc = flush(w);
	if (rc != SQLITE_OK)
		return rc;
	int r;
	if (w->too_long)
		r = clog_sync_alone(&w->log);
	else
		r = w->n_pieces ? sync_through_log(w) : clog_wait(w->last);
	forget(w);
	w->too_long = r < 0; /* then only the file itself can be trusted */
	return r < 0 ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int wal_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	struct wal_file *w = wal_of(f);
	int rc = flush(w);
	for (char *to = p; rc == SQLITE_OK && n > 0;) {
		ssize_t got = pread(w->fd, to, (size_t)n, at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return SQLITE_IOERR_READ;
		if (got == 0) {
			memset(to, 0, (size_t)n);
			return SQLITE_IOERR_SHORT_READ;
		}
		to += got;
		at += got;
		n -= (int)got;
	}
	return rc;
}

static int wal_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	struct wal_file *w = wal_of(f);
	int rc = flush(w);
	if (rc != SQLITE_OK)
		return rc;
	return ftruncate(w->fd, size) == 0 ? SQLITE_OK : SQLITE_IOERR_TRUNCATE;
}

static int wal_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	struct wal_file *w = wal_of(f);
	struct stat st;
	int rc = flush(w);
	if (rc != SQLITE_OK)
		return rc;
	if (fstat(w->fd, &st) != 0)
		return SQLITE_IOERR_FSTAT;
	*ret = st.st_size;
	return SQLITE_OK;
}

static int wal_close(sqlite3_file *f)
{
	struct wal_file *w = wal_of(f);
	forget(w);
	clog_detach(&w->log);
	close_fdp(&w->fd);
	return SQLITE_OK;
}

static int wal_control(sqlite3_file *f, int op, void *arg)
{
	return SQLITE_NOTFOUND;
}

/* Without this property SQLite may write frames after a commit's only sync. */
static int wal_properties(sqlite3_file *f)
{
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* A WAL is never locked (xLock and its like) nor mapped. */
static const sqlite3_io_methods wal_methods = { .iVersion = 1,
						.xClose = wal_close,
						.xRead = wal_read,
						.xWrite = wal_write,
						.xTruncate = wal_truncate,
						.xSync = wal_sync,
						.xFileSize = wal_size,
						.xFileControl = wal_control,
						.xDeviceCharacteristics = wal_properties };

static int wal_vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags,
			int *ret_flags)
{
	if (!(flags & SQLITE_OPEN_WAL))
		return below->xOpen(below, name, f, flags, ret_flags);
	struct wal_file *w = wal_of(f);
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	f->pMethods = NULL;
	if (fd < 0)
		return SQLITE_CANTOPEN;
	*w = (struct wal_file){ .f.pMethods = &wal_methods, .fd = fd };
	buf_init(&w->held, CLOG_BYTES);
	clog_attach(&w->log, fd, name);
	if (ret_flags)
		*ret_flags = flags;
	return SQLITE_OK;
}

int db_wal_forget(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	_cleanup_(freep) char *dir = span_dup(slash ? span_of(path, MAX(slash - path, 1))
						    : SPAN("."));
	_cleanup_(freep) char *real = realpath(dir, NULL); /* SQLite resolves paths too */
	_cleanup_(freep) char *whole = NULL;
	if (!real)
		return err_from_errno(errno);
	if (asprintf(&whole, "%s/%s", real, name) < 0)
		abort();
	return clog_forget(whole);
}

void db_wal_vfs_add(void)
{
	static sqlite3_vfs vfs;
	below = sqlite3_vfs_find(DB_VFS);
	assert(below);
	vfs = *below;
	vfs.zName = DB_WRITER_VFS;
	vfs.szOsFile = MAX(vfs.szOsFile, (int)sizeof(struct wal_file));
	vfs.pNext = NULL;
	vfs.xOpen = wal_vfs_open;
	if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK)
		abort(); /* only at start, and only without memory */
}

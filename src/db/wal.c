/* A VFS for writers: SQLite's own, except that what a commit appends to the WAL goes out in few
 * large writes.  SQLite writes each frame as a header of 24 bytes and a page.
 *
 * Nothing is promised, and no other connection is shown a frame, before the WAL is synced (a commit
 * syncs it first, with `synchronous = FULL`): so it is enough that the bytes are written, in their
 * order, before anybody on this handle syncs, reads or asks for the size.  Bytes that are still
 * held when the file is closed belong to no commit. */
#include <assert.h>
#include <stdlib.h>

#include "db/db_int.h"

#define HELD_MAX (64u * 1024) /* one write of SQLite's takes less than 128 KiB */

struct wal_file {
	sqlite3_file f; /* first: SQLite sees this */
	char *held;	/* bytes for AT; NULL between commits */
	size_t n;
	sqlite3_int64 at;
	sqlite3_file real[]; /* the file of the VFS below, and the rest of it */
};

static sqlite3_vfs *below;

static struct wal_file *wal_of(sqlite3_file *f)
{
	return CONTAINER_OF(f, struct wal_file, f);
}

static sqlite3_file *real_of(sqlite3_file *f)
{
	return wal_of(f)->real;
}

/* What could not be written is forgotten: the commit fails. */
static int flush(sqlite3_file *f)
{
	struct wal_file *w = wal_of(f);
	size_t n = w->n;
	w->n = 0;
	return n ? real_of(f)->pMethods->xWrite(real_of(f), w->held, (int)n, w->at) : SQLITE_OK;
}

static int wal_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	struct wal_file *w = wal_of(f);
	if (w->n && (at != w->at + (sqlite3_int64)w->n || w->n + (size_t)n > HELD_MAX)) {
		int rc = flush(f);
		if (rc != SQLITE_OK)
			return rc;
	}
	if ((size_t)n > HELD_MAX)
		return real_of(f)->pMethods->xWrite(real_of(f), p, n, at);
	if (!w->held)
		w->held = xmalloc(HELD_MAX);
	if (!w->n)
		w->at = at;
	memcpy(w->held + w->n, p, (size_t)n);
	w->n += (size_t)n;
	return SQLITE_OK;
}

static int wal_sync(sqlite3_file *f, int flags)
{
	int rc = flush(f);
	free(STEAL_PTR(&wal_of(f)->held));
#ifndef SKIP_SYNC_COMMIT
	if (rc == SQLITE_OK)
		rc = real_of(f)->pMethods->xSync(real_of(f), flags);
#endif
	return rc;
}

static int wal_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	int rc = flush(f);
	return rc == SQLITE_OK ? real_of(f)->pMethods->xRead(real_of(f), p, n, at) : rc;
}

static int wal_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	int rc = flush(f);
	return rc == SQLITE_OK ? real_of(f)->pMethods->xTruncate(real_of(f), size) : rc;
}

static int wal_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	int rc = flush(f);
	return rc == SQLITE_OK ? real_of(f)->pMethods->xFileSize(real_of(f), ret) : rc;
}

static int wal_close(sqlite3_file *f)
{
	free(STEAL_PTR(&wal_of(f)->held));
	return real_of(f)->pMethods->xClose(real_of(f));
}

static int wal_control(sqlite3_file *f, int op, void *arg)
{
	return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int wal_properties(sqlite3_file *f)
{
	return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
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
	*wal_of(f) = (struct wal_file){ 0 };
	int rc = below->xOpen(below, name, real_of(f), flags, ret_flags);
	if (rc != SQLITE_OK)
		return rc;
	/* Without this property SQLite may write frames after a commit's only sync. */
	assert(wal_properties(f) & SQLITE_IOCAP_POWERSAFE_OVERWRITE);
	f->pMethods = &wal_methods;
	return SQLITE_OK;
}

void db_wal_vfs_add(void)
{
	static sqlite3_vfs vfs;
	below = sqlite3_vfs_find(DB_VFS);
	assert(below);
	vfs = *below;
	vfs.zName = DB_WRITER_VFS;
	vfs.szOsFile += (int)sizeof(struct wal_file);
	vfs.pNext = NULL;
	vfs.xOpen = wal_vfs_open;
	if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK)
		abort(); /* only at start, and only without memory */
}

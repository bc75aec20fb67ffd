/* Whole copies: a backup while mail flows, and the way back from a failed sync (D3).
 *
 * The swap of a copy: PATH-copy.tmp is written and synced, then renamed to PATH-copy (from here on
 * it is the database), then the old WAL is removed and PATH-copy renamed to PATH.  The old WAL must
 * never meet the new file.  db_open does the second half again after a crash in between. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "db/db_int.h"
#include "sys/file.h"

static char *with_suffix(const char *path, const char *suffix)
{
	char *p = NULL;
	if (asprintf(&p, "%s%s", path, suffix) < 0)
		abort();
	return p;
}

static int rename_synced(const char *from, const char *to)
{
	if (rename(from, to) != 0)
		return err_from_errno(errno);
	return db_sync_parent(to);
}

static int sync_path(const char *path)
{
	_cleanup_(close_fdp) int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_from_errno(errno) : file_sync(fd);
}

/* Every page of FROM, as its open transaction sees it, into the new file TO; synced. */
static int copy_pages(sqlite3 *from, const char *to)
{
	sqlite3 *sq = NULL;
	int r = file_remove(to);
	if (!r)
		r = db_create_file(to);
	if (r)
		return r;
	/* No journal and no syncs by SQLite: the file is worthless until it is complete. */
	int rc = sqlite3_open_v2(to, &sq, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, "unix");
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sq, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL,
				  NULL, NULL);
	sqlite3_backup *b = rc == SQLITE_OK ? sqlite3_backup_init(sq, "main", from, "main") : NULL;
	if (b) {
		sqlite3_backup_step(b, -1);
		rc = sqlite3_backup_finish(b);
	} else if (rc == SQLITE_OK) {
		rc = sqlite3_errcode(sq);
	}
	r = db_err(sq, rc);
	sqlite3_close(sq);
	if (!r)
		r = sync_path(to);
	if (r)
		file_remove(to);
	return r;
}

int db_backup(struct db *d, const char *to_path)
{
	struct db_tx *tx = NULL;
	int r = db_read_begin(d, &tx);
	if (r)
		return r;
	_cleanup_(freep) char *tmp = with_suffix(to_path, ".tmp");
	r = copy_pages(tx->sq, tmp);
	db_read_end(tx);
	return r ? r : rename_synced(tmp, to_path);
}

int db_finish_swap(const char *path)
{
	_cleanup_(freep) char *copy = with_suffix(path, "-copy");
	_cleanup_(freep) char *wal = with_suffix(path, "-wal");
	if (access(copy, F_OK) != 0)
		return 0;
	int r = db_wal_forget(wal);
	if (!r)
		r = file_remove(wal);
	if (!r)
		r = db_sync_parent(path);
	return r ? r : rename_synced(copy, path);
}

static int copy_owned(struct db *d)
{
	_cleanup_(freep) char *tmp = with_suffix(d->path, "-copy.tmp");
	_cleanup_(freep) char *copy = with_suffix(d->path, "-copy");
	int r = copy_pages(d->writer->sq, tmp);
	return r ? r : rename_synced(tmp, copy);
}

int db_reopen_copy(struct db *d)
{
	db_own_any(d);
	if (!atomic_load(&d->poison)) { /* another thread was faster */
		db_disown(d);
		return 0;
	}
	db_readers_close(d);
	int r = d->writer ? copy_owned(d) : 0;
	if (r) {
		db_disown(d);
		return r;
	}
	atomic_store(&d->poison, ERR_SYNC); /* so that closing writes nothing to the old file */
	db_conn_close(d->writer);
	d->writer = NULL;
	r = db_finish_swap(d->path);
	if (!r) {
		db_register_moved(d);
		r = db_attach_writer(d, NULL);
	}
	if (!r) {
		atomic_store(&d->wal_pages, 0);
		atomic_store(&d->poison, 0);
	}
	db_disown(d);
	return r;
}

/* Opening and closing: the files, the owner's lock, connections. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "db/db_int.h"
#include "sys/file.h"

/* SQLite's lock keeps other processes out; it does not keep this process from opening a file twice.
 * So the open files are listed here, by inode. */
static struct {
	pthread_mutex_t mu;
	struct db *head;
} registry = { .mu = PTHREAD_MUTEX_INITIALIZER };

static pthread_once_t sqlite_once = PTHREAD_ONCE_INIT;

static void sqlite_setup(void)
{
	/* A connection is used by one thread at a time (leader, or reader between begin and end).
	 */
	sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	sqlite3_initialize();
	db_wal_vfs_add();
}

/* --- errors --- */

int db_err(sqlite3 *sq, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_CONSTRAINT: {
		int ext = sq ? sqlite3_extended_errcode(sq) : rc;
		return ext == SQLITE_CONSTRAINT_UNIQUE || ext == SQLITE_CONSTRAINT_PRIMARYKEY ||
				       ext == SQLITE_CONSTRAINT_ROWID
			       ? ERR_EXIST
			       : ERR_INVAL;
	}
	case SQLITE_FULL:
		return ERR_FULL;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN: {
		int e = sq ? sqlite3_system_errno(sq) : 0;
		if (e == EDQUOT ||
		    e == ENOSPC) /* as SQLite sees it, only ENOSPC of a write is "full" */
			return ERR_FULL;
		return ERR_IO;
	}
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return ERR_BUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return ERR_CORRUPT;
	case SQLITE_NOMEM:
		return ERR_NOMEM;
	case SQLITE_TOOBIG:
		return ERR_TOOBIG;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return ERR_PERM;
	default:
		return ERR_INTERNAL;
	}
}

bool db_rc_poisons(sqlite3 *sq, int rc)
{
	if ((rc & 0xff) != SQLITE_IOERR)
		return false;
	switch (sqlite3_extended_errcode(sq)) {
	case SQLITE_IOERR_FSYNC:
	case SQLITE_IOERR_DIR_FSYNC:
		return true;
	case SQLITE_IOERR_WRITE:
	case SQLITE_IOERR_TRUNCATE:
		return db_err(sq, rc) != ERR_FULL;
	default:
		return false;
	}
}

/* --- connections --- */

int db_exec(struct db_tx *c, const char *sql)
{
	return db_err(c->sq, sqlite3_exec(c->sq, sql, NULL, NULL, NULL));
}

static int on_wal(void *arg, sqlite3 *sq, const char *name, int pages)
{
	struct db *d = arg;
	atomic_store(&d->wal_pages, (size_t)pages);
	return SQLITE_OK;
}

static int conn_setup_writer(struct db_tx *c)
{
	int one = 1;
	/* The WAL's directory entry, once synced, stays. */
	sqlite3_file_control(c->sq, "main", SQLITE_FCNTL_PERSIST_WAL, &one);
	sqlite3_wal_hook(c->sq, on_wal, c->d);
	/* FULL: each commit syncs the WAL, on which wal.c relies too. */
	return db_exec(c, "PRAGMA synchronous = FULL; PRAGMA secure_delete = FAST;"
			  "PRAGMA journal_size_limit = 16777216; PRAGMA temp_store = MEMORY;"
			  "PRAGMA foreign_keys = OFF");
}

int db_conn_open(struct db *d, bool writer, struct db_tx **ret, struct err_info *info)
{
	struct db_tx *c = xcalloc(1, sizeof(*c));
	c->d = d;
	c->writer = writer;
	int flags = SQLITE_OPEN_NOMUTEX | (writer ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
	int rc = sqlite3_open_v2(d->path, &c->sq, flags, writer ? DB_WRITER_VFS : DB_VFS);
	int r = db_err(c->sq, rc);
	if (!r) {
		sqlite3_extended_result_codes(c->sq, 1);
		r = writer ? conn_setup_writer(c) : db_exec(c, "PRAGMA temp_store = MEMORY");
	}
	if (!r) {
		/* KiB. */
		r = db_exec(c, d->flags & DB_SMALL ? "PRAGMA cache_size = -160"
			       : writer		   ? "PRAGMA cache_size = -1024"
						   : "PRAGMA cache_size = -512");
	}
	if (!r)
		r = db_stmt_init(&c->begin, c,
				 writer && !(d->flags & DB_SINGLE_CONNECTION) ? "BEGIN IMMEDIATE"
									      : "BEGIN");
	if (!r)
		r = db_stmt_init(&c->commit, c, "COMMIT");
	if (!r)
		r = db_stmt_init(&c->rollback, c, "ROLLBACK");
	if (r) {
		err_set(info, r, "%s: %s", d->path, c->sq ? sqlite3_errmsg(c->sq) : err_text(r));
		c->refused = true;
		db_conn_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void db_conn_close(struct db_tx *c)
{
	if (!c)
		return;
	db_stmts_free(c);
	db_stmt_done(&c->begin);
	db_stmt_done(&c->commit);
	db_stmt_done(&c->rollback);
	if (c->writer &&
	    (c->refused || atomic_load(&c->d->poison))) /* leave the files as they are */
		sqlite3_db_config(c->sq, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	else if (c->writer && c->sq)
		db_exec(c, "PRAGMA journal_size_limit = 0"); /* the WAL stays, empty */
	sqlite3_close_v2(c->sq);
	free(c);
}

/* --- files --- */

int db_create_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_from_errno(errno);
	close(fd);
	return 0;
}

int db_sync_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_(freep) char *dir = span_dup(slash ? span_of(path, MAX(slash - path, 1))
						    : SPAN("."));
	return file_sync_dir(dir);
}

static bool exists(const char *path, const char *suffix)
{
	struct stat st;
	char *p = NULL;
	if (asprintf(&p, "%s%s", path, suffix) < 0)
		abort();
	bool yes = lstat(p, &st) == 0;
	free(p);
	return yes;
}

/* --- the registry --- */

static int register_locked(struct db *d, struct err_info *info)
{
	struct stat st;
	if (stat(d->path, &st) != 0)
		return err_set(info, err_from_errno(errno), "%s: cannot be opened: %s", d->path,
			       err_text(err_from_errno(errno)));
	for (struct db *o = registry.head; o; o = o->reg_next)
		if (o->dev == st.st_dev && o->ino == st.st_ino)
			return err_set(info, ERR_BUSY, "%s: is open in this process already",
				       d->path);
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	d->reg_next = registry.head;
	registry.head = d;
	return 0;
}

static void unregister_locked(struct db *d)
{
	for (struct db **p = &registry.head; *p; p = &(*p)->reg_next)
		if (*p == d) {
			*p = d->reg_next;
			return;
		}
}

void db_register_moved(struct db *d)
{
	struct stat st;
	pthread_mutex_lock(&registry.mu);
	if (stat(d->path, &st) == 0) {
		d->dev = st.st_dev;
		d->ino = st.st_ino;
	}
	pthread_mutex_unlock(&registry.mu);
}

/* --- open --- */

/* The process that holds SQLite's lock, or 0.  Closes an fd of the file: not while we have it open.
 */
static pid_t lock_holder(const char *path)
{
	_cleanup_(close_fdp) int fd = open(path, O_RDWR | O_CLOEXEC);
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	if (fd < 0 || fcntl(fd, F_GETLK, &l) != 0 || l.l_type == F_UNLCK)
		return 0;
	return l.l_pid;
}

static int busy(const struct db *d, struct err_info *info)
{
	return err_set(info, ERR_BUSY, "%s: is in use by another process (pid %ld)", d->path,
		       (long)lock_holder(d->path));
}

/* A database that nobody has written yet gets its fixed properties. */
static int make_fresh(struct db_tx *c)
{
	int64_t pages = 0;
	int r = db_get_i64(c, &pages, "PRAGMA page_count", "");
	if (r < 0 || pages > 0)
		return MIN(r, 0);
	/* Small pages: a commit touches several of which it changes a few bytes. */
	return db_exec(c, "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA "
			  "journal_mode = WAL");
}

int db_attach_writer(struct db *d, struct err_info *info)
{
	struct db_tx *w = NULL;
	bool had_wal = exists(d->path, "-wal");
	int r = db_conn_open(d, true, &w, info);
	if (r)
		return r == ERR_BUSY ? busy(d, info) : r;
	/* The first read takes the owner's lock. */
	r = make_fresh(w);
	if (!r && sqlite3_db_readonly(w->sq, "main") == 1)
		r = err_set(info, ERR_PERM, "%s: cannot be written", d->path);
	else if (r && r != ERR_BUSY)
		err_set(info, r, "%s: %s", d->path, sqlite3_errmsg(w->sq));
	else if (!r)
		r = db_migrate(w, d->schema, d->flags, info);
	if (!r && !had_wal) {
		/* SQLite syncs the directory when it first syncs a WAL, but ignores if that fails.
		 */
		r = db_sync_parent(d->path);
		if (r)
			err_set(info, r, "%s: its directory cannot be synced", d->path);
	}
	if (r) {
		w->refused = true;
		db_conn_close(w);
		return r == ERR_BUSY ? busy(d, info) : r;
	}
	w->fatal = 0;
	d->writer = w;
	db_note_memory(d);
	return 0;
}

static int open_files(struct db *d, struct err_info *info)
{
	int r = 0;
	if (exists(d->path, "-copy")) { /* a crash between the halves of db_reopen_copy */
		if (lock_holder(d->path))
			return busy(d, info);
		r = db_finish_swap(d->path);
	}
	if (r)
		return err_set(info, r, "%s: cannot put its copy into place", d->path);
	if (!exists(d->path, "")) {
		if (!(d->flags & DB_CREATE))
			return err_set(info, ERR_NOENT, "%s: does not exist", d->path);
		r = db_create_file(d->path);
		if (r && r != ERR_EXIST)
			return err_set(info, r, "%s: cannot be made: %s", d->path, err_text(r));
	}
	return register_locked(d, info);
}

int db_open(const char *path, const struct db_schema *schema, unsigned flags, struct db **ret,
	    struct err_info *info)
{
	pthread_once(&sqlite_once, sqlite_setup);
	struct db *d = xcalloc(1, sizeof(*d));
	d->path = xstrdup(path);
	d->schema = schema;
	d->flags = flags;
	d->tail = &d->head;
	pthread_mutex_init(&d->mu, NULL);
	pthread_cond_init(&d->reader_free, NULL);
	/* No other thread may open or close an fd of this file meanwhile: closing one drops the
	 * lock. */
	pthread_mutex_lock(&registry.mu);
	int r = open_files(d, info);
	pthread_mutex_unlock(&registry.mu);
	if (!r)
		r = db_attach_writer(d, info);
	if (r) {
		db_close(d);
		return r;
	}
	*ret = d;
	return 0;
}

void db_close(struct db *d)
{
	if (!d)
		return;
	db_drain_last(d);
	db_readers_close(d);
	db_conn_close(d->writer); /* checkpoints */
	pthread_mutex_lock(&registry.mu);
	unregister_locked(d);
	pthread_mutex_unlock(&registry.mu);
	pthread_cond_destroy(&d->reader_free);
	pthread_mutex_destroy(&d->mu);
	free(d->path);
	free(d);
}

int db_poisoned(const struct db *d)
{
	return atomic_load(&d->poison);
}

/* By the owner: SQLite's counters are not safe beside another thread's use of the connection. */
void db_note_memory(struct db *d)
{
	static const int ops[] = { SQLITE_DBSTATUS_CACHE_USED, SQLITE_DBSTATUS_SCHEMA_USED,
				   SQLITE_DBSTATUS_STMT_USED };
	size_t sum = 0;
	for (size_t i = 0; i < ARRAY_LEN(ops) && d->writer; i++) {
		int now = 0, high = 0;
		if (sqlite3_db_status(d->writer->sq, ops[i], &now, &high, 0) == SQLITE_OK)
			sum += (size_t)now;
	}
	atomic_store(&d->memory, sum);
}

size_t db_memory(const struct db *d)
{
	return sizeof(*d) + atomic_load(&d->memory);
}

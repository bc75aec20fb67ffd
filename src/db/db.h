/* db: owned SQLite databases.  The one room that includes sqlite3.h.
 *
 * Invariants
 *  D1  One process owns a database (SQLite's `unix-excl` lock on the file, held while it is open; within
 *      the process a registry of open inodes); one connection writes it, and the same one
 *      checkpoints (SQLite before 3.51.3 can corrupt a WAL otherwise).
 *  D2  db_write() returns 0 only after the commit that holds its effect was synced (WAL,
 *      synchronous=FULL, itself or in the commit log).  Writers that arrive together share one commit.
 *  D3  A failed sync or I/O error during a commit poisons the handle: nothing of the batch is
 *      acknowledged, every later call answers ERR_SYNC, until the database was reopened through a
 *      copy (db_reopen_copy).  Disk full is ERR_FULL, undoes the batch, and poisons nothing.
 *  D4  A write function that fails is undone alone (savepoint); the others of the batch stand.
 *  D5  A database says which schema version it has and the oldest version that can still write it; a
 *      newer one than we can write is ERR_VERSION, and nothing was touched.
 *  D6  A read transaction is short (one job, one piece of output).
 *
 * Nothing above db/ may assume a local file: paths are names that the VFS of the database resolves. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"

/* The commit log (db/commit_log.h): databases below DIR that are opened after this share the syncs of their
 * commits.  First replays what a crash left there, so it comes before any db_open, and nobody may
 * open a database of DIR otherwise before that.  SEGMENT_BYTES: of each half; 0 only replays.
 * Closed after the last database. */
#define DB_LOG_MIN (1024 * 1024)
int db_log_open(const char *dir, uint64_t segment_bytes, struct err_info *info);
void db_log_drain(void); /* until all that was committed is decided, and all who asked were told */
void db_log_close(void);

struct db;
struct db_tx; /* one connection within a transaction; never outlives its callback / begin-end */

/* One step of the schema's history: statements that bring VERSION-1 to VERSION. */
struct db_migration {
	int version;          /* 1, 2, ... */
	int oldest_writer;    /* oldest release's version that may write afterwards */
	const char *sql;
};
struct db_schema {
	const char *name;     /* "account", "queue", "directory": stored and checked */
	const struct db_migration *steps;
	size_t n_steps;
};
enum {
	DB_CREATE = 1,
	DB_SINGLE_CONNECTION = 2, /* as on RADOS: reads use the owner's connection */
	DB_SMALL = 4, /* one of very many: its connections keep few pages, the system's cache has the rest */
};

/* Opens (and with DB_CREATE makes, durably, directory entry included) the database at PATH and migrates
 * it.  ERR_NOENT, ERR_BUSY (other owner), ERR_VERSION, ERR_CORRUPT, ERR_FULL, ERR_IO. */
int db_open(const char *path, const struct db_schema *schema, unsigned flags, struct db **ret, struct err_info *info);
/* Checkpoints and closes; NULL is fine.  No call may be under way. */
void db_close(struct db *d);
int db_poisoned(const struct db *d); /* 0 or ERR_SYNC */

/* Runs FN(tx, arg) within the next commit and waits until that is durable.  FN may run on another
 * thread's time, must not block on anything but this database, and may run again from its start if
 * the batch had to be repeated: its effects outside the database must be idempotent.
 * Returns FN's negative error (its own effects undone), or the commit's; a positive result of FN is 0.
 * Not within a write function or, with DB_SINGLE_CONNECTION, while the thread holds a read (asserted). */
typedef int db_write_fn(struct db_tx *tx, void *arg);
int db_write(struct db *d, db_write_fn *fn, void *arg) _must_check_;
/* Between begin and end, the calling thread's db_write() may answer 0 for what is committed but not yet
 * durable: the thread need not sleep until it is.  Nobody outside may hear of it before: readers and
 * other writers wait, and so must whoever answers a peer.  End returns the ticket for
 * db_when_durable() (0: all is durable).  No error is told later but ERR_SYNC. */
void db_defer_begin(void);
uint64_t db_defer_end(void);
/* FN(result, ARG) is called once, when TICKET is durable (0) or lost (ERR_SYNC): at once, or by the
 * log's thread, where it must not block. */
void db_when_durable(uint64_t ticket, void (*fn)(int result, void *arg), void *arg);
/* Like db_write but does not wait: DONE(result, arg) is called after the commit, from whatever thread
 * made it.  For the journal and counters. */
void db_write_async(struct db *d, db_write_fn *fn, void (*done)(int result, void *arg), void *arg);

/* A read transaction on a read-only connection (a small pool per handle; waits for a free one, so a
 * thread holds at most one of a database).  Its snapshot is taken by the first statement. */
int db_read_begin(struct db *d, struct db_tx **ret) _must_check_;
void db_read_end(struct db_tx *tx); /* NULL is fine */
DEFINE_CLEANUP(struct db_tx, db_read_end)

/* Moves the WAL's pages into the file; commits wait meanwhile, so: maintenance lane, once db_wal_pages()
 * passes ~1,000.  Also shrinks a file of which a quarter is free.  (As a safety the committing thread
 * checkpoints past 4,000 pages, after it told its waiters.) */
int db_checkpoint(struct db *d);
size_t db_wal_pages(const struct db *d); /* pages written since the last complete checkpoint */
/* Commits so far, and the write functions they held: batching as a number. */
void db_counts(const struct db *d, uint64_t *ret_commits, uint64_t *ret_writes);
/* A consistent copy while mail flows: written beside TO_PATH, synced, renamed to it. */
int db_backup(struct db *d, const char *to_path);
/* D3's way back: copies the readable content to a new file, sync, rename, directory sync.  Nothing to do if
 * the handle is not poisoned. */
int db_reopen_copy(struct db *d);
size_t db_memory(const struct db *d);   /* bytes held by its connections and caches */

/* --- statements: prepared once per connection, cached by the address of the SQL literal --- */
struct db_stmt;
/* The statement for SQL (a string literal), reset and with cleared bindings. */
struct db_stmt *db_sql(struct db_tx *tx, const char *sql);
/* Binds in order of FMT: i int64_t, u uint64_t (as int64), s span text, b span blob, z const char *, n NULL.
 * Spans must live until the statement is done or reset. */
void db_bind(struct db_stmt *s, const char *fmt, ...);
/* 1: a row; 0: done; negative: error. */
int db_step(struct db_stmt *s) _must_check_;
/* Binds, runs to the end, ignores rows; 0 or negative.  ERR_EXIST on a uniqueness violation. */
int db_run(struct db_tx *tx, const char *sql, const char *fmt, ...) _must_check_;
/* One row expected: 1 and *RET set, 0 none, negative.  First column only. */
int db_get_i64(struct db_tx *tx, int64_t *ret, const char *sql, const char *fmt, ...) _must_check_;
int64_t db_col_i64(struct db_stmt *s, int col);
bool db_col_null(struct db_stmt *s, int col);
span db_col_span(struct db_stmt *s, int col);  /* valid until the next step; copy with arena_span */
void db_reset(struct db_stmt *s);              /* ends a read early */
int64_t db_last_id(struct db_tx *tx);
int64_t db_changes(struct db_tx *tx);
/* Reads a range of a blob column without loading the row (sqlite3_blob). */
int db_blob_read(struct db_tx *tx, const char *table, const char *column, int64_t rowid, uint64_t from, void *p, size_t n);

/* --- cache of open handles, bounded by count --- */
struct db_cache;
struct db_cache *db_cache_new(size_t max_handles);
void db_cache_free(struct db_cache *c);
/* Opens or finds PATH; the handle stays open at least until db_cache_put.  Idle handles beyond the limit
 * are closed, least recently used first, by db_cache_trim (and past twice the limit by the next opener).
 * ON_OPEN/ON_CLOSE attach the owner's state to a handle (may be NULL). */
struct db_cache_hooks {
	void *(*on_open)(struct db *d, const char *path, void *arg);
	void (*on_close)(struct db *d, void *state, void *arg);
	void *arg;
};
void db_cache_set_hooks(struct db_cache *c, const struct db_cache_hooks *h);
/* Errors of db_open; ERR_AGAIN while the last user of a dropped handle is still at work. */
int db_cache_get(struct db_cache *c, const char *path, const struct db_schema *schema, unsigned flags, struct db **ret,
		 void **ret_state, struct err_info *info);
void db_cache_put(struct db_cache *c, struct db *d);
/* Closes what is idle and over the limit; call from the maintenance lane. */
void db_cache_trim(struct db_cache *c);
size_t db_cache_open(struct db_cache *c); /* handles open now */
/* Calls FN for each open handle, which stays open meanwhile (maintenance). */
void db_cache_each(struct db_cache *c, void (*fn)(struct db *d, void *state, void *arg), void *arg);
void db_cache_drop(struct db_cache *c, const char *path); /* closes as soon as it is idle (account removed, poisoned) */

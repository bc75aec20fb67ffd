/* Inside of db/: connections, the queue for the writer, error mapping.
 *
 * The writer connection has at most one owner at a time (`led`).  Who wants it queues; a leaving
 * owner hands it to the next in line (FIFO).  Three kinds queue: a writer (whoever leads runs its
 * function too), an asynchronous write (nobody waits: the flusher thread leads if nobody else does)
 * and an owner (checkpoint, backup, single-connection read), which gets the connection for itself.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "db/db.h"

#define DB_VFS	       "unix-excl" /* wal-index on the heap, no -shm file, one fcntl lock for the owner */
#define DB_WRITER_VFS  "postrider" /* the same, with few writes to the WAL (wal.c) */
#define DB_MAX_READERS 4
#define DB_MAX_BATCH   256
#define DB_WAL_SAFETY  4000u /* pages; beyond, the leader checkpoints if maintenance did not */

struct db_stmt {
	sqlite3_stmt *s; /* NULL if it could not be prepared: then err says why */
	const char *sql;
	struct db_tx *tx;
	int err;
	bool active; /* stepped and not yet reset */
};

/* A connection; callers see it as their transaction. */
struct db_tx {
	struct db *d;
	sqlite3 *sq;
	bool writer;
	bool refused; /* the database is not ours to write: closing must not checkpoint */
	int fatal;    /* first error of the transaction that concerns more than one statement */
	struct db_stmt **slots; /* open addressing by the literal's address */
	size_t n_stmts, n_slots, n_active;
	struct db_stmt begin, commit, rollback;
	struct db_tx *next;
};

enum db_req_kind { DB_REQ_WRITE, DB_REQ_ASYNC, DB_REQ_OWN };
struct db_req {
	enum db_req_kind kind;
	db_write_fn *fn;
	void (*done)(int result, void *arg);
	void *arg;
	int result;
	uint64_t seq;  /* of the batch's commit: the result stands when that is durable */
	bool finished; /* ran in some batch */
	sem_t wake;
	pthread_t thread;
	struct db_req *next;
};

struct db {
	char *path;
	const struct db_schema *schema;
	unsigned flags;
	dev_t dev; /* registry of open files */
	ino_t ino;
	struct db *reg_next;

	pthread_mutex_t mu; /* guards what follows, up to the next blank line */
	pthread_cond_t reader_free;
	struct db_req *head, **tail;
	bool led;
	pthread_t leader; /* valid while led */
	struct db_tx *idle_readers;
	unsigned n_readers, n_reading;
	bool closing_readers;

	struct db_tx *writer; /* belongs to the leader */
	_Atomic int poison;
	_Atomic uint64_t last_seq; /* of the last commit */
	_Atomic size_t wal_pages, memory;
	_Atomic uint64_t commits, batched; /* commits made; write functions they held */

	struct db *flush_next; /* under the flusher's mutex */
	bool flush_queued;
};

/* --- error mapping --- */
int db_err(sqlite3 *sq, int rc);
bool db_rc_poisons(sqlite3 *sq, int rc); /* a failed write or sync */

/* --- the writer's VFS (wal.c) --- */
void db_wal_vfs_add(void); /* once */
/* The calling thread's commit.  With MAY_WAIT the WAL's sync may return early: then the commit is durable
 * when SEQ is (clog_wait); 0: it is already. */
struct db_wal_commit {
	bool may_wait;
	uint64_t seq;
};
extern _Thread_local struct db_wal_commit db_wal_commit;
/* The WAL at PATH will be removed: the commit log must not bring it back. */
int db_wal_forget(const char *path);

/* --- connections (open.c) --- */
int db_conn_open(struct db *d, bool writer, struct db_tx **ret, struct err_info *info);
void db_conn_close(struct db_tx *c);
int db_exec(struct db_tx *c, const char *sql);
int db_create_file(const char *path); /* an empty file, 0600; ERR_EXIST */
int db_sync_parent(const char *path);
int db_attach_writer(struct db *d,
		     struct err_info *info); /* opens the writer, checks or makes the schema */
void db_register_moved(struct db *d);	     /* the path names another inode now */
int db_finish_swap(const char *path);	     /* second half of db_reopen_copy, also after a crash */

/* --- schema (migrate.c) --- */
int db_migrate(struct db_tx *c, const struct db_schema *s, unsigned flags, struct err_info *info);

/* --- the writer's queue (commit.c) --- */
int db_own(struct db *d); /* ERR_SYNC if poisoned */
void db_own_any(struct db *d);
void db_disown(struct db *d);
void db_drain(struct db *d);	  /* runs what waits, if nobody leads */
void db_drain_last(struct db *d); /* and keeps the flusher away; for db_close */
int db_checkpoint_owned(struct db *d);
void db_note_memory(struct db *d);
int db_settled(struct db *d, uint64_t seq); /* waits for it; ERR_SYNC poisons */

/* --- readers (read.c) --- */
void db_readers_close(struct db *d); /* waits for those that read */

/* --- statements (stmt.c) --- */
int db_stmt_init(struct db_stmt *s, struct db_tx *c, const char *sql);
void db_stmt_done(struct db_stmt *s);
void db_stmts_free(struct db_tx *c);
void db_stmts_reset(struct db_tx *c);

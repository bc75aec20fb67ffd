/* Inside of db/: the commit log, one sync for the commits of many databases.
 *
 * A commit's effect is what it writes to its database's WAL.  Where a log is open, the same bytes
 * are also appended to the log, and it is the log that is synced: commits of all databases that
 * arrive together share that one sync, however many files they belong to.  The WALs are written as
 * ever, but synced only when a piece of the log is to be used again.  After a crash the log's bytes
 * are put into the WALs before any database is opened, and SQLite finds what it would have found.
 *
 * Invariants
 *  L1  A WAL's bytes stand in the log in the order in which they were written to it, from the first
 *      one on that is not certain to be on disk.
 *  L2  A sequence number is durable only after all up to it is on disk, in the log or in the WAL.
 *  L3  A record is valid until its segment is freed (after every WAL it speaks of was synced) or a
 *      later barrier of its file is on disk.  A WAL is synced on its own only with a barrier, and
 *      removed or replaced only after clog_forget(); else older bytes would be put over newer ones.
 *  L4  A sync of the log that fails acknowledges nothing.  The log is used again only after every
 *      WAL was synced and a new log put in its place; until then every commit fails.
 *
 * File: two segments of equal size, used in turn.  Segment: {magic, le32 crc32c of what follows,
 * le64 epoch}, then records {le32 crc32c of the rest of the head and the path, le32 crc32c of the
 * data, le32 length of the data, le16 kind, le16 length of the path, le64 epoch, le64 offset, path,
 * data}; the first that does not fit its epoch or its sums ends the segment. */
#pragma once

#include <sys/queue.h>

#include "base/buf.h"

/* A WAL that is open for writing.  Belongs to its VFS file, but for what the log's lock guards. */
struct clog_file {
	char *path; /* below the log's directory; NULL: this file does not use the log */
	int fd;
	/* Under the log's lock: */
	unsigned pending; /* requests under way */
	unsigned dirty;	/* segments (bits) with records of it */
	bool busy;	/* it is being synced */
	bool sick;	/* that failed */
	LIST_ENTRY(clog_file) next; /* while DIRTY */
};

/* Bytes that were written to a WAL, and where. */
struct clog_piece {
	uint64_t at;
	span bytes;
};
enum { CLOG_PIECES = 8, CLOG_BYTES = 512 * 1024 }; /* what one clog_sync() takes */

/* F was opened as FD under PATH (absolute). */
void clog_attach(struct clog_file *f, int fd, const char *path);
/* Before FD is closed. */
void clog_detach(struct clog_file *f);
/* Names what was asked for, in order: what has a lower number is not durable later. */
typedef uint64_t clog_seq;

/* What was written to F, of which P is all since its last call, is to become durable.  The spans of
 * P point into BYTES, which are taken over.  *RET stays as it is where all is durable on return.  0
 * or ERR_SYNC. */
int clog_sync(struct clog_file *f, struct buf *bytes, const struct clog_piece *p, size_t n,
	      clog_seq *ret);
/* Where not all that was written is known any more: syncs the file itself. */
int clog_sync_alone(struct clog_file *f);
/* Until SEQ is durable: 0, or ERR_SYNC: it never will be.  0 is durable. */
int clog_wait(clog_seq seq);
/* FN(result, ARG) is called once, by the log's thread, or at once by this one.  It must not block. */
typedef void clog_done_fn(int result, void *arg);
void clog_when_durable(clog_seq seq, clog_done_fn *fn, void *arg);
/* What the log says of PATH (as given to clog_attach) is void from now on, also after a crash. */
int clog_forget(const char *path);

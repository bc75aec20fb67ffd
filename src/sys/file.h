/* Durable file operations.  The only place of the project that calls fsync, fdatasync, rename and
 * link on data files (SQLite's own files apart), so that the order of effects can be read here.
 * All paths are opened with O_NOFOLLOW | O_CLOEXEC and made with mode 0600 (directories 0700). */
#pragma once

#include "base/err.h"
#include "base/buf.h"

int file_mkdirs(const char *path);  /* like mkdir -p, each new entry synced into its parent */
int file_sync(int fd);              /* fdatasync; ERR_SYNC */
int file_sync_dir(const char *dir); /* fsync of the directory; ERR_SYNC */
/* Writes the whole span; ERR_FULL, ERR_IO. */
int file_write_all(int fd, span data);
int file_pwrite_all(int fd, span data, uint64_t offset);
/* Up to MAX bytes of the file into B; ERR_NOENT, ERR_TOOBIG, ERR_IO. */
int file_read(const char *path, size_t max, struct buf *b);
/* Exactly N bytes at OFFSET into P. */
int file_pread_all(int fd, void *p, size_t n, uint64_t offset);
/* Exactly N bytes of FROM at OFFSET to where TO stands.  ERR_FULL, ERR_IO, ERR_CORRUPT: FROM is shorter. */
int file_copy_all(int from, uint64_t offset, uint64_t n, int to);
/* Durable replacement: temporary file in the same directory, sync, rename, directory sync. */
int file_replace(const char *path, span data, unsigned mode);
int file_remove(const char *path); /* unlink; absent is fine; not synced */
int file_disk_free(const char *dir, uint64_t *ret_bytes);

/* spool: a body that is too large for memory, while it arrives.  An O_TMPFILE in DIR: nothing is
 * left behind by a crash.  file_spool_link() gives it a name after a sync. */
int file_spool_open(const char *dir);                      /* fd, or negative enum err */
/* fdatasync, linkat to PATH (ERR_EXIST if taken), fsync of its directory. */
int file_spool_link(int fd, const char *path);

/* The journal that shim.c writes and cut.c replays: what a process did to the files below one
 * directory, in the order of effect.
 *
 * A record is this header, then PATH_N bytes of path, OTHER_N bytes of a second path and DATA_N
 * bytes of data.  Paths are relative to the watched directory; "" is the directory itself.  A kill
 * can cut the last record short. */
#pragma once

#include <stdint.h>

#define JOURNAL_MAGIC 0x4a726377u

enum journal_op {
	JOURNAL_CREATE = 1, /* path, ino, mode: a new file got this name */
	JOURNAL_TMPFILE,    /* ino, mode: a new file without a name */
	JOURNAL_OPEN,	    /* path, ino: this inode is known by that name now */
	JOURNAL_WRITE,	    /* ino, at, data */
	JOURNAL_TRUNCATE,   /* ino, at: the new size */
	JOURNAL_EXTEND,	    /* ino, at: the size is at least this */
	JOURNAL_SYNC,	    /* ino: fsync or fdatasync of a file returned success */
	JOURNAL_SYNC_DIR,   /* path: fsync of a directory returned success */
	JOURNAL_RENAME,	    /* path, other */
	JOURNAL_LINK,	    /* ino, other: one more name */
	JOURNAL_UNLINK,	    /* path: a file or an empty directory */
	JOURNAL_MKDIR,	    /* path, mode */
	JOURNAL_OPS,
};

struct journal_record {
	uint32_t magic;
	uint16_t op;   /* enum journal_op */
	uint16_t mode; /* permission bits */
	uint64_t ino;
	uint64_t at; /* offset or size, in bytes */
	uint32_t path_n, other_n, data_n, unused;
};

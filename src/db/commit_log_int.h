/* The commit log's bytes: records, and what replays them. */
#pragma once

#include "base/buf.h"

enum { CLOG_SEGMENTS = 2, CLOG_HEAD = 28, CLOG_RECORD_HEAD = 32, CLOG_PATH = 255 };
enum clog_kind { CLOG_DATA = 1, CLOG_BARRIER = 2 };

struct clog_record {
	enum clog_kind kind;
	uint64_t epoch, at;
	span path, data;
	uint32_t sum; /* crc32c of DATA */
};
/* The head of a segment; epoch 0: it is free. */
void clog_head_put(struct buf *b, uint64_t segment_bytes, uint64_t epoch);
/* All of a record but its data, which follow. */
void clog_record_put(struct buf *b, const struct clog_record *r);

/* Writes what the log holds of PATH into the file open as FD. */
int clog_replay_file(int log, const char *path, int fd);
/* Writes what it holds of any file below DIR (with its slash) into that file, and syncs it.  Files
 * that are gone are passed over. */
int clog_replay(int log, const char *dir);

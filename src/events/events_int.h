/* Inside the events room: a record, a segment, an index.
 *
 * Segment file: 8 bytes of magic, then records {le32 length, le32 crc32c of the payload, payload}.
 * Payload: id, le64 wall time, le16 keys {blob}, steps {blob name, le64 wall time, le16 fields
 * {blob key, blob value}}. The keys are in the record, so that an index that is missing can be made
 * again from its segment.
 *
 * Index file of a closed segment: 8 bytes of magic, le64 last record's time, le64 n, le64 m,
 * then n {le64 key hash, le64 offset} and m {16 bytes id, le64 offset}, both sorted. */
#pragma once

#include "events/events.h"

enum { RECORD_HEAD = 8, RECORD_MAX = 1 << 20, KEYS_MAX = 64, KEY_MAX = 998, SEGMENT_HEAD = 8 };

struct key_entry {
	uint64_t hash, offset;
};
struct id_entry {
	struct id id;
	uint64_t offset;
};
/* What is known of the records of a batch or of the open segment, in the order of writing. */
struct entries {
	struct key_entry *keys;
	struct id_entry *ids;
	size_t n_keys, cap_keys, n_ids, cap_ids;
	usec last; /* wall time of the latest record */
};
void entries_add(struct entries *e, const struct id *id, usec at, uint64_t offset);
void entries_add_key(struct entries *e, span key, uint64_t offset);
/* Appends FROM, whose offsets are relative to BASE. */
void entries_append(struct entries *e, const struct entries *from, uint64_t base);
void entries_reset(struct entries *e); /* keeps the memory */
void entries_done(struct entries *e);

struct segment {
	char *path, *index;	/* owned */
	uint64_t start;		/* its name: wall time in microseconds, made unique */
	usec last;		/* of the latest record */
	uint64_t n_keys, n_ids; /* of the index file */
};

/* --- segment.c --- */
/* Encodes one record behind B and notes it in E, with B's length before as its offset.  False if B
 * has no room. */
bool record_put(struct buf *b, struct entries *e, const struct id *id, const struct event_list *l,
		const span *keys, size_t n_keys);
struct record {
	struct id id;
	usec at;
	span keys[KEYS_MAX];
	size_t n_keys;
	struct cursor steps;
};
/* The record at OFFSET of FD, read into MEM.  ERR_CORRUPT if there is none. */
int record_read(int fd, uint64_t offset, uint64_t size, struct arena *mem, struct record *ret,
		uint64_t *ret_next);
/* Appends the steps of R to L (whose arena gets copies). */
void record_steps(const struct record *r, struct event_list *l);
span key_lower(span key, struct arena *mem);

struct segment *segment_new(const char *dir, uint64_t start);
void segment_free(struct segment *s);
int segment_create(const struct segment *s); /* fd */
/* Reads all of a segment into E; *RET_SIZE is where its good records end. */
int segment_scan(int fd, struct entries *e, uint64_t *ret_size);

/* --- index.c --- */
int index_write(struct segment *s, struct entries *e); /* sorts E */
int index_open(struct segment *s); /* reads and checks the head; ERR_NOENT, ERR_CORRUPT */
/* Calls FN with the offsets under a key hash, latest first, or of an id, in order; until FN is not
 * 0. */
typedef int index_fn(void *arg, uint64_t offset);
int index_each_key(const struct segment *s, uint64_t hash, index_fn *fn, void *arg);
int index_each_id(const struct segment *s, const struct id *id, index_fn *fn, void *arg);

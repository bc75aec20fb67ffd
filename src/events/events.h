/* events: the timeline.  One journal record per message and hop, in segments DATA/events/<start>.log.
 *
 * Invariants
 *  E1  Appending never delays an answer: records wait in memory and are written in batches by one
 *      thread; a crash may lose the last moments of the timeline, never mail.
 *  E2  A record is {length, crc32c, id, wall time, keys, steps}, at most 1 MiB (further steps are cut); a torn tail is cut at start.
 *  E3  A closed segment never changes and has an index by address and Message-ID; the open one is
 *      indexed in memory.  Ids start with the time and so name their segments.
 *  E4  Segments older than the retention are removed whole. */
#pragma once

#include "base/event.h"
#include "base/err.h"
#include "base/buf.h"

struct events;
struct events_conf {
	const char *dir;        /* DATA/events; made if absent */
	uint64_t segment_bytes; /* a segment that has reached this, or is a day old, is closed */
	usec retention;         /* of the last record of a segment; 0: for ever */
};
/* Cuts torn tails, makes missing indexes again, starts the writer. */
int events_open(const struct events_conf *conf, struct events **ret, struct err_info *info);
void events_close(struct events *e); /* writes what waits; NULL is fine */
/* Appends what L collected about ID.  KEYS: addresses and Message-IDs (lower-cased inside) under which people
 * will look for it.  Copies; never blocks on disk. */
void events_append(struct events *e, const struct id *id, const struct event_list *l, const span *keys, size_t n_keys);
/* Records that were lost since the start: a disk that did not take them, or took them too slowly. */
uint64_t events_lost(struct events *e);
/* Writes what waits (shutdown, tests, before a trace). */
void events_flush(struct events *e);
/* All steps of ID in order of time; none is not an error.  People's questions: this reads the disk. */
int events_trace(struct events *e, const struct id *id, struct arena *mem, struct event_list *ret);
/* Ids known under KEY (address or Message-ID), newest first, at most MAX. */
int events_find(struct events *e, span key, struct arena *mem, struct id *ret, size_t max, size_t *ret_n);

/* --- counters: cheap process-wide numbers for `status` and metrics --- */
enum counter {
	COUNT_SESSIONS, COUNT_SMTP_ACCEPTED, COUNT_SMTP_REJECTED, COUNT_DELIVERED_LOCAL, COUNT_DELIVERED_REMOTE, COUNT_DEFERRED,
	COUNT_BOUNCED, COUNT_AUTH_OK, COUNT_AUTH_FAILED, COUNT_POISON, COUNT_LOOPS,
	/* sessions that front refused or ended */
	COUNT_REFUSED_LOAD, COUNT_REFUSED_RATE, COUNT_REFUSED_BANNED, COUNT_EARLY_TALKERS, COUNT_PROXY_ERRORS, COUNT_MEMORY_CLOSED,
	COUNT_MAX };
void count_add(enum counter c, uint64_t n);
uint64_t count_get(enum counter c);
const char *count_name(enum counter c);

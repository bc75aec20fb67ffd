/* event: one step of a message or session, filled by any room; `events/` is the sink, the logger
 * the second reader.  Values are copied at once, so the caller's bytes may go away.
 *
 * An event_list lives in a session or job arena and collects the steps of one hop. */
#pragma once

#include "base/arena.h"
#include "base/clock.h"
#include "base/id.h"

/* Field keys are literals; values are raw bytes (escaped by whoever prints them). */
struct event_field {
	const char *key;
	span value;
	struct event_field *next;
};

struct event {
	const char *name; /* literal: "smtp.rcpt", "route.local", "store.append", "relay.reply", ... */
	usec at;          /* wall */
	struct event_field *fields, **tail;
	struct event *next;
};

struct event_list {
	struct arena *mem;
	struct event *first, **tail;
	size_t count;
	size_t limit; /* further events are counted in `dropped` only (default 4,096) */
	size_t dropped;
};

void event_list_init(struct event_list *l, struct arena *mem);
/* Appends an event; returned so that fields can be added.  Past the limit: a scratch event. */
struct event *event_note(struct event_list *l, const char *name);
void event_str(struct event *e, const char *key, const char *z, struct arena *mem);
void event_span(struct event *e, const char *key, span v, struct arena *mem);
void event_u64(struct event *e, const char *key, uint64_t v, struct arena *mem);

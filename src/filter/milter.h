/* The MTA's side of the milter protocol, version 6 (as Sendmail's libmilter speaks it): a pure state
 * machine, bytes in, bytes out.
 *
 *     negotiate -> connect -> helo -> mail -> rcpt ... -> data -> headers -> eoh -> body ... -> eom
 *
 * The caller tells recipients as they come and then the message; in between the machine is PARKED
 * with a result.  A refusal of connect, helo or mail is the result of each recipient.  Whatever a
 * filter sends that it may not send at that point, did not negotiate, or that is too much (a frame
 * over MILTER_FRAME_MAX, more edits than FILTER_EDITS_MAX) is FILTER_FAILED. */
#pragma once

#include "filter/filter.h"

#define MILTER_FRAME_MAX (80u * 1024)
#define MILTER_CHUNK	 65535u /* body bytes in one frame */

enum milter_state {
	MILTER_BUSY,   /* sends milter_out(), waits for the filter */
	MILTER_BODY,   /* wants milter_body() */
	MILTER_PARKED, /* wants milter_rcpts() or milter_message(), unless milter_over() */
};

struct milter;
/* Copies what it needs of S. */
struct milter *milter_new(const struct filter_session *s);
void milter_free(struct milter *m); /* NULL is fine */
enum milter_state milter_state(const struct milter *m);
/* The filter wants to hear no more, or failed: nothing must be told any more. */
bool milter_over(const struct milter *m);
/* PARKED: the result of the last step. */
const struct filter_result *milter_result(const struct milter *m);

/* PARKED only: tells the recipients R, the filter's first refusal of one being the result. */
void milter_rcpts(struct milter *m, const span *r, size_t n);
/* PARKED only: tells the message: HEADER (with the empty line; must stay where it is until PARKED),
 * then the body, which is asked for in pieces. */
void milter_message(struct milter *m, span header);
/* BODY only: the next piece, at most MILTER_CHUNK bytes; an empty one is the end. */
void milter_body(struct milter *m, span piece);

struct buf *milter_out(struct milter *m);	/* to be written; the caller consumes */
struct buf *milter_new_body(struct milter *m); /* pieces of a new body; the caller consumes */
void milter_feed(struct milter *m, span bytes); /* from the filter; all are taken */
/* The connection is gone, or time is up: FILTER_FAILED with WHY, if a result is owed. */
void milter_fail(struct milter *m, span why);
void milter_quit(struct milter *m); /* the last words, into milter_out() */
/* Grows with each answer of the filter, "progress" included. */
uint64_t milter_progress(const struct milter *m);
/* Is the answer under way the last one, on the whole message? */
bool milter_ending(const struct milter *m);

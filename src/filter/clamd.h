/* clamd's INSTREAM command, the client's side: a pure state machine like filter/milter.h.
 *
 *     zINSTREAM\0, be32 length and bytes, ..., be32 0  -->
 *                                                      <--  "stream: NAME FOUND\0" | "stream: OK\0"
 *
 * A find is FILTER_REJECT with the signature's name as `text`; anything unexpected FILTER_FAILED. */
#pragma once

#include "filter/filter.h"

#define CLAMD_CHUNK 65536u

struct clamd;
struct clamd *clamd_new(void);
void clamd_free(struct clamd *c); /* NULL is fine */
/* Wants clamd_body()? */
bool clamd_wants_body(const struct clamd *c);
bool clamd_over(const struct clamd *c);
const struct filter_result *clamd_result(const struct clamd *c);
/* The next piece, at most CLAMD_CHUNK bytes; an empty one is the end. */
void clamd_body(struct clamd *c, span piece);
struct buf *clamd_out(struct clamd *c);
void clamd_feed(struct clamd *c, span bytes);
void clamd_fail(struct clamd *c, span why);

/* bucket: token buckets of very many keys (addresses, networks) in fixed memory.  Pure: the caller
 * brings the time and, if several threads use a table, the lock.
 *
 * A bucket is one number, the moment at which it will be full again (the "theoretical arrival time"
 * of the generic cell rate algorithm), so that a full bucket and an absent one are the same.  Keys
 * share sets of eight ways, chosen by a keyed hash.  A key that finds its set taken replaces the one
 * that is nearest to full, and starts with what that one owed: whoever is pushed out and comes back
 * owes no less than before.  So a flood of new keys makes strangers owe something for a moment, but
 * nobody can wash his own debt off with it. */
#pragma once

#include "base/clock.h"

/* COUNT tokens come back in PERIOD, and so many may be taken at once.  COUNT 0: no limit. */
struct bucket_rate {
	uint32_t count;
	usec period;
};

struct bucket_table;
/* Memory for about KEYS keys, 16 bytes each. */
struct bucket_table *bucket_table_new(size_t keys);
void bucket_table_free(struct bucket_table *t); /* NULL is fine */
DEFINE_CLEANUP(struct bucket_table, bucket_table_free)

/* Takes a token of KEY.  0, or how long it takes until there is one; nothing was taken then. */
usec bucket_take(struct bucket_table *t, span key, struct bucket_rate rate, usec now);
/* The same question without taking. */
usec bucket_wait(struct bucket_table *t, span key, struct bucket_rate rate, usec now);
/* Fills the bucket of KEY. */
void bucket_forget(struct bucket_table *t, span key);

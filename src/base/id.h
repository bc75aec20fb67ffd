/* id: the name of one accepted transaction, from the first byte to the last event.
 *
 * 16 bytes: 48 bits of wall time in milliseconds, big-endian, then 80 random bits.  Text form: 26
 * characters of Crockford's base 32 in lower case; sorts by time and names its journal segment. */
#pragma once

#include "base/clock.h"
#include "base/span.h"

struct id {
	uint8_t b[16];
};
#define ID_TEXT 27 /* with NUL */

struct id id_new(void);                      /* now, from the kernel's random source */
usec id_time(const struct id *id);           /* millisecond resolution */
void id_format(const struct id *id, char ret[ID_TEXT]);
bool id_parse(span s, struct id *ret);       /* case-insensitive; exactly 26 characters */
bool id_is_null(const struct id *id);
static inline bool id_eq(const struct id *a, const struct id *b)
{
	return memcmp(a->b, b->b, 16) == 0;
}

/* Fills P with random bytes from getrandom(); never fails (aborts). */
void random_bytes(void *p, size_t n);
uint64_t random_u64(void);
/* Uniform in [0, n); 0 for n == 0. */
uint64_t random_below(uint64_t n);

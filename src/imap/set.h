/* Sequence sets (RFC 3501 9 sequence-set): parsed as written, then resolved against the largest
 * number into sorted ranges that do not overlap.  Pure. */
#pragma once

#include "base/err.h"
#include "base/buf.h"
#include "imap/lex.h"

struct imap_range {
	uint32_t lo, hi; /* 0 stands for '*' until resolved */
};
struct imap_set {
	struct imap_range *r;
	size_t n;
};

bool imap_set_lex(struct imap_lex *l, struct imap_set *ret); /* at least one range */
/* A sorted, merged copy with '*' replaced by LARGEST; ranges keep what lies beyond LARGEST. */
struct imap_set imap_set_resolve(const struct imap_set *s, uint32_t largest, struct arena *mem);
bool imap_set_has(const struct imap_set *resolved, uint32_t v);
/* ERR_INVAL: a range without '*' names a number above LARGEST (bad for sequence numbers). */
int imap_set_check(const struct imap_set *s, uint32_t largest);
/* V[0..n) in its order as "1:3,7": the form of COPYUID. */
void imap_set_put(struct buf *b, const uint32_t *v, size_t n);

/* Canonicalisation of header fields and bodies (RFC 6376 3.4).  Constant memory where it is hashed. */
#pragma once

#include "base/buf.h"
#include "tls/hash.h"
#include "trust/message.h"

enum canon { CANON_SIMPLE, CANON_RELAXED };

/* Hashes the first LIMIT bytes of the canonical BODY; *RET_LENGTH: how many bytes that form has. */
#define CANON_NO_LIMIT UINT64_MAX
void canon_body(span body, enum canon how, uint64_t limit, uint8_t ret[32], uint64_t *ret_length);

/* Where canonical header fields go: one of the two. */
struct canon_to {
	struct sha256_stream *hash;
	struct buf *text;
};
#define CANON_HASH(stream) ((struct canon_to){ .hash = (stream) })
#define CANON_TEXT(buffer) ((struct canon_to){ .text = (buffer) })

/* Adds a field in canonical form, with CRLF unless LAST.  CUT (may be empty) is a piece of RAW that
 * is taken out first: the value of b=. */
void canon_field(struct canon_to to, span raw, enum canon how, span cut, bool last);

/* Adds the fields that the colon-separated list NAMES picks, from the bottom up for each name (RFC
 * 6376 5.4.2); names without a field (any more) add nothing. */
int canon_header(struct canon_to to, const struct message *m, span names, enum canon how,
		 struct arena *mem);

/* Inside ARC: the fields of a chain by instance. */
#pragma once

#include "trust/arc.h"
#include "trust/dkim_int.h"

enum arc_part { ARC_RESULTS, ARC_MESSAGE, ARC_SEALED, ARC_PARTS };
struct arc_set {
	const struct message_field *field[ARC_PARTS];
};
struct arc_chain {
	unsigned n;			      /* the highest instance */
	struct arc_set set[ARC_SETS_MAX + 1]; /* by instance, from 1 */
};
/* Collects the sets; a reason if a field has no valid instance, or an instance two of a kind.  N is
 * right as far as it could be read. */
const char *arc_collect(const struct message *m, struct arc_chain *ret);
/* Hashes what the seal of instance N covers, up to and including its own field SEAL without its b=
 * (RFC 8617 5.1.1).  FROM: the first instance. */
void arc_hash_seal(struct sha256_stream *s, const struct arc_chain *c, unsigned from, unsigned n,
		   span seal, span b_raw);

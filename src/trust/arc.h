/* ARC: chains of seals by those who passed a message on (RFC 8617). */
#pragma once

#include "trust/canon.h"
#include "trust/dkim.h"

#define ARC_SETS_MAX 50 /* RFC 8617 4.2.1 */

struct arc_verdict {
	enum trust_result result; /* none, pass, fail: every error fails (RFC 8617 5.2.1) */
	const char *reason;	  /* static text for people */
	unsigned instance;	  /* the highest found; 0: none */
	bool ended; /* the newest seal says cv=fail: nothing may be added any more (5.1.2) */
	span domain, selector; /* of the newest seal */
	bool authentic; /* pass, and its sealer found dmarc=pass when it got the message */
};
/* 0, or ERR_AGAIN: questions are pending. */
int arc_verify(const struct message *m, const struct trust_lookup *l, struct arena *mem,
	       struct arc_verdict *ret);

/* --- sealing --- */
struct arc_seal_options {
	span domain, selector;
	enum sign_type type; /* SIGN_RSA or SIGN_ED25519 */
	int64_t now;
	span authserv_id; /* whose results are sealed */
	span headers;	  /* colon-separated h=; empty: a fixed list of what is there */
	/* Signs a SHA-256 digest; 0 or negative. */
	int (*sign)(void *arg, const uint8_t digest[32], struct buf *sig);
	void *arg;
};
/* Appends the next ARC set of TEXT's chain to B: ARC-Seal, ARC-Message-Signature and
 * ARC-Authentication-Results, to be put above all other fields.  The results are those of TEXT's
 * Authentication-Results fields of our authserv-id, so forged ones must be gone by now; V is
 * the chain's state.  ERR_TOOBIG: 50 sets are there; ERR_PERM: the chain has ended;
 * ERR_INVAL: bad names; what `sign` returned. */
int arc_seal(span text, const struct arc_verdict *v, const struct arc_seal_options *o,
	     struct arena *mem, struct buf *b);

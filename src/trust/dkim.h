/* DKIM: verify and sign (RFC 6376, RFC 8301, RFC 8463, RFC 8616). */
#pragma once

#include "tls/sign.h"
#include "trust/canon.h"
#include "trust/lookup.h"
#include "trust/result.h"

#define DKIM_SIGNATURES_MAX 8	 /* the first ones from the top; the rest is counted only */
#define DKIM_HEADERS_MAX    1024 /* names in h= */
#define DKIM_SKEW	    300	 /* seconds that clocks may differ for t= and x= */

struct dkim_signature {
	enum trust_result result; /* pass, fail, permerror, temperror */
	const char *reason;	  /* static text for people */
	span domain, selector;	  /* d= and s= as written; empty if the field does not parse */
	span identity;		  /* i=, or "@d" */
	span algorithm;		  /* a= */
	span b;		   /* b= without white space; RFC 6008 wants its beginning in reports */
	unsigned key_bits; /* RSA */
	bool testing;	   /* the key's t=y */
	bool future;	   /* t= lies ahead; no fault by itself (RFC 6376 3.5) */
	/* l= was given: what follows its bytes is not signed.  Such a pass says nothing about what
	 * the reader sees, so it never counts for DMARC. */
	bool partial;
	uint64_t length;      /* l= */
	uint64_t body_length; /* of the canonical body */
};
struct dkim_verdict {
	enum trust_result result; /* the best: pass, temperror, fail, permerror; none without any */
	struct dkim_signature signature[DKIM_SIGNATURES_MAX];
	size_t n;
	size_t found; /* DKIM-Signature fields in all */
};
/* NOW: seconds since 1970.  0, or ERR_AGAIN: questions are pending. */
int dkim_verify(const struct message *m, int64_t now, const struct trust_lookup *l,
		struct arena *mem, struct dkim_verdict *ret);
/* May DMARC take this signature's d= as authenticated? */
bool dkim_counts(const struct dkim_signature *s);

/* --- key records (RFC 6376 3.6.1, RFC 8463 4.2) --- */
/* Appends the text that is to be published for a PUBLIC key as sign_key_public() gives it. */
int dkim_record_put(struct buf *b, enum sign_type type, span public);
/* Does A, the answer for SELECTOR._domainkey.DOMAIN TXT, hold that key?  NULL: it does; else static
 * text that says why not.  *RET_TEMPORARY: it may hold it, DNS did not say. */
const char *dkim_record_differs(const struct dns_answer *a, enum sign_type type, span public, struct arena *mem,
				bool *ret_temporary);

/* --- signing --- */
struct dkim_sign_options {
	span domain, selector;
	enum sign_type type; /* SIGN_RSA or SIGN_ED25519 */
	enum canon header, body;
	int64_t now;	 /* t= */
	int64_t expires; /* x=; 0: none */
	/* Colon-separated h=, taken as it is; empty: all fields that matter are signed, and the
	 * ones that must not be added later once more than they occur (RFC 6376 5.4, 8.15). */
	span headers;
};
/* A field that waits for its signature, which a key elsewhere may make. */
struct dkim_draft {
	size_t at; /* offset in the buffer where b= goes */
	span text; /* the canonical bytes whose SHA-256 is signed; in MEM */
};
/* Appends a DKIM-Signature field (with CRLF) without its signature to B.  ERR_INVAL: no domain or
 * selector, or there is no From; ERR_TOOBIG. */
int dkim_sign_begin(const struct message *m, const struct dkim_sign_options *o, struct arena *mem,
		    struct buf *b, struct dkim_draft *ret);
/* Puts SIG in its place.  (With an AT that counts from there, B may be a copy of the field alone.) */
int dkim_sign_end(const struct dkim_draft *d, span sig, struct buf *b);
/* Both, with a key at hand (O->type is taken from it). */
int dkim_sign(const struct message *m, const struct dkim_sign_options *o, const struct sign_key *k,
	      struct arena *mem, struct buf *b);

/* What DKIM and ARC share: signature fields and key records. */
#pragma once

#include "tls/verify.h"
#include "trust/dkim.h"
#include "trust/tags.h"

enum dkim_flavour {
	DKIM_FIELD,    /* DKIM-Signature */
	ARC_SIGNATURE, /* ARC-Message-Signature: no v=, i= is the instance (RFC 8617 4.1.2) */
	ARC_SEAL,      /* ARC-Seal: signs no body and names no fields (RFC 8617 4.1.3) */
};
struct dkim_fields {
	const struct message_field *field;
	span b_raw; /* piece of the field's raw bytes that is not hashed */
	bool rsa;
	span algorithm, domain, selector, identity;
	span headers; /* h= */
	span body_hash, signature;
	span b; /* text of b= */
	enum canon header, body;
	bool partial;
	uint64_t length;
	uint64_t signed_at, expires; /* 0: not said */
	unsigned instance;	     /* ARC */
	span cv;		     /* seals */
};
/* Reads FIELD.  ERR_SYNTAX with *RET_REASON; what was read until then is in *RET. */
int dkim_fields_parse(const struct message_field *field, enum dkim_flavour flavour,
		      struct arena *mem, struct dkim_fields *ret, const char **ret_reason);

struct dkim_key {
	struct verify_key *key;
	unsigned bits;
	bool testing; /* t=y */
	bool strict;  /* t=s: i= must be exactly d= */
};
/* The question for the key; NULL: pending. */
const struct dns_answer *dkim_key_ask(const struct dkim_fields *f, const struct trust_lookup *l,
				      struct arena *mem);
/* The key that A answers for F.  TRUST_PASS, or the error with *RET_REASON.  The caller frees the
 * key. */
enum trust_result dkim_key_take(const struct dns_answer *a, const struct dkim_fields *f,
				struct arena *mem, struct dkim_key *ret, const char **ret_reason);

/* Checks body hash and signature of F over M.  TRUST_PASS or TRUST_FAIL with *RET_REASON.
 * *RET_BODY: length of the canonical body. */
enum trust_result dkim_fields_check(const struct dkim_fields *f, const struct message *m,
				    const struct dkim_key *k, struct arena *mem,
				    const char **ret_reason, uint64_t *ret_body);

/* Base64 of SIG put into B at offset AT; FOLD: in lines of their own. */
int dkim_insert_signature(struct buf *b, size_t at, span sig, bool fold);

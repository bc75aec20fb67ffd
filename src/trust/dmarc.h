/* DMARC (RFC 9989): does the author's domain stand behind the message?  The organisational domain
 * is found by the DNS tree walk of RFC 9989 4.10; the public suffix list of RFC 7489 is not used.
 */
#pragma once

#include "trust/dkim.h"
#include "trust/lookup.h"
#include "trust/result.h"
#include "trust/spf.h"

enum dmarc_policy { DMARC_NONE, DMARC_QUARANTINE, DMARC_REJECT };
const char *dmarc_policy_text(enum dmarc_policy p);

struct dmarc_record {
	enum dmarc_policy p, sp, np; /* with the defaults filled in: np from sp, sp from p */
	char psd;		     /* 'y', 'n', or 'u' */
	bool strict_dkim, strict_spf;
	bool testing;	  /* t=y */
	bool void_policy; /* no valid policy, and nobody to report to: as if it were not there */
	span rua, ruf;	  /* as written; may be empty */
};
/* ERR_SYNTAX: not a DMARC record.  What is wrong behind "v=DMARC1" counts as absent (RFC 9989
 * 4.7); without a valid p= the policy is none (4.10.1).  Pure. */
int dmarc_parse(span text, struct dmarc_record *ret);

/* The author domain of M in A-labels and lower case.  ERR_SYNTAX with *RET_REASON unless there is
 * exactly one From field, which holds exactly one address with a domain and nothing that does not
 * parse: then programs may differ in what they show, and no domain can vouch for it (RFC
 * 9989 5.3.1). */
int dmarc_author(const struct message *m, struct arena *mem, span *ret, const char **ret_reason);

struct dmarc_verdict {
	enum trust_result
		result; /* none: no record; pass; fail; temperror; permerror: no author domain */
	const char *reason;  /* static text for people */
	span author;	     /* domain */
	span record_domain;  /* where the record was found */
	span organizational; /* the author's organisational domain */
	struct dmarc_record record;
	enum dmarc_policy policy; /* what the owner asks for if the result is fail, t= considered */
	bool spf_aligned, dkim_aligned;
	span aligned_domain; /* the identifier that aligned */
};
/* SPF is the verdict on MAIL FROM (or HELO in its place); may be NULL.  0, or ERR_AGAIN: questions
 * are pending. */
int dmarc_check(const struct message *m, const struct spf_verdict *spf,
		const struct dkim_verdict *dkim, const struct trust_lookup *l, struct arena *mem,
		struct dmarc_verdict *ret);

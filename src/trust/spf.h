/* SPF: may this host send for this domain?  (RFC 7208) */
#pragma once

#include "trust/lookup.h"
#include "trust/result.h"

#define SPF_TERMS_MAX	10 /* terms that ask DNS, RFC 7208 4.6.4 */
#define SPF_VOIDS_MAX	2
#define SPF_NAMES_MAX	10  /* MX names of one term, PTR names */
#define SPF_EXPLAIN_MAX 512 /* bytes of an explanation; a longer one is dropped */

struct spf_input {
	struct sockaddr_any ip;
	span helo;     /* as said; may be an address literal */
	span from;     /* MAIL FROM without brackets; empty: the null reverse-path */
	span receiver; /* our name for %{r}; empty: "unknown" */
	int64_t now;   /* seconds since 1970, for %{t} */
};
struct spf_verdict {
	enum trust_result result;
	span domain;	    /* whose record was used */
	span sender;	    /* the address that %{s} stands for */
	span term;	    /* the term that decided; empty: none did */
	span explanation;   /* result fail: of exp=, printable ASCII; empty: none */
	const char *reason; /* static text for people */
	unsigned terms;	    /* that asked DNS */
	unsigned voids;
};
/* check_host() (RFC 7208 4) for MAIL FROM, or for postmaster@HELO if that is null.
 * 0, or ERR_AGAIN: questions are pending. */
int spf_check(const struct spf_input *in, const struct trust_lookup *l, struct arena *mem,
	      struct spf_verdict *ret);
/* The HELO identity (RFC 7208 2.3). */
int spf_check_helo(const struct spf_input *in, const struct trust_lookup *l, struct arena *mem,
		   struct spf_verdict *ret);

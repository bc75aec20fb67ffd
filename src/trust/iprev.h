/* iprev: has the client's address a name that leads back to it?  (RFC 8601 3, RFC 1912 2.1) */
#pragma once

#include "trust/lookup.h"
#include "trust/result.h"

#define IPREV_NAMES_MAX 5 /* names of one address that are followed */

struct iprev_verdict {
	enum trust_result result; /* pass, fail, temperror, permerror (no name at all) */
	const char *reason;	  /* static text for people */
	span ip;		  /* text */
	span name;		  /* pass: the name */
};
/* 0, or ERR_AGAIN: questions are pending. */
int iprev_check(const struct sockaddr_any *ip, const struct trust_lookup *l, struct arena *mem,
		struct iprev_verdict *ret);

/* "192.0.2.1" or "2.0.0.1.0.D.B.8...": %{i} of RFC 7208 7.3; REVERSE from the last part to the first. */
span iprev_dotted(const struct sockaddr_any *ip, bool reverse, struct arena *mem);
/* The name below in-addr.arpa or ip6.arpa (RFC 1035 3.5, RFC 3596 2.5). */
span iprev_ptr_name(const struct sockaddr_any *ip, struct arena *mem);

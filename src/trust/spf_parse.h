/* SPF records: terms and macro strings (RFC 7208 4.6.1, 5, 6, 7.1; grammar in 12).  Pure. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "trust/result.h"

enum spf_kind {
	SPF_ALL,
	SPF_INCLUDE,
	SPF_A,
	SPF_MX,
	SPF_PTR,
	SPF_IP4,
	SPF_IP6,
	SPF_EXISTS,
};
struct spf_term {
	enum spf_kind kind;
	enum trust_result qualifier;
	span text;	     /* the whole term */
	span domain;	     /* domain-spec, unexpanded; empty: the current domain */
	uint8_t network[16]; /* ip4 (4 bytes), ip6 */
	unsigned cidr4;	     /* 32 if not given */
	unsigned cidr6;	     /* 128 if not given */
};
struct spf_record {
	struct spf_term *term;
	size_t n;
	span redirect; /* domain-spec; empty: none */
	span exp;
};
/* Does TEXT begin with the version, "v=spf1" and a space or the end? */
bool spf_is_record(span text);
/* ERR_SYNTAX anywhere makes the whole record an error (RFC 7208 4.6); *RET_AT is then the term at
 * fault. */
int spf_parse(span text, struct arena *mem, struct spf_record *ret, span *ret_at);

/* --- macros (RFC 7208 7) --- */
struct spf_macros {
	span sender, local, sender_domain; /* s, l, o */
	span domain;			   /* d */
	span ip;			   /* i: dotted, for IPv6 by nibbles */
	span validated;			   /* p */
	span in_addr;			   /* v: "in-addr" or "ip6" */
	span helo;			   /* h */
	span readable_ip, receiver, time;  /* c, r, t: in explanations only */
};
/* Is S a macro-string?  EXP allows the letters c, r and t, and spaces. */
bool spf_macros_valid(span s, bool exp);
/* Does S use macro LETTER (lower case)? */
bool spf_macros_use(span s, char letter);
/* Appends S, which must be valid, expanded; ERR_TOOBIG. */
int spf_macros_expand(span s, const struct spf_macros *m, struct buf *b);

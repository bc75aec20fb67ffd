/* DNS: questions and answers as values, their message form between core and out, and (dns/resolver.h)
 * the validating resolver that only `out` runs.
 *
 * Core asks for all names it can foresee in one request; out coalesces equal questions, caches by
 * TTL, and enforces a deadline per question (5 s) and per request (20 s). */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "sys/sock.h"

enum dns_type { DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_SOA = 6, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_SRV = 33, DNS_TLSA = 52 };

enum dns_status {
	DNS_OK,        /* records follow */
	DNS_NODATA,    /* the name exists, this type does not */
	DNS_NXDOMAIN,
	DNS_SERVFAIL,  /* for now: also bogus and time-out; never a reason to bounce */
	DNS_BOGUS,
	DNS_TIMEOUT,
};
struct dns_record {
	uint16_t preference;           /* MX; TLSA: usage << 8 | selector (match in `weight`) */
	uint16_t weight;
	span name;                     /* MX, PTR, CNAME target: lower case, no final dot; "" is the root (null MX) */
	span text;                     /* TXT: the strings joined; TLSA: the digest bytes */
	struct sockaddr_any addr;      /* A, AAAA; port 0 */
};
struct dns_answer {
	span name;
	enum dns_type type;
	enum dns_status status;
	bool secure;                   /* DNSSEC-validated */
	uint32_t ttl;
	struct dns_record *records;
	size_t n;
	span why;                      /* for bogus and servfail: a line for people */
};
/* Message form.  DNS_ASK id = request; DNS_ANSWER id = request. */
enum { DNS_ASK = 32, DNS_ANSWER = 33, DNS_FLUSH = 34 };
#define DNS_ASK_MAX 64 /* questions in one request */
struct dns_question {
	span name; /* at most 255 bytes; a final dot is allowed */
	enum dns_type type;
};
/* put: ERR_TOOBIG; get: ERR_PROTO or ERR_TOOBIG, results point into the payload and MEM. */
int dns_ask_put(struct buf *b, const struct dns_question *q, size_t n);
int dns_ask_get(span payload, struct arena *mem, struct dns_question **ret, size_t *n);
int dns_answers_put(struct buf *b, const struct dns_answer *a, size_t n);
int dns_answers_get(span payload, struct arena *mem, struct dns_answer **ret, size_t *n);

/* Decodes RDATA of TYPE (uncompressed names, as libunbound gives it): A, AAAA, MX, NS, CNAME, PTR, TXT
 * (RFC 1035), TLSA (RFC 6698).  ERR_SYNTAX, also for labels that are no letters, digits, "-" and "_";
 * ERR_UNSUPPORTED for other types.  Results are copied into MEM.  Pure. */
int dns_record_parse(enum dns_type type, span rdata, struct arena *mem, struct dns_record *ret);

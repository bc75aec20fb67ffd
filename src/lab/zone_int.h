/* Inside lab/: a zone's records and names in wire form. */
#pragma once

#include "lab/zone.h"
#include "tls/sign.h"

#define ZONE_TTL 60

enum {
	RR_A = 1,
	RR_NS = 2,
	RR_CNAME = 5,
	RR_SOA = 6,
	RR_PTR = 12,
	RR_MX = 15,
	RR_TXT = 16,
	RR_AAAA = 28,
	RR_OPT = 41,
	RR_RRSIG = 46,
	RR_NSEC = 47,
	RR_DNSKEY = 48,
	RR_ANY = 255,
	RR_PSEUDO = 65280,
	RR_SERVFAIL = RR_PSEUDO,
	RR_TIMEOUT
};

struct rdata {
	span bytes;
	struct rdata *next; /* canonical order */
};
struct rrset {
	span name; /* wire form, lower case */
	unsigned type;
	struct rdata *first;
	span rrsig; /* rdata of its signature */
};
struct zone {
	struct arena mem;
	span origin;
	struct rrset *sets; /* after zone_sign: in canonical order */
	size_t n_sets, cap_sets;
	struct sign_key *key;
	unsigned key_tag;
};

struct rrset *zone_find(const struct zone *z, span name, unsigned type);
int zone_name_cmp(span a, span b); /* RFC 4034 6.1 */
unsigned zone_labels(span wire);
span zone_parent(span wire);
void zone_put16(struct buf *b, unsigned v);
void zone_put32(struct buf *b, uint32_t v);

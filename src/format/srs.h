/* The Sender Rewriting Scheme: a forwarder's own reverse-path that holds the first one, signed and dated,
 * so that the next host's SPF check passes and a bounce finds its way back.  Pure; the keys stay with
 * the caller.
 *
 *   ann@far.example            SRS0=HHHHHH=TT=far.example=ann@ours
 *   SRS0=xxx@hop.example       SRS1=HHHHHH=hop.example==xxx@ours      (the first forwarder's bounce leads there)
 *   SRS1=yyy=hop==xxx@hop2     SRS1=HHHHHH=hop==xxx@ours              (hop2 is left out)
 *
 * HHHHHH is base32 of 30 bits of a MAC over what follows it with ASCII in lower case, since hosts change
 * case; TT is the day modulo 1024 in base32. */
#pragma once

#include "base/clock.h"
#include "format/address.h"

#define SRS_DAYS 21 /* a bounce later than this is not taken back */

/* The MAC of IN by key number KEY; key 0 is the newest and signs, all of them verify. */
struct srs_keys {
	void (*mac)(void *arg, unsigned key, span in, uint8_t ret[32]);
	void *arg;
	unsigned n;
};

enum srs_result {
	SRS_OK,
	SRS_NONE,     /* reverse: not such an address at all */
	SRS_FORGED,   /* reverse: none of our keys made it */
	SRS_EXPIRED,  /* reverse: older than SRS_DAYS */
	SRS_TOO_LONG, /* forward: the local part would pass 64 octets (RFC 5321 4.5.3.1.1) */
};

/* SENDER (not null) as an address of DOMAIN.  *RET lives in MEM. */
enum srs_result srs_forward(const struct srs_keys *k, const struct address *sender, span domain, usec now,
			    struct arena *mem, struct address *ret);
/* Whom a bounce to A is for: the first sender, or the first forwarder.  The caller has seen that A's domain is ours. */
enum srs_result srs_reverse(const struct srs_keys *k, const struct address *a, usec now, struct arena *mem,
			    struct address *ret);
/* Looks LOCAL like such an address? */
bool srs_is(span local);

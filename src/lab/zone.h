/* A signed zone in memory, for the lab: ECDSA P-256 (algorithm 13), NSEC.  RFC 4033-4035, 6605. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

struct zone;
/* ORIGIN: "test". */
struct zone *zone_new(const char *origin);
void zone_free(struct zone *z); /* NULL is fine */
/* Adds a record in text: NAME ("mx.alpha.test"), TYPE (A AAAA MX TXT CNAME PTR NS, or SERVFAIL /
 * TIMEOUT: how questions for NAME then end), DATA as in a master file.  ERR_SYNTAX,
 * ERR_UNSUPPORTED. */
int zone_add(struct zone *z, span name, span type, span data);
/* Lines "NAME TYPE DATA"; empty lines and those that begin with ';' or '#' mean nothing.  INFO
 * names the line. */
int zone_add_file(struct zone *z, span text, struct err_info *info);
/* Makes key, SOA, NS, DNSKEY, NSEC and all signatures, valid from a day before NOW for a year. */
int zone_sign(struct zone *z, usec now);
/* The trust anchor as a DS line. */
int zone_anchor(const struct zone *z, struct buf *b);
/* The answer to a query message; false: say nothing (time-out, or not a query).  MAX: bytes of UDP,
 * or 65,535. */
bool zone_answer(const struct zone *z, span query, size_t max, struct buf *b);

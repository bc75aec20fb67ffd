/* A zone in master-file syntax (RFC 1035 5.1) as the answerer of trust/lookup.h: offline tools,
 * tests.
 *
 * Known: $ORIGIN, $TTL, "@", owners left out, TTL and class, parentheses, quoted strings, \X and
 * \DDD; types A, AAAA, MX, PTR, NS, CNAME, TXT, and SPF, which is read and never answered (RFC
 * 7208 3.1). Other types are skipped.  Without $ORIGIN all names are complete, with or without a
 * final dot.
 *
 * Comments can make a name fail: "; TIMEOUT NAME [TYPE]" and "; SERVFAIL NAME [TYPE]" hold for the
 * types that have no records there, or for TYPE only. */
#pragma once

#include "trust/lookup.h"

struct trust_zone;
/* INFO names the line; ERR_SYNTAX.  The zone points into TEXT's copy of its own. */
int trust_zone_parse(span text, struct trust_zone **ret, struct err_info *info);
void trust_zone_free(struct trust_zone *z);
DEFINE_CLEANUP(struct trust_zone, trust_zone_free)
/* Never pending.  Aliases are followed, at most 8. */
const struct trust_lookup *trust_zone_lookup(struct trust_zone *z);

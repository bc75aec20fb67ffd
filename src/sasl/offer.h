/* Which mechanisms may be offered.  Pure: the wires in front answer EHLO and CAPABILITY with it. */
#pragma once

#include "base/buf.h"

/* "PLAIN LOGIN SCRAM-SHA-256" separated by SEP with PREFIX before each, as TLS_ACTIVE allows; may be empty.
 */
void sasl_offer(struct buf *b, bool tls_active, const char *prefix, const char *sep);
bool sasl_allowed(span mechanism, bool tls_active);

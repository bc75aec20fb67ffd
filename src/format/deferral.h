/* What a deferral is about: finds the rule for its next attempt (queue.rules).  Pure. */
#pragma once

#include "base/span.h"

/* Can a rule match by S?  One of
 *   "any"
 *   a reply code, "421"
 *   an enhanced code (RFC 3463) or its beginning, "4.7.1", "4.7"
 *   a class: "greylist", "mailbox_full" (said by the peer or found by us),
 *            "connect", "dns", "tls" (found by us: no peer has answered) */
bool deferral_match_valid(span s);
/* The same for people. */
extern const char deferral_match_help[];
/* Does MATCH (a valid one) mean the deferral with the text REPLY and the enhanced code STATUS?  A peer's answer begins
 * with its code, "450 4.2.0 text"; what begins otherwise is our own finding. */
bool deferral_matches(span match, span reply, span status);

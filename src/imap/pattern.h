/* Mailbox patterns of LIST and LSUB (RFC 3501 6.3.8): '*' matches anything, '%' anything but '/'.
 * Pure. */
#pragma once

#include "base/arena.h"

enum { IMAP_MAX_PATTERN = 1024 };

/* Does NAME match PATTERN?  Time is bounded by length times length, whatever the wildcards; *BUDGET
 * falls by that amount and no work is done (false) when it is used up.  "INBOX" as first level
 * matches in any case. */
bool imap_pattern_match(span pattern, span name, uint64_t *budget);

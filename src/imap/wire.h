/* IMAP's front half: framing (lines, literals, LITERAL+), greeting, CAPABILITY/NOOP/LOGOUT before
 * authentication, bad syntax.  Pure; linked into front.
 *
 * One group is one command with its literals.  A synchronising literal is answered "+ " here while
 * it fits the limits; one that does not is refused, except that of an authenticated APPEND: the
 * command so far is forwarded as SESS_ITEM_BODY_FOLLOWS and core answers
 *   - SESS_MODE_LITERAL, n: the bytes come as SESS_BODY pieces (SESS_BODY_BAD in one that holds a
 * NUL), the rest of the line then as an ordinary item; or
 *   - SESS_MODE_LINES: refused.  Bytes the client sends without asking (LITERAL+) are skipped.
 *
 * Limits (bytes): before authentication a line 8 Ki, all literals 4 Ki in at most 8; afterwards 64
 * Ki, 16 Ki in at most 1,024.  Nothing is allocated for what is announced: only what has come
 * counts. */
#pragma once

#include "sys/session.h"

extern const struct wire_ops imap_wire_ops;

/* wire_park.flags */
#define IMAP_PARK_AUTHENTICATED 1u

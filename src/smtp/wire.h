/* SMTP's front half: framing, the replies that need no state of core, DATA and BDAT bodies.  Pure;
 * linked into front.  Rules live in the command table (smtp/commands.h).
 *
 * Answered in front: the greeting, EHLO/HELO, NOOP, RSET, QUIT, VRFY, HELP, syntax errors, a
 * well-formed MAIL (it then travels with the first RCPT as SESS_ITEM_ANSWERED), DATA's 354 once a
 * recipient was taken.  Only CRLF ends a line; a bare LF or CR in a command or in DATA is refused
 * (no smuggling). */
#pragma once

#include "sys/session.h"

extern const struct wire_ops smtp_wire_ops;	  /* SESS_PROTO_SMTP */
extern const struct wire_ops submission_wire_ops; /* SESS_PROTO_SUBMISSION */
extern const struct wire_ops local_wire_ops;	  /* SESS_PROTO_LOCAL */
extern const struct wire_ops lmtp_wire_ops;	  /* SESS_PROTO_LMTP: RFC 2033 */

/* wire_park.flags */
#define SMTP_PARK_HAS_RCPT	1u /* a recipient was taken: DATA may be answered 354 */
#define SMTP_PARK_AUTHENTICATED 2u
#define SMTP_PARK_HAS_SENDER	4u /* core holds a MAIL */
#define SMTP_PARK_GREETED	8u /* the client was greeted anew: it begins with EHLO */

/* Body bytes arrive un-stuffed; what the framer saw, in SESS_BODY's flags from bit 8 (MESSAGE_* of
 * format/check.h). */
#define SMTP_BODY_DEFECTS_SHIFT 8

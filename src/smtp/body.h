/* The bytes of a message as SMTP carries them: DATA's dot-stuffing (RFC 5321 4.5.2) and BDAT's
 * plain octets (RFC 3030).  Pure and chunk-invariant. */
#pragma once

#include "base/buf.h"

struct smtp_body {
	enum { SMTP_BODY_BOL, SMTP_BODY_DOT, SMTP_BODY_DOT_CR, SMTP_BODY_TEXT, SMTP_BODY_CR } at;
	unsigned defects; /* MESSAGE_NUL, _BARE_CR, _BARE_LF of format/check.h */
};
void smtp_body_init(struct smtp_body *b);
/* Un-stuffs IN into OUT until CRLF.CRLF (*RET_END; the dot line is not part of the message, the
 * CRLF before it is), the end of IN, or OUT holding ROOM bytes or more (then at most one byte
 * over).  Returns what it read of IN.  Defective bytes are kept: they are counted so that the
 * message can be refused as a whole after its true end. */
size_t smtp_body_data(struct smtp_body *b, span in, struct buf *out, size_t room, bool *ret_end);
/* Looks at octets that are taken as they are. */
void smtp_body_octets(struct smtp_body *b, span in);
/* After the last octet of BDAT: a CR may be left alone. */
void smtp_body_end(struct smtp_body *b);

/* IMAP text forms that are stored ready to send: ENVELOPE and BODYSTRUCTURE (RFC 3501 7.4.2), modified
 * UTF-7 mailbox names (5.1.3), strings.  Pure. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "format/mime.h"

/* "(\"date\" \"subject\" ((...)) ...)": the value of FETCH ENVELOPE. */
int imapfmt_envelope(struct buf *b, span header, struct arena *mem);
/* The value of BODYSTRUCTURE (extensible) or BODY (not).  Parameters are sent as written, RFC 2231 forms
 * included: clients decode them. */
int imapfmt_bodystructure(struct buf *b, span message, const struct mime_part *root, bool extensible);
/* NIL-less string: quoted if it can be (no CR, LF, NUL, 8-bit; up to 1,024 bytes), else a literal,
 * in which NUL, which IMAP cannot carry there, is "?". */
int imapfmt_string(struct buf *b, span s);
int imapfmt_nstring(struct buf *b, span s); /* s.p == NULL gives NIL */
int imapfmt_astring(struct buf *b, span s); /* atom where possible */
/* Mailbox names: UTF-8 inside, modified UTF-7 on IMAP4rev1's wire.  decode: ERR_SYNTAX if not canonical. */
int mutf7_encode(struct buf *b, span utf8);
int mutf7_decode(struct buf *b, span mutf7);

/* SMTP replies (RFC 5321 4.2).  Pure. */
#pragma once

#include "base/buf.h"

struct smtp_reply {
	unsigned code;      /* 200..599 */
	char enhanced[12];  /* "2.1.5" or "" */
	span text;          /* all lines, code and enhanced code removed, joined by LF */
	size_t lines;
};
/* Reads one complete (multi-line) reply at the start of IN.  1: read, *RET_USED bytes; 0: needs more;
 * ERR_SYNTAX, ERR_TOOBIG (over MAX_LINES lines or IN over MAX_BYTES without an end).  TEXT is put into
 * B behind what is there, control bytes shown as "?"; nothing is put on failure.  Lines must agree in code. */
int smtp_reply_parse(span in, size_t max_lines, size_t max_bytes, struct buf *b, struct smtp_reply *ret,
		     size_t *ret_used);
/* "250-2.1.0 a\r\n250 2.1.0 b\r\n": one reply line per LF-separated line of TEXT.  Text is made
 * harmless (control bytes and, unless UTF8, 8-bit become "?"), lines cut at 500 octets. */
int smtp_reply_put(struct buf *b, unsigned code, const char *enhanced, span text, bool utf8);

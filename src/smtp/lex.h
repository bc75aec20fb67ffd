/* Lines and words of SMTP.  Pure. */
#pragma once

#include "base/span.h"

enum smtp_line {
	SMTP_LINE_NONE, /* not complete yet */
	SMTP_LINE_GOOD,
	SMTP_LINE_BAD,	/* ends here, but has a bare CR, a bare LF or a NUL in it */
	SMTP_LINE_LONG, /* no CRLF within the limit: what follows up to CRLF belongs to it */
};
/* The line at the start of IN.  Only CRLF ends it (RFC 5321 2.3.8).  LIMIT is in octets with CRLF.
 * *RET_LINE is without CRLF, *RET_USED with it.  *SCANNED remembers, between calls with more and
 * more bytes of the same line, how far there is none; start with 0. */
enum smtp_line smtp_line_take(span in, size_t limit, size_t *scanned, span *ret_line,
			      size_t *ret_used);
/* For the rest of an overlong line: how much of IN to drop.  *RET_END: its CRLF was among it. */
size_t smtp_line_skip(span in, bool *ret_end);

/* The next word of *S, words being separated by spaces or tabs; false at the end. */
bool smtp_word(span *s, span *ret);
/* esmtp-param (RFC 5321 4.1.2): KEYWORD or KEYWORD=VALUE; false: not that. */
bool smtp_param(span word, span *ret_key, span *ret_value);

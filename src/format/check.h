/* One pass over a message as it was received: what the header lacks or has twice, and defects that
 * refuse it (RFC 5321 2.3.8, 4.5.3.1.6; RFC 5322 3.6).  Pure, linear. */
#pragma once

#include "base/span.h"

enum { /* defects */
	MESSAGE_NUL = 1,
	MESSAGE_BARE_CR = 2,
	MESSAGE_BARE_LF = 4,
	MESSAGE_LONG_LINE = 8,   /* > 998 octets without CRLF */
	MESSAGE_8BIT_HEADER = 16,
	MESSAGE_8BIT_BODY = 32,
	MESSAGE_NO_FINAL_CRLF = 64,
	MESSAGE_BAD_HEADER = 128, /* a line in the header that is no field */
};
struct message_facts {
	unsigned defects;
	size_t header_size;  /* incl. the empty line */
	unsigned fields;     /* of any name; 0: the message begins with its body */
	unsigned from, sender, date, message_id, received, to_cc_bcc, delivered_to, authres; /* counts; authres: Authentication-Results */
	span from_value;     /* raw value of the first From */
	span message_id_value; /* "<...>" of the first Message-ID, or empty */
	span subject_value;
	span auto_submitted;
	bool precedence_bulk; /* Precedence: bulk/list/junk, or List-Id */
};
/* Spans point into MESSAGE; subject_value and auto_submitted are trimmed, from_value is as it stands. */
void message_check(span message, struct message_facts *ret);
/* The same defects, but MESSAGE_BAD_HEADER, for a message that arrives in pieces: feed all of it, header
 * first; how it is cut does not matter.  `defects` is complete after message_scan_end(). */
struct message_scan { unsigned defects; size_t line; uint8_t last; bool in_header; uint8_t tail; };
void message_scan_init(struct message_scan *s);
void message_scan_feed(struct message_scan *s, span piece);
void message_scan_end(struct message_scan *s);

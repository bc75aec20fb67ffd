/* Delivery status notifications (RFC 3464, RFC 6522, RFC 6533) and enhanced codes (RFC 3463). Pure. */
#pragma once

#include "base/buf.h"
#include "base/clock.h"

enum dsn_action { DSN_FAILED, DSN_DELAYED, DSN_DELIVERED, DSN_RELAYED, DSN_EXPANDED };

struct dsn_rcpt {
	span original;       /* ORCPT as xtext-decoded "rfc822;a@b", or empty */
	span final;          /* address text */
	enum dsn_action action;
	char status[12];     /* "5.1.1" */
	span remote_mta;     /* host name or empty */
	span diagnostic;     /* reply text of the remote, or our words; one or more lines */
	span explanation;    /* a sentence for people */
	usec last_attempt, will_retry_until;
};
struct dsn_report {
	span reporting_mta;     /* our host name */
	span from;              /* "MAILER-DAEMON@host" or postmaster address */
	span to;                /* the original reverse-path */
	span envelope_id;       /* ENVID or empty */
	span message_id;        /* for our own Message-ID, with brackets */
	usec arrival, now;
	usec deliver_by;        /* RFC 2852 section 5; 0: was not asked for */
	const struct dsn_rcpt *rcpts;
	size_t n_rcpts;
	span original;          /* the message, or its header */
	bool full;              /* attach the whole message (RET=FULL) or the header only */
	bool utf8;              /* RFC 6533 forms */
};
/* A complete message with CRLF lines, To:, Auto-Submitted: auto-replied, multipart/report. */
int dsn_compose(struct buf *b, const struct dsn_report *r);

/* "5.1.1" anywhere at the start of a reply text (after the code): false if there is none. */
bool enhanced_code_parse(span text, char ret[12]);
/* xtext (RFC 3461 section 4). */
int xtext_encode(struct buf *b, span s);
int xtext_decode(struct buf *b, span s);
/* The value of ORCPT (RFC 3461 4.2, RFC 6533 section 3) <-> "type;address" in plain, UTF-8 in an
 * address of type utf-8.  Decode: ERR_SYNTAX, also for what is not printable.  Encode: with UTF8
 * (an SMTPUTF8 transaction) such characters go out as they are, else as \x{HEX}; what has no type
 * is given one. */
int orcpt_decode(struct buf *b, span value);
int orcpt_encode(struct buf *b, span original, bool utf8);

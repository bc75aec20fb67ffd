/* What EHLO offers: the table of extensions.  Front and core both ask it.  Pure. */
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "smtp/commands.h"

enum smtp_ext {
	SMTP_EXT_PIPELINING,	/* RFC 2920 */
	SMTP_EXT_SIZE,		/* RFC 1870 */
	SMTP_EXT_8BITMIME,	/* RFC 6152 */
	SMTP_EXT_BINARYMIME,	/* RFC 3030 */
	SMTP_EXT_SMTPUTF8,	/* RFC 6531 */
	SMTP_EXT_ENHANCEDCODES, /* RFC 2034 */
	SMTP_EXT_CHUNKING,	/* RFC 3030 */
	SMTP_EXT_DSN,		/* RFC 3461 */
	SMTP_EXT_DELIVERBY,	/* RFC 2852 */
	SMTP_EXT_PRIORITY,	/* RFC 6710 */
	SMTP_EXT_LIMITS,	/* RFC 9422 */
	SMTP_EXT_PRDR,		/* draft-hall-prdr */
	SMTP_EXT_STARTTLS,	/* RFC 3207 */
	SMTP_EXT_REQUIRETLS,	/* RFC 8689 */
	SMTP_EXT_FUTURERELEASE, /* RFC 4865 */
	SMTP_EXT_AUTH,		/* RFC 4954 */
	SMTP_EXT_ETRN,		/* RFC 1985 */
	SMTP_EXT_XCLIENT,	/* Postfix's XCLIENT_README */
	SMTP_EXT_COUNT
};

/* The values that stand behind the keywords. */
struct smtp_offer {
	uint64_t max_size;
	uint32_t max_rcpts;
	usec hold_max;	/* FUTURERELEASE */
	usec now;	/* wall */
	span mechanisms; /* of AUTH; empty: it is not offered */
};

bool smtp_ext_offered(enum smtp_ext e, const struct smtp_phase *p);
/* The lines of EHLO's answer behind the host name, a LF before each. */
void smtp_ext_put(struct buf *b, const struct smtp_phase *p, const struct smtp_offer *o);

#define SMTP_BY_MIN 60 /* seconds: the least that BY may give with R */
/* The priority that a message gets where ASKED was asked for: only those who are known here may
 * raise it (RFC 6710 4.1). */
int smtp_priority(int asked, const struct smtp_phase *p);

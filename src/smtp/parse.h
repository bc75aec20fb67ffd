/* The arguments of SMTP's commands (RFC 5321 4.1.1 and the extensions).  Pure. */
#pragma once

#include "base/arena.h"
#include "base/clock.h"
#include "format/address.h"
#include "smtp/commands.h"

struct smtp_command {
	const struct smtp_rule *rule;
	span text;	     /* DOMAIN, STRING, ANY: the argument as it is */
	struct address path; /* MAIL, RCPT; in the arena */
	/* MAIL */
	bool has_size;
	uint64_t size;		 /* RFC 1870 */
	bool body_8bit;		 /* BODY=8BITMIME, RFC 6152 */
	bool body_binary;	 /* BODY=BINARYMIME, RFC 3030 */
	bool smtputf8;		 /* RFC 6531 */
	bool ret_full, ret_hdrs; /* RET, RFC 3461 4.3 */
	span envid;		 /* decoded, in the arena */
	bool has_by, by_return, by_trace; /* BY, RFC 2852 */
	int64_t by_seconds;
	int priority;			 /* MT-PRIORITY, RFC 6710 */
	bool require_tls;		 /* REQUIRETLS, RFC 8689 */
	bool prdr;			 /* one answer per recipient */
	usec hold_for, hold_until;	 /* RFC 4865; at most one is not 0; until: wall */
	/* RCPT */
	unsigned notify; /* SMTP_NOTIFY_*; 0: not said */
	span original;	 /* ORCPT "rfc822;a@b", decoded, in the arena */
	/* BDAT */
	uint64_t chunk;
	bool last;
	/* ETRN */
	span domain; /* in the arena */
	/* AUTH */
	span mechanism, initial; /* initial.p NULL: none */
};
/* RFC 3461 4.1; the values are those of queue/queue.h. */
enum {
	SMTP_NOTIFY_NEVER = 1,
	SMTP_NOTIFY_SUCCESS = 2,
	SMTP_NOTIFY_FAILURE = 4,
	SMTP_NOTIFY_DELAY = 8
};

/* Parses ARGS as RULE demands in P.  NULL: *RET is set; else the refusal.  Spans point into ARGS or MEM.
 * Non-ASCII addresses parse; whether the transaction allows them is smtp_utf8_check's question. */
const struct smtp_answer *smtp_args_parse(const struct smtp_rule *rule, span args,
					  const struct smtp_phase *p, struct arena *mem,
					  struct smtp_command *ret);
/* RFC 6531 3.5: a non-ASCII address outside an SMTPUTF8 transaction is refused (5.6.7). */
const struct smtp_answer *smtp_utf8_check(const struct smtp_command *c, bool smtputf8);

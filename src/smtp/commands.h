/* SMTP's command table: the protocol's rules as data.  Front and core both ask it, so that core
 * never has to believe what front has checked.  Pure. */
#pragma once

#include "base/span.h"

enum smtp_verb {
	SMTP_HELO,
	SMTP_EHLO,
	SMTP_LHLO,
	SMTP_MAIL,
	SMTP_RCPT,
	SMTP_DATA,
	SMTP_BDAT,
	SMTP_RSET,
	SMTP_NOOP,
	SMTP_QUIT,
	SMTP_VRFY,
	SMTP_EXPN,
	SMTP_HELP,
	SMTP_STARTTLS,
	SMTP_AUTH,
	SMTP_ETRN,
	SMTP_XCLIENT,
	SMTP_VERB_COUNT
};

/* Argument grammar. */
enum smtp_args {
	SMTP_ARGS_NONE,
	SMTP_ARGS_ANY,	  /* optional, ignored */
	SMTP_ARGS_STRING, /* something */
	SMTP_ARGS_DOMAIN, /* what a client calls itself: taken generously */
	SMTP_ARGS_MAIL,
	SMTP_ARGS_RCPT,
	SMTP_ARGS_BDAT,
	SMTP_ARGS_AUTH,
	SMTP_ARGS_ETRN,
};

enum { /* smtp_rule.flags */
       SMTP_NEEDS_HELO = 1,
       SMTP_NEEDS_EHLO = 2,
       SMTP_NEEDS_AUTH = 4, /* on submission: RFC 6409 4.3 */
       SMTP_NEEDS_MAIL = 8,
       SMTP_NO_MAIL = 16, /* not inside a transaction */
       SMTP_NO_BDAT = 32, /* not between the chunks of a message (RFC 3030 section 2) */
       SMTP_SUBMISSION_ONLY = 64,
       SMTP_NEEDS_CLEAR = 128, /* before TLS, and where TLS can be had */
       SMTP_NO_AUTH = 256,     /* not once authenticated */
       SMTP_TO_CORE = 512,     /* core answers; else front does (core may be told afterwards) */
       SMTP_ENDS_GROUP =
	       1024, /* core's answer decides how the next bytes are read (RFC 2920 3.1) */
       SMTP_LMTP_ONLY = 4096,
       SMTP_NOT_LMTP = 8192,
       SMTP_NEEDS_TRUST = 16384,
       SMTP_NEEDS_ETRN = 32768, /* for those who may start the queue */
       SMTP_NO_BINARY = 2048, /* not for binary content (RFC 3030 section 3) */
};

struct smtp_rule {
	const char *name;
	enum smtp_verb verb;
	enum smtp_args args;
	unsigned flags;
	size_t max_line; /* octets with CRLF (RFC 5321 4.5.3.1.4 plus what the extensions add) */
};
extern const struct smtp_rule smtp_rules[SMTP_VERB_COUNT];

/* A refusal, or any answer that never varies. */
struct smtp_answer {
	unsigned code;
	const char *enhanced;
	const char *text;
};

/* Where a session is. */
struct smtp_phase {
	bool helo, esmtp;
	bool submission, lmtp;
	bool trusted, etrn; /* as in wire_env */
	bool tls, tls_available;
	bool authenticated;
	bool hold;	 /* messages may be held for a time (RFC 4865) */
	bool mail, bdat; /* a sender was named; chunks have begun */
	bool binary;	 /* the sender said BODY=BINARYMIME */
};

/* The rule of LINE's first word, case-insensitive; NULL: no such command.  *RET_ARGS is what
 * follows, trimmed. */
const struct smtp_rule *smtp_rule_find(span line, span *ret_args);
/* NULL: the command may be used now. */
const struct smtp_answer *smtp_rule_check(const struct smtp_rule *r, const struct smtp_phase *p);
/* How long a line that begins with START may become, octets with CRLF. */
size_t smtp_line_limit(span start);
#define SMTP_LINE_MAX	   2048
#define SMTP_AUTH_LINE_MAX 12288 /* RFC 4954 section 4 */

/* The first word of another protocol that a browser can be made to speak to us (cross-protocol
 * attacks). */
bool smtp_is_foreign(span line);

extern const struct smtp_answer smtp_answer_unknown, smtp_answer_not_offered, smtp_answer_bad_line, smtp_answer_long_line,
	smtp_answer_no_rcpt, smtp_answer_need_rcpt, smtp_answer_too_big, smtp_answer_abuse;

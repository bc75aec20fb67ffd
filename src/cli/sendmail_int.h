/* Inside cli/: sendmail(1), the way in for programs of this machine. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#define SENDMAIL_RCPTS_MAX 10000

/* What the command line asks for; strings are argv's or MEM's. */
struct sendmail {
	struct arena mem;
	const char *config;    /* -C */
	const char *from;      /* -f, or NULL: who runs it */
	const char *full_name; /* -F, or NULL: the user's */
	bool read_rcpts;       /* -t */
	bool dot_is_text;      /* -i: a lone dot does not end the message */
	const char *notify, *ret, *envid; /* -N, -R, -V */
	span *rcpts;
	size_t n_rcpts;
	/* of the configuration, or what it would be */
	span domain; /* put behind bare names */
	span socket; /* path */
	uint64_t max_message;
};

/* Adds the envelope address TEXT, with the domain where it has none.  ERR_SYNTAX, ERR_TOOBIG. */
int sendmail_rcpt_add(struct sendmail *m, span text);

/* --- sendmail_message.c.  Pure. --- */
/* TEXT as it was typed (LF or CRLF) as a message for SMTP: CRLF, no Bcc, a From field if there was none
 * (FROM: a whole address; NAME may be empty), an empty line above a text without a header; cut at a
 * lone dot unless `dot_is_text`.  With `read_rcpts` the addresses of To, Cc and Bcc (or of their
 * Resent- fields, if there is one) are added.  ERR_SYNTAX: *RET_WHY is an address that is none;
 * ERR_TOOBIG. */
int sendmail_message(struct sendmail *m, span text, span from, span name, struct buf *b, span *ret_why);

/* --- sendmail_smtp.c --- */
/* Hands the message over.  0, or a sysexits(3) code with a line on stderr for each address that was
 * refused; the others have been served then. */
int sendmail_submit(const struct sendmail *m, span sender, span message);
/* -bs: SMTP between standard input and output and the server, until either ends. */
int sendmail_pipe(const struct sendmail *m);

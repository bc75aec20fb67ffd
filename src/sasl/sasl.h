/* SASL server side, shared by SMTP, IMAP and POP3 (RFC 4422).  PLAIN (4616), LOGIN (draft), and
 * SCRAM-SHA-256 (5802, 7677; through gsasl).  Runs in core on LANE_AUTH: directory hashing is slow.
 *
 * One table says which mechanism is allowed with and without TLS; nothing is offered that it does not allow. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "directory/directory.h"
#include "sasl/offer.h"
#include "sys/session.h"

enum sasl_step {
	SASL_CONTINUE, /* send the challenge, come back with the next line */
	SASL_OK,       /* account is set */
	SASL_FAILED,   /* wrong credentials or exchange: one answer for all of it */
	SASL_CANCELLED, /* the client sent "*" */
	SASL_BAD,      /* not base64, too long, unknown mechanism */
};
#define SASL_MAX_LINE 12288 /* RFC 4954 4: base64 line incl. CRLF */

struct sasl; /* one exchange */
/* INITIAL: the initial response as on the wire (base64, "=" is the empty one); p NULL: none.  *RET is set by every
 * answer (NULL for an unknown mechanism) and belongs to the caller. */
enum sasl_step sasl_start(struct directory *d, span mechanism, span initial, const struct sess_tls *tls, struct sasl **ret, struct buf *challenge);
/* LINE: the client's next line without CRLF.  CHALLENGE gets base64 without CRLF. */
enum sasl_step sasl_next(struct sasl *s, span line, struct buf *challenge);
/* After SASL_OK: spans in MEM. */
void sasl_account(const struct sasl *s, struct arena *mem, struct directory_account *ret);
/* The login name tried, for events (may be hostile: escape); empty if none was read.  S may be NULL. */
span sasl_login(const struct sasl *s);
/* Names the guess at a password that S has just seen fail, for guard_login_failed(); 0 if the mechanism
 * did not show it, or S is NULL. */
uint64_t sasl_guess(const struct sasl *s);
void sasl_free(struct sasl *s); /* NULL is fine; wipes */

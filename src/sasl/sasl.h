/* SASL server side, shared by SMTP, IMAP and POP3 (RFC 4422): PLAIN (4616), LOGIN (draft), SCRAM with and
 * without channel binding (5802, 7677, 9266, 5929), OAUTHBEARER (7628), XOAUTH2, EXTERNAL (4422 appendix A).
 * Runs in core on LANE_AUTH: password hashing is slow.
 *
 * sasl/offer.h says which mechanism may be used where; nothing is offered that it does not allow. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "directory/directory.h"
#include "sasl/offer.h"
#include "sys/ask.h"
#include "sys/session.h"

/* --- what all logins of a core share; thread-safe --- */
struct sasl_env;
struct sasl_env *sasl_env_new(struct directory *d);
void sasl_env_free(struct sasl_env *e); /* NULL is fine */
/* Takes what CONF says from now on, and reads the files it names (with the rights of this process).  On failure all
 * stays as it was, and INFO is one line for a person. */
int sasl_env_configure(struct sasl_env *e, const struct conf *c, struct err_info *info);

/* How other hosts are asked, and how a session is woken that waits for their answer; once, before the first login. */
void sasl_env_attach(struct sasl_env *e, struct ask_table *asks, void (*wake)(void *arg, uint64_t session), void *arg);
/* Fetches what is due (keys of issuers by URL); every few seconds. */
void sasl_env_refresh(struct sasl_env *e);

/* What sasl_usable() and sasl_offer() want to know of S's connection. */
struct sasl_channel sasl_channel(struct sasl_env *e, const struct sess *s);

/* Login by name and password outside of SASL (IMAP LOGIN, POP3 PASS): 0, ERR_AUTH, or an error that is none of the
 * peer's doing.  The caller has asked sasl_password_usable(). */
int sasl_password(struct sasl_env *e, const struct sess *s, span login, span password, struct arena *mem, struct directory_account *ret);

/* --- one exchange --- */
enum sasl_step {
	SASL_CONTINUE, /* send the challenge, come back with the next line */
	SASL_OK,       /* account is set */
	SASL_FAILED,   /* wrong credentials or exchange: one answer for all of it */
	SASL_CANCELLED, /* the client sent "*" */
	SASL_BAD,      /* not base64, too long, unknown mechanism */
	SASL_UNAVAILABLE, /* it cannot be told now */
	SASL_WAIT,     /* another host was asked: end the job with sess_wait(), then sasl_resume() */
};
#define SASL_MAX_LINE 12288 /* RFC 4954 4: base64 line incl. CRLF */

struct sasl;
/* INITIAL: the initial response as on the wire (base64, "=" is the empty one); p NULL: none.  S must outlive the
 * exchange.  *RET is set by every answer (NULL for an unknown mechanism) and belongs to the caller. */
enum sasl_step sasl_start(struct sasl_env *e, const struct sess *s, span mechanism, span initial, struct sasl **ret, struct buf *challenge);
/* LINE: the client's next line without CRLF.  CHALLENGE gets base64 without CRLF. */
enum sasl_step sasl_next(struct sasl *s, span line, struct buf *challenge);
/* Is the exchange in SASL_WAIT?  S may be NULL. */
bool sasl_waiting(const struct sasl *s);
/* Goes on after SASL_WAIT; may answer that once more. */
enum sasl_step sasl_resume(struct sasl *s, struct buf *challenge);
/* After SASL_OK: spans in MEM. */
void sasl_account(const struct sasl *s, struct arena *mem, struct directory_account *ret);
/* The login name tried, for events (may be hostile: escape); empty if none was read.  S may be NULL. */
span sasl_login(const struct sasl *s);
/* Names the guess at a password that S has just seen fail, for guard_login_failed(); 0 if the mechanism
 * did not show it, or S is NULL. */
uint64_t sasl_guess(const struct sasl *s);
void sasl_free(struct sasl *s); /* NULL is fine; wipes */

/* Inside mail/. */
#pragma once

#include "mail/mail.h"

/* Header fields that we put above the message (RFC 5321 4.4).  B gets whole CRLF lines. */
struct trace_in {
	const struct mail_transaction *t;
	span hostname;
	usec now;
	const struct address *only_rcpt; /* for "for <>": the one recipient, or NULL */
};
int trace_received_put(struct buf *b, const struct trace_in *in);
/* Return-Path and Delivered-To: only where the message reaches its mailbox. */
int trace_delivery_put(struct buf *b, span reverse_path, span delivered_to);

/* Submission rules over the header (RFC 6409 6, 8): refusal, or the fields that are missing
 * appended to B (a Message-ID is also noted in T). False: *RET says why. */
bool submit_check(struct core_env *env, struct mail_transaction *t,
		  const struct message_facts *facts, const struct conf *conf, struct buf *b,
		  struct mail_verdict *ret);

/* The same for filters and signatures, which must see the header as it will go: what is missing is put into T's
 * body, and FACTS are then anew. */
bool submit_complete(struct core_env *env, struct mail_transaction *t, struct message_facts *facts,
		     const struct conf *conf, struct mail_verdict *ret);

/* Must the From field be one of the account's addresses? */
bool submit_from_checked(struct core_env *env, struct mail_transaction *t, const struct conf *conf);

/* Writes the timeline record of ID, to be found under each of KEYS, however many. */
void mail_timeline(struct core_env *env, const struct id *id, struct event_list *l,
		   const span *keys, size_t n);

/* NOTIFY of the targets of an alias that has several (RFC 3461 5.2.7.3 c): without SUCCESS. */
unsigned mail_notify_expanded(unsigned notify);

/* The result of an alias's own row, "expanded": its targets have rows of their own. */
void mail_result_expanded(struct queue_result *r);
/* Settles all of L as failed, with a report; what has been passed on counts as that, for no report may say that it
 * failed.  An error releases L. */
int mail_return(struct core_env *env, const struct queue_lease *l, const char *status, span reply);

/* Where a route "local" or "local:junk" leads to. */
#define MAIL_ROUTE_JUNK "local:junk"
span mail_mailbox_of(span route);

/* Puts HEADER in the place of the first OLD bytes of T's body. */
int mail_body_set_header(struct mail_transaction *t, span header, size_t old);

/* Puts bytes FROM .. FROM + N of FD in the place of all that follows the first HEADER_SIZE bytes of
 * T's body.  As mail_body_add(). */
int mail_body_replace(struct core_env *env, struct mail_transaction *t, size_t header_size, int fd,
		      uint64_t from, uint64_t n, uint64_t max_size);
/* Without a single field before the first empty line, or with a continuation line at the top? */
bool mail_is_bare(span head, const struct message_facts *f);
/* Is the header larger than what is kept of it? */
bool mail_header_cut(const struct mail_transaction *t, const struct message_facts *f);
/* Takes away Authentication-Results that claim to be ours; FACTS are then anew. */
int mail_strip_forged(struct mail_transaction *t, const struct conf *conf,
		      struct message_facts *facts);

/* --- filters.c: what the chain of filters made of T --- */
bool mail_was_filtered(const struct mail_transaction *t);
bool mail_is_quarantined(const struct mail_transaction *t); /* to be held in the queue */
bool mail_is_discarded(const struct mail_transaction *t);   /* to be answered 250 and not kept */
void mail_filters_free(struct mail_filters *f);		    /* NULL is fine */

void mail_inspection_free(struct mail_inspection *i); /* NULL is fine */

/* The first sender behind A, a rewritten reverse-path of ours; false: *RET_WHY says why it leads nowhere. */
bool mail_rewritten_back(struct core_env *env, const struct address *a, struct arena *mem,
			 struct address *ret, struct mail_verdict *ret_why);

/* The row of relay.routes for RCPT and SENDER (may be NULL), or NULL. */
const struct conf_route *mail_transport(const struct conf *c, const struct address *rcpt,
					const struct address *sender);

/* The verdict for a failed store or queue call. */
struct mail_verdict verdict_of_error(int err);

/* The body so far, without its file; the transaction then has none. */
struct buf mail_body_take(struct mail_transaction *t);
/* Makes text of the binary parts of T's body.  ERR_UNSUPPORTED: it cannot be done; or an error of
 * mail_body_add(). */
int mail_body_to_text(struct core_env *env, struct mail_transaction *t);

/* Notes a step of T with one text field. */
void mail_step(struct event_list *l, const char *name, const char *key, span value);

/* Has the message a Delivered-To field with ADDRESS (a forwarding loop)? */
bool trace_loops(span header, span address);

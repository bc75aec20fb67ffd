/* mail: the use cases over directory, store, queue and events: route, receive, submit, deliver,
 * bounce. Plain blocking code for core's workers.  Protocol rooms call this; nothing here knows a
 * protocol's framing, but the answers are SMTP replies since every way in ends in one. */
#pragma once

#include "format/address.h"
#include "format/check.h"
#include "mail/env.h"

/* An answer to the peer: 250/2.1.5, 550/5.1.1, ...  TEXT is one line, harmless. */
struct mail_verdict {
	unsigned code;
	const char *enhanced; /* literal */
	span text;	      /* in the transaction's arena, or literal */
};

/* --- routing: what happens to an envelope recipient (RFC 5321 3.6, 7.1) --- */
enum mail_route_kind {
	MAIL_ROUTE_LOCAL,
	MAIL_ROUTE_REMOTE,
	MAIL_ROUTE_REFUSED,
	MAIL_ROUTE_EXPANDED /* an alias that owes a report of its expansion; not of mail_route() */
};
struct mail_route {
	enum mail_route_kind kind;
	struct address address; /* final address after alias expansion */
	span route;		/* queue route: "local", "local:junk", "expanded", or what conf_nexthop_parse() reads, with or without
				 * MAIL_ROUTE_SRS before it */
	char account_id[ACCOUNT_ID_LEN + 1];
	uint64_t quota_bytes;	     /* LOCAL; 0: none */
	struct mail_verdict refusal; /* REFUSED */
};
/* Who brings the message, and who wants to hear how it was decided. */
struct mail_route_from {
	const struct address *sender; /* the reverse-path; NULL: <> */
	bool authenticated;	      /* may relay */
	/* NULL, or where "mail.alias_broken" goes for each target of an alias that cannot be reached beside good
	 * ones; with EXPLAIN each step too, as an event with "address" and "text". */
	struct event_list *notes;
	bool explain;
};
/* Expands aliases (each once, so circles end; count limited), undoes rewritten reverse-paths, and chooses the way
 * of what goes to other hosts; at least one route, REFUSED ones only where there is no other.  A target that
 * cannot be looked up now refuses all of them with 4xx.  What an alias sends on to other hosts for a foreign
 * sender gets a route that begins with MAIL_ROUTE_SRS.  Results in MEM. */
int mail_route(struct core_env *env, const struct address *rcpt, const struct mail_route_from *from,
	       struct arena *mem, struct mail_route **ret, size_t *ret_n);
/* Before a remote route: the peer gets a reverse-path of ours (format/srs.h), that leads back. */
#define MAIL_ROUTE_SRS "srs+"
span mail_route_way(span route); /* without it */
/* What the peer gets as reverse-path of a message of SENDER (text, or empty) that goes by ROUTE; in MEM.  One
 * that would become too long stays as it is. */
span mail_reverse_path(struct core_env *env, span sender, span route, struct arena *mem);
/* Is SENDER one of relay.verp, who gets a reverse-path for each recipient? */
bool mail_wants_verp(const struct conf *c, span sender);
/* "news+amy=example.net@example.org" for news@example.org writing to amy@example.net; in MEM.  SENDER itself where
 * the addresses do not allow that (quoted, outside ASCII, more than 64 octets before the "@"). */
span mail_verp_path(span sender, span rcpt, struct arena *mem);
/* Is it a rewritten reverse-path of this host, by its looks? */
bool mail_is_rewritten(struct core_env *env, const struct address *a);
/* Do both lead to the same delivery? */
bool mail_route_same(const struct mail_route *a, const struct mail_route *b);
/* Do ROUTES lead to nothing but one mailbox that has a quota?  (Then the next asks the disk.) */
bool mail_route_has_quota(const struct mail_route *routes, size_t n);
/* And it is over it?  *RET: 452 4.2.2.  (Delivery asks again, within its commit.) */
bool mail_route_full(struct core_env *env, const struct mail_route *routes, size_t n,
		     struct mail_verdict *ret);

/* --- a transaction as SMTP builds it up --- */
struct mail_rcpt {
	struct address address;
	span original;	 /* ORCPT, decoded, or empty */
	unsigned notify; /* RCPT_NOTIFY_* */
	struct mail_route *routes;
	size_t n_routes;
	bool added; /* by a filter: the client owes nothing to it, nor we an answer */
	struct mail_verdict verdict; /* code 0: the whole message's (mail_transaction.each) */
	struct mail_rcpt *next;
};
struct mail_transaction {
	struct id id;	  /* made at MAIL; shown in the reply and Received */
	struct arena mem; /* lives from MAIL to the end of the transaction */
	struct event_list events;
	struct address sender;
	uint64_t declared_size;
	bool smtputf8, body_8bit;
	bool body_binary; /* parts may be binary (RFC 3030); mail_receive() makes text of them */
	bool each;	  /* one verdict per recipient is wanted (PRDR, LMTP) */
	bool ret_full, ret_hdrs; /* RET; both false: nothing was said */
	span envid;
	struct queue_terms terms;
	usec held_until; /* wall; 0: no hold (RFC 4865) */
	struct mail_rcpt *rcpts, **rcpts_tail;
	unsigned n_rcpts;
	/* who brought it */
	struct sockaddr_any peer;
	span helo, peer_name; /* peer_name: verified reverse name, or empty */
	bool esmtp, tls;
	span tls_text; /* "TLSv1.3 TLS_AES_256_GCM_SHA384" */
	bool submission, lmtp, authenticated;
	span auth_type; /* "PLAIN", ... */
	struct directory_account account; /* authenticated */
	/* the body: in memory, or its beginning (with the whole header) and the rest in a file */
	struct buf body;
	int spool_fd;
	uint64_t body_size;
	struct message_scan scan;
	span message_id; /* of its header, or the one that was made for it; or empty */
	span stored;	 /* the address whose mailbox has it, if that is all that became of it */
	/* What others say of it (mail_inspect); WAKE(WAKE_ARG, WAKE_ID) is called from any thread, must
	 * only post, and asks for mail_inspect() again.  Late ones may come after the transaction. */
	struct mail_inspection *inspection;
	struct mail_filters *filters;
	/* CAN_HOLD: the caller keeps a verdict of mail_receive() back until mail_when_durable(TICKET). */
	bool can_hold;
	uint64_t ticket;
	void (*wake)(void *arg, uint64_t id);
	void *wake_arg;
	uint64_t wake_id;
};
struct mail_transaction *mail_transaction_new(void);
void mail_transaction_free(struct mail_transaction *t); /* NULL is fine */
/* Adds a piece of the body (LANE_SPOOL once it spilled).  ERR_TOOBIG (552 5.3.4), ERR_FULL
 * (452 4.3.1), ERR_AGAIN (too many bodies in memory: 451), ERR_IO.  Not to be called again after
 * one of these. */
int mail_body_add(struct core_env *env, struct mail_transaction *t, span piece, uint64_t max_size);
/* MAIL FROM of an authenticated account: may it use SENDER?  (submission; 5.7.1 naming the address,
 * text in MEM) */
bool mail_sender_allowed(struct core_env *env, const struct directory_account *a,
			 const struct address *sender, struct arena *mem, struct mail_verdict *ret);
/* Asks the filters of the configuration about RCPT, which is routed and not yet one of T's.  0: *RET
 * has code 0, or is a refusal; ERR_AGAIN: as mail_inspect() with false. */
int mail_filter_rcpt(struct core_env *env, struct mail_transaction *t, const struct address *rcpt,
		     struct mail_verdict *ret);
/* Asks of the outside what mail_receive() must know of a message that is complete: who stands behind
 * it (SPF, DKIM, ARC, DMARC, the client's name).  True: it is known.  False: answers are awaited;
 * call again after WAKE, and once more if it was a false alarm.  Ends within 20 s, and what the
 * filters of the configuration may take. */
bool mail_inspect(struct core_env *env, struct mail_transaction *t);
/* Takes the whole message: checks (loop, defects, submission rules), trace header, then one
 * account's commit or the queue.  A 2xx verdict means it is on disk.  Writes the timeline record.
 */
void mail_receive(struct core_env *env, struct mail_transaction *t, struct mail_verdict *ret);
/* FN(result, ARG), once and by any thread: what TICKET stands for is durable (0) or lost.  Must not block. */
void mail_when_durable(uint64_t ticket, void (*fn)(int result, void *arg), void *arg);

/* --- from the queue --- */
/* Is ROUTE of a lease mail_deliver_local()'s? */
bool mail_route_is_local(span route);
/* Is L, which was to go to its recipients' domain, for us now?  The domain may have become ours while
 * it waited: then it goes where mail_route() leads today, and L is settled.  Blocking job. */
bool mail_bring_home(struct core_env *env, const struct queue_lease *l);
/* Local recipients of a lease: stores each with its delivery key, settles, bounces; an expanded
 * alias has nothing to store, only its report to make.  Blocking job (LANE_DELIVERY). */
void mail_deliver_local(struct core_env *env, const struct queue_lease *l);
/* Settles a lease with RESULTS: turns expired deferrals into failures, composes the DSN (RFC 3461
 * section 5.2) that is owed (never for a DSN or an empty reverse-path), records events.  For both
 * local and remote delivery. */
int mail_settle(struct core_env *env, const struct queue_lease *l, struct queue_result *results,
		size_t n, struct event_list *events);
/* Returns L, just leased, if the time in which its sender wanted it delivered is over (RFC 2852): nobody may try it
 * any more.  True: it is settled. */
bool mail_return_overdue(struct core_env *env, const struct queue_lease *l);
/* Fails what F means and nobody is delivering, held or not, as "550 5.7.0 returned by the administrator":
 * mail_settle() for each message, so the senders hear of it.  *RET_COUNT recipients, also on failure. */
int mail_give_back(struct core_env *env, const struct queue_filter *f, size_t *ret_count);
/* Drops delivery keys of queue rows that are gone (Q4); maintenance lane. */
void mail_drop_keys(struct core_env *env);

/* --- poison: jobs note what they are about to parse, in memory that survives a crash of core ---
 */
enum poison_stage { POISON_SMTP = 1, POISON_RECEIVE, POISON_DELIVER, POISON_IMAP, POISON_STORE, POISON_TRUST };
struct poison;
/* MEM: the shared page (4 KiB, from parent), or NULL: a private one.  What a dead predecessor left
 * in it becomes the set of suspects. */
struct poison *poison_open(void *mem);
void poison_close(struct poison *p);
/* True: these bytes crashed a job before; do not parse them.  Else notes them until poison_leave.
 */
bool poison_enter(struct poison *p, enum poison_stage stage, span bytes, int *ret_slot);
void poison_leave(struct poison *p, int slot);
/* Parent, when core ended without a fault (killed, stopped): what was in flight is not suspect. */
void poison_forgive(void *mem);
#define POISON_PAGE 4096

/* queue: accepted messages that wait, in N shard databases DATA/queue/N.db plus DATA/queue/blobs/.
 *
 * Invariants
 *  Q1  queue_accept() returns 0 only after the whole envelope and the body are on disk (one commit of one
 *      shard; a large body is a blob that was synced and named before, with its directory).
 *  Q2  Each recipient is in exactly one state: WAITING, LEASED (memory only: after a crash it is
 *      WAITING again), DONE, FAILED.  DONE and FAILED rows leave with their message.
 *  Q3  A recipient's delivery key is random, made at accept, and never changes: the store uses it to
 *      keep a repeated local delivery from making a second copy.
 *  Q4  A message row leaves when no recipient waits and no DSN is owed; then its blob; then, elsewhere,
 *      the delivery keys.  The keys of removed rows stay listed until queue_key_done().
 *  Q5  A recipient's next attempt is a wall time; the schedule in memory is rebuilt from the rows.  It is never
 *      later than the time its sender asked to deliver by, before that has passed.
 *  Q6  A DSN that a message owes is accepted into the queue in the same commit that marks it reported
 *      (same shard), so it is sent once.
 *  Q7  A waiting recipient may be held: durable, it is not leased by queue_lease() or queue_lease_route(), and so does
 *      not expire; its lifetime goes on, so after its release the first attempt that fails may be the last.
 *
 * test/unit/queue/test_model.c checks them in every state that a few steps reach; mutations.py beside it breaks them.
 *
 * Transitions (function, failpoint)
 *   body -> blob in place          queue_accept   queue.blob.before_link, queue.blob.after_link
 *   -> WAITING                     queue_accept   queue.accept.before_commit, queue.accept.after_commit
 *   WAITING -> LEASED              queue_lease    (memory)
 *   LEASED -> DONE                 queue_settle   queue.settle.before_commit, queue.settle.after_commit
 *   LEASED -> WAITING later        queue_settle   (same)
 *   LEASED -> FAILED, DSN accepted queue_settle   (same)
 *   WAITING, held or not, route    queue_hold, queue_unhold, queue_reroute, queue_retry (db_write's)
 *   WAITING -> gone                queue_drop     (db_write's)
 *   message leaves                 queue_settle   queue.remove.before_unlink
 *   key dropped                    queue_key_done queue.key.after_commit
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/id.h"

struct queue;
/* How what MATCH means (format/deferral.h) is tried again; 0: as the queue_conf's own values say. */
struct queue_rule {
	span match;
	unsigned min_priority; /* only messages of at least that priority; 0: all */
	usec first, max, lifetime;
	unsigned factor_percent;
};
struct queue_conf {
	const char *dir;      /* DATA/queue */
	unsigned shards;      /* 1..64; fixed when the queue was made */
	size_t inline_max;
	/* Retry schedule: first delay, factor, cap, lifetime, jitter in percent. */
	usec retry_first, retry_max, lifetime;
	usec warn_after; /* 0: nobody is told of a delay */
	unsigned retry_factor_percent, jitter_percent;
	usec open_wait; /* queue_open() waits so long for the schedule and lets the rest come; 0: for all */
	const struct queue_rule *rules; /* the first that matches the last answer decides; copied */
	size_t n_rules;
};
/* Rebuilds the schedule from the shards.  What comes after OPEN_WAIT is delivered as it comes; changes by hand wait for
 * it, queue_stats() does not know of it yet.  ERR_BUSY, ERR_VERSION, ... */
int queue_open(const struct queue_conf *conf, struct queue **ret, struct err_info *info);
void queue_close(struct queue *q);
/* Removes blobs older than a day without a row and forgets old `once` keys.  queue_open does it too. */
int queue_sweep(struct queue *q);
void queue_set_conf(struct queue *q, const struct queue_conf *conf); /* schedule values only (reload) */

enum { RCPT_NOTIFY_NEVER = 1, RCPT_NOTIFY_SUCCESS = 2, RCPT_NOTIFY_FAILURE = 4, RCPT_NOTIFY_DELAY = 8 };

/* What the sender asked of a message's way. */
struct queue_terms {
	usec deliver_by;       /* wall; 0: no limit (RFC 2852).  Can be past already */
	bool by_return;        /* R: then it goes back; else N: then its sender is told, and it goes on */
	bool by_trace;         /* T: each hop is told */
	int8_t priority;       /* -9..9, higher first (RFC 6710) */
	bool require_tls;      /* only over verified TLS to peers that offer REQUIRETLS (RFC 8689) */
};
struct queue_rcpt_in {
	span address;          /* envelope text form */
	span route;            /* routing result that groups deliveries: "local", "expanded", or where it leads (mail_route in mail/mail.h) */
	span original;         /* ORCPT or empty */
	unsigned notify;       /* 0: nothing was said, which means FAILURE | DELAY */
	usec not_before;       /* wall; 0: at once */
};
struct queue_message_in {
	struct id id;
	span sender;           /* reverse-path text, empty for <> */
	span body;             /* or SPOOL_FD */
	int spool_fd;
	uint64_t size;
	bool smtputf8, body_8bit, is_dsn;
	bool ret_full, ret_hdrs; /* RET; both false: nothing was said */
	span envid;
	struct queue_terms terms;
	bool held;             /* Q7, from the beginning */
	usec held_until;       /* wall; 0: no hold.  A message's lifetime begins then (RFC 4865); NOT_BEFORE of its recipients keeps the hold */
	span account_id;       /* submitter's, or empty */
	span once;             /* empty, or a key (account, outbox id): a second accept with it answers 0 and does nothing */
	const struct queue_rcpt_in *rcpts;
	size_t n_rcpts;
};
/* Q1.  The body is BODY if its pointer is set, else SPOOL_FD's content if SIZE > 0 (read by position; the fd stays the
 * caller's).  At least one recipient.  Keys of `once` are kept for 30 days.  ERR_INVAL, ERR_FULL, ERR_SYNC, ERR_IO. */
int queue_accept(struct queue *q, const struct queue_message_in *m) _must_check_;

/* --- delivering --- */
struct queue_rcpt {
	int64_t row;
	span address, original;
	uint8_t key[16];
	unsigned attempts, notify;
	bool warned; /* its delay was told */
	span last_reply;
};
/* Recipients of one message with the same route, that are due together. */
struct queue_lease {
	uint64_t lease_id;
	struct id id;
	unsigned shard;
	int64_t message_row;
	span sender, route, envid;
	uint64_t size;
	usec accepted_at;
	usec warn_at; /* from then on a delay is told, at the latest when TERMS said to deliver by; 0: never */
	usec leased_at; /* wall */
	usec sent_at;   /* the caller's: when its last transmission began; 0: none did */
	struct queue_terms terms;
	usec held_until; /* 0: was not held */
	bool smtputf8, body_8bit, is_dsn, ret_full, ret_hdrs;
	struct queue_rcpt *rcpts;
	size_t n_rcpts;
};
/* The next lease of what is due: by priority (RFC 6710 section 5.1), among equals the longest due first; but a step of
 * priority counts for no more than having been due for 30 minutes, so that nothing waits for ever behind a stream of
 * what is more urgent.  Results in MEM.  1: leased; 0: nothing is due (*RET_NEXT: when to ask again,
 * wall, 0 = nothing waits).  Never blocks long; no table scan. */
int queue_lease(struct queue *q, struct arena *mem, struct queue_lease *ret, usec *ret_next);
/* Like queue_lease, but only for ROUTE (to fill an open connection). */
int queue_lease_route(struct queue *q, span route, struct arena *mem, struct queue_lease *ret);
/* While ROUTE is held, queue_lease() passes its messages over; queue_lease_route() and queue_list() do not.  For a
 * destination that takes no more at the moment: whoever serves it leases by route, and resumes when nothing is left
 * or nobody serves it any more.  Memory only; a route of which nothing waits or is leased is not held. */
void queue_hold_route(struct queue *q, span route);
void queue_resume_route(struct queue *q, span route);
/* Called (any thread; must only post) when something became due earlier than was told by queue_lease. */
void queue_on_due(struct queue *q, void (*fn)(void *arg), void *arg);
/* Bytes [from, from+n) of the body. */
int queue_body_read(struct queue *q, const struct queue_lease *l, uint64_t from, uint64_t n, struct buf *b);
/* Read-only fd of the body if it is a blob, else ERR_NOENT. */
int queue_body_fd(struct queue *q, const struct queue_lease *l);

enum rcpt_outcome { OUTCOME_DELIVERED, OUTCOME_FAILED, OUTCOME_DEFERRED, OUTCOME_RELEASED /* not tried: due again at once or at NOT_BEFORE */ };
/* How a recipient was delivered: what a report of success calls it (RFC 3461 section 5.2).  The queue does not keep it. */
enum rcpt_end {
	END_DELIVERED,
	END_RELAYED,   /* to a peer that makes no such reports */
	END_PASSED_ON, /* with the request: whoever has it now reports */
	END_EXPANDED
};
struct queue_result {
	int64_t row;
	enum rcpt_outcome outcome;
	enum rcpt_end end; /* DELIVERED */
	bool warn;         /* DEFERRED: its delay is told by DSN, or nobody can be told: remembered as `warned` */
	span reply;       /* "550 5.1.1 ..." text kept for people */
	char status[12];  /* enhanced code */
	span remote;      /* host[ip] or empty */
	usec not_before;  /* DEFERRED: 0 = by the schedule's rules */
};
/* Settles all recipients of a lease in one commit; DSN (may be NULL) is accepted in the same commit (Q6).
 * Deferred recipients past their lifetime are turned into failures by the caller beforehand
 * (queue_expired): a bounce needs the text of its failure.  Recipients of the lease that R does not name
 * are released.  The keys of local recipients (route "local" or "local:...") whose rows are gone come out of
 * queue_keys_take().  ERR_NOENT: no such lease; ERR_INVAL: a row that is not the lease's.
 * ERR_FULL, ERR_SYNC, ERR_IO: not committed, but the queue keeps R and DSN and commits them when the disk takes
 * them again (a process that ends before tries the recipients once more); the lease is its own then, and
 * queue_release() leaves it alone. */
int queue_settle(struct queue *q, const struct queue_lease *l, const struct queue_result *r, size_t n, const struct queue_message_in *dsn,
		 struct arena *mem) _must_check_;
void queue_release(struct queue *q, const struct queue_lease *l); /* gives back untried (shutdown) */
/* L must be returned untried: its sender has asked for that by now (RFC 2852, by-mode R). */
bool queue_overdue(const struct queue_lease *l, usec now);
/* Is the deferral R the last?  True if L is overdue, or if R's lifetime is over and every recipient of L was tried at
 * least once before this lease, so that a clock that jumped ahead bounces nothing untried.  Ask after the attempt. */
bool queue_expired(struct queue *q, const struct queue_lease *l, const struct queue_result *r, usec now);
/* When that will be. */
usec queue_retry_until(struct queue *q, const struct queue_lease *l, const struct queue_result *r);
/* The rule that decides about a deferral, or NULL: C's own values do. */
const struct queue_rule *queue_rule_find(const struct queue_conf *c, span reply, span status, int priority);
/* The delay after ATTEMPTS failures, with jitter.  An earlier attempt of another kind counts as one of this. */
usec queue_backoff(const struct queue_conf *c, const struct queue_rule *rule, unsigned attempts, uint64_t random);

/* Delivery keys of rows that are gone (Q4): take up to MAX, drop them in the accounts, then tell.  Each call goes on
 * where the last one ended, so that those that cannot be dropped now do not keep back the others; fewer than MAX: that
 * was the last of the round, and the next call begins anew. */
struct queue_key { unsigned shard; int64_t row; uint8_t key[16]; span address; };
int queue_keys_take(struct queue *q, size_t max, struct arena *mem, struct queue_key **ret, size_t *n);
int queue_key_done(struct queue *q, const struct queue_key *k, size_t n);

/* --- for people --- */
enum queue_state {
	QUEUE_ANY_STATE,
	QUEUE_WAITING,   /* for its next attempt */
	QUEUE_HELD,      /* by the administrator, Q7 */
	QUEUE_DELIVERING /* leased */
};
/* All fields that are set must match; FROM, TO and DOMAIN (of the recipient) without regard to case, REPLY a part of
 * the last answer, without regard to the case of ASCII.  A filter without any of them matches nothing unless ANY is
 * set.  REMOTE: only what goes to other hosts. */
struct queue_filter {
	span id, from, to, domain, reply;
	usec accepted_before; /* wall; 0: any age */
	enum queue_state state;
	bool remote, any;
};
/* Is a field set beside REMOTE and ANY? */
bool queue_filter_set(const struct queue_filter *f);
/* `fixed`: the next attempt is a time that somebody asked for.  `held`: Q7.  `fits`: the filter means this one (what
 * other recipients the message has is listed too).  `rule`: the match of the rule that decides after the last answer,
 * empty if none does; `until`: an attempt that fails after it is the last. */
struct queue_entry {
	struct id id;
	span sender, account_id;
	uint64_t size;
	struct queue_terms terms;
	usec held_until; /* 0: was not held */
	usec accepted_at;
	struct queue_entry_rcpt {
		span address, route, last_reply, status, rule;
		unsigned attempts;
		usec next_attempt, until;
		bool leased, fixed, held, fits;
	} *rcpts;
	size_t n_rcpts;
};
/* Where a listing goes on; all zero at its start.  Ids are not unique: an alias's targets wait under the id too. */
struct queue_cursor { struct id id; unsigned shard; int64_t row; bool more; };
/* Entries that match, at most MAX, oldest first, after AT (NULL: from the start), which moves on; there may be
 * another page, even after an empty one, while AT->more. */
int queue_list(struct queue *q, const struct queue_filter *f, struct queue_cursor *at, size_t max, struct arena *mem, struct queue_entry **ret, size_t *n);

/* Changes by hand count recipients, and leave those alone that are leased at the moment: what a delivery has in its
 * hands, it settles.  A failure leaves the pages (1,000 recipients) before it changed. */
enum queue_change { QUEUE_RETRY, QUEUE_HOLD, QUEUE_RELEASE, QUEUE_REROUTE, QUEUE_BOUNCE, QUEUE_DROP };
/* Narrows F to what C would touch, but for `leased`: with it queue_list() makes the dry run.  False: C touches nothing. */
bool queue_filter_for(struct queue_filter *f, enum queue_change c);
int queue_retry(struct queue *q, const struct queue_filter *f, size_t *ret_count);  /* due now; not what is held */
int queue_hold(struct queue *q, const struct queue_filter *f, size_t *ret_count);   /* Q7 */
int queue_unhold(struct queue *q, const struct queue_filter *f, size_t *ret_count); /* due when it was; expires by its next failure */
/* ROUTE, which the caller has checked, for what goes to other hosts; times stay. */
int queue_reroute(struct queue *q, const struct queue_filter *f, span route, size_t *ret_count);
int queue_drop(struct queue *q, const struct queue_filter *f, size_t *ret_count);   /* without a DSN */
/* Leases all that F means, held or not, whenever due, a message's recipients of one route at a time.  FN settles each
 * lease or releases it; what it returns below 0 ends it all. */
int queue_lease_matching(struct queue *q, const struct queue_filter *f, int (*fn)(void *arg, const struct queue_lease *l), void *arg);

void queue_stats(struct queue *q, uint64_t *ret_messages, uint64_t *ret_rcpts, uint64_t *ret_leased);
/* The wall clock jumped (lab) or time-outs changed: look at the schedule again. */
void queue_clock_changed(struct queue *q);

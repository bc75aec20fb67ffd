/* store: account -> mailbox -> message.  One SQLite database per account plus a folder of blobs.
 *
 * Invariants
 *  S1  A message whose append returned 0 is on disk: row and body in one synced commit, or blob synced,
 *      renamed into place, its directory synced, and then the row (S5).
 *  S2  UIDs of a mailbox strictly rise and are never used twice; UIDVALIDITY of a name never goes down, also
 *      across delete and re-create.
 *  S3  Every visible change (append, flags, expunge) gives the mailbox a higher modseq, in the same commit.
 *  S4  A delivery key is recorded in the commit that appends; a second append with it changes nothing
 *      and answers the first one's UID.
 *  S5  Blobs: write, sync, rename into place, sync the directory, then the row.  Removal the other way
 *      round.  A sweep removes blobs older than a day without a row.
 *  S6  What a commit must cause elsewhere (forward, vacation, DSN) is a row of `outbox` in that commit.
 *  S7  A view is immutable; sessions share it; a session learns of changes by comparing two views.
 *
 * Transitions (function, failpoint)
 *   body received -> blob in place       store_append        store.blob.before_link, store.blob.after_link
 *   appended                             store_append        store.append.before_commit, store.append.after_commit
 *   flags changed                        store_flags         store.flags.after_commit
 *   copied / moved                       store_copy          store.copy.before_commit, store.copy.after_commit
 *   expunged                             store_expunge       store.expunge.before_commit, store.expunge.before_unlink
 *   mailbox made, renamed, removed       store_mailbox_*     store.mailbox.after_commit
 *   delivery key dropped                 store_key_drop      store.key.after_commit
 *   outbox row moved on                  store_outbox_drop   store.outbox.after_commit
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/id.h"

struct imap_uid { uint32_t v; };

struct store;    /* the process's store: cache of account handles, watch table */
struct account;  /* a reference to an open account; cheap to get, not held by parked sessions */

struct store_conf {
	const char *dir;          /* DATA/accounts */
	size_t max_open;          /* account handles kept open */
	size_t inline_max;        /* bodies up to this many bytes live in the database (128 KiB) */
	bool single_connection;
};
int store_open(const struct store_conf *conf, struct store **ret, struct err_info *info);
void store_close(struct store *s);
void store_maintain(struct store *s); /* trims handles, checkpoints, sweeps; maintenance lane */

/* ACCOUNT_ID: 16 lower-case hex characters from the directory.  The folder is DATA/accounts/xx/ID. */
int account_create(struct store *s, span account_id, struct err_info *info); /* with INBOX and the special-use set */
int account_remove(struct store *s, span account_id);
/* ERR_NOENT if its folder has vanished (the caller answers 4.3.0, never success). */
int account_get(struct store *s, span account_id, struct account **ret, struct err_info *info) _must_check_;
void account_put(struct account *a); /* NULL is fine */
DEFINE_CLEANUP(struct account, account_put)
int account_usage(struct account *a, uint64_t *ret_bytes, uint64_t *ret_messages);

/* --- mailboxes.  Names are UTF-8, hierarchy separator '/', "INBOX" in any case is INBOX. --- */
enum { /* special use, RFC 6154 */
	SPECIAL_NONE, SPECIAL_DRAFTS, SPECIAL_SENT, SPECIAL_JUNK, SPECIAL_TRASH, SPECIAL_ARCHIVE, SPECIAL_ALL, SPECIAL_FLAGGED };
struct mailbox_info {
	int64_t id;
	span name;
	int special;
	bool subscribed, selectable, has_children;
	uint32_t uidvalidity, uidnext;
	uint64_t modseq;
	uint32_t messages, unseen, recent_from; /* counts are kept in the row, not counted */
	uint64_t bytes;
};
/* ERR_INVAL: the name is not allowed (empty level, control byte, "..", too long: 1,000 bytes, 32 levels,
 * invalid UTF-8).  ERR_EXIST, ERR_NOENT. */
int store_mailbox_create(struct account *a, span name, int special, int64_t *ret_id);
int store_mailbox_delete(struct account *a, span name);             /* INBOX: ERR_PERM; with children: becomes \Noselect */
int store_mailbox_rename(struct account *a, span from, span to);    /* INBOX: moves its messages (RFC 3501 6.3.5) */
int store_mailbox_subscribe(struct account *a, span name, bool on); /* also names that do not exist */
int store_mailbox_find(struct account *a, span name, struct arena *mem, struct mailbox_info *ret);
int store_mailbox_by_id(struct account *a, int64_t id, struct arena *mem, struct mailbox_info *ret);
/* All mailboxes (and, with SUBSCRIBED_ONLY, names subscribed to) sorted by name; array in MEM. */
int store_mailbox_list(struct account *a, bool subscribed_only, struct arena *mem, struct mailbox_info **ret, size_t *ret_n);

/* --- messages --- */
enum { FLAG_SEEN = 1, FLAG_ANSWERED = 2, FLAG_FLAGGED = 4, FLAG_DELETED = 8, FLAG_DRAFT = 16 };
/* Keywords are numbered per account (0..63 as bits of a second word; ERR_TOOBIG past 64 of them). */
struct store_flags { uint32_t system; uint64_t keywords; };
int store_keyword_bit(struct account *a, span keyword, bool create, unsigned *ret_bit);
int store_keyword_names(struct account *a, struct arena *mem, span *ret64, size_t *ret_n);

struct store_outbox {
	int64_t id;  /* set by store_outbox_list */
	int kind;    /* the caller's: forward, vacation, DSN, ... */
	span data;   /* the caller's encoding */
};
struct store_message { /* what is appended */
	span bytes;           /* the message, CRLF lines; or empty when SPOOL_FD >= 0 */
	int spool_fd;         /* O_TMPFILE that holds it (taken by link), or -1 */
	uint64_t size;
	usec internal_date;   /* wall; 0: now */
	struct store_flags flags;
	uint8_t delivery_key[16]; /* all zero: none (S4) */
	struct id trace;      /* the transaction that brought it */
	bool opaque;          /* poison: do not parse; one opaque part */
	uint64_t quota;       /* ERR_QUOTA if the account holds as many bytes already; 0: none */
	const struct store_outbox *outbox; /* what this delivery causes elsewhere (S6); with a known delivery key: nothing */
	size_t n_outbox;
};
/* Appends to mailbox NAME (created if CREATE and missing).  ERR_NOENT, ERR_FULL, ERR_SYNC, ERR_QUOTA
 * (asked within the commit: what arrives together passes it by one message at most).  Success is
 * durable.  Everything that is parsed (envelope, structure) is prepared before the commit begins. */
int store_append(struct account *a, span mailbox, bool create, const struct store_message *m, struct imap_uid *ret_uid,
		 uint32_t *ret_uidvalidity) _must_check_;
/* Several at once in one commit (MULTIAPPEND, one delivery to several mailboxes). */
int store_append_many(struct account *a, span mailbox, const struct store_message *m, size_t n, struct imap_uid *ret_uids,
		      uint32_t *ret_uidvalidity) _must_check_;
int store_key_drop(struct account *a, const uint8_t key[16]); /* queue row gone for good */

/* --- the outbox (S6): moved to the queue idempotently by (account, id), then dropped.  Ids are never
 * used twice. --- */
/* Up to MAX rows with an id above AFTER, by rising id; array in MEM. */
int store_outbox_list(struct account *a, int64_t after, size_t max, struct arena *mem, struct store_outbox **ret, size_t *ret_n);
int store_outbox_drop(struct account *a, int64_t id);

/* --- views (S7) --- */
struct store_row { uint32_t uid; uint32_t flags; uint64_t keywords; uint64_t modseq; };
struct store_view {
	int64_t mailbox;
	uint32_t uidvalidity, uidnext;
	uint64_t modseq;
	uint32_t n;
	struct store_row rows[]; /* by rising UID; sequence number = index + 1 */
};
/* The current view of a mailbox, shared and reference-counted.  ERR_NOENT if it was deleted. */
int store_view_get(struct account *a, int64_t mailbox, const struct store_view **ret) _must_check_;
const struct store_view *store_view_ref(const struct store_view *v);
void store_view_put(const struct store_view *v);

/* What FETCH needs besides the view's row; loaded per message, spans in MEM. */
struct store_item {
	struct imap_uid uid;
	usec internal_date;
	uint64_t size;
	uint32_t header_size;
	span envelope, body, bodystructure; /* ready IMAP text (format/imapfmt.h) */
	struct id trace;
	int64_t body_id;
};
enum { STORE_WANT_ENVELOPE = 1, STORE_WANT_STRUCTURE = 2 };
int store_item_get(struct account *a, int64_t mailbox, struct imap_uid uid, unsigned want, struct arena *mem, struct store_item *ret);
/* Bytes [from, from + n) of the message into B (clamped to its size).  ERR_NOENT if it is gone. */
int store_body_read(struct account *a, int64_t body_id, uint64_t from, uint64_t n, struct buf *b);

enum store_flag_op { STORE_FLAGS_SET, STORE_FLAGS_ADD, STORE_FLAGS_REMOVE };
/* Changes the flags of UIDS; UNCHANGED_SINCE 0: unconditional (CONDSTORE, RFC 7162).  *RET_MODSEQ is the new one.
 * FAILED (may be NULL; room for n) gets those that were skipped because they changed. */
int store_flags(struct account *a, int64_t mailbox, const struct imap_uid *uids, size_t n, enum store_flag_op op,
		const struct store_flags *f, uint64_t unchanged_since, uint64_t *ret_modseq, struct imap_uid *failed, size_t *ret_failed) _must_check_;
/* Removes those of UIDS that exist (and, with DELETED_ONLY, have \Deleted); n = 0 and uids NULL: all. */
int store_expunge(struct account *a, int64_t mailbox, const struct imap_uid *uids, size_t n, bool deleted_only, size_t *ret_count) _must_check_;
/* COPY or MOVE within an account, one commit; RET_NEW has room for n, in the order of UIDS that existed; RET_OLD too. */
int store_copy(struct account *a, int64_t from, const struct imap_uid *uids, size_t n, int64_t to, bool move,
	       struct imap_uid *ret_old, struct imap_uid *ret_new, size_t *ret_n, uint32_t *ret_uidvalidity) _must_check_;

/* --- search helpers: filters that the database answers; the rest is done by the caller on bodies --- */
int store_text_get(struct account *a, int64_t body_id, struct arena *mem, span *ret_header); /* header bytes */

/* --- watching --- */
/* LOOK is called (any thread; must only post) after each commit that changed the mailbox (or, with
 * mailbox 0, any mailbox of the account).  Register first, then read from the told modseq. */
struct store_watch;
typedef void store_look_fn(void *arg, int64_t mailbox);
struct store_watch *store_watch_add(struct store *s, span account_id, int64_t mailbox, store_look_fn *look, void *arg);
void store_watch_del(struct store_watch *w); /* no call of LOOK is under way afterwards */

/* Checks a whole account: rows, counts, bodies readable, blobs present.  For `check` and for the crash suites.
 * REPORT gets a line per finding; returns the number of findings. */
int store_check(struct account *a, struct buf *report);

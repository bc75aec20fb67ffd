/* IMAP's core half, inside: the session's state and what the command files share.
 *
 * A parked session holds no account handle and no transaction: an account id and a reference to the
 * view it was told.  That view is the meaning of its message numbers; only imap_sync() replaces it.
 */
#pragma once

#include "imap/imap.h"
#include "imap/parse.h"
#include "imap/wire.h"
#include "mail/mail.h"
#include "sasl/sasl.h"

struct imap_fetch;  /* a FETCH under way: fetch.c */
struct imap_append; /* an APPEND whose literal is coming: cmd_append.c */

struct imap_session {
	struct sess *s;
	unsigned state; /* one of IMAP_IN_* */
	bool closing;
	unsigned auth_failures, bads;
	char *tag; /* of the command that waits for more: AUTHENTICATE, IDLE; malloc'd */
	struct sasl *sasl;
	/* authenticated */
	char account_id[ACCOUNT_ID_LEN + 1];
	uint64_t generation;
	usec checked_at; /* monotonic: when the generation was last compared */
	/* selected */
	int64_t mailbox;
	bool readonly;
	const struct store_view *view;
	uint32_t recent_from;
	size_t keywords_told;
	uint64_t quiet_modseq; /* of our own change: its flags were told or are not to be told */
	struct store_watch *watch; /* while idle */
	struct imap_fetch *fetch;
	struct imap_append *append;
};

/* One job's surroundings. */
struct imap_job {
	struct sess *s;
	struct imap_session *st;
	struct core_env *env;
	struct account *account;	/* got at first use, put at the end of the job */
	struct imap_keywords *keywords; /* as loaded for this command, or NULL */
	bool starttls;
	struct buf starttls_reply;
};

/* How a command ends. */
struct imap_answer {
	enum {
		IMAP_OK,
		IMAP_NO,
		IMAP_BAD,
		IMAP_LATER
	} kind;		  /* LATER: the tagged answer comes from another job */
	const char *text; /* with response code; literal or in the job's arena */
};
static inline struct imap_answer imap_ok(const char *text)
{
	return (struct imap_answer){ IMAP_OK, text };
}
static inline struct imap_answer imap_no(const char *text)
{
	return (struct imap_answer){ IMAP_NO, text };
}
static inline struct imap_answer imap_bad(const char *text)
{
	return (struct imap_answer){ IMAP_BAD, text };
}
static inline struct imap_answer imap_later(void)
{
	return (struct imap_answer){ IMAP_LATER, NULL };
}
struct imap_answer imap_error(int err); /* NO with the response code of a store error */

typedef struct imap_answer imap_fn(struct imap_job *j, struct imap_args *a);
imap_fn imap_cmd_capability, imap_cmd_noop, imap_cmd_logout, imap_cmd_id, imap_cmd_starttls,
	imap_cmd_login, imap_cmd_authenticate, imap_cmd_enable, imap_cmd_select, imap_cmd_create,
	imap_cmd_delete, imap_cmd_rename, imap_cmd_subscribe, imap_cmd_list, imap_cmd_status,
	imap_cmd_append, imap_cmd_namespace, imap_cmd_idle, imap_cmd_check, imap_cmd_close,
	imap_cmd_unselect, imap_cmd_expunge, imap_cmd_search, imap_cmd_fetch, imap_cmd_store,
	imap_cmd_copy;

/* --- session.c --- */
int imap_account(struct imap_job *j, struct account **ret); /* the handle belongs to the job */
void imap_tagged(struct imap_job *j, const char *tag, const struct imap_answer *a);
void imap_bye(struct imap_job *j, const char *text); /* says so and closes at the end of the job */
void imap_set_tag(struct imap_session *st, span tag);
/* Ends a command: what changed, then the tagged line.  HOLD: no EXPUNGE now. */
void imap_finish(struct imap_job *j, const char *tag, const struct imap_answer *a, bool hold);
void imap_deselect(struct imap_session *st);

/* --- cmd_auth.c, cmd_idle.c, cmd_append.c: lines and bytes that are no commands --- */
void imap_auth_line(struct imap_job *j, span line);
void imap_auth_resume(struct imap_job *j); /* after sess_wait() */
void imap_idle_line(struct imap_job *j, span line);
void imap_idle_stop(struct imap_session *st);
void imap_append_body(struct imap_job *j, const struct sess_in *in);
void imap_append_line(struct imap_job *j, span line);
void imap_append_free(struct imap_append *a); /* NULL is fine */
uint64_t imap_append_size(const struct imap_append *a);

/* --- fetch.c --- */
void imap_fetch_run(
	struct imap_job *j); /* until it is done (then answers) or the output must drain */
void imap_fetch_free(struct imap_fetch *f);

/* --- sync.c --- */
/* Tells what changed since the told view and moves on to the current one.  With HOLD and something
 * expunged nothing is told: message numbers must stay. */
void imap_sync(struct imap_job *j, bool hold);
/* "(\Seen $Junk)" of a row. */
struct imap_keywords {
	span name[64];
	size_t n;
};
int imap_keywords_load(struct imap_job *j, struct imap_keywords *ret); /* once for each command */
void imap_flags_put(struct buf *b, const struct store_row *r, const struct imap_keywords *k,
		    bool recent);
bool imap_is_recent(const struct imap_session *st, uint32_t uid);
void imap_flags_announce(struct imap_job *j,
			 const struct imap_keywords *k); /* FLAGS and PERMANENTFLAGS */
/* FLAGS as the store wants them; ERR_TOOBIG: too many keywords. */
int imap_flags_resolve(struct account *a, const struct imap_flags *f, bool create,
		       struct store_flags *ret);

/* --- rows.c: sets against the told view --- */
struct imap_rows { /* index ranges [from, to) into the view, rising */
	struct imap_row_range {
		uint32_t from, to;
	} * r;
	size_t n;
};
/* ERR_INVAL: a message number beyond the mailbox. */
int imap_rows_of(const struct store_view *v, const struct imap_set *set, bool uid,
		 struct arena *mem, struct imap_rows *ret);
size_t imap_rows_uids(const struct store_view *v, const struct imap_rows *rows, struct arena *mem,
		      struct imap_uid **ret);
/* Index of UID in V, or of the first greater one (then *RET_FOUND is false). */
uint32_t imap_view_find(const struct store_view *v, uint32_t uid, bool *ret_found);

/* --- section.c --- */
struct imap_bytes { /* what a section stands for */
	bool nil;
	bool stored; /* bytes [from, from + n) of the message; else TEXT */
	uint64_t from, n;
	span text;
};
/* All sections of A for one message, in the order of items; results in MEM.  Parses the message at
 * most once, and only for part numbers. */
int imap_sections(struct imap_job *j, struct account *acc, const struct store_item *it,
		  const struct imap_fetch_args *a, struct arena *mem, struct imap_bytes *ret);
/* The tree of a stored message, poison-aware: NULL where it must not be parsed.  *RET_SLOT is left
 * by the caller (imap_message_done) after the last use. */
struct imap_message {
	struct buf bytes;
	struct mime_part *root;
	int slot;
};
int imap_message_open(struct imap_job *j, struct account *acc, const struct store_item *it,
		      struct arena *mem, struct imap_message *ret);
void imap_message_done(struct imap_job *j, struct imap_message *m);

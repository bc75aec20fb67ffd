/* Inside of store/: the account's state, rows of the schema, helpers that run within a transaction.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/failpoint.h"
#include "base/map.h"
#include "db/db.h"
#include "store/store.h"

#define ACCOUNT_ID_LEN	     16
#define NAME_MAX_BYTES	     1000
#define NAME_MAX_LEVELS	     32
#define KEYWORD_MAX	     64
#define WAL_CHECKPOINT_PAGES 1000

extern const struct db_schema store_schema;

struct store {
	char *dir;
	size_t inline_max;
	unsigned db_flags;
	struct db_cache *cache;
	struct watch_table *watches;
};

/* State of an open handle; a reference is a reference to its db_cache entry. */
struct account {
	struct store *s;
	struct db *db;
	char id[ACCOUNT_ID_LEN + 1];
	char *dir;
	_Atomic int64_t last_body; /* highest body id given out */
	_Atomic usec next_repair;  /* monotonic: not before, after a repair failed */
	_Atomic usec next_sweep;

	pthread_mutex_t mu;
	struct idmap *views; /* mailbox -> struct view_box; under mu */
};

/* --- mailbox rows within a transaction (mailbox.c) --- */
struct mbox {
	int64_t id;
	bool selectable;
	uint32_t uidvalidity, uidnext;
	uint64_t modseq;
	int64_t messages, unseen, bytes;
};
int mbox_load(struct db_tx *tx, int64_t id, struct mbox *ret);
int mbox_load_name(struct db_tx *tx, span name, struct mbox *ret);
int mbox_save(struct db_tx *tx, const struct mbox *m); /* uidnext, modseq and counters */
/* Makes NAME and what is missing above it; ERR_EXIST if it is there and selectable. */
int mbox_make(struct db_tx *tx, span name, int special, int64_t *ret_id);
int mbox_make_parents(struct db_tx *tx, span name);
int mbox_next_uidvalidity(struct db_tx *tx, uint32_t *ret);
/* NAME with INBOX in capitals, in MEM; ERR_INVAL if it is not allowed. */
int name_canonical(span name, struct arena *mem, span *ret);

/* --- messages and bodies within a transaction (expunge.c, body.c) --- */

/* Blobs whose row goes away with the commit; removed after it.  Reset at the start of a write
 * function (which may run twice). */
struct blob_list {
	int64_t *ids;
	size_t n, cap;
};
void blob_list_add(struct blob_list *l, int64_t body);
void blob_list_done(struct blob_list *l); /* frees */
void blob_list_unlink(struct account *a, struct blob_list *l);

struct message_row {
	uint32_t uid, flags;
	uint64_t keywords, modseq, size;
	usec internal_date;
	int64_t body;
};
/* 1 found, 0 not. */
int message_load(struct db_tx *tx, int64_t mbox, uint32_t uid, struct message_row *ret);
/* Inserts R into M: takes the next UID (into R->uid) and M's modseq, which the caller raised. */
int message_insert(struct db_tx *tx, struct mbox *m, struct message_row *r);
/* Deletes R from M and remembers it as expunged at M's modseq; its body stays. */
int message_delete(struct db_tx *tx, struct mbox *m, const struct message_row *r);
/* Deletes all messages of M with their bodies. */
int message_delete_all(struct db_tx *tx, struct mbox *m, bool deleted_only, struct blob_list *gone,
		       size_t *ret_n);

int body_ref(struct db_tx *tx, int64_t body);
int body_unref(struct db_tx *tx, int64_t body, struct blob_list *gone);
int64_t body_new_id(struct account *a);
char *body_blob_path(const struct account *a, int64_t body); /* the caller frees */
int body_sweep(struct account *a); /* S5: removes old blobs without a row */

/* --- views (view.c) --- */
void view_forget(struct account *a, int64_t mailbox);
void views_free(struct account *a);

/* --- watches (watch.c) --- */
struct watch_table *watch_table_new(void);
void watch_table_free(struct watch_table *t);
void watch_notify(struct account *a, int64_t mailbox);

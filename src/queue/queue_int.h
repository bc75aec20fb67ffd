/* Inside the queue room.
 *
 * Memory holds only what finds the next delivery: per waiting (message, route, due time) one
 * `group` with its recipients' row numbers, in the heap of those due later, or in two (all that is
 * due; of that its route's).
 * Everything else is read from the shard when a group is leased.  One mutex guards it all; it is
 * never held while a database or a file is touched. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "db/db.h"
#include "queue/queue.h"

enum { SHARDS_MAX = 64, BLOB_NAME = 24 };
/* Columns of the schema: message.flags, recipient.state. */
enum {
	FLAG_SMTPUTF8 = 1,
	FLAG_8BIT = 2,
	FLAG_DSN = 4,
	FLAG_RET_FULL = 8,
	FLAG_RET_HDRS = 16,
	FLAG_REQUIRE_TLS = 32,
	FLAG_BY_RETURN = 64,
	FLAG_BY_TRACE = 128
};
enum { STATE_WAITING, STATE_DONE, STATE_FAILED };

/* Row numbers are given out from memory, so that none is used twice while a lease may still name
 * it. */
struct shard {
	unsigned no;
	struct db *db;
	_Atomic int64_t last_message, last_rcpt;
	_Atomic int64_t n_keys; /* rows of gone_key */
	_Atomic usec heal_at;	/* wall: when a poisoned database is next reopened through a copy */
};

/* Results whose commit failed.  What a remote host has answered cannot be asked again without a
 * second copy, so they are kept, with the lease, and committed as soon as the disk takes them. */
struct unsettled {
	struct unsettled *next;
	struct arena mem; /* of all that follows */
	struct queue_lease l;
	struct queue_result *r;
	size_t n;
	struct queue_message_in dsn;
	bool has_dsn;
};

struct group;
struct heap {
	struct group **v;
	uint32_t n, cap;
	uint8_t which; /* index of group.at that is this heap's */
	bool (*before)(const struct group *a, const struct group *b);
};
enum { HEAP_ALL, HEAP_ROUTE };
#define SET_ASIDE UINT32_MAX

struct route {
	span text; /* owned */
	struct heap ready; /* its groups that are due */
	uint32_t refs;	   /* groups, leased ones too */
	bool held;	   /* groups that come up are set aside: they wait in this heap only */
};

struct message {
	struct id id;
	int64_t row;
	unsigned shard;
	struct group *groups; /* waiting and leased */
};

struct group {
	struct message *m;
	struct route *route;
	struct group *next; /* of the message */
	usec due;	    /* wall */
	uint64_t lease;	    /* 0: waits, in queue.later, or in queue.ready and its route's */
	uint32_t at[2];	    /* [HEAP_ALL] is SET_ASIDE while its route is held */
	uint32_t n;
	int8_t priority; /* the message's */
	bool ready;
	bool kept;  /* leased, and its results are in queue.unsettled */
	bool fixed; /* due was asked for by the caller, not made by the schedule */
	bool held;  /* by the administrator: waits in no heap */
	int64_t rows[];
};

struct queue {
	struct queue_conf conf; /* lock */
	struct arena rules_mem; /* of conf.rules */
	char *dir, *blobs;
	struct shard shard[SHARDS_MAX];
	unsigned n_shards;

	struct loading *loading; /* load.c */
	unsigned unread;	 /* lock: shards that are being read */
	pthread_cond_t read;	 /* one less */
	atomic_bool closing;

	pthread_mutex_t lock;
	struct heap later; /* by the time they are due */
	struct heap ready; /* due, by rank */
	struct idmap *messages; /* message_name() */
	struct map *routes;
	struct idmap *leases; /* lease id -> group */
	uint64_t last_lease, n_rcpts, n_leased;
	struct unsettled *unsettled;
	usec settle_at; /* wall: when their next commit is tried */
	struct key_place {
		unsigned shard;
		int64_t row;
	} keys_at; /* behind what queue_keys_take gave last */

	/* What queue_lease told last: somebody will look at the schedule at `told` (0: never). */
	bool armed;
	usec told;
	void (*on_due)(void *arg);
	void *on_due_arg;
	usec wall_minus_mono; /* to see that the wall clock jumped */
};

extern const struct db_schema queue_schema;
/* What a sick disk is given before it is tried again. */
#define SICK_DELAY (60 * USEC_SEC)
/* --- load.c: opens all shards, and fills the schedule from them --- */
int load_begin(struct queue *q, struct err_info *info);
/* Until all is read, or for LIMIT (0: however long it takes). */
void load_await(struct queue *q, usec limit);
void load_end(struct queue *q);
static inline uint64_t message_name(unsigned shard, int64_t row)
{
	return (uint64_t)row << 6 | shard;
}

/* ERR_SYNC while S is poisoned; once a SICK_DELAY it is reopened through a copy. */
int shard_healthy(struct shard *s);

/* --- schedule.c: the lock is held --- */
void schedule_init(struct queue *q);
struct waiting {
	unsigned shard;
	int64_t message;
	const struct id *id;
	span route;
	usec due;
	int8_t priority;
	bool fixed, held;
	const int64_t *rows;
	size_t n;
};
/* A waiting group of a message that may be new to memory. */
struct group *schedule_add(struct queue *q, const struct waiting *w);
/* The first of those that are due and whose route is not held, or NULL: then *RET_NEXT is when the
 * next one will be due, 0 for never.  A time that comes for many at once makes them ready over
 * several calls. */
struct group *schedule_first(struct queue *q, usec now, usec *ret_next);
/* The first that is due of ROUTE, or NULL. */
struct group *schedule_first_of(struct queue *q, span route, usec now);
void schedule_resume(struct queue *q, struct route *r);
void schedule_lease(struct queue *q, struct group *g);
void schedule_unlease(struct queue *q, struct group *g, usec due);
/* Takes ROW out of a waiting group; an empty group goes. */
void schedule_take_row(struct queue *q, struct group *g, int64_t row);
void schedule_remove(struct queue *q, struct group *g);
struct group *schedule_find(struct queue *q, unsigned shard, int64_t message, int64_t row);
/* The furthest that the schedule itself may put an attempt ahead. */
usec schedule_latest(const struct queue *q, usec now);
void schedule_clamp(struct queue *q, usec now);
void schedule_free(struct queue *q);
/* Unlocks, then calls the hook if something became due before the time that was told. */
void schedule_unlock(struct queue *q);

/* --- retry.c: pure, but for the last --- */
/* The time of RCPT's next attempt after the deferral R. */
usec retry_at(const struct queue_conf *c, const struct queue_terms *terms,
	      const struct queue_rcpt *rcpt, const struct queue_result *r, usec now,
	      uint64_t random);
/* The longest delay any rule can give. */
usec retry_longest(const struct queue_conf *c);
/* After that time a deferral with this answer is the last; the lifetime counts from FROM. */
usec retry_ends(const struct queue_conf *c, usec from, const struct queue_terms *terms, span reply,
		span status);
/* Copies C with its rules into Q; the lock is held, or nobody else knows Q yet. */
void retry_take_conf(struct queue *q, const struct queue_conf *c);

/* --- lease.c --- */
/* Of message.flags and the columns deliver_by, priority of the row that S stands on. */
struct queue_terms terms_read(struct db_stmt *s, int64_t flags, int deliver_by, int priority);
/* Reads into MEM what the leased group G stands for; the lock is held, but not meanwhile.  1: *RET;
 * 0: nothing is there, and G is gone; or an error, and G waits again. */
int lease_read(struct queue *q, struct group *g, struct arena *mem, struct queue_lease *ret);

/* --- list.c: filters in SQL, over message m and recipient r --- */
/* Parameters 1..8 of a statement, bound by FILTER_TYPES and FILTER_VALUES(). */
#define MATCH_MESSAGE                                                           \
	"(?1 = x'' OR m.id = ?1) AND (?2 = '' OR m.sender = ?2 COLLATE NOCASE)" \
	" AND (?3 = 0 OR m.accepted_at < ?3)"
#define MATCH_RCPT                                                                        \
	"(?4 = '' OR r.address = ?4 COLLATE NOCASE)"                                      \
	" AND (?5 = '' OR substr(r.address, -1 - length(?5)) = '@' || ?5 COLLATE NOCASE)" \
	" AND (?6 = '' OR instr(lower(r.reply), lower(?6)) > 0)"                          \
	" AND (?7 < 0 OR r.held = ?7)"                                                    \
	" AND (?8 = 0 OR (r.route NOT IN ('local', 'expanded')"                           \
	" AND substr(r.route, 1, 6) <> 'local:'))"
#define FILTER_TYPES "bsisssii"
#define FILTER_VALUES(f) \
	(f)->id, (f)->from, (f)->before, (f)->to, (f)->domain, (f)->reply, (f)->held, (f)->remote
struct filter {
	span id, from, to, domain, reply;
	usec before;	      /* 0: any age */
	int64_t held, remote; /* held: -1 for both */
	struct id id_bytes;
};
/* False: F can match nothing.  *RET must not move. */
bool filter_prepare(const struct queue_filter *f, struct filter *ret);

/* --- accept.c: one message on its way into a shard --- */
struct insert {
	const struct queue_message_in *m;
	struct shard *s;
	int64_t row, first_rcpt;
	usec at;
	uint64_t size;
	char blob[BLOB_NAME]; /* empty: the body is inline */
	span body;
	uint8_t (*keys)[16];
	uint32_t *order; /* recipients by route and time */
};
/* Puts a large body in place.  M and MEM live until the end. */
int insert_prepare(struct queue *q, struct shard *s, const struct queue_message_in *m,
		   struct arena *mem, struct insert *ret);
int insert_write(struct db_tx *tx, const struct insert *in);
void insert_schedule(struct queue *q,
		     const struct insert *in); /* after the commit; the lock is held */
void insert_abandon(struct queue *q, const struct insert *in, int err);

/* --- settle.c --- */
/* Within a write: if nothing of MESSAGE waits any more its rows go, their keys are listed (Q4), and
 * *RET_BLOB (BLOB_NAME bytes) names the file to remove.  1: it left. */
int message_leave(struct db_tx *tx, int64_t message, char *ret_blob, int64_t *ret_keys);

/* Tries the oldest commit that failed before; the lock is not held. */
void settle_again(struct queue *q);
void unsettled_free(struct unsettled *u);

/* --- body.c --- */
char *blob_path(const struct queue *q, const char *name); /* the caller frees */
void blob_remove(struct queue *q, const char *name);

/* Inside guard/. */
#pragma once

#include <pthread.h>
#include <sys/queue.h>

#include "base/bucket.h"
#include "db/db.h"
#include "guard/guard.h"

/* One network's bans. */
struct banned {
	struct net net;
	TAILQ_ENTRY(banned) by_age;
	struct ban {
		usec since, until; /* wall; until 0: none, INT64_MAX: for ever */
		bool by_hand;
		char *reason; /* owned */
	} ban[SESS_PROTO_COUNT];
};

enum { GUESS_SETS = 16384, GUESS_WAYS = 4 };

struct guard {
	pthread_mutex_t lock; /* of all but DB */
	struct bucket_table *buckets;
	uint64_t guess[GUESS_SETS][GUESS_WAYS]; /* wrong passwords that were counted; 0: none */
	uint8_t next_way;

	pthread_mutex_t change; /* taken before LOCK, and held over the commit */
	struct db *db;
	guard_tell_fn *tell;
	void *arg;
	struct net_map *bans;
	TAILQ_HEAD(banned_list, banned) by_age; /* oldest first */
};

int guard_bans_open(struct guard *g, const char *path, struct err_info *info);
void guard_bans_close(struct guard *g);
bool guard_is_banned(struct guard *g, enum sess_proto proto, const struct sockaddr_any *peer);
/* G4: for automatic ones.  The bits of PROTOS, for D. */
void guard_ban_now(struct guard *g, const struct net *net, enum sess_proto proto, usec d,
		   const char *reason);

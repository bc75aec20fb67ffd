/* Inside front: who may come (front_limits.c), and how much all sessions may hold (front_memory.c). */
#pragma once

#include <pthread.h>

#include "base/bucket.h"
#include "base/map.h"
#include "conf/conf.h"
#include "sys/session.h"

struct front;
struct conn;

/* Places, rates and bans, by address (IPv6: by /64) and by network (/24, /48); of programs of this machine
 * only places, by user.  Any thread. */
struct front_limits {
	pthread_mutex_t lock;
	struct map *by_peer; /* host, network or user -> connections */
	size_t total, room; /* the process cannot hold more than ROOM */
	usec busy_until;    /* core cannot keep up: nobody new before */
	struct bucket_table *buckets;
	struct net_map *bans;
};
#define FRONT_WELCOME SESS_WHY_EOF /* 0: nothing speaks against it */
void front_limits_init(struct front_limits *l);
void front_limits_done(struct front_limits *l);
/* One more connection of anybody: FRONT_WELCOME and a place is taken, or SESS_WHY_LOAD. */
enum sess_why front_limits_place(struct front_limits *l, const struct conf *conf);
void front_limits_leave(struct front_limits *l); /* gives the place back */
/* One more connection of PEER.  *RET_LIMITED: it was counted, and front_limits_peer_gone() is due. */
enum sess_why front_limits_peer(struct front_limits *l, const struct conf *conf,
				enum sess_proto proto, const struct sockaddr_any *peer,
				bool *ret_limited);
void front_limits_peer_gone(struct front_limits *l, const struct sockaddr_any *peer);
void front_limits_ban(struct front_limits *l, const struct sess_ban *told);
void front_limits_busy(struct front_limits *l, usec for_how_long);
/* Counts a refusal for core, and logs it now and then. */
void front_note_refusal(struct front *f, const char *proto, const struct sockaddr_any *peer,
			enum sess_why why);

void front_memory_count(struct conn *c, size_t held); /* C holds so much now */
bool front_memory_short(struct front *f);	      /* nobody new should come; any thread */
size_t front_memory_share(const struct front *f);     /* of one loop */

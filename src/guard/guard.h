/* guard: core's half of the front defence: how much one address may send, whose logins fail, and who
 * is banned.  (Front counts connections, role/front_limits.h; it hears of bans by SESS_BAN.)
 *
 * Invariants
 *  G1  A network of limits.trusted is never limited, slowed down or banned automatically.
 *  G2  What is counted lives in fixed memory (base/bucket.h); losing a place in it forgives nothing.
 *  G3  The same wrong password for the same name counts once: a phone with an old password is no
 *      attacker.  Passwords are compared by a keyed 64-bit hash only.
 *  G4  A ban is on disk before anybody is told that it was made by hand; one that was made by itself
 *      holds at once, even if the disk does not take it.
 *  G5  There are at most guard_max_bans banned networks.  For more, the oldest that was made by
 *      itself gives way, never one that was made by hand.
 *
 * All of it from any thread.  A NULL guard lets everybody do everything (unit tests of others). */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "conf/conf.h"
#include "sys/session.h"


struct guard;
/* TELL gets each change of a network's bans, for all fronts; on the thread that made it. */
typedef void guard_tell_fn(void *arg, const struct sess_ban *ban);
int guard_open(const char *path, guard_tell_fn *tell, void *arg, struct guard **ret,
	       struct err_info *info);
void guard_close(struct guard *g); /* NULL is fine */
extern size_t guard_max_bans; /* 20,000; tests set it lower, before the first ban */
/* What has ended goes; from the maintenance lane, every few seconds. */
void guard_maintain(struct guard *g);

/* --- how much, and how often --- */
enum guard_limit {
	GUARD_MESSAGES,	  /* a minute */
	GUARD_RECIPIENTS, /* a minute */
	GUARD_UNKNOWN,	  /* recipients that do not exist, an hour */
	GUARD_LIMITS
};
/* One more of WHAT by PEER: true if that is within its limits. */
bool guard_take(struct guard *g, const struct conf *conf, enum guard_limit what,
		const struct sockaddr_any *peer);
/* S has made an error: its answer, and each further one, is held back for longer. */
void guard_error(struct guard *g, const struct conf *conf, struct sess *s);

/* --- logins --- */
/* Names a guess, for guard_login_failed(); never 0. */
uint64_t guard_guess(span login, span password);
/* May S try to log in?  False: it is banned (front turns new sessions away, this one was here). */
bool guard_may_log_in(struct guard *g, const struct sess *s);
/* A login of S failed by GUESS; 0: the mechanism does not show the password (SCRAM), each counts.
 * Holds the answer.  True: its network is banned now; say goodbye. */
bool guard_login_failed(struct guard *g, const struct conf *conf, struct sess *s, uint64_t guess);

/* --- bans --- */
/* The name of a protocol in bans, and back; NULL, or SESS_PROTO_COUNT: there is none. */
const char *guard_proto_name(enum sess_proto p);
enum sess_proto guard_proto_find(span name);
#define GUARD_ALL (((1u << SESS_PROTO_COUNT) - 1) & ~(1u << SESS_PROTO_LOCAL)) /* programs of this machine have no address */

struct guard_ban {
	struct net net;
	unsigned protos;   /* bits 1 << enum sess_proto */
	usec since, until; /* wall; until 0: for ever */
	bool by_hand;
	span reason;
};
/* Bans for B->protos by hand; what the network had for them before is replaced.  ERR_FULL and INFO if
 * there are too many. */
int guard_ban_add(struct guard *g, const struct guard_ban *b, struct err_info *info);
/* Lifts the bans of exactly this network for PROTOS; ERR_NOENT if it has none of them. */
int guard_ban_remove(struct guard *g, const struct net *net, unsigned protos);
/* All that hold now, in MEM; protocols that share everything else are one. */
void guard_bans(struct guard *g, struct arena *mem, struct guard_ban **ret, size_t *ret_n);
/* Tells one new front all of them. */
void guard_tell_all(struct guard *g, guard_tell_fn *tell, void *arg);

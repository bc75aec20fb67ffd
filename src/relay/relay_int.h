/* Inside relay/: deliveries, connections, destinations.
 *
 * A delivery is one lease.  It is owned by the loop's thread or by exactly one job; d->job carries
 * it over and loop_post() brings it back.  A remote delivery that is at work has a connection
 * (which is also the slot it takes at its destination), in the states
 *
 *     [FETCHING (job) ->] RESOLVING -> OPENING -> PREPARING (job) -> SENDING -> SETTLING (job) -> IDLE | gone
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/map.h"
#include "dns/dns.h"
#include "relay/relay.h"
#include "relay/wire.h"

enum {
	RELAY_SPARE_LEASES = 1000, /* held at once beside one for each connection */
	RELAY_LEASE_BATCH = 32,
	RELAY_HOSTS_MAX = 20,	 /* MX hosts looked at */
	RELAY_ADDRESSES_MAX = 4, /* of one host */
	RELAY_TRIES_MAX = 8,	 /* addresses tried in one delivery */
	RELAY_SERVED_MAX = 100,	 /* messages on one connection */
	RELAY_SWEEP = 100,	 /* messages deferred with one that failed */
	RELAY_GROUP_KEYS = 2,
};
#define RELAY_IDLE (5 * USEC_SEC)
/* Ids of questions and connections, apart from those other rooms of core give to `out`. */
#define RELAY_ID_BASE (UINT64_C(1) << 63)

/* Why a delivery cannot go on; a failure if STATUS begins with 5. */
struct relay_reason {
	const char *status; /* literal */
	span text;
};

/* --- hosts.c: from a route to addresses.  Pure. --- */
/* A route under the present configuration. */
struct relay_way {
	struct conf_nexthop hop;
	span name;	  /* the domain, or the host */
	bool has_address; /* the host is an address */
	struct sockaddr_any address;
	uint16_t port;
	enum relay_tls tls;
	bool implicit_tls, lmtp;
};
/* Results in MEM.  False: REASON says why there is no way. */
bool relay_way_find(const struct conf *c, span route, struct arena *mem, struct relay_way *ret,
		    struct relay_reason *reason);

struct relay_host {
	span name;
	uint16_t preference;
};
struct relay_target {
	struct sockaddr_any to; /* with port */
	span host;
};
/* The hosts of an MX answer in the order to try (RFC 5321 5.1).  1: found; 0: look for the domain's
 * own addresses; ERR_*: REASON says why (ERR_INVAL: it would come back to us).  SELF is our name.  The order among equals comes from
 * RANDOM. */
int relay_hosts_choose(const struct dns_answer *mx, span self, uint64_t random, struct arena *mem,
		       struct relay_host **ret, size_t *ret_n, struct relay_reason *reason);
/* The address itself, where the way has one. */
struct relay_target *relay_target_of(const struct relay_way *w, struct arena *mem);
/* The addresses of hosts: A holds, in the hosts' order, their answers (A, or A and AAAA). */
int relay_targets_choose(const struct dns_answer *a, size_t n, uint16_t port, bool from_mx,
			 struct arena *mem, struct relay_target **ret, size_t *ret_n,
			 struct relay_reason *reason);
/* The names under which targets of the same provider are found: the hosts of the best preference, and their addresses
 * (each with the port).  HOSTS may be NULL; there is a target.  Results in MEM. */
size_t relay_group_keys(const struct relay_host *hosts, size_t n_hosts, const struct relay_target *t,
			size_t n, struct arena *mem, span ret[RELAY_GROUP_KEYS]);

/* --- verdict.c: from replies to results.  Pure. --- */
void relay_verdict(const struct relay_sent *s, size_t i, struct arena *mem,
		   struct queue_result *ret);
/* Did the peer say 421? */
bool relay_sent_away(const struct relay_sent *s);
/* The status of a connection that failed. */
const char *relay_fail_status(enum relay_fail f);
span relay_reply_text(const struct smtp_reply *r,
		      struct arena *mem); /* "550 5.1.1 text", one line */

/* --- plan.c: who goes together, and to which peers.  Pure. --- */
/* Puts recipients that need SMTPUTF8 behind the others. */
void relay_sort_rcpts(struct queue_lease *l, struct arena *mem);
/* One transaction: the recipients [from, from + n) of LEASE to PEER, at NOW (wall). */
struct relay_part {
	const struct relay_opened *peer;
	const struct queue_lease *lease;
	size_t from, n;
	usec now;
};
/* The longest part from FROM on (there is a recipient) that PEER takes at once: its limits, and no ASCII recipient
 * beside one that needs SMTPUTF8. */
struct relay_part relay_part_of(const struct relay_opened *peer, const struct queue_lease *l,
				size_t from, usec now);
/* Only over verified TLS to a peer that offers REQUIRETLS?  (RFC 8689 4.2.1; reports are not held to it) */
bool relay_must_protect(const struct queue_lease *l);
/* Can P go to its peer?  False: REASON says why not; with *RET_OTHER another host of the destination may do. */
bool relay_suits(const struct relay_part *p, struct relay_reason *reason, bool *ret_other);
/* The parameters of P's MAIL; recipients and body are the caller's. */
void relay_fill_send(const struct relay_part *p, struct relay_send *s);

/* --- state --- */
enum conn_state {
	CONN_FETCHING,
	CONN_RESOLVING,
	CONN_OPENING,
	CONN_PREPARING,
	CONN_SENDING,
	CONN_SETTLING,
	CONN_IDLE
};

struct group; /* relay/flow_int.h */
TAILQ_HEAD(conn_list, conn);
TAILQ_HEAD(destination_list, destination);
TAILQ_HEAD(group_list, group);
enum group_kind { GROUP_PROVEN, GROUP_UNKNOWN, GROUP_SUSPECT, GROUP_KINDS };

struct destination {
	struct relay *relay;
	span route;	     /* owned */
	struct group *group; /* NULL: where it leads is not known */
	unsigned open;	     /* connections, those that only look for names too */
	bool held;	     /* at the queue; with a group: in the group's ring */
	usec unused_at;	     /* monotonic */
	TAILQ_ENTRY(destination) ring;	 /* of its group, while held */
	TAILQ_ENTRY(destination) unused; /* nothing to do */
};

struct conn {
	struct relay *relay;
	uint64_t id;
	struct destination *dest;
	struct delivery *delivery; /* NULL: IDLE */
	enum conn_state state;
	struct group *slot; /* whose slot it has */
	usec begun;	    /* monotonic: when it was last asked to open */
	bool open; /* `out` has a connection of this id that can be used */
	struct relay_opened peer; /* what it offers; its spans are empty */
	span remote; /* "host[ip]", owned */
	span tls;    /* "TLSv1.3 TLS_...", owned; empty in clear */
	unsigned served;
	struct loop_timer idle_timer;
	TAILQ_ENTRY(conn) of_group; /* IDLE */
	TAILQ_ENTRY(conn) of_flow;  /* IDLE or OPENING */
};

struct delivery {
	struct relay *relay;
	struct job job;
	struct arena mem;
	struct event_list events;
	struct queue_lease lease;
	struct queue_result *results; /* one for each recipient of the lease */
	struct conn *conn;	      /* remote and at work */
	struct relay_way way;
	struct relay_host *hosts; /* NULL: the domain itself */
	size_t n_hosts;
	bool asked_mx; /* the question under way is for MX */
	struct relay_target *targets;
	size_t n_targets, at;
	bool verp;		  /* each recipient has a reverse-path of its own */
	bool tried;		  /* LAST is about a target */
	bool brought_home;	  /* what looped_job() found */
	bool in_clear;		  /* TLS failed with this target: once more without */
	struct relay_reason last; /* why the last target did not do */
	size_t rcpt_from, rcpt_n; /* of the transaction under way */
	struct buf payload;	  /* RELAY_SEND, made by a job */
	int body_fd;
	int prepared;		     /* 0 or why not */
	struct relay_reason unfit;   /* of prepared ERR_UNSUPPORTED */
	bool sweep;		     /* the settle job shall defer what waits for the same destination */
	bool want_next;		     /* it shall lease another one for the connection */
	struct delivery *next_lease; /* what it got */
	bool route_empty;	     /* nothing more waits for the destination */
	struct delivery *prev, *next; /* all of them, under relay->lock */
	struct delivery *queue_next;  /* in a batch or in the backlog */
};

struct flow {
	struct map *groups;	  /* by key */
	unsigned open, of_kind[GROUP_KINDS]; /* slots taken */
	unsigned n_busy;	  /* groups that have any */
	struct group_list wanting[GROUP_KINDS];
	unsigned turn; /* whose ring is next */
	struct conn_list idle, opening; /* the longest so first */
	struct destination_list unused; /* likewise */
	unsigned n_unused;
	struct loop_timer wake;
};

struct relay {
	struct core_env *env;
	struct loop *loop;
	struct channel *out;
	struct map *destinations;
	struct flow flow;
	struct idmap *conns;
	uint64_t last_id;
	unsigned under_way;
	bool stopping, leasing, again;
	bool starved; /* a look was refused for want of room */
	struct job lease_job;
	struct delivery *batch; /* of the lease job */
	size_t batch_max, batch_n;
	int lease_result;
	usec lease_next;
	struct loop_timer due, retry;
	struct delivery *backlog; /* jobs the pool did not take */
	atomic_bool kicked;	  /* a look is posted already */
	atomic_bool by_hand;	  /* it shall not wait for what is cooled down */
	pthread_mutex_t lock;
	struct delivery *all;
};

/* relay.c */
struct delivery *delivery_new(struct relay *r);
void delivery_free(struct delivery *d);
void delivery_over(struct delivery *d); /* settled or given back: frees, and looks for more */
void relay_post_job(struct delivery *d, void (*fn)(struct job *));
void relay_look(struct relay *r);
/* Is there room for another lease? */
bool relay_may_lease(struct relay *r);
struct conf *relay_conf(struct relay *r); /* conf_unref() */

/* Any thread: has L been dealt with before its delivery began?  (its time is over, or it is for us) */
bool relay_ended_early(struct relay *r, const struct queue_lease *l);

/* delivery.c */
void delivery_start_remote(struct delivery *d);
/* A slot is free: leases a message for C, which has it. */
void delivery_fetch(struct conn *c);
void delivery_resolve(struct delivery *d);    /* has a connection */
void delivery_answers(struct delivery *d, span payload);
void delivery_opened(struct delivery *d, const struct relay_opened *o);
void delivery_too_silent(struct delivery *d); /* OPENING, while others wait */
void delivery_out_gone(struct delivery *d);
void delivery_settle(struct delivery *d);
void delivery_make_results(struct delivery *d); /* once; puts the recipients in order */
/* What is left of the delivery ends for REASON. */
void delivery_end_with(struct delivery *d, const struct relay_reason *reason);
void delivery_give_back(struct delivery *d, usec not_before);
void delivery_try_next(struct delivery *d); /* the target D->at */
/* Keeps why this target did not do, in words for the sender. */
void delivery_note_last(struct delivery *d, const char *status, span why,
			const struct smtp_reply *reply);

/* send.c */
void delivery_begin_send(struct delivery *d); /* has an open one */
void delivery_sent(struct delivery *d, span payload);

/* conn.c */
struct conn *relay_conn_new(struct relay *r, struct destination *dest, struct delivery *d);
void conn_enter(struct conn *c, enum conn_state s);
void conn_drop(struct conn *c);	     /* closes at `out` if open, frees; its slot is free */
void conn_free_next(struct conn *c); /* its delivery is over: idles, or makes room */
/* Messages that it may carry. */
unsigned conn_serves(const struct conn *c);
void conn_opened(struct conn *c, const struct relay_opened *o);
void conn_hang_up(struct conn *c); /* at `out`; it can be opened anew */
int conn_send(struct conn *c, uint16_t type, span payload, int fd);
struct destination *destination_get(struct relay *r, span route);
struct conn *destination_take_idle(struct destination *dest);
/* What waits for DEST stays in the queue until a slot is free. */
void destination_hold(struct destination *dest);
/* Nothing waits for it. */
void destination_resume(struct destination *dest);
void destination_free(struct destination *dest);

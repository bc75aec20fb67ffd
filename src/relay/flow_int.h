/* Who may have a connection, and who is next.
 *
 * A destination is a route of the queue.  Destinations that lead to the same hosts, or the same addresses, are one
 * group: they share a pace (relay/pace.h).  All groups share a pool (relay.connections); a connection takes its slot of
 * group and pool before it opens and keeps it until it is gone.
 *
 *   - A destination that gets no slot is held: its messages stay in the queue, at no cost, and it stands in its group's
 *     ring.  A slot that is granted leases one message by route; when none is left the destination is let go.
 *   - Groups that could have another slot but for the pool stand in a ring, one for each kind of group.  What never
 *     answered yet, and even more what failed last, may have but a share of the pool: who is proven always finds room.
 *   - Under want a connection serves RELAY_TURN messages and makes room; idle ones make room at once, and one that has
 *     been silent for RELAY_SILENCE since it was opened does too. */
#pragma once

#include <sys/queue.h>

#include "relay/pace.h"
#include "relay/relay_int.h"

enum {
	RELAY_TURN = 10,
	RELAY_REMEMBERED_MAX = 20000, /* destinations that have nothing to do */
};
#define RELAY_REMEMBERED (900 * USEC_SEC) /* longer than a circuit cools */
#define RELAY_SILENCE	 (30 * USEC_SEC)

struct group {
	struct relay *relay;
	span keys[RELAY_GROUP_KEYS]; /* owned */
	size_t n_keys;
	struct pace pace;
	enum group_kind kind;
	unsigned cap;	/* of connections, as configured */
	unsigned open;	/* slots taken */
	unsigned n_destinations;
	struct conn_list idle; /* the last used first */
	struct destination_list held;
	bool wanting; /* stands in the ring of its kind */
	TAILQ_ENTRY(group) ring;
	struct loop_timer cool;
	span why; /* what failed last, owned */
};

void flow_init(struct relay *r);
/* Groups and destinations; no connections are left. */
void flow_done(struct relay *r);
/* Something may have become possible: looks at it soon. */
void flow_wake(struct relay *r);
/* Ends the cooling of all groups. */
void flow_probe_all(struct relay *r);

/* Takes a slot for C, perhaps from an idle connection.  False: there is none now. */
bool flow_take(struct conn *c, struct group *g);
void flow_leave(struct conn *c);
/* Could a connection for DEST be begun?  (Also to find out where it leads.) */
bool flow_may_begin(const struct destination *dest);
/* Does somebody else want the slot of C?  And should C make room rather than carry another message? */
bool flow_wanted(const struct conn *c);
bool flow_should_yield(const struct conn *c);

/* The group of these targets, made if there is none; DEST is in it from now on. */
struct group *flow_join(struct destination *dest, const span *keys, size_t n_keys);

void flow_forget(struct destination *dest);
/* DEST was held: it stands in its group's ring, if it has a group; and steps out of it. */
void flow_stand(struct destination *dest);
void flow_step_out(struct destination *dest);

/* How D's attempt ended, for the pace of its group; REMOTE failures count, what was wrong with the message does not. */
void flow_succeeded(struct delivery *d);
void flow_failed(struct delivery *d, span why);

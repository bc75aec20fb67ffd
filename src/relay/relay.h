/* relay: core's side of delivery.  The runner leases what is due from the queue, hands local
 * recipients to mail_deliver_local(), and takes remote ones through the steps
 *
 *     MX -> addresses -> RELAY_OPEN to each in turn -> RELAY_SEND -> replies -> mail_settle()
 *
 * Each step is one message to `out` and one answer; what touches the disk is a job in
 * LANE_DELIVERY.  All functions belong to the loop's thread, except where it says any thread. */
#pragma once

#include "mail/mail.h"
#include "sys/channel.h"

struct relay;
/* ENV (with its pool and queue) and L must outlive it.  Leases nothing before the first
 * relay_kick() or relay_set_out(). */
struct relay *relay_new(struct core_env *env, struct loop *l);
/* Takes nothing new; what is under way goes on.  relay_under_way() tells when it has ended. */
void relay_stop(struct relay *r);
size_t relay_under_way(const struct relay *r);
/* After pool_free() and before loop_free(), when L does not run any more.  NULL is fine. Deliveries
 * under way are forgotten: their recipients wait in the queue again. */
void relay_free(struct relay *r);

/* The channel to `out` (again, after it was restarted). */
void relay_set_out(struct relay *r, struct channel *out);
/* `out` died: what had not begun to be sent is released, what had is deferred. */
void relay_out_gone(struct relay *r);
/* A message of out; false: not one of relay's (RELAY_*, and DNS_ANSWER to its questions). */
bool relay_message(struct relay *r, const struct channel_msg *m);
/* The queue was changed by hand, or the clock jumped: looks at the queue, and tries at once what is cooled down.  Any
 * thread. */
void relay_kick(struct relay *r);

/* A destination that has connections, waits for one, or failed last. */
struct relay_destination {
	span route, group; /* GROUP: whom it shares connections with; empty while its names are asked for */
	const char *state; /* "ok", "cooled down", "probing", "resolving" */
	unsigned open;	   /* its own connections */
	unsigned group_open, limit;
	bool waits;	 /* its mail is held in the queue until a connection is free */
	usec cooled_for; /* how long nothing is tried */
	span why;	 /* what failed last */
};
/* FN for each of them, in no order.  Any thread but the loop's, for which it waits; ERR_TIMEOUT. */
int relay_destinations(struct relay *r, void (*fn)(void *arg, const struct relay_destination *d), void *arg);

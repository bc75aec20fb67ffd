/* loop: one epoll event loop, owned by one thread.  Callbacks run on that thread and never block.
 * Only loop_post() and loop_stop() may be called from other threads. */
#pragma once

#include "base/clock.h"

struct loop;
struct loop *loop_new(void);
void loop_free(struct loop *l); /* what is still posted is dropped; timers must not be touched after */
void loop_run(struct loop *l);  /* until loop_stop() */
void loop_stop(struct loop *l); /* any thread */

/* LOOP_HUP comes unasked when the peer or the socket is gone, together with the READ and WRITE that
 * were asked for; asking for it reports the peer's half-close as well. */
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HUP = 4 };
struct loop_io; /* a watched fd; the fd stays the caller's */
typedef void loop_io_fn(void *arg, unsigned events);
struct loop_io *loop_io_add(struct loop *l, int fd, unsigned events, loop_io_fn *fn, void *arg);
void loop_io_set(struct loop_io *io, unsigned events); /* 0 silences it, HUP included */
/* Safe within callbacks, also for an io whose event is still pending in this round. */
void loop_io_del(struct loop_io *io);

/* Timers: embedded, monotonic, no allocation (a hierarchical wheel or heap; O(log n) at most). */
struct loop_timer {
	struct loop *loop;
	usec due; /* 0: not armed */
	size_t slot;
	void (*fn)(void *arg);
	void *arg;
};
void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fn)(void *), void *arg);
void loop_timer_arm(struct loop_timer *t, usec in); /* re-arms; IN from now */
void loop_timer_stop(struct loop_timer *t);

/* Runs FN(ARG) on the loop's thread, in order of posting.  Any thread; wakes the loop. */
void loop_post(struct loop *l, void (*fn)(void *), void *arg);

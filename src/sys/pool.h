/* pool: worker threads that run plain, linear, blocking jobs, in lanes.
 *
 * Each lane has reserved threads, so that slow work (password hashing, maintenance) cannot starve
 * the interactive lane; threads of a lane help no other lane.  Jobs of a lane start in order of
 * posting, except that at most `per_key` jobs with the same non-zero key run at once. */
#pragma once

#include "base/clock.h"

enum lane {
	LANE_INTERACTIVE, /* protocol commands */
	LANE_AUTH,        /* password hashing */
	LANE_DELIVERY,    /* accept and deliver: writes that wait for a sync */
	LANE_SPOOL,       /* body pieces to spool files */
	LANE_MAINTENANCE, /* checkpoints, sweeps, indexing, journal */
	LANE_COUNT
};

struct pool_conf {
	unsigned threads[LANE_COUNT]; /* 0 is taken as 1 */
	unsigned per_key;             /* 0: no cap */
	size_t max_queued;            /* of one lane; pool_post then answers ERR_AGAIN */
};

struct pool;
struct pool *pool_new(const struct pool_conf *conf);
/* Runs what is queued, then ends the threads.  pool_post answers ERR_CLOSED from then on. */
void pool_stop(struct pool *p);
void pool_free(struct pool *p); /* stops it, unless it was */

/* The embedded job: owned by the pool from post until FN is called (FN may free or re-post it). */
struct job {
	void (*fn)(struct job *j);
	uint64_t key;   /* account or peer; 0: none */
	usec posted_at; /* set by the pool; monotonic */
	struct job *next;
};
int pool_post(struct pool *p, enum lane lane, struct job *j) _must_check_;
/* Jobs waiting, and how long the oldest has waited for a thread (for shedding load).  A job that is
 * set aside for its key's cap is counted but not timed: one busy account is no overload. */
size_t pool_waiting(struct pool *p, enum lane lane, usec *ret_oldest);

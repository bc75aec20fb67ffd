/* pace: how many connections one group of destinations stands, learned from how they end.  Pure: the
 * caller brings the time (monotonic).
 *
 *   CLOSED   starts with PACE_FIRST; each success allows one more until the first failure, then each
 *            round of successes does; a failure halves.  Failures of connections that were begun
 *            before the last halving tell nothing new.
 *   OPEN     after PACE_PATIENCE failures in a row: nothing goes there until UNTIL
 *   PROBING  one connection; its success closes the circuit, its failure opens it for twice as long
 */
#pragma once

#include "base/clock.h"

enum { PACE_FIRST = 2, PACE_PATIENCE = 3 };
#define PACE_COOL_FIRST (30 * USEC_SEC)
#define PACE_COOL_MAX	(600 * USEC_SEC)

enum pace_circuit { PACE_CLOSED, PACE_OPEN, PACE_PROBING };

struct pace {
	enum pace_circuit circuit;
	unsigned limit;	   /* of connections, while CLOSED */
	unsigned good;	   /* successes since it grew */
	unsigned failures; /* in a row */
	unsigned cooled;   /* how often in a row the circuit opened */
	bool proven;	   /* there was a success */
	bool was_cut;
	usec cut_at, until;
};

void pace_init(struct pace *p);
/* Connections allowed now, where the configuration allows CAP. */
unsigned pace_allowed(const struct pace *p, unsigned cap);
/* A transaction was answered.  True: the circuit changed. */
bool pace_success(struct pace *p, unsigned cap);
/* No connection, none that lasts, or 421; what failed was begun at BEGUN.  RANDOM spreads the cooling by an eighth.
 * True: the circuit changed. */
bool pace_failure(struct pace *p, usec begun, usec now, uint64_t random);
/* UNTIL is over.  True: the circuit changed. */
bool pace_probe(struct pace *p, usec now);

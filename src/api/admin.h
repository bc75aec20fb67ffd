/* The admin socket: one request, one answer, then closed.  Used by the CLI on the same machine; who
 * may open the socket file may do everything.
 *
 * Request: one line of JSON {"command": "account add", ...arguments...}, at most 64 KiB.  Answer:
 * any number of JSON lines (the results), then one {"ok": true} or {"ok": false, "exit": N,
 * "error": TEXT}. */
#pragma once

#include "mail/env.h"

/* A destination as the sending side sees it now (relay/relay.h). */
struct admin_destination {
	span route, group, why;
	const char *state;
	unsigned open, group_open, limit;
	bool waits;
	usec cooled_for;
};
/* What the commands need of the role beside core_env. */
struct admin_hooks {
	void *arg;
	void (*clock_set)(void *arg, usec offset); /* lab only; tells everybody */
	/* Asks parent, and waits for its answer: 0, or an error and why in INFO. */
	int (*reload)(void *arg, struct err_info *info);
	void (*stop)(void *arg);
	void (*relay_kick)(void *arg); /* the queue changed by hand: look now */
	size_t (*sessions)(void *arg);
	/* FN for each destination that outgoing mail goes to or waits for; ERR_TIMEOUT. */
	int (*destinations)(void *arg, void (*fn)(void *fn_arg, const struct admin_destination *d), void *fn_arg);
};
/* Serves one connection to its end; blocking, on a thread of its own.  Closes FD. */
void admin_serve(struct core_env *env, const struct admin_hooks *hooks, int fd);

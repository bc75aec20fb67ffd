/* The admin socket: one request, one answer, then closed.  Used by the CLI on the same machine; who
 * may open the socket file may do everything.
 *
 * Request: one line of JSON {"command": "account add", ...arguments...}, at most 64 KiB.  Answer:
 * any number of JSON lines (the results), then one {"ok": true} or {"ok": false, "exit": N,
 * "error": TEXT}. */
#pragma once

#include "mail/env.h"

/* What the commands need of the role beside core_env. */
struct admin_hooks {
	void *arg;
	void (*clock_set)(void *arg, usec offset); /* lab only; tells everybody */
	/* Asks parent, and waits for its answer: 0, or an error and why in INFO. */
	int (*reload)(void *arg, struct err_info *info);
	void (*stop)(void *arg);
	void (*relay_kick)(void *arg); /* the queue changed by hand: look now */
	size_t (*sessions)(void *arg);
};
/* Serves one connection to its end; blocking, on a thread of its own.  Closes FD. */
void admin_serve(struct core_env *env, const struct admin_hooks *hooks, int fd);

/* A client, the wire and core's session in one thread: the session contract without processes.
 *
 * peer_send() plays front: it feeds the wire, runs one job for each question and gathers everything
 * the client would read in `in`.  The store and the directory are real, in a temporary folder. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "mail/mail.h"
#include "sys/session.h"

struct world {
	char dir[64];
	struct core_env env;
	struct conf conf;
	char account[ACCOUNT_ID_LEN + 1];
};
int world_setup(void **state); /* cmocka group fixtures */
int world_teardown(void **state);

struct peer {
	struct world *w;
	const struct wire_ops *wire;
	void *wire_state;
	struct wire_env env;
	struct sess s;
	struct arena mem;
	struct buf unread; /* sent, not taken by the wire */
	struct buf in;	   /* what the client reads */
	struct buf out;	   /* of the running job */
	size_t unsent, most_unsent;
	bool closed, gone, woken, want_drain, starttls;
	struct wire_park park;
	bool ended;
	unsigned jobs, drains;
	size_t chunk; /* front reads at most so many bytes at a time; 0: all */
};
void peer_open(struct peer *p, struct world *w, const struct wire_ops *wire,
	       const struct sess_ops *ops, bool tls);
void peer_send(struct peer *p, span bytes);
void peer_wakeups(struct peer *p); /* runs the job of a sess_wake, if one is due */
void peer_close(struct peer *p);
/* Sends TEXT and gives back what came; the bytes live until the next call. */
const char *peer_ask(struct peer *p, const char *text);
/* Fails the test unless WANT is in the answer to TEXT. */
void peer_expect(struct peer *p, const char *text, const char *want, int line);

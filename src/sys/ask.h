/* ask: questions of core to `out` (and, in a table of their own, to `keys`), answered one by one or as a set.
 *
 * Core's jobs touch no socket to the outside and wait for nobody.  A job that needs to know something
 * puts its questions into a set, lets it go, and ends (sess_wait()); when all of them are answered, or
 * their time is over, the set says so once, and the job that runs then reads the answers.
 *
 * A question is a message to `out` whose id has ASK_ID set, and its answer is the one message that
 * comes back with that id; type and payload are the business of who asks (dns/dns.h, http/http.h,
 * filter/).  Questions of all rooms share one table, so it tells no two of them apart. */
#pragma once

#include "sys/channel.h"

#define ASK_ID (UINT64_C(1) << 62) /* set in the ids of this table and in no others */

/* --- the table: one in core for each role that is asked; "out" stands for that role below --- */
struct ask_table;
struct ask_table *ask_table_new(struct loop *l);
/* On the loop's thread, when no job asks any more.  Sets that are still held stay valid. */
void ask_table_free(struct ask_table *t);
/* On the loop's thread: `out` was (re)started, or is gone (NULL).  What the old one was asked is
 * answered ERR_CLOSED; what is asked while there is none, too. */
void ask_table_set_out(struct ask_table *t, struct channel *out);
/* On the loop's thread: a message of `out`.  True: it is of this table, also if it came too late. */
bool ask_table_message(struct ask_table *t, struct channel_msg *m);
size_t ask_table_open(struct ask_table *t); /* questions without an answer yet; any thread */

/* --- a set of questions --- */
#define ASK_SET_MAX 64 /* questions in one set */
struct ask_set;
/* DONE(ARG, ID) runs once, on the loop's thread, when all that was asked is answered: it must only
 * post (sess_wake).  The set is the caller's until ask_set_unref(), which may come at any time; DONE
 * may then still be called. */
struct ask_set *ask_set_new(struct ask_table *t, void (*done)(void *arg, uint64_t id), void *arg, uint64_t id);
/* One more question; the fd (or -1) stays the caller's.  TIMEOUT runs from ask_set_go().  Its number
 * in the set (0, 1, ...), or ERR_TOOBIG (payload, or more than ASK_SET_MAX). */
int ask_set_add(struct ask_set *s, uint16_t type, span payload, int fd, usec timeout);
/* Sends all of them.  Nothing may be added any more. */
void ask_set_go(struct ask_set *s);
/* Are all answered?  Any thread. */
bool ask_set_ready(struct ask_set *s);
/* Answer I of a set that is ready: 0 and the payload (valid while the set is), ERR_TIMEOUT, or
 * ERR_CLOSED (`out` is gone).  *RET_FD may be NULL; the fd stays the set's. */
int ask_set_answer(struct ask_set *s, size_t i, uint16_t *ret_type, span *ret_payload, int *ret_fd);
void ask_set_unref(struct ask_set *s); /* NULL is fine */

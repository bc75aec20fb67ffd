/* A host in a directory of its own: directory, store, queue and events as they are on disk, and
 * short ways to bring it mail and to look at what became of it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mail/mail.h"

struct world {
	struct core_env env;
	struct conf conf;
	char dir[64], spool[80];
	struct queue_conf queue;
	struct arena mem;
	struct id last; /* of the last mail_send() */
	unsigned each[8]; /* codes */
	void (*inspect)(struct mail_transaction *t); /* NULL, or what comes before mail_receive() */
};
extern struct world w;

/* One world for each test: domains here.test (alice, bob) and second.test; inline limit 4 KiB. */
int world_setup(void **state);
int world_teardown(void **state);
/* Another process's life: all is closed and opened again. */
void world_open(void);
void world_close(void);

void account(const char *address);
void alias(const char *address, const char *target, ...) __attribute__((sentinel));

/* --- bringing mail --- */
struct send {
	const char *from;    /* "": <> */
	const char *rcpt[8]; /* until NULL */
	unsigned notify[8];
	const char *original[8];
	const char *as;	   /* the account that submits; NULL: from outside */
	const char *envid; /* or NULL */
	bool smtputf8, ret_full, ret_hdrs;
	bool lmtp;
	bool each, binary; /* w.each: the recipients' verdicts */
	struct queue_terms terms;
	usec held_until;
};
/* The verdict of MAIL, RCPT or the message, whichever is the first refusal: "550 5.1.1 no such ..."
 */
const char *mail_send(const struct send *s, span message);
const char *send_one(const char *from, const char *to, const char *message);
const char *submit(const char *as, const char *message); /* to out@else.test */
struct address addr(const char *text);

/* --- looking --- */
size_t inbox_count(const char *address);
/* Message N (from 1) of the INBOX, whole. */
span inbox_get(const char *address, size_t n);
size_t queue_rcpts(void);
/* What waits for ADDRESS: its body; fails the test if there is nothing. */
span queued_body(const char *address);
/* Takes what is due; false if nothing is. */
bool take_lease(struct queue_lease *ret);
/* Runs local deliveries until nothing local is due. */
void deliver_all(void);
/* Settles what is due for ADDRESS's route with one outcome. */
void answer(const char *address, enum rcpt_outcome outcome, const char *status, const char *reply,
	    const char *remote);
/* The same with all of LIKE but its row. */
void answer_like(const char *address, const struct queue_result *like);
/* How often KEY=VALUE-less step NAME stands in the timeline of ID. */
size_t steps(const struct id *id, const char *name);
/* Is ID found under KEY? */
bool found_by(const struct id *id, const char *key);

bool has(span message, const char *text);
#define assert_has(m, text) assert_true(has((m), (text)))
/* VERDICT starts with TEXT. */
#define assert_verdict(verdict, text) assert_verdict_at((verdict), (text), __FILE__, __LINE__)
void assert_verdict_at(const char *verdict, const char *text, const char *file, int line);

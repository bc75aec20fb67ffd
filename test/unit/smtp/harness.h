/* Drives SMTP's wire as front does, with a core of the test's choice, and writes down what happens.
 *
 * The transcript does not show how the input was cut: each item stands before core's answer to it,
 * a message stands where its last piece came.  So the same bytes must always give the same
 * transcript. */
#pragma once

#include "base/buf.h"
#include "smtp/wire.h"

extern bool harness_trusted; /* the peer may say XCLIENT, ETRN and LHLO */

struct harness;
struct harness_core {
	/* One item of a group.  Appends what core says to REPLY. */
	void (*item)(struct harness *h, uint8_t flags, span line, struct buf *reply);
	void (*group_end)(struct harness *h, struct buf *reply); /* may be NULL */
	void (*body)(struct harness *h, uint32_t flags, span piece, struct buf *reply);
};

struct harness {
	const struct wire_ops *ops;
	const struct harness_core *core;
	void *core_state;
	struct wire_env env;
	void *wire;
	struct buf unread, reply, group, body, message, transcript;
	struct wire_park park;	    /* what core says next */
	bool starttls, core_closes; /* set by core */
	bool closed;
	enum sess_why why;
	unsigned groups, bodies; /* trips to core */
};

/* CORE NULL: an easy one, that takes every recipient without "bad" in it, every login, and every
 * message. */
void harness_open(struct harness *h, const struct wire_ops *ops, const struct harness_core *core,
		  bool tls);
/* Bytes from the peer; after STARTTLS the rest of them is dropped, as front does. */
void harness_send(struct harness *h, span bytes);
void harness_done(struct harness *h);

/* Opens, greets, sends INPUT in pieces (STEP 0: whole; else 1..STEP bytes each, by SEED), and
 * returns the transcript in RET (initialised here). */
void harness_run(const struct wire_ops *ops, const struct harness_core *core, bool tls, span input,
		 size_t step, uint32_t seed, struct buf *ret);

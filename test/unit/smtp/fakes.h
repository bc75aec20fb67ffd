/* Everything below smtp/, made of memory: what core's half of SMTP asks, and what it has done. */
#pragma once

#include "harness.h"
#include "mail/mail.h"

struct fake {
	/* what the world says */
	struct mail_verdict verdict; /* of mail_receive; code 0: 250 without a text */
	int body_error;		     /* of mail_body_add */
	bool poisoned, account_changed;
	unsigned false_alarms; /* mail_inspect makes the session wait that often */
	/* what has happened */
	unsigned routed; /* how often mail_route() was called */
	unsigned received, journal; /* messages, timeline records by smtp itself */
	struct buf from, to, body;  /* of the last message */
	bool smtputf8, body_8bit, ret_full, tls, authenticated;
	unsigned notify;
	struct queue_terms terms;
	bool lmtp;
	char peer[SOCK_TEXT], peer_name[64];
	usec held_until;
	uint64_t counts[COUNT_MAX];
	unsigned transactions; /* alive now */
	enum lane last_lane;
};
extern struct fake fake;

/* Core behind the wire: h->core_state is not used; one session at a time. */
extern const struct harness_core fake_core;
void fake_session_open(const struct sess_ops *ops, bool tls);
void fake_session_close(void);
/* Runs one job by hand. */
void fake_job(const struct sess_in *in, struct buf *ret_output);

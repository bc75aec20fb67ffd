/* Inside the client engine (relay/client.h): its state, and what its files share. */
#pragma once

#include "relay/client.h"
#include "relay/scram.h"

enum phase {
	PHASE_GREETING,
	PHASE_EHLO,
	PHASE_HELO,
	PHASE_STARTTLS,
	PHASE_HANDSHAKE,
	PHASE_AUTH,
	PHASE_PARKED,
	PHASE_RSET,
	PHASE_MAIL,
	PHASE_RCPT,
	PHASE_DATA,
	PHASE_BODY,
	PHASE_CHUNK, /* the answer to a chunk that is not the last */
	PHASE_FINAL,
	PHASE_VOID, /* the answer to a lone dot: 354 was said although nobody was accepted */
	PHASE_QUIT,
	PHASE_DEAD,
};

struct auth {
	span user, password; /* in the connection's arena; the password is wiped at its end */
	bool clear_ok;	     /* the peer is this host: nobody listens on the way */
	unsigned offered;    /* a bit for each mechanism of the table in client_auth.c */
	const struct auth_mechanism *mechanism;
	unsigned step;
	struct scram scram;
	bool proven; /* SCRAM: the peer has shown that it knows the password */
};

struct relay_client {
	struct arena mem; /* the connection's */
	struct arena tx;  /* the transaction's */
	span helo;
	enum relay_tls tls;
	bool lmtp;
	enum phase phase;
	bool open_done;
	struct buf in, out;
	uint64_t progress;
	struct relay_opened opened;
	struct auth auth;
	/* the transaction */
	struct relay_send send;
	struct relay_sent sent;
	bool pipelined, chunked, need_rset;
	size_t rcpt; /* whose reply is awaited */
	size_t accepted;
	enum { LINE_START, IN_LINE, AFTER_CR } body_at;
	struct buf chunk; /* what the next BDAT will carry */
};

/* client.c */
void client_die(struct relay_client *c, enum relay_fail fail, span why);
void client_park(struct relay_client *c);
/* Keeps the peer's REPLY as what ended the opening. */
void client_refuse_open(struct relay_client *c, enum relay_fail fail, const char *why,
			const struct smtp_reply *reply);
size_t client_next_accepted(const struct relay_client *c, size_t i);

/* client_words.c: what is said, and what EHLO's answer means */
void client_put_hello(struct relay_client *c, const char *verb);
void client_put_mail(struct relay_client *c);
void client_put_rcpt(struct relay_client *c, size_t i);
void client_ehlo_parse(struct relay_client *c, span text);

/* client_auth.c */
void client_auth_offer(struct auth *a, span mechanisms); /* the values of EHLO's AUTH line */
void client_auth_start(struct relay_client *c);		 /* parks, says AUTH, or ends it all */
void client_auth_reply(struct relay_client *c, const struct smtp_reply *r);
void client_auth_done(struct auth *a); /* wipes */

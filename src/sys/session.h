/* The contract between front and core: how a client session lives in two processes.
 *
 * front owns the socket, TLS, framing and output draining; core owns what the session means.  A
 * session is parked in front, or exactly one job of core works on it:
 *
 *     front                                      core
 *     accept                --SESS_OPEN-->       (lazily, with the first input)
 *     handshake             --SESS_TLS-->
 *     group framed, waits   --SESS_INPUT-->      job runs ...
 *                           <--SESS_OUTPUT--     ... any number
 *     parked again          <--SESS_PARK--       ends the job: mode, limits, flags for the wire
 *     body piece, waits     --SESS_BODY-->       spool lane
 *                           <--SESS_PARK--
 *     rope below low mark   --SESS_DRAINED-->    only if core asked for it (SESS_PARK_WANT_DRAIN)
 *     closed                --SESS_CLOSED-->     always the last message of a session
 *
 * INPUT, BODY and DRAINED are questions: front has at most one open and forwards nothing more of
 * the session until core answered it with exactly one of PARK, STARTTLS, CLOSE.  After a PARK with
 * SESS_PARK_WANT_DRAIN front forwards no input before it has asked DRAINED and got that answer.
 * TLS and CLOSED are statements.  A job that nobody asked for (SESS_IN_WAKE, SESS_IN_TLS) sends its
 * output, and a PARK only to say WANT_DRAIN, which then has SESS_PARK_UNASKED: it answers nothing,
 * its mode and n mean nothing, and front ignores it while a question is open.
 *
 * Every message of front carries the epoch; it grows with each handshake, and core ignores frames
 * of an old one.  Core trusts front for the peer's address and the TLS facts, for nothing else: it
 * parses each command again.  If core dies, front says 421/BYE to all; if front dies, core forgets
 * its sessions.  Input beyond what the wire can hold stays in the kernel (front stops reading). */
#pragma once

#include "base/buf.h"
#include "sys/channel.h"
#include "sys/net.h"
#include "sys/pool.h"
#include "sys/sock.h"

enum sess_proto {
	SESS_PROTO_SMTP,       /* MX, port 25 */
	SESS_PROTO_SUBMISSION, /* 587, 465 */
	SESS_PROTO_IMAP,
	SESS_PROTO_POP3,
	SESS_PROTO_LOCAL, /* SMTP of programs of this machine; the peer is their user (sock_is_local) */
	SESS_PROTO_LMTP,       /* local hosts that hand mail over for the mailboxes here */
	SESS_PROTO_COUNT
};

enum sess_type { /* channel message types 1-31; id = session id */
	/* front -> core */
	SESS_OPEN = 1,    /* u8 proto, u8 implicit_tls, blob peer sockaddr_any, blob local */
	SESS_TLS = 2,     /* u32 epoch, struct sess_tls as encoded by sess_tls_put */
	SESS_INPUT = 3,   /* u32 epoch, items: u8 flags, blob bytes (may repeat) */
	SESS_BODY = 4,    /* u32 epoch, le32 flags (SESS_BODY_*), rest = bytes */
	SESS_DRAINED = 5, /* u32 epoch */
	SESS_CLOSED = 6,  /* u8 enum sess_why */
	SESS_COUNTS = 7,  /* id 0: u32 for each enum sess_why: sessions that front itself refused or
			     ended since the last such message */
	/* core -> front */
	SESS_OUTPUT = 16, /* rest = bytes for the peer */
	SESS_PARK = 17,   /* u8 mode, u32 flags, u64 n, u32 idle seconds (0 = wire's default) */
	SESS_STARTTLS = 18, /* rest = reply to send in clear, then handshake; clear bytes are dropped */
	SESS_CLOSE = 19,  /* close once everything written has left */
	SESS_HOLD = 20,   /* u32 milliseconds: what follows for the peer, and what the peer says,
			     waits in front for so long (a tarpit without a thread) */
	SESS_BAN = 21,    /* id 0: sess_ban_put */
	SESS_LOAD = 22,   /* id 0: u32 milliseconds for which no new session is to be taken */
};

/* Flags of an input item. */
enum {
	SESS_ITEM_ANSWERED = 1, /* front has sent the reply already: core only updates its state */
	SESS_ITEM_BODY_FOLLOWS = 2, /* IMAP: ends in a literal that waits for core's word */
};
/* Flags of a body piece. */
enum {
	SESS_BODY_LAST = 1,
	SESS_BODY_BAD = 2,  /* defects seen by the framer follow in bits 8.. of the same le32 */
};

/* Why a session ends, or does not begin. */
enum sess_why {
	SESS_WHY_EOF,
	SESS_WHY_ERROR,
	SESS_WHY_TIMEOUT,
	SESS_WHY_CORE,
	SESS_WHY_SHUTDOWN,
	SESS_WHY_ABUSE,
	SESS_WHY_TLS,
	SESS_WHY_LOAD,	 /* the server is full: of sessions, of memory, or of waiting work */
	SESS_WHY_RATE,	 /* the peer's address or network has enough connections, or too many new ones */
	SESS_WHY_BANNED,
	SESS_WHY_EARLY,	 /* the peer spoke before the greeting */
	SESS_WHY_PROXY,	 /* a PROXY header that is wrong, or from somebody who may not send one */
	SESS_WHY_MEMORY, /* it held more than others when memory ran out */
	SESS_WHY_COUNT
};

/* In which mode the wire reads on after core's answer. */
enum sess_mode {
	SESS_MODE_LINES,   /* commands */
	SESS_MODE_DATA,    /* SMTP DATA until CRLF . CRLF */
	SESS_MODE_CHUNK,   /* BDAT: exactly n bytes */
	SESS_MODE_LITERAL, /* IMAP: n bytes, then the command line goes on */
	SESS_MODE_RAW,     /* a line at a time without command meaning (AUTH exchange, IDLE's DONE) */
};

/* What TLS settled; front -> core. */
struct sess_tls {
	bool active;
	uint16_t version;      /* 0x0303, 0x0304 */
	span cipher;           /* "TLS_AES_256_GCM_SHA384" */
	span sni;
	span alpn;
	span client_emails;    /* addresses in the verified client certificate, separated by LF; else empty */
	uint8_t exporter[32];  /* tls-exporter, RFC 9266; zero if not offered */
	bool has_exporter;
	uint8_t endpoint[64];  /* tls-server-end-point, RFC 5929 */
	uint8_t endpoint_len;
};
int sess_tls_put(struct buf *b, const struct sess_tls *t);
bool sess_tls_get(struct cursor *c, struct sess_tls *ret); /* spans point into the cursor's bytes */

/* Payloads, written and read in one place.  The getters take the whole payload; false: malformed.
 * SESS_INPUT is buf_put_le32(epoch) and the group; SESS_DRAINED buf_put_le32(epoch); SESS_TLS
 * buf_put_le32(epoch) and sess_tls_put. */
void sess_open_put(struct buf *b, enum sess_proto proto, bool implicit_tls,
		   const struct sockaddr_any *peer, const struct sockaddr_any *local);
bool sess_open_get(span payload, enum sess_proto *ret_proto, bool *ret_implicit_tls,
		   struct sockaddr_any *ret_peer, struct sockaddr_any *ret_local);
void sess_body_put(struct buf *b, uint32_t epoch, uint32_t flags, span bytes);
/* Until when a network may not come, by protocol.  0: it may. */
#define SESS_BAN_FOREVER UINT64_MAX
struct sess_ban {
	struct net net;
	uint64_t left[SESS_PROTO_COUNT]; /* microseconds from now */
};
void sess_ban_put(struct buf *b, const struct sess_ban *ban);
bool sess_ban_get(span payload, struct sess_ban *ret);
struct wire_park;
void sess_park_put(struct buf *b, const struct wire_park *p);
bool sess_park_get(span payload, struct wire_park *ret);

/* ------------------------------------------------------------------ front's side: the wire */

/* What the wire may know of its surroundings; constant while a session lives. */
struct wire_env {
	span hostname;
	enum sess_proto proto;
	bool tls;           /* the connection is encrypted now */
	bool tls_available; /* STARTTLS may be offered */
	bool client_cert, binding; /* it has shown a certificate that names an address; can be bound to (sasl/offer.h) */
	unsigned auth;      /* mechanisms that the configuration allows (sasl/offer.h) */
	span peer_ip;       /* text */
	uint64_t max_size;  /* largest message, bytes */
	uint32_t max_rcpts; /* of one message */
	usec hold_max;      /* how long a message may be asked to be held; 0: not at all */
	usec opened;        /* wall */
	bool trusted;       /* the peer may do what its protocol lets only some do (LMTP, XCLIENT) */
	bool etrn;          /* and start the queue */
};

enum wire_step {
	WIRE_MORE,    /* needs more bytes */
	WIRE_REPLY,   /* out->reply has bytes for the peer; feed again with the rest */
	WIRE_FORWARD, /* out->group is a complete group: SESS_INPUT, then wait for SESS_PARK */
	WIRE_BODY,    /* out->body is a piece: SESS_BODY (out->body_flags), then wait for SESS_PARK */
	WIRE_CLOSE,   /* send out->reply, then close (out->why) */
};
struct wire_out {
	struct buf *reply;
	struct buf *group; /* items as in SESS_INPUT; wire_item_put */
	struct buf *body;
	uint32_t body_flags;
	unsigned errors; /* grows with each command that was refused */
	enum sess_why why;
};
void wire_item_put(struct buf *group, uint8_t flags, span bytes);

/* What core said when it gave the session back (SESS_PARK). */
struct wire_park {
	enum sess_mode mode;
	uint32_t flags; /* protocol bits: SMTP_PARK_HAS_RCPT, IMAP_PARK_AUTHENTICATED, ... */
	uint64_t n;
	uint32_t idle_seconds;
};
#define SESS_PARK_WANT_DRAIN 0x80000000u /* send SESS_DRAINED when the rope is below the low mark */
#define SESS_PARK_UNASKED 0x40000000u    /* answers no question; set by the session table only */

/* One protocol's framer and pre-authentication answers: pure, no I/O, no clock, chunk-invariant. */
struct wire_ops {
	enum sess_proto proto;
	const char *name;
	size_t size;        /* of the state, zeroed before open */
	size_t input_limit; /* bytes front may hold unread for this session */
	unsigned idle_seconds, preauth_seconds; /* time-outs by phase */
	void (*open)(void *w, const struct wire_env *env, struct buf *reply); /* greeting */
	/* Consumes *RET_USED bytes of IN and says what to do.  Is called again at once after REPLY,
	 * after PARK, and when more bytes came.  Bytes not consumed are shown again. */
	enum wire_step (*feed)(void *w, span in, size_t *ret_used, struct wire_out *out);
	void (*park)(void *w, const struct wire_park *p);
	/* The handshake is done: forget everything the peer said before (RFC 3207 4.2). */
	void (*tls)(void *w, const struct wire_env *env);
	/* The last words for each reason (421, * BYE, -ERR); may stay empty. */
	void (*farewell)(void *w, enum sess_why why, struct buf *reply);
	void (*done)(void *w);
	/* The time-out in seconds of what the peer is at now, 0: the ordinary one.  May be NULL. */
	unsigned (*phase_seconds)(const void *w);
	/* Memory that W holds for its peer.  May be NULL. */
	size_t (*held)(const void *w);
};

/* ------------------------------------------------------------------ core's side: sessions and jobs */

#define SESS_HERE LANE_COUNT /* see sess_ops.lane */
enum sess_kind { SESS_IN_INPUT, SESS_IN_BODY, SESS_IN_DRAINED, SESS_IN_WAKE, SESS_IN_TLS };

/* What a job got.  Valid during the job only. */
struct sess_in {
	enum sess_kind kind;
	span data;           /* items (INPUT) or bytes (BODY) */
	uint32_t body_flags;
	bool again;          /* the same input as before: the job ended in sess_wait() */
};
/* Iterates over the items of an INPUT; false at the end. */
bool sess_item_next(struct cursor *c, uint8_t *ret_flags, span *ret_bytes);

struct sess;
struct sess_table;
struct sess_ops {
	enum sess_proto proto;
	const char *name;
	size_t size; /* of the protocol's state, zeroed */
	/* On the channel's thread: sets up the state, never blocks.  May be NULL. */
	void (*open)(struct sess *s);
	/* Which lane the job for IN runs in: looks at the bytes, never blocks.  Runs on whichever
	 * thread hands the session over, while no job runs.  SESS_HERE: the job never blocks and runs
	 * there too; if it finds that it would have to, sess_wait() and sess_wake() give it a lane. */
	enum lane (*lane)(struct sess *s, const struct sess_in *in);
	/* Runs on a worker and is the only one to touch the session meanwhile.  Must end in exactly
	 * one of sess_park, sess_wait, sess_starttls, sess_close. */
	void (*job)(struct sess *s, const struct sess_in *in);
	/* The session is over; frees what the state holds.  No job runs any more; a worker's thread
	 * as a rule. */
	void (*close)(struct sess *s);
	/* The server is too busy for a job of this session: the last words before SESS_CLOSE (421,
	 * * BYE, -ERR).  Any thread, never blocks, touches only REPLY.  May be NULL. */
	void (*busy)(struct sess *s, struct buf *reply);
};

struct sess {
	uint64_t id;
	const struct sess_ops *ops;
	void *state;          /* ops->size bytes */
	struct arena *mem;    /* the job's arena: reset after each job */
	struct sockaddr_any peer, local;
	bool implicit_tls;
	bool here;            /* the job must not block: see sess_ops.lane */
	struct sess_tls tls;  /* owned copies */
	unsigned errors;      /* that its answers were held back for (guard/guard.h) */
	uint64_t key;         /* cap of concurrent jobs: account hash once authenticated */
	void *core;           /* struct core_env of the role: stores, queue, conf (see mail/env.h) */
	struct sess_table *table;
};

void sess_write(struct sess *s, span bytes); /* for the peer, any time within a job; sent in pieces of at most 64 KiB */
struct buf *sess_out(struct sess *s); /* append here; flushed when it passes 64 KiB and at the end of the job */
/* Bytes written by this session that front has not reported as drained (a job that makes much
 * output stops at SESS_OUT_HIGH, parks with SESS_PARK_WANT_DRAIN and goes on in SESS_IN_DRAINED). */
#define SESS_OUT_HIGH (1024u * 1024)
size_t sess_unsent(struct sess *s);
bool sess_is_gone(struct sess *s); /* a long job may stop early (it still ends as it must) */
/* How a job ends, exactly one of these once.  What it wrote leaves before; nothing is sent until the
 * job function has returned. */
void sess_park(struct sess *s, const struct wire_park *p);
/* The job (INPUT, BODY) cannot answer before something else has: it ends, front's question stays
 * open, and after sess_wake() a job runs for the same input, with `again` set.  Whoever waits sees to
 * it that the wake-up comes, with a deadline; one that came for something else may make the job wait
 * once more.  What the job wrote is sent; its arena is reset. */
void sess_wait(struct sess *s);
void sess_starttls(struct sess *s, span reply);
/* What this job has to say waits in front for D, and so does what the peer says next. */
void sess_hold(struct sess *s, usec d);
/* How long the answer to the ERRORSth error of a session is held: nothing for the first few, then
 * twice as long each time, at most MAX. */
usec sess_tarpit(unsigned errors, usec max);
void sess_close(struct sess *s);
/* Besides sess_park: what the job wrote and its ending are kept back, without a thread, until somebody
 * calls sess_release(), once.  Not GOOD: what it wrote is not said, but the busy farewell. */
void sess_withhold(struct sess *s);
void sess_release(struct sess *s, bool good);
/* Any thread, any time: makes a SESS_IN_WAKE job run when the session is parked (coalesced).
 * Unknown ids are ignored. */
void sess_wake(struct sess_table *t, uint64_t id);

/* The table of all sessions of one core.  FRONT may be replaced when front was restarted. */
struct sess_table *sess_table_new(struct pool *pool, void *core_env);
void sess_table_set_queue_limit(struct sess_table *t, usec limit); /* longer: busy farewell; default 30 s */
void sess_table_add_proto(struct sess_table *t, const struct sess_ops *ops);
void sess_table_message(struct sess_table *t, struct channel *front, struct channel_msg *m); /* types 1-31 */
void sess_table_front_gone(struct sess_table *t, struct channel *front);
size_t sess_table_count(struct sess_table *t);
void sess_table_free(struct sess_table *t); /* after the pool has ended */

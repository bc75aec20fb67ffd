/* Outgoing SMTP: the contract between core (relay/) and `out`.  Core decides (hosts, order, policy,
 * what to do with a reply); out connects, speaks (relay/client.h), bounds the replies, and answers
 * each step with one message.  No core worker waits for a peer.
 *
 *     core                                              out
 *     RELAY_OPEN  address, names, TLS policy      -->   connect, greeting, EHLO, STARTTLS, EHLO
 *                                                 <--   RELAY_OPENED  extensions, TLS facts | failure
 *     RELAY_SEND  envelope + body (bytes or fd)   -->   MAIL, RCPTs, DATA (pipelined where offered)
 *                                                 <--   RELAY_SENT    one reply per command
 *     RELAY_CLOSE                                 -->   QUIT (or drop)
 *                                                 <--   RELAY_LOST    the peer went away while parked
 *
 * id of the messages = core's connection number.  Each OPEN gets one OPENED and each SEND one SENT,
 * also when the number is not known (any more): fail is then CLOSED and no reply was read.  A LOST
 * may cross a SEND; it says nothing about it. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "format/reply.h"
#include "sys/session.h"

enum relay_type {
	RELAY_OPEN = 64,
	RELAY_SEND = 65,
	RELAY_CLOSE = 66,
	RELAY_OPENED = 72,
	RELAY_SENT = 73,
	RELAY_LOST = 74
};

enum relay_tls { RELAY_TLS_NONE, RELAY_TLS_MAY, RELAY_TLS_MUST, RELAY_TLS_VERIFY };

struct relay_open {
	struct sockaddr_any to, source; /* source: family 0 = any */
	span helo, host;		/* our name; the MX host's name (SNI, verification) */
	enum relay_tls tls;
	bool implicit_tls, lmtp;
	span user, password; /* AUTH (RFC 4954) before anything is sent; empty: without */
};
enum relay_fail {
	RELAY_FAIL_NONE,
	RELAY_FAIL_CONNECT,
	RELAY_FAIL_GREETING,
	RELAY_FAIL_EHLO,
	RELAY_FAIL_TLS,
	RELAY_FAIL_NO_TLS,
	RELAY_FAIL_TIMEOUT,
	RELAY_FAIL_PROTOCOL,
	RELAY_FAIL_CLOSED,
	RELAY_FAIL_AUTH
};
enum {
	RELAY_EXT_PIPELINING = 1,
	RELAY_EXT_SIZE = 2,
	RELAY_EXT_8BITMIME = 4,
	RELAY_EXT_SMTPUTF8 = 8,
	RELAY_EXT_CHUNKING = 16,
	RELAY_EXT_DSN = 32,
	RELAY_EXT_STARTTLS = 64,
	RELAY_EXT_ENHANCED = 128,
	RELAY_EXT_MT_PRIORITY = 256,
	RELAY_EXT_DELIVERBY = 512,
	RELAY_EXT_REQUIRETLS = 1024
};
struct relay_opened {
	enum relay_fail fail;
	struct smtp_reply reply; /* the peer's words where there are any */
	span why;		 /* ours, for people */
	unsigned extensions;
	uint64_t max_size; /* SIZE value, 0 = none told */
	uint32_t by_min;   /* DELIVERBY: the shortest time it takes, in seconds */
	/* LIMITS (RFC 9422): transactions, recipients and domains of one; 0 = none told */
	uint32_t mail_max, rcpt_max, domain_max;
	bool tls, tls_verified;
	span tls_text; /* "TLSv1.3 TLS_AES_256_GCM_SHA384" */
	span banner_host;
	span auth; /* the mechanism that was used, or empty */
};
enum {
	RELAY_NOTIFY_NEVER = 1,
	RELAY_NOTIFY_SUCCESS = 2,
	RELAY_NOTIFY_FAILURE = 4,
	RELAY_NOTIFY_DELAY = 8
}; /* as queue/queue.h; 0: not told */
struct relay_send {
	span sender, envid; /* reverse-path text */
	uint64_t size;
	bool smtputf8, body_8bit;
	bool ret_full, ret_hdrs; /* both false: not told */
	bool chunking;		 /* BDAT instead of DATA where it is offered (RFC 3030) */
	bool require_tls;	 /* RFC 8689; only over such a connection */
	int8_t priority;	 /* RFC 6710; 0 is not said */
	bool by, by_return, by_trace; /* RFC 2852; BY: a limit is set, RETURN: mode R, else N */
	int32_t by_seconds;	      /* from now; below 0: it is over */
	struct relay_rcpt {
		span address, original;
		unsigned notify;
	} * rcpts; /* at most RELAY_RCPTS_MAX */
	size_t n_rcpts;
	span body; /* a body that fits, else the message carries an fd of SIZE bytes from BODY_FROM
		    */
	uint64_t body_from;
};
struct relay_sent {
	enum relay_fail fail; /* the connection's end, else NONE */
	span why;
	struct smtp_reply mail; /* code 0: no reply was read */
	struct smtp_reply *rcpts;
	size_t n_rcpts;
	struct smtp_reply data;	 /* the 354 or its refusal; BDAT needs no leave, and stands as 354 */
	struct smtp_reply final; /* after the end of data, or of the chunk that was refused (LMTP: per recipient, see rcpt_final) */
	struct smtp_reply *rcpt_final;
};
#define RELAY_RCPTS_MAX	     50	 /* of one transaction */
#define RELAY_REPLY_TEXT_MAX 512 /* octets of a reply's text that travel to core */
/* Message forms; put: ERR_TOOBIG; get: ERR_PROTO, spans point into the payload, arrays into MEM. */
int relay_open_put(struct buf *b, const struct relay_open *o);
int relay_open_get(span payload, struct relay_open *ret);
int relay_opened_put(struct buf *b, const struct relay_opened *o);
int relay_opened_get(span payload, struct arena *mem, struct relay_opened *ret);
int relay_send_put(struct buf *b, const struct relay_send *s);
int relay_send_get(span payload, struct arena *mem, struct relay_send *ret);
int relay_sent_put(struct buf *b, const struct relay_sent *s);
int relay_sent_get(span payload, struct arena *mem, struct relay_sent *ret);

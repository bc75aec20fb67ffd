/* channel: typed messages, optionally with one fd, between two roles, over a SOCK_SEQPACKET
 * socketpair.  The same code serves processes and the threads of --single.
 *
 * A message is {type, id, payload}.  Several messages travel in one datagram (at most 64 KiB +
 * header; a payload is at most CHANNEL_MAX bytes).  Sending is thread-safe and never blocks: what the
 * kernel does not take waits in a queue with a byte limit, drained by the receiver thread's loop. */
#pragma once

#include "base/buf.h"
#include "sys/loop.h"

#define CHANNEL_MAX (96u * 1024) /* payload bytes of one message */

struct channel_msg {
	uint16_t type;
	uint64_t id;  /* session, request, ... as the contract says */
	span payload; /* valid during the callback only */
	int fd;       /* -1: none; the callback takes it by setting it to -1, else it is closed */
};

struct channel;
typedef void channel_fn(void *arg, struct channel *c, struct channel_msg *m); /* on the loop's thread */
typedef void channel_closed_fn(void *arg, struct channel *c);

/* A pair of connected fds, close-on-exec. */
int channel_pair(int ret_fds[2]);
/* Takes over FD.  FN is called for each message on L's thread; CLOSED once, when the peer is gone. */
struct channel *channel_open(struct loop *l, int fd, channel_fn *fn, channel_closed_fn *closed, void *arg);
void channel_close(struct channel *c); /* on the loop's thread; NULL is fine */
/* Other threads that send hold a reference, so that the channel outlives channel_close(); sending
 * then answers ERR_CLOSED. */
struct channel *channel_ref(struct channel *c);
void channel_unref(struct channel *c); /* any thread; NULL is fine */
/* 0, ERR_CLOSED, or ERR_TOOBIG (payload).  FD (or -1) is duplicated by the kernel; the caller keeps it. */
int channel_send(struct channel *c, uint16_t type, uint64_t id, span payload, int fd);
/* Between cork and uncork, the calling thread's messages are gathered into few datagrams.  Not
 * nested; the thread holds a reference or is the loop's. */
void channel_cork(struct channel *c);
void channel_uncork(struct channel *c);
size_t channel_backlog(const struct channel *c); /* bytes the kernel has not taken yet */

/* Blocking use, without a loop (keys' threads, roles at start): one message; TIMEOUT 0 = for ever.
 * The payload is copied into B.  ERR_TIMEOUT, ERR_CLOSED, ERR_PROTO.  *RET_FD may be NULL. */
int channel_send_fd(int sock, uint16_t type, uint64_t id, span payload, int fd);
int channel_recv_fd(int sock, usec timeout, uint16_t *ret_type, uint64_t *ret_id, struct buf *b, int *ret_fd);

/* Message type ranges: 1-31 sys/session.h, 32-63 dns/dns.h, 64-95 relay/wire.h, 96-127 tls/keys.h,
 * 128-159 role/control.h. */

/* The front role inside: what front*.c share.
 *
 * Threads: the role's main thread reads the control channel; N loop threads own the connections (a
 * connection stays on its loop for life); a few handshake threads run single TLS handshake steps.
 * A connection is touched by its loop only, except while IN_POOL: then a handshake thread has its
 * TLS object and socket, and gives them back by loop_post(). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/map.h"
#include "conf/conf.h"
#include "role/control.h"
#include "role/front_limits.h"
#include "sys/channel.h"
#include "sys/loop.h"
#include "sys/session.h"
#include "tls/tls.h"

struct front;
struct front_loop;

#define FRONT_MAX_LOOPS	    64
#define FRONT_MAX_LISTENERS 64

#define OUT_MAX (8u << 20)  /* bytes waiting for a peer; more closes the session */
#define OUT_LOW (64u << 10) /* below this SESS_DRAINED is sent, above no command is read */
#define AHEAD_MAX \
	(64u << 20) /* bytes read ahead of core, of all sessions; more stay in the kernel */
#define READ_PIECE                                                                    \
	(16u << 10) /* one read; a whole TLS record, so that none is left half inside \
		     */

#define HANDSHAKE_TIMEOUT (30 * USEC_SEC)
#define WRITE_TIMEOUT	  (300 * USEC_SEC)
#define PROXY_TIMEOUT	  (10 * USEC_SEC)
#define LINGER_TIMEOUT	  (2 * USEC_SEC)
#define DRAIN_TIMEOUT	  (10 * USEC_SEC)

/* ------------------------------------------------------------------ settings (front.c) */

/* One configuration with its certificates; immutable, replaced by a reload, kept by the sessions
 * that began under it. */
struct front_settings {
	atomic_int refs;
	struct conf *conf;
	struct tls_server *tls; /* NULL: no certificate */
};
struct front_settings *front_settings_get(struct front *f); /* a reference to the current one */
void front_settings_unref(struct front_settings *s);

/* ------------------------------------------------------------------ the output rope (front_out.c)
 */

struct chunk;
struct rope {
	struct chunk *first, *last;
	size_t n; /* bytes in all */
};
void rope_done(struct rope *r);

/* ------------------------------------------------------------------ connections (front_conn.c) */

enum conn_state {
	CONN_PROXY,	/* a balancer says first who is there */
	CONN_GREET,	/* the greeting waits: a mail server does, too */
	CONN_HANDSHAKE, /* TLS is being settled */
	CONN_PARKED,	/* the wire reads */
	CONN_AT_CORE,	/* a question is open at core */
	CONN_DRAINING,	/* core waits for SESS_DRAINED; nothing is forwarded */
	CONN_STARTTLS,	/* the reply leaves in clear, then the handshake */
	CONN_CLOSING,	/* the rope leaves, then the end */
	CONN_LINGER,	/* our end is closed; lets the peer read the last words before a reset could
			   eat them */
	CONN_DEAD,	/* freed at the end of the round, or when the pool gives it back */
};

enum conn_timed {
	TIMED_NOTHING,
	TIMED_INPUT,
	TIMED_WRITE,
	TIMED_ARRIVAL,
	TIMED_HANDSHAKE,
	TIMED_HOLD,
	TIMED_LINGER
};
/* A slow peer proves that it is alive by this much, not by single bytes. */
#define PROGRESS 1024u

struct conn {
	struct front_loop *loop;
	uint64_t id;
	const struct wire_ops *ops;
	void *wire;
	struct front_settings *settings;
	struct wire_env env;
	struct tls_conn *tls;
	struct loop_io *io;
	struct loop_timer timer;
	struct buf in; /* bytes the wire has not taken; no memory while empty */
	size_t in_at;  /* those before were taken */
	struct rope out;
	struct conn *next;	     /* in the handshake queue, or among the dead */
	TAILQ_ENTRY(conn) next_turn; /* in the loop's TURNS while WAITS_TURN */
	usec born, last_read;
	uint32_t epoch;
	uint32_t idle_seconds;
	uint32_t progress; /* bytes since the timer was armed */
	uint32_t counted;  /* IN's share of front->ahead */
	uint32_t held;	   /* its share of the loop's HELD */
	uint32_t errors;   /* commands that front refused */
	int fd;
	uint8_t state;	    /* enum conn_state */
	uint8_t timed;	    /* enum conn_timed: what the timer is armed for */
	uint8_t tls_result; /* of the last handshake step; written in the pool */
	bool implicit_tls, opened, established, eof, in_pool, wire_open, read_wants_write,
		waits_turn;
	bool limited;  /* counted for its address; else trusted */
	bool on_hold;  /* a tarpit: nothing is read or written until the timer */
	bool has_spoken; /* its first bytes were looked at */
	struct sockaddr_any peer, local;
};

/* --- front_arrive.c: from accept() to the greeting --- */

/* A connection on its way from the accepting loop to its own. */
struct arrival {
	struct front_loop *loop;
	struct front_settings *settings;
	enum sess_proto proto;
	bool implicit_tls, proxied, limited;
	int fd;
	struct sockaddr_any peer, local;
};
/* Takes over FD, the settings and what A holds in the limits. */
void conn_new(struct front_loop *l, const struct arrival *a);
void conn_greet(struct conn *c); /* the wire begins; after the handshake if there is one */
/* An event of a connection that is not greeted yet. */
void conn_arrival_ready(struct conn *c);
void conn_arrival_timeout(struct conn *c);
/* False: the first bytes of C are a PROXY header, which it may not send; it is sent away.  May
 * leave has_spoken unset: too little came to tell. */
bool conn_first_bytes(struct conn *c, span in);
/* A refusal without a connection object: WHY's last words in one write, then the end. */
void conn_refuse(int fd, const struct wire_ops *ops, const struct front_settings *s,
		 bool implicit_tls, enum sess_why why);

/* --- front_conn.c --- */
void conn_io(void *arg, unsigned events); /* callbacks of a connection */
void conn_timeout(void *arg);
/* The last words, while the connection can still carry them; then closing. */
void conn_farewell(struct conn *c, enum sess_why why);
/* Everything written leaves, then the connection ends. */
void conn_close(struct conn *c, enum sess_why why);
/* At once. */
void conn_kill(struct conn *c, enum sess_why why);
/* Goes on with buffered input, then sets interest and timer. */
void conn_pump(struct conn *c);
void conn_settle(struct conn *c);
bool conn_is_idle(const struct conn *c);
/* Frees what conn_kill() left. */
void conn_bury(struct front_loop *l);
/* Frees at once what a killed connection holds for its peer. */
void conn_release_memory(struct conn *c);
/* Holds back what is said from now on, and what comes. */
void conn_hold(struct conn *c, usec d);
void conn_unhold(struct conn *c); /* before its time; nothing if it is not held */

/* Bytes that were read and not taken by the wire. */
static inline size_t conn_waiting(const struct conn *c)
{
	return c->in.n - c->in_at;
}

/* front_core.c */
void conn_core_message(struct conn *c, struct channel_msg *m);
/* A question (INPUT, BODY: from OUT; DRAINED: OUT is NULL); opens the session if it is the first.
 */
void conn_ask(struct conn *c, enum sess_type type, const struct wire_out *out);
void conn_tell_tls(struct conn *c);
void conn_tell_closed(struct conn *c,
		      enum sess_why why); /* once, and only if core knows the session */

/* front_out.c */
void conn_write(struct conn *c, span s);
void conn_flush(struct conn *c); /* and what waited for the rope to get short */

/* front_tls.c */
void conn_start_tls(struct conn *c);
void conn_handshake_step(struct conn *c); /* hands C to the pool */
void conn_handshake_done(struct conn *c); /* front_conn.c: the pool gave it back */

/* ------------------------------------------------------------------ the handshake pool
 * (front_tls.c) */

struct handshaker {
	pthread_t thread;
	struct front *front;
	int sock;     /* its own; the keys channel in use */
	int new_sock; /* under the pool's lock; -1: none came */
};
struct handshake_pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct conn *first, **tail;
	struct handshaker threads[CONTROL_KEYS_CHANNELS];
	size_t next_channel, started;
	bool stop;
};
void handshake_pool_init(struct front *f);
int handshake_pool_start(struct front *f);
void handshake_pool_channel(struct front *f, int fd); /* takes over FD: a channel to keys */
void handshake_pool_stop(struct front *f);	      /* waits for the steps under way */
void handshake_pool_done(struct front *f);

/* ------------------------------------------------------------------ loops and the role
 * (front_loop.c, front.c) */

struct listener {
	struct front *front;
	struct loop_io *io; /* on loop 0 */
	int fd;
	enum sess_proto proto;
	bool implicit_tls;
};

struct front_loop {
	struct front *front;
	unsigned number;
	pthread_t thread;
	struct loop *loop;
	struct channel *core; /* NULL: core is gone */
	struct idmap *conns;
	atomic_size_t held; /* by its connections for their peers; only the loop writes */
	atomic_bool reclaiming;
	uint64_t last_id;
	struct conn *dead;
	TAILQ_HEAD(turns, conn) turns; /* have input that the wire could take at once */
	struct loop_timer drain_timer;
	usec drain_until;			/* 0: not draining */
	struct buf reply, group, body, payload; /* scratch of one feed */
	char piece[READ_PIECE];
};

struct front {
	bool single, started;
	int control;
	pthread_mutex_t lock; /* of SETTINGS and TICKETS */
	struct front_settings *settings;
	struct front_limits limits;
	atomic_size_t ahead;  /* memory of all that was read and not taken by a wire */
	atomic_size_t memory; /* limits.memory */
	atomic_uint refused[SESS_WHY_COUNT]; /* since core was told */
	struct loop_timer counts_timer;	     /* loop 0 */
	struct handshake_pool pool;
	struct front_loop *loops[FRONT_MAX_LOOPS];
	size_t n_loops;
	size_t next_core_loop; /* where the next channel to core goes */
	unsigned next_loop;    /* where the next connection goes; loop 0's */
	struct listener listeners[FRONT_MAX_LISTENERS];
	size_t n_listeners;
	struct loop_timer accept_timer; /* loop 0: accepting pauses when fds are short */
	size_t n_running;		/* loops with a thread */
	uint8_t tickets[2][80];		/* under LOCK; the first encrypts */
	struct loop_timer ticket_timer; /* loop 0 */
};
void front_rotate_tickets(struct front *f);

struct front_loop *front_loop_new(struct front *f, unsigned number);
int front_loop_start(struct front_loop *l);
/* A channel to a new core; takes over FD.  Any thread; the second one before the loop runs. */
void front_loop_core(struct front_loop *l, int fd);
void front_loop_attach(struct front_loop *l, int fd);
void front_loop_drain(struct front_loop *l); /* any thread */
void front_loop_free(struct front_loop *l);  /* after its thread has ended */
void front_listen(struct front *f);	     /* before the loops run */
/* What core says to front itself, not to a session. */
void front_word(struct front *f, struct channel_msg *m);
/* Tells core; a session that was never opened there is nobody's business. */
void front_send(struct conn *c, enum sess_type type, span payload);

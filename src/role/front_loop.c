/* One loop of front: its connections, its channel to core, and draining; loop 0 accepts for all.
 *
 * Accepting in one place costs a hand-over per connection and gives an even spread without waking
 * every loop for each new peer. */
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "role/front_int.h"
#include "role/wires.h"

#define ACCEPT_ROUNDS	64
#define ACCEPT_PAUSE	(100 * USEC_MSEC)
#define TICKET_ROTATION (12 * 3600 * USEC_SEC)
#define DRAIN_STEP	(20 * USEC_MSEC)
#define COUNTS_EVERY	USEC_SEC
#define GROUP_MAX	(CHANNEL_MAX - 16) /* with the epoch it must fit a message */

/* ------------------------------------------------------------------ core */

void front_send(struct conn *c, enum sess_type type, span payload)
{
	int r = c->loop->core ? channel_send(c->loop->core, type, c->id, payload, -1) : ERR_CLOSED;
	if (r < 0 && r != ERR_CLOSED) /* a closed channel is told to everybody by core_closed() */
		log_event(LOG_ERROR, "front.send_failed", F_U64("type", type), F_ERR(r));
}

static void core_message(void *arg, struct channel *ch, struct channel_msg *m)
{
	struct front_loop *l = arg;
	if (m->id == 0) {
		front_word(l->front, m);
		return;
	}
	struct conn *c = idmap_get(l->conns, m->id);
	if (c && c->opened) /* else it was closed while the message was under way */
		conn_core_message(c, m);
}

/* Everybody is told and sent away; each is a new session for the next core. */
static void core_gone(struct front_loop *l)
{
	size_t it = 0;
	void *c;
	struct channel *old = STEAL_PTR(&l->core);
	if (!old)
		return;
	log_event(LOG_WARNING, "front.core_gone", F_U64("loop", l->number),
		  F_U64("sessions", idmap_count(l->conns)));
	while (idmap_next(l->conns, &it, NULL, &c))
		conn_farewell(c, SESS_WHY_CORE);
	channel_close(old);
}

static void core_closed(void *arg, struct channel *ch)
{
	core_gone(arg);
}

void front_loop_attach(struct front_loop *l, int fd)
{
	core_gone(l);
	l->core = channel_open(l->loop, fd, core_message, core_closed, l);
}

struct new_core {
	struct front_loop *loop;
	int fd;
};

static void core_posted(void *arg)
{
	struct new_core *n = arg;
	front_loop_attach(n->loop, n->fd);
	free(n);
}

void front_loop_core(struct front_loop *l, int fd)
{
	struct new_core *n = xmalloc(sizeof(*n));
	*n = (struct new_core){ .loop = l, .fd = fd };
	loop_post(l->loop, core_posted, n);
}

/* ------------------------------------------------------------------ accepting */

static void arrive(void *arg)
{
	struct arrival *a = arg;
	struct front_loop *l = a->loop;
	if (l->core && !l->drain_until) {
		conn_new(l, a);
	} else {
		conn_refuse(a->fd, front_wires[a->proto], a->settings, a->implicit_tls,
			    l->core ? SESS_WHY_SHUTDOWN : SESS_WHY_CORE);
		if (a->limited)
			front_limits_peer_gone(&l->front->limits, &a->peer);
		front_limits_leave(&l->front->limits);
		front_settings_unref(a->settings);
	}
	free(a);
}

static void distribute(struct front *f, struct arrival a)
{
	a.loop = f->loops[f->next_loop++ % f->n_loops];
	struct arrival *copy = xmalloc(sizeof(*copy));
	*copy = a;
	if (a.loop == f->loops[0])
		arrive(copy);
	else
		loop_post(a.loop->loop, arrive, copy);
}

static void accept_pause(struct front *f)
{
	for (size_t i = 0; i < f->n_listeners; i++)
		loop_io_set(f->listeners[i].io, 0);
	loop_timer_arm(&f->accept_timer, ACCEPT_PAUSE);
}

static void accept_resume(void *arg)
{
	struct front *f = arg;
	for (size_t i = 0; i < f->n_listeners; i++)
		if (f->listeners[i].io)
			loop_io_set(f->listeners[i].io, LOOP_READ);
}

/* Who comes through a balancer is judged when it has said who that is. */
static enum sess_why admit(struct front *f, struct arrival *a)
{
	const struct conf *conf = a->settings->conf;
	if (front_memory_short(f))
		return SESS_WHY_LOAD;
	enum sess_why why = front_limits_place(&f->limits, conf);
	if (why != FRONT_WELCOME)
		return why;
	a->proxied = net_list_has(conf->proxy_from.nets, conf->proxy_from.n, &a->peer);
	if (!a->proxied)
		why = front_limits_peer(&f->limits, conf, a->proto, &a->peer, &a->limited);
	if (why != FRONT_WELCOME)
		front_limits_leave(&f->limits);
	return why;
}

static void accept_ready(void *arg, unsigned events)
{
	struct listener *ls = arg;
	struct front *f = ls->front;
	for (int i = 0; i < ACCEPT_ROUNDS; i++) {
		struct arrival a = { .proto = ls->proto, .implicit_tls = ls->implicit_tls };
		a.fd = sock_accept(ls->fd, &a.peer, &a.local);
		if (a.fd == ERR_AGAIN)
			return;
		if (a.fd <
		    0) { /* out of descriptors, most likely: they come back when others leave */
			log_event(LOG_WARNING, "front.accept_failed", F_ERR(a.fd));
			accept_pause(f);
			return;
		}
		a.settings = front_settings_get(f);
		enum sess_why why = admit(f, &a);
		if (why == FRONT_WELCOME) {
			distribute(f, a);
			continue;
		}
		front_note_refusal(f, front_wires[a.proto]->name, &a.peer, why);
		conn_refuse(a.fd, front_wires[a.proto], a.settings, a.implicit_tls, why);
		front_settings_unref(a.settings);
	}
}

static void rotate_tickets(void *arg)
{
	struct front *f = arg;
	front_rotate_tickets(f);
	loop_timer_arm(&f->ticket_timer, TICKET_ROTATION);
}

/* What front refused goes into core's counters. */
static void tell_counts(void *arg)
{
	struct front *f = arg;
	struct front_loop *l = f->loops[0];
	bool any = false;
	buf_reset(&l->payload);
	for (size_t i = 0; i < SESS_WHY_COUNT && l->core; i++) {
		unsigned n = atomic_exchange(&f->refused[i], 0);
		buf_put_le32(&l->payload, n);
		any |= n > 0;
	}
	if (any)
		(void)channel_send(l->core, SESS_COUNTS, 0, buf_span(&l->payload), -1);
	loop_timer_arm(&f->counts_timer, COUNTS_EVERY);
}

void front_listen(struct front *f)
{
	struct loop *l = f->loops[0]->loop;
	loop_timer_init(&f->counts_timer, l, tell_counts, f);
	loop_timer_arm(&f->counts_timer, COUNTS_EVERY);
	loop_timer_init(&f->ticket_timer, l, rotate_tickets, f);
	loop_timer_arm(&f->ticket_timer, TICKET_ROTATION);
	loop_timer_init(&f->accept_timer, l, accept_resume, f);
	for (size_t i = 0; i < f->n_listeners; i++) {
		struct listener *ls = &f->listeners[i];
		ls->front = f;
		ls->io = loop_io_add(l, ls->fd, LOOP_READ, accept_ready, ls);
	}
}

static void stop_listening(struct front *f)
{
	loop_timer_stop(&f->accept_timer);
	loop_timer_stop(&f->ticket_timer);
	loop_timer_stop(&f->counts_timer);
	for (size_t i = 0; i < f->n_listeners; i++) {
		loop_io_del(f->listeners[i].io);
		f->listeners[i].io = NULL;
		close_fdp(&f->listeners[i].fd);
	}
	f->n_listeners = 0;
}

/* ------------------------------------------------------------------ draining */

static void drain_step(void *arg)
{
	struct front_loop *l = arg;
	bool late = clock_mono() >= l->drain_until;
	size_t it = 0;
	void *v;
	while (idmap_next(l->conns, &it, NULL, &v)) {
		struct conn *c = v;
		bool nobody_yet = c->state <= CONN_HANDSHAKE && !c->opened;
		conn_unhold(c);
		if (nobody_yet || (late && c->state >= CONN_CLOSING))
			conn_kill(c, SESS_WHY_SHUTDOWN);
		else if (late || conn_is_idle(c))
			conn_farewell(c, SESS_WHY_SHUTDOWN);
	}
	/* One step later than late, whoever still does not read is cut off. */
	if (idmap_count(l->conns) == 0)
		loop_stop(l->loop);
	else
		loop_timer_arm(&l->drain_timer, DRAIN_STEP);
}

static void drain_posted(void *arg)
{
	struct front_loop *l = arg;
	if (l->drain_until)
		return;
	if (l->number == 0)
		stop_listening(l->front);
	l->drain_until = clock_mono() + DRAIN_TIMEOUT;
	drain_step(l);
}

void front_loop_drain(struct front_loop *l)
{
	loop_post(l->loop, drain_posted, l);
}

/* ------------------------------------------------------------------ life */

struct front_loop *front_loop_new(struct front *f, unsigned number)
{
	struct front_loop *l = xcalloc(1, sizeof(*l));
	l->front = f;
	l->number = number;
	l->loop = loop_new();
	l->conns = idmap_new();
	TAILQ_INIT(&l->turns);
	l->reply = BUF_INIT(OUT_MAX);
	l->group = BUF_INIT(GROUP_MAX);
	l->body = BUF_INIT(GROUP_MAX);
	l->payload = BUF_INIT(CHANNEL_MAX);
	loop_timer_init(&l->drain_timer, l->loop, drain_step, l);
	return l;
}

static void *loop_main(void *arg)
{
	struct front_loop *l = arg;
	loop_run(l->loop);
	return NULL;
}

int front_loop_start(struct front_loop *l)
{
	return pthread_create(&l->thread, NULL, loop_main, l) == 0 ? 0 : ERR_NOMEM;
}

static void stop_posted(void *arg)
{
	struct front_loop *l = arg;
	loop_stop(l->loop);
}

void front_loop_free(struct front_loop *l)
{
	size_t it = 0;
	void *c;
	/* What was posted holds memory and descriptors: it runs here, and finds a loop that
	 * refuses. */
	l->drain_until = clock_mono();
	loop_timer_stop(&l->drain_timer);
	if (l->number == 0)
		stop_listening(l->front);
	loop_post(l->loop, stop_posted, l);
	loop_run(l->loop);
	while (idmap_next(l->conns, &it, NULL, &c))
		conn_kill(c, SESS_WHY_SHUTDOWN);
	conn_bury(l);
	channel_close(l->core);
	idmap_free(l->conns);
	loop_free(l->loop);
	buf_done(&l->reply);
	buf_done(&l->group);
	buf_done(&l->body);
	buf_done(&l->payload);
	free(l);
}

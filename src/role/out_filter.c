/* Conversations with filters (filter/filter.h): a socket, and the state machine of the filter's
 * protocol.
 *
 * Each event runs pump(): begin what core asked for, write what the machine says, feed it what came,
 * as long as one of these makes progress; then what core is owed is told. */
#include "role/out_int.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "filter/clamd.h"
#include "filter/milter.h"

enum { PIECE = 65535, OUT_LOW = 256 * 1024, READ_BUDGET = 256 * 1024, TALKS_MAX = 1000 };
_Static_assert(PIECE <= MILTER_CHUNK && PIECE <= CLAMD_CHUNK, "what both take");

/* What the machines have in common. */
struct machine_ops {
	void *(*new)(const struct filter_session *s);
	void (*free)(void *machine);
	struct buf *(*out)(void *machine);
	void (*feed)(void *machine, span bytes);
	void (*fail)(void *machine, span why);
	bool (*wants_body)(void *machine);
	void (*body)(void *machine, span piece);
	const struct filter_result *(*result)(void *machine);
	uint64_t (*progress)(void *machine);
	bool (*ending)(void *machine);
};

struct talk {
	struct out *out;
	uint64_t number, ask; /* core's; ask 0: nothing is owed */
	const struct machine_ops *ops;
	void *machine;
	bool is_milter, connecting, write_failed, ended;
	int fd;
	struct loop_io *io;
	struct loop_timer timer;
	usec timeout, timeout_end;
	uint64_t progress;
	/* what core asked for and is not begun */
	struct arena mem;
	span *rcpts;
	size_t n_rcpts;
	bool begun, told_rcpts, told_message;
	/* the message, and behind it in the fd its new body */
	bool has_message;
	int body_fd;
	struct buf header;
	uint64_t size, header_size, at, new_size, new_max;
};

/* ------------------------------------------------------------------ machines */

static void *any_milter_new(const struct filter_session *s)
{
	return milter_new(s);
}

static void any_milter_free(void *m)
{
	milter_free(m);
}

static struct buf *any_milter_out(void *m)
{
	return milter_out(m);
}

static void any_milter_feed(void *m, span bytes)
{
	milter_feed(m, bytes);
}

static void any_milter_fail(void *m, span why)
{
	milter_fail(m, why);
}

static bool any_milter_wants_body(void *m)
{
	return milter_state(m) == MILTER_BODY;
}

static void any_milter_body(void *m, span piece)
{
	milter_body(m, piece);
}

static const struct filter_result *any_milter_result(void *m)
{
	return milter_result(m);
}

static uint64_t any_milter_progress(void *m)
{
	return milter_progress(m);
}

static bool any_milter_ending(void *m)
{
	return milter_ending(m);
}

static void *any_clamd_new(const struct filter_session *s)
{
	return clamd_new();
}

static void any_clamd_free(void *c)
{
	clamd_free(c);
}

static struct buf *any_clamd_out(void *c)
{
	return clamd_out(c);
}

static void any_clamd_feed(void *c, span bytes)
{
	clamd_feed(c, bytes);
}

static void any_clamd_fail(void *c, span why)
{
	clamd_fail(c, why);
}

static bool any_clamd_wants_body(void *c)
{
	return clamd_wants_body(c);
}

static void any_clamd_body(void *c, span piece)
{
	clamd_body(c, piece);
}

static const struct filter_result *any_clamd_result(void *c)
{
	return clamd_result(c);
}

static uint64_t any_clamd_progress(void *c)
{
	return 0;
}

static bool any_clamd_ending(void *c)
{
	return true;
}

static const struct machine_ops machines[FILTER_WIRE_KINDS] = {
	[FILTER_WIRE_MILTER] = { any_milter_new, any_milter_free, any_milter_out, any_milter_feed,
				 any_milter_fail, any_milter_wants_body, any_milter_body,
				 any_milter_result, any_milter_progress, any_milter_ending },
	[FILTER_WIRE_CLAMD] = { any_clamd_new, any_clamd_free, any_clamd_out, any_clamd_feed,
				any_clamd_fail, any_clamd_wants_body, any_clamd_body,
				any_clamd_result, any_clamd_progress, any_clamd_ending },
};

/* ------------------------------------------------------------------ the end of it */

static void answer(struct out *o, uint64_t ask, const struct filter_result *r)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);
	struct filter_result large = { .action = FILTER_FAILED,
				       .text = SPAN("its answer is too large") };

	if (filter_result_put(&b, r) < 0) {
		buf_reset(&b);
		filter_result_put(&b, &large);
	}
	if (o->core)
		channel_send(o->core, FILTER_ANSWER, ask, buf_span(&b), -1);
}

static void talk_free(struct talk *t)
{
	idmap_del(t->out->talks, t->number);
	if (t->io)
		loop_io_del(t->io);
	loop_timer_stop(&t->timer);
	t->ops->free(t->machine);
	close_fdp(&t->fd);
	close_fdp(&t->body_fd);
	buf_done(&t->header);
	arena_done(&t->mem);
	free(t);
}

/* A word of parting, if the socket takes it at once. */
static void hang_up(struct talk *t)
{
	struct buf *out = t->ops->out(t->machine);

	if (t->is_milter && !t->connecting && !t->write_failed && out->n == 0) {
		milter_quit(t->machine);
		if (send(t->fd, out->p, out->n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			log_event(LOG_DEBUG, "out.filter_quit");
	}
	talk_free(t);
}

void out_filter_drop_all(struct out *o)
{
	size_t it = 0;
	uint64_t id;
	void *v;

	while (idmap_next(o->talks, &it, &id, &v))
		talk_free(v);
}

/* ------------------------------------------------------------------ the steps core asked for */

static bool milter_idle(const struct talk *t)
{
	return !t->connecting && milter_state(t->machine) == MILTER_PARKED;
}

/* Is what core asked for answered? */
static bool is_answered(const struct talk *t)
{
	const struct filter_result *r = t->ops->result(t->machine);

	if (!t->is_milter)
		return clamd_over(t->machine);
	if (milter_state(t->machine) != MILTER_PARKED)
		return false;
	if (milter_over(t->machine) || !t->begun)
		return milter_over(t->machine);
	return r->action != FILTER_CONTINUE ||
	       (t->told_rcpts && (!t->has_message || t->told_message));
}

static bool read_header(struct talk *t)
{
	buf_init(&t->header, t->header_size + 1);
	while (t->header.n < t->header_size) {
		size_t want = t->header_size - t->header.n;
		char *to = buf_reserve(&t->header, want);
		ssize_t got = to ? pread(t->body_fd, to, want, (off_t)t->header.n) : -1;

		if (got <= 0)
			return false;
		buf_added(&t->header, (size_t)got);
	}
	t->at = t->header_size;
	return true;
}

static void begin_step(struct talk *t)
{
	if (!t->is_milter || !milter_idle(t) || is_answered(t))
		return;
	t->begun = true;
	if (!t->told_rcpts) {
		t->told_rcpts = true;
		milter_rcpts(t->machine, t->rcpts, t->n_rcpts);
	} else if (read_header(t)) {
		t->told_message = true;
		milter_message(t->machine, buf_span(&t->header));
	} else {
		milter_fail(t->machine, SPAN("the message cannot be read"));
	}
}

static void feed_body(struct talk *t)
{
	char piece[PIECE];
	size_t want = (size_t)MIN(t->size - t->at, (uint64_t)PIECE);
	ssize_t got = want ? pread(t->body_fd, piece, want, (off_t)t->at) : 0;

	if (got < 0 || (want && !got)) {
		t->ops->fail(t->machine, SPAN("the message cannot be read"));
		return;
	}
	t->at += (uint64_t)got;
	t->ops->body(t->machine, span_of(piece, (size_t)got));
}

static void store_new_body(struct talk *t)
{
	struct buf *b = t->is_milter ? milter_new_body(t->machine) : NULL;

	while (b && b->n) {
		ssize_t put = -1;

		if (t->new_size + b->n <= t->new_max)
			put = pwrite(t->body_fd, b->p, b->n, (off_t)(t->size + t->new_size));
		if (put <= 0) {
			buf_reset(b);
			milter_fail(t->machine, SPAN("its new body is too large to be kept"));
			return;
		}
		t->new_size += (uint64_t)put;
		buf_consume(b, (size_t)put);
	}
}

/* ------------------------------------------------------------------ the pump */

static bool pump_out(struct talk *t, unsigned *want)
{
	struct buf *out = t->ops->out(t->machine);
	bool moved = false;
	ssize_t n;

	begin_step(t);
	if (out->n < OUT_LOW && t->has_message && t->ops->wants_body(t->machine)) {
		feed_body(t);
		moved = true;
	}
	if (!out->n || t->write_failed)
		return moved;
	n = send(t->fd, out->p, out->n, MSG_NOSIGNAL);
	if (n > 0) {
		buf_consume(out, (size_t)n);
		return true;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		*want |= LOOP_WRITE;
	else
		t->write_failed = true; /* it may have said why: read on */
	return moved;
}

static bool pump_in(struct talk *t, size_t *budget)
{
	char piece[16 * 1024];
	ssize_t n;

	if (!*budget)
		return false;
	n = recv(t->fd, piece, sizeof piece, 0);
	if (n > 0) {
		*budget -= MIN(*budget, (size_t)n);
		t->ops->feed(t->machine, span_of(piece, (size_t)n));
		store_new_body(t);
		return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return false;
	t->ended = true;
	t->ops->fail(t->machine, SPAN("it closed the connection"));
	return false;
}

static void arm(struct talk *t)
{
	usec in = t->ops->ending(t->machine) ? t->timeout_end : t->timeout;

	t->progress = t->ops->progress(t->machine);
	loop_timer_arm(&t->timer, t->ask ? in : FILTER_IDLE);
}

/* True: T is gone. */
static bool finish(struct talk *t)
{
	struct filter_result r;
	bool over;

	if (!t->ask && !t->ended)
		return false;
	if (!t->ask) {
		talk_free(t);
		return true;
	}
	if (!is_answered(t))
		return false;
	r = *t->ops->result(t->machine);
	r.new_body_size = t->new_size;
	answer(t->out, t->ask, &r);
	t->ask = 0;
	over = t->ended || !t->is_milter || t->has_message || milter_over(t->machine);
	if (over)
		hang_up(t);
	else
		arm(t);
	return over;
}

static void pump(struct talk *t)
{
	size_t budget = READ_BUDGET;
	unsigned want = LOOP_READ;
	bool moved = !t->connecting;

	while (moved && !t->ended) {
		want = LOOP_READ;
		moved = pump_out(t, &want);
		moved |= pump_in(t, &budget);
		if (t->ask && is_answered(t))
			break;
	}
	if (finish(t))
		return;
	if (t->io && !t->connecting)
		loop_io_set(t->io, budget ? want : want | LOOP_WRITE);
	if (t->ask && t->ops->progress(t->machine) != t->progress)
		arm(t);
}

/* ------------------------------------------------------------------ events */

static void late(void *arg)
{
	struct talk *t = arg;

	if (!t->ask)
		t->ended = true; /* forgotten by core */
	else
		t->ops->fail(t->machine, t->connecting ? SPAN("it does not take the connection")
						       : SPAN("it did not answer in time"));
	finish(t);
}

static void connected(struct talk *t)
{
	socklen_t len = sizeof(int);
	int e = 0;

	if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &e, &len) != 0)
		e = errno;
	t->connecting = false;
	if (e) {
		t->ended = true;
		t->ops->fail(t->machine, span_str(strerrordesc_np(e)));
	}
}

static void on_io(void *arg, unsigned events)
{
	struct talk *t = arg;

	if (t->connecting)
		connected(t);
	pump(t);
}

/* ------------------------------------------------------------------ core asks */

static struct talk *talk_new(struct out *o, const struct filter_ask *a)
{
	struct talk *t = xcalloc(1, sizeof *t);

	t->out = o;
	t->number = a->conversation;
	t->ops = &machines[a->kind];
	t->is_milter = a->kind == FILTER_WIRE_MILTER;
	t->machine = t->ops->new (&a->session);
	t->fd = t->body_fd = -1;
	t->timeout = a->timeout;
	t->timeout_end = a->timeout_end;
	arena_init(&t->mem);
	loop_timer_init(&t->timer, o->loop, late, t);
	idmap_put(o->talks, t->number, t);
	t->fd = sock_connect_start(&a->to, NULL);
	t->connecting = t->fd >= 0;
	if (t->connecting) {
		t->io = loop_io_add(o->loop, t->fd, LOOP_WRITE, on_io, t);
	} else {
		t->ended = true;
		t->ops->fail(t->machine, SPAN("it cannot be connected to"));
	}
	return t;
}

/* Takes over what A asks for. */
static void take_step(struct talk *t, const struct filter_ask *a, struct channel_msg *m)
{
	t->ask = m->id;
	t->n_rcpts = a->n_rcpts;
	t->rcpts = arena_array(&t->mem, span, a->n_rcpts);
	for (size_t i = 0; i < a->n_rcpts; i++)
		t->rcpts[i] = arena_span(&t->mem, a->rcpts[i]);
	t->begun = false;
	t->told_rcpts = a->n_rcpts == 0;
	t->has_message = a->flags & FILTER_END;
	t->size = a->size;
	t->header_size = a->header_size;
	t->new_max = a->new_body_max;
	t->body_fd = STEAL_FD(&m->fd);
}

static void refuse(struct out *o, uint64_t ask, enum filter_action action, const char *why)
{
	answer(o, ask, &(struct filter_result){ .action = action, .text = span_str(why) });
}

void out_filter_ask(struct out *o, struct channel_msg *m)
{
	struct arena mem _cleanup_(arena_donep);
	struct filter_ask a;
	struct talk *t;

	arena_init(&mem);
	if (filter_ask_get(m->payload, &mem, &a) < 0 || !a.conversation ||
	    ((a.flags & FILTER_END) && m->fd < 0)) {
		refuse(o, m->id, FILTER_FAILED, "the question could not be read");
		return;
	}
	t = idmap_get(o->talks, a.conversation);
	if (t && (a.flags & (FILTER_FRESH | FILTER_CLOSE))) {
		hang_up(t);
		t = NULL;
	}
	if (a.flags & FILTER_CLOSE) {
		refuse(o, m->id, FILTER_CONTINUE, "");
	} else if (!t && !(a.flags & FILTER_FRESH)) {
		refuse(o, m->id, FILTER_LOST, "the conversation is over");
	} else if (t ? t->ask != 0 : idmap_count(o->talks) >= TALKS_MAX) {
		refuse(o, m->id, FILTER_FAILED, "too many conversations at once");
	} else {
		t = t ? t : talk_new(o, &a);
		take_step(t, &a, m);
		arm(t);
		pump(t);
	}
}

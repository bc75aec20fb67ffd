/* Core's table of sessions.
 *
 * A session is parked, or owned by exactly one job (BUSY: posted or running).  What arrives
 * meanwhile waits in its PENDING list.  The table's lock guards the map and, in each session, the
 * fields that arrivals touch; everything else belongs to the owner.  No callback runs under the
 * lock. */
#include "sys/session.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/map.h"

enum {
	PIECE = 64 * 1024,	    /* of SESS_OUTPUT */
	OUT_MAX = 64 * 1024 * 1024, /* one append of a job; SESS_OUT_HIGH is what it should heed */
	PENDING_MAX = 8,	    /* front has one question open and a few statements */
};

struct pending {
	struct pending *next;
	struct sess_in in;
	char bytes[];
};

enum withheld { WITHHELD_NOT, WITHHELD_ASKED, WITHHELD_RETURNED, WITHHELD_RELEASED };
enum ending { END_NONE, END_PARK, END_WAIT, END_STARTTLS, END_CLOSE };

struct session {
	struct sess s; /* first: the protocols' handle is this */
	struct channel *front;

	/* Under the table's lock: */
	bool busy, wake, deferred;
	bool waiting; /* CURRENT's job ended in sess_wait(): only a wake-up runs it again */
	uint32_t epoch;
	struct pending *first, **tail;
	size_t pending;
	TAILQ_ENTRY(session) retry; /* in the table's list while DEFERRED */

	atomic_bool gone; /* left the map; set under the lock */

	/* The owner's: */
	struct job job;
	struct pending *current; /* what the job is for; NULL: a wake-up */
	struct arena arena;
	struct buf out;
	size_t unsent, unsent_at_park;
	usec hold; /* of the job that runs */
	enum ending ending;
	_Atomic int withheld; /* enum withheld: the later of the job's return and the release goes on */
	bool release_bad;
	struct wire_park park;
	struct buf starttls_reply;
	char *tls_bytes; /* s.tls points into it */
};

TAILQ_HEAD(session_list, session);

struct sess_table {
	struct pool *pool;
	void *core_env;
	usec queue_limit;
	const struct sess_ops *ops[SESS_PROTO_COUNT];
	pthread_mutex_t lock;
	struct idmap *sessions;
	struct session_list deferred; /* wake-ups that found their lane full */
};

static struct session *session_of(struct sess *s)
{
	return CONTAINER_OF(s, struct session, s);
}

/* ------------------------------------------------------------------ output */

static void send_output(struct session *x)
{
	span all = buf_span(&x->out);
	while (all.n) {
		span piece = span_sub(all, 0, PIECE);
		channel_send(x->front, SESS_OUTPUT, x->s.id, piece, -1);
		all = span_from(all, piece.n);
	}
	x->unsent += x->out.n;
	buf_reset(&x->out);
}

struct buf *sess_out(struct sess *s)
{
	struct session *x = session_of(s);
	if (x->out.n >= PIECE)
		send_output(x);
	return &x->out;
}

void sess_write(struct sess *s, span bytes)
{
	buf_put_span(sess_out(s), bytes);
	sess_out(s); /* sends what passed the piece */
}

size_t sess_unsent(struct sess *s)
{
	struct session *x = session_of(s);
	return x->unsent + x->out.n;
}

bool sess_is_gone(struct sess *s)
{
	return atomic_load(&session_of(s)->gone);
}

static void set_ending(struct session *x, enum ending e)
{
	assert(x->ending == END_NONE);
	x->ending = e;
}

void sess_park(struct sess *s, const struct wire_park *p)
{
	struct session *x = session_of(s);
	set_ending(x, END_PARK);
	x->park = *p;
}

void sess_wait(struct sess *s)
{
	struct session *x = session_of(s);
	set_ending(x, END_WAIT);
	assert(x->current &&
	       (x->current->in.kind == SESS_IN_INPUT || x->current->in.kind == SESS_IN_BODY));
}

void sess_hold(struct sess *s, usec d)
{
	session_of(s)->hold = d;
}

static void send_hold(struct session *x)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4);
	if (x->hold < USEC_MSEC)
		return;
	buf_put_le32(&b, (uint32_t)(x->hold / USEC_MSEC));
	channel_send(x->front, SESS_HOLD, x->s.id, buf_span(&b), -1);
	x->hold = 0;
}

void sess_withhold(struct sess *s)
{
	atomic_store(&session_of(s)->withheld, WITHHELD_ASKED);
}

void sess_starttls(struct sess *s, span reply)
{
	struct session *x = session_of(s);
	set_ending(x, END_STARTTLS);
	buf_put_span(&x->starttls_reply, reply);
}

void sess_close(struct sess *s)
{
	set_ending(session_of(s), END_CLOSE);
}

static void send_park(struct session *x)
{
	enum sess_kind kind = x->current ? x->current->in.kind : SESS_IN_WAKE;
	if (kind == SESS_IN_WAKE || kind == SESS_IN_TLS) { /* no question is answered */
		if (!(x->park.flags & SESS_PARK_WANT_DRAIN))
			return;
		x->park.flags |= SESS_PARK_UNASKED;
	}
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64);
	sess_park_put(&b, &x->park);
	channel_send(x->front, SESS_PARK, x->s.id, buf_span(&b), -1);
}

/* Everything the job had to say, in as few datagrams as possible. */
static void send_ending(struct session *x)
{
	bool broken = x->out.failed; /* output is missing: the client must not go on */
	channel_cork(x->front);
	send_hold(x);
	send_output(x);
	if (broken || x->ending == END_CLOSE)
		channel_send(x->front, SESS_CLOSE, x->s.id, SPAN_NULL, -1);
	else if (x->ending == END_STARTTLS)
		channel_send(x->front, SESS_STARTTLS, x->s.id, buf_span(&x->starttls_reply), -1);
	else if (x->ending == END_PARK)
		send_park(x);
	channel_uncork(x->front);
	if (broken)
		x->ending = END_CLOSE;
	x->unsent_at_park = x->unsent;
}

/* ------------------------------------------------------------------ the end of a session */

static void drop_pending(struct session *x)
{
	while (x->first) {
		struct pending *p = x->first;
		x->first = p->next;
		free(p);
	}
	x->tail = &x->first;
	x->pending = 0;
}

/* The owner of a session that left the map. */
static void session_free(struct session *x)
{
	if (x->s.ops->close)
		x->s.ops->close(&x->s);
	drop_pending(x);
	free(x->current);
	arena_done(&x->arena);
	buf_done(&x->out);
	buf_done(&x->starttls_reply);
	free(x->tls_bytes);
	free(x->s.state);
	channel_unref(x->front);
	free(x);
}

static void run_close(struct job *j)
{
	session_free(CONTAINER_OF(j, struct session, job));
}

/* Under the lock.  True if nobody owns X now, so that the caller must dispose of it. */
static bool leave_map(struct session *x)
{
	struct sess_table *t = x->s.table;
	if (atomic_exchange(&x->gone, true))
		return false;
	idmap_del(t->sessions, x->s.id);
	if (x->deferred)
		TAILQ_REMOVE(&t->deferred, x, retry);
	x->deferred = false;
	bool mine = !x->busy;
	x->busy = true;
	return mine;
}

/* On a worker if possible: closing may touch the disk.  Without a worker it is done here, as the
 * session must release what it holds. */
static void dispose(struct session *x)
{
	x->job.fn = run_close;
	x->job.key = 0;
	if (pool_post(x->s.table->pool, LANE_INTERACTIVE, &x->job) < 0)
		session_free(x);
}

/* The owner gives up: no worker is free in time. */
static void farewell(struct session *x)
{
	struct sess_table *t = x->s.table;
	if (x->s.ops->busy)
		x->s.ops->busy(&x->s, &x->out);
	x->ending = END_CLOSE;
	send_ending(x);
	pthread_mutex_lock(&t->lock);
	leave_map(x);
	pthread_mutex_unlock(&t->lock);
	session_free(x);
}

/* ------------------------------------------------------------------ jobs */

static void run_job(struct job *j);

/* Under the lock: takes the next thing to do; false if the session is parked now. */
static bool take_next(struct session *x)
{
	if (x->waiting) {
		x->busy = x->wake;
		x->waiting = !x->wake;
		x->wake = false;
		return x->busy;
	}
	x->current = x->first;
	if (x->current) {
		x->first = x->current->next;
		if (!x->first)
			x->tail = &x->first;
		x->pending--;
	} else if (x->wake) {
		x->wake = false;
	} else {
		x->busy = false;
		return false;
	}
	x->busy = true;
	return true;
}

static const struct sess_in wake_in = { .kind = SESS_IN_WAKE };

static const struct sess_in *current_in(const struct session *x)
{
	return x->current ? &x->current->in : &wake_in;
}

/* Keeps the wake-up for later and parks the session again, unless something came meanwhile. */
static bool defer_wake(struct session *x)
{
	struct sess_table *t = x->s.table;
	pthread_mutex_lock(&t->lock);
	bool again = x->current != NULL; /* waits for the wake-up and for nothing else */
	bool parked = !atomic_load(&x->gone) && (again || !x->first);
	if (parked) {
		x->busy = false;
		x->wake = true;
		x->waiting = again;
		if (!x->deferred)
			TAILQ_INSERT_TAIL(&t->deferred, x, retry);
		x->deferred = true;
	}
	pthread_mutex_unlock(&t->lock);
	return parked;
}

/* The owner hands the session to a worker. */
static void start_job(struct session *x)
{
	x->job.fn = run_job;
	x->job.key = x->s.key;
	bool woken = !x->current || x->current->in.again;
	enum lane lane = x->s.ops->lane(&x->s, current_in(x));
	x->s.here = lane == SESS_HERE;
	if (x->s.here) {
		x->job.posted_at = clock_mono();
		run_job(&x->job);
		return;
	}
	int r = pool_post(x->s.table->pool, lane, &x->job);
	if (r == ERR_AGAIN && woken && defer_wake(x))
		return;
	if (r < 0)
		farewell(x);
}

/* Each job that ends makes room for one wake-up that found none. */
static void retry_deferred(struct sess_table *t)
{
	pthread_mutex_lock(&t->lock);
	struct session *x = TAILQ_FIRST(&t->deferred);
	if (x) {
		TAILQ_REMOVE(&t->deferred, x, retry);
		x->deferred = false;
		if (x->busy || !take_next(x))
			x = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	if (x)
		start_job(x);
}

/* What must be so before the job sees its input. */
static void prepare(struct session *x)
{
	const struct sess_in *in = current_in(x);
	if (in->kind == SESS_IN_DRAINED)
		x->unsent -= x->unsent_at_park;
	if (in->kind != SESS_IN_TLS)
		return;
	free(x->tls_bytes);
	x->tls_bytes = span_dup(in->data);
	struct cursor c = cursor_of(span_of(x->tls_bytes, in->data.n));
	bool ok = sess_tls_get(&c, &x->s.tls);
	assert(ok); /* was parsed when it arrived */
}

/* After a job: what it leaves must not cost an idle session memory. */
static void clean_up(struct session *x)
{
	if (x->ending == END_WAIT) {
		x->current->in.again = true;
	} else {
		free(x->current);
		x->current = NULL;
	}
	x->ending = END_NONE;
	arena_done(&x->arena);
	buf_done(&x->out);
	buf_done(&x->starttls_reply);
}

/* The job has done its work: its answer leaves, and what comes next is started.  Never blocks if the
 * job was held (then this may be any thread). */
static void end_job(struct session *x)
{
	struct sess_table *t = x->s.table;
	bool held = atomic_exchange(&x->withheld, WITHHELD_NOT) != WITHHELD_NOT, next = false;
	/* Before front can answer: its frames of the old epoch are void from now on. */
	pthread_mutex_lock(&t->lock);
	if (x->ending == END_STARTTLS) {
		x->epoch++;
		drop_pending(x);
	}
	pthread_mutex_unlock(&t->lock);
	send_ending(x);
	enum ending ending = x->ending;
	clean_up(x);
	pthread_mutex_lock(&t->lock);
	if (ending == END_CLOSE)
		leave_map(x);
	x->waiting = ending == END_WAIT;
	bool over = atomic_load(&x->gone);
	next = !over && take_next(x);
	pthread_mutex_unlock(&t->lock);
	if (over && held)
		dispose(x);
	else if (over)
		session_free(x);
	else if (next)
		start_job(x);
	retry_deferred(t);
}

static void end_released(struct session *x)
{
	if (x->release_bad) {
		buf_reset(&x->out);
		if (x->s.ops->busy)
			x->s.ops->busy(&x->s, &x->out);
		x->ending = END_CLOSE;
		x->release_bad = false;
	}
	end_job(x);
}

void sess_release(struct sess *s, bool good)
{
	struct session *x = session_of(s);
	x->release_bad = !good;
	if (atomic_exchange(&x->withheld, WITHHELD_RELEASED) == WITHHELD_RETURNED)
		end_released(x);
}

static void run_job(struct job *j)
{
	struct session *x = CONTAINER_OF(j, struct session, job);
	struct sess_table *t = x->s.table;
	enum sess_kind kind = current_in(x)->kind;
	bool question = kind == SESS_IN_INPUT || kind == SESS_IN_BODY;
	if (question && clock_mono() - j->posted_at > t->queue_limit) {
		farewell(x);
		retry_deferred(t);
		return;
	}
	if (atomic_load(&x->gone)) {
		session_free(x);
		retry_deferred(t);
		return;
	}
	prepare(x);
	x->s.ops->job(&x->s, current_in(x));
	assert(x->ending != END_NONE);
	int asked = WITHHELD_ASKED;
	if (!atomic_compare_exchange_strong(&x->withheld, &asked, WITHHELD_RETURNED))
		end_released(x); /* not held, or released already */
}

/* ------------------------------------------------------------------ arrivals */

static void open_session(struct sess_table *t, struct channel *front, struct channel_msg *m)
{
	enum sess_proto proto;
	bool implicit;
	struct sockaddr_any peer, local;
	if (m->id == 0 || !sess_open_get(m->payload, &proto, &implicit, &peer, &local) ||
	    !t->ops[proto])
		return;
	struct session *x = xcalloc(1, sizeof(*x));
	x->s = (struct sess){ .id = m->id,
			      .ops = t->ops[proto],
			      .state = xcalloc(1, t->ops[proto]->size),
			      .mem = &x->arena,
			      .peer = peer,
			      .local = local,
			      .implicit_tls = implicit,
			      .core = t->core_env,
			      .table = t };
	x->front = channel_ref(front);
	x->tail = &x->first;
	buf_init(&x->out, OUT_MAX);
	buf_init(&x->starttls_reply, CHANNEL_MAX);
	if (x->s.ops->open)
		x->s.ops->open(&x->s);
	/* A front that was started again counts its sessions from 1, and the end of the old one's
	 * channel may not have been seen yet: what it left behind gives way.  A number that FRONT
	 * itself has in use is a breach of the contract; the first one stays. */
	pthread_mutex_lock(&t->lock);
	struct session *old = idmap_get(t->sessions, m->id);
	bool taken = old && old->front == front;
	bool mine = old && !taken && leave_map(old);
	if (!taken)
		idmap_put(t->sessions, m->id, x);
	pthread_mutex_unlock(&t->lock);
	if (mine)
		dispose(old);
	if (taken)
		session_free(x);
}

/* Under the lock: the session ID of FRONT; nobody speaks for the sessions of another channel. */
static struct session *find(struct sess_table *t, const struct channel *front, uint64_t id)
{
	struct session *x = id ? idmap_get(t->sessions, id) : NULL;
	return x && x->front == front ? x : NULL;
}

static void close_session(struct sess_table *t, const struct channel *front, uint64_t id)
{
	pthread_mutex_lock(&t->lock);
	struct session *x = find(t, front, id);
	bool mine = x && leave_map(x);
	pthread_mutex_unlock(&t->lock);
	if (mine)
		dispose(x);
}

/* Parses a frame of front; NULL if it is malformed. */
static struct pending *parse_frame(const struct channel_msg *m, uint32_t *ret_epoch)
{
	struct cursor c = cursor_of(m->payload);
	struct sess_in in = { 0 };
	*ret_epoch = cursor_le32(&c);
	switch (m->type) {
	case SESS_INPUT:
		in.kind = SESS_IN_INPUT;
		break;
	case SESS_BODY:
		in.kind = SESS_IN_BODY;
		in.body_flags = cursor_le32(&c);
		break;
	case SESS_DRAINED:
		in.kind = SESS_IN_DRAINED;
		break;
	case SESS_TLS:
		in.kind = SESS_IN_TLS;
		break;
	default:
		return NULL;
	}
	in.data = cursor_rest(&c);
	struct sess_tls tls;
	struct cursor t = cursor_of(in.data);
	if (c.bad || (in.kind == SESS_IN_TLS && !sess_tls_get(&t, &tls)))
		return NULL;
	struct pending *p = xmalloc(sizeof(*p) + in.data.n);
	if (in.data.n)
		memcpy(p->bytes, in.data.p, in.data.n);
	in.data.p = p->bytes;
	*p = (struct pending){ .in = in };
	return p;
}

/* Under the lock: queues P (which then belongs to X) if its epoch is not an old one. */
static bool accept_frame(struct session *x, struct pending *p, uint32_t epoch)
{
	if (epoch < x->epoch)
		return false;
	if (p->in.kind == SESS_IN_TLS)
		x->epoch = epoch;
	*x->tail = p;
	x->tail = &p->next;
	x->pending++;
	return true;
}

static void queue_frame(struct sess_table *t, const struct channel *front, struct channel_msg *m)
{
	uint32_t epoch;
	struct pending *p = parse_frame(m, &epoch);
	if (!p)
		return;
	bool start = false, flood = false;
	pthread_mutex_lock(&t->lock);
	struct session *x = find(t, front, m->id);
	if (x && x->pending >= PENDING_MAX)
		flood = true;
	else if (x && accept_frame(x, p, epoch))
		p = NULL;
	if (x && !flood && !x->busy)
		start = take_next(x);
	pthread_mutex_unlock(&t->lock);
	free(p);
	if (flood) /* only a front gone bad does that: it loses the session */
		close_session(t, front, m->id);
	else if (start)
		start_job(x);
}

void sess_table_message(struct sess_table *t, struct channel *front, struct channel_msg *m)
{
	if (m->type == SESS_OPEN)
		open_session(t, front, m);
	else if (m->type == SESS_CLOSED)
		close_session(t, front, m->id);
	else
		queue_frame(t, front, m);
}

void sess_wake(struct sess_table *t, uint64_t id)
{
	pthread_mutex_lock(&t->lock);
	struct session *x = id ? idmap_get(t->sessions, id) : NULL;
	bool start = false;
	if (x) {
		x->wake = true;
		start = !x->busy && !x->deferred && take_next(x);
	}
	pthread_mutex_unlock(&t->lock);
	if (start)
		start_job(x);
}

/* ------------------------------------------------------------------ the table */

struct sess_table *sess_table_new(struct pool *pool, void *core_env)
{
	struct sess_table *t = xcalloc(1, sizeof(*t));
	t->pool = pool;
	t->core_env = core_env;
	t->queue_limit = 30 * USEC_SEC;
	t->sessions = idmap_new();
	TAILQ_INIT(&t->deferred);
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void sess_table_set_queue_limit(struct sess_table *t, usec limit)
{
	t->queue_limit = limit;
}

void sess_table_add_proto(struct sess_table *t, const struct sess_ops *ops)
{
	assert(ops->proto < SESS_PROTO_COUNT && ops->lane && ops->job);
	t->ops[ops->proto] = ops;
}

/* Takes the sessions of FRONT (NULL: of any) out of the map; the parked ones are put into RET, the
 * running ones end with their job. */
static void evict(struct sess_table *t, struct channel *front, struct session_list *ret)
{
	size_t it = 0;
	void *value;
	TAILQ_INIT(ret);
	pthread_mutex_lock(&t->lock);
	while (idmap_next(t->sessions, &it, NULL, &value)) {
		struct session *x = value;
		if ((!front || x->front == front) && leave_map(x))
			TAILQ_INSERT_TAIL(ret, x, retry);
	}
	pthread_mutex_unlock(&t->lock);
}

void sess_table_front_gone(struct sess_table *t, struct channel *front)
{
	struct session_list parked;
	evict(t, front, &parked);
	for (struct session *x; (x = TAILQ_FIRST(&parked));) {
		TAILQ_REMOVE(&parked, x, retry);
		dispose(x);
	}
}

size_t sess_table_count(struct sess_table *t)
{
	pthread_mutex_lock(&t->lock);
	size_t n = idmap_count(t->sessions);
	pthread_mutex_unlock(&t->lock);
	return n;
}

void sess_table_free(struct sess_table *t)
{
	if (!t)
		return;
	struct session_list parked;
	evict(t, NULL, &parked);
	for (struct session *x; (x = TAILQ_FIRST(&parked));) {
		TAILQ_REMOVE(&parked, x, retry);
		session_free(x);
	}
	idmap_free(t->sessions);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

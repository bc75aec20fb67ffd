/* The table's lock guards the map of open questions and every set's answers and counts.  DONE runs
 * without it. */
#include "sys/ask.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/map.h"
#include "sys/sock.h"

#define TICK (50 * USEC_MSEC) /* how exact a time-out is */

struct question {
	struct ask_set *set; /* holds a reference while the question is in the table */
	uint64_t id;
	usec timeout, due;
	uint16_t type;	  /* of the question, then of the answer */
	struct buf bytes; /* likewise */
	int fd;		  /* likewise; owned */
	int error;
	TAILQ_ENTRY(question) open;
};

TAILQ_HEAD(question_list, question);

struct ask_set {
	struct ask_table *table;
	void (*done)(void *arg, uint64_t id);
	void *arg;
	uint64_t id;
	unsigned refs, n, unanswered;
	bool let_go; /* ask_set_go() was called: the questions are fixed */
	struct question *questions[ASK_SET_MAX];
};

struct ask_table {
	unsigned refs; /* the owner's, and one of each set */
	struct loop *loop;
	struct channel *out;
	pthread_mutex_t lock;
	struct idmap *open;
	struct question_list list;
	size_t n_open;
	uint64_t last_id;
	struct loop_timer tick;
	bool ticking; /* a tick is armed, or one will be (posted) */
};

static void on_tick(void *arg);

struct ask_table *ask_table_new(struct loop *l)
{
	struct ask_table *t = xcalloc(1, sizeof(*t));
	t->refs = 1;
	t->loop = l;
	t->open = idmap_new();
	TAILQ_INIT(&t->list);
	pthread_mutex_init(&t->lock, NULL);
	loop_timer_init(&t->tick, l, on_tick, t);
	return t;
}

/* Under the lock; unlocks. */
static void table_release(struct ask_table *t)
{
	bool last = --t->refs == 0;
	pthread_mutex_unlock(&t->lock);
	if (!last)
		return;
	idmap_free(t->open);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* ------------------------------------------------------------------ answers */

/* Under the lock.  Q leaves the table with its answer; the set is returned if that was its last, and
 * then the caller has the question's reference. */
static struct ask_set *settle(struct ask_table *t, struct question *q, int error)
{
	struct ask_set *s = q->set;
	idmap_del(t->open, q->id);
	TAILQ_REMOVE(&t->list, q, open);
	t->n_open--;
	q->error = error;
	if (error < 0) {
		buf_done(&q->bytes);
		close_fdp(&q->fd);
	}
	if (--s->unanswered == 0)
		return s;
	s->refs--; /* the caller's or another question's is left */
	return NULL;
}

static void tell(struct ask_set *s)
{
	if (!s)
		return;
	s->done(s->arg, s->id);
	ask_set_unref(s);
}

/* Settles every open question that FITS; one at a time, since DONE runs outside the lock. */
static void settle_all(struct ask_table *t, bool (*fits)(const struct question *, usec), int error)
{
	usec now = clock_mono();
	struct question *q, *next;
	pthread_mutex_lock(&t->lock);
	for (q = TAILQ_FIRST(&t->list); q; q = next) {
		next = TAILQ_NEXT(q, open);
		if (!fits(q, now))
			continue;
		struct ask_set *s = settle(t, q, error);
		if (!s)
			continue;
		pthread_mutex_unlock(&t->lock);
		tell(s);
		pthread_mutex_lock(&t->lock);
		next = TAILQ_FIRST(&t->list); /* the list may have changed */
	}
	pthread_mutex_unlock(&t->lock);
}

static bool is_due(const struct question *q, usec now)
{
	return q->due <= now;
}

static bool is_any(const struct question *q, usec now)
{
	return true;
}

static void on_tick(void *arg)
{
	struct ask_table *t = arg;
	settle_all(t, is_due, ERR_TIMEOUT);
	pthread_mutex_lock(&t->lock);
	t->ticking = t->n_open > 0;
	bool again = t->ticking;
	pthread_mutex_unlock(&t->lock);
	if (again)
		loop_timer_arm(&t->tick, TICK);
}

bool ask_table_message(struct ask_table *t, struct channel_msg *m)
{
	if (!(m->id & ASK_ID))
		return false;
	struct ask_set *s = NULL;
	pthread_mutex_lock(&t->lock);
	struct question *q = idmap_get(t->open, m->id);
	if (q) {
		q->type = m->type;
		buf_reset(&q->bytes);
		buf_put_span(&q->bytes, m->payload);
		q->fd = m->fd;
		m->fd = -1;
		s = settle(t, q, 0);
	}
	pthread_mutex_unlock(&t->lock);
	tell(s);
	return true;
}

void ask_table_set_out(struct ask_table *t, struct channel *out)
{
	pthread_mutex_lock(&t->lock);
	struct channel *old = t->out;
	t->out = out ? channel_ref(out) : NULL;
	pthread_mutex_unlock(&t->lock);
	channel_unref(old);
	settle_all(t, is_any, ERR_CLOSED);
}

void ask_table_free(struct ask_table *t)
{
	if (!t)
		return;
	ask_table_set_out(t, NULL);
	loop_timer_stop(&t->tick);
	pthread_mutex_lock(&t->lock);
	table_release(t);
}

size_t ask_table_open(struct ask_table *t)
{
	pthread_mutex_lock(&t->lock);
	size_t n = t->n_open;
	pthread_mutex_unlock(&t->lock);
	return n;
}

/* ------------------------------------------------------------------ sets */

struct ask_set *ask_set_new(struct ask_table *t, void (*done)(void *, uint64_t), void *arg,
			    uint64_t id)
{
	struct ask_set *s = xcalloc(1, sizeof(*s));
	*s = (struct ask_set){ .table = t, .done = done, .arg = arg, .id = id, .refs = 1 };
	pthread_mutex_lock(&t->lock);
	t->refs++;
	pthread_mutex_unlock(&t->lock);
	return s;
}

int ask_set_add(struct ask_set *s, uint16_t type, span payload, int fd, usec timeout)
{
	assert(!s->let_go);
	if (s->n == ASK_SET_MAX || payload.n > CHANNEL_MAX)
		return ERR_TOOBIG;
	struct question *q = xcalloc(1, sizeof(*q));
	*q = (struct question){ .set = s, .type = type, .timeout = timeout, .fd = -1 };
	buf_init(&q->bytes, CHANNEL_MAX);
	buf_put_span(&q->bytes, payload);
	if (fd >= 0)
		q->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	s->questions[s->n] = q;
	return (int)s->n++;
}

/* Under the lock. */
static void open_question(struct ask_table *t, struct question *q)
{
	q->id = ASK_ID | ++t->last_id;
	q->due = clock_mono() + q->timeout;
	q->set->refs++;
	idmap_put(t->open, q->id, q);
	TAILQ_INSERT_TAIL(&t->list, q, open);
	t->n_open++;
}

static void arm_tick(void *arg)
{
	struct ask_table *t = arg;
	loop_timer_arm(&t->tick, TICK);
}

static void tell_posted(void *arg)
{
	tell(arg);
}

/* Sent under the lock, since an answer that came meanwhile would take the bytes away; sending never
 * blocks. */
void ask_set_go(struct ask_set *s)
{
	struct ask_table *t = s->table;
	struct ask_set *over = NULL;
	assert(!s->let_go && s->n > 0);
	s->let_go = true;
	s->unanswered = s->n;
	pthread_mutex_lock(&t->lock);
	bool arm = !t->ticking;
	t->ticking = true;
	if (t->out)
		channel_cork(t->out);
	for (unsigned i = 0; i < s->n; i++) {
		struct question *q = s->questions[i];
		open_question(t, q);
		if (!t->out || channel_send(t->out, q->type, q->id, buf_span(&q->bytes), q->fd) < 0)
			over = settle(t, q, ERR_CLOSED);
	}
	if (t->out)
		channel_uncork(t->out);
	pthread_mutex_unlock(&t->lock);
	if (over) /* DONE belongs on the loop's thread */
		loop_post(t->loop, tell_posted, over);
	if (arm)
		loop_post(t->loop, arm_tick, t);
}

bool ask_set_ready(struct ask_set *s)
{
	pthread_mutex_lock(&s->table->lock);
	bool ready = s->let_go && s->unanswered == 0;
	pthread_mutex_unlock(&s->table->lock);
	return ready;
}

int ask_set_answer(struct ask_set *s, size_t i, uint16_t *ret_type, span *ret_payload, int *ret_fd)
{
	assert(i < s->n);
	const struct question *q = s->questions[i];
	if (q->error < 0)
		return q->error;
	*ret_type = q->type;
	*ret_payload = buf_span(&q->bytes);
	if (ret_fd)
		*ret_fd = q->fd;
	return 0;
}

static void question_free(struct question *q)
{
	buf_done(&q->bytes);
	close_fdp(&q->fd);
	free(q);
}

void ask_set_unref(struct ask_set *s)
{
	if (!s)
		return;
	struct ask_table *t = s->table;
	pthread_mutex_lock(&t->lock);
	if (--s->refs > 0) {
		pthread_mutex_unlock(&t->lock);
		return;
	}
	for (unsigned i = 0; i < s->n; i++)
		question_free(s->questions[i]);
	free(s);
	table_release(t);
}

#include "sys/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/map.h"

struct fifo {
	struct job *first, **tail;
};

/* A key with running jobs, and those that wait for one of them to end. */
struct keyed {
	unsigned running;
	struct fifo aside;
};

/* A thread that found nothing to do.  Each sleeps on its own, and who slept last is woken first: it is
 * the warmest, and one system call wakes it.  (Out of a condition variable it would come holding the
 * lock as if others waited for it, which costs a second call at every unlock.) */
struct worker {
	pthread_t thread;
	struct worker_lane *lane;
	sem_t wakeup;
	struct worker *next_idle;
};

struct worker_lane {
	struct pool *pool;
	pthread_mutex_t lock;
	struct fifo queue; /* in order of posting */
	struct fifo ready; /* were aside, may run now: older than all of QUEUE */
	struct idmap *keys;
	size_t waiting; /* queue + ready + aside */
	bool closing;
	struct worker *idle;
	struct worker *workers;
	unsigned worker_count;
};

struct pool {
	unsigned per_key;
	size_t max_queued;
	struct worker_lane lanes[LANE_COUNT];
};

static void fifo_init(struct fifo *f)
{
	f->first = NULL;
	f->tail = &f->first;
}

static void fifo_push(struct fifo *f, struct job *j)
{
	j->next = NULL;
	*f->tail = j;
	f->tail = &j->next;
}

static struct job *fifo_pop(struct fifo *f)
{
	struct job *j = f->first;
	if (!j)
		return NULL;
	f->first = j->next;
	if (!f->first)
		f->tail = &f->first;
	return j;
}

/* True if J may start now (and counts as running); false: it was set aside. */
static bool admit(struct worker_lane *l, struct job *j)
{
	if (!j->key || !l->pool->per_key)
		return true;
	struct keyed *k = idmap_get(l->keys, j->key);
	if (!k) {
		k = xcalloc(1, sizeof(*k));
		fifo_init(&k->aside);
		idmap_put(l->keys, j->key, k);
	}
	if (k->running >= l->pool->per_key) {
		fifo_push(&k->aside, j);
		return false;
	}
	k->running++;
	return true;
}

/* A job with KEY has ended: the next of its key takes its place at once. */
static void release(struct worker_lane *l, uint64_t key)
{
	struct keyed *k = key ? idmap_get(l->keys, key) : NULL;
	if (!k)
		return;
	struct job *next = fifo_pop(&k->aside);
	if (next) {
		fifo_push(&l->ready, next);
	} else if (--k->running == 0) {
		idmap_del(l->keys, key);
		free(k);
	}
}

static struct job *take(struct worker_lane *l)
{
	struct job *j = fifo_pop(&l->ready);
	while (!j && (j = fifo_pop(&l->queue))) {
		if (!admit(l, j))
			j = NULL;
	}
	if (j)
		l->waiting--;
	return j;
}

static void sleep_until_woken(struct worker *w)
{
	while (sem_wait(&w->wakeup) != 0 && errno == EINTR)
		;
}

/* Under the lock: the worker to wake, which its caller does without the lock, or NULL. */
static struct worker *pop_idle(struct worker_lane *l)
{
	struct worker *w = l->idle;
	if (w)
		l->idle = w->next_idle;
	return w;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct worker_lane *l = w->lane;
	pthread_mutex_lock(&l->lock);
	for (;;) {
		struct job *j = take(l);
		if (!j && l->closing)
			break;
		if (!j) {
			w->next_idle = l->idle;
			l->idle = w;
			pthread_mutex_unlock(&l->lock);
			sleep_until_woken(w);
			pthread_mutex_lock(&l->lock);
			continue;
		}
		uint64_t key = l->pool->per_key ? j->key : 0; /* FN may free the job */
		pthread_mutex_unlock(&l->lock);
		j->fn(j);
		pthread_mutex_lock(&l->lock);
		release(l, key);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static void lane_start(struct pool *p, enum lane which, unsigned threads)
{
	static const char *const names[] = { "interactive", "auth", "delivery", "spool",
					     "maintenance" };
	static_assert(ARRAY_LEN(names) == LANE_COUNT, "one name per lane");
	struct worker_lane *l = &p->lanes[which];
	l->pool = p;
	pthread_mutex_init(&l->lock, NULL);
	fifo_init(&l->queue);
	fifo_init(&l->ready);
	l->keys = idmap_new();
	l->worker_count = MAX(threads, 1u);
	l->workers = xcalloc(l->worker_count, sizeof(*l->workers));
	for (unsigned i = 0; i < l->worker_count; i++) {
		struct worker *w = &l->workers[i];
		w->lane = l;
		sem_init(&w->wakeup, 0, 0);
		if (pthread_create(&w->thread, NULL, work, w) != 0)
			abort(); /* only at start, where nothing can be saved */
		pthread_setname_np(w->thread, names[which]);
	}
}

struct pool *pool_new(const struct pool_conf *conf)
{
	struct pool *p = xcalloc(1, sizeof(*p));
	p->per_key = conf->per_key;
	p->max_queued = conf->max_queued;
	/* Signals are for the role's main thread. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int i = 0; i < LANE_COUNT; i++)
		lane_start(p, (enum lane)i, conf->threads[i]);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return p;
}

int pool_post(struct pool *p, enum lane lane, struct job *j)
{
	struct worker_lane *l = &p->lanes[lane];
	struct worker *idle = NULL;
	int r = 0;
	pthread_mutex_lock(&l->lock);
	if (l->closing) {
		r = ERR_CLOSED;
	} else if (l->waiting >= p->max_queued) {
		r = ERR_AGAIN;
	} else {
		j->posted_at = clock_mono();
		fifo_push(&l->queue, j);
		l->waiting++;
		idle = pop_idle(l);
	}
	pthread_mutex_unlock(&l->lock);
	/* Not under the lock: the worker would wake only to wait for it. */
	if (idle)
		sem_post(&idle->wakeup);
	return r;
}

size_t pool_waiting(struct pool *p, enum lane lane, usec *ret_oldest)
{
	struct worker_lane *l = &p->lanes[lane];
	pthread_mutex_lock(&l->lock);
	const struct job *oldest = l->ready.first ? l->ready.first : l->queue.first;
	size_t n = l->waiting;
	usec since = oldest ? oldest->posted_at : 0;
	pthread_mutex_unlock(&l->lock);
	if (ret_oldest)
		*ret_oldest = oldest ? clock_mono() - since : 0;
	return n;
}

void pool_stop(struct pool *p)
{
	for (int i = 0; i < LANE_COUNT; i++) {
		struct worker_lane *l = &p->lanes[i];
		pthread_mutex_lock(&l->lock);
		l->closing = true;
		for (struct worker *w; (w = pop_idle(l));)
			sem_post(&w->wakeup);
		pthread_mutex_unlock(&l->lock);
	}
	for (int i = 0; i < LANE_COUNT; i++) {
		struct worker_lane *l = &p->lanes[i];
		for (unsigned w = 0; w < l->worker_count; w++) {
			pthread_join(l->workers[w].thread, NULL);
			sem_destroy(&l->workers[w].wakeup);
		}
		l->worker_count = 0;
	}
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pool_stop(p);
	for (int i = 0; i < LANE_COUNT; i++) {
		struct worker_lane *l = &p->lanes[i];
		assert(l->waiting == 0 && idmap_count(l->keys) == 0);
		idmap_free(l->keys);
		pthread_mutex_destroy(&l->lock);
		free(l->workers);
	}
	free(p);
}

#include "sys/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/arena.h"

enum { EVENTS_PER_ROUND = 128 };

struct loop_io {
	struct loop *loop;
	int fd;
	unsigned events; /* wanted; 0: not in the epoll set */
	loop_io_fn *fn;	 /* NULL: deleted, freed at the end of the round */
	void *arg;
	struct loop_io *next_dead;
};

struct post {
	void (*fn)(void *arg);
	void *arg;
	struct post *next;
};

struct loop {
	int epoll, wakeup; /* WAKEUP: an eventfd, written once per batch of posts */
	struct loop_io *wakeup_io, *dead;
	struct loop_timer **heap; /* a binary heap by due; slot is the index */
	size_t timers, timers_cap;
	atomic_bool stopping;

	pthread_mutex_t lock; /* of the posts */
	struct post *posts, **posts_tail;
};

/* ------------------------------------------------------------------ posts and stopping */

static void wake(struct loop *l)
{
	const uint64_t one = 1;
	ssize_t r = write(l->wakeup, &one, sizeof(one));
	assert(r == sizeof(one) || errno == EAGAIN);
}

static struct post *take_posts(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	struct post *first = l->posts;
	l->posts = NULL;
	l->posts_tail = &l->posts;
	pthread_mutex_unlock(&l->lock);
	return first;
}

static void run_posts(struct loop *l)
{
	uint64_t ignored;
	ssize_t r _unused_ = read(l->wakeup, &ignored, sizeof(ignored));
	for (struct post *p = take_posts(l), *next; p; p = next) {
		next = p->next;
		p->fn(p->arg);
		free(p);
	}
}

void loop_post(struct loop *l, void (*fn)(void *), void *arg)
{
	struct post *p = xmalloc(sizeof(*p));
	*p = (struct post){ .fn = fn, .arg = arg };
	pthread_mutex_lock(&l->lock);
	bool first = !l->posts;
	*l->posts_tail = p;
	l->posts_tail = &p->next;
	pthread_mutex_unlock(&l->lock);
	if (first)
		wake(l);
}

void loop_stop(struct loop *l)
{
	atomic_store(&l->stopping, true);
	wake(l);
}

/* ------------------------------------------------------------------ watched fds */

static uint32_t to_epoll(unsigned events)
{
	return (events & LOOP_READ ? EPOLLIN : 0u) | (events & LOOP_WRITE ? EPOLLOUT : 0u) |
	       (events & LOOP_HUP ? EPOLLRDHUP : 0u);
}

static unsigned from_epoll(uint32_t e, unsigned wanted)
{
	unsigned events = (e & EPOLLIN ? LOOP_READ : 0u) | (e & EPOLLOUT ? LOOP_WRITE : 0u);
	if (e & (EPOLLHUP | EPOLLERR))
		events |= LOOP_HUP | LOOP_READ | LOOP_WRITE;
	if (e & EPOLLRDHUP)
		events |= LOOP_HUP | LOOP_READ;
	return events & (wanted | LOOP_HUP);
}

void loop_io_set(struct loop_io *io, unsigned events)
{
	if (events == io->events)
		return;
	struct epoll_event e = { .events = to_epoll(events), .data.ptr = io };
	int op = !io->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
	int r = epoll_ctl(io->loop->epoll, op, io->fd, &e);
	/* A closed fd has left the set by itself. */
	assert(r == 0 || op == EPOLL_CTL_DEL);
	io->events = events;
}

struct loop_io *loop_io_add(struct loop *l, int fd, unsigned events, loop_io_fn *fn, void *arg)
{
	struct loop_io *io = xmalloc(sizeof(*io));
	*io = (struct loop_io){ .loop = l, .fd = fd, .fn = fn, .arg = arg };
	loop_io_set(io, events);
	return io;
}

void loop_io_del(struct loop_io *io)
{
	if (!io)
		return;
	loop_io_set(io, 0);
	io->fn = NULL;
	io->next_dead = io->loop->dead;
	io->loop->dead = io;
}

static void bury(struct loop *l)
{
	while (l->dead) {
		struct loop_io *io = l->dead;
		l->dead = io->next_dead;
		free(io);
	}
}

/* ------------------------------------------------------------------ timers */

static void place(struct loop *l, size_t slot, struct loop_timer *t)
{
	l->heap[slot] = t;
	t->slot = slot;
}

static void sift_up(struct loop *l, size_t slot)
{
	struct loop_timer *t = l->heap[slot];
	while (slot > 0 && l->heap[(slot - 1) / 2]->due > t->due) {
		place(l, slot, l->heap[(slot - 1) / 2]);
		slot = (slot - 1) / 2;
	}
	place(l, slot, t);
}

static void sift_down(struct loop *l, size_t slot)
{
	struct loop_timer *t = l->heap[slot];
	for (size_t child; (child = 2 * slot + 1) < l->timers; slot = child) {
		if (child + 1 < l->timers && l->heap[child + 1]->due < l->heap[child]->due)
			child++;
		if (l->heap[child]->due >= t->due)
			break;
		place(l, slot, l->heap[child]);
	}
	place(l, slot, t);
}

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fn)(void *), void *arg)
{
	*t = (struct loop_timer){ .loop = l, .fn = fn, .arg = arg };
}

void loop_timer_stop(struct loop_timer *t)
{
	if (!t->due)
		return;
	struct loop *l = t->loop;
	t->due = 0;
	struct loop_timer *last = l->heap[--l->timers];
	if (last == t)
		return;
	size_t slot = t->slot;
	place(l, slot, last);
	sift_up(l, slot);
	sift_down(l, last->slot);
}

void loop_timer_arm(struct loop_timer *t, usec in)
{
	struct loop *l = t->loop;
	loop_timer_stop(t);
	if (l->timers == l->timers_cap) {
		l->timers_cap = MAX((size_t)64, l->timers_cap * 2);
		l->heap = xrealloc(l->heap, l->timers_cap * sizeof(*l->heap));
	}
	usec now = clock_mono();
	t->due = now + (in < 0 ? 0 : MIN(in, INT64_MAX - now));
	place(l, l->timers++, t);
	sift_up(l, t->slot);
}

static void run_timers(struct loop *l)
{
	usec now = clock_mono();
	while (l->timers && l->heap[0]->due <= now && !atomic_load(&l->stopping)) {
		struct loop_timer *t = l->heap[0];
		loop_timer_stop(t);
		t->fn(t->arg);
	}
}

static int wait_ms(const struct loop *l)
{
	if (!l->timers)
		return -1;
	usec left = l->heap[0]->due - clock_mono();
	if (left <= 0)
		return 0;
	usec ms = (left - 1) / USEC_MSEC + 1; /* up, or the last millisecond would spin */
	return (int)MIN(ms, (usec)60000);
}

/* ------------------------------------------------------------------ the loop */

static void on_wakeup(void *arg, unsigned events)
{
	run_posts(arg);
}

struct loop *loop_new(void)
{
	struct loop *l = xcalloc(1, sizeof(*l));
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epoll < 0 || l->wakeup < 0)
		abort(); /* out of descriptors at start: nothing can work */
	l->posts_tail = &l->posts;
	pthread_mutex_init(&l->lock, NULL);
	l->wakeup_io = loop_io_add(l, l->wakeup, LOOP_READ, on_wakeup, l);
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	loop_io_del(l->wakeup_io);
	bury(l);
	for (struct post *p = take_posts(l), *next; p; p = next) {
		next = p->next;
		free(p);
	}
	close(l->epoll);
	close(l->wakeup);
	pthread_mutex_destroy(&l->lock);
	free(l->heap);
	free(l);
}

void loop_run(struct loop *l)
{
	struct epoll_event e[EVENTS_PER_ROUND];
	while (!atomic_load(&l->stopping)) {
		int n = epoll_wait(l->epoll, e, EVENTS_PER_ROUND, wait_ms(l));
		assert(n >= 0 || errno == EINTR);
		for (int i = 0; i < n; i++) {
			/* An earlier callback of this round may have silenced or deleted it. */
			struct loop_io *io = e[i].data.ptr;
			unsigned events = io->events ? from_epoll(e[i].events, io->events) : 0;
			if (events)
				io->fn(io->arg, events);
		}
		run_timers(l);
		bury(l);
	}
	atomic_store(&l->stopping, false); /* so that it may run again */
}

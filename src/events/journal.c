#include "events/events_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/codec.h"
#include "sys/file.h"

/* Two locks.  `lock` guards what appenders touch (the waiting batch) and is held for the time of
 * one encoding; `io` guards the files and what is known of them, and is taken first.  An appender
 * never takes `io`, so a slow disk delays nobody (E1); it fills the batch, and past its limit
 * records are lost. */

enum { BATCH_BYTES = 256 * 1024, BATCH_LIMIT = 8 << 20, TRACE_STEPS = 16384 };
static const usec batch_delay = 50 * USEC_MSEC, tidy_interval = 3600 * USEC_SEC,
		  segment_age = 86400 * USEC_SEC;

struct batch {
	struct buf b;
	struct entries e; /* offsets relative to the batch */
};

struct events {
	char *dir;
	struct events_conf conf;

	pthread_mutex_t lock;
	pthread_cond_t more;
	struct batch waiting;
	uint64_t lost;
	bool stop;

	pthread_mutex_t io;
	struct batch spare;	 /* swapped with `waiting`, so that memory is reused */
	struct segment **closed; /* oldest first */
	size_t n_closed, cap_closed;
	struct segment *open; /* NULL: made by the next batch */
	struct entries open_entries;
	int fd; /* of open; -1 */
	uint64_t size, last_start;
	usec tidied; /* monotonic */

	pthread_t writer;
	bool has_writer;
};

/* ------------------------------------------------------------------ segments; `io` is held */

static void closed_add(struct events *e, struct segment *s)
{
	if (e->n_closed == e->cap_closed) {
		e->cap_closed = e->cap_closed ? e->cap_closed * 2 : 16;
		e->closed = xrealloc(e->closed, e->cap_closed * sizeof(struct segment *));
	}
	e->closed[e->n_closed++] = s;
}

static int open_segment(struct events *e)
{
	uint64_t start = MAX((uint64_t)clock_wall(), e->last_start + 1);
	struct segment *s = segment_new(e->dir, start);
	int fd = segment_create(s);
	if (fd < 0) {
		segment_free(s);
		return fd;
	}
	file_sync_dir(e->dir); /* a lost name is a lost moment of the timeline: E1 allows it */
	e->open = s;
	e->fd = fd;
	e->size = SEGMENT_HEAD;
	e->last_start = start;
	return 0;
}

/* E3.  Without its index the segment stays open, and is closed by a later try. */
static void close_segment(struct events *e)
{
	if (!e->open || file_sync(e->fd) < 0 || index_write(e->open, &e->open_entries) < 0)
		return;
	closed_add(e, e->open);
	close_fdp(&e->fd);
	e->fd = -1;
	e->open = NULL;
	entries_reset(&e->open_entries);
}

/* E4: whole segments, whose last record is too old. */
static void retire(struct events *e)
{
	usec before = clock_wall() - e->conf.retention;
	size_t gone = 0;
	if (e->conf.retention <= 0)
		return;
	while (gone < e->n_closed && e->closed[gone]->last < before) {
		struct segment *s = e->closed[gone++];
		file_remove(s->index);
		file_remove(s->path);
		segment_free(s);
	}
	if (!gone)
		return;
	memmove(e->closed, e->closed + gone, (e->n_closed - gone) * sizeof(struct segment *));
	e->n_closed -= gone;
}

static void tidy(struct events *e)
{
	usec now = clock_mono();
	if (e->tidied && now - e->tidied < tidy_interval)
		return;
	e->tidied = now;
	if (e->open && (uint64_t)clock_wall() > e->open->start + (uint64_t)segment_age)
		close_segment(e);
	retire(e);
}

/* Writes the batch B; what cannot be written is lost, and the file stays whole. */
static void write_batch(struct events *e, struct batch *b, uint64_t *lost)
{
	if (e->open && e->size >= e->conf.segment_bytes) {
		close_segment(e);
		retire(e);
	}
	if ((!e->open && open_segment(e) < 0) || file_write_all(e->fd, buf_span(&b->b)) < 0) {
		if (e->open && ftruncate(e->fd, (off_t)e->size) < 0)
			close_segment(e); /* a torn end is cut when it is next scanned */
		*lost += b->e.n_ids;
		return;
	}
	entries_append(&e->open_entries, &b->e, e->size);
	e->size += b->b.n;
}

/* Takes what waits and writes it; `io` is held. */
static void drain(struct events *e)
{
	uint64_t lost = 0;
	pthread_mutex_lock(&e->lock);
	struct batch b = e->waiting;
	e->waiting = e->spare;
	pthread_mutex_unlock(&e->lock);
	if (b.b.n)
		write_batch(e, &b, &lost);
	buf_reset(&b.b);
	buf_shrink(&b.b, 4 * BATCH_BYTES);
	entries_reset(&b.e);
	e->spare = b;
	if (lost) {
		pthread_mutex_lock(&e->lock);
		e->lost += lost;
		pthread_mutex_unlock(&e->lock);
	}
}

/* ------------------------------------------------------------------ the writer */

static struct timespec deadline_after(usec d)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	int64_t ns = t.tv_nsec + d * 1000;
	t.tv_sec += ns / 1000000000;
	t.tv_nsec = ns % 1000000000;
	return t;
}

/* Until there is a batch worth writing: many records, or some and a little time.  False at the end.
 */
static bool wait_for_batch(struct events *e)
{
	pthread_mutex_lock(&e->lock);
	struct timespec idle = deadline_after(tidy_interval);
	while (!e->stop && e->waiting.b.n == 0)
		if (pthread_cond_timedwait(&e->more, &e->lock, &idle) == ETIMEDOUT)
			break;
	struct timespec soon = deadline_after(batch_delay);
	while (!e->stop && e->waiting.b.n > 0 && e->waiting.b.n < BATCH_BYTES)
		if (pthread_cond_timedwait(&e->more, &e->lock, &soon) == ETIMEDOUT)
			break;
	bool go_on = !e->stop;
	pthread_mutex_unlock(&e->lock);
	return go_on;
}

static void *writer(void *arg)
{
	struct events *e = arg;
	bool go_on;
	do {
		go_on = wait_for_batch(e);
		pthread_mutex_lock(&e->io);
		drain(e);
		tidy(e);
		pthread_mutex_unlock(&e->io);
	} while (go_on);
	return NULL;
}

void events_append(struct events *e, const struct id *id, const struct event_list *l,
		   const span *keys, size_t n_keys)
{
	pthread_mutex_lock(&e->lock);
	size_t before = e->waiting.b.n;
	if (!record_put(&e->waiting.b, &e->waiting.e, id, l, keys, n_keys))
		e->lost++;
	/* The writer sleeps deeply only while nothing waits; else it wakes by itself. */
	bool wake = before == 0 || (before < BATCH_BYTES && e->waiting.b.n >= BATCH_BYTES);
	pthread_mutex_unlock(&e->lock);
	if (wake)
		pthread_cond_signal(&e->more);
}

void events_flush(struct events *e)
{
	pthread_mutex_lock(&e->io);
	drain(e);
	pthread_mutex_unlock(&e->io);
}

uint64_t events_lost(struct events *e)
{
	pthread_mutex_lock(&e->lock);
	uint64_t n = e->lost;
	pthread_mutex_unlock(&e->lock);
	return n;
}

/* ------------------------------------------------------------------ open and close */

static int by_start(const void *a, const void *b)
{
	const struct segment *x = *(struct segment *const *)a, *y = *(struct segment *const *)b;
	return (x->start > y->start) - (x->start < y->start);
}

static int list_segments(struct events *e)
{
	DIR *dir = opendir(e->dir);
	if (!dir)
		return err_from_errno(errno);
	for (struct dirent *d; (d = readdir(dir));) {
		char *end;
		unsigned long long start = strtoull(d->d_name, &end, 16);
		if (end == d->d_name + 16 && strcmp(end, ".log") == 0)
			closed_add(e, segment_new(e->dir, start));
	}
	closedir(dir);
	if (e->n_closed)
		qsort(e->closed, e->n_closed, sizeof(struct segment *), by_start);
	return 0;
}

/* E2: a segment that was not closed is read, and what is torn at its end cut.  Then E's
 * open_entries, fd and size are its. */
static int recover(struct events *e, struct segment *s)
{
	int fd = open(s->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_APPEND);
	if (fd < 0)
		return err_from_errno(errno);
	entries_reset(&e->open_entries);
	int r = segment_scan(fd, &e->open_entries, &e->size);
	if (r >= 0 && ftruncate(fd, (off_t)e->size) < 0)
		r = ERR_IO;
	if (r < 0) {
		close(fd);
		return r;
	}
	s->last = e->open_entries.last;
	e->fd = fd;
	return 0;
}

/* Every segment gets its index, or as the newest becomes the open one.  A file that is no segment
 * (made, but not begun, when the machine stopped) is removed. */
static int adopt_segments(struct events *e)
{
	size_t n = e->n_closed;
	e->n_closed = 0;
	for (size_t i = 0; i < n; i++) {
		struct segment *s = e->closed[i];
		e->last_start = s->start;
		int r = index_open(s);
		if (r < 0) {
			r = recover(e, s);
			if (r == ERR_CORRUPT) {
				file_remove(s->path);
				segment_free(s);
				continue;
			}
			if (r < 0) { /* the rest stays in the list, to be freed */
				memmove(&e->closed[e->n_closed], &e->closed[i],
					(n - i) * sizeof(struct segment *));
				e->n_closed += n - i;
				return r;
			}
			e->open = s;
			if (i + 1 == n)
				break;
			size_t kept = e->n_closed;
			close_segment(e);
			if (e->n_closed ==
			    kept) { /* no index could be written: leave it to the next start */
				close_fdp(&e->fd);
				e->fd = -1;
				e->open = NULL;
				segment_free(s);
			}
			continue;
		}
		e->closed[e->n_closed++] = s;
	}
	return 0;
}

int events_open(const struct events_conf *conf, struct events **ret, struct err_info *info)
{
	struct events *e = xcalloc(1, sizeof(*e));
	pthread_condattr_t monotonic;
	e->conf = *conf;
	e->dir = xstrdup(conf->dir);
	e->conf.dir = e->dir;
	e->fd = -1;
	e->waiting.b = BUF_INIT(BATCH_LIMIT);
	e->spare.b = BUF_INIT(BATCH_LIMIT);
	pthread_mutex_init(&e->lock, NULL);
	pthread_mutex_init(&e->io, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&e->more, &monotonic);
	pthread_condattr_destroy(&monotonic);
	int r = file_mkdirs(e->dir);
	if (r >= 0)
		r = list_segments(e);
	if (r >= 0)
		r = adopt_segments(e);
	if (r >= 0 && pthread_create(&e->writer, NULL, writer, e) != 0)
		r = ERR_NOMEM;
	if (r < 0) {
		events_close(e);
		return err_set(info, r, "the timeline cannot be opened: %s", err_text(r));
	}
	e->has_writer = true;
	*ret = e;
	return 0;
}

void events_close(struct events *e)
{
	if (!e)
		return;
	if (e->has_writer) {
		pthread_mutex_lock(&e->lock);
		e->stop = true;
		pthread_mutex_unlock(&e->lock);
		pthread_cond_signal(&e->more);
		pthread_join(e->writer, NULL);
	}
	if (e->fd >= 0)
		file_sync(e->fd);
	close_fdp(&e->fd);
	for (size_t i = 0; i < e->n_closed; i++)
		segment_free(e->closed[i]);
	free(e->closed);
	segment_free(e->open);
	entries_done(&e->open_entries);
	buf_done(&e->waiting.b);
	buf_done(&e->spare.b);
	entries_done(&e->waiting.e);
	entries_done(&e->spare.e);
	pthread_cond_destroy(&e->more);
	pthread_mutex_destroy(&e->io);
	pthread_mutex_destroy(&e->lock);
	free(e->dir);
	free(e);
}

/* ------------------------------------------------------------------ questions */

struct question {
	int fd;
	uint64_t size;
	struct arena scratch;
	/* trace */
	struct event_list *steps;
	/* find */
	span key;
	struct id *ids;
	size_t n, max;
};

static int take_steps(void *arg, uint64_t offset)
{
	struct question *q = arg;
	struct record r;
	if (record_read(q->fd, offset, q->size, &q->scratch, &r, NULL) >= 0)
		record_steps(&r, q->steps);
	arena_reset(&q->scratch);
	return 0;
}

/* Hashes may meet: the record itself says whether it is known under the key. */
static int take_id(void *arg, uint64_t offset)
{
	struct question *q = arg;
	struct record r;
	bool match = false;
	if (record_read(q->fd, offset, q->size, &q->scratch, &r, NULL) >= 0)
		for (size_t i = 0; i < r.n_keys && !match; i++)
			match = span_eq(r.keys[i], q->key);
	arena_reset(&q->scratch);
	for (size_t i = 0; match && i < q->n; i++)
		match = !id_eq(&q->ids[i], &r.id);
	if (match)
		q->ids[q->n++] = r.id;
	return q->n == q->max;
}

static int open_closed(const struct segment *s, struct question *q)
{
	int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_from_errno(errno);
	q->fd = fd;
	off_t size = lseek(fd, 0, SEEK_END);
	q->size = size > 0 ? (uint64_t)size : 0;
	return fd;
}

/* Stable by time: steps of one instant stay in the order they were appended. */
static void sort_steps(struct event_list *l)
{
	struct event **v = arena_array(l->mem, struct event *, l->count + 1), *e = l->first;
	size_t n = 0;
	for (; e; e = e->next)
		v[n++] = e;
	for (size_t i = 1; i < n; i++) { /* nearly sorted already */
		struct event *x = v[i];
		size_t j = i;
		for (; j > 0 && v[j - 1]->at > x->at; j--)
			v[j] = v[j - 1];
		v[j] = x;
	}
	l->tail = &l->first;
	for (size_t i = 0; i < n; i++) {
		*l->tail = v[i];
		l->tail = &v[i]->next;
	}
	*l->tail = NULL;
}

int events_trace(struct events *e, const struct id *id, struct arena *mem, struct event_list *ret)
{
	struct event_list l;
	event_list_init(&l, mem);
	l.limit = TRACE_STEPS;
	struct question q = { .steps = &l };
	usec born = id_time(id) -
		    60 * USEC_SEC; /* no record is older than its id, but for clocks */
	int r = 0;
	pthread_mutex_lock(&e->io);
	drain(e);
	for (size_t i = 0; r >= 0 && i < e->n_closed; i++) {
		if (e->closed[i]->last < born)
			continue;
		_cleanup_(close_fdp) int fd = r = open_closed(e->closed[i], &q);
		if (fd >= 0)
			r = index_each_id(e->closed[i], id, take_steps, &q);
	}
	q.fd = e->fd;
	q.size = e->size;
	for (size_t i = 0; i < e->open_entries.n_ids; i++)
		if (id_eq(&e->open_entries.ids[i].id, id))
			take_steps(&q, e->open_entries.ids[i].offset);
	pthread_mutex_unlock(&e->io);
	arena_done(&q.scratch);
	if (r < 0)
		return r;
	sort_steps(&l);
	*ret = l;
	if (!ret->first) /* the tail pointed into our copy */
		ret->tail = &ret->first;
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	return memcmp(((const struct id *)b)->b, ((const struct id *)a)->b, sizeof(struct id));
}

int events_find(struct events *e, span key, struct arena *mem, struct id *ret, size_t max,
		size_t *ret_n)
{
	struct question q = { .key = key_lower(span_sub(key, 0, KEY_MAX), mem),
			      .ids = ret,
			      .max = max };
	uint64_t hash = hash_stable(q.key);
	int r = 0;
	pthread_mutex_lock(&e->io);
	drain(e);
	q.fd = e->fd;
	q.size = e->size;
	for (size_t i = e->open_entries.n_keys; i-- > 0 && q.n < max;)
		if (e->open_entries.keys[i].hash == hash)
			take_id(&q, e->open_entries.keys[i].offset);
	for (size_t i = e->n_closed; r >= 0 && i-- > 0 && q.n < max;) {
		_cleanup_(close_fdp) int fd = r = open_closed(e->closed[i], &q);
		if (fd >= 0)
			r = index_each_key(e->closed[i], hash, take_id, &q);
	}
	pthread_mutex_unlock(&e->io);
	arena_done(&q.scratch);
	if (r < 0)
		return r;
	if (q.n)
		qsort(ret, q.n, sizeof(*ret), newest_first);
	*ret_n = q.n;
	return 0;
}

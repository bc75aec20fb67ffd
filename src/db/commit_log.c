#include "db/commit_log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/failpoint.h"
#include "db/commit_log_int.h"
#include "db/db_int.h"
#include "sys/file.h"

/* Where commits arrive so fast that a sync finds company within a moment, it waits for it: a sync
 * costs as much for many as for one. */
#define COMPANY_WAIT ((usec)1500)
enum { COMPANY = 8, COMPANY_EXPECTED = 3 };

enum { BATCH_MAX = 60, IOVECS = 2 * CLOG_PIECES * BATCH_MAX + 1 };

/* What one commit wrote, or a barrier.  On the heap. */
struct request {
	struct clog_file *file; /* NULL: a barrier */
	char *path;		/* FILE's, or owned */
	struct buf bytes;
	struct clog_piece p[CLOG_PIECES];
	uint32_t sums[CLOG_PIECES];
	size_t n, size;
	clog_seq seq;
	struct request *next;
};

/* Who wants to know when SEQ is durable. */
struct waiter {
	clog_seq seq;
	clog_done_fn *fn;
	void *arg;
	struct waiter *next;
};

struct segment {
	bool used; /* its records may still be needed */
	bool full; /* nothing is added any more: the cleaner's */
};

static struct {
	pthread_mutex_t mu;
	pthread_cond_t filled;	/* a segment got full, or closing: for the cleaner */
	pthread_cond_t changed; /* a segment got free, a file is let go, a batch is over */
	sem_t work;		/* wakes the writer */
	char *path, *dir;
	size_t dir_n; /* with the slash */
	bool open, closing;
	bool broken; /* L4 */
	uint64_t epoch;
	unsigned current;
	uint64_t at; /* in the current segment */
	struct segment segment[CLOG_SEGMENTS];
	struct request *head, **tail;
	size_t waiting;		/* in that queue */
	bool busy;		/* a batch is under way, or who waited for it is being told */
	bool idle;		/* the writer sleeps until something comes */
	bool in_company;	/* or until COMPANY wait */
	usec last_arrival, gap; /* between arrivals, a moving average */
	clog_seq last;
	clog_seq lost_from;
	_Atomic clog_seq lost_to;		/* of these nobody knows, or worse; 0: none */
	_Atomic clog_seq durable;		/* all before it are decided */
	struct waiter *waiters, **waiters_tail; /* in the order they asked */
	LIST_HEAD(, clog_file) dirty;
	pthread_t cleaner, writer;
	/* The writer's, but for the cleaner's use of the file: */
	int fd;
	uint64_t segment_bytes;
} lg = { .mu = PTHREAD_MUTEX_INITIALIZER,
	 .filled = PTHREAD_COND_INITIALIZER,
	 .changed = PTHREAD_COND_INITIALIZER,
	 .fd = -1 };

static int sync_fd(int fd)
{
#ifndef SKIP_SYNC_COMMIT
	while (fdatasync(fd) != 0) {
		if (errno != EINTR)
			return ERR_SYNC;
	}
#endif
	return 0;
}

static uint64_t start_of(unsigned segment)
{
	return segment * lg.segment_bytes;
}

/* ------------------------------------------------------------------ freeing segments */

/* After a failed sync the page cache may have dropped what was not written: the log still has it. */
static int sync_wal(struct clog_file *f)
{
	int r = sync_fd(f->fd);
	if (r < 0) {
		pthread_mutex_lock(&lg.mu);
		r = clog_replay_file(lg.fd, f->path, f->fd);
		pthread_mutex_unlock(&lg.mu);
		if (r >= 0)
			r = sync_fd(f->fd);
	}
	return r;
}

/* Syncs F for the segments BITS; where that fails F's database is told by its next commit (D3).  The
 * lock is held, but not meanwhile. */
static void settle(struct clog_file *f, unsigned bits)
{
	f->busy = true;
	pthread_mutex_unlock(&lg.mu);
	int r = sync_wal(f);
	pthread_mutex_lock(&lg.mu);
	f->sick |= r < 0;
	f->busy = false;
	f->dirty &= ~bits;
	if (!f->dirty)
		LIST_REMOVE(f, next);
	pthread_cond_broadcast(&lg.changed);
}

/* Syncs every file with records in a segment of BITS.  The lock is held, but not meanwhile. */
static void clean(unsigned bits)
{
	for (;;) {
		struct clog_file *f;
		LIST_FOREACH(f, &lg.dirty, next)
		if (f->dirty & bits)
			break;
		if (!f)
			return;
		if (f->busy) /* it is being closed */
			pthread_cond_wait(&lg.changed, &lg.mu);
		else
			settle(f, bits);
	}
}

static int free_segment(unsigned segment)
{
	_cleanup_(buf_donep) struct buf head = BUF_INIT(CLOG_HEAD);
	clog_head_put(&head, lg.segment_bytes, 0);
	int r = file_pwrite_all(lg.fd, buf_span(&head), start_of(segment));
	return r < 0 ? r : sync_fd(lg.fd);
}

static void *run_cleaner(void *arg)
{
	pthread_mutex_lock(&lg.mu);
	while (!lg.closing) {
		unsigned i = lg.current ^ 1;
		if (!lg.segment[i].full) {
			pthread_cond_wait(&lg.filled, &lg.mu);
			continue;
		}
		clean(1u << i);
		pthread_mutex_unlock(&lg.mu);
		FAILPOINT("db.commit_log.before_free");
		int r = free_segment(i);
		pthread_mutex_lock(&lg.mu);
		if (r < 0)
			lg.broken = true;
		lg.segment[i] = (struct segment){ 0 };
		pthread_cond_broadcast(&lg.changed);
	}
	pthread_mutex_unlock(&lg.mu);
	return NULL;
}

/* ------------------------------------------------------------------ a new log */

static void close_file(void)
{
	close_fdp(&lg.fd);
	lg.fd = -1;
}

/* Puts a new, empty log in place of what was there.  All WALs are on disk. */
static int make_log(void)
{
	_cleanup_(close_fdp) int fd = -1;
	int r = file_replace(lg.path, SPAN_NULL, 0600);
	if (r < 0)
		return r;
	fd = open(lg.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_from_errno(errno);
	close_file();
	lg.fd = STEAL_FD(&fd);
	return 0;
}

/* L4.  The lock is held.  By the writer. */
static int mend(void)
{
	while (lg.segment[lg.current ^ 1].full && !lg.closing) /* the cleaner comes to its end */
		pthread_cond_wait(&lg.changed, &lg.mu);
	clean(~0u);
	int r = make_log();
	if (r < 0)
		return ERR_SYNC;
	lg.broken = false;
	lg.current = 0;
	lg.at = 0;
	for (unsigned i = 0; i < CLOG_SEGMENTS; i++)
		lg.segment[i] = (struct segment){ 0 };
	return 0;
}

/* ------------------------------------------------------------------ batches */

/* The lock is held.  Makes the other segment the current one. */
static void turn(void)
{
	lg.segment[lg.current].full = true;
	pthread_cond_signal(&lg.filled);
	lg.current ^= 1;
	while (lg.segment[lg.current].used)
		pthread_cond_wait(&lg.changed, &lg.mu);
	lg.at = 0;
}

/* The lock is held.  Takes what fits the current segment off the queue, and counts it as there. */
static struct request *take_batch(void)
{
	size_t n = 0;
	struct request *first = lg.head, **p = &lg.head;
	uint64_t at = lg.at ? lg.at : CLOG_HEAD;
	if (at + first->size > lg.segment_bytes) {
		turn();
		at = CLOG_HEAD;
	}
	for (; *p && n < BATCH_MAX && at + (*p)->size <= lg.segment_bytes; p = &(*p)->next) {
		struct clog_file *f = (*p)->file;
		at += (*p)->size;
		n++;
		if (!f)
			continue;
		if (!f->dirty)
			LIST_INSERT_HEAD(&lg.dirty, f, next);
		f->dirty |= 1u << lg.current;
	}
	first = lg.head;
	lg.head = *p;
	if (!lg.head)
		lg.tail = &lg.head;
	*p = NULL;
	lg.waiting -= n;
	lg.segment[lg.current].used = true;
	return first;
}

/* BATCH as bytes: heads and paths in HEADS, data where it is. */
static int gather(const struct request *batch, struct buf *heads, struct iovec *iov)
{
	int n = 0;
	for (const struct request *q = batch; q; q = q->next) {
		struct clog_record rec = { .kind = q->file ? CLOG_DATA : CLOG_BARRIER,
					   .epoch = lg.epoch,
					   .path = span_str(q->path) };
		for (size_t i = 0; i < MAX(q->n, (size_t)1); i++) {
			size_t from = heads->n;
			if (q->n) {
				rec.at = q->p[i].at;
				rec.data = q->p[i].bytes;
				rec.sum = q->sums[i];
			}
			clog_record_put(heads, &rec);
			iov[n++] = (struct iovec){ heads->p + from, heads->n - from };
			if (rec.data.n)
				iov[n++] = (struct iovec){ (void *)rec.data.p, rec.data.n };
		}
	}
	return n;
}

static int write_all(int fd, struct iovec *iov, int n, uint64_t at)
{
	while (n > 0) {
		ssize_t w = pwritev(fd, iov, n, (off_t)at);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return ERR_SYNC;
		at += (uint64_t)w;
		for (; n > 0 && (size_t)w >= iov->iov_len; iov++, n--)
			w -= (ssize_t)iov->iov_len;
		if (n > 0) {
			iov->iov_base = (char *)iov->iov_base + w;
			iov->iov_len -= (size_t)w;
		}
	}
	return 0;
}

/* Writes and syncs BATCH at AT of the current segment. */
static int write_batch(const struct request *batch, uint64_t at, uint64_t *ret_end)
{
	_cleanup_(buf_donep) struct buf heads = BUF_INIT(SIZE_MAX);
	struct iovec iov[IOVECS];
	uint64_t end = at;
	size_t room = CLOG_HEAD;
	int pieces;
	for (const struct request *q = batch; q; q = q->next)
		room += MAX(q->n, (size_t)1) * (CLOG_RECORD_HEAD + strlen(q->path));
	buf_reserve(&heads, room); /* it must not move below */
	if (at == 0)
		clog_head_put(&heads, lg.segment_bytes, lg.epoch);
	iov[0] = (struct iovec){ heads.p, heads.n };
	pieces = gather(batch, &heads, iov + 1) + 1;
	for (int i = 0; i < pieces; i++)
		end += iov[i].iov_len;
	*ret_end = end;
	int r = write_all(lg.fd, iov, pieces, start_of(lg.current) + at);
	FAILPOINT("db.commit_log.before_sync");
	return r < 0 ? r : sync_fd(lg.fd);
}

/* ------------------------------------------------------------------ the writer */

static void free_batch(struct request *batch)
{
	for (struct request *next; batch; batch = next) {
		next = batch->next;
		if (!batch->file)
			free(batch->path);
		buf_done(&batch->bytes);
		free(batch);
	}
}

/* The lock is held. */
static int result_of(clog_seq seq)
{
	return lg.lost_to && seq >= lg.lost_from && seq <= lg.lost_to ? ERR_SYNC : 0;
}

/* All up to SEQ is decided; BATCH has let go of its files.  Tells those who wait, with the lock
 * released meanwhile. */
static void decide(const struct request *batch, clog_seq seq, int r)
{
	clog_seq from = atomic_load(&lg.durable) + 1;
	if (r < 0) {
		lg.broken = true;
		lg.lost_from = lg.lost_from ? MIN(lg.lost_from, from) : from;
		lg.lost_to = seq;
	}
	atomic_store(&lg.durable, seq);
	for (const struct request *q = batch; q; q = q->next) {
		if (!q->file)
			continue;
		q->file->pending--;
		q->file->sick |= r < 0;
	}
	pthread_cond_broadcast(&lg.changed);
	struct waiter *told = NULL, **tail = &told;
	for (struct waiter **p = &lg.waiters, *w; (w = *p);) {
		if (w->seq > seq) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		*tail = w;
		tail = &w->next;
	}
	*tail = NULL;
	lg.waiters_tail = &lg.waiters;
	while (*lg.waiters_tail)
		lg.waiters_tail = &(*lg.waiters_tail)->next;
	pthread_mutex_unlock(&lg.mu);
	for (struct waiter *w = told, *next; w; w = next) {
		next = w->next; /* W may be gone after */
		w->fn(r, w->arg);
		free(w);
	}
	pthread_mutex_lock(&lg.mu);
}

/* The lock is held, but not while it waits. */
static void wait_for_company(void)
{
	usec due = clock_mono() + COMPANY_WAIT;
	struct timespec ts = { .tv_sec = due / USEC_SEC, .tv_nsec = due % USEC_SEC * 1000 };
	if (lg.gap * COMPANY_EXPECTED > COMPANY_WAIT)
		return;
	lg.in_company = true;
	while (lg.in_company) {
		pthread_mutex_unlock(&lg.mu);
		bool late = sem_clockwait(&lg.work, CLOCK_MONOTONIC, &ts) != 0 &&
			    errno == ETIMEDOUT;
		pthread_mutex_lock(&lg.mu);
		lg.in_company &= !late;
	}
}

/* One batch.  The lock is held, but not while it writes. */
static void write_some(void)
{
	struct request *batch;
	int r = 0;
	lg.busy = true;
	if (lg.broken)
		r = mend();
	if (r < 0) {
		batch = lg.head;
		lg.head = NULL;
		lg.tail = &lg.head;
		lg.waiting = 0;
		decide(batch, lg.last, r);
	} else {
		wait_for_company();
		batch = take_batch();
		uint64_t at = lg.at, end = 0;
		clog_seq seq = 0;
		for (const struct request *q = batch; q; q = q->next)
			seq = q->seq;
		if (at == 0)
			lg.epoch++;
		pthread_mutex_unlock(&lg.mu);
		r = write_batch(batch, at, &end);
		pthread_mutex_lock(&lg.mu);
		lg.at = end;
		decide(batch, seq, r);
	}
	pthread_mutex_unlock(&lg.mu);
	free_batch(batch);
	pthread_mutex_lock(&lg.mu);
	lg.busy = false;
	pthread_cond_broadcast(&lg.changed);
}

static void *run_writer(void *arg)
{
	pthread_mutex_lock(&lg.mu);
	while (!lg.closing || lg.head) {
		if (lg.head) {
			write_some();
			continue;
		}
		lg.idle = true;
		pthread_mutex_unlock(&lg.mu);
		while (sem_wait(&lg.work) != 0 && errno == EINTR)
			;
		pthread_mutex_lock(&lg.mu);
		lg.idle = false;
	}
	pthread_mutex_unlock(&lg.mu);
	return NULL;
}

/* ------------------------------------------------------------------ asking */

/* Takes over Q.  The writer is woken only where it sleeps. */
static int submit(struct request *q, clog_seq *ret)
{
	usec now = clock_mono();
	pthread_mutex_lock(&lg.mu);
	if (q->file && q->file->sick) {
		pthread_mutex_unlock(&lg.mu);
		free_batch(q);
		return ERR_SYNC;
	}
	if (q->file)
		q->file->pending++;
	lg.gap = (7 * lg.gap + MIN(now - lg.last_arrival, 8 * COMPANY_WAIT)) / 8;
	lg.last_arrival = now;
	*ret = q->seq = ++lg.last;
	*lg.tail = q;
	lg.tail = &q->next;
	lg.waiting++;
	bool wake = lg.idle || (lg.in_company && lg.waiting >= COMPANY);
	if (wake)
		lg.idle = lg.in_company = false;
	pthread_mutex_unlock(&lg.mu);
	if (wake)
		sem_post(&lg.work);
	return 0;
}

void clog_when_durable(clog_seq seq, clog_done_fn *fn, void *arg)
{
	pthread_mutex_lock(&lg.mu);
	bool known = seq <= atomic_load(&lg.durable);
	int r = known ? result_of(seq) : 0;
	if (!known) {
		struct waiter *w = xmalloc(sizeof(*w));
		*w = (struct waiter){ seq, fn, arg, NULL };
		*lg.waiters_tail = w;
		lg.waiters_tail = &w->next;
	}
	pthread_mutex_unlock(&lg.mu);
	if (known)
		fn(r, arg);
}

struct sleeper {
	sem_t wake;
	int result;
};

static void wake_sleeper(int result, void *arg)
{
	struct sleeper *s = arg;
	s->result = result;
	sem_post(&s->wake);
}

int clog_wait(clog_seq seq)
{
	struct sleeper s;
	if (seq <= atomic_load(&lg.durable) && !atomic_load(&lg.lost_to))
		return 0; /* the usual case takes no lock */
	sem_init(&s.wake, 0, 0);
	clog_when_durable(seq, wake_sleeper, &s);
	while (sem_wait(&s.wake) != 0 && errno == EINTR)
		;
	sem_destroy(&s.wake);
	return s.result;
}

static int put_barrier(const char *path)
{
	struct request *q = xcalloc(1, sizeof(*q));
	clog_seq seq;
	q->path = xstrdup(path);
	q->size = CLOG_RECORD_HEAD + strlen(path);
	int r = submit(q, &seq);
	return r < 0 ? r : clog_wait(seq);
}

/* ------------------------------------------------------------------ WALs */

/* PATH below the log's directory, or NULL. */
static const char *below(const char *path)
{
	if (!lg.open || strncmp(path, lg.dir, lg.dir_n) != 0 || strlen(path + lg.dir_n) > CLOG_PATH)
		return NULL;
	return path + lg.dir_n;
}

void clog_attach(struct clog_file *f, int fd, const char *path)
{
	const char *name = below(path);
	*f = (struct clog_file){ .fd = fd, .path = name ? xstrdup(name) : NULL };
}

void clog_detach(struct clog_file *f)
{
	if (!f->path)
		return;
	pthread_mutex_lock(&lg.mu);
	while (f->busy || f->pending)
		pthread_cond_wait(&lg.changed, &lg.mu);
	if (f->dirty)
		settle(f, ~0u);
	pthread_mutex_unlock(&lg.mu);
	free(STEAL_PTR(&f->path));
}

/* L3.  What came before it in other files is on disk first: the order of commits is kept. */
int clog_sync_alone(struct clog_file *f)
{
	if (!f->path)
		return sync_fd(f->fd);
	pthread_mutex_lock(&lg.mu);
	clog_seq before = lg.last;
	pthread_mutex_unlock(&lg.mu);
	int r = clog_wait(before);
	if (!r)
		r = sync_fd(f->fd);
	return r ? r : put_barrier(f->path);
}

int clog_sync(struct clog_file *f, struct buf *bytes, const struct clog_piece *p, size_t n,
	      clog_seq *ret)
{
	if (!f->path)
		return sync_fd(f->fd);
	assert(n > 0 && n <= CLOG_PIECES);
	struct request *q = xcalloc(1, sizeof(*q));
	q->file = f;
	q->path = f->path;
	q->bytes = *bytes;
	q->n = n;
	*bytes = BUF_INIT(bytes->max);
	for (size_t i = 0; i < n; i++) {
		q->p[i] = p[i];
		q->size += CLOG_RECORD_HEAD + strlen(q->path) + p[i].bytes.n;
		q->sums[i] = crc32c(0, p[i].bytes);
	}
	return submit(q, ret);
}

int clog_forget(const char *path)
{
	const char *name = below(path);
	return name ? put_barrier(name) : 0;
}

/* ------------------------------------------------------------------ opening */

/* What a crash left in the log goes to where it belongs. */
static int replay(struct err_info *info)
{
	_cleanup_(close_fdp) int fd = open(lg.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT
			       ? 0
			       : err_set(info, err_from_errno(errno), "%s: cannot be opened: %s",
					 lg.path, err_text(err_from_errno(errno)));
	int r = clog_replay(fd, lg.dir);
	return r < 0 ? err_set(info, r, "%s: cannot be replayed: %s", lg.path, err_text(r)) : 0;
}

static void forget_names(void)
{
	free(STEAL_PTR(&lg.path));
	free(STEAL_PTR(&lg.dir));
}

int db_log_open(const char *dir, uint64_t segment_bytes, struct err_info *info)
{
	assert(!lg.open && (!segment_bytes || segment_bytes >= DB_LOG_MIN));
	_cleanup_(freep) char *real = realpath(dir, NULL);
	if (!real)
		return err_set(info, err_from_errno(errno), "%s: cannot be opened", dir);
	if (asprintf(&lg.dir, "%s/", real) < 0 || asprintf(&lg.path, "%s/commit.log", real) < 0)
		abort();
	lg.dir_n = strlen(lg.dir);
	int r = replay(info);
	if (!r && (r = make_log()) < 0)
		err_set(info, r, "%s: cannot be made: %s", lg.path, err_text(r));
	if (r || !segment_bytes) {
		close_file();
		forget_names();
		return r;
	}
	lg.segment_bytes = segment_bytes;
	lg.tail = &lg.head;
	lg.waiters_tail = &lg.waiters;
	lg.current = 0;
	lg.at = lg.epoch = 0;
	lg.closing = lg.broken = false;
	for (unsigned i = 0; i < CLOG_SEGMENTS; i++)
		lg.segment[i] = (struct segment){ 0 };
	sem_init(&lg.work, 0, 0);
	if (pthread_create(&lg.cleaner, NULL, run_cleaner, NULL) != 0 ||
	    pthread_create(&lg.writer, NULL, run_writer, NULL) != 0)
		abort(); /* only at start */
	pthread_setname_np(lg.writer, "commit");
	pthread_setname_np(lg.cleaner, "commit-clean");
	lg.open = true;
	return 0;
}

void db_log_drain(void)
{
	pthread_mutex_lock(&lg.mu);
	while (lg.open && (lg.head || lg.busy))
		pthread_cond_wait(&lg.changed, &lg.mu);
	pthread_mutex_unlock(&lg.mu);
}

void db_log_close(void)
{
	if (!lg.open)
		return;
	pthread_mutex_lock(&lg.mu);
	assert(LIST_EMPTY(&lg.dirty)); /* a database is still open */
	lg.closing = true;
	pthread_cond_signal(&lg.filled);
	sem_post(&lg.work);
	pthread_mutex_unlock(&lg.mu);
	pthread_join(lg.writer, NULL);
	pthread_join(lg.cleaner, NULL);
	sem_destroy(&lg.work);
	(void)make_log(); /* what it holds is on disk: to replay it would be in vain */
	close_file();
	forget_names();
	lg.open = false;
}

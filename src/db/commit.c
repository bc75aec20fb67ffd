/* Group commit: who arrives first leads and runs the functions of all who wait (D2, D3, D4). */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "db/commit_log.h"
#include "db/db_int.h"

#define VACUUM_PAGES 256 /* fewer free pages are left for what comes */

/* --- the flusher: leads batches of asynchronous writes for which nobody waits.  One thread for the
 * process, started with the first such write. --- */
static struct {
	pthread_once_t once;
	pthread_mutex_t mu;
	pthread_cond_t work, idle;
	struct db *head, **tail;
	struct db *current;
} flusher = { .once = PTHREAD_ONCE_INIT,
	      .mu = PTHREAD_MUTEX_INITIALIZER,
	      .work = PTHREAD_COND_INITIALIZER,
	      .idle = PTHREAD_COND_INITIALIZER,
	      .tail = &flusher.head };

static void *flusher_run(void *arg)
{
	pthread_mutex_lock(&flusher.mu);
	for (;;) {
		while (!flusher.head)
			pthread_cond_wait(&flusher.work, &flusher.mu);
		struct db *d = flusher.head;
		flusher.head = d->flush_next;
		if (!flusher.head)
			flusher.tail = &flusher.head;
		d->flush_queued = false;
		flusher.current = d;
		pthread_mutex_unlock(&flusher.mu);
		db_drain(d);
		pthread_mutex_lock(&flusher.mu);
		flusher.current = NULL;
		pthread_cond_broadcast(&flusher.idle);
	}
	return NULL;
}

static void flusher_start(void)
{
	pthread_t t;
	if (pthread_create(&t, NULL, flusher_run, NULL) != 0)
		abort();
	pthread_detach(t);
}

static void flusher_add(struct db *d)
{
	pthread_once(&flusher.once, flusher_start);
	pthread_mutex_lock(&flusher.mu);
	if (!d->flush_queued) {
		d->flush_queued = true;
		d->flush_next = NULL;
		*flusher.tail = d;
		flusher.tail = &d->flush_next;
		pthread_cond_signal(&flusher.work);
	}
	pthread_mutex_unlock(&flusher.mu);
}

/* Afterwards the flusher neither works on D nor will. */
static void flusher_forget(struct db *d)
{
	pthread_mutex_lock(&flusher.mu);
	for (struct db **p = &flusher.head; *p; p = &(*p)->flush_next) {
		if (*p != d)
			continue;
		*p = d->flush_next;
		if (!*p)
			flusher.tail = p;
		d->flush_queued = false;
		break;
	}
	while (flusher.current == d)
		pthread_cond_wait(&flusher.idle, &flusher.mu);
	pthread_mutex_unlock(&flusher.mu);
}

/* Of the calling thread. */
static _Thread_local struct deferral {
	bool active;
	uint64_t ticket; /* the last of its commits */
} deferral;

/* --- the queue --- */

static void push(struct db *d, struct db_req *r)
{
	r->next = NULL;
	*d->tail = r;
	d->tail = &r->next;
}

static void wake(struct db_req *r)
{
	sem_post(&r->wake); /* R may be gone right after */
}

static void wait_for(struct db_req *r)
{
	while (sem_wait(&r->wake) != 0 && errno == EINTR)
		;
}

/* Gives the writer to the next who waits for it. */
static void hand_over(struct db *d)
{
	bool flush = false;
	pthread_mutex_lock(&d->mu);
	struct db_req **p = &d->head;
	while (*p && (*p)->kind == DB_REQ_ASYNC)
		p = &(*p)->next;
	struct db_req *r = *p;
	if (r) {
		d->leader = r->thread;
		if (r->kind == DB_REQ_OWN) {
			*p = r->next;
			if (!*p)
				d->tail = p;
		}
		wake(r);
	} else {
		d->led = false;
		flush = d->head != NULL;
	}
	pthread_mutex_unlock(&d->mu);
	if (flush)
		flusher_add(d);
}

/* Becomes leader if nobody is.  A thread that owns the writer (inside a write function, or in a
 * single-connection read) would wait for itself: a programmer's error. */
static bool try_lead(struct db *d)
{
	if (d->led) {
		assert(!pthread_equal(d->leader, pthread_self()));
		return false;
	}
	d->led = true;
	d->leader = pthread_self();
	return true;
}

void db_own_any(struct db *d)
{
	struct db_req r = { .kind = DB_REQ_OWN, .thread = pthread_self() };
	pthread_mutex_lock(&d->mu);
	if (try_lead(d)) {
		pthread_mutex_unlock(&d->mu);
		return;
	}
	sem_init(&r.wake, 0, 0);
	push(d, &r);
	pthread_mutex_unlock(&d->mu);
	wait_for(&r);
	sem_destroy(&r.wake);
}

int db_own(struct db *d)
{
	db_own_any(d);
	if (!atomic_load(&d->poison))
		return 0;
	db_disown(d);
	return ERR_SYNC;
}

void db_disown(struct db *d)
{
	hand_over(d);
}

/* --- a batch --- */

static int rollback(struct db_tx *w, int err)
{
	db_stmts_reset(w);
	if (!sqlite3_get_autocommit(w->sq) && db_step(&w->rollback) < 0 &&
	    !sqlite3_get_autocommit(w->sq)) {
		atomic_store(&w->d->poison, ERR_SYNC); /* stuck: nothing can be promised any more */
		return ERR_SYNC;
	}
	return err;
}

static int commit(struct db_tx *w)
{
	db_wal_commit = (struct db_wal_commit){ .may_wait = true };
	int rc = sqlite3_step(w->commit.s);
	db_wal_commit.may_wait = false;
	if (db_wal_commit.seq)
		atomic_store(&w->d->last_seq, db_wal_commit.seq);
	int err = rc == SQLITE_DONE ? 0 : db_err(w->sq, rc);
	if (err && (err == ERR_IO || db_rc_poisons(w->sq, rc))) {
		atomic_store(&w->d->poison, ERR_SYNC);
		err = ERR_SYNC;
	}
	sqlite3_reset(w->commit.s);
	return err ? rollback(w, err) : 0;
}

static int run_one(struct db_tx *w, struct db_req *r, bool savepoint, bool *ret_failed)
{
	int err = savepoint ? db_run(w, "SAVEPOINT one", "") : 0;
	if (err)
		return err;
	r->result = r->fn(w, r->arg);
	db_stmts_reset(w);
	if (w->fatal)
		return w->fatal;
	if (sqlite3_get_autocommit(w->sq))
		return ERR_IO; /* undone by SQLite without a statement that said so */
	if (r->result < 0)
		*ret_failed = true;
	if (!savepoint)
		return 0;
	if (r->result < 0 && (err = db_run(w, "ROLLBACK TO one", "")) < 0)
		return err;
	return db_run(w, "RELEASE one", "");
}

/* Runs all functions and commits.  Without SAVEPOINTS the first that fails undoes everything and
 * sets *RET_FAILED. */
static int attempt(struct db_tx *w, struct db_req *batch, bool savepoints, bool *ret_failed)
{
	*ret_failed = false;
	w->fatal = 0;
	int err = db_step(&w->begin);
	if (err < 0)
		return rollback(w, err);
	for (struct db_req *r = batch; r; r = r->next) {
		err = run_one(w, r, savepoints, ret_failed);
		if (err < 0)
			return rollback(w, err);
		if (*ret_failed && !savepoints)
			return rollback(w, 0);
	}
	return commit(w);
}

/* Failures are rare and a savepoint copies every page that is touched, so a batch first runs
 * without; it is repeated with savepoints if one of several failed. */
static void run_batch(struct db *d, struct db_req *batch, size_t n)
{
	bool failed;
	int err = atomic_load(&d->poison);
	if (!err)
		err = attempt(d->writer, batch, false, &failed);
	if (!err && failed && n > 1)
		err = attempt(d->writer, batch, true, &failed);
	/* Without a change of its own a function still rests on what it read. */
	clog_seq seq = err ? 0 : atomic_load(&d->last_seq);
	for (struct db_req *r = batch; r; r = r->next) {
		r->seq = seq;
		if (err)
			r->result = err;
		else if (r->result > 0)
			r->result = 0;
	}
	uint64_t commits = atomic_fetch_add(&d->commits, 1);
	atomic_fetch_add(&d->batched, n);
	if (commits % 256 == 0)
		db_note_memory(d);
}

/* Everything at the front of the queue that may share a commit. */
static struct db_req *take_batch(struct db *d, size_t *ret_n)
{
	pthread_mutex_lock(&d->mu);
	struct db_req *first = d->head, **p = &d->head;
	size_t n = 0;
	while (*p && (*p)->kind != DB_REQ_OWN && n < DB_MAX_BATCH) {
		p = &(*p)->next;
		n++;
	}
	if (n > 0) {
		d->head = *p;
		if (!d->head)
			d->tail = &d->head;
		*p = NULL;
	}
	pthread_mutex_unlock(&d->mu);
	*ret_n = n;
	return n ? first : NULL;
}

int db_settled(struct db *d, uint64_t seq)
{
	int r = clog_wait(seq);
	if (r < 0)
		atomic_store(&d->poison, r);
	return r;
}

/* Tells those who wait, but not OWN, the leader's request. */
static void finish(struct db *d, struct db_req *batch, const struct db_req *own,
		   enum db_req_kind kind)
{
	for (struct db_req *r = batch, *next; r; r = next) {
		next = r->next;
		if (r->kind != kind) {
			continue;
		} else if (kind == DB_REQ_ASYNC) {
			if (r->done)
				r->done(r->result ? r->result : db_settled(d, r->seq), r->arg);
		} else if (r != own) {
			wake(r);
		}
	}
}

/* Unlinks the asynchronous requests, which finish() has told, and frees them. */
static struct db_req *drop_async(struct db_req *batch)
{
	struct db_req *keep = NULL, **tail = &keep;
	for (struct db_req *r = batch, *next; r; r = next) {
		next = r->next;
		if (r->kind == DB_REQ_ASYNC) {
			free(r);
			continue;
		}
		r->next = NULL;
		*tail = r;
		tail = &r->next;
	}
	return keep;
}

/* One batch by the leader, who stays leader. */
static struct db_req *lead_batch(struct db *d)
{
	size_t n;
	struct db_req *batch = take_batch(d, &n);
	if (!batch)
		return NULL;
	run_batch(d, batch, n);
	for (struct db_req *r = batch; r; r = r->next)
		r->finished = true;
	finish(d, batch, NULL, DB_REQ_ASYNC);
	return drop_async(batch);
}

/* Leads until OWN has run, then hands over.  Whoever waits is told before a checkpoint, but after
 * the hand-over otherwise, so that the next batch starts at once. */
static void lead(struct db *d, struct db_req *own)
{
	struct db_req *batch;
	for (;;) {
		batch = lead_batch(d);
		if (!own || own->finished)
			break;
		finish(d, batch, own, DB_REQ_WRITE);
	}
	if (atomic_load(&d->wal_pages) > DB_WAL_SAFETY) {
		finish(d, batch, own, DB_REQ_WRITE);
		db_checkpoint_owned(d);
		batch = NULL;
	}
	hand_over(d);
	finish(d, batch, own, DB_REQ_WRITE);
}

void db_drain(struct db *d)
{
	for (;;) {
		pthread_mutex_lock(&d->mu);
		bool mine = !d->led && d->head;
		if (mine) {
			d->led = true;
			d->leader = pthread_self();
		}
		pthread_mutex_unlock(&d->mu);
		if (!mine)
			return;
		lead(d, NULL);
	}
}

int db_write(struct db *d, db_write_fn *fn, void *arg)
{
	if (atomic_load(&d->poison))
		return ERR_SYNC;
	struct db_req r = { .kind = DB_REQ_WRITE, .fn = fn, .arg = arg, .thread = pthread_self() };
	pthread_mutex_lock(&d->mu);
	bool leads = try_lead(d);
	if (!leads)
		sem_init(&r.wake, 0, 0);
	push(d, &r);
	pthread_mutex_unlock(&d->mu);
	if (!leads) {
		wait_for(&r); /* told the result, or made leader */
		sem_destroy(&r.wake);
		leads = !r.finished;
	}
	if (leads)
		lead(d, &r);
	if (r.result)
		return r.result;
	if (!deferral.active)
		return db_settled(d, r.seq);
	deferral.ticket = MAX(deferral.ticket, r.seq);
	return 0;
}

void db_defer_begin(void)
{
	assert(!deferral.active);
	deferral = (struct deferral){ .active = true };
}

uint64_t db_defer_end(void)
{
	deferral.active = false;
	return deferral.ticket;
}

void db_when_durable(uint64_t ticket, void (*fn)(int result, void *arg), void *arg)
{
	clog_when_durable(ticket, fn, arg);
}

void db_write_async(struct db *d, db_write_fn *fn, void (*done)(int result, void *arg), void *arg)
{
	struct db_req *r = xcalloc(1, sizeof(*r));
	*r = (struct db_req){ .kind = DB_REQ_ASYNC, .fn = fn, .done = done, .arg = arg };
	pthread_mutex_lock(&d->mu);
	push(d, r);
	bool flush = !d->led; /* a leader sees it at its hand-over */
	pthread_mutex_unlock(&d->mu);
	if (flush)
		flusher_add(d);
}

/* --- checkpoints --- */

int db_checkpoint_owned(struct db *d)
{
	int log = 0, done = 0;
	int rc = sqlite3_wal_checkpoint_v2(d->writer->sq, NULL, SQLITE_CHECKPOINT_PASSIVE, &log,
					   &done);
	if (rc == SQLITE_OK || rc == SQLITE_BUSY) {
		atomic_store(&d->wal_pages, log > done ? (size_t)(log - done) : 0);
		return 0;
	}
	int err = db_err(d->writer->sq, rc);
	if (db_rc_poisons(d->writer->sq, rc)) {
		/* The WAL still holds every commit, but a page of the file may be lost silently. */
		atomic_store(&d->poison, ERR_SYNC);
		err = ERR_SYNC;
	}
	return err;
}

/* Gives pages back to the file system, a piece at a time, where much of the file is free. */
static int give_back(struct db_tx *w)
{
	int64_t pages = 0, unused = 0;
	int r = db_get_i64(w, &pages, "PRAGMA page_count", "");
	if (r > 0)
		r = db_get_i64(w, &unused, "PRAGMA freelist_count", "");
	if (r < 0 || unused < VACUUM_PAGES || unused < pages / 4)
		return MIN(r, 0);
	int rc = sqlite3_exec(w->sq, "PRAGMA incremental_vacuum(1024)", NULL, NULL, NULL);
	if (rc != SQLITE_OK && db_rc_poisons(w->sq, rc)) {
		atomic_store(&w->d->poison, ERR_SYNC);
		return ERR_SYNC;
	}
	return rc == SQLITE_OK ? 0 : rollback(w, db_err(w->sq, rc));
}

int db_checkpoint(struct db *d)
{
	int r = db_own(d);
	if (r)
		return r;
	r = give_back(d->writer);
	if (!r || r == ERR_FULL) /* the checkpoint may be what makes room */
		r = db_checkpoint_owned(d);
	db_note_memory(d);
	db_disown(d);
	return r;
}

size_t db_wal_pages(const struct db *d)
{
	return atomic_load(&d->wal_pages);
}

void db_counts(const struct db *d, uint64_t *ret_commits, uint64_t *ret_writes)
{
	*ret_commits = atomic_load(&d->commits);
	*ret_writes = atomic_load(&d->batched);
}

/* Also forgets D in the flusher; for db_close. */
void db_drain_last(struct db *d)
{
	flusher_forget(d);
	db_drain(d);
	flusher_forget(d);
}

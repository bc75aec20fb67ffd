/* Read transactions: a small pool of read-only connections, or the owner's only one. */
#include <assert.h>

#include "db/db_int.h"

static int begin(struct db_tx *c)
{
	c->fatal = 0;
	return db_step(&c->begin);
}

static int begin_single(struct db *d, struct db_tx **ret)
{
	int r = db_own(d);
	if (r)
		return r;
	r = begin(d->writer);
	if (r < 0) {
		db_disown(d);
		return r;
	}
	*ret = d->writer;
	return 0;
}

/* An idle reader, or the right to open one (*RET NULL). */
static int take_reader(struct db *d, struct db_tx **ret)
{
	int r = 0;
	pthread_mutex_lock(&d->mu);
	while (!d->idle_readers && (d->n_readers >= DB_MAX_READERS || d->closing_readers))
		pthread_cond_wait(&d->reader_free, &d->mu);
	if (atomic_load(&d->poison)) {
		r = ERR_SYNC;
	} else {
		*ret = d->idle_readers;
		if (*ret)
			d->idle_readers = (*ret)->next;
		else
			d->n_readers++;
		d->n_reading++;
	}
	pthread_mutex_unlock(&d->mu);
	return r;
}

/* C goes back to the pool, or, if NULL, its place becomes free. */
static void give_reader(struct db *d, struct db_tx *c)
{
	pthread_mutex_lock(&d->mu);
	if (c) {
		c->next = d->idle_readers;
		d->idle_readers = c;
	} else {
		d->n_readers--;
	}
	d->n_reading--;
	pthread_cond_broadcast(&d->reader_free);
	pthread_mutex_unlock(&d->mu);
}

int db_read_begin(struct db *d, struct db_tx **ret)
{
	if (d->flags & DB_SINGLE_CONNECTION)
		return begin_single(d, ret);
	struct db_tx *c = NULL;
	int r = take_reader(d, &c);
	if (r)
		return r;
	if (!c)
		r = db_conn_open(d, false, &c, NULL);
	if (!r)
		r = begin(c);
	if (r < 0) {
		db_conn_close(c);
		give_reader(d, NULL);
		return r;
	}
	*ret = c;
	return 0;
}

void db_read_end(struct db_tx *tx)
{
	if (!tx)
		return;
	struct db *d = tx->d;
	db_stmts_reset(tx);
	/* What was read must not be told before it is durable. */
	(void)db_settled(d, atomic_load(&d->last_seq));
	int r = db_step(&tx->commit);
	if (r < 0 && !sqlite3_get_autocommit(tx->sq))
		r = db_step(&tx->rollback);
	if (tx->writer) {
		db_disown(d);
		return;
	}
	bool broken = r < 0 || tx->fatal;
	if (broken)
		db_conn_close(tx);
	give_reader(d, broken ? NULL : tx);
}

void db_readers_close(struct db *d)
{
	pthread_mutex_lock(&d->mu);
	d->closing_readers = true;
	while (d->n_reading)
		pthread_cond_wait(&d->reader_free, &d->mu);
	struct db_tx *c;
	while ((c = d->idle_readers)) {
		d->idle_readers = c->next;
		d->n_readers--;
		db_conn_close(c);
	}
	d->closing_readers = false;
	pthread_cond_broadcast(&d->reader_free);
	pthread_mutex_unlock(&d->mu);
}

#include "queue/queue_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/codec.h"
#include "base/failpoint.h"
#include "sys/file.h"

/* ------------------------------------------------------------------ bodies */

/* Q1: the bytes, synced and named, with their directory, before any row speaks of them. */
static int place_blob(struct queue *q, struct insert *in)
{
	snprintf(in->blob, sizeof(in->blob), "%02u-%016llx", in->s->no,
		 (unsigned long long)random_u64());
	_cleanup_(freep) char *path = blob_path(q, in->blob);
	const struct queue_message_in *m = in->m;
	int r = ERR_INVAL;
	FAILPOINT("queue.blob.before_link");
	if (!m->body.p)
		r = file_spool_link(m->spool_fd, path);
	if (r < 0 && r != ERR_FULL &&
	    r != ERR_SYNC) { /* in memory, or spooled on another file system */
		_cleanup_(close_fdp) int fd = file_spool_open(q->blobs);
		if (fd < 0)
			return fd;
		r = m->body.p ? file_write_all(fd, m->body)
			      : file_copy_all(m->spool_fd, 0, in->size, fd);
		if (r >= 0)
			r = file_spool_link(fd, path);
	}
	FAILPOINT("queue.blob.after_link");
	return r;
}

static int spool_size(int fd, uint64_t *ret)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return ERR_IO;
	*ret = (uint64_t)st.st_size;
	return 0;
}

static int take_body(struct queue *q, struct arena *mem, struct insert *in)
{
	const struct queue_message_in *m = in->m;
	in->size = m->body.n;
	if (!m->body.p && m->size > 0) {
		int r = spool_size(m->spool_fd, &in->size);
		if (r < 0)
			return r;
	}
	if (in->size > q->conf.inline_max)
		return place_blob(q, in);
	in->body = m->body;
	if (m->body.p || m->size == 0)
		return 0;
	char *p = arena_alloc(mem, in->size + 1);
	in->body = span_of(p, in->size);
	return file_pread_all(m->spool_fd, p, in->size, 0);
}

/* ------------------------------------------------------------------ rows */

static int by_route_and_time(const void *a, const void *b, void *rcpts)
{
	const struct queue_rcpt_in *all = rcpts;
	const struct queue_rcpt_in *x = &all[*(const uint32_t *)a], *y = &all[*(const uint32_t *)b];
	int c = span_cmp(x->route, y->route);
	return c ? c : (x->not_before > y->not_before) - (x->not_before < y->not_before);
}

int insert_prepare(struct queue *q, struct shard *s, const struct queue_message_in *m,
		   struct arena *mem, struct insert *ret)
{
	if (m->n_rcpts == 0 || m->n_rcpts > INT32_MAX)
		return ERR_INVAL;
	struct insert in = { .m = m, .s = s, .at = clock_wall() };
	int r = take_body(q, mem, &in);
	if (r < 0) {
		insert_abandon(q, &in, r);
		return r;
	}
	in.row = atomic_fetch_add(&s->last_message, 1) + 1;
	in.first_rcpt = atomic_fetch_add(&s->last_rcpt, (int64_t)m->n_rcpts) + 1;
	in.keys = arena_alloc(mem, m->n_rcpts * sizeof(in.keys[0]));
	random_bytes(in.keys, m->n_rcpts * sizeof(in.keys[0]));
	in.order = arena_array(mem, uint32_t, m->n_rcpts);
	for (size_t i = 0; i < m->n_rcpts; i++)
		in.order[i] = (uint32_t)i;
	qsort_r(in.order, m->n_rcpts, sizeof(in.order[0]), by_route_and_time, (void *)m->rcpts);
	*ret = in;
	return 0;
}

static int write_rcpt(struct db_tx *tx, const struct insert *in, size_t i)
{
	const struct queue_rcpt_in *r = &in->m->rcpts[i];
	return db_run(tx,
		      "INSERT INTO recipient(row, message, address, route, original, notify, key, "
		      "state, attempts, next_at,"
		      " fixed, held) VALUES(?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?)",
		      "iisssibiii", in->first_rcpt + (int64_t)i, in->row, r->address, r->route,
		      r->original, (int64_t)r->notify, span_of(in->keys[i], 16),
		      r->not_before ? r->not_before : in->at, (int64_t)(r->not_before != 0),
		      (int64_t)in->m->held);
}

static int64_t flags_of(const struct queue_message_in *m)
{
	return (m->smtputf8 ? FLAG_SMTPUTF8 : 0) | (m->body_8bit ? FLAG_8BIT : 0) |
	       (m->is_dsn ? FLAG_DSN : 0) | (m->ret_full ? FLAG_RET_FULL : 0) |
	       (m->ret_hdrs ? FLAG_RET_HDRS : 0) | (m->terms.require_tls ? FLAG_REQUIRE_TLS : 0) |
	       (m->terms.by_return ? FLAG_BY_RETURN : 0) | (m->terms.by_trace ? FLAG_BY_TRACE : 0);
}

int insert_write(struct db_tx *tx, const struct insert *in)
{
	const struct queue_message_in *m = in->m;
	int r = 0;
	if (m->once.n)
		r = db_run(tx, "INSERT INTO once(key, at) VALUES(?, ?)", "bi", m->once, in->at);
	if (r >= 0)
		r = db_run(tx,
			   "INSERT INTO message(row, id, sender, account, envid, size, flags, "
			   "accepted_at, deliver_by, priority, held_until, blob)"
			   " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ''))",
			   "ibsssuiiiiiz", in->row, span_of(m->id.b, sizeof(m->id.b)), m->sender,
			   m->account_id, m->envid, in->size, flags_of(m), in->at,
			   m->terms.deliver_by, (int64_t)m->terms.priority, m->held_until,
			   in->blob);
	if (r >= 0 && !in->blob[0])
		r = db_run(tx, "INSERT INTO body(message, data) VALUES(?, ?)", "ib", in->row,
			   in->body);
	for (size_t i = 0; r >= 0 && i < m->n_rcpts; i++)
		r = write_rcpt(tx, in, i);
	return r;
}

void insert_schedule(struct queue *q, const struct insert *in)
{
	const struct queue_rcpt_in *rcpts = in->m->rcpts;
	size_t n = in->m->n_rcpts;
	_cleanup_(freep) int64_t *rows = xcalloc(n, sizeof(*rows));
	for (size_t from = 0, to; from < n; from = to) {
		const struct queue_rcpt_in *first = &rcpts[in->order[from]];
		for (to = from; to < n; to++) {
			const struct queue_rcpt_in *r = &rcpts[in->order[to]];
			if (r->not_before != first->not_before || !span_eq(r->route, first->route))
				break;
			rows[to - from] = in->first_rcpt + in->order[to];
		}
		schedule_add(
			q, &(struct waiting){ .shard = in->s->no,
					      .message = in->row,
					      .id = &in->m->id,
					      .route = first->route,
					      .due = first->not_before ? first->not_before : in->at,
					      .priority = in->m->terms.priority,
					      .fixed = first->not_before != 0,
					      .held = in->m->held,
					      .rows = rows,
					      .n = to - from });
	}
}

void insert_abandon(struct queue *q, const struct insert *in, int err)
{
	/* After a failed sync nobody knows whether the row is there: the sweep decides once that is
	 * clear. */
	if (in->blob[0] && err != ERR_SYNC)
		blob_remove(q, in->blob);
}

/* ------------------------------------------------------------------ accept */

static int write_accept(struct db_tx *tx, void *arg)
{
	return insert_write(tx, arg);
}

/* The id's own shard, or the next one that is healthy; a transfer that may be repeated must meet
 * its earlier self. */
static int pick_shard(struct queue *q, const struct queue_message_in *m, struct shard **ret)
{
	uint64_t h = hash_stable(m->once.n ? m->once : span_of(m->id.b, sizeof(m->id.b)));
	int r = ERR_SYNC;
	for (unsigned i = 0; r < 0 && i < (m->once.n ? 1 : q->n_shards); i++) {
		*ret = &q->shard[(h + i) % q->n_shards];
		r = shard_healthy(*ret);
	}
	return r;
}

int queue_accept(struct queue *q, const struct queue_message_in *m)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct shard *s;
	struct insert in;
	int r = pick_shard(q, m, &s);
	if (r >= 0)
		r = insert_prepare(q, s, m, &mem, &in);
	if (r < 0)
		return r;
	FAILPOINT("queue.accept.before_commit");
	r = db_write(in.s->db, write_accept, &in);
	if (r < 0) {
		insert_abandon(q, &in, r);
		return r == ERR_EXIST && m->once.n ? 0 : r;
	}
	FAILPOINT("queue.accept.after_commit");
	pthread_mutex_lock(&q->lock);
	insert_schedule(q, &in);
	schedule_unlock(q);
	return 0;
}

#include "queue/queue_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sys/file.h"

static char *join(const char *dir, const char *name)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4096);
	buf_put_str(&b, dir);
	buf_put_char(&b, '/');
	buf_put_str(&b, name);
	return xstrdup(buf_cstr(&b));
}

/* The number of shards is a property of the queue on disk: a recipient in 7.db must be found even
 * if the configuration now says four. */
static int settle_shards(struct queue *q, struct err_info *info)
{
	_cleanup_(freep) char *path = join(q->dir, "shards");
	_cleanup_(buf_donep) struct buf b = BUF_INIT(16);
	uint64_t n;
	int r = file_read(path, 16, &b);
	if (r == ERR_NOENT) {
		if (q->conf.shards < 1 || q->conf.shards > SHARDS_MAX)
			return err_set(info, ERR_INVAL, "a queue has 1 to %d shards", SHARDS_MAX);
		buf_printf(&b, "%u\n", q->conf.shards);
		r = file_replace(path, buf_span(&b), 0600);
	}
	if (r < 0)
		return err_set(info, r, "the queue's number of shards: %s", err_text(r));
	if (!span_u64(span_trim(buf_span(&b)), SHARDS_MAX, &n) || n == 0)
		return err_set(info, ERR_CORRUPT, "the queue's number of shards is not readable");
	q->n_shards = (unsigned)n;
	return 0;
}

static int open_all(struct queue *q, struct err_info *info)
{
	int r = file_mkdirs(q->blobs);
	if (r < 0)
		return err_set(info, r, "the queue's directory: %s", err_text(r));
	r = settle_shards(q, info);
	return r < 0 ? r : load_begin(q, info);
}

int queue_open(const struct queue_conf *conf, struct queue **ret, struct err_info *info)
{
	struct queue *q = xcalloc(1, sizeof(*q));
	arena_init(&q->rules_mem);
	retry_take_conf(q, conf);
	q->dir = xstrdup(conf->dir);
	q->blobs = join(conf->dir, "blobs");
	q->conf.dir = q->dir;
	schedule_init(q);
	q->armed = true;
	q->wall_minus_mono = clock_wall() - clock_mono();
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->read, NULL);
	int r = open_all(q, info);
	if (r >= 0)
		r = queue_sweep(q);
	if (r < 0) {
		if (info && !info->code)
			err_set(info, r, "the queue's blobs: %s", err_text(r));
		queue_close(q);
		return r;
	}
	load_await(q, q->conf.open_wait);
	*ret = q;
	return 0;
}

void queue_close(struct queue *q)
{
	if (!q)
		return;
	load_end(q);
	for (unsigned i = 0; i < q->n_shards; i++)
		db_close(q->shard[i].db);
	schedule_free(q);
	for (struct unsettled *u = q->unsettled, *next; u; u = next) {
		next = u->next;
		unsettled_free(u);
	}
	pthread_cond_destroy(&q->read);
	pthread_mutex_destroy(&q->lock);
	arena_done(&q->rules_mem);
	free(q->dir);
	free(q->blobs);
	free(q);
}

void queue_set_conf(struct queue *q, const struct queue_conf *conf)
{
	struct queue_conf next = *conf;
	next.dir = q->dir;
	next.shards = q->conf.shards;
	next.inline_max = q->conf.inline_max;
	pthread_mutex_lock(&q->lock);
	retry_take_conf(q, &next);
	pthread_mutex_unlock(&q->lock);
	queue_clock_changed(q);
}

void queue_on_due(struct queue *q, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&q->lock);
	q->on_due = fn;
	q->on_due_arg = arg;
	pthread_mutex_unlock(&q->lock);
}

void queue_clock_changed(struct queue *q)
{
	usec now = clock_wall();
	pthread_mutex_lock(&q->lock);
	q->wall_minus_mono = now - clock_mono();
	schedule_clamp(q, now);
	/* What waits for the time that was told must ask again: times mean something else now. */
	if (q->later.n || q->ready.n)
		q->told = 0;
	schedule_unlock(q);
}

void queue_stats(struct queue *q, uint64_t *ret_messages, uint64_t *ret_rcpts, uint64_t *ret_leased)
{
	pthread_mutex_lock(&q->lock);
	*ret_messages = idmap_count(q->messages);
	*ret_rcpts = q->n_rcpts;
	*ret_leased = q->n_leased;
	pthread_mutex_unlock(&q->lock);
}

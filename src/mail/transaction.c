/* A transaction and its body while it arrives. */
#include "mail/mail_int.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "sys/file.h"

#define HEAD_MIN      (256 * 1024)   /* room for any honest header, whatever the inline limit */
#define KEPT_MAX      (64u << 20)    /* of all bodies under way; then only headers stay */
#define KEPT_MAX_HARD (4 * KEPT_MAX) /* not even those */

static atomic_size_t kept; /* memory of all transactions' bodies */

struct mail_transaction *mail_transaction_new(void)
{
	struct mail_transaction *t = xcalloc(1, sizeof *t);

	arena_init(&t->mem);
	t->id = id_new();
	event_list_init(&t->events, &t->mem);
	t->rcpts_tail = &t->rcpts;
	t->spool_fd = -1;
	message_scan_init(&t->scan);
	return t;
}

static void forget_body(struct mail_transaction *t)
{
	atomic_fetch_sub(&kept, t->body.cap);
	buf_done(&t->body);
}

void mail_transaction_free(struct mail_transaction *t)
{
	if (!t)
		return;
	if (t->spool_fd >= 0)
		close(t->spool_fd);
	forget_body(t);
	mail_inspection_free(t->inspection);
	mail_filters_free(t->filters);
	arena_done(&t->mem);
	free(t);
}

/* Keeps what may stay in memory of PIECE and returns how much that is.  Many slow senders together
 * are bounded too: past KEPT_MAX a message goes to disk as soon as its header (HEADED) is here. */
static int keep_body(struct mail_transaction *t, span piece, bool headed)
{
	size_t n = MIN(piece.n, t->body.max - t->body.n), before = t->body.cap;
	size_t others = atomic_load(&kept);
	int e;

	if (headed && others + n > KEPT_MAX)
		return 0;
	if (others + n > KEPT_MAX_HARD) {
		forget_body(t); /* nothing will come of it */
		return ERR_AGAIN;
	}
	e = buf_put_span(&t->body, span_sub(piece, 0, n));
	atomic_fetch_add(&kept, t->body.cap - before);
	return e < 0 ? e : (int)n;
}

int mail_body_add(struct core_env *env, struct mail_transaction *t, span piece, uint64_t max_size)
{
	bool headed = !t->scan.in_header;
	struct conf *conf;
	int e;

	if (t->body_size + piece.n > max_size)
		return ERR_TOOBIG;
	message_scan_feed(&t->scan, piece);
	t->body_size += piece.n;
	if (t->spool_fd >= 0)
		return file_write_all(t->spool_fd, piece);
	if (!t->body.max) {
		conf = env->conf(env);
		buf_init(&t->body, MAX((size_t)conf->inline_max, (size_t)HEAD_MIN));
		conf_unref(conf);
	}
	/* The beginning stays in memory for good: the header is checked there.  What follows goes
	 * to disk. */
	e = keep_body(t, piece, headed);
	if (e < 0)
		return e;
	piece = span_from(piece, (size_t)e);
	if (!piece.n)
		return 0;
	t->spool_fd = file_spool_open(env->spool_dir);
	if (t->spool_fd < 0) {
		e = t->spool_fd;
		t->spool_fd = -1;
		return e;
	}
	return file_write_all(t->spool_fd, piece);
}

int mail_body_set_header(struct mail_transaction *t, span header, size_t old)
{
	struct buf fresh;
	int e;

	buf_init(&fresh, t->body.max + header.n); /* it may have grown */
	buf_put_span(&fresh, header);
	e = buf_put_span(&fresh, span_from(buf_span(&t->body), old));
	if (e < 0) {
		buf_done(&fresh);
		return e;
	}
	t->body_size = t->body_size - old + header.n;
	forget_body(t);
	t->body = fresh;
	atomic_fetch_add(&kept, t->body.cap);
	return 0;
}

struct buf mail_body_take(struct mail_transaction *t)
{
	struct buf taken = t->body;

	atomic_fetch_sub(&kept, taken.cap);
	buf_init(&t->body, taken.max);
	t->spool_fd = -1;
	t->body_size = 0;
	message_scan_init(&t->scan);
	return taken;
}

int mail_body_replace(struct core_env *env, struct mail_transaction *t, size_t header_size, int fd,
		      uint64_t from, uint64_t n, uint64_t max_size)
{
	enum { PIECE = 64 * 1024 };
	_cleanup_(buf_donep) struct buf header = BUF_INIT(header_size);
	_cleanup_(freep) char *piece = xmalloc(PIECE);
	int e;

	buf_put_span(&header, span_sub(buf_span(&t->body), 0, header_size));
	forget_body(t);
	close_fdp(&t->spool_fd);
	t->spool_fd = -1;
	t->body_size = 0;
	message_scan_init(&t->scan);
	e = mail_body_add(env, t, buf_span(&header), max_size);
	while (e == 0 && n) {
		size_t want = (size_t)MIN(n, (uint64_t)PIECE);

		e = file_pread_all(fd, piece, want, from);
		if (e == 0)
			e = mail_body_add(env, t, span_of(piece, want), max_size);
		from += want;
		n -= want;
	}
	return e;
}

void mail_step(struct event_list *l, const char *name, const char *key, span value)
{
	event_span(event_note(l, name), key, value, l->mem);
}

void mail_timeline(struct core_env *env, const struct id *id, struct event_list *l,
		   const span *keys, size_t n)
{
	enum { KEYS = 64 }; /* of one record */
	struct event_list none;

	events_append(env->events, id, l, keys, MIN(n, (size_t)KEYS));
	event_list_init(&none, l->mem);
	for (size_t i = KEYS; i < n; i += KEYS)
		events_append(env->events, id, &none, keys + i, MIN(n - i, (size_t)KEYS));
}

struct mail_verdict verdict_of_error(int err)
{
	switch (err) {
	case ERR_FULL:
		return (struct mail_verdict){ 452, "4.3.1",
					      SPAN("the disk is full, try again later") };
	case ERR_QUOTA:
		return (struct mail_verdict){ 452, "4.2.2", SPAN("the mailbox is full") };
	case ERR_TOOBIG:
		return (struct mail_verdict){
			552, "5.3.4", SPAN("the message is larger than this server takes")
		};
	case ERR_AGAIN:
		return (struct mail_verdict){ 451, "4.3.2",
					      SPAN("the server is busy, try again later") };
	default:
		return (struct mail_verdict){
			451, "4.3.0", SPAN("the message could not be stored, try again later")
		};
	}
}

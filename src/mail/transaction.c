/* A transaction and its body while it arrives. */
#include "mail/mail_int.h"

#include <stdlib.h>
#include <unistd.h>

#include "sys/file.h"

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

void mail_transaction_free(struct mail_transaction *t)
{
	if (!t)
		return;
	if (t->spool_fd >= 0)
		close(t->spool_fd);
	buf_done(&t->body);
	arena_done(&t->mem);
	free(t);
}

int mail_body_add(struct core_env *env, struct mail_transaction *t, span piece, uint64_t max_size)
{
	struct conf *conf;
	size_t inline_max;
	int e;

	if (t->body_size + piece.n > max_size)
		return ERR_TOOBIG;
	message_scan_feed(&t->scan, piece);
	t->body_size += piece.n;
	if (t->spool_fd >= 0)
		return file_write_all(t->spool_fd, piece);
	conf = env->conf(env);
	inline_max = conf->inline_max;
	conf_unref(conf);
	if (!t->body.max)
		buf_init(&t->body, MAX(inline_max * 2, (size_t)256 * 1024));
	/* The beginning stays in memory for good: the header is checked there.  What follows goes
	 * to disk. */
	if (t->body_size <= inline_max)
		return buf_put_span(&t->body, piece);
	t->spool_fd = file_spool_open(env->spool_dir);
	if (t->spool_fd < 0) {
		e = t->spool_fd;
		t->spool_fd = -1;
		return e;
	}
	return file_write_all(t->spool_fd, piece);
}

void mail_step(struct event_list *l, const char *name, const char *key, span value)
{
	event_span(event_note(l, name), key, value, l->mem);
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

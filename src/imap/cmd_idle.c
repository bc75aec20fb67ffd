#include "imap/session_int.h"

/* IDLE (RFC 2177).  A parked session is woken by the store's watch and only then looks. */

static void look(void *arg, int64_t mailbox)
{
	struct imap_session *st = arg;
	sess_wake(st->s->table, st->s->id);
}

struct imap_answer imap_cmd_idle(struct imap_job *j, struct imap_args *a)
{
	struct imap_session *st = j->st;
	imap_set_tag(st, a->tag);
	/* The watch first, then the look: what is committed between the two is seen by either. */
	st->watch = store_watch_add(j->env->store, span_str(st->account_id), st->mailbox, look, st);
	buf_put_str(sess_out(j->s), "+ idling\r\n");
	if (st->state == IMAP_IN_SELECTED)
		imap_sync(j, false);
	return imap_later();
}

void imap_idle_stop(struct imap_session *st)
{
	if (st->watch)
		store_watch_del(st->watch);
	st->watch = NULL;
}

void imap_idle_line(struct imap_job *j, span line)
{
	imap_idle_stop(j->st);
	struct imap_answer a = span_ieq_str(line, "DONE\r\n") ? imap_ok("IDLE completed")
							      : imap_bad("Expected DONE");
	imap_finish(j, j->st->tag, &a, false);
	imap_set_tag(j->st, SPAN_NULL);
}

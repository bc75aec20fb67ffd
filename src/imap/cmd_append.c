#include "imap/session_int.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "sys/file.h"

/* APPEND (RFC 3501 6.3.11, RFC 4315 APPENDUID).  A small message is in the command; a larger one
 * comes in pieces, kept in memory up to the inline limit and in a spool file beyond it. */

struct imap_append {
	char *tag;
	span mailbox;		 /* malloc'd */
	struct imap_flags flags; /* in MEM */
	struct arena mem;
	usec date;
	uint64_t size, got;
	uint64_t inline_max;
	struct buf bytes;
	int fd;
	int err; /* first failure: what still comes is dropped */
};

void imap_append_free(struct imap_append *a)
{
	if (!a)
		return;
	buf_done(&a->bytes);
	arena_done(&a->mem);
	free(a->tag);
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

uint64_t imap_append_size(const struct imap_append *a)
{
	return a->size;
}

static struct imap_answer answer_of(struct imap_job *j, int r, uint32_t uidvalidity,
				    struct imap_uid uid)
{
	switch (r) {
	case 0:
		return imap_ok(arena_printf(j->s->mem, "[APPENDUID %u %u] APPEND completed",
					    uidvalidity, uid.v));
	case ERR_NOENT:
		return imap_no("[TRYCREATE] No such mailbox");
	case ERR_SYNTAX:
		return imap_no("[CANNOT] Message holds a NUL byte");
	case ERR_INVAL:
		return imap_no("[CANNOT] Message or mailbox name is not allowed");
	default:
		return imap_error(r);
	}
}

static struct imap_answer commit(struct imap_job *j, span mailbox, const struct imap_flags *flags,
				 struct store_message *m)
{
	struct account *acc;
	struct imap_uid uid = { 0 };
	uint32_t uidvalidity = 0;
	int r = imap_account(j, &acc);
	if (r == 0)
		r = imap_flags_resolve(acc, flags, true, &m->flags);
	m->trace = id_new();
	if (r == 0)
		r = store_append(acc, mailbox, false, m, &uid, &uidvalidity);
	if (r < 0 && r != ERR_NOENT)
		log_event(LOG_NOTICE, "imap.append_failed", F_STR("account", j->st->account_id),
			  F_U64("size", m->size), F_ERR(r));
	return answer_of(j, r, uidvalidity, uid);
}

/* Before the client sends it: is there room, and a place? */
static int admissible(struct imap_job *j, span mailbox, uint64_t size)
{
	struct account *acc;
	struct mailbox_info m;
	_cleanup_(conf_unrefp) struct conf *conf = j->env->conf(j->env);
	if (size > conf->max_message)
		return ERR_TOOBIG;
	int r = imap_account(j, &acc);
	if (r == 0)
		r = store_mailbox_find(acc, mailbox, j->s->mem, &m);
	return r == 0 && !m.selectable ? ERR_NOENT : r;
}

static struct imap_answer begin(struct imap_job *j, const struct imap_args *args)
{
	_cleanup_(conf_unrefp) struct conf *conf = j->env->conf(j->env);
	struct imap_append *a = xcalloc(1, sizeof(*a));
	*a = (struct imap_append){ .tag = span_dup(args->tag),
				   .date = args->has_date ? args->date : 0,
				   .size = args->literal.n,
				   .inline_max = conf->inline_max,
				   .bytes = BUF_INIT(conf->max_message),
				   .fd = -1 };
	arena_init(&a->mem);
	a->mailbox = arena_span(&a->mem, args->mailbox[0]);
	a->flags = (struct imap_flags){ .system = args->flags.system,
					.n_keywords = args->flags.n_keywords };
	a->flags.keywords = arena_array(&a->mem, span, args->flags.n_keywords);
	for (size_t i = 0; i < args->flags.n_keywords; i++)
		a->flags.keywords[i] = arena_span(&a->mem, args->flags.keywords[i]);
	j->st->append = a;
	return imap_later();
}

struct imap_answer imap_cmd_append(struct imap_job *j, struct imap_args *a)
{
	uint64_t size = a->pending ? a->literal.n : a->message.n;
	int r = admissible(j, a->mailbox[0], size);
	if (r == ERR_TOOBIG)
		return imap_no("[TOOBIG] Message is too large");
	if (r < 0)
		return answer_of(j, r, 0, (struct imap_uid){ 0 });
	if (a->pending)
		return begin(j, a);
	if (size == 0)
		return imap_no("[CANNOT] Message is empty");
	struct store_message m = { .bytes = a->message,
				   .spool_fd = -1,
				   .size = size,
				   .internal_date = a->has_date ? a->date : 0 };
	return commit(j, a->mailbox[0], &a->flags, &m);
}

static int spill(struct imap_job *j, struct imap_append *a)
{
	a->fd = file_spool_open(j->env->spool_dir);
	if (a->fd < 0)
		return a->fd;
	int r = file_write_all(a->fd, buf_span(&a->bytes));
	buf_done(&a->bytes);
	return r;
}

void imap_append_body(struct imap_job *j, const struct sess_in *in)
{
	struct imap_append *a = j->st->append;
	if (!a || in->data.n > a->size - a->got) { /* front counts; one that does not is broken */
		j->st->closing = true;
		return;
	}
	a->got += in->data.n;
	if ((in->body_flags & SESS_BODY_BAD) && !a->err)
		a->err = ERR_SYNTAX;
	if (!a->err && a->fd < 0 && a->bytes.n + in->data.n > a->inline_max)
		a->err = spill(j, a);
	if (!a->err)
		a->err = a->fd >= 0 ? file_write_all(a->fd, in->data)
				    : buf_put_span(&a->bytes, in->data);
}

void imap_append_line(struct imap_job *j, span line)
{
	struct imap_append *a = j->st->append;
	j->st->append = NULL;
	struct imap_answer answer;
	if (!span_eq_str(line, "\r\n") || a->got != a->size) {
		answer = imap_bad("Expected the end of the line behind the message");
	} else if (a->err) {
		answer = answer_of(j, a->err, 0, (struct imap_uid){ 0 });
	} else {
		struct store_message m = { .bytes = buf_span(&a->bytes),
					   .spool_fd = a->fd,
					   .size = a->size,
					   .internal_date = a->date };
		answer = commit(j, a->mailbox, &a->flags, &m);
	}
	imap_finish(j, a->tag, &answer, false);
	imap_append_free(a);
}

/* Local recipients of a queued message. */
#include "mail/mail_int.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "format/header.h"
#include "sys/file.h"

#define PIECE	   (256u * 1024)
#define HEADER_MAX (128u * 1024) /* of the stored message, read for the loop check */

struct delivery {
	struct core_env *env;
	const struct queue_lease *lease;
	struct arena *mem;
	struct event_list *events;
	struct buf head; /* the whole message when it is small, else its beginning */
	size_t inline_max;
};

static void result_set(struct queue_result *r, enum rcpt_outcome outcome, const char *status,
		       span reply)
{
	r->outcome = outcome;
	snprintf(r->status, sizeof r->status, "%s", status);
	r->reply = reply;
}

/* Trace fields and message as one file, for a body that is not kept in memory. */
static int spool_copy(struct delivery *d, span first, uint64_t *ret_size)
{
	_cleanup_(close_fdp) int fd = file_spool_open(d->env->spool_dir);
	_cleanup_(buf_donep) struct buf piece = BUF_INIT(PIECE);
	int e;

	if (fd < 0)
		return STEAL_FD(&fd);
	e = file_write_all(fd, first);
	for (uint64_t at = 0; e == 0 && at < d->lease->size; at += PIECE) {
		buf_reset(&piece);
		e = queue_body_read(d->env->queue, d->lease, at, PIECE, &piece);
		if (e >= 0)
			e = file_write_all(fd, buf_span(&piece));
	}
	if (e < 0)
		return e;
	*ret_size = first.n + d->lease->size;
	return STEAL_FD(&fd);
}

static int append(struct delivery *d, struct account *a, const struct queue_rcpt *rcpt,
		  struct imap_uid *ret_uid)
{
	_cleanup_(buf_donep) struct buf first = BUF_INIT(2048), whole = BUF_INIT(0);
	_cleanup_(close_fdp) int fd = -1;
	struct store_message m = { .spool_fd = -1, .trace = d->lease->id };
	uint32_t validity;
	int e, slot;

	memcpy(m.delivery_key, rcpt->key, sizeof m.delivery_key);
	trace_delivery_put(&first, d->lease->sender, rcpt->address);
	if (d->lease->size > d->inline_max) {
		fd = spool_copy(d, buf_span(&first), &m.size);
		if (fd < 0)
			return STEAL_FD(&fd);
		m.spool_fd = fd;
	} else {
		buf_init(&whole, first.n + d->head.n);
		buf_put_span(&whole, buf_span(&first));
		buf_put_span(&whole, buf_span(&d->head));
		m.bytes = buf_span(&whole);
		m.size = whole.n;
	}
	m.opaque = poison_enter(d->env->poison, POISON_DELIVER, buf_span(&d->head), &slot);
	e = store_append(a, SPAN("INBOX"), true, &m, ret_uid, &validity);
	poison_leave(d->env->poison, slot);
	return e;
}

static void deliver_one(struct delivery *d, const struct queue_rcpt *rcpt, struct queue_result *r)
{
	_cleanup_(account_putp) struct account *a = NULL;
	struct directory_match match = { 0 };
	struct address to;
	struct imap_uid uid = { 0 };
	int e = 0;

	r->row = rcpt->row;
	if (address_parse(rcpt->address, ADDRESS_ALLOW_UTF8, d->mem, &to) != ADDRESS_OK ||
	    directory_lookup(d->env->directory, &to, d->mem, &match) < 0) {
		result_set(r, OUTCOME_DEFERRED, "4.3.0",
			   SPAN("451 4.3.0 the directory cannot be read now"));
		return;
	}
	if (match.kind == DIRECTORY_SUSPENDED) {
		result_set(r, OUTCOME_FAILED, "5.2.1", SPAN("550 5.2.1 this mailbox is disabled"));
		return;
	}
	if (match.kind == DIRECTORY_ALIAS) {
		/* The address became an alias while the message waited; an admin can still drop or
		 * wait. */
		result_set(r, OUTCOME_DEFERRED, "4.3.5",
			   SPAN("451 4.3.5 the address has become an alias"));
		return;
	}
	if (match.kind != DIRECTORY_ACCOUNT) {
		result_set(r, OUTCOME_FAILED, "5.1.1", SPAN("550 5.1.1 no such user here"));
		return;
	}
	if (trace_loops(span_sub(buf_span(&d->head), 0, header_size(buf_span(&d->head))),
			rcpt->address)) {
		count_add(COUNT_LOOPS, 1);
		result_set(r, OUTCOME_FAILED, "5.4.6",
			   SPAN("554 5.4.6 this message was delivered here before: a loop"));
		return;
	}
	e = account_get(d->env->store, span_str(match.account.id), &a, NULL);
	if (e == 0)
		e = append(d, a, rcpt, &uid);
	if (e < 0) {
		struct mail_verdict v = verdict_of_error(e);

		result_set(r, OUTCOME_DEFERRED, v.enhanced,
			   span_str(arena_printf(d->mem, "%u %s %.*s", v.code, v.enhanced,
						 SPAN_FMT(v.text))));
		return;
	}
	result_set(r, OUTCOME_DELIVERED, "2.1.5", SPAN("250 2.1.5 delivered"));
	struct event *ev = event_note(d->events, "store.append");
	event_span(ev, "account", rcpt->address, d->mem);
	event_str(ev, "mailbox", "INBOX", d->mem);
	event_u64(ev, "uid", uid.v, d->mem);
	count_add(COUNT_DELIVERED_LOCAL, 1);
}

void mail_deliver_local(struct core_env *env, const struct queue_lease *l)
{
	_cleanup_(arena_donep) struct arena mem;
	struct event_list events;
	struct conf *conf = env->conf(env);
	struct delivery d = { .env = env,
			      .lease = l,
			      .mem = &mem,
			      .events = &events,
			      .inline_max = conf->inline_max };
	struct queue_result *results;
	int e;

	conf_unref(conf);
	arena_init(&mem);
	event_list_init(&events, &mem);
	results = arena_array(&mem, struct queue_result, l->n_rcpts);
	buf_init(&d.head, MAX(d.inline_max, (size_t)HEADER_MAX));
	e = queue_body_read(env->queue, l, 0, l->size > d.inline_max ? HEADER_MAX : l->size,
			    &d.head);
	for (size_t i = 0; i < l->n_rcpts; i++) {
		if (e >= 0) {
			deliver_one(&d, &l->rcpts[i], &results[i]);
			continue;
		}
		results[i].row = l->rcpts[i].row;
		result_set(&results[i], OUTCOME_DEFERRED, "4.3.0",
			   SPAN("451 4.3.0 the queued message cannot be read now"));
	}
	buf_done(&d.head);
	/* A settle that fails leaves the rows waiting; the delivery keys keep the repetition from
	 * doubling. */
	if (mail_settle(env, l, results, l->n_rcpts, &events) < 0)
		queue_release(env->queue, l);
}

void mail_drop_keys(struct core_env *env)
{
	_cleanup_(arena_donep) struct arena mem;
	struct queue_key *keys;
	size_t n;

	arena_init(&mem);
	if (queue_keys_take(env->queue, 1000, &mem, &keys, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		_cleanup_(account_putp) struct account *a = NULL;
		struct directory_match m = { 0 };
		struct address to;

		if (address_parse(keys[i].address, ADDRESS_ALLOW_UTF8, &mem, &to) == ADDRESS_OK &&
		    directory_lookup(env->directory, &to, &mem, &m) == 0 &&
		    m.kind == DIRECTORY_ACCOUNT &&
		    account_get(env->store, span_str(m.account.id), &a, NULL) == 0 &&
		    store_key_drop(a, keys[i].key) < 0)
			return;
	}
	if (n)
		(void)queue_key_done(env->queue, keys, n);
}

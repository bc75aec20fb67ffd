/* Local recipients of a queued message. */
#include "mail/mail_int.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/map.h"
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
	bool opaque; /* poison */
};

static void result_set(struct queue_result *r, enum rcpt_outcome outcome, const char *status,
		       span reply)
{
	r->outcome = outcome;
	snprintf(r->status, sizeof r->status, "%s", status);
	r->reply = reply;
}

static void result_of_verdict(struct delivery *d, struct queue_result *r, struct mail_verdict v)
{
	result_set(
		r, v.code < 500 ? OUTCOME_DEFERRED : OUTCOME_FAILED, v.enhanced,
		span_str(arena_printf(d->mem, "%u %s %.*s", v.code, v.enhanced, SPAN_FMT(v.text))));
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
		  uint64_t quota, struct imap_uid *ret_uid)
{
	_cleanup_(buf_donep) struct buf first = BUF_INIT(2048), whole = BUF_INIT(0);
	_cleanup_(close_fdp) int fd = -1;
	struct store_message m = {
		.spool_fd = -1, .trace = d->lease->id, .opaque = d->opaque, .quota = quota
	};
	uint32_t validity;

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
	return store_append(a, mail_mailbox_of(d->lease->route), true, &m, ret_uid, &validity);
}

static int accept_again(struct delivery *d, const struct queue_rcpt *rcpt,
			const struct queue_rcpt_in *to, size_t n)
{
	const struct queue_lease *l = d->lease;
	_cleanup_(buf_donep) struct buf once = BUF_INIT(64);
	_cleanup_(close_fdp) int fd = -1;
	struct queue_message_in m = { .id = l->id,
				      .sender = l->sender,
				      .spool_fd = -1,
				      .size = l->size,
				      .smtputf8 = l->smtputf8,
				      .body_8bit = l->body_8bit,
				      .is_dsn = l->is_dsn,
				      .ret_full = l->ret_full,
				      .ret_hdrs = l->ret_hdrs,
				      .envid = l->envid,
				      .terms = l->terms,
				      .rcpts = to,
				      .n_rcpts = n };

	buf_put_str(&once, "rerouted ");
	buf_put(&once, rcpt->key, sizeof rcpt->key);
	m.once = buf_span(&once);
	if (l->size > d->inline_max) {
		fd = spool_copy(d, SPAN_NULL, &m.size);
		if (fd < 0)
			return STEAL_FD(&fd);
		m.spool_fd = fd;
	} else {
		m.body = buf_span(&d->head);
	}
	return queue_accept(d->env->queue, &m);
}

/* To the address that it came from, by the way on which it was. */
static bool leads_back(const struct delivery *d, const struct mail_route *to,
		       const struct address *from)
{
	return !mail_route_is_local(to->route) && span_eq(to->address.local, from->local) &&
	       span_ieq(to->address.domain, from->domain) &&
	       span_eq(mail_route_way(to->route), mail_route_way(d->lease->route));
}

/* What RCPT was an account's address when the message was accepted, but is no longer: the message
 * goes where it leads now.  The delivery key makes that happen once, whatever is repeated. */
static void pass_on(struct delivery *d, const struct queue_rcpt *rcpt, const struct address *from,
		    struct queue_result *r)
{
	struct address sender = { 0 };
	struct mail_route_from route_from = { .sender = &sender,
					      .authenticated = true,
					      .notes = d->events };
	struct mail_route *routes;
	struct queue_rcpt_in *to;
	struct event *ev;
	size_t n, k = 0;
	unsigned notify;
	int e;

	(void)address_parse(d->lease->sender, ADDRESS_ALLOW_UTF8, d->mem, &sender);
	mail_route(d->env, from, &route_from, d->mem, &routes, &n);
	notify = n > 1 ? mail_notify_expanded(rcpt->notify) : rcpt->notify;
	to = arena_array(d->mem, struct queue_rcpt_in, n);
	for (size_t i = 0; i < n; i++)
		if (routes[i].kind != MAIL_ROUTE_REFUSED && !leads_back(d, &routes[i], from))
			to[k++] = (struct queue_rcpt_in){ .address = address_text(
								  &routes[i].address, d->mem),
							  .route = routes[i].route,
							  .original = rcpt->original,
							  .notify = notify };
	e = k ? accept_again(d, rcpt, to, k) : 0;
	if (!k && routes[0].kind != MAIL_ROUTE_REFUSED) {
		result_set(r, OUTCOME_FAILED, "5.4.6",
			   SPAN("554 5.4.6 the address leads back to where it came from"));
		return;
	}
	if (!k || e < 0) {
		result_of_verdict(d, r, k ? verdict_of_error(e) : routes[0].refusal);
		return;
	}
	result_set(r, OUTCOME_DELIVERED, "2.1.5",
		   SPAN("250 2.1.5 passed on: the address leads elsewhere now"));
	r->end = n > 1 ? END_EXPANDED : END_PASSED_ON;
	for (size_t i = 0; i < k; i++) {
		ev = event_note(d->events, "route.changed");
		event_span(ev, "from", rcpt->address, d->mem);
		event_span(ev, "to", to[i].address, d->mem);
	}
}

void mail_result_expanded(struct queue_result *r)
{
	result_set(r, OUTCOME_DELIVERED, "2.1.5",
		   SPAN("250 2.1.5 passed on to all that the address stands for"));
	r->end = END_EXPANDED;
}

static void deliver_one(struct delivery *d, const struct queue_rcpt *rcpt, struct queue_result *r)
{
	_cleanup_(account_putp) struct account *a = NULL;
	struct directory_match match = { 0 };
	struct address to;
	struct imap_uid uid = { 0 };
	int e = 0;

	r->row = rcpt->row;
	if (span_eq_str(d->lease->route, "expanded")) {
		mail_result_expanded(r);
		return;
	}
	if (address_parse(rcpt->address, ADDRESS_ALLOW_UTF8, d->mem, &to) != ADDRESS_OK ||
	    directory_lookup(d->env->directory, &to, d->mem, &match) < 0) {
		result_set(r, OUTCOME_DEFERRED, "4.3.0",
			   SPAN("451 4.3.0 the directory cannot be read now"));
		return;
	}
	if (!mail_route_is_local(d->lease->route)) { /* mail_bring_home() */
		pass_on(d, rcpt, &to, r);
		return;
	}
	if (match.kind == DIRECTORY_SUSPENDED) {
		result_set(r, OUTCOME_FAILED, "5.2.1", SPAN("550 5.2.1 this mailbox is disabled"));
		return;
	}
	if (match.kind == DIRECTORY_ALIAS || match.kind == DIRECTORY_NOT_LOCAL ||
	    match.kind == DIRECTORY_ELSEWHERE) {
		pass_on(d, rcpt, &to, r);
		return;
	}
	if (match.kind != DIRECTORY_ACCOUNT) {
		result_set(r, OUTCOME_FAILED, "5.1.1", SPAN("550 5.1.1 no such user here"));
		return;
	}
	if (!d->opaque &&
	    trace_loops(span_sub(buf_span(&d->head), 0, header_size(buf_span(&d->head))),
			rcpt->address)) {
		count_add(COUNT_LOOPS, 1);
		result_set(r, OUTCOME_FAILED, "5.4.6",
			   SPAN("554 5.4.6 this message was delivered here before: a loop"));
		return;
	}
	e = account_get(d->env->store, span_str(match.account.id), &a, NULL);
	if (e == 0)
		e = append(d, a, rcpt, match.account.quota_bytes, &uid);
	if (e < 0) {
		result_of_verdict(d, r, verdict_of_error(e));
		return;
	}
	result_set(r, OUTCOME_DELIVERED, "2.1.5", SPAN("250 2.1.5 delivered"));
	struct event *ev = event_note(d->events, "store.append");
	event_span(ev, "account", rcpt->address, d->mem);
	event_span(ev, "mailbox", mail_mailbox_of(d->lease->route), d->mem);
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
	int e, slot;

	conf_unref(conf);
	arena_init(&mem);
	event_list_init(&events, &mem);
	results = arena_array(&mem, struct queue_result, l->n_rcpts);
	buf_init(&d.head, MAX(d.inline_max, (size_t)HEADER_MAX));
	e = queue_body_read(env->queue, l, 0, l->size > d.inline_max ? HEADER_MAX : l->size,
			    &d.head);
	d.opaque = poison_enter(env->poison, POISON_DELIVER, buf_span(&d.head), &slot);
	for (size_t i = 0; i < l->n_rcpts; i++) {
		if (e >= 0) {
			deliver_one(&d, &l->rcpts[i], &results[i]);
			continue;
		}
		results[i].row = l->rcpts[i].row;
		result_set(&results[i], OUTCOME_DEFERRED, "4.3.0",
			   SPAN("451 4.3.0 the queued message cannot be read now"));
	}
	poison_leave(env->poison, slot);
	buf_done(&d.head);
	/* A settle that fails leaves the rows waiting; the delivery keys keep the repetition from
	 * doubling. */
	if (mail_settle(env, l, results, l->n_rcpts, &events) < 0)
		queue_release(env->queue, l);
}

/* A domain of ours whose mail leaves by ROUTE, as for a backup MX. */
static bool goes_on(const struct directory_match *m, span route)
{
	return m->kind == DIRECTORY_ELSEWHERE &&
	       (span_eq_str(m->elsewhere, "mx") || span_eq(m->elsewhere, mail_route_way(route)));
}

bool mail_bring_home(struct core_env *env, const struct queue_lease *l)
{
	_cleanup_(arena_donep) struct arena mem;
	span way = mail_route_way(l->route);
	bool ours = span_starts(way, SPAN("smtp:"));

	arena_init(&mem);
	for (size_t i = 0; ours && i < l->n_rcpts; i++) {
		struct directory_match m = { 0 };
		struct address to;

		ours = address_parse(l->rcpts[i].address, ADDRESS_ALLOW_UTF8, &mem, &to) ==
			       ADDRESS_OK &&
		       /* else somebody chose the way, and knows why */
		       span_ieq(to.domain, span_from(way, 5)) &&
		       directory_lookup(env->directory, &to, &mem, &m) == 0 &&
		       m.kind != DIRECTORY_NOT_LOCAL && !goes_on(&m, l->route);
	}
	if (ours)
		mail_deliver_local(env, l);
	return ours;
}

/* False: the account is there but could not be told now. */
static bool drop_key(struct core_env *env, const struct queue_key *k, struct arena *mem)
{
	_cleanup_(account_putp) struct account *a = NULL;
	struct directory_match m = { 0 };
	struct address to;
	int e;

	/* An account that is gone took its keys along. */
	if (address_parse(k->address, ADDRESS_ALLOW_UTF8, mem, &to) != ADDRESS_OK ||
	    directory_lookup(env->directory, &to, mem, &m) < 0 ||
	    (m.kind != DIRECTORY_ACCOUNT && m.kind != DIRECTORY_SUSPENDED))
		return true;
	e = account_get(env->store, span_str(m.account.id), &a, NULL);
	if (e == 0)
		e = store_key_drop(a, k->key);
	return e == 0 || e == ERR_NOENT;
}

enum { KEYS_AT_ONCE = 1000, KEY_ROUNDS = 16 };

void mail_drop_keys(struct core_env *env)
{
	/* An account that could not be opened for one key is not asked again for its others. */
	_cleanup_(map_freep) struct map *sick = map_new();
	size_t n = KEYS_AT_ONCE;

	for (unsigned round = 0; n == KEYS_AT_ONCE && round < KEY_ROUNDS; round++) {
		_cleanup_(arena_donep) struct arena mem;
		struct queue_key *keys;
		size_t k = 0;

		arena_init(&mem);
		if (queue_keys_take(env->queue, KEYS_AT_ONCE, &mem, &keys, &n) < 0)
			return;
		for (size_t i = 0; i < n; i++) {
			if (map_get(sick, keys[i].address))
				continue;
			if (drop_key(env, &keys[i], &mem))
				keys[k++] = keys[i];
			else
				map_put(sick, keys[i].address, env);
		}
		if (k && queue_key_done(env->queue, keys, k) < 0)
			return;
	}
}

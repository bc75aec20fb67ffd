/* Settling a lease: expiry, notifications (RFC 3464), the timeline. */
#include "mail/mail_int.h"

#include "base/log.h"

#include <stdio.h>

#include "format/dsn.h"
#include "format/header.h"

#define DSN_FULL_MAX (64u * 1024) /* larger originals come back as their header only */
#define DSN_MAX	     (1024u * 1024)
#define DSN_RCPT_MAX (32u * 1024) /* of that, more for each recipient: answers may be long */

struct settle {
	struct core_env *env;
	const struct queue_lease *lease;
	struct queue_result *results;
	size_t n;
	struct arena *mem;
	struct event_list *events;
	bool failed; /* the report tells of a failure */
};

static const struct queue_rcpt *rcpt_of(const struct settle *s, int64_t row)
{
	for (size_t i = 0; i < s->lease->n_rcpts; i++)
		if (s->lease->rcpts[i].row == row)
			return &s->lease->rcpts[i];
	return NULL;
}

/* A deferral past the lifetime, or past the time by which its sender wanted it delivered (RFC 2852
 * section 4), is a failure, in the words of the last attempt. */
static void expire(struct settle *s)
{
	usec now = clock_wall();
	bool overdue = queue_overdue(s->lease, now);

	for (size_t i = 0; i < s->n; i++) {
		struct queue_result *r = &s->results[i];

		if (r->outcome != OUTCOME_DEFERRED ||
		    !queue_expired(s->env->queue, s->lease, r, now))
			continue;
		r->outcome = OUTCOME_FAILED;
		r->reply = span_str(arena_printf(s->mem, "%s; the last answer was: %.*s",
						 overdue ? "not delivered in the time asked for"
							 : "given up after too long a time",
						 (int)MIN(r->reply.n, (size_t)2000),
						 r->reply.p ? r->reply.p : ""));
		if (overdue)
			memcpy(r->status, "5.4.7", sizeof "5.4.7");
		else if (!r->status[0])
			memcpy(r->status, "4.4.7", sizeof "4.4.7");
	}
}

/* A delay is told once, when it has become long (RFC 3461 5.2.5). */
static bool owes_warning(const struct settle *s, const struct queue_rcpt *rcpt)
{
	return !rcpt->warned && s->lease->warn_at && clock_wall() >= s->lease->warn_at;
}

/* Is R to be reported, and as what (RFC 3461 section 5.2)? */
static bool owes_report(const struct settle *s, const struct queue_result *r, enum dsn_action *ret)
{
	static const enum dsn_action success[] = { [END_DELIVERED] = DSN_DELIVERED,
						   [END_RELAYED] = DSN_RELAYED,
						   [END_PASSED_ON] = DSN_RELAYED,
						   [END_EXPANDED] = DSN_EXPANDED };
	const struct queue_rcpt *rcpt = rcpt_of(s, r->row);
	unsigned notify;

	if (!rcpt || s->lease->is_dsn || !s->lease->sender.n)
		return false;
	notify = rcpt->notify ? rcpt->notify : RCPT_NOTIFY_FAILURE | RCPT_NOTIFY_DELAY;
	switch (r->outcome) {
	case OUTCOME_DELIVERED:
		*ret = success[r->end];
		/* RFC 2852 section 4: each hop tells that the message went on. */
		if (s->lease->terms.by_trace && !(notify & RCPT_NOTIFY_NEVER) &&
		    *ret == DSN_RELAYED)
			return true;
		return (notify & RCPT_NOTIFY_SUCCESS) && r->end != END_PASSED_ON;
	case OUTCOME_FAILED:
		*ret = DSN_FAILED;
		return notify & RCPT_NOTIFY_FAILURE;
	case OUTCOME_DEFERRED:
		*ret = DSN_DELAYED;
		return (notify & RCPT_NOTIFY_DELAY) && owes_warning(s, rcpt);
	case OUTCOME_RELEASED:
		break;
	}
	return false;
}

/* The whole original goes back only with a failure (RFC 3461 4.3), and if it is not too large. */
static bool wants_full(const struct settle *s)
{
	const struct queue_lease *l = s->lease;

	/* RET=FULL of what requires TLS is disregarded (RFC 8689 section 5). */
	if (!s->failed || l->ret_hdrs || l->terms.require_tls || l->size > DSN_FULL_MAX)
		return false;
	return l->ret_full || l->size <= DSN_FULL_MAX / 2;
}

/* The part of the original that goes back. */
static int read_original(struct settle *s, bool full, struct buf *b)
{
	int e = queue_body_read(s->env->queue, s->lease, 0, DSN_FULL_MAX, b);

	if (e >= 0 && !full)
		buf_truncate(b, header_size(buf_span(b)));
	return e;
}

static void fill_rcpt(struct settle *s, const struct queue_result *r, enum dsn_action action,
		      struct dsn_rcpt *d)
{
	const struct queue_rcpt *rcpt = rcpt_of(s, r->row);
	span host = r->remote;

	*d = (struct dsn_rcpt){ .original = rcpt->original,
				.final = rcpt->address,
				.action = action,
				.remote_mta = span_cut(&host, '['),
				.diagnostic = r->reply,
				.last_attempt = clock_wall(),
				.will_retry_until = queue_retry_until(s->env->queue, s->lease, r) };
	snprintf(d->status, sizeof d->status, "%s", r->status);
	if (action == DSN_DELAYED && s->lease->terms.deliver_by &&
	    clock_wall() >= s->lease->terms.deliver_by)
		memcpy(d->status, "4.4.7", sizeof "4.4.7"); /* RFC 2852 section 4 */
}

static size_t fill_list(struct settle *s, struct dsn_rcpt *list)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++) {
		enum dsn_action action;

		if (!owes_report(s, &s->results[i], &action))
			continue;
		s->failed |= action == DSN_FAILED;
		s->results[i].warn = action == DSN_DELAYED;
		fill_rcpt(s, &s->results[i], action, &list[n++]);
	}
	return n;
}

/* Where the report goes: to all that the sender's address leads to now. */
static size_t fill_targets(struct settle *s, const struct address *sender,
			   struct queue_rcpt_in **ret)
{
	const struct mail_route_from from = { .authenticated = true };
	struct mail_route *routes;
	size_t n, k = 0;

	mail_route(s->env, sender, &from, s->mem, &routes, &n);
	*ret = arena_array(s->mem, struct queue_rcpt_in, n);
	for (size_t i = 0; i < n; i++)
		if (routes[i].kind != MAIL_ROUTE_REFUSED)
			(*ret)[k++] = (struct queue_rcpt_in){ .address = address_text(
								      &routes[i].address, s->mem),
							      .route = routes[i].route,
							      .notify = RCPT_NOTIFY_NEVER };
	return k;
}

/* The report that S's results owe, as a queue message; false if none is owed or can go anywhere.
 */
static bool make_report(struct settle *s, struct queue_message_in *ret, struct buf *body,
			struct id *ret_id, span *ret_message_id)
{
	struct dsn_rcpt *list = arena_array(s->mem, struct dsn_rcpt, s->n);
	_cleanup_(buf_donep) struct buf original = BUF_INIT(DSN_FULL_MAX);
	struct conf *conf;
	struct address sender;
	struct queue_rcpt_in *to;
	size_t n = fill_list(s, list), k;
	char id[ID_TEXT];
	bool full;

	if (!n ||
	    address_parse(s->lease->sender, ADDRESS_ALLOW_UTF8, s->mem, &sender) != ADDRESS_OK)
		return false;
	k = fill_targets(s, &sender, &to);
	if (!k) {
		mail_step(s->events, "bounce.undeliverable", "to", s->lease->sender);
		return false;
	}
	full = wants_full(s);
	if (read_original(s, full, &original) < 0)
		full = false;
	*ret_id = id_new();
	id_format(ret_id, id);
	conf = s->env->conf(s->env);
	struct dsn_report report = { .reporting_mta = arena_span(s->mem, conf->hostname),
				     .from = span_str(arena_printf(s->mem, "MAILER-DAEMON@%.*s",
								   SPAN_FMT(conf->hostname))),
				     .to = s->lease->sender,
				     .envelope_id = s->lease->envid,
				     .message_id = span_str(arena_printf(s->mem, "<%s@%.*s>", id,
									 SPAN_FMT(conf->hostname))),
				     .arrival = s->lease->accepted_at,
				     .deliver_by = s->lease->terms.deliver_by,
				     .now = clock_wall(),
				     .rcpts = list,
				     .n_rcpts = n,
				     .original = buf_span(&original),
				     .full = full,
				     .utf8 = s->lease->smtputf8 };
	conf_unref(conf);
	*ret_message_id = report.message_id;
	buf_init(body, DSN_MAX + n * DSN_RCPT_MAX);
	if (dsn_compose(body, &report) < 0) {
		mail_step(s->events, "bounce.too_large", "to", s->lease->sender);
		return false;
	}
	*ret = (struct queue_message_in){ .id = *ret_id,
					  .sender = SPAN_NULL,
					  .body = buf_span(body),
					  .spool_fd = -1,
					  .size = body->n,
					  .smtputf8 = s->lease->smtputf8,
					  .is_dsn = true,
					  .terms.require_tls = s->lease->terms.require_tls,
					  .terms.priority = s->lease->terms.priority,
					  .rcpts = to,
					  .n_rcpts = k };
	return true;
}

/* Seconds as Postfix tells them: two digits that matter. */
static const char *seconds(usec t, struct arena *mem)
{
	double s = (double)MAX(t, 0) / USEC_SEC;

	return arena_printf(mem, s >= 100 ? "%.0f" : "%.2g", s);
}

/* The way of the message in four parts: until it was on disk, until it was tried, until a connection
 * could be used, until the answer. */
static void log_rcpt(const struct settle *s, const struct queue_rcpt *rcpt,
		     const struct queue_result *r)
{
	static const char *const outcome[] = { [OUTCOME_DELIVERED] = "sent",
					       [OUTCOME_FAILED] = "bounced",
					       [OUTCOME_DEFERRED] = "deferred" };
	const struct queue_lease *l = s->lease;
	bool local = mail_route_is_local(l->route);
	usec begun = id_time(&l->id), now = clock_wall(), sent = l->sent_at ? l->sent_at : now;
	struct arena *mem = s->mem;

	if (!log_enabled(LOG_INFO))
		return;
	log_event(LOG_INFO, "mail.rcpt", F_ID("id", &l->id), F_SPAN("to", rcpt->address),
		  F_STR("part", local				       ? "local"
				: span_starts(l->route, SPAN("lmtp:")) ? "lmtp"
								       : "smtp"),
		  F_SPAN("relay", r->remote.n ? r->remote
				  : local     ? SPAN("local")
					      : SPAN("none")),
		  F_STR("delay", seconds(now - begun, mem)),
		  F_STR("delays",
			arena_printf(mem, "%s/%s/%s/%s", seconds(l->accepted_at - begun, mem),
				     seconds(l->leased_at - l->accepted_at, mem),
				     seconds(sent - l->leased_at, mem), seconds(now - sent, mem))),
		  F_STR("status", r->status), F_STR("outcome", outcome[r->outcome]),
		  F_SPAN("reply", span_sub(r->reply, 0, 500)));
}

/* One step per recipient, and the counters. */
static void note(struct settle *s, bool reported, const struct id *dsn_id)
{
	static const char *const name[] = { [OUTCOME_DELIVERED] = "rcpt.delivered",
					    [OUTCOME_FAILED] = "rcpt.failed",
					    [OUTCOME_DEFERRED] = "rcpt.deferred",
					    [OUTCOME_RELEASED] = "rcpt.released" };
	span *keys = arena_array(s->mem, span, s->n);
	size_t n_keys = 0;
	char id[ID_TEXT];

	for (size_t i = 0; i < s->n; i++) {
		const struct queue_result *r = &s->results[i];
		const struct queue_rcpt *rcpt = rcpt_of(s, r->row);
		struct event *e;

		if (!rcpt || r->outcome == OUTCOME_RELEASED)
			continue;
		e = event_note(s->events, name[r->outcome]);
		event_span(e, "to", rcpt->address, s->mem);
		event_str(e, "status", r->status, s->mem);
		event_span(e, "reply", span_sub(r->reply, 0, 1000), s->mem);
		if (r->remote.n)
			event_span(e, "remote", r->remote, s->mem);
		event_u64(e, "attempt", rcpt->attempts + 1, s->mem);
		log_rcpt(s, rcpt, r);
		if (r->outcome == OUTCOME_DELIVERED && !mail_route_is_local(s->lease->route))
			count_add(COUNT_DELIVERED_REMOTE, 1);
		if (r->outcome == OUTCOME_DEFERRED)
			count_add(COUNT_DEFERRED, 1);
		keys[n_keys++] = rcpt->address;
	}
	if (reported) {
		id_format(dsn_id, id);
		mail_step(s->events, s->failed ? "bounce.queued" : "report.queued", "id",
			  span_str(id));
		count_add(COUNT_BOUNCED, s->failed);
	}
	mail_timeline(s->env, &s->lease->id, s->events, keys, n_keys);
}

/* The report's own journey begins where the reported one ends. */
static void note_report(struct settle *s, const struct id *dsn_id, span message_id)
{
	struct event_list l;
	char id[ID_TEXT];
	span keys[] = { s->lease->sender, message_id };

	event_list_init(&l, s->mem);
	id_format(&s->lease->id, id);
	struct event *e = event_note(&l, s->failed ? "bounce.created" : "report.created");
	event_str(e, "for", id, s->mem);
	event_span(e, "to", s->lease->sender, s->mem);
	events_append(s->env->events, dsn_id, &l, keys, ARRAY_LEN(keys));
}

int mail_settle(struct core_env *env, const struct queue_lease *l, struct queue_result *results,
		size_t n, struct event_list *events)
{
	_cleanup_(buf_donep) struct buf body = BUF_INIT(0);
	struct settle s = { .env = env,
			    .lease = l,
			    .results = results,
			    .n = n,
			    .mem = events->mem,
			    .events = events };
	struct queue_message_in report;
	struct id dsn_id = { 0 };
	span message_id = SPAN_NULL;
	bool reported;
	int e;

	expire(&s);
	reported = make_report(&s, &report, &body, &dsn_id, &message_id);
	e = queue_settle(env->queue, l, results, n, reported ? &report : NULL, s.mem);
	if (e == ERR_NOENT || e == ERR_INVAL)
		return e;
	/* What the queue could not write yet it keeps and writes later: it happened all the same.
	 */
	if (e < 0)
		mail_step(events, "queue.settle_waits", "why", span_str(err_text(e)));
	note(&s, reported, &dsn_id);
	if (reported)
		note_report(&s, &dsn_id, message_id);
	return e;
}

int mail_return(struct core_env *env, const struct queue_lease *l, const char *status, span reply)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct event_list events;
	struct queue_result *results;
	int e;

	event_list_init(&events, &mem);
	results = arena_array(&mem, struct queue_result, l->n_rcpts);
	for (size_t i = 0; i < l->n_rcpts; i++) {
		results[i] = (struct queue_result){ .row = l->rcpts[i].row,
						    .outcome = OUTCOME_FAILED,
						    .reply = reply };
		snprintf(results[i].status, sizeof results[i].status, "%s", status);
		if (span_eq_str(l->route, "expanded"))
			mail_result_expanded(&results[i]);
	}
	e = mail_settle(env, l, results, l->n_rcpts, &events);
	if (e < 0)
		queue_release(env->queue, l);
	return e;
}

bool mail_return_overdue(struct core_env *env, const struct queue_lease *l)
{
	if (!queue_overdue(l, clock_wall()))
		return false;
	(void)mail_return(env, l, "5.4.7", SPAN("550 5.4.7 not delivered in the time asked for"));
	return true;
}

/* One remote delivery: the steps from a lease to mail_settle(). */
#include "relay/relay_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "sys/file.h"

static void settle(struct delivery *d);

/* --- results --- */

static void set_all(struct delivery *d, size_t from, enum rcpt_outcome outcome, const char *status,
		    span text)
{
	for (size_t i = from; i < d->lease.n_rcpts; i++) {
		struct queue_result *q = &d->results[i];

		q->outcome = outcome;
		q->reply = text;
		memcpy(q->status, status, MIN(strlen(status) + 1, sizeof q->status));
	}
}

/* The whole delivery ends for REASON. */
static void end_with(struct delivery *d, const struct relay_reason *reason)
{
	set_all(d, d->rcpt_from, reason->status[0] == '5' ? OUTCOME_FAILED : OUTCOME_DEFERRED,
		reason->status, reason->text);
	settle(d);
}

static void give_back(struct delivery *d, usec not_before)
{
	set_all(d, d->rcpt_from, OUTCOME_RELEASED, "", SPAN_NULL);
	for (size_t i = d->rcpt_from; i < d->lease.n_rcpts; i++)
		d->results[i].not_before = not_before;
	settle(d);
}

/* There is no way out now. */
static void push_back(struct delivery *d)
{
	queue_resume_route(d->relay->env->queue, d->lease.route);
	give_back(d, clock_wall() + 2 * USEC_SEC);
}

/* Its destination has enough to do.  Those who are at work there lease by route what is next when
 * they have settled (settle_job), so the queue need not offer it to us meanwhile. */
static void hold(struct delivery *d)
{
	queue_hold_route(d->relay->env->queue, d->lease.route);
	queue_release(d->relay->env->queue, &d->lease);
	delivery_over(d);
}

/* --- settling --- */

static void settled(void *arg)
{
	struct delivery *d = arg, *next = d->next_lease;
	struct conn *c = d->conn;

	d->next_lease = NULL;
	d->conn = NULL;
	if (next)
		next->relay->under_way++;
	if (c && next && c->open && c->served < RELAY_SERVED_MAX) {
		c->delivery = next;
		next->conn = c;
		delivery_begin_send(next);
	} else {
		if (c)
			conn_free_next(c);
		if (next)
			delivery_start_remote(next);
	}
	delivery_over(d);
}

static bool lease_next(struct relay *r, span route, struct delivery *next)
{
	while (queue_lease_route(r->env->queue, route, &next->mem, &next->lease) == 1)
		if (!mail_return_overdue(r->env, &next->lease))
			return true;
	return false;
}

static void settle_job(struct job *j)
{
	struct delivery *d = CONTAINER_OF(j, struct delivery, job), *next;
	struct relay *r = d->relay;
	int err = mail_settle(r->env, &d->lease, d->results, d->lease.n_rcpts, &d->events);

	if (err < 0) {
		log_event(LOG_ERROR, "relay.settle_failed", F_ID("id", &d->lease.id), F_ERR(err));
		queue_release(r->env->queue, &d->lease);
	}
	if (d->want_next && err == 0) {
		next = delivery_new(r);
		if (lease_next(r, d->lease.route, next))
			d->next_lease = next;
		else
			delivery_free(next);
	}
	if (d->want_next && !d->next_lease)
		queue_resume_route(r->env->queue, d->lease.route);
	loop_post(r->loop, settled, d);
}

static void settle(struct delivery *d)
{
	struct conn *c = d->conn;

	if (c) {
		c->state = CONN_SETTLING;
		d->want_next = !c->dest->waiting && !d->relay->stopping;
	}
	relay_post_job(d, settle_job);
}

/* --- start --- */

static void make_results(struct delivery *d)
{
	if (d->results)
		return;
	d->results = arena_array(&d->mem, struct queue_result, d->lease.n_rcpts);
	for (size_t i = 0; i < d->lease.n_rcpts; i++)
		d->results[i].row = d->lease.rcpts[i].row;
}

void delivery_start_remote(struct delivery *d)
{
	struct relay *r = d->relay;
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(r);
	struct relay_reason reason;
	struct destination *dest;
	struct conn *idle;

	make_results(d);
	if (!relay_way_find(conf, d->lease.route, &d->mem, &d->way, &reason)) {
		end_with(d, &reason);
		return;
	}
	if (!r->out || r->stopping) {
		push_back(d);
		return;
	}
	dest = destination_get(r, d->lease.route);
	idle = destination_take_idle(dest);
	if (idle) {
		idle->delivery = d;
		d->conn = idle;
		delivery_begin_send(d);
	} else if (dest->open < MAX(conf->relay_per_destination, 1) &&
		   idmap_count(r->conns) < RELAY_OPEN_MAX) {
		relay_conn_new(r, dest, d);
		delivery_resolve(d);
	} else if (dest->open > 0 && dest->n_waiting < 2 * MAX(conf->relay_per_destination, 1)) {
		destination_wait(dest, d);
	} else if (dest->open > 0) {
		hold(d);
	} else { /* too many connections elsewhere */
		push_back(d);
		destination_free_if_unused(r, dest);
	}
}

/* --- names to addresses --- */

static void try_next(struct delivery *d);

static void ask(struct delivery *d, const struct dns_question *q, size_t n)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);

	if (dns_ask_put(&b, q, n) < 0 || conn_send(d->conn, DNS_ASK, buf_span(&b), -1) < 0)
		end_with(d, &(struct relay_reason){ "4.4.3",
						    SPAN("the name could not be asked for") });
}

/* Asks for the addresses of all hosts at once; without hosts, of the domain itself. */
static void ask_addresses(struct delivery *d)
{
	struct dns_question q[2 * RELAY_HOSTS_MAX];
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(d->relay);
	struct relay_host own = { .name = d->way.name };
	size_t n_hosts = d->hosts ? d->n_hosts : 1, n = 0;

	for (size_t i = 0; i < n_hosts; i++) {
		span name = d->hosts ? d->hosts[i].name : own.name;

		if (conf->relay_ipv6)
			q[n++] = (struct dns_question){ name, DNS_AAAA };
		q[n++] = (struct dns_question){ name, DNS_A };
	}
	d->asked_mx = false;
	ask(d, q, n);
}

void delivery_resolve(struct delivery *d)
{
	d->conn->state = CONN_RESOLVING;
	d->at = 0;
	d->n_targets = 0;
	d->hosts = NULL;
	if (d->way.has_address) {
		d->targets = relay_target_of(&d->way, &d->mem);
		d->n_targets = 1;
		try_next(d);
	} else if (d->way.hop.kind != NEXTHOP_DOMAIN) {
		ask_addresses(d);
	} else {
		d->asked_mx = true;
		ask(d, &(struct dns_question){ d->way.name, DNS_MX }, 1);
	}
}

static void note_dns(struct delivery *d, const char *name, const struct dns_answer *a, size_t found)
{
	static const char *const status[] = { "ok",	  "nodata", "nxdomain",
					      "servfail", "bogus",  "timeout" };
	struct event *e = event_note(&d->events, name);

	event_span(e, "name", a->name, &d->mem);
	event_str(e, "status", status[a->status], &d->mem);
	event_u64(e, "found", found, &d->mem);
	event_str(e, "secure", a->secure ? "yes" : "no", &d->mem);
}

static void mx_answer(struct delivery *d, const struct dns_answer *a)
{
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(d->relay);
	struct relay_reason reason;
	int got;

	note_dns(d, "dns.mx", a, a->n);
	got = relay_hosts_choose(a, conf->hostname, random_u64(), &d->mem, &d->hosts, &d->n_hosts,
				 &reason);
	if (got < 0)
		end_with(d, &reason);
	else
		ask_addresses(d);
}

void delivery_answers(struct delivery *d, span payload)
{
	struct relay_reason reason;
	struct dns_answer *a;
	span copy = arena_span(&d->mem, payload);
	size_t n;
	int err;

	if (dns_answers_get(copy, &d->mem, &a, &n) < 0 || n == 0) {
		end_with(d, &(struct relay_reason){
				    "4.4.3", SPAN("the answer about the name could not be read") });
		return;
	}
	if (d->asked_mx) {
		mx_answer(d, &a[0]);
		return;
	}
	err = relay_targets_choose(a, n, d->way.port, d->hosts != NULL, &d->mem, &d->targets,
				   &d->n_targets, &reason);
	note_dns(d, "dns.address", &a[0], err < 0 ? 0 : d->n_targets);
	if (err < 0) {
		end_with(d, &reason);
		return;
	}
	try_next(d);
}

/* --- connecting --- */

static void try_next(struct delivery *d)
{
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(d->relay);
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);
	struct relay_open o = { .helo = conf->hostname,
				.tls = d->in_clear ? RELAY_TLS_NONE : d->way.tls,
				.implicit_tls = d->way.implicit_tls,
				.lmtp = d->way.lmtp };

	if (d->at >= MIN(d->n_targets, RELAY_TRIES_MAX)) {
		end_with(d, &d->last);
		return;
	}
	o.to = d->targets[d->at].to;
	o.host = d->targets[d->at].host;
	if (conf->relay_source.n > 0 && sock_parse_ip(conf->relay_source, 0, &o.source) == 0 &&
	    o.source.sa.sa_family != o.to.sa.sa_family)
		o.source = (struct sockaddr_any){ 0 };
	d->conn->state = CONN_OPENING;
	if (relay_open_put(&b, &o) < 0 || conn_send(d->conn, RELAY_OPEN, buf_span(&b), -1) < 0)
		end_with(d, &(struct relay_reason){ "4.4.1",
						    SPAN("no connection could be asked for") });
}

static void set_remote(struct conn *c, const struct relay_target *t)
{
	char ip[SOCK_TEXT], *text = NULL;

	sock_ip_text(&t->to, ip);
	if (asprintf(&text, "%.*s[%s]", SPAN_FMT(t->host), ip) < 0)
		abort();
	free((char *)c->remote.p);
	c->remote = span_str(text);
}

static void note_connect(struct delivery *d, const struct relay_opened *o)
{
	static const char *const outcome[] = { "ok",	 "connect", "greeting", "ehlo",	 "tls",
					       "no_tls", "timeout", "protocol", "closed" };
	struct event *e = event_note(&d->events, "relay.connect");

	event_span(e, "remote", d->conn->remote, &d->mem);
	event_str(e, "result", outcome[o->fail], &d->mem);
	if (o->reply.code)
		event_span(e, "reply", relay_reply_text(&o->reply, &d->mem), &d->mem);
	if (o->why.n > 0)
		event_span(e, "why", o->why, &d->mem);
	if (!o->tls)
		return;
	e = event_note(&d->events, "relay.tls");
	event_span(e, "tls", o->tls_text, &d->mem);
	event_str(e, "verified", o->tls_verified ? "yes" : "no", &d->mem);
}

/* Keeps why this target did not do, in words for the sender. */
static void note_last(struct delivery *d, const char *status, span why,
		      const struct smtp_reply *reply)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(2048);

	buf_put_span(&b, d->conn->remote);
	buf_put_str(&b, ": ");
	buf_put_escaped(&b, why, 300);
	if (reply && reply->code) {
		buf_put_str(&b, ": ");
		buf_put_span(&b, relay_reply_text(reply, &d->mem));
	}
	d->last = (struct relay_reason){ status, arena_span(&d->mem, buf_span(&b)) };
}

void delivery_opened(struct delivery *d, const struct relay_opened *o)
{
	struct conn *c = d->conn;

	set_remote(c, &d->targets[d->at]);
	note_connect(d, o);
	if (o->fail == RELAY_FAIL_NONE) {
		c->open = true;
		c->extensions = o->extensions;
		c->max_size = o->max_size;
		free((char *)c->tls.p);
		c->tls = o->tls ? span_of(span_dup(o->tls_text), o->tls_text.n) : SPAN_NULL;
		delivery_begin_send(d);
		return;
	}
	note_last(d, relay_fail_status(o->fail), o->why, &o->reply);
	/* Opportunistic TLS that breaks is worth no more than no TLS (RFC 7435). */
	if (o->fail == RELAY_FAIL_TLS && d->way.tls == RELAY_TLS_MAY && !d->in_clear) {
		d->in_clear = true;
	} else {
		d->in_clear = false;
		d->at++;
	}
	try_next(d);
}

/* --- sending --- */

/* The body behind a descriptor: a large one is a file already, a smaller one gets a file in memory.
 */
static int body_file(struct delivery *d, span body)
{
	int fd _cleanup_(close_fdp) = memfd_create("body", MFD_CLOEXEC);
	int err;

	if (fd < 0)
		return ERR_IO;
	err = file_write_all(fd, body);
	return err < 0 ? err : STEAL_FD(&fd);
}

static int prepare_body(struct delivery *d, struct relay_send *s, struct buf *body)
{
	struct queue *q = d->relay->env->queue;
	int fd = queue_body_fd(q, &d->lease), err;

	if (fd >= 0) {
		d->body_fd = fd;
		return 0;
	}
	if (fd != ERR_NOENT)
		return fd;
	err = queue_body_read(q, &d->lease, 0, d->lease.size, body);
	if (err < 0)
		return err;
	if (body->n != d->lease.size)
		return ERR_CORRUPT;
	s->body = buf_span(body);
	return 0;
}

static int prepare(struct delivery *d)
{
	const struct queue_lease *l = &d->lease;
	struct buf body _cleanup_(buf_donep) = BUF_INIT(l->size);
	struct relay_rcpt rcpts[RELAY_RCPTS_MAX];
	struct relay_send s = { .sender = mail_reverse_path(d->relay->env, l->sender, l->route,
							    &d->mem),
				.envid = l->envid,
				.size = l->size,
				.smtputf8 = relay_needs_smtputf8(l),
				.body_8bit = l->body_8bit,
				.ret_full = l->ret_full,
				.ret_hdrs = l->ret_hdrs,
				.rcpts = rcpts };
	int err = prepare_body(d, &s, &body);

	if (err < 0)
		return err;
	for (size_t i = 0; i < d->rcpt_n; i++) {
		const struct queue_rcpt *r = &l->rcpts[d->rcpt_from + i];

		rcpts[s.n_rcpts++] = (struct relay_rcpt){ r->address, r->original, r->notify };
	}
	buf_reset(&d->payload);
	if (relay_send_put(&d->payload, &s) == 0)
		return 0;
	d->body_fd = body_file(d, s.body); /* it does not fit beside the envelope */
	if (d->body_fd < 0)
		return d->body_fd;
	s.body = SPAN_NULL;
	buf_reset(&d->payload);
	return relay_send_put(&d->payload, &s);
}

/* The connection ended before anything was said about the message: it goes elsewhere. */
static void lost_early(struct delivery *d, const struct relay_sent *s)
{
	struct conn *c = d->conn;
	bool fresh = c->served == 0;

	c->served = 0;
	if (!fresh || d->n_targets == 0) { /* it had gone stale while parked */
		d->rcpt_n = 0;
		delivery_resolve(d);
		return;
	}
	note_last(d, relay_fail_status(s->fail), s->why, NULL);
	d->at++;
	try_next(d);
}

static void prepared(void *arg)
{
	struct delivery *d = arg;
	struct conn *c = d->conn;
	int err = d->prepared;

	if (err < 0) {
		log_event(LOG_ERROR, "relay.body_unreadable", F_ID("id", &d->lease.id), F_ERR(err));
		end_with(d, &(struct relay_reason){
				    "4.3.0",
				    SPAN("the message cannot be read from the queue for now") });
	} else if (!c->open) { /* lost meanwhile, nothing was said */
		lost_early(d, &(struct relay_sent){
				      .fail = RELAY_FAIL_CLOSED,
				      .why = SPAN("the peer closed the idle connection") });
	} else {
		c->state = CONN_SENDING;
		if (conn_send(c, RELAY_SEND, buf_span(&d->payload), d->body_fd) < 0)
			end_with(d,
				 &(struct relay_reason){
					 "4.3.0", SPAN("the message could not be handed over") });
	}
	close_fdp(&d->body_fd);
	d->body_fd = -1;
	buf_done(&d->payload);
}

static void prepare_job(struct job *j)
{
	struct delivery *d = CONTAINER_OF(j, struct delivery, job);

	d->prepared = prepare(d);
	loop_post(d->relay->loop, prepared, d);
}

void delivery_begin_send(struct delivery *d)
{
	struct conn *c = d->conn;
	struct relay_opened peer = { .extensions = c->extensions, .max_size = c->max_size };
	struct relay_reason reason;

	make_results(d);
	if (!relay_suits(&peer, &d->lease, &reason)) {
		end_with(d, &reason);
		return;
	}
	d->rcpt_n = MIN(d->lease.n_rcpts - d->rcpt_from, RELAY_RCPTS_MAX);
	c->state = CONN_PREPARING;
	relay_post_job(d, prepare_job);
}

static void note_reply(struct delivery *d, size_t i)
{
	static const char *const outcome[] = { "delivered", "failed", "deferred", "released" };
	const struct queue_result *q = &d->results[i];
	struct event *e = event_note(&d->events, "relay.reply");

	event_span(e, "to", d->lease.rcpts[i].address, &d->mem);
	event_span(e, "remote", q->remote, &d->mem);
	/* A reused connection was opened by another message: its own journey tells how it travelled
	 * too. */
	if (d->conn && d->conn->tls.n)
		event_span(e, "tls", d->conn->tls, &d->mem);
	event_str(e, "result", outcome[q->outcome], &d->mem);
	event_str(e, "status", q->status, &d->mem);
	event_span(e, "reply", q->reply, &d->mem);
}

void delivery_sent(struct delivery *d, span payload)
{
	struct conn *c = d->conn;
	struct relay_sent s;
	span copy = arena_span(&d->mem, payload);

	if (relay_sent_get(copy, &d->mem, &s) < 0 || s.n_rcpts != d->rcpt_n)
		s = (struct relay_sent){ .fail = RELAY_FAIL_PROTOCOL,
					 .why = SPAN("the outcome is not known"),
					 .n_rcpts = d->rcpt_n,
					 .rcpts = arena_array(&d->mem, struct smtp_reply,
							      d->rcpt_n) };
	if (s.fail != RELAY_FAIL_NONE)
		c->open = false;
	if (s.fail == RELAY_FAIL_CLOSED && s.mail.code == 0 && d->rcpt_from == 0) {
		lost_early(d, &s);
		return;
	}
	c->served++;
	for (size_t i = 0; i < d->rcpt_n; i++) {
		struct queue_result *q = &d->results[d->rcpt_from + i];

		relay_verdict(&s, i, &d->mem, q);
		q->end = c->extensions & RELAY_EXT_DSN ? END_PASSED_ON : END_RELAYED;
		q->remote = arena_span(&d->mem, c->remote);
		note_reply(d, d->rcpt_from + i);
	}
	d->rcpt_from += d->rcpt_n;
	if (d->rcpt_from == d->lease.n_rcpts)
		settle(d);
	else if (c->open)
		delivery_begin_send(d);
	else
		give_back(d, 0); /* the rest was not tried */
}

/* OUT died.  A message whose transfer had begun may have arrived: deferred, which risks a second
 * copy rather than none (RFC 5321 6.1). */
void delivery_out_gone(struct delivery *d)
{
	struct conn *c = d->conn;

	c->open = false;
	switch (c->state) {
	case CONN_RESOLVING:
	case CONN_OPENING:
		give_back(d, clock_wall() + 2 * USEC_SEC);
		break;
	case CONN_SENDING:
		end_with(d, &(struct relay_reason){ "4.3.0",
						    SPAN("the sending process was restarted") });
		break;
	default: /* a job has it, and will see that the connection is gone */
		break;
	}
}

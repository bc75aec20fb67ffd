/* One remote delivery: the steps from a lease to mail_settle(). */
#include "relay/flow_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "tls/hash.h"

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

void delivery_end_with(struct delivery *d, const struct relay_reason *reason)
{
	set_all(d, d->rcpt_from, reason->status[0] == '5' ? OUTCOME_FAILED : OUTCOME_DEFERRED,
		reason->status, reason->text);
	delivery_settle(d);
}

void delivery_give_back(struct delivery *d, usec not_before)
{
	set_all(d, d->rcpt_from, OUTCOME_RELEASED, "", SPAN_NULL);
	for (size_t i = d->rcpt_from; i < d->lease.n_rcpts; i++)
		d->results[i].not_before = not_before;
	delivery_settle(d);
}

/* There is no way out now. */
static void push_back(struct delivery *d)
{
	delivery_give_back(d, clock_wall() + 2 * USEC_SEC);
}

/* Its destination has enough to do, or is better left alone.  The next free slot leases by route
 * what is next, so the queue need not offer it to us meanwhile. */
static void hold(struct delivery *d, struct destination *dest)
{
	struct conn *c = d->conn;

	d->conn = NULL;
	destination_hold(dest);
	if (c)
		conn_drop(c);
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
	if (c && d->route_empty)
		destination_resume(c->dest);
	if (c && next && c->open) {
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
		if (!relay_ended_early(r, &next->lease))
			return true;
	return false;
}

/* The destination was given up for a while: others that wait for it are deferred for the same
 * reason, so that each is tried, told of and given up when its own time has come.  False: no more
 * wait. */
static bool sweep(struct delivery *d)
{
	const struct queue_result *last = &d->results[d->lease.n_rcpts - 1];
	struct relay *r = d->relay;
	bool more = true;

	for (unsigned i = 0; i < RELAY_SWEEP && more; i++) {
		struct delivery *next = delivery_new(r);

		more = lease_next(r, d->lease.route, next);
		if (more) {
			delivery_make_results(next);
			set_all(next, 0, OUTCOME_DEFERRED, last->status, last->reply);
			event_note(&next->events, "relay.cooled");
			if (mail_settle(r->env, &next->lease, next->results, next->lease.n_rcpts,
					&next->events) < 0)
				queue_release(r->env->queue, &next->lease);
		}
		delivery_free(next);
	}
	return more;
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
		if (lease_next(r, d->lease.route, next)) {
			d->next_lease = next;
		} else {
			d->route_empty = true;
			delivery_free(next);
		}
	}
	if (d->sweep && err == 0)
		d->route_empty = !sweep(d);
	loop_post(r->loop, settled, d);
}

void delivery_settle(struct delivery *d)
{
	struct conn *c = d->conn;

	if (c) {
		conn_enter(c, CONN_SETTLING);
		d->want_next = c->open && c->served < conn_serves(c) && !d->relay->stopping &&
			       !flow_should_yield(c);
	}
	relay_post_job(d, settle_job);
}

/* --- start --- */

void delivery_make_results(struct delivery *d)
{
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(d->relay);

	if (d->results)
		return;
	d->verp = mail_wants_verp(conf, d->lease.sender);
	relay_sort_rcpts(&d->lease, &d->mem);
	d->results = arena_array(&d->mem, struct queue_result, d->lease.n_rcpts);
	for (size_t i = 0; i < d->lease.n_rcpts; i++)
		d->results[i].row = d->lease.rcpts[i].row;
}

/* Its results and its way.  False: it has ended. */
static bool find_way(struct delivery *d)
{
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(d->relay);
	struct relay_reason reason;

	delivery_make_results(d);
	if (!relay_way_find(conf, d->lease.route, &d->mem, &d->way, &reason)) {
		delivery_end_with(d, &reason);
		return false;
	}
	return true;
}

void delivery_start_remote(struct delivery *d)
{
	struct relay *r = d->relay;
	struct destination *dest;
	struct conn *c;

	if (!find_way(d))
		return;
	if (!r->out || r->stopping) {
		push_back(d);
		return;
	}
	dest = destination_get(r, d->lease.route);
	c = destination_take_idle(dest);
	if (c) {
		c->delivery = d;
		d->conn = c;
		delivery_begin_send(d);
		return;
	}
	if (!flow_may_begin(dest)) {
		hold(d, dest);
		return;
	}
	c = relay_conn_new(r, dest, d);
	if (!dest->group || flow_take(c, dest->group))
		delivery_resolve(d);
	else
		hold(d, dest);
}

/* --- a slot is free --- */

static void fetched(void *arg)
{
	struct delivery *d = arg;
	struct relay *r = d->relay;
	struct conn *c = d->conn;

	if (d->route_empty) {
		destination_resume(c->dest);
		conn_drop(c);
		delivery_over(d);
	} else if (!r->out || r->stopping) {
		d->conn = NULL;
		conn_drop(c);
		delivery_make_results(d);
		push_back(d);
	} else if (find_way(d)) {
		delivery_resolve(d);
	}
}

static void fetch_job(struct job *j)
{
	struct delivery *d = CONTAINER_OF(j, struct delivery, job);

	d->route_empty = !lease_next(d->relay, d->conn->dest->route, d);
	loop_post(d->relay->loop, fetched, d);
}

void delivery_fetch(struct conn *c)
{
	conn_enter(c, CONN_FETCHING);
	c->relay->under_way++;
	relay_post_job(c->delivery, fetch_job);
}

/* --- names to addresses --- */

static void ask(struct delivery *d, const struct dns_question *q, size_t n)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);

	if (dns_ask_put(&b, q, n) < 0 || conn_send(d->conn, DNS_ASK, buf_span(&b), -1) < 0)
		delivery_end_with(d, &(struct relay_reason){
					     "4.4.3", SPAN("the name could not be asked for") });
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

/* It is known now with whom the destination shares its connections. */
static void have_targets(struct delivery *d)
{
	struct conn *c = d->conn;
	span keys[RELAY_GROUP_KEYS];
	struct group *g = flow_join(
		c->dest, keys,
		relay_group_keys(d->hosts, d->n_hosts, d->targets, d->n_targets, &d->mem, keys));

	if (c->slot == g) {
		delivery_try_next(d);
		return;
	}
	flow_leave(c);
	if (flow_may_begin(c->dest) && flow_take(c, g))
		delivery_try_next(d);
	else if (d->rcpt_from == 0)
		hold(d, c->dest);
	else
		delivery_give_back(d, 0); /* some recipients have their results already */
}

void delivery_resolve(struct delivery *d)
{
	conn_enter(d->conn, CONN_RESOLVING);
	d->at = 0;
	d->n_targets = 0;
	d->hosts = NULL;
	if (d->way.has_address) {
		d->targets = relay_target_of(&d->way, &d->mem);
		d->n_targets = 1;
		have_targets(d);
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

/* --- mail for ourselves --- */

static void looped_end(void *arg)
{
	struct delivery *d = arg;
	struct conn *c = d->conn;

	if (!d->brought_home) {
		delivery_end_with(d, &d->last);
		return;
	}
	d->conn = NULL;
	conn_free_next(c);
	delivery_over(d);
}

static void looped_job(struct job *j)
{
	struct delivery *d = CONTAINER_OF(j, struct delivery, job);

	d->brought_home = mail_bring_home(d->relay->env, &d->lease);
	loop_post(d->relay->loop, looped_end, d);
}

/* The domain's MX is this host.  Perhaps the domain became ours while the message waited. */
static void looped(struct delivery *d, const struct relay_reason *reason)
{
	d->last = *reason;
	conn_enter(d->conn, CONN_SETTLING);
	relay_post_job(d, looped_job);
}

static void mx_answer(struct delivery *d, const struct dns_answer *a)
{
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(d->relay);
	struct relay_reason reason;
	int got;

	note_dns(d, "dns.mx", a, a->n);
	got = relay_hosts_choose(a, conf->hostname, random_u64(), &d->mem, &d->hosts, &d->n_hosts,
				 &reason);
	if (got >= 0 && relay_must_protect(&d->lease) && !a->secure) {
		reason = (struct relay_reason){ "5.7.30",
						SPAN("the message requires TLS, and nothing proves "
						     "the MX of its domain (DNSSEC)") };
		got = ERR_PERM;
	}
	if (got == ERR_INVAL)
		looped(d, &reason);
	else if (got < 0)
		delivery_end_with(d, &reason);
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
		delivery_end_with(
			d, &(struct relay_reason){
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
		delivery_end_with(d, &reason);
		return;
	}
	have_targets(d);
}

/* --- connecting --- */

/* What this delivery asks of TLS: the route's policy, or a certificate for the host where the sender
 * requires it (RFC 8689 4.2.1). */
static enum relay_tls delivery_tls(const struct delivery *d)
{
	return relay_must_protect(&d->lease) ? RELAY_TLS_VERIFY : d->way.tls;
}

/* A named host's user and password, as the configuration has them now. */
static void put_login(const struct delivery *d, const struct conf *conf, struct relay_open *o)
{
	const struct conf_relay_host *h = d->way.hop.kind == NEXTHOP_VIA
						  ? conf_relay_host(conf, d->way.hop.name)
						  : NULL;

	if (!h)
		return;
	o->user = h->user;
	o->password = h->password;
}

void delivery_try_next(struct delivery *d)
{
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(d->relay);
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);
	struct relay_open o = { .helo = conf->hostname,
				.tls = d->in_clear ? RELAY_TLS_NONE : delivery_tls(d),
				.implicit_tls = d->way.implicit_tls,
				.lmtp = d->way.lmtp };
	int e;

	if (d->at >= MIN(d->n_targets, RELAY_TRIES_MAX)) {
		if (!relay_must_protect(&d->lease))
			flow_failed(d, d->last.text);
		delivery_end_with(d, &d->last);
		return;
	}
	o.to = d->targets[d->at].to;
	o.host = d->targets[d->at].host;
	if (conf->relay_source.n > 0 && sock_parse_ip(conf->relay_source, 0, &o.source) == 0 &&
	    o.source.sa.sa_family != o.to.sa.sa_family)
		o.source = (struct sockaddr_any){ 0 };
	put_login(d, conf, &o);
	conn_enter(d->conn, CONN_OPENING);
	e = relay_open_put(&b, &o);
	if (e == 0)
		e = conn_send(d->conn, RELAY_OPEN, buf_span(&b), -1);
	secret_wipe(b.p, b.n);
	if (e < 0)
		delivery_end_with(d, &(struct relay_reason){
					     "4.4.1", SPAN("no connection could be asked for") });
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
	static const char *const outcome[] = { "ok",	 "connect", "greeting", "ehlo",	  "tls",
					       "no_tls", "timeout", "protocol", "closed", "auth" };
	struct event *e = event_note(&d->events, "relay.connect");

	event_span(e, "remote", d->conn->remote, &d->mem);
	event_str(e, "result", outcome[o->fail], &d->mem);
	if (o->reply.code)
		event_span(e, "reply", relay_reply_text(&o->reply, &d->mem), &d->mem);
	if (o->why.n > 0)
		event_span(e, "why", o->why, &d->mem);
	if (o->auth.n > 0)
		event_span(e, "auth", o->auth, &d->mem);
	if (!o->tls)
		return;
	e = event_note(&d->events, "relay.tls");
	event_span(e, "tls", o->tls_text, &d->mem);
	event_str(e, "verified", o->tls_verified ? "yes" : "no", &d->mem);
}

void delivery_note_last(struct delivery *d, const char *status, span why,
			const struct smtp_reply *reply)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(2048);

	/* What may go away by itself says more about the next attempt than what does not. */
	if (d->tried && d->last.status[0] == '4' && status[0] == '5')
		return;
	d->tried = true;
	buf_put_span(&b, d->conn->remote);
	buf_put_str(&b, ": ");
	buf_put_escaped(&b, why, 300);
	if (reply && reply->code) {
		buf_put_str(&b, ": ");
		buf_put_span(&b, relay_reply_text(reply, &d->mem));
	}
	d->last = (struct relay_reason){ status, arena_span(&d->mem, buf_span(&b)) };
}

/* Who requires TLS does not wait for it (RFC 8689 4.2.1). */
static const char *open_status(const struct delivery *d, enum relay_fail fail)
{
	bool tls = fail == RELAY_FAIL_TLS || fail == RELAY_FAIL_NO_TLS;

	return tls && relay_must_protect(&d->lease) ? "5.7.10" : relay_fail_status(fail);
}

void delivery_opened(struct delivery *d, const struct relay_opened *o)
{
	struct conn *c = d->conn;

	set_remote(c, &d->targets[d->at]);
	note_connect(d, o);
	if (o->fail == RELAY_FAIL_NONE) {
		conn_opened(c, o);
		delivery_begin_send(d);
		return;
	}
	delivery_note_last(d, open_status(d, o->fail), o->why, &o->reply);
	/* Opportunistic TLS that breaks is worth no more than no TLS (RFC 7435). */
	if (o->fail == RELAY_FAIL_TLS && delivery_tls(d) == RELAY_TLS_MAY && !d->in_clear) {
		d->in_clear = true;
	} else {
		d->in_clear = false;
		d->at++;
	}
	delivery_try_next(d);
}

void delivery_too_silent(struct delivery *d)
{
	struct conn *c = d->conn;

	set_remote(c, &d->targets[d->at]);
	delivery_note_last(d, "4.4.2",
			   SPAN("it did not answer for a while, and others wait for a connection"),
			   NULL);
	conn_send(c, RELAY_CLOSE, SPAN_NULL, -1);
	flow_failed(d, d->last.text);
	delivery_end_with(d, &d->last);
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
		delivery_give_back(d, clock_wall() + 2 * USEC_SEC);
		break;
	case CONN_SENDING:
		delivery_end_with(d, &(struct relay_reason){
					     "4.3.0", SPAN("the sending process was restarted") });
		break;
	default: /* a job has it, and will see that the connection is gone */
		break;
	}
}

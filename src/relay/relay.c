/* The runner: leases, local deliveries, the messages of `out`. */
#include "relay/flow_int.h"

#include <stdlib.h>

#include "base/log.h"

#define RETRY_JOBS    (50 * USEC_MSEC) /* the delivery lane was full */
#define RETRY_LEASE   (5 * USEC_SEC)   /* the queue answered with an error */
#define LOOK_AT_LEAST (60 * USEC_SEC)  /* a wall clock that jumps is noticed by then */

static void lease_job(struct job *j);
static void retry_backlog(void *arg);

struct conf *relay_conf(struct relay *r)
{
	return r->env->conf(r->env);
}

/* --- deliveries --- */

struct delivery *delivery_new(struct relay *r)
{
	struct delivery *d = xcalloc(1, sizeof *d);

	d->relay = r;
	d->body_fd = -1;
	arena_init(&d->mem);
	event_list_init(&d->events, &d->mem);
	buf_init(&d->payload, CHANNEL_MAX);
	d->last = (struct relay_reason){ "4.4.1", SPAN("no address could be tried") };
	pthread_mutex_lock(&r->lock);
	d->next = r->all;
	if (r->all)
		r->all->prev = d;
	r->all = d;
	pthread_mutex_unlock(&r->lock);
	return d;
}

void delivery_free(struct delivery *d)
{
	struct relay *r = d->relay;

	pthread_mutex_lock(&r->lock);
	if (d->prev)
		d->prev->next = d->next;
	else
		r->all = d->next;
	if (d->next)
		d->next->prev = d->prev;
	pthread_mutex_unlock(&r->lock);
	close_fdp(&d->body_fd);
	buf_done(&d->payload);
	arena_done(&d->mem);
	free(d);
}

void delivery_over(struct delivery *d)
{
	struct relay *r = d->relay;

	delivery_free(d);
	r->under_way--;
	if (!r->starved)
		return;
	relay_look(r);
	flow_wake(r);
}

void relay_post_job(struct delivery *d, void (*fn)(struct job *))
{
	struct relay *r = d->relay;

	d->job = (struct job){ .fn = fn };
	if (pool_post(r->env->pool, LANE_DELIVERY, &d->job) == 0)
		return;
	d->queue_next = r->backlog;
	r->backlog = d;
	loop_timer_arm(&r->retry, RETRY_JOBS);
}

static void retry_backlog(void *arg)
{
	struct relay *r = arg;
	struct delivery *d = r->backlog;

	r->backlog = NULL;
	while (d) {
		struct delivery *next = d->queue_next;

		d->queue_next = NULL;
		relay_post_job(d, d->job.fn);
		d = next;
	}
}

/* --- local --- */

static void local_done(void *arg)
{
	delivery_over(arg);
}

static void local_job(struct job *j)
{
	struct delivery *d = CONTAINER_OF(j, struct delivery, job);

	mail_deliver_local(d->relay->env, &d->lease);
	loop_post(d->relay->loop, local_done, d);
}

/* --- leasing --- */

static void wait_for_next(struct relay *r)
{
	usec in = RETRY_LEASE;

	if (r->lease_result >= 0) {
		if (r->lease_next == 0)
			return; /* nothing waits; queue_on_due tells */
		in = r->lease_next - clock_wall();
		in = MAX(MIN(in, LOOK_AT_LEAST), USEC_MSEC);
	}
	loop_timer_arm(&r->due, in);
}

static void leased(void *arg)
{
	struct relay *r = arg;
	struct delivery *d = r->batch;
	bool more = r->again || r->batch_n == r->batch_max;

	r->leasing = false;
	r->again = false;
	r->batch = NULL;
	while (d) {
		struct delivery *next = d->queue_next;

		d->queue_next = NULL;
		r->under_way++;
		if (mail_route_is_local(d->lease.route))
			relay_post_job(d, local_job);
		else
			delivery_start_remote(d);
		d = next;
	}
	if (r->lease_result < 0)
		log_event(LOG_ERROR, "relay.lease_failed", F_ERR(r->lease_result));
	else if (more) {
		relay_look(r);
		return;
	}
	wait_for_next(r);
}

bool relay_ended_early(struct relay *r, const struct queue_lease *l)
{
	if (mail_return_overdue(r->env, l))
		return true;
	/* Where it led was asked when it was accepted; that may be long ago. */
	return l->rcpts[0].attempts > 0 && mail_bring_home(r->env, l);
}

static void lease_job(struct job *j)
{
	struct relay *r = CONTAINER_OF(j, struct relay, lease_job);
	struct delivery **tail = &r->batch;

	r->batch_n = 0;
	r->lease_next = 0;
	r->lease_result = 0;
	while (r->batch_n < r->batch_max) {
		struct delivery *d = delivery_new(r);

		r->lease_result = queue_lease(r->env->queue, &d->mem, &d->lease, &r->lease_next);
		if (r->lease_result <= 0) {
			delivery_free(d);
			break;
		}
		if (relay_ended_early(r, &d->lease)) {
			delivery_free(d);
			continue;
		}
		*tail = d;
		tail = &d->queue_next;
		r->batch_n++;
	}
	loop_post(r->loop, leased, r);
}

/* How many more leases may be held. */
static unsigned lease_room(struct relay *r)
{
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(r);
	unsigned most = conf->relay_connections + RELAY_SPARE_LEASES;

	r->starved = r->under_way >= most;
	return r->starved ? 0 : most - r->under_way;
}

bool relay_may_lease(struct relay *r)
{
	return lease_room(r) > 0;
}

void relay_look(struct relay *r)
{
	unsigned room = lease_room(r);

	if (r->stopping || room == 0)
		return;
	if (r->leasing) {
		r->again = true;
		return;
	}
	r->batch_max = MIN(RELAY_LEASE_BATCH, room);
	r->lease_job = (struct job){ .fn = lease_job };
	if (pool_post(r->env->pool, LANE_DELIVERY, &r->lease_job) < 0) {
		loop_timer_arm(&r->due, RETRY_JOBS);
		return;
	}
	r->leasing = true;
}

static void look(void *arg)
{
	struct relay *r = arg;

	atomic_store(&r->kicked, false);
	if (atomic_exchange(&r->by_hand, false))
		flow_probe_all(r);
	relay_look(r);
}

static void due(void *arg)
{
	relay_look(arg);
}

static void on_due(void *arg)
{
	struct relay *r = arg;

	if (!atomic_exchange(&r->kicked, true))
		loop_post(r->loop, look, r);
}

void relay_kick(struct relay *r)
{
	atomic_store(&r->by_hand, true);
	on_due(r);
}

/* --- life --- */

struct relay *relay_new(struct core_env *env, struct loop *l)
{
	struct relay *r = xcalloc(1, sizeof *r);

	r->env = env;
	r->loop = l;
	r->destinations = map_new();
	r->conns = idmap_new();
	pthread_mutex_init(&r->lock, NULL);
	flow_init(r);
	loop_timer_init(&r->due, l, due, r);
	loop_timer_init(&r->retry, l, retry_backlog, r);
	queue_on_due(env->queue, on_due, r);
	return r;
}

void relay_stop(struct relay *r)
{
	r->stopping = true;
	loop_timer_stop(&r->due);
}

size_t relay_under_way(const struct relay *r)
{
	return r->under_way + (r->leasing ? 1 : 0);
}

static void free_tables(struct relay *r)
{
	size_t it = 0;
	uint64_t id;
	void *v;

	while (idmap_next(r->conns, &it, &id, &v)) {
		struct conn *c = v;

		conn_enter(c, CONN_RESOLVING); /* in no list */
		flow_leave(c);
		free((char *)c->remote.p);
		free((char *)c->tls.p);
		free(c);
	}
	flow_done(r);
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	queue_on_due(r->env->queue, NULL, NULL);
	loop_timer_stop(&r->due);
	loop_timer_stop(&r->retry);
	while (r->all) {
		if (r->all->lease.lease_id)
			queue_release(r->env->queue, &r->all->lease);
		delivery_free(r->all);
	}
	free_tables(r);
	map_free(r->destinations);
	idmap_free(r->conns);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* --- out --- */

void relay_set_out(struct relay *r, struct channel *out)
{
	r->out = out;
	relay_look(r);
	flow_wake(r);
}

void relay_out_gone(struct relay *r)
{
	uint64_t *ids = xcalloc(idmap_count(r->conns) + 1, sizeof *ids), id;
	size_t n = 0, it = 0;
	void *v;

	r->out = NULL;
	/* Ending one may free others, so the table is not walked meanwhile. */
	while (idmap_next(r->conns, &it, &id, &v))
		ids[n++] = id;
	for (size_t i = 0; i < n; i++) {
		struct conn *c = idmap_get(r->conns, ids[i]);

		if (!c)
			continue;
		c->open = false;
		if (c->delivery)
			delivery_out_gone(c->delivery);
		else
			conn_drop(c);
	}
	free(ids);
}

static void lost(struct conn *c)
{
	c->open = false;
	if (c->state == CONN_IDLE)
		conn_drop(c);
	/* Else a SEND crossed it and is answered, or a job has the delivery and will see. */
}

bool relay_message(struct relay *r, const struct channel_msg *m)
{
	struct conn *c = idmap_get(r->conns, m->id);
	bool ours = (m->type >= RELAY_OPENED && m->type <= RELAY_LOST) ||
		    (m->type == DNS_ANSWER && (m->id & RELAY_ID_BASE));

	if (!ours || !c)
		return ours;
	if (m->type == DNS_ANSWER && c->state == CONN_RESOLVING && c->delivery) {
		delivery_answers(c->delivery, m->payload);
	} else if (m->type == RELAY_OPENED && c->state == CONN_OPENING) {
		struct relay_opened o;
		struct arena mem _cleanup_(arena_donep);

		arena_init(&mem);
		if (relay_opened_get(m->payload, &mem, &o) < 0)
			o = (struct relay_opened){ .fail = RELAY_FAIL_PROTOCOL,
						   .why = SPAN("the outcome is not known") };
		delivery_opened(c->delivery, &o);
	} else if (m->type == RELAY_SENT && c->state == CONN_SENDING) {
		delivery_sent(c->delivery, m->payload);
	} else if (m->type == RELAY_LOST) {
		lost(c);
	}
	return true;
}

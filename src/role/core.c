/* core: owns the data.  Jobs run on worker threads; the main thread's loop only passes messages.
 * Parses what peers sent, but holds no socket to the outside. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

#include "api/admin.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "db/db.h"
#include "imap/imap.h"
#include "mail/mail.h"
#include "pop3/pop3.h"
#include "relay/relay.h"
#include "role/control.h"
#include "role/role.h"
#include "sasl/sasl.h"
#include "smtp/smtp.h"
#include "sys/ask.h"
#include "sys/channel.h"
#include "sys/file.h"
#include "sys/spawn.h"
#include "tls/hash.h"

#define MAX_FRONT_CHANNELS 64
#define MAX_ADMIN	   16
#define MAINTAIN_EVERY	   (5 * USEC_SEC)
#define SWEEP_EVERY	   (3600 * USEC_SEC)
#define DRAIN_MAX	   (10 * USEC_SEC)
#define DRAIN_LOOK	   (50 * USEC_MSEC)
#define ADMIN_DRAIN	   (5 * USEC_SEC)
#define MAX_QUEUED	   100000
#define LOAD_LOOK	   USEC_SEC
#define LOAD_WAIT	   (3 * USEC_SEC) /* so long may work wait for a thread before front is told */
#define LOAD_LASTS	   (3 * USEC_SEC)
#define RELOAD_WAIT_S	   30
#define EVENT_SEGMENT	   (64ull * 1024 * 1024)

/* A question of an admin thread to parent, and its answer. */
struct reload {
	pthread_mutex_t one, lock; /* ONE: a thread asks; LOCK: of the rest */
	pthread_cond_t come;
	uint64_t number;
	bool answered;
	char why[sizeof(((struct err_info *)0)->text)]; /* empty: it was done */
};

struct core {
	struct core_env env;
	struct conf *conf; /* the current snapshot; under lock */
	pthread_mutex_t lock;
	struct loop *loop;
	struct channel *control, *fronts[MAX_FRONT_CHANNELS], *out, *keys;
	struct relay *relay;
	struct job maintain;
	struct loop_timer maintain_timer, drain_timer, load_timer;
	struct reload reload;
	struct loop_io *admin_io;
	int admin_listener;
	unsigned admin_busy; /* atomic */
	void *poison_mem;
	struct buf passwords; /* of relay.hosts, for the configuration that comes next */
	usec sweep_at, drain_until;
	char spool_dir[16];
	bool single, maintaining;
	bool kept; /* threads still use it at the end */
	struct err_info info;
};

static struct conf *core_conf(struct core_env *env)
{
	struct core *c = CONTAINER_OF(env, struct core, env);
	struct conf *conf;

	pthread_mutex_lock(&c->lock);
	conf = conf_ref(c->conf);
	pthread_mutex_unlock(&c->lock);
	return conf;
}

/* RULES has room for CONF_MAX_RULES, and must live until the queue has taken them. */
static struct queue_conf queue_conf_of(const struct conf *conf, struct queue_rule *rules)
{
	for (size_t i = 0; i < conf->n_retry_rules; i++) {
		const struct conf_rule *r = &conf->retry_rules[i];

		rules[i] = (struct queue_rule){ .match = r->match,
						.min_priority = r->min_priority,
						.first = r->first,
						.max = r->max,
						.lifetime = r->lifetime,
						.factor_percent = r->factor };
	}
	return (struct queue_conf){ .dir = "queue",
				    .shards = conf->queue_shards,
				    .inline_max = conf->inline_max,
				    .retry_first = conf->retry_first,
				    .retry_max = conf->retry_max,
				    .lifetime = conf->retry_lifetime,
				    .warn_after = conf->warn_after,
				    .retry_factor_percent = conf->retry_factor,
				    .jitter_percent = conf->retry_jitter,
				    .open_wait = USEC_SEC,
				    .rules = rules,
				    .n_rules = conf->n_retry_rules };
}

/* ------------------------------------------------------------------ configuration and clock */

static void passwords_forget(struct core *c)
{
	secret_wipe(c->passwords.p, c->passwords.n);
	buf_reset(&c->passwords);
}

static void take_passwords(struct core *c, span payload)
{
	passwords_forget(c);
	buf_put_span(&c->passwords, payload);
}

static void passwords_apply(struct core *c, struct conf *fresh)
{
	struct cursor at = cursor_of(buf_span(&c->passwords));

	while (at.at < at.s.n && !at.bad) {
		span file = cursor_blob(&at);

		conf_set_password(fresh, file, cursor_blob(&at));
	}
	passwords_forget(c);
}

static int take_conf(struct core *c, span text)
{
	struct conf *fresh, *old;
	int e = conf_parse(text, "configuration", &fresh, &c->info);

	if (e < 0)
		return e;
	passwords_apply(c, fresh);
	pthread_mutex_lock(&c->lock);
	old = c->conf;
	c->conf = fresh;
	pthread_mutex_unlock(&c->lock);
	conf_unref(old);
	log_setup("core", (enum log_level)fresh->log_level, (enum log_format)fresh->log_format, 2);
	if (c->env.queue) {
		struct queue_rule rules[CONF_MAX_RULES];
		struct queue_conf q = queue_conf_of(fresh, rules);

		queue_set_conf(c->env.queue, &q);
	}
	/* What was right before serves on. */
	if (c->env.sasl && sasl_env_configure(c->env.sasl, fresh, &c->info) < 0)
		log_event(LOG_ERROR, "core.auth_refused", F_STR("why", c->info.text));
	return 0;
}

/* The lab's clock survives a restart, else a retry schedule would jump back with it. */
#define CLOCK_FILE "lab-clock"

static void clock_restore(struct core *c)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64);

	if (c->conf->lab && file_read(CLOCK_FILE, 64, &b) == 0)
		clock_set_offset(strtoll(buf_cstr(&b), NULL, 10));
}

static void on_clock_set(void *arg, usec offset)
{
	struct core *c = arg;
	char text[32];

	snprintf(text, sizeof text, "%lld", (long long)offset);
	(void)file_replace(CLOCK_FILE, span_str(text), 0600);
	clock_set_offset(offset);
	queue_clock_changed(c->env.queue);
	relay_kick(c->relay);
}

/* ------------------------------------------------------------------ admin */

/* On an admin thread.  One asks at a time; an answer that comes too late finds another number. */
static int on_reload(void *arg, struct err_info *info)
{
	struct core *c = arg;
	struct reload *r = &c->reload;
	struct timespec until;
	int e = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += RELOAD_WAIT_S;
	pthread_mutex_lock(&r->one);
	pthread_mutex_lock(&r->lock);
	r->answered = false;
	(void)channel_send(c->control, CONTROL_RELOAD, ++r->number, SPAN_NULL, -1);
	while (!r->answered && e == 0)
		e = pthread_cond_timedwait(&r->come, &r->lock, &until);
	if (!r->answered)
		e = err_set(info, ERR_TIMEOUT, "the server did not say whether it reloaded");
	else
		e = r->why[0] ? err_set(info, ERR_INVAL, "%s", r->why) : 0;
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_unlock(&r->one);
	return e;
}

static void on_reloaded(struct core *c, uint64_t number, span why)
{
	struct reload *r = &c->reload;

	pthread_mutex_lock(&r->lock);
	if (number == r->number) {
		snprintf(r->why, sizeof r->why, "%.*s", SPAN_FMT(why));
		r->answered = true;
		pthread_cond_signal(&r->come);
	}
	pthread_mutex_unlock(&r->lock);
}

static void reload_init(struct reload *r)
{
	pthread_condattr_t mono;

	pthread_mutex_init(&r->one, NULL);
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_cond_init(&r->come, &mono);
	pthread_condattr_destroy(&mono);
}

static void on_stop(void *arg)
{
	struct core *c = arg;

	(void)channel_send(c->control, CONTROL_STOP, 0, SPAN_NULL, -1);
}

static void on_kick(void *arg)
{
	struct core *c = arg;

	relay_kick(c->relay);
}

static size_t on_sessions(void *arg)
{
	struct core *c = arg;

	return sess_table_count(c->env.sessions);
}

struct told_destination {
	void (*fn)(void *arg, const struct admin_destination *d);
	void *arg;
};

static void tell_destination(void *arg, const struct relay_destination *d)
{
	const struct told_destination *to = arg;

	to->fn(to->arg, &(struct admin_destination){ .route = d->route,
						     .group = d->group,
						     .why = d->why,
						     .state = d->state,
						     .open = d->open,
						     .group_open = d->group_open,
						     .limit = d->limit,
						     .waits = d->waits,
						     .cooled_for = d->cooled_for });
}

static int on_destinations(void *arg, void (*fn)(void *fn_arg, const struct admin_destination *d),
			   void *fn_arg)
{
	struct core *c = arg;

	return relay_destinations(c->relay, tell_destination,
				  &(struct told_destination){ fn, fn_arg });
}

struct admin_start {
	struct core *core;
	int fd;
};

static void *admin_thread(void *arg)
{
	struct admin_start s = *(struct admin_start *)arg;
	struct conf *conf = core_conf(&s.core->env);
	struct admin_hooks hooks = { .arg = s.core,
				     .clock_set = conf->lab ? on_clock_set : NULL,
				     .reload = on_reload,
				     .stop = on_stop,
				     .relay_kick = on_kick,
				     .destinations = on_destinations,
				     .sessions = on_sessions };

	conf_unref(conf);
	free(arg);
	admin_serve(&s.core->env, &hooks, s.fd);
	__atomic_sub_fetch(&s.core->admin_busy, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void on_admin(void *arg, unsigned events)
{
	struct core *c = arg;
	int fd = accept4(c->admin_listener, NULL, NULL, SOCK_CLOEXEC);
	struct admin_start *s;
	pthread_t t;

	(void)events;
	if (fd < 0) { /* out of descriptors: a loop that only tries again would starve all else */
		if (errno == EMFILE || errno == ENFILE)
			loop_io_set(c->admin_io, 0);
		return;
	}
	if (__atomic_add_fetch(&c->admin_busy, 1, __ATOMIC_ACQUIRE) > MAX_ADMIN)
		goto refuse;
	s = xcalloc(1, sizeof *s);
	*s = (struct admin_start){ c, fd };
	if (pthread_create(&t, NULL, admin_thread, s) == 0) {
		pthread_detach(t);
		return;
	}
	free(s);
refuse:
	__atomic_sub_fetch(&c->admin_busy, 1, __ATOMIC_RELEASE);
	close(fd);
}

/* ------------------------------------------------------------------ what front must know */

static void tell_fronts(struct core *c, enum sess_type type, span payload)
{
	for (unsigned i = 0; i < MAX_FRONT_CHANNELS; i++)
		if (c->fronts[i])
			(void)channel_send(c->fronts[i], type, 0, payload, -1);
}

struct told_ban {
	struct core *core;
	struct sess_ban ban;
};

static void on_ban_posted(void *arg)
{
	struct told_ban *t = arg;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);

	sess_ban_put(&b, &t->ban);
	tell_fronts(t->core, SESS_BAN, buf_span(&b));
	free(t);
}

/* On the thread that made the ban; the channels are the loop's. */
static void on_ban(void *arg, const struct sess_ban *ban)
{
	struct told_ban *t = xcalloc(1, sizeof *t);

	*t = (struct told_ban){ arg, *ban };
	loop_post(t->core->loop, on_ban_posted, t);
}

static void tell_one_front(void *arg, const struct sess_ban *ban)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);

	sess_ban_put(&b, ban);
	(void)channel_send(arg, SESS_BAN, 0, buf_span(&b), -1);
}

/* Work that waits for a thread: who is inside is served first, so nobody new comes in. */
static void on_load_look(void *arg)
{
	static const enum lane lanes[] = { LANE_INTERACTIVE, LANE_AUTH, LANE_DELIVERY };
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4);
	struct core *c = arg;
	usec oldest, worst = 0;

	for (size_t i = 0; i < ARRAY_LEN(lanes); i++) {
		oldest = 0;
		(void)pool_waiting(c->env.pool, lanes[i], &oldest);
		worst = MAX(worst, oldest);
	}
	if (worst > LOAD_WAIT) {
		log_event(LOG_WARNING, "core.overloaded",
			  F_U64("wait_ms", (uint64_t)(worst / USEC_MSEC)));
		buf_put_le32(&b, LOAD_LASTS / USEC_MSEC);
		tell_fronts(c, SESS_LOAD, buf_span(&b));
	}
	loop_timer_arm(&c->load_timer, LOAD_LOOK);
}

static void take_counts(span payload)
{
	static const enum counter by_why[SESS_WHY_COUNT] = {
		[SESS_WHY_LOAD] = COUNT_REFUSED_LOAD,	  [SESS_WHY_RATE] = COUNT_REFUSED_RATE,
		[SESS_WHY_BANNED] = COUNT_REFUSED_BANNED, [SESS_WHY_EARLY] = COUNT_EARLY_TALKERS,
		[SESS_WHY_PROXY] = COUNT_PROXY_ERRORS,	  [SESS_WHY_MEMORY] = COUNT_MEMORY_CLOSED,
	};
	struct cursor p = cursor_of(payload);

	for (int why = 0; why < SESS_WHY_COUNT; why++) {
		uint32_t n = cursor_le32(&p);

		if (by_why[why] && !p.bad)
			count_add(by_why[why], n);
	}
}

/* ------------------------------------------------------------------ maintenance */

static void maintain_job(struct job *j)
{
	struct core *c = CONTAINER_OF(j, struct core, maintain);

	mail_drop_keys(&c->env);
	guard_maintain(c->env.guard);
	store_maintain(c->env.store);
	(void)directory_save_uses(c->env.directory);
	sasl_env_refresh(c->env.sasl);
	if (c->sweep_at < clock_mono()) {
		(void)queue_sweep(c->env.queue);
		c->sweep_at = clock_mono() + SWEEP_EVERY;
	}
	__atomic_store_n(&c->maintaining, false, __ATOMIC_RELEASE);
}

static void on_maintain(void *arg)
{
	struct core *c = arg;

	if (!__atomic_exchange_n(&c->maintaining, true, __ATOMIC_ACQUIRE)) {
		c->maintain = (struct job){ .fn = maintain_job };
		if (pool_post(c->env.pool, LANE_MAINTENANCE, &c->maintain) < 0)
			__atomic_store_n(&c->maintaining, false, __ATOMIC_RELEASE);
	}
	loop_io_set(c->admin_io, LOOP_READ); /* see on_admin() */
	loop_timer_arm(&c->maintain_timer, MAINTAIN_EVERY);
}

/* ------------------------------------------------------------------ messages */

static void on_front(void *arg, struct channel *ch, struct channel_msg *m)
{
	struct core *c = arg;

	if (m->type == SESS_COUNTS)
		take_counts(m->payload);
	else
		sess_table_message(c->env.sessions, ch, m);
}

static void on_front_closed(void *arg, struct channel *ch)
{
	struct core *c = arg;

	sess_table_front_gone(c->env.sessions, ch);
	for (unsigned i = 0; i < MAX_FRONT_CHANNELS; i++)
		if (c->fronts[i] == ch)
			c->fronts[i] = NULL;
	channel_close(ch);
}

static void on_out(void *arg, struct channel *ch, struct channel_msg *m)
{
	struct core *c = arg;

	(void)ch;
	if (!ask_table_message(c->env.asks, m))
		relay_message(c->relay, m);
}

static void on_out_closed(void *arg, struct channel *ch)
{
	struct core *c = arg;

	c->out = NULL;
	ask_table_set_out(c->env.asks, NULL);
	relay_out_gone(c->relay);
	channel_close(ch);
}

static void on_keys(void *arg, struct channel *ch, struct channel_msg *m)
{
	struct core *c = arg;

	(void)ch;
	(void)ask_table_message(c->env.keys_asks, m);
}

static void on_keys_closed(void *arg, struct channel *ch)
{
	struct core *c = arg;

	c->keys = NULL;
	ask_table_set_out(c->env.keys_asks, NULL);
	channel_close(ch);
}

static void take_channel(struct core *c, uint64_t peer, int fd)
{
	if (peer == CONTROL_PEER_KEYS) {
		channel_close(c->keys);
		c->keys = channel_open(c->loop, fd, on_keys, on_keys_closed, c);
		ask_table_set_out(c->env.keys_asks, c->keys);
		return;
	}
	if (peer == CONTROL_PEER_OUT) {
		/* A new out can be announced before the old one's channel was seen to close. */
		if (c->out) {
			relay_out_gone(c->relay);
			channel_close(c->out);
		}
		c->out = channel_open(c->loop, fd, on_out, on_out_closed, c);
		ask_table_set_out(c->env.asks, c->out);
		relay_set_out(c->relay, c->out);
		return;
	}
	for (unsigned i = 0; peer == CONTROL_PEER_FRONT && i < MAX_FRONT_CHANNELS; i++) {
		if (c->fronts[i])
			continue;
		c->fronts[i] = channel_open(c->loop, fd, on_front, on_front_closed, c);
		guard_tell_all(c->env.guard, tell_one_front, c->fronts[i]);
		return;
	}
	close(fd);
}

/* Deliveries under way end first: a peer's last answer is worth waiting for.  Then the loop stops,
 * and the databases are closed behind it. */
static void on_drain_look(void *arg)
{
	struct core *c = arg;

	if (relay_under_way(c->relay) && clock_mono() < c->drain_until)
		loop_timer_arm(&c->drain_timer, DRAIN_LOOK);
	else
		loop_stop(c->loop);
}

static void on_control(void *arg, struct channel *ch, struct channel_msg *m)
{
	struct core *c = arg;

	(void)ch;
	switch (m->type) {
	case CONTROL_CONF:
		if (take_conf(c, m->payload) < 0)
			log_event(LOG_ERROR, "core.conf_refused", F_STR("why", c->info.text));
		break;
	case CONTROL_PASSWORDS:
		take_passwords(c, m->payload);
		break;
	case CONTROL_CHANNEL:
		take_channel(c, m->id, m->fd);
		m->fd = -1;
		break;
	case CONTROL_RELOADED:
		on_reloaded(c, m->id, m->payload);
		break;
	case CONTROL_DRAIN:
		c->drain_until = clock_mono() + DRAIN_MAX;
		relay_stop(c->relay);
		on_drain_look(c);
		break;
	}
}

static void on_control_closed(void *arg, struct channel *ch)
{
	struct core *c = arg;

	(void)ch;
	loop_stop(c->loop); /* the parent is gone */
}

/* ------------------------------------------------------------------ start */

/* Everything parent sends up to START, in order, blocking. */
static int read_start(struct core *c, int control, int *channels, uint64_t *peers, size_t *ret_n)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);
	size_t n = 0;
	uint16_t type;
	uint64_t id;
	int fd, e;

	for (;;) {
		buf_reset(&b);
		fd = -1;
		e = channel_recv_fd(control, 0, &type, &id, &b, &fd);
		if (e < 0)
			return err_set(&c->info, e, "the parent is gone");
		if (type == CONTROL_CONF && (e = take_conf(c, buf_span(&b))) < 0)
			return e;
		if (type == CONTROL_PASSWORDS)
			take_passwords(c, buf_span(&b));
		if (type == CONTROL_LISTEN_ADMIN)
			c->admin_listener = STEAL_FD(&fd);
		if (type == CONTROL_POISON) {
			c->poison_mem = mmap(NULL, POISON_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
					     fd, 0);
			if (c->poison_mem == MAP_FAILED)
				return err_set(&c->info, ERR_NOMEM, "cannot map the poison page");
		}
		if (type == CONTROL_CHANNEL && n < MAX_FRONT_CHANNELS + 2) {
			channels[n] = STEAL_FD(&fd);
			peers[n++] = id;
		}
		close_fdp(&fd);
		if (type == CONTROL_START)
			break;
	}
	*ret_n = n;
	return c->conf ? 0 : err_set(&c->info, ERR_INTERNAL, "no configuration came");
}

static int open_data(struct core *c)
{
	struct conf *f = c->conf;
	struct store_conf store = { .dir = "accounts",
				    .max_open = f->store_handles,
				    .inline_max = f->inline_max };
	struct queue_rule rules[CONF_MAX_RULES];
	struct queue_conf queue = queue_conf_of(f, rules);
	struct events_conf events = { .dir = "events",
				      .segment_bytes = EVENT_SEGMENT,
				      .retention = f->events_retention };
	char dir[4096], user[128];
	int e;

	/* Paths below are relative, so that a role needs no right on the way to its folder. */
	snprintf(dir, sizeof dir, "%.*s", SPAN_FMT(f->data_dir));
	snprintf(user, sizeof user, "%.*s", SPAN_FMT(f->user_core));
	if (chdir(dir) != 0)
		return err_set(&c->info, err_from_errno(errno), "%s: %s", dir, strerror(errno));
	if (!c->single && (e = spawn_drop(user, &c->info)) < 0)
		return e;
	clock_restore(c);
	snprintf(c->spool_dir, sizeof c->spool_dir, "spool");
	c->env.spool_dir = c->spool_dir;
	c->env.poison = poison_open(c->poison_mem);
	if ((e = db_log_open(".", f->commit_log ? MAX(f->commit_log, (uint64_t)DB_LOG_MIN) : 0,
			     &c->info)) < 0 ||
	    (e = directory_open("directory.db", &c->env.directory, &c->info)) < 0 ||
	    (e = store_open(&store, &c->env.store, &c->info)) < 0 ||
	    (e = queue_open(&queue, &c->env.queue, &c->info)) < 0 ||
	    (e = events_open(&events, &c->env.events, &c->info)) < 0 ||
	    (e = guard_open("guard.db", on_ban, c, &c->env.guard, &c->info)) < 0)
		return e;
	c->env.sasl = sasl_env_new(c->env.directory);
	return sasl_env_configure(c->env.sasl, f, &c->info);
}

static void wake_session(void *arg, uint64_t id)
{
	sess_wake(arg, id);
}

static void start_workers(struct core *c)
{
	struct conf *f = c->conf;
	struct pool_conf pool = { .per_key = 4,
				  .max_queued = MAX_QUEUED,
				  .threads = { [LANE_INTERACTIVE] = f->threads_interactive,
					       [LANE_AUTH] = f->threads_auth,
					       [LANE_DELIVERY] = f->threads_delivery,
					       [LANE_SPOOL] = f->threads_spool,
					       [LANE_MAINTENANCE] = f->threads_maintenance } };

	c->env.pool = pool_new(&pool);
	c->env.sessions = sess_table_new(c->env.pool, &c->env);
	sess_table_add_proto(c->env.sessions, &smtp_sess_ops);
	sess_table_add_proto(c->env.sessions, &submission_sess_ops);
	sess_table_add_proto(c->env.sessions, &local_sess_ops);
	sess_table_add_proto(c->env.sessions, &imap_sess_ops);
	sess_table_add_proto(c->env.sessions, &pop3_sess_ops);
	sess_table_add_proto(c->env.sessions, &lmtp_sess_ops);
	c->loop = loop_new();
	c->env.asks = ask_table_new(c->loop);
	c->env.keys_asks = ask_table_new(c->loop);
	sasl_env_attach(c->env.sasl, c->env.asks, wake_session, c->env.sessions);
	c->relay = relay_new(&c->env, c->loop);
	loop_timer_init(&c->maintain_timer, c->loop, on_maintain, c);
	loop_timer_init(&c->drain_timer, c->loop, on_drain_look, c);
	loop_timer_init(&c->load_timer, c->loop, on_load_look, c);
	loop_timer_arm(&c->maintain_timer, MAINTAIN_EVERY);
	loop_timer_arm(&c->load_timer, LOAD_LOOK);
}

/* The threads of admin use what is closed next. */
static bool admin_has_ended(struct core *c)
{
	usec end = clock_mono() + ADMIN_DRAIN;

	while (__atomic_load_n(&c->admin_busy, __ATOMIC_ACQUIRE) && clock_mono() < end)
		usleep(10000);
	return !__atomic_load_n(&c->admin_busy, __ATOMIC_ACQUIRE);
}

/* False: an admin command still runs, so nothing may be taken from under it. */
static bool stop(struct core *c)
{
	if (c->admin_io)
		loop_io_del(c->admin_io);
	if (!admin_has_ended(c))
		return false;		      /* everything durable stands a kill at any time */
	ask_table_set_out(c->env.asks, NULL); /* jobs that wait go on, and end */
	ask_table_set_out(c->env.keys_asks, NULL);
	pool_stop(c->env.pool);
	db_log_drain(); /* answers that were held back leave */
	sess_table_free(c->env.sessions);
	ask_table_free(c->env.asks);
	ask_table_free(c->env.keys_asks);
	relay_free(c->relay);
	pool_free(c->env.pool);
	mail_drop_keys(&c->env);
	events_close(c->env.events);
	guard_close(c->env.guard);
	queue_close(c->env.queue);
	store_close(c->env.store);
	sasl_env_free(c->env.sasl);
	directory_close(c->env.directory);
	db_log_close();
	poison_close(c->env.poison);
	channel_close(c->control);
	channel_close(c->out);
	channel_close(c->keys);
	for (unsigned i = 0; i < MAX_FRONT_CHANNELS; i++)
		channel_close(c->fronts[i]);
	loop_free(c->loop);
	return true;
}

static int serve(struct core *c, int control)
{
	int channels[MAX_FRONT_CHANNELS + 2], e;
	uint64_t peers[MAX_FRONT_CHANNELS + 2];
	size_t n = 0;

	if ((e = read_start(c, control, channels, peers, &n)) < 0 || (e = open_data(c)) < 0)
		return e;
	start_workers(c);
	c->control = channel_open(c->loop, dup(control), on_control, on_control_closed, c);
	for (size_t i = 0; i < n; i++)
		take_channel(c, peers[i], channels[i]);
	c->admin_io = loop_io_add(c->loop, c->admin_listener, LOOP_READ, on_admin, c);
	(void)channel_send(c->control, CONTROL_READY, 0, SPAN_NULL, -1);
	loop_run(c->loop);
	c->kept = !stop(c);
	(void)channel_send_fd(control, CONTROL_DRAINED, 0, SPAN_NULL, -1);
	return 0;
}

static void core_free(struct core *c)
{
	if (c->kept)
		return; /* the process ends with it */
	if (c->poison_mem)
		munmap(c->poison_mem, POISON_PAGE);
	if (c->admin_listener >= 0)
		close(c->admin_listener);
	passwords_forget(c);
	buf_done(&c->passwords);
	conf_unref(c->conf);
	pthread_cond_destroy(&c->reload.come);
	pthread_mutex_destroy(&c->reload.lock);
	pthread_mutex_destroy(&c->reload.one);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int role_core(int control, bool single)
{
	struct core *c = xcalloc(1, sizeof *c);
	int e;

	buf_init(&c->passwords, CHANNEL_MAX);

	pthread_mutex_init(&c->lock, NULL);
	reload_init(&c->reload);
	c->single = single;
	c->env.conf = core_conf;
	c->admin_listener = -1;
	log_setup("core", LOG_INFO, LOG_LOGFMT, 2);
	e = serve(c, control);
	if (e < 0) {
		/* Paths are told relative to the folder that holds them. */
		span dir = c->conf ? c->conf->data_dir : SPAN_NULL;

		fprintf(stderr, "postrider: core: %.*s%s%s\n", SPAN_FMT(dir), dir.n ? ": " : "",
			c->info.text);
	}
	close(control);
	core_free(c);
	return e < 0 ? role_exit_code(e) : 0;
}

/* queue: every sequence of a few steps, and long random ones, against a small model of Q1-Q7.
 *
 * Three messages (one with a local recipient, one with its body in a blob, one that comes late) meet all that can be
 * done to them: accept, lease, settling with each outcome, release, what an administrator does, routes held, a disk
 * that fails, a crash (closing with leases held), time.  After each step the whole queue is compared with the model.
 * A state is reached by replaying its steps on a new queue; states that the model cannot tell apart are explored once.
 * On failure the steps are printed.
 *
 * POSTRIDER_LONG=1 goes two steps deeper and walks longer.  mutations.py breaks the room's code on purpose, one invariant at a time,
 * and wants this test to fail. */
#include "fixture.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/map.h"

enum { MESSAGES = 3, RCPTS = 2, MAX_LEASES = 6, PATH_MAX_STEPS = 400 };
enum rcpt_state { ABSENT, WAITING, LEASED, DONE, FAILED, DROPPED };
enum route { LOCAL, X, Y };

static const char *const route_text[] = { "local", "smtp:x.test", "smtp:y.test" };
static const struct {
	size_t n;
	enum route route[RCPTS];
	const char *body;
} plan[MESSAGES] = {
	{ 2, { LOCAL, X }, "inline" },
	{ 2, { X, X }, "a body that is longer than what goes into the database: it is a blob" },
	{ 1, { X }, "late" },
};
#define INLINE_MAX 40
#define DEFERRAL   (12 * HOUR)

enum kind {
	STEP_ACCEPT,
	STEP_ACCEPT_SICK,
	STEP_LEASE,
	STEP_LEASE_ROUTE,
	STEP_SETTLE,
	STEP_SETTLE_SICK,
	STEP_RELEASE,
	STEP_HOLD,
	STEP_UNHOLD,
	STEP_RETRY,
	STEP_REROUTE,
	STEP_DROP,
	STEP_BOUNCE,
	STEP_HOLD_ROUTE,
	STEP_RESUME_ROUTE,
	STEP_KEYS,
	STEP_TIME,
	STEP_CRASH
};
static const char *const kind_text[] = { "accept", "accept-sick", "lease",	  "lease-route",
					 "settle", "settle-sick", "release",	  "hold",
					 "unhold", "retry",	  "reroute",	  "drop",
					 "bounce", "hold-route",  "resume-route", "keys",
					 "time",   "crash" };
/* WHAT: the message of an accept, the lease, or the recipient of a change (0: all, else one). */
struct step {
	uint8_t kind, what, outcome[RCPTS];
};
struct path {
	struct step v[PATH_MAX_STEPS];
	size_t n;
};

struct model_rcpt {
	enum rcpt_state state;
	enum route route;
	unsigned attempts;
	bool due, held, key_known;
	uint8_t key[16];
};
struct model_lease {
	bool open, kept;
	struct queue_lease l;
	uint8_t outcome[RCPTS]; /* kept */
};
struct world {
	struct fixture f;
	struct id id[MESSAGES];
	struct model_rcpt r[MESSAGES][RCPTS];
	struct model_lease lease[MAX_LEASES];
	bool route_held[3], key_listed;
	unsigned dsns;
	const struct path *path;
	size_t at;
};

static void wrong(const struct world *w, const char *what)
{
	for (size_t i = 0; i <= w->at && i < w->path->n; i++) {
		const struct step *s = &w->path->v[i];
		print_error("%s(%u,%u,%u) ", kind_text[s->kind], s->what, s->outcome[0],
			    s->outcome[1]);
	}
	fail_msg("\n%s", what);
}

static void want(const struct world *w, bool ok, const char *what)
{
	if (!ok)
		wrong(w, what);
}

/* ------------------------------------------------------------------ what the model knows */

static void address_of(int m, int i, char ret[16])
{
	snprintf(ret, 16, "%d%d@x.test", m, i);
}

static struct model_rcpt *model_of(struct world *w, span address)
{
	return &w->r[address.p[0] - '0'][address.p[1] - '0'];
}

static bool is_there(const struct model_rcpt *r)
{
	return r->state == WAITING || r->state == LEASED;
}

static bool message_left(const struct world *w, int m)
{
	bool known = false;
	for (size_t i = 0; i < plan[m].n; i++) {
		if (is_there(&w->r[m][i]))
			return false;
		known |= w->r[m][i].state != ABSENT;
	}
	return known;
}

/* Each recipient R that waits or is leased. */
#define EACH_RCPT(w, rcpt)                                                      \
	for (int k_ = 0; k_ < MESSAGES * RCPTS; k_++)                           \
		for (struct model_rcpt *rcpt = &(w)->r[k_ / RCPTS][k_ % RCPTS]; \
		     rcpt && is_there(rcpt); rcpt = NULL)

/* A route of which nothing is left is not held; a message that has left lists its keys. */
static void conclude(struct world *w, bool was_there)
{
	for (enum route k = LOCAL; k <= Y; k++) {
		bool used = false;
		EACH_RCPT(w, r) used |= r->route == k;
		w->route_held[k] &= used;
	}
	if (was_there && message_left(w, 0))
		w->key_listed = true;
}

static void apply(struct world *w, const struct queue_lease *l, const uint8_t *outcome)
{
	bool failed = false;
	for (size_t i = 0; i < l->n_rcpts; i++) {
		struct model_rcpt *r = model_of(w, l->rcpts[i].address);
		r->attempts += outcome[i] != OUTCOME_RELEASED;
		failed |= outcome[i] == OUTCOME_FAILED;
		r->state = outcome[i] == OUTCOME_DELIVERED ? DONE
			   : outcome[i] == OUTCOME_FAILED  ? FAILED
							   : WAITING;
		if (outcome[i] == OUTCOME_DEFERRED)
			r->due = false;
	}
	w->dsns += failed;
}

/* ------------------------------------------------------------------ steps */

static void disk_fails(bool fails)
{
	struct rlimit l;
	getrlimit(RLIMIT_FSIZE, &l);
	l.rlim_cur = fails ? 1 : l.rlim_max;
	setrlimit(RLIMIT_FSIZE, &l);
	if (!fails)
		pass_time(61 * USEC_SEC); /* then it is tried again */
}

static void do_accept(struct world *w, const struct step *s)
{
	char address[RCPTS][16];
	struct queue_rcpt_in r[RCPTS];
	int m = s->what;
	for (size_t i = 0; i < plan[m].n; i++) {
		address_of(m, (int)i, address[i]);
		r[i] = to(address[i], route_text[plan[m].route[i]]);
	}
	disk_fails(s->kind == STEP_ACCEPT_SICK);
	int e = accept_body(&w->f, span_str(plan[m].body), r, plan[m].n, &w->id[m]);
	disk_fails(false);
	if (s->kind == STEP_ACCEPT_SICK) {
		want(w, e < 0, "Q1: accepted without a disk");
		return;
	}
	want(w, e == 0, "accept failed");
	for (size_t i = 0; i < plan[m].n; i++)
		w->r[m][i] = (struct model_rcpt){ .state = WAITING,
						  .route = plan[m].route[i],
						  .due = true };
}

static bool can_be_leased(const struct world *w, const struct model_rcpt *r, int route)
{
	return r->state == WAITING && r->due && !r->held &&
	       (route < 0 ? !w->route_held[r->route] : (int)r->route == route);
}

/* ROUTE: -1 for any. */
static void note_lease(struct world *w, const struct queue_lease *l, int route)
{
	_cleanup_(buf_donep) struct buf body = BUF_INIT(1000);
	int at = 0;
	while (w->lease[at].open)
		at++;
	w->lease[at] = (struct model_lease){ .open = true, .l = *l };
	for (size_t i = 0; i < l->n_rcpts; i++) {
		struct model_rcpt *r = model_of(w, l->rcpts[i].address);
		want(w, can_be_leased(w, r, route), "Q2, Q7: leased what must not be");
		want(w, span_eq_str(l->route, route_text[r->route]), "leased by another route");
		want(w, r->attempts == l->rcpts[i].attempts, "attempts");
		want(w, !r->key_known || memcmp(r->key, l->rcpts[i].key, 16) == 0,
		     "Q3: the key changed");
		memcpy(r->key, l->rcpts[i].key, 16);
		r->key_known = true;
		r->state = LEASED;
	}
	int m = l->rcpts[0].address.p[0] - '0';
	want(w,
	     queue_body_read(w->f.q, l, 0, 1000, &body) == 0 &&
		     span_eq_str(buf_span(&body), plan[m].body),
	     "Q1: the body");
}

static void do_lease(struct world *w, int route)
{
	struct queue_lease l;
	if (route < 0) { /* first what could not be committed */
		for (int i = 0; i < MAX_LEASES; i++) {
			if (!w->lease[i].kept)
				continue;
			apply(w, &w->lease[i].l, w->lease[i].outcome);
			w->lease[i].open = w->lease[i].kept = false;
		}
	}
	bool got = route < 0 ? lease(&w->f, &l)
			     : queue_lease_route(w->f.q, span_str(route_text[route]), &w->f.mem,
						 &l) == 1;
	if (got) {
		note_lease(w, &l, route);
		return;
	}
	EACH_RCPT(w, r) want(w, !can_be_leased(w, r, route), "something due was forgotten");
}

static void do_settle(struct world *w, const struct step *s)
{
	struct model_lease *at = &w->lease[s->what];
	struct queue_lease *l = &at->l;
	struct queue_result res[RCPTS];
	struct queue_rcpt_in back = to("from@example.org", "smtp:dsn");
	bool failed = false, sick = s->kind == STEP_SETTLE_SICK, durable = false;
	for (size_t i = 0; i < l->n_rcpts; i++) {
		res[i] = (struct queue_result){ .row = l->rcpts[i].row,
						.outcome = (enum rcpt_outcome)s->outcome[i] };
		failed |= s->outcome[i] == OUTCOME_FAILED;
		durable |= s->outcome[i] != OUTCOME_RELEASED;
	}
	back.not_before = clock_wall() + 1000000 * HOUR; /* is counted, never delivered */
	struct queue_message_in dsn = { .id = id_new(),
					.body = SPAN("sorry"),
					.size = 5,
					.is_dsn = true,
					.rcpts = &back,
					.n_rcpts = 1 };
	disk_fails(sick);
	int e = queue_settle(w->f.q, l, res, l->n_rcpts, failed ? &dsn : NULL, &w->f.mem);
	disk_fails(false);
	want(w, (e == 0) == (!sick || !durable), "settle");
	if (e < 0) {
		queue_release(w->f.q, l); /* as callers do: leaves it alone */
		at->kept = true;
		memcpy(at->outcome, s->outcome, sizeof(at->outcome));
		return;
	}
	apply(w, l, s->outcome);
	at->open = false;
}

static void do_release(struct world *w, int lease_no)
{
	struct model_lease *at = &w->lease[lease_no];
	queue_release(w->f.q, &at->l);
	for (size_t i = 0; i < at->l.n_rcpts; i++)
		model_of(w, at->l.rcpts[i].address)->state = WAITING;
	at->open = false;
}

static int bounce_lease(void *arg, const struct queue_lease *l)
{
	struct world *w = arg;
	struct queue_result res[RCPTS];
	for (size_t i = 0; i < l->n_rcpts; i++)
		res[i] = (struct queue_result){ .row = l->rcpts[i].row, .outcome = OUTCOME_FAILED };
	return queue_settle(w->f.q, l, res, l->n_rcpts, NULL, &w->f.mem);
}

/* A change by hand: of the model first, which counts what it touches. */
static size_t change_model(struct world *w, enum kind kind, const struct model_rcpt *only)
{
	size_t n = 0;
	EACH_RCPT(w, r)
	{
		if (r->state != WAITING || (only && r != only) ||
		    (kind == STEP_REROUTE && r->route == LOCAL) ||
		    ((kind == STEP_HOLD || kind == STEP_RETRY) && r->held) ||
		    (kind == STEP_UNHOLD && !r->held))
			continue;
		n++;
		if (kind == STEP_HOLD || kind == STEP_UNHOLD)
			r->held = kind == STEP_HOLD;
		else if (kind == STEP_RETRY)
			r->due = true;
		else if (kind == STEP_REROUTE)
			r->route = Y;
		else
			r->state = kind == STEP_DROP ? DROPPED : FAILED;
	}
	return n;
}

static void do_change(struct world *w, const struct step *s)
{
	static int (*const fn[])(struct queue *, const struct queue_filter *,
				 size_t *) = { [STEP_HOLD] = queue_hold,
					       [STEP_UNHOLD] = queue_unhold,
					       [STEP_RETRY] = queue_retry,
					       [STEP_DROP] = queue_drop };
	char address[16];
	address_of(s->what - 1, 0, address);
	/* Never the DSNs, which are counted only. */
	struct queue_filter filter = s->what ? (struct queue_filter){ .to = span_str(address) }
					     : (struct queue_filter){ .domain = SPAN("x.test") };
	size_t n = 0,
	       expect = change_model(w, (enum kind)s->kind, s->what ? &w->r[s->what - 1][0] : NULL);
	int e;
	if (s->kind == STEP_REROUTE)
		e = queue_reroute(w->f.q, &filter, span_str(route_text[Y]), &n);
	else if (s->kind == STEP_BOUNCE)
		e = queue_lease_matching(w->f.q, &filter, bounce_lease, w);
	else
		e = fn[s->kind](w->f.q, &filter, &n);
	want(w, e == 0, "a change by hand failed");
	want(w, s->kind == STEP_BOUNCE || n == expect, "a change touched more or less");
}

static void do_keys(struct world *w)
{
	struct queue_key *k;
	size_t n;
	want(w, queue_keys_take(w->f.q, 10, &w->f.mem, &k, &n) == 0, "keys");
	want(w, queue_key_done(w->f.q, k, n) == 0, "key_done");
	w->key_listed = false;
}

static void do_crash(struct world *w)
{
	reopen(&w->f);
	memset(w->lease, 0, sizeof(w->lease));
	memset(w->route_held, 0, sizeof(w->route_held));
	EACH_RCPT(w, r) r->state = WAITING;
}

static void do_step(struct world *w, const struct step *s)
{
	bool was_there = !message_left(w, 0);
	switch ((enum kind)s->kind) {
	case STEP_ACCEPT:
	case STEP_ACCEPT_SICK:
		do_accept(w, s);
		break;
	case STEP_LEASE:
		do_lease(w, -1);
		break;
	case STEP_LEASE_ROUTE:
		do_lease(w, s->what);
		break;
	case STEP_SETTLE:
	case STEP_SETTLE_SICK:
		do_settle(w, s);
		break;
	case STEP_RELEASE:
		do_release(w, s->what);
		break;
	case STEP_HOLD_ROUTE:
		queue_hold_route(w->f.q, span_str(route_text[s->what]));
		w->route_held[s->what] = true;
		break;
	case STEP_RESUME_ROUTE:
		queue_resume_route(w->f.q, span_str(route_text[s->what]));
		w->route_held[s->what] = false;
		break;
	case STEP_KEYS:
		do_keys(w);
		break;
	case STEP_TIME:
		pass_time(2 * DEFERRAL);
		EACH_RCPT(w, r) r->due = true;
		break;
	case STEP_CRASH:
		do_crash(w);
		break;
	default:
		do_change(w, s);
	}
	conclude(w, was_there);
}

/* ------------------------------------------------------------------ what must hold in each state */

static void check_entry(struct world *w, int m, const struct queue_entry *e)
{
	size_t n = 0;
	char address[16];
	for (size_t i = 0; i < plan[m].n; i++) {
		const struct model_rcpt *r = &w->r[m][i];
		if (!is_there(r))
			continue;
		want(w, n < e->n_rcpts, "Q2: a recipient is missing");
		const struct queue_entry_rcpt *got = &e->rcpts[n++];
		address_of(m, (int)i, address);
		want(w, span_eq_str(got->address, address), "Q2: another recipient");
		want(w, got->attempts == r->attempts, "attempts");
		want(w, got->leased == (r->state == LEASED), "Q2: leased or not");
		want(w, got->held == r->held, "Q7: held or not");
		want(w, span_eq_str(got->route, route_text[r->route]), "route");
		want(w, r->state == LEASED || (got->next_attempt <= clock_wall()) == r->due,
		     "Q5: due or not");
	}
	want(w, n == e->n_rcpts, "Q2: a recipient too many");
}

static size_t blobs(const struct world *w)
{
	char path[128];
	size_t n = 0;
	snprintf(path, sizeof(path), "%s/blobs", w->f.dir);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void check_keys(struct world *w)
{
	struct queue_key *k;
	size_t n;
	want(w, queue_keys_take(w->f.q, 10, &w->f.mem, &k, &n) == 0, "keys");
	want(w, n == w->key_listed, "Q4: the key of a gone row");
	want(w, !n || !w->r[0][0].key_known || memcmp(k[0].key, w->r[0][0].key, 16) == 0,
	     "Q3: another key");
}

static void check(struct world *w)
{
	struct queue_entry *e;
	size_t n = list(&w->f, (struct queue_filter){ .any = true }, &e), rcpts = 0, leased = 0;
	unsigned seen[MESSAGES] = { 0 }, dsns = 0;
	uint64_t got_messages, got_rcpts, got_leased;
	for (size_t i = 0; i < n; i++) {
		int m = 0;
		while (m < MESSAGES && !id_eq(&w->id[m], &e[i].id))
			m++;
		if (m == MESSAGES) {
			dsns++;
			continue;
		}
		seen[m]++;
		check_entry(w, m, &e[i]);
	}
	want(w, dsns == w->dsns, "Q6: a report too few or too many");
	for (int m = 0; m < MESSAGES; m++) {
		bool there = w->r[m][0].state != ABSENT && !message_left(w, m);
		want(w, seen[m] == there, "Q1, Q4: a message");
	}
	EACH_RCPT(w, r)
	{
		rcpts++;
		leased += r->state == LEASED;
	}
	queue_stats(w->f.q, &got_messages, &got_rcpts, &got_leased);
	want(w, got_messages == n, "messages in memory");
	want(w, got_rcpts == rcpts + dsns && got_leased == leased, "recipients in memory");
	want(w, blobs(w) == seen[1], "Q4: blobs");
	check_keys(w);
}

/* ------------------------------------------------------------------ the search */

static void begin(struct world *w, const struct path *p)
{
	memset(w, 0, sizeof(*w));
	w->path = p;
	fixture_init(&w->f, 1);
	w->f.conf.inline_max = INLINE_MAX;
	w->f.conf.retry_first = w->f.conf.retry_max = DEFERRAL;
	w->f.conf.jitter_percent = 0;
	reopen(&w->f);
	for (uint8_t m = 0; m < 2; m++)
		do_accept(w, &(struct step){ .kind = STEP_ACCEPT, .what = m });
}

static span state_name(const struct world *w, char *text, size_t size)
{
	size_t n = (size_t)snprintf(text, size, "%u%d%d%d%d", w->dsns, w->key_listed,
				    w->route_held[0], w->route_held[1], w->route_held[2]);
	for (int m = 0; m < MESSAGES; m++)
		for (int i = 0; i < RCPTS; i++) {
			const struct model_rcpt *r = &w->r[m][i];
			n += (size_t)snprintf(text + n, size - n, " %d%d%u%d%d", r->state, r->route,
					      MIN(r->attempts, 2u), r->due, r->held);
		}
	for (int i = 0; i < MAX_LEASES; i++) {
		const struct model_lease *l = &w->lease[i];
		if (l->open)
			n += (size_t)snprintf(text + n, size - n, " %d:%.2s+%zu%d%d%d", i,
					      l->l.rcpts[0].address.p, l->l.n_rcpts, l->kept,
					      l->outcome[0], l->outcome[1]);
	}
	return span_of(text, n);
}

struct steps {
	struct step v[256];
	size_t n;
};

static void add(struct steps *s, enum kind kind, uint8_t what, uint8_t a, uint8_t b)
{
	s->v[s->n++] = (struct step){ .kind = (uint8_t)kind, .what = what, .outcome = { a, b } };
}

static void lease_steps(struct steps *s, const struct world *w, uint8_t i)
{
	const struct model_lease *l = &w->lease[i];
	if (!l->open || l->kept)
		return;
	add(s, STEP_RELEASE, i, 0, 0);
	add(s, STEP_SETTLE_SICK, i, OUTCOME_FAILED, OUTCOME_DELIVERED);
	for (uint8_t a = OUTCOME_DELIVERED; a <= OUTCOME_RELEASED; a++)
		for (uint8_t b = OUTCOME_DELIVERED;
		     b <= (l->l.n_rcpts > 1 ? OUTCOME_RELEASED : OUTCOME_DELIVERED); b++)
			add(s, STEP_SETTLE, i, a, b);
}

/* All that can be done in W. */
static void next_steps(const struct world *w, struct steps *s)
{
	s->n = 0;
	if (w->r[2][0].state == ABSENT) {
		add(s, STEP_ACCEPT, 2, 0, 0);
		add(s, STEP_ACCEPT_SICK, 2, 0, 0);
	}
	if (!w->lease[MAX_LEASES - 1].open) {
		add(s, STEP_LEASE, 0, 0, 0);
		add(s, STEP_LEASE_ROUTE, X, 0, 0);
	}
	for (uint8_t i = 0; i < MAX_LEASES; i++)
		lease_steps(s, w, i);
	for (uint8_t kind = STEP_HOLD; kind <= STEP_BOUNCE; kind++) {
		add(s, kind, 0, 0, 0);
		if (kind != STEP_UNHOLD && kind != STEP_RETRY)
			add(s, kind, 2, 0, 0); /* one recipient of the second message */
	}
	add(s, w->route_held[X] ? STEP_RESUME_ROUTE : STEP_HOLD_ROUTE, X, 0, 0);
	if (w->key_listed)
		add(s, STEP_KEYS, 0, 0, 0);
	add(s, STEP_TIME, 0, 0, 0);
	add(s, STEP_CRASH, 0, 0, 0);
}

static bool is_long(void)
{
	return getenv("POSTRIDER_LONG") != NULL;
}

struct short_path {
	struct step v[8];
	uint8_t n;
};

static void every_short_sequence(void **state)
{
	const uint8_t depth = is_long() ? 5 : 3;
	struct short_path *todo = xcalloc(1, sizeof(*todo));
	size_t n_todo = 1, cap = 1, transitions = 0;
	struct map *known = map_new();
	static struct world w;
	static struct steps next;
	static struct path p;
	char text[400];
	for (size_t i = 0; i < n_todo; i++) {
		p.n = todo[i].n;
		memcpy(p.v, todo[i].v, sizeof(todo[i].v));
		begin(&w, &p);
		for (w.at = 0; w.at < p.n; w.at++)
			do_step(&w, &p.v[w.at]);
		check(&w);
		transitions++;
		bool is_new = !map_put(known, state_name(&w, text, sizeof(text)), known);
		next_steps(&w, &next);
		fixture_done(&w.f);
		for (size_t k = 0; is_new && todo[i].n < depth && k < next.n; k++) {
			if (n_todo == cap)
				todo = xrealloc(todo, (cap *= 2) * sizeof(*todo));
			todo[n_todo] = todo[i];
			todo[n_todo].v[todo[n_todo].n++] = next.v[k];
			n_todo++;
		}
	}
	print_message("%zu states by %zu sequences of up to %u steps\n", map_count(known),
		      transitions, depth);
	assert_true(map_count(known) > 300);
	map_free(known);
	free(todo);
}

/* A fixed row of numbers, so that what fails once fails again. */
static uint64_t random_step(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* One of NEXT; what empties the queue is taken less often. */
static struct step pick(const struct steps *next, uint64_t *seed)
{
	const struct step *s;
	bool empties;
	do {
		s = &next->v[random_step(seed) % next->n];
		empties = (s->kind == STEP_DROP || s->kind == STEP_BOUNCE) && !s->what;
	} while (empties && random_step(seed) % 16);
	return *s;
}

static void long_random_sequences(void **state)
{
	const unsigned walks = is_long() ? 5000 : 100, length = 100;
	static struct world w;
	static struct steps next;
	static struct path p;
	uint64_t seed = 0x9e3779b97f4a7c15;
	for (unsigned i = 0; i < walks; i++) {
		p.n = 0;
		begin(&w, &p);
		for (w.at = 0; w.at < length; w.at++) {
			next_steps(&w, &next);
			p.v[p.n++] = pick(&next, &seed);
			do_step(&w, &p.v[w.at]);
			check(&w);
			if (message_left(&w, 0) && message_left(&w, 1) && message_left(&w, 2))
				break;
		}
		fixture_done(&w.f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_short_sequence),
					    cmocka_unit_test(long_random_sequences) };
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* queue: every state that two messages with two recipients each can reach in DEPTH steps of
 * leasing, settling with every outcome, and crashing (closing with leases held), against a model of
 * Q1-Q6.
 *
 * A state is reached by replaying its steps on a new queue; states that the model cannot tell apart
 * are explored once. */
#include "fixture.h"

#include "base/map.h"

enum { DEPTH = 6, MESSAGES = 2, RCPTS = 2, MAX_LEASES = MESSAGES * RCPTS };

enum rcpt_state { WAITING, LEASED, DONE, FAILED };
enum step_kind { STEP_LEASE, STEP_CRASH, STEP_SETTLE };
struct step {
	uint8_t kind, lease, outcome[RCPTS];
};
struct path {
	struct step v[DEPTH];
	size_t n;
};

struct model_rcpt {
	enum rcpt_state state;
	unsigned attempts;
	uint8_t key[16];
	bool key_known;
};
struct world {
	struct fixture f;
	struct id id[MESSAGES];
	struct model_rcpt r[MESSAGES][RCPTS];
	struct queue_lease lease[MAX_LEASES];
	bool held[MAX_LEASES];
	unsigned dsns;
};

/* The first message has two routes, the second one. */
static const char *const routes[MESSAGES][RCPTS] = { { "local", "smtp:x.test" },
						     { "smtp:y.test", "smtp:y.test" } };
static const char *const addresses[RCPTS] = { "0@x.test", "1@x.test" };

static void begin(struct world *w)
{
	memset(w, 0, sizeof(*w));
	fixture_init(&w->f, 1);
	reopen(&w->f);
	for (int m = 0; m < MESSAGES; m++) {
		struct queue_rcpt_in r[RCPTS];
		for (int i = 0; i < RCPTS; i++)
			r[i] = to(addresses[i], routes[m][i]);
		assert_int_equal(accept_body(&w->f, SPAN("m"), r, RCPTS, &w->id[m]), 0);
	}
}

static int message_of(const struct world *w, const struct id *id)
{
	for (int m = 0; m < MESSAGES; m++)
		if (id_eq(&w->id[m], id))
			return m;
	return -1;
}

static struct model_rcpt *model_of(struct world *w, const struct queue_lease *l, size_t i)
{
	int m = message_of(w, &l->id);
	assert_true(m >= 0);
	return &w->r[m][l->rcpts[i].address.p[0] - '0'];
}

static void do_lease(struct world *w)
{
	int at = 0;
	pass_time(24 * HOUR); /* whatever waits is due */
	while (w->held[at])
		at++;
	struct queue_lease *l = &w->lease[at];
	if (!lease(&w->f, l)) {
		for (int m = 0; m < MESSAGES; m++)
			for (int i = 0; i < RCPTS; i++)
				assert_int_not_equal(w->r[m][i].state,
						     WAITING); /* nothing is forgotten */
		return;
	}
	w->held[at] = true;
	for (size_t i = 0; i < l->n_rcpts; i++) {
		struct model_rcpt *r = model_of(w, l, i);
		assert_int_equal(r->state, WAITING); /* in one state only (Q2) */
		assert_int_equal(r->attempts, l->rcpts[i].attempts);
		if (r->key_known)
			assert_memory_equal(r->key, l->rcpts[i].key, 16); /* Q3 */
		memcpy(r->key, l->rcpts[i].key, 16);
		r->key_known = true;
		r->state = LEASED;
	}
}

static void do_settle(struct world *w, const struct step *s)
{
	struct queue_lease *l = &w->lease[s->lease];
	struct queue_result res[RCPTS];
	struct queue_rcpt_in back = to("from@example.org", "smtp:dsn");
	bool failed = false;
	assert_true(w->held[s->lease]);
	for (size_t i = 0; i < l->n_rcpts; i++) {
		enum rcpt_outcome o = (enum rcpt_outcome)s->outcome[i];
		struct model_rcpt *r = model_of(w, l, i);
		res[i] = (struct queue_result){ .row = l->rcpts[i].row, .outcome = o };
		failed |= o == OUTCOME_FAILED;
		r->attempts += o != OUTCOME_RELEASED;
		r->state = o == OUTCOME_DELIVERED ? DONE : o == OUTCOME_FAILED ? FAILED : WAITING;
	}
	back.not_before = clock_wall() + 1000000 * HOUR; /* is counted, never delivered */
	struct queue_message_in dsn = { .id = id_new(),
					.body = SPAN("sorry"),
					.size = 5,
					.is_dsn = true,
					.rcpts = &back,
					.n_rcpts = 1 };
	assert_int_equal(queue_settle(w->f.q, l, res, l->n_rcpts, failed ? &dsn : NULL, &w->f.mem),
			 0);
	w->dsns += failed;
	w->held[s->lease] = false;
}

static void do_crash(struct world *w)
{
	reopen(&w->f);
	memset(w->held, 0, sizeof(w->held));
	for (int m = 0; m < MESSAGES; m++)
		for (int i = 0; i < RCPTS; i++)
			if (w->r[m][i].state == LEASED)
				w->r[m][i].state = WAITING;
}

static void do_step(struct world *w, const struct step *s)
{
	if (s->kind == STEP_LEASE)
		do_lease(w);
	else if (s->kind == STEP_CRASH)
		do_crash(w);
	else
		do_settle(w, s);
}

/* ------------------------------------------------------------------ what must hold in each state
 */

static bool has_left(const struct world *w, int m)
{
	for (int i = 0; i < RCPTS; i++)
		if (w->r[m][i].state == WAITING || w->r[m][i].state == LEASED)
			return false;
	return true;
}

static void check_entry(const struct world *w, int m, const struct queue_entry *e)
{
	size_t want = 0;
	for (int i = 0; i < RCPTS; i++) {
		const struct model_rcpt *r = &w->r[m][i];
		if (r->state != WAITING && r->state != LEASED)
			continue;
		assert_true(want < e->n_rcpts);
		const struct queue_entry_rcpt *got = &e->rcpts[want++];
		assert_true(span_eq_str(got->address, addresses[i]));
		assert_int_equal(got->attempts, r->attempts);
		assert_int_equal(got->leased, r->state == LEASED);
	}
	assert_int_equal(e->n_rcpts, want);
}

static void check(struct world *w)
{
	struct queue_entry *e;
	struct queue_key *k;
	size_t n = list(&w->f, (struct queue_filter){ .any = true }, &e), n_keys;
	unsigned seen[MESSAGES] = { 0 }, dsns = 0;
	for (size_t i = 0; i < n; i++) {
		int m = message_of(w, &e[i].id);
		if (m < 0) {
			dsns++;
			continue;
		}
		seen[m]++;
		check_entry(w, m, &e[i]);
	}
	assert_int_equal(dsns, w->dsns); /* Q6 */
	for (int m = 0; m < MESSAGES; m++)
		assert_int_equal(seen[m], has_left(w, m) ? 0 : 1); /* Q1, Q4 */
	assert_int_equal(queue_keys_take(w->f.q, 10, &w->f.mem, &k, &n_keys), 0);
	assert_int_equal(n_keys, has_left(w, 0)); /* its one local recipient */
	if (n_keys)
		assert_memory_equal(k[0].key, w->r[0][0].key, 16);
}

/* ------------------------------------------------------------------ the search */

static span state_name(const struct world *w, char *to_text, size_t size)
{
	size_t n = (size_t)snprintf(to_text, size, "%u", w->dsns);
	for (int m = 0; m < MESSAGES; m++)
		for (int i = 0; i < RCPTS; i++)
			n += (size_t)snprintf(to_text + n, size - n, " %d.%u", w->r[m][i].state,
					      w->r[m][i].attempts);
	for (int i = 0; i < MAX_LEASES; i++)
		if (w->held[i])
			n += (size_t)snprintf(to_text + n, size - n, " %d:%d+%zu", i,
					      message_of(w, &w->lease[i].id), w->lease[i].n_rcpts);
	return span_of(to_text, n);
}

struct search {
	struct path *v;
	size_t n, cap;
};

static void extend(struct search *s, const struct path *p, struct step step)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 1024;
		s->v = xrealloc(s->v, s->cap * sizeof(*s->v));
	}
	s->v[s->n] = *p;
	s->v[s->n].v[s->v[s->n].n++] = step;
	s->n++;
}

static void extend_all(struct search *s, const struct world *w, const struct path *p)
{
	extend(s, p, (struct step){ .kind = STEP_LEASE });
	extend(s, p, (struct step){ .kind = STEP_CRASH });
	for (uint8_t i = 0; i < MAX_LEASES; i++) {
		if (!w->held[i])
			continue;
		for (uint8_t a = OUTCOME_DELIVERED; a <= OUTCOME_RELEASED; a++)
			for (uint8_t b = OUTCOME_DELIVERED;
			     b <= (w->lease[i].n_rcpts > 1 ? OUTCOME_RELEASED : OUTCOME_DELIVERED);
			     b++)
				extend(s, p,
				       (struct step){ .kind = STEP_SETTLE,
						      .lease = i,
						      .outcome = { a, b } });
	}
}

static void every_reachable_state(void **state)
{
	struct search s = { 0 };
	struct map *known = map_new();
	struct path start = { 0 };
	static struct world w;
	char text[256];
	size_t steps = 0;
	extend(&s, &start, (struct step){ .kind = STEP_LEASE });
	for (size_t i = 0; i < s.n; i++) {
		struct path p = s.v[i]; /* the list may move */
		begin(&w);
		for (size_t j = 0; j < p.n; j++)
			do_step(&w, &p.v[j]);
		check(&w);
		steps++;
		if (!map_put(known, state_name(&w, text, sizeof(text)), known) && p.n < DEPTH)
			extend_all(&s, &w, &p);
		fixture_done(&w.f);
	}
	print_message("%zu states by %zu transitions\n", map_count(known), steps);
	assert_true(map_count(known) > 300);
	map_free(known);
	free(s.v);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_reachable_state) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What an administrator does to waiting mail and the queue cannot do alone. */
#include "mail/mail_int.h"

struct giving_back {
	struct core_env *env;
	size_t count;
};

static int give_back(void *arg, const struct queue_lease *l)
{
	struct giving_back *g = arg;
	_cleanup_(arena_donep) struct arena mem;
	struct event_list events;
	struct queue_result *results;
	int e;

	arena_init(&mem);
	event_list_init(&events, &mem);
	results = arena_array(&mem, struct queue_result, l->n_rcpts);
	for (size_t i = 0; i < l->n_rcpts; i++) {
		results[i] = (struct queue_result){ .row = l->rcpts[i].row,
						    .outcome = OUTCOME_FAILED,
						    .reply = SPAN("550 5.7.0 returned by the "
								  "administrator"),
						    .status = "5.7.0" };
		/* It was passed on when it was accepted: no report may say that it failed. */
		if (span_eq_str(l->route, "expanded"))
			mail_result_expanded(&results[i]);
	}
	e = mail_settle(g->env, l, results, l->n_rcpts, &events);
	if (e < 0)
		queue_release(g->env->queue, l);
	else
		g->count += l->n_rcpts;
	return e;
}

int mail_give_back(struct core_env *env, const struct queue_filter *f, size_t *ret_count)
{
	struct giving_back g = { .env = env };
	int e = queue_lease_matching(env->queue, f, give_back, &g);

	*ret_count = g.count;
	return e;
}

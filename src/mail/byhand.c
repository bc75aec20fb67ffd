/* What an administrator does to waiting mail and the queue cannot do alone. */
#include "mail/mail_int.h"

struct giving_back {
	struct core_env *env;
	size_t count;
};

static int give_back(void *arg, const struct queue_lease *l)
{
	struct giving_back *g = arg;
	int e = mail_return(g->env, l, "5.7.0", SPAN("550 5.7.0 returned by the administrator"));

	if (e >= 0)
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

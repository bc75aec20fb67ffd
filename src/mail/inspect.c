#include "mail/inspect.h"

#include <stdlib.h>

#define INSPECT_MAX (20 * USEC_SEC) /* for all of one message */

static inspect_stage_fn *const stages[] = { inspect_sender, inspect_filters };

static struct mail_inspection *inspection_new(void)
{
	struct mail_inspection *i = xcalloc(1, sizeof *i);

	arena_init(&i->mem);
	i->deadline = clock_mono() + INSPECT_MAX;
	return i;
}

void mail_inspection_free(struct mail_inspection *i)
{
	if (!i)
		return;
	ask_set_unref(i->asks);
	inspect_sender_done(i);
	free(i);
}

struct ask_set *inspect_asks(struct core_env *env, struct mail_transaction *t)
{
	if (!t->inspection->asks)
		t->inspection->asks = ask_set_new(env->asks, t->wake, t->wake_arg, t->wake_id);
	return t->inspection->asks;
}

/* The set stays the stage's until it has read the answers, and is replaced when it asks again. */
static bool run_stages(struct core_env *env, struct mail_transaction *t, struct conf *conf)
{
	struct mail_inspection *i = t->inspection;

	for (; i->stage < ARRAY_LEN(stages) && !i->refusal.code; i->stage++) {
		if (stages[i->stage](env, t, conf, i) != ERR_AGAIN)
			continue;
		ask_set_go(i->asks);
		return false;
	}
	return true;
}

bool mail_inspect(struct core_env *env, struct mail_transaction *t)
{
	struct conf *conf;
	bool done;

	if (t->inspection && t->inspection->asks && !ask_set_ready(t->inspection->asks))
		return false;
	if (!t->inspection)
		t->inspection = inspection_new();
	conf = env->conf(env);
	done = run_stages(env, t, conf);
	conf_unref(conf);
	return done;
}

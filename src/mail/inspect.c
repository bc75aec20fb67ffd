#include "mail/inspect.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sys/file.h"

#define INSPECT_MAX (20 * USEC_SEC) /* for all of one message */

static inspect_stage_fn *const stages[] = { inspect_sender, inspect_filters, inspect_sign };

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

/* Head and tail of a large message as one piece of memory, which is the page cache's. */
static int map_whole(struct core_env *env, struct mail_transaction *t, struct mail_inspection *i)
{
	_cleanup_(close_fdp) int fd = file_spool_open(env->spool_dir);
	int e;

	if (fd < 0)
		return STEAL_FD(&fd);
	if ((e = file_write_all(fd, buf_span(&t->body))) < 0 ||
	    (e = file_copy_all(t->spool_fd, 0, t->body_size - t->body.n, fd)) < 0)
		return e;
	void *p = mmap(NULL, t->body_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return ERR_IO;
	i->map = p;
	i->map_size = t->body_size;
	return 0;
}

int inspect_message(struct core_env *env, struct mail_transaction *t, struct mail_inspection *i)
{
	span all = buf_span(&t->body);
	int e = t->spool_fd < 0 ? 0 : map_whole(env, t, i);

	if (e < 0)
		return e;
	if (t->spool_fd >= 0)
		all = span_of(i->map, i->map_size);
	return message_parse(all, &i->mem, &i->message);
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

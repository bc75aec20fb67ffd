#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/ask.h"
#include "sys/sock.h"

/* The test thread asks as a job would; `out` is played by the same loop at the other end. */
static struct {
	struct loop *loop;
	struct channel *core, *out;
	pthread_t thread;
	struct ask_table *table;
	atomic_int done, gate;
} env;

enum { ASK = 40, ANSWER = 41, SILENT = 42 };

static void on_core(void *arg, struct channel *c, struct channel_msg *m)
{
	bool ours = ask_table_message(env.table, m);
	assert_int_equal(ours, (m->id & ASK_ID) != 0);
}

static void on_out(void *arg, struct channel *c, struct channel_msg *m)
{
	if (m->type == SILENT)
		return;
	channel_send(c, ANSWER, 7, SPAN("somebody else's"), -1);
	channel_send(c, ANSWER, m->id, m->payload, m->fd);
	channel_send(c, ANSWER, m->id, SPAN("said twice"), -1);
}

static void on_closed(void *arg, struct channel *c)
{
}

static void *run_loop(void *arg)
{
	loop_run(env.loop);
	return NULL;
}

static void start(void)
{
	int fds[2];
	assert_int_equal(channel_pair(fds), 0);
	atomic_store(&env.done, 0);
	env.loop = loop_new();
	env.table = ask_table_new(env.loop);
	env.core = channel_open(env.loop, fds[0], on_core, on_closed, NULL);
	env.out = channel_open(env.loop, fds[1], on_out, on_closed, NULL);
	ask_table_set_out(env.table, env.core);
	pthread_create(&env.thread, NULL, run_loop, NULL);
}

static void finish(void)
{
	assert_int_equal(ask_table_open(env.table), 0);
	loop_stop(env.loop);
	pthread_join(env.thread, NULL);
	ask_table_free(env.table);
	channel_close(env.core);
	channel_close(env.out);
	loop_free(env.loop);
}

static void on_done(void *arg, uint64_t id)
{
	assert_ptr_equal(arg, &env);
	assert_int_equal(id, 99);
	assert_true(pthread_equal(pthread_self(), env.thread));
	atomic_fetch_add(&env.done, 1);
}

static struct ask_set *set_new(void)
{
	return ask_set_new(env.table, on_done, &env, 99);
}

static void wait_done(int n)
{
	for (int i = 0; i < 50000 && atomic_load(&env.done) < n; i++)
		usleep(100);
	assert_int_equal(atomic_load(&env.done), n);
}

static void test_answers(void **state)
{
	start();
	struct ask_set *s = set_new();
	int fd = open("/dev/null", O_RDONLY), got;
	uint16_t type;
	span text;
	for (int i = 0; i < 10; i++) {
		char word[8];
		snprintf(word, sizeof(word), "q%d", i);
		assert_int_equal(
			ask_set_add(s, ASK, span_str(word), i == 3 ? fd : -1, USEC_SEC * 60), i);
	}
	close(fd);
	assert_false(ask_set_ready(s));
	ask_set_go(s);
	wait_done(1);
	assert_true(ask_set_ready(s));
	for (size_t i = 0; i < 10; i++) {
		char word[8];
		snprintf(word, sizeof(word), "q%zu", i);
		assert_int_equal(ask_set_answer(s, i, &type, &text, &got), 0);
		assert_int_equal(type, ANSWER);
		assert_true(span_eq_str(text, word));
		assert_int_equal(got >= 0, i == 3);
	}
	ask_set_unref(s);
	finish();
}

static void test_bounds(void **state)
{
	static const char big[CHANNEL_MAX + 1];
	start();
	struct ask_set *s = set_new();
	assert_int_equal(ask_set_add(s, ASK, span_of(big, sizeof(big)), -1, 1), ERR_TOOBIG);
	for (int i = 0; i < ASK_SET_MAX; i++)
		assert_int_equal(ask_set_add(s, ASK, SPAN("x"), -1, 1), i);
	assert_int_equal(ask_set_add(s, ASK, SPAN("x"), -1, 1), ERR_TOOBIG);
	ask_set_unref(s); /* and never let go */
	finish();
}

static void test_silence(void **state)
{
	start();
	struct ask_set *s = set_new();
	uint16_t type;
	span text;
	ask_set_add(s, SILENT, SPAN("hello?"), -1, USEC_MSEC);
	ask_set_add(s, ASK, SPAN("hello"), -1, USEC_SEC * 60);
	ask_set_go(s);
	wait_done(1);
	assert_int_equal(ask_set_answer(s, 0, &type, &text, NULL), ERR_TIMEOUT);
	assert_int_equal(ask_set_answer(s, 1, &type, &text, NULL), 0);
	ask_set_unref(s);
	finish();
}

static void lose_out(void *arg)
{
	ask_table_set_out(env.table, NULL);
}

/* `out` dies with questions, the asker is gone before, and nobody is asked where there is none. */
static void test_out_gone(void **state)
{
	start();
	struct ask_set *s = set_new(), *forgotten = set_new(), *late = set_new();
	uint16_t type;
	span text;
	ask_set_add(s, SILENT, SPAN("hello?"), -1, USEC_SEC * 60);
	ask_set_add(forgotten, SILENT, SPAN("hello?"), -1, USEC_SEC * 60);
	ask_set_go(s);
	ask_set_go(forgotten);
	ask_set_unref(forgotten);
	loop_post(env.loop, lose_out, NULL);
	wait_done(2);
	assert_int_equal(ask_set_answer(s, 0, &type, &text, NULL), ERR_CLOSED);
	ask_set_add(late, ASK, SPAN("hello?"), -1, USEC_SEC * 60);
	ask_set_add(late, ASK, SPAN("hello?"), -1, USEC_SEC * 60);
	ask_set_go(late);
	wait_done(3);
	assert_int_equal(ask_set_answer(late, 1, &type, &text, NULL), ERR_CLOSED);
	ask_set_unref(s);
	ask_set_unref(late);
	finish();
}

static void *ask_many(void *arg)
{
	for (int i = 0; i < 200; i++) {
		struct ask_set *s = set_new();
		for (int k = 0; k < 3; k++)
			ask_set_add(s, i % 10 ? ASK : SILENT, SPAN("x"), -1, 2 * USEC_MSEC);
		ask_set_go(s);
		ask_set_unref(s);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	pthread_t t[4];
	start();
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, ask_many, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	wait_done(800);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),	     cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_silence),	     cmocka_unit_test(test_out_gone),
		cmocka_unit_test(test_many_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

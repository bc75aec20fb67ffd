#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>

#include "base/id.h"
#include "sys/loop.h"

static struct loop *loop;
static int order[64];
static size_t fired;

static void stop(void *arg)
{
	loop_stop(loop);
}

static void note(void *arg)
{
	order[fired++] = (int)(intptr_t)arg;
}

static void test_timers(void **state)
{
	struct loop_timer t[50], end, never;
	loop = loop_new();
	fired = 0;
	for (int i = 0; i < 50; i++) {
		loop_timer_init(&t[i], loop, note, (void *)(intptr_t)i);
		loop_timer_arm(&t[i], ((i * 37) % 50) * USEC_MSEC / 4);
	}
	for (int i = 0; i < 50; i += 5)
		loop_timer_stop(&t[i]);
	loop_timer_arm(&t[5], 0); /* moved to the front */
	loop_timer_init(&never, loop, note, (void *)99);
	loop_timer_arm(&never, INT64_MAX);
	loop_timer_init(&end, loop, stop, NULL);
	loop_timer_arm(&end, 30 * USEC_MSEC);
	loop_run(loop);
	assert_int_equal(fired, 41);
	assert_int_equal(order[0], 5);
	for (size_t i = 2; i < fired; i++)
		assert_true((order[i - 1] * 37) % 50 < (order[i] * 37) % 50);
	loop_timer_stop(&never);
	loop_free(loop);
}

static struct loop_io *ios[2];
static int calls;

static void on_either(void *arg, unsigned events)
{
	assert_true(events & LOOP_READ);
	calls++;
	loop_io_del(ios[0]); /* both, though the other's event is pending */
	loop_io_del(ios[1]);
	loop_post(loop, stop, NULL);
}

static void test_delete_in_round(void **state)
{
	int a[2], b[2];
	assert_int_equal(pipe(a) | pipe(b), 0);
	loop = loop_new();
	calls = 0;
	ios[0] = loop_io_add(loop, a[0], LOOP_READ, on_either, NULL);
	ios[1] = loop_io_add(loop, b[0], LOOP_READ, on_either, NULL);
	assert_int_equal(write(a[1], "x", 1) + write(b[1], "x", 1), 2);
	loop_run(loop);
	assert_int_equal(calls, 1);
	for (int i = 0; i < 2; i++)
		close(a[i]), close(b[i]);
	loop_free(loop);
}

static void on_hup(void *arg, unsigned events)
{
	calls++;
	assert_true(events & LOOP_HUP);
	loop_io_set(ios[0], 0); /* silent from now on, or this would spin */
}

static void test_hang_up(void **state)
{
	int a[2];
	struct loop_timer end;
	assert_int_equal(pipe(a), 0);
	loop = loop_new();
	calls = 0;
	ios[0] = loop_io_add(loop, a[0], LOOP_READ, on_hup, NULL);
	close(a[1]);
	loop_timer_init(&end, loop, stop, NULL);
	loop_timer_arm(&end, 20 * USEC_MSEC);
	loop_run(loop);
	assert_int_equal(calls, 1);
	loop_io_del(ios[0]);
	close(a[0]);
	loop_free(loop);
}

enum { POSTS = 2000, POSTERS = 4 };
static size_t posted, last[POSTERS];

static void count(void *arg)
{
	size_t v = (size_t)arg, who = v % POSTERS;
	assert_int_equal(v / POSTERS, last[who]); /* each thread's posts keep their order */
	last[who]++;
	if (++posted == POSTS * POSTERS)
		loop_stop(loop);
}

static void *post_many(void *arg)
{
	for (size_t i = 0; i < POSTS; i++)
		loop_post(loop, count, (void *)(i * POSTERS + (size_t)arg));
	return NULL;
}

static void test_posts(void **state)
{
	pthread_t t[POSTERS];
	loop = loop_new();
	for (size_t i = 0; i < POSTERS; i++)
		pthread_create(&t[i], NULL, post_many, (void *)i);
	loop_run(loop);
	for (size_t i = 0; i < POSTERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(posted, POSTS * POSTERS);
	loop_post(loop, stop, NULL); /* never run: dropped */
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_delete_in_round),
		cmocka_unit_test(test_hang_up),
		cmocka_unit_test(test_posts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

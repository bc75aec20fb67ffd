#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "sys/pool.h"

enum { JOBS = 2000, PER_KEY = 2 };
static atomic_int done, running[4], worst;
static atomic_bool gate;

static void keyed_job(struct job *j)
{
	int now = atomic_fetch_add(&running[j->key], 1) + 1, seen = atomic_load(&worst);
	while (j->key && now > seen && !atomic_compare_exchange_weak(&worst, &seen, now))
		;
	if (now % 2)
		usleep(10);
	atomic_fetch_sub(&running[j->key], 1);
	atomic_fetch_add(&done, 1);
	free(j);
}

static void test_keys(void **state)
{
	struct pool_conf conf = { .threads = { 6 }, .per_key = PER_KEY, .max_queued = JOBS };
	struct pool *p = pool_new(&conf);
	for (int i = 0; i < JOBS; i++) {
		struct job *j = xcalloc(1, sizeof(*j));
		j->fn = keyed_job;
		j->key = (uint64_t)i % 4;
		assert_int_equal(pool_post(p, LANE_INTERACTIVE, j), 0);
	}
	pool_free(p); /* runs what is queued */
	assert_int_equal(atomic_load(&done), JOBS);
	assert_true(atomic_load(&worst) <= PER_KEY);
}

static void blocked(struct job *j)
{
	atomic_fetch_add(&running[0], 1);
	while (!atomic_load(&gate))
		usleep(200);
	atomic_fetch_add(&done, 1);
}

static void quick(struct job *j)
{
	atomic_store(&gate, true);
}

static void test_no_blocking_by_key(void **state)
{
	struct pool_conf conf = { .threads = { 2 }, .per_key = 1, .max_queued = 4 };
	struct pool *p = pool_new(&conf);
	struct job same[3], other = { .fn = quick, .key = 2 };
	usec oldest;
	atomic_store(&done, 0);
	atomic_store(&running[0], 0);
	for (int i = 0; i < 3; i++) {
		same[i] = (struct job){ .fn = blocked, .key = 1 };
		assert_int_equal(pool_post(p, LANE_INTERACTIVE, &same[i]), 0);
	}
	while (atomic_load(&running[0]) == 0)
		usleep(100);
	/* two of the key wait aside, yet the other key's job gets the second thread */
	assert_int_equal(pool_post(p, LANE_INTERACTIVE, &other), 0);
	while (pool_waiting(p, LANE_INTERACTIVE, &oldest) > 0)
		usleep(100);
	assert_true(atomic_load(&gate));
	pool_free(p);
	assert_int_equal(atomic_load(&done), 3);
}

static void test_limits(void **state)
{
	struct pool_conf conf = { .threads = { 1 }, .max_queued = 1 };
	struct pool *p = pool_new(&conf);
	struct job a = { .fn = blocked }, b = { .fn = blocked }, c = { .fn = blocked };
	atomic_store(&gate, false);
	atomic_store(&done, 0);
	atomic_store(&running[0], 0);
	assert_int_equal(pool_post(p, LANE_DELIVERY, &a), 0);
	while (atomic_load(&running[0]) == 0)
		usleep(100);
	assert_int_equal(pool_post(p, LANE_DELIVERY, &b), 0);
	assert_int_equal(pool_post(p, LANE_DELIVERY, &c), ERR_AGAIN);
	assert_int_equal(pool_post(p, LANE_SPOOL, &c), 0); /* another lane has its own thread */
	usec oldest = -1;
	usleep(2000);
	assert_int_equal(pool_waiting(p, LANE_DELIVERY, &oldest), 1);
	assert_true(oldest >= 1000);
	atomic_store(&gate, true);
	pool_free(p);
	assert_int_equal(atomic_load(&done), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_no_blocking_by_key),
		cmocka_unit_test(test_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The pace of a group of destinations, on a clock of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/util.h"
#include "relay/pace.h"

#define CAP 20

static void test_grows_to_its_cap(void **state)
{
	struct pace p;

	pace_init(&p);
	assert_int_equal(pace_allowed(&p, CAP), PACE_FIRST);
	assert_int_equal(pace_allowed(&p, 1), 1);
	for (unsigned i = 1; i <= 5; i++) {
		assert_false(pace_success(&p, CAP));
		assert_int_equal(pace_allowed(&p, CAP), PACE_FIRST + i);
	}
	for (unsigned i = 0; i < 100; i++)
		pace_success(&p, CAP);
	assert_int_equal(pace_allowed(&p, CAP), CAP);
	assert_int_equal(pace_allowed(&p, 7), 7); /* the configuration was changed */
}

static void test_halves_once_a_round(void **state)
{
	struct pace p;

	pace_init(&p);
	for (unsigned i = 0; i < 30; i++)
		pace_success(&p, CAP);
	/* All of them break together: that is one failure. */
	for (unsigned i = 0; i < CAP; i++)
		assert_false(pace_failure(&p, 100, 200 + i, 0));
	assert_int_equal(pace_allowed(&p, CAP), CAP / 2);
	assert_int_equal(p.failures, 1);
	/* Then it grows by one in a round. */
	for (unsigned i = 0; i < CAP / 2 - 1; i++)
		pace_success(&p, CAP);
	assert_int_equal(pace_allowed(&p, CAP), CAP / 2);
	pace_success(&p, CAP);
	assert_int_equal(pace_allowed(&p, CAP), CAP / 2 + 1);
	assert_int_equal(p.failures, 0);
}

static void test_never_below_one(void **state)
{
	struct pace p;
	usec now = 1000;

	pace_init(&p);
	for (unsigned i = 1; i < PACE_PATIENCE; i++, now += 1000) {
		assert_false(pace_failure(&p, now, now, 0));
		assert_int_equal(pace_allowed(&p, CAP), 1);
	}
}

static usec fail_until_open(struct pace *p, usec now)
{
	pace_init(p);
	for (unsigned i = 1; i < PACE_PATIENCE; i++, now += 1000)
		assert_false(pace_failure(p, now, now, 0));
	assert_true(pace_failure(p, now, now, 0));
	assert_int_equal(p->circuit, PACE_OPEN);
	assert_int_equal(pace_allowed(p, CAP), 0);
	return now;
}

static void test_circuit(void **state)
{
	struct pace p;
	usec now = fail_until_open(&p, 1000), last = 0;

	for (unsigned round = 0; round < 100; round++) {
		usec in = p.until - now;

		assert_true(in >= last && in <= PACE_COOL_MAX + PACE_COOL_MAX / 16);
		last = MIN(in, PACE_COOL_MAX - PACE_COOL_MAX / 16);
		assert_false(pace_failure(&p, now, now + 1, 0)); /* a straggler */
		assert_false(pace_probe(&p, p.until - 1));
		now = p.until;
		assert_true(pace_probe(&p, now));
		assert_int_equal(pace_allowed(&p, CAP), 1);
		assert_true(pace_failure(&p, now, now, 0));
		assert_int_equal(pace_allowed(&p, CAP), 0);
	}
	assert_true(last >= PACE_COOL_MAX - PACE_COOL_MAX / 16);
}

static void test_probe_succeeds(void **state)
{
	struct pace p;

	fail_until_open(&p, 1000);
	assert_true(pace_probe(&p, p.until));
	assert_true(pace_success(&p, CAP));
	assert_int_equal(p.circuit, PACE_CLOSED);
	assert_int_equal(pace_allowed(&p, CAP), 1);
	assert_false(pace_success(&p, CAP));
	assert_int_equal(pace_allowed(&p, CAP), 2);
	assert_int_equal(p.cooled, 0);
}

static void test_cooling_is_spread(void **state)
{
	for (uint64_t random = 0; random < 10; random++) {
		struct pace p;
		usec now = 1000;

		pace_init(&p);
		for (unsigned i = 0; i < PACE_PATIENCE; i++)
			pace_failure(&p, now, now, random * UINT64_C(1844674407370955161));
		assert_true(p.until - now >= PACE_COOL_FIRST * 15 / 16);
		assert_true(p.until - now <= PACE_COOL_FIRST * 17 / 16);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows_to_its_cap), cmocka_unit_test(test_halves_once_a_round),
		cmocka_unit_test(test_never_below_one),	 cmocka_unit_test(test_circuit),
		cmocka_unit_test(test_probe_succeeds),	 cmocka_unit_test(test_cooling_is_spread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

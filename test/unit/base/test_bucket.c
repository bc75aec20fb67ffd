/* Token buckets: rates, and what a full table does to whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/bucket.h"

static const struct bucket_rate ten_a_minute = { 10, 60 * USEC_SEC };
static const usec start = 1000 * USEC_SEC;

static span key(char *text, size_t i)
{
	return span_of(text, (size_t)sprintf(text, "key-%zu", i));
}

static void test_rate(void **state)
{
	_cleanup_(bucket_table_freep) struct bucket_table *t = bucket_table_new(64);
	for (int i = 0; i < 10; i++)
		assert_int_equal(bucket_take(t, SPAN("a"), ten_a_minute, start), 0);
	assert_int_equal(bucket_take(t, SPAN("a"), ten_a_minute, start), 6 * USEC_SEC);
	assert_int_equal(bucket_wait(t, SPAN("b"), ten_a_minute, start), 0);
	/* refusals cost nothing: the next token comes when it was said to come */
	assert_int_equal(bucket_take(t, SPAN("a"), ten_a_minute, start + 6 * USEC_SEC - 1), 1);
	assert_int_equal(bucket_take(t, SPAN("a"), ten_a_minute, start + 6 * USEC_SEC), 0);
	assert_true(bucket_take(t, SPAN("a"), ten_a_minute, start + 6 * USEC_SEC) > 0);
	/* never more than full */
	usec later = start + 3600 * USEC_SEC;
	for (int i = 0; i < 10; i++)
		assert_int_equal(bucket_take(t, SPAN("a"), ten_a_minute, later), 0);
	assert_true(bucket_take(t, SPAN("a"), ten_a_minute, later) > 0);
	bucket_forget(t, SPAN("a"));
	assert_int_equal(bucket_take(t, SPAN("a"), ten_a_minute, later), 0);
}

static void test_no_limit(void **state)
{
	_cleanup_(bucket_table_freep) struct bucket_table *t = bucket_table_new(8);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(bucket_take(t, SPAN("a"), (struct bucket_rate){ 0 }, start), 0);
}

/* A changed limit holds at once for those who were seen before. */
static void test_changed_rate(void **state)
{
	_cleanup_(bucket_table_freep) struct bucket_table *t = bucket_table_new(8);
	for (int i = 0; i < 10; i++)
		bucket_take(t, SPAN("a"), ten_a_minute, start);
	struct bucket_rate more = { 20, 60 * USEC_SEC }, less = { 1, 60 * USEC_SEC };
	assert_true(bucket_wait(t, SPAN("a"), less, start) > 0);
	assert_true(bucket_wait(t, SPAN("a"), more, start + 3 * USEC_SEC) == 0);
}

/* Nobody gets rid of his debt by pushing himself out with other keys. */
static void test_no_way_out(void **state)
{
	_cleanup_(bucket_table_freep) struct bucket_table *t = bucket_table_new(64);
	char text[32];
	for (int i = 0; i < 10; i++)
		bucket_take(t, SPAN("villain"), ten_a_minute, start);
	for (size_t i = 0; i < 100000; i++) {
		bucket_take(t, key(text, i), ten_a_minute, start);
		if (i % 1000 == 0)
			assert_true(bucket_take(t, SPAN("villain"), ten_a_minute, start) > 0);
	}
	/* the flood's cost to a stranger ends with the time of one bucket */
	assert_int_equal(bucket_take(t, SPAN("stranger"), ten_a_minute, start + 60 * USEC_SEC), 0);
}

/* While there is room, keys do not touch each other. */
static void test_many(void **state)
{
	enum { KEYS = 4096 };
	_cleanup_(bucket_table_freep) struct bucket_table *t = bucket_table_new(8 * KEYS);
	char text[32];
	for (int round = 0; round < 10; round++)
		for (size_t i = 0; i < KEYS; i++)
			assert_int_equal(bucket_take(t, key(text, i), ten_a_minute, start), 0);
	for (size_t i = 0; i < KEYS; i++)
		assert_true(bucket_take(t, key(text, i), ten_a_minute, start) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate),	     cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_changed_rate), cmocka_unit_test(test_no_way_out),
		cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

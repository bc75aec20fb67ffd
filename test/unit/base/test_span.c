#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/span.h"

static void test_compare(void **state)
{
	assert_true(span_eq(SPAN_NULL, SPAN("")));
	assert_true(span_eq(SPAN("a\0b"), span_of("a\0b", 3)));
	assert_false(span_eq_str(SPAN("a\0b"), "a"));
	assert_true(span_ieq_str(SPAN("MAIL From"), "mail fROM"));
	assert_false(span_ieq(SPAN("\xc3\x84"), SPAN("\xc3\xa4"))); /* no case outside ASCII */
	assert_false(span_ieq(SPAN("@"), SPAN("`")));
	assert_true(span_istarts(SPAN("BODY=8BITMIME"), SPAN("body=")));
	assert_false(span_starts(SPAN("BOD"), SPAN("BODY")));
	assert_true(span_iends(SPAN("a@Example.ORG"), SPAN(".org")));
	assert_true(span_cmp(SPAN("ab"), SPAN("abc")) < 0);
	assert_true(span_cmp(SPAN("\xff"), SPAN("a")) > 0);
	assert_int_equal(span_cmp(SPAN_NULL, SPAN("")), 0);
}

static void test_find(void **state)
{
	span s = SPAN("one, two, Three");
	assert_int_equal(span_find(s, ','), 3);
	assert_int_equal(span_rfind(s, ','), 8);
	assert_true(span_find(s, 'x') == SPAN_NPOS);
	assert_int_equal(span_find_span(s, SPAN("two")), 5);
	assert_int_equal(span_ifind_span(s, SPAN("tHREE")), 10);
	assert_true(span_ifind_span(s, SPAN("threes")) == SPAN_NPOS);
	assert_int_equal(span_find_span(SPAN_NULL, SPAN("")), 0);
	assert_true(span_find(SPAN_NULL, 'a') == SPAN_NPOS);
}

static void test_cut(void **state)
{
	span s = SPAN("a,,b");
	assert_true(span_eq_str(span_cut(&s, ','), "a"));
	assert_true(span_eq_str(span_cut(&s, ','), ""));
	assert_non_null(s.p);
	assert_true(span_eq_str(span_cut(&s, ','), "b"));
	assert_null(s.p);
	s = SPAN("a,");
	span_cut(&s, ',');
	assert_non_null(s.p); /* an empty last piece follows */
	assert_int_equal(s.n, 0);
}

static void test_trim_and_sub(void **state)
{
	assert_true(span_eq_str(span_trim(SPAN(" \t a b\r\n")), "a b"));
	assert_int_equal(span_trim(SPAN(" \r\n ")).n, 0);
	assert_true(span_eq_str(span_sub(SPAN("abcdef"), 2, 2), "cd"));
	assert_true(span_eq_str(span_sub(SPAN("abc"), 2, SIZE_MAX), "c"));
	assert_int_equal(span_sub(SPAN("abc"), 9, 1).n, 0);
	assert_int_equal(span_from(SPAN_NULL, 3).n, 0);
}

static void test_u64(void **state)
{
	uint64_t v = 7;
	assert_true(span_u64(SPAN("0018"), 18, &v));
	assert_int_equal(v, 18);
	assert_false(span_u64(SPAN("19"), 18, &v));
	assert_true(span_u64(SPAN("18446744073709551615"), UINT64_MAX, &v));
	assert_true(v == UINT64_MAX);
	assert_false(span_u64(SPAN("18446744073709551616"), UINT64_MAX, &v));
	assert_false(span_u64(SPAN("99999999999999999999999"), UINT64_MAX, &v));
	const span bad[] = {
		SPAN(""), SPAN("+1"), SPAN("-1"), SPAN(" 1"), SPAN("1 "), SPAN("0x1")
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(span_u64(bad[i], 100, &v));
	assert_true(v == UINT64_MAX); /* untouched */
}

static void test_dup(void **state)
{
	char *z = span_dup(SPAN("a\0b"));
	assert_memory_equal(z, "a\0b", 4);
	free(z);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compare), cmocka_unit_test(test_find),
		cmocka_unit_test(test_cut),	cmocka_unit_test(test_trim_and_sub),
		cmocka_unit_test(test_u64),	cmocka_unit_test(test_dup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

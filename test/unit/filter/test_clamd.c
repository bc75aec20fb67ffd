/* INSTREAM: what is said, and what each answer means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filter/clamd.h"

static void test_stream(void **state)
{
	static const char want[] = "zINSTREAM\0\0\0\0\3abc\0\0\0\0";
	struct clamd *c = clamd_new();

	assert_true(clamd_wants_body(c));
	clamd_body(c, SPAN("abc"));
	clamd_body(c, SPAN_NULL);
	assert_false(clamd_wants_body(c));
	assert_true(span_eq(buf_span(clamd_out(c)), span_of(want, sizeof want - 1)));
	clamd_free(c);
}

static void test_answers(void **state)
{
	static const struct {
		span says;
		enum filter_action action;
		const char *text;
	} rows[] = {
		{ SPAN("stream: OK\0"), FILTER_CONTINUE, "" },
		{ SPAN("stream: Win.Test-1 FOUND\0"), FILTER_REJECT, "Win.Test-1" },
		{ SPAN("INSTREAM size limit exceeded. ERROR\0"), FILTER_FAILED,
		  "INSTREAM size limit exceeded. ERROR" },
		{ SPAN("\0"), FILTER_FAILED, "it says nothing" },
		{ SPAN("stream: OK"), FILTER_FAILED, "gone" }, /* not to its end */
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct clamd *c = clamd_new();

		clamd_body(c, SPAN_NULL);
		for (size_t k = 0; k < rows[i].says.n; k++)
			clamd_feed(c, span_sub(rows[i].says, k, 1));
		clamd_fail(c, SPAN("gone"));
		assert_true(clamd_over(c));
		assert_int_equal(clamd_result(c)->action, rows[i].action);
		assert_true(span_eq_str(clamd_result(c)->text, rows[i].text));
		clamd_free(c);
	}
}

/* "OK" before it has seen everything is no verdict. */
static void test_early(void **state)
{
	struct clamd *c = clamd_new();

	clamd_feed(c, SPAN("stream: OK\0"));
	assert_int_equal(clamd_result(c)->action, FILTER_FAILED);
	clamd_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_stream),
					    cmocka_unit_test(test_answers),
					    cmocka_unit_test(test_early) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "format/saslprep.h"

static int prepare(span in, struct buf *b)
{
	*b = BUF_INIT(4 * SASLPREP_MAX);
	return saslprep(b, in);
}

static void test_prepared(void **state)
{
	static const struct {
		span in;
		const char *want;
	} cases[] = {
		/* RFC 4013 section 3 */
		{ SPAN("I\xc2\xadX"), "IX" },
		{ SPAN("user"), "user" },
		{ SPAN("USER"), "USER" },
		{ SPAN("\xc2\xaa"), "a" },
		{ SPAN("\xe2\x85\xa8"), "IX" },
		/* 2.1: spaces of all kinds are one kind */
		{ SPAN("a\xc2\xa0"
		       "b"),
		  "a b" },
		{ SPAN("a\xe3\x80\x80"
		       "b"),
		  "a b" },
		/* 2.2: KC */
		{ SPAN("u\xcc\x88"), "\xc3\xbc" },
		/* 2.4: all of it from right to left */
		{ SPAN("\xd8\xa7"
		       "1\xd8\xa8"),
		  "\xd8\xa7"
		  "1\xd8\xa8" },
		{ SPAN(""), "" },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(buf_donep) struct buf b;

		assert_int_equal(prepare(cases[i].in, &b), 0);
		if (!span_eq_str(buf_span(&b), cases[i].want))
			fail_msg("case %zu: \"%.*s\"", i, SPAN_FMT(buf_span(&b)));
	}
}

static void test_prohibited(void **state)
{
	static const span cases[] = {
		SPAN("\x07"),	/* RFC 4013 section 3: a control character */
		SPAN("\xd8\xa7" /* the same: from right to left, and then a digit */
		     "1"),
		SPAN("a\0b"),	      /* 2.3: C.2.1 */
		SPAN("\xee\x80\x80"), /* C.3: private use */
		SPAN("\xef\xbf\xbd"), /* C.6 */
		SPAN("\xe2\x80\xae"), /* C.8 */
		SPAN("\xd8\xa7"
		     "a\xd8\xa8"),    /* 2.4: both directions */
		SPAN("\xff"),	      /* no UTF-8 */
		SPAN("\xc0\xaf"),     /* overlong */
		SPAN("\xed\xa0\x80"), /* a surrogate */
		SPAN("a\xc3"),	      /* cut off */
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(buf_donep) struct buf b;

		if (prepare(cases[i], &b) != ERR_SYNTAX)
			fail_msg("case %zu was taken: \"%.*s\"", i, SPAN_FMT(buf_span(&b)));
		assert_int_equal(b.n, 0);
	}
}

static void test_size(void **state)
{
	static char text[SASLPREP_MAX + 1];
	_cleanup_(buf_donep) struct buf b, large;

	memset(text, 'a', sizeof(text));
	assert_int_equal(prepare(span_of(text, SASLPREP_MAX), &b), 0);
	assert_int_equal(b.n, SASLPREP_MAX);
	assert_int_equal(prepare(span_of(text, sizeof(text)), &large), ERR_TOOBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prepared),
		cmocka_unit_test(test_prohibited),
		cmocka_unit_test(test_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

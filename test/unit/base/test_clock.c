#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/id.h"

static void test_format(void **state)
{
	char text[CLOCK_TEXT], want[64];
	clock_format(0, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000Z");
	clock_format(-1, text);
	assert_string_equal(text, "1969-12-31T23:59:59.999Z");
	clock_format(1709210096789 * USEC_MSEC, text);
	assert_string_equal(text, "2024-02-29T12:34:56.789Z");
	clock_format(INT64_MAX, text);
	assert_string_equal(text, "9999-12-31T23:59:59.999Z");
	clock_format(INT64_MIN, text);
	assert_string_equal(text, "0000-01-01T00:00:00.000Z");
	for (int i = 0; i < 20000; i++) { /* against the C library */
		time_t t = (time_t)random_below(250000000000) - 60000000000;
		struct tm tm;
		gmtime_r(&t, &tm);
		snprintf(want, sizeof(want), "%04d-%02d-%02dT%02d:%02d:%02d.000Z",
			 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			 tm.tm_sec);
		clock_format((usec)t * USEC_SEC, text);
		assert_string_equal(text, want);
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		usec v;
		const char *back;
	} good[] = {
		{ "90", 90 * USEC_SEC, "1m30s" },
		{ "5m", 300 * USEC_SEC, "5m" },
		{ "1h30m", 5400 * USEC_SEC, "1h30m" },
		{ "1w", 604800 * USEC_SEC, "7d" },
		{ "-2d", -172800 * USEC_SEC, "-2d" },
		{ "+250ms", 250 * USEC_MSEC, "250ms" },
		{ "0", 0, "0s" },
		{ "1d2h3m", 93780 * USEC_SEC, "1d2h" },
	};
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		usec v = -1;
		char back[32];
		assert_int_equal(clock_parse_duration(span_str(good[i].text), &v), 0);
		assert_true(v == good[i].v);
		clock_format_duration(v, back, sizeof(back));
		assert_string_equal(back, good[i].back);
	}
	static const char *const bad[] = { "",
					   "-",
					   "m",
					   "5x",
					   "5 m",
					   "5m1h",
					   "1h1h",
					   "1h5",
					   "5.5h",
					   "--5s",
					   "5mm",
					   "999999999999999999w",
					   "99999999999999999999s" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		usec v = 77;
		assert_int_equal(clock_parse_duration(span_str(bad[i]), &v), ERR_SYNTAX);
		assert_true(v == 77);
	}
}

static void test_offset(void **state)
{
	usec before = clock_wall(), mono = clock_mono();
	clock_set_offset(3600 * USEC_SEC);
	assert_true(clock_wall() - before >= 3600 * USEC_SEC);
	assert_true(clock_mono() - mono < 60 * USEC_SEC);
	clock_set_offset(0);
	assert_true(clock_cpu_process() > 0 && clock_cpu_thread() > 0);
}

static void test_id(void **state)
{
	char text[ID_TEXT], later[ID_TEXT];
	struct id back;
	for (int i = 0; i < 1000; i++) {
		struct id id = id_new();
		id_format(&id, text);
		assert_int_equal(strlen(text), 26);
		assert_true(id_parse(span_str(text), &back));
		assert_true(id_eq(&id, &back));
		for (char *p = text; *p; p++)
			*p = (char)(*p >= 'a' ? *p - 32 : *p);
		assert_true(id_parse(span_str(text), &back) && id_eq(&id, &back));
	}
	struct id max, null = { 0 };
	memset(&max, 0xff, sizeof(max));
	id_format(&max, text);
	assert_string_equal(text, "7zzzzzzzzzzzzzzzzzzzzzzzzz");
	assert_true(id_parse(span_str(text), &back) && id_eq(&max, &back));
	assert_true(id_is_null(&null) && !id_is_null(&max));

	struct id first = id_new();
	clock_set_offset(2 * USEC_MSEC);
	struct id second = id_new();
	clock_set_offset(0);
	id_format(&first, text);
	id_format(&second, later);
	assert_true(strcmp(text, later) < 0);
	assert_true(llabs(id_time(&first) - clock_wall()) < 60 * USEC_SEC);
	const char *bad[] = { "", "8zzzzzzzzzzzzzzzzzzzzzzzzz", "7zzzzzzzzzzzzzzzzzzzzzzzz",
			      "0123456789abcdefghjkmnpqru", "0123456789abcdefghjkmnpq-s" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(id_parse(span_str(bad[i]), &back));
}

static void test_random(void **state)
{
	unsigned seen = 0;
	for (int i = 0; i < 1000; i++) {
		uint64_t v = random_below(5);
		assert_true(v < 5);
		seen |= 1u << v;
	}
	assert_int_equal(seen, 31);
	assert_int_equal(random_below(0), 0);
	assert_int_equal(random_below(1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format), cmocka_unit_test(test_durations),
		cmocka_unit_test(test_offset), cmocka_unit_test(test_id),
		cmocka_unit_test(test_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

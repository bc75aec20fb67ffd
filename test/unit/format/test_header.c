#include "support.h"

#include "format/header.h"

#define SAMPLE "Subject: one\r\n two\r\nX-Odd : 1\r\nreceived: a\r\nReceived: b\r\n\r\nbody: no\r\n"

static void test_fields(void **state)
{
	struct header_field f;
	size_t at = 0;
	bool bad;
	span m = SPAN(SAMPLE);
	assert_true(header_next(m, &at, &f, &bad));
	assert_span(f.name, "Subject");
	assert_span(f.value, " one\r\n two");
	assert_span(f.raw, "Subject: one\r\n two\r\n");
	assert_true(header_next(m, &at, &f, &bad));
	assert_span(f.name, "X-Odd");
	assert_true(header_next(m, &at, &f, NULL));
	assert_true(header_next(m, &at, &f, NULL));
	assert_false(header_next(m, &at, &f, &bad));
	assert_false(bad);
	assert_span(span_from(m, at), "body: no\r\n");
	assert_int_equal(header_size(m), at);
	assert_int_equal(header_count(m, "RECEIVED"), 2);
	assert_true(header_find(m, "Received", 1, &f));
	assert_span(f.value, " b");
	assert_false(header_find(m, "Received", 2, &f));
	assert_false(header_find(m, "body", 0, &f));
}

static void test_bad_lines(void **state)
{
	struct header_field f;
	size_t at = 0;
	bool bad;
	span m = SPAN("A: 1\nno field\nB: 2\n\nbody");
	assert_true(header_next(m, &at, &f, &bad));
	assert_false(header_next(m, &at, &f, &bad));
	assert_true(bad);
	assert_span(span_from(m, at), "no field\nB: 2\n\nbody");
	assert_true(header_find(m, "B", 0, &f));
	assert_span(f.value, " 2");
	assert_span(span_from(m, header_size(m)), "body");
	assert_int_equal(header_size(SPAN("A: 1\r\n")), 6);
	assert_int_equal(header_size(SPAN("\r\nx")), 2);
	assert_int_equal(header_size(SPAN_NULL), 0);
	at = 0;
	assert_false(header_next(SPAN_NULL, &at, &f, &bad));
	assert_false(bad);
	assert_false(header_name_valid(SPAN("")));
	assert_false(header_name_valid(SPAN("a b")));
	assert_false(header_name_valid(SPAN("\xc3\xa4")));
	assert_true(header_name_valid(SPAN("X-1_2")));
}

static void test_unfold(void **state)
{
	struct arena mem;
	arena_init(&mem);
	assert_span(header_unfold(SPAN(" a\r\n b\r\n\tc \r\n"), &mem), "a b\tc");
	assert_span(header_unfold(SPAN("a\rb\nc"), &mem), "a b c");
	assert_span(header_unfold(SPAN(" \r\n "), &mem), "");
	size_t at = 0;
	span id, v = SPAN("<a@b> junk <<c@d>\r\n <> <e f> <g@h>");
	assert_true(header_msgid_next(v, &at, &id));
	assert_span(id, "<a@b>");
	assert_true(header_msgid_next(v, &at, &id));
	assert_span(id, "<c@d>");
	assert_true(header_msgid_next(v, &at, &id));
	assert_span(id, "<g@h>");
	assert_false(header_msgid_next(v, &at, &id));
	arena_done(&mem);
}

static const struct {
	const char *in, *want;
} words[] = {
	{ "plain", "plain" },
	{ "=?utf-8?Q?caf=C3=A9_au?= lait", "caf\xc3\xa9 au lait" },
	{ "=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab" },
	{ "=?UTF-8?B?w6k=?=\r\n =?utf-8?B?w6g=?=", "\xc3\xa9\xc3\xa8" },
	{ "=?UTF-8?B?4oI=?= =?UTF-8?B?rA==?=", "\xe2\x82\xac" }, /* one character in two words */
	{ "=?ISO-8859-1?Q?a?= =?UTF-8?Q?b?= c", "ab c" },
	{ "=?US-ASCII*en?Q?Keith?=", "Keith" },
	{ "=?windows-1252?q?=80?=", "\xe2\x82\xac" },
	{ "=?gb2312?B?xOO6ww==?=", "\xe4\xbd\xa0\xe5\xa5\xbd" },
	{ "=?no-such?Q?a=FFb?=", "a\xef\xbf\xbd"
				 "b" },
	{ "=?utf-8?Q?open", "=?utf-8?Q?open" },
	{ "=?utf-8?X?a?=", "=?utf-8?X?a?=" },
	{ "raw \xff byte", "raw \xef\xbf\xbd byte" },
	{ "a =?utf-8?Q?=41=zz?= b", "a A=zz b" },
	{ "", "" },
};

static void test_words(void **state)
{
	struct arena mem;
	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		assert_span(header_decode_words(span_str(words[i].in), 1000, &mem), words[i].want);
	/* the limit cuts at a character */
	assert_span(header_decode_words(SPAN("=?utf-8?Q?a=C3=A9b?="), 2, &mem), "a");
	assert_span(header_decode_words(SPAN("a\xc3\xa9"), 3, &mem), "a\xc3\xa9");
	arena_done(&mem);
}

static void test_encode(void **state)
{
	static const char *const texts[] = {
		"plain words",
		"caf\xc3\xa9",
		"evil\r\nBcc: x@example.org",
		"=?utf-8?Q?not a word?=",
		"a long text that goes on for more than one line of seventy-six columns, to be "
		"folded at spaces",
		"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82"
		"\xac\xe2\x82\xac\xe2"
		"\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
		"\xe2\x82\xac",
	};
	struct arena mem;
	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
		assert_int_equal(header_encode_text(&b, span_str(texts[i])), 0);
		span rest = buf_span(&b);
		assert_span(header_decode_words(rest, 1000, &mem), texts[i]);
		for (bool first = true; rest.p; first = false) {
			span line = span_cut(&rest, '\n');
			assert_true(line.n <= 77);
			assert_true(first || line.p[0] == ' ');
		}
	}
	arena_done(&mem);
}

static const struct {
	const char *in, *want;
	int zone;
} dates[] = {
	{ "Sat, 21 Nov 2026 23:05:07 +0000", "Sat, 21 Nov 2026 23:05:07 +0000", 0 },
	{ "21 Nov 2026 23:05:07 -0130", "Sat, 21 Nov 2026 23:05:07 -0130", -90 },
	{ "Sat , 21\r\n Nov (autumn) 2026 23 : 05 GMT", "Sat, 21 Nov 2026 23:05:00 +0000", 0 },
	{ "Fri, 21 Nov 97 09:55:06 EST", "Fri, 21 Nov 1997 09:55:06 -0500", -300 },
	{ "Thu, 29 Feb 2024 00:00:00 Z", "Thu, 29 Feb 2024 00:00:00 +0000", 0 },
	{ "1 Jan 1970 00:00:00 nonsense", "Thu, 01 Jan 1970 00:00:00 +0000", 0 },
	{ "Sat, 1 Jan 100 00:00:00 +0000", "Sat, 01 Jan 2000 00:00:00 +0000", 0 },
	{ "29 Feb 2023 00:00:00 +0000", NULL, 0 },
	{ "21 Nov 2026", NULL, 0 },
	{ "21 Foo 2026 00:00", NULL, 0 },
	{ "21 Nov 2026 24:00", NULL, 0 },
	{ "", NULL, 0 },
};

static void test_dates(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(dates); i++) {
		usec at;
		int zone;
		int e = date_parse(span_str(dates[i].in), &at, &zone);
		if (!dates[i].want) {
			assert_int_equal(e, ERR_SYNTAX);
			continue;
		}
		assert_int_equal(e, 0);
		assert_int_equal(zone, dates[i].zone);
		_cleanup_(buf_donep) struct buf b = BUF_INIT(100);
		assert_int_equal(date_put(&b, at, zone), 0);
		assert_buf(&b, dates[i].want);
	}
}

static void test_imap_dates(void **state)
{
	static const char *const good[] = { "21-Nov-2026 23:05:07 +0000",
					    " 1-Jan-1969 00:00:00 -1159",
					    "29-Feb-2000 23:59:59 +1400" };
	static const char *const wrong[] = {
		"1-Jan-2000 00:00:00 +0000",	"21-Nov-2026 23:05:07",
		"21-Nov-2026 23:05 +0000",	"21-Nov-2026 2(c):05:07 +0000",
		"21-November-2026 1:1:1 +0000", "31-Nov-2026 23:05:07 +0000",
		"21-Nov-2026 23:05:07 +0000 ",	""
	};
	_cleanup_(buf_donep) struct buf b = BUF_INIT(100);
	usec at;
	int zone;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(date_imap_parse(span_str(good[i]), &at, &zone), 0);
		buf_reset(&b);
		assert_int_equal(date_imap_put(&b, at, zone), 0);
		assert_buf(&b, good[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		assert_int_equal(date_imap_parse(span_str(wrong[i]), &at, &zone), ERR_SYNTAX);
	assert_int_equal(date_imap_day(SPAN("1-Jan-1970"), &at), 0);
	assert_int_equal(at, 0);
	assert_int_equal(date_imap_day(SPAN("02-Jan-1970"), &at), 0);
	assert_int_equal(at, 86400 * USEC_SEC);
	assert_int_equal(date_imap_day(SPAN("1-Jan-70"), &at), ERR_SYNTAX);
	assert_int_equal(date_put(&b, INT64_MAX, 0), ERR_INVAL);
	assert_int_equal(date_put(&b, 0, 1440), ERR_INVAL);
}

/* Every day of 800 years comes back. */
static void test_civil(void **state)
{
	int weekday = 0;
	for (int64_t day = -146097; day < 146097; day++) {
		struct date_civil c;
		date_civil_of(day * 86400 * USEC_SEC + 1, &c);
		assert_int_equal(date_of_civil(&c), day * 86400 * USEC_SEC);
		if (day > -146097)
			assert_int_equal(c.weekday, (weekday + 1) % 7);
		weekday = c.weekday;
	}
}

static void test_bombs(void **state)
{
	static const char *const units[] = { "=?",
					     "=?a?Q?",
					     "=?utf-8?Q?",
					     "=?utf-8?Q?"
					     "?=",
					     "=?utf-8?B?4oI=?= ",
					     "<" };
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(2000100);
		while (b.n < 2000000)
			buf_put_str(&b, units[i]);
		struct arena mem;
		arena_init(&mem);
		usec start = clock_cpu_thread();
		assert_true(header_decode_words(buf_span(&b), 1000000, &mem).n <= 1000000);
		size_t at = 0;
		span id;
		while (header_msgid_next(buf_span(&b), &at, &id))
			;
		assert_quick(start);
		arena_done(&mem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),	   cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_unfold),	   cmocka_unit_test(test_words),
		cmocka_unit_test(test_encode),	   cmocka_unit_test(test_dates),
		cmocka_unit_test(test_imap_dates), cmocka_unit_test(test_civil),
		cmocka_unit_test(test_bombs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

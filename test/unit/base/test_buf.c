#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

static void test_maximum(void **state)
{
	struct buf b = BUF_INIT(5);
	assert_int_equal(buf_put_str(&b, "abc"), 0);
	assert_int_equal(buf_put_str(&b, "def"), ERR_TOOBIG);
	assert_int_equal(b.n, 3);			    /* all or nothing */
	assert_int_equal(buf_put_str(&b, "d"), ERR_TOOBIG); /* sticky */
	assert_null(buf_reserve(&b, 0));
	buf_reset(&b);
	assert_int_equal(buf_put_str(&b, "12345"), 0);
	assert_string_equal(buf_cstr(&b), "12345"); /* the NUL needs no room of its own */
	assert_null(buf_reserve(&b, SIZE_MAX));
	buf_done(&b);
	assert_string_equal(buf_cstr(&b), "");
	assert_int_equal(b.max, 5);
}

static void test_growth(void **state)
{
	struct buf b = BUF_INIT(1 << 20);
	for (int i = 0; i < 10000; i++)
		buf_put_u64(&b, (uint64_t)i % 10);
	assert_int_equal(b.n, 10000);
	buf_consume(&b, 9999);
	assert_string_equal(buf_cstr(&b), "9");
	buf_consume(&b, 1);
	buf_shrink(&b, 64);
	assert_null(b.p);
	buf_put_u64(&b, UINT64_MAX);
	assert_string_equal(buf_cstr(&b), "18446744073709551615");
	buf_truncate(&b, 2);
	assert_string_equal(buf_cstr(&b), "18");
	buf_done(&b);
}

static void test_printf(void **state)
{
	struct buf b = BUF_INIT(1000);
	assert_int_equal(buf_printf(&b, "%s-%d", "x", 5), 0);
	assert_string_equal(buf_cstr(&b), "x-5");
	assert_int_equal(buf_printf(&b, "%900d", 1), 0); /* longer than the stack piece */
	assert_int_equal(b.n, 903);
	assert_int_equal(buf_printf(&b, "%98d", 1), ERR_TOOBIG);
	assert_int_equal(b.n, 903);
	buf_done(&b);
}

static void test_escaped(void **state)
{
	struct buf b = BUF_INIT(100);
	buf_put_escaped(&b, SPAN("a\"\\\r\n\t\0\x1b\x7f\xc3~"), 100);
	assert_string_equal(buf_cstr(&b), "a\\\"\\\\\\r\\n\\t\\x00\\x1b\\x7f\\xc3~");
	buf_reset(&b);
	buf_put_escaped(&b, SPAN("abcdef"), 3);
	assert_string_equal(buf_cstr(&b), "abc...");
	buf_done(&b);
}

static void test_records(void **state)
{
	struct buf b = BUF_INIT(64);
	buf_put_char(&b, 7);
	buf_put_le16(&b, 0x1234);
	buf_put_le32(&b, 0x89abcdef);
	buf_put_le64(&b, 0x0123456789abcdefu);
	buf_put_blob(&b, SPAN("blob"));
	assert_int_equal((unsigned char)b.p[1], 0x34);
	for (size_t cut = 0; cut <= b.n; cut++) { /* any truncation is noticed, none read past */
		struct cursor c = cursor_of(span_sub(buf_span(&b), 0, cut));
		uint8_t one = cursor_u8(&c);
		uint16_t two = cursor_le16(&c);
		uint32_t four = cursor_le32(&c);
		uint64_t eight = cursor_le64(&c);
		span blob = cursor_blob(&c);
		assert_true(cursor_at_end(&c) == (cut == b.n));
		if (cut < b.n)
			continue;
		assert_int_equal(one, 7);
		assert_int_equal(two, 0x1234);
		assert_int_equal(four, 0x89abcdef);
		assert_true(eight == 0x0123456789abcdefu);
		assert_true(span_eq_str(blob, "blob"));
		assert_int_equal(cursor_rest(&c).n, 0);
	}
	struct cursor lie = cursor_of(SPAN("\xff\xff\xff\xffx"));
	assert_int_equal(cursor_blob(&lie).n, 0);
	assert_true(lie.bad);
	assert_int_equal(cursor_u8(&lie), 0); /* the error is sticky */

	struct buf small = BUF_INIT(6);
	assert_int_equal(buf_put_blob(&small, SPAN("abc")), ERR_TOOBIG);
	assert_int_equal(small.n, 0);
	buf_done(&small);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_maximum), cmocka_unit_test(test_growth),
		cmocka_unit_test(test_printf),	cmocka_unit_test(test_escaped),
		cmocka_unit_test(test_records),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

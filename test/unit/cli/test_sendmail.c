#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "cli/sendmail_int.h"

static struct sendmail m;
static struct buf out;
static span why;

static int begin(void **state)
{
	m = (struct sendmail){ .domain = SPAN("here.test") };
	arena_init(&m.mem);
	buf_init(&out, 1 << 20);
	return 0;
}

static int end(void **state)
{
	arena_done(&m.mem);
	buf_done(&out);
	return 0;
}

static int make(const char *typed)
{
	buf_reset(&out);
	m.n_rcpts = 0;
	return sendmail_message(&m, span_str(typed), SPAN("me@here.test"), SPAN("Me \xc3\x84"),
				&out, &why);
}

#define FROM "From: =?UTF-8?Q?Me_=C3=84?= <me@here.test>\r\n"

static void test_text(void **state)
{
	assert_int_equal(make("hello\n.\nnot this\n"), 0);
	assert_string_equal(buf_cstr(&out), FROM "\r\nhello\r\n");
	m.dot_is_text = true;
	assert_int_equal(
		make("Subject: x\r\nBcc: a@b.test,\n\tc@d.test\nX: y\n\nhello\n.\nthis too"), 0);
	assert_string_equal(buf_cstr(&out),
			    "Subject: x\r\nX: y\r\n" FROM "\r\nhello\r\n.\r\nthis too\r\n");
	assert_int_equal(make("From x Mon\nfrom: <a@b.test>\nSubject: x\n"), 0);
	assert_string_equal(buf_cstr(&out), "from: <a@b.test>\r\nSubject: x\r\n\r\n");
	assert_int_equal(make(""), 0);
	assert_string_equal(buf_cstr(&out), FROM "\r\n");
	assert_int_equal(make("\nbody: no field\n"), 0);
	assert_string_equal(buf_cstr(&out), FROM "\r\nbody: no field\r\n");
	assert_int_equal(m.n_rcpts, 0);
}

static void expect_rcpts(const char *list)
{
	for (size_t i = 0; i < m.n_rcpts; i++) {
		span want = span_str(list), rest = want;

		want = span_cut(&rest, ' ');
		assert_int_equal(m.rcpts[i].n, want.n);
		assert_memory_equal(m.rcpts[i].p, want.p, want.n);
		list = rest.p;
	}
	assert_true(!list || !*list);
}

static void test_rcpts(void **state)
{
	m.read_rcpts = true;
	assert_int_equal(make("To: root, \"A, B\" <A@B.test>, x: one@c.test, two@c.test;\n"
			      "Cc: a@b.test (said twice is not the same)\n"
			      "Bcc: root, hidden@d.test\n\nTo: no@body.test\n"),
			 0);
	expect_rcpts("root@here.test A@b.test one@c.test two@c.test a@b.test hidden@d.test");
	assert_null(strstr(buf_cstr(&out), "hidden"));
	assert_int_equal(make("To: a@b.test\nResent-To: c@d.test\nResent-Bcc: e@f.test\n\n"), 0);
	expect_rcpts("c@d.test e@f.test");
	assert_null(strstr(buf_cstr(&out), "e@f.test"));
	assert_int_equal(make("To: a b@c.test\n\n"), ERR_SYNTAX);
	assert_int_equal(make("To: x@-bad-.test\n\n"), ERR_SYNTAX);
	assert_true(span_eq_str(why, "x@-bad-.test"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_text, begin, end),
		cmocka_unit_test_setup_teardown(test_rcpts, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

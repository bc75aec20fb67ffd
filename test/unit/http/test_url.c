/* URLs that have one reading only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/http.h"

static void test_good(void **state)
{
	struct http_url u;

	assert_int_equal(http_url_parse(SPAN("https://mta-sts.example.org/.well-known/x?a=b"), &u),
			 0);
	assert_true(u.tls && !u.numeric && u.port == 443);
	assert_true(span_eq_str(u.host, "mta-sts.example.org"));
	assert_true(span_eq_str(u.path, "/.well-known/x?a=b"));
	assert_int_equal(http_url_parse(SPAN("HTTP://a_b:8080"), &u), 0);
	assert_true(!u.tls && u.port == 8080 && u.path.n == 0);
	assert_int_equal(http_url_parse(SPAN("http://127.0.0.1:9/?q"), &u), 0);
	assert_true(u.numeric && sock_port(&u.address) == 9 && sock_is_loopback(&u.address));
	assert_int_equal(http_url_parse(SPAN("http://[::1]/x"), &u), 0);
	assert_true(u.numeric && span_eq_str(u.host, "::1") && u.port == 80);
}

static void test_bad(void **state)
{
	static const char *const bad[] = {
		"",
		"ftp://a/",
		"http:/a",
		"http://",
		"http:///x",
		"http://a@b/",
		"http://a:b@c/",
		"http://a:0/",
		"http://a:65536/",
		"http://a:/",
		"http://a:8x/",
		"http://a..b/",
		"http://.a/",
		"http://a./",
		"http://0x7f.1/",
		"http://2130706433/",
		"http://1.2.3/",
		"http://a.1/",
		"http://[::1/",
		"http://[127.0.0.1]/",
		"http://[::1]x/",
		"http://::1/",
		"http://a b/",
		"http://a/\r\nX: y",
		"http://a/#f",
		"http://a\\b/",
		"http://\xc3\xa9/",
		"http://%61/",
	};
	struct http_url u;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (http_url_parse(span_str(bad[i]), &u) != ERR_SYNTAX)
			fail_msg("%s", bad[i]);
	assert_int_equal(http_url_parse(SPAN("http://a/\0"), &u), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_good),
					    cmocka_unit_test(test_bad) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/maillog.h"

static struct buf out;

#define PUT(event, ...)                                                 \
	(buf_reset(&out),                                               \
	 maillog_put(&out, 1700000000 * USEC_SEC, "core", event,        \
		     (const struct log_field[]){ __VA_ARGS__, { 0 } }), \
	 buf_cstr(&out))

static void assert_lines(const char *text, const char *const *ends, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *end = strchr(text, '\n'), *colon = strstr(text, "]: ");

		assert_non_null(end);
		assert_memory_equal(text, "Nov 14 22:13:20 ", 16);
		assert_int_equal((size_t)(end - colon - 3), strlen(ends[i]));
		assert_memory_equal(colon + 3, ends[i], strlen(ends[i]));
		text = end + 1;
	}
	assert_string_equal(text, "");
}
#define LINES(text, ...)                                         \
	assert_lines(text, (const char *const[]){ __VA_ARGS__ }, \
		     ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })))

static void test_accepted(void **state)
{
	const char *t = PUT("smtp.accepted", F_STR("id", "01x"), F_STR("client", "c.test"),
			    F_STR("peer", "192.0.2.1"), F_STR("login", ""), F_STR("from", "a@b"),
			    F_STR("message_id", "<m@b>"), F_U64("rcpts", 1), F_U64("size", 10),
			    F_STR("stored", "d@e"), F_STR("delay", "0.1"));

	assert_non_null(strstr(t, " postrider/smtpd["));
	LINES(t, "01x: client=c.test[192.0.2.1]", "01x: message-id=<m@b>",
	      "01x: from=<a@b>, size=10, nrcpt=1 (queue active)",
	      "01x: to=<d@e>, relay=local, delay=0.1, delays=0.1/0/0/0, dsn=2.1.5, status=sent "
	      "(delivered to mailbox)",
	      "01x: removed");
	t = PUT("smtp.accepted", F_STR("id", "01x"), F_STR("client", "unknown"),
		F_STR("peer", "192.0.2.1"), F_STR("login", "u@b"), F_STR("from", ""),
		F_U64("rcpts", 2), F_U64("size", 10));
	LINES(t, "01x: client=unknown[192.0.2.1], sasl_username=u@b",
	      "01x: from=<>, size=10, nrcpt=2 (queue active)");
}

static void test_delivery(void **state)
{
	const char *t = PUT("mail.rcpt", F_STR("id", "01x"), F_STR("to", "a@b"),
			    F_STR("part", "lmtp"), F_STR("relay", "h[::1]"), F_STR("delay", "1"),
			    F_STR("delays", "0/0/0.5/0.5"), F_STR("status", "4.2.0"),
			    F_STR("outcome", "deferred"), F_STR("reply", "450 4.2.0 later\nTo: x"));

	assert_non_null(strstr(t, " postrider/lmtp["));
	LINES(t, "01x: to=<a@b>, relay=h[::1], delay=1, delays=0/0/0.5/0.5, dsn=4.2.0, "
		 "status=deferred (450 4.2.0 later\\nTo: x)");
}

static void test_others(void **state)
{
	LINES(PUT("smtp.rejected", F_STR("id", "01x"), F_STR("client", "unknown"),
		  F_STR("peer", "192.0.2.1"), F_STR("helo", "h\r\nx"), F_STR("proto", "ESMTP"),
		  F_STR("from", "a@b"), F_STR("to", "{from}@e"), F_U64("code", 550),
		  F_STR("status", "5.1.1"), F_STR("text", "no")),
	      "NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 550 5.1.1 <{from}@e>: no; from=<a@b> "
	      "to=<{from}@e> proto=ESMTP helo=<h\\r\\nx>");
	LINES(PUT("core.started", F_U64("n", 3), F_STR("why", "a b")), "core.started n=3 why=a b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_delivery),
		cmocka_unit_test(test_others),
	};

	setenv("TZ", "UTC0", 1);
	tzset();
	buf_init(&out, 1 << 16);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	buf_done(&out);
	return failed;
}

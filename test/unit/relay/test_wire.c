#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/wire.h"

static struct arena mem;

static int setup(void **state)
{
	arena_init(&mem);
	return 0;
}

static int teardown(void **state)
{
	arena_done(&mem);
	return 0;
}

static struct smtp_reply reply(unsigned code, const char *enhanced, const char *text)
{
	struct smtp_reply r = { .code = code, .text = span_str(text), .lines = 1 };

	memcpy(r.enhanced, enhanced, strlen(enhanced) + 1);
	return r;
}

static void test_open(void **state)
{
	struct relay_open o = { .helo = SPAN("us.test"),
				.host = SPAN("mx.test"),
				.tls = RELAY_TLS_VERIFY,
				.lmtp = true,
				.user = SPAN("me"),
				.password = SPAN("secret") },
			  back;
	struct buf b _cleanup_(buf_donep) = BUF_INIT(4096);

	assert_int_equal(sock_parse_ip(SPAN("2001:db8::1"), 2525, &o.to), 0);
	assert_int_equal(relay_open_put(&b, &o), 0);
	assert_int_equal(relay_open_get(buf_span(&b), &back), 0);
	assert_true(sock_same_ip(&back.to, &o.to));
	assert_int_equal(sock_port(&back.to), 2525);
	assert_int_equal(back.source.sa.sa_family, AF_UNSPEC);
	assert_true(span_eq(back.host, o.host) && span_eq(back.helo, o.helo));
	assert_true(back.lmtp && !back.implicit_tls && back.tls == RELAY_TLS_VERIFY);
	assert_true(span_eq(back.user, o.user) && span_eq(back.password, o.password));
	for (size_t cut = 0; cut < b.n; cut++)
		assert_int_equal(relay_open_get(span_sub(buf_span(&b), 0, cut), &back), ERR_PROTO);
}

static void test_opened(void **state)
{
	struct relay_opened o = { .fail = RELAY_FAIL_GREETING,
				  .reply = reply(554, "5.7.1", "go away"),
				  .why = SPAN("why"),
				  .extensions = RELAY_EXT_SIZE,
				  .max_size = 1 << 20,
				  .by_min = 60,
				  .mail_max = 1,
				  .rcpt_max = 2,
				  .domain_max = 3,
				  .auth = SPAN("PLAIN"),
				  .tls = true,
				  .tls_text = SPAN("TLSv1.3 X"),
				  .banner_host = SPAN("mx") },
			    back;
	struct buf b _cleanup_(buf_donep) = BUF_INIT(4096);

	assert_int_equal(relay_opened_put(&b, &o), 0);
	assert_int_equal(relay_opened_get(buf_span(&b), &mem, &back), 0);
	assert_int_equal(back.fail, o.fail);
	assert_int_equal(back.reply.code, 554);
	assert_string_equal(back.reply.enhanced, "5.7.1");
	assert_true(span_eq_str(back.reply.text, "go away") &&
		    span_eq_str(back.tls_text, "TLSv1.3 X"));
	assert_true(back.tls && !back.tls_verified && back.max_size == 1 << 20);
	assert_true(back.by_min == 60 && back.mail_max == 1 && back.rcpt_max == 2 &&
		    back.domain_max == 3 && span_eq_str(back.auth, "PLAIN"));
	for (size_t cut = 0; cut < b.n; cut++)
		assert_int_equal(relay_opened_get(span_sub(buf_span(&b), 0, cut), &mem, &back),
				 ERR_PROTO);
}

static void test_send(void **state)
{
	struct relay_rcpt rcpts[RELAY_RCPTS_MAX + 1] = { { SPAN("b@example.org"), SPAN("rfc822;b"),
							   RELAY_NOTIFY_DELAY } };
	struct relay_send s = { .sender = SPAN("a@example.org"),
				.size = 7,
				.body = SPAN("x\0y\r\nzz"),
				.smtputf8 = true,
				.ret_hdrs = true,
				.chunking = true,
				.by = true,
				.by_trace = true,
				.by_seconds = -9,
				.priority = -4,
				.rcpts = rcpts,
				.n_rcpts = 2 },
			  back;
	struct buf b _cleanup_(buf_donep) = BUF_INIT(65536);

	assert_int_equal(relay_send_put(&b, &s), 0);
	assert_int_equal(relay_send_get(buf_span(&b), &mem, &back), 0);
	assert_int_equal(back.n_rcpts, 2);
	assert_true(span_eq(back.rcpts[0].address, rcpts[0].address) &&
		    back.rcpts[0].notify == RELAY_NOTIFY_DELAY);
	assert_true(span_eq(back.body, s.body) && back.smtputf8 && !back.body_8bit &&
		    back.ret_hdrs && !back.ret_full);
	assert_true(back.chunking && !back.require_tls && back.by && !back.by_return &&
		    back.by_trace && back.by_seconds == -9 && back.priority == -4);
	for (size_t cut = 0; cut < b.n; cut++)
		assert_int_equal(relay_send_get(span_sub(buf_span(&b), 0, cut), &mem, &back),
				 ERR_PROTO);
	s.n_rcpts = RELAY_RCPTS_MAX + 1;
	assert_int_equal(relay_send_put(&b, &s), ERR_TOOBIG);
}

static void test_sent(void **state)
{
	struct smtp_reply rcpts[] = { reply(250, "2.1.5", "ok"), reply(550, "", "no") },
			  finals[] = { reply(250, "", ""), { 0 } };
	struct relay_sent s = { .fail = RELAY_FAIL_CLOSED,
				.why = SPAN("gone"),
				.mail = reply(250, "", "ok"),
				.rcpts = rcpts,
				.n_rcpts = 2,
				.data = reply(354, "", "go"),
				.rcpt_final = finals },
			  back;
	struct buf b _cleanup_(buf_donep) = BUF_INIT(65536);

	assert_int_equal(relay_sent_put(&b, &s), 0);
	assert_int_equal(relay_sent_get(buf_span(&b), &mem, &back), 0);
	assert_int_equal(back.n_rcpts, 2);
	assert_int_equal(back.rcpts[1].code, 550);
	assert_int_equal(back.rcpt_final[0].code, 250);
	assert_int_equal(back.data.code, 354);
	assert_int_equal(back.final.code, 0);
	for (size_t cut = 0; cut < b.n; cut++)
		assert_int_equal(relay_sent_get(span_sub(buf_span(&b), 0, cut), &mem, &back),
				 ERR_PROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_opened, setup, teardown),
		cmocka_unit_test_setup_teardown(test_send, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sent, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

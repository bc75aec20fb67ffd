/* Replies as filters write them, and the messages between core and out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filter/filter.h"
#include "sys/channel.h"

static struct arena mem;

static void test_replies(void **state)
{
	static const struct {
		const char *text;
		enum filter_action action;
		unsigned code;
		const char *enhanced, *line;
	} rows[] = {
		{ "550 5.7.1 no", FILTER_REJECT, 550, "5.7.1", "no" },
		{ "451 later", FILTER_TEMPFAIL, 451, "", "later" },
		{ "421 4.3.0 bye", FILTER_TEMPFAIL, 451, "4.3.0", "bye" },
		{ "550", FILTER_REJECT, 550, "", "" },
		{ "550-5.1.1 one\r\n550 5.1.1 two", FILTER_REJECT, 550, "5.1.1", "one two" },
		{ "550 4.7.1 wrong class", FILTER_REJECT, 550, "", "4.7.1 wrong class" },
		{ "554 a\x1b[31mb", FILTER_REJECT, 554, "", "a?[31mb" },
	};
	static const char *const bad[] = { "",	    "250 2.0.0 ok",   "55",    "5500 x", "abc",
					   "650 x", "550-a\r\n551 b", "350 go" };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct filter_result r = { 0 };

		assert_int_equal(filter_reply_parse(span_str(rows[i].text), &mem, &r), 0);
		assert_int_equal(r.action, rows[i].action);
		assert_int_equal(r.code, rows[i].code);
		assert_true(span_eq_str(r.enhanced, rows[i].enhanced));
		assert_true(span_eq_str(r.text, rows[i].line));
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct filter_result r = { 0 };

		if (filter_reply_parse(span_str(bad[i]), &mem, &r) != ERR_SYNTAX)
			fail_msg("%s", bad[i]);
	}
}

static void test_ask(void **state)
{
	span rcpts[] = { SPAN("a@b"), SPAN("c@d") };
	struct filter_ask a = { .conversation = 7,
				.flags = FILTER_FRESH | FILTER_END,
				.timeout = 1,
				.timeout_end = 2,
				.session = { .id = SPAN("i"), .helo = SPAN("h"), .smtputf8 = true },
				.rcpts = rcpts,
				.n_rcpts = 2,
				.size = 10,
				.header_size = 5,
				.new_body_max = 99 };
	struct buf b = BUF_INIT(CHANNEL_MAX);
	struct filter_ask got;

	assert_int_equal(sock_parse_ip(SPAN("::1"), 25, &a.to), 0);
	assert_int_equal(sock_parse_ip(SPAN("192.0.2.9"), 1, &a.session.peer), 0);
	assert_int_equal(filter_ask_put(&b, &a), 0);
	assert_int_equal(filter_ask_get(buf_span(&b), &mem, &got), 0);
	assert_true(got.conversation == 7 && got.flags == a.flags && got.size == 10);
	assert_true(got.n_rcpts == 2 && span_eq(got.rcpts[1], rcpts[1]));
	assert_true(span_eq_str(got.session.helo, "h") && got.session.smtputf8);
	assert_true(sock_same_ip(&got.to, &a.to) && sock_port(&got.session.peer) == 1);
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(filter_ask_get(span_sub(buf_span(&b), 0, n), &mem, &got),
				 ERR_PROTO);
	buf_done(&b);
}

static int travel(struct filter_edit e)
{
	struct filter_result r = { .edits = &e, .n_edits = 1 }, got;
	struct buf b = BUF_INIT(CHANNEL_MAX);
	int ret;

	assert_int_equal(filter_result_put(&b, &r), 0);
	ret = filter_result_get(buf_span(&b), &mem, &got);
	buf_done(&b);
	return ret;
}

/* Core takes no value from out that would leave its field. */
static void test_edits_are_checked(void **state)
{
	assert_int_equal(travel((struct filter_edit){ 0, 0, SPAN("A"), SPAN(" b\r\n\tc") }), 0);
	assert_int_equal(travel((struct filter_edit){ 0, 0, SPAN("A"), SPAN(" b\r\nC: d") }),
			 ERR_PROTO);
	assert_int_equal(travel((struct filter_edit){ 0, 0, SPAN("A"), SPAN(" b\n\tc") }),
			 ERR_PROTO);
	assert_int_equal(travel((struct filter_edit){ 0, 0, SPAN("A"), SPAN(" b\r\n\0c") }),
			 ERR_PROTO);
	assert_int_equal(travel((struct filter_edit){ 0, 0, SPAN("A B"), SPAN("") }), ERR_PROTO);
	assert_int_equal(
		travel((struct filter_edit){ FILTER_ADD_RCPT, 0, SPAN(""), SPAN("<a@b>") }), 0);
	assert_int_equal(travel((struct filter_edit){ FILTER_ADD_RCPT, 0, SPAN(""), SPAN("a\nb") }),
			 ERR_PROTO);
	assert_int_equal(travel((struct filter_edit){ 99, 0, SPAN("A"), SPAN("") }), ERR_PROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_replies),
					    cmocka_unit_test(test_ask),
					    cmocka_unit_test(test_edits_are_checked) };
	int failed;

	arena_init(&mem);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_done(&mem);
	return failed;
}

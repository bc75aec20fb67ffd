/* The hook's JSON, both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filter/hook.h"

static struct arena mem;

static struct filter_result answer(const char *json)
{
	struct filter_result r;

	hook_answer_parse(span_str(json), &mem, &r);
	return r;
}

static void test_request(void **state)
{
	struct filter_session s = { .id = SPAN("ID"),
				    .helo = SPAN("he\xff"),
				    .sender = SPAN("a@b") };
	span rcpts[] = { SPAN("c@d") };
	struct hook_message m = { .session = &s,
				  .stage = "message",
				  .rcpts = rcpts,
				  .n_rcpts = 1,
				  .header = SPAN("A:  b \r\nC: d\r\n\r\n"),
				  .size = 100,
				  .body = SPAN("hi"),
				  .show_body = true };
	struct buf b = BUF_INIT(10000);

	assert_int_equal(sock_parse_ip(SPAN("192.0.2.1"), 9, &s.peer), 0);
	assert_int_equal(hook_request_put(&b, &m), 0);
	assert_non_null(strstr(buf_cstr(&b), "\"headers\":[[\"A\",\"b\"],[\"C\",\"d\"]]"));
	assert_non_null(strstr(buf_cstr(&b), "\"body\":\"aGk=\""));
	assert_non_null(strstr(buf_cstr(&b), "\"to\":[\"c@d\"]"));
	assert_non_null(strstr(buf_cstr(&b), "\"ip\":\"192.0.2.1\""));
	buf_done(&b);
}

static void test_verdicts(void **state)
{
	struct filter_result r = answer(
		"{\"action\":\"reject\",\"code\":554,\"enhanced\":\"5.7.0\","
		"\"text\":\"no\"}");

	assert_true(r.action == FILTER_REJECT && r.code == 554);
	assert_true(span_eq_str(r.enhanced, "5.7.0") && span_eq_str(r.text, "no"));
	r = answer("{\"action\":\"quarantine\",\"text\":\"odd\"}");
	assert_true(r.action == FILTER_CONTINUE && r.quarantine);
	assert_true(span_eq_str(r.quarantine_text, "odd"));
	assert_int_equal(answer("{\"action\":\"defer\"}").code, 451);
	assert_int_equal(answer("{\"action\":\"discard\"}").action, FILTER_DISCARD);
	r = answer(
		"{\"action\":\"accept\",\"add_headers\":[{\"name\":\"X\",\"value\":\"y\"}],"
		"\"remove_headers\":[{\"name\":\"Z\",\"index\":2}],\"add_recipients\":[\"a@b\"]}");
	assert_int_equal(r.n_edits, 3);
	assert_true(r.edits[0].kind == FILTER_CHANGE_HEADER && r.edits[0].index == 2);
	assert_true(span_eq_str(r.edits[1].value, " y"));
	assert_true(r.edits[2].kind == FILTER_ADD_RCPT && span_eq_str(r.edits[2].value, "a@b"));
}

static void test_no_answers(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"null",
		"{\"action\":1}",
		"{\"action\":\"no\"}",
		"{\"action\":\"reject\",\"code\":450}",
		"{\"action\":\"defer\",\"code\":550}",
		"{\"action\":\"reject\",\"enhanced\":\"4.7.1\"}",
		"{\"action\":\"reject\",\"enhanced\":\"5\"}",
		"{\"action\":\"accept\",\"add_headers\":[{\"name\":\"a:\",\"value\":\"\"}]}",
		"{\"action\":\"accept\",\"add_headers\":[1]}",
		"{\"action\":\"accept\",\"remove_headers\":[{\"name\":\"a\",\"index\":0}]}",
		"{\"action\":\"accept\",\"add_recipients\":[\"a\\nb\"]}",
		"{\"action\":\"accept\",\"action\":\"reject\"}",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (answer(bad[i]).action != FILTER_FAILED)
			fail_msg("%s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_request),
					    cmocka_unit_test(test_verdicts),
					    cmocka_unit_test(test_no_answers) };
	int failed;

	arena_init(&mem);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_done(&mem);
	return failed;
}

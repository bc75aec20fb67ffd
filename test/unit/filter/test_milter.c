/* The MTA's side against scripted milters.  Each script is played whole and a byte at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filter/milter.h"

static size_t step; /* bytes of one feed */

static struct milter *begin(void)
{
	struct filter_session s = { .id = SPAN("ID"),
				    .hostname = SPAN("us.test"),
				    .daemon = SPAN("inbound"),
				    .helo = SPAN("he.test"),
				    .sender = SPAN("a@b") };

	assert_int_equal(sock_parse_ip(SPAN("2001:db8::1"), 99, &s.peer), 0);
	return milter_new(&s);
}

static void say(struct milter *m, char command, span data)
{
	struct buf b = BUF_INIT(1 << 20);
	uint32_t n = (uint32_t)data.n + 1;
	char size[4] = { (char)(n >> 24), (char)(n >> 16), (char)(n >> 8), (char)n };
	span s;

	buf_put(&b, size, 4);
	buf_put_char(&b, command);
	buf_put_span(&b, data);
	for (s = buf_span(&b); s.n; s = span_from(s, step))
		milter_feed(m, span_sub(s, 0, step));
	buf_done(&b);
}

static void say_options(struct milter *m, uint32_t actions, uint32_t steps)
{
	char o[12] = { 0, 0, 0, 6 };

	for (int i = 0; i < 4; i++) {
		o[4 + i] = (char)(actions >> (24 - 8 * i));
		o[8 + i] = (char)(steps >> (24 - 8 * i));
	}
	say(m, 'O', span_of(o, sizeof o));
}

/* The commands that were said since, without macros. */
static const char *heard(struct milter *m)
{
	static char events[100];
	struct buf *out = milter_out(m);
	size_t at = 0, n = 0;

	while (at + 5 <= out->n) {
		const uint8_t *u = (const uint8_t *)out->p + at;

		if (out->p[at + 4] != 'D')
			events[n++] = out->p[at + 4];
		at += 4 + ((size_t)u[2] << 8 | u[3]);
	}
	assert_int_equal(at, out->n);
	events[n] = 0;
	buf_reset(out);
	return events;
}

#define YES(m) say(m, 'c', SPAN_NULL)

static struct milter *at_rcpt(uint32_t steps)
{
	struct milter *m = begin();

	assert_string_equal(heard(m), "O");
	say_options(m, 0x1ff, steps);
	while (milter_state(m) == MILTER_BUSY)
		YES(m);
	heard(m);
	return m;
}

static void test_order(void **state)
{
	struct milter *m = at_rcpt(0);
	span to = SPAN("c@d");

	milter_rcpts(m, &to, 1);
	assert_string_equal(heard(m), "R");
	YES(m);
	assert_true(milter_state(m) == MILTER_PARKED && !milter_over(m));
	milter_message(m, SPAN("A: b\r\nC: d\r\n\r\n"));
	for (const char *want = "TLLN"; *want; want++) {
		assert_int_equal(*heard(m), *want);
		YES(m);
	}
	assert_int_equal(milter_state(m), MILTER_BODY);
	milter_body(m, SPAN("hi\r\n"));
	assert_string_equal(heard(m), "B");
	YES(m);
	milter_body(m, SPAN_NULL);
	assert_true(milter_ending(m));
	assert_string_equal(heard(m), "E");
	say(m, 'p', SPAN_NULL);
	say(m, 'h', SPAN("X\0y\0"));
	assert_false(milter_over(m));
	YES(m);
	assert_true(milter_over(m) && milter_result(m)->action == FILTER_CONTINUE);
	assert_int_equal(milter_result(m)->n_edits, 1);
	assert_true(span_eq_str(milter_result(m)->edits[0].value, " y"));
	milter_quit(m);
	assert_string_equal(heard(m), "Q");
	milter_free(m);
}

static void test_refusals(void **state)
{
	struct milter *m = at_rcpt(0);
	span to[] = { SPAN("c@d"), SPAN("e@f") };

	milter_rcpts(m, to, 2);
	say(m, 'y', SPAN("550 5.1.1 100%% no\0"));
	assert_true(milter_state(m) == MILTER_PARKED && !milter_over(m));
	assert_int_equal(milter_result(m)->code, 550);
	assert_true(span_eq_str(milter_result(m)->text, "100% no"));
	assert_string_equal(heard(m), "R");
	milter_rcpts(m, to, 1); /* the next one is its own */
	YES(m);
	assert_int_equal(milter_result(m)->action, FILTER_CONTINUE);
	milter_free(m);

	m = begin();
	say_options(m, 0, 0);
	say(m, 'r', SPAN_NULL); /* the connection */
	assert_true(milter_over(m) && milter_result(m)->action == FILTER_REJECT);
	milter_free(m);
}

/* With every step refused or unanswered, one round trip is left. */
static void test_silent_steps(void **state)
{
	struct milter *m = at_rcpt(0x1fffff & ~0x800u & ~0x1fu);
	span to = SPAN("c@d");

	milter_rcpts(m, &to, 1);
	milter_message(m, SPAN("A: b\r\n\r\n"));
	while (milter_state(m) == MILTER_BODY)
		milter_body(m, SPAN_NULL);
	assert_int_equal(milter_state(m), MILTER_BUSY);
	YES(m);
	assert_true(milter_over(m) && milter_result(m)->action == FILTER_CONTINUE);
	milter_free(m);
}

static void test_misbehaviour(void **state)
{
	static const struct {
		char command;
		span data;
	} rows[] = {
		{ 'x', SPAN("") },	    { 'h', SPAN("A\0b\0") }, /* not at its time */
		{ 'O', SPAN("too short") }, { 'y', SPAN("250 ok\0") }, { 'y', SPAN("550 no end") },
		{ 's', SPAN("") },	    { 'f', SPAN("") },	       { '4', SPAN("") },
	};
	span to = SPAN("c@d");

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct milter *m = at_rcpt(0);

		milter_rcpts(m, &to, 1);
		say(m, rows[i].command, rows[i].data);
		assert_true(milter_over(m));
		assert_int_equal(milter_result(m)->action, FILTER_FAILED);
		heard(m);
		milter_quit(m);
		assert_string_equal(heard(m), "");
		milter_free(m);
	}
}

static void test_limits(void **state)
{
	struct milter *m = at_rcpt(0x37f);
	span to = SPAN("c@d");

	milter_rcpts(m, &to, 1);
	milter_message(m, SPAN("\r\n"));
	while (milter_state(m) == MILTER_BODY)
		milter_body(m, SPAN_NULL);
	for (int i = 0; i < FILTER_EDITS_MAX; i++)
		say(m, 'h', SPAN("A\0b\0"));
	assert_false(milter_over(m));
	say(m, 'h', SPAN("A\0b\0"));
	assert_int_equal(milter_result(m)->action, FILTER_FAILED);
	milter_free(m);

	m = begin();
	milter_feed(m, SPAN("\x7f\xff\xff\xff"
			    "c"));
	assert_int_equal(milter_result(m)->action, FILTER_FAILED);
	milter_free(m);
}

static void test_gone(void **state)
{
	struct milter *m = at_rcpt(0);

	milter_fail(m, SPAN("it\nhung up"));
	assert_true(milter_over(m));
	assert_true(span_eq_str(milter_result(m)->text, "it hung up"));
	milter_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),	     cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_silent_steps), cmocka_unit_test(test_misbehaviour),
		cmocka_unit_test(test_limits),	     cmocka_unit_test(test_gone)
	};
	int failed = 0;

	for (step = 1; step < 2000; step += 1500)
		failed += cmocka_run_group_tests(tests, NULL, NULL);
	return failed;
}

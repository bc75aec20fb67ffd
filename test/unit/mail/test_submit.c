/* Submission: whose address may stand where, what is added, and that all else stays as it was. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALICE "alice@here.test"
#define FIELDS \
	"From: alice@here.test\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@x>\r\n"
#define REFUSED "550 5.7.1"

/* The message as it waits for the peer; BLOCK gets what was put above it. */
static span sent(const char *message, span *ret_block)
{
	span body = queued_body("out@else.test");
	size_t n = strlen(message);

	assert_true(body.n >= n);
	assert_memory_equal(body.p + body.n - n, message, n); /* every byte */
	*ret_block = span_sub(body, 0, body.n - n);
	answer("out@else.test", OUTCOME_DELIVERED, "2.0.0", "250 ok", "mx[192.0.2.1]");
	return body;
}

static void test_envelope_sender(void **state)
{
	struct send s = { .from = "bob@here.test", .rcpt = { "out@else.test" }, .as = ALICE };
	const char *v = mail_send(&s, SPAN(FIELDS "\r\nhi\r\n"));

	assert_verdict(v, REFUSED);
	assert_true(has(span_str(v), "<bob@here.test>")); /* says which */
	w.conf.submission_from = CONF_FROM_ANY;		  /* is about the From field only */
	assert_verdict(mail_send(&s, SPAN(FIELDS "\r\nhi\r\n")), REFUSED);
	s.from = "alice+tag@here.test";
	assert_verdict(mail_send(&s, SPAN(FIELDS "\r\nhi\r\n")), "250");
	s.from = "";
	assert_verdict(mail_send(&s, SPAN(FIELDS "\r\nhi\r\n")), "250");
	alias("info@here.test", ALICE, NULL);
	s.from = "info@here.test";
	assert_verdict(mail_send(&s, SPAN(FIELDS "\r\nhi\r\n")), "250");
}

static const char *from(const char *field)
{
	return submit(ALICE, arena_printf(&w.mem,
					  "%s\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
					  "Message-ID: <1@x>\r\n\r\nhi\r\n",
					  field));
}

static void test_from_owned(void **state)
{
	static const char *const good[] = {
		"From: alice@here.test",
		"FROM : <Alice@HERE.test>",
		"From: \"bob@here.test\" <alice@here.test>", /* a name, not an address */
		"From: alice+x@here.test (bob@here.test)",
		"From: =?utf-8?q?bob=40here.test?= <alice@here.test>",
		"From: Alice\r\n <alice@here.test>",
		"From: friends: alice@here.test, alice+2@here.test;",
		"From: alice @ here . test", /* obsolete white space */
	};
	static const char *const bad[] = {
		"From: bob@here.test",
		"From: alice@here.test, bob@here.test",
		"From: alice@here.test,\r\n bob@here.test",
		"From: friends: alice@here.test, boss@else.test;",
		"From: \"alice@here.test\" <boss@else.test>",
		"From: alice@here.test (c) , =?utf-8?q?x?= <boss@else.test>",
		"From: <@here.test:boss@else.test>",
		"From: undisclosed:;",
		"From:",
		"From: Alice",
		"From: =?utf-8?q?alice=40here.test?=",
		"From: alice@here.test <boss@else.test>",
		"From: <alice@here.test> <boss@else.test>",
		"From: alice@here.test boss@else.test",
		"From: alice@here.test, <boss@else.test",
		"From: alice@here.test, \"boss@else.test",
		"From: alice@here.test, boss@",
		"From: alice@here.test; boss@else.test",
	};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (strncmp(from(good[i]), "250", 3) != 0)
			fail_msg("refused: %s (%s)", good[i], from(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (strncmp(from(bad[i]), REFUSED, strlen(REFUSED)) != 0)
			fail_msg("taken: %s (%s)", bad[i], from(bad[i]));
	assert_true(has(span_str(from("From: boss@else.test")), "<boss@else.test>"));
}

/* More addresses than are looked at. */
static void test_from_many(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);

	buf_put_str(&b, "From: alice@here.test");
	for (int i = 0; i < 150; i++)
		buf_put_str(&b, ",\r\n alice@here.test");
	buf_put_str(&b, ",\r\n boss@else.test");
	assert_verdict(from(buf_cstr(&b)), REFUSED);
}

static void test_from_policy(void **state)
{
	struct directory_domain d;

	assert_int_equal(directory_domain_get(w.env.directory, SPAN("here.test"), &w.mem, &d), 0);
	d.from = FROM_ANY;
	assert_int_equal(directory_domain_set(w.env.directory, SPAN("here.test"), &d, NULL), 0);
	assert_verdict(from("From: boss@else.test"), "250");
	assert_int_equal(directory_account_set_from(w.env.directory, SPAN(ALICE), FROM_OWNED, NULL),
			 0);
	assert_verdict(from("From: boss@else.test"), REFUSED);
	assert_int_equal(
		directory_account_set_from(w.env.directory, SPAN(ALICE), FROM_DEFAULT, NULL), 0);
	d.from = FROM_DEFAULT;
	assert_int_equal(directory_domain_set(w.env.directory, SPAN("here.test"), &d, NULL), 0);
	assert_verdict(from("From: boss@else.test"), REFUSED);
	w.conf.submission_from = CONF_FROM_ANY;
	assert_verdict(from("From: boss@else.test"), "250");
}

static void test_defects(void **state)
{
	static const struct {
		span message;
		const char *word;
	} bad[] = {
		{ SPAN(FIELDS "\r\na\0b\r\n"), "NUL" },
		{ SPAN(FIELDS "\r\na\rb\r\n"), "bare CR" },
		{ SPAN(FIELDS "\r\na\nb\r\n"), "bare LF" },
		{ SPAN(FIELDS "\r\na\r\n.\nb\r\n"), "bare LF" },
		{ SPAN(FIELDS "from: alice@here.test\r\n\r\nb\r\n"), "two From" },
		{ SPAN(FIELDS "no field\r\nFrom: alice@here.test\r\n\r\nb\r\n"), "two From" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct send s = { .from = ALICE, .rcpt = { "out@else.test" }, .as = ALICE };
		const char *v = mail_send(&s, bad[i].message);

		assert_verdict(v, "550 5.6.");
		assert_true(has(span_str(v), bad[i].word));
	}
	assert_int_equal(queue_rcpts(), 0);
}

static void test_fields_added(void **state)
{
	const char *whole = FIELDS "Subject: s\r\n\r\nhi\r\n", *none = "Subject: s\r\n\r\nhi\r\n";
	span block;

	assert_verdict(submit(ALICE, whole), "250");
	sent(whole, &block);
	assert_false(has(block, "\r\nFrom:") || has(block, "\r\nDate:") ||
		     has(block, "Message-ID:"));
	assert_true(span_starts(block, SPAN("Received: ")));

	assert_verdict(submit(ALICE, none), "250");
	sent(none, &block);
	assert_has(block, "\r\nFrom: alice@here.test\r\n");
	assert_has(block, "\r\nDate: ");
	assert_has(block, "\r\nMessage-ID: <");
	assert_has(block, "@here.test>\r\n");
}

/* A message may be all body, all header, or cut off in either: what we add stays a header. */
static void test_shapes(void **state)
{
	static const struct {
		const char *message;
		bool bare;
	} shapes[] = {
		{ "Subject: only a header\r\n", false },
		{ "Subject: cut off", false },
		{ "Subject: s\r\n\r\nno final line end", false },
		{ "\r\nempty header\r\n", false },
		{ "", false },
		{ "just words\r\nand more\r\n", true },
		{ "just words", true },
		{ "just words\r\n\r\nFrom: boss@else.test\r\n", true },
		{ " From: boss@else.test\r\nSubject: folded into ours\r\n\r\nhi\r\n", true },
		{ "\tboss@else.test\r\n\r\nhi\r\n", true },
	};

	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		span block;

		assert_verdict(submit(ALICE, shapes[i].message), "250");
		sent(shapes[i].message, &block);
		assert_has(block, "\r\nFrom: alice@here.test\r\n");
		assert_has(block, "\r\nMessage-ID: <");
		assert_int_equal(shapes[i].bare, has(block, "\r\n\r\n"));
	}
}

/* A field that is not looked at is not checked: no From may hide behind a large header. */
static void test_large_header(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);

	while (b.n < 20000)
		buf_put_str(&b, "X-Filler: some text that makes the header grow, line by line\r\n");
	buf_put_str(&b, "From: boss@else.test\r\n\r\nhi\r\n");
	assert_verdict(submit(ALICE, buf_cstr(&b)), REFUSED); /* longer than store.inline */
	buf_reset(&b);
	while (b.n < 300000)
		buf_put_str(&b, "X-Filler: some text that makes the header grow, line by line\r\n");
	buf_put_str(&b, "From: boss@else.test\r\n\r\nhi\r\n");
	assert_verdict(submit(ALICE, buf_cstr(&b)), "552 5.3.4");
	buf_reset(&b);
	buf_put_str(&b, FIELDS "\r\n");
	while (b.n < 300000)
		buf_put_str(&b, "a long body is fine\r\n");
	assert_verdict(submit(ALICE, buf_cstr(&b)), "250");
	span block;
	sent(buf_cstr(&b), &block);
}

static void test_long_lines(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);
	span block;

	buf_put_str(&b, FIELDS "\r\n");
	for (int i = 0; i < 3000; i++)
		buf_put_char(&b, 'x');
	buf_put_str(&b, "\r\n");
	assert_verdict(submit(ALICE, buf_cstr(&b)), "250"); /* carried as it is */
	sent(buf_cstr(&b), &block);
}

static void test_timeline(void **state)
{
	assert_verdict(submit(ALICE, "Subject: s\r\n\r\nhi\r\n"), "250");
	span body = queued_body("out@else.test"), rest = body;
	size_t at = (size_t)((char *)memmem(rest.p, rest.n, "Message-ID: ", 12) - rest.p) + 12;
	rest = span_from(body, at);
	char *id = span_dup(span_cut(&rest, '\r'));

	assert_true(found_by(&w.last, id)); /* the one that was added */
	free(id);
	assert_true(found_by(&w.last, ALICE));
	assert_true(found_by(&w.last, "out@else.test"));
	assert_int_equal(steps(&w.last, "smtp.accepted"), 1);
	assert_int_equal(steps(&w.last, "queue.accept"), 1);
	assert_verdict(from("From: boss@else.test"), REFUSED);
	assert_int_equal(steps(&w.last, "smtp.refused"), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = { T(test_envelope_sender), T(test_from_owned),
					    T(test_from_many),	     T(test_from_policy),
					    T(test_defects),	     T(test_fields_added),
					    T(test_shapes),	     T(test_large_header),
					    T(test_long_lines),	     T(test_timeline) };
	return cmocka_run_group_tests_name("mail: submission", tests, NULL, NULL);
}

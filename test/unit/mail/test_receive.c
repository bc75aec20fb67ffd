/* Taking a message: straight into one mailbox, or to the queue; never 250 for less. */
#include "world.h"

#include "format/mime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char hello[] =
	"From: x@else.test\r\nMessage-ID: <hello@else.test>\r\nSubject: s\r\n\r\nhi\r\n";

static const char *to_many(const char *a, const char *b, const char *c)
{
	return mail_send(&(struct send){ .from = "x@else.test", .rcpt = { a, b, c } },
			 span_str(hello));
}

static void test_direct(void **state)
{
	span m;

	assert_verdict(send_one("x@else.test", "alice+tag@here.test", hello), "250 2.0.0 accepted");
	assert_int_equal(queue_rcpts(), 0);
	assert_int_equal(inbox_count("alice@here.test"), 1);
	m = inbox_get("alice@here.test", 1);
	assert_true(span_starts(m, SPAN("Return-Path: <x@else.test>\r\n"
					"Delivered-To: alice+tag@here.test\r\n"
					"Received: from client.else.test ([192.0.2.7])\r\n")));
	assert_has(m, "by mx.here.test (Postrider) with ESMTP id ");
	assert_has(m, "for <alice+tag@here.test>;");
	assert_memory_equal(m.p + m.n - strlen(hello), hello, strlen(hello));
	assert_int_equal(steps(&w.last, "store.append"), 1);
	assert_true(found_by(&w.last, "x@else.test"));
	assert_true(found_by(&w.last, "alice+tag@here.test"));
	assert_true(found_by(&w.last, "<HELLO@else.test>"));
}

static void test_null_sender(void **state)
{
	assert_verdict(send_one("", "alice@here.test", hello), "250");
	assert_true(span_starts(inbox_get("alice@here.test", 1), SPAN("Return-Path: <>\r\n")));
}

/* Trace knows those that an alias leads to as well. */
static void test_alias(void **state)
{
	alias("info@here.test", "alice@here.test", NULL);
	assert_verdict(send_one("x@else.test", "info@here.test", hello), "250");
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_has(inbox_get("alice@here.test", 1), "for <info@here.test>;");
	assert_true(found_by(&w.last, "info@here.test"));
	assert_true(found_by(&w.last, "alice@here.test"));
}

static void test_several(void **state)
{
	assert_verdict(to_many("alice@here.test", "bob@here.test", NULL), "250");
	assert_int_equal(inbox_count("alice@here.test"), 0);
	assert_int_equal(queue_rcpts(), 2);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_int_equal(inbox_count("bob@here.test"), 1);
	assert_false(has(inbox_get("bob@here.test", 1), "alice@")); /* no Bcc told */
	assert_int_equal(queue_rcpts(), 0);
	assert_int_equal(steps(&w.last, "store.append"), 2);
	assert_int_equal(steps(&w.last, "rcpt.delivered"), 2);
}

/* Two addresses of one account are two copies; one address reached twice is one. */
static void test_same_account(void **state)
{
	alias("info@here.test", "alice@here.test", NULL);
	assert_verdict(to_many("alice@here.test", "alice+2@here.test", "info@here.test"), "250");
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 2);
}

static void test_case_of_others(void **state)
{
	struct send s = { .from = "alice@here.test",
			  .rcpt = { "Bob@else.test", "bob@else.test", "BOB@here.test",
				    "bob@here.test" },
			  .as = "alice@here.test" };

	assert_verdict(mail_send(&s, span_str(hello)), "550 5.7.1"); /* From is not hers */
	w.conf.submission_from = CONF_FROM_ANY;
	assert_verdict(mail_send(&s, span_str(hello)), "250");
	assert_int_equal(queue_rcpts(), 3);
}

/* Whoever asked for a report gets it, whichever of the two addresses was said first. */
static void test_notify_joined(void **state)
{
	struct send s = { .from = "x@else.test",
			  .rcpt = { "info@here.test", "alice@here.test", "bob@here.test" },
			  .notify = { RCPT_NOTIFY_NEVER, RCPT_NOTIFY_FAILURE, RCPT_NOTIFY_NEVER },
			  .original = { "rfc822;old@x", "rfc822;alice@x", "rfc822;bob@x" } };
	struct queue_lease l;

	alias("info@here.test", "alice@here.test", NULL);
	assert_verdict(mail_send(&s, span_str(hello)), "250");
	assert_true(take_lease(&l));
	assert_int_equal(l.n_rcpts, 2);
	for (size_t i = 0; i < 2; i++) {
		bool alice = span_eq_str(l.rcpts[i].address, "alice@here.test");

		assert_int_equal(l.rcpts[i].notify,
				 alice ? RCPT_NOTIFY_FAILURE : RCPT_NOTIFY_NEVER);
		assert_true(span_eq_str(l.rcpts[i].original,
					alice ? "rfc822;alice@x" : "rfc822;bob@x"));
	}
	queue_release(w.env.queue, &l);
}

static void test_defects(void **state)
{
	assert_verdict(send_one("x@else.test", "alice@here.test", "A: b\r\n\r\na\nb\r\n"),
		       "550 5.6.0 the message contains a bare LF");
	assert_verdict(send_one("x@else.test", "alice@here.test", "A: b\r\n\r\na\rb\r\n"),
		       "550 5.6.0 the message contains a bare CR");
	assert_int_equal(inbox_count("alice@here.test"), 0);
	/* From outside only those; what a header lacks is its author's business. */
	assert_verdict(send_one("x@else.test", "alice@here.test", "From: a\r\nFrom: b\r\n\r\n"),
		       "250");
	assert_verdict(send_one("x@else.test", "alice@here.test", "just words\r\n"), "250");
	assert_has(inbox_get("alice@here.test", 2), "\r\n\r\njust words\r\n");
	assert_false(has(inbox_get("alice@here.test", 2), "Message-ID"));
}

static void test_hops(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4096);

	for (int i = 0; i < 5; i++)
		buf_put_str(&b, "Received: from a by b; Sat, 21 Nov 2026 10:00:00 +0000\r\n");
	assert_verdict(send_one("x@else.test", "alice@here.test", buf_cstr(&b)), "250");
	buf_put_str(&b, "received: from c by d\r\n");
	assert_verdict(send_one("x@else.test", "alice@here.test", buf_cstr(&b)), "554 5.4.6");
	assert_verdict(to_many("bob@here.test", "alice@here.test", NULL), "250"); /* few hops */
}

static void test_delivered_before(void **state)
{
	static const char back[] = "Delivered-To: Alice@here.test\r\n\r\nhi\r\n";

	assert_verdict(send_one("x@else.test", "alice@here.test", back), "554 5.4.6");
	assert_verdict(send_one("x@else.test", "bob@here.test", back), "250");
	assert_verdict(send_one("x@else.test", "bob@here.test",
				"A: b\r\n\r\nDelivered-To: bob@here.test\r\n"),
		       "250"); /* said in the body */
}

static span large(size_t size)
{
	char *p = arena_alloc(&w.mem, size + 100);
	size_t n = (size_t)sprintf(p, "Subject: large\r\n\r\n");

	for (size_t line = 0; n + 10 < size; line++)
		n += (size_t)sprintf(p + n, "%08zx\r\n", line);
	return span_of(p, n);
}

static void test_large(void **state)
{
	static const size_t sizes[] = { 4095,	4096,	4097,	9000,	127000,
					131072, 131073, 262144, 262145, 900000 };
	struct send s = { .from = "x@else.test", .rcpt = { "alice@here.test" } };
	struct send two = { .from = "x@else.test", .rcpt = { "alice@here.test", "bob@here.test" } };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		span m = large(sizes[i]), got;

		assert_verdict(mail_send(&s, m), "250");
		got = inbox_get("alice@here.test", 2 * i + 1);
		assert_true(got.n > m.n);
		assert_memory_equal(got.p + got.n - m.n, m.p, m.n);
		assert_verdict(mail_send(&two, m), "250");
		deliver_all();
		got = inbox_get("alice@here.test", 2 * i + 2);
		assert_memory_equal(got.p + got.n - m.n, m.p, m.n);
		assert_int_equal(inbox_count("bob@here.test"), i + 1);
	}
	assert_verdict(mail_send(&s, large(9 << 20)), "552 5.3.4");
}

/* An account whose files are gone is never promised anything. */
static void test_vanished(void **state)
{
	struct directory_account a;
	struct err_info info;
	char id[ACCOUNT_ID_LEN + 1];

	assert_int_equal(directory_account_add(w.env.directory, SPAN("ghost@here.test"), SPAN_NULL,
					       id, &info),
			 0);
	assert_int_equal(
		directory_account_get(w.env.directory, SPAN("ghost@here.test"), &w.mem, &a), 0);
	assert_verdict(send_one("x@else.test", "ghost@here.test", hello), "451 4.3.0");
	assert_int_equal(queue_rcpts(), 0);
}

/* One answer per recipient: those of a mailbox of its own at once, the others by the queue. */
static void test_each(void **state)
{
	struct err_info info;
	char id[ACCOUNT_ID_LEN + 1];

	assert_int_equal(directory_account_add(w.env.directory, SPAN("ghost@here.test"), SPAN_NULL,
					       id, &info),
			 0);
	alias("both@here.test", "ghost@here.test", "bob@here.test", NULL);
	alias("info@here.test", "bob@here.test", NULL);
	assert_verdict(mail_send(&(struct send){ .from = "x@else.test",
						 .rcpt = { "alice@here.test", "ghost@here.test",
							   "info@here.test" },
						 .each = true },
				 span_str(hello)),
		       "250 2.0.0 accepted");
	assert_true(w.each[0] == 250 && w.each[1] == 451 && w.each[2] == 250);
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_int_equal(inbox_count("bob@here.test"), 1);
	assert_int_equal(queue_rcpts(), 0);
	assert_int_equal(steps(&w.last, "smtp.rcpt"), 1);
	/* shared by two: the queue's */
	assert_verdict(mail_send(&(struct send){ .from = "x@else.test",
						 .rcpt = { "both@here.test", "bob@here.test" },
						 .each = true },
				 span_str(hello)),
		       "250");
	assert_true(w.each[0] == 250 && w.each[1] == 250);
	assert_int_equal(queue_rcpts(), 2);
	assert_verdict(mail_send(&(struct send){ .from = "x@else.test",
						 .rcpt = { "ghost@here.test" },
						 .each = true },
				 span_str(hello)),
		       "451");
	assert_int_equal(w.each[0], 451);
}

static span binary(size_t n)
{
	struct buf b = BUF_INIT(8 << 20);

	buf_put_str(&b, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
			"Content-Transfer-Encoding: binary\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n"
			"Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n");
	for (size_t i = 0; i < n; i++)
		buf_put_char(&b, (char)(i * 7));
	buf_put_str(&b, "\r\n--b--\r\n");
	span kept = arena_span(&w.mem, buf_span(&b));
	buf_done(&b);
	return kept;
}

/* Binary parts reach the mailbox as base64, whole; what is binary elsewhere is refused. */
static void test_binary(void **state)
{
	static const size_t sizes[] = { 10, 100000, 3 << 20 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		span m = binary(sizes[i]), got;
		struct mime_part *x;
		_cleanup_(buf_donep) struct buf b = BUF_INIT(8 << 20);

		assert_verdict(mail_send(&(struct send){ .from = "x@else.test",
							 .rcpt = { "alice@here.test" },
							 .binary = true },
					 m),
			       "250");
		got = inbox_get("alice@here.test", i + 1);
		assert_true(span_find(got, 0) == SPAN_NPOS);
		assert_has(got, "Content-Transfer-Encoding: 8bit\r\n");
		x = mime_parse(got, &w.mem)->child->next;
		assert_true(span_ieq_str(x->encoding, "base64"));
		assert_int_equal(mime_decode_body(got, x, &b), 0);
		assert_int_equal(b.n, sizes[i]);
		for (size_t k = 0; k < b.n; k++)
			assert_int_equal(b.p[k], (char)(k * 7));
	}
	const struct send s = { .from = "x@else.test",
				.rcpt = { "alice@here.test" },
				.binary = true };
	assert_verdict(mail_send(&s, SPAN("Subject: a\0b\r\n\r\nx\r\n")), "550 5.6.0");
	assert_verdict(mail_send(&s, SPAN("Content-Type: multipart/x\r\n\r\n\0\r\n")), "554 5.6.3");
	assert_verdict(mail_send(&s, SPAN("Subject: s\r\n\r\nplain\r\n")), "250");
	assert_int_equal(inbox_count("alice@here.test"), 4);
}

/* What is held waits in the queue, local or not; a priority stands in the trace. */
static void test_held(void **state)
{
	struct queue_lease l;

	assert_verdict(mail_send(&(struct send){ .from = "x@else.test",
						 .rcpt = { "alice@here.test" },
						 .terms = { .priority = 4 },
						 .held_until = clock_wall() + 3600 * USEC_SEC },
				 span_str(hello)),
		       "250");
	assert_int_equal(inbox_count("alice@here.test"), 0);
	assert_false(take_lease(&l));
	clock_set_offset(3700 * USEC_SEC);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_has(inbox_get("alice@here.test", 1), "PRIORITY 4;");
}

static void test_quota(void **state)
{
	assert_int_equal(
		directory_account_set_quota(w.env.directory, SPAN("alice@here.test"), 600, NULL),
		0);
	alias("info@here.test", "alice@here.test", NULL);
	assert_verdict(send_one("x@else.test", "alice@here.test", hello), "250");
	assert_verdict(send_one("x@else.test", "alice@here.test", hello),
		       "250"); /* over, by this */
	assert_verdict(send_one("x@else.test", "alice@here.test", hello), "452 4.2.2");
	assert_verdict(send_one("x@else.test", "info@here.test", hello), "452 4.2.2");
	assert_int_equal(inbox_count("alice@here.test"), 2);
	/* Beside others it is the queue's: later, not never. */
	assert_verdict(to_many("bob@here.test", "alice+2@here.test", NULL), "452 4.2.2");
	alias("both@here.test", "alice@here.test", "bob@here.test", NULL);
	assert_verdict(send_one("x@else.test", "both@here.test", hello), "250");
	deliver_all();
	assert_int_equal(inbox_count("bob@here.test"), 1);
	assert_int_equal(inbox_count("alice@here.test"), 2);
	assert_int_equal(queue_rcpts(), 1);
	assert_int_equal(steps(&w.last, "rcpt.deferred"), 1);
	assert_int_equal(
		directory_account_set_quota(w.env.directory, SPAN("alice@here.test"), 0, NULL), 0);
	clock_set_offset(3600 * USEC_SEC);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 3);
}

/* Where the mailbox cannot be opened now, the queue takes it and tries again. */
static void test_mailbox_sick(void **state)
{
	struct directory_account a;
	char *path;

	assert_int_equal(
		directory_account_get(w.env.directory, SPAN("alice@here.test"), &w.mem, &a), 0);
	path = (char *)arena_printf(&w.mem, "%s/accounts/%.2s/%s/mail.db", w.dir, a.id, a.id);
	world_close();
	assert_int_equal(truncate(path, 100), 0);
	world_open();
	assert_verdict(send_one("x@else.test", "alice@here.test", hello), "250");
	assert_int_equal(queue_rcpts(), 1);
	assert_int_equal(steps(&w.last, "store.deferred"), 1);
	deliver_all();
	assert_int_equal(queue_rcpts(), 1); /* still there */
}

/* After a failed sync nobody knows whether the mailbox has the message: 250 with a second copy in the
 * queue would be two.  The next one is the queue's again, while the mailbox is shut. */
static void test_failed_sync(void **state)
{
	struct rlimit old, low;
	const char *v;
	int n = 0;

	getrlimit(RLIMIT_FSIZE, &old);
	low = old;
	low.rlim_cur = 300000;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &low);
	do
		v = send_one("x@else.test", "alice@here.test", hello);
	while (v[0] == '2' && queue_rcpts() == 0 && ++n < 1000);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_true(n > 1);
	assert_verdict(v, "451 4.3.0");
	assert_int_equal(queue_rcpts(), 0);
}

static void test_smtputf8(void **state)
{
	struct send s = { .from = "x@else.test",
			  .rcpt = { "alice@here.test", "bob@here.test" },
			  .smtputf8 = true };
	struct queue_lease l;

	/* Asked for, not needed: no peer is refused for it later. */
	assert_verdict(mail_send(&s, span_str(hello)), "250");
	assert_true(take_lease(&l));
	assert_false(l.smtputf8);
	assert_verdict(mail_send(&s, SPAN("Subject: gr\xc3\xbc\xc3\x9f\x65\r\n\r\nhi\r\n")), "250");
	assert_true(take_lease(&l));
	assert_true(l.smtputf8);
	s.from = "j\xc3\xb6rg@else.test";
	assert_verdict(mail_send(&s, span_str(hello)), "250");
	assert_true(take_lease(&l));
	assert_true(l.smtputf8);
	assert_true(span_eq_str(l.sender, s.from));
}

/* All of many recipients are found in the timeline. */
static void test_many_found(void **state)
{
	struct send s = { .from = "x@else.test", .rcpt = { "list@here.test" } };
	span targets[150];

	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		targets[i] = span_str(arena_printf(&w.mem, "u%zu@else.test", i));
	assert_int_equal(directory_alias_add(w.env.directory, SPAN("list@here.test"), targets,
					     ARRAY_LEN(targets), NULL),
			 0);
	assert_verdict(mail_send(&s, span_str(hello)), "250");
	for (size_t i = 0; i < ARRAY_LEN(targets); i += 7)
		assert_true(found_by(&w.last, arena_printf(&w.mem, "u%zu@else.test", i)));
	assert_int_equal(steps(&w.last, "smtp.accepted"), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = { T(test_direct),	   T(test_null_sender),
					    T(test_alias),	   T(test_several),
					    T(test_same_account),  T(test_case_of_others),
					    T(test_notify_joined), T(test_defects),
					    T(test_hops),	   T(test_delivered_before),
					    T(test_large),	   T(test_vanished),
					    T(test_quota),	   T(test_mailbox_sick),
					    T(test_each),	   T(test_binary),
					    T(test_held),	   T(test_failed_sync),
					    T(test_smtputf8),	   T(test_many_found) };
	return cmocka_run_group_tests_name("mail: receiving", tests, NULL, NULL);
}

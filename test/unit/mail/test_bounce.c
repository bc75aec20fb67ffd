/* Reports: who gets one, what stands in it, and that none answers another. */
#include "world.h"

#include <stdio.h>
#include <string.h>

static const char hello[] = "From: alice@here.test\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
			    "Message-ID: <1@here.test>\r\nSubject: the subject\r\n\r\nthe body\r\n";

static void submit_to(const char *a, const char *b, unsigned notify_b)
{
	struct send s = { .from = "alice@here.test",
			  .as = "alice@here.test",
			  .rcpt = { a, b },
			  .notify = { 0, notify_b },
			  .original = { "rfc822;first@else.test" },
			  .envid = "envelope-1" };

	assert_verdict(mail_send(&s, span_str(hello)), "250");
}

static void refuse(const char *address)
{
	answer(address, OUTCOME_FAILED, "5.1.1", "550 5.1.1 <x>: unknown here",
	       "mx.else.test[192.0.2.9]");
}

static void test_content(void **state)
{
	span m;
	struct id report;

	submit_to("out@else.test", NULL, 0);
	refuse("out@else.test");
	deliver_all();
	m = inbox_get("alice@here.test", 1);
	assert_true(span_starts(m, SPAN("Return-Path: <>\r\n")));
	assert_has(m, "From: ");
	assert_has(m, "MAILER-DAEMON@mx.here.test");
	assert_has(m, "Auto-Submitted: auto-replied\r\n");
	assert_has(m, "multipart/report");
	assert_has(m, "Reporting-MTA: dns; mx.here.test\r\n");
	assert_has(m, "Original-Envelope-Id: envelope-1\r\n");
	assert_has(m, "Original-Recipient: rfc822;first@else.test\r\n");
	assert_has(m, "Final-Recipient: rfc822; out@else.test\r\n");
	assert_has(m, "Action: failed\r\n");
	assert_has(m, "Status: 5.1.1\r\n");
	assert_has(m, "Remote-MTA: dns; mx.else.test\r\n");
	assert_has(m, "Diagnostic-Code: smtp; 550 5.1.1 <x>: unknown here\r\n");
	assert_has(m, "Subject: the subject\r\n");
	assert_int_equal(queue_rcpts(), 0);
	/* Both sides know of each other. */
	assert_int_equal(steps(&w.last, "bounce.queued"), 1);
	assert_int_equal(steps(&w.last, "rcpt.failed"), 1);
	report = w.last;
	struct id ids[10];
	size_t n;
	assert_int_equal(events_find(w.env.events, SPAN("alice@here.test"), &w.mem, ids, 10, &n),
			 0);
	for (size_t i = 0; i < n; i++)
		if (!id_eq(&ids[i], &w.last))
			report = ids[i];
	assert_int_equal(steps(&report, "bounce.created"), 1);
	assert_int_equal(steps(&report, "store.append"), 1);
}

static void test_notify(void **state)
{
	submit_to("never@else.test", "other@second-else.test", RCPT_NOTIFY_NEVER);
	refuse("other@second-else.test");
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 0);
	refuse("never@else.test"); /* whose NOTIFY is the default */
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_false(has(inbox_get("alice@here.test", 1), "other@second-else.test"));
	submit_to("ok@else.test", "success@third-else.test", RCPT_NOTIFY_SUCCESS);
	refuse("success@third-else.test");
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
}

/* All that failed in one go stand in one report; what was delivered does not. */
static void test_one_report(void **state)
{
	struct send s = { .from = "x@else.test",
			  .rcpt = { "alice@here.test", "bob@here.test", "carol@here.test" } };
	char id[ACCOUNT_ID_LEN + 1];

	account("carol@here.test");
	assert_verdict(mail_send(&s, span_str(hello)), "250");
	assert_int_equal(directory_account_remove(w.env.directory, SPAN("bob@here.test"), id, NULL),
			 0);
	assert_int_equal(
		directory_account_remove(w.env.directory, SPAN("carol@here.test"), id, NULL), 0);
	deliver_all();
	assert_int_equal(queue_rcpts(), 1);
	span m = queued_body("x@else.test");
	assert_has(m, "bob@here.test");
	assert_has(m, "carol@here.test");
	assert_false(has(m, "; alice@here.test\r\n"));
	assert_has(m, "Diagnostic-Code: x-postrider; 550 5.1.1");
}

static void test_none_for_none(void **state)
{
	struct send s = { .from = "", .rcpt = { "alice@here.test", "bob@here.test" } };
	char id[ACCOUNT_ID_LEN + 1];

	assert_verdict(mail_send(&s, span_str(hello)), "250");
	assert_int_equal(directory_account_remove(w.env.directory, SPAN("bob@here.test"), id, NULL),
			 0);
	deliver_all();
	assert_int_equal(queue_rcpts(), 0);
	assert_int_equal(steps(&w.last, "rcpt.failed"), 1);
}

/* A report that cannot be delivered ends there. */
static void test_double_bounce(void **state)
{
	struct send s = { .from = "x@else.test", .rcpt = { "alice@here.test", "bob@here.test" } };
	char id[ACCOUNT_ID_LEN + 1];

	assert_verdict(mail_send(&s, span_str(hello)), "250");
	assert_int_equal(directory_account_remove(w.env.directory, SPAN("bob@here.test"), id, NULL),
			 0);
	deliver_all();
	assert_int_equal(queue_rcpts(), 1);
	refuse("x@else.test");
	assert_int_equal(queue_rcpts(), 0);
}

/* The sender was one of ours, and is gone: the timeline says so. */
static void test_undeliverable(void **state)
{
	char id[ACCOUNT_ID_LEN + 1];

	submit_to("out@else.test", NULL, 0);
	assert_int_equal(
		directory_account_remove(w.env.directory, SPAN("alice@here.test"), id, NULL), 0);
	refuse("out@else.test");
	assert_int_equal(queue_rcpts(), 0);
	assert_int_equal(steps(&w.last, "bounce.undeliverable"), 1);
}

/* A full mailbox delays its report, it does not lose it. */
static void test_full_sender(void **state)
{
	submit_to("out@else.test", NULL, 0);
	assert_verdict(send_one("x@else.test", "alice@here.test", hello), "250");
	assert_int_equal(
		directory_account_set_quota(w.env.directory, SPAN("alice@here.test"), 1, NULL), 0);
	refuse("out@else.test");
	deliver_all();
	assert_int_equal(queue_rcpts(), 1);
	assert_int_equal(
		directory_account_set_quota(w.env.directory, SPAN("alice@here.test"), 0, NULL), 0);
	clock_set_offset(3600 * USEC_SEC);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 2);
}

static void test_expiry(void **state)
{
	submit_to("out@else.test", NULL, 0);
	answer("out@else.test", OUTCOME_DEFERRED, "4.4.1", "no route to it", "");
	assert_int_equal(queue_rcpts(), 1);
	clock_set_offset(2 * 86400 * USEC_SEC);
	answer("out@else.test", OUTCOME_DEFERRED, "4.4.1", "no route to it", "");
	assert_int_equal(inbox_count("alice@here.test"), 0);
	clock_set_offset(6 * 86400 * USEC_SEC);
	answer("out@else.test", OUTCOME_DEFERRED, "4.4.1", "no route to it", "");
	deliver_all();
	assert_int_equal(queue_rcpts(), 0);
	assert_has(inbox_get("alice@here.test", 1), "Action: failed\r\nStatus: 4.4.1\r\n");
	assert_has(inbox_get("alice@here.test", 1), "given up after too long a time");
}

/* A clock that jumps ahead gives nothing up that was not tried. */
static void test_clock_jump(void **state)
{
	submit_to("out@else.test", NULL, 0);
	clock_set_offset(30 * 86400 * USEC_SEC);
	answer("out@else.test", OUTCOME_DEFERRED, "4.4.1", "no route to it", "");
	assert_int_equal(queue_rcpts(), 1);
	assert_int_equal(inbox_count("alice@here.test"), 0);
}

/* However long the peer's answers are and however many: the report comes. */
static void test_many_long_answers(void **state)
{
	struct queue_result *results = arena_array(&w.mem, struct queue_result, 1000);
	char *reply = arena_alloc(&w.mem, 2001);
	span *targets = arena_array(&w.mem, span, 1000);
	struct event_list events;
	struct queue_lease l;

	memset(reply, 'x', 2000);
	memcpy(reply, "550 5.1.1 ", 10);
	reply[2000] = 0;
	for (int i = 0; i < 1000; i++)
		targets[i] = span_str(arena_printf(&w.mem, "u%d@else.test", i));
	assert_int_equal(
		directory_alias_add(w.env.directory, SPAN("list@here.test"), targets, 1000, NULL),
		0);
	submit_to("list@here.test", NULL, 0);
	assert_true(take_lease(&l));
	assert_int_equal(l.n_rcpts, 1000);
	for (size_t i = 0; i < 1000; i++)
		results[i] = (struct queue_result){ .row = l.rcpts[i].row,
						    .outcome = OUTCOME_FAILED,
						    .status = "5.1.1",
						    .reply = span_str(reply) };
	event_list_init(&events, &w.mem);
	assert_int_equal(mail_settle(&w.env, &l, results, 1000, &events), 0);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_has(inbox_get("alice@here.test", 1), "u999@else.test");
}

/* A large original comes back as its header; RET=FULL brings a middling one whole. */
static void test_original(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);
	struct send s = { .from = "alice@here.test",
			  .as = "alice@here.test",
			  .rcpt = { "out@else.test" } };

	buf_put_str(&b, hello);
	while (b.n < 50000)
		buf_put_str(&b, "and more of the body\r\n");
	for (unsigned i = 0; i < 2; i++) {
		s.ret_full = i;
		assert_verdict(mail_send(&s, buf_span(&b)), "250");
		refuse("out@else.test");
		deliver_all();
		assert_has(inbox_get("alice@here.test", i + 1), "Subject: the subject\r\n");
		assert_int_equal(has(inbox_get("alice@here.test", i + 1), "and more of the body"),
				 i);
	}
}

/* --- success (RFC 3461 5.2.1 to 5.2.3, 5.2.7) --- */

#define WAITS 4 * 3600 * USEC_SEC

static void send_asking(const char *to, unsigned notify)
{
	struct send s = { .from = "alice@here.test",
			  .as = "alice@here.test",
			  .rcpt = { to },
			  .notify = { notify },
			  .original = { "rfc822;Asked+For@here.test" },
			  .envid = "envelope=2",
			  .ret_full = true };

	assert_verdict(mail_send(&s, span_str(hello)), "250");
}

static void test_delivered(void **state)
{
	span m;

	send_asking("bob@here.test", RCPT_NOTIFY_SUCCESS);
	assert_int_equal(queue_rcpts(), 1); /* not straight into the mailbox: a report is owed */
	deliver_all();
	assert_int_equal(inbox_count("bob@here.test"), 1);
	m = inbox_get("alice@here.test", 1);
	assert_has(m, "Original-Envelope-Id: envelope=2\r\n");
	assert_has(m, "Original-Recipient: rfc822;Asked+For@here.test\r\n");
	assert_has(m, "Final-Recipient: rfc822; bob@here.test\r\nAction: delivered\r\n"
		      "Status: 2.1.5\r\n");
	assert_has(m, "Content-Type: text/rfc822-headers\r\n"); /* RET is for failures */
	assert_false(has(m, "Will-Retry-Until"));
	assert_false(has(m, "the body"));
	assert_int_equal(queue_rcpts(), 0);
	assert_int_equal(steps(&w.last, "report.queued"), 1);
	assert_int_equal(steps(&w.last, "bounce.queued"), 0);
}

/* Nobody who did not ask, and no null sender, is told of a success. */
static void test_success_unasked(void **state)
{
	static const unsigned others[] = { 0, RCPT_NOTIFY_NEVER,
					   RCPT_NOTIFY_FAILURE | RCPT_NOTIFY_DELAY };
	struct send null = { .from = "",
			     .rcpt = { "bob@here.test", "both@here.test" },
			     .notify = { RCPT_NOTIFY_SUCCESS, RCPT_NOTIFY_SUCCESS } };
	size_t n = 0;

	alias("both@here.test", "bob@here.test", "alice@here.test", NULL);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		send_asking("bob@here.test", others[i]);
		assert_int_equal(queue_rcpts(), 0);
		assert_int_equal(inbox_count("bob@here.test"), ++n);
	}
	assert_int_equal(inbox_count("alice@here.test"), 0);
	assert_verdict(mail_send(&null, span_str(hello)), "250");
	deliver_all();
	assert_int_equal(inbox_count("bob@here.test"), n + 1);
	assert_int_equal(inbox_count("alice@here.test"), 1); /* as a target of the alias */
	assert_int_equal(queue_rcpts(), 0);
}

static void test_relayed(void **state)
{
	struct queue_result taken = { .outcome = OUTCOME_DELIVERED,
				      .status = "2.0.0",
				      .reply = SPAN("250 2.0.0 taken"),
				      .remote = SPAN("mx.else.test[192.0.2.9]") };

	taken.end = END_RELAYED;
	send_asking("out@else.test", RCPT_NOTIFY_SUCCESS | RCPT_NOTIFY_FAILURE);
	answer_like("out@else.test", &taken);
	deliver_all();
	assert_has(inbox_get("alice@here.test", 1), "Action: relayed\r\nStatus: 2.0.0\r\n"
						    "Remote-MTA: dns; mx.else.test\r\n");
	taken.end = END_PASSED_ON; /* whoever has it now reports */
	send_asking("out@else.test", RCPT_NOTIFY_SUCCESS | RCPT_NOTIFY_FAILURE);
	answer_like("out@else.test", &taken);
	deliver_all();
	taken.end = END_RELAYED;
	send_asking("out@else.test", RCPT_NOTIFY_FAILURE);
	answer_like("out@else.test", &taken);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_int_equal(queue_rcpts(), 0);
}

/* One report for the alias, none for its targets; of one target, the target's own. */
static void test_expanded(void **state)
{
	struct queue_lease l;
	span m;

	account("carol@here.test");
	alias("two@here.test", "bob@here.test", "out@else.test", NULL);
	alias("one@here.test", "carol@here.test", NULL);
	send_asking("two@here.test", RCPT_NOTIFY_SUCCESS);
	assert_int_equal(queue_rcpts(), 3);
	deliver_all();
	m = inbox_get("alice@here.test", 1);
	assert_has(m, "Original-Recipient: rfc822;Asked+For@here.test\r\n"
		      "Final-Recipient: rfc822; two@here.test\r\nAction: expanded\r\n");
	assert_false(has(m, "; bob@here.test"));
	assert_int_equal(inbox_count("bob@here.test"), 1);
	assert_true(take_lease(&l));
	assert_int_equal(l.rcpts[0].notify, RCPT_NOTIFY_NEVER);
	queue_release(w.env.queue, &l);
	refuse("out@else.test"); /* only success was asked for */
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	send_asking("one@here.test", RCPT_NOTIFY_SUCCESS);
	deliver_all();
	assert_has(inbox_get("alice@here.test", 2),
		   "Final-Recipient: rfc822; carol@here.test\r\nAction: delivered\r\n");
	assert_int_equal(queue_rcpts(), 0);
}

/* What an administrator gives back: of an alias that was passed on no report says that it failed. */
static void test_expanded_given_back(void **state)
{
	size_t n;
	span m;

	alias("two@here.test", "out@else.test", "away@else.test", NULL);
	send_asking("two@here.test", RCPT_NOTIFY_SUCCESS | RCPT_NOTIFY_FAILURE);
	assert_int_equal(mail_give_back(&w.env, &(struct queue_filter){ .any = true }, &n), 0);
	assert_int_equal(n, 3);
	deliver_all();
	assert_int_equal(queue_rcpts(), 0);
	assert_int_equal(inbox_count("alice@here.test"), 2);
	for (size_t i = 1; i <= 2; i++) {
		m = inbox_get("alice@here.test", i);
		if (has(m, "; two@here.test\r\nAction: expanded\r\n"))
			assert_false(has(m, "Action: failed"));
		else
			assert_false(has(m, "; two@here.test\r\n"));
	}
}

/* An account that has become an alias while the message waited: the same rules. */
static void test_expanded_late(void **state)
{
	char id[ACCOUNT_ID_LEN + 1];

	account("carol@here.test");
	account("dave@here.test");
	send_asking("carol@here.test", RCPT_NOTIFY_SUCCESS);
	assert_int_equal(
		directory_account_remove(w.env.directory, SPAN("carol@here.test"), id, NULL), 0);
	alias("carol@here.test", "bob@here.test", "dave@here.test", NULL);
	deliver_all();
	assert_int_equal(inbox_count("bob@here.test"), 1);
	assert_int_equal(inbox_count("dave@here.test"), 1);
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_has(inbox_get("alice@here.test", 1),
		   "Final-Recipient: rfc822; carol@here.test\r\nAction: expanded\r\n");
}

static void defer(const char *address)
{
	answer(address, OUTCOME_DEFERRED, "4.4.1", "no route to it", "");
	deliver_all();
}

/* --- deliver by (RFC 2852) --- */

static void queue_by(usec by, bool by_return, bool by_trace, unsigned notify)
{
	struct queue_rcpt_in to = { .address = SPAN("out@else.test"),
				    .route = SPAN("smtp:else.test"),
				    .notify = notify };
	struct queue_message_in m = {
		.id = id_new(),
		.sender = SPAN("alice@here.test"),
		.body = SPAN("Subject: x\r\n\r\nx\r\n"),
		.size = 17,
		.terms = { .deliver_by = by, .by_return = by_return, .by_trace = by_trace },
		.rcpts = &to,
		.n_rcpts = 1
	};

	assert_int_equal(queue_accept(w.env.queue, &m), 0);
}

/* What an alias stood for has been passed on: nobody hears later that it failed. */
static void test_by_return_expanded(void **state)
{
	struct send s = { .from = "alice@here.test",
			  .rcpt = { "both@here.test" },
			  .notify = { RCPT_NOTIFY_SUCCESS | RCPT_NOTIFY_FAILURE },
			  .terms = { .deliver_by = clock_wall() - USEC_SEC, .by_return = true } };
	struct queue_lease l;

	alias("both@here.test", "alice@here.test", "bob@here.test", NULL);
	assert_verdict(mail_send(&s, SPAN("Subject: x\r\n\r\nx\r\n")), "250");
	while (take_lease(&l)) {
		bool expanded = span_eq_str(l.route, "expanded");

		assert_true(mail_return_overdue(&w.env, &l));
		if (!expanded)
			continue;
		deliver_all();
		assert_has(inbox_get("alice@here.test", inbox_count("alice@here.test")),
			   "Action: expanded\r\n");
		return;
	}
	fail();
}

static void test_by_return(void **state)
{
	struct queue_lease l;
	usec hour = 3600 * USEC_SEC, by = clock_wall() + hour;
	span m;

	queue_by(by, true, false, 0);
	assert_true(take_lease(&l));
	assert_false(mail_return_overdue(&w.env, &l));
	queue_release(w.env.queue, &l);
	defer("out@else.test");
	clock_set_offset(hour + USEC_SEC);
	assert_true(take_lease(&l));
	assert_true(mail_return_overdue(&w.env, &l));
	deliver_all();
	m = inbox_get("alice@here.test", 1);
	assert_has(m, "Action: failed\r\nStatus: 5.4.7\r\n");
	assert_has(m, "Deliver-By-Date: ");
	assert_int_equal(queue_rcpts(), 0);
	/* It is over while an attempt is under way. */
	queue_by(clock_wall() - USEC_SEC, true, false, 0);
	defer("out@else.test");
	deliver_all();
	m = inbox_get("alice@here.test", 2);
	assert_has(m, "Action: failed\r\nStatus: 5.4.7\r\n");
	assert_has(m, "not delivered in the time asked for; the last answer was: ");
	assert_int_equal(queue_rcpts(), 0);
}

static void test_by_notify(void **state)
{
	usec hour = 3600 * USEC_SEC;

	queue_by(clock_wall() + hour, false, false, 0);
	defer("out@else.test");
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 0);
	clock_set_offset(hour + USEC_SEC);
	defer("out@else.test");
	deliver_all();
	assert_has(inbox_get("alice@here.test", 1), "Action: delayed\r\nStatus: 4.4.7\r\n");
	clock_set_offset(4 * hour);
	defer("out@else.test");
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_int_equal(queue_rcpts(), 1);
}

static void test_by_trace(void **state)
{
	struct queue_result on = { .outcome = OUTCOME_DELIVERED,
				   .end = END_PASSED_ON,
				   .status = "2.0.0",
				   .reply = SPAN("250 2.0.0 taken") };

	queue_by(clock_wall() + 60 * USEC_SEC, false, true, 0);
	answer_like("out@else.test", &on);
	deliver_all();
	assert_has(inbox_get("alice@here.test", 1), "Action: relayed\r\n");
	queue_by(clock_wall() + 60 * USEC_SEC, false, true, RCPT_NOTIFY_NEVER);
	answer_like("out@else.test", &on);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
}

/* --- delay (RFC 3461 5.2.5) --- */

static void test_delayed(void **state)
{
	span m;

	w.queue.warn_after = WAITS;
	queue_set_conf(w.env.queue, &w.queue);
	send_asking("out@else.test", 0);
	defer("out@else.test");
	clock_set_offset(WAITS - 60 * USEC_SEC);
	defer("out@else.test");
	assert_int_equal(inbox_count("alice@here.test"), 0);
	clock_set_offset(WAITS + 3600 * USEC_SEC);
	defer("out@else.test");
	m = inbox_get("alice@here.test", 1);
	assert_has(m, "Action: delayed\r\nStatus: 4.4.1\r\n");
	assert_has(m, "Will-Retry-Until: ");
	assert_has(m, "Original-Envelope-Id: envelope=2\r\n");
	assert_has(m, "Content-Type: text/rfc822-headers\r\n");
	assert_int_equal(steps(&w.last, "report.queued"), 1);
	/* Once, also in another life. */
	world_close();
	world_open();
	queue_set_conf(w.env.queue, &w.queue);
	clock_set_offset(5 * WAITS);
	defer("out@else.test");
	assert_int_equal(inbox_count("alice@here.test"), 1);
	clock_set_offset(6 * 86400 * USEC_SEC);
	defer("out@else.test");
	assert_int_equal(inbox_count("alice@here.test"), 2);
	assert_has(inbox_get("alice@here.test", 2), "Action: failed\r\n");
	assert_int_equal(queue_rcpts(), 0);
}

static void test_delay_unasked(void **state)
{
	static const unsigned others[] = { RCPT_NOTIFY_NEVER, RCPT_NOTIFY_FAILURE,
					   RCPT_NOTIFY_SUCCESS };

	w.queue.warn_after = WAITS;
	queue_set_conf(w.env.queue, &w.queue);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		send_asking("out@else.test", others[i]);
		clock_set_offset((int64_t)(i + 1) * 2 * WAITS);
		defer("out@else.test");
		assert_int_equal(inbox_count("alice@here.test"), 0);
		queue_drop(w.env.queue, &(struct queue_filter){ .any = true }, &(size_t){ 0 });
	}
	w.queue.warn_after = 0; /* never */
	queue_set_conf(w.env.queue, &w.queue);
	send_asking("out@else.test", RCPT_NOTIFY_DELAY);
	clock_set_offset(10 * WAITS);
	defer("out@else.test");
	assert_int_equal(inbox_count("alice@here.test"), 0);
}

/* RET decides what a failure brings back; without it, small messages come whole. */
static void test_ret(void **state)
{
	struct send s = { .from = "alice@here.test",
			  .as = "alice@here.test",
			  .rcpt = { "out@else.test" } };

	for (unsigned i = 0; i < 3; i++) {
		s.ret_full = i == 1;
		s.ret_hdrs = i == 2;
		assert_verdict(mail_send(&s, span_str(hello)), "250");
		refuse("out@else.test");
		deliver_all();
		assert_int_equal(has(inbox_get("alice@here.test", i + 1), "the body"), i != 2);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(test_content),
		T(test_notify),
		T(test_one_report),
		T(test_none_for_none),
		T(test_double_bounce),
		T(test_undeliverable),
		T(test_full_sender),
		T(test_expiry),
		T(test_clock_jump),
		T(test_many_long_answers),
		T(test_original),
		T(test_delivered),
		T(test_success_unasked),
		T(test_relayed),
		T(test_expanded),
		T(test_expanded_late),
		T(test_expanded_given_back),
		T(test_by_return),
		T(test_by_return_expanded),
		T(test_by_notify),
		T(test_by_trace),
		T(test_delayed),
		T(test_delay_unasked),
		T(test_ret),
	};
	return cmocka_run_group_tests_name("mail: reports", tests, NULL, NULL);
}

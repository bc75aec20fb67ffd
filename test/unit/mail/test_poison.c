/* Poison: bytes that a process died on are carried unparsed by the next one. */
#include "world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void *page;

static int setup(void **state)
{
	page = mmap(NULL, POISON_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return page == MAP_FAILED ? -1 : world_setup(state);
}

static int teardown(void **state)
{
	munmap(page, POISON_PAGE);
	return world_teardown(state);
}

/* A child enters with BYTES and dies there; with LEFT it had left before. */
static void die_on(span bytes, bool left)
{
	int slot, status;
	pid_t pid = fork();

	if (pid == 0) {
		struct poison *p = poison_open(page);

		signal(SIGSEGV, SIG_DFL);
		if (poison_enter(p, POISON_RECEIVE, bytes, &slot))
			_exit(3);
		if (left)
			poison_leave(p, slot);
		kill(getpid(), SIGSEGV);
		_exit(4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void take_page(void)
{
	poison_close(w.env.poison);
	w.env.poison = poison_open(page);
}

static void test_suspects(void **state)
{
	span bad = SPAN("Subject: bad\r\n\r\n"), other = SPAN("Subject: bae\r\n\r\n");
	int slot;

	die_on(bad, false);
	die_on(other, true);
	take_page();
	assert_true(poison_enter(w.env.poison, POISON_DELIVER, bad, &slot)); /* any stage */
	assert_int_equal(slot, -1);
	poison_leave(w.env.poison, slot);
	assert_false(poison_enter(w.env.poison, POISON_RECEIVE, other, &slot));
	poison_leave(w.env.poison, slot);
	take_page(); /* a quiet end makes nothing suspect, and forgets nothing */
	assert_false(poison_enter(w.env.poison, POISON_RECEIVE, other, &slot));
	poison_leave(w.env.poison, slot);
	assert_true(poison_enter(w.env.poison, POISON_RECEIVE, bad, &slot));
}

static void test_forgive(void **state)
{
	span bytes = SPAN("Subject: innocent\r\n\r\n");
	int slot;

	die_on(bytes, false);
	poison_forgive(page);
	take_page();
	assert_false(poison_enter(w.env.poison, POISON_RECEIVE, bytes, &slot));
	poison_leave(w.env.poison, slot);
}

/* More jobs than slots are still served, and many crashes keep the newest suspects. */
static void test_full(void **state)
{
	int slots[100];
	char text[32];

	take_page();
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof text, "message %d", i);
		assert_false(poison_enter(w.env.poison, POISON_RECEIVE, span_str(text), &slots[i]));
	}
	assert_int_equal(slots[99], -1);
	for (int i = 0; i < 100; i++)
		poison_leave(w.env.poison, slots[i]);
	for (int i = 0; i < 120; i++) {
		int slot;

		snprintf(text, sizeof text, "crash %d", i);
		assert_false(poison_enter(w.env.poison, POISON_RECEIVE, span_str(text), &slot));
		take_page(); /* as after a crash: it never left */
	}
	assert_true(poison_enter(w.env.poison, POISON_RECEIVE, SPAN("crash 119"), slots));
	assert_false(poison_enter(w.env.poison, POISON_RECEIVE, SPAN("crash 0"), slots));
	poison_leave(w.env.poison, slots[0]);
}

/* What is not parsed is stored all the same, as one opaque part. */
static void test_stored_opaque(void **state)
{
	static const char bad[] = "Subject: deadly\r\nReceived: 1\r\nReceived: 2\r\nReceived: 3\r\n"
				  "Received: 4\r\nReceived: 5\r\nReceived: 6\r\n\r\nx\r\n";
	struct send two = { .from = "x@else.test", .rcpt = { "alice@here.test", "bob@here.test" } };

	die_on(span_str(bad), false);
	take_page();
	assert_verdict(send_one("x@else.test", "alice@here.test", bad), "250"); /* hops not seen */
	assert_has(inbox_get("alice@here.test", 1), bad);
	assert_int_equal(steps(&w.last, "mail.poison"), 1);
	assert_verdict(mail_send(&two, span_str(bad)), "250");
	deliver_all();
	assert_int_equal(inbox_count("bob@here.test"), 1);
}

/* Who may only write as himself cannot get round that by a crash. */
static void test_not_submitted(void **state)
{
	static const char bad[] = "From: boss@else.test\r\nSubject: deadly\r\n\r\nx\r\n";

	die_on(span_str(bad), false);
	take_page();
	assert_verdict(submit("alice@here.test", bad), "554 5.6.0");
	w.conf.submission_from = CONF_FROM_ANY;
	assert_verdict(submit("alice@here.test", bad), "250");
}

/* A crash in delivery is no crash in reception: the queue's bytes have our trace above them. */
static void test_in_delivery(void **state)
{
	struct send two = { .from = "x@else.test", .rcpt = { "alice@here.test", "bob@here.test" } };

	take_page();
	assert_verdict(mail_send(&two, SPAN("Subject: later\r\n\r\nx\r\n")), "250");
	die_on(queued_body("alice@here.test"), false);
	take_page();
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_has(inbox_get("alice@here.test", 1), "Subject: later\r\n");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(test_suspects),	   T(test_forgive),
					    T(test_full),	   T(test_stored_opaque),
					    T(test_not_submitted), T(test_in_delivery) };
	return cmocka_run_group_tests_name("mail: poison", tests, NULL, NULL);
}

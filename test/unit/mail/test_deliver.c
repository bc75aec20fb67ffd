/* From the queue into mailboxes: once, wherever the process ends, and whatever changed meanwhile.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"

static const char hello[] = "From: x@else.test\r\nSubject: s\r\n\r\nhi\r\n";

/* Accepted for A and B, not delivered yet. */
static void queue_two(const char *a, const char *b)
{
	struct send s = { .from = "x@else.test",
			  .rcpt = { a, b },
			  .original = { "rfc822;first@x" } };

	assert_verdict(mail_send(&s, span_str(hello)), "250");
}

static void restart(void)
{
	world_close();
	world_open();
}

/* Stored, then killed before the queue heard of it. */
static void test_repeated(void **state)
{
	struct queue_lease l;

	queue_two("alice@here.test", "bob@here.test");
	assert_true(take_lease(&l));
	world_close(); /* with the lease held, as a crash would */
	world_open();
	assert_true(take_lease(&l));
	queue_release(w.env.queue, &l);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	deliver_all();
	restart();
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_int_equal(inbox_count("bob@here.test"), 1);
}

/* A process that delivers and is killed at POINT; then another one goes on. */
static void crash_at(const char *point, bool drop_keys)
{
	pid_t pid;
	int status;

	world_close();
	pid = fork();
	if (pid == 0) {
		setenv("POSTRIDER_FAILPOINT", point, 1);
		failpoint_setup();
		world_open();
		deliver_all();
		if (drop_keys)
			mail_drop_keys(&w.env);
		_exit(7); /* the point was not passed */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status))
		fail_msg("%s was not passed", point);
	world_open();
	deliver_all();
	mail_drop_keys(&w.env);
}

static void test_crashes(void **state)
{
	static const struct {
		const char *point;
		bool drop_keys;
	} points[] = {
		{ "store.append.before_commit", false },  { "store.append.after_commit", false },
		{ "store.append.after_commit:2", false }, { "queue.settle.before_commit", false },
		{ "queue.settle.after_commit", false },	  { "store.key.after_commit", true },
		{ "queue.key.after_commit", true },
	};

#ifndef POSTRIDER_FAILPOINTS
	skip();
#endif
	for (size_t i = 0; i < ARRAY_LEN(points); i++) {
		queue_two("alice@here.test", "bob@here.test");
		crash_at(points[i].point, points[i].drop_keys);
		assert_int_equal(inbox_count("alice@here.test"), i + 1);
		assert_int_equal(inbox_count("bob@here.test"), i + 1);
		assert_int_equal(queue_rcpts(), 0);
	}
}

static size_t keys_left(void)
{
	struct queue_key *keys;
	size_t n;

	assert_int_equal(queue_keys_take(w.env.queue, 100, &w.mem, &keys, &n), 0);
	return n;
}

/* Keys go when their rows have gone, also those of accounts that are no more or are closed. */
static void test_keys(void **state)
{
	queue_two("alice@here.test", "bob@here.test");
	deliver_all();
	assert_int_equal(keys_left(), 2);
	assert_int_equal(
		directory_account_set_suspended(w.env.directory, SPAN("bob@here.test"), true, NULL),
		0);
	mail_drop_keys(&w.env);
	assert_int_equal(keys_left(), 0);
	account("carol@here.test");
	queue_two("alice@here.test", "carol@here.test");
	deliver_all();
	char id[ACCOUNT_ID_LEN + 1];
	assert_int_equal(
		directory_account_remove(w.env.directory, SPAN("carol@here.test"), id, NULL), 0);
	assert_int_equal(account_remove(w.env.store, span_str(id)), 0);
	mail_drop_keys(&w.env);
	assert_int_equal(keys_left(), 0);
}

/* One account that cannot be opened keeps its own key only. */
static void test_sick_key(void **state)
{
	struct directory_account a;

	queue_two("alice@here.test", "bob@here.test");
	deliver_all();
	assert_int_equal(
		directory_account_get(w.env.directory, SPAN("alice@here.test"), &w.mem, &a), 0);
	world_close();
	assert_int_equal(
		truncate(arena_printf(&w.mem, "%s/accounts/%.2s/%s/mail.db", w.dir, a.id, a.id),
			 100),
		0);
	world_open();
	mail_drop_keys(&w.env);
	assert_int_equal(keys_left(), 1);
}

static void remove_account(const char *address)
{
	char id[ACCOUNT_ID_LEN + 1];

	assert_int_equal(directory_account_remove(w.env.directory, span_str(address), id, NULL), 0);
	assert_int_equal(account_remove(w.env.store, span_str(id)), 0);
}

static void test_account_removed(void **state)
{
	queue_two("alice@here.test", "bob@here.test");
	remove_account("bob@here.test");
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_int_equal(steps(&w.last, "rcpt.failed"), 1);
	assert_int_equal(queue_rcpts(), 1); /* the report */
	assert_has(queued_body("x@else.test"), "Status: 5.1.1\r\n");
}

/* Somebody who gets the address of another does not get the mail twice, nor the other's. */
static void test_account_again(void **state)
{
	queue_two("alice@here.test", "bob@here.test");
	remove_account("bob@here.test");
	account("bob@here.test");
	deliver_all();
	assert_int_equal(inbox_count("bob@here.test"), 1);
}

static void test_suspended(void **state)
{
	queue_two("alice@here.test", "bob@here.test");
	assert_int_equal(
		directory_account_set_suspended(w.env.directory, SPAN("bob@here.test"), true, NULL),
		0);
	deliver_all();
	assert_has(queued_body("x@else.test"), "Status: 5.2.1\r\n");
}

/* The address leads elsewhere now: so does the mail, ORCPT and all, under its own id. */
static void test_became_alias(void **state)
{
	struct queue_lease l;

	account("carol@here.test");
	queue_two("bob@here.test", "alice@here.test");
	remove_account("bob@here.test");
	alias("bob@here.test", "carol@here.test", "new@else.test", NULL);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_int_equal(inbox_count("carol@here.test"), 1);
	assert_int_equal(queue_rcpts(), 1);
	assert_has(queued_body("new@else.test"), "Subject: s\r\n\r\nhi\r\n");
	assert_true(take_lease(&l));
	assert_true(id_eq(&l.id, &w.last));
	assert_true(span_eq_str(l.sender, "x@else.test"));
	assert_true(span_eq_str(l.rcpts[0].original, "rfc822;first@x"));
	assert_int_equal(steps(&w.last, "route.changed"), 2);
	assert_true(found_by(&w.last, "carol@here.test"));
}

/* Passed on, then killed before the queue heard of it: not passed on twice. */
static void test_alias_crash(void **state)
{
#ifndef POSTRIDER_FAILPOINTS
	skip();
#endif
	account("carol@here.test");
	queue_two("bob@here.test", "alice@here.test");
	remove_account("bob@here.test");
	alias("bob@here.test", "carol@here.test", NULL);
	crash_at("queue.settle.before_commit", false);
	assert_int_equal(inbox_count("carol@here.test"), 1);
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_int_equal(queue_rcpts(), 0);
}

static void test_alias_large(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);
	struct send s = { .from = "x@else.test", .rcpt = { "bob@here.test", "alice@here.test" } };
	span got;

	buf_put_str(&b, "Subject: large\r\n\r\n");
	while (b.n < 300000)
		buf_printf(&b, "line at %zu\r\n", b.n);
	assert_verdict(mail_send(&s, buf_span(&b)), "250");
	remove_account("bob@here.test");
	alias("bob@here.test", "new@else.test", NULL);
	deliver_all();
	got = queued_body("new@else.test");
	assert_true(got.n > b.n);
	assert_memory_equal(got.p + got.n - b.n, b.p, b.n);
}

static void test_alias_leads_nowhere(void **state)
{
	queue_two("bob@here.test", "alice@here.test");
	remove_account("bob@here.test");
	alias("bob@here.test", "bob@here.test", NULL);
	deliver_all();
	assert_has(queued_body("x@else.test"), "Status: 5.4.6\r\n");
}

/* The domain moved away while mail for it waited: so does the mail. */
static void test_domain_left(void **state)
{
	account("dave@second.test");
	queue_two("dave@second.test", "alice@here.test");
	remove_account("dave@second.test");
	assert_int_equal(directory_domain_remove(w.env.directory, SPAN("second.test"), NULL), 0);
	deliver_all();
	assert_has(queued_body("dave@second.test"), "\r\nhi\r\n");
}

/* Of a domain that others serve, one address came home as an alias; a target of it is still theirs. */
static void test_came_home(void **state)
{
	struct directory_domain backup = { .name = SPAN("backup.test"), .unknown_to = SPAN("mx") };
	struct queue_lease l;

	assert_int_equal(directory_domain_make(w.env.directory, &backup, NULL), 0);
	assert_verdict(send_one("x@else.test", "a@backup.test", hello), "250");
	alias("a@backup.test", "alice@here.test", "b@backup.test", NULL);
	assert_true(take_lease(&l));
	assert_true(mail_bring_home(&w.env, &l));
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_has(queued_body("b@backup.test"), "\r\nhi\r\n");
	assert_true(take_lease(&l));
	assert_false(mail_bring_home(&w.env, &l));
}

/* Delivered-To is asked for each recipient. */
static void test_loop(void **state)
{
	struct send s = { .from = "x@else.test", .rcpt = { "alice@here.test", "bob@here.test" } };

	assert_verdict(mail_send(&s, SPAN("Delivered-To: bob@here.test\r\n\r\nhi\r\n")), "250");
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_int_equal(inbox_count("bob@here.test"), 0);
	assert_has(queued_body("x@else.test"), "Status: 5.4.6\r\n");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(test_repeated),
		T(test_crashes),
		T(test_keys),
		T(test_sick_key),
		T(test_account_removed),
		T(test_account_again),
		T(test_suspended),
		T(test_became_alias),
		T(test_alias_crash),
		T(test_alias_large),
		T(test_alias_leads_nowhere),
		T(test_domain_left),
		T(test_came_home),
		T(test_loop),
	};
	return cmocka_run_group_tests_name("mail: delivery", tests, NULL, NULL);
}

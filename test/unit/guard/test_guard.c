/* Limits and bans, without sessions: the calls that protocols make. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "guard/guard.h"

static struct net trusted_net;
static struct conf conf;
static char dir[64], path[96];
static struct guard *g;
static size_t tells;
static struct sess_ban told;

/* Takes the place of sys/sessions.c: the sessions here belong to no table. */
static usec held;

void sess_hold(struct sess *s, usec d)
{
	held = d;
}

static void tell(void *arg, const struct sess_ban *ban)
{
	tells++;
	told = *ban;
}

static struct sockaddr_any ip(const char *text)
{
	struct sockaddr_any a;
	assert_int_equal(sock_parse_ip(span_str(text), 25, &a), 0);
	return a;
}

static struct net net(const char *text)
{
	struct net n;
	assert_int_equal(net_parse(span_str(text), &n), 0);
	return n;
}

static void reopen(void)
{
	struct err_info info;
	guard_close(g);
	assert_int_equal(guard_open(path, tell, NULL, &g, &info), 0);
}

static int setup(void **state)
{
	trusted_net = net("10.0.0.0/8");
	conf = (struct conf){ .trusted = { &trusted_net, 1 },
			      .net_factor = 2,
			      .message_rate = 5,
			      .unknown_rcpts = 3,
			      .auth_failures = 4,
			      .tarpit_max = USEC_SEC,
			      .ban_time = 3600 * USEC_SEC };
	strcpy(dir, "/tmp/test_guard.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/guard.db", dir);
	tells = 0;
	g = NULL;
	reopen();
	return 0;
}

static int teardown(void **state)
{
	guard_close(g);
	clock_set_offset(0);
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static unsigned may_send(const char *from, unsigned tries)
{
	struct sockaddr_any a = ip(from);
	unsigned n = 0;
	for (unsigned i = 0; i < tries; i++)
		n += guard_take(g, &conf, GUARD_MESSAGES, &a);
	return n;
}

static void test_rates(void **state)
{
	assert_int_equal(may_send("192.0.2.1", 20), 5);
	assert_int_equal(may_send("192.0.2.2", 20), 5); /* another host, the network's last ones */
	assert_int_equal(may_send("192.0.2.3", 20), 0);
	assert_int_equal(may_send("192.0.3.1", 20), 5);
	assert_int_equal(may_send("10.1.2.3", 1000), 1000); /* G1 */
	/* one customer is one /64, one site a /48 */
	assert_int_equal(may_send("2001:db8:1:1::1", 3) + may_send("2001:db8:1:1::2", 9), 5);
	assert_int_equal(may_send("2001:db8:1:2::1", 9) + may_send("2001:db8:1:3::1", 9), 5);
	conf.message_rate = 0;
	assert_int_equal(may_send("192.0.2.1", 1000), 1000);
}

static const struct sess_ops imap = { .proto = SESS_PROTO_IMAP };
static const struct sess_ops smtp = { .proto = SESS_PROTO_SUBMISSION };

/* Logins by FROM with each of the passwords; how many until it is banned (0: never). */
static int log_in_wrong(const struct sess_ops *ops, const char *from, const char *passwords)
{
	struct sess s = { .ops = ops, .peer = ip(from) };
	int n = 0;
	for (; *passwords; passwords++) {
		n++;
		if (guard_login_failed(g, &conf, &s,
				       guard_guess(SPAN("user@a.test"), span_of(passwords, 1))))
			return n;
	}
	return 0;
}

static bool may_log_in(const struct sess_ops *ops, const char *from)
{
	struct sess s = { .ops = ops, .peer = ip(from) };
	return guard_may_log_in(g, &s);
}

static void test_wrong_passwords(void **state)
{
	assert_int_equal(log_in_wrong(&imap, "192.0.2.1", "aaaaaaaaaaaaaaaaaaaaaaaa"), 0); /* G3 */
	assert_int_equal(log_in_wrong(&imap, "192.0.2.1", "abcbcdabcd"), 0);
	assert_true(may_log_in(&imap, "192.0.2.1"));
	assert_int_equal(held, conf.tarpit_max); /* the tenth error of one session */
	assert_int_equal(log_in_wrong(&imap, "192.0.2.1", "e"), 1);
	assert_false(may_log_in(&imap, "192.0.2.1"));
	assert_true(may_log_in(&smtp, "192.0.2.1")); /* per protocol */
	assert_true(may_log_in(&imap, "192.0.2.2"));
	assert_int_equal(tells, 1);
	assert_int_equal(told.left[SESS_PROTO_SUBMISSION], 0);
	assert_in_range(told.left[SESS_PROTO_IMAP], 3590 * USEC_SEC, 3600 * USEC_SEC);
	assert_int_equal(log_in_wrong(&imap, "10.1.1.1", "abcdefghijklmnopqrstuvwxyz"), 0); /* G1 */
	conf.ban_time = 0;
	assert_int_equal(log_in_wrong(&imap, "198.51.100.1", "abcdefghijklmnopqrstuvwxyz"), 0);
}

/* A network whose hosts stay below their limits each is banned as one. */
static void test_wrong_passwords_of_a_network(void **state)
{
	assert_int_equal(log_in_wrong(&imap, "192.0.2.1", "abcd"), 0);
	assert_int_equal(log_in_wrong(&imap, "192.0.2.2", "abcd"), 0);
	assert_int_equal(log_in_wrong(&imap, "192.0.2.3", "a"), 1);
	assert_false(may_log_in(&imap, "192.0.2.200"));
	assert_true(may_log_in(&imap, "192.0.3.1"));
}

/* A mechanism that hides the password: each failure counts. */
static void test_hidden_passwords(void **state)
{
	struct sess s = { .ops = &imap, .peer = ip("192.0.2.1") };
	for (int i = 0; i < 4; i++)
		assert_false(guard_login_failed(g, &conf, &s, 0));
	assert_true(guard_login_failed(g, &conf, &s, 0));
}

static void ban(const char *text, unsigned protos, usec until)
{
	struct guard_ban b = { .net = net(text),
			       .protos = protos,
			       .since = clock_wall(),
			       .until = until,
			       .reason = SPAN("because") };
	struct err_info info;
	assert_int_equal(guard_ban_add(g, &b, &info), 0);
}

static size_t count(struct guard_ban **ret)
{
	static struct arena mem;
	size_t n;
	arena_done(&mem);
	guard_bans(g, &mem, ret, &n);
	return n;
}

static void test_bans(void **state)
{
	struct guard_ban *list;
	struct net wide = net("198.51.100.0/24"), none = net("198.51.0.0/16");
	ban("198.51.100.0/24", GUARD_ALL, 0);
	ban("2001:db8::/32", 1u << SESS_PROTO_IMAP, clock_wall() + 60 * USEC_SEC);
	assert_false(may_log_in(&imap, "198.51.100.7"));
	assert_false(may_log_in(&smtp, "198.51.100.7"));
	assert_false(may_log_in(&imap, "2001:db8:ffff::1"));
	assert_true(may_log_in(&smtp, "2001:db8:ffff::1"));
	reopen(); /* a restart */
	assert_int_equal(count(&list), 2);
	assert_int_equal(list[0].protos, GUARD_ALL);
	assert_true(list[0].until == 0 && list[0].by_hand);
	assert_true(span_eq_str(list[0].reason, "because"));
	assert_false(may_log_in(&imap, "198.51.100.7"));
	/* one protocol is let in again */
	assert_int_equal(guard_ban_remove(g, &wide, 1u << SESS_PROTO_IMAP), 0);
	assert_true(may_log_in(&imap, "198.51.100.7"));
	assert_false(may_log_in(&smtp, "198.51.100.7"));
	assert_int_equal(guard_ban_remove(g, &wide, 1u << SESS_PROTO_IMAP), ERR_NOENT);
	assert_int_equal(guard_ban_remove(g, &none, GUARD_ALL), ERR_NOENT);
	assert_int_equal(guard_ban_remove(g, &wide, GUARD_ALL), 0);
	assert_int_equal(told.left[SESS_PROTO_SUBMISSION], 0);
	reopen();
	assert_int_equal(count(&list), 1);
	/* time */
	clock_set_offset(61 * USEC_SEC);
	assert_int_equal(count(&list), 0);
	assert_true(may_log_in(&imap, "2001:db8:ffff::1"));
	tells = 0;
	guard_maintain(g);
	assert_int_equal(tells, 1);
	clock_set_offset(0);
	reopen();
	assert_int_equal(count(&list), 0); /* gone from the disk, too */
}

static void count_tell(void *arg, const struct sess_ban *b)
{
	++*(size_t *)arg;
}

/* A front that comes later hears all of them. */
static void test_new_front(void **state)
{
	size_t n = 0;
	ban("203.0.113.1", GUARD_ALL, 0);
	ban("203.0.113.2", 1u << SESS_PROTO_SMTP, 0);
	guard_tell_all(g, count_tell, &n);
	assert_int_equal(n, 2);
}

/* G5.  The table is full: what came by itself gives way, what was made by hand stays. */
static void test_full(void **state)
{
	struct guard_ban *list;
	char text[64];
	guard_max_bans = 10;
	conf.auth_failures = 1;
	conf.net_factor = 256;
	ban("203.0.113.1", GUARD_ALL, 0);
	for (unsigned i = 0; i < guard_max_bans + 5; i++) {
		snprintf(text, sizeof(text), "198.18.%u.1", i);
		assert_int_equal(log_in_wrong(&imap, text, "ab"), 2);
	}
	assert_int_equal(count(&list), guard_max_bans);
	assert_false(may_log_in(&imap, "203.0.113.1"));
	assert_true(may_log_in(&imap, "198.18.0.1"));
	assert_false(may_log_in(&imap, text));
	/* who was pushed out comes back with what he owes: the next wrong password bans him again */
	assert_int_equal(log_in_wrong(&imap, "198.18.0.1", "c"), 1);
	reopen();
	assert_int_equal(count(&list), guard_max_bans);
	assert_false(may_log_in(&imap, "203.0.113.1"));
}

/* What crosses the channel is what was meant. */
static void test_message(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);
	struct sess_ban in = { .net = net("192.0.2.0/24") }, out;
	in.left[SESS_PROTO_IMAP] = SESS_BAN_FOREVER;
	in.left[SESS_PROTO_POP3] = 77;
	sess_ban_put(&b, &in);
	assert_true(sess_ban_get(buf_span(&b), &out));
	assert_memory_equal(&in.net, &out.net, sizeof(in.net));
	assert_memory_equal(in.left, out.left, sizeof(in.left));
	for (size_t i = 0; i < b.n; i++)
		assert_false(sess_ban_get(span_sub(buf_span(&b), 0, i), &out));
}

static void test_tarpit(void **state)
{
	const usec max = 8 * USEC_SEC;
	usec last = 0;
	for (unsigned i = 0; i <= 3; i++)
		assert_int_equal(sess_tarpit(i, max), 0);
	for (unsigned i = 4; i < 1000; i++) {
		usec d = sess_tarpit(i, max);
		assert_true(d >= last && d <= max && d > 0);
		last = d;
	}
	assert_int_equal(last, max);
	assert_int_equal(sess_tarpit(10, 0), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_rates),
		T(test_wrong_passwords),
		T(test_wrong_passwords_of_a_network),
		T(test_hidden_passwords),
		T(test_bans),
		T(test_new_front),
		T(test_full),
		T(test_message),
		T(test_tarpit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Networks: text, membership, and the table of values by network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sys/net.h"

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

static void test_text(void **state)
{
	static const char *const same[] = { "192.0.2.1",     "192.0.2.0/24", "10.0.0.0/8",
					    "0.0.0.0/0",     "2001:db8::1",  "2001:db8::/32",
					    "2001:db8::/64", "::/0" };
	static const char *const bad[] = { "",		 "192.0.2.0/33", "192.0.2.0/",
					   "/24",	 "192.0.2/24",	 "::1/129",
					   "mx.test",	 "::1/-1",	 "192.0.2.0/ 8",
					   "192.0.2.1 ", "::1/1/1" };
	char text[NET_TEXT];
	struct net n;
	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		n = net(same[i]);
		net_text(&n, text);
		assert_string_equal(text, same[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(net_parse(span_str(bad[i]), &n), ERR_SYNTAX);
	n = net("192.0.2.77/24"); /* bits behind the prefix */
	net_text(&n, text);
	assert_string_equal(text, "192.0.2.0/24");
}

static void test_has(void **state)
{
	static const struct {
		const char *net, *ip;
		bool has;
	} table[] = {
		{ "192.0.2.0/24", "192.0.2.255", true },
		{ "192.0.2.0/24", "192.0.3.0", false },
		{ "192.0.2.1", "192.0.2.1", true },
		{ "192.0.2.1", "192.0.2.2", false },
		{ "192.0.2.128/25", "192.0.2.127", false },
		{ "0.0.0.0/0", "255.255.255.255", true },
		{ "0.0.0.0/0", "2001:db8::1", false },
		{ "::/0", "192.0.2.1", true },
		{ "2001:db8::/32", "2001:db8:ffff::1", true },
		{ "2001:db8::/32", "2001:db9::", false },
		{ "::ffff:192.0.2.0/120", "192.0.2.9", true },
	};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct net n = net(table[i].net);
		struct sockaddr_any a = ip(table[i].ip);
		assert_int_equal(net_has(&n, &a), table[i].has);
	}
}

static void test_who_counts_as_one(void **state)
{
	struct sockaddr_any a = ip("192.0.2.77"), b = ip("2001:db8:1:2:3:4:5:6");
	struct net host = net_of_host(&a), want = net("192.0.2.77");
	assert_memory_equal(&host, &want, sizeof(host));
	host = net_of_site(&a), want = net("192.0.2.0/24");
	assert_memory_equal(&host, &want, sizeof(host));
	host = net_of_host(&b), want = net("2001:db8:1:2::/64");
	assert_memory_equal(&host, &want, sizeof(host));
	host = net_of_site(&b), want = net("2001:db8:1::/48");
	assert_memory_equal(&host, &want, sizeof(host));
}

static void test_map(void **state)
{
	struct net_map *m = net_map_new();
	struct net wide = net("10.0.0.0/8"), narrow = net("10.1.0.0/16"),
		   six = net("2001:db8::/48");
	struct sockaddr_any a = ip("10.1.2.3"), b = ip("10.2.0.0"), c = ip("11.0.0.0"),
			    d = ip("2001:db8::1");
	char w, n, s;
	assert_null(net_map_put(m, &wide, &w));
	assert_null(net_map_put(m, &narrow, &n));
	assert_null(net_map_put(m, &six, &s));
	assert_ptr_equal(net_map_put(m, &six, &s), &s);
	assert_int_equal(net_map_count(m), 3);
	int bits = 128;
	assert_ptr_equal(net_map_match(m, &a, &bits), &n);
	assert_ptr_equal(net_map_match(m, &a, &bits), &w);
	assert_null(net_map_match(m, &a, &bits));
	bits = 128;
	assert_ptr_equal(net_map_match(m, &b, &bits), &w);
	bits = 128;
	assert_null(net_map_match(m, &c, &bits));
	bits = 128;
	assert_ptr_equal(net_map_match(m, &d, &bits), &s);
	assert_ptr_equal(net_map_del(m, &wide), &w);
	assert_null(net_map_del(m, &wide));
	bits = 128;
	assert_null(net_map_match(m, &b, &bits));
	net_map_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_has),
		cmocka_unit_test(test_who_counts_as_one),
		cmocka_unit_test(test_map),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

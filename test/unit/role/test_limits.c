#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "role/front_int.h"

static struct front_limits limits;
static struct conf conf = {
	.max_connections = 16, .max_per_ip = 2, .net_factor = 4, .connection_rate = 100
};

static int setup(void **state)
{
	front_limits_init(&limits);
	return 0;
}

static int teardown(void **state)
{
	front_limits_done(&limits);
	return 0;
}

/* How many of N connections of PEER may come. */
static unsigned come(const struct sockaddr_any *peer, unsigned n)
{
	unsigned welcome = 0;
	bool limited;

	while (n--)
		welcome += front_limits_peer(&limits, &conf, SESS_PROTO_LOCAL, peer, &limited) ==
			   FRONT_WELCOME;
	return welcome;
}

static struct sockaddr_any user(uint32_t uid)
{
	return (struct sockaddr_any){ .user = { .family = AF_UNIX, .uid = uid } };
}

/* The socket is everybody's: one user leaves the others room, and root is always heard. */
static void test_users(void **state)
{
	const struct sockaddr_any one = user(1000), two = user(1001), root = user(0);

	assert_int_equal(come(&one, 9), 4);
	assert_int_equal(come(&two, 9), 4);
	assert_int_equal(come(&root, 9), 9);
	front_limits_peer_gone(&limits, &one);
	assert_int_equal(come(&one, 9), 1);
	assert_int_equal(come(&two, 9), 0);
}

static void test_addresses(void **state)
{
	struct sockaddr_any a, b;

	assert_int_equal(sock_parse_ip(SPAN("192.0.2.1"), 1, &a), 0);
	assert_int_equal(sock_parse_ip(SPAN("192.0.2.2"), 1, &b), 0);
	assert_int_equal(come(&a, 9), 2);
	front_limits_peer_gone(&limits, &a);
	assert_int_equal(come(&b, 1), 1);
	assert_int_equal(come(&a, 9), 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = { TEST(test_users), TEST(test_addresses) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

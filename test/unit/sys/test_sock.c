#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "sys/sock.h"

static void test_text(void **state)
{
	static const struct {
		const char *in, *text, *literal;
	} good[] = {
		{ "192.0.2.1:25", "192.0.2.1:25", "[192.0.2.1]" },
		{ "[2001:DB8::1]:587", "[2001:db8::1]:587", "[IPv6:2001:db8::1]" },
		{ "[::ffff:192.0.2.7]:1", "192.0.2.7:1", "[192.0.2.7]" },
		{ ":25", "[::]:25", "[IPv6:::]" },
		{ "143", "[::]:143", "[IPv6:::]" },
		{ "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
		  "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
		  "[IPv6:2001:db8:1111:2222:3333:4444:5555:6666]" },
	};
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct sockaddr_any a, b;
		char text[SOCK_TEXT];
		assert_int_equal(sock_parse(span_str(good[i].in), &a), 0);
		sock_text(&a, text);
		assert_string_equal(text, good[i].text);
		sock_literal(&a, text);
		assert_string_equal(text, good[i].literal);
		sock_ip_text(&a, text);
		assert_int_equal(sock_parse_ip(span_str(text), sock_port(&a), &b), 0);
		assert_true(sock_same_ip(&a, &b));
	}
	static const char *const bad[] = {
		"",	 "localhost:25", "1.2.3:25", "1.2.3.4", "::1:25", "[1.2.3.4]:25",
		"[::1]", "[::1]:65536",	 "1.2.3.4:", "a"
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct sockaddr_any a;
		assert_int_equal(sock_parse(span_str(bad[i]), &a), ERR_SYNTAX);
	}
	struct sockaddr_any a;
	assert_int_equal(sock_parse_ip(SPAN("127.9.9.9"), 0, &a), 0);
	assert_true(sock_is_loopback(&a));
	assert_int_equal(sock_parse_ip(SPAN("::ffff:127.0.0.1"), 0, &a), 0);
	assert_true(sock_is_loopback(&a));
	assert_int_equal(sock_parse_ip(SPAN("128.0.0.1"), 0, &a), 0);
	assert_false(sock_is_loopback(&a));
	assert_int_equal(sock_parse_ip(SPAN("::1\0"), 0, &a), ERR_SYNTAX);
}

static void test_connect(void **state)
{
	struct sockaddr_any any, to = { 0 }, peer, local, source;
	struct err_info info = { 0 };
	socklen_t n = sizeof(to);
	assert_int_equal(sock_parse(SPAN("127.0.0.1:0"), &any), 0);
	int listener = sock_listen(&any, 16, &info);
	assert_true(listener >= 0);
	getsockname(listener, &to.sa, &n);
	assert_int_equal(sock_accept(listener, &peer, &local), ERR_AGAIN);
	assert_int_equal(sock_listen(&to, 16, &info), ERR_BUSY);
	assert_non_null(strstr(info.text, "127.0.0.1"));

	assert_int_equal(sock_parse_ip(SPAN("127.0.0.2"), 0, &source), 0);
	int client = sock_connect_start(&to, &source);
	assert_true(client >= 0);
	struct pollfd p = { .fd = client, .events = POLLOUT };
	assert_int_equal(poll(&p, 1, 2000), 1);
	assert_int_equal(sock_connect_result(client), 0);
	int server = sock_accept(listener, &peer, &local);
	assert_true(server >= 0);
	assert_true(sock_same_ip(&peer, &source) && sock_same_ip(&local, &to));
	assert_int_equal(sock_port(&local), sock_port(&to));
	close(server);
	close(client);
	close(listener);
	client = sock_connect_start(&to, NULL);
	if (client >= 0) {
		p.fd = client;
		poll(&p, 1, 2000);
		assert_true(sock_connect_result(client) < 0);
		close(client);
	}
}

static void test_unix(void **state)
{
	char path[64];
	struct err_info info = { 0 };
	snprintf(path, sizeof(path), "/tmp/postrider-test-%d.sock", (int)getpid());
	int a = sock_listen_unix(path, 0600, &info);
	assert_true(a >= 0);
	close(a);
	a = sock_listen_unix(path, 0600, &info); /* the old file is no hindrance */
	assert_true(a >= 0);
	int c = sock_connect_unix(path);
	assert_true(c >= 0);
	struct sockaddr_any peer;
	int s = sock_accept(a, &peer, NULL);
	assert_true(s >= 0);
	close(s);
	close(c);
	close(a);
	unlink(path);
	assert_int_equal(sock_connect_unix(path), ERR_NOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_unix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

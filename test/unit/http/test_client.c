/* The client against a server that says what the test wrote down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "http/client.h"

static struct loop *loop;
static struct http_client *client;

/* --- the server: one connection, one request, one canned answer --- */
struct server {
	int fd;
	uint16_t port;
	const char *says;
	bool hangs;
	char heard[4096];
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->fd, NULL, NULL);
	size_t n = 0;
	char *end;

	while (n < sizeof s->heard - 1) {
		ssize_t got = read(fd, s->heard + n, sizeof s->heard - 1 - n);
		size_t want = 0;

		if (got <= 0)
			break;
		n += (size_t)got;
		s->heard[n] = 0;
		end = strstr(s->heard, "\r\n\r\n");
		if (end && strstr(s->heard, "Content-Length: "))
			want = (size_t)atoi(strstr(s->heard, "Content-Length: ") + 16);
		if (end && !s->hangs && n >= (size_t)(end + 4 - s->heard) + want)
			break;
	}
	if (!s->hangs && write(fd, s->says, strlen(s->says)) < 0)
		perror("write");
	close(fd);
	return NULL;
}

static void server_start(struct server *s, const char *says)
{
	struct sockaddr_any a;
	socklen_t len = sizeof a;

	*s = (struct server){ .says = says, .hangs = !says };
	assert_int_equal(sock_parse_ip(SPAN("127.0.0.1"), 0, &a), 0);
	s->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(s->fd, &a.sa, sock_len(&a)), 0);
	assert_int_equal(listen(s->fd, 5), 0);
	assert_int_equal(getsockname(s->fd, &a.sa, &len), 0);
	s->port = sock_port(&a);
	pthread_create(&s->thread, NULL, serve, s);
}

static void server_stop(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->fd);
}

/* --- one request --- */
struct outcome {
	enum http_fail fail;
	unsigned status;
	char body[1000], type[100];
};

static void done(void *arg, const struct http_answer *a)
{
	struct outcome *o = arg;

	o->fail = a->fail;
	o->status = a->status;
	snprintf(o->body, sizeof o->body, "%.*s", SPAN_FMT(a->body));
	snprintf(o->type, sizeof o->type, "%.*s", SPAN_FMT(http_header_value(a, "content-type")));
	loop_stop(loop);
}

static struct outcome ask(struct server *s, struct http_request r, const char *name, int fd)
{
	struct outcome o = { .fail = 99 };
	struct sockaddr_any addr;
	char url[100];

	assert_int_equal(sock_parse_ip(SPAN("127.0.0.1"), 0, &addr), 0);
	snprintf(url, sizeof url, "http://%s:%u/p?q", name, s->port);
	r.url = span_str(url);
	r.timeout = r.timeout ? r.timeout : 20 * USEC_SEC;
	r.answer_max = r.answer_max ? r.answer_max : 900;
	http_client_ask(client, &r, &addr, 1, fd, done, &o);
	while (o.fail == 99)
		loop_run(loop);
	assert_int_equal(http_client_active(client), 0);
	return o;
}

static void test_get(void **state)
{
	struct http_header h[] = { { SPAN("Accept"), SPAN("x/y") },
				   { SPAN("Host"), SPAN("evil") } };
	struct http_request r = {
		.method = SPAN("GET"), .headers = h, .n_headers = 2, .flags = HTTP_LOCAL
	};
	struct server s;
	struct outcome o;

	server_start(&s, "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello");
	o = ask(&s, r, "name.test", -1);
	server_stop(&s);
	assert_int_equal(o.fail, HTTP_FAIL_NONE);
	assert_int_equal(o.status, 200);
	assert_string_equal(o.body, "hello");
	assert_string_equal(o.type, "a/b");
	assert_non_null(strstr(s.heard, "GET /p?q HTTP/1.1\r\n"));
	assert_non_null(strstr(s.heard, "Host: name.test:"));
	assert_non_null(strstr(s.heard, "Accept: x/y\r\n"));
	assert_null(strstr(s.heard, "evil"));
}

static void test_post(void **state)
{
	struct http_request r = {
		.method = SPAN("POST"), .body = SPAN("some"), .body_size = 4, .flags = HTTP_LOCAL
	};
	char path[] = "/tmp/test_http_XXXXXX";
	int fd = mkstemp(path);
	struct server s;
	struct outcome o;

	server_start(&s, "HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 302 Found\r\nLocation: "
			 "/x\r\nContent-Length: 0\r\n\r\n");
	o = ask(&s, r, "127.0.0.1", -1);
	server_stop(&s);
	assert_int_equal(o.status, 302); /* and no further request */
	assert_non_null(strstr(s.heard, "\r\n\r\nsome"));
	assert_null(strstr(s.heard, "Content-Type"));

	unlink(path);
	assert_int_equal(write(fd, "from a file", 11), 11);
	r.method = SPAN("PUT");
	r.body = SPAN_NULL;
	r.body_size = 11;
	server_start(&s, "HTTP/1.1 204 No\r\n\r\n");
	o = ask(&s, r, "127.0.0.1", fd);
	server_stop(&s);
	assert_int_equal(o.status, 204);
	assert_non_null(strstr(s.heard, "PUT /p"));
	assert_non_null(strstr(s.heard, "\r\n\r\nfrom a file"));
}

static void test_hostile(void **state)
{
	struct http_request r = { .method = SPAN("GET"), .flags = HTTP_LOCAL };
	struct server s;

	static const struct {
		const char *says;
		enum http_fail fail;
	} rows[] = {
		{ "", HTTP_FAIL_PROTOCOL },
		{ "just words", HTTP_FAIL_PROTOCOL },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", HTTP_FAIL_PROTOCOL },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", HTTP_FAIL_PROTOCOL },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		  HTTP_FAIL_PROTOCOL },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		server_start(&s, rows[i].says);
		if (ask(&s, r, "127.0.0.1", -1).fail != rows[i].fail)
			fail_msg("%s", rows[i].says);
		server_stop(&s);
	}
	r.answer_max = 4;
	server_start(&s, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	assert_int_equal(ask(&s, r, "127.0.0.1", -1).fail, HTTP_FAIL_TOOBIG);
	server_stop(&s);
	r.timeout = USEC_SEC / 5;
	server_start(&s, NULL);
	assert_int_equal(ask(&s, r, "127.0.0.1", -1).fail, HTTP_FAIL_TIMEOUT);
	server_stop(&s);
}

static void test_refused(void **state)
{
	struct http_request r = { .method = SPAN("GET") };
	struct server s = { .port = 9 };

	assert_int_equal(ask(&s, r, "127.0.0.1", -1).fail, HTTP_FAIL_REFUSED);
	assert_int_equal(ask(&s, r, "rebound.test", -1).fail, HTTP_FAIL_REFUSED);
	r.flags = HTTP_TLS_ONLY | HTTP_LOCAL;
	assert_int_equal(ask(&s, r, "127.0.0.1", -1).fail, HTTP_FAIL_REQUEST);
	r.flags = HTTP_LOCAL;
	assert_int_equal(ask(&s, r, "127.0.0.1", -1).fail, HTTP_FAIL_CONNECT);
}

static void test_local(void **state)
{
	static const struct {
		const char *text;
		bool local;
	} rows[] = {
		{ "127.8.8.8", true },	      { "10.0.0.1", true },
		{ "172.31.0.1", true },	      { "172.32.0.1", false },
		{ "169.254.169.254", true },  { "8.8.8.8", false },
		{ "224.0.0.1", true },	      { "::1", true },
		{ "fe80::1", true },	      { "fd00::1", true },
		{ "2001:4860::8888", false }, { "::ffff:127.0.0.1", true },
		{ "64:ff9b::7f00:1", true },  { "2002:7f00:1::", true },
		{ "0.0.0.0", true },
	};
	struct sockaddr_any a;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(sock_parse_ip(span_str(rows[i].text), 0, &a), 0);
		if (http_address_local(&a) != rows[i].local)
			fail_msg("%s", rows[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_get), cmocka_unit_test(test_post),
					    cmocka_unit_test(test_hostile),
					    cmocka_unit_test(test_refused),
					    cmocka_unit_test(test_local) };
	int failed;

	if (http_init(NULL) < 0)
		return 1;
	setenv("http_proxy", "http://127.0.0.1:1", 1); /* must not matter */
	loop = loop_new();
	client = http_client_new(loop, NULL, NULL);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	http_client_free(client);
	loop_free(loop);
	return failed;
}

/* The message forms: what goes in comes out, and nothing that is cut or inflated does harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/http.h"
#include "sys/channel.h"

static struct http_header headers[] = { { SPAN("accept"), SPAN("text/plain") },
					{ SPAN("x-empty"), SPAN("") } };

static void put_request(struct buf *b)
{
	struct http_request r = { .method = SPAN("POST"),
				  .url = SPAN("https://a/"),
				  .headers = headers,
				  .n_headers = 2,
				  .body = SPAN("body"),
				  .answer_max = 1000,
				  .timeout = USEC_SEC,
				  .flags = HTTP_LOCAL,
				  .ca_pem = SPAN("pem") };

	assert_int_equal(sock_parse_ip(SPAN("::1"), 99, &r.to), 0);
	assert_int_equal(http_request_put(b, &r), 0);
}

static void test_request(void **state)
{
	struct buf b = BUF_INIT(CHANNEL_MAX);
	struct http_request r;
	struct arena mem;

	arena_init(&mem);
	put_request(&b);
	assert_int_equal(http_request_get(buf_span(&b), &mem, &r), 0);
	assert_true(span_eq_str(r.method, "POST") && span_eq_str(r.url, "https://a/"));
	assert_true(r.n_headers == 2 && span_eq_str(r.headers[1].name, "x-empty"));
	assert_true(span_eq_str(r.body, "body") && r.body_size == 4 && r.answer_max == 1000);
	assert_true(r.timeout == USEC_SEC && r.flags == HTTP_LOCAL && sock_port(&r.to) == 99);
	assert_true(span_eq_str(r.ca_pem, "pem"));
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(http_request_get(span_sub(buf_span(&b), 0, n), &mem, &r),
				 ERR_PROTO);
	arena_done(&mem);
	buf_done(&b);
}

static void test_answer(void **state)
{
	struct buf b = BUF_INIT(CHANNEL_MAX);
	struct http_answer a = {
		.status = 204, .headers = headers, .n_headers = 2, .body = SPAN("x")
	};
	struct http_answer got;
	struct arena mem;

	arena_init(&mem);
	assert_int_equal(http_answer_put(&b, &a), 0);
	assert_int_equal(http_answer_get(buf_span(&b), &mem, &got), 0);
	assert_true(got.status == 204 && span_eq_str(got.body, "x"));
	assert_true(span_eq_str(http_header_value(&got, "accept"), "text/plain"));
	assert_int_equal(http_header_value(&got, "other").n, 0);
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(http_answer_get(span_sub(buf_span(&b), 0, n), &mem, &got),
				 ERR_PROTO);
	b.p[0] = 99;
	assert_int_equal(http_answer_get(buf_span(&b), &mem, &got), ERR_PROTO);
	arena_done(&mem);
	buf_done(&b);
}

static void test_injection(void **state)
{
	struct http_header evil = { SPAN("x"), SPAN("a\r\nb: c") };
	struct http_request r = { .method = SPAN("GET"),
				  .url = SPAN("http://a/"),
				  .headers = &evil,
				  .n_headers = 1,
				  .timeout = 1 };
	struct buf b = BUF_INIT(CHANNEL_MAX);
	struct arena mem;

	arena_init(&mem);
	assert_int_equal(http_request_put(&b, &r), 0);
	assert_int_equal(http_request_get(buf_span(&b), &mem, &r), ERR_PROTO);
	arena_done(&mem);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_request),
					    cmocka_unit_test(test_answer),
					    cmocka_unit_test(test_injection) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

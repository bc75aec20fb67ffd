#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dns/dns.h"

static void test_ask(void **state)
{
	struct dns_question q[] = { { SPAN("example.org"), DNS_MX }, { SPAN(""), DNS_TXT } }, *back;
	struct buf b _cleanup_(buf_donep) = BUF_INIT(4096);
	struct arena mem _cleanup_(arena_donep);
	size_t n;

	arena_init(&mem);
	assert_int_equal(dns_ask_put(&b, q, 2), 0);
	assert_int_equal(dns_ask_get(buf_span(&b), &mem, &back, &n), 0);
	assert_int_equal(n, 2);
	assert_true(span_eq(back[0].name, q[0].name));
	assert_int_equal(back[1].type, DNS_TXT);
	for (size_t cut = 0; cut < b.n; cut++)
		assert_true(dns_ask_get(span_sub(buf_span(&b), 0, cut), &mem, &back, &n) < 0);
	assert_int_equal(dns_ask_put(&b, q, DNS_ASK_MAX + 1), ERR_TOOBIG);
	assert_int_equal(dns_ask_get(SPAN("\xff\xff\x00\x00"), &mem, &back, &n), ERR_PROTO);
}

static void test_answers(void **state)
{
	struct dns_record records[] = { { .preference = 10, .name = SPAN("mx.example.org") },
					{ .weight = 7, .text = SPAN("text") },
					{ 0 } };
	struct dns_answer a[] = { { SPAN("example.org"), DNS_MX, DNS_OK, true, 300, records, 3,
				    SPAN_NULL },
				  { SPAN("x"), DNS_A, DNS_BOGUS, false, 0, NULL, 0,
				    SPAN("no signature") } },
			  *back;
	struct buf b _cleanup_(buf_donep) = BUF_INIT(4096);
	struct arena mem _cleanup_(arena_donep);
	size_t n;

	arena_init(&mem);
	assert_int_equal(sock_parse_ip(SPAN("2001:db8::5"), 0, &records[2].addr), 0);
	assert_int_equal(dns_answers_put(&b, a, 2), 0);
	assert_int_equal(dns_answers_get(buf_span(&b), &mem, &back, &n), 0);
	assert_int_equal(n, 2);
	assert_true(back[0].secure);
	assert_int_equal(back[0].ttl, 300);
	assert_int_equal(back[0].n, 3);
	assert_true(span_eq_str(back[0].records[0].name, "mx.example.org"));
	assert_int_equal(back[0].records[1].weight, 7);
	assert_true(sock_same_ip(&back[0].records[2].addr, &records[2].addr));
	assert_int_equal(back[1].status, DNS_BOGUS);
	assert_true(span_eq_str(back[1].why, "no signature"));
	for (size_t cut = 0; cut < b.n; cut++)
		assert_true(dns_answers_get(span_sub(buf_span(&b), 0, cut), &mem, &back, &n) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ask),
					    cmocka_unit_test(test_answers) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

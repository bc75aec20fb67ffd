#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dns/dns.h"

static struct arena mem;

static int setup(void **state)
{
	arena_init(&mem);
	return 0;
}

static int teardown(void **state)
{
	arena_done(&mem);
	return 0;
}

#define PARSE(type, lit, ret) dns_record_parse(type, SPAN(lit), &mem, ret)

static void test_mx(void **state)
{
	struct dns_record r;

	assert_int_equal(PARSE(DNS_MX,
			       "\x00\x0a\x02mX\x07"
			       "Example\x03org\x00",
			       &r),
			 0);
	assert_int_equal(r.preference, 10);
	assert_true(span_eq_str(r.name, "mx.example.org"));
	assert_int_equal(PARSE(DNS_MX, "\x00\x00\x00", &r), 0); /* null MX */
	assert_int_equal(r.name.n, 0);
}

static void test_malformed_names(void **state)
{
	struct dns_record r;
	char big[2 + 5 * 64 + 1] = { 0, 10 };

	assert_int_equal(PARSE(DNS_MX, "", &r), ERR_SYNTAX);
	assert_int_equal(PARSE(DNS_MX, "\x00", &r), ERR_SYNTAX);
	assert_int_equal(PARSE(DNS_MX, "\x00\x0a", &r), ERR_SYNTAX);
	assert_int_equal(PARSE(DNS_MX, "\x00\x0a\x03mx", &r), ERR_SYNTAX);   /* cut label */
	assert_int_equal(PARSE(DNS_MX, "\x00\x0a\x02mx", &r), ERR_SYNTAX);   /* no root */
	assert_int_equal(PARSE(DNS_MX, "\x00\x0a\xc0\x0c", &r), ERR_SYNTAX); /* a pointer */
	assert_int_equal(PARSE(DNS_MX, "\x00\x0a\x02mx\x00\x00", &r),
			 ERR_SYNTAX);						/* bytes behind */
	assert_int_equal(PARSE(DNS_MX, "\x00\x0a\x03m.x\x00", &r), ERR_SYNTAX); /* a dot inside */
	assert_int_equal(PARSE(DNS_PTR,
			       "\x03"
			       "a\r\n\x00",
			       &r),
			 ERR_SYNTAX);
	for (size_t i = 2; i < sizeof big - 1; i += 64) {
		big[i] = 63;
		for (size_t j = 1; j <= 63; j++)
			big[i + j] = 'a';
	}
	assert_int_equal(dns_record_parse(DNS_MX, span_of(big, sizeof big), &mem, &r),
			 ERR_SYNTAX); /* over 255 */
}

static void test_addresses(void **state)
{
	struct dns_record r;
	char text[SOCK_TEXT];

	assert_int_equal(PARSE(DNS_A, "\xc0\x00\x02\x01", &r), 0);
	sock_ip_text(&r.addr, text);
	assert_string_equal(text, "192.0.2.1");
	assert_int_equal(PARSE(DNS_A, "\xc0\x00\x02", &r), ERR_SYNTAX);
	assert_int_equal(PARSE(DNS_A, "\xc0\x00\x02\x01\x01", &r), ERR_SYNTAX);
	assert_int_equal(PARSE(DNS_AAAA, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", &r), 0);
	sock_ip_text(&r.addr, text);
	assert_string_equal(text, "2001:db8::1");
	assert_int_equal(PARSE(DNS_AAAA, "\x20\x01", &r), ERR_SYNTAX);
}

static void test_txt(void **state)
{
	struct dns_record r;

	assert_int_equal(PARSE(DNS_TXT, "\x06v=spf1\x05 -all", &r), 0);
	assert_true(span_eq_str(r.text, "v=spf1 -all"));
	assert_int_equal(PARSE(DNS_TXT, "\x00", &r), 0);
	assert_int_equal(r.text.n, 0);
	assert_int_equal(PARSE(DNS_TXT, "", &r), ERR_SYNTAX);
	assert_int_equal(PARSE(DNS_TXT, "\x07v=spf1", &r), ERR_SYNTAX);
}

static void test_tlsa(void **state)
{
	struct dns_record r;

	assert_int_equal(PARSE(DNS_TLSA, "\x03\x01\x01\xaa\xbb", &r), 0);
	assert_int_equal(r.preference, 0x301);
	assert_int_equal(r.weight, 1);
	assert_int_equal(r.text.n, 2);
	assert_int_equal(PARSE(DNS_TLSA, "\x03\x01\x01", &r), ERR_SYNTAX);
	assert_int_equal(PARSE(DNS_SRV, "\x00\x00\x00\x00\x00\x00\x00", &r), ERR_UNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_mx, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_txt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tlsa, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* PROXY headers: the two forms, what is wrong with others, and that the way the octets arrive makes
 * no difference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/proxy.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"

/* Feeds IN as a reader does: never more than was said to belong to the header. */
static enum proxy_step in_pieces(span in, size_t piece, size_t *ret_n, struct proxy_header *ret)
{
	size_t have = 0;
	for (;;) {
		size_t n;
		enum proxy_step step = proxy_parse(span_sub(in, 0, have), &n, ret);
		if (step == PROXY_DONE)
			*ret_n = n;
		if (step != PROXY_MORE)
			return step;
		assert_true(n > 0);
		if (have == in.n)
			return PROXY_MORE;
		have += MIN(MIN(piece, n), in.n - have);
	}
}

static enum proxy_step parse(span in, size_t *ret_n, struct proxy_header *ret)
{
	size_t n = 0;
	enum proxy_step step = proxy_parse(in, ret_n, ret);
	for (size_t piece = 1; piece < 20; piece++) {
		struct proxy_header h;
		assert_int_equal(in_pieces(in, piece, &n, &h), step);
		if (step != PROXY_DONE)
			continue;
		assert_int_equal(n, *ret_n);
		assert_memory_equal(&h, ret, sizeof(h));
	}
	return step;
}

static void test_version_1(void **state)
{
	struct proxy_header h;
	size_t n;
	span in = SPAN("PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\nEHLO x\r\n");
	assert_int_equal(parse(in, &n, &h), PROXY_DONE);
	assert_int_equal(n, span_find(in, '\n') + 1);
	assert_true(h.known && !h.ipv6);
	assert_memory_equal(h.source, "\xc0\x00\x02\x01", 4);
	assert_memory_equal(h.target, "\xc6\x33\x64\x02", 4);
	assert_int_equal(h.source_port, 56324);
	assert_int_equal(h.target_port, 25);
	assert_int_equal(parse(SPAN("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), &n, &h), PROXY_DONE);
	assert_true(h.known && h.ipv6);
	assert_memory_equal(h.source, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
	assert_int_equal(parse(SPAN("PROXY UNKNOWN\r\n"), &n, &h), PROXY_DONE);
	assert_false(h.known);
	assert_int_equal(n, 15);
	assert_int_equal(parse(SPAN("PROXY UNKNOWN ffff:f ffff:f 1 2\r\n"), &n, &h), PROXY_DONE);
	assert_false(h.known);
}

static void test_version_1_strict(void **state)
{
	static const char *const bad[] = {
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25 \r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
		"PROXY TCP4  192.0.2.1 198.51.100.2 56324 25\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 056 25\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 +1 25\r\n",
		"PROXY TCP4 192.0.2.01 198.51.100.2 1 25\r\n",
		"PROXY TCP4 192.0.2 198.51.100.2 1 25\r\n",
		"PROXY TCP4 ::1 ::1 1 25\r\n",
		"PROXY TCP6 192.0.2.1 198.51.100.2 1 25\r\n",
		"PROXY TCP6 fe80::1%lo ::1 1 25\r\n",
		"PROXY UDP4 192.0.2.1 198.51.100.2 1 25\r\n",
		"PROXY tcp4 192.0.2.1 198.51.100.2 1 25\r\n",
		"proxy TCP4 192.0.2.1 198.51.100.2 1 25\r\n",
		"PROXY\tTCP4 192.0.2.1 198.51.100.2 1 25\r\n",
		"PROXY \r\n        ",
		"EHLO client.test\r\n",
		"\r\n\r\nPROXY ",
		"PROXY UNKNOWN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
	};
	struct proxy_header h;
	size_t n;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(parse(span_str(bad[i]), &n, &h), PROXY_BAD);
	assert_int_equal(parse(SPAN("PROXY TCP4 192.0.2.1\0 198.51.100.2 1 25\r\n"), &n, &h),
			 PROXY_BAD);
}

static void test_version_2(void **state)
{
	struct proxy_header h;
	size_t n;
	span in = SPAN(SIG "\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\0\x19"
			   "EHLO x\r\n");
	assert_int_equal(parse(in, &n, &h), PROXY_DONE);
	assert_int_equal(n, 28);
	assert_true(h.known && !h.ipv6);
	assert_memory_equal(h.source, "\xc0\x00\x02\x01", 4);
	assert_int_equal(h.source_port, 56324);
	assert_int_equal(h.target_port, 25);
	/* IPv6, and a TLV of two octets behind it */
	in = SPAN(SIG "\x21\x21\0\x29"
		      "0123456789abcdef0123456789abcdef\0\1\0\2\x03\0\2zz");
	assert_int_equal(parse(in, &n, &h), PROXY_DONE);
	assert_true(h.known && h.ipv6);
	assert_memory_equal(h.source, "0123456789abcdef", 16);
	assert_int_equal(h.target_port, 2);
	/* LOCAL: whatever is in it */
	assert_int_equal(parse(SPAN(SIG "\x20\x11\0\3abc"), &n, &h), PROXY_DONE);
	assert_false(h.known);
	assert_int_equal(n, 19);
	assert_int_equal(parse(SPAN(SIG "\x21\0\0\0"), &n, &h), PROXY_DONE); /* UNSPEC */
	assert_false(h.known);
}

static void test_version_2_strict(void **state)
{
	static const span bad[] = {
		SPAN(SIG "\x11\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\0\1\0\x19"),  /* version 1 */
		SPAN(SIG "\x22\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\0\1\0\x19"),  /* command 2 */
		SPAN(SIG "\x21\x12\0\x0c\xc0\0\2\1\xc6\x33\x64\2\0\1\0\x19"),  /* a datagram */
		SPAN(SIG "\x21\x41\0\x0c\xc0\0\2\1\xc6\x33\x64\2\0\1\0\x19"),  /* no such family */
		SPAN(SIG "\x21\x11\0\x0b\xc0\0\2\1\xc6\x33\x64\2\0\1\0"),      /* too short */
		SPAN(SIG "\x21\x11\0\x0d\xc0\0\2\1\xc6\x33\x64\2\0\1\0\x19x"), /* half a TLV */
		SPAN(SIG
		     "\x21\x11\0\x10\xc0\0\2\1\xc6\x33\x64\2\0\1\0\x19\1\0\2x"), /* longer than all */
		SPAN(SIG "\x21\x11\xff\xff"), /* beyond PROXY_MAX */
		SPAN("\r\n\r\n\0\r\nQUIT\r    "),
	};
	struct proxy_header h;
	size_t n;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(parse(bad[i], &n, &h), PROXY_BAD);
}

static void test_begins(void **state)
{
	assert_int_equal(proxy_begins(SPAN("PROXY TCP4")), PROXY_DONE);
	assert_int_equal(proxy_begins(SPAN(SIG)), PROXY_DONE);
	assert_int_equal(proxy_begins(SPAN("PRO")), PROXY_MORE);
	assert_int_equal(proxy_begins(SPAN("\r\n\r\n")), PROXY_BAD);
	assert_int_equal(proxy_begins(SPAN("\r\n\r\n\0")), PROXY_MORE);
	assert_int_equal(proxy_begins(SPAN_NULL), PROXY_MORE);
	assert_int_equal(proxy_begins(SPAN("EHLO")), PROXY_BAD);
	assert_int_equal(proxy_begins(SPAN("PROXIMA")), PROXY_BAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_1), cmocka_unit_test(test_version_1_strict),
		cmocka_unit_test(test_version_2), cmocka_unit_test(test_version_2_strict),
		cmocka_unit_test(test_begins),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

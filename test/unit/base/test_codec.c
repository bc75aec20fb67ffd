#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/id.h"

typedef int codec(struct buf *b, span in);

static void expect(codec *fn, span in, span want)
{
	struct buf b = BUF_INIT(4096);
	assert_int_equal(fn(&b, in), 0);
	assert_true(span_eq(buf_span(&b), want));
	buf_done(&b);
}

static void expect_error(codec *fn, span in)
{
	struct buf b = BUF_INIT(4096);
	buf_put_str(&b, "kept");
	assert_int_equal(fn(&b, in), ERR_SYNTAX);
	assert_string_equal(buf_cstr(&b), "kept");
	buf_done(&b);
}

static void test_base64(void **state)
{
	static const struct {
		span raw, text;
	} rfc4648[] = {
		{ SPAN(""), SPAN("") },
		{ SPAN("f"), SPAN("Zg==") },
		{ SPAN("fo"), SPAN("Zm8=") },
		{ SPAN("foo"), SPAN("Zm9v") },
		{ SPAN("foob"), SPAN("Zm9vYg==") },
		{ SPAN("\0\xff\xfe"), SPAN("AP/+") },
	};
	for (size_t i = 0; i < ARRAY_LEN(rfc4648); i++) {
		expect(base64_encode, rfc4648[i].raw, rfc4648[i].text);
		expect(base64_decode, rfc4648[i].text, rfc4648[i].raw);
	}
	const span bad[] = { SPAN("Zg="),  SPAN("Zg"),	     SPAN("Z==="),
			     SPAN("===="), SPAN("Zg==Zg=="), SPAN("Zm 9"),
			     SPAN("Zh=="), SPAN("Zm-_"),     SPAN("Zm9v\r\n") };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		expect_error(base64_decode, bad[i]);
	expect(base64_decode_lenient, SPAN("Zm\r\n 9v!Yg==junk"), SPAN("foob"));
	expect(base64_decode_lenient, SPAN("Zm9vYg"), SPAN("foob"));
}

static void test_base64_lines(void **state)
{
	struct buf raw = BUF_INIT(1000), b = BUF_INIT(2000);
	memset(buf_reserve(&raw, 115), 'x', 115);
	buf_added(&raw, 115);
	assert_int_equal(base64_encode_lines(&b, buf_span(&raw)), 0);
	assert_int_equal(b.n, 78 + 78 + 6);
	assert_memory_equal(b.p + 76, "\r\n", 2);
	assert_memory_equal(b.p + b.n - 2, "\r\n", 2);
	struct buf back = BUF_INIT(1000);
	base64_decode_lenient(&back, buf_span(&b)); /* stops at the padding */
	assert_true(span_eq(buf_span(&back), buf_span(&raw)));
	buf_done(&back);
	buf_done(&b);
	buf_done(&raw);
}

static void test_qp(void **state)
{
	expect(qp_encode, SPAN("a=b \r\nc\t"), SPAN("a=3Db=20\r\nc=09"));
	expect(qp_encode, SPAN("\n\r"), SPAN("=0A=0D"));
	expect(qp_decode, SPAN("a=3Db=\r\nc \t\r\nd=  \n e"), SPAN("a=bc\r\nd e"));
	expect(qp_decode, SPAN("50=% =4 =zz =4a="), SPAN("50=% =4 =zz J"));
	/* lines never pass 76 columns, and everything comes back */
	for (int round = 0; round < 200; round++) {
		struct buf raw = BUF_INIT(1000), text = BUF_INIT(8000), back = BUF_INIT(8000);
		for (uint64_t i = random_below(400); i > 0; i--)
			buf_put_char(&raw, "ab =\t.\r\n\xe4"[random_below(9)]);
		assert_int_equal(qp_encode(&text, buf_span(&raw)), 0);
		for (span s = buf_span(&text), line; s.p;) {
			line = span_cut(&s, '\n');
			assert_true(line.n <= 77);
		}
		assert_int_equal(qp_decode(&back, buf_span(&text)), 0);
		assert_true(span_eq(buf_span(&back), buf_span(&raw)));
		buf_done(&raw);
		buf_done(&text);
		buf_done(&back);
	}
}

static void test_hex(void **state)
{
	expect(hex_encode, SPAN("\0\xAb"), SPAN("00ab"));
	expect(hex_decode, SPAN("00aB"), SPAN("\0\xab"));
	expect_error(hex_decode, SPAN("0"));
	expect_error(hex_decode, SPAN("0g"));
}

static void test_hashes(void **state)
{
	assert_int_equal(crc32c(0, SPAN("123456789")), 0xe3069283);
	span s = SPAN("a text that is longer than eight bytes");
	for (size_t cut = 0; cut <= s.n; cut++)
		assert_int_equal(crc32c(crc32c(0, span_sub(s, 0, cut)), span_from(s, cut)),
				 crc32c(0, s));
	/* the vector of the SipHash paper, appendix A */
	const uint64_t key[2] = { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u };
	char in[15];
	for (int i = 0; i < 15; i++)
		in[i] = (char)i;
	assert_true(hash_sip(key, span_of(in, 15)) == 0xa129ca6149be45e5u);
	assert_true(hash_keyed(s) == hash_keyed(s));
	assert_true(hash_stable(SPAN("a")) == 0xaf63dc4c8601ec8cu);
}

static void test_limits(void **state)
{
	codec *const all[] = {
		base64_encode, base64_encode_lines, base64_decode_lenient, qp_encode,
		qp_decode,     hex_encode,	    base64_decode,	   hex_decode
	};
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct buf b = BUF_INIT(2);
		assert_int_equal(all[i](&b, SPAN("abcdabcd")), ERR_TOOBIG);
		buf_done(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base64), cmocka_unit_test(test_base64_lines),
		cmocka_unit_test(test_qp),     cmocka_unit_test(test_hex),
		cmocka_unit_test(test_hashes), cmocka_unit_test(test_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/err.h"
#include "tls/hash.h"

static void assert_hex(const uint8_t *p, size_t n, const char *hex)
{
	char text[129];
	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", p[i]);
	assert_string_equal(text, hex);
}

static void test_digests(void **state)
{
	uint8_t out[32];
	sha256(SPAN("abc"), out); /* FIPS 180-4 examples */
	assert_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256(SPAN_NULL, out);
	assert_hex(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha1(SPAN("abc"), out);
	assert_hex(out, 20, "a9993e364706816aba3e25717850c26c9cd0d89d");
}

static void test_hmac(void **state)
{
	uint8_t out[32];
	hmac_sha256(SPAN("Jefe"), SPAN("what do ya want for nothing?"), out); /* RFC 4231 4.3 */
	assert_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	hmac_sha256(SPAN_NULL, SPAN_NULL, out);
	assert_hex(out, 32, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void test_pbkdf2(void **state)
{
	uint8_t out[32];
	assert_int_equal(pbkdf2_sha256(SPAN("passwd"), SPAN("salt"), 1, out), 0); /* RFC 7914 11 */
	assert_hex(out, 32, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
	assert_int_equal(pbkdf2_sha256(SPAN("x"), SPAN("salt"), 0, out), ERR_INVAL);
	assert_int_equal(pbkdf2_sha256(SPAN_NULL, SPAN("salt"), 1, out), 0);
}

static void test_secrets(void **state)
{
	char a[] = "secret", b[] = "secreT";
	assert_true(secret_eq(a, a, 6));
	assert_false(secret_eq(a, b, 6));
	assert_true(secret_eq(a, b, 5));
	secret_wipe(a, 6);
	assert_memory_equal(a, "\0\0\0\0\0\0", 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digests),
		cmocka_unit_test(test_hmac),
		cmocka_unit_test(test_pbkdf2),
		cmocka_unit_test(test_secrets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

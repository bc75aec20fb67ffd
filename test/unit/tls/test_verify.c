#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "tls/hash.h"
#include "tls/sign.h"
#include "tls/verify.h"

static void round_trip(const struct sign_key *k, bool rsa, size_t size)
{
	_cleanup_(buf_donep) struct buf pub = BUF_INIT(2048), sig = BUF_INIT(1024);
	struct verify_key *v = NULL;
	uint8_t digest[32], other[32];

	sha256(SPAN("what was signed"), digest);
	sha256(SPAN("what was not"), other);
	assert_int_equal(sign_key_public(k, &pub), 0);
	assert_int_equal(sign_digest(k, digest, &sig), 0);
	assert_int_equal(sig.n, size);
	assert_int_equal(rsa ? verify_key_rsa(buf_span(&pub), &v, NULL)
			     : verify_key_ed25519(buf_span(&pub), &v),
			 0);
	assert_int_equal(verify_digest(v, digest, buf_span(&sig)), 0);
	assert_int_equal(verify_digest(v, other, buf_span(&sig)), ERR_AUTH);
	assert_int_equal(verify_digest(v, digest, span_sub(buf_span(&sig), 0, size - 1)), ERR_AUTH);
	assert_int_equal(verify_digest(v, digest, SPAN_NULL), ERR_AUTH);
	sig.p[0] ^= 1;
	assert_int_equal(verify_digest(v, digest, buf_span(&sig)), ERR_AUTH);
	verify_key_free(v);
}

static void test_round_trip(void **state)
{
	struct sign_key *k = NULL;

	assert_int_equal(sign_key_new_rsa(1024, &k), 0);
	assert_int_equal(sign_key_type(k), SIGN_RSA);
	round_trip(k, true, 128);
	sign_key_free(k);
	assert_int_equal(sign_key_new_ed25519(&k), 0);
	assert_int_equal(sign_key_type(k), SIGN_ED25519);
	round_trip(k, false, 64);
	sign_key_free(k);
	assert_int_equal(sign_key_from_seed((const uint8_t[32]){ 1, 2, 3 }, &k), 0);
	round_trip(k, false, 64);
	sign_key_free(k);
	verify_key_free(NULL);

	_cleanup_(buf_donep) struct buf b = BUF_INIT(100);
	assert_int_equal(sign_key_new_p256(&k), 0);
	assert_int_equal(sign_digest(k, (const uint8_t[32]){ 0 }, &b), ERR_UNSUPPORTED);
	sign_key_free(k);
}

/* A public key in DNS form with BITS and public exponent E; BARE: without the algorithm around it.
 */
static span rsa_public(unsigned bits, uint64_t e, bool bare, unsigned char **ret)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	EVP_PKEY *key = NULL;
	BIGNUM *bn = BN_new();

	BN_set_word(bn, e);
	assert_true(EVP_PKEY_keygen_init(ctx) == 1);
	assert_true(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)bits) == 1);
	assert_true(EVP_PKEY_CTX_set1_rsa_keygen_pubexp(ctx, bn) == 1);
	assert_true(EVP_PKEY_generate(ctx, &key) == 1);
	*ret = NULL;
	int n = bare ? i2d_PublicKey(key, ret) : i2d_PUBKEY(key, ret);
	BN_free(bn);
	EVP_PKEY_free(key);
	EVP_PKEY_CTX_free(ctx);
	return span_of(*ret, (size_t)n);
}

static void test_limits(void **state)
{
	static const struct {
		unsigned bits;
		uint64_t e;
		bool bare;
		int result;
	} cases[] = {
		{ 1024, 65537, false, 0 },
		{ 1024, 3, true, 0 },
		{ 1024, (1ull << 32) + 1, false, 0 },
		{ 512, 65537, false, ERR_UNSUPPORTED },
		{ 1024, (1ull << 40) + 1, false, ERR_UNSUPPORTED },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned char *der;
		unsigned bits = 0;
		struct verify_key *v = NULL;
		span s = rsa_public(cases[i].bits, cases[i].e, cases[i].bare, &der);
		assert_int_equal(verify_key_rsa(s, &v, &bits), cases[i].result);
		assert_int_equal(bits, cases[i].bits);
		verify_key_free(v);
		v = NULL;
		assert_int_equal(verify_key_rsa(span_sub(s, 0, s.n - 1), &v, NULL), ERR_SYNTAX);
		assert_int_equal(verify_key_ed25519(s, &v), ERR_SYNTAX);
		OPENSSL_free(der);
	}
	struct verify_key *v = NULL;
	assert_int_equal(verify_key_rsa(SPAN_NULL, &v, NULL), ERR_SYNTAX);
	assert_int_equal(verify_key_rsa(SPAN("no key at all"), &v, NULL), ERR_SYNTAX);
}

static void test_stream(void **state)
{
	struct sha256_stream *s = sha256_begin();
	uint8_t once[32], pieces[32];

	sha256(SPAN("one two"), once);
	sha256_add(s, SPAN("one"));
	sha256_add(s, SPAN_NULL);
	sha256_add(s, SPAN(" two"));
	sha256_end(s, pieces);
	assert_memory_equal(once, pieces, 32);
	sha256_end(sha256_begin(), NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_stream),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

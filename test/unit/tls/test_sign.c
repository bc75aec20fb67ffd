#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include "tls/sign.h"

/* Another door of the library: key from the bare point, signature from the bare numbers. */
static bool verifies(const uint8_t pub[64], const uint8_t sig[64], span in)
{
	uint8_t point[65] = { 0x04 };
	memcpy(point + 1, pub, 64);
	char group[] = "P-256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
		OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
		OSSL_PARAM_construct_end(),
	};
	EVP_PKEY *key = NULL;
	EVP_PKEY_CTX *kctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	assert_true(EVP_PKEY_fromdata_init(kctx) == 1);
	assert_true(EVP_PKEY_fromdata(kctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1);

	ECDSA_SIG *s = ECDSA_SIG_new();
	ECDSA_SIG_set0(s, BN_bin2bn(sig, 32, NULL), BN_bin2bn(sig + 32, 32, NULL));
	unsigned char *der = NULL;
	int n = i2d_ECDSA_SIG(s, &der);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_DigestVerifyInit_ex(ctx, NULL, "SHA256", NULL, NULL, key, NULL);
	bool ok = EVP_DigestVerify(ctx, der, (size_t)n, (const unsigned char *)in.p, in.n) == 1;
	EVP_MD_CTX_free(ctx);
	OPENSSL_free(der);
	ECDSA_SIG_free(s);
	EVP_PKEY_free(key);
	EVP_PKEY_CTX_free(kctx);
	return ok;
}

static void test_sign_verifies(void **state)
{
	struct sign_key *k = NULL;
	uint8_t pub[64], sig[64];
	assert_int_equal(sign_key_new_p256(&k), 0);
	assert_int_equal(sign_key_public_p256(k, pub), 0);
	/* Often enough that r or s begins with a zero byte, which must be padded. */
	for (int i = 0; i < 600; i++) {
		assert_int_equal(sign_p256(k, SPAN("a zone's records"), sig), 0);
		assert_true(verifies(pub, sig, SPAN("a zone's records")));
	}
	assert_false(verifies(pub, sig, SPAN("a zone's recordz")));
	sign_key_free(k);
	sign_key_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_sign_verifies) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Tokens by keys that are made as the test runs, good ones and every way to be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/arena.h"
#include "base/codec.h"
#include "sasl/jwt.h"
#include "tls/verify.h"

#define NOW (1700000000 * USEC_SEC)

enum { RSA2048, EC256, ED25519, STRANGER, KEYS };
static EVP_PKEY *keys[KEYS];
static struct jwks *set;
static struct arena mem;

/* ------------------------------------------------------------------ making keys and tokens */

static span b64(span raw)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(65536);
	char *out;
	size_t n = 0;

	base64_encode(&b, raw);
	out = arena_alloc(&mem, b.n + 1);
	for (size_t i = 0; i < b.n && b.p[i] != '='; i++)
		out[n++] = b.p[i] == '+' ? '-' : b.p[i] == '/' ? '_' : b.p[i];
	return span_of(out, n);
}

static span number(EVP_PKEY *k, const char *name)
{
	BIGNUM *n = NULL;
	uint8_t bytes[512];

	assert_int_equal(EVP_PKEY_get_bn_param(k, name, &n), 1);
	/* A coordinate may begin with zeros. */
	int size = EVP_PKEY_get_base_id(k) == EVP_PKEY_EC ? 32 : BN_num_bytes(n);
	assert_true(BN_bn2binpad(n, bytes, size) > 0);
	BN_free(n);
	return b64(arena_span(&mem, span_of(bytes, (size_t)size)));
}

/* What KEY's JSON Web Key says of the key itself. */
static const char *jwk(int key)
{
	uint8_t raw[32];
	size_t n = sizeof(raw);

	switch (EVP_PKEY_get_base_id(keys[key])) {
	case EVP_PKEY_RSA:
		return arena_printf(&mem, "\"kty\":\"RSA\",\"n\":\"%.*s\",\"e\":\"%.*s\"",
				    SPAN_FMT(number(keys[key], OSSL_PKEY_PARAM_RSA_N)),
				    SPAN_FMT(number(keys[key], OSSL_PKEY_PARAM_RSA_E)));
	case EVP_PKEY_EC:
		return arena_printf(
			&mem, "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%.*s\",\"y\":\"%.*s\"",
			SPAN_FMT(number(keys[key], OSSL_PKEY_PARAM_EC_PUB_X)),
			SPAN_FMT(number(keys[key], OSSL_PKEY_PARAM_EC_PUB_Y)));
	default:
		assert_int_equal(EVP_PKEY_get_raw_public_key(keys[key], raw, &n), 1);
		return arena_printf(&mem, "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%.*s\"",
				    SPAN_FMT(b64(span_of(raw, n))));
	}
}

/* r || s of the DER form. */
static size_t flatten(const uint8_t *der, size_t n, uint8_t ret[64])
{
	ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &der, (long)n);

	assert_non_null(s);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(s), ret, 32), 32);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(s), ret + 32, 32), 32);
	ECDSA_SIG_free(s);
	return 64;
}

/* KEY's signature of TEXT, as JWS has it. */
static span sign(int key, span text)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t sig[512], flat[64];
	size_t n = sizeof(sig);

	assert_int_equal(EVP_DigestSignInit(ctx, NULL, key == ED25519 ? NULL : EVP_sha256(), NULL,
					    keys[key]),
			 1);
	assert_int_equal(EVP_DigestSign(ctx, sig, &n, (const unsigned char *)text.p, text.n), 1);
	EVP_MD_CTX_free(ctx);
	if (key == EC256) {
		n = flatten(sig, n, flat);
		memcpy(sig, flat, n);
	}
	return arena_span(&mem, span_of(sig, n));
}

static span join(const char *header, const char *claims)
{
	return span_str(arena_printf(&mem, "%.*s.%.*s", SPAN_FMT(b64(span_str(header))),
				     SPAN_FMT(b64(span_str(claims)))));
}

static span token(int key, const char *header, const char *claims)
{
	span text = join(header, claims);

	return span_str(
		arena_printf(&mem, "%.*s.%.*s", SPAN_FMT(text), SPAN_FMT(b64(sign(key, text)))));
}

static int setup(void **state)
{
	arena_init(&mem);
	keys[RSA2048] = EVP_RSA_gen(2048);
	keys[STRANGER] = EVP_RSA_gen(2048);
	keys[EC256] = EVP_EC_gen("P-256");
	keys[ED25519] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	const char *text = arena_printf(&mem,
					"{\"keys\":[{\"kid\":\"r\",%s},{\"kid\":\"e\",%s},"
					"{\"kid\":\"d\",\"alg\":\"EdDSA\",\"use\":\"sig\",%s}]}",
					jwk(RSA2048), jwk(EC256), jwk(ED25519));
	return jwks_parse(span_str(text), &set, NULL);
}

static int teardown(void **state)
{
	jwks_free(set);
	for (int i = 0; i < KEYS; i++)
		EVP_PKEY_free(keys[i]);
	arena_done(&mem);
	return 0;
}

/* ------------------------------------------------------------------ tests */

#define CLAIMS	   "{\"iss\":\"https://i\",\"aud\":\"us\",\"exp\":1700000060,\"email\":\"a@b.test\"}"
#define WITH(more) "{\"iss\":\"https://i\",\"aud\":\"us\",\"exp\":1700000060," more "}"

static const struct jwt_check check = { SPAN("https://i"), SPAN("us"), NOW };

static int verify(span t)
{
	json_t *claims = NULL;
	const char *why = NULL;
	int r = jwt_verify(t, set, &check, &claims, &why);

	if (r == 0)
		assert_true(span_eq_str(json_str(claims, "iss"), "https://i"));
	else
		assert_true(!claims && why);
	json_decref(claims);
	return r;
}

static const char *const headers[] = { [RSA2048] = "{\"alg\":\"RS256\",\"kid\":\"r\"}",
				       [EC256] = "{\"alg\":\"ES256\",\"kid\":\"e\"}",
				       [ED25519] = "{\"alg\":\"EdDSA\",\"kid\":\"d\"}" };

static void test_good(void **state)
{
	static const char *const claims[] = {
		CLAIMS,
		WITH("\"nbf\":1700000000"),
		"{\"iss\":\"https://i\",\"aud\":[\"x\",\"us\"],\"exp\":1700000060}",
		"{\"iss\":\"https://i\",\"aud\":\"us\",\"exp\":1699999941}", /* within the leeway */
		"{\"iss\":\"https://i\",\"aud\":\"us\",\"exp\":1700000060.5}",
	};
	for (int key = RSA2048; key <= ED25519; key++)
		for (size_t i = 0; i < ARRAY_LEN(claims); i++)
			assert_int_equal(verify(token(key, headers[key], claims[i])), 0);
	assert_int_equal(
		verify(token(RSA2048, "{\"alg\":\"RS256\",\"kid\":\"r\",\"typ\":\"at+jwt\"}",
			     CLAIMS)),
		0);
}

static void test_bad_headers(void **state)
{
	static const struct {
		int key;
		const char *header;
		int error;
	} cases[] = {
		{ RSA2048, "{\"alg\":\"none\",\"kid\":\"r\"}", ERR_AUTH },
		{ RSA2048, "{\"kid\":\"r\"}", ERR_AUTH },
		{ RSA2048, "{\"alg\":\"ES256\",\"kid\":\"r\"}", ERR_AUTH },
		{ RSA2048, "{\"alg\":\"RS512\",\"kid\":\"r\"}", ERR_AUTH },
		{ RSA2048, "{\"alg\":\"rs256\",\"kid\":\"r\"}", ERR_AUTH },
		{ EC256, "{\"alg\":\"RS256\",\"kid\":\"r\"}", ERR_AUTH },
		{ STRANGER, "{\"alg\":\"RS256\",\"kid\":\"r\"}", ERR_AUTH },
		{ RSA2048, "{\"alg\":\"RS256\",\"kid\":\"R\"}", ERR_NOENT },
		{ RSA2048, "{\"alg\":\"RS256\"}", ERR_NOENT }, /* there are several */
		{ RSA2048, "{\"alg\":\"RS256\",\"kid\":\"r\",\"crit\":[]}", ERR_AUTH },
		{ RSA2048, "{\"alg\":\"RS256\",\"kid\":\"r\",\"typ\":\"dpop+jwt\"}", ERR_AUTH },
		{ RSA2048, "[]", ERR_AUTH },
		{ RSA2048, "{", ERR_AUTH },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (verify(token(cases[i].key, cases[i].header, CLAIMS)) != cases[i].error)
			fail_msg("%s", cases[i].header);
}

static void test_bad_claims(void **state)
{
	static const char *const cases[] = {
		"{\"aud\":\"us\",\"exp\":1700000060}",
		"{\"iss\":\"https://i\",\"exp\":1700000060}",
		"{\"iss\":\"https://i\",\"aud\":\"us\"}",
		"{\"iss\":\"https://i/\",\"aud\":\"us\",\"exp\":1700000060}",
		"{\"iss\":[\"https://i\"],\"aud\":\"us\",\"exp\":1700000060}",
		"{\"iss\":\"https://i\",\"aud\":\"US\",\"exp\":1700000060}",
		"{\"iss\":\"https://i\",\"aud\":[],\"exp\":1700000060}",
		"{\"iss\":\"https://i\",\"aud\":[[\"us\"]],\"exp\":1700000060}",
		"{\"iss\":\"https://i\",\"aud\":\"us\",\"exp\":1699999940}",
		"{\"iss\":\"https://i\",\"aud\":\"us\",\"exp\":\"1700000060\"}",
		"{\"iss\":\"https://i\",\"aud\":\"us\",\"exp\":-1}",
		"{\"iss\":\"https://i\",\"aud\":\"us\",\"exp\":1e300}",
		WITH("\"nbf\":1700000061"),
		WITH("\"nbf\":null"),
		WITH("\"iss\":\"https://i\""), /* said twice */
		"[]",
		"\"x\"",
		"",
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (verify(token(RSA2048, headers[RSA2048], cases[i])) != ERR_AUTH)
			fail_msg("%s", cases[i]);
}

/* A signature is good for one text, one key, and in one form. */
static void test_bad_signatures(void **state)
{
	span text = join("{\"alg\":\"HS256\",\"kid\":\"r\"}", CLAIMS);
	unsigned char *public = NULL, mac[32];
	unsigned n = sizeof(mac);
	int size = i2d_PUBKEY(keys[RSA2048], &public);

	HMAC(EVP_sha256(), public, size, (const unsigned char *)text.p, text.n, mac, &n);
	OPENSSL_free(public);
	span forged = span_str(
		arena_printf(&mem, "%.*s.%.*s", SPAN_FMT(text), SPAN_FMT(b64(span_of(mac, n)))));
	assert_int_equal(verify(forged), ERR_AUTH);
	for (int key = RSA2048; key <= ED25519; key++) {
		span good = token(key, headers[key], CLAIMS);
		char *z = arena_cstr(&mem, good);
		size_t dot = strrchr(z, '.') - z;

		for (size_t i = 0; i < good.n; i += 7) {
			z[i] ^= 1;
			if (verify(span_str(z)) == 0)
				fail_msg("key %d, octet %zu", key, i);
			z[i] ^= 1;
		}
		assert_int_equal(verify(span_sub(good, 0, dot)), ERR_AUTH);
		assert_int_equal(verify(span_sub(good, 0, dot + 1)), ERR_AUTH);
		assert_int_equal(verify(span_sub(good, 0, good.n - 4)), ERR_AUTH);
		assert_int_equal(verify(span_str(arena_printf(&mem, "%s.", z))), ERR_AUTH);
		assert_int_equal(verify(span_str(arena_printf(&mem, "%s=", z))), ERR_AUTH);
	}
	assert_int_equal(verify(SPAN("")), ERR_AUTH);
	assert_int_equal(verify(SPAN("..")), ERR_AUTH);
}

static void test_size(void **state)
{
	for (size_t pad = 4000; pad < 16000; pad += 4000) {
		char *fill = arena_alloc(&mem, pad + 1);

		memset(fill, 'x', pad);
		fill[pad] = '\0';
		span t = token(RSA2048, headers[RSA2048],
			       arena_printf(&mem, WITH("\"x\":\"%s\""), fill));
		json_t *claims = NULL;
		span issuer;

		assert_int_equal(verify(t), t.n <= JWT_MAX ? 0 : ERR_AUTH);
		assert_int_equal(jwt_peek(t, &claims, &issuer), t.n <= JWT_MAX);
		json_decref(claims);
	}
}

static void test_key_sets(void **state)
{
	static const char *const none[] = {
		"",
		"[]",
		"{}",
		"{\"keys\":{}}",
		"{\"keys\":[]}",
		"{\"keys\":[1,null,[]]}",
		"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
		"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}",
		"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}",
	};
	struct jwks *one = NULL;
	json_t *claims = NULL;
	const char *why;

	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		if (jwks_parse(span_str(none[i]), &one, NULL) == 0)
			fail_msg("%s", none[i]);
	assert_int_not_equal(
		jwks_parse(span_str(arena_printf(&mem, "{\"keys\":[{\"use\":\"enc\",%s}]}",
						 jwk(RSA2048))),
			   &one, NULL),
		0);
	assert_int_not_equal(
		jwks_parse(span_str(arena_printf(&mem, "{\"keys\":[{\"alg\":\"PS256\",%s}]}",
						 jwk(RSA2048))),
			   &one, NULL),
		0);
	/* The only key needs no name. */
	assert_int_equal(jwks_parse(span_str(arena_printf(&mem, "{\"keys\":[{%s}]}", jwk(EC256))),
				    &one, NULL),
			 0);
	assert_int_equal(
		jwt_verify(token(EC256, "{\"alg\":\"ES256\"}", CLAIMS), one, &check, &claims, &why),
		0);
	json_decref(claims);
	jwks_free(one);
}

/* The signatures by themselves (tls/verify.h). */
static void test_verify_message(void **state)
{
	uint8_t raw[32];
	size_t n = sizeof(raw);
	struct verify_key *k;
	span text = SPAN("what was signed"), sig = sign(ED25519, text), wrong;

	EVP_PKEY_get_raw_public_key(keys[ED25519], raw, &n);
	assert_int_equal(verify_key_ed25519(span_of(raw, n), &k), 0);
	assert_int_equal(verify_message(k, text, sig), 0);
	assert_int_equal(verify_message(k, SPAN("what was not"), sig), ERR_AUTH);
	assert_int_equal(verify_message(k, text, span_sub(sig, 0, 63)), ERR_AUTH);
	assert_int_equal(verify_message(k, text, SPAN_NULL), ERR_AUTH);
	wrong = sign(EC256, text);
	assert_int_equal(verify_message(k, text, wrong), ERR_AUTH);
	verify_key_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),	       cmocka_unit_test(test_bad_headers),
		cmocka_unit_test(test_bad_claims),     cmocka_unit_test(test_bad_signatures),
		cmocka_unit_test(test_size),	       cmocka_unit_test(test_key_sets),
		cmocka_unit_test(test_verify_message),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}

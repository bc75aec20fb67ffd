/* Public keys, and signatures checked with them. */
#include "tls/verify.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "base/arena.h"
#include "tls/sign.h"

#define DER_MAX 2048 /* a 4096-bit key takes 550 bytes */

struct verify_key {
	EVP_PKEY *pkey;
	enum sign_type type;
};

static void key_wrap(EVP_PKEY *pkey, enum sign_type type, struct verify_key **ret)
{
	struct verify_key *k = xmalloc(sizeof(*k));

	*k = (struct verify_key){ .pkey = pkey, .type = type };
	*ret = k;
}

/* Both outer forms are met in the wild, and neither can be taken for the other. */
static EVP_PKEY *rsa_decode(span der)
{
	const unsigned char *at = (const unsigned char *)der.p, *end = at + der.n;
	EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)der.n);

	if (!pkey) {
		at = (const unsigned char *)der.p;
		pkey = d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, (long)der.n);
	}
	if (pkey && (at != end || EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA)) {
		EVP_PKEY_free(pkey);
		return NULL;
	}
	return pkey;
}

static bool exponent_fits(const EVP_PKEY *pkey)
{
	BIGNUM *e = NULL;
	bool ok = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_odd(e) &&
		  !BN_is_one(e) && BN_num_bits(e) <= VERIFY_EXPONENT_BITS;

	BN_free(e);
	return ok;
}

int verify_key_rsa(span der, struct verify_key **ret, unsigned *ret_bits)
{
	EVP_PKEY *pkey;
	int bits;

	if (!der.n || der.n > DER_MAX)
		return ERR_SYNTAX;
	ERR_clear_error();
	pkey = rsa_decode(der);
	if (!pkey)
		return ERR_SYNTAX;
	bits = EVP_PKEY_get_bits(pkey);
	if (ret_bits)
		*ret_bits = bits > 0 ? (unsigned)bits : 0;
	if (bits < SIGN_RSA_MIN || bits > SIGN_RSA_MAX || !exponent_fits(pkey)) {
		EVP_PKEY_free(pkey);
		return ERR_UNSUPPORTED;
	}
	key_wrap(pkey, SIGN_RSA, ret);
	return 0;
}

int verify_key_ed25519(span raw, struct verify_key **ret)
{
	EVP_PKEY *pkey;

	if (raw.n != 32)
		return ERR_SYNTAX;
	ERR_clear_error();
	pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)raw.p,
					   raw.n);
	if (!pkey)
		return ERR_SYNTAX;
	key_wrap(pkey, SIGN_ED25519, ret);
	return 0;
}

/* A key of TYPE from what PARAMS hold; NULL. */
static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *build)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
	EVP_PKEY *pkey = NULL;

	if (ctx && params && EVP_PKEY_fromdata_init(ctx) == 1 &&
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	OSSL_PARAM_free(params);
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

int verify_key_rsa_numbers(span modulus, span exponent, struct verify_key **ret)
{
	int r = ERR_UNSUPPORTED;

	if (!modulus.n || modulus.n > SIGN_RSA_MAX / 8 || !exponent.n || exponent.n > 8)
		return r;
	ERR_clear_error();
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	BIGNUM *n = BN_bin2bn((const unsigned char *)modulus.p, (int)modulus.n, NULL);
	BIGNUM *e = BN_bin2bn((const unsigned char *)exponent.p, (int)exponent.n, NULL);
	EVP_PKEY *pkey = NULL;
	if (build && n && e && BN_num_bits(n) >= VERIFY_TOKEN_RSA_MIN && BN_is_odd(n) &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		pkey = from_params("RSA", build);
	if (pkey && exponent_fits(pkey)) {
		key_wrap(pkey, SIGN_RSA, ret);
		pkey = NULL;
		r = 0;
	}
	EVP_PKEY_free(pkey);
	BN_free(n);
	BN_free(e);
	OSSL_PARAM_BLD_free(build);
	ERR_clear_error();
	return r;
}

int verify_key_p256(span x, span y, struct verify_key **ret)
{
	unsigned char point[65] = { POINT_CONVERSION_UNCOMPRESSED };
	EVP_PKEY *pkey = NULL;

	if (x.n != 32 || y.n != 32)
		return ERR_SYNTAX;
	memcpy(point + 1, x.p, 32);
	memcpy(point + 33, y.p, 32);
	ERR_clear_error();
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	if (build &&
	    OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point,
					     sizeof(point)) == 1)
		pkey = from_params("EC", build);
	OSSL_PARAM_BLD_free(build);
	ERR_clear_error();
	if (!pkey)
		return ERR_SYNTAX;
	key_wrap(pkey, SIGN_P256, ret);
	return 0;
}

enum sign_type verify_key_type(const struct verify_key *k)
{
	return k->type;
}

void verify_key_free(struct verify_key *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->pkey);
	free(k);
}

static bool rsa_verifies(EVP_PKEY *pkey, const uint8_t digest[32], span sig)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
	bool ok = ctx && EVP_PKEY_verify_init(ctx) == 1 &&
		  EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
		  EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
		  EVP_PKEY_verify(ctx, (const unsigned char *)sig.p, sig.n, digest, 32) == 1;

	EVP_PKEY_CTX_free(ctx);
	return ok;
}

/* MD: NULL where the algorithm brings its own. */
static bool message_verifies(EVP_PKEY *pkey, const EVP_MD *md, span message, span sig)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, md, NULL, pkey) == 1 &&
		  EVP_DigestVerify(ctx, (const unsigned char *)sig.p, sig.n,
				   (const unsigned char *)message.p, message.n) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

int verify_digest(const struct verify_key *k, const uint8_t digest[32], span sig)
{
	bool ok;

	if (!sig.n)
		return ERR_AUTH;
	ERR_clear_error();
	ok = k->type == SIGN_RSA       ? rsa_verifies(k->pkey, digest, sig)
	     : k->type == SIGN_ED25519 ? message_verifies(k->pkey, NULL, span_of(digest, 32), sig)
				       : false;
	ERR_clear_error();
	return ok ? 0 : ERR_AUTH;
}

/* OpenSSL wants the two numbers of ES256 as DER. */
static bool p256_verifies(EVP_PKEY *pkey, span message, span sig)
{
	const unsigned char *at = (const unsigned char *)sig.p;
	unsigned char *der = NULL;
	int n = -1;

	if (sig.n != 64)
		return false;
	ECDSA_SIG *pair = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(at, 32, NULL), *s = BN_bin2bn(at + 32, 32, NULL);
	if (pair && r && s && ECDSA_SIG_set0(pair, r, s) == 1) {
		r = s = NULL;
		n = i2d_ECDSA_SIG(pair, &der);
	}
	bool ok = n > 0 && message_verifies(pkey, EVP_sha256(), message, span_of(der, (size_t)n));
	OPENSSL_free(der);
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(pair);
	return ok;
}

int verify_message(const struct verify_key *k, span message, span sig)
{
	bool ok = false;

	if (!sig.n)
		return ERR_AUTH;
	ERR_clear_error();
	switch (k->type) {
	case SIGN_RSA: /* PKCS#1 v1.5 is what a context starts with */
		ok = message_verifies(k->pkey, EVP_sha256(), message, sig);
		break;
	case SIGN_P256:
		ok = p256_verifies(k->pkey, message, sig);
		break;
	case SIGN_ED25519:
		ok = message_verifies(k->pkey, NULL, message, sig);
		break;
	}
	ERR_clear_error();
	return ok ? 0 : ERR_AUTH;
}

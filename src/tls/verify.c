/* Public keys from DNS, and signatures checked with them. */
#include "tls/verify.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "base/arena.h"
#include "tls/sign.h"

#define DER_MAX 2048 /* a 4096-bit key takes 550 bytes */

struct verify_key {
	EVP_PKEY *pkey;
	bool rsa;
};

static void key_wrap(EVP_PKEY *pkey, bool rsa, struct verify_key **ret)
{
	struct verify_key *k = xmalloc(sizeof(*k));

	*k = (struct verify_key){ .pkey = pkey, .rsa = rsa };
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
	key_wrap(pkey, true, ret);
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
	key_wrap(pkey, false, ret);
	return 0;
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

static bool ed25519_verifies(EVP_PKEY *pkey, const uint8_t digest[32], span sig)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
		  EVP_DigestVerify(ctx, (const unsigned char *)sig.p, sig.n, digest, 32) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

int verify_digest(const struct verify_key *k, const uint8_t digest[32], span sig)
{
	bool ok;

	if (!sig.n)
		return ERR_AUTH;
	ERR_clear_error();
	ok = k->rsa ? rsa_verifies(k->pkey, digest, sig) : ed25519_verifies(k->pkey, digest, sig);
	ERR_clear_error();
	return ok ? 0 : ERR_AUTH;
}

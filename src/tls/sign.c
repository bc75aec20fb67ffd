/* ECDSA P-256 signatures in the fixed-width form that DNSSEC and JOSE use. */
#include "tls/sign.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/arena.h"

struct sign_key {
	EVP_PKEY *pkey;
};

int sign_key_new_p256(struct sign_key **ret)
{
	ERR_clear_error();
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	if (!pkey)
		return ERR_INTERNAL;
	struct sign_key *k = xmalloc(sizeof(*k));
	k->pkey = pkey;
	*ret = k;
	return 0;
}

void sign_key_free(struct sign_key *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->pkey);
	free(k);
}

int sign_key_public_p256(const struct sign_key *k, uint8_t ret[64])
{
	uint8_t point[65]; /* 0x04 || x || y */
	size_t n = 0;
	ERR_clear_error();
	if (EVP_PKEY_get_octet_string_param(k->pkey, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point),
					    &n) != 1 ||
	    n != sizeof(point) || point[0] != 0x04)
		return ERR_INTERNAL;
	memcpy(ret, point + 1, 64);
	return 0;
}

int sign_p256(const struct sign_key *k, span in, uint8_t ret[64])
{
	uint8_t der[80];
	size_t n = sizeof(der);
	ERR_clear_error();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx &&
		  EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, k->pkey, NULL) == 1 &&
		  EVP_DigestSign(ctx, der, &n, (const unsigned char *)(in.n ? in.p : ""), in.n) ==
			  1;
	EVP_MD_CTX_free(ctx);
	if (!ok)
		return ERR_INTERNAL;

	const unsigned char *at = der;
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
	ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), ret, 32) == 32 &&
	     BN_bn2binpad(ECDSA_SIG_get0_s(sig), ret + 32, 32) == 32;
	ECDSA_SIG_free(sig);
	return ok ? 0 : ERR_INTERNAL;
}

/* Private keys that sign: ECDSA P-256 in the fixed-width form that DNSSEC and JOSE use, RSA and
 * Ed25519 for mail. */
#include "tls/sign.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "base/arena.h"

struct sign_key {
	EVP_PKEY *pkey;
};

static int key_wrap(EVP_PKEY *pkey, struct sign_key **ret)
{
	if (!pkey)
		return ERR_INTERNAL;
	struct sign_key *k = xmalloc(sizeof(*k));
	k->pkey = pkey;
	*ret = k;
	return 0;
}

int sign_key_new_p256(struct sign_key **ret)
{
	ERR_clear_error();
	return key_wrap(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), ret);
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

/* ------------------------------------------------------------------ mail signatures */

#define PEM_MAX 16384

int sign_key_new_rsa(unsigned bits, struct sign_key **ret)
{
	if (bits < SIGN_RSA_MIN || bits > SIGN_RSA_MAX)
		return ERR_INVAL;
	ERR_clear_error();
	return key_wrap(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)bits), ret);
}

int sign_key_new_ed25519(struct sign_key **ret)
{
	ERR_clear_error();
	return key_wrap(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), ret);
}

int sign_key_from_seed(const uint8_t seed[32], struct sign_key **ret)
{
	ERR_clear_error();
	return key_wrap(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32), ret);
}

/* Never asks a person: an encrypted key simply does not parse. */
static int no_passphrase(char *to, int size, int writing, void *arg)
{
	return -1;
}

static bool signs_mail(EVP_PKEY *pkey)
{
	int bits = EVP_PKEY_get_bits(pkey);

	return EVP_PKEY_is_a(pkey, "ED25519") ||
	       (EVP_PKEY_is_a(pkey, "RSA") && bits >= SIGN_RSA_MIN && bits <= SIGN_RSA_MAX);
}

int sign_key_from_pem(span pem, struct sign_key **ret)
{
	if (!pem.n || pem.n > PEM_MAX)
		return ERR_SYNTAX;
	ERR_clear_error();
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	BIO_free(bio);
	ERR_clear_error();
	if (!pkey)
		return ERR_SYNTAX;
	if (!signs_mail(pkey)) {
		EVP_PKEY_free(pkey);
		return ERR_UNSUPPORTED;
	}
	return key_wrap(pkey, ret);
}

int sign_key_pem(const struct sign_key *k, struct buf *b)
{
	ERR_clear_error();
	BIO *bio = BIO_new(BIO_s_secmem());
	char *text = NULL;
	int e = ERR_INTERNAL;

	if (bio && PEM_write_bio_PKCS8PrivateKey(bio, k->pkey, NULL, NULL, 0, NULL, NULL) == 1) {
		long n = BIO_get_mem_data(bio, &text);
		e = buf_put(b, text, (size_t)n);
	}
	BIO_free(bio);
	return e;
}

enum sign_type sign_key_type(const struct sign_key *k)
{
	if (EVP_PKEY_is_a(k->pkey, "RSA"))
		return SIGN_RSA;
	return EVP_PKEY_is_a(k->pkey, "ED25519") ? SIGN_ED25519 : SIGN_P256;
}

int sign_key_public(const struct sign_key *k, struct buf *b)
{
	ERR_clear_error();
	if (sign_key_type(k) == SIGN_ED25519) {
		uint8_t raw[32];
		size_t n = sizeof(raw);
		if (EVP_PKEY_get_raw_public_key(k->pkey, raw, &n) != 1 || n != sizeof(raw))
			return ERR_INTERNAL;
		return buf_put(b, raw, n);
	}
	unsigned char *der = NULL;
	int n = i2d_PUBKEY(k->pkey, &der);
	if (n <= 0)
		return ERR_INTERNAL;
	int e = buf_put(b, der, (size_t)n);
	OPENSSL_free(der);
	return e;
}

static int rsa_sign(EVP_PKEY *pkey, const uint8_t digest[32], struct buf *b)
{
	uint8_t sig[SIGN_RSA_MAX / 8];
	size_t n = sizeof(sig);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
	bool ok = ctx && EVP_PKEY_sign_init(ctx) == 1 &&
		  EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
		  EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
		  EVP_PKEY_sign(ctx, sig, &n, digest, 32) == 1;

	EVP_PKEY_CTX_free(ctx);
	return ok ? buf_put(b, sig, n) : ERR_INTERNAL;
}

static int ed25519_sign(EVP_PKEY *pkey, const uint8_t digest[32], struct buf *b)
{
	uint8_t sig[64];
	size_t n = sizeof(sig);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
		  EVP_DigestSign(ctx, sig, &n, digest, 32) == 1;

	EVP_MD_CTX_free(ctx);
	return ok ? buf_put(b, sig, n) : ERR_INTERNAL;
}

int sign_digest(const struct sign_key *k, const uint8_t digest[32], struct buf *b)
{
	ERR_clear_error();
	switch (sign_key_type(k)) {
	case SIGN_RSA:
		return rsa_sign(k->pkey, digest, b);
	case SIGN_ED25519:
		return ed25519_sign(k->pkey, digest, b);
	case SIGN_P256:
		break;
	}
	return ERR_UNSUPPORTED;
}

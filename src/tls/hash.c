/* Hashes and MACs over OpenSSL's EVP. */
#include "tls/hash.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

/* Fetching walks the provider tables under a lock; the results live as long as the process. */
static struct {
	pthread_once_t once;
	EVP_MD *md[HASH_ALGS];
	EVP_MAC *hmac;
} algs = { .once = PTHREAD_ONCE_INIT };

static const struct {
	char name[8];
	size_t size;
} kinds[HASH_ALGS] = { [HASH_SHA1] = { "SHA1", 20 }, [HASH_SHA256] = { "SHA256", 32 } };

static void fetch_all(void)
{
	for (size_t i = 0; i < HASH_ALGS; i++)
		algs.md[i] = EVP_MD_fetch(NULL, kinds[i].name, NULL);
	algs.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
}

static void fetch(void)
{
	pthread_once(&algs.once, fetch_all);
}

/* These primitives cannot fail but by lack of memory or a broken library: no caller could go on. */
static void must(bool ok)
{
	if (!ok)
		abort();
}

size_t hash_size(enum hash_alg a)
{
	return kinds[a].size;
}

void hash_digest(enum hash_alg a, span in, uint8_t *ret)
{
	fetch();
	must(algs.md[a] && EVP_Digest(in.n ? in.p : "", in.n, ret, NULL, algs.md[a], NULL) == 1);
}

void sha256(span in, uint8_t ret[32])
{
	hash_digest(HASH_SHA256, in, ret);
}

void sha1(span in, uint8_t ret[20])
{
	hash_digest(HASH_SHA1, in, ret);
}

/* The stream is the library's context under our name. */
struct sha256_stream *sha256_begin(void)
{
	fetch();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	must(ctx && algs.md[HASH_SHA256] &&
	     EVP_DigestInit_ex2(ctx, algs.md[HASH_SHA256], NULL) == 1);
	return (struct sha256_stream *)ctx;
}

void sha256_add(struct sha256_stream *s, span in)
{
	must(EVP_DigestUpdate((EVP_MD_CTX *)s, in.p, in.n) == 1);
}

void sha256_end(struct sha256_stream *s, uint8_t ret[32])
{
	if (ret)
		must(EVP_DigestFinal_ex((EVP_MD_CTX *)s, ret, NULL) == 1);
	EVP_MD_CTX_free((EVP_MD_CTX *)s);
}

void hash_hmac(enum hash_alg a, span key, span in, uint8_t *ret)
{
	fetch();
	char name[sizeof(kinds[a].name)];
	memcpy(name, kinds[a].name, sizeof(name));
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
		OSSL_PARAM_construct_end(),
	};
	size_t n = 0;
	must(algs.hmac != NULL);
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(algs.hmac);
	/* A NULL key would mean "keep the last one", so an empty key is a pointer too. */
	must(ctx &&
	     EVP_MAC_init(ctx, (const unsigned char *)(key.n ? key.p : ""), key.n, params) == 1 &&
	     EVP_MAC_update(ctx, (const unsigned char *)in.p, in.n) == 1 &&
	     EVP_MAC_final(ctx, ret, &n, kinds[a].size) == 1 && n == kinds[a].size);
	EVP_MAC_CTX_free(ctx);
}

void hmac_sha256(span key, span in, uint8_t ret[32])
{
	hash_hmac(HASH_SHA256, key, in, ret);
}

void hmac_sha1(span key, span in, uint8_t ret[20])
{
	hash_hmac(HASH_SHA1, key, in, ret);
}

int hash_pbkdf2(enum hash_alg a, span password, span salt, uint32_t iterations, uint8_t *ret)
{
	if (iterations < 1 || iterations > INT_MAX || password.n > INT_MAX || salt.n > INT_MAX)
		return ERR_INVAL;
	fetch();
	uint8_t out[HASH_MAX];
	int ok = PKCS5_PBKDF2_HMAC(password.n ? password.p : "", (int)password.n,
				   (const unsigned char *)(salt.n ? salt.p : ""), (int)salt.n,
				   (int)iterations, algs.md[a], (int)kinds[a].size, out);
	if (ok == 1)
		memcpy(ret, out, kinds[a].size);
	secret_wipe(out, sizeof(out));
	return ok == 1 ? 0 : ERR_INTERNAL;
}

int pbkdf2_sha256(span password, span salt, uint32_t iterations, uint8_t ret[32])
{
	return hash_pbkdf2(HASH_SHA256, password, salt, iterations, ret);
}

int pbkdf2_sha1(span password, span salt, uint32_t iterations, uint8_t ret[20])
{
	return hash_pbkdf2(HASH_SHA1, password, salt, iterations, ret);
}

bool secret_eq(const void *a, const void *b, size_t n)
{
	return CRYPTO_memcmp(a, b, n) == 0;
}

void secret_wipe(void *p, size_t n)
{
	OPENSSL_cleanse(p, n);
}

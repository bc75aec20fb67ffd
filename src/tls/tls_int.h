/* What the files of tls/ share. */
#pragma once

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tls/tls.h"

/* Servers live in a library context of their own: our signature provider is visible there only. */
OSSL_LIB_CTX *tls_server_libctx(void);

/* The provider of remote keys, loaded into CTX. */
int provider_load(OSSL_LIB_CTX *ctx);
/* A key object for the public key PUB whose signatures come from key NUMBER of the keys role; NULL
 * if the type is neither EC nor RSA. */
EVP_PKEY *provider_key(OSSL_LIB_CTX *ctx, EVP_PKEY *pub, uint32_t number);

/* How a KEYS_SIGN message names digest and padding. */
enum keys_md { KEYS_MD_SHA256 = 1, KEYS_MD_SHA384, KEYS_MD_SHA512 };
enum keys_padding { KEYS_PAD_ECDSA = 1, KEYS_PAD_PKCS1, KEYS_PAD_PSS };

/* Asks the keys role over this thread's channel; blocks for at most KEYS_TIMEOUT. */
#define KEYS_TIMEOUT (5 * USEC_SEC)
int keys_ask(uint32_t key, uint8_t md, uint8_t padding, span tbs, uint8_t *ret_sig, size_t max,
	     size_t *ret_n);

/* tls-server-end-point (RFC 5929 4.1) of CERT; 0 if its signature algorithm has no single hash. */
#define TLS_ENDPOINT_MAX 64
uint8_t tls_endpoint(const X509 *cert, uint8_t ret[TLS_ENDPOINT_MAX]);

/* The addresses that X names, separated by LF: those in its subjectAltName, else those in its subject.
 * The caller frees; NULL: none. */
char *tls_cert_emails(X509 *x);

struct tls_server {
	atomic_int refs;
	struct tls_identity *identities; /* the first is the fallback, and decides about tickets */
	size_t n;
	bool client_ca;
	pthread_rwlock_t ticket_lock;
	uint8_t (*tickets)[80];
	size_t n_tickets;
};
SSL_CTX *tls_server_ctx(struct tls_server *s);

struct tls_client {
	SSL_CTX *ctx;
};

/* The options that clients and servers have in common. */
void tls_ctx_common(SSL_CTX *ctx);

/* The reason of the newest error in this thread's queue: static text of the library, or FALLBACK.
 */
const char *tls_error_text(const char *fallback);

/* Client side: trust anchors. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>

#include "base/arena.h"
#include "tls/tls_int.h"

/* Anchors that do not parse are skipped by the reader; what counts is that some remain. */
static size_t add_anchors(X509_STORE *store, span pem)
{
	size_t n = 0;
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	X509 *x;
	while (bio && (x = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL))) {
		n += X509_STORE_add_cert(store, x) == 1;
		X509_free(x);
	}
	BIO_free(bio);
	ERR_clear_error(); /* the end of the input is an error there */
	return n;
}

int tls_client_new(span ca_pem, struct tls_client **ret, struct err_info *info)
{
	int r = tls_init(info);
	if (r < 0)
		return r;
	if (ca_pem.n > 64u << 20)
		return err_set(info, ERR_TOOBIG, "trust anchors are longer than 64 MiB");
	ERR_clear_error();
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx)
		return err_set(info, ERR_TLS, "no client context: %s",
			       tls_error_text("unknown reason"));
	tls_ctx_common(ctx);
	/* Each connection proves the server's identity anew: a resumed one would skip that. */
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	if (ca_pem.n > 0 && add_anchors(SSL_CTX_get_cert_store(ctx), ca_pem) == 0) {
		SSL_CTX_free(ctx);
		return err_set(info, ERR_SYNTAX, "trust anchors: no PEM certificate");
	}
	struct tls_client *c = xmalloc(sizeof(*c));
	c->ctx = ctx;
	*ret = c;
	return 0;
}

void tls_client_free(struct tls_client *c)
{
	if (!c)
		return;
	SSL_CTX_free(c->ctx);
	free(c);
}

void tls_client_trust(struct tls_client *c, void *ssl_ctx)
{
	SSL_CTX_set1_cert_store(ssl_ctx, SSL_CTX_get_cert_store(c->ctx));
}

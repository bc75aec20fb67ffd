/* Server side: certificates and the choice between them, tickets. */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/arena.h"
#include "tls/hash.h"
#include "tls/tls_int.h"

/* One context holds at most one certificate of each key type; both have the same names. */
struct tls_identity {
	SSL_CTX *ctx;
	X509 *leaf; /* of the first chain; answers "is this name yours?" */
	bool has_ec, has_rsa;
};

/* Key exchange is ephemeral and encryption authenticated; RSA key transport would need a decrypt
 * door. */
#define SERVER_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"
#define SERVER_GROUPS  "X25519:P-256:P-384"

void tls_ctx_common(SSL_CTX *ctx)
{
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* All our protocols frame their content, so a lost close_notify truncates nothing unseen.
	 */
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}

/* ------------------------------------------------------------------ bindings */

uint8_t tls_endpoint(const X509 *cert, uint8_t ret[TLS_ENDPOINT_MAX])
{
	int nid = NID_undef;
	if (!cert || X509_get_signature_info((X509 *)cert, &nid, NULL, NULL, NULL) != 1)
		return 0;
	if (nid == NID_md5 || nid == NID_sha1)
		nid = NID_sha256;
	const EVP_MD *md = nid == NID_undef ? NULL : EVP_get_digestbynid(nid);
	unsigned n = 0;
	if (!md || X509_digest(cert, md, ret, &n) != 1 || n > TLS_ENDPOINT_MAX)
		return 0;
	return (uint8_t)n;
}

/* A resumed session may name another certificate than the handshake that made it, so the binding
 * travels in the ticket; a ticket made on resumption already carries it. */
static int ticket_made(SSL *ssl, void *arg)
{
	uint8_t endpoint[TLS_ENDPOINT_MAX];
	if (SSL_session_reused(ssl))
		return 1;
	uint8_t n = tls_endpoint(SSL_get_certificate(ssl), endpoint);
	return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), endpoint, n);
}

static SSL_TICKET_RETURN ticket_taken(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
				      size_t n, SSL_TICKET_STATUS status, void *arg)
{
	/* A certificate is verified at each handshake: it may have expired since, or its CA be gone. */
	if (session && SSL_SESSION_get0_peer(session))
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	switch (status) {
	case SSL_TICKET_SUCCESS:
		/* A client uses a TLS 1.3 ticket once (RFC 8446 C.4), so it gets the next one. */
		return SSL_version(ssl) == TLS1_3_VERSION ? SSL_TICKET_RETURN_USE_RENEW
							  : SSL_TICKET_RETURN_USE;
	case SSL_TICKET_SUCCESS_RENEW:
		return SSL_TICKET_RETURN_USE_RENEW;
	case SSL_TICKET_EMPTY:
	case SSL_TICKET_NO_DECRYPT:
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	}
	return SSL_TICKET_RETURN_ABORT;
}

/* ------------------------------------------------------------------ ticket keys */

/* 1: go on; 2: go on, and renew the ticket under the first key; 0: unknown key; -1: failure. */
static int ticket_crypt(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
			EVP_MAC_CTX *mac, int encrypt)
{
	struct tls_server *s = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	uint8_t key[80];
	size_t i = 0;

	pthread_rwlock_rdlock(&s->ticket_lock);
	if (!encrypt)
		while (i < s->n_tickets && memcmp(s->tickets[i], name, 16) != 0)
			i++;
	bool found = i < s->n_tickets;
	if (found)
		memcpy(key, s->tickets[i], sizeof(key));
	pthread_rwlock_unlock(&s->ticket_lock);
	if (!found)
		return encrypt ? -1 : 0;

	const EVP_CIPHER *aes = EVP_aes_256_cbc();
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key + 48, 32),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	bool ok;
	if (encrypt) {
		memcpy(name, key, 16);
		ok = RAND_bytes(iv, EVP_CIPHER_get_iv_length(aes)) == 1 &&
		     EVP_EncryptInit_ex2(cipher, aes, key + 16, iv, NULL) == 1;
	} else {
		ok = EVP_DecryptInit_ex2(cipher, aes, key + 16, iv, NULL) == 1;
	}
	ok = ok && EVP_MAC_CTX_set_params(mac, params) == 1;
	secret_wipe(key, sizeof(key));
	return !ok ? -1 : !encrypt && i > 0 ? 2 : 1;
}

void tls_server_tickets(struct tls_server *s, const uint8_t (*keys)[80], size_t n)
{
	uint8_t(*copy)[80] = xcalloc(n, sizeof(*copy));
	memcpy(copy, keys, n * sizeof(*copy));
	pthread_rwlock_wrlock(&s->ticket_lock);
	uint8_t(*old)[80] = s->tickets;
	size_t n_old = s->n_tickets;
	s->tickets = copy;
	s->n_tickets = n;
	pthread_rwlock_unlock(&s->ticket_lock);
	if (old)
		secret_wipe(old, n_old * sizeof(*old));
	free(old);
}

/* ------------------------------------------------------------------ certificates */

/* SNI: the first identity with this name, else the first of all (RFC 6066 section 3 allows it, and
 * a client that does not like the certificate says so itself). */
static int choose_identity(SSL *ssl, int *alert, void *arg)
{
	struct tls_server *s = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	if (!name)
		return SSL_TLSEXT_ERR_NOACK;
	for (size_t i = 0; i < s->n; i++)
		if (X509_check_host(s->identities[i].leaf, name, 0, 0, NULL) == 1) {
			if (i > 0)
				SSL_set_SSL_CTX(ssl, s->identities[i].ctx);
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_NOACK;
}

static SSL_CTX *identity_ctx(struct tls_server *s)
{
	static const unsigned char sid_context[] = "postrider";
	SSL_CTX *ctx = SSL_CTX_new_ex(tls_server_libctx(), NULL, TLS_server_method());
	if (!ctx)
		return NULL;
	tls_ctx_common(ctx);
	SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_app_data(ctx, s);
	SSL_CTX_set_tlsext_servername_callback(ctx, choose_identity);
	SSL_CTX_set_tlsext_servername_arg(ctx, s);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_crypt);
	if (SSL_CTX_set_session_ticket_cb(ctx, ticket_made, ticket_taken, NULL) == 1 &&
	    SSL_CTX_set_session_id_context(ctx, sid_context, sizeof(sid_context) - 1) == 1 &&
	    SSL_CTX_set_cipher_list(ctx, SERVER_CIPHERS) == 1 &&
	    SSL_CTX_set1_groups_list(ctx, SERVER_GROUPS) == 1)
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

static bool same_names(X509 *a, X509 *b)
{
	GENERAL_NAMES *na = X509_get_ext_d2i(a, NID_subject_alt_name, NULL, NULL);
	GENERAL_NAMES *nb = X509_get_ext_d2i(b, NID_subject_alt_name, NULL, NULL);
	unsigned char *da = NULL, *db = NULL;
	int la = na ? i2d_GENERAL_NAMES(na, &da) : -1;
	int lb = nb ? i2d_GENERAL_NAMES(nb, &db) : -1;
	bool same = la > 0 && la == lb && memcmp(da, db, (size_t)la) == 0;
	OPENSSL_free(da);
	OPENSSL_free(db);
	GENERAL_NAMES_free(na);
	GENERAL_NAMES_free(nb);
	return same;
}

/* The identity that LEAF joins (same names, other key type), or a new one. */
static struct tls_identity *identity_for(struct tls_server *s, X509 *leaf, bool rsa)
{
	for (size_t i = 0; i < s->n; i++) {
		struct tls_identity *id = &s->identities[i];
		if (!(rsa ? id->has_rsa : id->has_ec) && same_names(id->leaf, leaf))
			return id;
	}
	SSL_CTX *ctx = identity_ctx(s);
	if (!ctx)
		return NULL;
	struct tls_identity *id = &s->identities[s->n++];
	X509_up_ref(leaf);
	*id = (struct tls_identity){ .ctx = ctx, .leaf = leaf };
	return id;
}

static X509 *read_cert(BIO *bio)
{
	X509 *x = X509_new_ex(tls_server_libctx(), NULL);
	if (x && !PEM_read_bio_X509(bio, &x, NULL, NULL)) {
		X509_free(x);
		x = NULL;
	}
	return x;
}

/* The chain's leaf, and the intermediates in RET_REST; NULL if the PEM does not start with a
 * certificate. */
static X509 *read_chain(span pem, STACK_OF(X509) * ret_rest)
{
	BIO *bio = BIO_new_mem_buf(pem.n ? pem.p : "", (int)MIN(pem.n, (size_t)1 << 20));
	X509 *leaf = bio ? read_cert(bio) : NULL;
	X509 *x;
	while (leaf && (x = read_cert(bio)))
		if (!sk_X509_push(ret_rest, x))
			X509_free(x);
	BIO_free(bio);
	ERR_clear_error(); /* the end of the input is an error there */
	return leaf;
}

static int add_chain(struct tls_server *s, const struct tls_cert_in *in, struct err_info *info)
{
	int r = 0;
	STACK_OF(X509) *rest = sk_X509_new_null();
	X509 *leaf = rest ? read_chain(in->chain_pem, rest) : NULL;
	EVP_PKEY *pub = leaf ? X509_get0_pubkey(leaf) : NULL;
	EVP_PKEY *key = pub ? provider_key(tls_server_libctx(), pub, in->key) : NULL;
	bool rsa = pub && EVP_PKEY_is_a(pub, "RSA");
	struct tls_identity *id = key ? identity_for(s, leaf, rsa) : NULL;

	if (!leaf)
		r = err_set(info, ERR_SYNTAX, "certificate %u: no PEM certificate", in->key);
	else if (!key)
		r = err_set(info, ERR_UNSUPPORTED,
			    "certificate %u: the key is neither ECDSA nor RSA", in->key);
	else if (!id || SSL_CTX_use_cert_and_key(id->ctx, leaf, key, rest, 1) != 1)
		r = err_set(info, ERR_TLS, "certificate %u: %s", in->key,
			    tls_error_text("not usable"));
	else if (rsa)
		id->has_rsa = true;
	else
		id->has_ec = true;

	EVP_PKEY_free(key);
	X509_free(leaf);
	sk_X509_pop_free(rest, X509_free);
	return r;
}

int tls_server_new(const struct tls_cert_in *certs, size_t n, struct tls_server **ret,
		   struct err_info *info)
{
	int r = tls_init(info);
	if (r < 0)
		return r;
	if (n == 0)
		return err_set(info, ERR_INVAL, "no certificate");
	ERR_clear_error();
	struct tls_server *s = xcalloc(1, sizeof(*s));
	s->refs = 1;
	s->identities = xcalloc(n, sizeof(*s->identities));
	pthread_rwlock_init(&s->ticket_lock, NULL);
	uint8_t first[1][80]; /* until the caller brings keys that live longer than this set */
	if (RAND_priv_bytes(first[0], sizeof(first[0])) != 1)
		r = err_set(info, ERR_INTERNAL, "no random bytes");
	tls_server_tickets(s, (const uint8_t(*)[80])first, 1);
	secret_wipe(first, sizeof(first));

	for (size_t i = 0; i < n && r == 0; i++)
		r = add_chain(s, &certs[i], info);
	if (r < 0) {
		tls_server_unref(s);
		return r;
	}
	*ret = s;
	return 0;
}

static int use_client_ca(SSL_CTX *ctx, X509_STORE *store, const STACK_OF(X509) * anchors)
{
	SSL_CTX_set1_verify_cert_store(ctx, store);
	for (int i = 0; i < sk_X509_num(anchors); i++)
		if (SSL_CTX_add_client_CA(ctx, sk_X509_value(anchors, i)) != 1)
			return ERR_NOMEM;
	return 0;
}

int tls_server_client_ca(struct tls_server *s, span ca_pem, struct err_info *info)
{
	STACK_OF(X509) *anchors = sk_X509_new_null();
	X509_STORE *store = X509_STORE_new();
	X509 *first = anchors ? read_chain(ca_pem, anchors) : NULL;
	int r = first && store ? 0 : ERR_SYNTAX;

	if (first && !sk_X509_push(anchors, first))
		X509_free(first);
	for (int i = 0; r == 0 && i < sk_X509_num(anchors); i++)
		if (X509_STORE_add_cert(store, sk_X509_value(anchors, i)) != 1)
			r = ERR_SYNTAX;
	for (size_t i = 0; r == 0 && i < s->n; i++)
		r = use_client_ca(s->identities[i].ctx, store, anchors);
	s->client_ca = r == 0;
	X509_STORE_free(store);
	sk_X509_pop_free(anchors, X509_free);
	ERR_clear_error();
	return r < 0 ? err_set(info, r, "tls.client_ca: no PEM certificates that can be used") : 0;
}

struct tls_server *tls_server_ref(struct tls_server *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void tls_server_unref(struct tls_server *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	for (size_t i = 0; i < s->n; i++) {
		SSL_CTX_free(s->identities[i].ctx);
		X509_free(s->identities[i].leaf);
	}
	free(s->identities);
	secret_wipe(s->tickets, s->n_tickets * sizeof(*s->tickets));
	free(s->tickets);
	pthread_rwlock_destroy(&s->ticket_lock);
	free(s);
}

SSL_CTX *tls_server_ctx(struct tls_server *s)
{
	return s->identities[0].ctx;
}

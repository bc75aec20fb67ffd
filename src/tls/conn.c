/* One connection, either side. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/arena.h"
#include "sys/sock.h"
#include "tls/tls_int.h"

struct tls_conn {
	SSL *ssl;
	struct tls_server *server; /* callbacks of the context point to it */
	const char *error;	   /* static text, or NULL */
	bool named;		   /* client: a name to match was given */
	bool dead; /* a fatal error: OpenSSL forbids further I/O, close_notify included */
	bool asks_cert;	 /* server: of the client */
	bool cert_wrong; /* what came does not verify */
	char *emails;	 /* of the client's verified certificate, or NULL */
	uint8_t endpoint_len;
	uint8_t endpoint[TLS_ENDPOINT_MAX];
};

static struct tls_conn *conn_new(SSL_CTX *ctx, int fd)
{
	ERR_clear_error();
	struct tls_conn *t = xcalloc(1, sizeof(*t));
	t->ssl = SSL_new(ctx);
	if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1)
		abort(); /* out of memory */
	return t;
}

struct tls_conn *tls_accept_new(struct tls_server *s, int fd)
{
	struct tls_conn *t = conn_new(tls_server_ctx(s), fd);
	t->server = tls_server_ref(s);
	SSL_set_accept_state(t->ssl);
	return t;
}

/* A wrong certificate must not keep a user of another mechanism out, so it is only noted. */
static int note_cert(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_conn *t = SSL_get_app_data(ssl);
	if (!ok)
		t->cert_wrong = true;
	return 1;
}

void tls_conn_ask_cert(struct tls_conn *t)
{
	if (!t->server || !t->server->client_ca)
		return;
	t->asks_cert = true;
	SSL_set_app_data(t->ssl, t);
	SSL_set_verify(t->ssl, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, note_cert);
}

/* A name becomes SNI and is matched as DNS name; an address is matched as address (RFC 9525 6.5).
 */
static bool set_name(SSL *ssl, span host)
{
	struct sockaddr_any ip;
	_cleanup_(freep) char *name = span_dup(host);
	if (host.n == 0 || host.n > 255 || memchr(host.p, 0, host.n))
		return false;
	if (sock_parse_ip(host, 0, &ip) == 0)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

struct tls_conn *tls_connect_new(struct tls_client *c, int fd, span host, bool verify)
{
	struct tls_conn *t = conn_new(c->ctx, fd);
	SSL_set_connect_state(t->ssl);
	t->named = set_name(t->ssl, host);
	SSL_set_verify(t->ssl, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (verify && !t->named) { /* nothing to match: nothing may pass */
		t->error = "no name to verify";
		t->dead = true;
	}
	return t;
}

void tls_conn_free(struct tls_conn *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	tls_server_unref(t->server);
	free(t->emails);
	free(t);
}

static enum tls_result fail(struct tls_conn *t, const char *why)
{
	t->dead = true;
	if (!t->error)
		t->error = why;
	return TLS_FAILED;
}

/* What the return value R of an SSL call on T means. */
static enum tls_result result(struct tls_conn *t, int r)
{
	int saved = errno;
	switch (SSL_get_error(t->ssl, r)) {
	case SSL_ERROR_NONE:
		return TLS_OK;
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_EOF;
	case SSL_ERROR_SYSCALL:
		if (saved == 0)
			return fail(t, "the peer closed the connection");
		return fail(t, strerrordesc_np(saved));
	}
	long verify = SSL_get_verify_result(t->ssl);
	if (!SSL_is_server(t->ssl) && !SSL_is_init_finished(t->ssl) && verify != X509_V_OK &&
	    (SSL_get_verify_mode(t->ssl) & SSL_VERIFY_PEER))
		return fail(t, X509_verify_cert_error_string(verify));
	return fail(t, tls_error_text("protocol error"));
}

/* Every call starts from an empty error queue (an old entry turns WANT_READ into a fatal error). */
static bool start(struct tls_conn *t)
{
	ERR_clear_error();
	errno = 0;
	return !t->dead;
}

static void keep_endpoint(struct tls_conn *t)
{
	void *data;
	size_t n;
	if (!SSL_is_server(t->ssl)) {
		t->endpoint_len = tls_endpoint(SSL_get0_peer_certificate(t->ssl), t->endpoint);
	} else if (!SSL_session_reused(t->ssl)) {
		t->endpoint_len = tls_endpoint(SSL_get_certificate(t->ssl), t->endpoint);
	} else if (SSL_SESSION_get0_ticket_appdata(SSL_get_session(t->ssl), &data, &n) == 1 &&
		   n <= sizeof(t->endpoint)) {
		memcpy(t->endpoint, data, n);
		t->endpoint_len = (uint8_t)n;
	}
}

enum tls_result tls_handshake(struct tls_conn *t)
{
	if (!start(t))
		return TLS_FAILED;
	int r = SSL_do_handshake(t->ssl);
	if (r == 1) {
		keep_endpoint(t);
		X509 *cert = t->asks_cert ? SSL_get0_peer_certificate(t->ssl) : NULL;
		if (cert && !t->cert_wrong && SSL_get_verify_result(t->ssl) == X509_V_OK)
			t->emails = tls_cert_emails(cert);
		return TLS_OK;
	}
	enum tls_result res = result(t, r);
	if (res == TLS_EOF)
		return fail(t, "the peer closed the connection");
	return res == TLS_OK ? TLS_FAILED : res;
}

enum tls_result tls_read(struct tls_conn *t, void *p, size_t n, size_t *ret_n)
{
	if (!start(t))
		return TLS_FAILED;
	int r = SSL_read_ex(t->ssl, p, n, ret_n);
	return r == 1 ? TLS_OK : result(t, r);
}

enum tls_result tls_write(struct tls_conn *t, const void *p, size_t n, size_t *ret_n)
{
	if (!start(t))
		return TLS_FAILED;
	int r = SSL_write_ex(t->ssl, p, n, ret_n);
	return r == 1 ? TLS_OK : result(t, r);
}

enum tls_result tls_shutdown(struct tls_conn *t)
{
	if (!start(t) || !SSL_is_init_finished(t->ssl))
		return TLS_FAILED;
	int r = SSL_shutdown(t->ssl);
	return r >= 0 ? TLS_OK : result(t, r);
}

bool tls_pending(const struct tls_conn *t)
{
	return SSL_has_pending(t->ssl) == 1;
}

const char *tls_conn_error(struct tls_conn *t)
{
	return t->error ? t->error : "no error";
}

static bool exporter(SSL *ssl, uint8_t ret[32])
{
	static const char label[] = "EXPORTER-Channel-Binding"; /* RFC 9266 section 2 */
	if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
		return false;
	return SSL_export_keying_material(ssl, ret, 32, label, sizeof(label) - 1,
					  (const unsigned char *)"", 0, 1) == 1;
}

void tls_conn_facts(struct tls_conn *t, struct sess_tls *ret)
{
	start(t);
	*ret = (struct sess_tls){
		.active = true,
		.version = (uint16_t)SSL_version(t->ssl),
		.cipher = span_str(SSL_CIPHER_standard_name(SSL_get_current_cipher(t->ssl))),
		.sni = span_str(SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name)),
		.client_emails = span_str(t->emails),
		.endpoint_len = t->endpoint_len,
	};
	const unsigned char *alpn = NULL;
	unsigned n = 0;
	SSL_get0_alpn_selected(t->ssl, &alpn, &n);
	ret->alpn = span_of(alpn, n);
	memcpy(ret->endpoint, t->endpoint, t->endpoint_len);
	ret->has_exporter = exporter(t->ssl, ret->exporter);
}

bool tls_conn_verified(struct tls_conn *t, const char **ret_why)
{
	long v = SSL_get_verify_result(t->ssl);
	const char *why = NULL;
	if (!SSL_get0_peer_certificate(t->ssl))
		why = "no certificate";
	else if (!t->named)
		why = "no name to verify";
	else if (v != X509_V_OK)
		why = X509_verify_cert_error_string(v);
	if (ret_why)
		*ret_why = why;
	return !why;
}

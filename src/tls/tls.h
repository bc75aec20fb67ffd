/* TLS contexts and connections (OpenSSL).  The one room that includes openssl/.
 *
 * Servers hold certificates only; signatures come from the keys role through a built-in provider
 * (see tls/keys.h).  A handshake step may therefore block on that channel: it runs in the front's
 * handshake pool, never in the loop.  Record I/O does not block.  The library writes with write(2):
 * the process must ignore SIGPIPE (main.c does). */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "sys/session.h"

/* Once per process, before the sandbox: algorithms, providers, random source. */
int tls_init(struct err_info *info);

/* --- server --- */
struct tls_server; /* a set of certificates with SNI choice and ticket keys; reference-counted */
/* CERTS: PEM chains, each {leaf, intermediates}; key i of the keys role belongs to chain i (tls/keys.h). */
struct tls_cert_in { span chain_pem; uint32_t key; };
int tls_server_new(const struct tls_cert_in *certs, size_t n, struct tls_server **ret, struct err_info *info);
struct tls_server *tls_server_ref(struct tls_server *s);
void tls_server_unref(struct tls_server *s);
/* Before the first connection: trust anchors of clients' certificates, for tls_conn_ask_cert(). */
int tls_server_client_ca(struct tls_server *s, span ca_pem, struct err_info *info);
/* Ticket keys from core: 80 bytes each (name 16, aes 32, hmac 32); the first encrypts, all decrypt. */
void tls_server_tickets(struct tls_server *s, const uint8_t (*keys)[80], size_t n);

/* --- client --- */
struct tls_client;
/* CA_PEM: trust anchors as bytes (read before the sandbox); may be empty (then nothing verifies). */
int tls_client_new(span ca_pem, struct tls_client **ret, struct err_info *info);
void tls_client_free(struct tls_client *c);
/* Gives C's trust anchors to the SSL_CTX of another library that speaks TLS by OpenSSL (http/). */
void tls_client_trust(struct tls_client *c, void *ssl_ctx);

/* --- connections over a non-blocking socket --- */
struct tls_conn;
enum tls_result { TLS_OK, TLS_WANT_READ, TLS_WANT_WRITE, TLS_EOF, TLS_FAILED };
struct tls_conn *tls_accept_new(struct tls_server *s, int fd);
/* Before the handshake: asks the client for a certificate, if the server has trust anchors for it.  One that does not
 * verify, or none, is no failure: the facts then have no addresses. */
void tls_conn_ask_cert(struct tls_conn *t);
/* HOST: SNI and, if VERIFY, the name to match (RFC 9525). */
struct tls_conn *tls_connect_new(struct tls_client *c, int fd, span host, bool verify);
void tls_conn_free(struct tls_conn *t); /* NULL is fine; does not close the fd */
enum tls_result tls_handshake(struct tls_conn *t);
enum tls_result tls_read(struct tls_conn *t, void *p, size_t n, size_t *ret_n);
enum tls_result tls_write(struct tls_conn *t, const void *p, size_t n, size_t *ret_n);
enum tls_result tls_shutdown(struct tls_conn *t); /* sends close_notify */
bool tls_pending(const struct tls_conn *t);       /* decrypted bytes wait inside */
const char *tls_conn_error(struct tls_conn *t);   /* one line, ours, harmless to log */
/* Facts after the handshake: spans live as long as the connection. */
void tls_conn_facts(struct tls_conn *t, struct sess_tls *ret);
/* Client side: did the peer's certificate verify for the name asked for (also when VERIFY was false)? */
bool tls_conn_verified(struct tls_conn *t, const char **ret_why);

/* Handshakes between our server, whose keys are behind a channel, and our client or a plain
 * OpenSSL client where a version or a ticket must be forced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sys/channel.h"
#include "tls/keys.h"
#include "tls/tls.h"

#define DAYS 30

static struct {
	struct keys *keys;
	struct keys_ca *ca;
	struct buf ca_pem;
	struct buf chain[3]; /* 0: EC mail.test; 1: RSA other.test; 2: RSA mail.test */
	int sock[2];
	pthread_t thread;
} world;

static void *serve(void *arg)
{
	keys_serve(world.keys, world.sock[1]);
	return NULL;
}

/* The house makes P-256 only; an RSA leaf comes from the library directly. */
static void rsa_self_signed(const char *san, struct buf *cert, struct buf *key)
{
	EVP_PKEY *k = EVP_RSA_gen(2048);
	X509 *x = X509_new();
	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
				   (const unsigned char *)"rsa", -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_set_pubkey(x, k);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
	assert_true(X509_sign(x, k, EVP_sha256()) > 0);
	BIO *b = BIO_new(BIO_s_mem());
	char *p;
	PEM_write_bio_X509(b, x);
	size_t n = (size_t)BIO_get_mem_data(b, &p);
	buf_put(cert, p, n);
	BIO_free(b);
	b = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(b, k, NULL, NULL, 0, NULL, NULL);
	n = (size_t)BIO_get_mem_data(b, &p);
	buf_put(key, p, n);
	BIO_free(b);
	X509_free(x);
	EVP_PKEY_free(k);
}

static int setup(void **state)
{
	struct err_info info = { 0 };
	const span name = SPAN("mail.test"), ip = SPAN("192.0.2.7");
	struct buf key = BUF_INIT(65536);
	assert_int_equal(tls_init(&info), 0);
	world.keys = keys_new();
	world.ca_pem = BUF_INIT(65536);
	for (int i = 0; i < 3; i++)
		world.chain[i] = BUF_INIT(65536);
	assert_int_equal(keys_ca_new(SPAN("Test CA"), clock_wall(), DAYS, &world.ca, &world.ca_pem),
			 0);
	assert_int_equal(keys_ca_issue(world.ca, &name, 1, &ip, 1, clock_wall(), DAYS,
				       &world.chain[0], &key),
			 0);
	assert_int_equal(keys_load(world.keys, 0, buf_span(&key), &info), 0);
	for (unsigned i = 1; i < 3; i++) {
		buf_reset(&key);
		rsa_self_signed(i == 1 ? "DNS:other.test" : "DNS:mail.test, IP:192.0.2.7",
				&world.chain[i], &key);
		assert_int_equal(keys_load(world.keys, i, buf_span(&key), &info), 0);
	}
	buf_done(&key);
	assert_int_equal(channel_pair(world.sock), 0);
	keys_use_channel(world.sock[0]);
	return pthread_create(&world.thread, NULL, serve, NULL);
}

static int teardown(void **state)
{
	close(world.sock[0]);
	pthread_join(world.thread, NULL);
	close(world.sock[1]);
	keys_free(world.keys);
	keys_ca_free(world.ca);
	buf_done(&world.ca_pem);
	for (int i = 0; i < 3; i++)
		buf_done(&world.chain[i]);
	return 0;
}

static struct tls_server *server_new(size_t n)
{
	struct tls_server *s = NULL;
	struct err_info info = { 0 };
	struct tls_cert_in in[3];
	for (uint32_t i = 0; i < 3; i++)
		in[i] = (struct tls_cert_in){ .chain_pem = buf_span(&world.chain[i]), .key = i };
	assert_int_equal(tls_server_new(in, n, &s, &info), 0);
	return s;
}

static void pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			 0);
}

/* Both sides in turn until both are done or one failed. */
static bool shake(struct tls_conn *a, struct tls_conn *b)
{
	enum tls_result ra = TLS_WANT_READ, rb = TLS_WANT_READ;
	for (int i = 0; i < 20; i++) {
		if (ra != TLS_OK)
			ra = tls_handshake(a);
		if (rb != TLS_OK)
			rb = tls_handshake(b);
		if (ra == TLS_FAILED || rb == TLS_FAILED)
			return false;
		if (ra == TLS_OK && rb == TLS_OK)
			return true;
	}
	return false;
}

static void test_own_client(void **state)
{
	int fds[2];
	struct err_info info = { 0 };
	struct tls_client *client = NULL;
	struct tls_server *server = server_new(1);
	assert_int_equal(tls_client_new(buf_span(&world.ca_pem), &client, &info), 0);
	pair(fds);
	struct tls_conn *s = tls_accept_new(server, fds[0]);
	struct tls_conn *c = tls_connect_new(client, fds[1], SPAN("mail.test"), true);
	tls_server_unref(server); /* the connection keeps it */
	assert_true(shake(c, s));

	struct sess_tls fs, fc;
	tls_conn_facts(s, &fs);
	tls_conn_facts(c, &fc);
	assert_int_equal(fs.version, 0x0304);
	assert_true(span_starts(fs.cipher, SPAN("TLS_")));
	assert_true(span_eq_str(fs.sni, "mail.test"));
	assert_true(fs.has_exporter && fc.has_exporter);
	assert_memory_equal(fs.exporter, fc.exporter, 32);
	assert_int_equal(fs.endpoint_len, 32);
	assert_int_equal(fc.endpoint_len, 32);
	assert_memory_equal(fs.endpoint, fc.endpoint, 32);
	const char *why = "unset";
	assert_true(tls_conn_verified(c, &why));
	assert_null(why);

	char in[16];
	size_t n = 0;
	assert_int_equal(tls_write(c, "hello", 5, &n), TLS_OK);
	assert_int_equal(tls_read(s, in, sizeof(in), &n), TLS_OK);
	assert_memory_equal(in, "hello", 5);
	assert_int_equal(tls_read(s, in, sizeof(in), &n), TLS_WANT_READ);
	assert_int_equal(tls_shutdown(c), TLS_OK);
	assert_int_equal(tls_read(s, in, sizeof(in), &n), TLS_EOF);
	tls_conn_free(s);
	tls_conn_free(c);
	tls_client_free(client);
	close(fds[0]);
	close(fds[1]);
}

/* HOST as asked by a client with anchors CA: verified?  HARD: the client insists. */
static bool verified(const char *host, span ca, bool hard, bool *ret_shook)
{
	int fds[2];
	struct tls_client *client = NULL;
	struct tls_server *server = server_new(1);
	assert_int_equal(tls_client_new(ca, &client, NULL), 0);
	pair(fds);
	struct tls_conn *s = tls_accept_new(server, fds[0]);
	struct tls_conn *c = tls_connect_new(client, fds[1], span_str(host), hard);
	const char *why = NULL;
	*ret_shook = shake(c, s);
	bool ok = *ret_shook && tls_conn_verified(c, &why);
	if (*ret_shook && !ok)
		assert_non_null(why);
	if (!*ret_shook)
		assert_string_not_equal(tls_conn_error(c), "no error");
	tls_conn_free(s);
	tls_conn_free(c);
	tls_client_free(client);
	tls_server_unref(server);
	close(fds[0]);
	close(fds[1]);
	return ok;
}

static void test_verification(void **state)
{
	bool shook;
	span ca = buf_span(&world.ca_pem);
	assert_true(verified("mail.test", ca, true, &shook));
	assert_true(verified("192.0.2.7", ca, true, &shook));
	assert_false(verified("other.test", ca, true, &shook));
	assert_false(shook);
	assert_false(
		verified("other.test", ca, false, &shook)); /* opportunistic: told, not refused */
	assert_true(shook);
	assert_false(verified("mail.test", SPAN_NULL, false, &shook));
	assert_true(shook);
	assert_false(verified("mail.test", SPAN_NULL, true, &shook));
	assert_false(shook);
	assert_false(verified("", ca, true, &shook));
	assert_false(shook);
}

/* ------------------------------------------------------------------ a plain OpenSSL client */

struct raw {
	SSL_CTX *ctx;
	SSL_SESSION *session; /* the newest ticket */
	int version;
	const char *sigalgs;
	bool reused;
	uint8_t leaf_hash[32], exporter[32];
	struct sess_tls server; /* spans are dead */
};

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	struct raw *r = SSL_get_app_data(ssl);
	SSL_SESSION_free(r->session);
	r->session = session;
	return 1;
}

static bool raw_shake(struct raw *r, struct tls_server *server, const char *sni,
		      SSL_SESSION *resume)
{
	int fds[2];
	char byte;
	size_t n;
	bool done_s = false, done_c = false, failed = false;
	if (!r->ctx) {
		r->ctx = SSL_CTX_new(TLS_client_method());
		SSL_CTX_set_session_cache_mode(r->ctx,
					       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(r->ctx, keep_session);
	}
	pair(fds);
	SSL *c = SSL_new(r->ctx);
	SSL_set_app_data(c, r);
	SSL_set_fd(c, fds[1]);
	SSL_set_connect_state(c);
	SSL_set_min_proto_version(c, r->version);
	SSL_set_max_proto_version(c, r->version);
	if (r->sigalgs)
		SSL_set1_sigalgs_list(c, r->sigalgs);
	SSL_set_tlsext_host_name(c, sni);
	if (resume)
		SSL_set_session(c, resume);
	struct tls_conn *s = tls_accept_new(server, fds[0]);
	for (int i = 0; i < 20 && !failed && !(done_s && done_c); i++) {
		ERR_clear_error();
		if (!done_c)
			done_c = SSL_do_handshake(c) == 1;
		if (!done_s) {
			enum tls_result t = tls_handshake(s);
			done_s = t == TLS_OK;
			failed = t == TLS_FAILED;
		}
	}
	if (done_s && done_c) {
		ERR_clear_error();
		SSL_read_ex(c, &byte, 1, &n); /* takes the ticket */
		tls_conn_facts(s, &r->server);
		r->reused = SSL_session_reused(c);
		SSL_export_keying_material(c, r->exporter, 32, "EXPORTER-Channel-Binding", 24,
					   (const unsigned char *)"", 0, 1);
		X509 *leaf = SSL_get0_peer_certificate(c);
		if (leaf && !r->reused)
			X509_digest(leaf, EVP_sha256(), r->leaf_hash, NULL);
	}
	tls_conn_free(s);
	SSL_set_shutdown(c, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* else the session dies with it */
	SSL_free(c);
	close(fds[0]);
	close(fds[1]);
	return done_s && done_c;
}

static void raw_done(struct raw *r)
{
	SSL_SESSION_free(r->session);
	SSL_CTX_free(r->ctx);
}

static void test_versions_and_keys(void **state)
{
	static const struct {
		int version;
		const char *sni, *sigalgs;
		bool works;
	} rows[] = {
		{ TLS1_2_VERSION, "mail.test", NULL, true },
		{ TLS1_3_VERSION, "mail.test", NULL, true },
		{ TLS1_2_VERSION, "mail.test", "ECDSA+SHA384", true },
		{ TLS1_2_VERSION, "mail.test", "RSA+SHA256", true }, /* PKCS #1 v1.5 */
		{ TLS1_2_VERSION, "mail.test", "RSA-PSS+SHA384", true },
		{ TLS1_3_VERSION, "mail.test", "RSA-PSS+SHA512", true },
		{ TLS1_2_VERSION, "other.test", NULL, true },
		{ TLS1_3_VERSION, "other.test", NULL, true },
		{ TLS1_3_VERSION, "unknown.test", NULL, true },
		{ TLS1_2_VERSION, "mail.test", "ECDSA+SHA1", false },
		{ TLS1_1_VERSION, "mail.test", NULL, false },
	};
	struct tls_server *server = server_new(3);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct raw r = { .version = rows[i].version, .sigalgs = rows[i].sigalgs };
		assert_int_equal(raw_shake(&r, server, rows[i].sni, NULL), rows[i].works);
		if (rows[i].works) {
			assert_int_equal(r.server.version, rows[i].version);
			assert_true(r.server.has_exporter);
			assert_memory_equal(r.server.exporter, r.exporter, 32);
			assert_int_equal(r.server.endpoint_len, 32);
			assert_memory_equal(r.server.endpoint, r.leaf_hash, 32);
		}
		raw_done(&r);
	}
	tls_server_unref(server);
}

static void test_resumption_keeps_endpoint(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	static const char *const names[] = { "mail.test", "other.test" };
	struct tls_server *server = server_new(3);
	for (size_t v = 0; v < 2; v++)
		for (size_t i = 0; i < 2; i++) {
			struct raw r = { .version = versions[v] };
			assert_true(raw_shake(&r, server, names[i], NULL));
			for (int round = 0; round < 2; round++) {
				SSL_SESSION *session = r.session;
				r.session = NULL;
				assert_non_null(session);
				assert_true(raw_shake(&r, server, names[i], session));
				assert_true(r.reused);
				assert_int_equal(r.server.endpoint_len, 32);
				assert_memory_equal(r.server.endpoint, r.leaf_hash, 32);
				assert_memory_equal(r.server.exporter, r.exporter, 32);
				if (r.session)
					SSL_SESSION_free(session);
				else
					r.session = session; /* 1.2 renews only when asked */
			}
			raw_done(&r);
		}
	tls_server_unref(server);
}

static void test_ticket_keys(void **state)
{
	uint8_t keys[3][80];
	for (size_t i = 0; i < 3; i++)
		memset(keys[i], (int)(i + 1), 80);
	struct tls_server *old = server_new(1), *new = server_new(1), *stranger = server_new(1);
	struct raw r = { .version = TLS1_3_VERSION };
	tls_server_tickets(old, (const uint8_t(*)[80])keys, 1);
	tls_server_tickets(new, (const uint8_t(*)[80])(keys + 1), 2); /* does not know key 0 */
	assert_true(raw_shake(&r, old, "mail.test", NULL));
	SSL_SESSION *session = STEAL_PTR(&r.session);
	assert_true(raw_shake(&r, new, "mail.test", session));
	assert_false(r.reused);
	memcpy(keys[2], keys[0], 80); /* the rotated set still knows it */
	tls_server_tickets(new, (const uint8_t(*)[80])(keys + 1), 2);
	assert_true(raw_shake(&r, new, "mail.test", session));
	assert_true(r.reused);
	assert_true(raw_shake(&r, stranger, "mail.test", session));
	assert_false(r.reused);
	SSL_SESSION_free(session);
	raw_done(&r);
	tls_server_unref(old);
	tls_server_unref(new);
	tls_server_unref(stranger);
}

static void test_clear_text_peer(void **state)
{
	int fds[2];
	struct tls_server *server = server_new(1);
	pair(fds);
	struct tls_conn *s = tls_accept_new(server, fds[0]);
	assert_int_equal(tls_handshake(s), TLS_WANT_READ);
	assert_int_equal(write(fds[1], "EHLO client.test\r\n", 18), 18);
	assert_int_equal(tls_handshake(s), TLS_FAILED);
	assert_string_not_equal(tls_conn_error(s), "no error");
	assert_int_equal(tls_handshake(s), TLS_FAILED);
	tls_conn_free(s);
	tls_server_unref(server);
	close(fds[0]);
	close(fds[1]);
}

static void test_dead_keys(void **state)
{
	int dead[2];
	struct tls_server *server = server_new(1);
	struct raw r = { .version = TLS1_3_VERSION };
	assert_int_equal(channel_pair(dead), 0);
	close(dead[1]);
	keys_use_channel(dead[0]);
	assert_false(raw_shake(&r, server, "mail.test", NULL));
	keys_use_channel(-1);
	assert_false(raw_shake(&r, server, "mail.test", NULL));
	keys_use_channel(world.sock[0]);
	assert_true(raw_shake(&r, server, "mail.test", NULL));
	close(dead[0]);
	raw_done(&r);
	tls_server_unref(server);
}

static void test_bad_material(void **state)
{
	struct tls_server *s = NULL;
	struct tls_client *c = NULL;
	struct err_info info = { 0 };
	struct tls_cert_in in = { .chain_pem = SPAN("no PEM"), .key = 0 };
	assert_int_equal(tls_server_new(&in, 1, &s, &info), ERR_SYNTAX);
	assert_int_equal(tls_server_new(&in, 0, &s, &info), ERR_INVAL);
	assert_int_equal(tls_client_new(SPAN("no PEM"), &c, &info), ERR_SYNTAX);
	assert_int_equal(keys_load(world.keys, 9, SPAN("no PEM"), &info), ERR_SYNTAX);
	assert_null(s);
	assert_null(c);
}

/* ------------------------------------------------------------------ what keys signs */

static size_t ask(uint32_t key, uint8_t md, uint8_t padding, span tbs)
{
	static uint64_t id = 1000;
	struct buf b = BUF_INIT(CHANNEL_MAX);
	uint16_t type;
	uint64_t answered;
	buf_put_le32(&b, key);
	buf_put_char(&b, (char)md);
	buf_put_char(&b, (char)padding);
	buf_put_span(&b, tbs);
	assert_int_equal(channel_send_fd(world.sock[0], KEYS_SIGN, ++id, buf_span(&b), -1), 0);
	buf_reset(&b);
	assert_true(channel_recv_fd(world.sock[0], 5 * USEC_SEC, &type, &answered, &b, NULL) >= 0);
	assert_int_equal(type, KEYS_SIGNED);
	assert_int_equal(answered, id);
	size_t n = b.n;
	buf_done(&b);
	return n;
}

static void put_verify(struct buf *b, const char *context, size_t hash)
{
	buf_reset(b);
	for (int i = 0; i < 64; i++)
		buf_put_char(b, ' ');
	buf_put(b, context, strlen(context) + 1);
	for (size_t i = 0; i < hash; i++)
		buf_put_char(b, 'h');
}

static void put_exchange(struct buf *b, const char *head, size_t head_n, size_t point)
{
	buf_reset(b);
	for (int i = 0; i < 64; i++)
		buf_put_char(b, 'r');
	buf_put(b, head, head_n);
	for (size_t i = 0; i < point; i++)
		buf_put_char(b, i == 0 ? 4 : 'p');
}

static void test_forms(void **state)
{
	enum { ECDSA = 1, PKCS1 = 2, PSS = 3, SHA256 = 1, SHA512 = 3 };
	struct buf b = BUF_INIT(8192);
	put_verify(&b, "TLS 1.3, server CertificateVerify", 32);
	assert_int_not_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	assert_int_equal(ask(1, SHA256, PSS, buf_span(&b)), 256);
	assert_int_equal(ask(1, SHA256, PKCS1, buf_span(&b)), 0); /* not in TLS 1.3 */
	assert_int_equal(ask(0, SHA256, PSS, buf_span(&b)), 0);	  /* an EC key */
	assert_int_equal(ask(1, SHA256, ECDSA, buf_span(&b)), 0); /* an RSA key */
	assert_int_equal(ask(0, 0, ECDSA, buf_span(&b)), 0);
	assert_int_equal(ask(0, SHA512 + 1, ECDSA, buf_span(&b)), 0);
	assert_int_equal(ask(17, SHA256, ECDSA, buf_span(&b)), 0); /* no such key */
	put_verify(&b, "TLS 1.3, server CertificateVerify", 48);
	assert_int_not_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	put_verify(&b, "TLS 1.3, server CertificateVerify", 33);
	assert_int_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	put_verify(&b, "TLS 1.3, client CertificateVerify", 32);
	assert_int_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	put_verify(&b, "TLS 1.3, server CertificateVerify", 32);
	b.p[63] = 'x';
	assert_int_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);

	put_exchange(&b, "\x03\x00\x17\x41", 4, 65); /* P-256 */
	assert_int_not_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	assert_int_equal(ask(1, SHA256, PKCS1, buf_span(&b)), 256);
	b.p[68] = 2; /* a compressed point */
	assert_int_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	put_exchange(&b, "\x03\x00\x1d\x20", 4, 32); /* X25519 */
	assert_int_not_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	put_exchange(&b, "\x03\x00\x1d\x20", 4, 33);
	assert_int_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	put_exchange(&b, "\x03\x00\x16\x20", 4, 32); /* an unknown curve */
	assert_int_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	put_exchange(&b, "\x01\x00\x1d\x20", 4, 32); /* explicit prime */
	assert_int_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);

	assert_int_equal(ask(0, SHA256, ECDSA, SPAN("hello")), 0);
	assert_int_equal(ask(0, SHA256, ECDSA, SPAN_NULL), 0);
	put_exchange(&b, "\x03\x00\x1d\x20", 4, 4000);
	assert_int_equal(ask(0, SHA256, ECDSA, buf_span(&b)), 0);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_client),
		cmocka_unit_test(test_verification),
		cmocka_unit_test(test_versions_and_keys),
		cmocka_unit_test(test_resumption_keeps_endpoint),
		cmocka_unit_test(test_ticket_keys),
		cmocka_unit_test(test_clear_text_peer),
		cmocka_unit_test(test_dead_keys),
		cmocka_unit_test(test_bad_material),
		cmocka_unit_test(test_forms),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}

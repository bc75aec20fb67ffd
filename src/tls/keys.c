/* Both ends of a keys channel: the question (in a handshake of front) and the judge with the keys.
 */
#include "tls/keys.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/map.h"
#include "sys/channel.h"
#include "tls/tls_int.h"

#define SIGN_TBS_MAX  1024 /* the longest form we sign has 201 bytes */
#define SIGNATURE_MAX 1024 /* RSA-8192 */

/* ------------------------------------------------------------------ front */

static _Thread_local struct {
	int sock;
	uint64_t last_id;
} channel = { .sock = -1 };

void keys_use_channel(int sock)
{
	channel.sock = sock;
}

int keys_ask(uint32_t key, uint8_t md, uint8_t padding, span tbs, uint8_t *ret_sig, size_t max,
	     size_t *ret_n)
{
	if (channel.sock < 0)
		return ERR_CLOSED;
	if (tbs.n > SIGN_TBS_MAX)
		return ERR_TOOBIG;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);
	buf_put_le32(&b, key);
	buf_put_char(&b, (char)md);
	buf_put_char(&b, (char)padding);
	buf_put_span(&b, tbs);
	uint64_t id = ++channel.last_id;
	int r = channel_send_fd(channel.sock, KEYS_SIGN, id, buf_span(&b), -1);
	if (r < 0)
		return r;

	usec deadline = clock_mono() + KEYS_TIMEOUT;
	for (;;) {
		usec left = deadline - clock_mono();
		uint16_t type;
		uint64_t answered;
		buf_reset(&b);
		if (left <= 0)
			return ERR_TIMEOUT;
		r = channel_recv_fd(channel.sock, left, &type, &answered, &b, NULL);
		if (r < 0)
			return r;
		if (type == KEYS_SIGNED && answered == id)
			break;
		/* The late answer to a question that was given up. */
	}
	if (b.n == 0)
		return ERR_PERM;
	if (b.n > max)
		return ERR_PROTO;
	memcpy(ret_sig, b.p, b.n);
	*ret_n = b.n;
	return 0;
}

/* ------------------------------------------------------------------ keys */

struct keys {
	pthread_mutex_t lock;
	struct idmap *by_number; /* number + 1 -> EVP_PKEY */
};

struct keys *keys_new(void)
{
	struct keys *k = xcalloc(1, sizeof(*k));
	pthread_mutex_init(&k->lock, NULL);
	k->by_number = idmap_new();
	return k;
}

void keys_free(struct keys *k)
{
	if (!k)
		return;
	size_t it = 0;
	void *pkey;
	while (idmap_next(k->by_number, &it, NULL, &pkey))
		EVP_PKEY_free(pkey);
	idmap_free(k->by_number);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

/* A key with a passphrase must not make libcrypto ask on a terminal. */
static int no_passphrase(char *p, int size, int writing, void *arg)
{
	return -1;
}

int keys_load(struct keys *k, uint32_t number, span pem, struct err_info *info)
{
	if (pem.n > 64 * 1024)
		return err_set(info, ERR_TOOBIG, "private key %u is too long", number);
	ERR_clear_error();
	BIO *bio = BIO_new_mem_buf(pem.n ? pem.p : "", (int)pem.n);
	EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	BIO_free(bio);
	if (!pkey)
		return err_set(info, ERR_SYNTAX, "private key %u is not an unencrypted PEM key",
			       number);
	bool rsa = EVP_PKEY_is_a(pkey, "RSA"), ec = EVP_PKEY_is_a(pkey, "EC");
	if ((!rsa && !ec) ||
	    (rsa && (EVP_PKEY_get_bits(pkey) < 2048 || EVP_PKEY_get_bits(pkey) > 8192))) {
		EVP_PKEY_free(pkey);
		return err_set(info, ERR_UNSUPPORTED,
			       "private key %u is neither ECDSA nor RSA of 2048 to 8192 bits",
			       number);
	}
	pthread_mutex_lock(&k->lock);
	EVP_PKEY_free(idmap_put(k->by_number, (uint64_t)number + 1, pkey));
	pthread_mutex_unlock(&k->lock);
	return 0;
}

static EVP_PKEY *keys_get(struct keys *k, uint32_t number)
{
	pthread_mutex_lock(&k->lock);
	EVP_PKEY *pkey = idmap_get(k->by_number, (uint64_t)number + 1);
	if (pkey)
		EVP_PKEY_up_ref(pkey);
	pthread_mutex_unlock(&k->lock);
	return pkey;
}

/* References are given back under the lock as well: the library's own counting is atomic, but no
 * race detector can see that. */
static void keys_put(struct keys *k, EVP_PKEY *pkey)
{
	pthread_mutex_lock(&k->lock);
	EVP_PKEY_free(pkey);
	pthread_mutex_unlock(&k->lock);
}

/* RFC 8446 4.4.3: 64 spaces, the context string, a zero byte, the transcript's SHA-256 or SHA-384.
 */
static bool is_server_certificate_verify(span tbs)
{
	static const char context[] = "TLS 1.3, server CertificateVerify"; /* and its zero byte */
	const size_t head = 64 + sizeof(context);
	if (tbs.n != head + 32 && tbs.n != head + 48)
		return false;
	for (size_t i = 0; i < 64; i++)
		if (tbs.p[i] != ' ')
			return false;
	return memcmp(tbs.p + 64, context, sizeof(context)) == 0;
}

/* RFC 8422 5.4: client and server random, then named_curve, the curve and our point of its length.
 */
static bool is_server_key_exchange(span tbs)
{
	static const struct {
		uint16_t curve;
		uint8_t point;
		bool uncompressed;
	} curves[] = {
		{ 23, 65, true },  /* P-256 */
		{ 24, 97, true },  /* P-384 */
		{ 25, 133, true }, /* P-521 */
		{ 29, 32, false }, /* X25519 */
		{ 30, 56, false }, /* X448 */
	};
	if (tbs.n < 64 + 5)
		return false;
	const uint8_t *p = (const uint8_t *)tbs.p + 64;
	if (p[0] != 3)
		return false;
	uint16_t curve = (uint16_t)(p[1] << 8 | p[2]);
	for (size_t i = 0; i < ARRAY_LEN(curves); i++)
		if (curves[i].curve == curve)
			return p[3] == curves[i].point && tbs.n == 64 + 4 + (size_t)p[3] &&
			       (!curves[i].uncompressed || p[4] == 0x04);
	return false;
}

/* May KEY sign TBS with this padding?  PKCS #1 v1.5 does not exist in TLS 1.3 handshakes. */
static bool may_sign(EVP_PKEY *pkey, uint8_t padding, span tbs)
{
	bool tls13 = is_server_certificate_verify(tbs);
	if (!tls13 && !is_server_key_exchange(tbs))
		return false;
	if (EVP_PKEY_is_a(pkey, "EC"))
		return padding == KEYS_PAD_ECDSA;
	return padding == KEYS_PAD_PSS || (padding == KEYS_PAD_PKCS1 && !tls13);
}

static int sign(EVP_PKEY *pkey, uint8_t md, uint8_t padding, span tbs, uint8_t *ret_sig, size_t *n)
{
	static const char *const names[] = { [KEYS_MD_SHA256] = "SHA256",
					     [KEYS_MD_SHA384] = "SHA384",
					     [KEYS_MD_SHA512] = "SHA512" };
	if (md >= ARRAY_LEN(names) || !names[md])
		return ERR_UNSUPPORTED;
	ERR_clear_error();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL; /* belongs to CTX */
	bool ok = ctx && EVP_DigestSignInit_ex(ctx, &pctx, names[md], NULL, NULL, pkey, NULL) == 1;
	if (ok && padding == KEYS_PAD_PSS)
		ok = EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
		     EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1;
	ok = ok && EVP_DigestSign(ctx, ret_sig, n, (const unsigned char *)tbs.p, tbs.n) == 1;
	EVP_MD_CTX_free(ctx);
	return ok ? 0 : ERR_INTERNAL;
}

/* Fills SIG and returns its length; 0 is a refusal. */
static size_t answer(struct keys *k, span question, uint8_t sig[SIGNATURE_MAX])
{
	struct cursor c = cursor_of(question);
	uint32_t number = cursor_le32(&c);
	uint8_t md = cursor_u8(&c);
	uint8_t padding = cursor_u8(&c);
	span tbs = cursor_rest(&c);
	if (c.bad || tbs.n > SIGN_TBS_MAX)
		return 0;
	EVP_PKEY *pkey = keys_get(k, number);
	if (!pkey)
		return 0;
	size_t n = SIGNATURE_MAX;
	if (!may_sign(pkey, padding, tbs) || sign(pkey, md, padding, tbs, sig, &n) < 0)
		n = 0;
	keys_put(k, pkey);
	return n;
}

void keys_serve(struct keys *k, int sock)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);
	uint8_t sig[SIGNATURE_MAX];
	for (;;) {
		uint16_t type;
		uint64_t id;
		buf_reset(&b);
		if (channel_recv_fd(sock, 0, &type, &id, &b, NULL) < 0 || type != KEYS_SIGN)
			return;
		size_t n = answer(k, buf_span(&b), sig);
		if (channel_send_fd(sock, KEYS_SIGNED, id, span_of(sig, n), -1) < 0)
			return;
	}
}

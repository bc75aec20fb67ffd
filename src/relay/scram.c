#include "relay/scram.h"

#include "base/codec.h"
#include "tls/hash.h"

#define GS2_HEADER "n,,"  /* no channel binding, no authorization identity */
#define GS2_BASE64 "biws" /* of the header (RFC 5802 section 7, c=) */
#define SALT_MAX   1024

static const struct {
	size_t size;
	int (*hi)(span password, span salt, uint32_t iterations, uint8_t *ret);
	void (*hmac)(span key, span in, uint8_t *ret);
	void (*hash)(span in, uint8_t *ret);
} hashes[] = {
	[SCRAM_SHA1] = { 20, pbkdf2_sha1, hmac_sha1, sha1 },
	[SCRAM_SHA256] = { 32, pbkdf2_sha256, hmac_sha256, sha256 },
};

/* saslname: "=" and "," are escaped. */
static void put_name(struct buf *b, span user)
{
	for (size_t i = 0; i < user.n; i++) {
		if (user.p[i] == '=')
			buf_put_str(b, "=3D");
		else if (user.p[i] == ',')
			buf_put_str(b, "=2C");
		else
			buf_put_char(b, user.p[i]);
	}
}

void scram_init(struct scram *s, enum scram_hash hash, span user, span password, span nonce,
		struct arena *mem)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(3 * user.n + nonce.n + 8);

	buf_put_str(&b, "n=");
	put_name(&b, user);
	buf_put_str(&b, ",r=");
	buf_put_span(&b, nonce);
	*s = (struct scram){ .hash = hash,
			     .password = password,
			     .client_nonce = arena_span(mem, nonce),
			     .first_bare = arena_span(mem, buf_span(&b)) };
}

int scram_first(const struct scram *s, struct buf *out)
{
	buf_put_str(out, GS2_HEADER);
	return buf_put_span(out, s->first_bare);
}

/* The value of the attribute NAME at the front of *REST, which is cut off. */
static bool attribute(span *rest, char name, span *ret)
{
	span part = span_cut(rest, ',');

	if (part.n < 2 || part.p[0] != name || part.p[1] != '=')
		return false;
	*ret = span_from(part, 2);
	return true;
}

/* The proof and the server's signature, over AUTH_MESSAGE. */
static void prove(struct scram *s, const uint8_t *salted, span auth_message, uint8_t *ret_proof)
{
	size_t size = hashes[s->hash].size;
	uint8_t client_key[32], stored_key[32], signature[32], server_key[32];
	span key = span_of(salted, size);

	hashes[s->hash].hmac(key, SPAN("Client Key"), client_key);
	hashes[s->hash].hash(span_of(client_key, size), stored_key);
	hashes[s->hash].hmac(span_of(stored_key, size), auth_message, signature);
	for (size_t i = 0; i < size; i++)
		ret_proof[i] = client_key[i] ^ signature[i];
	hashes[s->hash].hmac(key, SPAN("Server Key"), server_key);
	hashes[s->hash].hmac(span_of(server_key, size), auth_message, s->server_signature);
	secret_wipe(client_key, sizeof client_key);
	secret_wipe(server_key, sizeof server_key);
	s->ready = true;
}

int scram_final(struct scram *s, span server_first, struct buf *out)
{
	_cleanup_(buf_donep) struct buf salt = BUF_INIT(SALT_MAX), bare = BUF_INIT(4096),
					message = BUF_INIT(16384);
	uint8_t salted[32], proof[32];
	span rest = server_first, nonce, salt64, count;
	uint64_t iterations;
	int e;

	if (span_starts(rest, SPAN("m=")))
		return ERR_UNSUPPORTED;
	if (!attribute(&rest, 'r', &nonce) || !attribute(&rest, 's', &salt64) ||
	    !attribute(&rest, 'i', &count) || !span_u64(count, UINT32_MAX, &iterations) ||
	    base64_decode(&salt, salt64) < 0 || salt.n == 0 || nonce.n <= s->client_nonce.n ||
	    !span_starts(nonce, s->client_nonce))
		return ERR_SYNTAX;
	if (iterations < SCRAM_ITERATIONS_MIN || iterations > SCRAM_ITERATIONS_MAX)
		return ERR_UNSUPPORTED;
	buf_put_str(&bare, "c=" GS2_BASE64 ",r=");
	buf_put_span(&bare, nonce);
	buf_put_span(&message, s->first_bare);
	buf_put_char(&message, ',');
	buf_put_span(&message, server_first);
	buf_put_char(&message, ',');
	buf_put_span(&message, buf_span(&bare));
	if (bare.failed || message.failed)
		return ERR_TOOBIG;
	e = hashes[s->hash].hi(s->password, buf_span(&salt), (uint32_t)iterations, salted);
	if (e < 0)
		return e;
	prove(s, salted, buf_span(&message), proof);
	secret_wipe(salted, sizeof salted);
	buf_put_span(out, buf_span(&bare));
	buf_put_str(out, ",p=");
	return base64_encode(out, span_of(proof, hashes[s->hash].size));
}

int scram_verify(const struct scram *s, span server_final)
{
	_cleanup_(buf_donep) struct buf signature = BUF_INIT(64);
	size_t size = hashes[s->hash].size;
	span rest = server_final, value;

	if (!s->ready || !attribute(&rest, 'v', &value)) /* "e=...": the server's reason */
		return span_starts(server_final, SPAN("e=")) ? ERR_AUTH : ERR_SYNTAX;
	if (base64_decode(&signature, value) < 0 || signature.n != size ||
	    !secret_eq(signature.p, s->server_signature, size))
		return ERR_AUTH;
	return 0;
}

void scram_done(struct scram *s)
{
	secret_wipe(s, sizeof *s);
}

/* SCRAM (RFC 5802, RFC 7677), with channel binding by tls-exporter (RFC 9266) and
 * tls-server-end-point (RFC 5929).  Written out because the library at hand knows no
 * tls-server-end-point; the server's half needs the stored keys only, never the password. */
#include "sasl/sasl_int.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/id.h"
#include "sasl/scram_parse.h"
#include "tls/hash.h"

/* sasl_mechanism.variant: enum hash_alg, and */
enum { PLUS = 16 };

enum { NONCE = 18, AUTH_MESSAGE_MAX = 16384 };

struct scram {
	enum { WANT_FIRST, WANT_FINAL, SAID_ALL } at;
	struct directory_scram keys;
	span authzid, gs2, nonce;
	span binding;		 /* the channel's, for the type that the client chose */
	struct buf auth_message; /* client-first-bare "," server-first "," */
};

static enum hash_alg alg_of(const struct sasl *s)
{
	return (enum hash_alg)(s->mechanism->variant & ~PLUS);
}

static int scram_start(struct sasl *s)
{
	struct scram *x = s->state = xcalloc(1, sizeof(*x));

	x->auth_message = BUF_INIT(AUTH_MESSAGE_MAX);
	return 0;
}

static void scram_done(struct sasl *s)
{
	struct scram *x = s->state;

	if (!x)
		return;
	buf_done(&x->auth_message);
	secret_wipe(x, sizeof(*x));
	free(x);
}

/* The bytes that TYPE binds to on this connection; empty: we cannot. */
static span channel_binding(const struct sess_tls *tls, span type)
{
	if (span_eq_str(type, "tls-exporter") && tls->has_exporter)
		return span_of(tls->exporter, sizeof(tls->exporter));
	if (span_eq_str(type, "tls-server-end-point"))
		return span_of(tls->endpoint, tls->endpoint_len);
	return SPAN_NULL;
}

static bool offers_plus(const struct sasl *s)
{
	struct sasl_channel c = sasl_channel(s->env, s->sess);

	return sasl_usable(alg_of(s) == HASH_SHA1 ? SPAN("SCRAM-SHA-1-PLUS")
						  : SPAN("SCRAM-SHA-256-PLUS"),
			   &c) == SASL_USABLE;
}

/* RFC 5802 section 6: "p" belongs to the -PLUS mechanisms.  "y" says that the client could bind and
 * was offered no -PLUS: where we do offer it, somebody between has taken it away. */
static bool binding_ok(struct sasl *s, const struct scram_first *f)
{
	struct scram *x = s->state;

	if (!(s->mechanism->variant & PLUS))
		return f->flag == 'n' || (f->flag == 'y' && !offers_plus(s));
	if (f->flag != 'p')
		return false;
	x->binding = channel_binding(&s->sess->tls, f->binding);
	return x->binding.n > 0;
}

static enum sasl_step first_step(struct sasl *s, span in, struct buf *out)
{
	_cleanup_(buf_donep) struct buf name = BUF_INIT(SASL_MAX_NAME),
					authzid = BUF_INIT(SASL_MAX_NAME);
	struct scram *x = s->state;
	struct scram_first f;
	uint8_t random[NONCE];

	if (!scram_first_parse(in, &f) || !binding_ok(s, &f) || !scram_name_decode(&name, f.name) ||
	    !scram_name_decode(&authzid, f.authzid))
		return SASL_FAILED;
	s->login = arena_span(&s->mem, buf_span(&name));
	x->authzid = arena_span(&s->mem, buf_span(&authzid));
	x->gs2 = arena_span(&s->mem, f.gs2);
	if (directory_scram_get(s->env->directory, alg_of(s), s->login, &s->mem, &x->keys) < 0)
		return SASL_UNAVAILABLE;

	_cleanup_(buf_donep) struct buf nonce = BUF_INIT(SCRAM_NONCE_MAX + 2 * NONCE);
	random_bytes(random, sizeof(random));
	buf_put_span(&nonce, f.nonce);
	base64_encode(&nonce, span_of(random, sizeof(random)));
	x->nonce = arena_span(&s->mem, buf_span(&nonce));
	buf_printf(out, "r=%.*s,s=", SPAN_FMT(x->nonce));
	base64_encode(out, x->keys.salt);
	buf_printf(out, ",i=%u", x->keys.iterations);

	buf_put_span(&x->auth_message, f.bare);
	buf_put_char(&x->auth_message, ',');
	buf_put_span(&x->auth_message, buf_span(out));
	buf_put_char(&x->auth_message, ',');
	x->at = WANT_FINAL;
	return x->auth_message.failed ? SASL_FAILED : SASL_CONTINUE;
}

/* c= repeats the header, with what the channel is bound to behind it. */
static bool same_binding(const struct scram *x, span base64)
{
	_cleanup_(buf_donep) struct buf got = BUF_INIT(SASL_MAX_LINE),
					want = BUF_INIT(SASL_MAX_LINE);

	buf_put_span(&want, x->gs2);
	buf_put_span(&want, x->binding);
	return base64_decode(&got, base64) == 0 && span_eq(buf_span(&got), buf_span(&want));
}

/* Is PROOF ClientKey XOR HMAC(StoredKey, AuthMessage) of the key whose hash is StoredKey? */
static bool proof_ok(const struct sasl *s, span proof)
{
	const struct scram *x = s->state;
	enum hash_alg alg = alg_of(s);
	size_t n = hash_size(alg);
	uint8_t key[HASH_MAX], stored[HASH_MAX];

	if (proof.n != n)
		return false;
	hash_hmac(alg, span_of(x->keys.stored_key, n), buf_span(&x->auth_message), key);
	for (size_t i = 0; i < n; i++)
		key[i] ^= (uint8_t)proof.p[i];
	hash_digest(alg, span_of(key, n), stored);
	secret_wipe(key, sizeof(key));
	/* A made-up verifier is compared too, and counts for nothing. */
	return secret_eq(stored, x->keys.stored_key, n) && x->keys.real;
}

static enum sasl_step final_step(struct sasl *s, span in, struct buf *out)
{
	_cleanup_(buf_donep) struct buf proof = BUF_INIT(HASH_MAX);
	struct scram *x = s->state;
	enum hash_alg alg = alg_of(s);
	uint8_t signature[HASH_MAX];
	struct scram_final f;

	if (!scram_final_parse(in, &f) || !span_eq(f.nonce, x->nonce) ||
	    !same_binding(x, f.binding) || base64_decode(&proof, f.proof) < 0)
		return SASL_FAILED;
	buf_put_span(&x->auth_message, f.without_proof);
	if (x->auth_message.failed || !proof_ok(s, buf_span(&proof)))
		return SASL_FAILED;
	enum sasl_step step = sasl_admit(s, s->login, x->authzid);
	/* The password may have been changed since the exchange began. */
	if (step != SASL_OK || strcmp(s->account.id, x->keys.account.id) != 0 ||
	    s->account.generation != x->keys.account.generation)
		return SASL_FAILED;
	hash_hmac(alg, span_of(x->keys.server_key, hash_size(alg)), buf_span(&x->auth_message),
		  signature);
	buf_put_str(out, "v=");
	base64_encode(out, span_of(signature, hash_size(alg)));
	x->at = SAID_ALL;
	/* Our last word travels as a challenge (RFC 4954 section 4); the client owes an empty line.
	 */
	return SASL_CONTINUE;
}

static enum sasl_step scram_step(struct sasl *s, span in, struct buf *out)
{
	const struct scram *x = s->state;

	if (!in.p)
		return SASL_CONTINUE;
	switch (x->at) {
	case WANT_FIRST:
		return first_step(s, in, out);
	case WANT_FINAL:
		return final_step(s, in, out);
	case SAID_ALL:
		break;
	}
	return in.n ? SASL_FAILED : SASL_OK;
}

#define SCRAM(text, bits)                                                                \
	{                                                                                \
		.name = text, .variant = bits, .start = scram_start, .step = scram_step, \
		.done = scram_done                                                       \
	}
const struct sasl_mechanism sasl_scram_mechanisms[] = {
	SCRAM("SCRAM-SHA-256-PLUS", HASH_SHA256 | PLUS),
	SCRAM("SCRAM-SHA-256", HASH_SHA256),
	SCRAM("SCRAM-SHA-1-PLUS", HASH_SHA1 | PLUS),
	SCRAM("SCRAM-SHA-1", HASH_SHA1),
	{ .name = NULL },
};

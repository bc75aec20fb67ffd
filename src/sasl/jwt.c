#include "sasl/jwt.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/codec.h"
#include "tls/sign.h"
#include "tls/verify.h"

struct jwk {
	struct verify_key *key;
	char *kid; /* NULL: none */
};
struct jwks {
	struct jwk *keys;
	size_t n;
};

/* The one algorithm that each kind of key is used with here. */
static const char *alg_of(const struct verify_key *k)
{
	switch (verify_key_type(k)) {
	case SIGN_RSA:
		return "RS256";
	case SIGN_P256:
		return "ES256";
	case SIGN_ED25519:
		return "EdDSA";
	}
	return "";
}

/* ------------------------------------------------------------------ key sets */

/* Member NAME of J, decoded into B. */
static bool member(const json_t *j, const char *name, struct buf *b)
{
	span text = json_str(j, name);

	return text.n && base64url_decode(b, text) == 0;
}

static int key_make(const json_t *j, struct verify_key **ret)
{
	_cleanup_(buf_donep) struct buf one = BUF_INIT(1024), two = BUF_INIT(1024);
	span kty = json_str(j, "kty"), crv = json_str(j, "crv");

	if (span_eq_str(kty, "RSA") && member(j, "n", &one) && member(j, "e", &two))
		return verify_key_rsa_numbers(buf_span(&one), buf_span(&two), ret);
	if (span_eq_str(kty, "EC") && span_eq_str(crv, "P-256") && member(j, "x", &one) &&
	    member(j, "y", &two))
		return verify_key_p256(buf_span(&one), buf_span(&two), ret);
	if (span_eq_str(kty, "OKP") && span_eq_str(crv, "Ed25519") && member(j, "x", &one))
		return verify_key_ed25519(buf_span(&one), ret);
	return ERR_UNSUPPORTED;
}

/* Takes J up if it is a key that may have signed tokens. */
static void key_add(struct jwks *set, const json_t *j)
{
	struct verify_key *key;
	span use = json_str(j, "use"), alg = json_str(j, "alg"), kid = json_str(j, "kid");

	if (!json_is_object(j) || (use.n && !span_eq_str(use, "sig")) || key_make(j, &key) < 0)
		return;
	if (alg.n && !span_eq_str(alg, alg_of(key))) {
		verify_key_free(key);
		return;
	}
	set->keys[set->n++] = (struct jwk){ key, kid.p ? span_dup(kid) : NULL };
}

int jwks_parse(span text, struct jwks **ret, struct err_info *info)
{
	if (text.n > JWKS_MAX)
		return err_set(info, ERR_TOOBIG, "a key set has at most %d bytes", JWKS_MAX);
	_cleanup_(json_decrefp) json_t *j = json_parse(text, info);
	const json_t *list = json_object_get(j, "keys");
	size_t n = json_array_size(list);

	if (!j)
		return ERR_SYNTAX;
	if (!json_is_array(list) || n > JWKS_KEYS_MAX)
		return err_set(info, ERR_SYNTAX, "a key set is {\"keys\": [...]}, at most %d keys",
			       JWKS_KEYS_MAX);
	_cleanup_(jwks_freep) struct jwks *set = xcalloc(1, sizeof(*set));
	set->keys = xcalloc(n + 1, sizeof(*set->keys));
	for (size_t i = 0; i < n; i++)
		key_add(set, json_array_get(list, i));
	if (!set->n)
		return err_set(info, ERR_SYNTAX,
			       "no key for RS256, ES256 or EdDSA signatures is in it");
	*ret = STEAL_PTR(&set);
	return 0;
}

void jwks_free(struct jwks *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->n; i++) {
		verify_key_free(k->keys[i].key);
		free(k->keys[i].kid);
	}
	free(k->keys);
	free(k);
}

/* A token without a key id can only mean the set's only key. */
static const struct verify_key *key_find(const struct jwks *set, span kid)
{
	if (!kid.p)
		return set->n == 1 ? set->keys[0].key : NULL;
	for (size_t i = 0; i < set->n; i++)
		if (set->keys[i].kid && span_eq_str(kid, set->keys[i].kid))
			return set->keys[i].key;
	return NULL;
}

/* ------------------------------------------------------------------ tokens */

struct parts {
	span header, claims, signature; /* base64url */
	span signed_text;		/* the first two, with the dot between */
};

static bool split(span token, struct parts *ret)
{
	span rest = token;

	if (token.n > JWT_MAX)
		return false;
	ret->header = span_cut(&rest, '.');
	ret->claims = span_cut(&rest, '.');
	ret->signature = rest;
	ret->signed_text = span_sub(token, 0, ret->header.n + 1 + ret->claims.n);
	return ret->header.n && ret->claims.n && ret->signature.n &&
	       span_find(ret->signature, '.') == SPAN_NPOS;
}

static json_t *decode(span part)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(JWT_MAX);

	return base64url_decode(&b, part) == 0 ? json_parse(buf_span(&b), NULL) : NULL;
}

bool jwt_peek(span token, json_t **ret_claims, span *ret_issuer)
{
	struct parts p;
	json_t *claims = split(token, &p) ? decode(p.claims) : NULL;

	if (!claims)
		return false;
	*ret_issuer = json_str(claims, "iss");
	*ret_claims = claims;
	return true;
}

/* "JWT", "at+jwt" (RFC 9068), each also with "application/" before it. */
static bool type_ok(span typ)
{
	if (span_istarts(typ, SPAN("application/")))
		typ = span_from(typ, strlen("application/"));
	return !typ.n || span_ieq_str(typ, "JWT") || span_ieq_str(typ, "at+jwt");
}

static const char no_key[] = "its key is not in the issuer's set";

static const char *check_signature(const struct parts *p, const struct jwks *keys)
{
	_cleanup_(buf_donep) struct buf signature = BUF_INIT(1024);
	_cleanup_(json_decrefp) json_t *header = decode(p->header);
	const struct verify_key *key;

	if (!json_is_object(header))
		return "its header is not JSON";
	if (json_object_get(header, "crit"))
		return "its header asks for an extension";
	if (!type_ok(json_str(header, "typ")))
		return "it is another type of token";
	key = key_find(keys, json_str(header, "kid"));
	if (!key)
		return no_key;
	if (!span_eq_str(json_str(header, "alg"), alg_of(key)))
		return "its algorithm is not its key's";
	if (base64url_decode(&signature, p->signature) < 0 ||
	    verify_message(key, p->signed_text, buf_span(&signature)) < 0)
		return "its signature is wrong";
	return NULL;
}

/* Seconds since 1970, perhaps with a fraction; false: no number, or one that is out of all reason.
 */
static bool date(const json_t *v, usec *ret)
{
	double seconds = json_number_value(v);

	if (!json_is_number(v) || seconds < 0 || seconds > 1e11)
		return false;
	*ret = (usec)(seconds * USEC_SEC);
	return true;
}

static bool has_audience(const json_t *aud, span wanted)
{
	if (json_is_string(aud))
		return span_eq(span_of(json_string_value(aud), json_string_length(aud)), wanted);
	for (size_t i = 0; i < json_array_size(aud); i++) {
		const json_t *one = json_array_get(aud, i);

		if (json_is_string(one) && has_audience(one, wanted))
			return true;
	}
	return false;
}

static const char *check_dates(const json_t *claims, usec now)
{
	const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
	usec at;

	if (exp && (!date(exp, &at) || at + JWT_LEEWAY <= now))
		return "it has expired";
	if (nbf && (!date(nbf, &at) || at - JWT_LEEWAY > now))
		return "it is not valid yet";
	return NULL;
}

const char *jwt_check_optional(const json_t *claims, const struct jwt_check *c)
{
	const json_t *iss = json_object_get(claims, "iss"), *aud = json_object_get(claims, "aud");

	if (iss && !span_eq(json_str(claims, "iss"), c->issuer))
		return "it is of another issuer";
	if (aud && !has_audience(aud, c->audience))
		return "it is for another audience";
	return check_dates(claims, c->now);
}

static const char *check_claims(const json_t *claims, const struct jwt_check *c)
{
	if (!json_is_object(claims))
		return "its claims are not JSON";
	if (!json_object_get(claims, "iss") || !json_object_get(claims, "aud") ||
	    !json_object_get(claims, "exp"))
		return "it does not say by whom, for whom and until when it is";
	return jwt_check_optional(claims, c);
}

int jwt_verify(span token, const struct jwks *keys, const struct jwt_check *check,
	       json_t **ret_claims, const char **ret_why)
{
	struct parts p;
	const char *why = split(token, &p) ? check_signature(&p, keys) : "it is not a JWT";
	_cleanup_(json_decrefp) json_t *claims = why ? NULL : decode(p.claims);

	if (!why)
		why = check_claims(claims, check);
	if (why) {
		*ret_why = why;
		return why == no_key ? ERR_NOENT : ERR_AUTH;
	}
	*ret_claims = STEAL_PTR(&claims);
	return 0;
}

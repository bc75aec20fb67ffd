/* JSON Web Tokens (RFC 7519) signed by keys of a JSON Web Key Set (RFC 7517), as RFC 8725 wants
 * them checked: the key says which algorithm is meant, never the token.  No I/O, no clock. */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "format/json.h"

#define JWT_MAX	      8192	  /* octets of a token */
#define JWKS_MAX      (128 * 1024) /* octets of a key set */
#define JWKS_KEYS_MAX 64
#define JWT_LEEWAY    (60 * USEC_SEC) /* how far two clocks may differ */

struct jwks;
/* RSA of 2,048 to 4,096 bits (RS256), P-256 (ES256) and Ed25519 (EdDSA) are taken; other keys, and
 * keys that are not for signatures, are left out.  ERR_SYNTAX, also if none is left; INFO says why.
 */
int jwks_parse(span text, struct jwks **ret, struct err_info *info);
void jwks_free(struct jwks *k);
DEFINE_CLEANUP(struct jwks, jwks_free)

/* Does TOKEN look like one (three parts)?  Then *RET_ISSUER is what its "iss" claims, unverified, in
 * *RET_CLAIMS, which the caller owns. */
bool jwt_peek(span token, json_t **ret_claims, span *ret_issuer);

struct jwt_check {
	span issuer, audience;
	usec now; /* wall */
};
/* 0 and the claims, which the caller owns; or, with the reason for the log in *RET_WHY, ERR_NOENT (its
 * key is not in the set) or ERR_AUTH. */
int jwt_verify(span token, const struct jwks *keys, const struct jwt_check *check,
	       json_t **ret_claims, const char **ret_why);
/* The same of CLAIMS that came from the issuer itself, where each may be missing (RFC 7662 section
 * 2.2): NULL, or the reason for the log. */
const char *jwt_check_optional(const json_t *claims, const struct jwt_check *check);

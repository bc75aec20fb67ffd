/* Plain signatures over bytes: ECDSA P-256 for zone signing in the lab (RFC 8624 algorithm 13), and
 * what DKIM and ARC sign with: RSA PKCS#1 v1.5 with SHA-256 (RFC 6376 3.3.1) and Ed25519 over a
 * SHA-256 digest (RFC 8463 3). */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct sign_key;
int sign_key_new_p256(struct sign_key **ret);
void sign_key_free(struct sign_key *k);
DEFINE_CLEANUP(struct sign_key, sign_key_free)
/* The public point x || y, 64 bytes (DNSKEY form, RFC 6605 section 4). */
int sign_key_public_p256(const struct sign_key *k, uint8_t ret[64]);
/* r || s, 64 bytes, over SHA-256 of IN. */
int sign_p256(const struct sign_key *k, span in, uint8_t ret[64]);

/* --- mail signatures --- */
enum sign_type { SIGN_RSA, SIGN_ED25519, SIGN_P256 };
#define SIGN_RSA_MIN 1024 /* RFC 8301 3.2 */
#define SIGN_RSA_MAX 4096

/* Fresh keys; BITS between SIGN_RSA_MIN and SIGN_RSA_MAX, else ERR_INVAL. */
int sign_key_new_rsa(unsigned bits, struct sign_key **ret);
int sign_key_new_ed25519(struct sign_key **ret);
/* From the 32 bytes of RFC 8032 5.1.5 (RFC 8463 appendix A writes them in base64). */
int sign_key_from_seed(const uint8_t seed[32], struct sign_key **ret);
/* An unencrypted private key in PEM: PKCS#1 or PKCS#8, RSA or Ed25519.  ERR_SYNTAX;
 * ERR_UNSUPPORTED for another kind, and for an RSA key outside of the limits above. */
int sign_key_from_pem(span pem, struct sign_key **ret);
/* The same form, PKCS#8, of an RSA or Ed25519 key; the caller wipes it. */
int sign_key_pem(const struct sign_key *k, struct buf *b);
enum sign_type sign_key_type(const struct sign_key *k);
/* What a DKIM key record's p= holds before base64: SubjectPublicKeyInfo of an RSA key (RFC 6376
 * 3.6.1), the bare 32 bytes of an Ed25519 key (RFC 8463 4.2). */
int sign_key_public(const struct sign_key *k, struct buf *b);
/* Signs a SHA-256 digest with an RSA or Ed25519 key; ERR_UNSUPPORTED for another. */
int sign_digest(const struct sign_key *k, const uint8_t digest[32], struct buf *b);

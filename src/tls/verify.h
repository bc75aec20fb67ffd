/* Checks signatures with public keys: those of mail as DNS publishes them (RFC 6376 3.3, RFC 8463),
 * and those of tokens as a JSON Web Key holds them (RFC 7518, RFC 8037). */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "tls/sign.h"

struct verify_key;
/* An RSA key: SubjectPublicKeyInfo, or the bare RSAPublicKey that RFC 6376's grammar names.
 * ERR_SYNTAX; ERR_UNSUPPORTED for a modulus outside of SIGN_RSA_MIN..SIGN_RSA_MAX bits (*RET_BITS,
 * may be NULL, then says how many) or an exponent that is even, 1, or longer than
 * VERIFY_EXPONENT_BITS: a huge one makes one check cost as much as thousands. */
#define VERIFY_EXPONENT_BITS 33
int verify_key_rsa(span der, struct verify_key **ret, unsigned *ret_bits);
/* 32 bytes (RFC 8032 5.1.5); ERR_SYNTAX for another length. */
int verify_key_ed25519(span raw, struct verify_key **ret);
/* An RSA key by its numbers, big-endian (RFC 7518 6.3.1); as above, but of at least 2,048 bits. */
#define VERIFY_TOKEN_RSA_MIN 2048
int verify_key_rsa_numbers(span modulus, span exponent, struct verify_key **ret);
/* A point of P-256, 32 bytes each (RFC 7518 6.2.1); ERR_SYNTAX, also if it is not on the curve. */
int verify_key_p256(span x, span y, struct verify_key **ret);
enum sign_type verify_key_type(const struct verify_key *k);
void verify_key_free(struct verify_key *k);
DEFINE_CLEANUP(struct verify_key, verify_key_free)
/* Does SIG sign the SHA-256 digest?  0, or ERR_AUTH. */
int verify_digest(const struct verify_key *k, const uint8_t digest[32], span sig);
/* Does SIG sign MESSAGE itself, by RS256, ES256 (r || s) or EdDSA (RFC 7518 3.3, 3.4; RFC 8037 3.1)?
 * 0, or ERR_AUTH. */
int verify_message(const struct verify_key *k, span message, span sig);

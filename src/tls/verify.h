/* Checks mail signatures with public keys as DNS publishes them (RFC 6376 3.3, RFC 8463). */
#pragma once

#include "base/err.h"
#include "base/span.h"

struct verify_key;
/* An RSA key: SubjectPublicKeyInfo, or the bare RSAPublicKey that RFC 6376's grammar names.
 * ERR_SYNTAX; ERR_UNSUPPORTED for a modulus outside of SIGN_RSA_MIN..SIGN_RSA_MAX bits (*RET_BITS,
 * may be NULL, then says how many) or an exponent that is even, 1, or longer than
 * VERIFY_EXPONENT_BITS: a huge one makes one check cost as much as thousands. */
#define VERIFY_EXPONENT_BITS 33
int verify_key_rsa(span der, struct verify_key **ret, unsigned *ret_bits);
/* 32 bytes (RFC 8032 5.1.5); ERR_SYNTAX for another length. */
int verify_key_ed25519(span raw, struct verify_key **ret);
void verify_key_free(struct verify_key *k);
DEFINE_CLEANUP(struct verify_key, verify_key_free)
/* Does SIG sign the SHA-256 digest?  0, or ERR_AUTH. */
int verify_digest(const struct verify_key *k, const uint8_t digest[32], span sig);

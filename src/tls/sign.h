/* Plain signatures over bytes, for zone signing in the lab (RFC 8624 algorithm 13, ECDSA P-256 with
 * SHA-256) and, later, DKIM. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct sign_key;
int sign_key_new_p256(struct sign_key **ret);
void sign_key_free(struct sign_key *k);
/* The public point x || y, 64 bytes (DNSKEY form, RFC 6605 section 4). */
int sign_key_public_p256(const struct sign_key *k, uint8_t ret[64]);
/* r || s, 64 bytes, over SHA-256 of IN. */
int sign_p256(const struct sign_key *k, span in, uint8_t ret[64]);

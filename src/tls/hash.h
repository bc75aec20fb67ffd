/* Hashes and MACs (OpenSSL EVP; algorithms fetched once). */
#pragma once

#include "base/span.h"

void sha256(span in, uint8_t ret[32]);
/* The same in pieces.  sha256_end frees; an unfinished one is freed with ret NULL. */
struct sha256_stream;
struct sha256_stream *sha256_begin(void);
void sha256_add(struct sha256_stream *s, span in);
void sha256_end(struct sha256_stream *s, uint8_t ret[32]);
void sha1(span in, uint8_t ret[20]);
void hmac_sha256(span key, span in, uint8_t ret[32]);
void hmac_sha1(span key, span in, uint8_t ret[20]);
/* PBKDF2-HMAC-SHA-256 (SCRAM's Hi, RFC 5802 2.2). */
int pbkdf2_sha256(span password, span salt, uint32_t iterations, uint8_t ret[32]);
int pbkdf2_sha1(span password, span salt, uint32_t iterations, uint8_t ret[20]);
bool secret_eq(const void *a, const void *b, size_t n); /* constant time */
void secret_wipe(void *p, size_t n);

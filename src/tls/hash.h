/* Hashes and MACs (OpenSSL EVP; algorithms fetched once). */
#pragma once

#include "base/span.h"

enum hash_alg { HASH_SHA1, HASH_SHA256, HASH_ALGS }; /* stored: the values stay */
#define HASH_MAX 32 /* octets of the longest of them */
size_t hash_size(enum hash_alg a); /* octets that the following three put into RET */
void hash_digest(enum hash_alg a, span in, uint8_t *ret);
void hash_hmac(enum hash_alg a, span key, span in, uint8_t *ret);
/* PBKDF2-HMAC with one block of output (SCRAM's Hi, RFC 5802 2.2). */
int hash_pbkdf2(enum hash_alg a, span password, span salt, uint32_t iterations, uint8_t *ret);

void sha256(span in, uint8_t ret[32]);
/* The same in pieces.  sha256_end frees; an unfinished one is freed with ret NULL. */
struct sha256_stream;
struct sha256_stream *sha256_begin(void);
void sha256_add(struct sha256_stream *s, span in);
void sha256_end(struct sha256_stream *s, uint8_t ret[32]);
void sha1(span in, uint8_t ret[20]);
void hmac_sha256(span key, span in, uint8_t ret[32]);
void hmac_sha1(span key, span in, uint8_t ret[20]);
int pbkdf2_sha256(span password, span salt, uint32_t iterations, uint8_t ret[32]);
int pbkdf2_sha1(span password, span salt, uint32_t iterations, uint8_t ret[20]);
bool secret_eq(const void *a, const void *b, size_t n); /* constant time */
void secret_wipe(void *p, size_t n);

/* base64 (RFC 4648 section 4), quoted-printable (RFC 2045 section 6.7), hex, crc32c, SipHash.
 * Pure. */
#pragma once

#include "base/buf.h"

int base64_encode(struct buf *b, span in);            /* one line, padded */
int base64_encode_lines(struct buf *b, span in);      /* 76 characters and CRLF each */
/* Strict: no white space, right padding; ERR_SYNTAX otherwise (SASL, RFC 4422). */
int base64_decode(struct buf *b, span in);
/* RFC 4648 section 5 without padding (JWT, RFC 7515 section 2); strict: ERR_SYNTAX. */
int base64url_decode(struct buf *b, span in);
/* Lenient, for mail bodies: skips what is not in the alphabet, stops at padding (RFC 2045 6.8). */
int base64_decode_lenient(struct buf *b, span in);
int qp_encode(struct buf *b, span in);                /* CRLF stays a line break */
int qp_decode(struct buf *b, span in);                /* lenient: a bad escape is kept as it is */
int hex_encode(struct buf *b, span in);               /* lower case */
int hex_decode(struct buf *b, span in);               /* ERR_SYNTAX on odd length or other bytes */

uint32_t crc32c(uint32_t crc, span s);                /* start with 0 */
/* Keyed hash against collision floods (SipHash-2-4); the key is random per process. */
uint64_t hash_keyed(span s);
/* The same with the caller's key, for a hash that others must be able to repeat. */
uint64_t hash_sip(const uint64_t key[2], span s);
/* FNV-1a, stable across runs and machines: for sharding only. */
uint64_t hash_stable(span s);

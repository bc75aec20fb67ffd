/* The client's half of SCRAM (RFC 5802; with SHA-256: RFC 7677), without channel binding.  Pure but for hashing; all
 * messages are as before base64.
 *
 *     scram_first -> server-first -> scram_final -> server-final -> scram_verify
 *
 * Name and password are used as they are: for ASCII SASLprep changes nothing (RFC 4013), and others are taken to be
 * normalised where they were written down. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

/* A server that asks for more iterations would hold the loop too long (65,536 of SHA-256 take some 30 ms). */
#define SCRAM_ITERATIONS_MAX 65536
#define SCRAM_ITERATIONS_MIN 4096 /* RFC 5802 5.1, RFC 7677 section 4 */
#define SCRAM_NONCE	     24	  /* bytes of scram_new()'s nonce: printable, no comma */

enum scram_hash { SCRAM_SHA1, SCRAM_SHA256 };
struct scram {
	enum scram_hash hash;
	span password, client_nonce, first_bare; /* in the caller's arena */
	uint8_t server_signature[32];
	bool ready; /* server_signature is known */
};
/* Spans of PASSWORD must live as long as S; the rest is put into MEM. */
void scram_init(struct scram *s, enum scram_hash hash, span user, span password, span nonce,
		struct arena *mem);
int scram_first(const struct scram *s, struct buf *out);
/* ERR_SYNTAX: not a server-first, or a nonce that is not ours; ERR_UNSUPPORTED: mandatory extensions ("m=") or an
 * iteration count out of range. */
int scram_final(struct scram *s, span server_first, struct buf *out);
/* Has the server shown that it knows the password too?  ERR_AUTH, ERR_SYNTAX. */
int scram_verify(const struct scram *s, span server_final);
void scram_done(struct scram *s); /* wipes */

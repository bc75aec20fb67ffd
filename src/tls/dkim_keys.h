/* DKIM's private keys: born, kept and used in the keys role (RFC 6376 3.6, RFC 8463).
 *
 * A key is a file of the role's folder, "SELECTOR._domainkey.DOMAIN.pem", mode 0600; nobody else reads it, and
 * no message carries it.  Core asks over a channel of its own (types 98-103; the channels of front know none
 * of them).  Every question is answered by a KEYS_DKIM_ANSWER with its id:
 *
 *	KEYS_DKIM_NEW   {blob domain, blob selector, u8 enum sign_type} -> public key (sign_key_public()); synced
 *	KEYS_DKIM_LIST  {blob domain, blob selector}                    -> u8 enum sign_type, public key
 *	KEYS_DKIM_DROP  {blob domain, blob selector}                    -> nothing; a key that is not there is fine
 *	KEYS_DKIM_SIGN  {blob domain, blob selector, rest: canonical header} -> signature
 *
 * What is signed is not a digest but the complete canonical header (RFC 6376 3.7), whose last field must be
 * a relaxed DKIM-Signature without a signature, with that d=, s= and the algorithm of the key: whoever takes over core can have mail
 * signed, and nothing else (no seal, no handshake, no signature for another domain). */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "tls/sign.h"

enum { KEYS_DKIM_NEW = 98, KEYS_DKIM_LIST, KEYS_DKIM_DROP, KEYS_DKIM_SIGN, KEYS_DKIM_ANSWER };
#define KEYS_DKIM_TEXT_MAX (88u * 1024) /* bytes of a canonical header that is signed */

/* --- core: questions and answers as payloads --- */
void dkim_keys_put(struct buf *b, span domain, span selector); /* what every question begins with */
/* The answer's bytes, or the negative enum err that keys answered: ERR_NOENT (no such key), ERR_EXIST, ERR_INVAL,
 * ERR_PERM (a text that is not to be signed), ERR_FULL, ERR_IO, ...; ERR_PROTO. */
int dkim_keys_answer(span payload, span *ret);

/* --- the keys role --- */
struct dkim_keys;
/* Reads the keys of DIR, which must live as long.  A file that is no key is left out, and told in the log. */
int dkim_keys_open(const char *dir, struct dkim_keys **ret, struct err_info *info);
void dkim_keys_close(struct dkim_keys *k); /* NULL is fine */
/* Appends the payload of the answer to a question of TYPE.  Any thread. */
void dkim_keys_judge(struct dkim_keys *k, uint16_t type, span question, struct buf *b);
/* Serves one channel until it closes; blocking. */
void dkim_keys_serve(struct dkim_keys *k, int sock);

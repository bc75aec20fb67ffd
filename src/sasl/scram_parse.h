/* The messages of a SCRAM client (RFC 5802 section 7).  Pure; spans point into the input. */
#pragma once

#include "base/buf.h"

#define SCRAM_NONCE_MAX 512 /* octets of a client's nonce */

struct scram_first {
	char flag;     /* 'n': cannot bind; 'y': could, but saw no -PLUS; 'p': binds */
	span binding;  /* with 'p': the type, "tls-exporter" */
	span authzid;  /* as sent, =2C and =3D still in it */
	span name;     /* likewise */
	span nonce;
	span gs2, bare; /* the header with its two commas, and what follows it */
};
/* False: not a client-first-message, or an extension that must be understood. */
bool scram_first_parse(span in, struct scram_first *ret);
/* Undoes =2C and =3D; false on any other "=". */
bool scram_name_decode(struct buf *b, span name);

struct scram_final {
	span binding; /* base64 */
	span nonce;
	span proof; /* base64 */
	span without_proof;
};
bool scram_final_parse(span in, struct scram_final *ret);

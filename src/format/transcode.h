/* Makes a message fit a way that carries less than it holds: parts in 8 bits or in binary become
 * quoted-printable or base64, with their header fields corrected (RFC 2045 section 6, RFC 3030
 * section 3, RFC 6152 section 3, RFC 1428).  Pure, streaming, linear, however the message is cut.
 *
 * What a part needs is known at its end but is written in its header, so the message is read twice:
 *
 *     scan scan scan ... transcode_scanned() -> NEEDED     put put put ... end
 *
 * The parts are those that mime.h sees.  Left as they are: what is encoded already, and the fields
 * of headers (8-bit ones need SMTPUTF8).  A signature over a part that changes is broken by it. */
#pragma once

#include "base/buf.h"

enum transcode_goal {
	TRANSCODE_8BIT, /* no NUL, no bare CR or LF in a part; none says it is binary */
	TRANSCODE_7BIT, /* and no octet over 127 */
};
enum transcode_verdict {
	TRANSCODE_AS_IS,      /* it fits */
	TRANSCODE_NEEDED,
	TRANSCODE_IMPOSSIBLE, /* what does not fit stands where nothing can be encoded */
};
struct transcode;
struct transcode *transcode_new(enum transcode_goal goal);
void transcode_free(struct transcode *t); /* NULL is fine */
/* The first reading, from beginning to end. */
void transcode_scan(struct transcode *t, span piece);
/* Ends it. */
enum transcode_verdict transcode_scanned(struct transcode *t);
/* The second reading, of the same bytes.  A piece of n bytes adds at most 4 n + TRANSCODE_HELD to
 * OUT.  ERR_TOOBIG: OUT's maximum. */
#define TRANSCODE_HELD (320u * 1024)
int transcode_put(struct transcode *t, span piece, struct buf *out);
int transcode_end(struct transcode *t, struct buf *out);

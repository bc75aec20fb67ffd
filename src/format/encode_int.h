/* base64 and quoted-printable for bytes that come in pieces.  Internal to the room. */
#pragma once

#include "base/buf.h"

enum encoding { ENCODING_NONE, ENCODING_BASE64, ENCODING_QP };

#define BASE64_LINE 57 /* octets of a line of 76 characters */

struct encoder {
	enum encoding encoding;
	bool begun;	       /* base64: a line stands already */
	uint8_t n;	       /* of LINE */
	uint8_t column;	       /* QP */
	char blank;	       /* QP: a space or tab that may turn out to end a line, or 0 */
	bool cr;	       /* QP: a CR that may be half of a line end */
	char line[BASE64_LINE]; /* base64: what is not a whole line yet */
};
void encoder_put(struct encoder *e, span in, struct buf *out);
/* What waited; the last line of base64 stays without an end, for the boundary brings one. */
void encoder_end(struct encoder *e, struct buf *out);

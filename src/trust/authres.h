/* Authentication-Results (RFC 8601): written for those behind us, removed where it claims to be
 * ours. */
#pragma once

#include "trust/arc.h"
#include "trust/dkim.h"
#include "trust/dmarc.h"
#include "trust/iprev.h"
#include "trust/spf.h"

#define AUTHRES_MAX 64 /* results read from one field */

struct authres_item {
	span text; /* the whole result, "dkim=pass (...) header.d=...", unfolded at its ends only */
	span method, result;
};
/* Reads the value of a field.  ERR_SYNTAX; *RET_N is 0 for "none".  An unquoted copy of the
 * authserv-id goes to *RET_ID. */
int authres_parse(span value, struct arena *mem, span *ret_id, struct authres_item ret[AUTHRES_MAX],
		  size_t *ret_n);
/* Must a field with VALUE that came from outside be removed, since it could be taken for one of
 * ID's? That is so if its authserv-id is ID, comments and quotes aside, and also if it does not
 * parse but names ID (RFC 8601 5). */
bool authres_claims(span value, span id);
/* Appends the header of TEXT, up to and with the empty line, without such fields; *RET_REMOVED (may
 * be NULL) counts them.  The body begins at header_size(TEXT). */
int authres_strip(span text, span id, struct buf *b, size_t *ret_removed);

/* What was found out; NULL: not checked, not written. */
struct authres {
	span id;
	const struct spf_verdict *helo, *mail_from;
	const struct dkim_verdict *dkim;
	const struct arc_verdict *arc;
	const struct dmarc_verdict *dmarc;
	const struct iprev_verdict *iprev;
};
/* Appends the field with CRLF.  Whatever peers chose is quoted. */
int authres_put(struct buf *b, const struct authres *r);

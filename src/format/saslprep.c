#include "format/saslprep.h"

#include <stdlib.h>
#include <unicode/usprep.h>
#include <unicode/ustring.h>

#include "base/arena.h"

/* Preparing may lengthen a text (NFKC): no character of Unicode 3.2 becomes more than 18. */
enum { WIDE_MAX = SASLPREP_MAX, PREPARED_MAX = 18 * SASLPREP_MAX };

static int prepare(struct buf *b, span s, UChar *wide, UChar *out)
{
	UErrorCode e = U_ZERO_ERROR;
	int32_t n = 0, n_out, n_utf8 = 0;

	u_strFromUTF8(wide, WIDE_MAX, &n, s.p, (int32_t)s.n, &e);
	UStringPrepProfile *profile = usprep_openByType(USPREP_RFC4013_SASLPREP, &e);
	if (U_FAILURE(e))
		return ERR_SYNTAX;
	/* "Stored strings" of RFC 3454 7: unassigned code points are prohibited. */
	n_out = usprep_prepare(profile, wide, n, out, PREPARED_MAX, USPREP_DEFAULT, NULL, &e);
	usprep_close(profile);
	char *to = U_SUCCESS(e) ? buf_reserve(b, 3 * (size_t)n_out) : NULL;
	if (!to)
		return U_SUCCESS(e) ? ERR_TOOBIG : ERR_SYNTAX;
	u_strToUTF8(to, 3 * n_out, &n_utf8, out, n_out, &e);
	if (U_FAILURE(e))
		return ERR_SYNTAX;
	buf_added(b, (size_t)n_utf8);
	return 0;
}

int saslprep(struct buf *b, span s)
{
	bool ascii = true;

	if (s.n > SASLPREP_MAX)
		return ERR_TOOBIG;
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
			return ERR_SYNTAX;
		ascii &= (unsigned char)s.p[i] < 0x80;
	}
	if (ascii)
		return buf_put_span(b, s);
	/* A password is in them: wiped by whoever owns B, and here. */
	UChar wide[WIDE_MAX], *out = xcalloc(PREPARED_MAX, sizeof(*out));
	int r = prepare(b, s, wide, out);
	explicit_bzero(wide, sizeof(wide));
	explicit_bzero(out, PREPARED_MAX * sizeof(*out));
	free(out);
	return r;
}

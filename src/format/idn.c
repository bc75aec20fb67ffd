#include "format/idn.h"

#include <idn2.h>

#include "base/arena.h"
#include "base/err.h"
#include "format/address.h"
#include "format/mime.h"
#include "format/text_int.h"

/* A domain has 255 octets as A-labels; written out it is shorter than this. */
#define DOMAIN_TEXT_MAX 1024

/* What libidn2 allocated. */
static void idn_freep(char **p)
{
	idn2_free(*p);
}

static int put_lower(struct buf *b, span ascii)
{
	for (size_t i = 0; i < ascii.n; i++)
		buf_put_char(b, text_lower(ascii.p[i]));
	return b->failed ? ERR_TOOBIG : 0;
}

int idn_to_ascii(struct buf *b, span domain)
{
	/* A-labels are taken as they are: a registry may have allowed more than IDNA2008 does */
	if (!text_has_8bit(domain))
		return domain_valid(domain, false) ? put_lower(b, domain) : ERR_SYNTAX;
	if (domain.n > DOMAIN_TEXT_MAX || memchr(domain.p, 0, domain.n) || !utf8_valid(domain))
		return ERR_SYNTAX;
	_cleanup_(freep) char *in = span_dup(domain);
	_cleanup_(idn_freep) char *out = NULL;
	if (idn2_to_ascii_8z(in, &out, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK ||
	    !domain_valid(span_str(out), false))
		return ERR_SYNTAX;
	return put_lower(b, span_str(out));
}

int idn_to_unicode(struct buf *b, span domain)
{
	if (domain.n == 0 || domain.n > DOMAIN_TEXT_MAX || memchr(domain.p, 0, domain.n) ||
	    !utf8_valid(domain))
		return ERR_SYNTAX;
	_cleanup_(freep) char *in = span_dup(domain);
	_cleanup_(idn_freep) char *out = NULL;
	if (idn2_to_unicode_8z8z(in, &out, IDN2_NONTRANSITIONAL) != IDN2_OK)
		return ERR_SYNTAX;
	return buf_put_str(b, out);
}

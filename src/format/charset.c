#include "format/mime.h"

#include <unicode/uchar.h>
#include <unicode/ucnv.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

#include "base/err.h"
#include "format/text_int.h"

DEFINE_CLEANUP(UConverter, ucnv_close)

/* Names that mail uses for a charset larger than the one of that name. */
static const struct {
	const char *name, *meant;
} supersets[] = {
	{ "gb2312", "gb18030" },
	{ "gbk", "gb18030" },
	{ "ks_c_5601-1987", "windows-949" },
	{ "euc-kr", "windows-949" },
};

static UConverter *open_converter(span charset)
{
	char name[64];
	if (charset.n == 0 || charset.n >= sizeof(name))
		return NULL;
	for (size_t i = 0; i < charset.n; i++) {
		/* ICU takes options behind a comma: a charset's name has none */
		if (!text_is(charset.p[i], CH_FTEXT) || charset.p[i] == ',')
			return NULL;
		name[i] = text_lower(charset.p[i]);
	}
	name[charset.n] = 0;
	const char *meant = name;
	for (size_t i = 0; i < ARRAY_LEN(supersets); i++)
		if (!strcmp(name, supersets[i].name))
			meant = supersets[i].meant;
	UErrorCode e = U_ZERO_ERROR;
	UConverter *c = ucnv_open(meant, &e);
	return U_SUCCESS(e) ? c : NULL;
}

int charset_convert(span charset, span in, struct buf *b)
{
	if ((span_ieq_str(charset, "utf-8") || span_ieq_str(charset, "us-ascii")) && utf8_valid(in))
		return buf_put_span(b, in);
	if (span_ieq_str(charset, "utf-8"))
		return utf8_put_clean(b, in);

	_cleanup_(ucnv_closep) UConverter *from = open_converter(charset);
	UErrorCode e = U_ZERO_ERROR;
	_cleanup_(ucnv_closep) UConverter *to = from ? ucnv_open("UTF-8", &e) : NULL;
	if (!to)
		return ERR_UNSUPPORTED;
	UChar pivot[1024], *pivot_source = pivot, *pivot_target = pivot;
	const char *source = in.n ? in.p : "", *end = source + in.n;
	bool first = true;
	do {
		char out[2048], *target = out;
		e = U_ZERO_ERROR;
		ucnv_convertEx(to, from, &target, out + sizeof(out), &source, end, pivot,
			       &pivot_source, &pivot_target, pivot + ARRAY_LEN(pivot), first, true,
			       &e);
		first = false;
		buf_put(b, out, (size_t)(target - out));
	} while (e == U_BUFFER_OVERFLOW_ERROR && !b->failed);
	return b->failed ? ERR_TOOBIG : 0;
}

/* ISO-8859-1 maps each byte to the code point of its value. */
static int put_latin1(struct buf *b, span in)
{
	for (size_t i = 0; i < in.n; i++)
		utf8_put(b, (uint8_t)in.p[i]);
	return b->failed ? ERR_TOOBIG : 0;
}

int charset_to_utf8(span charset, span in, struct buf *b)
{
	bool ascii = charset.n == 0 || span_ieq_str(charset, "us-ascii");
	int e = ascii ? ERR_UNSUPPORTED : charset_convert(charset, in, b);
	if (e != ERR_UNSUPPORTED)
		return e;
	return utf8_valid(in) ? buf_put_span(b, in) : put_latin1(b, in);
}

static int put_ascii_lower(struct buf *b, span s)
{
	char *p = buf_reserve(b, s.n);
	if (!p)
		return ERR_TOOBIG;
	for (size_t i = 0; i < s.n; i++)
		p[i] = text_lower(s.p[i]);
	buf_added(b, s.n);
	return 0;
}

int utf8_put_lower(struct buf *b, span s)
{
	if (!text_has_8bit(s))
		return s.n ? put_ascii_lower(b, s) : 0;
	while (s.n) {
		uint32_t c;
		size_t n = utf8_sequence(s, &c);
		if (n)
			utf8_put(b, (uint32_t)u_tolower((UChar32)c));
		else
			buf_put(b, "\xef\xbf\xbd", 3);
		s = span_from(s, n ? n : 1);
	}
	return b->failed ? ERR_TOOBIG : 0;
}

/* One piece of at most FOLD_PIECE bytes; normalisation makes a character at most 18 times longer.
 */
#define FOLD_PIECE 4096
static int fold_piece(const UNormalizer2 *nfkc, span s, struct buf *b)
{
	UErrorCode e = U_ZERO_ERROR;
	UChar in[FOLD_PIECE];
	int32_t n = 0;
	u_strFromUTF8WithSub(in, FOLD_PIECE, &n, s.p, (int32_t)s.n, 0xfffd, NULL, &e);
	int32_t cap = 18 * n + 1;
	_cleanup_(freep) UChar *out = xcalloc((size_t)cap, sizeof(UChar));
	n = unorm2_normalize(nfkc, in, n, out, cap, &e);
	_cleanup_(freep) char *text = xcalloc((size_t)n + 1, 3);
	int32_t bytes = 0;
	u_strToUTF8(text, 3 * n + 1, &bytes, out, n, &e);
	if (U_FAILURE(e))
		return ERR_INTERNAL;
	return buf_put(b, text, (size_t)bytes);
}

int text_fold(span s, struct buf *b)
{
	if (!text_has_8bit(s))
		return s.n ? put_ascii_lower(b, s) : 0;
	UErrorCode e = U_ZERO_ERROR;
	const UNormalizer2 *nfkc = unorm2_getNFKCCasefoldInstance(&e);
	if (U_FAILURE(e))
		return ERR_INTERNAL;
	while (s.n) {
		/* cut where nothing combines: behind a space, else at any character */
		span piece = utf8_cut(s, FOLD_PIECE);
		size_t space = piece.n < s.n ? span_rfind(piece, ' ') : SPAN_NPOS;
		if (space != SPAN_NPOS)
			piece.n = space + 1;
		if (!piece.n)
			piece.n = MIN(s.n, FOLD_PIECE); /* continuation bytes only */
		int r = fold_piece(nfkc, piece, b);
		if (r < 0)
			return r;
		s = span_from(s, piece.n);
	}
	return 0;
}

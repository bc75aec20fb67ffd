#include "format/check.h"

#include "format/header_int.h"

#define LINE_MAX_OCTETS 998

/* message_scan.tail: what stands before the next byte */
enum {
	AT_LINE_START = 1, /* the start of the message or an LF */
	CR_AT_START = 2,   /* an otherwise empty line's CR */
	AFTER_CRLF = 4,	   /* the LF belonged to a CRLF, or nothing was read yet */
};

/* One bit per byte of a block of up to 64, the first byte lowest. */
struct masks {
	uint64_t cr, lf, nul, high;
};

#ifdef __SSE2__
#include <emmintrin.h>
static struct masks masks_of(const uint8_t *p)
{
	struct masks m = { 0 };
	const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n'), nul = _mm_setzero_si128();
	for (unsigned i = 0; i < 4; i++) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
		m.cr |= (uint64_t)(uint16_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, cr)) << (16 * i);
		m.lf |= (uint64_t)(uint16_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, lf)) << (16 * i);
		m.nul |= (uint64_t)(uint16_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, nul)) << (16 * i);
		m.high |= (uint64_t)(uint16_t)_mm_movemask_epi8(v) << (16 * i);
	}
	return m;
}
#else
static struct masks masks_of(const uint8_t *p)
{
	struct masks m = { 0 };
	for (unsigned i = 0; i < 64; i++) {
		m.cr |= (uint64_t)(p[i] == '\r') << i;
		m.lf |= (uint64_t)(p[i] == '\n') << i;
		m.nul |= (uint64_t)(p[i] == 0) << i;
		m.high |= (uint64_t)(p[i] >> 7) << i;
	}
	return m;
}
#endif

/* Folds one block of N bytes (1..64) into S. */
static void scan_block(struct message_scan *s, const struct masks *m, const uint8_t *p, unsigned n)
{
	bool cr_before = s->last == '\r';
	uint64_t after_cr = m->cr << 1 | cr_before;
	uint64_t crlf = m->lf & after_cr;
	uint64_t valid = n == 64 ? ~0ull : (1ull << n) - 1;
	if (m->nul)
		s->defects |= MESSAGE_NUL;
	if (m->lf & ~after_cr)
		s->defects |= MESSAGE_BARE_LF;
	if (after_cr & ~m->lf & valid)
		s->defects |= MESSAGE_BARE_CR;

	/* Empty lines end the header: an LF right behind an LF, or behind a CR that is. */
	uint64_t starts = m->lf << 1 | ((s->tail & AT_LINE_START) != 0);
	uint64_t cr_at_start = m->cr & starts;
	uint64_t empty = m->lf & (starts | cr_at_start << 1 | ((s->tail & CR_AT_START) != 0));
	uint64_t header = 0; /* the bits that belong to the header */
	if (s->in_header) {
		header = empty ? (empty & -empty) - 1 : ~0ull;
		s->in_header = !empty;
	}
	if (m->high & header)
		s->defects |= MESSAGE_8BIT_HEADER;
	if (m->high & ~header)
		s->defects |= MESSAGE_8BIT_BODY;

	/* Lines: only the first end in a block can be far from its start. */
	if (crlf) {
		unsigned first = (unsigned)__builtin_ctzll(crlf),
			 last = 63 - (unsigned)__builtin_clzll(crlf);
		if (s->line + first > LINE_MAX_OCTETS + 1) /* counts the CR */
			s->defects |= MESSAGE_LONG_LINE;
		s->line = n - 1 - last;
	} else {
		s->line += n;
	}
	uint64_t top = 1ull << (n - 1);
	s->tail = (m->lf & top ? AT_LINE_START : 0) | (cr_at_start & top ? CR_AT_START : 0) |
		  (crlf & top ? AFTER_CRLF : 0);
	s->last = p[n - 1];
}

void message_scan_init(struct message_scan *s)
{
	*s = (struct message_scan){ .in_header = true, .tail = AT_LINE_START | AFTER_CRLF };
}

void message_scan_feed(struct message_scan *s, span piece)
{
	const uint8_t *p = (const uint8_t *)piece.p;
	size_t n = piece.n;
	for (; n >= 64; p += 64, n -= 64) {
		struct masks m = masks_of(p);
		scan_block(s, &m, p, 64);
	}
	if (n) {
		uint8_t last[64];
		memset(last, 'x', sizeof(last));
		memcpy(last, p, n);
		struct masks m = masks_of(last);
		scan_block(s, &m, last, (unsigned)n);
	}
}

void message_scan_end(struct message_scan *s)
{
	if (s->last == '\r')
		s->defects |= MESSAGE_BARE_CR;
	if (!(s->tail & AFTER_CRLF))
		s->defects |= MESSAGE_NO_FINAL_CRLF;
	if (s->line > LINE_MAX_OCTETS)
		s->defects |= MESSAGE_LONG_LINE;
}

/* "bulk", "list" or "junk" (RFC 2076 3.9). */
static bool is_bulk(span value)
{
	span v = span_trim(value);
	return span_ieq_str(v, "bulk") || span_ieq_str(v, "list") || span_ieq_str(v, "junk");
}

static void note_msgid(span value, struct message_facts *f)
{
	size_t at = 0;
	span id;
	if (f->message_id++ == 0 && header_msgid_next(value, &at, &id))
		f->message_id_value = id;
}

/* The length picks the few names a field can be: most fields cost one comparison or none. */
static void note_field(const struct header_field *h, struct message_facts *f)
{
	f->fields++;
	switch (h->name.n) {
	case 2:
		f->to_cc_bcc += span_ieq_str(h->name, "to") || span_ieq_str(h->name, "cc");
		break;
	case 3:
		f->to_cc_bcc += span_ieq_str(h->name, "bcc");
		break;
	case 4:
		if (span_ieq_str(h->name, "from") && f->from++ == 0)
			f->from_value = h->value;
		else
			f->date += span_ieq_str(h->name, "date");
		break;
	case 6:
		f->sender += span_ieq_str(h->name, "sender");
		break;
	case 7:
		if (span_ieq_str(h->name, "subject")) {
			if (!f->subject_value.p)
				f->subject_value = span_trim(h->value);
		} else if (span_ieq_str(h->name, "list-id")) {
			f->precedence_bulk = true;
		}
		break;
	case 8:
		f->received += span_ieq_str(h->name, "received");
		break;
	case 10:
		if (span_ieq_str(h->name, "message-id"))
			note_msgid(h->value, f);
		else if (span_ieq_str(h->name, "precedence"))
			f->precedence_bulk |= is_bulk(h->value);
		break;
	case 12:
		f->delivered_to += span_ieq_str(h->name, "delivered-to");
		break;
	case 22:
		f->authres += span_ieq_str(h->name, "authentication-results");
		break;
	case 14:
		if (span_ieq_str(h->name, "auto-submitted") && !f->auto_submitted.p)
			f->auto_submitted = span_trim(h->value);
		break;
	}
}

void message_check(span message, struct message_facts *ret)
{
	*ret = (struct message_facts){ 0 };
	struct header_field h;
	enum header_step step;
	size_t at = 0;
	while ((step = header_step(message, &at, &h)) != HEADER_END) {
		if (step == HEADER_FIELD)
			note_field(&h, ret);
		else
			ret->defects |= MESSAGE_BAD_HEADER;
	}
	ret->header_size = at;

	struct message_scan s;
	message_scan_init(&s);
	message_scan_feed(&s, message);
	message_scan_end(&s);
	ret->defects |= s.defects;
}

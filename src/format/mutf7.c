/* Modified UTF-7 (RFC 3501 5.1.3): printable ASCII stands for itself, "&" is "&-", the rest is
 * UTF-16 in base64 with "," for "/" and no padding, between "&" and "-". */
#include "base/err.h"
#include "format/imapfmt.h"
#include "format/text_int.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static bool stands_for_itself(uint32_t c)
{
	return c >= 0x20 && c < 0x7f;
}

/* Bits on their way into base64. */
struct bits {
	uint32_t acc;
	unsigned n;
};

static void put_unit(struct buf *b, struct bits *bits, uint32_t unit)
{
	bits->acc = bits->acc << 16 | unit;
	bits->n += 16;
	while (bits->n >= 6) {
		bits->n -= 6;
		buf_put_char(b, alphabet[bits->acc >> bits->n & 63]);
	}
	bits->acc &= (1u << bits->n) - 1;
}

static void end_run(struct buf *b, struct bits *bits)
{
	if (bits->n)
		buf_put_char(b, alphabet[bits->acc << (6 - bits->n) & 63]);
	*bits = (struct bits){ 0 };
	buf_put_char(b, '-');
}

int mutf7_encode(struct buf *b, span utf8)
{
	if (!utf8_valid(utf8) || (utf8.n && memchr(utf8.p, 0, utf8.n)))
		return ERR_SYNTAX;
	struct bits bits = { 0 };
	bool in_run = false;
	while (utf8.n) {
		uint32_t c;
		utf8 = span_from(utf8, utf8_sequence(utf8, &c));
		if (in_run == stands_for_itself(c)) {
			if (in_run)
				end_run(b, &bits);
			else
				buf_put_char(b, '&');
			in_run = !in_run;
		}
		if (!in_run) {
			buf_put_char(b, (char)c);
			if (c == '&')
				buf_put_char(b, '-');
		} else if (c < 0x10000) {
			put_unit(b, &bits, c);
		} else {
			put_unit(b, &bits, 0xd7c0 + (c >> 10));
			put_unit(b, &bits, 0xdc00 + (c & 0x3ff));
		}
	}
	if (in_run)
		end_run(b, &bits);
	return b->failed ? ERR_TOOBIG : 0;
}

/* The code points of one base64 run; false for what is no UTF-16 (a lone surrogate, spare bits). */
static bool decode_run(struct buf *b, span run)
{
	struct bits bits = { 0 };
	uint32_t high = 0;
	for (size_t i = 0; i < run.n; i++) {
		const char *digit = run.p[i] ? strchr(alphabet, run.p[i]) : NULL;
		if (!digit)
			return false;
		bits.acc = (bits.acc << 6 | (uint32_t)(digit - alphabet)) & 0xffffff;
		bits.n += 6;
		if (bits.n < 16)
			continue;
		bits.n -= 16;
		uint32_t unit = bits.acc >> bits.n & 0xffff;
		bool low = unit >= 0xdc00 && unit < 0xe000;
		if (low != (high != 0) || unit == 0)
			return false;
		if (unit >= 0xd800 && unit < 0xdc00) {
			high = unit;
			continue;
		}
		utf8_put(b, low ? 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00) : unit);
		high = 0;
	}
	return !high;
}

static int decode(struct buf *b, span in)
{
	while (in.n) {
		char c = in.p[0];
		if (!stands_for_itself((uint8_t)c))
			return ERR_SYNTAX;
		in = span_from(in, 1);
		if (c != '&') {
			buf_put_char(b, c);
			continue;
		}
		size_t end = span_find(in, '-');
		if (end == SPAN_NPOS)
			return ERR_SYNTAX;
		if (end == 0)
			buf_put_char(b, '&');
		else if (!decode_run(b, span_sub(in, 0, end)))
			return ERR_SYNTAX;
		in = span_from(in, end + 1);
	}
	return b->failed ? ERR_TOOBIG : 0;
}

int mutf7_decode(struct buf *b, span mutf7)
{
	_cleanup_(buf_donep) struct buf text = BUF_INIT(3 * mutf7.n), again = BUF_INIT(mutf7.n);
	int e = decode(&text, mutf7);
	if (e < 0)
		return e;
	/* One name has one form, else two clients would see two mailboxes: what would be written
	 * differently (ASCII in base64, adjacent runs, spare bits) is refused. */
	if (mutf7_encode(&again, buf_span(&text)) < 0 || !span_eq(buf_span(&again), mutf7))
		return ERR_SYNTAX;
	return buf_put_span(b, buf_span(&text));
}

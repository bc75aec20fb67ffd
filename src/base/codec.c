#include "base/codec.h"

#include "base/err.h"
#include "base/id.h"

/* ------------------------------------------------------------------ base64 */

static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *encode_quantum(char *to, const unsigned char *in, size_t n)
{
	uint32_t v = (uint32_t)in[0] << 16 | (n > 1 ? (uint32_t)in[1] << 8 : 0) |
		     (n > 2 ? in[2] : 0);
	to[0] = b64[v >> 18];
	to[1] = b64[v >> 12 & 63];
	to[2] = n > 1 ? b64[v >> 6 & 63] : '=';
	to[3] = n > 2 ? b64[v & 63] : '=';
	return to + 4;
}

/* LINE: input bytes per line, 0 for one line without a line end. */
static int encode(struct buf *b, span in, size_t line)
{
	if (in.n > SIZE_MAX / 2) {
		b->failed = true;
		return ERR_TOOBIG;
	}
	size_t lines = line ? (in.n + line - 1) / line : 0;
	size_t n = (in.n + 2) / 3 * 4 + lines * 2;
	char *to = buf_reserve(b, n);
	if (!to)
		return ERR_TOOBIG;
	const unsigned char *p = (const unsigned char *)in.p;
	for (size_t i = 0; i < in.n; i += 3) {
		to = encode_quantum(to, p + i, in.n - i);
		if (line && ((i + 3) % line == 0 || i + 3 >= in.n)) {
			*to++ = '\r';
			*to++ = '\n';
		}
	}
	buf_added(b, n);
	return 0;
}

int base64_encode(struct buf *b, span in)
{
	return encode(b, in, 0);
}

int base64_encode_lines(struct buf *b, span in)
{
	return encode(b, in, 57);
}

static int b64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static int b64url_value(char c)
{
	return c == '-' ? 62 : c == '_' ? 63 : c == '+' || c == '/' ? -1 : b64_value(c);
}

/* IN is without padding. */
static int decode_strictly(struct buf *b, span in, int (*value)(char c))
{
	if (in.n % 4 == 1)
		return ERR_SYNTAX;
	size_t n = in.n / 4 * 3 + (in.n % 4 ? in.n % 4 - 1 : 0);
	char *to = buf_reserve(b, n);
	if (!to)
		return ERR_TOOBIG;
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t at = 0;
	for (size_t i = 0; i < in.n; i++) {
		int v = value(in.p[i]);
		if (v < 0)
			return ERR_SYNTAX;
		acc = acc << 6 | (uint32_t)v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			to[at++] = (char)(acc >> bits);
		}
	}
	if (acc & ((1u << bits) - 1)) /* bits that no encoder sets: RFC 4648 section 3.5 */
		return ERR_SYNTAX;
	buf_added(b, n);
	return 0;
}

int base64_decode(struct buf *b, span in)
{
	if (in.n % 4 != 0)
		return ERR_SYNTAX;
	size_t pad = 0;
	while (pad < 2 && pad < in.n && in.p[in.n - 1 - pad] == '=')
		pad++;
	return decode_strictly(b, span_sub(in, 0, in.n - pad), b64_value);
}

int base64url_decode(struct buf *b, span in)
{
	return decode_strictly(b, in, b64url_value);
}

int base64_decode_lenient(struct buf *b, span in)
{
	char *to = buf_reserve(b, in.n / 4 * 3 + 3);
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t at = 0;
	if (!to)
		return ERR_TOOBIG;
	for (size_t i = 0; i < in.n && in.p[i] != '='; i++) {
		int v = b64_value(in.p[i]);
		if (v < 0)
			continue;
		acc = acc << 6 | (uint32_t)v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			to[at++] = (char)(acc >> bits);
		}
	}
	buf_added(b, at);
	return 0;
}

/* ------------------------------------------------------------------ quoted-printable, hex */

static const char hex_lower[] = "0123456789abcdef", hex_upper[] = "0123456789ABCDEF";

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_crlf(span in, size_t i)
{
	return i + 1 < in.n && in.p[i] == '\r' && in.p[i + 1] == '\n';
}

int qp_encode(struct buf *b, span in)
{
	size_t column = 0;
	for (size_t i = 0; i < in.n; i++) {
		if (is_crlf(in, i)) {
			buf_put(b, "\r\n", 2);
			column = 0;
			i++;
			continue;
		}
		unsigned char c = (unsigned char)in.p[i];
		bool at_end = i + 1 == in.n || is_crlf(in, i + 1);
		bool plain = (c > 0x20 && c < 0x7f && c != '=') ||
			     ((c == ' ' || c == '\t') && !at_end);
		size_t width = plain ? 1 : 3;
		/* 76 columns; the last is kept for the "=" of a soft break. */
		if (column + width > (at_end ? 76u : 75u)) {
			buf_put(b, "=\r\n", 3);
			column = 0;
		}
		if (plain)
			buf_put_char(b, (char)c);
		else
			buf_put(b, (char[]){ '=', hex_upper[c >> 4], hex_upper[c & 15] }, 3);
		column += width;
	}
	return b->failed ? ERR_TOOBIG : 0;
}

/* Length of the line end at I (CRLF or a bare LF), else 0. */
static size_t line_end(span in, size_t i)
{
	if (is_crlf(in, i))
		return 2;
	return i < in.n && in.p[i] == '\n' ? 1 : 0;
}

static size_t skip_blanks(span in, size_t i)
{
	while (i < in.n && (in.p[i] == ' ' || in.p[i] == '\t'))
		i++;
	return i;
}

int qp_decode(struct buf *b, span in)
{
	char *to = buf_reserve(b, in.n); /* never grows */
	size_t at = 0, i = 0;
	if (!to)
		return ERR_TOOBIG;
	while (i < in.n) {
		char c = in.p[i];
		if (c == ' ' || c == '\t') {
			/* Blanks before a line end were added on the way (RFC 2045 6.7 rule 3). */
			size_t end = skip_blanks(in, i);
			if (!line_end(in, end)) {
				memcpy(to + at, in.p + i, end - i);
				at += end - i;
			}
			i = end;
			continue;
		}
		if (c == '=') {
			size_t end = skip_blanks(in, i + 1), soft = line_end(in, end);
			if (soft || end == in.n) {
				i = end + soft;
				continue;
			}
			int high = i + 2 < in.n ? hex_value(in.p[i + 1]) : -1;
			int low = i + 2 < in.n ? hex_value(in.p[i + 2]) : -1;
			if (high >= 0 && low >= 0) {
				to[at++] = (char)(high << 4 | low);
				i += 3;
				continue;
			}
		}
		to[at++] = c;
		i++;
	}
	buf_added(b, at);
	return 0;
}

int hex_encode(struct buf *b, span in)
{
	char *to = in.n <= SIZE_MAX / 2 ? buf_reserve(b, in.n * 2) : NULL;
	if (!to) {
		b->failed = true;
		return ERR_TOOBIG;
	}
	for (size_t i = 0; i < in.n; i++) {
		unsigned char c = (unsigned char)in.p[i];
		to[2 * i] = hex_lower[c >> 4];
		to[2 * i + 1] = hex_lower[c & 15];
	}
	buf_added(b, in.n * 2);
	return 0;
}

int hex_decode(struct buf *b, span in)
{
	if (in.n % 2)
		return ERR_SYNTAX;
	char *to = buf_reserve(b, in.n / 2);
	if (!to)
		return ERR_TOOBIG;
	for (size_t i = 0; i < in.n; i += 2) {
		int high = hex_value(in.p[i]), low = hex_value(in.p[i + 1]);
		if (high < 0 || low < 0)
			return ERR_SYNTAX;
		to[i / 2] = (char)(high << 4 | low);
	}
	buf_added(b, in.n / 2);
	return 0;
}

/* ------------------------------------------------------------------ hashes */

static inline uint64_t load_le64(const unsigned char *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

/* Eight tables: eight bytes a step ("slicing by 8"). */
static uint32_t crc_table[8][256];
static uint64_t sip_key[2];

#ifdef __x86_64__
/* The processor's own instruction, where it has one. */
__attribute__((target("sse4.2"))) static uint32_t crc_instruction(uint32_t crc,
								  const unsigned char *p, size_t n)
{
	uint64_t v = crc;
	for (; n >= 8; n -= 8, p += 8)
		v = __builtin_ia32_crc32di(v, load_le64(p));
	crc = (uint32_t)v;
	for (; n; n--, p++)
		crc = __builtin_ia32_crc32qi(crc, *p);
	return crc;
}
#endif

__attribute__((constructor)) static void setup(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t v = i;
		for (int bit = 0; bit < 8; bit++)
			v = v >> 1 ^ (v & 1 ? 0x82f63b78u : 0);
		crc_table[0][i] = v;
	}
	for (uint32_t i = 0; i < 256; i++) {
		for (int t = 1; t < 8; t++) {
			uint32_t v = crc_table[t - 1][i];
			crc_table[t][i] = v >> 8 ^ crc_table[0][v & 255];
		}
	}
	random_bytes(sip_key, sizeof(sip_key));
}

uint32_t crc32c(uint32_t crc, span s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t n = s.n;
	crc = ~crc;
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc_instruction(crc, p, n);
#endif
	for (; n >= 8; n -= 8, p += 8) {
		uint64_t v = load_le64(p) ^ crc;
		crc = 0;
		for (int t = 0; t < 8; t++)
			crc ^= crc_table[7 - t][v >> (8 * t) & 255];
	}
	for (; n; n--, p++)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 255];
	return ~crc;
}

static inline uint64_t rotl(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

uint64_t hash_sip(const uint64_t key[2], span s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
			  key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u };
	size_t left = s.n;
	for (; left >= 8; left -= 8, p += 8) {
		uint64_t m = load_le64(p);
		v[3] ^= m;
		sip_round(v);
		sip_round(v);
		v[0] ^= m;
	}
	uint64_t last = (uint64_t)s.n << 56;
	for (size_t i = 0; i < left; i++)
		last |= (uint64_t)p[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_keyed(span s)
{
	return hash_sip(sip_key, s);
}

uint64_t hash_stable(span s)
{
	uint64_t h = 0xcbf29ce484222325u;
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3u;
	return h;
}

#include "base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"

void buf_init(struct buf *b, size_t max)
{
	*b = BUF_INIT(max);
}

void buf_done(struct buf *b)
{
	free(b->p);
	*b = BUF_INIT(b->max);
}

void buf_reset(struct buf *b)
{
	b->n = 0;
	b->failed = false;
}

void buf_shrink(struct buf *b, size_t keep)
{
	if (b->n || b->cap <= keep)
		return;
	free(b->p);
	b->p = NULL;
	b->cap = 0;
}

char *buf_reserve(struct buf *b, size_t n)
{
	if (b->failed || b->n > b->max || n > b->max - b->n) {
		b->failed = true;
		return NULL;
	}
	size_t need = b->n + n;
	if (need > b->cap || !b->p) {
		size_t cap = MAX(need, b->cap < SIZE_MAX / 2 ? b->cap * 2 : SIZE_MAX);
		cap = MIN(MAX(cap, (size_t)64), MAX(b->max, need));
		/* One byte more than cap: buf_cstr's NUL always fits. */
		b->p = xrealloc(b->p, cap + 1);
		b->cap = cap;
	}
	return b->p + b->n;
}

int buf_put(struct buf *b, const void *p, size_t n)
{
	if (n == 0)
		return b->failed ? ERR_TOOBIG : 0;
	char *to = buf_reserve(b, n);
	if (!to)
		return ERR_TOOBIG;
	memcpy(to, p, n);
	b->n += n;
	return 0;
}

int buf_put_span(struct buf *b, span s)
{
	return buf_put(b, s.p, s.n);
}

int buf_put_str(struct buf *b, const char *z)
{
	return buf_put(b, z, strlen(z));
}

int buf_put_char(struct buf *b, char c)
{
	return buf_put(b, &c, 1);
}

int buf_put_u64(struct buf *b, uint64_t v)
{
	char digits[20];
	size_t at = sizeof(digits);
	do {
		digits[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	return buf_put(b, digits + at, sizeof(digits) - at);
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	char small[256];
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(small, sizeof(small), fmt, ap);
	int r = 0;
	assert(n >= 0);
	if ((size_t)n < sizeof(small)) {
		r = buf_put(b, small, (size_t)n);
	} else {
		char *to = buf_reserve(b, (size_t)n);
		if (to) {
			vsnprintf(to, (size_t)n + 1, fmt, again);
			b->n += (size_t)n;
		} else {
			r = ERR_TOOBIG;
		}
	}
	va_end(again);
	return r;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return r;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->n);
	b->n -= n;
	if (b->n && n)
		memmove(b->p, b->p + n, b->n);
}

void buf_truncate(struct buf *b, size_t n)
{
	assert(n <= b->n);
	b->n = n;
}

const char *buf_cstr(struct buf *b)
{
	if (!b->n)
		return "";
	b->p[b->n] = '\0';
	return b->p;
}

int buf_put_escaped(struct buf *b, span s, size_t max)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = MIN(s.n, max);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == '\n')
			buf_put(b, "\\n", 2);
		else if (c == '\r')
			buf_put(b, "\\r", 2);
		else if (c == '\t')
			buf_put(b, "\\t", 2);
		else if (c == '\\' || c == '"')
			buf_put(b, (char[]){ '\\', (char)c }, 2);
		else if (c >= 0x20 && c < 0x7f)
			buf_put_char(b, (char)c);
		else
			buf_put(b, (char[]){ '\\', 'x', hex[c >> 4], hex[c & 15] }, 4);
	}
	if (n < s.n)
		buf_put(b, "...", 3);
	return b->failed ? ERR_TOOBIG : 0;
}

/* ------------------------------------------------------------------ little-endian records */

static int put_le(struct buf *b, uint64_t v, size_t bytes)
{
	unsigned char raw[8];
	for (size_t i = 0; i < bytes; i++)
		raw[i] = (unsigned char)(v >> (8 * i));
	return buf_put(b, raw, bytes);
}

int buf_put_le16(struct buf *b, uint16_t v)
{
	return put_le(b, v, 2);
}

int buf_put_le32(struct buf *b, uint32_t v)
{
	return put_le(b, v, 4);
}

int buf_put_le64(struct buf *b, uint64_t v)
{
	return put_le(b, v, 8);
}

int buf_put_blob(struct buf *b, span s)
{
	/* All or nothing: a length without its bytes would shift every later record. */
	if (s.n > UINT32_MAX || s.n + 4 > b->max || !buf_reserve(b, s.n + 4)) {
		b->failed = true;
		return ERR_TOOBIG;
	}
	put_le(b, s.n, 4);
	return buf_put_span(b, s);
}

span cursor_bytes(struct cursor *c, size_t n)
{
	if (c->bad || n > c->s.n - c->at) {
		c->bad = true;
		return SPAN_NULL;
	}
	span piece = span_sub(c->s, c->at, n);
	c->at += n;
	return piece;
}

static uint64_t get_le(struct cursor *c, size_t bytes)
{
	span raw = cursor_bytes(c, bytes);
	uint64_t v = 0;
	for (size_t i = raw.n; i-- > 0;)
		v = v << 8 | (unsigned char)raw.p[i];
	return v;
}

uint8_t cursor_u8(struct cursor *c)
{
	return (uint8_t)get_le(c, 1);
}

uint16_t cursor_le16(struct cursor *c)
{
	return (uint16_t)get_le(c, 2);
}

uint32_t cursor_le32(struct cursor *c)
{
	return (uint32_t)get_le(c, 4);
}

uint64_t cursor_le64(struct cursor *c)
{
	return get_le(c, 8);
}

span cursor_blob(struct cursor *c)
{
	return cursor_bytes(c, cursor_le32(c));
}

span cursor_rest(struct cursor *c)
{
	return cursor_bytes(c, c->s.n - c->at);
}

bool cursor_at_end(const struct cursor *c)
{
	return !c->bad && c->at == c->s.n;
}

/* buf: a growing byte buffer for writing, with a maximum that is set at birth.
 *
 * An append that would pass the maximum changes nothing but sets `failed`; later appends then do
 * nothing too, so that a writer may check once at its end.  Small allocations never fail (abort). */
#pragma once

#include <stdarg.h>

#include "base/span.h"

struct buf {
	char *p;      /* NULL while empty */
	size_t n;     /* bytes used */
	size_t cap;   /* bytes allocated */
	size_t max;   /* limit of n */
	bool failed;  /* an append was refused */
};

#define BUF_INIT(maximum) ((struct buf){ .max = (maximum) })

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);                /* frees; the struct is then as after BUF_INIT */
void buf_reset(struct buf *b);               /* n = 0, failed = false; keeps the memory */
void buf_shrink(struct buf *b, size_t keep); /* frees the memory if cap > KEEP and n == 0 */
static inline void buf_donep(struct buf *b)
{
	buf_done(b);
}
static inline span buf_span(const struct buf *b)
{
	return (span){ b->p, b->n };
}

/* All return 0 or ERR_TOOBIG. */
int buf_put(struct buf *b, const void *p, size_t n);
int buf_put_span(struct buf *b, span s);
int buf_put_str(struct buf *b, const char *z);
int buf_put_char(struct buf *b, char c);
int buf_put_u64(struct buf *b, uint64_t v); /* decimal */
int buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) _printf_(2, 0);

/* Room for N more bytes at the end; NULL if that passes the maximum.  Then buf_added(). */
char *buf_reserve(struct buf *b, size_t n);
static inline void buf_added(struct buf *b, size_t n)
{
	b->n += n;
}
/* Drops the first N bytes (moves the rest). */
void buf_consume(struct buf *b, size_t n);
void buf_truncate(struct buf *b, size_t n);

/* A NUL after the last byte that does not count in n.  Valid until the next append; "" if empty. */
const char *buf_cstr(struct buf *b);

/* Appends S so that no log line or terminal can be hurt: printable ASCII except backslash and
 * double quote stays, the rest becomes \n \r \t \\ \" or \xHH; at most MAX input bytes, then "...". */
int buf_put_escaped(struct buf *b, span s, size_t max);

/* --- little-endian binary records (channel messages, journals) --- */
int buf_put_le16(struct buf *b, uint16_t v);
int buf_put_le32(struct buf *b, uint32_t v);
int buf_put_le64(struct buf *b, uint64_t v);
int buf_put_blob(struct buf *b, span s); /* le32 length, then the bytes */

/* cursor: reads such records; the error is sticky, a read past the end gives 0 / empty. */
struct cursor {
	span s;
	size_t at;
	bool bad;
};
static inline struct cursor cursor_of(span s)
{
	return (struct cursor){ .s = s };
}
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_le16(struct cursor *c);
uint32_t cursor_le32(struct cursor *c);
uint64_t cursor_le64(struct cursor *c);
span cursor_bytes(struct cursor *c, size_t n);
span cursor_blob(struct cursor *c);
span cursor_rest(struct cursor *c);
bool cursor_at_end(const struct cursor *c); /* everything was read and nothing was bad */

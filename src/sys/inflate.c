#include "sys/inflate.h"

#include <zlib.h>

#include "base/util.h"

#define PIECE 65536

enum { RAW = -15, GZIP = 15 + 16 };

/* One stream at the start of IN; *RET_USED is where it ends. */
static int inflate_one(span in, int window, struct buf *b, size_t *ret_used)
{
	z_stream z = { .next_in = (Bytef *)in.p, .avail_in = (uInt)MIN(in.n, (size_t)UINT32_MAX) };
	int r = inflateInit2(&z, window);
	if (r != Z_OK)
		return ERR_NOMEM;
	while (r == Z_OK) {
		size_t room = MIN(b->max - b->n, (size_t)PIECE);
		char *to = room ? buf_reserve(b, room) : NULL;
		if (!to)
			break;
		z.next_out = (Bytef *)to;
		z.avail_out = (uInt)room;
		r = inflate(&z, Z_NO_FLUSH);
		buf_added(b, room - z.avail_out);
		if (r == Z_OK && z.avail_in == 0 && z.avail_out)
			r = Z_BUF_ERROR; /* cut off */
	}
	*ret_used = (size_t)(z.next_in - (const Bytef *)in.p);
	inflateEnd(&z);
	return r == Z_STREAM_END ? 0 : r == Z_OK ? ERR_TOOBIG : ERR_SYNTAX;
}

int inflate_gzip(span in, struct buf *b)
{
	size_t used;
	int e = ERR_SYNTAX;
	do {
		e = inflate_one(in, GZIP, b, &used);
		in = span_from(in, used);
	} while (e == 0 && span_starts(in, SPAN("\x1f\x8b")));
	return e;
}

/* Local file header (APPNOTE 4.3.7): signature, version, flags, method, time, crc, sizes, lengths. */
int inflate_zip(span in, struct buf *b)
{
	struct cursor c = cursor_of(in);
	size_t used;
	if (cursor_le32(&c) != 0x04034b50)
		return ERR_SYNTAX;
	cursor_le16(&c);
	uint16_t flags = cursor_le16(&c), method = cursor_le16(&c);
	cursor_le32(&c); /* time and date */
	cursor_le32(&c); /* crc: of what a peer says about itself */
	uint32_t packed = cursor_le32(&c);
	cursor_le32(&c);
	uint16_t name = cursor_le16(&c), extra = cursor_le16(&c);
	cursor_bytes(&c, (size_t)name + extra);
	if (c.bad)
		return ERR_SYNTAX;
	if (flags & 1 || (method != 0 && method != 8))
		return ERR_UNSUPPORTED;
	if (method == 8)
		return inflate_one(cursor_rest(&c), RAW, b, &used);
	span stored = cursor_bytes(&c, packed);
	if (c.bad)
		return ERR_SYNTAX;
	return buf_put_span(b, stored) < 0 ? ERR_TOOBIG : 0;
}

#include "sys/zstd.h"

#include <zstd.h>

#include "base/err.h"

static void free_cctx(ZSTD_CCtx **c)
{
	ZSTD_freeCCtx(*c);
}

static void free_dctx(ZSTD_DCtx **d)
{
	ZSTD_freeDCtx(*d);
}

int zstd_compress(struct buf *b, span in, int level)
{
	if (level < 1 || level > 19)
		return ERR_INVAL;
	_cleanup_(free_cctx) ZSTD_CCtx *c = ZSTD_createCCtx();
	if (!c)
		return ERR_NOMEM;
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	size_t before = b->n;
	while (in.n) {
		span piece = span_sub(in, 0, ZSTD_FRAME_RAW);
		size_t bound = ZSTD_compressBound(piece.n);
		char *to = buf_reserve(b, bound);
		size_t n = to ? ZSTD_compress2(c, to, bound, piece.p, piece.n) : 0;
		if (!to || ZSTD_isError(n)) {
			buf_truncate(b, before);
			return to ? ERR_INTERNAL : ERR_TOOBIG;
		}
		buf_added(b, n);
		in = span_from(in, piece.n);
	}
	return 0;
}

/* Appends the part [from, from + n) of one frame that holds RAW bytes. */
static int read_frame(struct buf *b, ZSTD_DCtx *d, span frame, size_t raw, size_t from, size_t n)
{
	char *to = buf_reserve(b, n);
	if (!to)
		return ERR_TOOBIG;
	_cleanup_(buf_donep) struct buf whole = BUF_INIT(ZSTD_FRAME_RAW);
	char *out = n == raw ? to : buf_reserve(&whole, raw);
	size_t got = ZSTD_decompressDCtx(d, out, raw, frame.p, frame.n);
	if (ZSTD_isError(got) || got != raw)
		return ERR_CORRUPT;
	if (out != to)
		memcpy(to, out + from, n);
	buf_added(b, n);
	return 0;
}

int zstd_read(struct buf *b, span frames, uint64_t from, uint64_t n)
{
	_cleanup_(free_dctx) ZSTD_DCtx *d = ZSTD_createDCtx();
	if (!d)
		return ERR_NOMEM;
	size_t before = b->n;
	int r = 0;
	while (r == 0 && frames.n && n) {
		size_t size = ZSTD_findFrameCompressedSize(frames.p, frames.n);
		if (ZSTD_isError(size)) {
			r = ERR_CORRUPT;
			break;
		}
		/* A frame of ours knows its size, which bounds what a damaged one can ask for; the
		 * error values of this call are huge numbers. */
		unsigned long long raw = ZSTD_getFrameContentSize(frames.p, frames.n);
		if (raw == 0 || raw > ZSTD_FRAME_RAW) {
			r = ERR_CORRUPT;
			break;
		}
		if (from < raw) {
			size_t take = (size_t)MIN(n, raw - from);
			r = read_frame(b, d, span_sub(frames, 0, size), (size_t)raw, (size_t)from,
				       take);
			n -= take;
			from = 0;
		} else {
			from -= raw;
		}
		frames = span_from(frames, size);
	}
	if (r < 0)
		buf_truncate(b, before);
	return r;
}

/* Compression at rest: zstd in independent frames, so that a range can be read without the rest. */
#pragma once

#include "base/buf.h"

#define ZSTD_FRAME_RAW (256u * 1024) /* uncompressed bytes per frame, the last may be shorter */

/* Appends IN as frames, LEVEL 1..19. */
int zstd_compress(struct buf *b, span in, int level);
/* Appends bytes [from, from+n) of the uncompressed content; whole content may not pass b->max. ERR_CORRUPT. */
int zstd_read(struct buf *b, span frames, uint64_t from, uint64_t n);

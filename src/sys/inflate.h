/* inflate: what came compressed from somewhere else (zlib).  Bounded by what may come out, not by what
 * went in. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

/* A gzip file (RFC 1952), all its members, appended to B.  ERR_SYNTAX: it is none, or broken; ERR_TOOBIG
 * at B's maximum. */
int inflate_gzip(span in, struct buf *b);
/* The first file of a zip archive, stored or deflated, appended to B.  ERR_SYNTAX, ERR_TOOBIG;
 * ERR_UNSUPPORTED: encrypted, or packed in another way. */
int inflate_zip(span in, struct buf *b);

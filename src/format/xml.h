/* XML as reports use it: elements and their text (expat behind this header).  Document types are refused,
 * and with them entities of their own; prefixes of names are dropped. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define XML_MAX_DEPTH 32
#define XML_MAX_TEXT  4096 /* of one element; the rest is dropped */

/* An element begins: PATH is "feedback/record/row".  Ends: TEXT is what stood in it, trimmed, without what
 * its children had.  Spans live during the call. */
struct xml_handler {
	void (*open)(void *arg, span path);
	void (*close)(void *arg, span path, span text);
};
/* ERR_SYNTAX: not well-formed; ERR_TOOBIG: deeper than XML_MAX_DEPTH; *RET_LINE (may be NULL) is where. */
int xml_read(span in, const struct xml_handler *h, void *arg, size_t *ret_line);
/* Appends IN with what is no markup escaped: bytes that are no UTF-8 as "?", "<" that begins no tag, "&"
 * that begins no reference.  For what careless programs wrote.  ERR_TOOBIG. */
int xml_mend(span in, struct buf *b);

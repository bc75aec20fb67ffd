/* Reading headers step by step, past lines that are no fields.  Internal to the room. */
#pragma once

#include "format/header.h"

enum header_step { HEADER_FIELD, HEADER_BAD, HEADER_END };
/* One field (or one bad line with its continuations) from *AT on; at HEADER_END *AT is behind the
 * empty line. */
enum header_step header_step(span message, size_t *at, struct header_field *ret);
/* Is LINE, with its line end, the empty line that ends a header? */
bool header_line_empty(span line);
/* RAW is one field with its line end(s). */
bool header_split_field(span raw, struct header_field *ret);

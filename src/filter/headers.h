/* Header fields as filters see and change them.  Pure. */
#pragma once

#include "filter/filter.h"
#include "format/header.h"

/* What stands behind "Name:" for a filter's VALUE: lines end in CRLF and go on with white space, so
 * that no value starts a field or the body; SPACED: a space comes first.  In MEM. */
span filter_header_value(span value, bool spaced, struct arena *mem);
/* HEADER (with its empty line, if it has one) after the edits E that are of headers, in their order,
 * with an empty line at its end, appended to B.  A field that is deleted goes on counting in the
 * numbers of later edits.  ERR_TOOBIG. */
int filter_header_edit(span header, const struct filter_edit *e, size_t n, struct buf *b);

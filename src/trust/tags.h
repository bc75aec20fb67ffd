/* Tag lists, "name=value; name=value" (RFC 6376 3.2): signatures, key records, seals.  Pure. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#define TAGS_MAX 64

struct tag {
	span name;  /* as written; names are case-sensitive */
	span value; /* without the white space around it; may be folded */
	span raw;   /* all between "=" and ";" or the end */
};
struct tags {
	size_t n;
	struct tag tag[TAGS_MAX];
};
/* ERR_SYNTAX: not a tag list, or a name twice; ERR_TOOBIG: more than TAGS_MAX. */
int tags_parse(span list, struct tags *ret);
/* NULL if absent. */
const struct tag *tags_find(const struct tags *t, const char *name);
/* Value of NAME; p NULL if absent. */
span tags_value(const struct tags *t, const char *name);
/* S without any white space (base64 values, lists); a copy. */
span tags_compact(span s, struct arena *mem);
/* Does the colon-separated LIST hold WORD?  ASCII case-insensitive, white space around words
 * ignored. */
bool tags_list_has(span list, const char *word);
/* Base64 with white space anywhere; ERR_SYNTAX, ERR_TOOBIG (more than MAX bytes). */
int tags_base64(span value, size_t max, struct arena *mem, span *ret);

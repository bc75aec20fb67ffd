/* JSON: jansson to read and build, behind this header.  Depth and duplicates are limited on reading. */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

#define JSON_MAX_TEXT (16 * 1024 * 1024)
#define JSON_MAX_DEPTH 64
/* Parses one JSON object or array of at most JSON_MAX_TEXT bytes, nested at most JSON_MAX_DEPTH deep;
 * duplicate keys, NUL and what is not UTF-8 are refused.  NULL and INFO on failure; the caller owns
 * the result (json_decref; jansson's json_decrefp() suits _cleanup_). */
json_t *json_parse(span text, struct err_info *info);
int json_put(struct buf *b, const json_t *j);        /* compact, one line, no LF; ERR_TOOBIG */
int json_put_pretty(struct buf *b, const json_t *j); /* indented, LF at the end */
/* String value of KEY, p NULL if there is no such string; the span lives as long as the object. */
span json_str(const json_t *obj, const char *key);
int64_t json_int(const json_t *obj, const char *key, int64_t fallback);
bool json_bool(const json_t *obj, const char *key, bool fallback);
/* A JSON string from bytes that need not be UTF-8 (bad bytes become U+FFFD). */
json_t *json_span(span s);

#include "format/json.h"

#include "format/mime.h"
#include "format/text_int.h"

/* jansson recurses as deep as the text nests, so the depth is known before it starts. */
static bool too_deep(span text)
{
	unsigned depth = 0;
	bool in_string = false;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > JSON_MAX_DEPTH)
				return true;
		} else if ((c == '}' || c == ']') && depth) {
			depth--;
		}
	}
	return false;
}

/* jansson's own words quote the text; these do not. */
static const char *reason(const json_error_t *e)
{
	switch (json_error_code(e)) {
	case json_error_duplicate_key:
		return "a key occurs twice";
	case json_error_premature_end_of_input:
		return "the text ends too early";
	case json_error_end_of_input_expected:
		return "something follows the value";
	case json_error_invalid_utf8:
		return "not valid UTF-8";
	case json_error_null_character:
	case json_error_null_byte_in_key:
		return "NUL is not allowed";
	case json_error_numeric_overflow:
		return "a number is too large";
	default:
		return "not valid JSON";
	}
}

json_t *json_parse(span text, struct err_info *info)
{
	if (text.n > JSON_MAX_TEXT || too_deep(text)) {
		err_set(info, ERR_TOOBIG, "JSON text is too %s",
			text.n > JSON_MAX_TEXT ? "long" : "deep");
		return NULL;
	}
	json_error_t e;
	json_t *j = json_loadb(text.n ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &e);
	if (!j)
		err_set(info, ERR_SYNTAX, "line %d, column %d: %s", e.line, e.column, reason(&e));
	return j;
}

static int put_piece(const char *p, size_t n, void *b)
{
	return buf_put(b, p, n);
}

int json_put(struct buf *b, const json_t *j)
{
	return json_dump_callback(j, put_piece, b, JSON_COMPACT | JSON_ENCODE_ANY) ? ERR_TOOBIG : 0;
}

int json_put_pretty(struct buf *b, const json_t *j)
{
	if (json_dump_callback(j, put_piece, b, JSON_INDENT(2) | JSON_ENCODE_ANY))
		return ERR_TOOBIG;
	return buf_put_char(b, '\n');
}

span json_str(const json_t *obj, const char *key)
{
	const json_t *v = json_object_get(obj, key);
	return json_is_string(v) ? span_of(json_string_value(v), json_string_length(v)) : SPAN_NULL;
}

int64_t json_int(const json_t *obj, const char *key, int64_t fallback)
{
	const json_t *v = json_object_get(obj, key);
	return json_is_integer(v) ? json_integer_value(v) : fallback;
}

bool json_bool(const json_t *obj, const char *key, bool fallback)
{
	const json_t *v = json_object_get(obj, key);
	return json_is_boolean(v) ? json_is_true(v) : fallback;
}

json_t *json_span(span s)
{
	if (utf8_valid(s))
		return json_stringn_nocheck(s.n ? s.p : "", s.n);
	_cleanup_(buf_donep) struct buf b = BUF_INIT(3 * s.n);
	utf8_put_clean(&b, s);
	return json_stringn_nocheck(b.p, b.n);
}

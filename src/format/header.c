#include "format/header.h"

#include "format/header_int.h"
#include "format/text_int.h"

/* Behind the line that starts at FROM. */
static size_t line_end(span s, size_t from)
{
	const char *nl = memchr(s.p + from, '\n', s.n - from);
	return nl ? (size_t)(nl - s.p) + 1 : s.n;
}

/* LINE without its line end. */
static span chop(span line)
{
	if (line.n && line.p[line.n - 1] == '\n')
		line.n--;
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

bool header_line_empty(span line)
{
	return line.n && chop(line).n == 0;
}

bool header_split_field(span raw, struct header_field *ret)
{
	size_t colon = span_find(raw, ':');
	if (colon == SPAN_NPOS)
		return false;
	span name = span_sub(raw, 0, colon);
	while (name.n && text_is_wsp(name.p[name.n - 1]))
		name.n--; /* obsolete syntax, RFC 5322 4.5 */
	if (!header_name_valid(name))
		return false;
	*ret = (struct header_field){ .name = name,
				      .value = chop(span_from(raw, colon + 1)),
				      .raw = raw };
	return true;
}

enum header_step header_step(span message, size_t *at, struct header_field *ret)
{
	size_t start = *at;
	if (start >= message.n)
		return HEADER_END;
	size_t end = line_end(message, start);
	if (header_line_empty(span_sub(message, start, end - start))) {
		*at = end;
		return HEADER_END;
	}
	while (end < message.n && text_is_wsp(message.p[end]))
		end = line_end(message, end);
	*at = end;
	return header_split_field(span_sub(message, start, end - start), ret) ? HEADER_FIELD
									      : HEADER_BAD;
}

bool header_next(span message, size_t *at, struct header_field *ret, bool *ret_bad)
{
	size_t start = *at;
	enum header_step step = header_step(message, at, ret);
	if (ret_bad)
		*ret_bad = step == HEADER_BAD;
	if (step == HEADER_BAD)
		*at = start;
	return step == HEADER_FIELD;
}

bool header_next_field(span message, size_t *at, struct header_field *ret)
{
	enum header_step step;
	while ((step = header_step(message, at, ret)) == HEADER_BAD)
		;
	return step == HEADER_FIELD;
}

bool header_find(span message, const char *name, unsigned nth, struct header_field *ret)
{
	span want = span_str(name);
	message = span_sub(message, 0, HEADER_LOOKUP_MAX);
	struct header_field f;
	enum header_step step;
	for (size_t at = 0; (step = header_step(message, &at, &f)) != HEADER_END;) {
		if (step == HEADER_BAD || !span_ieq(f.name, want) || nth-- > 0)
			continue;
		*ret = f;
		return true;
	}
	return false;
}

size_t header_count(span message, const char *name)
{
	span want = span_str(name);
	message = span_sub(message, 0, HEADER_LOOKUP_MAX);
	struct header_field f;
	enum header_step step;
	size_t count = 0;
	for (size_t at = 0; (step = header_step(message, &at, &f)) != HEADER_END;)
		count += step == HEADER_FIELD && span_ieq(f.name, want);
	return count;
}

size_t header_size(span message)
{
	for (size_t at = 0; at < message.n;) {
		size_t end = line_end(message, at);
		bool empty = header_line_empty(span_sub(message, at, end - at));
		at = end;
		if (empty)
			return at;
	}
	return message.n;
}

span header_unfold(span value, struct arena *mem)
{
	value = span_trim(value);
	if (!value.n || (!memchr(value.p, '\n', value.n) && !memchr(value.p, '\r', value.n)))
		return value;
	char *out = arena_alloc(mem, value.n);
	size_t n = 0;
	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];
		if (c != '\r' && c != '\n') {
			out[n++] = c;
			continue;
		}
		/* a break that no white space follows is no fold: the words stay apart */
		if (i + 1 < value.n && !text_is_space(value.p[i + 1]) && n &&
		    !text_is_wsp(out[n - 1]))
			out[n++] = ' ';
	}
	return span_of(out, n);
}

bool header_name_valid(span name)
{
	for (size_t i = 0; i < name.n; i++)
		if (!text_is(name.p[i], CH_FTEXT))
			return false;
	return name.n > 0;
}

bool header_msgid_next(span value, size_t *at, span *ret)
{
	size_t open = SPAN_NPOS;
	for (size_t i = *at; i < value.n; i++) {
		char c = value.p[i];
		if (c == '<') {
			open = i;
		} else if (text_is_ctl(c) || c == ' ') {
			open = SPAN_NPOS;
		} else if (c == '>' && open != SPAN_NPOS) {
			*at = i + 1;
			if (i - open < 2)
				continue;
			*ret = span_sub(value, open, i + 1 - open);
			return true;
		}
	}
	*at = value.n;
	return false;
}

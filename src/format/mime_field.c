/* Content- fields and their parameters (RFC 2045 section 5, RFC 2183, RFC 2231). */
#include "format/mime_int.h"
#include "format/text_int.h"

/* RFC 2231 parameters as they are found: NAME*SECTION* */
struct piece {
	span base;
	unsigned section;
	bool sectioned, extended, done;
	span value;
};

static bool is_token_char(char c)
{
	return !text_is_space(c) && c != ';' && c != '(' && c != '"' && c != '=';
}

static span token(span s, size_t *at)
{
	size_t start = *at;
	while (*at < s.n && is_token_char(s.p[*at]))
		++*at;
	return span_sub(s, start, *at - start);
}

/* A parameter's value: quoted, or everything to the next white space or ";" ("=", "/" and "?" are
 * against the rules there, but boundaries are written so). */
static span param_value(span s, size_t *at, struct arena *mem)
{
	if (*at < s.n && s.p[*at] == '"') {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(s.n);
		text_quoted(s, at, &b);
		return arena_span(mem, buf_span(&b));
	}
	size_t start = *at;
	while (*at < s.n && (is_token_char(s.p[*at]) || s.p[*at] == '='))
		++*at;
	return span_sub(s, start, *at - start);
}

/* "; name=value ..." from AT on, in the order written. */
static struct mime_param *parse_raw(span s, size_t at, struct arena *mem)
{
	struct mime_param *first = NULL, **tail = &first;
	for (unsigned n = 0; n < MIME_MAX_PARAMS;) {
		/* over whatever is left of the parameter before */
		while (at < s.n && s.p[at] != ';')
			if (!text_skip_cfws(s, &at, NULL))
				at++;
		if (at >= s.n)
			break;
		at++;
		text_skip_cfws(s, &at, NULL);
		span name = token(s, &at);
		text_skip_cfws(s, &at, NULL);
		if (!name.n || at >= s.n || s.p[at] != '=')
			continue;
		at++;
		text_skip_cfws(s, &at, NULL);
		struct mime_param *p = *tail = arena_new(mem, struct mime_param);
		p->name = name;
		p->value = param_value(s, &at, mem);
		tail = &p->next;
		n++;
	}
	return first;
}

static struct piece piece_of(const struct mime_param *p)
{
	struct piece r = { .base = p->name, .value = p->value };
	size_t star = span_find(p->name, '*');
	if (star == SPAN_NPOS || star == 0)
		return r;
	span rest = span_from(p->name, star + 1);
	r.base = span_sub(p->name, 0, star);
	if (rest.n == 0) {
		r.extended = true;
		return r;
	}
	if (rest.p[rest.n - 1] == '*') {
		r.extended = true;
		rest.n--;
	}
	uint64_t section;
	if (!span_u64(rest, MIME_MAX_PARAMS, &section))
		return (struct piece){ .base = p->name, .value = p->value };
	r.section = (unsigned)section;
	r.sectioned = true;
	return r;
}

static void put_percent(struct buf *b, span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '%' && i + 2 < s.n && text_hex_digit(s.p[i + 1]) >= 0 &&
		    text_hex_digit(s.p[i + 2]) >= 0) {
			c = (char)(text_hex_digit(s.p[i + 1]) << 4 | text_hex_digit(s.p[i + 2]));
			i += 2;
		}
		buf_put_char(b, c);
	}
}

/* charset'language'text at the start of an extended value: cuts the first two off. */
static span cut_charset(span *value)
{
	size_t one = span_find(*value, '\'');
	size_t two = one == SPAN_NPOS ? SPAN_NPOS : span_find(span_from(*value, one + 1), '\'');
	if (two == SPAN_NPOS)
		return SPAN_NULL;
	span charset = span_sub(*value, 0, one);
	*value = span_from(*value, one + 1 + two + 1);
	return charset;
}

static struct piece *find_piece(struct piece *list, size_t n, span base, unsigned section,
				bool sectioned)
{
	struct piece *found = NULL;
	for (size_t i = 0; i < n; i++) {
		if (list[i].done || list[i].sectioned != sectioned || list[i].section != section ||
		    !span_ieq(list[i].base, base))
			continue;
		if (list[i].extended)
			return &list[i];
		if (!found)
			found = &list[i];
	}
	return found;
}

/* The value of a parameter whose sections, if any, start at FIRST. */
static span join(struct piece *list, size_t n, const struct piece *first, struct arena *mem)
{
	size_t total = 0;
	for (size_t i = 0; i < n; i++)
		total += list[i].value.n;
	_cleanup_(buf_donep) struct buf raw = BUF_INIT(total), text = BUF_INIT(4 * total + 16);
	span charset = SPAN_NULL;
	const struct piece *p = first;
	for (unsigned section = 0; p; p = find_piece(list, n, first->base, section, true)) {
		span value = p->value;
		if (p->extended && section == 0)
			charset = cut_charset(&value);
		if (p->extended)
			put_percent(&raw, value);
		else
			buf_put_span(&raw, value);
		if (!p->sectioned)
			break;
		section++;
	}
	bool plain = !first->extended && !first->sectioned;
	if (plain && span_find_span(buf_span(&raw), SPAN("=?")) !=
			     SPAN_NPOS) /* against RFC 2047, but common */
		return header_decode_words(buf_span(&raw), text.max, mem);
	if (!text_has_8bit(buf_span(&raw)) && (charset.n == 0 || span_ieq_str(charset, "utf-8")))
		return arena_span(mem, buf_span(&raw));
	charset_to_utf8(charset, buf_span(&raw), &text);
	return arena_span(mem, buf_span(&text));
}

/* RAW with sections joined and charsets decoded.  The extended form wins over the plain one. */
static struct mime_param *decode(const struct mime_param *raw, struct arena *mem)
{
	struct piece list[MIME_MAX_PARAMS];
	size_t n = 0;
	for (; raw; raw = raw->next)
		list[n++] = piece_of(raw);
	struct mime_param *first = NULL, **tail = &first;
	for (size_t i = 0; i < n; i++) {
		if (list[i].done)
			continue;
		span base = list[i].base;
		struct piece *whole = find_piece(list, n, base, 0, false);
		struct piece *start = find_piece(list, n, base, 0, true);
		struct piece *use = start && !(whole && whole->extended) ? start : whole;
		if (use) {
			struct mime_param *p = *tail = arena_new(mem, struct mime_param);
			p->name = base;
			p->value = join(list, n, use, mem);
			tail = &p->next;
		}
		for (size_t k = i; k < n; k++)
			list[k].done |= span_ieq(list[k].base, base);
	}
	return first;
}

static void note_type(struct mime_part *p, span value, struct arena *mem)
{
	size_t at = 0;
	text_skip_cfws(value, &at, NULL);
	size_t start = at;
	while (at < value.n && is_token_char(value.p[at]) && value.p[at] != '/')
		at++;
	span type = span_sub(value, start, at - start);
	text_skip_cfws(value, &at, NULL);
	if (!type.n || at >= value.n || value.p[at] != '/')
		return; /* stays the default (RFC 2045 5.2) */
	at++;
	text_skip_cfws(value, &at, NULL);
	span subtype = token(value, &at);
	if (!subtype.n)
		return;
	p->type = type;
	p->subtype = subtype;
	p->raw_params = parse_raw(value, at, mem);
	p->params = decode(p->raw_params, mem);
}

static void note_disposition(struct mime_part *p, span value, struct arena *mem)
{
	size_t at = 0;
	text_skip_cfws(value, &at, NULL);
	p->disposition = token(value, &at);
	if (!p->disposition.n) {
		p->disposition = SPAN_NULL;
		return;
	}
	p->raw_disposition_params = parse_raw(value, at, mem);
	p->disposition_params = decode(p->raw_disposition_params, mem);
}

static void note_encoding(struct mime_part *p, span value)
{
	size_t at = 0;
	text_skip_cfws(value, &at, NULL);
	span encoding = token(value, &at);
	if (encoding.n)
		p->encoding = encoding;
}

void mime_note_field(struct mime_part *p, const struct header_field *f, struct arena *mem)
{
	static const char *const names[] = { "type",	 "transfer-encoding", "disposition",
					     "id",	 "description",	      "md5",
					     "language", "location" };
	if (f->name.n <= 8 || !span_istarts(f->name, SPAN("content-")))
		return;
	span name = span_from(f->name, 8);
	size_t i = 0;
	while (i < ARRAY_LEN(names) && !span_ieq_str(name, names[i]))
		i++;
	if (i == ARRAY_LEN(names) || (p->seen & 1u << i))
		return;
	p->seen |= 1u << i;
	span value = span_trim(f->value);
	switch (i) {
	case 0:
		note_type(p, value, mem);
		break;
	case 1:
		note_encoding(p, value);
		break;
	case 2:
		note_disposition(p, value, mem);
		break;
	default: {
		span *const rest[] = { &p->id, &p->description, &p->md5, &p->language,
				       &p->location };
		if (value.n)
			*rest[i - 3] = value;
	}
	}
}

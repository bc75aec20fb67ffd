/* Values: text <-> struct conf, by the type of the schema row. */
#include "conf/conf_int.h"

#include <stdio.h>

#include "base/log.h"

#define NETWORKS_MAX 64 /* they are looked through one by one */

#define FIELD(in, o, type)	 ((type *)(void *)((char *)(in) + (o)->offset))
#define FIELD_CONST(in, o, type) ((const type *)(const void *)((const char *)(in) + (o)->offset))

int conf_fail(struct err_info *info, const struct conf_place *at, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return err_set(info, ERR_SYNTAX, "%s:%zu:%zu: %s", at->file, at->line, at->column, text);
}

static void size_text(uint64_t v, char *ret, size_t size)
{
	static const char unit[] = "KMG";
	char u = 0;

	for (int i = 0; unit[i] && v && v % 1024 == 0; i++) {
		v /= 1024;
		u = unit[i];
	}
	snprintf(ret, size, u ? "%llu%c" : "%llu", (unsigned long long)v, u);
}

/* Exact, unlike clock_format_duration(): "1h1m1s". */
static void duration_text(usec d, char *ret, size_t size)
{
	static const struct {
		char unit;
		usec seconds;
	} units[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };
	usec left = d / USEC_SEC;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		usec count = left / units[i].seconds;

		left %= units[i].seconds;
		if (count && n < size)
			n += (size_t)snprintf(ret + n, size - n, "%lld%c", (long long)count,
					      units[i].unit);
	}
	if (!n)
		snprintf(ret, size, "0s");
}

/* "a list of {name, host, port}". */
static void rows_expected(const struct conf_table *t, char *ret, size_t size)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(size);

	buf_put_str(&b, "a list of maps {");
	for (size_t i = 0; i < t->n_columns; i++)
		buf_printf(&b, "%s%s", i ? ", " : "", t->columns[i].name);
	buf_put_char(&b, '}');
	snprintf(ret, size, "%s", buf_cstr(&b));
}

const void *conf_rows(const struct conf *c, const struct conf_option *o, size_t *ret_n)
{
	const char *in = (const char *)c;

	*ret_n = *(const size_t *)(const void *)(in + o->table->count_offset);
	return *(void *const *)(const void *)(in + o->offset);
}

void conf_expected(const struct conf_option *o, char *ret, size_t size)
{
	char lo[32], hi[32];

	switch (o->type) {
	case CONF_TEXT:
		snprintf(ret, size, "a line of text");
		break;
	case CONF_BOOL:
		snprintf(ret, size, "yes or no");
		break;
	case CONF_COUNT:
		snprintf(ret, size, "a number from %llu to %llu", (unsigned long long)o->min,
			 (unsigned long long)o->max);
		break;
	case CONF_SIZE:
		size_text(o->min, lo, sizeof lo);
		size_text(o->max, hi, sizeof hi);
		snprintf(ret, size, "a size such as %s, from %s to %s", o->fallback, lo, hi);
		break;
	case CONF_DURATION:
		duration_text((usec)o->min * USEC_SEC, lo, sizeof lo);
		duration_text((usec)o->max * USEC_SEC, hi, sizeof hi);
		snprintf(ret, size, "a time such as %s, from %s to %s", o->fallback, lo, hi);
		break;
	case CONF_SET:
		snprintf(ret, size, "a list of %s", o->choices);
		break;
	case CONF_ADDRESSES:
		snprintf(ret, size, "a list of ADDRESS:PORT, such as [\"%s\"]", o->fallback);
		break;
	case CONF_NETWORKS:
		snprintf(ret, size, "a list of networks, such as [192.0.2.0/24, \"2001:db8::/48\"]");
		break;
	case CONF_CHOICE:
		snprintf(ret, size, "one of %s", o->choices);
		break;
	case CONF_ROWS:
		rows_expected(o->table, ret, size);
		break;
	}
}

bool conf_text_ok(span s)
{
	/* C1 controls begin with C2; then U+2028, U+2029, U+FEFF, U+FFFE, U+FFFF. */
	static const char *const odd[] = { "\xe2\x80\xa8", "\xe2\x80\xa9", "\xef\xbb\xbf",
					   "\xef\xbf\xbe", "\xef\xbf\xbf" };

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < ' ' || c == 0x7f ||
		    (c == 0xc2 && i + 1 < s.n && (unsigned char)s.p[i + 1] < 0xa0))
			return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(odd); i++)
		if (span_find_span(s, span_str(odd[i])) != SPAN_NPOS)
			return false;
	return true;
}

bool conf_size_parse(span text, uint64_t *ret)
{
	uint64_t v, unit = 1;

	if (text.n) {
		switch (text.p[text.n - 1] & ~0x20) {
		case 'K':
			unit = 1024;
			break;
		case 'M':
			unit = 1024 * 1024;
			break;
		case 'G':
			unit = 1024ull * 1024 * 1024;
			break;
		}
		if (unit > 1)
			text.n--;
	}
	if (!span_u64(text, UINT64_MAX / unit, &v))
		return false;
	*ret = v * unit;
	return true;
}

static int choice_index(const char *choices, span text)
{
	span rest = span_str(choices);

	for (int i = 0; rest.p; i++)
		if (span_eq(span_cut(&rest, '|'), text))
			return i;
	return -1;
}

/* Adds the choices in TEXT, separated by "|". */
static bool set_add(unsigned *set, const char *choices, span text)
{
	while (text.p) {
		int i = choice_index(choices, span_cut(&text, '|'));

		if (i < 0)
			return false;
		*set |= 1u << i;
	}
	return true;
}

/* Appends one listening address. */
static bool address_add(struct conf *c, struct conf_listener *l, span text)
{
	struct sockaddr_any a;
	span *grown;

	if (l->n >= 64 || sock_parse(text, &a) < 0)
		return false;
	grown = arena_array(&c->mem, span, l->n + 1);
	for (size_t i = 0; i < l->n; i++)
		grown[i] = l->addresses[i];
	grown[l->n++] = arena_span(&c->mem, text);
	l->addresses = grown;
	return true;
}

/* Appends networks, divided by spaces where they stand in one value. */
static bool networks_add(struct conf *c, struct conf_networks *l, span text)
{
	while (text.n) {
		span word = span_cut(&text, ' ');
		struct net n, *grown;

		if (l->n >= NETWORKS_MAX || net_parse(word, &n) < 0)
			return false;
		grown = arena_array(&c->mem, struct net, l->n + 1);
		for (size_t i = 0; i < l->n; i++)
			grown[i] = l->nets[i];
		grown[l->n++] = n;
		l->nets = grown;
	}
	return true;
}

int conf_value_set(struct conf *c, void *in, const struct conf_option *o, span text,
		   const struct conf_place *at, struct err_info *info)
{
	char expected[CONF_EXPECTED];
	uint64_t v;
	usec d;
	int i;

	switch (o->type) {
	case CONF_TEXT:
		if (!conf_text_ok(text))
			break;
		*FIELD(in, o, span) = arena_span(&c->mem, text);
		return 0;
	case CONF_BOOL:
		if (span_eq_str(text, "yes") || span_eq_str(text, "true"))
			*FIELD(in, o, bool) = true;
		else if (span_eq_str(text, "no") || span_eq_str(text, "false"))
			*FIELD(in, o, bool) = false;
		else
			break;
		return 0;
	case CONF_COUNT:
		if (!span_u64(text, o->max, &v) || v < o->min)
			break;
		*FIELD(in, o, uint32_t) = (uint32_t)v;
		return 0;
	case CONF_SIZE:
		if (!conf_size_parse(text, &v) || v < o->min || v > o->max)
			break;
		*FIELD(in, o, uint64_t) = v;
		return 0;
	case CONF_DURATION:
		if (clock_parse_duration(text, &d) < 0 || d < (usec)o->min * USEC_SEC ||
		    d > (usec)o->max * USEC_SEC)
			break;
		*FIELD(in, o, usec) = d;
		return 0;
	case CONF_CHOICE:
		i = choice_index(o->choices, text);
		if (i < 0)
			break;
		*FIELD(in, o, int) = i;
		return 0;
	case CONF_SET:
		if (!set_add(FIELD(in, o, unsigned), o->choices, text))
			break;
		return 0;
	case CONF_ADDRESSES:
		if (!conf_text_ok(text) ||
		    !address_add(c, FIELD(in, o, struct conf_listener), text))
			break;
		return 0;
	case CONF_NETWORKS:
		if (!networks_add(c, FIELD(in, o, struct conf_networks), text))
			break;
		return 0;
	case CONF_ROWS:
		break;
	}
	conf_expected(o, expected, sizeof expected);
	return conf_fail(info, at, "%s: expected %s", o->name, expected);
}

/* A YAML string in double quotes. */
static int quoted_put(struct buf *b, span s)
{
	buf_put_char(b, '"');
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '"' || s.p[i] == '\\')
			buf_put_char(b, '\\');
		buf_put_char(b, s.p[i]);
	}
	return buf_put_char(b, '"');
}

static int rows_put(const struct conf *c, const struct conf_option *o, struct buf *b)
{
	size_t n;
	const char *row = conf_rows(c, o, &n);

	buf_put_char(b, '[');
	for (size_t i = 0; i < n; i++, row += o->table->row_size) {
		buf_put_str(b, i ? ", " : "");
		for (size_t k = 0; k < o->table->n_columns; k++) {
			buf_printf(b, "%s%s: ", k ? ", " : "{", o->table->columns[k].name);
			conf_value_put(row, &o->table->columns[k], b);
		}
		buf_put_char(b, '}');
	}
	return buf_put_char(b, ']');
}

static int set_put(const char *choices, unsigned set, struct buf *b)
{
	span rest = span_str(choices);
	const char *before = "";

	buf_put_char(b, '[');
	for (int i = 0; rest.p; i++) {
		span name = span_cut(&rest, '|');

		if (!(set & 1u << i))
			continue;
		buf_put_str(b, before);
		buf_put_span(b, name);
		before = ", ";
	}
	return buf_put_char(b, ']');
}

int conf_value_put(const void *in, const struct conf_option *o, struct buf *b)
{
	char text[NET_TEXT];
	span choice;
	int i;

	switch (o->type) {
	case CONF_TEXT:
		return quoted_put(b, *FIELD_CONST(in, o, span));
	case CONF_BOOL:
		return buf_put_str(b, *FIELD_CONST(in, o, bool) ? "yes" : "no");
	case CONF_COUNT:
		return buf_put_u64(b, *FIELD_CONST(in, o, uint32_t));
	case CONF_SIZE:
		size_text(*FIELD_CONST(in, o, uint64_t), text, sizeof text);
		return buf_put_str(b, text);
	case CONF_DURATION:
		duration_text(*FIELD_CONST(in, o, usec), text, sizeof text);
		return buf_put_str(b, text);
	case CONF_CHOICE:
		choice = span_str(o->choices);
		for (i = *FIELD_CONST(in, o, int); i > 0; i--)
			span_cut(&choice, '|');
		return buf_put_span(b, span_cut(&choice, '|'));
	case CONF_SET:
		return set_put(o->choices, *FIELD_CONST(in, o, unsigned), b);
	case CONF_ADDRESSES: {
		const struct conf_listener *l = FIELD_CONST(in, o, struct conf_listener);

		buf_put_char(b, '[');
		for (size_t n = 0; n < l->n; n++) {
			buf_put_str(b, n ? ", " : "");
			quoted_put(b, l->addresses[n]);
		}
		return buf_put_char(b, ']');
	}
	case CONF_NETWORKS: {
		const struct conf_networks *l = FIELD_CONST(in, o, struct conf_networks);

		buf_put_char(b, '[');
		for (size_t n = 0; n < l->n; n++) {
			net_text(&l->nets[n], text);
			buf_put_str(b, n ? ", " : "");
			quoted_put(b, span_str(text));
		}
		return buf_put_char(b, ']');
	}
	case CONF_ROWS:
		return rows_put(in, o, b);
	}
	return ERR_INTERNAL;
}

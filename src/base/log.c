#include "base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/maillog.h"

enum { LINE_MAX_BYTES = 16 * 1024, VALUE_MAX_BYTES = 1024 };

/* Set once at start, before threads; only the level is changed later. */
static struct {
	char role[16];
	enum log_format format;
	int fd;
} conf = { .role = "postrider", .fd = STDERR_FILENO };
static atomic_int min_level = LOG_INFO;

void log_setup(const char *role, enum log_level min, enum log_format fmt, int fd)
{
	snprintf(conf.role, sizeof(conf.role), "%s", role);
	conf.format = fmt;
	conf.fd = fd;
	atomic_store_explicit(&min_level, (int)min, memory_order_relaxed);
}

bool log_enabled(enum log_level l)
{
	return (int)l >= atomic_load_explicit(&min_level, memory_order_relaxed);
}

static const char *level_name(enum log_level l)
{
	static const char *const names[] = {
		"debug", "info", "notice", "warning", "error", "alarm"
	};
	return (unsigned)l < ARRAY_LEN(names) ? names[l] : "unknown";
}

/* ------------------------------------------------------------------ values */

/* Only what no logfmt reader takes for structure. */
static bool is_bare(span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
			return false;
	}
	return s.n > 0 && s.n <= VALUE_MAX_BYTES;
}

static void put_logfmt_value(struct buf *b, span s)
{
	if (is_bare(s)) {
		buf_put_span(b, s);
		return;
	}
	buf_put_char(b, '"');
	buf_put_escaped(b, s, VALUE_MAX_BYTES);
	buf_put_char(b, '"');
}

/* Decodes the UTF-8 sequence at the start of S; its length, or 0 if it is not well-formed. */
static size_t decode_utf8(span s, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char c = (unsigned char)s.p[0];
	size_t n = c >= 0xf0 && c < 0xf8 ? 4 : c >= 0xe0 ? 3 : 2;
	if (c < 0xc0 || c >= 0xf8 || n > s.n)
		return 0;
	uint32_t v = c & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if (((unsigned char)s.p[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | ((unsigned char)s.p[i] & 0x3f);
	}
	if (v < least[n] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
		return 0;
	*ret = v;
	return n;
}

/* Pure ASCII output: well-formed UTF-8 as \uXXXX, any other byte as the text "\xHH". */
static void put_json_value(struct buf *b, span s)
{
	size_t n = MIN(s.n, (size_t)VALUE_MAX_BYTES), step = 1;
	buf_put_char(b, '"');
	for (size_t i = 0; i < n; i += step) {
		unsigned char c = (unsigned char)s.p[i];
		uint32_t v = c;
		step = c < 0x80 ? 1 : decode_utf8(span_sub(s, i, n - i), &v);
		if (step == 0) {
			buf_printf(b, "\\\\x%02x", c);
			step = 1;
		} else if (v >= 0x10000) {
			v -= 0x10000;
			buf_printf(b, "\\u%04x\\u%04x", 0xd800 + (v >> 10), 0xdc00 + (v & 0x3ff));
		} else if (v < 0x20 || v >= 0x7f) {
			buf_printf(b, "\\u%04x", v);
		} else {
			if (c == '"' || c == '\\')
				buf_put_char(b, '\\');
			buf_put_char(b, (char)c);
		}
	}
	buf_put_str(b, n < s.n ? "...\"" : "\"");
}

static void put_value(struct buf *b, const struct log_field *f, bool json)
{
	char text[ID_TEXT];
	span s = f->s;
	switch (f->type) {
	case LOG_F_U64:
		buf_put_u64(b, f->u);
		return;
	case LOG_F_I64:
		buf_printf(b, "%lld", (long long)f->i);
		return;
	case LOG_F_ID:
		id_format(f->id, text);
		s = span_str(text);
		break;
	default:
		break;
	}
	if (json)
		put_json_value(b, s);
	else
		put_logfmt_value(b, s);
}

/* ------------------------------------------------------------------ lines */

static void put_head(struct buf *b, enum log_level level, const char *name, bool json)
{
	char when[CLOCK_TEXT];
	clock_format(clock_wall(), when);
	buf_printf(b,
		   json ? "{\"time\":\"%s\",\"role\":\"%s\",\"level\":\"%s\",\"event\":\"%s\""
			: "%s %s %s %s",
		   when, conf.role, level_name(level), name);
}

static void write_line(const struct buf *b)
{
	ssize_t ignored _unused_ = write(conf.fd, b->p, b->n); /* nowhere to complain */
}

void log_fields(enum log_level level, const char *name, const struct log_field *f)
{
	if (!log_enabled(level))
		return;
	bool json = conf.format == LOG_JSON;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(LINE_MAX_BYTES);
	buf_reserve(&b, 512);
	if (conf.format == LOG_MAILLOG) {
		maillog_put(&b, clock_wall(), conf.role, name, f);
		write_line(&b);
		return;
	}
	put_head(&b, level, name, json);
	for (; f->type != LOG_F_END; f++) {
		size_t before = b.n;
		buf_printf(&b, json ? ",\"%s\":" : " %s=", f->key);
		put_value(&b, f, json);
		if (b.failed || b.n > LINE_MAX_BYTES - 2) { /* whole fields only */
			b.failed = false;
			buf_truncate(&b, before);
			break;
		}
	}
	buf_put_str(&b, json ? "}\n" : "\n");
	write_line(&b);
}

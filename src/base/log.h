/* The log: one line per event on stderr (or a file), logfmt, JSON, or the lines of syslog's mail
 * programs (base/maillog.h); peer bytes always escaped.
 *
 *   2026-11-21T23:05:07.123Z core info smtp.accepted id=01j... from="a@b" size=4096
 *
 * Thread-safe; one write(2) per line.  Rooms of floors 0-3 return errors instead of logging, except
 * at debug level. */
#pragma once

#include "base/err.h"
#include "base/event.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING, LOG_ERROR, LOG_ALARM };
enum log_format { LOG_LOGFMT, LOG_JSON, LOG_MAILLOG };

void log_setup(const char *role, enum log_level min, enum log_format fmt, int fd);
bool log_enabled(enum log_level l);

/* One field.  The macros give the compiler the type. */
struct log_field {
	const char *key;
	enum { LOG_F_END, LOG_F_SPAN, LOG_F_U64, LOG_F_I64, LOG_F_ID } type;
	span s;
	uint64_t u;
	int64_t i;
	const struct id *id;
};
#define F_SPAN(k, v) ((struct log_field){ .key = (k), .type = LOG_F_SPAN, .s = (v) })
#define F_STR(k, v) ((struct log_field){ .key = (k), .type = LOG_F_SPAN, .s = span_str(v) })
#define F_U64(k, v) ((struct log_field){ .key = (k), .type = LOG_F_U64, .u = (v) })
#define F_I64(k, v) ((struct log_field){ .key = (k), .type = LOG_F_I64, .i = (v) })
#define F_ID(k, v) ((struct log_field){ .key = (k), .type = LOG_F_ID, .id = (v) })
#define F_ERR(e) F_STR("error", err_text(e))

/* log_event(LOG_INFO, "front.tls_failed", F_STR("why", x), F_U64("n", 3)); */
#define log_event(level, name, ...)                                                                \
	log_fields((level), (name), (const struct log_field[]){ __VA_ARGS__ __VA_OPT__(,) {0} })
void log_fields(enum log_level level, const char *name, const struct log_field *f);

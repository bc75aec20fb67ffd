/* Time.  Wall time is for people, schedules and what survives a restart; time-outs and token
 * refill use the monotonic clock, which never jumps.
 *
 * The wall clock has an offset that only the lab sets, so that hours of retry pass in a test at
 * once.  The offset is process-wide and atomic. */
#pragma once

#include "base/span.h"

typedef int64_t usec; /* microseconds */
#define USEC_SEC ((usec)1000000)
#define USEC_MSEC ((usec)1000)

usec clock_wall(void);  /* since 1970-01-01 UTC, with the lab's offset */
usec clock_mono(void);  /* since an arbitrary start */
usec clock_cpu_thread(void);
usec clock_cpu_process(void);
void clock_set_offset(usec offset);
usec clock_offset(void);

/* "2026-11-21T23:05:07.123Z" (24 characters and NUL) of a wall time. */
#define CLOCK_TEXT 25
void clock_format(usec wall, char ret[CLOCK_TEXT]);

/* Parses "90", "90s", "5m", "4h", "2d", "1w", optionally signed, compounds as "1h30m"; 0 or ERR_SYNTAX. */
int clock_parse_duration(span s, usec *ret);
/* "1h30m", "45s", "250ms": short text for people. */
void clock_format_duration(usec d, char *ret, size_t size);

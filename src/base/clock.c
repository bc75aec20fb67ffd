#include "base/clock.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "base/err.h"

static _Atomic usec wall_offset;

static usec read_clock(clockid_t id)
{
	struct timespec t;
	int r = clock_gettime(id, &t);
	assert(r == 0);
	return (usec)t.tv_sec * USEC_SEC + t.tv_nsec / 1000;
}

usec clock_wall(void)
{
	return read_clock(CLOCK_REALTIME) +
	       atomic_load_explicit(&wall_offset, memory_order_relaxed);
}

usec clock_mono(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

usec clock_cpu_thread(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

usec clock_cpu_process(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void clock_set_offset(usec offset)
{
	atomic_store_explicit(&wall_offset, offset, memory_order_relaxed);
}

usec clock_offset(void)
{
	return atomic_load_explicit(&wall_offset, memory_order_relaxed);
}

static void put_digits(char *to, int64_t v, int digits)
{
	for (int i = digits; i-- > 0; v /= 10)
		to[i] = (char)('0' + v % 10);
}

/* Own calendar arithmetic: gmtime_r takes a global lock and may read the time zone file, which a
 * confined role cannot.  Days are counted in 400-year eras from 0000-03-01, so that the leap day is
 * the last of its year. */
void clock_format(usec wall, char ret[CLOCK_TEXT])
{
	const usec day = 86400 * USEC_SEC;
	const usec first = -719528 * day, last = 2932897 * day - 1; /* years 0000 to 9999 */
	wall = wall < first ? first : wall > last ? last : wall;
	int64_t days = wall / day - (wall % day < 0);
	int64_t ms = (wall - days * day) / USEC_MSEC;

	int64_t z = days + 719468 + 146097; /* one era more keeps everything positive */
	int64_t era = z / 146097, doe = z % 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;
	int64_t month = mp < 10 ? mp + 3 : mp - 9;
	int64_t year = yoe + (era - 1) * 400 + (month <= 2);

	memcpy(ret, "0000-00-00T00:00:00.000Z", CLOCK_TEXT);
	put_digits(ret, year, 4);
	put_digits(ret + 5, month, 2);
	put_digits(ret + 8, doy - (153 * mp + 2) / 5 + 1, 2);
	put_digits(ret + 11, ms / 3600000, 2);
	put_digits(ret + 14, ms / 60000 % 60, 2);
	put_digits(ret + 17, ms / 1000 % 60, 2);
	put_digits(ret + 20, ms % 1000, 3);
}

static const struct {
	const char *name;
	usec len;
} units[] = {
	{ "w", 7 * 86400 * USEC_SEC }, { "d", 86400 * USEC_SEC }, { "h", 3600 * USEC_SEC },
	{ "m", 60 * USEC_SEC },	       { "s", USEC_SEC },	  { "ms", USEC_MSEC },
};

static usec unit_len(span name)
{
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (span_eq_str(name, units[i].name))
			return units[i].len;
	}
	return 0;
}

static size_t count_while(span s, char low, char high)
{
	size_t n = 0;
	while (n < s.n && s.p[n] >= low && s.p[n] <= high)
		n++;
	return n;
}

int clock_parse_duration(span s, usec *ret)
{
	bool negative = s.n && s.p[0] == '-';
	if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
		s = span_from(s, 1);
	if (s.n == 0)
		return ERR_SYNTAX;
	usec total = 0, previous = INT64_MAX;
	while (s.n) {
		size_t digits = count_while(s, '0', '9');
		uint64_t v;
		if (!span_u64(span_sub(s, 0, digits), INT64_MAX, &v))
			return ERR_SYNTAX;
		s = span_from(s, digits);
		size_t letters = count_while(s, 'a', 'z');
		usec len = unit_len(span_sub(s, 0, letters));
		if (letters == 0 && previous == INT64_MAX)
			len = USEC_SEC; /* a bare number */
		/* Falling units only: "5m1h" and "1h1h" are more likely mistakes than wishes. */
		if (len == 0 || len >= previous || v > (uint64_t)((INT64_MAX - total) / len))
			return ERR_SYNTAX;
		total += (usec)v * len;
		previous = len;
		s = span_from(s, letters);
	}
	*ret = negative ? -total : total;
	return 0;
}

void clock_format_duration(usec d, char *ret, size_t size)
{
	uint64_t left = d < 0 ? 0 - (uint64_t)d : (uint64_t)d;
	const char *sign = d < 0 ? "-" : "";
	/* Weeks are for typing; people read days.  Two units are precise enough. */
	for (size_t i = 1; i < ARRAY_LEN(units); i++) {
		uint64_t len = (uint64_t)units[i].len;
		if (left < len)
			continue;
		unsigned long long big = left / len, small = 0;
		const char *name = "";
		if (i + 1 < ARRAY_LEN(units)) {
			small = left % len / (uint64_t)units[i + 1].len;
			name = units[i + 1].name;
		}
		if (small)
			snprintf(ret, size, "%s%llu%s%llu%s", sign, big, units[i].name, small,
				 name);
		else
			snprintf(ret, size, "%s%llu%s", sign, big, units[i].name);
		return;
	}
	snprintf(ret, size, "0s");
}

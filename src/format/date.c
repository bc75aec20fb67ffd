/* Dates of headers (RFC 5322 3.3 and 4.3) and of IMAP (RFC 3501 section 9), without libc's time
 * zones. */
#include "base/err.h"
#include "format/header.h"
#include "format/text_int.h"

#define DAY ((int64_t)86400)

static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
				    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
static const char weekdays[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };

/* Days since 1970-01-01 of a civil date; years are counted from March, so that the leap day is
 * last. */
static int64_t days_of(int64_t year, int month, int day)
{
	year -= month <= 2;
	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t of_era = year - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

void date_civil_of(usec wall, struct date_civil *ret)
{
	int64_t seconds = floor_div(wall, USEC_SEC), days = floor_div(seconds, DAY);
	int64_t of_day = seconds - days * DAY;
	int64_t z = days + 719468, era = floor_div(z, 146097), of_era = z - era * 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100),
		m = (5 * of_year + 2) / 153;
	ret->day = (int)(of_year - (153 * m + 2) / 5 + 1);
	ret->month = (int)(m < 10 ? m + 3 : m - 9);
	ret->year = (int)(year + era * 400 + (ret->month <= 2));
	ret->hour = (int)(of_day / 3600);
	ret->minute = (int)(of_day / 60 % 60);
	ret->second = (int)(of_day % 60);
	ret->weekday = (int)((days % 7 + 11) % 7); /* 1970-01-01 was a Thursday; 0 is Sunday */
}

usec date_of_civil(const struct date_civil *c)
{
	int64_t seconds = days_of(c->year, c->month, c->day) * DAY + c->hour * 3600 +
			  c->minute * 60 + c->second;
	return seconds * USEC_SEC;
}

static int days_in(int year, int month)
{
	static const int days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	return days[month - 1] + (month == 2 && leap);
}

static bool civil_valid(const struct date_civil *c)
{
	return c->year >= 0 && c->year <= 9999 && c->month >= 1 && c->month <= 12 && c->day >= 1 &&
	       c->day <= days_in(c->year, c->month) && c->hour <= 23 && c->minute <= 59 &&
	       c->second <= 60;
}

/* --- reading --- */
struct reader {
	span s;
	size_t at;
};

static void skip(struct reader *r)
{
	text_skip_cfws(r->s, &r->at, NULL);
}

static bool take(struct reader *r, char c)
{
	if (r->at >= r->s.n || r->s.p[r->at] != c)
		return false;
	r->at++;
	return true;
}

/* MIN_DIGITS to MAX_DIGITS digits; their count in the result, 0 if there are too few. */
static int take_number(struct reader *r, int min, int max, int *ret)
{
	int n = 0, v = 0;
	for (; n < max && r->at < r->s.n && text_is(r->s.p[r->at], CH_DIGIT); n++)
		v = 10 * v + (r->s.p[r->at++] - '0');
	if (n < min)
		return 0;
	*ret = v;
	return n;
}

static span take_letters(struct reader *r)
{
	size_t start = r->at;
	while (r->at < r->s.n && text_lower(r->s.p[r->at]) >= 'a' &&
	       text_lower(r->s.p[r->at]) <= 'z')
		r->at++;
	return span_sub(r->s, start, r->at - start);
}

/* 1..12 by the first three letters; 0 if it is no month. */
static int month_of(span name)
{
	for (int i = 0; i < 12; i++)
		if (name.n >= 3 && span_istarts(name, span_str(months[i])))
			return i + 1;
	return 0;
}

/* EXACT: IMAP's form, two digits each and nothing between; else white space and comments may be
 * anywhere and the seconds may be missing. */
static bool take_time(struct reader *r, struct date_civil *c, bool exact)
{
	int *const fields[] = { &c->hour, &c->minute, &c->second };
	for (unsigned i = 0; i < 3; i++) {
		if (!exact)
			skip(r);
		if (i && !take(r, ':'))
			return i == 2 && !exact;
		if (!exact)
			skip(r);
		if (!take_number(r, i == 0 && !exact ? 1 : 2, 2, fields[i]))
			return false;
	}
	return true;
}

/* "+hhmm" */
static bool take_offset(struct reader *r, int *ret_minutes)
{
	int sign = take(r, '+') ? 1 : take(r, '-') ? -1 : 0, hhmm;
	if (!sign || take_number(r, 4, 4, &hhmm) != 4 || hhmm / 100 > 23 || hhmm % 100 > 59)
		return false;
	*ret_minutes = sign * (hhmm / 100 * 60 + hhmm % 100);
	return true;
}

/* Zone names of RFC 5322 4.3; the others, and what is no zone at all, count as "-0000". */
static int take_zone(struct reader *r)
{
	static const struct {
		char name[4];
		int hours;
	} zones[] = { { "EDT", -4 }, { "EST", -5 }, { "CDT", -5 }, { "CST", -6 },
		      { "MDT", -6 }, { "MST", -7 }, { "PDT", -7 }, { "PST", -8 } };
	int minutes = 0;
	if (take_offset(r, &minutes))
		return minutes;
	span name = take_letters(r);
	for (size_t i = 0; i < ARRAY_LEN(zones); i++)
		if (span_ieq_str(name, zones[i].name))
			return zones[i].hours * 60;
	return 0;
}

static int finish(const struct date_civil *c, int zone, usec *ret_wall, int *ret_zone)
{
	if (!civil_valid(c))
		return ERR_SYNTAX;
	*ret_wall = date_of_civil(c) - zone * 60 * USEC_SEC;
	if (ret_zone)
		*ret_zone = zone;
	return 0;
}

int date_parse(span value, usec *ret_wall, int *ret_zone_minutes)
{
	struct reader r = { .s = value };
	struct date_civil c = { 0 };
	skip(&r);
	if (take_letters(&r).n) { /* the day of the week tells nothing new */
		skip(&r);
		take(&r, ',');
		skip(&r);
	}
	if (!take_number(&r, 1, 2, &c.day))
		return ERR_SYNTAX;
	skip(&r);
	take(&r, '-'); /* "21-Nov-2026", as some senders write */
	c.month = month_of(take_letters(&r));
	take(&r, '-');
	skip(&r);
	int digits = take_number(&r, 2, 4, &c.year);
	if (!digits)
		return ERR_SYNTAX;
	if (digits == 2)
		c.year += c.year < 50 ? 2000 : 1900;
	else if (digits == 3)
		c.year += 1900;
	skip(&r);
	if (!take_time(&r, &c, false))
		return ERR_SYNTAX;
	skip(&r);
	return finish(&c, take_zone(&r), ret_wall, ret_zone_minutes);
}

/* date-day "-" date-month "-" date-year; FIXED: two columns for the day, a space for a leading
 * zero. */
static bool take_imap_date(struct reader *r, bool fixed, struct date_civil *c)
{
	bool padded = fixed && take(r, ' ');
	if (!take_number(r, fixed && !padded ? 2 : 1, padded ? 1 : 2, &c->day) || !take(r, '-'))
		return false;
	span month = take_letters(r);
	c->month = month.n == 3 ? month_of(month) : 0;
	return c->month && take(r, '-') && take_number(r, 4, 4, &c->year) == 4;
}

int date_imap_parse(span s, usec *ret_wall, int *ret_zone)
{
	struct reader r = { .s = s };
	struct date_civil c = { 0 };
	int zone = 0;
	if (!take_imap_date(&r, true, &c) || !take(&r, ' ') || !take_time(&r, &c, true) ||
	    !take(&r, ' ') || !take_offset(&r, &zone) || r.at != s.n)
		return ERR_SYNTAX;
	return finish(&c, zone, ret_wall, ret_zone);
}

int date_imap_day(span s, usec *ret_wall)
{
	struct reader r = { .s = s };
	struct date_civil c = { 0 };
	if (!take_imap_date(&r, false, &c) || r.at != s.n)
		return ERR_SYNTAX;
	return finish(&c, 0, ret_wall, NULL);
}

/* --- writing --- */
static int local_civil(usec wall, int zone, struct date_civil *c)
{
	if (zone <= -24 * 60 || zone >= 24 * 60)
		return ERR_INVAL;
	const usec span_of_years = 10000 * 366 * DAY * USEC_SEC;
	if (wall < -span_of_years || wall > span_of_years)
		return ERR_INVAL;
	date_civil_of(wall + zone * 60 * USEC_SEC, c);
	return c->year < 0 || c->year > 9999 ? ERR_INVAL : 0;
}

static int put_time(struct buf *b, const struct date_civil *c, int zone)
{
	unsigned minutes = (unsigned)(zone < 0 ? -zone : zone);
	return buf_printf(b, " %02d:%02d:%02d %c%02u%02u", c->hour, c->minute, c->second,
			  zone < 0 ? '-' : '+', minutes / 60, minutes % 60);
}

int date_put(struct buf *b, usec wall, int zone_minutes)
{
	struct date_civil c;
	int e = local_civil(wall, zone_minutes, &c);
	if (e < 0)
		return e;
	buf_printf(b, "%s, %02d %s %04d", weekdays[c.weekday], c.day, months[c.month - 1], c.year);
	return put_time(b, &c, zone_minutes);
}

int date_internet_put(struct buf *b, usec wall)
{
	struct date_civil c;
	int e = local_civil(wall, 0, &c);
	if (e < 0)
		return e;
	return buf_printf(b, "%04d-%02d-%02dT%02d:%02d:%02dZ", c.year, c.month, c.day, c.hour,
			  c.minute, c.second);
}

/* Takes the digits for PATTERN off S: each "0" stands for one, the rest for itself without regard
 * to case.  RET gets the numbers between the other characters. */
static bool take_pattern(span *s, const char *pattern, int *ret)
{
	if (s->n < strlen(pattern))
		return false;
	*ret = 0;
	for (const char *p = pattern; *p; p++) {
		char c = s->p[0];
		*s = span_from(*s, 1);
		if (*p != '0') {
			if ((c & ~0x20) != (*p & ~0x20))
				return false;
			*++ret = 0;
		} else if (c < '0' || c > '9') {
			return false;
		} else {
			*ret = 10 * *ret + (c - '0');
		}
	}
	return true;
}

static bool take_rfc3339_zone(span *s, int *ret_minutes)
{
	int n[3], sign = s->n && s->p[0] == '-' ? -1 : 1;
	*ret_minutes = 0;
	if (s->n && (s->p[0] | 0x20) == 'z') {
		*s = span_from(*s, 1);
		return true;
	}
	if (!take_pattern(s, sign < 0 ? "-00:00" : "+00:00", n) || n[1] > 23 || n[2] > 59)
		return false;
	*ret_minutes = sign * (n[1] * 60 + n[2]);
	return true;
}

int date_internet_parse(span s, usec *ret_wall)
{
	int n[6], zone;
	if (!take_pattern(&s, "0000-00-00T00:00:00", n))
		return ERR_SYNTAX;
	if (s.n > 1 && s.p[0] == '.')
		for (s = span_from(s, 1); s.n && s.p[0] >= '0' && s.p[0] <= '9';)
			s = span_from(s, 1);
	if (!take_rfc3339_zone(&s, &zone) || s.n || n[1] < 1 || n[1] > 12 || n[2] < 1 ||
	    n[2] > days_in(n[0], n[1]) || n[3] > 23 || n[4] > 59 || n[5] > 60)
		return ERR_SYNTAX;
	struct date_civil c = { .year = n[0],
				.month = n[1],
				.day = n[2],
				.hour = n[3],
				.minute = n[4],
				.second = n[5] };
	*ret_wall = date_of_civil(&c) - zone * 60 * USEC_SEC;
	return 0;
}

int date_imap_put(struct buf *b, usec wall, int zone_minutes)
{
	struct date_civil c;
	int e = local_civil(wall, zone_minutes, &c);
	if (e < 0)
		return e;
	buf_printf(b, "%2d-%s-%04d", c.day, months[c.month - 1], c.year);
	return put_time(b, &c, zone_minutes);
}

/* Header fields of a message (RFC 5322 2.2, 3.6).  Pure.  The message is CRLF-terminated lines; a
 * bare LF is tolerated as a line end when reading stored mail of others. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

struct header_field {
	span name;  /* as written, without white space before the colon */
	span value; /* raw: after the colon, with folding, without the final CRLF */
	span raw;   /* the whole field with its final CRLF */
};
/* Reads the next field at *AT; false at the end of the header (then *AT is the start of the body,
 * behind the empty line).  A line that is no field ends the header too, with *RET_BAD = true. */
bool header_next(span message, size_t *at, struct header_field *ret, bool *ret_bad);
/* The same, but it steps over lines that are no field, as mail programs do: what they show below such a
 * line must not escape who judges. */
bool header_next_field(span message, size_t *at, struct header_field *ret);
/* First (or N-th, from 0) field NAME, case-insensitive; false if absent.  Steps over lines that are no
 * field, too.  Only the first HEADER_LOOKUP_MAX bytes of a
 * header are looked at. */
#define HEADER_LOOKUP_MAX (1024 * 1024)
bool header_find(span message, const char *name, unsigned nth, struct header_field *ret);
size_t header_count(span message, const char *name);
/* Size of the header including the empty line (or all of it, when there is none). */
size_t header_size(span message);
/* VALUE unfolded (RFC 5322 2.2.3) and trimmed: holds no CR or LF.  May point into VALUE. */
span header_unfold(span value, struct arena *mem);
/* RFC 2047 encoded-words to UTF-8 (also RFC 2231 language tags); unknown charsets become U+FFFD.
 * Never for addr-specs.  At most MAX bytes of result. */
span header_decode_words(span value, size_t max, struct arena *mem);
/* UTF-8 text as RFC 2047 words, valid in a phrase too, folded at 76.  Printable ASCII stays as it is,
 * folded at spaces (a phrase with specials must be quoted by the caller); anything else, CR and LF
 * included, is encoded, so that the text cannot start a field of its own. */
int header_encode_text(struct buf *b, span utf8);
/* Is NAME a valid field name (RFC 5322 ftext)? */
bool header_name_valid(span name);

/* Message-ID value(s): the next "<...>" of VALUE from *AT on, with its brackets; false if none. */
bool header_msgid_next(span value, size_t *at, span *ret);

/* --- dates (RFC 5322 3.3, obsolete forms read) --- */
#include "base/clock.h"
int date_parse(span value, usec *ret_wall, int *ret_zone_minutes); /* ERR_SYNTAX; zone "-0000" and unknown names: 0 */
/* The two below: ERR_INVAL outside of the years 0..9999 or for a zone of a day or more. */
int date_put(struct buf *b, usec wall, int zone_minutes);          /* "Sat, 21 Nov 2026 23:05:07 +0000" */
/* RFC 3339 date-time, "2026-11-21T23:05:07Z" or with a zone, fractions read and dropped: 0 or ERR_SYNTAX. */
int date_internet_parse(span s, usec *ret_wall);
int date_internet_put(struct buf *b, usec wall); /* in UTC; ERR_INVAL as the two above */
int date_imap_put(struct buf *b, usec wall, int zone_minutes);     /* "21-Nov-2026 23:05:07 +0000" */
int date_imap_parse(span s, usec *ret_wall, int *ret_zone);        /* date-time of RFC 3501, quotes stripped */
int date_imap_day(span s, usec *ret_wall);                         /* "21-Nov-2026" -> that day 00:00 UTC */
/* Proleptic calendar helpers without libc's time zone machinery. */
struct date_civil { int year, month, day, hour, minute, second, weekday; };
void date_civil_of(usec wall, struct date_civil *ret);
usec date_of_civil(const struct date_civil *c);

/* Lexical helpers shared by the files of format/: character classes, RFC 5322 white space and
 * quoted strings, UTF-8 by hand.  Internal to the room. */
#pragma once

#include "base/buf.h"

enum {
	CH_ATEXT = 1,  /* RFC 5322 atext */
	CH_FTEXT = 2,  /* field name */
	CH_LDH = 4,    /* letter, digit, hyphen */
	CH_ATOM = 8,   /* IMAP ATOM-CHAR or "]" */
	CH_QSAFE = 16, /* may stand for itself in a Q encoded-word inside a phrase (RFC 2047 5.3) */
	CH_DIGIT = 32,
};
extern const uint8_t text_class[256];

static inline bool text_is(char c, unsigned classes)
{
	return text_class[(uint8_t)c] & classes;
}
static inline bool text_is_wsp(char c)
{
	return c == ' ' || c == '\t';
}
static inline bool text_is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}
static inline bool text_is_ctl(char c)
{
	return (uint8_t)c < 0x20 || c == 0x7f;
}
static inline char text_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}
int text_hex_digit(char c); /* value, or -1 */
bool text_has_8bit(span s);

/* Skips folding white space and comments (nested, counted, never recursive) from *AT on; true if
 * anything was skipped.  The content of the last outermost comment goes to RET_COMMENT (may be
 * NULL); an unterminated comment reaches to the end of S. */
bool text_skip_cfws(span s, size_t *at, span *ret_comment);
/* Reads the quoted string that starts at S[*AT] == '"' and appends what it means (without quotes,
 * backslashes and line breaks).  False if it was not terminated: then *AT is the end of S. */
bool text_quoted(span s, size_t *at, struct buf *b);

/* Length of the valid UTF-8 sequence at the start of S (RFC 3629), 0 if there is none. */
size_t utf8_sequence(span s, uint32_t *ret_codepoint);
int utf8_put(struct buf *b, uint32_t codepoint);
/* S with each byte that is no UTF-8 replaced by U+FFFD. */
int utf8_put_clean(struct buf *b, span s);
/* The longest prefix of the UTF-8 text S of at most N bytes that splits no character. */
span utf8_cut(span s, size_t n);

/* --- charset.c: what needs ICU's tables --- */
/* Converts to UTF-8; ERR_UNSUPPORTED for a charset ICU does not know (nothing is appended). */
int charset_convert(span charset, span in, struct buf *b);
int utf8_put_lower(struct buf *b, span utf8); /* simple lower case of each code point */

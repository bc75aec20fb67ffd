/* MIME structure (RFC 2045, 2046, 2047, 2231): a tree of byte ranges over a message that stays where
 * it is.  Pure, one pass, linear, with limits on depth, parts and header size: past a limit the rest
 * becomes one opaque part, the message stays deliverable. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/span.h"

#define MIME_MAX_DEPTH 64
#define MIME_MAX_PARTS 4096
#define MIME_MAX_HEADER (256 * 1024) /* fields of a part that start behind this are not looked at */
#define MIME_MAX_PARAMS 64           /* parameters of one field, further ones are ignored */

struct mime_param { span name, value; struct mime_param *next; }; /* RFC 2231 joined and decoded to UTF-8 */

struct mime_part {
	/* offsets into the message */
	size_t start;        /* first byte of the part's header */
	size_t body;         /* first byte of its body */
	size_t end;          /* behind its last body byte (before the CRLF of the boundary) */
	size_t lines;        /* line ends within [body, end) */
	span type, subtype;  /* as written; "TEXT"/"PLAIN" by default, MESSAGE/RFC822 inside digest */
	struct mime_param *params;
	struct mime_param *raw_params; /* as written, only unquoted: what IMAP clients are shown */
	span id, description, encoding; /* raw trimmed; encoding "7BIT" by default */
	span md5, language, location;
	span disposition;
	struct mime_param *disposition_params, *raw_disposition_params;
	struct mime_part *child;  /* first part of a multipart, or the message of a message/rfc822 */
	struct mime_part *next;   /* sibling */
	struct mime_part *parent;
	unsigned seen; /* Content- fields read; for the parser */
	unsigned depth;
};
/* The tree of MESSAGE; never NULL.  Results live in MEM and point into MESSAGE.  Of several fields of
 * one name the first counts.  A part past a limit is APPLICATION/OCTET-STREAM without children. */
struct mime_part *mime_parse(span message, struct arena *mem);
/* IMAP part numbers "1.2.3" (RFC 3501 6.4.5); NULL if there is none. */
struct mime_part *mime_part_by_path(struct mime_part *root, const unsigned *path, size_t n);
/* The value of NAME (case-insensitive), or SPAN_NULL. */
span mime_param(const struct mime_param *list, const char *name);
/* Body of P decoded by its Content-Transfer-Encoding into B; ERR_TOOBIG at B's maximum. */
int mime_decode_body(span message, const struct mime_part *p, struct buf *b);
/* Text of CHARSET to UTF-8 (ICU; unknown: as ISO-8859-1 if not valid UTF-8).  B's maximum bounds it. */
int charset_to_utf8(span charset, span in, struct buf *b);
/* UTF-8 NFKC casefold for comparison and search (ICU). */
int text_fold(span utf8, struct buf *b);
bool utf8_valid(span s);

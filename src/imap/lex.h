/* Tokens of IMAP commands (RFC 3501 9) over one complete command with its literals in place.
 * Pure.  Each function reads one token at the current place and returns false (leaving WHY set, if
 * it was not) when there is none; then the command is BAD.  Nothing copies except a quoted string
 * with escapes. */
#pragma once

#include "base/arena.h"

struct imap_lex {
	span s; /* the command, final CRLF included */
	size_t at;
	struct arena *mem;
	const char *why; /* first complaint; a literal text */
};

void imap_lex_init(struct imap_lex *l, span command, struct arena *mem);
bool imap_lex_fail(struct imap_lex *l, const char *why); /* notes WHY, returns false */

int imap_lex_peek(const struct imap_lex *l);	/* the next byte, or -1 at the end of the line */
bool imap_lex_char(struct imap_lex *l, char c); /* exactly C; no complaint: for optional things */
bool imap_lex_sp(struct imap_lex *l);		/* exactly one space */
bool imap_lex_end(struct imap_lex *l);		/* CRLF and nothing behind it */
bool imap_lex_word(struct imap_lex *l,
		   const char *word); /* case-insensitive, whole atom; no complaint */

bool imap_lex_tag(struct imap_lex *l, span *ret);
bool imap_lex_atom(struct imap_lex *l, span *ret);
bool imap_lex_astring(struct imap_lex *l, span *ret);
bool imap_lex_string(struct imap_lex *l, span *ret);  /* quoted or literal */
bool imap_lex_nstring(struct imap_lex *l, span *ret); /* NIL: p NULL */
bool imap_lex_pattern(struct imap_lex *l, span *ret); /* list-mailbox */
bool imap_lex_number(struct imap_lex *l, uint32_t *ret);
bool imap_lex_number64(struct imap_lex *l, uint64_t *ret);

/* "{12}", "{12+}", "~{12}" at the end of LINE (without CRLF)? */
struct imap_literal {
	uint64_t n;
	bool nonsync, binary;
	bool overflow; /* more digits than any size has: n is UINT64_MAX */
};
bool imap_literal_at_end(span line, struct imap_literal *ret);

bool imap_atom_char(unsigned char c);

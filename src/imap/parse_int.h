/* Inside the parser. */
#pragma once

#include "imap/parse.h"

bool imap_parse_fetch(struct imap_lex *l, struct imap_fetch_args *ret);
bool imap_parse_search(struct imap_lex *l, struct imap_args *ret);
/* "(" flags ")" , or without parentheses when BARE is allowed (STORE). */
bool imap_parse_flags(struct imap_lex *l, bool bare, struct imap_flags *ret);

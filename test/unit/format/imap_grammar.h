/* A checker for what IMAP's grammar allows in ENVELOPE and BODYSTRUCTURE (RFC 3501 section 9),
 * written from the grammar and not from the writer.  Each returns what follows, or NULL. */
#pragma once

#include "base/span.h"

const char *imap_grammar_envelope(const char *p, const char *end);
const char *imap_grammar_body(const char *p, const char *end, bool extensible);

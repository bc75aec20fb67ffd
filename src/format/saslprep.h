/* SASLprep (RFC 4013): the form in which SCRAM hashes a password.  Pure; over ICU's StringPrep. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define SASLPREP_MAX 1024 /* octets of the text that is prepared */
/* Appends S, prepared.  ERR_SYNTAX: S is not UTF-8, or holds what RFC 4013 prohibits; ERR_TOOBIG. */
int saslprep(struct buf *b, span s);

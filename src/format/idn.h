/* Internationalised domain names (IDNA2008 by libidn2).  Pure. */
#pragma once

#include "base/buf.h"

int idn_to_ascii(struct buf *b, span domain);   /* U-labels to A-labels, lower case; ERR_SYNTAX */
int idn_to_unicode(struct buf *b, span domain);

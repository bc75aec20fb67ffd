/* Parameters of MAIL and RCPT (RFC 5321 4.1.2).  Pure. */
#pragma once

#include "smtp/parse.h"

/* Reads REST of C's command into C: each at most once (501 5.5.4), and only those whose extension is
 * offered in P (555 5.5.4). */
const struct smtp_answer *smtp_params_parse(span rest, const struct smtp_phase *p,
					    struct arena *mem, struct smtp_command *c);

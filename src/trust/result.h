/* Verdicts of sender authentication, in the words of RFC 8601 2.7. */
#pragma once

#include "base/span.h"

enum trust_result {
	TRUST_NONE,
	TRUST_PASS,
	TRUST_FAIL,
	TRUST_SOFTFAIL, /* SPF only */
	TRUST_NEUTRAL,
	TRUST_TEMPERROR,
	TRUST_PERMERROR,
};
/* "none", "pass", ...; never NULL. */
const char *trust_result_text(enum trust_result r);

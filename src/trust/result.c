#include "trust/result.h"

const char *trust_result_text(enum trust_result r)
{
	static const char *const text[] = {
		[TRUST_NONE] = "none",		 [TRUST_PASS] = "pass",
		[TRUST_FAIL] = "fail",		 [TRUST_SOFTFAIL] = "softfail",
		[TRUST_NEUTRAL] = "neutral",	 [TRUST_TEMPERROR] = "temperror",
		[TRUST_PERMERROR] = "permerror",
	};

	return text[r];
}

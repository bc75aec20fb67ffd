/* Tokens and key sets: the first line is a token, the rest a key set.  No token of a fuzzer is signed. */
#include <assert.h>

#include "sasl/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	span rest = span_of(p, n), token = span_cut(&rest, '\n'), issuer;
	const struct jwt_check check = { SPAN("https://id.example"), SPAN("mail"),
					 1700000000 * USEC_SEC };
	const char *why = NULL;
	struct jwks *keys = NULL;
	json_t *claims = NULL;

	if (jwt_peek(token, &claims, &issuer))
		json_decref(claims);
	if (jwks_parse(rest, &keys, NULL) < 0)
		return 0;
	if (jwt_verify(token, keys, &check, &claims, &why) == 0)
		json_decref(claims);
	else
		assert(why);
	jwks_free(keys);
	return 0;
}

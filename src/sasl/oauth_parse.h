/* What a client says with OAUTHBEARER (RFC 7628 section 3.1) and XOAUTH2.  Pure; spans point into
 * the input. */
#pragma once

#include "base/span.h"

struct oauth_message {
	span user;  /* the identity asked for; empty: whose the token is */
	span token; /* RFC 6750 section 2.1: "b64token" */
};
/* gs2-header ^A key=value ^A ... ^A, with auth=Bearer TOKEN among the keys.  USER is the header's
 * authzid, in which =2C and =3D stay. */
bool oauthbearer_parse(span in, struct oauth_message *ret);
/* user=NAME ^A auth=Bearer TOKEN ^A ^A */
bool xoauth2_parse(span in, struct oauth_message *ret);

/* Inside sasl/: who issues tokens, and what their tokens say. */
#pragma once

#include "http/http.h"
#include "sasl/jwt.h"
#include "sasl/sasl_int.h"

/* The issuers of one configuration; reference-counted, thread-safe. */
struct oauth;
/* Reads the files that C names; INFO says what is wrong with them. */
int oauth_new(const struct conf *c, struct oauth **ret, struct err_info *info);
struct oauth *oauth_ref(struct oauth *o);
void oauth_unref(struct oauth *o); /* NULL is fine */
DEFINE_CLEANUP(struct oauth, oauth_unref)
/* Takes in key sets that came, and asks for those that are due.  Does not wait. */
void oauth_refresh(struct oauth *o, struct ask_table *asks);
/* The first issuer's name: where a client may read on. */
span oauth_issuer(const struct oauth *o);

enum oauth_verdict {
	OAUTH_GOOD,
	OAUTH_REFUSED,
	OAUTH_LATER, /* the issuer's keys are not at hand */
	OAUTH_ASK,   /* the issuer must be asked: oauth_question() */
};
/* What TOKEN says.  GOOD: *RET_ADDRESS, in MEM.  ASK: *RET_ISSUER.  Else *RET_WHY, for the log. */
enum oauth_verdict oauth_check(struct oauth *o, span token, struct arena *mem, span *ret_address,
			       size_t *ret_issuer, const char **ret_why);
/* The question that goes to issuer I's introspection_url (RFC 7662 section 2.1), as HTTP_ASK. */
int oauth_question(struct oauth *o, size_t i, span token, struct buf *b);
/* The answer to it (section 2.2). */
enum oauth_verdict oauth_answer(struct oauth *o, size_t i, const struct http_answer *a,
				struct arena *mem, span *ret_address, const char **ret_why);
#define OAUTH_TIMEOUT (10 * USEC_SEC)

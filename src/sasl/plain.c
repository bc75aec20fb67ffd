/* The mechanisms that show the password: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login).
 */
#include "sasl/sasl_int.h"

/* message = [authzid] NUL authcid NUL passwd */
static enum sasl_step plain_step(struct sasl *s, span in, struct buf *out)
{
	span password = in, authzid, authcid;

	if (!in.p)
		return SASL_CONTINUE; /* the empty challenge: "go on" */
	authzid = span_cut(&password, '\0');
	authcid = span_cut(&password, '\0');
	if (!password.p || span_find(password, '\0') != SPAN_NPOS)
		return SASL_FAILED;
	/* Nobody may act for somebody else. */
	if (authzid.n && !span_ieq(authzid, authcid))
		return SASL_FAILED;
	return sasl_check_password(s, authcid, password);
}

/* Clients look at these words, some at nothing else. */
static enum sasl_step login_step(struct sasl *s, span in, struct buf *out)
{
	if (!in.p) {
		buf_put_str(out, "Username:");
		return SASL_CONTINUE;
	}
	if (!s->login.p) {
		if (in.n > SASL_MAX_NAME)
			return SASL_FAILED;
		s->login = arena_span(&s->mem, in);
		buf_put_str(out, "Password:");
		return SASL_CONTINUE;
	}
	if (span_find(s->login, '\0') != SPAN_NPOS || span_find(in, '\0') != SPAN_NPOS)
		return SASL_FAILED;
	return sasl_check_password(s, s->login, in);
}

const struct sasl_mechanism sasl_plain_mechanisms[] = {
	{ .name = "PLAIN", .step = plain_step },
	{ .name = "LOGIN", .step = login_step },
	{ .name = NULL },
};

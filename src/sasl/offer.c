#include "sasl/offer.h"

#include "conf/conf.h"

/* A client that takes the first it knows takes the strongest.  Without TLS nothing is offered:
 * SCRAM does not show the password, but the session that follows would be anybody's. */
static const struct {
	const char *name;
	bool in_clear; /* allowed without TLS */
	enum { NOTHING, BINDING, CLIENT_CERT } needs;
} table[SASL_COUNT] = {
	[SASL_SCRAM_SHA256_PLUS] = { "SCRAM-SHA-256-PLUS", false, BINDING },
	[SASL_SCRAM_SHA256] = { "SCRAM-SHA-256", false, NOTHING },
	[SASL_SCRAM_SHA1_PLUS] = { "SCRAM-SHA-1-PLUS", false, BINDING },
	[SASL_SCRAM_SHA1] = { "SCRAM-SHA-1", false, NOTHING },
	[SASL_PLAIN] = { "PLAIN", false, NOTHING },
	[SASL_LOGIN] = { "LOGIN", false, NOTHING },
	[SASL_OAUTHBEARER] = { "OAUTHBEARER", false, NOTHING },
	[SASL_XOAUTH2] = { "XOAUTH2", false, NOTHING },
	[SASL_EXTERNAL] = { "EXTERNAL", false, CLIENT_CERT },
};

unsigned sasl_allowed(const struct conf *c)
{
	unsigned all = c->auth_mechanisms;

	if (!c->n_oauth)
		all &= ~(SASL_BIT(OAUTHBEARER) | SASL_BIT(XOAUTH2));
	return all;
}

static enum sasl_use usable(size_t i, const struct sasl_channel *c)
{
	if (!(c->allowed & 1u << i))
		return SASL_UNKNOWN;
	if (!c->tls && !table[i].in_clear)
		return SASL_NEEDS_TLS;
	if ((table[i].needs == CLIENT_CERT && !c->client_cert) ||
	    (table[i].needs == BINDING && !c->binding))
		return SASL_UNKNOWN;
	return SASL_USABLE;
}

enum sasl_use sasl_usable(span mechanism, const struct sasl_channel *c)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (span_ieq_str(mechanism, table[i].name))
			return usable(i, c);
	return SASL_UNKNOWN;
}

void sasl_offer(struct buf *b, const struct sasl_channel *c, const char *prefix, const char *sep)
{
	const char *before = "";

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (usable(i, c) != SASL_USABLE)
			continue;
		buf_put_str(b, before);
		buf_put_str(b, prefix);
		buf_put_str(b, table[i].name);
		before = sep;
	}
}

enum sasl_use sasl_password_usable(const struct sasl_channel *c)
{
	return sasl_usable(SPAN("PLAIN"), c);
}

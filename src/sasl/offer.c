#include "sasl/offer.h"

#include "conf/conf.h"

/* A client that takes the first it knows takes the strongest.  Without TLS nothing is offered:
 * SCRAM does not show the password, but the session that follows would be anybody's. */
static const struct {
	const char *name;
	enum sasl_family family;
	bool in_clear;	  /* allowed without TLS */
	bool client_cert; /* needs one */
} table[] = {
	{ "SCRAM-SHA-256-PLUS", SASL_F_SCRAM_SHA256, false, false },
	{ "SCRAM-SHA-256", SASL_F_SCRAM_SHA256, false, false },
	{ "SCRAM-SHA-1-PLUS", SASL_F_SCRAM_SHA1, false, false },
	{ "SCRAM-SHA-1", SASL_F_SCRAM_SHA1, false, false },
	{ "PLAIN", SASL_F_PLAIN, false, false },
	{ "LOGIN", SASL_F_LOGIN, false, false },
	{ "OAUTHBEARER", SASL_F_OAUTHBEARER, false, false },
	{ "XOAUTH2", SASL_F_XOAUTH2, false, false },
	{ "EXTERNAL", SASL_F_EXTERNAL, false, true },
};

unsigned sasl_families(const struct conf *c)
{
	unsigned all = c->auth_mechanisms;

	if (!c->n_oauth)
		all &= ~(1u << SASL_F_OAUTHBEARER | 1u << SASL_F_XOAUTH2);
	return all;
}

static enum sasl_use usable(size_t i, const struct sasl_channel *c)
{
	if (!(c->families & 1u << table[i].family))
		return SASL_UNKNOWN;
	if (!c->tls && !table[i].in_clear)
		return SASL_NEEDS_TLS;
	return table[i].client_cert && !c->client_cert ? SASL_UNKNOWN : SASL_USABLE;
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

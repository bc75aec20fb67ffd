/* Which mechanism may be used where: the one table that says so.  The wires in front answer EHLO,
 * CAPABILITY and CAPA with it, and core asks it again. */
#pragma once

#include "base/buf.h"
#include "sys/session.h"

struct conf;

/* In the order in which they are offered, and of the choices of auth.mechanisms. */
enum sasl_id {
	SASL_SCRAM_SHA256_PLUS,
	SASL_SCRAM_SHA256,
	SASL_SCRAM_SHA1_PLUS,
	SASL_SCRAM_SHA1,
	SASL_PLAIN,
	SASL_LOGIN,
	SASL_OAUTHBEARER,
	SASL_XOAUTH2,
	SASL_EXTERNAL,
	SASL_COUNT
};
#define SASL_BIT(id) (1u << SASL_##id)
/* The set that configuration C allows: OAuth needs an issuer besides. */
unsigned sasl_allowed(const struct conf *c);

/* What is known of a connection. */
struct sasl_channel {
	unsigned allowed; /* of sasl_allowed() */
	bool tls;
	bool client_cert; /* a verified client certificate names an address */
	bool binding;	  /* a login can be bound to it */
};
/* Is there anything that a login over T could be bound to?  Not with TLS 1.2 without the extended master secret and a
 * certificate whose signature names no hash. */
static inline bool sasl_binds(const struct sess_tls *t)
{
	return t->has_exporter || t->endpoint_len;
}
static inline struct sasl_channel sasl_wire_channel(const struct wire_env *e)
{
	return (struct sasl_channel){ e->auth, e->tls, e->client_cert, e->binding };
}

enum sasl_use { SASL_UNKNOWN, SASL_NEEDS_TLS, SASL_USABLE };
enum sasl_use sasl_usable(span mechanism, const struct sasl_channel *c);
/* The usable mechanisms, separated by SEP with PREFIX before each; may be none. */
void sasl_offer(struct buf *b, const struct sasl_channel *c, const char *prefix, const char *sep);
/* May a password be shown (IMAP LOGIN, POP3 USER)?  As PLAIN. */
enum sasl_use sasl_password_usable(const struct sasl_channel *c);

/* Which mechanism is allowed when: the only place that says so.  Pure. */
#include "sasl/offer.h"

static const struct {
	const char *name;
	bool in_clear; /* allowed without TLS */
} table[] = {
	/* SCRAM does not show the password, but without TLS the session that follows is anybody's.
	 */
	{ "PLAIN", false },
	{ "LOGIN", false },
	{ "SCRAM-SHA-256", false },
};

void sasl_offer(struct buf *b, bool tls_active, const char *prefix, const char *sep)
{
	const char *before = "";

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (!tls_active && !table[i].in_clear)
			continue;
		buf_put_str(b, before);
		buf_put_str(b, prefix);
		buf_put_str(b, table[i].name);
		before = sep;
	}
}

bool sasl_allowed(span mechanism, bool tls_active)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (span_ieq_str(mechanism, table[i].name))
			return tls_active || table[i].in_clear;
	return false;
}

/* EXTERNAL (RFC 4422 appendix A): the user has proven in the TLS handshake to be whom the client
 * certificate names.  Front has verified it (tls.client_ca). */
#include "sasl/sasl_int.h"

static enum sasl_step external_step(struct sasl *s, span in, struct buf *out)
{
	span rest = s->sess->tls.client_emails;
	enum sasl_step step = SASL_FAILED;

	if (!in.p)
		return SASL_CONTINUE;
	if (span_find(in, '\0') != SPAN_NPOS)
		return SASL_FAILED;
	while (rest.n && step != SASL_OK)
		step = sasl_admit(s, span_cut(&rest, '\n'), in);
	return step;
}

const struct sasl_mechanism sasl_external_mechanisms[] = {
	{ .name = "EXTERNAL", .step = external_step },
	{ .name = NULL },
};

/* OAuth's client messages: a token that was read is one, and nothing else is around it. */
#include <assert.h>

#include "sasl/oauth_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check(const struct oauth_message *m, span in)
{
	assert(m->token.n && m->token.p >= in.p && m->token.p + m->token.n <= in.p + in.n);
	for (size_t i = 0; i < m->token.n; i++)
		assert(m->token.p[i] > ' ' && m->token.p[i] < 0x7f);
	assert(span_find(m->user, '\x01') == SPAN_NPOS);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	span in = span_of(p, n);
	struct oauth_message m = { 0 };

	if (oauthbearer_parse(in, &m))
		check(&m, in);
	m = (struct oauth_message){ 0 };
	if (xoauth2_parse(in, &m)) {
		check(&m, in);
		assert(m.user.n);
	}
	return 0;
}

/* The exchange: base64, limits, cancelling; what is inside is the mechanism's business. */
#include "sasl/sasl_int.h"

#include <stdlib.h>

#include "base/codec.h"
#include "guard/guard.h"
#include "tls/hash.h"

static const struct sasl_mechanism *const mechanisms[] = { &sasl_plain, &sasl_login_mechanism,
							   &sasl_scram_sha256 };

enum sasl_step sasl_check_password(struct sasl *s, span login, span password)
{
	if (!login.n || login.n > SASL_MAX_NAME || password.n > SASL_MAX_PASSWORD)
		return SASL_FAILED;
	s->login = arena_span(&s->mem, login);
	s->guess = guard_guess(login, password);
	return directory_authenticate(s->directory, login, password, &s->mem, &s->account) < 0
		       ? SASL_FAILED
		       : SASL_OK;
}

/* One message of the client; LINE.p NULL: none. */
static enum sasl_step take(struct sasl *s, span line, struct buf *challenge)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(SASL_MAX_LINE), out = BUF_INIT(SASL_MAX_LINE);
	enum sasl_step step;
	span message = SPAN_NULL;

	if (line.p) {
		if (line.n > SASL_MAX_LINE - 2 || base64_decode(&in, line) < 0)
			return SASL_BAD;
		message = in.n ? buf_span(&in) : SPAN("");
	}
	step = s->mechanism->step(s, message, &out);
	if (step == SASL_CONTINUE)
		base64_encode(challenge, buf_span(&out));
	if (in.p)
		secret_wipe(in.p, in.cap);
	return step;
}

enum sasl_step sasl_start(struct directory *d, span mechanism, span initial,
			  const struct sess_tls *tls, struct sasl **ret, struct buf *challenge)
{
	struct sasl *s;
	size_t i = 0;

	*ret = NULL;
	while (i < ARRAY_LEN(mechanisms) && !span_ieq_str(mechanism, mechanisms[i]->name))
		i++;
	if (i == ARRAY_LEN(mechanisms) || !sasl_allowed(mechanism, tls->active))
		return SASL_BAD;
	s = xcalloc(1, sizeof(*s));
	s->directory = d;
	s->mechanism = mechanisms[i];
	arena_init(&s->mem);
	*ret = s;
	if (s->mechanism->start && s->mechanism->start(s) < 0)
		return SASL_FAILED;
	/* "=" is the initial response of no bytes (RFC 4954 section 4). */
	return take(s, span_eq_str(initial, "=") ? SPAN("") : initial, challenge);
}

enum sasl_step sasl_next(struct sasl *s, span line, struct buf *challenge)
{
	if (span_eq_str(line, "*"))
		return SASL_CANCELLED;
	return take(s, line.p ? line : SPAN(""), challenge);
}

void sasl_account(const struct sasl *s, struct arena *mem, struct directory_account *ret)
{
	*ret = s->account;
	ret->address = arena_span(mem, s->account.address);
}

span sasl_login(const struct sasl *s)
{
	return s ? s->login : SPAN_NULL;
}

uint64_t sasl_guess(const struct sasl *s)
{
	return s ? s->guess : 0;
}

void sasl_free(struct sasl *s)
{
	if (!s)
		return;
	if (s->mechanism->done)
		s->mechanism->done(s);
	arena_done(&s->mem);
	secret_wipe(s, sizeof(*s));
	free(s);
}

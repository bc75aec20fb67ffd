/* The exchange: base64, limits, cancelling; what is inside is the mechanism's business. */
#include "sasl/sasl_int.h"

#include <stdlib.h>

#include "base/codec.h"
#include "guard/guard.h"
#include "tls/hash.h"

static const struct sasl_mechanism *const lists[] = { sasl_scram_mechanisms, sasl_plain_mechanisms,
						      sasl_oauth_mechanisms,
						      sasl_external_mechanisms };

static const struct sasl_mechanism *find(span name)
{
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		for (const struct sasl_mechanism *m = lists[i]; m->name; m++)
			if (span_ieq_str(name, m->name))
				return m;
	return NULL;
}

/* ------------------------------------------------------------------ passwords and names */

static unsigned scope_of(const struct sess *s)
{
	static const unsigned scopes[SESS_PROTO_COUNT] = {
		[SESS_PROTO_SMTP] = DIRECTORY_SMTP,
		[SESS_PROTO_SUBMISSION] = DIRECTORY_SMTP,
		[SESS_PROTO_IMAP] = DIRECTORY_IMAP,
		[SESS_PROTO_POP3] = DIRECTORY_POP3,
	};

	return scopes[s->ops->proto];
}

static int check(struct sasl_env *e, const struct sess *s, span login, span password,
		 struct arena *mem, struct directory_account *ret)
{
	char ip[SOCK_TEXT];

	sock_ip_text(&s->peer, ip);
	const struct directory_try t = {
		.login = login, .password = password, .scope = scope_of(s), .peer = span_str(ip)
	};
	return directory_authenticate(e->directory, &t, mem, ret);
}

int sasl_password(struct sasl_env *e, const struct sess *s, span login, span password,
		  struct arena *mem, struct directory_account *ret)
{
	if (!login.n || login.n > SASL_MAX_NAME || password.n > SASL_MAX_PASSWORD)
		return ERR_AUTH;
	return check(e, s, login, password, mem, ret);
}

enum sasl_step sasl_check_password(struct sasl *s, span login, span password)
{
	int r;

	if (!login.n || login.n > SASL_MAX_NAME || password.n > SASL_MAX_PASSWORD)
		return SASL_FAILED;
	s->login = arena_span(&s->mem, login);
	s->guess = guard_guess(login, password);
	r = check(s->env, s->sess, login, password, &s->mem, &s->account);
	return r == 0 ? SASL_OK : r == ERR_AUTH ? SASL_FAILED : SASL_UNAVAILABLE;
}

enum sasl_step sasl_admit(struct sasl *s, span name, span authzid)
{
	struct directory_account other;

	if (name.n > SASL_MAX_NAME || authzid.n > SASL_MAX_NAME)
		return SASL_FAILED;
	s->login = arena_span(&s->mem, name);
	if (directory_login(s->env->directory, name, &s->mem, &s->account) < 0)
		return SASL_FAILED;
	if (authzid.n && (directory_login(s->env->directory, authzid, &s->mem, &other) < 0 ||
			  strcmp(other.id, s->account.id) != 0))
		return SASL_FAILED;
	return SASL_OK;
}

/* ------------------------------------------------------------------ the exchange */

/* What a step leads to beyond the mechanism. */
static enum sasl_step after(struct sasl *s, enum sasl_step step, const struct buf *out,
			    struct buf *challenge)
{
	s->waiting = step == SASL_WAIT;
	if (step == SASL_CONTINUE)
		base64_encode(challenge, buf_span(out));
	return step;
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
	step = after(s, s->mechanism->step(s, message, &out), &out, challenge);
	if (in.p)
		secret_wipe(in.p, in.cap);
	return step;
}

enum sasl_step sasl_start(struct sasl_env *e, const struct sess *sess, span mechanism, span initial,
			  struct sasl **ret, struct buf *challenge)
{
	const struct sasl_mechanism *m = find(mechanism);
	struct sasl_channel c = sasl_channel(e, sess);
	struct sasl *s;

	*ret = NULL;
	if (!m || sasl_usable(mechanism, &c) != SASL_USABLE)
		return SASL_BAD;
	s = xcalloc(1, sizeof(*s));
	s->env = e;
	s->sess = sess;
	s->mechanism = m;
	arena_init(&s->mem);
	*ret = s;
	if (m->start && m->start(s) < 0)
		return SASL_UNAVAILABLE;
	/* "=" is the initial response of no bytes (RFC 4954 section 4). */
	return take(s, span_eq_str(initial, "=") ? SPAN("") : initial, challenge);
}

enum sasl_step sasl_next(struct sasl *s, span line, struct buf *challenge)
{
	if (span_eq_str(line, "*"))
		return SASL_CANCELLED;
	return take(s, line.p ? line : SPAN(""), challenge);
}

bool sasl_waiting(const struct sasl *s)
{
	return s && s->waiting;
}

enum sasl_step sasl_resume(struct sasl *s, struct buf *challenge)
{
	_cleanup_(buf_donep) struct buf out = BUF_INIT(SASL_MAX_LINE);

	return after(s, s->mechanism->resume(s, &out), &out, challenge);
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

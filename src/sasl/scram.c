/* SCRAM-SHA-256 (RFC 5802, RFC 7677) through gsasl, from the stored keys only: no password is at
 * hand.  Without channel binding for now: "n" and "y" are what a client may say. */
#include "sasl/sasl_int.h"

#include <gsasl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/codec.h"
#include "tls/hash.h"

struct scram {
	Gsasl_session *session;
	bool asked, real;
};

static Gsasl *library; /* never changes after init */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int set_base64(Gsasl_session *g, Gsasl_property p, span bytes)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);
	int e = base64_encode(&b, bytes) < 0 ? GSASL_MALLOC_ERROR
					     : gsasl_property_set(g, p, buf_cstr(&b));

	if (b.p)
		secret_wipe(b.p, b.cap);
	return e;
}

/* Gives gsasl the verifier of the name it has read.  For an unknown name there is a made-up one, so
 * that the exchange looks and lasts the same. */
static int give_verifier(struct sasl *s, Gsasl_session *g)
{
	struct scram *x = s->state;
	const char *name = gsasl_property_fast(g, GSASL_AUTHID);
	struct directory_scram v;
	char iterations[16];
	int e;

	x->asked = true;
	if (!name || !*name || strlen(name) > SASL_MAX_NAME)
		return GSASL_AUTHENTICATION_ERROR;
	s->login = arena_span(&s->mem, span_str(name));
	if (directory_scram_get(s->directory, s->login, &s->mem, &v) < 0)
		return GSASL_AUTHENTICATION_ERROR;
	x->real = v.real;
	snprintf(iterations, sizeof(iterations), "%u", v.iterations);
	e = gsasl_property_set(g, GSASL_SCRAM_ITER, iterations);
	if (e == GSASL_OK)
		e = set_base64(g, GSASL_SCRAM_SALT, v.salt);
	if (e == GSASL_OK)
		e = set_base64(g, GSASL_SCRAM_STOREDKEY,
			       span_of(v.stored_key, sizeof(v.stored_key)));
	if (e == GSASL_OK)
		e = set_base64(g, GSASL_SCRAM_SERVERKEY,
			       span_of(v.server_key, sizeof(v.server_key)));
	secret_wipe(&v, sizeof(v));
	return e;
}

static int callback(Gsasl *ctx, Gsasl_session *g, Gsasl_property p)
{
	struct sasl *s = gsasl_session_hook_get(g);
	struct scram *x = s->state;

	switch (p) {
	case GSASL_SCRAM_ITER:
	case GSASL_SCRAM_SALT:
	case GSASL_SCRAM_STOREDKEY:
	case GSASL_SCRAM_SERVERKEY:
		return x->asked ? GSASL_NO_CALLBACK : give_verifier(s, g);
	default:
		return GSASL_NO_CALLBACK;
	}
}

static void library_init(void)
{
	if (gsasl_init(&library) == GSASL_OK)
		gsasl_callback_set(library, callback);
	else
		library = NULL;
}

static int scram_start(struct sasl *s)
{
	struct scram *x;

	pthread_once(&once, library_init);
	if (!library)
		return ERR_INTERNAL;
	x = s->state = xcalloc(1, sizeof(*x));
	if (gsasl_server_start(library, "SCRAM-SHA-256", &x->session) != GSASL_OK)
		return ERR_INTERNAL;
	gsasl_session_hook_set(x->session, s);
	return 0;
}

static void scram_done(struct sasl *s)
{
	struct scram *x = s->state;

	if (x && x->session)
		gsasl_finish(x->session);
	free(x);
}

/* The account that the name stands for; without "@" it is in our only domain, as for a password. */
static int find_account(struct sasl *s)
{
	struct directory_domain *domains;
	span address = s->login;
	size_t n;

	if (span_find(address, '@') == SPAN_NPOS) {
		if (directory_domains(s->directory, &s->mem, &domains, &n) < 0 || n != 1)
			return ERR_AUTH;
		address = span_str(arena_printf(&s->mem, "%.*s@%.*s", SPAN_FMT(address),
						SPAN_FMT(domains[0].name)));
	}
	return directory_account_get(s->directory, address, &s->mem, &s->account);
}

static enum sasl_step proven(struct sasl *s)
{
	const struct scram *x = s->state;
	const char *authzid = gsasl_property_fast(x->session, GSASL_AUTHZID);

	if (!x->real || (authzid && *authzid && !span_ieq_str(s->login, authzid)))
		return SASL_FAILED;
	if (find_account(s) < 0 || s->account.suspended)
		return SASL_FAILED;
	/* Our last word ("v=...") travels as a challenge (RFC 4954 section 4); the client owes an
	 * empty line. */
	s->said_all = true;
	return SASL_CONTINUE;
}

static enum sasl_step scram_step(struct sasl *s, span in, struct buf *out)
{
	struct scram *x = s->state;
	char *made = NULL;
	size_t n = 0;
	int e;

	if (s->said_all)
		return in.n ? SASL_FAILED : SASL_OK;
	if (!in.p)
		return SASL_CONTINUE;
	/* gsasl works on C strings. */
	if (!in.n || memchr(in.p, '\0', in.n))
		return SASL_FAILED;
	/* "p": binds to the channel, though we offer no -PLUS mechanism (RFC 5802 section 6). */
	if (!x->asked && in.p[0] != 'n' && in.p[0] != 'y')
		return SASL_FAILED;
	e = gsasl_step(x->session, in.p, in.n, &made, &n);
	if (e == GSASL_OK || e == GSASL_NEEDS_MORE)
		buf_put(out, made, n);
	gsasl_free(made);
	if (e == GSASL_OK)
		return proven(s);
	return e == GSASL_NEEDS_MORE ? SASL_CONTINUE : SASL_FAILED;
}

const struct sasl_mechanism sasl_scram_sha256 = {
	.name = "SCRAM-SHA-256",
	.start = scram_start,
	.step = scram_step,
	.done = scram_done,
};

/* What all logins share: the directory, the configuration in force, and whom to tell of failures. */
#include <stdlib.h>

#include "conf/conf.h"
#include "sasl/oauth.h"

struct sasl_env *sasl_env_new(struct directory *d)
{
	struct sasl_env *e = xcalloc(1, sizeof(*e));

	e->directory = d;
	pthread_mutex_init(&e->lock, NULL);
	return e;
}

void sasl_env_free(struct sasl_env *e)
{
	if (!e)
		return;
	oauth_unref(e->oauth);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* Verifiers are kept for what clients may use. */
static unsigned scram_algs(unsigned allowed)
{
	unsigned algs = 0;

	if (allowed & (SASL_BIT(SCRAM_SHA1) | SASL_BIT(SCRAM_SHA1_PLUS)))
		algs |= 1u << HASH_SHA1;
	if (allowed & (SASL_BIT(SCRAM_SHA256) | SASL_BIT(SCRAM_SHA256_PLUS)))
		algs |= 1u << HASH_SHA256;
	return algs;
}

int sasl_env_configure(struct sasl_env *e, const struct conf *c, struct err_info *info)
{
	struct oauth *fresh = NULL, *old;
	int r = c->n_oauth ? oauth_new(c, &fresh, info) : 0;

	if (r < 0)
		return r;
	pthread_mutex_lock(&e->lock);
	e->allowed = sasl_allowed(c);
	old = e->oauth;
	e->oauth = fresh;
	pthread_mutex_unlock(&e->lock);
	oauth_unref(old);
	directory_set_scram(e->directory, scram_algs(c->auth_mechanisms));
	return 0;
}

void sasl_env_attach(struct sasl_env *e, struct ask_table *asks,
		     void (*wake)(void *arg, uint64_t session), void *arg)
{
	e->asks = asks;
	e->wake = wake;
	e->wake_arg = arg;
}

void sasl_env_refresh(struct sasl_env *e)
{
	_cleanup_(oauth_unrefp) struct oauth *o = NULL;

	pthread_mutex_lock(&e->lock);
	o = e->oauth ? oauth_ref(e->oauth) : NULL;
	pthread_mutex_unlock(&e->lock);
	if (o && e->asks)
		oauth_refresh(o, e->asks);
}

struct sasl_channel sasl_channel(struct sasl_env *e, const struct sess *s)
{
	pthread_mutex_lock(&e->lock);
	unsigned allowed = e->allowed;
	pthread_mutex_unlock(&e->lock);
	return (struct sasl_channel){ .allowed = allowed,
				      .tls = s->tls.active,
				      .client_cert = s->tls.client_emails.n > 0,
				      .binding = sasl_binds(&s->tls) };
}

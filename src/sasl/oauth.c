/* OAUTHBEARER (RFC 7628) and XOAUTH2 (as Google's clients speak it). */
#include "sasl/oauth.h"

#include <stdlib.h>

#include "base/log.h"
#include "guard/guard.h"
#include "sasl/oauth_parse.h"
#include "sys/ask.h"

enum { XOAUTH2 = 1 }; /* sasl_mechanism.variant */

struct exchange {
	struct oauth *oauth;
	bool refused; /* the reason was told; the client owes an empty answer */
	span user;
	size_t issuer;	     /* of the question */
	struct ask_set *set; /* under way, or NULL */
};

static int oauth_start(struct sasl *s)
{
	struct exchange *x;
	struct oauth *o;

	pthread_mutex_lock(&s->env->lock);
	o = s->env->oauth ? oauth_ref(s->env->oauth) : NULL;
	pthread_mutex_unlock(&s->env->lock);
	if (!o)
		return ERR_AGAIN; /* taken out of the configuration a moment ago */
	x = s->state = xcalloc(1, sizeof(*x));
	x->oauth = o;
	return 0;
}

static void oauth_done(struct sasl *s)
{
	struct exchange *x = s->state;

	if (!x)
		return;
	ask_set_unref(x->set);
	oauth_unref(x->oauth);
	free(x);
}

/* Tells the client that another token is needed (RFC 7628 section 3.2.2); why, only the log knows. */
static enum sasl_step refuse(struct sasl *s, const char *why, struct buf *out)
{
	struct exchange *x = s->state;
	char ip[SOCK_TEXT];

	sock_ip_text(&s->sess->peer, ip);
	log_event(LOG_INFO, "sasl.token_refused", F_STR("peer", ip), F_SPAN("login", s->login),
		  F_STR("why", why));
	x->refused = true;
	if (s->mechanism->variant == XOAUTH2) {
		buf_put_str(out, "{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"mail\"}");
		return SASL_CONTINUE;
	}
	_cleanup_(buf_donep) struct buf url = BUF_INIT(4096);
	buf_put_span(&url, oauth_issuer(x->oauth));
	buf_put_str(&url, "/.well-known/openid-configuration");
	_cleanup_(json_decrefp)
		json_t *j = json_pack("{s:s,s:o}", "status", "invalid_token",
				      "openid-configuration", json_span(buf_span(&url)));
	return json_put(out, j) < 0 ? SASL_FAILED : SASL_CONTINUE;
}

static enum sasl_step conclude(struct sasl *s, enum oauth_verdict v, span address, const char *why,
			       struct buf *out)
{
	struct exchange *x = s->state;

	if (v == OAUTH_LATER) {
		log_event(LOG_WARNING, "sasl.token_unchecked", F_STR("why", why));
		return SASL_UNAVAILABLE;
	}
	if (v == OAUTH_GOOD) {
		if (sasl_admit(s, address, x->user) == SASL_OK)
			return SASL_OK;
		why = "it is not for an account here, or not for the one asked for";
	}
	return refuse(s, why, out);
}

static enum sasl_step ask(struct sasl *s, span token)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);
	struct exchange *x = s->state;

	if (!s->env->asks || oauth_question(x->oauth, x->issuer, token, &b) < 0)
		return SASL_UNAVAILABLE;
	x->set = ask_set_new(s->env->asks, s->env->wake, s->env->wake_arg, s->sess->id);
	(void)ask_set_add(x->set, HTTP_ASK, buf_span(&b), -1, OAUTH_TIMEOUT + USEC_SEC);
	ask_set_go(x->set);
	return SASL_WAIT;
}

static enum sasl_step oauth_step(struct sasl *s, span in, struct buf *out)
{
	struct exchange *x = s->state;
	struct oauth_message m;
	enum oauth_verdict v;
	const char *why = NULL;
	span address = SPAN_NULL;

	if (x->refused)
		return SASL_FAILED;
	if (!in.p)
		return SASL_CONTINUE;
	if (s->mechanism->variant == XOAUTH2 ? !xoauth2_parse(in, &m) : !oauthbearer_parse(in, &m))
		return SASL_FAILED;
	if (m.user.n > SASL_MAX_NAME)
		return SASL_FAILED;
	x->user = s->login = arena_span(&s->mem, m.user);
	s->guess = guard_guess(m.user, m.token); /* the same token again is no other guess */
	if (s->env->asks) /* keys that have just come are better than "later" */
		oauth_refresh(x->oauth, s->env->asks);
	v = oauth_check(x->oauth, m.token, &s->mem, &address, &x->issuer, &why);
	return v == OAUTH_ASK ? ask(s, m.token) : conclude(s, v, address, why, out);
}

static enum sasl_step oauth_resume(struct sasl *s, struct buf *out)
{
	struct exchange *x = s->state;
	enum oauth_verdict v = OAUTH_LATER;
	const char *why = "its issuer cannot be asked";
	span payload, address = SPAN_NULL;
	struct http_answer a;
	uint16_t type;

	if (!ask_set_ready(x->set))
		return SASL_WAIT;
	if (ask_set_answer(x->set, 0, &type, &payload, NULL) == 0 && type == HTTP_ANSWER &&
	    http_answer_get(payload, &s->mem, &a) == 0)
		v = oauth_answer(x->oauth, x->issuer, &a, &s->mem, &address, &why);
	return conclude(s, v, address, why, out);
}

const struct sasl_mechanism sasl_oauth_mechanisms[] = {
	{ .name = "OAUTHBEARER",
	  .start = oauth_start,
	  .step = oauth_step,
	  .resume = oauth_resume,
	  .done = oauth_done },
	{ .name = "XOAUTH2",
	  .variant = XOAUTH2,
	  .start = oauth_start,
	  .step = oauth_step,
	  .resume = oauth_resume,
	  .done = oauth_done },
	{ .name = NULL },
};

/* The issuers of tokens: their keys, fetched anew now and then, and what they answer. */
#include "sasl/oauth.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"
#include "conf/conf.h"
#include "sys/ask.h"
#include "sys/file.h"
#include "tls/hash.h"

enum { QUESTION_MAX = 3 * JWT_MAX + 256 };
static const usec refresh_every = 3600 * USEC_SEC, /* a key set that came */
	retry_after = 30 * USEC_SEC,		   /* one that did not */
	wanted_every = 60 * USEC_SEC;		   /* a token names a key that is not in it */

struct issuer {
	span name, audience, claim;	  /* in the table's arena, as all spans here */
	span jwks_url, introspection_url; /* or empty */
	span authorization;		  /* value of the field, or empty */
	bool jwt;			  /* has keys, or will */
	pthread_rwlock_t lock;		  /* what follows */
	struct jwks *keys;		  /* NULL: none yet, or none at all */
	usec next;			  /* mono: when to ask for keys again */
	usec wanted;			  /* mono: when a token last made us ask */
	struct ask_set *asking;
};
struct oauth {
	atomic_int refs;
	struct arena mem;
	size_t n;
	struct issuer *issuers;
};

/* ------------------------------------------------------------------ configuration */

static int load_keys(struct oauth *o, struct issuer *i, span path, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(JWKS_MAX);
	const char *z = arena_cstr(&o->mem, path);
	struct err_info why = { 0 };
	int r = file_read(z, JWKS_MAX, &b);

	if (r < 0)
		return err_set(info, r, "auth.oauth: jwks_file: %s: %s", z, err_text(r));
	r = jwks_parse(buf_span(&b), &i->keys, &why);
	return r < 0 ? err_set(info, r, "auth.oauth: jwks_file: %s: %s", z, why.text) : 0;
}

/* application/x-www-form-urlencoded, which escapes more than it must. */
static void put_form(struct buf *b, span s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
			     c == '-' || c == '.' || c == '_' || c == '~';

		if (plain)
			buf_put_char(b, (char)c);
		else
			buf_printf(b, "%%%02X", c);
	}
}

/* "Basic ..." of RFC 6749 section 2.3.1. */
static span authorization(struct oauth *o, const struct conf_oauth *c)
{
	_cleanup_(buf_donep) struct buf pair = BUF_INIT(8192), field = BUF_INIT(16384);

	put_form(&pair, c->client_id);
	buf_put_char(&pair, ':');
	put_form(&pair, span_trim(c->secret));
	buf_put_str(&field, "Basic ");
	base64_encode(&field, buf_span(&pair));
	span copy = arena_span(&o->mem, buf_span(&field));
	secret_wipe(pair.p, pair.cap);
	secret_wipe(field.p, field.cap);
	return copy;
}

static int load_issuer(struct oauth *o, const struct conf_oauth *c, struct err_info *info)
{
	struct issuer *i = &o->issuers[o->n++];
	int r = 0;

	pthread_rwlock_init(&i->lock, NULL);
	i->name = arena_span(&o->mem, c->issuer);
	i->audience = arena_span(&o->mem, c->audience);
	i->claim = arena_span(&o->mem, c->claim);
	i->jwks_url = arena_span(&o->mem, c->jwks_url);
	i->introspection_url = arena_span(&o->mem, c->introspection_url);
	i->jwt = c->jwks_file.n || c->jwks_url.n;
	if (c->jwks_file.n)
		r = load_keys(o, i, c->jwks_file, info);
	if (c->secret.n)
		i->authorization = authorization(o, c);
	return r;
}

int oauth_new(const struct conf *c, struct oauth **ret, struct err_info *info)
{
	_cleanup_(oauth_unrefp) struct oauth *o = xcalloc(1, sizeof(*o));
	int r = 0;

	o->refs = 1;
	arena_init(&o->mem);
	o->issuers = xcalloc(c->n_oauth + 1, sizeof(*o->issuers));
	for (size_t i = 0; r == 0 && i < c->n_oauth; i++)
		r = load_issuer(o, &c->oauth[i], info);
	if (r == 0)
		*ret = STEAL_PTR(&o);
	return r;
}

struct oauth *oauth_ref(struct oauth *o)
{
	atomic_fetch_add(&o->refs, 1);
	return o;
}

void oauth_unref(struct oauth *o)
{
	if (!o || atomic_fetch_sub(&o->refs, 1) > 1)
		return;
	for (size_t i = 0; i < o->n; i++) {
		struct issuer *one = &o->issuers[i];

		if (one->authorization.n)
			secret_wipe((char *)one->authorization.p, one->authorization.n);
		jwks_free(one->keys);
		ask_set_unref(one->asking);
		pthread_rwlock_destroy(&one->lock);
	}
	free(o->issuers);
	arena_done(&o->mem);
	free(o);
}

span oauth_issuer(const struct oauth *o)
{
	return o->issuers[0].name;
}

/* ------------------------------------------------------------------ keys by URL */

static void answered(void *arg, uint64_t id)
{
	/* The next oauth_refresh() looks: at the next token, or in some seconds. */
}

static struct ask_set *ask_keys(const struct issuer *i, struct ask_table *asks)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(8192);
	struct http_header accept = { SPAN("Accept"), SPAN("application/json") };
	const struct http_request r = { .method = SPAN("GET"),
					.url = i->jwks_url,
					.headers = &accept,
					.n_headers = 1,
					.answer_max = HTTP_ANSWER_MAX,
					.timeout = OAUTH_TIMEOUT,
					.flags = HTTP_TLS_ONLY | HTTP_LOCAL };

	if (http_request_put(&b, &r) < 0)
		return NULL;
	struct ask_set *set = ask_set_new(asks, answered, NULL, 0);
	(void)ask_set_add(set, HTTP_ASK, buf_span(&b), -1, OAUTH_TIMEOUT + USEC_SEC);
	ask_set_go(set);
	return set;
}

/* The key set in a ready answer; NULL, with the reason in INFO. */
static struct jwks *keys_of(struct ask_set *set, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct http_answer a;
	struct jwks *keys = NULL;
	uint16_t type;
	span payload;
	int r = ask_set_answer(set, 0, &type, &payload, NULL);

	if (r == 0 && type != HTTP_ANSWER)
		r = ERR_PROTO;
	if (r == 0)
		r = http_answer_get(payload, &mem, &a);
	if (r < 0)
		err_set(info, r, "%s", err_text(r));
	else if (a.fail)
		err_set(info, ERR_IO, "%.*s", (int)MIN(a.why.n, (size_t)200), a.why.p);
	else if (a.status != 200)
		err_set(info, ERR_IO, "status %u", a.status);
	else
		(void)jwks_parse(a.body, &keys, info);
	return keys;
}

/* Old keys stay until new ones came. */
static void take_keys(struct issuer *i)
{
	struct err_info info = { 0 };
	struct jwks *keys = keys_of(i->asking, &info);
	usec now = clock_mono();

	if (keys) {
		jwks_free(i->keys);
		i->keys = keys;
	} else {
		log_event(LOG_WARNING, "sasl.no_keys", F_SPAN("issuer", i->name),
			  F_SPAN("url", i->jwks_url), F_STR("why", info.text));
	}
	i->next = now + (keys ? refresh_every : retry_after);
	ask_set_unref(i->asking);
	i->asking = NULL;
}

void oauth_refresh(struct oauth *o, struct ask_table *asks)
{
	for (size_t k = 0; k < o->n; k++) {
		struct issuer *i = &o->issuers[k];

		if (!i->jwks_url.n)
			continue;
		pthread_rwlock_wrlock(&i->lock);
		if (i->asking && ask_set_ready(i->asking))
			take_keys(i);
		if (!i->asking && i->next <= clock_mono())
			i->asking = ask_keys(i, asks);
		pthread_rwlock_unlock(&i->lock);
	}
}

/* ------------------------------------------------------------------ what tokens say */

/* The address in CLAIMS, which have been verified. */
static enum oauth_verdict take_address(const struct issuer *i, const json_t *claims,
				       struct arena *mem, span *ret, const char **ret_why)
{
	const char *claim = arena_cstr(mem, i->claim);
	span address = json_str(claims, claim);

	*ret_why = NULL;
	if (!address.n || address.n > SASL_MAX_NAME)
		*ret_why = "it names no address";
	else if (strcmp(claim, "email") == 0 && !json_bool(claims, "email_verified", true))
		*ret_why = "its issuer has not verified the address";
	if (*ret_why)
		return OAUTH_REFUSED;
	*ret = arena_span(mem, address);
	return OAUTH_GOOD;
}

/* A key that the issuer may have added meanwhile is worth a look, but nobody can make us look all
 * the time.  True: new keys are on their way. */
static bool want_keys(struct issuer *i)
{
	usec now = clock_mono();

	pthread_rwlock_wrlock(&i->lock);
	if (!i->wanted || i->wanted + wanted_every <= now)
		i->wanted = i->next = now;
	bool coming = i->asking || i->next <= now;
	pthread_rwlock_unlock(&i->lock);
	return coming;
}

static enum oauth_verdict check_jwt(struct issuer *i, span token, struct arena *mem,
				    span *ret_address, const char **ret_why)
{
	const struct jwt_check check = { .issuer = i->name,
					 .audience = i->audience,
					 .now = clock_wall() };
	_cleanup_(json_decrefp) json_t *claims = NULL;
	enum oauth_verdict v = OAUTH_REFUSED;
	int r = ERR_AGAIN;

	*ret_why = "its issuer's keys are not known";
	pthread_rwlock_rdlock(&i->lock);
	if (i->keys)
		r = jwt_verify(token, i->keys, &check, &claims, ret_why);
	pthread_rwlock_unlock(&i->lock);
	if (r == 0)
		return take_address(i, claims, mem, ret_address, ret_why);
	if (r == ERR_AGAIN || (r == ERR_NOENT && i->jwks_url.n && want_keys(i)))
		v = OAUTH_LATER;
	return v;
}

enum oauth_verdict oauth_check(struct oauth *o, span token, struct arena *mem, span *ret_address,
			       size_t *ret_issuer, const char **ret_why)
{
	_cleanup_(json_decrefp) json_t *claims = NULL;
	span name = SPAN_NULL;

	if (jwt_peek(token, &claims, &name))
		for (size_t i = 0; i < o->n; i++) {
			struct issuer *one = &o->issuers[i];

			if (span_eq(one->name, name) && one->jwt)
				return check_jwt(one, token, mem, ret_address, ret_why);
		}
	for (size_t i = 0; i < o->n; i++)
		if (o->issuers[i].introspection_url.n &&
		    (!name.n || span_eq(o->issuers[i].name, name))) {
			*ret_issuer = i;
			return OAUTH_ASK;
		}
	*ret_why = "nobody we know has issued it";
	return OAUTH_REFUSED;
}

/* ------------------------------------------------------------------ introspection */

int oauth_question(struct oauth *o, size_t i, span token, struct buf *b)
{
	_cleanup_(buf_donep) struct buf body = BUF_INIT(QUESTION_MAX);
	const struct issuer *one = &o->issuers[i];
	struct http_header headers[] = {
		{ SPAN("Content-Type"), SPAN("application/x-www-form-urlencoded") },
		{ SPAN("Accept"), SPAN("application/json") },
		{ SPAN("Authorization"), one->authorization },
	};
	struct http_request r = { .method = SPAN("POST"),
				  .url = one->introspection_url,
				  .headers = headers,
				  .n_headers = one->authorization.n ? 3 : 2,
				  .answer_max = HTTP_ANSWER_MAX,
				  .timeout = OAUTH_TIMEOUT,
				  .flags = HTTP_TLS_ONLY | HTTP_LOCAL };
	int e;

	buf_put_str(&body, "token_type_hint=access_token&token=");
	put_form(&body, token);
	r.body = buf_span(&body);
	e = body.failed ? ERR_TOOBIG : http_request_put(b, &r);
	if (body.p)
		secret_wipe(body.p, body.cap);
	return e;
}

enum oauth_verdict oauth_answer(struct oauth *o, size_t i, const struct http_answer *a,
				struct arena *mem, span *ret_address, const char **ret_why)
{
	const struct issuer *one = &o->issuers[i];

	*ret_why = "its issuer does not answer";
	if (a->fail || a->status != 200)
		return OAUTH_LATER;
	_cleanup_(json_decrefp) json_t *claims = json_parse(a->body, NULL);
	if (!json_is_object(claims))
		return OAUTH_LATER;
	const struct jwt_check check = { .issuer = one->name,
					 .audience = one->audience,
					 .now = clock_wall() };
	*ret_why = json_bool(claims, "active", false) ? jwt_check_optional(claims, &check)
						      : "its issuer says that it is not active";
	return *ret_why ? OAUTH_REFUSED : take_address(one, claims, mem, ret_address, ret_why);
}

/* Reverse-paths of what aliases send on: rewritten on the way out, and led back when a bounce comes.
 *
 * They are rewritten when the message is handed over, not when it is accepted: the queue keeps the first
 * sender, so that our own reports go straight to him, and the date in them is that of the attempt. */
#include "mail/mail_int.h"

#define LOCAL_PART_MAX 64 /* RFC 5321 4.5.3.1.1 */

#include "format/srs.h"
#include "tls/hash.h"

struct keys {
	uint8_t key[DIRECTORY_SRS_KEYS][32];
};

static void mac(void *arg, unsigned key, span in, uint8_t ret[32])
{
	const struct keys *k = arg;

	hmac_sha256(span_of(k->key[key], sizeof k->key[key]), in, ret);
}

static span own_domain(struct core_env *env, struct arena *mem)
{
	_cleanup_(conf_unrefp) struct conf *conf = env->conf(env);

	return arena_span(mem, conf->srs_domain.n ? conf->srs_domain : conf->hostname);
}

static span rewrite(struct core_env *env, span sender, struct arena *mem)
{
	struct keys k;
	struct srs_keys keys = { mac, &k, directory_srs_keys(env->directory, k.key) };
	struct address a, ours;
	bool done = address_parse(sender, ADDRESS_ALLOW_UTF8, mem, &a) == ADDRESS_OK &&
		    srs_forward(&keys, &a, own_domain(env, mem), clock_wall(), mem, &ours) ==
			    SRS_OK;

	secret_wipe(&k, sizeof k);
	return done ? address_text(&ours, mem) : sender;
}

span mail_reverse_path(struct core_env *env, span sender, span route, struct arena *mem)
{
	return sender.n && span_starts(route, SPAN(MAIL_ROUTE_SRS)) ? rewrite(env, sender, mem)
								    : sender;
}

bool mail_is_rewritten(struct core_env *env, const struct address *a)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };

	return srs_is(a->local) && span_ieq(a->domain, own_domain(env, &mem));
}

bool mail_rewritten_back(struct core_env *env, const struct address *a, struct arena *mem,
			 struct address *ret, struct mail_verdict *ret_why)
{
	struct keys k;
	struct srs_keys keys = { mac, &k, directory_srs_keys(env->directory, k.key) };
	enum srs_result r = srs_reverse(&keys, a, clock_wall(), mem, ret);

	secret_wipe(&k, sizeof k);
	if (r == SRS_EXPIRED)
		*ret_why = (struct mail_verdict){ 550, "5.1.1",
						  SPAN("this rewritten address has expired") };
	else if (r != SRS_OK)
		*ret_why = (struct mail_verdict){
			550, "5.7.1", SPAN("this rewritten address was not made by this server")
		};
	return r == SRS_OK;
}

/* What can stand unquoted in a local part (RFC 5321 4.1.2, Dot-string). */
static bool is_dot_string(span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == '"' || s.p[i] == '\\' || s.p[i] == '@' || (s.p[i] & 0x80))
			return false;
	return s.n > 0;
}

span mail_verp_path(span sender, span rcpt, struct arena *mem)
{
	size_t at = span_rfind(sender, '@'), to = span_rfind(rcpt, '@');
	span local = span_sub(sender, 0, at), box, domain;

	if (at == SPAN_NPOS || to == SPAN_NPOS)
		return sender;
	box = span_sub(rcpt, 0, to);
	domain = span_from(rcpt, to + 1);
	if (!is_dot_string(local) || !is_dot_string(box) || !is_dot_string(domain) ||
	    domain.p[0] == '[' || local.n + rcpt.n + 1 > LOCAL_PART_MAX)
		return sender;
	return span_str(arena_printf(mem, "%.*s+%.*s=%.*s%.*s", SPAN_FMT(local), SPAN_FMT(box),
				     SPAN_FMT(domain), SPAN_FMT(span_from(sender, at))));
}

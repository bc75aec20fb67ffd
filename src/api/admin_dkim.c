/* dkim key new, list, use, drop.  The private halves are made and kept by the keys role. */
#include "api/admin_int.h"

#include <unistd.h>

#include "dns/dns.h"
#include "sys/ask.h"
#include "tls/dkim_keys.h"
#include "trust/dkim.h"

#define KEYS_TIMEOUT   (20 * USEC_SEC) /* a key of 2,048 bits may need many tries */
#define LOOKUP_TIMEOUT (10 * USEC_SEC)
#define LOOK_EVERY     2000 /* microseconds */
#define STRING_MAX     255  /* octets of one string of a TXT record (RFC 1035 3.3) */
#define RECORD_MAX     2048

static const char *const type_name[] = { [SIGN_RSA] = "rsa", [SIGN_ED25519] = "ed25519" };
static const char *const state_name[] = {
	[DKIM_NEW] = "new", [DKIM_ACTIVE] = "active", [DKIM_RETIRED] = "retired"
};

/* ------------------------------------------------------------------ asking */

static void nobody_waits(void *arg, uint64_t id)
{
}

/* An admin thread may wait; the table answers by itself when the time is over. */
static int ask(struct admin_request *r, struct ask_table *whom, uint16_t type, span question,
	       usec timeout, span *ret)
{
	struct ask_set *s = ask_set_new(whom, nobody_waits, NULL, 0);
	span payload;
	uint16_t answered;
	int e = ask_set_add(s, type, question, -1, timeout);

	if (e >= 0) {
		ask_set_go(s);
		while (!ask_set_ready(s))
			usleep(LOOK_EVERY);
		e = ask_set_answer(s, 0, &answered, &payload, NULL);
	}
	if (e == 0)
		*ret = arena_span(r->mem, payload);
	ask_set_unref(s);
	return e;
}

static int ask_keys(struct admin_request *r, uint16_t type, const struct directory_dkim *k,
		    span *ret)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);
	span payload;
	int e;

	dkim_keys_put(&b, k->domain, k->selector);
	if (type == KEYS_DKIM_NEW)
		buf_put_char(&b, (char)k->type);
	e = ask(r, r->env->keys_asks, type, buf_span(&b), KEYS_TIMEOUT, &payload);
	return e < 0 ? e : dkim_keys_answer(payload, ret);
}

/* The public half of K. */
static int public_of(struct admin_request *r, const struct directory_dkim *k, span *ret)
{
	span answer;
	int e = ask_keys(r, KEYS_DKIM_LIST, k, &answer);

	if (e == 0 && (answer.n < 2 || (enum sign_type)answer.p[0] != k->type))
		e = ERR_CORRUPT;
	if (e == 0)
		*ret = span_from(answer, 1);
	return e;
}

/* ------------------------------------------------------------------ rows */

static json_t *record_name(const struct directory_dkim *k, struct arena *mem)
{
	return json_string(arena_printf(mem, "%.*s._domainkey.%.*s", SPAN_FMT(k->selector),
					SPAN_FMT(k->domain)));
}

/* The record as text, as its strings, and as a line of a zone. */
static void put_record(json_t *row, const struct directory_dkim *k, span public)
{
	_cleanup_(buf_donep) struct buf text = BUF_INIT(RECORD_MAX),
					zone = BUF_INIT(2 * RECORD_MAX);
	json_t *strings = json_array();

	dkim_record_put(&text, k->type, public);
	buf_printf(&zone, "%s. IN TXT (", json_string_value(json_object_get(row, "name")));
	for (span rest = buf_span(&text); rest.n;) {
		span one = span_sub(rest, 0, STRING_MAX);

		json_array_append_new(strings, json_span(one));
		buf_printf(&zone, " \"%.*s\"", SPAN_FMT(one));
		rest = span_from(rest, one.n);
	}
	buf_put_str(&zone, " )");
	json_object_set_new(row, "value", json_span(buf_span(&text)));
	json_object_set_new(row, "strings", strings);
	json_object_set_new(row, "zone", json_span(buf_span(&zone)));
}

/* PUBLIC may be empty: WHY the record cannot be told. */
static void put_row(struct admin_request *r, const struct directory_dkim *k, span public,
		    const char *why)
{
	json_t *row = json_pack("{s:o,s:o,s:s,s:s,s:o,s:o}", "domain", json_span(k->domain),
				"selector", json_span(k->selector), "type", type_name[k->type],
				"state", state_name[k->state], "since", admin_time(k->changed),
				"name", record_name(k, r->mem));

	if (why)
		json_object_set_new(row, "error", json_string(why));
	else
		put_record(row, k, public);
	admin_row(r, row);
}

/* ------------------------------------------------------------------ commands */

static int no_domain(struct admin_request *r)
{
	return admin_fail(r, ERR_NOENT, "there is no such domain here (domain list)");
}

static int keys_failed(struct admin_request *r, int e)
{
	return admin_fail(r, e, "the keys process could not do it: %s", err_text(e));
}

/* A key under the first selector that is free: the date, the type's letter, and a number if need be. */
static int make_key(struct admin_request *r, span domain, enum sign_type type)
{
	struct directory_dkim k = { .domain = domain, .type = type, .changed = clock_wall() };
	struct err_info info = { 0 };
	char day[CLOCK_TEXT];
	span public = SPAN_NULL;
	int e = ERR_EXIST;

	clock_format(k.changed, day);
	for (unsigned i = 1; e == ERR_EXIST && i <= 4 * DIRECTORY_DKIM_MAX; i++) {
		char *s = arena_printf(r->mem, "%.4s%.2s%.2s%c", day, day + 5, day + 8,
				       type_name[type][0]);

		k.selector = span_str(i == 1 ? s : arena_printf(r->mem, "%s%u", s, i));
		e = ask_keys(r, KEYS_DKIM_NEW, &k, &public);
	}
	if (e < 0)
		return keys_failed(r, e);
	e = directory_dkim_add(r->env->directory, domain, k.selector, type, &info);
	if (e < 0) {
		span nothing;

		(void)ask_keys(r, KEYS_DKIM_DROP, &k, &nothing);
		return admin_fail(r, e, "%s", info.text);
	}
	put_row(r, &k, public, NULL);
	return 0;
}

static int key_new(struct admin_request *r)
{
	span name, type = json_str(r->args, "type");
	struct directory_domain d;
	bool both = span_eq_str(type, "both"), ed = span_eq_str(type, "ed25519");
	int e = 0;

	if (!admin_need(r, "domain", &name))
		return ERR_INVAL;
	if (type.n && !both && !ed && !span_eq_str(type, "rsa"))
		return admin_fail(r, ERR_INVAL, "type: expected rsa, ed25519 or both");
	if (directory_domain_get(r->env->directory, name, r->mem, &d) < 0)
		return no_domain(r);
	if (both || !ed)
		e = make_key(r, d.name, SIGN_RSA);
	if (e == 0 && (both || ed))
		e = make_key(r, d.name, SIGN_ED25519);
	return e;
}

static int key_list(struct admin_request *r)
{
	struct directory_dkim *k;
	size_t n;

	if (directory_dkim_list(r->env->directory, json_str(r->args, "domain"), r->mem, &k, &n) < 0)
		return no_domain(r);
	for (size_t i = 0; i < n && !r->broken; i++) {
		span public = SPAN_NULL;
		int e = public_of(r, &k[i], &public);

		put_row(r, &k[i], public, e < 0 ? err_text(e) : NULL);
	}
	return 0;
}

static int need_key(struct admin_request *r, struct directory_dkim *ret)
{
	span domain, selector;

	if (!admin_need(r, "domain", &domain) || !admin_need(r, "selector", &selector))
		return ERR_INVAL;
	if (directory_dkim_get(r->env->directory, domain, selector, r->mem, ret) < 0)
		return admin_fail(r, ERR_NOENT,
				  "the domain has no DKIM key with this selector (dkim key list)");
	return 0;
}

/* Does the world see the key?  A signature that nobody can verify is worse than none. */
static int check_dns(struct admin_request *r, const struct directory_dkim *k, span public)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);
	char *name = arena_printf(r->mem, "%.*s._domainkey.%.*s", SPAN_FMT(k->selector),
				  SPAN_FMT(k->domain));
	struct dns_question q = { .name = span_str(name), .type = DNS_TXT };
	struct dns_answer *a = NULL;
	const char *why = "the resolver does not answer now";
	bool later = true;
	size_t n = 0;
	span payload;

	if (dns_ask_put(&b, &q, 1) == 0 &&
	    ask(r, r->env->asks, DNS_ASK, buf_span(&b), LOOKUP_TIMEOUT, &payload) == 0 &&
	    dns_answers_get(payload, r->mem, &a, &n) == 0 && n == 1)
		why = dkim_record_differs(a, k->type, public, r->mem, &later);
	if (!why)
		return 0;
	return admin_fail(r, later ? ERR_AGAIN : ERR_INVAL,
			  "%s: %s; publish the record that dkim key list shows, wait until it is "
			  "seen everywhere, and repeat this, or use --force",
			  name, why);
}

static int key_use(struct admin_request *r)
{
	struct err_info info = { 0 };
	struct directory_dkim k;
	bool force = false;
	span public;
	int e = need_key(r, &k);

	if (e < 0)
		return e;
	if (admin_yes_no(r, "force", &force) < 0)
		return ERR_INVAL;
	e = public_of(r, &k, &public);
	if (e < 0) /* no mail could be signed, so none would leave */
		return keys_failed(r, e);
	e = force ? 0 : check_dns(r, &k, public);
	if (e < 0)
		return e;
	e = directory_dkim_use(r->env->directory, k.domain, k.selector, &info);
	return e < 0 ? admin_fail(r, e, "%s", info.text) : 0;
}

static int key_drop(struct admin_request *r)
{
	struct err_info info = { 0 };
	struct directory_dkim k;
	bool force = false;
	span nothing;
	int e = need_key(r, &k);

	if (e < 0)
		return e;
	if (admin_yes_no(r, "force", &force) < 0)
		return ERR_INVAL;
	if (k.state == DKIM_ACTIVE && !force)
		return admin_fail(
			r, ERR_BUSY,
			"this key signs: take another with dkim key use first, or drop it "
			"with --force and sign no more");
	e = directory_dkim_remove(r->env->directory, k.domain, k.selector, &info);
	if (e < 0)
		return admin_fail(r, e, "%s", info.text);
	e = ask_keys(r, KEYS_DKIM_DROP, &k, &nothing);
	return e < 0 ? admin_fail(r, e,
				  "nothing signs with it any more, but its file in the folder of "
				  "keys could not be removed: %s",
				  err_text(e))
		     : 0;
}

const struct admin_command admin_dkim_commands[] = {
	{ "dkim key new", key_new },
	{ "dkim key list", key_list },
	{ "dkim key use", key_use },
	{ "dkim key drop", key_drop },
	{ NULL, NULL },
};

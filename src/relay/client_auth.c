/* AUTH as a client (RFC 4954).  The table says, best first, what each mechanism needs of the way. */
#include "relay/client_int.h"

#include <stdio.h>

#include "base/codec.h"
#include "base/id.h"
#include "tls/hash.h"

#define LINE_MAX_B64 12288 /* RFC 4954 section 4 */

struct auth_mechanism {
	const char *name;
	bool shows_password; /* not over a way where others may listen */
	/* Answers CHALLENGE; 0, or an error that ends the exchange. */
	int (*answer)(struct relay_client *c, span challenge, struct buf *out);
	enum scram_hash hash;
};

static void put_nonce(char *ret)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

	for (size_t i = 0; i < SCRAM_NONCE; i++)
		ret[i] = digits[random_below(sizeof digits - 1)];
}

static int scram_answer(struct relay_client *c, span challenge, struct buf *out)
{
	struct auth *a = &c->auth;
	char nonce[SCRAM_NONCE];
	int e;

	switch (a->step) {
	case 0:
		put_nonce(nonce);
		scram_init(&a->scram, a->mechanism->hash, a->user, a->password,
			   span_of(nonce, sizeof nonce), &c->mem);
		return scram_first(&a->scram, out);
	case 1:
		return scram_final(&a->scram, challenge, out);
	case 2:
		e = scram_verify(&a->scram, challenge);
		a->proven = e == 0;
		return e;
	default:
		return ERR_PROTO;
	}
}

static int plain_answer(struct relay_client *c, span challenge, struct buf *out)
{
	if (c->auth.step > 0)
		return ERR_PROTO;
	buf_put_char(out, '\0');
	buf_put_span(out, c->auth.user);
	buf_put_char(out, '\0');
	return buf_put_span(out, c->auth.password);
}

/* The challenges' words differ between servers; their order does not. */
static int login_answer(struct relay_client *c, span challenge, struct buf *out)
{
	if (c->auth.step > 1)
		return ERR_PROTO;
	return buf_put_span(out, c->auth.step == 0 ? c->auth.user : c->auth.password);
}

static const struct auth_mechanism mechanisms[] = {
	{ "SCRAM-SHA-256", false, scram_answer, SCRAM_SHA256 },
	{ "SCRAM-SHA-1", false, scram_answer, SCRAM_SHA1 },
	{ "PLAIN", true, plain_answer, 0 },
	{ "LOGIN", true, login_answer, 0 },
};

void client_auth_offer(struct auth *a, span list)
{
	while (list.n) {
		span name = span_cut(&list, ' ');

		for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++)
			if (span_ieq_str(name, mechanisms[i].name))
				a->offered |= 1u << i;
	}
}

static bool is_scram(const struct auth_mechanism *m)
{
	return m->answer == scram_answer;
}

/* Says the next answer, base64, behind PREFIX. */
static int say(struct relay_client *c, const char *prefix, span challenge)
{
	_cleanup_(buf_donep) struct buf raw = BUF_INIT(LINE_MAX_B64);
	int e = c->auth.mechanism->answer(c, challenge, &raw);

	if (e < 0 || raw.failed)
		return e < 0 ? e : ERR_TOOBIG;
	c->auth.step++;
	buf_put_str(&c->out, prefix);
	base64_encode(&c->out, buf_span(&raw));
	buf_put_str(&c->out, "\r\n");
	secret_wipe(raw.p, raw.n);
	return 0;
}

void client_auth_start(struct relay_client *c)
{
	struct auth *a = &c->auth;
	bool safe = c->opened.tls || a->clear_ok;
	char prefix[40];

	if (a->user.n == 0) {
		client_park(c);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(mechanisms) && !a->mechanism; i++)
		if ((a->offered & (1u << i)) && (safe || !mechanisms[i].shows_password))
			a->mechanism = &mechanisms[i];
	if (!a->mechanism) {
		client_die(c, RELAY_FAIL_AUTH,
			   a->offered ? SPAN("the peer wants the password in clear, over a "
					     "connection without TLS")
				      : SPAN("the peer offers no way to log in that we know"));
		return;
	}
	c->phase = PHASE_AUTH;
	if (a->mechanism->answer ==
	    login_answer) { /* it speaks first: not all take an initial response */
		buf_printf(&c->out, "AUTH %s\r\n", a->mechanism->name);
		return;
	}
	snprintf(prefix, sizeof prefix, "AUTH %s ", a->mechanism->name);
	if (say(c, prefix, SPAN_NULL) < 0)
		client_die(c, RELAY_FAIL_AUTH, SPAN("the user's name or password is too long"));
}

static void challenged(struct relay_client *c, span text)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(LINE_MAX_B64);
	int e = base64_decode(&challenge, span_trim(text));

	if (e == 0)
		e = say(c, "", buf_span(&challenge));
	if (e == ERR_AUTH)
		client_die(c, RELAY_FAIL_AUTH, SPAN("the peer does not know the password itself"));
	else if (e == ERR_UNSUPPORTED)
		client_die(c, RELAY_FAIL_AUTH,
			   SPAN("the peer wants more SCRAM than we do (iterations, extensions)"));
	else if (e < 0)
		client_die(c, RELAY_FAIL_AUTH, SPAN("the peer's challenge makes no sense"));
}

void client_auth_reply(struct relay_client *c, const struct smtp_reply *r)
{
	struct auth *a = &c->auth;

	if (r->code == 334) {
		challenged(c, r->text);
	} else if (r->code != 235) {
		client_refuse_open(c, RELAY_FAIL_AUTH,
				   "the peer does not accept our user or password", r);
	} else if (is_scram(a->mechanism) && !a->proven) {
		/* It may be somebody who only wants our mail (RFC 5802 section 9). */
		client_die(c, RELAY_FAIL_AUTH,
			   SPAN("the peer accepts us without proving that it knows the password"));
	} else {
		c->opened.auth = span_str(a->mechanism->name);
		client_park(c);
	}
}

void client_auth_done(struct auth *a)
{
	secret_wipe((char *)a->password.p, a->password.n);
	scram_done(&a->scram);
}

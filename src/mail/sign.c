/* The last stage of an inspection: what users and programs of ours send is signed for the domain in From, where
 * that has an active key (RFC 6376 5).  The keys role makes the signatures; where it cannot, the message is refused for
 * now: mail of a domain that signs never leaves without. */
#include "mail/inspect.h"

#include "base/log.h"
#include "tls/dkim_keys.h"
#include "trust/dkim.h"

#define ASK_TIMEOUT (10 * USEC_SEC)
#define FROM_MAX    100	  /* addresses of a From field that are looked at */
#define FIELD_MAX   32768 /* of one signature */

struct draft {
	struct directory_dkim key;
	struct dkim_draft dkim;
	span field; /* without its signature */
};
struct signing {
	size_t n;
	struct draft draft[];
};

/* ------------------------------------------------------------------ who signs */

/* The active keys of the first author whose domain has some. */
static size_t keys_of(struct core_env *env, span from, struct arena *mem,
		      struct directory_dkim **ret)
{
	struct mailbox_address *list = arena_array(mem, struct mailbox_address, FROM_MAX);
	size_t bad = 0, n = address_list_parse(from, mem, list, FROM_MAX, &bad), found = 0;

	for (size_t i = 0; i < n && !found; i++)
		if (list[i].kind == MAILBOX_ADDR)
			found = directory_dkim_active(env->directory, list[i].domain, mem, ret);
	return found;
}

/* The message as it will go, but for the signatures; *RET: the keys that sign it.  0 keys also where
 * mail_receive() will refuse it. */
static size_t prepare(struct core_env *env, struct mail_transaction *t, struct conf *conf,
		      struct mail_inspection *i, struct directory_dkim **ret)
{
	struct message_facts facts;
	size_t n;
	int e;

	message_check(buf_span(&t->body), &facts);
	e = mail_was_filtered(t) ? 0 : mail_strip_forged(t, conf, &facts);
	if (e < 0)
		i->refusal = verdict_of_error(e);
	if (e < 0 || mail_header_cut(t, &facts) ||
	    !submit_complete(env, t, &facts, conf, &i->refusal))
		return 0;
	n = keys_of(env, facts.from_value, &i->mem, ret);
	if (!n || !t->body_binary)
		return n;
	e = mail_body_to_text(env, t);
	if (e < 0 && e != ERR_UNSUPPORTED)
		i->refusal = verdict_of_error(e);
	t->body_binary = e == ERR_UNSUPPORTED;
	return e < 0 ? 0 : n;
}

/* ------------------------------------------------------------------ drafts and signatures */

static int make_draft(const struct mail_inspection *i, struct arena *mem, struct draft *d)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(FIELD_MAX);
	struct dkim_sign_options o = { .domain = d->key.domain,
				       .selector = d->key.selector,
				       .type = d->key.type,
				       .header = CANON_RELAXED,
				       .body = CANON_RELAXED,
				       .now = clock_wall() / USEC_SEC };
	int e = dkim_sign_begin(&i->message, &o, mem, &b, &d->dkim);

	if (e == 0 && d->dkim.text.n > KEYS_DKIM_TEXT_MAX)
		e = ERR_TOOBIG;
	if (e == 0)
		d->field = arena_span(mem, buf_span(&b));
	return e;
}

static int ask(struct ask_set *asks, const struct draft *d)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);

	dkim_keys_put(&b, d->key.domain, d->key.selector);
	if (buf_put_span(&b, d->dkim.text) < 0)
		return ERR_TOOBIG;
	return MIN(ask_set_add(asks, KEYS_DKIM_SIGN, buf_span(&b), -1, ASK_TIMEOUT), 0);
}

/* ERR_AGAIN: the signatures were asked for. */
static int begin(struct core_env *env, struct mail_transaction *t, struct conf *conf,
		 struct mail_inspection *i)
{
	struct directory_dkim *keys = NULL;
	size_t n = prepare(env, t, conf, i, &keys);
	struct signing *s;
	int e;

	if (!n)
		return 0;
	s = arena_alloc(&i->mem, sizeof *s + n * sizeof *s->draft);
	s->n = n;
	e = inspect_message(env, t, i);
	for (size_t k = 0; e == 0 && k < n; k++) {
		s->draft[k] = (struct draft){ .key = keys[k] };
		e = make_draft(i, &i->mem, &s->draft[k]);
	}
	if (e < 0)
		return e;
	i->signing = s;
	i->asks = ask_set_new(env->keys_asks, t->wake, t->wake_arg, t->wake_id);
	for (size_t k = 0; e == 0 && k < n; k++)
		e = ask(i->asks, &s->draft[k]);
	return e < 0 ? e : ERR_AGAIN;
}

/* Puts the signature that answers D into its field, and that above B's. */
static int take_signature(struct mail_inspection *i, size_t k, struct buf *b)
{
	const struct draft *d = &i->signing->draft[k];
	_cleanup_(buf_donep) struct buf field = BUF_INIT(FIELD_MAX + 4096);
	span payload, signature;
	uint16_t type;
	int e = ask_set_answer(i->asks, k, &type, &payload, NULL);

	if (e == 0)
		e = dkim_keys_answer(payload, &signature);
	if (e < 0)
		return e;
	buf_put_span(&field, d->field);
	e = dkim_sign_end(&d->dkim, signature, &field);
	return e < 0 ? e : buf_put_span(b, buf_span(&field));
}

static void note(struct mail_transaction *t, const struct directory_dkim *k)
{
	struct event *ev = event_note(&t->events, "dkim.signed");

	event_span(ev, "domain", k->domain, &t->mem);
	event_span(ev, "selector", k->selector, &t->mem);
	event_str(ev, "algorithm", k->type == SIGN_RSA ? "rsa-sha256" : "ed25519-sha256", &t->mem);
}

static int finish(struct mail_transaction *t, struct mail_inspection *i)
{
	struct signing *s = i->signing;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(s->n * (FIELD_MAX + 4096));
	int e = 0;

	for (size_t k = 0; e == 0 && k < s->n; k++) {
		e = take_signature(i, k, &b);
		if (e < 0)
			log_event(LOG_ERROR, "dkim.not_signed", F_ID("id", &t->id),
				  F_SPAN("domain", s->draft[k].key.domain),
				  F_SPAN("selector", s->draft[k].key.selector), F_ERR(e));
	}
	if (e == 0)
		e = mail_body_set_header(t, buf_span(&b), 0);
	for (size_t k = 0; e == 0 && k < s->n; k++)
		note(t, &s->draft[k].key);
	return e;
}

static struct mail_verdict not_signed(int e)
{
	if (e == ERR_TOOBIG)
		return (struct mail_verdict){ 552, "5.3.4",
					      SPAN("the header is too large to be signed") };
	return (struct mail_verdict){ 451, "4.7.5",
				      SPAN("the message cannot be signed now, try again later") };
}

int inspect_sign(struct core_env *env, struct mail_transaction *t, struct conf *conf,
		 struct mail_inspection *i)
{
	int slot = -1, e;

	if (!t->submission || mail_is_discarded(t) ||
	    (!i->signing && !directory_dkim_any(env->directory)))
		return 0;
	/* Bytes that a core died of are not looked into again. */
	if (poison_enter(env->poison, POISON_TRUST, buf_span(&t->body), &slot)) {
		i->refusal = (struct mail_verdict){ 554, "5.6.0",
						    SPAN("the message cannot be signed") };
		return 0;
	}
	e = i->signing ? finish(t, i) : begin(env, t, conf, i);
	poison_leave(env->poison, slot);
	if (e < 0 && e != ERR_AGAIN)
		i->refusal = not_signed(e);
	return e == ERR_AGAIN ? e : 0;
}

/* The first stage of an inspection: who stands behind the message?  SPF, DKIM, ARC, DMARC and the
 * client's name, over answers that come in rounds. */
#include "mail/inspect.h"

#include <sys/mman.h>

#include "base/failpoint.h"

#define ASK_BATCH   16 /* questions in one request: the answers must fit into one message */
#define FIELDS_MAX  (12 * 1024)	   /* of Authentication-Results; what is longer is not written */
#define ASK_TIMEOUT (8 * USEC_SEC) /* a request; out's own limit of a question is 5 s */

/* The verdicts point into the message, which what follows may change. */
void inspect_sender_done(struct mail_inspection *i)
{
	trust_answers_free(STEAL_PTR(&i->answers));
	if (i->map)
		munmap(STEAL_PTR(&i->map), i->map_size);
	arena_done(&i->mem);
}

/* Is there somebody to be checked?  Users are known by their password, what runs on this machine has no
 * name in DNS, and a host that hands mail over by LMTP is not the one that it came from. */
static bool is_wanted(const struct mail_transaction *t, const struct conf *conf)
{
	if (t->submission || t->authenticated || t->lmtp || conf->trust_check == CONF_CHECK_NONE)
		return false;
	return conf->trust_check == CONF_CHECK_ALL || !sock_is_loopback(&t->peer);
}

/* ------------------------------------------------------------------ the message */

static bool is_signed(const struct message *m)
{
	return message_find(m, "DKIM-Signature", 0) != MESSAGE_NO_FIELD ||
	       message_find(m, "ARC-Message-Signature", 0) != MESSAGE_NO_FIELD;
}

/* Only what is signed must be read to its end. */
static int take_message(struct core_env *env, struct mail_transaction *t, struct mail_inspection *i)
{
	int e = message_parse(buf_span(&t->body), &i->mem, &i->message);

	if (e < 0 || t->spool_fd < 0 || !is_signed(&i->message))
		return e;
	return inspect_message(env, t, i);
}

/* ------------------------------------------------------------------ rounds */

/* The answer to Q, whatever name `out` gives it: a question that stayed open would be waited for in
 * vain. */
static void take_answer(struct mail_inspection *i, const struct dns_question *q,
			const struct dns_answer *a)
{
	struct dns_answer of_q = { .status = DNS_TIMEOUT };

	if (a && a->type == q->type)
		of_q = *a;
	of_q.name = q->name;
	of_q.type = q->type;
	trust_answers_add(i->answers, &of_q);
}

/* They come in the order of their questions.  A request without an answer is one whose every
 * question timed out. */
static void take_answers(struct mail_inspection *i)
{
	for (size_t at = 0, set = 0; at < i->n_questions; at += ASK_BATCH, set++) {
		size_t n = MIN(i->n_questions - at, (size_t)ASK_BATCH), got = 0;
		struct dns_answer *a = NULL;
		uint16_t type;
		span payload;

		if (ask_set_answer(i->asks, set, &type, &payload, NULL) == 0)
			(void)dns_answers_get(payload, &i->mem, &a, &got);
		for (size_t k = 0; k < n; k++)
			take_answer(i, &i->questions[at + k], k < got ? &a[k] : NULL);
	}
	i->n_questions = 0;
	ask_set_unref(i->asks);
	i->asks = NULL;
}

static void give_up(struct mail_inspection *i, const struct dns_question *q, size_t n)
{
	for (size_t k = 0; k < n; k++)
		take_answer(i, &q[k], NULL);
}

/* ERR_AGAIN: asked.  0: everything that was missing counts as timed out. */
static int ask_missing(struct core_env *env, struct mail_transaction *t, struct mail_inspection *i)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);
	size_t n;
	const struct dns_question *q = trust_answers_missing(i->answers, &n);

	if (clock_mono() > i->deadline) {
		give_up(i, q, n);
		return 0;
	}
	i->questions = arena_array(&i->mem, struct dns_question, n);
	memcpy(i->questions, q, n * sizeof *q);
	i->n_questions = n;
	for (size_t at = 0; at < i->n_questions; at += ASK_BATCH) {
		buf_reset(&b);
		if (dns_ask_put(&b, q + at, MIN(n - at, (size_t)ASK_BATCH)) < 0 ||
		    ask_set_add(inspect_asks(env, t), DNS_ASK, buf_span(&b), -1, ASK_TIMEOUT) < 0)
			i->n_questions = at; /* enough of them */
	}
	if (i->n_questions == n)
		return ERR_AGAIN;
	give_up(i, i->questions + i->n_questions, n - i->n_questions);
	return i->n_questions ? ERR_AGAIN : 0;
}

/* All of them, so that what each can foresee is asked in the same round. */
static int check_all(const struct mail_transaction *t, const struct conf *conf,
		     struct mail_inspection *i)
{
	const struct trust_lookup *l = trust_answers_lookup(i->answers);
	int64_t now = (int64_t)(clock_wall() / USEC_SEC);
	struct spf_input in = { .ip = t->peer,
				.helo = t->helo,
				.from = address_text(&t->sender, &i->mem),
				.receiver = conf->hostname,
				.now = now };
	bool again = false;

	again |= iprev_check(&t->peer, l, &i->mem, &i->iprev) < 0;
	again |= spf_check_helo(&in, l, &i->mem, &i->helo) < 0;
	again |= spf_check(&in, l, &i->mem, &i->spf) < 0;
	again |= dkim_verify(&i->message, now, l, &i->mem, &i->dkim) < 0;
	again |= arc_verify(&i->message, l, &i->mem, &i->arc) < 0;
	again |= dmarc_check(&i->message, &i->spf, &i->dkim, l, &i->mem, &i->dmarc) < 0;
	return again ? ERR_AGAIN : 0;
}

/* ------------------------------------------------------------------ what follows of it */

static bool is_trusted_sealer(const struct conf *conf, span domain)
{
	span all = conf->trust_sealers;

	while (all.p) {
		span one = span_trim(span_cut(&all, ' '));

		if (one.n && span_ieq(one, domain))
			return true;
	}
	return false;
}

static void note_verdicts(struct mail_transaction *t, const struct mail_inspection *i,
			  const char *action)
{
	struct event *e = event_note(&t->events, "trust.verdict");
	struct arena *mem = &t->mem;

	event_str(e, "iprev", trust_result_text(i->iprev.result), mem);
	if (i->iprev.name.n)
		event_span(e, "client", i->iprev.name, mem);
	event_str(e, "spf", trust_result_text(i->spf.result), mem);
	event_span(e, "spf_domain", i->spf.domain, mem);
	if (i->spf.term.n)
		event_span(e, "spf_term", i->spf.term, mem);
	event_str(e, "dkim", trust_result_text(i->dkim.result), mem);
	for (size_t k = 0; k < i->dkim.n; k++)
		if (i->dkim.signature[k].result == i->dkim.result) {
			event_span(e, "dkim_domain", i->dkim.signature[k].domain, mem);
			event_span(e, "dkim_selector", i->dkim.signature[k].selector, mem);
			break;
		}
	event_str(e, "arc", trust_result_text(i->arc.result), mem);
	event_str(e, "dmarc", trust_result_text(i->dmarc.result), mem);
	event_str(e, "dmarc_reason", i->dmarc.reason, mem);
	if (i->dmarc.record_domain.n) {
		event_span(e, "dmarc_record", i->dmarc.record_domain, mem);
		event_str(e, "dmarc_policy", dmarc_policy_text(i->dmarc.policy), mem);
	}
	event_str(e, "action", action, mem);
}

static struct mail_verdict dmarc_refusal(const struct mail_inspection *i, struct arena *mem)
{
	return (struct mail_verdict){
		550, "5.7.1",
		span_str(arena_printf(
			mem, "DMARC: the policy of %.*s refuses this message (SPF %s, DKIM %s)",
			SPAN_FMT(i->dmarc.author), trust_result_text(i->spf.result),
			trust_result_text(i->dkim.result)))
	};
}

/* What cannot be looked into, or names no single author (programs differ in whom they show), has
 * nobody who stands behind it. */
static const char *distrust(const struct conf *conf, struct mail_inspection *i)
{
	i->junk = conf->trust_dmarc != CONF_DMARC_REPORT;
	return i->junk ? "junk" : "none";
}

/* The owner of the author's domain decides, unless somebody we trust says that it passed where the
 * message came by (RFC 8617 7.2.1).  What cannot be found out now is asked again with the next
 * attempt: never accepted unchecked, never bounced. */
static const char *apply(const struct mail_transaction *t, const struct conf *conf,
			 struct mail_inspection *i, struct arena *mem)
{
	const struct dmarc_verdict *d = &i->dmarc;

	if (conf->trust_dmarc == CONF_DMARC_REPORT)
		return "none";
	if (d->result == TRUST_TEMPERROR) {
		i->refusal = (struct mail_verdict){
			451, "4.7.1", SPAN("DMARC: DNS does not answer now, try again later")
		};
		return "defer";
	}
	if (d->result == TRUST_PERMERROR)
		return distrust(conf, i);
	if (d->result != TRUST_FAIL || d->policy == DMARC_NONE)
		return "none";
	if (i->arc.authentic && is_trusted_sealer(conf, i->arc.domain))
		return "arc override";
	if (d->policy == DMARC_REJECT && conf->trust_dmarc == CONF_DMARC_ENFORCE) {
		i->refusal = dmarc_refusal(i, mem);
		return "reject";
	}
	i->junk = true;
	return "junk";
}

static span fields_of(const struct mail_inspection *i, const struct conf *conf, struct arena *mem)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(FIELDS_MAX);
	struct authres r = { .id = conf->hostname,
			     .helo = &i->helo,
			     .mail_from = &i->spf,
			     .dkim = &i->dkim,
			     .arc = &i->arc,
			     .dmarc = &i->dmarc,
			     .iprev = &i->iprev };

	return authres_put(&b, &r) == 0 ? arena_span(mem, buf_span(&b)) : SPAN_NULL;
}

static void conclude(struct mail_transaction *t, const struct conf *conf, struct mail_inspection *i)
{
	if (i->iprev.result == TRUST_PASS)
		t->peer_name = arena_span(&t->mem, i->iprev.name);
	note_verdicts(t, i, apply(t, conf, i, &t->mem));
	i->fields = fields_of(i, conf, &t->mem);
}

int inspect_sender(struct core_env *env, struct mail_transaction *t, struct conf *conf,
		   struct mail_inspection *i)
{
	int slot = -1, e;

	if (!i->answers && !is_wanted(t, conf)) /* a reload does not stop what is under way */
		return 0;
	if (i->n_questions)
		take_answers(i);
	/* Bytes that a core died of are not looked into again. */
	if (poison_enter(env->poison, POISON_TRUST, buf_span(&t->body), &slot)) {
		mail_step(&t->events, "trust.skipped", "action", span_str(distrust(conf, i)));
		return 0;
	}
	FAILPOINT("mail.authenticate");
	if (!i->answers) {
		i->answers = trust_answers_new(&i->mem);
		e = take_message(env, t, i);
		if (e < 0)
			goto out;
	}
	while ((e = check_all(t, conf, i)) == ERR_AGAIN && ask_missing(env, t, i) == 0)
		;
out:
	poison_leave(env->poison, slot);
	if (e == ERR_AGAIN)
		return e;
	if (e < 0)
		i->refusal = verdict_of_error(e);
	else
		conclude(t, conf, i);
	inspect_sender_done(i);
	return 0;
}

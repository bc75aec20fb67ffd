#include "relay/relay_int.h"

#include <assert.h>

static_assert((int)RELAY_NOTIFY_NEVER == (int)RCPT_NOTIFY_NEVER &&
		      (int)RELAY_NOTIFY_SUCCESS == (int)RCPT_NOTIFY_SUCCESS &&
		      (int)RELAY_NOTIFY_FAILURE == (int)RCPT_NOTIFY_FAILURE &&
		      (int)RELAY_NOTIFY_DELAY == (int)RCPT_NOTIFY_DELAY,
	      "the queue's notify bits go to out as they are");

span relay_reply_text(const struct smtp_reply *r, struct arena *mem)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(RELAY_REPLY_TEXT_MAX + 64);

	buf_printf(&b, "%u ", r->code);
	if (r->enhanced[0])
		buf_printf(&b, "%s ", r->enhanced);
	for (size_t i = 0; i < r->text.n; i++)
		buf_put_char(&b, r->text.p[i] == '\n' ? ' ' : r->text.p[i]);
	return arena_span(mem, span_trim(buf_span(&b)));
}

/* The reply that decides about recipient I, in the order the protocol has them. */
static const struct smtp_reply *deciding(const struct relay_sent *s, size_t i, const char **ret_at)
{
	*ret_at = "MAIL";
	if (s->mail.code / 100 != 2)
		return &s->mail;
	*ret_at = "RCPT";
	if (s->rcpts[i].code / 100 != 2)
		return &s->rcpts[i];
	*ret_at = "DATA";
	if (s->data.code != 354)
		return &s->data;
	*ret_at = "the end of the message";
	return s->rcpt_final ? &s->rcpt_final[i] : &s->final;
}

static enum rcpt_outcome outcome_of(const struct smtp_reply *r)
{
	/* RFC 5321 4.5.3.1.10: "too many recipients" is said with 552 too, and is temporary. */
	if (r->code == 552 && span_eq_str(span_str(r->enhanced), "5.5.3"))
		return OUTCOME_DEFERRED;
	switch (r->code / 100) {
	case 2:
		return OUTCOME_DELIVERED;
	case 5:
		return OUTCOME_FAILED;
	default:
		return OUTCOME_DEFERRED;
	}
}

void relay_verdict(const struct relay_sent *s, size_t i, struct arena *mem,
		   struct queue_result *ret)
{
	static const char *const generic[] = { [OUTCOME_DELIVERED] = "2.0.0",
					       [OUTCOME_FAILED] = "5.0.0",
					       [OUTCOME_DEFERRED] = "4.0.0" };
	const char *at, *status;
	const struct smtp_reply *r = deciding(s, i, &at);

	if (r->code == 0 || (r == &s->data && r->code < 400)) {
		/* Also a "250" to DATA: the peer cannot have a message that was not yet sent. */
		ret->outcome = OUTCOME_DEFERRED;
		status = relay_fail_status(s->fail);
		ret->reply = span_str(arena_printf(mem, "%s %s: %.*s",
						   r->code ? "wrong answer to" : "no answer to", at,
						   SPAN_FMT(s->why)));
	} else {
		ret->outcome = outcome_of(r);
		status = generic[ret->outcome];
		if (r->enhanced[0] ==
		    status[0]) /* a code of another class would contradict the outcome */
			status = r->enhanced;
		ret->reply = relay_reply_text(r, mem);
	}
	memcpy(ret->status, status, MIN(strlen(status) + 1, sizeof ret->status));
}

bool relay_sent_away(const struct relay_sent *s)
{
	bool away = s->mail.code == 421 || s->data.code == 421 || s->final.code == 421;

	for (size_t i = 0; i < s->n_rcpts && !away; i++)
		away = s->rcpts[i].code == 421 || (s->rcpt_final && s->rcpt_final[i].code == 421);
	return away;
}

const char *relay_fail_status(enum relay_fail f)
{
	switch (f) {
	case RELAY_FAIL_CONNECT:
		return "4.4.1";
	case RELAY_FAIL_TLS:
	case RELAY_FAIL_NO_TLS:
		return "4.7.5";
	case RELAY_FAIL_AUTH:
		return "4.7.0";
	case RELAY_FAIL_PROTOCOL:
		return "4.5.0";
	case RELAY_FAIL_GREETING:
	case RELAY_FAIL_EHLO:
		return "4.3.0";
	default: /* NONE, TIMEOUT, CLOSED */
		return "4.4.2";
	}
}

/* Which recipients go together, and to which peers. */
#include "relay/relay_int.h"

static bool ascii(span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] & 0x80)
			return false;
	return true;
}

void relay_sort_rcpts(struct queue_lease *l, struct arena *mem)
{
	struct queue_rcpt *sorted = arena_array(mem, struct queue_rcpt, l->n_rcpts);
	size_t n = 0;

	for (int wide = 0; wide <= 1; wide++)
		for (size_t i = 0; i < l->n_rcpts; i++)
			if (ascii(l->rcpts[i].address) == !wide)
				sorted[n++] = l->rcpts[i];
	l->rcpts = sorted;
}

static span domain_of(const struct queue_rcpt *r)
{
	return span_from(r->address, span_rfind(r->address, '@') + 1);
}

/* Is the domain of recipient I among those from FROM on? */
static bool domain_seen(const struct queue_lease *l, size_t from, size_t i)
{
	for (size_t k = from; k < i; k++)
		if (span_ieq(domain_of(&l->rcpts[k]), domain_of(&l->rcpts[i])))
			return true;
	return false;
}

struct relay_part relay_part_of(const struct relay_opened *peer, const struct queue_lease *l,
				size_t from, usec now)
{
	struct relay_part p = { .peer = peer, .lease = l, .from = from, .now = now };
	size_t most = MIN(l->n_rcpts - from, RELAY_RCPTS_MAX), domains = 0;
	bool plain = ascii(l->rcpts[from].address);

	if (peer->rcpt_max)
		most = MIN(most, peer->rcpt_max);
	for (; p.n < most; p.n++) {
		domains += !domain_seen(l, from, from + p.n);
		if ((peer->domain_max && domains > peer->domain_max) ||
		    ascii(l->rcpts[from + p.n].address) != plain)
			break;
	}
	return p;
}

/* Must P be sent with SMTPUTF8, whatever the message itself holds? */
static bool needs_smtputf8(const struct relay_part *p)
{
	return !ascii(p->lease->sender) || !ascii(p->lease->rcpts[p->from].address);
}

bool relay_must_protect(const struct queue_lease *l)
{
	return l->terms.require_tls && l->sender.n > 0;
}

/* What is left of the time to deliver, in seconds. */
static int32_t by_seconds(const struct relay_part *p)
{
	usec left = (p->lease->terms.deliver_by - p->now) / USEC_SEC;

	return (int32_t)MAX(MIN(left, 999999999), -999999999);
}

/* RFC 2852 section 4: in mode R the message may only go where its time will be kept. */
static bool in_time(const struct relay_part *p, struct relay_reason *reason)
{
	const struct queue_terms *terms = &p->lease->terms;
	int32_t left = by_seconds(p);

	if (!terms->deliver_by || !terms->by_return)
		return true;
	if (left <= 0)
		*reason = (struct relay_reason){ "5.4.7", SPAN("the time to deliver is over") };
	else if (!(p->peer->extensions & RELAY_EXT_DELIVERBY))
		*reason = (struct relay_reason){
			"5.3.3", SPAN("the message is to be delivered in time or returned "
				      "(DELIVERBY), which the peer does not offer")
		};
	else if (p->peer->by_min && (uint32_t)left < p->peer->by_min)
		*reason = (struct relay_reason){
			"5.4.7", SPAN("the time to deliver is shorter than the peer takes")
		};
	else
		return true;
	return false;
}

bool relay_suits(const struct relay_part *p, struct relay_reason *reason, bool *ret_other)
{
	const struct relay_opened *peer = p->peer;

	*ret_other = false;
	if (relay_must_protect(p->lease) &&
	    (!peer->tls_verified || !(peer->extensions & RELAY_EXT_REQUIRETLS))) {
		*ret_other = true;
		*reason = (struct relay_reason){
			peer->tls_verified ? "5.7.30" : "5.7.10",
			SPAN("the message requires TLS all the way (REQUIRETLS), which the peer "
			     "does not offer")
		};
		return false;
	}
	if (needs_smtputf8(p) && !(peer->extensions & RELAY_EXT_SMTPUTF8)) {
		*reason = (struct relay_reason){
			"5.6.7",
			SPAN("the address needs SMTPUTF8, which the peer does not offer")
		};
		return false;
	}
	if (peer->max_size > 0 && p->lease->size > peer->max_size) {
		*reason = (struct relay_reason){
			"5.3.4", SPAN("the message is larger than the peer takes (SIZE)")
		};
		return false;
	}
	return in_time(p, reason);
}

void relay_fill_send(const struct relay_part *p, struct relay_send *s)
{
	const struct queue_lease *l = p->lease;

	*s = (struct relay_send){ .sender = l->sender,
				  .envid = l->envid,
				  .size = l->size,
				  .smtputf8 = l->smtputf8 || needs_smtputf8(p),
				  .body_8bit = l->body_8bit,
				  .ret_full = l->ret_full,
				  .ret_hdrs = l->ret_hdrs,
				  .require_tls = l->terms.require_tls && p->peer->tls_verified,
				  .priority = l->terms.priority,
				  .by = l->terms.deliver_by != 0,
				  .by_return = l->terms.by_return,
				  .by_trace = l->terms.by_trace,
				  .by_seconds = l->terms.deliver_by ? by_seconds(p) : 0,
				  .n_rcpts = p->n };
}

/* When a deferred recipient is tried again, and when no more. */
#include "queue/queue_int.h"

#include "format/deferral.h"

const struct queue_rule *queue_rule_find(const struct queue_conf *c, span reply, span status,
					 int priority)
{
	for (size_t i = 0; i < c->n_rules; i++) {
		const struct queue_rule *r = &c->rules[i];
		if ((!r->min_priority || priority >= r->min_priority) &&
		    deferral_matches(r->match, reply, status))
			return r;
	}
	return NULL;
}

usec queue_backoff(const struct queue_conf *c, const struct queue_rule *rule, unsigned attempts,
		   uint64_t random)
{
	static const struct queue_rule none;
	if (!rule)
		rule = &none;
	usec delay = MAX(rule->first ? rule->first : c->retry_first, USEC_SEC);
	usec cap = MAX(rule->max ? rule->max : c->retry_max, delay);
	unsigned factor = rule->factor_percent ? rule->factor_percent : c->retry_factor_percent;
	factor = MAX(factor, 100u);
	for (unsigned i = 1; i < attempts && delay < cap; i++) {
		/* In two steps, so that no factor can overflow: delay < cap, and the quotient is
		 * small. */
		usec more = delay / 100 * (usec)factor;
		if (more <= delay)
			break;
		delay = more;
	}
	delay = MIN(delay, cap);
	usec jitter = delay / 100 * (usec)MIN(c->jitter_percent, 99u);
	return jitter ? delay - jitter + (usec)(random % (2 * (uint64_t)jitter + 1)) : delay;
}

usec retry_at(const struct queue_conf *c, const struct queue_terms *terms,
	      const struct queue_rcpt *rcpt, const struct queue_result *r, usec now,
	      uint64_t random)
{
	const struct queue_rule *rule = queue_rule_find(
		c, r->reply, span_of(r->status, strnlen(r->status, sizeof(r->status))),
		terms->priority);
	usec at = r->not_before ? r->not_before
				: now + queue_backoff(c, rule, rcpt->attempts + 1, random);
	/* It goes back, or its sender is told, at the time that was asked for. */
	if (terms->deliver_by > now && (terms->by_return || !rcpt->warned))
		at = MIN(at, terms->deliver_by);
	return at;
}

usec retry_longest(const struct queue_conf *c)
{
	usec longest = MAX(c->retry_first, c->retry_max);
	for (size_t i = 0; i < c->n_rules; i++)
		longest = MAX(longest, MAX(c->rules[i].first, c->rules[i].max));
	return longest + longest / 100 * (usec)c->jitter_percent;
}

usec retry_ends(const struct queue_conf *c, usec from, const struct queue_terms *terms, span reply,
		span status)
{
	const struct queue_rule *rule = queue_rule_find(c, reply, status, terms->priority);
	usec end = from + (rule && rule->lifetime ? rule->lifetime : c->lifetime);
	return terms->by_return && terms->deliver_by ? MIN(end, terms->deliver_by) : end;
}

usec queue_retry_until(struct queue *q, const struct queue_lease *l, const struct queue_result *r)
{
	pthread_mutex_lock(&q->lock);
	usec end = retry_ends(&q->conf, MAX(l->accepted_at, l->held_until), &l->terms, r->reply,
			      span_of(r->status, strnlen(r->status, sizeof(r->status))));
	pthread_mutex_unlock(&q->lock);
	return end;
}

bool queue_overdue(const struct queue_lease *l, usec now)
{
	return l->terms.by_return && l->terms.deliver_by && now >= l->terms.deliver_by;
}

bool queue_expired(struct queue *q, const struct queue_lease *l, const struct queue_result *r,
		   usec now)
{
	if (queue_overdue(l, now))
		return true;
	if (now <= queue_retry_until(q, l, r))
		return false;
	for (size_t i = 0; i < l->n_rcpts; i++)
		if (l->rcpts[i].attempts == 0)
			return false;
	return true;
}

void retry_take_conf(struct queue *q, const struct queue_conf *c)
{
	struct queue_rule *rules;
	arena_reset(&q->rules_mem);
	rules = arena_array(&q->rules_mem, struct queue_rule, c->n_rules);
	for (size_t i = 0; i < c->n_rules; i++) {
		rules[i] = c->rules[i];
		rules[i].match = arena_span(&q->rules_mem, c->rules[i].match);
	}
	q->conf = *c;
	q->conf.rules = rules;
}
